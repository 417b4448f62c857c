package auth_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/tokenreeve/tokenreeve/auth"
	"github.com/tokenreeve/tokenreeve/internal/oidctest"
	"github.com/tokenreeve/tokenreeve/internal/policy"
	"github.com/tokenreeve/tokenreeve/internal/sanitize"
)

// oidcOptions returns the usual settings for the issuer.
func oidcOptions(i *issuer, c *clock) auth.OIDCOptions {
	o := oidcOptionsOf(i)
	o.Now, o.Client = c.Now, i.Client()
	return o
}

// oidcOptionsOf returns them without clock and client.
func oidcOptionsOf(i *issuer) auth.OIDCOptions {
	return auth.OIDCOptions{
		Issuer: i.name(), Audience: audience, RoleClaim: []string{"groups"},
		Roles: map[string]auth.Grant{
			"viewers": {Role: auth.RoleViewer}, "operators": {Role: auth.RoleOperator},
			"admins": {Role: auth.RoleAdmin}, "approvers": {Role: auth.RoleApprover},
		},
	}
}

func mustOIDC(t testing.TB, o auth.OIDCOptions) *auth.OIDC {
	t.Helper()
	p, err := auth.NewOIDC(o)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func authenticate(t testing.TB, a auth.Authenticator, token string) (auth.Principal, error) {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/mcp", nil)
	r.Header.Set("Authorization", "Bearer "+token)
	return a.Authenticate(r)
}

// wantRejected checks that the token is refused for the reason, and that it does not say more.
func wantRejected(t *testing.T, a auth.Authenticator, token, reason string) {
	t.Helper()
	p, err := authenticate(t, a, token)
	if !errors.Is(err, auth.ErrRefused) || !strings.Contains(fmt.Sprint(err), reason) || p.Name != "" {
		t.Errorf("%v, %v; want a refusal: %s", p, err, reason)
	}
	if token != "" && strings.Contains(fmt.Sprint(err), token) {
		t.Errorf("the error quotes the token: %v", err)
	}
}

func TestOIDC(t *testing.T) {
	t.Parallel()
	right := oidctest.NewKey(t, "one", jose.ES256)
	i, c := newIssuer(t, right, oidctest.NewKey(t, "two", jose.RS256)), newClock()
	p := mustOIDC(t, oidcOptions(i, c))
	host := strings.TrimPrefix(i.URL, "http://")
	for _, typ := range []string{"", "JWT", "at+jwt", "application/at+jwt", "AT+JWT"} {
		got, err := authenticate(t, p, right.Sign(t, typ, i.claims(c.Now())))
		if err != nil || got.Name != "oidc:"+host+"/realm:alice" || got.Method != auth.MethodOIDC || got.Role != auth.RoleOperator || got.IsLocal || got.IsAdmin {
			t.Errorf("type %q: %+v, %v", typ, got, err)
		}
	}
	if i.times() != 1 {
		t.Errorf("the keys were read %d times", i.times())
	}
}

func TestOIDCRefuses(t *testing.T) {
	t.Parallel()
	right, foreign := oidctest.NewKey(t, "one", jose.ES256), oidctest.NewKey(t, "one", jose.ES256)
	otherAlgorithm := oidctest.NewKey(t, "three", jose.ES384)
	i, c := newIssuer(t, right, otherAlgorithm), newClock()
	p := mustOIDC(t, oidcOptions(i, c))
	now := c.Now()
	good := i.claims(now)
	hmac := func(key []byte) string {
		return oidctest.Compact(t, jose.SigningKey{Algorithm: jose.HS256, Key: key}, (&jose.SignerOptions{}).WithHeader("kid", "one"), mustJSON(t, good))
	}
	public, err := right.Public().MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	embedded := oidctest.Compact(t, jose.SigningKey{Algorithm: jose.ES256, Key: foreign.Private}, &jose.SignerOptions{EmbedJWK: true}, mustJSON(t, good))
	signed := right.Sign(t, "JWT", good)
	header, rest, _ := strings.Cut(signed, ".")
	payload, signature, _ := strings.Cut(rest, ".")
	parts := func(p ...string) string { return strings.Join(p, ".") }
	other := right.Sign(t, "JWT", i.claims(now, "sub", "bob"))
	_, otherRest, _ := strings.Cut(other, ".")
	otherPayload, _, _ := strings.Cut(otherRest, ".")
	jsonForm := fmt.Sprintf(`{"payload":%q,"protected":%q,"signature":%q}`, payload, header, signature)

	tests := map[string]struct{ token, reason string }{
		"no JWT":                  {"trv_0123456789abcdef", "no JWT"},
		"two parts":               {parts(header, payload), "no JWT"},
		"JSON form":               {jsonForm, "no JWT"},
		"none":                    {oidctest.Unsigned(t, good), "no JWT"},
		"HS256 with the public":   {hmac(public), "no JWT"},
		"algorithm not chosen":    {otherAlgorithm.Sign(t, "JWT", good), "no JWT"},
		"another key, same id":    {foreign.Sign(t, "JWT", good), "cannot be verified"},
		"its own key":             {embedded, "cannot be verified"},
		"no signature":            {parts(header, payload, ""), "cannot be verified"},
		"other claims":            {parts(header, otherPayload, signature), "cannot be verified"},
		"unknown key":             {oidctest.NewKey(t, "nobody's", jose.ES256).Sign(t, "JWT", good), "no such key"},
		"other issuer":            {right.Sign(t, "JWT", i.claims(now, "iss", "https://evil.example")), "another issuer"},
		"issuer with a slash":     {right.Sign(t, "JWT", i.claims(now, "iss", i.name()+"/")), "another issuer"},
		"no issuer":               {right.Sign(t, "JWT", i.claims(now, "iss", nil)), "another issuer"},
		"issuer in capitals":      {right.Sign(t, "JWT", i.claims(now, "iss", nil, "ISS", i.name())), "another issuer"},
		"other audience":          {right.Sign(t, "JWT", i.claims(now, "aud", "https://other.example/mcp")), "another server"},
		"part of the audience":    {right.Sign(t, "JWT", i.claims(now, "aud", "https://reeve.example")), "another server"},
		"audience with a slash":   {right.Sign(t, "JWT", i.claims(now, "aud", audience+"/")), "another server"},
		"no audience":             {right.Sign(t, "JWT", i.claims(now, "aud", nil)), "another server"},
		"empty audience":          {right.Sign(t, "JWT", i.claims(now, "aud", []string{})), "another server"},
		"audience in capitals":    {right.Sign(t, "JWT", i.claims(now, "aud", "x", "Aud", audience)), "another server"},
		"audience of mixed kinds": {right.Sign(t, "JWT", i.claims(now, "aud", []any{audience, 1})), "another server"},
		"expired":                 {right.Sign(t, "JWT", i.claims(now, "exp", now.Add(-time.Minute).Unix())), "expired"},
		"never expires":           {right.Sign(t, "JWT", i.claims(now, "exp", nil)), "does not say when it expires"},
		"expiry is a text":        {right.Sign(t, "JWT", i.claims(now, "exp", "tomorrow")), "does not say when it expires"},
		"expiry is null":          {right.SignText(t, "JWT", bytes.Replace(mustJSON(t, good), fmt.Appendf(nil, `"exp":%d`, now.Add(5*time.Minute).Unix()), []byte(`"exp":null`), 1)), "does not say when it expires"},
		"not yet":                 {right.Sign(t, "JWT", i.claims(now, "nbf", now.Add(61*time.Second).Unix())), "not valid yet"},
		"begins with a text":      {right.Sign(t, "JWT", i.claims(now, "nbf", "x")), "not valid yet"},
		"made in the future":      {right.Sign(t, "JWT", i.claims(now, "iat", now.Add(61*time.Second).Unix())), "not valid yet"},
		"bound to a key":          {right.Sign(t, "JWT", i.claims(now, "cnf", map[string]any{"jkt": "x"})), "bound to a key"},
		"ID token":                {right.Sign(t, "JWT", i.claims(now, "at_hash", "MTIzNDU2Nzg5MDEyMzQ1Ng")), "an ID token"},
		"ID token with a code":    {right.Sign(t, "JWT", i.claims(now, "c_hash", "MTIzNDU2Nzg5MDEyMzQ1Ng")), "an ID token"},
		"ID token that says so":   {right.Sign(t, "JWT", i.claims(now, "typ", "ID")), "an ID token"},
		"refresh token":           {right.Sign(t, "JWT", i.claims(now, "typ", "Refresh")), "not an access token"},
		"logout token":            {right.Sign(t, "logout+jwt", good), "its type"},
		"proof":                   {right.Sign(t, "dpop+jwt", good), "its type"},
		"no claims":               {right.SignText(t, "JWT", []byte(`null`)), "another issuer"},
		"a list":                  {right.SignText(t, "JWT", []byte(`[]`)), "no JSON object"},
		"not UTF-8":               {right.SignText(t, "JWT", bytes.Replace(mustJSON(t, good), []byte("alice"), []byte("al\xffce"), 1)), "no JSON object"},
		"no subject":              {right.Sign(t, "JWT", i.claims(now, "sub", nil)), "whose it is"},
		"empty subject":           {right.Sign(t, "JWT", i.claims(now, "sub", "")), "whose it is"},
		"subject in capitals":     {right.Sign(t, "JWT", i.claims(now, "sub", nil, "SUB", "alice")), "whose it is"},
		"subject is a number":     {right.Sign(t, "JWT", i.claims(now, "sub", 7)), "cannot be verified"},
		"broken subject":          {right.SignText(t, "JWT", bytes.Replace(mustJSON(t, good), []byte("alice"), []byte(`\ud800`), 1)), "no text"},
		"too long":                {right.Sign(t, "JWT", i.claims(now, "x", strings.Repeat("x", 16<<10))), "longer than 16384 bytes"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			wantRejected(t, p, tt.token, tt.reason)
		})
	}
	t.Run("critical header", func(t *testing.T) {
		t.Parallel()
		options := (&jose.SignerOptions{}).WithHeader("kid", "one").WithHeader("x", 1).WithHeader("crit", []string{"x"})
		signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: right.Private}, options)
		if err != nil {
			t.Skip("go-jose does not make one")
		}
		if s, err := signer.Sign(mustJSON(t, good)); err == nil {
			token, _ := s.CompactSerialize()
			wantRejected(t, p, token, "")
		}
	})
}

