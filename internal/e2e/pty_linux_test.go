package e2e_test

import (
	"fmt"
	"io"
	"os"
	"syscall"
	"testing"
	"unsafe"
)

// terminal opens a pseudo terminal: what is typed into typist arrives at tty.
func terminal(t *testing.T) (typist, tty *os.File) {
	t.Helper()
	typist, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = typist.Close() })
	var number, unlocked int32
	control(t, typist, syscall.TIOCSPTLCK, &unlocked)
	control(t, typist, syscall.TIOCGPTN, &number)
	tty, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	return typist, tty
}

func control(t *testing.T, terminal *os.File, request uintptr, value *int32) {
	t.Helper()
	raw, err := terminal.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var failed syscall.Errno
	err = raw.Control(func(fd uintptr) {
		_, _, failed = syscall.Syscall(syscall.SYS_IOCTL, fd, request, uintptr(unsafe.Pointer(value)))
	})
	if err != nil || failed != 0 {
		t.Fatalf("pseudo terminal: %v %v", err, failed)
	}
}

// At a terminal the code that the preview shows acts, typed there and nowhere
// else. Anything else changes nothing.
func TestCallAtATerminal(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		typed func(code string) string // nil: an interrupt
		code  int
		ended bool
	}{
		"the code":     {func(code string) string { return code + "\n" }, 0, true},
		"another code": {func(code string) string { return code + "x\n" }, 1, false},
		"yes":          {func(string) string { return "yes\n" }, 1, false},
		"nothing":      {func(string) string { return "\n" }, 1, false},
		"end of file":  {func(string) string { return "\x04" }, 1, false},
		"an interrupt": {nil, 1, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := newVendors(t)
			ids := v.mailtrapIDs(1)
			typist, tty := terminal(t)
			p := startProcess(t, t.TempDir(), tty, v.env(), "call", "revoke_token", "connection=mailtrap", "token_id="+ids[0])
			p.err.awaitText(t, "Type the confirm code")
			code := confirmCode(t, p.out)
			if test.typed == nil {
				p.signal(t, os.Interrupt)
			} else if _, err := io.WriteString(typist, test.typed(code)); err != nil {
				t.Fatal(err)
			}
			p.exit(t, test.code)
			want := []string{}
			if test.ended {
				want = ids
			}
			v.checkGone(t, ids, want)
			if contains(p.err.String(), "nothing was changed") == test.ended {
				t.Errorf("stderr says %q", p.err)
			}
			plain(t, "stdout", p.out.String())
		})
	}
}
