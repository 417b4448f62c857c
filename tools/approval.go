package tools

import (
	"cmp"
	"context"
	"fmt"
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

// approval is a person's yes.
type approval struct {
	by string // empty: none was needed, or none could be asked for
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
	n, err := c.Ledger.CountSince(ctx, ledger.Count{
		Principal: c.Principal.Name, Since: c.Now().Add(-time.Hour), Single: true, Compromised: true,
		Classes: []ledger.Class{ledger.Class(policy.Revoke), ledger.Class(policy.Rotate)},
	})
	if err != nil {
		return needed, c.noLedger(err)
	}
	if n >= escalation-1 {
		needed = stricter(needed, c.Approval.For(policy.RiskBulk))
	}
	return needed, nil
}

func stricter(a, b policy.Approval) policy.Approval {
	rank := map[policy.Approval]int{policy.ApprovalOff: 0, policy.ApprovalWhenPossible: 1, policy.ApprovalRequired: 2}
	if rank[b] > rank[a] {
		return b
	}
	return a
}

// approve asks a person, where the operator demands one. A result that is not nil
// goes to the client, who calls again.
func (f flow[Plan, Out]) approve(ctx context.Context, c *Call, p ledger.Preview) (approval, *mcp.CallToolResult, error) {
	if p.ApprovedBy != "" {
		return approval{by: p.ApprovedBy}, nil, nil
	}
	s, err := f.storedIn(p)
	if err != nil {
		return approval{}, nil, err
	}
	needed, err := c.needsPerson(ctx, s.Shown.Risk, s.Shown.Ends)
	switch {
	case err != nil:
		return approval{}, nil, err
	case needed == policy.ApprovalOff, needed == policy.ApprovalWhenPossible && !c.canAsk(ctx):
		return approval{}, nil, nil
	case !c.asks(ctx, needed):
		return approval{}, nil, c.personRequired(p.ID)
	}
	if f.beforeAsking != nil { // a person is not asked in vain
		if err := f.beforeAsking(ctx, &s.Plan); err != nil {
			return approval{}, nil, err
		}
	}
	return c.ask(ctx, p, s.Shown)
}

// asks reports whether a person's answer through the client is enough. It shows only
// that the client's program answered.
func (c *Call) asks(ctx context.Context, needed policy.Approval) bool {
	return c.canAsk(ctx) && (needed == policy.ApprovalWhenPossible || c.Stdio && c.Approval.TrustClient)
}

// canAsk reports whether the client can show its user a form.
func (c *Call) canAsk(ctx context.Context) bool {
	session, ok := server.ClientSessionFromContext(ctx).(server.SessionWithClientInfo)
	if !ok {
		return false
	}
	elicitation := session.GetClientCapabilities().Elicitation
	return elicitation != nil && (elicitation.Form != nil || elicitation.URL == nil)
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
	if mcp.IsModernProtocol(server.RequestProtocolVersion(ctx)) {
		return c.askByResult(ctx, p, shown, params)
	}
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(c.AnswerTime, answerTime))
	defer cancel()
	undo := context.AfterFunc(c.Work.stopping, cancel)
	defer undo()
	answer, err := c.server.RequestElicitation(ctx, mcp.ElicitationRequest{
		Request: mcp.Request{Method: string(mcp.MethodElicitationCreate)}, Params: params,
	})
	if err != nil {
		return approval{}, nil, c.notApproved(p.ID, "the question to the user failed or was not answered in time")
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
			return approval{}, nil, c.noLedger(err)
		}
		return approval{}, server.NewInputRequestBuilder(state).Elicit(questionID, params).ToolResult(), nil
	}
	ours, err := c.Ledger.AnswerPreview(ctx, p.ID, c.request.Params.RequestState)
	if err != nil {
		return approval{}, nil, c.noLedger(err)
	}
	if !ours {
		return approval{}, nil, c.notApproved(p.ID, "the answer belongs to another question")
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
			return approval{}, c.noLedger(err)
		}
		return approval{}, declined(p.ID)
	case answer == nil || answer.Action != mcp.ElicitationResponseActionAccept:
		return approval{}, c.notApproved(p.ID, "the user was not asked or did not answer")
	}
	content, ok := answer.Content.(map[string]any)
	typed, isText := content[answerField].(string)
	if !ok || !isText || strings.TrimSpace(typed) != shown.Phrase {
		return approval{}, c.notApproved(p.ID, "the user did not type "+shown.Phrase)
	}
	return approval{by: who}, nil
}

func declined(preview string) error {
	return &Problem{
		Code: "declined", Message: "nothing was changed: a person declined preview " + preview + ", and its code is dead",
		Next: "do not try again unless the user asks for it",
	}
}

func (c *Call) notApproved(preview, why string) error {
	return &Problem{
		Code: "not_approved", Message: "nothing was changed: " + why,
		Next: "ask the user, then repeat the call with the same confirm code; or have the operator run `" + c.approveCommand(preview) + "` first",
	}
}

// personRequired refuses what only a person at the operator's terminal can allow.
func (c *Call) personRequired(preview string) error {
	return &Problem{
		Code: "human_required", Message: "nothing was changed: a person must agree at the operator's terminal first (human_approval)",
		Next: "ask for `" + c.approveCommand(preview) + "` to be run there, then repeat the call with the same confirm code",
	}
}

func (c *Call) approveCommand(preview string) string {
	return fmt.Sprintf("%s %s", cmp.Or(c.ApproveCommand, "tokenreeve approve"), preview)
}
