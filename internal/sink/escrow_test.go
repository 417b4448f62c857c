package sink_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"filippo.io/age"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/tokenreeve/tokenreeve/internal/secret"
	"github.com/tokenreeve/tokenreeve/internal/sink"
)

const operation = "019a0000-7000-7000-8000-000000000001"

func meta() sink.Meta {
	return sink.Meta{
		TokenID: "6650f0c2a1b2", Connection: "acme-launchdarkly", Destination: "files/ci/launchdarkly",
		Created: time.Date(2026, 11, 22, 7, 0, 0, 0, time.UTC),
	}
}

func newEscrow(t *testing.T, state string, recovery ...string) *sink.Escrow {
	t.Helper()
	recipients, err := sink.ParseRecipients(recovery)
	if err != nil {
		t.Fatal(err)
	}
	return sink.NewEscrow(state, nil, recipients)
}

func recoveryKey(t *testing.T) *age.X25519Identity {
	t.Helper()
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	return identity
}

func keep(t *testing.T, e *sink.Escrow, operation string) {
	t.Helper()
	if err := e.Put(t.Context(), operation, secret.New(canary), meta()); err != nil {
		t.Fatal(err)
	}
}

func TestEscrow(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, p place) {
		e := p.open(t, recoveryKey(t).Recipient().String())
		if err := e.Check(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := p.all(t); len(got) > 0 {
			t.Errorf("Check left %d", len(got))
		}
		keep(t, e, operation)
		if err := e.Put(t.Context(), operation, secret.New("another"), meta()); !errors.Is(err, fs.ErrExist) {
			t.Errorf("a second secret of one operation: got %v, want fs.ErrExist", err)
		}
		for _, e := range []*sink.Escrow{e, p.open(t)} { // also of another process
			s, m, err := e.Get(t.Context(), operation)
			if err != nil || s.Expose() != canary {
				t.Errorf("the secret did not come back: %v", err)
			}
			if diff := cmp.Diff(meta(), m); diff != "" {
				t.Error(diff)
			}
		}
		for _, data := range p.all(t) {
			inClear(t, "the escrow", data)
		}
		want := []sink.Entry{{OperationID: operation, Meta: meta()}}
		entries, err := e.List(t.Context())
		if diff := cmp.Diff(want, entries, cmpopts.IgnoreFields(sink.Entry{}, "Written", "Size")); err != nil || diff != "" {
			t.Errorf("%v %s", err, diff)
		}
		if entries[0].Size < int64(len(canary)) || time.Since(entries[0].Written).Abs() > time.Hour {
			t.Errorf("got %+v", entries[0])
		}
		for range 2 { // a missing one is fine
			if err := e.Delete(t.Context(), operation); err != nil {
				t.Error(err)
			}
		}
		if _, _, err := e.Get(t.Context(), operation); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("got %v, want fs.ErrNotExist", err)
		}
		if got := p.all(t); len(got) > 0 {
			t.Errorf("left behind: %d", len(got))
		}
	})
}

// On disk there is the key and a file of each secret, for nobody but their owner.
func TestEscrowFiles(t *testing.T) {
	t.Parallel()
	state := filepath.Join(t.TempDir(), "state")
	e := newEscrow(t, state)
	if err := e.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(tree(t, state)); got != "[escrow escrow.key]" {
		t.Errorf("Check left %s", got)
	}
	keep(t, e, operation)
	nothingInClear(t, state)
	onlyOwner(t, state)
	if err := e.Delete(t.Context(), operation); err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(tree(t, state)); got != "[escrow escrow.key]" {
		t.Errorf("left behind: %s", got)
	}
}

// nothingInClear looks for the secret, and for what is known of it, in every file and name below dir.
func nothingInClear(t *testing.T, dir string) {
	t.Helper()
	for _, path := range tree(t, dir) {
		data, err := os.ReadFile(filepath.Join(dir, path))
		if info, statErr := os.Lstat(filepath.Join(dir, path)); statErr == nil && info.IsDir() {
			continue
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Error(err)
		}
		inClear(t, path, append(data, path...))
	}
}

func inClear(t *testing.T, what string, data []byte) {
	t.Helper()
	for _, text := range []string{canary, "launchdarkly", "6650f0c2a1b2", "2026-11-22"} {
		if bytes.Contains(data, []byte(text)) {
			t.Errorf("%s shows %q", what, text)
		}
	}
}

