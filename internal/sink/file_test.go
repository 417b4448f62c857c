package sink_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/tokenreeve/tokenreeve/internal/secret"
	"github.com/tokenreeve/tokenreeve/internal/sink"
)

const canary = "canary-9f8e7d6c5b4a-CANARY"

// successor are the options of a token's next secret under the same key.
var successor = sink.Options{Successor: true}

func newFile(t *testing.T, dir string) *sink.File {
	t.Helper()
	f, err := sink.NewFile("files", dir, sink.Accept{})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func parse(t *testing.T, s string) sink.Key {
	t.Helper()
	key, err := sink.ParseKey(s)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// private returns a private directory for a sink.
func private(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "secrets")
	mkdir(t, dir)
	return dir
}

func mkdir(t *testing.T, path string) {
	t.Helper()
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
}

func put(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func link(t *testing.T, target, path string) {
	t.Helper()
	if err := os.Symlink(target, path); err != nil {
		t.Skipf("no symbolic links here: %v", err)
	}
}

// tree lists every path below dir.
func tree(t *testing.T, dir string) []string {
	t.Helper()
	var paths []string
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if rel, relErr := filepath.Rel(dir, path); relErr == nil && rel != "." {
			paths = append(paths, filepath.ToSlash(rel))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return paths
}

func TestNewFile(t *testing.T) {
	t.Parallel()
	abs := t.TempDir()
	tests := []struct{ name, dir, wants string }{
		{"files", abs, ""},
		{"", abs, "sink's name is empty"},
		{"a/b", abs, "sink's name holds '/'"},
		{"files", "", "absolute path"},
		{"files", "relative/dir", "absolute path"},
		{"files", "~/secrets", "absolute path"},
	}
	for _, tt := range tests {
		_, err := sink.NewFile(tt.name, tt.dir, sink.Accept{})
		if (err != nil) != (tt.wants != "") || (err != nil && !strings.Contains(err.Error(), tt.wants)) {
			t.Errorf("%q, %q: got %v, want %q", tt.name, tt.dir, err, tt.wants)
		}
	}
	if got := tree(t, abs); len(got) != 0 {
		t.Errorf("NewFile made %v", got)
	}
}

func TestDeliver(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "new", "secrets")
	f := newFile(t, dir)
	key := parse(t, "ci/acme/launchdarkly")
	if err := f.Check(t.Context(), key, successor); err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(tree(t, dir)); got != "[ci ci/acme]" {
		t.Errorf("Check left %s", got)
	}
	for version, file := range []string{1: "launchdarkly", 2: "launchdarkly.v2", 3: "launchdarkly.v3"} {
		if version == 0 {
			continue
		}
		s := secret.New(fmt.Sprintf("%s-%d", canary, version))
		got, err := f.Deliver(t.Context(), key, s, successor)
		if err != nil {
			t.Fatal(err)
		}
		want := sink.Delivery{Sink: "files", Key: "ci/acme/launchdarkly", Version: version, Path: filepath.Join(dir, "ci", "acme", file)}
		if got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
		content, err := os.ReadFile(got.Path)
		if err != nil || string(content) != s.Expose() {
			t.Errorf("version %d: the file does not hold exactly the secret: %v", version, err)
		}
		if held, err := f.Holds(t.Context(), got, s.Digest()); !held || err != nil {
			t.Errorf("version %d: Holds gives %v, %v", version, held, err)
		}
		if held, err := f.Holds(t.Context(), got, secret.New("other").Digest()); held || err != nil {
			t.Errorf("version %d: Holds of another gives %v, %v", version, held, err)
		}
		if again, err := f.Deliver(t.Context(), key, s, successor); again != want || err != nil { // after a crash, for example
			t.Errorf("version %d: delivered again it is %+v, %v", version, again, err)
		}
	}
	if got := fmt.Sprint(tree(t, dir)); got != "[ci ci/acme ci/acme/launchdarkly ci/acme/launchdarkly.v2 ci/acme/launchdarkly.v3]" {
		t.Errorf("got %s", got)
	}
	checkModes(t, filepath.Dir(dir))
}

func checkModes(t *testing.T, dir string) {
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

func TestVersions(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, existing string
		want           int
	}{
		{"first", "", 1},
		{"after one", "k", 2},
		{"after a gap", "k k.v2 k.v5", 6},
		{"old ones removed", "k.v3", 4},
		{"not versions", "k.v1 k.v0 k.v02 k.vx k.v k.v2x k.v-3 k.txt k2 kk.v7", 1},
		{"beyond the last version", "k k.v1000000000 k.v99999999999999999999", 2},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir := private(t)
			for _, name := range strings.Fields(tt.existing) {
				put(t, filepath.Join(dir, name), "old "+name)
			}
			got, err := newFile(t, dir).Deliver(t.Context(), parse(t, "k"), secret.New(canary), successor)
			if err != nil || got.Version != tt.want {
				t.Fatalf("got version %d, %v, want %d", got.Version, err, tt.want)
			}
			for _, name := range strings.Fields(tt.existing) {
				if content, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(content) != "old "+name {
					t.Errorf("%s was changed: %v", name, err)
				}
			}
		})
	}
}

