package sandbox

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
)

// AtlassianToken is one token of the organization as the sandbox knows it. A
// zero time means that there is none.
type AtlassianToken struct {
	ID string `json:"id"`
	// UserManagementID is the id in user management: ID, unless
	// AtlassianOptions.DifferentTokenIDs is set.
	UserManagementID string    `json:"user_management_id"`
	Label            string    `json:"label"`
	Status           string    `json:"status"` // ALLOWED, BLOCKED, or any word a test wants
	CreatedAt        time.Time `json:"created_at,omitzero"`
	ExpiresAt        time.Time `json:"expires_at,omitzero"`
	LastActiveAt     time.Time `json:"last_active_at,omitzero"`
	Scopes           []string  `json:"scopes"`
	// AccountID is the owner; the rest describes that account.
	AccountID      string `json:"account_id"`
	OwnerName      string `json:"owner_name"`
	OwnerEmail     string `json:"owner_email"`
	ServiceAccount bool   `json:"service_account"`
	// Unmanaged users' tokens appear in no API.
	Unmanaged bool `json:"unmanaged,omitempty"`
}

// AtlassianAccount is a user or a service account.
type AtlassianAccount struct {
	ID             string `json:"id"`
	Name           string `json:"name"`
	Email          string `json:"email"`
	ServiceAccount bool   `json:"service_account"`
	Unmanaged      bool   `json:"unmanaged,omitempty"`
	Tokens         int    `json:"tokens"`
	// DeleteRefusal is the reason key with which user management refuses to delete
	// the account's tokens, such as externalDirectory.scim; "" allows it.
	DeleteRefusal string `json:"delete_refusal,omitempty"`
}

// AtlassianKey is an admin API key of the organization.
type AtlassianKey struct {
	ID        string    `json:"id"`
	Label     string    `json:"label"`
	Scopes    []string  `json:"scopes"` // nil: a key without scopes
	ExpiresAt time.Time `json:"expires_at,omitzero"`
	Secret    string    `json:"-"`
}

func (t *atlassianToken) export() AtlassianToken {
	return AtlassianToken{
		ID: t.id, UserManagementID: t.userID, Label: t.label, Status: t.status, CreatedAt: toTime(t.created),
		ExpiresAt: toTime(t.expires), LastActiveAt: toTime(t.lastActive), Scopes: slices.Clone(t.scopes),
		AccountID: t.account.id, OwnerName: t.account.name, OwnerEmail: t.account.email,
		ServiceAccount: t.account.service, Unmanaged: !t.account.service && !t.account.managed,
	}
}

// AtlassianTokens lists all tokens: those of users, then those of service accounts,
// each from old to new, then the hidden ones of unmanaged users.
func (s *Sandbox) AtlassianTokens() []AtlassianToken {
	a := s.atlassian
	a.mu.Lock()
	defer a.mu.Unlock()
	tokens := make([]AtlassianToken, 0, len(a.byID))
	for _, t := range slices.Concat(a.users.rows, a.services.rows) {
		tokens = append(tokens, t.export())
	}
	for _, account := range a.order {
		if a.list(account) == nil {
			for _, t := range account.tokens {
				tokens = append(tokens, t.export())
			}
		}
	}
	return tokens
}

// AtlassianAccounts lists users, service accounts and unmanaged users.
func (s *Sandbox) AtlassianAccounts() []AtlassianAccount {
	a := s.atlassian
	a.mu.Lock()
	defer a.mu.Unlock()
	accounts := make([]AtlassianAccount, 0, len(a.order))
	for _, account := range a.order {
		accounts = append(accounts, AtlassianAccount{
			ID: account.id, Name: account.name, Email: account.email, ServiceAccount: account.service,
			Unmanaged: !account.service && !account.managed, Tokens: len(account.tokens), DeleteRefusal: account.refusal,
		})
	}
	return accounts
}

// AtlassianKeys lists the admin API keys that exist.
func (s *Sandbox) AtlassianKeys() []AtlassianKey {
	a := s.atlassian
	a.mu.Lock()
	defer a.mu.Unlock()
	keys := make([]AtlassianKey, 0, len(a.keys))
	for _, k := range a.keys {
		keys = append(keys, AtlassianKey{ID: k.id, Label: k.label, Scopes: slices.Clone(k.scopes), ExpiresAt: toTime(k.expires), Secret: k.secret})
	}
	return keys
}

