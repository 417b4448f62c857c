package tools

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/tokenreeve/tokenreeve/internal/policy"
	"github.com/tokenreeve/tokenreeve/providers"
)

// rotateTokenIn are the arguments of rotate_token.
type rotateTokenIn struct {
	Connection  string      `json:"connection" jsonschema:"enum=@connections" jsonschema_description:"connection name"`
	TokenID     string      `json:"token_id" jsonschema_description:"id from list_tokens"`
	Overlap     string      `json:"overlap,omitempty" jsonschema_description:"LaunchDarkly: how long the old secret still works, default 24h"`
	Compromised bool        `json:"compromised,omitempty" jsonschema_description:"true: the old secret dies now"`
	DeliverTo   string      `json:"deliver_to,omitempty" jsonschema_description:"SINK/KEY for the secret; default: the connection's sink"`
	Confirm     confirmCode `json:"confirm,omitempty" jsonschema_description:"code from the preview"`
}

// rotateTokenOut is the result of rotate_token.
type rotateTokenOut struct {
	preview
	OperationID string     `json:"operation_id,omitempty"`
	Token       *mintedRow `json:"token,omitempty" jsonschema_description:"the token with the new secret"`
	OldTokenID  string     `json:"old_token_id,omitempty" jsonschema_description:"where the new token has another id"`
	OldEnds     string     `json:"old_secret_ends,omitempty"`
	Secret      *secretRow `json:"secret,omitempty"`
	Steps       []string   `json:"steps,omitempty" jsonschema_description:"what a person must do"`
}

func rotateToken() Tool {
	return defineAny[rotateTokenIn, rotateTokenOut](Tool{
		Name:  "rotate_token",
		Title: "Rotate an API token",
		Description: "Replaces a token's secret; the new one goes to a sink, never into the answer. " +
			"The first call previews and returns a confirm code. Atlassian offers no API: the answer is the steps for a person.",
		Class:      policy.Rotate,
		Needs:      "LaunchDarkly: Admin or the token actions; Mailtrap: account admin",
		Capability: "rotate",
		Offers:     servesAs[providers.Rotator],
		Serves: func(c *Connection) bool {
			return servesAs[providers.Rotator](c) || len(handOff(c, providers.DeedMint)) > 0
		},
	}, handleRotateToken)
}

// handOff returns what a person must do, or nil.
func handOff(c *Connection, deed providers.Deed) []string {
	if hand, ok := c.Provider.(providers.HandOff); ok {
		return hand.HandOff(deed)
	}
	return nil
}

// rotation is one secret to replace.
type rotation struct {
	token providers.Token
	plan  providers.RotationPlan
	to    destination
}

const statusRotated = "rotated"

func handleRotateToken(ctx context.Context, c *Call, in rotateTokenIn) (any, error) {
	connection, err := c.connection(in.Connection)
	if err != nil {
		return nil, err
	}
	if err := checkRef(connection, in.TokenID, ""); err != nil {
		return nil, err
	}
	rotator, ok := connection.Provider.(providers.Rotator)
	if !ok {
		return rotationHandOff(handOff(connection, providers.DeedMint), connection.Provider.Name()+" lets no API mint a secret"), nil
	}
	ask, err := in.ask(c.Now())
	if err != nil {
		return nil, err
	}
	out, err := flow[rotation, rotateTokenOut]{
		arguments: in,
		code:      in.Confirm,
		plan: func(ctx context.Context, shown *rotation) (rotation, error) {
			to, err := c.destinationOf(ctx, connection, in.DeliverTo, in.TokenID)
			if err != nil {
				return rotation{}, err
			}
			planned, err := c.planRotation(ctx, connection, rotator, in.TokenID, ask, shown)
			planned.to = to
			return planned, err
		},
		propose: func(r rotation) proposal {
			p := proposal{targets: []providers.Token{r.token}, effects: append(slices.Clone(r.plan.Effects), r.to.effect())}
			if in.Compromised {
				p.warnings = c.inUse(p.targets)
			}
			return p
		},
		wrap: func(p preview) rotateTokenOut { return rotateTokenOut{preview: p} },
		act: func(ctx context.Context, r rotation) (rotateTokenOut, error) {
			return c.rotate(ctx, connection, rotator, r)
		},
	}.run(ctx, c)
	if p := problemOf(err); p != nil && p.Code == "own_credential" {
		return rotationHandOff(handOff(connection, providers.DeedRotateOwnCredential), p.Message), nil
	}
	return out, err
}

// rotationHandOff answers with the steps for a person.
func rotationHandOff(steps []string, why string) rotateTokenOut {
	out := rotateTokenOut{Steps: steps}
	out.Status, out.Next = statusHandOff, "nothing was changed: "+why
	return out
}

