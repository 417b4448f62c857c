package tools

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/tokenreeve/tokenreeve/internal/confirm"
	"github.com/tokenreeve/tokenreeve/internal/fault"
	"github.com/tokenreeve/tokenreeve/internal/ledger"
	"github.com/tokenreeve/tokenreeve/internal/policy"
	"github.com/tokenreeve/tokenreeve/internal/telemetry"
	"github.com/tokenreeve/tokenreeve/providers"
)

// preview is the part of a changing tool's result that shows what the change
// would do and gives the code to do it. Every changing tool's result embeds it.
type preview struct {
	Status        string   `json:"status"`
	Replayed      bool     `json:"replayed,omitempty"`
	OperationID   string   `json:"operation_id,omitempty"`
	PreviewID     string   `json:"preview_id,omitempty"`
	Effects       []string `json:"effects,omitempty"`
	Warnings      []string `json:"warnings,omitempty"`
	Confirm       string   `json:"confirm,omitempty"`
	ConfirmBefore string   `json:"confirm_before,omitempty"`
	Next          string   `json:"next,omitempty"`
}

func (p *preview) markReplayed() { p.Replayed = true }

// status tells what a call came to. One that got the result of an earlier call did nothing.
func (p preview) status() string {
	if p.Replayed {
		return "replayed"
	}
	return p.Status
}

// warn adds a warning, if there is one.
func (p *preview) warn(warning string) {
	if warning != "" {
		p.Warnings = append(p.Warnings, warning)
	}
}

// The statuses that all changing tools share.
const (
	statusConfirmationRequired = "confirmation_required"
	statusHandOff              = "hand_off"
	statusUnknown              = "unknown"
)

// recentUse is how young a use must be for a preview to warn of it.
const recentUse = 7 * 24 * time.Hour

// proposal is what a change would do, resolved.
type proposal struct {
	targets  []providers.Token
	shown    []providers.Token // nil: all targets; an org-wide call shows a count instead
	effects  []string
	warnings []string
	risk     policy.Risk
	phrase   string // what a person types to agree
	ends     bool   // it ends secrets that may be in use
	judged   bool   // the plan itself compared the targets with those of the preview
}

// flow is a change that takes a preview and a code. Plan survives JSON: another
// process may carry it out.
type flow[Plan, Out any] struct {
	connection *Connection
	// arguments are those of the call after defaults.
	arguments any
	code      confirmCode
	reason    string
	// plan resolves the targets and refuses what may not be done. At the
	// confirmation it gets the plan that was shown, and judges everything again.
	plan func(ctx context.Context, shown *Plan) (Plan, error)
	// propose shows a plan.
	propose func(Plan) proposal
	// wrap makes the tool's result of a preview. A creation has no targets.
	wrap func(preview, *targets) Out
	// beforeAsking refuses what would be refused after a person agreed; nil: nothing.
	beforeAsking func(ctx context.Context, shown *Plan) error
	// act carries the fresh plan out and puts it on record as the intent says.
	act func(ctx context.Context, i ledger.Intent, plan Plan) (Out, error)
}

// recorded is the result of a change, kept for a caller whose answer was lost.
type recorded struct {
	Out     json.RawMessage `json:"out,omitempty"`
	Problem *Problem        `json:"problem,omitempty"`
}

