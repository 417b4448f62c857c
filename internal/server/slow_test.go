package server_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/mark3labs/mcp-go/mcp"

	"github.com/tokenreeve/tokenreeve/internal/server"
)

// short is how long clients have in tests in which some take too long; the others are in time also
// on a machine that has other things to do.
const short = time.Second

// wantEnd reads what the server still says until it ends the connection.
func wantEnd(t *testing.T, conn net.Conn) string {
	t.Helper()
	_ = conn.SetReadDeadline(time.Now().Add(hang))
	said, err := io.ReadAll(conn)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the connection was kept; the server said %q", said)
	}
	return string(said)
}

// A client that does not send what it promised is not waited for, caller or not.
func TestSlowSenders(t *testing.T) {
	t.Parallel()
	s := startWeb(t, server.HTTPOptions{Times: server.Times{Read: short, Connection: short}})
	const promise = "Content-Type: application/json\r\nContent-Length: 100\r\n"
	for name, test := range map[string]struct{ request, want string }{
		"half a header":            {"GET /healthz HTTP/1.1\r\nHost:", ""},
		"no body":                  {s.rawRequest("POST", "/mcp", promise, ""), "broken_off"},
		"half a body":              {s.rawRequest("POST", "/message?sessionId=x", promise, "{"), "unknown_session"},
		"no body, no caller":       {strings.Replace(s.rawRequest("POST", "/mcp", promise, ""), token, "x", 1), "401"},
		"no body, open route":      {s.rawRequest("GET", "/healthz", promise, ""), "unexpected_body"},
		"no body, no route":        {s.rawRequest("POST", "/nowhere", promise, ""), "404"},
		"no body, foreign host":    {strings.Replace(s.rawRequest("POST", "/mcp", promise, ""), "Host: ", "Host: x", 1), "forbidden_host"},
		"chunks that never come":   {s.rawRequest("POST", "/mcp", "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n", ""), "broken_off"},
		"a body that is awaited":   {s.rawRequest("POST", "/mcp", promise+"Expect: 100-continue\r\n", ""), "broken_off"},
		"nothing after the answer": {s.rawRequest("GET", "/healthz", "", ""), "ok"},
		"nothing at all":           {"", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := wantEnd(t, s.raw(t, test.request)); !strings.Contains(got, test.want) {
				t.Errorf("the server said %q, want %q in it", got, test.want)
			}
		})
	}
}

// The time to send a request does not bound its answer, nor a stream.
func TestSlowAnswersAreWaitedFor(t *testing.T) {
	t.Parallel()
	s := startWeb(t, server.HTTPOptions{Times: server.Times{Read: short, Write: short, Connection: short}})
	session := s.initialize(t, nil)
	events, _, _ := s.open(t)
	stream := follow(s.do(t, http.MethodGet, "/mcp", "", in(session)).Body)
	result := make(chan string, 1)
	go func() {
		response, err := s.try(t, http.MethodPost, "/mcp", strings.NewReader(callOf("read")), in(session))
		if err != nil {
			result <- err.Error()
			return
		}
		body, _ := io.ReadAll(response.Body)
		result <- string(body)
	}()
	receive(t, s.began, "the call")
	wantEnd(t, s.raw(t, "GET /healthz HTTP/1.1\r\nHost:")) // which takes as long as a client may
	close(s.release)
	if got := receive(t, result, "the answer"); !strings.Contains(got, "finished") {
		t.Errorf("the call: %s", got)
	}
	s.finish(t)
	for name, stream := range map[string]*text{"event stream": events, "stream": stream} {
		if stream.await(t, "END"); !strings.Contains(stream.String(), cleanEnd) {
			t.Errorf("%s: %s", name, stream)
		}
	}
}

// silent opens an event stream on a connection that is not read any more, and returns the path for
// messages.
func (s *web) silent(t *testing.T) (conn net.Conn, messages string) {
	t.Helper()
	conn = s.raw(t, s.rawRequest("GET", "/sse", "", ""))
	for reader := bufio.NewReader(conn); ; {
		line, err := reader.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		if path, ok := strings.CutPrefix(strings.TrimSpace(line), "data: "); ok {
			return conn, path
		}
	}
}

// A client that stops reading its events loses its session. Others notice nothing meanwhile.
func TestSilentClientIsDropped(t *testing.T) {
	t.Parallel()
	s := startWeb(t, server.HTTPOptions{MaxSessions: 2, Times: server.Times{Write: short}})
	s.big(256 << 10)
	_, messages := s.silent(t)
	events, others, _ := s.open(t)
	for n := 0; ; n++ {
		body := fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":"tools/call","params":{"name":"big"}}`, n)
		status := s.do(t, http.MethodPost, messages, body, nil).StatusCode
		if status == http.StatusNotFound {
			break
		}
		if status != http.StatusAccepted && status != http.StatusTooManyRequests {
			t.Fatalf("message %d: status %d", n, status)
		}
		if got := s.do(t, http.MethodPost, others, strings.Replace(ping, `"id":1`, fmt.Sprintf(`"id":"other %d"`, n), 1), nil).StatusCode; got != http.StatusAccepted {
			t.Fatalf("another session: status %d", got)
		}
		events.await(t, fmt.Sprintf("other %d", n))
	}
	_, _, _ = s.open(t) // there is room again
}

