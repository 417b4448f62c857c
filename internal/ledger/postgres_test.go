package ledger_test

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/tokenreeve/tokenreeve/internal/ledger"
	"github.com/tokenreeve/tokenreeve/internal/postgres"
	"github.com/tokenreeve/tokenreeve/internal/postgres/postgrestest"
	"github.com/tokenreeve/tokenreeve/internal/secret"
)

func TestPostgres(t *testing.T) {
	t.Parallel()
	testLedger(t, func(t *testing.T) place { return at(databases.Get(t)) })
}

// Whatever is written, and wherever the connection is cut at its commit, it is on record once, and
// who wrote it knows.
func TestCutCommits(t *testing.T) {
	t.Parallel()
	for name, write := range map[string]func(t *testing.T, l *ledger.Ledger, cut func()) (op string, want []string){
		"begin": func(t *testing.T, l *ledger.Ledger, cut func()) (string, []string) {
			cut()
			return begin(t, l, intent("t")).ID(), []string{"intent"}
		},
		"begin with an id": func(t *testing.T, l *ledger.Ledger, cut func()) (string, []string) {
			id, err := ledger.NewID()
			must(t, err)
			cut()
			_, err = l.Begin(t.Context(), id, intent("t"))
			must(t, err)
			return id, []string{"intent"}
		},
		"step": func(t *testing.T, l *ledger.Ledger, cut func()) (string, []string) {
			s := begin(t, l, intent("t"))
			cut()
			must(t, s.Step(t.Context(), "minted", ledger.Details{NewTokenID: "new"}))
			wantEqual(t, s.Head(), head(t, l))
			return s.ID(), []string{"intent", "step"}
		},
		"finish": func(t *testing.T, l *ledger.Ledger, cut func()) (string, []string) {
			s := begin(t, l, intent("t"))
			cut()
			finish(t, s, ledger.Done)
			wantEqual(t, s.Head(), head(t, l))
			return s.ID(), []string{"intent", "outcome"}
		},
		"claim": func(t *testing.T, l *ledger.Ledger, cut func()) (string, []string) {
			s := begin(t, l, intent("t"))
			must(t, s.Release(t.Context()))
			cut()
			claimed, err := l.Claim(t.Context(), s.ID())
			must(t, err)
			finish(t, claimed, ledger.Unknown)
			return s.ID(), []string{"intent", "claim", "outcome"}
		},
		"resolve": func(t *testing.T, l *ledger.Ledger, cut func()) (string, []string) {
			id := ended(t, l, "t", ledger.Unknown)
			cut()
			must(t, l.Resolve(t.Context(), id, "", ledger.Result{Outcome: ledger.Done}))
			return id, []string{"intent", "outcome", "resolve"}
		},
		"record": func(t *testing.T, l *ledger.Ledger, cut func()) (string, []string) {
			cut()
			op, recorded, err := l.Record(t.Context(), "", intent("t"), ledger.Result{Outcome: ledger.Refused})
			must(t, err)
			wantEqual(t, recorded, head(t, l))
			return op.ID, []string{"intent", "outcome"}
		},
		"previews": func(t *testing.T, l *ledger.Ledger, cut func()) (string, []string) {
			cut()
			p, code := openPreview(t, l, "local")
			cut()
			question, err := l.AskPreview(t.Context(), p.ID)
			must(t, err)
			cut()
			right, err := l.AnswerPreview(t.Context(), p.ID, question)
			must(t, err)
			wantEqual(t, right, true)
			cut()
			form, err := l.OpenForm(t.Context(), p.ID, "bob")
			must(t, err)
			cut()
			_, err = l.ApproveByForm(t.Context(), p.ID, form, ledger.Decider{Principal: "bob"})
			must(t, err)
			cut()
			taken := take(t, l, code)
			wantEqual(t, taken.Verdict, ledger.Accepted)
			wantEqual(t, take(t, l, code).Verdict, ledger.Running)
			cut()
			must(t, l.ReleasePreview(t.Context(), taken.Preview))
			wantEqual(t, take(t, l, code).Verdict, ledger.Accepted)
			cut()
			must(t, l.RecordPreview(t.Context(), p.ID, json.RawMessage(`1`)))
			wantEqual(t, take(t, l, code).Verdict, ledger.PreviewEnded)
			for _, kind := range []string{"opened", "approved", "released"} {
				wantEqual(t, strings.Count(export(t, l, ledger.JSONLines), `"kind":"preview_`+kind+`"`), 1)
			}
			return "", nil
		},
	} {
		for where, cut := range map[string]postgrestest.Cut{"before the commit": postgrestest.BeforeCommit, "after the commit": postgrestest.AfterCommit} {
			t.Run(name+" "+where, func(t *testing.T) {
				t.Parallel()
				path := databases.Get(t)
				proxy := postgrestest.NewProxy(t, path)
				l := at(proxy.DSN)(t, ledger.Options{})
				op, want := write(t, l, func() { proxy.CutNext(cut) })
				if proxy.Cuts() == 0 {
					t.Error("no connection was cut")
				}
				if op != "" {
					wantEqual(t, kinds(t, l, op), want)
				}
				wantIntact(t, l)
			})
		}
	}
}

