package cli

import "github.com/spf13/cobra"

func (a *app) deliverCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "deliver OPERATION [SINK/KEY]",
		Short: "Deliver a new secret that its sink refused",
		Long: "Delivers the secret of an operation that ended as escrowed, to the place where it should have\n" +
			"gone or to another one. tokenreeve ledger list --outcome escrowed names such operations.",
		Example: "  tokenreeve deliver 0199b1f4-7c1e-7d6a-9f0e-0c2f5d8a4b11 files/ci/launchdarkly",
		Args:    cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			arguments := map[string]any{"operation_id": args[0]}
			if len(args) == 2 {
				arguments["deliver_to"] = args[1]
			}
			return a.callOnce(cmd, "deliver_secret", arguments, asJSON)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the result as JSON")
	return cmd
}
