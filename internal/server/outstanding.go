package server

import (
	"bytes"
	"context"
	"encoding/json"
	"sync"
)

// outstanding knows the requests that were not answered yet.
type outstanding struct {
	mu    sync.Mutex
	ids   map[string][]int // the sizes of the requests with an id, in bytes
	count int
	bytes int
	idle  chan struct{} // closed by the last answer while someone waits
}

func newOutstanding() *outstanding { return &outstanding{ids: map[string][]int{}} }

// begin notes a request: a message with method and id.
func (o *outstanding) begin(line []byte) {
	if m := parseMessage(line); m.isRequest() {
		o.add(m, len(line))
	}
}

func (o *outstanding) add(m message, size int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.addLocked(m, size)
}

// addWithin notes a request unless so many are outstanding, or requests of so many bytes.
func (o *outstanding) addWithin(m message, size, maxCount, maxBytes int) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.count >= maxCount || o.bytes >= maxBytes {
		return false
	}
	o.addLocked(m, size)
	return true
}

func (o *outstanding) addLocked(m message, size int) {
	id := idText(m.ID)
	o.ids[id] = append(o.ids[id], size)
	o.count++
	o.bytes += size
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
	sizes := o.ids[id]
	if len(sizes) == 0 {
		return
	}
	o.count--
	o.bytes -= sizes[0]
	if o.ids[id] = sizes[1:]; len(sizes) == 1 {
		delete(o.ids, id)
	}
	if o.count == 0 && o.idle != nil {
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
	if o.count == 0 {
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
