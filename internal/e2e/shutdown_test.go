package e2e_test

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tokenreeve/tokenreeve/internal/sandbox"
)

// endings are the ways in which a client or a supervisor ends a server.
func endings() map[string]func(*testing.T, *process) {
	by := func(s os.Signal) func(*testing.T, *process) {
		return func(t *testing.T, p *process) { t.Helper(); p.signal(t, s) }
	}
	return map[string]func(*testing.T, *process){
		"closed stdin": func(t *testing.T, p *process) {
			t.Helper()
			if err := p.stdin.Close(); err != nil {
				t.Fatal(err)
			}
		},
		"SIGTERM": by(terminate),
		"SIGINT":  by(os.Interrupt),
		"SIGHUP":  by(syscall.SIGHUP),
	}
}

// end ends the server and waits until it knows.
func (p *process) end(t *testing.T, ending func(*testing.T, *process)) {
	t.Helper()
	ending(t, p)
	p.err.awaitText(t, "stopping")
}

// createArguments make a LaunchDarkly token called e2e.
func createArguments() map[string]any {
	return map[string]any{"connection": "launchdarkly", "name": "e2e", "role": "reader"}
}

// secretOf returns the secret of the only LaunchDarkly token of that name.
func (v *vendors) secretOf(t *testing.T, name string) string {
	t.Helper()
	tokens := slices.DeleteFunc(v.LaunchDarklyTokens(), func(t sandbox.LaunchDarklyToken) bool { return t.Name != name })
	if len(tokens) != 1 {
		t.Fatalf("%d LaunchDarkly tokens are called %q", len(tokens), name)
	}
	return tokens[0].Secret
}

// A change that was sent is finished, its secret delivered and its call answered.
// So is the call of a read, which nobody can repeat once the server is gone.
func TestShutdownFinishesWhatWasSent(t *testing.T) {
	t.Parallel()
	for name, ending := range endings() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := newVendors(t)
			creation, listing := v.hold("POST", "/api/v2/tokens"), v.hold("GET", "/api_tokens")
			p := serve(t, v.env())
			p.call(t, "create", "create_launchdarkly_token", createArguments())
			p.call(t, "list", "list_tokens", map[string]any{"connection": "mailtrap"})
			creation.await(t, 1)
			listing.await(t, 1)
			p.end(t, ending)
			creation.release()
			if got := p.answer(t, "create").Result.StructuredContent["status"]; got != "created" {
				t.Errorf("create: status %v", got)
			}
			listing.release()
			p.exit(t, 0)
			if got := p.answer(t, "list").Result; got.StructuredContent["tokens"] == nil {
				t.Errorf("list: %+v", got)
			}
			if diff := cmp.Diff([]string{v.secretOf(t, "e2e")}, delivered(t, v.secretsDir())); diff != "" {
				t.Errorf("delivered secrets (-want +got):\n%s", diff)
			}
			v.noSecretIn(t, "stdout", p.out.String())
			v.noSecretIn(t, "stderr", p.err.String())
		})
	}
}

// A bulk revocation stops before the next target: what was not sent is not sent.
func TestShutdownStopsABulkRevocation(t *testing.T) {
	t.Parallel()
	for name, ending := range endings() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := newVendors(t)
			gate := v.hold("DELETE", "/api_tokens/")
			ids := v.mailtrapIDs(5)
			p := serve(t, v.env())
			p.confirmed(t, "bulk", "bulk_revoke_tokens", map[string]any{"connection": "mailtrap", "token_ids": ids, "reason": "test"})
			gate.await(t, 1)
			p.end(t, ending)
			gate.release()
			p.exit(t, 0)
			want := map[string]any{"revoked": float64(1), "not_attempted": float64(4)}
			got := p.answer(t, "bulk").Result.StructuredContent
			if diff := cmp.Diff(want, got["counts"]); diff != "" {
				t.Errorf("counts (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff([]any{ids[0]}, got["revoked"]); diff != "" || got["status"] != "partial" {
				t.Errorf("status %v, revoked (-want +got):\n%s", got["status"], diff)
			}
			v.checkGone(t, ids, ids[:1])
		})
	}
}

// checkGone checks which of the Mailtrap tokens are gone, and that nothing else
// was asked to be.
func (v *vendors) checkGone(t *testing.T, ids, want []string) {
	t.Helper()
	left := map[string]bool{}
	for _, token := range v.MailtrapTokens() {
		left[strconv.FormatInt(token.ID, 10)] = true
	}
	gone := slices.DeleteFunc(slices.Clone(ids), func(id string) bool { return left[id] })
	if diff := cmp.Diff(want, gone); diff != "" {
		t.Errorf("ended tokens (-want +got):\n%s", diff)
	}
	if got := v.sent("DELETE"); got != len(want) {
		t.Errorf("%d deletions were sent, want %d", got, len(want))
	}
}

// A change that was not sent yet does not begin any more.
func TestShutdownBeginsNoChange(t *testing.T) {
	t.Parallel()
	v := newVendors(t)
	gate := v.hold("GET", "/api_tokens/")
	p := serve(t, v.env())
	id := v.mailtrapIDs(1)[0]
	p.call(t, "revoke", "revoke_token", map[string]any{"connection": "mailtrap", "token_id": id})
	gate.await(t, 1)
	gate.release()
	code := p.answer(t, "revoke").Result.StructuredContent["confirm"]

	again := v.hold("GET", "/api_tokens/"+id)
	p.call(t, "confirmed", "revoke_token", map[string]any{"connection": "mailtrap", "token_id": id, "confirm": code})
	again.await(t, 1) // the target is read again before it is touched
	p.end(t, endings()["closed stdin"])
	again.release()
	p.exit(t, 0)
	if got := p.answer(t, "confirmed").Result; !got.IsError {
		t.Errorf("the revocation: %+v", got)
	}
	v.checkGone(t, []string{id}, []string{})
}

