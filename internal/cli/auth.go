package cli

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/tokenreeve/tokenreeve/auth"
	"github.com/tokenreeve/tokenreeve/internal/config"
)

func (a *app) authCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "auth",
		Short: "Make tokens for callers over HTTP",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.newTokenCommand())
	return cmd
}

func (a *app) newTokenCommand() *cobra.Command {
	var role string
	cmd := &cobra.Command{
		Use:   "new-token NAME --role ROLE",
		Short: "Make a bearer token for a caller, and its entry in config.json",
		Long: "Prints a new token once, and the entry that lets in who presents it. The entry holds a digest\n" +
			"of the token only; nothing else is written anywhere, and the server reads it at its next start.\n\n" +
			"Roles: viewer reads; operator creates, changes, rotates and revokes tokens as well; admin does\n" +
			"everything; approver approves what others previewed, never their own. To replace a token, add a\n" +
			"second entry of the same name, and remove the first when nobody uses it any more.",
		Example: "  tokenreeve auth new-token ci-bot --role operator",
		Args:    cobra.ExactArgs(1),
		RunE:    func(_ *cobra.Command, args []string) error { return a.newToken(args[0], auth.Role(role)) },
	}
	cmd.Flags().StringVar(&role, "role", "", "viewer, operator, admin or approver (required)")
	return cmd
}

func (a *app) newToken(name string, role auth.Role) error {
	switch {
	case !config.IsCallerName(name):
		return fmt.Errorf("%q is no caller's name; valid: %s", oneLine(name), config.ValidCallerName)
	case role == "":
		return fmt.Errorf("--role is missing; valid: %s", roleNames())
	case !slices.Contains(auth.Roles(), role):
		return fmt.Errorf("--role %q is no role; valid: %s", oneLine(string(role)), roleNames())
	}
	token, digest := auth.NewToken()
	entry, err := json.Marshal(config.CallerToken{Name: name, Role: role, SHA256: hex.EncodeToString(digest[:])})
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(a.streams.Out, "token, shown once:\n  %s\nits entry in config.json, in \"tokens\" of \"auth\":\n  %s\n", token, entry)
	return err
}

func roleNames() string {
	var names []string
	for _, role := range auth.Roles() {
		names = append(names, string(role))
	}
	return strings.Join(names, ", ")
}
