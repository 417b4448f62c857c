package tools_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	mcptransport "github.com/mark3labs/mcp-go/client/transport"
	"github.com/mark3labs/mcp-go/mcp"

	"github.com/tokenreeve/tokenreeve/auth"
	"github.com/tokenreeve/tokenreeve/internal/ledger"
	"github.com/tokenreeve/tokenreeve/internal/policy"
	"github.com/tokenreeve/tokenreeve/internal/sandbox"
	"github.com/tokenreeve/tokenreeve/tools"
)

// terminalUser is who approves at the operator's terminal, and clientUser whom the
// record names where a client said yes.
const (
	terminalUser = "local:root"
	clientUser   = "local through the client"
)

// few is a sandbox of few tokens, which starts sooner.
func few() sandbox.Options { return sandbox.Options{Tokens: 9} }

// atTerminal is the record as the command line opens it: in another process.
func (h *harness) atTerminal(do func(*ledger.Ledger) error) {
	h.t.Helper()
	l := ledger.New(filepath.Join(h.setup.stateDir, "ledger.db"), ledger.Options{Now: h.clock.Now})
	defer l.Close()
	if err := do(l); err != nil {
		h.t.Error(err)
	}
}

// approveAtTerminal approves what a preview showed.
func (h *harness) approveAtTerminal(shown result) {
	h.t.Helper()
	h.atTerminal(func(l *ledger.Ledger) error {
		_, err := l.ApprovePreview(context.Background(), shown.str("preview_id"), terminalUser)
		return err
	})
}

// declineAtTerminal declines what a preview showed.
func (h *harness) declineAtTerminal(shown result) {
	h.t.Helper()
	h.atTerminal(func(l *ledger.Ledger) error {
		_, err := l.DeclinePreview(context.Background(), shown.str("preview_id"), terminalUser)
		return err
	})
}

// operationOf returns what is on record of the change that a call made.
func (h *harness) operationOf(r result) ledger.Operation {
	h.t.Helper()
	op, err := h.env.Ledger.Get(h.t.Context(), r.str("operation_id"))
	if err != nil {
		h.t.Fatalf("%v: %s", err, r.text)
	}
	return op
}

// wantApprovedBy fails the test unless the operation on record says who approved it,
// and from which preview it came.
func (h *harness) wantApprovedBy(r result, who string) {
	h.t.Helper()
	if op := h.operationOf(r); op.ApprovedBy != who || op.Preview == "" {
		h.t.Errorf("operation %s came from preview %q, approved by %q, want by %q", op.ID, op.Preview, op.ApprovedBy, who)
	}
}

// wantNext fails the test unless the preview's next step is to have it approved, or,
// where it is not, says nothing of that.
func wantNext(t testing.TB, shown result, approved bool) {
	t.Helper()
	command := "`tokenreeve approve " + shown.str("preview_id") + "`"
	if got := strings.Contains(shown.str("next"), command); got != approved {
		t.Errorf("that the preview names %s is %v, want %v: %s", command, got, approved, shown.text)
	}
}

// proposal is a change with what a person types to agree to it.
type proposal struct {
	tool   string
	phrase string
	status string
	says   []string // in the question
	other  args     // an argument that differs
	args   func(*harness) args
}

// proposals are changes of every tool. Those of several tokens are bulk changes.
func proposals() map[string]proposal {
	const ld, at, mt = launchDarklyName, atlassianName, mailtrapName
	const ends = "ends this token at once and for good"
	why := args{"reason": "another"}
	return map[string]proposal{
		"revoke at LaunchDarkly": {"revoke_token", "REVOKE 1", "revoked", []string{ends, `"old"`, "1 token,"}, why, func(h *harness) args {
			return args{"connection": ld, "token_id": h.addLaunchDarkly("old").ID}
		}},
		"revoke at Mailtrap": {"revoke_token", "REVOKE 1", "revoked", []string{ends, `"old"`, "1 token,"}, why, func(h *harness) args {
			return args{"connection": mt, "token_id": number(h.addMailtrap("old").ID), "reason": "unused since May"}
		}},
		"revoke at Atlassian": {"revoke_token", "REVOKE 1", "revoked", []string{ends, `"old"`, "1 token,"}, why, func(h *harness) args {
			t := h.addAtlassian("old")
			return args{"connection": at, "token_id": t.ID, "owner": t.AccountID}
		}},
		"rotate": {"rotate_token", "ROTATE 1", "rotated", []string{"gets a new secret", "The old secret works until", "files/a", `"old"`}, args{"overlap": "3h"}, func(h *harness) args {
			return args{"connection": ld, "token_id": h.addLaunchDarkly("old").ID, "overlap": "2h", "deliver_to": "files/a"}
		}},
		"rotate a compromised one": {"rotate_token", "ROTATE 1", "rotated", []string{"The old secret stops at once", `"old"`}, args{"deliver_to": "files/b"}, func(h *harness) args {
			return args{"connection": ld, "token_id": h.addLaunchDarkly("old").ID, "compromised": true}
		}},
		"update": {"update_launchdarkly_token", "UPDATE 1", "updated", []string{`"name: 'before' → 'after'"`, "role:reader → role:writer", "more access than it has"}, args{"name": "After"}, func(h *harness) args {
			return args{"connection": ld, "token_id": h.addLaunchDarkly("before").ID, "name": "after", "role": "writer"}
		}},
		"create at LaunchDarkly": {"create_launchdarkly_token", "CREATE 1", "created", []string{"creates a token with read access", "its name is 'ci'", "role:reader"}, args{"role": "writer"}, func(*harness) args {
			return reader()
		}},
		"create at Mailtrap": {"create_mailtrap_token", "CREATE 1", "created", []string{"creates a token with these rights at Mailtrap: viewer of account 3229", "its name is 'ci'"}, args{"name": "ci2"}, func(*harness) args {
			return viewer()
		}},
		"bulk by ids": {"bulk_revoke_tokens", "REVOKE 2", "revoked", []string{"2 tokens,", `Reason given: "unused"`}, why, func(h *harness) args {
			return args{"connection": ld, "reason": "unused", "token_ids": []string{h.addLaunchDarkly("a").ID, h.addLaunchDarkly("b").ID}}
		}},
		"bulk of one": {"bulk_revoke_tokens", "REVOKE 1", "revoked", []string{"1 token,", `"a"`}, why, func(h *harness) args {
			return args{"connection": ld, "reason": "unused", "token_ids": []string{h.addLaunchDarkly("a").ID}}
		}},
		"bulk by filters": {"bulk_revoke_tokens", "REVOKE 3", "revoked", []string{"3 tokens,"}, args{"query": "filtere"}, func(h *harness) args {
			for i := range 3 {
				h.addLaunchDarkly(fmt.Sprint("filtered ", i))
			}
			return args{"connection": ld, "reason": "unused", "query": "filtered"}
		}},
		"bulk of a service account": {"bulk_revoke_tokens", "REVOKE ALL 2", "revoked", []string{"2 tokens,", "with one call"}, why, func(h *harness) args {
			account, _ := h.serviceAccount("x", "y")
			return args{"connection": at, "reason": "unused", "service_accounts": []string{account}, "all_of_service_account": true}
		}},
	}
}

// isBulk tells whose demand counts.
func (c proposal) isBulk() bool { return c.tool == bulkTool }

// demanding is a setting that demands this of the proposal, and of others less.
func (c proposal) demanding(demand policy.Approval) policy.HumanApproval {
	if c.isBulk() {
		return policy.HumanApproval{Single: policy.ApprovalOff, Bulk: demand}
	}
	return policy.HumanApproval{Single: demand, Bulk: policy.ApprovalOff}
}

