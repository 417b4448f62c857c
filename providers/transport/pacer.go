package transport

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/tokenreeve/tokenreeve/providers"
)

// Budget is one of a vendor's rate limits as an answer's headers tell it.
type Budget struct {
	Name      string // names the limit among the vendor's: "global", "route", …
	Limit     int    // requests per window; 0 where not told
	Remaining int
	Reset     time.Time // when the window ends
	PerRoute  bool      // counts the requests of Request.Route only
}

// pacer keeps all calls on one credential inside the vendor's budgets and leaves
// a reserve of each to everybody else who uses the account. golang.org/x/time/rate
// does not fit: these budgets are windows that others spend from too, and only
// the vendor's headers know what is left.
type pacer struct {
	reserve float64

	mu       sync.Mutex
	budgets  map[scope]*window
	inFlight map[string]int // by route; "" holds all
	pause    time.Time      // nothing is sent before it
}

// scope names a window: a budget, and its route where it is kept per route.
type scope struct{ budget, route string }

type window struct {
	Budget
	largest int // the most that was ever left: stands for an untold limit
}

func newPacer(reserve float64) *pacer {
	return &pacer{reserve: min(max(reserve, 0), 0.9), budgets: map[scope]*window{}, inFlight: map[string]int{}}
}

// The bounds of one wait. A reset may lie slightly in the past (seen at
// LaunchDarkly), or centuries ahead.
const (
	shortWait = 50 * time.Millisecond
	longWait  = 24 * time.Hour
	probeTime = time.Second
)

// tooLong says that the budget comes back later than a call can wait.
type tooLong time.Duration

func (d tooLong) Error() string {
	return fmt.Sprintf("the budget comes back in %v", time.Duration(d).Round(time.Second))
}

// wait blocks until a request of the route may be sent and counts it as in flight.
func (p *pacer) wait(ctx context.Context, route string) error {
	for {
		delay := p.take(time.Now(), route)
		if delay == 0 {
			return nil
		}
		if deadline, ok := ctx.Deadline(); delay > maxWait || ok && time.Until(deadline) < delay {
			return tooLong(delay)
		}
		timer := time.NewTimer(delay)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		}
	}
}

// take books a request, or returns how long to wait, with jitter: all who waited
// must not start at once.
func (p *pacer) take(now time.Time, route string) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	delay := max(0, p.pause.Sub(now))
	for of, w := range p.budgets {
		if of.route != "" && of.route != route {
			continue
		}
		if floor := w.floor(p.reserve); w.left(now, floor)-p.inFlight[of.route] <= floor {
			delay = max(delay, w.Reset.Sub(now), shortWait)
		}
	}
	if delay > 0 {
		return delay + rand.N(2*shortWait)
	}
	p.count(route, 1)
	return 0
}

// left returns how many requests the window holds. When it has ended, one request
// finds out what others have left of the next; where no answer tells it soon, the
// whole limit counts.
func (w *window) left(now time.Time, floor int) int {
	switch ended := now.Sub(w.Reset); {
	case ended < 0:
		return w.Remaining
	case ended < probeTime:
		return floor + 1
	default:
		return max(w.limit(), 1)
	}
}

// count changes how many requests are in flight.
func (p *pacer) count(route string, by int) {
	p.inFlight[""] += by
	if route != "" {
		p.inFlight[route] += by
	}
}

// floor is how much of the window stays for others. At least one request per
// window is ours: the reserve never stops all work.
func (w *window) floor(reserve float64) int {
	limit := w.limit()
	return min(int(float64(limit)*reserve), max(limit-1, 0))
}

func (w *window) limit() int {
	if w.Limit > 0 {
		return w.Limit
	}
	return w.largest
}

// done marks a request of the route as answered.
func (p *pacer) done(route string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.count(route, -1)
}

// hold sends nothing for a while, since the vendor asked one request to wait. A
// wait that is too long for any call ends that call only.
func (p *pacer) hold(now time.Time, wait time.Duration) {
	if wait > maxWait {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if until := now.Add(wait); until.After(p.pause) {
		p.pause = until
	}
}

// learn takes what an answer to a request of the route told, and returns what of it
// is news.
func (p *pacer) learn(budgets []Budget, now time.Time, route string) (news []Budget) {
	if len(budgets) == 0 {
		return nil
	}
	news = make([]Budget, 0, len(budgets))
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, b := range budgets {
		if !b.Reset.After(now) || b.Reset.After(now.Add(longWait)) {
			continue // of a window that has ended, or of none that makes sense
		}
		of := scope{budget: b.Name}
		if b.PerRoute {
			of.route = route
		}
		w, ok := p.budgets[of]
		if !ok {
			w = &window{}
			p.budgets[of] = w
		}
		// Answers can overtake each other: in one window the smaller number is newer.
		// Of two windows that have not ended, the one told last counts, so that no
		// single wrong answer stands in the way of all later ones.
		if ok && b.Reset.Equal(w.Reset) && b.Remaining > w.Remaining {
			continue
		}
		w.Budget = b
		w.largest = max(w.largest, b.Remaining)
		news = append(news, b)
	}
	return news
}

func (c *Client) pacingError(err error) error {
	var late tooLong
	if !errors.As(err, &late) {
		return c.cancelled(err)
	}
	e := c.fail(providers.CodeRateLimited, "the vendor's budget, less the reserve for others, is used up", err)
	e.RetryAfter = time.Duration(late)
	e.Next = nextWait(e.RetryAfter)
	return e
}
