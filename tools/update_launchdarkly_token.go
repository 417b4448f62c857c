package tools

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/tokenreeve/tokenreeve/internal/fault"
	"github.com/tokenreeve/tokenreeve/internal/ledger"
	"github.com/tokenreeve/tokenreeve/internal/policy"
	"github.com/tokenreeve/tokenreeve/providers"
	"github.com/tokenreeve/tokenreeve/providers/launchdarkly"
)

// updateLaunchDarklyTokenIn are the arguments of update_launchdarkly_token.
type updateLaunchDarklyTokenIn struct {
	Connection  string      `json:"connection" jsonschema:"enum=@connections" jsonschema_description:"connection name"`
	TokenID     string      `json:"token_id" jsonschema_description:"id from list_tokens"`
	Name        string      `json:"name,omitempty" jsonschema_description:"new name"`
	Description string      `json:"description,omitempty" jsonschema_description:"new description"`
	Role        string      `json:"role,omitempty" jsonschema:"enum=reader,enum=writer,enum=admin" jsonschema_description:"base role; at most one of role, custom_roles, inline_role"`
	CustomRoles []string    `json:"custom_roles,omitempty" jsonschema_description:"custom role ids"`
	InlineRole  jsonText    `json:"inline_role,omitempty" jsonschema_description:"policy statements as JSON"`
	Patch       jsonText    `json:"patch,omitempty" jsonschema_description:"raw JSON Patch on /name /description /role /customRoleIds /inlineRole; stands alone"`
	Confirm     confirmCode `json:"confirm,omitempty" jsonschema_description:"code from the preview"`
}

// updateLaunchDarklyTokenOut is the result of update_launchdarkly_token.
type updateLaunchDarklyTokenOut struct {
	preview
	Targets *targets   `json:"targets,omitempty"`
	Token   *mintedRow `json:"token,omitempty"`
}

func updateLaunchDarklyToken() Tool {
	return defineAny[updateLaunchDarklyTokenIn, updateLaunchDarklyTokenOut](Tool{
		Name:        "update_launchdarkly_token",
		Title:       "Update a LaunchDarkly access token",
		Description: "Changes name, description or access of a token. It previews first, and acts on the confirm code.",
		Class:       policy.Update,
		Needs:       "Admin, or a custom role with the token actions",
		Capability:  "update",
		Serves:      servesAs[providers.Updater[launchdarkly.Change]],
	}, handleUpdateLaunchDarklyToken)
}

// update is one change of a token.
type update struct {
	Token       providers.Token
	Differences []string
	plan        launchdarkly.Plan // made again at the confirmation
}

const statusUpdated = "updated"

func handleUpdateLaunchDarklyToken(ctx context.Context, c *Call, in updateLaunchDarklyTokenIn) (any, error) {
	connection, err := c.connection(ctx, in.Connection)
	if err != nil {
		return nil, err
	}
	if err := checkRef(connection, in.TokenID, ""); err != nil {
		return nil, err
	}
	change, err := in.change()
	if err != nil {
		return nil, err
	}
	vendor, ok := connection.Provider.(*launchdarkly.Provider)
	if !ok {
		return nil, fmt.Errorf("connection %s is not a LaunchDarkly provider", connection.Name)
	}
	return flow[update, updateLaunchDarklyTokenOut]{
		connection: connection,
		arguments:  in,
		code:       in.Confirm,
		plan: func(ctx context.Context, shown *update) (update, error) {
			fresh, err := c.planUpdate(ctx, connection, vendor, in.TokenID, change)
			if err == nil && shown != nil && !slices.Equal(fresh.Differences, shown.Differences) {
				return fresh, drifted([]string{"token " + in.TokenID + " would change otherwise than shown"})
			}
			return fresh, err
		},
		propose: func(u update) proposal {
			p := proposal{targets: []providers.Token{u.Token}, effects: u.Differences, risk: policy.RiskSingle, phrase: "UPDATE 1"}
			if u.plan.Widens {
				p.warnings = []string{"this may give the token more access than it has"}
			}
			if u.plan.ChangesAccess() {
				p.warnings = append(p.warnings, c.inUse(p.targets)...)
			}
			return p
		},
		wrap: func(p preview, t *targets) updateLaunchDarklyTokenOut {
			return updateLaunchDarklyTokenOut{preview: p, Targets: t}
		},
		act: func(ctx context.Context, i ledger.Intent, u update) (updateLaunchDarklyTokenOut, error) {
			return c.update(ctx, connection, vendor, i, u, change)
		},
	}.run(ctx, c)
}

