package transport_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tokenreeve/tokenreeve/internal/vendortest"
	"github.com/tokenreeve/tokenreeve/providers"
	"github.com/tokenreeve/tokenreeve/providers/transport"
)

// budget is limit requests in each fixed window.
type budget struct {
	limit   int
	window  time.Duration
	latency time.Duration // of an answer
	others  int           // requests that others make at the start of each window
	untold  bool          // the limit is not told, only what is left
}

// budgeted is a vendor without a network that keeps to a budget, in the time of a
// synctest bubble.
type budgeted struct {
	budget

	mu      sync.Mutex
	used    map[time.Time]int // by the start of the window
	refused int
}

func newBudgeted(b budget) *budgeted { return &budgeted{budget: b, used: map[time.Time]int{}} }

func (b *budgeted) RoundTrip(*http.Request) (*http.Response, error) {
	time.Sleep(b.latency / 2)
	answer := b.answer()
	time.Sleep(b.latency / 2)
	return answer, nil
}

func (b *budgeted) answer() *http.Response {
	b.mu.Lock()
	defer b.mu.Unlock()
	start := time.Now().Truncate(b.window)
	left := b.limit - b.others - b.used[start]
	if left <= 0 {
		b.refused++
		return b.with(429, 0, start.Add(b.window))
	}
	b.used[start]++
	return b.with(200, left-1, start.Add(b.window))
}

func (b *budgeted) with(status, left int, reset time.Time) *http.Response {
	header := http.Header{"Left": {strconv.Itoa(left)}, "Reset": {reset.Format(time.RFC3339Nano)}}
	if !b.untold {
		header.Set("Limit", strconv.Itoa(b.limit))
	}
	return answerOf(status, header)
}

// most is the largest number of requests in one window.
func (b *budgeted) most() int {
	most := 0
	for _, n := range b.used {
		most = max(most, n)
	}
	return most
}

func (b *budgeted) budgets(h http.Header, _ time.Time) []transport.Budget {
	left, err := strconv.Atoi(h.Get("Left"))
	if err != nil {
		return nil
	}
	limit, _ := strconv.Atoi(h.Get("Limit"))
	reset, _ := time.Parse(time.RFC3339Nano, h.Get("Reset"))
	return []transport.Budget{{Name: "requests", Limit: limit, Remaining: left, Reset: reset}}
}

// paced returns a client of the vendor that leaves a fifth of its budget.
func paced(t *testing.T, b *budgeted, vendor http.RoundTripper) *transport.Client {
	t.Helper()
	d := dialect()
	d.Budgets = b.budgets
	return wire(t, &http.Client{Transport: vendor}, "https://vendor.invalid", vendortest.Credential(credential), d, transport.Options{Reserve: 0.2})
}

// TestReserve makes many calls, one after the other and together, and checks
// that they stay inside the vendor's budget and leave a fifth of it, and that
// they take no longer than that demands.
func TestReserve(t *testing.T) {
	t.Parallel()
	const window = 10 * time.Second
	for name, test := range map[string]struct {
		budget  budget
		calls   int
		most    int // in one window
		windows int // that the calls may take at most
	}{
		"few":              {budget{limit: 10}, 40, 8, 6},
		"one":              {budget{limit: 1}, 5, 1, 6},
		"two":              {budget{limit: 2}, 6, 2, 4},
		"many":             {budget{limit: 1000}, 2000, 800, 4},
		"limit not told":   {budget{limit: 11, untold: true}, 41, 9, 6}, // 10 left is the most that was told: 2 stay
		"others in it too": {budget{limit: 10, others: 5}, 30, 3, 12},
		"one not for us":   {budget{limit: 10, others: 7}, 6, 1, 8},
		"slow":             {budget{limit: 10, latency: 3 * time.Second}, 16, 8, 6},
	} {
		for _, parallel := range []int{1, 64} {
			t.Run(fmt.Sprintf("%s/%d at once", name, parallel), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					vendor := newBudgeted(test.budget)
					vendor.window, vendor.latency = window, max(vendor.latency, 20*time.Millisecond)
					c := paced(t, vendor, vendor)
					begin := time.Now()
					callAll(t, c, test.calls, parallel)
					if vendor.most() > test.most || vendor.refused > 0 {
						t.Errorf("%d calls in one window and %d refused, want at most %d and none", vendor.most(), vendor.refused, test.most)
					}
					if parallel > 1 && vendor.most() < test.most {
						t.Errorf("%d calls in one window, want %d: the budget is not used", vendor.most(), test.most)
					}
					if time.Since(begin) > time.Duration(test.windows)*window {
						t.Errorf("it took %v, want at most %d windows of %v", time.Since(begin), test.windows, window)
					}
				})
			})
		}
	}
}

// callAll makes one call, which tells the budget, and then the others, so many
// at the same time.
func callAll(t *testing.T, c *transport.Client, calls, parallel int) {
	t.Helper()
	next := make(chan struct{}, calls)
	for range calls - 1 {
		next <- struct{}{}
	}
	close(next)
	one := func(int) error { _, err := do(t.Context(), c, read()); return err }
	wantCode(t, one(0), "")
	for _, err := range together(parallel, func(int) error {
		for range next {
			if err := one(0); err != nil {
				return err
			}
		}
		return nil
	}) {
		wantCode(t, err, "")
	}
}

