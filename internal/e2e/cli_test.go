package e2e_test

import (
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"unicode"

	"github.com/google/go-cmp/cmp"

	"github.com/tokenreeve/tokenreeve/internal/sandbox"
)

func contains(s, part string) bool { return strings.Contains(s, part) }

// confirmCode waits for the code in what call shows a person.
func confirmCode(t *testing.T, shown *transcript) string {
	t.Helper()
	line := regexp.MustCompile(`(?m)^confirm: (\S+)\n`)
	shown.await(t, "the confirm code", line.MatchString)
	return line.FindStringSubmatch(shown.String())[1]
}

// plain fails where a text for a terminal could do more than show letters.
func plain(t *testing.T, what, text string) {
	t.Helper()
	for i, r := range text {
		if r != '\n' && r != '\u200d' && (unicode.IsControl(r) || unicode.In(r, unicode.Cf)) {
			t.Errorf("%s holds %U: %q", what, r, text[max(0, i-20):min(len(text), i+20)])
		}
	}
}

// A call from a shell prints a table for people and JSON for scripts.
func TestCallReads(t *testing.T) {
	t.Parallel()
	v := newVendors(t)
	ids := v.mailtrapIDs(1)
	for name, test := range map[string]struct {
		args []string
		code int
		want []string // parts of the output
	}{
		"table":            {[]string{"list_tokens", "connection=mailtrap", "limit=2"}, 0, []string{"tokens:\n  ID ", "coverage:\n", "next_cursor: "}},
		"JSON argument":    {[]string{"get_token", `{"connection":"mailtrap","token_id":` + ids[0] + `}`}, 0, []string{ids[0]}},
		"JSON result":      {[]string{"get_token", "connection=mailtrap", "token_id=" + ids[0], "--json"}, 0, []string{`"id": "` + ids[0] + `"`}},
		"list value":       {[]string{"count_tokens", `kind=user`, "group_by=owner", "connection=launchdarkly"}, 0, []string{"groups:"}},
		"no arguments":     {[]string{"list_connections"}, 0, []string{"mailtrap", "launchdarkly", "atlassian"}},
		"tool error":       {[]string{"get_token", "connection=mailtrap", "token_id=1"}, 1, []string{"code: not_found"}},
		"tool error, JSON": {[]string{"get_token", "connection=mailtrap", "token_id=1", "--json"}, 1, []string{`"code": "not_found"`}},
		"wrong argument":   {[]string{"list_tokens", "conection=mailtrap"}, 1, []string{"did you mean connection?"}},
		"not one value":    {[]string{"get_token", "connection=mailtrap", "token_id=" + ids[0] + "]"}, 1, []string{"code: invalid_argument"}},
		"unknown tool":     {[]string{"list_token"}, 1, []string{"did you mean list_tokens?"}},
		"neither":          {[]string{"list_tokens", "mailtrap"}, 1, []string{`"mailtrap" is neither a JSON object nor key=value`}},
		"twice":            {[]string{"list_tokens", "query=a", "query=b"}, 1, []string{"query stands twice"}},
		"not JSON":         {[]string{"list_tokens", `{"limit":1`}, 1, []string{"not a JSON object"}},
		"JSON and more":    {[]string{"list_tokens", `{"limit":1} {"everything":true}`}, 1, []string{"not a JSON object"}},
		"no tool":          {nil, 1, []string{"requires at least 1 arg"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			stdout, stderr := run(t, v.env(), test.code, "", append([]string{"call"}, test.args...)...)
			for _, part := range test.want {
				if !contains(stdout+stderr, part) {
					t.Errorf("no %q in:\n%s%s", part, stdout, stderr)
				}
			}
			plain(t, "stdout", stdout)
			if slices.Contains(test.args, "--json") && !json.Valid([]byte(stdout)) {
				t.Errorf("not JSON: %s", stdout)
			}
		})
	}
}

