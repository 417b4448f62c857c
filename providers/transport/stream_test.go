package transport_test

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tokenreeve/tokenreeve/internal/vendortest"
	"github.com/tokenreeve/tokenreeve/providers"
	"github.com/tokenreeve/tokenreeve/providers/transport"
)

// collect reads a stream to its end and checks that an error comes last.
func collect(ctx context.Context, t *testing.T, c *transport.Client) (ids []string, last error) {
	t.Helper()
	for r, err := range transport.Stream[*record](ctx, c, read()) {
		switch {
		case last != nil:
			t.Error("the stream goes on after its error")
		case err != nil:
			last = err
		case r == nil:
			ids = append(ids, "null")
		default:
			ids = append(ids, r.ID)
		}
	}
	return ids, last
}

// TestStream checks what is yielded of whole and of broken arrays.
func TestStream(t *testing.T) {
	type test struct {
		answer  http.HandlerFunc
		ids     []string
		code    providers.Code
		message string // part of the error's
	}
	in := func(body string) http.HandlerFunc { return status(200, body) }
	broken := providers.CodeBadAnswer
	each(t, map[string]test{
		"none":           {in(`[]`), nil, "", ""},
		"two":            {in(`[{"id":"a"},{"id":"b"}]`), []string{"a", "b"}, "", ""},
		"white space":    {in(" \n[ {\"id\":\"a\"} ,\n {\"id\":\"b\"} ]\n "), []string{"a", "b"}, "", ""},
		"unknown member": {in(`[{"id":"a","new":[{}]}]`), []string{"a"}, "", ""},
		"null in it":     {in(`[null,{"id":"a"}]`), []string{"null", "a"}, "", ""},
		"no array":       {in(`{"id":"` + canary + `"}`), nil, broken, "not a JSON array"},
		"null":           {in(`null`), nil, broken, "not a JSON array"},
		"empty":          {in(``), nil, broken, "not a JSON array"},
		"HTML":           {in(`<html>` + canary), nil, broken, "not a JSON array"},
		"no end":         {in(`[{"id":"a"}`), []string{"a"}, broken, "the array has no end"},
		"half element":   {in(`[{"id":"a"},{"id":"` + canary), []string{"a"}, broken, "it broke off"},
		"line cut":       {truncatedArray, []string{"a"}, broken, "it broke off"},
		"wrong end":      {in(`[{"id":"a"}}`), []string{"a"}, broken, "no end"},
		"wrong type":     {in(`[{"id":"a"},{"id":["` + canary + `"]}]`), []string{"a"}, broken, `member "id" has the wrong type`},
		"no object":      {in(`[{"id":"a"},"` + canary + `"]`), []string{"a"}, broken, "wrong type"},
		"malformed":      {in(`[{"id":"a"},{id:"` + canary + `"}]`), []string{"a"}, broken, "malformed JSON"},
		"two arrays":     {in(`[{"id":"a"}][{"id":"b"}]`), []string{"a"}, broken, "not all of the answer"},
		"error":          {status(403, `{"message":"no"}`), nil, providers.CodeForbidden, `"no"`},
		"redirect":       {status(302, ``, "Location", "/x"), nil, broken, "redirect"},
	}, func(t *testing.T, test test) {
		v := serve(t, test.answer)
		ids, err := collect(t.Context(), t, client(t, v.URL))
		e := wantCode(t, err, test.code)
		if !strings.Contains(e.Message, test.message) {
			t.Errorf("error %v: want one that says %q", err, test.message)
		}
		if diff := cmp.Diff(test.ids, ids); diff != "" {
			t.Errorf("ids (-want +got):\n%s", diff)
		}
		want(t, "requests", v.requests.Load(), 1) // none is repeated after its first byte
	})
}

func truncatedArray(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Length", "1000")
	_, _ = io.WriteString(w, `[{"id":"a"},{"id"`)
}

