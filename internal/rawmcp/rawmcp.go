// Package rawmcp is a client of MCP over HTTP for tests and benchmarks. It does no more than it must:
// it takes little of the time that is measured, sends what a better client would refuse to, and
// counts what comes back.
package rawmcp

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"

	"github.com/mark3labs/mcp-go/mcp"
)

// Way is a way by which messages reach the server.
type Way string

// The ways: both transports, in both eras of the protocol.
const (
	Sessionless  Way = "streamable, 2026-07-28"
	Session      Way = "streamable, with a session"
	Events       Way = "events"
	ModernEvents Way = "events, 2026-07-28"
)

// Ways returns all ways.
func Ways() []Way { return []Way{Sessionless, Session, Events, ModernEvents} }

func (w Way) isModern() bool { return w == Sessionless || w == ModernEvents }

func (w Way) hasEvents() bool { return w == Events || w == ModernEvents }

// maxAnswer bounds what is read of an answer, in bytes.
const maxAnswer = 64 << 20

// Caller is who calls a server.
type Caller struct {
	URL  string // of the server, without a path
	HTTP *http.Client
	// Present puts the credential into a request; nil: there is none.
	Present func(*http.Request)
}

// Line is a caller's line to the server: a session or an event stream where the way has them.
type Line struct {
	Caller
	Way Way
	// SessionID is the session's id, empty where there is none.
	SessionID string

	lastID  *atomic.Int64
	events  *events
	message string // path of the event stream's messages
}

// StatusError is an answer of HTTP that carries none of MCP.
type StatusError struct {
	Status int
	Header http.Header
	Body   string
}

// Error names the status and the body.
func (e *StatusError) Error() string { return fmt.Sprintf("status %d: %.300s", e.Status, e.Body) }

// Answer is an answer to a request: a result, or an error of the protocol.
type Answer struct {
	ID     any             `json:"id"`
	Method string          `json:"method"`
	Result json.RawMessage `json:"result"`
	Error  json.RawMessage `json:"error"`
}

func (a Answer) isAnswer() bool { return a.ID != nil && a.Method == "" }

// ToolResult is the result of a call.
type ToolResult struct {
	IsError    bool            `json:"isError"`
	Structured json.RawMessage `json:"structuredContent"`
	Content    []struct {
		Text string `json:"text"`
	} `json:"content"`
}

// Code returns the code of a tool's error, and "" of any other result.
func (r *ToolResult) Code() string {
	if !r.IsError || len(r.Content) == 0 {
		return ""
	}
	var problem struct {
		Code string `json:"code"`
	}
	if json.Unmarshal([]byte(r.Content[0].Text), &problem) != nil {
		return "unreadable"
	}
	return problem.Code
}

// Open opens a line: it begins the session, or the event stream, where the way has one.
func (c Caller) Open(ctx context.Context, way Way) (*Line, error) {
	l := &Line{Caller: c, Way: way, lastID: &atomic.Int64{}}
	if way.hasEvents() {
		var err error
		if l.events, l.message, err = c.listen(ctx); err != nil {
			return nil, err
		}
		_, l.SessionID, _ = strings.Cut(l.message, "sessionId=")
	}
	if way.isModern() {
		return l, nil
	}
	if _, err := l.Request(ctx, string(mcp.MethodInitialize), map[string]any{
		"protocolVersion": mcp.LATEST_LEGACY_PROTOCOL_VERSION, "capabilities": map[string]any{}, "clientInfo": map[string]any{"name": "rawmcp", "version": "0"},
	}); err != nil {
		l.Close()
		return nil, fmt.Errorf("initialize: %w", err)
	}
	return l, nil
}

// As returns the same line in the hands of somebody else.
func (l *Line) As(present func(*http.Request)) *Line {
	theirs := *l
	theirs.Present = present
	return &theirs
}

// Close hangs up an event stream. It ends no session of Streamable HTTP.
func (l *Line) Close() {
	if l.events != nil {
		l.events.close()
	}
}

// Strays returns how many answers came over the event stream that nobody waited for: to no request,
// to an abandoned one, or twice.
func (l *Line) Strays() int64 {
	if l.events == nil {
		return 0
	}
	return l.events.strays.Load()
}

// Call calls a tool.
func (l *Line) Call(ctx context.Context, tool string, arguments any) (*ToolResult, error) {
	raw, err := l.Request(ctx, string(mcp.MethodToolsCall), map[string]any{"name": tool, "arguments": arguments})
	if err != nil {
		return nil, err
	}
	var result ToolResult
	return &result, json.Unmarshal(raw, &result)
}

// Tools returns the names of the tools that the server lists.
func (l *Line) Tools(ctx context.Context) ([]string, error) {
	raw, err := l.Request(ctx, string(mcp.MethodToolsList), map[string]any{})
	if err != nil {
		return nil, err
	}
	var result struct {
		Tools []struct {
			Name string `json:"name"`
		} `json:"tools"`
	}
	if err := json.Unmarshal(raw, &result); err != nil {
		return nil, err
	}
	names := make([]string, len(result.Tools))
	for i, tool := range result.Tools {
		names[i] = tool.Name
	}
	return names, nil
}