// adminsAllowed configures LaunchDarkly with a policy that allows new admin tokens.
func (v *vendors) adminsAllowed(t *testing.T) string {
	t.Helper()
	return v.config(t, map[string]any{"connections": map[string]any{"launchdarkly": map[string]any{
		"provider": "launchdarkly", "base_url": v.access.LaunchDarkly.BaseURL, "mint": map[string]any{"access": []string{"admin"}},
		"credential": v.credentialFile(t, "launchdarkly", v.access.LaunchDarkly.Credential),
	}}})
}

// Without a terminal a destructive tool shows its preview, changes nothing, and
// says so, whatever is piped into it.
func TestCallWithoutATerminal(t *testing.T) {
	t.Parallel()
	v := newVendors(t)
	ids := v.mailtrapIDs(2)
	launchDarkly := v.plainLaunchDarkly()[0].ID
	for tool, args := range map[string][]string{
		"revoke_token":              {"connection=mailtrap", "token_id=" + ids[0]},
		"rotate_token":              {"connection=mailtrap", "token_id=" + ids[0]},
		"update_launchdarkly_token": {"connection=launchdarkly", "token_id=" + launchDarkly, "name=renamed"},
		"bulk_revoke_tokens":        {"connection=mailtrap", "token_ids=" + `["` + strings.Join(ids, `","`) + `"]`, "reason=test"},
		"create_launchdarkly_token": {"--config", v.adminsAllowed(t), "connection=launchdarkly", "name=e2e", "role=admin"},
	} {
		t.Run(tool, func(t *testing.T) {
			t.Parallel()
			stdout, stderr := run(t, v.env(), 1, "yes\n", append([]string{"call", tool}, args...)...)
			if !contains(stdout, "status: confirmation_required") {
				t.Errorf("no preview:\n%s", stdout)
			}
			if !contains(stderr, "nothing was changed") || !contains(stderr, "terminal") {
				t.Errorf("stderr: %s", stderr)
			}
		})
	}
	t.Cleanup(func() { // after the parallel parts
		for _, method := range []string{"POST", "PATCH", "DELETE"} {
			if n := v.sent(method); n != 0 {
				t.Errorf("%d %s requests were sent", n, method)
			}
		}
	})
}

// A tool that needs no code acts at once; the secret is in its file, not on the
// screen. An interrupt does not lose it.
func TestCallCreates(t *testing.T) {
	t.Parallel()
	for _, interrupted := range []bool{false, true} {
		t.Run(fmt.Sprint("interrupted ", interrupted), func(t *testing.T) {
			t.Parallel()
			v := newVendors(t)
			gate := v.hold("POST", "/api/v2/tokens")
			p := start(t, v.env(), "call", "create_launchdarkly_token", "connection=launchdarkly", "name=e2e", "role=reader")
			gate.await(t, 1)
			if interrupted {
				p.signal(t, os.Interrupt)
				p.signal(t, terminate)
			}
			gate.release()
			p.exit(t, 0)
			if diff := cmp.Diff([]string{v.secretOf(t, "e2e")}, delivered(t, v.secretsDir())); diff != "" {
				t.Errorf("delivered secrets (-want +got):\n%s", diff)
			}
			if !contains(p.out.String(), "status: created") {
				t.Errorf("stdout: %s", p.out)
			}
			v.noSecretIn(t, "the output", p.out.String()+p.err.String())
		})
	}
}

