// Command tokenreeve is an MCP server through which AI agents administer API
// tokens at Atlassian Cloud, LaunchDarkly and Mailtrap.
package main

//go:generate go run ./internal/docgen -readme README.md

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/tokenreeve/tokenreeve/internal/cli"
)

// version is set by the build.
var version = "dev"

func main() {
	// A client that is gone must not end us through a broken pipe while a secret
	// is on its way to its sink. The write fails instead.
	signal.Ignore(syscall.SIGPIPE)
	ctx, stop := signal.NotifyContext(context.Background(), endings()...)
	code := cli.Run(ctx, version, os.Args[1:], cli.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr})
	stop()
	os.Exit(code)
}

// endings are the signals after which what was begun is finished. A hang-up counts
// unless whoever started us wants none, as nohup does.
func endings() []os.Signal {
	signals := []os.Signal{os.Interrupt, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) {
		signals = append(signals, syscall.SIGHUP)
	}
	return signals
}
