package server

import (
	queue "container/list"
	"crypto/tls"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"
)

// spareConnections are those that clients may have besides two for each session.
const spareConnections = 1000

// connections bounds those of one listener. Whoever can reach it can open more than this process may have
// files, and then neither the escrow nor the ledger nor a sink could open theirs: a secret that was just
// minted would be lost. Beyond the bound, the connection on which nothing was asked for the longest
// makes room for the new one.
type connections struct {
	net.Listener
	max int
	log *slog.Logger

	mu      sync.Mutex
	open    map[net.Conn]*queue.Element // its place in waiting; nil: a request is under way
	waiting *queue.List                 // of net.Conn, the one that has waited for a request for the longest first
	told    time.Time                   // when the log last heard of it
}

func boundConnections(l net.Listener, most int, log *slog.Logger) *connections {
	return &connections{Listener: l, max: most, log: log, open: map[net.Conn]*queue.Element{}, waiting: queue.New()}
}

// mostConnections is how many a listener takes: of the files that this process may have open, half at
// most.
func mostConnections(wanted int) int {
	if files := openFiles(); files > 0 {
		return min(wanted, max(1, files/2))
	}
	return wanted
}

// Accept implements net.Listener.
func (c *connections) Accept() (net.Conn, error) {
	for {
		inner, err := c.Listener.Accept()
		if err != nil {
			return nil, err
		}
		conn := &counted{Conn: inner, of: c}
		last := c.admit(conn)
		if last != nil {
			_ = last.Close() // the new one, or what makes room for it
		}
		if last != net.Conn(conn) {
			return conn, nil
		}
	}
}

// admit returns the connection that is too many, or nil.
func (c *connections) admit(conn net.Conn) net.Conn {
	c.mu.Lock()
	defer c.mu.Unlock()
	var last net.Conn
	if len(c.open) >= c.max {
		if now := time.Now(); now.Sub(c.told) >= time.Minute {
			c.told = now
			c.log.Warn("as many connections are open as the server keeps; those that wait for a request make room", "connections", c.max)
		}
		longest := c.waiting.Front()
		if longest == nil {
			return conn
		}
		last = longest.Value.(net.Conn)
		c.forget(last)
	}
	c.open[conn] = c.waiting.PushBack(conn)
	return last
}

// noteState is the server's ConnState.
func (c *connections) noteState(conn net.Conn, state http.ConnState) {
	if encrypted, ok := conn.(*tls.Conn); ok {
		conn = encrypted.NetConn()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	place, isOpen := c.open[conn]
	switch {
	case !isOpen:
	case state == http.StateActive && place != nil:
		c.waiting.Remove(place)
		c.open[conn] = nil
	case state == http.StateIdle && place == nil:
		c.open[conn] = c.waiting.PushBack(conn)
	}
}

// forget takes a connection out of the count. c.mu is held.
func (c *connections) forget(conn net.Conn) {
	if place := c.open[conn]; place != nil {
		c.waiting.Remove(place)
	}
	delete(c.open, conn)
}

// counted is one of the connections.
type counted struct {
	net.Conn
	of *connections
}

// Close implements net.Conn.
func (c *counted) Close() error {
	err := c.Conn.Close() // before another one takes its place
	c.of.mu.Lock()
	defer c.of.mu.Unlock()
	c.of.forget(c)
	return err
}

// CloseWrite lets net/http end a connection whose client is still sending, so that it reads the answer.
func (c *counted) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}
