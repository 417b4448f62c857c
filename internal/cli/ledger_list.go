package cli

import (
	"context"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tokenreeve/tokenreeve/internal/ledger"
)

func (a *app) ledgerListCommand() *cobra.Command {
	var q ledger.Query
	var outcome, since string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List operations, newest first",
		Long: "Lists operations, newest first. Times are UTC. The target of an operation that makes a token is\n" +
			"that token. An operation that is cut off has no outcome, and its process is gone.",
		Example: "  tokenreeve ledger list --since 7d --outcome failed\n" +
			"  tokenreeve ledger list --parent 019a52b4-7c1e-7d5f-9b8a-0f6f2d7b1c3e",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var err error
			if q.Outcome, err = parseOutcome(outcome); err != nil {
				return err
			}
			if q.Since, err = parseSince(since, time.Now()); err != nil {
				return err
			}
			if q.Limit < 1 {
				return fmt.Errorf("--limit is %d; it must be at least 1", q.Limit)
			}
			return a.withLedger(cmd, func(ctx context.Context, l *ledger.Ledger) error {
				found, more, err := records(ctx, l, q)
				if err != nil {
					return err
				}
				return a.printRecords(found, more, asJSON)
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&q.Connection, "connection", "", "only those on this connection")
	f.StringVar(&q.Tool, "tool", "", "only those of this tool")
	f.StringVar(&outcome, "outcome", "", "only those that ended so: "+strings.Join(outcomes(), ", "))
	f.StringVar(&q.Principal, "principal", "", "only those of this caller")
	f.StringVar(&q.Parent, "parent", "", "only those that are part of this operation")
	f.StringVar(&since, "since", "", "only those begun since then: an age such as 7d, or an RFC 3339 date or time")
	f.IntVar(&q.Limit, "limit", ledger.DefaultPage, "at most so many")
	f.BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func outcomes() []string {
	var all []string
	for _, o := range []ledger.Outcome{
		ledger.Done, ledger.AlreadyGone, ledger.Failed, ledger.Escrowed, ledger.Unknown, ledger.Refused, ledger.OpenOutcome,
	} {
		all = append(all, string(o))
	}
	return all
}

func parseOutcome(text string) (ledger.Outcome, error) {
	if text != "" && !slices.Contains(outcomes(), text) {
		return "", fmt.Errorf("--outcome is %q; valid: %s", text, strings.Join(outcomes(), ", "))
	}
	return ledger.Outcome(text), nil
}

// parseSince reads an RFC 3339 date or time, or an age before now in the units of the tools.
func parseSince(text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	for _, layout := range []string{time.RFC3339, time.DateOnly} {
		if t, err := time.Parse(layout, text); err == nil {
			return t, nil
		}
	}
	units := map[string]time.Duration{
		"min": time.Minute, "h": time.Hour, "d": 24 * time.Hour, "w": 7 * 24 * time.Hour, "y": 365 * 24 * time.Hour,
	}
	age := regexp.MustCompile(`^([0-9]{1,6})(min|h|d|w|y)$`).FindStringSubmatch(text)
	if age == nil {
		return time.Time{}, fmt.Errorf("--since is %q; valid are an age (30min, 12h, 7d, 2w, 1y), a date (2026-01-31) or a time (2026-01-31T09:00:00Z)", text)
	}
	n, err := strconv.Atoi(age[1])
	unit := units[age[2]]
	if err != nil || n > int(math.MaxInt64/unit) {
		return time.Time{}, fmt.Errorf("--since is %q, which is longer than 292 years", text)
	}
	return now.Add(-time.Duration(n) * unit), nil
}

// records reads as many operations as the query allows, page by page, and tells whether there are
// more. Without a ledger there are none.
func records(ctx context.Context, l *ledger.Ledger, q ledger.Query) (found []record, more bool, err error) {
	found = []record{}
	if l == nil {
		return found, false, nil
	}
	for limit := q.Limit; limit > len(found); {
		q.Limit = min(limit-len(found), ledger.MaxPage)
		page, err := l.List(ctx, q)
		if err != nil {
			return nil, false, err
		}
		for _, op := range page.Operations {
			found = append(found, recordOf(op, l.Now()))
		}
		q.After, more = page.Next, page.Next > 0
		if !more {
			break
		}
	}
	return found, more, nil
}

func (a *app) printRecords(found []record, more, asJSON bool) error {
	if asJSON {
		return printJSON(a.streams.Out, struct {
			Operations []record `json:"operations"`
			More       bool     `json:"more"`
		}{found, more})
	}
	rows := make([][]string, len(found))
	for i := range found {
		r := &found[i]
		rows[i] = []string{
			r.ID, r.Started.UTC().Format(time.RFC3339), r.Principal, r.Tool, r.Connection, r.target(), r.ending(), r.ErrorCode,
		}
	}
	columns := []string{"id", "started", "principal", "tool", "connection", "target", "outcome", "error"}
	if err := printColumns(plain(a.streams.Out), "", columns, rows); err != nil {
		return err
	}
	if more {
		fmt.Fprintln(a.streams.Err, "tokenreeve: there are more; give a larger --limit, or select fewer")
	}
	return nil
}
