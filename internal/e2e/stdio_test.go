package e2e_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/mark3labs/mcp-go/mcp"

	"github.com/tokenreeve/tokenreeve/internal/sandbox"
)

// allTools are the tools with all three vendors configured.
func allTools() []string {
	return []string{
		"bulk_revoke_tokens", "count_tokens", "create_launchdarkly_token", "create_mailtrap_token", "deliver_secret", "get_operation",
		"get_token", "list_connections", "list_operations", "list_tokens", "revoke_token", "rotate_token", "update_launchdarkly_token",
	}
}

// plainLaunchDarkly returns tokens that are no credential of the sandbox.
func (v *vendors) plainLaunchDarkly() []sandbox.LaunchDarklyToken {
	return slices.DeleteFunc(v.LaunchDarklyTokens(), func(t sandbox.LaunchDarklyToken) bool { return t.Credential != "" })
}

// plainMailtrap returns tokens without an end that are no credential of the sandbox.
func (v *vendors) plainMailtrap() []sandbox.MailtrapToken {
	return slices.DeleteFunc(v.MailtrapTokens(), func(t sandbox.MailtrapToken) bool { return t.Credential != "" || !t.ExpiresAt.IsZero() })
}

func (v *vendors) mailtrapIDs(n int) []string {
	var ids []string
	for _, token := range v.plainMailtrap()[:n] {
		ids = append(ids, strconv.FormatInt(token.ID, 10))
	}
	return ids
}

// Every tool does its job through a real client, in both eras of the protocol, and
// no secret is in anything that the process writes.
func TestEveryToolOverStdio(t *testing.T) {
	t.Parallel()
	for _, version := range []string{legacy, modern} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			v := newVendors(t)
			c, stderr := stdioClient(t, version, v.env())
			listed, err := c.ListTools(t.Context(), mcp.ListToolsRequest{})
			if err != nil {
				t.Fatal(err)
			}
			var names []string
			for _, tool := range listed.Tools {
				names = append(names, tool.Name)
			}
			slices.Sort(names)
			if diff := cmp.Diff(allTools(), names); diff != "" {
				t.Errorf("tools (-want +got):\n%s", diff)
			}

			user := v.AtlassianTokens()[slices.IndexFunc(v.AtlassianTokens(), func(t sandbox.AtlassianToken) bool { return !t.ServiceAccount && !t.Unmanaged })]
			launchDarkly, mailtrap := v.plainLaunchDarkly(), v.mailtrapIDs(3)
			project := v.MailtrapResources()[slices.IndexFunc(v.MailtrapResources(), func(n sandbox.MailtrapNode) bool { return n.ResourceType == "project" })]
			type args = map[string]any
			seen, operation := map[string]bool{}, ""
			for _, step := range []struct {
				tool      string
				arguments args
				want      args // members of the result
			}{
				{"list_connections", nil, args{"sinks": []any{"files"}}},
				{"list_tokens", args{"connection": "launchdarkly", "limit": 3}, nil},
				{"count_tokens", args{"group_by": "connection"}, nil},
				{"get_token", args{"connection": "mailtrap", "token_id": mailtrap[0]}, nil},
				{"create_launchdarkly_token", args{"connection": "launchdarkly", "name": "e2e", "role": "reader"}, args{"status": "created"}},
				{"create_mailtrap_token", args{"connection": "mailtrap", "name": "e2e", "permissions": []any{
					args{"resource_type": "project", "resource_id": fmt.Sprint(project.ResourceID), "access_level": "viewer"},
				}}, args{"status": "created"}},
				{"update_launchdarkly_token", args{"connection": "launchdarkly", "token_id": launchDarkly[0].ID, "name": "renamed"}, args{"status": "updated"}},
				{"rotate_token", args{"connection": "launchdarkly", "token_id": launchDarkly[1].ID}, args{"status": "rotated"}},
				{"revoke_token", args{"connection": "atlassian", "token_id": user.ID, "owner": user.AccountID}, args{"status": "revoked"}},
				{"bulk_revoke_tokens", args{"connection": "mailtrap", "token_ids": mailtrap[1:], "reason": "test"}, args{"status": "revoked"}},
			} {
				seen[step.tool] = true
				got := succeed(t, c, step.tool, step.arguments)
				if step.tool == "create_mailtrap_token" {
					operation = fmt.Sprint(got["operation_id"])
				}
				for name, want := range step.want {
					if diff := cmp.Diff(want, got[name]); diff != "" {
						t.Errorf("%s: %s (-want +got):\n%s\nin %v", step.tool, name, diff, got)
					}
				}
				v.noSecretIn(t, "the answer of "+step.tool, fmt.Sprint(got))
			}
			// What was delivered is delivered once; TestDeliver delivers from escrow.
			seen["deliver_secret"] = true
			if failed := fail(t, c, "deliver_secret", args{"operation_id": operation}); failed != "already_delivered" {
				t.Errorf("deliver_secret failed with %s", failed)
			}
			seen["list_operations"], seen["get_operation"] = true, true
			if listed := succeed(t, c, "list_operations", args{"outcome": "done"}); len(listed["operations"].([]any)) != 6 {
				t.Errorf("operations: %v", listed)
			}
			if op := succeed(t, c, "get_operation", args{"operation_id": operation}); op["outcome"] != "done" || op["verified"] != "true" {
				t.Errorf("operation %s: %v", operation, op)
			}
			if diff := cmp.Diff(allTools(), slices.Sorted(maps.Keys(seen))); diff != "" {
				t.Errorf("tools that were called (-want +got):\n%s", diff)
			}
			v.noSecretIn(t, "stderr", stderr.String())
			v.checkAfterEveryTool(t, user.ID, launchDarkly, mailtrap[1:])
		})
	}
}

