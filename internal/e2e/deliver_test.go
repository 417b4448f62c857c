package e2e_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// A secret that its sink refused waits in escrow, encrypted, also for another process:
// a tool of a later server's and the command line deliver it, once.
func TestDeliver(t *testing.T) {
	t.Parallel()
	v := newVendors(t)
	config := v.config(t, map[string]any{
		"connections": map[string]any{"ld": map[string]any{
			"provider": "launchdarkly", "base_url": v.access.LaunchDarkly.BaseURL, "sink": "broken",
			"credential": v.credentialFile(t, "ld", v.access.LaunchDarkly.Credential),
		}},
		"sinks": map[string]any{
			"broken": map[string]any{"type": "exec", "argv": []string{"false", "{key}"}, "accept": map[string]any{"prefixes": []string{"ld/"}}},
			"files":  map[string]any{"type": "file", "directory": v.secretsDir()},
		},
	})
	c, _ := stdioClient(t, legacy, v.bareEnv(), "--config", config)
	var operations []string
	for n := range 2 {
		created := succeed(t, c, "create_launchdarkly_token", map[string]any{"connection": "ld", "name": fmt.Sprint("e2e ", n), "role": "reader"})
		if created["status"] != "escrowed" || len(delivered(t, v.secretsDir())) != 0 {
			t.Fatalf("creation: %v", created)
		}
		operations = append(operations, fmt.Sprint(created["operation_id"]))
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}

	for _, operation := range operations {
		sealed, err := os.ReadFile(filepath.Join(v.stateDir(), "escrow", operation))
		if err != nil {
			t.Fatal(err)
		}
		v.noSecretIn(t, "the escrow", string(sealed))
	}
	c, _ = stdioClient(t, legacy, v.bareEnv(), "--config", config)
	if code := fail(t, c, "deliver_secret", map[string]any{"operation_id": operations[0]}); code != "sink_unusable" {
		t.Errorf("delivery to the broken sink failed with %s", code)
	}
	got := succeed(t, c, "deliver_secret", map[string]any{"operation_id": operations[0], "deliver_to": "files/ci/first"})
	if got["status"] != "delivered" {
		t.Errorf("delivery: %v", got)
	}
	stdout, stderr := run(t, v.bareEnv(), 0, "", "--config", config, "deliver", "--json", operations[1], "files/ci/second")
	var answer struct{ Status string }
	if err := json.Unmarshal([]byte(stdout), &answer); err != nil || answer.Status != "delivered" {
		t.Errorf("deliver: %s%s", stdout, stderr)
	}
	for _, operation := range operations {
		if code := fail(t, c, "deliver_secret", map[string]any{"operation_id": operation, "deliver_to": "files/ci/third"}); code != "already_delivered" {
			t.Errorf("a second delivery failed with %s", code)
		}
	}
	want := []string{v.secretOf(t, "e2e 0"), v.secretOf(t, "e2e 1")}
	if diff := cmp.Diff(want, delivered(t, v.secretsDir())); diff != "" {
		t.Errorf("delivered secrets (-want +got):\n%s", diff)
	}
	left, err := os.ReadDir(filepath.Join(v.stateDir(), "escrow"))
	if err != nil || len(left) != 0 {
		t.Errorf("in escrow: %v (%v)", left, err)
	}
}
