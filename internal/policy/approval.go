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

// ApprovalSecond is stricter than any setting of one risk: a human must agree who is another principal
// than who asks. HumanApproval.SecondPerson demands it.
const ApprovalSecond Approval = "second_person"

// Approvals returns the approvals that one risk can be given.
func Approvals() []Approval { return []Approval{ApprovalOff, ApprovalWhenPossible, ApprovalRequired} }

// Meets reports whether what meets a meets the demand too. What is none of the approvals meets
// nothing, and as a demand is met by ApprovalRequired and what is stricter.
func (a Approval) Meets(demand Approval) bool { return a.rank() >= demand.strictness() }

// rank orders approvals; -1 is none of them.
func (a Approval) rank() int { return slices.Index(append(Approvals(), ApprovalSecond), a) }

// strictness orders demands.
func (a Approval) strictness() int {
	if rank := a.rank(); rank >= 0 {
		return rank
	}
	return ApprovalRequired.rank()
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
	// SecondPerson demands ApprovalSecond for more than one token, whatever Bulk says.
	SecondPerson bool
}

// For returns when a human must agree to a change of that risk. Several tokens demand at least what
// one does: else whoever may not end one alone would name it in a list. For an organization it is never
// less than ApprovalRequired.
func (h HumanApproval) For(r Risk) Approval {
	single, bulk := cmp.Or(h.Single, ApprovalOff), cmp.Or(h.Bulk, ApprovalWhenPossible)
	switch {
	case r == RiskSingle:
		return single
	case h.SecondPerson:
		return ApprovalSecond
	case r == RiskBulk:
		if single.strictness() > bulk.strictness() {
			return single
		}
		return bulk
	default:
		return ApprovalRequired
	}
}
