package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"time"

	mcpserver "github.com/mark3labs/mcp-go/server"

	"github.com/tokenreeve/tokenreeve/auth"
	"github.com/tokenreeve/tokenreeve/tools"
)

// The bounds of HTTP.
const (
	maxRequest    = 1 << 20 // bytes
	headerTime    = 10 * time.Second
	bodyTime      = 30 * time.Second
	idleTime      = 2 * time.Minute
	keepAliveTime = 20 * time.Second
)

// Listen opens addr, which must be a loopback address: callers come with one
// shared token and without TLS.
func Listen(ctx context.Context, addr string) (net.Listener, error) {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, fmt.Errorf("--listen %q is not HOST:PORT, for example 127.0.0.1:7777", addr)
	}
	if ip, err := netip.ParseAddr(host); host != "localhost" && (err != nil || !ip.IsLoopback()) {
		return nil, fmt.Errorf("--listen %q is not a loopback address: use 127.0.0.1:PORT, [::1]:PORT or localhost:PORT", addr)
	}
	var config net.ListenConfig
	return config.Listen(ctx, "tcp", addr)
}

// SSE serves on the listener until ctx is done: server-sent events at /sse and
// /message, /healthz and /readyz. Then it takes no new calls, lets those under
// way finish for at most patience, and waits for every change that was sent.
func SSE(ctx context.Context, s *mcpserver.MCPServer, work *tools.Tracker, l net.Listener, bearer *auth.Bearer, patience time.Duration, logger *slog.Logger) error {
	port := l.Addr().(*net.TCPAddr).Port
	hosts := auth.LoopbackHosts(port)
	open := &streams{open: map[string]*outstanding{}}
	events := mcpserver.NewSSEServer(s,
		mcpserver.WithKeepAliveInterval(keepAliveTime),
		mcpserver.WithUseFullURLForMessageEndpoint(false),
		mcpserver.WithSessionIDGenerator(open.idOf),
		// Without this the library lets every origin read the stream.
		mcpserver.WithSSECORS(mcpserver.WithCORSAllowedOrigins(origins(hosts)...)),
	)
	connected, disconnect := context.WithCancel(context.WithoutCancel(ctx))
	defer disconnect()
	httpServer := &http.Server{
		Handler:           routes(events, open, work, bearer, hosts),
		ReadHeaderTimeout: headerTime,
		IdleTimeout:       idleTime,
		MaxHeaderBytes:    64 << 10,
		BaseContext:       func(net.Listener) context.Context { return connected },
		ErrorLog:          slog.NewLogLogger(logger.Handler(), slog.LevelDebug),
	}
	served := make(chan error, 1)
	go func() { served <- httpServer.Serve(l) }()
	var failure error
	select {
	case err := <-served:
		failure = fmt.Errorf("serve HTTP: %w", err)
	case <-ctx.Done():
	}
	logger.Debug("stopping: what is under way is finished first")
	finish(context.WithoutCancel(ctx), work, patience, logger)
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), writeTime)
	defer cancel()
	open.wait(last)
	events.CloseSessions()
	if httpServer.Shutdown(last) != nil {
		disconnect()
		return errors.Join(failure, httpServer.Close())
	}
	return failure
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

func origins(hosts []string) []string {
	all := make([]string, len(hosts))
	for i, host := range hosts {
		all[i] = "http://" + host
	}
	return all
}

// routes puts the checks in front of every route: Host and Origin first, then the
// caller, then the size.
func routes(events *mcpserver.SSEServer, open *streams, work *tools.Tracker, bearer *auth.Bearer, hosts []string) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok\n") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if work.IsStopping() {
			http.Error(w, "stopping", http.StatusServiceUnavailable)
			return
		}
		_, _ = io.WriteString(w, "ready\n")
	})
	mux.Handle("GET /sse", bearer.Middleware(unlessStopping(work, open.handler(events.SSEHandler()))))
	mux.Handle("POST /message", bearer.Middleware(unlessStopping(work, message(open, events.MessageHandler()))))
	return auth.CheckHostOrigin(hosts...)(mux)
}

// unlessStopping refuses new sessions and messages once the server stops.
func unlessStopping(work *tools.Tracker, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if work.IsStopping() {
			http.Error(w, "the server is shutting down", http.StatusServiceUnavailable)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// message bounds a message's type, size and time. A browser cannot send JSON to
// another origin without asking first.
func message(open *streams, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if mediaType, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || mediaType != "application/json" {
			http.Error(w, "Content-Type must be application/json", http.StatusUnsupportedMediaType)
			return
		}
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyTime))
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxRequest))
		var tooLarge *http.MaxBytesError
		switch {
		case errors.As(err, &tooLarge):
			http.Error(w, fmt.Sprintf("a message has at most %d bytes", maxRequest), http.StatusRequestEntityTooLarge)
			return
		case err != nil:
			http.Error(w, "the message broke off", http.StatusBadRequest)
			return
		}
		open.begin(r.URL.Query().Get("sessionId"), body)
		r.Body = io.NopCloser(bytes.NewReader(body))
		next.ServeHTTP(w, r)
	})
}
