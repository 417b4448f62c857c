package tools_test

import (
	"context"
	"log/slog"
	"sync/atomic"
	"testing"
)

// meanwhile is a log in which something happens at the first record with a message.
type meanwhile struct {
	slog.Handler
	message string
	done    *atomic.Bool
	do      func()
}

// Handle implements slog.Handler.
func (m meanwhile) Handle(ctx context.Context, r slog.Record) error {
	if r.Message == m.message && m.done.CompareAndSwap(false, true) {
		m.do()
	}
	return m.Handler.Handle(ctx, r)
}

// TestDeliverOnce: who asks at the very moment at which the delivery is on record does
// not get the secret a second time.
func TestDeliverOnce(t *testing.T) {
	t.Parallel()
	h := start(t, setup{})
	files := h.env.Sinks[sinkName]
	h.env.Sinks[sinkName] = failing{files}
	escrowed := h.call(createLD, reader()).is("escrowed").str("operation_id")
	h.env.Sinks[sinkName] = files
	var second result
	h.env.Log = slog.New(meanwhile{h.env.Log.Handler(), "operation ended", &atomic.Bool{}, func() {
		second = h.call("deliver_secret", args{"operation_id": escrowed, "deliver_to": "files/second"})
	}})
	h.call("deliver_secret", args{"operation_id": escrowed, "deliver_to": "files/first"}).is("delivered")
	second.fails("already_delivered")
	h.wantDelivered("first")
}
