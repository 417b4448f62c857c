package tools

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/tokenreeve/tokenreeve/internal/policy"
	"github.com/tokenreeve/tokenreeve/providers"
	"github.com/tokenreeve/tokenreeve/providers/mailtrap"
)

// createMailtrapTokenIn are the arguments of create_mailtrap_token.
type createMailtrapTokenIn struct {
	Connection  string               `json:"connection" jsonschema:"enum=@connections" jsonschema_description:"connection name"`
	Name        string               `json:"name" jsonschema_description:"display name"`
	Permissions []permissionArgument `json:"permissions,omitempty" jsonschema:"maxItems=50" jsonschema_description:"left out: the answer lists the resources"`
	Expires     string               `json:"expires,omitempty" jsonschema_description:"date, age from now (90d), or never"`
	DeliverTo   string               `json:"deliver_to,omitempty" jsonschema_description:"SINK/KEY; default: the connection's sink"`
	Confirm     confirmCode          `json:"confirm,omitempty" jsonschema_description:"code from the preview, where one is needed"`
}

// permissionArgument is one permission of a Mailtrap token.
type permissionArgument struct {
	ResourceType string `json:"resource_type" jsonschema:"enum=account,enum=project,enum=sandbox,enum=domain" jsonschema_description:"kind of resource"`
	ResourceID   string `json:"resource_id" jsonschema_description:"its id"`
	AccessLevel  string `json:"access_level" jsonschema:"enum=viewer,enum=admin" jsonschema_description:"what it may do there"`
}

// createMailtrapTokenOut is the result of create_mailtrap_token.
type createMailtrapTokenOut struct {
	createTokenOut
	Resources []resource `json:"resources,omitempty" jsonschema_description:"what permissions can name"`
}

// resource is something that a permission can name.
type resource struct {
	Type string `json:"resource_type"`
	ID   string `json:"resource_id"`
	Name string `json:"name,omitempty"`
}

func createMailtrapToken() Tool {
	return defineAny[createMailtrapTokenIn, createMailtrapTokenOut](Tool{
		Name:  "create_mailtrap_token",
		Title: "Create a Mailtrap API token",
		Description: "Creates an API token; its secret goes to a sink, never into the answer. " +
			"Account admin needs a preview and its confirm code. Without permissions it lists what they can name.",
		Class:      policy.Mint,
		Needs:      "account admin",
		Capability: "create",
		Serves:     servesAs[providers.Creator[mailtrap.TokenSpec]],
	}, handleCreateMailtrapToken)
}

func handleCreateMailtrapToken(ctx context.Context, c *Call, in createMailtrapTokenIn) (any, error) {
	connection, err := c.connection(ctx, in.Connection)
	if err != nil {
		return nil, err
	}
	vendor, ok := connection.Provider.(*mailtrap.Provider)
	if !ok {
		return nil, fmt.Errorf("connection %s is not a Mailtrap provider", connection.Name)
	}
	if len(in.Permissions) == 0 {
		return c.resources(ctx, connection, vendor, "permissions_required", "nothing was created: give permissions, each with one of these resources")
	}
	spec, err := in.spec(c.Now())
	if err != nil {
		return nil, err
	}
	if err := vendor.CheckSpec(spec); err != nil {
		return nil, err
	}
	err = vendor.CheckPermissions(ctx, spec.Permissions)
	if providers.CodeOf(err) == providers.CodeInvalidArgument {
		return c.resources(ctx, connection, vendor, "unknown_resource", "nothing was created: "+problemOf(err).Message)
	}
	if err != nil {
		connection.Note(err, c.Now())
		return nil, err
	}
	m := mint{
		connection: connection, name: in.Name, deliverTo: in.DeliverTo, grant: policy.Grant(spec.Grant()), elevated: spec.IsElevated(),
		arguments: in, code: in.Confirm,
		effects: []string{"creates a token with " + accessOf(spec), "its name is " + quoted(spec.Name)},
		create: func(ctx context.Context, now time.Time) (providers.Minted, error) {
			spec, err := in.spec(now)
			if err != nil {
				return providers.Minted{}, err
			}
			return vendor.Create(ctx, spec)
		},
		expires: func(now time.Time) (providers.Date, error) {
			spec, err := in.spec(now)
			return spec.Expires, err
		},
		differs: in.otherExpiry,
	}
	return c.mint(ctx, m)
}

// accessOf says what the token could do.
func accessOf(spec mailtrap.TokenSpec) string {
	if spec.IsElevated() {
		return "admin access to the whole Mailtrap account"
	}
	var all []string
	for _, p := range spec.Permissions {
		level := cmp.Or(map[string]string{"10": "viewer", "100": "admin"}[p.AccessLevel], p.AccessLevel)
		all = append(all, level+" of "+p.ResourceType+" "+p.ResourceID)
	}
	return "these rights at Mailtrap: " + strings.Join(fitting(all, maxRights), ", ")
}

// maxRights bounds what a preview tells of permissions, in tokens of a language model.
const maxRights = 300

// otherExpiry tells where the vendor chose another end of life than was asked.
func (in createMailtrapTokenIn) otherExpiry(now time.Time, token providers.Token) []string {
	spec, err := in.spec(now)
	if err != nil || !mailtrap.ExpiryDiffers(spec.Expires, token.Expires) {
		return nil
	}
	return []string{"asked to expire " + spec.Expires.String() + ", but Mailtrap says " + token.Expires.String()}
}

// maxResources bounds the resources of an answer, maxResourceName each one's name,
// in tokens of a language model.
const (
	maxResources    = 50
	maxResourceName = 40
)

func shortName(name string) string {
	letters := []rune(name)
	cut := len(letters)
	for cut > 1 && tokensOf(string(letters[:cut])) > maxResourceName {
		cut = cut * 3 / 4
	}
	if cut == len(letters) {
		return name
	}
	return string(letters[:cut]) + "…"
}

// resources answers with what permissions can name.
func (c *Call) resources(ctx context.Context, connection *Connection, vendor *mailtrap.Provider, status, next string) (any, error) {
	found, total, err := vendor.Resources(ctx)
	connection.Note(err, c.Now())
	if err != nil {
		return nil, err
	}
	out := createMailtrapTokenOut{Resources: []resource{}}
	out.Status, out.Next = status, next
	isAltered := false
	for _, r := range found[:min(len(found), maxResources)] {
		out.Resources = append(out.Resources, resource{Type: r.Type, ID: r.ID, Name: shortName(r.Name)})
		isAltered = isAltered || r.Altered
	}
	if isAltered {
		out.warn(alteredTexts)
	}
	if total > len(out.Resources) {
		out.Warnings = append(out.Warnings, fmt.Sprintf("%d of %d resources are shown", len(out.Resources), total))
	}
	return out, nil
}

func (in createMailtrapTokenIn) spec(now time.Time) (mailtrap.TokenSpec, error) {
	spec := mailtrap.TokenSpec{Name: in.Name}
	for _, p := range in.Permissions {
		spec.Permissions = append(spec.Permissions, mailtrap.Permission{ResourceType: p.ResourceType, ResourceID: p.ResourceID, AccessLevel: p.AccessLevel})
	}
	switch in.Expires {
	case "":
	case "never":
		spec.Expires = providers.Never()
	default:
		end, err := parseEnd("expires", in.Expires, now)
		if err != nil {
			return spec, err
		}
		spec.Expires = providers.At(end)
	}
	return spec, nil
}
