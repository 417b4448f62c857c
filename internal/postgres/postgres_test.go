package postgres_test

import (
	"context"
	"crypto/tls"
	"database/sql"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http/httptest"
	"net/url"
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
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantUnavailable(t *testing.T, err error, says ...string) {
	t.Helper()
	if !errors.Is(err, postgres.ErrUnavailable) {
		t.Fatalf("error %v, want one that wraps ErrUnavailable", err)
	}
	for _, s := range says {
		if !strings.Contains(err.Error(), s) {
			t.Errorf("error %q does not say %q", err, s)
		}
	}
}

func at(t *testing.T, dsn string, o ...postgres.Options) *postgres.DB {
	t.Helper()
	var options postgres.Options
	if len(o) > 0 {
		options = o[0]
	}
	db := postgres.New(postgres.Fixed(secret.New(dsn)), options)
	t.Cleanup(func() { must(t, db.Close()) })
	return db
}

func count(t *testing.T, db *postgres.DB) (n int) {
	t.Helper()
	must(t, db.Read(t.Context(), func(tx *sql.Tx) error { return tx.QueryRow(`SELECT COUNT(*) FROM numbers`).Scan(&n) }))
	return n
}

func numbers() []string { return []string{`CREATE TABLE numbers (n BIGINT NOT NULL)`} }

// add puts a number that follows all others.
func add(ctx context.Context, w *postgres.Writer) error {
	return w.Write(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO numbers SELECT COUNT(*) FROM numbers`)
		return err
	})
}

func TestNothingHappensBeforeTheFirstUse(t *testing.T) {
	t.Parallel()
	asked := false
	db := postgres.New(func(context.Context) (secret.Secret, error) {
		asked = true
		return secret.Secret{}, errors.New("environment variable DATABASE_URL is not set")
	}, postgres.Options{})
	db.Writer("ledger")
	if asked {
		t.Error("the connection string was read")
	}
	wantUnavailable(t, db.Open(t.Context()), "DATABASE_URL is not set")
	must(t, db.Close())
}

// The driver quotes what it could not parse, and hosts that it could not reach: with a malformed
// connection string, that is the password or a part of it.
func TestConnectionStringsStaySecret(t *testing.T) {
	t.Parallel()
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	address := closed.Addr().String()
	must(t, closed.Close())
	host, port, _ := net.SplitHostPort(address)
	for _, dsn := range []string{
		"",
		"hunter2hunter2",
		"postgres://ann:hunter2@hunter2@" + address + "/db?sslmode=disable",
		"postgres://ann:hunter2/hunter2@" + address + "/db?sslmode=disable",
		"postgres://ann:hunter2#hunter2@" + address + "/db?sslmode=disable",
		"postgres://ann:hunter2?hunter2@" + address + "/db",
		"postgres://ann:hunter2%zz@" + address + "/db",
		"postgres://ann:hunter2[@" + address + "/db",
		"postgres://ann:hunter2 hunter2@" + address + "/db",
		"postgres://ann:hunter2\x00@" + address + "/db",
		"postgres://hunter2:5433@" + address + "/hunter2?sslmode=disable",
		"postgres://ann:hunter2@hunter2..invalid/db?sslmode=disable",
		"postgres://ann:hunter2@" + address + "/db?sslmode=hunter2",
		"postgres://ann:hunter2@" + address + "/db?sslrootcert=/hunter2&sslmode=verify-full",
		"postgres://ann:hunter2@" + address + "/db?connect_timeout=hunter2",
		"postgres://ann:hunter2@" + address + ",hunter2../db?sslmode=disable",
		"host=" + host + " port=" + port + " password=hunter2 hunter2 user=ann",
		"host=" + host + " port=hunter2 user=ann",
		"host=" + host + " port=" + port + " password='hunter2 user=ann",
		"host=" + host + " port=" + port + " password=hunter2\\",
		"hostaddr=hunter2 password",
		"postgres:/ann:hunter2@" + address + "/db",
		"mysql://ann:hunter2@" + address + "/db",
	} {
		db := postgres.New(postgres.Fixed(secret.New(dsn)), postgres.Options{})
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		err := db.Open(ctx)
		cancel()
		wantUnavailable(t, err)
		for _, format := range []string{"%v", "%+v", "%#v", "%q"} {
			if text := fmt.Sprintf(format, err); strings.Contains(text, "hunter2") {
				t.Errorf("%q gives %s", dsn, text)
			}
		}
		eachCause(err, func(cause error) {
			if strings.Contains(fmt.Sprintf("%+v", cause), "hunter2") {
				t.Errorf("%q wraps %v", dsn, cause)
			}
		})
		must(t, db.Close())
	}
}

// eachCause calls f with the error and everything that it wraps.
func eachCause(err error, f func(error)) {
	if err == nil {
		return
	}
	f(err)
	eachCause(errors.Unwrap(err), f)
	if several, ok := err.(interface{ Unwrap() []error }); ok {
		for _, cause := range several.Unwrap() {
			eachCause(cause, f)
		}
	}
}

func TestWhyThereIsNoConnection(t *testing.T) {
	t.Parallel()
	dsn := postgrestest.New(t)
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	must(t, closed.Close())
	change := func(f func(u *url.URL)) string {
		u, err := url.Parse(dsn)
		must(t, err)
		f(u)
		return u.String()
	}
	latin := change(func(u *url.URL) { u.Path += "_latin" })
	name := strings.TrimPrefix(mustParse(t, latin).Path, "/")
	postgrestest.Exec(t, dsn, `CREATE DATABASE `+name+` TEMPLATE template0 ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'`)
	t.Cleanup(func() { postgrestest.Exec(t, dsn, `DROP DATABASE `+name+` WITH (FORCE)`) })
	for says, dsn := range map[string]string{
		"is PostgreSQL running":   change(func(u *url.URL) { u.Host = closed.Addr().String() }),
		"does not let the user":   change(func(u *url.URL) { u.User = url.UserPassword("nobody-of-that-name", "x") }),
		"create it":               change(func(u *url.URL) { u.Path = "/nothing-of-that-name" }),
		"ENCODING 'UTF8'":         latin,
		"percent-encoded":         "postgres://ann:%zz@127.0.0.1/db",
		"has no address":          "postgres://ann@nothing..invalid/db?sslmode=disable",
		"encrypted":               "postgres://ann@192.0.2.1/db",
		"sslmode=verify-full":     "postgres://ann@db.example,127.0.0.1/db?sslmode=prefer",
		"sslmode=disable":         "postgres://ann@192.0.2.1/db?sslmode=allow",
		"cannot be read; look at": "postgres://ann@127.0.0.1/db?sslmode=verify-full&sslrootcert=/nothing",
	} {
		wantUnavailable(t, at(t, dsn).Open(t.Context()), says)
	}
}

// tlsServer stands before the database's server, without TLS of its own, and answers the request for TLS
// as told: N is no, S is yes. ca is the file of its certificate, which nobody else has issued.
func tlsServer(t *testing.T, server string, answer byte) (address, ca string) {
	t.Helper()
	model := httptest.NewUnstartedServer(nil) // for its certificate
	model.StartTLS()
	t.Cleanup(model.Close)
	ca = filepath.Join(t.TempDir(), "ca.pem")
	must(t, os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: model.Certificate().Raw}), 0o600))
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	var work sync.WaitGroup
	work.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			work.Go(func() {
				defer client.Close()
				_, _ = io.ReadFull(client, make([]byte, 8))
				_, _ = client.Write([]byte{answer})
				behind, err := net.Dial("tcp", server)
				if err != nil || answer != 'S' {
					return
				}
				defer behind.Close()
				encrypted := tls.Server(client, model.TLS)
				work.Go(func() {
					_, _ = io.Copy(encrypted, behind)
					client.Close()
				})
				_, _ = io.Copy(behind, encrypted)
			})
		}
	})
	t.Cleanup(func() {
		listener.Close()
		work.Wait()
	})
	return listener.Addr().String(), ca
}

