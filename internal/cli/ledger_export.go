package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/tokenreeve/tokenreeve/internal/ledger"
	"github.com/tokenreeve/tokenreeve/internal/privatefile"
)

func (a *app) ledgerExportCommand() *cobra.Command {
	var format, output string
	cmd := &cobra.Command{
		Use:   "export",
		Short: "Export the whole ledger, oldest first",
		Long: "Exports the whole ledger, oldest first. jsonl has one line per entry, as it was recorded:\n" +
			"`tokenreeve ledger verify --export FILE` judges it anywhere. csv has one row per operation,\n" +
			"for spreadsheets.\n\n" +
			"--output makes a new file that only you can read; it appears whole or not at all, and what\n" +
			"exists is never overwritten. On standard output, characters that could act on a terminal are\n" +
			"escaped or left out; the ledger itself records none.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			form := ledger.Format(format)
			if form != ledger.JSONLines && form != ledger.CSV {
				return fmt.Errorf("--format is %q; valid: %s, %s", format, ledger.JSONLines, ledger.CSV)
			}
			return a.withLedger(cmd, func(ctx context.Context, l *ledger.Ledger) error {
				if l == nil {
					return nil
				}
				return a.export(ctx, l, form, output)
			})
		},
	}
	cmd.Flags().StringVar(&format, "format", string(ledger.JSONLines), "jsonl or csv")
	cmd.Flags().StringVar(&output, "output", "", "a file to make (default: standard output)")
	return cmd
}

func (a *app) export(ctx context.Context, l *ledger.Ledger, format ledger.Format, output string) error {
	write := func(w io.Writer) error {
		buffered := bufio.NewWriter(w)
		return errors.Join(l.Export(ctx, buffered, format), buffered.Flush())
	}
	switch {
	case output != "":
		return privatefile.WriteNewFrom(output, write)
	case format == ledger.CSV:
		return write(plain(a.streams.Out))
	default:
		return write(plainJSON(a.streams.Out))
	}
}
