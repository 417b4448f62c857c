// Command tokenreeve is an MCP server through which AI agents administer API
// tokens at Atlassian Cloud, LaunchDarkly and Mailtrap.
package main

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
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := cli.Run(ctx, version, os.Args[1:], cli.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr})
	stop()
	os.Exit(code)
}
