package postgrestest

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/url"
	"sync"
	"testing"
)

// Proxy stands between clients and a server, and cuts connections where a test wants it.
type Proxy struct {
	// DSN leads to the database through the proxy.
	DSN string

	server   string
	listener net.Listener
	work     sync.WaitGroup

	mu   sync.Mutex
	open map[net.Conn]struct{}
	cut  Cut
	cuts int
	down bool
}

// Cut says where the next connection that commits is cut.
type Cut int

// The places.
const (
	Nowhere             Cut = iota
	BeforeCommit            // the server never gets the commit
	AfterCommit             // the server has answered, and the client never learns of it
	BeforeCommitAndDown     // and nothing gets through after that
	AfterCommitAndDown
)

// NewProxy returns a proxy to the database at dsn, which may not ask for TLS. It ends with the test.
func NewProxy(t testing.TB, dsn string) *Proxy {
	t.Helper()
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal("the URL cannot be parsed")
	}
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{server: u.Host, listener: listener, open: map[net.Conn]struct{}{}}
	u.Host = listener.Addr().String()
	query := u.Query()
	query.Set("sslmode", "disable")
	u.RawQuery = query.Encode()
	p.DSN = u.String()
	p.work.Go(p.serve)
	t.Cleanup(func() {
		_ = listener.Close()
		p.Down()
		p.work.Wait()
	})
	return p
}

// CutNext cuts the connection of the next commit.
func (p *Proxy) CutNext(where Cut) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut = where
}

// Cuts returns how many commits were cut.
func (p *Proxy) Cuts() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cuts
}

// Down cuts all connections, and each new one as soon as it is made.
func (p *Proxy) Down() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.close()
}

// close is Down. p.mu is held.
func (p *Proxy) close() {
	p.down = true
	for c := range p.open {
		_ = c.Close()
	}
}

// Up ends Down.
func (p *Proxy) Up() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.down = false
}

// Drop cuts all connections, and lets new ones through.
func (p *Proxy) Drop() {
	p.Down()
	p.Up()
}

func (p *Proxy) serve() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.work.Go(func() { p.pass(client) })
	}
}

// keep registers connections so that they can be cut.
func (p *Proxy) keep(conns ...net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range conns {
		p.open[c] = struct{}{}
	}
	return !p.down
}

func (p *Proxy) pass(client net.Conn) {
	defer client.Close()
	server, err := new(net.Dialer).DialContext(context.Background(), "tcp", p.server) // on this machine
	if err != nil {
		return
	}
	defer server.Close()
	if !p.keep(client, server) {
		return
	}
	answers := make(chan Cut, 1) // filled: the next answer stays here
	p.work.Go(func() {
		defer client.Close()
		buffer := make([]byte, 64<<10)
		for {
			n, err := server.Read(buffer)
			if err != nil {
				return
			}
			select {
			case where := <-answers:
				if where == AfterCommitAndDown {
					p.Down()
				}
				return
			default:
			}
			if _, err := client.Write(buffer[:n]); err != nil {
				return
			}
		}
	})
	buffer := make([]byte, 64<<10)
	for {
		n, err := client.Read(buffer)
		if err != nil {
			return
		}
		if bytes.Contains(buffer[:n], []byte("commit\x00")) && p.take(answers) {
			return
		}
		if _, err := io.Copy(server, bytes.NewReader(buffer[:n])); err != nil {
			return
		}
	}
}

// take spends the cut, and reports whether the commit must not reach the server.
func (p *Proxy) take(answers chan Cut) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	where := p.cut
	p.cut = Nowhere
	p.cuts += min(int(where), 1)
	if where == AfterCommit || where == AfterCommitAndDown {
		answers <- where
	}
	if where == BeforeCommitAndDown {
		p.close()
	}
	return where == BeforeCommit || where == BeforeCommitAndDown
}
