package providers

import (
	"context"
	"sync"
)

// Trace learns what the requests of one call leave behind at the vendor. Its
// fields may be read once the call has returned.
type Trace struct {
	// RequestID is the vendor's id of the last request that was to change something,
	// else of the last one that read; cleaned. Empty where the vendor gave none, or
	// gave no answer.
	RequestID string

	mu      sync.Mutex
	changes bool // RequestID is of a change
}

// SentChange reports whether a request that was to change something was sent, or at
// least tried.
func (t *Trace) SentChange() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.changes
}

type traceKey struct{}

// WithTrace returns a context whose calls fill the trace.
func WithTrace(ctx context.Context) (context.Context, *Trace) {
	t := &Trace{}
	return context.WithValue(ctx, traceKey{}, t), t
}

// NoteRequest tells the trace in ctx, if any, of a request that was answered or
// given up: the vendor's id of it, cleaned, and whether it was to change
// something. It is for package transport.
func NoteRequest(ctx context.Context, id string, isChange bool) {
	t, ok := ctx.Value(traceKey{}).(*Trace)
	if !ok {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if isChange || !t.changes {
		t.RequestID, t.changes = id, isChange
	}
}
