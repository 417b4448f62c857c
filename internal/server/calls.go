package server

import (
	"context"
	"fmt"
	"log/slog"
	"sync"

	"github.com/mark3labs/mcp-go/mcp"
	mcpserver "github.com/mark3labs/mcp-go/server"

	"github.com/tokenreeve/tokenreeve/tools"
)

// tally counts what each principal has under way, up to a maximum.
type tally struct {
	max int

	mu    sync.Mutex
	count map[string]int
}

func newTally(most int) *tally { return &tally{max: most, count: map[string]int{}} }

// begin reports whether the principal may have one more. If so, the caller calls end once it is done.
func (t *tally) begin(name string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.count[name] >= t.max {
		return false
	}
	t.count[name]++
	return true
}

func (t *tally) end(name string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.count[name]--; t.count[name] == 0 {
		delete(t.count, name)
	}
}

// boundCalls refuses a principal's call where it has too many under way, and ends a call with its
// session: over server-sent events the library would let it run on. A change that was sent goes on
// all the same.
func boundCalls(calls *tally, open *openSessions, log *slog.Logger) mcpserver.ToolHandlerMiddleware {
	return func(next mcpserver.ToolHandlerFunc) mcpserver.ToolHandlerFunc {
		return func(ctx context.Context, request mcp.CallToolRequest) (*mcp.CallToolResult, error) {
			caller := callerOf(ctx)
			if !calls.begin(caller) {
				return tools.ErrorResult(ctx, log, request.Params.Name, &tools.Problem{
					Code:    "too_many_calls",
					Message: fmt.Sprintf("nothing was done: as many calls of this caller are under way as it may have at a time, %d", calls.max),
					Next:    "wait until one of them was answered, then call again; the operator can raise --max-calls",
				}), nil
			}
			defer calls.end(caller)
			ctx, done := open.bind(ctx)
			defer done()
			return next(ctx, request)
		}
	}
}