// What a client does not read is held for its session up to a bound; beyond that its messages are refused.
func TestSilentClientHoldsLittle(t *testing.T) { // not parallel: it measures memory
	s := startWeb(t, server.HTTPOptions{Times: server.Times{Write: longPatience}})
	const answer = 128 << 10
	s.big(answer)
	conn, messages := s.silent(t)
	before := heap()
	refused := 0
	for n := range 600 {
		body := fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":"tools/call","params":{"name":"big"}}`, n)
		response := s.do(t, http.MethodPost, messages, body, nil)
		if response.StatusCode == http.StatusTooManyRequests {
			refused++
		}
		_ = response.Body.Close()
	}
	if refused < 300 {
		t.Errorf("%d messages were refused of 600 that nobody reads the answers of", refused)
	}
	// The bound is 64 answers, of which a copy or two exist while they wait.
	if grown := heap() - before; grown > 4*64*answer {
		t.Errorf("%d MiB are held for a client that does not read", grown>>20)
	}
	_ = conn.Close()
	s.finish(t)
}

func heap() int {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}

// The sum of what waits is bounded too, and so is what one caller sends at the same time.
func TestMessagesInHandAreBounded(t *testing.T) {
	t.Parallel()
	s := startWeb(t, server.HTTPOptions{MaxCalls: 100})
	_, messages, _ := s.open(t)
	padded := callOf("change") + strings.Repeat(" ", 600<<10)
	for _, want := range []int{http.StatusAccepted, http.StatusAccepted} {
		if got := s.do(t, http.MethodPost, messages, padded, nil).StatusCode; got != want {
			t.Errorf("status %d, want %d", got, want)
		}
	}
	wantRefused(t, "one more", s.do(t, http.MethodPost, messages, ping, nil), http.StatusTooManyRequests, "too_many_messages")
	close(s.release)
	s.finish(t)

	s = startWeb(t, server.HTTPOptions{}) // 64 messages at the same time, with 16 calls
	const promise = "Content-Type: application/json\r\nContent-Length: 100\r\nExpect: 100-continue\r\n"
	for range 64 {
		conn := s.raw(t, s.rawRequest("POST", "/mcp", promise, ""))
		if _, err := io.ReadFull(conn, make([]byte, len("HTTP/1.1 100"))); err != nil { // it is read
			t.Fatal(err)
		}
	}
	wantRefused(t, "one more", s.do(t, http.MethodPost, "/mcp", initializeMessage, nil), http.StatusTooManyRequests, "too_many_messages")
	_ = s.initialize(t, as(otherToken))
}

// A client of Streamable HTTP that does not read its answer or its stream is not waited for either.
func TestSilentStreamableClient(t *testing.T) {
	t.Parallel()
	ended := make(chan string, 100)
	watched := func(next http.Handler) http.Handler {
		return callers(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			next.ServeHTTP(w, r)
			if r.Header.Get("X-Watched") != "" {
				ended <- r.Method
			}
		}))
	}
	s := startWeb(t, server.HTTPOptions{Authenticate: watched, Times: server.Times{Write: short}})
	s.big(8 << 20)
	session := s.initialize(t, nil)
	const watch = "X-Watched: yes\r\n"
	of := mcp.HeaderSessionID + ": " + session + "\r\n" + watch
	body := callOf("big")
	s.raw(t, s.rawRequest("POST", "/mcp", of+fmt.Sprintf("Content-Type: application/json\r\nContent-Length: %d\r\n", len(body)), body))
	if got := receive(t, ended, "the end of the call"); got != http.MethodPost {
		t.Errorf("%s has ended", got)
	}
	stream := s.raw(t, s.rawRequest("GET", "/mcp", of, ""))
	if _, err := io.ReadFull(stream, make([]byte, len("HTTP/1.1 200"))); err != nil {
		t.Fatal(err)
	}
	for range 40 { // more than the two ends of a connection take
		s.mcp.SendNotificationToAllClients("notifications/test", map[string]any{"text": strings.Repeat("x", 256<<10)})
	}
	if got := receive(t, ended, "the end of the stream"); got != http.MethodGet {
		t.Errorf("%s has ended", got)
	}
	if got := s.do(t, http.MethodPost, "/mcp", ping, in(session)).StatusCode; got != http.StatusOK {
		t.Errorf("the session without the stream: status %d", got)
	}
}