// run shows the preview, or acts on its code.
func (f flow[Plan, Out]) run(ctx context.Context, c *Call) (any, error) {
	arguments, err := confirm.Canonical(f.arguments)
	if err != nil {
		return nil, err
	}
	check, err := c.peek(ctx, f.code, arguments)
	if err != nil {
		return nil, err
	}
	telemetry.CallFrom(ctx).Preview(check.Preview.ID)
	if check.Verdict != ledger.Accepted {
		return f.answer(ctx, c, check, arguments)
	}
	yes, asking, err := f.approve(ctx, c, check.Preview)
	if isOvertaken(err) { // carried out or decided while a person was asked
		if check, err = c.peek(ctx, f.code, arguments); err != nil {
			return nil, err
		}
		return f.answer(ctx, c, check, arguments)
	}
	if err != nil || asking != nil {
		return asking, err
	}
	c.yes = yes
	check, err = c.Ledger.TakePreview(context.WithoutCancel(ctx), string(f.code), c.Principal.Name, c.Tool.Name, arguments)
	if err != nil {
		return nil, c.noLedger(err)
	}
	if check.Verdict == ledger.Accepted {
		fault.Point("taken")
		return f.confirmed(ctx, c, check.Preview)
	}
	return f.answer(ctx, c, check, arguments)
}

// peek judges a code for this call, and spends nothing.
func (c *Call) peek(ctx context.Context, code confirmCode, arguments json.RawMessage) (ledger.Check, error) {
	check, err := c.Ledger.PeekPreview(ctx, string(code), c.Principal.Name, c.Tool.Name, arguments)
	if err != nil {
		return check, c.noLedger(err)
	}
	return check, nil
}

// answer answers what is not to be carried out now.
func (f flow[Plan, Out]) answer(ctx context.Context, c *Call, check ledger.Check, arguments json.RawMessage) (any, error) {
	switch check.Verdict {
	case ledger.Mismatch:
		return nil, mismatch(check.Changed)
	case ledger.Declined:
		return nil, declined(check.Preview.ID)
	case ledger.Running:
		return nil, c.running(ctx, check.Preview)
	case ledger.PreviewEnded:
		return replay[Out](check.Result)
	case ledger.Accepted: // given back while a person was asked
		return nil, c.notApproved(ctx, check.Preview.ID, "another call had the preview meanwhile")
	default:
		return f.show(ctx, c, arguments)
	}
}

func replay[Out any](result json.RawMessage) (any, error) {
	var r recorded
	var out Out
	if err := json.Unmarshal(result, &r); err != nil {
		return out, fmt.Errorf("recorded result: %w", err)
	}
	if r.Problem != nil {
		r.Problem.Replayed = true
		return out, r.Problem
	}
	if err := json.Unmarshal(r.Out, &out); err != nil {
		return out, fmt.Errorf("recorded result: %w", err)
	}
	if marked, ok := any(&out).(interface{ markReplayed() }); ok {
		marked.markReplayed()
	}
	return out, nil
}

func mismatch(changed []string) error {
	return &Problem{
		Code:    "preview_mismatch",
		Message: "nothing was changed: the code belongs to a preview with another " + joinWords(changed),
		Next:    "repeat the call exactly as it was previewed, or leave confirm out for a new preview",
	}
}

// running answers the repetition of a call that has not ended, or whose process is
// gone.
func (c *Call) running(ctx context.Context, p ledger.Preview) error {
	c.Settle(ctx)
	page, err := c.Ledger.List(ctx, ledger.Query{Preview: p.ID, TopLevel: true, Limit: 1})
	if err != nil {
		return c.noLedger(err)
	}
	inProgress := &Problem{Code: "in_progress", Message: "this change is being carried out", Next: "repeat this call in a few seconds for its result"}
	if len(page.Operations) == 0 {
		if c.Now().Sub(p.Taken) < callTime { // until then it may still be sent
			return inProgress
		}
		return &Problem{Code: codeInterrupted, Message: "the change was cut off before anything was sent", Next: "call again without confirm for a new preview"}
	}
	op := page.Operations[0]
	// Between the outcome and the result stands a last look at the vendor.
	if op.IsOpen() || op.Claims == 0 && c.Now().Sub(op.Ended) < changeTime {
		inProgress.Next += ", or call get_operation " + op.ID
		return inProgress
	}
	return &Problem{
		Code: codeInterrupted, Message: "the change was cut off; it ended as " + string(op.Outcome),
		Next: "call get_operation " + op.ID,
	}
}

