package server_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/mark3labs/mcp-go/client"
	"github.com/mark3labs/mcp-go/client/transport"
	"github.com/mark3labs/mcp-go/mcp"

	"github.com/tokenreeve/tokenreeve/auth"
	"github.com/tokenreeve/tokenreeve/internal/server"
	"github.com/tokenreeve/tokenreeve/tools"
)

// The tokens of the two callers.
const (
	token      = "alices-bearer-token-for-tests-0123456789"
	otherToken = "bobs-bearer-token-for-tests-0123456789ab"
)

// The two eras of the protocol.
const (
	legacy = mcp.LATEST_LEGACY_PROTOCOL_VERSION
	modern = mcp.ProtocolVersion20260728
)

const ping = `{"jsonrpc":"2.0","id":1,"method":"ping"}`

// callers tells alice and bob apart.
func callers(next http.Handler) http.Handler {
	names := map[string]string{"Bearer " + token: "alice", "Bearer " + otherToken: "bob"}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name, ok := names[r.Header.Get("Authorization")]
		if !ok {
			http.Error(w, "who is it?", http.StatusUnauthorized)
			return
		}
		next.ServeHTTP(w, r.WithContext(auth.WithPrincipal(r.Context(), auth.NewPrincipal(name, auth.MethodStatic, auth.Grant{Role: auth.RoleAdmin}))))
	})
}

// web is a running HTTP server.
type web struct {
	*slow
	url      string
	listener *server.Listener
	log      *text
	client   *http.Client
	stop     context.CancelFunc
	ended    chan error
}

// startWeb serves on a loopback address.
func startWeb(t *testing.T, o server.HTTPOptions) *web {
	t.Helper()
	return startWebOn(t, server.ListenOptions{Addr: "127.0.0.1:0", Authenticated: true}, o)
}

func startWebOn(t *testing.T, l server.ListenOptions, o server.HTTPOptions) *web {
	t.Helper()
	return startWebWith(t, newSlow(), l, o)
}

func startWebWith(t *testing.T, s *slow, l server.ListenOptions, o server.HTTPOptions) *web {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	log := newText()
	listener, err := server.Listen(ctx, l, debugLog(log))
	if err != nil {
		t.Fatal(err)
	}
	if o.Authenticate == nil {
		o.Authenticate = callers
	}
	if o.Patience == 0 {
		o.Patience = longPatience
	}
	w := &web{slow: s, url: listener.URL, listener: listener, log: log, stop: stop, ended: make(chan error, 1)}
	w.client = &http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.ended <- server.HTTP(ctx, w.mcp, w.work, listener, o, debugLog(log))
	}()
	t.Cleanup(func() {
		stop()
		receive(t, done, "the end of HTTP")
	})
	return w
}

// finish stops the server and waits for its end.
func (s *web) finish(t *testing.T) {
	t.Helper()
	s.stop()
	if err := receive(t, s.ended, "the end of HTTP"); err != nil {
		t.Errorf("HTTP: %v", err)
	}
}

type header = map[string]string

// do sends a request with alice's token, unless the headers say otherwise; an empty
// value removes a header.
func (s *web) do(t *testing.T, method, path, body string, headers header) *http.Response {
	t.Helper()
	response, err := s.try(t, method, path, strings.NewReader(body), headers)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	return response
}

func (s *web) try(t *testing.T, method, path string, body io.Reader, headers header) (*http.Response, error) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, s.url+path, body)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+token)
	if method == http.MethodPost {
		request.Header.Set("Content-Type", "application/json")
	}
	for name, value := range headers {
		if request.Header.Set(name, value); value == "" {
			request.Header.Del(name)
		}
		if name == "Host" {
			request.Host = value
		}
	}
	response, err := s.client.Do(request)
	if err == nil {
		t.Cleanup(func() { _ = response.Body.Close() })
	}
	return response, err
}

// as is the header of bob's token.
func as(token string) header { return header{"Authorization": "Bearer " + token} }

// refusal reads the code of an answer that refuses.
func refusal(t *testing.T, response *http.Response) string {
	t.Helper()
	var problem struct{ Code, Message string }
	body, err := io.ReadAll(response.Body)
	if err != nil || json.Unmarshal(body, &problem) != nil || problem.Message == "" {
		t.Errorf("status %d, %s (%v), want a code and a message", response.StatusCode, body, err)
	}
	return problem.Code
}

func wantRefused(t *testing.T, what string, response *http.Response, status int, code string) {
	t.Helper()
	if got := refusal(t, response); response.StatusCode != status || got != code {
		t.Errorf("%s: status %d %s, want %d %s", what, response.StatusCode, got, status, code)
	}
}

// open opens an event stream and returns what it says and the path for messages.
func (s *web) open(t *testing.T) (events *text, messages string, hangUp func()) {
	t.Helper()
	response := s.do(t, http.MethodGet, "/sse", "", nil)
	if allowed := response.Header.Get("Access-Control-Allow-Origin"); allowed != "" {
		t.Errorf("the stream allows the origin %s", allowed)
	}
	reader := bufio.NewReader(response.Body)
	for {
		line, err := reader.ReadString('\n')
		if err != nil {
			t.Fatalf("event stream: status %d, %v", response.StatusCode, err)
		}
		if path, ok := strings.CutPrefix(strings.TrimSpace(line), "data: "); ok {
			return follow(reader), path, func() { _ = response.Body.Close() }
		}
	}
}

