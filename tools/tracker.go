package tools

import (
	"context"
	"sync"
)

// Tracker counts the calls and changes under way, so that whoever ends the
// process can stop new work and wait for the rest.
type Tracker struct {
	mu       sync.Mutex
	running  int
	idle     chan struct{} // closed while nothing runs
	stopping chan struct{}
	stopped  bool
}

// NewTracker returns a tracker that lets work begin.
func NewTracker() *Tracker {
	idle := make(chan struct{})
	close(idle)
	return &Tracker{idle: idle, stopping: make(chan struct{})}
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
func (t *Tracker) Stop() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.stopped {
		t.stopped = true
		close(t.stopping)
	}
}

// Stopping returns a channel that is closed by Stop.
func (t *Tracker) Stopping() <-chan struct{} { return t.stopping }

// IsStopping reports whether Stop was called.
func (t *Tracker) IsStopping() bool {
	select {
	case <-t.stopping:
		return true
	default:
		return false
	}
}

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
