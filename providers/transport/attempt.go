package transport

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptrace"
	"strings"
	"sync/atomic"
	"time"

	"github.com/tokenreeve/tokenreeve/internal/sanitize"
	"github.com/tokenreeve/tokenreeve/internal/secret"
)

// attempt is one try of an exchange. Its timer bounds all of it, from dial to
// the last byte of the body, until it is stopped.
type attempt struct {
	ctx        context.Context
	cancel     context.CancelCauseFunc
	timer      *time.Timer
	credential *secret.Secret
	sent       atomic.Bool // a connection was made, so the request may have reached the vendor
	response   *http.Response
	body       []byte // of a 2xx that is read whole; more than maxBody bytes are too many
	err        error  // why there is no answer, or not all of it
	// observed is told how it ended, and is nil once it was, or where nobody wants to know.
	observed func(status int, failed string)
}

func newAttempt(ctx context.Context, timeout time.Duration, credential *secret.Secret) *attempt {
	ctx, cancel := context.WithCancelCause(ctx)
	a := &attempt{ctx: ctx, cancel: cancel, credential: credential}
	a.timer = time.AfterFunc(timeout, a.timeOut)
	return a
}

func (a *attempt) timeOut() { a.cancel(context.DeadlineExceeded) }

// traced returns the context of the attempt's request.
func (a *attempt) traced() context.Context {
	return httptrace.WithClientTrace(a.ctx, &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { a.sent.Store(true) }})
}

// fail records why there is no whole answer: what ended the attempt's context
// says more than what came of it.
func (a *attempt) fail(err error) {
	if cause := context.Cause(a.ctx); cause != nil {
		err = cause
	}
	a.err = err
}

// read takes in the whole body, with one allocation where its length is told.
func (a *attempt) read() {
	var body bytes.Buffer
	if length := a.response.ContentLength; 0 < length && length <= maxBody {
		body.Grow(int(length) + bytes.MinRead)
	}
	if _, err := body.ReadFrom(io.LimitReader(a.response.Body, maxBody+1)); err != nil {
		a.fail(err)
	}
	a.body = body.Bytes()
}

func (a *attempt) isAccepted() bool { return a.response.StatusCode/100 == 2 }

// mayHaveRun reports whether the vendor may have carried the request out although
// there is no answer that says so.
func (a *attempt) mayHaveRun() bool {
	if a.response == nil {
		return a.sent.Load()
	}
	return a.err != nil || a.response.StatusCode >= 500
}

// quotable cleans what the vendor says. A vendor may repeat the credential that
// it refuses.
func (a *attempt) quotable(text string) string {
	if !a.credential.IsZero() {
		text = strings.ReplaceAll(text, a.credential.Expose(), secret.Redacted)
	}
	return sanitize.Message(text)
}

// requestID returns what the header of that name says, cleaned.
func (a *attempt) requestID(header string) string {
	if header == "" || a.response == nil {
		return ""
	}
	return a.quotable(a.response.Header.Get(header))
}

// quiet returns err without what the other side sent: net/http quotes an answer
// that is not HTTP.
func (a *attempt) quiet(err error) error {
	text, _, _ := strings.Cut(err.Error(), `"`)
	return quietError{a.quotable(strings.TrimRight(text, " :([")), err}
}

// quietError hides the text of an error, and not what it is.
type quietError struct {
	text string
	err  error
}

func (e quietError) Error() string        { return e.text }
func (e quietError) Is(target error) bool { return errors.Is(e.err, target) }

// close ends the attempt and keeps its connection for the next one, if what is
// left of the body is short.
func (a *attempt) close() {
	if a.response != nil {
		_, _ = io.Copy(io.Discard, io.LimitReader(a.response.Body, maxErrorBody))
	}
	a.abort()
}

// tell says how the attempt ended.
func (a *attempt) tell() {
	if a.observed == nil {
		return
	}
	status := 0
	if a.response != nil {
		status = a.response.StatusCode
	}
	a.observed(status, a.failure())
	a.observed = nil
}

// failure is why there is no whole answer, in a word.
func (a *attempt) failure() string {
	switch {
	case a.err == nil && a.response != nil:
		return ""
	case errors.Is(a.err, context.DeadlineExceeded):
		return "timeout"
	case a.ctx.Err() != nil:
		return "cancelled"
	case a.response != nil:
		return "broken_off"
	case a.err != nil && !a.sent.Load():
		return "not_connected"
	default:
		return "no_answer"
	}
}

// abort ends the attempt at once.
func (a *attempt) abort() {
	a.tell()
	a.timer.Stop()
	a.cancel(nil)
	if a.response != nil {
		_ = a.response.Body.Close()
	}
}
