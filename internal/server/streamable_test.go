package server_test

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/mark3labs/mcp-go/mcp"

	"github.com/tokenreeve/tokenreeve/internal/server"
)

// The library's client lists and calls tools in both eras; only the older one has a session.
func TestStreamableClients(t *testing.T) {
	t.Parallel()
	for version, hasSession := range map[string]bool{legacy: true, "2025-06-18": true, "2025-03-26": true, modern: false} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			s := startWeb(t, server.HTTPOptions{})
			close(s.release)
			c := s.streamable(t, version, token)
			if got := c.GetSessionId() != ""; got != hasSession {
				t.Errorf("session %q", c.GetSessionId())
			}
			tools, err := c.ListTools(t.Context(), mcp.ListToolsRequest{})
			if err != nil || len(tools.Tools) != 2 {
				t.Errorf("tools: %v, %v", tools, err)
			}
			if got, err := answer(t.Context(), c, "read"); got != "finished" {
				t.Errorf("read: %q, %v", got, err)
			}
			s.finish(t)
		})
	}
}

// An older client that listens is told what it did not ask for, until the server ends its stream
// well.
func TestStreamableListens(t *testing.T) {
	t.Parallel()
	s := startWeb(t, server.HTTPOptions{Times: server.Times{KeepAlive: time.Millisecond}})
	session := s.initialize(t, nil)
	first := follow(s.do(t, http.MethodGet, "/mcp", "", in(session)).Body)
	first.await(t, `"method":"ping"`)
	// A second stream takes the place of the first.
	second := follow(s.do(t, http.MethodGet, "/mcp", "", in(session)).Body)
	first.await(t, cleanEnd)
	second.await(t, `"method":"ping"`)
	s.mcp.SendNotificationToAllClients("notifications/test", map[string]any{"for": "all"})
	second.await(t, "notifications/test")
	s.finish(t)
	second.await(t, cleanEnd)
}

// A session belongs to the principal who opened it, whatever others send to it.
func TestSessionsOfOthers(t *testing.T) {
	t.Parallel()
	s := startWeb(t, server.HTTPOptions{})
	session := s.initialize(t, nil)
	listening := follow(s.do(t, http.MethodGet, "/mcp", "", in(session)).Body)
	events, messages, _ := s.open(t)
	theirs := in(session)
	theirs["Authorization"] = "Bearer " + otherToken
	call, moderns := modernly("tools/call", "read", 1)
	moderns[mcp.HeaderSessionID], moderns["Authorization"] = session, theirs["Authorization"]
	for name, response := range map[string]*http.Response{
		"message":       s.do(t, http.MethodPost, "/mcp", callOf("change"), theirs),
		"notification":  s.do(t, http.MethodPost, "/mcp", `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"read"}}`, theirs),
		"answer":        s.do(t, http.MethodPost, "/mcp", `{"jsonrpc":"2.0","id":1,"result":{"action":"accept"}}`, theirs),
		"empty answer":  s.do(t, http.MethodPost, "/mcp", `{"jsonrpc":"2.0","id":1,"result":{}}`, theirs),
		"initialize":    s.do(t, http.MethodPost, "/mcp", initializeMessage, theirs),
		"no JSON":       s.do(t, http.MethodPost, "/mcp", "{", theirs),
		"newest":        s.do(t, http.MethodPost, "/mcp", call, moderns),
		"stream":        s.do(t, http.MethodGet, "/mcp", "", theirs),
		"end":           s.do(t, http.MethodDelete, "/mcp", "", theirs),
		"event message": s.do(t, http.MethodPost, messages, callOf("change"), as(otherToken)),
	} {
		wantRefused(t, name, response, http.StatusForbidden, "foreign_session")
	}
	// A session of one transport is none of the other, also to its owner.
	_, eventSession, _ := strings.Cut(messages, "sessionId=")
	for name, response := range map[string]*http.Response{
		"messages of an event stream":   s.do(t, http.MethodPost, "/mcp", ping, in(eventSession)),
		"stream of an event stream":     s.do(t, http.MethodGet, "/mcp", "", in(eventSession)),
		"end of an event stream":        s.do(t, http.MethodDelete, "/mcp", "", in(eventSession)),
		"event message to a session":    s.do(t, http.MethodPost, "/message?sessionId="+session, ping, nil),
		"message to nobody's session":   s.do(t, http.MethodPost, "/mcp", ping, in("nobodys")),
		"stream of nobody's session":    s.do(t, http.MethodGet, "/mcp", "", in("nobodys")),
		"end of nobody's session":       s.do(t, http.MethodDelete, "/mcp", "", in("nobodys")),
		"event message to nobody":       s.do(t, http.MethodPost, "/message?sessionId=nobodys", ping, nil),
		"well-formed but never was":     s.do(t, http.MethodPost, "/mcp", ping, in("mcp-session-00000000-0000-4000-8000-000000000000")),
		"well-formed, its event stream": s.do(t, http.MethodPost, "/message?sessionId=00000000-0000-4000-8000-000000000000", ping, nil),
	} {
		wantRefused(t, name, response, http.StatusNotFound, "unknown_session")
	}
	for name, response := range map[string]*http.Response{
		"message": s.do(t, http.MethodPost, "/mcp", ping, nil), "stream": s.do(t, http.MethodGet, "/mcp", "", nil),
		"end": s.do(t, http.MethodDelete, "/mcp", "", nil), "event message": s.do(t, http.MethodPost, "/message", ping, nil),
	} {
		wantRefused(t, name, response, http.StatusBadRequest, "no_session")
	}
	// After all this the owner's session is what it was.
	if got := s.do(t, http.MethodPost, "/mcp", ping, in(session)).StatusCode; got != http.StatusOK {
		t.Errorf("the owner's message: status %d", got)
	}
	if got := s.do(t, http.MethodPost, messages, ping, nil).StatusCode; got != http.StatusAccepted {
		t.Errorf("the owner's event message: status %d", got)
	}
	events.await(t, `"id":1`)
	if got := listening.String(); got != "" {
		t.Errorf("the owner's stream: %s", got)
	}
	select {
	case tool := <-s.began:
		t.Errorf("%s was called in another's session", tool)
	default:
	}
}

