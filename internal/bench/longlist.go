package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"time"
)

const (
	longTokens   = 20_000
	pageRows     = 100
	pagesAtATime = 8
)

// longList measures the listing of 20,000 LaunchDarkly tokens at 20 ms a page,
// against a client that fetches the same pages eight at a time and only decodes
// them. The first listing of a server also asks who the credential is.
func (b *bench) longList(ctx context.Context) ([]result, error) {
	v, err := startVendors(ctx, world{launchDarkly: longTokens, latency: vendorLatency})
	if err != nil {
		return nil, err
	}
	defer v.stop()
	var bare, first, later []float64
	for range b.rounds {
		took, err := timed(func() error { return bareListing(ctx, v) })
		if err != nil {
			return nil, err
		}
		bare = append(bare, took)
		if err := b.ourListings(ctx, v, &first, &later); err != nil {
			return nil, err
		}
	}
	against := func(ours []float64) string { return fmt.Sprintf("%.0f ms; bare %.0f ms", median(ours), median(bare)) }
	return []result{
		{Bar: "20,000 tokens at 20 ms a page: first listing", Measured: ratio(first, bare), Limit: 1.15, Note: against(first)},
		{Bar: "20,000 tokens at 20 ms a page: later ones", Measured: ratio(later, bare), Limit: 1.15, Note: against(later)},
	}, nil
}

// timed is how long work takes, in milliseconds.
func timed(work func() error) (float64, error) {
	began := time.Now()
	err := work()
	return time.Since(began).Seconds() * 1000, err
}

// ourListings lists twice with a new server.
func (b *bench) ourListings(ctx context.Context, v *vendors, times ...*[]float64) error {
	p, _, err := b.begun(ctx, b.server, v.env()...)
	if err != nil {
		return err
	}
	defer p.kill()
	for _, kind := range times {
		took, err := timed(func() error {
			return p.wholeListing(longTokens, map[string]any{"connection": "launchdarkly", "query": "no token has this name"})
		})
		if err != nil {
			return err
		}
		*kind = append(*kind, took)
	}
	return nil
}

// wholeListing lists what the arguments select and checks that everything was read.
func (p *process) wholeListing(tokens int, arguments map[string]any) error {
	raw, err := p.call("list_tokens", arguments)
	if err != nil {
		return err
	}
	var page struct {
		Coverage []struct {
			Read     int  `json:"read"`
			Complete bool `json:"complete"`
		} `json:"coverage"`
	}
	if err := json.Unmarshal(raw, &page); err != nil {
		return err
	}
	if len(page.Coverage) != 1 || !page.Coverage[0].Complete || page.Coverage[0].Read != tokens {
		return fmt.Errorf("not all %d tokens were read: %+v", tokens, page.Coverage)
	}
	return nil
}

// bareListing fetches and decodes every page, eight at a time.
func bareListing(ctx context.Context, v *vendors) error {
	client := v.client(pagesAtATime)
	defer client.CloseIdleConnections()
	offsets := make(chan int, longTokens/pageRows)
	for offset := 0; offset < longTokens; offset += pageRows {
		offsets <- offset
	}
	close(offsets)
	errs := make([]error, pagesAtATime)
	var wg sync.WaitGroup
	for i := range errs {
		wg.Go(func() {
			for offset := range offsets {
				errs[i] = errors.Join(errs[i], barePage(ctx, client, v, offset))
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

func barePage(ctx context.Context, client *http.Client, v *vendors, offset int) error {
	data, err := v.read(ctx, client, "/api/v2/tokens?limit="+strconv.Itoa(pageRows)+"&offset="+strconv.Itoa(offset)+"&showAll=true")
	if err != nil {
		return err
	}
	var page struct {
		Items []struct {
			ID     string `json:"_id"`
			Member struct {
				ID        string `json:"_id"`
				FirstName string `json:"firstName"`
				LastName  string `json:"lastName"`
				Email     string `json:"email"`
			} `json:"_member"`
			MemberID      string          `json:"memberId"`
			Name          string          `json:"name"`
			Description   string          `json:"description"`
			Created       int64           `json:"creationDate"`
			Modified      int64           `json:"lastModified"`
			LastUsed      int64           `json:"lastUsed"`
			Role          string          `json:"role"`
			CustomRoleIDs []string        `json:"customRoleIds"`
			InlineRole    json.RawMessage `json:"inlineRole"`
			Token         string          `json:"token"`
			ServiceToken  bool            `json:"serviceToken"`
			APIVersion    int             `json:"defaultApiVersion"`
		} `json:"items"`
		TotalCount int `json:"totalCount"`
	}
	if err := json.Unmarshal(data, &page); err != nil {
		return err
	}
	if len(page.Items) != pageRows {
		return fmt.Errorf("a page of %d tokens", len(page.Items))
	}
	return nil
}
