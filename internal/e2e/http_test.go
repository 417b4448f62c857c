package e2e_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/mark3labs/mcp-go/client"
	"github.com/mark3labs/mcp-go/mcp"
)

func TestStreamableHTTP(t *testing.T) {
	t.Parallel()
	testOverHTTP(t, func(t *testing.T, s *listening, version string) *client.Client {
		t.Helper()
		return s.streamable(t, version)
	})
}

func TestSSE(t *testing.T) {
	t.Parallel()
	testOverHTTP(t, func(t *testing.T, s *listening, version string) *client.Client {
		t.Helper()
		return s.sse(t, version)
	})
}

// testOverHTTP creates and revokes a token in both eras, and stops the server.
func testOverHTTP(t *testing.T, connect func(t *testing.T, s *listening, version string) *client.Client) {
	t.Helper()
	for _, version := range []string{legacy, modern} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			v := newVendors(t)
			s := listen(t, v, v.bareEnv())
			c := connect(t, s, version)
			listed, err := c.ListTools(t.Context(), mcp.ListToolsRequest{})
			if err != nil || len(listed.Tools) != len(allTools()) {
				t.Errorf("%d tools, want %d (%v)", len(listed.Tools), len(allTools()), err)
			}
			arguments := map[string]any{"connection": "ld", "name": "e2e", "role": "reader", "deliver_to": "files/ci/ld"}
			created := succeed(t, c, "create_launchdarkly_token", arguments)
			if diff := cmp.Diff([]string{v.secretOf(t, "e2e")}, delivered(t, v.secretsDir())); diff != "" || created["status"] != "created" {
				t.Errorf("status %v, delivered secrets (-want +got):\n%s", created["status"], diff)
			}
			id := v.mailtrapIDs(1)
			revoked := succeed(t, c, "revoke_token", map[string]any{"connection": "mt", "token_id": id[0]})
			if revoked["status"] != "revoked" {
				t.Errorf("revoke: %v", revoked)
			}
			v.checkGone(t, id, id)
			// An answer over HTTP tells no path on the server's machine.
			if text := fmt.Sprint(created, revoked); strings.Contains(text, v.home) {
				t.Errorf("an answer holds a path of the server: %s", text)
			}
			s.signal(t, terminate)
			s.exit(t, 0)
			v.noSecretIn(t, "stderr", s.err.String())
			if n := strings.Count(s.err.String(), s.token); n != 1 {
				t.Errorf("the token stands %d times on stderr, want once", n)
			}
			if out := s.out.String(); out != "" {
				t.Errorf("stdout: %s", out)
			}
		})
	}
}

// A bulk revocation over Streamable HTTP asks the client's user in both eras, and works through all
// its targets: a request without a session is no session that has ended.
func TestStreamableBulk(t *testing.T) {
	t.Parallel()
	for _, version := range []string{legacy, modern} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			v := newVendors(t)
			s := listen(t, v, v.bareEnv())
			asked := make(chan string, 10)
			c := s.streamable(t, version, client.WithElicitationHandler(user(func(question string) string {
				asked <- question
				return regexp.MustCompile(`REVOKE \d+`).FindString(question)
			})))
			ids := v.mailtrapIDs(4)
			out := succeed(t, c, "bulk_revoke_tokens", map[string]any{"connection": "mt", "token_ids": ids, "reason": "test"})
			if out["status"] != "revoked" {
				t.Errorf("bulk: %v", out)
			}
			v.checkGone(t, ids, ids)
			if len(asked) != 1 {
				t.Errorf("%d questions", len(asked))
			}
			// The library's own lines, which tell of the answer, would name the session.
			if id := c.GetSessionId(); id != "" && strings.Contains(s.err.String(), id) {
				t.Errorf("the log holds the session's id:\n%s", s.err)
			}
		})
	}
}

