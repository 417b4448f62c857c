package launchdarkly

import (
	"context"
	"errors"
	"iter"
	"strconv"
	"sync"
	"time"

	"github.com/tokenreeve/tokenreeve/providers"
)

// passes is how often a list that moves while it is read is read at most.
const passes = 2

// List yields all tokens that the credential may see, in the vendor's order; the
// vendor filters nothing. A page's At is its offset. Each token is yielded once.
//
// The listing is complete where a page without a next one was read and the
// tokens are as many as the vendor's total, which never fell meanwhile; a listing
// from an offset counts the tokens before it as read. Else everything is read
// once more and what was missed is yielded; where that pass does not add up
// either, the last page has the limit MovedWhileReading. Where the total proves
// to be that of the page only, the end of the pages is all there is to go by.
func (p *Provider) List(ctx context.Context, _ providers.Filter, from string) iter.Seq2[providers.Page, error] {
	return func(yield func(providers.Page, error) bool) {
		start, err := parseOffset(from)
		if err == nil {
			l := listing{p: p, start: start, seen: map[tokenKey]uint8{}, yield: yield}
			err = l.run(ctx)
		}
		if err != nil && !errors.Is(err, errEnough) {
			yield(providers.Page{}, err)
		}
	}
}

// errEnough ends a listing whose consumer wants no more.
var errEnough = errors.New("enough")

// maxOffset bounds what is taken for an offset.
const maxOffset = 1_000_000_000

func parseOffset(from string) (int, error) {
	if from == "" {
		return 0, nil
	}
	offset, err := strconv.Atoi(from)
	if err != nil || offset < 0 || offset > maxOffset || strconv.Itoa(offset) != from {
		return 0, invalid("a listing cannot start at %q; valid is the offset that a page named", quotable(from))
	}
	return offset, nil
}

// tokenKey is a token's id, decoded: small, so that a listing of any length
// needs little memory.
type tokenKey [idLength / 2]byte

// listing is one run of List.
type listing struct {
	p      *Provider
	start  int
	limits []providers.Limit
	seen   map[tokenKey]uint8 // the pass that met a token last
	yield  func(providers.Page, error) bool
	began  clocks // as the first page was read
}

// clocks is a moment on the vendor's clock, zero where it did not tell, and on ours.
type clocks struct{ vendor, ours time.Time }

func (l *listing) run(ctx context.Context) error {
	first, err := l.firstPage(ctx)
	if err != nil {
		return err
	}
	l.began = clocks{vendor: first.date, ours: time.Now()}
	for pass := uint8(1); ; pass++ {
		complete, err := l.read(ctx, first, pass)
		if complete || err != nil || pass == passes {
			return err
		}
		if first, err = l.p.page(ctx, l.start); err != nil {
			return err
		}
	}
}

// firstPage reads the first page and, meanwhile, what the credential may see.
func (l *listing) firstPage(ctx context.Context) (page, error) {
	if admin, known := l.p.admin.recall(ctx, l.p.credentialKey); known {
		l.limits = limitsOf(admin)
		return l.p.page(ctx, l.start)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var side sync.WaitGroup
	side.Go(func() { l.limits = l.p.viewLimits(ctx) })
	first, err := l.p.page(ctx, l.start)
	if err != nil {
		cancel()
	}
	side.Wait()
	return first, err
}

// read yields the pages of one pass and reports whether it proved complete.
func (l *listing) read(ctx context.Context, first page, pass uint8) (complete bool, err error) {
	count := tally{start: l.start, judged: !first.isAmbiguous()}
	for pg, err := range l.p.pages(ctx, first) {
		if err != nil {
			return false, err
		}
		fresh := l.take(&pg, pass, &count)
		ended := count.ended
		complete = ended && count.addsUp()
		if ended && !complete && pass == passes {
			l.limits = append(l.limits, providers.MovedWhileReading)
		}
		if pass == 1 || len(fresh) > 0 || ended && !complete {
			if !l.yield(providers.Page{Tokens: fresh, At: strconv.Itoa(pg.offset), Limits: l.limits[:len(l.limits):len(l.limits)], Last: complete}, nil) {
				return false, errEnough
			}
		}
		if ended {
			break
		}
	}
	return complete, nil
}

// take counts a page and returns its tokens that were not yielded yet.
func (l *listing) take(pg *page, pass uint8, count *tally) []providers.Token {
	fresh, distinct := pg.tokens[:0], 0
	for i, k := range pg.keys {
		met := l.seen[k]
		if met != pass {
			l.seen[k] = pass
			distinct++
		}
		if met == 0 {
			fresh = append(fresh, pg.tokens[i])
		}
	}
	count.add(pg, distinct)
	return fresh
}

// tally judges whether a pass read everything.
type tally struct {
	start    int
	judged   bool // the total is that of all tokens
	distinct int
	total    int
	fell     bool // the total became smaller: a token may have slipped to a page already read
	ended    bool // the pass ends here
	hasEnd   bool // at a page without a next one
	pages    int
}

func (t *tally) add(pg *page, distinct int) {
	t.pages++
	t.distinct += distinct
	t.fell = t.fell || t.pages > 1 && pg.total < t.total
	t.total = pg.total
	t.hasEnd = !pg.hasNext
	// A later page that repeats only what was there before will be followed by more
	// of its kind: a vendor that ignores the offset must not keep us for ever.
	t.ended = pg.isLast() || t.pages > 1 && distinct == 0
}

func (t *tally) addsUp() bool {
	return t.hasEnd && (!t.judged || !t.fell && t.start+t.distinct == t.total)
}

// Count asks for the total of the list, which the vendor tells for all tokens
// only: ok is false for any filter, and where the total may be that of a page.
func (p *Provider) Count(ctx context.Context, filter providers.Filter) (count providers.Count, ok bool, err error) {
	if !filter.IsZero() {
		return providers.Count{}, false, nil
	}
	answer, err := p.wire.list(ctx, 0, 1)
	if err != nil {
		return providers.Count{}, false, err
	}
	rows := len(answer.Items)
	isGrand := answer.TotalCount != nil && (*answer.TotalCount > rows) == answer.hasNext() && *answer.TotalCount >= rows
	if !isGrand {
		return providers.Count{}, false, nil
	}
	return providers.Count{Total: *answer.TotalCount, Limits: p.viewLimits(ctx)}, true, nil
}