func TestSessionIDsCannotBeGuessed(t *testing.T) {
	t.Parallel()
	s := startWeb(t, server.HTTPOptions{})
	seen := map[string]bool{}
	for range 20 {
		_, messages, _ := s.open(t)
		_, event, _ := strings.Cut(messages, "sessionId=")
		for _, id := range []string{event, s.initialize(t, nil)} {
			if len(id) < 26 || seen[id] { // 26 characters of base 32 are 130 bits
				t.Errorf("session id %q", id)
			}
			seen[id] = true
		}
	}
}

// A client that begins anew gets another session, whatever session it still names.
func TestBeginningAnew(t *testing.T) {
	t.Parallel()
	s := startWeb(t, server.HTTPOptions{})
	old := s.initialize(t, nil)
	for _, named := range []string{old, "nobodys"} {
		if got := s.initialize(t, in(named)); got == old || got == named {
			t.Errorf("the session is %q again", got)
		}
	}
}

// What ends a session ends its stream and its reads; a change goes on.
func TestEndOfASession(t *testing.T) {
	t.Parallel()
	s := startWeb(t, server.HTTPOptions{})
	session := s.initialize(t, nil)
	stream := follow(s.do(t, http.MethodGet, "/mcp", "", in(session)).Body)
	read, change := make(chan string, 1), make(chan string, 1)
	for tool, to := range map[string]chan string{"read": read, "change": change} {
		go func() {
			response, err := s.try(t, http.MethodPost, "/mcp", strings.NewReader(callOf(tool)), in(session))
			if err != nil {
				to <- err.Error()
				return
			}
			body, _ := io.ReadAll(response.Body)
			to <- string(body)
		}()
		receive(t, s.began, tool)
	}
	if got := s.do(t, http.MethodDelete, "/mcp", "", in(session)).StatusCode; got != http.StatusOK {
		t.Errorf("end: status %d", got)
	}
	stream.await(t, cleanEnd)
	if got := receive(t, read, "the read"); !strings.Contains(got, "cut short") {
		t.Errorf("read: %s", got)
	}
	close(s.release)
	if got := receive(t, change, "the change"); !strings.Contains(got, "finished") {
		t.Errorf("change: %s", got)
	}
	wantRefused(t, "a session that has ended", s.do(t, http.MethodPost, "/mcp", ping, in(session)), http.StatusNotFound, "unknown_session")
}

