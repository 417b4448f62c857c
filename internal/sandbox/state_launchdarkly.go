package sandbox

import (
	"fmt"
	"slices"
	"time"
)

// LaunchDarklyToken is one access token as the sandbox knows it. A zero LastUsed
// means never.
type LaunchDarklyToken struct {
	ID                string      `json:"id"`
	Name              string      `json:"name"`
	Description       string      `json:"description,omitempty"`
	MemberID          string      `json:"member_id"`
	MemberName        string      `json:"member_name"`  // read only
	MemberEmail       string      `json:"member_email"` // read only
	Role              string      `json:"role,omitempty"`
	CustomRoleIDs     []string    `json:"custom_role_ids,omitempty"`
	InlineRole        []Statement `json:"inline_role,omitempty"`
	ServiceToken      bool        `json:"service_token"`
	DefaultAPIVersion int         `json:"default_api_version"`
	CreatedAt         time.Time   `json:"created_at,omitzero"`
	LastModified      time.Time   `json:"last_modified,omitzero"`
	LastUsed          time.Time   `json:"last_used,omitzero"`
	LastFour          string      `json:"last_four"` // of the secret, read only
	Credential        string      `json:"credential,omitempty"`
	// Secret is the present secret, and OldSecrets those in their overlap.
	Secret     string   `json:"-"`
	OldSecrets []string `json:"-"`
}

// LaunchDarklyMember is a member of the account.
type LaunchDarklyMember struct {
	ID        string `json:"id"`
	FirstName string `json:"first_name"`
	LastName  string `json:"last_name"`
	Email     string `json:"email"`
	Role      string `json:"role"`
	Removed   bool   `json:"removed,omitempty"`
}

// LaunchDarklyRole is a custom role. On create the vendor takes its id or its key.
type LaunchDarklyRole struct {
	ID     string      `json:"id"`
	Key    string      `json:"key"`
	Name   string      `json:"name"`
	Policy []Statement `json:"policy"`
}

func (l *launchDarkly) export(t *ldToken) LaunchDarklyToken {
	out := LaunchDarklyToken{
		ID: t.id, Name: t.name, Description: t.description, MemberID: t.member.id,
		MemberName: t.member.firstName + " " + t.member.lastName, MemberEmail: t.member.email, Role: t.role,
		CustomRoleIDs: slices.Clone(t.customRoles), InlineRole: slices.Clone(t.inlineRole), ServiceToken: t.service,
		DefaultAPIVersion: t.version, CreatedAt: toTime(t.created), LastModified: toTime(t.modified), LastUsed: toTime(t.used),
		LastFour: t.secret.lastFour(), Credential: t.credential, Secret: "api-" + t.secret.uuid(),
	}
	for _, secret := range t.overlaps {
		if found, ok := l.bySecret[secret]; ok && l.env.now() < found.until {
			out.OldSecrets = append(out.OldSecrets, "api-"+secret.uuid())
		}
	}
	return out
}

// LaunchDarklyTokens lists all tokens in the order of making.
func (s *Sandbox) LaunchDarklyTokens() []LaunchDarklyToken {
	l := s.launchDarkly
	l.mu.Lock()
	defer l.mu.Unlock()
	tokens := make([]LaunchDarklyToken, 0, len(l.tokens))
	for _, t := range l.tokens {
		tokens = append(tokens, l.export(t))
	}
	return tokens
}

// LaunchDarklyMembers lists the members.
func (s *Sandbox) LaunchDarklyMembers() []LaunchDarklyMember {
	l := s.launchDarkly
	l.mu.Lock()
	defer l.mu.Unlock()
	members := make([]LaunchDarklyMember, 0, len(l.members))
	for _, m := range l.members {
		members = append(members, LaunchDarklyMember{ID: m.id, FirstName: m.firstName, LastName: m.lastName, Email: m.email, Role: m.role, Removed: m.removed})
	}
	return members
}

// LaunchDarklyRoles lists the custom roles.
func (s *Sandbox) LaunchDarklyRoles() []LaunchDarklyRole { return slices.Clone(s.launchDarkly.roles) }

