package transport_test

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tokenreeve/tokenreeve/providers"
	"github.com/tokenreeve/tokenreeve/providers/transport"
)

// TestBackoff checks that the waits between attempts double, with jitter.
func TestBackoff(t *testing.T) {
	t.Parallel()
	var seen []time.Duration
	synctest.Test(t, func(t *testing.T) {
		for range 50 {
			vendor := &scripted{answer: func(int, *http.Request) (*http.Response, error) { return answerOf(500, http.Header{}), nil }}
			_, err := do(t.Context(), vendor.client(t), read())
			wantCode(t, err, providers.CodeUnavailable)
			for i, due := range []time.Duration{200, 400, 800} {
				due *= time.Millisecond
				if wait := vendor.came[i+1] - vendor.came[i]; wait < due*3/4 || wait > due*5/4 {
					t.Errorf("wait %d is %v, want %v and a quarter more or less", i+1, wait, due)
				}
			}
			seen = append(seen, vendor.came[1])
		}
	})
	slices.Sort(seen)
	if distinct := len(slices.Compact(seen)); distinct < 10 {
		t.Errorf("%d different first waits of 50, want jitter", distinct)
	}
}

// TestRetryAfter checks that no attempt comes sooner than the vendor asks for,
// and that a call does not wait for ever.
func TestRetryAfter(t *testing.T) {
	t.Parallel()
	type test struct {
		status   int
		header   func(now time.Time) string
		deadline time.Duration
		rule     transport.Rule
		wait     time.Duration // at least; none is the backoff
		attempts int
		code     providers.Code
		after    time.Duration // the error's
	}
	seconds := func(s string) func(time.Time) string { return func(time.Time) string { return s } }
	date := func(d time.Duration) func(time.Time) string {
		return func(now time.Time) string { return now.Add(d).UTC().Format(http.TimeFormat) }
	}
	const limited = providers.CodeRateLimited
	for name, test := range map[string]test{
		"seconds":                 {429, seconds("7"), 0, transport.Read, 7 * time.Second, 2, "", 0},
		"the longest":             {429, seconds("30"), 0, transport.Read, 30 * time.Second, 2, "", 0},
		"date":                    {429, date(9 * time.Second), 0, transport.Read, 8 * time.Second, 2, "", 0},
		"of a change":             {429, seconds("7"), 0, transport.Unexecuted, 7 * time.Second, 2, "", 0},
		"503":                     {503, seconds("7"), 0, transport.Read, 7 * time.Second, 2, "", 0},
		"date in the past":        {429, date(-time.Hour), 0, transport.Read, 0, 2, "", 0},
		"none":                    {429, seconds(""), 0, transport.Read, 0, 2, "", 0},
		"zero":                    {429, seconds("0"), 0, transport.Read, 0, 2, "", 0},
		"below zero":              {429, seconds("-9223372036854775807"), 0, transport.Read, 0, 2, "", 0},
		"no number":               {429, seconds("soon"), 0, transport.Read, 0, 2, "", 0},
		"too long":                {429, seconds("31"), 0, transport.Read, 0, 1, limited, 31 * time.Second},
		"an hour":                 {429, seconds("3600"), 0, transport.Read, 0, 1, limited, time.Hour},
		"an hour, change":         {429, seconds("3600"), 0, transport.Unexecuted, 0, 1, limited, time.Hour},
		"an hour, 503":            {503, seconds("3600"), 0, transport.Read, 0, 1, providers.CodeUnavailable, time.Hour},
		"more than can be":        {429, seconds("9223372036854775807"), 0, transport.Read, 0, 1, limited, 24 * time.Hour},
		"date centuries ahead":    {429, seconds("Fri, 31 Dec 9999 23:59:59 GMT"), 0, transport.Read, 0, 1, limited, 24 * time.Hour},
		"longer than the call":    {429, seconds("7"), 5 * time.Second, transport.Read, 0, 1, limited, 7 * time.Second},
		"shorter than the call":   {429, seconds("7"), 15 * time.Second, transport.Read, 7 * time.Second, 2, "", 0},
		"once, whatever is asked": {429, seconds("1"), 0, transport.Once, 0, 1, limited, time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				for range 10 { // the waits have jitter
					vendor := &scripted{answer: func(n int, _ *http.Request) (*http.Response, error) {
						if n > 1 {
							return answerOf(200, http.Header{}), nil
						}
						return answerOf(test.status, http.Header{"Retry-After": {test.header(time.Now())}}), nil
					}}
					ctx, cancel := context.WithTimeout(t.Context(), cmp.Or(test.deadline, time.Hour))
					begin := time.Now()
					response, err := do(ctx, vendor.client(t), call(test.rule))
					cancel()
					e := wantCode(t, err, test.code)
					want(t, "attempts", response.Attempts, test.attempts)
					want(t, "RetryAfter", e.RetryAfter, test.after)
					if test.after > 0 {
						want(t, "next", e.Next, fmt.Sprintf("wait %v, then try again", test.after))
						want(t, "time it took", time.Since(begin), 0)
					} else if wait := vendor.came[1]; wait < test.wait || wait > 2*test.wait+time.Second {
						t.Errorf("the second attempt came after %v, want %v and not much more", wait, test.wait)
					}
				}
			})
		})
	}
}

