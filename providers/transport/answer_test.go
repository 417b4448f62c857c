package transport_test

import (
	"bytes"
	"compress/gzip"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/tokenreeve/tokenreeve/providers"
	"github.com/tokenreeve/tokenreeve/providers/transport"
)

// TestRequest checks a request to the letter.
func TestRequest(t *testing.T) {
	type test struct {
		base   string // below the server's URL
		req    transport.Request
		target string
		body   string
		json   bool // has a Content-Type
	}
	each(t, map[string]test{
		"read":           {"", transport.Request{Method: "GET", Path: "/a", Retry: transport.Read}, "/a", "", false},
		"query":          {"/", transport.Request{Method: "GET", Path: "/a", Query: url.Values{"q": {"x y&z"}}}, "/a?q=x+y%26z", "", false},
		"escaped id":     {"/base///", transport.Request{Method: "DELETE", Path: "/a/" + url.PathEscape("x/..:%2e?#")}, "/base/a/x%2F..:%252e%3F%23", "", false},
		"dots stay":      {"", transport.Request{Method: "GET", Path: "/a/../b/./c"}, "/a/../b/./c", "", false},
		"body":           {"", transport.Request{Method: "POST", Path: "/a", Body: map[string]int{"n": 1}}, "/a", `{"n":1}`, true},
		"JSON, no body":  {"", transport.Request{Method: "POST", Path: "/a", JSON: true}, "/a", "", true},
		"no JSON at all": {"", transport.Request{Method: "POST", Path: "/a"}, "/a", "", false},
	}, func(t *testing.T, test test) {
		v := serve(t, ok())
		var target, body string
		var header http.Header
		v.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			data, _ := io.ReadAll(r.Body)
			target, body, header = r.RequestURI, string(data), r.Header
			ok()(w, r)
		})
		_, err := do(t.Context(), client(t, v.URL+test.base), test.req)
		wantCode(t, err, "")
		want(t, "target", target, test.target)
		want(t, "body", body, test.body)
		contentType := ""
		if test.json {
			contentType = "application/json"
		}
		for name, value := range map[string]string{
			"Authorization": "Bearer " + credential, "User-Agent": "test/1", "Accept": "application/json", "X-Version": "7", "Content-Type": contentType,
		} {
			want(t, name, header.Get(name), value)
		}
	})
}

// TestRequestNotSent refuses what cannot be written before anything is sent.
func TestRequestNotSent(t *testing.T) {
	t.Parallel()
	v := serve(t, ok())
	for _, req := range []transport.Request{
		{Method: "POST", Path: "/a", Body: func() {}},
		{Method: "GET", Path: "/a\x7f" + canary},
		{Method: "bad method", Path: "/a"},
	} {
		_, err := do(t.Context(), client(t, v.URL), req)
		wantCode(t, err, providers.CodeInvalidArgument)
	}
	want(t, "requests", v.requests.Load(), 0)
}

func TestBaseURL(t *testing.T) {
	t.Parallel()
	for base, valid := range map[string]bool{
		"https://host": true, "http://127.0.0.1:8080": true, "https://host/path/": true, "HTTPS://host": true,
		"": false, "host": false, "https://": false, "https://:443": false, "ftp://host": false, "https:host": false, "//host": false,
		"https://host?": false, "https://host?a=b": false, "https://host#": false, "https://host/#x": false,
		"https://" + canary + "@host": false, "https://user:" + canary + "@host": false, "https://ho st/" + canary: false, "https://host:" + canary: false,
	} {
		_, err := transport.NewClient(http.DefaultClient, base, nil, dialect(), transport.Options{})
		want(t, base+" is valid", err == nil, valid)
		if err != nil && (strings.Contains(err.Error(), canary) || !strings.Contains(err.Error(), "base_url")) {
			t.Errorf("%s: the error is %q: want one that names base_url and quotes nothing", base, err)
		}
	}
}

// TestDecoding checks how a 2xx answer is read into a type.
func TestDecoding(t *testing.T) {
	type test struct {
		body, wantID string
		message      string // of the error
	}
	const due = "vendor: the answer is not the JSON that was due: "
	each(t, map[string]test{
		"whole":             {`{"id":"a"}`, "a", ""},
		"unknown members":   {`{"id":"a","new":{"x":[1]},"deep":{"more":1}}`, "a", ""},
		"white space":       {" \n{\"id\":\"a\"}\n ", "a", ""},
		"null":              {`null`, "", ""},
		"wrong type":        {`{"id":["` + canary + `"]}`, "", due + `member "id" has the wrong type (HTTP 200)`},
		"wrong type within": {`{"deep":{"number":"` + canary + `"}}`, "", due + `member "deep.number" has the wrong type (HTTP 200)`},
		"wrong type of all": {`["` + canary + `"]`, "", due + `it has the wrong type (HTTP 200)`},
		"two values":        {`{"id":"a"}{"id":"` + canary + `"}`, "", due + "malformed JSON (HTTP 200)"},
		"HTML":              {`<html>` + canary, "", due + "malformed JSON (HTTP 200)"},
		"empty":             {``, "", due + "malformed JSON (HTTP 200)"},
		"broken escape":     {`{"id":"\x` + canary + `"}`, "", due + "malformed JSON (HTTP 200)"},
	}, func(t *testing.T, test test) {
		v := serve(t, status(200, test.body))
		var got record
		_, err := client(t, v.URL).Do(t.Context(), read(), &got)
		if test.message == "" {
			wantCode(t, err, "")
			want(t, "id", got.ID, test.wantID)
			return
		}
		e := wantCode(t, err, providers.CodeBadAnswer)
		want(t, "error", e.Error(), test.message)
	})
}

