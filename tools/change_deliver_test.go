package tools_test

import (
	"context"
	"log/slog"
	"sync/atomic"
	"testing"

	"github.com/tokenreeve/tokenreeve/internal/sink"
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

// TestDeliverAnOlderSecret: what a later rotation has replaced does not hide the newer
// secret under its key.
func TestDeliverAnOlderSecret(t *testing.T) {
	t.Parallel()
	h := start(t, setup{})
	token := h.addLaunchDarkly("ci")
	a := args{"connection": launchDarklyName, "token_id": token.ID}
	files := h.env.Sinks[sinkName]
	code := h.preview(rotate, a)
	h.env.Sinks[sinkName] = failing{files}
	older := args{"operation_id": h.call(rotate, with(a, args{"confirm": code})).is("escrowed").str("operation_id")}
	h.env.Sinks[sinkName] = files
	h.confirm(rotate, a).is("rotated")
	key := launchDarklyName + "/" + token.ID
	h.call("deliver_secret", older).fails("newer_secret").says("another key")
	h.wantDelivered(key)
	h.call("deliver_secret", with(older, args{"deliver_to": "files/older"})).is("delivered")
	h.wantDelivered("older", key) // within its overlap
}

// TestCancelledBeforeMinting: who gives up while sink and escrow are looked at is not
// told that anything is wrong with them, and keeps the code.
func TestCancelledBeforeMinting(t *testing.T) {
	each(t, map[string]bool{"sink": false, "escrow": true}, func(t *testing.T, afterSink bool) {
		h := start(t, setup{})
		a := args{"connection": launchDarklyName, "token_id": h.addLaunchDarkly("ci").ID}
		a["confirm"] = h.preview(rotate, a)
		files := h.env.Sinks[sinkName]
		ctx, cancel := context.WithCancel(t.Context())
		h.env.Sinks[sinkName] = left{files, cancel, afterSink}
		h.untouched(func() { h.callWith(ctx, rotate, a).fails("cancelled") })
		h.env.Sinks[sinkName] = files
		h.call(rotate, a).is("rotated")
	})
}

// left is a sink whose caller gives up while it is looked at, or just after.
type left struct {
	sink.Sink
	giveUp context.CancelFunc
	after  bool
}

// Check gives up.
func (l left) Check(ctx context.Context, key sink.Key, o sink.Options) error {
	if !l.after {
		l.giveUp()
	}
	defer l.giveUp()
	return l.Sink.Check(ctx, key, o)
}