// A call that its client abandons: what was sent is finished, what was not is not sent any more.
func TestStreamableClientHangsUp(t *testing.T) {
	t.Parallel()
	for _, version := range []string{legacy, modern} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			v := newVendors(t)
			deletion := v.hold("DELETE", "/api_tokens/")
			s := listen(t, v, v.bareEnv())
			c := s.streamable(t, version)
			ids := v.mailtrapIDs(4)
			arguments := map[string]any{"connection": "mt", "token_ids": ids, "reason": "test"}
			preview, text := callTool(t, c, "bulk_revoke_tokens", arguments)
			if preview == nil {
				t.Fatal(text)
			}
			arguments["confirm"] = preview["confirm"]
			ctx, hangUp := context.WithCancel(t.Context())
			ended := background(ctx, c, "bulk_revoke_tokens", arguments)
			deletion.await(t, 1)
			hangUp()
			if answer := receive(t, ended, "the abandoned call"); !errors.Is(answer.err, context.Canceled) {
				t.Errorf("the call: %v", answer.err)
			}
			// The server learns of it from the network; the read of another client shows that it went on.
			read := v.hold("GET", "/api/v2/tokens")
			watched, abandon := context.WithCancel(t.Context())
			ended = background(watched, c, "list_tokens", map[string]any{"connection": "ld"})
			read.await(t, 1)
			abandon()
			_ = receive(t, ended, "the abandoned read")
			s.err.awaitText(t, "call tool=list_tokens")
			deletion.release()
			s.err.await(t, "the end of the bulk revocation", func(all string) bool {
				return strings.Count(all, "call tool=bulk_revoke_tokens") == 2 // the preview was the first call
			})
			s.signal(t, terminate)
			s.exit(t, 0)
			v.checkGone(t, ids, ids[:1])
		})
	}
}

// SIGTERM lets a change that was sent finish, and its answer reach the client.
func TestStreamableShutdown(t *testing.T) {
	t.Parallel()
	for _, version := range []string{legacy, modern} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			v := newVendors(t)
			gate := v.hold("POST", "/api/v2/tokens")
			s := listen(t, v, v.bareEnv())
			c := s.streamable(t, version)
			answers := background(t.Context(), c, "create_launchdarkly_token", map[string]any{"connection": "ld", "name": "e2e", "role": "reader"})
			gate.await(t, 1)
			if got, _ := s.get(t, "/readyz", false); got != http.StatusOK {
				t.Errorf("/readyz: status %d", got)
			}
			s.signal(t, terminate)
			s.err.awaitText(t, "stopping")
			for path, want := range map[string]int{"/healthz": 200, "/readyz": 503, "/sse": 503, "/mcp": 503} {
				if got, _ := s.get(t, path, true); got != want {
					t.Errorf("%s while stopping: status %d, want %d", path, got, want)
				}
			}
			gate.release()
			if got := receive(t, answers, "the answer"); got.content["status"] != "created" {
				t.Errorf("create: %v", got)
			}
			s.exit(t, 0)
			if diff := cmp.Diff([]string{v.secretOf(t, "e2e")}, delivered(t, v.secretsDir())); diff != "" {
				t.Errorf("delivered secrets (-want +got):\n%s", diff)
			}
		})
	}
}

// The settings of the file reach the listener, and flags win over them.
func TestServeSettings(t *testing.T) {
	t.Parallel()
	v := newVendors(t)
	file := v.config(t, map[string]any{"serve": map[string]any{
		"listen": "127.0.0.1:0", "transport": "http", "allowed_hosts": []string{"mcp.example"}, "allowed_origins": []string{"https://app.example"}, "max_sessions": 1,
	}})
	s := listens(t, v.bareEnv(), "serve", "--config", file, "--allowed-hosts", "other.example,127.0.0.1:80")
	if strings.Contains(s.err.String(), "/sse") {
		t.Errorf("server-sent events are served:\n%s", s.err)
	}
	if !strings.Contains(s.err.String(), "clients must call it other.example or 127.0.0.1:80\n") {
		t.Errorf("the names of the server are not shown:\n%s", s.err)
	}
	send := func(host, origin string) *http.Response {
		t.Helper()
		response, _ := s.send(t, http.MethodPost, "/mcp", initializeMessage, func(r *http.Request) {
			r.Host = host
			r.Header.Set("Authorization", "Bearer "+s.token)
			if origin != "" {
				r.Header.Set("Origin", origin)
			}
		})
		return response
	}
	for _, test := range []struct {
		host, origin string
		want         int
	}{
		{"mcp.example", "", 403}, // the flag's list has taken the file's place
		{"other.example", "https://evil.example", 403},
		{"other.example", "https://app.example", 200},
		{"other.example", "", 503}, // one session is the most
	} {
		response := send(test.host, test.origin)
		if response.StatusCode != test.want {
			t.Errorf("Host %s, Origin %q: status %d, want %d", test.host, test.origin, response.StatusCode, test.want)
		}
		if allowed := response.Header.Get("Access-Control-Allow-Origin"); (allowed != "") != (test.origin == "https://app.example") {
			t.Errorf("Origin %q: %q is allowed", test.origin, allowed)
		}
	}
	// Without the command, the file's address means nothing: stdio is served.
	p := serve(t, v.bareEnv(), "--config", file)
	p.signal(t, terminate)
	p.exit(t, 0)
}

