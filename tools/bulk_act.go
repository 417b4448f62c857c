package tools

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/tokenreeve/tokenreeve/internal/fault"
	"github.com/tokenreeve/tokenreeve/internal/ledger"
	"github.com/tokenreeve/tokenreeve/providers"
)

// act ends the targets. The whole is one operation on record, and each target another
// one below it.
func (b *bulk) act(ctx context.Context, i ledger.Intent, plan bulkPlan) (bulkRevokeTokensOut, error) {
	if b.in.Everything || b.in.AllOfServiceAccount {
		return b.actAtOnce(ctx, i, plan)
	}
	out := bulkRevokeTokensOut{Counts: map[string]int{}}
	i.Group = true
	var group *operation
	var failure error
	err := b.call.protectedFromCancel(ctx, func(ctx context.Context) { group, failure = b.call.begin(ctx, "", i) })
	if err := errors.Join(err, failure); err != nil {
		return out, err
	}
	out.OperationID = group.id
	i.Group, i.Parent = false, group.id
	for _, id := range plan.Gone {
		out.note(bulkResult{ID: clean(id), Result: resultAlreadyGone})
		i.Targets = []ledger.Target{{ID: id}}
		_, warning := b.call.recordGone(ctx, i)
		out.warn(warning)
	}
	stop := b.revokeEach(ctx, i, plan.Tokens, &out)
	out.Status = statusRevoked
	if out.Counts[resultNotAttempt]+out.Counts[resultFailed]+out.Counts[statusUnknown] > 0 {
		out.Status = statusPartial
		out.Next = "stopped: " + stop + ". Call again without confirm for a preview of what is left"
		if stop == "" {
			out.Next = "some targets failed, or their answers were lost; call again without confirm for a preview of what is left"
		}
	}
	out.warn(group.finish(ctx, b.onRecord(&out)))
	out.shortenReasons()
	b.recheck(ctx, plan, &out)
	return out, nil
}

// onRecord is the outcome of the whole: what became of each target stands with it.
// Who looks for what nobody knows, or for what was not done, must find the whole.
func (b *bulk) onRecord(out *bulkRevokeTokensOut) ledger.Result {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(out.Counts)) {
		parts = append(parts, fmt.Sprintf("%d %s", out.Counts[name], name))
	}
	r := ledger.Result{Outcome: ledger.Done, Details: ledger.Details{Note: strings.Join(parts, ", ")}}
	if out.Status != statusPartial {
		return r
	}
	r.ErrorCode = statusPartial
	switch {
	case b.lost > 0:
		r.Outcome = ledger.Unknown
	case out.Counts[statusRevoked]+out.Counts[resultAlreadyGone] == 0:
		r.Outcome, r.ErrorCode = ledger.Failed, "nothing_revoked"
	}
	return r
}

// maxReasons bounds what is told of why targets failed, in tokens of a language model.
const maxReasons = 2500

// shortenReasons leaves only the code of a reason that stands there already, and of
// what no longer fits.
func (o *bulkRevokeTokensOut) shortenReasons() {
	told := map[string]bool{}
	left := maxReasons
	for i := range o.Results {
		r := &o.Results[i]
		cost := tokensOf(r.Why)
		if told[r.Why] || cost > left {
			r.Why, _, _ = strings.Cut(r.Why, ":")
			continue
		}
		told[r.Why] = true
		left -= cost
	}
}

// revokeEach ends target after target and returns why it stopped early, or "".
func (b *bulk) revokeEach(ctx context.Context, i ledger.Intent, tokens []providers.Token, out *bulkRevokeTokensOut) (stop string) {
	deadline := b.call.Now().Add(bulkTime)
	ended := b.call.SessionDone(ctx)
	for n := range tokens {
		if stop == "" {
			stop = b.mustStop(ctx, ended, deadline)
		}
		if stop != "" {
			out.note(bulkResult{ID: tokens[n].ID, Result: resultNotAttempt})
			continue
		}
		i.Targets = []ledger.Target{targetOf(&tokens[n])}
		err := b.call.protectedFromCancel(ctx, func(ctx context.Context) {
			ending, err := b.call.endToken(ctx, b.connection, i, tokens[n])
			out.note(resultOf(tokens[n].ID, ending, err))
			out.warn(ending.warning)
			if ending.outcome == ledger.Unknown {
				b.lost++
			}
			stop = stopAfter(err)
		})
		if err != nil {
			stop = err.Error()
			out.note(bulkResult{ID: tokens[n].ID, Result: resultNotAttempt})
		}
		b.progress.add(1)
	}
	return stop
}

