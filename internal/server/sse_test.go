package server_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/tokenreeve/tokenreeve/auth"
	"github.com/tokenreeve/tokenreeve/internal/server"
)

const token = "a-bearer-token-for-tests-0123456789abcdef"

// sse is a running SSE server.
type sse struct {
	*slow
	url      string
	listener net.Listener
	log      *text
	stop     context.CancelFunc
	ended    chan error
}

func startSSE(t *testing.T, patience time.Duration) *sse {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	listener, err := server.Listen(ctx, "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	bearer, err := auth.NewBearer(token)
	if err != nil {
		t.Fatal(err)
	}
	s := &sse{slow: newSlow(), url: "http://" + listener.Addr().String(), listener: listener, log: newText(), stop: stop, ended: make(chan error, 1)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.ended <- server.SSE(ctx, s.mcp, s.work, listener, bearer, patience, debugLog(s.log))
	}()
	t.Cleanup(func() {
		stop()
		receive(t, done, "the end of SSE")
	})
	return s
}

// do sends a request with the token, unless the headers say otherwise; an empty
// value removes a header.
func (s *sse) do(t *testing.T, method, path, body string, header map[string]string) *http.Response {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, s.url+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+token)
	request.Header.Set("Content-Type", "application/json")
	for name, value := range header {
		if request.Header.Set(name, value); value == "" {
			request.Header.Del(name)
		}
		if name == "Host" {
			request.Host = value
		}
	}
	response, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(request)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	t.Cleanup(func() { _ = response.Body.Close() })
	return response
}

// open opens an event stream and returns what it says and the path for messages.
func (s *sse) open(t *testing.T) (events *text, messages string, hangUp func()) {
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
			events = newText()
			go func() {
				_, _ = io.Copy(events, reader)
				_, _ = io.WriteString(events, "END OF STREAM")
			}()
			return events, path, func() { _ = response.Body.Close() }
		}
	}
}

func (s *sse) call(t *testing.T, messages, tool string) {
	t.Helper()
	body := fmt.Sprintf(`{"jsonrpc":"2.0","id":%q,"method":"tools/call","params":{"name":%q}}`, tool, tool)
	if got := s.do(t, http.MethodPost, messages, body, nil).StatusCode; got != http.StatusAccepted {
		t.Fatalf("message: status %d", got)
	}
	receive(t, s.began, tool)
}

func TestListenRefusesWhatIsNotLoopback(t *testing.T) {
	t.Parallel()
	for addr, want := range map[string]string{
		"0.0.0.0:0": "not a loopback address", ":0": "not a loopback address", "[::]:0": "not a loopback address",
		"192.0.2.1:0": "not a loopback address", "example.com:0": "not a loopback address", "localhost.example.com:0": "not a loopback address",
		"127.0.0.1": "not HOST:PORT", "7777": "not HOST:PORT", "": "not HOST:PORT",
		"127.0.0.1:0": "", "127.0.0.2:0": "", "localhost:0": "",
	} {
		t.Run(addr, func(t *testing.T) {
			t.Parallel()
			listener, err := server.Listen(t.Context(), addr)
			if err == nil {
				_ = listener.Close()
			}
			if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
				t.Errorf("Listen: %v, want %q", err, want)
			}
		})
	}
}

// Every route is guarded: Host and Origin first, then the caller, then the
// message itself.
func TestSSERoutes(t *testing.T) {
	t.Parallel()
	s := startSSE(t, longPatience)
	_, messages, _ := s.open(t)
	port := s.listener.Addr().(*net.TCPAddr).Port
	own := fmt.Sprintf("http://localhost:%d", port)
	const ping = `{"jsonrpc":"2.0","id":1,"method":"ping"}`
	type h = map[string]string
	for name, test := range map[string]struct {
		method, path, body string
		header             h
		want               int
	}{
		"health without a token":    {"GET", "/healthz", "", h{"Authorization": ""}, 200},
		"ready without a token":     {"GET", "/readyz", "", h{"Authorization": ""}, 200},
		"stream without a token":    {"GET", "/sse", "", h{"Authorization": ""}, 401},
		"stream, wrong token":       {"GET", "/sse", "", h{"Authorization": "Bearer wrong-" + token}, 401},
		"stream, wrong scheme":      {"GET", "/sse", "", h{"Authorization": "Basic " + token}, 401},
		"stream, token in the URL":  {"GET", "/sse?token=" + token + "&access_token=" + token, "", h{"Authorization": ""}, 401},
		"message without a token":   {"POST", messages, ping, h{"Authorization": ""}, 401},
		"message, wrong token":      {"POST", messages, ping, h{"Authorization": "Bearer x"}, 401},
		"health, foreign host":      {"GET", "/healthz", "", h{"Host": "evil.example"}, 403},
		"ready, foreign host":       {"GET", "/readyz", "", h{"Host": "evil.example"}, 403},
		"stream, foreign host":      {"GET", "/sse", "", h{"Host": "evil.example"}, 403},
		"stream, other port":        {"GET", "/sse", "", h{"Host": "localhost:1"}, 403},
		"message, foreign host":     {"POST", messages, ping, h{"Host": "evil.example"}, 403},
		"unknown, foreign host":     {"GET", "/", "", h{"Host": "evil.example"}, 403},
		"health, foreign origin":    {"GET", "/healthz", "", h{"Origin": "https://evil.example"}, 403},
		"stream, foreign origin":    {"GET", "/sse", "", h{"Origin": "https://evil.example"}, 403},
		"stream, null origin":       {"GET", "/sse", "", h{"Origin": "null"}, 403},
		"stream, other port's page": {"GET", "/sse", "", h{"Origin": "http://localhost:1"}, 403},
		"message, foreign origin":   {"POST", messages, ping, h{"Origin": "https://evil.example"}, 403},
		"preflight, foreign origin": {"OPTIONS", "/message", "", h{"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}, 403},
		"message, own origin":       {"POST", messages, ping, h{"Origin": own, "Host": fmt.Sprintf("localhost:%d", port)}, 202},
		"message":                   {"POST", messages, ping, nil, 202},
		"message with a charset":    {"POST", messages, ping, h{"Content-Type": "application/json; charset=utf-8"}, 202},
		"message, no type":          {"POST", messages, ping, h{"Content-Type": ""}, 415},
		"message, form":             {"POST", messages, ping, h{"Content-Type": "application/x-www-form-urlencoded"}, 415},
		"message, text":             {"POST", messages, ping, h{"Content-Type": "text/plain"}, 415},
		"message, nearly JSON":      {"POST", messages, ping, h{"Content-Type": "application/jsonx"}, 415},
		"message, just 1 MiB":       {"POST", messages, ping + strings.Repeat(" ", 1<<20-len(ping)), nil, 202},
		"message over 1 MiB":        {"POST", messages, ping + strings.Repeat(" ", 1<<20), nil, 413},
		"message, not JSON":         {"POST", messages, "{", nil, 400},
		"message, no session":       {"POST", "/message", ping, nil, 400},
		"message, unknown session":  {"POST", "/message?sessionId=00000000-0000-4000-8000-000000000000", ping, nil, 400},
		"get of messages":           {"GET", messages, "", nil, 405},
		"post of the stream":        {"POST", "/sse", "", nil, 405},
		"unknown route":             {"GET", "/metrics", "", nil, 404},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			response := s.do(t, test.method, test.path, test.body, test.header)
			if response.StatusCode != test.want {
				t.Errorf("status %d, want %d", response.StatusCode, test.want)
			}
			if allowed := response.Header.Get("Access-Control-Allow-Origin"); allowed != "" && allowed != own {
				t.Errorf("Access-Control-Allow-Origin: %s", allowed)
			}
			if test.want == http.StatusOK || test.want == http.StatusAccepted {
				return
			}
			body, err := io.ReadAll(response.Body)
			if err != nil || strings.Contains(string(body), token) || strings.Contains(string(body), "evil") {
				t.Errorf("the answer echoes the request: %s (%v)", body, err)
			}
		})
	}
}

