package transport_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tokenreeve/tokenreeve/internal/secret"
	"github.com/tokenreeve/tokenreeve/internal/vendortest"
	"github.com/tokenreeve/tokenreeve/providers"
	"github.com/tokenreeve/tokenreeve/providers/transport"
)

const (
	credential = "credential-of-the-test"
	canary     = "canary-that-must-not-show"

	// patience is how long a vendor that never answers is waited for.
	patience = 300 * time.Millisecond
)

// record is what the tests' vendor answers.
type record struct {
	ID   string `json:"id"`
	Deep struct {
		Number int `json:"number"`
	} `json:"deep"`
}

// vendor is a server that counts its requests and its connections.
type vendor struct {
	*httptest.Server
	requests, connections atomic.Int32
}

// serve starts a vendor whose n-th request is answered by the n-th answer, and
// all later ones by the last.
func serve(t *testing.T, answers ...http.HandlerFunc) *vendor {
	t.Helper()
	v := prepare(answers...)
	v.Start()
	t.Cleanup(v.Close)
	return v
}

func prepare(answers ...http.HandlerFunc) *vendor {
	v := &vendor{}
	v.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		n := int(v.requests.Add(1))
		answers[min(n, len(answers))-1](w, r)
	}))
	v.Config.ErrorLog = log.New(io.Discard, "", 0)
	v.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			v.connections.Add(1)
		}
	}
	return v
}

// status answers with a status and a JSON body; header holds pairs.
func status(code int, body string, header ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		for i := 0; i < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(code)
		_, _ = io.WriteString(w, body)
	}
}

func ok() http.HandlerFunc { return status(200, `{"id":"a"}`) }

// cut ends the connection once the request was read.
func cut(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }

// truncated announces more than it sends.
func truncated(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Length", "1000")
	_, _ = io.WriteString(w, `{"id":"a"`)
}

// hang answers nothing until the client gives up.
func hang(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }

// hangInBody sends the beginning of an answer and no more.
func hangInBody(code int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		status(code, body)(w, r)
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}
}

// endless sends the answer's beginning and then part again and again.
type endless struct {
	answer http.HandlerFunc
	part   string
	sent   atomic.Int64
}

// mostSent is more than a client takes that stops at its limit, in four attempts
// and with what lies in the buffers on the way.
const mostSent = 100 << 20

func (e *endless) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	e.answer(w, r)
	for e.sent.Load() < mostSent {
		n, err := io.WriteString(w, e.part)
		e.sent.Add(int64(n))
		if err != nil {
			return
		}
	}
}

// check is for after the call.
func (e *endless) check(t *testing.T, v *vendor) {
	t.Helper()
	v.Close() // waits for the answers to end
	if e.sent.Load() >= mostSent {
		t.Errorf("the client took all of %d bytes", mostSent)
	}
}

// listen calls handle with each connection, accepted as it comes, and returns
// the base URL and how many there were.
func listen(t *testing.T, handle func(net.Conn)) (string, *atomic.Int32) {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	var count atomic.Int32
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			count.Add(1)
			handle(conn)
			_ = conn.Close()
		}
	}()
	return "http://" + listener.Addr().String(), &count
}

// refusing returns the URL of a port where nobody listens.
func refusing(t *testing.T) string {
	t.Helper()
	server := httptest.NewServer(nil)
	server.Close()
	return server.URL
}

// dialect is a vendor's with an error body of {"code","message"}.
func dialect() transport.Dialect {
	return transport.Dialect{
		Provider:  "vendor",
		Authorize: func(h http.Header, credential string) { h.Set("Authorization", "Bearer "+credential) },
		Header:    http.Header{"X-Version": {"7"}},
		RequestID: "X-Request-Id",
		Problem: func(_ int, body []byte) (string, string) {
			var p struct{ Code, Message string }
			_ = json.Unmarshal(body, &p)
			return p.Code, p.Message
		},
	}
}

// connect returns a client for the vendor at base with connections of its own.
func connect(t *testing.T, base string, source transport.Source, o transport.Options) *transport.Client {
	t.Helper()
	hc, err := transport.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(hc.CloseIdleConnections)
	return wire(t, hc, base, source, dialect(), o)
}

func wire(t *testing.T, hc *http.Client, base string, source transport.Source, d transport.Dialect, o transport.Options) *transport.Client {
	t.Helper()
	client, err := transport.NewClient(hc, base, source, d, o)
	if err != nil {
		t.Fatal(err)
	}
	return client
}

func client(t *testing.T, base string) *transport.Client {
	t.Helper()
	return connect(t, base, vendortest.Credential(credential), transport.Options{UserAgent: "test/1"})
}

// impatient returns a client that waits for an answer no longer than patience.
func impatient(t *testing.T, base string) *transport.Client {
	t.Helper()
	return connect(t, base, vendortest.Credential(credential), transport.Options{Timeout: patience})
}

