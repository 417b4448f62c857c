package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tokenreeve/tokenreeve/internal/ledger"
)

func (a *app) ledgerShowCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "show ID",
		Short: "Show everything on record of one operation",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withLedger(cmd, func(ctx context.Context, l *ledger.Ledger) error {
				if l == nil {
					return fmt.Errorf("there is no operation %q", oneLine(args[0]))
				}
				return a.show(ctx, l, args[0], asJSON)
			})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON, with the whole entries")
	return cmd
}

// part is an operation of a group, in short.
type part struct {
	ID      string `json:"id"`
	Target  string `json:"target"`
	Outcome string `json:"outcome"`
	Error   string `json:"error_code"`
}

// event is an entry, in short.
type event struct {
	Seq  int64     `json:"seq"`
	Time time.Time `json:"time"`
	Kind string    `json:"kind"`
	What string    `json:"what"`
	Hash string    `json:"hash"`
}

func (a *app) show(ctx context.Context, l *ledger.Ledger, id string, asJSON bool) error {
	op, err := l.Get(ctx, id)
	if err != nil {
		return err
	}
	history, err := l.History(ctx, id)
	if err != nil {
		return err
	}
	children, err := parts(ctx, l, &op)
	if err != nil {
		return err
	}
	shown := recordOf(op, l.Now())
	if asJSON {
		return printJSON(a.streams.Out, struct {
			Operation record         `json:"operation"`
			Children  []part         `json:"children,omitempty"`
			History   []ledger.Entry `json:"history"`
		}{shown, children, history})
	}
	data, err := json.Marshal(struct {
		record
		Children []part  `json:"children,omitempty"`
		History  []event `json:"history"`
	}{shown, children, events(history)})
	if err != nil {
		return err
	}
	return printTable(a.streams.Out, data)
}

// parts returns the operations of a group, oldest first.
func parts(ctx context.Context, l *ledger.Ledger, op *ledger.Operation) ([]part, error) {
	if !op.Group {
		return nil, nil
	}
	found, _, err := records(ctx, l, ledger.Query{Parent: op.ID, Limit: math.MaxInt})
	all := make([]part, len(found))
	for i := range found {
		r := &found[i]
		all[len(all)-1-i] = part{r.ID, r.target(), r.ending(), r.ErrorCode}
	}
	return all, err
}

func events(history []ledger.Entry) []event {
	all := make([]event, len(history))
	for i, e := range history {
		all[i] = event{e.Seq, e.Time, e.Kind, what(e), e.Hash}
	}
	return all
}

// what says which step or outcome an entry is about. A body that cannot be read is about none.
func what(e ledger.Entry) string {
	var body struct {
		Step      string `json:"step"`
		Outcome   string `json:"outcome"`
		ErrorCode string `json:"error_code"`
	}
	_ = json.Unmarshal(e.Body, &body) // verify reports it
	return strings.Join(strings.Fields(body.Step+" "+body.Outcome+" "+body.ErrorCode), " ")
}
