package e2e_test

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/tokenreeve/tokenreeve/internal/sandbox"
	"github.com/tokenreeve/tokenreeve/internal/vendortest"
)

// hostileVendors are vendors of which some tokens, with all that belongs to them, hold hostile texts.
type hostileVendors struct {
	*vendors
	credential               string
	atlassian, ld, mt, other string // ids of tokens
}

func newHostileVendors(t *testing.T, credential string) *hostileVendors {
	t.Helper()
	v := &hostileVendors{vendors: newVendors(t), credential: credential}
	a, err := v.AddAtlassianToken(sandbox.AtlassianToken{Label: v.text("label"), OwnerName: v.text("owner"), OwnerEmail: v.text("email"), Scopes: []string{v.text("scope")}})
	l, err2 := v.AddLaunchDarklyToken(sandbox.LaunchDarklyToken{
		Name: v.text("name"), Description: v.text("description"), CustomRoleIDs: []string{v.text("role")},
		MemberID: "0123456789abcdef01234567", MemberName: v.text("member"), MemberEmail: v.text("email"),
	})
	m, err3 := v.AddMailtrapToken(sandbox.MailtrapToken{Name: v.text("name"), CreatedBy: v.text("maker")})
	o, err4 := v.AddMailtrapToken(sandbox.MailtrapToken{Name: v.text("other"), CreatedBy: v.text("maker")})
	if err := errors.Join(err, err2, err3, err4); err != nil {
		t.Fatal(err)
	}
	v.atlassian, v.ld, v.mt, v.other = a.ID, l.ID, fmt.Sprint(m.ID), fmt.Sprint(o.ID)
	return v
}

func (v *hostileVendors) text(place string) string {
	return vendortest.HostileText(vendortest.Word(place), v.credential)
}

// typed is a hostile text as an argument of a process can hold it.
func (v *hostileVendors) typed(place string) string {
	return strings.ReplaceAll(v.text(place), "\x00", "")
}

// clean fails where a text holds what it should not.
func clean(t *testing.T, what, text string) {
	t.Helper()
	if danger := vendortest.Danger(text, '\n', '\t'); danger != "" {
		t.Errorf("%s holds %s: %+q", what, danger, text)
	}
}

// atTerminal runs a command whose standard streams are a terminal of its own, types a wrong code where it
// asks for one, and returns what the terminal shows, without the colors of the log.
func atTerminal(t *testing.T, env []string, asks bool, args ...string) string {
	t.Helper()
	typist, tty := terminal(t)
	cmd := exec.Command(binary(t), args...)
	cmd.Env, cmd.Dir = env, t.TempDir()
	cmd.Stdin, cmd.Stdout, cmd.Stderr = tty, tty, tty
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	screen := newTranscript()
	read := make(chan struct{})
	go func() {
		defer close(read)
		_, _ = io.Copy(screen, typist) // ends with the last process at the terminal
	}()
	if asks {
		screen.awaitText(t, "Type the confirm code")
		if _, err := io.WriteString(typist, "no\n"); err != nil {
			t.Fatal(err)
		}
	}
	_ = cmd.Wait() // some fail on purpose
	_ = tty.Close()
	receive(t, read, "the end of what the terminal shows")
	return logColors.ReplaceAllString(strings.ReplaceAll(screen.String(), "\r\n", "\n"), "")
}

// logColors are the escape sequences of the log's own.
var logColors = regexp.MustCompile(`\x1b\[(0|2|22|91|92|93|2;9[0-7])m`)

