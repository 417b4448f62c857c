package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"

	"golang.org/x/term"

	"github.com/tokenreeve/tokenreeve/internal/secret"
)

// errInterrupted ends what a person was asked.
var errInterrupted = errors.New("interrupted")

// terminal is the one that the process belongs to, whatever its standard streams are: what a program
// pipes into them answers nothing here.
type terminal struct {
	in, out *os.File
	screen  io.Writer // out, for text from anywhere
	lines   *bufio.Reader
	keys    *term.Terminal
}

// openTerminal opens the terminal for a command. The caller calls close.
func openTerminal(command string) (*terminal, error) {
	t := &terminal{}
	input, output := "/dev/tty", "/dev/tty"
	if runtime.GOOS == "windows" {
		input, output = "CONIN$", "CONOUT$"
	}
	var err error
	if t.in, err = os.OpenFile(input, os.O_RDWR, 0); err != nil {
		return nil, noTerminal(command, err)
	}
	if t.out, err = os.OpenFile(output, os.O_RDWR, 0); err != nil {
		return nil, errors.Join(noTerminal(command, err), t.in.Close())
	}
	t.screen = plain(t.out)
	t.lines = bufio.NewReader(t.in)
	t.keys = term.NewTerminal(struct {
		io.Reader
		io.Writer
	}{t.in, t.out}, "")
	return t, nil
}

func noTerminal(command string, err error) error {
	return fmt.Errorf("%s needs a terminal: %w; run it yourself in one, not from a program", command, err)
}

func (t *terminal) close() {
	_ = t.in.Close()
	_ = t.out.Close()
}

func (t *terminal) say(format string, args ...any) { fmt.Fprintf(t.screen, format+"\n", args...) }

// line asks for a line.
func (t *terminal) line(ctx context.Context, prompt string) (string, error) {
	fmt.Fprint(t.screen, prompt)
	line, err := t.await(ctx, func() (string, error) { return t.lines.ReadString('\n') })
	t.endLine(err)
	return strings.TrimSpace(line), err
}

// passphrase asks for a line that is not shown. The keys that make signals make none meanwhile, and
// whatever ends the asking leaves the terminal as it was.
func (t *terminal) passphrase(ctx context.Context, prompt string) (secret.Secret, error) {
	fd := int(t.in.Fd())
	before, err := term.MakeRaw(fd)
	if err != nil {
		return secret.Secret{}, fmt.Errorf("the terminal shows what is typed, and that could not be changed: %w", err)
	}
	typed, err := t.await(ctx, func() (string, error) { return t.keys.ReadPassword(prompt) })
	err = errors.Join(err, term.Restore(fd, before))
	t.endLine(err)
	return secret.New(typed), err
}

// endLine begins a new line after a question that nobody answered.
func (t *terminal) endLine(err error) {
	if err != nil {
		t.say("")
	}
}

// await reads until ctx ends. A terminal's read cannot be interrupted: one that is given up ends with
// the process.
func (t *terminal) await(ctx context.Context, read func() (string, error)) (string, error) {
	type reading struct {
		text string
		err  error
	}
	done := make(chan reading, 1)
	go func() {
		text, err := read()
		done <- reading{text, err}
	}()
	select {
	case r := <-done:
		if ctx.Err() != nil || errors.Is(r.err, io.EOF) {
			return "", errInterrupted
		}
		return r.text, r.err
	case <-ctx.Done():
		return "", errInterrupted
	}
}