// A call that its client abandons is cancelled, on each transport and in each era.
func TestAbandonedCalls(t *testing.T) {
	t.Parallel()
	for _, version := range []string{legacy, modern} {
		t.Run("Streamable HTTP "+version, func(t *testing.T) {
			t.Parallel()
			s := startWeb(t, server.HTTPOptions{})
			ended := s.ends("watched")
			c := s.streamable(t, version, token)
			ctx, abandon := context.WithCancel(t.Context())
			go func() { _, _ = answer(ctx, c, "watched") }()
			receive(t, s.began, "the call")
			abandon()
			receive(t, ended, "the end of the call")
		})
	}
	t.Run("SSE", func(t *testing.T) {
		t.Parallel()
		s := startWeb(t, server.HTTPOptions{})
		ended := s.ends("watched")
		_, messages, hangUp := s.open(t)
		s.call(t, messages, "watched")
		hangUp()
		receive(t, ended, "the end of the call")
	})
}

// ends adds a tool that ends with its context, and tells.
func (s *web) ends(name string) <-chan error {
	ended := make(chan error, 10)
	s.add(name, func(ctx context.Context) string {
		<-ctx.Done()
		ended <- ctx.Err()
		return "cut short"
	})
	return ended
}

// On the newest protocol request ids are the client's own: nobody can cancel another's call by its id.
func TestCancellingForOthers(t *testing.T) {
	t.Parallel()
	s := startWeb(t, server.HTTPOptions{})
	body, headers := modernly("tools/call", "read", 1)
	result := make(chan string, 1)
	go func() {
		response, err := s.try(t, http.MethodPost, "/mcp", strings.NewReader(body), headers)
		if err != nil {
			result <- err.Error()
			return
		}
		text, _ := io.ReadAll(response.Body)
		result <- string(text)
	}()
	receive(t, s.began, "the call")
	_, headers = modernly("notifications/cancelled", "", 0)
	headers["Authorization"] = "Bearer " + otherToken
	cancel := `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1,"_meta":{"io.modelcontextprotocol/protocolVersion":"` + modern + `"}}}`
	if got := s.do(t, http.MethodPost, "/mcp", cancel, headers).StatusCode; got != http.StatusAccepted {
		t.Errorf("cancel: status %d", got)
	}
	close(s.release)
	if got := receive(t, result, "the answer"); !strings.Contains(got, "finished") {
		t.Errorf("the call: %s", got)
	}
}

// Sessions are capped over both transports; ending one makes room.
func TestSessionCap(t *testing.T) {
	t.Parallel()
	s := startWeb(t, server.HTTPOptions{MaxSessions: 2})
	session := s.initialize(t, nil)
	_, _, hangUp := s.open(t)
	full := func() {
		t.Helper()
		for name, response := range map[string]*http.Response{
			"initialize": s.do(t, http.MethodPost, "/mcp", initializeMessage, as(otherToken)), "stream": s.do(t, http.MethodGet, "/sse", "", nil),
		} {
			wantRefused(t, name, response, http.StatusServiceUnavailable, "too_many_sessions")
			if response.Header.Get("Retry-After") == "" {
				t.Errorf("%s does not say when to try again", name)
			}
		}
	}
	full()
	// The newest protocol needs none.
	if got := s.listModernly(t).StatusCode; got != http.StatusOK {
		t.Errorf("newest protocol: status %d", got)
	}
	if got := s.do(t, http.MethodDelete, "/mcp", "", in(session)).StatusCode; got != http.StatusOK {
		t.Errorf("end: status %d", got)
	}
	_ = s.initialize(t, as(otherToken))
	full()
	hangUp()
	for { // the server learns of it from the network
		response := s.do(t, http.MethodPost, "/mcp", initializeMessage, nil)
		if response.StatusCode == http.StatusOK {
			break
		}
	}
	full()
}

// TestOwnSessionCap: one caller cannot keep the others out.
func TestOwnSessionCap(t *testing.T) {
	t.Parallel()
	s := startWeb(t, server.HTTPOptions{MaxSessions: 3, MaxOwnSessions: 2})
	first := s.initialize(t, nil)
	_, _, hangUp := s.open(t)
	for name, response := range map[string]*http.Response{
		"initialize": s.do(t, http.MethodPost, "/mcp", initializeMessage, nil), "stream": s.do(t, http.MethodGet, "/sse", "", nil),
	} {
		wantRefused(t, name, response, http.StatusServiceUnavailable, "too_many_sessions")
	}
	_ = s.initialize(t, as(otherToken))
	wantRefused(t, "one too many", s.do(t, http.MethodPost, "/mcp", initializeMessage, as(otherToken)), http.StatusServiceUnavailable, "too_many_sessions")
	if got := s.do(t, http.MethodDelete, "/mcp", "", in(first)).StatusCode; got != http.StatusOK {
		t.Errorf("end: status %d", got)
	}
	_ = s.initialize(t, nil)
	hangUp()
}

