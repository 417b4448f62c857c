package sink_test

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tokenreeve/tokenreeve/internal/secret"
	"github.com/tokenreeve/tokenreeve/internal/sink"
)

const vaultToken = "hvs.canary-token-4711"

// kv simulates a server with a KV version 2 engine at "secret", by the documented HTTP API
// (https://developer.hashicorp.com/vault/api-docs/secret/kv/kv-v2). It is no real server.
type kv struct {
	mu       sync.Mutex
	entries  map[string][]map[string]any // by path; version n is at n-1, a deleted one is nil
	requests []string
	headers  http.Header
	// before may answer a request itself, and says so.
	before func(w http.ResponseWriter, r *http.Request) bool
	// after runs when a write was stored and before it is answered.
	after func(w http.ResponseWriter) bool
	// capabilities are those of the token; none: the server does not tell.
	capabilities []string
	engine       string // version of the engine as it tells
}

func (s *kv) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests = append(s.requests, r.Method+" "+r.URL.RequestURI())
	s.headers = r.Header
	if s.before != nil && s.before(w, r) {
		return
	}
	if r.Header.Get("X-Vault-Token") != vaultToken {
		reply(w, http.StatusForbidden, map[string]any{"errors": []string{"permission denied"}})
		return
	}
	path := strings.TrimPrefix(r.URL.Path, "/v1/")
	key, isData := strings.CutPrefix(path, "secret/data/")
	switch {
	case path == "sys/internal/ui/mounts/secret":
		reply(w, http.StatusOK, map[string]any{"data": map[string]any{"type": "kv", "options": map[string]string{"version": s.engine}}})
	case path == "sys/capabilities-self" && s.capabilities != nil:
		reply(w, http.StatusOK, map[string]any{"capabilities": s.capabilities})
	case strings.HasPrefix(path, "sys/"):
		reply(w, http.StatusForbidden, map[string]any{"errors": []string{"preflight capability check returned 403"}})
	case !isData:
		reply(w, http.StatusNotFound, map[string]any{"errors": []string{`no handler for route "` + path + `"`}})
	case r.Method == http.MethodGet:
		s.read(w, r, key)
	default:
		s.write(w, r, key)
	}
}

func (s *kv) read(w http.ResponseWriter, r *http.Request, key string) {
	versions := s.entries[key]
	n := len(versions)
	if asked := r.URL.Query().Get("version"); asked != "" {
		n, _ = strconv.Atoi(asked)
	}
	if n < 1 || n > len(versions) {
		reply(w, http.StatusNotFound, map[string]any{"errors": []string{}})
		return
	}
	status := http.StatusOK
	if versions[n-1] == nil {
		status = http.StatusNotFound
	}
	reply(w, status, map[string]any{"data": map[string]any{"data": versions[n-1], "metadata": map[string]any{"version": n}}})
}

func (s *kv) write(w http.ResponseWriter, r *http.Request, key string) {
	var body struct {
		Options map[string]int `json:"options"`
		Data    map[string]any `json:"data"`
	}
	decoder := json.NewDecoder(r.Body)
	decoder.UseNumber()
	if decoder.Decode(&body) != nil || len(body.Data) == 0 {
		reply(w, http.StatusBadRequest, map[string]any{"errors": []string{"no data provided"}})
		return
	}
	if cas, ok := body.Options["cas"]; !ok || cas != len(s.entries[key]) {
		reply(w, http.StatusBadRequest, map[string]any{"errors": []string{"check-and-set parameter did not match the current version"}})
		return
	}
	s.entries[key] = append(s.entries[key], body.Data)
	if s.after != nil && s.after(w) {
		return
	}
	reply(w, http.StatusOK, map[string]any{"data": map[string]any{"version": len(s.entries[key])}})
}

func reply(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
}

// fixed is a credential's source.
type fixed struct {
	value string
	err   error
}

func (f fixed) Read(context.Context) (secret.Secret, error) { return secret.New(f.value), f.err }

