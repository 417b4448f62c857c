package main

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"
)

const (
	callers        = 32
	callsPerCaller = 40
	vendorLatency  = 20 * time.Millisecond
)

// inFlight measures how many calls a second come back where 32 are always under
// way and the vendor takes 20 ms: against what that latency allows.
func (b *bench) inFlight(ctx context.Context) ([]result, error) {
	v, err := startVendors(ctx, world{launchDarkly: 50, latency: vendorLatency})
	if err != nil {
		return nil, err
	}
	defer v.stop()
	ours, _, err := b.begun(ctx, b.server, v.env()...)
	if err != nil {
		return nil, err
	}
	defer ours.kill()
	bare, _, err := b.begun(ctx, b.bare, v.bareEnv()...)
	if err != nil {
		return nil, err
	}
	defer bare.kill()
	id, err := firstID(ours)
	if err != nil {
		return nil, err
	}
	var ourRates, bareRates []float64
	for range b.rounds + 1 {
		for _, turn := range []struct {
			server *process
			rates  *[]float64
		}{{ours, &ourRates}, {bare, &bareRates}} {
			rate, err := turn.server.rate("get_token", map[string]any{"connection": "launchdarkly", "token_id": id})
			if err != nil {
				return nil, err
			}
			*turn.rates = append(*turn.rates, rate)
		}
	}
	allowed := callers / vendorLatency.Seconds()
	our, plain := median(ourRates[1:]), median(bareRates[1:]) // the first round only warms up
	return []result{{
		Bar: fmt.Sprintf("in flight: %d calls, vendor at 20 ms", callers), Measured: our / allowed, Limit: 0.9, AtLeast: true,
		Note: fmt.Sprintf("%.0f calls/s of %.0f; bare %.0f", our, allowed, plain),
	}}, nil
}

func firstID(p *process) (string, error) {
	raw, err := p.call("list_tokens", map[string]any{"connection": "launchdarkly", "limit": 1})
	if err != nil {
		return "", err
	}
	var page struct {
		Tokens []struct {
			ID string `json:"id"`
		} `json:"tokens"`
	}
	if err := json.Unmarshal(raw, &page); err != nil || len(page.Tokens) == 0 {
		return "", fmt.Errorf("list_tokens: no token in %s", raw)
	}
	return page.Tokens[0].ID, nil
}

// rate is calls per second.
func (p *process) rate(tool string, arguments any) (float64, error) {
	errs := make([]error, callers)
	began := time.Now()
	var wg sync.WaitGroup
	for i := range errs {
		wg.Go(func() { errs[i] = p.calls(callsPerCaller, tool, arguments) })
	}
	wg.Wait()
	took := time.Since(began).Seconds()
	for _, err := range errs {
		if err != nil {
			return 0, err
		}
	}
	return callers * callsPerCaller / took, nil
}
