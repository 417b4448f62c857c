package ledger_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/tokenreeve/tokenreeve/internal/ledger"
)

const previewed = `{"connection":"acme","token_id":"t1"}`

func openPreview(t *testing.T, l *ledger.Ledger, principal string) (ledger.Preview, string) {
	t.Helper()
	p, code, err := l.OpenPreview(t.Context(), ledger.Preview{
		Principal: principal, Tool: "revoke_token", Arguments: json.RawMessage(previewed), Plan: json.RawMessage(`{"targets":["t1"]}`),
	})
	must(t, err)
	return p, code
}

func peek(t *testing.T, l *ledger.Ledger, code string) ledger.Check {
	t.Helper()
	check, err := l.PeekPreview(t.Context(), code, "local", "revoke_token", json.RawMessage(previewed))
	must(t, err)
	return check
}

func take(t *testing.T, l *ledger.Ledger, code string) ledger.Check {
	t.Helper()
	check, err := l.TakePreview(t.Context(), code, "local", "revoke_token", json.RawMessage(previewed))
	must(t, err)
	return check
}

func testPreviews(t *testing.T, at place) {
	c := newClock()
	a, b := at(t, c.options()), at(t, c.options())
	p, code := openPreview(t, a, "local")
	_, other := openPreview(t, a, "local")
	want := ledger.Preview{
		ID: p.ID, Principal: "local", Tool: "revoke_token", Plan: json.RawMessage(`{"targets":["t1"]}`),
		Created: c.Now(), Expires: c.Now().Add(10 * time.Minute), State: ledger.PreviewOpen,
	}
	wantEqual(t, p, want, cmpopts.IgnoreFields(ledger.Preview{}, "Arguments"))
	for name, test := range map[string]struct {
		code, principal, tool, arguments string
		want                             ledger.Verdict
		changed                          []string
	}{
		"accepted":           {code, "local", "revoke_token", previewed, ledger.Accepted, nil},
		"no code":            {"", "local", "revoke_token", previewed, ledger.NotACode, nil},
		"yes":                {"true", "local", "revoke_token", previewed, ledger.NotACode, nil},
		"the preview's id":   {p.ID, "local", "revoke_token", previewed, ledger.NotACode, nil},
		"in lower case":      {strings.ToLower(code), "local", "revoke_token", previewed, ledger.NotACode, nil},
		"altered":            {"A" + code[:25], "local", "revoke_token", previewed, ledger.NotACode, nil},
		"another's":          {code, "ann", "revoke_token", previewed, ledger.NotACode, nil},
		"another tool":       {code, "local", "rotate_token", previewed, ledger.Mismatch, []string{"tool"}},
		"a changed argument": {code, "local", "revoke_token", `{"connection":"acme","token_id":"t2"}`, ledger.Mismatch, []string{"token_id"}},
		"one more, one less": {code, "local", "revoke_token", `{"reason":"x","token_id":"t1"}`, ledger.Mismatch, []string{"connection", "reason"}},
		"values exchanged":   {code, "local", "revoke_token", `{"connection":"t1","token_id":"acme"}`, ledger.Mismatch, []string{"connection", "token_id"}},
	} {
		for _, judge := range []func(*ledger.Ledger) (ledger.Check, error){
			func(l *ledger.Ledger) (ledger.Check, error) {
				return l.PeekPreview(t.Context(), test.code, test.principal, test.tool, json.RawMessage(test.arguments))
			},
			func(l *ledger.Ledger) (ledger.Check, error) {
				if test.want == ledger.Accepted {
					return ledger.Check{Verdict: ledger.Accepted}, nil
				}
				return l.TakePreview(t.Context(), test.code, test.principal, test.tool, json.RawMessage(test.arguments))
			},
		} {
			check, err := judge(b)
			must(t, err)
			if check.Verdict != test.want || fmt.Sprint(check.Changed) != fmt.Sprint(test.changed) {
				t.Errorf("%s: %v %v, want %v %v", name, check.Verdict, check.Changed, test.want, test.changed)
			}
		}
	}
	check := take(t, b, code)
	want.State, want.Taken = ledger.PreviewRunning, c.Now()
	wantEqual(t, check, ledger.Check{Verdict: ledger.Accepted, Preview: want})
	wantEqual(t, take(t, a, code).Verdict, ledger.Running)
	must(t, b.RecordPreview(t.Context(), p.ID, json.RawMessage(`{"done":1}`)))
	want.State, want.Plan = ledger.PreviewDone, json.RawMessage(`null`)
	for range 2 {
		wantEqual(t, take(t, a, code), ledger.Check{Verdict: ledger.PreviewEnded, Preview: want, Result: json.RawMessage(`{"done":1}`)})
	}
	wantErr(t, b.RecordPreview(t.Context(), p.ID, json.RawMessage(`{}`)), ledger.ErrPreviewOver)
	wantErr(t, b.RecordPreview(t.Context(), "pv_X", json.RawMessage(`{}`)), ledger.ErrNotFound)
	wantErr(t, b.RecordPreview(t.Context(), p.ID, json.RawMessage(`{`)), ledger.ErrInvalid)
	wantEqual(t, peek(t, a, other).Verdict, ledger.Accepted)
	for _, bad := range []ledger.Preview{{Arguments: []byte(`[]`), Plan: []byte(`1`)}, {Arguments: []byte(`{"":1}`), Plan: []byte(`1`)}, {Arguments: []byte(`{}`)}} {
		_, _, err := a.OpenPreview(t.Context(), bad)
		wantErr(t, err, ledger.ErrInvalid)
	}
	wantIntact(t, a)
}

