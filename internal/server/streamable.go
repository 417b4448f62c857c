package server

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net/http"
	"strings"

	"github.com/mark3labs/mcp-go/mcp"
	mcpserver "github.com/mark3labs/mcp-go/server"

	"github.com/tokenreeve/tokenreeve/internal/refusal"
)

func newStreamable(s *mcpserver.MCPServer, open *openSessions, o HTTPOptions, logger *slog.Logger) *mcpserver.StreamableHTTPServer {
	return mcpserver.NewStreamableHTTPServer(s,
		mcpserver.WithSessionIdManagerResolver(sessionIDs{open: open}),
		mcpserver.WithSessionIdleTTL(o.Times.Idle),
		// A silent stream is no idle session.
		mcpserver.WithHeartbeatInterval(min(o.Times.KeepAlive, o.Times.Idle/2)),
		mcpserver.WithDisableLocalhostProtection(true), // Host was checked before
		mcpserver.WithStreamableHTTPLogger(slog.New(debugHandler{logger.Handler()})),
	)
}

// postMessage takes a message and answers it. Older protocols begin a session with initialize and
// name it in every message after; the newest one knows none.
func (v *service) postMessage(w http.ResponseWriter, r *http.Request) {
	body, done, ok := v.read(w, r)
	if !ok {
		return
	}
	defer done()
	m, modern := parsePosted(r.Header, body)
	id := r.Header.Get(mcp.HeaderSessionID)
	isKnown := v.open.get(TransportHTTP, id) != nil
	if isKnown && v.open.owned(w, r, TransportHTTP, id) == nil {
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	alive := newKeptAlive(w, v.options.Times.KeepAlive)
	defer alive.end()
	w = alive
	switch {
	case isBatch(body):
		refusal.Write(w, http.StatusBadRequest, "batch", "the body is a batch; "+noBatches)
	case !modern && m.Method != string(mcp.MethodInitialize) && !speaks(r.Header): // initialize negotiates it
		wrongVersion(w)
	case modern && m.Method == string(mcp.MethodSubscriptionsListen):
		told := newAcknowledgements(nil)
		v.streamable.ServeHTTP(&watched{w, told.wrote}, r.WithContext(withAcknowledgements(r.Context(), told)))
	case modern && m.Method == string(mcp.MethodNotificationCancelled):
		// Without sessions the library would take it for anybody's call with that id. The client
		// closes its request instead.
		w.WriteHeader(http.StatusAccepted)
	case modern, isKnown && m.Method != string(mcp.MethodInitialize):
		v.streamable.ServeHTTP(w, r)
	case m.Method == string(mcp.MethodInitialize):
		v.initialize(w, r)
	case m == message{}:
		v.streamable.ServeHTTP(w, r) // which says what is wrong with it
	case id == "":
		noSession(w)
	default:
		_ = v.open.owned(w, r, TransportHTTP, id) // it is unknown
	}
}

// initialize begins a session.
func (v *service) initialize(w http.ResponseWriter, r *http.Request) {
	session := v.open.add(TransportHTTP, callerOf(r.Context()))
	if session == nil {
		tooManySessions(w)
		return
	}
	v.streamable.ServeHTTP(w, r.WithContext(withSession(r.Context(), session)))
	if w.Header().Get(mcp.HeaderSessionID) != session.id {
		v.open.remove(session.id) // the client has not learnt of it
	}
}

// listen opens the stream on which a session's client hears what it did not ask for.
func (v *service) listen(w http.ResponseWriter, r *http.Request) {
	session, ok := v.named(w, r)
	if !ok {
		return
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	if session != nil {
		session.listens(cancel)
		defer context.AfterFunc(session.ended, cancel)()
	}
	v.streamable.ServeHTTP(w, r.WithContext(ctx))
}

// endSession ends a session, its stream and its calls.
func (v *service) endSession(w http.ResponseWriter, r *http.Request) {
	if _, ok := v.named(w, r); ok {
		v.streamable.ServeHTTP(w, r)
	}
}

// named returns the session that a request without a message is about, or answers the request. A
// protocol without sessions has nil; the library answers it.
func (v *service) named(w http.ResponseWriter, r *http.Request) (*openSession, bool) {
	id := r.Header.Get(mcp.HeaderSessionID)
	if mcp.IsModernProtocol(r.Header.Get(mcp.HeaderProtocolVersion)) && (id == "" || v.open.get(TransportHTTP, id) == nil) {
		return nil, true
	}
	if !speaks(r.Header) {
		wrongVersion(w)
		return nil, false
	}
	if id == "" {
		noSession(w)
		return nil, false
	}
	session := v.open.owned(w, r, TransportHTTP, id)
	return session, session != nil
}

// speaks reports whether the server speaks the version that the header names. Clients of 2025-03-26
// name none.
func speaks(h http.Header) bool {
	version := h.Get(mcp.HeaderProtocolVersion)
	return version == "" || mcp.IsValidProtocolVersion(version)
}

func wrongVersion(w http.ResponseWriter) {
	refusal.Write(w, http.StatusBadRequest, "unsupported_version",
		"the Mcp-Protocol-Version header names a version that this server does not speak; it speaks "+strings.Join(mcp.ValidProtocolVersions, ", "))
}

func noSession(w http.ResponseWriter) {
	refusal.Write(w, http.StatusBadRequest, "no_session", "the request lacks the Mcp-Session-Id header; begin with initialize")
}

// read reads a message where the principal has not too many in work already. The caller calls done
// once the request was answered.
func (v *service) read(w http.ResponseWriter, r *http.Request) (body []byte, done func(), ok bool) {
	caller := callerOf(r.Context())
	if !v.messages.begin(caller) {
		w.Header().Set("Connection", "close")
		tooManyMessages(w)
		return nil, nil, false
	}
	v.asked.Add(1)
	body, ok = readMessage(w, r)
	if !ok {
		v.messages.end(caller)
		return nil, nil, false
	}
	return body, func() { v.messages.end(caller) }, true
}

// debugHandler logs what the library says where somebody looks for it: most of it is a client's
// doing.
type debugHandler struct{ slog.Handler }

// Enabled implements slog.Handler.
func (h debugHandler) Enabled(ctx context.Context, _ slog.Level) bool {
	return h.Handler.Enabled(ctx, slog.LevelDebug)
}

// Handle implements slog.Handler.
func (h debugHandler) Handle(ctx context.Context, r slog.Record) error {
	plain := slog.NewRecord(r.Time, slog.LevelDebug, r.Message, r.PC)
	r.Attrs(func(a slog.Attr) bool {
		switch a.Key {
		case "session", "sessionID", "stream": // whoever has the id has the session
		case "panic": // its value may hold anything
		default:
			plain.AddAttrs(a)
		}
		return true
	})
	return h.Handler.Handle(ctx, plain)
}
