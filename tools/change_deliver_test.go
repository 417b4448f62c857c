package tools_test

import (
	"context"
	"testing"

	"github.com/tokenreeve/tokenreeve/internal/sink"
)

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
