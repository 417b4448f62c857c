package tools

import (
	"context"
	"iter"
	"sync"

	"github.com/tokenreeve/tokenreeve/providers"
)

// coverage says how far a listing or count of one connection can be trusted.
type coverage struct {
	Connection    string         `json:"connection"`
	Complete      bool           `json:"complete"`
	Read          int            `json:"read"`
	Undecided     int            `json:"undecided,omitempty" jsonschema_description:"left out: a needed fact is unknown"`
	Limits        []string       `json:"limits,omitempty"`
	SameAccountAs string         `json:"same_account_as,omitempty"`
	Error         *coverageError `json:"error,omitempty"`
}

type coverageError struct {
	Code    string `json:"code"`
	Message string `json:"message"`
	Next    string `json:"next,omitempty"`
}

// stoppedEarly is the limit of a listing that was left because the answer was full.
const stoppedEarly = "more_to_read"

func (c *coverage) limit(limits ...providers.Limit) {
	for _, l := range limits {
		c.Limits = unique(append(c.Limits, string(l)))
		c.Complete = c.Complete && !l.Incomplete()
	}
}

func (c *coverage) fail(err error) {
	c.Complete = false
	p := problemOf(err)
	if p == nil {
		p = &Problem{Code: "internal_error", Message: "the server failed"}
	}
	c.Error = &coverageError{p.Code, p.Message, p.Next}
}

// problem returns the error of a connection that could not be read.
func (c *coverage) problem() error {
	return &Problem{Code: c.Error.Code, Message: "connection " + c.Connection + ": " + c.Error.Message, Next: c.Error.Next}
}

// match is a token that a filter selected.
type match struct {
	index int // of the connection
	token *providers.Token
	own   bool
	at    string // the At of its page
}

// reading is one pass over several connections.
type reading struct {
	call        *Call
	connections []*Connection
	filter      providers.Filter
	progress    *progress

	ready    []chan struct{} // closed when a connection's account and credential are known
	done     []chan struct{} // closed when a connection was read
	accounts []string
	own      []providers.Own
	coverage []coverage
	mu       sync.Mutex
	seen     map[string]map[string]struct{} // ids by account, for accounts with several connections
}

func (c *Call) newReading(connections []*Connection, filter providers.Filter, p *progress) *reading {
	n := len(connections)
	r := &reading{
		call: c, connections: connections, filter: filter, progress: p,
		ready: make([]chan struct{}, n), done: make([]chan struct{}, n),
		accounts: make([]string, n), own: make([]providers.Own, n), coverage: make([]coverage, n),
		seen: map[string]map[string]struct{}{},
	}
	for i := range n {
		r.ready[i], r.done[i] = make(chan struct{}), make(chan struct{})
		r.coverage[i] = coverage{Connection: connections[i].Name, Complete: true}
	}
	return r
}

// all reads every connection at the same time and calls visit for each match,
// at the same time for different connections, in order for one. A connection of
// an account that an earlier one opens as well waits for it, so that the same
// token always belongs to the same connection.
func (r *reading) all(ctx context.Context, visit func(match) bool) []coverage {
	var wg sync.WaitGroup
	for i := range r.connections {
		wg.Go(func() {
			defer close(r.done[i])
			r.prepare(ctx, i)
			r.awaitTwin(ctx, i)
			r.read(ctx, i, visit)
		})
	}
	wg.Wait()
	return r.coverage
}

// read reads one connection to its end, or until visit returns false.
func (r *reading) read(ctx context.Context, i int, visit func(match) bool) {
	for page, err := range r.pages(ctx, i, "") {
		if err != nil {
			r.end(ctx, i, err)
			return
		}
		if !r.page(i, page, visit) {
			r.stopped(i)
			break
		}
	}
	r.end(ctx, i, nil)
}

// inOrder reads connection after connection in the order of their names, from
// the given page of connection number start, and calls visit for each match and
// pageEnd after each page until one returns false. The first pages of all
// connections are fetched at the same time; further ones only when they are
// wanted. It returns the coverage from start on.
func (r *reading) inOrder(ctx context.Context, start int, from string, visit func(match) bool, pageEnd func(last bool) bool) []coverage {
	ctx, cancel := context.WithCancel(ctx)
	listings := make([]iter.Seq2[providers.Page, error], len(r.connections))
	var wg sync.WaitGroup
	for i := start + 1; i < len(listings); i++ {
		f := &feed{pages: make(chan providers.Page), next: make(chan struct{})}
		listings[i] = f.all(ctx)
		wg.Go(func() { f.run(ctx, r, i) })
	}
	r.prepare(ctx, start)
	listings[start] = r.pages(ctx, start, from) // nobody else waits for it, so it needs no feed
	for i := range start {
		r.prepare(ctx, i)
		r.remember(ctx, i, start)
		close(r.done[i])
	}
	next := start
	for wanted := true; wanted && next < len(listings); next++ {
		wanted = r.drain(ctx, next, listings[next], visit, pageEnd)
		if wanted && next == start && from != "" {
			r.remember(ctx, start, start+1)
		}
		close(r.done[next])
	}
	cancel()
	wg.Wait()
	for ; next < len(listings); next++ {
		r.stopped(next)
	}
	return r.coverage[start:]
}

