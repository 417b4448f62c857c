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
	"net/http/httptrace"
	"net/url"
	"sync"
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
	dialect Dialect
	options Options
	source  Source
	pacer   *pacer

	mu         sync.Mutex // guards reading the source
	credential atomic.Pointer[secret.Secret]
}

// NewClient returns a client for the vendor at base, a URL without query that
// may hold a path. It sends nothing.
func NewClient(hc *http.Client, base string, source Source, dialect Dialect, o Options) (*Client, error) {
	u, err := url.Parse(base)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		return nil, fmt.Errorf("base_url %q is not an http(s) URL without query, fragment and user", sanitize.Message(base))
	}
	if o.Timeout <= 0 {
		o.Timeout = defaultTimeout
	}
	for len(base) > 0 && base[len(base)-1] == '/' {
		base = base[:len(base)-1]
	}
	return &Client{http: hc, base: base, dialect: dialect, options: o, source: source, pacer: newPacer(o.Reserve)}, nil
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
	// Route names the endpoint, without ids, for budgets that the vendor keeps per
	// route: "GET /tokens/{id}". Empty where the vendor keeps none.
	Route string
}

// Response is what a vendor answered, without its body.
type Response struct {
	Status    int
	Attempts  int // 1 where nothing was repeated
	RequestID string
}

// Credential returns the credential, read from its source if that has not been
// done yet.
func (c *Client) Credential(ctx context.Context) (secret.Secret, error) {
	if s := c.credential.Load(); s != nil {
		return *s, nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if s := c.credential.Load(); s != nil {
		return *s, nil
	}
	return c.readCredential(ctx)
}

func (c *Client) readCredential(ctx context.Context) (secret.Secret, error) {
	s, err := c.source.Read(ctx)
	if err != nil {
		return secret.Secret{}, &providers.Error{
			Provider: c.dialect.Provider, Code: providers.CodeCredential,
			Message: "no credential: " + err.Error(),
			Next:    "check the connection's credential in the configuration or the environment",
			Err:     err,
		}
	}
	c.credential.Store(&s)
	return s, nil
}

// renewCredential reads the source again after a 401 and reports whether it
// gives another credential than the one that was refused.
func (c *Client) renewCredential(ctx context.Context, refused secret.Secret) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if current := c.credential.Load(); current != nil && !current.Equal(refused) {
		return true // another call has renewed it
	}
	renewed, err := c.source.Read(ctx)
	if err != nil || renewed.Equal(refused) {
		return false
	}
	c.credential.Store(&renewed)
	return true
}