func (s *web) listModernly(t *testing.T) *http.Response {
	t.Helper()
	body, headers := modernly("tools/list", "", 1)
	return s.do(t, http.MethodPost, "/mcp", body, headers)
}

// A session without a request or a stream ends after a while; one that listens does not.
func TestIdleSessions(t *testing.T) {
	t.Parallel()
	s := startWeb(t, server.HTTPOptions{Times: server.Times{Idle: time.Second, KeepAlive: time.Millisecond}})
	idle, listening := s.initialize(t, nil), s.initialize(t, nil)
	stream := follow(s.do(t, http.MethodGet, "/mcp", "", in(listening)).Body)
	s.log.await(t, "Sweeping expired session")
	wantRefused(t, "the idle one", s.do(t, http.MethodPost, "/mcp", ping, in(idle)), http.StatusNotFound, "unknown_session")
	if got := s.do(t, http.MethodPost, "/mcp", ping, in(listening)).StatusCode; got != http.StatusOK {
		t.Errorf("the one that listens: status %d", got)
	}
	if strings.Contains(stream.String(), "END") {
		t.Error("the stream has ended")
	}
}

// Calls are capped for each principal, over all its sessions; the answer says what to do.
func TestCallCap(t *testing.T) {
	t.Parallel()
	s := startWeb(t, server.HTTPOptions{MaxCalls: 2})
	events, messages, _ := s.open(t)
	old, newest := s.streamable(t, legacy, token), s.streamable(t, modern, token)
	s.call(t, messages, "change")
	first := make(chan string, 1)
	go func() {
		text, _ := answer(t.Context(), newest, "read")
		first <- text
	}()
	receive(t, s.began, "read")
	for name, call := range map[string]func() string{
		"older protocol":  func() string { text, _ := answer(t.Context(), old, "read"); return text },
		"newest protocol": func() string { text, _ := answer(t.Context(), newest, "read"); return text },
	} {
		p := problemOf(t, call())
		if p.Code != "too_many_calls" || !strings.Contains(p.Message, "at a time, 2") || !strings.Contains(p.Next, "wait") {
			t.Errorf("%s: %+v", name, p)
		}
	}
	if got := s.do(t, http.MethodPost, messages, callOf("read"), nil).StatusCode; got != http.StatusAccepted {
		t.Errorf("event message: status %d", got)
	}
	events.await(t, "too_many_calls")
	// What is no call goes on, and so do other principals.
	if _, err := old.ListTools(t.Context(), mcp.ListToolsRequest{}); err != nil {
		t.Errorf("list: %v", err)
	}
	other := s.streamable(t, legacy, otherToken)
	second := make(chan string, 1)
	go func() {
		text, _ := answer(t.Context(), other, "read")
		second <- text
	}()
	receive(t, s.began, "the other's read")
	close(s.release)
	for _, result := range []<-chan string{first, second} {
		if got := receive(t, result, "the answer"); got != "finished" {
			t.Errorf("read: %q", got)
		}
	}
	events.await(t, "finished")
	if got, err := answer(t.Context(), old, "read"); got != "finished" {
		t.Errorf("after that: %q, %v", got, err)
	}
}

// An older client is asked in the stream of its call, and only its own answer counts.
func TestStreamableAsks(t *testing.T) {
	t.Parallel()
	s := startWeb(t, server.HTTPOptions{})
	s.mcp.AddTool(mcp.NewTool("ask"), func(ctx context.Context, _ mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		result, err := s.mcp.RequestElicitation(ctx, mcp.ElicitationRequest{Params: mcp.ElicitationParams{
			Message: "sure?", RequestedSchema: map[string]any{"type": "object"},
		}})
		if err != nil {
			return mcp.NewToolResultText(err.Error()), nil
		}
		return mcp.NewToolResultText(string(result.Action)), nil
	})
	response := s.do(t, http.MethodPost, "/mcp", strings.Replace(initializeMessage, `"capabilities":{}`, `"capabilities":{"elicitation":{}}`, 1), nil)
	session := response.Header.Get(mcp.HeaderSessionID)
	stream := follow(s.do(t, http.MethodPost, "/mcp", callOf("ask"), in(session)).Body)
	stream.await(t, "elicitation/create")
	const yes = `{"jsonrpc":"2.0","id":1,"result":{"action":"accept","content":{}}}`
	theirs := in(session)
	theirs["Authorization"] = "Bearer " + otherToken
	wantRefused(t, "another's answer", s.do(t, http.MethodPost, "/mcp", yes, theirs), http.StatusForbidden, "foreign_session")
	if got := s.do(t, http.MethodPost, "/mcp", yes, in(session)).StatusCode; got != http.StatusAccepted {
		t.Errorf("answer: status %d", got)
	}
	stream.await(t, `"accept"`)
	stream.await(t, cleanEnd)
}

