package main

import (
	"context"
	"fmt"
	"time"
)

// manyCalls is how many calls a server's memory must survive.
const manyCalls = 4000

// untilOpened is when a server has opened its ledger in the background.
const untilOpened = time.Second

// memory measures the resident memory after tools/list, against the bare
// server's, and after many calls of 50 rows, against its own.
func (b *bench) memory(ctx context.Context) ([]result, error) {
	v, err := startVendors(ctx, world{launchDarkly: 50})
	if err != nil {
		return nil, err
	}
	defer v.stop()
	record, err := b.recorded(ctx)
	if err != nil {
		return nil, err
	}
	var bare, ours, recorded []float64
	for range b.rounds {
		for _, turn := range []struct {
			sizes  *[]float64
			binary string
			env    []string
			rest   time.Duration
		}{{&bare, b.bare, nil, 0}, {&ours, b.server, v.env(), 0}, {&recorded, b.server, append(v.env(), record), untilOpened}} {
			size, err := b.restingSize(ctx, turn.binary, turn.env, turn.rest)
			if err != nil {
				return nil, err
			}
			*turn.sizes = append(*turn.sizes, size)
		}
	}
	results := []result{{
		Bar: "memory: after tools/list", Measured: ratio(ours, bare), Limit: 1.7,
		Note: fmt.Sprintf("%.1f MiB; bare %.1f MiB", median(ours), median(bare)),
	}, {
		Bar: fmt.Sprintf("memory: a second later, with %d operations on record", recordedOperations), Measured: ratio(recorded, bare), Limit: 1.8,
		Note: fmt.Sprintf("%.1f MiB; bare %.1f MiB", median(recorded), median(bare)),
	}}
	used, err := b.usedSize(ctx, v)
	if err != nil {
		return results, err
	}
	return append(results, result{
		Bar: fmt.Sprintf("memory: after %d calls", manyCalls), Measured: used / median(ours), Limit: 1.8,
		Note: fmt.Sprintf("%.1f MiB; own before %.1f MiB", used, median(ours)),
	}), nil
}

func (b *bench) restingSize(ctx context.Context, binary string, env []string, rest time.Duration) (float64, error) {
	p, _, err := b.begun(ctx, binary, env...)
	if err != nil {
		return 0, err
	}
	defer p.kill()
	time.Sleep(rest)
	return p.mebibytes("VmRSS")
}

func (b *bench) usedSize(ctx context.Context, v *vendors) (float64, error) {
	p, _, err := b.begun(ctx, b.server, v.env()...)
	if err != nil {
		return 0, err
	}
	defer p.kill()
	if err := p.calls(manyCalls, "list_tokens", map[string]any{"connection": "launchdarkly"}); err != nil {
		return 0, err
	}
	return p.mebibytes("VmRSS")
}
