package sink_test

import (
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/zalando/go-keyring"

	"github.com/tokenreeve/tokenreeve/internal/secret"
	"github.com/tokenreeve/tokenreeve/internal/sink"
)

// inKeyring says that the test runs where a keyring of its own is: "1", or "required" where its
// absence is a failure.
const inKeyring = "TOKENREEVE_TEST_KEYRING"

func newKeyring(t *testing.T) *sink.Keyring {
	t.Helper()
	k, err := sink.NewKeyring("desktop", sink.Accept{})
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// TestKeyringSecretService runs itself again in a D-Bus session of its own with a new gnome-keyring, so
// that the user's keyring is never touched.
func TestKeyringSecretService(t *testing.T) {
	if os.Getenv(inKeyring) == "1" {
		testKeyring(t)
		return
	}
	for _, name := range []string{"dbus-run-session", "gnome-keyring-daemon", "sh"} {
		if _, err := exec.LookPath(name); err == nil {
			continue
		}
		if os.Getenv(inKeyring) == "required" {
			t.Fatalf("%s is missing", name)
		}
		t.Skipf("no real keyring: %s is missing", name)
	}
	home := t.TempDir()
	script := `printf test | gnome-keyring-daemon --unlock --components=secrets >/dev/null && exec "$@"`
	cmd := exec.Command("dbus-run-session", "--", "sh", "-c", script, "sh", os.Args[0], "-test.run=^TestKeyringSecretService$", "-test.count=1", "-test.v")
	cmd.Env = append(os.Environ(), inKeyring+"=1", "HOME="+home, "XDG_DATA_HOME="+home, "XDG_CONFIG_HOME="+home, "XDG_CACHE_HOME="+home, "XDG_RUNTIME_DIR="+home)
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: TestKeyringSecretService") {
		t.Errorf("%v\n%s", err, out)
	}
}

// The keyring's library is one for the whole program: these tests are not parallel.
func TestKeyringInMemory(t *testing.T) { //nolint:paralleltest // see above
	keyring.MockInit()
	testKeyring(t)
}

func testKeyring(t *testing.T) {
	t.Helper()
	k, key, first := newKeyring(t), parse(t, "ci/launchdarkly"), secret.New(canary+" 'é\n-1")
	if err := k.Check(t.Context(), key, sink.Options{}); err != nil {
		t.Fatal(err)
	}
	delivery, err := k.Deliver(t.Context(), key, first, sink.Options{})
	if want := (sink.Delivery{Sink: "desktop", Key: "ci/launchdarkly"}); err != nil || delivery != want {
		t.Fatalf("got %+v, %v", delivery, err)
	}
	if value, err := keyring.Get("tokenreeve", "ci/launchdarkly"); err != nil || value != first.Expose() {
		t.Errorf("the keyring does not hold the secret: %v", err)
	}
	holds := func(s secret.Secret, want bool) {
		t.Helper()
		if held, err := k.Holds(t.Context(), delivery, s.Digest()); held != want || err != nil {
			t.Errorf("Holds gives %v, %v, want %v", held, err, want)
		}
	}
	holds(first, true)
	second := secret.New(canary + "-2")
	_, deliverErr := k.Deliver(t.Context(), key, second, sink.Options{})
	for _, err := range []error{k.Check(t.Context(), key, sink.Options{}), deliverErr} {
		wantError(t, err, "sink desktop: the key exists already: ci/launchdarkly")
		if !errors.Is(err, sink.ErrKeyExists) {
			t.Errorf("%v is not ErrKeyExists", err)
		}
	}
	holds(first, true)
	if _, err := k.Deliver(t.Context(), key, first, sink.Options{}); err != nil {
		t.Errorf("a repeated delivery: %v", err)
	}
	if err := k.Check(t.Context(), key, successor); err != nil {
		t.Error(err)
	}
	if _, err := k.Deliver(t.Context(), key, second, successor); err != nil {
		t.Error(err)
	}
	holds(first, false)
	holds(second, true)
	if err := keyring.Delete("tokenreeve", "ci/launchdarkly"); err != nil {
		t.Error(err)
	}
	holds(second, false)
	_, err = k.Holds(t.Context(), sink.Delivery{Sink: "files", Key: "k"}, second.Digest())
	wantError(t, err, "not one of this sink")
}

func TestKeyringFails(t *testing.T) { //nolint:paralleltest // see above
	// Some keyrings are written to by a command, whose failure could quote what it was given.
	keyring.MockInitWithError(errors.New("no keyring for " + canary))
	t.Cleanup(keyring.MockInit)
	k, key := newKeyring(t), parse(t, "k")
	_, deliverErr := k.Deliver(t.Context(), key, secret.New("other"), sink.Options{})
	_, holdsErr := k.Holds(t.Context(), sink.Delivery{Sink: "desktop", Key: "k"}, [32]byte{})
	for _, err := range []error{k.Check(t.Context(), key, sink.Options{}), deliverErr, holdsErr} {
		if err == nil || !strings.Contains(err.Error(), "sink desktop: cannot read the keyring: no keyring") {
			t.Errorf("got %v", err)
		}
	}
}
