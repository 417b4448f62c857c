package transport_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tokenreeve/tokenreeve/internal/secret"
	"github.com/tokenreeve/tokenreeve/internal/vendortest"
	"github.com/tokenreeve/tokenreeve/providers/transport"
)

// observer notes what it is told, as "METHOD ROUTE HOST resend: status failure".
type observer struct {
	mu    sync.Mutex
	begun int
	seen  []string
	left  []string
}

func (o *observer) request(_ context.Context, s transport.Sending) func(int, string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.begun++
	return func(status int, failed string) {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.seen = append(o.seen, fmt.Sprintf("%s %d: %d %s", s.Route, s.Resend, status, failed))
	}
}

func (o *observer) budget(b transport.Budget, route string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.left = append(o.left, fmt.Sprintf("%s %q %d of %d", b.Name, route, b.Remaining, b.Limit))
}

func (o *observer) want(t *testing.T, want ...string) {
	t.Helper()
	o.mu.Lock()
	defer o.mu.Unlock()
	if diff := cmp.Diff(want, o.seen); diff != "" || o.begun != len(o.seen) {
		t.Errorf("%d begun; seen (-want +got):\n%s", o.begun, diff)
	}
}

// Each attempt is told once, with how it ended, whatever the answer is.
func TestObserveRequest(t *testing.T) {
	t.Parallel()
	const route = "GET /tokens/{id}"
	for name, test := range map[string]struct {
		answers []http.HandlerFunc
		base    string
		want    []string
	}{
		"fine":       {answers: []http.HandlerFunc{ok()}, want: []string{"0: 200 "}},
		"refused":    {answers: []http.HandlerFunc{status(404, "{}")}, want: []string{"0: 404 "}},
		"repeated":   {answers: []http.HandlerFunc{cut, status(500, "{}"), ok()}, want: []string{"0: 0 no_answer", "1: 500 ", "2: 200 "}},
		"broken off": {answers: []http.HandlerFunc{truncated, ok()}, want: []string{"0: 200 broken_off", "1: 200 "}},
		"nobody": {base: refusing(t), want: []string{
			"0: 0 not_connected", "1: 0 not_connected", "2: 0 not_connected", "3: 0 not_connected",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var o observer
			base := test.base
			if base == "" {
				base = serve(t, test.answers...).URL
			}
			c := connect(t, base, vendortest.Credential(credential), transport.Options{ObserveRequest: o.request})
			_, _ = do(t.Context(), c, transport.Request{Method: http.MethodGet, Path: "/tokens/t1", Route: route, Retry: transport.Read})
			want := make([]string, len(test.want))
			for i, line := range test.want {
				want[i] = route + " " + line
			}
			o.want(t, want...)
		})
	}
}

// An answer that does not come ends the attempt as a timeout, or as its caller's doing.
func TestObserveUnanswered(t *testing.T) {
	t.Parallel()
	var o observer
	c := connect(t, serve(t, hang).URL, vendortest.Credential(credential), transport.Options{Timeout: patience, ObserveRequest: o.request})
	_, _ = do(t.Context(), c, call(transport.Once))
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("gone"))
	_, _ = do(ctx, c, call(transport.Once))
	o.want(t, " 0: 0 timeout", " 0: 0 cancelled")
}

// A renewed credential is another attempt.
func TestObserveRenewed(t *testing.T) {
	t.Parallel()
	var o observer
	c := connect(t, serve(t, status(401, "{}"), ok()).URL, &source{values: []string{credential, other}}, transport.Options{ObserveRequest: o.request})
	if _, err := do(t.Context(), c, read()); err != nil {
		t.Error(err)
	}
	o.want(t, " 0: 401 ", " 1: 200 ")
}

// A stream ends with its reader.
func TestObserveStream(t *testing.T) {
	t.Parallel()
	var o observer
	c := connect(t, serve(t, status(200, `[{"id":"a"},{"id":"b"}]`), status(200, `[{"id":"a"},`)).URL, vendortest.Credential(credential), transport.Options{ObserveRequest: o.request})
	for range 2 {
		for range transport.Stream[record](t.Context(), c, read()) {
		}
	}
	o.want(t, " 0: 200 ", " 0: 200 broken_off")
}

// What is told of a budget is told on, with its route where it has one; what another credential is told
// is not.
func TestObserveBudget(t *testing.T) {
	t.Parallel()
	var o observer
	d := dialect()
	d.Budgets = func(http.Header, time.Time) []transport.Budget {
		reset := time.Now().Add(time.Hour)
		return []transport.Budget{{Name: "all", Limit: 100, Remaining: 99, Reset: reset}, {Name: "one", Limit: 10, Remaining: 9, Reset: reset, PerRoute: true}, {Name: "over", Remaining: 5}}
	}
	options := transport.Options{ObserveBudget: o.budget}
	c := wire(t, http.DefaultClient, serve(t, ok()).URL, vendortest.Credential(credential), d, options)
	request := read()
	request.Route = "GET /tokens"
	for _, client := range []*transport.Client{c, c.With(secret.New(other))} {
		if _, err := do(t.Context(), client, request); err != nil {
			t.Error(err)
		}
	}
	if diff := cmp.Diff([]string{`all "" 99 of 100`, `one "GET /tokens" 9 of 10`}, o.left); diff != "" {
		t.Errorf("budgets (-want +got):\n%s", diff)
	}
}
