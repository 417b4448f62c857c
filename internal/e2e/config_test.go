package e2e_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Every problem of a configuration is told at once, each with its place.
func TestBadConfiguration(t *testing.T) {
	t.Parallel()
	v := newVendors(t)
	for name, test := range map[string]struct {
		env  []string
		args []string
		want []string
	}{
		"file": {v.bareEnv(), []string{"--config", v.write(t, "bad.json", `{
			"conections": {},
			"connections": {
				"a": {"provider": "atlasian"},
				"l": {"provider": "launchdarkly", "credential": {"env": "A", "file": "/b"}, "page_size": "x"},
				"m": {"provider": "mailtrap", "credential": {"env": "A"}, "account_id": 1, "sink": "nowhere"}
			},
			"log": {"level": "loud"}
		}`)}, []string{"conections", "connections.a.provider", "connections.l.credential", "connections.l.page_size", "connections.m.sink", "log.level", "bad.json"}},
		"not JSON": {v.bareEnv(), []string{"--config", v.write(t, "broken.json", `{"connections": `)}, []string{"broken.json"}},
		"missing":  {v.bareEnv(), []string{"--config", filepath.Join(v.home, "none.json")}, []string{"--config", "none.json"}},
		"environment": {
			append(v.bareEnv(), "ATLASSIAN_ADMIN_TOKEN=x", "MAILTRAP_ACCOUNT_ID=none", "TOKENREEVE_LOG_LEVEL=loud", "TOKENREEVE_READ_ONLY=perhaps"), nil,
			[]string{"ATLASSIAN_ORG_ID", "MAILTRAP_API_TOKEN", "MAILTRAP_ACCOUNT_ID", "TOKENREEVE_LOG_LEVEL", "TOKENREEVE_READ_ONLY"},
		},
		"flags": {v.env(), []string{"--log-level", "loud", "--log-format", "xml"}, []string{"--log-level", "--log-format"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			stdout, stderr := run(t, test.env, 1, "", test.args...)
			for _, place := range test.want {
				if !strings.Contains(stderr, place) {
					t.Errorf("no word of %s in:\n%s", place, stderr)
				}
			}
			if stdout != "" {
				t.Errorf("stdout: %s", stdout)
			}
		})
	}
}

// A file that others can write could configure us for them.
func TestConfigurationWritableByOthers(t *testing.T) {
	t.Parallel()
	v := newVendors(t)
	path := v.config(t, nil)
	run(t, v.bareEnv(), 0, "", "tools", "--config", path)
	if err := os.Chmod(path, 0o622); err != nil { // chmod, since a umask would hide it
		t.Fatal(err)
	}
	_, stderr := run(t, v.bareEnv(), 1, "", "tools", "--config", path)
	if !strings.Contains(stderr, path) {
		t.Errorf("stderr: %s", stderr)
	}
}

// Whoever can change the file of certificates can pass for a vendor.
func TestBadCAFile(t *testing.T) {
	t.Parallel()
	v := newVendors(t)
	cert, _, _ := v.certificate(t)
	data, err := os.ReadFile(cert)
	if err != nil {
		t.Fatal(err)
	}
	loose := v.write(t, "loose.pem", string(data))
	if err := os.Chmod(loose, 0o622); err != nil {
		t.Fatal(err)
	}
	for file, says := range map[string]string{
		v.write(t, "good.pem", string(data)):      "",
		v.write(t, "empty.pem", "no certificate"): "no PEM certificate",
		filepath.Join(v.home, "absent.pem"):       "no such file",
		v.home:                                    "not a regular file",
		loose:                                     "chmod go-w",
		v.write(t, "long.pem", strings.Repeat("x", 2<<20)): "KiB",
	} {
		code := 0
		if says != "" {
			code = 1
		}
		config := v.write(t, "ca.json", fmt.Sprintf(`{"ca_file": %q, "connections": {"ld": {"provider": "launchdarkly", "credential": {"env": "LD"}}}}`, file))
		_, stderr := run(t, v.bareEnv(), code, "", "tools", "--config", config)
		if code == 1 && (!strings.Contains(stderr, says) || !strings.Contains(stderr, "ca_file")) {
			t.Errorf("%s: %s", file, stderr)
		}
	}
}

