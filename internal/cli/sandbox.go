package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/tokenreeve/tokenreeve/auth"
	"github.com/tokenreeve/tokenreeve/internal/config"
	"github.com/tokenreeve/tokenreeve/internal/privatefile"
	"github.com/tokenreeve/tokenreeve/internal/sandbox"
)

func (a *app) sandboxCommand() *cobra.Command {
	var listen string
	var tokens int
	var seed uint64
	var latency time.Duration
	cmd := &cobra.Command{
		Use:   "sandbox",
		Short: "Run the simulated vendors alone",
		Long: "Runs the three vendors' token APIs over HTTP, filled with invented tokens, and prints one\n" +
			"JSON line with base URLs and credentials. Faults and state are below /_sandbox/.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := sandbox.New(sandbox.Options{Seed: seed, Tokens: tokens, Latency: latency})
			if err != nil {
				return err
			}
			running, err := s.Start(cmd.Context(), listen)
			if err != nil {
				return err
			}
			if err := json.NewEncoder(a.streams.Out).Encode(running.Access()); err != nil {
				return fmt.Errorf("print the access: %w", err)
			}
			<-running.Done()
			return running.Close()
		},
	}
	f := cmd.Flags()
	f.StringVar(&listen, "listen", "127.0.0.1:0", "loopback address")
	f.IntVar(&tokens, "tokens", sandbox.DefaultTokens, "how many tokens, over all vendors")
	f.Uint64Var(&seed, "seed", 1, "the same seed makes the same tokens")
	f.DurationVar(&latency, "latency", 0, "delay of every answer")
	return cmd
}

// demoTokens is how many tokens the demo's sandbox holds.
const demoTokens = 120

func startSandbox(ctx context.Context, addr string, tokens int, seed uint64) (*sandbox.Server, error) {
	s, err := sandbox.New(sandbox.Options{Seed: seed, Tokens: tokens})
	if err != nil {
		return nil, err
	}
	return s.Start(ctx, addr)
}

// demoConfig connects to a sandbox. Its credentials go the way of real ones:
// through files.
func demoConfig(access sandbox.Access, stateDir string) (config.Config, error) {
	dir := filepath.Join(stateDir, "credentials")
	for _, d := range []string{stateDir, dir} {
		if err := privatefile.EnsureDir(d); err != nil {
			return config.Config{}, err
		}
	}
	files := map[string]string{
		config.Atlassian: access.Atlassian.Credential, config.LaunchDarkly: access.LaunchDarkly.Credential, config.Mailtrap: access.Mailtrap.Credential,
	}
	for name, credential := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(credential), 0o600); err != nil {
			return config.Config{}, fmt.Errorf("credential of the demo: %w", err)
		}
	}
	from := func(name string) auth.Reference { return auth.Reference{File: filepath.Join(dir, name)} }
	return config.Config{
		Connections: map[string]config.Connection{
			"acme-atlassian": {
				Provider: config.Atlassian, BaseURL: access.Atlassian.BaseURL, OrgID: access.Atlassian.OrgID,
				Credential: from(config.Atlassian), OrgWideRevoke: true,
			},
			"acme-launchdarkly": {
				Provider: config.LaunchDarkly, BaseURL: access.LaunchDarkly.BaseURL, Credential: from(config.LaunchDarkly), Sink: "files",
			},
			"acme-mailtrap": {
				Provider: config.Mailtrap, BaseURL: access.Mailtrap.BaseURL, AccountID: access.Mailtrap.AccountID, Credential: from(config.Mailtrap), Sink: "files",
			},
		},
		Sinks:           map[string]config.Sink{"files": {Type: "file", Directory: filepath.Join(stateDir, "secrets")}},
		RateReserve:     0.2,
		Timeout:         30 * time.Second,
		EscrowRetention: 24 * time.Hour,
		StateDir:        stateDir,
		DefaultSink:     "files",
	}, nil
}
