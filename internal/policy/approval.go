package policy

import (
	"cmp"
	"slices"
)

// Approval is when a human must agree to a change, besides the caller's confirm code.
type Approval string

// The approvals. ApprovalWhenPossible asks where the client can ask its user.
const (
	ApprovalOff          Approval = "off"
	ApprovalWhenPossible Approval = "when_possible"
	ApprovalRequired     Approval = "required"
)

// Approvals returns all approvals.
func Approvals() []Approval { return []Approval{ApprovalOff, ApprovalWhenPossible, ApprovalRequired} }

// Meets reports whether what meets a meets the demand too. What is none of the approvals meets
// nothing, and as a demand is met by ApprovalRequired only.
func (a Approval) Meets(demand Approval) bool {
	return slices.Index(Approvals(), a) >= demand.strictness()
}

// strictness orders demands.
func (a Approval) strictness() int {
	if i := slices.Index(Approvals(), a); i >= 0 {
		return i
	}
	return len(Approvals()) - 1
}

// Risk is how much a change can end.
type Risk string

// The risks: one token, several, or every token of an organization.
const (
	RiskSingle  Risk = "single"
	RiskBulk    Risk = "bulk"
	RiskOrgWide Risk = "org_wide"
)

// HumanApproval says when a human must agree. The zero value is the default: off
// for one token, when possible for several.
type HumanApproval struct {
	Single Approval
	Bulk   Approval
	// TrustClient lets the answer of a client on stdio stand for its user's where
	// approval is required.
	TrustClient bool
}

// For returns when a human must agree to a change of that risk. Several tokens demand at least what
// one does: else whoever may not end one alone would name it in a list. Nothing but ApprovalRequired
// holds for an organization.
func (h HumanApproval) For(r Risk) Approval {
	single, bulk := cmp.Or(h.Single, ApprovalOff), cmp.Or(h.Bulk, ApprovalWhenPossible)
	switch r {
	case RiskSingle:
		return single
	case RiskBulk:
		if single.strictness() > bulk.strictness() {
			return single
		}
		return bulk
	default:
		return ApprovalRequired
	}
}
