package server

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"sync"
	"time"

	"github.com/mark3labs/mcp-go/mcp"
	mcpserver "github.com/mark3labs/mcp-go/server"

	"github.com/tokenreeve/tokenreeve/tools"
)

// The bounds of stdio.
const (
	workers  = 64 // calls at once; five, the library's default, starve a client that asks in parallel
	maxQueue = 10_000
	maxLine  = 4 << 20 // bytes of one message
	// writeTime is how long a client may take to read its last answers.
	writeTime = 5 * time.Second
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
	answers := &countingWriter{out: out, calls: calls}
	reader, writer := io.Pipe()
	listening, over := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan error, 1)
	go func() {
		defer over()
		ended <- transport.Listen(context.WithoutCancel(ctx), reader, answers)
		_ = reader.Close() // where writing failed, the feeder must not block
	}()
	feedLines(ctx, listening, in, writer, answers)
	logger.Debug("stopping: what is under way is finished first")
	work.Stop()
	wait, cancel := context.WithTimeout(listening, patience)
	defer cancel()
	calls.wait(wait)
	_ = writer.Close()
	if err := work.Wait(context.WithoutCancel(ctx)); err != nil {
		return err
	}
	select {
	case err := <-ended:
		return err
	case <-time.After(writeTime):
		logger.Warn("the client does not read its answers")
		return nil
	}
}

// feedLines passes whole lines on until in ends, ctx is done or nobody listens
// any more. A last line without newline gets one; a line that is too long is
// answered here.
func feedLines(ctx, listening context.Context, in io.Reader, to io.Writer, answers *countingWriter) {
	lines := make(chan []byte)
	stopped := make(chan struct{})
	defer close(stopped)
	go func() { // ends with in; a read of stdin cannot be interrupted
		defer close(lines)
		reader := bufio.NewReaderSize(in, 64<<10)
		for {
			line, err := readLine(reader)
			if errors.Is(err, errLongLine) {
				refuseLongLine(answers)
				continue
			}
			if len(line) > 0 {
				select {
				case lines <- line:
				case <-stopped:
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
		case <-listening.Done():
			return
		case line, ok := <-lines:
			if !ok {
				return
			}
			answers.calls.begin(line)
			if _, err := to.Write(line); err != nil {
				return
			}
		}
	}
}

// refuseLongLine answers a message that was not kept, so that its id is not known.
func refuseLongLine(answers io.Writer) {
	_, _ = fmt.Fprintf(answers, `{"jsonrpc":"2.0","id":null,"error":{"code":%d,"message":"the message is longer than %d MiB"}}`+"\n",
		mcp.INVALID_REQUEST, maxLine>>20)
}

// errLongLine is the error of a line that is longer than maxLine. It was read to
// its end.
var errLongLine = errors.New("line too long")

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
			return nil, errLongLine
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
		ID     any             `json:"id"`
		Method string          `json:"method"`
		Result json.RawMessage `json:"result"`
	}
	if json.Unmarshal(line, &message) != nil || message.Method == "" || message.ID == nil || message.Result != nil {
		return // nothing that the library answers, or nothing that it answers under an id
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.ids[idText(message.ID)]++
}

// idText writes a request's id the same way however its sender wrote it.
func idText(id any) string {
	text, err := json.Marshal(id)
	if err != nil {
		return ""
	}
	return string(text)
}

// end notes an answer: a message with id and no method.
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

// answeredID returns the id of an answer, and "" of any other message. The
// result or error stands last and is not read, so the scan is short whatever its
// length.
func answeredID(line []byte) string {
	decoder := json.NewDecoder(bytes.NewReader(line))
	if token, err := decoder.Token(); err != nil || token != json.Delim('{') {
		return ""
	}
	var id any
	for decoder.More() {
		name, err := decoder.Token()
		if err != nil || name == "method" {
			return ""
		}
		if name == "result" || name == "error" {
			break
		}
		var value any
		if err := decoder.Decode(&value); err != nil {
			return ""
		}
		if name == "id" {
			id = value
		}
	}
	if id == nil {
		return ""
	}
	return idText(id)
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

// countingWriter sees each answer pass. The library holds a lock for its answers,
// but not for its questions to the user.
type countingWriter struct {
	mu    sync.Mutex
	out   io.Writer
	calls *outstanding
}

func (w *countingWriter) Write(line []byte) (int, error) {
	w.mu.Lock()
	n, err := w.out.Write(line)
	w.mu.Unlock()
	w.calls.end(line)
	return n, err
}

// logWriter passes the library's log lines on.
type logWriter struct{ logger *slog.Logger }

func (w *logWriter) Write(line []byte) (int, error) {
	w.logger.Warn("stdio", "message", string(bytes.TrimSpace(line)))
	return len(line), nil
}
