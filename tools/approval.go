package tools

import (
	"cmp"
	"context"
	"errors"
	"strings"
	"time"

	"github.com/mark3labs/mcp-go/mcp"
	"github.com/mark3labs/mcp-go/server"

	"github.com/tokenreeve/tokenreeve/internal/ledger"
	"github.com/tokenreeve/tokenreeve/internal/policy"
)

// answerTime is how long a person may think.
const answerTime = 2 * time.Minute

const (
	questionID  = "approval"
	answerField = "phrase"
)

// approval is a person's yes, or that none was needed.
type approval struct {
	by   string          // empty: nobody was asked
	from string          // how they were known over HTTP, and from where
	met  policy.Approval // the strictest demand that it meets
}

// escalation is from which single revocation or compromised rotation within an hour
// on the demands on bulk changes count for a principal.
const escalation = 10

// needsPerson tells what the operator demands for a change of this risk.
func (c *Call) needsPerson(ctx context.Context, risk policy.Risk, ends bool) (policy.Approval, error) {
	needed := c.Approval.For(risk)
	if risk != policy.RiskSingle || !ends {
		return needed, nil
	}
	n, err := c.Ledger.CountSince(ctx, c.endedOneByOne())
	if err != nil {
		return needed, c.noLedger(err)
	}
	if n >= escalation-1 {
		needed = c.Approval.For(policy.RiskBulk)
	}
	return needed, nil
}

// endedOneByOne counts what the principal ended within an hour, but for bulk changes.
func (c *Call) endedOneByOne() ledger.Count {
	return ledger.Count{
		Principal: c.Principal.Name, Since: c.Now().Add(-time.Hour), Single: true, Compromised: true,
		Classes: []ledger.Class{ledger.Class(policy.Revoke), ledger.Class(policy.Rotate)},
	}
}

// beforeEscalation bounds what may end without what bulk changes demand, which those
// themselves have met. It is judged together with the intent: calls that come at once
// do not see one another earlier.
func (c *Call) beforeEscalation() []ledger.Limit {
	if c.yes.met.Meets(c.Approval.For(policy.RiskBulk)) {
		return nil
	}
	return []ledger.Limit{{Count: c.endedOneByOne(), Most: escalation - 1}}
}

// escalated refuses a change that was begun as the demands on bulk changes came to
// count. Its code is given back.
func (c *Call) escalated(ctx context.Context, preview string) error {
	demand := c.Approval.For(policy.RiskBulk)
	if c.asks(ctx, demand) {
		return c.notApproved(ctx, preview, "so many single tokens were ended meanwhile that a person must agree")
	}
	return c.personRequired(ctx, preview, demand)
}

// approve asks a person, where the operator demands one. A result that is not nil
// goes to the client, who calls again.
func (f flow[Plan, Out]) approve(ctx context.Context, c *Call, p ledger.Preview) (approval, *mcp.CallToolResult, error) {
	s, err := f.storedIn(p)
	if err != nil {
		return approval{}, nil, err
	}
	needed, err := c.needsPerson(ctx, s.Shown.Risk, s.Shown.Ends)
	switch {
	case err != nil:
		return approval{}, nil, err
	case given(p).met.Meets(needed):
		return given(p), nil, nil
	case c.unasked(ctx).Meets(needed):
		return approval{met: c.unasked(ctx)}, nil, nil
	case !c.asks(ctx, needed):
		return approval{}, nil, c.personRequired(ctx, p.ID, needed)
	}
	if f.beforeAsking != nil { // a person is not asked in vain
		if err := f.beforeAsking(ctx, &s.Plan); err != nil {
			return approval{}, nil, err
		}
	}
	return c.ask(ctx, p, s.Shown)
}

// given is the yes that is on record for the preview; it meets nothing where there is none.
func given(p ledger.Preview) approval {
	switch {
	case p.IsApprovedByOther():
		return approval{by: p.ApprovedBy, from: p.ApprovedFrom, met: policy.ApprovalSecond}
	case p.ApprovedBy != "":
		return approval{by: p.ApprovedBy, from: p.ApprovedFrom, met: policy.ApprovalRequired}
	}
	return approval{}
}

