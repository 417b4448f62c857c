package tools

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"sync"

	"github.com/tokenreeve/tokenreeve/internal/policy"
	"github.com/tokenreeve/tokenreeve/providers"
)

// countTokensIn are the arguments of count_tokens: the filters of list_tokens.
type countTokensIn struct {
	Connection      string   `json:"connection,omitempty" jsonschema:"enum=@connections" jsonschema_description:"default: all"`
	Owner           string   `json:"owner,omitempty" jsonschema_description:"as in list_tokens"`
	ServiceAccounts []string `json:"service_accounts,omitempty" jsonschema:"maxItems=100" jsonschema_description:"same"`
	Query           string   `json:"query,omitempty" jsonschema_description:"same"`
	Kind            string   `json:"kind,omitempty" enum:"user,service,unknown" jsonschema_description:"same"`
	Status          string   `json:"status,omitempty" enum:"active,blocked,expired,in_grace" jsonschema_description:"same"`
	Access          string   `json:"access,omitempty" enum:"admin,write,read,custom,unknown" jsonschema_description:"same"`
	CreatedAfter    string   `json:"created_after,omitempty" jsonschema_description:"same"`
	CreatedBefore   string   `json:"created_before,omitempty" jsonschema_description:"same"`
	UnusedFor       string   `json:"unused_for,omitempty" jsonschema_description:"same"`
	ExpiresWithin   string   `json:"expires_within,omitempty" jsonschema_description:"same"`
	GroupBy         string   `json:"group_by,omitempty" jsonschema:"enum=connection,enum=owner,enum=kind,enum=status,enum=access" jsonschema_description:"count by this"`
}

func (in countTokensIn) filters() filterArguments {
	return filterArguments{
		Owner: in.Owner, ServiceAccounts: in.ServiceAccounts, Query: in.Query, Kind: in.Kind, Status: in.Status,
		Access: in.Access, CreatedAfter: in.CreatedAfter, CreatedBefore: in.CreatedBefore,
		UnusedFor: in.UnusedFor, ExpiresWithin: in.ExpiresWithin,
	}
}

// countTokensOut is the result of count_tokens.
type countTokensOut struct {
	Total          int        `json:"total"`
	Groups         []group    `json:"groups,omitempty"`
	GroupsLeftOut  int        `json:"groups_left_out,omitempty" jsonschema_description:"smaller groups not shown"`
	UnknownService []string   `json:"unknown_service_accounts,omitempty"`
	Coverage       []coverage `json:"coverage"`
}

type group struct {
	Key   string `json:"key"`
	Count int    `json:"count"`
}

func countTokens() Tool {
	return define(Tool{
		Name:  "count_tokens",
		Title: "Count API tokens",
		Description: "Counts API tokens of one or all connections, with the filters of list_tokens, grouped on request. " +
			"Start here on a large account. coverage says whether the count is complete.",
		Class:      policy.Read,
		Needs:      "as list_tokens",
		Capability: "count",
		Serves:     servesAs[providers.Lister],
	}, handleCountTokens)
}

// The bounds of a result.
const (
	maxGroups        = 100
	maxGroupTokens   = 4000 // of a language model, as the next
	maxUnknownTokens = 2500
	groupTokens      = 10 // of a group, but for its key
)

func handleCountTokens(ctx context.Context, c *Call, in countTokensIn) (countTokensOut, error) {
	filter, err := in.filters().filter(c.Now())
	if err != nil {
		return countTokensOut{}, err
	}
	connections, err := c.selected(ctx, in.Connection)
	if err != nil {
		return countTokensOut{}, err
	}
	if connections, err = answerable(filter, connections); err != nil {
		return countTokensOut{}, err
	}
	p := c.startProgress(ctx, "tokens read")
	defer p.stop()
	t := &tally{by: in.GroupBy, groups: map[string]int{}}
	covered := c.newReading(connections, filter, p).count(ctx, t)
	if err := allFailed(covered); err != nil {
		return countTokensOut{}, err
	}
	out := countTokensOut{Total: t.total, UnknownService: fitting(t.unknown, maxUnknownTokens), Coverage: covered}
	out.Groups, out.GroupsLeftOut = largestGroups(t.groups, maxGroups)
	return out, nil
}

// tally adds up the tokens of all connections.
type tally struct {
	by string

	mu      sync.Mutex
	total   int
	groups  map[string]int
	unknown []string
}

func (t *tally) add(key string, n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.total += n
	if t.by != "" {
		t.groups[key] += n
	}
}

func (t *tally) key(connection string, token *providers.Token) string {
	switch t.by {
	case "connection":
		return connection
	case "owner":
		return cmp.Or(token.Owner.ID, "unknown")
	case "kind":
		return string(token.Kind)
	case "status":
		return string(token.Status)
	default:
		return string(token.Access)
	}
}

// largestGroups returns at most so many groups by falling count, and how many
// were left out.
func largestGroups(counts map[string]int, most int) ([]group, int) {
	groups := make([]group, 0, len(counts))
	for key, count := range counts {
		groups = append(groups, group{key, count})
	}
	slices.SortFunc(groups, func(a, b group) int { return cmp.Or(b.Count-a.Count, strings.Compare(a.Key, b.Key)) })
	shown := min(len(groups), most)
	return groups[:shown], len(groups) - shown
}

// count counts every connection at the same time: by the vendor's own count
// where it has one for this question, else by listing.
func (r *reading) count(ctx context.Context, t *tally) []coverage {
	var wg sync.WaitGroup
	for i := range r.connections {
		wg.Go(func() {
			defer close(r.done[i])
			r.prepare(ctx, i)
			r.awaitTwin(ctx, i)
			if r.countByVendor(ctx, i, t) {
				return
			}
			r.read(ctx, i, func(m match) bool {
				t.add(t.key(r.connections[i].Name, m.token), 1)
				return true
			})
		})
	}
	wg.Wait()
	return r.coverage
}

// countByVendor asks the vendor for the count and reports whether that settled
// it. Accounts that several connections open are listed, since only ids tell
// which tokens were counted already.
func (r *reading) countByVendor(ctx context.Context, i int, t *tally) bool {
	counter, ok := r.connections[i].Provider.(providers.Counter)
	if !ok || r.shared(i) || t.by != "" && t.by != "connection" && t.by != "owner" {
		return false
	}
	count, ok, err := counter.Count(ctx, r.filter)
	if !ok && err == nil || t.by == "owner" && count.ByOwner == nil && err == nil {
		return false
	}
	r.coverage[i].limit(count.Limits...)
	r.coverage[i].Read = count.Total
	r.end(ctx, i, err)
	if err != nil {
		return true
	}
	if t.by == "owner" {
		for owner, n := range count.ByOwner {
			t.add(owner, n)
		}
	} else {
		t.add(r.connections[i].Name, count.Total)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.unknown = append(t.unknown, count.Unknown...)
	return true
}
