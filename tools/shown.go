package tools

import (
	"cmp"
	"encoding/json"
	"fmt"
	"strings"
	"time"
	"unicode"

	"github.com/tokenreeve/tokenreeve/internal/ledger"
	"github.com/tokenreeve/tokenreeve/internal/policy"
	"github.com/tokenreeve/tokenreeve/providers"
)

// Shown is what a person sees of a preview before agreeing to it. Its text was
// cleaned.
type Shown struct {
	Tool       string      `json:"tool"`
	Connection string      `json:"connection"`
	Reason     string      `json:"reason,omitempty"`
	Risk       policy.Risk `json:"risk"`
	// Ends says that the change ends tokens or secrets that may be in use.
	Ends bool `json:"ends,omitempty"`
	// Phrase is what a person types to agree.
	Phrase   string   `json:"phrase"`
	Effects  []string `json:"effects,omitempty"`
	Warnings []string `json:"warnings,omitempty"`
	Count    int      `json:"count"`
	// Owners are at most five, each in quotes, those of most targets first; the last one counts
	// the rest.
	Owners  []string `json:"owners,omitempty"`
	LastUse string   `json:"last_use,omitempty"` // a day, never, or unknown
	// Columns and Rows are the table of targets. What all rows share stands in
	// SharedColumns.
	Columns       []string          `json:"columns,omitempty"`
	Rows          [][]string        `json:"rows,omitempty"`
	SharedColumns map[string]string `json:"shared_columns,omitempty"`
}

// stored is what the ledger keeps of a preview until its result is recorded.
type stored[Plan any] struct {
	// Account is the vendor's account that the connection led to. Another server on the
	// same record can give the name to another one.
	Account string `json:"account"`
	Plan    Plan   `json:"plan"`
	Shown   Shown  `json:"shown"`
}

// ShownOf returns what a person is to see of a preview. One whose result is recorded
// has nothing left to show.
func ShownOf(p ledger.Preview) (Shown, error) {
	var s stored[json.RawMessage]
	if err := json.Unmarshal(p.Plan, &s); err != nil {
		return Shown{}, fmt.Errorf("preview %s is not readable: %w", p.ID, err)
	}
	return s.Shown, nil
}

func (f flow[Plan, Out]) storedIn(p ledger.Preview) (stored[Plan], error) {
	var s stored[Plan]
	if err := json.Unmarshal(p.Plan, &s); err != nil {
		return s, fmt.Errorf("preview %s is not readable: %w", p.ID, err)
	}
	return s, nil
}

func (f flow[Plan, Out]) shown(c *Call, p proposal, t *targets) Shown {
	s := Shown{
		Tool: c.Tool.Name, Connection: f.connection.Name, Reason: clean(f.reason), Risk: p.risk, Ends: p.ends, Phrase: p.phrase,
		Effects: p.effects, Warnings: p.warnings, Count: len(p.targets), Owners: ownersOf(p.targets), LastUse: latestUse(p.targets),
	}
	if t != nil {
		s.Columns, s.Rows, s.SharedColumns = t.Columns, t.Rows, t.Shared
	}
	return s
}

const (
	maxOwners = 5
	nobody    = "unknown" // the owner of a token whose owner is not told
)

// ownersOf names the owners of the targets, those of most targets first.
func ownersOf(tokens []providers.Token) []string {
	counts := map[string]int{}
	for i := range tokens {
		o := tokens[i].Owner
		owner := nobody
		if name := cmp.Or(o.Email, o.Name, o.ID); name != "" {
			owner = inQuotes(name)
		}
		counts[owner]++
	}
	groups, rest := largestGroups(counts, maxOwners)
	owners := make([]string, len(groups))
	for i, g := range groups {
		owners[i] = g.Key
	}
	if rest > 0 {
		owners = append(owners, plural(rest, "other", "others"))
	}
	return owners
}

// latestUse tells when the youngest use of any of the tokens was.
func latestUse(tokens []providers.Token) string {
	var latest time.Time
	unknown := false
	for i := range tokens {
		used, ok := tokens[i].LastUsed.Time()
		if ok && used.After(latest) {
			latest = used
		}
		unknown = unknown || tokens[i].LastUsed.IsUnknown()
	}
	switch {
	case !latest.IsZero():
		return latest.Format(time.DateOnly)
	case unknown:
		return "unknown"
	case len(tokens) > 0:
		return "never"
	}
	return ""
}

// question is what a person is asked, in one line. Whatever came from outside stands in
// quotes, which nothing in it can end, and the phrase comes last.
func (s Shown) question() string {
	var b strings.Builder
	fmt.Fprintf(&b, "tokenreeve is to call %s on connection %s: %s.", s.Tool, s.Connection, quotedList(s.Effects))
	if s.Count > 0 {
		fmt.Fprintf(&b, " %s, most recent use: %s, owners: %s.", plural(s.Count, "token", "tokens"), s.LastUse, joinWords(s.Owners))
	}
	if s.Count == 1 && len(s.Rows) == 1 {
		fmt.Fprintf(&b, " Token: %s.", quotedList(s.Rows[0][:min(2, len(s.Rows[0]))]))
	}
	if len(s.Warnings) > 0 {
		fmt.Fprintf(&b, " Mind: %s.", quotedList(s.Warnings))
	}
	if s.Reason != "" {
		fmt.Fprintf(&b, " Reason given: %s.", inQuotes(s.Reason))
	}
	fmt.Fprintf(&b, " Type %s to agree.", s.Phrase)
	return b.String()
}

func quotedList(texts []string) string {
	quoted := make([]string, len(texts))
	for i, text := range texts {
		quoted[i] = inQuotes(text)
	}
	return strings.Join(quoted, ", ")
}

// inQuotes puts a clean text that a person reads between quotation marks that are its only
// ones: any other, also one that sanitize.Quote escapes, or two small ones side by side,
// would look like its end.
func inQuotes(text string) string {
	var b strings.Builder
	b.WriteByte('"')
	var last rune
	for _, r := range text {
		if looksLikeQuote(r) {
			r = '\''
		}
		if r != '\'' || last != r {
			b.WriteRune(r)
		}
		last = r
	}
	b.WriteByte('"')
	return b.String()
}

// looksLikeQuote knows quotation marks, and accents, primes and ornaments that look
// like them.
func looksLikeQuote(r rune) bool {
	const alike = "`\u00b4\u02b9\u02ba\u02bb\u02bc\u02bd\u02c8\u02ca\u02cb\u02dd\u02ee\u02f4\u02f5\u02f6\u055a\u05f3\u05f4" +
		"\u2032\u2033\u2034\u2035\u2036\u2037\u2057\u275b\u275c\u275d\u275e\u275f\u2760\u3003\uff40\U0001f676\U0001f677\U0001f678"
	return unicode.Is(unicode.Quotation_Mark, r) || strings.ContainsRune(alike, r)
}
