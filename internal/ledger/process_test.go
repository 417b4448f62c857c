package ledger_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/tokenreeve/tokenreeve/internal/ledger"
)

// helperEnv makes the test binary a helper process: what it does, and its arguments in JSON.
const helperEnv = "TOKENREEVE_LEDGER_TEST_HELPER"

type order struct {
	Do   string // append, begin, claim, take, fill
	Path string
	Name string // of the helper
	ID   string // of an operation, a token, or a code
	Ages bool   // the helper's clock is an hour ahead
}

func TestMain(m *testing.M) {
	if text := os.Getenv(helperEnv); text != "" {
		var o order
		if err := json.Unmarshal([]byte(text), &o); err != nil {
			panic(err)
		}
		o.run()
		return
	}
	code := m.Run()
	if err := databases.Close(); err != nil {
		panic(err)
	}
	os.Exit(code)
}

// run does what was ordered, once a line has come in, and lives until its input ends.
func (o order) run() {
	ctx := context.Background()
	options := ledger.Options{Lease: time.Minute, Patience: time.Minute}
	if o.Ages {
		options.Now = func() time.Time { return time.Now().Add(time.Hour) }
	}
	l, _ := connect(o.Path, options)
	fmt.Println("ready")
	in := bufio.NewReader(os.Stdin)
	if _, err := in.ReadString('\n'); err != nil {
		return
	}
	if o.Do == "append" {
		o.append(ctx, l)
		return
	}
	fmt.Println(answer(o.once(ctx, l)))
	_, _ = io.Copy(io.Discard, in)
}

func (o order) once(ctx context.Context, l *ledger.Ledger) error {
	switch o.Do {
	case "begin":
		_, err := l.Begin(ctx, "", intent(o.ID))
		return err
	case "claim":
		_, err := l.Claim(ctx, o.ID)
		return err
	case "take":
		check, err := l.TakePreview(ctx, o.ID, "local", "revoke_token", json.RawMessage(previewed))
		if err == nil && check.Verdict != ledger.Accepted {
			err = fmt.Errorf("verdict %d", check.Verdict)
		}
		return err
	case "fill":
		return fillUp(ctx, l)
	}
	return errors.New("unknown order")
}

func answer(err error) string {
	if err == nil {
		return "ok"
	}
	return strings.ReplaceAll(err.Error(), "\n", " ")
}

// append makes operations until it is killed, and says what it knows to be on record.
func (o order) append(ctx context.Context, l *ledger.Ledger) {
	for n := 0; ; n++ {
		id, err := ledger.NewID()
		fmt.Println("begins", id)
		s, begun := l.Begin(ctx, id, intent(fmt.Sprint(o.Name, n)))
		if err = errors.Join(err, begun); err == nil {
			fmt.Println("begun", id)
			err = s.Step(ctx, "sent", ledger.Details{VendorRequestID: id})
		}
		if err == nil {
			fmt.Println("sent", id)
			err = s.Finish(ctx, ledger.Result{Outcome: ledger.Done})
		}
		if err != nil {
			fmt.Println("error", answer(err))
			return
		}
		fmt.Println("done", id)
	}
}

type helper struct {
	t     *testing.T
	cmd   *exec.Cmd
	in    io.WriteCloser
	lines *bufio.Scanner
}

func start(t *testing.T, o order) *helper {
	t.Helper()
	text, err := json.Marshal(o)
	must(t, err)
	h := &helper{t: t, cmd: exec.CommandContext(t.Context(), os.Args[0])}
	h.cmd.Env = append(os.Environ(), helperEnv+"="+string(text))
	h.cmd.Stderr = t.Output()
	h.in, err = h.cmd.StdinPipe()
	must(t, err)
	out, err := h.cmd.StdoutPipe()
	must(t, err)
	must(t, h.cmd.Start())
	t.Cleanup(h.kill)
	h.lines = bufio.NewScanner(out)
	if line := h.line(); line != "ready" {
		t.Fatalf("helper: %s", line)
	}
	return h
}

func (h *helper) line() string {
	h.lines.Scan()
	return h.lines.Text()
}

func (h *helper) release() {
	h.t.Helper()
	_, err := io.WriteString(h.in, "go\n")
	must(h.t, err)
}

func (h *helper) kill() {
	_ = h.cmd.Process.Kill()
	_ = h.cmd.Wait()
}