// TestNoStampede has many calls wait for the end of a window. Others use the next
// one as well, so one call finds out what is left before the rest follow, and
// those do not start in the same moment.
func TestNoStampede(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const calls, latency = 32, 20 * time.Millisecond
		vendor := newBudgeted(budget{limit: 100, window: 10 * time.Second, latency: latency})
		vendor.others = 79 // one call, and the rest is the reserve
		var mu sync.Mutex
		var came []time.Time
		c := paced(t, vendor, roundTripper(func(r *http.Request) (*http.Response, error) {
			mu.Lock()
			came = append(came, time.Now())
			mu.Unlock()
			return vendor.RoundTrip(r)
		}))
		_, err := do(t.Context(), c, read())
		wantCode(t, err, "")
		vendor.others = 20
		for _, err := range together(calls, func(int) error { _, err := do(t.Context(), c, read()); return err }) {
			wantCode(t, err, "")
		}
		slices.SortFunc(came, time.Time.Compare)
		if alone := came[2].Sub(came[1]); alone < latency {
			t.Errorf("the second call of the window came %v after the first, want no sooner than its answer after %v", alone, latency)
		}
		want(t, "calls that came at a moment of their own", len(slices.CompactFunc(came, time.Time.Equal)), calls+1)
	})
}

// told is what an answer tells of one budget.
type told struct {
	name      string
	left      int
	reset     time.Duration // from now
	perRoute  bool
	limit     int
	sinceZero bool // reset counts from the first request
}

// telling is a vendor without a network that tells what it is told to tell: the
// n-th answer by the n-th element, later ones nothing. It records when requests came.
type telling struct {
	answers [][]told

	mu    sync.Mutex
	begin time.Time
	came  []time.Duration
}

func (v *telling) RoundTrip(*http.Request) (*http.Response, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.begin.IsZero() {
		v.begin = time.Now()
	}
	v.came = append(v.came, time.Since(v.begin))
	return answerOf(200, http.Header{"Number": {strconv.Itoa(len(v.came))}}), nil
}

func (v *telling) budgets(h http.Header, now time.Time) []transport.Budget {
	n, _ := strconv.Atoi(h.Get("Number"))
	if n > len(v.answers) {
		return nil
	}
	var budgets []transport.Budget
	for _, b := range v.answers[n-1] {
		reset := now.Add(b.reset)
		if b.sinceZero {
			reset = v.begin.Add(b.reset)
		}
		budgets = append(budgets, transport.Budget{Name: b.name, Limit: b.limit, Remaining: b.left, Reset: reset, PerRoute: b.perRoute})
	}
	return budgets
}

func (v *telling) client(t *testing.T) *transport.Client {
	t.Helper()
	d := dialect()
	d.Budgets = v.budgets
	return wire(t, &http.Client{Transport: v}, "https://vendor.invalid", vendortest.Credential(credential), d, transport.Options{Reserve: 0.2})
}