// AddLaunchDarklyToken adds a hand-made token and returns it whole. Empty ID,
// MemberID, DefaultAPIVersion and CreatedAt are filled in; without any role it is
// a reader. An unknown MemberID makes a member.
func (s *Sandbox) AddLaunchDarklyToken(in LaunchDarklyToken) (LaunchDarklyToken, error) {
	l := s.launchDarkly
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.env.now()
	if in.CreatedAt.IsZero() {
		in.CreatedAt = toTime(now)
	}
	if in.LastModified.IsZero() {
		in.LastModified = in.CreatedAt
	}
	setDefault(&in.ID, objectID(l.ids, toMillis(in.CreatedAt)))
	setDefault(&in.DefaultAPIVersion, newestVersion)
	setDefault(&in.MemberID, l.members[0].id)
	if in.Role == "" && len(in.CustomRoleIDs) == 0 && len(in.InlineRole) == 0 {
		in.Role = "reader"
	}
	if l.byID[in.ID] != nil {
		return LaunchDarklyToken{}, fmt.Errorf("sandbox: launchdarkly token %q exists already", in.ID)
	}
	t := &ldToken{id: in.ID, service: in.ServiceToken}
	l.fill(t, in)
	l.insert(t)
	l.note(TokenMade, t, 0)
	return l.export(t), nil
}

// fill takes over everything but id, kind, secret and credential.
func (l *launchDarkly) fill(t *ldToken, in LaunchDarklyToken) {
	m := l.memberOf[in.MemberID]
	if m == nil {
		m = &ldMember{id: in.MemberID, firstName: in.MemberName, email: in.MemberEmail, role: "reader"}
		l.members = append(l.members, m)
		l.memberOf[m.id] = m
	}
	t.member, t.name, t.description, t.role, t.version = m, in.Name, in.Description, in.Role, in.DefaultAPIVersion
	t.customRoles, t.inlineRole = slices.Clone(in.CustomRoleIDs), slices.Clone(in.InlineRole)
	t.created, t.modified, t.used = toMillis(in.CreatedAt), toMillis(in.LastModified), toMillis(in.LastUsed)
}

// UpdateLaunchDarklyToken changes a token behind every client's back: everything
// but id, ServiceToken and secret. change must not call the sandbox.
func (s *Sandbox) UpdateLaunchDarklyToken(id string, change func(*LaunchDarklyToken)) error {
	l := s.launchDarkly
	l.mu.Lock()
	defer l.mu.Unlock()
	t := l.byID[id]
	if t == nil {
		return fmt.Errorf("sandbox: no launchdarkly token %q", id)
	}
	in := l.export(t)
	change(&in)
	l.fill(t, in)
	l.note(TokenUpdated, t, 0)
	return nil
}

// UpdateLaunchDarklyMember changes a member: everything but the id. The personal
// tokens of a removed member stop working.
func (s *Sandbox) UpdateLaunchDarklyMember(id string, change func(*LaunchDarklyMember)) error {
	l := s.launchDarkly
	l.mu.Lock()
	defer l.mu.Unlock()
	m := l.memberOf[id]
	if m == nil {
		return fmt.Errorf("sandbox: no launchdarkly member %q", id)
	}
	in := LaunchDarklyMember{ID: m.id, FirstName: m.firstName, LastName: m.lastName, Email: m.email, Role: m.role, Removed: m.removed}
	change(&in)
	m.firstName, m.lastName, m.email, m.role, m.removed = in.FirstName, in.LastName, in.Email, in.Role, in.Removed
	return nil
}

// DeleteLaunchDarklyToken deletes a token; false when there is none with that id.
func (s *Sandbox) DeleteLaunchDarklyToken(id string) bool {
	l := s.launchDarkly
	l.mu.Lock()
	defer l.mu.Unlock()
	t := l.byID[id]
	if t != nil {
		l.note(TokenDeleted, t, 0)
		l.remove(t)
	}
	return t != nil
}