// hasty is a ledger behind a proxy whose patience ends soon.
func hasty(t *testing.T, path string, o ledger.Options) (*ledger.Ledger, *postgrestest.Proxy, place) {
	t.Helper()
	proxy := postgrestest.NewProxy(t, path)
	o.Patience = time.Second
	return at(proxy.DSN)(t, o), proxy, at(path)
}

func wantUnknown(t *testing.T, err error) {
	t.Helper()
	wantErr(t, err, ledger.ErrUnavailable, "not known")
	wantErr(t, err, postgres.ErrOutcomeUnknown)
}

// until waits for a heartbeat.
func until(t *testing.T, reached func() bool) {
	t.Helper()
	for !reached() {
		if err := t.Context().Err(); err != nil {
			t.Fatal(err)
		}
		runtime.Gosched()
	}
}

// marks changes with each transaction that writes.
func marks(t *testing.T, path string) (all string) {
	t.Helper()
	db := postgrestest.Raw(t, path)
	defer db.Close()
	must(t, db.QueryRowContext(t.Context(), `SELECT string_agg(mark, ' ' ORDER BY writer) FROM tokenreeve_writers`).Scan(&all))
	return all
}

// Begin whose commit stays unknown is an error, so that nothing is sent. What it may have left is
// refused once the database is back.
func TestUnknownBegin(t *testing.T) {
	t.Parallel()
	for _, cut := range []postgrestest.Cut{postgrestest.AfterCommitAndDown, postgrestest.BeforeCommitAndDown} {
		t.Run(fmt.Sprint(cut), func(t *testing.T) {
			t.Parallel()
			l, proxy, direct := hasty(t, databases.Get(t), ledger.Options{Lease: 90 * time.Millisecond})
			id, err := ledger.NewID()
			must(t, err)
			proxy.CutNext(cut)
			_, err = l.Begin(t.Context(), id, intent("t"))
			wantUnknown(t, err)
			beside := direct(t, ledger.Options{})
			if op, err := beside.Get(t.Context(), id); err == nil && !op.IsOpen() || err != nil && !errors.Is(err, ledger.ErrNotFound) {
				t.Errorf("%+v, %v", op, err)
			}
			proxy.Up()
			if cut == postgrestest.AfterCommitAndDown {
				until(t, func() bool { op := get(t, beside, id); return !op.IsOpen() })
				op := get(t, beside, id)
				wantEqual(t, []string{string(op.Outcome), op.ErrorCode}, []string{"refused", "ledger_unavailable"})
			} else {
				ended(t, l, "after", ledger.Done)
				_, err := beside.Get(t.Context(), id)
				wantErr(t, err, ledger.ErrNotFound)
			}
			ended(t, l, "t", ledger.Done)
			wantIntact(t, l)
		})
	}
}

