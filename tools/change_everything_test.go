package tools_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mark3labs/mcp-go/client"
	mcptransport "github.com/mark3labs/mcp-go/client/transport"
	"github.com/mark3labs/mcp-go/mcp"

	"github.com/tokenreeve/tokenreeve/internal/policy"
	"github.com/tokenreeve/tokenreeve/internal/sandbox"
)

// protocols are the two ways to ask a client's user.
func protocols() map[string]string {
	return map[string]string{"elicitation": "2025-06-18", "round trips": "2026-07-28"}
}

// person answers the server's questions.
type person struct {
	mu        sync.Mutex
	questions []string
	answer    func(count int) (mcp.ElicitationResult, error)
}

// elicit notes the question and answers it. count is what the question shows.
func (p *person) elicit(_ context.Context, r mcp.ElicitationRequest) (*mcp.ElicitationResult, error) {
	p.mu.Lock()
	p.questions = append(p.questions, r.Params.Message)
	answer := p.answer
	p.mu.Unlock()
	count := 0
	if _, text, ok := strings.Cut(r.Params.Message, "End ALL "); ok {
		text, _, _ = strings.Cut(text, " ")
		count, _ = strconv.Atoi(text)
	}
	result, err := answer(count)
	return &result, err
}

func (p *person) asked() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]string(nil), p.questions...)
}

func accept(content any) (mcp.ElicitationResult, error) {
	return mcp.ElicitationResult{ElicitationResponse: mcp.ElicitationResponse{Action: mcp.ElicitationResponseActionAccept, Content: content}}, nil
}

func typed(text any) (mcp.ElicitationResult, error) { return accept(map[string]any{"phrase": text}) }

func typeCount(count int) (mcp.ElicitationResult, error) { return typed(strconv.Itoa(count)) }

// orgWide sets a server up whose Atlassian connection may end everything.
func orgWide(protocol string, p *person) setup {
	s := setup{
		protocol: protocol, box: sandbox.Options{Tokens: 3, AtlassianTokens: new(20)},
		connections: []connect{{name: atlassianName, vendor: sandbox.Atlassian, orgWideRevoke: true}},
	}
	if p != nil {
		s.elicit = p.elicit
	}
	return s
}

func everything() args {
	return args{"connection": atlassianName, "everything": true, "reason": "the laptop was stolen"}
}

// userTokens are the ids of what the org-wide revocation ends, and of the others.
func (h *harness) userTokens() (managed, others []string) {
	for _, t := range h.box.AtlassianTokens() {
		if t.ServiceAccount || t.Unmanaged {
			others = append(others, t.ID)
		} else {
			managed = append(managed, t.ID)
		}
	}
	return managed, others
}

func TestEverything(t *testing.T) {
	t.Parallel()
	each(t, protocols(), func(t *testing.T, protocol string) {
		p := &person{answer: typeCount}
		h := start(t, orgWide(protocol, p))
		h.serviceAccount("robot")
		managed, others := h.userTokens()
		count := len(managed)
		shown := h.call(bulkTool, everything()).says(fmt.Sprintf("ends all %d API tokens", count), "tokens that are made meanwhile end too", "type the current count")
		if shown.get("targets") != nil || len(p.asked()) > 0 {
			t.Errorf("the preview asked %q and shows %s", p.asked(), shown.text)
		}
		h.forget()
		out := as[bulkOut](h.call(bulkTool, with(everything(), args{"confirm": shown.code()})).is("revoked"))
		if out.Counts["targets"] != count || *out.Left != 0 {
			t.Errorf("result %+v", out)
		}
		if asked := p.asked(); len(asked) != 1 || !strings.Contains(asked[0], fmt.Sprintf("ALL %d API tokens", count)) || !strings.Contains(asked[0], atlassianName) {
			t.Errorf("asked %q", asked)
		}
		h.wantSent("DELETE /admin/api-access/v1/orgs/" + h.access.Atlassian.OrgID + "/api-tokens")
		h.wantGone(managed...)
		h.wantAlive(others...)
		again := h.call(bulkTool, with(everything(), args{"confirm": shown.code()})).is("revoked")
		if again.get("replayed") != true || len(p.asked()) != 1 || len(h.sent()) != 1 {
			t.Errorf("the replay asked %q, sent %v, answered %s", p.asked(), h.sent(), again.text)
		}
	})
}

