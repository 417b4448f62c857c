package server_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tokenreeve/tokenreeve/auth"
	"github.com/tokenreeve/tokenreeve/internal/server"
)

const page = "https://app.example"

// Every route checks Host and Origin, and wants a caller unless it is one of two. A route that is
// added is checked here without being named.
func TestEveryRouteIsGuarded(t *testing.T) {
	t.Parallel()
	s := startWeb(t, server.HTTPOptions{Origins: []string{page}})
	port := s.listener.Addr().(*net.TCPAddr).Port
	var open []string
	for _, route := range server.Routes() {
		if route.IsOpen {
			open = append(open, route.Path)
		}
		t.Run(route.Method+" "+route.Path, func(t *testing.T) {
			t.Parallel()
			for name, test := range map[string]struct {
				headers header
				code    string
			}{
				"foreign host":               {header{"Host": "evil.example"}, "forbidden_host"},
				"foreign host, right port":   {header{"Host": fmt.Sprintf("evil.example:%d", port)}, "forbidden_host"},
				"host that begins right":     {header{"Host": fmt.Sprintf("localhost.evil.example:%d", port)}, "forbidden_host"},
				"other port":                 {header{"Host": "localhost:1"}, "forbidden_host"},
				"no port":                    {header{"Host": "localhost"}, "forbidden_host"},
				"all addresses":              {header{"Host": fmt.Sprintf("0.0.0.0:%d", port)}, "forbidden_host"},
				"foreign origin":             {header{"Origin": "https://evil.example"}, "forbidden_origin"},
				"allowed origin by http":     {header{"Origin": "http://app.example"}, "forbidden_origin"},
				"allowed origin, other port": {header{"Origin": page + ":8443"}, "forbidden_origin"},
				"origin that begins right":   {header{"Origin": page + ".evil.example"}, "forbidden_origin"},
				"null origin":                {header{"Origin": "null"}, "forbidden_origin"},
				"empty origin":               {header{"Origin": " "}, "forbidden_origin"},
				"other port's page":          {header{"Origin": "http://localhost:1"}, "forbidden_origin"},
				"extension":                  {header{"Origin": fmt.Sprintf("chrome-extension://localhost:%d", port)}, "forbidden_origin"},
				"origin with a path":         {header{"Origin": page + "/x"}, "forbidden_origin"},
				"origin with a user":         {header{"Origin": "https://x@app.example"}, "forbidden_origin"},
			} {
				t.Run(name, func(t *testing.T) {
					response := s.do(t, route.Method, route.Path, "", test.headers)
					if allowed := response.Header.Get("Access-Control-Allow-Origin"); allowed != "" {
						t.Errorf("the origin %s is allowed", allowed)
					}
					wantRefused(t, name, response, http.StatusForbidden, test.code)
				})
			}
			preflight := s.do(t, http.MethodOptions, route.Path, "", header{"Origin": "https://evil.example", "Access-Control-Request-Method": route.Method, "Authorization": ""})
			wantRefused(t, "a preflight", preflight, http.StatusForbidden, "forbidden_origin")
			if len(preflight.Header.Values("Access-Control-Allow-Methods")) > 0 {
				t.Errorf("a preflight of a foreign page: %v", preflight.Header)
			}
			for name, headers := range map[string]header{
				"no token": {"Authorization": ""}, "wrong token": {"Authorization": "Bearer wrong"}, "allowed page without a token": {"Authorization": "", "Origin": page},
			} {
				response := s.do(t, route.Method, route.Path, "", headers)
				if got := response.StatusCode == http.StatusUnauthorized; got == route.IsOpen {
					t.Errorf("%s: status %d, open: %v", name, response.StatusCode, route.IsOpen)
				}
			}
		})
	}
	if diff := cmp.Diff([]string{"/healthz", "/readyz"}, open); diff != "" {
		t.Errorf("routes that want no caller (-want +got):\n%s", diff)
	}
}

