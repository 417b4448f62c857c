package launchdarkly

import (
	"context"
	"encoding/hex"
	"iter"
	"sync"
	"time"

	"github.com/tokenreeve/tokenreeve/providers"
)

const (
	// inFlight is how many pages are asked for at a time, once the first one told
	// how many there are.
	inFlight = 8
	// lookahead is how many pages may be asked for or wait, so that one slow page
	// does not stop the others.
	lookahead = 2 * inFlight
)

// page is one page of the list, mapped.
type page struct {
	offset  int
	rows    int
	total   int
	counted bool // the vendor told a total
	hasNext bool
	date    time.Time // the vendor's clock; zero where it did not tell
	tokens  []providers.Token
	keys    []tokenKey
}

func (p *page) isLast() bool { return !p.hasNext || p.rows == 0 }

// isAmbiguous reports whether the total cannot be that of all tokens: as many as
// the page's rows, though there are others. The vendor's words allow that reading.
func (p *page) isAmbiguous() bool {
	return !p.counted || p.total == p.rows && (p.hasNext || p.offset > 0)
}

// page reads and maps one page.
func (p *Provider) page(ctx context.Context, offset int) (page, error) {
	answer, err := p.wire.list(ctx, offset, p.pageSize)
	if err != nil {
		return page{}, err
	}
	pg := page{
		offset: offset, rows: len(answer.Items), hasNext: answer.hasNext(), date: answer.date,
		tokens: make([]providers.Token, len(answer.Items)), keys: make([]tokenKey, len(answer.Items)),
	}
	if answer.TotalCount != nil {
		pg.total, pg.counted = *answer.TotalCount, true
	}
	for i := range answer.Items {
		r := &answer.Items[i]
		if !isID(r.ID) {
			return page{}, failure(providers.CodeVendorProtocol, "the list holds a token whose id is %q, not 24 hex digits", quotable(r.ID))
		}
		_, _ = hex.Decode(pg.keys[i][:], []byte(r.ID)) // checked just before
		pg.tokens[i] = r.toToken()
	}
	return pg, nil
}

// pages yields first, then the pages that its total promises, then whatever the
// vendor has beyond, in the order of their offsets, up to the last page or an
// error. Nothing is sent before first was taken. Offsets step by the rows that a
// page really holds: the vendor may cut the limit.
func (p *Provider) pages(ctx context.Context, first page) iter.Seq2[page, error] {
	return func(yield func(page, error) bool) {
		if !yield(first, nil) || first.isLast() {
			return
		}
		last := first
		for next, err := range p.planned(ctx, first) {
			if !yield(next, err) || err != nil || next.isLast() {
				return
			}
			last = next
		}
		for !last.isLast() {
			next, err := p.page(ctx, last.offset+last.rows)
			if !yield(next, err) || err != nil {
				return
			}
			last = next
		}
	}
}

// job is a page to be read, and where its reader puts it.
type job struct {
	offset int
	done   chan result // holds one
}

type result struct {
	page page
	err  error
}

// planned reads the pages after first that its total promises, several at a
// time, and yields them in order. When it returns, no request is under way.
func (p *Provider) planned(ctx context.Context, first page) iter.Seq2[page, error] {
	return func(yield func(page, error) bool) {
		if first.isAmbiguous() {
			return
		}
		ctx, cancel := context.WithCancel(ctx)
		jobs := make(chan job, lookahead)
		var readers sync.WaitGroup
		defer readers.Wait()
		defer close(jobs)
		defer cancel()
		for range min(inFlight, (first.total-first.offset-1)/first.rows) {
			readers.Go(func() { p.readPages(ctx, jobs) })
		}
		var queue []job
		for offset := first.offset + first.rows; ; {
			for len(queue) < lookahead && offset < first.total {
				next := job{offset: offset, done: make(chan result, 1)}
				jobs <- next // never blocks: the channel has room for the whole queue
				queue = append(queue, next)
				offset += first.rows
			}
			if len(queue) == 0 {
				return
			}
			r := <-queue[0].done
			queue = queue[1:]
			if !yield(r.page, r.err) || r.err != nil {
				return
			}
		}
	}
}

// readPages works off jobs until there are no more. Once ctx ended it sends nothing.
func (p *Provider) readPages(ctx context.Context, jobs <-chan job) {
	for j := range jobs {
		var r result
		if err := ctx.Err(); err != nil {
			r.err = givenUp(err)
		} else {
			r.page, r.err = p.page(ctx, j.offset)
		}
		j.done <- r
	}
}
