package e2e_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/mark3labs/mcp-go/client"
	"github.com/mark3labs/mcp-go/client/transport"
	"github.com/mark3labs/mcp-go/mcp"

	"github.com/tokenreeve/tokenreeve/internal/postgres/postgrestest"
)

// proxyHost is the name of the server in what deploy/ ships.
const proxyHost = "tokenreeve.example.com"

// proxied are two replicas behind HAProxy, as clients see them.
type proxied struct {
	*listening
	replicas [2]*listening
	health   string // the URL of HAProxy's own check
}

// behindProxy starts two replicas with the serving settings that deploy/ ships, and HAProxy with the
// configuration that it ships: only addresses and the certificate's path differ.
func behindProxy(t *testing.T, v *vendors) *proxied {
	t.Helper()
	haproxy, err := exec.LookPath("haproxy")
	if err != nil {
		if os.Getenv("TOKENREEVE_TEST_HAPROXY") == "required" {
			t.Fatal(err)
		}
		t.Skip("haproxy is not installed")
	}
	settings := map[string]any{"serve": shippedServe(t)}
	env := append(v.bareEnv(), "TOKENREEVE_BEARER_TOKEN=configured-bearer-token-0123456789abcdef")
	if os.Getenv(postgrestest.Variable) != "" { // else they share a state directory
		env = append(env, "DATABASE_URL="+postgrestest.New(t))
		settings["state"] = map[string]any{"postgres": map[string]any{"env": "DATABASE_URL"}, "keys": map[string]any{"file": v.write(t, "keys", v.newKeys(t))}}
	}
	file := v.config(t, settings)
	p := &proxied{}
	port := "0" // the same for both, as behind one name
	for i, address := range replicaAddresses() {
		p.replicas[i] = listens(t, env, "serve", "--config", file, "--listen", address+":"+port, "--trusted-proxies", "127.0.0.1", "--log-level", "debug")
		_, port, _ = net.SplitHostPort(strings.TrimPrefix(p.replicas[i].url, "http://"))
	}
	certFile, keyFile, roots := v.certificate(t)
	clients, health := openPort(t), openPort(t)
	p.health = "http://" + health.Addr().String()
	configuration := replaced(t, "../../deploy/haproxy.cfg", map[string]string{
		"bind :8443":               "bind fd@3",
		"bind 127.0.0.1:10000":     "bind " + peerAddress(t),
		"bind 127.0.0.1:8404":      "bind fd@4",
		"crt /run/secrets/tls.pem": "crt " + v.write(t, "tls.pem", readFile(t, certFile)+readFile(t, keyFile)),
		`"${REPLICAS}:8080"`:       `"${REPLICAS}:` + port + `"`,
		"parse-resolv-conf":        "nameserver test " + names(t, "tokenreeve", replicaAddresses()),
	})
	cmd := exec.Command(haproxy, "-W", "-db", "-f", v.write(t, "haproxy.cfg", configuration))
	for _, port := range []*net.TCPListener{clients, health} {
		handed, err := port.File()
		if err != nil {
			t.Fatal(err)
		}
		defer handed.Close()
		cmd.ExtraFiles = append(cmd.ExtraFiles, handed)
	}
	proxy := launch(t, cmd)
	t.Cleanup(func() { _ = proxy.cmd.Process.Signal(terminate) })
	to := &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: roots},
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, clients.Addr().String())
		},
	}
	t.Cleanup(to.CloseIdleConnections)
	p.listening = &listening{process: proxy, url: "https://" + proxyHost, token: p.replicas[0].token, http: &http.Client{Transport: to}}
	for _, server := range []string{"replica-1", "replica-2"} {
		p.out.awaitText(t, "Server replicas/"+server+" administratively READY")
	}
	return p
}

// replicaAddresses are two addresses of this machine.
func replicaAddresses() []string { return []string{"127.0.0.2", "127.0.0.3"} }

// names is a name server that answers questions for the addresses of the one name, in another order
// each time. It returns its own address.
func names(t *testing.T, name string, addresses []string) string {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	t.Cleanup(func() { _ = conn.Close(); serving.Wait() })
	asked := append([]byte{byte(len(name))}, name+"\x00\x00\x01\x00\x01"...) // type A, class IN
	serving.Go(func() {
		query := make([]byte, 4096)
		for {
			n, from, err := conn.ReadFrom(query)
			if err != nil {
				return
			}
			if n < 12+len(asked) || !bytes.EqualFold(query[12:12+len(asked)], asked) {
				continue
			}
			answer := append(query[:2:2], 0x81, 0x80, 0, 1, 0, byte(len(addresses)), 0, 0, 0, 0)
			answer = append(answer, asked...)
			addresses = append(slices.Clone(addresses[1:]), addresses[0])
			for _, address := range addresses { // the name as above, type A, class IN, 1 s, 4 bytes
				answer = append(answer, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4)
				answer = append(answer, net.ParseIP(address).To4()...)
			}
			_, _ = conn.WriteTo(answer, from)
		}
	})
	return conn.LocalAddr().String()
}

