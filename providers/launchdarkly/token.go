package launchdarkly

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tokenreeve/tokenreeve/internal/sanitize"
	"github.com/tokenreeve/tokenreeve/internal/secret"
	"github.com/tokenreeve/tokenreeve/providers"
)

// maxScopes is how many scopes a token shows, and maxKey how long, in bytes, an
// access key may be before its digest stands for it.
const (
	maxScopes = 20
	maxKey    = 96
)

// toToken maps a record. Its id must have been checked.
func (r *record) toToken() providers.Token {
	clean, altered := sanitize.Name(r.Name)
	owner, isOwnerAltered := r.owner()
	description := sanitize.Message(r.Description)
	scopes, isScopeAltered := r.scopes()
	t := providers.Token{
		ID: r.ID, Name: clean, NameAltered: altered,
		TextAltered: isOwnerAltered || isScopeAltered || description != r.Description,

		Owner:  owner,
		Kind:   providers.KindUser,
		Status: providers.StatusActive, // there is no other: a token lives until it is deleted
		Access: r.access(), AccessKey: r.accessKey(),
		Created: moment(r.CreationDate), LastUsed: lastUse(r.LastUsed), Expires: providers.Never(),
		LastFour: lastFour(r.Token),
		Detail: providers.Detail{
			Description: description,
			Scopes:      scopes,
			APIVersion:  r.DefaultAPIVersion,
			Modified:    moment(r.LastModified),
		},
	}
	if r.ServiceToken {
		t.Kind = providers.KindService
	}
	if altered {
		t.NameKey = digest(r.Name)
	}
	return t
}

// owner is the member who made the token, and whether cleaning changed a text of
// it. ownerId is no person: it stands for the account (reading assumed).
func (r *record) owner() (o providers.Owner, altered bool) {
	switch {
	case isID(r.MemberID):
		o.ID = r.MemberID
	case isID(r.Member.ID):
		o.ID = r.Member.ID
	}
	var isNameAltered, isEmailAltered bool
	o.Name, isNameAltered = sanitize.Name(strings.TrimSpace(r.Member.FirstName + " " + r.Member.LastName))
	o.Email, isEmailAltered = sanitize.Name(r.Member.Email)
	return o, isNameAltered || isEmailAltered
}

// maxMilli is the last moment of the year 9999, which RFC 3339 can still write.
const maxMilli = 253402300799999

// moment reads epoch milliseconds; what is no sensible date is unknown.
func moment(milli int64) providers.Date {
	if milli <= 0 || milli > maxMilli {
		return providers.Date{}
	}
	return providers.At(time.UnixMilli(milli))
}

// lastUse is moment, but 0 and an absent member mean that the token was never
// used (assumed from the vendor's sample).
func lastUse(milli int64) providers.Date {
	if milli == 0 {
		return providers.Never()
	}
	return moment(milli)
}

// lastFour reads the token member of a record: four characters, or the whole
// secret after create and reset.
func lastFour(s secret.Secret) string {
	value := s.Expose()
	if len(value) != 4 {
		value = s.LastFour()
	}
	for _, b := range []byte(value) {
		if b <= ' ' || b > '~' {
			return ""
		}
	}
	if _, altered := sanitize.Name(value); altered {
		return ""
	}
	return value
}

// access is the base role in our words. Custom and inline roles win over a base
// role beside them, but for an admin's.
func (r *record) access() providers.Access {
	base := roleAccess(r.Role)
	if base != providers.AccessAdmin && (len(r.CustomRoleIDs) > 0 || holds(r.InlineRole)) {
		return providers.AccessCustom
	}
	return base
}

// roleAccess reads a base role; the vendor's list is open.
func roleAccess(role string) providers.Access {
	switch role {
	case "owner", "admin":
		return providers.AccessAdmin
	case "writer":
		return providers.AccessWrite
	case "reader":
		return providers.AccessRead
	default:
		return providers.AccessUnknown
	}
}

// holds reports whether a member of a record is there and not empty.
func holds(raw json.RawMessage) bool {
	text := bytes.TrimSpace(raw)
	if len(text) >= 2 && (text[0] == '[' || text[0] == '{') {
		return len(bytes.TrimSpace(text[1:len(text)-1])) > 0
	}
	return len(text) > 0 && string(text) != "null" && string(text) != `""`
}

// accessKey changes whenever what the token may do changes. The order of custom
// roles means nothing; that of statements is kept.
func (r *record) accessKey() string {
	inline := holds(r.InlineRole)
	if len(r.CustomRoleIDs) == 0 && !inline && len(r.Role) <= maxKey {
		return "role:" + r.Role
	}
	var policy any
	if inline {
		policy = canonical(r.InlineRole)
	}
	raw, err := json.Marshal([]any{r.Role, slices.Sorted(slices.Values(r.CustomRoleIDs)), policy})
	if err != nil || len(raw) > maxKey {
		return "sha256:" + digest(string(raw))
	}
	return string(raw)
}

// canonical decodes JSON so that spacing and the order of members do not count.
func canonical(raw json.RawMessage) any {
	var value any
	if json.Unmarshal(raw, &value) != nil {
		return string(raw)
	}
	return value
}

func digest(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}

// scopes names role, custom roles and statements for people, cleaned and bounded,
// and tells whether cleaning changed one.
func (r *record) scopes() (all []string, altered bool) {
	if r.Role != "" {
		all = append(all, "role:"+word(r.Role))
	}
	for _, id := range r.CustomRoleIDs {
		all = append(all, "custom_role:"+word(id))
	}
	if holds(r.InlineRole) {
		all = append(all, renderPolicy(r.InlineRole)...)
	}
	more := len(all) - maxScopes
	all = all[:min(len(all), maxScopes)]
	for i := range all {
		var changed bool
		all[i], changed = sanitize.Name(all[i])
		altered = altered || changed
	}
	if more > 0 {
		all = append(all, fmt.Sprintf("… and %d more", more))
	}
	return all, altered
}

func renderPolicy(raw json.RawMessage) []string {
	var statements []Statement
	if json.Unmarshal(raw, &statements) != nil {
		return []string{"an inline role of unknown shape"}
	}
	rendered := make([]string, len(statements))
	for i, s := range statements {
		rendered[i] = s.String()
	}
	return rendered
}