// Hostile names do nothing to a terminal, in tables, in previews and in the log.
func TestHostileNamesAtATerminal(t *testing.T) {
	t.Parallel()
	v := newVendors(t)
	const hostile = "\x1b]0;owned\x07\x1b[31mred\u202egnirts\u2066 \u009b31m\r\nstatus: revoked\tx\x00"
	if _, err := v.AddMailtrapToken(sandbox.MailtrapToken{Name: hostile}); err != nil {
		t.Fatal(err)
	}
	added, err := v.AddLaunchDarklyToken(sandbox.LaunchDarklyToken{Name: hostile, Description: hostile, Role: "reader", MemberID: v.LaunchDarklyMembers()[0].ID})
	if err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"call", "list_tokens", "limit=200"},
		{"call", "list_tokens", "limit=200", "--json"},
		{"call", "get_token", "connection=launchdarkly", "token_id=" + added.ID},
		{"call", "list_tokens", "query=\x1b[31m"},
		{"call", "\x1b[31mtool"},
		{"call", "list_tokens", "\x1b[31m=1"},
		{"call", "list_tokens", "connection=\x1b[31m\u202e"},
	} {
		p := start(t, v.env(), args...)
		_ = p.stdin.Close()
		receive(t, p.ended, "the end")
		plain(t, strings.Join(args, " ")+": stdout", p.out.String())
		plain(t, strings.Join(args, " ")+": stderr", p.err.String())
	}
	stdout, stderr := run(t, v.env(), 1, "", "call", "revoke_token", "connection=launchdarkly", "token_id="+added.ID)
	plain(t, "preview", stdout+stderr)
	if !contains(stdout, added.ID) || regexp.MustCompile(`(?m)^status: revoked`).MatchString(stdout) {
		t.Errorf("preview:\n%s", stdout)
	}
}

func TestToolsCommand(t *testing.T) {
	t.Parallel()
	v := newVendors(t)
	stdout, _ := run(t, v.env(), 0, "", "tools")
	for _, tool := range allTools() {
		if !regexp.MustCompile(`(?m)^` + tool + ` +(read|mint|update|rotate|revoke|bulk)( |$)`).MatchString(stdout) {
			t.Errorf("no line for %s in:\n%s", tool, stdout)
		}
	}
	if !contains(stdout, "connection* token_id* ") {
		t.Errorf("required arguments are not marked:\n%s", stdout)
	}
	stdout, _ = run(t, v.env(), 0, "", "tools", "--json")
	var listed []struct {
		Class      string
		Definition struct {
			Name        string
			InputSchema map[string]any
		}
	}
	if err := json.Unmarshal([]byte(stdout), &listed); err != nil || len(listed) != len(allTools()) {
		t.Fatalf("%d definitions (%v)", len(listed), err)
	}
	for _, tool := range listed {
		if tool.Class == "" || !slices.Contains(allTools(), tool.Definition.Name) || tool.Definition.InputSchema["type"] != "object" {
			t.Errorf("definition: %+v", tool)
		}
	}
	if got := len(v.Requests()); got != 0 {
		t.Errorf("%d requests were sent", got)
	}
}

func TestReadOnly(t *testing.T) {
	t.Parallel()
	want := []string{"count_tokens", "get_operation", "get_token", "list_connections", "list_operations", "list_tokens"}
	v := newVendors(t)
	for name, test := range map[string]struct {
		env  []string
		args []string
	}{
		"flag":        {v.env(), []string{"--read-only"}},
		"environment": {v.env("TOKENREEVE_READ_ONLY=true"), nil},
		"demo":        {v.bareEnv(), []string{"--demo", "--read-only"}},
		"file":        {v.bareEnv(), []string{"--config", v.config(t, map[string]any{"read_only": true})}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			stdout, _ := run(t, test.env, 0, "", append([]string{"tools"}, test.args...)...)
			var got []string
			for line := range strings.Lines(stdout) {
				if name, _, _ := strings.Cut(line, " "); name != "TOOL" {
					got = append(got, name)
				}
			}
			slices.Sort(got)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("tools (-want +got):\n%s", diff)
			}
			stdout, _ = run(t, test.env, 1, "", append([]string{"call", "revoke_token", "token_id=1"}, test.args...)...)
			if !contains(stdout, "is not offered") {
				t.Errorf("revoke_token: %s", stdout)
			}
		})
	}
}

