package auth_test

import (
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/tokenreeve/tokenreeve/internal/oidctest"
)

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

func newIssuer(t testing.TB, keys ...oidctest.Key) *issuer {
	t.Helper()
	i := &issuer{}
	i.set(keys...)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{realm}/.well-known/openid-configuration", func(w http.ResponseWriter, r *http.Request) {
		document := map[string]any{
			"issuer": i.URL + "/" + r.PathValue("realm"), "jwks_uri": i.URL + "/keys", "authorization_endpoint": i.URL + "/auth", "token_endpoint": i.URL + "/token",
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

func (i *issuer) set(keys ...oidctest.Key) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.keys = nil
	for _, k := range keys {
		i.keys = append(i.keys, k.Public())
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