// TestEverythingNotApproved: whatever is not the count that the person typed ends
// nothing, and leaves the code open.
func TestEverythingNotApproved(t *testing.T) {
	t.Parallel()
	action := func(a mcp.ElicitationResponseAction) func(int) (mcp.ElicitationResult, error) {
		return func(count int) (mcp.ElicitationResult, error) {
			r, err := typeCount(count) // what was typed does not matter then
			r.Action = a
			return r, err
		}
	}
	always := func(r mcp.ElicitationResult, err error) func(int) (mcp.ElicitationResult, error) {
		return func(int) (mcp.ElicitationResult, error) { return r, err }
	}
	answers := map[string]func(int) (mcp.ElicitationResult, error){
		"declined":          action(mcp.ElicitationResponseActionDecline),
		"cancelled":         action(mcp.ElicitationResponseActionCancel),
		"unknown action":    action("agree"),
		"no action":         action(""),
		"no form":           always(accept(nil)),
		"empty form":        always(accept(map[string]any{})),
		"form of a list":    always(accept([]any{"20"})),
		"empty text":        always(typed("")),
		"yes":               always(typed("yes")),
		"true":              always(typed(true)),
		"ALL":               always(typed("ALL")),
		"one more":          func(count int) (mcp.ElicitationResult, error) { return typeCount(count + 1) },
		"one less":          func(count int) (mcp.ElicitationResult, error) { return typeCount(count - 1) },
		"count as a number": func(count int) (mcp.ElicitationResult, error) { return typed(count) },
		"count and more":    func(count int) (mcp.ElicitationResult, error) { return typed(fmt.Sprint(count, " tokens")) },
		"count in hex":      func(count int) (mcp.ElicitationResult, error) { return typed(fmt.Sprintf("%#x", count)) },
		"in another field": func(count int) (mcp.ElicitationResult, error) {
			return accept(map[string]any{"count": fmt.Sprint(count)})
		},
		"count with a zero":  func(count int) (mcp.ElicitationResult, error) { return typed(fmt.Sprint("0", count)) },
		"full-width numbers": func(count int) (mcp.ElicitationResult, error) { return typed("２０") },
	}
	for name, protocol := range protocols() {
		for how, answer := range answers {
			t.Run(name+"/"+how, func(t *testing.T) {
				t.Parallel()
				p := &person{answer: answer}
				h := start(t, orgWide(protocol, p))
				code := h.preview(bulkTool, everything())
				confirmed := with(everything(), args{"confirm": code})
				h.untouched(func() { h.call(bulkTool, confirmed).fails("not_approved").says("nothing was changed") })
				if len(p.asked()) != 1 {
					t.Errorf("asked %d times", len(p.asked()))
				}
				p.answer = typeCount
				h.call(bulkTool, confirmed).is("revoked")
			})
		}
	}
}

func TestEverythingWhoseQuestionFails(t *testing.T) {
	t.Parallel()
	each(t, protocols(), func(t *testing.T, protocol string) {
		p := &person{answer: func(int) (mcp.ElicitationResult, error) {
			return mcp.ElicitationResult{}, errors.New("the window is gone")
		}}
		h := start(t, orgWide(protocol, p))
		code := h.preview(bulkTool, everything())
		h.untouched(func() { // with round trips it is the client that fails
			answer, err := h.client.CallTool(t.Context(), callRequest(bulkTool, with(everything(), args{"confirm": code})))
			if err == nil && !answer.IsError {
				t.Errorf("the call answered %+v", answer)
			}
		})
	})
}

// TestEverythingNeedsAPersonAtTheClient: other clients get neither a code nor, with
// the code of one that can ask, the change.
func TestEverythingNeedsAPersonAtTheClient(t *testing.T) {
	t.Parallel()
	each(t, protocols(), func(t *testing.T, protocol string) {
		h := start(t, orgWide(protocol, &person{answer: typeCount}))
		code := h.preview(bulkTool, everything())
		deaf := *h
		deaf.setup.elicit = nil
		deaf.connect()
		links := *h
		links.setup.client = []client.ClientOption{client.WithClientCapabilities(mcp.ClientCapabilities{Elicitation: &mcp.ElicitationCapability{URL: &struct{}{}}})}
		links.connect()
		for _, other := range []*harness{&deaf, &links} {
			h.untouched(func() {
				r := other.call(bulkTool, everything()).fails("human_required").says("form elicitation")
				if strings.Contains(r.text, `"confirm"`) {
					t.Errorf("a code: %s", r.text)
				}
				other.call(bulkTool, with(everything(), args{"confirm": code})).fails("human_required")
			})
		}
		h.call(bulkTool, with(everything(), args{"confirm": code})).is("revoked")
	})
}