// stopAfter says why no further target may be touched after one that failed so, or "".
func stopAfter(err error) string {
	switch problemCode(err) {
	case providers.CodeCredentialRejected:
		return "the vendor rejected the credential"
	case codeLedger, codeLimit:
		return problemOf(err).Message
	}
	return ""
}

// mustStop says why no further target may be touched, or "".
func (b *bulk) mustStop(ctx context.Context, ended <-chan struct{}, deadline time.Time) string {
	if b.call.Work.IsStopping() { // told first: it ends sessions and calls as well
		return "the server is shutting down"
	}
	select {
	case <-ended:
		return "the session was closed"
	case <-ctx.Done():
		return "the call was cancelled"
	default:
	}
	if !b.call.Now().Before(deadline) {
		return fmt.Sprintf("%v are over", bulkTime)
	}
	return ""
}

func resultOf(id string, e ending, err error) bulkResult {
	if err != nil {
		why := "the server failed"
		if p := problemOf(err); p != nil {
			why = p.Code + ": " + p.Message
		}
		result := resultFailed
		if e.outcome == ledger.Unknown {
			result = statusUnknown
		}
		return bulkResult{ID: id, Result: result, Why: why}
	}
	return bulkResult{ID: id, Result: string(e.revocation)}
}

func (o *bulkRevokeTokensOut) note(r bulkResult) {
	o.Counts[r.Result]++
	if r.Result == statusRevoked {
		o.Revoked = append(o.Revoked, r.ID)
		return
	}
	o.Results = append(o.Results, r)
}

// actAtOnce makes the vendor's all-or-nothing call and reads what is left.
func (b *bulk) actAtOnce(ctx context.Context, i ledger.Intent, plan bulkPlan) (bulkRevokeTokensOut, error) {
	out := bulkRevokeTokensOut{Counts: map[string]int{"targets": len(plan.Tokens) + len(plan.everyone)}}
	var limits []ledger.Limit
	if b.in.AllOfServiceAccount {
		limits = append(limits, b.call.revocationLimit(b.connection))
	}
	var failure error
	err := b.call.protectedFromCancel(ctx, func(ctx context.Context) {
		o, err := b.call.begin(ctx, "", i, limits...)
		if err != nil {
			failure = err
			return
		}
		out.OperationID = o.id
		ctx, trace := providers.WithTrace(ctx)
		err = b.endAll(ctx)
		fault.Point("answered")
		b.connection.Note(err, b.call.Now())
		r := ended(err, trace)
		out.warn(o.finish(ctx, r))
		switch {
		case r.Outcome == ledger.Unknown:
			out.Status = statusUnknown
			out.warn(sentence(err))
			out.Next = "the answer was lost; it is not sent again. See still_matching, and list again in a minute: what is left then needs a new preview"
		case err != nil:
			failure = fmt.Errorf("operation %s: %w", o.id, err)
		}
	})
	if err := errors.Join(err, failure); err != nil {
		return out, err
	}
	out.Status = cmp.Or(out.Status, statusRevoked)
	b.recheck(ctx, plan, &out)
	return out, nil
}

func (b *bulk) endAll(ctx context.Context) error {
	revoker := b.connection.Provider.(providers.BulkRevoker)
	if b.in.Everything {
		return revoker.RevokeEverything(ctx)
	}
	return revoker.RevokeServiceAccount(ctx, b.in.ServiceAccounts[0])
}

// recheck lists again and tells what of the selection is still there.
func (b *bulk) recheck(ctx context.Context, plan bulkPlan, out *bulkRevokeTokensOut) {
	if b.call.Work.IsStopping() {
		out.Warnings = append(out.Warnings, "not listed again: the server is shutting down")
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), recheckTime)
	defer cancel()
	listed, covered := b.list(ctx, plan.filter)
	if covered.Error != nil {
		out.Warnings = append(out.Warnings, "listing again failed: "+covered.Error.Message)
		return
	}
	left := 0
	for i := range listed {
		id := listed[i].ID
		if len(b.in.TokenIDs) > 0 && !slices.Contains(b.in.TokenIDs, id) || slices.Contains(b.in.Exclude, id) {
			continue
		}
		if left++; left <= maxStillIDs {
			out.LeftIDs = append(out.LeftIDs, id)
		}
	}
	out.Left = &left
	if left > 0 {
		out.Warnings = append(out.Warnings, "what still matches was spared, failed, not attempted or is new; the vendor's list may also lag behind")
	}
	if !covered.Complete {
		out.Warnings = append(out.Warnings, "the listing afterwards is not complete ("+strings.Join(covered.Limits, ", ")+")")
	}
}
