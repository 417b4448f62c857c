package e2e_test

import (
	"encoding/json"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/mark3labs/mcp-go/client"
)

// config writes a configuration of two connections, with a sink and whatever
// else is given, and returns its path.
func (v *vendors) config(t *testing.T, more map[string]any) string {
	t.Helper()
	c := map[string]any{
		"connections": map[string]any{
			"ld": map[string]any{
				"provider": "launchdarkly", "base_url": v.access.LaunchDarkly.BaseURL, "credential": v.credentialFile(t, "ld", v.access.LaunchDarkly.Credential),
			},
			"mt": map[string]any{
				"provider": "mailtrap", "base_url": v.access.Mailtrap.BaseURL, "account_id": v.access.Mailtrap.AccountID,
				"credential": v.credentialFile(t, "mt", v.access.Mailtrap.Credential),
			},
		},
		"sinks": map[string]any{"files": map[string]any{"type": "file", "directory": v.secretsDir()}},
	}
	maps.Copy(c, more)
	data, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	return v.write(t, "config.json", string(data))
}

func (v *vendors) credentialFile(t *testing.T, name, credential string) map[string]any {
	t.Helper()
	return map[string]any{"file": v.write(t, name+".credential", credential+"\n")}
}

// write writes a file below the home and returns its path.
func (v *vendors) write(t *testing.T, name, content string) string {
	t.Helper()
	path := filepath.Join(v.home, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// A configured token is shown nowhere, a bad one refused without a word of it.
func TestSSEConfiguredToken(t *testing.T) {
	t.Parallel()
	const token = "configured-bearer-token-0123456789abcdef"
	v := newVendors(t)
	s := listen(t, v, append(v.bareEnv(), "TOKENREEVE_BEARER_TOKEN="+token))
	if got, _ := callTool(t, s.sse(t, legacy), "list_connections", nil); got == nil {
		t.Error("list_connections failed")
	}
	if status, body := s.get(t, "/sse", false); status != http.StatusUnauthorized || strings.Contains(body, token) {
		t.Errorf("without the token: status %d: %s", status, body)
	}
	s.signal(t, terminate)
	s.exit(t, 0)
	if strings.Contains(s.err.String(), token) || strings.Contains(s.err.String(), "bearer token") {
		t.Errorf("a configured token was shown:\n%s", s.err)
	}
	_, stderr := run(t, append(v.bareEnv(), "TOKENREEVE_BEARER_TOKEN=too-short"), 1, "", "serve", "--listen", "127.0.0.1:0")
	if !strings.Contains(stderr, "TOKENREEVE_BEARER_TOKEN") || !strings.Contains(stderr, "at least 32") || strings.Contains(stderr, "too-short") {
		t.Errorf("a short token: %s", stderr)
	}
}

// SIGTERM lets a change that was sent finish, and its answer reach the client.
func TestSSEShutdown(t *testing.T) {
	t.Parallel()
	v := newVendors(t)
	gate := v.hold("POST", "/api/v2/tokens")
	s := listen(t, v, v.bareEnv())
	c := s.sse(t, legacy)
	answers := background(t.Context(), c, "create_launchdarkly_token", map[string]any{"connection": "ld", "name": "e2e", "role": "reader"})
	gate.await(t, 1)
	s.signal(t, terminate)
	s.err.awaitText(t, "stopping")
	gate.release()
	if got := receive(t, answers, "the answer"); got.content["status"] != "created" {
		t.Errorf("create: %v", got)
	}
	s.exit(t, 0)
	if diff := cmp.Diff([]string{v.secretOf(t, "e2e")}, delivered(t, v.secretsDir())); diff != "" {
		t.Errorf("delivered secrets (-want +got):\n%s", diff)
	}
}

// A client that hangs up stops its bulk revocation before the next target; the
// change that was sent is finished, and other clients notice nothing.
func TestSSEClientHangsUp(t *testing.T) {
	t.Parallel()
	v := newVendors(t)
	deletion, creation := v.hold("DELETE", "/api_tokens/"), v.hold("POST", "/api/v2/tokens")
	s := listen(t, v, v.bareEnv())
	c, other := s.sse(t, legacy), s.sse(t, legacy)
	ids := v.mailtrapIDs(4)
	arguments := map[string]any{"connection": "mt", "token_ids": ids, "reason": "test"}
	preview, text := callTool(t, c, "bulk_revoke_tokens", arguments)
	if preview == nil {
		t.Fatal(text)
	}
	arguments["confirm"] = preview["confirm"]
	s.post(t, c, "bulk_revoke_tokens", arguments)
	s.post(t, c, "create_launchdarkly_token", map[string]any{"connection": "ld", "name": "e2e", "role": "reader"})
	deletion.await(t, 1)
	creation.await(t, 1)
	endpoint := client.GetEndpoint(c).String()
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	for s.message(t, endpoint, `{"jsonrpc":"2.0","method":"notifications/initialized"}`) == http.StatusAccepted {
		// The server learns of the end of a stream from the network.
		if t.Context().Err() != nil {
			return
		}
	}
	deletion.release()
	creation.release()
	s.err.await(t, "the end of the bulk revocation", func(all string) bool {
		return strings.Count(all, "call tool=bulk_revoke_tokens") == 2 // the preview was the first call
	})
	if got, text := callTool(t, other, "list_tokens", map[string]any{"connection": "mt"}); got == nil {
		t.Errorf("the other client: %s", text)
	}
	s.signal(t, terminate)
	s.exit(t, 0) // which waits for what is under way
	v.checkGone(t, ids, ids[:1])
	if diff := cmp.Diff([]string{v.secretOf(t, "e2e")}, delivered(t, v.secretsDir())); diff != "" {
		t.Errorf("delivered secrets (-want +got):\n%s", diff)
	}
}

// post calls a tool in a client's session without waiting for the answer.
func (s *listening) post(t *testing.T, c *client.Client, tool string, arguments map[string]any) {
	t.Helper()
	body, err := json.Marshal(map[string]any{
		"jsonrpc": "2.0", "id": "posted " + tool, "method": "tools/call", "params": map[string]any{"name": tool, "arguments": arguments},
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := s.message(t, client.GetEndpoint(c).String(), string(body)); got != http.StatusAccepted {
		t.Fatalf("%s: status %d", tool, got)
	}
}

// message sends a message and returns the status.
func (s *listening) message(t *testing.T, endpoint, body string) int {
	t.Helper()
	response, _ := s.send(t, http.MethodPost, strings.TrimPrefix(endpoint, s.url), body, bearerOf(s.token))
	return response.StatusCode
}
