// Package ledger keeps the durable, append-only, hash-chained record of operations, and the previews
// that lead to them. The intent of a change is on disk before the vendor is called; its outcome
// follows. Several processes share one ledger.
//
// Every entry carries the hash of the one before; see [Entry.Digest]. The present state of each
// operation is derived from its entries in the same transaction.
package ledger

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/bits"
	"os"
	"sync"
	"time"

	"github.com/google/uuid"
)

// Options configure a ledger. The zero value is for service.
type Options struct {
	// Now is the clock; default time.Now.
	Now func() time.Time
	// Lease is how long a process that shows no sign of life keeps its operations; default 30 s.
	// It shows one every third of that.
	Lease time.Duration
	// Patience is how long a call waits for other processes to finish writing; default 10 s. A ledger in
	// PostgreSQL has that of its database instead.
	Patience time.Duration
	// Previews is how many open previews a principal can have, and half as many with a recorded
	// result; default 512. The oldest goes first.
	Previews int
}

// Ledger is the record. It is opened at the first call that needs it, and safe for concurrent use.
// The context given to a call ends its waiting; what must be recorded whatever the client does needs
// a context that the client cannot cancel.
type Ledger struct {
	now     func() time.Time
	lease   time.Duration
	process string // random, of this ledger in this process
	connect func(context.Context) (database, error)

	previews int

	opening chan struct{} // held while db is opened, read or closed
	db      database
	closed  bool

	mu     sync.Mutex
	held   map[*Lease]struct{}
	writes []func(context.Context) error // that failed, for the heartbeat
	stop   chan struct{}                 // ends the heartbeat; nil: there is none
	beats  sync.WaitGroup
}

// database is what holds a ledger. The tables and the SQL of this package, with parameters $1, $2,
// …, are the same for each.
type database interface {
	// write runs f in the one transaction that may write at a time, in all processes. Its commit is
	// on disk when write returns without error. f may run more than once.
	write(ctx context.Context, f func(*sql.Tx) error) error
	// read runs f on one state of the data.
	read(ctx context.Context, f func(*sql.Tx) error) error
	// damage tells what the database itself finds wrong with its files.
	damage(ctx context.Context) ([]string, error)
	close() error
}

func newLedger(o Options, connect func(context.Context) (database, error)) *Ledger {
	l := &Ledger{
		now: o.Now, lease: o.Lease, process: uuid.NewString(), connect: connect,
		opening: make(chan struct{}, 1), held: map[*Lease]struct{}{}, previews: o.Previews,
	}
	if l.now == nil {
		l.now = time.Now
	}
	if l.lease <= 0 {
		l.lease = 30 * time.Second
	}
	if l.previews <= 0 {
		l.previews = 512
	}
	return l
}

// New returns the ledger in the SQLite file at path. It touches nothing: the file, and its directory
// with mode 0700, are made at the first call that needs them.
func New(path string, o Options) *Ledger {
	if o.Patience <= 0 {
		o.Patience = 10 * time.Second
	}
	return newLedger(o, func(ctx context.Context) (database, error) { return openSQLite(ctx, path, o.Patience) })
}

// Open returns the ledger in the SQLite file at path, opened.
func Open(ctx context.Context, path string, o Options) (*Ledger, error) {
	l := New(path, o)
	if err := l.Open(ctx); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// Exists reports whether something stands at path, so that a process which only looks at the
// record need not make one.
func Exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// Now is the time by which the ledger judges: for all who share it the same.
func (l *Ledger) Now() time.Time { return l.now() }

// Open opens the ledger now.
func (l *Ledger) Open(ctx context.Context) error {
	_, err := l.database(ctx)
	return err
}

// Close ends the heartbeat and closes the ledger. Operations that are open then become unfinished
// when their lease ends.
func (l *Ledger) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), closeTime)
	l.retryAll(ctx)
	cancel()
	l.mu.Lock()
	l.held = nil
	l.endBeats()
	l.mu.Unlock()
	l.beats.Wait()
	l.opening <- struct{}{}
	defer func() { <-l.opening }()
	l.closed = true
	if l.db == nil {
		return nil
	}
	db := l.db
	l.db = nil
	return db.close()
}