// Another process that takes the operation over before the database is back for this one has the last word.
func TestUnknownBeginIsClaimed(t *testing.T) {
	t.Parallel()
	l, proxy, direct := hasty(t, databases.Get(t), ledger.Options{Lease: 90 * time.Millisecond})
	proxy.CutNext(postgrestest.AfterCommitAndDown)
	_, err := l.Begin(t.Context(), "", intent("t"))
	wantUnknown(t, err)
	later := direct(t, ledger.Options{Now: func() time.Time { return time.Now().Add(time.Hour) }})
	left := unfinished(t, later)
	wantEqual(t, len(left), 1)
	s, err := later.Claim(t.Context(), left[0])
	must(t, err)
	proxy.Up()
	until(t, func() bool { return get(t, later, left[0]).Late != nil })
	finish(t, s, ledger.Unknown)
	op := get(t, later, left[0])
	wantEqual(t, []ledger.Outcome{op.Outcome, op.Late.Outcome}, []ledger.Outcome{ledger.Unknown, ledger.Refused})
	wantIntact(t, later)
}

// Finish whose commit stays unknown can be called again, and finds its own outcome.
func TestUnknownFinish(t *testing.T) {
	t.Parallel()
	for name, again := range map[string]struct {
		outcome ledger.Outcome
		want    error
	}{"with the same": {ledger.Done, nil}, "with another": {ledger.Failed, ledger.ErrFinished}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l, proxy, _ := hasty(t, databases.Get(t), ledger.Options{})
			s := begin(t, l, intent("t"))
			proxy.CutNext(postgrestest.AfterCommitAndDown)
			wantUnknown(t, s.Finish(t.Context(), ledger.Result{Outcome: ledger.Done}))
			proxy.Up()
			err := s.Finish(t.Context(), ledger.Result{Outcome: again.outcome})
			if !errors.Is(err, again.want) {
				t.Errorf("again: %v, want %v", err, again.want)
			}
			wantEqual(t, kinds(t, l, s.ID()), []string{"intent", "outcome"})
			wantEqual(t, get(t, l, s.ID()).Outcome, ledger.Done)
			if again.want == nil {
				wantEqual(t, s.Head(), head(t, l))
			}
			wantIntact(t, l)
		})
	}
}

// A code whose taking stays unknown is not accepted, and nobody acts on it. It is given back once the
// database is there again; one that another process has taken meanwhile stays taken.
func TestUnknownTake(t *testing.T) {
	t.Parallel()
	for _, cut := range []postgrestest.Cut{postgrestest.AfterCommitAndDown, postgrestest.BeforeCommitAndDown} {
		t.Run(fmt.Sprint(cut), func(t *testing.T) {
			t.Parallel()
			path := databases.Get(t)
			l, proxy, direct := hasty(t, path, ledger.Options{Lease: 90 * time.Millisecond})
			_, code := openPreview(t, l, "local")
			proxy.CutNext(cut)
			check, err := l.TakePreview(t.Context(), code, "local", "revoke_token", json.RawMessage(previewed))
			wantUnknown(t, err)
			wantEqual(t, check.Verdict, ledger.NotACode)
			beside := direct(t, ledger.Options{})
			if cut == postgrestest.AfterCommitAndDown {
				wantEqual(t, take(t, beside, code).Verdict, ledger.Running)
				proxy.Up()
				until(t, func() bool { return peek(t, beside, code).Verdict == ledger.Accepted })
				wantEqual(t, take(t, l, code).Verdict, ledger.Accepted)
			} else {
				wantEqual(t, take(t, beside, code).Verdict, ledger.Accepted)
				before := marks(t, path)
				proxy.Up()
				until(t, func() bool { return marks(t, path) != before })
			}
			wantEqual(t, take(t, beside, code).Verdict, ledger.Running)
			wantIntact(t, beside)
		})
	}
}

