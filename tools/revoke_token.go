package tools

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/tokenreeve/tokenreeve/internal/fault"
	"github.com/tokenreeve/tokenreeve/internal/ledger"
	"github.com/tokenreeve/tokenreeve/internal/policy"
	"github.com/tokenreeve/tokenreeve/internal/telemetry"
	"github.com/tokenreeve/tokenreeve/providers"
)

// revokeTokenIn are the arguments of revoke_token.
type revokeTokenIn struct {
	Connection string      `json:"connection" jsonschema:"enum=@connections" jsonschema_description:"connection name"`
	TokenID    string      `json:"token_id" jsonschema_description:"id from list_tokens"`
	Owner      string      `json:"owner,omitempty" when:"located" jsonschema_description:"account id or e-mail; finds Atlassian tokens faster"`
	Reason     string      `json:"reason,omitempty" jsonschema_description:"why, for the record"`
	AllowInUse bool        `json:"allow_in_use,omitempty" when:"in_use" jsonschema_description:"end it although it is in use"`
	Confirm    confirmCode `json:"confirm,omitempty" jsonschema_description:"code from the preview"`
}

// revokeTokenOut is the result of revoke_token.
type revokeTokenOut struct {
	preview
	Targets *targets `json:"targets,omitempty"`
	TokenID string   `json:"token_id,omitempty"`
	Steps   []string `json:"steps,omitempty"`
}

func revokeToken() Tool {
	return defineAny[revokeTokenIn, revokeTokenOut](Tool{
		Name:        "revoke_token",
		Title:       "Revoke an API token",
		Description: "Ends one API token for good; there is no undo. It previews first, and acts on the confirm code of that preview.",
		Class:       policy.Revoke,
		Needs:       "Atlassian: a key **without** scopes; LaunchDarkly: Admin or the token actions; Mailtrap: account admin",
		Capability:  "revoke",
		Serves:      servesAs[providers.Revoker],
	}, handleRevokeToken)
}

// revokePlan is one token to end.
type revokePlan struct {
	Token providers.Token
	gone  bool // it ended since the preview
}

func handleRevokeToken(ctx context.Context, c *Call, in revokeTokenIn) (any, error) {
	connection, err := c.connection(ctx, in.Connection)
	if err != nil {
		return nil, err
	}
	if err := checkRef(connection, in.TokenID, in.Owner); err != nil {
		return nil, err
	}
	p := c.startProgress(ctx, "tokens read")
	defer p.stop()
	out, err := flow[revokePlan, revokeTokenOut]{
		connection: connection,
		arguments:  in,
		code:       in.Confirm,
		reason:     in.Reason,
		plan: func(ctx context.Context, shown *revokePlan) (revokePlan, error) {
			return c.planRevocation(ctx, connection, in, shown)
		},
		propose: func(p revokePlan) proposal {
			return proposal{
				targets:  []providers.Token{p.Token},
				effects:  []string{"ends this token at once and for good; whatever uses it stops working"},
				warnings: c.inUse([]providers.Token{p.Token}),
				risk:     policy.RiskSingle, ends: true, phrase: "REVOKE 1",
			}
		},
		wrap: func(p preview, t *targets) revokeTokenOut { return revokeTokenOut{preview: p, Targets: t} },
		act: func(ctx context.Context, i ledger.Intent, p revokePlan) (revokeTokenOut, error) {
			return c.revoke(ctx, connection, i, p)
		},
	}.run(ctx, c)
	if providers.CodeOf(err) == providers.CodeNotOffered {
		return c.revocationHandOff(connection, in.TokenID, err)
	}
	return out, err
}

// planRevocation reads the token and judges whether it may be ended. At the
// confirmation it is read in the place where the preview found it.
func (c *Call) planRevocation(ctx context.Context, connection *Connection, in revokeTokenIn, shown *revokePlan) (revokePlan, error) {
	token, err := c.find(ctx, connection, in.TokenID, in.Owner)
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
	return revokePlan{Token: token}, c.mayEnd(ctx, connection, found, in.AllowInUse)
}

// mayEnd judges by the rules that count over several targets: those in use, and how
// many a principal may end within an hour.
func (c *Call) mayEnd(ctx context.Context, connection *Connection, tokens []providers.Token, allowInUse bool) error {
	if err := c.sparesInUse(connection, tokens, allowInUse); err != nil {
		return err
	}
	return c.withinLimit(ctx, connection, len(tokens))
}

// sparesInUse refuses targets that count as in use, unless the caller says that they
// may end all the same.
func (c *Call) sparesInUse(connection *Connection, tokens []providers.Token, allowed bool) error {
	if allowed {
		return nil
	}
	var used []string
	for i := range tokens {
		if why := connection.Policy.NeedsInUse(&tokens[i], c.Now()); why != "" {
			used = append(used, "token "+tokens[i].ID+": "+why)
		}
	}
	if len(used) == 0 {
		return nil
	}
	message := "nothing was changed: " + plural(len(used), "target is", "targets are") + " in use: " + strings.Join(used[:min(3, len(used))], "; ")
	return &Problem{
		Code: "in_use", Message: message,
		Next: "make sure that nothing depends on them, then call again with allow_in_use: true for a preview; or leave them out",
	}
}

