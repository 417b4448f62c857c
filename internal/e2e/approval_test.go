package e2e_test

import (
	"context"
	"os"
	"strings"
	"testing"

	"github.com/mark3labs/mcp-go/client"
	"github.com/mark3labs/mcp-go/client/transport"

	"github.com/tokenreeve/tokenreeve/internal/ledger"
)

// askedClient connects a client over SSE that answers every question with its phrase.
func (s *listening) askedClient(t *testing.T, version string, asked chan<- string) *client.Client {
	t.Helper()
	over, err := transport.NewSSE(s.url+"/sse", transport.WithHeaders(map[string]string{"Authorization": "Bearer " + s.token}))
	if err != nil {
		t.Fatal(err)
	}
	c := client.NewClient(over, client.WithElicitationHandler(user(func(question string) string {
		asked <- question
		return phraseOf(question)
	})))
	t.Cleanup(func() { _ = c.Close() })
	c.OnConnectionLost(func(error) {}) // else it complains on the test's output
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	initialize(t, c, version)
	return c
}

// demanding writes a configuration beside the usual one that demands a person for each
// token, and returns its path.
func (v *vendors) demanding(t *testing.T, single string, trusted bool) string {
	t.Helper()
	usual := v.config(t, map[string]any{"human_approval": map[string]any{"single": single, "trust_client": trusted}})
	content, err := os.ReadFile(usual)
	if err != nil {
		t.Fatal(err)
	}
	return v.write(t, "demanding.json", string(content))
}

// phraseOf is what the end of a question asks for.
func phraseOf(question string) string {
	_, phrase, _ := strings.Cut(question, " Type ")
	return strings.TrimSuffix(phrase, " to agree.")
}

// What a client answers over HTTP never meets a demand for a person, whatever the
// configuration trusts; where a question cannot reach the client, none is waited for.
func TestApprovalOverSSE(t *testing.T) {
	t.Parallel()
	for _, version := range []string{legacy, modern} {
		for demand, trusted := range map[string]bool{"required": true, "when_possible": false} {
			t.Run(version+" "+demand, func(t *testing.T) {
				t.Parallel()
				v := newVendors(t)
				s := listen(t, v, v.bareEnv(), "--config", v.demanding(t, demand, trusted))
				asked := make(chan string, 10)
				c := s.askedClient(t, version, asked)
				ids := v.mailtrapIDs(1)
				arguments := map[string]any{"connection": "mt", "token_id": ids[0]}
				preview, text := callTool(t, c, "revoke_token", arguments)
				if preview["confirm"] == nil || len(asked) != 0 {
					t.Fatalf("asked %d times before the code was given: %s", len(asked), text)
				}
				arguments["confirm"] = preview["confirm"]
				id := preview["preview_id"].(string)
				if demand == "required" {
					_, text := callTool(t, c, "revoke_token", arguments)
					if !strings.Contains(text, `"human_required"`) || !strings.Contains(text, "`tokenreeve approve "+id+"`") || v.sent("DELETE") != 0 {
						t.Fatalf("sent %d requests, answered %s", v.sent("DELETE"), text)
					}
					if _, err := v.ledger(t, nil).ApprovePreview(context.Background(), id, "local:root"); err != nil {
						t.Fatal(err)
					}
				}
				got, text := callTool(t, c, "revoke_token", arguments)
				if got["status"] != "revoked" {
					t.Fatalf("answered %s", text)
				}
				wantAsked, by := 0, ""
				switch {
				case demand == "required":
					by = "local:root"
				case version == modern:
					wantAsked, by = 1, "bearer through the client"
				}
				if len(asked) != wantAsked {
					t.Errorf("asked %d times, want %d", len(asked), wantAsked)
				}
				page, err := v.ledger(t, nil).List(t.Context(), ledger.Query{Preview: id})
				if err != nil || len(page.Operations) != 1 || page.Operations[0].ApprovedBy != by {
					t.Errorf("on record: %+v, %v; want it approved by %q", page.Operations, err, by)
				}
			})
		}
	}
}
