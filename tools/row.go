package tools

import (
	"cmp"
	"time"

	"github.com/tokenreeve/tokenreeve/providers"
)

// tokenRow is one token in a result. Concise rows leave out what is not known;
// full rows say "unknown".
type tokenRow struct {
	Connection    string   `json:"connection,omitempty"`
	ID            string   `json:"id"`
	Name          string   `json:"name"`
	NameAltered   bool     `json:"name_altered,omitempty" jsonschema_description:"outside text was cleaned"`
	Owner         string   `json:"owner,omitempty" jsonschema_description:"e-mail, else name, else id"`
	OwnerID       string   `json:"owner_id,omitempty"`
	OwnerName     string   `json:"owner_name,omitempty"`
	Kind          string   `json:"kind,omitempty"`
	Status        string   `json:"status,omitempty"`
	Access        string   `json:"access,omitempty"`
	Created       string   `json:"created,omitempty"`
	LastUsed      string   `json:"last_used,omitempty"`
	Expires       string   `json:"expires,omitempty"`
	OwnCredential bool     `json:"own_credential,omitempty" jsonschema_description:"may not be changed"`
	LastFour      string   `json:"last_four,omitempty"`
	Description   string   `json:"description,omitempty"`
	CreatedBy     string   `json:"created_by,omitempty"`
	Scopes        []string `json:"scopes,omitempty"`
	APIVersion    int      `json:"default_api_version,omitempty"`
	Modified      string   `json:"modified,omitempty"`
}

// mintedRow is a token that was made or changed, in the result that tells so.
// get_token shows the rest.
type mintedRow struct {
	ID      string `json:"id"`
	Name    string `json:"name"`
	Access  string `json:"access"`
	Expires string `json:"expires,omitempty"`
}

func mintedRowOf(t *providers.Token) *mintedRow {
	return &mintedRow{ID: t.ID, Name: t.Name, Access: string(t.Access), Expires: t.Expires.String()}
}

// alteredTexts is the warning that goes with outside text that is not shown as it is.
const alteredTexts = "names or other texts were cleaned of what is hidden or unsafe, or cut; go by the ids"

// alteredWarning warns where a text of one of the tokens was cleaned, else it is "".
func alteredWarning(tokens ...providers.Token) string {
	for i := range tokens {
		if tokens[i].NameAltered || tokens[i].TextAltered {
			return alteredTexts
		}
	}
	return ""
}

// conciseRow is a row small enough to read by the dozen.
func conciseRow(t *providers.Token, own bool) tokenRow {
	return tokenRow{
		ID: t.ID, Name: t.Name, NameAltered: t.NameAltered || t.TextAltered,
		Owner:   cmp.Or(t.Owner.Email, t.Owner.Name, t.Owner.ID),
		Kind:    known(t.Kind, providers.KindUnknown),
		Status:  known(t.Status, providers.StatusUnknown),
		Access:  known(t.Access, providers.AccessUnknown),
		Created: day(t.Created), LastUsed: day(t.LastUsed), Expires: day(t.Expires),
		OwnCredential: own,
	}
}

// maxScopeTokens bounds the scopes of one row, in tokens of a language model.
const maxScopeTokens = 1500

// fullRow is everything known of a token.
func fullRow(t *providers.Token, own bool) tokenRow {
	row := conciseRow(t, own)
	row.Kind, row.Status, row.Access = string(t.Kind), string(t.Status), string(t.Access)
	row.Created, row.LastUsed, row.Expires = t.Created.String(), t.LastUsed.String(), t.Expires.String()
	row.OwnerID, row.OwnerName = t.Owner.ID, t.Owner.Name
	row.LastFour, row.Description, row.CreatedBy = t.LastFour, t.Detail.Description, t.Detail.CreatedBy
	row.Scopes, row.APIVersion = fitting(t.Detail.Scopes, maxScopeTokens), t.Detail.APIVersion
	if !t.Detail.Modified.IsUnknown() {
		row.Modified = t.Detail.Modified.String()
	}
	return row
}

func known[W ~string](word, unknown W) string {
	if word == unknown {
		return ""
	}
	return string(word)
}

// day writes a date as its day in UTC; "never"; empty where it is unknown.
func day(d providers.Date) string {
	if t, ok := d.Time(); ok {
		return t.Format(time.DateOnly)
	}
	if d.IsNever() {
		return "never"
	}
	return ""
}
