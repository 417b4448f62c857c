package ledger

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// The bounds of a page of operations.
const (
	DefaultPage = 50
	MaxPage     = 1000
)

// Query selects operations. What is empty selects all.
type Query struct {
	Principal  string
	Connection string
	Tool       string
	Outcome    Outcome // [OpenOutcome]: without one
	Parent     string
	TopLevel   bool   // only those that are no part of a group
	Preview    string // a preview's id
	Sink       string
	Key        string
	Since      time.Time // by when they started
	Limit      int       // default [DefaultPage], at most [MaxPage]
	// After is the Next of the page before.
	After int64
}

// Page is a part of a listing.
type Page struct {
	Operations []Operation
	Next       int64 // zero: this was the last page
}

// Count selects the operations that a limit counts: those that changed something or may have. They
// are open, done, escrowed or unknown. Each counts as many as it has targets, and at least 1. A group
// does not count, its children do.
type Count struct {
	Principal  string
	Connection string // empty: all
	Classes    []Class
	Since      time.Time
	// Single: operations that are part of a group do not count.
	Single bool
	// Compromised: a rotation counts only where the old secret died at once.
	Compromised bool
}

// The columns of the table operations.
const (
	operationColumns = "id, seq, parent, principal, tool, class, connection, provider, account, preview, sink, sink_key, token, outcome, started, " +
		"weight, compromised, delivered, state"
	operationWidth = 19
)

// row returns the operation's row in the table operations.
func (o *Operation) row() []any {
	state, _ := canonical(o) // strings, numbers and times only: cannot fail
	return []any{
		o.ID, o.Seq, o.Parent, o.Principal, o.Tool, string(o.Class), o.Connection, o.Provider, o.Account, o.Preview, o.Sink, o.Key,
		o.NewTokenID, string(o.Outcome), stamp(o.Started), o.weight(), flag(o.Compromised), o.delivered(), string(state),
	}
}