func TestVersionAndHelp(t *testing.T) {
	t.Parallel()
	v := newVendors(t)
	stdout, _ := run(t, v.bareEnv(), 0, "", "version")
	if want := fmt.Sprintf("tokenreeve v1.2.3-test %s %s/%s\n", runtime.Version(), runtime.GOOS, runtime.GOARCH); stdout != want {
		t.Errorf("version: %q, want %q", stdout, want)
	}
	for command, want := range map[string][]string{
		"":        {"serves one MCP client over stdio", "serve", "sandbox", "demo", "call", "tools", "version", "--config", "--demo", "--read-only", "--state-dir", "--log-level", "--log-format"},
		"serve":   {"--listen", "--transport", "--tls-cert", "--tls-key", "--behind-tls-proxy", "--allowed-hosts", "--allowed-origins", "--max-sessions", "--max-calls", "TOKENREEVE_BEARER_TOKEN"},
		"call":    {"--json", "key=value"},
		"tools":   {"--json"},
		"sandbox": {"--listen", "--tokens", "--seed"},
		"demo":    {"simulated vendors"},
	} {
		args := strings.Fields(command + " --help")
		stdout, _ := run(t, v.bareEnv(), 0, "", args...)
		for _, part := range want {
			if !contains(stdout, part) {
				t.Errorf("%s --help lacks %q:\n%s", command, part, stdout)
			}
		}
	}
	for _, args := range [][]string{{"no-such-command"}, {"--no-such-flag"}, {"version", "extra"}} {
		stdout, stderr := run(t, v.bareEnv(), 1, "", args...)
		if stdout != "" || !contains(stderr, "tokenreeve: ") {
			t.Errorf("%v: stdout %q, stderr %q", args, stdout, stderr)
		}
	}
}

// The sandbox command prints one JSON line, serves what it says, and ends well.
func TestSandboxCommand(t *testing.T) {
	t.Parallel()
	v := newVendors(t)
	p := start(t, v.bareEnv(), "sandbox", "--listen", "127.0.0.1:0", "--tokens", "60", "--seed", "3")
	p.out.awaitText(t, "\n")
	var access sandbox.Access
	if err := json.Unmarshal([]byte(p.out.String()), &access); err != nil {
		t.Fatalf("%v in %s", err, p.out)
	}
	box := &vendors{access: access, home: v.home}
	stdout, _ := run(t, box.env(), 0, "", "call", "count_tokens", "--json")
	var counted struct{ Total int }
	if err := json.Unmarshal([]byte(stdout), &counted); err != nil || counted.Total < 50 {
		t.Errorf("%d tokens of 60 (%v):\n%s", counted.Total, err, stdout)
	}
	p.signal(t, terminate)
	p.exit(t, 0)
	if strings.Count(p.out.String(), "\n") != 1 {
		t.Errorf("more than one line: %s", p.out)
	}
	_, stderr := run(t, v.bareEnv(), 1, "", "sandbox", "--listen", "0.0.0.0:0")
	if !contains(stderr, "loopback") {
		t.Errorf("0.0.0.0: %s", stderr)
	}
}

// The demo's vendors and files are gone with the process, however it ends.
func TestDemoFlagLeavesNothing(t *testing.T) {
	t.Parallel()
	v := newVendors(t)
	check := func(when string) {
		if left, err := os.ReadDir(v.home); err != nil || len(left) != 0 {
			t.Errorf("%s: left behind: %v (%v)", when, left, err)
		}
	}
	stdout, _ := run(t, v.env(), 0, "", "--demo", "call", "create_launchdarkly_token", "connection=acme-launchdarkly", "name=e2e", "role=reader")
	if !contains(stdout, "status: created") {
		t.Errorf("create: %s", stdout)
	}
	check("call")
	for name, ending := range endings() {
		p := serve(t, v.env(), "--demo")
		p.call(t, 1, "list_tokens", map[string]any{"limit": 1})
		p.answer(t, 1)
		p.end(t, ending)
		p.exit(t, 0)
		check(name)
	}
	if got := v.Requests(); len(got) != 0 {
		t.Errorf("%d requests went to the configured vendors", len(got))
	}
}
