package tools_test

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/tokenreeve/tokenreeve/internal/ledger"
)

// operationsList is a result of list_operations.
type operationsList struct {
	Operations []struct {
		ID         string   `json:"operation_id"`
		Tool       string   `json:"tool"`
		Connection string   `json:"connection"`
		Principal  string   `json:"principal"`
		Outcome    string   `json:"outcome"`
		ErrorCode  string   `json:"error_code"`
		Started    string   `json:"started"`
		Targets    []string `json:"targets"`
		NewTokenID string   `json:"new_token_id"`
	} `json:"operations"`
	NextCursor string `json:"next_cursor"`
}

func (l operationsList) ids() []string {
	ids := []string{}
	for _, op := range l.Operations {
		ids = append(ids, op.ID)
	}
	return ids
}

// record puts an ended operation on record, as a tool would.
func (h *harness) record(i ledger.Intent, r ledger.Result) string {
	h.t.Helper()
	i.Tool, i.Class = cmp.Or(i.Tool, revoke), cmp.Or(i.Class, "revoke")
	i.Principal, i.Connection, i.Provider = cmp.Or(i.Principal, "local"), cmp.Or(i.Connection, launchDarklyName), "launchdarkly"
	op, _, err := h.env.Ledger.Record(h.t.Context(), "", i, r)
	return must(h.t, op.ID, err)
}

func TestListOperations(t *testing.T) {
	t.Parallel()
	h := start(t, setup{})
	if h.call("list_operations", nil).ok().text != `{"operations":[]}` {
		t.Error("an empty record is not an empty list")
	}
	if _, err := os.Stat(filepath.Join(h.setup.stateDir, "ledger.db")); !os.IsNotExist(err) {
		t.Errorf("a look at the record made it: %v", err)
	}
	old := h.record(ledger.Intent{}, ledger.Result{Outcome: ledger.Done})
	h.clock.advance(48 * time.Hour)
	mails := h.record(ledger.Intent{Connection: mailtrapName}, ledger.Result{Outcome: ledger.Failed, ErrorCode: "forbidden"})
	bobs := h.record(ledger.Intent{Principal: "bob", Tool: rotate}, ledger.Result{Outcome: ledger.Escrowed, ErrorCode: "sink_failed", Details: ledger.Details{NewTokenID: "new"}})
	group := h.record(ledger.Intent{Tool: bulkTool, Group: true, Targets: []ledger.Target{{ID: "a"}, {ID: "b"}, {ID: "c"}, {ID: "d"}}}, ledger.Result{Outcome: ledger.Done})
	h.record(ledger.Intent{Tool: bulkTool, Parent: group, Targets: []ledger.Target{{ID: "a"}}}, ledger.Result{Outcome: ledger.Done})
	lease, err := h.env.Ledger.Begin(t.Context(), "", ledger.Intent{
		Principal: "local", Tool: update, Class: "update", Connection: launchDarklyName, Provider: "launchdarkly", Targets: []ledger.Target{{ID: "e"}},
	})
	must(t, 0, err)
	open := lease.ID()
	for name, c := range map[string]struct {
		args args
		want []string
	}{
		"all":         {nil, []string{open, group, bobs, mails, old}},
		"connection":  {args{"connection": mailtrapName}, []string{mails}},
		"tool":        {args{"tool": rotate}, []string{bobs}},
		"no such one": {args{"tool": "create_mailtrap_token"}, []string{}},
		"done":        {args{"outcome": "done"}, []string{group, old}},
		"failed":      {args{"outcome": "failed"}, []string{mails}},
		"escrowed":    {args{"outcome": "escrowed"}, []string{bobs}},
		"open":        {args{"outcome": "open"}, []string{open}},
		"unknown":     {args{"outcome": "unknown"}, []string{}},
		"since":       {args{"since": "24h"}, []string{open, group, bobs, mails}},
		"together":    {args{"since": "24h", "outcome": "done", "tool": bulkTool, "connection": launchDarklyName}, []string{group}},
		"limit":       {args{"limit": 2}, []string{open, group}},
	} {
		if diff := gocmp.Diff(c.want, as[operationsList](h.call("list_operations", c.args)).ids()); diff != "" {
			t.Errorf("%s: operations (-want +got):\n%s", name, diff)
		}
	}
	all := as[operationsList](h.call("list_operations", nil)).Operations
	if op := all[1]; !slices.Equal(op.Targets, []string{"a", "b", "c", "… and 1 more"}) || op.Principal != "" || op.Started != h.clock.Now().Format(time.RFC3339) || op.Connection != launchDarklyName {
		t.Errorf("row %+v", op)
	}
	if op := all[2]; op.Principal != "bob" || op.NewTokenID != "new" || op.ErrorCode != "sink_failed" || op.Tool != rotate {
		t.Errorf("another's row, to an admin: %+v", op)
	}
	if all[0].Outcome != "open" {
		t.Errorf("an open row: %+v", all[0])
	}
	// Others see their own only, whatever they ask for.
	if got := as[operationsList](h.callAs("bob", "list_operations", nil)); !slices.Equal(got.ids(), []string{bobs}) || got.Operations[0].Principal != "" {
		t.Errorf("bob sees %+v", got)
	}
	if got := as[operationsList](h.callAs("mallory", "list_operations", args{"tool": rotate, "connection": launchDarklyName})); len(got.Operations) != 0 {
		t.Errorf("mallory sees %v", got.ids())
	}
	if got := as[operationsList](h.callAs("bob", "list_operations", args{"limit": 1})); !slices.Equal(got.ids(), []string{bobs}) {
		t.Errorf("of one row, bob sees %v", got.ids())
	}
	for caller, sees := range map[string]bool{"bob": true, "mallory": false} {
		if got := h.callAs(caller, "list_connections", nil).ok(); strings.Contains(got.text, bobs) != sees {
			t.Errorf("list_connections tells %s %s", caller, got.text)
		}
	}
	if got := h.call("list_connections", nil).ok(); !strings.Contains(got.text, bobs) {
		t.Errorf("list_connections tells an admin %s", got.text)
	}
	for _, c := range map[string]struct {
		args args
		code string
		says string
	}{
		"another tool":   {args{"tool": "list_tokens"}, "invalid_argument", revoke},
		"no tool":        {args{"tool": "\u202erevoke"}, "invalid_argument", revoke},
		"no outcome":     {args{"outcome": "gone"}, "invalid_argument", "already_gone"},
		"no connection":  {args{"connection": "prod"}, "unknown_connection", launchDarklyName},
		"no date":        {args{"since": "yesterday"}, "invalid_date", "since"},
		"too many":       {args{"limit": 101}, "invalid_argument", "between 1 and 100"},
		"no cursor":      {args{"cursor": "abc"}, "invalid_cursor", ""},
		"another filter": {args{"principal": "bob"}, "unknown_argument", "connection"},
	} {
		h.call("list_operations", c.args).fails(c.code).says(c.says)
	}
	must(t, 0, lease.Finish(t.Context(), ledger.Result{Outcome: ledger.Done}))
}