// follow collects what a stream says, and how it ends.
func follow(stream io.Reader) *text {
	events := newText()
	go func() {
		_, err := io.Copy(events, stream)
		_, _ = fmt.Fprintf(events, "END OF STREAM %v", err)
	}()
	return events
}

const cleanEnd = "END OF STREAM <nil>"

func callOf(tool string) string {
	return fmt.Sprintf(`{"jsonrpc":"2.0","id":%q,"method":"tools/call","params":{"name":%q}}`, tool, tool)
}

// call calls a tool over an event stream, and waits until it has begun.
func (s *web) call(t *testing.T, messages, tool string) {
	t.Helper()
	if got := s.do(t, http.MethodPost, messages, callOf(tool), nil).StatusCode; got != http.StatusAccepted {
		t.Fatalf("message: status %d", got)
	}
	receive(t, s.began, tool)
}

// initialize begins a session of Streamable HTTP and returns its id.
func (s *web) initialize(t *testing.T, headers header) string {
	t.Helper()
	response := s.do(t, http.MethodPost, "/mcp", initializeMessage, headers)
	id := response.Header.Get(mcp.HeaderSessionID)
	if body, err := io.ReadAll(response.Body); err != nil || response.StatusCode != http.StatusOK || id == "" {
		t.Fatalf("initialize: status %d, session %q, %s (%v)", response.StatusCode, id, body, err)
	}
	return id
}

const initializeMessage = `{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"` + legacy +
	`","capabilities":{},"clientInfo":{"name":"test","version":"0"}}}`

// in names a session.
func in(session string) header { return header{mcp.HeaderSessionID: session} }

// modernly is a message of the newest protocol, and what HTTP says of it.
func modernly(method, name string, id int) (body string, headers header) {
	params := fmt.Sprintf(`"_meta":{"io.modelcontextprotocol/protocolVersion":%q,"io.modelcontextprotocol/clientInfo":{"name":"test","version":"0"},"io.modelcontextprotocol/clientCapabilities":{}}`, modern)
	headers = header{mcp.HeaderProtocolVersion: modern, mcp.HeaderMethod: method}
	if name != "" {
		params += fmt.Sprintf(`,"name":%q`, name)
		headers[mcp.HeaderName] = name
	}
	return fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":%q,"params":{%s}}`, id, method, params), headers
}

// streamable connects the library's client over Streamable HTTP.
func (s *web) streamable(t *testing.T, version, token string, options ...transport.StreamableHTTPCOption) *client.Client {
	t.Helper()
	options = append(options, transport.WithHTTPHeaders(header{"Authorization": "Bearer " + token}), transport.WithHTTPLogger(slog.New(slog.DiscardHandler)))
	c, err := client.NewStreamableHttpClient(s.url+"/mcp", options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	s.connect(t, c, version)
	return c
}

func (s *web) connect(t *testing.T, c *client.Client, version string) {
	t.Helper()
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	request := mcp.InitializeRequest{}
	request.Params.ProtocolVersion = version
	request.Params.ClientInfo = mcp.Implementation{Name: "test", Version: "0"}
	result, err := c.Initialize(t.Context(), request)
	if err != nil || result.ProtocolVersion != version {
		t.Fatalf("initialize: %+v, %v, want protocol %s", result, err, version)
	}
}

// answer calls a tool and returns its text.
func answer(ctx context.Context, c *client.Client, tool string) (string, error) {
	request := mcp.CallToolRequest{}
	request.Params.Name = tool
	result, err := c.CallTool(ctx, request)
	if err != nil {
		return "", err
	}
	return result.Content[0].(mcp.TextContent).Text, nil
}

// big adds a tool whose answer has so many bytes.
func (s *web) big(size int) {
	text := string(bytes.Repeat([]byte("x"), size))
	s.mcp.AddTool(mcp.NewTool("big"), func(context.Context, mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		return mcp.NewToolResultText(text), nil
	})
}

// raw sends bytes and returns the connection, whose client never reads more than asked.
func (s *web) raw(t *testing.T, request string) *net.TCPConn {
	t.Helper()
	conn, err := net.Dial("tcp", s.listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	tcp := conn.(*net.TCPConn)
	_ = tcp.SetReadBuffer(4 << 10)
	if _, err := io.WriteString(conn, request); err != nil {
		t.Fatal(err)
	}
	return tcp
}

// rawRequest is a request as it goes over the wire.
func (s *web) rawRequest(method, path, more, body string) string {
	return fmt.Sprintf("%s %s HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\n%s\r\n%s", method, path, s.listener.Addr(), token, more, body)
}

func problemOf(t *testing.T, text string) tools.Problem {
	t.Helper()
	var p tools.Problem
	if err := json.Unmarshal([]byte(text), &p); err != nil {
		t.Errorf("%s: %v, want a problem", text, err)
	}
	return p
}
