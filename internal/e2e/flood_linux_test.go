package e2e_test

import (
	"net"
	"path/filepath"
	"strings"
	"testing"
)

// Whoever opens more connections than the process may have files takes none from the escrow, the ledger
// and the sinks: a caller who comes then gets a token, and its secret is kept.
func TestFloodOfConnections(t *testing.T) {
	t.Parallel()
	v := newVendors(t)
	env := append(v.bareEnv(), "TOKENREEVE_BEARER_TOKEN="+strings.Repeat("x", 40))
	s := listensBinary(t, "/bin/sh", env, "-c", `ulimit -n 80 && exec "$0" "$@"`, binary(t),
		"serve", "--listen", "127.0.0.1:0", "--config", v.config(t, nil), "--state-dir", filepath.Join(v.home, "state"))
	for range 200 {
		conn, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
	}
	created := succeed(t, s.streamable(t, modern), "create_launchdarkly_token",
		map[string]any{"connection": "ld", "name": "new", "role": "reader", "deliver_to": "files/new"})
	if created["status"] != "created" || len(delivered(t, v.secretsDir())) != 1 {
		t.Errorf("got %v", created)
	}
}