// startVault returns a server over TLS and the options to reach it.
func startVault(t *testing.T) (*kv, sink.VaultOptions) {
	t.Helper()
	s := &kv{entries: map[string][]map[string]any{}, capabilities: []string{"create", "update", "read"}, engine: "2"}
	server := httptest.NewUnstartedServer(s)
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // clients that do not trust it are part of the tests
	server.StartTLS()
	t.Cleanup(server.Close)
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	return s, sink.VaultOptions{Address: server.URL, Prefix: "tokens", Token: fixed{value: vaultToken}, CA: func() ([]byte, error) { return ca, nil }}
}

func newVault(t *testing.T, o sink.VaultOptions) *sink.Vault {
	t.Helper()
	v, err := sink.NewVault("vault", o)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// wantVaultError is wantError for the Vault token as well.
func wantVaultError(t *testing.T, err error, text string) {
	t.Helper()
	wantError(t, err, text)
	if err != nil && strings.Contains(err.Error(), vaultToken) {
		t.Errorf("the error shows the token: %v", err)
	}
}

func TestVault(t *testing.T) {
	t.Parallel()
	s, o := startVault(t)
	v, key := newVault(t, o), parse(t, "ci/launchdarkly")
	first, second := secret.New(canary+"<&>é-1"), secret.New(canary+"-2")
	if err := v.Check(t.Context(), key, sink.Options{}); err != nil {
		t.Fatal(err)
	}
	if len(s.entries) != 0 {
		t.Errorf("Check wrote %v", s.entries)
	}
	delivery, err := v.Deliver(t.Context(), key, first, sink.Options{})
	if want := (sink.Delivery{Sink: "vault", Key: "ci/launchdarkly", Version: 1}); err != nil || delivery != want {
		t.Fatalf("got %+v, %v", delivery, err)
	}
	_, deliverErr := v.Deliver(t.Context(), key, second, sink.Options{})
	for _, err := range []error{v.Check(t.Context(), key, sink.Options{}), deliverErr} {
		wantVaultError(t, err, "sink vault: the key exists already: ci/launchdarkly")
		if !errors.Is(err, sink.ErrKeyExists) {
			t.Errorf("%v is not ErrKeyExists", err)
		}
	}
	if again, err := v.Deliver(t.Context(), key, first, sink.Options{}); err != nil || again != delivery {
		t.Errorf("a repeated delivery: got %+v, %v", again, err)
	}
	if err := v.Check(t.Context(), key, successor); err != nil {
		t.Error(err)
	}
	next, err := v.Deliver(t.Context(), key, second, successor)
	if err != nil || next.Version != 2 {
		t.Errorf("got %+v, %v", next, err)
	}
	want := map[string][]map[string]any{"tokens/ci/launchdarkly": {{"value": first.Expose()}, {"value": second.Expose()}}}
	if diff := cmp.Diff(want, s.entries); diff != "" {
		t.Error(diff)
	}
	for _, tt := range []struct {
		delivery sink.Delivery
		secret   secret.Secret
		want     bool
	}{{delivery, first, true}, {next, second, true}, {delivery, second, false}, {next, first, false}} {
		if held, err := v.Holds(t.Context(), tt.delivery, tt.secret.Digest()); held != tt.want || err != nil {
			t.Errorf("version %d: got %v, %v", tt.delivery.Version, held, err)
		}
	}
	for name, d := range map[string]sink.Delivery{"never written": {Sink: "vault", Key: "ci/launchdarkly", Version: 9}, "no entry": {Sink: "vault", Key: "x", Version: 1}} {
		if held, err := v.Holds(t.Context(), d, first.Digest()); held || err != nil {
			t.Errorf("%s: got %v, %v", name, held, err)
		}
	}
	// A server that answers with another version than the one asked for.
	s.before = func(_ http.ResponseWriter, r *http.Request) bool { r.URL.RawQuery = ""; return false }
	if held, err := v.Holds(t.Context(), delivery, second.Digest()); held || err != nil {
		t.Errorf("another version: got %v, %v", held, err)
	}
	_, err = v.Holds(t.Context(), sink.Delivery{Sink: "vault", Key: "x"}, first.Digest())
	wantVaultError(t, err, "has no version")
}

func TestVaultPlaces(t *testing.T) {
	t.Parallel()
	s, o := startVault(t)
	o.Mount, o.Prefix, o.Field, o.Namespace, o.Address = "/secret/", "", "token", "team/a", o.Address+"/"
	v := newVault(t, o)
	if _, err := v.Deliver(t.Context(), parse(t, "k"), secret.New(canary), sink.Options{}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string][]map[string]any{"k": {{"token": canary}}}, s.entries); diff != "" {
		t.Error(diff)
	}
	if s.headers.Get("X-Vault-Namespace") != "team/a" || s.headers.Get("X-Vault-Request") != "true" {
		t.Errorf("got %v", s.headers)
	}
	for _, request := range s.requests {
		if strings.Contains(request, canary) || strings.Contains(request, vaultToken) {
			t.Errorf("the path holds a secret: %s", request)
		}
	}
}

