package server_test

import (
	"encoding/json"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/mark3labs/mcp-go/client"
	"github.com/mark3labs/mcp-go/mcp"
	mcpserver "github.com/mark3labs/mcp-go/server"

	"github.com/tokenreeve/tokenreeve/internal/server"
	"github.com/tokenreeve/tokenreeve/providers"
	"github.com/tokenreeve/tokenreeve/tools"
)

// newServer returns the real server without any connection.
func newServer(t *testing.T) (*mcpserver.MCPServer, *tools.Env) {
	t.Helper()
	env := &tools.Env{
		Registry: providers.NewRegistry(), HasLedger: func() bool { return false }, Log: slog.New(slog.DiscardHandler),
		Now: time.Now, Work: tools.NewTracker(), Setup: []string{"set something"},
	}
	s, err := server.New("1.2.3", env)
	if err != nil {
		t.Fatal(err)
	}
	return s, env
}

// A tool that is not offered is refused with what would be right.
func TestUnknownTool(t *testing.T) {
	t.Parallel()
	s, _ := newServer(t)
	c, err := client.NewInProcessClient(s)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Initialize(t.Context(), mcp.InitializeRequest{}); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"list_conections": "did you mean list_connections?",
		"list_tokens":     "is not offered", // it exists, but no connection can serve it
		"rm":              "there is no tool",
		"":                "there is no tool",
		"\x1b[31mred":     `there is no tool "[31mred"`,
	} {
		request := mcp.CallToolRequest{}
		request.Params.Name = name
		answer, err := c.CallTool(t.Context(), request)
		if err != nil || !answer.IsError || len(answer.Content) != 1 {
			t.Errorf("tool %q is answered by %v, %v, want a tool error", name, answer, err)
			continue
		}
		text := answer.Content[0].(mcp.TextContent).Text
		var problem tools.Problem
		if json.Unmarshal([]byte(text), &problem) != nil || problem.Code != "unknown_tool" || !strings.Contains(problem.Error(), want) {
			t.Errorf("tool %q: %s, want %q", name, text, want)
		}
	}
}

// A change learns that the session which asked for it has ended.
func TestSessionDone(t *testing.T) {
	t.Parallel()
	s, env := newServer(t)
	session := mcpserver.NewInProcessSession("one", nil)
	other := mcpserver.NewInProcessSession("two", nil)
	for _, known := range []mcpserver.ClientSession{session, other} {
		if err := s.RegisterSession(t.Context(), known); err != nil {
			t.Fatal(err)
		}
	}
	done := env.SessionDone(s.WithContext(t.Context(), session))
	if isClosed(done) {
		t.Error("the session has ended before its end")
	}
	s.UnregisterSession(t.Context(), "one")
	if !isClosed(done) {
		t.Error("the session's end was not told")
	}
	if !isClosed(env.SessionDone(s.WithContext(t.Context(), session))) {
		t.Error("a session that has ended counts as alive")
	}
	if isClosed(env.SessionDone(s.WithContext(t.Context(), other))) {
		t.Error("another session's end was told")
	}
	if env.SessionDone(t.Context()) != nil {
		t.Error("a call without a session has an end")
	}
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