// HTTP Basic is for the pages for people, and for nothing else.
func TestTakesBasic(t *testing.T) {
	t.Parallel()
	var pages []string
	for _, route := range server.Routes() {
		pattern := route.Method + " " + route.Path
		if server.TakesBasic(&http.Request{Pattern: pattern}) != route.IsPage {
			t.Errorf("%s takes HTTP Basic: %v", pattern, !route.IsPage)
		}
		if route.IsPage {
			pages = append(pages, pattern)
		}
	}
	if diff := cmp.Diff([]string{"GET /approve/{id}", "POST /approve/{id}"}, pages); diff != "" {
		t.Errorf("pages (-want +got):\n%s", diff)
	}
	if server.TakesBasic(&http.Request{}) {
		t.Error("a request of no route takes HTTP Basic")
	}
}

// What the caller check lets through without saying who it is, goes no further.
func TestEveryRouteWantsAPrincipal(t *testing.T) {
	t.Parallel()
	s := startWeb(t, server.HTTPOptions{Authenticate: func(next http.Handler) http.Handler { return next }})
	for _, route := range server.Routes() {
		if !route.IsOpen {
			wantRefused(t, route.Path, s.do(t, route.Method, route.Path, "", nil), http.StatusUnauthorized, "unauthorized")
		}
	}
	if err := server.HTTP(t.Context(), s.mcp, s.work, s.listener, server.HTTPOptions{}, debugLog(s.log)); err == nil {
		t.Error("HTTP serves without a check of callers")
	}
}

// A page of an allowed origin can call, and be refused; what it may send is asked without a token.
func TestCORS(t *testing.T) {
	t.Parallel()
	s := startWeb(t, server.HTTPOptions{Origins: []string{"HTTPS://App.Example:443"}})
	preflight := s.do(t, http.MethodOptions, "/mcp", "", header{
		"Origin": page, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,content-type,mcp-protocol-version", "Authorization": "",
	})
	if preflight.StatusCode != http.StatusNoContent || preflight.Header.Get("Access-Control-Allow-Origin") != page {
		t.Errorf("preflight: status %d, %v", preflight.StatusCode, preflight.Header)
	}
	for _, name := range []string{"Authorization", "Content-Type", "Mcp-Session-Id", "Mcp-Protocol-Version", "Mcp-Method", "Mcp-Name", "Last-Event-ID"} {
		if !slices.Contains(strings.Split(preflight.Header.Get("Access-Control-Allow-Headers"), ", "), name) {
			t.Errorf("a page may not send %s", name)
		}
	}
	for name, response := range map[string]*http.Response{
		"call": s.do(t, http.MethodPost, "/mcp", initializeMessage, header{"Origin": page}), "stream": s.do(t, http.MethodGet, "/sse", "", header{"Origin": page}),
		"refusal": s.do(t, http.MethodGet, "/sse", "", header{"Origin": page, "Authorization": ""}),
	} {
		if got := response.Header.Values("Access-Control-Allow-Origin"); !cmp.Equal(got, []string{page}) || response.Header.Get("Access-Control-Allow-Credentials") != "" {
			t.Errorf("%s: the origins %v are allowed", name, got)
		}
		if !strings.Contains(response.Header.Get("Access-Control-Expose-Headers"), "Mcp-Session-Id") || response.Header.Get("Vary") == "" {
			t.Errorf("%s: %v", name, response.Header)
		}
	}
	two := wantEnd(t, s.raw(t, s.rawRequest(http.MethodGet, "/healthz", "Connection: close\r\nOrigin: "+page+"\r\nOrigin: https://evil.example\r\n", "")))
	if !strings.Contains(two, "forbidden_origin") || strings.Contains(two, "Access-Control-") {
		t.Errorf("an origin that is allowed, and another: answered %q", two)
	}
}

