package policy_test

import (
	"slices"
	"testing"

	"github.com/tokenreeve/tokenreeve/internal/policy"
)

func TestHumanApproval(t *testing.T) {
	t.Parallel()
	const off, possible, required = policy.ApprovalOff, policy.ApprovalWhenPossible, policy.ApprovalRequired
	tests := map[string]struct {
		approval     policy.HumanApproval
		single, bulk policy.Approval
	}{
		"default":       {policy.HumanApproval{}, off, possible},
		"off":           {policy.HumanApproval{Single: off, Bulk: off, TrustClient: true}, off, off},
		"when possible": {policy.HumanApproval{Single: possible, Bulk: possible}, possible, possible},
		"required":      {policy.HumanApproval{Single: required, Bulk: required}, required, required},
		"one of them":   {policy.HumanApproval{Bulk: required}, off, required},
		"single alone":  {policy.HumanApproval{Single: required}, required, required},
		"bulk looser":   {policy.HumanApproval{Single: required, Bulk: off}, required, required},
		"a bit looser":  {policy.HumanApproval{Single: possible, Bulk: off}, possible, possible},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for risk, want := range map[policy.Risk]policy.Approval{
				policy.RiskSingle: tt.single, policy.RiskBulk: tt.bulk, policy.RiskOrgWide: required, "": required, "next": required,
			} {
				if got := tt.approval.For(risk); got != want {
					t.Errorf("%q: %s, want %s", risk, got, want)
				}
			}
		})
	}
}

// What is more than one token then needs another principal, whatever is set for it.
func TestSecondPerson(t *testing.T) {
	t.Parallel()
	for _, single := range append(policy.Approvals(), "") {
		for _, bulk := range append(policy.Approvals(), "") {
			h := policy.HumanApproval{Single: single, Bulk: bulk, SecondPerson: true, TrustClient: true}
			for _, risk := range []policy.Risk{policy.RiskBulk, policy.RiskOrgWide, "", "next"} {
				if got := h.For(risk); got != policy.ApprovalSecond {
					t.Errorf("single %q, bulk %q, %q: %s", single, bulk, risk, got)
				}
			}
			if got, want := h.For(policy.RiskSingle), (policy.HumanApproval{Single: single}).For(policy.RiskSingle); got != want {
				t.Errorf("single %q: %s", single, got)
			}
		}
	}
}

func TestApprovalMeets(t *testing.T) {
	t.Parallel()
	const off, possible, required = policy.ApprovalOff, policy.ApprovalWhenPossible, policy.ApprovalRequired
	const second = policy.ApprovalSecond
	met := map[policy.Approval][]policy.Approval{ // by the demands that it meets
		off: {off}, possible: {off, possible}, required: {off, possible, required, "", "next"},
		second: {off, possible, required, second, "", "next"}, "": nil, "next": nil,
	}
	for a, meets := range met {
		for demand := range met {
			if got, want := a.Meets(demand), slices.Contains(meets, demand); got != want {
				t.Errorf("%q meets %q: %v, want %v", a, demand, got, want)
			}
		}
	}
}
