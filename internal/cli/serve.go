package cli

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/tokenreeve/tokenreeve/auth"
	"github.com/tokenreeve/tokenreeve/internal/config"
	"github.com/tokenreeve/tokenreeve/internal/server"
	"github.com/tokenreeve/tokenreeve/tools"
)

// serveStdio serves one client over standard input and output.
func (a *app) serveStdio(cmd *cobra.Command) error {
	s, err := a.setUp(cmd, true)
	if err != nil {
		return err
	}
	defer s.close()
	s.env.OnFirstClient = s.env.Attend
	mcp, err := server.New(a.version, s.env)
	if err != nil {
		return err
	}
	s.log.Debug("serving over stdio", "connections", len(s.env.Connections))
	return server.Stdio(cmd.Context(), mcp, s.env.Work, a.streams.In, a.streams.Out, s.config.Timeout, s.log)
}

func (a *app) serveCommand() *cobra.Command {
	var listen string
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Serve over stdio, or with --listen over server-sent events",
		Long: "Serves over stdio, or with --listen over server-sent events at /sse and /message.\n\n" +
			"Callers present the bearer token in TOKENREEVE_BEARER_TOKEN (at least 32 characters);\n" +
			"where that is not set, a random one is made and shown once on standard error.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if listen == "" {
				return a.serveStdio(cmd)
			}
			return a.serveSSE(cmd, listen)
		},
	}
	cmd.Flags().StringVar(&listen, "listen", "", "loopback address, for example 127.0.0.1:7777")
	return cmd
}

func (a *app) serveSSE(cmd *cobra.Command, listen string) error {
	s, err := a.setUp(cmd, false)
	if err != nil {
		return err
	}
	defer s.close()
	s.env.OnFirstClient = s.env.Attend
	mcp, err := server.New(a.version, s.env)
	if err != nil {
		return err
	}
	bearer, shown, err := bearerToken(os.Getenv("TOKENREEVE_BEARER_TOKEN"))
	if err != nil {
		return err
	}
	listener, err := server.Listen(cmd.Context(), listen)
	if err != nil {
		return err
	}
	fmt.Fprintf(a.streams.Err, "tokenreeve serves http://%s/sse\n", listener.Addr())
	if shown != "" {
		fmt.Fprintf(a.streams.Err, "bearer token, shown once: %s\n", shown)
	}
	return server.SSE(cmd.Context(), mcp, s.env.Work, listener, bearer, s.config.Timeout, s.log)
}

// bearerToken returns the configured bearer token's check, or that of a new token
// with the token.
func bearerToken(configured string) (*auth.Bearer, string, error) {
	if configured == "" {
		bearer, token := auth.RandomBearer()
		return bearer, token, nil
	}
	bearer, err := auth.NewBearer(configured)
	if err != nil {
		return nil, "", fmt.Errorf("TOKENREEVE_BEARER_TOKEN: %w", err)
	}
	return bearer, "", nil
}

// setting is a configuration with what was built from it.
type setting struct {
	config config.Config
	env    *tools.Env
	log    *slog.Logger
	close  func()
}

// setUp reads the configuration, or starts the demo's sandbox in its place.
func (a *app) setUp(cmd *cobra.Command, stdio bool) (setting, error) {
	if a.flags.demo {
		return a.setUpDemo(cmd, stdio)
	}
	c, err := a.configuration(cmd, stdio)
	if err != nil {
		return setting{}, err
	}
	log := a.logger(c.Log)
	env, release, err := a.environment(c, stdio, log)
	return setting{config: c, env: env, log: log, close: release}, err
}

// demoSeed makes every demo the same.
const demoSeed = 7

// setUpDemo starts a sandbox in this process and connects to it. Everything it
// writes goes to a temporary directory.
func (a *app) setUpDemo(cmd *cobra.Command, stdio bool) (setting, error) {
	dir, err := os.MkdirTemp("", "tokenreeve-demo-")
	if err != nil {
		return setting{}, fmt.Errorf("temporary state directory: %w", err)
	}
	// The sandbox outlives the signal, so that a change under way can finish.
	vendors, err := startSandbox(context.WithoutCancel(cmd.Context()), "127.0.0.1:0", demoTokens, demoSeed)
	if err != nil {
		_ = os.RemoveAll(dir)
		return setting{}, err
	}
	release := func() {}
	closeAll := func() {
		release()
		_ = vendors.Close()
		_ = os.RemoveAll(dir)
	}
	c, err := demoConfig(vendors.Access(), filepath.Join(dir, "state"))
	if err != nil {
		closeAll()
		return setting{}, err
	}
	c.ReadOnly = a.flags.readOnly
	c.Log = config.Log{Level: a.flags.logLevel, Format: a.flags.logFormat}
	log := a.logger(c.Log)
	env, release, err := a.environment(c, stdio, log)
	if err != nil {
		closeAll()
		return setting{}, err
	}
	return setting{config: c, env: env, log: log, close: closeAll}, nil
}