// Pages of the server itself need no CORS, and nobody gets any where none is configured.
func TestNoCORS(t *testing.T) {
	t.Parallel()
	s := startWeb(t, server.HTTPOptions{})
	own := fmt.Sprintf("http://localhost:%d", s.listener.Addr().(*net.TCPAddr).Port)
	for _, route := range server.Routes() {
		for _, method := range []string{route.Method, http.MethodOptions} {
			response := s.do(t, method, route.Path, "", header{"Origin": own, "Access-Control-Request-Method": "POST"})
			for name := range response.Header {
				if strings.HasPrefix(name, "Access-Control-") {
					t.Errorf("%s %s: %s: %s", method, route.Path, name, response.Header.Get(name))
				}
			}
			if response.StatusCode == http.StatusForbidden || method == http.MethodOptions && response.StatusCode != http.StatusMethodNotAllowed {
				t.Errorf("%s %s of an own page: status %d", method, route.Path, response.StatusCode)
			}
		}
	}
}

// Where another host is allowed, the listener's own names are not any more.
func TestAllowedHosts(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		listen  server.ListenOptions
		allowed []string
		want    map[string]int
	}{
		"plain": {
			server.ListenOptions{Addr: "127.0.0.1:0"},
			[]string{"MCP.example", "other.example:8080", "[2001:db8::1]"},
			map[string]int{"mcp.example": 200, "mcp.example:80": 200, "other.example:8080": 200, "[2001:db8::1]": 200, "mcp.example:443": 403, "other.example": 403, "": 403},
		},
		"behind a proxy that does TLS": {
			server.ListenOptions{Addr: "127.0.0.1:0", BehindTLSProxy: true},
			[]string{"mcp.example"},
			map[string]int{"mcp.example": 200, "mcp.example:443": 200, "mcp.example:80": 403, "": 403},
		},
		"address of its own": {
			server.ListenOptions{Addr: "127.0.0.2:0"}, nil, map[string]int{"": 200, "evil.example": 403},
		},
		"wildcard": {
			server.ListenOptions{Addr: "0.0.0.0:0", Authenticated: true, BehindTLSProxy: true},
			nil,
			map[string]int{"localhost:PORT": 200, "127.0.0.1:PORT": 200, "[::1]:PORT": 200, "localhost": 403, "": 403, "evil.example": 403, "evil.example:PORT": 403},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startWebOn(t, test.listen, server.HTTPOptions{Hosts: test.allowed})
			_, port, _ := net.SplitHostPort(s.listener.Addr().String())
			if strings.HasPrefix(test.listen.Addr, "0.0.0.0") {
				s.log.await(t, "--allowed-hosts")
			}
			for host, want := range test.want {
				host = strings.Replace(host, "PORT", port, 1)
				if host == "" {
					host = s.listener.Addr().String()
				}
				if got := s.do(t, http.MethodGet, "/healthz", "", header{"Host": host}).StatusCode; got != want {
					t.Errorf("Host %s: status %d, want %d", host, got, want)
				}
			}
			// The library has a check of its own, which must not undo what the operator allowed.
			if len(test.allowed) > 0 {
				if got := s.do(t, http.MethodGet, "/sse", "", header{"Host": test.allowed[0]}).StatusCode; got != http.StatusOK {
					t.Errorf("stream by an allowed name: status %d", got)
				}
				if got := s.do(t, http.MethodPost, "/mcp", initializeMessage, header{"Host": test.allowed[0]}).StatusCode; got != http.StatusOK {
					t.Errorf("initialize by an allowed name: status %d", got)
				}
			}
		})
	}
}

func TestTransports(t *testing.T) {
	t.Parallel()
	for transport, want := range map[string]map[string]bool{
		server.TransportSSE: {"/sse": true, "/mcp": false}, server.TransportHTTP: {"/sse": false, "/mcp": true},
		server.TransportBoth: {"/sse": true, "/mcp": true}, "": {"/sse": true, "/mcp": true},
	} {
		t.Run(transport, func(t *testing.T) {
			t.Parallel()
			s := startWeb(t, server.HTTPOptions{Transport: transport})
			for path, offered := range want {
				if got := s.do(t, http.MethodGet, path, "", nil).StatusCode; (got != http.StatusNotFound) != offered {
					t.Errorf("%s: status %d, offered: %v", path, got, offered)
				}
			}
			if got := s.do(t, http.MethodGet, "/readyz", "", header{"Authorization": ""}).StatusCode; got != http.StatusOK {
				t.Errorf("/readyz: status %d", got)
			}
		})
	}
}

