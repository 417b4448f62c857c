package config_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tokenreeve/tokenreeve/auth"
	"github.com/tokenreeve/tokenreeve/internal/config"
	"github.com/tokenreeve/tokenreeve/internal/policy"
)

const orgID = "8d2f6f1c-5a1e-4b7c-9c39-1f6a2f1d7e55"

func TestConnectionsOfTheEnvironment(t *testing.T) {
	t.Parallel()
	env := userWith(t, nil).with(
		"ATLASSIAN_ADMIN_TOKEN", "a", "ATLASSIAN_ORG_ID", orgID, "ATLASSIAN_USER_MANAGEMENT_TOKEN", "u", "ATLASSIAN_BASE_URL", "http://127.0.0.1:1",
		"LAUNCHDARKLY_ACCESS_TOKEN", "l", "LAUNCHDARKLY_BASE_URL", "https://app.eu.launchdarkly.com",
		"MAILTRAP_API_TOKEN", "m", "MAILTRAP_ACCOUNT_ID", "3229", "MAILTRAP_BASE_URL", "http://127.0.0.1:2",
	)
	c := mustLoad(t, config.Options{Getenv: env.get, Stdio: true})
	all, limits := policy.Classes(), config.Limits{TargetsPerPreview: 100, RevocationsPerHour: 50}
	want := map[string]config.Connection{
		"atlassian": {
			Provider: "atlassian", OrgID: orgID, BaseURL: "http://127.0.0.1:1", Credential: auth.Reference{Env: "ATLASSIAN_ADMIN_TOKEN"},
			UserManagementCredential: auth.Reference{Env: "ATLASSIAN_USER_MANAGEMENT_TOKEN"}, Allow: all, Limits: limits,
		},
		"launchdarkly": {
			Provider: "launchdarkly", BaseURL: "https://app.eu.launchdarkly.com", Credential: auth.Reference{Env: "LAUNCHDARKLY_ACCESS_TOKEN"},
			Sink: "files", Allow: all, Limits: limits,
		},
		"mailtrap": {
			Provider: "mailtrap", AccountID: 3229, BaseURL: "http://127.0.0.1:2", Credential: auth.Reference{Env: "MAILTRAP_API_TOKEN"},
			PathFamily: "account", ResourceWords: "current", Sink: "files", Allow: all, Limits: limits,
		},
	}
	if diff := cmp.Diff(want, c.Connections); diff != "" {
		t.Errorf("connections (-want +got):\n%s", diff)
	}
	if len(c.Setup) != 0 || c.File != "" {
		t.Errorf("setup %q, file %q", c.Setup, c.File)
	}
}

func TestFilesOfTheEnvironment(t *testing.T) {
	t.Parallel()
	env := userWith(t, map[string]string{"org": orgID + "\n", "account": "3229\n", "url": "https://app.launchdarkly.us\n"})
	env.with(
		"ATLASSIAN_ADMIN_TOKEN_FILE", "/run/secrets/a", "ATLASSIAN_ORG_ID_FILE", "~/org", "ATLASSIAN_USER_MANAGEMENT_TOKEN_FILE", "~/u",
		"LAUNCHDARKLY_ACCESS_TOKEN_FILE", "/run/secrets/l", "LAUNCHDARKLY_BASE_URL_FILE", "~/url",
		"MAILTRAP_API_TOKEN_FILE", "/run/secrets/m", "MAILTRAP_ACCOUNT_ID_FILE", "~/account",
	)
	// The credentials' files do not exist: nothing reads them here.
	c := mustLoad(t, config.Options{Getenv: env.get}).Connections
	if got := c["atlassian"]; got.Credential.File != "/run/secrets/a" || got.OrgID != orgID || got.UserManagementCredential.File != filepath.Join(env["HOME"], "u") {
		t.Errorf("atlassian: %+v", got)
	}
	if got := c["launchdarkly"]; got.Credential.File != "/run/secrets/l" || got.BaseURL != "https://app.launchdarkly.us" {
		t.Errorf("launchdarkly: %+v", got)
	}
	if got := c["mailtrap"]; got.Credential.File != "/run/secrets/m" || got.AccountID != 3229 {
		t.Errorf("mailtrap: %+v", got)
	}
}