func flag(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

func insert(ctx context.Context, tx *sql.Tx, table string, values ...any) error {
	statement := "INSERT INTO " + table + " VALUES ($1"
	for i := range values[1:] {
		statement += fmt.Sprintf(", $%d", i+2)
	}
	_, err := tx.ExecContext(ctx, statement+")", values...)
	return err
}

// update puts what can change of an operation's row.
func update(ctx context.Context, tx *sql.Tx, op *Operation) error {
	row := op.row()
	_, err := tx.ExecContext(ctx, `UPDATE operations SET token = $1, outcome = $2, weight = $3, delivered = $4, state = $5 WHERE id = $6`,
		op.NewTokenID, string(op.Outcome), op.weight(), op.delivered(), row[len(row)-1], op.ID)
	return err
}

// release takes the lease and the tokens from an operation.
func release(ctx context.Context, tx *sql.Tx, id string) error {
	if _, err := tx.ExecContext(ctx, `DELETE FROM open_changes WHERE operation_id = $1`, id); err != nil {
		return err
	}
	_, err := tx.ExecContext(ctx, `DELETE FROM leases WHERE operation_id = $1`, id)
	return err
}

// leaseOf returns who has the operation; nobody: empty.
func leaseOf(ctx context.Context, tx *sql.Tx, id string) (holder string, err error) {
	err = tx.QueryRowContext(ctx, `SELECT holder FROM leases WHERE operation_id = $1`, id).Scan(&holder)
	if errors.Is(err, sql.ErrNoRows) {
		err = nil
	}
	return holder, err
}

// occupy gives the operation those of the tokens that nobody has, and returns how many these are.
func occupy(ctx context.Context, tx *sql.Tx, op *Operation, tokens []string) (int, error) {
	statement, args := "INSERT INTO open_changes VALUES ", []any{op.Provider, op.Account, op.ID}
	for i, token := range tokens {
		args = append(args, token)
		statement += fmt.Sprintf("%s($1, $2, $%d, $3)", strings.Repeat(", ", min(i, 1)), len(args))
	}
	result, err := tx.ExecContext(ctx, statement+" ON CONFLICT DO NOTHING", args...)
	if err != nil {
		return 0, err
	}
	n, err := result.RowsAffected()
	return int(n), err
}

// holderOf returns the operation that has a token of op's account, and the end of its lease.
func holderOf(ctx context.Context, tx *sql.Tx, op *Operation, token string) (id, expires string, err error) {
	err = tx.QueryRowContext(ctx, `SELECT o.operation_id, COALESCE(l.expires, '') FROM open_changes o
		LEFT JOIN leases l ON l.operation_id = o.operation_id
		WHERE o.provider = $1 AND o.account = $2 AND o.token = $3`, op.Provider, op.Account, token).Scan(&id, &expires)
	return id, expires, err
}

func headOf(ctx context.Context, tx *sql.Tx) (Head, error) {
	head := Head{Hash: genesis}
	err := tx.QueryRowContext(ctx, `SELECT seq, hash FROM entries ORDER BY seq DESC LIMIT 1`).Scan(&head.Seq, &head.Hash)
	if errors.Is(err, sql.ErrNoRows) {
		err = nil
	}
	return head, err
}

const selectOperations = `SELECT o.state, o.seq, COALESCE(l.expires, '') FROM operations o LEFT JOIN leases l ON l.operation_id = o.id `

func find(ctx context.Context, tx *sql.Tx, id string) (Operation, error) {
	if !isText(id) {
		return Operation{}, notFound("operation", id)
	}
	op, err := scanOperation(tx.QueryRowContext(ctx, selectOperations+`WHERE o.id = $1`, id))
	if errors.Is(err, sql.ErrNoRows) {
		return op, notFound("operation", id)
	}
	return op, err
}

func scanOperation(row interface{ Scan(...any) error }) (Operation, error) {
	var op Operation
	var state, expires string
	var seq int64
	if err := row.Scan(&state, &seq, &expires); err != nil {
		return op, err
	}
	if err := json.Unmarshal([]byte(state), &op); err != nil {
		return op, fmt.Errorf("%w: the state of the operation of entry %d is unreadable; run verify", ErrUnavailable, seq)
	}
	op.Seq = seq
	if expires == "" {
		return op, nil
	}
	var err error
	if op.Lease, err = parseTime(expires); err != nil {
		return op, fmt.Errorf("%w: the lease of operation %s: %w", ErrUnavailable, op.ID, err)
	}
	return op, nil
}

func operations(ctx context.Context, tx *sql.Tx, where string, args ...any) ([]Operation, error) {
	rows, err := tx.QueryContext(ctx, selectOperations+where, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var found []Operation
	for rows.Next() {
		op, err := scanOperation(rows)
		if err != nil {
			return nil, err
		}
		found = append(found, op)
	}
	return found, rows.Err()
}

// Get returns an operation, or [ErrNotFound].
func (l *Ledger) Get(ctx context.Context, id string) (op Operation, err error) {
	err = l.read(ctx, func(tx *sql.Tx) error {
		op, err = find(ctx, tx, id)
		return err
	})
	return op, err
}

// History returns the entries of an operation, oldest first.
func (l *Ledger) History(ctx context.Context, id string) (entries []Entry, err error) {
	if !isText(id) {
		return nil, notFound("operation", id)
	}
	err = l.read(ctx, func(tx *sql.Tx) error {
		entries = nil
		return eachEntry(ctx, tx, selectEntries+`WHERE operation_id = $1 ORDER BY seq`, func(e stored) error {
			entries = append(entries, e.Entry)
			return e.err
		}, id)
	})
	if err == nil && len(entries) == 0 {
		err = notFound("operation", id)
	}
	return entries, err
}

// Unfinished returns the open operations whose process is gone, oldest first. Those of this ledger are
// never among them: a machine that slept wakes up with leases that have run out.
func (l *Ledger) Unfinished(ctx context.Context) (found []Operation, err error) {
	err = l.read(ctx, func(tx *sql.Tx) error {
		open, err := operations(ctx, tx, `WHERE o.outcome = '' AND (l.expires IS NULL OR l.expires <= $1) ORDER BY o.seq`, stamp(l.now()))
		if err != nil {
			return err
		}
		found = nil
		for _, op := range open {
			holder, err := leaseOf(ctx, tx, op.ID)
			if err != nil {
				return err
			}
			if !l.holds(op.ID, holder) {
				found = append(found, op)
			}
		}
		return nil
	})
	return found, err
}

// List returns operations, newest first. Operations that begin meanwhile do not disturb the pages.
func (l *Ledger) List(ctx context.Context, q Query) (page Page, err error) {
	where, args := q.where()
	limit := q.Limit
	if limit <= 0 {
		limit = DefaultPage
	}
	limit = min(limit, MaxPage)
	err = l.read(ctx, func(tx *sql.Tx) error {
		page = Page{}
		page.Operations, err = operations(ctx, tx, where+fmt.Sprintf(" ORDER BY o.seq DESC LIMIT %d", limit+1), args...)
		return err
	})
	if err == nil && len(page.Operations) > limit {
		page.Operations = page.Operations[:limit]
		page.Next = page.Operations[limit-1].Seq
	}
	return page, err
}

// where returns the query's condition and its arguments.
func (q Query) where() (string, []any) {
	terms, args := []string{"1 = 1"}, []any(nil)
	add := func(term string, value any) {
		args = append(args, value)
		terms = append(terms, fmt.Sprintf("%s $%d", term, len(args)))
	}
	for _, f := range []struct{ term, value string }{
		{"o.principal =", q.Principal},
		{"o.connection =", q.Connection},
		{"o.tool =", q.Tool},
		{"o.outcome =", string(q.Outcome)},
		// The first half of these is what their partial indexes ask for.
		{"o.parent <> '' AND o.parent =", q.Parent},
		{"o.preview <> '' AND o.preview =", q.Preview},
		{"o.sink <> '' AND o.sink =", q.Sink},
		{"o.sink_key =", q.Key},
	} {
		if f.value == string(OpenOutcome) && f.term == "o.outcome =" {
			terms = append(terms, "o.outcome = ''")
			continue
		}
		if f.value != "" {
			add(f.term, identity(f.value))
		}
	}
	if q.TopLevel {
		terms = append(terms, "o.parent = ''")
	}
	if !q.Since.IsZero() {
		add("o.started >=", stamp(q.Since))
	}
	if q.After > 0 {
		add("o.seq <", q.After)
	}
	return "WHERE " + strings.Join(terms, " AND "), args
}

// IsMade reports whether another operation at by's account got the secret of the token: one that is under
// way, is done, or has it in escrow. by asks whether the token is its own, since its answer was lost. With
// [ErrMayBeMade] that cannot be told: an operation that makes a token of that name is under way, and which one
// is not on record yet; or it was taken for dead while by was under way, and may have the secret all the same.
func (l *Ledger) IsMade(ctx context.Context, by *Operation, token string) (made bool, err error) {
	token = identity(token)
	err = l.read(ctx, func(tx *sql.Tx) error {
		others, err := operations(ctx, tx, `WHERE o.provider = $1 AND o.account = $2 AND o.token IN ('', $3) AND o.outcome IN ('', $4, $5, $6) AND o.sink <> '' AND o.id <> $7`,
			by.Provider, by.Account, token, string(Unknown), string(Escrowed), string(Done), by.ID)
		made = false
		unsure := false
		for i := range others {
			other := &others[i]
			isUnsettled := other.IsOpen() || other.Outcome == Unknown && other.Claims > 0 && !other.Ended.Before(by.Started)
			switch {
			case other.NewTokenID == token && other.Outcome != Unknown:
				made = true
			case isUnsettled && other.Of == "" && other.madeName() == by.madeName():
				unsure = true
			}
		}
		if err == nil && unsure && !made {
			err = fmt.Errorf("%w: %s", ErrMayBeMade, token)
		}
		return err
	})
	return made && err == nil, err
}

// LastDelivery returns the newest operation that put a secret of the token into a sink, by when it
// ended.
func (l *Ledger) LastDelivery(ctx context.Context, provider, account, token string) (op Operation, found bool, err error) {
	return l.delivery(ctx, `o.provider = $1 AND o.account = $2 AND o.token = $3`, identity(provider), identity(account), identity(token))
}

// LastDeliveryTo returns the newest operation that put a secret into the sink's key, by when it ended.
func (l *Ledger) LastDeliveryTo(ctx context.Context, sink, key string) (op Operation, found bool, err error) {
	return l.delivery(ctx, `o.sink = $1 AND o.sink_key = $2`, identity(sink), identity(key))
}

func (l *Ledger) delivery(ctx context.Context, where string, args ...any) (op Operation, found bool, err error) {
	err = l.read(ctx, func(tx *sql.Tx) error {
		op, err = scanOperation(tx.QueryRowContext(ctx, selectOperations+`WHERE o.delivered > 0 AND `+where+` ORDER BY o.delivered DESC LIMIT 1`, args...))
		if found = err == nil; errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		return err
	})
	return op, found && err == nil, err
}

// CountSince returns what the operations count.
func (l *Ledger) CountSince(ctx context.Context, c Count) (n int, err error) {
	err = l.read(ctx, func(tx *sql.Tx) error {
		n, err = c.in(ctx, tx)
		return err
	})
	return n, err
}

func (l Limit) check(ctx context.Context, tx *sql.Tx, wanted int) error {
	n, err := l.in(ctx, tx)
	if err == nil && n+wanted > l.Most {
		return &LimitError{Limit: l, Found: n, Wanted: wanted}
	}
	return err
}

func (c Count) in(ctx context.Context, tx *sql.Tx) (int, error) {
	where := `weight > 0 AND principal = $1 AND class = $2 AND started >= $3`
	args := []any{identity(c.Principal), "", stamp(c.Since)}
	if c.Connection != "" {
		args = append(args, identity(c.Connection))
		where += ` AND connection = $4`
	}
	if c.Single {
		where += ` AND parent = ''`
	}
	total := 0
	for _, class := range slices.Compact(slices.Sorted(slices.Values(c.Classes))) {
		query := `SELECT CAST(COALESCE(SUM(weight), 0) AS BIGINT) FROM operations WHERE ` + where
		if class == "rotate" && c.Compromised {
			query += ` AND compromised = 1`
		}
		args[1] = string(class)
		var n int
		if err := tx.QueryRowContext(ctx, query, args...).Scan(&n); err != nil {
			return 0, err
		}
		total += n
	}
	return total, nil
}

// Head returns the last entry of the chain.
func (l *Ledger) Head(ctx context.Context) (head Head, err error) {
	err = l.read(ctx, func(tx *sql.Tx) error {
		head, err = headOf(ctx, tx)
		return err
	})
	return head, err
}
