package tools_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/mark3labs/mcp-go/mcp"

	"github.com/tokenreeve/tokenreeve/internal/sandbox"
)

// brokenVendor is a way in which a vendor can fail, and what that is called.
type brokenVendor struct {
	name  string
	fault sandbox.Fault
	code  string
	// at is where it is tried; nil: everywhere. What is tried again for seconds is
	// tried at one vendor and with few calls.
	at   string
	slow bool
}

func brokenVendors() []brokenVendor {
	return []brokenVendor{
		{name: "401", fault: sandbox.Fault{Kind: sandbox.FaultStatus, Status: 401}, code: "credential_rejected"},
		{name: "403", fault: sandbox.Fault{Kind: sandbox.FaultStatus, Status: 403}, code: "forbidden"},
		{name: "HTML", fault: sandbox.Fault{Kind: sandbox.FaultHTML}, code: "bad_vendor_answer"},
		{name: "not JSON", fault: sandbox.Fault{Kind: sandbox.FaultNotJSON}, code: "bad_vendor_answer"},
		{name: "empty", fault: sandbox.Fault{Kind: sandbox.FaultEmpty}, code: "bad_vendor_answer"},
		{name: "500", fault: sandbox.Fault{Kind: sandbox.Fault500}, code: "vendor_unavailable", at: launchDarklyName, slow: true},
		{name: "HTML 502", fault: sandbox.Fault{Kind: sandbox.FaultHTML, Status: 502}, code: "vendor_unavailable", at: mailtrapName, slow: true},
		{name: "cut", fault: sandbox.Fault{Kind: sandbox.FaultCut}, code: "vendor_unavailable", at: atlassianName, slow: true},
		{name: "truncated", fault: sandbox.Fault{Kind: sandbox.FaultTruncate}, code: "bad_vendor_answer", at: atlassianName, slow: true},
		{name: "429", fault: sandbox.Fault{Kind: sandbox.Fault429, RetryAfter: "3600"}, code: "rate_limited", at: atlassianName, slow: true},
	}
}

// One connection that fails never hides what the others have, and is named.
func TestOneConnectionFails(t *testing.T) {
	t.Parallel()
	for _, broken := range brokenVendors() {
		for _, connection := range []string{atlassianName, launchDarklyName, mailtrapName} {
			if broken.at != "" && broken.at != connection {
				continue
			}
			t.Run(broken.name+" at "+connection, func(t *testing.T) {
				t.Parallel()
				h := start(t, setup{box: sandbox.Options{Tokens: 30}})
				fault := broken.fault
				fault.Vendor = vendorOf(connection)
				h.fault(fault)
				h.checkFailing(connection, broken)
				health := h.call("list_connections", nil).ok().text
				if !strings.Contains(health, `"health":"`+broken.code+`"`) || strings.Count(health, `"health":"ok"`) != 2 {
					t.Errorf("health is not told: %s", health)
				}
				if broken.slow {
					return
				}
				for _, tool := range []string{"list_tokens", "count_tokens"} {
					alone := h.call(tool, args{"connection": connection}).fails(broken.code)
					if !strings.Contains(alone.problem.Message, connection) {
						t.Errorf("%s does not name the connection", alone.text)
					}
				}
			})
		}
	}
}

// checkFailing lists and counts all connections while one of them fails.
func (h *harness) checkFailing(connection string, broken brokenVendor) {
	h.t.Helper()
	want := slices.DeleteFunc(h.facts(), func(f fact) bool { return f.connection == connection })
	calls := []args{{"limit": 200}, {"limit": 200, "sort": "name"}}
	if broken.slow {
		calls = calls[:1]
	}
	for _, arguments := range calls {
		page := as[listed](h.call("list_tokens", arguments))
		got := slices.DeleteFunc(page.Tokens, func(r row) bool { return r.Connection == connection })
		if len(got) != len(want) {
			h.t.Errorf("%v: %d rows of the others, want %d", arguments, len(got), len(want))
		}
		h.checkFailed(page.Coverage, connection, broken.code)
	}
	if broken.slow {
		return
	}
	count := as[counted](h.call("count_tokens", args{"group_by": "connection"}))
	for name, n := range count.groups() {
		if name != connection && n != len(h.factsAt(name)) {
			h.t.Errorf("%s has %d tokens, want %d", name, n, len(h.factsAt(name)))
		}
	}
	h.checkFailed(count.Coverage, connection, broken.code)
}

