package tools

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tokenreeve/tokenreeve/providers"
)

// act ends the targets.
func (b *bulk) act(ctx context.Context, plan bulkPlan) (bulkRevokeTokensOut, error) {
	c := b.call
	c.Log.Info("bulk revocation", "connection", b.connection.Name, "targets", len(plan.tokens), "principal", c.Principal.Name, "reason", clean(b.in.Reason))
	if b.in.Everything || b.in.AllOfServiceAccount {
		return b.actAtOnce(ctx, plan)
	}
	out := bulkRevokeTokensOut{Counts: map[string]int{}}
	for _, id := range plan.gone {
		out.note(bulkResult{ID: clean(id), Result: resultAlreadyGone})
	}
	stop := b.revokeEach(ctx, plan.tokens, &out)
	out.Status = statusRevoked
	if out.Counts[resultNotAttempt] > 0 || out.Counts[resultFailed] > 0 {
		out.Status = statusPartial
		out.Next = "stopped: " + stop + ". Call again without confirm for a preview of what is left"
		if stop == "" {
			out.Next = "some targets failed; call again without confirm for a preview of what is left"
		}
	}
	out.shortenReasons()
	b.recheck(ctx, plan, &out)
	return out, nil
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
func (b *bulk) revokeEach(ctx context.Context, tokens []providers.Token, out *bulkRevokeTokensOut) (stop string) {
	revoker := b.connection.Provider.(providers.Revoker)
	deadline := b.call.Now().Add(bulkTime)
	ended := b.call.SessionDone(ctx)
	for i := range tokens {
		if stop == "" {
			stop = b.mustStop(ctx, ended, deadline)
		}
		if stop != "" {
			out.note(bulkResult{ID: tokens[i].ID, Result: resultNotAttempt})
			continue
		}
		err := b.call.protectedFromCancel(ctx, func(ctx context.Context) {
			revocation, err := revoker.Revoke(ctx, tokens[i])
			b.connection.Note(err, b.call.Now())
			b.call.Log.Info("revocation", "connection", b.connection.Name, "token", tokens[i].ID, "principal", b.call.Principal.Name, "outcome", revocation, "failed", err != nil)
			out.note(resultOf(tokens[i].ID, revocation, err))
			if providers.CodeOf(err) == providers.CodeCredentialRejected {
				stop = "the vendor rejected the credential"
			}
		})
		if err != nil {
			stop = err.Error()
			out.note(bulkResult{ID: tokens[i].ID, Result: resultNotAttempt})
		}
		b.progress.add(1)
	}
	return stop
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

func resultOf(id string, revocation providers.Revocation, err error) bulkResult {
	if err != nil {
		why := "the server failed"
		if p := problemOf(err); p != nil {
			why = p.Code + ": " + p.Message
		}
		return bulkResult{ID: id, Result: resultFailed, Why: why}
	}
	return bulkResult{ID: id, Result: string(revocation)}
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
func (b *bulk) actAtOnce(ctx context.Context, plan bulkPlan) (bulkRevokeTokensOut, error) {
	out := bulkRevokeTokensOut{Counts: map[string]int{"targets": len(plan.tokens)}}
	var failure error
	err := b.call.protectedFromCancel(ctx, func(ctx context.Context) {
		revoker := b.connection.Provider.(providers.BulkRevoker)
		if b.in.Everything {
			failure = revoker.RevokeEverything(ctx)
		} else {
			failure = revoker.RevokeServiceAccount(ctx, b.in.ServiceAccounts[0])
		}
		b.connection.Note(failure, b.call.Now())
	})
	if err != nil {
		return out, err
	}
	if failure != nil {
		return out, failure
	}
	out.Status = statusRevoked
	b.recheck(ctx, plan, &out)
	return out, nil
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
