package cli

import (
	"encoding/json"
	"fmt"

	"github.com/tokenreeve/tokenreeve/internal/ledger"
)

// shown is what a person sees of a preview before agreeing to it.
type shown struct {
	Tool          string            `json:"tool"`
	Connection    string            `json:"connection"`
	Reason        string            `json:"reason"`
	Risk          string            `json:"risk"`
	Phrase        string            `json:"phrase"` // what they type to agree
	Effects       []string          `json:"effects"`
	Warnings      []string          `json:"warnings"`
	Count         int               `json:"count"`
	Owners        []string          `json:"owners"`
	LastUse       string            `json:"last_use"`
	Columns       []string          `json:"columns"`
	Rows          [][]string        `json:"rows"`
	SharedColumns map[string]string `json:"shared_columns"`
}

// shownOf reads it from the preview's plan.
func shownOf(p ledger.Preview) (shown, error) {
	var plan struct {
		Shown shown `json:"shown"`
	}
	if err := json.Unmarshal(p.Plan, &plan); err != nil {
		return shown{}, fmt.Errorf("preview %s is not readable: %w", p.ID, err)
	}
	return plan.Shown, nil
}
