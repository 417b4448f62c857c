package policy_test

import (
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
