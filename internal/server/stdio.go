package server

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log"
	"log/slog"
	"sync"
	"time"

	mcpserver "github.com/mark3labs/mcp-go/server"

	"github.com/tokenreeve/tokenreeve/tools"
)

// The bounds of stdio.
const (
	workers  = 64 // calls at once; five, the library's default, starve a client that asks in parallel
	maxQueue = 10_000
	maxLine  = 4 << 20 // bytes of one message
)

// Stdio serves one client until in ends or ctx is done. Then it takes no new
// calls, lets those under way finish for at most patience, waits for every
// change that was sent to a vendor, and returns nil. out carries nothing but
// JSON-RPC.
func Stdio(ctx context.Context, s *mcpserver.MCPServer, work *tools.Tracker, in io.Reader, out io.Writer, patience time.Duration, logger *slog.Logger) error {
	transport := mcpserver.NewStdioServer(s)
	for _, option := range []mcpserver.StdioOption{
		mcpserver.WithErrorLogger(log.New(&logWriter{logger}, "", 0)),
		mcpserver.WithWorkerPoolSize(workers),
		mcpserver.WithQueueSize(maxQueue),
	} {
		option(transport)
	}
	calls := &outstanding{ids: map[string]int{}}
	reader, writer := io.Pipe()
	var wg sync.WaitGroup
	wg.Go(func() {
		feedLines(ctx, in, writer, calls)
		work.Stop()
		wait, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
		defer cancel()
		calls.wait(wait)
		_ = writer.Close()
	})
	err := transport.Listen(context.WithoutCancel(ctx), reader, &countingWriter{out, calls})
	_ = reader.Close() // where writing failed, the feeder must not block
	wg.Wait()
	work.Stop()
	if waitErr := work.Wait(context.WithoutCancel(ctx)); waitErr != nil {
		err = errors.Join(err, waitErr)
	}
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// feedLines passes whole lines on until in ends or ctx is done. A last line
// without newline gets one, a line that is too long becomes an empty object,
// which the library answers with an error.
func feedLines(ctx context.Context, in io.Reader, to io.Writer, calls *outstanding) {
	lines := make(chan []byte)
	go func() { // ends with in; a read of stdin cannot be interrupted
		defer close(lines)
		reader := bufio.NewReaderSize(in, 64<<10)
		for {
			line, err := readLine(reader)
			if len(line) > 0 {
				select {
				case lines <- line:
				case <-ctx.Done():
					return
				}
			}
			if err != nil {
				return
			}
		}
	}()
	for {
		select {
		case <-ctx.Done():
			return
		case line, ok := <-lines:
			if !ok {
				return
			}
			calls.begin(line)
			if _, err := to.Write(line); err != nil {
				return
			}
		}
	}
}

// readLine returns one line with its newline.
func readLine(reader *bufio.Reader) ([]byte, error) {
	var line []byte
	tooLong := false
	for {
		part, err := reader.ReadSlice('\n')
		if tooLong = tooLong || len(line)+len(part) > maxLine; !tooLong {
			line = append(line, part...)
		}
		if errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		switch {
		case tooLong:
			return []byte("{\"error\":\"message too long\"}\n"), err
		case len(bytes.TrimSpace(line)) == 0:
			return nil, err
		case err != nil:
			return append(line, '\n'), err
		default:
			return line, nil
		}
	}
}

// outstanding knows the requests that were not answered yet.
type outstanding struct {
	mu   sync.Mutex
	ids  map[string]int
	idle chan struct{} // closed by the last answer while someone waits
}

// begin notes a request: a message with method and id.
func (o *outstanding) begin(line []byte) {
	var message struct {
		ID     json.RawMessage `json:"id"`
		Method string          `json:"method"`
	}
	if json.Unmarshal(line, &message) != nil || message.Method == "" || len(message.ID) == 0 {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.ids[string(message.ID)]++
}

// end notes an answer: a message with id and no method. The id stands near the
// front, so the scan is short whatever the length of the result.
func (o *outstanding) end(line []byte) {
	id := answeredID(line)
	if id == "" {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.ids[id]--; o.ids[id] <= 0 {
		delete(o.ids, id)
	}
	if len(o.ids) == 0 && o.idle != nil {
		close(o.idle)
		o.idle = nil
	}
}

func answeredID(line []byte) string {
	decoder := json.NewDecoder(bytes.NewReader(line))
	if token, err := decoder.Token(); err != nil || token != json.Delim('{') {
		return ""
	}
	for decoder.More() {
		name, err := decoder.Token()
		if err != nil || name == "method" {
			return ""
		}
		var value json.RawMessage
		if err := decoder.Decode(&value); err != nil {
			return ""
		}
		if name == "id" {
			return string(value)
		}
	}
	return ""
}

// wait returns when every request was answered or ctx is done.
func (o *outstanding) wait(ctx context.Context) {
	o.mu.Lock()
	if len(o.ids) == 0 {
		o.mu.Unlock()
		return
	}
	idle := make(chan struct{})
	o.idle = idle
	o.mu.Unlock()
	select {
	case <-idle:
	case <-ctx.Done():
	}
}

// countingWriter sees each answer pass.
type countingWriter struct {
	out   io.Writer
	calls *outstanding
}

func (w *countingWriter) Write(line []byte) (int, error) {
	n, err := w.out.Write(line)
	w.calls.end(line)
	return n, err
}

// logWriter passes the library's log lines on.
type logWriter struct{ logger *slog.Logger }

func (w *logWriter) Write(line []byte) (int, error) {
	w.logger.Warn("stdio", "message", string(bytes.TrimSpace(line)))
	return len(line), nil
}
