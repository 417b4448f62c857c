package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"time"

	"github.com/spf13/cobra"

	"github.com/tokenreeve/tokenreeve/internal/config"
	"github.com/tokenreeve/tokenreeve/internal/statekeys"
)

func (a *app) stateCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "state",
		Short: "Make the keys and the tables that several servers share",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.newKeysCommand(), a.adoptKeysCommand(), a.migrateCommand())
	return cmd
}

func (a *app) newKeysCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "new-keys",
		Short: "Make keys for state.keys",
		Long: "Prints a new age identity, as age-keygen does, and keeps it nowhere. Put it where every server\n" +
			"of the database can read it, and name that place in the configuration as state.keys.\n\n" +
			"The escrow is encrypted to it, and the keys of cursors and fingerprints are derived from it: keep a\n" +
			"copy where you keep other keys. To replace it, first add the new one as a further line on every\n" +
			"server and restart them; then make it the first line; and remove the old one once nothing is left\n" +
			"in escrow from its time.",
		Example: "  (umask 077; tokenreeve state new-keys > tokenreeve-keys)",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			text, public, err := statekeys.New(time.Now())
			if err != nil {
				return err
			}
			if !isTerminal(a.streams.Out) {
				fmt.Fprintf(a.streams.Err, "Public key: %s\n", public)
			}
			if isOpenToOthers(a.streams.Out) {
				fmt.Fprintln(a.streams.Err, "tokenreeve: warning: other users can read the file that the keys go to; run chmod 600 on it")
			}
			_, err = fmt.Fprint(a.streams.Out, text)
			return err
		},
	}
}

func (a *app) adoptKeysCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "adopt-keys",
		Short: "Make state.keys of this configuration count, where the keys before are lost",
		Long: "Servers of one database note which key they encrypt to, and one that lacks it does not start. Where\n" +
			"that key is lost, this notes the first one of state.keys instead. What is in escrow from before\n" +
			"stays, and only a holder of a recovery key can read it (tokenreeve escrow export). Servers that\n" +
			"still run with the earlier key mint nothing any more, until they are given the new ones.\n\n" +
			"To replace a key that is not lost, add the new one beside it (tokenreeve state new-keys --help).",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withDatabase(cmd, "nobody shares what is in escrow on this machine", func(ctx context.Context, s *store) error {
				entries, err := s.escrow.List(ctx)
				if err != nil {
					return err
				}
				if err := s.escrow.Adopt(ctx); err != nil {
					return err
				}
				unreadable := 0
				for _, entry := range entries {
					if entry.Problem != nil {
						unreadable++
					}
				}
				_, err = fmt.Fprintf(a.streams.Out, "the keys of this configuration count now; secrets in escrow: %d, of which they cannot read: %d\n", len(entries), unreadable)
				return err
			})
		},
	}
}

func (a *app) migrateCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "migrate",
		Short: "Make the tables in the database of state.postgres, or bring them to this version",
		Long: "Makes the tables in the database that state.postgres names, or brings them to this version, as a\n" +
			"server does that starts. It is for where the servers' own role may not: run it before the first\n" +
			"start and before each new version, with the URL of a role that owns the tables.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withDatabase(cmd, "files of this machine need no preparation", func(context.Context, *store) error {
				_, err := fmt.Fprintln(a.streams.Out, "the database is ready for this version")
				return err
			})
		},
	}
}

// withDatabase hands the store to use, once its database has the tables of this version. Where the
// configuration has no database, the error says why there is nothing to do.
func (a *app) withDatabase(cmd *cobra.Command, otherwise string, use func(ctx context.Context, s *store) error) error {
	return a.withStore(cmd, func(ctx context.Context, _ config.Config, s *store) error {
		if s.db == nil {
			return errors.New("the configuration has no state.postgres; " + otherwise)
		}
		if err := s.migrate(ctx); err != nil {
			return err
		}
		return use(ctx, s)
	})
}

// isOpenToOthers reports whether the stream is a file that more than its owner can read.
func isOpenToOthers(stream any) bool {
	file, ok := stream.(*os.File)
	if !ok || runtime.GOOS == "windows" {
		return false
	}
	info, err := file.Stat()
	return err == nil && info.Mode().IsRegular() && info.Mode().Perm()&fs.FileMode(0o077) != 0
}