// show resolves the change and returns its preview with a code.
func (f flow[Plan, Out]) show(ctx context.Context, c *Call, arguments json.RawMessage) (any, error) {
	plan, err := f.plan(ctx, nil)
	if err != nil {
		return nil, err
	}
	p := f.propose(plan)
	if p.shown == nil {
		p.shown = p.targets
	}
	if warning := alteredWarning(p.shown...); warning != "" {
		p.warnings = append(p.warnings, warning)
	}
	shown := preview{
		Status: statusConfirmationRequired, Effects: p.effects, Warnings: p.warnings,
		Next: "nothing was changed yet. To do exactly this, call again with the same arguments and this confirm code",
	}
	var table *targets
	if len(p.shown) > 0 {
		table = targetsOf(p.shown)
	}
	identity, err := f.connection.Provider.Identity(ctx)
	if err != nil {
		return nil, err
	}
	stored, err := json.Marshal(stored[Plan]{Account: identity.Account, Plan: plan, Shown: f.shown(c, p, table)})
	if err != nil {
		return nil, fmt.Errorf("plan as JSON: %w", err)
	}
	opened, code, err := c.Ledger.OpenPreview(ctx, ledger.Preview{Principal: c.Principal.Name, Tool: c.Tool.Name, Arguments: arguments, Plan: stored})
	if err != nil {
		return nil, c.noLedger(err)
	}
	shown.PreviewID, shown.Confirm, shown.ConfirmBefore = opened.ID, code, opened.Expires.UTC().Format(time.RFC3339)
	if f.code != "" {
		shown.warn("confirm was not a valid code (codes work once, for ten minutes, for the same caller); this is a new preview")
	}
	needed, err := c.needsPerson(ctx, p.risk, p.ends)
	if err != nil {
		return nil, err
	}
	if needed.Meets(policy.ApprovalRequired) && !c.asks(ctx, needed) {
		shown.Next = "nothing was changed yet. " + whoAgrees(needed) + " must agree first: " + c.wayToApprove(ctx, opened.ID, needed) +
			"; then call again with the same arguments and this confirm code"
	}
	telemetry.CallFrom(ctx).Preview(opened.ID)
	c.Log.Info("preview", "preview", opened.ID, "tool", c.Tool.Name, "connection", f.connection.Name, "principal", c.Principal.Name, "targets", len(p.targets))
	return f.wrap(shown, table), nil
}

// confirmed judges everything again and acts. The code is spent, so the outcome
// is recorded whatever it is; only where nothing was sent and nothing refused, the
// code is given back.
func (f flow[Plan, Out]) confirmed(ctx context.Context, c *Call, shown ledger.Preview) (_ any, err error) {
	var out Out
	finished := false
	defer func() {
		if !finished { // a panic: nobody knows how far the change came
			err = &Problem{Code: "internal_error", Message: "the server failed while carrying out the change", Next: "read the tokens, and list_operations, to see what happened"}
		}
		c.record(ctx, shown, out, err)
	}()
	out, err = f.actOn(ctx, c, shown)
	finished = true
	return out, err
}

// record keeps the result of a confirmed call.
func (c *Call) record(ctx context.Context, taken ledger.Preview, out any, cause error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), changeTime)
	defer cancel()
	if isDropped(cause) || isUnapproved(cause) {
		c.keep(ctx, "confirm code not given back", taken.ID, func(ctx context.Context) error { return c.Ledger.ReleasePreview(ctx, taken) })
		return
	}
	r := recorded{Problem: problemOf(cause)}
	if cause != nil && r.Problem == nil {
		r.Problem = &Problem{Code: "internal_error", Message: "the server failed", Next: "ask the operator to look into the server's log"}
	}
	var err error
	if r.Problem == nil {
		r.Out, err = json.Marshal(out)
	}
	result, failed := json.Marshal(r)
	c.keep(ctx, "result of a confirmed call not kept", taken.ID, func(ctx context.Context) error {
		if err := errors.Join(err, failed); err != nil {
			return err
		}
		return c.Ledger.RecordPreview(ctx, taken.ID, result)
	})
	fault.Point("recorded")
}

