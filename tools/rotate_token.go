package tools

import (
	"context"
	"slices"
	"time"

	"github.com/tokenreeve/tokenreeve/internal/fault"
	"github.com/tokenreeve/tokenreeve/internal/ledger"
	"github.com/tokenreeve/tokenreeve/internal/policy"
	"github.com/tokenreeve/tokenreeve/providers"
)

// rotateTokenIn are the arguments of rotate_token.
type rotateTokenIn struct {
	Connection  string      `json:"connection" jsonschema:"enum=@connections" jsonschema_description:"connection name"`
	TokenID     string      `json:"token_id" jsonschema_description:"id from list_tokens"`
	Overlap     string      `json:"overlap,omitempty" jsonschema_description:"LaunchDarkly: how long the old secret still works, default 24h"`
	Compromised bool        `json:"compromised,omitempty" jsonschema_description:"true: the old secret dies now"`
	DeliverTo   string      `json:"deliver_to,omitempty" jsonschema_description:"SINK/KEY; default: the connection's sink"`
	AllowInUse  bool        `json:"allow_in_use,omitempty" when:"in_use" jsonschema_description:"with compromised: although it is in use"`
	Confirm     confirmCode `json:"confirm,omitempty" jsonschema_description:"code from the preview"`
}

// rotateTokenOut is the result of rotate_token.
type rotateTokenOut struct {
	preview
	Targets    *targets   `json:"targets,omitempty"`
	Token      *mintedRow `json:"token,omitempty"`
	OldTokenID string     `json:"old_token_id,omitempty"`
	OldEnds    string     `json:"old_secret_ends,omitempty"`
	Secret     *secretRow `json:"secret,omitempty"`
	Steps      []string   `json:"steps,omitempty"`
}