// TestEverythingWhileTokensChange: the organization is not what was shown, or asked
// about, any more.
func TestEverythingWhileTokensChange(t *testing.T) {
	t.Parallel()
	remove := func(h *harness) {
		managed, _ := h.userTokens()
		h.box.DeleteAtlassianToken(managed[0])
	}
	add := func(h *harness) { h.addAtlassian("new") }
	changes := map[string]func(*harness){
		"one more": add, "one less": remove,
		"one came, one went": func(h *harness) { add(h); remove(h) },
		"another owner": func(h *harness) {
			managed, _ := h.userTokens()
			_ = h.box.UpdateAtlassianToken(managed[0], func(t *sandbox.AtlassianToken) { t.AccountID = "712020:0123" })
		},
	}
	for name, protocol := range protocols() {
		for what, change := range changes {
			t.Run(name+"/"+what+" before the question", func(t *testing.T) {
				t.Parallel()
				p := &person{answer: typeCount}
				h := start(t, orgWide(protocol, p))
				code := h.preview(bulkTool, everything())
				change(h)
				h.untouched(func() { h.call(bulkTool, with(everything(), args{"confirm": code})).fails("targets_changed") })
				if len(p.asked()) > 0 {
					t.Errorf("a person was asked for nothing: %q", p.asked())
				}
			})
			t.Run(name+"/"+what+" during the question", func(t *testing.T) {
				t.Parallel()
				p := &person{}
				h := start(t, orgWide(protocol, p))
				p.answer = func(count int) (mcp.ElicitationResult, error) {
					change(h)
					return typeCount(count)
				}
				code := h.preview(bulkTool, everything())
				h.forget()
				if r := h.call(bulkTool, with(everything(), args{"confirm": code})); r.problem.Code != "targets_changed" {
					t.Errorf("the call answered %s", r.text)
				}
				h.wantSent()
			})
		}
	}
}

func TestEverythingRefusals(t *testing.T) {
	t.Parallel()
	each(t, map[string]struct {
		spoil func(*harness)
		code  string
	}{
		"a protected token": {func(h *harness) {
			h.addAtlassian("keep")
			h.allow(policy.Policy{Protect: policy.Protect{Names: []string{"keep"}}})
		}, "protected"},
		"a protected owner": {func(h *harness) {
			h.allow(policy.Policy{Protect: policy.Protect{Owners: []string{h.addAtlassian("laptop").OwnerEmail}}})
		}, "protected"},
		"another count": {func(h *harness) {
			h.fault(sandbox.Fault{PathContains: "/count", Kind: sandbox.FaultStatus, Status: 200, ContentType: "application/json", Body: "19"})
		}, "incomplete_listing"},
		"no count": {func(h *harness) {
			h.fault(sandbox.Fault{PathContains: "/count", Kind: sandbox.FaultStatus, Status: 403})
		}, "forbidden"},
		"no list": {func(h *harness) {
			h.fault(sandbox.Fault{Method: "GET", PathContains: "/api-tokens", Kind: sandbox.FaultStatus, Status: 403})
		}, "incomplete_listing"},
		"switched off": {func(h *harness) { h.env.Connections[0].OrgWideRevoke = false }, "policy_refused"},
		"not allowed":  {func(h *harness) { h.allow(policy.Policy{Allow: []policy.Class{policy.Read, policy.Revoke}}) }, "policy_refused"},
	}, func(t *testing.T, c struct {
		spoil func(*harness)
		code  string
	},
	) {
		p := &person{answer: typeCount}
		h := start(t, orgWide("2026-07-28", p))
		before := h.preview(bulkTool, everything())
		c.spoil(h)
		h.untouched(func() {
			h.call(bulkTool, everything()).fails(c.code)
			r := h.call(bulkTool, with(everything(), args{"confirm": before}))
			if r.problem.Code != c.code && r.problem.Code != "targets_changed" {
				t.Errorf("with a code from before: %s", r.text)
			}
		})
		if len(p.asked()) > 0 {
			t.Errorf("a person was asked for nothing: %q", p.asked())
		}
	})
}

func TestEverythingWhoseAnswerIsLost(t *testing.T) {
	t.Parallel()
	each(t, protocols(), func(t *testing.T, protocol string) {
		h := start(t, orgWide(protocol, &person{answer: typeCount}))
		code := h.preview(bulkTool, everything())
		h.fault(sandbox.Fault{Method: "DELETE", Kind: sandbox.FaultLostAnswer})
		h.call(bulkTool, with(everything(), args{"confirm": code})).fails("outcome_unknown").says("do not simply repeat")
		h.call(bulkTool, with(everything(), args{"confirm": code})).fails("outcome_unknown")
		if len(h.sent()) != 1 {
			t.Errorf("sent %v, want one DELETE", h.sent())
		}
	})
}