// TestHostileTerminal: whatever vendors hold and people type, a terminal gets letters.
func TestHostileTerminal(t *testing.T) {
	t.Parallel()
	kinds := slices.Sorted(maps.Keys(vendortest.Credentials()))
	v := newHostileVendors(t, vendortest.Credentials()[kinds[0]])
	reason := "reason=" + v.typed("reason")
	tokens := []string{"call", "revoke_token", "connection=mailtrap", "token_id=" + v.other, reason}
	for name, test := range map[string]struct {
		args  []string
		asks  bool     // for a code
		words []string // whose word must show
	}{
		"list":          {[]string{"call", "list_tokens", "connection=mailtrap", "query=zq"}, false, []string{"name"}},
		"list in full":  {[]string{"call", "list_tokens", "query=zq", "detail=full", "limit=9"}, false, []string{"label", "owner", "description", "member", "maker"}},
		"list as JSON":  {[]string{"call", "--json", "list_tokens", "query=zq", "detail=full"}, false, []string{"label", "description"}},
		"get":           {[]string{"call", "get_token", "connection=launchdarkly", "token_id=" + v.ld, "--json"}, false, []string{"name", "description"}},
		"count":         {[]string{"call", "count_tokens", "group_by=owner", "query=zq"}, false, nil},
		"revoke":        {tokens, true, []string{"other"}},
		"in JSON":       {append([]string{"call", "--json"}, tokens[1:]...), true, []string{"other"}},
		"rotate":        {[]string{"call", "rotate_token", "connection=launchdarkly", "token_id=" + v.ld}, true, nil},
		"update":        {[]string{"call", "update_launchdarkly_token", "connection=launchdarkly", "token_id=" + v.ld, "role=reader"}, true, []string{"role"}},
		"bulk":          {[]string{"call", "bulk_revoke_tokens", "connection=mailtrap", `token_ids=["` + v.mt + `","` + v.other + `"]`, reason}, true, []string{"name", "other"}},
		"with its log":  {[]string{"--log-level", "debug", "call", "list_tokens", "connection=atlassian", "query=zq"}, false, []string{"label"}},
		"its log, JSON": {[]string{"--log-level", "debug", "--log-format", "json", "call", "list_tokens", "query=zq"}, false, []string{"label"}},
		"tools":         {[]string{"tools"}, false, nil},
		"tools in JSON": {[]string{"tools", "--json"}, false, nil},
		"unknown tool":  {[]string{"call", v.typed("tool")}, false, []string{"tool"}},
		"argument":      {[]string{"call", "list_tokens", v.typed("argument") + "=1"}, false, []string{"argument"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			screen := atTerminal(t, v.env(), test.asks, test.args...)
			clean(t, "the terminal", screen)
			for _, place := range test.words {
				if !strings.Contains(screen, vendortest.Word(place)) {
					t.Errorf("%s does not show: the test proves nothing: %s", place, screen)
				}
			}
		})
	}
}

// What a person typed may show again, but never acts on the terminal.
func TestHostileCommandLine(t *testing.T) {
	t.Parallel()
	v := newHostileVendors(t, "")
	typed := v.typed("typed")
	for name, args := range map[string][]string{
		"neither":     {"call", "list_tokens", strings.ReplaceAll(typed, "=", "")},
		"twice":       {"call", "list_tokens", typed + "=1", typed + "=2"},
		"command":     {typed},
		"flag":        {"call", "--" + typed},
		"help":        {"help", typed},
		"operation":   {"ledger", "show", typed},
		"outcome":     {"ledger", "list", "--outcome", typed},
		"since":       {"ledger", "list", "--since", typed},
		"format":      {"ledger", "export", "--format", typed},
		"export":      {"ledger", "verify", "--export", typed},
		"head":        {"ledger", "verify", "--head", typed},
		"preview":     {"approve", typed},
		"config":      {"--config", typed, "tools"},
		"state":       {"--state-dir", typed, "ledger", "list"},
		"log level":   {"--log-level", typed, "tools"},
		"listen":      {"serve", "--listen", typed},
		"destination": {"deliver", typed, typed},
		"resolve":     {"ledger", "resolve", typed},
		"completion":  {"__complete", "call", typed},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			screen := atTerminal(t, v.env(), false, args...)
			if hidden := vendortest.Hidden(screen, '\n', '\t'); hidden != "" || screen == "" {
				t.Errorf("the terminal holds %s: %+q", hidden, screen)
			}
		})
	}
}

// TestHostileRecord: what was done to hostile tokens, by callers who call themselves so and type so, is
// clean on record, in every export, and where a person approves it.
func TestHostileRecord(t *testing.T) {
	t.Parallel()
	kinds := slices.Sorted(maps.Keys(vendortest.Credentials()))
	for _, kind := range []string{kinds[1], kinds[len(kinds)-1], "LaunchDarkly token", "private key"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			v := newHostileVendors(t, vendortest.Credentials()[kind])
			v.setPassphrase(t)
			p := start(t, v.env(), "--log-level", "debug")
			p.request(t, "init", "initialize", map[string]any{
				"protocolVersion": legacy, "capabilities": map[string]any{}, "clientInfo": map[string]any{"name": v.text("client"), "version": v.text("version")},
			})
			p.answer(t, "init")
			p.call(t, v.text("id"), v.text("tool"), map[string]any{v.text("argument"): v.text("value")})
			p.request(t, 7, v.text("method"), map[string]any{"x": v.text("params")})
			p.send(t, `{"jsonrpc":"2.0","id":8,"method":"tools/call","params":`+fmt.Sprintf("%q", v.text("broken")))
			p.send(t, v.typed("no JSON"))
			reason := map[string]any{"connection": "mailtrap", "token_id": v.other, "reason": v.text("reason")}
			p.confirmed(t, "revoke", "revoke_token", reason)
			operation := fmt.Sprint(p.answer(t, "revoke").Result.StructuredContent["operation_id"])
			p.call(t, "bulk", "bulk_revoke_tokens", map[string]any{"connection": "launchdarkly", "token_ids": []string{v.ld}, "reason": v.text("reason")})
			preview := fmt.Sprint(p.answer(t, "bulk").Result.StructuredContent["preview_id"])
			_ = p.stdin.Close()
			p.exit(t, 0)
			clean(t, "the log", p.err.String())
			v.checkAnswers(t, p.out.String())

			s := sitDown(t, v.bareEnv(), "approve", preview)
			s.reply(t, "Type REVOKE 1 to approve", "REVOKE 1")
			s.reply(t, "Passphrase: ", passphrase)
			s.exit(t, 0)
			s.screen.awaitText(t, "Approved.")
			clean(t, "the terminal of the approval", strings.ReplaceAll(s.screen.String(), "\r\n", "\n"))
			if !contains(s.screen.String(), vendortest.Word("reason")) || !contains(s.screen.String(), v.ld) {
				t.Errorf("the approval shows %s", s.screen)
			}
			v.checkRecord(t, operation)
		})
	}
}

