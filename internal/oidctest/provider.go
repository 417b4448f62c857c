package oidctest

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/go-jose/go-jose/v4"
	"github.com/zitadel/oidc/v3/example/server/storage"
	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"
)

// The provider's one client, which gets tokens for whomever it asks.
const (
	clientID     = "sid1"
	clientSecret = "verysecret"
)

// Provider is somebody else's OpenID provider, with a client that gets tokens for this server, and
// with keys that change.
type Provider struct {
	*storage.Storage
	// Issuer is its URL, as its tokens name it.
	Issuer string

	server *httptest.Server
	mu     sync.Mutex
	keys   []Key                                         // the last one signs
	before func(http.ResponseWriter, *http.Request) bool // sees each request first
}

// StartProvider starts a provider that signs with the key, until the test's end.
func StartProvider(t testing.TB, key Key) *Provider {
	t.Helper()
	p := &Provider{keys: []Key{key}}
	var handler http.Handler
	p.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if before := p.instead(); before != nil && before(w, r) {
			return
		}
		handler.ServeHTTP(w, r)
	}))
	t.Cleanup(p.server.Close)
	p.Issuer, p.Storage = p.server.URL, storage.NewStorage(storage.NewUserStore(p.server.URL))
	var err error
	handler, err = op.NewProvider(&op.Config{CryptoKey: [32]byte{1}}, p, op.StaticIssuer(p.Issuer), op.WithAllowInsecure())
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// Rotate replaces the keys; the last one signs, all are published.
func (p *Provider) Rotate(keys ...Key) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.keys = keys
}

// Before has each request pass through first, which answers it where it returns true; nil: none does.
func (p *Provider) Before(first func(http.ResponseWriter, *http.Request) bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.before = first
}

func (p *Provider) instead() func(http.ResponseWriter, *http.Request) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.before
}

// Token gets an access token for the subject at the server from the provider's token endpoint. Its
// claim realm_access.roles holds the roles.
func (p *Provider) Token(t testing.TB, subject, server string, roles ...string) string {
	t.Helper()
	scopes := []string{"sub:" + subject, "for:" + server}
	for _, role := range roles {
		scopes = append(scopes, "role:"+role)
	}
	form := url.Values{"grant_type": {"client_credentials"}, "scope": {strings.Join(scopes, " ")}}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, p.Issuer+"/oauth/token", strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.SetBasicAuth(clientID, clientSecret)
	response, err := p.server.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var answer struct {
		AccessToken string `json:"access_token"`
	}
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil || answer.AccessToken == "" {
		t.Fatalf("the provider gives no token: %s %v", response.Status, err)
	}
	return answer.AccessToken
}

// Claims returns those of such a token, for one that is to be forged.
func Claims(t testing.TB, token string) map[string]any {
	t.Helper()
	jws, err := jose.ParseSignedCompact(token, []jose.SignatureAlgorithm{jose.RS256, jose.ES256})
	if err != nil {
		t.Fatal(err)
	}
	var claims map[string]any
	if err := json.Unmarshal(jws.UnsafePayloadWithoutVerification(), &claims); err != nil {
		t.Fatal(err)
	}
	return claims
}

// SigningKey implements op.Storage.
func (p *Provider) SigningKey(context.Context) (op.SigningKey, error) {
	keys := p.current()
	return signing{keys[len(keys)-1]}, nil
}

// SignatureAlgorithms implements op.Storage.
func (p *Provider) SignatureAlgorithms(context.Context) ([]jose.SignatureAlgorithm, error) {
	return []jose.SignatureAlgorithm{jose.RS256, jose.ES256}, nil
}

// KeySet implements op.Storage.
func (p *Provider) KeySet(context.Context) ([]op.Key, error) {
	var published []op.Key
	for _, key := range p.current() {
		published = append(published, verifying{key})
	}
	return published, nil
}

func (p *Provider) current() []Key {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.keys)
}

// ClientCredentials implements op.ClientCredentialsStorage.
func (p *Provider) ClientCredentials(ctx context.Context, id, secret string) (op.Client, error) {
	client, err := p.Storage.ClientCredentials(ctx, id, secret)
	return jwtClient{client}, err
}

// ClientCredentialsTokenRequest implements op.ClientCredentialsStorage. Scopes name the subject and
// the server that the token is for.
func (p *Provider) ClientCredentialsTokenRequest(_ context.Context, id string, scopes []string) (op.TokenRequest, error) {
	subject := strings.Join(after("sub:", scopes), "")
	audience := append(oidc.Audience{id}, after("for:", scopes)...)
	return &oidc.JWTTokenRequest{Subject: subject, Audience: audience, Scopes: scopes}, nil
}

// GetPrivateClaimsFromScopes implements op.Storage.
func (p *Provider) GetPrivateClaimsFromScopes(_ context.Context, _, _ string, scopes []string) (map[string]any, error) {
	return map[string]any{"realm_access": map[string]any{"roles": append([]string{"staff"}, after("role:", scopes)...)}}, nil
}

// after returns what follows the prefix in those of the scopes that have it.
func after(prefix string, scopes []string) []string {
	var found []string
	for _, scope := range scopes {
		if rest, ok := strings.CutPrefix(scope, prefix); ok {
			found = append(found, rest)
		}
	}
	return found
}

// jwtClient gets JWTs, which the example's client does not.
type jwtClient struct{ op.Client }

func (jwtClient) AccessTokenType() op.AccessTokenType { return op.AccessTokenTypeJWT }

type signing struct{ key Key }

func (s signing) ID() string                                  { return s.key.ID }
func (s signing) Key() any                                    { return s.key.Private }
func (s signing) SignatureAlgorithm() jose.SignatureAlgorithm { return s.key.Algorithm }

type verifying struct{ key Key }

func (v verifying) ID() string                         { return v.key.ID }
func (v verifying) Key() any                           { return v.key.Private.Public() }
func (v verifying) Algorithm() jose.SignatureAlgorithm { return v.key.Algorithm }
func (v verifying) Use() string                        { return "sig" }