func TestTLS(t *testing.T) {
	t.Parallel()
	u := mustParse(t, postgrestest.New(t))
	server := u.Host
	open := func(answer byte, query string) error {
		address, ca := tlsServer(t, server, answer)
		u.Host, u.RawQuery = address, strings.ReplaceAll(query, "CA", ca)
		return at(t, u.String()).Open(t.Context())
	}
	must(t, open('S', "sslmode=verify-full&sslrootcert=CA"))
	must(t, open('S', "sslmode=require"))
	wantUnavailable(t, open('S', "sslmode=verify-full"), "sslrootcert")
	wantUnavailable(t, open('N', "sslmode=require"), "does not speak TLS")
	wantUnavailable(t, open('N', "sslmode=verify-full&sslrootcert=CA"), "does not speak TLS")
}

func mustParse(t *testing.T, dsn string) *url.URL {
	t.Helper()
	u, err := url.Parse(dsn)
	must(t, err)
	return u
}

func TestPasswordsChange(t *testing.T) {
	t.Parallel()
	dsn := postgrestest.New(t)
	proxy := postgrestest.NewProxy(t, dsn)
	asked := atomic.Int32{}
	db := postgres.New(func(context.Context) (secret.Secret, error) {
		asked.Add(1)
		return secret.New(proxy.DSN), nil
	}, postgres.Options{})
	defer db.Close()
	must(t, db.Open(t.Context()))
	proxy.Drop()
	must(t, db.Migrate(t.Context(), "numbers", numbers()))
	if asked.Load() < 2 {
		t.Error("the connection string was read once only")
	}
}