// Each case is refused by Check and by Deliver alike, and changes nothing.
func TestRefused(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, key, wants string
		make             func(t *testing.T, dir, outside string)
	}{
		{"configured directory is a link", "k", "symbolic link", func(t *testing.T, dir, outside string) {
			if err := os.Remove(dir); err != nil {
				t.Fatal(err)
			}
			link(t, outside, dir)
		}},
		{"configured directory is a file", "k", "not a directory", func(t *testing.T, dir, _ string) {
			if err := os.Remove(dir); err != nil {
				t.Fatal(err)
			}
			put(t, dir, "")
		}},
		{"configured directory is open to others", "k", "mode 0750 and must have 0700: run chmod 700", func(t *testing.T, dir, _ string) {
			if err := os.Chmod(dir, 0o750); err != nil {
				t.Fatal(err)
			}
		}},
		{"first segment is a link outside", "a/b/k", "symbolic link", func(t *testing.T, dir, outside string) { link(t, outside, filepath.Join(dir, "a")) }},
		{"first segment is a link inside", "a/b/k", "symbolic link", func(t *testing.T, dir, _ string) {
			mkdir(t, filepath.Join(dir, "real"))
			link(t, "real", filepath.Join(dir, "a"))
		}},
		{"second segment is a link", "a/b/k", "symbolic link", func(t *testing.T, dir, outside string) {
			mkdir(t, filepath.Join(dir, "a"))
			link(t, outside, filepath.Join(dir, "a", "b"))
		}},
		{"segment is a dangling link", "a/k", "symbolic link", func(t *testing.T, dir, outside string) {
			link(t, filepath.Join(outside, "none"), filepath.Join(dir, "a"))
		}},
		{"segment is a file", "a/k", "not a directory", func(t *testing.T, dir, _ string) { put(t, filepath.Join(dir, "a"), "delivered") }},
		{"segment is open to others", "a/k", "mode 0755", func(t *testing.T, dir, _ string) {
			mkdir(t, filepath.Join(dir, "a"))
			if err := os.Chmod(filepath.Join(dir, "a"), 0o755); err != nil {
				t.Fatal(err)
			}
		}},
		{"key is a link", "k", "a symbolic link", func(t *testing.T, dir, outside string) {
			link(t, filepath.Join(outside, "target"), filepath.Join(dir, "k"))
		}},
		{"key is a directory", "k", "a directory", func(t *testing.T, dir, _ string) { mkdir(t, filepath.Join(dir, "k")) }},
		{"key ends as a version", "k.v2", "-v2 instead of .v2", func(*testing.T, string, string) {}},
		{"key ends as version 1", "a/k.v1", `ends in ".v1"`, func(*testing.T, string, string) {}},
		{"segment ends as a version", "k.v2/a", `ends in ".v2"`, func(*testing.T, string, string) {}},
		{"last version is taken", "k", "the last", func(t *testing.T, dir, _ string) { put(t, filepath.Join(dir, "k.v999999999"), "") }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if runtime.GOOS == "windows" && strings.Contains(tt.wants, "mode") {
				t.Skip("no Unix modes here")
			}
			dir, outside := private(t), t.TempDir()
			tt.make(t, dir, outside)
			before := tree(t, filepath.Dir(dir))
			f, key := newFile(t, dir), parse(t, tt.key)
			_, deliverErr := f.Deliver(t.Context(), key, secret.New(canary), successor)
			for _, err := range []error{f.Check(t.Context(), key, successor), deliverErr} {
				if err == nil || !strings.Contains(err.Error(), tt.wants) {
					t.Fatalf("got %v, want %q", err, tt.wants)
				}
				if !strings.HasPrefix(err.Error(), "sink files: ") || strings.Contains(err.Error(), canary) {
					t.Errorf("the error must name the sink and not the secret: %v", err)
				}
			}
			if after := tree(t, filepath.Dir(dir)); !slices.Equal(before, after) {
				t.Errorf("changed from %v to %v", before, after)
			}
			if got := tree(t, outside); len(got) != 0 {
				t.Errorf("written outside: %v", got)
			}
		})
	}
}

