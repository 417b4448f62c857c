package soak_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/tokenreeve/tokenreeve/internal/rawmcp"
)

// habit is how a client behaves.
type habit string

const (
	steady   habit = "steady"   // one session, one call after the other
	crowded  habit = "crowded"  // several calls at a time
	slow     habit = "slow"     // reads slowly
	abrupt   habit = "abrupt"   // breaks off in the middle of calls, and comes again
	changing habit = "changing" // ends its session after a few calls, and begins a new one
	stalled  habit = "stalled"  // asks for much and reads nothing, then breaks off
)

// habits of every eight clients of each way.
func habits() []habit {
	return []habit{steady, steady, steady, crowded, slow, abrupt, changing, stalled}
}

const (
	answerTime = 2 * time.Minute // after that an answer is lost
	atOnce     = 4               // calls of a crowded client
	perSession = 5               // calls of a changing client
	unread     = 24              // calls of a stalled client
)

// client is one of the clients, with one session at a time.
type client struct {
	load  *load
	name  string
	token string
	way   rawmcp.Way
	habit habit
	hears bool // listens on the session's stream
	ids   []string
}

// run lives until the load ends, and then leaves in peace.
func (c *client) run(ctx context.Context, dice *rand.Rand) {
	for ctx.Err() == nil {
		n := newNetwork(c.habit == slow)
		if err := c.session(ctx, dice, n); err != nil {
			c.load.lost(fmt.Errorf("%s (%s, %s): %w", c.name, c.way, c.habit, err))
			n.close()
			return
		}
		n.close()
	}
}

// session is one session, from its beginning to whatever end the client has in mind.
func (c *client) session(ctx context.Context, dice *rand.Rand, n *network) error {
	last := context.WithoutCancel(ctx)
	bounded, cancel := context.WithTimeout(last, answerTime)
	defer cancel()
	line, err := c.caller(n).Open(bounded, c.way)
	if err != nil {
		return fmt.Errorf("open: %w", err)
	}
	defer line.Close()
	c.load.count("sessions", 1)
	if c.hears && c.way == rawmcp.Session {
		hangUp, err := line.Hear(bounded)
		if err != nil {
			return fmt.Errorf("listen: %w", err)
		}
		defer hangUp()
	}
	switch c.habit {
	case abrupt:
		c.breakOff(ctx, dice, line, n)
		// The session goes on: the client comes again and ends it.
		again := newNetwork(false)
		defer again.close()
		line.HTTP = again.http
	case stalled:
		if err := c.readNothing(ctx, dice, line, n); err != nil {
			return err
		}
		again := newNetwork(false)
		defer again.close()
		line.HTTP = again.http
	case crowded:
		err = c.crowd(ctx, dice, line)
	case changing:
		err = c.calls(ctx, dice, line, perSession)
	default:
		err = c.calls(ctx, dice, line, 0)
	}
	if err != nil {
		return err
	}
	if strays := line.Strays(); strays != 0 && c.habit != abrupt && c.habit != stalled {
		return fmt.Errorf("%d answers to no request, or to one that was answered before", strays)
	}
	if c.way != rawmcp.Session {
		return nil
	}
	bounded, cancel = context.WithTimeout(last, answerTime)
	defer cancel()
	if err := line.End(bounded); err != nil {
		return fmt.Errorf("end: %w", err)
	}
	return nil
}

func (c *client) caller(n *network) rawmcp.Caller {
	return rawmcp.Caller{URL: c.load.url, HTTP: n.http, Present: func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+c.token) }}
}

// calls makes so many calls, 0 is until the load ends, and wants an answer to each.
func (c *client) calls(ctx context.Context, dice *rand.Rand, line *rawmcp.Line, most int) error {
	for n := 0; ctx.Err() == nil && (most == 0 || n < most); n++ {
		if err := c.call(context.WithoutCancel(ctx), dice, line); err != nil {
			return err
		}
	}
	return nil
}

