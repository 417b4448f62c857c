// Command tokenreeve is an MCP server through which AI agents administer API
// tokens at Atlassian Cloud, LaunchDarkly and Mailtrap.
package main

//go:generate go run ./internal/docgen -readme README.md -tools docs/tools.md -metrics docs/telemetry.md

import (
	"context"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/tokenreeve/tokenreeve/internal/cli"
)

// version is set by the build.
var version string

func main() {
	// A client that is gone must not end us through a broken pipe while a secret
	// is on its way to its sink: the write fails instead. To be notified, unlike to
	// ignore, is not inherited by the commands that we run.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	ctx, stop := signal.NotifyContext(context.Background(), endings()...)
	code := cli.Run(ctx, versionOf(), os.Args[1:], cli.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr})
	stop()
	os.Exit(code)
}

// versionOf returns the version that the build set, else the module's, which go
// install knows.
func versionOf() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "dev"
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
