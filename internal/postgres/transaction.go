package postgres

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"encoding/binary"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

const (
	// attempts is how often a transaction that surely did nothing is tried at least: each idle
	// connection may turn out to be dead.
	attempts = idleConnections + 1
	// persistence is how long one that writes is tried: to lose what has happened already is worse
	// than to wait.
	persistence = time.Second
	// commitTime is how long a commit that was sent is waited for.
	commitTime = 30 * time.Second
	// The pauses between attempts.
	firstPause   = 5 * time.Millisecond
	longestPause = 500 * time.Millisecond
	// markLife is how long the mark of a process that is gone is kept.
	markLife = "7 days"
)

// Read runs f on one state of the data. It cannot write. f runs once at most.
func (db *DB) Read(ctx context.Context, f func(*sql.Tx) error) error {
	ctx, cancel := context.WithTimeout(ctx, transactionTime)
	defer cancel()
	tx, err := db.begin(ctx, &sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true})
	if err == nil {
		err = f(tx)
		_ = tx.Rollback() // what was read is read
	}
	return explain(ctx, err)
}

// begin begins a transaction. Connections that were lost since their last use are passed over.
func (db *DB) begin(ctx context.Context, o *sql.TxOptions) (*sql.Tx, error) {
	for n := 1; ; n++ {
		tx, err := db.pool.BeginTx(ctx, o)
		if err == nil || n == attempts || !repeatable(err) || ctx.Err() != nil {
			return tx, err
		}
	}
}

// transact runs f in a transaction and commits it. cut: the commit was sent, and no answer came. A
// cancelled context ends the transaction before its commit, and not any more after that.
func (db *DB) transact(ctx context.Context, f func(*sql.Tx) error) (cut bool, err error) {
	uncancelled, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	stop := context.AfterFunc(ctx, cancel)
	defer stop()
	tx, err := db.begin(uncancelled, &sql.TxOptions{Isolation: sql.LevelReadCommitted})
	if err != nil {
		return false, err
	}
	if err := f(tx); err != nil {
		_ = tx.Rollback() // the connection is given up if it fails
		return false, err
	}
	if !stop() {
		_ = tx.Rollback()
		return false, ctx.Err()
	}
	bound := time.AfterFunc(commitTime, cancel)
	defer bound.Stop()
	err = tx.Commit()
	return err != nil && !rolledBack(err), err
}

// rolledBack reports whether a failed commit has surely done nothing.
func rolledBack(err error) bool {
	var server *pgconn.PgError
	return errors.Is(err, pgx.ErrTxCommitRollback) || errors.As(err, &server) && server.SeverityUnlocalized == "ERROR"
}

// repeatable reports whether a transaction that failed so, and did nothing, is worth another try at once.
func repeatable(err error) bool {
	var explained *Error
	if errors.As(err, &explained) {
		return explained.passing
	}
	code := codeOf(err)
	return code == "40001" || code == "40P01" || isLost(err)
}

// Writer runs transactions that exclude each other, in all processes that have a writer of that name.
type Writer struct {
	db   *DB
	name string
	held chan struct{} // held by the transaction of this process

	swept bool // the marks of processes that are gone were removed; held guards it
}

// Writer returns the writer of that name. A process needs one of each name only. Before the first use,
// [DB.Migrate] must have run.
func (db *DB) Writer(name string) *Writer {
	return &Writer{db: db, name: name, held: make(chan struct{}, 1)}
}

// Write runs f in the one transaction of the writer's name that may run at a time, and commits it. Its
// commit is on disk when Write returns without error. With an error nothing was written, except that
// [ErrOutcomeUnknown] leaves it open. f sees what all transactions before it have written. It may run
// more than once: each time, nothing is left of the times before.
func (w *Writer) Write(ctx context.Context, f func(*sql.Tx) error) error {
	ctx, cancel := context.WithTimeout(ctx, transactionTime)
	defer cancel()
	select {
	case w.held <- struct{}{}:
		defer func() { <-w.held }()
	case <-ctx.Done():
		return ctx.Err()
	}
	end := time.Now().Add(min(persistence, w.db.patience))
	for n, pause := 1, firstPause; ; n, pause = n+1, min(2*pause, longestPause) {
		mark := rand.Text()
		cut, err := w.db.transact(ctx, func(tx *sql.Tx) error {
			if err := w.begin(ctx, tx, mark); err != nil {
				return err
			}
			return f(tx)
		})
		if err == nil {
			w.swept = true
			return nil
		}
		if cut {
			committed, unknown := w.settle(ctx, mark)
			if unknown != nil || committed {
				return unknown
			}
		}
		if n >= attempts && time.Now().After(end) || !repeatable(err) || !sleep(ctx, pause) {
			return explain(ctx, err)
		}
	}
}

// begin takes the writer's lock until the end of the transaction, and leaves a mark that tells later
// whether it was committed.
func (w *Writer) begin(ctx context.Context, tx *sql.Tx, mark string) error {
	var server time.Time
	sent := w.db.clock.now()
	err := tx.QueryRowContext(ctx, `INSERT INTO tokenreeve_writers (writer, mark, at) SELECT $1::text, $2::text, now() FROM pg_advisory_xact_lock($3)
		ON CONFLICT (writer) DO UPDATE SET mark = excluded.mark, at = excluded.at RETURNING clock_timestamp()`, w.id(), mark, lockKey(w.name)).Scan(&server)
	if err != nil {
		return err
	}
	w.db.clock.note(sent, server)
	if w.swept {
		return nil
	}
	_, err = tx.ExecContext(ctx, `DELETE FROM tokenreeve_writers WHERE writer LIKE $1 AND at < now() - interval '`+markLife+`'`, w.name+"/%")
	return err
}

// id names the writer of this process.
func (w *Writer) id() string { return w.name + "/" + w.db.process }

// settle finds out whether the transaction that left the mark was committed. The caller cannot give up
// meanwhile: it would not know what it has done.
func (w *Writer) settle(ctx context.Context, mark string) (committed bool, unknown error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), w.db.patience)
	defer cancel()
	for pause := firstPause; ; pause = min(2*pause, longestPause) {
		_, err := w.db.transact(ctx, func(tx *sql.Tx) error {
			// The server may still be at work on it: it has the lock until it has ended.
			if _, err := tx.ExecContext(ctx, `SELECT pg_advisory_xact_lock($1)`, lockKey(w.name)); err != nil {
				return err
			}
			return tx.QueryRowContext(ctx, `SELECT EXISTS (SELECT FROM tokenreeve_writers WHERE writer = $1 AND mark = $2)`, w.id(), mark).Scan(&committed)
		})
		if err == nil {
			return committed, nil
		}
		if !sleep(ctx, pause) {
			return false, errors.Join(ErrOutcomeUnknown, explain(ctx, err))
		}
	}
}

// sleep reports whether the pause was kept to its end.
func sleep(ctx context.Context, pause time.Duration) bool {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// lockKey returns the number of an advisory lock.
func lockKey(name string) int64 {
	sum := sha256.Sum256([]byte("tokenreeve/" + name))
	return int64(binary.BigEndian.Uint64(sum[:8])) //nolint:gosec // any number will do
}
