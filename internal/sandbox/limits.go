package sandbox

import "time"

// limiter counts requests in fixed windows, one for each key. Its owner's mutex
// guards it.
type limiter struct {
	budget  Budget
	nominal int // what the headers show when nothing is refused
	windows map[string]limitWindow
}

type limitWindow struct {
	start int64 // Unix milliseconds
	used  int
}

// allowance is one limiter's word on one request.
type allowance struct {
	ok               bool
	limit, remaining int
	reset            int64 // end of the window, Unix milliseconds
}

func newLimiter(b Budget, nominal int, window time.Duration) limiter {
	setDefault(&b.Window, window)
	return limiter{budget: b, nominal: nominal, windows: map[string]limitWindow{}}
}

// take spends one request of the key's window.
func (l *limiter) take(key string, now int64) allowance {
	length := max(l.budget.Window.Milliseconds(), 1)
	if l.budget.Requests <= 0 {
		return allowance{ok: true, limit: l.nominal, remaining: l.nominal - 1, reset: now + length}
	}
	w := l.windows[key]
	if now >= w.start+length || now < w.start {
		w = limitWindow{start: now}
	}
	a := allowance{ok: w.used < l.budget.Requests, limit: l.budget.Requests, reset: w.start + length}
	if a.ok {
		w.used++
	}
	a.remaining = l.budget.Requests - w.used
	l.windows[key] = w
	return a
}

// retryAfter is the Retry-After in seconds, rounded up, at least 1.
func retryAfter(reset, now int64) int64 { return max((reset-now+999)/1000, 1) }
