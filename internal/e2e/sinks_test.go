package e2e_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/tokenreeve/tokenreeve/internal/sandbox"
)

// sinks are a dotenv file and a command that keeps what it sees.
func (v *vendors) sinks() map[string]any {
	keep := func(name string) []string {
		return []string{"sh", "-c", `cd "$HOME" && umask 077 && cat >` + name + ` && { printf '%s\n' "$@"; env; } >` + name + `.seen`, "sh", "{key}"}
	}
	return map[string]any{"sinks": map[string]any{
		"env": map[string]any{"type": "file", "format": "dotenv", "directory": filepath.Join(v.home, "env")},
		"cmd": map[string]any{
			"type": "exec", "argv": keep("created"), "rotate": keep("rotated"), "stdin": `{"name":"{key}","value":{secret_json}}`,
			"env": []string{"HOME", "PATH"}, "timeout": "20s",
			"accept": map[string]any{"prefixes": []string{"MAILTRAP_"}, "connections": []string{"mt"}, "principals": []string{"local"}},
		},
	}}
}

// file reads a file below the home; a missing one is empty.
func (v *vendors) file(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(v.home, name))
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return string(data)
}

// mailtrapSecret returns the secret of the token that an answer tells of.
func (v *vendors) mailtrapSecret(t *testing.T, answer message) string {
	t.Helper()
	row, _ := answer.Result.StructuredContent["token"].(map[string]any)
	for _, token := range v.MailtrapTokens() {
		if strconv.FormatInt(token.ID, 10) == row["id"] {
			return token.Secret
		}
	}
	t.Fatalf("no such token at the vendor: %+v", answer.Result)
	return ""
}

// New and replaced secrets arrive in the sinks that a file configures, and nowhere else.
func TestConfiguredSinks(t *testing.T) {
	t.Parallel()
	v := newVendors(t)
	v.write(t, "env/shop/prod.env", "# ours\nMT_TOKEN_OLD=1\n")
	p := serve(t, append(v.bareEnv(), "MAILTRAP_API_TOKEN=not-for-commands"), "--config", v.config(t, v.sinks()))
	project := v.MailtrapResources()[slices.IndexFunc(v.MailtrapResources(), func(n sandbox.MailtrapNode) bool { return n.ResourceType == "project" })]
	create := func(id, deliverTo string) message {
		p.call(t, id, "create_mailtrap_token", map[string]any{"connection": "mt", "name": id, "deliver_to": deliverTo, "permissions": []any{
			map[string]any{"resource_type": "project", "resource_id": fmt.Sprint(project.ResourceID), "access_level": "viewer"},
		}})
		return p.answer(t, id)
	}
	rotate := func(created message, id, deliverTo string) message {
		row, _ := created.Result.StructuredContent["token"].(map[string]any)
		p.confirmed(t, id, "rotate_token", map[string]any{"connection": "mt", "token_id": row["id"], "deliver_to": deliverTo})
		return p.answer(t, id)
	}
	dotenv := func(secret string) {
		t.Helper()
		if got, want := v.file(t, "env/shop/prod.env"), "# ours\nMT_TOKEN_OLD=1\nMT_TOKEN="+secret+"\n"; got != want {
			t.Errorf("the dotenv file is %q, want %q", got, want)
		}
	}
	command := func(name, secret string) {
		t.Helper()
		if got, want := v.file(t, name), `{"name":"MAILTRAP_TOKEN","value":"`+secret+`"}`; got != want {
			t.Errorf("%s: the command read %q, want %q", name, got, want)
		}
		seen := v.file(t, name+".seen")
		v.noSecretIn(t, "arguments or environment of the command", seen)
		if !strings.HasPrefix(seen, "MAILTRAP_TOKEN\n") || strings.Contains(seen, "not-for-commands") {
			t.Errorf("the command saw %q", seen)
		}
	}

	inFile := create("1", "env/shop/prod.env/MT_TOKEN")
	dotenv(v.mailtrapSecret(t, inFile))
	inCommand := create("2", "cmd/MAILTRAP_TOKEN")
	command("created", v.mailtrapSecret(t, inCommand))
	if v.file(t, "rotated") != "" {
		t.Error("a new token ran the command for rotations")
	}

	sent := v.sent("POST")
	for deliverTo, want := range map[string]string{
		"env/shop/prod.env/MT_TOKEN": "sink_key_exists",
		"cmd/OTHER":                  "sink_not_accepted",
		"env/prod.env":               "sink_unusable",
	} {
		refused := create("to "+deliverTo, deliverTo)
		var problem struct{ Code, Next string }
		if err := json.Unmarshal([]byte(refused.Result.Content[0].Text), &problem); err != nil || problem.Code != want || problem.Next == "" {
			t.Errorf("%s: %+v, want %s with a next step", deliverTo, refused.Result, want)
		}
	}
	p.call(t, 3, "create_launchdarkly_token", map[string]any{"connection": "ld", "name": "e2e", "role": "reader", "deliver_to": "cmd/MAILTRAP_LD"})
	if text := p.answer(t, 3).Result.Content[0].Text; !strings.Contains(text, "sink_not_accepted") {
		t.Errorf("another connection: %s", text)
	}
	if now := v.sent("POST"); now != sent {
		t.Errorf("%d tokens were made for refused deliveries", now-sent)
	}
	dotenv(v.mailtrapSecret(t, inFile))

	dotenv(v.mailtrapSecret(t, rotate(inFile, "4", "env/shop/prod.env/MT_TOKEN")))
	command("rotated", v.mailtrapSecret(t, rotate(inCommand, "5", "cmd/MAILTRAP_TOKEN")))
	_ = p.stdin.Close()
	p.exit(t, 0)
	v.noSecretIn(t, "stdout", p.out.String())
	v.noSecretIn(t, "stderr", p.err.String())
}