func onlyOwner(t *testing.T, dir string) {
	t.Helper()
	if runtime.GOOS == "windows" {
		return
	}
	for _, path := range append(tree(t, dir), ".") {
		info, err := os.Lstat(filepath.Join(dir, path))
		if err != nil {
			t.Fatal(err)
		}
		want := fs.FileMode(0o600)
		if info.IsDir() {
			want = 0o700
		}
		if info.Mode().Perm() != want {
			t.Errorf("%s has mode %04o", path, info.Mode().Perm())
		}
	}
}

// An operator who has only the recovery key and age's own format reads everything.
func TestEscrowRecovery(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, p place) {
		keys := []*age.X25519Identity{recoveryKey(t), recoveryKey(t)}
		keep(t, p.open(t, keys[0].Recipient().String(), " "+keys[1].Recipient().String()+"\n"), operation)
		p.otherKey(t)
		data, err := p.open(t).Export(t.Context(), operation)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(p.all(t)[operation], data); diff != "" {
			t.Error("what is exported is not what is kept")
		}
		for _, key := range keys {
			plain, err := age.Decrypt(bytes.NewReader(data), key)
			if err != nil {
				t.Fatal(err)
			}
			data, err := io.ReadAll(plain)
			if err != nil {
				t.Fatal(err)
			}
			var got map[string]string
			if err := json.Unmarshal(data, &got); err != nil {
				t.Fatal(err)
			}
			want := map[string]string{
				"operation_id": operation, "secret": canary, "token_id": "6650f0c2a1b2", "connection": "acme-launchdarkly",
				"destination": "files/ci/launchdarkly", "created": "2026-11-22T07:00:00Z",
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		}
		if _, err := p.open(t).Export(t.Context(), "missing"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("got %v, want fs.ErrNotExist", err)
		}
	})
}

func TestEscrowKeepsEveryByte(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, p place) {
		e := p.open(t)
		for i, value := range []string{"<&>\u2028 é\x00\n", "\xff\xfe not UTF-8", strings.Repeat("\x01", sink.MaxSecret)} {
			id := fmt.Sprintf("op-%d", i)
			id = strings.TrimPrefix(id, "-")
			if err := e.Put(t.Context(), id, secret.New(value), sink.Meta{}); err != nil {
				t.Fatal(err)
			}
			if s, _, err := e.Get(t.Context(), id); err != nil || s.Expose() != value {
				t.Errorf("%d did not come back: %v", i, err)
			}
		}
	})
}

func TestEscrowUnreadable(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, wants string
		spoil       func(t *testing.T, p place, data []byte) []byte // nil: what is kept stays
	}{
		{"damaged", "damaged", func(_ *testing.T, _ place, data []byte) []byte { return flip(data, len(data)-1) }},
		{"damaged header", "damaged", func(_ *testing.T, _ place, data []byte) []byte { return flip(data, 3) }},
		{"empty", "damaged", func(*testing.T, place, []byte) []byte { return []byte{} }},
		{"cut", "damaged", func(_ *testing.T, _ place, data []byte) []byte { return data[:180] }},
		{"in clear", "damaged", func(*testing.T, place, []byte) []byte { return []byte(`{"secret":"` + canary + `"}`) }},
		{"another operation's", "holds another operation's secret", func(t *testing.T, p place, _ []byte) []byte {
			e := p.open(t)
			keep(t, e, "other")
			data, err := e.Export(t.Context(), "other")
			if err = errors.Join(err, e.Delete(t.Context(), "other")); err != nil {
				t.Fatal(err)
			}
			return data
		}},
		{"another key", "another key than the server has; a holder of a recovery key reads it with age -d -i KEYFILE ", func(t *testing.T, p place, _ []byte) []byte {
			p.otherKey(t)
			return nil
		}},
		{"no key", "age -d -i KEYFILE ", func(t *testing.T, p place, _ []byte) []byte {
			p.noKey(t)
			return nil
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			everywhere(t, func(t *testing.T, p place) {
				keep(t, p.open(t), operation)
				if data := tt.spoil(t, p, p.all(t)[operation]); data != nil {
					p.put(t, operation, data)
				}
				unreadable(t, p, tt.wants)
			})
		})
	}
	t.Run("open to others", func(t *testing.T) {
		t.Parallel()
		p := &directory{private(t)}
		keep(t, p.open(t), operation)
		if err := os.Chmod(p.file(operation), 0o644); err != nil {
			t.Fatal(err)
		}
		unreadable(t, p, "chmod 600")
	})
}