func TestALinkInPlaceOfAVersionIsPassedOver(t *testing.T) {
	t.Parallel()
	dir, outside := private(t), t.TempDir()
	put(t, filepath.Join(dir, "k"), "old")
	link(t, filepath.Join(outside, "target"), filepath.Join(dir, "k.v2"))
	got, err := newFile(t, dir).Deliver(t.Context(), parse(t, "k"), secret.New(canary), successor)
	if err != nil || got.Version != 3 {
		t.Errorf("got %+v, %v", got, err)
	}
	if got := tree(t, outside); len(got) != 0 {
		t.Errorf("written through the link: %v", got)
	}
}

func TestDeliverRefusesSecrets(t *testing.T) {
	t.Parallel()
	dir := private(t)
	for name, s := range map[string]secret.Secret{"empty": {}, "too large": secret.New(strings.Repeat("x", sink.MaxSecret+1))} {
		if _, err := newFile(t, dir).Deliver(t.Context(), parse(t, "k"), s, successor); err == nil {
			t.Errorf("%s: must be refused", name)
		}
	}
	if _, err := newFile(t, dir).Deliver(t.Context(), sink.Key{}, secret.New(canary), successor); err == nil {
		t.Error("the zero Key must be refused")
	}
	if got := tree(t, dir); len(got) != 0 {
		t.Errorf("left behind: %v", got)
	}
	largest := secret.New(strings.Repeat("x", sink.MaxSecret))
	d, err := newFile(t, dir).Deliver(t.Context(), parse(t, "k"), largest, successor)
	if err != nil {
		t.Fatal(err)
	}
	if held, err := newFile(t, dir).Holds(t.Context(), d, largest.Digest()); !held || err != nil {
		t.Errorf("Holds gives %v, %v", held, err)
	}
}

func TestCancelled(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	dir := private(t)
	f, key := newFile(t, dir), parse(t, "a/k")
	_, deliverErr := f.Deliver(ctx, key, secret.New(canary), successor)
	_, holdsErr := f.Holds(ctx, sink.Delivery{Sink: "files", Key: "a/k", Version: 1}, [32]byte{})
	for _, err := range []error{f.Check(ctx, key, successor), deliverErr, holdsErr} {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	}
	if got := tree(t, dir); len(got) != 0 {
		t.Errorf("left behind: %v", got)
	}
}

