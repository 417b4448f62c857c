package server_test

import (
	"net/http"
	"runtime"
	"testing"
	"time"

	"github.com/tokenreeve/tokenreeve/internal/server"
)

// A server that has worked gives memory back once it is quiet, and only then. The test counts what
// collects garbage by demand, which is twice each time, so it runs beside no other.
func TestMemoryIsGivenBack(t *testing.T) {
	s := startWeb(t, server.HTTPOptions{Times: server.Times{Quiet: time.Millisecond}})
	times := func() uint32 {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.NumForcedGC
	}
	for range 3 {
		before := times()
		yield()
		if now := times(); now != before {
			t.Errorf("memory was given back %d times without work", now-before)
		}
		s.do(t, http.MethodPost, "/mcp", initializeMessage, nil)
		for end := time.Now().Add(hang); times() < before+2; yield() {
			if time.Now().After(end) {
				t.Fatal("no memory was given back")
			}
		}
	}
	s.finish(t)
}
