package sink_test

import (
	"context"
	"database/sql"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tokenreeve/tokenreeve/internal/postgres"
	"github.com/tokenreeve/tokenreeve/internal/postgres/postgrestest"
	"github.com/tokenreeve/tokenreeve/internal/secret"
	"github.com/tokenreeve/tokenreeve/internal/sink"
	"github.com/tokenreeve/tokenreeve/internal/statekeys"
)

// place is where an escrow keeps what it has.
type place interface {
	// open returns the escrow as another process has it.
	open(t *testing.T, recovery ...string) *sink.Escrow
	// all returns what is kept, by operation.
	all(t *testing.T) map[string][]byte
	// put overwrites what is kept of an operation.
	put(t *testing.T, operation string, data []byte)
	// otherKey gives the server another key of its own, noKey takes it away.
	otherKey(t *testing.T)
	noKey(t *testing.T)
}

// everywhere runs a test in every place.
func everywhere(t *testing.T, f func(t *testing.T, p place)) {
	t.Helper()
	t.Run("directory", func(t *testing.T) {
		t.Parallel()
		f(t, &directory{private(t)})
	})
	t.Run("PostgreSQL", func(t *testing.T) {
		t.Parallel()
		f(t, newDatabase(t))
	})
}

// directory is a state directory.
type directory struct{ state string }

func (d *directory) open(t *testing.T, recovery ...string) *sink.Escrow {
	t.Helper()
	return newEscrow(t, d.state, recovery...)
}

func (d *directory) file(name string) string { return filepath.Join(d.state, "escrow", name) }

