package ledger_test

import (
	"encoding/csv"
	"slices"
	"strings"
	"testing"

	"github.com/tokenreeve/tokenreeve/internal/ledger"
	"github.com/tokenreeve/tokenreeve/internal/vendortest"
)

// Every text of an intent and of a result is clean on record, whatever a caller of the ledger gives it.
func TestEveryTextOnRecordIsClean(t *testing.T) {
	t.Parallel()
	onBoth(t, testEveryTextOnRecordIsClean)
}

func testEveryTextOnRecordIsClean(t *testing.T, path string) {
	l := at(path)(t, ledger.Options{})
	for kind, credential := range vendortest.Credentials() {
		text := func(place string) string { return vendortest.HostileText(vendortest.Word(place), credential) }
		i := ledger.Intent{
			Principal: text("principal"), Client: ledger.Client{Name: text("client"), Version: text("version")}, Tool: "revoke_token", Class: "revoke",
			Connection: text("connection"), Provider: text("provider"), Account: text("account"), Reason: text("reason"), Preview: text("preview"),
			ApprovedBy: text("approver"), ApprovedFrom: text("from"), Sink: text("sink"), Key: text("key"), NewTokenName: text("new name"),
			Targets: []ledger.Target{{ID: text("id"), Owner: text("owner"), Name: text("name")}},
		}
		lease, err := l.Begin(t.Context(), "", i)
		if err != nil {
			t.Fatal(err)
		}
		d := ledger.Details{
			VendorRequestID: text("request"), NewTokenID: text("new"), OldTokenID: text("old"), Fingerprint: text("fingerprint"), Verified: text("verified"), Note: text("note"),
		}
		if err := lease.Step(t.Context(), "sent", d); err != nil {
			t.Fatal(err)
		}
		if err := lease.Finish(t.Context(), ledger.Result{Outcome: ledger.Done, ErrorCode: text("code"), Details: d}); err != nil {
			t.Fatal(err)
		}
		op, err := l.Get(t.Context(), lease.ID())
		if err != nil {
			t.Fatal(err)
		}
		vendortest.Strings(op, func(path, text string) {
			if danger := vendortest.Danger(text); danger != "" {
				t.Errorf("%s: %s holds %s: %+q", kind, path, danger, text)
			}
		})
		for _, format := range []ledger.Format{ledger.JSONLines, ledger.CSV} {
			var b strings.Builder
			if err := l.Export(t.Context(), &b, format); err != nil {
				t.Fatal(err)
			}
			if danger := vendortest.Danger(b.String(), '\n'); danger != "" || !strings.Contains(b.String(), vendortest.Word("reason")) {
				t.Errorf("%s: the export as %s holds %s", kind, format, danger)
			}
		}
	}
}

// No cell of a spreadsheet is a formula.
func TestNoCellIsAFormula(t *testing.T) {
	t.Parallel()
	l := at(file(t))(t, ledger.Options{})
	for _, reason := range []string{"=1+1", "+1", "-1", "@x", "＝1+1", "＋1", "－1", "＠x", "\t=1+1", "\u200b=1", "x=1"} {
		_, _, err := l.Record(t.Context(), "", ledger.Intent{
			Principal: "p", Tool: "revoke_token", Class: "revoke", Connection: "c", Provider: "p", Reason: reason, Targets: []ledger.Target{{ID: "t"}},
		}, ledger.Result{Outcome: ledger.Refused})
		if err != nil {
			t.Fatal(err)
		}
	}
	var b strings.Builder
	if err := l.Export(t.Context(), &b, ledger.CSV); err != nil {
		t.Fatal(err)
	}
	rows, err := csv.NewReader(strings.NewReader(b.String())).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	column := slices.Index(rows[0], "reason")
	for _, row := range rows[1:] {
		if cell := row[column]; !strings.HasPrefix(cell, "'") && cell != "x=1" {
			t.Errorf("a cell begins as a formula: %q", cell)
		}
	}
	if len(rows) != 12 {
		t.Errorf("%d rows", len(rows))
	}
}
