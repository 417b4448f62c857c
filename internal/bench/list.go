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

// listCPU returns milliseconds of CPU time per call, by round. Each round has new
// servers, which call for a while before they are measured.
func (b *bench) listCPU(ctx context.Context, tokens int) (ours, bare []float64, err error) {
	v, err := startVendors(ctx, world{launchDarkly: tokens})
	if err != nil {
		return nil, nil, err
	}
	defer v.stop()
	for range b.rounds {
		for _, turn := range []struct {
			millis *[]float64
			binary string
			env    []string
		}{{&ours, b.server, v.env()}, {&bare, b.bare, v.bareEnv()}} {
			used, err := b.callCPU(ctx, turn.binary, turn.env)
			if err != nil {
				return nil, nil, err
			}
			*turn.millis = append(*turn.millis, used)
		}
	}
	return ours, bare, nil
}

func (b *bench) callCPU(ctx context.Context, binary string, env []string) (float64, error) {
	p, _, err := b.begun(ctx, binary, env...)
	if err != nil {
		return 0, err
	}
	defer p.kill()
	arguments := map[string]any{"connection": "launchdarkly"}
	if err := p.calls(callsPerRound/3, "list_tokens", arguments); err != nil {
		return 0, err
	}
	used, err := p.cpuOf(func() error { return p.calls(callsPerRound, "list_tokens", arguments) })
	return used.Seconds() * 1000 / callsPerRound, err
}
