package tools

import (
	"context"
	"sync"
	"time"
)

// Tracker counts the calls and changes under way, so that whoever ends the
// process can stop new work and wait for the rest.
type Tracker struct {
	mu       sync.Mutex
	running  int
	idle     chan struct{} // closed while nothing runs
	stopping context.Context
	stop     context.CancelFunc
	aborted  context.Context // done once calls must end, changes that were sent excepted
	abort    context.CancelFunc
}

// NewTracker returns a tracker that lets work begin.
func NewTracker() *Tracker {
	idle := make(chan struct{})
	close(idle)
	stopping, stop := context.WithCancel(context.Background())
	aborted, abort := context.WithCancel(context.Background())
	return &Tracker{idle: idle, stopping: stopping, stop: stop, aborted: aborted, abort: abort}
}

// Begin counts one piece of work. The caller calls the function once it is done.
func (t *Tracker) Begin() (end func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.running == 0 {
		t.idle = make(chan struct{})
	}
	t.running++
	return sync.OnceFunc(t.end)
}

func (t *Tracker) end() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.running--
	if t.running == 0 {
		close(t.idle)
	}
}

// Stop tells all work to stop at the next safe place and lets no change begin.
func (t *Tracker) Stop() { t.stop() }

// AfterStop calls end once grace has passed since Stop. The caller calls undo once
// that is no longer wanted.
func (t *Tracker) AfterStop(grace time.Duration, end func()) (undo func() bool) {
	return context.AfterFunc(t.stopping, func() { time.AfterFunc(grace, end) })
}

// Abort ends the contexts of all calls, after Stop and a decent wait. A change that
// was sent goes on.
func (t *Tracker) Abort() { t.abort() }

// OnAbort calls end at Abort. The caller calls undo once the call is done.
func (t *Tracker) OnAbort(end func()) (undo func() bool) { return context.AfterFunc(t.aborted, end) }

// Stopping returns a channel that is closed by Stop.
func (t *Tracker) Stopping() <-chan struct{} { return t.stopping.Done() }

// IsStopping reports whether Stop was called.
func (t *Tracker) IsStopping() bool { return t.stopping.Err() != nil }

// Wait returns when nothing runs, or with the context's error.
func (t *Tracker) Wait(ctx context.Context) error {
	t.mu.Lock()
	idle := t.idle
	t.mu.Unlock()
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