// Do sends the request, repeats it as its rule allows, and decodes a 2xx answer
// into out unless out is nil. Members that out does not know are ignored. It
// returns a *providers.Error.
func (c *Client) Do(ctx context.Context, req Request, out any) (Response, error) {
	response, body, err := c.exchange(ctx, req, true)
	if err != nil {
		return response, err
	}
	defer body.Close()
	if out == nil {
		return response, nil
	}
	data, err := io.ReadAll(io.LimitReader(body, maxBody+1))
	switch {
	case err != nil:
		return response, c.brokenAnswer(req, response, "the answer broke off", err)
	case len(data) > maxBody:
		return response, c.brokenAnswer(req, response, "the answer is longer than 8 MiB", nil)
	}
	if err := json.Unmarshal(data, out); err != nil {
		return response, c.brokenAnswer(req, response, "the answer is not the JSON that was due", jsonFault(err))
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
	if errors.As(err, &typeError) {
		return fmt.Errorf("member %q has the wrong type", sanitize.Message(typeError.Field))
	}
	return errors.New("malformed JSON")
}

// attempt is one try of an exchange.
type attempt struct {
	response *http.Response
	cancel   context.CancelFunc
	sent     atomic.Bool // a connection was made, so the request may have reached the vendor
	err      error
}

func (a *attempt) close() {
	if a.response != nil {
		_, _ = io.Copy(io.Discard, io.LimitReader(a.response.Body, maxErrorBody)) // keeps the connection reusable
		_ = a.response.Body.Close()
	}
	a.cancel()
}

// exchange returns the body of a 2xx answer, or an error. whole bounds the
// attempt including its body by the timeout; else only up to the headers.
func (c *Client) exchange(ctx context.Context, req Request, whole bool) (Response, io.ReadCloser, error) {
	var payload []byte
	if req.Body != nil {
		var err error
		if payload, err = json.Marshal(req.Body); err != nil {
			return Response{}, nil, c.fail(providers.CodeInvalidArgument, "the request cannot be written as JSON", err)
		}
	}
	last, tries, err := c.repeat(ctx, req, func(ctx context.Context) (*attempt, error) {
		return c.attemptRenewing(ctx, req, payload, whole)
	})
	response := Response{Attempts: tries}
	if err != nil {
		return response, nil, err
	}
	if last.err != nil {
		defer last.cancel()
		return response, nil, c.networkError(ctx, req, last)
	}
	response.Status = last.response.StatusCode
	response.RequestID = requestID(last.response.Header, c.dialect.RequestID)
	if response.Status/100 != 2 {
		defer last.close()
		return response, nil, c.problem(last.response, response.RequestID, req)
	}
	return response, &closer{last.response.Body, last.cancel}, nil
}

// closer ends an attempt's context together with its body.
type closer struct {
	io.ReadCloser
	cancel context.CancelFunc
}

func (c *closer) Close() error {
	defer c.cancel()
	return c.ReadCloser.Close()
}

// attemptRenewing makes one attempt and, where the vendor refused the
// credential and its source now gives another, one more. A 401 was not executed.
func (c *Client) attemptRenewing(ctx context.Context, req Request, payload []byte, whole bool) (*attempt, error) {
	credential, err := c.Credential(ctx)
	if err != nil {
		return nil, err
	}
	a, err := c.attempt(ctx, req, payload, credential, whole)
	if err != nil || a.err != nil || a.response.StatusCode != http.StatusUnauthorized {
		return a, err
	}
	if !c.renewCredential(ctx, credential) {
		return a, nil
	}
	a.close()
	renewed, err := c.Credential(ctx)
	if err != nil {
		return nil, err
	}
	return c.attempt(ctx, req, payload, renewed, whole)
}

func (c *Client) attempt(ctx context.Context, req Request, payload []byte, credential secret.Secret, whole bool) (*attempt, error) {
	if err := c.pacer.wait(ctx, req.Route); err != nil {
		return nil, c.pacingError(err)
	}
	defer c.pacer.done(req.Route)
	attemptCtx, cancel := context.WithCancel(ctx)
	timer := time.AfterFunc(c.options.Timeout, cancel)
	a := &attempt{cancel: func() { timer.Stop(); cancel() }}
	request, err := c.build(attemptCtx, req, payload, credential, &a.sent)
	if err != nil {
		a.cancel()
		return nil, err
	}
	a.response, a.err = c.http.Do(request)
	if a.err != nil {
		if !timer.Stop() && ctx.Err() == nil {
			a.err = fmt.Errorf("%w after %v", context.DeadlineExceeded, c.options.Timeout)
		}
		return a, nil
	}
	if !whole {
		timer.Stop()
	}
	now := time.Now()
	var budgets []Budget
	if c.dialect.Budgets != nil {
		budgets = c.dialect.Budgets(a.response.Header, now)
	}
	c.pacer.learn(budgets, now, req.Route)
	return a, nil
}

func (c *Client) build(ctx context.Context, req Request, payload []byte, credential secret.Secret, sent *atomic.Bool) (*http.Request, error) {
	target := c.base + req.Path
	if len(req.Query) > 0 {
		target += "?" + req.Query.Encode()
	}
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { sent.Store(true) }})
	var body io.Reader
	if payload != nil {
		body = bytes.NewReader(payload)
	}
	request, err := http.NewRequestWithContext(ctx, req.Method, target, body)
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
	c.dialect.Authorize(request.Header, credential.Expose())
	return request, nil
}

// networkError maps a failed attempt. A change that may have reached the vendor
// has an unknown outcome, whatever cut the line.
func (c *Client) networkError(ctx context.Context, req Request, a *attempt) error {
	cause := stripURL(a.err)
	switch {
	case a.sent.Load() && req.Retry.isChange():
		e := c.fail(providers.CodeOutcomeUnknown, "the change was sent and its answer was lost", cause)
		e.Next = nextOutcomeUnknown
		return e
	case ctx.Err() != nil && errors.Is(ctx.Err(), context.Canceled):
		return c.fail(providers.CodeCancelled, "the call was cancelled", ctx.Err())
	case errors.Is(a.err, context.DeadlineExceeded) || ctx.Err() != nil:
		e := c.fail(providers.CodeTimeout, fmt.Sprintf("no answer within %v", c.options.Timeout), cause)
		e.Next = "try again later"
		return e
	default:
		e := c.fail(providers.CodeUnavailable, "no answer: "+sanitize.Message(cause.Error()), cause)
		e.Next = "check base_url, proxy and network, then try again"
		return e
	}
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
func (c *Client) problem(r *http.Response, id string, req Request) error {
	e := &providers.Error{Provider: c.dialect.Provider, Status: r.StatusCode, RequestID: id}
	e.Code, e.Message, e.Next = statusMeaning(r.StatusCode, req.Retry.isChange())
	body, err := io.ReadAll(io.LimitReader(r.Body, maxErrorBody))
	if err != nil || !isJSON(r.Header) || c.dialect.Problem == nil {
		return e
	}
	code, message := c.dialect.Problem(r.StatusCode, body)
	e.VendorCode = sanitize.Message(code)
	if message = sanitize.Message(message); message != "" {
		e.Message += `; the vendor says: "` + message + `"`
	}
	return e
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
			"ask the operator for a credential with the rights that the README names for this tool"
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

func requestID(h http.Header, name string) string {
	if name == "" {
		return ""
	}
	return sanitize.Message(h.Get(name))
}
