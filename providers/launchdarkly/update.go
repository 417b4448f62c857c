package launchdarkly

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"

	"github.com/tokenreeve/tokenreeve/providers"
)

// Change is what shall be different at a token. Fields that are nil stay as they
// are. At most one of Role, CustomRoles and InlineRole is set; it takes the place
// of whatever kind of permission the token has. Patch stands alone.
type Change struct {
	Name        *string
	Description *string
	Role        *string     // reader, writer or admin
	CustomRoles []string    // ids of custom roles; here the vendor takes no keys
	InlineRole  []Statement // a policy written in place
	Patch       []Operation // raw operations, as ParsePatch returns them
}

// Check reports what is wrong with the change, as an Error with CodeInvalidArgument.
func (c Change) Check() error {
	kinds := 0
	for _, is := range [...]bool{c.Role != nil, c.CustomRoles != nil, c.InlineRole != nil} {
		if is {
			kinds++
		}
	}
	texts := c.Name != nil || c.Description != nil
	switch {
	case kinds > 1:
		return invalid("%d of role, custom_roles and inline_role are set; a token has exactly one of them", kinds)
	case c.Patch != nil && (kinds > 0 || texts):
		return invalid("patch stands alone; leave out name, description, role, custom_roles and inline_role, or leave out patch")
	case c.Patch == nil && kinds == 0 && !texts:
		return invalid("nothing to change; set name, description, role, custom_roles, inline_role or patch")
	}
	_, err := c.wanted()
	return err
}

// wanted is the change as checked operations that set members, in the order of
// their paths; a raw patch is returned as it is.
func (c Change) wanted() ([]Operation, error) {
	if c.Patch != nil {
		return checkPatch(c.Patch)
	}
	var set []Operation
	for _, part := range [...]struct {
		path  string
		value any
		is    bool
	}{
		{namePath, c.Name, c.Name != nil},
		{descriptionPath, c.Description, c.Description != nil},
		{rolePath, c.Role, c.Role != nil},
		{customRolesPath, c.CustomRoles, c.CustomRoles != nil},
		{inlineRolePath, c.InlineRole, c.InlineRole != nil},
	} {
		if !part.is {
			continue
		}
		value, err := json.Marshal(part.value)
		if err != nil {
			return nil, invalid("%s cannot be written as JSON", part.path)
		}
		o, err := Operation{Op: "add", Path: part.path, Value: value}.check()
		if err != nil {
			return nil, err
		}
		set = append(set, o)
	}
	return set, nil
}

// Update plans the change on the token as it is now and sends it. Where another
// change came between, it plans and sends once more; then the error has
// CodeConflict. Where the token already is as asked, nothing is sent.
func (p *Provider) Update(ctx context.Context, token providers.Token, change Change) (providers.Token, error) {
	updated, err := p.update(ctx, token, change)
	var e *providers.Error
	if errors.As(err, &e) && e.Status == http.StatusConflict {
		return p.update(ctx, token, change)
	}
	return updated, err
}

func (p *Provider) update(ctx context.Context, token providers.Token, change Change) (providers.Token, error) {
	plan, err := p.PlanUpdate(ctx, token, change)
	if err != nil {
		return providers.Token{}, err
	}
	if len(plan.Operations) == 0 {
		return plan.Before, nil
	}
	r, err := p.wire.patch(ctx, token.ID, plan.Operations)
	if err != nil {
		return providers.Token{}, err
	}
	return r.toToken(), nil
}
