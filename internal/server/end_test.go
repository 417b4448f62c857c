package server_test

import (
	"io"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/tokenreeve/tokenreeve/internal/server"
)

// Once the server has ended nothing of it runs on, whatever its clients were doing.
func TestNothingIsLeft(t *testing.T) { // not parallel: it looks at all goroutines
	before := ours()
	for name, patience := range map[string]time.Duration{"in time": longPatience, "out of patience": time.Millisecond} {
		t.Run(name, func(t *testing.T) {
			s := startWeb(t, server.HTTPOptions{Patience: patience, Times: server.Times{KeepAlive: time.Millisecond}})
			old, newest := s.streamable(t, legacy, token), s.streamable(t, modern, otherToken)
			session := s.initialize(t, nil)
			events, messages, hangUp := s.open(t)
			var streams []*text
			for range 5 {
				stream, _, _ := s.open(t)
				streams = append(streams, stream, follow(s.do(t, http.MethodGet, "/mcp", "", in(s.initialize(t, nil))).Body))
			}
			_, lost, leave := s.open(t)
			s.call(t, lost, "read")
			s.call(t, lost, "change")
			leave()
			s.call(t, messages, "read")
			for _, c := range []func() (string, error){
				func() (string, error) { return answer(t.Context(), old, "read") }, func() (string, error) { return answer(t.Context(), newest, "change") },
			} {
				go func() { _, _ = c() }()
				receive(t, s.began, "a call")
			}
			request := s.rawRequest("POST", "/mcp", "Mcp-Session-Id: "+session+"\r\nContent-Type: application/json\r\nContent-Length: 9\r\n", "{")
			if patience < longPatience { // half a message, which holds up the end for as long as that may take
				s.raw(t, request)
			}
			s.stop()
			s.log.await(t, "stopping")
			if patience < longPatience {
				s.log.await(t, "too long")
			}
			close(s.release)
			if err := receive(t, s.ended, "the end of HTTP"); err != nil {
				t.Errorf("HTTP: %v", err)
			}
			events.await(t, "END")
			for _, stream := range streams {
				stream.await(t, cleanEnd)
			}
			hangUp()
			s.client.CloseIdleConnections()
			_, _ = old.Close(), newest.Close()
		})
	}
	began := time.Now()
	for left := ours(); len(left) > len(before); left = ours() {
		if time.Since(began) > hang {
			t.Fatalf("%d goroutines are left:\n%s", len(left)-len(before), strings.Join(left, "\n\n"))
		}
		runtime.Gosched()
	}
}

// ours are the goroutines that run the server's code or the library's.
func ours() []string {
	stacks := make([]byte, 16<<20)
	stacks = stacks[:runtime.Stack(stacks, true)]
	var list []string
	for stack := range strings.SplitSeq(string(stacks), "\n\n") {
		if strings.Contains(stack, "/internal/server.") || strings.Contains(stack, "mcp-go/server.") {
			list = append(list, stack)
		}
	}
	return list
}

// Over Streamable HTTP a stop finishes and answers what is under way, and takes nothing new.
func TestStreamableStop(t *testing.T) {
	t.Parallel()
	s := startWeb(t, server.HTTPOptions{})
	session := s.initialize(t, nil)
	results := make(chan string, 3)
	for _, request := range []struct {
		body    string
		headers header
	}{{callOf("read"), in(session)}, {callOf("change"), in(session)}, first(modernly("tools/call", "change", 7))} {
		go func() {
			response, err := s.try(t, http.MethodPost, "/mcp", strings.NewReader(request.body), request.headers)
			if err != nil {
				results <- err.Error()
				return
			}
			body, _ := io.ReadAll(response.Body)
			results <- string(body)
		}()
		receive(t, s.began, "a call")
	}
	s.stop()
	s.log.await(t, "stopping")
	for name, response := range map[string]*http.Response{
		"message": s.do(t, http.MethodPost, "/mcp", ping, in(session)), "initialize": s.do(t, http.MethodPost, "/mcp", initializeMessage, nil),
		"stream": s.do(t, http.MethodGet, "/mcp", "", in(session)), "newest protocol": s.listModernly(t), "event stream": s.do(t, http.MethodGet, "/sse", "", nil),
	} {
		wantRefused(t, name, response, http.StatusServiceUnavailable, "server_stopping")
	}
	for path, want := range map[string]int{"/healthz": 200, "/readyz": 503} {
		if got := s.do(t, http.MethodGet, path, "", header{"Authorization": ""}).StatusCode; got != want {
			t.Errorf("%s while stopping: status %d, want %d", path, got, want)
		}
	}
	close(s.release)
	for range 3 {
		if got := receive(t, results, "an answer"); !strings.Contains(got, "finished") {
			t.Errorf("a call: %s", got)
		}
	}
	if err := receive(t, s.ended, "the end of HTTP"); err != nil {
		t.Errorf("HTTP: %v", err)
	}
}

func first(body string, headers header) struct {
	body    string
	headers header
} {
	return struct {
		body    string
		headers header
	}{body, headers}
}
