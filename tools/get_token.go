package tools

import (
	"context"

	"github.com/tokenreeve/tokenreeve/internal/policy"
	"github.com/tokenreeve/tokenreeve/providers"
)

// getTokenIn are the arguments of get_token.
type getTokenIn struct {
	Connection string `json:"connection" jsonschema:"enum=@connections" jsonschema_description:"connection name"`
	TokenID    string `json:"token_id" jsonschema_description:"id from list_tokens"`
	Owner      string `json:"owner,omitempty" when:"located" jsonschema_description:"account id or e-mail; finds Atlassian tokens faster"`
}

// getTokenOut is the result of get_token.
type getTokenOut struct {
	Token     tokenRow `json:"token"`
	Protected string   `json:"protected,omitempty" jsonschema_description:"the rule that forbids changes"`
}

func getToken() Tool {
	return define(Tool{
		Name:        "get_token",
		Title:       "Get one API token",
		Description: "Returns everything known of one API token: owner, dates, scopes. Never its secret.",
		Class:       policy.Read,
		Needs:       "as list_tokens; Atlassian with `owner`: a key without scopes",
		Capability:  "get",
		Serves:      servesAs[providers.Getter],
	}, handleGetToken)
}

func handleGetToken(ctx context.Context, c *Call, in getTokenIn) (getTokenOut, error) {
	connection, err := c.connection(ctx, in.Connection)
	if err != nil {
		return getTokenOut{}, err
	}
	p := c.startProgress(ctx, "tokens read")
	defer p.stop()
	token, err := c.find(ctx, connection, in.TokenID, in.Owner)
	if err != nil {
		return getTokenOut{}, err
	}
	own, err := c.Registry.Own(ctx, connection.Connection)
	if err != nil {
		c.Log.Warn("own credential unknown", "connection", connection.Name, "error", err)
	}
	return getTokenOut{Token: fullRow(&token, own.Has(&token)), Protected: connection.Policy.Protects(&token)}, nil
}

// find reads one token by its id. Where the caller names an owner, the token
// must be that owner's.
func (c *Call) find(ctx context.Context, connection *Connection, id, owner string) (providers.Token, error) {
	if err := checkRef(connection, id, owner); err != nil {
		return providers.Token{}, err
	}
	token, err := connection.Provider.(providers.Getter).Get(ctx, providers.Ref{ID: id, Owner: owner})
	connection.Note(err, c.Now())
	if err == nil && (providers.Filter{Owner: owner}).Match(&token) == providers.NoMatch {
		return providers.Token{}, &Problem{
			Code: "owner_mismatch", Message: "the token with this id belongs to another owner",
			Next: "check owner, or leave it out",
		}
	}
	return token, err
}

// checkRef checks ids before anything is sent.
func checkRef(connection *Connection, id, owner string) error {
	if err := connection.Provider.CheckID(providers.PartToken, id); err != nil {
		return err
	}
	if owner == "" {
		return nil
	}
	return connection.Provider.CheckID(providers.PartOwner, owner)
}
