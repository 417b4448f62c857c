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
	e.clearOld(ctx)
	e.tellUnreadable(ctx)
}

// tellUnreadable logs which secrets in escrow this server cannot read: its keys were lost, or are not
// those of the servers that it shares the escrow with.
func (e *Env) tellUnreadable(ctx context.Context) {
	entries, err := e.Escrow.List(ctx)
	if err != nil && ctx.Err() == nil {
		e.Log.Error("escrow not readable", "error", err)
	}
	for _, entry := range entries {
		if entry.Problem != nil {
			e.Log.Error("a secret in escrow cannot be read", "operation", entry.OperationID, "error", entry.Problem)
		}
	}
}

// clearEvery is how often a server that runs on looks for what others left behind, and for
// copies in escrow that need not be kept any more.
const clearEvery = time.Hour

// Attend looks back, and then keeps the escrow clear until ctx ends.
func (e *Env) Attend(ctx context.Context) {
	e.LookBack(ctx)
	e.lookAgain(ctx)
	ticker := time.NewTicker(clearEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			e.Settle(ctx) // another server may have been killed
			e.clearOld(ctx)
		}
	}
}

// lookAgain waits until the processes that have open operations now must have shown a
// sign of life, and then ends on record what those left behind that did not. A server
// that is started right after the last one was killed finds nothing cut off before that.
func (e *Env) lookAgain(ctx context.Context) {
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

// clearOld removes the copies of secrets that were delivered long enough ago. One that
// no sink has is kept at any age.
func (e *Env) clearOld(ctx context.Context) {
	if !e.HasLedger() {
		return
	}
	removed, err := e.Escrow.Expire(ctx, func(id string) bool {
		op, err := e.Ledger.Get(ctx, id)
		if errors.Is(err, ledger.ErrNotFound) {
			e.Log.Warn("a secret is in escrow of which nothing is on record", "operation", id)
		}
		if err != nil || op.Outcome != ledger.Done {
			return false
		}
		delivered := op.Ended
		if op.Resolved.After(delivered) {
			delivered = op.Resolved
		}
		return !delivered.Add(e.EscrowRetention).After(e.Now())
	})
	if err != nil && ctx.Err() == nil {
		e.Log.Error("escrow not cleared", "error", err)
	}
	if len(removed) > 0 {
		e.Log.Info("escrow copies of delivered secrets removed", "count", len(removed))
	}
}

// unsettled returns the operations of the last weeks whose secret waits, whose outcome
// nobody knows, or that left a compromised token behind.
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
	if op.ErrorCode != codeOldAlive {
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
	if err := e.end(ctx, lease, &op, r); err != nil {
		return errors.Join(err, lease.Release(ctx)) // for the next one who looks
	}
	e.Log.Warn("operation was cut off", "operation", id, "tool", op.Tool, "connection", op.Connection, "step", op.Step, "outcome", r.Outcome, "head", lease.Head().Hash)
	return nil
}

// end puts the outcome on record: of a delivery, first that its secret is delivered.
func (e *Env) end(ctx context.Context, lease *ledger.Lease, op *ledger.Operation, r ledger.Result) error {
	if op.Of != "" && r.Outcome == ledger.Done {
		minting, err := e.Ledger.Get(ctx, op.Of)
		if err != nil {
			return err
		}
		if err := e.Ledger.Resolve(ctx, op.Of, op.ID, resolution(r.Verified, oldAlive(&minting, r.Verified))); err != nil && !errors.Is(err, ledger.ErrFinished) {
			return err
		}
	}
	return lease.Finish(ctx, r)
}

// known is what is known of an operation that was cut off.
func (e *Env) known(ctx context.Context, op *ledger.Operation) ledger.Result {
	unknown := ledger.Result{Outcome: ledger.Unknown, ErrorCode: codeInterrupted}
	switch {
	case op.Group:
		unknown.Note = "cut off; each target that was begun is an operation of its own. Call again without confirm for a preview of what is left"
		return unknown
	case op.Of != "" && isDelivered(op):
		return ledger.Result{Outcome: ledger.Done, Details: ledger.Details{NewTokenID: op.Targets[0].ID, Verified: cmp.Or(op.Verified, verifiedSkipped)}}
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
	_, meta, err := e.Escrow.Get(ctx, op.ID)
	switch {
	case err == nil:
		return inEscrow(ledger.Details{NewTokenID: meta.TokenID, OldTokenID: replacedBy(op.Targets, meta.TokenID), Note: keptNote(op)})
	case !errors.Is(err, fs.ErrNotExist): // it is kept all the same
		e.Log.Error("escrow not readable", "operation", op.ID, "error", err)
		return inEscrow(ledger.Details{Note: "cut off; the escrow cannot be read now, so whether the secret is there is not known"})
	case isDelivered(op): // nothing but an operator removes an escrow copy before the end
		return ledger.Result{Outcome: ledger.Done, ErrorCode: codeInterrupted, Details: ledger.Details{
			Verified: cmp.Or(op.Verified, verifiedSkipped), Note: "cut off after the delivery",
		}}
	case op.NewTokenID != "":
		// A server that has lost the record, and nothing else, delivers all the same.
		unknown.Note = "cut off before the secret was safe: unless it is in " + op.Sink + "/" + op.Key + ", nobody has the secret of token " + op.NewTokenID +
			": look there, then revoke or rotate it"
		if old := oldAlive(op, ""); old != "" {
			unknown.Note += "; " + old
		}
	case len(op.Targets) > 0:
		unknown.Note = "cut off; whether the secret of token " + op.Targets[0].ID +
			" was replaced is not known: list tokens with its name, revoke one that nobody expected, then rotate it again"
	default:
		unknown.Note = "cut off; whether the token was made is not known: list tokens with this name, revoke one that nobody expected"
	}
	return unknown
}

// codeInterrupted is on record of what was cut off.
const codeInterrupted = "interrupted"

// isDelivered reports whether the sink took the secret, as far as is on record.
func isDelivered(op *ledger.Operation) bool {
	return op.Step == stepDelivered || op.Step == stepVerified
}

func inEscrow(d ledger.Details) ledger.Result {
	return ledger.Result{Outcome: ledger.Escrowed, ErrorCode: codeInterrupted, Details: d}
}

// replacedBy returns the token that a rotation gave a successor, empty where it kept its
// id or none was rotated.
func replacedBy(targets []ledger.Target, token string) string {
	if len(targets) != 1 || targets[0].ID == token {
		return ""
	}
	return targets[0].ID
}

// keptNote says of a secret in escrow how far its delivery came.
func keptNote(op *ledger.Operation) string {
	if !isDelivered(op) {
		return "cut off before the delivery was on record; the secret is in escrow"
	}
	return "cut off after the delivery; deliver_secret without deliver_to finishes it"
}
