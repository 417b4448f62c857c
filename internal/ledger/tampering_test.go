package ledger_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/tokenreeve/tokenreeve/internal/ledger"
)

func TestEntriesAreKept(t *testing.T) {
	t.Parallel()
	onBoth(t, testEntriesAreKept)
}

func testEntriesAreKept(t *testing.T, path string) {
	l := at(path)(t, ledger.Options{})
	ended(t, l, "t", ledger.Done)
	db := raw(t, path)
	const values = `SELECT %s, %s, 'h', 'o', 'step', 't', '{}' FROM entries WHERE seq = 2`
	for _, statement := range []string{
		`UPDATE entries SET body = '{}' WHERE seq = 1`,
		`UPDATE entries SET seq = 7 WHERE seq = 2`,
		`DELETE FROM entries WHERE seq = 2`,
		`DELETE FROM entries`,
		`INSERT INTO entries ` + fmt.Sprintf(values, "2", "prev_hash") + ` ON CONFLICT (seq) DO UPDATE SET body = excluded.body`,
		`INSERT INTO entries ` + fmt.Sprintf(values, "4", "hash"),
		`INSERT INTO entries ` + fmt.Sprintf(values, "3", "prev_hash"),
		`INSERT INTO entries ` + fmt.Sprintf(values, "NULL", "hash"),
	} {
		if _, err := db.ExecContext(t.Context(), statement); err == nil {
			t.Errorf("the database took %s", statement)
		}
	}
	wantEqual(t, wantIntact(t, l).Entries, 2)
}

// forge makes an entry's hash fit its content.
func forge(t *testing.T, l *ledger.Ledger, path, id string, seq int64, change func(*ledger.Entry)) {
	t.Helper()
	entries, err := l.History(t.Context(), id)
	must(t, err)
	for _, e := range entries {
		if e.Seq != seq {
			continue
		}
		change(&e)
		_, err := raw(t, path).ExecContext(t.Context(), `UPDATE entries SET body = $1, hash = $2 WHERE seq = $3`, string(e.Body), e.Digest(), seq)
		must(t, err)
	}
}

