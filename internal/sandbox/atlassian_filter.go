package sandbox

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"net/url"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"
)

// filterable is a row of API Access: a token or an API key.
type filterable interface {
	position() uint64          // order without sort
	date(field string) int64   // createdAt, lastActiveAt, expiresAt; 0: none
	contains(word string) bool // a lower-case word of q
	name() string              // label
	state() string             // what status or keyType looks at
}

func (t *atlassianToken) position() uint64 { return t.seq }
func (t *atlassianToken) name() string     { return t.label }
func (t *atlassianToken) state() string    { return t.status }
func (t *atlassianToken) contains(word string) bool {
	return strings.Contains(strings.ToLower(t.label), word) || t.account.contains(word)
}

func (t *atlassianToken) date(field string) int64 {
	return dateOf(field, t.created, t.lastActive, t.expires)
}

func (k *atlassianKey) position() uint64 { return k.seq }
func (k *atlassianKey) name() string     { return k.label }
func (k *atlassianKey) contains(word string) bool {
	return strings.Contains(strings.ToLower(k.label), word) || k.createdBy.contains(word)
}

func (k *atlassianKey) date(field string) int64 {
	return dateOf(field, k.created, k.lastActive, k.expires)
}

func (k *atlassianKey) state() string {
	if k.scopes == nil {
		return "UNSCOPED"
	}
	return "SCOPED"
}

func dateOf(field string, created, lastActive, expires int64) int64 {
	switch field {
	case "createdAt":
		return created
	case "lastActiveAt":
		return lastActive
	default:
		return expires
	}
}

// listQuery is the parsed query of a listing or of its count.
type listQuery struct {
	words []string // of q, lower case: each must occur
	state string
	dates []dateFilter
	sort  string // field, "" for the plain order
	desc  bool
	size  int
	after *pageCursor
	hash  uint32 // of all parameters but cursor and pageSize
}

func (q *listQuery) filtered() bool { return len(q.words) > 0 || q.state != "" || len(q.dates) > 0 }

// pageCursor is the last row of the page before. It is opaque to the client.
type pageCursor struct {
	Seq  uint64 `json:"s"`
	Num  int64  `json:"n,omitempty"`
	Text string `json:"t,omitempty"`
	Hash uint32 `json:"h"`
}

// dateFilter keeps the rows whose date is in [from, to]; rows without a date fail.
type dateFilter struct {
	field    string
	from, to int64
}

func (q *listQuery) keep(row filterable) bool {
	if q.state != "" && row.state() != q.state {
		return false
	}
	for _, d := range q.dates {
		if ms := row.date(d.field); ms == 0 || ms < d.from || ms > d.to {
			return false
		}
	}
	for _, word := range q.words {
		if !row.contains(word) {
			return false
		}
	}
	return true
}

// listing says which query a listing knows.
type listing struct {
	stateWord   string // name of the parameter: status or keyType
	stateValues []string
	dateFields  []string
	paged       bool // false for a count: neither sort nor pages
}

func tokenListing(paged bool) listing {
	return listing{"status", []string{"ALLOWED", "BLOCKED"}, []string{"createdAt", "lastActiveAt"}, paged}
}

func keyListing(paged bool) listing {
	return listing{"keyType", []string{"SCOPED", "UNSCOPED"}, []string{"expiresAt", "lastActiveAt"}, paged}
}

func (l *listing) knows(parameter string) bool {
	if parameter == "q" || parameter == l.stateWord {
		return true
	}
	if parameter == "sort" || parameter == "pageSize" || parameter == "cursor" {
		return l.paged
	}
	for _, field := range l.dateFields {
		if rest, ok := strings.CutPrefix(parameter, field); ok {
			return slices.Contains([]string{"SearchType", "Uom", "Value", "From", "To", "RangeFrom", "RangeTo"}, rest)
		}
	}
	return false
}

// parse reads the query; its error is the detail of a 400.
func (a *atlassian) parse(l listing, query url.Values, now int64) (*listQuery, error) {
	for parameter := range query {
		if !l.knows(parameter) && !a.opts.LenientQuery {
			return nil, fmt.Errorf("unknown parameter %s", parameter)
		}
	}
	q := &listQuery{words: strings.Fields(strings.ToLower(query.Get("q"))), hash: fingerprint(query), size: a.opts.DefaultPageSize}
	if state := query.Get(l.stateWord); state != "" {
		if !slices.Contains(l.stateValues, state) {
			return nil, fmt.Errorf("unknown %s %s", l.stateWord, state)
		}
		q.state = state
	}
	for _, field := range l.dateFields {
		d, err := parseDates(query, field, now)
		if err != nil {
			return nil, err
		}
		if d != nil {
			q.dates = append(q.dates, *d)
		}
	}
	if !l.paged {
		return q, nil
	}
	return q, a.parsePage(q, query)
}

func (a *atlassian) parsePage(q *listQuery, query url.Values) error {
	if order := query.Get("sort"); order != "" {
		q.desc = order[0] == '-'
		q.sort = order[1:]
		known := slices.Contains([]string{"createdAt", "lastActiveAt", "expiresAt", "label"}, q.sort)
		if !known || (order[0] != '+' && order[0] != '-') {
			return fmt.Errorf("cannot sort by %q", order)
		}
	}
	if text := query.Get("pageSize"); text != "" {
		size, err := strconv.Atoi(text)
		if err != nil || size < 1 || size > a.opts.MaxPageSize {
			return fmt.Errorf("pageSize must be 1 to %d", a.opts.MaxPageSize)
		}
		q.size = size
	}
	if text := query.Get("cursor"); text != "" {
		raw, err := base64.RawURLEncoding.DecodeString(text)
		q.after = &pageCursor{}
		if err != nil || json.Unmarshal(raw, q.after) != nil || q.after.Hash != q.hash {
			return fmt.Errorf("the cursor is not one of this query")
		}
	}
	return nil
}