func (h *harness) checkFailed(all []covered, connection, code string) {
	h.t.Helper()
	for _, one := range all {
		switch {
		case one.Connection != connection && (!one.Complete || one.Error != nil):
			h.t.Errorf("coverage %+v, want complete", one)
		case one.Connection == connection && (one.Complete || one.Error == nil || one.Error.Code != code || one.Error.Message == ""):
			h.t.Errorf("coverage %+v, want the error %s", one, code)
		}
	}
	if len(all) != 3 {
		h.t.Errorf("coverage of %d connections, want 3", len(all))
	}
}

func TestAllConnectionsFail(t *testing.T) {
	t.Parallel()
	h := start(t, setup{})
	h.fault(sandbox.Fault{Kind: sandbox.FaultStatus, Status: 401})
	h.call("list_tokens", nil).fails("credential_rejected")
	h.call("list_tokens", args{"sort": "name"}).fails("credential_rejected")
	h.call("count_tokens", nil).fails("credential_rejected")
}

// An answer that breaks off keeps the rows that came, and is never passed off as
// complete.
func TestTruncatedListing(t *testing.T) {
	t.Parallel()
	h := start(t, setup{box: sandbox.Options{MailtrapTokens: new(60)}})
	h.fault(sandbox.Fault{Vendor: sandbox.Mailtrap, Kind: sandbox.FaultTruncate})
	page := as[listed](h.call("list_tokens", args{"connection": mailtrapName}))
	got := coverageOf(t, page.Coverage, mailtrapName)
	if len(page.Tokens) == 0 || got.Complete || got.Error == nil || got.Error.Code != "bad_vendor_answer" {
		t.Errorf("%d rows, coverage %+v, want some rows and the error", len(page.Tokens), got)
	}
	for _, r := range page.Tokens {
		find(t, h.mailtrapFacts(), func(f fact) bool { return f.id == r.ID })
	}
}

// twins are two connections to each account; the first of each sees less.
func twins(access sandbox.Access, keys []sandbox.AtlassianKey) []connect {
	noServices := keys[slices.IndexFunc(keys, func(k sandbox.AtlassianKey) bool { return len(k.Scopes) == 1 })]
	return []connect{
		{name: "a1", vendor: sandbox.Atlassian, credential: noServices.Secret, pageSize: 7},
		{name: "a2", vendor: sandbox.Atlassian, pageSize: 6},
		{name: "l1", vendor: sandbox.LaunchDarkly, credential: access.LaunchDarkly.ReaderCredential, pageSize: 5},
		{name: "l2", vendor: sandbox.LaunchDarkly, pageSize: 4},
		{name: "m1", vendor: sandbox.Mailtrap, credential: access.Mailtrap.ProjectCredential},
		{name: "m2", vendor: sandbox.Mailtrap},
	}
}

// Two connections to one account show and count each token once.
func TestTwoConnectionsToOneAccount(t *testing.T) {
	t.Parallel()
	h := start(t, setup{box: sandbox.Options{Seed: 4, Tokens: 100}})
	facts := h.facts()
	h = h.restart(setup{connections: twins(h.access, h.box.AtlassianKeys())})
	var want []string
	for _, f := range facts {
		want = append(want, f.id)
	}
	slices.Sort(want)
	ids := func(rows []row) []string {
		ids := make([]string, len(rows))
		for i, r := range rows {
			ids[i] = r.ID
		}
		slices.Sort(ids)
		return ids
	}
	for _, arguments := range []args{{"limit": 200}, {"limit": 9}, {"limit": 200, "sort": "created"}, {"limit": 11, "sort": "-name"}, {"limit": 13, "sort": "last_used"}} {
		t.Run(fmt.Sprint(arguments), func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(want, ids(h.on(t).rows(arguments))); diff != "" {
				t.Errorf("ids (-want +got):\n%s", diff)
			}
		})
	}
	t.Run("coverage", func(t *testing.T) {
		t.Parallel()
		h := h.on(t)
		checkTwins(t, as[listed](h.call("list_tokens", args{"sort": "created"})).Coverage)
		count := as[counted](h.call("count_tokens", args{"group_by": "connection"}))
		checkTwins(t, count.Coverage)
		if count.Total != len(want) {
			t.Errorf("count is %d, want %d", count.Total, len(want))
		}
		sum := 0
		for _, n := range count.groups() {
			sum += n
		}
		if sum != count.Total || count.groups()["l1"] == 0 || count.groups()["l2"] == 0 {
			t.Errorf("groups %v do not add up to %d over both connections", count.groups(), count.Total)
		}
	})
	t.Run("filtered count", func(t *testing.T) {
		t.Parallel()
		users, _ := matching(facts, word(kindOf, "user"))
		if count := as[counted](h.on(t).call("count_tokens", args{"kind": "user"})); count.Total != len(users) {
			t.Errorf("count is %d, want %d", count.Total, len(users))
		}
	})
}

