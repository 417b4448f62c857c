package server

import (
	"io"
	"net/http"
	"strings"
	"sync"
	"time"
)

// keptAlive is the writer of an answer that, once it has become a stream, is never silent for long: a
// proxy would take a call that waits for its user for a dead one, and cut it. The library keeps only
// those streams alive on which a client listens.
type keptAlive struct {
	every time.Duration

	mu    sync.Mutex
	inner http.ResponseWriter
	timer *time.Timer // nil until the stream has begun
	over  bool
}

func newKeptAlive(w http.ResponseWriter, every time.Duration) *keptAlive {
	return &keptAlive{inner: w, every: every}
}

// Header implements http.ResponseWriter.
func (k *keptAlive) Header() http.Header { return k.inner.Header() }

// WriteHeader implements http.ResponseWriter. A stream begins with its header.
func (k *keptAlive) WriteHeader(status int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	isStream := strings.HasPrefix(k.inner.Header().Get("Content-Type"), "text/event-stream")
	k.inner.WriteHeader(status)
	if isStream && !k.over && k.timer == nil {
		k.timer = time.AfterFunc(k.every, k.comment)
	}
}

// Write takes a whole event: the library writes one at a time, so a comment never gets into one.
func (k *keptAlive) Write(event []byte) (int, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.rest()
	return k.inner.Write(event)
}

// Flush implements http.Flusher, which the library asks for.
func (k *keptAlive) Flush() {
	k.mu.Lock()
	defer k.mu.Unlock()
	_ = http.NewResponseController(k.inner).Flush()
}

// comment writes what clients ignore.
func (k *keptAlive) comment() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.over {
		return
	}
	if _, err := io.WriteString(k.inner, ": keep-alive\n\n"); err != nil {
		return // the request ends with its connection
	}
	_ = http.NewResponseController(k.inner).Flush()
	k.rest()
}

// rest waits anew until the stream has been silent for too long.
func (k *keptAlive) rest() {
	if k.timer != nil && !k.over {
		k.timer.Reset(k.every)
	}
}

// end writes nothing any more, and returns once nothing is being written.
func (k *keptAlive) end() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.over = true
	if k.timer != nil {
		k.timer.Stop()
	}
}