func TestTampering(t *testing.T) {
	t.Parallel()
	// The chain holds two operations, each with intent, step and outcome, and a preview: 1 to 7.
	const swap = `UPDATE entries SET seq = -seq WHERE seq IN (3, 4); UPDATE entries SET seq = 7 + seq WHERE seq < 0`
	lie := func(e *ledger.Entry) { e.Body = []byte(`{"step":"lie"}`) }
	sql := func(statement string) func(*testing.T, *ledger.Ledger, string, string) {
		return func(t *testing.T, _ *ledger.Ledger, path, _ string) { execRaw(t, path, statement) }
	}
	for name, test := range map[string]struct {
		tamper func(t *testing.T, l *ledger.Ledger, path, first string)
		want   []string // each problem begins so
		states bool     // only the derived states are wrong: rebuilding mends it
	}{
		"body": {sql(`UPDATE entries SET body = replace(body, 'unused', 'abused') WHERE seq = 4`), []string{"entry 4: it was altered", "operation"}, false},
		"body with a line feed": {
			sql("UPDATE entries SET body = body || '\n' WHERE seq = 2"), []string{"entry 2: it was altered"}, false,
		},
		"time":              {sql(`UPDATE entries SET time = replace(time, '2026', '2025') WHERE seq = 2`), []string{"entry 2: it was altered"}, false},
		"point of the time": {sql(`UPDATE entries SET time = replace(time, '.', ',') WHERE seq = 2`), []string{"entry 2: it was altered"}, false},
		"form of the time": {
			sql(`UPDATE entries SET time = replace(time, 'Z', '0Z') WHERE seq = 2`), []string{"entry 2: it was altered", "operation"}, false,
		},
		"kind":      {sql(`UPDATE entries SET kind = 'outcome' WHERE seq = 2`), []string{"entry 2: it was altered", "operation"}, false},
		"operation": {sql(`UPDATE entries SET operation_id = '' WHERE seq = 2`), []string{"entry 2: it was altered", "operation"}, false},
		"hash":      {sql(`UPDATE entries SET hash = replace(hash, substr(hash, 1, 8), '00000000') WHERE seq = 2`), []string{"entry 2: it was altered", "entry 3: it does not follow entry 2"}, false},
		"hash before": {
			sql(`UPDATE entries SET prev_hash = replace(prev_hash, substr(prev_hash, 1, 8), '00000000') WHERE seq = 2`),
			[]string{"entry 2: it was altered", "entry 2: it does not follow entry 1"},
			false,
		},
		"with its hash": {
			func(t *testing.T, l *ledger.Ledger, path, first string) { forge(t, l, path, first, 2, lie) },
			[]string{"entry 3: it does not follow entry 2: that one was altered", "operation"},
			false,
		},
		"removed":       {sql(`DELETE FROM entries WHERE seq = 2`), []string{"entry 3: the entry before it, 2, is missing", "operation"}, false},
		"two removed":   {sql(`DELETE FROM entries WHERE seq IN (2, 3)`), []string{"entry 4: the entries before it, 2 to 3, are missing", "operation"}, false},
		"first removed": {sql(`DELETE FROM entries WHERE seq = 1`), []string{"entry 2: the entry before it, 1, is missing", "operation"}, false},
		"removed and closed up": {
			sql(`DELETE FROM entries WHERE seq = 2; UPDATE entries SET seq = -seq WHERE seq > 2; UPDATE entries SET seq = -seq - 1 WHERE seq < 0`),
			[]string{
				"entry 2: it was altered or moved", "entry 2: it does not follow entry 1", "entry 3: it was altered or moved",
				"entry 4: it was altered or moved", "entry 5: it was altered or moved", "entry 6: it was altered or moved", "operation",
			},
			false,
		},
		"exchanged": {
			sql(swap), []string{
				"entry 3: it was altered or moved", "entry 3: it was moved: what is entry 4 now was written before it",
				"entry 4: it was altered or moved", "entry 4: it was moved: what is entry 2 now was written before it",
				"entry 5: it was moved: what is entry 3 now was written before it",
			}, false,
		},
		"inserted": {
			sql(`UPDATE entries SET seq = -seq WHERE seq > 2; UPDATE entries SET seq = 1 - seq WHERE seq < 0;
				INSERT INTO entries SELECT 3, hash, hash, '', kind, time, body FROM entries WHERE seq = 2`),
			[]string{
				"entry 3: it was altered or moved", "entry 4: it was altered or moved", "entry 5: it was altered or moved",
				"entry 6: it was altered or moved", "entry 7: it was altered or moved", "entry 8: it was altered or moved",
			},
			false,
		},
		"a state":         {sql(`UPDATE operations SET state = replace(state, 'unused', 'abused') WHERE seq = 4`), []string{"operation"}, true},
		"a column":        {sql(`UPDATE operations SET principal = 'ann' WHERE seq = 4`), []string{"operation"}, true},
		"an outcome":      {sql(`UPDATE operations SET outcome = '' WHERE seq = 4`), []string{"operation"}, true},
		"state removed":   {sql(`DELETE FROM operations WHERE seq = 4`), []string{"operation"}, true},
		"state exchanged": {sql(`UPDATE operations SET state = (SELECT state FROM operations WHERE seq = 1) WHERE seq = 4`), []string{"operation"}, true},
		"state of nobody": {
			sql(`INSERT INTO operations SELECT 'x', 99, parent, principal, tool, class, connection, provider, account, preview, sink, sink_key, token, outcome, started, weight, compromised, delivered,
				state FROM operations WHERE seq = 4`),
			[]string{"operation x: it has a state and no entries"},
			true,
		},
		"state without an id": {
			sql(`INSERT INTO operations SELECT '', 99, parent, principal, tool, class, connection, provider, account, preview, sink, sink_key, token, outcome, started, weight, compromised, delivered,
				state FROM operations WHERE seq = 4`),
			[]string{"it has a state and no entries"},
			true,
		},
		"token of what has ended": {
			sql(`INSERT INTO open_changes SELECT provider, account, 't9', id FROM operations WHERE seq = 4`),
			[]string{"operation"},
			true,
		},
		"token of nobody": {
			sql(`INSERT INTO open_changes SELECT provider, account, 't9', 'x' FROM operations WHERE seq = 4`),
			[]string{"operation x: it has tokens and no entries"},
			true,
		},
		"weight":   {sql(`UPDATE operations SET weight = 0 WHERE seq = 4`), []string{"operation"}, true},
		"delivery": {sql(`UPDATE operations SET delivered = 6, token = 't' WHERE seq = 4`), []string{"operation"}, true},
		"state of nobody, first": {
			sql(`INSERT INTO operations SELECT '+', 99, parent, principal, tool, class, connection, provider, account, preview, sink, sink_key, token, outcome, started, weight, compromised, delivered,
				state FROM operations WHERE seq = 4`),
			[]string{"operation +: it has a state and no entries"},
			true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			onBoth(t, func(t *testing.T, path string) {
				l := at(path)(t, newClock().options())
				first := begin(t, l, intent("t1"))
				must(t, first.Step(t.Context(), "sent", ledger.Details{}))
				finish(t, first, ledger.Done)
				second := begin(t, l, intent("t2"))
				must(t, second.Step(t.Context(), "sent", ledger.Details{}))
				finish(t, second, ledger.Done)
				openPreview(t, l, "local")
				noted := head(t, l)
				unlock(t, path)
				wantIntact(t, l)

				test.tamper(t, l, path, first.ID())
				report := verify(t, l, noted.Hash)
				if len(report.Problems) < len(test.want) {
					t.Fatalf("found %s\nwant %s", problems(&report), strings.Join(test.want, "\n"))
				}
				for i, want := range test.want {
					if !strings.HasPrefix(report.Problems[i].String(), want) {
						t.Errorf("problem %d: %s\nwant %s", i, report.Problems[i], want)
					}
				}
				if !test.states {
					wantErr(t, l.Rebuild(t.Context()), ledger.ErrUnavailable, "entry")
					return
				}
				wantEqual(t, len(report.Problems), 1)
				must(t, l.Rebuild(t.Context()))
				wantIntact(t, l)
			})
		})
	}
}

