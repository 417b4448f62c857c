package cli

import (
	"io"
	"time"
)

// The bounds of a log whose reader is slow.
const (
	logLines = 4096
	logFlush = time.Second
)

// logWriter hands log lines to a writer of its own pace. A client may pipe standard
// error and never read it: once the pipe is full, lines are dropped rather than
// calls held up.
type logWriter struct {
	lines chan []byte
	done  chan struct{} // closed once all lines were written
}

// newLogWriter returns a writer to out. The caller calls close.
func newLogWriter(out io.Writer) *logWriter {
	w := &logWriter{lines: make(chan []byte, logLines), done: make(chan struct{})}
	go func() {
		defer close(w.done)
		for line := range w.lines {
			if line == nil {
				return
			}
			_, _ = out.Write(line) // nobody could be told
		}
	}()
	return w
}

// Write queues one line. The caller may use its memory again.
func (w *logWriter) Write(line []byte) (int, error) {
	select {
	case w.lines <- append([]byte{}, line...):
	default:
	}
	return len(line), nil
}

// close waits until the lines are written, for at most a second: a write to a full
// pipe cannot be interrupted.
func (w *logWriter) close() {
	timer := time.NewTimer(logFlush)
	defer timer.Stop()
	select {
	case w.lines <- nil:
	case <-timer.C:
		return
	}
	select {
	case <-w.done:
	case <-timer.C:
	}
}
