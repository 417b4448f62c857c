package transport_test

import (
	"crypto/tls"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/tokenreeve/tokenreeve/internal/vendortest"
	"github.com/tokenreeve/tokenreeve/providers"
	"github.com/tokenreeve/tokenreeve/providers/transport"
)

// allowance is how many connections net/http may open anew: it gives up one that
// it did not finish writing to within 50 ms, which happens on a busy machine.
const allowance = 3

// TestConnectionReuse makes calls one after the other, of every kind whose answer
// is whole, over one connection.
func TestConnectionReuse(t *testing.T) {
	drop := func(t *testing.T, c *transport.Client) error {
		_, err := c.Do(t.Context(), call(transport.Repeatable), nil)
		return err
	}
	decode := func(t *testing.T, c *transport.Client) error { _, err := do(t.Context(), c, read()); return err }
	stream := func(t *testing.T, c *transport.Client) error {
		for _, err := range transport.Stream[record](t.Context(), c, read()) {
			if err != nil {
				return err
			}
		}
		return nil
	}
	type test struct {
		calls  int
		answer http.HandlerFunc
		call   func(*testing.T, *transport.Client) error
		code   providers.Code
	}
	inChunks := func(body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			for _, part := range strings.SplitAfter(body, ",") {
				_, _ = w.Write([]byte(part))
				_ = http.NewResponseController(w).Flush()
			}
		}
	}
	each(t, map[string]test{
		"decoded":            {200, ok(), decode, ""},
		"decoded, in chunks": {40, inChunks(`{"id":"a","deep":{}}`), decode, ""},
		"dropped":            {40, status(200, `{"id":"a"}`), drop, ""},
		"no body":            {40, status(204, ""), drop, ""},
		"error":              {40, status(404, `{"message":"`+strings.Repeat("x", 10_000)+`"}`), decode, providers.CodeNotFound},
		"error, not read":    {40, status(404, strings.Repeat("x", 10_000), "Content-Type", "text/plain"), decode, providers.CodeNotFound},
		"not JSON":           {40, status(200, "<html>"), decode, providers.CodeBadAnswer},
		"stream":             {40, status(200, `[{"id":"a"},{"id":"b"}]`), stream, ""},
		"stream, in chunks":  {40, inChunks(`[{"id":"a"},{"id":"b"}]`), stream, ""},
		"empty stream":       {40, inChunks(`[]`), stream, ""},
	}, func(t *testing.T, test test) {
		v := serve(t, test.answer)
		c := client(t, v.URL)
		for range test.calls {
			wantCode(t, test.call(t, c), test.code)
		}
		want(t, "requests", int(v.requests.Load()), test.calls)
		if n := v.connections.Load(); n > allowance {
			t.Errorf("%d connections, want 1", n)
		}
	})
}

// TestConnectionReuseAtRetries repeats over the connection that gave the error.
func TestConnectionReuseAtRetries(t *testing.T) {
	t.Parallel()
	v := serve(t, status(503, "{}"), status(429, "{}"), ok())
	_, err := do(t.Context(), client(t, v.URL), read())
	wantCode(t, err, "")
	want(t, "requests", v.requests.Load(), 3)
	if n := v.connections.Load(); n > 2 {
		t.Errorf("%d connections for three attempts, want 1", n)
	}
}

// TestConnectionsInParallel keeps as many connections as there were calls at the
// same time.
func TestConnectionsInParallel(t *testing.T) {
	t.Parallel()
	const calls, rounds = 32, 5
	meet := make(chan func(), 1)
	v := serve(t, func(w http.ResponseWriter, r *http.Request) {
		wait := <-meet
		meet <- wait
		wait()
		ok()(w, r)
	})
	c := client(t, v.URL)
	for range rounds {
		meet <- barrier(calls)
		for _, err := range together(calls, func(int) error { _, err := do(t.Context(), c, read()); return err }) {
			wantCode(t, err, "")
		}
		<-meet
	}
	if n := v.connections.Load(); n < calls || n > calls+allowance {
		t.Errorf("%d connections for %d rounds of %d calls at the same time", n, rounds, calls)
	}
}