func checkTwins(t *testing.T, all []covered) {
	t.Helper()
	for _, one := range all {
		want := ""
		if strings.HasSuffix(one.Connection, "2") {
			want = one.Connection[:1] + "1"
		}
		if one.SameAccountAs != want {
			t.Errorf("coverage %+v, want the same account as %q", one, want)
		}
	}
	if len(all) != 6 {
		t.Errorf("coverage of %d connections, want 6", len(all))
	}
}

// Where one connection to an account fails, the other shows what it sees, and
// says that it cannot tell all own credentials.
func TestOneOfTwoConnectionsToOneAccountFails(t *testing.T) {
	t.Parallel()
	h := start(t, setup{connections: []connect{
		{name: "l1", vendor: sandbox.LaunchDarkly, credential: "api-00000000-0000-0000-0000-000000000000"},
		{name: "l2", vendor: sandbox.LaunchDarkly},
	}})
	for _, arguments := range []args{{"limit": 200}, {"limit": 200, "sort": "name"}} {
		page := as[listed](h.call("list_tokens", arguments))
		if len(page.Tokens) != len(h.launchDarklyFacts()) {
			t.Errorf("%v: %d rows, want %d", arguments, len(page.Tokens), len(h.launchDarklyFacts()))
		}
		if got := coverageOf(t, page.Coverage, "l1"); got.Complete || got.Error == nil || got.Error.Code != "credential_rejected" {
			t.Errorf("coverage %+v, want the error", got)
		}
		if got := coverageOf(t, page.Coverage, "l2"); !got.Complete || !slices.Equal(got.Limits, []string{"own_credential_unknown"}) {
			t.Errorf("coverage %+v, want complete and own_credential_unknown", got)
		}
	}
}

// Two accounts of one vendor may hold tokens with the same id: both are shown.
func TestTwoAccountsAreNotOne(t *testing.T) {
	t.Parallel()
	h := start(t, setup{box: sandbox.Options{Seed: 4, Tokens: 30}})
	other := start(t, setup{box: sandbox.Options{Seed: 4, Tokens: 30}}) // another host, the same ids
	h = h.restart(setup{connections: []connect{
		{name: "m1", vendor: sandbox.Mailtrap},
		{name: "m2", vendor: sandbox.Mailtrap, baseURL: other.access.Mailtrap.BaseURL},
	}})
	want := 2 * len(h.box.MailtrapTokens())
	if rows := h.rows(args{}); len(rows) != want {
		t.Errorf("%d rows, want %d", len(rows), want)
	}
	if count := as[counted](h.call("count_tokens", nil)); count.Total != want || count.Coverage[1].SameAccountAs != "" {
		t.Errorf("count %+v, want %d of two accounts", count, want)
	}
}