// proveGone reads a token that was not found again in its owner's complete list:
// absence elsewhere proves nothing.
func (c *Call) proveGone(ctx context.Context, connection *Connection, shown revokePlan, absent error) (revokePlan, error) {
	_, err := c.find(ctx, connection, shown.Token.ID, shown.Token.Owner.ID)
	switch {
	case problemCode(err) == providers.CodeNotFound:
		return revokePlan{Token: shown.Token, gone: true}, nil
	case err != nil:
		return revokePlan{}, err
	default:
		return revokePlan{}, drifted([]string{"token " + shown.Token.ID + " stands elsewhere now (" + absent.Error() + ")"})
	}
}

// problemCode returns the code of a vendor's or of our own error.
func problemCode(err error) providers.Code {
	if p := problemOf(err); p != nil {
		return providers.Code(p.Code)
	}
	return ""
}

func (c *Call) revoke(ctx context.Context, connection *Connection, i ledger.Intent, p revokePlan) (revokeTokenOut, error) {
	out := revokeTokenOut{TokenID: p.Token.ID}
	if p.gone {
		id, warning := c.recordGone(ctx, i)
		out.Status, out.OperationID = string(providers.AlreadyGone), id
		out.warn(warning)
		return out, nil
	}
	var ending ending
	var failure error
	err := c.protectedFromCancel(ctx, func(ctx context.Context) { ending, failure = c.endToken(ctx, connection, i, p.Token) })
	out.Status, out.OperationID = string(ending.revocation), ending.operation
	out.warn(ending.warning)
	return out, errors.Join(err, failure)
}

// ending is how the revocation of one token went.
type ending struct {
	operation  string
	revocation providers.Revocation
	outcome    ledger.Outcome
	warning    string
}

// endToken ends one token, on record.
func (c *Call) endToken(ctx context.Context, connection *Connection, i ledger.Intent, t providers.Token) (ending, error) {
	o, err := c.begin(ctx, "", i, append(c.beforeEscalation(), c.revocationLimit(connection))...)
	if err != nil {
		return ending{}, err
	}
	e := ending{operation: o.id}
	if err := c.notRenewed(ctx, connection, i.Targets); err != nil {
		e.outcome = ledger.Refused
		e.warning = o.finish(ctx, ledger.Result{Outcome: e.outcome, ErrorCode: string(problemCode(err))})
		return e, fmt.Errorf("operation %s: %w", o.id, err)
	}
	ctx, trace := providers.WithTrace(ctx)
	e.revocation, err = connection.Provider.(providers.Revoker).Revoke(ctx, t)
	fault.Point("answered")
	connection.Note(err, c.Now())
	r := ended(err, trace)
	switch {
	case err == nil && e.revocation == providers.AlreadyGone:
		r.Outcome = ledger.AlreadyGone
	case r.Outcome == ledger.Unknown && isGone(ctx, connection, t):
		r.Outcome, r.Note = ledger.Done, "the vendor's answer was lost; the token is gone"
		e.revocation, err = providers.Revoked, nil
	}
	e.outcome = r.Outcome
	e.warning = o.finish(ctx, r)
	if err != nil {
		err = fmt.Errorf("operation %s: %w", o.id, err)
	}
	return e, err
}

// isGone reads a token whose revocation was not answered. Only the vendor's word that
// there is no such token counts.
func isGone(ctx context.Context, connection *Connection, t providers.Token) bool {
	getter, ok := connection.Provider.(providers.Getter)
	if !ok {
		return false
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), verifyTime)
	defer cancel()
	_, err := getter.Get(ctx, providers.Ref{ID: t.ID, Owner: t.Owner.ID})
	return providers.CodeOf(err) == providers.CodeNotFound
}

// recordGone puts a revocation on record that had nothing left to do. It returns a
// warning where that fails.
func (c *Call) recordGone(ctx context.Context, i ledger.Intent) (operation, warning string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordTime)
	defer cancel()
	op, head, err := c.Ledger.Record(ctx, "", i, ledger.Result{Outcome: ledger.AlreadyGone})
	fault.Point("gone")
	if err != nil {
		c.Log.Error("outcome not on record", "outcome", ledger.AlreadyGone, "error", err)
		return "", "that the token was gone already could not be put on record"
	}
	telemetry.CallFrom(ctx).Operation(op.ID)
	c.Log.Info("operation ended", "operation", op.ID, "tool", i.Tool, "connection", i.Connection, "principal", i.Principal, "outcome", op.Outcome, "head", head.Hash)
	return op.ID, ""
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
