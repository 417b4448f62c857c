package rawmcp

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/mark3labs/mcp-go/mcp"
)

// maxEvent is the longest line of an event stream, in bytes.
const maxEvent = 4 << 20

// events is an open event stream.
type events struct {
	body   io.Closer
	cancel context.CancelFunc
	ended  chan struct{} // closed at its end
	strays atomic.Int64

	mu      sync.Mutex
	waiting map[int64]chan Answer
}

// listen opens an event stream at /sse, and returns it with the path of its messages.
func (c Caller) listen(ctx context.Context) (*events, string, error) {
	stream, cancel := context.WithCancel(context.WithoutCancel(ctx))
	response, err := c.do(stream, http.MethodGet, "/sse", nil, nil)
	if err == nil && response.StatusCode != http.StatusOK {
		_, err = whole(response, http.StatusOK)
	}
	if err != nil {
		cancel()
		return nil, "", err
	}
	e := &events{body: response.Body, cancel: cancel, ended: make(chan struct{}), waiting: map[int64]chan Answer{}}
	endpoint := make(chan string, 1)
	go e.read(response.Body, endpoint)
	select {
	case path := <-endpoint:
		return e, path, nil
	case <-e.ended:
		err = errors.New("the event stream ended before it named its endpoint")
	case <-ctx.Done():
		err = ctx.Err()
	}
	e.close()
	return nil, "", err
}

func (e *events) read(body io.Reader, endpoint chan<- string) {
	defer close(e.ended)
	lines := bufio.NewScanner(body)
	lines.Buffer(make([]byte, 0, 4<<10), maxEvent)
	event := ""
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), ":")
		value = strings.TrimPrefix(value, " ")
		switch {
		case name == "event":
			event = value
		case name == "data" && event == "endpoint":
			select {
			case endpoint <- value:
			default: // it was named before
				e.strays.Add(1)
			}
		case name == "data":
			e.deliver([]byte(value))
		}
	}
}

func (e *events) deliver(data []byte) {
	var a Answer
	if err := json.Unmarshal(data, &a); err != nil {
		e.strays.Add(1)
		return
	}
	if !a.isAnswer() { // a keep-alive or a notification
		return
	}
	id, _ := a.ID.(float64)
	e.mu.Lock()
	waiting := e.waiting[int64(id)]
	delete(e.waiting, int64(id))
	e.mu.Unlock()
	if waiting == nil {
		e.strays.Add(1)
		return
	}
	waiting <- a
}

// expect returns where the answer to a request will come. The caller calls the function once it
// waits no more.
func (e *events) expect(id int64) (<-chan Answer, func()) {
	answer := make(chan Answer, 1)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.waiting[id] = answer
	return answer, func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		delete(e.waiting, id)
	}
}

func (e *events) close() {
	e.cancel()
	_ = e.body.Close()
	<-e.ended
}

// Hear opens the stream on which a session of Streamable HTTP hears what it did not ask for, and
// returns a function that hangs up.
func (l *Line) Hear(ctx context.Context) (func(), error) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	response, err := l.do(ctx, http.MethodGet, "/mcp", nil, http.Header{mcp.HeaderSessionID: {l.SessionID}, "Accept": {"text/event-stream"}}) //nolint:bodyclose // the function that is returned closes it
	if err == nil && response.StatusCode != http.StatusOK {
		_, err = whole(response, http.StatusOK)
	}
	if err != nil {
		cancel()
		return nil, err
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, _ = io.Copy(io.Discard, response.Body)
	}()
	return func() {
		cancel()
		_ = response.Body.Close()
		<-ended
	}, nil
}

// End ends a session of Streamable HTTP.
func (l *Line) End(ctx context.Context) error {
	response, err := l.do(ctx, http.MethodDelete, "/mcp", nil, http.Header{mcp.HeaderSessionID: {l.SessionID}})
	if err != nil {
		return err
	}
	_, err = whole(response, http.StatusOK)
	return err
}