// checkAfterEveryTool checks at the vendors what the tools did.
func (v *vendors) checkAfterEveryTool(t *testing.T, revoked string, launchDarkly []sandbox.LaunchDarklyToken, ended []string) {
	t.Helper()
	if slices.ContainsFunc(v.AtlassianTokens(), func(t sandbox.AtlassianToken) bool { return t.ID == revoked }) {
		t.Errorf("Atlassian token %s still exists", revoked)
	}
	var want []string // the secrets that were made
	for _, token := range v.LaunchDarklyTokens() {
		switch {
		case token.ID == launchDarkly[0].ID && token.Name != "renamed":
			t.Errorf("LaunchDarkly token %s is called %q", token.ID, token.Name)
		case token.ID == launchDarkly[1].ID && token.Secret == launchDarkly[1].Secret:
			t.Errorf("LaunchDarkly token %s has its old secret", token.ID)
		case token.ID == launchDarkly[1].ID || token.Name == "e2e":
			want = append(want, token.Secret)
		}
	}
	for _, token := range v.MailtrapTokens() {
		if slices.Contains(ended, strconv.FormatInt(token.ID, 10)) {
			t.Errorf("Mailtrap token %d still exists", token.ID)
		}
		if token.Name == "e2e" {
			want = append(want, token.Secret)
		}
	}
	got := delivered(t, v.secretsDir())
	slices.Sort(want)
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" || len(want) != 3 {
		t.Errorf("delivered secrets (-want +got):\n%s", diff)
	}
}

