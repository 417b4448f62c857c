package tools

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/mark3labs/mcp-go/mcp"
)

// progressEvery is how often a client that asked for progress hears of it.
const progressEvery = 1500 * time.Millisecond

// progress counts what a call has done and tells the client now and then.
type progress struct {
	done atomic.Int64
	stop func()
}

func (p *progress) add(n int) { p.done.Add(int64(n)) }

// startProgress begins to report where the client asked for it. The caller calls
// stop; no notification is sent after it returned, since one that is sent right
// before the answer arrives after it.
func (c *Call) startProgress(ctx context.Context, noun string) *progress {
	p := &progress{stop: func() {}}
	meta := c.request.Params.Meta
	if meta == nil || meta.ProgressToken == nil {
		return p
	}
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		ticker := time.NewTicker(progressEvery)
		defer ticker.Stop()
		sent := -1.0
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
				done := p.done.Load()
				sent = grown(sent, done)
				c.notify(ctx, meta.ProgressToken, sent, done, noun)
			}
		}
	}()
	p.stop = func() { cancel(); <-ended }
	return p
}

// grown returns done, or a little more than what was sent: the protocol wants progress to grow with
// each notification, and a slow vendor's call goes on all the same.
func grown(sent float64, done int64) float64 {
	if float64(done) > sent {
		return float64(done)
	}
	return sent + 0.001
}

func (c *Call) notify(ctx context.Context, token mcp.ProgressToken, progress float64, done int64, noun string) {
	err := c.server.SendNotificationToClient(ctx, string(mcp.MethodNotificationProgress), map[string]any{
		"progressToken": token, "progress": progress, "message": fmt.Sprintf("%d %s", done, noun),
	})
	if err != nil {
		c.Log.Debug("progress not sent", "error", err)
	}
}
