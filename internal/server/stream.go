package server

import (
	"context"
	"net/http"
	"time"
)

// patient gives the client its time to read what is written, and no more: a client that does not
// read ends the request.
type patient struct {
	http.ResponseWriter
	control *http.ResponseController
	limit   time.Duration
	cut     context.CancelFunc
	isLast  bool // the connection ends with this answer

	status int   // 0: nothing was written
	bytes  int64 // of the body
}

func newPatient(w http.ResponseWriter, limit time.Duration, cut context.CancelFunc) *patient {
	return &patient{ResponseWriter: w, control: http.NewResponseController(w), limit: limit, cut: cut}
}

// WriteHeader implements http.ResponseWriter.
func (p *patient) WriteHeader(status int) {
	p.begin()
	if p.status == 0 {
		p.status = status
	}
	p.ResponseWriter.WriteHeader(status)
}

// Write writes p before the deadline or ends the request.
func (p *patient) Write(data []byte) (int, error) {
	p.begin()
	p.wait()
	n, err := p.ResponseWriter.Write(data)
	p.bytes += int64(n)
	if err != nil {
		p.cut()
	}
	return n, err
}

// Flush implements http.Flusher, which the library asks for.
func (p *patient) Flush() {
	p.begin()
	p.wait()
	if p.control.Flush() != nil {
		p.cut()
		return
	}
	_ = p.control.SetWriteDeadline(time.Time{}) // a silent stream is not late
}

// begin has the last word on the connection: the library asks to keep it.
func (p *patient) begin() {
	if p.isLast {
		p.Header().Set("Connection", "close")
	}
}

// wait begins the time for what is written next, by us or by net/http.
func (p *patient) wait() { _ = p.control.SetWriteDeadline(time.Now().Add(p.limit)) }

// Unwrap lets http.ResponseController through.
func (p *patient) Unwrap() http.ResponseWriter { return p.ResponseWriter }

// watched is the writer of an event stream that shows each event to written, once it was written. The
// library writes one event at a time.
type watched struct {
	http.ResponseWriter
	written func(event []byte)
}

func (w *watched) Write(event []byte) (int, error) {
	n, err := w.ResponseWriter.Write(event)
	w.written(event)
	return n, err
}

// Flush implements http.Flusher, which the library asks for.
func (w *watched) Flush() { _ = http.NewResponseController(w.ResponseWriter).Flush() }

// Unwrap lets http.ResponseController through.
func (w *watched) Unwrap() http.ResponseWriter { return w.ResponseWriter }
