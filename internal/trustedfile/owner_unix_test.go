//go:build unix

package trustedfile_test

import (
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/tokenreeve/tokenreeve/internal/trustedfile"
)

func TestMode(t *testing.T) {
	t.Parallel()
	for mode, ok := range map[os.FileMode]bool{0o400: true, 0o444: true, 0o755: true, 0o620: false, 0o602: false, 0o664: false} {
		path := write(t, "x")
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		if _, err := trustedfile.Read(path, 10); (err == nil) != ok {
			t.Errorf("mode %04o: %v", mode, err)
		}
	}
}

func TestOwner(t *testing.T) {
	t.Parallel()
	path := write(t, "x")
	if err := os.Chown(path, 12345, -1); err != nil {
		t.Skip("only root can give a file away")
	}
	if _, err := trustedfile.Read(path, 10); err == nil || !strings.Contains(err.Error(), "belongs to another user") {
		t.Errorf("another's file: %v", err)
	}
}

// TestPipe would hang if opening a pipe waited for its writer.
func TestPipe(t *testing.T) {
	t.Parallel()
	path := write(t, "x") + "-pipe"
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Skip(err)
	}
	if _, err := trustedfile.Read(path, 10); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("a pipe: %v", err)
	}
}