func (in updateLaunchDarklyTokenIn) change() (launchdarkly.Change, error) {
	var change launchdarkly.Change
	if in.Name != "" {
		change.Name = &in.Name
	}
	if in.Description != "" {
		change.Description = &in.Description
	}
	if in.Role != "" {
		change.Role = &in.Role
	}
	change.CustomRoles = in.CustomRoles
	var err error
	if in.InlineRole != "" {
		if change.InlineRole, err = launchdarkly.ParseStatements(string(in.InlineRole)); err != nil {
			return change, err
		}
	}
	if in.Patch != "" {
		if change.Patch, err = launchdarkly.ParsePatch(string(in.Patch)); err != nil {
			return change, err
		}
	}
	return change, change.Check()
}

func (c *Call) planUpdate(ctx context.Context, connection *Connection, vendor *launchdarkly.Provider, id string, change launchdarkly.Change) (update, error) {
	token, err := c.find(ctx, connection, id, "")
	if err != nil {
		return update{}, err
	}
	own, err := c.ownOf(ctx, connection)
	if err != nil {
		return update{}, err
	}
	if err := c.guard(own, connection, &token); err != nil {
		return update{}, err
	}
	plan, err := vendor.PlanUpdate(ctx, token, change)
	connection.Note(err, c.Now())
	if err == nil && len(plan.Differences) == 0 {
		err = &Problem{Code: "nothing_to_change", Message: "the token is already as asked; nothing was changed"}
	}
	if err == nil {
		err = c.mayChangeAccess(connection, plan)
	}
	return update{Token: token, Differences: plan.Differences, plan: plan}, err
}

// mayChangeAccess judges the access that the token would have. To widen it is to mint
// what the token could not do before.
func (c *Call) mayChangeAccess(connection *Connection, plan launchdarkly.Plan) error {
	if !plan.ChangesAccess() {
		return nil
	}
	if plan.Widens && !connection.Policy.Allows(policy.Mint) {
		return refusedByPolicy(fmt.Sprintf("the update may widen what the token can do, which needs the class %q too: connections.%s.allow lacks it", policy.Mint, connection.Name))
	}
	return refusedByPolicy(connection.Policy.RefusesGrant(policy.Grant(plan.Grant())))
}

func (c *Call) update(ctx context.Context, connection *Connection, vendor *launchdarkly.Provider, i ledger.Intent, u update, change launchdarkly.Change) (updateLaunchDarklyTokenOut, error) {
	var out updateLaunchDarklyTokenOut
	var failure error
	err := c.protectedFromCancel(ctx, func(ctx context.Context) {
		o, err := c.begin(ctx, "", i)
		if err != nil {
			failure = err
			return
		}
		out.OperationID = o.id
		ctx, trace := providers.WithTrace(ctx)
		token, err := vendor.Update(ctx, u.Token, change)
		fault.Point("answered")
		connection.Note(err, c.Now())
		out.warn(o.finish(ctx, ended(err, trace)))
		if err != nil {
			failure = fmt.Errorf("operation %s: %w", o.id, err)
			return
		}
		out.Status, out.Token, out.Effects = statusUpdated, mintedRowOf(&token), u.Differences
		out.warn(alteredWarning(token))
	})
	return out, errors.Join(err, failure)
}
