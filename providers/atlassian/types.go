package atlassian

import (
	"encoding/json"
	"net/url"
	"strconv"
	"time"

	"github.com/tokenreeve/tokenreeve/internal/sanitize"
)

// userToken is a record of user management. The secret is never in it.
type userToken struct {
	ID        string `json:"id"`
	Label     string `json:"label"`
	CreatedAt string `json:"createdAt"`
	// LastAccess is documented to be absent from a token that was never used; null
	// is assumed to say the same.
	LastAccess *string `json:"lastAccess"`
	// Expiry is documented in newer editions of the reference only and may be absent.
	Expiry string `json:"expiry"`
}

// accessToken is a record of API Access, of a user's or a service account's
// token. Its dates are empty, null or absent when unknown or never (assumed).
type accessToken struct {
	ID           string      `json:"id"`
	Label        string      `json:"label"`
	Status       string      `json:"status"` // ALLOWED, BLOCKED; an open list
	CreatedAt    string      `json:"createdAt"`
	ExpiresAt    string      `json:"expiresAt"`
	LastActiveAt string      `json:"lastActiveAt"`
	User         accessOwner `json:"user"`
	Scopes       scopes      `json:"scopes"`
}

// accessOwner is the owner of a token. The e-mail address may be empty by the
// user's privacy settings (assumed).
type accessOwner struct {
	ID    string `json:"id"`
	Name  string `json:"name"`
	Email string `json:"email"`
}

// scopes are empty or absent for a token that may do all that its owner may
// (assumed). Where they are not the strings that the reference shows, the raw
// JSON stands for them: it breaks no listing and does not pass for "no scopes".
type scopes []string

// UnmarshalJSON decodes an array of strings, null, or anything else.
func (s *scopes) UnmarshalJSON(data []byte) error {
	var words []string
	if err := json.Unmarshal(data, &words); err != nil {
		words = []string{sanitize.JSON(data)}
	}
	*s = words
	return nil
}

// tokenPage is a page of the organization's listing.
type tokenPage struct {
	Data  *[]*accessToken `json:"data"`
	Links *pageLinks      `json:"links"`
}

// pageLinks holds the cursor of the next page: empty, null or absent at the end.
type pageLinks struct {
	Next string `json:"next"`
}

// keyPage is a page of the organization's API keys.
type keyPage struct {
	Data  []*apiKey  `json:"data"`
	Links *pageLinks `json:"links"`
}

// apiKey is a record of an organization API key. The secret is never in it.
type apiKey struct {
	ExpiresAt string `json:"expiresAt"`
	Scopes    scopes `json:"scopes"`
}

// end is the zero time where it cannot be read. Every key has one (documented).
func (k *apiKey) end() time.Time {
	at, _ := parseTime(k.ExpiresAt)
	return at
}

// serviceCounts is the answer of the service accounts' count.
type serviceCounts struct {
	Valid []struct {
		ID    string `json:"serviceAccountId"`
		Count int    `json:"credentialsCount"`
	} `json:"validServiceAccountIds"`
	Invalid []string `json:"invalidServiceAccountIds"`
}

// tokenQuery is every parameter that the organization's listing documents. The
// words of all but Q, PageSize and Cursor are uncertain.
type tokenQuery struct {
	Q            string // looked for in label, user name and e-mail address, fuzzy, any case
	Status       string // ALLOWED, BLOCKED: the words of the records, assumed
	CreatedAt    dateQuery
	LastActiveAt dateQuery
	Sort         string // a field with + or - in front; the names are not published
	PageSize     int
	Cursor       string
}

// dateQuery limits a date. The vendor requires SearchType with any other part.
type dateQuery struct {
	SearchType string // gt, lt, range (seen in clients)
	Uom        string // unit of Value; the words are not published
	Value      int    // an age, for gt and lt
	From, To   string // moments, for range; ISO 8601 in UTC, assumed
	RangeFrom  string // a relative window, for range; format not published
	RangeTo    string
}

// filters are the parameters that the listing shares with its count.
func (q tokenQuery) filters() url.Values {
	v := url.Values{}
	set(v, "q", q.Q)
	set(v, "status", q.Status)
	q.CreatedAt.addTo(v, "createdAt")
	q.LastActiveAt.addTo(v, "lastActiveAt")
	return v
}

func (q tokenQuery) values() url.Values {
	v := q.filters()
	set(v, "sort", q.Sort)
	setInt(v, "pageSize", q.PageSize)
	set(v, "cursor", q.Cursor)
	return v
}

func (d dateQuery) addTo(v url.Values, field string) {
	set(v, field+"SearchType", d.SearchType)
	set(v, field+"Uom", d.Uom)
	setInt(v, field+"Value", d.Value)
	set(v, field+"From", d.From)
	set(v, field+"To", d.To)
	set(v, field+"RangeFrom", d.RangeFrom)
	set(v, field+"RangeTo", d.RangeTo)
}

func set(v url.Values, name, value string) {
	if value != "" {
		v.Set(name, value)
	}
}

func setInt(v url.Values, name string, value int) {
	if value != 0 {
		v.Set(name, strconv.Itoa(value))
	}
}