func TestServeRefusesToStart(t *testing.T) {
	t.Parallel()
	v := newVendors(t)
	for name, test := range map[string]struct {
		args string
		want []string
	}{
		"wildcard":          {"--listen 0.0.0.0:0", []string{"is not a loopback address", "--tls-cert", "--behind-tls-proxy"}},
		"wildcard, no host": {"--listen :0", []string{"is not a loopback address", "--tls-cert"}},
		"public":            {"--listen 192.0.2.7:7777", []string{"is not a loopback address", "--tls-cert"}},
		"certificate alone": {"--listen 127.0.0.1:0 --tls-cert x.pem", []string{"--tls-key"}},
		"no certificate":    {"--listen 127.0.0.1:0 --tls-cert x.pem --tls-key y.pem", []string{"--tls-cert", "x.pem"}},
		"any origin":        {"--listen 127.0.0.1:0 --allowed-origins *", []string{"--allowed-origins"}},
		"unknown transport": {"--listen 127.0.0.1:0 --transport ws", []string{"--transport", "both"}},
		"no calls":          {"--demo --listen 127.0.0.1:0 --max-calls 0", []string{"--max-calls", "1 to 1000"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, stderr := run(t, v.env(), 1, "", append([]string{"serve"}, strings.Fields(test.args)...)...)
			if strings.Contains(stderr, "shown once") || strings.Contains(stderr, "serves") {
				t.Errorf("it has begun to serve: %s", stderr)
			}
			for _, want := range test.want {
				if !strings.Contains(stderr, want) {
					t.Errorf("%s lacks %q", stderr, want)
				}
			}
		})
	}
}

// With TLS, or behind a proxy that does it, other machines may connect.
func TestServeBeyondThisMachine(t *testing.T) {
	t.Parallel()
	t.Run("TLS", func(t *testing.T) {
		t.Parallel()
		v := newVendors(t)
		certFile, keyFile, roots := v.certificate(t)
		s := listens(t, v.bareEnv(), "serve", "--config", v.config(t, nil), "--listen", "0.0.0.0:0", "--tls-cert", certFile, "--tls-key", keyFile)
		if !strings.HasPrefix(s.url, "https://") {
			t.Errorf("it serves %s", s.url)
		}
		_, port, _ := net.SplitHostPort(strings.TrimPrefix(s.url, "https://"))
		s.url = "https://127.0.0.1:" + port
		s.http = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}}
		for _, c := range []*client.Client{s.streamable(t, modern), s.streamable(t, legacy), s.sse(t, legacy)} {
			if got, text := callTool(t, c, "list_connections", nil); got == nil {
				t.Errorf("list_connections: %s", text)
			}
		}
	})
	t.Run("behind a proxy", func(t *testing.T) {
		t.Parallel()
		v := newVendors(t)
		s := listens(t, v.bareEnv(), "serve", "--config", v.config(t, nil), "--listen", "0.0.0.0:0", "--behind-tls-proxy")
		_, port, _ := net.SplitHostPort(strings.TrimPrefix(s.url, "http://"))
		s.url = "http://127.0.0.1:" + port
		if got, _ := s.get(t, "/readyz", false); got != http.StatusOK {
			t.Errorf("/readyz: status %d", got)
		}
		if got, _ := s.get(t, "/mcp", false); got != http.StatusUnauthorized {
			t.Errorf("without a token: status %d", got)
		}
	})
}

// certificate writes a certificate for this machine.
func (v *vendors) certificate(t *testing.T) (certFile, keyFile string, roots *x509.CertPool) {
	t.Helper()
	return v.certificateUntil(t, time.Now().Add(time.Hour))
}

func (v *vendors) certificateUntil(t *testing.T, end time.Time) (certFile, keyFile string, roots *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: end,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{proxyHost}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	chain := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	roots = x509.NewCertPool()
	roots.AppendCertsFromPEM(chain)
	certFile = v.write(t, "tls.crt", string(chain))
	keyFile = v.write(t, "tls.key", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})))
	return certFile, keyFile, roots
}
