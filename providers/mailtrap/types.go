package mailtrap

import (
	"encoding/json"
	"strconv"
	"time"

	"github.com/tokenreeve/tokenreeve/internal/sanitize"
	"github.com/tokenreeve/tokenreeve/internal/secret"
	"github.com/tokenreeve/tokenreeve/providers"
)

// record is a token in an answer. Each member takes any JSON value: an unexpected
// one in a lesser member must not break a listing, and above all not cost the
// secret of a token that was just made.
type record struct {
	ID        text      `json:"id"`
	Name      text      `json:"name"`
	LastFour  text      `json:"last_4_digits"`
	CreatedBy text      `json:"created_by"` // name of a person or of a token
	Expires   end       `json:"expires_at"`
	Resources resources `json:"resources"`
}

// minted is the answer to create and reset: the only ones that hold a secret.
type minted struct {
	record
	Secret secret.Secret `json:"token"`
}

// check returns an error where id or secret is missing: then a token may exist
// whose secret nobody has.
func (m *minted) check() error {
	e := &providers.Error{Provider: providerName, Code: providers.CodeOutcomeUnknown, Status: 200}
	switch {
	case m.Secret.IsZero() && checkTokenID(string(m.ID)) == nil:
		e.Message = "the change was accepted and token " + string(m.ID) + " made, but the answer holds no secret"
	case m.Secret.IsZero():
		e.Message = "the change was accepted, but the answer holds no secret"
	case checkTokenID(string(m.ID)) != nil:
		e.Message = "the change was accepted, but the answer holds no valid id"
	default:
		return nil
	}
	return e
}

// node is one resource in the tree of those that permissions can be given on.
type node struct {
	ID        text    `json:"id"`
	Name      text    `json:"name"`
	Type      text    `json:"type"`
	Level     text    `json:"access_level"`
	Resources []*node `json:"resources"`
}

// text is a JSON string or number as text; null is "". Any other value keeps its
// JSON text, which no check of ids, words or levels accepts.
type text string

// UnmarshalJSON takes any JSON value.
func (t *text) UnmarshalJSON(data []byte) error {
	switch {
	case string(data) == "null":
		*t = ""
	case len(data) > 0 && data[0] == '"':
		return json.Unmarshal(data, (*string)(t))
	case len(data) > 0 && (data[0] == '{' || data[0] == '['):
		*t = text(sanitize.JSON(data))
	default:
		*t = text(data)
	}
	return nil
}

// end is a token's end of life: null means never, an absent or unreadable value
// is unknown.
type end struct{ date providers.Date }

// UnmarshalJSON takes any JSON value.
func (e *end) UnmarshalJSON(data []byte) error {
	if string(data) == "null" {
		e.date = providers.Never()
		return nil
	}
	e.date = providers.Date{}
	var value string
	if json.Unmarshal(data, &value) == nil {
		e.date = parseDate(value)
	}
	return nil
}

// parseDate reads an ISO 8601 date. Its form was not recorded: offsets and "Z",
// with or without fractions, are read; a time without zone is taken as UTC (assumed).
func parseDate(value string) providers.Date {
	for _, layout := range [...]string{time.RFC3339, "2006-01-02T15:04:05Z0700", "2006-01-02T15:04:05", time.DateOnly} {
		if at, err := time.Parse(layout, value); err == nil {
			return providers.At(at)
		}
	}
	return providers.Date{}
}

// resources are the permissions of a token.
type resources struct {
	list       []permission
	unreadable string // the JSON where it is no list of permissions
}

type permission struct {
	Type  text `json:"resource_type"`
	ID    text `json:"resource_id"`
	Level text `json:"access_level"`
}

// UnmarshalJSON takes any JSON value.
func (r *resources) UnmarshalJSON(data []byte) error {
	*r = resources{}
	if json.Unmarshal(data, &r.list) != nil {
		*r = resources{unreadable: string(data)}
	}
	return nil
}

// newToken is the body of create.
type newToken struct {
	Name      string  `json:"name"`
	Resources []grant `json:"resources"`
	Expires   expiry  `json:"expires_at,omitzero"`
}

type grant struct {
	Type  string     `json:"resource_type"`
	ID    resourceID `json:"resource_id"`
	Level int        `json:"access_level"`
}

// resourceID is written as a number where it is one, as in every recording, and
// else as a string, which the schema allows.
type resourceID string

// MarshalJSON writes a number or a string.
func (id resourceID) MarshalJSON() ([]byte, error) {
	if n, err := strconv.ParseInt(string(id), 10, 64); err == nil && strconv.FormatInt(n, 10) == string(id) {
		return []byte(id), nil
	}
	return json.Marshal(string(id))
}

// expiry is an end of life as it is sent: left out where unknown, null for never,
// else UTC to the second.
type expiry struct{ date providers.Date }

// IsZero reports whether the member is left out.
func (e expiry) IsZero() bool { return e.date.IsUnknown() }

// MarshalJSON writes null or a date.
func (e expiry) MarshalJSON() ([]byte, error) {
	at, ok := e.date.Time()
	if !ok {
		return []byte("null"), nil
	}
	return json.Marshal(at.UTC().Format(time.RFC3339))
}
