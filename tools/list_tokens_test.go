package tools_test

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/tokenreeve/tokenreeve/internal/sandbox"
)

// filterCase is a filter as a caller writes it, and what it means.
type filterCase struct {
	name      string
	arguments args
	means     predicate
	// blind says that Mailtrap cannot decide it.
	blind bool
	// only says that no other connection can hold such an id.
	only string
}

// withEdges adds tokens that lie exactly on the edges of the filters' dates.
func (h *harness) withEdges() {
	h.t.Helper()
	now := h.clock.Now()
	at := func(days int) time.Time { return now.AddDate(0, 0, days) }
	for _, days := range []int{-90, -91} {
		_, err := h.box.AddAtlassianToken(sandbox.AtlassianToken{
			Label: "edge", CreatedAt: at(-100), LastActiveAt: at(days).Add(time.Millisecond * time.Duration(-days-90)), ExpiresAt: at(-days - 60),
			OwnerName: "Edith Edge", OwnerEmail: "edith@acme.example",
		})
		must(h.t, 0, err)
		_, err = h.box.AddLaunchDarklyToken(sandbox.LaunchDarklyToken{Name: "edge", CreatedAt: at(days), LastUsed: at(-90).Add(time.Millisecond)})
		must(h.t, 0, err)
		_, err = h.box.AddLaunchDarklyToken(sandbox.LaunchDarklyToken{Name: "edge, never used", CreatedAt: at(days + 1)})
		must(h.t, 0, err)
		_, err = h.box.AddMailtrapToken(sandbox.MailtrapToken{Name: "edge", ExpiresAt: at(-days - 60)})
		must(h.t, 0, err)
	}
	_, err := h.box.AddMailtrapToken(sandbox.MailtrapToken{Name: "ends at this moment", ExpiresAt: now})
	must(h.t, 0, err)
}

