package soak_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// How a slow reader reads.
const (
	slowPart  = 1 << 10 // bytes at a time
	slowPause = 5 * time.Millisecond
	buffer    = 4 << 10 // bytes that its machine takes unread
)

// network is one client's, whose connections can be slow, stall, or be reset.
type network struct {
	slow  bool
	stall chan struct{} // while it is open, nothing is read; nil: there is no stall
	http  *http.Client

	isStalled atomic.Bool
	mu        sync.Mutex
	wires     map[*wire]struct{}
}

func newNetwork(slow bool) *network {
	n := &network{slow: slow, stall: make(chan struct{}), wires: map[*wire]struct{}{}}
	n.http = &http.Client{Transport: &http.Transport{DialContext: n.dial, MaxIdleConnsPerHost: 4}}
	return n
}

func (n *network) dial(ctx context.Context, network, address string) (net.Conn, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return nil, errors.Join(errors.New("not TCP"), conn.Close())
	}
	if n.slow {
		_ = tcp.SetReadBuffer(buffer)
	}
	w := &wire{TCPConn: tcp, network: n}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.wires[w] = struct{}{}
	return w, nil
}

// reset breaks all connections off without a word of goodbye.
func (n *network) reset() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for w := range n.wires {
		_ = w.SetLinger(0)
		_ = w.TCPConn.Close()
	}
	clear(n.wires)
}

// close ends what is left.
func (n *network) close() {
	n.http.CloseIdleConnections()
	n.reset()
}

// wire is one connection.
type wire struct {
	*net.TCPConn
	network *network
}

// Read reads as slowly as the network is.
func (w *wire) Read(p []byte) (int, error) {
	if w.network.isStalled.Load() {
		<-w.network.stall
	}
	if !w.network.slow {
		return w.TCPConn.Read(p)
	}
	time.Sleep(slowPause)
	return w.TCPConn.Read(p[:min(len(p), slowPart)])
}

// Close closes the connection and forgets it.
func (w *wire) Close() error {
	w.network.mu.Lock()
	delete(w.network.wires, w)
	w.network.mu.Unlock()
	return w.TCPConn.Close()
}
