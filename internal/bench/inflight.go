package main

import (
	"context"
	"encoding/json"
	"errors"
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
// way and the vendor takes 20 ms. What that latency allows is what a bare HTTP
// client gets of the same vendor: a sleep of 20 ms takes a little longer.
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
	client := v.client(callers)
	defer client.CloseIdleConnections()
	arguments := map[string]any{"connection": "launchdarkly", "token_id": id}
	get := func(p *process) func() error {
		return func() error { _, err := p.call("get_token", arguments); return err }
	}
	turns := []struct {
		call  func() error
		rates []float64
	}{{call: get(ours)}, {call: get(bare)}, {call: func() error { _, err := v.read(ctx, client, "/api/v2/tokens/"+id); return err }}}
	for range b.rounds + 1 {
		for i := range turns {
			rate, err := rateOf(turns[i].call)
			if err != nil {
				return nil, err
			}
			turns[i].rates = append(turns[i].rates, rate)
		}
	}
	our, plain, alone := turns[0].rates[1:], turns[1].rates[1:], turns[2].rates[1:] // the first round warms up
	return []result{{
		Bar: fmt.Sprintf("in flight: %d calls, vendor at 20 ms", callers), Measured: ratio(our, alone), Limit: 0.9, AtLeast: true,
		Note: fmt.Sprintf("%.0f calls/s; bare client %.0f, bare server %.0f, in theory %.0f", median(our), median(alone), median(plain), callers/vendorLatency.Seconds()),
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

// rateOf is how often a second call returns where as many as there are callers
// are always under way.
func rateOf(call func() error) (float64, error) {
	errs := make([]error, callers)
	began := time.Now()
	var wg sync.WaitGroup
	for i := range errs {
		wg.Go(func() {
			for range callsPerCaller {
				errs[i] = errors.Join(errs[i], call())
			}
		})
	}
	wg.Wait()
	took := time.Since(began).Seconds()
	return callers * callsPerCaller / took, errors.Join(errs...)
}