// While the database is away changes are refused; the same ledger goes on when it is back.
func TestOutage(t *testing.T) {
	t.Parallel()
	l, proxy, _ := hasty(t, databases.Get(t), ledger.Options{})
	s := begin(t, l, intent("t"))
	proxy.Down()
	_, err := l.Begin(t.Context(), "", intent("t2"))
	wantErr(t, err, ledger.ErrUnavailable, "connection")
	if errors.Is(err, postgres.ErrOutcomeUnknown) {
		t.Errorf("no commit was sent: %v", err)
	}
	_, err = l.List(t.Context(), ledger.Query{})
	wantErr(t, err, ledger.ErrUnavailable)
	wantErr(t, s.Finish(t.Context(), ledger.Result{Outcome: ledger.Done}), ledger.ErrUnavailable)
	proxy.Up()
	finish(t, s, ledger.Done)
	ended(t, l, "t2", ledger.Done)
	wantIntact(t, l)
}

// What could not be written while the database was away is written when it is back, by the heartbeat or
// at the end of the process.
func TestRetry(t *testing.T) {
	t.Parallel()
	for name, lease := range map[string]time.Duration{"by the heartbeat": 90 * time.Millisecond, "at the end": time.Hour} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := databases.Get(t)
			proxy := postgrestest.NewProxy(t, path)
			l, end := connect(proxy.DSN, ledger.Options{Lease: lease, Patience: time.Second})
			beside := at(path)(t, ledger.Options{})
			s := begin(t, l, intent("t"))
			proxy.Down()
			write := func(ctx context.Context) error { return s.Finish(ctx, ledger.Result{Outcome: ledger.Done}) }
			wantErr(t, write(t.Context()), ledger.ErrUnavailable)
			wantEqual(t, l.Retry(write), true)
			wantEqual(t, get(t, beside, s.ID()).Outcome, ledger.Outcome(""))
			proxy.Up()
			if lease < time.Hour {
				until(t, func() bool { op := get(t, beside, s.ID()); return !op.IsOpen() })
			}
			must(t, end())
			wantEqual(t, get(t, beside, s.ID()).Outcome, ledger.Done)
			wantEqual(t, kinds(t, beside, s.ID()), []string{"intent", "outcome"})
			wantEqual(t, l.Retry(write), false)
			wantIntact(t, beside)
		})
	}
}

func TestReplicasStartAtOnce(t *testing.T) {
	t.Parallel()
	path := databases.Get(t)
	var starts sync.WaitGroup
	for range 4 {
		l, end := connect(path, ledger.Options{})
		t.Cleanup(func() { must(t, end()) })
		starts.Go(func() {
			if _, _, err := l.Record(t.Context(), "", intent("t"), ledger.Result{Outcome: ledger.Refused}); err != nil {
				t.Error(err)
			}
		})
	}
	starts.Wait()
	wantEqual(t, wantIntact(t, at(path)(t, ledger.Options{})).Operations, 4)
}

func TestNewerDatabase(t *testing.T) {
	t.Parallel()
	path := databases.Get(t)
	at(path)(t, ledger.Options{})
	execRaw(t, path, `UPDATE tokenreeve_migrations SET applied = 99 WHERE component = 'ledger'`)
	l, end := connect(path, ledger.Options{})
	t.Cleanup(func() { must(t, end()) })
	_, err := l.Begin(t.Context(), "", intent("t"))
	wantErr(t, err, ledger.ErrUnavailable, "newer version", "upgrade")
}

func TestNothingEmptiesTheChain(t *testing.T) {
	t.Parallel()
	path := databases.Get(t)
	l := at(path)(t, ledger.Options{})
	ended(t, l, "t", ledger.Done)
	if _, err := raw(t, path).ExecContext(t.Context(), `TRUNCATE entries`); err == nil {
		t.Error("the database took TRUNCATE")
	}
	wantEqual(t, wantIntact(t, l).Entries, 2)
}

