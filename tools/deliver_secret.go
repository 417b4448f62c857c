package tools

import (
	"cmp"
	"context"
	"errors"
	"io/fs"

	"github.com/tokenreeve/tokenreeve/internal/fault"
	"github.com/tokenreeve/tokenreeve/internal/ledger"
	"github.com/tokenreeve/tokenreeve/internal/policy"
	"github.com/tokenreeve/tokenreeve/internal/sink"
	"github.com/tokenreeve/tokenreeve/providers"
)

// deliverSecretIn are the arguments of deliver_secret.
type deliverSecretIn struct {
	OperationID string `json:"operation_id" jsonschema_description:"id of what is escrowed"`
	DeliverTo   string `json:"deliver_to,omitempty" jsonschema_description:"SINK/KEY; default: where it should have gone"`
}

// deliverSecretOut is the result of deliver_secret.
type deliverSecretOut struct {
	Status      string     `json:"status"`
	OperationID string     `json:"operation_id" jsonschema_description:"of this delivery"`
	TokenID     string     `json:"token_id,omitempty"`
	Secret      *secretRow `json:"secret,omitempty"`
	Warnings    []string   `json:"warnings,omitempty"`
	Next        string     `json:"next,omitempty"`
}

func (d deliverSecretOut) status() string { return d.Status }

const statusDelivered = "delivered"

func deliverSecret() Tool {
	return define(Tool{
		Name:        "deliver_secret",
		Title:       "Deliver a secret from escrow",
		Description: "Delivers, once, a new secret that its sink refused (status escrowed).",
		Class:       policy.Mint,
		OrClass:     policy.Rotate,
		Needs:       "nothing",
		Serves:      servesAs[providers.Rotator],
	}, handleDeliverSecret)
}

func handleDeliverSecret(ctx context.Context, c *Call, in deliverSecretIn) (deliverSecretOut, error) {
	op, err := c.operation(ctx, in.OperationID)
	if err != nil {
		return deliverSecretOut{}, err
	}
	if err := waitsInEscrow(&op); err != nil {
		return deliverSecretOut{}, err
	}
	connection, err := c.connection(ctx, op.Connection)
	if err != nil {
		return deliverSecretOut{}, err
	}
	to, err := c.place(cmp.Or(in.DeliverTo, op.Sink+"/"+op.Key))
	if err != nil {
		return deliverSecretOut{}, err
	}
	if to.options, err = c.deliveryOptions(ctx, connection, to, cmp.Or(op.OldTokenID, op.NewTokenID), op.ID); err != nil {
		return deliverSecretOut{}, err
	}
	// A key that exists may hold this very secret, from a delivery that was cut off: then
	// delivering it again succeeds.
	if err := to.check(ctx, "nothing was delivered: "); err != nil && problemCode(err) != codeKeyExists {
		return deliverSecretOut{}, err
	}
	d := delivering{connection: connection, of: op, to: to}
	var out deliverSecretOut
	var failure error
	err = c.protectedFromCancel(ctx, func(ctx context.Context) { out, failure = c.deliverEscrowed(ctx, d) })
	return out, errors.Join(err, failure)
}

// waitsInEscrow refuses an operation that has nothing to deliver.
func waitsInEscrow(op *ledger.Operation) error {
	switch {
	case op.Of != "":
		return &Problem{Code: "nothing_in_escrow", Message: "operation " + op.ID + " is itself a delivery, of the secret of operation " + op.Of, Next: "give operation_id " + op.Of}
	case op.Outcome == ledger.Escrowed:
		return nil
	case op.IsOpen():
		return &Problem{Code: "in_progress", Message: "operation " + op.ID + " has not ended yet", Next: "call get_operation in a few seconds"}
	case op.Outcome == ledger.Done && op.Sink != "":
		return &Problem{Code: "already_delivered", Message: "the secret of operation " + op.ID + " was delivered", Next: "get_operation tells where it is"}
	}
	return &Problem{Code: "nothing_in_escrow", Message: "operation " + op.ID + " has no secret in escrow: it ended as " + string(op.Outcome), Next: "list_operations with outcome escrowed shows those that have"}
}

// delivering is one delivery from escrow.
type delivering struct {
	connection *Connection
	of         ledger.Operation
	to         destination
}

func (c *Call) deliverEscrowed(ctx context.Context, d delivering) (deliverSecretOut, error) {
	var out deliverSecretOut
	kept, meta, err := c.Escrow.Get(ctx, d.of.ID)
	if err != nil {
		return out, c.notInEscrow(ctx, d.of.ID, err)
	}
	token := cmp.Or(d.of.NewTokenID, meta.TokenID)
	i, err := c.intent(ctx, d.connection)
	if err != nil {
		return out, err
	}
	i.Of, i.Sink, i.Key, i.Targets = d.of.ID, d.to.name, d.to.key.String(), []ledger.Target{{ID: token}}
	o, err := c.begin(ctx, "", i)
	if err != nil {
		return out, err
	}
	if d.to.options, err = o.stillDeliverable(ctx, d); err != nil {
		o.finish(ctx, ledger.Result{Outcome: ledger.Refused, ErrorCode: string(problemCode(err))})
		return out, err
	}
	out.OperationID, out.TokenID = o.id, token
	err = c.handOver(ctx, o, d, providers.Minted{Token: providers.Token{ID: token}, Secret: kept}, &out)
	return out, err
}

// stillDeliverable judges once more now that nobody else can change the token: another
// call may have been faster, or have put a newer secret under the key, or be about to.
func (o *operation) stillDeliverable(ctx context.Context, d delivering) (sink.Options, error) {
	c := o.call
	if err := o.isFirstAt(ctx, d.to, "the secret is still in escrow: "); err != nil {
		return sink.Options{}, err
	}
	now, err := c.Ledger.Get(ctx, d.of.ID)
	if err != nil {
		return sink.Options{}, c.unreadable(err)
	}
	if err := waitsInEscrow(&now); err != nil {
		return sink.Options{}, err
	}
	return c.deliveryOptions(ctx, d.connection, d.to, cmp.Or(now.OldTokenID, now.NewTokenID), now.ID)
}

