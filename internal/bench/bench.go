// Command bench measures how fast and how small tokenreeve is: its released
// binary against a bare server of the same MCP library (bareserver) and a bare
// HTTP client, in turns in one run, since ratios hold better than times. It
// reports what it measured, also where a goal is missed. Everything is on this
// machine; the vendors are the sandbox, in a process of their own.
//
//	go run ./internal/bench [-only WORD] [-rounds N] [-json FILE] [-strict]
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"time"
)

// timeLimit bounds a whole run.
const timeLimit = 10 * time.Minute

// bench is one run.
type bench struct {
	dir    string // temporary; holds the binaries and all state
	server string // tokenreeve's binary
	bare   string // bareserver's binary
	rounds int
}

// measurement measures one or more bars.
type measurement struct {
	name string
	run  func(*bench, context.Context) ([]result, error)
}

func measurements() []measurement {
	return []measurement{
		{"start", (*bench).start},
		{"memory", (*bench).memory},
		{"list", (*bench).list},
		{"inflight", (*bench).inFlight},
		{"http", (*bench).http},
		{"sessions", (*bench).sessions},
		{"model", (*bench).model},
		{"longlist", (*bench).longList},
		{"huge", (*bench).huge},
	}
}

func main() {
	// The vendors of a run are this program once more.
	if len(os.Args) > 1 && os.Args[1] == vendorCommand {
		exit(serveVendors(os.Args[2:]))
	}
	only := flag.String("only", "", "measure only what has this word in its name: "+names())
	rounds := flag.Int("rounds", 7, "rounds of which the median is taken")
	file := flag.String("json", "", "write the results to this file as well")
	strict := flag.Bool("strict", false, "exit with 1 where a goal is missed")
	flag.Parse()
	exit(run(*only, *rounds, *file, *strict))
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

func names() string {
	var all []string
	for _, m := range measurements() {
		all = append(all, m.name)
	}
	return strings.Join(all, ", ")
}

func run(only string, rounds int, file string, strict bool) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, timeLimit)
	defer cancel()
	dir, err := os.MkdirTemp("", "tokenreeve-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	b := &bench{dir: dir, server: filepath.Join(dir, "tokenreeve"), bare: filepath.Join(dir, "bareserver"), rounds: max(rounds, 1)}
	if err := errors.Join(build(ctx, b.server, "."), build(ctx, b.bare, "./internal/bench/bareserver")); err != nil {
		return err
	}
	var results []result
	for _, m := range measurements() {
		if !strings.Contains(m.name, only) {
			continue
		}
		began := time.Now()
		measured, err := m.run(b, ctx)
		if err != nil {
			measured = append(measured, result{Bar: m.name, Error: err.Error()})
		}
		fmt.Fprintf(os.Stderr, "%s: %.1f s\n", m.name, time.Since(began).Seconds())
		results = append(results, measured...)
	}
	return report(results, file, strict)
}

// build makes a binary as a release does. It must be called in the module's root.
func build(ctx context.Context, binary, pkg string) error {
	command := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w -X main.version=bench", "-o", binary, pkg) //nolint:gosec // the paths are ours
	command.Stderr = os.Stderr
	if err := command.Run(); err != nil {
		return fmt.Errorf("build %s: %w", pkg, err)
	}
	return nil
}
