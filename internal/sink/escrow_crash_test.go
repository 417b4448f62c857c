package sink_test

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/tokenreeve/tokenreeve/internal/secret"
	"github.com/tokenreeve/tokenreeve/internal/sink"
)

const (
	crashDir  = "TOKENREEVE_TEST_CRASH_DIR"
	crashMode = "TOKENREEVE_TEST_CRASH_MODE"
)

// child runs this test again in a process of its own. A line of its output that begins with ": " is a
// step.
type child struct {
	cmd   *exec.Cmd
	in    io.WriteCloser
	lines *bufio.Scanner
}

func spawn(t *testing.T, test, dir, mode string) *child {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^"+test+"$", "-test.count=1")
	cmd.Env = append(os.Environ(), crashDir+"="+dir, crashMode+"="+mode)
	in, inErr := cmd.StdinPipe()
	out, outErr := cmd.StdoutPipe()
	if inErr != nil || outErr != nil {
		t.Fatal(inErr, outErr)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c := &child{cmd, in, bufio.NewScanner(out)}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	return c
}

// next returns the child's next step.
func (c *child) next(t *testing.T) string {
	t.Helper()
	for c.lines.Scan() {
		if step, ok := strings.CutPrefix(c.lines.Text(), ": "); ok {
			return step
		}
		if strings.Contains(c.lines.Text(), "FAIL") {
			break
		}
	}
	t.Fatalf("the child ended: %v", c.lines.Err())
	return ""
}

func (c *child) goOn(t *testing.T) {
	t.Helper()
	if _, err := io.WriteString(c.in, "\n"); err != nil {
		t.Fatal(err)
	}
}

// kill is SIGKILL. It returns the steps that were still under way.
func (c *child) kill(t *testing.T) []string {
	t.Helper()
	if err := c.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	var steps []string
	for c.lines.Scan() {
		if step, ok := strings.CutPrefix(c.lines.Text(), ": "); ok {
			steps = append(steps, step)
		}
	}
	_ = c.cmd.Wait()
	return steps
}

// A process is killed at each boundary between mint, escrow, delivery and the end. From the escrow on
// the secret is in escrow or in its sink, and before that nowhere.
func TestCrashBetweenSteps(t *testing.T) {
	t.Parallel()
	if dir := os.Getenv(crashDir); dir != "" {
		stepByStep(t, dir)
		return
	}
	boundaries := []struct {
		name             string
		escrow, inEscrow bool // whether anything is kept; whether it is the escrow that keeps it
		inSink           bool
	}{
		{name: "minted"},
		{name: "escrowed", escrow: true, inEscrow: true},
		{name: "delivered", escrow: true, inEscrow: true, inSink: true},
		{name: "finished", escrow: true, inSink: true},
	}
	for i, b := range boundaries {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			dir := private(t)
			c := spawn(t, "TestCrashBetweenSteps", dir, "")
			for reached := range i + 1 {
				if got := c.next(t); got != boundaries[reached].name {
					t.Fatalf("got the step %s, want %s", got, boundaries[reached].name)
				}
				if reached < i {
					c.goOn(t)
				}
			}
			c.kill(t)
			state, secrets := filepath.Join(dir, "state"), filepath.Join(dir, "secrets")
			s, _, err := newEscrow(t, state).Get(t.Context(), operation)
			if got := err == nil && s.Expose() == canary; got != b.inEscrow {
				t.Errorf("in escrow: %v, want %v: %v", got, b.inEscrow, err)
			}
			delivery := sink.Delivery{Sink: "files", Key: "ci/k", Version: 1}
			if got, err := newFile(t, secrets).Holds(t.Context(), delivery, secret.New(canary).Digest()); got != b.inSink || err != nil {
				t.Errorf("in the sink: %v, want %v: %v", got, b.inSink, err)
			}
			nothingInClear(t, state)
			if !b.escrow {
				return
			}
			// Whoever comes next delivers once, wherever the first got to.
			again, err := newFile(t, secrets).Deliver(t.Context(), parse(t, "ci/k"), secret.New(canary), sink.Options{})
			if err != nil || again.Version != 1 {
				t.Errorf("got %+v, %v", again, err)
			}
		})
	}
}

func stepByStep(t *testing.T, dir string) {
	t.Helper()
	e, f := newEscrow(t, filepath.Join(dir, "state")), newFile(t, filepath.Join(dir, "secrets"))
	step := func(name string, err error) {
		if err != nil {
			t.Fatal(err)
		}
		fmt.Println(": " + name)
		_, _ = bufio.NewReaderSize(os.Stdin, 1).ReadString('\n')
	}
	step("minted", e.Check(t.Context()))
	step("escrowed", e.Put(t.Context(), operation, secret.New(canary), meta()))
	_, err := f.Deliver(t.Context(), parse(t, "ci/k"), secret.New(canary), sink.Options{})
	step("delivered", err)
	step("finished", e.Delete(t.Context(), operation))
}

// A process is killed somewhere within Put: what Put returned for is there, and nothing is half there.
func TestCrashWithinPut(t *testing.T) {
	t.Parallel()
	if dir := os.Getenv(crashDir); dir != "" {
		putForever(t, dir, os.Getenv(crashMode))
		return
	}
	for _, after := range []int{0, 1, 2, 5, 11} {
		t.Run(fmt.Sprint(after), func(t *testing.T) {
			t.Parallel()
			everywhere(t, func(t *testing.T, p place) { crashWithinPut(t, p, after) })
		})
	}
}

func crashWithinPut(t *testing.T, p place, after int) {
	t.Helper()
	dir := t.TempDir()
	if d, ok := p.(*database); ok {
		put(t, filepath.Join(dir, "dsn"), d.dsn)
		put(t, filepath.Join(dir, "keys"), d.keys)
	} else {
		dir = p.(*directory).state
	}
	// Two processes at once share the first use.
	children := []*child{spawn(t, "TestCrashWithinPut", dir, "a"), spawn(t, "TestCrashWithinPut", dir, "b")}
	var done []string
	for _, c := range children {
		for range after {
			done = append(done, c.next(t))
		}
	}
	for _, c := range children {
		done = append(done, c.kill(t)...)
	}
	for id, data := range p.all(t) {
		inClear(t, id, data)
	}
	entries, err := p.open(t).List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var kept []string
	for _, entry := range entries {
		if entry.Problem != nil {
			t.Errorf("%s: %v", entry.OperationID, entry.Problem)
		}
		kept = append(kept, entry.OperationID)
	}
	for _, id := range done {
		if !slices.Contains(kept, id) {
			t.Errorf("%s is lost", id)
		}
	}
}

func putForever(t *testing.T, dir, prefix string) {
	t.Helper()
	e := newEscrow(t, dir)
	if dsn, err := os.ReadFile(filepath.Join(dir, "dsn")); err == nil {
		e = (&database{dsn: string(dsn), keys: content(t, filepath.Join(dir, "keys"))}).open(t)
	}
	for i := 0; ; i++ {
		id := fmt.Sprintf("%s-%d", prefix, i)
		if err := e.Put(t.Context(), id, secret.New(canary), meta()); err != nil {
			t.Fatal(err)
		}
		fmt.Println(": " + id)
	}
}