func filterCases(t testing.TB, h *harness) []filterCase {
	now := h.clock.Now()
	ago := func(days int) time.Time { return now.Add(-time.Duration(days) * 24 * time.Hour) }
	facts := h.facts()
	person := find(t, facts, func(f fact) bool { return f.connection == atlassianName && f.kind == "user" })
	account := find(t, facts, func(f fact) bool { return f.connection == atlassianName && f.kind == "service" })
	member := find(t, facts, func(f fact) bool { return f.connection == launchDarklyName && f.kind == "service" })
	shared := find(t, facts, func(f fact) bool {
		return f.connection == launchDarklyName && slices.ContainsFunc(facts, func(g fact) bool { return g.connection == atlassianName && g.email == f.email })
	})
	edge := find(t, facts, func(f fact) bool { return f.name == "edge" })
	rfc := func(at time.Time) string { return at.UTC().Format(time.RFC3339Nano) }
	return []filterCase{
		{name: "none", arguments: args{}, means: anyToken},
		{name: "owner by id at Atlassian", arguments: args{"owner": person.ownerID}, means: ownedBy(person.ownerID), blind: true, only: atlassianName},
		{name: "service account as owner", arguments: args{"owner": account.ownerID}, means: ownedBy(account.ownerID), blind: true, only: atlassianName},
		{name: "owner by id at LaunchDarkly", arguments: args{"owner": member.ownerID}, means: ownedBy(member.ownerID), blind: true},
		{name: "owner by e-mail", arguments: args{"owner": shared.email}, means: ownedBy(shared.email), blind: true},
		{name: "owner by e-mail in capitals", arguments: args{"owner": strings.ToUpper(shared.email)}, means: ownedBy(shared.email), blind: true},
		{name: "owner whom nobody knows", arguments: args{"owner": "nobody@acme.example"}, means: ownedBy("nobody@acme.example"), blind: true},
		{name: "owner and more", arguments: args{"owner": shared.email, "kind": "user", "unused_for": "30d"}, means: both(ownedBy(shared.email), word(kindOf, "user"), unusedSince(ago(30))), blind: true},
		{name: "service account at Atlassian", arguments: args{"service_accounts": []string{account.ownerID}}, means: ofServiceAccounts(account.ownerID), blind: true, only: atlassianName},
		{name: "service account in a list and unknown one", arguments: args{"service_accounts": []string{account.ownerID, "712020:nobody"}}, means: ofServiceAccounts(account.ownerID), blind: true, only: atlassianName},
		{name: "service account at LaunchDarkly", arguments: args{"service_accounts": member.ownerID}, means: ofServiceAccounts(member.ownerID), blind: true},
		{name: "a person is no service account", arguments: args{"service_accounts": person.ownerID}, means: ofServiceAccounts(person.ownerID), blind: true, only: atlassianName},
		{name: "query in a name", arguments: args{"query": "SCRIPT"}, means: containing("script")},
		{name: "query over a space", arguments: args{"query": "t m"}, means: containing("t m")},
		{name: "query for an owner's name", arguments: args{"query": person.owner}, means: containing(person.owner)},
		{name: "query for an e-mail", arguments: args{"query": "@acme.example"}, means: containing("@acme.example")},
		{name: "query in another script", arguments: args{"query": "バッチ"}, means: containing("バッチ")},
		{name: "query without a match", arguments: args{"query": "no such token"}, means: containing("no such token")},
		{name: "query and status", arguments: args{"query": "e", "status": "expired"}, means: both(containing("e"), word(statusOf, "expired"))},
		{name: "kind user", arguments: args{"kind": "user"}, means: word(kindOf, "user"), blind: true},
		{name: "kind service", arguments: args{"kind": "service"}, means: word(kindOf, "service"), blind: true},
		{name: "kind unknown", arguments: args{"kind": "unknown"}, means: word(kindOf, "unknown")},
		{name: "status active", arguments: args{"status": "active"}, means: word(statusOf, "active")},
		{name: "status blocked", arguments: args{"status": "blocked"}, means: word(statusOf, "blocked")},
		{name: "status expired", arguments: args{"status": "expired"}, means: word(statusOf, "expired")},
		{name: "status in grace", arguments: args{"status": "in_grace"}, means: word(statusOf, "in_grace")},
		{name: "access admin", arguments: args{"access": "admin"}, means: word(accessOf, "admin")},
		{name: "access write", arguments: args{"access": "write"}, means: word(accessOf, "write")},
		{name: "access read", arguments: args{"access": "read"}, means: word(accessOf, "read")},
		{name: "access custom", arguments: args{"access": "custom"}, means: word(accessOf, "custom")},
		{name: "access unknown", arguments: args{"access": "unknown"}, means: word(accessOf, "unknown")},
		{name: "created after an age", arguments: args{"created_after": "200d"}, means: createdWithin(ago(200), time.Time{}), blind: true},
		{name: "created at the very moment", arguments: args{"created_after": rfc(edge.created.at)}, means: createdWithin(edge.created.at, time.Time{}), blind: true},
		{name: "created before that moment", arguments: args{"created_before": rfc(edge.created.at)}, means: createdWithin(time.Time{}, edge.created.at), blind: true},
		{name: "created between two", arguments: args{"created_after": "1y", "created_before": "30d"}, means: createdWithin(ago(365), ago(30)), blind: true},
		{
			name: "created before a day", arguments: args{"created_before": ago(150).Format(time.DateOnly)},
			means: createdWithin(time.Time{}, ago(150).Truncate(24*time.Hour)), blind: true,
		},
		{name: "unused for an age", arguments: args{"unused_for": "90d"}, means: unusedSince(ago(90)), blind: true},
		{name: "unused for weeks", arguments: args{"unused_for": "13w"}, means: unusedSince(ago(91)), blind: true},
		{name: "unused, never", arguments: args{"unused_for": "never"}, means: neverUsed, blind: true},
		{name: "unused and access", arguments: args{"unused_for": "never", "access": "read"}, means: both(neverUsed, word(accessOf, "read")), blind: true},
		{name: "expires within an age", arguments: args{"expires_within": "30d"}, means: endsBetween(now, now.AddDate(0, 0, 30))},
		{name: "expires within a short time", arguments: args{"expires_within": "1h"}, means: endsBetween(now, now.Add(time.Hour))},
		{name: "expires never", arguments: args{"expires_within": "never"}, means: neverEnds},
		{name: "expires never and admin", arguments: args{"expires_within": "never", "access": "admin"}, means: both(neverEnds, word(accessOf, "admin"))},
	}
}

