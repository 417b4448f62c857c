package config_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tokenreeve/tokenreeve/auth"
	"github.com/tokenreeve/tokenreeve/internal/config"
	"github.com/tokenreeve/tokenreeve/internal/policy"
)

// environment is a process's environment of its own for each test.
type environment map[string]string

func (e environment) get(name string) string { return e[name] }

// userWith returns an environment whose home directory holds the files, by their paths below it.
func userWith(t *testing.T, files map[string]string) environment {
	t.Helper()
	home := t.TempDir()
	for name, content := range files {
		path := filepath.Join(home, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return environment{
		"HOME": home, "XDG_CONFIG_HOME": filepath.Join(home, "config"), "XDG_STATE_HOME": filepath.Join(home, "state"),
		"USERPROFILE": home, "AppData": filepath.Join(home, "config"), "LocalAppData": filepath.Join(home, "state"),
	}
}

func (e environment) with(pairs ...string) environment {
	for i := 0; i < len(pairs); i += 2 {
		e[pairs[i]] = pairs[i+1]
	}
	return e
}

// loadText loads content as the file that --config names.
func loadText(t *testing.T, content string) (config.Config, error) {
	t.Helper()
	env := userWith(t, map[string]string{"c.json": content})
	return config.Load(config.Options{ConfigFile: filepath.Join(env["HOME"], "c.json"), Getenv: env.get})
}

func mustLoad(t *testing.T, o config.Options) config.Config {
	t.Helper()
	c, err := config.Load(o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// problems returns the problems of err, one text each, and fails where there are none.
func problems(t *testing.T, err error) []string {
	t.Helper()
	var ps *config.Problems
	if !errors.As(err, &ps) || len(ps.List) == 0 {
		t.Fatalf("error %v; want *config.Problems", err)
	}
	var texts []string
	for _, p := range ps.List {
		texts = append(texts, p.String())
	}
	return texts
}

// wantProblems checks that there are exactly these problems, in any order, each by its beginning.
func wantProblems(t *testing.T, err error, want ...string) {
	t.Helper()
	got := problems(t, err)
	if len(got) != len(want) {
		t.Errorf("%d problems, want %d:\n%s", len(got), len(want), strings.Join(got, "\n"))
	}
	for _, w := range want {
		found := false
		for _, g := range got {
			found = found || strings.HasPrefix(g, w)
		}
		if !found {
			t.Errorf("no problem %q in:\n%s", w, strings.Join(got, "\n"))
		}
	}
}

const issueExample = `{
  "connections": {
    "acme-atlassian": {
      "provider": "atlassian",
      "org_id": "8d2f6f1c-5a1e-4b7c-9c39-1f6a2f1d7e55",
      "credential": {"env": "ATLASSIAN_ADMIN_TOKEN"},
      "user_management_credential": {"file": "/run/secrets/atlassian-unscoped"},
      "org_wide_revoke": false
    },
    "acme-launchdarkly": {
      "provider": "launchdarkly",
      "base_url": "https://app.launchdarkly.com",
      "credential": {"exec": ["op", "read", "op://ops/launchdarkly/token"]},
      "sink": "files"
    },
    "acme-mailtrap": {"provider": "mailtrap", "account_id": 3229, "credential": {"env": "MAILTRAP_API_TOKEN"}}
  },
  "sinks": {"files": {"type": "file", "directory": "~/.local/state/tokenreeve/secrets"}},
  "rate_reserve": 0.2,
  "log": {"level": "info", "format": "text"}
}`

func TestFile(t *testing.T) {
	t.Parallel()
	env := userWith(t, map[string]string{"config/tokenreeve/config.json": issueExample})
	if runtime.GOOS == "darwin" {
		t.Skip("the file is elsewhere")
	}
	all, limits := policy.Classes(), config.Limits{TargetsPerPreview: 100, RevocationsPerHour: 50}
	want := config.Config{
		Connections: map[string]config.Connection{
			"acme-atlassian": {
				Provider: "atlassian", OrgID: "8d2f6f1c-5a1e-4b7c-9c39-1f6a2f1d7e55",
				Credential:               auth.Reference{Env: "ATLASSIAN_ADMIN_TOKEN"},
				UserManagementCredential: auth.Reference{File: "/run/secrets/atlassian-unscoped"},
				Allow:                    all, Limits: limits,
			},
			"acme-launchdarkly": {
				Provider: "launchdarkly", BaseURL: "https://app.launchdarkly.com",
				Credential: auth.Reference{Exec: []string{"op", "read", "op://ops/launchdarkly/token"}},
				Sink:       "files", Allow: all, Limits: limits,
			},
			"acme-mailtrap": {
				Provider: "mailtrap", AccountID: 3229, Credential: auth.Reference{Env: "MAILTRAP_API_TOKEN"},
				PathFamily: "account", ResourceWords: "current", Sink: "files", Allow: all, Limits: limits,
			},
		},
		Sinks: map[string]config.Sink{"files": {Type: "file", Directory: filepath.Join(env["HOME"], ".local/state/tokenreeve/secrets")}},
		HumanApproval: config.HumanApproval{
			Single: policy.ApprovalOff, Bulk: policy.ApprovalWhenPossible, OrgWide: policy.ApprovalRequired,
		},
		EscrowRetention: 24 * time.Hour,
		RateReserve:     0.2,
		Timeout:         30 * time.Second,
		Log:             config.Log{Level: "info", Format: "text"},
		File:            filepath.Join(env["HOME"], "config/tokenreeve/config.json"),
		StateDir:        filepath.Join(env["HOME"], "state/tokenreeve"),
		DefaultSink:     "files",
	}
	got := mustLoad(t, config.Options{Getenv: env.get, Stdio: true})
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Load (-want +got):\n%s", diff)
	}
	if policy.Protect(got.Connections["acme-mailtrap"].Protect).IDs != nil {
		t.Error("protect does not convert")
	}
}

func TestPrecedence(t *testing.T) {
	t.Parallel()
	yes, no := true, false
	file := `{"read_only": true, "log": {"level": "warn", "format": "json"}, "timeout": "5s"}`
	tests := []struct {
		name     string
		file     string
		env      []string
		options  config.Options
		readOnly bool
		log      config.Log
	}{
		{"defaults", `{}`, nil, config.Options{}, false, config.Log{Level: "info", Format: "text"}},
		{"file", file, nil, config.Options{}, true, config.Log{Level: "warn", Format: "json"}},
		{"empty in file", `{"log": {"level": "", "format": ""}, "timeout": "", "ca_file": ""}`, nil, config.Options{}, false, config.Log{Level: "info", Format: "text"}},
		{
			"environment", file,
			[]string{"TOKENREEVE_READ_ONLY", "0", "TOKENREEVE_LOG_LEVEL", "error", "TOKENREEVE_LOG_FORMAT", "text"},
			config.Options{},
			false,
			config.Log{Level: "error", Format: "text"},
		},
		{
			"empty environment", file,
			[]string{"TOKENREEVE_READ_ONLY", "", "TOKENREEVE_LOG_LEVEL", "", "TOKENREEVE_LOG_FORMAT", ""},
			config.Options{},
			true,
			config.Log{Level: "warn", Format: "json"},
		},
		{
			"flags", file,
			[]string{"TOKENREEVE_READ_ONLY", "true", "TOKENREEVE_LOG_LEVEL", "error", "TOKENREEVE_LOG_FORMAT", "json"},
			config.Options{ReadOnly: &no, LogLevel: "debug", LogFormat: "text"},
			false,
			config.Log{Level: "debug", Format: "text"},
		},
		{"flag turns on", `{}`, nil, config.Options{ReadOnly: &yes}, true, config.Log{Level: "info", Format: "text"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			env := userWith(t, map[string]string{"c.json": tt.file}).with(tt.env...)
			tt.options.ConfigFile = filepath.Join(env["HOME"], "c.json")
			tt.options.Getenv = env.get
			c := mustLoad(t, tt.options)
			if c.ReadOnly != tt.readOnly || c.Log != tt.log {
				t.Errorf("read only %v, log %v; want %v, %v", c.ReadOnly, c.Log, tt.readOnly, tt.log)
			}
		})
	}
}

func TestWhichFile(t *testing.T) {
	t.Parallel()
	env := userWith(t, map[string]string{
		"config/tokenreeve/config.json": `{"timeout": "1s"}`, "env.json": `{"timeout": "2s"}`, "flag.json": `{"timeout": "3s"}`,
	})
	if runtime.GOOS == "darwin" {
		t.Skip("the file is elsewhere")
	}
	load := func(flag, variable string) time.Duration {
		t.Helper()
		e := environment{"TOKENREEVE_CONFIG": variable}
		for name, value := range env {
			e[name] = value
		}
		return mustLoad(t, config.Options{ConfigFile: flag, Getenv: e.get}).Timeout
	}
	if got := load("", ""); got != time.Second {
		t.Errorf("the user's file: %v", got)
	}
	if got := load("", "~/env.json"); got != 2*time.Second {
		t.Errorf("the environment's file: %v", got)
	}
	if got := load(filepath.Join(env["HOME"], "flag.json"), "~/env.json"); got != 3*time.Second {
		t.Errorf("the flag's file: %v", got)
	}
}

func TestNamedFileMustExist(t *testing.T) {
	t.Parallel()
	env := userWith(t, nil)
	missing := filepath.Join(env["HOME"], "missing.json")
	_, err := config.Load(config.Options{ConfigFile: missing, Getenv: env.get})
	wantProblems(t, err, "--config: open "+missing)
	_, err = config.Load(config.Options{Getenv: env.with("TOKENREEVE_CONFIG", missing).get})
	wantProblems(t, err, "TOKENREEVE_CONFIG: open "+missing)
}

func TestFileThatCannotBeTrusted(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("no modes")
	}
	env := userWith(t, map[string]string{"c.json": `{"timeout": "7s"}`, "loose.json": "{}", "big.json": strings.Repeat(" ", 1<<20) + "{}"})
	home := env["HOME"]
	if err := os.Chmod(filepath.Join(home, "loose.json"), 0o664); err != nil {
		t.Fatal(err)
	}
	for link, target := range map[string]string{"link.json": "c.json", "loose-link.json": "loose.json", "device.json": os.DevNull} {
		if err := os.Symlink(target, filepath.Join(home, link)); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]string{
		"loose.json": "others can change it: run chmod go-w", "loose-link.json": "others can change it",
		"device.json": "not a regular file", ".": "not a regular file", "big.json": "more than 1024 KiB",
	} {
		_, err := config.Load(config.Options{ConfigFile: filepath.Join(home, name), Getenv: env.get})
		if text := problems(t, err)[0]; !strings.Contains(text, want) {
			t.Errorf("%s: %q; want %q in it", name, text, want)
		}
	}
	// A managed home directory links its configuration files.
	if c := mustLoad(t, config.Options{ConfigFile: filepath.Join(home, "link.json"), Getenv: env.get}); c.Timeout != 7*time.Second {
		t.Errorf("timeout through a link: %v", c.Timeout)
	}
}

func TestEveryProblemAtOnce(t *testing.T) {
	t.Parallel()
	_, err := loadText(t, `{
		"conections": {},
		"connections": {
			"Acme": {"provider": "mailtrap", "account_id": 1, "credential": {"env": "A"}},
			"nothing": {},
			"number": 5,
			"vendor": {"provider": "mailtrp", "credential": {"env": "A"}},
			"jira": {"provider": "atlassian", "org_id": "x", "credential": "ATCTT-canary", "account_id": 3, "sink": "files", "path_family": "account"},
			"jira2": {"provider": "atlassian", "credential": {"env": "A", "file": "/b"}, "user_management_credential": {}, "page_size": 0},
			"flags": {"provider": "launchdarkly", "credential": {"envv": "A"}, "org_wide_revoke": false, "base_url": "http://ld.example", "page_size": 1001, "sink": "file"},
			"mail": {"provider": "mailtrap", "account_id": "3229", "credential": {"token": "canary"}, "path_family": "new", "resource_words": "newer"},
			"mail2": {"provider": "mailtrap", "account_id": 0, "credential": {"file": "relative"}, "allow": ["read", "revok", 5], "limits": {"targets_per_preview": 101}},
			"mail3": {"provider": "mailtrap", "account_id": 1.5, "credential": {"exec": "op read"}, "allow": [], "protect": {"ids": [""], "owners": [7], "name": []}},
			"mail4": {"provider": "mailtrap", "account_id": 9223372036854775808, "credential": null, "allow": "read", "limits": 3}
		},
		"sinks": {"files": {"type": "flie", "directory": "relative"}, "empty": {}, "a b": {"type": "file", "directory": "/x"}},
		"rate_reserve": 0.95,
		"ca_file": "relative.pem",
		"timeout": "10ms",
		"log": {"level": "inf", "format": "xml", "colour": true},
		"read_only": "true"
	}`)
	wantProblems(
		t, err,
		`conections: is not known here; did you mean "connections"?; valid: $schema, connections, sinks`,
		`connections.Acme: is not a connection's name; valid: lower-case letters`,
		`connections.nothing.provider: is missing; valid: atlassian, launchdarkly, mailtrap`,
		`connections.nothing.credential: is missing; valid: {"env": NAME}`,
		`connections.number: is a number; valid: an object with provider, base_url`,
		`connections.vendor.provider: is "mailtrp"; did you mean "mailtrap"?; valid: atlassian`,
		`connections.jira.credential: is a text; valid: no secret stands in this file`,
		`connections.jira.org_id: is not a UUID`,
		`connections.jira.account_id: belongs to mailtrap connections only; valid at atlassian: provider, base_url`,
		`connections.jira.sink: belongs to launchdarkly and mailtrap connections only`,
		`connections.jira.path_family: belongs to mailtrap`,
		`connections.jira2.credential: names 2 sources`,
		`connections.jira2.user_management_credential: names 0 sources`,
		`connections.jira2.org_id: is missing`,
		`connections.jira2.page_size: is out of range; valid: 1 to 1000`,
		`connections.flags.credential.envv: is not known here; did you mean "env"?`,
		`connections.flags.credential: names 0 sources`,
		`connections.flags.org_wide_revoke: belongs to atlassian`,
		`connections.flags.base_url: would send the credential unencrypted`,
		`connections.flags.page_size: is out of range`,
		`connections.flags.sink: is "file", which is not configured; did you mean "files"?; valid: a b, empty, files`,
		`connections.mail.account_id: is a text; valid: a whole number, without quotes`,
		`connections.mail.credential.token: is not known here; valid: env, file, exec, keyring`,
		`connections.mail.credential: names 0 sources`,
		`connections.mail.path_family: is "new"; valid: account, flat`,
		`connections.mail.resource_words: is "newer"; valid: current, old`,
		`connections.mail2.account_id: is not an account id`,
		`connections.mail2.credential: file is not an absolute path`,
		`connections.mail2.allow[1]: is "revok"; did you mean "revoke"?; valid: read, mint, update`,
		`connections.mail2.allow[2]: is a number; valid: a text in quotes`,
		`connections.mail2.limits.targets_per_preview: is out of range; valid: 1 to 100`,
		`connections.mail3.account_id: is not a whole number`,
		`connections.mail3.credential.exec: is a text; valid: a list of texts`,
		`connections.mail3.credential: names 0 sources`,
		`connections.mail3.allow: is empty`,
		`connections.mail3.protect.ids[0]: is empty`,
		`connections.mail3.protect.owners[0]: is a number`,
		`connections.mail3.protect.owners: protects nothing`,
		`connections.mail3.protect.name: is not known here; did you mean "names"?`,
		`connections.mail4.account_id: is not a whole number`,
		`connections.mail4.credential: is null`,
		`connections.mail4.allow: is a text; valid: a list`,
		`connections.mail4.limits: is a number; valid: an object with targets_per_preview`,
		`sinks.files.type: is "flie"; did you mean "file"?`,
		`sinks.files.directory: is not an absolute path`,
		`sinks.empty.type: is missing`,
		`sinks["a b"]: is not a sink's name`,
		`rate_reserve: is out of range; valid: 0 to 0.9`,
		`ca_file: is not an absolute path`,
		`timeout: is out of range; valid: 1s to 5m`,
		`log.level: is "inf"; did you mean "info"?`,
		`log.format: is "xml"; valid: text, json`,
		`log.colour: is not known here; valid: level, format`,
		`read_only: is a text; valid: true or false, without quotes`,
	)
	text := err.Error()
	if strings.Contains(text, "canary") {
		t.Errorf("the error quotes a credential:\n%s", text)
	}
	if !strings.Contains(text, "54 problems") || !strings.HasSuffix(text, "\n  and 4 more") || strings.Count(text, "\n") != 51 {
		t.Errorf("the error does not stop at 50 problems:\n%s", text)
	}
}

func TestEveryProblemOfPolicies(t *testing.T) {
	t.Parallel()
	const privateKey = "AGE-SECRET-KEY-1QQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQCANARY"
	_, err := loadText(t, `{
		"connections": {
			"jira": {"provider": "atlassian", "org_id": "8d2f6f1c-5a1e-4b7c-9c39-1f6a2f1d7e55", "credential": {"env": "A"}, "mint": {},
				"protect": {"kinds": ["service", "unknown"]}, "limits": {"revocations_per_hour": 0}, "in_use": "59m"},
			"ld": {"provider": "launchdarkly", "credential": {"env": "A"}, "protect": {"kinds": ["User", "users", 5]},
				"mint": {"access": ["read", "account_admin", "owner", "inlin"], "longest_life": "", "expiry_required": false}, "in_use": "91d"},
			"ld2": {"provider": "launchdarkly", "credential": {"env": "A"}, "protect": {"kinds": "user"},
				"mint": {"access": [], "longest_live": "90d"}, "limits": {"revocations_per_hour": 10001}, "in_use": 24},
			"mt": {"provider": "mailtrap", "account_id": 1, "credential": {"env": "A"}, "protect": {"kinds": ["unknown", "user"]},
				"mint": {"access": ["custom", "account-admin"], "longest_life": "3m", "expiry_required": "true"}, "in_use": "24h"},
			"mt2": {"provider": "mailtrap", "account_id": 1, "credential": {"env": "A"}, "mint": {"access": "read", "longest_life": "6y"}},
			"mt3": {"provider": "mailtrap", "account_id": 1, "credential": {"env": "A"}, "mint": {"longest_life": "0s"}, "limits": {"revocations_per_hour": "50"}},
			"odd": {"provider": "jira", "credential": {"env": "A"}, "mint": {"access": ["inline", "account_admin", "x"]}, "in_use": "24h", "protect": {"kinds": ["unknown", "user"]}}
		},
		"human_approval": {"single": "on", "bulk": "require", "org_wide": "off", "trust_clients": true},
		"recovery_recipients": ["`+privateKey+`", "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p", "", "ssh-ed25519 canary", 7],
		"escrow_retention": "31d"
	}`)
	wantProblems(
		t, err,
		`connections.jira.mint: bounds nothing, since nothing here makes or changes a token at Atlassian`,
		`connections.jira.protect.kinds[1]: is "unknown", which does not occur at atlassian; valid: user, service`,
		`connections.jira.limits.revocations_per_hour: is out of range; valid: 1 to 10000`,
		`connections.jira.in_use: is out of range; valid: 1h to 90d`,
		`connections.ld.protect.kinds[0]: is "User"; did you mean "user"?; valid: user, service`,
		`connections.ld.protect.kinds[1]: is "users"; did you mean "user"?`,
		`connections.ld.protect.kinds[2]: is a number`,
		`connections.ld.mint.access[1]: is "account_admin", which does not occur at launchdarkly; valid: read, write, custom, inline, admin`,
		`connections.ld.mint.access[2]: is "owner"; valid: read, write, custom, inline, admin`,
		`connections.ld.mint.access[3]: is "inlin"; did you mean "inline"?`,
		`connections.ld.mint.longest_life: bounds nothing, since LaunchDarkly's tokens have no end`,
		`connections.ld.mint.expiry_required: bounds nothing, since LaunchDarkly's tokens have no end`,
		`connections.ld.in_use: is out of range; valid: 1h to 90d`,
		`connections.ld2.protect.kinds: is a text; valid: a list`,
		`connections.ld2.mint.access: is empty; leave it out to allow read and write, or name some of read, write, custom, inline, admin`,
		`connections.ld2.mint.longest_live: is not known here; did you mean "longest_life"?`,
		`connections.ld2.limits.revocations_per_hour: is out of range`,
		`connections.ld2.in_use: is not a duration; valid: a text with a unit, such as "30s", "24h" or "90d"`,
		`connections.mt.protect.kinds[1]: is "user", which does not occur at mailtrap; valid: unknown`,
		`connections.mt.mint.access[0]: is "custom", which does not occur at mailtrap; valid: read, write, account_admin, admin`,
		`connections.mt.mint.access[1]: is "account-admin"; did you mean "account_admin"?`,
		`connections.mt.mint.longest_life: is out of range; valid: 1h to 5y`,
		`connections.mt.mint.expiry_required: is a text; valid: true or false`,
		`connections.mt.in_use: would count every token as in use, since Mailtrap does not tell`,
		`connections.mt2.mint.access: is a text; valid: a list`,
		`connections.mt2.mint.longest_life: is out of range`,
		`connections.mt3.mint.longest_life: is not longer than zero`,
		`connections.mt3.limits.revocations_per_hour: is a text; valid: a whole number`,
		`connections.odd.provider: is "jira"`,
		`connections.odd.mint.access[2]: is "x"`,
		`human_approval.single: is "on"; valid: off, when_possible, required`,
		`human_approval.bulk: is "require"; did you mean "required"?`,
		`human_approval.org_wide: is "off", but a human must always agree`,
		`human_approval.trust_clients: is not known here; did you mean "trust_client"?`,
		`recovery_recipients[0]: is a private key, which must not stand here`,
		`recovery_recipients[2]: is not an age public key`,
		`recovery_recipients[3]: is an SSH key`,
		`recovery_recipients[4]: is a number`,
		`escrow_retention: is out of range; valid: 1h to 30d`,
	)
	if text := strings.ToLower(err.Error()); strings.Contains(text, "canary") || strings.Contains(text, "qqqq") {
		t.Errorf("the error quotes a key:\n%v", err)
	}
}

func TestPolicies(t *testing.T) {
	t.Parallel()
	const recipient = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"
	c, err := loadText(t, `{
		"connections": {
			"jira": {"provider": "atlassian", "org_id": "8d2f6f1c-5a1e-4b7c-9c39-1f6a2f1d7e55", "credential": {"env": "A"},
				"protect": {"kinds": ["user", "service"]}, "in_use": "90d"},
			"ld": {"provider": "launchdarkly", "credential": {"env": "A"}, "limits": {"revocations_per_hour": 10000},
				"mint": {"access": ["read", "write", "custom", "inline", "admin"]}, "in_use": "1h"},
			"mt": {"provider": "mailtrap", "account_id": 1, "credential": {"env": "A"}, "protect": {"kinds": ["unknown"]}, "limits": {"revocations_per_hour": 1},
				"mint": {"access": ["account_admin"], "longest_life": "90d", "expiry_required": true}},
			"mt2": {"provider": "mailtrap", "account_id": 1, "credential": {"env": "A"}, "mint": {"longest_life": "", "access": ["read", "write", "admin"]}}
		},
		"human_approval": {"single": "required", "bulk": "off", "org_wide": "required", "trust_client": true},
		"recovery_recipients": ["`+recipient+`"],
		"escrow_retention": "30d"
	}`)
	if err != nil {
		t.Fatal(err)
	}
	const day = 24 * time.Hour
	jira, ld, mt := c.Connections["jira"], c.Connections["ld"], c.Connections["mt"]
	for name, tt := range map[string]struct{ got, want any }{
		"kinds at Atlassian":     {policy.Protect(jira.Protect), policy.Protect{Kinds: []string{"user", "service"}}},
		"in use at Atlassian":    {jira.InUse, 90 * day},
		"default revocations":    {jira.Limits, config.Limits{TargetsPerPreview: 100, RevocationsPerHour: 50}},
		"LaunchDarkly's access":  {policy.MintRules(ld.Mint), policy.MintRules{Access: []policy.Grant{"read", "write", "custom", "inline", "admin"}}},
		"in use at LaunchDarkly": {ld.InUse, time.Hour},
		"revocations":            {ld.Limits.RevocationsPerHour, 10_000},
		"Mailtrap's rules":       {policy.MintRules(mt.Mint), policy.MintRules{Access: []policy.Grant{"account_admin"}, LongestLife: 90 * day, ExpiryRequired: true}},
		"an empty life":          {c.Connections["mt2"].Mint.LongestLife, time.Duration(0)},
		"approval":               {c.HumanApproval.Policy(), policy.HumanApproval{Single: "required", Bulk: "off", TrustClient: true}},
		"recipients":             {c.RecoveryRecipients, []string{recipient}},
		"retention":              {c.EscrowRetention, 30 * day},
	} {
		if diff := cmp.Diff(tt.want, tt.got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestDurations(t *testing.T) {
	t.Parallel()
	const day = 24 * time.Hour
	load := func(text string) (time.Duration, error) {
		c, err := loadText(t, fmt.Sprintf(`{"connections": {"mt": {"provider": "mailtrap", "account_id": 1, "credential": {"env": "A"}, "mint": {"longest_life": %q}}}}`, text))
		return c.Connections["mt"].Mint.LongestLife, err
	}
	for text, want := range map[string]time.Duration{
		"1h": time.Hour, "36h30m": 36*time.Hour + 30*time.Minute, "1.5h": 90 * time.Minute, "90d": 90 * day, "2w": 14 * day, "1y": 365 * day, "5y": 5 * 365 * day,
		"1825d": 1825 * day, "007d": 7 * day, "": 0,
	} {
		if got, err := load(text); err != nil || got != want {
			t.Errorf("%q: %v, %v; want %v", text, got, err, want)
		}
	}
	for text, want := range map[string]string{
		"90": "is not a duration", "d": "is not a duration", "90 d": "is not a duration", "1d12h": "is not a duration", "1.5d": "is not a duration",
		"-1d": "is not a duration", "+1d": "is not a duration", "1D": "is not a duration", "never": "is not a duration", "293y": "is not a duration",
		"99999999999999999999d": "is not a duration", "292y": "is out of range", "1826d": "is out of range", "59m": "is out of range",
		"-2h": "is not longer than zero", "0": "is not longer than zero", "0d": "is not longer than zero",
	} {
		_, err := load(text)
		if err == nil {
			t.Errorf("%q is accepted", text)
			continue
		}
		wantProblems(t, err, "connections.mt.mint.longest_life: "+want)
	}
}

func TestEveryProblemOfSinks(t *testing.T) {
	t.Parallel()
	_, err := loadText(t, `{
		"connections": {"ld": {"provider": "launchdarkly", "credential": {"env": "A"}}},
		"sinks": {
			"dir": {"type": "file", "format": "dotnev", "argv": ["x"], "token": {"env": "A"}, "timeout": "30s"},
			"ring": {"type": "keyring", "directory": "/x", "accept": {"prefixes": ["", "ci/", "ci/*"], "connections": ["ld", "LD", "mt"], "principals": [""], "keys": []}},
			"cmd": {"type": "exec", "format": "raw", "rotate": ["./tool", "{key}"], "stdin": "{key}", "env": ["HOME", "A=canary"], "timeout": "61s"},
			"leak": {"type": "exec", "argv": ["tool", "{key}", "{secret}"], "env": "HOME", "timeout": 5, "accept": {"prefixes": ["ci/"]}},
			"kv": {"type": "vault", "address": "http://vault.example", "namespace": "a b", "mount": "../sys", "prefix": "a?b", "ca_file": "ca.pem", "stdin": ""},
			"kv2": {"type": "vault", "address": "https://u:canary@vault.example", "token": "canary", "accept": []},
			"old": {"type": "exce", "directory": "here", "timeout": "9h"}
		}
	}`)
	wantProblems(
		t, err,
		`sinks.dir.format: is "dotnev"; did you mean "dotenv"?; valid: raw, dotenv`,
		`sinks.dir.argv: belongs to exec sinks only; valid at file: type, directory, format, accept`,
		`sinks.dir.token: belongs to vault sinks only`,
		`sinks.dir.timeout: belongs to exec sinks only`,
		`sinks.dir.directory: is missing`,
		`sinks.ring.directory: belongs to file sinks only; valid at keyring: type, accept`,
		`sinks.ring.accept.prefixes[0]: no key can begin so`,
		`sinks.ring.accept.prefixes[2]: no key can begin so`,
		`sinks.ring.accept.connections[1]: is "LD", which is not configured; did you mean "ld"?; valid: ld`,
		`sinks.ring.accept.connections[2]: is "mt", which is not configured`,
		`sinks.ring.accept.principals: holds an empty name`,
		`sinks.ring.accept.keys: is not known here; valid: prefixes, connections, principals`,
		`sinks.cmd.format: belongs to file sinks only; valid at exec: type, argv, rotate, stdin, env, timeout, accept`,
		`sinks.cmd.argv: there is no command`,
		`sinks.cmd.rotate: the command is a relative path`,
		`sinks.cmd.stdin: the standard input must hold {secret}`,
		`sinks.cmd.env[1]: env lists the names`,
		`sinks.cmd.timeout: is out of range; valid: 1s to 1m`,
		`sinks.cmd.accept.prefixes: an exec sink must say`,
		`sinks.leak.argv: an argument holds {secret}`,
		`sinks.leak.env: is a text; valid: a list`,
		`sinks.leak.timeout: is not a duration`,
		`sinks.kv.address: the address must begin with https://`,
		`sinks.kv.namespace: the namespace is not valid`,
		`sinks.kv.mount: the mount is not valid`,
		`sinks.kv.prefix: the prefix is not valid`,
		`sinks.kv.ca_file: is not an absolute path`,
		`sinks.kv.token: is missing; valid: {"env": NAME}`,
		`sinks.kv.stdin: belongs to exec sinks only; valid at vault: type, address, namespace, mount, prefix, field, token, ca_file, accept`,
		`sinks.kv2.address: the address is not valid`,
		`sinks.kv2.token: is a text; valid: no secret stands in this file`,
		`sinks.kv2.accept: is a list; valid: an object`,
		`sinks.old.type: is "exce"; did you mean "exec"?; valid: file, keyring, exec, vault`,
		`sinks.old.directory: is not an absolute path`,
	)
	if strings.Contains(err.Error(), "canary") {
		t.Errorf("the error quotes a credential:\n%v", err)
	}
}

func TestSinks(t *testing.T) {
	t.Parallel()
	env := userWith(t, map[string]string{"c.json": `{
		"connections": {"ld": {"provider": "launchdarkly", "credential": {"env": "A"}}},
		"sinks": {
			"env": {"type": "file", "format": "dotenv", "directory": "~/env", "accept": {"prefixes": ["ci/"], "connections": ["ld"], "principals": ["local"]}},
			"desktop": {"type": "keyring"},
			"cmd": {"type": "exec", "argv": ["put", "{key}"], "rotate": ["set", "{key}"], "stdin": "{secret_json}", "env": ["HOME"], "timeout": "5s", "accept": {"prefixes": ["ci/"]}},
			"kv": {"type": "vault", "address": "http://localhost:8200", "namespace": "n", "mount": "m", "prefix": "p", "field": "f", "token": {"env": "T"}, "ca_file": "~/ca.pem"}
		}
	}`})
	c := mustLoad(t, config.Options{ConfigFile: "~/c.json", Getenv: env.get, Stdio: true})
	want := map[string]config.Sink{
		"env": {
			Type: "file", Format: "dotenv", Directory: filepath.Join(env["HOME"], "env"),
			Accept: config.Accept{Prefixes: []string{"ci/"}, Connections: []string{"ld"}, Principals: []string{"local"}},
		},
		"desktop": {Type: "keyring"},
		"cmd": {
			Type: "exec", Argv: []string{"put", "{key}"}, Rotate: []string{"set", "{key}"}, Stdin: "{secret_json}", Env: []string{"HOME"},
			Timeout: 5 * time.Second, Accept: config.Accept{Prefixes: []string{"ci/"}},
		},
		"kv": {
			Type: "vault", Address: "http://localhost:8200", Namespace: "n", Mount: "m", Prefix: "p", Field: "f",
			Token: auth.Reference{Env: "T"}, CAFile: filepath.Join(env["HOME"], "ca.pem"),
		},
	}
	if diff := cmp.Diff(want, c.Sinks); diff != "" {
		t.Errorf("sinks (-want +got):\n%s", diff)
	}
}

// Every configuration in the documents is one that can be loaded.
func TestDocumented(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"sinks.md", "callers.md"} {
		document, err := os.ReadFile(filepath.Join("../../docs", name))
		if err != nil {
			t.Fatal(err)
		}
		blocks := regexp.MustCompile("(?s)```json\n\\{(.*?)\n\\}\n```").FindAllSubmatch(document, -1)
		for _, block := range blocks {
			_, err := loadText(t, `{"connections": {"acme-launchdarkly": {"provider": "launchdarkly", "credential": {"env": "A"}}},`+string(block[1])+`}`)
			if err != nil {
				t.Errorf("%s: %v:\n%s", name, err, block[0])
			}
		}
		if all := strings.Count(string(document), "```json"); len(blocks) != all || all == 0 {
			t.Errorf("%s: %d of %d blocks were loaded", name, len(blocks), all)
		}
	}
}

func TestProblemsFromEverywhereAtOnce(t *testing.T) {
	t.Parallel()
	env := userWith(t, map[string]string{"c.json": `{"timeout": 5}`}).with(
		"TOKENREEVE_READ_ONLY", "yes please", "TOKENREEVE_LOG_LEVEL", "loud", "TOKENREEVE_LOG_FORMAT", "tint", "TOKENREEVE_STATE_DIR", "~other/state",
	)
	_, err := config.Load(config.Options{ConfigFile: "~/c.json", LogLevel: "louder", LogFormat: "xml", Getenv: env.get})
	wantProblems(
		t, err, `timeout: is not a duration; valid: a text with a unit, such as "30s"`,
		`TOKENREEVE_READ_ONLY: is "yes please"; valid: true, false`, `TOKENREEVE_LOG_LEVEL: is "loud"; valid: debug`,
		`TOKENREEVE_LOG_FORMAT: is "tint"; valid: text, json`, `--log-level: is "louder"`, `--log-format: is "xml"`,
		`TOKENREEVE_STATE_DIR: is not an absolute path`,
	)
}

func TestSyntax(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct{ content, want string }{
		"empty":           {"", "line 1, column 1: is not JSON"},
		"cut":             {"{\n  \"log\": ", "line 2, column 9: is not JSON: unexpected end"},
		"trailing comma":  {"{\n  \"log\": {},\n}", "line 3, column 1: is not JSON: invalid character '}'"},
		"trailing data":   {"{}\n{}", "line 2, column 1: is not JSON"},
		"comment":         {"{} // x", "line 1, column 4: is not JSON"},
		"wide characters": {"{\"é\": x}", "line 1, column 7: is not JSON"},
		"not UTF-8":       {"{\"\xff\": 1}", "config.json: is not UTF-8"},
		"list":            {"[]", "config.json: is a list; valid: an object with"},
		"null":            {"null", "config.json: is null"},
		"twice":           {`{"log": {}, "log": {}}`, "log: stands in the file twice"},
		"twice, deeper":   {`{"sinks": {"a": {"type": "file", "type": "file", "directory": "/x"}}}`, "sinks.a.type: stands in the file twice"},
		"other case":      {`{"Timeout": "1s"}`, `Timeout: is not known here; did you mean "timeout"?`},
		"deep":            {strings.Repeat(`{"a":`, 5000) + "1" + strings.Repeat("}", 5000), `a: is not known here`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := loadText(t, tt.content)
			wantProblems(t, err, tt.want)
		})
	}
	if _, err := loadText(t, "\ufeff{}"); err != nil {
		t.Errorf("a byte order mark: %v", err)
	}
}

func TestBaseURL(t *testing.T) {
	t.Parallel()
	for base, want := range map[string]string{
		"https://api.atlassian.com":  "",
		"https://gov.example/prefix": "",
		"http://localhost:8080":      "",
		"http://127.0.0.1:8080/x":    "",
		"http://[::1]:8080":          "",
		"http://vendor.example":      "unencrypted",
		"http://localhost.example":   "unencrypted",
		"ftp://localhost":            "unencrypted",
		"HTTPS://vendor.example":     "",
		"vendor.example":             "is not a URL",
		"https://":                   "is not a URL",
		"https://:443":               "is not a URL",
		"https://[::1":               "is not a URL",
		"https://u:canary@v.example": "holds a user",
		"https://v.example/?q=1":     "holds a user",
		"https://v.example/?":        "holds a user",
		"https://v.example/#":        "holds a user",
	} {
		_, err := loadText(t, fmt.Sprintf(`{"connections": {"a": {"provider": "launchdarkly", "credential": {"env": "A"}, "base_url": %q}}}`, base))
		switch {
		case want == "" && err != nil:
			t.Errorf("%s: %v", base, err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("%s: %v; want %q in it", base, err, want)
		case want != "" && strings.Contains(err.Error(), "canary"):
			t.Errorf("the error quotes the password: %v", err)
		}
	}
}

func TestNames(t *testing.T) {
	t.Parallel()
	for name, valid := range map[string]bool{
		"a": true, "0": true, "acme-mailtrap_2": true, strings.Repeat("a", 63): true,
		"": false, "-a": false, "_a": false, "A": false, "a.b": false, "a b": false, "é": false, strings.Repeat("a", 64): false,
	} {
		_, err := loadText(t, fmt.Sprintf(`{"connections": {%q: {"provider": "launchdarkly", "credential": {"env": "A"}}}}`, name))
		if (err == nil) != valid {
			t.Errorf("%q: %v; want valid %v", name, err, valid)
		}
	}
}

func TestSinkOfConnections(t *testing.T) {
	t.Parallel()
	const connections = `"connections": {
		"atl": {"provider": "atlassian", "org_id": "8D2F6F1C-5A1E-4B7C-9C39-1F6A2F1D7E55", "credential": {"env": "A"}},
		"ld": {"provider": "launchdarkly", "credential": {"env": "A"}},
		"mt": {"provider": "mailtrap", "account_id": 1, "credential": {"env": "A"}}}`
	tests := []struct {
		name, sinks string
		stdio       bool
		want        string
	}{
		{"none over stdio", `{}`, true, "files"},
		{"none over HTTP", `{}`, false, ""},
		{"one", `{"vaulted": {"type": "file", "directory": "/x"}}`, true, "vaulted"},
		{"one over HTTP", `{"vaulted": {"type": "file", "directory": "/x"}}`, false, "vaulted"},
		{"two", `{"a": {"type": "file", "directory": "/x"}, "b": {"type": "file", "directory": "/y"}}`, true, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			env := userWith(t, map[string]string{"c.json": `{"sinks": ` + tt.sinks + `, ` + connections + `}`})
			c := mustLoad(t, config.Options{ConfigFile: "~/c.json", Getenv: env.get, Stdio: tt.stdio, StateDir: filepath.Join(env["HOME"], "s")})
			if c.DefaultSink != tt.want || c.Connections["ld"].Sink != tt.want || c.Connections["mt"].Sink != tt.want {
				t.Errorf("sinks %q, %q, %q; want %q", c.DefaultSink, c.Connections["ld"].Sink, c.Connections["mt"].Sink, tt.want)
			}
			if c.Connections["atl"].Sink != "" {
				t.Error("Atlassian mints nothing and has a sink")
			}
			if tt.want == "files" && c.Sinks["files"].Directory != filepath.Join(env["HOME"], "s", "secrets") {
				t.Errorf("the default sink is at %s", c.Sinks["files"].Directory)
			}
		})
	}
}

func TestStateDir(t *testing.T) {
	t.Parallel()
	absolute, err := filepath.Abs("relative")
	if err != nil {
		t.Fatal(err)
	}
	env := userWith(t, nil)
	home := env["HOME"]
	tests := []struct{ name, flag, variable, want string }{
		{"flag", filepath.Join(home, "flag"), "~/variable", filepath.Join(home, "flag")},
		{"variable", "", "~/variable", filepath.Join(home, "variable")},
		{"a shell's relative path", "relative", "", absolute},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			e := environment{"HOME": home, "USERPROFILE": home, "TOKENREEVE_STATE_DIR": tt.variable}
			if got := mustLoad(t, config.Options{StateDir: tt.flag, Getenv: e.get}).StateDir; got != tt.want {
				t.Errorf("StateDir = %s; want %s", got, tt.want)
			}
		})
	}
	_, err = config.Load(config.Options{Getenv: environment{}.get})
	wantProblems(t, err, "TOKENREEVE_STATE_DIR: no home directory is known")
}

func TestExample(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile("../../config.json.example")
	if err != nil {
		t.Fatal(err)
	}
	c, err := loadText(t, string(data))
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Connections) != 3 || c.Connections["acme-atlassian"].OrgWideRevoke {
		t.Errorf("the example has %d connections, or no safe values", len(c.Connections))
	}
	// Whoever copies the example must not trust somebody whom it names.
	if c.HumanApproval.TrustClient || len(c.RecoveryRecipients) > 0 {
		t.Error("the example trusts clients, or holders of a recovery key")
	}
	for name, connection := range c.Connections {
		if p := (policy.Policy{Mint: policy.MintRules(connection.Mint)}); p.RefusesGrant(policy.GrantAdmin) == "" {
			t.Errorf("%s allows admin access", name)
		}
	}
}

