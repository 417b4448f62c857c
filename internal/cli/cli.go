// Package cli is the command line, one file a command.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/tokenreeve/tokenreeve/internal/config"
)

// Streams are the process's standard streams.
type Streams struct {
	In  io.Reader
	Out io.Writer
	Err io.Writer
}

// app is what every command shares.
type app struct {
	version string
	streams Streams
	flags   flags
	log     *logWriter // nil until something may be logged
}

// flags are those of every command.
type flags struct {
	configFile string
	stateDir   string
	readOnly   bool
	logLevel   string
	logFormat  string
	demo       bool
	serve      *config.ServeFlags // nil for every command but the one that serves
}

// errToldAlready ends a command with exit code 1 after it said why.
var errToldAlready = errors.New("failed")

// Run carries out the command line and returns the exit code.
func Run(ctx context.Context, version string, args []string, streams Streams) int {
	a := &app{version: version, streams: streams}
	root := a.rootCommand()
	root.SetArgs(args)
	root.SetIn(streams.In)
	root.SetOut(plain(streams.Out)) // help may quote what was typed
	root.SetErr(plain(streams.Err))
	err := root.ExecuteContext(ctx)
	if a.log != nil {
		a.log.close()
	}
	switch {
	case err == nil:
		return 0
	case !errors.Is(err, errToldAlready):
		fmt.Fprintln(plain(streams.Err), "tokenreeve:", err)
	}
	return 1
}

func (a *app) rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "tokenreeve",
		Short: "An MCP server that administers API tokens at Atlassian Cloud, LaunchDarkly and Mailtrap",
		Long: "Without a command, tokenreeve serves one MCP client over stdio.\n\n" +
			"Secrets of new tokens go to a sink, never to the client. Changes to existing tokens\n" +
			"show their targets first and act only on the confirm code of that preview.",
		Args:              cobra.NoArgs,
		SilenceUsage:      true,
		SilenceErrors:     true,
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: true},
		RunE:              func(cmd *cobra.Command, _ []string) error { return a.serve(cmd) },
	}
	f := root.PersistentFlags()
	f.StringVar(&a.flags.configFile, "config", "", "configuration file (default: TOKENREEVE_CONFIG, else tokenreeve/config.json in the user's configuration directory)")
	f.StringVar(&a.flags.stateDir, "state-dir", "", "directory of the ledger, the escrow, keys and default secrets (default: tokenreeve in the user's state directory)")
	f.BoolVar(&a.flags.readOnly, "read-only", false, "offer only the tools that change nothing")
	f.StringVar(&a.flags.logLevel, "log-level", "", "debug, info, warn or error (default info)")
	f.StringVar(&a.flags.logFormat, "log-format", "", "text or json (default text)")
	f.BoolVar(&a.flags.demo, "demo", false, "use the embedded sandbox instead of any configuration")
	root.AddCommand(
		a.serveCommand(),
		a.callCommand(),
		a.deliverCommand(),
		a.toolsCommand(),
		a.demoCommand(),
		a.sandboxCommand(),
		a.ledgerCommand(),
		a.escrowCommand(),
		a.authCommand(),
		a.stateCommand(),
		a.approvalCommand(),
		a.doctorCommand(),
		a.versionCommand(),
	)
	explainUsage(root)
	return root
}

// explainUsage lets a command line that cannot be understood be answered with what would be.
func explainUsage(cmd *cobra.Command) {
	cmd.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return fmt.Errorf("%w; see %s --help", err, cmd.CommandPath())
	})
	for _, sub := range cmd.Commands() {
		explainUsage(sub)
	}
	check := cmd.Args
	if check == nil {
		return
	}
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if err := check(cmd, args); err != nil {
			return fmt.Errorf("%w; usage: %s; see %s --help", err, cmd.UseLine(), cmd.CommandPath())
		}
		return nil
	}
}

// configuration reads the configuration as the flags say.
func (a *app) configuration(cmd *cobra.Command) (config.Config, error) {
	return config.Load(a.configOptions(cmd))
}

func (a *app) configOptions(cmd *cobra.Command) config.Options {
	options := config.Options{
		ConfigFile: a.flags.configFile, StateDir: a.flags.stateDir,
		LogLevel: a.flags.logLevel, LogFormat: a.flags.logFormat, Stdio: true, Serve: a.flags.serve,
	}
	if cmd.Flags().Changed("read-only") {
		options.ReadOnly = &a.flags.readOnly
	}
	return options
}

// quiet leaves only warnings in the log of a command that a person watches,
// unless a flag asks for more.
func (a *app) quiet() {
	if a.flags.logLevel == "" {
		a.flags.logLevel = "warn"
	}
}

// logger writes to standard error: standard output belongs to the protocol.
func (a *app) logger(c config.Log) *slog.Logger {
	if a.log == nil {
		a.log = newLogWriter(a.streams.Err)
	}
	logger := slog.New(logHandler(a.log, c, isTerminal(a.streams.Err)))
	log.SetFlags(0)
	log.SetOutput(libraryLog{logger})
	return logger
}

// isTerminal reports whether the stream is a terminal. Not every character device
// is one: /dev/null is what a script has.
func isTerminal(stream any) bool {
	file, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}
