package tools

import (
	"cmp"
	"context"
	"encoding/json"
	"time"

	"github.com/mark3labs/mcp-go/mcp"

	"github.com/tokenreeve/tokenreeve/internal/confirm"
	"github.com/tokenreeve/tokenreeve/providers"
)

// preview is the part of a changing tool's result that shows what the change
// would do and gives the code to do it. Every changing tool's result embeds it.
type preview struct {
	Status        string   `json:"status"`
	Replayed      bool     `json:"replayed,omitempty" jsonschema_description:"recorded result of an earlier call"`
	PreviewID     string   `json:"preview_id,omitempty"`
	Targets       *targets `json:"targets,omitempty"`
	Effects       []string `json:"effects,omitempty"`
	Warnings      []string `json:"warnings,omitempty"`
	Confirm       string   `json:"confirm,omitempty" jsonschema_description:"code for the same call"`
	ConfirmBefore string   `json:"confirm_before,omitempty"`
	Next          string   `json:"next,omitempty"`
}

func (p *preview) markReplayed() { p.Replayed = true }

// The statuses that all changing tools share.
const (
	statusConfirmationRequired = "confirmation_required"
	statusHandOff              = "hand_off"
)

// recentUse is how young a use must be for a preview to warn of it.
const recentUse = 7 * 24 * time.Hour

// proposal is what a change would do, resolved.
type proposal struct {
	targets  []providers.Token
	shown    []providers.Token // nil: all targets; an org-wide call shows a count instead
	effects  []string
	warnings []string
}

// flow is a change that takes a preview and a code.
type flow[Plan, Out any] struct {
	// arguments are those of the call after defaults.
	arguments any
	code      confirmCode
	// plan resolves the targets and refuses what may not be done. At the
	// confirmation it gets the plan that was shown, and judges everything again.
	plan func(ctx context.Context, shown *Plan) (Plan, error)
	// propose shows a plan.
	propose func(Plan) proposal
	// wrap makes the tool's result of a preview.
	wrap func(preview) Out
	// approve asks a human, where that is needed. A result that is not nil is
	// returned to the client, who calls again.
	approve func(ctx context.Context, shown *Plan) (*mcp.CallToolResult, error)
	// act carries the fresh plan out.
	act func(ctx context.Context, plan Plan) (Out, error)
}

// recorded is the result of a change, kept for a caller whose answer was lost.
type recorded[Out any] struct {
	out Out
	err error
}

// run shows the preview, or acts on its code.
func (f flow[Plan, Out]) run(ctx context.Context, c *Call) (any, error) {
	arguments, err := confirm.Canonical(f.arguments)
	if err != nil {
		return nil, err
	}
	check := c.Confirm.Peek(string(f.code), c.Principal.Name, c.Tool.Name, arguments)
	if check.Verdict == confirm.Accepted && f.approve != nil {
		shown := check.Preview.Plan.(Plan)
		if asking, err := f.approve(ctx, &shown); err != nil || asking != nil {
			return asking, err
		}
	}
	check = c.Confirm.Take(string(f.code), c.Principal.Name, c.Tool.Name, arguments)
	switch check.Verdict {
	case confirm.Mismatch:
		return nil, mismatch(check.Changed)
	case confirm.Running:
		return nil, &Problem{Code: "in_progress", Message: "this change is being carried out", Next: "repeat this call in a few seconds for its result"}
	case confirm.Done:
		return replay(check.Result.(recorded[Out]))
	case confirm.Accepted:
		return f.confirmed(ctx, c, check.Preview)
	default:
		return f.show(ctx, c, arguments)
	}
}

func replay[Out any](r recorded[Out]) (any, error) {
	if marked, ok := any(&r.out).(interface{ markReplayed() }); ok {
		marked.markReplayed()
	}
	if p := problemOf(r.err); p != nil {
		again := *p
		again.Replayed = true
		return r.out, &again
	}
	return r.out, r.err
}

func mismatch(changed []string) error {
	return &Problem{
		Code:    "preview_mismatch",
		Message: "nothing was changed: the code belongs to a preview with another " + joinWords(changed),
		Next:    "repeat the call exactly as it was previewed, or leave confirm out for a new preview",
	}
}

// show resolves the change and returns its preview with a code.
func (f flow[Plan, Out]) show(ctx context.Context, c *Call, arguments json.RawMessage) (any, error) {
	plan, err := f.plan(ctx, nil)
	if err != nil {
		return nil, err
	}
	p := f.propose(plan)
	opened, code := c.Confirm.Open(confirm.Preview{Principal: c.Principal.Name, Tool: c.Tool.Name, Arguments: arguments, Plan: plan})
	shown := preview{
		Status: statusConfirmationRequired, PreviewID: opened.ID,
		Effects: p.effects, Warnings: p.warnings,
		Confirm: code, ConfirmBefore: opened.Expires.UTC().Format(time.RFC3339),
		Next: "nothing was changed yet. To do exactly this, call again with the same arguments and this confirm code",
	}
	if p.shown == nil {
		p.shown = p.targets
	}
	if len(p.shown) > 0 {
		shown.Targets = targetsOf(p.shown)
	}
	if n := countAltered(p.shown); n > 0 {
		shown.Warnings = append(shown.Warnings, "names with hidden or unsafe characters were cleaned; go by the ids")
	}
	if f.code != "" {
		shown.Warnings = append(shown.Warnings, "confirm was not a valid code (codes work once, for ten minutes, for the same caller); this is a new preview")
	}
	c.Log.Info("preview", "tool", c.Tool.Name, "preview", opened.ID, "targets", len(p.targets))
	return f.wrap(shown), nil
}

