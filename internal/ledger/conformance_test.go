package ledger_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/tokenreeve/tokenreeve/internal/ledger"
)

// testLedger is what every ledger must do, whatever holds it. newPlace returns an empty one.
func testLedger(t *testing.T, newPlace func(t *testing.T) place) {
	for name, test := range map[string]func(*testing.T, place){
		"life of an operation":      testLife,
		"outcomes":                  testOutcomes,
		"invalid intents":           testInvalid,
		"record":                    testRecord,
		"one change per token":      testOneChange,
		"a made token is taken":     testMadeToken,
		"leases":                    testLeases,
		"standing":                  testStanding,
		"lost leases":               testLostLease,
		"lost leases after the end": testLostAfterEnd,
		"heartbeat":                 testHeartbeat,
		"claims at once":            testClaimsAtOnce,
		"resolve":                   testResolve,
		"list":                      testList,
		"pages":                     testPages,
		"count":                     testCount,
		"limits":                    testLimits,
		"limits weigh":              testWeights,
		"deliveries":                testDeliveries,
		"late deliveries":           testLateDelivery,
		"made tokens":               testMade,
		"tokens that may be made":   testMayBeMade,
		"cleaning":                  testCleaning,
		"identities stay different": testIdentities,
		"many targets":              testManyTargets,
		"cancelled":                 testCancelled,
		"closed":                    testClosed,
		"export":                    testExport,
		"verify":                    testVerify,
		"at once":                   testAtOnce,
		"previews":                  testPreviews,
		"preview decisions":         testDecisions,
		"preview ends":              testPreviewEnds,
		"preview releases":          testReleases,
		"preview questions":         testQuestions,
		"answers at once":           testAnsweredOnce,
		"preview forms":             testForms,
		"forms at once":             testFormsAtOnce,
		"second approvals":          testSecondApprovals,
		"previews at once":          testTakenOnce,
		"preview bounds":            testPreviewBounds,
		"previews keep no argument": testArgumentsUnread,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, newPlace(t))
		})
	}
}

func testLife(t *testing.T, at place) {
	c := newClock()
	l := at(t, c.options())
	id, err := ledger.NewID()
	must(t, err)
	i := intent("t1", func(i *ledger.Intent) {
		i.Preview, i.ApprovedBy, i.Sink, i.Key, i.NewTokenName = "pv_A", "root", "files", "ci/x", "ci"
	})
	began := c.Now()
	s, err := l.Begin(t.Context(), id, i)
	must(t, err)
	want := ledger.Operation{ID: id, Intent: i, Started: began, Seq: 1, Lease: began.Add(time.Minute)}
	process := cmpopts.IgnoreFields(ledger.Operation{}, "Process")
	wantEqual(t, get(t, l, id), want, process)

	c.add(time.Second)
	must(t, s.Step(t.Context(), "minted", ledger.Details{NewTokenID: "t2", VendorRequestID: "r1", Verified: "skipped", Version: 7}))
	want.Step, want.Lease = "minted", c.Now().Add(time.Minute)
	want.Details = ledger.Details{NewTokenID: "t2", VendorRequestID: "r1", Verified: "skipped", Version: 7}
	wantEqual(t, get(t, l, id), want, process)

	ends := c.add(time.Second).Add(time.Hour)
	must(t, s.Finish(t.Context(), ledger.Result{
		Outcome: ledger.Done, ErrorCode: "none",
		Details: ledger.Details{Fingerprint: "hmac-sha256:0011223344556677", OldTokenID: "t1", OldEnds: ends, Verified: "true", Note: "fine"},
	}))
	want.Outcome, want.ErrorCode, want.Ended, want.OutcomeSeq, want.Lease = ledger.Done, "none", c.Now(), 3, time.Time{}
	want.Details = ledger.Details{
		NewTokenID: "t2", VendorRequestID: "r1", Fingerprint: "hmac-sha256:0011223344556677", OldTokenID: "t1", OldEnds: ends, Verified: "true", Note: "fine", Version: 7,
	}
	other := at(t, c.options())
	wantEqual(t, get(t, other, id), want, process)
	wantEqual(t, kinds(t, other, id), []string{"intent", "step", "outcome"})
	wantEqual(t, head(t, other), s.Head())
	wantEqual(t, s.Head().Seq, 3)
	wantErr(t, s.Finish(t.Context(), ledger.Result{Outcome: ledger.Failed}), ledger.ErrFinished, id)
	wantErr(t, s.Step(t.Context(), "again", ledger.Details{}), ledger.ErrFinished)
	wantEqual(t, head(t, l), s.Head())
	wantIntact(t, l)
}

func testOutcomes(t *testing.T, at place) {
	l := at(t, ledger.Options{})
	for n, outcome := range []ledger.Outcome{ledger.Done, ledger.AlreadyGone, ledger.Failed, ledger.Escrowed, ledger.Unknown, ledger.Refused} {
		id := ended(t, l, fmt.Sprint("t", n), outcome)
		wantEqual(t, get(t, l, id).Outcome, outcome)
	}
	s := begin(t, l, intent("t"))
	for _, outcome := range []ledger.Outcome{"", "open", "finished"} {
		wantErr(t, s.Finish(t.Context(), ledger.Result{Outcome: outcome}), ledger.ErrInvalid)
	}
	wantErr(t, s.Step(t.Context(), "Not a word", ledger.Details{}), ledger.ErrInvalid)
	if op := get(t, l, s.ID()); !op.IsOpen() {
		t.Errorf("outcome %q", op.Outcome)
	}
	wantIntact(t, l)
}

