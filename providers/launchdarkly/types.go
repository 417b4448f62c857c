package launchdarkly

import (
	"encoding/json"
	"time"

	"github.com/tokenreeve/tokenreeve/internal/secret"
)

// record is an access token as LaunchDarkly writes it (documented). Members that
// nothing here needs are not decoded. Dates are epoch milliseconds.
type record struct {
	ID           string `json:"_id"`
	MemberID     string `json:"memberId"` // who made the token
	Member       member `json:"_member"`
	Name         string `json:"name"`
	Description  string `json:"description"`
	CreationDate int64  `json:"creationDate"`
	LastModified int64  `json:"lastModified"`
	LastUsed     int64  `json:"lastUsed"` // 0: never (assumed)
	// Role is an open list; it is absent where custom or inline roles are used (assumed).
	Role          string          `json:"role"`
	CustomRoleIDs []string        `json:"customRoleIds"`
	InlineRole    json.RawMessage `json:"inlineRole"` // a list of statements
	// Token is the whole secret after create and reset, else its last four characters.
	Token             secret.Secret `json:"token"`
	ServiceToken      bool          `json:"serviceToken"`
	DefaultAPIVersion int           `json:"defaultApiVersion"`
}

type member struct {
	ID        string `json:"_id"`
	FirstName string `json:"firstName"`
	LastName  string `json:"lastName"`
	Email     string `json:"email"`
}

// collection is one page of the list.
type collection struct {
	Items []record `json:"items"`
	// TotalCount is described as the number of tokens in the answer, and used as the
	// grand total by public code; see page.
	TotalCount *int `json:"totalCount"`
	Links      *struct {
		Next *struct {
			Href string `json:"href"`
		} `json:"next"`
	} `json:"_links"`
	date time.Time // the vendor's clock; zero where it did not tell
}

func (c *collection) hasNext() bool {
	return c.Links != nil && c.Links.Next != nil && c.Links.Next.Href != ""
}

// caller is the answer of caller-identity; its members vary with the kind of credential.
type caller struct {
	AccountID string `json:"accountId"`
	TokenID   string `json:"tokenId"`
}

// minted is a record with its whole secret, which is shown once. Id and secret
// are decoded each by itself, so that a surprise elsewhere in the record cannot
// lose them; what is missing, check tells.
type minted struct {
	id     string
	secret secret.Secret
	record record
}

func (m *minted) UnmarshalJSON(data []byte) error {
	var id struct {
		ID string `json:"_id"`
	}
	var token struct {
		Token secret.Secret `json:"token"`
	}
	_, _, _ = json.Unmarshal(data, &id), json.Unmarshal(data, &token), json.Unmarshal(data, &m.record) // as far as it goes
	m.id, m.secret, m.record.ID = id.ID, token.Token, id.ID
	return nil
}

// creation is the body of a create call.
type creation struct {
	Name              string      `json:"name"`
	Description       string      `json:"description,omitempty"`
	Role              string      `json:"role,omitempty"`
	CustomRoleIDs     []string    `json:"customRoleIds,omitempty"`
	InlineRole        []Statement `json:"inlineRole,omitempty"`
	ServiceToken      bool        `json:"serviceToken"`
	DefaultAPIVersion int         `json:"defaultApiVersion,omitempty"`
}

// current is a record together with the members that a patch can change, as they
// stand in the vendor's JSON.
type current struct {
	record  record
	members members
}

func (c *current) UnmarshalJSON(data []byte) error {
	if err := json.Unmarshal(data, &c.record); err != nil {
		return err
	}
	if err := json.Unmarshal(data, &c.members); err != nil {
		return err
	}
	m := &c.members
	for _, raw := range [...]*json.RawMessage{&m.Name, &m.Description, &m.Role, &m.CustomRoleIDs, &m.InlineRole} {
		if string(*raw) == "null" {
			*raw = nil
		}
	}
	return nil
}

// members holds the five members of a record that a patch can change; absent and
// null ones are empty.
type members struct {
	Name          json.RawMessage `json:"name,omitempty"`
	Description   json.RawMessage `json:"description,omitempty"`
	Role          json.RawMessage `json:"role,omitempty"`
	CustomRoleIDs json.RawMessage `json:"customRoleIds,omitempty"`
	InlineRole    json.RawMessage `json:"inlineRole,omitempty"`
}