// What is wrong with a message itself is said before anything happens, on both transports.
func TestMessages(t *testing.T) {
	t.Parallel()
	s := startWeb(t, server.HTTPOptions{})
	_, messages, _ := s.open(t)
	session := s.initialize(t, nil)
	for name, test := range map[string]struct {
		body      string
		headers   header
		sse, http int
	}{
		"a ping":               {ping, nil, 202, 200},
		"a notification":       {`{"jsonrpc":"2.0","method":"notifications/initialized"}`, nil, 202, 202},
		"an answer":            {`{"jsonrpc":"2.0","id":7,"result":{}}`, nil, 202, 202},
		"with a charset":       {ping, header{"Content-Type": "application/json; charset=utf-8"}, 202, 200},
		"no type":              {ping, header{"Content-Type": ""}, 415, 415},
		"a form":               {ping, header{"Content-Type": "application/x-www-form-urlencoded"}, 415, 415},
		"text":                 {ping, header{"Content-Type": "text/plain"}, 415, 415},
		"nearly JSON":          {ping, header{"Content-Type": "application/jsonx"}, 415, 415},
		"just 1 MiB":           {ping + strings.Repeat(" ", 1<<20-len(ping)), nil, 202, 200},
		"over 1 MiB":           {ping + strings.Repeat(" ", 1<<20), nil, 413, 413},
		"not JSON":             {"{", nil, 400, 400},
		"nothing":              {"", nil, 400, 400},
		"a list":               {"[" + ping + "]", nil, 400, 400},
		"another JSON-RPC":     {`{"jsonrpc":"1.0","id":1,"method":"ping"}`, nil, 400, 200}, // an error, as the protocol says
		"unfit notification":   {`{"jsonrpc":"2.0","method":"notifications/initialized","params":7}`, nil, 202, 200},
		"no version of itself": {`{"id":1,"method":"ping"}`, nil, 400, 200},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := s.do(t, http.MethodPost, messages, test.body, test.headers).StatusCode; got != test.sse {
				t.Errorf("/message: status %d, want %d", got, test.sse)
			}
			headers := in(session)
			for name, value := range test.headers {
				headers[name] = value
			}
			if got := s.do(t, http.MethodPost, "/mcp", test.body, headers).StatusCode; got != test.http {
				t.Errorf("/mcp: status %d, want %d", got, test.http)
			}
		})
	}
}

// Methods and paths beside the routes are refused, without a stream that nobody reads.
func TestOtherRequests(t *testing.T) {
	t.Parallel()
	s := startWeb(t, server.HTTPOptions{MaxSessions: 1})
	session := s.initialize(t, nil)
	for request, want := range map[string]int{
		"POST /sse": 405, "HEAD /sse": 405, "HEAD /mcp": 405, "PUT /mcp": 405, "GET /message": 405, "DELETE /sse": 405,
		"GET /": 404, "POST /metrics": 405, "GET /mcp/": 404, "GET /sse/x": 404,
	} {
		method, path, _ := strings.Cut(request, " ")
		if got := s.do(t, method, path, "", in(session)).StatusCode; got != want {
			t.Errorf("%s: status %d, want %d", request, got, want)
		}
	}
	for _, method := range []string{http.MethodGet, http.MethodDelete} {
		wantRefused(t, method, s.do(t, method, "/mcp", "a body", in(session)), http.StatusBadRequest, "unexpected_body")
	}
}

// A request's headers are bounded like its body, whoever sends it.
func TestHugeHeader(t *testing.T) {
	t.Parallel()
	s := startWeb(t, server.HTTPOptions{})
	for size, want := range map[int]string{32 << 10: " 200 OK", 80 << 10: " 431 "} {
		answer := wantEnd(t, s.raw(t, s.rawRequest(http.MethodGet, "/healthz", "Connection: close\r\nX-Huge: "+strings.Repeat("x", size)+"\r\n", "")))
		if !strings.HasPrefix(answer, "HTTP/1.1"+want) {
			t.Errorf("a header of %d bytes: answered %q, want%s", size, answer, want)
		}
	}
}