func TestFilters(t *testing.T) {
	t.Parallel()
	for _, vendorFilters := range []bool{false, true} {
		name := map[bool]string{false: "filtered here", true: "with the vendor's filters"}[vendorFilters]
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			connections := oneOfEach()
			connections[0].vendorFilters = vendorFilters
			h := start(t, setup{box: sandbox.Options{Seed: 3, Tokens: 150}, connections: connections})
			h.withEdges()
			h.call("list_tokens", args{}).ok() // marks the credential at LaunchDarkly as used now
			for _, c := range filterCases(t, h) {
				t.Run(c.name, func(t *testing.T) {
					t.Parallel()
					h.on(t).checkFilter(c)
				})
			}
		})
	}
}

// checkFilter lists and counts with a filter, over all connections and over each.
func (h *harness) checkFilter(c filterCase) {
	h.t.Helper()
	facts := slices.DeleteFunc(h.facts(), func(f fact) bool { return c.only != "" && f.connection == launchDarklyName })
	want, blind := matching(facts, c.means)
	rows := keysOf(h.rows(c.arguments))
	slices.Sort(rows)
	if diff := cmp.Diff(want, rows, cmp.Transformer("nil", func(s []string) []string { return append([]string{}, s...) })); diff != "" {
		h.t.Errorf("rows (-want +got):\n%s", diff)
	}
	count := as[counted](h.call("count_tokens", c.arguments))
	if count.Total != len(want) {
		h.t.Errorf("count is %d, want %d", count.Total, len(want))
	}
	for _, one := range count.Coverage {
		if one.Undecided != blind[one.Connection] || !one.Complete || one.Error != nil {
			h.t.Errorf("coverage %+v, want complete and %d undecided", one, blind[one.Connection])
		}
	}
	for _, connection := range []string{atlassianName, launchDarklyName, mailtrapName} {
		h.checkFilterAt(c, connection)
	}
}

func (h *harness) checkFilterAt(c filterCase, connection string) {
	h.t.Helper()
	arguments := args{"connection": connection, "sort": "created"}
	for name, value := range c.arguments {
		arguments[name] = value
	}
	answer := h.call("list_tokens", arguments)
	switch {
	case connection == mailtrapName && c.blind:
		answer.fails("unsupported_filter")
		if c.only == "" {
			return
		}
		return
	case connection == launchDarklyName && c.only == atlassianName:
		answer.fails("invalid_argument")
		return
	}
	want, blind := matching(h.factsAt(connection), c.means)
	page := as[listed](answer)
	if page.NextCursor == "" && len(page.Tokens) != len(want) {
		h.t.Errorf("%s: %d rows, want %d", connection, len(page.Tokens), len(want))
	}
	got := coverageOf(h.t, page.Coverage, connection)
	searched := connection == atlassianName && h.isSearched(c.arguments)
	if got.Undecided != blind[connection] || got.Complete == searched || slices.Contains(got.Limits, "vendor_search") != searched {
		h.t.Errorf("%s: coverage %+v, want complete unless the vendor searches (%t), and %d undecided", connection, got, searched, blind[connection])
	}
}

// isSearched tells whether Atlassian's own search chooses what a list reads.
func (h *harness) isSearched(arguments args) bool {
	if owner, _ := arguments["owner"].(string); arguments["query"] != nil || strings.Contains(owner, "@") {
		return true
	}
	status, _ := arguments["status"].(string)
	dated := arguments["created_after"] != nil || arguments["created_before"] != nil
	return h.setup.connections[0].vendorFilters && (dated || status == "active" || status == "blocked")
}