func TestProblemsOfTheEnvironment(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		env  []string
		want []string
	}{
		{"no organization", []string{"ATLASSIAN_ADMIN_TOKEN", "a"}, []string{"ATLASSIAN_ORG_ID: is not set; Atlassian Cloud needs ATLASSIAN_ADMIN_TOKEN and ATLASSIAN_ORG_ID"}},
		{"no token", []string{"ATLASSIAN_ORG_ID", orgID}, []string{"ATLASSIAN_ADMIN_TOKEN: is not set"}},
		{"second token only", []string{"ATLASSIAN_USER_MANAGEMENT_TOKEN", "u"}, []string{"ATLASSIAN_ADMIN_TOKEN: is not set", "ATLASSIAN_ORG_ID: is not set"}},
		{"no account", []string{"MAILTRAP_API_TOKEN", "m"}, []string{"MAILTRAP_ACCOUNT_ID: is not set; Mailtrap needs"}},
		{"no Mailtrap token", []string{"MAILTRAP_ACCOUNT_ID", "1"}, []string{"MAILTRAP_API_TOKEN: is not set"}},
		{"bad ids", []string{"ATLASSIAN_ADMIN_TOKEN", "a", "ATLASSIAN_ORG_ID", "..", "MAILTRAP_API_TOKEN", "m", "MAILTRAP_ACCOUNT_ID", "0"}, []string{"ATLASSIAN_ORG_ID: is not a UUID", "MAILTRAP_ACCOUNT_ID: is not an account id"}},
		{"no number", []string{"MAILTRAP_API_TOKEN", "m", "MAILTRAP_ACCOUNT_ID", "acme"}, []string{"MAILTRAP_ACCOUNT_ID: is not an account id"}},
		{"bad base URL", []string{"LAUNCHDARKLY_ACCESS_TOKEN", "l", "LAUNCHDARKLY_BASE_URL", "http://ld.example"}, []string{"LAUNCHDARKLY_BASE_URL: would send the credential unencrypted"}},
		{"value and file", []string{"LAUNCHDARKLY_ACCESS_TOKEN", "l", "LAUNCHDARKLY_ACCESS_TOKEN_FILE", "/x"}, []string{"LAUNCHDARKLY_ACCESS_TOKEN_FILE: is set, and LAUNCHDARKLY_ACCESS_TOKEN as well"}},
		{"relative file", []string{"LAUNCHDARKLY_ACCESS_TOKEN_FILE", "x"}, []string{"LAUNCHDARKLY_ACCESS_TOKEN_FILE: is not an absolute path"}},
		{"missing file", []string{"MAILTRAP_API_TOKEN", "m", "MAILTRAP_ACCOUNT_ID_FILE", "/nonexistent/x"}, []string{"MAILTRAP_ACCOUNT_ID: cannot be read from MAILTRAP_ACCOUNT_ID_FILE: open /nonexistent/x"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := config.Load(config.Options{Getenv: userWith(t, nil).with(tt.env...).get})
			wantProblems(t, err, tt.want...)
		})
	}
}

func TestEnvironmentAddsNothingToAFile(t *testing.T) {
	t.Parallel()
	env := userWith(t, map[string]string{"c.json": `{}`}).with("LAUNCHDARKLY_ACCESS_TOKEN", "l", "MAILTRAP_API_TOKEN", "half", "ATLASSIAN_ORG_ID", "bad")
	c := mustLoad(t, config.Options{ConfigFile: "~/c.json", Getenv: env.get})
	if len(c.Connections) != 0 {
		t.Errorf("connections %v", c.Connections)
	}
	if len(c.Setup) != 1 || !strings.Contains(c.Setup[0], c.File) {
		t.Errorf("setup %q; want the file's name", c.Setup)
	}
}

func TestNothingSet(t *testing.T) {
	t.Parallel()
	// An empty variable counts as unset, and a base URL alone is no wish for a connection.
	env := userWith(t, nil).with("MAILTRAP_API_TOKEN", "", "LAUNCHDARKLY_BASE_URL", "https://app.launchdarkly.us")
	c := mustLoad(t, config.Options{Getenv: env.get, Stdio: true})
	if len(c.Connections) != 0 {
		t.Errorf("connections %v", c.Connections)
	}
	setup := strings.Join(c.Setup, "\n")
	for _, want := range []string{"ATLASSIAN_ADMIN_TOKEN and ATLASSIAN_ORG_ID", "LAUNCHDARKLY_ACCESS_TOKEN", "MAILTRAP_API_TOKEN and MAILTRAP_ACCOUNT_ID", "config.json"} {
		if !strings.Contains(setup, want) {
			t.Errorf("setup does not name %s:\n%s", want, setup)
		}
	}
}

func TestWorkingDirectoryIsNeverRead(t *testing.T) {
	t.Chdir(t.TempDir())
	for _, name := range []string{"config.json", "tokenreeve/config.json", ".config/tokenreeve/config.json"} {
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(`{"read_only": true}`), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, directory := range []string{"", ".", "relative"} {
		env := userWith(t, nil).with("XDG_CONFIG_HOME", directory)
		if c := mustLoad(t, config.Options{Getenv: env.get}); c.ReadOnly || c.File != "" {
			t.Errorf("XDG_CONFIG_HOME %q: read %s", directory, c.File)
		}
	}
}