// TestEverythingWhenTheServerStops ends the question, and nothing else.
func TestEverythingWhenTheServerStops(t *testing.T) {
	t.Parallel()
	each(t, protocols(), func(t *testing.T, protocol string) {
		p := &person{}
		h := start(t, orgWide(protocol, p))
		p.answer = func(count int) (mcp.ElicitationResult, error) {
			h.env.Work.Stop()
			return typeCount(count)
		}
		code := h.preview(bulkTool, everything())
		h.untouched(func() {
			if r := h.call(bulkTool, with(everything(), args{"confirm": code})); r.problem.Code != "not_approved" && r.problem.Code != "server_stopping" {
				t.Errorf("the call answered %s", r.text)
			}
		})
	})
}

// rawCall sends a call with answers to questions, as a client of the newest
// protocol does, and returns the answer as it is.
func (h *harness) rawCall(a args, state string, answers map[string]any) (answer struct {
	ResultType    string         `json:"resultType"`
	RequestState  string         `json:"requestState"`
	InputRequests map[string]any `json:"inputRequests"`
	IsError       bool           `json:"isError"`
	Content       []struct{ Text string }
},
) {
	h.t.Helper()
	params := args{
		"name": bulkTool, "arguments": a,
		"_meta": args{
			mcp.MetaKeyProtocolVersion:    "2026-07-28",
			mcp.MetaKeyClientCapabilities: args{"elicitation": args{}},
		},
	}
	if state != "" {
		params["requestState"] = state
	}
	if answers != nil {
		params["inputResponses"] = answers
	}
	response, err := h.client.GetTransport().SendRequest(h.t.Context(), mcptransport.JSONRPCRequest{
		JSONRPC: mcp.JSONRPC_VERSION, ID: mcp.NewRequestId(time.Now().UnixNano()), Method: string(mcp.MethodToolsCall), Params: params,
	})
	if err != nil || response.Error != nil {
		h.t.Fatalf("%v %+v", err, response)
	}
	if err := json.Unmarshal(response.Result, &answer); err != nil {
		h.t.Fatal(err)
	}
	return answer
}

// TestRequestStateWorksOnce plays a client that makes up, mixes up and replays what
// belongs to a question.
func TestRequestStateWorksOnce(t *testing.T) {
	t.Parallel()
	h := start(t, orgWide("2026-07-28", &person{answer: typeCount}))
	managed, _ := h.userTokens()
	right := map[string]any{"approval": args{"action": "accept", "content": args{"phrase": strconv.Itoa(len(managed))}}}
	wrong := map[string]any{"approval": args{"action": "accept", "content": args{"phrase": "1"}}}
	confirmed := with(everything(), args{"confirm": h.preview(bulkTool, everything())})
	other := with(everything(), args{"reason": "another", "confirm": h.preview(bulkTool, with(everything(), args{"reason": "another"}))})
	ask := func(a args) string {
		t.Helper()
		asked := h.rawCall(a, "", nil)
		if asked.ResultType != "input_required" || len(asked.RequestState) < 26 || len(asked.InputRequests) != 1 {
			t.Fatalf("no question: %+v", asked)
		}
		return asked.RequestState
	}
	refused := func(a args, state string, answers map[string]any) {
		t.Helper()
		h.untouched(func() {
			answer := h.rawCall(a, state, answers)
			if !answer.IsError || !strings.Contains(answer.Content[0].Text, `"not_approved"`) {
				t.Errorf("state %q and answer %v: %+v, want not_approved", state, answers, answer)
			}
		})
	}
	refused(confirmed, "", right)                           // nobody was asked
	refused(confirmed, "ABCDEFGHIJKLMNOPQRSTUVWXYZ", right) // made up
	first := ask(confirmed)
	refused(other, first, right) // of another preview's question
	refused(confirmed, "", right)
	refused(confirmed, first, right) // a wrong try closed the question
	second := ask(confirmed)
	refused(confirmed, second, wrong)
	refused(confirmed, second, right) // replayed
	third, fourth := ask(confirmed), ask(confirmed)
	refused(confirmed, third, right) // only the latest question is open
	refused(confirmed, fourth, right)
	last := ask(confirmed)
	if answer := h.rawCall(confirmed, last, right); answer.IsError || !strings.Contains(answer.Content[0].Text, `"status":"revoked"`) {
		t.Fatalf("the right answer to the right question: %+v", answer)
	}
	h.wantGone(managed...)
	again := h.rawCall(confirmed, last, right)
	if again.IsError || !strings.Contains(again.Content[0].Text, `"replayed":true`) || len(h.sent()) != 1 {
		t.Errorf("the replay: %+v, sent %v", again, h.sent())
	}
}
