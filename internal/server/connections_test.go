package server_test

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"

	"github.com/tokenreeve/tokenreeve/internal/server"
)

// Beyond the bound, a connection on which nothing was asked makes room for whoever comes; streams and
// requests under way go on.
func TestConnectionsAreBounded(t *testing.T) {
	t.Parallel()
	files := newFiles(t)
	files.write(t, 1)
	for name, l := range map[string]server.ListenOptions{
		"plain": {Addr: "127.0.0.1:0", Authenticated: true},
		"TLS":   {Addr: "127.0.0.1:0", Authenticated: true, CertFile: files.cert, KeyFile: files.key},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startWebOn(t, l, server.HTTPOptions{MaxConnections: 4})
			stream := s.do(t, http.MethodGet, "/sse", "", nil)
			defer stream.Body.Close()
			var idle []net.Conn
			for range 10 { // whoever they are
				conn, err := net.Dial("tcp", s.listener.Addr().String())
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				idle = append(idle, conn)
			}
			for _, conn := range idle[:6] {
				if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) {
					t.Errorf("an early connection is not closed: %v", err)
				}
			}
			if response := s.do(t, http.MethodGet, "/healthz", "", nil); response.StatusCode != http.StatusOK {
				t.Errorf("who comes then: status %d", response.StatusCode)
			}
			s.log.await(t, "as many connections are open as the server keeps")
			if n := strings.Count(s.log.String(), "as many connections are open"); n != 1 {
				t.Errorf("the log says so %d times", n)
			}
			event := make([]byte, 1)
			if _, err := stream.Body.Read(event); err != nil {
				t.Errorf("the stream was ended: %v", err)
			}
		})
	}
}

// Where no connection waits, the new one is refused; once one has ended, there is room again.
func TestConnectionsAllBusy(t *testing.T) {
	t.Parallel()
	s := startWeb(t, server.HTTPOptions{MaxConnections: 2})
	var streams []*http.Response
	for range 2 {
		stream := s.do(t, http.MethodGet, "/sse", "", nil)
		defer stream.Body.Close()
		streams = append(streams, stream)
	}
	if response, err := s.try(t, http.MethodGet, "/healthz", strings.NewReader(""), nil); err == nil {
		response.Body.Close()
		t.Errorf("status %d", response.StatusCode)
	}
	streams[0].Body.Close()
	for {
		response, err := s.try(t, http.MethodGet, "/healthz", strings.NewReader(""), nil)
		if err == nil {
			response.Body.Close()
			break
		}
		if t.Context().Err() != nil {
			t.Fatal(err)
		}
		yield()
	}
}

// A connection that is used again and again counts once.
func TestConnectionsUsedAgain(t *testing.T) {
	t.Parallel()
	s := startWeb(t, server.HTTPOptions{MaxConnections: 2})
	s.client = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	defer s.client.CloseIdleConnections()
	for range 10 {
		response := s.do(t, http.MethodPost, "/mcp", ping, nil)
		if _, err := io.Copy(io.Discard, response.Body); err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
	}
	if strings.Contains(s.log.String(), "as many connections") {
		t.Error("it counted one several times")
	}
}
