package policy

import (
	"fmt"
	"slices"
	"time"

	"github.com/tokenreeve/tokenreeve/providers"
)

// Grant is an access that a new or changed token would have.
type Grant string

// The grants. GrantCustom and GrantInline are LaunchDarkly's custom and inline
// roles, GrantAccountAdmin is admin access to a whole Mailtrap account.
const (
	GrantRead         Grant = "read"
	GrantWrite        Grant = "write"
	GrantCustom       Grant = "custom"
	GrantInline       Grant = "inline"
	GrantAccountAdmin Grant = "account_admin"
	GrantAdmin        Grant = "admin"
)

// Grants returns all grants.
func Grants() []Grant {
	return []Grant{GrantRead, GrantWrite, GrantCustom, GrantInline, GrantAccountAdmin, GrantAdmin}
}

// MintRules bound what a token may be given. The zero value allows read and write
// access, for any life.
type MintRules struct {
	// Access lists what is allowed; nil stands for read and write. GrantAdmin allows
	// everything, and what is not listed by its own name counts as admin.
	Access         []Grant
	LongestLife    time.Duration // 0: no bound
	ExpiryRequired bool
}

// RefusesGrant returns the rule that forbids a token with access g and where it is
// set, or "". It judges the access that the token would have in the end, whether
// the token is created or changed.
func (p Policy) RefusesGrant(g Grant) string {
	if !slices.Contains(Grants(), g) {
		g = GrantAdmin // nobody knows what it reaches
	}
	place := fmt.Sprintf("connections.%s.mint.access", p.Connection)
	switch {
	case p.Mint.Access == nil && (g == GrantRead || g == GrantWrite):
		return ""
	case p.Mint.Access == nil:
		return fmt.Sprintf("%s is not set, and %s is not allowed by default", place, g.words())
	case slices.Contains(p.Mint.Access, g) || slices.Contains(p.Mint.Access, GrantAdmin):
		return ""
	default:
		return fmt.Sprintf("%s lacks %q", place, g)
	}
}

// words names the access, for a sentence.
func (g Grant) words() string {
	switch g {
	case GrantCustom:
		return "access by custom roles"
	case GrantInline:
		return "access by an inline role"
	case GrantAccountAdmin:
		return "account admin access"
	default:
		return "admin access"
	}
}

// RefusesLife returns the rule that forbids a token that ends at expires, where it
// is set and the latest valid moment, or "".
func (p Policy) RefusesLife(expires providers.Date, now time.Time) string {
	end := "the token would expire " + expires.String()
	at, ends := expires.Time()
	switch {
	case expires.IsNever():
		end = "the token would never expire"
	case !ends:
		end = "nobody tells when the token would expire"
	}
	latest := now.Add(p.Mint.LongestLife)
	switch {
	case p.Mint.LongestLife > 0 && (!ends || at.After(latest)):
		return fmt.Sprintf("connections.%s.mint.longest_life is %s, and %s; the latest valid moment is %s",
			p.Connection, age(p.Mint.LongestLife), end, providers.At(latest))
	case p.Mint.ExpiryRequired && !ends:
		return fmt.Sprintf("connections.%s.mint.expiry_required is true, and %s", p.Connection, end)
	default:
		return ""
	}
}
