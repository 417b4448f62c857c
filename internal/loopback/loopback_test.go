package loopback_test

import (
	"testing"

	"github.com/tokenreeve/tokenreeve/internal/loopback"
)

func TestIsHost(t *testing.T) {
	t.Parallel()
	for host, want := range map[string]bool{
		"localhost": true, "LOCALHOST": true, "127.0.0.1": true, "127.9.8.7": true, "::1": true, "::ffff:127.0.0.1": true,
		"": false, "0.0.0.0": false, "::": false, "10.0.0.1": false, "localhost.example.com": false, "127.0.0.1.example.com": false,
		"127.0.0.1:80": false, "[::1]": false, "127.1": false,
	} {
		if got := loopback.IsHost(host); got != want {
			t.Errorf("%q: got %t", host, got)
		}
	}
}