// The protocol of requests without sessions knows neither streams that listen nor ends.
func TestNewestProtocolHasNoSessions(t *testing.T) {
	t.Parallel()
	s := startWeb(t, server.HTTPOptions{})
	var got []int
	for _, method := range []string{http.MethodGet, http.MethodDelete} {
		got = append(got, s.do(t, method, "/mcp", "", header{mcp.HeaderProtocolVersion: modern}).StatusCode)
	}
	body, headers := modernly("tools/list", "", 1)
	headers[mcp.HeaderSessionID] = "ignored"
	response := s.do(t, http.MethodPost, "/mcp", body, headers)
	got = append(got, response.StatusCode)
	if diff := cmp.Diff([]int{405, 405, 200}, got); diff != "" || response.Header.Get(mcp.HeaderSessionID) != "" {
		t.Errorf("status (-want +got):\n%s", diff)
	}
}

// A batch is refused with what to do instead, on every transport.
func TestBatch(t *testing.T) {
	t.Parallel()
	const batch = ` [{"jsonrpc":"2.0","id":1,"method":"ping"},{"jsonrpc":"2.0","id":2,"method":"ping"}]`
	s := startWeb(t, server.HTTPOptions{})
	_, messages, _ := s.open(t)
	wantRefused(t, "Streamable HTTP", s.do(t, http.MethodPost, "/mcp", batch, in(s.initialize(t, nil))), http.StatusBadRequest, "batch")
	wantRefused(t, "event stream", s.do(t, http.MethodPost, messages, batch, nil), http.StatusBadRequest, "batch")
	p := startStdio(t, newSlow(), nil, longPatience)
	p.send(t, batch)
	p.send(t, ping)
	p.closeInput(t)
	if out := p.end(t); !strings.Contains(out, "send each message by itself") || strings.Contains(out, `"id":2`) || !strings.Contains(out, `"id":1`) {
		t.Errorf("stdio answers:\n%s", out)
	}
}

// A version that the server does not speak is refused with those that it does.
func TestUnsupportedVersion(t *testing.T) {
	t.Parallel()
	s := startWeb(t, server.HTTPOptions{})
	session := s.initialize(t, header{mcp.HeaderProtocolVersion: "1999-01-01"}) // which negotiates it in its body
	for _, method := range []string{http.MethodPost, http.MethodGet, http.MethodDelete} {
		body := ""
		if method == http.MethodPost {
			body = ping
		}
		response := s.do(t, method, "/mcp", body, header{mcp.HeaderSessionID: session, mcp.HeaderProtocolVersion: "1999-01-01"})
		wantRefused(t, method, response, http.StatusBadRequest, "unsupported_version")
	}
	if got := s.do(t, http.MethodPost, "/mcp", ping, header{mcp.HeaderSessionID: session, mcp.HeaderProtocolVersion: legacy}).StatusCode; got != http.StatusOK {
		t.Errorf("the negotiated version: status %d", got)
	}
}

// A message that is odd in one respect is judged by the rest: whoever names the newest protocol is
// answered by it, and everybody else is asked for a session.
func TestOddMessages(t *testing.T) {
	t.Parallel()
	s := startWeb(t, server.HTTPOptions{})
	const newest = `"params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"` + modern + `"}}`
	for body, hasSession := range map[string]bool{
		`{"jsonrpc":2,"id":1,"method":"ping",` + newest + `}`:            false,
		`{"jsonrpc":"2.0","id":1,"method":7,` + newest + `}`:             false,
		`{"jsonrpc":"2.0","id":1,"method":"ping",` + newest + `}`:        false,
		`{"jsonrpc":"2.0","id":1,"method":"ping","params":[1]}`:          true,
		`{"jsonrpc":"2.0","id":1,"method":"ping","params":"none"}`:       true,
		`{"jsonrpc":"2.0","id":1,"method":"ping","params":{"_meta":[]}}`: true,
	} {
		response := s.do(t, http.MethodPost, "/mcp", body, nil)
		answer, err := io.ReadAll(response.Body)
		if err != nil || response.StatusCode != http.StatusBadRequest || strings.Contains(string(answer), "no_session") != hasSession {
			t.Errorf("%s: status %d, %s (%v)", body, response.StatusCode, answer, err)
		}
	}
}
