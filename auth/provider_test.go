package auth_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/zitadel/oidc/v3/example/server/storage"
	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"

	"github.com/tokenreeve/tokenreeve/auth"
)

// provider is somebody else's OpenID provider, with clients who get tokens for this server, and with
// keys that change.
type provider struct {
	*storage.Storage
	mu   sync.Mutex
	keys []keyPair // the last one signs
}

func startProvider(t *testing.T, key keyPair) (*provider, string) {
	t.Helper()
	var handler http.Handler
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { handler.ServeHTTP(w, r) }))
	t.Cleanup(s.Close)
	p := &provider{Storage: storage.NewStorage(storage.NewUserStore(s.URL)), keys: []keyPair{key}}
	var err error
	handler, err = op.NewProvider(&op.Config{CryptoKey: [32]byte{1}}, p, op.StaticIssuer(s.URL), op.WithAllowInsecure())
	if err != nil {
		t.Fatal(err)
	}
	return p, s.URL
}

// set changes the keys.
func (p *provider) set(keys ...keyPair) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.keys = keys
}

func (p *provider) current() []keyPair {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.keys)
}

// SigningKey implements op.Storage.
func (p *provider) SigningKey(context.Context) (op.SigningKey, error) {
	keys := p.current()
	return signing{keys[len(keys)-1]}, nil
}

// SignatureAlgorithms implements op.Storage.
func (p *provider) SignatureAlgorithms(context.Context) ([]jose.SignatureAlgorithm, error) {
	return []jose.SignatureAlgorithm{jose.RS256, jose.ES256}, nil
}

// KeySet implements op.Storage.
func (p *provider) KeySet(context.Context) ([]op.Key, error) {
	var published []op.Key
	for _, key := range p.current() {
		published = append(published, verifying{key})
	}
	return published, nil
}

type signing struct{ keyPair }

func (s signing) ID() string                                  { return s.id }
func (s signing) Key() any                                    { return s.private }
func (s signing) SignatureAlgorithm() jose.SignatureAlgorithm { return s.algorithm }

type verifying struct{ keyPair }

func (v verifying) ID() string                         { return v.id }
func (v verifying) Key() any                           { return v.private.Public() }
func (v verifying) Algorithm() jose.SignatureAlgorithm { return v.algorithm }
func (v verifying) Use() string                        { return "sig" }

// jwtClient gets JWTs, which the example's client does not.
type jwtClient struct{ op.Client }

func (jwtClient) AccessTokenType() op.AccessTokenType { return op.AccessTokenTypeJWT }

// ClientCredentials implements op.ClientCredentialsStorage.
func (p *provider) ClientCredentials(ctx context.Context, id, secret string) (op.Client, error) {
	client, err := p.Storage.ClientCredentials(ctx, id, secret)
	return jwtClient{client}, err
}

// ClientCredentialsTokenRequest implements op.ClientCredentialsStorage. The scope names the server
// that the token is for.
func (p *provider) ClientCredentialsTokenRequest(_ context.Context, id string, scopes []string) (op.TokenRequest, error) {
	request := &oidc.JWTTokenRequest{Subject: id, Audience: oidc.Audience{id}, Scopes: scopes}
	for _, scope := range scopes {
		if server, ok := strings.CutPrefix(scope, "for:"); ok {
			request.Audience = append(request.Audience, server)
		}
	}
	return request, nil
}

// GetPrivateClaimsFromScopes implements op.Storage.
func (p *provider) GetPrivateClaimsFromScopes(context.Context, string, string, []string) (map[string]any, error) {
	return map[string]any{"realm_access": map[string]any{"roles": []string{"staff", "token-operators"}}}, nil
}

// token gets a token for the server from the provider's token endpoint.
func (p *provider) token(t *testing.T, issuer, server string) string {
	t.Helper()
	form := url.Values{"grant_type": {"client_credentials"}, "scope": {"for:" + server}}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, issuer+"/oauth/token", strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.SetBasicAuth("sid1", "verysecret")
	response, err := http.DefaultClient.Do(r)
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

// A provider that was not written for these tests issues tokens, and rotates its keys.
func TestProvider(t *testing.T) {
	t.Parallel()
	first, second := newKey(t, "first", jose.RS256), newKey(t, "second", jose.ES256)
	p, issuer := startProvider(t, first)
	door := mustOIDC(t, auth.OIDCOptions{
		Issuer: issuer, Audience: audience, RoleClaim: []string{"realm_access", "roles"},
		Roles: map[string]auth.Grant{"token-operators": {Role: auth.RoleOperator}}, Skew: time.Second,
	})
	host := strings.TrimPrefix(issuer, "http://")
	admitted := func(token string) {
		t.Helper()
		if got, err := authenticate(t, door, token); err != nil || got.Name != "oidc:"+host+":sid1" || got.Role != auth.RoleOperator {
			t.Errorf("%+v, %v", got, err)
		}
	}
	old := p.token(t, issuer, audience)
	admitted(old)
	wantRejected(t, door, p.token(t, issuer, "https://other.example/mcp"), "another server")

	p.set(first, second)
	admitted(p.token(t, issuer, audience))
	admitted(old)

	// Another provider of the same make is another issuer, also with the same keys.
	other, otherIssuer := startProvider(t, second)
	wantRejected(t, door, other.token(t, otherIssuer, audience), "another issuer")

	// A key that is published no more is forgotten with the next reading.
	p.set(second)
	third := newKey(t, "third", jose.ES256)
	if _, err := authenticate(t, door, third.sign(t, "JWT", map[string]any{"iss": issuer, "aud": audience, "exp": time.Now().Add(time.Hour).Unix()})); !errors.Is(err, auth.ErrRefused) {
		t.Errorf("a key of nobody's: %v", err)
	}
	wantRejected(t, door, old, "no such key")
	admitted(p.token(t, issuer, audience))
}
