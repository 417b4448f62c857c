package tools

import (
	"context"
	"time"

	"github.com/tokenreeve/tokenreeve/internal/policy"
	"github.com/tokenreeve/tokenreeve/providers"
	"github.com/tokenreeve/tokenreeve/providers/launchdarkly"
)

// createLaunchDarklyTokenIn are the arguments of create_launchdarkly_token.
type createLaunchDarklyTokenIn struct {
	Connection        string      `json:"connection" jsonschema:"enum=@connections" jsonschema_description:"connection name"`
	Name              string      `json:"name" jsonschema_description:"display name"`
	Description       string      `json:"description,omitempty" jsonschema_description:"what it is for"`
	Role              string      `json:"role,omitempty" jsonschema:"enum=reader,enum=writer,enum=admin" jsonschema_description:"base role; exactly one of role, custom_roles, inline_role"`
	CustomRoles       []string    `json:"custom_roles,omitempty" jsonschema_description:"custom role ids"`
	InlineRole        jsonText    `json:"inline_role,omitempty" jsonschema_description:"policy statements as JSON: [{\"effect\":\"allow\",\"resources\":[\"proj/*\"],\"actions\":[\"*\"]}]"`
	ServiceToken      bool        `json:"service_token,omitempty" jsonschema_description:"true: outlives its maker; fixed"`
	DefaultAPIVersion int         `json:"default_api_version,omitempty" jsonschema_description:"e.g. 20240415; fixed"`
	DeliverTo         string      `json:"deliver_to,omitempty" jsonschema_description:"SINK/KEY; default: the connection's sink"`
	Confirm           confirmCode `json:"confirm,omitempty" jsonschema_description:"code from the preview, where one is needed"`
}

// createTokenOut is the result of creating a token.
type createTokenOut struct {
	preview
	Token  *mintedRow `json:"token,omitempty"`
	Secret *secretRow `json:"secret,omitempty"`
}

func createLaunchDarklyToken() Tool {
	return defineAny[createLaunchDarklyTokenIn, createTokenOut](Tool{
		Name:  "create_launchdarkly_token",
		Title: "Create a LaunchDarkly access token",
		Description: "Creates an access token; its secret goes to a sink, never into the answer. " +
			"Admin, custom and inline roles need a preview and its confirm code.",
		Class:      policy.Mint,
		Needs:      "Admin, or a custom role with `createAccessToken`",
		Capability: "create",
		Serves:     servesAs[providers.Creator[launchdarkly.TokenSpec]],
	}, handleCreateLaunchDarklyToken)
}

func handleCreateLaunchDarklyToken(ctx context.Context, c *Call, in createLaunchDarklyTokenIn) (any, error) {
	connection, err := c.connection(ctx, in.Connection)
	if err != nil {
		return nil, err
	}
	spec, err := in.spec()
	if err != nil {
		return nil, err
	}
	m := mint{
		connection: connection, name: in.Name, deliverTo: in.DeliverTo, grant: policy.Grant(spec.Grant()), elevated: spec.IsElevated(),
		arguments: in, code: in.Confirm,
		effects: []string{
			"creates a token with " + string(spec.Access()) + " access at LaunchDarkly",
			"its name is " + quoted(spec.Name),
			"its access: " + spec.Scopes(),
		},
		create: func(ctx context.Context, _ time.Time) (providers.Minted, error) {
			return connection.Provider.(providers.Creator[launchdarkly.TokenSpec]).Create(ctx, spec)
		},
	}
	return c.mint(ctx, m)
}

func (in createLaunchDarklyTokenIn) spec() (launchdarkly.TokenSpec, error) {
	spec := launchdarkly.TokenSpec{
		Name: in.Name, Description: in.Description, Role: in.Role, CustomRoles: in.CustomRoles,
		ServiceToken: in.ServiceToken, DefaultAPIVersion: in.DefaultAPIVersion,
	}
	if in.InlineRole != "" {
		statements, err := launchdarkly.ParseStatements(string(in.InlineRole))
		if err != nil {
			return spec, err
		}
		spec.InlineRole = statements
	}
	return spec, spec.Check()
}