// The protocol on a pipe: odd input is answered, and serving goes on.
func TestStdioProtocol(t *testing.T) {
	t.Parallel()
	v := newVendors(t)
	p := serve(t, v.env(), "serve", "--log-format", "json")
	for name, test := range map[string]struct {
		line string
		id   any
		want string
	}{
		"malformed":      {`{"jsonrpc":"2.0","id":1`, nil, "Parse error"},
		"unknown method": {`{"jsonrpc":"2.0","id":"m","method":"no/such"}`, "m", "no/such"},
		"5 MB":           {`{"jsonrpc":"2.0","id":"l","method":"ping","params":{"x":"` + strings.Repeat("y", 5<<20) + `"}}`, nil, "longer than 4 MiB"},
	} {
		p.send(t, "\n \r\n"+test.line)
		p.out.await(t, name, func(all string) bool {
			return slices.ContainsFunc(messages(t, all), func(m message) bool {
				return m.Error != nil && m.ID == test.id && strings.Contains(m.Error.Message, test.want)
			})
		})
	}
	p.call(t, "t", "revoke_tokens", nil)
	if got := p.answer(t, "t").Result; !got.IsError || !strings.Contains(fmt.Sprint(got.Content), "did you mean revoke_token?") {
		t.Errorf("unknown tool: %+v", got)
	}
	p.call(t, 2, "list_tokens", map[string]any{"connection": "mailtrap"})
	if got := p.answer(t, 2).Result; got.IsError || got.StructuredContent["tokens"] == nil {
		t.Errorf("list_tokens: %+v", got)
	}
	p.send(t, `{"jsonrpc":"2.0","id":3,"method":"ping"}`)
	if _, err := p.stdin.Write([]byte(`{"jsonrpc":"2.0","id":"last","method":"tools/list"}`)); err != nil { // no newline
		t.Fatal(err)
	}
	if err := p.stdin.Close(); err != nil {
		t.Fatal(err)
	}
	p.exit(t, 0)
	if got := p.answer(t, "last").Result.Tools; len(got) != len(allTools()) {
		t.Errorf("the last line was answered with %d tools", len(got))
	}
	logged := 0
	for line := range strings.Lines(p.err.String()) {
		var entry struct{ Msg, Tool string }
		if err := json.Unmarshal([]byte(line), &entry); err != nil {
			t.Errorf("a log line that is no JSON: %s", line)
		}
		if entry.Msg == "call" && entry.Tool == "list_tokens" {
			logged++
		}
	}
	if logged != 1 {
		t.Errorf("%d log lines of the call:\n%s", logged, p.err)
	}
}

// Nothing is sent before the first call that needs it.
func TestColdStartSendsNothing(t *testing.T) {
	t.Parallel()
	v := newVendors(t)
	v.hold("GET", "/") // a vendor that never answers
	p := serve(t, v.env())
	p.request(t, 1, "tools/list", map[string]any{})
	if got := p.answer(t, 1).Result.Tools; len(got) != len(allTools()) {
		t.Errorf("%d tools, want %d", len(got), len(allTools()))
	}
	p.call(t, 2, "list_connections", nil)
	if p.answer(t, 2).Result.IsError {
		t.Error("list_connections failed")
	}
	_ = p.stdin.Close()
	p.exit(t, 0)
	v.openAll()
	if got := v.Requests(); len(got) != 0 {
		t.Errorf("%d requests were sent: %v", len(got), got)
	}
}

// A ping is answered although 64 calls wait for a vendor, and a cancelled one of
// them ends alone.
func TestPingAndCancelBesideSlowCalls(t *testing.T) {
	t.Parallel()
	const calls = 64
	v := newVendors(t)
	gate := v.hold("GET", "/api_tokens")
	p := serve(t, v.env())
	for id := range calls {
		p.call(t, id, "list_tokens", map[string]any{"connection": "mailtrap", "limit": 1})
	}
	gate.await(t, calls)
	p.call(t, "queued", "list_tokens", map[string]any{"connection": "mailtrap", "limit": 1})
	p.request(t, "ping", "ping", nil)
	p.answer(t, "ping")
	p.send(t, `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":7}}`)
	if got := p.answer(t, 7).Result; !strings.Contains(fmt.Sprint(got), "cancelled") {
		t.Errorf("the cancelled call: %+v", got)
	}
	for _, m := range messages(t, p.out.String()) {
		if fmt.Sprint(m.ID) != "7" && len(m.Result.Content) > 0 {
			t.Errorf("call %v was answered before the vendor", m.ID)
		}
	}
	gate.release()
	p.answer(t, "queued")
	for id := range calls {
		if got := p.answer(t, id).Result; id != 7 && (len(got.StructuredContent) == 0 || strings.Contains(fmt.Sprint(got.StructuredContent["coverage"]), "error")) {
			t.Errorf("call %d: %+v", id, got)
		}
	}
}

