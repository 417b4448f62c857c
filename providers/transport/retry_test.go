package transport_test

import (
	"context"
	"net"
	"net/http"
	"testing"

	"github.com/tokenreeve/tokenreeve/providers"
	"github.com/tokenreeve/tokenreeve/providers/transport"
)

// end is how a call ends: how many requests the vendor saw, and what the caller gets.
type end struct {
	requests int
	code     providers.Code
}

// situation starts a vendor that is in it.
type situation func(*testing.T) (base string, requests func() int32)

func answering(answer http.HandlerFunc) situation {
	return func(t *testing.T) (string, func() int32) {
		v := serve(t, answer)
		return v.URL, v.requests.Load
	}
}

func cuttingEarly(t *testing.T) (string, func() int32) {
	base, connections := listen(t, func(net.Conn) {})
	return base, connections.Load
}

func absent(t *testing.T) (string, func() int32) { return refusing(t), nil }

// TestRetries checks each rule in each situation that lasts.
func TestRetries(t *testing.T) {
	type ends struct{ read, repeatable, unexecuted, once end }
	const (
		limited     = providers.CodeRateLimited
		unavailable = providers.CodeUnavailable
		unknown     = providers.CodeOutcomeUnknown
		badAnswer   = providers.CodeBadAnswer
	)
	always := func(code providers.Code) ends { return ends{end{1, code}, end{1, code}, end{1, code}, end{1, code}} }
	type test struct {
		start situation
		rule  transport.Rule
		end   end
	}
	tests := map[string]test{}
	for name, in := range map[string]struct {
		start situation
		ends  ends
	}{
		"429":                    {answering(status(429, "{}")), ends{end{4, limited}, end{4, limited}, end{4, limited}, end{1, limited}}},
		"500":                    {answering(status(500, "{}")), ends{end{4, unavailable}, end{4, unknown}, end{1, unknown}, end{1, unknown}}},
		"503":                    {answering(status(503, "{}")), ends{end{4, unavailable}, end{4, unknown}, end{1, unknown}, end{1, unknown}}},
		"cut after the request":  {answering(cut), ends{end{4, unavailable}, end{4, unknown}, end{1, unknown}, end{1, unknown}}},
		"cut before the request": {cuttingEarly, ends{end{4, unavailable}, end{4, unknown}, end{1, unknown}, end{1, unknown}}},
		"no connection":          {absent, ends{end{4, unavailable}, end{4, unavailable}, end{4, unavailable}, end{1, unavailable}}},
		"truncated body":         {answering(truncated), ends{end{4, badAnswer}, end{4, unknown}, end{1, unknown}, end{1, unknown}}},
		"not JSON":               {answering(status(200, "<html>"+canary)), ends{end{1, badAnswer}, end{1, unknown}, end{1, unknown}, end{1, unknown}}},
		"empty":                  {answering(status(200, "")), ends{end{1, badAnswer}, end{1, unknown}, end{1, unknown}, end{1, unknown}}},
		"half of a JSON":         {answering(status(200, `{"id":"`+canary)), ends{end{1, badAnswer}, end{1, unknown}, end{1, unknown}, end{1, unknown}}},
		"400":                    {answering(status(400, "{}")), always(providers.CodeRejected)},
		"401":                    {answering(status(401, "{}")), always(providers.CodeCredentialRejected)},
		"403":                    {answering(status(403, "{}")), always(providers.CodeForbidden)},
		"404":                    {answering(status(404, "{}")), always(providers.CodeNotFound)},
		"409":                    {answering(status(409, "{}")), always(providers.CodeConflict)},
		"422":                    {answering(status(422, "{}")), always(providers.CodeRejected)},
	} {
		tests[name+"/read"] = test{in.start, transport.Read, in.ends.read}
		tests[name+"/repeatable"] = test{in.start, transport.Repeatable, in.ends.repeatable}
		tests[name+"/unexecuted"] = test{in.start, transport.Unexecuted, in.ends.unexecuted}
		tests[name+"/once"] = test{in.start, transport.Once, in.ends.once}
	}
	each(t, tests, func(t *testing.T, test test) {
		base, requests := test.start(t)
		response, err := do(t.Context(), client(t, base), call(test.rule))
		wantCode(t, err, test.end.code)
		want(t, "attempts", response.Attempts, test.end.requests)
		if requests != nil {
			want(t, "requests", int(requests()), test.end.requests)
		}
	})
}