// notInEscrow says why there is no secret to deliver of an operation that has one on
// record.
func (c *Call) notInEscrow(ctx context.Context, id string, cause error) error {
	if !errors.Is(cause, fs.ErrNotExist) {
		c.Log.Error("escrow not readable", "operation", id, "error", cause)
		return &Problem{Code: "escrow_unusable", Message: "the escrow cannot be read: " + clean(cause.Error()), Next: "ask the operator"}
	}
	now, err := c.Ledger.Get(ctx, id)
	if err != nil {
		return c.unreadable(err)
	}
	if err := waitsInEscrow(&now); err != nil { // another call was faster
		return err
	}
	p := &Problem{Code: "nothing_in_escrow", Message: "the escrow has no secret of operation " + id + " any more", Next: "list tokens to see whether one was made, and rotate or revoke it"}
	if now.NewTokenID != "" {
		p.Next = "rotate or revoke token " + now.NewTokenID
	}
	return p
}

// handOver delivers, verifies and ends both operations on record.
func (c *Call) handOver(ctx context.Context, o *operation, d delivering, minted providers.Minted, out *deliverSecretOut) error {
	ctx = context.WithoutCancel(ctx)
	m := mintingOut{secret: &secretRow{Fingerprint: c.fingerprint(minted)}}
	m.warn(c.outdated(ctx, d, minted.Token.ID))
	delivery, err := o.deliver(ctx, d.to, minted, true, &m)
	if err != nil {
		p := sinkProblem("the secret is still in escrow: ", err)
		return o.notDelivered(ctx, p, &m)
	}
	seen := c.verify(ctx, d.connection, minted, d.to.sink, delivery)
	fault.Point("verifying")
	m.secret.Verified = seen.word()
	for _, warning := range seen.warnings {
		m.warn(warning)
	}
	if seen.sink == verifiedFalse {
		p := &Problem{Code: "sink_unusable", Message: "the secret is still in escrow: the sink does not hold what was delivered", Next: "choose another deliver_to, or ask the operator to mend the sink"}
		return o.notDelivered(ctx, p, &m)
	}
	m.warn(o.step(ctx, stepVerified, ledger.Details{Verified: m.secret.Verified}))
	out.Next = oldAlive(&d.of, m.secret.Verified)
	if out.Next != "" && isGone(ctx, d.connection, providers.Token{ID: d.of.OldTokenID}) {
		out.Next = "" // ended before the rotation was cut off, or by somebody since
	}
	c.endBoth(ctx, o, d, minted, seen, out.Next, &m)
	out.Status, out.Secret, out.Warnings = statusDelivered, m.secret, m.warnings
	return nil
}

// notDelivered ends a delivery that failed. The secret stays in escrow.
func (o *operation) notDelivered(ctx context.Context, p *Problem, m *mintingOut) error {
	m.warn(o.finish(ctx, ledger.Result{Outcome: ledger.Failed, ErrorCode: p.Code}))
	if len(m.warnings) > 0 {
		p.Message += "; " + joinWords(m.warnings)
	}
	return p
}

// outdated warns where the token has got a newer secret meanwhile.
func (c *Call) outdated(ctx context.Context, d delivering, token string) (warning string) {
	newest, found, err := c.lastDelivery(ctx, d.connection, token)
	if err != nil || !found || mintingOf(&newest) <= d.of.ID {
		return ""
	}
	return "token " + token + " has a newer secret, of operation " + mintingOf(&newest) + ": this one works no longer, or not for long"
}

// endBoth puts on record that the secret is delivered: of the minting first, since a
// delivery without an outcome is ended by the next server that looks. next is what is
// left to do.
func (c *Call) endBoth(ctx context.Context, o *operation, d delivering, minted providers.Minted, seen verification, next string, m *mintingOut) {
	err := c.Ledger.Resolve(ctx, d.of.ID, o.id, resolution(m.secret.Verified, next))
	fault.Point("resolved")
	if err != nil && !errors.Is(err, ledger.ErrFinished) {
		c.Log.Error("delivery not on record", "operation", d.of.ID, "by", o.id, "error", err)
		m.warn("that the secret of operation " + d.of.ID + " is delivered could not be put on record")
		return
	}
	warning := o.finish(ctx, ledger.Result{Outcome: ledger.Done, Details: ledger.Details{
		NewTokenID: minted.Token.ID, Fingerprint: m.secret.Fingerprint, Verified: m.secret.Verified,
	}})
	m.warn(warning)
	if warning == "" && seen.sink == verifiedTrue {
		c.clearEscrow(ctx, d.of.ID)
	}
}

// resolution is the outcome of a minting whose secret was delivered from escrow. next is
// what is left to do about its compromised token.
func resolution(verified, next string) ledger.Result {
	r := ledger.Result{Outcome: ledger.Done, Details: ledger.Details{Verified: verified, Note: "delivered from escrow"}}
	if next != "" {
		r.ErrorCode, r.Note = codeOldAlive, r.Note+"; "+next
	}
	return r
}

// oldAlive says what is left to do where a compromised token still works beside the
// twin whose secret was delivered.
func oldAlive(minting *ledger.Operation, verified string) string {
	if !minting.Compromised || minting.OldTokenID == "" {
		return ""
	}
	next := endByHand(minting.OldTokenID, verified)
	if minting.ErrorCode == codeInterrupted {
		next += " (unless it is gone already)"
	}
	return next
}