// TestStreamRepeats repeats what failed before the first byte.
func TestStreamRepeats(t *testing.T) {
	t.Parallel()
	v := serve(t, cut, status(503, "{}"), status(200, `[{"id":"a"}]`))
	ids, err := collect(t.Context(), t, client(t, v.URL))
	wantCode(t, err, "")
	want(t, "ids", strings.Join(ids, " "), "a")
	want(t, "requests", v.requests.Load(), 3)
}

// TestStreamAsItComes has a vendor that sends the next element only once the
// one before was yielded.
func TestStreamAsItComes(t *testing.T) {
	t.Parallel()
	yielded := make(chan struct{})
	v := serve(t, func(w http.ResponseWriter, r *http.Request) {
		for _, part := range []string{`[{"id":"a"}`, `,{"id":"b"}`, `,{"id":"c"}`} {
			_, _ = io.WriteString(w, part)
			_ = http.NewResponseController(w).Flush()
			select {
			case <-yielded:
			case <-r.Context().Done():
			}
		}
		_, _ = io.WriteString(w, "]")
	})
	count := 0
	for _, err := range transport.Stream[record](t.Context(), client(t, v.URL), read()) {
		wantCode(t, err, "")
		count++
		yielded <- struct{}{}
	}
	want(t, "elements", count, 3)
}

// TestLongStream reads an array that is longer than the limit of other answers,
// with elements just below the limit of one.
func TestLongStream(t *testing.T) {
	t.Parallel()
	element := `{"id":"a","pad":"` + strings.Repeat("x", 1<<20-100) + `"}`
	const count = 10
	v := serve(t, status(200, "["+strings.Repeat(element+",", count-1)+element+"]"))
	ids, err := collect(t.Context(), t, client(t, v.URL))
	wantCode(t, err, "")
	want(t, "elements", len(ids), count)
}

// TestEndlessElement sends an element without end: the client must not take more
// of it than its limit.
func TestEndlessElement(t *testing.T) {
	type test struct{ start, part string }
	each(t, map[string]test{
		"string":              {`[{"id":"a"},{"id":"`, strings.Repeat("x", 64<<10)},
		"element":             {`[{"id":"a"},{"list":[0`, strings.Repeat(",1", 32<<10)},
		"white space":         {`[{"id":"a"}`, strings.Repeat(" ", 64<<10)},
		"white space at end":  {`[{"id":"a"}]`, strings.Repeat(" ", 64<<10)},
		"white space at head": {``, strings.Repeat(" ", 64<<10)},
	}, func(t *testing.T, test test) {
		e := &endless{answer: status(200, test.start), part: test.part}
		v := serve(t, e.ServeHTTP)
		_, err := collect(t.Context(), t, client(t, v.URL))
		wantCode(t, err, providers.CodeBadAnswer)
		e.check(t, v)
	})
}

func TestLongElement(t *testing.T) {
	t.Parallel()
	v := serve(t, status(200, `[{"id":"a"},{"id":"`+strings.Repeat("x", 1<<20)+`"},{"id":"b"}]`))
	ids, err := collect(t.Context(), t, client(t, v.URL))
	e := wantCode(t, err, providers.CodeBadAnswer)
	want(t, "ids", strings.Join(ids, " "), "a")
	if !strings.Contains(e.Message, "longer than 1 MiB") {
		t.Errorf("error %v: want one that tells the limit", err)
	}
}

// TestStreamEnds checks that whoever ends a stream early ends its connection.
func TestStreamEnds(t *testing.T) {
	type test struct {
		stop func(cancel context.CancelFunc) (goOn bool) // after the first element
		code providers.Code
	}
	each(t, map[string]test{
		"break":  {func(context.CancelFunc) bool { return false }, ""},
		"cancel": {func(cancel context.CancelFunc) bool { cancel(); return true }, providers.CodeCancelled},
	}, func(t *testing.T, test test) {
		ended := make(chan struct{})
		v := serve(t, func(w http.ResponseWriter, r *http.Request) {
			defer close(ended)
			hangInBody(200, `[{"id":"a"},`)(w, r)
		})
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var last error
		for _, err := range transport.Stream[record](ctx, client(t, v.URL), read()) {
			if err != nil {
				last = err
			} else if !test.stop(cancel) {
				break
			}
		}
		<-ended
		wantCode(t, last, test.code)
		want(t, "requests", v.requests.Load(), 1)
	})
}

