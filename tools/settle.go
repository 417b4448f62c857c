package tools

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"runtime/debug"
	"slices"
	"time"

	"github.com/tokenreeve/tokenreeve/internal/fault"
	"github.com/tokenreeve/tokenreeve/internal/ledger"
	"github.com/tokenreeve/tokenreeve/internal/policy"
	"github.com/tokenreeve/tokenreeve/internal/secret"
	"github.com/tokenreeve/tokenreeve/internal/sink"
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

// LookAgain waits until the processes that have open operations now must have shown a
// sign of life, and then ends on record what those left behind that did not. A server
// that is started right after the last one was killed finds nothing cut off before that.
func (e *Env) LookAgain(ctx context.Context) {
	if !e.HasLedger() {
		return
	}
	page, err := e.Ledger.List(ctx, ledger.Query{Outcome: ledger.OpenOutcome, Limit: ledger.MaxPage})
	if err != nil {
		e.Log.Error("the ledger cannot be read", "error", err)
		return
	}
	var last time.Time
	for i := range page.Operations {
		if lease := page.Operations[i].Lease; lease.After(last) {
			last = lease
		}
	}
	if last.IsZero() {
		return
	}
	timer := time.NewTimer(last.Sub(e.Now()))
	defer timer.Stop()
	select {
	case <-timer.C:
		e.Settle(ctx)
	case <-ctx.Done():
	}
}

// unsettled returns the operations of the last weeks whose secret waits, whose outcome
// nobody knows, or that left a compromised token behind which may work.
func (e *Env) unsettled(ctx context.Context, q ledger.Query) ([]ledger.Operation, error) {
	var found []ledger.Operation
	q.Since = e.Now().Add(-lookBack)
	for _, outcome := range []ledger.Outcome{ledger.Escrowed, ledger.Unknown} {
		q.Outcome = outcome
		page, err := e.Ledger.List(ctx, q)
		if err != nil {
			return nil, err
		}
		for i := range page.Operations {
			if page.Operations[i].Of == "" { // else the one whose secret waits is there itself
				found = append(found, page.Operations[i])
			}
		}
	}
	q.Outcome, q.Tool, q.Limit = ledger.Done, "rotate_token", ledger.MaxPage
	page, err := e.Ledger.List(ctx, q)
	if err != nil {
		return nil, err
	}
	for i := range page.Operations {
		left, err := e.leftBehind(ctx, &page.Operations[i])
		if err != nil {
			return nil, err
		}
		if left {
			found = append(found, page.Operations[i])
		}
	}
	return found, nil
}

// leftBehind reports whether a rotation left the compromised token behind, and nobody has
// ended it on record since.
func (e *Env) leftBehind(ctx context.Context, op *ledger.Operation) (bool, error) {
	if op.ErrorCode != codeOldTokenNotEnded {
		return false, nil
	}
	later, err := e.Ledger.List(ctx, ledger.Query{Connection: op.Connection, Since: op.Started, Limit: ledger.MaxPage})
	ended := slices.ContainsFunc(later.Operations, func(o ledger.Operation) bool {
		ends := o.Class == ledger.Class(policy.Revoke) || o.Class == ledger.Class(policy.Bulk)
		return ends && !o.Group && (o.Outcome == ledger.Done || o.Outcome == ledger.AlreadyGone) &&
			slices.ContainsFunc(o.Targets, func(t ledger.Target) bool { return t.ID == op.OldTokenID })
	})
	return !ended, err
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
	fault.Point("claimed")
	op := lease.Operation()
	r := e.known(ctx, &op)
	if err := lease.Finish(ctx, r); err != nil {
		return err
	}
	e.Log.Warn("operation was cut off", "operation", id, "tool", op.Tool, "connection", op.Connection, "step", op.Step, "outcome", r.Outcome, "note", r.Note, "head", lease.Head().Hash)
	return nil
}

