package transport_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/tokenreeve/tokenreeve/providers"
	"github.com/tokenreeve/tokenreeve/providers/transport"
)

// numbered answers with the status and a request id.
func numbered(code int, id string) http.HandlerFunc {
	return status(code, `{"id":"a"}`, "X-Request-Id", id)
}

// TestTrace checks whose request id stays after the requests of one call.
func TestTrace(t *testing.T) {
	type test struct {
		rules   []transport.Rule
		answers []http.HandlerFunc
		want    string
	}
	const reads, changes = transport.Read, transport.Unexecuted
	each(t, map[string]test{
		"one read":                     {[]transport.Rule{reads}, []http.HandlerFunc{numbered(200, "1")}, "1"},
		"a refusal":                    {[]transport.Rule{changes}, []http.HandlerFunc{numbered(403, "1")}, "1"},
		"the last read":                {[]transport.Rule{reads, reads}, []http.HandlerFunc{numbered(200, "1"), numbered(404, "2")}, "2"},
		"a change between reads":       {[]transport.Rule{reads, changes, reads}, []http.HandlerFunc{numbered(200, "1"), numbered(200, "2"), numbered(200, "3")}, "2"},
		"the last change":              {[]transport.Rule{changes, changes}, []http.HandlerFunc{numbered(200, "1"), numbered(500, "2")}, "2"},
		"a repeated change":            {[]transport.Rule{changes}, []http.HandlerFunc{numbered(429, "1"), numbered(200, "2")}, "2"},
		"a change without an answer":   {[]transport.Rule{reads, changes, reads}, []http.HandlerFunc{numbered(200, "1"), cut, numbered(200, "3")}, ""},
		"a change without an id":       {[]transport.Rule{reads, changes}, []http.HandlerFunc{numbered(200, "1"), ok()}, ""},
		"nothing of a kind to be kept": {[]transport.Rule{changes}, []http.HandlerFunc{numbered(200, "a\u202e "+credential)}, "a [redacted]"},
		"a very long one":              {[]transport.Rule{changes}, []http.HandlerFunc{numbered(200, strings.Repeat("x y ", 100))}, strings.Repeat("x y ", 100)[:299] + "…"},
	}, func(t *testing.T, test test) {
		c := client(t, serve(t, test.answers...).URL)
		ctx, trace := providers.WithTrace(t.Context())
		for _, rule := range test.rules {
			_, _ = c.Do(ctx, call(rule), nil)
		}
		want(t, "request id", trace.RequestID, test.want)
	})
}

// TestTraceOfAStream is filled before the first element comes.
func TestTraceOfAStream(t *testing.T) {
	t.Parallel()
	ctx, trace := providers.WithTrace(t.Context())
	c := client(t, serve(t, status(200, `[{"id":"a"}]`, "X-Request-Id", "7")).URL)
	for range transport.Stream[record](ctx, c, read()) {
		want(t, "request id", trace.RequestID, "7")
	}
	want(t, "request id", trace.RequestID, "7")
}

// TestTraceTogether fills one trace from many requests at the same time.
func TestTraceTogether(t *testing.T) {
	t.Parallel()
	ctx, trace := providers.WithTrace(t.Context())
	c := client(t, serve(t, numbered(200, "7")).URL)
	for _, err := range together(32, func(int) error { _, err := do(ctx, c, read()); return err }) {
		wantCode(t, err, "")
	}
	want(t, "request id", trace.RequestID, "7")
}

// TestMayHaveActed tells a change that was only put off from one that an earlier
// attempt may have carried out.
func TestMayHaveActed(t *testing.T) {
	type test struct {
		answers  []http.HandlerFunc
		attempts int
		want     bool
	}
	each(t, map[string]test{
		"first attempt":      {[]http.HandlerFunc{status(404, "{}")}, 1, false},
		"after a 429":        {[]http.HandlerFunc{status(429, "{}"), status(404, "{}")}, 2, false},
		"after a 503":        {[]http.HandlerFunc{status(503, "{}"), status(404, "{}")}, 2, true},
		"after a cut":        {[]http.HandlerFunc{cut, status(404, "{}")}, 2, true},
		"after both":         {[]http.HandlerFunc{status(429, "{}"), cut, status(404, "{}")}, 3, true},
		"after the other":    {[]http.HandlerFunc{status(500, "{}"), status(429, "{}"), status(404, "{}")}, 3, true},
		"it was carried out": {[]http.HandlerFunc{status(429, "{}"), status(204, "")}, 2, false},
	}, func(t *testing.T, test test) {
		v := serve(t, test.answers...)
		response, _ := client(t, v.URL).Do(t.Context(), transport.Request{Method: http.MethodDelete, Path: "/tokens/a", Retry: transport.Repeatable}, nil)
		want(t, "attempts", response.Attempts, test.attempts)
		want(t, "may have acted", response.MayHaveActed, test.want)
	})
}

// TestVendorsClock reads the Date of an answer.
func TestVendorsClock(t *testing.T) {
	at := time.Date(2031, 2, 3, 4, 5, 6, 0, time.UTC)
	each(t, map[string]struct {
		header []string
		want   time.Time
	}{
		"told":     {[]string{"Date", at.Format(http.TimeFormat)}, at},
		"not told": {[]string{"Date", ""}, time.Time{}},
		"no date":  {[]string{"Date", "soon"}, time.Time{}},
	}, func(t *testing.T, test struct {
		header []string
		want   time.Time
	},
	) {
		response, err := do(t.Context(), client(t, serve(t, status(200, `{"id":"a"}`, test.header...)).URL), read())
		wantCode(t, err, "")
		want(t, "date", response.Date(), test.want)
	})
}