func TestSettingsOfConnections(t *testing.T) {
	t.Parallel()
	dsn := postgrestest.New(t)
	settings := func(dsn string) (all [5]string) {
		names := [5]string{"application_name", "statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout", "synchronous_commit"}
		must(t, at(t, dsn, postgres.Options{Patience: 3 * time.Second}).Read(t.Context(), func(tx *sql.Tx) error {
			for i, name := range names {
				if err := tx.QueryRow(`SELECT current_setting($1)`, name).Scan(&all[i]); err != nil {
					return err
				}
			}
			return nil
		}))
		return all
	}
	if got, want := settings(dsn), [5]string{"tokenreeve", "1min", "3s", "20s", "on"}; got != want {
		t.Errorf("settings %v, want %v", got, want)
	}
	own := dsn + "?application_name=x&statement_timeout=7s&lock_timeout=8s&synchronous_commit=off"
	if got, want := settings(own), [5]string{"x", "7s", "8s", "20s", "on"}; got != want {
		t.Errorf("settings %v, want %v", got, want)
	}
	if got := settings(dsn + "?synchronous_commit=remote_apply"); got[4] != "remote_apply" {
		t.Errorf("synchronous_commit %s", got[4])
	}
}

func TestMigrate(t *testing.T) {
	t.Parallel()
	dsn := postgrestest.New(t)
	db := at(t, dsn)
	scripts := []string{numbers()[0], `INSERT INTO numbers VALUES (1); INSERT INTO numbers VALUES (2)`, `INSERT INTO numbers VALUES (3)`}
	must(t, db.Migrate(t.Context(), "numbers", scripts[:2]))
	must(t, db.Migrate(t.Context(), "numbers", scripts[:2]))
	if n := count(t, db); n != 2 {
		t.Errorf("%d rows", n)
	}
	must(t, db.Migrate(t.Context(), "others", []string{`CREATE TABLE others ()`}))
	broken := append(scripts, `CREATE TABLE numbers ()`)
	wantUnavailable(t, db.Migrate(t.Context(), "numbers", broken), "already exists", "42P07")
	if n := count(t, db); n != 2 {
		t.Errorf("a migration that failed has left something: %d rows", n)
	}
	must(t, db.Migrate(t.Context(), "numbers", scripts))
	if n := count(t, db); n != 3 {
		t.Errorf("%d rows", n)
	}
	wantUnavailable(t, db.Migrate(t.Context(), "numbers", scripts[:2]), "newer version", "numbers", "upgrade")
}

func TestMigrateAtOnce(t *testing.T) {
	t.Parallel()
	dsn := postgrestest.New(t)
	var replicas sync.WaitGroup
	for range 4 {
		db := at(t, dsn)
		replicas.Go(func() {
			if err := db.Migrate(t.Context(), "numbers", append(numbers(), `INSERT INTO numbers VALUES (1)`)); err != nil {
				t.Error(err)
			}
		})
	}
	replicas.Wait()
	if n := count(t, at(t, dsn)); n != 1 {
		t.Errorf("%d rows", n)
	}
}

func TestReadsCannotWrite(t *testing.T) {
	t.Parallel()
	db := at(t, postgrestest.New(t))
	must(t, db.Migrate(t.Context(), "numbers", numbers()))
	err := db.Read(t.Context(), func(tx *sql.Tx) error {
		_, err := tx.Exec(`INSERT INTO numbers VALUES (1)`)
		return err
	})
	wantUnavailable(t, err, "standby", "25006")
	own := errors.New("own")
	if err := db.Read(t.Context(), func(*sql.Tx) error { return own }); !errors.Is(err, own) {
		t.Error(err)
	}
}

func TestReadsSeeOneState(t *testing.T) {
	t.Parallel()
	db := at(t, postgrestest.New(t))
	must(t, db.Migrate(t.Context(), "numbers", numbers()))
	w := db.Writer("numbers")
	must(t, db.Read(t.Context(), func(tx *sql.Tx) error {
		for range 2 {
			var n int
			if err := tx.QueryRow(`SELECT COUNT(*) FROM numbers`).Scan(&n); err != nil || n != 0 {
				t.Errorf("%d rows, %v", n, err)
			}
			if err := add(t.Context(), w); err != nil {
				return err
			}
		}
		return nil
	}))
}

