package e2e_test

import (
	"fmt"
	"io"
	"os"
	"os/exec"
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
	control(t, typist, syscall.TIOCSPTLCK, unsafe.Pointer(&unlocked))
	control(t, typist, syscall.TIOCGPTN, unsafe.Pointer(&number))
	tty, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	return typist, tty
}

func control(t *testing.T, terminal *os.File, request uintptr, value unsafe.Pointer) {
	t.Helper()
	raw, err := terminal.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var failed syscall.Errno
	err = raw.Control(func(fd uintptr) {
		_, _, failed = syscall.Syscall(syscall.SYS_IOCTL, fd, request, uintptr(value))
	})
	if err != nil || failed != 0 {
		t.Fatalf("pseudo terminal: %v %v", err, failed)
	}
}

// seat is a process at a terminal of its own, whose standard input is empty.
type seat struct {
	*process
	typist *os.File
	screen *transcript // everything that the terminal shows
	tty    *os.File    // keeps the terminal while the process ends
	before uint32      // the terminal's modes before the process could change them
}

// sitDown runs the binary in a new session whose controlling terminal is a pseudo
// terminal.
func sitDown(t *testing.T, env []string, args ...string) *seat {
	t.Helper()
	typist, tty := terminal(t)
	t.Cleanup(func() { _ = tty.Close() })
	cmd := exec.Command(binary(t), args...)
	cmd.Env, cmd.Dir = env, t.TempDir()
	cmd.ExtraFiles = []*os.File{tty}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true, Ctty: 3}
	s := &seat{typist: typist, screen: newTranscript(), tty: tty}
	s.before = s.modes(t)
	s.process = launch(t, cmd)
	go func() { _, _ = io.Copy(s.screen, typist) }()
	return s
}

// reply waits for a question and types a line, or presses a control key.
func (s *seat) reply(t *testing.T, question, typed string) {
	t.Helper()
	s.screen.awaitText(t, question)
	if typed != "\x03" && typed != "\x04" {
		typed += "\n"
	}
	if _, err := io.WriteString(s.typist, typed); err != nil {
		t.Fatal(err)
	}
}

// modes are the local modes of the terminal: whether it echoes, and more.
func (s *seat) modes(t *testing.T) uint32 {
	t.Helper()
	var settings syscall.Termios
	control(t, s.tty, syscall.TCGETS, unsafe.Pointer(&settings))
	return settings.Lflag
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