// remember reads the ids of a connection that was listed, in whole or in part, on
// earlier pages of the answer, if one from next on opens the same account: its
// tokens must not come twice.
func (r *reading) remember(ctx context.Context, i, next int) {
	twin := false
	for j := next; j < len(r.connections); j++ {
		<-r.ready[j]
		twin = twin || r.accounts[i] != "" && r.accounts[i] == r.accounts[j]
	}
	if !twin {
		return
	}
	seen := r.seenOf(i)
	for page, err := range r.pages(ctx, i, "") {
		if err != nil {
			return
		}
		for n := range page.Tokens {
			seen[page.Tokens[n].ID] = struct{}{}
		}
	}
}

// feed hands one connection's pages over, one at a time.
type feed struct {
	pages chan providers.Page
	next  chan struct{} // permits the next page
	err   error         // set before pages is closed
}

func (f *feed) run(ctx context.Context, r *reading, i int) {
	defer close(f.pages)
	r.prepare(ctx, i)
	for page, err := range r.pages(ctx, i, "") {
		if err != nil {
			f.err = err
			return
		}
		select {
		case f.pages <- page:
		case <-ctx.Done():
			return
		}
		select {
		case <-f.next:
		case <-ctx.Done():
			return
		}
	}
}

// all yields the pages, and the error that ended them.
func (f *feed) all(ctx context.Context) iter.Seq2[providers.Page, error] {
	return func(yield func(providers.Page, error) bool) {
		for page := range f.pages {
			if !yield(page, nil) {
				return
			}
			select {
			case f.next <- struct{}{}:
			case <-ctx.Done():
			}
		}
		if f.err != nil {
			yield(providers.Page{}, f.err)
		}
	}
}

// drain takes a connection's pages until its end and reports whether the caller
// wants the next connection.
func (r *reading) drain(ctx context.Context, i int, pages iter.Seq2[providers.Page, error], visit func(match) bool, pageEnd func(last bool) bool) bool {
	r.awaitTwin(ctx, i)
	for page, err := range pages {
		if err != nil {
			r.end(ctx, i, err)
			return true
		}
		if !r.page(i, page, visit) || !pageEnd(page.Last) {
			r.stopped(i)
			return false
		}
	}
	r.end(ctx, i, nil)
	return true
}

// pages lists one connection.
func (r *reading) pages(ctx context.Context, i int, from string) iter.Seq2[providers.Page, error] {
	lister, ok := r.connections[i].Provider.(providers.Lister)
	if !ok {
		return func(func(providers.Page, error) bool) {}
	}
	return lister.List(ctx, r.filter, from)
}

// stopped marks a listing that was left before its end.
func (r *reading) stopped(i int) {
	r.coverage[i].Complete = false
	r.coverage[i].Limits = unique(append(r.coverage[i].Limits, stoppedEarly))
}

// end notes how the reading of a connection ended.
func (r *reading) end(ctx context.Context, i int, err error) {
	if err == nil {
		err = ctx.Err()
	}
	r.connections[i].Note(err, r.call.Now())
	if err != nil {
		r.coverage[i].fail(err)
	}
}

// prepare learns the connection's account and own credential.
func (r *reading) prepare(ctx context.Context, i int) {
	defer close(r.ready[i])
	c := r.connections[i]
	identity, err := c.Provider.Identity(ctx)
	if err == nil && identity.Account != "" {
		r.accounts[i] = c.Provider.Name() + " " + identity.Host + " " + identity.Account
	}
	if err == nil { // else Own would ask the same once more
		r.own[i], err = r.call.Registry.Own(ctx, c.Connection)
	}
	if err != nil {
		r.coverage[i].limit(providers.OwnCredentialUnknown)
	}
}

// awaitTwin waits until an earlier connection to the same account was read.
func (r *reading) awaitTwin(ctx context.Context, i int) {
	await := func(c <-chan struct{}) {
		select {
		case <-c:
		case <-ctx.Done():
		}
	}
	await(r.ready[i])
	for j := range i {
		if r.connections[j].Provider.Name() != r.connections[i].Provider.Name() {
			continue
		}
		await(r.ready[j])
		if ctx.Err() == nil && r.accounts[i] != "" && r.accounts[j] == r.accounts[i] {
			r.coverage[i].SameAccountAs = r.connections[j].Name
			await(r.done[j])
			return
		}
	}
}

// page judges a page's tokens and reports whether the reader wants more.
func (r *reading) page(i int, page providers.Page, visit func(match) bool) bool {
	r.progress.add(len(page.Tokens))
	r.coverage[i].limit(page.Limits...)
	seen := r.seenOf(i)
	for n := range page.Tokens {
		t := &page.Tokens[n]
		if seen != nil {
			if _, repeated := seen[t.ID]; repeated {
				continue
			}
			seen[t.ID] = struct{}{}
		}
		r.coverage[i].Read++
		switch r.filter.Match(t) {
		case providers.Undecided:
			r.coverage[i].Undecided++
		case providers.Match:
			if !visit(match{index: i, token: t, own: r.own[i].Has(t), at: page.At}) {
				return false
			}
		}
	}
	return true
}

// seenOf returns the ids read of the account, where several connections open it.
// They are read one after the other, so the map needs no lock of its own.
func (r *reading) seenOf(i int) map[string]struct{} {
	if r.accounts[i] == "" || !r.shared(i) {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.seen[r.accounts[i]] == nil {
		r.seen[r.accounts[i]] = map[string]struct{}{}
	}
	return r.seen[r.accounts[i]]
}

// shared reports whether another connection to the same vendor is being read:
// only then can a token come twice.
func (r *reading) shared(i int) bool {
	for j, c := range r.connections {
		if j != i && c.Provider.Name() == r.connections[i].Provider.Name() {
			return true
		}
	}
	return false
}