// checkAnswers fails where a result on standard output holds what it should not. An answer repeats the id
// of its request as it came, and the library names an unknown method: both are the caller's own.
func (v *hostileVendors) checkAnswers(t *testing.T, out string) {
	t.Helper()
	results := 0
	for line := range strings.Lines(out) {
		var answer struct{ Result any }
		if err := json.Unmarshal([]byte(line), &answer); err != nil {
			t.Errorf("standard output carries %q: %v", line, err)
		}
		if answer.Result == nil {
			continue
		}
		results++
		vendortest.Strings(answer.Result, func(path, text string) { clean(t, "a result, "+path, text) })
	}
	if results < 4 {
		t.Errorf("%d results: the test proves nothing: %s", results, out)
	}
}

// checkRecord fails where the record holds what it should not: as commands show it, in files, and on disk.
func (v *hostileVendors) checkRecord(t *testing.T, operation string) {
	t.Helper()
	dir := t.TempDir()
	for _, args := range [][]string{
		{"list"},
		{"list", "--json"},
		{"show", operation},
		{"show", "--json", operation},
		{"verify"},
		{"export"},
		{"export", "--format", "csv"},
		{"export", "--output", filepath.Join(dir, "a.jsonl")},
		{"export", "--format", "csv", "--output", filepath.Join(dir, "a.csv")},
	} {
		stdout, stderr := run(t, v.bareEnv(), 0, "", append([]string{"ledger"}, args...)...)
		clean(t, fmt.Sprint("ledger ", args), stdout+stderr)
	}
	for _, name := range []string{"a.jsonl", "a.csv"} {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		clean(t, name, string(data))
		if !contains(string(data), vendortest.Word("reason")) || !contains(string(data), vendortest.Word("client")) {
			t.Errorf("%s holds no outside text: the test proves nothing: %s", name, data)
		}
	}
	files := 0
	err := filepath.WalkDir(v.stateDir(), func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		files++
		for _, part := range []string{"\x1b[31m", "\u202e", "\u200b", "</tool_result", "```", "5ec2e75a", "MIIEvQIB", v.credential} {
			if strings.Contains(string(data), part) {
				t.Errorf("%s holds %+q", path, part)
			}
		}
		return err
	})
	if err != nil || files == 0 {
		t.Errorf("%d files of state (%v)", files, err)
	}
}

// What a vendor sends unasked is in no log: net/http would quote it.
func TestUnsolicitedBytes(t *testing.T) {
	t.Parallel()
	v := newVendors(t)
	const secret = "0f9ac1d2e3b4a5968778695a4b3c2d1e"
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			go talkTooMuch(c, secret)
		}
	}()
	p := serve(t, append(v.bareEnv(),
		"MAILTRAP_API_TOKEN="+v.access.Mailtrap.Credential, "MAILTRAP_ACCOUNT_ID=3229", "MAILTRAP_BASE_URL=http://"+listener.Addr().String()))
	p.call(t, 1, "list_tokens", map[string]any{})
	p.answer(t, 1)
	p.err.awaitText(t, "a library says")
	_ = p.stdin.Close()
	p.exit(t, 0)
	if log := p.err.String(); contains(log, secret[:8]) || !contains(log, "Unsolicited response") {
		t.Errorf("the log: %s", log)
	}
	clean(t, "the log", p.err.String())
}

// talkTooMuch answers a request with an empty list and then goes on.
func talkTooMuch(c net.Conn, secret string) {
	defer c.Close()
	requests := bufio.NewReader(c)
	for {
		if _, err := http.ReadRequest(requests); err != nil {
			return
		}
		if _, err := fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n[]{\"token\":%q} \x1b[31m", secret); err != nil {
			return
		}
	}
}