// unasked is the strictest demand that is met without asking anybody.
func (c *Call) unasked(ctx context.Context) policy.Approval {
	if c.canAsk(ctx) {
		return policy.ApprovalOff
	}
	return policy.ApprovalWhenPossible
}

// answered is the strictest demand that an answer through the client meets. It shows
// only that the client's program answered.
func (c *Call) answered() policy.Approval {
	if c.Stdio && c.Approval.TrustClient {
		return policy.ApprovalRequired
	}
	return policy.ApprovalWhenPossible
}

// asks reports whether a person is asked through the client, and the answer is enough.
func (c *Call) asks(ctx context.Context, needed policy.Approval) bool {
	return c.canAsk(ctx) && c.answered().Meets(needed)
}

// canAsk reports whether the client can show its user a form, and a question can reach
// it: server-sent events carry none on the older protocols.
func (c *Call) canAsk(ctx context.Context) bool {
	session, ok := server.ClientSessionFromContext(ctx).(server.SessionWithClientInfo)
	if !ok {
		return false
	}
	elicitation := session.GetClientCapabilities().Elicitation
	_, reachable := session.(server.SessionWithElicitation)
	return (reachable || asksByResult(ctx)) && elicitation != nil && (elicitation.Form != nil || elicitation.URL == nil)
}

// asksByResult reports whether questions go out as results.
func asksByResult(ctx context.Context) bool {
	return mcp.IsModernProtocol(server.RequestProtocolVersion(ctx))
}

// ask asks the client's user, who must type the phrase: an empty form or a lone yes is
// never enough. On the newest protocol the question goes out as the call's result, and
// the client calls again with the answer. On older ones the call waits.
func (c *Call) ask(ctx context.Context, p ledger.Preview, shown Shown) (approval, *mcp.CallToolResult, error) {
	params := mcp.ElicitationParams{
		Message: shown.question(),
		RequestedSchema: map[string]any{
			"type": "object",
			"properties": map[string]any{
				answerField: map[string]any{"type": "string", "title": "Type to agree", "description": "type " + shown.Phrase + " to agree"},
			},
			"required": []string{answerField},
		},
	}
	if asksByResult(ctx) {
		return c.askByResult(ctx, p, shown, params)
	}
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(c.AnswerTime, answerTime))
	defer cancel()
	undo := context.AfterFunc(c.Work.stopping, cancel)
	defer undo()
	answer, err := c.server.RequestElicitation(ctx, mcp.ElicitationRequest{
		Request: mcp.Request{Method: string(mcp.MethodElicitationCreate)}, Params: params,
	})
	if err != nil || ctx.Err() != nil { // a late yes is none
		return approval{}, nil, c.notApproved(ctx, p.ID, "the question to the user failed or was not answered in time")
	}
	a, err := c.judge(ctx, p, shown, answer)
	return a, nil, err
}

// askByResult asks by the call's result, or judges the answer of the second call. The
// state that the client sends back is its input like any other: it must be the one
// that went out for this very preview, and works once.
func (c *Call) askByResult(ctx context.Context, p ledger.Preview, shown Shown, params mcp.ElicitationParams) (approval, *mcp.CallToolResult, error) {
	answer := server.ElicitationResponse(c.request.Params.InputResponses, questionID)
	if answer == nil {
		state, err := c.Ledger.AskPreview(ctx, p.ID)
		if err != nil {
			return approval{}, nil, c.notAsked(err)
		}
		return approval{}, server.NewInputRequestBuilder(state).Elicit(questionID, params).ToolResult(), nil
	}
	ours, err := c.Ledger.AnswerPreview(ctx, p.ID, c.request.Params.RequestState)
	if err != nil {
		return approval{}, nil, c.notAsked(err)
	}
	if !ours {
		return approval{}, nil, c.notApproved(ctx, p.ID, "the answer belongs to another question")
	}
	a, err := c.judge(ctx, p, shown, answer)
	return a, nil, err
}

