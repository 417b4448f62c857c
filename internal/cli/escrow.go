package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/spf13/cobra"

	"github.com/tokenreeve/tokenreeve/internal/config"
	"github.com/tokenreeve/tokenreeve/internal/privatefile"
	"github.com/tokenreeve/tokenreeve/internal/sink"
)

func (a *app) escrowCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "escrow",
		Short: "See what is in escrow, and take out an encrypted file",
		Long: "The escrow keeps a new secret, encrypted, until its sink holds it. It is the directory escrow in\n" +
			"the state directory, or lies in the database that state.postgres names. tokenreeve deliver\n" +
			"delivers from it. No command here shows a secret.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.escrowListCommand(), a.escrowExportCommand())
	return cmd
}

// escrowed is a secret in escrow as people and scripts see it.
type escrowed struct {
	Operation   string    `json:"operation"`
	Written     time.Time `json:"written"`
	Connection  string    `json:"connection"`
	Token       string    `json:"token"`
	Destination string    `json:"destination"`
	Problem     string    `json:"problem,omitempty"` // why this server cannot read it
}

func (a *app) escrowListCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the secrets in escrow, without their values",
		Long: "Lists the secrets in escrow by their operations, without their values. Times are UTC. A problem\n" +
			"says why this server's keys do not open one; a holder of a recovery key can, see\n" +
			"tokenreeve escrow export.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withStore(cmd, func(ctx context.Context, _ config.Config, s *store) error {
				entries, err := s.escrow.List(ctx)
				if err != nil {
					return err
				}
				return a.printEscrow(entries, asJSON)
			})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func (a *app) printEscrow(entries []sink.Entry, asJSON bool) error {
	all, rows := make([]escrowed, len(entries)), make([][]string, len(entries))
	for i, e := range entries {
		w := escrowed{
			Operation: e.OperationID, Written: e.Written.UTC(), Connection: e.Meta.Connection, Token: e.Meta.TokenID, Destination: e.Meta.Destination,
		}
		if e.Problem != nil {
			w.Problem = e.Problem.Error()
		}
		all[i] = w
		rows[i] = []string{w.Operation, w.Written.Format(time.RFC3339), w.Connection, w.Token, w.Destination, w.Problem}
	}
	if asJSON {
		return printJSON(a.streams.Out, struct {
			Escrow []escrowed `json:"escrow"`
		}{all})
	}
	columns := []string{"operation", "written", "connection", "token", "destination", "problem"}
	return printColumns(plain(a.streams.Out), "", columns, rows)
}

func (a *app) escrowExportCommand() *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "export OPERATION --output FILE",
		Short: "Write the encrypted file of a secret, for a holder of a recovery key",
		Long: "Writes the file of one operation as it is in escrow: encrypted with age to the server's keys and\n" +
			"to recovery_recipients. It needs no key. Who holds one reads it with age -d -i KEYFILE FILE.\n" +
			"Nothing is removed from escrow. --output makes a new file that only you can read; what exists\n" +
			"is never overwritten.",
		Example: "  tokenreeve escrow export 0199b1f4-7c1e-7d6a-9f0e-0c2f5d8a4b11 --output secret.age",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if output == "" {
				return errors.New("say with --output which file to make")
			}
			return a.withStore(cmd, func(ctx context.Context, _ config.Config, s *store) error {
				data, err := s.escrow.Export(ctx, args[0])
				if errors.Is(err, fs.ErrNotExist) {
					return fmt.Errorf("there is no secret of operation %s in escrow; tokenreeve escrow list names those that are", oneLine(args[0]))
				}
				if err != nil {
					return err
				}
				return privatefile.WriteNew(output, data)
			})
		},
	}
	cmd.Flags().StringVar(&output, "output", "", "the file to make (required)")
	return cmd
}
