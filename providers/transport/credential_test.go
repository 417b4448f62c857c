package transport_test

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"github.com/tokenreeve/tokenreeve/internal/secret"
	"github.com/tokenreeve/tokenreeve/providers"
	"github.com/tokenreeve/tokenreeve/providers/transport"
)

const (
	oldCredential = "old-credential-of-the-test"
	newCredential = "new-credential-of-the-test"
)

// renewing is a vendor that knows the new credential only. meet runs in each
// refused request.
func renewing(t *testing.T, meet func()) *vendor {
	return serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") == "Bearer "+newCredential {
			ok()(w, r)
			return
		}
		meet()
		status(401, `{"code":"unauthorized"}`)(w, r)
	})
}

// TestRenewal checks what a 401 leads to: the source is read again, and the
// request tried once more only if it gives another credential.
func TestRenewal(t *testing.T) {
	type test struct {
		source   []string
		rule     transport.Rule
		requests int
		reads    int
		code     providers.Code
	}
	each(t, map[string]test{
		"accepted":            {[]string{newCredential}, transport.Read, 1, 1, ""},
		"changed":             {[]string{oldCredential, newCredential}, transport.Read, 2, 2, ""},
		"changed, change":     {[]string{oldCredential, newCredential}, transport.Once, 2, 2, ""},
		"unchanged":           {[]string{oldCredential}, transport.Read, 1, 2, providers.CodeCredentialRejected},
		"unchanged, change":   {[]string{oldCredential}, transport.Repeatable, 1, 2, providers.CodeCredentialRejected},
		"refused again":       {[]string{oldCredential, "other", newCredential}, transport.Read, 2, 2, providers.CodeCredentialRejected},
		"source fails later":  {[]string{oldCredential, ""}, transport.Read, 1, 2, providers.CodeCredentialRejected},
		"source gives none":   {[]string{"", newCredential}, transport.Read, 0, 1, providers.CodeCredential},
		"none, for a change":  {[]string{"", newCredential}, transport.Once, 0, 1, providers.CodeCredential},
		"none, though repeat": {[]string{""}, transport.Repeatable, 0, 1, providers.CodeCredential},
	}, func(t *testing.T, test test) {
		v := renewing(t, func() {})
		s := &source{values: test.source}
		response, err := do(t.Context(), connect(t, v.URL, s, transport.Options{}), call(test.rule))
		e := wantCode(t, err, test.code)
		want(t, "requests", int(v.requests.Load()), test.requests)
		want(t, "attempts", response.Attempts, 1) // what was refused was not executed
		want(t, "readings of the source", s.reads, test.reads)
		for _, value := range []string{oldCredential, newCredential} {
			if strings.Contains(e.Message+e.Next, value) {
				t.Errorf("the error shows a credential: %v", e)
			}
		}
	})
}

// TestSourceIsAskedLate checks that nothing is read before the first call, once
// for all calls, and again for the call after one that failed.
func TestSourceIsAskedLate(t *testing.T) {
	t.Parallel()
	v := renewing(t, func() {})
	s := &source{values: []string{"", newCredential}}
	c := connect(t, v.URL, s, transport.Options{})
	want(t, "readings before the first call", s.reads, 0)
	_, err := do(t.Context(), c, read())
	if e := wantCode(t, err, providers.CodeCredential); !strings.Contains(e.Message, "the keyring is locked") || e.Next == "" {
		t.Errorf("error %v, next %q: want the source's reason and a next step", e, e.Next)
	}
	for _, err := range together(32, func(int) error { _, err := do(t.Context(), c, read()); return err }) {
		wantCode(t, err, "")
	}
	want(t, "readings", s.reads, 2)
	got, err := c.Credential(t.Context())
	wantCode(t, err, "")
	want(t, "the credential is the source's", got.Expose(), newCredential)
	want(t, "readings", s.reads, 2)
}

// TestRenewalTogether refuses many calls at the same moment: they share one
// reading of the source.
func TestRenewalTogether(t *testing.T) {
	const calls = 32
	type test struct {
		source   []string
		requests int
		code     providers.Code
	}
	each(t, map[string]test{
		"changed":   {[]string{oldCredential, newCredential}, 2 * calls, ""},
		"unchanged": {[]string{oldCredential}, calls, providers.CodeCredentialRejected},
	}, func(t *testing.T, test test) {
		v := renewing(t, barrier(calls))
		s := &source{values: test.source}
		c := connect(t, v.URL, s, transport.Options{})
		for _, err := range together(calls, func(int) error { _, err := do(t.Context(), c, read()); return err }) {
			wantCode(t, err, test.code)
		}
		want(t, "requests", int(v.requests.Load()), test.requests)
		want(t, "readings of the source", s.reads, 2)
	})
}

// TestCancelledWhileReading cancels one call that reads a source which waits for
// a person, and another that waits for this reading.
func TestCancelledWhileReading(t *testing.T) {
	t.Parallel()
	asked := make(chan struct{})
	c := connect(t, "http://127.0.0.1:9", sourceFunc(func(ctx context.Context) (secret.Secret, error) {
		close(asked)
		<-ctx.Done()
		return secret.Secret{}, ctx.Err()
	}), transport.Options{})
	first, cancelFirst := context.WithCancel(t.Context())
	second, cancelSecond := context.WithCancel(t.Context())
	defer cancelFirst()
	errs := make(chan error)
	go func() { _, err := do(first, c, read()); errs <- err }()
	<-asked
	go func() { _, err := do(second, c, read()); errs <- err }()
	cancelSecond()
	wantCode(t, <-errs, providers.CodeCancelled)
	cancelFirst()
	wantCode(t, <-errs, providers.CodeCancelled)
}
