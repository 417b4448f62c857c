package cli

import (
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"

	"github.com/lmittmann/tint"

	"github.com/tokenreeve/tokenreeve/internal/config"
	"github.com/tokenreeve/tokenreeve/internal/sanitize"
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
	if a.Key == slog.MessageKey || strings.ContainsFunc(text, isHidden) { // a message is not quoted
		text = oneLine(text)
	}
	// In colors, tint turns these four letters into an escape character.
	a.Value = slog.StringValue(strings.ReplaceAll(text, `\x1b`, `\u001b`))
	return a
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