func testDecisions(t *testing.T, at place) {
	c := newClock()
	a, b := at(t, c.options()), at(t, c.options())
	p, code := openPreview(t, a, "local")
	c.add(time.Second)
	approved, err := b.ApprovePreview(t.Context(), p.ID, "root on tty1")
	must(t, err)
	wantEqual(t, approved.ApprovedBy, "root on tty1")
	wantEqual(t, approved.Approved, c.Now())
	c.add(time.Second)
	again, err := b.ApprovePreview(t.Context(), p.ID, "somebody")
	must(t, err)
	wantEqual(t, again, approved)
	wantEqual(t, peek(t, a, code).Preview, approved)
	found, err := a.FindPreview(t.Context(), p.ID)
	must(t, err)
	wantEqual(t, found, approved)
	wantEqual(t, take(t, a, code).Preview.ApprovedBy, "root on tty1")
	_, err = b.DeclinePreview(t.Context(), p.ID, "root")
	wantErr(t, err, ledger.ErrPreviewOver, "running")

	p, code = openPreview(t, a, "local")
	_, err = a.ApprovePreview(t.Context(), p.ID, "root")
	must(t, err)
	declined, err := b.DeclinePreview(t.Context(), p.ID, "ann")
	must(t, err)
	wantEqual(t, []any{declined.State, declined.DeclinedBy}, []any{ledger.PreviewDeclined, "ann"})
	wantEqual(t, take(t, a, code).Verdict, ledger.Declined)
	_, err = b.ApprovePreview(t.Context(), p.ID, "root")
	wantErr(t, err, ledger.ErrPreviewOver, "declined")

	for _, decide := range []func(id, who string) (ledger.Preview, error){
		func(id, who string) (ledger.Preview, error) { return a.ApprovePreview(t.Context(), id, who) },
		func(id, who string) (ledger.Preview, error) { return a.DeclinePreview(t.Context(), id, who) },
	} {
		_, err := decide(p.ID, "")
		wantErr(t, err, ledger.ErrInvalid)
		_, err = decide("pv_X", "root")
		wantErr(t, err, ledger.ErrNotFound)
		_, err = decide(code, "root") // a code is no id
		wantErr(t, err, ledger.ErrNotFound)
	}
	out := export(t, a, ledger.JSONLines)
	for _, want := range []string{
		`"kind":"preview_opened","operation":"","body":{"arguments_sha256":"`,
		`"kind":"preview_approved","operation":"","body":{"by":"root on tty1","preview":"pv_`,
		`"kind":"preview_declined","operation":"","body":{"by":"ann","preview":"` + p.ID,
		`"kind":"preview_taken","operation":"","body":{"by":"local","preview":"pv_`,
	} {
		if strings.Count(out, want) == 0 {
			t.Errorf("no entry %s in\n%s", want, out)
		}
	}
	if strings.Contains(out, code) {
		t.Error("a code is in the ledger")
	}
	wantEqual(t, wantIntact(t, a).Operations, 0)
}

