//go:build unix

package sink_test

import (
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/tokenreeve/tokenreeve/internal/secret"
	"github.com/tokenreeve/tokenreeve/internal/sink"
)

const fullDiskDir = "TOKENREEVE_TEST_FULL_DISK_DIR"

// A limit on the size of files stands in for a full disk. It holds for a whole process, so that the
// test runs itself again in one of its own.
func TestFailedWriteLeavesNothing(t *testing.T) {
	if dir := os.Getenv(fullDiskDir); dir != "" {
		deliverToFullDisk(t, dir)
		return
	}
	dir := private(t)
	cmd := exec.Command(os.Args[0], "-test.run=^TestFailedWriteLeavesNothing$", "-test.count=1")
	cmd.Env = append(os.Environ(), fullDiskDir+"="+dir)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if got := tree(t, dir); len(got) != 0 {
		t.Errorf("left behind: %v", got)
	}
}

func deliverToFullDisk(t *testing.T, dir string) {
	t.Helper()
	signal.Ignore(syscall.SIGXFSZ)
	var before syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &before); err != nil {
		t.Skipf("no limit on the size of files here: %v", err)
	}
	limit := before
	limit.Cur = 1024
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		t.Skipf("no limit on the size of files here: %v", err)
	}
	// What the test binary writes at its end, such as coverage, needs the room.
	defer func() { _ = syscall.Setrlimit(syscall.RLIMIT_FSIZE, &before) }()
	wantError(t, newEscrow(t, filepath.Join(t.TempDir(), "state")).Check(t.Context()), "escrow: cannot write a file in ")
	f, key := newFile(t, dir), parse(t, "k")
	_, deliverErr := f.Deliver(t.Context(), key, secret.New(strings.Repeat(canary, 1000)), successor)
	for _, err := range []error{f.Check(t.Context(), key, successor), deliverErr} {
		if err == nil || !strings.Contains(err.Error(), "sink files: cannot write a file in "+dir) || strings.Contains(err.Error(), canary) {
			t.Errorf("got %v", err)
		}
	}
}

func TestDirectoryThatCannotBeWritten(t *testing.T) {
	t.Parallel()
	if os.Geteuid() == 0 {
		t.Skip("root may write everywhere")
	}
	dir := private(t)
	if err := os.Chmod(dir, 0o500); err != nil {
		t.Fatal(err)
	}
	for _, s := range []string{"k", "a/k"} {
		err := newFile(t, dir).Check(t.Context(), parse(t, s), successor)
		if err == nil || !strings.Contains(err.Error(), "permission denied") {
			t.Errorf("%s: got %v", s, err)
		}
	}
}

func TestDirectoryOfAnotherUser(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root can give files away")
	}
	for _, given := range []string{".", "a"} {
		dir := private(t)
		mkdir(t, filepath.Join(dir, "a"))
		if err := os.Chown(filepath.Join(dir, given), 12345, 12345); err != nil {
			t.Skipf("cannot give files away: %v", err)
		}
		err := newFile(t, dir).Check(t.Context(), parse(t, "a/k"), successor)
		if err == nil || !strings.Contains(err.Error(), "another user") {
			t.Errorf("%s: got %v", given, err)
		}
	}
}

func TestKeyIsAPipe(t *testing.T) {
	t.Parallel()
	dir := private(t)
	if err := syscall.Mkfifo(filepath.Join(dir, "k"), 0o600); err != nil {
		t.Skipf("no pipes here: %v", err)
	}
	_, err := newFile(t, dir).Deliver(t.Context(), parse(t, "k"), secret.New(canary), successor)
	if err == nil || !strings.Contains(err.Error(), "a special file") {
		t.Errorf("got %v", err)
	}
	d := sink.Delivery{Sink: "files", Key: "k", Version: 1}
	if held, err := newFile(t, dir).Holds(t.Context(), d, [32]byte{}); held || err == nil {
		t.Errorf("got %v, %v", held, err)
	}
}