func TestHolds(t *testing.T) {
	t.Parallel()
	digest := secret.New(canary).Digest()
	d := sink.Delivery{Sink: "files", Key: "a/k", Version: 2}
	tests := []struct {
		name     string
		delivery sink.Delivery
		want     bool
		wants    string
		make     func(t *testing.T, dir string)
	}{
		{"held", d, true, "", func(t *testing.T, dir string) { put(t, filepath.Join(dir, "a", "k.v2"), canary) }},
		{"path is not trusted", sink.Delivery{Sink: "files", Key: "a/k", Version: 2, Path: "/etc/passwd"}, true, "", func(t *testing.T, dir string) { put(t, filepath.Join(dir, "a", "k.v2"), canary) }},
		{"other content", d, false, "", func(t *testing.T, dir string) { put(t, filepath.Join(dir, "a", "k.v2"), canary+"\n") }},
		{"other version", d, false, "", func(t *testing.T, dir string) { put(t, filepath.Join(dir, "a", "k"), canary) }},
		{"too large", d, false, "", func(t *testing.T, dir string) {
			put(t, filepath.Join(dir, "a", "k.v2"), strings.Repeat("x", sink.MaxSecret+1))
		}},
		{"no file", d, false, "", func(*testing.T, string) {}},
		{"no directory", sink.Delivery{Sink: "files", Key: "b/k", Version: 1}, false, "", func(*testing.T, string) {}},
		{"link", d, false, "symbolic link", func(t *testing.T, dir string) {
			put(t, filepath.Join(dir, "a", "real"), canary)
			link(t, "real", filepath.Join(dir, "a", "k.v2"))
		}},
		{"directory", d, false, "not a regular file", func(t *testing.T, dir string) { mkdir(t, filepath.Join(dir, "a", "k.v2")) }},
		{"other sink", sink.Delivery{Sink: "vault", Key: "a/k", Version: 1}, false, "not one of this sink", func(*testing.T, string) {}},
		{"version 0", sink.Delivery{Sink: "files", Key: "a/k"}, false, "not one of this sink", func(*testing.T, string) {}},
		{"key that climbs", sink.Delivery{Sink: "files", Key: "../k", Version: 1}, false, "not valid", func(*testing.T, string) {}},
		{"no key", sink.Delivery{Sink: "files", Version: 1}, false, "not valid", func(*testing.T, string) {}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir := private(t)
			mkdir(t, filepath.Join(dir, "a"))
			tt.make(t, dir)
			got, err := newFile(t, dir).Holds(t.Context(), tt.delivery, digest)
			if got != tt.want || (err != nil) != (tt.wants != "") || (err != nil && !strings.Contains(err.Error(), tt.wants)) {
				t.Errorf("got %v, %v, want %v, %q", got, err, tt.want, tt.wants)
			}
		})
	}
	t.Run("no sink directory", func(t *testing.T) {
		t.Parallel()
		dir := filepath.Join(t.TempDir(), "none")
		if got, err := newFile(t, dir).Holds(t.Context(), d, digest); got || err != nil {
			t.Errorf("got %v, %v", got, err)
		}
		if _, err := os.Lstat(dir); !errors.Is(err, fs.ErrNotExist) {
			t.Error("Holds must not make anything")
		}
	})
}

func TestConcurrentDeliveries(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "secrets")
	key := parse(t, "ci/k")
	const writers = 24
	deliveries := make([]sink.Delivery, writers)
	value := func(i int) secret.Secret { return secret.New(fmt.Sprintf("%s-%d", canary, i)) }
	var wg sync.WaitGroup
	for i := range writers {
		wg.Go(func() {
			// A sink each, as if each were a process of its own.
			f := newFile(t, dir)
			if err := f.Check(context.Background(), key, successor); err != nil {
				t.Error(err)
			}
			d, err := f.Deliver(context.Background(), key, value(i), successor)
			if err != nil {
				t.Error(err)
			}
			deliveries[i] = d
		})
	}
	wg.Wait()
	seen := map[int]bool{}
	for i, d := range deliveries {
		if seen[d.Version] || d.Version < 1 || d.Version > writers {
			t.Errorf("version %d twice or out of range", d.Version)
		}
		seen[d.Version] = true
		if held, err := newFile(t, dir).Holds(t.Context(), d, value(i).Digest()); !held || err != nil {
			t.Errorf("delivery %d is lost: %v", i, err)
		}
	}
	if got := tree(t, dir); len(got) != writers+1 {
		t.Errorf("left behind: %v", got)
	}
}

func FuzzDeliver(f *testing.F) {
	for _, s := range []string{"k", "ci/launchdarkly", "a/../../k", "/etc/x", ".tokenreeve-x.tmp", "k.v2", "a/b/c/d", `..\k`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		key, err := sink.ParseKey(s)
		if err != nil {
			return
		}
		base := t.TempDir()
		file := newFile(t, filepath.Join(base, "secrets"))
		d, err := file.Deliver(t.Context(), key, secret.New(canary), successor)
		for _, path := range tree(t, base) {
			if path != "secrets" && !strings.HasPrefix(path, "secrets/") {
				t.Fatalf("%q was written outside: %s", s, path)
			}
		}
		if err != nil {
			return
		}
		if d.Path != filepath.Join(base, "secrets", filepath.FromSlash(s)) {
			t.Fatalf("%q went to %s", s, d.Path)
		}
		if held, err := file.Holds(t.Context(), d, secret.New(canary).Digest()); !held || err != nil {
			t.Fatalf("%q is not held: %v", s, err)
		}
	})
}
