package server

import (
	"context"
	"crypto/rand"
	"errors"
	"net/http"
	"sync"

	mcpserver "github.com/mark3labs/mcp-go/server"

	"github.com/tokenreeve/tokenreeve/auth"
	"github.com/tokenreeve/tokenreeve/internal/refusal"
)

// openSessions are the sessions over HTTP, and whose they are. An event stream is one for as long as
// it is open; over Streamable HTTP older clients begin and end theirs by request.
type openSessions struct {
	max int
	own int // of one principal

	mu  sync.Mutex
	all map[string]*openSession
	of  map[string]int // how many each principal has
}

// openSession is one of them.
type openSession struct {
	id        string
	transport string // a session of one transport means nothing to the other
	owner     string // the principal's name
	calls     *outstanding
	told      *acknowledgements
	ended     context.Context
	end       context.CancelFunc

	mu     sync.Mutex
	listen context.CancelFunc // ends the stream that listens, nil where there is none
}

func newOpenSessions(most, own int) *openSessions {
	return &openSessions{max: most, own: own, all: map[string]*openSession{}, of: map[string]int{}}
}

// add opens a session under an id that nobody can guess, and returns nil where there are too many, of
// this principal or at all.
func (o *openSessions) add(transport, owner string) *openSession {
	ended, end := context.WithCancel(context.Background())
	s := &openSession{id: rand.Text(), transport: transport, owner: owner, calls: newOutstanding(), told: newAcknowledgements(ended.Done()), ended: ended, end: end}
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.all) >= o.max || o.of[owner] >= o.own {
		end()
		return nil
	}
	o.all[s.id] = s
	o.of[owner]++
	return s
}

// remove ends a session.
func (o *openSessions) remove(id string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if s, ok := o.all[id]; ok {
		delete(o.all, id)
		if o.of[s.owner]--; o.of[s.owner] == 0 {
			delete(o.of, s.owner)
		}
		s.end()
	}
}

// get returns nil where there is no such session of the transport.
func (o *openSessions) get(transport, id string) *openSession {
	o.mu.Lock()
	defer o.mu.Unlock()
	if s, ok := o.all[id]; ok && s.transport == transport {
		return s
	}
	return nil
}

// owned returns the session that a request names, or answers the request: it is unknown, or it
// belongs to somebody else.
func (o *openSessions) owned(w http.ResponseWriter, r *http.Request, transport, id string) *openSession {
	s := o.get(transport, id)
	switch {
	case s == nil:
		refusal.Write(w, http.StatusNotFound, "unknown_session", "there is no such session, or it has ended; begin a new one")
	case s.owner != callerOf(r.Context()):
		refusal.Write(w, http.StatusForbidden, "foreign_session", "the session belongs to another caller")
	default:
		return s
	}
	return nil
}

// bind returns a context that ends with the session of the call as well; the caller calls the
// function once the call is done. A call of a protocol without sessions has its request's context.
func (o *openSessions) bind(ctx context.Context) (context.Context, func()) {
	id := ""
	if session := mcpserver.ClientSessionFromContext(ctx); session != nil {
		id = session.SessionID()
	}
	if id == "" {
		return ctx, func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	o.mu.Lock()
	s, ok := o.all[id]
	o.mu.Unlock()
	if !ok { // it has ended meanwhile
		cancel()
		return ctx, cancel
	}
	unbind := context.AfterFunc(s.ended, cancel)
	return ctx, func() { unbind(); cancel() }
}

// wait returns when every call of every event stream was answered or ctx is done.
func (o *openSessions) wait(ctx context.Context) {
	for _, s := range o.list() {
		s.calls.wait(ctx)
	}
}

// endAll ends all sessions.
func (o *openSessions) endAll() {
	for _, s := range o.list() {
		o.remove(s.id)
	}
}

// count returns how many sessions of each transport are open.
func (o *openSessions) count() map[string]int {
	o.mu.Lock()
	defer o.mu.Unlock()
	counts := map[string]int{TransportSSE: 0, TransportHTTP: 0}
	for _, s := range o.all {
		counts[s.transport]++
	}
	return counts
}

func (o *openSessions) list() []*openSession {
	o.mu.Lock()
	defer o.mu.Unlock()
	list := make([]*openSession, 0, len(o.all))
	for _, s := range o.all {
		list = append(list, s)
	}
	return list
}

// listens makes the stream that end ends the session's only one. A client that opens another one
// has lost the one before.
func (s *openSession) listens(end context.CancelFunc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.listen != nil {
		s.listen()
	}
	s.listen = end
}

// callerOf returns the name of the principal who sent a request.
func callerOf(ctx context.Context) string {
	p, _ := auth.PrincipalFrom(ctx)
	return p.Name
}

type sessionKey struct{}

// withSession returns a context in which the library finds the id of the session that begins.
func withSession(ctx context.Context, s *openSession) context.Context {
	return context.WithValue(ctx, sessionKey{}, s.id)
}

func sessionID(ctx context.Context, _ *http.Request) (string, error) {
	id, _ := ctx.Value(sessionKey{}).(string)
	return id, nil
}

// sessionIDs tells the library which sessions of Streamable HTTP there are.
type sessionIDs struct {
	open    *openSessions
	request *http.Request // nil where the library asks for itself
}

// ResolveSessionIdManager implements mcpserver.SessionIdManagerResolver.
func (i sessionIDs) ResolveSessionIdManager(r *http.Request) mcpserver.SessionIdManager { //nolint:revive,staticcheck // the library's name
	return sessionIDs{i.open, r}
}

// Generate returns the id of the session that the request begins.
func (i sessionIDs) Generate() string {
	if i.request == nil {
		return ""
	}
	id, _ := sessionID(i.request.Context(), i.request)
	return id
}

// Validate has the same answer as owned, which was asked before.
func (i sessionIDs) Validate(id string) (isTerminated bool, err error) {
	s := i.open.get(TransportHTTP, id)
	if s == nil || i.request == nil || s.owner != callerOf(i.request.Context()) {
		return false, errors.New("no such session")
	}
	return false, nil
}

// Terminate ends a session, also one that was idle for too long.
func (i sessionIDs) Terminate(id string) (isNotAllowed bool, err error) {
	i.open.remove(id)
	return false, nil
}
