package trustedfile_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tokenreeve/tokenreeve/internal/trustedfile"
)

func write(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestRead(t *testing.T) {
	t.Parallel()
	path := write(t, strings.Repeat("x", 1024))
	data, err := trustedfile.Read(path, 1024)
	if err != nil || len(data) != 1024 {
		t.Errorf("Read = %d bytes, %v", len(data), err)
	}
	if _, err := trustedfile.Read(path, 1023); err == nil || !strings.Contains(err.Error(), "holds more than") {
		t.Errorf("a file over the limit: %v", err)
	}
	if _, err := trustedfile.Read(path+"-missing", 1024); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
	if _, err := trustedfile.Read(filepath.Dir(path), 1024); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("a directory: %v", err)
	}
}

func TestAbsolute(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	for path, want := range map[string]string{
		"~": home, "~/": home, "~/a/b": filepath.Join(home, "a", "b"), home + "/a~": home + "/a~",
	} {
		if got, err := trustedfile.Absolute(path, home); err != nil || got != want {
			t.Errorf("Absolute(%q) = %q, %v; want %q", path, got, err, want)
		}
	}
	for _, path := range []string{"", "a", "./a", "../a", "~root/a", "a/~"} {
		if got, err := trustedfile.Absolute(path, home); err == nil || got != "" {
			t.Errorf("Absolute(%q) = %q; want an error", path, got)
		}
	}
	if _, err := trustedfile.Absolute("~/a", ""); err == nil {
		t.Error("~ without a home directory gives no error")
	}
}
