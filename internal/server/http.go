package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	mcpserver "github.com/mark3labs/mcp-go/server"

	"github.com/tokenreeve/tokenreeve/auth"
	"github.com/tokenreeve/tokenreeve/internal/telemetry"
	"github.com/tokenreeve/tokenreeve/tools"
)

// The transports of HTTP.
const (
	TransportSSE  = "sse"  // server-sent events, at /sse and /message
	TransportHTTP = "http" // Streamable HTTP, at /mcp
	TransportBoth = "both"
)

// The bounds of HTTP.
const (
	maxRequest = 1 << 20 // bytes
	maxHeader  = 64 << 10

	defaultSessions = 1000
	defaultCalls    = 16

	// A principal may have so many messages in work at a time, of which calls are a part. Answers
	// that an event stream's client has not read count for the stream alone.
	minMessages     = 64
	messagesForCall = 4
)

// HTTPOptions say who may come over HTTP, and within which bounds. Zero stands for the default.
type HTTPOptions struct {
	// Authenticate lets a request pass with its principal in the context, and answers every other
	// one itself. It is required.
	Authenticate func(http.Handler) http.Handler
	// Env is where previews are approved; nil: nowhere.
	Env *tools.Env
	// Resource tells clients where access tokens come from; the zero one tells nothing.
	Resource auth.Resource
	// Telemetry counts requests and sessions, and is what /metrics shows; nil: it shows nothing else.
	Telemetry *telemetry.Telemetry
	// MetricsListener is where /metrics stands, for whoever reaches it; nil: it stands on the main
	// listener, for callers who may read. HTTP closes it.
	MetricsListener net.Listener
	// Address finds out where a request comes from; by default the connection tells.
	Address func(*http.Request) string
	// Transport is which of the transports is served; both by default.
	Transport string
	// Hosts are the names, HOST:PORT or HOST alone, by which clients reach the listener; those of
	// the listener by default.
	Hosts []string
	// Origins are those of the web pages that may call from elsewhere; none by default.
	Origins []string
	// MaxSessions caps the open sessions of all callers, 1,000 by default.
	MaxSessions int
	// MaxOwnSessions caps those of one principal, MaxSessions by default.
	MaxOwnSessions int
	// MaxConnections caps the open connections; two for each session and 1,000 more by default, and always
	// half of the files that the process may have open.
	MaxConnections int
	// MaxCalls caps the calls that one principal has under way, 16 by default.
	MaxCalls int
	// Patience is how long calls may go on once the server stops.
	Patience time.Duration
	Times    Times
}

// Times bound how long clients keep the server waiting. Zero stands for the default.
type Times struct {
	// Read is how long a client may take to send a request; 15 seconds.
	Read time.Duration
	// Write is how long a client may take to read an answer, or one event of a stream; 10 seconds.
	Write time.Duration
	// Connection is how long a connection may wait for its next request; 2 minutes.
	Connection time.Duration
	// KeepAlive is how often a silent stream is written to; every 20 seconds.
	KeepAlive time.Duration
	// Idle is how long a session of Streamable HTTP may be without a request and without a stream; 30
	// minutes, which is longer than any call, and at least a second.
	Idle time.Duration
	// Quiet is how long a server that has worked is asked nothing until it gives memory back to the
	// system; 15 seconds.
	Quiet time.Duration
}

func (t Times) withDefaults() Times {
	return Times{
		Read: cmp.Or(t.Read, 15*time.Second), Write: cmp.Or(t.Write, 10*time.Second), Connection: cmp.Or(t.Connection, 2*time.Minute),
		KeepAlive: cmp.Or(t.KeepAlive, 20*time.Second), Idle: cmp.Or(t.Idle, 30*time.Minute), Quiet: cmp.Or(t.Quiet, 15*time.Second),
	}
}