func (l *Ledger) database(ctx context.Context) (database, error) {
	select {
	case l.opening <- struct{}{}:
		defer func() { <-l.opening }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if l.closed {
		return nil, fmt.Errorf("%w: it is closed", ErrUnavailable)
	}
	if l.db == nil {
		db, err := l.connect(ctx)
		if err != nil {
			return nil, err
		}
		l.db = db
	}
	return l.db, nil
}

func (l *Ledger) write(ctx context.Context, f func(*sql.Tx) error) error {
	db, err := l.database(ctx)
	if err != nil {
		return err
	}
	return db.write(ctx, f)
}

func (l *Ledger) read(ctx context.Context, f func(*sql.Tx) error) error {
	db, err := l.database(ctx)
	if err != nil {
		return err
	}
	return db.read(ctx, f)
}

// Limit bounds what operations of a kind may change: what was found, and the targets of the operation
// to begin, must not be more than Most.
type Limit struct {
	Count
	Most int
}

// Begin records the intent of a change and takes its tokens. When it returns without error, the
// intent is on disk and the vendor may be called; with an error, nothing may be sent. id is from
// [NewID]; empty: one is made. The limits are judged in the same transaction.
//
// Errors: [ChangeInProgressError], [LimitError], [ErrInvalid], [ErrUnavailable].
func (l *Ledger) Begin(ctx context.Context, id string, i Intent, limits ...Limit) (*Lease, error) {
	lease := &Lease{ledger: l, holder: uuid.NewString()}
	op, err := l.start(ctx, id, i, limits, func(tx *sql.Tx, op *Operation) error {
		if err := l.take(ctx, tx, op, op.locks()); err != nil {
			return err
		}
		return insert(ctx, tx, "leases", op.ID, lease.holder, stamp(l.now().Add(l.lease)))
	}, &lease.head)
	lease.id, lease.operation = op.ID, op
	if err != nil {
		l.undo(err, lease.refuse)
		return nil, err
	}
	l.hold(lease)
	return lease, nil
}

// Record records a change that has ended already, with its result: one that was refused, or that
// was found done. It takes no token and no limit is judged. The head belongs in the log, as
// [Lease.Head] says.
func (l *Ledger) Record(ctx context.Context, id string, i Intent, r Result) (op Operation, head Head, err error) {
	r, err = r.cleaned()
	if err != nil {
		return op, head, err
	}
	op, err = l.start(ctx, id, i, nil, func(tx *sql.Tx, op *Operation) error {
		return l.advance(ctx, tx, op, kindOutcome, r, &head)
	}, &head)
	return op, head, err
}

// start appends the intent and then does what the caller needs in the same transaction.
func (l *Ledger) start(
	ctx context.Context, id string, i Intent, limits []Limit, then func(*sql.Tx, *Operation) error, head *Head,
) (Operation, error) {
	i, err := i.cleaned()
	if err != nil {
		return Operation{}, err
	}
	if id == "" {
		if id, err = NewID(); err != nil {
			return Operation{}, err
		}
	}
	if err := checkID(id); err != nil {
		return Operation{}, err
	}
	var op Operation
	err = l.write(ctx, func(tx *sql.Tx) error {
		if _, err := find(ctx, tx, id); !errors.Is(err, ErrNotFound) {
			return errors.Join(err, invalid("operation %s is on record already", id))
		}
		wanted := (&Operation{Intent: i}).weight()
		for _, limit := range limits {
			if err := limit.check(ctx, tx, wanted); err != nil {
				return err
			}
		}
		e, err := l.append(ctx, tx, id, kindIntent, intentBody{i, l.process})
		if err != nil {
			return err
		}
		op = Operation{}
		if err := op.apply(e); err != nil {
			return err
		}
		if err := insert(ctx, tx, "operations", op.row()...); err != nil {
			return err
		}
		*head = Head{e.Seq, e.Hash}
		return then(tx, &op)
	})
	return op, err
}

// append adds an entry to the chain.
func (l *Ledger) append(ctx context.Context, tx *sql.Tx, operation, kind string, body any) (Entry, error) {
	data, err := canonical(body)
	if err != nil {
		return Entry{}, err
	}
	head, err := headOf(ctx, tx)
	if err != nil {
		return Entry{}, err
	}
	e := Entry{Seq: head.Seq + 1, Prev: head.Hash, Operation: operation, Kind: kind, Time: whole(l.now()), Body: data}
	e.Hash = e.Digest()
	return e, insert(ctx, tx, "entries", e.Seq, e.Prev, e.Hash, e.Operation, e.Kind, stamp(e.Time), string(e.Body))
}

// advance appends an entry to an operation and moves its state on.
func (l *Ledger) advance(ctx context.Context, tx *sql.Tx, op *Operation, kind string, body any, head *Head) error {
	e, err := l.append(ctx, tx, op.ID, kind, body)
	if err != nil {
		return err
	}
	if err := op.apply(e); err != nil {
		return fmt.Errorf("operation %s: %w", op.ID, err)
	}
	*head = Head{e.Seq, e.Hash}
	return update(ctx, tx, op)
}

// take gives the operation tokens that it changes.
func (l *Ledger) take(ctx context.Context, tx *sql.Tx, op *Operation, tokens []string) error {
	for len(tokens) > 0 {
		// Powers of two, so that there are few different statements.
		n := 1 << (bits.Len(uint(min(len(tokens), 256))) - 1)
		free, err := occupy(ctx, tx, op, tokens[:n])
		if err != nil {
			return err
		}
		if free < n {
			if err := l.occupied(ctx, tx, op, tokens[:n]); err != nil {
				return err
			}
		}
		tokens = tokens[n:]
	}
	return nil
}

// occupied tells which of the tokens another operation has.
func (l *Ledger) occupied(ctx context.Context, tx *sql.Tx, op *Operation, tokens []string) error {
	for _, token := range tokens {
		other, expires, err := holderOf(ctx, tx, op, token)
		if err != nil {
			return err
		}
		if other != op.ID {
			return &ChangeInProgressError{Operation: other, Token: token, Abandoned: expires <= stamp(l.now())}
		}
	}
	return nil
}

// Resolve gives an operation whose outcome is unknown or escrowed its final one, once that has been
// found out or the secret delivered. by is the operation that did it; empty, or the same id: no
// other. An operation with any other outcome is [ErrFinished]; an open one [ErrHeld].
func (l *Ledger) Resolve(ctx context.Context, id, by string, r Result) error {
	r, err := r.cleaned()
	if err != nil {
		return err
	}
	if by == id {
		by = ""
	}
	if by != "" {
		if err := checkID(by); err != nil {
			return err
		}
	}
	return l.write(ctx, func(tx *sql.Tx) error {
		op, err := find(ctx, tx, id)
		if err != nil {
			return err
		}
		if op.IsOpen() {
			return fmt.Errorf("%w: operation %s has no outcome yet; claim it, or wait until it has ended", ErrHeld, id)
		}
		if !op.resolvable() {
			return finished(&op)
		}
		var head Head
		return l.advance(ctx, tx, &op, kindResolve, resolveBody{by, r}, &head)
	})
}

func finished(op *Operation) error {
	return fmt.Errorf("%w: operation %s ended as %q; nothing more is recorded for it", ErrFinished, op.ID, op.Outcome)
}
