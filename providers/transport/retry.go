package transport

import (
	"context"
	"crypto/tls"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/retrypolicy"

	"github.com/tokenreeve/tokenreeve/providers"
)

// Rule says when a request may be repeated by itself. The facts of each vendor
// give one rule per endpoint.
type Rule int

// The rules. The zero value repeats nothing, so that a forgotten rule is safe.
const (
	// Once never repeats and is a change.
	Once Rule = iota
	// Read repeats on 429, 5xx and network failure.
	Read
	// Repeatable is a change with the same end state when repeated: it repeats like
	// Read. After a repetition a 404 means that an earlier attempt did it.
	Repeatable
	// Unexecuted is a change that repeats only where the vendor cannot have carried
	// it out: on 429, or when no connection was made.
	Unexecuted
)

func (r Rule) isChange() bool { return r != Read }

// The bounds of repeating.
const (
	maxAttempts = 4
	firstDelay  = 200 * time.Millisecond
	maxDelay    = 5 * time.Second
	jitter      = 0.25 // share of a delay that is added or taken away
	// maxWait is the longest wait that a vendor may ask for before a call gives up
	// and tells its caller instead.
	maxWait = 30 * time.Second
)

func (r Rule) allows(a *attempt) bool {
	if r == Once {
		return false
	}
	if a.err != nil {
		return !isPermanent(a.err) && (r != Unexecuted || !a.sent.Load())
	}
	switch status := a.response.StatusCode; {
	case status == http.StatusTooManyRequests:
		return a.canWait()
	case status >= 500:
		return r != Unexecuted && a.canWait()
	default:
		return false
	}
}

// isPermanent reports an error that another attempt meets again.
func isPermanent(err error) bool {
	var untrusted *tls.CertificateVerificationError
	return errors.As(err, &untrusted)
}

// canWait reports whether the call can wait as long as the vendor asks.
func (a *attempt) canWait() bool {
	wait := retryAfter(a.response.Header, time.Now())
	deadline, ok := a.ctx.Deadline()
	return wait <= maxWait && (!ok || wait < time.Until(deadline))
}

// retries holds the policy of each rule.
type retries [Unexecuted + 1]failsafe.Executor[*attempt]

func newRetries() retries {
	var all retries
	for i := range all {
		rule := Rule(i)
		all[i] = failsafe.With(retrypolicy.NewBuilder[*attempt]().
			HandleIf(func(a *attempt, err error) bool { return err == nil && rule.allows(a) }).
			WithMaxAttempts(maxAttempts).
			WithBackoff(firstDelay, maxDelay).
			WithJitterFactor(jitter).
			WithDelayFunc(func(exec failsafe.ExecutionAttempt[*attempt]) time.Duration { return vendorDelay(exec.LastResult()) }).
			ReturnLastFailure().
			Build())
	}
	return all
}

// tries is what became of a request.
type tries struct {
	last  *attempt
	count int
	doubt bool // one before the last may have been carried out
}

// repeat runs try under the request's rule. It returns an error where an attempt
// could not even be made; last is nil then.
func (c *Client) repeat(ctx context.Context, req Request, try func() (*attempt, error)) (tries, error) {
	t := tries{count: 1}
	var err error
	if t.last, err = try(); err != nil || !req.Retry.allows(t.last) {
		return t, err
	}
	isFirst := true
	// When the context ends, the library drops what the last attempt gave. What was
	// sent must not be forgotten, so it is kept here.
	_, _ = c.retries[req.Retry].WithContext(ctx).Get(func() (*attempt, error) {
		if isFirst { // it was made above: most requests need no policy
			isFirst = false
			return t.last, nil
		}
		t.doubt = t.doubt || t.last.mayHaveRun()
		t.last.close()
		t.count++
		t.last, err = try()
		return t.last, err
	})
	return t, err
}

// cancelled returns the error of a call whose context ended with err.
func (c *Client) cancelled(err error) error {
	if errors.Is(err, context.DeadlineExceeded) {
		e := c.fail(providers.CodeTimeout, "the call's time is up", err)
		e.Next = "try again later"
		return e
	}
	return c.fail(providers.CodeCancelled, "the call was cancelled", err)
}

// vendorDelay is how long the vendor asks to wait, or -1 for the backoff. The
// policy's jitter may take a part of it away again.
func vendorDelay(a *attempt) time.Duration {
	if a.response == nil {
		return -1
	}
	wait := retryAfter(a.response.Header, time.Now())
	if wait <= 0 {
		return -1
	}
	return time.Duration(float64(wait) / (1 - jitter))
}

// retryAfter reads Retry-After: seconds or an HTTP date, at most longWait. 0 where
// there is none.
func retryAfter(h http.Header, now time.Time) time.Duration {
	value := h.Get("Retry-After")
	var wait time.Duration
	if seconds, err := strconv.Atoi(value); err == nil {
		wait = time.Duration(max(0, min(seconds, int(longWait/time.Second)))) * time.Second
	} else if at, err := http.ParseTime(value); err == nil {
		wait = at.Sub(now)
	}
	return max(0, min(wait, longWait))
}
