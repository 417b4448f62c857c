package ledger

import (
	"bufio"
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// MaxProblems is how many problems a report names.
const MaxProblems = 100

// Problem is one thing that is wrong with a ledger.
type Problem struct {
	Seq       int64  `json:"seq,omitempty"`       // the entry; zero: it is about no single entry
	Operation string `json:"operation,omitempty"` // where it is about an operation
	Text      string `json:"text"`
}

func (p Problem) String() string {
	switch {
	case p.Seq > 0:
		return fmt.Sprintf("entry %d: %s", p.Seq, p.Text)
	case p.Operation != "":
		return fmt.Sprintf("operation %s: %s", p.Operation, p.Text)
	}
	return p.Text
}

// Report is what a verification found.
type Report struct {
	Entries    int64     `json:"entries"`
	Operations int64     `json:"operations"`
	Head       Head      `json:"head"`                // the last entry
	Given      int64     `json:"given_seq,omitempty"` // the entry whose hash was given
	Problems   []Problem `json:"problems"`
	More       bool      `json:"more,omitempty"` // there are more than [MaxProblems]
}

// OK reports whether nothing is wrong.
func (r *Report) OK() bool { return len(r.Problems) == 0 }

func (r *Report) add(p Problem) {
	if len(r.Problems) >= MaxProblems {
		r.More = true
		return
	}
	p.Operation = identity(p.Operation) // the file may have been written by anyone
	r.Problems = append(r.Problems, p)
}

// chain follows entries in the order of their numbers.
type chain struct {
	report *Report
	given  string
	// loose are the entries that do not follow the one before, by their place in the problems.
	loose map[int]string
}

func newChain(head string) (*chain, error) {
	if head != "" && (len(head) != len(genesis) || strings.Trim(head, "0123456789abcdef") != "") {
		return nil, invalid("a head is a hash: 64 hex digits in lower case")
	}
	return &chain{report: &Report{Head: Head{Hash: genesis}}, given: head, loose: map[int]string{}}, nil
}

// follow judges the next entry. cause says why it could not even be read.
func (c *chain) follow(e *Entry, cause error) {
	last := c.report.Head
	c.report.Entries++
	c.report.Head = Head{e.Seq, e.Hash}
	problem := func(format string, args ...any) {
		c.report.add(Problem{Seq: e.Seq, Text: fmt.Sprintf(format, args...)})
	}
	gap := e.Seq != last.Seq+1
	switch {
	case gap && e.Seq == last.Seq+2:
		problem("the entry before it, %d, is missing", last.Seq+1)
	case gap && e.Seq > last.Seq:
		problem("the entries before it, %d to %d, are missing", last.Seq+1, e.Seq-1)
	case gap:
		problem("it stands after entry %d", last.Seq)
	}
	intact := cause == nil && e.Digest() == e.Hash
	if !intact {
		problem("it was altered or moved: its content does not have its hash")
	}
	if intact && c.given == e.Hash {
		c.report.Given = e.Seq
	}
	if !gap && e.Prev != last.Hash {
		c.loose[len(c.report.Problems)] = e.Prev
		problem("it does not follow entry %d: that one was altered or exchanged, or this one was", last.Seq)
	}
}

// end judges the chain as a whole.
func (c *chain) end() Report {
	if c.given != "" && c.report.Given == 0 {
		c.report.add(Problem{Text: "the given head is not in the chain: entries were removed at its end, or it was written anew"})
	}
	return *c.report
}

// Verify reads the whole ledger and reports each entry that was altered, removed or moved, and each
// operation and preview whose state is not what its entries say. Previews are forgotten in time: one
// that is missing is no problem, its code is void. A chain that was shortened at its end, or
// written anew from some entry on, is consistent by itself: only head, a hash that was noted
// earlier, finds that. It may be empty.
func (l *Ledger) Verify(ctx context.Context, head string) (Report, error) {
	c, err := newChain(head)
	if err != nil {
		return Report{}, err
	}
	db, err := l.database(ctx)
	if err != nil {
		return Report{}, err
	}
	damage, err := db.damage(ctx)
	if err != nil {
		return Report{}, err
	}
	var report Report
	err = db.read(ctx, func(tx *sql.Tx) error {
		c, _ = newChain(head)
		report, err = c.verify(ctx, tx)
		return err
	})
	for _, text := range damage {
		report.add(Problem{Text: "the database is damaged: " + text})
	}
	if len(damage) > 0 && ctx.Err() == nil {
		err = nil // what is damaged cannot be read to its end
	}
	return report, err
}

func (c *chain) verify(ctx context.Context, tx *sql.Tx) (Report, error) {
	wrong, err := c.read(ctx, tx)
	if err != nil {
		return *c.report, err
	}
	for i, hash := range c.loose {
		var seq int64
		if i < MaxProblems && tx.QueryRowContext(ctx, `SELECT seq FROM entries WHERE hash = $1`, hash).Scan(&seq) == nil {
			c.report.Problems[i].Text = fmt.Sprintf("it was moved: what is entry %d now was written before it", seq)
		}
	}
	err = c.report.operations(ctx, tx)
	for _, id := range wrong {
		c.report.add(Problem{Text: fmt.Sprintf("preview %s: its state is not what its entries say", identity(id))})
	}
	return c.end(), err
}

// read follows all entries and returns the previews that are not what these say.
func (c *chain) read(ctx context.Context, tx *sql.Tx) (wrong []string, err error) {
	previews, err := keptPreviews(ctx, tx)
	if err != nil {
		return nil, err
	}
	// Not through an index.
	err = eachEntry(ctx, tx, selectEntries+`ORDER BY seq`, func(e stored) error {
		c.follow(&e.Entry, e.err)
		if e.Operation == "" {
			previews.apply(&e.Entry)
		}
		return nil
	})
	return previews.wrong(), err
}

// stored is an entry as it was read. err says what is wrong with its form.
type stored struct {
	Entry
	err error
}

const selectEntries = "SELECT seq, prev_hash, hash, operation_id, kind, time, body FROM entries "

func eachEntry(ctx context.Context, tx *sql.Tx, query string, f func(stored) error, args ...any) error {
	rows, err := tx.QueryContext(ctx, query, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var e stored
		var at, body string
		if err := rows.Scan(&e.Seq, &e.Prev, &e.Hash, &e.Operation, &e.Kind, &at, &body); err != nil {
			return err
		}
		e.Body = json.RawMessage(body)
		e.Time, e.err = parseTime(at)
		if err := f(e); err != nil {
			return err
		}
	}
	return rows.Err()
}

// derived is an operation made of its entries. err says where they contradict each other.
type derived struct {
	Operation
	err error
}

// derive makes the next operations after the one with the id after, in the order of their ids. None:
// there are no more.
func derive(ctx context.Context, tx *sql.Tx, after string) ([]derived, error) {
	const batch = selectEntries + `WHERE operation_id IN (SELECT DISTINCT operation_id FROM entries WHERE operation_id > $1 ORDER BY operation_id LIMIT 100)
		ORDER BY operation_id, seq`
	var ops []derived
	err := eachEntry(ctx, tx, batch, func(e stored) error {
		if len(ops) == 0 || ops[len(ops)-1].ID != e.Operation {
			ops = append(ops, derived{})
		}
		op := &ops[len(ops)-1]
		err := errors.Join(e.err, op.apply(e.Entry))
		op.ID = e.Operation
		if op.err == nil && err != nil {
			op.err = fmt.Errorf("entry %d: %w", e.Seq, err)
		}
		return nil
	}, after)
	return ops, err
}

// operations compares each operation's row with what its entries say.
func (r *Report) operations(ctx context.Context, tx *sql.Tx) error {
	held, err := heldTokens(ctx, tx)
	if err != nil {
		return err
	}
	for after := ""; ; {
		ops, err := derive(ctx, tx, after)
		if err != nil {
			return err
		}
		upTo := ""
		if len(ops) > 0 {
			upTo = ops[len(ops)-1].ID
		}
		rows, err := rowsBetween(ctx, tx, after, upTo)
		if err != nil {
			return err
		}
		r.compare(ops, rows, held)
		if upTo == "" {
			break
		}
		after = upTo
	}
	for _, id := range slices.Sorted(maps.Keys(held)) {
		r.add(Problem{Operation: id, Text: "it has tokens and no entries"})
	}
	return nil
}

func (r *Report) compare(ops []derived, rows map[string]string, held map[string][]string) {
	for i := range ops {
		op := &ops[i]
		r.Operations++
		row, ok := rows[op.ID]
		delete(rows, op.ID)
		tokens := held[op.ID]
		delete(held, op.ID)
		switch {
		case op.err != nil:
			r.add(Problem{Operation: op.ID, Text: op.err.Error()})
		case !ok:
			r.add(Problem{Operation: op.ID, Text: "its state is missing"})
		case row != joined(op.row()):
			r.add(Problem{Operation: op.ID, Text: "its state is not what its entries say"})
		case !op.holds(tokens):
			r.add(Problem{Operation: op.ID, Text: "the tokens that nobody else may change are not what its entries say"})
		}
	}
	for _, id := range slices.Sorted(maps.Keys(rows)) {
		r.add(Problem{Operation: id, Text: "it has a state and no entries"})
	}
}

// holds reports whether an operation can hold these tokens: all its targets, and no other but the token
// that it made.
func (o *Operation) holds(tokens []string) bool {
	left := map[string]bool{} // whether it must be held
	for _, token := range o.locks() {
		left[joined([]any{o.Provider, o.Account, token})] = false
	}
	for _, token := range o.targetLocks() {
		left[joined([]any{o.Provider, o.Account, token})] = true
	}
	for _, token := range tokens {
		if _, ok := left[token]; !ok {
			return false
		}
		delete(left, token)
	}
	return !slices.Contains(slices.Collect(maps.Values(left)), true)
}

// heldTokens returns the tokens that operations hold, by the operations' ids.
func heldTokens(ctx context.Context, tx *sql.Tx) (map[string][]string, error) {
	rows, err := tx.QueryContext(ctx, `SELECT operation_id, provider, account, token FROM open_changes`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	held := map[string][]string{}
	for rows.Next() {
		var id, provider, account, token string
		if err := rows.Scan(&id, &provider, &account, &token); err != nil {
			return nil, err
		}
		held[id] = append(held[id], joined([]any{provider, account, token}))
	}
	return held, rows.Err()
}

// rowsBetween returns the rows of the operations with ids beyond after and up to upTo; empty: from
// the first, and to the end.
func rowsBetween(ctx context.Context, tx *sql.Tx, after, upTo string) (map[string]string, error) {
	rows, err := tx.QueryContext(ctx, `SELECT `+operationColumns+` FROM operations WHERE (id > $1 OR $1 = '') AND (id <= $2 OR $2 = '')`, after, upTo)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	found := map[string]string{}
	values := make([]any, operationWidth)
	for i := range values {
		values[i] = new(string)
	}
	for rows.Next() {
		if err := rows.Scan(values...); err != nil {
			return nil, err
		}
		texts := make([]any, len(values))
		for i, v := range values {
			texts[i] = *v.(*string)
		}
		found[texts[0].(string)] = joined(texts)
	}
	return found, rows.Err()
}

// joined makes one text of a row, in which no value runs into the next.
func joined(values []any) string {
	texts := make([]string, len(values))
	for i, v := range values {
		texts[i] = fmt.Sprint(v)
	}
	return fmt.Sprintf("%q", texts)
}

// Rebuild makes the states of all operations anew from their entries, after Verify has found that
// these disagree, and drops the previews that do. It refuses where an entry itself is not as it was
// written.
func (l *Ledger) Rebuild(ctx context.Context) error {
	return l.write(ctx, func(tx *sql.Tx) error {
		c, _ := newChain("")
		wrong, err := c.read(ctx, tx)
		if err != nil {
			return err
		}
		if !c.report.OK() {
			return fmt.Errorf("%w: the entries themselves are not as they were written: %s; restore a backup", ErrUnavailable, c.report.Problems[0])
		}
		for _, statement := range []string{"DELETE FROM operations", "DELETE FROM open_changes"} {
			if _, err := tx.ExecContext(ctx, statement); err != nil {
				return err
			}
		}
		for _, id := range wrong {
			if _, err := tx.ExecContext(ctx, `DELETE FROM previews WHERE id = $1`, id); err != nil {
				return err
			}
		}
		return l.restoreAll(ctx, tx)
	})
}

func (l *Ledger) restoreAll(ctx context.Context, tx *sql.Tx) error {
	var makers []Operation
	for after := ""; ; {
		ops, err := derive(ctx, tx, after)
		if err != nil {
			return err
		}
		if len(ops) == 0 {
			break
		}
		for i := range ops {
			if err := l.restore(ctx, tx, &ops[i]); err != nil {
				return err
			}
			if ops[i].IsOpen() && ops[i].NewTokenID != "" {
				makers = append(makers, ops[i].Operation)
			}
		}
		after = ops[len(ops)-1].ID
	}
	// Only now: a token that one has made can be the target of another, which comes first.
	for i := range makers {
		if err := l.takeMade(ctx, tx, &makers[i], ""); err != nil {
			return err
		}
	}
	return nil
}

func (l *Ledger) restore(ctx context.Context, tx *sql.Tx, op *derived) error {
	if op.err != nil {
		return fmt.Errorf("%w: operation %s: %w; restore a backup", ErrUnavailable, op.ID, op.err)
	}
	if err := insert(ctx, tx, "operations", op.row()...); err != nil {
		return err
	}
	return l.take(ctx, tx, &op.Operation, op.targetLocks())
}

// VerifyExport reads what [Ledger.Export] wrote as JSON Lines, and judges it as [Ledger.Verify] does
// the ledger. It needs no ledger.
func VerifyExport(r io.Reader, head string) (Report, error) {
	c, err := newChain(head)
	if err != nil {
		return Report{}, err
	}
	lines := bufio.NewReader(r)
	for {
		text, err := lines.ReadBytes('\n')
		if errors.Is(err, io.EOF) && len(text) == 0 {
			return c.end(), nil
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return c.end(), err
		}
		var e Entry
		cause := json.Unmarshal(text, &e)
		if again, err := compact(e); cause == nil && (err != nil || !bytes.Equal(append(again, '\n'), text)) {
			cause = errors.New("not as it was written")
		}
		c.follow(&e, cause)
	}
}
