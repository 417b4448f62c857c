package e2e_test

import (
	"encoding/json"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/go-cmp/cmp"

	"github.com/tokenreeve/tokenreeve/internal/ledger"
	"github.com/tokenreeve/tokenreeve/internal/oidctest"
	"github.com/tokenreeve/tokenreeve/internal/rawmcp"
)

// asker is who called, as the record has it.
type asker struct {
	Principal, Auth, Address string
	Client                   ledger.Client
}

// Every operation on record tells who asked for it, how they were known, with which program and where
// from, by whichever way they came. Their token goes no further than to this server.
func TestCallersAreOnRecord(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		flags   []string
		address string // that counts, of what X-Forwarded-For says
	}{
		"at the door":             {nil, "127.0.0.1"},
		"behind a trusted proxy":  {[]string{"--trusted-proxies", "127.0.0.1"}, "203.0.113.7"},
		"behind two of them":      {[]string{"--trusted-proxies", "127.0.0.1,203.0.113.0/24"}, "198.51.100.9"},
		"behind an untrusted one": {[]string{"--behind-tls-proxy"}, "127.0.0.1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			provider := oidctest.StartProvider(t, oidctest.NewKey(t, "one", jose.ES256))
			v := newVendors(t)
			file := v.config(t, map[string]any{"auth": map[string]any{
				"tokens": []any{configuredCaller("ci", "admin")},
				"oidc": map[string]any{
					"issuer": provider.Issuer, "audience": matrixAudience, "role_claim": []string{"realm_access", "roles"}, "roles": map[string]any{"admins": map[string]any{"role": "admin"}},
				},
			}})
			env := append(v.bareEnv(), "TOKENREEVE_BEARER_TOKEN="+callerToken("ignored"))
			s := listens(t, env, append([]string{"serve", "--listen", "127.0.0.1:0", "--config", file}, test.flags...)...)
			issued := provider.Token(t, "alice", matrixAudience, "admins")
			issuer := strings.TrimPrefix(strings.TrimPrefix(provider.Issuer, "https://"), "http://")
			v.wantOnRecord(t, s, callerToken("ci"), asker{"token:ci", "static", test.address, rawmcpClient})
			v.wantOnRecord(t, s, issued, asker{"oidc:" + issuer + ":alice", "oidc", test.address, rawmcpClient})
			v.notForwarded(t, callerToken("ci"), issued)
			lines := regexp.MustCompile(`request method=.* address=(\S+) principal=`).FindAllStringSubmatch(s.err.String(), -1)
			if len(lines) == 0 || slices.ContainsFunc(lines, func(line []string) bool { return line[1] != test.address }) {
				t.Errorf("the log does not say that each request comes from %s:\n%s", test.address, s.err)
			}
		})
	}
	t.Run("without callers", func(t *testing.T) {
		t.Parallel()
		v := newVendors(t)
		s := listen(t, v, v.bareEnv())
		v.wantOnRecord(t, s, s.token, asker{"bearer", "bearer", "127.0.0.1", rawmcpClient})
		v.notForwarded(t, s.token)
	})
}

var rawmcpClient = ledger.Client{Name: "rawmcp", Version: "0"}

// wantOnRecord makes changes by every way, and checks what the record tells of who asked for each.
func (v *vendors) wantOnRecord(t *testing.T, s *listening, token string, want asker) {
	t.Helper()
	present := func(r *http.Request) {
		r.Header.Set("Authorization", "Bearer "+token)
		r.Header.Set("X-Forwarded-For", "192.0.2.1, 198.51.100.9, 203.0.113.7")
	}
	for _, way := range rawmcp.Ways() {
		line, err := rawmcp.Caller{URL: s.url, HTTP: s.http, Present: present}.Open(t.Context(), way)
		if err != nil {
			t.Fatalf("%s: %v", way, err)
		}
		call := func(tool string, arguments map[string]any) map[string]any {
			t.Helper()
			result, err := line.Call(t.Context(), tool, arguments)
			if err != nil {
				t.Fatalf("%s, %s: %v", way, tool, err)
			}
			var content map[string]any
			if json.Unmarshal(result.Structured, &content) != nil {
				t.Fatalf("%s, %s: %v", way, tool, result.Content)
			}
			return content
		}
		before := map[string]bool{}
		for _, op := range v.operations(t, ledger.Query{}) {
			before[op.ID] = true
		}
		call("create_launchdarkly_token", map[string]any{"connection": "ld", "name": "e2e", "role": "reader"})
		bulk := map[string]any{"connection": "mt", "token_ids": v.mailtrapIDs(2), "reason": "test"}
		bulk["confirm"] = call("bulk_revoke_tokens", bulk)["confirm"]
		call("bulk_revoke_tokens", bulk)
		line.Close()
		n := 0
		for _, op := range v.operations(t, ledger.Query{}) {
			if before[op.ID] {
				continue
			}
			n++
			if diff := cmp.Diff(want, asker{op.Principal, op.Auth, op.Address, op.Client}); diff != "" {
				t.Errorf("%s, %s (-want +got):\n%s", way, op.Tool, diff)
			}
		}
		if n != 4 { // the creation, the group, and each of its two
			t.Errorf("%s: %d operations are on record", way, n)
		}
	}
}
