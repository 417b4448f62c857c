package tools

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/tokenreeve/tokenreeve/internal/ledger"
	"github.com/tokenreeve/tokenreeve/internal/policy"
	"github.com/tokenreeve/tokenreeve/internal/sink"
	"github.com/tokenreeve/tokenreeve/providers"
)

// deliverSecretIn are the arguments of deliver_secret.
type deliverSecretIn struct {
	OperationID string `json:"operation_id" jsonschema_description:"of the creation or rotation that is escrowed"`
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

const statusDelivered = "delivered"

func deliverSecret() Tool {
	return define(Tool{
		Name:        "deliver_secret",
		Title:       "Deliver a secret from escrow",
		Description: "Delivers a new secret that its sink refused (status escrowed), to the same or another sink, once.",
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
	connection, err := c.connection(op.Connection)
	if err != nil {
		return deliverSecretOut{}, err
	}
	to, err := c.place(cmp.Or(in.DeliverTo, op.Sink+"/"+op.Key))
	if err != nil {
		return deliverSecretOut{}, err
	}
	if to.options, err = c.deliveryOptions(ctx, connection, to, cmp.Or(op.OldTokenID, op.NewTokenID)); err != nil {
		return deliverSecretOut{}, err
	}
	// A key that exists may hold this very secret, from a delivery that was cut off: then
	// delivering it again succeeds.
	if err := to.sink.Check(ctx, to.key, to.options); err != nil && !errors.Is(err, sink.ErrKeyExists) {
		return deliverSecretOut{}, sinkProblem("nothing was delivered: ", err)
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
	out := deliverSecretOut{TokenID: d.of.NewTokenID}
	kept, meta, err := c.Escrow.Get(ctx, d.of.ID)
	if errors.Is(err, fs.ErrNotExist) {
		return out, &Problem{Code: "nothing_in_escrow", Message: "the escrow has no secret of operation " + d.of.ID + " any more", Next: "rotate or revoke token " + d.of.NewTokenID}
	}
	if err != nil {
		c.Log.Error("escrow not readable", "operation", d.of.ID, "error", err)
		return out, &Problem{Code: "escrow_unusable", Message: "the escrow cannot be read: " + clean(err.Error()), Next: "ask the operator"}
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
	out.OperationID = o.id
	if err := c.mayStillDeliver(ctx, &d); err != nil {
		o.finish(ctx, ledger.Result{Outcome: ledger.Refused, ErrorCode: string(problemCode(err))})
		return out, err
	}
	err = c.handOver(ctx, o, d, providers.Minted{Token: providers.Token{ID: token}, Secret: kept}, &out)
	return out, err
}

// mayStillDeliver judges once more now that nobody else can change the token: another
// call may have been faster, or given the token another secret.
func (c *Call) mayStillDeliver(ctx context.Context, d *delivering) error {
	now, err := c.Ledger.Get(ctx, d.of.ID)
	if err != nil {
		return c.noLedger(err)
	}
	if err := waitsInEscrow(&now); err != nil {
		return err
	}
	if d.to.options, err = c.deliveryOptions(ctx, d.connection, d.to, cmp.Or(now.OldTokenID, now.NewTokenID)); err != nil {
		return err
	}
	old, err := c.notNewest(ctx, &now)
	if err == nil && old && d.to.options.Successor {
		err = &Problem{
			Code: "newer_secret", Message: "nothing was delivered: " + d.to.String() + " holds a newer secret of token " + now.NewTokenID + ", which this one would hide",
			Next: "nothing needs to be done; where the older secret is wanted all the same, give deliver_to with another key",
		}
	}
	return err
}

// handOver delivers, verifies and ends both operations on record.
func (c *Call) handOver(ctx context.Context, o *operation, d delivering, minted providers.Minted, out *deliverSecretOut) error {
	ctx = context.WithoutCancel(ctx)
	m := mintingOut{secret: &secretRow{Fingerprint: c.fingerprint(minted)}}
	delivery, delivered := o.deliver(ctx, d.to, minted, &m)
	if !delivered {
		m.warn(o.finish(ctx, ledger.Result{Outcome: ledger.Failed, ErrorCode: "sink_failed"}))
		return &Problem{
			Code: "sink_unusable", Message: "the secret is still in escrow: " + joinWords(m.warnings),
			Next: "choose another deliver_to, or ask the operator to mend the sink",
		}
	}
	seen := c.verify(ctx, d.connection, minted, d.to.sink, delivery)
	m.secret.Verified = seen.word()
	m.warnings = append(m.warnings, seen.warnings...)
	if seen.sink == verifiedFalse {
		m.warn(o.finish(ctx, ledger.Result{Outcome: ledger.Failed, ErrorCode: "sink_does_not_hold"}))
		return &Problem{Code: "sink_unusable", Message: "the secret is still in escrow: " + joinWords(m.warnings), Next: "choose another deliver_to"}
	}
	// While this operation has the token, nobody else can deliver what is delivered now.
	resolved := c.Ledger.Resolve(ctx, d.of.ID, o.id, ledger.Result{Outcome: ledger.Done, Details: ledger.Details{Verified: m.secret.Verified}})
	details := ledger.Details{NewTokenID: minted.Token.ID, Fingerprint: m.secret.Fingerprint, Verified: m.secret.Verified}
	m.warn(o.finish(ctx, ledger.Result{Outcome: ledger.Done, Details: details}))
	if resolved != nil {
		c.Log.Error("delivery not on record", "operation", d.of.ID, "by", o.id, "error", resolved)
		m.warn("that operation " + d.of.ID + " is delivered could not be put on record")
	} else if seen.sink == verifiedTrue {
		c.clearEscrow(ctx, d.of.ID)
	}
	out.Status, out.Secret, out.Warnings = statusDelivered, m.secret, m.warnings
	if d.of.Compromised && d.of.OldTokenID != "" {
		out.Next = fmt.Sprintf("the compromised token %s still works: end it now with revoke_token", d.of.OldTokenID)
	}
	return nil
}
