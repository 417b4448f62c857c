package tools

import (
	"bytes"
	"cmp"
	"container/heap"
	"context"
	"slices"
	"strings"

	"github.com/tokenreeve/tokenreeve/providers"
)

// rowPage collects the rows of one answer.
type rowPage struct {
	limit       int
	room        int // for the rows, in tokens of a language model
	full        bool
	single      bool // one connection was asked for: rows need not name it
	connections []*Connection

	rows   []tokenRow
	text   bytes.Buffer // of one row, used again for the next
	gauge  gauge
	tokens int    // of a language model, estimated
	last   *place // of the last row
	more   bool   // rows may follow
}

// add appends a row and reports whether there was room for it.
func (p *rowPage) add(m match, key string) bool {
	if len(p.rows) >= p.limit {
		p.more = true
		return false
	}
	name := p.connections[m.index].Name
	row := conciseRow(m.token, m.own)
	if p.full {
		row = fullRow(m.token, m.own)
	}
	if !p.single {
		row.Connection = name
	}
	if p.rows == nil {
		p.rows, p.gauge = make([]tokenRow, 0, p.limit), newGauge()
	}
	p.rows = append(p.rows, row)
	p.text.Reset()
	err := writeCompact(&p.text, &p.rows[len(p.rows)-1])
	cost := p.gauge.tokensOf(p.text.Bytes()) + 1
	if err != nil || len(p.rows) > 1 && p.tokens+cost > p.room {
		p.rows = p.rows[:len(p.rows)-1]
		p.more = true
		return false
	}
	p.tokens += cost
	p.last = &place{Connection: name, ID: m.token.ID, At: m.at, Key: key}
	return true
}

// listInOrder reads connection after connection in the vendor's order and stops
// when the page is full.
func (c *Call) listInOrder(ctx context.Context, filter providers.Filter, from *place, page *rowPage, p *progress) ([]coverage, error) {
	start, at, skip := 0, "", ""
	if from != nil {
		at, skip = from.At, from.ID
		if start = slices.IndexFunc(page.connections, func(x *Connection) bool { return x.Name == from.Connection }); start < 0 {
			return nil, staleCursor()
		}
	}
	r := c.newReading(page.connections, filter, p)
	skipping := skip != ""
	covered := r.inOrder(ctx, start, at, func(m match) bool {
		if skipping {
			skipping = m.token.ID != skip
			return true
		}
		return page.add(m, "")
	}, func(last bool) bool {
		if skipping {
			return at == "" // the row must stand on the page that it was read from
		}
		if len(page.rows) >= page.limit && !last {
			page.more = true
			return false
		}
		return true
	})
	if !skipping {
		return covered, nil
	}
	if covered[0].Error != nil {
		return nil, covered[0].problem()
	}
	if at == "" {
		return nil, staleCursor()
	}
	// Tokens were made or deleted since: look for the row from the start.
	restart := *from
	restart.At = ""
	return c.listInOrder(ctx, filter, &restart, page, p)
}

func staleCursor() error {
	return &Problem{
		Code:    "cursor_stale",
		Message: "the row that the cursor stands on is gone, so the listing cannot go on from there",
		Next:    "list again without cursor",
	}
}

// sorting is an order of rows.
type sorting struct {
	field   string
	reverse bool
}

func parseSort(text string) sorting {
	field, reverse := strings.CutPrefix(text, "-")
	return sorting{field, reverse}
}

// key is the row's value as text that sorts as the value does. Empty means that
// there is no date.
func (s sorting) key(t *providers.Token) string {
	date := t.Created
	switch s.field {
	case "name":
		return strings.ToLower(t.Name)
	case "last_used":
		date = t.LastUsed
	case "expires":
		date = t.Expires
	}
	if at, ok := date.Time(); ok {
		return at.Format("2006-01-02T15:04:05.000000000Z")
	}
	return ""
}

// compare orders two rows. No date comes last, whatever the direction.
func (s sorting) compare(a, b sortedRow) int {
	if a.key != b.key {
		switch {
		case a.key == "" && s.field != "name":
			return 1
		case b.key == "" && s.field != "name":
			return -1
		case s.reverse:
			return strings.Compare(b.key, a.key)
		default:
			return strings.Compare(a.key, b.key)
		}
	}
	return cmp.Or(strings.Compare(a.connection, b.connection), strings.Compare(a.id, b.id))
}

type sortedRow struct {
	key, connection, id string
	match               match
}

// worst is a heap with the last row in order on top: the one to drop.
type worst struct {
	sorting
	rows []sortedRow
}

func (w *worst) Len() int           { return len(w.rows) }
func (w *worst) Less(i, j int) bool { return w.compare(w.rows[i], w.rows[j]) > 0 }
func (w *worst) Swap(i, j int)      { w.rows[i], w.rows[j] = w.rows[j], w.rows[i] }
func (w *worst) Push(x any)         { w.rows = append(w.rows, x.(sortedRow)) }
func (w *worst) Pop() any {
	last := w.rows[len(w.rows)-1]
	w.rows = w.rows[:len(w.rows)-1]
	return last
}

// listSorted reads everything and keeps the first rows in order.
func (c *Call) listSorted(ctx context.Context, filter providers.Filter, sort string, from *place, page *rowPage, p *progress) ([]coverage, error) {
	order := parseSort(sort)
	r := c.newReading(page.connections, filter, p)
	kept := make([]worst, len(page.connections))
	covered := r.all(ctx, func(m match) bool {
		w := &kept[m.index]
		w.sorting = order
		row := sortedRow{order.key(m.token), page.connections[m.index].Name, m.token.ID, m}
		if from != nil && order.compare(row, sortedRow{key: from.Key, connection: from.Connection, id: from.ID}) <= 0 {
			return true
		}
		if len(w.rows) > page.limit { // one more than fits tells that more follow
			if order.compare(row, w.rows[0]) >= 0 {
				return true
			}
			heap.Pop(w)
		}
		own := *m.token // the page's memory is let go
		row.match.token = &own
		heap.Push(w, row)
		return true
	})
	var rows []sortedRow
	for _, w := range kept {
		rows = append(rows, w.rows...)
	}
	slices.SortFunc(rows, order.compare)
	for _, row := range rows {
		if !page.add(row.match, row.key) {
			break
		}
	}
	return covered, ctx.Err()
}
