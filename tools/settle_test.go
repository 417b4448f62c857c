package tools_test

import (
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tokenreeve/tokenreeve/internal/ledger"
	"github.com/tokenreeve/tokenreeve/internal/secret"
	"github.com/tokenreeve/tokenreeve/internal/sink"
)

// lease is how long a process that is gone keeps its operations.
const lease = 30 * time.Second

// dead is another process that shares the state directory. It does what the server
// does, and dies where the test wants.
type dead struct {
	h      *harness
	ledger *ledger.Ledger
	lease  *ledger.Lease
}

func (h *harness) process() *dead {
	h.t.Helper()
	record, err := ledger.Open(h.t.Context(), filepath.Join(h.setup.stateDir, "ledger.db"), ledger.Options{Now: h.clock.Now})
	return &dead{h: h, ledger: must(h.t, record, err)}
}

// intent is that of a change by the local user.
func (h *harness) intent(tool, class, connection string) ledger.Intent {
	h.t.Helper()
	i := ledger.Intent{Principal: "local", Tool: tool, Class: ledger.Class(class), Connection: connection}
	for _, c := range h.env.Connections {
		if c.Name == connection {
			identity, err := c.Provider.Identity(h.t.Context())
			i.Provider, i.Account = c.Provider.Name(), must(h.t, identity, err).Host+"/"+identity.Account
		}
	}
	return i
}

func (d *dead) begin(i ledger.Intent) (id string) {
	d.h.t.Helper()
	begun, err := d.ledger.Begin(d.h.t.Context(), "", i)
	d.lease = must(d.h.t, begun, err)
	return d.lease.ID()
}

func (d *dead) step(name string, details ledger.Details) {
	d.h.t.Helper()
	if err := d.lease.Step(d.h.t.Context(), name, details); err != nil {
		d.h.t.Fatal(err)
	}
}

// keep puts the secret into escrow.
func (d *dead) keep(id, token, value string) {
	d.h.t.Helper()
	escrow := sink.NewEscrow(d.h.setup.stateDir, nil, nil)
	if err := escrow.Put(d.h.t.Context(), id, secret.New(value), sink.Meta{TokenID: token}); err != nil {
		d.h.t.Fatal(err)
	}
}

// die ends the process; its lease lasts on.
func (d *dead) die() {
	d.h.t.Helper()
	if err := d.ledger.Close(); err != nil {
		d.h.t.Fatal(err)
	}
}

// history counts the kinds of entries of an operation.
func (h *harness) history(id string) map[string]int {
	h.t.Helper()
	entries, err := h.env.Ledger.History(h.t.Context(), id)
	kinds := map[string]int{}
	for _, e := range must(h.t, entries, err) {
		kinds[e.Kind]++
	}
	return kinds
}

// cut is a minting that was cut off: how far it came, and what is known of it.
type cut struct {
	step    string // the last one on record
	kept    bool   // the secret is in escrow
	outcome string
	note    string
}

// cuts are all boundaries between two steps of a minting.
func cuts() map[string]cut {
	return map[string]cut{
		"before the answer":          {"", false, "unknown", "cut off; whether"},
		"before the escrow":          {"minted", false, "unknown", "cut off before the secret was safe: unless it is in files/"},
		"before it is on record":     {"minted", true, "escrowed", "cut off before the delivery was on record"},
		"nothing but the escrow":     {"", true, "escrowed", "cut off before the delivery was on record"},
		"before the delivery":        {"escrowed", true, "escrowed", "cut off before the delivery was on record"},
		"before the verification":    {"delivered", true, "escrowed", "deliver_secret without deliver_to finishes it"},
		"before the end":             {"verified", true, "escrowed", "deliver_secret without deliver_to finishes it"},
		"delivered, and no copy":     {"delivered", false, "done", "cut off after the delivery"},
		"verified, and no copy left": {"verified", false, "done", "cut off after the delivery"},
	}
}

