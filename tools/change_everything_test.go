package tools_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/mark3labs/mcp-go/client"
	"github.com/mark3labs/mcp-go/mcp"

	"github.com/tokenreeve/tokenreeve/internal/ledger"
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
	questions []mcp.ElicitationParams
	answer    func(phrase string) (mcp.ElicitationResult, error)
}

// elicit notes the question and answers it. The phrase is the one that the question
// asks for.
func (p *person) elicit(_ context.Context, r mcp.ElicitationRequest) (*mcp.ElicitationResult, error) {
	p.mu.Lock()
	p.questions = append(p.questions, r.Params)
	answer := p.answer
	p.mu.Unlock()
	result, err := answer(phraseIn(r.Params.Message))
	return &result, err
}

// phraseIn is what the last sentence of a question asks for.
func phraseIn(question string) string {
	at := strings.LastIndex(question, " Type ")
	if at < 0 {
		return "no phrase"
	}
	phrase, ok := strings.CutSuffix(question[at+len(" Type "):], " to agree.")
	if !ok {
		return "no end"
	}
	return phrase
}

func (p *person) asked() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var messages []string
	for _, q := range p.questions {
		messages = append(messages, q.Message)
	}
	return messages
}

// last is the latest question.
func (p *person) last() string {
	asked := p.asked()
	return asked[len(asked)-1]
}

// wantAsked fails the test unless the person was asked so many questions.
func (p *person) wantAsked(t testing.TB, times int) {
	t.Helper()
	if asked := p.asked(); len(asked) != times {
		t.Errorf("asked %d times, want %d: %q", len(asked), times, asked)
	}
}

func accept(content any) (mcp.ElicitationResult, error) {
	return mcp.ElicitationResult{ElicitationResponse: mcp.ElicitationResponse{Action: mcp.ElicitationResponseActionAccept, Content: content}}, nil
}

func typed(text any) (mcp.ElicitationResult, error) { return accept(map[string]any{"phrase": text}) }

func typePhrase(phrase string) (mcp.ElicitationResult, error) { return typed(phrase) }

// answering answers with the action, whatever was typed.
func answering(a mcp.ElicitationResponseAction) func(string) (mcp.ElicitationResult, error) {
	return func(phrase string) (mcp.ElicitationResult, error) {
		r, err := typePhrase(phrase)
		r.Action = a
		return r, err
	}
}

func decline(phrase string) (mcp.ElicitationResult, error) {
	return answering(mcp.ElicitationResponseActionDecline)(phrase)
}

// orgWide sets a server up whose Atlassian connection may end everything, and which
// takes its client's word for that of the user.
func orgWide(protocol string, p *person) setup {
	s := setup{
		protocol: protocol, box: sandbox.Options{Tokens: 3, AtlassianTokens: new(20)}, approval: policy.HumanApproval{TrustClient: true},
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
		p := &person{answer: typePhrase}
		h := start(t, orgWide(protocol, p))
		h.serviceAccount("robot")
		managed, others := h.userTokens()
		count := len(managed)
		shown := h.call(bulkTool, everything()).says(fmt.Sprintf("ends all %d API tokens", count), "tokens that are made meanwhile end too", "type the current count")
		if shown.get("targets") != nil || len(p.asked()) > 0 {
			t.Errorf("the preview asked %q and shows %s", p.asked(), shown.text)
		}
		h.forget()
		done := h.call(bulkTool, with(everything(), args{"confirm": shown.code()})).is("revoked")
		out := as[bulkOut](done)
		if out.Counts["targets"] != count || *out.Left != 0 {
			t.Errorf("result %+v", out)
		}
		p.wantAsked(t, 1)
		for _, part := range []string{
			fmt.Sprintf("ends all %d API tokens", count), fmt.Sprintf(" %d tokens, most recent use: ", count), "owners: ", atlassianName,
			"tokens that are made meanwhile end too", `Reason given: "the laptop was stolen".`, fmt.Sprintf(" Type REVOKE ALL %d to agree.", count),
		} {
			if !strings.Contains(p.asked()[0], part) {
				t.Errorf("the question lacks %q: %q", part, p.asked()[0])
			}
		}
		h.wantSent("DELETE /admin/api-access/v1/orgs/" + h.access.Atlassian.OrgID + "/api-tokens")
		h.wantGone(managed...)
		h.wantAlive(others...)
		h.wantApprovedBy(done, "local through the client")
		again := h.call(bulkTool, with(everything(), args{"confirm": shown.code()})).is("revoked")
		if again.get("replayed") != true || len(p.asked()) != 1 || len(h.sent()) != 1 {
			t.Errorf("the replay asked %q, sent %v, answered %s", p.asked(), h.sent(), again.text)
		}
	})
}