// unreadable checks that what is kept of the operation is told of, and nothing else.
func unreadable(t *testing.T, p place, wants string) {
	t.Helper()
	before := p.all(t)
	e := p.open(t)
	s, m, err := e.Get(t.Context(), operation)
	wantError(t, err, wants)
	if !s.IsZero() || m != (sink.Meta{}) {
		t.Error("something came back")
	}
	entries, err := e.List(t.Context())
	if err != nil || len(entries) != 1 || entries[0].OperationID != operation || entries[0].Meta != (sink.Meta{}) {
		t.Fatalf("got %+v, %v", entries, err)
	}
	wantError(t, entries[0].Problem, wants)
	if diff := cmp.Diff(before, p.all(t)); diff != "" {
		t.Error("reading changed something")
	}
}

func flip(data []byte, at int) []byte {
	data[at] ^= 1
	return data
}

func TestEscrowCheckFails(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, wants string
		spoil       func(t *testing.T, state string)
	}{
		{"state directory open to others", "chmod 700", func(t *testing.T, state string) {
			if err := os.Chmod(state, 0o755); err != nil {
				t.Fatal(err)
			}
		}},
		{"key is none", "does not hold an age private key", func(t *testing.T, state string) { put(t, filepath.Join(state, "escrow.key"), canary) }},
		{"key open to others", "chmod 600", func(t *testing.T, state string) {
			put(t, filepath.Join(state, "escrow.key"), recoveryKey(t).String())
			if err := os.Chmod(filepath.Join(state, "escrow.key"), 0o640); err != nil {
				t.Fatal(err)
			}
		}},
		{"key is a link", "symbolic link", func(t *testing.T, state string) { link(t, "x", filepath.Join(state, "escrow.key")) }},
		{"escrow is a file", "not a directory", func(t *testing.T, state string) { put(t, filepath.Join(state, "escrow"), "") }},
		{"escrow is a link", "symbolic link", func(t *testing.T, state string) { link(t, t.TempDir(), filepath.Join(state, "escrow")) }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			state := private(t)
			tt.spoil(t, state)
			e := newEscrow(t, state)
			for _, err := range []error{e.Check(t.Context()), e.Put(t.Context(), operation, secret.New(canary), meta())} {
				wantError(t, err, tt.wants)
				if err != nil && !strings.HasPrefix(err.Error(), "escrow: ") {
					t.Errorf("%v does not say where", err)
				}
			}
			if _, err := os.Lstat(filepath.Join(state, "escrow", operation)); err == nil {
				t.Error("something was written")
			}
		})
	}
}

// A key file that is spoilt between Check and Put does not lose what was minted meanwhile; the next
// Check tells.
func TestEscrowKeyIsSpoiltMeanwhile(t *testing.T) {
	t.Parallel()
	state := private(t)
	e := newEscrow(t, state)
	if err := e.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(state, "escrow.key")
	key := content(t, path)
	put(t, path, "spoilt")
	keep(t, e, operation)
	wantError(t, e.Check(t.Context()), "does not hold an age private key")
	put(t, path, key)
	if s, _, err := e.Get(t.Context(), operation); err != nil || s.Expose() != canary {
		t.Error(err)
	}
}

// Once a vendor has answered, nothing that a client does may stop the escrow.
func TestEscrowPutOutlastsItsContext(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, p place) {
		e := p.open(t)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := e.Put(ctx, operation, secret.New(canary), meta()); err != nil {
			t.Error(err)
		}
		_, _, getErr := e.Get(ctx, operation)
		for _, err := range []error{e.Check(ctx), getErr, e.Delete(ctx, operation)} {
			if !errors.Is(err, context.Canceled) {
				t.Errorf("got %v", err)
			}
		}
	})
}

