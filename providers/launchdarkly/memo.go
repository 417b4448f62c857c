package launchdarkly

import (
	"context"
	"errors"
	"sync"

	"github.com/tokenreeve/tokenreeve/providers"
)

// memo keeps an answer as long as the credential stays the same. Concurrent
// calls for it share one fetch; a failure is shared by those who waited for it
// and then forgotten.
type memo[T any] struct {
	mu     sync.Mutex
	key    key
	value  T
	known  bool
	flight *flight
}

// flight is a fetch under way.
type flight struct {
	done chan struct{} // closed at its end
	err  error         // read after done
}

func (m *memo[T]) get(ctx context.Context, keyOf func(context.Context) (key, error), fetch func(context.Context) (T, error)) (T, error) {
	var zero T
	for {
		k, err := keyOf(ctx)
		if err != nil {
			return zero, err
		}
		value, known, f, leads := m.join(k)
		switch {
		case known:
			return value, nil
		case leads:
			return m.lead(ctx, f, k, keyOf, fetch)
		}
		select {
		case <-f.done:
		case <-ctx.Done():
			return zero, givenUp(ctx.Err())
		}
		if f.err != nil && !isGivenUp(f.err) {
			return zero, f.err
		}
		// Known by now; or who fetched gave up, which says nothing about this caller.
	}
}

// recall returns the value where it is known, and fetches nothing.
func (m *memo[T]) recall(ctx context.Context, keyOf func(context.Context) (key, error)) (value T, known bool) {
	k, err := keyOf(ctx)
	if err != nil {
		return value, false
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.known || m.key != k {
		return value, false
	}
	return m.value, true
}

// join returns the value, or the flight to wait for, or a new one to lead.
func (m *memo[T]) join(k key) (value T, known bool, f *flight, leads bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.known && m.key == k {
		return m.value, true, nil, false
	}
	if m.flight != nil {
		return value, false, m.flight, false
	}
	m.flight = &flight{done: make(chan struct{})}
	return value, false, m.flight, true
}

func (m *memo[T]) lead(ctx context.Context, f *flight, k key, keyOf func(context.Context) (key, error), fetch func(context.Context) (T, error)) (value T, err error) {
	stays := false
	defer func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		if err == nil && stays {
			m.key, m.value, m.known = k, value, true
		}
		f.err, m.flight = err, nil
		close(f.done)
	}()
	if value, err = fetch(ctx); err != nil {
		return value, err
	}
	// The credential may have been renewed meanwhile: whose answer is this?
	after, keyErr := keyOf(ctx)
	stays = keyErr == nil && after == k
	return value, nil
}

func givenUp(cause error) error {
	e := failure(providers.CodeCancelled, "the call was cancelled")
	if errors.Is(cause, context.DeadlineExceeded) {
		e = failure(providers.CodeTimeout, "the call's time is up")
	}
	e.Err = cause
	return e
}

func isGivenUp(err error) bool {
	code := providers.CodeOf(err)
	return code == providers.CodeCancelled || code == providers.CodeTimeout
}