// TestWholeServer: what is asked of the server, and of no path, is judged like every other request.
func TestWholeServer(t *testing.T) {
	t.Parallel()
	s := startWeb(t, server.HTTPOptions{})
	own := s.listener.Addr().String()
	for name, test := range map[string]struct{ host, origin, want string }{
		"own":            {own, "", "HTTP/1.1 400 "},
		"foreign host":   {"evil.example", "", "forbidden_host"},
		"foreign origin": {own, "https://evil.example", "forbidden_origin"},
	} {
		request := "OPTIONS * HTTP/1.1\r\nHost: " + test.host + "\r\nConnection: close\r\n"
		if test.origin != "" {
			request += "Origin: " + test.origin + "\r\n"
		}
		answer, err := io.ReadAll(s.raw(t, request+"\r\n"))
		if err != nil || !strings.Contains(string(answer), test.want) {
			t.Errorf("%s: %v, answered %q", name, err, answer)
		}
	}
	s.log.await(t, "method=OPTIONS route=other")
}

// TestHiddenRequest: what a proxy may have taken for the rest of a body is no request.
func TestHiddenRequest(t *testing.T) {
	t.Parallel()
	s := startWeb(t, server.HTTPOptions{})
	hidden := "GET /healthz HTTP/1.1\r\nHost: " + s.listener.Addr().String() + "\r\nConnection: close\r\n\r\n"
	chunks := func(body string) string { return fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(body), body) }
	for name, body := range map[string]string{"refused": chunks("x"), "answered": chunks(initializeMessage)} {
		request := s.rawRequest(http.MethodPost, "/mcp", fmt.Sprintf("Content-Type: application/json\r\nAccept: application/json, text/event-stream\r\nTransfer-Encoding: chunked\r\nContent-Length: %d\r\n", len(body)+len(hidden)), body+hidden)
		answers, err := io.ReadAll(s.raw(t, request))
		if err != nil || strings.Count(string(answers), "HTTP/1.1 ") != 1 || !strings.Contains(string(answers), "Connection: close\r\n") {
			t.Errorf("%s: %v\n%s", name, err, answers)
		}
	}
}

// Refusals hold nothing of the request.
func TestRefusalsEchoNothing(t *testing.T) {
	t.Parallel()
	bearer, err := auth.NewBearer(token)
	if err != nil {
		t.Fatal(err)
	}
	s := startWeb(t, server.HTTPOptions{Authenticate: auth.Middleware(bearer, auth.Options{})})
	const planted = "planted-evil"
	for name, response := range map[string]*http.Response{
		"host":           s.do(t, http.MethodGet, "/sse", "", header{"Host": planted}),
		"origin":         s.do(t, http.MethodGet, "/sse", "", header{"Origin": "https://" + planted}),
		"token":          s.do(t, http.MethodGet, "/sse", "", header{"Authorization": "Bearer " + planted}),
		"token in a URL": s.do(t, http.MethodGet, "/sse?token="+token+"&access_token="+planted, "", header{"Authorization": ""}),
		"scheme":         s.do(t, http.MethodGet, "/mcp", "", header{"Authorization": "Basic " + planted}),
		"session":        s.do(t, http.MethodGet, "/mcp", "", in(planted)),
		"message":        s.do(t, http.MethodPost, "/message?sessionId="+planted, planted, nil),
		"type":           s.do(t, http.MethodPost, "/mcp", planted, header{"Content-Type": planted}),
		"path":           s.do(t, http.MethodGet, "/"+planted, "", nil),
	} {
		body, err := io.ReadAll(response.Body)
		if err != nil || response.StatusCode < 400 || strings.Contains(string(body), planted) || strings.Contains(string(body), token) {
			t.Errorf("%s: status %d, %s (%v)", name, response.StatusCode, body, err)
		}
	}
}
