package server_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/mark3labs/mcp-go/mcp"

	"github.com/tokenreeve/tokenreeve/internal/server"
)

// stdio is a running stdio server.
type stdio struct {
	*slow
	in    *io.PipeWriter
	out   *text
	log   *text
	stop  context.CancelFunc
	ended chan result
}

// result is how Stdio ended, and what it had answered by then.
type result struct {
	err error
	out string
}

// startStdio serves on out, or where that is nil on stdio.out.
func startStdio(t *testing.T, s *slow, out io.Writer, patience time.Duration) *stdio {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	reader, writer := io.Pipe()
	p := &stdio{slow: s, in: writer, out: newText(), log: newText(), stop: stop, ended: make(chan result, 1)}
	if out == nil {
		out = p.out
	}
	go func() {
		err := server.Stdio(ctx, s.mcp, s.work, reader, out, patience, debugLog(p.log))
		p.ended <- result{err, p.out.String()}
	}()
	t.Cleanup(func() {
		stop()
		_ = writer.Close()
	})
	p.send(t, `{"jsonrpc":"2.0","id":"hello","method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{"elicitation":{}},"clientInfo":{"name":"t","version":"0"}}}`)
	return p
}

func (p *stdio) send(t *testing.T, line string) {
	t.Helper()
	if _, err := io.WriteString(p.in, line+"\n"); err != nil {
		t.Errorf("send %.80s: %v", line, err)
	}
}

