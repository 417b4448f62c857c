package tools

import (
	"context"

	"github.com/tokenreeve/tokenreeve/internal/policy"
	"github.com/tokenreeve/tokenreeve/providers"
)

// revokeTokenIn are the arguments of revoke_token.
type revokeTokenIn struct {
	Connection string      `json:"connection" jsonschema:"enum=@connections" jsonschema_description:"connection name"`
	TokenID    string      `json:"token_id" jsonschema_description:"id from list_tokens"`
	Owner      string      `json:"owner,omitempty" jsonschema_description:"account id or e-mail; finds Atlassian tokens faster"`
	Reason     string      `json:"reason,omitempty" jsonschema_description:"why, for the record"`
	Confirm    confirmCode `json:"confirm,omitempty" jsonschema_description:"code from the preview"`
}

// revokeTokenOut is the result of revoke_token.
type revokeTokenOut struct {
	preview
	TokenID string   `json:"token_id,omitempty"`
	Steps   []string `json:"steps,omitempty" jsonschema_description:"what a person must do"`
}

func revokeToken() Tool {
	return defineAny[revokeTokenIn, revokeTokenOut](Tool{
		Name:  "revoke_token",
		Title: "Revoke an API token",
		Description: "Ends one API token for good; there is no undo. The first call only previews and returns a confirm code; " +
			"the same call with that code acts.",
		Class:      policy.Revoke,
		Needs:      "Atlassian: a key **without** scopes; LaunchDarkly: Admin or the token actions; Mailtrap: account admin",
		Capability: "revoke",
		Serves:     servesAs[providers.Revoker],
	}, handleRevokeToken)
}

// revokePlan is one token to end.
type revokePlan struct {
	token providers.Token
	gone  bool // it ended since the preview
}

func handleRevokeToken(ctx context.Context, c *Call, in revokeTokenIn) (any, error) {
	connection, err := c.connection(in.Connection)
	if err != nil {
		return nil, err
	}
	if err := checkRef(connection, in.TokenID, in.Owner); err != nil {
		return nil, err
	}
	p := c.startProgress(ctx, "tokens read")
	defer p.stop()
	out, err := flow[revokePlan, revokeTokenOut]{
		arguments: in,
		code:      in.Confirm,
		plan: func(ctx context.Context, shown *revokePlan) (revokePlan, error) {
			return c.planRevocation(ctx, connection, in.TokenID, in.Owner, shown)
		},
		propose: func(p revokePlan) proposal {
			return proposal{
				targets:  []providers.Token{p.token},
				effects:  []string{"ends this token at once and for good; whatever uses it stops working"},
				warnings: c.inUse([]providers.Token{p.token}),
			}
		},
		wrap: func(p preview) revokeTokenOut { return revokeTokenOut{preview: p} },
		act: func(ctx context.Context, p revokePlan) (revokeTokenOut, error) {
			return c.revoke(ctx, connection, p, in.Reason)
		},
	}.run(ctx, c)
	if providers.CodeOf(err) == providers.CodeNotOffered {
		return c.revocationHandOff(connection, in.TokenID, err)
	}
	return out, err
}

// planRevocation reads the token and judges whether it may be ended. At the
// confirmation it is read in the place where the preview found it.
func (c *Call) planRevocation(ctx context.Context, connection *Connection, id, owner string, shown *revokePlan) (revokePlan, error) {
	token, err := c.find(ctx, connection, id, owner)
	if shown != nil && problemCode(err) == providers.CodeNotFound {
		return c.proveGone(ctx, connection, *shown, err)
	}
	if err != nil {
		return revokePlan{}, err
	}
	own, err := c.ownOf(ctx, connection)
	if err != nil {
		return revokePlan{}, err
	}
	found := []providers.Token{token}
	if err := c.nameOwners(ctx, connection, found); err != nil {
		return revokePlan{}, err
	}
	token = found[0]
	if err := c.guard(own, connection, &token); err != nil {
		return revokePlan{}, err
	}
	if single, ok := connection.Provider.(providers.SingleRevoker); ok {
		if err := single.CanRevoke(token); err != nil {
			return revokePlan{}, err
		}
	}
	return revokePlan{token: token}, nil
}

// proveGone reads a token that was not found again in its owner's complete list:
// absence elsewhere proves nothing.
func (c *Call) proveGone(ctx context.Context, connection *Connection, shown revokePlan, absent error) (revokePlan, error) {
	_, err := c.find(ctx, connection, shown.token.ID, shown.token.Owner.ID)
	switch {
	case problemCode(err) == providers.CodeNotFound:
		return revokePlan{token: shown.token, gone: true}, nil
	case err != nil:
		return revokePlan{}, err
	default:
		return revokePlan{}, drifted([]string{"token " + shown.token.ID + " stands elsewhere now (" + absent.Error() + ")"})
	}
}

// problemCode returns the code of a vendor's or of our own error.
func problemCode(err error) providers.Code {
	if p := problemOf(err); p != nil {
		return providers.Code(p.Code)
	}
	return ""
}

func (c *Call) revoke(ctx context.Context, connection *Connection, p revokePlan, reason string) (revokeTokenOut, error) {
	out := revokeTokenOut{TokenID: p.token.ID}
	if p.gone {
		out.Status = string(providers.AlreadyGone)
		return out, nil
	}
	var failure error
	err := c.protectedFromCancel(ctx, func(ctx context.Context) {
		var revocation providers.Revocation
		revocation, failure = connection.Provider.(providers.Revoker).Revoke(ctx, p.token)
		connection.Note(failure, c.Now())
		out.Status = string(revocation)
		c.Log.Info("revocation", "connection", connection.Name, "token", p.token.ID, "principal", c.Principal.Name,
			"reason", clean(reason), "outcome", revocation, "failed", failure != nil)
	})
	if err != nil {
		return out, err
	}
	return out, failure
}

// inUse warns of targets that were used lately.
func (c *Call) inUse(tokens []providers.Token) []string {
	recent := 0
	for i := range tokens {
		if used, ok := tokens[i].LastUsed.Time(); ok && c.Now().Sub(used) < recentUse {
			recent++
		}
	}
	if recent == 0 {
		return nil
	}
	return []string{plural(recent, "target was", "targets were") + " used within the last 7 days: something still depends on it"}
}

// revocationHandOff answers what no API can do with what a person must do.
func (c *Call) revocationHandOff(connection *Connection, id string, err error) (any, error) {
	hand, ok := connection.Provider.(providers.HandOff)
	if !ok {
		return nil, err
	}
	out := revokeTokenOut{TokenID: id, Steps: hand.HandOff(providers.DeedRevokeServiceToken)}
	if out.Steps == nil {
		return nil, err
	}
	out.Status = statusHandOff
	out.Next = "nothing was changed: " + problemOf(err).Message
	return out, nil
}