func testInvalid(t *testing.T, at place) {
	l := at(t, ledger.Options{})
	known := ended(t, l, "t", ledger.Done)
	before := head(t, l)
	for name, test := range map[string]struct {
		id     string
		change func(*ledger.Intent)
	}{
		"no principal":       {change: func(i *ledger.Intent) { i.Principal = "" }},
		"no connection":      {change: func(i *ledger.Intent) { i.Connection = "" }},
		"no provider":        {change: func(i *ledger.Intent) { i.Provider = "" }},
		"no tool":            {change: func(i *ledger.Intent) { i.Tool = "" }},
		"a tool of words":    {change: func(i *ledger.Intent) { i.Tool = "revoke token" }},
		"no class":           {change: func(i *ledger.Intent) { i.Class = "" }},
		"fewer targets":      {change: func(i *ledger.Intent) { i.MoreTargets = -1 }},
		"target without id":  {change: func(i *ledger.Intent) { i.Targets = []ledger.Target{{Name: "x"}} }},
		"parent that is not": {change: func(i *ledger.Intent) { i.Parent = "p" }},
		"not an id":          {id: "1"},
		"id of version 4":    {id: "0b0e7c5e-5c5c-4b6e-9d0a-000000000000"},
		"id in upper case":   {id: strings.ToUpper(known)},
		"id on record":       {id: known},
	} {
		if test.change == nil {
			test.change = func(*ledger.Intent) {}
		}
		if _, err := l.Begin(t.Context(), test.id, intent("t", test.change)); !errors.Is(err, ledger.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	wantEqual(t, head(t, l), before)
	begin(t, l, intent("t")) // nothing of what was refused has kept the token
	_, err := l.Get(t.Context(), "nothing")
	wantErr(t, err, ledger.ErrNotFound)
	_, err = l.History(t.Context(), "nothing")
	wantErr(t, err, ledger.ErrNotFound)
	_, err = l.Claim(t.Context(), "nothing")
	wantErr(t, err, ledger.ErrNotFound)
	wantErr(t, l.Resolve(t.Context(), "nothing", "", ledger.Result{Outcome: ledger.Done}), ledger.ErrNotFound)
}

func testRecord(t *testing.T, at place) {
	l := at(t, ledger.Options{})
	holder := begin(t, l, intent("t"))
	op, recorded, err := l.Record(t.Context(), "", intent("t"), ledger.Result{Outcome: ledger.Refused, ErrorCode: "protected"})
	must(t, err)
	wantEqual(t, recorded, head(t, l))
	wantEqual(t, get(t, l, op.ID), op)
	wantEqual(t, []string{string(op.Outcome), op.ErrorCode}, []string{"refused", "protected"})
	wantEqual(t, kinds(t, l, op.ID), []string{"intent", "outcome"})
	_, _, err = l.Record(t.Context(), "", intent("t"), ledger.Result{})
	wantErr(t, err, ledger.ErrInvalid)
	finish(t, holder, ledger.Done)
	wantIntact(t, l)
}

func testOneChange(t *testing.T, at place) {
	c := newClock()
	a, b := at(t, c.options()), at(t, c.options())
	first := begin(t, a, intent("t1", func(i *ledger.Intent) {
		i.Targets = append(i.Targets, ledger.Target{ID: "t2"}, ledger.Target{ID: "t1"})
	}))
	for _, l := range []*ledger.Ledger{a, b} {
		before := head(t, l)
		_, err := l.Begin(t.Context(), "", intent("t0", func(i *ledger.Intent) { i.Targets = append(i.Targets, ledger.Target{ID: "t2"}) }))
		wantErr(t, err, ledger.ErrChangeInProgress, first.ID(), "t2")
		var taken *ledger.ChangeInProgressError
		if !errors.As(err, &taken) || taken.Abandoned || taken.Operation != first.ID() || taken.Token != "t2" {
			t.Errorf("%+v", taken)
		}
		wantEqual(t, head(t, l), before)
	}
	for _, change := range []func(*ledger.Intent){
		func(i *ledger.Intent) { i.Provider = "mailtrap" },
		func(i *ledger.Intent) { i.Account = "other" },
		func(i *ledger.Intent) { i.Targets[0].ID = "t3" },
		func(i *ledger.Intent) { i.Targets = nil },
		func(i *ledger.Intent) { i.Group = true },
	} {
		begin(t, b, intent("t1", change))
	}
	c.add(time.Hour)
	_, err := b.Begin(t.Context(), "", intent("t1"))
	wantErr(t, err, ledger.ErrChangeInProgress, "unfinished")
	var taken *ledger.ChangeInProgressError
	if !errors.As(err, &taken) || !taken.Abandoned {
		t.Errorf("%+v", taken)
	}
	finish(t, first, ledger.Done)
	// The connection is not part of it: two can lead to one account.
	second := begin(t, b, intent("t1", func(i *ledger.Intent) { i.Connection = "acme-again" }))
	finish(t, second, ledger.Done)
	begin(t, b, intent("t2"))
	wantIntact(t, a)
}

func testMadeToken(t *testing.T, at place) {
	l := at(t, ledger.Options{})
	s := begin(t, l, intent("", func(i *ledger.Intent) { i.Targets = nil }))
	must(t, s.Step(t.Context(), "minted", ledger.Details{NewTokenID: "new"}))
	_, err := l.Begin(t.Context(), "", intent("new"))
	wantErr(t, err, ledger.ErrChangeInProgress, s.ID())
	finish(t, s, ledger.Escrowed)
	other := begin(t, l, intent("new"))
	// Where another operation has the token already, what was done is recorded all the same.
	third := begin(t, l, intent("t3"))
	must(t, third.Step(t.Context(), "minted", ledger.Details{NewTokenID: "new"}))
	finish(t, third, ledger.Done)
	_, err = l.Begin(t.Context(), "", intent("new"))
	wantErr(t, err, ledger.ErrChangeInProgress, other.ID())
	wantIntact(t, l)
}

func testLeases(t *testing.T, at place) {
	c := newClock()
	a, b := at(t, c.options()), at(t, c.options())
	s := begin(t, a, intent("t1"))
	wantEqual(t, unfinished(t, b), []string{})
	_, err := b.Claim(t.Context(), s.ID())
	wantErr(t, err, ledger.ErrHeld, s.ID())

	c.add(40 * time.Second)
	must(t, s.Step(t.Context(), "sent", ledger.Details{})) // a sign of life
	c.add(40 * time.Second)
	wantEqual(t, unfinished(t, b), []string{})
	c.add(20 * time.Second)
	wantEqual(t, unfinished(t, b), []string{s.ID()})
	wantEqual(t, unfinished(t, a), []string{})             // the machine slept, and a is at it still
	must(t, s.Step(t.Context(), "late", ledger.Details{})) // nobody has claimed it
	wantEqual(t, unfinished(t, b), []string{})

	c.add(time.Minute)
	claimed, err := b.Claim(t.Context(), s.ID())
	must(t, err)
	wantEqual(t, unfinished(t, a), []string{})
	_, err = a.Claim(t.Context(), s.ID())
	wantErr(t, err, ledger.ErrHeld)
	op := claimed.Operation()
	if op.Process == s.Operation().Process || op.Claims != 1 || op.Step != "late" {
		t.Errorf("claimed %+v", op)
	}
	must(t, claimed.Release(t.Context()))
	wantEqual(t, unfinished(t, a), []string{s.ID()})
	again, err := a.Claim(t.Context(), s.ID())
	must(t, err)
	finish(t, again, ledger.Unknown)
	_, err = b.Claim(t.Context(), s.ID())
	wantErr(t, err, ledger.ErrFinished, "unknown")
	wantEqual(t, unfinished(t, a), []string{})
	wantEqual(t, kinds(t, a, s.ID()), []string{"intent", "step", "step", "claim", "claim", "outcome"})
	wantIntact(t, a)
}

func testStanding(t *testing.T, at place) {
	c := newClock()
	a, b := at(t, c.options()), at(t, c.options())
	standing := func(l *ledger.Ledger) ledger.Standing {
		s, err := l.Standing(t.Context())
		must(t, err)
		return s
	}
	wantEqual(t, standing(a), ledger.Standing{})
	for n, outcome := range []ledger.Outcome{ledger.Done, ledger.Escrowed, ledger.Escrowed, ledger.Unknown, ledger.Refused} {
		ended(t, a, fmt.Sprint("t", n), outcome)
	}
	s := begin(t, a, intent("open"))
	wantEqual(t, standing(b), ledger.Standing{Open: 1, Escrowed: 2, Unknown: 1})
	c.add(time.Hour)
	wantEqual(t, standing(b), ledger.Standing{Open: 1, Unfinished: 1, Escrowed: 2, Unknown: 1})
	finish(t, s, ledger.Unknown)
	wantEqual(t, standing(b), ledger.Standing{Escrowed: 2, Unknown: 2})
}

func testLostLease(t *testing.T, at place) {
	c := newClock()
	// One process with itself: a machine that slept can claim what it had.
	a := at(t, c.options())
	s := begin(t, a, intent("t1"))
	c.add(time.Minute)
	claimed, err := a.Claim(t.Context(), s.ID())
	must(t, err)
	wantErr(t, s.Step(t.Context(), "minted", ledger.Details{NewTokenID: "t2"}), ledger.ErrLeaseLost, s.ID())
	op := get(t, a, s.ID())
	// What the other found out is known, where it fills a gap, but moves nothing on.
	wantEqual(t, []any{op.Step, op.NewTokenID, op.Outcome}, []any{"", "t2", ledger.Outcome("")})
	_, err = a.Begin(t.Context(), "", intent("t2"))
	wantErr(t, err, ledger.ErrChangeInProgress, s.ID())
	must(t, claimed.Step(t.Context(), "found", ledger.Details{OldTokenID: "mine"}))
	late := ledger.Result{Outcome: ledger.Failed, ErrorCode: "x", Details: ledger.Details{OldTokenID: "theirs", Note: "late"}}
	wantErr(t, s.Finish(t.Context(), late), ledger.ErrLeaseLost)
	op = get(t, a, s.ID())
	wantEqual(t, []any{op.Step, op.OldTokenID, op.Outcome, op.Note}, []any{"found", "mine", ledger.Outcome(""), "late"})
	late.NewTokenID = "t2"
	wantEqual(t, *op.Late, late)
	must(t, s.Release(t.Context())) // is not its to release
	wantEqual(t, unfinished(t, a), []string{})
	_, err = a.Begin(t.Context(), "", intent("t1"))
	wantErr(t, err, ledger.ErrChangeInProgress)
	finish(t, claimed, ledger.Done)
	wantEqual(t, get(t, a, s.ID()).Outcome, ledger.Done)
	finish(t, begin(t, a, intent("t2")), ledger.Done)
	wantIntact(t, a)
}

func testLostAfterEnd(t *testing.T, at place) {
	c := newClock()
	l := at(t, c.options())
	s := begin(t, l, intent("t1"))
	c.add(time.Minute)
	claimed, err := l.Claim(t.Context(), s.ID())
	must(t, err)
	finish(t, claimed, ledger.Unknown)
	wantErr(t, s.Finish(t.Context(), ledger.Result{Outcome: ledger.Done}), ledger.ErrLeaseLost)
	op := get(t, l, s.ID())
	wantEqual(t, []ledger.Outcome{op.Outcome, op.Late.Outcome}, []ledger.Outcome{ledger.Unknown, ledger.Done})
	wantIntact(t, l)
}

func testHeartbeat(t *testing.T, at place) {
	c := newClock()
	a := at(t, ledger.Options{Now: c.Now, Lease: 300 * time.Millisecond}) // beats in real time
	b := at(t, c.options())
	first, second := begin(t, a, intent("t1")), begin(t, a, intent("t2"))
	before := head(t, b)
	for range 2 {
		expires := c.add(time.Hour).Add(300 * time.Millisecond)
		for len(unfinished(t, b)) > 0 { // until the next beat
			runtime.Gosched()
		}
		wantEqual(t, get(t, b, second.ID()).Lease, expires)
	}
	wantEqual(t, head(t, b), before)
	finish(t, first, ledger.Done)
	must(t, second.Release(t.Context()))
	wantEqual(t, unfinished(t, b), []string{second.ID()})
	claimed, err := b.Claim(t.Context(), second.ID())
	must(t, err)
	finish(t, claimed, ledger.Unknown)
	wantIntact(t, b)
}

func testClaimsAtOnce(t *testing.T, at place) {
	c := newClock()
	s := begin(t, at(t, c.options()), intent("t1"))
	c.add(time.Hour)
	ledgers := []*ledger.Ledger{at(t, c.options()), at(t, c.options())}
	won := atOnce(8, func(n int) bool {
		_, err := ledgers[n%2].Claim(t.Context(), s.ID())
		if err != nil && !errors.Is(err, ledger.ErrHeld) {
			t.Error(err)
		}
		return err == nil
	})
	wantEqual(t, won, 1)
	wantEqual(t, kinds(t, ledgers[0], s.ID()), []string{"intent", "claim"})
}

// atOnce runs f n times at once and returns how often it was true.
func atOnce(n int, f func(n int) bool) int {
	var wg sync.WaitGroup
	start, results := make(chan struct{}), make([]bool, n)
	for i := range n {
		wg.Go(func() {
			<-start
			results[i] = f(i)
		})
	}
	close(start)
	wg.Wait()
	return len(slices.DeleteFunc(results, func(ok bool) bool { return !ok }))
}

func testResolve(t *testing.T, at place) {
	c := newClock()
	l := at(t, c.options())
	for from, ok := range map[ledger.Outcome]bool{
		ledger.Unknown: true, ledger.Escrowed: true, ledger.Done: false, ledger.AlreadyGone: false, ledger.Failed: false, ledger.Refused: false,
	} {
		id := ended(t, l, "t", from)
		by := ended(t, l, "t", ledger.Done)
		before := get(t, l, id)
		c.add(time.Second)
		err := l.Resolve(t.Context(), id, by, ledger.Result{Outcome: ledger.Done, Details: ledger.Details{Verified: "true"}})
		if !ok {
			wantErr(t, err, ledger.ErrFinished, id)
			wantEqual(t, get(t, l, id), before)
			continue
		}
		must(t, err)
		want := before
		want.OutcomeSeq = head(t, l).Seq
		want.Outcome, want.Resolved, want.ResolvedBy, want.Verified = ledger.Done, c.Now(), by, "true"
		wantEqual(t, get(t, l, id), want)
		wantErr(t, l.Resolve(t.Context(), id, "", ledger.Result{Outcome: ledger.Failed}), ledger.ErrFinished)
	}
	s := begin(t, l, intent("open"))
	wantErr(t, l.Resolve(t.Context(), s.ID(), "", ledger.Result{Outcome: ledger.Done}), ledger.ErrHeld)
	wantErr(t, l.Resolve(t.Context(), s.ID(), "by", ledger.Result{Outcome: ledger.Done}), ledger.ErrInvalid)
	wantIntact(t, l)
}

func testList(t *testing.T, at place) {
	c := newClock()
	l := at(t, c.options())
	group := ended(t, l, "g", ledger.Done, func(i *ledger.Intent) { i.Group, i.Tool, i.Class = true, "bulk_revoke_tokens", "bulk" })
	child := ended(t, l, "c", ledger.Done, func(i *ledger.Intent) { i.Parent = group })
	other := ended(t, l, "t", ledger.Failed, func(i *ledger.Intent) { i.Principal, i.Connection = "ann", "beta" })
	noon := c.add(time.Hour)
	delivered := ended(t, l, "d", ledger.Done, func(i *ledger.Intent) { i.Sink, i.Key, i.Preview = "files", "a/b", "pv_1" })
	open := begin(t, l, intent("o")).ID()
	for name, test := range map[string]struct {
		query ledger.Query
		want  []string
	}{
		"all":          {ledger.Query{}, []string{open, delivered, other, child, group}},
		"top level":    {ledger.Query{TopLevel: true}, []string{open, delivered, other, group}},
		"principal":    {ledger.Query{Principal: "ann"}, []string{other}},
		"connection":   {ledger.Query{Connection: "beta"}, []string{other}},
		"tool":         {ledger.Query{Tool: "bulk_revoke_tokens"}, []string{group}},
		"outcome":      {ledger.Query{Outcome: ledger.Failed}, []string{other}},
		"open":         {ledger.Query{Outcome: ledger.OpenOutcome}, []string{open}},
		"parent":       {ledger.Query{Parent: group}, []string{child}},
		"preview":      {ledger.Query{Preview: "pv_1"}, []string{delivered}},
		"sink":         {ledger.Query{Sink: "files"}, []string{delivered}},
		"sink and key": {ledger.Query{Sink: "files", Key: "a/b"}, []string{delivered}},
		"another key":  {ledger.Query{Sink: "files", Key: "a/c"}, []string{}},
		"since":        {ledger.Query{Since: noon}, []string{open, delivered}},
		"since then":   {ledger.Query{Since: noon.Add(time.Microsecond)}, []string{}},
		"two at once":  {ledger.Query{Outcome: ledger.Done, Principal: "local", Limit: 2}, []string{delivered, child}},
	} {
		page, err := l.List(t.Context(), test.query)
		must(t, err)
		if !slices.Equal(ids(page.Operations), test.want) {
			t.Errorf("%s: %v, want %v", name, ids(page.Operations), test.want)
		}
	}
}

func testPages(t *testing.T, at place) {
	l := at(t, ledger.Options{})
	var want []string
	for n := range 5 {
		want = slices.Insert(want, 0, ended(t, l, fmt.Sprint("t", n), ledger.Done))
	}
	var got []string
	q := ledger.Query{Limit: 2}
	for {
		page, err := l.List(t.Context(), q)
		must(t, err)
		got = append(got, ids(page.Operations)...)
		if page.Next == 0 {
			break
		}
		ended(t, l, "meanwhile", ledger.Done)
		q.After = page.Next
	}
	wantEqual(t, got, want)
	page, err := l.List(t.Context(), ledger.Query{Limit: ledger.MaxPage + 1})
	must(t, err)
	wantEqual(t, []any{len(page.Operations), page.Next}, []any{7, int64(0)})
}

// counted makes one operation for each thing that counting looks at.
func counted(t *testing.T, l *ledger.Ledger, c *clock) (since time.Time) {
	ended(t, l, "old", ledger.Done)
	since = c.add(time.Minute)
	for n, outcome := range []ledger.Outcome{ledger.Done, ledger.Escrowed, ledger.Unknown, ledger.Failed, ledger.AlreadyGone, ledger.Refused} {
		ended(t, l, fmt.Sprint("t", n), outcome)
	}
	begin(t, l, intent("open"))
	group := begin(t, l, intent("g", func(i *ledger.Intent) { i.Group = true }))
	ended(t, l, "child", ledger.Done, func(i *ledger.Intent) { i.Parent = group.ID() })
	ended(t, l, "t", ledger.Done, func(i *ledger.Intent) { i.Principal = "ann" })
	ended(t, l, "t", ledger.Done, func(i *ledger.Intent) { i.Connection = "beta" })
	ended(t, l, "t", ledger.Done, func(i *ledger.Intent) { i.Class = "rotate" })
	ended(t, l, "t", ledger.Done, func(i *ledger.Intent) { i.Class, i.Compromised = "rotate", true })
	return since
}

func testCount(t *testing.T, at place) {
	c := newClock()
	l := at(t, c.options())
	since := counted(t, l, c)
	revoke, both := []ledger.Class{"revoke"}, []ledger.Class{"revoke", "rotate"}
	for name, test := range map[string]struct {
		count ledger.Count
		want  int
	}{
		"all of a class":       {ledger.Count{Principal: "local", Classes: revoke}, 7},
		"since":                {ledger.Count{Principal: "local", Classes: revoke, Since: since}, 6},
		"another principal":    {ledger.Count{Principal: "ann", Classes: revoke, Since: since}, 1},
		"nobody":               {ledger.Count{Classes: revoke}, 0},
		"a connection":         {ledger.Count{Principal: "local", Connection: "beta", Classes: revoke, Since: since}, 1},
		"single":               {ledger.Count{Principal: "local", Classes: revoke, Since: since, Single: true}, 5},
		"two classes":          {ledger.Count{Principal: "local", Classes: both, Since: since}, 8},
		"compromised rotation": {ledger.Count{Principal: "local", Classes: both, Since: since, Compromised: true}, 7},
		"no class":             {ledger.Count{Principal: "local"}, 0},
	} {
		got, err := l.CountSince(t.Context(), test.count)
		must(t, err)
		if got != test.want {
			t.Errorf("%s: %d, want %d", name, got, test.want)
		}
	}
}

func testLimits(t *testing.T, at place) {
	c := newClock()
	ledgers := []*ledger.Ledger{at(t, c.options()), at(t, c.options())}
	limit := ledger.Limit{Count: ledger.Count{Principal: "local", Classes: []ledger.Class{"revoke"}, Since: c.Now()}, Most: 3}
	won := atOnce(8, func(n int) bool {
		_, err := ledgers[n%2].Begin(t.Context(), "", intent(fmt.Sprint("t", n)), limit)
		if err != nil && !errors.Is(err, ledger.ErrLimit) {
			t.Error(err)
		}
		return err == nil
	})
	wantEqual(t, won, 3)
	_, err := ledgers[0].Begin(t.Context(), "", intent("t"), limit)
	wantErr(t, err, ledger.ErrLimit, "at most 3", "2026-11-22T10:00:00Z")
	limit.Since = c.add(time.Second)
	_, err = ledgers[0].Begin(t.Context(), "", intent("t"), limit)
	must(t, err)
}

// targets gives an intent n targets of its own.
func targets(n int) func(*ledger.Intent) {
	return func(i *ledger.Intent) {
		first := i.Targets[0].ID
		i.Targets = nil
		for k := range n {
			i.Targets = append(i.Targets, ledger.Target{ID: fmt.Sprint(first, "-", k)})
		}
	}
}

func testWeights(t *testing.T, at place) {
	c := newClock()
	l := at(t, c.options())
	limit := ledger.Limit{Count: ledger.Count{Principal: "local", Classes: []ledger.Class{"revoke", "revoke"}}, Most: 50}
	begin := func(token string, change ...func(*ledger.Intent)) (*ledger.Lease, error) {
		return l.Begin(t.Context(), "", intent(token, change...), limit)
	}
	s, err := begin("a", targets(40))
	must(t, err)
	_, err = begin("b", targets(11))
	var reached *ledger.LimitError
	if !errors.As(err, &reached) {
		t.Fatal(err)
	}
	wantEqual(t, *reached, ledger.LimitError{Limit: limit, Found: 40, Wanted: 11})
	wantErr(t, err, ledger.ErrLimit, "40 ", "at most 50", "10 left", "change 11", "fewer")
	_, err = begin("b", targets(1), func(i *ledger.Intent) { i.MoreTargets = 10 })
	wantErr(t, err, ledger.ErrLimit)
	nine, err := begin("c", targets(9))
	must(t, err)
	_, err = begin("d", targets(2))
	wantErr(t, err, ledger.ErrLimit, "1 left")
	_, err = begin("e", targets(0)) // at least 1
	must(t, err)
	_, err = begin("f")
	wantErr(t, err, ledger.ErrLimit, "0 left", "wait")
	_, err = begin("g", targets(100), func(i *ledger.Intent) { i.Group = true })
	must(t, err)
	count := func() int {
		n, err := l.CountSince(t.Context(), limit.Count)
		must(t, err)
		return n
	}
	wantEqual(t, count(), 50)
	finish(t, s, ledger.Unknown)
	wantEqual(t, count(), 50)
	must(t, l.Resolve(t.Context(), s.ID(), "", ledger.Result{Outcome: ledger.Failed})) // it has changed nothing
	wantEqual(t, count(), 10)
	finish(t, nine, ledger.AlreadyGone)
	wantEqual(t, count(), 1)
	wantIntact(t, l)
}

// deliver makes an operation that put a secret of the token into a key.
func deliver(t *testing.T, l *ledger.Ledger, token, key string, outcome ledger.Outcome, change ...func(*ledger.Intent)) string {
	t.Helper()
	s := begin(t, l, intent("", append([]func(*ledger.Intent){func(i *ledger.Intent) { i.Targets, i.Sink, i.Key = nil, "files", key }}, change...)...))
	must(t, s.Finish(t.Context(), ledger.Result{Outcome: outcome, Details: ledger.Details{NewTokenID: token}}))
	return s.ID()
}

func testDeliveries(t *testing.T, at place) {
	l := at(t, newClock().options()) // all at one time: their order is that of the chain
	want := func(token, key, id string) {
		t.Helper()
		of, found, err := l.LastDelivery(t.Context(), "launchdarkly", "acme", token)
		must(t, err)
		wantEqual(t, []any{of.ID, found}, []any{id, id != ""})
		to, found, err := l.LastDeliveryTo(t.Context(), "files", key)
		must(t, err)
		wantEqual(t, []any{to.ID, found}, []any{id, id != ""})
		if id != "" {
			wantEqual(t, of, get(t, l, id))
		}
	}
	want("t", "k", "")
	for _, outcome := range []ledger.Outcome{ledger.Escrowed, ledger.Unknown, ledger.Failed, ledger.Refused, ledger.AlreadyGone} {
		deliver(t, l, "t", "k", outcome)
	}
	deliver(t, l, "t", "k", ledger.Done, func(i *ledger.Intent) { i.Sink = "" })
	deliver(t, l, "t", "", ledger.Done)
	deliver(t, l, "", "k", ledger.Done)
	want("t", "k", "")
	for _, change := range []func(*ledger.Intent){
		func(i *ledger.Intent) { i.Provider, i.Sink = "mailtrap", "vault" },
		func(i *ledger.Intent) { i.Account, i.Sink = "other", "vault" },
	} {
		deliver(t, l, "t", "k", ledger.Done, change)
	}
	want("t", "k", "")

	// One that began first and ends last is the newest.
	slow := begin(t, l, intent("", func(i *ledger.Intent) { i.Targets, i.Sink, i.Key = nil, "files", "k" }))
	first := deliver(t, l, "t", "k", ledger.Done)
	want("t", "k", first)
	must(t, slow.Finish(t.Context(), ledger.Result{Outcome: ledger.Done, Details: ledger.Details{NewTokenID: "t"}}))
	want("t", "k", slow.ID())

	// What was resolved by itself counts from then; by another operation, the delivery is that one's.
	alone, helped := deliver(t, l, "t", "k", ledger.Unknown), deliver(t, l, "t", "k", ledger.Escrowed)
	second := deliver(t, l, "t", "k", ledger.Done)
	want("t", "k", second)
	must(t, l.Resolve(t.Context(), alone, alone, ledger.Result{Outcome: ledger.Done}))
	want("t", "k", alone)
	third := deliver(t, l, "t", "k", ledger.Done)
	must(t, l.Resolve(t.Context(), helped, third, ledger.Result{Outcome: ledger.Done}))
	want("t", "k", third)
	elsewhere := deliver(t, l, "t", "other", ledger.Done)
	of, _, err := l.LastDelivery(t.Context(), "launchdarkly", "acme", "t")
	must(t, err)
	wantEqual(t, of.ID, elsewhere)
	to, _, err := l.LastDeliveryTo(t.Context(), "files", "k")
	must(t, err)
	wantEqual(t, to.ID, third)

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, _, err = l.LastDelivery(ctx, "launchdarkly", "acme", "none")
	wantErr(t, err, context.Canceled)
	wantIntact(t, l)
	must(t, l.Rebuild(t.Context()))
	wantIntact(t, l)
}

// A late report that names the token makes a delivery of what had ended without it, as of its end.
func testLateDelivery(t *testing.T, at place) {
	c := newClock()
	l := at(t, c.options())
	s := begin(t, l, intent("", func(i *ledger.Intent) { i.Targets, i.Sink, i.Key = nil, "files", "k" }))
	c.add(time.Minute)
	claimed, err := l.Claim(t.Context(), s.ID())
	must(t, err)
	finish(t, claimed, ledger.Done)
	ended := head(t, l).Seq
	newer := deliver(t, l, "t", "k", ledger.Done)
	_, found, err := l.LastDelivery(t.Context(), "launchdarkly", "acme", "late")
	must(t, err)
	wantEqual(t, found, false)
	wantErr(t, s.Step(t.Context(), "minted", ledger.Details{NewTokenID: "late"}), ledger.ErrLeaseLost)
	op, _, err := l.LastDelivery(t.Context(), "launchdarkly", "acme", "late")
	must(t, err)
	wantEqual(t, []any{op.ID, op.OutcomeSeq}, []any{s.ID(), ended})
	op, _, err = l.LastDeliveryTo(t.Context(), "files", "k")
	must(t, err)
	wantEqual(t, op.ID, newer)
	wantIntact(t, l)
}

// Of a token that an operation made, somebody has the secret, unless its end says otherwise.
func testMade(t *testing.T, at place) {
	c := newClock()
	l, other := at(t, c.options()), at(t, c.options())
	for outcome, want := range map[ledger.Outcome]bool{
		"": true, ledger.Done: true, ledger.Escrowed: true, ledger.Unknown: false, ledger.Failed: false,
	} {
		token := "made-" + string(outcome)
		s := begin(t, l, intent("", func(i *ledger.Intent) { i.Targets, i.Sink, i.Key = nil, "files", "k" }))
		must(t, s.Step(t.Context(), "minted", ledger.Details{NewTokenID: token}))
		if outcome != "" {
			finish(t, s, outcome)
		}
		for _, of := range []struct {
			provider, account, token string
			want                     bool
		}{{"launchdarkly", "acme", token, want}, {"mailtrap", "acme", token, false}, {"launchdarkly", "other", token, false}, {"launchdarkly", "acme", "none", false}} {
			made, err := other.IsMade(t.Context(), &ledger.Operation{Intent: ledger.Intent{Provider: of.provider, Account: of.account}}, of.token)
			must(t, err)
			wantEqual(t, made, of.want)
		}
	}
}

// A token whose maker may be an operation that has not said yet what it made, or one that was taken for dead
// meanwhile, is not taken for one that nobody has the secret of.
func testMayBeMade(t *testing.T, at place) {
	c := newClock()
	l, other := at(t, c.options()), at(t, c.options())
	minting := func(i *ledger.Intent) {
		i.Targets, i.Sink, i.Key, i.NewTokenName = nil, "files", "k", "ci"
	}
	rotating := func(name string) func(*ledger.Intent) {
		return func(i *ledger.Intent) {
			i.Targets, i.Sink, i.Key = []ledger.Target{{ID: "old", Name: name}}, "files", "k"
		}
	}
	asking := begin(t, l, intent("", minting))
	by := asking.Operation()
	isMade := func(token string, want error) {
		t.Helper()
		made, err := l.IsMade(t.Context(), &by, token)
		if made || !errors.Is(err, want) {
			t.Errorf("made %v, error %v, want %v", made, err, want)
		}
	}
	isMade("t", nil)
	for name, tt := range map[string]struct {
		change func(*ledger.Intent)
		want   error
	}{
		"creation":          {minting, ledger.ErrMayBeMade},
		"rotation":          {rotating("ci"), ledger.ErrMayBeMade},
		"of another name":   {rotating("deploy"), nil},
		"at another vendor": {func(i *ledger.Intent) { minting(i); i.Provider = "mailtrap" }, nil},
		"of an account":     {func(i *ledger.Intent) { minting(i); i.Account = "other" }, nil},
		"no minting":        {func(i *ledger.Intent) { i.Targets = []ledger.Target{{ID: "old", Name: "ci"}} }, nil},
		"a delivery":        {func(i *ledger.Intent) { minting(i); i.Of = by.ID }, nil},
	} {
		s := begin(t, other, intent("", tt.change))
		t.Run(name, func(*testing.T) { isMade("t", tt.want) })
		finish(t, s, ledger.Failed)
		isMade("t", nil)
	}
	s := begin(t, other, intent("", minting))
	must(t, s.Step(t.Context(), "minted", ledger.Details{NewTokenID: "t"}))
	isMade("t2", nil)
	made, err := l.IsMade(t.Context(), &by, "t")
	must(t, err)
	wantEqual(t, made, true)
	finish(t, s, ledger.Done)

	finish(t, asking, ledger.Unknown)

	for _, minted := range []string{"", "t3"} {
		asking := begin(t, l, intent("", minting))
		by = asking.Operation()
		s := begin(t, other, intent("", minting))
		if minted != "" {
			must(t, s.Step(t.Context(), "minted", ledger.Details{NewTokenID: minted}))
		}
		must(t, s.Release(t.Context()))
		claimed, err := l.Claim(t.Context(), s.ID())
		must(t, err)
		finish(t, claimed, ledger.Unknown)
		isMade("t3", ledger.ErrMayBeMade) // its process may live, and report late
		finish(t, asking, ledger.Unknown)
		c.add(time.Second)
	}
	later := begin(t, l, intent("", minting))
	by = later.Operation()
	isMade("t3", nil)
}

// Values that must not come through, each with what makes it dangerous.
const (
	mailtrapShape    = "0123456789abcdef0123456789abcdef"
	atlassianShape   = "ATATT3xFfGF0abcdefghijklmnopqrstuvwxyz0123456789"
	formatCharacters = "\x1b[2J\u202e\u200b\U000e0041\n"
)

// fill puts text into every string of v.
func fill(v reflect.Value, text string) {
	switch v.Kind() {
	case reflect.String:
		v.SetString(text)
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			return
		}
		for i := range v.NumField() {
			fill(v.Field(i), text)
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(v.Index(0), text)
	}
}

func testCleaning(t *testing.T, at place) {
	c := newClock()
	l := at(t, c.options())
	for n, text := range []string{mailtrapShape, atlassianShape, "x" + formatCharacters + "y", strings.Repeat("word ", 1000)} {
		var i ledger.Intent
		fill(reflect.ValueOf(&i).Elem(), text)
		i.Tool, i.Class, i.Parent, i.Of = "rotate_token", "rotate", "", ""
		i.Account += fmt.Sprint(n)
		var r ledger.Result
		fill(reflect.ValueOf(&r).Elem(), text)
		r.Outcome = ledger.Done
		s := begin(t, l, i)
		must(t, s.Step(t.Context(), "minted", r.Details))
		c.add(time.Hour)
		claimed, err := l.Claim(t.Context(), s.ID())
		must(t, err)
		wantErr(t, s.Finish(t.Context(), r), ledger.ErrLeaseLost)
		r.Outcome = ledger.Unknown
		must(t, claimed.Finish(t.Context(), r))
		must(t, l.Resolve(t.Context(), s.ID(), "", r))
		_, _, err = l.Record(t.Context(), "", i, r)
		must(t, err)
		p, _, err := l.OpenPreview(t.Context(), ledger.Preview{Principal: text, Tool: text, Arguments: []byte(`{}`), Plan: []byte(`{}`)})
		must(t, err)
		_, err = l.ApprovePreview(t.Context(), p.ID, text)
		must(t, err)
	}
	for _, format := range []ledger.Format{ledger.JSONLines, ledger.CSV} {
		out := export(t, l, format)
		for _, bad := range []string{mailtrapShape, "ATATT3", "abcdefghijklmnopqrstuvwxyz0123456789", "\x1b", "\\u001b", "\u202e", "\\u202e", "\u200b", "\U000e0041", strings.Repeat("word ", 61)} {
			if strings.Contains(out, bad) {
				t.Errorf("the %s export holds %q:\n%s", format, bad, out)
			}
		}
	}
	wantIntact(t, l)
}

func testIdentities(t *testing.T, at place) {
	l := at(t, ledger.Options{})
	ann, bob := "ATATT3xFfGF0ann-long-enough", "ATATT3xFfGF0bob-long-enough"
	first := ended(t, l, "t1", ledger.Done, func(i *ledger.Intent) { i.Principal = ann })
	ended(t, l, "t1", ledger.Done, func(i *ledger.Intent) { i.Principal = bob })
	page, err := l.List(t.Context(), ledger.Query{Principal: ann})
	must(t, err)
	wantEqual(t, ids(page.Operations), []string{first})
	n, err := l.CountSince(t.Context(), ledger.Count{Principal: bob, Classes: []ledger.Class{"revoke"}})
	must(t, err)
	wantEqual(t, n, 1)
	// What was read can be asked for.
	page, err = l.List(t.Context(), ledger.Query{Principal: get(t, l, first).Principal})
	must(t, err)
	wantEqual(t, ids(page.Operations), []string{first})
	begin(t, l, intent(ann))
	begin(t, l, intent(bob))
	_, err = l.Begin(t.Context(), "", intent(ann))
	wantErr(t, err, ledger.ErrChangeInProgress)
	for _, id := range []string{"712020:0b0e7c5e-5c5c-4b6e-9d0a-1234567890ab", "61a1b2c3d4e5f60718293a4b", "4242", "acme-launchdarkly/0199a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b"} {
		if op := get(t, l, ended(t, l, id, ledger.Done)); op.Targets[0].ID != id {
			t.Errorf("id %s is kept as %s", id, op.Targets[0].ID)
		}
	}
}

func testManyTargets(t *testing.T, at place) {
	l := at(t, ledger.Options{})
	s := begin(t, l, intent("t", targets(100_000)))
	op := get(t, l, s.ID())
	wantEqual(t, []int{len(op.Targets), op.MoreTargets}, []int{ledger.MaxTargets, 100_000 - ledger.MaxTargets})
	for n, taken := range map[int]bool{0: true, ledger.MaxTargets - 1: true, ledger.MaxTargets: false} {
		if _, err := l.Begin(t.Context(), "", intent(fmt.Sprint("t-", n))); errors.Is(err, ledger.ErrChangeInProgress) != taken {
			t.Errorf("target %d: %v", n, err)
		}
	}
	must(t, s.Step(t.Context(), "sent", ledger.Details{Note: "one by one"}))
	n, err := l.CountSince(t.Context(), ledger.Count{Principal: "local", Classes: []ledger.Class{"revoke"}})
	must(t, err)
	wantEqual(t, n, 100_001)
	finish(t, s, ledger.Done)
	begin(t, l, intent("t-0"))
	wantIntact(t, l)
	// No entry grows with what the operation has beyond its bound.
	for line := range strings.Lines(export(t, l, ledger.JSONLines)) {
		if len(line) > 100_000 {
			t.Errorf("an entry of %d bytes", len(line))
		}
	}
}

func testCancelled(t *testing.T, at place) {
	l := at(t, ledger.Options{})
	s := begin(t, l, intent("t"))
	before := head(t, l)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, beginning := l.Begin(ctx, "", intent("t2"))
	_, listing := l.List(ctx, ledger.Query{})
	_, verifying := l.Verify(ctx, "")
	for _, err := range []error{beginning, listing, verifying, s.Step(ctx, "sent", ledger.Details{}), s.Finish(ctx, ledger.Result{Outcome: ledger.Done})} {
		wantErr(t, err, context.Canceled)
	}
	wantEqual(t, head(t, l), before)
	finish(t, s, ledger.Done)
}

func testClosed(t *testing.T, at place) {
	l := at(t, ledger.Options{Lease: time.Millisecond})
	s := begin(t, l, intent("t"))
	must(t, l.Close())
	must(t, l.Close())
	_, err := l.Begin(t.Context(), "", intent("t2"))
	wantErr(t, err, ledger.ErrUnavailable, "closed")
	wantErr(t, s.Finish(t.Context(), ledger.Result{Outcome: ledger.Done}), ledger.ErrUnavailable)
	again := at(t, ledger.Options{Now: func() time.Time { return time.Now().Add(time.Hour) }})
	wantEqual(t, unfinished(t, again), []string{s.ID()})
}

func testExport(t *testing.T, at place) {
	l := at(t, newClock().options())
	id := ended(t, l, "t1", ledger.Done, func(i *ledger.Intent) {
		i.Reason, i.Targets = `=HYPERLINK("unused"), "quoted"`, append(i.Targets, ledger.Target{ID: "-1"})
	})
	begin(t, l, intent("t2", func(i *ledger.Intent) { i.Reason = "<b>&\u00e9" }))
	out := export(t, l, ledger.JSONLines)
	lines := strings.SplitAfter(strings.TrimSuffix(out, "\n"), "\n")
	wantEqual(t, len(lines), 3)
	first := `{"seq":1,"time":"2026-11-22T10:00:00.000000Z","kind":"intent","operation":"` + id + `","body":{"account":"acme","class":"revoke","client":{"name":"claude","version":"1"},`
	if !strings.HasPrefix(lines[0], first) {
		t.Errorf("first line\n%s\nwant\n%s", lines[0], first)
	}
	if !strings.Contains(lines[2], "<b>&\u00e9") {
		t.Errorf("text is escaped: %s", lines[2])
	}
	report, err := ledger.VerifyExport(strings.NewReader(out), head(t, l).Hash)
	must(t, err)
	wantEqual(t, report, ledger.Report{Entries: 3, Head: head(t, l), Given: 3})
	for name, altered := range map[string]string{
		"name of a member": strings.Replace(out, `"seq":1`, `"Seq":1`, 1),
		"one more member":  strings.Replace(out, `"seq":1`, `"x":1,"seq":1`, 1),
		"a space":          strings.Replace(out, `"seq":1`, `"seq": 1`, 1),
		"an escape":        strings.Replace(out, "unused", `unuse\u0064`, 1),
		"no last line end": strings.TrimSuffix(out, "\n"),
		"an empty line":    out + "\n",
		"a line less":      lines[0] + lines[2],
		"lines exchanged":  lines[1] + lines[0] + lines[2],
	} {
		if report, err := ledger.VerifyExport(strings.NewReader(altered), ""); err != nil || report.OK() || altered == out {
			t.Errorf("%s: %+v %v", name, report, err)
		}
	}
	report, err = ledger.VerifyExport(strings.NewReader(lines[0]+lines[1]), head(t, l).Hash)
	must(t, err)
	if report.OK() {
		t.Error("an export that was shortened is in order")
	}

	table := strings.Split(export(t, l, ledger.CSV), "\n")
	wantEqual(t, len(table), 4)
	if want := id + ",,2026-11-22T10:00:00Z,2026-11-22T10:00:00Z,done,,local,claude 1,revoke_token,revoke,acme-launchdarkly,launchdarkly,acme,2,t1 -1,"; !strings.HasPrefix(table[1], want) {
		t.Errorf("row %s\nwant %s", table[1], want)
	}
	if !strings.Contains(table[1], `,"'=HYPERLINK(""unused""), ""quoted""",`) {
		t.Errorf("a formula: %s", table[1])
	}
	wantErr(t, l.Export(t.Context(), t.Output(), "xml"), ledger.ErrInvalid, "jsonl", "csv")
	boom := errors.New("boom")
	wantErr(t, l.Export(t.Context(), failing{boom}, ledger.JSONLines), boom)
	wantErr(t, l.Export(t.Context(), failing{boom}, ledger.CSV), boom)
}

type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }

func testVerify(t *testing.T, at place) {
	l := at(t, ledger.Options{})
	empty := verify(t, l, "")
	wantEqual(t, empty, ledger.Report{Head: ledger.Head{Hash: strings.Repeat("0", 64)}})
	ended(t, l, "t1", ledger.Done)
	noted := head(t, l)
	begin(t, l, intent("t2"))
	report := verify(t, l, noted.Hash)
	wantEqual(t, report, ledger.Report{Entries: 3, Operations: 2, Head: head(t, l), Given: 2})
	missing := verify(t, l, strings.Repeat("a", 64))
	if missing.OK() || !strings.Contains(problems(&missing), "not in the chain") {
		t.Errorf("%+v", missing)
	}
	for _, bad := range []string{"x", strings.Repeat("A", 64), noted.Hash + "0"} {
		_, err := l.Verify(t.Context(), bad)
		wantErr(t, err, ledger.ErrInvalid)
	}
	must(t, l.Rebuild(t.Context()))
	wantEqual(t, verify(t, l, noted.Hash), report)
}

func testAtOnce(t *testing.T, at place) {
	ledgers := []*ledger.Ledger{at(t, ledger.Options{}), at(t, ledger.Options{})}
	const each = 4
	atOnce(6, func(n int) bool {
		l := ledgers[n%2]
		for i := range each {
			s, err := l.Begin(t.Context(), "", intent(fmt.Sprint("t", n, i)))
			if err == nil {
				err = errors.Join(s.Step(t.Context(), "sent", ledger.Details{}), s.Finish(t.Context(), ledger.Result{Outcome: ledger.Done}))
			}
			if _, read := l.List(t.Context(), ledger.Query{}); err != nil || read != nil {
				t.Error(err, read)
			}
		}
		return true
	})
	report := wantIntact(t, ledgers[0])
	wantEqual(t, []int64{report.Entries, report.Operations}, []int64{6 * each * 3, 6 * each})
}