// TestEverythingNotApproved: whatever is not the phrase that the person typed ends
// nothing, and leaves the code open.
func TestEverythingNotApproved(t *testing.T) {
	t.Parallel()
	always := func(r mcp.ElicitationResult, err error) func(string) (mcp.ElicitationResult, error) {
		return func(string) (mcp.ElicitationResult, error) { return r, err }
	}
	change := func(how func(words []string) string) func(string) (mcp.ElicitationResult, error) {
		return func(phrase string) (mcp.ElicitationResult, error) { return typed(how(strings.Fields(phrase))) }
	}
	count := func(more int) func(string) (mcp.ElicitationResult, error) {
		return change(func(words []string) string {
			n, err := strconv.Atoi(words[2])
			if err != nil {
				t.Errorf("the phrase is %q", words)
			}
			return fmt.Sprint("REVOKE ALL ", n+more)
		})
	}
	answers := map[string]func(string) (mcp.ElicitationResult, error){
		"cancelled":         answering(mcp.ElicitationResponseActionCancel),
		"unknown action":    answering("agree"),
		"no action":         answering(""),
		"another's action":  answering("Accept"),
		"no form":           always(accept(nil)),
		"empty form":        always(accept(map[string]any{})),
		"form of a list":    func(phrase string) (mcp.ElicitationResult, error) { return accept([]any{phrase}) },
		"form of a text":    func(phrase string) (mcp.ElicitationResult, error) { return accept(phrase) },
		"empty text":        always(typed("")),
		"yes":               always(typed("yes")),
		"true":              always(typed(true)),
		"nothing":           always(typed(nil)),
		"a list of it":      func(phrase string) (mcp.ElicitationResult, error) { return typed([]any{phrase}) },
		"one more":          count(1),
		"one less":          count(-1),
		"the count alone":   change(func(words []string) string { return words[2] }),
		"no count":          change(func(words []string) string { return words[0] + " " + words[1] }),
		"phrase of a bulk":  change(func(words []string) string { return words[0] + " " + words[2] }),
		"phrase of one":     always(typed("REVOKE 1")),
		"phrase and more":   change(func(words []string) string { return strings.Join(words, " ") + " tokens" }),
		"phrase twice":      change(func(words []string) string { return strings.Join(words, " ") + "\n" + strings.Join(words, " ") }),
		"in small letters":  change(func(words []string) string { return strings.ToLower(strings.Join(words, " ")) }),
		"without its space": change(func(words []string) string { return strings.Join(words, "") }),
		"with a zero":       change(func(words []string) string { return words[0] + " " + words[1] + " 0" + words[2] }),
		"hidden letter":     change(func(words []string) string { return strings.Join(words, " ") + "\u200b" }),
		"full-width numbers": change(func(words []string) string {
			wide := func(r rune) rune { return r - '0' + '０' }
			return words[0] + " " + words[1] + " " + strings.Map(wide, words[2])
		}),
		"in another field": func(phrase string) (mcp.ElicitationResult, error) {
			return accept(map[string]any{"Phrase": phrase, "confirm": phrase, "approval": phrase})
		},
	}
	each(t, protocols(), func(t *testing.T, protocol string) {
		p := &person{}
		h := start(t, orgWide(protocol, p))
		shown := h.call(bulkTool, everything())
		confirmed := with(everything(), args{"confirm": shown.code()})
		for how, answer := range answers {
			p.answer = answer
			h.untouched(func() {
				if r := h.call(bulkTool, confirmed); r.problem.Code != "not_approved" {
					t.Fatalf("%s: answered %s", how, r.text)
				} else {
					r.says("nothing was changed", "`tokenreeve approve "+shown.str("preview_id")+"`")
				}
			})
		}
		p.wantAsked(t, len(answers))
		p.answer = typePhrase
		h.call(bulkTool, confirmed).is("revoked")
	})
}

// TestEverythingDeclined: a no is final.
func TestEverythingDeclined(t *testing.T) {
	t.Parallel()
	each(t, protocols(), func(t *testing.T, protocol string) {
		p := &person{answer: decline}
		h := start(t, orgWide(protocol, p))
		shown := h.call(bulkTool, everything())
		confirmed := with(everything(), args{"confirm": shown.code()})
		h.untouched(func() {
			h.call(bulkTool, confirmed).fails("declined").says("nothing was changed", shown.str("preview_id"))
			p.answer = typePhrase
			h.call(bulkTool, confirmed).fails("declined").says("nothing was changed", shown.str("preview_id"))
			h.restart(orgWide(protocol, p)).call(bulkTool, confirmed).fails("declined")
		})
		p.wantAsked(t, 1)
		h.confirm(bulkTool, everything()).is("revoked")
	})
}