// wantDone fails the test unless the change happened just now.
func (c proposal) wantDone(h *harness, r result) {
	h.t.Helper()
	if r.is(c.status); len(h.sent()) == 0 || r.get("replayed") != nil {
		h.t.Errorf("sent %q, answered %s", h.sent(), r.text)
	}
}

// TestApprovalDemands: what each setting demands of each kind of client.
func TestApprovalDemands(t *testing.T) {
	t.Parallel()
	const off, possible, required = policy.ApprovalOff, policy.ApprovalWhenPossible, policy.ApprovalRequired
	type way string // in which a change is allowed
	const freely, asked, terminal way = "freely", "asked", "terminal"
	clients := map[string]struct {
		asks, http, trusted bool
		want                map[policy.Approval]way
	}{
		"cannot ask":              {false, false, false, map[policy.Approval]way{off: freely, possible: freely, required: terminal}},
		"cannot ask, over HTTP":   {false, true, false, map[policy.Approval]way{off: freely, possible: freely, required: terminal}},
		"cannot ask, but trusted": {false, false, true, map[policy.Approval]way{off: freely, possible: freely, required: terminal}},
		"asks":                    {true, false, false, map[policy.Approval]way{off: freely, possible: asked, required: terminal}},
		"asks, over HTTP":         {true, true, false, map[policy.Approval]way{off: freely, possible: asked, required: terminal}},
		"trusted":                 {true, false, true, map[policy.Approval]way{off: freely, possible: asked, required: asked}},
		"trusted, over HTTP":      {true, true, true, map[policy.Approval]way{off: freely, possible: asked, required: terminal}},
	}
	for _, kind := range []string{"revoke at LaunchDarkly", "bulk by ids"} {
		c := proposals()[kind]
		for name, protocol := range protocols() {
			for what, client := range clients {
				if !client.asks && protocol != "2026-07-28" {
					continue // it makes no difference there
				}
				for demand, want := range client.want {
					t.Run(strings.Join([]string{kind, name, what, string(demand)}, "/"), func(t *testing.T) {
						t.Parallel()
						p := &person{answer: typePhrase}
						s := setup{box: few(), protocol: protocol, overHTTP: client.http, approval: c.demanding(demand)}
						s.approval.TrustClient = client.trusted
						if client.asks {
							s.elicit = p.elicit
						}
						h := start(t, s)
						a := c.args(h)
						shown := h.call(c.tool, a)
						confirmed := with(a, args{"confirm": shown.code()})
						wantNext(t, shown, want == terminal)
						p.wantAsked(t, 0)
						by := map[way]string{freely: "", asked: clientUser, terminal: terminalUser}[want]
						if want == terminal {
							h.untouched(func() {
								h.call(c.tool, confirmed).fails("human_required").says("`tokenreeve approve " + shown.str("preview_id") + "`")
							})
							h.approveAtTerminal(shown)
						}
						h.forget()
						done := h.call(c.tool, confirmed)
						c.wantDone(h, done)
						h.wantApprovedBy(done, by)
						p.wantAsked(t, map[way]int{asked: 1}[want])
					})
				}
			}
		}
	}
}

// TestApprovalByQuestion: every tool asks, tells what a person must know, and acts on
// the phrase alone.
func TestApprovalByQuestion(t *testing.T) {
	t.Parallel()
	each(t, protocols(), func(t *testing.T, protocol string) {
		p := &person{answer: typePhrase}
		all := start(t, setup{
			box: few(), protocol: protocol, elicit: p.elicit, overHTTP: true,
			approval: policy.HumanApproval{Single: policy.ApprovalWhenPossible},
		})
		for kind, c := range proposals() {
			t.Run(kind, func(t *testing.T) { // one after the other: they share a server and a person
				h := all.on(t)
				p.questions = nil
				a := c.args(h)
				confirmed := with(a, args{"confirm": h.preview(c.tool, a)})
				h.forget()
				done := h.call(c.tool, confirmed)
				c.wantDone(h, done)
				h.wantApprovedBy(done, clientUser)
				p.wantAsked(t, 1)
				wantForm(t, p.questions[0], c.phrase)
				for _, part := range append(c.says, c.tool, a["connection"].(string)) {
					if !strings.Contains(p.questions[0].Message, part) {
						t.Errorf("the question lacks %s: %s", part, p.questions[0].Message)
					}
				}
			})
		}
	})
}

// wantForm fails the test unless the question has one required text field without a
// default, and asks for the phrase.
func wantForm(t testing.TB, q mcp.ElicitationParams, phrase string) {
	t.Helper()
	form, err := json.Marshal(q.RequestedSchema)
	if err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf(`{"properties":{"phrase":{"description":"type %s to agree","title":"Type to agree","type":"string"}},"required":["phrase"],"type":"object"}`, phrase)
	if string(form) != want {
		t.Errorf("the form is %s, want %s", form, want)
	}
	if got := phraseIn(q.Message); got != phrase {
		t.Errorf("the question asks for %q, want %q: %q", got, phrase, q.Message)
	}
}

// TestApprovalAtTheTerminal: an approved preview acts once, with its code and its
// arguments only.
func TestApprovalAtTheTerminal(t *testing.T) {
	t.Parallel()
	each(t, proposals(), func(t *testing.T, c proposal) {
		h := start(t, setup{box: few(), overHTTP: true, approval: c.demanding(policy.ApprovalRequired)})
		a := c.args(h)
		first, second := h.call(c.tool, a), h.call(c.tool, a)
		confirmed := with(a, args{"confirm": first.code()})
		mismatch := with(confirmed, c.other)
		h.untouched(func() {
			h.call(c.tool, confirmed).fails("human_required")
			h.call(c.tool, mismatch).fails("preview_mismatch")
		})
		h.approveAtTerminal(first)
		h.untouched(func() {
			h.call(c.tool, mismatch).fails("preview_mismatch")
			// An approved preview is no code, and neither is its id.
			if again := h.call(c.tool, a); again.code() == first.code() || again.str("preview_id") == first.str("preview_id") {
				t.Errorf("without the code: %s", again.text)
			}
			for _, code := range []any{first.str("preview_id"), true, "yes", c.phrase, ""} {
				h.call(c.tool, with(a, args{"confirm": code})).code()
			}
			h.call(c.tool, with(a, args{"confirm": second.code()})).fails("human_required") // of another preview
			h.callAs("mallory", c.tool, confirmed).code()                                   // another's code
		})
		done := h.call(c.tool, confirmed)
		c.wantDone(h, done)
		h.wantApprovedBy(done, terminalUser)
		sent := len(h.sent())
		if again := h.call(c.tool, confirmed).is(c.status); again.get("replayed") != true || len(h.sent()) != sent {
			t.Errorf("the replay sent %q, answered %s", h.sent(), again.text)
		}
		h.untouched(func() { h.call(c.tool, with(a, args{"confirm": second.code()})).fails("human_required") })
	})
}

// TestApprovedOfEachTarget: each target of an approved bulk change says who approved it.
func TestApprovedOfEachTarget(t *testing.T) {
	t.Parallel()
	c := proposals()["bulk by ids"]
	h := start(t, setup{box: few(), approval: c.demanding(policy.ApprovalRequired)})
	a := c.args(h)
	shown := h.call(c.tool, a)
	h.approveAtTerminal(shown)
	done := h.call(c.tool, with(a, args{"confirm": shown.code()})).is("revoked")
	page, err := h.env.Ledger.List(t.Context(), ledger.Query{Parent: done.str("operation_id")})
	if err != nil || len(page.Operations) != 2 {
		t.Fatalf("%d operations below it, %v", len(page.Operations), err)
	}
	for _, op := range page.Operations {
		if op.ApprovedBy != terminalUser || op.Preview != shown.str("preview_id") {
			t.Errorf("operation %s of preview %s was approved by %q", op.ID, op.Preview, op.ApprovedBy)
		}
	}
	if got := h.call("get_operation", args{"operation_id": done.str("operation_id")}); got.str("approved_by") != terminalUser {
		t.Errorf("get_operation answers %s", got.text)
	}
}

