package auth

import (
	"sync"
	"time"
)

// The throttle's bounds.
const (
	maxFailures  = 10 // of one address in failureTime
	failureTime  = time.Minute
	maxAddresses = 10_000 // that are remembered at a time
)

// throttle counts the failed authentications of each address.
type throttle struct {
	mu       sync.Mutex
	failures map[network][]time.Time // the last maxFailures, oldest first
	swept    time.Time
}

func newThrottle() *throttle { return &throttle{failures: map[network][]time.Time{}} }

// wait returns how long the address is refused; 0: it is not.
func (t *throttle) wait(from origin, now time.Time) time.Duration {
	if from.isShared {
		return 0
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	times := t.failures[from.network()]
	if len(times) < maxFailures {
		return 0
	}
	return max(0, failureTime-now.Sub(times[0]))
}

// add counts a failure and reports whether it is the one from which on the address is refused.
func (t *throttle) add(from origin, now time.Time) bool {
	if from.isShared {
		return false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	key := from.network()
	times := append(t.failures[key], now)
	if len(times) == 1 {
		t.makeRoom(now)
	}
	times = times[max(0, len(times)-maxFailures):]
	t.failures[key] = times
	return len(times) == maxFailures && now.Sub(times[0]) < failureTime
}

// makeRoom keeps an attack from many addresses from filling the memory. Where all that is
// remembered still counts, it forgets any one.
func (t *throttle) makeRoom(now time.Time) {
	if len(t.failures) < maxAddresses {
		return
	}
	if now.Sub(t.swept) >= failureTime {
		t.swept = now
		for key, times := range t.failures {
			if now.Sub(times[len(times)-1]) >= failureTime {
				delete(t.failures, key)
			}
		}
	}
	for key := range t.failures {
		if len(t.failures) < maxAddresses {
			return
		}
		delete(t.failures, key)
	}
}