func TestEverythingWhoseQuestionFails(t *testing.T) {
	t.Parallel()
	each(t, protocols(), func(t *testing.T, protocol string) {
		p := &person{answer: func(string) (mcp.ElicitationResult, error) {
			return mcp.ElicitationResult{}, errors.New("the window is gone")
		}}
		h := start(t, orgWide(protocol, p))
		code := h.preview(bulkTool, everything())
		h.untouched(func() { // with round trips it is the client that fails
			answer, err := h.client.CallTool(t.Context(), callRequest(bulkTool, with(everything(), args{"confirm": code})))
			if err == nil && h.check(bulkTool, answer).problem.Code != "not_approved" {
				t.Errorf("the call answered %+v", answer)
			}
		})
		p.wantAsked(t, 1)
		p.answer = typePhrase
		h.call(bulkTool, with(everything(), args{"confirm": code})).is("revoked")
	})
}

// TestEverythingNeedsAPerson: where the client's answer is not enough, or there is
// none, only the operator's terminal can allow the change.
func TestEverythingNeedsAPerson(t *testing.T) {
	t.Parallel()
	urls := mcp.ClientCapabilities{Elicitation: &mcp.ElicitationCapability{URL: &struct{}{}}}
	clients := map[string]func(*setup){
		"cannot ask":     func(s *setup) { s.elicit = nil },
		"asks by links":  func(s *setup) { s.elicit, s.client = nil, []client.ClientOption{client.WithClientCapabilities(urls)} },
		"is not trusted": func(s *setup) { s.approval.TrustClient = false },
		"is over HTTP":   func(s *setup) { s.overHTTP = true },
		"and all are off": func(s *setup) {
			s.approval = policy.HumanApproval{Single: policy.ApprovalOff, Bulk: policy.ApprovalOff}
		},
		"deaf and on HTTP": func(s *setup) { s.elicit, s.overHTTP = nil, true },
	}
	for name, protocol := range protocols() {
		for what, spoil := range clients {
			t.Run(name+"/"+what, func(t *testing.T) {
				t.Parallel()
				p := &person{answer: typePhrase}
				s := orgWide(protocol, p)
				spoil(&s)
				h := start(t, s)
				managed, _ := h.userTokens()
				shown := h.call(bulkTool, everything())
				confirmed := with(everything(), args{"confirm": shown.code()})
				command := "`tokenreeve approve " + shown.str("preview_id") + "`"
				if !strings.Contains(shown.str("next"), command) {
					t.Errorf("the preview does not name %s: %s", command, shown.text)
				}
				h.untouched(func() {
					for range 2 {
						h.call(bulkTool, confirmed).fails("human_required").says("nothing was changed", command)
					}
				})
				h.approveAtTerminal(shown)
				done := h.call(bulkTool, confirmed).is("revoked")
				h.wantGone(managed...)
				h.wantApprovedBy(done, terminalUser)
				p.wantAsked(t, 0)
			})
		}
	}
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
				p := &person{answer: typePhrase}
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
				p.answer = func(phrase string) (mcp.ElicitationResult, error) {
					change(h)
					return typePhrase(phrase)
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
		p := &person{answer: typePhrase}
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
		h := start(t, orgWide(protocol, &person{answer: typePhrase}))
		code := h.preview(bulkTool, everything())
		h.fault(sandbox.Fault{Method: "DELETE", Kind: sandbox.FaultLostAnswer})
		lost := h.call(bulkTool, with(everything(), args{"confirm": code})).is("unknown").says("the answer was lost", "it is not sent again")
		if out := as[bulkOut](lost); out.Left == nil || *out.Left != 0 {
			t.Errorf("what is left does not stand in %s", lost.text)
		}
		again := h.call(bulkTool, with(everything(), args{"confirm": code})).is("unknown")
		if again.get("replayed") != true || again.str("operation_id") != lost.str("operation_id") {
			t.Errorf("the replay answered %s", again.text)
		}
		if op := h.operationOf(lost); op.Outcome != ledger.Unknown {
			t.Errorf("the outcome on record is %q", op.Outcome)
		}
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
		p.answer = func(phrase string) (mcp.ElicitationResult, error) {
			h.env.Work.Stop()
			return typePhrase(phrase)
		}
		code := h.preview(bulkTool, everything())
		h.untouched(func() {
			if r := h.call(bulkTool, with(everything(), args{"confirm": code})); r.problem.Code != "not_approved" && r.problem.Code != "server_stopping" {
				t.Errorf("the call answered %s", r.text)
			}
		})
	})
}