// TestDriftAfterApproval: a person agreed to what was shown, and to nothing else.
func TestDriftAfterApproval(t *testing.T) {
	t.Parallel()
	rename := func(h *harness, a args) {
		id, _ := a["token_id"].(string)
		if ids, ok := a["token_ids"].([]string); ok {
			id = ids[0]
		}
		if err := h.box.UpdateLaunchDarklyToken(id, func(t *sandbox.LaunchDarklyToken) { t.Name = "production" }); err != nil {
			h.t.Error(err)
		}
	}
	protect := func(h *harness, _ args) {
		h.allow(policy.Policy{Protect: policy.Protect{Kinds: []string{"user"}}})
	}
	for what, drift := range map[string]struct {
		change func(*harness, args)
		code   string
	}{"renamed": {rename, "targets_changed"}, "protected": {protect, "protected"}} {
		for _, kind := range []string{"revoke at LaunchDarkly", "rotate", "rotate a compromised one", "update", "bulk by ids", "bulk of one"} {
			t.Run(what+"/"+kind, func(t *testing.T) {
				t.Parallel()
				c := proposals()[kind]
				h := start(t, setup{box: few(), approval: c.demanding(policy.ApprovalRequired)})
				a := c.args(h)
				shown := h.call(c.tool, a)
				confirmed := with(a, args{"confirm": shown.code()})
				h.approveAtTerminal(shown)
				drift.change(h, a)
				h.untouched(func() {
					for range 2 { // the code is spent
						h.call(c.tool, confirmed).fails(drift.code)
					}
				})
				page, err := h.env.Ledger.List(t.Context(), ledger.Query{Preview: shown.str("preview_id")})
				if err != nil || len(page.Operations) != 1 || page.Operations[0].Outcome != ledger.Refused || page.Operations[0].ApprovedBy != terminalUser {
					t.Errorf("on record: %+v, %v", page.Operations, err)
				}
			})
		}
	}
}

// TestDeclinedApproval: a no kills the code for good, wherever it comes from.
func TestDeclinedApproval(t *testing.T) {
	t.Parallel()
	type how func(h *harness, c proposal, shown result, confirmed args)
	atClient := func(h *harness, c proposal, _ result, confirmed args) { h.call(c.tool, confirmed).fails("declined") }
	for what, no := range map[string]how{
		"at the client":   atClient,
		"at the terminal": func(h *harness, _ proposal, shown result, _ args) { h.declineAtTerminal(shown) },
		"at the terminal after a yes there": func(h *harness, _ proposal, shown result, _ args) {
			h.approveAtTerminal(shown)
			h.declineAtTerminal(shown)
		},
	} {
		for name, protocol := range protocols() {
			for _, kind := range []string{"create at LaunchDarkly", "bulk by filters"} {
				t.Run(strings.Join([]string{what, name, kind}, "/"), func(t *testing.T) {
					t.Parallel()
					c := proposals()[kind]
					p := &person{answer: decline}
					s := setup{box: few(), protocol: protocol, elicit: p.elicit, approval: c.demanding(policy.ApprovalWhenPossible)}
					h := start(t, s)
					a := c.args(h)
					shown := h.call(c.tool, a)
					confirmed := with(a, args{"confirm": shown.code()})
					h.untouched(func() {
						no(h, c, shown, confirmed)
						p.answer = typePhrase
						again := h.restart(s)
						for _, server := range []*harness{h, again} {
							server.call(c.tool, confirmed).fails("declined").says("nothing was changed", shown.str("preview_id"))
						}
						_, err := h.env.Ledger.ApprovePreview(t.Context(), shown.str("preview_id"), terminalUser)
						if !errors.Is(err, ledger.ErrPreviewOver) {
							t.Errorf("approved all the same: %v", err)
						}
						h.call(c.tool, confirmed).fails("declined")
						h.clock.advance(11 * time.Minute)
						h.call(c.tool, confirmed).code() // the code is forgotten, and none
					})
				})
			}
		}
	}
}

// TestApprovalNotGiven: whatever is not the phrase acts on nothing and leaves the code
// open, for another answer or the terminal.
func TestApprovalNotGiven(t *testing.T) {
	t.Parallel()
	answers := map[string]func(string) (mcp.ElicitationResult, error){
		"cancel":                    answering(mcp.ElicitationResponseActionCancel),
		"wrong phrase":              func(string) (mcp.ElicitationResult, error) { return typed("I agree") },
		"empty form":                func(string) (mcp.ElicitationResult, error) { return accept(map[string]any{}) },
		"empty text":                func(string) (mcp.ElicitationResult, error) { return typed("") },
		"true":                      func(string) (mcp.ElicitationResult, error) { return typed(true) },
		"phrase of another preview": func(string) (mcp.ElicitationResult, error) { return typed("REVOKE 4") },
		"phrase of an org-wide one": func(phrase string) (mcp.ElicitationResult, error) {
			return typed(strings.Replace(phrase, " ", " ALL ", 1))
		},
	}
	for name, protocol := range protocols() {
		for _, kind := range []string{"revoke at LaunchDarkly", "create at Mailtrap", "bulk by filters"} {
			t.Run(name+"/"+kind, func(t *testing.T) {
				t.Parallel()
				c := proposals()[kind]
				p := &person{}
				h := start(t, setup{box: few(), protocol: protocol, elicit: p.elicit, overHTTP: true, approval: c.demanding(policy.ApprovalWhenPossible)})
				a := c.args(h)
				shown := h.call(c.tool, a)
				confirmed := with(a, args{"confirm": shown.code()})
				for what, answer := range answers {
					p.answer = answer
					h.untouched(func() {
						if r := h.call(c.tool, confirmed); r.problem.Code != "not_approved" {
							t.Fatalf("%s: answered %s", what, r.text)
						} else {
							r.says("nothing was changed", "`tokenreeve approve "+shown.str("preview_id")+"`")
						}
					})
				}
				p.wantAsked(t, len(answers))
				h.approveAtTerminal(shown)
				done := h.call(c.tool, confirmed)
				c.wantDone(h, done)
				h.wantApprovedBy(done, terminalUser)
				p.wantAsked(t, len(answers))
			})
		}
	}
}

// TestApprovalNotAnswered: a question that nobody answers in time ends, a late answer
// is none, and the code lives.
func TestApprovalNotAnswered(t *testing.T) {
	t.Parallel()
	each(t, map[string]struct {
		waits bool
		yes   bool
		err   error
		says  string
	}{
		"never":    {waits: true, err: context.DeadlineExceeded, says: "not answered in time"},
		"too late": {waits: true, yes: true, says: "not answered in time"},
		"failed":   {err: errors.New("the window is gone"), says: "failed"},
		"nothing":  {says: "failed"},
	}, func(t *testing.T, late struct {
		waits bool
		yes   bool
		err   error
		says  string
	},
	) {
		c := proposals()["bulk by ids"]
		p := &person{answer: typePhrase}
		answering := false
		h := start(t, setup{
			box: few(), protocol: "2025-06-18", approval: c.demanding(policy.ApprovalWhenPossible),
			elicit: func(ctx context.Context, r mcp.ElicitationRequest) (*mcp.ElicitationResult, error) {
				yes, err := p.elicit(ctx, r)
				if answering {
					return yes, err
				}
				if late.waits {
					<-ctx.Done()
				}
				if late.yes {
					return yes, nil
				}
				return nil, late.err
			},
		})
		if late.waits {
			h.env.AnswerTime = time.Millisecond
		}
		a := c.args(h)
		shown := h.call(c.tool, a)
		confirmed := with(a, args{"confirm": shown.code()})
		h.untouched(func() {
			h.call(c.tool, confirmed).fails("not_approved").says(late.says, "`tokenreeve approve "+shown.str("preview_id")+"`")
		})
		answering, h.env.AnswerTime = true, 0
		h.forget()
		c.wantDone(h, h.call(c.tool, confirmed))
		p.wantAsked(t, 2)
	})
}