func TestWritersTakeTurns(t *testing.T) {
	t.Parallel()
	dsn := postgrestest.New(t)
	must(t, at(t, dsn).Migrate(t.Context(), "numbers", numbers()))
	var work sync.WaitGroup
	for range 3 {
		w := at(t, dsn).Writer("numbers")
		for range 2 {
			work.Go(func() {
				for range 5 {
					if err := add(t.Context(), w); err != nil {
						t.Error(err)
					}
				}
			})
		}
	}
	work.Wait()
	var distinct int
	must(t, at(t, dsn).Read(t.Context(), func(tx *sql.Tx) error {
		return tx.QueryRow(`SELECT COUNT(DISTINCT n) FROM numbers`).Scan(&distinct)
	}))
	if distinct != 30 {
		t.Errorf("%d numbers, want 30: two saw the same state", distinct)
	}
}

func TestWritersWaitForABoundedTime(t *testing.T) {
	t.Parallel()
	dsn := postgrestest.New(t)
	slow := at(t, dsn)
	must(t, slow.Migrate(t.Context(), "numbers", numbers()))
	hasty := at(t, dsn, postgres.Options{Patience: 10 * time.Millisecond}).Writer("numbers")
	must(t, slow.Writer("numbers").Write(t.Context(), func(*sql.Tx) error {
		wantUnavailable(t, add(t.Context(), hasty), "locked", "55P03")
		must(t, add(t.Context(), at(t, dsn).Writer("others")))
		return nil
	}))
	must(t, add(t.Context(), hasty))
}

func TestWhatFailsWritesNothing(t *testing.T) {
	t.Parallel()
	db := at(t, postgrestest.New(t))
	must(t, db.Migrate(t.Context(), "numbers", numbers()))
	w := db.Writer("numbers")
	own := errors.New("own")
	ctx, cancel := context.WithCancel(t.Context())
	for name, end := range map[string]func() error{
		"its own error": func() error { return own },
		"a cancelled context": func() error {
			cancel()
			return nil
		},
	} {
		err := w.Write(ctx, func(tx *sql.Tx) error {
			_, err := tx.Exec(`INSERT INTO numbers VALUES (1)`)
			return errors.Join(err, end())
		})
		if err == nil {
			t.Errorf("%s: no error", name)
		}
		ctx, cancel = context.WithCancel(t.Context())
	}
	cancel()
	if err := w.Write(ctx, func(*sql.Tx) error { return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled before: %v", err)
	}
	err := w.Write(t.Context(), func(tx *sql.Tx) error {
		_, err := tx.Exec(`INSERT INTO numbers VALUES (NULL)`)
		return err
	})
	wantUnavailable(t, err, "null value", "23502")
	if n := count(t, db); n != 0 {
		t.Errorf("%d rows", n)
	}
}

func TestAnswerOfACommitIsLost(t *testing.T) {
	t.Parallel()
	dsn := postgrestest.New(t)
	proxy := postgrestest.NewProxy(t, dsn)
	db := at(t, proxy.DSN)
	must(t, db.Migrate(t.Context(), "numbers", numbers()))
	w := db.Writer("numbers")
	want := 0
	for n, test := range []struct {
		cut  postgrestest.Cut
		runs int
	}{{postgrestest.Nowhere, 1}, {postgrestest.AfterCommit, 1}, {postgrestest.BeforeCommit, 2}, {postgrestest.AfterCommit, 1}} {
		proxy.CutNext(test.cut)
		runs := 0
		must(t, w.Write(t.Context(), func(tx *sql.Tx) error {
			runs++
			_, err := tx.Exec(`INSERT INTO numbers VALUES ($1)`, n)
			return err
		}))
		want++
		if rows := count(t, db); rows != want || runs != test.runs {
			t.Fatalf("cut %d: %d rows in %d runs, want %d in %d", test.cut, rows, runs, want, test.runs)
		}
	}
	proxy.Drop() // the next transaction finds dead connections
	must(t, add(t.Context(), w))
	if n := count(t, db); n != want+1 {
		t.Fatalf("%d rows, want %d", n, want+1)
	}
}

func TestOutcomeOfACommitStaysUnknown(t *testing.T) {
	t.Parallel()
	dsn := postgrestest.New(t)
	proxy := postgrestest.NewProxy(t, dsn)
	db := at(t, proxy.DSN, postgres.Options{Patience: time.Second})
	must(t, db.Migrate(t.Context(), "numbers", numbers()))
	w := db.Writer("numbers")
	proxy.CutNext(postgrestest.AfterCommitAndDown)
	err := add(t.Context(), w)
	wantUnavailable(t, err)
	if !errors.Is(err, postgres.ErrOutcomeUnknown) {
		t.Errorf("%v, want ErrOutcomeUnknown", err)
	}
	if n := count(t, at(t, dsn)); n != 1 {
		t.Errorf("%d rows", n)
	}
	if err := add(t.Context(), w); errors.Is(err, postgres.ErrOutcomeUnknown) || !errors.Is(err, postgres.ErrUnavailable) {
		t.Errorf("what never reached the server: %v", err)
	}
	proxy.Up()
	must(t, add(t.Context(), w))
}