func testPreviewEnds(t *testing.T, at place) {
	c := newClock()
	l := at(t, c.options())
	p, code := openPreview(t, l, "local")
	taken, takenCode := openPreview(t, l, "local")
	c.add(10*time.Minute - time.Microsecond)
	wantEqual(t, peek(t, l, code).Verdict, ledger.Accepted)
	take(t, l, takenCode)
	c.add(time.Microsecond)
	wantEqual(t, take(t, l, code).Verdict, ledger.NotACode)
	for _, err := range []error{
		func() error { _, err := l.FindPreview(t.Context(), p.ID); return err }(),
		func() error { _, err := l.ApprovePreview(t.Context(), p.ID, "root"); return err }(),
		func() error { _, err := l.DeclinePreview(t.Context(), p.ID, "root"); return err }(),
	} {
		wantErr(t, err, ledger.ErrNotFound)
	}
	c.add(50 * time.Minute)
	wantEqual(t, peek(t, l, takenCode).Verdict, ledger.Running)
	c.add(10 * time.Minute)
	wantEqual(t, peek(t, l, takenCode).Verdict, ledger.NotACode)
	openPreview(t, l, "local") // forgets what is over, but not what still runs
	must(t, l.RecordPreview(t.Context(), taken.ID, json.RawMessage(`1`)))
	wantEqual(t, peek(t, l, takenCode).Verdict, ledger.PreviewEnded)
	c.add(time.Hour)
	wantEqual(t, peek(t, l, takenCode).Verdict, ledger.NotACode)
	openPreview(t, l, "local")
	wantErr(t, l.RecordPreview(t.Context(), taken.ID, json.RawMessage(`1`)), ledger.ErrNotFound)
}

func testTakenOnce(t *testing.T, at place) {
	ledgers := []*ledger.Ledger{at(t, ledger.Options{}), at(t, ledger.Options{})}
	_, code := openPreview(t, ledgers[0], "local")
	won := atOnce(8, func(n int) bool {
		check, err := ledgers[n%2].TakePreview(t.Context(), code, "local", "revoke_token", json.RawMessage(previewed))
		if err != nil || check.Verdict != ledger.Accepted && check.Verdict != ledger.Running {
			t.Error(check.Verdict, err)
		}
		return check.Verdict == ledger.Accepted
	})
	wantEqual(t, won, 1)
}

func testReleases(t *testing.T, at place) {
	c := newClock()
	a, b := at(t, c.options()), at(t, c.options())
	p, code := openPreview(t, a, "local")
	approved, err := a.ApprovePreview(t.Context(), p.ID, "root")
	must(t, err)
	wantErr(t, a.ReleasePreview(t.Context(), p), ledger.ErrPreviewOver, "open")
	wantErr(t, a.ReleasePreview(t.Context(), ledger.Preview{ID: "pv_X"}), ledger.ErrNotFound)

	began := c.add(time.Minute)
	first := take(t, a, code).Preview
	wantEqual(t, first.Taken, began)
	c.add(time.Second)
	running := peek(t, b, code)
	wantEqual(t, []any{running.Verdict, running.Preview.Taken}, []any{ledger.Running, began})
	must(t, b.ReleasePreview(t.Context(), first))
	wantEqual(t, peek(t, a, code), ledger.Check{Verdict: ledger.Accepted, Preview: approved}) // as it was
	wantErr(t, b.ReleasePreview(t.Context(), first), ledger.ErrPreviewOver)

	c.add(9*time.Minute - time.Second - time.Microsecond)
	again := c.Now()
	second := take(t, a, code)
	wantEqual(t, second.Verdict, ledger.Accepted)
	// Who gave it back, and did not learn so, tries again: it is another call's now, and is carried out once.
	wantErr(t, b.ReleasePreview(t.Context(), first), ledger.ErrPreviewOver, "taken by another call")
	wantEqual(t, take(t, b, code).Verdict, ledger.Running)
	must(t, a.RecordPreview(t.Context(), p.ID, json.RawMessage(`1`)))
	ended := peek(t, a, code)
	wantEqual(t, []any{ended.Verdict, ended.Preview.Taken}, []any{ledger.PreviewEnded, again})
	wantErr(t, a.ReleasePreview(t.Context(), second.Preview), ledger.ErrPreviewOver, "done")

	// Released after its code has expired, it is over.
	p, code = openPreview(t, a, "local")
	last := take(t, a, code)
	wantEqual(t, last.Verdict, ledger.Accepted)
	c.add(10 * time.Minute)
	must(t, a.ReleasePreview(t.Context(), last.Preview))
	wantEqual(t, take(t, a, code).Verdict, ledger.NotACode)
	_, err = a.FindPreview(t.Context(), p.ID)
	wantErr(t, err, ledger.ErrNotFound)
	wantErr(t, a.RecordPreview(t.Context(), p.ID, json.RawMessage(`1`)), ledger.ErrPreviewOver)
	wantEqual(t, strings.Count(export(t, a, ledger.JSONLines), `"kind":"preview_released","operation":"","body":{"preview":"pv_`), 2)
	wantIntact(t, a)
}

