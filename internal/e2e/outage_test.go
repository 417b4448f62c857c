package e2e_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/tokenreeve/tokenreeve/internal/ledger"
	"github.com/tokenreeve/tokenreeve/internal/postgres/postgrestest"
)

// A change during which the database goes away is told as it ended, and is on record once the database is
// back; its code cannot act again.
func TestReplicaLosesItsDatabaseDuringAChange(t *testing.T) {
	t.Parallel()
	m := newTeam(t, nil)
	proxy := postgrestest.NewProxy(t, m.dsn)
	s := m.server(t, faultyBinary(t), proxy.DSN, "TOKENREEVE_FAULT_LEASE=900ms") // so that it beats often
	c := s.as(t, "admin")
	arguments := map[string]any{"connection": "mt", "token_id": m.mailtrapIDs(1)[0]}
	confirmed, previewID := preview(t, c, "revoke_token", arguments)
	held := m.hold(http.MethodDelete, "/api_tokens/")
	defer held.release()
	answers := background(t.Context(), c, "revoke_token", confirmed)
	held.await(t, 1)
	proxy.Down()
	held.release()
	a := receive(t, answers, "the answer")
	if a.err != nil || a.content["status"] != "revoked" || !strings.Contains(a.text, "could not be put on record yet") {
		t.Fatalf("answered %s (%v)", a.text, a.err)
	}
	record := m.record(t)
	op := func() ledger.Operation {
		t.Helper()
		page, err := record.List(t.Context(), ledger.Query{Preview: previewID})
		if err != nil || len(page.Operations) != 1 {
			t.Fatalf("on record: %+v, %v", page, err)
		}
		return page.Operations[0]
	}
	if before := op(); before.Outcome != "" {
		t.Errorf("on record without a database: %+v", before)
	}
	proxy.Up()
	for deadline := time.Now().Add(hang); ; {
		if end := op(); end.Outcome != "" {
			if end.Outcome != ledger.Done {
				t.Errorf("on record: %+v", end)
			}
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the outcome never came on record")
		}
	}
	for deadline := time.Now().Add(hang); ; {
		again, text := callTool(t, c, "revoke_token", confirmed)
		if again["replayed"] == true && again["operation_id"] == a.content["operation_id"] {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the same call again: %s", text)
		}
	}
	if n := m.sent(http.MethodDelete); n != 1 {
		t.Errorf("%d deletions were sent", n)
	}
}

// The commands on the ledger work on a database.
func TestLedgerCommandsOnADatabase(t *testing.T) {
	t.Parallel()
	m := newTeam(t, nil)
	c := m.server(t, binary(t), m.dsn).as(t, "admin")
	created := succeed(t, c, "create_launchdarkly_token", map[string]any{"connection": "ld", "name": "e2e", "role": "reader"})
	id := created["operation_id"].(string)
	for _, test := range []struct {
		args []string
		want string
	}{
		{[]string{"ledger", "list"}, id},
		{[]string{"ledger", "show", id}, "create_launchdarkly_token"},
		{[]string{"ledger", "rebuild"}, "as it was written"},
		{[]string{"ledger", "verify"}, "as it was written"},
		{[]string{"ledger", "export", "--format", "csv"}, id},
	} {
		if stdout, _ := m.command(t, 0, test.args...); !strings.Contains(stdout, test.want) {
			t.Errorf("%s said %s", strings.Join(test.args, " "), stdout)
		}
	}
	exported, _ := m.command(t, 0, "ledger", "export")
	if stdout, _ := m.command(t, 0, "ledger", "verify", "--export", m.write(t, "export.jsonl", exported)); !strings.Contains(stdout, "as it was written") {
		t.Errorf("the export: %s", stdout)
	}
	m.noSecretIn(t, "the export", exported)
	postgrestest.Exec(t, m.dsn, `ALTER TABLE entries DISABLE TRIGGER USER`, `UPDATE entries SET body = replace(body, 'e2e', 'e3e')`)
	if stdout, _ := m.command(t, 1, "ledger", "verify"); !strings.Contains(stdout, "altered") {
		t.Errorf("verify of what was altered: %s", stdout)
	}
}