// known is what is known of an operation that was cut off.
func (e *Env) known(ctx context.Context, op *ledger.Operation) ledger.Result {
	unknown := ledger.Result{Outcome: ledger.Unknown, ErrorCode: codeInterrupted}
	switch {
	case op.Group:
		unknown.Note = "cut off; each target that was begun is an operation of its own. Call again without confirm for a preview of what is left"
		return unknown
	case op.Of != "" && op.Step == stepDelivered:
		return e.cutOffDelivery(ctx, op)
	case op.Of != "":
		unknown.Note = "cut off while delivering; the secret is still in escrow under operation " + op.Of
		return unknown
	case op.Sink == "" && len(op.Targets) == 1:
		unknown.Note = "cut off; read the token to see whether the change was made"
		return unknown
	case op.Sink == "":
		unknown.Note = "cut off; list the tokens to see whether the change was made"
		return unknown
	}
	kept, meta, err := e.Escrow.Get(ctx, op.ID)
	switch {
	case e.arrived(ctx, op, kept):
		return cutOffDelivered(op)
	case !errors.Is(err, fs.ErrNotExist): // one that cannot be read now is kept all the same
		return ledger.Result{Outcome: ledger.Escrowed, ErrorCode: codeInterrupted, Details: ledger.Details{NewTokenID: meta.TokenID}}
	case op.NewTokenID != "":
		unknown.Note = "cut off before the secret was safe: nobody has the secret of token " + op.NewTokenID + "; revoke or rotate it"
		if endsAfterDelivery(op) != "" {
			unknown.Note += "; " + oldTokenWorks(op)
		}
	case len(op.Targets) > 0:
		unknown.Note = "cut off; whether the secret of token " + op.Targets[0].ID +
			" was replaced is not known: list tokens with its name, revoke one that nobody expected, then rotate it again"
	default:
		unknown.Note = "cut off; whether the token was made is not known: list tokens with this name, revoke one that nobody expected"
	}
	return unknown
}

const codeInterrupted = "interrupted"

// arrived reports whether the sink has the secret of an operation that was cut off after
// its delivery. Where the sink can be read, it is.
func (e *Env) arrived(ctx context.Context, op *ledger.Operation, kept secret.Secret) bool {
	if op.Step != stepDelivered && op.Step != stepVerified {
		return false
	}
	holder, ok := e.Sinks[op.Sink].(sink.Holder)
	if !ok || kept.IsZero() {
		return true
	}
	ctx, cancel := context.WithTimeout(ctx, verifyTime)
	defer cancel()
	holds, err := holder.Holds(ctx, sink.Delivery{Sink: op.Sink, Key: op.Key, Version: op.Version}, kept.Digest())
	return holds && err == nil
}

// cutOffDelivered is the end of an operation whose secret is in its sink. The copy in
// escrow goes when its time is over.
func cutOffDelivered(op *ledger.Operation) ledger.Result {
	r := ledger.Result{Outcome: ledger.Done, Details: ledger.Details{
		Verified: cmp.Or(op.Verified, verifiedSkipped), Note: "cut off after the delivery",
	}}
	if old := endsAfterDelivery(op); old != "" {
		r.ErrorCode = codeOldTokenNotEnded
		r.Note += "; the compromised token " + old + " may still work: end it now with revoke_token"
	}
	return r
}

// cutOffDelivery is the end of a delivery from escrow that the sink took.
func (e *Env) cutOffDelivery(ctx context.Context, op *ledger.Operation) ledger.Result {
	r := ledger.Result{Outcome: ledger.Done, Details: ledger.Details{NewTokenID: op.Targets[0].ID, Verified: verifiedSkipped}}
	if of, err := e.Ledger.Get(ctx, op.Of); err == nil && endsAfterDelivery(&of) != "" {
		r.ErrorCode, r.Note = codeOldTokenNotEnded, oldTokenWorks(&of)
	}
	return r
}

// endsAfterDelivery returns the compromised token that a rotation deletes once the
// secret of its twin is delivered, or "".
func endsAfterDelivery(op *ledger.Operation) string {
	if !op.Compromised {
		return ""
	}
	return op.OldTokenID
}

func oldTokenWorks(op *ledger.Operation) string {
	return "the compromised token " + op.OldTokenID + " still works: end it now with revoke_token"
}
