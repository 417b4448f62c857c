package ledger_test

import (
	"strings"
	"testing"
	"time"

	"github.com/tokenreeve/tokenreeve/internal/ledger"
)

var zoe = ledger.Decider{Principal: "token:zoe", From: "static from 192.0.2.7"}

func testForms(t *testing.T, at place) {
	c := newClock()
	l := at(t, c.options())
	other := at(t, c.options())
	p, _ := openPreview(t, l, "token:bot")
	q, _ := openPreview(t, l, "token:bot")
	state, err := l.AskPreview(t.Context(), p.ID)
	must(t, err)
	before := head(t, l)
	open := func(id, principal string) string {
		t.Helper()
		form, err := l.OpenForm(t.Context(), id, principal)
		must(t, err)
		return form
	}
	mine, second, anothers, ofAnother := open(p.ID, zoe.Principal), open(p.ID, zoe.Principal), open(p.ID, "token:yan"), open(q.ID, zoe.Principal)
	right, err := other.AnswerPreview(t.Context(), p.ID, state)
	must(t, err)
	wantEqual(t, right, true) // a form voids no question
	for _, form := range []string{"", p.ID, strings.ToLower(mine), mine[1:], anothers, ofAnother} {
		for _, decide := range []func() (ledger.Preview, error){
			func() (ledger.Preview, error) { return other.ApproveByForm(t.Context(), p.ID, form, zoe) },
			func() (ledger.Preview, error) { return other.DeclineByForm(t.Context(), p.ID, form, zoe) },
		} {
			_, err := decide()
			wantErr(t, err, ledger.ErrFormSpent)
		}
	}
	wantEqual(t, head(t, l), before)

	approved, err := other.ApproveByForm(t.Context(), p.ID, mine, zoe)
	must(t, err)
	wantEqual(t, approved.Approval(), "token:zoe (static from 192.0.2.7)")
	found, err := l.FindPreview(t.Context(), p.ID)
	must(t, err)
	wantEqual(t, found.Approval(), approved.Approval())
	_, err = l.DeclineByForm(t.Context(), p.ID, mine, zoe)
	wantErr(t, err, ledger.ErrFormSpent)
	_, err = l.ApproveByForm(t.Context(), p.ID, second, zoe)
	wantErr(t, err, ledger.ErrPreviewOver, "approved by token:zoe already")
	declined, err := l.DeclineByForm(t.Context(), p.ID, anothers, ledger.Decider{Principal: "token:yan"})
	must(t, err)
	wantEqual(t, declined.State, ledger.PreviewDeclined)
	_, err = l.OpenForm(t.Context(), p.ID, zoe.Principal)
	wantErr(t, err, ledger.ErrPreviewOver, "declined")
	_, err = l.OpenForm(t.Context(), "pv_X", zoe.Principal)
	wantErr(t, err, ledger.ErrNotFound)

	// Whoever opens many pages loses their own oldest ones, and nobody else's.
	stays := open(q.ID, "token:yan")
	for range 16 {
		c.add(time.Millisecond)
		mine = open(q.ID, zoe.Principal)
	}
	_, err = l.DeclineByForm(t.Context(), q.ID, ofAnother, zoe)
	wantErr(t, err, ledger.ErrFormSpent)
	_, err = l.ApproveByForm(t.Context(), q.ID, stays, ledger.Decider{Principal: "token:yan"})
	must(t, err)
	c.add(ledger.PreviewLife)
	_, err = l.DeclineByForm(t.Context(), q.ID, mine, zoe)
	wantErr(t, err, ledger.ErrNotFound)
	if strings.Contains(export(t, l, ledger.JSONLines), stays) {
		t.Error("a form is in the chain")
	}
	wantIntact(t, l)
}

// Of decisions that bring one form at the same time, one counts.
func testFormsAtOnce(t *testing.T, at place) {
	ledgers := []*ledger.Ledger{at(t, ledger.Options{}), at(t, ledger.Options{})}
	p, _ := openPreview(t, ledgers[0], "token:bot")
	form, err := ledgers[0].OpenForm(t.Context(), p.ID, zoe.Principal)
	must(t, err)
	won := atOnce(8, func(n int) bool {
		decide := ledgers[n%2].ApproveByForm
		if n >= 4 {
			decide = ledgers[n%2].DeclineByForm
		}
		_, err := decide(t.Context(), p.ID, form, zoe)
		return err == nil
	})
	wantEqual(t, won, 1)
	wantIntact(t, ledgers[0])
}

// The yes of who asked gives way to that of another, and not the other way round.
func testSecondApprovals(t *testing.T, at place) {
	l := at(t, ledger.Options{})
	for asked, approvals := range map[string][]struct {
		by    string
		names string // who the record names then
		other bool
	}{
		"local":     {{"local:root", "local:root", false}, {"local:ann", "local:root", false}, {"token:zoe", "token:zoe", true}, {"local:root", "token:zoe", true}, {"token:yan", "token:zoe", true}},
		"token:zoe": {{"local:root", "local:root", true}, {"token:yan", "local:root", true}},
	} {
		p, _ := openPreview(t, l, asked)
		for _, a := range approvals {
			_, err := l.ApprovePreview(t.Context(), p.ID, a.by)
			must(t, err)
			found, err := l.FindPreview(t.Context(), p.ID)
			must(t, err)
			if found.ApprovedBy != a.names || found.IsApprovedByOther() != a.other {
				t.Errorf("asked by %s, approved by %s: %s is named, another: %v", asked, a.by, found.ApprovedBy, found.IsApprovedByOther())
			}
		}
	}
	wantIntact(t, l)
}
