package launchdarkly

import (
	"context"
	"encoding/json"
	"reflect"
	"strings"

	"github.com/tokenreeve/tokenreeve/internal/sanitize"
	"github.com/tokenreeve/tokenreeve/providers"
)

// Plan is what a change will do to a token as it is now.
type Plan struct {
	// Operations is the JSON Patch; none where the token is already as asked.
	Operations    []Operation
	Before, After providers.Token
	// Widens is set by every change of access other than one to a weaker base role.
	// What custom and inline roles allow cannot be compared.
	Widens bool
	// Differences are sentences such as `name: "a" → "b"`, cleaned.
	Differences []string
	// Granted is what Grant returns.
	Granted string
}

// Grant names the access that the token will have, in the words of
// [TokenSpec.Grant].
func (p Plan) Grant() string {
	if p.Granted == "" {
		return "admin" // the zero Plan tells nothing
	}
	return p.Granted
}

// ChangesAccess reports whether the token will be able to do something else than now.
func (p Plan) ChangesAccess() bool { return !p.Before.SameAccess(&p.After) }

// PlanUpdate reads the token and says what the change would do. It changes
// nothing. The error has CodeConflict where the token may do something else than
// when it was read before, or where a test of the patch fails.
func (p *Provider) PlanUpdate(ctx context.Context, token providers.Token, c Change) (Plan, error) {
	if err := c.Check(); err != nil {
		return Plan{}, err
	}
	now, err := p.wire.readMembers(ctx, token.ID)
	if err != nil {
		return Plan{}, err
	}
	before := now.record.toToken()
	if token.AccessKey != "" && !token.SameAccess(&before) {
		e := failure(providers.CodeConflict, "the token's access changed since it was read; nothing was sent")
		e.Next = "read the token again and repeat the change"
		return Plan{}, e
	}
	return now.plan(c, before)
}

func (c *current) plan(change Change, before providers.Token) (Plan, error) {
	operations, err := change.wanted()
	if err != nil {
		return Plan{}, err
	}
	if change.Patch == nil {
		operations = c.members.adapt(operations)
	}
	result, err := c.members.apply(operations)
	if err != nil {
		return Plan{}, err
	}
	changed, err := c.with(result)
	if err != nil {
		return Plan{}, err
	}
	after := changed.toToken()
	if before.AccessKey != after.AccessKey {
		if err := changed.checkPermission(); err != nil {
			return Plan{}, err
		}
	}
	return Plan{
		Operations: operations, Before: before, After: after,
		Widens:      widens(&c.record, &changed),
		Differences: differences(&c.record, &changed, before, after),
		Granted:     grantOf(changed.Role, len(changed.CustomRoleIDs) > 0, holds(changed.InlineRole)),
	}, nil
}

// adapt turns operations that set members into those which the record needs: a
// member of another kind of permission is removed first, a set one is replaced,
// and what is already so is left out.
func (m members) adapt(set []Operation) []Operation {
	var operations []Operation
	for _, o := range set {
		if isPermission(o.Path) {
			for _, other := range [...]string{rolePath, customRolesPath, inlineRolePath} {
				// The vendor refuses to remove what is not set (seen for /inlineRole).
				if other != o.Path && holds(m.at(other)) {
					operations = append(operations, Operation{Op: "remove", Path: other})
				}
			}
		}
		is := m.at(o.Path)
		if holds(is) && reflect.DeepEqual(canonical(is), canonical(o.Value)) || !holds(is) && !holds(o.Value) {
			continue
		}
		if holds(is) {
			o.Op = "replace"
		}
		operations = append(operations, o)
	}
	return operations
}

func isPermission(path string) bool {
	return path == rolePath || path == customRolesPath || path == inlineRolePath
}

func (m members) at(path string) json.RawMessage {
	switch path {
	case namePath:
		return m.Name
	case descriptionPath:
		return m.Description
	case rolePath:
		return m.Role
	case customRolesPath:
		return m.CustomRoleIDs
	default:
		return m.InlineRole
	}
}

// with returns the record with its patchable members as in m.
func (c *current) with(m members) (record, error) {
	r := c.record
	r.Name, r.Description, r.Role, r.CustomRoleIDs, r.InlineRole = "", "", "", nil, nil
	text, err := json.Marshal(m)
	if err == nil {
		err = json.Unmarshal(text, &r)
	}
	if err != nil {
		return record{}, invalid("the change leaves no valid record")
	}
	return r, nil
}

// checkPermission holds a changed record to the rule of create: exactly one kind
// of permission. What the operations write was checked before.
func (r *record) checkPermission() error {
	if exactlyOne(r.Role != "", len(r.CustomRoleIDs) > 0, holds(r.InlineRole)) == nil {
		return nil
	}
	return invalid("the change leaves the token without exactly one of role, customRoleIds and inlineRole: remove the old one and add the new one in the same patch")
}

func widens(before, after *record) bool {
	if before.accessKey() == after.accessKey() {
		return false
	}
	from, to := before.baseRank(), after.baseRank()
	return from == 0 || to == 0 || to >= from
}

// baseRank orders tokens that have nothing but a base role; 0 for all others.
func (r *record) baseRank() int {
	if len(r.CustomRoleIDs) > 0 || holds(r.InlineRole) {
		return 0
	}
	switch r.Role {
	case "reader":
		return 1
	case "writer":
		return 2
	case "admin":
		return 3
	case "owner":
		return 4
	default:
		return 0
	}
}

// maxSide bounds each side of a difference, in runes. The arrow between them stands in
// neither side, nor does a quotation mark inside a quoted one: the text could look like
// another difference.
const maxSide = 400

func differences(from, to *record, before, after providers.Token) []string {
	var all []string
	if from.Name != to.Name {
		all = append(all, "name: "+contrast(sanitize.Quote(before.Name), sanitize.Quote(after.Name)))
	}
	if from.Description != to.Description {
		all = append(all, "description: "+contrast(sanitize.Quote(before.Detail.Description), sanitize.Quote(after.Detail.Description)))
	}
	if before.AccessKey != after.AccessKey {
		all = append(all, "access: "+contrast(joined(before.Detail.Scopes), joined(after.Detail.Scopes)))
	}
	return all
}

func contrast(from, to string) string {
	from, to = strings.ReplaceAll(from, "→", "->"), strings.ReplaceAll(to, "→", "->")
	if from == to {
		return from + " → a text that looks the same but is not"
	}
	return from + " → " + to
}

func joined(scopes []string) string {
	if len(scopes) == 0 {
		return "none"
	}
	short, _ := sanitize.Text(strings.Join(scopes, "; "), maxSide)
	return short
}
