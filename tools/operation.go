package tools

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/mark3labs/mcp-go/server"

	"github.com/tokenreeve/tokenreeve/internal/fault"
	"github.com/tokenreeve/tokenreeve/internal/ledger"
	"github.com/tokenreeve/tokenreeve/internal/policy"
	"github.com/tokenreeve/tokenreeve/internal/telemetry"
	"github.com/tokenreeve/tokenreeve/providers"
)

// The steps on record between the intent of a change and its outcome.
const (
	stepMinted    = "minted"    // the vendor answered
	stepEscrowed  = "escrowed"  // the secret is in escrow
	stepDelivered = "delivered" // the secret is in its sink
	stepVerified  = "verified"  // vendor and sink were asked
)

// recordTime bounds one entry in the ledger while a new secret waits for its safe
// place, which matters more.
const recordTime = 3 * time.Second

// operation is one change that is on record: its intent is durable before the
// vendor is called.
type operation struct {
	call  *Call
	lease *ledger.Lease
	id    string
	// missed is what a step told that could not be recorded; the next entry tells it.
	missed ledger.Details
	isLost bool // another process took the operation over, and what is known here is on record as late
}

// intent is what all changes of a call have in common on record. With an error it
// lacks the account, and serves to record a refusal only.
func (c *Call) intent(ctx context.Context, connection *Connection) (ledger.Intent, error) {
	i := ledger.Intent{
		Principal: c.Principal.Name, Auth: c.Principal.Method, Address: c.Principal.Address, Client: clientOf(ctx), Tool: c.Tool.Name, Class: ledger.Class(c.Tool.Class),
		Connection: connection.Name, Provider: connection.Provider.Name(),
	}
	identity, err := connection.Provider.Identity(ctx)
	if err == nil {
		i.Account = accountOf(identity)
	}
	return i, err
}

// accountOf names an account as no other account of the vendor is named.
func accountOf(identity providers.Identity) string { return identity.Host + "/" + identity.Account }

// clientOf returns the program that calls, as it names itself.
func clientOf(ctx context.Context) ledger.Client {
	session, ok := server.ClientSessionFromContext(ctx).(server.SessionWithClientInfo)
	if !ok {
		return ledger.Client{}
	}
	info := session.GetClientInfo()
	return ledger.Client{Name: info.Name, Version: info.Version}
}

func targetOf(t *providers.Token) ledger.Target {
	return ledger.Target{ID: t.ID, Owner: t.Owner.ID, Name: t.Name}
}

func targetsOnRecord(tokens []providers.Token) []ledger.Target {
	targets := make([]ledger.Target, len(tokens))
	for i := range tokens {
		targets[i] = targetOf(&tokens[i])
	}
	return targets
}

// begin puts the intent on record and takes its tokens. On an error nothing may be
// sent. ctx is one that the client cannot cancel.
func (c *Call) begin(ctx context.Context, id string, i ledger.Intent, limits ...ledger.Limit) (*operation, error) {
	fault.Point("judged")
	lease, err := c.Ledger.Begin(ctx, id, i, limits...)
	if err != nil {
		return nil, c.notBegun(ctx, i, err)
	}
	o := &operation{call: c, lease: lease, id: lease.ID()}
	c.open = append(c.open, o)
	telemetry.CallFrom(ctx).Operation(o.id)
	o.log("operation begun", "targets", len(i.Targets)+i.MoreTargets)
	fault.Point("intent")
	return o, nil
}

