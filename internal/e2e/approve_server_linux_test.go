package e2e_test

import (
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/tokenreeve/tokenreeve/internal/ledger"
)

// approverEnv is that of an approver's machine, which knows nothing of the server but its address.
func approverEnv(t *testing.T, caller string) []string {
	t.Helper()
	env := []string{"HOME=" + t.TempDir(), "PATH=" + os.Getenv("PATH"), "GORACE=atexit_sleep_ms=0"}
	if caller != "" {
		env = append(env, "TOKENREEVE_APPROVE_TOKEN="+callerToken(caller))
	}
	return env
}

// At a terminal elsewhere an approver sees what the operator's terminal shows, and decides by HTTP.
func TestApproveAtServer(t *testing.T) {
	t.Parallel()
	type reply struct{ question, line string }
	v := newVendors(t)
	s := v.approving(t, nil)
	phrase, token := reply{"Type REVOKE 2 to approve", "REVOKE 2"}, reply{"Your token for the server: ", callerToken("zoe")}
	for name, test := range map[string]struct {
		caller  string
		args    []string
		replies []reply
		code    int
		says    string
		state   string
	}{
		"yes":             {"zoe", nil, []reply{phrase}, 0, "Approved. The agent's next call with the code acts.", "open token:zoe (static from 127.0.0.1)"},
		"token typed":     {"", nil, []reply{token, phrase}, 0, "Approved.", "open token:zoe (static from 127.0.0.1)"},
		"token in a file": {"", []string{"--token-file", "FILE"}, []reply{phrase}, 0, "Approved.", "open token:zoe (static from 127.0.0.1)"},
		"no":              {"zoe", []string{"--decline"}, []reply{{"[y/n]: ", "y"}}, 0, "Declined. The code of preview", "declined "},
		"no, or not":      {"zoe", []string{"--decline"}, []reply{{"[y/n]: ", "n"}}, 1, "nothing was declined", "open "},
		"another phrase":  {"zoe", nil, []reply{{phrase.question, "REVOKE 3"}}, 1, "nothing was approved: that is not the phrase", "open "},
		"interrupted":     {"zoe", nil, []reply{{phrase.question, "\x03"}}, 1, "nothing was approved: interrupted", "open "},
		"own":             {"bots-approver", nil, nil, 1, "you asked for this yourself", "open "},
		"no approver":     {"operator", nil, nil, 1, "there is no such preview for you to approve", "open "},
		"stranger":        {"stranger", nil, nil, 1, "the bearer token is not accepted", "open "},
		"no token typed":  {"", nil, []reply{{token.question, ""}}, 1, "no token was typed", "open "},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l, p, _ := v.hostile(t, "token:bot", nil)
			args := append([]string{"approve", "--server", s.url, p.ID}, test.args...)
			for i := range args {
				if args[i] == "FILE" {
					args[i] = v.write(t, "token", callerToken("zoe")+"\n")
				}
			}
			seat := sitDown(t, approverEnv(t, test.caller), args...)
			for _, r := range test.replies {
				seat.reply(t, r.question, r.line)
			}
			seat.exit(t, test.code)
			if test.code == 0 {
				seat.screen.awaitText(t, test.says)
				seat.screen.awaitText(t, "targets (2):\r\n  all: owner <b>zoe@example.com\r\n  ID   NAME")
			} else if !contains(seat.err.String(), test.says) {
				t.Errorf("no %q in %s", test.says, seat.err)
			}
			found, err := l.FindPreview(t.Context(), p.ID)
			if got := string(found.State) + " " + found.Approval(); err != nil || got != test.state {
				t.Errorf("%s, want %s (%v)", got, test.state, err)
			}
			seat.noEcho(t, callerToken("zoe"))
			plain(t, "stderr", seat.err.String())
		})
	}
}

// What is decided already is said, and a person is not asked in vain.
func TestApproveAtServerTooLate(t *testing.T) {
	t.Parallel()
	v := newVendors(t)
	s := v.approving(t, nil)
	for name, test := range map[string]struct {
		before func(t *testing.T, l *ledger.Ledger, p ledger.Preview, code string)
		code   int
		says   string
	}{"declined": {declined, 1, "was declined by ops"}, "approved": {approved, 0, "was approved by ops already"}} {
		l, p, code := v.hostile(t, "token:bot", nil)
		test.before(t, l, p, code)
		seat := sitDown(t, approverEnv(t, "zoe"), "approve", "--server", s.url, p.ID)
		seat.exit(t, test.code)
		if !contains(seat.out.String()+seat.err.String(), test.says) || seat.screen.String() != "" {
			t.Errorf("%s: no %q in %s%s; the terminal shows %q", name, test.says, seat.out, seat.err, seat.screen)
		}
	}
}

