package ledger

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net/url"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/tokenreeve/tokenreeve/internal/privatefile"
	"github.com/tokenreeve/tokenreeve/internal/sanitize"
)

const (
	// applicationID marks the file as a ledger: "tkrv".
	applicationID = 0x746b7276
	readers       = 4
)

// sqliteDB is a ledger in one SQLite file, which the processes of one user on one machine share.
type sqliteDB struct {
	path     string
	patience time.Duration
	writer   *sql.DB       // one connection
	reader   *sql.DB       // some, that cannot write
	writing  chan struct{} // held by who writes
}

// openSQLite opens the file at path, and makes it with its directory when it is missing. Neither
// may be a link or open to others.
func openSQLite(ctx context.Context, path string, patience time.Duration) (_ *sqliteDB, err error) {
	d := &sqliteDB{path: path, patience: patience, writing: make(chan struct{}, 1)}
	if err := makeFile(path); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, d.close())
		}
	}()
	if d.writer, err = d.pool(1, "synchronous(FULL)", "fullfsync(1)", "checkpoint_fullfsync(1)"); err != nil {
		return nil, err
	}
	if d.reader, err = d.pool(readers, "query_only(1)"); err != nil {
		return nil, err
	}
	d.reader.SetMaxIdleConns(1)
	return d, d.migrate(ctx)
}

// IsCurrent reports whether the SQLite file at path has the form of this version, under the demands of
// [Open], which would change an older one. It changes nothing.
func IsCurrent(ctx context.Context, path string, o Options) (_ bool, err error) {
	d := &sqliteDB{path: path, patience: o.Patience}
	if err := checkFiles(path); err != nil {
		return false, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	if d.reader, err = d.pool(readers, "query_only(1)"); err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, d.close()) }()
	version, err := d.version(ctx, d.reader)
	return version == len(sqliteMigrations()), err
}