// User management tells of each token whether it was ever used, API Access does
// not: where the owner's id is known and enough, the better answer is given.
func TestOwnerOfNeverUsedTokens(t *testing.T) {
	t.Parallel()
	h := start(t, setup{})
	unused := find(t, h.facts(), func(f fact) bool {
		return f.connection == atlassianName && f.kind == "user" && !f.lastUsed.known()
	})
	var want []string
	for _, f := range h.factsAt(atlassianName) {
		if f.ownerID == unused.ownerID && !f.lastUsed.known() {
			want = append(want, f.key())
		}
	}
	arguments := args{"connection": atlassianName, "owner": unused.ownerID, "unused_for": "never"}
	rows := h.rows(arguments)
	if diff := cmp.Diff(want, keysOf(rows)); diff != "" {
		t.Errorf("rows (-want +got):\n%s", diff)
	}
	for _, r := range rows {
		if r.LastUsed != "never" {
			t.Errorf("row %+v, want never used", r)
		}
	}
	if count := as[counted](h.call("count_tokens", arguments)); count.Total != len(want) || count.Coverage[0].Undecided != 0 {
		t.Errorf("count %+v, want %d and nothing undecided", count, len(want))
	}
}

func TestRows(t *testing.T) {
	t.Parallel()
	h := start(t, setup{box: sandbox.Options{Seed: 5, Tokens: 90}})
	for _, detail := range []string{"concise", "full"} {
		t.Run(detail, func(t *testing.T) {
			t.Parallel()
			h := h.on(t)
			rows := h.rows(args{"detail": detail})
			facts := h.facts()
			if len(rows) != len(facts) {
				t.Fatalf("%d rows, want %d", len(rows), len(facts))
			}
			altered := 0
			for _, r := range rows {
				f := find(t, facts, func(f fact) bool { return f.key() == r.key() })
				h.checkName(r, f)
				if r.NameAltered {
					altered++
				}
				want := conciseRowOf(f)
				if detail == "full" {
					want = fullRowOf(f)
				}
				want.Name, want.NameAltered = r.Name, r.NameAltered
				// What only the vendor's record knows is checked with the vendor.
				want.Description, want.CreatedBy, want.Scopes, want.APIVersion, want.Modified = r.Description, r.CreatedBy, r.Scopes, r.APIVersion, r.Modified
				if diff := cmp.Diff(want, r); diff != "" {
					t.Errorf("row %s (-want +got):\n%s", r.key(), diff)
				}
			}
			if altered == 0 {
				t.Error("the sandbox has hostile names, but none was cleaned")
			}
		})
	}
}

// checkName expects a clean name as it is and any other cleaned and marked.
func (h *harness) checkName(r row, f fact) {
	h.t.Helper()
	if f.hasHiddenText() != r.NameAltered || !r.NameAltered && r.Name != f.name {
		h.t.Errorf("%s: name %+q (altered %v) of a token named %+q", r.key(), r.Name, r.NameAltered, f.name)
	}
}

func conciseRowOf(f fact) row {
	known := func(word string) string {
		if word == "unknown" {
			return ""
		}
		return word
	}
	return row{
		Connection: f.connection, ID: f.id, Owner: f.email, Kind: known(f.kind), Status: f.status, Access: known(f.access),
		Created: f.created.concise(), LastUsed: f.lastUsed.concise(), Expires: f.expires.concise(), OwnCredential: f.own,
	}
}

func fullRowOf(f fact) row {
	return row{
		Connection: f.connection, ID: f.id, Owner: f.email, OwnerID: f.ownerID, OwnerName: f.owner, Kind: f.kind, Status: f.status,
		Access: f.access, Created: f.created.full(), LastUsed: f.lastUsed.full(), Expires: f.expires.full(),
		OwnCredential: f.own, LastFour: f.lastFour,
	}
}

// A concise row has no member that is not known; a full row says so.
func TestConciseRowsLeaveOutWhatIsUnknown(t *testing.T) {
	t.Parallel()
	h := start(t, setup{})
	text := h.call("list_tokens", args{"connection": mailtrapName, "limit": 1}).ok().text
	for _, member := range []string{`"connection":"` + mailtrapName + `","id"`, `"owner"`, `"kind"`, `"created"`, `"last_used"`, `"unknown"`} {
		if strings.Contains(text, member) {
			t.Errorf("a concise row of Mailtrap has %s: %s", member, text)
		}
	}
}

