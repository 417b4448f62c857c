package providers

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

// Connection is one configured account with its name.
type Connection struct {
	Name     string
	Provider Provider

	mu     sync.Mutex
	health Health
}

// Health is how a connection was seen last by a call.
type Health struct {
	Seen time.Time // zero: no call yet
	Code Code      // empty: the last call went well
}

// Note records how a call of the vendor ended. Refusals made before anything was
// sent, and errors that are no Error, say nothing of the vendor and are not recorded.
func (c *Connection) Note(err error, now time.Time) {
	code := CodeOf(err)
	if err != nil && code == "" {
		return
	}
	switch code {
	case CodeInvalidArgument, CodeRefused, CodeNotOffered, CodeCancelled:
		return
	case CodeNotFound, CodeOwnerUnknown, CodeConflict, CodeRejected:
		code = "" // the vendor is there and the credential works
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.health = Health{Seen: now, Code: code}
}

// Health returns how the connection was seen last.
func (c *Connection) Health() Health {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.health
}

// Registry holds the configured connections, sorted by name.
type Registry struct {
	connections []*Connection
}

// NewRegistry returns a registry of the connections.
func NewRegistry(connections ...*Connection) *Registry {
	sorted := slices.Clone(connections)
	slices.SortFunc(sorted, func(a, b *Connection) int { return strings.Compare(a.Name, b.Name) })
	return &Registry{connections: sorted}
}

// All returns the connections in the order of their names.
func (r *Registry) All() []*Connection { return slices.Clone(r.connections) }

// Get returns the connection of that name.
func (r *Registry) Get(name string) (*Connection, bool) {
	for _, c := range r.connections {
		if c.Name == name {
			return c, true
		}
	}
	return nil, false
}

// Own knows the credentials of all configured connections that a listing of one
// connection could show.
type Own struct {
	ids      []string
	lastFour []string
}

// Has reports whether t is, or may be, a configured connection's own credential.
// Where credentials are known by their ends only, a token whose end is not told
// may be any of them.
func (o Own) Has(t *Token) bool {
	if slices.Contains(o.ids, t.ID) {
		return true
	}
	return len(o.lastFour) > 0 && (t.LastFour == "" || slices.Contains(o.lastFour, t.LastFour))
}

// Own gathers the credentials of every connection to the same vendor, since two
// connections may open one account. It fails where one of them cannot be told:
// then nothing may be changed through c.
func (r *Registry) Own(ctx context.Context, c *Connection) (Own, error) {
	var own Own
	for _, other := range r.connections {
		if other.Provider.Name() != c.Provider.Name() {
			continue
		}
		identity, err := other.Provider.Identity(ctx)
		if err != nil {
			return Own{}, fmt.Errorf("cannot tell which token is the credential of connection %s: %w", other.Name, err)
		}
		if identity.OwnID != "" {
			own.ids = append(own.ids, identity.OwnID)
		}
		if identity.OwnLastFour != "" {
			own.lastFour = append(own.lastFour, identity.OwnLastFour)
		}
	}
	return own, nil
}
