package privatefile_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tokenreeve/tokenreeve/internal/privatefile"
)

// private returns a new private directory.
func private(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "private")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return dir
}

func put(t *testing.T, path, content string, mode fs.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

func link(t *testing.T, target, path string) {
	t.Helper()
	if err := os.Symlink(target, path); err != nil {
		t.Skipf("no symbolic links here: %v", err)
	}
}

func names(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func skipWithoutModes(t *testing.T) {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("no Unix modes here")
	}
}

func TestEnsureDir(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, wants string
		modes       bool
		make        func(t *testing.T, base string) string
	}{
		{"missing", "", false, func(_ *testing.T, base string) string { return filepath.Join(base, "new") }},
		{"missing with parents", "", false, func(_ *testing.T, base string) string { return filepath.Join(base, "a", "b", "c") }},
		{"private", "", false, func(_ *testing.T, base string) string { return base }},
		{"trailing slash", "", false, func(_ *testing.T, base string) string { return base + "/" }},
		{"below a link", "", false, func(t *testing.T, base string) string {
			link(t, base, filepath.Join(base, "l"))
			return filepath.Join(base, "l", "new")
		}},
		{"empty path", "empty", false, func(*testing.T, string) string { return "" }},
		{"link", "symbolic link", false, func(t *testing.T, base string) string {
			put := filepath.Join(base, "real")
			if err := os.Mkdir(put, 0o700); err != nil {
				t.Fatal(err)
			}
			link(t, put, filepath.Join(base, "l"))
			return filepath.Join(base, "l")
		}},
		{"link with trailing slash", "symbolic link", false, func(t *testing.T, base string) string {
			link(t, base, filepath.Join(base, "l"))
			return filepath.Join(base, "l") + "/"
		}},
		{"dangling link", "symbolic link", false, func(t *testing.T, base string) string {
			link(t, filepath.Join(base, "nowhere"), filepath.Join(base, "l"))
			return filepath.Join(base, "l")
		}},
		{"parent is a dangling link", "cannot make", false, func(t *testing.T, base string) string {
			link(t, filepath.Join(base, "nowhere"), filepath.Join(base, "l"))
			return filepath.Join(base, "l", "new")
		}},
		{"file", "not a directory", false, func(t *testing.T, base string) string {
			put(t, filepath.Join(base, "f"), "", 0o600)
			return filepath.Join(base, "f")
		}},
		{"parent is a file", "cannot make", false, func(t *testing.T, base string) string {
			put(t, filepath.Join(base, "f"), "", 0o600)
			return filepath.Join(base, "f", "new")
		}},
		{"open to others", "mode 0755 and must have 0700: run chmod 700 ", true, func(t *testing.T, base string) string {
			if err := os.Chmod(base, 0o755); err != nil {
				t.Fatal(err)
			}
			return base
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if tt.modes {
				skipWithoutModes(t)
			}
			path := tt.make(t, private(t))
			err := privatefile.EnsureDir(path)
			if tt.wants != "" {
				if err == nil || !strings.Contains(err.Error(), tt.wants) {
					t.Fatalf("got %v, want %q", err, tt.wants)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			info, err := os.Lstat(filepath.Clean(path))
			if err != nil || !info.IsDir() {
				t.Fatalf("no directory: %v", err)
			}
			if runtime.GOOS != "windows" && info.Mode().Perm() != 0o700 {
				t.Errorf("mode %04o", info.Mode().Perm())
			}
		})
	}
}

func TestRead(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, wants string
		is          error
		make        func(t *testing.T, path string)
	}{
		{"private", "", nil, func(t *testing.T, path string) { put(t, path, "12345", 0o600) }},
		{"read-only", "", nil, func(t *testing.T, path string) { put(t, path, "12345", 0o400) }},
		{"missing", "", fs.ErrNotExist, func(*testing.T, string) {}},
		{"too large", "more than 5 bytes", privatefile.ErrTooLarge, func(t *testing.T, path string) { put(t, path, "123456", 0o600) }},
		{"open to the group", "mode 0640 and must have 0600: run chmod 600 ", nil, func(t *testing.T, path string) { put(t, path, "12345", 0o640) }},
		{"open to others", "mode 0604", nil, func(t *testing.T, path string) { put(t, path, "12345", 0o604) }},
		{"link", "symbolic link", nil, func(t *testing.T, path string) {
			put(t, path+".real", "12345", 0o600)
			link(t, path+".real", path)
		}},
		{"link inside the directory", "symbolic link", nil, func(t *testing.T, path string) {
			put(t, path+".real", "12345", 0o600)
			link(t, filepath.Base(path)+".real", path)
		}},
		{"directory", "not a regular file", nil, func(t *testing.T, path string) {
			if err := os.Mkdir(path, 0o700); err != nil {
				t.Fatal(err)
			}
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if strings.HasPrefix(tt.wants, "mode") {
				skipWithoutModes(t)
			}
			path := filepath.Join(private(t), "f")
			tt.make(t, path)
			data, err := privatefile.Read(path, 5)
			if tt.wants == "" && tt.is == nil {
				if err != nil || string(data) != "12345" {
					t.Fatalf("got %q, %v", data, err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tt.wants) || (tt.is != nil && !errors.Is(err, tt.is)) {
				t.Fatalf("got %v, want %q, %v", err, tt.wants, tt.is)
			}
			if strings.Contains(err.Error(), "12345") {
				t.Errorf("the error shows the content: %v", err)
			}
		})
	}
}

func TestWriteNew(t *testing.T) {
	t.Parallel()
	dir := private(t)
	path := filepath.Join(dir, "f")
	if err := privatefile.WriteNew(path, []byte("first\x00")); err != nil {
		t.Fatal(err)
	}
	if err := privatefile.WriteNew(path, []byte("second")); !errors.Is(err, fs.ErrExist) {
		t.Fatalf("got %v, want fs.ErrExist", err)
	}
	data, err := privatefile.Read(path, 100)
	if err != nil || string(data) != "first\x00" {
		t.Errorf("got %q, %v", data, err)
	}
	if got := names(t, dir); len(got) != 1 {
		t.Errorf("left behind: %v", got)
	}
}

func TestWriteNewNeverFollowsALink(t *testing.T) {
	t.Parallel()
	dir := private(t)
	for _, target := range []string{filepath.Join(dir, "outside"), "inside"} {
		path := filepath.Join(dir, "link-"+filepath.Base(target))
		link(t, target, path)
		if err := privatefile.WriteNew(path, []byte("x")); !errors.Is(err, fs.ErrExist) {
			t.Errorf("got %v, want fs.ErrExist", err)
		}
	}
	if got := names(t, dir); len(got) != 2 {
		t.Errorf("something was written: %v", got)
	}
}

func TestWriteNewFails(t *testing.T) {
	t.Parallel()
	dir := private(t)
	put(t, filepath.Join(dir, "file"), "", 0o600)
	for name, path := range map[string]string{
		"no directory":        filepath.Join(dir, "none", "f"),
		"directory is a file": filepath.Join(dir, "file", "f"),
		"hidden name":         filepath.Join(dir, ".f"),
		"root":                "/",
		"parent":              filepath.Join(dir) + "/..",
	} {
		if err := privatefile.WriteNew(path, []byte("content-canary")); err == nil || strings.Contains(err.Error(), "canary") {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if got := names(t, dir); len(got) != 1 {
		t.Errorf("left behind: %v", got)
	}
}

func TestWriteNewFrom(t *testing.T) {
	t.Parallel()
	dir := private(t)
	path := filepath.Join(dir, "export")
	half := func(w io.Writer) error {
		_, err := io.WriteString(w, "half")
		return err
	}
	broken := errors.New("broken")
	err := privatefile.WriteNewFrom(path, func(w io.Writer) error { return errors.Join(half(w), broken) })
	if left := names(t, dir); !errors.Is(err, broken) || len(left) != 0 {
		t.Errorf("a failed write left %v behind: %v", left, err)
	}
	err = privatefile.WriteNewFrom(path, func(w io.Writer) error {
		if left := names(t, dir); slices.Contains(left, "export") {
			t.Error("the file is there before it is whole")
		}
		return errors.Join(half(w), half(w))
	})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := privatefile.Read(path, 100); err != nil || string(got) != "halfhalf" {
		t.Errorf("read %q, %v", got, err)
	}
	put(t, filepath.Join(dir, "other"), "kept", 0o600)
	link(t, "other", filepath.Join(dir, "link"))
	for _, name := range []string{"export", "other", "link"} {
		err := privatefile.WriteNewFrom(filepath.Join(dir, name), func(io.Writer) error {
			t.Errorf("%s: something was written", name)
			return nil
		})
		if !errors.Is(err, fs.ErrExist) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if got := names(t, dir); !slices.Equal(got, []string{"export", "link", "other"}) {
		t.Errorf("names: %v", got)
	}
	for _, path := range []string{filepath.Join(dir, ".hidden"), filepath.Join(dir, "missing", "export")} {
		if err := privatefile.WriteNewFrom(path, half); err == nil || errors.Is(err, fs.ErrExist) {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func TestReadOrCreateKey(t *testing.T) {
	t.Parallel()
	path := filepath.Join(private(t), "key")
	const callers = 16
	keys := make([][]byte, callers)
	var wg sync.WaitGroup
	for i := range callers {
		wg.Go(func() {
			key, err := privatefile.ReadOrCreateKey(path, 32)
			if err != nil {
				t.Error(err)
			}
			keys[i] = key
		})
	}
	wg.Wait()
	for _, key := range keys {
		if len(key) != 32 || !bytes.Equal(key, keys[0]) || bytes.Equal(key, make([]byte, 32)) {
			t.Fatal("all callers must get the same random key")
		}
	}
	if got := names(t, filepath.Dir(path)); len(got) != 1 {
		t.Errorf("left behind: %v", got)
	}
}

func TestReadOrCreateKeyFails(t *testing.T) {
	t.Parallel()
	for name, content := range map[string]string{"short": "abc", "empty": "", "long": strings.Repeat("k", 33)} {
		path := filepath.Join(private(t), "key")
		put(t, path, content, 0o600)
		_, err := privatefile.ReadOrCreateKey(path, 32)
		if err == nil || !strings.Contains(err.Error(), "exactly 32 bytes") {
			t.Errorf("%s: got %v", name, err)
		}
		if data, _ := os.ReadFile(path); string(data) != content {
			t.Errorf("%s: the file was changed", name)
		}
	}
	if _, err := privatefile.ReadOrCreateKey(filepath.Join(private(t), "key"), 8); err == nil {
		t.Error("a short key must be refused")
	}
	if _, err := privatefile.ReadOrCreateKey(filepath.Join(private(t), "none", "key"), 32); err == nil {
		t.Error("a missing directory must be an error")
	}
}

func open(t *testing.T, path string) *privatefile.Dir {
	t.Helper()
	d, err := privatefile.OpenDir(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	return d
}

func TestWriteVersion(t *testing.T) {
	t.Parallel()
	dir := private(t)
	d := open(t, dir)
	naming := func(v int) string { return fmt.Sprintf("f%d", v) }
	put(t, filepath.Join(dir, "f2"), "taken", 0o600)
	for _, want := range []int{1, 3} {
		got, err := d.WriteVersion(1, naming, 3, []byte("x"))
		if err != nil || got != want {
			t.Fatalf("got %d, %v, want %d", got, err, want)
		}
	}
	if _, err := d.WriteVersion(1, naming, 3, []byte("x")); !errors.Is(err, fs.ErrExist) {
		t.Errorf("got %v, want fs.ErrExist", err)
	}
	if got := names(t, dir); len(got) != 3 {
		t.Errorf("left behind: %v", got)
	}
}

func TestProbe(t *testing.T) {
	t.Parallel()
	dir := private(t)
	d := open(t, dir)
	stale, fresh := filepath.Join(dir, ".tokenreeve-OLD.tmp"), filepath.Join(dir, ".tokenreeve-NEW.tmp")
	put(t, stale, "x", 0o600)
	put(t, fresh, "x", 0o600)
	put(t, filepath.Join(dir, "old"), "x", 0o600)
	past := time.Now().Add(-2 * time.Hour)
	for _, path := range []string{stale, filepath.Join(dir, "old")} {
		if err := os.Chtimes(path, past, past); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.Probe(); err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(names(t, dir)); got != "[.tokenreeve-NEW.tmp old]" {
		t.Errorf("got %s", got)
	}
}

func TestSub(t *testing.T) {
	t.Parallel()
	dir := private(t)
	d := open(t, dir)
	if _, err := d.Sub("a"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, want fs.ErrNotExist", err)
	}
	for range 2 {
		sub, err := d.EnsureSub("a")
		if err != nil {
			t.Fatal(err)
		}
		if err := sub.Close(); err != nil {
			t.Fatal(err)
		}
	}
	link(t, "a", filepath.Join(dir, "inside"))
	link(t, t.TempDir(), filepath.Join(dir, "outside"))
	put(t, filepath.Join(dir, "file"), "", 0o600)
	for _, name := range []string{"inside", "outside", "file", "", ".", "..", "a/b", ".hidden", `a\b`} {
		for _, enter := range []func(string) (*privatefile.Dir, error){d.Sub, d.EnsureSub} {
			if _, err := enter(name); err == nil {
				t.Errorf("%q must be refused", name)
			}
		}
	}
}