// A client that asks for progress hears of it while a vendor is slow, and not
// after the answer.
func TestProgress(t *testing.T) {
	t.Parallel()
	v := newVendors(t)
	gate := v.hold("GET", "/api_tokens")
	p := serve(t, v.env())
	p.request(t, 1, "tools/call", map[string]any{
		"name": "list_tokens", "arguments": map[string]any{"connection": "mailtrap"}, "_meta": map[string]any{"progressToken": "mine"},
	})
	gate.await(t, 1)
	p.out.awaitText(t, "notifications/progress")
	gate.release()
	p.answer(t, 1)
	_ = p.stdin.Close()
	p.exit(t, 0)
	all := messages(t, p.out.String())
	if last := all[len(all)-1]; fmt.Sprint(last.ID) != "1" {
		t.Errorf("the answer was not the last message: %+v", last)
	}
	for _, m := range all {
		if m.Method != "" && m.Params["progressToken"] != "mine" {
			t.Errorf("progress of something else: %+v", m)
		}
	}
}

// A subscription is acknowledged before it is answered.
func TestSubscriptionsOverStdio(t *testing.T) {
	t.Parallel()
	v := newVendors(t)
	p := start(t, v.env(), "serve")
	const subscriptions = 40
	for id := range subscriptions {
		p.request(t, id, "subscriptions/listen", map[string]any{"_meta": map[string]any{
			"io.modelcontextprotocol/protocolVersion": modern, "io.modelcontextprotocol/clientCapabilities": map[string]any{},
			"io.modelcontextprotocol/clientInfo": map[string]any{"name": "test", "version": "0"},
		}})
	}
	_ = p.stdin.Close()
	p.exit(t, 0)
	out := p.out.String()
	for id := range subscriptions {
		told := strings.Index(out, fmt.Sprintf(`"method":"notifications/subscriptions/acknowledged","params":{"_meta":{"io.modelcontextprotocol/subscriptionId":%d}`, id))
		answered := strings.Index(out, fmt.Sprintf(`"id":%d,"result"`, id))
		if told < 0 || answered < told {
			t.Fatalf("subscription %d: acknowledged at %d, answered at %d of:\n%s", id, told, answered, out)
		}
	}
}

// organization configures Atlassian with its org-wide revocation.
func (v *vendors) organization(t *testing.T) string {
	t.Helper()
	return v.config(t, map[string]any{"connections": map[string]any{"org": map[string]any{
		"provider": "atlassian", "base_url": v.access.Atlassian.BaseURL, "org_id": v.access.Atlassian.OrgID,
		"credential": v.credentialFile(t, "org", v.access.Atlassian.Credential), "org_wide_revoke": true,
	}}, "human_approval": map[string]any{"trust_client": true}})
}

// The org-wide revocation asks the client's user, in both eras of the protocol,
// and acts on the typed count only.
func TestQuestionToTheUser(t *testing.T) {
	t.Parallel()
	count := regexp.MustCompile(`Type (REVOKE ALL \d+) to agree`)
	for _, version := range []string{legacy, modern} {
		for name, agrees := range map[string]bool{"types the count": true, "types yes": false} {
			t.Run(version+" "+name, func(t *testing.T) {
				t.Parallel()
				v := newVendors(t)
				asked := make(chan string, 10)
				answer := func(question string) string {
					asked <- question
					if found := count.FindStringSubmatch(question); agrees && found != nil {
						return found[1]
					}
					return "yes"
				}
				c := askingClient(t, version, answer, v.bareEnv(), "--config", v.organization(t))
				arguments := map[string]any{"connection": "org", "everything": true, "reason": "test"}
				preview, text := callTool(t, c, "bulk_revoke_tokens", arguments)
				if preview["confirm"] == nil || len(asked) != 0 {
					t.Fatalf("asked %d times before the code was given: %s", len(asked), text)
				}
				arguments["confirm"] = preview["confirm"]
				got, text := callTool(t, c, "bulk_revoke_tokens", arguments)
				if len(asked) != 1 {
					t.Errorf("asked %d times", len(asked))
				}
				if agrees != (got["status"] == "revoked") || !agrees && !strings.Contains(text, "not_approved") {
					t.Errorf("answer: %s", text)
				}
				left := len(slices.DeleteFunc(v.AtlassianTokens(), func(t sandbox.AtlassianToken) bool { return t.ServiceAccount || t.Unmanaged }))
				if agrees != (left == 0) {
					t.Errorf("%d tokens are left", left)
				}
			})
		}
	}
}
