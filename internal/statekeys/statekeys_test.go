package statekeys_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/tokenreeve/tokenreeve/internal/secret"
	"github.com/tokenreeve/tokenreeve/internal/statekeys"
)

func newText(t *testing.T) string {
	t.Helper()
	text, public, err := statekeys.New(time.Date(2026, 11, 26, 0, 0, 0, 0, time.UTC))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(text, "# created: 2026-11-26T00:00:00Z\n# public key: "+public+"\nAGE-SECRET-KEY-1") {
		t.Errorf("not as age-keygen writes it")
	}
	return text
}

func parse(t *testing.T, text string) statekeys.Keys {
	t.Helper()
	k, err := statekeys.Parse(secret.New(text))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func derive(t *testing.T, k statekeys.Keys, p statekeys.Purpose) [][]byte {
	t.Helper()
	keys, err := k.Derive(p, 32)
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

// age itself reads what New makes, and Parse what age reads.
func TestParse(t *testing.T) {
	t.Parallel()
	first, second := newText(t), newText(t)
	both := "\r\n" + first + "\n  # the last one\r\n" + strings.ReplaceAll(second, "\n", "\r\n")
	want, err := age.ParseIdentities(strings.NewReader(first + second))
	if err != nil {
		t.Fatal(err)
	}
	got := parse(t, both).Identities()
	if len(got) != 2 || got[0].String() != want[0].(*age.X25519Identity).String() || got[1].String() != want[1].(*age.X25519Identity).String() {
		t.Errorf("not the identities in their order")
	}
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	good := newText(t)
	identity := strings.TrimSpace(good[strings.Index(good, "AGE-"):])
	hybrid, err := age.GenerateHybridIdentity()
	if err != nil {
		t.Fatal(err)
	}
	const canary = "c0ffeefacade"
	tests := []struct{ name, text, wants string }{
		{"empty", "", "there is no age identity; tokenreeve state new-keys makes one"},
		{"comments", "# " + canary, "there is no age identity"},
		{"password", canary, "line 1 is not an age identity"},
		{"cut", identity[:len(identity)-3], "line 1 is a damaged age identity"},
		{"mistyped", identity[:30] + "b" + identity[31:], "line 1 is a damaged age identity"},
		{"post-quantum", hybrid.String(), "line 1 is a post-quantum identity"},
		{"public", "age1" + canary, "line 1 is a public key"},
		{"plugin", "AGE-PLUGIN-YUBIKEY-1" + canary, "line 1 is an identity of an age plugin"},
		{"encrypted", "-----BEGIN AGE ENCRYPTED FILE-----\n" + canary, "line 1 begins an encrypted file"},
		{"ssh", "-----BEGIN OPENSSH PRIVATE KEY-----\n" + canary, "line 1 is of an SSH or PEM key"},
		{"second line", good + canary, "line 4 is not an age identity"},
		{"twice", good + identity, "line 4 holds the identity of line 3 again"},
		{"two on a line", identity + " " + identity, "line 1 is a damaged age identity"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			k, err := statekeys.Parse(secret.New(tt.text))
			if err == nil || !strings.Contains(err.Error(), tt.wants) || len(k.Identities()) > 0 {
				t.Fatalf("got %v, want %q", err, tt.wants)
			}
			for _, part := range []string{canary, identity[16:24], hybrid.String()[20:28]} {
				if strings.Contains(strings.ToLower(err.Error()), strings.ToLower(part)) {
					t.Errorf("the error quotes the key")
				}
			}
		})
	}
}

// Each purpose and each identity has keys of its own, the same wherever they are derived.
func TestDerive(t *testing.T) {
	t.Parallel()
	first, second := newText(t), newText(t)
	seen := map[string]bool{}
	for _, purpose := range []statekeys.Purpose{statekeys.Cursors, statekeys.Fingerprints} {
		keys := derive(t, parse(t, first+second), purpose)
		if len(keys) != 2 {
			t.Fatalf("got %d keys", len(keys))
		}
		turned := derive(t, parse(t, second+first), purpose)
		if !bytes.Equal(keys[0], turned[1]) || !bytes.Equal(keys[1], turned[0]) {
			t.Errorf("%s: a key does not depend on its identity alone", purpose)
		}
		for _, key := range keys {
			if len(key) != 32 || seen[string(key)] {
				t.Errorf("%s: a key of %d bytes, or one that is another's", purpose, len(key))
			}
			seen[string(key)] = true
		}
	}
}

// TestDeriveStays: another derivation would end the cursors of running clients at an upgrade.
func TestDeriveStays(t *testing.T) {
	t.Parallel()
	k := parse(t, "AGE-SECRET-KEY-1YWSHP8Q434NH4MKKX02PP2NYSRKX999Y3X006PTTJR0JT9M7GGCQCVZHPJ")
	for purpose, want := range map[statekeys.Purpose]string{
		statekeys.Cursors:      "f37f0ff7ce919a5db6820b2c71c392da44654b0d13456398062cc555108cd3fe",
		statekeys.Fingerprints: "eacb4595adf59962a2432b0e7349068013ba9d030076a8d1a14dadba85c40135",
	} {
		if got := hex.EncodeToString(derive(t, k, purpose)[0]); got != want {
			t.Errorf("%s: got %s, want %s", purpose, got, want)
		}
	}
}

func TestSource(t *testing.T) {
	t.Parallel()
	text, fault, reads := "", errors.New("not there yet"), 0
	s := statekeys.NewSource(func(context.Context) (secret.Secret, error) {
		reads++
		return secret.New(text), fault
	})
	if _, err := s.Keys(t.Context()); !errors.Is(err, fault) || !strings.HasPrefix(err.Error(), "state.keys: ") {
		t.Errorf("got %v", err)
	}
	text, fault = newText(t), nil
	for range 2 {
		if k, err := s.Keys(t.Context()); err != nil || len(k.Identities()) != 1 {
			t.Errorf("got %d identities, %v", len(k.Identities()), err)
		}
	}
	if reads != 2 {
		t.Errorf("read %d times; want once after the failure", reads)
	}
	text += newText(t)
	if k, err := s.Refresh(t.Context()); err != nil || len(k.Identities()) != 2 {
		t.Errorf("got %d identities, %v", len(k.Identities()), err)
	}
	text = "spoilt"
	if _, err := s.Refresh(t.Context()); err == nil {
		t.Error("spoilt keys were read")
	}
	if k, err := s.Keys(t.Context()); err != nil || len(k.Identities()) != 2 {
		t.Errorf("a failed refresh lost the keys: %v", err)
	}
}
