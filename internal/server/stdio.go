package server

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"sync"
	"time"

	"github.com/mark3labs/mcp-go/mcp"
	mcpserver "github.com/mark3labs/mcp-go/server"

	"github.com/tokenreeve/tokenreeve/internal/sanitize"
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
	calls := newOutstanding()
	told := newAcknowledgements(nil)
	answers := &countingWriter{out: out, calls: calls, told: told}
	reader, writer := io.Pipe()
	listening, over := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan error, 1)
	go func() {
		defer over()
		ended <- transport.Listen(withAcknowledgements(context.WithoutCancel(ctx), told), reader, answers)
		_ = reader.Close() // where writing failed, the feeder must not block
	}()
	fed := make(chan struct{})
	go func() { // not waited for: a read of stdin cannot be interrupted
		defer close(fed)
		feedLines(ctx, in, writer, answers)
	}()
	select {
	case <-fed:
	case <-ctx.Done():
	case <-listening.Done():
	}
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

// feedLines passes whole lines on until in ends or ctx is done. A last line
// without newline gets one; a line that is too long is answered here.
func feedLines(ctx context.Context, in io.Reader, to io.Writer, answers *countingWriter) {
	reader := bufio.NewReaderSize(in, 64<<10)
	for {
		line, err := readLine(reader)
		if ctx.Err() != nil {
			return
		}
		if errors.Is(err, errLongLine) {
			refuseLine(answers, fmt.Sprintf("the message is longer than %d MiB", maxLine>>20))
			continue
		}
		if isBatch(line) {
			refuseLine(answers, "the line is a batch; "+noBatches)
			line = nil
		}
		if len(line) > 0 {
			answers.calls.begin(line)
			if _, err := to.Write(line); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// refuseLine answers a line whose id, if it has one, is not known.
func refuseLine(answers io.Writer, why string) {
	_, _ = fmt.Fprintf(answers, `{"jsonrpc":"2.0","id":null,"error":{"code":%d,"message":%q}}`+"\n", mcp.INVALID_REQUEST, why)
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

// countingWriter sees each answer pass. The library holds a lock for its answers,
// but not for its questions to the user.
type countingWriter struct {
	mu    sync.Mutex
	out   io.Writer
	calls *outstanding
	told  *acknowledgements
}

func (w *countingWriter) Write(line []byte) (int, error) {
	w.mu.Lock()
	n, err := w.out.Write(line)
	w.mu.Unlock()
	w.calls.end(line)
	w.told.wrote(line)
	return n, err
}

// logWriter passes the library's log lines on.
type logWriter struct{ logger *slog.Logger }

func (w *logWriter) Write(line []byte) (int, error) {
	w.logger.Warn("stdio", "message", sanitize.Message(string(line))) // it may quote the client
	return len(line), nil
}