// carryOn does as the server does until the cut.
func (c cut) carryOn(d *dead, id, token, value string) {
	d.h.t.Helper()
	steps := []string{"minted", "escrowed", "delivered", "verified"}
	last := slices.Index(steps, c.step)
	for i, step := range steps {
		if i == 1 && c.kept {
			d.keep(id, token, value)
		}
		if i > last {
			continue
		}
		details := ledger.Details{}
		switch step {
		case "minted":
			details.NewTokenID = token
		case "delivered":
			files, err := sink.NewFile(sinkName, d.h.sinkDir, sink.Accept{})
			must(d.h.t, 0, err)
			key, err := sink.ParseKey("ci/deploy")
			must(d.h.t, 0, err)
			delivery, err := files.Deliver(d.h.t.Context(), key, secret.New(value), sink.Options{})
			details.Version = must(d.h.t, delivery, err).Version
		case "verified":
			details.Verified = "true"
		}
		d.step(step, details)
	}
	d.die()
}

// TestSettleMintings: what is known of a minting whose process died becomes its
// outcome, and a secret in escrow can be delivered.
func TestSettleMintings(t *testing.T) {
	t.Parallel()
	for how, c := range cuts() {
		for name, isRotation := range map[string]bool{"create": false, "rotate": true} {
			t.Run(name+"/"+how, func(t *testing.T) {
				t.Parallel()
				h := start(t, setup{})
				token := h.addLaunchDarkly("made by the dead")
				i := h.intent(createLD, "mint", launchDarklyName)
				i.Sink, i.Key, i.NewTokenName = sinkName, "ci/deploy", token.Name
				if isRotation {
					i.Tool, i.Class, i.NewTokenName, i.Targets = rotate, "rotate", "", []ledger.Target{{ID: token.ID, Name: token.Name}}
				}
				d := h.process()
				id := d.begin(i)
				c.carryOn(d, id, token.ID, token.Secret)
				h.isUntouchedBefore(id)
				h.clock.advance(lease)
				op := h.recorded(id).wantEnd(c.outcome, "interrupted").says(c.note)
				if op.str("step") != c.step || c.step != "" && op.str("new_token_id") != token.ID {
					t.Errorf("on record is %s", op.text)
				}
				if c.outcome == "unknown" && (isRotation || c.step != "") && !strings.Contains(op.str("note"), token.ID) {
					t.Errorf("the note does not name the token: %s", op.text)
				}
				h.isNamed(id, c.outcome)
				h.isDeliverable(id, c, token.Secret)
			})
		}
	}
}

// isUntouchedBefore: while the lease lasts, the operation is its process's.
func (h *harness) isUntouchedBefore(id string) {
	h.t.Helper()
	h.clock.advance(lease - time.Second)
	h.env.LookBack(h.t.Context())
	if op := h.recorded(id); op.str("outcome") != "open" || !strings.Contains(op.str("next"), "being carried out") {
		h.t.Errorf("on record is %s, while its lease lasts", op.text)
	}
	h.call(deliver, args{"operation_id": id}).fails("in_progress")
	if kinds := h.history(id); kinds["claim"]+kinds["outcome"] > 0 {
		h.t.Errorf("the history is %v", kinds)
	}
	h.clock.advance(-(lease - time.Second))
}

// isNamed: list_connections and list_operations name what somebody should see to.
func (h *harness) isNamed(id, outcome string) {
	h.t.Helper()
	rows := h.unsettled(launchDarklyName)
	named := slices.ContainsFunc(rows, func(row string) bool { return strings.HasPrefix(row, id+" "+outcome) })
	if named == (outcome == "done") {
		h.t.Errorf("list_connections names %v", rows)
	}
	if ids := h.operations(args{"outcome": outcome}); !slices.Contains(ids, id) {
		h.t.Errorf("list_operations with outcome %s shows %v", outcome, ids)
	}
	if kinds := h.history(id); kinds["claim"] != 1 || kinds["outcome"] != 1 {
		h.t.Errorf("the history is %v, want one claim and one outcome", kinds)
	}
}

// isDeliverable: deliver_secret brings what is in escrow to its place, once, also where
// it is there already.
func (h *harness) isDeliverable(id string, c cut, value string) {
	h.t.Helper()
	path := filepath.Join(h.sinkDir, "ci/deploy")
	switch c.outcome {
	case "escrowed":
		r := h.call(deliver, args{"operation_id": id}).is("delivered")
		if r.str("secret", "verified") != "true" || r.get("secret", "version") != 1.0 {
			h.t.Errorf("the result is %s", r.text)
		}
		h.wantFile(path, value)
		h.recorded(id).wantEnd("done", "").says("delivered from escrow")
	case "done":
		h.call(deliver, args{"operation_id": id}).fails("already_delivered")
		h.wantFile(path, value)
	default:
		h.call(deliver, args{"operation_id": id}).fails("nothing_in_escrow")
	}
	if files := h.delivered(); (len(files) == 1) == (c.outcome == "unknown") {
		h.t.Errorf("in the sink are %d files", len(files))
	}
	h.wantInEscrow()
}