// keep writes what became of a preview, now or as soon as the ledger can be used again.
func (c *Call) keep(ctx context.Context, failure, preview string, write func(context.Context) error) {
	err := write(ctx)
	if err == nil {
		return
	}
	c.Log.Error(failure, "preview", preview, "error", err)
	if errors.Is(err, ledger.ErrUnavailable) {
		c.Ledger.Retry(write)
	}
}

// isDropped reports that a call ended before anything was sent, because its caller
// or the server went away.
func isDropped(err error) bool {
	code := problemCode(err)
	return code == providers.CodeCancelled || code == codeStopping
}

func (f flow[Plan, Out]) actOn(ctx context.Context, c *Call, shown ledger.Preview) (Out, error) {
	var none Out
	before, err := f.storedIn(shown)
	if err != nil {
		return none, err
	}
	intent, unidentified := c.intent(ctx, f.connection)
	intent.Preview, intent.ApprovedBy, intent.ApprovedFrom, intent.Reason = shown.ID, c.yes.by, c.yes.from, f.reason
	proposed := f.propose(before.Plan)
	intent.Targets = targetsOnRecord(proposed.targets)
	plan, err := f.plan(ctx, &before.Plan)
	if err == nil {
		err = f.sameAccount(ctx, before.Account)
	}
	if err == nil && !proposed.judged {
		if changes := drift(proposed.targets, f.propose(plan).targets); len(changes) > 0 {
			err = drifted(changes)
		}
	}
	c.shown = shown.Created
	if err == nil && !proposed.judged && (proposed.ends || c.Tool.Class == policy.Rotate) {
		err = c.notRenewed(ctx, f.connection, intent.Targets)
	}
	if err == nil {
		err = unidentified
	}
	if err != nil {
		if !isDropped(err) {
			c.refused(ctx, intent, err)
		}
		return none, err
	}
	intent.Targets = targetsOnRecord(f.propose(plan).targets)
	return f.act(ctx, intent, plan)
}

// notRenewed refuses targets that got a new secret since the preview: nothing in the vendor's record may tell,
// and what was shown of their use is of the secret before. Once an operation has its token, that is final.
func (c *Call) notRenewed(ctx context.Context, connection *Connection, targets []ledger.Target) error {
	waiting, err := c.Ledger.List(ctx, ledger.Query{Connection: connection.Name, Outcome: ledger.Escrowed, Limit: ledger.MaxPage})
	if err != nil {
		return c.noLedger(err)
	}
	var changes []string
	for i := range targets {
		op, found, err := c.lastDelivery(ctx, connection, targets[i].ID)
		if err != nil {
			return err
		}
		isOf := func(w ledger.Operation) bool { return w.NewTokenID == targets[i].ID && w.Ended.After(c.shown) }
		if at := slices.IndexFunc(waiting.Operations, isOf); at >= 0 {
			op, found = waiting.Operations[at], true
		}
		if found && (op.Ended.After(c.shown) || op.Resolved.After(c.shown)) {
			changes = append(changes, "token "+targets[i].ID+" has a new secret, of operation "+op.ID)
		}
	}
	if len(changes) == 0 {
		return nil
	}
	return drifted(changes)
}

// sameAccount refuses to carry out at one account what was shown of another: a creation
// has no targets that would tell.
func (f flow[Plan, Out]) sameAccount(ctx context.Context, shown string) error {
	identity, err := f.connection.Provider.Identity(ctx)
	if err == nil && identity.Account != shown {
		return drifted([]string{"connection " + f.connection.Name + " leads to another account now"})
	}
	return err
}

// changeTime bounds one change at a vendor with everything that belongs to it.
const changeTime = 2 * time.Minute
