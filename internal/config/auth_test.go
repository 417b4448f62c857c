package config_test

import (
	"crypto/sha256"
	"fmt"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/tokenreeve/tokenreeve/auth"
)

// withAuth returns a configuration with two connections and the member auth.
func withAuth(member string) string {
	return `{"connections": {
		"acme": {"provider": "launchdarkly", "credential": {"env": "A"}},
		"other": {"provider": "launchdarkly", "credential": {"env": "B"}}}, "auth": ` + member + `}`
}

func TestAuth(t *testing.T) {
	t.Parallel()
	digest := sha256.Sum256([]byte("x"))
	c, err := loadText(t, withAuth(fmt.Sprintf(`{
		"tokens": [
			{"name": "alice", "role": "admin", "sha256": "%x"},
			{"name": "alice", "role": "approver", "sha256": "%x", "connections": {"acme": "approver", "*": "none"}}
		],
		"oidc": {"issuer": "https://idp.example", "audience": "https://reeve.example/mcp", "roles": {"a b": {"role": "viewer", "connections": {"other": "none"}}}}
	}`, digest, sha256.Sum256([]byte("y")))))
	if err != nil {
		t.Fatal(err)
	}
	tokens := c.Auth.StaticTokens()
	if len(tokens) != 2 || tokens[0].Digest != digest || tokens[0].Name != "alice" || tokens[0].Grant.Role != auth.RoleAdmin {
		t.Errorf("tokens: %+v", tokens)
	}
	if diff := cmp.Diff(auth.Grant{Role: auth.RoleApprover, Connections: map[string]auth.Role{"acme": auth.RoleApprover, "*": auth.RoleNone}}, tokens[1].Grant); diff != "" {
		t.Error(diff)
	}
	want := auth.OIDCOptions{
		Issuer: "https://idp.example", Audience: "https://reeve.example/mcp", Algorithms: []string{"RS256", "ES256"}, NameClaim: "sub",
		RoleClaim: []string{"groups"}, Skew: time.Minute,
		Roles: map[string]auth.Grant{"a b": {Role: auth.RoleViewer, Connections: map[string]auth.Role{"other": auth.RoleNone}}},
	}
	if diff := cmp.Diff(want, c.Auth.OIDC.Options(), cmpopts.IgnoreFields(auth.OIDCOptions{}, "Now")); diff != "" {
		t.Error(diff)
	}
	if got := c.Auth.OIDC.AsResource(); got.URL != "https://reeve.example/mcp" || got.Issuer != "https://idp.example" {
		t.Errorf("resource: %+v", got)
	}
	if _, err := auth.NewOIDC(c.Auth.OIDC.Options()); err != nil {
		t.Error(err)
	}
	if c.Auth.IsZero() {
		t.Error("it names nobody")
	}
}

func TestAuthOfNobody(t *testing.T) {
	t.Parallel()
	for _, member := range []string{`{}`, `{"tokens": []}`} {
		c, err := loadText(t, withAuth(member))
		if err != nil || !c.Auth.IsZero() || !c.Auth.OIDC.AsResource().IsZero() {
			t.Errorf("%s: %+v, %v", member, c.Auth, err)
		}
	}
}

func TestAnotherAudience(t *testing.T) {
	t.Parallel()
	c, err := loadText(t, withAuth(`{"oidc": {"issuer": "http://127.0.0.1:9000/realms/a", "audience": "8d2f6f1c-5a1e-4b7c-9c39-1f6a2f1d7e55",
		"resource": "http://localhost:7777", "roles": {"scope": {"role": "viewer"}}, "role_claim": ["scp"], "name_claim": "oid", "clock_skew": "5m",
		"scopes": ["api://reeve/use"]}}`))
	if err != nil {
		t.Fatal(err)
	}
	o := c.Auth.OIDC
	if o.AsResource().URL != "http://localhost:7777" || o.Options().Audience != "8d2f6f1c-5a1e-4b7c-9c39-1f6a2f1d7e55" || o.NameClaim != "oid" || o.ClockSkew != 5*time.Minute {
		t.Errorf("%+v", o)
	}
}