// TestRepetition checks what the answers to several attempts add up to.
func TestRepetition(t *testing.T) {
	type answers []http.HandlerFunc
	busy, broken, gone, forbidden := status(429, "{}"), status(502, "{}"), status(404, "{}"), status(403, "{}")
	type test struct {
		rule    transport.Rule
		answers answers
		end     end
	}
	each(t, map[string]test{
		"read after 503":                     {transport.Read, answers{status(503, "{}"), ok()}, end{2, ""}},
		"read after a cut":                   {transport.Read, answers{cut, ok()}, end{2, ""}},
		"read after a broken body":           {transport.Read, answers{truncated, ok()}, end{2, ""}},
		"read after three failures":          {transport.Read, answers{cut, broken, busy, ok()}, end{4, ""}},
		"read, lost, then forbidden":         {transport.Read, answers{cut, forbidden}, end{2, providers.CodeForbidden}},
		"change after 429":                   {transport.Unexecuted, answers{busy, ok()}, end{2, ""}},
		"change after 429, then lost":        {transport.Unexecuted, answers{busy, cut}, end{2, providers.CodeOutcomeUnknown}},
		"change once after 429":              {transport.Once, answers{busy, ok()}, end{1, providers.CodeRateLimited}},
		"repeatable, lost":                   {transport.Repeatable, answers{cut, ok()}, end{2, ""}},
		"repeatable, truncated":              {transport.Repeatable, answers{truncated, ok()}, end{2, ""}},
		"repeatable, lost, then gone":        {transport.Repeatable, answers{cut, gone}, end{2, providers.CodeNotFound}},
		"repeatable, 502, then gone":         {transport.Repeatable, answers{broken, gone}, end{2, providers.CodeNotFound}},
		"repeatable, lost, then forbidden":   {transport.Repeatable, answers{cut, forbidden}, end{2, providers.CodeOutcomeUnknown}},
		"repeatable, 502, then rejected":     {transport.Repeatable, answers{broken, status(401, "{}")}, end{2, providers.CodeOutcomeUnknown}},
		"repeatable, lost, then busy":        {transport.Repeatable, answers{cut, busy}, end{4, providers.CodeOutcomeUnknown}},
		"repeatable, lost, then Retry-After": {transport.Repeatable, answers{cut, status(429, "{}", "Retry-After", "3600")}, end{2, providers.CodeOutcomeUnknown}},
		"repeatable, busy, then forbidden":   {transport.Repeatable, answers{busy, forbidden}, end{2, providers.CodeForbidden}},
	}, func(t *testing.T, test test) {
		v := serve(t, test.answers...)
		response, err := do(t.Context(), client(t, v.URL), call(test.rule))
		wantCode(t, err, test.end.code)
		want(t, "attempts", response.Attempts, test.end.requests)
		want(t, "requests", int(v.requests.Load()), test.end.requests)
	})
}

// TestRepetitionWithoutVendor loses the vendor altogether after a lost answer:
// that nothing reaches it any more does not undo what did.
func TestRepetitionWithoutVendor(t *testing.T) {
	t.Parallel()
	var v *vendor
	v = serve(t, func(w http.ResponseWriter, r *http.Request) {
		_ = v.Listener.Close()
		cut(w, r)
	})
	response, err := do(t.Context(), client(t, v.URL), call(transport.Repeatable))
	wantCode(t, err, providers.CodeOutcomeUnknown)
	want(t, "attempts", response.Attempts, 4)
	want(t, "requests", v.requests.Load(), 1)
}

