//go:build unix

package privatefile_test

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/tokenreeve/tokenreeve/internal/privatefile"
)

func TestReadRefusesAPipe(t *testing.T) {
	t.Parallel()
	path := filepath.Join(private(t), "pipe")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Skipf("no pipes here: %v", err)
	}
	if _, err := privatefile.Read(path, 5); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("got %v", err)
	}
}

func TestOtherOwner(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root can give files away")
	}
	dir := private(t)
	file := filepath.Join(dir, "f")
	put(t, file, "12345", 0o600)
	for _, path := range []string{file, dir} {
		if err := os.Chown(path, 12345, 12345); err != nil {
			t.Skipf("cannot give files away: %v", err)
		}
	}
	if _, err := privatefile.Read(file, 5); err == nil || !strings.Contains(err.Error(), "another user") {
		t.Errorf("file: got %v", err)
	}
	if err := privatefile.EnsureDir(dir); err == nil || !strings.Contains(err.Error(), "another user") {
		t.Errorf("directory: got %v", err)
	}
}
