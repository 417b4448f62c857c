package cli

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/tokenreeve/tokenreeve/internal/config"
	"github.com/tokenreeve/tokenreeve/internal/ledger"
)

// ledgerPath is where the ledger lies that every process of the configuration shares.
func ledgerPath(c config.Config) string { return filepath.Join(c.StateDir, "ledger.db") }

func (a *app) ledgerCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "ledger",
		Short: "Read and verify the record of all changes",
		Long: "The ledger is the record of every change that was attempted: who asked, for which tokens, and\n" +
			"how it ended. It lies in ledger.db in the state directory, or in the database that state.postgres\n" +
			"names. Its entries are only ever added, and each carries the hash of the one before.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(
		a.ledgerListCommand(),
		a.ledgerShowCommand(),
		a.ledgerExportCommand(),
		a.ledgerVerifyCommand(),
		a.ledgerResolveCommand(),
		a.ledgerRebuildCommand(),
	)
	return cmd
}

// operatorConfiguration is the configuration of a server on this machine. That of a demo is known to
// its own process only.
func (a *app) operatorConfiguration(cmd *cobra.Command) (config.Config, error) {
	if a.flags.demo {
		return config.Config{}, errors.New("--demo keeps its state in a temporary directory of its own; give that with --state-dir, and leave --demo out")
	}
	return a.configuration(cmd)
}

// withLedger hands the ledger to use, or nil where there is none: reading makes nothing.
func (a *app) withLedger(cmd *cobra.Command, use func(ctx context.Context, l *ledger.Ledger) error) error {
	return a.withStore(cmd, func(ctx context.Context, _ config.Config, s *store) error {
		exists, err := s.exists(ctx)
		if err != nil {
			return err
		}
		if !exists {
			fmt.Fprintf(plain(a.streams.Err), "tokenreeve: there is no ledger in %s: nothing was recorded yet\n", s.place)
			return use(ctx, nil)
		}
		return use(ctx, s.ledger)
	})
}

// withStore hands what the configuration keeps to use.
func (a *app) withStore(cmd *cobra.Command, use func(ctx context.Context, c config.Config, s *store) error) error {
	c, err := a.operatorConfiguration(cmd)
	if err != nil {
		return err
	}
	s, err := openStore(c, 0)
	if err != nil {
		return err
	}
	return errors.Join(use(cmd.Context(), c, s), s.close())
}

// record is an operation as people and scripts see it.
type record struct {
	ledger.Operation
	HeldUntil time.Time `json:"held_until,omitzero"` // a process is at work
	CutOff    bool      `json:"cut_off,omitempty"`   // open, and its process is gone
}

func recordOf(op ledger.Operation, now time.Time) record {
	r := record{Operation: op}
	if !op.IsOpen() {
		return r
	}
	r.Outcome = ledger.OpenOutcome
	if op.Lease.After(now) {
		r.HeldUntil = op.Lease.UTC()
	} else {
		r.CutOff = true
	}
	return r
}

// ending is the outcome in a table.
func (r *record) ending() string {
	if r.CutOff {
		return "open (cut off)"
	}
	return string(r.Outcome)
}

// target names what the operation touches: for a new token, that one.
func (r *record) target() string {
	switch more := len(r.Targets) + r.MoreTargets - 1; {
	case len(r.Targets) == 0:
		return r.NewTokenID
	case more > 0:
		return fmt.Sprintf("%s +%d", r.Targets[0].ID, more)
	default:
		return r.Targets[0].ID
	}
}
