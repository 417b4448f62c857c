// Package policy decides what may be done to which token of a connection. It
// only narrows: what a role or a caller's argument does not allow stays so.
package policy

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tokenreeve/tokenreeve/internal/sanitize"
	"github.com/tokenreeve/tokenreeve/providers"
)

// Class is what kind of thing a tool does. Annotations, the read-only filter,
// the role and the confirm gate all follow from it.
type Class string

// The classes, from harmless to far-reaching.
const (
	Read   Class = "read"
	Mint   Class = "mint"
	Update Class = "update"
	Rotate Class = "rotate"
	Revoke Class = "revoke"
	Bulk   Class = "bulk"
)

// Classes returns all classes.
func Classes() []Class { return []Class{Read, Mint, Update, Rotate, Revoke, Bulk} }

// MaxTargets is the most that one preview may hold.
const MaxTargets = 100

// The revocations of one principal within an hour: where nothing is set, and at most.
const (
	DefaultRevocations = 50
	MaxRevocations     = 10_000
)

// Policy is one connection's. The zero value allows all but new admin access.
type Policy struct {
	Connection         string
	Allow              []Class // nil: all
	Protect            Protect
	MaxTargets         int // per preview; 0: MaxTargets
	RevocationsPerHour int // of one principal; 0: DefaultRevocations
	Mint               MintRules
	InUse              time.Duration // a token used within it counts as in use; 0: none does
}

// Protect names tokens that nothing changes.
type Protect struct {
	IDs    []string // token ids
	Owners []string // account ids, member ids or e-mail addresses
	Names  []string // patterns: * stands for any text, letters match in any case
	Kinds  []string // user, service, unknown
}

// Allows reports whether the connection's policy allows the class.
func (p Policy) Allows(class Class) bool { return p.Allow == nil || slices.Contains(p.Allow, class) }

// Targets returns how many targets one preview may hold.
func (p Policy) Targets() int {
	if p.MaxTargets <= 0 {
		return MaxTargets
	}
	return min(p.MaxTargets, MaxTargets)
}

// Revocations returns how many tokens one principal may revoke within an hour.
func (p Policy) Revocations() int {
	if p.RevocationsPerHour <= 0 {
		return DefaultRevocations
	}
	return min(p.RevocationsPerHour, MaxRevocations)
}

// Protects returns the rule that protects t and where it is set, or "".
func (p Policy) Protects(t *providers.Token) string {
	place := func(list, value string) string {
		return fmt.Sprintf("connections.%s.protect.%s has %q", p.Connection, list, value)
	}
	for _, id := range p.Protect.IDs {
		if id == t.ID {
			return place("ids", id)
		}
	}
	for _, owner := range p.Protect.Owners {
		if owner == t.Owner.ID || strings.EqualFold(cleaned(owner), t.Owner.Email) {
			return place("owners", owner)
		}
	}
	for _, pattern := range p.Protect.Names {
		if matchName(cleaned(pattern), t.Name) {
			return place("names", pattern)
		}
		if isPart(t) {
			return place("names", pattern) + ", and the name holds more than is shown, so it may match"
		}
	}
	for _, kind := range p.Protect.Kinds {
		if kind == string(cmp.Or(t.Kind, providers.KindUnknown)) {
			return place("kinds", kind)
		}
	}
	return ""
}

// cleaned returns a setting as the texts of tokens are: what they lost can match nothing.
func cleaned(setting string) string {
	clean, _ := sanitize.Name(setting)
	return clean
}

// isPart reports whether the name is not all of the token's name: it was cut, or something in it was
// masked.
func isPart(t *providers.Token) bool {
	return t.NameAltered && (strings.HasSuffix(t.Name, "…") || strings.Contains(t.Name, "[redacted]"))
}

// ProtectsAny reports whether the policy protects anything at all.
func (p Policy) ProtectsAny() bool {
	return len(p.Protect.IDs)+len(p.Protect.Owners)+len(p.Protect.Names)+len(p.Protect.Kinds) > 0
}

// ProtectsByEmail reports whether an owner is protected by e-mail address.
func (p Policy) ProtectsByEmail() bool {
	return slices.ContainsFunc(p.Protect.Owners, func(owner string) bool { return strings.Contains(owner, "@") })
}

// NeedsInUse returns why t counts as in use and where that is set, or "". A last
// use that nobody tells counts, since the token may well be in use.
func (p Policy) NeedsInUse(t *providers.Token, now time.Time) string {
	if p.InUse <= 0 || t.LastUsed.IsNever() {
		return ""
	}
	rule := fmt.Sprintf("connections.%s.in_use is %s, and ", p.Connection, age(p.InUse))
	used, known := t.LastUsed.Time()
	switch {
	case !known:
		return rule + "nobody tells when the token was last used"
	case used.Before(now.Add(-p.InUse)):
		return ""
	default:
		return rule + "the token was last used " + t.LastUsed.String()
	}
}

// matchName matches * against any text, also none. Everything else is literal.
func matchName(pattern, name string) bool {
	parts := strings.Split(strings.ToLower(pattern), "*")
	rest := strings.ToLower(name)
	for i, part := range parts {
		switch {
		case i == 0:
			var ok bool
			if rest, ok = strings.CutPrefix(rest, part); !ok {
				return false
			}
		case i == len(parts)-1:
			return strings.HasSuffix(rest, part)
		default:
			at := strings.Index(rest, part)
			if at < 0 {
				return false
			}
			rest = rest[at+len(part):]
		}
	}
	return rest == ""
}

// age writes a duration as people set it: 90d, 24h.
func age(d time.Duration) string {
	const day = 24 * time.Hour
	switch {
	case d > day && d%day == 0:
		return fmt.Sprintf("%dd", d/day)
	case d%time.Hour == 0:
		return fmt.Sprintf("%dh", d/time.Hour)
	default:
		return d.String()
	}
}