// roundTrip is the answer to a call of a client of the newest protocol.
type roundTrip struct {
	ResultType    string         `json:"resultType"`
	RequestState  string         `json:"requestState"`
	InputRequests map[string]any `json:"inputRequests"`
	IsError       bool           `json:"isError"`
	Content       []struct{ Text string }
}

// says reports whether the answer holds the text.
func (r roundTrip) says(text string) bool {
	return len(r.Content) == 1 && strings.Contains(r.Content[0].Text, text)
}

// rawCall sends a call with answers to questions, as a client of the newest protocol
// does, and returns the answer as it is.
func (h *harness) rawCall(ctx context.Context, tool string, a args, state string, answers map[string]any) (answer roundTrip) {
	h.t.Helper()
	params := args{
		"name": tool, "arguments": a,
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
	response, err := h.client.GetTransport().SendRequest(ctx, mcptransport.JSONRPCRequest{
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

// typing is an answer of the newest protocol in which the user typed the phrase.
func typing(phrase string) map[string]any {
	return map[string]any{"approval": args{"action": "accept", "content": args{"phrase": phrase}}}
}

// asked calls with a code and no answer, and returns the state of the question.
func (h *harness) asked(tool string, confirmed args) string {
	h.t.Helper()
	asked := h.rawCall(h.t.Context(), tool, confirmed, "", nil)
	if asked.ResultType != "input_required" || len(asked.RequestState) < 26 || len(asked.InputRequests) != 1 || asked.IsError {
		h.t.Fatalf("no question: %+v", asked)
	}
	return asked.RequestState
}

// TestQuestionState plays a client that makes up, mixes up and replays what belongs to
// a question: none of it acts, and the code lives.
func TestQuestionState(t *testing.T) {
	t.Parallel()
	const tool, phrase = "revoke_token", "REVOKE 1"
	type scene struct {
		*harness
		mine, other, hers args // previews with their codes; hers is another principal's
	}
	answer := func(s scene, a args, state string) roundTrip {
		return s.rawCall(s.t.Context(), tool, a, state, typing(phrase))
	}
	mallory := func(t testing.TB) context.Context {
		return auth.WithPrincipal(t.Context(), otherCaller("mallory"))
	}
	const no, preview, mismatch = `"code":"not_approved"`, `"status":"confirmation_required"`, `"code":"preview_mismatch"`
	tries := map[string]struct {
		says string
		try  func(scene) roundTrip
	}{
		"of no question": {no, func(s scene) roundTrip { return answer(s, s.mine, "") }},
		"made up":        {no, func(s scene) roundTrip { return answer(s, s.mine, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") }},
		"missing":        {no, func(s scene) roundTrip { s.asked(tool, s.mine); return answer(s, s.mine, "") }},
		"altered": {no, func(s scene) roundTrip {
			state := s.asked(tool, s.mine)
			return answer(s, s.mine, strings.Map(func(r rune) rune { return 'A' + (r-'A'+1)%26 }, state[:1])+state[1:])
		}},
		"shortened":        {no, func(s scene) roundTrip { return answer(s, s.mine, s.asked(tool, s.mine)[1:]) }},
		"lengthened":       {no, func(s scene) roundTrip { return answer(s, s.mine, s.asked(tool, s.mine)+" ") }},
		"in small letters": {no, func(s scene) roundTrip { return answer(s, s.mine, strings.ToLower(s.asked(tool, s.mine))) }},
		"of another preview": {no, func(s scene) roundTrip {
			s.asked(tool, s.mine)
			return answer(s, s.mine, s.asked(tool, s.other))
		}},
		"of another principal": {no, func(s scene) roundTrip {
			s.asked(tool, s.mine)
			return answer(s, s.mine, s.rawCall(mallory(s.t), tool, s.hers, "", nil).RequestState)
		}},
		"for another principal": {preview, func(s scene) roundTrip {
			return s.rawCall(mallory(s.t), tool, s.mine, s.asked(tool, s.mine), typing(phrase))
		}},
		"with another tool": {mismatch, func(s scene) roundTrip {
			return s.rawCall(s.t.Context(), "rotate_token", s.mine, s.asked(tool, s.mine), typing(phrase))
		}},
		"with another argument": {mismatch, func(s scene) roundTrip {
			return answer(s, with(s.mine, args{"token_id": s.other["token_id"]}), s.asked(tool, s.mine))
		}},
		"with another reason": {mismatch, func(s scene) roundTrip { return answer(s, with(s.mine, args{"reason": "x"}), s.asked(tool, s.mine)) }},
		"with another code": {mismatch, func(s scene) roundTrip {
			return answer(s, with(s.mine, args{"confirm": s.other["confirm"]}), s.asked(tool, s.mine))
		}},
		"without a code": {preview, func(s scene) roundTrip { return answer(s, with(s.mine, args{"confirm": nil}), s.asked(tool, s.mine)) }},
		"as the code": {preview, func(s scene) roundTrip {
			state := s.asked(tool, s.mine)
			return answer(s, with(s.mine, args{"confirm": state}), state)
		}},
		"voided by a new question": {no, func(s scene) roundTrip {
			state := s.asked(tool, s.mine)
			s.asked(tool, s.mine)
			return answer(s, s.mine, state)
		}},
		"spent by a made-up one": {no, func(s scene) roundTrip {
			state := s.asked(tool, s.mine)
			answer(s, s.mine, "ABCDEFGHIJKLMNOPQRSTUVWXYZ")
			return answer(s, s.mine, state)
		}},
		"spent by a wrong phrase": {no, func(s scene) roundTrip {
			state := s.asked(tool, s.mine)
			s.rawCall(s.t.Context(), tool, s.mine, state, typing("REVOKE 2"))
			return answer(s, s.mine, state)
		}},
		"spent by a cancel": {no, func(s scene) roundTrip {
			state := s.asked(tool, s.mine)
			s.rawCall(s.t.Context(), tool, s.mine, state, map[string]any{"approval": args{"action": "cancel"}})
			return answer(s, s.mine, state)
		}},
		"with an answer to nothing": {`"input_required"`, func(s scene) roundTrip {
			r := s.rawCall(s.t.Context(), tool, s.mine, s.asked(tool, s.mine), map[string]any{"other": typing(phrase)["approval"]})
			r.Content = append(r.Content, struct{ Text string }{`"` + r.ResultType + `"`})
			return r
		}},
		"without an action": {no, func(s scene) roundTrip {
			return s.rawCall(s.t.Context(), tool, s.mine, s.asked(tool, s.mine), map[string]any{"approval": args{"content": args{"phrase": phrase}}})
		}},
	}
	h := start(t, setup{box: few(), protocol: "2026-07-28", overHTTP: true, approval: policy.HumanApproval{Single: policy.ApprovalWhenPossible}})
	for what, c := range tries {
		mine := args{"connection": launchDarklyName, "token_id": h.addLaunchDarkly("mine").ID}
		other := args{"connection": launchDarklyName, "token_id": h.addLaunchDarkly("other").ID}
		s := scene{
			h, with(mine, args{"confirm": h.preview(tool, mine)}), with(other, args{"confirm": h.preview(tool, other)}),
			with(mine, args{"confirm": h.callAs("mallory", tool, mine).code()}),
		}
		h.untouched(func() {
			if r := c.try(s); !r.says(c.says) {
				t.Errorf("%s: answered %+v, want %s", what, r, c.says)
			}
		})
		if r := answer(s, s.mine, s.asked(tool, s.mine)); !r.says(`"status":"revoked"`) {
			t.Errorf("%s: then the right answer to the right question: %+v", what, r)
		}
	}
}

// TestQuestionStateWorksOnce: the answer to a question acts once, also after a restart
// of the server, and after that only repeats the result.
func TestQuestionStateWorksOnce(t *testing.T) {
	t.Parallel()
	s := orgWide("2026-07-28", nil)
	h := start(t, s)
	managed, _ := h.userTokens()
	right := typing(fmt.Sprint("REVOKE ALL ", len(managed)))
	confirmed := with(everything(), args{"confirm": h.preview(bulkTool, everything())})
	state := h.asked(bulkTool, confirmed)
	h = h.restart(s)
	h.forget()
	if r := h.rawCall(t.Context(), bulkTool, confirmed, state, right); !r.says(`"status":"revoked"`) {
		t.Fatalf("the right answer to the right question: %+v", r)
	}
	h.wantGone(managed...)
	for _, again := range []string{state, ""} {
		if r := h.rawCall(t.Context(), bulkTool, confirmed, again, right); !r.says(`"replayed":true`) || len(h.sent()) != 1 {
			t.Errorf("the replay: %+v, sent %v", r, h.sent())
		}
	}
	if r := h.rawCall(t.Context(), bulkTool, everything(), state, right); !r.says(`"status":"nothing_to_revoke"`) {
		t.Errorf("without the code: %+v", r)
	}
}

// TestOvertakenQuestion: while a person thinks, another call carries the change out, or
// its preview ends otherwise. Then the answer does nothing.
func TestOvertakenQuestion(t *testing.T) {
	t.Parallel()
	const tool = "revoke_token"
	answers := map[string]func(string) (mcp.ElicitationResult, error){"yes": typePhrase, "no": decline}
	for name, protocol := range protocols() {
		for said, answer := range answers {
			for what, c := range map[string]struct {
				meanwhile func(h *harness, shown result, confirmed args)
				want      func(t *testing.T, h *harness, r result)
			}{
				"carried out": {
					func(h *harness, shown result, confirmed args) {
						h.approveAtTerminal(shown)
						h.call(tool, confirmed).is("revoked")
					},
					func(t *testing.T, h *harness, r result) {
						if r.is("revoked").get("replayed") != true || len(h.sent()) != 1 {
							t.Errorf("sent %q, answered %s", h.sent(), r.text)
						}
					},
				},
				"declined": {
					func(h *harness, shown result, _ args) { h.declineAtTerminal(shown) },
					func(t *testing.T, h *harness, r result) { r.fails("declined"); h.wantSent() },
				},
				"expired": {
					func(h *harness, _ result, _ args) { h.clock.advance(11 * time.Minute) },
					func(t *testing.T, h *harness, r result) { r.code(); h.wantSent() },
				},
			} {
				t.Run(strings.Join([]string{name, said, what}, "/"), func(t *testing.T) {
					t.Parallel()
					p := &person{}
					h := start(t, setup{box: few(), protocol: protocol, elicit: p.elicit, approval: policy.HumanApproval{Single: policy.ApprovalWhenPossible}})
					a := args{"connection": launchDarklyName, "token_id": h.addLaunchDarkly("old").ID}
					shown := h.call(tool, a)
					confirmed := with(a, args{"confirm": shown.code()})
					p.answer = func(phrase string) (mcp.ElicitationResult, error) {
						c.meanwhile(h, shown, confirmed)
						return answer(phrase)
					}
					h.forget()
					c.want(t, h, h.call(tool, confirmed))
				})
			}
		}
	}
}

// outside takes the quoted parts out of a question and returns what tokenreeve says
// itself, with … in their place, and the parts.
func outside(t testing.TB, question string) (frame string, quotes []string) {
	t.Helper()
	if at := strings.IndexFunc(question, isHidden); at >= 0 {
		t.Errorf("hidden letter %+q in %+q", []rune(question[at:])[0], question)
	}
	parts := strings.Split(question, `"`)
	if len(parts)%2 == 0 {
		t.Fatalf("a quotation that does not end: %s", question)
	}
	for i := range parts {
		if i%2 == 0 {
			continue
		}
		if strings.ContainsAny(parts[i], "“”„‟«»「」＂″′`´‘’״〃❞") || strings.Contains(parts[i], "''") {
			t.Errorf("what looks like the end of a quotation: %q", parts[i])
		}
		quotes = append(quotes, parts[i])
		parts[i] = "…"
	}
	return strings.Join(parts, `"`), quotes
}

// TestQuestionTells counts, owners and the most recent use.
func TestQuestionTells(t *testing.T) {
	t.Parallel()
	ago := func(h *harness, days int) time.Time { return h.clock.Now().AddDate(0, 0, -days) }
	add := func(h *harness, owner string, used time.Time) string {
		return h.addAtlassian("of "+owner, func(t *sandbox.AtlassianToken) {
			t.OwnerName, t.OwnerEmail, t.LastActiveAt = owner, owner+"@acme.example", used
		}).ID
	}
	each(t, map[string]struct {
		tokens func(*harness) []string
		want   func(*harness) string
	}{
		"one, never used": {
			func(h *harness) []string { return []string{add(h, "ann", time.Time{})} },
			func(*harness) string { return ` 1 token, most recent use: never, owners: "ann@acme.example". Token: "` },
		},
		"the youngest use counts": {
			func(h *harness) []string {
				return []string{add(h, "ann", ago(h, 300)), add(h, "bob", ago(h, 20)), add(h, "bob", time.Time{})}
			},
			func(h *harness) string {
				return ` 3 tokens, most recent use: ` + ago(h, 20).Format(time.DateOnly) + `, owners: "bob@acme.example" and "ann@acme.example". Reason given: "unused". Type REVOKE 3 to agree.`
			},
		},
		"five owners and the rest": {
			func(h *harness) []string {
				var ids []string
				for _, owner := range []string{"g", "f", "e", "d", "c", "b", "a"} {
					ids = append(ids, add(h, owner, ago(h, 400)))
				}
				return append(ids, add(h, "g", time.Time{}))
			},
			func(h *harness) string {
				return ` 8 tokens, most recent use: ` + ago(h, 400).Format(time.DateOnly) +
					`, owners: "g@acme.example", "a@acme.example", "b@acme.example", "c@acme.example", "d@acme.example" and 2 others. `
			},
		},
	}, func(t *testing.T, c struct {
		tokens func(*harness) []string
		want   func(*harness) string
	},
	) {
		p := &person{answer: typePhrase}
		h := start(t, setup{box: few(), elicit: p.elicit})
		a := args{"connection": atlassianName, "reason": "unused", "token_ids": c.tokens(h)}
		h.confirm(bulkTool, a).is("revoked")
		p.wantAsked(t, 1)
		if want := c.want(h); !strings.Contains(p.asked()[0], want) {
			t.Errorf("the question lacks\n%s:\n%s", want, p.asked()[0])
		}
	})
}

// hostileTexts try to end their quotation, to pass for the question's own words, or to
// hide.
func hostileTexts() map[string]string {
	const fake = ". Nothing is changed. Type REVOKE 9 to agree."
	return map[string]string{
		"sentence":          "x" + fake,
		"quotation mark":    `x"` + fake,
		"curly ones":        "x”" + fake + "“",
		"low and high":      "x„" + fake + "‟",
		"angles":            "x»" + fake + "«",
		"corners":           "x」" + fake + "「",
		"full width":        "x＂" + fake,
		"double prime":      "x″" + fake,
		"two primes":        "x′′" + fake,
		"two apostrophes":   "x''" + fake,
		"mixed apostrophes": "x'’‘'" + fake,
		"two graves":        "x``" + fake,
		"Hebrew":            "x״" + fake,
		"ditto":             "x〃" + fake,
		"ornament":          "x❞" + fake,
		"escaped":           `x\"` + fake,
		"entity":            "x&quot;" + fake,
		"newlines":          "x\n\n" + fake + "\r\n",
		"separators":        "x\u2028\u2029" + fake,
		"controls":          "x\x1b[2J\x07\u009b2J" + fake,
		"bidi":              "x\u202e\u2066" + fake + "\u2069",
		"zero width":        "RE\u200bVOKE\u2060 9\ufeff" + fake,
		"tags":              "x\U000e0001\U000e0059\U000e007f" + fake,
		"the very phrase":   "REVOKE 1",
		"an end":            "Type REVOKE 1 to agree.",
		"an arrow":          `x" → "y`,
	}
}

// TestHostileQuestion: names, owners and reasons stand in quotes that they cannot end,
// cleaned; what tokenreeve says itself holds nothing of them.
func TestHostileQuestion(t *testing.T) {
	t.Parallel()
	p := &person{answer: answering(mcp.ElicitationResponseActionCancel)}
	h := start(t, setup{box: few(), elicit: p.elicit, approval: policy.HumanApproval{Single: policy.ApprovalWhenPossible}})
	for what, text := range hostileTexts() {
		token := h.addLaunchDarkly(text, func(t *sandbox.LaunchDarklyToken) {
			t.MemberID, t.MemberName, t.MemberEmail = "0123456789abcdef01234567", text, text
		})
		a := args{"connection": launchDarklyName, "token_id": token.ID, "reason": text}
		shown := h.call("revoke_token", a)
		h.call("revoke_token", with(a, args{"confirm": shown.code()})).fails("not_approved")
		frame, quotes := outside(t, p.last())
		const warned = ` Mind: "…".`
		want := `tokenreeve is to call revoke_token on connection acme-launchdarkly: "…". 1 token, most recent use: never, owners: "…". Token: "…", "…".` +
			warned + ` Reason given: "…". Type REVOKE 1 to agree.`
		if frame != want && frame != strings.Replace(want, warned, "", 1) {
			t.Errorf("%s: tokenreeve says\n%s, want\n%s", what, frame, want)
		}
		if quotes[2] != token.ID {
			t.Errorf("%s: the token's id is %q", what, quotes[2])
		}
		h.wantCleanShown(shown)
	}
}

// wantCleanShown fails the test unless what the terminal is given of a preview is clean.
func (h *harness) wantCleanShown(shown result) {
	h.t.Helper()
	preview, err := h.env.Ledger.FindPreview(h.t.Context(), shown.str("preview_id"))
	if err != nil {
		h.t.Fatal(err)
	}
	s, err := tools.ShownOf(preview)
	if err != nil {
		h.t.Fatal(err)
	}
	for _, text := range slices.Concat([]string{s.Reason, s.Phrase, s.LastUse}, s.Owners, s.Effects, s.Warnings, slices.Concat(s.Rows...)) {
		if at := strings.IndexFunc(text, isHidden); at >= 0 {
			h.t.Errorf("the terminal is given %+q", text)
		}
	}
}

// TestHostileNewName: so does what the caller itself writes into a change.
func TestHostileNewName(t *testing.T) {
	t.Parallel()
	p := &person{answer: answering(mcp.ElicitationResponseActionCancel)}
	h := start(t, setup{box: few(), elicit: p.elicit, approval: policy.HumanApproval{Single: policy.ApprovalWhenPossible}})
	id := h.addLaunchDarkly("before").ID
	for what, name := range hostileTexts() {
		if strings.ContainsFunc(name, isHidden) {
			continue // refused by the tools
		}
		for tool, c := range map[string]struct {
			args  args
			frame string
		}{
			"create_launchdarkly_token": {with(reader(), args{"name": name}), `create_launchdarkly_token on connection acme-launchdarkly: "…", "…", "…". Type CREATE 1 to agree.`},
			"create_mailtrap_token":     {with(viewer(), args{"name": name}), `create_mailtrap_token on connection acme-mailtrap: "…", "…". Type CREATE 1 to agree.`},
			"update_launchdarkly_token": {
				args{"connection": launchDarklyName, "token_id": id, "name": name},
				`update_launchdarkly_token on connection acme-launchdarkly: "…". 1 token, most recent use: never, owners: "…". Token: "…", "…". Type UPDATE 1 to agree.`,
			},
		} {
			h.untouched(func() { h.call(tool, with(c.args, args{"confirm": h.call(tool, c.args).code()})).fails("not_approved") })
			frame, quotes := outside(t, p.last())
			if frame != "tokenreeve is to call "+c.frame {
				t.Errorf("%s: tokenreeve says\n%s, want\n%s", what, frame, c.frame)
			}
			if arrows := strings.Count(quotes[0], "→"); strings.HasPrefix(tool, "update_") && arrows != 1 {
				t.Errorf("%s: %d arrows from the old name to the new one: %s", what, arrows, quotes[0])
			}
		}
	}
}

// endOne previews and ends a new token of LaunchDarkly, and returns the answer.
func (h *harness) endOne(tool string, over args) result {
	h.t.Helper()
	return h.confirmAs("local", tool, with(args{"connection": launchDarklyName, "token_id": h.addLaunchDarkly("old").ID}, over))
}

// confirmAs previews and acts as a caller.
func (h *harness) confirmAs(principal, tool string, a args) result {
	h.t.Helper()
	ctx := auth.WithPrincipal(h.t.Context(), otherCaller(principal))
	return h.callWith(ctx, tool, with(a, args{"confirm": h.callWith(ctx, tool, a).code()}))
}

// endMany ends so many tokens one by one, half of them by rotation.
func (h *harness) endMany(n int) {
	h.t.Helper()
	for i := range n {
		if i%2 == 0 {
			h.endOne("revoke_token", nil).is("revoked")
		} else {
			h.endOne("rotate_token", args{"compromised": true}).is("rotated")
		}
	}
}

// endedBefore puts so many revocations on record that ended well, as another process
// would have.
func (h *harness) endedBefore(n int) {
	h.t.Helper()
	h.atTerminal(func(l *ledger.Ledger) error {
		var failed error
		for i := range n {
			_, _, err := l.Record(context.Background(), "", ledger.Intent{
				Principal: "local", Tool: "revoke_token", Class: ledger.Class(policy.Revoke), Connection: launchDarklyName,
				Provider: "launchdarkly", Account: "elsewhere", Targets: []ledger.Target{{ID: fmt.Sprint("t", i)}},
			}, ledger.Result{Outcome: ledger.Done})
			failed = errors.Join(failed, err)
		}
		return failed
	})
}

// TestEscalation: from the tenth token that a principal ends within an hour on, the
// demands on bulk changes count.
func TestEscalation(t *testing.T) {
	t.Parallel()
	required := policy.HumanApproval{Bulk: policy.ApprovalRequired}
	ends := map[string]args{"revoke_token": nil, "rotate_token": {"compromised": true}}
	for tool, over := range ends {
		t.Run(tool, func(t *testing.T) {
			t.Parallel()
			h := start(t, setup{box: few(), approval: required})
			early := args{"connection": launchDarklyName, "token_id": h.addLaunchDarkly("early").ID}
			maps.Copy(early, over)
			earlyShown := h.call(tool, early)
			wantNext(t, earlyShown, false)
			h.endMany(9)
			tenth := with(early, args{"token_id": h.addLaunchDarkly("tenth").ID})
			shown := h.call(tool, tenth)
			wantNext(t, shown, true)
			h.untouched(func() {
				h.call(tool, with(tenth, args{"confirm": shown.code()})).fails("human_required")
				h.call(tool, with(early, args{"confirm": earlyShown.code()})).fails("human_required") // of before
			})
			again := h.restart(setup{approval: required}) // the record counts, not the process
			again.untouched(func() { again.call(tool, with(tenth, args{"confirm": shown.code()})).fails("human_required") })
			h.approveAtTerminal(shown)
			h.wantApprovedBy(again.call(tool, with(tenth, args{"confirm": shown.code()})).ok(), terminalUser)
			h.forget()
			h.endOne(tool, over).fails("human_required") // one yes, one change
			h.wantSent()
			h.clock.advance(time.Hour + time.Second)
			h.endOne(tool, over).ok()
			h.endMany(8)
		})
	}
}

// TestEscalationCounts what ended a token of the principal's one by one, and nothing else.
func TestEscalationCounts(t *testing.T) {
	t.Parallel()
	s := setup{box: few(), approval: policy.HumanApproval{Bulk: policy.ApprovalRequired}}
	each(t, map[string]func(*harness){
		"another principal's": func(h *harness) {
			for range 3 {
				h.confirmAs("ann", "revoke_token", args{"connection": launchDarklyName, "token_id": h.addLaunchDarkly("old").ID}).is("revoked")
			}
		},
		"rotations that overlap": func(h *harness) {
			for range 3 {
				h.endOne("rotate_token", args{"overlap": "1h"}).is("rotated")
			}
		},
		"bulk changes": func(h *harness) {
			c := proposals()["bulk by filters"]
			a := c.args(h)
			shown := h.call(c.tool, a)
			h.approveAtTerminal(shown)
			h.call(c.tool, with(a, args{"confirm": shown.code()})).is("revoked")
		},
		"what the vendor refused": func(h *harness) {
			for range 3 {
				h.fault(sandbox.Fault{Method: "DELETE", Kind: sandbox.FaultStatus, Status: 403, Times: 1})
				h.endOne("revoke_token", nil).fails("forbidden")
			}
		},
		"what was refused here": func(h *harness) {
			for range 3 {
				token := h.addLaunchDarkly("old").ID
				a := args{"connection": launchDarklyName, "token_id": token}
				code := h.preview("revoke_token", a)
				if err := h.box.UpdateLaunchDarklyToken(token, func(t *sandbox.LaunchDarklyToken) { t.Name = "new" }); err != nil {
					h.t.Error(err)
				}
				h.call("revoke_token", with(a, args{"confirm": code})).fails("targets_changed")
			}
		},
		"creations and updates": func(h *harness) {
			for i := range 3 {
				h.call("create_launchdarkly_token", with(reader(), args{"name": fmt.Sprint("ci ", i)})).is("created")
				h.confirm("update_launchdarkly_token", args{"connection": launchDarklyName, "token_id": h.addLaunchDarkly("old").ID, "role": "writer"}).is("updated")
			}
		},
	}, func(t *testing.T, uncounted func(*harness)) {
		h := start(t, s)
		h.endedBefore(8)
		uncounted(h)
		h.endOne("revoke_token", nil).is("revoked")                                // the ninth
		h.endOne("update_launchdarkly_token", args{"name": "after"}).is("updated") // ends nothing
		h.endOne("rotate_token", args{"overlap": "1h"}).is("rotated")
		h.forget()
		h.endOne("revoke_token", nil).fails("human_required")
		h.wantSent()
		h.confirmAs("bob", "revoke_token", args{"connection": launchDarklyName, "token_id": h.addLaunchDarkly("old").ID}).is("revoked")
	})
}

// TestEscalationByQuestion: where bulk changes ask when possible, the tenth does.
func TestEscalationByQuestion(t *testing.T) {
	t.Parallel()
	each(t, protocols(), func(t *testing.T, protocol string) {
		p := &person{answer: typePhrase}
		h := start(t, setup{box: few(), protocol: protocol, elicit: p.elicit})
		h.endedBefore(9)
		p.wantAsked(t, 0)
		h.wantApprovedBy(h.endOne("revoke_token", nil).is("revoked"), clientUser)
		p.wantAsked(t, 1)
		p.answer = decline
		h.endOne("rotate_token", args{"compromised": true}).fails("declined")
		h.endOne("rotate_token", nil).is("rotated")
		p.wantAsked(t, 2)
		off := h.restart(setup{protocol: protocol, elicit: p.elicit, approval: policy.HumanApproval{Bulk: policy.ApprovalOff}})
		off.endOne("revoke_token", nil).is("revoked")
		p.wantAsked(t, 2)
	})
}

// TestEscalationAtOnce: calls that come at the same moment, before any is on record, do
// not slip through together. What is refused then can still be approved.
func TestEscalationAtOnce(t *testing.T) {
	t.Parallel()
	type demand struct {
		approval policy.HumanApproval
		asked    bool   // each of them
		code     string // of the tenth and later
	}
	demands := map[string]demand{
		"required, nobody asked": {policy.HumanApproval{Bulk: policy.ApprovalRequired}, false, "human_required"},
		"required, all asked":    {policy.HumanApproval{Single: policy.ApprovalWhenPossible, Bulk: policy.ApprovalRequired}, true, "human_required"},
		"when possible":          {policy.HumanApproval{}, false, "not_approved"},
	}
	for tool, over := range map[string]args{"revoke_token": nil, "rotate_token": {"compromised": true}} {
		for name, c := range demands {
			t.Run(tool+"/"+name, func(t *testing.T) {
				t.Parallel()
				const callers = 12
				p := &person{answer: typePhrase}
				var arrived atomic.Int64
				var armed atomic.Bool
				all := make(chan struct{})
				h := start(t, setup{box: few()}).behind(setup{elicit: p.elicit, approval: c.approval}, func(r *http.Request) {
					if !armed.Load() || r.Method != http.MethodGet || !strings.HasPrefix(r.URL.Path, "/launchdarkly/api/v2/tokens/") {
						return
					}
					if arrived.Add(1) == callers {
						close(all)
					}
					select { // each reads its token once all were let through
					case <-all:
					case <-r.Context().Done():
					}
				})
				confirmed, shown, results := make([]args, callers), make([]result, callers), make([]result, callers)
				for i := range callers {
					a := with(over, args{"connection": launchDarklyName, "token_id": h.addLaunchDarkly("old").ID})
					shown[i] = h.call(tool, a)
					confirmed[i] = with(a, args{"confirm": shown[i].code()})
				}
				armed.Store(true)
				h.forget()
				var calls sync.WaitGroup
				for i := range callers {
					calls.Go(func() { results[i] = h.call(tool, confirmed[i]) })
				}
				calls.Wait()
				armed.Store(false)
				by := ""
				if c.asked {
					by = clientUser
					p.wantAsked(t, callers)
				} else {
					p.wantAsked(t, 0)
				}
				for i, r := range results {
					if !r.isError {
						h.wantApprovedBy(r, by)
						continue
					}
					r.fails(c.code).says("nothing was changed", "`tokenreeve approve "+shown[i].str("preview_id")+"`")
				}
				if len(h.sent()) != 9 {
					t.Fatalf("sent %q, want 9", h.sent())
				}
				for i, r := range results {
					if r.isError {
						h.approveAtTerminal(shown[i])
						h.wantApprovedBy(h.call(tool, confirmed[i]).ok(), terminalUser)
					}
				}
				if len(h.sent()) != callers {
					t.Errorf("sent %q", h.sent())
				}
			})
		}
	}
}

// TestSingleApprovalHoldsInBulk: whoever may not end one token alone cannot name it in a list.
func TestSingleApprovalHoldsInBulk(t *testing.T) {
	t.Parallel()
	for _, bulk := range []policy.Approval{"", policy.ApprovalOff, policy.ApprovalWhenPossible} {
		t.Run("bulk "+string(bulk), func(t *testing.T) {
			t.Parallel()
			h := start(t, setup{box: few(), overHTTP: true, approval: policy.HumanApproval{Single: policy.ApprovalRequired, Bulk: bulk}})
			for kind, c := range proposals() {
				if !c.isBulk() {
					continue
				}
				a := c.args(h)
				shown := h.call(c.tool, a)
				wantNext(t, shown, true)
				h.untouched(func() {
					if r := h.call(c.tool, with(a, args{"confirm": shown.code()})); r.problem.Code != "human_required" {
						t.Errorf("%s: answered %s", kind, r.text)
					}
				})
			}
		})
	}
}

// TestCreationWithApproval: where one token needs a person, a creation takes a preview;
// elsewhere it does not.
func TestCreationWithApproval(t *testing.T) {
	t.Parallel()
	for tool, a := range map[string]args{"create_launchdarkly_token": reader(), "create_mailtrap_token": viewer()} {
		t.Run(tool, func(t *testing.T) {
			t.Parallel()
			h := start(t, setup{box: few(), approval: policy.HumanApproval{Bulk: policy.ApprovalRequired}})
			h.call(tool, a).is("created")
			for _, demand := range []policy.Approval{policy.ApprovalWhenPossible, policy.ApprovalRequired} {
				h := h.restart(setup{approval: policy.HumanApproval{Single: demand}})
				again := with(a, args{"name": "by " + string(demand)})
				shown := h.call(tool, again)
				h.untouched(func() { shown.code() })
				wantNext(t, shown, demand == policy.ApprovalRequired)
				confirmed := with(again, args{"confirm": shown.code()})
				if demand == policy.ApprovalRequired {
					h.untouched(func() {
						h.call(tool, confirmed).fails("human_required")
						h.call(tool, with(confirmed, args{"name": "another"})).fails("preview_mismatch")
					})
					h.approveAtTerminal(shown)
				}
				made := h.call(tool, confirmed).is("created")
				if len(h.sent()) != 1 {
					t.Errorf("sent %q", h.sent())
				}
				h.untouched(func() {
					if r := h.call(tool, confirmed).is("created"); r.get("replayed") != true || r.str("token", "id") != made.str("token", "id") {
						t.Errorf("the replay answered %s", r.text)
					}
				})
			}
		})
	}
}

// TestTwoServersOnOneRecord: each server holds to its own settings, whoever made the
// preview, and a yes that a client gave at one is none at the other.
func TestTwoServersOnOneRecord(t *testing.T) {
	t.Parallel()
	all := proposals()
	maps.DeleteFunc(all, func(kind string, _ proposal) bool {
		return !slices.Contains([]string{"revoke at Atlassian", "rotate a compromised one", "update", "bulk by ids"}, kind)
	})
	each(t, all, func(t *testing.T, c proposal) {
		p := &person{answer: typePhrase}
		lax := start(t, setup{box: few(), approval: c.demanding(policy.ApprovalOff)})
		strict := lax.restart(setup{overHTTP: true, elicit: p.elicit, approval: c.demanding(policy.ApprovalRequired)})
		asking := lax.restart(setup{elicit: p.elicit, approval: c.demanding(policy.ApprovalWhenPossible)})
		a := c.args(lax)
		shown := lax.call(c.tool, a)
		confirmed := with(a, args{"confirm": shown.code()})
		strict.untouched(func() { strict.call(c.tool, confirmed).fails("human_required") })
		// The yes is of this call, which the server's end then keeps from sending anything.
		asking.env.Work.Stop()
		asking.untouched(func() { asking.call(c.tool, confirmed).fails("server_stopping") })
		p.wantAsked(t, 1)
		strict.untouched(func() { strict.call(c.tool, confirmed).fails("human_required") })
		strict.approveAtTerminal(shown)
		done := strict.call(c.tool, confirmed)
		c.wantDone(strict, done)
		strict.wantApprovedBy(done, terminalUser)
		p.wantAsked(t, 1)
	})
}

// TestApprovalIsOfOneAccount: two servers share a record and give a connection's name to
// two accounts. What was agreed to for one is not done at the other.
func TestApprovalIsOfOneAccount(t *testing.T) {
	t.Parallel()
	const tool = "create_launchdarkly_token"
	s := setup{stateDir: filepath.Join(t.TempDir(), "state"), approval: policy.HumanApproval{Single: policy.ApprovalRequired}}
	s.box = sandbox.Options{Tokens: 9, Seed: 1}
	staging := start(t, s)
	s.box.Seed = 2
	production := start(t, s)
	shown := staging.call(tool, reader())
	staging.approveAtTerminal(shown)
	production.untouched(func() {
		production.call(tool, with(reader(), args{"confirm": shown.code()})).fails("targets_changed").says("leads to another account now")
	})
	again := staging.call(tool, reader())
	staging.approveAtTerminal(again)
	staging.call(tool, with(reader(), args{"confirm": again.code()})).is("created")
}

// TestApproveCommand: the flags that lead to this record are told to the local user only.
func TestApproveCommand(t *testing.T) {
	t.Parallel()
	h := start(t, setup{box: few(), approval: policy.HumanApproval{Single: policy.ApprovalRequired}})
	h.env.ApproveCommand = `tokenreeve approve --state-dir "/home/ann/state"`
	a := args{"connection": launchDarklyName, "token_id": h.addLaunchDarkly("old").ID}
	for _, c := range []struct{ principal, command string }{{"", h.env.ApproveCommand}, {"ann", "tokenreeve approve"}} {
		call := func(a args) result { return h.call("revoke_token", a) }
		if c.principal != "" {
			call = func(a args) result { return h.callAs(c.principal, "revoke_token", a) }
		}
		shown := call(a)
		refused := call(with(a, args{"confirm": shown.code()})).fails("human_required")
		for _, next := range []string{shown.str("next"), refused.problem.Next} {
			if !strings.Contains(next, "`"+c.command+" "+shown.str("preview_id")+"`") {
				t.Errorf("%q is told %q", c.principal, next)
			}
		}
	}
}

// TestPreviewWithoutAPhrase: of a preview that does not say what to type, an empty
// answer is no yes.
func TestPreviewWithoutAPhrase(t *testing.T) {
	t.Parallel()
	p := &person{answer: func(string) (mcp.ElicitationResult, error) { return typed("") }}
	h := start(t, setup{box: few(), elicit: p.elicit, approval: policy.HumanApproval{TrustClient: true}})
	token := h.addLaunchDarkly("old").ID
	a := args{"connection": launchDarklyName, "token_id": token}
	arguments, err := json.Marshal(a)
	if err != nil {
		t.Fatal(err)
	}
	_, code, err := h.env.Ledger.OpenPreview(t.Context(), ledger.Preview{
		Principal: "local", Tool: "revoke_token", Arguments: arguments, Plan: json.RawMessage(`{"plan":{"Token":{"ID":"` + token + `"}}}`),
	})
	if err != nil {
		t.Fatal(err)
	}
	h.untouched(func() { h.call("revoke_token", with(a, args{"confirm": code})).fails("not_approved") })
	p.wantAsked(t, 1)
}