// A stop finishes what is under way, answers it, and takes nothing new.
func TestSSEStop(t *testing.T) {
	t.Parallel()
	s := startSSE(t, longPatience)
	events, messages, _ := s.open(t)
	s.open(t) // another client, who asks nothing
	const calls = 60
	for range calls {
		s.call(t, messages, "read")
	}
	s.stop()
	s.log.await(t, "stopping")
	for path, want := range map[string]int{"/healthz": 200, "/readyz": 503, "/sse": 503} {
		if got := s.do(t, http.MethodGet, path, "", nil).StatusCode; got != want {
			t.Errorf("%s while stopping: status %d, want %d", path, got, want)
		}
	}
	if got := s.do(t, http.MethodPost, messages, `{"jsonrpc":"2.0","id":1,"method":"ping"}`, nil).StatusCode; got != http.StatusServiceUnavailable {
		t.Errorf("message while stopping: status %d, want 503", got)
	}
	close(s.release)
	if err := receive(t, s.ended, "the end of SSE"); err != nil {
		t.Errorf("SSE: %v", err)
	}
	events.await(t, "END OF STREAM")
	if got := strings.Count(events.String(), "finished"); got != calls {
		t.Errorf("%d calls were answered, want %d:\n%s", got, calls, events)
	}
}

// Beyond the patience a read is cut short, a change never.
func TestSSEPatience(t *testing.T) {
	t.Parallel()
	s := startSSE(t, time.Millisecond)
	events, messages, _ := s.open(t)
	s.call(t, messages, "read")
	s.call(t, messages, "change")
	s.stop()
	events.await(t, "cut short")
	close(s.release)
	if err := receive(t, s.ended, "the end of SSE"); err != nil {
		t.Errorf("SSE: %v", err)
	}
	events.await(t, "END OF STREAM")
	if !strings.Contains(events.String(), "finished") {
		t.Errorf("the change was not waited for:\n%s", events)
	}
}

// A client that hung up is not waited for, its change is, beyond any patience.
func TestSSEStopAfterAClientHungUp(t *testing.T) {
	t.Parallel()
	for _, patience := range []time.Duration{time.Millisecond, longPatience} {
		t.Run(patience.String(), func(t *testing.T) {
			t.Parallel()
			s := startSSE(t, patience)
			_, messages, hangUp := s.open(t)
			s.call(t, messages, "change")
			hangUp()
			s.stop()
			s.log.await(t, "stopping")
			if patience < longPatience {
				s.log.await(t, "too long")
			}
			yield()
			select {
			case err := <-s.ended:
				t.Fatalf("SSE ended before the change: %v", err)
			default:
			}
			close(s.release)
			if err := receive(t, s.ended, "the end of SSE"); err != nil {
				t.Errorf("SSE: %v", err)
			}
		})
	}
}

// Where the listener fails, changes are finished all the same.
func TestSSEListenerFails(t *testing.T) {
	t.Parallel()
	s := startSSE(t, longPatience)
	events, messages, _ := s.open(t)
	s.call(t, messages, "change")
	if err := s.listener.Close(); err != nil {
		t.Fatal(err)
	}
	s.log.await(t, "stopping")
	close(s.release)
	if err := receive(t, s.ended, "the end of SSE"); !errors.Is(err, net.ErrClosed) {
		t.Errorf("SSE: %v, want the listener's error", err)
	}
	events.await(t, "finished")
}