// Request sends a request and returns its result. Its error is a *StatusError where HTTP refuses it.
func (l *Line) Request(ctx context.Context, method string, params map[string]any) (json.RawMessage, error) {
	id := l.lastID.Add(1)
	if l.Way.isModern() {
		params["_meta"] = map[string]any{
			mcp.MetaKeyProtocolVersion: mcp.ProtocolVersion20260728, mcp.MetaKeyClientCapabilities: map[string]any{},
			mcp.MetaKeyClientInfo: map[string]any{"name": "rawmcp", "version": "0"},
		}
	}
	body, err := json.Marshal(map[string]any{"jsonrpc": mcp.JSONRPC_VERSION, "id": id, "method": method, "params": params})
	if err != nil {
		return nil, err
	}
	var a Answer
	if l.Way.hasEvents() {
		a, err = l.sendForEvent(ctx, id, body)
	} else {
		name, _ := params["name"].(string)
		a, err = l.post(ctx, id, method, name, body)
	}
	switch {
	case err != nil:
		return nil, err
	case a.Error != nil:
		return nil, fmt.Errorf("%s: %s", method, a.Error)
	default:
		return a.Result, nil
	}
}

func (l *Line) sendForEvent(ctx context.Context, id int64, body []byte) (Answer, error) {
	answer, forget := l.events.expect(id)
	defer forget()
	response, err := l.do(ctx, http.MethodPost, l.message, body, nil)
	if err != nil {
		return Answer{}, err
	}
	if _, err := whole(response, http.StatusAccepted); err != nil {
		return Answer{}, err
	}
	select {
	case a := <-answer:
		return a, nil
	case <-l.events.ended:
		return Answer{}, errEnded
	case <-ctx.Done():
		return Answer{}, ctx.Err()
	}
}

var (
	errEnded = errors.New("the event stream ended")
	errTwice = errors.New("not one answer to the request, with its id")
)

func (l *Line) post(ctx context.Context, id int64, method, name string, body []byte) (Answer, error) {
	header := http.Header{}
	if l.Way.isModern() {
		header.Set(mcp.HeaderProtocolVersion, mcp.ProtocolVersion20260728)
		header.Set(mcp.HeaderMethod, method)
		if name != "" {
			header.Set(mcp.HeaderName, name)
		}
	}
	if l.SessionID != "" {
		header.Set(mcp.HeaderSessionID, l.SessionID)
	}
	response, err := l.do(ctx, http.MethodPost, "/mcp", body, header)
	if err != nil {
		return Answer{}, err
	}
	text, err := whole(response, http.StatusOK)
	if err != nil {
		return Answer{}, err
	}
	if method == string(mcp.MethodInitialize) {
		l.SessionID = response.Header.Get(mcp.HeaderSessionID)
	}
	return theAnswer(id, response.Header.Get("Content-Type"), text)
}

// theAnswer returns the one answer in a body, which is JSON, or a stream with notifications before it.
func theAnswer(id int64, contentType string, body []byte) (Answer, error) {
	messages := [][]byte{body}
	if strings.HasPrefix(contentType, "text/event-stream") {
		messages = messages[:0]
		for line := range bytes.Lines(body) {
			if data, ok := bytes.CutPrefix(line, []byte("data:")); ok {
				messages = append(messages, data)
			}
		}
	}
	var found []Answer
	for _, message := range messages {
		var a Answer
		if err := json.Unmarshal(message, &a); err != nil {
			return Answer{}, fmt.Errorf("an answer is no JSON: %w", err)
		}
		if a.isAnswer() {
			found = append(found, a)
		}
	}
	if len(found) != 1 || found[0].ID != float64(id) {
		return Answer{}, fmt.Errorf("%w: %d answers in %.300s", errTwice, len(found), body)
	}
	return found[0], nil
}

// whole reads a response to its end and closes it. Its error is a *StatusError where the status is not
// the wanted one.
func whole(response *http.Response, wanted int) ([]byte, error) {
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil {
		return nil, err
	}
	if response.StatusCode != wanted {
		return nil, &StatusError{response.StatusCode, response.Header, string(body)}
	}
	return body, nil
}

// do sends a request of HTTP. The caller closes the response's body.
func (c Caller) do(ctx context.Context, method, path string, body []byte, header http.Header) (*http.Response, error) {
	var reader io.Reader
	if body != nil {
		reader = bytes.NewReader(body)
	}
	r, err := http.NewRequestWithContext(ctx, method, c.URL+path, reader)
	if err != nil {
		return nil, err
	}
	for name, values := range header {
		r.Header[name] = values
	}
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Accept", "application/json, text/event-stream")
	}
	if c.Present != nil {
		c.Present(r)
	}
	return c.HTTP.Do(r)
}
