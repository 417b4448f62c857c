package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"text/tabwriter"
)

// result is what was measured for one bar.
type result struct {
	Bar      string  `json:"bar"`
	Measured float64 `json:"measured"`
	Limit    float64 `json:"limit"`
	AtLeast  bool    `json:"at_least,omitempty"` // Limit is the least, not the most
	Unit     string  `json:"unit,omitempty"`     // empty for a ratio
	Note     string  `json:"note,omitempty"`
	Error    string  `json:"error,omitempty"` // why nothing was measured
	OK       bool    `json:"ok"`
}

func (r result) ok() bool {
	switch {
	case r.Error != "":
		return false
	case r.AtLeast:
		return r.Measured >= r.Limit
	default:
		return r.Measured <= r.Limit
	}
}

func (r result) columns() []any {
	if r.Error != "" {
		return []any{r.Bar, "-", "-", "MISS", r.Error}
	}
	verdict, sign := "ok", "<="
	if !r.OK {
		verdict = "MISS"
	}
	if r.AtLeast {
		sign = ">="
	}
	return []any{r.Bar, number(r.Measured) + r.Unit, sign + " " + number(r.Limit) + r.Unit, verdict, r.Note}
}

// number writes three digits, or all of a large number's.
func number(v float64) string {
	if v >= 100 {
		return strconv.FormatFloat(v, 'f', 0, 64)
	}
	return strconv.FormatFloat(v, 'g', 3, 64)
}

var errMissed = errors.New("a goal was missed")

func report(results []result, file string, strict bool) error {
	missed := false
	table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "BAR\tMEASURED\tLIMIT\t\tNOTE")
	for i := range results {
		r := &results[i]
		r.OK = r.ok()
		missed = missed || !r.OK
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\n", r.columns()...)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	if file != "" {
		data, err := json.MarshalIndent(results, "", "  ")
		if err != nil {
			return err
		}
		if err := os.WriteFile(file, append(data, '\n'), 0o600); err != nil {
			return err
		}
	}
	if missed && strict {
		return errMissed
	}
	return nil
}

// median is the middle value; 0 of none.
func median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	middle := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[middle]
	}
	return (sorted[middle-1] + sorted[middle]) / 2
}

// ratio is the median of the rounds' ratios: what slows the machine for a while
// slows both sides of a round.
func ratio(ours, bare []float64) float64 {
	var ratios []float64
	for i := range min(len(ours), len(bare)) {
		ratios = append(ratios, ours[i]/bare[i])
	}
	return median(ratios)
}