// An idle server ends at once, although a client of the newest protocol listens.
func TestShutdownWhenIdle(t *testing.T) {
	t.Parallel()
	for name, ending := range endings() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := newVendors(t)
			p := serve(t, v.env())
			p.request(t, "listen", "subscriptions/listen", map[string]any{
				"notifications": map[string]any{"toolsListChanged": true, "resourcesListChanged": true, "promptsListChanged": true},
				"_meta": map[string]any{
					"io.modelcontextprotocol/protocolVersion": modern, "io.modelcontextprotocol/clientCapabilities": map[string]any{},
					"io.modelcontextprotocol/clientInfo": map[string]any{"name": "test", "version": "0"},
				},
			})
			p.out.awaitText(t, "listen")
			p.end(t, ending)
			p.exit(t, 0)
		})
	}
}

// A client that dies takes its pipes with it. What it began is finished all the
// same: writing to a broken pipe must not end the process.
func TestClientDies(t *testing.T) {
	t.Parallel()
	v := newVendors(t)
	gate := v.hold("POST", "/api_tokens")
	p := serve(t, v.env())
	old := v.mailtrapIDs(1)[0]
	p.confirmed(t, "rotate", "rotate_token", map[string]any{"connection": "mailtrap", "token_id": old, "compromised": true})
	gate.await(t, 1)
	for _, pipe := range []interface{ Close() error }{p.stdin, p.stdout, p.stderr} {
		if err := pipe.Close(); err != nil {
			t.Fatal(err)
		}
	}
	gate.release()
	p.exit(t, 0)
	v.checkGone(t, []string{old}, []string{old}) // the leaked token, after its twin was delivered
	secrets := delivered(t, v.secretsDir())
	twins := slices.DeleteFunc(v.MailtrapTokens(), func(t sandbox.MailtrapToken) bool { return !slices.Contains(secrets, t.Secret) })
	if len(secrets) != 1 || len(twins) != 1 {
		t.Errorf("%d secrets were delivered, of %d tokens", len(secrets), len(twins))
	}
}

// A bulk revocation whose answers come late is not stopped by calls beside it.
func TestStdinStaysOpen(t *testing.T) {
	t.Parallel()
	v := newVendors(t)
	gate := v.hold("DELETE", "/api_tokens/")
	ids := v.mailtrapIDs(3)
	p := serve(t, v.env())
	p.confirmed(t, "bulk", "bulk_revoke_tokens", map[string]any{"connection": "mailtrap", "token_ids": ids, "reason": "test"})
	gate.await(t, 1)
	for n := range 3 {
		p.call(t, n, "list_connections", nil)
		p.answer(t, n)
	}
	gate.release()
	if got := p.answer(t, "bulk").Result.StructuredContent["status"]; got != "revoked" {
		t.Errorf("status %v", got)
	}
	v.checkGone(t, ids, ids)
}

// A cancelled bulk revocation stops before its next target; a cancelled change of
// one token is finished.
func TestCancelledChange(t *testing.T) {
	t.Parallel()
	v := newVendors(t)
	deletion, creation := v.hold("DELETE", "/api_tokens/"), v.hold("POST", "/api/v2/tokens")
	ids := v.mailtrapIDs(3)
	p := serve(t, v.env())
	p.confirmed(t, "bulk", "bulk_revoke_tokens", map[string]any{"connection": "mailtrap", "token_ids": ids, "reason": "test"})
	p.call(t, "create", "create_launchdarkly_token", createArguments())
	deletion.await(t, 1)
	creation.await(t, 1)
	for _, id := range []string{"bulk", "create"} {
		p.send(t, fmt.Sprintf(`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":%q}}`, id))
	}
	p.request(t, "after", "ping", nil) // lines are taken in order: once this is answered, the server knows
	p.answer(t, "after")
	deletion.release()
	creation.release()
	p.answer(t, "bulk")
	p.answer(t, "create")
	v.checkGone(t, ids, ids[:1])
	if diff := cmp.Diff([]string{v.secretOf(t, "e2e")}, delivered(t, v.secretsDir())); diff != "" {
		t.Errorf("delivered secrets (-want +got):\n%s", diff)
	}
}

// An open question to the user does not keep a server alive that is told to end.
func TestShutdownWithAnOpenQuestion(t *testing.T) {
	t.Parallel()
	for name, ending := range endings() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := newVendors(t)
			p := start(t, v.bareEnv(), "--config", v.organization(t), "--log-level", "debug")
			p.request(t, "init", "initialize", map[string]any{
				"protocolVersion": legacy, "capabilities": map[string]any{"elicitation": map[string]any{}},
				"clientInfo": map[string]any{"name": "test", "version": "0"},
			})
			p.answer(t, "init")
			p.confirmed(t, "all", "bulk_revoke_tokens", map[string]any{"connection": "org", "everything": true, "reason": "test"})
			p.out.awaitText(t, "elicitation/create")
			p.end(t, ending)
			p.exit(t, 0)
			if got := p.answer(t, "all").Result; !got.IsError {
				t.Errorf("the revocation: %+v", got)
			}
			if n := v.sent("POST") + v.sent("DELETE"); n != 0 {
				t.Errorf("%d changes were sent", n)
			}
		})
	}
}
