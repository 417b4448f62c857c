package chaos_test

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tokenreeve/tokenreeve/internal/ledger"
	"github.com/tokenreeve/tokenreeve/internal/postgres/postgrestest"
)

// fromEnvironment returns a variable's number.
func fromEnvironment(t *testing.T, name string, otherwise uint64) uint64 {
	t.Helper()
	value := os.Getenv(name)
	if value == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(value, 10, 64)
	if err != nil {
		t.Fatalf("%s is %q, want a number", name, value)
	}
	return n
}

// TestChaos carries out CHAOS_OPERATIONS operations (300) of several callers at
// several servers, chosen by CHAOS_SEED (1), while everything fails at random. Then
// the vendors and the ledger must agree on every token. The seed does not decide how
// the callers come between each other.
func TestChaos(t *testing.T) { testChaos(t, "", 300) }

// TestChaosPostgres is TestChaos with servers that share a database, to which their connections are cut
// at any moment, and half the operations.
func TestChaosPostgres(t *testing.T) { testChaos(t, postgrestest.New(t), 150) }

func testChaos(t *testing.T, database string, operations uint64) {
	t.Helper()
	seed, operations := fromEnvironment(t, "CHAOS_SEED", 1), fromEnvironment(t, "CHAOS_OPERATIONS", operations)
	t.Logf("CHAOS_SEED=%d CHAOS_OPERATIONS=%d", seed, operations)
	w := newWorld(t, seed, database)
	began := time.Now()
	w.run(int(operations))
	took := time.Since(began)
	kept := w.open(database)
	defer kept.close()
	record := kept.record
	report, err := record.Verify(t.Context(), "")
	if err != nil || !report.OK() {
		t.Errorf("verify: %v, %v", report.Problems, err)
	}
	e := w.evidence(record)
	for _, problem := range slices.Concat(e.disagreements(), w.leaks(record)) {
		t.Error(problem)
	}
	w.summarize(e, took)
	w.keep()
}

// keep leaves what was logged and answered beside the ledger, for -artifacts.
func (w *world) keep() {
	for name, content := range map[string]*text{"log.jsonl": &w.logged, "answers.jsonl": &w.answered} {
		if err := os.WriteFile(filepath.Join(w.dir, name), []byte(content.String()), 0o600); err != nil {
			w.t.Error(err)
		}
	}
}

// run carries out operations 1 to n, some at a time, ends every server, and waits for
// what the vendors still do.
func (w *world) run(n int) {
	var next atomic.Int64
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for {
				i := int(next.Add(1))
				if i > n {
					return
				}
				w.cut()
				w.act(i)
			}
		})
	}
	wg.Wait()
	for _, p := range w.servers {
		p.stop()
	}
	w.box.Settle()
}

// summarize tells what happened.
func (w *world) summarize(e *evidence, took time.Duration) {
	counts := map[string]map[ledger.Outcome]int{}
	all := map[ledger.Outcome]int{}
	for i := range e.operations {
		op := &e.operations[i]
		if counts[op.Tool] == nil {
			counts[op.Tool] = map[ledger.Outcome]int{}
		}
		counts[op.Tool][op.Outcome]++
		all[op.Outcome]++
	}
	w.t.Logf("%d calls in %v, %d operations on record, %d changes at the vendors, %d failures of sinks", w.calls.Load(), took.Round(time.Millisecond), len(e.operations), len(e.changes), w.sinkFails.Load())
	for _, tool := range slices.Sorted(maps.Keys(counts)) {
		var parts []string
		for _, outcome := range slices.Sorted(maps.Keys(counts[tool])) {
			parts = append(parts, fmt.Sprintf("%s %d", outcome, counts[tool][outcome]))
		}
		w.t.Logf("%-26s %s", tool, strings.Join(parts, ", "))
	}
	fired := map[string]int{}
	for _, f := range w.box.Faults() {
		fired[string(f.Kind)] += f.Fired
	}
	w.t.Logf("faults: %v", fired)
	cuts := 0
	for _, p := range w.servers {
		if p.proxy != nil {
			cuts += p.proxy.Cuts()
		}
	}
	w.t.Logf("commits that were cut: %d", cuts)
	w.t.Logf("answers: %v", w.said)
	due := []ledger.Outcome{ledger.Done, ledger.Unknown, ledger.Refused}
	if len(e.operations) > 500 {
		due = append(due, ledger.AlreadyGone, ledger.Failed, ledger.Escrowed)
	}
	for _, outcome := range due {
		if all[outcome] == 0 {
			w.t.Errorf("no operation ended as %s: the run proves little", outcome)
		}
	}
}
