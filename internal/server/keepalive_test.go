package server_test

import (
	"context"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/mark3labs/mcp-go/mcp"
	mcpserver "github.com/mark3labs/mcp-go/server"

	"github.com/tokenreeve/tokenreeve/internal/server"
)

// A call whose answer has become a stream is kept alive, with what no client takes for a message.
func TestStreamableCallKeepAlive(t *testing.T) {
	t.Parallel()
	s := startWeb(t, server.HTTPOptions{Times: server.Times{KeepAlive: time.Millisecond}})
	s.mcp.AddTool(mcp.NewTool("tell"), func(ctx context.Context, _ mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		told := mcpserver.ServerFromContext(ctx).SendNotificationToClient(ctx, "notifications/progress", map[string]any{"progressToken": "p", "progress": 1})
		if told != nil {
			return nil, told
		}
		<-s.release
		return mcp.NewToolResultText("finished"), nil
	})
	session := s.initialize(t, nil)
	body, headers := modernly("tools/call", "tell", 1)
	streams := []*text{
		follow(s.do(t, http.MethodPost, "/mcp", callOf("tell"), in(session)).Body),
		follow(s.do(t, http.MethodPost, "/mcp", body, headers).Body),
	}
	clients := make(chan string, 2)
	for _, version := range []string{legacy, modern} {
		c := s.streamable(t, version, token)
		go func() {
			text, err := answer(t.Context(), c, "tell")
			if err != nil {
				text = err.Error()
			}
			clients <- text
		}()
	}
	for _, stream := range streams {
		stream.await(t, "\n: keep-alive\n\n: keep-alive\n\n")
	}
	close(s.release)
	for _, stream := range streams {
		stream.await(t, "END OF STREAM <nil>")
		events := regexp.MustCompile(`(: keep-alive\n\n)+`).ReplaceAllString(stream.String(), "")
		if got := strings.Count(events, "event: message\ndata: {"); got != 2 || !strings.Contains(events, "finished") {
			t.Errorf("%d messages, want the notification and the answer:\n%s", got, events)
		}
	}
	for range 2 {
		if got := receive(t, clients, "an answer"); got != "finished" {
			t.Errorf("a client was answered %s", got)
		}
	}
}