func TestShortened(t *testing.T) {
	t.Parallel()
	onBoth(t, testShortened)
}

func testShortened(t *testing.T, path string) {
	l := at(path)(t, ledger.Options{})
	first := ended(t, l, "t1", ledger.Done)
	before := head(t, l)
	last := ended(t, l, "t2", ledger.Done)
	noted := head(t, l)
	unlock(t, path)

	forge(t, l, path, last, 4, func(e *ledger.Entry) { e.Body = []byte(`{"outcome":"done","note":"lie"}`) })
	rewritten := verify(t, l, noted.Hash)
	if !strings.Contains(problems(&rewritten), "not in the chain") {
		t.Errorf("rewritten: %s", problems(&rewritten))
	}
	execRaw(t, path, `DELETE FROM entries WHERE seq > 2`, `DELETE FROM operations WHERE seq > 2`)
	wantIntact(t, l) // by itself, it is in order
	shortened := verify(t, l, noted.Hash)
	if !strings.Contains(problems(&shortened), "not in the chain") {
		t.Errorf("shortened: %s", problems(&shortened))
	}
	if report := verify(t, l, before.Hash); !report.OK() || report.Given != 2 {
		t.Errorf("%+v", report)
	}
	wantEqual(t, get(t, l, first).Outcome, ledger.Done)
}

// Rebuilding gives the tokens of open operations back to them.
func TestRebuildOpen(t *testing.T) {
	t.Parallel()
	onBoth(t, testRebuildOpen)
}

func testRebuildOpen(t *testing.T, path string) {
	l := at(path)(t, ledger.Options{})
	s := begin(t, l, intent("t1"))
	before := get(t, l, s.ID())
	execRaw(t, path, `DELETE FROM open_changes`)
	if report := verify(t, l, ""); !strings.Contains(problems(&report), s.ID()) {
		t.Errorf("an open operation without its token: %s", problems(&report))
	}
	execRaw(t, path, `DELETE FROM operations`)
	must(t, l.Rebuild(t.Context()))
	wantEqual(t, get(t, l, s.ID()), before)
	_, err := l.Begin(t.Context(), "", intent("t1"))
	wantErr(t, err, ledger.ErrChangeInProgress)
	finish(t, s, ledger.Done)
	wantIntact(t, l)
}

// Rebuilding leaves a token that one operation has made with the other that had it, and gives the
// first one all its targets.
func TestRebuildMadeToken(t *testing.T) {
	t.Parallel()
	onBoth(t, testRebuildMadeToken)
}