func testQuestions(t *testing.T, at place) {
	c := newClock()
	a, b := at(t, c.options()), at(t, c.options())
	p, code := openPreview(t, a, "local")
	other, _ := openPreview(t, a, "local")
	before := head(t, a)
	ask := func() string {
		t.Helper()
		state, err := a.AskPreview(t.Context(), p.ID)
		must(t, err)
		if len(state) < 26 {
			t.Errorf("state %q has less than 128 random bits", state)
		}
		return state
	}
	answer := func(id, state string, want bool) {
		t.Helper()
		right, err := b.AnswerPreview(t.Context(), id, state)
		must(t, err)
		wantEqual(t, right, want)
	}
	answer(p.ID, "", false) // nothing was asked
	state := ask()
	answer(other.ID, state, false)
	answer(p.ID, state, true)
	answer(p.ID, state, false) // spent
	state = ask()
	answer(p.ID, strings.ToLower(state), false)
	answer(p.ID, state, false) // the wrong answer has spent it
	for _, wrong := range []string{"", p.ID, code, state[1:]} {
		ask()
		answer(p.ID, wrong, false)
	}
	first := ask()
	second := ask()
	if first == second {
		t.Error("two questions have one state")
	}
	answer(p.ID, first, false)
	second = ask()
	answer(p.ID, second, true)
	wantEqual(t, head(t, a), before)

	state = ask()
	taken := take(t, a, code).Preview
	for range 2 {
		_, err := a.AskPreview(t.Context(), p.ID)
		wantErr(t, err, ledger.ErrPreviewOver, "running")
		_, err = a.AnswerPreview(t.Context(), p.ID, state)
		wantErr(t, err, ledger.ErrPreviewOver)
	}
	must(t, a.ReleasePreview(t.Context(), taken))
	answer(p.ID, state, false) // no question outlives the taking

	state = ask()
	_, err := a.DeclinePreview(t.Context(), p.ID, "root")
	must(t, err)
	right, err := a.AnswerPreview(t.Context(), p.ID, state)
	wantErr(t, err, ledger.ErrPreviewOver, "declined")
	wantEqual(t, right, false)
	for _, id := range []string{"pv_X", code} {
		_, err = a.AskPreview(t.Context(), id)
		wantErr(t, err, ledger.ErrNotFound)
		_, err = a.AnswerPreview(t.Context(), id, state)
		wantErr(t, err, ledger.ErrNotFound)
	}
	state, err = a.AskPreview(t.Context(), other.ID)
	must(t, err)
	c.add(10 * time.Minute)
	_, err = a.AnswerPreview(t.Context(), other.ID, state)
	wantErr(t, err, ledger.ErrNotFound)
	if strings.Contains(export(t, a, ledger.JSONLines), state) {
		t.Error("a state is in the chain")
	}
	wantIntact(t, a)
}

func testAnsweredOnce(t *testing.T, at place) {
	ledgers := []*ledger.Ledger{at(t, ledger.Options{}), at(t, ledger.Options{})}
	p, _ := openPreview(t, ledgers[0], "local")
	state, err := ledgers[0].AskPreview(t.Context(), p.ID)
	must(t, err)
	won := atOnce(8, func(n int) bool {
		right, err := ledgers[n%2].AnswerPreview(t.Context(), p.ID, state)
		if err != nil {
			t.Error(err)
		}
		return right
	})
	wantEqual(t, won, 1)
}

func testPreviewBounds(t *testing.T, at place) {
	c := newClock()
	o := c.options()
	o.Previews = 4
	l := at(t, o)
	_, another := openPreview(t, l, "ann")
	_, first := openPreview(t, l, "local")
	c.add(time.Millisecond)
	_, second := openPreview(t, l, "local")
	for range 2 {
		c.add(time.Millisecond)
		openPreview(t, l, "local")
	}
	wantEqual(t, peek(t, l, first).Verdict, ledger.Accepted)
	openPreview(t, l, "local")
	wantEqual(t, peek(t, l, first).Verdict, ledger.NotACode)
	wantEqual(t, peek(t, l, second).Verdict, ledger.Accepted)
	check, err := l.PeekPreview(t.Context(), another, "ann", "revoke_token", json.RawMessage(previewed))
	must(t, err)
	wantEqual(t, check.Verdict, ledger.Accepted)
}

func testArgumentsUnread(t *testing.T, at place) {
	l := at(t, ledger.Options{})
	arguments := json.RawMessage(`{"reason":"` + mailtrapShape + `"}`)
	p, code, err := l.OpenPreview(t.Context(), ledger.Preview{Principal: "local", Tool: "x", Arguments: arguments, Plan: json.RawMessage(`1`)})
	must(t, err)
	found, err := l.FindPreview(t.Context(), p.ID)
	must(t, err)
	wantEqual(t, found.Arguments, nil)
	check, err := l.TakePreview(t.Context(), code, "local", "x", arguments)
	if err != nil || check.Verdict != ledger.Accepted {
		t.Error(check, errors.Join(err))
	}
}