func (c *client) crowd(ctx context.Context, dice *rand.Rand, line *rawmcp.Line) error {
	errs := make([]error, atOnce)
	var wg sync.WaitGroup
	for i := range errs {
		own := rand.New(rand.NewPCG(dice.Uint64(), 0))
		wg.Go(func() { errs[i] = c.calls(ctx, own, line, 0) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// call makes one call and wants one answer to it.
func (c *client) call(ctx context.Context, dice *rand.Rand, line *rawmcp.Line) error {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	tool, arguments := c.draw(dice)
	began := time.Now()
	result, err := line.Call(ctx, tool, arguments)
	if err != nil {
		return fmt.Errorf("%s: %w", tool, err)
	}
	c.load.answered(tool, result, time.Since(began))
	return nil
}

// draw chooses a call: reads mostly, some of many rows, and now and then a preview or a new token.
func (c *client) draw(dice *rand.Rand) (string, map[string]any) {
	connection := []string{"ld", "mt"}[dice.IntN(2)]
	switch n := dice.IntN(100); {
	case n < 30:
		return "list_tokens", map[string]any{"connection": connection, "limit": 50}
	case n < 60:
		return "get_token", map[string]any{"connection": "ld", "token_id": c.ids[dice.IntN(len(c.ids))]}
	case n < 70:
		return "count_tokens", map[string]any{"connection": connection}
	case n < 85:
		return "list_connections", map[string]any{}
	case n < 95:
		return "list_operations", map[string]any{}
	case n < 99:
		return "revoke_token", map[string]any{"connection": "ld", "token_id": c.ids[dice.IntN(len(c.ids))]}
	default:
		name := fmt.Sprintf("soak-%x", dice.Uint64())
		return "create_launchdarkly_token", map[string]any{"connection": "ld", "name": name, "role": "reader", "deliver_to": "files/" + name}
	}
}

// breakOff makes calls and resets the connections under them.
func (c *client) breakOff(ctx context.Context, dice *rand.Rand, line *rawmcp.Line, n *network) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), answerTime)
	defer cancel()
	var wg sync.WaitGroup
	for range atOnce {
		own := rand.New(rand.NewPCG(dice.Uint64(), 0))
		wg.Go(func() {
			tool, arguments := c.draw(own)
			_, _ = line.Call(ctx, tool, arguments) // whatever comes of it
		})
	}
	sleep(ctx, time.Duration(dice.IntN(20))*time.Millisecond)
	n.reset()
	c.load.count("resets", 1)
	line.Close()
	wg.Wait()
}

// readNothing asks for much without reading, for as long as the server bears it at most, and resets
// the connections.
func (c *client) readNothing(ctx context.Context, dice *rand.Rand, line *rawmcp.Line, n *network) error {
	n.isStalled.Store(true)
	asking, cancel := context.WithTimeout(context.WithoutCancel(ctx), answerTime)
	defer cancel()
	var wg sync.WaitGroup
	for range unread {
		wg.Go(func() {
			_, _ = line.Call(asking, "list_tokens", map[string]any{"connection": "ld", "limit": 50})
		})
	}
	sleep(ctx, time.Duration(1000+dice.IntN(11000))*time.Millisecond)
	n.reset()
	c.load.count("stalls", 1)
	cancel()
	close(n.stall)
	line.Close()
	wg.Wait()
	return nil
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// load is all clients, and what they were answered.
type load struct {
	url string

	mu      sync.Mutex
	counts  map[string]int
	errs    []error
	slowest time.Duration
}

func (l *load) count(what string, n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.counts[what] += n
}

func (l *load) lost(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.errs = append(l.errs, err)
}

func (l *load) answered(tool string, result *rawmcp.ToolResult, took time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.counts["answers"]++
	l.slowest = max(l.slowest, took)
	if code := result.Code(); code != "" {
		l.counts["error "+code]++
		if code == "internal_error" || code == "unreadable" {
			l.errs = append(l.errs, fmt.Errorf("%s: %v", tool, result.Content))
		}
	}
}

// String lists the counts.
func (l *load) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var parts []string
	for _, what := range slices.Sorted(maps.Keys(l.counts)) {
		parts = append(parts, fmt.Sprintf("%d %s", l.counts[what], what))
	}
	return strings.Join(parts, ", ") + fmt.Sprintf("; the slowest answer took %v", l.slowest.Round(time.Millisecond))
}
