package e2e_test

import (
	"encoding/json"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// newKeys makes keys as an operator does.
func (v *vendors) newKeys(t *testing.T) string {
	t.Helper()
	stdout, stderr := run(t, v.bareEnv(), 0, "", "state", "new-keys")
	if !regexp.MustCompile(`^# created: \S+\n# public key: age1\S+\nAGE-SECRET-KEY-1\S+\n$`).MatchString(stdout) {
		t.Fatalf("not what age-keygen prints, and %q", stderr)
	}
	if !strings.Contains(stdout, strings.TrimSuffix(strings.TrimPrefix(stderr, "Public key: "), "\n")) || strings.Contains(stderr, "AGE-SECRET") {
		t.Errorf("standard error: %q", stderr)
	}
	return stdout
}

// What one server sealed opens at another with the same keys, also once they were replaced.
func TestSharedKeys(t *testing.T) {
	t.Parallel()
	v := newVendors(t)
	first, second := v.newKeys(t), v.newKeys(t)
	page := func(code int, keys, stateDir string, more ...string) map[string]any {
		t.Helper()
		config := v.config(t, map[string]any{"state": map[string]any{"keys": map[string]any{"env": "SHARED_KEYS"}}})
		args := append([]string{"call", "--json", "--config", config, "--state-dir", filepath.Join(v.home, stateDir), "list_tokens", "limit=2"}, more...)
		stdout, stderr := run(t, append(v.bareEnv(), "SHARED_KEYS="+keys), code, "", args...)
		if strings.Contains(stdout+stderr, "AGE-SECRET") {
			t.Error("the output shows a key")
		}
		var result map[string]any
		if err := json.Unmarshal([]byte(stdout), &result); err != nil {
			t.Fatalf("%v: %s %s", err, stdout, stderr)
		}
		return result
	}
	cursor := "cursor=" + page(0, first, "one")["next_cursor"].(string)
	page(0, first, "two", cursor)
	page(0, second+first, "two", cursor)
	if got := page(1, second, "two", cursor)["code"]; got != "invalid_cursor" {
		t.Errorf("other keys: got %v", got)
	}
	spoilt := page(1, strings.TrimSpace(first)[:len(first)-9], "two", cursor)
	if message, _ := spoilt["message"].(string); spoilt["code"] != "state_unusable" || !strings.Contains(message, "state.keys: line 3 is a damaged age identity") {
		t.Errorf("spoilt keys: got %v", spoilt)
	}
	for _, dir := range []string{"one", "two"} {
		if files, _ := filepath.Glob(filepath.Join(v.home, dir, "*.key")); len(files) > 0 {
			t.Errorf("keys were made besides: %v", files)
		}
	}
}
