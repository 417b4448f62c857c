package main

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/tiktoken-go/tokenizer"
)

// model measures what a language model reads: the tools, and a row of list_tokens.
func (b *bench) model(ctx context.Context) ([]result, error) {
	codec, err := tokenizer.Get(tokenizer.O200kBase)
	if err != nil {
		return nil, err
	}
	v, err := startVendors(ctx, world{atlassian: 300, launchDarkly: 300, mailtrap: 300})
	if err != nil {
		return nil, err
	}
	defer v.stop()
	var results []result
	for _, set := range []struct {
		bar   string
		env   []string
		limit float64
	}{
		{"tools: three vendors", v.env(), 3000},
		{"tools: Atlassian alone", v.atlassianEnv(), 2200},
		{"tools: LaunchDarkly alone", v.launchDarklyEnv(), 2200},
		{"tools: Mailtrap alone", v.mailtrapEnv(), 2200},
	} {
		tools, err := b.tools(ctx, set.env)
		if err != nil {
			return results, err
		}
		read, whole, err := toolTokens(codec, tools)
		if err != nil {
			return results, err
		}
		results = append(results, result{Bar: set.bar, Measured: float64(read), Limit: set.limit, Unit: " tokens", Note: "name, description, input schema"})
		if len(set.env) == len(v.env()) {
			results = append(results, result{Bar: "tools: whole definitions", Measured: float64(whole), Limit: 6500, Unit: " tokens"})
		}
	}
	row, err := b.rowTokens(ctx, codec, v)
	return append(results, row), err
}

func (b *bench) tools(ctx context.Context, env []string) (json.RawMessage, error) {
	p, tools, err := b.begun(ctx, b.server, env...)
	if err != nil {
		return nil, err
	}
	p.kill()
	return tools, nil
}

// toolTokens counts what a model reads of a tools/list, and all of it.
func toolTokens(codec tokenizer.Codec, list json.RawMessage) (read, whole int, err error) {
	var definitions struct {
		Tools []json.RawMessage `json:"tools"`
	}
	if err := json.Unmarshal(list, &definitions); err != nil {
		return 0, 0, err
	}
	for _, definition := range definitions.Tools {
		var seen struct {
			Name        string          `json:"name"`
			Description string          `json:"description"`
			InputSchema json.RawMessage `json:"inputSchema"`
		}
		if err := json.Unmarshal(definition, &seen); err != nil {
			return 0, 0, err
		}
		text, err := json.Marshal(seen)
		if err != nil {
			return 0, 0, err
		}
		ofRead, err := codec.Count(string(text))
		if err != nil {
			return 0, 0, err
		}
		ofWhole, err := codec.Count(string(definition))
		if err != nil {
			return 0, 0, err
		}
		read, whole = read+ofRead, whole+ofWhole
	}
	return read, whole, nil
}

// rowTokens measures a concise row that names its connection, on average over
// the vendors.
func (b *bench) rowTokens(ctx context.Context, codec tokenizer.Codec, v *vendors) (result, error) {
	p, _, err := b.begun(ctx, b.server, v.env()...)
	if err != nil {
		return result{}, err
	}
	defer p.kill()
	rows, tokens := map[string]int{}, map[string]int{}
	arguments := map[string]any{"sort": "name", "limit": 200} // by name, the vendors' rows mix
	for {
		raw, err := p.call("list_tokens", arguments)
		if err != nil {
			return result{}, err
		}
		var page struct {
			Tokens     []json.RawMessage `json:"tokens"`
			NextCursor string            `json:"next_cursor"`
		}
		if err := json.Unmarshal(raw, &page); err != nil {
			return result{}, err
		}
		for _, row := range page.Tokens {
			var named struct {
				Connection string `json:"connection"`
			}
			if err := json.Unmarshal(row, &named); err != nil {
				return result{}, err
			}
			n, err := codec.Count(string(row))
			if err != nil {
				return result{}, err
			}
			rows[named.Connection]++
			tokens[named.Connection] += n
		}
		if page.NextCursor == "" {
			break
		}
		arguments = map[string]any{"cursor": page.NextCursor}
	}
	mean := func(name string) float64 { return float64(tokens[name]) / float64(max(rows[name], 1)) }
	atlassian, launchDarkly, mailtrap := mean("atlassian"), mean("launchdarkly"), mean("mailtrap")
	return result{
		Bar: "list_tokens: a concise row", Measured: (atlassian + launchDarkly + mailtrap) / 3, Limit: 80, Unit: " tokens",
		Note: fmt.Sprintf("Atlassian %.0f, LaunchDarkly %.0f, Mailtrap %.0f", atlassian, launchDarkly, mailtrap),
	}, nil
}
