package transport

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/tokenreeve/tokenreeve/internal/sanitize"
	"github.com/tokenreeve/tokenreeve/internal/secret"
	"github.com/tokenreeve/tokenreeve/providers"
)

// Source gives a credential. It is asked at the first request and again after a 401.
type Source interface {
	Read(ctx context.Context) (secret.Secret, error)
}

// Dialect is what differs between vendors on the wire.
type Dialect struct {
	Provider string
	// Authorize puts the opened credential into the headers.
	Authorize func(h http.Header, credential string)
	// Header is sent with every request.
	Header http.Header
	// Budgets reads the vendor's rate-limit headers.
	Budgets func(h http.Header, now time.Time) []Budget
	// Problem reads an error body into the vendor's code and message. Both are
	// cleaned and bounded by the caller of Problem.
	Problem func(status int, body []byte) (code, message string)
	// RequestID names the header that holds the vendor's request id.
	RequestID string
}

// Client calls one vendor with one credential. It is safe for concurrent use.
type Client struct {
	http    *http.Client
	base    string
	host    string // as [Host] spells it
	dialect Dialect
	options Options
	source  Source
	pacer   *pacer
	retries retries

	reading    chan struct{} // is full while the source is read
	credential atomic.Pointer[secret.Secret]
}

// NewClient returns a client for the vendor at base, a URL without query that
// may hold a path. It sends nothing.
func NewClient(hc *http.Client, base string, source Source, dialect Dialect, o Options) (*Client, error) {
	if !isBase(base) {
		// Not quoted: it may hold a password.
		return nil, errors.New("base_url is not an http(s) URL without query, fragment and user")
	}
	if o.Timeout <= 0 {
		o.Timeout = defaultTimeout
	}
	return &Client{
		http: hc, base: strings.TrimRight(base, "/"), host: Host(base), dialect: dialect, options: o, source: source,
		pacer: newPacer(o.Reserve), retries: newRetries(), reading: make(chan struct{}, 1),
	}, nil
}

// isBase reports whether a path can be put behind base. An empty query or
// fragment would swallow it.
func isBase(base string) bool {
	u, err := url.Parse(base)
	return err == nil && (u.Scheme == "https" || u.Scheme == "http") && u.Hostname() != "" && u.User == nil && !strings.ContainsAny(base, "?#")
}

// Request is one call of a vendor's endpoint.
type Request struct {
	Method string
	// Path is below the base URL, begins with a slash, and has its ids escaped by
	// url.PathEscape after they were checked.
	Path  string
	Query url.Values
	// Body is marshalled to JSON; nil sends none.
	Body any
	// JSON sets the Content-Type also where there is no body.
	JSON  bool
	Retry Rule
	// Route names the endpoint, without ids: "GET /tokens/{id}". Budgets that the vendor
	// keeps per route go by it, and it is what others see of the request.
	Route string
}

// Response is what a vendor answered, without its body.
type Response struct {
	Status   int
	Attempts int // 1 where nothing was repeated
	// MayHaveActed says that an attempt before the last may have been carried out.
	MayHaveActed bool
	RequestID    string

	date string
}

// Date is the vendor's clock as it answered; zero where it did not tell.
func (r Response) Date() time.Time {
	date, _ := http.ParseTime(r.date)
	return date
}

// With returns a client of the same vendor with another credential, whose answers
// change nothing here: neither what is known of the budgets nor the credential.
func (c *Client) With(credential secret.Secret) *Client {
	options := c.options
	options.ObserveBudget = nil // it is another credential's
	return &Client{
		http: c.http, base: c.base, host: c.host, dialect: c.dialect, options: options, source: fixed{credential},
		pacer: newPacer(c.options.Reserve), retries: c.retries, reading: make(chan struct{}, 1),
	}
}

// fixed is a source that gives the same credential each time.
type fixed struct{ credential secret.Secret }

func (f fixed) Read(context.Context) (secret.Secret, error) { return f.credential, nil }

// Credential returns the credential, read from its source if that has not been
// done yet.
func (c *Client) Credential(ctx context.Context) (secret.Secret, error) {
	s, err := c.current(ctx)
	if err != nil {
		return secret.Secret{}, err
	}
	return *s, nil
}

func (c *Client) current(ctx context.Context) (*secret.Secret, error) {
	if s := c.credential.Load(); s != nil {
		return s, nil
	}
	if err := c.lockSource(ctx); err != nil {
		return nil, err
	}
	defer c.unlockSource()
	if s := c.credential.Load(); s != nil {
		return s, nil
	}
	return c.readSource(ctx)
}

// lockSource waits for another reading of the source, which may take as long as
// a person needs to unlock a keyring.
func (c *Client) lockSource(ctx context.Context) error {
	select {
	case c.reading <- struct{}{}:
		return nil
	case <-ctx.Done():
		return c.cancelled(ctx.Err())
	}
}

