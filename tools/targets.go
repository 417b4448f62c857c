package tools

import (
	"cmp"
	"slices"
	"strings"

	"github.com/tokenreeve/tokenreeve/providers"
)

// targets is the table of what a change would touch: small enough that a hundred
// fit into one answer. What all rows share stands in shared, once.
type targets struct {
	Count   int               `json:"count"`
	Columns []string          `json:"columns"`
	Rows    [][]string        `json:"rows"`
	Shared  map[string]string `json:"shared,omitempty"`
}

// maxTargetTokens bounds one row, in tokens of a language model: 60, less what the
// estimate of an id can miss.
const maxTargetTokens = 54

// targetsOf makes the table. The id always stands in its row.
func targetsOf(tokens []providers.Token) *targets {
	columns := []string{"id", "name", "owner", "last_used", "expires", "access"}
	rows := make([][]string, len(tokens))
	for i := range tokens {
		rows[i] = targetRow(&tokens[i])
	}
	t := &targets{Count: len(tokens), Columns: columns, Rows: rows}
	if len(rows) > 1 {
		t.hoist()
	}
	for i := range t.Rows {
		t.shorten(i)
	}
	return t
}

func targetRow(t *providers.Token) []string {
	return []string{
		t.ID, t.Name, cmp.Or(t.Owner.Email, t.Owner.Name, t.Owner.ID, "unknown"),
		cmp.Or(day(t.LastUsed), "unknown"), cmp.Or(day(t.Expires), "unknown"), string(t.Access),
	}
}

// hoist moves the columns in which all rows agree into shared.
func (t *targets) hoist() {
	for i := len(t.Columns) - 1; i > 0; i-- {
		value := t.Rows[0][i]
		if slices.ContainsFunc(t.Rows, func(row []string) bool { return row[i] != value }) {
			continue
		}
		if t.Shared == nil {
			t.Shared = map[string]string{}
		}
		t.Shared[t.Columns[i]] = value
		t.Columns = slices.Delete(t.Columns, i, i+1)
		for n := range t.Rows {
			t.Rows[n] = slices.Delete(t.Rows[n], i, i+1)
		}
	}
}

// shorten cuts a row's name, then its owner, until the row fits; only where that
// is not enough, to less than eight letters.
func (t *targets) shorten(i int) {
	for _, least := range []int{8, 1} {
		for _, name := range []string{"name", "owner"} {
			column := slices.Index(t.Columns, name)
			if column < 0 {
				continue
			}
			for letters := []rune(strings.TrimSuffix(t.Rows[i][column], "…")); len(letters) > least && rowCost(t.Rows[i]) > maxTargetTokens; {
				letters = letters[:max(least, len(letters)*3/4)]
				t.Rows[i][column] = string(letters) + "…"
			}
		}
	}
}

func rowCost(row []string) int {
	text, err := compact(row)
	if err != nil {
		return maxTargetTokens + 1
	}
	return tokensOf(text)
}

// drift says how the targets differ from what the preview showed. A target that
// is gone is no difference: it ends as already_gone.
func drift(before, after []providers.Token) []string {
	shown := make(map[string]*providers.Token, len(before)) // an org-wide call has very many
	for i := range before {
		shown[before[i].ID] = &before[i]
	}
	var changes []string
	for i := range after {
		now := &after[i]
		was, ok := shown[now.ID]
		if !ok {
			changes = append(changes, "token "+now.ID+" matches now and was not shown")
			continue
		}
		if fields := differingFields(was, now); len(fields) > 0 {
			changes = append(changes, "token "+now.ID+" has another "+joinWords(fields))
		}
	}
	return changes
}

func differingFields(a, b *providers.Token) []string {
	var fields []string
	note := func(differs bool, field string) {
		if differs {
			fields = append(fields, field)
		}
	}
	note(a.Owner.ID != b.Owner.ID || a.Owner.Email != b.Owner.Email, "owner")
	note(a.Name != b.Name || a.NameKey != b.NameKey, "name")
	note(a.Access != b.Access || !a.SameAccess(b), "access")
	note(a.Status != b.Status, "status")
	note(!a.Expires.Equal(b.Expires), "expiry")
	return fields
}

// drifted is the refusal of a change whose targets are not what was shown.
func drifted(changes []string) error {
	shown := changes[:min(len(changes), 5)]
	message := "nothing was changed, since the targets differ from the preview: " + strings.Join(shown, "; ")
	if len(changes) > len(shown) {
		message += "; and more"
	}
	return &Problem{Code: "targets_changed", Message: message, Next: "call again without confirm for a new preview"}
}
