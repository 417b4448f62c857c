package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/tokenreeve/tokenreeve/internal/ledger"
)

func (a *app) ledgerResolveCommand() *cobra.Command {
	var note string
	cmd := &cobra.Command{
		Use:   "resolve OPERATION done|failed --note TEXT",
		Short: "Put on record how an unknown operation really ended",
		Long: "An operation whose answer was lost is unknown until somebody looked at the vendor. This adds\n" +
			"what was found out, and who said so; nothing that is on record is changed.",
		Example: "  tokenreeve ledger resolve 0199b1f4-7c1e-7d6a-9f0e-0c2f5d8a4b11 failed --note 'the token is still there'",
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withLedger(cmd, func(ctx context.Context, l *ledger.Ledger) error {
				return a.resolve(ctx, l, args[0], ledger.Outcome(args[1]), note)
			})
		},
	}
	cmd.Flags().StringVar(&note, "note", "", "what was found out (required)")
	return cmd
}

func (a *app) resolve(ctx context.Context, l *ledger.Ledger, id string, outcome ledger.Outcome, note string) error {
	switch {
	case !slices.Contains([]ledger.Outcome{ledger.Done, ledger.Failed}, outcome):
		return fmt.Errorf("%q is no way an operation can really have ended; valid are done and failed", oneLine(string(outcome)))
	case note == "":
		return errors.New("say what was found out with --note")
	case l == nil:
		return fmt.Errorf("there is no operation %s", oneLine(id))
	}
	op, err := l.Get(ctx, id)
	if err != nil {
		return err
	}
	if op.Outcome != ledger.Unknown {
		return fmt.Errorf("operation %s is %s; only what is unknown can be resolved", op.ID, oneLine(string(op.Outcome)))
	}
	r := ledger.Result{Outcome: outcome, ErrorCode: op.ErrorCode, Details: ledger.Details{Note: note + " (" + localUser() + ")"}}
	if err := l.Resolve(ctx, op.ID, "", r); err != nil {
		return err
	}
	_, err = fmt.Fprintf(plain(a.streams.Out), "operation %s is %s now\n", op.ID, outcome)
	return err
}