// TestSettleCompromisedTwin: the leaked token is named, whatever step was on record.
func TestSettleCompromisedTwin(t *testing.T) {
	t.Parallel()
	for _, step := range []string{"", "minted", "escrowed"} {
		t.Run("after "+step, func(t *testing.T) {
			t.Parallel()
			h := start(t, setup{})
			old, twin := h.addMailtrap("leaked"), h.addMailtrap("leaked")
			i := h.intent(rotate, "rotate", mailtrapName)
			i.Sink, i.Key, i.Compromised, i.Targets = sinkName, "ci/deploy", true, []ledger.Target{{ID: number(old.ID)}}
			d := h.process()
			id := d.begin(i)
			cut{step: step, kept: true}.carryOn(d, id, number(twin.ID), twin.Secret)
			h.clock.advance(lease)
			op := h.recorded(id).wantEnd("escrowed", "interrupted")
			if op.str("old_token_id") != number(old.ID) || op.str("new_token_id") != number(twin.ID) {
				t.Errorf("on record is %s", op.text)
			}
			h.call(deliver, args{"operation_id": id}).is("delivered").says("revoke_token, token_id "+number(old.ID), "unless it is gone already")
			h.recorded(id).wantEnd("done", "old_token_not_ended")
			h.wantAlive(number(old.ID))
		})
	}
}

// TestSettleDeliveries: a delivery from escrow that was cut off ends with the operation
// that it is of.
func TestSettleDeliveries(t *testing.T) {
	t.Parallel()
	each(t, map[string]struct {
		steps    []string
		verified string
		outcome  string
		of       string
	}{
		"before the delivery":     {nil, "", "unknown", "escrowed"},
		"before the verification": {[]string{"delivered"}, "skipped", "done", "done"},
		"before the end":          {[]string{"delivered", "verified"}, "true", "done", "done"},
	}, func(t *testing.T, c struct {
		steps    []string
		verified string
		outcome  string
		of       string
	},
	) {
		h := start(t, setup{})
		h.env.Sinks[spare] = h.command("exit 1")
		minting := h.call(createLD, with(reader(), args{"deliver_to": spare + "/ci/deploy"})).is("escrowed")
		i := h.intent(deliver, "mint", launchDarklyName)
		i.Of, i.Sink, i.Key, i.Targets = minting.str("operation_id"), sinkName, "ci/deploy", []ledger.Target{{ID: minting.str("token", "id")}}
		d := h.process()
		id := d.begin(i)
		for _, step := range c.steps {
			details := ledger.Details{}
			if step == "verified" {
				details.Verified = c.verified
			}
			d.step(step, details)
		}
		d.die()
		h.call(deliver, args{"operation_id": i.Of}).fails("change_in_progress")
		h.clock.advance(lease)
		h.env.LookBack(t.Context())
		by := h.recorded(id)
		of := h.recorded(i.Of)
		if by.str("outcome") != c.outcome || of.str("outcome") != c.of {
			t.Errorf("on record are %s and %s", by.text, of.text)
		}
		if c.outcome == "unknown" {
			by.says("still in escrow under operation " + i.Of)
			h.call(deliver, args{"operation_id": i.Of, "deliver_to": "files/ci/deploy"}).is("delivered")
			return
		}
		if by.str("verified") != c.verified || of.str("verified") != c.verified || of.str("resolved_by") != id || of.str("deliver_to") != "files/ci/deploy" {
			t.Errorf("on record are %s and %s", by.text, of.text)
		}
		h.call(deliver, args{"operation_id": i.Of}).fails("already_delivered")
		h.wantInEscrow(i.Of) // nobody looked whether the sink holds it
		h.clock.advance(24 * time.Hour)
		h.env.LookBack(t.Context())
		h.wantInEscrow()
	})
}