func mustJSON(t testing.TB, v any) []byte {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestOIDCSkew(t *testing.T) {
	t.Parallel()
	key := oidctest.NewKey(t, "one", jose.ES256)
	i, c := newIssuer(t, key), newClock()
	p := mustOIDC(t, oidcOptions(i, c))
	now := c.Now()
	for name, claims := range map[string]map[string]any{
		"just expired":  i.claims(now, "exp", now.Add(-59*time.Second).Unix()),
		"begins soon":   i.claims(now, "nbf", now.Add(60*time.Second).Unix()),
		"made soon":     i.claims(now, "iat", now.Add(60*time.Second).Unix()),
		"fractions":     i.claims(now, "exp", float64(now.Unix())+0.5),
		"no beginning":  i.claims(now, "nbf", nil, "iat", nil),
		"far end":       i.claims(now, "exp", 1e300),
		"two audiences": i.claims(now, "aud", []string{"https://other.example", audience}),
	} {
		if _, err := authenticate(t, p, key.Sign(t, "JWT", claims)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A key is for the algorithm that the issuer gives it.
func TestOIDCKeyOfAnotherAlgorithm(t *testing.T) {
	t.Parallel()
	key := oidctest.NewKey(t, "one", jose.RS256)
	i, c := newIssuer(t, key), newClock()
	o := oidcOptions(i, c)
	o.Algorithms = []string{"RS256", "PS256"}
	p := mustOIDC(t, o)
	if _, err := authenticate(t, p, key.Sign(t, "JWT", i.claims(c.Now()))); err != nil {
		t.Error(err)
	}
	key.Algorithm = jose.PS256
	wantRejected(t, p, key.Sign(t, "JWT", i.claims(c.Now())), "no such key")
}

// Every algorithm that can be configured works, and only where it is.
func TestOIDCAlgorithms(t *testing.T) {
	t.Parallel()
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	for _, algorithm := range auth.Algorithms() {
		t.Run(algorithm, func(t *testing.T) {
			t.Parallel()
			key := oidctest.Key{ID: "one", Algorithm: jose.SignatureAlgorithm(algorithm), Private: rsaKey}
			if algorithm[0] == 'E' {
				key = oidctest.NewKey(t, "one", jose.SignatureAlgorithm(algorithm))
			}
			i, c := newIssuer(t, key), newClock()
			o := oidcOptions(i, c)
			for _, configured := range auth.Algorithms() {
				o.Algorithms = []string{configured}
				_, err := authenticate(t, mustOIDC(t, o), key.Sign(t, "JWT", i.claims(c.Now())))
				if (err == nil) != (configured == algorithm) {
					t.Errorf("%s where %s is configured: %v", algorithm, configured, err)
				}
			}
		})
	}
}

func TestNewOIDCRefuses(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*auth.OIDCOptions){
		"HS256":         func(o *auth.OIDCOptions) { o.Algorithms = []string{"RS256", "HS256"} },
		"none":          func(o *auth.OIDCOptions) { o.Algorithms = []string{"none"} },
		"no audience":   func(o *auth.OIDCOptions) { o.Audience = "" },
		"no issuer":     func(o *auth.OIDCOptions) { o.Issuer = "" },
		"no role claim": func(o *auth.OIDCOptions) { o.RoleClaim = nil },
	} {
		o := auth.OIDCOptions{Issuer: "https://idp.example", Audience: audience, RoleClaim: []string{"groups"}}
		change(&o)
		if _, err := auth.NewOIDC(o); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}

func TestOIDCRoles(t *testing.T) {
	t.Parallel()
	key := oidctest.NewKey(t, "one", jose.ES256)
	i, c := newIssuer(t, key), newClock()
	roles := map[string]auth.Grant{
		"viewers": {Role: auth.RoleViewer}, "approvers": {Role: auth.RoleApprover}, "admins": {Role: auth.RoleAdmin},
		"acme": {Role: auth.RoleOperator, Connections: map[string]auth.Role{"acme": auth.RoleOperator, "*": auth.RoleNone}},
	}
	tests := map[string]struct {
		path        []string
		claim       any
		role        auth.Role // "": none
		mint, bulk  bool      // on acme
		mintOther   bool
		mayApproves bool
	}{
		"one":                 {[]string{"groups"}, []string{"viewers"}, "viewer", false, false, false, false},
		"several":             {[]string{"groups"}, []string{"staff", "viewers", "acme", "acme", "approvers"}, "operator", true, false, false, true},
		"admin":               {[]string{"groups"}, []string{"admins", "viewers"}, "admin", true, true, true, false},
		"a text":              {[]string{"groups"}, "viewers", "viewer", false, false, false, false},
		"a text is one value": {[]string{"groups"}, "viewers admins", "", false, false, false, false},
		"scopes":              {[]string{"scope"}, "openid viewers acme", "operator", true, false, false, false},
		"nested":              {[]string{"realm_access", "roles"}, map[string]any{"roles": []string{"admins"}}, "admin", true, true, true, false},
		"a URL":               {[]string{"https://acme.example/roles"}, []string{"admins"}, "admin", true, true, true, false},
		"unknown":             {[]string{"groups"}, []string{"staff"}, "", false, false, false, false},
		"other letters":       {[]string{"groups"}, []string{"Admins", " admins"}, "", false, false, false, false},
		"empty":               {[]string{"groups"}, []string{}, "", false, false, false, false},
		"an object":           {[]string{"groups"}, map[string]any{"admins": true}, "", false, false, false, false},
		"not nested":          {[]string{"realm_access", "roles"}, []string{"admins"}, "", false, false, false, false},
		"mixed":               {[]string{"groups"}, []any{"admins", 1}, "", false, false, false, false},
		"null":                {[]string{"groups"}, json.RawMessage("null"), "", false, false, false, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := oidcOptions(i, c)
			o.RoleClaim, o.Roles = tt.path, roles
			p, err := authenticate(t, mustOIDC(t, o), key.Sign(t, "at+jwt", i.claims(c.Now(), "groups", nil, tt.path[0], tt.claim)))
			if (tt.role == "") != errors.Is(err, auth.ErrNoRole) || tt.role != "" && err != nil || p.Role != tt.role || !strings.HasSuffix(p.Name, ":alice") {
				t.Fatalf("%+v, %v", p, err)
			}
			if p.Allows(policy.Mint, "acme") != tt.mint || p.Allows(policy.Bulk, "acme") != tt.bulk || p.Allows(policy.Mint, "other") != tt.mintOther ||
				p.MayApprove("token:x", "acme") != tt.mayApproves {
				t.Errorf("%+v may not what it should, or more", p)
			}
		})
	}
}

// Whatever a subject holds, its name is its own, looks like a name, and is kept as it is by the ledger.
func TestOIDCNames(t *testing.T) {
	t.Parallel()
	key := oidctest.NewKey(t, "one", jose.ES256)
	i, c := newIssuer(t, key), newClock()
	p := mustOIDC(t, oidcOptions(i, c))
	prefix := "oidc:" + strings.TrimPrefix(i.URL, "http://") + "/realm:"
	hashed := "sha256:" // what stands for a subject that cannot be shown
	var digest string
	seen := map[string]string{}
	for subject, want := range map[string]string{
		"alice": "alice", "alice@acme.example": "alice@acme.example", "auth0|5f7c8ec7c33c6c004bbafe82": "auth0|5f7c8ec7c33c6c004bbafe82",
		"248289761001": "248289761001", "8d2f6f1c-5a1e-4b7c-9c39-1f6a2f1d7e55": "8d2f6f1c-5a1e-4b7c-9c39-1f6a2f1d7e55",
		"local": "local", "token:alice": "token:alice", "Zoë": "Zoë",
		"AAAAAAAAAAAAAAAAAAAAAIkzqFVrSaSaFHy782bbtaQ": hashed, // like a credential
		"alice ": hashed, "al\u200bice": hashed, "alice\nadmin": hashed, "\x1b[31malice": hashed, "\u202ealice": hashed,
		strings.Repeat("x", 121): hashed, strings.Repeat("x", 122): hashed, strings.Repeat("é", 200): hashed,
		"sha256:0f343b09-3126-7e2f-8ce9-a2b5e6a0ae2c": hashed, "sha256:": hashed,
	} {
		got, err := authenticate(t, p, key.Sign(t, "JWT", i.claims(c.Now(), "sub", subject)))
		if err != nil || !strings.HasPrefix(got.Name, prefix+want) || want != hashed && got.Name != prefix+want {
			t.Errorf("subject %q: %q, %v", subject, got.Name, err)
		}
		if other, ok := seen[got.Name]; ok {
			t.Errorf("%q and %q have one name", subject, other)
		}
		seen[got.Name] = subject
		if sanitize.Message(got.Name) != got.Name || len(got.Name) > 300 {
			t.Errorf("%q is no name", got.Name)
		}
		if subject == "alice " {
			digest = strings.TrimPrefix(got.Name, prefix)
		}
	}
	// Nobody takes another's name by having the text that stands for it as their subject.
	if got, err := authenticate(t, p, key.Sign(t, "JWT", i.claims(c.Now(), "sub", digest))); err != nil || seen[got.Name] != "" {
		t.Errorf("the subject %q has the name of %q: %v", digest, seen[got.Name], err)
	}
}

// Realms of one host have callers of their own, also where the realm's name cannot be shown.
func TestOIDCNamesOfRealms(t *testing.T) {
	t.Parallel()
	key := oidctest.NewKey(t, "one", jose.ES256)
	i, c := newIssuer(t, key), newClock()
	host := strings.TrimPrefix(i.URL, "http://")
	seen := map[string]bool{}
	for realm, want := range map[string]string{
		"a": "oidc:" + host + "/a:alice", "b": "oidc:" + host + "/b:alice", strings.Repeat("x", 150): "oidc:sha256:",
		"0123456789abcdef0123456789abcdef": "oidc:sha256:", "0123456789abcdef0123456789abcdee": "oidc:sha256:",
	} {
		o := oidcOptions(i, c)
		o.Issuer = i.URL + "/" + realm
		p, err := authenticate(t, mustOIDC(t, o), key.Sign(t, "JWT", i.claims(c.Now(), "iss", o.Issuer)))
		if err != nil || !strings.HasPrefix(p.Name, want) || !strings.HasSuffix(p.Name, ":alice") || seen[p.Name] || sanitize.Message(p.Name) != p.Name {
			t.Errorf("%s: %q, %v", realm, p.Name, err)
		}
		seen[p.Name] = true
	}
}

func TestOIDCNameClaim(t *testing.T) {
	t.Parallel()
	key := oidctest.NewKey(t, "one", jose.ES256)
	i, c := newIssuer(t, key), newClock()
	o := oidcOptions(i, c)
	o.NameClaim = "email"
	p := mustOIDC(t, o)
	for name, tt := range map[string]struct {
		verified any
		ok       bool
	}{"yes": {true, true}, "as a text": {"true", true}, "no": {false, false}, "not told": {nil, false}, "a number": {1, false}} {
		got, err := authenticate(t, p, key.Sign(t, "JWT", i.claims(c.Now(), "email", "alice@acme.example", "email_verified", tt.verified)))
		if (err == nil) != tt.ok || tt.ok && !strings.HasSuffix(got.Name, "/realm:alice@acme.example") {
			t.Errorf("%s: %q, %v", name, got.Name, err)
		}
	}
	wantRejected(t, p, key.Sign(t, "JWT", i.claims(c.Now(), "email_verified", true)), "whose it is")
}

// A client adds a slash to a URL without a path, and the issuer copies what it was asked for.
func TestOIDCBareAudience(t *testing.T) {
	t.Parallel()
	key := oidctest.NewKey(t, "one", jose.ES256)
	i, c := newIssuer(t, key), newClock()
	for _, configured := range []string{"https://reeve.example", "https://reeve.example/"} {
		o := oidcOptions(i, c)
		o.Audience = configured
		p := mustOIDC(t, o)
		for audience, ok := range map[string]bool{
			"https://reeve.example": true, "https://reeve.example/": true, "https://reeve.example//": false, "https://reeve.example/mcp": false,
			"http://reeve.example": false, "https://reeve.example.evil": false,
		} {
			if _, err := authenticate(t, p, key.Sign(t, "JWT", i.claims(c.Now(), "aud", audience))); (err == nil) != ok {
				t.Errorf("%s where %s is configured: %v", audience, configured, err)
			}
		}
	}
}

func TestKeysRotate(t *testing.T) {
	t.Parallel()
	old, next := oidctest.NewKey(t, "old", jose.RS256), oidctest.NewKey(t, "next", jose.ES256)
	i, c := newIssuer(t, old), newClock()
	p := mustOIDC(t, oidcOptions(i, c))
	accepted := func(key oidctest.Key) bool {
		_, err := authenticate(t, p, key.Sign(t, "JWT", i.claims(c.Now())))
		return err == nil
	}
	if !accepted(old) || i.times() != 1 {
		t.Fatal("the first key does not work")
	}
	i.set(old, next)
	if !accepted(next) || !accepted(old) || i.times() != 2 {
		t.Fatalf("a new key is not known at once; the keys were read %d times", i.times())
	}
	i.set(next)
	if !accepted(old) {
		t.Error("a key that is fresh is not kept")
	}
	c.add(11 * time.Minute)
	if !accepted(old) {
		t.Error("a caller waits for keys that are known")
	}
	// Meanwhile they are read again; a token with a key id that nobody knows waits for the end of that.
	if accepted(oidctest.NewKey(t, "stranger", jose.ES256)) || accepted(old) || !accepted(next) {
		t.Error("a withdrawn key still counts, or the new one does not")
	}
}

// A new key may have the id of the one before, or none at all: it counts at once all the same, and the
// one before no more.
func TestKeysRotateUnderOneID(t *testing.T) {
	t.Parallel()
	for _, id := range []string{"one", ""} {
		t.Run(id, func(t *testing.T) {
			t.Parallel()
			old, next := oidctest.NewKey(t, id, jose.ES256), oidctest.NewKey(t, id, jose.ES256)
			i, c := newIssuer(t, old), newClock()
			p := mustOIDC(t, oidcOptions(i, c))
			accepted := func(key oidctest.Key) bool {
				_, err := authenticate(t, p, key.Sign(t, "JWT", i.claims(c.Now())))
				return err == nil
			}
			if !accepted(old) || i.times() != 1 {
				t.Fatalf("the first key does not work; the keys were read %d times", i.times())
			}
			i.set(next)
			if !accepted(next) || accepted(old) || !accepted(next) {
				t.Error("the new key does not count, or the old one does")
			}
			// Tokens that nobody's key has signed make it read the keys within bounds.
			for range 20 {
				wantRejected(t, p, old.Sign(t, "JWT", i.claims(c.Now())), "cannot be verified")
			}
			if i.times() != 3 || !accepted(next) {
				t.Errorf("the keys were read %d times", i.times())
			}
		})
	}
}

// Tokens with key ids that nobody knows cannot make the server ask the issuer again and again.
func TestUnknownKeysAreBounded(t *testing.T) {
	t.Parallel()
	right := oidctest.NewKey(t, "one", jose.ES256)
	i, c := newIssuer(t, right), newClock()
	p := mustOIDC(t, oidcOptions(i, c))
	flood := func() {
		for n := range 20 {
			stranger := oidctest.Key{ID: fmt.Sprint("stranger-", n), Algorithm: right.Algorithm, Private: right.Private}
			wantRejected(t, p, stranger.Sign(t, "JWT", i.claims(c.Now())), "no such key")
		}
	}
	flood()
	if i.times() != 3 {
		t.Errorf("the keys were read %d times", i.times())
	}
	if _, err := authenticate(t, p, right.Sign(t, "JWT", i.claims(c.Now()))); err != nil {
		t.Errorf("meanwhile a right token is refused: %v", err)
	}
	c.add(10 * time.Second)
	flood()
	if i.times() != 4 {
		t.Errorf("ten seconds later the keys were read %d times", i.times())
	}
	// Another issuer's token never makes it ask.
	c.add(time.Hour)
	wantRejected(t, p, right.Sign(t, "JWT", i.claims(c.Now(), "iss", "https://evil.example")), "another issuer")
	if i.times() != 4 {
		t.Errorf("another issuer's token made it read the keys")
	}
}

func TestIssuerDown(t *testing.T) {
	t.Parallel()
	key := oidctest.NewKey(t, "one", jose.ES256)
	i, c := newIssuer(t, key), newClock()
	var log lines
	o := oidcOptions(i, c)
	o.Log = slog.New(slog.NewTextHandler(&log, nil))
	p := mustOIDC(t, o)
	unavailable := func() bool {
		_, err := authenticate(t, p, key.Sign(t, "JWT", i.claims(c.Now())))
		return errors.Is(err, auth.ErrUnavailable)
	}
	i.be(func() { i.status = http.StatusInternalServerError })
	if !unavailable() {
		t.Error("a token was judged without keys")
	}
	i.be(func() { i.status = 0 })
	if !unavailable() || i.times() != 0 {
		t.Error("it asked again at once")
	}
	c.add(time.Second)
	if unavailable() {
		t.Error("it does not ask again")
	}
	// What is known goes on for an hour.
	i.be(func() { i.status = http.StatusBadGateway })
	c.add(59 * time.Minute)
	if unavailable() {
		t.Error("the keys are forgotten too early")
	}
	c.add(time.Minute)
	if !unavailable() {
		t.Error("keys count though nobody could ask for an hour")
	}
	if text := log.String(); !strings.Contains(text, "status 500") || strings.Contains(text, "canary-of-the-issuer") {
		t.Errorf("log:\n%s", text)
	}
}

// lines is a log that may be read while it is written.
type lines struct {
	mu     sync.Mutex
	buffer bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buffer.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buffer.String()
}

// An issuer that never answers holds up nobody but those whose tokens it made, and those not longer
// than they wait.
func TestIssuerHangs(t *testing.T) {
	t.Parallel()
	key := oidctest.NewKey(t, "one", jose.ES256)
	i, c := newIssuer(t, key), newClock()
	hang := make(chan struct{})
	i.be(func() { i.hang = hang })
	token, digest := auth.NewToken()
	a := auth.First(auth.NewTokens([]auth.Token{{Name: "ci", Digest: digest, Grant: auth.Grant{Role: auth.RoleViewer}}}), mustOIDC(t, oidcOptions(i, c)))
	var callers sync.WaitGroup
	for range 5 {
		callers.Go(func() {
			if _, err := authenticate(t, a, key.Sign(t, "JWT", i.claims(c.Now()))); err != nil {
				t.Errorf("after the issuer answered: %v", err)
			}
		})
	}
	if p, err := authenticate(t, a, token); err != nil || p.Name != "token:ci" {
		t.Errorf("a static token: %v, %v", p, err)
	}
	close(hang)
	callers.Wait()
	if i.times() != 1 {
		t.Errorf("the keys were read %d times for callers at the same time", i.times())
	}
}

// stuck never answers.
type stuck struct{}

func (stuck) RoundTrip(r *http.Request) (*http.Response, error) {
	<-r.Context().Done()
	return nil, r.Context().Err()
}

// Nobody waits longer than five seconds for an issuer that never answers, or than they care to.
func TestIssuerNeverAnswers(t *testing.T) {
	t.Parallel()
	key := oidctest.NewKey(t, "one", jose.ES256)
	synctest.Test(t, func(t *testing.T) {
		i := &issuer{Server: &httptest.Server{URL: "https://idp.example"}}
		o := oidcOptionsOf(i)
		o.Client = &http.Client{Transport: stuck{}}
		p := mustOIDC(t, o)
		token := key.Sign(t, "JWT", i.claims(time.Now()))
		began := time.Now()
		left, leave := context.WithTimeout(t.Context(), time.Second)
		defer leave()
		r := httptest.NewRequestWithContext(left, http.MethodPost, "/mcp", nil)
		r.Header.Set("Authorization", "Bearer "+token)
		if _, err := p.Authenticate(r); !errors.Is(err, auth.ErrUnavailable) || time.Since(began) != time.Second {
			t.Errorf("who left after a second: %v after %v", err, time.Since(began))
		}
		if _, err := authenticate(t, p, token); !errors.Is(err, auth.ErrUnavailable) || time.Since(began) != 5*time.Second {
			t.Errorf("who stayed: %v after %v", err, time.Since(began))
		}
		if _, err := authenticate(t, p, token); !errors.Is(err, auth.ErrUnavailable) || time.Since(began) != 5*time.Second {
			t.Errorf("who came at once after that: %v after %v", err, time.Since(began))
		}
	})
}

// What an issuer answers can be anything; keys that verify nothing are passed over.
func TestKeySets(t *testing.T) {
	t.Parallel()
	right, weak := oidctest.NewKey(t, "one", jose.ES256), mustWeak(t)
	set := func(keys ...jose.JSONWebKey) []byte { return mustJSON(t, jose.JSONWebKeySet{Keys: keys}) }
	forEncryption := right.Public()
	forEncryption.Use = "enc"
	private := right.Public()
	private.Key = right.Private
	secret := jose.JSONWebKey{Key: []byte(strings.Repeat("x", 32)), KeyID: "one", Algorithm: "HS256"}
	withUnknown := bytes.Replace(set(right.Public()), []byte(`[`), []byte(`[{"kty":"NEW","kid":"x"},{"kty":"RSA"},7,null,`), 1)
	many := make([]jose.JSONWebKey, 101)
	for n := range many {
		many[n] = right.Public()
		many[n].KeyID = fmt.Sprint(n)
	}
	many[100].KeyID = "one"
	tests := map[string]struct {
		raw []byte
		ok  bool
	}{
		"right":          {set(right.Public()), true},
		"beside others":  {withUnknown, true},
		"for encryption": {set(forEncryption), false},
		"private":        {set(private), false},
		"secret":         {set(secret), false},
		"weak":           {set(weak.Public()), false},
		"none":           {set(), false},
		"no set":         {[]byte(`"canary"`), false},
		"too large":      {append(append([]byte(`{"x":"`), bytes.Repeat([]byte("x"), 1<<20)...), append([]byte(`",`), set(right.Public())[1:]...)...), false},
		"the 101st":      {set(many...), false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			i, c := newIssuer(t), newClock()
			i.be(func() { i.raw = tt.raw })
			key := right
			if name == "weak" {
				key = weak
			}
			if _, err := authenticate(t, mustOIDC(t, oidcOptions(i, c)), key.Sign(t, "JWT", i.claims(c.Now()))); (err == nil) != tt.ok {
				t.Errorf("%v", err)
			}
		})
	}
}

func mustWeak(t *testing.T) oidctest.Key {
	t.Helper()
	private, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	return oidctest.Key{ID: "weak", Algorithm: jose.RS256, Private: private}
}

func TestDiscovery(t *testing.T) {
	t.Parallel()
	key := oidctest.NewKey(t, "one", jose.ES256)
	const badName, badKeys = "calls itself otherwise", "jwks_uri is missing, or not https"
	for name, tt := range map[string]struct {
		member string
		value  any
		reason string
	}{
		"other name":        {"issuer", "https://evil.example", badName},
		"name with a slash": {"issuer", "SLASH", badName},
		"no keys":           {"jwks_uri", "", badKeys},
		"keys over http":    {"jwks_uri", "http://keys.example/keys", badKeys},
		"keys in a file":    {"jwks_uri", "file:///etc/passwd", badKeys},
		"keys are a number": {"jwks_uri", 7, "cannot be read"},
		"keys with a user":  {"jwks_uri", "https://user:canary@127.0.0.1:1/keys", badKeys},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			i, c := newIssuer(t, key), newClock()
			if tt.value == "SLASH" {
				tt.value = i.name() + "/"
			}
			i.be(func() { i.discovery = map[string]any{tt.member: tt.value} })
			var log lines
			o := oidcOptions(i, c)
			o.Log = slog.New(slog.NewTextHandler(&log, nil))
			_, err := authenticate(t, mustOIDC(t, o), key.Sign(t, "JWT", i.claims(c.Now())))
			if !errors.Is(err, auth.ErrUnavailable) || i.times() != 0 {
				t.Errorf("%v; the keys were read %d times", err, i.times())
			}
			if text := log.String(); !strings.Contains(text, tt.reason) || strings.Contains(text, "evil") || strings.Contains(text, "canary") {
				t.Errorf("log:\n%s", text)
			}
		})
	}
}

// A redirect could lead to where anybody can answer.
func TestIssuerRedirects(t *testing.T) {
	t.Parallel()
	key := oidctest.NewKey(t, "one", jose.ES256)
	i, c := newIssuer(t, key), newClock()
	front := httptest.NewServer(http.RedirectHandler(i.name()+"/.well-known/openid-configuration", http.StatusFound))
	t.Cleanup(front.Close)
	i.be(func() { i.discovery = map[string]any{"issuer": front.URL} })
	o := oidcOptions(i, c)
	o.Issuer = front.URL
	if _, err := authenticate(t, mustOIDC(t, o), key.Sign(t, "JWT", i.claims(c.Now(), "iss", front.URL))); !errors.Is(err, auth.ErrUnavailable) {
		t.Errorf("a redirect was followed: %v", err)
	}
}