// Where the configuration comes from: a flag, the environment, the user's
// directory, and never the working directory. A file keeps the vendors' variables
// from making connections.
func TestConfigurationSources(t *testing.T) {
	t.Parallel()
	const fromEnvironment, fromFile = "launchdarkly", "from-file"
	v := newVendors(t)
	file := func(name string) string {
		return v.write(t, name, fmt.Sprintf(`{"connections":{"from-file":{"provider":"launchdarkly","base_url":%q,"credential":{"env":"LAUNCHDARKLY_ACCESS_TOKEN"}}}}`, v.access.LaunchDarkly.BaseURL))
	}
	named := file("named.json")
	empty := v.write(t, "empty.json", `{"connections":{}}`)
	for _, name := range []string{"config.json", "tokenreeve/config.json", ".config/tokenreeve/config.json"} {
		v.write(t, filepath.Join("cloned", name), `{"connections":{"evil":{"provider":"launchdarkly","credential":{"exec":["sh","-c","touch evil"]}}}}`)
	}
	user := t.TempDir()
	if err := os.MkdirAll(filepath.Join(user, "tokenreeve"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(file("config.json"), filepath.Join(user, "tokenreeve", "config.json")); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		env  []string
		args []string
		want string
	}{
		"environment alone":   {v.env(), nil, fromEnvironment},
		"flag":                {v.env(), []string{"--config", named}, fromFile},
		"TOKENREEVE_CONFIG":   {v.env("TOKENREEVE_CONFIG=" + named), nil, fromFile},
		"empty means unset":   {v.env("TOKENREEVE_CONFIG="), nil, fromEnvironment},
		"flag wins":           {v.env("TOKENREEVE_CONFIG=" + empty), []string{"--config", named}, fromFile},
		"user's directory":    {v.env("XDG_CONFIG_HOME=" + user), nil, fromFile},
		"relative directory":  {v.env("XDG_CONFIG_HOME=."), nil, fromEnvironment},
		"demo ignores it all": {v.env("TOKENREEVE_CONFIG=" + named), []string{"--demo"}, "acme-launchdarkly"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			nothing, err := os.Open(os.DevNull)
			if err != nil {
				t.Fatal(err)
			}
			p := startProcess(t, filepath.Join(v.home, "cloned"), nothing, test.env, append([]string{"call", "list_connections"}, test.args...)...)
			p.exit(t, 0)
			rows := p.out.String()
			if !strings.Contains(rows, "  "+test.want+" ") || strings.Contains(rows, "evil") {
				t.Errorf("want connection %s in:\n%s", test.want, rows)
			}
			if test.want == fromFile && strings.Contains(rows, "mailtrap") {
				t.Errorf("the environment made connections beside the file:\n%s", rows)
			}
		})
	}
}

// With nothing configured at all, the server starts and says what to set.
func TestNothingConfigured(t *testing.T) {
	t.Parallel()
	v := newVendors(t)
	p := serve(t, v.bareEnv())
	p.request(t, 1, "tools/list", map[string]any{})
	if tools := p.answer(t, 1).Result.Tools; len(tools) != 1 || tools[0].Name != "list_connections" {
		t.Errorf("tools: %v", tools)
	}
	p.call(t, 2, "list_connections", nil)
	setup := fmt.Sprint(p.answer(t, 2).Result.StructuredContent["setup"])
	for _, name := range []string{"ATLASSIAN_ADMIN_TOKEN", "ATLASSIAN_ORG_ID", "LAUNCHDARKLY_ACCESS_TOKEN", "MAILTRAP_API_TOKEN", "MAILTRAP_ACCOUNT_ID", "config.json"} {
		if !strings.Contains(setup, name) {
			t.Errorf("setup does not name %s: %s", name, setup)
		}
	}
	p.call(t, 3, "list_tokens", nil)
	if got := p.answer(t, 3).Result; !got.IsError || !strings.Contains(fmt.Sprint(got.Content), "list_connections") {
		t.Errorf("list_tokens: %+v", got)
	}
}

// Each of the vendors' variables can name a file instead.
func TestVariablesFromFiles(t *testing.T) {
	t.Parallel()
	v := newVendors(t)
	env := v.bareEnv()
	for _, variable := range v.env()[len(env):] {
		name, value, _ := strings.Cut(variable, "=")
		env = append(env, name+"_FILE="+v.write(t, name, value+"\n"))
	}
	stdout, stderr := run(t, env, 0, "", "call", "count_tokens", "group_by=connection")
	if strings.Count(stdout, "  true  ") != 3 {
		t.Errorf("count_tokens:\n%s%s", stdout, stderr)
	}
	stdout, _ = run(t, append(env, "MAILTRAP_API_TOKEN=x"), 1, "", "tools")
	if stdout != "" {
		t.Errorf("a variable and its file at once: %s", stdout)
	}
}

// A credential that was replaced in its file after the vendor ended the old one
// works without a restart. Until then the answer says what is wrong.
func TestCredentialReplacedInItsFile(t *testing.T) {
	t.Parallel()
	v := newVendors(t)
	c, stderr := stdioClient(t, legacy, v.bareEnv(), "--config", v.config(t, nil))
	arguments := map[string]any{"connection": "ld", "limit": 1}
	if got, text := callTool(t, c, "list_tokens", arguments); got == nil {
		t.Fatal(text)
	}
	if !v.DeleteLaunchDarklyToken(v.access.LaunchDarkly.TokenID) {
		t.Fatal("the credential does not exist")
	}
	if _, text := callTool(t, c, "list_tokens", arguments); !strings.Contains(text, `"code":"credential_rejected"`) {
		t.Errorf("with a dead credential: %s", text)
	}
	v.credentialFile(t, "ld", v.access.LaunchDarkly.PersonalAdminCredential)
	got, text := callTool(t, c, "list_tokens", arguments)
	if got["tokens"] == nil {
		t.Errorf("with a new credential: %s", text)
	}
	v.noSecretIn(t, "the output", text+stderr.String())
}