// notBegun says why a change was not begun, and so not sent. A refusal is on record; what
// only waits for a person is none.
func (c *Call) notBegun(ctx context.Context, i ledger.Intent, err error) error {
	var taken *ledger.ChangeInProgressError
	var limit *ledger.LimitError
	switch {
	case errors.As(err, &taken):
		if taken.Abandoned {
			c.Settle(ctx)
		}
		err = &Problem{
			Code: "change_in_progress", Message: "nothing was sent: " + taken.Error(),
			Next: "see how it stands with get_operation " + taken.Operation + ", then call again without confirm",
		}
	case errors.As(err, &limit) && limit.Limit.Single:
		return c.escalated(ctx, i.Preview)
	case errors.As(err, &limit):
		err = beyondLimit("nothing was sent: ", i.Connection, limit.Wanted, limit.Limit.Most, limit.Found)
	default:
		return c.noLedger(err)
	}
	c.refused(ctx, i, err)
	return err
}

// noLedger refuses a change that cannot be put on record.
func (c *Call) noLedger(err error) error {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	c.Log.Error("the ledger cannot be used", "error", err)
	return &Problem{
		Code: codeLedger, Message: "nothing was changed, since it could not be put on record: " + clean(err.Error()),
		Next: "ask the operator to mend the state directory or database; reads still work",
	}
}

// log writes a line about the operation with the head of the chain, which proves
// later that the chain was not shortened.
func (o *operation) log(message string, more ...any) {
	op, head := o.lease.Operation(), o.lease.Head()
	o.call.Log.Info(message, append([]any{
		"operation", o.id, "tool", op.Tool, "connection", op.Connection, "principal", op.Principal, "head", head.Hash,
	}, more...)...)
}

// step records that a step was reached. The change goes on where that fails: what
// was sent must be delivered. It returns a warning for the caller then.
func (o *operation) step(ctx context.Context, step string, d ledger.Details) (warning string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordTime)
	defer cancel()
	d = o.missed.With(d)
	err := o.lease.Step(ctx, step, d)
	fault.Point(step)
	if err == nil {
		o.missed = ledger.Details{}
		return ""
	}
	o.missed = d
	o.call.Log.Error("step not on record", "operation", o.id, "step", step, "error", err)
	if errors.Is(err, ledger.ErrLeaseLost) { // it is, as a late one
		return ""
	}
	return "not every step of operation " + o.id + " could be put on record: the operator's log tells why"
}

// finish records the outcome. It returns a warning for the caller where that fails.
func (o *operation) finish(ctx context.Context, r ledger.Result) (warning string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), changeTime)
	defer cancel()
	o.call.open = slices.DeleteFunc(o.call.open, func(other *operation) bool { return other == o })
	r.Details = o.missed.With(r.Details)
	err := o.put(ctx, r)
	fault.Point("finished")
	if err == nil {
		return ""
	}
	o.call.Log.Error("outcome not on record", "operation", o.id, "outcome", r.Outcome, "error", err)
	isPassing := errors.Is(err, ledger.ErrUnavailable) || errors.Is(err, ledger.ErrHeld)
	if isPassing && o.call.Ledger.Retry(func(ctx context.Context) error { return o.put(ctx, r) }) {
		return fmt.Sprintf("the outcome (%s) could not be put on record yet, which is tried again; until then operation %s counts as open", r.Outcome, o.id)
	}
	_ = o.lease.Release(ctx) // else nobody else may end it while this process lives
	return fmt.Sprintf("the outcome (%s) could not be put on record; operation %s counts as unfinished", r.Outcome, o.id)
}

// put puts the outcome on record.
func (o *operation) put(ctx context.Context, r ledger.Result) error {
	var err error
	if !o.isLost {
		err = o.lease.Finish(ctx, r)
		o.isLost = errors.Is(err, ledger.ErrLeaseLost)
	}
	if o.isLost {
		// Another process took this one for dead, and has ended the operation with less than
		// what is known here, or is about to.
		r.Note = cmp.Or(r.Note, "ended by the process that began it, which another one had taken for dead")
		err = o.call.Ledger.Resolve(ctx, o.id, "", r)
	}
	if err != nil {
		return err
	}
	end := []any{"outcome", r.Outcome}
	if r.ErrorCode != "" {
		end = append(end, "code", r.ErrorCode)
	}
	o.log("operation ended", end...)
	return nil
}