func FuzzLoad(f *testing.F) {
	f.Add([]byte(issueExample))
	f.Add([]byte(withAuth(`{"tokens": [{"name": "\u0000", "role": "", "sha256": "zz", "connections": {"": "none"}}, null], "oidc": {"issuer": "%", "roles": {"\n": {}}}}`)))
	f.Add([]byte(`{"connections": {"a": {"provider": "mailtrap", "account_id": 1e400, "credential": {"env": "\u0000"}}}}`))
	f.Add([]byte(`{"sinks": {"": {"type": 1}, "": null}, "timeout": "1e", "rate_reserve": -0, "log": [[[]]]}`))
	f.Add([]byte(`{"sinks": {"a": {"type": "exec", "argv": ["t", "{key}"], "rotate": [""], "stdin": "{secret}", "env": ["\u0000"], "timeout": "1s", "accept": {"prefixes": ["\u001b/"], "connections": ["\n"]}}}}`))
	f.Add([]byte(`{"sinks": {"a": {"type": "vault", "address": "https://v\u007f", "namespace": "\n", "mount": "a//b", "prefix": "%2e", "token": {"exec": ["t"]}, "ca_file": "~"}, "b": {"type": "file", "format": "dotenv", "directory": "/"}}}`))
	f.Add([]byte(`{"connections": {"a": {"provider": "launchdarkly", "mint": {"access": ["\u0000"], "longest_life": "1y\n"}, "in_use": "9223372036854775808d"}}, "human_approval": {"org_wide": "\u001b"}, "recovery_recipients": ["age1\n", "AGE-SECRET-KEY-1"], "escrow_retention": "-1w"}`))
	f.Add([]byte(strings.Repeat(`[`, 10_001)))
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, data []byte) {
		file, err := os.CreateTemp(dir, "*.json")
		if err != nil {
			t.Fatal(err)
		}
		defer os.Remove(file.Name())
		if _, err := file.Write(data); err != nil {
			t.Fatal(err)
		}
		if err := file.Close(); err != nil {
			t.Fatal(err)
		}
		c, err := config.Load(config.Options{ConfigFile: file.Name(), Getenv: environment{"HOME": dir, "USERPROFILE": dir}.get})
		if err != nil {
			for _, p := range problems(t, err) {
				if strings.HasPrefix(p, ":") || strings.ContainsAny(p, "\n\x00\x1b") {
					t.Errorf("problem %q", p)
				}
			}
			return
		}
		for name, connection := range c.Connections {
			if err := connection.Credential.Validate(); err != nil {
				t.Errorf("connection %q was loaded: %v", name, err)
			}
		}
	})
}