func (o HTTPOptions) withDefaults(l *Listener) HTTPOptions {
	o.Transport = cmp.Or(o.Transport, TransportBoth)
	o.MaxSessions = cmp.Or(o.MaxSessions, defaultSessions)
	o.MaxOwnSessions = cmp.Or(o.MaxOwnSessions, o.MaxSessions)
	o.MaxConnections = cmp.Or(o.MaxConnections, 2*o.MaxSessions+spareConnections)
	o.MaxCalls = cmp.Or(o.MaxCalls, defaultCalls)
	if o.Telemetry == nil {
		o.Telemetry = telemetry.New("", slog.New(slog.DiscardHandler))
	}
	if o.Address == nil {
		o.Address = peerOf
	}
	o.Times = o.Times.withDefaults()
	if len(o.Hosts) == 0 {
		o.Hosts = l.Hosts
	}
	return o
}

// HTTP serves on the listener until ctx is done. Then it takes no new sessions and calls, lets those
// under way finish for at most Patience, waits for every change that was sent, and ends the streams.
func HTTP(ctx context.Context, s *mcpserver.MCPServer, work *tools.Tracker, l *Listener, o HTTPOptions, logger *slog.Logger) error {
	if o.Authenticate == nil {
		return errors.New("no caller could be told from another over HTTP")
	}
	if len(o.Hosts) == 0 && l.isWildcard {
		logger.Warn("clients that do not name localhost are refused; name the server in --allowed-hosts")
	}
	o = o.withDefaults(l)
	v := newService(s, work, l, o, logger)
	if o.MetricsListener != nil {
		end := v.serveMetrics(ctx, o.MetricsListener)
		defer end()
	}
	if l.connections.max = mostConnections(o.MaxConnections); o.MaxConnections >= o.MaxSessions && l.connections.max < o.MaxSessions {
		logger.Warn("so few files may be open that there can be fewer connections than sessions; raise the limit (ulimit -n)", "connections", l.connections.max, "sessions", o.MaxSessions)
	}
	connected, disconnect := context.WithCancel(context.WithoutCancel(ctx))
	httpServer := v.boundedServer(connected, v.handler(), l.connections)
	var background sync.WaitGroup
	defer background.Wait()
	background.Go(func() { v.giveBack(connected) })
	defer disconnect()
	served := make(chan error, 1)
	go func() { served <- httpServer.Serve(l) }()
	var failure error
	select {
	case err := <-served:
		failure = fmt.Errorf("serve HTTP: %w", err)
	case <-ctx.Done():
	}
	logger.Debug("stopping: what is under way is finished first")
	finish(context.WithoutCancel(ctx), work, o.Patience, logger)
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), writeTime)
	defer cancel()
	v.end(last)
	if httpServer.Shutdown(last) != nil {
		disconnect()
		failure = errors.Join(failure, httpServer.Close())
		v.waitForRequests(context.WithoutCancel(ctx), logger)
	}
	return failure
}

// boundedServer returns a server with the bounds that every listener has: on what clients send, and on how
// long they take. Requests have ctx.
func (v *service) boundedServer(ctx context.Context, h http.Handler, of *connections) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: v.options.Times.Read,
		ReadTimeout:       v.options.Times.Read, // of the body, whether we read it or not; streams go on
		IdleTimeout:       v.options.Times.Connection,
		MaxHeaderBytes:    maxHeader,
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ConnState:         of.noteState,
		ErrorLog:          slog.NewLogLogger(v.log.Handler(), slog.LevelDebug),
		// OPTIONS * would be answered before Host and Origin are looked at.
		DisableGeneralOptionsHandler: true,
	}
}

// finish lets no change begin, waits for calls for at most patience, and for
// changes to their end.
func finish(ctx context.Context, work *tools.Tracker, patience time.Duration, logger *slog.Logger) {
	work.Stop()
	wait, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if work.Wait(wait) != nil {
		logger.Warn("ending calls that take too long")
		work.Abort()
		_ = work.Wait(ctx) // ctx has no end
	}
}