func (c *Client) unlockSource() { <-c.reading }

func (c *Client) readSource(ctx context.Context) (*secret.Secret, error) {
	s, err := c.source.Read(ctx)
	switch {
	case err == nil:
		c.credential.Store(&s)
		return &s, nil
	case ctx.Err() != nil:
		return nil, c.cancelled(ctx.Err())
	default:
		e := c.fail(providers.CodeCredential, "no credential: "+err.Error(), err)
		e.Next = "check the connection's credential in the configuration or the environment"
		return nil, e
	}
}

// renewed returns the credential after the refused one, or nil where the source
// still gives the same. All who were refused with one reading share the next.
func (c *Client) renewed(ctx context.Context, refused *secret.Secret) *secret.Secret {
	if c.lockSource(ctx) != nil {
		return nil
	}
	defer c.unlockSource()
	current := c.credential.Load()
	if current == refused {
		var err error
		if current, err = c.readSource(ctx); err != nil {
			return nil
		}
	}
	if current.Equal(*refused) {
		return nil
	}
	return current
}

// Do sends the request, repeats it as its rule allows, and decodes a 2xx answer
// into out unless out is nil. Members that out does not know are ignored. Without
// out, the answer to a change must be empty or JSON all the same: a proxy's page
// proves nothing. It returns a *providers.Error.
func (c *Client) Do(ctx context.Context, req Request, out any) (Response, error) {
	a, response, err := c.exchange(ctx, req, out != nil || req.Retry.isChange())
	if err != nil {
		return response, err
	}
	defer a.close()
	switch {
	case len(a.body) > maxBody:
		return response, c.brokenAnswer(req, response, "the answer is longer than 8 MiB", nil)
	case out == nil && len(bytes.TrimSpace(a.body)) > 0 && !json.Valid(a.body):
		return response, c.brokenAnswer(req, response, "the answer is not JSON", nil)
	case out == nil:
		return response, nil
	}
	if err := json.Unmarshal(a.body, out); err != nil {
		cause := jsonFault(err)
		return response, c.brokenAnswer(req, response, "the answer is not the JSON that was due: "+cause.Error(), cause)
	}
	return response, nil
}

// brokenAnswer is the error of a 2xx whose body cannot be used. For a change it
// means that the outcome is unknown.
func (c *Client) brokenAnswer(req Request, response Response, what string, cause error) error {
	e := &providers.Error{
		Provider: c.dialect.Provider, Code: providers.CodeBadAnswer, Status: response.Status,
		Message: what, RequestID: response.RequestID, Err: cause,
		Next: "check the connection's base_url and any proxy in between, then try again",
	}
	if req.Retry.isChange() {
		e.Code = providers.CodeOutcomeUnknown
		e.Message = "the change was accepted, but " + what
		e.Next = nextOutcomeUnknown
	}
	return e
}

const nextOutcomeUnknown = "read the token or list tokens to see whether it happened before trying again"

// jsonFault keeps the kind of a decoding error and drops any text of the body
// that encoding/json may quote.
func jsonFault(err error) error {
	var typeError *json.UnmarshalTypeError
	switch {
	case errors.As(err, &typeError) && typeError.Field != "":
		return fmt.Errorf("member %q has the wrong type", sanitize.Message(typeError.Field))
	case errors.As(err, &typeError):
		return errors.New("it has the wrong type")
	default:
		return errors.New("malformed JSON")
	}
}

// exchange makes attempts until one is answered with a 2xx, or returns an error.
// whole reads the answer's body into the attempt. The caller ends the attempt.
func (c *Client) exchange(ctx context.Context, req Request, whole bool) (*attempt, Response, error) {
	out := &outgoing{Request: req, whole: whole}
	if req.Body != nil {
		var err error
		if out.payload, err = json.Marshal(req.Body); err != nil {
			return nil, Response{}, c.fail(providers.CodeInvalidArgument, "the request cannot be written as JSON", err)
		}
	}
	t, err := c.repeat(ctx, req, func() (*attempt, error) { return c.attemptRenewing(ctx, out) })
	response := Response{Attempts: t.count, MayHaveActed: t.doubt}
	if err != nil {
		return nil, response, c.doubted(req, t, err)
	}
	if t.last.response != nil {
		response.Status = t.last.response.StatusCode
		response.RequestID = t.last.requestID(c.dialect.RequestID)
		response.date = t.last.response.Header.Get("Date")
	}
	if err := c.failure(ctx, req, t.last, response); err != nil {
		t.last.close()
		return nil, response, c.doubted(req, t, err)
	}
	return t.last, response, nil
}