// TestSettleOtherChanges: of a change without a secret, nothing is known but that it was
// begun.
func TestSettleOtherChanges(t *testing.T) {
	t.Parallel()
	h := start(t, setup{})
	token := h.addLaunchDarkly("old")
	target := []ledger.Target{{ID: token.ID}}
	d := h.process()
	i := h.intent(revoke, "revoke", launchDarklyName)
	i.Targets = target
	revocation := d.begin(i)
	group := h.intent(bulkTool, "bulk", launchDarklyName)
	group.Group, group.Targets = true, []ledger.Target{{ID: token.ID}, {ID: "0123456789abcdef01234567"}}
	bulk := d.begin(group)
	d.die()
	h.clock.advance(lease)
	h.recorded(revocation).wantEnd("unknown", "interrupted").says("read the token to see whether the change was made")
	h.recorded(bulk).wantEnd("unknown", "interrupted").says("each target that was begun is an operation of its own")
	h.confirm(revoke, args{"connection": launchDarklyName, "token_id": token.ID}).is("revoked")
}

// TestSettleFreesTheToken: a change of a token that a dead process has is refused once,
// and goes on then.
func TestSettleFreesTheToken(t *testing.T) {
	t.Parallel()
	h := start(t, setup{})
	token := h.addLaunchDarkly("old")
	d := h.process()
	i := h.intent(rotate, "rotate", launchDarklyName)
	i.Sink, i.Key, i.Targets = sinkName, "ci/deploy", []ledger.Target{{ID: token.ID}}
	id := d.begin(i)
	d.die()
	a := args{"connection": launchDarklyName, "token_id": token.ID}
	code := h.preview(rotate, a)
	h.untouched(func() {
		h.call(rotate, with(a, args{"confirm": code})).fails("change_in_progress").says(id, "is being changed")
	})
	h.clock.advance(lease)
	code = h.preview(rotate, a)
	h.untouched(func() {
		h.call(rotate, with(a, args{"confirm": code})).fails("change_in_progress").says(id, "was cut off")
	})
	h.recorded(id).wantEnd("unknown", "interrupted").says(token.ID, "rotate it again")
	h.confirm(rotate, a).is("rotated")
}

// TestSettleWithoutTheEscrow: a secret that may be there is not given up.
func TestSettleWithoutTheEscrow(t *testing.T) {
	t.Parallel()
	h := start(t, setup{})
	token := h.addLaunchDarkly("made by the dead")
	i := h.intent(createLD, "mint", launchDarklyName)
	i.Sink, i.Key, i.NewTokenName = sinkName, "ci/deploy", token.Name
	d := h.process()
	id := d.begin(i)
	d.keep(id, token.ID, token.Secret)
	d.die()
	path := filepath.Join(h.setup.stateDir, "escrow.key")
	key, err := os.ReadFile(path)
	must(t, 0, err)
	if err := os.WriteFile(path, []byte("garbage"), 0o600); err != nil {
		t.Fatal(err)
	}
	h.clock.advance(lease)
	h.recorded(id).wantEnd("escrowed", "interrupted").says("the escrow cannot be read now")
	again := h.restart(setup{})
	again.env.LookBack(t.Context())
	if log := again.log.String(); !strings.Contains(log, "a secret in escrow cannot be read") || !strings.Contains(log, id) {
		t.Errorf("the next server's log is %s", log)
	}
	h.call(deliver, args{"operation_id": id}).fails("escrow_unusable")
	if err := os.WriteFile(path, key, 0o600); err != nil {
		t.Fatal(err)
	}
	r := h.call(deliver, args{"operation_id": id}).is("delivered")
	if r.str("token_id") != token.ID || r.str("secret", "verified") != "true" {
		t.Errorf("the result is %s", r.text)
	}
	h.wantFile(filepath.Join(h.sinkDir, "ci/deploy"), token.Secret)
}

