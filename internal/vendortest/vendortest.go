// Package vendortest is a vendor for tests of a wire client: a real HTTP server
// that checks each request to the letter and answers as recorded.
package vendortest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tokenreeve/tokenreeve/internal/secret"
	"github.com/tokenreeve/tokenreeve/providers"
)

// Exchange is one request that must come and its answer.
type Exchange struct {
	Method string
	Path   string            // as escaped on the wire
	Query  url.Values        // exactly these; nil means none
	Header map[string]string // at least these; an empty value means absent
	Body   string            // JSON, compared by value; empty means no body

	Status       int // 200 where zero
	Answer       string
	AnswerHeader map[string]string // Content-Type is application/json unless given
}

// Serve starts a server that expects the exchanges in their order and returns
// its base URL. The test fails on any other request and on one that never came.
func Serve(t *testing.T, exchanges ...Exchange) string {
	t.Helper()
	var mu sync.Mutex
	next := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		if next >= len(exchanges) {
			t.Errorf("unexpected request %s %s", r.Method, r.URL.RequestURI())
			w.WriteHeader(http.StatusTeapot)
			return
		}
		e := exchanges[next]
		next++
		e.check(t, r)
		e.answer(w)
	}))
	t.Cleanup(func() {
		server.Close()
		if next != len(exchanges) {
			t.Errorf("%d of %d requests came", next, len(exchanges))
		}
	})
	return server.URL
}

func (e Exchange) check(t *testing.T, r *http.Request) {
	t.Helper()
	if r.Method != e.Method || r.URL.EscapedPath() != e.Path {
		t.Errorf("request is %s %s, want %s %s", r.Method, r.URL.EscapedPath(), e.Method, e.Path)
	}
	want := e.Query
	if want == nil {
		want = url.Values{}
	}
	if diff := cmp.Diff(want, r.URL.Query()); diff != "" {
		t.Errorf("%s %s: query (-want +got):\n%s", e.Method, e.Path, diff)
	}
	for name, value := range e.Header {
		if got := r.Header.Get(name); got != value {
			t.Errorf("%s %s: header %s is %q, want %q", e.Method, e.Path, name, got, value)
		}
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		t.Errorf("read the request: %v", err)
	}
	if e.Body == "" || len(body) == 0 {
		if e.Body != string(body) {
			t.Errorf("%s %s: body is %q, want %q", e.Method, e.Path, body, e.Body)
		}
		return
	}
	if diff := cmp.Diff(decode(t, e.Body), decode(t, string(body))); diff != "" {
		t.Errorf("%s %s: body (-want +got):\n%s", e.Method, e.Path, diff)
	}
}

func decode(t *testing.T, text string) any {
	t.Helper()
	var value any
	if err := json.Unmarshal([]byte(text), &value); err != nil {
		t.Errorf("%q is not JSON: %v", text, err)
	}
	return value
}

func (e Exchange) answer(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "application/json")
	for name, value := range e.AnswerHeader {
		w.Header().Set(name, value)
	}
	status := e.Status
	if status == 0 {
		status = http.StatusOK
	}
	w.WriteHeader(status)
	_, _ = io.WriteString(w, e.Answer)
}

// Credential is a credential's source that always gives the same.
type Credential string

// Read returns the credential.
func (c Credential) Read(context.Context) (secret.Secret, error) { return secret.New(string(c)), nil }

// Texts is all that an error and its causes say, for tests which prove that
// something does not show.
func Texts(err error) string {
	var all string
	for ; err != nil; err = errors.Unwrap(err) {
		all += fmt.Sprintf("%v %+v %#v\n", err, err, err)
		if e, ok := err.(*providers.Error); ok { //nolint:errorlint // each link of the chain is looked at
			all += fmt.Sprintf("%+v %+v\n", *e, e.Lost)
		}
	}
	return all
}