// secure starts a vendor with TLS and returns it with the file of its certificate.
func secure(t *testing.T, change func(*httptest.Server), answers ...http.HandlerFunc) (v *vendor, certificate []byte) {
	t.Helper()
	v = prepare(answers...)
	change(v.Server)
	v.StartTLS()
	t.Cleanup(v.Close)
	return v, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: v.Certificate().Raw})
}

func TestTLS(t *testing.T) {
	type test struct {
		change   func(*httptest.Server)
		noCA     bool
		message  string // part of the error's
		requests int32
	}
	as := func(change func(*tls.Config)) func(*httptest.Server) {
		return func(s *httptest.Server) {
			s.TLS = &tls.Config{}
			change(s.TLS)
		}
	}
	each(t, map[string]test{
		"default": {as(func(*tls.Config) {}), false, "", 1},
		"1.2":     {as(func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 }), false, "", 1},
		"1.3":     {as(func(c *tls.Config) { c.MinVersion = tls.VersionTLS13 }), false, "", 1},
		"1.1":     {as(func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS11 }), false, "protocol version", 0},
		"no CA":   {as(func(*tls.Config) {}), true, "certificate signed by unknown authority", 0},
	}, func(t *testing.T, test test) {
		v, certificate := secure(t, test.change, ok())
		if test.noCA {
			certificate = nil
		}
		c := connect(t, v.URL, vendortest.Credential(credential), transport.Options{RootCAs: certificate})
		for _, rule := range []transport.Rule{transport.Read, transport.Once} {
			before := v.requests.Load()
			_, err := do(t.Context(), c, call(rule))
			if test.message == "" {
				wantCode(t, err, "")
			} else if e := wantCode(t, err, providers.CodeUnavailable); !strings.Contains(e.Message, test.message) || !strings.Contains(e.Next, "ca_file") {
				t.Errorf("error %v, next %q: want one that says %q, and ca_file as what to look at", e, e.Next, test.message)
			}
			want(t, "requests", v.requests.Load()-before, test.requests)
		}
	})
}

// TestUntrusted tries a certificate that is not trusted once only: it will not
// be trusted the next time either.
func TestUntrusted(t *testing.T) {
	t.Parallel()
	v, _ := secure(t, func(*httptest.Server) {}, ok())
	response, err := do(t.Context(), client(t, v.URL), read())
	wantCode(t, err, providers.CodeUnavailable)
	want(t, "attempts", response.Attempts, 1)
}

// TestHTTP2 checks that a request counts as sent there as well.
func TestHTTP2(t *testing.T) {
	type test struct {
		answers []http.HandlerFunc
		rule    transport.Rule
		end     end
	}
	each(t, map[string]test{
		"answered":         {[]http.HandlerFunc{ok()}, transport.Read, end{1, ""}},
		"change, answered": {[]http.HandlerFunc{ok()}, transport.Once, end{1, ""}},
		"change, lost":     {[]http.HandlerFunc{cut}, transport.Unexecuted, end{1, providers.CodeOutcomeUnknown}},
		"change, 429":      {[]http.HandlerFunc{status(429, "{}"), ok()}, transport.Unexecuted, end{2, ""}},
		"read, lost":       {[]http.HandlerFunc{cut, ok()}, transport.Read, end{2, ""}},
		"read, truncated":  {[]http.HandlerFunc{truncated, ok()}, transport.Read, end{2, ""}},
	}, func(t *testing.T, test test) {
		versions := make(chan int, 8)
		answers := make([]http.HandlerFunc, 0, len(test.answers))
		for _, answer := range test.answers {
			answers = append(answers, func(w http.ResponseWriter, r *http.Request) { versions <- r.ProtoMajor; answer(w, r) })
		}
		v, certificate := secure(t, func(s *httptest.Server) { s.EnableHTTP2 = true }, answers...)
		c := connect(t, v.URL, vendortest.Credential(credential), transport.Options{RootCAs: certificate})
		_, err := do(t.Context(), c, call(test.rule))
		wantCode(t, err, test.end.code)
		want(t, "version", <-versions, 2)
		want(t, "requests", int(v.requests.Load()), test.end.requests)
		want(t, "connections", v.connections.Load(), 1)
	})
}