// What others keep in the same entry stays; a deleted entry is not written over.
func TestVaultKeepsWhatIsThere(t *testing.T) {
	t.Parallel()
	s, o := startVault(t)
	v := newVault(t, o)
	s.entries["tokens/k"] = []map[string]any{{"owner": "ann", "large": json.Number("12345678901234567890"), "value": "old"}}
	if _, err := v.Deliver(t.Context(), parse(t, "k"), secret.New(canary), successor); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{"owner": "ann", "large": json.Number("12345678901234567890"), "value": canary}
	if diff := cmp.Diff(want, s.entries["tokens/k"][1]); diff != "" {
		t.Error(diff)
	}
	s.entries["tokens/gone"] = []map[string]any{{"value": "old"}, nil}
	key := parse(t, "gone")
	_, deliverErr := v.Deliver(t.Context(), key, secret.New(canary), sink.Options{})
	for _, err := range []error{v.Check(t.Context(), key, sink.Options{}), deliverErr} {
		if !errors.Is(err, sink.ErrKeyExists) {
			t.Errorf("got %v, want ErrKeyExists", err)
		}
	}
	if d, err := v.Deliver(t.Context(), key, secret.New(canary), successor); err != nil || d.Version != 3 {
		t.Errorf("got %+v, %v", d, err)
	}
	if held, err := v.Holds(t.Context(), sink.Delivery{Sink: "vault", Key: "gone", Version: 2}, secret.New("old").Digest()); held || err != nil {
		t.Errorf("a deleted version: got %v, %v", held, err)
	}
}

func TestVaultCheckAndSet(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		theirs  string // what another writes just before our write arrives
		options sink.Options
		wants   string
		is      error
		version int
	}{
		{"another made the entry", "theirs", sink.Options{}, "the key exists already", sink.ErrKeyExists, 0},
		{"another wrote a version", "theirs", successor, "the entry has changed meanwhile", nil, 0},
		{"it was ourselves", canary, sink.Options{}, "", nil, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s, o := startVault(t)
			s.before = func(_ http.ResponseWriter, r *http.Request) bool {
				if r.Method == http.MethodPost && len(s.entries) == 0 {
					s.entries["tokens/k"] = []map[string]any{{"value": tt.theirs}}
				}
				return false
			}
			d, err := newVault(t, o).Deliver(t.Context(), parse(t, "k"), secret.New(canary), tt.options)
			if tt.wants == "" {
				if err != nil || d.Version != tt.version {
					t.Errorf("got %+v, %v", d, err)
				}
				return
			}
			wantVaultError(t, err, tt.wants)
			if tt.is != nil && !errors.Is(err, tt.is) {
				t.Errorf("%v is not %v", err, tt.is)
			}
			if len(s.entries["tokens/k"]) != 1 || s.entries["tokens/k"][0]["value"] != "theirs" {
				t.Errorf("theirs is gone: %v", s.entries)
			}
		})
	}
}

