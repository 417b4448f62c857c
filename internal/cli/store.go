package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/tokenreeve/tokenreeve/auth"
	"github.com/tokenreeve/tokenreeve/internal/config"
	"github.com/tokenreeve/tokenreeve/internal/confirm"
	"github.com/tokenreeve/tokenreeve/internal/fault"
	"github.com/tokenreeve/tokenreeve/internal/ledger"
	"github.com/tokenreeve/tokenreeve/internal/postgres"
	"github.com/tokenreeve/tokenreeve/internal/sink"
	"github.com/tokenreeve/tokenreeve/internal/statekeys"
	"github.com/tokenreeve/tokenreeve/internal/telemetry"
)

// store is all that a configuration keeps from run to run: files of this machine or, with
// state.postgres, what several servers share. Nothing is opened, made or read before it is needed.
type store struct {
	ledger     *ledger.Ledger
	escrow     *sink.Escrow
	keys       statekeys.Reader
	passphrase confirm.Passphrase
	// place says where the ledger is, for messages.
	place string

	file   string            // of the ledger; empty: db
	db     *postgres.DB      // nil: file
	shared *statekeys.Source // nil: each machine has keys of its own
}

// openStore takes patience as [ledger.Options] does; 0 for service.
func openStore(c config.Config, patience time.Duration) (*store, error) {
	recovery, err := sink.ParseRecipients(c.RecoveryRecipients)
	if err != nil {
		return nil, fmt.Errorf("recovery_recipients: %w", err)
	}
	s := &store{keys: statekeys.Files(c.StateDir)}
	if s.shared, err = sharedKeys(c); err != nil {
		return nil, fmt.Errorf("state.keys: %w", err)
	}
	if s.shared != nil {
		s.keys = s.shared.Reader()
	}
	options := ledger.Options{Lease: fault.Lease(), Patience: patience}
	if !c.State.IsShared() {
		s.file = ledgerPath(c)
		s.place = s.file
		s.ledger = ledger.New(s.file, options)
		s.escrow = sink.NewEscrow(c.StateDir, s.shared, recovery)
		s.passphrase = confirm.PassphraseIn(c.StateDir)
		return s, nil
	}
	source, err := auth.NewText(c.State.Postgres)
	if err != nil {
		return nil, fmt.Errorf("state.postgres: %w", err)
	}
	s.place = "the database that state.postgres names"
	s.db = postgres.New(source.Read, postgres.Options{Patience: patience})
	s.ledger = ledger.NewPostgres(s.db, options)
	s.escrow = sink.NewSharedEscrow(s.db, s.shared, recovery)
	s.passphrase = confirm.SharedPassphrase(s.db)
	return s, nil
}

// sharedKeys are those that state.keys names, or nil where each machine has its own.
func sharedKeys(c config.Config) (*statekeys.Source, error) {
	if c.State.Keys.IsZero() {
		return nil, nil
	}
	source, err := auth.NewText(c.State.Keys)
	if err != nil {
		return nil, err
	}
	return statekeys.NewSource(source.Read), nil
}

// exists reports whether there is a ledger to look at, so that a command which only looks makes none.
func (s *store) exists(ctx context.Context) (bool, error) {
	if s.db != nil {
		return ledger.PostgresExists(ctx, s.db)
	}
	return ledger.Exists(s.file), nil
}

// hasLedger is exists for a server, which makes the tables of a database in any case.
func (s *store) hasLedger() bool { return s.db != nil || ledger.Exists(s.file) }

// standing counts what needs somebody, for the metrics. To look at a ledger does not make it.
func (s *store) standing(ctx context.Context) (telemetry.Standing, error) {
	if !s.hasLedger() {
		return telemetry.Standing{}, nil
	}
	now, err := s.ledger.Standing(ctx)
	return telemetry.Standing(now), err
}

func (s *store) close() error {
	err := s.ledger.Close()
	if s.db != nil {
		err = errors.Join(err, s.db.Close())
	}
	return err
}

// readyTime bounds what a server that listens does with its store first.
const readyTime = 30 * time.Second

// fastClock is how far the database's clock may be from this machine's before the log tells.
const fastClock = 5 * time.Second

// ready finds out, before a server listens, whether what several servers share can be used, and makes
// the tables. Files of this machine are judged where they are needed.
func (s *store) ready(ctx context.Context, log *slog.Logger) error {
	ctx, cancel := context.WithTimeout(ctx, readyTime)
	defer cancel()
	if s.shared != nil {
		if _, err := s.shared.Keys(ctx); err != nil {
			return err
		}
	}
	if s.db == nil {
		return nil
	}
	err := s.migrate(ctx)
	if err == nil {
		err = s.escrow.Check(ctx)
	}
	if err != nil {
		return fmt.Errorf("state.postgres: %w", err)
	}
	if ahead := s.db.Ahead(); ahead.Abs() > fastClock {
		log.Warn("this machine's clock differs from the database server's, which counts; mend it: tokens of callers are judged by this one", "database_ahead", ahead.Round(time.Millisecond).String())
	}
	isNew, err := s.escrow.Join(ctx)
	if err != nil {
		return fmt.Errorf("state.postgres: %w", err)
	}
	if isNew {
		log.Warn("the first key of state.keys is another than servers of this database used so far: every server must have it, or cannot read what this one puts in escrow")
	}
	return nil
}

// migrate makes the tables of the database, or brings them to this version.
func (s *store) migrate(ctx context.Context) error {
	if err := s.ledger.Open(ctx); err != nil {
		return err
	}
	if err := sink.MigrateEscrow(ctx, s.db); err != nil {
		return err
	}
	return confirm.MigratePassphrase(ctx, s.db)
}

// isLocal reports whether a sink keeps secrets where other machines do not look.
func isLocal(s config.Sink) bool { return s.Type == config.FileSink || s.Type == config.KeyringSink }

// warnOfLocalSinks names the sinks that put secrets where the other servers do not look.
func warnOfLocalSinks(c config.Config, log *slog.Logger) {
	var local []string
	for _, name := range slices.Sorted(maps.Keys(c.Sinks)) {
		if isLocal(c.Sinks[name]) {
			local = append(local, name)
		}
	}
	if c.State.IsShared() && len(local) > 0 {
		log.Warn("these sinks keep secrets on this machine: give all servers of the database the same directory, or use sinks of type vault or exec",
			"sinks", strings.Join(local, ", "))
	}
}
