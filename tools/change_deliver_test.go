package tools_test

import (
	"context"
	"database/sql"
	"log/slog"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/tokenreeve/tokenreeve/internal/ledger"
	"github.com/tokenreeve/tokenreeve/internal/secret"
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

// TestCancelledBeforeDelivering: nor is who gives up while the sink is looked at for a
// secret in escrow, which stays there.
func TestCancelledBeforeDelivering(t *testing.T) {
	t.Parallel()
	h := start(t, setup{})
	files := h.env.Sinks[sinkName]
	h.env.Sinks[sinkName] = failing{files}
	id := h.call(createLD, reader()).is("escrowed").str("operation_id")
	ctx, cancel := context.WithCancel(t.Context())
	h.env.Sinks[sinkName] = left{files, cancel, false}
	h.untouched(func() { h.callWith(ctx, deliver, args{"operation_id": id}).fails("cancelled") })
	h.env.Sinks[sinkName] = files
	h.call(deliver, args{"operation_id": id}).is("delivered")
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

// TestStepThatWaitsTooLong: what a step would have told is on record with the next
// entry, where another process keeps the ledger locked meanwhile.
func TestStepThatWaitsTooLong(t *testing.T) {
	t.Parallel()
	each(t, map[string]string{"minted": "minted", "delivered": "delivered"}, func(t *testing.T, step string) {
		h := start(t, setup{})
		h.call(createLD, reader()).is("created") // makes the ledger
		db, err := sql.Open("sqlite", "file:"+filepath.Join(h.setup.stateDir, "ledger.db")+"?_txlock=immediate&_pragma=busy_timeout(5000)")
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		locked := make(chan *sql.Tx, 1)
		lock := sync.OnceFunc(func() {
			tx, err := db.BeginTx(context.Background(), nil)
			if err != nil {
				t.Error(err)
				return
			}
			locked <- tx
		})
		if step == "minted" {
			h = h.behind(setup{}, spoiling(http.MethodPost, lock))
		} else {
			h.env.Sinks[sinkName] = delivering{h.env.Sinks[sinkName], lock}
		}
		h.env.Log = slog.New(unlocking{h.env.Log.Handler(), locked})
		id := h.call(createLD, reader()).is("created").says("not every step").str("operation_id")
		if !strings.Contains(h.log.String(), `"step":"`+step+`","error"`) {
			t.Errorf("the step that failed is another: %s", h.log)
		}
		op, err := h.env.Ledger.Get(t.Context(), id)
		if err != nil || op.Outcome != ledger.Done || op.NewTokenID == "" || op.Fingerprint == "" || op.Version != 1 {
			t.Errorf("on record is %+v, %v", op, err)
		}
	})
}

// delivering is a sink beside which something happens when a secret comes.
type delivering struct {
	sink.Sink
	first func()
}

// Deliver lets it happen, and delivers.
func (d delivering) Deliver(ctx context.Context, key sink.Key, s secret.Secret, o sink.Options) (sink.Delivery, error) {
	d.first()
	return d.Sink.Deliver(ctx, key, s, o)
}

// unlocking is a log that ends the lock on the ledger at the first error.
type unlocking struct {
	slog.Handler
	locked chan *sql.Tx
}

// Handle implements slog.Handler.
func (u unlocking) Handle(ctx context.Context, r slog.Record) error {
	if r.Level >= slog.LevelError {
		select {
		case tx := <-u.locked:
			_ = tx.Rollback()
		default:
		}
	}
	return u.Handler.Handle(ctx, r)
}