// TestSilentStream gives up once nothing came for the time of an attempt, at the
// beginning, within and in an error's body.
func TestSilentStream(t *testing.T) {
	t.Parallel()
	const limit = 30 * time.Second
	for name, test := range map[string]struct {
		status   int
		body     string
		ids      []string
		deadline time.Duration
		code     providers.Code
		took     time.Duration
	}{
		"at once":         {200, "", nil, time.Hour, providers.CodeTimeout, limit},
		"later":           {200, `[{"id":"a"},`, []string{"a"}, time.Hour, providers.CodeTimeout, limit},
		"within":          {200, `[{"id":"a"},{"id`, []string{"a"}, time.Hour, providers.CodeTimeout, limit},
		"before the end":  {200, `[{"id":"a"}`, []string{"a"}, time.Hour, providers.CodeTimeout, limit},
		"after the end":   {200, `[{"id":"a"}]`, []string{"a"}, time.Hour, providers.CodeTimeout, limit},
		"call's deadline": {200, `[{"id":"a"},`, []string{"a"}, time.Second, providers.CodeTimeout, time.Second},
		"error":           {403, `{"message":`, nil, time.Hour, providers.CodeForbidden, limit},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				vendor := &scripted{answer: func(_ int, r *http.Request) (*http.Response, error) { return silent(test.status, test.body, r), nil }}
				ctx, cancel := context.WithTimeout(t.Context(), test.deadline)
				defer cancel()
				begin := time.Now()
				ids, err := collect(ctx, t, vendor.client(t))
				wantCode(t, err, test.code)
				want(t, "ids", strings.Join(ids, " "), strings.Join(test.ids, " "))
				want(t, "time it took", time.Since(begin), test.took)
				want(t, "requests", len(vendor.came), 1)
			})
		})
	}
}

func TestStreamCancelledBefore(t *testing.T) {
	t.Parallel()
	v := serve(t, status(200, "[]"))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := collect(ctx, t, client(t, v.URL))
	wantCode(t, err, providers.CodeCancelled)
	want(t, "requests", v.requests.Load(), 0)
}

// TestSlowStream lasts far longer than the timeout, but is never silent as long.
func TestSlowStream(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const timeout, elements = 30 * time.Second, 10
		vendor := roundTripper(func(r *http.Request) (*http.Response, error) {
			body := io.MultiReader(strings.NewReader("["), &slowly{every: 20 * time.Second, part: `{"id":"a"},`, count: elements}, strings.NewReader(`{"id":"a"}]`))
			return &http.Response{StatusCode: 200, Body: io.NopCloser(body), Request: r}, nil
		})
		c := wire(t, &http.Client{Transport: vendor}, "https://vendor.invalid", vendortest.Credential(credential), dialect(), transport.Options{Timeout: timeout})
		count := 0
		for _, err := range transport.Stream[record](t.Context(), c, read()) {
			wantCode(t, err, "")
			time.Sleep(time.Minute) // a slow reader is not the vendor's silence
			count++
		}
		want(t, "elements", count, elements+1)
	})
}

// slowly reads part again and again, each after a while.
type slowly struct {
	every time.Duration
	part  string
	count int
	now   bytes.Buffer
}

func (s *slowly) Read(p []byte) (int, error) {
	if s.now.Len() == 0 {
		if s.count == 0 {
			return 0, io.EOF
		}
		s.count--
		time.Sleep(s.every)
		s.now.WriteString(s.part)
	}
	return s.now.Read(p)
}
