package server_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/tokenreeve/tokenreeve/internal/server"
)

// A silent event stream is kept alive with pings, whose answers nobody waits for.
func TestSSEKeepAlive(t *testing.T) {
	t.Parallel()
	s := startWeb(t, server.HTTPOptions{Times: server.Times{KeepAlive: time.Millisecond}})
	events, messages, _ := s.open(t)
	events.await(t, `"method":"ping"`)
	for _, pong := range []string{`{"jsonrpc":"2.0","id":1,"result":{}}`, `{"jsonrpc":"2.0","id":1,"error":{"code":-32601,"message":"what is a ping?"}}`} {
		if got := s.do(t, http.MethodPost, messages, pong, nil).StatusCode; got != http.StatusAccepted {
			t.Errorf("%s: status %d", pong, got)
		}
	}
	s.finish(t)
	events.await(t, cleanEnd)
	if strings.Contains(events.String(), "error") {
		t.Errorf("a pong was answered:\n%s", events)
	}
}

// A proxy learns from the header which session a stream is, before the stream says it itself; the log
// holds no session's id.
func TestSSENamesItsSession(t *testing.T) {
	t.Parallel()
	s := startWeb(t, server.HTTPOptions{})
	response := s.do(t, http.MethodGet, "/sse", "", nil)
	id := response.Header.Get("Mcp-Session-Id")
	if got := s.do(t, http.MethodPost, "/message?sessionId="+id, callOf("read"), nil).StatusCode; id == "" || got != http.StatusAccepted {
		t.Errorf("a message for session %q: status %d", id, got)
	}
	receive(t, s.began, "the call")
	close(s.release)
	s.finish(t)
	if strings.Contains(s.log.String(), id) {
		t.Errorf("the log holds the session's id:\n%s", s.log)
	}
}

// A stop finishes what is under way, answers it, and takes nothing new.
func TestSSEStop(t *testing.T) {
	t.Parallel()
	s := startWeb(t, server.HTTPOptions{MaxCalls: 100})
	events, messages, _ := s.open(t)
	s.open(t) // another client, who asks nothing
	const calls = 60
	for range calls {
		s.call(t, messages, "read")
	}
	s.stop()
	s.log.await(t, "stopping")
	for path, want := range map[string]int{"/healthz": 200, "/readyz": 503, "/sse": 503, "/mcp": 503} {
		if got := s.do(t, http.MethodGet, path, "", nil).StatusCode; got != want {
			t.Errorf("%s while stopping: status %d, want %d", path, got, want)
		}
	}
	if got := s.do(t, http.MethodPost, messages, `{"jsonrpc":"2.0","id":1,"method":"ping"}`, nil).StatusCode; got != http.StatusServiceUnavailable {
		t.Errorf("message while stopping: status %d, want 503", got)
	}
	close(s.release)
	if err := receive(t, s.ended, "the end of HTTP"); err != nil {
		t.Errorf("HTTP: %v", err)
	}
	events.await(t, cleanEnd)
	if got := strings.Count(events.String(), "finished"); got != calls {
		t.Errorf("%d calls were answered, want %d:\n%s", got, calls, events)
	}
}

// A stop waits for a client that still has answers to read, and ends its stream after the last one.
func TestSSEStopWhileAnswersAreRead(t *testing.T) {
	t.Parallel()
	s := startWeb(t, server.HTTPOptions{MaxCalls: 100})
	const calls, answer = 16, 1 << 20 // more than the two ends of a connection take
	s.big(answer)
	response := s.do(t, http.MethodGet, "/sse", "", nil) // of which nothing is read at first
	messages := "/message?sessionId=" + response.Header.Get("Mcp-Session-Id")
	for n := range calls {
		body := fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":"tools/call","params":{"name":"big"}}`, n)
		if got := s.do(t, http.MethodPost, messages, body, nil).StatusCode; got != http.StatusAccepted {
			t.Fatalf("message: status %d", got)
		}
	}
	s.stop()
	s.log.await(t, "stopping")
	yield()
	said, err := io.ReadAll(response.Body)
	if got := bytes.Count(said, []byte(`"text":"`)); got != calls || err != nil {
		t.Errorf("%d calls were answered, want %d (%v)", got, calls, err)
	}
	if err := receive(t, s.ended, "the end of HTTP"); err != nil {
		t.Errorf("HTTP: %v", err)
	}
}

// Beyond the patience a read is cut short, a change never.
func TestSSEPatience(t *testing.T) {
	t.Parallel()
	s := startWeb(t, server.HTTPOptions{Patience: time.Millisecond})
	events, messages, _ := s.open(t)
	s.call(t, messages, "read")
	s.call(t, messages, "change")
	s.stop()
	events.await(t, "cut short")
	close(s.release)
	if err := receive(t, s.ended, "the end of HTTP"); err != nil {
		t.Errorf("HTTP: %v", err)
	}
	events.await(t, cleanEnd)
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
			s := startWeb(t, server.HTTPOptions{Patience: patience})
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
				t.Fatalf("HTTP ended before the change: %v", err)
			default:
			}
			close(s.release)
			if err := receive(t, s.ended, "the end of HTTP"); err != nil {
				t.Errorf("HTTP: %v", err)
			}
		})
	}
}

// Where the listener fails, changes are finished all the same.
func TestSSEListenerFails(t *testing.T) {
	t.Parallel()
	s := startWeb(t, server.HTTPOptions{MaxCalls: 100})
	events, messages, _ := s.open(t)
	s.call(t, messages, "change")
	if err := s.listener.Close(); err != nil {
		t.Fatal(err)
	}
	s.log.await(t, "stopping")
	close(s.release)
	if err := receive(t, s.ended, "the end of HTTP"); !errors.Is(err, net.ErrClosed) {
		t.Errorf("HTTP: %v, want the listener's error", err)
	}
	events.await(t, "finished")
}
