package launchdarkly

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/tokenreeve/tokenreeve/internal/sanitize"
	"github.com/tokenreeve/tokenreeve/providers"
)

// TokenSpec is a token to be made. Exactly one of Role, CustomRoles and
// InlineRole says what it may do.
type TokenSpec struct {
	Name        string // required: it is how a token is found again after a lost answer
	Description string
	Role        string      // reader, writer or admin
	CustomRoles []string    // ids of custom roles; keys are taken as well
	InlineRole  []Statement // a policy written in place
	// ServiceToken makes a service token, which lives on when its member leaves; else
	// the token is personal. It cannot be changed later.
	ServiceToken bool
	// DefaultAPIVersion is the API version that the token's calls get when they name
	// none: 20240415, 20191212 or 20160426; 0 leaves it to the vendor, which takes the
	// newest. It cannot be changed later.
	DefaultAPIVersion int
}

// The bounds of texts in runes, and of role keys; the vendor publishes none.
const (
	maxText        = 1000
	maxCustomRoles = 100
	maxRoleKey     = 256
)

// Check reports what is wrong with the spec, as an Error with CodeInvalidArgument.
func (s TokenSpec) Check() error {
	if err := checkName(s.Name); err != nil {
		return err
	}
	if err := checkDescription(s.Description); err != nil {
		return err
	}
	if err := exactlyOne(s.Role != "", len(s.CustomRoles) > 0, len(s.InlineRole) > 0); err != nil {
		return err
	}
	switch s.DefaultAPIVersion {
	case 0, 20240415, 20191212, 20160426:
	default:
		return invalid("default_api_version %d is not known; valid are 20240415 (the newest), 20191212 and 20160426", s.DefaultAPIVersion)
	}
	switch {
	case s.Role != "":
		return checkRole(s.Role)
	case len(s.CustomRoles) > 0:
		return checkCustomRoles(s.CustomRoles, isRoleKey, "an id (24 hex digits) or a key (letters, digits, '.', '_' and '-')")
	default:
		return checkStatements("inline_role", s.InlineRole)
	}
}

// Access is what the token will be able to do, roughly.
func (s TokenSpec) Access() providers.Access {
	if len(s.CustomRoles) > 0 || len(s.InlineRole) > 0 {
		return providers.AccessCustom
	}
	return roleAccess(s.Role)
}

// Scopes names role, custom roles and statements for people, cleaned and bounded.
func (s TokenSpec) Scopes() string {
	r := record{Role: s.Role, CustomRoleIDs: s.CustomRoles}
	if len(s.InlineRole) > 0 {
		r.InlineRole, _ = json.Marshal(s.InlineRole) // strings only: cannot fail
	}
	scopes, _ := r.scopes()
	return joined(scopes)
}

// IsElevated reports whether the access is more than a reader's or writer's, or
// cannot be told from the spec: an admin's, custom roles, or an inline role.
func (s TokenSpec) IsElevated() bool {
	access := s.Access()
	return access != providers.AccessRead && access != providers.AccessWrite
}

// Grant names what the token would be given: "read", "write" or "admin" for a base
// role, "custom" for custom roles, "inline" for an inline role. What cannot be told
// is "admin".
func (s TokenSpec) Grant() string {
	return grantOf(s.Role, len(s.CustomRoles) > 0, len(s.InlineRole) > 0)
}

// grantOf names an access of exactly one kind; any other cannot be told.
func grantOf(role string, custom, inline bool) string {
	switch {
	case role == "" && custom && !inline:
		return "custom"
	case role == "" && inline && !custom:
		return "inline"
	case role == "reader" && !custom && !inline:
		return "read"
	case role == "writer" && !custom && !inline:
		return "write"
	default:
		return "admin"
	}
}

// Create makes a token. It repeats nothing that the vendor may have carried out:
// after a lost answer it looks for the token, and the error has CodeOutcomeUnknown
// and says in Lost what it found.
func (p *Provider) Create(ctx context.Context, spec TokenSpec) (providers.Minted, error) {
	if err := spec.Check(); err != nil {
		return providers.Minted{}, err
	}
	sent := p.sending()
	m, err := p.wire.create(ctx, creation{
		Name: spec.Name, Description: spec.Description,
		Role: spec.Role, CustomRoleIDs: spec.CustomRoles, InlineRole: spec.InlineRole,
		ServiceToken: spec.ServiceToken, DefaultAPIVersion: spec.DefaultAPIVersion,
	})
	if err == nil {
		err = m.check("a token was made")
	}
	if err != nil {
		return providers.Minted{}, p.lostCreation(ctx, spec, sent, &m, err)
	}
	p.made.add(m.id)
	return providers.Minted{Token: m.record.toToken(), Secret: m.secret}, nil
}

// minSecret is the least length of a whole secret, in bytes. Shorter texts are
// what the vendor shows of it afterwards; a real one has 40 (seen in public code).
const minSecret = 16

// check reports what is missing in the answer of a call that gives a secret.
func (m *minted) check(done string) error {
	var missing []string
	if !isID(m.id) {
		missing = append(missing, "the token's id (_id)")
	}
	if len(m.secret.Expose()) < minSecret {
		missing = append(missing, "the whole secret (token)")
	}
	if missing == nil {
		return nil
	}
	e := failure(providers.CodeOutcomeUnknown, "%s, but the answer does not hold %s", done, strings.Join(missing, " nor "))
	if isID(m.id) {
		e.Message += "; its id is " + m.id
	}
	return e
}

func checkName(name string) error {
	if strings.TrimSpace(name) == "" {
		return invalid("name is empty; a token needs a name by which people find it")
	}
	if utf8.RuneCountInString(name) > maxText {
		return invalid("name is longer than %d characters", maxText)
	}
	if _, altered := sanitize.Text(name, maxText); altered {
		return invalid("name %q holds characters that are not shown, or spaces at its ends or in a row", quotable(name))
	}
	return nil
}

func checkDescription(description string) error {
	if utf8.RuneCountInString(description) > maxText || !utf8.ValidString(description) {
		return invalid("description is longer than %d characters or not UTF-8", maxText)
	}
	return nil
}

// exactlyOne reports a choice of none or several kinds of permission. What the
// vendor says to that is not documented, so it is never sent.
func exactlyOne(role, customRoles, inlineRole bool) error {
	chosen := 0
	for _, is := range [...]bool{role, customRoles, inlineRole} {
		if is {
			chosen++
		}
	}
	if chosen == 1 {
		return nil
	}
	return invalid("%d of role, custom_roles and inline_role are set; set exactly one", chosen)
}

func checkRole(role string) error {
	if slices.Contains([]string{"reader", "writer", "admin"}, role) {
		return nil
	}
	return invalid("role is %q; valid are reader, writer and admin", quotable(role))
}

func checkCustomRoles(roles []string, is func(string) bool, valid string) error {
	if len(roles) == 0 || len(roles) > maxCustomRoles {
		return invalid("custom_roles holds %d roles; valid is 1 to %d", len(roles), maxCustomRoles)
	}
	for _, role := range roles {
		if !is(role) {
			return invalid("custom_roles holds %q; valid is %s", quotable(role), valid)
		}
	}
	return nil
}

// isRoleKey reports whether s can be the key of a custom role (assumed to be made
// like the vendor's other keys); every id is one as well.
func isRoleKey(s string) bool {
	if s == "" || len(s) > maxRoleKey {
		return false
	}
	for i := range len(s) {
		c := s[i]
		isAlnum := c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		if !isAlnum && (i == 0 || !strings.ContainsRune("._-", rune(c))) {
			return false
		}
	}
	return true
}
