package e2e_test

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/tokenreeve/tokenreeve/internal/oidctest"
	"github.com/tokenreeve/tokenreeve/internal/rawmcp"
)

// callersOf is a server whose callers are a provider's, and one with a static token.
type callersOf struct {
	*listening
	provider *oidctest.Provider
	key      oidctest.Key
}

// startWithProvider starts the provider, which is as prepare makes it, and then the binary.
func startWithProvider(t *testing.T, prepare func(*oidctest.Provider)) *callersOf {
	t.Helper()
	key := oidctest.NewKey(t, "first", jose.RS256)
	c := &callersOf{provider: oidctest.StartProvider(t, key), key: key}
	prepare(c.provider)
	v := newVendors(t)
	c.listening = listens(t, append(v.bareEnv(), "TOKENREEVE_BEARER_TOKEN="+callerToken("ignored")), "serve", "--listen", "127.0.0.1:0", "--config",
		v.config(t, map[string]any{"auth": map[string]any{
			"tokens": []map[string]any{configuredCaller("ci", "viewer")},
			"oidc": map[string]any{
				"issuer": c.provider.Issuer, "audience": matrixAudience, "role_claim": []string{"realm_access", "roles"}, "roles": map[string]any{"viewers": map[string]any{"role": "viewer"}},
			},
		}}))
	return c
}

func (c *callersOf) issue(t *testing.T) string {
	t.Helper()
	return c.provider.Token(t, "alice", matrixAudience, "viewers")
}

// status calls with a token and returns what HTTP answers.
func (c *callersOf) status(t *testing.T, token string) int {
	t.Helper()
	line, err := rawmcp.Caller{URL: c.url, HTTP: c.http, Present: bearerOf(token)}.Open(t.Context(), rawmcp.Sessionless)
	if err == nil {
		_, err = line.Call(t.Context(), "list_connections", map[string]any{})
	}
	var refusal *rawmcp.StatusError
	switch {
	case err == nil:
		return http.StatusOK
	case errors.As(err, &refusal):
		return refusal.Status
	default:
		t.Error(err)
		return 0
	}
}

func (c *callersOf) want(t *testing.T, what, token string, status int) {
	t.Helper()
	if got := c.status(t, token); got != status {
		t.Errorf("%s: status %d, want %d", what, got, status)
	}
}

// The provider's keys change while the binary runs.
func TestProviderRotates(t *testing.T) {
	t.Parallel()
	c := startWithProvider(t, func(*oidctest.Provider) {})
	old := c.issue(t)
	c.want(t, "the first key", old, http.StatusOK)
	next := oidctest.NewKey(t, "second", jose.ES256)
	c.provider.Rotate(c.key, next)
	c.want(t, "the second key", c.issue(t), http.StatusOK)
	c.want(t, "the first key beside it", old, http.StatusOK)
	c.provider.Rotate(next)
	stranger := oidctest.NewKey(t, "stranger", jose.ES256)
	c.want(t, "a key of nobody's", stranger.Sign(t, "JWT", oidctest.Claims(t, old)), http.StatusUnauthorized)
	c.want(t, "the first key, which was withdrawn", old, http.StatusUnauthorized)
	c.want(t, "the second key alone", c.issue(t), http.StatusOK)
}

// A provider that cannot be reached keeps neither the server nor callers down whom it need not be asked
// about, and counts again once it is back.
func TestProviderDown(t *testing.T) {
	t.Parallel()
	var isDown atomic.Bool
	c := startWithProvider(t, func(p *oidctest.Provider) {
		p.Before(func(w http.ResponseWriter, r *http.Request) bool {
			if !isDown.Load() || strings.HasPrefix(r.URL.Path, "/oauth/") {
				return false
			}
			w.WriteHeader(http.StatusBadGateway)
			_, _ = w.Write([]byte("canary-of-the-provider"))
			return true
		})
	})
	isDown.Store(true)
	token := c.issue(t)
	c.want(t, "its token", token, http.StatusServiceUnavailable)
	c.want(t, "a static token", callerToken("ci"), http.StatusOK)
	c.want(t, "a wrong token", callerToken("nobody"), http.StatusUnauthorized)
	if got, _ := c.get(t, "/readyz", false); got != http.StatusOK {
		t.Errorf("/readyz: status %d", got)
	}
	isDown.Store(false)
	for end := time.Now().Add(hang); c.status(t, token) != http.StatusOK; {
		if time.Now().After(end) {
			t.Fatal("its token is not admitted once it is back")
		}
	}
	isDown.Store(true)
	c.want(t, "its token while it is down again", token, http.StatusOK)
	if strings.Contains(c.err.String(), "canary-of-the-provider") || !strings.Contains(c.err.String(), "status 502") {
		t.Errorf("it said:\n%s", c.err)
	}
}

// A provider that is slow holds up those alone whose keys are asked for.
func TestProviderSlow(t *testing.T) {
	t.Parallel()
	asked, answer := make(chan struct{}, 10), make(chan struct{})
	c := startWithProvider(t, func(p *oidctest.Provider) {
		p.Before(func(_ http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path == "/.well-known/openid-configuration" {
				asked <- struct{}{}
				<-answer
			}
			return false
		})
	})
	release := sync.OnceFunc(func() { close(answer) })
	t.Cleanup(release) // else a failure leaves the provider waiting
	token := c.issue(t)
	status := make(chan int, 3)
	for range cap(status) {
		go func() { status <- c.status(t, token) }()
	}
	receive(t, asked, "the question for the keys")
	c.want(t, "a static token", callerToken("ci"), http.StatusOK)
	release()
	for range cap(status) {
		if got := receive(t, status, "the answer to who waited"); got != http.StatusOK {
			t.Errorf("who waited: status %d", got)
		}
	}
	if n := len(asked); n != 0 {
		t.Errorf("it was asked %d times more", n)
	}
}

// A provider that calls itself otherwise than configured is not the one that is trusted.
func TestProviderIsAnother(t *testing.T) {
	t.Parallel()
	c := startWithProvider(t, func(p *oidctest.Provider) {
		p.Before(func(w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path != "/.well-known/openid-configuration" {
				return false
			}
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprintf(w, `{"issuer":"https://idp.example","jwks_uri":%q,"authorization_endpoint":"https://idp.example/a","token_endpoint":"https://idp.example/t"}`, p.Issuer+"/keys")
			return true
		})
	})
	c.want(t, "its token", c.issue(t), http.StatusServiceUnavailable)
	c.err.awaitText(t, "calls itself otherwise than configured")
}
