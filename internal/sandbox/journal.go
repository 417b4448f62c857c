package sandbox

import (
	"slices"
	"sync"
	"time"
)

// ChangeKind is what became of a token.
type ChangeKind string

// The kinds of change.
const (
	TokenMade    ChangeKind = "made"
	TokenReset   ChangeKind = "reset" // LaunchDarkly: a new secret under the same id
	TokenUpdated ChangeKind = "updated"
	TokenDeleted ChangeKind = "deleted"
	TokenExpired ChangeKind = "expired" // Mailtrap: removed after its grace
)

// Change is one thing that became of a token after New, by a request or behind
// every client's back.
type Change struct {
	Vendor string
	Kind   ChangeKind
	Token  string // its id
	// Request is the Seq of the request that did it; 0 where none did.
	Request uint64
	Time    time.Time
	Name    string // as it is since
	// Owner is the account at Atlassian.
	Owner string
	// Replaces is, at Mailtrap, the token whose reset made this one.
	Replaces string
	// Role and Description are those of LaunchDarkly.
	Role, Description string
	// Secret is the one that was minted.
	Secret string
}

// journal keeps the changes of all vendors in their order: the truth that a test
// compares with what a client believes.
type journal struct {
	mu      sync.Mutex
	changes []Change
}

func (e *environment) note(c Change) {
	c.Time = e.clock()
	e.journal.mu.Lock()
	defer e.journal.mu.Unlock()
	e.journal.changes = append(e.journal.changes, c)
}

// Changes lists what became of tokens since New, in order. Changes at one vendor
// are in the order in which they took effect.
func (s *Sandbox) Changes() []Change {
	s.env.journal.mu.Lock()
	defer s.env.journal.mu.Unlock()
	return slices.Clone(s.env.journal.changes)
}

func (a *atlassian) note(kind ChangeKind, t *atlassianToken, request uint64) {
	a.env.note(Change{Vendor: Atlassian, Kind: kind, Token: t.id, Request: request, Name: t.label, Owner: t.account.id})
}

func (l *launchDarkly) note(kind ChangeKind, t *ldToken, request uint64) {
	c := Change{Vendor: LaunchDarkly, Kind: kind, Token: t.id, Request: request, Name: t.name, Role: t.role, Description: t.description}
	if kind == TokenMade || kind == TokenReset {
		c.Secret = "api-" + t.secret.uuid()
	}
	l.env.note(c)
}

func (m *mailtrap) note(kind ChangeKind, t *mtToken, request uint64, replaces string) {
	c := Change{Vendor: Mailtrap, Kind: kind, Token: t.text(), Request: request, Name: t.name, Replaces: replaces}
	if kind == TokenMade {
		c.Secret = t.secret.hex()
	}
	m.env.note(c)
}