// A write whose answer is lost is looked up, not repeated.
func TestVaultLostAnswer(t *testing.T) {
	t.Parallel()
	for name, lose := range map[string]func(w http.ResponseWriter) bool{
		"cut": func(http.ResponseWriter) bool { panic(http.ErrAbortHandler) },
		"500": func(w http.ResponseWriter) bool { w.WriteHeader(http.StatusInternalServerError); return true },
		"garbage": func(w http.ResponseWriter) bool {
			_, _ = io.WriteString(w, canary)
			return true
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, o := startVault(t)
			s.after = lose
			d, err := newVault(t, o).Deliver(t.Context(), parse(t, "k"), secret.New(canary), sink.Options{})
			if err != nil || d.Version != 1 || len(s.entries["tokens/k"]) != 1 {
				t.Errorf("got %+v, %v, %v", d, err, s.entries)
			}
		})
	}
}

func TestVaultFails(t *testing.T) {
	t.Parallel()
	// A server that repeats what it was sent: nothing of it may be shown.
	answer := func(status int, body string) func(http.ResponseWriter, *http.Request) bool {
		return func(w http.ResponseWriter, r *http.Request) bool {
			w.Header().Set("Location", "https://elsewhere.example/"+canary)
			w.WriteHeader(status)
			_, _ = io.WriteString(w, body+r.Header.Get("X-Vault-Token")+canary)
			_, _ = io.Copy(w, r.Body)
			return true
		}
	}
	tests := []struct {
		name, wants string
		before      func(http.ResponseWriter, *http.Request) bool
		change      func(o *sink.VaultOptions)
	}{
		{"permission", "refused (403)", nil, func(o *sink.VaultOptions) { o.Token = fixed{value: "other"} }},
		{"sealed", "sealed or in maintenance (503)", answer(503, ""), nil},
		{"throttled", "status 429", answer(429, ""), nil},
		{"redirect", "redirects (307), which is not followed", answer(307, ""), nil},
		{"no JSON", "not the JSON that was expected", answer(200, "<html>"), nil},
		{"nothing in it", "has no version", func(w http.ResponseWriter, _ *http.Request) bool { reply(w, 200, map[string]any{}); return true }, nil},
		{"endless", "more than 2 MiB", answer(200, strings.Repeat(" ", 3<<20)), nil},
		{"cut", "did not answer", func(http.ResponseWriter, *http.Request) bool { panic(http.ErrAbortHandler) }, nil},
		{"no engine", "no engine at other", nil, func(o *sink.VaultOptions) { o.Mount = "other" }},
		{"unknown CA", "did not answer: tls: failed to verify certificate", nil, func(o *sink.VaultOptions) { o.CA = nil }},
		{"no CA", "no certificate in PEM", nil, func(o *sink.VaultOptions) { o.CA = func() ([]byte, error) { return []byte("nonsense"), nil } }},
		{"unreadable CA", "the CA cannot be read: gone", nil, func(o *sink.VaultOptions) { o.CA = func() ([]byte, error) { return nil, errors.New("gone") } }},
		{"no token", "the Vault token cannot be read: no such entry", nil, func(o *sink.VaultOptions) { o.Token = fixed{err: errors.New("no such entry")} }},
		{"empty token", "the Vault token is empty", nil, func(o *sink.VaultOptions) { o.Token = fixed{} }},
		{"token with a line break", "holds what no token holds", nil, func(o *sink.VaultOptions) { o.Token = fixed{value: vaultToken + "\nX: y"} }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s, o := startVault(t)
			s.before = tt.before
			if tt.change != nil {
				tt.change(&o)
			}
			v, key := newVault(t, o), parse(t, "k")
			_, deliverErr := v.Deliver(t.Context(), key, secret.New(canary), sink.Options{})
			_, holdsErr := v.Holds(t.Context(), sink.Delivery{Sink: "vault", Key: "k", Version: 1}, [32]byte{})
			for _, err := range []error{deliverErr, holdsErr} {
				wantVaultError(t, err, tt.wants)
			}
			if err := v.Check(t.Context(), key, sink.Options{}); err == nil || strings.Contains(err.Error(), canary) || strings.Contains(err.Error(), vaultToken) {
				t.Errorf("Check gives %v", err)
			}
			if len(s.entries) != 0 {
				t.Errorf("something was written: %v", s.entries)
			}
		})
	}
}