// TestRetryAfterHoldsAll checks that what one call was asked to wait, all wait.
func TestRetryAfterHoldsAll(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		vendor := &scripted{answer: func(n int, _ *http.Request) (*http.Response, error) {
			if n > 1 {
				return answerOf(200, http.Header{}), nil
			}
			return answerOf(429, http.Header{"Retry-After": {"7"}}), nil
		}}
		c := vendor.client(t)
		_, err := do(t.Context(), c, call(transport.Once))
		wantCode(t, err, providers.CodeRateLimited)
		for range 2 {
			_, err = do(t.Context(), c, call(transport.Once))
			wantCode(t, err, "")
		}
		if wait := vendor.came[1]; wait < 7*time.Second || wait > 8*time.Second {
			t.Errorf("the next call was sent after %v, want 7s", wait)
		}
		if wait := vendor.came[2] - vendor.came[1]; wait != 0 {
			t.Errorf("the call after it waited %v more", wait)
		}
	})
}

// TestCancelledWhileBackingOff cancels a call between two attempts.
func TestCancelledWhileBackingOff(t *testing.T) {
	t.Parallel()
	type test struct {
		rule   transport.Rule
		answer func() (*http.Response, error)
		code   providers.Code
	}
	status := func(code int) func() (*http.Response, error) {
		return func() (*http.Response, error) { return answerOf(code, http.Header{"Retry-After": {"20"}}), nil }
	}
	lost := func() (*http.Response, error) { return nil, io.ErrUnexpectedEOF }
	for name, test := range map[string]test{
		"read after 503":       {transport.Read, status(503), providers.CodeCancelled},
		"read after 429":       {transport.Read, status(429), providers.CodeCancelled},
		"read after a loss":    {transport.Read, lost, providers.CodeCancelled},
		"change after 429":     {transport.Unexecuted, status(429), providers.CodeCancelled},
		"repeatable after 429": {transport.Repeatable, status(429), providers.CodeCancelled},
		"repeatable after 503": {transport.Repeatable, status(503), providers.CodeOutcomeUnknown},
		"repeatable, lost":     {transport.Repeatable, lost, providers.CodeOutcomeUnknown},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				vendor := &scripted{answer: func(int, *http.Request) (*http.Response, error) { return test.answer() }}
				ctx, cancel := context.WithCancel(t.Context())
				time.AfterFunc(100*time.Millisecond, cancel)
				begin := time.Now()
				response, err := do(ctx, vendor.client(t), call(test.rule))
				wantCode(t, err, test.code)
				want(t, "attempts", response.Attempts, 1)
				want(t, "requests", len(vendor.came), 1)
				want(t, "time it took", time.Since(begin), 100*time.Millisecond)
			})
		})
	}
}

