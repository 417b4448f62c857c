package cli

import (
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/lmittmann/tint"

	"github.com/tokenreeve/tokenreeve/internal/config"
	"github.com/tokenreeve/tokenreeve/internal/sanitize"
)

// The bounds of the log.
const (
	logBytes = 256 << 10 // that wait for a slow reader
	logPace  = 2 * time.Millisecond
	logFlush = time.Second
)

// logWriter hands log lines to a writer of its own pace. A client may pipe standard
// error and never read it: once the pipe is full, lines are dropped rather than
// calls held up.
type logWriter struct {
	mu      sync.Mutex
	waiting []byte        // whole lines
	more    chan struct{} // holds something while lines wait
	closing chan struct{} // closed by close
	done    chan struct{} // closed once all lines were written
}

// newLogWriter returns a writer to out. The caller calls close.
func newLogWriter(out io.Writer) *logWriter {
	w := &logWriter{more: make(chan struct{}, 1), closing: make(chan struct{}), done: make(chan struct{})}
	go w.writeTo(out)
	return w
}

// writeTo writes a line that comes alone at once, and those that come one upon another together: a
// system call for each would be a good part of what a call of a tool costs.
func (w *logWriter) writeTo(out io.Writer) {
	defer close(w.done)
	var lines []byte
	for isOpen := true; isOpen; {
		select {
		case <-w.more:
		case <-w.closing:
			isOpen = false
		}
		lines = w.swap(lines[:0])
		_, _ = out.Write(lines) // nobody could be told
		select {
		case <-time.After(logPace):
		case <-w.closing:
		}
	}
}

// swap returns the lines that wait, and keeps the empty slice for those to come.
func (w *logWriter) swap(empty []byte) []byte {
	w.mu.Lock()
	defer w.mu.Unlock()
	lines := w.waiting
	w.waiting = empty
	return lines
}

// Write queues one line. The caller may use its memory again.
func (w *logWriter) Write(line []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.waiting)+len(line) > logBytes {
		return len(line), nil
	}
	w.waiting = append(w.waiting, line...)
	select {
	case w.more <- struct{}{}:
	default:
	}
	return len(line), nil
}

// close waits until the lines are written, for at most a second: a write to a full
// pipe cannot be interrupted.
func (w *logWriter) close() {
	close(w.closing)
	timer := time.NewTimer(logFlush)
	defer timer.Stop()
	select {
	case <-w.done:
	case <-timer.C:
	}
}

// logHandler writes log lines as the settings say, for people in colors where they are shown.
func logHandler(w io.Writer, c config.Log, colors bool) slog.Handler {
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.Level)); err != nil {
		level = slog.LevelInfo
	}
	if c.Format == "json" {
		return slog.NewJSONHandler(w, &slog.HandlerOptions{Level: level, ReplaceAttr: plainAttr})
	}
	return tint.NewTextHandler(w, &tint.Options{Level: level, TimeFormat: time.TimeOnly, NoColor: !colors, ReplaceAttr: plainAttr})
}

// plainAttr leaves out of a log line what could do more than show letters. An error or another value
// is written as its text.
func plainAttr(_ []string, a slog.Attr) slog.Attr {
	switch a.Value.Kind() {
	case slog.KindString:
	case slog.KindAny:
		if a.Key == slog.LevelKey || a.Key == slog.SourceKey {
			return a
		}
		a.Value = slog.StringValue(fmt.Sprint(a.Value.Any()))
	default:
		return a
	}
	text := a.Value.String()
	if isPlainASCII(text) {
		a.Value = slog.StringValue(text)
		return a
	}
	if a.Key == slog.MessageKey || strings.ContainsFunc(text, isHidden) { // a message is not quoted
		text = oneLine(text)
	}
	// In colors, tint turns these four letters into an escape character.
	a.Value = slog.StringValue(strings.ReplaceAll(text, `\x1b`, `\u001b`))
	return a
}

// isPlainASCII reports what most texts of a log are: nothing in them is to be looked at twice.
func isPlainASCII(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '\\' {
			return false
		}
	}
	return true
}

// isHidden reports what no line of a log holds as it is. A handler writes line breaks and tabs as
// escapes.
func isHidden(r rune) bool { return r != '\n' && r != '\t' && !isShown(r) }

// libraryLog passes on what libraries log on their own. net/http quotes what a vendor sent unasked: so
// what stands in quotes is left out.
type libraryLog struct{ logger *slog.Logger }

// Write logs one line.
func (l libraryLog) Write(line []byte) (int, error) {
	text, _, _ := strings.Cut(string(line), `"`)
	l.logger.Warn("a library says", "message", sanitize.Message(text))
	return len(line), nil
}
