package e2e_test

import (
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/tokenreeve/tokenreeve/internal/confirm"
	"github.com/tokenreeve/tokenreeve/internal/ledger"
	"github.com/tokenreeve/tokenreeve/internal/postgres"
	"github.com/tokenreeve/tokenreeve/internal/secret"
)

// A person's yes, given at any terminal with the configuration, counts at every server; so does the
// passphrase.
func TestReplicasShareApprovals(t *testing.T) {
	t.Parallel()
	m := newTeam(t, map[string]any{"human_approval": map[string]any{"single": "required"}})
	one, other := m.servers(t)
	db := postgres.New(postgres.Fixed(secret.New(m.dsn)), postgres.Options{})
	t.Cleanup(func() { _ = db.Close() })
	if err := confirm.SharedPassphrase(db).Set(t.Context(), secret.New(passphrase)); err != nil {
		t.Fatal(err)
	}
	confirmed, id := preview(t, one.as(t, "admin"), "revoke_token", map[string]any{"connection": "mt", "token_id": m.mailtrapIDs(1)[0]})
	if _, text := callTool(t, other.as(t, "admin"), "revoke_token", confirmed); !strings.Contains(text, `"human_required"`) || strings.Contains(text, "--state-dir") {
		t.Errorf("before anybody agreed: %s", text)
	}
	s := sitDown(t, append(m.env, "DATABASE_URL="+m.dsn), "approve", id, "--config", m.config, "--state-dir", filepath.Join(m.home, "operator"))
	asks := regexp.MustCompile(`Type (.+) to approve this: `)
	s.screen.await(t, "the phrase", asks.MatchString)
	s.reply(t, "to approve this: ", asks.FindStringSubmatch(s.screen.String())[1])
	s.reply(t, "Passphrase: ", passphrase)
	s.exit(t, 0)
	done, text := callTool(t, other.as(t, "admin"), "revoke_token", confirmed)
	if done["status"] != "revoked" {
		t.Fatalf("once somebody agreed: %s", text)
	}
	page, err := m.record(t).List(t.Context(), ledger.Query{Preview: id})
	if err != nil || len(page.Operations) != 1 || !strings.HasPrefix(page.Operations[0].ApprovedBy, "local:") {
		t.Errorf("on record: %+v, %v", page.Operations, err)
	}
}