func TestEscrowRefusesNames(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, p place) {
		e := p.open(t)
		for _, id := range []string{"", ".", "..", "../x", "a/b", ".hidden", "-x", "a b", "a\x00", strings.Repeat("a", 65)} {
			_, _, getErr := e.Get(t.Context(), id)
			for _, err := range []error{e.Put(t.Context(), id, secret.New(canary), meta()), getErr, e.Delete(t.Context(), id)} {
				wantError(t, err, "not an operation's id")
			}
		}
		wantError(t, e.Put(t.Context(), operation, secret.Secret{}, meta()), "the secret is empty")
		if got := p.all(t); len(got) != 0 {
			t.Errorf("made %v", got)
		}
	})
}

func TestEscrowEmpty(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, p place) {
		e := p.open(t)
		entries, err := e.List(t.Context())
		if len(entries) != 0 || err != nil {
			t.Errorf("got %v, %v", entries, err)
		}
		if err := e.Delete(t.Context(), operation); err != nil {
			t.Error(err)
		}
		if _, _, err := e.Get(t.Context(), operation); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("got %v", err)
		}
	})
}

func TestEscrowWithoutDirectory(t *testing.T) {
	t.Parallel()
	state := filepath.Join(t.TempDir(), "state")
	e := newEscrow(t, state)
	_, err := e.List(t.Context())
	_, _, getErr := e.Get(t.Context(), operation)
	if err = errors.Join(err, e.Delete(t.Context(), operation)); err != nil || !errors.Is(getErr, fs.ErrNotExist) {
		t.Errorf("got %v, %v", err, getErr)
	}
	if _, err := os.Lstat(state); !errors.Is(err, fs.ErrNotExist) {
		t.Error("reading must not make anything")
	}
}

func TestEscrowExpire(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, p place) {
		e := p.open(t)
		for _, id := range []string{"a-delivered", "b-waiting", "c-delivered"} {
			keep(t, e, id)
		}
		delivered := func(id string) bool { return strings.HasSuffix(id, "delivered") }
		removed, err := e.Expire(t.Context(), delivered)
		if err != nil || fmt.Sprint(removed) != "[a-delivered c-delivered]" {
			t.Errorf("got %v, %v", removed, err)
		}
		if got := p.all(t); len(got) != 1 || got["b-waiting"] == nil {
			t.Errorf("kept %d", len(got))
		}
	})
}

// All get the key of the first.
func TestEscrowConcurrentFirstUse(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, p place) {
		const writers = 16
		var wg sync.WaitGroup
		for i := range writers {
			wg.Go(func() {
				if err := p.open(t).Put(context.Background(), fmt.Sprintf("op-%d", i), secret.New(canary), meta()); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		entries, err := p.open(t).List(t.Context())
		if err != nil || len(entries) != writers {
			t.Fatalf("got %d entries, %v", len(entries), err)
		}
		for _, entry := range entries {
			if entry.Problem != nil {
				t.Errorf("%s: %v", entry.OperationID, entry.Problem)
			}
		}
	})
}

func TestParseRecipients(t *testing.T) {
	t.Parallel()
	identity := recoveryKey(t)
	hybrid, err := age.GenerateHybridIdentity()
	if err != nil {
		t.Fatal(err)
	}
	public := identity.Recipient().String()
	tests := []struct{ name, key, wants string }{
		{"public", public, ""},
		{"blanks around", " " + public + "\n", ""},
		{"private", identity.String(), "is a private key, which must not stand here"},
		{"post-quantum", hybrid.Recipient().String(), "is a post-quantum key"},
		{"ssh", "ssh-ed25519 AAAAC3 " + canary, "is an SSH key"},
		{"mistyped", public[:len(public)-1] + "!", "is not an age public key"},
		{"nonsense", canary, "is not an age public key"},
		{"empty", "", "is not an age public key"},
	}
	var keys, wants []string
	for _, tt := range tests {
		got, err := sink.ParseRecipients([]string{tt.key})
		if tt.wants == "" {
			if err != nil || len(got) != 1 || got[0].String() != public {
				t.Errorf("%s: got %v, %v", tt.name, got, err)
			}
			continue
		}
		wantError(t, err, "recovery recipient 1 "+tt.wants)
		if err != nil && tt.key != "" && strings.Contains(err.Error(), tt.key) {
			t.Errorf("%s: the error shows the key: %v", tt.name, err)
		}
		keys, wants = append(keys, tt.key), append(wants, fmt.Sprintf("recovery recipient %d %s", len(keys)+1, tt.wants))
	}
	_, err = sink.ParseRecipients(keys)
	for _, want := range wants {
		wantError(t, err, want)
	}
}