// failure maps how the last attempt ended; nil for a 2xx.
func (c *Client) failure(ctx context.Context, req Request, a *attempt, response Response) error {
	switch {
	case a.err != nil:
		return c.networkError(ctx, req, a, response)
	case a.isAccepted():
		return nil
	case ctx.Err() != nil && req.Retry.allows(a) && !(req.Retry.isChange() && a.mayHaveRun()):
		return c.cancelled(ctx.Err()) // while it waited to try again
	default:
		return c.problem(a, response, req)
	}
}

// doubted maps the error of a change of which an earlier attempt may have been
// carried out: why the repetition failed does not tell. A 404 does.
func (c *Client) doubted(req Request, t tries, err error) error {
	var e *providers.Error
	if !t.doubt || !req.Retry.isChange() || !errors.As(err, &e) || e.Code == providers.CodeNotFound || e.Code == providers.CodeOutcomeUnknown {
		return err
	}
	e.Code, e.Next = providers.CodeOutcomeUnknown, nextOutcomeUnknown
	e.Message = "the change was sent and its answer was lost; sending it again failed: " + e.Message
	return e
}

// outgoing is a request with what its attempts have in common.
type outgoing struct {
	Request
	payload []byte // its body as JSON
	whole   bool   // the body of the answer is read into the attempt
	sent    int    // how often it was sent so far
}

// attemptRenewing makes one attempt and, where the vendor refused the
// credential and its source now gives another, one more. A 401 was not executed.
func (c *Client) attemptRenewing(ctx context.Context, out *outgoing) (*attempt, error) {
	credential, err := c.current(ctx)
	if err != nil {
		return nil, err
	}
	a, err := c.attempt(ctx, out, credential)
	if err != nil || a.err != nil || a.response.StatusCode != http.StatusUnauthorized {
		return a, err
	}
	renewed := c.renewed(ctx, credential)
	if renewed == nil {
		return a, nil
	}
	a.close()
	return c.attempt(ctx, out, renewed)
}

// attempt sends the request once.
func (c *Client) attempt(ctx context.Context, out *outgoing, credential *secret.Secret) (*attempt, error) {
	if err := c.pacer.wait(ctx, out.Route); err != nil {
		return nil, c.pacingError(err)
	}
	a := newAttempt(ctx, c.options.Timeout, credential)
	if c.options.ObserveRequest != nil {
		a.observed = c.options.ObserveRequest(ctx, Sending{Method: out.Method, Route: out.Route, Host: c.host, Resend: out.sent})
	}
	out.sent++
	if err := c.send(a, out.Request, out.payload); err != nil {
		a.close()
		return nil, err
	}
	providers.NoteRequest(ctx, a.requestID(c.dialect.RequestID), out.Retry.isChange())
	if out.whole && a.err == nil && a.isAccepted() {
		a.read()
	}
	if out.whole || a.err != nil || !a.isAccepted() { // the pause before another attempt is no part of it
		a.tell()
	}
	return a, nil
}

// send waits for the headers of the answer.
func (c *Client) send(a *attempt, req Request, payload []byte) error {
	defer c.pacer.done(req.Route)
	request, err := c.build(a, req, payload)
	if err != nil {
		return err
	}
	response, err := c.http.Do(request)
	if err != nil {
		a.fail(err)
		return nil
	}
	a.response = response
	now := time.Now()
	if response.StatusCode == http.StatusTooManyRequests {
		c.pacer.hold(now, retryAfter(response.Header, now))
	}
	if c.dialect.Budgets != nil {
		c.learn(c.dialect.Budgets(response.Header, now), now, req.Route)
	}
	return nil
}

// learn takes what an answer told of the budgets, and tells it on.
func (c *Client) learn(budgets []Budget, now time.Time, route string) {
	for _, b := range c.pacer.learn(budgets, now, route) {
		if c.options.ObserveBudget == nil {
			return
		}
		of := ""
		if b.PerRoute {
			of = route
		}
		c.options.ObserveBudget(b, of)
	}
}

func (c *Client) build(a *attempt, req Request, payload []byte) (*http.Request, error) {
	target := c.base + req.Path
	if len(req.Query) > 0 {
		target += "?" + req.Query.Encode()
	}
	var body io.Reader
	if payload != nil {
		body = bytes.NewReader(payload)
	}
	request, err := http.NewRequestWithContext(a.traced(), req.Method, target, body)
	if err != nil {
		return nil, c.fail(providers.CodeInvalidArgument, "the request's URL is not valid", nil)
	}
	for name, values := range c.dialect.Header {
		request.Header[name] = values
	}
	request.Header.Set("Accept", "application/json")
	request.Header.Set("User-Agent", c.options.UserAgent)
	if payload != nil || req.JSON {
		request.Header.Set("Content-Type", "application/json")
	}
	c.dialect.Authorize(request.Header, a.credential.Expose())
	return request, nil
}

