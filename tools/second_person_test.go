package tools_test

import (
	"context"
	"strings"
	"testing"

	"github.com/tokenreeve/tokenreeve/auth"
	"github.com/tokenreeve/tokenreeve/internal/ledger"
	"github.com/tokenreeve/tokenreeve/internal/policy"
	"github.com/tokenreeve/tokenreeve/tools"
)

// approvedBy approves what a preview showed as a page does it.
func (h *harness) approvedBy(shown result, who ledger.Decider) {
	h.t.Helper()
	h.atTerminal(func(l *ledger.Ledger) error {
		form, err := l.OpenForm(context.Background(), shown.str("preview_id"), who.Principal)
		if err == nil {
			_, err = l.ApproveByForm(context.Background(), shown.str("preview_id"), form, who)
		}
		return err
	})
}

// TestSecondPerson: what takes several tokens needs another principal, whatever the requester's
// client answers and whatever is typed at the terminal of the same user.
func TestSecondPerson(t *testing.T) {
	t.Parallel()
	zoe := ledger.Decider{Principal: "token:zoe", From: "static from 192.0.2.7"}
	approval := policy.HumanApproval{Bulk: policy.ApprovalWhenPossible, SecondPerson: true, TrustClient: true}
	for _, protocol := range []string{"2025-11-25", "2026-07-28"} {
		t.Run(protocol, func(t *testing.T) {
			t.Parallel()
			p := &person{answer: typePhrase}
			h := start(t, setup{box: few(), protocol: protocol, elicit: p.elicit, approval: approval})
			c := proposals()["bulk by filters"]
			a := c.args(h)
			shown := h.call(c.tool, a)
			confirmed := with(a, args{"confirm": shown.code()})
			way := "`tokenreeve approve --server URL " + shown.str("preview_id") + "`"
			if next := shown.str("next"); !strings.Contains(next, way) || !strings.Contains(next, "Another person than who asks") {
				t.Errorf("next: %s", next)
			}
			refused := func() {
				t.Helper()
				h.untouched(func() { h.call(c.tool, confirmed).fails("human_required").says("nothing was changed", way) })
			}
			refused()
			h.approveAtTerminal(shown) // the local user's own yes
			refused()
			p.wantAsked(t, 0) // in vain
			h.approvedBy(shown, zoe)
			done := h.call(c.tool, confirmed)
			c.wantDone(h, done)
			h.wantApprovedBy(done, "token:zoe")
			if op := h.operationOf(done); op.ApprovedFrom != zoe.From {
				t.Errorf("approved from %q", op.ApprovedFrom)
			}
			if got := h.call("get_operation", args{"operation_id": done.str("operation_id")}); got.str("approved_by") != "token:zoe" || strings.Contains(got.text, "192.0.2.7") {
				t.Errorf("the caller reads %s", got.text)
			}

			// One token is not several, until there were many.
			h.endMany(6)
			one := args{"connection": launchDarklyName, "token_id": h.addLaunchDarkly("tenth").ID}
			h.endMany(3)
			late := h.call("revoke_token", one)
			h.approveAtTerminal(late)
			h.untouched(func() { h.call("revoke_token", with(one, args{"confirm": late.code()})).fails("human_required") })
			h.approvedBy(late, zoe)
			h.wantApprovedBy(h.call("revoke_token", with(one, args{"confirm": late.code()})).ok(), "token:zoe")
		})
	}
}

// TestSecondPersonOverHTTP: a caller over HTTP is told the page, and the operator's terminal is
// another's for it.
func TestSecondPersonOverHTTP(t *testing.T) {
	t.Parallel()
	h := start(t, setup{box: few(), overHTTP: true, approval: policy.HumanApproval{SecondPerson: true}})
	ctx := auth.WithPrincipal(t.Context(), otherCaller("token:bot"))
	c := proposals()["bulk by filters"]
	a := c.args(h)
	for _, name := range []string{"page", "no page"} { // which acts in the end
		ctx := ctx
		if name == "page" {
			ctx = tools.WithApprovalPage(ctx, "https://tokens.example/approve/")
		}
		shown := h.callWith(ctx, c.tool, a)
		id := shown.str("preview_id")
		way := "have the operator run `tokenreeve approve " + id + "`"
		if name == "page" {
			way = "have an approver open https://tokens.example/approve/" + id + ";"
		}
		if !strings.Contains(shown.str("next"), way) {
			t.Errorf("%s: %s", name, shown.str("next"))
		}
		if n := llmTokens(t, shown.str("next")); n > 80 {
			t.Errorf("%s: next has %d tokens", name, n)
		}
		h.untouched(func() { h.callWith(ctx, c.tool, with(a, args{"confirm": shown.code()})).fails("human_required") })
		if name == "no page" {
			h.approveAtTerminal(shown)
			h.wantApprovedBy(h.callWith(ctx, c.tool, with(a, args{"confirm": shown.code()})).ok(), terminalUser)
		}
	}
}