// call calls a tool under an id as it stands in JSON, and waits until it runs.
func (p *stdio) call(t *testing.T, id, tool string) {
	t.Helper()
	p.send(t, fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"method":"tools/call","params":{"name":%q}}`, id, tool))
	receive(t, p.began, tool)
}

// closeInput closes the input and waits until the server has seen it.
func (p *stdio) closeInput(t *testing.T) {
	t.Helper()
	if err := p.in.Close(); err != nil {
		t.Fatal(err)
	}
	p.log.await(t, "stopping")
}

// end waits for the end and checks that every line of the output is JSON-RPC.
func (p *stdio) end(t *testing.T) string {
	t.Helper()
	ended := receive(t, p.ended, "the end of Stdio")
	if ended.err != nil {
		t.Errorf("Stdio: %v", ended.err)
	}
	for line := range strings.Lines(ended.out) {
		var message struct{ JSONRPC string }
		if err := json.Unmarshal([]byte(line), &message); err != nil || message.JSONRPC != mcp.JSONRPC_VERSION {
			t.Errorf("not JSON-RPC: %s", line)
		}
	}
	return ended.out
}

// A call that was accepted is answered, however the client writes its id.
func TestStdioAnswersWhatIsUnderWay(t *testing.T) {
	t.Parallel()
	for _, id := range []string{`1`, `0`, `-7`, `1.0`, `1.5`, `1e3`, `12345678901234567890`, `"a"`, `""`, `"1"`, `"a\/b"`, `"<\u00e9>"`, `"{\"method\":1}"`} {
		t.Run(id, func(t *testing.T) {
			t.Parallel()
			p := startStdio(t, newSlow(), nil, longPatience)
			p.call(t, id, "read")
			p.closeInput(t)
			yield()
			close(p.release)
			if out := p.end(t); !strings.Contains(out, "finished") {
				t.Errorf("no answer to id %s in:\n%s", id, out)
			}
		})
	}
}

// What gets no answer is not waited for.
func TestStdioDoesNotWaitForWhatNeedsNoAnswer(t *testing.T) {
	t.Parallel()
	for name, line := range map[string]string{
		"nothing":                 ``,
		"blank":                   " \t",
		"notification":            `{"jsonrpc":"2.0","method":"notifications/initialized"}`,
		"cancel of nothing":       `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":9}}`,
		"id null":                 `{"jsonrpc":"2.0","id":null,"method":"ping"}`,
		"answer to nothing":       `{"jsonrpc":"2.0","id":3,"result":{}}`,
		"error to nothing":        `{"jsonrpc":"2.0","id":3,"error":{"code":1,"message":"m"}}`,
		"request and answer":      `{"jsonrpc":"2.0","id":3,"method":"ping","result":{}}`,
		"batch":                   `[{"jsonrpc":"2.0","id":3,"method":"ping"}]`,
		"not JSON":                `{"jsonrpc":"2.0","id":3,"method":"ping"`,
		"no version":              `{"id":3,"method":"ping"}`,
		"unknown method":          `{"jsonrpc":"2.0","id":3,"method":"no/such"}`,
		"notification with an id": `{"jsonrpc":"2.0","id":3,"method":"notifications/initialized"}`,
		"odd id":                  `{"jsonrpc":"2.0","id":{"a":[1]},"method":"ping"}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := startStdio(t, newSlow(), nil, longPatience)
			p.send(t, line)
			p.closeInput(t)
			p.end(t)
		})
	}
}

// A question to the user is a request of ours: it is no answer to a call of the
// client's that happens to have the same id.
func TestStdioQuestionIsNoAnswer(t *testing.T) {
	s := newSlow()
	ask := func(ctx context.Context) string {
		request := mcp.ElicitationRequest{Params: mcp.ElicitationParams{Message: "sure?", RequestedSchema: map[string]any{"type": "object"}}}
		if _, err := s.mcp.RequestElicitation(ctx, request); err != nil {
			return err.Error()
		}
		s.began <- "asked"
		return "asked"
	}
	s.add("ask", ask)
	s.add("ask and go on", func(ctx context.Context) string {
		ask(ctx)
		select {
		case <-s.release:
			return "finished"
		case <-ctx.Done():
			return "cut short"
		}
	})
	p := startStdio(t, s, nil, longPatience)
	answer := func(id string) {
		p.send(t, `{"jsonrpc":"2.0","id":`+id+`,"result":{"action":"accept","content":{}}}`)
		receive(t, s.began, "the answer")
	}
	p.call(t, `"first"`, "ask")
	p.out.await(t, "elicitation/create")
	first := regexp.MustCompile(`"id":(\d+),"method":"elicitation/create"`).FindStringSubmatch(p.out.String())
	answer(first[1])
	p.out.await(t, `"id":"first","result"`)
	number, err := strconv.Atoi(first[1]) // the library counts its questions over the whole process
	if err != nil {
		t.Fatal(err)
	}
	second := strconv.Itoa(number + 1)
	p.call(t, second, "ask and go on")
	p.out.await(t, `"id":`+second+`,"method":"elicitation/create"`)
	answer(second)
	p.closeInput(t)
	yield()
	close(s.release)
	if out := p.end(t); !strings.Contains(out, "finished") {
		t.Errorf("the call was cut short:\n%s", out)
	}
}

// Beyond the patience a read is cut short, a change never.
func TestStdioPatience(t *testing.T) {
	t.Parallel()
	for _, stop := range []string{"closed input", "signal"} {
		t.Run(stop, func(t *testing.T) {
			t.Parallel()
			p := startStdio(t, newSlow(), nil, time.Millisecond)
			p.call(t, `"r"`, "read")
			p.call(t, `"c"`, "change")
			if stop == "signal" {
				p.stop()
			} else {
				p.closeInput(t)
			}
			p.out.await(t, "cut short")
			close(p.release)
			out := p.end(t)
			if !strings.Contains(out, `"id":"c","result":{"content":[{"type":"text","text":"finished"}]}`) {
				t.Errorf("the change was not waited for:\n%s", out)
			}
		})
	}
}

// After a signal nothing new is taken, although the input stays open.
func TestStdioTakesNothingNewAfterASignal(t *testing.T) {
	t.Parallel()
	p := startStdio(t, newSlow(), nil, longPatience)
	p.call(t, `1`, "read")
	p.stop()
	p.log.await(t, "stopping")
	p.send(t, `{"jsonrpc":"2.0","id":2,"method":"ping"}`)
	close(p.release)
	if out := p.end(t); strings.Contains(out, `"id":2`) || !strings.Contains(out, "finished") {
		t.Errorf("want an answer to 1 and none to 2:\n%s", out)
	}
}

// stuck is a client that reads nothing.
type stuck struct{ written chan struct{} }

func (s stuck) Write([]byte) (int, error) {
	s.written <- struct{}{}
	select {}
}

// A client that does not read its answers does not keep the process alive.
func TestStdioEndsWithAStuckClient(t *testing.T) {
	t.Parallel()
	for name, line := range map[string]string{
		"a request": `{"jsonrpc":"2.0","id":1,"method":"ping"}`, "not JSON": `{`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client := stuck{make(chan struct{}, 8)}
			p := startStdio(t, newSlow(), client, time.Millisecond)
			receive(t, client.written, "the first answer")
			p.send(t, line)
			go func() { _, _ = io.WriteString(p.in, line+"\n") }() // may find no reader any more
			p.stop()
			p.end(t)
		})
	}
}

type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, errors.New("broken pipe") }

// Where answers cannot be written, serving ends although the input is open.
func TestStdioEndsWhereWritingFails(t *testing.T) {
	t.Parallel()
	p := startStdio(t, newSlow(), broken{}, longPatience)
	p.send(t, `{`)
	if ended := receive(t, p.ended, "the end of Stdio"); ended.err == nil || !strings.Contains(ended.err.Error(), "broken pipe") {
		t.Errorf("Stdio: %v, want the writer's error", ended.err)
	}
}

// Odd lines are answered as JSON-RPC wants it, and serving goes on.
func TestStdioOddLines(t *testing.T) {
	t.Parallel()
	const ping = `{"jsonrpc":"2.0","id":"last","method":"ping"}`
	for name, test := range map[string]struct {
		line, want string
	}{
		"malformed":   {`{"jsonrpc":"2.0",`, `"error":{"code":-32700`},
		"5 MB":        {`{"jsonrpc":"2.0","id":1,"method":"` + strings.Repeat("x", 5<<20) + `"}`, `"id":null,"error":{"code":-32600,"message":"the message is longer than 4 MiB"}`},
		"just fits":   {`{"jsonrpc":"2.0","id":1,"method":"ping"}` + strings.Repeat(" ", 4<<20-50), `"id":1,"result":{}`},
		"CRLF":        {`{"jsonrpc":"2.0","id":1,"method":"ping"}` + "\r", `"id":1,"result":{}`},
		"old version": {`{"jsonrpc":"1.0","id":1,"method":"ping"}`, `"id":1,"error":{"code":-32600`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := startStdio(t, newSlow(), nil, longPatience)
			p.send(t, test.line)
			p.out.await(t, test.want)
			p.send(t, "\n\n"+ping)
			p.closeInput(t)
			if out := p.end(t); !strings.Contains(out, `"id":"last","result":{}`) {
				t.Errorf("serving did not go on:\n%s", out)
			}
		})
	}
}

func TestStdioLastLineWithoutNewline(t *testing.T) {
	t.Parallel()
	p := startStdio(t, newSlow(), nil, longPatience)
	if _, err := io.WriteString(p.in, `{"jsonrpc":"2.0","id":"last","method":"ping"}`); err != nil {
		t.Fatal(err)
	}
	p.closeInput(t)
	if out := p.end(t); !strings.Contains(out, `{"jsonrpc":"2.0","id":"last","result":{}}`) {
		t.Errorf("the last line was not answered:\n%s", out)
	}
}