// makeFile makes an empty private file, which is an empty database. SQLite gives the files beside it
// the same mode. What exists is not opened: to close a file gives up all locks that this process has
// on it, SQLite's too.
func makeFile(path string) error {
	if err := privatefile.EnsureDir(filepath.Dir(path)); err != nil {
		return err
	}
	dir, err := privatefile.OpenDir(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer dir.Close()
	name := filepath.Base(path)
	if err := checkNames(dir, name); err != nil {
		return err
	}
	if _, err := dir.Lstat(name); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := dir.WriteNew(name, nil); !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil // another process was faster
}

// checkFiles judges a file that exists, those beside it, and their directory.
func checkFiles(path string) error {
	dir, err := privatefile.OpenDir(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer dir.Close()
	return checkNames(dir, filepath.Base(path))
}

func checkNames(dir *privatefile.Dir, name string) error {
	for _, suffix := range []string{"", "-wal", "-shm", "-journal"} {
		info, err := dir.Lstat(name + suffix)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		if err := checkFile(info, filepath.Join(dir.Path(), name+suffix)); err != nil {
			return err
		}
	}
	return nil
}

func checkFile(info fs.FileInfo, path string) error {
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is a link or no regular file; remove it or choose another place", path)
	}
	if info.Mode().Perm()&0o077 != 0 && runtime.GOOS != "windows" {
		return fmt.Errorf("%s has mode %04o and must have 0600: run chmod 600 %q", path, info.Mode().Perm(), path)
	}
	return nil
}

func (d *sqliteDB) pool(size int, pragmas ...string) (*sql.DB, error) {
	path, err := filepath.Abs(d.path)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	query := url.Values{"_txlock": {"deferred"}, "_defensive": {"1"}, "_pragma": append(
		[]string{"busy_timeout(0)", "trusted_schema(0)", "temp_store(MEMORY)", "cache_size(-1024)"},
		pragmas...)}
	if size == 1 {
		query.Set("_txlock", "immediate")
	}
	file := url.URL{Scheme: "file", Path: "/" + strings.TrimPrefix(filepath.ToSlash(path), "/"), RawQuery: query.Encode()}
	connector, err := sqlite.NewConnector(file.String())
	if err != nil {
		return nil, d.explain(err)
	}
	pool := sql.OpenDB(connector)
	pool.SetMaxOpenConns(size)
	pool.SetMaxIdleConns(size)
	return pool, nil
}

// migrate brings the schema to this version. Processes that start at once take turns.
func (d *sqliteDB) migrate(ctx context.Context) error {
	current, err := d.version(ctx, d.reader)
	if err != nil || current == len(sqliteMigrations()) {
		return err
	}
	// Only now: to change the journal of a database that is in use waits for all others.
	err = d.patiently(func() error {
		var mode string
		err := d.writer.QueryRowContext(ctx, "PRAGMA journal_mode=WAL").Scan(&mode)
		if err == nil && mode != "wal" {
			err = fmt.Errorf("its file system cannot hold a write-ahead log (mode %q); choose a local one", mode)
		}
		return err
	})
	if err != nil {
		return d.explain(err)
	}
	return d.write(ctx, func(tx *sql.Tx) error {
		current, err := d.version(ctx, tx)
		if err != nil {
			return err
		}
		for _, script := range sqliteMigrations()[current:] {
			if _, err := tx.ExecContext(ctx, script); err != nil {
				return err
			}
		}
		_, err = tx.ExecContext(ctx, fmt.Sprintf("PRAGMA application_id=%d; PRAGMA user_version=%d", applicationID, len(sqliteMigrations())))
		return err
	})
}

// version returns how many migrations the file has had.
func (d *sqliteDB) version(ctx context.Context, q interface {
	QueryRowContext(context.Context, string, ...any) *sql.Row
},
) (int, error) {
	var application, version, tables int
	err := d.patiently(func() error {
		return q.QueryRowContext(ctx, `SELECT (SELECT application_id FROM pragma_application_id), (SELECT user_version FROM pragma_user_version),
			(SELECT COUNT(*) FROM sqlite_schema)`).Scan(&application, &version, &tables)
	})
	switch {
	case err != nil:
		return 0, d.explain(err)
	case application != applicationID && (application != 0 || version != 0 || tables != 0):
		return 0, fmt.Errorf("%w: %s is the database of another program; choose another place", ErrUnavailable, d.path)
	case version > len(sqliteMigrations()):
		return 0, fmt.Errorf("%w: %s was written by a newer version of this program; upgrade this one", ErrUnavailable, d.path)
	}
	return version, nil
}

func (d *sqliteDB) write(ctx context.Context, f func(*sql.Tx) error) error {
	select {
	case d.writing <- struct{}{}:
		defer func() { <-d.writing }()
	case <-ctx.Done():
		return ctx.Err()
	}
	return d.transact(ctx, d.writer, f)
}

func (d *sqliteDB) read(ctx context.Context, f func(*sql.Tx) error) error {
	return d.transact(ctx, d.reader, f)
}

func (d *sqliteDB) transact(ctx context.Context, pool *sql.DB, f func(*sql.Tx) error) error {
	err := d.patiently(func() error {
		tx, err := pool.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		if err := f(tx); err != nil {
			_ = tx.Rollback() // the connection is given up if it fails
			return err
		}
		return tx.Commit()
	})
	if err != nil && ctx.Err() != nil {
		return errors.Join(ctx.Err(), d.explain(err))
	}
	return d.explain(err)
}

// patiently repeats f while other processes are in the way. SQLite's own waiting does not end with a
// context, as f does, and is missing where the journal is changed or recovered.
func (d *sqliteDB) patiently(f func() error) error {
	end := time.Now().Add(d.patience)
	for longest := time.Millisecond; ; longest = min(2*longest, 20*time.Millisecond) {
		err := f()
		if !isBusy(err) || time.Now().After(end) {
			return err
		}
		time.Sleep(rand.N(longest)) //nolint:gosec // processes that wait at once must part, no more
	}
}

func isBusy(err error) bool {
	code := codeOf(err)
	return code == sqlite3.SQLITE_BUSY || code == sqlite3.SQLITE_LOCKED || code == sqlite3.SQLITE_PROTOCOL
}

// codeOf returns SQLite's primary result code, or 0.
func codeOf(err error) int {
	var e *sqlite.Error
	if errors.As(err, &e) {
		return e.Code() & 0xff
	}
	return 0
}

// explain says what is wrong and what to do, where SQLite failed. Other errors stay as they are.
func (d *sqliteDB) explain(err error) error {
	what := ""
	switch codeOf(err) {
	case 0:
		return err
	case sqlite3.SQLITE_FULL:
		what = "the disk is full; free some space"
	case sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH:
		what = "it may not be written; give the user running this the right to write the file and its directory"
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL:
		what = fmt.Sprintf("another process has kept it locked for more than %s; find out which one has it open", d.patience)
	case sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB:
		what = "the file is damaged or no database; keep a copy, and restore it from a backup"
	case sqlite3.SQLITE_CANTOPEN:
		what = "it cannot be opened; look at the rights of the file and its directory"
	case sqlite3.SQLITE_IOERR:
		what = "the disk failed, or a quota or a limit on file sizes is reached; look at the file system"
	default:
		what = "SQLite failed"
	}
	return fmt.Errorf("%w: %s: %s: %w", ErrUnavailable, d.path, what, err)
}

func (d *sqliteDB) damage(ctx context.Context) ([]string, error) {
	var found []string
	err := d.patiently(func() (err error) {
		found, err = d.check(ctx)
		return err
	})
	if code := codeOf(err); code == sqlite3.SQLITE_CORRUPT || code == sqlite3.SQLITE_NOTADB {
		return append(found, sanitize.Message(err.Error())), nil
	}
	return found, d.explain(err)
}

func (d *sqliteDB) check(ctx context.Context) ([]string, error) {
	rows, err := d.reader.QueryContext(ctx, "PRAGMA integrity_check(20)")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var found []string
	for rows.Next() {
		var text string
		if err := rows.Scan(&text); err != nil {
			return found, err
		}
		if text != "ok" {
			found = append(found, sanitize.Message(text))
		}
	}
	return found, rows.Err()
}

func (d *sqliteDB) close() error {
	var errs []error
	for _, pool := range []*sql.DB{d.reader, d.writer} {
		if pool != nil {
			errs = append(errs, pool.Close())
		}
	}
	return errors.Join(errs...)
}
