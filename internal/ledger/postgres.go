package ledger

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/tokenreeve/tokenreeve/internal/postgres"
)

// postgresDB is a ledger in a PostgreSQL database, which several replicas share.
type postgresDB struct {
	db     *postgres.DB
	writer *postgres.Writer
}

// NewPostgres returns the ledger in a PostgreSQL database. It connects to nothing: the tables are made
// at the first call that needs them. The options' Patience is that of db, which the caller closes after
// the ledger.
//
// Where a connection is lost during a commit, the ledger finds out whether that took place, and goes on
// as if nothing had been. Where it cannot, since the database stays away for longer than db's patience,
// the error wraps [postgres.ErrOutcomeUnknown] beside [ErrUnavailable], and what was to be recorded may
// be on record. Nobody acts on it: once the database is back, an intent that Begin left is refused, and
// a code that TakePreview spent is given back; [Lease.Finish], called again, finds its own outcome.
//
// Its clock is the database server's: those of replicas differ, and a lease that one of them took for
// over too early would be an operation that is ended while its process lives.
func NewPostgres(db *postgres.DB, o Options) *Ledger {
	machine := o.Now
	if machine == nil {
		machine = time.Now
	}
	o.Now = func() time.Time { return machine().Add(db.Ahead()) }
	return newLedger(o, func(ctx context.Context) (database, error) {
		if err := db.Migrate(ctx, postgresComponent, postgresMigrations()); err != nil {
			return nil, postgresError(err)
		}
		return &postgresDB{db: db, writer: db.Writer("ledger")}, nil
	})
}

// postgresComponent is the part of the database that is the ledger's.
const postgresComponent = "ledger"

// PostgresExists reports whether the database has a ledger of this version, so that a process which
// only looks at the record need not make one.
func PostgresExists(ctx context.Context, db *postgres.DB) (bool, error) {
	exists, err := db.IsMigrated(ctx, postgresComponent, postgresMigrations())
	return exists, postgresError(err)
}

func (d *postgresDB) write(ctx context.Context, f func(*sql.Tx) error) error {
	return postgresError(d.writer.Write(ctx, f))
}

func (d *postgresDB) read(ctx context.Context, f func(*sql.Tx) error) error {
	return postgresError(d.db.Read(ctx, f))
}

// damage finds nothing: only a superuser may look at a server's files, and it tells of pages whose
// checksum is wrong when they are read.
func (d *postgresDB) damage(context.Context) ([]string, error) { return nil, nil }

func (d *postgresDB) close() error { return nil }

func postgresError(err error) error {
	if errors.Is(err, postgres.ErrUnavailable) && !errors.Is(err, ErrUnavailable) {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return err
}