func (in rotateTokenIn) ask(now time.Time) (providers.RotationAsk, error) {
	ask := providers.RotationAsk{Compromised: in.Compromised, Now: now}
	if in.Overlap == "" {
		return ask, nil
	}
	overlap, err := parseAge("overlap", in.Overlap)
	if err == nil && overlap == 0 {
		err = &Problem{Code: "invalid_argument", Message: "argument overlap is 0", Next: "use compromised: true where the old secret must die now"}
	}
	ask.Overlap = overlap
	return ask, err
}

// planRotation reads the token and plans. At the confirmation the token is read
// and judged again, and the plan that was shown is kept: its moments are absolute.
func (c *Call) planRotation(ctx context.Context, connection *Connection, rotator providers.Rotator, id string, ask providers.RotationAsk, shown *rotation) (rotation, error) {
	token, err := c.find(ctx, connection, id, "")
	if err != nil {
		return rotation{}, err
	}
	own, err := c.ownOf(ctx, connection)
	if err != nil {
		return rotation{}, err
	}
	if err := c.guard(own, connection, &token); err != nil {
		return rotation{}, err
	}
	if shown != nil {
		return rotation{token: token, plan: shown.plan}, nil
	}
	plan, err := rotator.PlanRotation(ctx, token, ask)
	connection.Note(err, c.Now())
	return rotation{token: token, plan: plan}, err
}

// rotate replaces the secret, delivers the new one and, where the plan says so,
// ends the old token after that.
func (c *Call) rotate(ctx context.Context, connection *Connection, rotator providers.Rotator, r rotation) (rotateTokenOut, error) {
	operation, err := newOperationID()
	if err != nil {
		return rotateTokenOut{}, err
	}
	out := rotateTokenOut{OperationID: operation}
	var failure error
	err = c.protectedFromCancel(ctx, func(ctx context.Context) {
		c.Log.Info("rotating a token", "operation", operation, "connection", connection.Name, "token", r.token.ID, "principal", c.Principal.Name)
		minted, err := rotator.Rotate(ctx, r.token, r.plan)
		connection.Note(err, c.Now())
		if err != nil {
			failure = fmt.Errorf("operation %s: %w", operation, err)
			return
		}
		out.minted(r, minted)
		secret, err := c.deliver(context.WithoutCancel(ctx), r.to, minted)
		out.Secret = &secret
		if err != nil {
			out.undelivered(c, connection, r, err)
			return
		}
		c.Log.Info("token rotated", "operation", operation, "connection", connection.Name, "token", minted.Token.ID, "delivered_to", secret.DeliveredTo)
		if r.plan.DeletesOld {
			c.endOld(ctx, connection, r.token, &out)
		}
	})
	if err != nil {
		return out, err
	}
	return out, failure
}

func (o *rotateTokenOut) minted(r rotation, minted providers.Minted) {
	o.Status, o.Token = statusRotated, mintedRowOf(&minted.Token)
	o.OldEnds = minted.OldEnds.String()
	if minted.Token.ID != r.token.ID {
		o.OldTokenID = r.token.ID
	}
	if minted.OldEnds.IsNever() {
		o.OldEnds = "when token " + r.token.ID + " is revoked"
		o.Next = "switch over to the new secret, then end the old one with revoke_token"
	}
}

// endOld revokes the token whose twin was delivered.
func (c *Call) endOld(ctx context.Context, connection *Connection, old providers.Token, out *rotateTokenOut) {
	revoker, ok := connection.Provider.(providers.Revoker)
	if !ok {
		return
	}
	_, err := revoker.Revoke(ctx, old)
	connection.Note(err, c.Now())
	if err == nil {
		out.OldEnds = c.Now().UTC().Format(time.RFC3339)
		out.Next = ""
		c.Log.Info("old token revoked", "operation", out.OperationID, "connection", connection.Name, "token", old.ID)
		return
	}
	c.Log.Error("old token not revoked", "operation", out.OperationID, "connection", connection.Name, "token", old.ID, "error", err)
	out.Warnings = append(out.Warnings, "the compromised token "+old.ID+" could not be ended and still works: "+err.Error())
	out.Next = "end it now: revoke_token with token_id " + old.ID
}

// undelivered tells that the vendor replaced the secret and the new one is lost.
func (o *rotateTokenOut) undelivered(c *Call, connection *Connection, r rotation, err error) {
	c.Log.Error("secret not delivered", "operation", o.OperationID, "connection", connection.Name, "token", o.Token.ID, "error", err)
	o.Status = statusUndelivered
	o.Warnings = append(o.Warnings, "the secret was replaced, but the new one could not be delivered and is lost: "+clean(err.Error()))
	if o.OldTokenID == "" {
		o.Next = "have the sink mended, then rotate token " + r.token.ID + " again"
		if !r.plan.OldEnds.IsUnknown() { // else it ended at once
			o.Next += " before the old secret ends"
		}
		return
	}
	o.Next = "the old token still works; revoke token " + o.Token.ID + ", have the sink mended, and rotate again"
}