// networkError maps an attempt without a whole answer. A change that may have
// reached the vendor has an unknown outcome, whatever cut the line.
func (c *Client) networkError(ctx context.Context, req Request, a *attempt, response Response) error {
	cause := a.quiet(stripURL(a.err))
	isLost := req.Retry.isChange() && a.mayHaveRun()
	switch {
	case isLost && a.response == nil:
		e := c.fail(providers.CodeOutcomeUnknown, "the change was sent and its answer was lost", cause)
		e.Next = nextOutcomeUnknown
		return e
	case !isLost && ctx.Err() != nil:
		return c.cancelled(ctx.Err())
	case !isLost && errors.Is(a.err, context.DeadlineExceeded):
		return c.timedOut(cause)
	case a.response != nil:
		return c.brokenAnswer(req, response, "the answer broke off", cause)
	default:
		e := c.fail(providers.CodeUnavailable, "no answer: "+cause.Error(), cause)
		e.Next = "check base_url, proxy, ca_file and network, then try again"
		return e
	}
}

func (c *Client) timedOut(cause error) error {
	e := c.fail(providers.CodeTimeout, fmt.Sprintf("no answer within %v", c.options.Timeout), cause)
	e.Next = "try again later"
	return e
}

// stripURL drops the URL that net/http puts in front of its errors: it says
// nothing new and holds ids.
func stripURL(err error) error {
	var urlError *url.Error
	if errors.As(err, &urlError) {
		return urlError.Err
	}
	return err
}

func (c *Client) fail(code providers.Code, message string, cause error) *providers.Error {
	return &providers.Error{Provider: c.dialect.Provider, Code: code, Message: message, Err: cause}
}

// problem maps an answer outside 2xx.
func (c *Client) problem(a *attempt, response Response, req Request) error {
	e := &providers.Error{Provider: c.dialect.Provider, Status: response.Status, RequestID: response.RequestID}
	e.Code, e.Message, e.Next = statusMeaning(response.Status, req.Retry.isChange())
	isBusy := e.Code == providers.CodeRateLimited || e.Code == providers.CodeUnavailable
	if wait := retryAfter(a.response.Header, time.Now()); isBusy && wait > 0 {
		e.RetryAfter, e.Next = wait, nextWait(wait)
	}
	body, err := io.ReadAll(io.LimitReader(a.response.Body, maxErrorBody))
	if err != nil || !isJSON(a.response.Header) || c.dialect.Problem == nil {
		return e
	}
	code, message := c.dialect.Problem(response.Status, body)
	e.VendorCode = a.quotable(code)
	if message = a.quotable(message); message != "" {
		e.Message += "; the vendor says: " + sanitize.Quote(message)
	}
	return e
}

// nextWait is the next step where a budget comes back after wait.
func nextWait(wait time.Duration) string {
	return fmt.Sprintf("wait %v, then try again", (wait + time.Second - 1).Truncate(time.Second))
}

func isJSON(h http.Header) bool {
	mediaType, _, err := mime.ParseMediaType(h.Get("Content-Type"))
	return err == nil && (mediaType == "application/json" || mediaType == "application/problem+json" || mediaType == "text/json")
}

// statusMeaning returns code, sentence and next step of a status outside 2xx. A
// 5xx to a change leaves open whether it was carried out.
func statusMeaning(status int, isChange bool) (providers.Code, string, string) {
	switch {
	case status == http.StatusUnauthorized:
		return providers.CodeCredentialRejected, "the vendor rejected the credential",
			"ask the operator to renew the connection's credential; it may be wrong, expired, of the wrong kind, or too weak"
	case status == http.StatusForbidden:
		return providers.CodeForbidden, "the credential may not do this",
			"ask the operator for a credential with the rights that docs/tools.md names for this tool"
	case status == http.StatusNotFound:
		return providers.CodeNotFound, "the vendor knows no such record", "list tokens to find the right id"
	case status == http.StatusConflict:
		return providers.CodeConflict, "the record changed at the same time", "read the token again and repeat the change"
	case status == http.StatusTooManyRequests:
		return providers.CodeRateLimited, "the vendor's rate limit is used up", "wait a minute, then try again"
	case status >= 500 && isChange:
		return providers.CodeOutcomeUnknown, "the vendor failed while carrying out the change", nextOutcomeUnknown
	case status >= 500:
		return providers.CodeUnavailable, "the vendor failed", "try again later"
	case status/100 == 3:
		return providers.CodeBadAnswer, "the vendor answered with a redirect, which is never followed", "check the connection's base_url"
	default:
		return providers.CodeRejected, "the vendor refused the request", "check the arguments"
	}
}