// The token goes to the server that was named, over TLS, and nowhere else; what that server answers is
// believed as little as any other text.
func TestApproveAtHostileServer(t *testing.T) {
	t.Parallel()
	const id = "pv_ABCDEFGHIJ"
	preview := func(members string) string {
		return `{"preview_id":"` + id + `","state":"open","form":"F","can_approve":true,"expires":"2026-01-01T00:00:00Z"` + members + `}`
	}
	var reached atomic.Int32
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached.Add(1) }))
	t.Cleanup(elsewhere.Close)
	for name, test := range map[string]struct {
		status int
		body   string
		says   string
	}{
		"redirect":        {http.StatusTemporaryRedirect, "", "leads elsewhere, where your token does not go"},
		"no JSON":         {200, "<html>", "is no preview; check --server"},
		"another preview": {200, strings.Replace(preview(""), id, "pv_ZZZZZZZZZZ", 1), "is not this preview"},
		"no form":         {200, `{"preview_id":"` + id + `","state":"open"}`, "is not this preview"},
		"no phrase":       {200, preview(""), "does not say what it would do"},
		"too long":        {200, preview(`,"asked_by":"` + strings.Repeat("x", 5<<20) + `"`), "is too long"},
		"refusal":         {403, `{"message":"no\u001b[31m\nway"}`, "the server refuses this: no[31m way (status 403)"},
		"empty refusal":   {500, "", "Internal Server Error (status 500)"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path != "/prefix/approve/"+id || r.Header.Get("Authorization") != "Bearer "+callerToken("zoe") {
					t.Errorf("%s with %q", r.URL, r.Header)
				}
				w.Header().Set("Location", elsewhere.URL)
				w.WriteHeader(test.status)
				_, _ = fmt.Fprint(w, test.body)
			}))
			t.Cleanup(server.Close)
			seat := sitDown(t, approverEnv(t, "zoe"), "approve", "--server", server.URL+"/prefix/", id)
			seat.exit(t, 1)
			if !contains(seat.err.String(), test.says) {
				t.Errorf("no %q in %s", test.says, seat.err)
			}
			if contains(seat.err.String()+seat.out.String()+seat.screen.String(), callerToken("zoe")) {
				t.Error("the token is shown")
			}
			plain(t, "stderr", seat.err.String())
		})
	}
	for name, test := range map[string]struct{ server, id, says string }{
		"unencrypted": {"http://tokens.acme.example", id, "would send your token unencrypted"},
		"no URL":      {"tokens.acme.example", id, "--server is not a server's URL"},
		"with a user": {"https://x:y@tokens.acme.example", id, "--server is not a server's URL"},
		"no id":       {"https://tokens.acme.example", "../mcp", `"../mcp" is no preview's id`},
		"file alone":  {"", id, "--token-file goes with --server"},
	} {
		args := []string{"approve", "--server", test.server, test.id}
		if test.server == "" {
			args = append(args, "--token-file", "x")
		}
		seat := sitDown(t, approverEnv(t, "zoe"), args...)
		seat.exit(t, 1)
		if !contains(seat.err.String(), test.says) {
			t.Errorf("%s: no %q in %s", name, test.says, seat.err)
		}
	}
	if reached.Load() != 0 {
		t.Error("a redirect was followed")
	}
}

// A server with a certificate of its own authority is believed where ca_file names that, and else not.
func TestApproveAtServerByTLS(t *testing.T) {
	t.Parallel()
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, `{"message":"reached"}`, http.StatusNotFound)
	}))
	t.Cleanup(server.Close)
	v := newVendors(t)
	ca := v.write(t, "ca.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})))
	config := v.write(t, "approver.json", fmt.Sprintf(`{"ca_file": %q}`, ca))
	for says, args := range map[string][]string{"reached": {"--config", config}, `{"ca_file": "/path/to/ca.pem"}`: nil} {
		seat := sitDown(t, approverEnv(t, "zoe"), append(args, "approve", "--server", server.URL, "pv_ABCDEFGHIJ")...)
		seat.exit(t, 1)
		if !contains(seat.err.String(), says) {
			t.Errorf("no %q in %s", says, seat.err)
		}
	}
}

// What the local user previewed is not approved at the local user's own terminal where a second person
// must agree; an approver of a server on the same state can, also after that.
func TestSecondPersonForLocalUser(t *testing.T) {
	t.Parallel()
	v := newVendors(t)
	v.setPassphrase(t)
	s := v.approving(t, map[string]any{"human_approval": map[string]any{"second_person": true}})
	l, p, _ := v.hostile(t, "local", nil)
	config := v.config(t, map[string]any{"human_approval": map[string]any{"second_person": true}})
	seat := sitDown(t, v.bareEnv(), "approve", "--config", config, p.ID)
	seat.exit(t, 1)
	if !contains(seat.err.String(), "was asked for by the local user") || seat.screen.String() != "" {
		t.Errorf("stderr: %s; the terminal shows %q", seat.err, seat.screen)
	}
	if _, err := l.ApprovePreview(t.Context(), p.ID, "local:root"); err != nil { // as another configuration would
		t.Fatal(err)
	}
	seat = sitDown(t, approverEnv(t, "zoe"), "approve", "--server", s.url, p.ID)
	seat.reply(t, "Type REVOKE 2 to approve", "REVOKE 2")
	seat.exit(t, 0)
	if found, err := l.FindPreview(t.Context(), p.ID); err != nil || !found.IsApprovedByOther() {
		t.Errorf("approved by %s (%v)", found.Approval(), err)
	}
}
