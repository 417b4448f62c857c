package sandbox

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// MailtrapToken is one token as the sandbox knows it. A zero ExpiresAt means never.
type MailtrapToken struct {
	ID        int64     `json:"id"`
	Name      string    `json:"name"`
	CreatedBy string    `json:"created_by"`
	ExpiresAt time.Time `json:"expires_at,omitzero"`
	// Replaced tells that the token was reset and is in its grace period.
	Replaced   bool               `json:"replaced,omitempty"`
	Resources  []MailtrapResource `json:"resources"`
	LastFour   string             `json:"last_four"` // of the secret, read only
	Credential string             `json:"credential,omitempty"`
	Secret     string             `json:"-"`
}

// MailtrapNode is something that permissions can name.
type MailtrapNode struct {
	ResourceType string `json:"resource_type"` // account, project, sandbox, domain
	ResourceID   int64  `json:"resource_id"`
	Name         string `json:"name"`
}

func (t *mtToken) export() MailtrapToken {
	return MailtrapToken{
		ID: t.id, Name: t.name, CreatedBy: t.createdBy, ExpiresAt: toTime(t.expires), Replaced: t.replaced,
		Resources: slices.Clone(t.resources), LastFour: t.secret.lastFour(), Credential: t.credential, Secret: t.secret.hex(),
	}
}

// MailtrapTokens lists all tokens by id.
func (s *Sandbox) MailtrapTokens() []MailtrapToken {
	m := s.mailtrap
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sweep(m.env.now())
	tokens := make([]MailtrapToken, 0, len(m.tokens))
	for _, t := range m.tokens {
		tokens = append(tokens, t.export())
	}
	return tokens
}

// MailtrapResources lists the account, its projects, sandboxes and domains.
func (s *Sandbox) MailtrapResources() []MailtrapNode {
	m := s.mailtrap
	nodes := []MailtrapNode{{"account", mailtrapAccount, "Acme"}}
	for _, p := range m.projects {
		nodes = append(nodes, MailtrapNode{"project", p.id, p.name})
		for _, n := range p.sandboxes {
			nodes = append(nodes, MailtrapNode{"sandbox", n.id, n.name})
		}
	}
	for _, n := range m.domains {
		nodes = append(nodes, MailtrapNode{"domain", n.id, n.name})
	}
	return nodes
}

// AddMailtrapToken adds a hand-made token and returns it whole. A zero ID is
// filled in, empty Resources are viewer access to the account.
func (s *Sandbox) AddMailtrapToken(in MailtrapToken) (MailtrapToken, error) {
	m := s.mailtrap
	m.mu.Lock()
	defer m.mu.Unlock()
	if in.ID == 0 {
		in.ID = m.nextID()
	}
	if m.byID[in.ID] != nil {
		return MailtrapToken{}, fmt.Errorf("sandbox: mailtrap token %d exists already", in.ID)
	}
	if len(in.Resources) == 0 {
		in.Resources = []MailtrapResource{{"account", mailtrapAccount, levelViewer}}
	}
	m.lastID = max(m.lastID, in.ID)
	t := &mtToken{id: in.ID}
	m.fill(t, in)
	m.insert(t)
	m.note(TokenMade, t, 0, "")
	slices.SortFunc(m.tokens, func(x, y *mtToken) int { return cmp.Compare(x.id, y.id) })
	return t.export(), nil
}

// fill takes over everything but id, secret and credential.
func (m *mailtrap) fill(t *mtToken, in MailtrapToken) {
	t.name, t.createdBy, t.expires = in.Name, in.CreatedBy, toMillis(in.ExpiresAt)
	t.resources = slices.Clone(in.Resources)
	if in.Replaced && !t.replaced {
		m.ending = append(m.ending, t)
	}
	if !in.Replaced && t.replaced {
		m.ending = slices.DeleteFunc(m.ending, func(other *mtToken) bool { return other == t })
	}
	t.replaced = in.Replaced
}

// UpdateMailtrapToken changes a token behind every client's back: everything but
// id and secret. change must not call the sandbox.
func (s *Sandbox) UpdateMailtrapToken(id int64, change func(*MailtrapToken)) error {
	m := s.mailtrap
	m.mu.Lock()
	defer m.mu.Unlock()
	t := m.byID[id]
	if t == nil {
		return fmt.Errorf("sandbox: no mailtrap token %d", id)
	}
	in := t.export()
	change(&in)
	m.fill(t, in)
	m.note(TokenUpdated, t, 0, "")
	m.version++
	return nil
}

// DeleteMailtrapToken deletes a token; false when there is none with that id.
func (s *Sandbox) DeleteMailtrapToken(id int64) bool {
	m := s.mailtrap
	m.mu.Lock()
	defer m.mu.Unlock()
	t := m.byID[id]
	if t != nil {
		m.note(TokenDeleted, t, 0, "")
		m.remove(t)
	}
	return t != nil
}
