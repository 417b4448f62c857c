package server

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"runtime"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"time"

	mcpserver "github.com/mark3labs/mcp-go/server"

	"github.com/tokenreeve/tokenreeve/auth"
	"github.com/tokenreeve/tokenreeve/internal/refusal"
	"github.com/tokenreeve/tokenreeve/tools"
)

// Route is one route of the listener.
type Route struct {
	Method, Path string
	// Transport is the one that the route belongs to, empty where it belongs to none.
	Transport string
	// IsOpen says that no caller is needed.
	IsOpen bool
	// IsPage says that people open it in a browser, which presents their token by HTTP Basic.
	IsPage bool

	serve func(*service, http.ResponseWriter, *http.Request)
}

// Routes lists all routes. Host and Origin are checked in front of all of them, and a caller is
// wanted by all that are not open.
func Routes() []Route {
	return []Route{
		{Method: "GET", Path: "/healthz", IsOpen: true, serve: (*service).health},
		{Method: "GET", Path: "/readyz", IsOpen: true, serve: (*service).ready},
		{Method: "GET", Path: metricsPath, serve: (*service).metrics},
		{Method: "GET", Path: "/sse", Transport: TransportSSE, serve: (*service).openEvents},
		{Method: "POST", Path: "/message", Transport: TransportSSE, serve: (*service).eventMessage},
		{Method: "POST", Path: "/mcp", Transport: TransportHTTP, serve: (*service).postMessage},
		{Method: "GET", Path: "/mcp", Transport: TransportHTTP, serve: (*service).listen},
		{Method: "DELETE", Path: "/mcp", Transport: TransportHTTP, serve: (*service).endSession},
		{Method: "GET", Path: approveRoute, IsPage: true, serve: (*service).showApproval},
		{Method: "POST", Path: approveRoute, IsPage: true, serve: (*service).decide},
	}
}

// service is what stands behind the routes.
type service struct {
	options    HTTPOptions
	log        *slog.Logger
	work       *tools.Tracker
	open       *openSessions
	messages   *tally
	requests   *tools.Tracker // of HTTP, streams included
	asked      atomic.Int64   // messages so far
	events     *mcpserver.SSEServer
	streamable *mcpserver.StreamableHTTPServer
	pages      pages
	access     access
	scheme     string // by which clients come, here or to the proxy
	hasTLS     bool   // here
}

func newService(s *mcpserver.MCPServer, work *tools.Tracker, l *Listener, o HTTPOptions, logger *slog.Logger) *service {
	v := &service{
		options: o, log: logger, work: work, pages: newPages(), access: newAccess(o.Hosts, o.Origins, l.isSecure),
		scheme: "http", hasTLS: strings.HasPrefix(l.URL, "https://"), open: newOpenSessions(o.MaxSessions, o.MaxOwnSessions),
		messages: newTally(max(minMessages, messagesForCall*o.MaxCalls)), requests: tools.NewTracker(),
	}
	if l.isSecure {
		v.scheme = "https"
	}
	o.Telemetry.Sessions(v.open.count)
	s.Use(boundCalls(newTally(o.MaxCalls), v.open, logger))
	v.events = newEvents(s, o)
	v.streamable = newStreamable(s, v.open, o, logger)
	return v
}

// handler puts the checks in front of every route: Host and Origin first, then the caller, then
// whatever the route itself checks.
func (v *service) handler() http.Handler {
	mux := http.NewServeMux()
	for _, route := range Routes() {
		if route.Transport != "" && v.options.Transport != TransportBoth && v.options.Transport != route.Transport {
			continue
		}
		if route.Path == metricsPath && v.options.MetricsListener != nil {
			continue
		}
		var h http.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { route.serve(v, w, r) })
		if route.Transport != "" {
			h = v.withApprovalPage(h)
		}
		if !route.IsOpen {
			h = v.options.Authenticate(requirePrincipal(v.unlessStopping(route.Method, h)))
		}
		if route.IsPage {
			h = v.pages.guard(h)
		}
		mux.Handle(route.Method+" "+route.Path, noteRoute(route.Path, h))
	}
	if !v.options.Resource.IsZero() { // for whoever has no token yet
		for _, path := range v.options.Resource.MetadataPaths() {
			mux.Handle("GET "+path, noteRoute(path, v.options.Resource.Metadata()))
		}
	}
	return v.bounded(v.access.check(mux))
}