func TestCoverageLimits(t *testing.T) {
	t.Parallel()
	access := start(t, setup{}).access // the same in every sandbox with this seed
	atlassian := connect{name: "one", vendor: sandbox.Atlassian}
	launchDarkly := connect{name: "one", vendor: sandbox.LaunchDarkly}
	reader := launchDarkly
	reader.credential = access.LaunchDarkly.ReaderCredential
	tests := map[string]struct {
		box      sandbox.Options
		fault    sandbox.Fault
		connect  connect
		limits   []string
		complete bool
	}{
		"atlassian": {connect: atlassian, limits: []string{"managed_accounts_only"}, complete: true},
		"atlassian without service accounts": {
			box: sandbox.Options{Atlassian: sandbox.AtlassianOptions{NoServiceTokenListing: true}}, connect: atlassian,
			limits: []string{"managed_accounts_only", "service_accounts_missing"},
		},
		"atlassian with a failing call for service accounts": {
			fault: sandbox.Fault{Vendor: sandbox.Atlassian, PathContains: "/service-accounts/", Kind: sandbox.FaultHTML}, connect: atlassian,
			limits: []string{"managed_accounts_only", "service_accounts_missing"},
		},
		"launchdarkly":             {connect: launchDarkly, complete: true},
		"launchdarkly as a reader": {connect: reader, limits: []string{"credential_not_admin"}},
		"launchdarkly without identity": {
			fault: sandbox.Fault{Vendor: sandbox.LaunchDarkly, PathContains: "caller-identity", Kind: sandbox.FaultStatus, Status: 403}, connect: launchDarkly,
			limits: []string{"credential_not_admin", "own_credential_unknown"},
		},
		"mailtrap": {connect: connect{name: "one", vendor: sandbox.Mailtrap}, limits: []string{"visible_to_credential"}, complete: true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := start(t, setup{box: test.box, connections: []connect{test.connect}})
			if test.fault.Kind != "" {
				h.fault(test.fault)
			}
			want := covered{Connection: "one", Complete: test.complete, Limits: test.limits}
			ignore := []cmp.Option{
				cmpopts.SortSlices(strings.Compare), cmpopts.EquateEmpty(), cmpopts.IgnoreFields(covered{}, "Read"),
			}
			for _, call := range []args{{"limit": 200}, {"limit": 200, "sort": "name"}, {"limit": 200, "query": "e"}} {
				page := as[listed](h.call("list_tokens", call))
				want := want
				if call["query"] != nil && test.connect.vendor == sandbox.Atlassian {
					want.Complete, want.Limits = false, append(slices.Clone(want.Limits), "vendor_search")
				}
				if diff := cmp.Diff([]covered{want}, page.Coverage, ignore...); diff != "" {
					t.Errorf("list_tokens %v: coverage (-want +got):\n%s", call, diff)
				}
			}
			for _, call := range []args{{}, {"group_by": "status"}, {"query": "e"}} {
				count := as[counted](h.call("count_tokens", call))
				if diff := cmp.Diff([]covered{want}, count.Coverage, ignore...); diff != "" {
					t.Errorf("count_tokens %v: coverage (-want +got):\n%s", call, diff)
				}
			}
		})
	}
}

// Tokens are deleted all the while a listing is read.
func TestMovedWhileReading(t *testing.T) {
	t.Parallel()
	h := start(t, setup{box: sandbox.Options{LaunchDarklyTokens: new(70)}})
	var mu sync.Mutex
	connections := []connect{{name: "one", vendor: sandbox.LaunchDarkly, pageSize: 10}}
	h = h.behind(setup{connections: connections}, func(r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		if offset := r.URL.Query().Get("offset"); offset == "" || offset == "0" {
			return
		}
		tokens := h.box.LaunchDarklyTokens()
		i := slices.IndexFunc(tokens, func(t sandbox.LaunchDarklyToken) bool { return t.Credential == "" })
		h.box.DeleteLaunchDarklyToken(tokens[i].ID)
	})
	page := as[listed](h.call("list_tokens", args{"sort": "name", "limit": 200}))
	got := coverageOf(t, page.Coverage, "one")
	if got.Complete || !slices.Contains(got.Limits, "moved_while_reading") {
		t.Errorf("coverage %+v, want moved_while_reading", got)
	}
	keys := keysOf(page.Tokens)
	slices.Sort(keys)
	if len(slices.Compact(keys)) != len(page.Tokens) {
		t.Error("a token came twice")
	}
}

