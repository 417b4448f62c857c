package e2e_test

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/tokenreeve/tokenreeve/auth"
	"github.com/tokenreeve/tokenreeve/internal/config"
)

// What the command prints is a token, and an entry that a configuration takes and that lets it in.
func TestNewToken(t *testing.T) {
	t.Parallel()
	for _, role := range auth.Roles() {
		stdout, stderr := run(t, nil, 0, "", "auth", "new-token", "ci-bot", "--role", string(role))
		plain(t, "stdout", stdout)
		token := regexp.MustCompile(`(?m)^  (trv_[0-9a-f]{64})$`).FindStringSubmatch(stdout)
		entry := regexp.MustCompile(`(?m)^  (\{.*\})$`).FindStringSubmatch(stdout)
		if token == nil || entry == nil || stderr != "" {
			t.Fatalf("%s%s", stdout, stderr)
		}
		var got config.CallerToken
		if err := json.Unmarshal([]byte(entry[1]), &got); err != nil || got.Name != "ci-bot" || got.Role != role || got.SHA256 != fmt.Sprintf("%x", sha256.Sum256([]byte(token[1]))) {
			t.Errorf("%+v, %v", got, err)
		}
		file := filepath.Join(t.TempDir(), "config.json")
		if err := os.WriteFile(file, []byte(`{"auth": {"tokens": [`+entry[1]+`]}}`), 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := config.Load(config.Options{ConfigFile: file, StateDir: t.TempDir()})
		if err != nil {
			t.Fatal(err)
		}
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/mcp", nil)
		r.Header.Set("Authorization", "Bearer "+token[1])
		if p, err := auth.NewTokens(c.Auth.StaticTokens()).Authenticate(r); err != nil || p.Name != "token:ci-bot" || p.Role != role {
			t.Errorf("%+v, %v", p, err)
		}
	}
}

func TestNewTokenRefuses(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		args []string
		want string
	}{
		"no role":      {[]string{"ci-bot"}, `--role is missing; valid: viewer, operator, admin, approver`},
		"unknown role": {[]string{"ci-bot", "--role", "owner\x1b[31m"}, `--role "owner[31m" is no role`},
		"no caller's":  {[]string{"ci-bot", "--role", "none"}, `--role "none" is no role`},
		"name":         {[]string{"token:x\n", "--role", "viewer"}, `"token:x " is no caller's name`},
		"no name":      {[]string{"--role", "viewer"}, "accepts 1 arg(s), received 0; usage: tokenreeve auth new-token NAME --role ROLE [flags]; see tokenreeve auth new-token --help"},
		"unknown flag": {[]string{"ci-bot", "--rle", "viewer"}, "unknown flag: --rle; see tokenreeve auth new-token --help"},
	} {
		stdout, stderr := run(t, nil, 1, "", append([]string{"auth", "new-token"}, tt.args...)...)
		if stdout != "" || !strings.Contains(stderr, tt.want) {
			t.Errorf("%s: %s%s", name, stdout, stderr)
		}
		plain(t, "stderr", stderr)
	}
}
