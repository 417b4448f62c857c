// Package postgrestest gives tests databases of their own on a real PostgreSQL server.
package postgrestest

import (
	"context"
	"crypto/rand"
	"database/sql"
	"net/url"
	"os"
	"strings"
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
	return create(t, "template0")
}

// Copy returns the URL of a new database that holds what the one at original does. Nothing may be
// connected to that one.
func Copy(t testing.TB, original string) string {
	t.Helper()
	u, err := url.Parse(original)
	if err != nil {
		t.Fatal("the original's URL cannot be parsed")
	}
	return create(t, strings.TrimPrefix(u.Path, "/"))
}

func create(t testing.TB, template string) string {
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
	Exec(t, server, `CREATE DATABASE `+name+` TEMPLATE `+template+` ENCODING 'UTF8'`)
	t.Cleanup(func() { Exec(t, server, `DROP DATABASE `+name+` WITH (FORCE)`) })
	u.Path = "/" + name
	return u.String()
}

// Exec runs statements on a connection of its own to the database at dsn.
func Exec(t testing.TB, dsn string, statements ...string) {
	t.Helper()
	db := Raw(t, dsn)
	defer db.Close()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Minute)
	defer cancel()
	for _, statement := range statements {
		if _, err := db.ExecContext(ctx, statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
}

// Raw connects to the database at dsn past everything that internal/postgres does. The caller closes it.
func Raw(t testing.TB, dsn string) *sql.DB {
	t.Helper()
	db, err := sql.Open("pgx", dsn)
	if err != nil {
		t.Fatal(err)
	}
	db.SetMaxOpenConns(1)
	return db
}
