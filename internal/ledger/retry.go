package ledger

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/tokenreeve/tokenreeve/internal/postgres"
)

// closeTime is how long Close tries to write what is left.
const closeTime = 5 * time.Second

// Retry calls write, which has failed, again with each heartbeat, and once more at the end of the
// process, until it fails no more with [ErrUnavailable] or [ErrHeld]: what is known must not be lost because
// the database was away for a while, or another process has the operation just now. It reports whether it
// will; a closed ledger does not. Of an operation, the lease is kept until then.
func (l *Ledger) Retry(write func(context.Context) error) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.held == nil {
		return false
	}
	l.writes = append(l.writes, write)
	l.startBeats()
	return true
}

// undo takes a write back as soon as the database can be used, where cause says that it may have been
// committed or not: its caller was told that it failed, and does not act on it.
func (l *Ledger) undo(cause error, write func(context.Context) error) {
	if errors.Is(cause, postgres.ErrOutcomeUnknown) {
		l.Retry(write)
	}
}

// retryAll tries all writes that are left once.
func (l *Ledger) retryAll(ctx context.Context) {
	l.mu.Lock()
	writes := l.writes
	l.writes = nil
	l.mu.Unlock()
	var left []func(context.Context) error
	for _, write := range writes {
		if err := write(ctx); errors.Is(err, ErrUnavailable) || errors.Is(err, ErrHeld) || ctx.Err() != nil {
			left = append(left, write)
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.writes = append(left, l.writes...)
	l.endIdleBeats()
}

// refuse ends an operation that Begin may have left: nothing was sent.
func (s *Lease) refuse(ctx context.Context) error {
	return s.Finish(ctx, Result{Outcome: Refused, ErrorCode: "ledger_unavailable", Details: Details{
		Note: "nothing was sent: the database did not tell in time whether the intent was on record",
	}})
}

// giveBack releases a taken preview if taking, the entry by which this process took it, is on record. If it
// is not, another process may have taken the preview since.
func (l *Ledger) giveBack(ctx context.Context, taken Preview, taking Head) error {
	return l.write(ctx, func(tx *sql.Tx) error {
		var found bool
		err := tx.QueryRowContext(ctx, `SELECT COUNT(*) > 0 FROM entries WHERE seq = $1 AND hash = $2`, taking.Seq, taking.Hash).Scan(&found)
		if err != nil || !found {
			return err
		}
		return l.releasePreview(ctx, tx, taken)
	})
}