// openPort listens on a free port, for a process that takes the listener over.
func openPort(t *testing.T) *net.TCPListener {
	t.Helper()
	l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// peerAddress is an address that nothing else listens on.
func peerAddress(t *testing.T) string {
	t.Helper()
	l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 4)})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// replaced reads a file, and puts new texts in the place of old ones, each of which must stand there
// once.
func replaced(t *testing.T, path string, texts map[string]string) string {
	t.Helper()
	content := readFile(t, path)
	for was, is := range texts {
		if strings.Count(content, was) != 1 {
			t.Fatalf("%s holds %q %d times, want once", path, was, strings.Count(content, was))
		}
		content = strings.Replace(content, was, is, 1)
	}
	return content
}

// shippedServe is the section serve of the configuration that deploy/ ships.
func shippedServe(t *testing.T) map[string]any {
	t.Helper()
	var shipped struct{ Serve map[string]any }
	if err := json.Unmarshal([]byte(readFile(t, "../../deploy/config.json")), &shipped); err != nil {
		t.Fatal(err)
	}
	return shipped.Serve
}

// hop is where the proxy sent a request.
type hop struct {
	server  string // as the proxy calls it
	replica *listening
}

// went returns where each request went that was logged after the first skip bytes of the proxy's log,
// once there are n that match.
func (p *proxied) went(t *testing.T, skip, n int, request string) []hop {
	t.Helper()
	var to []hop
	p.out.await(t, fmt.Sprintf("%d requests %s", n, request), func(all string) bool {
		to = nil
		for _, line := range regexp.MustCompile(`replicas/(\S+) (\S+) .*`+request+`\n`).FindAllStringSubmatch(all[skip:], -1) {
			i := slices.Index(replicaAddresses(), line[2])
			if i < 0 {
				t.Fatalf("no replica: %s", line[0])
			}
			to = append(to, hop{line[1], p.replicas[i]})
		}
		return len(to) >= n
	})
	return to
}

// Every transport works through the proxy that deploy/ ships. A session stays where it is; a protocol
// without sessions goes anywhere.
func TestProxy(t *testing.T) {
	t.Parallel()
	v := newVendors(t)
	p := behindProxy(t, v)
	opened := map[string]func() *client.Client{
		"POST /mcp":     func() *client.Client { return p.streamable(t, legacy) },
		"POST /message": func() *client.Client { return p.sse(t, legacy) },
	}
	for request, open := range opened {
		used := map[hop]bool{}
		for range 4 {
			before := len(p.out.String())
			c := open()
			p.use(t, c)
			to := p.went(t, before, 4, request) // two to begin, two of use
			used[to[0]] = true
			if slices.ContainsFunc(to, func(other hop) bool { return other != to[0] }) {
				t.Errorf("%s of one session went to %v", request, to)
			}
		}
		if len(used) != len(p.replicas) {
			t.Errorf("%s: all sessions are on %v", request, used)
		}
	}
	before := len(p.out.String())
	c := p.streamable(t, modern)
	p.use(t, c)
	p.use(t, c)
	if to := p.went(t, before, 4, "POST /mcp"); !slices.ContainsFunc(to, func(other hop) bool { return other != to[0] }) {
		t.Errorf("the protocol without sessions went to %v only", to)
	}
	id := v.mailtrapIDs(1)
	if revoked := succeed(t, c, "revoke_token", map[string]any{"connection": "mt", "token_id": id[0]}); revoked["status"] != "revoked" {
		t.Errorf("revoke: %v", revoked)
	}
	v.checkGone(t, id, id)
	if log := p.out.String(); strings.Contains(log, "sessionId") || strings.Contains(log, p.token) {
		t.Errorf("the proxy's log holds more than paths:\n%s", log)
	}
}

// use lists the tools and calls one.
func (p *proxied) use(t *testing.T, c *client.Client) {
	t.Helper()
	listed, err := c.ListTools(t.Context(), mcp.ListToolsRequest{})
	if err != nil || len(listed.Tools) != len(allTools()) {
		t.Errorf("%d tools, want %d (%v)", len(listed.Tools), len(allTools()), err)
	}
	if got, text := callTool(t, c, "list_connections", nil); got == nil {
		t.Errorf("list_connections: %s", text)
	}
}