// TestSettleAtOnce: of several servers that look at once, one ends the operation.
func TestSettleAtOnce(t *testing.T) {
	t.Parallel()
	h := start(t, setup{})
	token := h.addLaunchDarkly("made by the dead")
	i := h.intent(createLD, "mint", launchDarklyName)
	i.Sink, i.Key = sinkName, "ci/deploy"
	d := h.process()
	var ids []string
	for range 3 {
		ids = append(ids, d.begin(i))
	}
	d.keep(ids[1], token.ID, token.Secret)
	d.die()
	h.clock.advance(lease)
	servers := []*harness{h, h.restart(setup{}), h.restart(setup{})}
	var wg sync.WaitGroup
	for _, server := range servers {
		for range 3 {
			wg.Go(func() { server.env.LookBack(t.Context()) })
		}
	}
	wg.Wait()
	for n, id := range ids {
		h.recorded(id).wantEnd([]string{"unknown", "escrowed", "unknown"}[n], "interrupted")
		if kinds := h.history(id); kinds["claim"] != 1 || kinds["outcome"] != 1 || kinds["late"] != 0 {
			t.Errorf("the history is %v, want one claim and one outcome", kinds)
		}
	}
	ended := 0
	for _, server := range servers {
		ended += strings.Count(server.log.String(), "operation was cut off")
		if strings.Contains(server.log.String(), `"level":"ERROR"`) {
			t.Errorf("a server logged an error:\n%s", server.log.String())
		}
	}
	if ended != len(ids) {
		t.Errorf("%d operations were ended, want %d", ended, len(ids))
	}
}

// TestSleepingServerWhileAnotherEndsItsOperation: what a server knows that was taken for dead becomes the outcome
// also where the other process has not ended the operation yet.
func TestSleepingServerWhileAnotherEndsItsOperation(t *testing.T) {
	t.Parallel()
	arrived, release := make(chan struct{}), make(chan struct{})
	h := start(t, setup{}).behind(setup{}, holdFirst(http.MethodPost, arrived, release))
	other := h.process()
	t.Cleanup(other.die)
	answer := make(chan result, 1)
	go func() { answer <- h.call(createLD, reader()) }()
	<-arrived
	h.clock.advance(time.Hour)
	cutOff, err := other.ledger.Unfinished(t.Context())
	id := must(t, cutOff, err)[0].ID
	claimed, err := other.ledger.Claim(t.Context(), id)
	must(t, claimed, err)
	close(release)
	r := (<-answer).is("created").says("could not be put on record yet")
	late := h.history(id)["late"]
	if err := claimed.Finish(t.Context(), ledger.Result{Outcome: ledger.Unknown, ErrorCode: "interrupted"}); err != nil {
		t.Fatal(err)
	}
	if err := h.env.Ledger.Close(); err != nil { // or the next heartbeat
		t.Fatal(err)
	}
	got, err := other.ledger.Get(t.Context(), id)
	op := must(t, got, err)
	if op.Outcome != ledger.Done || op.NewTokenID != r.str("token", "id") || !strings.Contains(op.Note, "taken for dead") || op.Verified != "true" {
		t.Errorf("on record is %+v", op)
	}
	entries, err := other.ledger.History(t.Context(), id)
	for _, e := range must(t, entries, err) {
		if e.Kind == "late" {
			late--
		}
	}
	if late != 0 {
		t.Errorf("%d late reports more", -late)
	}
}

// TestSleepingServer: a server whose machine slept while the vendor worked is taken for
// dead by another. What it knows when it wakes up becomes the outcome.
func TestSleepingServer(t *testing.T) {
	t.Parallel()
	each(t, fewMintings(), func(t *testing.T, mint func(*harness, string) minted) {
		arrived, release := make(chan struct{}), make(chan struct{})
		h := start(t, setup{}).behind(setup{}, holdFirst(http.MethodPost, arrived, release))
		m := mint(h, "files/ci/deploy")
		other := h.restart(setup{})
		var r result
		var wg sync.WaitGroup
		wg.Go(func() { r = h.send(t.Context(), toolRequest(m.tool, m.args)) })
		<-arrived
		h.clock.advance(time.Hour)
		if op := h.newest(); op.str("outcome") != "open" {
			t.Errorf("the server ended its own operation: %s", op.text)
		}
		op := other.newest().wantEnd("unknown", "interrupted")
		close(release)
		wg.Wait()
		r.is(m.status)
		if r.get("warnings") != nil || r.str("operation_id") != op.str("operation_id") {
			t.Errorf("the result is %s", r.text)
		}
		op = other.recorded(op.str("operation_id")).wantEnd("done", "")
		if op.str("verified") != "true" || op.str("new_token_id") != r.str("token", "id") || !strings.Contains(op.str("note"), "taken for dead") {
			t.Errorf("on record is %s", op.text)
		}
		h.wantInEscrow()
		h.wantFile(filepath.Join(h.sinkDir, "ci/deploy"), h.secretOf(r.str("token", "id")))
		if rows := other.unsettled(m.connection); len(rows) > 0 {
			t.Errorf("list_connections names %v", rows)
		}
	})
}
