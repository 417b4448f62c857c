package tools_test

import (
	"context"
	"sync"
	"testing"

	"github.com/tokenreeve/tokenreeve/internal/ledger"
	"github.com/tokenreeve/tokenreeve/internal/sink"
)

// TestDeliverWhileRotating: a rotation that ends between the look at the sink and the
// delivery is not hidden by the older secret.
func TestDeliverWhileRotating(t *testing.T) {
	t.Parallel()
	h := start(t, setup{})
	token := h.addLaunchDarkly("ci")
	a := args{"connection": launchDarklyName, "token_id": token.ID, "deliver_to": "files/ci"}
	files := h.env.Sinks[sinkName]
	h.confirm(rotate, a).is("rotated")
	code := h.preview(rotate, a)
	h.env.Sinks[sinkName] = failing{files}
	older := h.call(rotate, with(a, args{"confirm": code})).is("escrowed").str("operation_id")
	h.env.Sinks[sinkName] = files
	code = h.preview(rotate, a)
	h.env.Sinks[sinkName] = looked{files, sync.OnceFunc(func() {
		h.env.Sinks[sinkName] = files
		h.call(rotate, with(a, args{"confirm": code})).is("rotated")
	})}
	h.call(deliver, args{"operation_id": older}).fails("sink_key_exists")
	newest, _ := h.launchDarkly(token.ID)
	if held := h.delivered(); len(held) != 2 || held["ci.v2"] != newest.Secret {
		t.Errorf("%d versions, want 2 of which the second holds the newest secret", len(held))
	}
}

// looked is a sink beside which something happens once it was looked at.
type looked struct {
	sink.Sink
	then func()
}

// Check looks, and lets it happen.
func (l looked) Check(ctx context.Context, key sink.Key, o sink.Options) error {
	defer l.then()
	return l.Sink.Check(ctx, key, o)
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

// TestCancelledWhileReadingTheRecord: nor is anything wrong with the record.
func TestCancelledWhileReadingTheRecord(t *testing.T) {
	t.Parallel()
	h := start(t, setup{})
	id := h.record(ledger.Intent{}, ledger.Result{Outcome: ledger.Done})
	for tool, a := range map[string]args{"list_operations": nil, "get_operation": {"operation_id": id}} {
		ctx, cancel := context.WithCancel(t.Context())
		h.env.HasLedger = func() bool {
			cancel()
			return true
		}
		h.callWith(ctx, tool, a).fails("cancelled")
	}
}