// call is a request under the rule: a GET if it reads, else a POST with a body.
func call(rule transport.Rule) transport.Request {
	if rule == transport.Read {
		return transport.Request{Method: http.MethodGet, Path: "/tokens", Retry: rule}
	}
	return transport.Request{Method: http.MethodPost, Path: "/tokens", Retry: rule, Body: map[string]string{"name": "x"}}
}

func read() transport.Request { return call(transport.Read) }

// do sends the request and wants its answer decoded.
func do(ctx context.Context, c *transport.Client, req transport.Request) (transport.Response, error) {
	var r record
	response, err := c.Do(ctx, req, &r)
	if err == nil && r.ID != "a" {
		return response, fmt.Errorf("the answer was decoded to %+v", r)
	}
	return response, err
}

// wantCode checks the error's code; "" wants none. It returns the error, never nil.
func wantCode(t *testing.T, err error, code providers.Code) *providers.Error {
	t.Helper()
	var e *providers.Error
	switch {
	case code == "" && err != nil:
		t.Fatalf("error %v (%v), want none", err, providers.CodeOf(err))
	case code == "":
		return &providers.Error{}
	case !errors.As(err, &e):
		t.Fatalf("error %v is no *providers.Error, want one with %s", err, code)
	case e.Code != code:
		t.Fatalf("code %s (%v), want %s", e.Code, err, code)
	}
	wantNoSecret(t, err)
	return e
}

// wantNoSecret checks what the error shows of itself and of its causes.
func wantNoSecret(t *testing.T, err error) {
	t.Helper()
	for _, secret := range []string{credential, canary, other} {
		if text := vendortest.Texts(err); strings.Contains(text, secret) {
			t.Errorf("the error shows %q: %s", secret, text)
		}
	}
}

func want[T comparable](t *testing.T, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

// source gives the values one after the other, and the last one again and again.
// An empty value is an error.
type source struct {
	mu     sync.Mutex
	values []string
	reads  int
}

func (s *source) Read(context.Context) (secret.Secret, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reads++
	value := s.values[min(s.reads, len(s.values))-1]
	if value == "" {
		return secret.Secret{}, errors.New("the keyring is locked")
	}
	return secret.New(value), nil
}

// sourceFunc is a source.
type sourceFunc func(context.Context) (secret.Secret, error)

func (f sourceFunc) Read(ctx context.Context) (secret.Secret, error) { return f(ctx) }

// roundTripper is a vendor without a network, for the bubbles of synctest.
type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// scripted is a vendor without a network that records when requests came.
type scripted struct {
	answer func(n int, r *http.Request) (*http.Response, error)
	begin  time.Time
	came   []time.Duration
}

func (v *scripted) RoundTrip(r *http.Request) (*http.Response, error) {
	if v.begin.IsZero() {
		v.begin = time.Now()
	}
	v.came = append(v.came, time.Since(v.begin))
	if trace := httptrace.ContextClientTrace(r.Context()); trace != nil {
		trace.GotConn(httptrace.GotConnInfo{}) // the request counts as sent
	}
	return v.answer(len(v.came), r)
}

func (v *scripted) client(t *testing.T) *transport.Client {
	t.Helper()
	return wire(t, &http.Client{Transport: v}, "https://vendor.invalid", vendortest.Credential(credential), dialect(), transport.Options{})
}

// answerOf is an answer without a network.
func answerOf(status int, header http.Header) *http.Response {
	return &http.Response{StatusCode: status, Header: header, Body: io.NopCloser(strings.NewReader(`{"id":"a"}`))}
}

// silent answers with the beginning of a body and no more until the request is
// given up.
func silent(status int, body string, r *http.Request) *http.Response {
	answer := answerOf(status, http.Header{"Content-Type": {"application/json"}})
	answer.Body = io.NopCloser(io.MultiReader(strings.NewReader(body), untilDone{r.Context()}))
	return answer
}

type untilDone struct{ ctx context.Context }

func (u untilDone) Read([]byte) (int, error) {
	<-u.ctx.Done()
	return 0, u.ctx.Err()
}

// together calls each of n at the same time and returns their errors.
func together(n int, each func(i int) error) []error {
	errs := make([]error, n)
	var group sync.WaitGroup
	for i := range n {
		group.Go(func() { errs[i] = each(i) })
	}
	group.Wait()
	return errs
}

// barrier returns a function that blocks until n callers are in it, and does
// nothing afterwards.
func barrier(n int) func() {
	var waiting atomic.Int32
	all := make(chan struct{})
	return func() {
		if waiting.Add(1) == int32(n) {
			close(all)
		}
		<-all
	}
}

// each runs the tests at the same time, all of them: they wait far more than they
// work, and t.Parallel would run no more at once than there are processors.
func each[T any](t *testing.T, tests map[string]T, run func(*testing.T, T)) {
	t.Helper()
	t.Parallel()
	var group sync.WaitGroup
	for name, test := range tests {
		group.Go(func() { t.Run(name, func(t *testing.T) { run(t, test) }) })
	}
	group.Wait()
}