// Both kinds of database have the same tables, with text that is compared by its bytes.
func TestSameTables(t *testing.T) {
	t.Parallel()
	here, there := file(t), databases.Get(t)
	at(here)(t, ledger.Options{})
	at(there)(t, ledger.Options{})
	columns := func(path, query string) (all []string) {
		rows, err := raw(t, path).QueryContext(t.Context(), query)
		must(t, err)
		defer rows.Close()
		for rows.Next() {
			var column string
			must(t, rows.Scan(&column))
			all = append(all, column)
		}
		must(t, rows.Err())
		return all
	}
	sqlite := columns(here, `SELECT m.name || '.' || c.name || ' ' || c.type FROM sqlite_schema m, pragma_table_info(m.name) c WHERE m.type = 'table' ORDER BY 1`)
	postgres := columns(there, `SELECT table_name || '.' || column_name || ' ' || CASE WHEN data_type = 'bigint' THEN 'INTEGER' WHEN collation_name = 'C' THEN 'TEXT' ELSE data_type END COLLATE "C"
		FROM information_schema.columns WHERE table_schema = 'public' AND table_name NOT LIKE 'tokenreeve%' ORDER BY 1`)
	wantEqual(t, postgres, sqlite, cmpopts.EquateEmpty())
	if len(sqlite) < 50 {
		t.Errorf("%d columns", len(sqlite))
	}
}

// PostgreSQL refuses to look for what it cannot hold.
func TestImpossibleIDs(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, path string) {
		l := at(path)(t, ledger.Options{})
		for _, id := range []string{"a\x00b", "\xff", strings.Repeat("x", 1<<20)} {
			_, err := l.Get(t.Context(), id)
			wantErr(t, err, ledger.ErrNotFound)
			_, err = l.History(t.Context(), id)
			wantErr(t, err, ledger.ErrNotFound)
			_, err = l.Claim(t.Context(), id)
			wantErr(t, err, ledger.ErrNotFound)
			_, err = l.FindPreview(t.Context(), id)
			wantErr(t, err, ledger.ErrNotFound)
			_, err = l.OpenForm(t.Context(), id, id)
			wantErr(t, err, ledger.ErrNotFound)
			page, err := l.List(t.Context(), ledger.Query{Principal: id, Connection: id, Tool: id, Outcome: ledger.Outcome(id), Parent: id, Preview: id, Sink: id, Key: id})
			must(t, err)
			wantEqual(t, len(page.Operations), 0)
			n, err := l.CountSince(t.Context(), ledger.Count{Principal: id, Connection: id, Classes: []ledger.Class{"revoke"}})
			must(t, err)
			wantEqual(t, n, 0)
			ended(t, l, id, ledger.Done, func(i *ledger.Intent) { i.Principal, i.Account, i.Reason, i.Key = id, id, id, id })
		}
		wantIntact(t, l)
	})
}

// documented returns the statements of a block of SQL in docs/replicas.md, for another role.
func documented(t *testing.T, begins, role string) string {
	t.Helper()
	doc, err := os.ReadFile(filepath.Join("..", "..", "docs", "replicas.md"))
	must(t, err)
	for _, block := range regexp.MustCompile("(?s)```sql\n(.*?)```").FindAllStringSubmatch(string(doc), -1) {
		if strings.HasPrefix(block[1], begins) {
			return regexp.MustCompile(`\btokenreeve\b`).ReplaceAllString(block[1], role)
		}
	}
	t.Fatalf("docs/replicas.md has no SQL that begins with %s", begins)
	return ""
}

