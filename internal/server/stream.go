package server

import (
	"bytes"
	"context"
	"net/http"
	"sync"

	"github.com/google/uuid"
)

// streams knows which calls of each open event stream were not answered yet. A
// stream is a session, and its id the session's.
type streams struct {
	mu   sync.Mutex
	open map[string]*outstanding
}

type streamKey struct{}

// handler gives each stream its id and watches what it answers.
func (s *streams) handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id, calls := uuid.NewString(), newOutstanding()
		s.mu.Lock()
		s.open[id] = calls
		s.mu.Unlock()
		defer s.close(id)
		next.ServeHTTP(&stream{w, calls}, r.WithContext(context.WithValue(r.Context(), streamKey{}, id)))
	})
}

// idOf is the library's generator of session ids.
func (*streams) idOf(ctx context.Context, _ *http.Request) (string, error) {
	id, _ := ctx.Value(streamKey{}).(string)
	return id, nil
}

func (s *streams) close(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, id)
}

// begin notes a message to the stream.
func (s *streams) begin(id string, message []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if calls, ok := s.open[id]; ok {
		calls.begin(message)
	}
}

// wait returns when every call of every open stream was answered or ctx is done.
func (s *streams) wait(ctx context.Context) {
	s.mu.Lock()
	all := make([]*outstanding, 0, len(s.open))
	for _, calls := range s.open {
		all = append(all, calls)
	}
	s.mu.Unlock()
	for _, calls := range all {
		calls.wait(ctx)
	}
}

// stream is an event stream's writer. The library writes one event at a time.
type stream struct {
	http.ResponseWriter
	calls *outstanding
}

func (s *stream) Write(event []byte) (int, error) {
	n, err := s.ResponseWriter.Write(event)
	if _, data, ok := bytes.Cut(event, []byte("data:")); ok {
		s.calls.end(data)
	}
	return n, err
}

// Flush implements http.Flusher, which the library asks for.
func (s *stream) Flush() { _ = http.NewResponseController(s.ResponseWriter).Flush() }

// Unwrap lets http.ResponseController through.
func (s *stream) Unwrap() http.ResponseWriter { return s.ResponseWriter }