// TestPagesOfOperations walks through all pages while more is recorded.
func TestPagesOfOperations(t *testing.T) {
	t.Parallel()
	h := start(t, setup{})
	var want []string
	for i := range 45 {
		want = append(want, h.record(ledger.Intent{Connection: []string{launchDarklyName, mailtrapName}[i%2]}, ledger.Result{Outcome: ledger.Done}))
		h.clock.advance(time.Minute)
	}
	slices.Reverse(want)
	walk := func(caller string, first args) (got []string, pages int) {
		for a := first; ; {
			page := as[operationsList](h.callAs(caller, "list_operations", a))
			got = append(got, page.ids()...)
			if pages++; page.NextCursor == "" {
				return got, pages
			}
			a = args{"cursor": page.NextCursor}
			h.record(ledger.Intent{}, ledger.Result{Outcome: ledger.Done}) // newer ones disturb nothing
			h.clock.advance(time.Minute)
		}
	}
	if got, pages := walk("local", nil); pages != 3 || !slices.Equal(got, want) {
		t.Errorf("%d pages, (-want +got):\n%s", pages, gocmp.Diff(want, got))
	}
	h = start(t, setup{})
	want = nil
	for i := range 45 {
		id := h.record(ledger.Intent{Connection: []string{launchDarklyName, mailtrapName}[i%2]}, ledger.Result{Outcome: ledger.Done})
		if i%2 == 1 && i >= 15 {
			want = append(want, id)
		}
		h.clock.advance(time.Minute)
	}
	slices.Reverse(want)
	// The age counts from the first page on, however long the walk takes.
	if got, pages := walk("local", args{"connection": mailtrapName, "since": "30min", "limit": 4}); pages != 4 || !slices.Equal(got, want) {
		t.Errorf("%d pages, (-want +got):\n%s", pages, gocmp.Diff(want, got))
	}
	cursor := as[operationsList](h.call("list_operations", args{"limit": 2, "outcome": "done"})).NextCursor
	h.callAs("bob", "list_operations", args{"cursor": cursor}).fails("invalid_cursor")
	h.call("list_tokens", args{"cursor": cursor}).fails("invalid_cursor")
	h.call("list_operations", args{"cursor": cursor, "outcome": "failed"}).fails("cursor_mismatch").says("outcome")
	h.call("list_operations", args{"cursor": cursor, "limit": 3}).fails("cursor_mismatch").says("limit")
	h.call("list_operations", args{"cursor": cursor[:len(cursor)-2]}).fails("invalid_cursor")
	h.restart(setup{}).call("list_operations", args{"cursor": cursor, "limit": 2}).ok() // survives a restart
}

