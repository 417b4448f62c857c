// Package postgrestest gives tests databases of their own on a real PostgreSQL server.
package postgrestest

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver
)

// Variable names the environment variable that holds the URL of a server where databases may be made,
// for example postgres://tokenreeve:tokenreeve@127.0.0.1:5432/postgres.
const Variable = "TOKENREEVE_TEST_POSTGRES"

// New returns the URL of a new and empty database, which is dropped at the end of the test. Without
// [Variable] the test is skipped; with it, a server that cannot be used fails it.
func New(t testing.TB) string {
	t.Helper()
	dsn := create(t)
	t.Cleanup(func() {
		if err := drop(dsn); err != nil {
			t.Errorf("the database was not dropped: %v", err)
		}
	})
	return dsn
}

// Pool hands out databases again that tests before have used, emptied: to make one takes long. Its zero
// value is ready; TestMain closes it.
type Pool struct {
	mu   sync.Mutex
	all  []string
	free []string
}

// Get is [New] with a database of the pool's.
func (p *Pool) Get(t testing.TB) string {
	t.Helper()
	dsn := p.take()
	if dsn == "" {
		dsn = create(t)
		p.mu.Lock()
		p.all = append(p.all, dsn)
		p.mu.Unlock()
	}
	t.Cleanup(func() {
		// What a test left connected; the server's own workers, which clean up, are not ours to end.
		Exec(t, dsn, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
				WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid();
			DROP SCHEMA public CASCADE; CREATE SCHEMA public`)
		p.mu.Lock()
		defer p.mu.Unlock()
		p.free = append(p.free, dsn)
	})
	return dsn
}

func (p *Pool) take() (dsn string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if last := len(p.free) - 1; last >= 0 {
		dsn, p.free = p.free[last], p.free[:last]
	}
	return dsn
}

// Close drops the databases.
func (p *Pool) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	var errs []error
	for _, dsn := range p.all {
		errs = append(errs, drop(dsn))
	}
	return errors.Join(errs...)
}

func create(t testing.TB) string {
	t.Helper()
	server := os.Getenv(Variable)
	if server == "" {
		t.Skipf("needs PostgreSQL: set %s to the URL of a server where databases may be made", Variable)
	}
	u, err := url.Parse(server)
	if err != nil {
		t.Fatalf("%s does not hold a URL", Variable)
	}
	name := "tokenreeve_test_" + strings.ToLower(rand.Text())
	Exec(t, server, `CREATE DATABASE `+name+` TEMPLATE template0 ENCODING 'UTF8'`)
	u.Path = "/" + name
	return u.String()
}

func drop(dsn string) error {
	u, err := url.Parse(dsn)
	if err != nil {
		return err
	}
	return exec(os.Getenv(Variable), `DROP DATABASE `+strings.TrimPrefix(u.Path, "/")+` WITH (FORCE)`)
}

// Exec runs statements on a connection of its own to the database at dsn.
func Exec(t testing.TB, dsn string, statements ...string) {
	t.Helper()
	for _, statement := range statements {
		if err := exec(dsn, statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
}

func exec(dsn, statement string) error {
	db, err := sql.Open("pgx", dsn)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute) // a test's own has ended in its cleanup
	defer cancel()
	_, err = db.ExecContext(ctx, statement)
	return errors.Join(err, db.Close())
}

// Raw connects to the database at dsn past everything that internal/postgres does. The caller closes it.
func Raw(t testing.TB, dsn string) *sql.DB {
	t.Helper()
	db, err := sql.Open("pgx", dsn)
	if err != nil {
		t.Fatal(err)
	}
	return db
}
