package e2e_test

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/mark3labs/mcp-go/client"
	"github.com/mark3labs/mcp-go/client/transport"
	"github.com/mark3labs/mcp-go/mcp"
)

// listening is a binary that serves over HTTP.
type listening struct {
	*process
	url, token string
	http       *http.Client
}

// listen starts the binary on a free port and reads URL and token as a person
// would, from stderr.
func listen(t *testing.T, v *vendors, env []string, args ...string) *listening {
	t.Helper()
	args = append([]string{"serve", "--listen", "127.0.0.1:0", "--config", v.config(t, nil), "--log-level", "debug"}, args...)
	return listens(t, env, args...)
}

// listens starts the binary with these arguments alone.
func listens(t *testing.T, env []string, args ...string) *listening {
	t.Helper()
	return listensBinary(t, binary(t), env, args...)
}

// listensBinary starts one of the binaries.
func listensBinary(t *testing.T, path string, env []string, args ...string) *listening {
	t.Helper()
	s := &listening{process: startBinary(t, path, env, args...), http: http.DefaultClient}
	serves := regexp.MustCompile(`tokenreeve serves (https?://\S+:\d+)/\S+\n`)
	s.err.await(t, "where it serves", serves.MatchString)
	t.Cleanup(func() { _ = s.cmd.Process.Signal(terminate) })
	s.url = serves.FindStringSubmatch(s.err.String())[1]
	if configured := slices.IndexFunc(env, func(e string) bool { return strings.HasPrefix(e, "TOKENREEVE_BEARER_TOKEN=") }); configured >= 0 {
		_, s.token, _ = strings.Cut(env[configured], "=")
		return s
	}
	shown := regexp.MustCompile(`bearer token, shown once: (\S+)\n`)
	s.err.await(t, "the token", shown.MatchString)
	s.token = shown.FindStringSubmatch(s.err.String())[1]
	return s
}

// sse connects the library's client over server-sent events.
func (s *listening) sse(t *testing.T, version string) *client.Client {
	t.Helper()
	c, err := client.NewSSEMCPClient(s.url+"/sse", transport.WithHeaders(s.authorization()), transport.WithHTTPClient(s.http))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	c.OnConnectionLost(func(error) {}) // else it complains on the test's output
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	initialize(t, c, version)
	return c
}

// streamable connects the library's client over Streamable HTTP; handler stands for the user.
func (s *listening) streamable(t *testing.T, version string, options ...client.ClientOption) *client.Client {
	t.Helper()
	over, err := transport.NewStreamableHTTP(s.url+"/mcp",
		transport.WithHTTPHeaders(s.authorization()), transport.WithHTTPBasicClient(s.http), transport.WithHTTPLogger(slog.New(slog.DiscardHandler)))
	if err != nil {
		t.Fatal(err)
	}
	c := client.NewClient(over, options...)
	t.Cleanup(func() { _ = c.Close() })
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	initialize(t, c, version)
	return c
}

func (s *listening) authorization() map[string]string {
	return map[string]string{"Authorization": "Bearer " + s.token}
}

// initializeMessage begins a session of Streamable HTTP.
const initializeMessage = `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"` + legacy + `","capabilities":{},"clientInfo":{"name":"test","version":"0"}}}`

// send sends a request without a token, with a body that is JSON unless it is "", as change has changed
// it. It follows no redirect, and returns the answer with its body, which must end.
func (s *listening) send(t *testing.T, method, path, body string, change func(*http.Request)) (*http.Response, string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, s.url+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if body != "" {
		request.Header.Set("Content-Type", "application/json")
	}
	change(request)
	direct := http.Client{Transport: s.http.Transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	response, err := direct.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response, string(data)
}

func bearerOf(token string) func(*http.Request) {
	return func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+token) }
}

// get asks a route, with the token or without, and returns status and body.
func (s *listening) get(t *testing.T, path string, withToken bool) (int, string) {
	t.Helper()
	present := func(*http.Request) {}
	if withToken {
		present = bearerOf(s.token)
	}
	response, body := s.send(t, http.MethodGet, path, "", present)
	return response.StatusCode, body
}

// answered is the answer to a call that runs beside the test.
type answered struct {
	content map[string]any
	text    string
	err     error
}

// background calls a tool while the test goes on.
func background(ctx context.Context, c *client.Client, tool string, arguments map[string]any) <-chan answered {
	answers := make(chan answered, 1)
	go func() {
		request := mcp.CallToolRequest{}
		request.Params.Name, request.Params.Arguments = tool, arguments
		result, err := c.CallTool(ctx, request)
		a := answered{err: err}
		if err == nil {
			a.text = result.Content[0].(mcp.TextContent).Text
			if !result.IsError {
				a.content, _ = result.StructuredContent.(map[string]any)
			}
		}
		answers <- a
	}()
	return answers
}
