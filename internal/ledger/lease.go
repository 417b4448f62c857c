package ledger

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/tokenreeve/tokenreeve/internal/postgres"
)

// Lease is the right to carry an operation out and to record how it goes. While the process lives,
// the lease is renewed in the background. It is safe for concurrent use.
type Lease struct {
	ledger *Ledger
	id     string // the operation's
	holder string // random, of this lease

	mu        sync.Mutex
	operation Operation
	head      Head
	unsure    Head // the entry of an attempt of which it is not known whether it was recorded; zero: none
}

// ID returns the operation's id.
func (s *Lease) ID() string { return s.id }

// Operation returns the operation as this lease has last recorded it.
func (s *Lease) Operation() Operation {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.operation
}

// Head returns the last entry of the chain that this lease has written: it belongs in the log, where
// it proves later that the chain was not shortened.
func (s *Lease) Head() Head {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.head
}

// Step records that a step was reached, and what became known. [ErrLeaseLost]: it is on record as a
// late report, and the holder must stop where it can.
func (s *Lease) Step(ctx context.Context, step string, d Details) error {
	if !isWord(step) {
		return invalid("a step is a word in lower-case letters, digits and _")
	}
	d = d.cleaned()
	return s.record(ctx, kindStep, stepBody{step, d}, lateBody{Step: step, Result: Result{Details: d}})
}

// Finish records the outcome and gives the tokens back. [ErrLeaseLost]: the outcome is on record as
// a late report, and the operation is still whoever claimed it has to end. Where it fails otherwise,
// the lease is kept: try again, or give the operation up with Release.
func (s *Lease) Finish(ctx context.Context, r Result) error {
	r, err := r.cleaned()
	if err != nil {
		return err
	}
	return s.record(ctx, kindOutcome, r, lateBody{Result: r})
}

// record appends an entry under the lease, or a late one when the lease is lost.
func (s *Lease) record(ctx context.Context, kind string, body any, late lateBody) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	l, id := s.ledger, s.id
	var op Operation
	var head Head
	var lost error
	err := l.write(ctx, func(tx *sql.Tx) error {
		var err error
		if op, err = find(ctx, tx, id); err != nil {
			return err
		}
		if again, err := s.isRecorded(ctx, tx, kind, body); again || err != nil {
			head, lost = s.unsure, nil
			return err
		}
		holder, err := leaseOf(ctx, tx, id)
		if err != nil {
			return err
		}
		lost = s.judge(&op, holder)
		if errors.Is(lost, ErrFinished) {
			return lost
		}
		before := op.NewTokenID
		if lost != nil {
			late.Process = l.process
			if err := l.advance(ctx, tx, &op, kindLate, late, &head); err != nil {
				return err
			}
			return l.takeMade(ctx, tx, &op, before)
		}
		if err := l.advance(ctx, tx, &op, kind, body, &head); err != nil {
			return err
		}
		if !op.IsOpen() {
			return release(ctx, tx, id)
		}
		if err := l.takeMade(ctx, tx, &op, before); err != nil {
			return err
		}
		_, err = l.renew(ctx, tx, id, s.holder)
		return err
	})
	if errors.Is(err, ErrFinished) {
		l.drop(s)
		return err
	}
	if errors.Is(err, postgres.ErrOutcomeUnknown) {
		s.unsure = head
	}
	if err != nil {
		return err
	}
	if lost != nil || !op.IsOpen() {
		l.drop(s)
	}
	s.head, s.unsure = head, Head{}
	if lost == nil {
		s.operation = op
	}
	return lost
}

// isRecorded reports whether this entry is on record from the attempt before, whose end is not known.
func (s *Lease) isRecorded(ctx context.Context, tx *sql.Tx, kind string, body any) (found bool, err error) {
	if s.unsure.Seq == 0 {
		return false, nil
	}
	data, err := canonical(body)
	if err != nil {
		return false, err
	}
	err = tx.QueryRowContext(ctx, `SELECT COUNT(*) > 0 FROM entries WHERE seq = $1 AND hash = $2 AND kind = $3 AND body = $4`,
		s.unsure.Seq, s.unsure.Hash, kind, string(data)).Scan(&found)
	return found, err
}

// judge tells whether the lease still holds. One that has run out, and that nobody claimed, does.
func (s *Lease) judge(op *Operation, holder string) error {
	if holder == s.holder {
		return nil
	}
	if op.Claims == s.operation.Claims {
		return finished(op)
	}
	return fmt.Errorf("%w: operation %s was without a sign of life for too long; what this process knows is on record", ErrLeaseLost, op.ID)
}