// race gives one order to several processes and returns their answers; they still live then.
func race(t *testing.T, o order) (won []*helper, others []string) {
	t.Helper()
	helpers := make([]*helper, 4)
	for i := range helpers {
		helpers[i] = start(t, o)
	}
	for _, h := range helpers {
		h.release()
	}
	for _, h := range helpers {
		if line := h.line(); line == "ok" {
			won = append(won, h)
		} else {
			others = append(others, line)
		}
	}
	if len(won) != 1 {
		t.Fatalf("%d processes won; the others: %q", len(won), others)
	}
	return won, others
}

func wantAll(t *testing.T, lines []string, says string) {
	t.Helper()
	for _, line := range lines {
		if !strings.Contains(line, says) {
			t.Errorf("%q does not say %q", line, says)
		}
	}
}

func TestProcessesForOneToken(t *testing.T) {
	t.Parallel()
	onBoth(t, testProcessesForOneToken)
}

func testProcessesForOneToken(t *testing.T, path string) {
	won, others := race(t, order{Do: "begin", Path: path, ID: "t1"})
	wantAll(t, others, "is being changed by operation")

	now := at(path)(t, ledger.Options{Lease: time.Minute})
	wantEqual(t, unfinished(t, now), []string{})
	won[0].kill()
	later := at(path)(t, ledger.Options{Now: func() time.Time { return time.Now().Add(time.Hour) }})
	abandoned := unfinished(t, later)
	wantEqual(t, len(abandoned), 1)
	_, err := later.Begin(t.Context(), "", intent("t1"))
	wantErr(t, err, ledger.ErrChangeInProgress, "was cut off")

	won, others = race(t, order{Do: "claim", Path: path, ID: abandoned[0], Ages: true})
	wantAll(t, others, "belongs to a process that was alive")
	won[0].kill()
	wantEqual(t, kinds(t, later, abandoned[0]), []string{"intent", "claim"})
	wantIntact(t, later)
}

func TestProcessesForOneCode(t *testing.T) {
	t.Parallel()
	onBoth(t, testProcessesForOneCode)
}

func testProcessesForOneCode(t *testing.T, path string) {
	_, code := openPreview(t, at(path)(t, ledger.Options{}), "local")
	_, others := race(t, order{Do: "take", Path: path, ID: code})
	wantAll(t, others, fmt.Sprintf("verdict %d", ledger.Running))
}

// Processes that append are killed one after the other, at any moment; what they said to be on
// record is, and the rest is known as well.
func TestKilled(t *testing.T) {
	t.Parallel()
	onBoth(t, testKilled)
}

func testKilled(t *testing.T, path string) {
	seed := uint64(time.Now().UnixNano())
	t.Log("seed", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	known := map[string]string{} // the last word on each operation
	for round := range 2 {
		helpers := make([]*helper, 3)
		for i := range helpers {
			helpers[i] = start(t, order{Do: "append", Path: path, Name: fmt.Sprint(round, "-", i, "-")})
		}
		for _, h := range helpers {
			h.release()
		}
		for _, h := range helpers {
			for range 1 + random.IntN(20) {
				h.note(known)
			}
			_ = h.cmd.Process.Kill()
			for h.note(known) { // what it said before it died
			}
		}
	}
	l := at(path)(t, ledger.Options{Now: func() time.Time { return time.Now().Add(time.Hour) }})
	report := wantIntact(t, l)
	open := map[string]bool{}
	for _, id := range unfinished(t, l) {
		open[id] = true
	}
	recorded := int64(0)
	for id, word := range known {
		op, err := l.Get(t.Context(), id)
		if errors.Is(err, ledger.ErrNotFound) && word == "begins" {
			continue
		}
		must(t, err)
		recorded++
		switch {
		case word == "done" && op.Outcome != ledger.Done, word == "sent" && op.VendorRequestID == "", op.IsOpen() != open[id]:
			t.Errorf("the process said %s, and the operation is %+v", word, op)
		}
		if !op.IsOpen() {
			continue
		}
		s, err := l.Claim(t.Context(), id)
		must(t, err)
		finish(t, s, ledger.Unknown)
	}
	wantEqual(t, report.Operations, recorded)
	wantEqual(t, unfinished(t, l), []string{})
	wantIntact(t, l)
}

// note reads one line of a helper that appends.
func (h *helper) note(known map[string]string) bool {
	h.t.Helper()
	line := h.line()
	word, id, _ := strings.Cut(line, " ")
	if word == "error" {
		h.t.Fatal(line)
	}
	if len(id) == 36 { // else the line was cut
		known[id] = word
	}
	return line != ""
}