func rotateToken() Tool {
	return defineAny[rotateTokenIn, rotateTokenOut](Tool{
		Name:  "rotate_token",
		Title: "Rotate an API token",
		Description: "Replaces a token's secret; the new one goes to a sink, never into the answer. " +
			"It previews first, and acts on the confirm code. Atlassian offers no API: the answer is the steps for a person.",
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
	Token providers.Token
	Plan  providers.RotationPlan
	to    destination // found again at the confirmation
}

const statusRotated = "rotated"

func handleRotateToken(ctx context.Context, c *Call, in rotateTokenIn) (any, error) {
	connection, err := c.connection(ctx, in.Connection)
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
		connection: connection,
		arguments:  in,
		code:       in.Confirm,
		plan: func(ctx context.Context, shown *rotation) (rotation, error) {
			planned, err := c.planRotation(ctx, connection, rotator, in, ask, shown)
			if err != nil {
				return rotation{}, err
			}
			planned.to, err = c.destinationOf(ctx, connection, in.DeliverTo, in.TokenID, in.TokenID)
			return planned, err
		},
		propose: func(r rotation) proposal {
			p := proposal{
				targets: []providers.Token{r.Token}, effects: append(slices.Clone(r.Plan.Effects), r.to.effect()),
				risk: policy.RiskSingle, ends: in.Compromised, phrase: "ROTATE 1",
			}
			if in.Compromised {
				p.warnings = c.inUse(p.targets)
			}
			return p
		},
		wrap: func(p preview, t *targets) rotateTokenOut { return rotateTokenOut{preview: p, Targets: t} },
		act: func(ctx context.Context, i ledger.Intent, r rotation) (rotateTokenOut, error) {
			i.Compromised = in.Compromised
			return c.rotate(ctx, connection, rotator, i, r)
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
func (c *Call) planRotation(ctx context.Context, connection *Connection, rotator providers.Rotator, in rotateTokenIn, ask providers.RotationAsk, shown *rotation) (rotation, error) {
	token, err := c.find(ctx, connection, in.TokenID, "")
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
	if in.Compromised {
		if err := c.mayEnd(ctx, connection, []providers.Token{token}, in.AllowInUse); err != nil {
			return rotation{}, err
		}
	}
	planned := rotation{Token: token}
	if shown != nil {
		planned.Plan = shown.Plan
	} else {
		isReplaced := func(ctx context.Context, token string) (bool, error) { return c.isReplaced(ctx, connection, token) }
		planned.Plan, err = rotator.PlanRotation(providers.WithReplaced(ctx, isReplaced), token, ask)
		connection.Note(err, c.Now())
	}
	if err == nil && planned.Plan.Method == providers.MethodTwin {
		err = refusedByPolicy(twinLife(connection.Policy, token, planned.Plan, c.Now()))
	}
	return planned, err
}

// isReplaced reports whether a rotation of the last day, by any server, gave the token a successor or an end. One
// whose new secret is lost is to be done again.
func (c *Call) isReplaced(ctx context.Context, connection *Connection, token string) (bool, error) {
	intent, err := c.intent(ctx, connection)
	if err != nil {
		return false, err
	}
	page, err := c.Ledger.List(ctx, ledger.Query{Tool: c.Tool.Name, Since: c.Now().Add(-24 * time.Hour), Limit: ledger.MaxPage})
	if err != nil {
		return false, c.noLedger(err)
	}
	return slices.ContainsFunc(page.Operations, func(op ledger.Operation) bool {
		isOf := op.Provider == intent.Provider && op.Account == intent.Account && len(op.Targets) == 1 && op.Targets[0].ID == token
		hasHappened := op.Outcome != ledger.Failed && op.Outcome != ledger.Refused && op.ErrorCode != codeSecretLost
		return isOf && hasHappened && (op.NewTokenID != "" && op.NewTokenID != token || !op.OldEnds.IsZero())
	}), nil
}

// twinLife judges the life of a twin where it would be longer than that of the token
// that it replaces. Its access is the same, which a rotation may keep.
func twinLife(p policy.Policy, old providers.Token, plan providers.RotationPlan, now time.Time) string {
	before, hadEnd := old.Expires.Time()
	after, hasEnd := plan.NewExpires.Time()
	if !hadEnd || hasEnd && !after.After(before) {
		return ""
	}
	return p.RefusesLife(plan.NewExpires, now)
}

// rotate replaces the secret, delivers the new one and, where the plan says so,
// ends the old token after that.
func (c *Call) rotate(ctx context.Context, connection *Connection, rotator providers.Rotator, i ledger.Intent, r rotation) (rotateTokenOut, error) {
	id, err := newOperationID()
	if err != nil {
		return rotateTokenOut{}, err
	}
	i.Sink, i.Key = r.to.name, r.to.key.String()
	m := minting{
		connection: connection, id: id, intent: i, to: r.to,
		send: func(ctx context.Context) (providers.Minted, error) { return rotator.Rotate(ctx, r.Token, r.Plan) },
	}
	if i.Compromised {
		m.limits = append(c.beforeEscalation(), c.revocationLimit(connection))
	}
	if r.Plan.DeletesOld {
		m.replaces = &r.Token
	}
	result, err := c.mintSecret(ctx, m)
	if err != nil {
		return rotateTokenOut{}, err
	}
	return r.out(result), nil
}

// out is the tool's result of a rotation.
func (r rotation) out(m mintingOut) rotateTokenOut {
	out := rotateTokenOut{Secret: m.secret}
	out.Status, out.OperationID, out.Warnings, out.Next = m.status, m.operation, m.warnings, m.next
	if m.minted == nil {
		return out
	}
	out.Token, out.OldEnds = mintedRowOf(&m.minted.Token), m.minted.OldEnds.String()
	out.warn(alteredWarning(m.minted.Token))
	if m.minted.Token.ID != r.Token.ID {
		out.OldTokenID = r.Token.ID
	}
	switch {
	case m.status == statusUndelivered:
		out.Next = r.afterLoss(out)
	case m.status != "": // in escrow
		if r.Plan.DeletesOld && out.OldTokenID != "" {
			out.Next += "; once it is delivered, end the old token with revoke_token, token_id " + r.Token.ID
		}
	default:
		out.Status = statusRotated
		r.delivered(m, &out)
	}
	return out
}

// delivered says what is left to do after the new secret is in its place.
func (r rotation) delivered(m mintingOut, out *rotateTokenOut) {
	switch {
	case !m.oldEnded.IsZero():
		out.OldEnds = m.oldEnded.UTC().Format(time.RFC3339)
	case r.Plan.DeletesOld && out.OldTokenID == "":
		out.Next = sameToken(r.Token.ID)
	case r.Plan.DeletesOld:
		out.Next = endByHand(r.Token.ID, out.Secret.Verified)
	case m.minted.OldEnds.IsNever():
		out.OldEnds = "when token " + r.Token.ID + " is revoked"
		out.Next = "switch over to the new secret, then end the old one with revoke_token"
	}
}

// afterLoss says what to do where the vendor replaced the secret and neither sink nor
// escrow took the new one.
func (r rotation) afterLoss(out rotateTokenOut) string {
	if out.OldTokenID != "" {
		return "the new secret is lost and the old token still works: revoke token " + out.Token.ID + ", have sink and escrow mended, and rotate again"
	}
	next := "the new secret is lost: have sink and escrow mended, then rotate token " + r.Token.ID + " again"
	if !r.Plan.OldEnds.IsUnknown() { // else it ended at once
		next += " before the old secret ends"
	}
	return next
}

// endByHand says how to end a compromised token whose twin was delivered.
func endByHand(token, verified string) string {
	next := "the compromised token still works: end it now with revoke_token, token_id " + token
	if verified == verifiedFalse {
		next += ", once it is clear why the vendor does not accept the new secret"
	}
	return next
}

// sameToken says what is left to do where the vendor answered with the very token that was to get a twin: to end
// it would end the new secret.
func sameToken(token string) string {
	return "the vendor made no other token, and gave token " + token + " itself the new secret, so it was not ended: find out whether the compromised secret still works"
}

// endOld revokes the token whose twin was delivered, unless the vendor contradicted.
func (c *Call) endOld(ctx context.Context, m minting, seen verification, out *mintingOut) ledger.Result {
	old := m.replaces
	alive := ledger.Result{Outcome: ledger.Done, ErrorCode: codeOldAlive, Details: ledger.Details{Note: endByHand(old.ID, seen.word())}}
	if out.minted.Token.ID == old.ID {
		alive.Note = sameToken(old.ID)
		return alive
	}
	if seen.vendor == verifiedFalse {
		return alive
	}
	ctx, cancel := context.WithTimeout(ctx, changeTime)
	defer cancel()
	ctx, trace := providers.WithTrace(ctx)
	_, err := m.connection.Provider.(providers.Revoker).Revoke(ctx, *old)
	fault.Point("old_ended")
	m.connection.Note(err, c.Now())
	isUnknown := ended(err, trace).Outcome == ledger.Unknown
	switch {
	case err == nil, isUnknown && isGone(ctx, m.connection, *old):
		out.oldEnded = c.Now()
		c.Log.Info("old token revoked", "operation", out.operation, "connection", m.connection.Name, "token", old.ID)
		return ledger.Result{Outcome: ledger.Done, Details: ledger.Details{OldEnds: out.oldEnded}}
	case isUnknown:
		unknown := "it is not known whether the compromised token " + old.ID + " was ended"
		alive.Note = unknown + ": where it is still there, end it with revoke_token"
		out.warn(unknown + ": " + sentence(err))
	default:
		out.warn("the compromised token " + old.ID + " could not be ended and still works: " + sentence(err))
	}
	c.Log.Error("old token not revoked", "operation", out.operation, "connection", m.connection.Name, "token", old.ID, "error", err)
	return alive
}

// codeOldAlive is on record where a compromised token still works beside its twin.
const codeOldAlive = "old_token_not_ended"