// TestTimeout checks the limits of time of an attempt and of a call.
func TestTimeout(t *testing.T) {
	t.Parallel()
	const limit = 30 * time.Second // without another setting
	hang := func(_ int, r *http.Request) (*http.Response, error) {
		<-r.Context().Done()
		return nil, r.Context().Err()
	}
	inBody := func(status int) func(int, *http.Request) (*http.Response, error) {
		return func(_ int, r *http.Request) (*http.Response, error) { return silent(status, `{"id":`, r), nil }
	}
	for name, test := range map[string]struct {
		rule     transport.Rule
		answer   func(int, *http.Request) (*http.Response, error)
		deadline time.Duration // of the call, none where zero
		end      end
		took     time.Duration // at least, and at most a tenth more
	}{
		"read":                        {transport.Read, hang, 0, end{4, providers.CodeTimeout}, 4 * limit},
		"read in the body":            {transport.Read, inBody(200), 0, end{4, providers.CodeTimeout}, 4 * limit},
		"repeatable":                  {transport.Repeatable, hang, 0, end{4, providers.CodeOutcomeUnknown}, 4 * limit},
		"unexecuted":                  {transport.Unexecuted, hang, 0, end{1, providers.CodeOutcomeUnknown}, limit},
		"once":                        {transport.Once, hang, 0, end{1, providers.CodeOutcomeUnknown}, limit},
		"once in the body":            {transport.Once, inBody(200), 0, end{1, providers.CodeOutcomeUnknown}, limit},
		"error's body":                {transport.Read, inBody(403), 0, end{1, providers.CodeForbidden}, limit},
		"read, deadline":              {transport.Read, hang, time.Second, end{1, providers.CodeTimeout}, time.Second},
		"read in the body, deadline":  {transport.Read, inBody(200), time.Second, end{1, providers.CodeTimeout}, time.Second},
		"repeatable, deadline":        {transport.Repeatable, hang, time.Second, end{1, providers.CodeOutcomeUnknown}, time.Second},
		"once, deadline":              {transport.Once, hang, time.Second, end{1, providers.CodeOutcomeUnknown}, time.Second},
		"once in the body, deadline":  {transport.Once, inBody(200), time.Second, end{1, providers.CodeOutcomeUnknown}, time.Second},
		"read, deadline at the third": {transport.Read, hang, 2*limit + 10*time.Second, end{3, providers.CodeTimeout}, 2*limit + 10*time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				vendor := &scripted{answer: test.answer}
				ctx, cancel := context.WithTimeout(t.Context(), cmp.Or(test.deadline, time.Hour))
				defer cancel()
				begin := time.Now()
				_, err := do(ctx, vendor.client(t), call(test.rule))
				wantCode(t, err, test.end.code)
				want(t, "requests", len(vendor.came), test.end.requests)
				if took := time.Since(begin); took < test.took || took > test.took*11/10 {
					t.Errorf("it took %v, want %v", took, test.took)
				}
			})
		})
	}
}

// TestNothingIsLeft checks that every body that was answered is closed, however
// the call ends; the bubble of synctest fails where a goroutine is left.
func TestNothingIsLeft(t *testing.T) {
	t.Parallel()
	for name, script := range map[string][]int{
		"answered": {200}, "refused": {403}, "repeated": {503, 429, 200}, "given up": {500, 500, 500, 500}, "redirect": {302},
	} {
		for _, stream := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/stream %v", name, stream), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					open := 0
					vendor := &scripted{answer: func(n int, _ *http.Request) (*http.Response, error) {
						open++
						r := answerOf(script[n-1], http.Header{})
						r.Body = &counted{ReadCloser: r.Body, open: &open}
						return r, nil
					}}
					c := vendor.client(t)
					if stream {
						_, _ = collect(t.Context(), t, c)
					} else {
						_, _ = do(t.Context(), c, read())
					}
					want(t, "requests", len(vendor.came), len(script))
					want(t, "open bodies", open, 0)
				})
			})
		}
	}
}

// counted counts down when it is closed for the first time.
type counted struct {
	io.ReadCloser
	open *int
	once sync.Once
}

func (c *counted) Close() error {
	c.once.Do(func() { *c.open-- })
	return c.ReadCloser.Close()
}
