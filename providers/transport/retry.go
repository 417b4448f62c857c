package transport

import (
	"context"
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
	// maxWait is the longest wait that a vendor may ask for before a call gives up
	// and tells its caller instead.
	maxWait = 30 * time.Second
)

func (r Rule) allows(a *attempt) bool {
	if a == nil || r == Once {
		return false
	}
	if a.err != nil {
		return !a.sent.Load() || r != Unexecuted
	}
	switch status := a.response.StatusCode; {
	case status == http.StatusTooManyRequests:
		return retryAfter(a.response.Header, time.Now()) <= maxWait
	case status >= 500:
		return r != Unexecuted
	default:
		return false
	}
}

// repeat runs try under the request's rule. It returns the last attempt, how
// many were made, and an error where an attempt could not even be made.
func (c *Client) repeat(ctx context.Context, req Request, try func(context.Context) (*attempt, error)) (*attempt, int, error) {
	policy := retrypolicy.NewBuilder[*attempt]().
		HandleIf(func(a *attempt, err error) bool { return err == nil && ctx.Err() == nil && req.Retry.allows(a) }).
		WithMaxAttempts(maxAttempts).
		WithBackoff(firstDelay, maxDelay).
		WithJitterFactor(0.25).
		WithDelayFunc(func(exec failsafe.ExecutionAttempt[*attempt]) time.Duration { return c.vendorDelay(exec.LastResult()) }).
		ReturnLastFailure().
		Build()
	tries := 0
	last, err := failsafe.With(policy).WithContext(ctx).GetWithExecution(func(exec failsafe.Execution[*attempt]) (*attempt, error) {
		if previous := exec.LastResult(); previous != nil {
			previous.close()
		}
		tries++
		return try(ctx)
	})
	if last == nil {
		return nil, tries, c.cancelled(ctx, err)
	}
	return last, tries, nil
}

// cancelled turns a context's error into one of ours and leaves others as they are.
func (c *Client) cancelled(ctx context.Context, err error) error {
	var own *providers.Error
	switch {
	case errors.As(err, &own):
		return err
	case errors.Is(err, context.DeadlineExceeded):
		return c.fail(providers.CodeTimeout, "the call's time is up", err)
	case errors.Is(err, context.Canceled) || ctx.Err() != nil:
		return c.fail(providers.CodeCancelled, "the call was cancelled", err)
	default:
		return c.fail(providers.CodeUnavailable, "no answer", err)
	}
}

// vendorDelay is how long the vendor asks to wait, or -1 for the backoff.
func (c *Client) vendorDelay(a *attempt) time.Duration {
	if a == nil || a.response == nil || a.response.StatusCode != http.StatusTooManyRequests {
		return -1
	}
	if wait := retryAfter(a.response.Header, time.Now()); wait > 0 {
		return wait
	}
	return -1
}

// retryAfter reads Retry-After: seconds or an HTTP date. 0 where there is none.
func retryAfter(h http.Header, now time.Time) time.Duration {
	value := h.Get("Retry-After")
	if seconds, err := strconv.Atoi(value); err == nil {
		return max(0, time.Duration(min(seconds, 24*60*60))*time.Second)
	}
	if at, err := http.ParseTime(value); err == nil {
		return max(0, at.Sub(now))
	}
	return 0
}