func TestGetOperation(t *testing.T) {
	t.Parallel()
	h := start(t, setup{})
	const none = "01a214a0-0876-7a8c-8e95-8a895d24c15b"
	unknown := h.call("get_operation", args{"operation_id": none}).fails("unknown_operation").says("list_operations")
	if _, err := os.Stat(filepath.Join(h.setup.stateDir, "ledger.db")); !os.IsNotExist(err) {
		t.Errorf("a look at the record made it: %v", err)
	}
	id := h.record(ledger.Intent{Principal: "bob", Reason: "x"}, ledger.Result{Outcome: ledger.Unknown, ErrorCode: "outcome_unknown"})
	h.call("get_operation", args{"operation_id": id}).ok().says(`"principal":"bob"`, `"reason":"x"`, "read the token")
	if r := h.callAs("bob", "get_operation", args{"operation_id": id}).ok(); r.get("principal") != nil {
		t.Errorf("one's own is said to be another's: %s", r.text)
	}
	// Another's is as one that there is not.
	foreign := h.callAs("mallory", "get_operation", args{"operation_id": id}).fails("unknown_operation")
	if strings.ReplaceAll(foreign.text, id, none) != unknown.text {
		t.Errorf("%s tells that there is something, unlike %s", foreign.text, unknown.text)
	}
	for _, odd := range []string{none, "x", "..", "pv_0123456789", strings.ToUpper(id), id[:35], "\u202e" + id, strings.Repeat("a", 5000)} {
		h.call("get_operation", args{"operation_id": odd}).fails("unknown_operation")
	}
	h.call("get_operation", nil).fails("missing_argument")
	h.call("get_operation", args{"operation_id": ""}).fails("invalid_argument")
	// Whose name the record keeps as a digest only sees the own ones all the same.
	odd := "eve\u200b"
	id = h.record(ledger.Intent{Principal: odd}, ledger.Result{Outcome: ledger.Done})
	if got := as[operationsList](h.callAs(odd, "list_operations", nil)); !slices.Equal(got.ids(), []string{id}) || got.Operations[0].Principal != "" {
		t.Errorf("listed: %+v", got)
	}
	h.callAs(odd, "get_operation", args{"operation_id": id}).ok()
}

// TestGetOperationTellsAll: what the result of a change told, and where its secret is.
func TestGetOperationTellsAll(t *testing.T) {
	t.Parallel()
	h := start(t, setup{})
	token := h.addMailtrap("mails")
	a := args{"connection": mailtrapName, "token_id": number(token.ID), "deliver_to": "files/ci/mails"}
	shown := h.call(rotate, a)
	r := h.call(rotate, with(a, args{"confirm": shown.code()})).is("rotated")
	told := h.call("get_operation", args{"operation_id": r.str("operation_id")}).ok()
	now := h.clock.Now().Format(time.RFC3339)
	want := map[string]any{
		"operation_id": r.str("operation_id"), "tool": rotate, "connection": mailtrapName, "outcome": "done", "started": now, "ended": now,
		"targets": []any{number(token.ID)}, "new_token_id": r.str("token", "id"), "old_token_id": number(token.ID), "old_secret_ends": r.str("old_secret_ends"),
		"step": "verified", "deliver_to": "files/ci/mails", "verified": r.str("secret", "verified"), "fingerprint": r.str("secret", "fingerprint"),
		"preview_id": shown.str("preview_id"),
	}
	if diff := gocmp.Diff(want, told.data); diff != "" {
		t.Errorf("operation (-want +got):\n%s", diff)
	}
}

