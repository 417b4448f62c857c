// Package providers holds the uniform model of an API token and the small
// interfaces a vendor implements for what it can do. It knows neither MCP nor
// any vendor.
package providers

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"strings"
	"time"
)

// Token is the record of an API token at a vendor. It never holds the secret.
// Every text in it came from outside and was cleaned when the vendor's JSON was
// mapped (package sanitize).
type Token struct {
	ID          string
	Name        string
	NameAltered bool // cleaning changed the name
	TextAltered bool // cleaning changed another text: of the owner, or in Detail
	Owner       Owner
	Kind        Kind
	Status      Status
	Access      Access

	Created  Date
	LastUsed Date
	Expires  Date

	// AccessKey changes whenever what the token may do changes. It is compared, with
	// [Token.SameAccess], never shown. It is the vendor's own text or a digest of it: JSON
	// keeps a digest only. Empty where the vendor does not tell.
	AccessKey string
	// NameKey tells two names apart that look alike once cleaned. Empty where
	// cleaning changed nothing. It is compared, never shown.
	NameKey string

	// LastFour is the end of the secret where the vendor shows it, else empty.
	LastFour string
	Detail   Detail
}

// SameAccess reports whether the access keys of both tokens are those of one access.
// Either token may have been read from JSON.
func (t *Token) SameAccess(o *Token) bool { return keptKey(t.AccessKey) == keptKey(o.AccessKey) }

// MarshalJSON writes a digest in the place of AccessKey: what is kept of a token must
// hold no text of a vendor's that was not cleaned.
func (t Token) MarshalJSON() ([]byte, error) {
	type plain Token
	kept := plain(t)
	kept.AccessKey = keptKey(t.AccessKey)
	return json.Marshal(kept)
}

// keptMark begins the digest of an access key.
const keptMark = "sha256:"

// keptKey returns the digest of an access key. A key of a digest's form is one already.
func keptKey(key string) string {
	if rest, ok := strings.CutPrefix(key, keptMark); key == "" || ok && len(rest) == 2*sha256.Size && strings.Trim(rest, "0123456789abcdef") == "" {
		return key
	}
	sum := sha256.Sum256([]byte(key))
	return keptMark + hex.EncodeToString(sum[:])
}

// Detail is what only full rows show.
type Detail struct {
	Description string
	CreatedBy   string   // a person's or a token's name; identifies nobody
	Scopes      []string // the vendor's scopes, roles or permissions in its own words
	APIVersion  int      // LaunchDarkly's default_api_version; 0 where there is none
	Modified    Date
}

// Owner is who a token acts for. Each part may be empty.
type Owner struct {
	ID    string // account id or member id
	Name  string
	Email string
}

// Kind says for whom a token was made.
type Kind string

// The kinds. KindUnknown is all that Mailtrap tells.
const (
	KindUser    Kind = "user"
	KindService Kind = "service"
	KindUnknown Kind = "unknown"
)

// Status says whether a token works.
type Status string

// The statuses. StatusUnknown stands where the vendor's answer does not tell
// (Atlassian's list of one user's tokens); no filter names it.
const (
	StatusActive  Status = "active"
	StatusBlocked Status = "blocked"
	StatusExpired Status = "expired"
	StatusInGrace Status = "in_grace"
	StatusUnknown Status = "unknown"
)

// Access is how much a token may do, roughly.
type Access string

// The access levels. AccessCustom stands for scopes, custom roles, policies and
// partial permissions; AccessUnknown where the vendor does not tell.
const (
	AccessAdmin   Access = "admin"
	AccessWrite   Access = "write"
	AccessRead    Access = "read"
	AccessCustom  Access = "custom"
	AccessUnknown Access = "unknown"
)

// Date is a moment, or one of two kinds of "no date": unknown (the vendor does
// not tell) and never (the vendor tells that there is none). The zero value is
// unknown.
type Date struct {
	at    time.Time
	never bool
}

// Never returns the date of what does not happen: a token without an end, or
// one that was never used.
func Never() Date { return Date{never: true} }

// At returns the date of t. A moment outside the years 0 to 9999, which no vendor
// means and RFC 3339 cannot write, is unknown.
func At(t time.Time) Date {
	t = t.UTC()
	if year := t.Year(); year < 0 || year > maxYear {
		return Date{}
	}
	return Date{at: t}
}

const maxYear = 9999

// Time returns the moment and true, or false for unknown and never.
func (d Date) Time() (time.Time, bool) { return d.at, !d.never && !d.at.IsZero() }

// IsNever reports whether the vendor told that there is no such date.
func (d Date) IsNever() bool { return d.never }

// IsUnknown reports whether the vendor does not tell.
func (d Date) IsUnknown() bool { return !d.never && d.at.IsZero() }

// Equal reports whether both are the same kind and, if moments, the same one.
func (d Date) Equal(o Date) bool { return d.never == o.never && d.at.Equal(o.at) }

// String returns "unknown", "never" or the moment in RFC 3339, UTC, to the second.
func (d Date) String() string {
	switch {
	case d.never:
		return wordNever
	case d.at.IsZero():
		return wordUnknown
	default:
		return d.at.Format(time.RFC3339)
	}
}

// The words that stand for a Date without a moment.
const (
	wordUnknown = "unknown"
	wordNever   = "never"
)

// MarshalJSON writes "unknown", "never" or the moment in RFC 3339, UTC, to the
// nanosecond.
func (d Date) MarshalJSON() ([]byte, error) {
	if at, ok := d.Time(); ok {
		return json.Marshal(at)
	}
	return json.Marshal(d.String())
}

// UnmarshalJSON reads what MarshalJSON writes.
func (d *Date) UnmarshalJSON(data []byte) error {
	var text string
	if json.Unmarshal(data, &text) != nil {
		return errDate
	}
	switch text {
	case wordUnknown:
		*d = Date{}
	case wordNever:
		*d = Never()
	default:
		var at time.Time
		if at.UnmarshalText([]byte(text)) != nil {
			return errDate
		}
		*d = At(at)
	}
	return nil
}

var errDate = errors.New(`a date is "unknown", "never" or a moment in RFC 3339`)
