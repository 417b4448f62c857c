package main

import (
	"context"
	"fmt"
	"strings"
)

const (
	hugeTokens = 100_000
	hugeKept   = 50
	hugeLimit  = 64 // MiB
)

// huge measures the most memory that a server ever had after it listed 100,000
// tokens with a filter that keeps 50, at each vendor.
func (b *bench) huge(ctx context.Context) ([]result, error) {
	var most float64
	var notes []string
	for _, one := range []struct {
		connection string
		world      world
		env        func(*vendors) []string
		filter     map[string]any
	}{
		// Atlassian would search for a name by itself; the needles were made just now.
		{"atlassian", world{atlassian: hugeTokens - hugeKept}, (*vendors).atlassianEnv, map[string]any{"created_after": "1h"}},
		{"launchdarkly", world{launchDarkly: hugeTokens - hugeKept}, (*vendors).launchDarklyEnv, map[string]any{"query": needle}},
		{"mailtrap", world{mailtrap: hugeTokens - hugeKept}, (*vendors).mailtrapEnv, map[string]any{"query": needle}},
	} {
		one.world.needles = hugeKept
		one.filter["connection"], one.filter["limit"] = one.connection, 2*hugeKept // more than there are: all is read
		size, took, err := b.hugeListing(ctx, one.world, one.env, one.filter)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", one.connection, err)
		}
		most = max(most, size)
		notes = append(notes, fmt.Sprintf("%s %.1f MiB in %.1f s", one.connection, size, took/1000))
	}
	return []result{{Bar: "100,000 tokens, 50 kept: most memory", Measured: most, Limit: hugeLimit, Unit: " MiB", Note: strings.Join(notes, ", ")}}, nil
}

func (b *bench) hugeListing(ctx context.Context, w world, env func(*vendors) []string, filter map[string]any) (size, took float64, err error) {
	v, err := startVendors(ctx, w)
	if err != nil {
		return 0, 0, err
	}
	defer v.stop()
	p, _, err := b.begun(ctx, b.server, env(v)...)
	if err != nil {
		return 0, 0, err
	}
	defer p.kill()
	if took, err = timed(func() error { return p.wholeListing(hugeTokens, filter) }); err != nil {
		return 0, 0, err
	}
	size, err = p.mebibytes("VmHWM")
	return size, took, err
}
