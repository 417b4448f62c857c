package auth_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/tokenreeve/tokenreeve/auth"
	"github.com/tokenreeve/tokenreeve/internal/oidctest"
)

// A provider that was not written for these tests issues tokens, and rotates its keys.
func TestProvider(t *testing.T) {
	t.Parallel()
	first, second := oidctest.NewKey(t, "first", jose.RS256), oidctest.NewKey(t, "second", jose.ES256)
	p := oidctest.StartProvider(t, first)
	door := mustOIDC(t, auth.OIDCOptions{
		Issuer: p.Issuer, Audience: audience, RoleClaim: []string{"realm_access", "roles"},
		Roles: map[string]auth.Grant{"token-operators": {Role: auth.RoleOperator}}, Skew: time.Second,
	})
	host := strings.TrimPrefix(p.Issuer, "http://")
	token := func(server string) string { return p.Token(t, "alice", server, "token-operators") }
	admitted := func(token string) {
		t.Helper()
		if got, err := authenticate(t, door, token); err != nil || got.Name != "oidc:"+host+":alice" || got.Role != auth.RoleOperator {
			t.Errorf("%+v, %v", got, err)
		}
	}
	old := token(audience)
	admitted(old)
	wantRejected(t, door, token("https://other.example/mcp"), "another server")

	p.Rotate(first, second)
	admitted(token(audience))
	admitted(old)

	// Another provider of the same make is another issuer, also with the same keys.
	other := oidctest.StartProvider(t, second)
	wantRejected(t, door, other.Token(t, "alice", audience, "token-operators"), "another issuer")

	// A key that is published no more is forgotten with the next reading.
	p.Rotate(second)
	third := oidctest.NewKey(t, "third", jose.ES256)
	if _, err := authenticate(t, door, third.Sign(t, "JWT", map[string]any{"iss": p.Issuer, "aud": audience, "exp": time.Now().Add(time.Hour).Unix()})); !errors.Is(err, auth.ErrRefused) {
		t.Errorf("a key of nobody's: %v", err)
	}
	wantRejected(t, door, old, "no such key")
	admitted(token(audience))
}
