package atlassian

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/tokenreeve/tokenreeve/internal/sanitize"
	"github.com/tokenreeve/tokenreeve/providers"
)

const (
	maxScopes    = 20  // shown of one token
	maxAccessKey = 200 // bytes that are kept as they are
)

// fromUsers maps a record of user management. It tells neither status nor scopes;
// the account is the one that was asked for.
func (p *Provider) fromUsers(account string, r *userToken) providers.Token {
	t := providers.Token{
		ID:      cleanID(r.ID, checkToken),
		Owner:   providers.Owner{ID: account},
		Kind:    providers.KindUser,
		Status:  providers.StatusUnknown,
		Access:  providers.AccessUnknown,
		Created: parseDate(r.CreatedAt),
		// An absent expiry says nothing: older editions of the API leave it out.
		Expires: parseDate(r.Expiry),
		// An absent last access says never: that is documented.
		LastUsed: providers.Never(),
	}
	if r.LastAccess != nil {
		t.LastUsed = parseDate(*r.LastAccess)
	}
	t.Name, t.NameAltered, t.NameKey = cleanName(r.Label)
	if p.isPast(t.Expires) {
		t.Status = providers.StatusExpired
	}
	return t
}

// fromAccess maps a record of API Access. Its reference does not say what an
// absent date means, unknown or never. It becomes unknown: a token wrongly taken
// for "never used" would be revoked wrongly.
func (p *Provider) fromAccess(kind providers.Kind, r *accessToken) providers.Token {
	t := providers.Token{
		ID:        cleanID(r.ID, checkToken),
		Kind:      kind,
		Status:    p.status(r),
		Access:    providers.AccessUnknown, // a token without scopes may do all that its owner may
		Created:   parseDate(r.CreatedAt),
		LastUsed:  parseDate(r.LastActiveAt),
		Expires:   parseDate(r.ExpiresAt),
		AccessKey: accessKey(r.Scopes),
	}
	if len(r.Scopes) > 0 {
		t.Access = providers.AccessCustom
	}
	var altered [3]bool
	t.Name, t.NameAltered, t.NameKey = cleanName(r.Label)
	t.Owner.Name, altered[0] = sanitize.Name(r.User.Name)
	t.Owner.Email, altered[1] = sanitize.Name(r.User.Email)
	t.Detail.Scopes, altered[2] = cleanScopes(r.Scopes)
	t.TextAltered = slices.Contains(altered[:], true)
	if r.User.ID != "" {
		t.Owner.ID = cleanID(r.User.ID, func(id string) error { return checkAccount(providers.PartOwner, id) })
	}
	return t
}

// status says that an expired token is expired, also where it was blocked before.
// The list of the vendor's words is open.
func (p *Provider) status(r *accessToken) providers.Status {
	switch {
	case p.isPast(parseDate(r.ExpiresAt)):
		return providers.StatusExpired
	case r.Status == statusAllowed:
		return providers.StatusActive
	case r.Status == statusBlocked:
		return providers.StatusBlocked
	default:
		return providers.StatusUnknown
	}
}

// The vendor's words for a token's status, seen in records.
const (
	statusAllowed = "ALLOWED"
	statusBlocked = "BLOCKED"
)

func (p *Provider) isPast(end providers.Date) bool {
	at, ok := end.Time()
	return ok && !at.After(p.now())
}

// userTokens yields all tokens of one user.
func (p *Provider) userTokens(records iter.Seq2[*userToken, error], account string) iter.Seq2[providers.Token, error] {
	return mapped(records, func(r *userToken) providers.Token { return p.fromUsers(account, r) })
}

// serviceTokens yields tokens of service accounts.
func (p *Provider) serviceTokens(records iter.Seq2[*accessToken, error]) iter.Seq2[providers.Token, error] {
	return mapped(records, func(r *accessToken) providers.Token { return p.fromAccess(providers.KindService, r) })
}

func mapped[R any](records iter.Seq2[*R, error], toToken func(*R) providers.Token) iter.Seq2[providers.Token, error] {
	return func(yield func(providers.Token, error) bool) {
		for record, err := range records {
			if err != nil {
				yield(providers.Token{}, err)
				return
			}
			if !yield(toToken(record), nil) {
				return
			}
		}
	}
}

// cleanID returns an id that passes check as it is. Any other shows in listings,
// and never passes check, so that nothing can be done to it; one that cleaning would
// change into another id, or that could be a sentence, is shown by its hash.
func cleanID(id string, check func(string) error) string {
	if check(id) == nil {
		return id
	}
	clean, altered := sanitize.Name(id)
	if altered || clean == "" || strings.Contains(clean, " ") {
		return "invalid id " + digest(id)[:16]
	}
	return clean
}

// cleanName returns the name, whether cleaning changed it, and then what tells it
// from other names that look alike once cleaned.
func cleanName(label string) (name string, altered bool, key string) {
	name, altered = sanitize.Name(label)
	if altered {
		key = digest(label)
	}
	return name, altered, key
}

// accessKey is the set of scopes, whatever their order; its hash where it is long.
func accessKey(s scopes) string {
	sorted := slices.Compact(slices.Sorted(slices.Values(s)))
	text, err := json.Marshal(sorted)
	if err != nil || len(sorted) == 0 {
		return "no scopes" // strings can always be marshalled
	}
	if len(text) > maxAccessKey {
		return digest(string(text))
	}
	return string(text)
}

// cleanScopes returns the scopes for people, and whether cleaning changed one.
func cleanScopes(s scopes) (shown []string, altered bool) {
	if len(s) == 0 {
		return nil, false
	}
	shown = make([]string, 0, min(len(s), maxScopes+1))
	for _, scope := range s[:min(len(s), maxScopes)] {
		clean, changed := sanitize.Name(scope)
		shown, altered = append(shown, cmp.Or(clean, "(empty)")), altered || changed
	}
	if more := len(s) - maxScopes; more > 0 {
		shown = append(shown, fmt.Sprintf("… and %d more", more))
	}
	return shown, altered
}

func digest(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}

// parseDate returns the date in s, unknown where there is none.
func parseDate(s string) providers.Date {
	at, ok := parseTime(s)
	if !ok {
		return providers.Date{}
	}
	return providers.At(at)
}

// parseTime reads ISO 8601 with or without fractions and seconds, and an offset
// with or without colon.
func parseTime(s string) (time.Time, bool) {
	for _, layout := range [...]string{time.RFC3339, "2006-01-02T15:04Z07:00", "2006-01-02T15:04:05Z0700"} {
		if at, err := time.Parse(layout, s); err == nil {
			return at, true
		}
	}
	return time.Time{}, false
}
