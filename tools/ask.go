package tools

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/mark3labs/mcp-go/mcp"
	"github.com/mark3labs/mcp-go/server"
)

// answerTime is how long a person may think.
const answerTime = 2 * time.Minute

// question is what a person is asked. Phrase is what they must type to agree:
// an empty form or a lone yes is never enough.
type question struct {
	message string
	phrase  string
}

const (
	questionID  = "approval"
	answerField = "phrase"
)

// canAsk reports whether the client can show its user a form.
func (c *Call) canAsk(ctx context.Context) bool {
	session, ok := server.ClientSessionFromContext(ctx).(server.SessionWithClientInfo)
	if !ok {
		return false
	}
	elicitation := session.GetClientCapabilities().Elicitation
	return elicitation != nil && (elicitation.Form != nil || elicitation.URL == nil)
}

// ask asks the client's user. On the newest protocol the question goes out as
// the call's result, and the client calls again with the answer; pending
// remembers what was asked. On older ones the call waits for the answer.
func (c *Call) ask(ctx context.Context, pending *pendingQuestion, q question) (*mcp.CallToolResult, error) {
	params := mcp.ElicitationParams{
		Message: q.message,
		RequestedSchema: map[string]any{
			"type": "object",
			"properties": map[string]any{
				answerField: map[string]any{"type": "string", "description": "type " + q.phrase + " to agree"},
			},
			"required": []string{answerField},
		},
	}
	if mcp.IsModernProtocol(server.RequestProtocolVersion(ctx)) {
		return c.askByResult(pending, q, params)
	}
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	go func() {
		select {
		case <-c.Work.Stopping():
			cancel()
		case <-ctx.Done():
		}
	}()
	answer, err := c.server.RequestElicitation(ctx, mcp.ElicitationRequest{
		Request: mcp.Request{Method: string(mcp.MethodElicitationCreate)}, Params: params,
	})
	if err != nil {
		return nil, notApproved("the question to the user failed or was not answered within 2 minutes")
	}
	return nil, q.judge(answer)
}

// askByResult asks by the call's result, or judges the answer of the second call.
// The state that the client sends back is its input like any other: it must be
// the one that went out, and works once.
func (c *Call) askByResult(pending *pendingQuestion, q question, params mcp.ElicitationParams) (*mcp.CallToolResult, error) {
	answer := server.ElicitationResponse(c.request.Params.InputResponses, questionID)
	if answer == nil {
		return server.NewInputRequestBuilder(pending.open(q.phrase)).Elicit(questionID, params).ToolResult(), nil
	}
	if !pending.close(c.request.Params.RequestState, q.phrase) {
		return nil, notApproved("the answer belongs to another question, or what was asked about has changed")
	}
	return nil, q.judge(answer)
}

// judge checks what the user typed.
func (q question) judge(answer *mcp.ElicitationResult) error {
	if answer == nil || answer.Action != mcp.ElicitationResponseActionAccept {
		return notApproved("the user did not agree")
	}
	content, ok := answer.Content.(map[string]any)
	typed, isText := content[answerField].(string)
	if !ok || !isText || strings.TrimSpace(typed) != q.phrase {
		return notApproved("the user did not type " + q.phrase)
	}
	return nil
}

func notApproved(why string) error {
	return &Problem{Code: "not_approved", Message: "nothing was changed: " + why, Next: "ask the user, then repeat the call with the same confirm code"}
}

// pendingQuestion remembers the question that is open on a preview.
type pendingQuestion struct {
	mu     sync.Mutex
	state  string
	phrase string
}

func (p *pendingQuestion) open(phrase string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.state, p.phrase = rand.Text(), phrase
	return p.state
}

// close reports whether the state is that of the open question and the question
// is still the same.
func (p *pendingQuestion) close(state, phrase string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	same := p.state != "" && subtle.ConstantTimeCompare([]byte(p.state), []byte(state)) == 1 && p.phrase == phrase
	p.state = ""
	return same
}

// approval asks a person before an org-wide revocation, nil where none is needed.
func (b *bulk) approval() func(context.Context, *bulkPlan) (*mcp.CallToolResult, error) {
	if !b.in.Everything {
		return nil
	}
	return func(ctx context.Context, shown *bulkPlan) (*mcp.CallToolResult, error) {
		if !b.call.canAsk(ctx) {
			return nil, b.needsHuman()
		}
		now, err := b.plan(ctx, shown)
		if err != nil {
			return nil, err
		}
		if changes := drift(shown.tokens, now.tokens); len(changes) > 0 { // a person is not asked in vain
			return nil, drifted(changes)
		}
		return b.call.ask(ctx, shown.question, question{
			message: fmt.Sprintf("End ALL %d API tokens of all managed users of the Atlassian organization behind connection %s, for good? "+
				"Tokens that are made meanwhile end too. %sType the count to agree.", now.count, b.connection.Name, lastUse(now.tokens)),
			phrase: fmt.Sprint(now.count),
		})
	}
}

func (b *bulk) needsHuman() error {
	return &Problem{
		Code:    "human_required",
		Message: "nothing was changed: ending every token needs a person, and this client cannot ask its user (form elicitation)",
		Next:    "use a client that supports form elicitation, do it in Atlassian Administration, or select by filters",
	}
}