func TestEveryProblemOfAuth(t *testing.T) {
	t.Parallel()
	digest := strings.Repeat("ab", 32)
	_, err := loadText(t, withAuth(`{
		"tokens": [
			{},
			{"name": "Alice", "role": "owner", "sha256": "trv_canary"},
			{"name": "token:x", "role": "operater", "sha256": "`+strings.ToUpper(digest)+`"},
			{"name": "bob", "role": "viewer", "sha256": "`+digest+`", "connections": {"acme": "operator", "acne": "none", "other": ""}},
			{"name": "bob", "role": "approver", "sha256": "`+digest+`", "connections": {"*": "viewer"}},
			7,
			{"name": "bob", "role": "admin", "sha256": "`+strings.Repeat("cd", 32)+`", "token": "canary", "connections": {"acme": "approver"}}
		],
		"oidc": {
			"issuer": "http://idp.example", "audience": "api://reeve", "algorithms": ["RS256", "HS256", "none"], "role_claim": ["a", ""],
			"roles": {"": {"role": "viewer"}, "admins": {"role": "root"}, "staff": {}, "ok": {"role": "admin", "connections": {"acne": "viewer"}}},
			"scopes": ["a b", "", "a\"b"], "clock_skew": "10m", "audiences": []
		}
	}`))
	wantProblems(t, err,
		"auth.tokens[0].name: is not a caller's name; valid: lower-case letters",
		"auth.tokens[0].role: is missing; valid: viewer, operator, admin, approver",
		"auth.tokens[0].sha256: is missing",
		"auth.tokens[1].name: is not a caller's name",
		`auth.tokens[1].role: is "owner"; valid: viewer, operator, admin, approver`,
		"auth.tokens[1].sha256: is no SHA-256; valid: 64 hex digits in lower case, never the token itself",
		"auth.tokens[2].name: is not a caller's name",
		`auth.tokens[2].role: is "operater"; did you mean "operator"?`,
		"auth.tokens[2].sha256: is no SHA-256",
		`auth.tokens[3].connections.acme: is "operator", which does not narrow viewer; valid: viewer, none`,
		`auth.tokens[3].connections.acne: is not a configured connection; did you mean "acme"?; valid: acme, other, *`,
		`auth.tokens[3].connections.other: is "", which does not narrow viewer`,
		"auth.tokens[4].sha256: is the same as that of auth.tokens[3]",
		`auth.tokens[4].connections["*"]: is "viewer", which does not narrow approver; valid: approver, none`,
		"auth.tokens[5]: is a number; valid: an object with name, role, sha256, connections",
		"auth.tokens[6].token: is not known here",
		`auth.tokens[6].connections.acme: is "approver", which does not narrow admin; valid: admin, operator, viewer, none`,
		"auth.oidc.issuer: is not https",
		"auth.oidc.audience: is no URL that clients can use",
		`auth.oidc.algorithms[1]: is "HS256"`,
		`auth.oidc.algorithms[2]: is "none"`,
		"auth.oidc.role_claim: holds an empty name",
		`auth.oidc.roles[""]: is an empty name`,
		`auth.oidc.roles.admins.role: is "root"`,
		"auth.oidc.roles.staff.role: is missing",
		"auth.oidc.roles.ok.connections.acne: is not a configured connection",
		"auth.oidc.scopes[0]: is no scope",
		"auth.oidc.scopes[1]: is no scope",
		"auth.oidc.scopes[2]: is no scope",
		"auth.oidc.clock_skew: is out of range; valid: up to 5m",
		`auth.oidc.audiences: is not known here; did you mean "audience"?`,
	)
	if strings.Contains(fmt.Sprint(err), "canary") {
		t.Errorf("the error quotes a token: %v", err)
	}
}

func TestProblemsOfOIDC(t *testing.T) {
	t.Parallel()
	for member, want := range map[string][]string{
		`{}`: {"auth.oidc.issuer: is missing", "auth.oidc.audience: is missing", "auth.oidc.roles: is missing or empty"},
		`{"issuer": "https://u:p@idp.example", "audience": "https://h", "roles": {}}`: {
			"auth.oidc.issuer: is not a plain URL", "auth.oidc.roles: is missing or empty",
		},
		`{"issuer": "https://idp.example?x", "audience": "x", "resource": "https://h/a b", "roles": {"x": {"role": "viewer"}}, "algorithms": [], "role_claim": []}`: {
			"auth.oidc.issuer: is not a plain URL", "auth.oidc.resource: is no URL that clients can use", "auth.oidc.algorithms: is empty", "auth.oidc.role_claim: is no path",
		},
		`{"issuer": "ftp://idp.example", "audience": "http://reeve.example", "roles": {"x": {"role": "viewer"}}, "role_claim": ["1","2","3","4","5","6","7","8","9"]}`: {
			"auth.oidc.issuer: is not https", "auth.oidc.audience: is no URL", "auth.oidc.role_claim: is no path",
		},
		`7`:  {"auth.oidc: is a number; valid: an object with issuer, audience"},
		`[]`: {"auth.oidc: is a list; valid: an object with issuer, audience"},
	} {
		_, err := loadText(t, withAuth(`{"oidc": `+member+`}`))
		wantProblems(t, err, want...)
	}
	for _, resource := range []string{`https://h/\"`, "https://h/{x}", "https://h/%2f", "https://h#f", "https://h?", "https://ü.example", "https://", "h", "https://u@h"} {
		_, err := loadText(t, withAuth(`{"oidc": {"issuer": "https://idp.example", "audience": "x", "resource": "`+resource+`", "roles": {"x": {"role": "viewer"}}}}`))
		wantProblems(t, err, "auth.oidc.resource: is no URL that clients can use")
	}
}

// A wrong shape is told with the right one.
func TestShapesOfAuth(t *testing.T) {
	t.Parallel()
	for member, want := range map[string]string{
		`{"tokens": {}}`:                       "auth.tokens: is an object; valid: a list of objects",
		`{"tokens": [{"connections": ["a"]}]}`: "auth.tokens[0].connections: is a list; valid: an object of named texts",
		`{"oidc": {"roles": ["a"]}}`:           "auth.oidc.roles: is a list; valid: an object of named objects",
		`{"oidc": {"role_claim": "groups"}}`:   `auth.oidc.role_claim: is a text; valid: a list of texts`,
	} {
		_, err := loadText(t, withAuth(member))
		if !strings.Contains(fmt.Sprint(err), want) {
			t.Errorf("%v\nwant %s", err, want)
		}
	}
}

// The example is as the program takes it, and who copies it lets in nobody: the token's digest is none
// that anybody knows a token for, and the provider's domain is reserved for examples.
func TestAuthOfTheExample(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile("../../config.json.example")
	if err != nil {
		t.Fatal(err)
	}
	c, err := loadText(t, string(data))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := auth.NewOIDC(c.Auth.OIDC.Options()); err != nil {
		t.Error(err)
	}
	issuer, err := url.Parse(c.Auth.OIDC.Issuer)
	if err != nil || !strings.HasSuffix(issuer.Host, ".example") {
		t.Errorf("the issuer is %s", c.Auth.OIDC.Issuer)
	}
	for _, token := range c.Auth.StaticTokens() {
		if token.Digest != [sha256.Size]byte{} {
			t.Errorf("somebody may know the token %s", token.Name)
		}
	}
}