// AddAtlassianToken adds a hand-made token and returns it whole. An empty ID,
// Status or CreatedAt is filled in. An AccountID that is unknown or empty makes a
// new account of that owner; with a known one the owner fields are ignored.
func (s *Sandbox) AddAtlassianToken(in AtlassianToken) (AtlassianToken, error) {
	a := s.atlassian
	a.mu.Lock()
	defer a.mu.Unlock()
	r := newRand(a.env.seed+a.lastSeq, "added")
	setDefault(&in.ID, "asp_"+randomText(r, 16))
	setDefault(&in.Status, "ALLOWED")
	if in.CreatedAt.IsZero() {
		in.CreatedAt = toTime(a.env.now())
	}
	if a.byID[in.ID] != nil {
		return AtlassianToken{}, fmt.Errorf("sandbox: atlassian token %q exists already", in.ID)
	}
	t := &atlassianToken{id: in.ID, userID: in.UserManagementID, account: a.owner(in, r)}
	t.fill(in)
	a.insert(t)
	a.note(TokenMade, t, 0)
	return t.export(), nil
}

// owner is the account of a hand-made token, made when it does not exist.
func (a *atlassian) owner(in AtlassianToken, r *rand.Rand) *atlassianAccount {
	if account := a.accounts[in.AccountID]; account != nil {
		return account
	}
	setDefault(&in.AccountID, "712020:"+randomUUID(r))
	return a.addAccount(&atlassianAccount{
		id: in.AccountID, internalID: randomUUID(r), name: in.OwnerName, email: in.OwnerEmail,
		service: in.ServiceAccount, managed: !in.ServiceAccount && !in.Unmanaged, updated: a.env.now(),
	})
}

// fill takes over everything but ids and owner.
func (t *atlassianToken) fill(in AtlassianToken) {
	t.label, t.status, t.scopes = in.Label, in.Status, slices.Clone(in.Scopes)
	if t.scopes == nil {
		t.scopes = []string{}
	}
	t.created, t.expires, t.lastActive = toMillis(in.CreatedAt), toMillis(in.ExpiresAt), toMillis(in.LastActiveAt)
}

// UpdateAtlassianToken changes a token behind every client's back. change may
// set all fields but the ids; another AccountID moves the token, OwnerName and
// OwnerEmail rename its account. change must not call the sandbox.
func (s *Sandbox) UpdateAtlassianToken(id string, change func(*AtlassianToken)) error {
	a := s.atlassian
	a.mu.Lock()
	defer a.mu.Unlock()
	t := a.byID[id]
	if t == nil {
		return fmt.Errorf("sandbox: no atlassian token %q", id)
	}
	in := t.export()
	change(&in)
	if in.AccountID != t.account.id {
		a.remove(t)
		t.account = a.owner(in, newRand(a.env.seed+a.lastSeq, "moved"))
		a.insert(t)
	} else {
		t.account.rename(in.OwnerName, in.OwnerEmail)
	}
	t.fill(in)
	a.users.sorted, a.services.sorted = nil, nil
	a.note(TokenUpdated, t, 0)
	return nil
}

// UpdateAtlassianAccount changes the name, e-mail or DeleteRefusal of an account.
func (s *Sandbox) UpdateAtlassianAccount(id string, change func(*AtlassianAccount)) error {
	a := s.atlassian
	a.mu.Lock()
	defer a.mu.Unlock()
	account := a.accounts[id]
	if account == nil {
		return fmt.Errorf("sandbox: no atlassian account %q", id)
	}
	in := AtlassianAccount{ID: id, Name: account.name, Email: account.email, DeleteRefusal: account.refusal}
	change(&in)
	account.rename(in.Name, in.Email)
	account.refusal = in.DeleteRefusal
	return nil
}

// DeleteAtlassianToken deletes a token, also of a service account; false when
// there is none with that id.
func (s *Sandbox) DeleteAtlassianToken(id string) bool {
	a := s.atlassian
	a.mu.Lock()
	defer a.mu.Unlock()
	t := a.byID[id]
	if t != nil {
		a.note(TokenDeleted, t, 0)
		a.remove(t)
	}
	return t != nil
}
