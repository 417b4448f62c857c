package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/tokenreeve/tokenreeve/internal/rawmcp"
)

const (
	httpCalls = 6400 // of all clients together, in a round
	idle      = 1000 // sessions
	bearer    = "bench-bearer-token-0123456789abcdef"
)

// listening is a server over HTTP.
type listening struct {
	*process
	caller rawmcp.Caller
}

var errSilent = errors.New("the server does not say where it serves")

// listen starts a server over HTTP.
func (b *bench) listen(ctx context.Context, binary string, env []string, arguments ...string) (*listening, error) {
	command := exec.CommandContext(ctx, binary, arguments...) //nolint:gosec // the paths are ours
	command.Env = append([]string{"HOME=" + b.dir, "PATH=" + os.Getenv("PATH")}, env...)
	command.Dir = b.dir
	stderr, err := command.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := command.Start(); err != nil {
		return nil, err
	}
	l := &listening{process: &process{command: command}}
	lines := bufio.NewReader(stderr)
	serves := regexp.MustCompile(`serves (http://\S+:\d+)/mcp`)
	for {
		line, err := lines.ReadString('\n')
		if found := serves.FindStringSubmatch(line); found != nil {
			l.caller = rawmcp.Caller{
				URL: found[1], HTTP: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 2 * idle}},
				Present: func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+bearer) },
			}
			go func() { _, _ = io.Copy(io.Discard, lines) }()
			return l, nil
		}
		if err != nil {
			l.kill()
			return nil, errSilent
		}
	}
}

// listenBoth starts tokenreeve and the bare server.
func (b *bench) listenBoth(ctx context.Context, v *vendors) (ours, bare *listening, err error) {
	ours, err = b.listen(ctx, b.server, append(v.env(), "TOKENREEVE_BEARER_TOKEN="+bearer),
		"serve", "--listen", "127.0.0.1:0", "--max-sessions", "10000", "--max-calls", "1000")
	if err != nil {
		return nil, nil, err
	}
	bare, err = b.listen(ctx, b.bare, append(v.bareEnv(), "BARE_LISTEN=127.0.0.1:0"))
	if err != nil {
		ours.kill()
		return nil, nil, err
	}
	return ours, bare, nil
}

// http measures how many calls a second 32 clients get over Streamable HTTP, with one request to the
// vendor each.
func (b *bench) http(ctx context.Context) ([]result, error) {
	v, err := startVendors(ctx, world{launchDarkly: 50})
	if err != nil {
		return nil, err
	}
	defer v.stop()
	ours, bare, err := b.listenBoth(ctx, v)
	if err != nil {
		return nil, err
	}
	defer ours.kill()
	defer bare.kill()
	id, err := b.anyID(ctx, v)
	if err != nil {
		return nil, err
	}
	if err := answerAlike(ctx, ours, bare, id); err != nil {
		return nil, err
	}
	var results []result
	for _, way := range []rawmcp.Way{rawmcp.Session, rawmcp.Sessionless} {
		var our, plain, ourCPU, plainCPU []float64
		for round := range b.rounds + 1 {
			for _, turn := range []struct {
				server    *listening
				rate, cpu *[]float64
			}{{ours, &our, &ourCPU}, {bare, &plain, &plainCPU}} {
				rate, cpu, err := turn.server.rate(ctx, way, id)
				if err != nil {
					return results, err
				}
				if round > 0 { // the first one warms up
					*turn.rate, *turn.cpu = append(*turn.rate, rate), append(*turn.cpu, cpu)
				}
			}
		}
		results = append(results, result{
			Bar: fmt.Sprintf("http: calls a second, %d clients, %s", callers, way), Measured: ratio(our, plain), Limit: 0.8, AtLeast: true,
			Note: fmt.Sprintf("%.0f calls/s; bare %.0f; CPU time a call %.0f µs, bare %.0f µs", median(our), median(plain), median(ourCPU), median(plainCPU)),
		})
	}
	return results, nil
}

// answerAlike returns an error unless both servers answer the call that is measured with the same text: a
// shorter one would cost its server and the clients less.
func answerAlike(ctx context.Context, ours, bare *listening, id string) error {
	var texts []string
	for _, l := range []*listening{ours, bare} {
		line, err := l.caller.Open(ctx, rawmcp.Sessionless)
		if err != nil {
			return err
		}
		got, err := line.Call(ctx, "get_token", tokenOf(id))
		if err != nil {
			return err
		}
		for _, c := range got.Content {
			texts = append(texts, strings.TrimSpace(c.Text))
		}
	}
	if len(texts) != 2 || texts[0] != texts[1] {
		return fmt.Errorf("get_token is answered differently: %q", texts)
	}
	return nil
}