func testRebuildMadeToken(t *testing.T, path string) {
	l := at(path)(t, ledger.Options{})
	maker := begin(t, l, intent("t1"))
	owner := begin(t, l, intent("a")) // sorts before t1
	must(t, maker.Step(t.Context(), "minted", ledger.Details{NewTokenID: "a"}))
	execRaw(t, path, `DELETE FROM operations`, `DELETE FROM open_changes`)
	must(t, l.Rebuild(t.Context()))
	wantIntact(t, l)
	for token, has := range map[string]*ledger.Lease{"a": owner, "t1": maker} {
		_, err := l.Begin(t.Context(), "", intent(token))
		wantErr(t, err, ledger.ErrChangeInProgress, has.ID())
	}
}

// What decides whether a preview's code acts is in the chain as well.
func TestTamperedPreviews(t *testing.T) {
	t.Parallel()
	const columns = `principal, tool, arguments, plan, created, expires, until, state, result, approved_by, approved, declined_by, taken, question, approved_from`
	for name, statement := range map[string]string{
		"approval":        `UPDATE previews SET approved_by = 'root', approved = created WHERE id = $1`,
		"approver's way":  `UPDATE previews SET approved_from = 'static from 10.0.0.7' WHERE id = $1`,
		"code":            `UPDATE previews SET code_digest = '0' WHERE id = $1`,
		"principal":       `UPDATE previews SET principal = 'ann' WHERE id = $1`,
		"tool":            `UPDATE previews SET tool = 'rotate_token' WHERE id = $1`,
		"arguments":       `UPDATE previews SET arguments = '{}' WHERE id = $1`,
		"plan":            `UPDATE previews SET plan = '{}' WHERE id = $1`,
		"longer life":     `UPDATE previews SET until = '2099' || substr(until, 5) WHERE id = $1`,
		"later end":       `UPDATE previews SET expires = '2099' || substr(expires, 5) WHERE id = $1`,
		"done":            `UPDATE previews SET state = 'done' WHERE id = $1`,
		"no more taken":   `UPDATE previews SET state = 'open', taken = '' WHERE state = 'running' AND $1 <> ''`,
		"no more over":    `UPDATE previews SET state = 'open', until = expires WHERE state = 'done' AND $1 <> ''`,
		"no more refused": `UPDATE previews SET state = 'open', declined_by = '' WHERE state = 'declined' AND $1 <> ''`,
		"of nobody":       `INSERT INTO previews SELECT '0', 'pv_X', ` + columns + ` FROM previews WHERE id = $1`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			onBoth(t, func(t *testing.T, path string) {
				l := at(path)(t, newClock().options())
				p, _ := openPreview(t, l, "local")
				_, released := openPreview(t, l, "local")
				must(t, l.ReleasePreview(t.Context(), take(t, l, released).Preview))
				_, running := openPreview(t, l, "local")
				take(t, l, running)
				_, over := openPreview(t, l, "local")
				must(t, l.RecordPreview(t.Context(), take(t, l, over).Preview.ID, []byte(`1`)))
				refused, _ := openPreview(t, l, "local")
				_, err := l.ApprovePreview(t.Context(), refused.ID, "root")
				must(t, err)
				_, err = l.DeclinePreview(t.Context(), refused.ID, "root")
				must(t, err)
				_, err = l.AskPreview(t.Context(), p.ID)
				must(t, err)
				wantIntact(t, l)

				_, err = raw(t, path).ExecContext(t.Context(), statement, p.ID)
				must(t, err)
				report := verify(t, l, "")
				if len(report.Problems) != 1 || !strings.HasPrefix(report.Problems[0].String(), "preview pv_") {
					t.Fatalf("found %s", problems(&report))
				}
				must(t, l.Rebuild(t.Context()))
				wantIntact(t, l)
				wantEqual(t, peek(t, l, released).Verdict, ledger.Accepted) // only what was altered is gone
				execRaw(t, path, `DELETE FROM previews`)                    // makes every code void
				wantEqual(t, take(t, l, released).Verdict, ledger.NotACode)
				wantIntact(t, l)
			})
		})
	}
}

func TestManyProblems(t *testing.T) {
	t.Parallel()
	report, err := ledger.VerifyExport(strings.NewReader(strings.Repeat("{}\n", ledger.MaxProblems+1)), "")
	must(t, err)
	wantEqual(t, []any{len(report.Problems), report.More}, []any{ledger.MaxProblems, true})
}