// What a client says of its address does not count, what is too large is refused by the server, and
// what a client no longer waits for ends.
func TestProxyClients(t *testing.T) {
	t.Parallel()
	v := newVendors(t)
	p := behindProxy(t, v)
	response, _ := p.send(t, http.MethodPost, "/mcp", "", func(r *http.Request) {
		r.Header.Set("Authorization", "Bearer wrong")
		r.Header["X-Forwarded-For"] = []string{"192.0.2.1", "192.0.2.2"}
	})
	if response.StatusCode != http.StatusUnauthorized {
		t.Fatalf("a wrong token: %s", response.Status)
	}
	to := p.went(t, 0, 1, "POST /mcp")[0].replica
	to.err.awaitText(t, "caller refused")
	if log := to.err.String(); !strings.Contains(log, "address=127.0.0.1") || strings.Contains(log, "192.0.2.") {
		t.Errorf("the address is not the proxy's word:\n%s", log)
	}
	if response, _ = p.send(t, http.MethodPost, "/mcp", strings.Repeat(" ", 1<<20+1), bearerOf(p.token)); response.StatusCode != http.StatusRequestEntityTooLarge {
		t.Fatalf("more than 1 MiB: %s", response.Status)
	}
	for _, version := range []string{legacy, modern} {
		read := v.hold("GET", "/api_tokens")
		c := p.streamable(t, version)
		before := len(p.out.String())
		ctx, hangUp := context.WithCancel(t.Context())
		ended := background(ctx, c, "list_tokens", map[string]any{"connection": "mt"})
		read.await(t, 1)
		hangUp()
		if answer := receive(t, ended, "the abandoned call"); !errors.Is(answer.err, context.Canceled) {
			t.Errorf("the call: %v", answer.err)
		}
		to := p.went(t, before, 1, "CH-- .*POST /mcp")          // CH: the client gave up
		to[0].replica.err.awaitText(t, "call tool=list_tokens") // while the vendor is still silent
		read.release()
	}
}

// A replica that stops answers what is under way through the proxy, and nothing new gets there. Its
// sessions are told to begin anew.
func TestProxyDrains(t *testing.T) {
	t.Parallel()
	v := newVendors(t)
	creation := v.hold("POST", "/api/v2/tokens")
	p := behindProxy(t, v)
	c := p.streamable(t, legacy)
	from := p.went(t, 0, 1, "POST /mcp")[0]
	stops := from.replica
	answers := background(t.Context(), c, "create_launchdarkly_token", map[string]any{"connection": "ld", "name": "e2e", "role": "reader"})
	creation.await(t, 1)
	stops.signal(t, terminate)
	p.out.awaitText(t, "Server replicas/"+from.server+" is DOWN")
	before := len(p.out.String())
	for range 4 { // all of them to the other one
		p.use(t, p.streamable(t, legacy))
	}
	if to := slices.Compact(p.went(t, before, 16, "POST /mcp")); len(to) != 1 || to[0] == from {
		t.Errorf("new sessions went to %v, and %v stops", to, from)
	}
	creation.release()
	if got := receive(t, answers, "the answer"); got.content["status"] != "created" {
		t.Errorf("create: %v", got)
	}
	stops.exit(t, 0)
	if diff := cmp.Diff([]string{v.secretOf(t, "e2e")}, delivered(t, v.secretsDir())); diff != "" {
		t.Errorf("delivered secrets (-want +got):\n%s", diff)
	}
	if _, err := c.ListTools(t.Context(), mcp.ListToolsRequest{}); !errors.Is(err, transport.ErrSessionTerminated) {
		t.Errorf("the session of the replica that is gone: %v, want that it has ended", err)
	}
	if got := statusOf(t, p.health+"/readyz"); got != http.StatusOK {
		t.Errorf("the proxy's own check with one replica: status %d", got)
	}
	other := p.replicas[0]
	if other == stops {
		other = p.replicas[1]
	}
	other.signal(t, terminate)
	p.out.awaitText(t, "backend replicas has no server available")
	if got := statusOf(t, p.health+"/readyz"); got != http.StatusServiceUnavailable {
		t.Errorf("the proxy's own check without a replica: status %d", got)
	}
}

func statusOf(t *testing.T, url string) int {
	t.Helper()
	response, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	return response.StatusCode
}
