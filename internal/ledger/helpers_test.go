package ledger_test

import (
	"bytes"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	_ "modernc.org/sqlite"

	"github.com/tokenreeve/tokenreeve/internal/ledger"
	"github.com/tokenreeve/tokenreeve/internal/postgres"
	"github.com/tokenreeve/tokenreeve/internal/postgres/postgrestest"
	"github.com/tokenreeve/tokenreeve/internal/secret"
)

// place is where one ledger lies. Each call opens it as another process would.
type place func(t *testing.T, o ledger.Options) *ledger.Ledger

// clock stands still until it is moved.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock { return &clock{now: time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) add(d time.Duration) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
	return c.now
}

// options are those of a process that beats only when told to: never, in a test's time.
func (c *clock) options() ledger.Options { return ledger.Options{Now: c.Now, Lease: time.Minute} }

func file(t *testing.T) string {
	t.Helper()
	return filepath.Join(t.TempDir(), "state", "ledger.db")
}

var databases postgrestest.Pool

// onBoth runs a test on each kind of ledger. path is that of a file which is not there yet, or the URL of
// an empty database.
func onBoth(t *testing.T, test func(t *testing.T, path string)) {
	t.Run("sqlite", func(t *testing.T) {
		t.Parallel()
		test(t, file(t))
	})
	t.Run("postgres", func(t *testing.T) {
		t.Parallel()
		test(t, databases.Get(t))
	})
}

func isPostgres(path string) bool { return strings.HasPrefix(path, "postgres://") }

// connect returns the ledger at path, and what ends it.
func connect(path string, o ledger.Options) (*ledger.Ledger, func() error) {
	if !isPostgres(path) {
		l := ledger.New(path, o)
		return l, l.Close
	}
	db := postgres.New(postgres.Fixed(secret.New(path)), postgres.Options{Patience: o.Patience})
	l := ledger.NewPostgres(db, o)
	return l, func() error { return errors.Join(l.Close(), db.Close()) }
}

// at opens the ledger at path.
func at(path string) place {
	return func(t *testing.T, o ledger.Options) *ledger.Ledger {
		t.Helper()
		l, end := connect(path, o)
		t.Cleanup(func() { must(t, end()) })
		must(t, l.Open(t.Context()))
		return l
	}
}

// raw opens the file or the database past the ledger.
func raw(t *testing.T, path string) *sql.DB {
	t.Helper()
	driver := "pgx"
	if !isPostgres(path) {
		driver, path = "sqlite", "file:"+path+"?_pragma=busy_timeout(5000)"
	}
	db, err := sql.Open(driver, path)
	must(t, err)
	db.SetMaxOpenConns(1)
	t.Cleanup(func() { must(t, db.Close()) })
	return db
}

func execRaw(t *testing.T, path string, statements ...string) {
	t.Helper()
	db := raw(t, path)
	for _, statement := range statements {
		_, err := db.ExecContext(t.Context(), statement)
		must(t, err)
	}
}

// unlock takes away what keeps the chain whole.
func unlock(t *testing.T, path string) {
	t.Helper()
	if isPostgres(path) {
		execRaw(t, path, `ALTER TABLE entries DISABLE TRIGGER USER`)
		return
	}
	execRaw(t, path, `DROP TRIGGER entries_only_follow`, `DROP TRIGGER entries_never_change`, `DROP TRIGGER entries_never_go`)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantErr(t *testing.T, err, target error, says ...string) {
	t.Helper()
	if !errors.Is(err, target) {
		t.Fatalf("error %v, want %v", err, target)
	}
	for _, s := range says {
		if !strings.Contains(err.Error(), s) {
			t.Errorf("error %q does not say %q", err, s)
		}
	}
}

func wantEqual[T any](t *testing.T, got, want T, options ...cmp.Option) {
	t.Helper()
	if d := cmp.Diff(want, got, options...); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
}

// intent is a revocation of one token.
func intent(token string, change ...func(*ledger.Intent)) ledger.Intent {
	i := ledger.Intent{
		Principal: "local", Client: ledger.Client{Name: "claude", Version: "1"}, Tool: "revoke_token", Class: "revoke",
		Connection: "acme-launchdarkly", Provider: "launchdarkly", Account: "acme",
		Targets: []ledger.Target{{ID: token, Owner: "o1", Name: "deploy"}}, Reason: "unused",
	}
	for _, c := range change {
		c(&i)
	}
	return i
}

func begin(t *testing.T, l *ledger.Ledger, i ledger.Intent) *ledger.Lease {
	t.Helper()
	lease, err := l.Begin(t.Context(), "", i)
	must(t, err)
	return lease
}

func finish(t *testing.T, s *ledger.Lease, outcome ledger.Outcome) {
	t.Helper()
	must(t, s.Finish(t.Context(), ledger.Result{Outcome: outcome}))
}

// ended makes an operation that has ended and returns its id.
func ended(t *testing.T, l *ledger.Ledger, token string, outcome ledger.Outcome, change ...func(*ledger.Intent)) string {
	t.Helper()
	s := begin(t, l, intent(token, change...))
	finish(t, s, outcome)
	return s.ID()
}

func get(t *testing.T, l *ledger.Ledger, id string) ledger.Operation {
	t.Helper()
	op, err := l.Get(t.Context(), id)
	must(t, err)
	return op
}

func head(t *testing.T, l *ledger.Ledger) ledger.Head {
	t.Helper()
	h, err := l.Head(t.Context())
	must(t, err)
	return h
}

func kinds(t *testing.T, l *ledger.Ledger, id string) []string {
	t.Helper()
	entries, err := l.History(t.Context(), id)
	must(t, err)
	var all []string
	for _, e := range entries {
		all = append(all, e.Kind)
	}
	return all
}

func unfinished(t *testing.T, l *ledger.Ledger) []string {
	t.Helper()
	ops, err := l.Unfinished(t.Context())
	must(t, err)
	return ids(ops)
}

func ids(ops []ledger.Operation) []string {
	all := []string{}
	for i := range ops {
		all = append(all, ops[i].ID)
	}
	return all
}

func verify(t *testing.T, l *ledger.Ledger, head string) ledger.Report {
	t.Helper()
	report, err := l.Verify(t.Context(), head)
	must(t, err)
	return report
}

func wantIntact(t *testing.T, l *ledger.Ledger) ledger.Report {
	t.Helper()
	report := verify(t, l, "")
	if !report.OK() {
		t.Fatalf("the ledger does not verify: %d problems, first %s", len(report.Problems), report.Problems[0])
	}
	return report
}

func export(t *testing.T, l *ledger.Ledger, format ledger.Format) string {
	t.Helper()
	var b bytes.Buffer
	must(t, l.Export(t.Context(), &b, format))
	return b.String()
}

func problems(r *ledger.Report) string {
	var all []string
	for _, p := range r.Problems {
		all = append(all, fmt.Sprint(p))
	}
	return strings.Join(all, "\n")
}