func TestVaultCheckKnowsWhatTheTokenMay(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name         string
		capabilities []string
		exists       bool
		engine       string
		wants        string
	}{
		{"root", []string{"root"}, false, "2", ""},
		{"the server does not tell", nil, false, "2", ""},
		{"may not create", []string{"read", "update"}, false, "2", "may not create secret/data/tokens/k"},
		{"may not update", []string{"read", "create"}, true, "2", "may not update secret/data/tokens/k"},
		{"may nothing", []string{"deny"}, false, "2", "may not create"},
		{"engine of version 1", []string{"root"}, false, "1", "not a KV version 2 one"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s, o := startVault(t)
			s.capabilities, s.engine = tt.capabilities, tt.engine
			if tt.exists {
				s.entries["tokens/k"] = []map[string]any{{"value": "old"}}
			}
			err := newVault(t, o).Check(t.Context(), parse(t, "k"), successor)
			if tt.wants != "" {
				wantVaultError(t, err, tt.wants)
			} else if err != nil {
				t.Error(err)
			}
		})
	}
}

func TestVaultTimeout(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
	defer server.Close()
	defer close(release)
	v := newVault(t, sink.VaultOptions{Address: server.URL, Token: fixed{value: vaultToken}, Timeout: 20 * time.Millisecond})
	wantVaultError(t, v.Check(t.Context(), parse(t, "k"), sink.Options{}), "did not answer")
}

func TestNewVault(t *testing.T) {
	t.Parallel()
	token := fixed{value: vaultToken}
	tests := []struct {
		name    string
		options sink.VaultOptions
		wants   string
	}{
		{"https", sink.VaultOptions{Address: "https://vault.example.com:8200", Token: token}, ""},
		{"loopback", sink.VaultOptions{Address: "http://127.0.0.1:8200", Token: token}, ""},
		{"loopback by name", sink.VaultOptions{Address: "http://localhost:8200/", Token: token}, ""},
		{"loopback of version 6", sink.VaultOptions{Address: "http://[::1]:8200", Token: token}, ""},
		{"plain", sink.VaultOptions{Address: "http://vault.example.com", Token: token}, "must begin with https://"},
		{"looks like loopback", sink.VaultOptions{Address: "http://localhost.example.com", Token: token}, "must begin with https://"},
		{"other scheme", sink.VaultOptions{Address: "ftp://127.0.0.1", Token: token}, "must begin with https://"},
		{"none", sink.VaultOptions{Token: token}, "the address is not valid"},
		{"with a path", sink.VaultOptions{Address: "https://vault.example.com/v1", Token: token}, "the address is not valid"},
		{"with a password", sink.VaultOptions{Address: "https://u:" + canary + "@vault.example.com", Token: token}, "the address is not valid"},
		{"unreadable", sink.VaultOptions{Address: "https://" + canary + "\x7f", Token: token}, "the address is not valid"},
		{"mount that climbs", sink.VaultOptions{Address: "https://v", Mount: "../sys", Token: token}, "the mount is not valid"},
		{"prefix with a query", sink.VaultOptions{Address: "https://v", Prefix: "a?b", Token: token}, "the prefix is not valid"},
		{"namespace with a line break", sink.VaultOptions{Address: "https://v", Namespace: "a\nb", Token: token}, "the namespace is not valid"},
		{"no token", sink.VaultOptions{Address: "https://v"}, "no source for the Vault token"},
		{"negative timeout", sink.VaultOptions{Address: "https://v", Token: token, Timeout: -1}, "timeout is negative"},
	}
	for _, tt := range tests {
		_, err := sink.NewVault("vault", tt.options)
		if tt.wants != "" {
			wantVaultError(t, err, "sink vault: ")
			wantVaultError(t, err, tt.wants)
		} else if err != nil {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}
