package tools

import (
	"context"
	"errors"
	"io/fs"
	"runtime/debug"
	"time"

	"github.com/tokenreeve/tokenreeve/internal/ledger"
)

// lookBack is how far back the start of the server and list_connections look for
// operations that somebody should see to.
const lookBack = 30 * 24 * time.Hour

// LookBack is done once after the start: what was cut off is ended on record and
// logged, and what the escrow need not keep any more is removed. It calls no vendor.
func (e *Env) LookBack(ctx context.Context) {
	if !e.HasLedger() {
		return
	}
	// Opening the ledger leaves more garbage than an idle server would ever collect.
	defer debug.FreeOSMemory()
	e.Settle(ctx)
	left, err := e.unsettled(ctx, ledger.Query{})
	if err != nil {
		e.Log.Error("the ledger cannot be read", "error", err)
		return
	}
	for i := range left {
		op := &left[i]
		e.Log.Warn("operation needs a look", "operation", op.ID, "outcome", op.Outcome, "tool", op.Tool, "connection", op.Connection, "started", op.Started)
	}
	removed, err := e.Escrow.Expire(ctx, e.EscrowRetention, func(id string) bool {
		op, err := e.Ledger.Get(ctx, id)
		return err == nil && op.Outcome == ledger.Done
	})
	if err != nil {
		e.Log.Error("escrow not cleared", "error", err)
	}
	if len(removed) > 0 {
		e.Log.Info("escrow copies of delivered secrets removed", "count", len(removed))
	}
}

// unsettled returns the operations of the last weeks whose secret waits or whose
// outcome nobody knows, newest first.
func (e *Env) unsettled(ctx context.Context, q ledger.Query) ([]ledger.Operation, error) {
	var found []ledger.Operation
	q.Since = e.Now().Add(-lookBack)
	for _, outcome := range []ledger.Outcome{ledger.Escrowed, ledger.Unknown} {
		q.Outcome = outcome
		page, err := e.Ledger.List(ctx, q)
		if err != nil {
			return nil, err
		}
		found = append(found, page.Operations...)
	}
	return found, nil
}

// Settle ends the operations whose processes are gone: what is known of each becomes
// its outcome. Of several servers, one ends each.
func (e *Env) Settle(ctx context.Context) {
	if !e.HasLedger() {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), changeTime)
	defer cancel()
	cutOff, err := e.Ledger.Unfinished(ctx)
	if err != nil {
		e.Log.Error("the ledger cannot be read", "error", err)
		return
	}
	for i := range cutOff {
		err := e.settle(ctx, cutOff[i].ID)
		if err != nil && !errors.Is(err, ledger.ErrHeld) && !errors.Is(err, ledger.ErrFinished) {
			e.Log.Error("unfinished operation not ended on record", "operation", cutOff[i].ID, "error", err)
		}
	}
}

func (e *Env) settle(ctx context.Context, id string) error {
	lease, err := e.Ledger.Claim(ctx, id)
	if err != nil {
		return err
	}
	op := lease.Operation()
	r := e.known(ctx, &op)
	if op.Of != "" && r.Outcome == ledger.Done { // first, while nobody else can deliver the same
		err := e.Ledger.Resolve(ctx, op.Of, id, ledger.Result{Outcome: ledger.Done})
		if err != nil && !errors.Is(err, ledger.ErrFinished) {
			return errors.Join(err, lease.Release(ctx))
		}
	}
	if err := lease.Finish(ctx, r); err != nil {
		return err
	}
	e.Log.Warn("operation was cut off", "operation", id, "tool", op.Tool, "connection", op.Connection, "step", op.Step, "outcome", r.Outcome, "head", lease.Head().Hash)
	return nil
}

// known is what is known of an operation that was cut off.
func (e *Env) known(ctx context.Context, op *ledger.Operation) ledger.Result {
	unknown := ledger.Result{Outcome: ledger.Unknown, ErrorCode: "interrupted"}
	switch {
	case op.Group:
		unknown.Note = "cut off; each target that was begun is an operation of its own"
		return unknown
	case op.Of != "" && op.Step == stepDelivered:
		return ledger.Result{Outcome: ledger.Done, Details: ledger.Details{NewTokenID: op.NewTokenID, Verified: verifiedSkipped}}
	case op.Of != "":
		unknown.Note = "cut off while delivering; the secret is still in escrow under operation " + op.Of
		return unknown
	case op.Sink == "":
		unknown.Note = "cut off; read the token to see whether the change was made"
		return unknown
	}
	_, meta, err := e.Escrow.Get(ctx, op.ID)
	switch {
	case !errors.Is(err, fs.ErrNotExist): // one that cannot be read now is kept all the same
		return ledger.Result{Outcome: ledger.Escrowed, ErrorCode: "interrupted", Details: ledger.Details{NewTokenID: meta.TokenID}}
	case op.Step == stepDelivered || op.Step == stepVerified:
		return ledger.Result{Outcome: ledger.Done, Details: ledger.Details{Note: "cut off after the delivery"}}
	case op.NewTokenID != "":
		unknown.Note = "cut off before the secret was safe: nobody has the secret of token " + op.NewTokenID + "; revoke or rotate it"
	case len(op.Targets) > 0:
		unknown.Note = "cut off; whether the secret of token " + op.Targets[0].ID + " was replaced is not known: read the token, then rotate it again"
	default:
		unknown.Note = "cut off; whether the token was made is not known: list tokens with this name, revoke one that nobody expected"
	}
	return unknown
}
