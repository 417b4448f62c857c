package server_test

import (
	"context"
	"io"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mark3labs/mcp-go/mcp"
	mcpserver "github.com/mark3labs/mcp-go/server"

	"github.com/tokenreeve/tokenreeve/tools"
)

// hang is when a test that still waits has failed. Nothing here takes that long.
const hang = 30 * time.Second

// longPatience is more than hang: who waits for it has hung.
const longPatience = time.Hour

// text collects what is written and lets a test wait for a part of it.
type text struct {
	mu      sync.Mutex
	all     strings.Builder
	changed chan struct{}
}

func newText() *text { return &text{changed: make(chan struct{})} }

func (x *text) Write(p []byte) (int, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.all.Write(p)
	close(x.changed)
	x.changed = make(chan struct{})
	return len(p), nil
}

func (x *text) String() string {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.all.String()
}

// await blocks until part was written.
func (x *text) await(t *testing.T, part string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), hang)
	defer cancel()
	for {
		x.mu.Lock()
		all, changed := x.all.String(), x.changed
		x.mu.Unlock()
		if strings.Contains(all, part) {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			t.Fatalf("%q was never written; this was:\n%s", part, all)
		}
	}
}

// receive returns what the channel gives.
func receive[T any](t *testing.T, from <-chan T, what string) T {
	t.Helper()
	select {
	case v := <-from:
		return v
	case <-time.After(hang):
		t.Fatalf("%s: nothing came", what)
		panic("unreachable")
	}
}

// yield gives what must not happen every chance to happen.
func yield() {
	for range 10_000 {
		runtime.Gosched()
	}
}

// slow is a server with tools that a test holds: "read" ends with its context,
// "change" does not.
type slow struct {
	mcp     *mcpserver.MCPServer
	work    *tools.Tracker
	began   chan string
	release chan struct{}
}

func newSlow() *slow {
	s := &slow{
		mcp: mcpserver.NewMCPServer("test", "0", mcpserver.WithElicitation()), work: tools.NewTracker(),
		began: make(chan string, 100), release: make(chan struct{}),
	}
	s.add("read", func(ctx context.Context) string {
		select {
		case <-s.release:
			return "finished"
		case <-ctx.Done():
			return "cut short"
		}
	})
	s.add("change", func(context.Context) string {
		<-s.release
		return "finished"
	})
	return s
}

func (s *slow) add(name string, do func(context.Context) string) {
	s.mcp.AddTool(mcp.NewTool(name), func(ctx context.Context, _ mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		defer s.work.Begin()()
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		defer s.work.OnAbort(cancel)()
		s.began <- name
		return mcp.NewToolResultText(do(ctx)), nil
	})
}

func debugLog(to io.Writer) *slog.Logger {
	return slog.New(slog.NewTextHandler(to, &slog.HandlerOptions{Level: slog.LevelDebug}))
}
