package postgres

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
)

// base are the scripts of the tables that this package needs itself.
func base() []string {
	return []string{`
CREATE TABLE tokenreeve_writers (
	writer TEXT PRIMARY KEY,
	mark   TEXT NOT NULL,
	at     TIMESTAMPTZ NOT NULL
) WITH (fillfactor = 50);
`}
}

// component is the one that base belongs to.
const component = "postgres"

// Migrate brings the tables of a component to the version that scripts make, in their order; never
// change one that was released. All that are missing are applied in one transaction, and several
// processes that start at once take turns. A database that has what it needs is only read, so that a
// role without the right to create tables suffices then. One that a newer version of this program
// has migrated is refused.
func (db *DB) Migrate(ctx context.Context, name string, scripts []string) error {
	done, err := db.IsMigrated(ctx, name, scripts)
	if err != nil || done {
		return err
	}
	_, err = db.transact(ctx, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, `SELECT pg_advisory_xact_lock($1)`, lockKey("migrations")); err != nil {
			return err
		}
		for _, part := range partsOf(name, scripts) {
			if err := apply(ctx, tx, part.name, part.scripts); err != nil {
				return err
			}
		}
		return nil
	})
	return explain(ctx, err)
}

// IsMigrated reports whether [DB.Migrate] has nothing to do, and does nothing.
func (db *DB) IsMigrated(ctx context.Context, name string, scripts []string) (bool, error) {
	done := true
	err := db.Read(ctx, func(tx *sql.Tx) error {
		for _, part := range partsOf(name, scripts) {
			n, err := applied(ctx, tx, part.name, len(part.scripts))
			if err != nil {
				return err
			}
			done = done && n == len(part.scripts)
		}
		return nil
	})
	return done && err == nil, err
}

// part is the tables of a component.
type part struct {
	name    string
	scripts []string
}

func partsOf(name string, scripts []string) []part {
	return []part{{component, base()}, {name, scripts}}
}

// applied returns how many scripts of a component the database has had.
func applied(ctx context.Context, tx *sql.Tx, name string, most int) (int, error) {
	var exists bool
	if err := tx.QueryRowContext(ctx, `SELECT to_regclass('tokenreeve_migrations') IS NOT NULL`).Scan(&exists); err != nil || !exists {
		return 0, err
	}
	n := 0
	err := tx.QueryRowContext(ctx, `SELECT applied FROM tokenreeve_migrations WHERE component = $1`, name).Scan(&n)
	if errors.Is(err, sql.ErrNoRows) {
		err = nil
	}
	if err == nil && n > most {
		err = unavailable(nil, "its tables of the %s were made by a newer version of this program; upgrade this one", name)
	}
	return n, err
}

func apply(ctx context.Context, tx *sql.Tx, name string, scripts []string) error {
	_, err := tx.ExecContext(ctx, `CREATE TABLE IF NOT EXISTS tokenreeve_migrations (component TEXT PRIMARY KEY, applied BIGINT NOT NULL)`)
	if err != nil {
		return err
	}
	n, err := applied(ctx, tx, name, len(scripts))
	if err != nil {
		return err
	}
	for i, script := range scripts[n:] {
		// Without parameters, a script may hold several statements.
		if _, err := tx.ExecContext(ctx, script); err != nil {
			return fmt.Errorf("migration %d of the %s: %w", n+i+1, name, err)
		}
	}
	_, err = tx.ExecContext(ctx, `INSERT INTO tokenreeve_migrations VALUES ($1, $2) ON CONFLICT (component) DO UPDATE SET applied = excluded.applied`,
		name, len(scripts))
	return err
}
