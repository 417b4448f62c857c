package main

import (
	"context"
	"fmt"
)

const callsPerRound = 300

// list measures the CPU time of one list_tokens call of 50 rows: where the
// account holds just those, and where the vendor's page holds more.
func (b *bench) list(ctx context.Context) ([]result, error) {
	var results []result
	for _, account := range []struct {
		tokens int
		bar    string
	}{{50, "list_tokens: CPU, 50 rows of 50"}, {1000, "list_tokens: CPU, 50 rows of a page of 100"}} {
		ours, bare, err := b.listCPU(ctx, account.tokens)
		if err != nil {
			return results, err
		}
		results = append(results, result{
			Bar: account.bar, Measured: ratio(ours, bare), Limit: 1.3,
			Note: fmt.Sprintf("%.2f ms a call; bare %.2f ms", median(ours), median(bare)),
		})
	}
	return results, nil
}

// listCPU returns milliseconds of CPU time per call, by round.
func (b *bench) listCPU(ctx context.Context, tokens int) (ours, bare []float64, err error) {
	v, err := startVendors(ctx, world{launchDarkly: tokens})
	if err != nil {
		return nil, nil, err
	}
	defer v.stop()
	turns := []struct {
		binary string
		env    []string
		server *process
		millis []float64
	}{{binary: b.server, env: v.env()}, {binary: b.bare, env: v.bareEnv()}}
	arguments := map[string]any{"connection": "launchdarkly"}
	for i := range turns {
		t := &turns[i]
		if t.server, _, err = b.begun(ctx, t.binary, t.env...); err != nil {
			return nil, nil, err
		}
		defer t.server.kill()
		if err := t.server.calls(callsPerRound, "list_tokens", arguments); err != nil { // warm
			return nil, nil, err
		}
	}
	for range b.rounds {
		for i := range turns {
			t := &turns[i]
			used, err := t.server.cpuOf(func() error { return t.server.calls(callsPerRound, "list_tokens", arguments) })
			if err != nil {
				return nil, nil, err
			}
			t.millis = append(t.millis, used.Seconds()*1000/callsPerRound)
		}
	}
	return turns[0].millis, turns[1].millis, nil
}