// A short page of a large account costs one request, not the whole listing.
func TestOnlyAsManyRequestsAsNeeded(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		connection string
		arguments  args
		pages      int // of the vendor's listing
	}{
		"first rows":              {launchDarklyName, args{"limit": 50}, 1},
		"a whole vendor page":     {launchDarklyName, args{"limit": 50, "detail": "full"}, 1},
		"first rows at Atlassian": {atlassianName, args{"limit": 50}, 1},
		"first rows at Mailtrap":  {mailtrapName, args{"limit": 50}, 1},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := start(t, setup{box: sandbox.Options{AtlassianTokens: new(3000), LaunchDarklyTokens: new(1500), MailtrapTokens: new(1500)}})
			test.arguments["connection"] = test.connection
			page := as[listed](h.call("list_tokens", test.arguments))
			if sent := h.listRequests(test.connection); len(sent) != test.pages {
				t.Errorf("%d pages were read, want %d: %v", len(sent), test.pages, sent)
			}
			if got := coverageOf(t, page.Coverage, test.connection); got.Complete || !slices.Contains(got.Limits, "more_to_read") {
				t.Errorf("coverage %+v, want more_to_read", got)
			}
			// The next rows stand on the same page of the vendor's.
			h.forget()
			as[listed](h.call("list_tokens", args{"cursor": page.NextCursor}))
			if sent := h.listRequests(test.connection); len(sent) != test.pages {
				t.Errorf("for the next rows %d pages were read, want %d: %v", len(sent), test.pages, sent)
			}
		})
	}
}

// Over several connections, the ones behind the first are asked for one page at most.
func TestOtherConnectionsReadOnePageAhead(t *testing.T) {
	t.Parallel()
	h := start(t, setup{box: sandbox.Options{AtlassianTokens: new(300), LaunchDarklyTokens: new(600), MailtrapTokens: new(600)}})
	page := as[listed](h.call("list_tokens", args{"limit": 5}))
	for _, connection := range []string{atlassianName, launchDarklyName, mailtrapName} {
		if sent := h.listRequests(connection); len(sent) > 1 {
			t.Errorf("%s: %d pages were read: %v", connection, len(sent), sent)
		}
		if got := coverageOf(t, page.Coverage, connection); got.Complete || !slices.Contains(got.Limits, "more_to_read") {
			t.Errorf("coverage %+v, want more_to_read", got)
		}
	}
}

// listRequests returns the requests for pages of a connection's listing.
func (h *harness) listRequests(connection string) []string {
	var sent []string
	for _, r := range h.box.Requests() {
		if r.Vendor == vendorOf(connection) && (strings.HasSuffix(r.Path, "/tokens") || strings.HasSuffix(r.Path, "tokens")) {
			sent = append(sent, r.Method+" "+r.Path+"?"+r.Query)
		}
	}
	return sent
}

// Where the client asks for progress, it hears of it while a slow vendor is read;
// where it does not, it hears nothing.
func TestProgress(t *testing.T) {
	t.Parallel()
	for _, tool := range []string{"list_tokens", "count_tokens"} {
		for _, protocol := range []string{"", mcp.LATEST_LEGACY_PROTOCOL_VERSION} {
			if tool == "count_tokens" && protocol != "" {
				continue // it takes seconds and is the same
			}
			t.Run(tool+" "+protocol, func(t *testing.T) {
				t.Parallel()
				h := start(t, setup{protocol: protocol, connections: oneOfEach()[1:2], box: sandbox.Options{LaunchDarklyTokens: new(250)}})
				h.fault(sandbox.Fault{Vendor: sandbox.LaunchDarkly, PathPrefix: "/api/v2/tokens", Kind: sandbox.FaultLatency, LatencyMS: 3300, Times: 1})
				request := toolRequest(tool, args{"status": "active"})
				if tool == "list_tokens" {
					request.Params.Arguments = args{"sort": "created"}
				}
				request.Params.Meta = &mcp.Meta{ProgressToken: "slow"}
				h.send(t.Context(), request).ok()
				before := -1.0
				for range 2 { // nothing was read in between, and it must grow all the same
					fields := h.notes.next(t, "notifications/progress").Params.AdditionalFields
					progress, ok := fields["progress"].(float64)
					if !ok || progress <= before || fields["progressToken"] != "slow" || !strings.HasSuffix(fmt.Sprint(fields["message"]), " tokens read") {
						t.Errorf("progress %v after %v, want the token of the call, more progress and a message", fields, before)
					}
					before = progress
				}
			})
		}
	}
}