// TestHTTP2Silence is TestSilence over HTTP/2.
func TestHTTP2Silence(t *testing.T) {
	each(t, map[string]http.HandlerFunc{"no answer": hang, "in the body": hangInBody(200, `{"id":`)}, func(t *testing.T, answer http.HandlerFunc) {
		v, certificate := secure(t, func(s *httptest.Server) { s.EnableHTTP2 = true }, answer)
		c := connect(t, v.URL, vendortest.Credential(credential), transport.Options{RootCAs: certificate, Timeout: patience})
		_, err := do(t.Context(), c, read())
		wantCode(t, err, providers.CodeTimeout)
	})
}

func TestRootCAs(t *testing.T) {
	t.Parallel()
	if _, err := transport.New(transport.Options{RootCAs: []byte("no certificate")}); err == nil {
		t.Error("what is no certificate was taken")
	}
}

// TestRedirect checks that none is followed: the credential stays with its host.
func TestRedirect(t *testing.T) {
	each(t, map[string]int{"301": 301, "302": 302, "303": 303, "307": 307, "308": 308}, func(t *testing.T, code int) {
		elsewhere := serve(t, ok())
		for _, rule := range []transport.Rule{transport.Read, transport.Repeatable} {
			for _, location := range []string{elsewhere.URL + "/tokens", "/other", "//" + elsewhere.Listener.Addr().String()} {
				v := serve(t, status(code, `{"message":"`+canary+`"}`, "Location", location, "Content-Type", "text/html"))
				_, err := do(t.Context(), client(t, v.URL), call(rule))
				e := wantCode(t, err, providers.CodeBadAnswer)
				want(t, "status", e.Status, code)
				want(t, "requests", v.requests.Load(), 1)
			}
		}
		want(t, "requests elsewhere", elsewhere.requests.Load(), 0)
	})
}

// TestProxyFromEnvironment runs in a process of its own, since net/http reads the
// environment once per process.
func TestProxyFromEnvironment(t *testing.T) {
	t.Parallel()
	if os.Getenv("TEST_PROXY_CHILD") != "" {
		_, err := do(t.Context(), client(t, "http://vendor.invalid"), read())
		wantCode(t, err, "")
		return
	}
	hosts := make(chan string, 1)
	proxy := serve(t, func(w http.ResponseWriter, r *http.Request) {
		hosts <- r.Host
		ok()(w, r)
	})
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	child := exec.CommandContext(t.Context(), program, "-test.run=^TestProxyFromEnvironment$")
	child.Env = append(os.Environ(), "TEST_PROXY_CHILD=1", "HTTP_PROXY="+proxy.URL, "http_proxy="+proxy.URL, "NO_PROXY=", "no_proxy=")
	if output, err := child.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	want(t, "host asked of the proxy", <-hosts, "vendor.invalid")
}

// TestHost checks that two spellings of one account's base URL have one host.
func TestHost(t *testing.T) {
	t.Parallel()
	for base, host := range map[string]string{
		"https://host": "host", "https://HOST.:443/x": "host", "http://host:80": "host", "https://host:8443": "host:8443",
		"https://host:80": "host:80", "http://host:443": "host:443", "https://[::1]:8443": "[::1]:8443", "https://[::1]": "::1", "%": "", "": "",
	} {
		want(t, "host of "+base, transport.Host(base), host)
	}
}