func TestSort(t *testing.T) {
	t.Parallel()
	h := start(t, setup{box: sandbox.Options{Seed: 9, Tokens: 110}})
	h.call("list_tokens", args{}).ok()
	facts := h.facts()
	dates := map[string]func(fact) date{
		"created":   func(f fact) date { return f.created },
		"last_used": func(f fact) date { return f.lastUsed },
		"expires":   func(f fact) date { return f.expires },
	}
	for field, of := range dates {
		for _, reverse := range []bool{false, true} {
			t.Run(sortName(field, reverse), func(t *testing.T) {
				t.Parallel()
				sorted := slices.SortedFunc(slices.Values(facts), byDate(of, reverse))
				want := make([]string, len(sorted))
				for i, f := range sorted {
					want[i] = f.key()
				}
				rows := h.on(t).rows(args{"sort": sortName(field, reverse), "limit": 37})
				if diff := cmp.Diff(want, keysOf(rows)); diff != "" {
					t.Errorf("rows (-want +got):\n%s", diff)
				}
			})
		}
	}
	for _, reverse := range []bool{false, true} {
		t.Run(sortName("name", reverse), func(t *testing.T) {
			t.Parallel()
			rows := h.on(t).rows(args{"sort": sortName("name", reverse), "limit": 37})
			if len(rows) != len(facts) {
				t.Errorf("%d rows, want %d", len(rows), len(facts))
			}
			if !slices.IsSortedFunc(rows, byName(reverse)) {
				t.Errorf("rows are not sorted by name: %v", rows)
			}
		})
	}
}

func sortName(field string, reverse bool) string {
	if reverse {
		return "-" + field
	}
	return field
}

// Many calls at the same time get the answers that each would get alone.
func TestConcurrentCalls(t *testing.T) {
	t.Parallel()
	h := start(t, setup{connections: smallPages()})
	h.call("list_tokens", nil).ok()
	calls := []struct {
		tool      string
		arguments args
	}{
		{"list_tokens", args{"limit": 200, "sort": "name"}},
		{"list_tokens", args{"limit": 15}},
		{"list_tokens", args{"query": "bot"}},
		{"count_tokens", args{}},
		{"count_tokens", args{"group_by": "owner"}},
		{"list_tokens", args{"connection": launchDarklyName, "limit": 3}},
		{"get_token", args{"connection": mailtrapName, "token_id": h.mailtrapFacts()[0].id}},
		{"list_connections", args{}},
	}
	want := make([]result, len(calls))
	for i, c := range calls {
		want[i] = h.call(c.tool, c.arguments).ok()
	}
	var wg sync.WaitGroup
	for n := range 32 {
		wg.Go(func() {
			i := n % len(calls)
			got := h.call(calls[i].tool, calls[i].arguments)
			ignore := cmpopts.IgnoreMapEntries(func(name string, _ any) bool { return name == "next_cursor" })
			if diff := cmp.Diff(want[i].data, got.data, ignore); diff != "" {
				t.Errorf("%s %v (-alone +among others):\n%s", calls[i].tool, calls[i].arguments, diff)
			}
		})
	}
	wg.Wait()
}

// A caller who gives up gets its answer at once; the vendor's health is as before.
func TestCancelledListing(t *testing.T) {
	t.Parallel()
	for _, arguments := range []args{{"connection": mailtrapName}, {"sort": "created"}} {
		ctx, cancel := context.WithCancel(t.Context())
		released := make(chan struct{})
		h := start(t, setup{}).behind(setup{}, func(r *http.Request) {
			if strings.HasSuffix(r.URL.Path, "api_tokens") {
				cancel()
				<-released
			}
		})
		h.callWith(ctx, "list_tokens", arguments).fails("cancelled")
		close(released)
		for _, c := range as[connectionsResult](h.call("list_connections", nil)).Connections {
			if c.Health != "ok" && c.Health != "unchecked" {
				t.Errorf("%+v, want no fault of the vendor's", c)
			}
		}
	}
}