// fingerprint ties a cursor to its query: the vendor wants all other parameters
// repeated.
func fingerprint(query url.Values) uint32 {
	rest := url.Values{}
	for name, values := range query {
		if name != "cursor" && name != "pageSize" {
			rest[name] = values
		}
	}
	h := fnv.New32a()
	_, _ = h.Write([]byte(rest.Encode()))
	return h.Sum32()
}

// parseDates reads the filter of one date field, nil when there is none. gt and
// lt compare the age with Value and Uom: gt is older than that. range takes
// From and To (dates) or RangeFrom and RangeTo (ages such as 90day), at least one.
func parseDates(query url.Values, field string, now int64) (*dateFilter, error) {
	get := func(name string) string { return query.Get(field + name) }
	kind := get("SearchType")
	if kind == "" {
		for _, name := range []string{"Uom", "Value", "From", "To", "RangeFrom", "RangeTo"} {
			if get(name) != "" {
				return nil, fmt.Errorf("%s%s needs %sSearchType", field, name, field)
			}
		}
		return nil, nil
	}
	d := &dateFilter{field: field, to: 1<<63 - 1}
	switch kind {
	case "gt", "lt":
		age, err := parseAge(get("Value") + get("Uom"))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", field, err)
		}
		if kind == "gt" {
			d.to = now - age - 1
		} else {
			d.from = now - age + 1
		}
		return d, nil
	case "range":
		return d, d.parseRange(get, now)
	default:
		return nil, fmt.Errorf("unknown %sSearchType %s", field, kind)
	}
}

func (d *dateFilter) parseRange(get func(string) string, now int64) error {
	if get("From")+get("To")+get("RangeFrom")+get("RangeTo") == "" {
		return fmt.Errorf("%s: a range needs From or To", d.field)
	}
	for name, bound := range map[string]*int64{"From": &d.from, "To": &d.to} {
		if text := get(name); text != "" {
			ms, err := parseDate(text)
			if err != nil {
				return fmt.Errorf("%s%s: %w", d.field, name, err)
			}
			*bound = ms
		}
		if text := get("Range" + name); text != "" {
			age, err := parseAge(text)
			if err != nil {
				return fmt.Errorf("%sRange%s: %w", d.field, name, err)
			}
			*bound = now - age
		}
	}
	return nil
}

func parseDate(text string) (int64, error) {
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02"} {
		if t, err := time.Parse(layout, text); err == nil {
			return t.UnixMilli(), nil
		}
	}
	return 0, fmt.Errorf("%q is not an ISO 8601 date", text)
}

// parseAge reads a number and a unit, in any case, singular or plural.
func parseAge(text string) (int64, error) {
	digits := strings.TrimRight(strings.ToLower(text), " abcdefghijklmnopqrstuvwxyz")
	unit := strings.TrimSuffix(strings.TrimSpace(strings.ToLower(text)[len(digits):]), "s")
	number, err := strconv.ParseInt(digits, 10, 32)
	length, ok := map[string]int64{"hour": hour, "day": day, "week": 7 * day, "month": 30 * day, "year": 365 * day}[unit]
	if err != nil || !ok || number < 0 {
		return 0, fmt.Errorf("needs a number and one of hour, day, week, month, year")
	}
	return number * length, nil
}

// compare orders a row against a cursor in the query's order.
func (q *listQuery) compare(row filterable, at *pageCursor) int {
	order := 0
	switch q.sort {
	case "":
	case "label":
		order = strings.Compare(row.name(), at.Text)
	default:
		order = cmp.Compare(row.date(q.sort), at.Num)
	}
	if q.desc {
		order = -order
	}
	return cmp.Or(order, cmp.Compare(row.position(), at.Seq))
}

func (q *listQuery) cursor(row filterable) *pageCursor {
	at := &pageCursor{Seq: row.position(), Hash: q.hash}
	switch q.sort {
	case "":
	case "label":
		at.Text = row.name()
	default:
		at.Num = row.date(q.sort)
	}
	return at
}

func (p *pageCursor) String() string {
	raw, _ := json.Marshal(p) // numbers and a string: cannot fail
	return base64.RawURLEncoding.EncodeToString(raw)
}

// ordered is rows in the query's order, a copy unless that is the plain one.
func ordered[T filterable](rows []T, q *listQuery) []T {
	if q.sort == "" {
		return rows
	}
	rows = slices.Clone(rows)
	slices.SortFunc(rows, func(x, y T) int { return q.compare(x, q.cursor(y)) })
	return rows
}

// pageOf is one page of ordered rows, and the cursor of the next page if there is one.
func pageOf[T filterable](rows []T, q *listQuery) (page []T, next *pageCursor) {
	if q.after != nil {
		start := sort.Search(len(rows), func(i int) bool { return q.compare(rows[i], q.after) > 0 })
		rows = rows[start:]
	}
	for _, row := range rows {
		if !q.keep(row) {
			continue
		}
		if len(page) == q.size {
			return page, q.cursor(page[len(page)-1])
		}
		page = append(page, row)
	}
	return page, nil
}

func countOf[T filterable](rows []T, q *listQuery) int {
	if !q.filtered() {
		return len(rows)
	}
	count := 0
	for _, row := range rows {
		if q.keep(row) {
			count++
		}
	}
	return count
}