// TestBodyLimit refuses an answer of more than 8 MiB, counted after unpacking.
func TestBodyLimit(t *testing.T) {
	const limit = 8 << 20
	body := func(size int) string { return `{"id":"a","pad":"` + strings.Repeat("x", size-19) + `"}` }
	unannounced := func(body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			_ = http.NewResponseController(w).Flush()
			_, _ = io.WriteString(w, body)
		}
	}
	packed := func(body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			var data bytes.Buffer
			z := gzip.NewWriter(&data)
			_, _ = io.WriteString(z, body)
			_ = z.Close()
			w.Header().Set("Content-Encoding", "gzip")
			_, _ = w.Write(data.Bytes())
		}
	}
	type test struct {
		answer http.HandlerFunc
		rule   transport.Rule
		code   providers.Code
	}
	each(t, map[string]test{
		"just so":               {status(200, body(limit)), transport.Read, ""},
		"one more":              {status(200, body(limit+1)), transport.Read, providers.CodeBadAnswer},
		"one more, to a change": {unannounced(body(limit + 1)), transport.Repeatable, providers.CodeOutcomeUnknown},
		"packed":                {packed(body(1000)), transport.Read, ""},
		"too much, well packed": {packed(body(limit + 1)), transport.Read, providers.CodeBadAnswer},
	}, func(t *testing.T, test test) {
		v := serve(t, test.answer)
		_, err := do(t.Context(), client(t, v.URL), call(test.rule))
		wantCode(t, err, test.code)
		want(t, "requests", v.requests.Load(), 1)
	})
}

// TestProblem checks what an error tells of the vendor's answer: at most its own
// message, cleaned, and only where it is JSON.
func TestProblem(t *testing.T) {
	type test struct {
		answer     http.HandlerFunc
		message    string // after the vendor's name
		vendorCode string
		requestID  string
	}
	typed := func(contentType, body string) http.HandlerFunc {
		return status(403, body, "Content-Type", contentType, "X-Request-Id", "r-1")
	}
	const plain, said = "the credential may not do this", `the credential may not do this; the vendor says: "no such right"`
	const body = `{"code":"no_right","message":"no such right","detail":"` + canary + `"}`
	each(t, map[string]test{
		"JSON":              {typed("application/json", body), said + " (HTTP 403, no_right)", "no_right", "r-1"},
		"JSON, charset":     {typed("application/json; charset=utf-8", body), said + " (HTTP 403, no_right)", "no_right", "r-1"},
		"problem JSON":      {typed("application/problem+json", body), said + " (HTTP 403, no_right)", "no_right", "r-1"},
		"JSON as text":      {typed("text/plain", body), plain + " (HTTP 403)", "", "r-1"},
		"no type":           {typed("", body), plain + " (HTTP 403)", "", "r-1"},
		"HTML":              {typed("text/html", "<html>"+canary), plain + " (HTTP 403)", "", "r-1"},
		"HTML as JSON":      {typed("application/json", "<html>"+canary), plain + " (HTTP 403)", "", "r-1"},
		"empty":             {typed("application/json", ""), plain + " (HTTP 403)", "", "r-1"},
		"broken off":        {status(403, body, "Content-Length", "999"), plain + " (HTTP 403)", "", ""},
		"hidden characters": {typed("application/json", `{"message":"no\u200b such\u202e\n\u0007right"}`), said + " (HTTP 403)", "", "r-1"},
		"our credential":    {typed("application/json", `{"code":"`+credential+`","message":"`+credential+` is bad"}`), plain + `; the vendor says: "[redacted] is bad" (HTTP 403, [redacted])`, "[redacted]", "r-1"},
		"a credential":      {typed("application/json", `{"message":"api-0a1b2c3d-1111-2222-3333-444455556666 is bad"}`), plain + `; the vendor says: "[redacted] is bad" (HTTP 403)`, "", "r-1"},
	}, func(t *testing.T, test test) {
		v := serve(t, test.answer)
		response, err := do(t.Context(), client(t, v.URL), read())
		e := wantCode(t, err, providers.CodeForbidden)
		want(t, "error", e.Error(), "vendor: "+test.message)
		want(t, "vendor's code", e.VendorCode, test.vendorCode)
		want(t, "request id", e.RequestID, test.requestID)
		want(t, "request id of the response", response.RequestID, test.requestID)
		want(t, "status", response.Status, 403)
		if e.Next == "" {
			t.Error("no next step")
		}
	})
}

