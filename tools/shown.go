package tools

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tokenreeve/tokenreeve/internal/ledger"
	"github.com/tokenreeve/tokenreeve/internal/policy"
	"github.com/tokenreeve/tokenreeve/internal/sanitize"
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
	Plan  Plan  `json:"plan"`
	Shown Shown `json:"shown"`
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
			owner = sanitize.Quote(name)
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

// question is what a person is asked, in one line. Text from outside stands in quotes,
// so that it cannot pass for a part of the question.
func (s Shown) question() string {
	var b strings.Builder
	fmt.Fprintf(&b, "tokenreeve, connection %s, %s: %s.", s.Connection, s.Tool, strings.TrimSuffix(strings.Join(s.Effects, " "), "."))
	if s.Count > 0 {
		fmt.Fprintf(&b, " %s", plural(s.Count, "token", "tokens"))
		if len(s.Owners) > 0 && !slices.Equal(s.Owners, []string{nobody}) {
			fmt.Fprintf(&b, " of %s", joinWords(s.Owners))
		}
		fmt.Fprintf(&b, "; most recent use: %s.", s.LastUse)
	}
	if s.Count == 1 && len(s.Rows) == 1 && len(s.Rows[0]) > 1 {
		fmt.Fprintf(&b, " Token %s, named %s.", s.Rows[0][0], sanitize.Quote(s.Rows[0][1]))
	}
	if s.Reason != "" {
		fmt.Fprintf(&b, " Reason given: %s.", sanitize.Quote(s.Reason))
	}
	fmt.Fprintf(&b, " Type %s to agree.", s.Phrase)
	return b.String()
}
