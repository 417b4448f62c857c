package policy

import "cmp"

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

// For returns when a human must agree to a change of that risk. Nothing but
// ApprovalRequired holds for an organization.
func (h HumanApproval) For(r Risk) Approval {
	switch r {
	case RiskSingle:
		return cmp.Or(h.Single, ApprovalOff)
	case RiskBulk:
		return cmp.Or(h.Bulk, ApprovalWhenPossible)
	default:
		return ApprovalRequired
	}
}