// TestLongProblem bounds what a vendor says.
func TestLongProblem(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("word ", 2000)
	v := serve(t, status(422, `{"message":"`+long+`","code":"`+long+`"}`, "X-Request-Id", long))
	_, err := do(t.Context(), client(t, v.URL), read())
	e := wantCode(t, err, providers.CodeRejected)
	for name, text := range map[string]string{"message": e.Message, "code": e.VendorCode, "request id": e.RequestID} {
		if n := utf8.RuneCountInString(text); n < 200 || n > 400 {
			t.Errorf("%s has %d characters, want about 300", name, n)
		}
	}
}

// TestEndlessBody takes no more of a body without end than it needs.
func TestEndlessBody(t *testing.T) {
	type test struct {
		status int
		decode bool
		code   providers.Code
	}
	each(t, map[string]test{
		"decoded":      {200, true, providers.CodeBadAnswer},
		"not wanted":   {200, false, ""},
		"of an error":  {403, true, providers.CodeForbidden},
		"of one again": {503, true, providers.CodeUnavailable},
	}, func(t *testing.T, test test) {
		e := &endless{answer: status(test.status, `{"message":"`), part: strings.Repeat("x", 64<<10)}
		v := serve(t, e.ServeHTTP)
		var out any
		if test.decode {
			out = &record{}
		}
		_, err := client(t, v.URL).Do(t.Context(), read(), out)
		wantCode(t, err, test.code)
		e.check(t, v)
	})
}

// TestNotHTTP quotes nothing of an answer that is not HTTP, which net/http does.
func TestNotHTTP(t *testing.T) {
	each(t, map[string]string{
		"no status line":   canary + " is what I say\r\n\r\n",
		"no status":        "HTTP/1.1 " + canary + " OK\r\n\r\n",
		"header":           "HTTP/1.1 200 OK\r\n" + canary + "\r\n\r\n",
		"header's start":   "HTTP/1.1 200 OK\r\n " + canary + ": 1\r\n\r\n",
		"header's name":    "HTTP/1.1 200 OK\r\nX Y" + canary + ": 1\r\n\r\n",
		"length":           "HTTP/1.1 200 OK\r\nContent-Length: " + canary + "\r\n\r\n",
		"two lengths":      "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2" + canary + "\r\n\r\n",
		"encoding":         "HTTP/1.1 200 OK\r\nTransfer-Encoding: " + canary + "\r\n\r\n",
		"version":          "HTTP/" + canary + " 200 OK\r\n\r\n",
		"location":         "HTTP/1.1 302 Found\r\nLocation: %zz" + canary + "\r\nContent-Length: 0\r\n\r\n",
		"too much header":  "HTTP/1.1 200 OK\r\nX: " + strings.Repeat(canary, 100_000) + "\r\n\r\n",
		"chunk":            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + canary + "\r\n",
		"compressed badly": "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 25\r\n\r\n" + canary,
	}, func(t *testing.T, answer string) {
		base, _ := listen(t, func(conn net.Conn) {
			_, _ = conn.Read(make([]byte, 4096))
			_, _ = io.WriteString(conn, answer)
		})
		_, err := do(t.Context(), client(t, base), read())
		if err == nil {
			t.Fatal("no error")
		}
		wantNoSecret(t, err)
		if code := providers.CodeOf(err); code != providers.CodeUnavailable && code != providers.CodeBadAnswer {
			t.Errorf("code %s (%v)", code, err)
		}
	})
}

// TestMeaning checks the code and the next step of each status, for a read and
// for a change.
func TestMeaning(t *testing.T) {
	type test struct {
		status       int
		read, change providers.Code
	}
	both := func(status int, code providers.Code) test { return test{status, code, code} }
	tests := []test{
		both(400, providers.CodeRejected), both(401, providers.CodeCredentialRejected), both(403, providers.CodeForbidden),
		both(404, providers.CodeNotFound), both(405, providers.CodeRejected), both(409, providers.CodeConflict),
		both(418, providers.CodeRejected), both(422, providers.CodeRejected), both(429, providers.CodeRateLimited),
		both(300, providers.CodeBadAnswer), both(304, providers.CodeBadAnswer),
		{500, providers.CodeUnavailable, providers.CodeOutcomeUnknown},
		{501, providers.CodeUnavailable, providers.CodeOutcomeUnknown},
		{503, providers.CodeUnavailable, providers.CodeOutcomeUnknown},
		{599, providers.CodeUnavailable, providers.CodeOutcomeUnknown},
	}
	got := make([]test, len(tests))
	t.Parallel()
	together(len(tests), func(i int) error {
		v := serve(t, status(tests[i].status, `{}`))
		code := func(rule transport.Rule) providers.Code {
			_, err := client(t, v.URL).Do(t.Context(), call(rule), nil)
			return providers.CodeOf(err)
		}
		got[i] = test{tests[i].status, code(transport.Read), code(transport.Once)}
		return nil
	})
	if diff := cmp.Diff(tests, got, cmp.AllowUnexported(test{})); diff != "" {
		t.Errorf("codes (-want +got):\n%s", diff)
	}
}
