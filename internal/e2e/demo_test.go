package e2e_test

import (
	"os"
	"regexp"
	"testing"
)

// The demo walks through the whole job without any configuration, shows no secret,
// and leaves nothing behind.
func TestDemo(t *testing.T) {
	t.Parallel()
	v := newVendors(t)
	stdout, stderr := run(t, v.env("TOKENREEVE_CONFIG=/does/not/exist"), 0, "", "demo")
	for _, part := range []string{
		"atlassian", "launchdarkly", "mailtrap", // inventory
		"unused_for",                                // a stale token is found
		"confirmation_required", "not a valid code", // preview, a wrong code
		`revoke_token {"confirm":`, "status: revoked", // the right one
		`rotate_token {"confirm":`, "status: rotated", "delivered_to",
		`bulk_revoke_tokens {"confirm":`, `counts: {"revoked":`,
	} {
		if !contains(stdout, part) {
			t.Errorf("the transcript lacks %q", part)
		}
	}
	for vendor, secret := range map[string]string{
		"atlassian": `ATATT|ATCTT`, "launchdarkly": `api-[0-9a-f]{8}-`, "mailtrap": `\b[0-9a-f]{32}\b`,
	} {
		if found := regexp.MustCompile(secret).FindString(stdout + stderr); found != "" {
			t.Errorf("the transcript holds a secret of %s", vendor)
		}
	}
	plain(t, "the transcript", stdout)
	if stderr != "" {
		t.Errorf("stderr: %s", stderr)
	}
	if left, err := os.ReadDir(v.home); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v (%v)", left, err)
	}
	if got := v.Requests(); len(got) != 0 {
		t.Errorf("%d requests went to the configured vendors", len(got))
	}
}
