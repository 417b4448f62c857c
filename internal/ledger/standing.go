package ledger

import (
	"context"
	"database/sql"
)

// Standing counts the operations that need somebody.
type Standing struct {
	Open       int // without an outcome
	Unfinished int // of them, without a process that renews its lease
	Escrowed   int
	Unknown    int
}

// Standing returns what stands on record now.
func (l *Ledger) Standing(ctx context.Context) (s Standing, err error) {
	err = l.read(ctx, func(tx *sql.Tx) error {
		const open = `SELECT COUNT(*), COUNT(CASE WHEN l.expires IS NULL OR l.expires <= $1 THEN 1 END)
			FROM operations o LEFT JOIN leases l ON l.operation_id = o.id WHERE o.outcome = ''`
		if err := tx.QueryRowContext(ctx, open, stamp(l.now())).Scan(&s.Open, &s.Unfinished); err != nil {
			return err
		}
		const ended = `SELECT COUNT(CASE WHEN outcome = 'escrowed' THEN 1 END), COUNT(CASE WHEN outcome = 'unknown' THEN 1 END)
			FROM operations WHERE outcome IN ('escrowed', 'unknown')`
		return tx.QueryRowContext(ctx, ended).Scan(&s.Escrowed, &s.Unknown)
	})
	return s, err
}
