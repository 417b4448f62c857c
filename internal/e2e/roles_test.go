package e2e_test

import (
	"crypto/sha256"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/mark3labs/mcp-go/mcp"
)

// callerToken is the token of a configured caller.
func callerToken(name string) string { return "trv_" + digestOf(name) }

// configuredCaller is the entry of auth.tokens for a caller whose token is callerToken's.
func configuredCaller(name, role string) map[string]any {
	return map[string]any{"name": name, "role": role, "sha256": digestOf(callerToken(name))}
}

func digestOf(text string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(text))) }

// withCallers configures a caller for each role, and an operator who only reads at Mailtrap.
func (v *vendors) withCallers(t *testing.T) string {
	t.Helper()
	var tokens []map[string]any
	for _, role := range []string{"viewer", "operator", "admin", "approver", "narrow"} {
		entry := configuredCaller(role, role)
		if role == "narrow" {
			entry["role"], entry["connections"] = "operator", map[string]any{"mailtrap": "viewer"}
		}
		tokens = append(tokens, entry)
	}
	return v.config(t, map[string]any{
		"connections": map[string]any{
			"ld":       map[string]any{"provider": "launchdarkly", "base_url": v.access.LaunchDarkly.BaseURL, "credential": v.credentialFile(t, "ld", v.access.LaunchDarkly.Credential)},
			"mailtrap": map[string]any{"provider": "mailtrap", "base_url": v.access.Mailtrap.BaseURL, "account_id": v.access.Mailtrap.AccountID, "credential": v.credentialFile(t, "mt", v.access.Mailtrap.Credential)},
		},
		"sinks": map[string]any{"files": map[string]any{"type": "file", "directory": v.secretsDir()}},
		"auth":  map[string]any{"tokens": tokens},
	})
}

// One of several callers cannot take all sessions.
func TestSessionsOfOneCaller(t *testing.T) {
	t.Parallel()
	v := newVendors(t)
	env := append(v.bareEnv(), "TOKENREEVE_BEARER_TOKEN="+strings.Repeat("x", 40))
	s := listens(t, env, "serve", "--listen", "127.0.0.1:0", "--config", v.withCallers(t), "--max-sessions", "2")
	begin := func(role string) int {
		t.Helper()
		response, _ := s.send(t, http.MethodPost, "/mcp", initializeMessage, bearerOf(callerToken(role)))
		return response.StatusCode
	}
	if got := []int{begin("viewer"), begin("viewer"), begin("admin"), begin("operator")}; !slices.Equal(got, []int{200, 503, 200, 503}) {
		t.Errorf("the sessions are answered by %v", got)
	}
}

// What a role does not allow is absent from tools/list, refused at the call, and nothing is sent.
func TestRolesOverHTTP(t *testing.T) {
	t.Parallel()
	v := newVendors(t)
	env := append(v.bareEnv(), "TOKENREEVE_BEARER_TOKEN="+strings.Repeat("x", 40)) // not the door any more
	s := listens(t, env, "serve", "--listen", "127.0.0.1:0", "--config", v.withCallers(t))
	if status, _ := s.get(t, "/sse", true); status != http.StatusUnauthorized {
		t.Errorf("the bearer token of the environment is answered by %d", status)
	}
	reads := []string{"count_tokens", "get_operation", "get_token", "list_connections", "list_operations", "list_tokens"}
	changes := []string{"create_launchdarkly_token", "create_mailtrap_token", "deliver_secret", "revoke_token", "rotate_token", "update_launchdarkly_token"}
	for role, want := range map[string][]string{
		"viewer": reads, "operator": slices.Concat(reads, changes), "admin": allTools(),
		"narrow": slices.DeleteFunc(slices.Concat(reads, changes), func(tool string) bool { return tool == "create_mailtrap_token" }),
	} {
		want = slices.Sorted(slices.Values(want))
		for _, version := range []string{legacy, modern} {
			t.Run(role+" "+version, func(t *testing.T) {
				t.Parallel()
				own := *s
				own.token = callerToken(role)
				c := own.streamable(t, version)
				listed, err := c.ListTools(t.Context(), mcp.ListToolsRequest{})
				if err != nil {
					t.Fatal(err)
				}
				var got []string
				for _, tool := range listed.Tools {
					got = append(got, tool.Name)
				}
				slices.Sort(got)
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("tools (-want +got):\n%s", diff)
				}
				if caller := succeed(t, c, "list_connections", map[string]any{})["caller"].(map[string]any); caller["name"] != "token:"+role {
					t.Errorf("caller %v", caller)
				}
				arguments := map[string]any{"connection": "mailtrap", "token_id": v.mailtrapIDs(1)[0], "reason": "test"}
				content, text := callTool(t, c, "revoke_token", arguments)
				if allowed := role == "admin" || role == "operator"; allowed != (content["confirm"] != nil) || !allowed && !strings.Contains(text, "role_refused") {
					t.Errorf("revoke_token: %s", text)
				}
				says := map[string]string{
					"viewer": "the role viewer may not use revoke_token on any connection",
					"narrow": "the role operator is narrowed to viewer on connection mailtrap, and may not use revoke_token there",
				}[role]
				if !strings.Contains(text, says) {
					t.Errorf("revoke_token: %s", text)
				}
				bulk := map[string]any{"connection": "ld", "query": "x", "reason": "test"}
				if _, text := callTool(t, c, "bulk_revoke_tokens", bulk); (role == "admin") == strings.Contains(text, "role_refused") {
					t.Errorf("bulk_revoke_tokens: %s", text)
				}
			})
		}
	}
	t.Run("a confirm code belongs to its caller", func(t *testing.T) {
		t.Parallel()
		first, second := *s, *s
		first.token, second.token = callerToken("operator"), callerToken("admin")
		arguments := map[string]any{"connection": "mailtrap", "token_id": v.mailtrapIDs(2)[1]}
		shown, _ := callTool(t, first.streamable(t, legacy), "revoke_token", arguments)
		arguments["confirm"] = shown["confirm"]
		if got, text := callTool(t, second.streamable(t, legacy), "revoke_token", arguments); got["status"] != "confirmation_required" {
			t.Errorf("the code of another caller: %s", text)
		}
		if v.sent("DELETE") != 0 {
			t.Error("a token was revoked")
		}
	})
}