// The rights that docs/replicas.md names suffice, and let nobody change the chain.
func TestDocumentedRights(t *testing.T) {
	t.Parallel()
	role := "tokenreeve_test_" + strings.ToLower(rand.Text())
	t.Cleanup(func() { // after the database is gone, with all rights in it
		if !t.Skipped() {
			postgrestest.Exec(t, os.Getenv(postgrestest.Variable), `DROP ROLE IF EXISTS `+role)
		}
	})
	owner := postgrestest.New(t)
	postgrestest.Exec(t, owner, `CREATE ROLE `+role+` LOGIN PASSWORD 'secret'`)
	postgrestest.Exec(t, owner, `GRANT `+role+` TO CURRENT_USER`) // else its last session may stand in the way of dropping the database
	at(owner)(t, ledger.Options{})
	postgrestest.Exec(t, owner, documented(t, "REVOKE CREATE", role))
	u, err := url.Parse(owner)
	must(t, err)
	u.User = url.UserPassword(role, "secret")

	l := at(u.String())(t, ledger.Options{})
	s := begin(t, l, intent("t"))
	must(t, s.Step(t.Context(), "sent", ledger.Details{}))
	finish(t, s, ledger.Unknown)
	must(t, l.Resolve(t.Context(), s.ID(), "", ledger.Result{Outcome: ledger.Done}))
	p, code := openPreview(t, l, "local")
	form, err := l.OpenForm(t.Context(), p.ID, "bob")
	must(t, err)
	_, err = l.ApproveByForm(t.Context(), p.ID, form, ledger.Decider{Principal: "bob"})
	must(t, err)
	wantEqual(t, take(t, l, code).Verdict, ledger.Accepted)
	must(t, l.RecordPreview(t.Context(), p.ID, json.RawMessage(`1`)))
	wantIntact(t, l)
	must(t, l.Rebuild(t.Context()))
	wantIntact(t, l)

	db := raw(t, u.String())
	for _, statement := range []string{
		`UPDATE entries SET body = '{}'`, `DELETE FROM entries`, `TRUNCATE entries`, `DROP TABLE entries`,
		`ALTER TABLE entries DISABLE TRIGGER USER`, `DROP FUNCTION entries_stay CASCADE`, `CREATE TABLE x ()`,
		`UPDATE tokenreeve_migrations SET applied = 0`, `SET session_replication_role = replica`,
	} {
		_, err := db.ExecContext(t.Context(), statement)
		var refused *pgconn.PgError
		if !errors.As(err, &refused) || refused.Code != "42501" {
			t.Errorf("%s: %v, want that the right is missing", statement, err)
		}
	}
	// A table that a later version makes.
	postgrestest.Exec(t, owner, `CREATE TABLE later (n BIGINT)`)
	_, err = db.ExecContext(t.Context(), `INSERT INTO later VALUES (1)`)
	must(t, err)

	postgrestest.Exec(t, owner, `UPDATE tokenreeve_migrations SET applied = applied - 1 WHERE component = 'ledger'`)
	behind, end := connect(u.String(), ledger.Options{})
	t.Cleanup(func() { must(t, end()) })
	wantErr(t, behind.Open(t.Context()), ledger.ErrUnavailable, "lacks a right", "docs/replicas.md")
}

// A replica whose clock is a minute from another's takes no operation of its from it while it lives, and
// no code for over; what each of them records is by one clock.
func TestClocksOfReplicasDiffer(t *testing.T) {
	t.Parallel()
	dsn := databases.Get(t)
	replica := func(ahead time.Duration) *ledger.Ledger {
		t.Helper()
		now := func() time.Time { return time.Now().Add(ahead) }
		db := postgres.New(postgres.Fixed(secret.New(dsn)), postgres.Options{Now: now})
		l := ledger.NewPostgres(db, ledger.Options{Now: now})
		t.Cleanup(func() { must(t, errors.Join(l.Close(), db.Close())) })
		must(t, l.Open(t.Context()))
		return l
	}
	right, fast, slow := replica(0), replica(11*time.Minute), replica(-11*time.Minute)
	for _, l := range []*ledger.Ledger{right, fast, slow} {
		s := begin(t, l, intent("t"))
		_, code := openPreview(t, l, "local")
		for _, other := range []*ledger.Ledger{right, fast, slow} {
			if drift := time.Until(other.Now()).Abs(); drift > 10*time.Second {
				t.Errorf("a ledger is %s from the database", drift)
			}
			cutOff, err := other.Unfinished(t.Context())
			must(t, err)
			wantEqual(t, len(cutOff), 0)
			_, err = other.Claim(t.Context(), s.ID())
			wantErr(t, err, ledger.ErrHeld)
		}
		finish(t, s, ledger.Done)
		wantEqual(t, take(t, slow, code).Verdict, ledger.Accepted)
	}
	wantIntact(t, right)
}