// judge reads the user's answer. A refusal kills the preview; a cancelled question,
// which is also what clients without a user send, leaves it.
func (c *Call) judge(ctx context.Context, p ledger.Preview, shown Shown, answer *mcp.ElicitationResult) (approval, error) {
	who := c.Principal.Name + " through the client"
	switch {
	case answer != nil && answer.Action == mcp.ElicitationResponseActionDecline:
		if _, err := c.Ledger.DeclinePreview(context.WithoutCancel(ctx), p.ID, who); err != nil {
			return approval{}, c.notAsked(err)
		}
		return approval{}, declined(p.ID)
	case answer == nil || answer.Action != mcp.ElicitationResponseActionAccept:
		return approval{}, c.notApproved(ctx, p.ID, "the user was not asked or did not answer")
	}
	content, ok := answer.Content.(map[string]any)
	typed, isText := content[answerField].(string)
	if !ok || !isText || shown.Phrase == "" || strings.TrimSpace(typed) != shown.Phrase {
		return approval{}, c.notApproved(ctx, p.ID, "the user did not type "+shown.Phrase)
	}
	return approval{by: who, met: c.answered()}, nil
}

// notAsked tells a ledger that cannot be used from a preview that was carried out,
// declined or forgotten while a person was asked.
func (c *Call) notAsked(err error) error {
	if isOvertaken(err) {
		return err
	}
	return c.noLedger(err)
}

// isOvertaken reports that a preview is not open any more.
func isOvertaken(err error) bool {
	return errors.Is(err, ledger.ErrPreviewOver) || errors.Is(err, ledger.ErrNotFound)
}

func declined(preview string) error {
	return &Problem{
		Code: "declined", Message: "nothing was changed: a person declined preview " + preview + ", and its code is dead",
		Next: "do not try again unless the user asks for it",
	}
}

// The codes of refusals of what nobody agreed to. They leave the preview open.
const (
	codeNotApproved   = "not_approved"
	codeHumanRequired = "human_required"
)

func isUnapproved(err error) bool {
	code := problemCode(err)
	return code == codeNotApproved || code == codeHumanRequired
}

func (c *Call) notApproved(ctx context.Context, preview, why string) error {
	return &Problem{
		Code: codeNotApproved, Message: "nothing was changed: " + why,
		Next: "ask the user, then repeat the call with the same confirm code; or " + c.wayToApprove(ctx, preview, policy.ApprovalRequired) + " first",
	}
}

// personRequired refuses what only a person elsewhere than behind the client can allow.
func (c *Call) personRequired(ctx context.Context, preview string, demand policy.Approval) error {
	return &Problem{
		Code: codeHumanRequired, Message: "nothing was changed. " + whoAgrees(demand) + " must agree first (human_approval)",
		Next: c.wayToApprove(ctx, preview, demand) + ", then repeat the call with the same confirm code",
	}
}

func whoAgrees(demand policy.Approval) string {
	if demand == policy.ApprovalSecond {
		return "Another person than who asks"
	}
	return "A person"
}

// wayToApprove says how a person can agree. Over HTTP an approver opens a page, where there are
// approvers. The operator's terminal is the local user's own: what needs a second person cannot be
// approved there.
func (c *Call) wayToApprove(ctx context.Context, preview string, demand policy.Approval) string {
	if page := approvalPage(ctx); page != "" {
		return "have an approver open " + page + preview
	}
	if c.ApprovedOverHTTP && !c.Principal.IsLocal || demand == policy.ApprovalSecond && c.Principal.IsLocal {
		return "have an approver run `tokenreeve approve --server URL " + preview + "`"
	}
	return "have the operator run `" + c.approveCommand(preview) + "`"
}

// approveCommand is what the operator types. Its flags hold paths, which only the local
// user is told.
func (c *Call) approveCommand(preview string) string {
	command := "tokenreeve approve"
	if c.Principal.IsLocal {
		command = cmp.Or(c.ApproveCommand, command)
	}
	return command + " " + preview
}

type approvalPageKey struct{}

// WithApprovalPage returns a context whose calls tell that previews are approved at base, which ends
// in a slash, and the preview's id.
func WithApprovalPage(ctx context.Context, base string) context.Context {
	return context.WithValue(ctx, approvalPageKey{}, base)
}

func approvalPage(ctx context.Context) string {
	base, _ := ctx.Value(approvalPageKey{}).(string)
	return base
}
