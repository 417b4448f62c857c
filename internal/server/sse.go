package server

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"

	"github.com/mark3labs/mcp-go/mcp"
	mcpserver "github.com/mark3labs/mcp-go/server"

	"github.com/tokenreeve/tokenreeve/internal/refusal"
)

// maxUnanswered is how many bytes of requests one event stream may owe answers to. One more may
// come on top.
const maxUnanswered = 1 << 20

// nowhere is the origin of no page.
const nowhere = "https://nowhere.invalid"

func newEvents(s *mcpserver.MCPServer, o HTTPOptions) *mcpserver.SSEServer {
	return mcpserver.NewSSEServer(s,
		mcpserver.WithKeepAliveInterval(o.Times.KeepAlive),
		mcpserver.WithUseFullURLForMessageEndpoint(false),
		mcpserver.WithSessionIDGenerator(sessionID),
		// Without a list the library lets every origin read the stream. Which ones may is decided
		// before the library is asked, and so is Host.
		mcpserver.WithSSECORS(mcpserver.WithCORSAllowedOrigins(nowhere)),
		mcpserver.WithSSEDisableLocalhostProtection(true),
	)
}

// openEvents opens an event stream, which is a session. Its id stands in a header as well, as that of
// Streamable HTTP does, so that a proxy in front can learn which replica has the session.
func (v *service) openEvents(w http.ResponseWriter, r *http.Request) {
	session := v.open.add(TransportSSE, callerOf(r.Context()))
	if session == nil {
		tooManySessions(w)
		return
	}
	defer v.open.remove(session.id)
	ctx, cancel := context.WithCancel(withSession(r.Context(), session))
	defer cancel()
	defer context.AfterFunc(session.ended, cancel)()
	w.Header().Set(mcp.HeaderSessionID, session.id)
	seen := &watched{w, func(event []byte) {
		session.told.wrote(event)
		if _, data, ok := bytes.Cut(event, []byte("data:")); ok {
			session.calls.end(data)
		}
	}}
	v.events.SSEHandler().ServeHTTP(seen, r.WithContext(ctx))
}

// eventMessage takes a message, whose answer goes to the event stream. The library works on each one
// in the background, and holds it until its answer was written: so only what it answers for certain,
// and can be counted, gets there.
func (v *service) eventMessage(w http.ResponseWriter, r *http.Request) {
	id := r.URL.Query().Get("sessionId")
	if id == "" {
		refusal.Write(w, http.StatusBadRequest, "no_session", "the URL lacks the sessionId of an event stream; open one at /sse")
		return
	}
	session := v.open.owned(w, r, TransportSSE, id)
	if session == nil {
		return
	}
	body, done, ok := v.read(w, r)
	if !ok {
		return
	}
	defer done()
	r = r.WithContext(withAcknowledgements(r.Context(), session.told))
	m := parseMessage(body)
	switch {
	case isBatch(body):
		refusal.Write(w, http.StatusBadRequest, "batch", "the body is a batch; "+noBatches)
	case m.JSONRPC != mcp.JSONRPC_VERSION:
		refusal.Write(w, http.StatusBadRequest, "not_json_rpc", "the message is not a JSON-RPC 2.0 object")
	case m.isRequest():
		if !session.calls.addWithin(m, len(body), v.messages.max, maxUnanswered) {
			tooManyMessages(w)
			return
		}
		v.pass(w, r, body)
	case m.isNotification() && json.Unmarshal(body, &mcp.JSONRPCNotification{}) == nil:
		v.pass(w, r, body)
	default: // an answer to a keep-alive; nothing else is asked over event streams
		w.WriteHeader(http.StatusAccepted)
	}
}

func (v *service) pass(w http.ResponseWriter, r *http.Request, body []byte) {
	r.Body = io.NopCloser(bytes.NewReader(body))
	v.events.MessageHandler().ServeHTTP(w, r)
}