// TestReusedConnection cuts a connection that served before: net/http must not
// repeat a change on its own.
func TestReusedConnection(t *testing.T) {
	t.Parallel()
	for _, method := range []string{http.MethodPost, http.MethodPatch, http.MethodDelete} {
		t.Run(method, func(t *testing.T) {
			t.Parallel()
			v := serve(t, ok(), cut)
			c := client(t, v.URL)
			if _, err := do(t.Context(), c, read()); err != nil {
				t.Fatal(err)
			}
			_, err := c.Do(t.Context(), transport.Request{Method: method, Path: "/tokens", Retry: transport.Once}, nil)
			wantCode(t, err, providers.CodeOutcomeUnknown)
			want(t, "requests", v.requests.Load(), 2)
		})
	}
}

// TestBodyNotWanted takes a 2xx for done where nothing of its body is wanted, unless
// the body shows that it is not the vendor's.
func TestBodyNotWanted(t *testing.T) {
	type test struct {
		answer http.HandlerFunc
		code   providers.Code
	}
	each(t, map[string]test{
		"none": {status(204, ""), ""}, "JSON": {status(200, `{"a":1}`), ""}, "white space": {status(200, " \n"), ""},
		"HTML":      {status(202, "<html>", "Content-Type", "text/html"), providers.CodeOutcomeUnknown},
		"not JSON":  {status(200, "upstream said {"), providers.CodeOutcomeUnknown},
		"truncated": {truncated, providers.CodeOutcomeUnknown},
	}, func(t *testing.T, test test) {
		v := serve(t, test.answer)
		_, err := client(t, v.URL).Do(t.Context(), call(transport.Once), nil)
		wantCode(t, err, test.code)
		want(t, "requests", v.requests.Load(), 1)
	})
}

func TestCancelledBefore(t *testing.T) {
	t.Parallel()
	v := serve(t, ok())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, rule := range []transport.Rule{transport.Read, transport.Once} {
		c := client(t, v.URL)
		_, err := do(ctx, c, call(rule)) // before the credential was read
		wantCode(t, err, providers.CodeCancelled)
		if _, err := c.Credential(t.Context()); err != nil {
			t.Fatal(err)
		}
		_, err = do(ctx, c, call(rule))
		wantCode(t, err, providers.CodeCancelled)
	}
	want(t, "requests", v.requests.Load(), 0)
}

// TestCancelledDuring cancels the call once the vendor has the request.
func TestCancelledDuring(t *testing.T) {
	type test struct {
		rule   transport.Rule
		answer http.HandlerFunc
		code   providers.Code
	}
	inBody := hangInBody(200, `{"id":`)
	each(t, map[string]test{
		"read":               {transport.Read, hang, providers.CodeCancelled},
		"read in the body":   {transport.Read, inBody, providers.CodeCancelled},
		"once":               {transport.Once, hang, providers.CodeOutcomeUnknown},
		"unexecuted":         {transport.Unexecuted, hang, providers.CodeOutcomeUnknown},
		"repeatable":         {transport.Repeatable, hang, providers.CodeOutcomeUnknown},
		"change in the body": {transport.Once, inBody, providers.CodeOutcomeUnknown},
	}, func(t *testing.T, test test) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		v := serve(t, func(w http.ResponseWriter, r *http.Request) {
			cancel()
			test.answer(w, r)
		})
		_, err := do(ctx, client(t, v.URL), call(test.rule))
		wantCode(t, err, test.code)
		want(t, "requests", v.requests.Load(), 1)
	})
}

// TestSilence has a vendor that answers nothing, or nothing more, over real
// connections: TestTimeout has the details.
func TestSilence(t *testing.T) {
	each(t, map[string]http.HandlerFunc{"no answer": hang, "in the body": hangInBody(200, `{"id":`)}, func(t *testing.T, answer http.HandlerFunc) {
		v := serve(t, answer)
		_, err := do(t.Context(), impatient(t, v.URL), read())
		wantCode(t, err, providers.CodeTimeout)
	})
}