func countAltered(tokens []providers.Token) int {
	n := 0
	for i := range tokens {
		if tokens[i].NameAltered {
			n++
		}
	}
	return n
}

// confirmed judges everything again and acts. The code is spent, so the outcome
// is recorded whatever it is.
func (f flow[Plan, Out]) confirmed(ctx context.Context, c *Call, shown confirm.Preview) (_ any, err error) {
	var out Out
	finished := false
	defer func() {
		if !finished { // a panic: nobody knows how far the change came
			err = &Problem{Code: "internal_error", Message: "the server failed while carrying out the change", Next: "read the tokens to see what happened"}
		}
		c.Confirm.Record(shown.ID, recorded[Out]{out, err})
	}()
	out, err = f.actOn(ctx, c, shown)
	finished = true
	return out, err
}

func (f flow[Plan, Out]) actOn(ctx context.Context, _ *Call, shown confirm.Preview) (Out, error) {
	var none Out
	before := shown.Plan.(Plan)
	plan, err := f.plan(ctx, &before)
	if err != nil {
		return none, err
	}
	if changes := drift(f.propose(before).targets, f.propose(plan).targets); len(changes) > 0 {
		return none, drifted(changes)
	}
	return f.act(ctx, plan)
}

// changeTime bounds one change at a vendor with everything that belongs to it.
const changeTime = 2 * time.Minute

// protectedFromCancel runs a change to its end, whatever becomes of the client:
// what was sent must be known and delivered. Once the server stops, what is on its
// way has the time of one vendor call, and nothing is repeated after that.
func (c *Call) protectedFromCancel(ctx context.Context, do func(context.Context)) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if c.Work.IsStopping() {
		return stopping()
	}
	defer c.Work.Begin()()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), changeTime)
	defer cancel()
	defer c.Work.AfterStop(cmp.Or(c.VendorTime, changeTime), cancel)()
	do(ctx)
	return nil
}

func stopping() error {
	return &Problem{Code: "server_stopping", Message: "the server is shutting down; nothing was changed", Next: "try again when it is back"}
}

// guard refuses a target that nobody may change: a configured connection's own
// credential, or a protected token. It judges anew at the confirmation.
func (c *Call) guard(own providers.Own, connection *Connection, t *providers.Token) error {
	if own.Has(t) {
		p := &Problem{
			Code:    "own_credential",
			Message: "token " + t.ID + " is, or may be, a credential of this server's own connections and is never changed here",
		}
		if hand, ok := connection.Provider.(providers.HandOff); ok {
			p.Next = "by hand: " + joinSteps(hand.HandOff(providers.DeedRotateOwnCredential))
		}
		return p
	}
	if t.Owner.Email == "" && connection.Policy.ProtectsByEmail() {
		return &Problem{
			Code:    "protected",
			Message: "the e-mail address of the owner of token " + t.ID + " is not told, so connections." + connection.Name + ".protect.owners cannot be judged",
			Next:    "ask the operator to protect by account id instead",
		}
	}
	if rule := connection.Policy.Protects(t); rule != "" {
		return &Problem{Code: "protected", Message: "token " + t.ID + " is protected: " + rule, Next: "ask the operator"}
	}
	return nil
}

// nameOwner adds what a listing tells of the owner to a record that has only the
// owner's id.
func nameOwner(t *providers.Token, listed providers.Token) {
	if t.Owner.Email == "" && t.Owner.Name == "" && listed.Owner.ID == t.Owner.ID {
		t.Owner = listed.Owner
	}
}

// nameOwners completes records that lack the owner's e-mail address where policy
// protects by address: else the rule could not be judged.
func (c *Call) nameOwners(ctx context.Context, connection *Connection, tokens []providers.Token) error {
	locator, ok := connection.Provider.(providers.Locator)
	if !ok || !connection.Policy.ProtectsByEmail() {
		return nil
	}
	var nameless []string
	for i := range tokens {
		if tokens[i].Owner.Email == "" {
			nameless = append(nameless, tokens[i].ID)
		}
	}
	if len(nameless) == 0 {
		return nil
	}
	listed, err := locator.Locate(ctx, nameless)
	connection.Note(err, c.Now())
	if err != nil {
		return err
	}
	for i := range tokens {
		nameOwner(&tokens[i], listed[tokens[i].ID])
	}
	return nil
}

// ownOf tells the own credentials, or refuses all changes where they cannot be told.
// It is asked after the targets were read: a 401 renews the credential.
func (c *Call) ownOf(ctx context.Context, connection *Connection) (providers.Own, error) {
	own, err := c.Registry.Own(ctx, connection.Connection)
	if err != nil {
		if p := problemOf(err); p != nil {
			return own, &Problem{
				Code:    "own_credential_unknown",
				Message: "changes are refused: " + p.Message,
				Next:    "reads still work; ask the operator to check that connection's credential",
			}
		}
	}
	return own, err
}