// TestOperationsStaySmall: a hundred targets, and rows, whose ids, names and reasons cost a
// model as much as text can.
func TestOperationsStaySmall(t *testing.T) {
	t.Parallel()
	h := start(t, setup{})
	random := rand.New(rand.NewPCG(7, 8))
	id := func() string {
		letters := make([]byte, 128)
		for i := range letters {
			letters[i] = "qzxjkvwQZXJKVW0719|:=-"[random.IntN(22)]
		}
		return string(letters)
	}
	hostile := func(i, targets int) ledger.Intent {
		intent := ledger.Intent{Reason: strings.Repeat(hostileName(random, i), 3), NewTokenName: hostileName(random, i), Connection: atlassianName, Sink: sinkName, Key: id()}
		for range targets {
			intent.Targets = append(intent.Targets, ledger.Target{ID: id(), Owner: id(), Name: hostileName(random, i)})
		}
		return intent
	}
	failed := func(i int) ledger.Result {
		return ledger.Result{Outcome: ledger.Failed, ErrorCode: "vendor_rejected", Details: ledger.Details{
			NewTokenID: id(), OldTokenID: id(), Note: strings.Repeat(hostileName(random, i), 3), VendorRequestID: hostileName(random, i),
		}}
	}
	for i := range 60 {
		h.record(hostile(i, 5), failed(i))
	}
	small := func(r result) result {
		t.Helper()
		if n := llmTokens(t, r.ok().text); n >= maxResult {
			t.Errorf("%s: %d tokens, at most %d are allowed", r.tool, n, maxResult)
		}
		return r
	}
	rows, pages := 0, 0
	for a := (args{"limit": 100}); a != nil; pages++ {
		page := as[operationsList](small(h.call("list_operations", a)))
		rows += len(page.Operations)
		if a = nil; page.NextCursor != "" {
			a = args{"cursor": page.NextCursor}
		}
	}
	if rows != 60 || pages < 3 {
		t.Errorf("%d rows on %d pages, want all 60", rows, pages)
	}
	for i := range 6 {
		told := small(h.call("get_operation", args{"operation_id": h.record(hostile(i, 100), failed(i))}))
		targets := told.get("targets").([]any)
		if last := targets[len(targets)-1]; len(targets) < 10 || last != fmt.Sprintf("… and %d more", 100-len(targets)+1) {
			t.Errorf("%d targets, the last is %s", len(targets), last)
		}
	}
	parts := func(group ledger.Intent, code string) result {
		group.Group, group.Tool, group.Class = true, bulkTool, "bulk"
		top := h.record(group, failed(2))
		for _, target := range group.Targets {
			h.record(ledger.Intent{Parent: top, Tool: bulkTool, Class: "bulk", Targets: []ledger.Target{target}}, ledger.Result{Outcome: ledger.Failed, ErrorCode: code})
		}
		return small(h.call("get_operation", args{"operation_id": top}))
	}
	told := parts(hostile(2, 100), "vendor_rejected").get("parts").([]any)
	if last := fmt.Sprint(told[len(told)-1]); len(told) < 10 || last != fmt.Sprintf("[%d more failed ]", 100-len(told)+1) {
		t.Errorf("%d parts, the last is %s", len(told), last)
	}
	// With ordinary ids nothing is left out.
	var ordinary ledger.Intent
	for i := range 100 {
		ordinary.Targets = append(ordinary.Targets, ledger.Target{ID: fmt.Sprintf("6b0753f9b0c44e59%08x", i*7919), Name: "nightly import"})
	}
	whole := parts(ordinary, "forbidden")
	if targets, parts := whole.get("targets").([]any), whole.get("parts").([]any); len(targets) != 100 || len(parts) != 100 {
		t.Errorf("%d targets and %d parts, want a hundred", len(targets), len(parts))
	}
}
