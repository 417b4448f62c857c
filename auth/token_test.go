package auth_test

import (
	"crypto/sha256"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"

	"github.com/tokenreeve/tokenreeve/auth"
	"github.com/tokenreeve/tokenreeve/internal/oidctest"
	"github.com/tokenreeve/tokenreeve/internal/policy"
	"github.com/tokenreeve/tokenreeve/internal/sanitize"
)

func TestNewToken(t *testing.T) {
	t.Parallel()
	token, digest := auth.NewToken()
	other, _ := auth.NewToken()
	if token == other || !strings.HasPrefix(token, "trv_") || len(token) != 68 || digest != sha256.Sum256([]byte(token)) {
		t.Errorf("%d characters", len(token))
	}
	if shown := sanitize.Message("it is " + token); strings.Contains(shown, token[10:20]) {
		t.Error("a token that turns up in a text is not masked")
	}
}

func TestTokens(t *testing.T) {
	t.Parallel()
	before, digestBefore := auth.NewToken()
	after, digestAfter := auth.NewToken()
	approver, digestApprover := auth.NewToken()
	tokens := auth.NewTokens([]auth.Token{
		{Name: "alice", Digest: digestBefore, Grant: auth.Grant{Role: auth.RoleOperator}},
		{Name: "alice", Digest: digestAfter, Grant: auth.Grant{Role: auth.RoleOperator, Connections: map[string]auth.Role{"acme": auth.RoleViewer}}},
		{Name: "alice", Digest: digestApprover, Grant: auth.Grant{Role: auth.RoleApprover}},
	})
	for token, want := range map[string]struct{ mints, approves bool }{before: {true, false}, after: {false, false}, approver: {false, true}} {
		p, err := authenticate(t, tokens, token)
		if err != nil || p.Name != "token:alice" || p.Method != auth.MethodStatic || p.Allows(policy.Mint, "acme") != want.mints || p.MayApprove("token:bob", "acme") != want.approves {
			t.Errorf("%+v, %v", p, err)
		}
		if p.MayApprove("token:alice", "acme") {
			t.Error("a second token lets its owner approve their own preview")
		}
	}
	for _, token := range []string{before[:67], before + "0", strings.ToUpper(before), fmt.Sprintf("%x", digestBefore), "trv_"} {
		wantRejected(t, tokens, token, "nobody has this token")
	}
	wantRejected(t, auth.NewTokens(nil), before, "nobody has this token")
}

// FuzzAuthorization checks that nothing but one right token opens the door, and that no answer holds
// what was sent.
func FuzzAuthorization(f *testing.F) {
	key := oidctest.NewKey(f, "one", jose.ES256)
	i, c := newIssuer(f, key), newClock()
	token, digest := auth.NewToken()
	static := auth.NewTokens([]auth.Token{{Name: "ci", Digest: digest, Grant: auth.Grant{Role: auth.RoleViewer}}})
	good := key.Sign(f, "at+jwt", i.claims(c.Now()))
	door := auth.Middleware(auth.First(static, mustOIDC(f, oidcOptions(i, c))), auth.Options{Basic: func(*http.Request) bool { return true }})(http.HandlerFunc(use))
	basic := httptest.NewRequestWithContext(f.Context(), http.MethodGet, "/", nil)
	basic.SetBasicAuth("x", token)
	for _, seed := range []string{
		"", "Bearer", "Bearer ", "Bearer x", "bearer  " + token, "Bearer " + token, "Bearer " + good, "Bearer " + good + ".", "Bearer a.b.c",
		"Bearer ..", "Bearer eyJhbGciOiJub25lIn0.e30.", "Basic Og==", basic.Header.Get("Authorization"), "Bearer {\"payload\":\"\"}", "\x00", "Bearer \xff",
	} {
		f.Add(seed, false)
	}
	f.Add("Bearer "+token, true)
	right := map[string]bool{token: true, good: true}
	f.Fuzz(func(t *testing.T, value string, twice bool) {
		header := http.Header{"Authorization": {value}}
		if twice {
			header.Add("Authorization", value)
		}
		w := ask(t, door, "127.0.0.1:1", "/read", header)
		scheme, presented, _ := strings.Cut(value, " ")
		opens := strings.EqualFold(scheme, "bearer") && right[strings.TrimLeft(presented, " ")]
		r := http.Request{Header: header}
		if _, password, ok := r.BasicAuth(); ok {
			opens = right[password]
		}
		if strings.Contains(value, good[:len(good)-1]) {
			return // its last letter has bits that count for nothing
		}
		if (w.Code == http.StatusOK) != (opens && !twice) {
			t.Errorf("%q: %d", value, w.Code)
		}
		if answer := fmt.Sprint(w.Header(), w.Body); w.Code != http.StatusOK && len(value) > 40 && strings.Contains(answer, value) {
			t.Errorf("the answer holds what was sent: %s", answer)
		}
	})
}
