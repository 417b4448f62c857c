package auth_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// keyPair is a key of an issuer's.
type keyPair struct {
	id        string
	algorithm jose.SignatureAlgorithm
	private   crypto.Signer
}

func newKey(t testing.TB, id string, algorithm jose.SignatureAlgorithm) keyPair {
	t.Helper()
	var private crypto.Signer
	var err error
	switch algorithm {
	case jose.RS256, jose.RS384, jose.RS512, jose.PS256, jose.PS384, jose.PS512:
		private, err = rsa.GenerateKey(rand.Reader, 2048)
	case jose.ES256:
		private, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case jose.ES384:
		private, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case jose.ES512:
		private, err = ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	case jose.EdDSA:
		_, private, err = ed25519.GenerateKey(rand.Reader)
	default:
		t.Fatalf("no keys for %s", algorithm)
	}
	if err != nil {
		t.Fatal(err)
	}
	return keyPair{id, algorithm, private}
}

func (k keyPair) public() jose.JSONWebKey {
	return jose.JSONWebKey{Key: k.private.Public(), KeyID: k.id, Algorithm: string(k.algorithm), Use: "sig"}
}

// sign returns a JWT with the claims, and with the type in its header unless that is "".
func (k keyPair) sign(t testing.TB, typ string, claims map[string]any) string {
	t.Helper()
	payload, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	return k.signText(t, typ, payload)
}

func (k keyPair) signText(t testing.TB, typ string, payload []byte) string {
	t.Helper()
	options := (&jose.SignerOptions{}).WithHeader("kid", k.id)
	if typ != "" {
		options.WithHeader("typ", typ)
	}
	return compact(t, jose.SigningKey{Algorithm: k.algorithm, Key: k.private}, options, payload)
}

func compact(t testing.TB, key jose.SigningKey, options *jose.SignerOptions, payload []byte) string {
	t.Helper()
	signer, err := jose.NewSigner(key, options)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := signer.Sign(payload)
	if err != nil {
		t.Fatal(err)
	}
	token, err := signed.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// unsigned returns a JWT of the algorithm none.
func unsigned(claims map[string]any) string {
	payload, _ := json.Marshal(claims)
	encode := base64.RawURLEncoding.EncodeToString
	return encode([]byte(`{"alg":"none","typ":"JWT"}`)) + "." + encode(payload) + "."
}

// issuer is an OpenID provider's discovery and keys, over real HTTP.
type issuer struct {
	*httptest.Server
	mu        sync.Mutex
	keys      []jose.JSONWebKey
	discovery map[string]any // replaces members of the document
	raw       []byte         // the answer of the keys' address; nil: keys
	status    int            // 0: 200
	hang      chan struct{}  // answers wait until it is closed; nil: they do not
	asked     int            // answers of the keys' address
}

func newIssuer(t testing.TB, keys ...keyPair) *issuer {
	t.Helper()
	i := &issuer{}
	i.set(keys...)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /realm/.well-known/openid-configuration", func(w http.ResponseWriter, r *http.Request) {
		document := map[string]any{
			"issuer": i.name(), "jwks_uri": i.URL + "/keys", "authorization_endpoint": i.URL + "/auth", "token_endpoint": i.URL + "/token",
			"id_token_signing_alg_values_supported": []string{"RS256", "HS256", "none"},
		}
		i.answer(w, r, func() any { maps.Copy(document, i.discovery); return document })
	})
	mux.HandleFunc("GET /keys", func(w http.ResponseWriter, r *http.Request) {
		i.answer(w, r, func() any {
			i.asked++
			if i.raw != nil {
				return json.RawMessage(i.raw)
			}
			return jose.JSONWebKeySet{Keys: i.keys}
		})
	})
	i.Server = httptest.NewServer(mux)
	t.Cleanup(i.Close)
	return i
}

func (i *issuer) name() string { return i.URL + "/realm" }

func (i *issuer) answer(w http.ResponseWriter, r *http.Request, body func() any) {
	i.mu.Lock()
	hang := i.hang
	i.mu.Unlock()
	if hang != nil {
		select {
		case <-hang:
		case <-r.Context().Done():
		}
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	if i.status != 0 {
		w.WriteHeader(i.status)
		_, _ = w.Write([]byte("canary-of-the-issuer"))
		return
	}
	_ = json.NewEncoder(w).Encode(body())
}

func (i *issuer) set(keys ...keyPair) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.keys = nil
	for _, k := range keys {
		i.keys = append(i.keys, k.public())
	}
}

// be changes how the issuer behaves.
func (i *issuer) be(change func()) {
	i.mu.Lock()
	defer i.mu.Unlock()
	change()
}

func (i *issuer) times() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.asked
}

// audience is what tokens for this server are issued for.
const audience = "https://reeve.example/mcp"

// claims returns those of a good token, with the changes; a nil value leaves a claim out.
func (i *issuer) claims(now time.Time, changes ...any) map[string]any {
	all := map[string]any{
		"iss": i.name(), "aud": audience, "sub": "alice", "iat": now.Unix(), "nbf": now.Unix(), "exp": now.Add(5 * time.Minute).Unix(),
		"groups": []string{"operators"}, "client_id": "ide",
	}
	for n := 0; n < len(changes); n += 2 {
		name := changes[n].(string)
		if all[name] = changes[n+1]; changes[n+1] == nil {
			delete(all, name)
		}
	}
	return all
}

// clock is a clock that a test sets.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock { return &clock{now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}