// abandon gives up the operations that a call left open, as a panic does: else nobody could end them,
// or change their tokens, while this process lives.
func (c *Call) abandon(ctx context.Context) {
	if len(c.open) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), changeTime)
	defer cancel()
	for _, o := range c.open {
		if err := o.lease.Release(ctx); err != nil {
			c.Log.Error("operation not given up", "operation", o.id, "error", err)
		}
	}
	c.Settle(ctx)
}

// ended is the outcome of a change that the vendor answered with err, or whose answer
// did not come.
func ended(err error, trace *providers.Trace) ledger.Result {
	if err == nil {
		return ledger.Result{Outcome: ledger.Done, Details: ledger.Details{VendorRequestID: trace.RequestID}}
	}
	r := ledger.Result{Outcome: ledger.Failed, ErrorCode: string(problemCode(err)), Details: ledger.Details{VendorRequestID: trace.RequestID}}
	switch providers.CodeOf(err) {
	case providers.CodeOutcomeUnknown:
		r.Outcome = ledger.Unknown
	case providers.CodeBadAnswer, providers.CodeVendorProtocol, "":
		if trace.SentChange() { // else what was read before failed
			r.Outcome = ledger.Unknown
		}
	}
	return r
}

// refused puts a change on record that was confirmed, or needed no confirmation,
// and was refused before anything was sent.
func (c *Call) refused(ctx context.Context, i ledger.Intent, cause error) {
	code := string(problemCode(cause))
	if code == "" {
		code = "internal_error"
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordTime)
	defer cancel()
	op, head, err := c.Ledger.Record(ctx, "", i, ledger.Result{Outcome: ledger.Refused, ErrorCode: code})
	if err != nil {
		c.Log.Error("refusal not on record", "tool", c.Tool.Name, "connection", i.Connection, "code", code, "error", err)
		return
	}
	telemetry.CallFrom(ctx).Operation(op.ID)
	c.Log.Info("operation refused", "operation", op.ID, "tool", i.Tool, "connection", i.Connection, "principal", i.Principal, "code", code, "head", head.Hash)
}

// The codes of refusals that end a bulk change as well.
const (
	codeLimit  = "limit_reached"
	codeLedger = "ledger_unavailable"
)

// revocationLimit bounds how much a principal may end on a connection within an hour.
func (c *Call) revocationLimit(connection *Connection) ledger.Limit {
	return ledger.Limit{
		Count: ledger.Count{
			Principal: c.Principal.Name, Connection: connection.Name, Since: c.Now().Add(-time.Hour),
			Classes: []ledger.Class{ledger.Class(policy.Revoke), ledger.Class(policy.Bulk), ledger.Class(policy.Rotate)}, Compromised: true,
		},
		Most: connection.Policy.Revocations(),
	}
}

// withinLimit refuses targets beyond what the principal may still end this hour,
// before anybody is shown a preview that could not be carried out.
func (c *Call) withinLimit(ctx context.Context, connection *Connection, targets int) error {
	if targets == 0 {
		return nil
	}
	limit := c.revocationLimit(connection)
	found, err := c.Ledger.CountSince(ctx, limit.Count)
	if err != nil {
		return c.noLedger(err)
	}
	if found+targets <= limit.Most {
		return nil
	}
	return beyondLimit("nothing was changed: ", connection.Name, targets, limit.Most, found)
}

// beyondLimit refuses targets that are more than a principal may still end.
func beyondLimit(what, connection string, targets, most, found int) error {
	return &Problem{
		Code: codeLimit,
		Message: fmt.Sprintf("%s%s would end, and connections.%s.limits.revocations_per_hour allows %d within an hour, of which %d are left",
			what, plural(targets, "token", "tokens"), connection, most, max(0, most-found)),
		Next: "select fewer, wait, or ask the operator",
	}
}