// bounded gives what is written its time, counts the requests under way, and notes what became of each.
func (v *service) bounded(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer v.requests.Begin()()
		seen, began := &visit{}, time.Now()
		ctx, cut := context.WithCancel(context.WithValue(r.Context(), visitKey{}, seen))
		defer cut()
		out := newPatient(w, v.options.Times.Write, cut)
		defer func() { v.noteRequest(r, seen, began, out) }()
		defer out.wait() // net/http may have something left to write
		// A Content-Length beside it, which net/http drops, is how a request is hidden in another one's
		// body from a proxy in front (RFC 9112, section 6.1): what follows is not read as a request.
		out.isLast = len(r.TransferEncoding) > 0
		if r.ContentLength != 0 && r.Method != http.MethodPost {
			// A client is not seen to be gone before its body was read.
			w.Header().Set("Connection", "close")
			refusal.Write(out, http.StatusBadRequest, "unexpected_body", "a request of this method has no body")
			return
		}
		next.ServeHTTP(out, r.WithContext(ctx))
	})
}

// requirePrincipal refuses a request that came through without a principal: further down it would count
// as the local user's.
func requirePrincipal(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p, ok := auth.PrincipalFrom(r.Context())
		if !ok || p.Name == "" {
			refusal.Write(w, http.StatusUnauthorized, "unauthorized", "it is not known who calls")
			return
		}
		visitOf(r.Context()).principal = p
		next.ServeHTTP(w, r)
	})
}

// unlessStopping refuses new sessions and messages once the server stops. The router takes HEAD for
// GET; no stream begins with it.
func (v *service) unlessStopping(method string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case v.work.IsStopping():
			w.Header().Set("Connection", "close")
			refusal.Write(w, http.StatusServiceUnavailable, "server_stopping", "the server is shutting down; try again when it is back")
		case r.Method != method:
			w.Header().Set("Allow", method)
			refusal.Write(w, http.StatusMethodNotAllowed, "method_not_allowed", "use "+method)
		default:
			next.ServeHTTP(w, r)
		}
	})
}

func (*service) health(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok\n") }

func (v *service) ready(w http.ResponseWriter, _ *http.Request) {
	if v.work.IsStopping() {
		http.Error(w, "stopping", http.StatusServiceUnavailable)
		return
	}
	_, _ = io.WriteString(w, "ready\n")
}

// tooManySessions refuses a session beyond the cap.
func tooManySessions(w http.ResponseWriter) {
	w.Header().Set("Retry-After", "30")
	refusal.Write(w, http.StatusServiceUnavailable, "too_many_sessions",
		"as many sessions are open as the server keeps, for this caller or in all; end one that is not needed, or try again later (the operator can raise --max-sessions)")
}

// tooManyMessages refuses a message of a client that does not wait for, or read, its answers.
func tooManyMessages(w http.ResponseWriter) {
	w.Header().Set("Retry-After", "1")
	refusal.Write(w, http.StatusTooManyRequests, "too_many_messages", "too many messages of this caller were not answered yet; read the answers, then go on")
}

// giveBack returns memory to the system whenever the server has become quiet after work, until ctx is
// done. Go alone keeps what a busy hour took for minutes, and much of it for as long as nothing comes.
func (v *service) giveBack(ctx context.Context) {
	ticker := time.NewTicker(v.options.Times.Quiet)
	defer ticker.Stop()
	var before, given int64 // messages until the tick before, and until memory was given back
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		now := v.asked.Load()
		if now == before && now != given {
			runtime.GC() // pools keep through one collection what they hold, as the buffers of closed connections
			debug.FreeOSMemory()
			given = now
		}
		before = now
	}
}

// end answers what was asked over event streams, and ends all streams.
func (v *service) end(ctx context.Context) {
	v.open.wait(ctx)
	v.events.CloseSessions()
	_ = v.streamable.Shutdown(ctx) // it has no server of its own that could fail
	v.open.endAll()
}

// waitForRequests returns once every handler has. Their connections are closed and their contexts
// done: it takes no time unless something is wrong.
func (v *service) waitForRequests(ctx context.Context, logger *slog.Logger) {
	ctx, cancel := context.WithTimeout(ctx, writeTime)
	defer cancel()
	if v.requests.Wait(ctx) != nil {
		logger.Error("requests have not ended with their connections")
	}
}