// TestPacing makes calls one after the other and checks when each is sent: at
// most slack after the moment that is due.
func TestPacing(t *testing.T) {
	t.Parallel()
	const slack = 200 * time.Millisecond
	type answers [][]told
	const second = time.Second
	for name, test := range map[string]struct {
		answers answers
		routes  []string        // of the calls; three without a route where there are none
		due     []time.Duration // of each call
	}{
		"nothing told":        {nil, nil, []time.Duration{0, 0, 0}},
		"enough":              {answers{{{limit: 10, left: 9, reset: 5 * second}}}, nil, []time.Duration{0, 0, 0}},
		"used up":             {answers{{{limit: 10, left: 2, reset: 5 * second}}}, nil, []time.Duration{0, 5 * second, 5 * second}},
		"reserve not reached": {answers{{{limit: 10, left: 3, reset: 5 * second}}}, nil, []time.Duration{0, 0, 0}}, // no answer tells that one less is left
		"none left":           {answers{{{limit: 10, left: 0, reset: 5 * second}}}, nil, []time.Duration{0, 5 * second, 5 * second}},
		"none left, untold":   {answers{{{left: 0, reset: 5 * second}}}, nil, []time.Duration{0, 5 * second, 5 * second}},
		"a limit of one":      {answers{{{limit: 1, left: 0, reset: 5 * second}}}, nil, []time.Duration{0, 5 * second, 5 * second}},
		"reset in the past":   {answers{{{limit: 10, left: 0, reset: -second}}}, nil, []time.Duration{0, 0, 0}},
		"reset now":           {answers{{{limit: 10, left: 0, reset: 0}}}, nil, []time.Duration{0, 0, 0}},
		"centuries ahead":     {answers{{{limit: 10, left: 0, reset: 200 * 365 * 24 * time.Hour}}}, nil, []time.Duration{0, 0, 0}},
		"longest of two":      {answers{{{name: "a", limit: 10, left: 0, reset: 2 * second}, {name: "b", limit: 10, left: 1, reset: 7 * second}}}, nil, []time.Duration{0, 7 * second, 7 * second}},
		"one of two":          {answers{{{name: "a", limit: 10, left: 9, reset: 9 * second}, {name: "b", limit: 10, left: 1, reset: 4 * second}}}, nil, []time.Duration{0, 4 * second, 4 * second}},
		"a wrong answer does not stay": {answers{
			{{limit: 10, left: 9, reset: time.Hour}}, {{limit: 10, left: 0, reset: 5 * second}},
		}, nil, []time.Duration{0, 0, 5 * second}},
		"overtaken in one window": {answers{
			{{limit: 10, left: 2, reset: 5 * second, sinceZero: true}},
			{{limit: 10, left: 0, reset: 9 * second, sinceZero: true}},
			{{limit: 10, left: 8, reset: 9 * second, sinceZero: true}},
		}, nil, []time.Duration{0, 5 * second, 9 * second}},
		"route": {
			answers{{{limit: 10, left: 0, reset: 5 * second, perRoute: true}}},
			[]string{"a", "b", "", "b", "a"},
			[]time.Duration{0, 0, 0, 0, 5 * second},
		},
		"all routes": {answers{{{limit: 10, left: 0, reset: 5 * second}}}, []string{"a", "b"}, []time.Duration{0, 5 * second}},
		"each route": {answers{
			{{limit: 10, left: 0, reset: 5 * second, perRoute: true}}, {{limit: 10, left: 0, reset: 9 * second, perRoute: true}},
		}, []string{"a", "b", "a", "b"}, []time.Duration{0, 0, 5 * second, 9 * second}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				vendor := &telling{answers: test.answers}
				c := vendor.client(t)
				routes := test.routes
				if routes == nil {
					routes = make([]string, 3)
				}
				for _, route := range routes {
					req := read()
					req.Route = route
					_, err := do(t.Context(), c, req)
					wantCode(t, err, "")
				}
				for i, due := range test.due {
					if late := vendor.came[i] - due; late < 0 || late > slack {
						t.Errorf("call %d was sent after %v, want %v", i+1, vendor.came[i], due)
					}
				}
			})
		})
	}
}

// TestBudgetOutOfReach checks that a call which would wait too long gives up at
// once, sends nothing, and says how long it would have been.
func TestBudgetOutOfReach(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		reset, deadline time.Duration // no deadline where zero
		next            string
	}{
		"an hour":          {time.Hour, 0, "wait 1h0m"},
		"over the longest": {31 * time.Second, 0, "wait 3"},
		"over the call's":  {5 * time.Second, 3 * time.Second, "wait "},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				vendor := &telling{answers: [][]told{{{limit: 10, left: 0, reset: test.reset}}}}
				c := vendor.client(t)
				ctx := t.Context()
				if test.deadline > 0 {
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeout(ctx, test.deadline)
					defer cancel()
				}
				_, err := do(ctx, c, read())
				wantCode(t, err, "")
				begin := time.Now()
				for _, rule := range []transport.Rule{transport.Read, transport.Repeatable, transport.Once} {
					_, err = do(ctx, c, call(rule))
					e := wantCode(t, err, providers.CodeRateLimited)
					if e.RetryAfter < test.reset || e.RetryAfter > test.reset+time.Second || !strings.HasPrefix(e.Next, test.next) {
						t.Errorf("RetryAfter %v, next %q: want about %v", e.RetryAfter, e.Next, test.reset)
					}
				}
				want(t, "time it took", time.Since(begin), 0)
				want(t, "requests", len(vendor.came), 1)
			})
		})
	}
}

// TestCancelledWhilePacing cancels a call that waits for the budget.
func TestCancelledWhilePacing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		vendor := &telling{answers: [][]told{{{limit: 10, left: 0, reset: 20 * time.Second}}}}
		c := vendor.client(t)
		_, err := do(t.Context(), c, read())
		wantCode(t, err, "")
		for _, rule := range []transport.Rule{transport.Read, transport.Once} {
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(3*time.Second, cancel)
			begin := time.Now()
			_, err = do(ctx, c, call(rule))
			wantCode(t, err, providers.CodeCancelled)
			want(t, "time it took", time.Since(begin), 3*time.Second)
		}
		want(t, "requests", len(vendor.came), 1)
	})
}

// TestLostAnswersAreNotInFlight checks that requests without an answer do not
// stay booked for ever.
func TestLostAnswersAreNotInFlight(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		vendor := newBudgeted(budget{limit: 10, window: time.Hour})
		lost := 0
		c := paced(t, vendor, roundTripper(func(r *http.Request) (*http.Response, error) {
			if r.Method == http.MethodPost {
				lost++
				return nil, io.ErrUnexpectedEOF
			}
			return vendor.RoundTrip(r)
		}))
		_, err := do(t.Context(), c, read())
		wantCode(t, err, "")
		for range 20 {
			_, err = do(t.Context(), c, call(transport.Once))
			if err == nil {
				t.Error("no error")
			}
		}
		_, err = do(t.Context(), c, read())
		wantCode(t, err, "")
		want(t, "lost answers", lost, 20)
	})
}
