package cli

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/tokenreeve/tokenreeve/internal/ledger"
)

func (a *app) ledgerVerifyCommand() *cobra.Command {
	var head, export string
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Find entries of the ledger that were altered, removed or moved",
		Long: "Reads the whole ledger, or with --export a file that `tokenreeve ledger export` wrote, and\n" +
			"names each entry that was altered, removed or moved, and each operation whose state is not\n" +
			"what its entries say. The exit code is 1 where anything is wrong.\n\n" +
			"What it cannot find alone: that entries were cut off at the end, or that all from some entry\n" +
			"on were written anew by somebody who can write the file. Such a chain is consistent by\n" +
			"itself. Only a hash that was noted elsewhere before finds it: the server's log line of each\n" +
			"change holds one, the head of the chain at that moment. Give it with --head; keep the log\n" +
			"where whoever can write the ledger cannot.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if export != "" {
				return a.verifyExport(export, head)
			}
			return a.withLedger(cmd, func(ctx context.Context, l *ledger.Ledger) error {
				return a.verify(ctx, l, head)
			})
		},
	}
	cmd.Flags().StringVar(&head, "head", "", "a hash from the log, which must be in the chain")
	cmd.Flags().StringVar(&export, "export", "", "a file of JSON Lines to verify in place of the ledger")
	return cmd
}

func (a *app) verify(ctx context.Context, l *ledger.Ledger, head string) error {
	if l == nil && head != "" {
		return errors.New("the given head is in no chain: the ledger was removed, or it is another one's; look at --state-dir")
	}
	if l == nil {
		fmt.Fprintln(a.streams.Out, "nothing to verify")
		return nil
	}
	report, err := l.Verify(ctx, head)
	if err != nil {
		return err
	}
	return a.judge(&report, head, true)
}

func (a *app) verifyExport(path, head string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	report, err := ledger.VerifyExport(f, head)
	if err != nil {
		return err
	}
	return a.judge(&report, head, false)
}

// judge prints what was found. Of an export, operations are not counted.
func (a *app) judge(r *ledger.Report, head string, operations bool) error {
	w := plain(a.streams.Out)
	fmt.Fprintf(w, "entries: %d\n", r.Entries)
	if operations {
		fmt.Fprintf(w, "operations: %d\n", r.Operations)
	}
	fmt.Fprintf(w, "head: %s\n", oneLine(r.Head.Hash))
	switch {
	case head == "":
		fmt.Fprintln(w, "given head: none; entries cut off at the end would not show, see --help")
	case r.Given > 0:
		fmt.Fprintf(w, "given head: entry %d\n", r.Given)
	}
	for _, p := range r.Problems {
		fmt.Fprintf(w, "problem: %s\n", oneLine(p.String()))
	}
	if r.More {
		fmt.Fprintln(w, "problem: there are more than these")
	}
	if !r.OK() {
		fmt.Fprintln(w, "result: not as it was written")
		return errToldAlready
	}
	_, err := fmt.Fprintln(w, "result: as it was written")
	return err
}

func (a *app) ledgerRebuildCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "rebuild",
		Short: "Make the states of all operations anew from their entries",
		Long: "Makes the states of all operations, which list and the limits read, anew from the entries.\n" +
			"It is for when verify says that a state is missing or not what its entries say. A preview that\n" +
			"verify finds altered is dropped. No entry is changed; where an entry itself is not as it was\n" +
			"written, nothing is done.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withLedger(cmd, func(ctx context.Context, l *ledger.Ledger) error {
				if l == nil {
					fmt.Fprintln(a.streams.Out, "nothing to rebuild")
					return nil
				}
				if err := l.Rebuild(ctx); err != nil {
					return err
				}
				fmt.Fprintln(a.streams.Out, "the states of all operations were made anew from their entries; no entry was changed")
				return a.verify(ctx, l, "")
			})
		},
	}
}
