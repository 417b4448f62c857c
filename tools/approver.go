package tools

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/tokenreeve/tokenreeve/auth"
	"github.com/tokenreeve/tokenreeve/internal/ledger"
)

// The codes of what an approver over HTTP is refused.
const (
	CodeNoPreview      = "no_preview"
	CodeOwnPreview     = "own_preview"
	CodeAlreadyDecided = "already_decided"
	CodeWrongPhrase    = "wrong_phrase"
	CodeFormSpent      = "form_spent"
)

// Approvable is a preview as who may approve it sees it. Its JSON is what `tokenreeve approve
// --server` reads.
type Approvable struct {
	PreviewID  string              `json:"preview_id"`
	AskedBy    string              `json:"asked_by"`
	State      ledger.PreviewState `json:"state"`
	Expires    time.Time           `json:"expires"`
	ApprovedBy string              `json:"approved_by,omitempty"`
	DeclinedBy string              `json:"declined_by,omitempty"`
	// Shown is what the change would do; of one that was carried out, tool and connection only.
	Shown Shown `json:"shown"`
	// OperationID and Outcome are those of a preview that was carried out.
	OperationID string         `json:"operation_id,omitempty"`
	Outcome     ledger.Outcome `json:"outcome,omitempty"`
	// Form is what one decision must bring back; empty where nothing can be decided. CanApprove says
	// that a yes changes something: there is none yet, or that of who asked only.
	Form       string `json:"form,omitempty"`
	CanApprove bool   `json:"can_approve,omitempty"`
}

// Decision is a person's yes or no.
type Decision struct {
	Approve bool
	Phrase  string // typed; needed for a yes
	Form    string // of the page or answer that showed the preview
}

// ToApprove returns a preview for who may approve it, with a new form where it is open. Who may not
// is told the same as of one that does not exist, unless it is their own. Its error is a [Problem].
func (e *Env) ToApprove(ctx context.Context, who auth.Principal, id string) (Approvable, error) {
	a, p, err := e.judged(ctx, who, id)
	if err != nil || p.State != ledger.PreviewOpen {
		return a, err
	}
	a.CanApprove = !p.IsApprovedByOther()
	a.Form, err = e.Ledger.OpenForm(ctx, id, who.Name)
	if errors.Is(err, ledger.ErrPreviewOver) { // just now
		a, _, err = e.judged(ctx, who, id)
		return a, err
	}
	return a, e.undecided(err)
}

// Decide records the yes or no of who may approve the preview, and returns it as it is then.
func (e *Env) Decide(ctx context.Context, who auth.Principal, id string, d Decision) (Approvable, error) {
	a, p, err := e.judged(ctx, who, id)
	switch {
	case err != nil:
		return a, err
	case p.State != ledger.PreviewOpen:
		return a, decided("the preview is " + string(p.State) + " already")
	case d.Approve && strings.TrimSpace(d.Phrase) != a.Shown.Phrase:
		return a, &Problem{Code: CodeWrongPhrase, Message: "nothing was approved: the phrase is " + a.Shown.Phrase, Next: "type it exactly so"}
	}
	decide, word := e.Ledger.DeclineByForm, "declined"
	if d.Approve {
		decide, word = e.Ledger.ApproveByForm, "approved"
	}
	p, err = decide(ctx, id, d.Form, ledger.Decider{Principal: who.Name, From: from(who)})
	if err != nil {
		return a, e.undecided(err)
	}
	e.Log.Info("preview "+word, "preview", p.ID, "principal", who.Name, "method", who.Method, "address", who.Address)
	a.State, a.ApprovedBy, a.DeclinedBy = p.State, p.Approval(), p.DeclinedBy
	return a, nil
}

// from says how a caller was known, and from where.
func from(who auth.Principal) string {
	if who.Address == "" {
		return who.Method
	}
	return who.Method + " from " + who.Address
}

// judged returns a preview that who may approve.
func (e *Env) judged(ctx context.Context, who auth.Principal, id string) (Approvable, ledger.Preview, error) {
	p := ledger.Preview{}
	if !e.HasLedger() {
		return Approvable{}, p, noPreview()
	}
	p, err := e.Ledger.FindPreview(ctx, id)
	if err != nil {
		return Approvable{}, p, e.undecided(err)
	}
	a := Approvable{
		PreviewID: p.ID, AskedBy: p.Principal, State: p.State, Expires: p.Expires,
		ApprovedBy: p.Approval(), DeclinedBy: p.DeclinedBy,
	}
	if p.State == ledger.PreviewDone { // its plan is gone, and what was done is on record
		err = e.carriedOut(ctx, &a)
	} else if a.Shown, err = ShownOf(p); err == nil && a.Shown.Phrase == "" {
		err = ledger.ErrNotFound // it does not say what it would do
	}
	switch {
	case err != nil:
		return Approvable{}, p, e.undecided(err)
	case who.Name == p.Principal:
		return Approvable{}, p, &Problem{
			Code: CodeOwnPreview, Message: "you asked for this yourself, as " + who.Name + ", and nobody approves their own, whatever other roles they have",
			Next: "have another caller with the role approver open it",
		}
	case !who.MayApprove(p.Principal, a.Shown.Connection):
		return Approvable{}, p, noPreview()
	}
	return a, p, nil
}

// carriedOut takes what a change was from its operation.
func (e *Env) carriedOut(ctx context.Context, a *Approvable) error {
	page, err := e.Ledger.List(ctx, ledger.Query{Preview: a.PreviewID, TopLevel: true, Limit: 1})
	if err != nil {
		return err
	}
	if len(page.Operations) == 0 {
		return ledger.ErrNotFound
	}
	op := page.Operations[0]
	a.Shown = Shown{Tool: op.Tool, Connection: op.Connection}
	a.OperationID, a.Outcome = op.ID, op.Outcome
	return nil
}

// undecided explains an error of the ledger to an approver.
func (e *Env) undecided(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, ledger.ErrNotFound):
		return noPreview()
	case errors.Is(err, ledger.ErrPreviewOver):
		return decided("the preview was decided on meanwhile")
	case errors.Is(err, ledger.ErrFormSpent):
		return &Problem{
			Code: CodeFormSpent, Message: "nothing was decided: this form was used already, is too old, or is of another preview or person",
			Next: "open the preview again",
		}
	}
	e.Log.Error("the ledger cannot be used", "error", err)
	return &Problem{Code: codeLedger, Message: "nothing was decided: the server's ledger cannot be used", Next: "ask the operator"}
}

func noPreview() error {
	return &Problem{
		Code: CodeNoPreview, Message: "there is no such preview for you to approve: it has expired (they live for ten minutes), or is of a connection that is not yours to approve",
		Next: "ask for a new one",
	}
}

func decided(how string) error {
	return &Problem{Code: CodeAlreadyDecided, Message: "nothing was decided: " + how, Next: "open the preview again to see how it ended"}
}