// takeMade takes the token that an open operation has made since before.
func (l *Ledger) takeMade(ctx context.Context, tx *sql.Tx, op *Operation, before string) error {
	if op.Group || !op.IsOpen() || op.NewTokenID == "" || op.NewTokenID == before {
		return nil
	}
	// A token that another operation has stays with it: what this one did is done.
	var taken *ChangeInProgressError
	if err := l.take(ctx, tx, op, []string{op.NewTokenID}); err != nil && !errors.As(err, &taken) {
		return err
	}
	return nil
}

// Release gives the operation up without an outcome, so that it counts as unfinished at once.
func (s *Lease) Release(ctx context.Context) error {
	l := s.ledger
	l.drop(s)
	return l.write(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `UPDATE leases SET expires = $1 WHERE operation_id = $2 AND holder = $3`,
			stamp(l.now()), s.id, s.holder)
		return err
	})
}

// Claim takes an unfinished operation over. Of several that try, one gets it; the others, and whoever
// tries while its process lives, get [ErrHeld]. One that has ended is [ErrFinished].
func (l *Ledger) Claim(ctx context.Context, id string) (*Lease, error) {
	lease := &Lease{ledger: l, id: id, holder: uuid.NewString()}
	err := l.write(ctx, func(tx *sql.Tx) error {
		op, err := find(ctx, tx, id)
		if err != nil {
			return err
		}
		if !op.IsOpen() {
			return finished(&op)
		}
		now := l.now()
		if op.Lease.After(now) {
			return fmt.Errorf("%w: operation %s belongs to a process that was alive a moment ago; try again after %s",
				ErrHeld, id, op.Lease.UTC().Format(time.RFC3339))
		}
		if err := l.advance(ctx, tx, &op, kindClaim, claimBody{l.process, op.Process}, &lease.head); err != nil {
			return err
		}
		lease.operation = op
		if _, err := tx.ExecContext(ctx, `DELETE FROM leases WHERE operation_id = $1`, id); err != nil {
			return err
		}
		return insert(ctx, tx, "leases", id, lease.holder, stamp(now.Add(l.lease)))
	})
	if err != nil {
		return nil, err
	}
	l.hold(lease)
	return lease, nil
}

// hold renews the lease from now on.
func (l *Ledger) hold(s *Lease) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.held == nil { // closed meanwhile
		return
	}
	l.held[s] = struct{}{}
	l.startBeats()
}

// startBeats begins the heartbeat where there is none. l.mu is held.
func (l *Ledger) startBeats() {
	if l.stop != nil {
		return
	}
	stop := make(chan struct{})
	l.stop = stop
	l.beats.Go(func() { l.beat(stop) })
}

// holds reports whether the holder of the operation's lease is one of this ledger's.
func (l *Ledger) holds(operation, holder string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for s := range l.held {
		if s.id == operation && s.holder == holder {
			return true
		}
	}
	return false
}

func (l *Ledger) drop(s *Lease) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.held, s)
	l.endIdleBeats()
}

// endIdleBeats ends the heartbeat where there is nothing to do for it. l.mu is held.
func (l *Ledger) endIdleBeats() {
	if len(l.held) == 0 && len(l.writes) == 0 {
		l.endBeats()
	}
}

// endBeats ends the heartbeat. l.mu is held.
func (l *Ledger) endBeats() {
	if l.stop != nil {
		close(l.stop)
		l.stop = nil
	}
}

// beatTime bounds one heartbeat.
const beatTime = 30 * time.Second

// beat shows that the process lives. It writes no entry.
func (l *Ledger) beat(stop <-chan struct{}) {
	ticker := time.NewTicker(l.lease / 3)
	defer ticker.Stop()
	for {
		select {
		case <-stop:
			return
		case <-ticker.C:
		}
		// What fails is tried again at the next beat; a lease that is lost meanwhile is found out by
		// the next step.
		ctx, cancel := context.WithTimeout(context.Background(), beatTime)
		_ = l.renewAll(ctx)
		l.retryAll(ctx)
		cancel()
	}
}

func (l *Ledger) renewAll(ctx context.Context) error {
	l.mu.Lock()
	held := make([]*Lease, 0, len(l.held))
	for s := range l.held {
		held = append(held, s)
	}
	l.mu.Unlock()
	if len(held) == 0 {
		return nil
	}
	var lost []*Lease
	err := l.write(ctx, func(tx *sql.Tx) error {
		lost = nil
		for _, s := range held {
			kept, err := l.renew(ctx, tx, s.id, s.holder)
			if err != nil {
				return err
			}
			if !kept {
				lost = append(lost, s)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, s := range lost {
		l.drop(s)
	}
	return nil
}

func (l *Ledger) renew(ctx context.Context, tx *sql.Tx, operation, holder string) (kept bool, err error) {
	result, err := tx.ExecContext(ctx, `UPDATE leases SET expires = $1 WHERE operation_id = $2 AND holder = $3`,
		stamp(l.now().Add(l.lease)), operation, holder)
	if err != nil {
		return false, err
	}
	n, err := result.RowsAffected()
	return n > 0, err
}
