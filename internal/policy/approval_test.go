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

func TestApprovalMeets(t *testing.T) {
	t.Parallel()
	const off, possible, required = policy.ApprovalOff, policy.ApprovalWhenPossible, policy.ApprovalRequired
	met := map[policy.Approval][]policy.Approval{ // by the demands that it meets
		off: {off}, possible: {off, possible}, required: {off, possible, required, "", "next"}, "": nil, "next": nil,
	}
	for a, meets := range met {
		for demand := range met {
			if got, want := a.Meets(demand), slices.Contains(meets, demand); got != want {
				t.Errorf("%q meets %q: %v, want %v", a, demand, got, want)
			}
		}
	}
}