func (d *directory) all(t *testing.T) map[string][]byte {
	t.Helper()
	kept := map[string][]byte{}
	entries, err := os.ReadDir(filepath.Join(d.state, "escrow"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	for _, entry := range entries {
		data, err := os.ReadFile(d.file(entry.Name()))
		if err != nil {
			t.Fatal(err)
		}
		kept[entry.Name()] = data
	}
	return kept
}

func (d *directory) put(t *testing.T, operation string, data []byte) {
	t.Helper()
	put(t, d.file(operation), string(data))
}

func (d *directory) otherKey(t *testing.T) {
	t.Helper()
	put(t, filepath.Join(d.state, "escrow.key"), recoveryKey(t).String())
}

func (d *directory) noKey(t *testing.T) {
	t.Helper()
	if err := os.Remove(filepath.Join(d.state, "escrow.key")); err != nil {
		t.Fatal(err)
	}
}

// database is a PostgreSQL database with shared keys.
type database struct {
	dsn string

	mu   sync.Mutex
	keys string
}

func newDatabase(t *testing.T) *database {
	t.Helper()
	return &database{dsn: databases.Get(t), keys: newKeys(t)}
}

func newKeys(t *testing.T) string {
	t.Helper()
	text, _, err := statekeys.New(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func (d *database) setKeys(keys string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.keys = keys
}

func (d *database) readKeys(context.Context) (secret.Secret, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return secret.New(d.keys), nil
}

func (d *database) open(t *testing.T, recovery ...string) *sink.Escrow {
	t.Helper()
	return d.openAt(t, d.dsn, recovery...)
}

func (d *database) openAt(t *testing.T, dsn string, recovery ...string) *sink.Escrow {
	t.Helper()
	recipients, err := sink.ParseRecipients(recovery)
	if err != nil {
		t.Fatal(err)
	}
	return sink.NewSharedEscrow(connect(t, dsn), statekeys.NewSource(d.readKeys), recipients)
}

func connect(t *testing.T, dsn string) *postgres.DB {
	t.Helper()
	db := postgres.New(postgres.Fixed(secret.New(dsn)), postgres.Options{})
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

// raw connects past everything that internal/postgres does.
func (d *database) raw(t *testing.T) *sql.DB {
	t.Helper()
	db, err := sql.Open("pgx", d.dsn)
	if err != nil {
		t.Fatal(err)
	}
	return db
}

func (d *database) all(t *testing.T) map[string][]byte {
	t.Helper()
	db := d.raw(t)
	defer db.Close()
	var table sql.NullString
	if err := db.QueryRowContext(t.Context(), `SELECT to_regclass('escrow')::text`).Scan(&table); err != nil {
		t.Fatal(err)
	}
	kept := map[string][]byte{}
	if !table.Valid {
		return kept
	}
	rows, err := db.QueryContext(t.Context(), `SELECT operation, ciphertext FROM escrow`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var operation string
		var data []byte
		if err := rows.Scan(&operation, &data); err != nil {
			t.Fatal(err)
		}
		kept[operation] = data
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return kept
}

func (d *database) put(t *testing.T, operation string, data []byte) {
	t.Helper()
	db := d.raw(t)
	defer db.Close()
	if _, err := db.ExecContext(t.Context(), `UPDATE escrow SET ciphertext = $1 WHERE operation = $2`, data, operation); err != nil {
		t.Fatal(err)
	}
}

func (d *database) otherKey(t *testing.T) {
	t.Helper()
	d.setKeys(newKeys(t))
}

func (d *database) noKey(*testing.T) { d.setKeys("") }

// What was encrypted before the keys were replaced is read with the earlier one, which a server that
// runs learns of when it needs it.
func TestEscrowReplacedKeys(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	first, second := d.keys, newKeys(t)
	old := d.open(t)
	keep(t, old, "first")
	d.setKeys(second + first)
	replaced := d.open(t)
	keep(t, replaced, "second")
	for _, e := range []*sink.Escrow{old, replaced} {
		entries, err := e.List(t.Context())
		if err != nil || len(entries) != 2 || entries[0].Problem != nil || entries[1].Problem != nil {
			t.Errorf("got %+v, %v", entries, err)
		}
	}
	d.setKeys(second)
	late := d.open(t)
	if s, _, err := late.Get(t.Context(), "second"); err != nil || s.Expose() != canary {
		t.Error(err)
	}
	_, _, err := late.Get(t.Context(), "first")
	wantError(t, err, "reads it with age -d -i KEYFILE FILE, which tokenreeve escrow export first --output FILE writes")
}

// A database that is gone refuses before anything is minted. What was minted while it went is written
// once it is back.
func TestEscrowDatabaseIsGone(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	proxy := postgrestest.NewProxy(t, d.dsn)
	e := d.openAt(t, proxy.DSN)
	if err := e.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	proxy.Down()
	err := e.Check(t.Context())
	if !errors.Is(err, postgres.ErrUnavailable) {
		t.Errorf("got %v", err)
	}
	for _, secret := range []string{"tokenreeve:tokenreeve", "AGE-SECRET", proxy.DSN} {
		if strings.Contains(err.Error(), secret) {
			t.Error("the error quotes the connection string or a key")
		}
	}
	var putting sync.WaitGroup
	putting.Go(func() {
		if err := e.Put(context.Background(), operation, secret.New(canary), meta()); err != nil {
			t.Error(err)
		}
	})
	proxy.Up()
	putting.Wait()
	if s, _, err := e.Get(t.Context(), operation); err != nil || s.Expose() != canary {
		t.Error(err)
	}
}

// Where the connection breaks around the commit, the secret is there once Put returns, and only once.
func TestEscrowCommitIsCut(t *testing.T) {
	t.Parallel()
	for name, where := range map[string]postgrestest.Cut{"before": postgrestest.BeforeCommit, "after": postgrestest.AfterCommit} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDatabase(t)
			proxy := postgrestest.NewProxy(t, d.dsn)
			e := d.openAt(t, proxy.DSN)
			if err := e.Check(t.Context()); err != nil {
				t.Fatal(err)
			}
			proxy.CutNext(where)
			keep(t, e, operation)
			if s, _, err := d.open(t).Get(t.Context(), operation); err != nil || s.Expose() != canary {
				t.Error(err)
			}
			if err := e.Put(t.Context(), operation, secret.New("another"), meta()); !errors.Is(err, fs.ErrExist) {
				t.Errorf("got %v, want fs.ErrExist", err)
			}
		})
	}
}

// Servers of one database have a key in common: one that lacks the key in use is told before it mints, and
// does not join; one that has it beside a new first one makes that the key in use.
func TestEscrowForeignKeys(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	first, second, third := d.keys, newKeys(t), newKeys(t)
	join := func(keys string) (isNew bool, err error) {
		t.Helper()
		d.setKeys(keys)
		e := d.open(t)
		if isNew, err = e.Join(t.Context()); err != nil && e.Check(t.Context()) == nil {
			t.Error("it did not join, and would mint")
		}
		return isNew, err
	}
	running := d.open(t)
	keep(t, running, "first") // which is all that says whose database it is
	if _, err := join(second); !errors.Is(err, sink.ErrForeignKey) {
		t.Errorf("other keys: got %v", err)
	}
	for _, step := range []struct {
		keys  string
		isNew bool
	}{{first, false}, {first + second, false}, {second + first, true}, {second, false}} {
		if isNew, err := join(step.keys); err != nil || isNew != step.isNew {
			t.Errorf("replacing: got %v, %v; want %v", isNew, err, step.isNew)
		}
	}
	d.setKeys(first + second)
	if err := running.Check(t.Context()); err != nil {
		t.Errorf("a server whose keys were added to while it ran: %v", err)
	}
	if _, err := join(first); !errors.Is(err, sink.ErrForeignKey) {
		t.Errorf("the earlier keys alone: got %v", err)
	}
	d.setKeys(third)
	adopting := d.open(t)
	if err := adopting.Adopt(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := adopting.Check(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := join(first + second); !errors.Is(err, sink.ErrForeignKey) {
		t.Errorf("after others were adopted: got %v", err)
	}
}

// Of servers that start at once with different keys, one is refused.
func TestEscrowForeignKeysAtOnce(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	var escrows []*sink.Escrow
	for range 4 {
		d.setKeys(newKeys(t))
		keys := d.keys
		escrows = append(escrows, sink.NewSharedEscrow(connect(t, d.dsn), statekeys.NewSource(func(context.Context) (secret.Secret, error) { return secret.New(keys), nil }), nil))
	}
	var joined atomic.Int32
	var joining sync.WaitGroup
	for _, e := range escrows {
		joining.Go(func() {
			_, err := e.Join(t.Context())
			switch {
			case err == nil:
				joined.Add(1)
			case !errors.Is(err, sink.ErrForeignKey):
				t.Error(err)
			}
		})
	}
	joining.Wait()
	if joined.Load() != 1 {
		t.Errorf("%d joined", joined.Load())
	}
}