func tokenOf(id string) map[string]any {
	return map[string]any{"connection": "launchdarkly", "token_id": id}
}

// anyID is the id of some token.
func (b *bench) anyID(ctx context.Context, v *vendors) (string, error) {
	p, _, err := b.begun(ctx, b.server, v.env()...)
	if err != nil {
		return "", err
	}
	defer p.kill()
	return firstID(p)
}

// rate is how often a second calls return where each client has one under way, and the CPU time of
// one call at the server, in µs.
func (l *listening) rate(ctx context.Context, way rawmcp.Way, id string) (rate, cpu float64, err error) {
	lines := make([]*rawmcp.Line, callers)
	for i := range lines {
		if lines[i], err = l.caller.Open(ctx, way); err != nil {
			return 0, 0, err
		}
	}
	arguments := tokenOf(id)
	began := time.Now()
	used, err := l.cpuOf(func() error {
		errs := make([]error, len(lines))
		var wg sync.WaitGroup
		for i, line := range lines {
			wg.Go(func() { errs[i] = repeat(ctx, line, httpCalls/callers, arguments) })
		}
		wg.Wait()
		return errors.Join(errs...)
	})
	took := time.Since(began)
	if err != nil {
		return 0, 0, err
	}
	if way == rawmcp.Session {
		for _, line := range lines {
			err = errors.Join(err, line.End(ctx))
		}
	}
	return httpCalls / took.Seconds(), float64(used.Microseconds()) / httpCalls, err
}

func repeat(ctx context.Context, line *rawmcp.Line, times int, arguments map[string]any) error {
	for range times {
		got, err := line.Call(ctx, "get_token", arguments)
		if err != nil {
			return err
		}
		if got.IsError {
			return fmt.Errorf("get_token: %v", got.Content)
		}
	}
	return nil
}

// sessions measures the memory of a session whose client does nothing.
func (b *bench) sessions(ctx context.Context) ([]result, error) {
	v, err := startVendors(ctx, world{})
	if err != nil {
		return nil, err
	}
	defer v.stop()
	var results []result
	for _, kind := range []struct {
		name  string
		way   rawmcp.Way
		hears bool
	}{{"Streamable HTTP", rawmcp.Session, false}, {"Streamable HTTP, listening", rawmcp.Session, true}, {"server-sent events", rawmcp.Events, false}} {
		var our, plain []float64
		for range b.rounds {
			ours, bare, err := b.listenBoth(ctx, v)
			if err != nil {
				return results, err
			}
			ourSize, err := ours.sessionSize(ctx, kind.way, kind.hears)
			ours.kill()
			var plainSize float64
			if err == nil {
				plainSize, err = bare.sessionSize(ctx, kind.way, kind.hears)
			}
			bare.kill()
			if err != nil {
				return results, fmt.Errorf("%s: %w", kind.name, err)
			}
			our, plain = append(our, ourSize), append(plain, plainSize)
		}
		results = append(results, result{
			Bar: "http: memory of an idle session, " + kind.name, Measured: ratio(our, plain), Limit: 1.5,
			Note: fmt.Sprintf("%.1f KiB; bare %.1f KiB", median(our), median(plain)),
		})
	}
	return results, nil
}

// sessionSize is by how much a session makes the process grow, in KiB.
func (l *listening) sessionSize(ctx context.Context, way rawmcp.Way, hears bool) (float64, error) {
	if err := l.openIdle(ctx, 20, way, hears); err != nil { // what is made once is there
		return 0, err
	}
	before, err := l.mebibytes("VmRSS")
	if err != nil {
		return 0, err
	}
	if err := l.openIdle(ctx, idle, way, hears); err != nil {
		return 0, err
	}
	after, err := l.mebibytes("VmRSS")
	return (after - before) * 1024 / idle, err
}

// openIdle opens sessions, which end with the server.
func (l *listening) openIdle(ctx context.Context, n int, way rawmcp.Way, hears bool) error {
	for range n {
		line, err := l.caller.Open(ctx, way)
		if err != nil {
			return err
		}
		if hears {
			if _, err := line.Hear(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}
