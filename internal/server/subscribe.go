package server

import (
	"bytes"
	"context"
	"encoding/json"
	"sync"

	"github.com/mark3labs/mcp-go/mcp"
	mcpserver "github.com/mark3labs/mcp-go/server"
)

// acknowledgements are the subscriptions of one connection that the client has not heard about yet.
//
// The protocol wants notifications/subscriptions/acknowledged to be the first message about a
// subscription. The library writes it in the background, and answers at once where nothing is
// left to subscribe to, as here, where the lists do not change: the acknowledgement would come after
// the answer or, over Streamable HTTP, not at all. So the answer waits for it.
type acknowledgements struct {
	ended <-chan struct{} // closed with the connection, nil where a call's context ends with it

	mu      sync.Mutex
	waiting map[string]chan struct{} // by the id of the request
}

func newAcknowledgements(ended <-chan struct{}) *acknowledgements {
	return &acknowledgements{ended: ended, waiting: map[string]chan struct{}{}}
}

type acknowledgementsKey struct{}

func withAcknowledgements(ctx context.Context, a *acknowledgements) context.Context {
	return context.WithValue(ctx, acknowledgementsKey{}, a)
}

// orderSubscriptions makes the answers to subscriptions wait for their acknowledgement.
func orderSubscriptions(hooks *mcpserver.Hooks) {
	with := func(ctx context.Context, id any, do func(*acknowledgements, string)) {
		if a, ok := ctx.Value(acknowledgementsKey{}).(*acknowledgements); ok {
			do(a, idText(id))
		}
	}
	hooks.AddBeforeSubscriptionsListen(func(ctx context.Context, id any, _ *mcp.SubscriptionsListenRequest) {
		with(ctx, id, (*acknowledgements).expect)
	})
	hooks.AddAfterSubscriptionsListen(func(ctx context.Context, id any, _ *mcp.SubscriptionsListenRequest, _ *mcp.SubscriptionsListenResult) {
		with(ctx, id, func(a *acknowledgements, id string) { a.wait(ctx, id) })
	})
	hooks.AddOnError(func(ctx context.Context, id any, method mcp.MCPMethod, _ any, _ error) {
		if method == mcp.MethodSubscriptionsListen {
			with(ctx, id, (*acknowledgements).forget)
		}
	})
}

func (a *acknowledgements) expect(id string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.waiting[id] = make(chan struct{})
}

// wait returns once the acknowledgement was written, or nobody is there to read it.
func (a *acknowledgements) wait(ctx context.Context, id string) {
	a.mu.Lock()
	written := a.waiting[id]
	a.mu.Unlock()
	if written == nil { // it was written already
		return
	}
	defer a.forget(id)
	select {
	case <-written:
	case <-a.ended:
	case <-ctx.Done():
	}
}

func (a *acknowledgements) forget(id string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.waiting, id)
}

// wrote notes a message, or an event that holds one, that was written.
func (a *acknowledgements) wrote(data []byte) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.waiting) == 0 || !bytes.Contains(data, []byte(mcp.MethodNotificationSubscriptionsAcknowledged)) {
		return
	}
	if _, message, ok := bytes.Cut(data, []byte("data:")); ok && bytes.HasPrefix(data, []byte("event:")) {
		data = message
	}
	var m struct {
		Method string `json:"method"`
		Params struct {
			Meta map[string]any `json:"_meta"`
		} `json:"params"`
	}
	if json.Unmarshal(data, &m) != nil || m.Method != mcp.MethodNotificationSubscriptionsAcknowledged {
		return
	}
	id := idText(m.Params.Meta[mcp.MetaKeySubscriptionID])
	if written, ok := a.waiting[id]; ok {
		close(written)
		delete(a.waiting, id)
	}
}
