package server

import (
	"bytes"
	"context"
	"encoding/json"
	"sync"
)

// outstanding knows the requests that were not answered yet.
type outstanding struct {
	mu   sync.Mutex
	ids  map[string]int
	idle chan struct{} // closed by the last answer while someone waits
}

func newOutstanding() *outstanding { return &outstanding{ids: map[string]int{}} }

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
