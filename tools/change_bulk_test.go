package tools_test

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/tokenreeve/tokenreeve/internal/policy"
	"github.com/tokenreeve/tokenreeve/internal/sandbox"
)

const bulkTool = "bulk_revoke_tokens"

// bulkOut is the result of bulk_revoke_tokens.
type bulkOut struct {
	Status  string         `json:"status"`
	Counts  map[string]int `json:"counts"`
	Results []struct {
		ID, Result, Why string
	} `json:"results"`
	Revoked  []string       `json:"revoked"`
	Left     *int           `json:"still_matching"`
	LeftIDs  []string       `json:"still_matching_ids"`
	ByOwner  map[string]int `json:"by_owner"`
	ByAge    map[string]int `json:"by_age"`
	Next     string         `json:"next"`
	Warnings []string       `json:"warnings"`
	Targets  *struct {
		Count   int
		Columns []string
		Rows    [][]string
		Shared  map[string]string
	} `json:"targets"`
}

// ids are the targets of a preview.
func (o bulkOut) ids() []string {
	var all []string
	for _, row := range o.Targets.Rows {
		all = append(all, row[slices.Index(o.Targets.Columns, "id")])
	}
	slices.Sort(all)
	return all
}

// allIDs are the ids of all tokens at all vendors.
func (h *harness) allIDs() []string {
	var all []string
	for _, t := range h.box.AtlassianTokens() {
		all = append(all, t.ID)
	}
	for _, t := range h.box.LaunchDarklyTokens() {
		all = append(all, t.ID)
	}
	for _, t := range h.box.MailtrapTokens() {
		all = append(all, number(t.ID))
	}
	slices.Sort(all)
	return all
}

// without returns the sorted ids less some.
func without(all []string, some ...string) []string {
	return slices.DeleteFunc(slices.Clone(all), func(id string) bool { return slices.Contains(some, id) })
}

// manyLaunchDarkly adds tokens of that name and a number each.
func (h *harness) manyLaunchDarkly(n int, name string) (ids []string) {
	h.t.Helper()
	for _, name := range words(n, name) {
		ids = append(ids, h.addLaunchDarkly(name).ID)
	}
	return ids
}

// TestBulkEndsExactlyItsTargets compares with a selection that this test makes by
// itself from the vendors' state: these targets are shown, these are ended, all
// others live.
func TestBulkEndsExactlyItsTargets(t *testing.T) {
	t.Parallel()
	member := func(h *harness) string { return h.box.LaunchDarklyMembers()[3].ID }
	each(t, map[string]struct {
		args func(*harness) args
		want func(*harness) []string
	}{
		"ids": {
			func(h *harness) args {
				return args{"connection": launchDarklyName, "token_ids": h.manyLaunchDarkly(3, "x"), "exclude": []string{h.named("x 1")}}
			},
			func(h *harness) []string { return []string{h.named("x 0"), h.named("x 2")} },
		},
		"ids at Atlassian": {
			func(h *harness) args {
				return args{"connection": atlassianName, "token_ids": []string{h.addAtlassian("x 0").ID, h.addAtlassian("x 1").ID}}
			},
			func(h *harness) []string { return []string{h.named("x 0"), h.named("x 1")} },
		},
		"one id as text": {
			func(h *harness) args { return args{"connection": mailtrapName, "token_ids": h.addMailtrap("x").ID} },
			func(h *harness) []string {
				m, _ := lookup(h.box.MailtrapTokens(), func(m sandbox.MailtrapToken) bool { return m.Name == "x" })
				return []string{number(m.ID)}
			},
		},
		"owner and access": {
			func(h *harness) args {
				h.manyLaunchDarkly(4, "x")
				return args{"connection": launchDarklyName, "owner": member(h), "access": "read"}
			},
			func(h *harness) (ids []string) {
				for _, t := range h.box.LaunchDarklyTokens() {
					if t.MemberID == member(h) && t.Role == "reader" && len(t.CustomRoleIDs)+len(t.InlineRole) == 0 {
						ids = append(ids, t.ID)
					}
				}
				return ids
			},
		},
		"query with exclude": {
			func(h *harness) args {
				h.manyLaunchDarkly(3, "Nächtlich")
				return args{"connection": launchDarklyName, "query": "NÄCHT", "exclude": []string{h.named("Nächtlich 2")}}
			},
			func(h *harness) []string { return []string{h.named("Nächtlich 0"), h.named("Nächtlich 1")} },
		},
		"expired at Mailtrap": {
			func(*harness) args { return args{"connection": mailtrapName, "status": "expired"} },
			func(h *harness) (ids []string) {
				for _, m := range h.box.MailtrapTokens() {
					if !m.ExpiresAt.IsZero() && !m.ExpiresAt.After(h.clock.Now()) {
						ids = append(ids, number(m.ID))
					}
				}
				return ids
			},
		},
		"stale at Atlassian": {
			func(*harness) args {
				return args{"connection": atlassianName, "unused_for": "90d", "created_before": "180d", "kind": "user"}
			},
			func(h *harness) (ids []string) {
				for _, a := range h.box.AtlassianTokens() {
					if !a.ServiceAccount && !a.Unmanaged && !a.LastActiveAt.IsZero() && !a.LastActiveAt.After(h.clock.Now().AddDate(0, 0, -90)) && a.CreatedAt.Before(h.clock.Now().AddDate(0, 0, -180)) {
						ids = append(ids, a.ID)
					}
				}
				return ids
			},
		},
		"user tokens of one owner": {
			func(h *harness) args {
				first := h.addAtlassian("x 0")
				h.addAtlassian("x 1", func(t *sandbox.AtlassianToken) { t.AccountID = first.AccountID })
				return args{"connection": atlassianName, "owner": first.AccountID, "exclude": []string{first.ID}}
			},
			func(h *harness) []string { return []string{h.named("x 1")} },
		},
	}, func(t *testing.T, c struct {
		args func(*harness) args
		want func(*harness) []string
	},
	) {
		h := start(t, setup{})
		a := with(c.args(h), args{"reason": "cleaning up"})
		want, all := c.want(h), h.allIDs()
		slices.Sort(want)
		if len(want) == 0 {
			t.Fatal("nothing to select: the test's data is wrong")
		}
		var shown result
		h.untouched(func() { shown = h.call(bulkTool, a) })
		if diff := gocmp.Diff(want, as[bulkOut](shown).ids()); diff != "" {
			t.Fatalf("targets shown (-want +got):\n%s", diff)
		}
		out := as[bulkOut](h.call(bulkTool, with(a, args{"confirm": shown.code()})).is("revoked"))
		slices.Sort(out.Revoked)
		if diff := gocmp.Diff(want, out.Revoked); diff != "" || out.Counts["revoked"] != len(want) || len(out.Results) > 0 {
			t.Errorf("result %+v; revoked (-want +got):\n%s", out, diff)
		}
		if diff := gocmp.Diff(without(all, want...), h.allIDs()); diff != "" {
			t.Errorf("tokens that live (-want +got):\n%s", diff)
		}
		if out.Left == nil || *out.Left != 0 {
			t.Errorf("the listing afterwards: %v, want none left", out.Left)
		}
	})
}

func TestBulkRefusals(t *testing.T) {
	t.Parallel()
	const at, ld, mt = atlassianName, launchDarklyName, mailtrapName
	id, other := "0123456789abcdef01234567", "0123456789abcdef01234568"
	many := make([]string, 101)
	for i := range many {
		many[i] = fmt.Sprintf("%024x", i)
	}
	each(t, map[string]struct {
		args args
		code string
		says string
	}{
		"nothing":                         {args{"connection": ld}, "selection_required", "token_ids"},
		"only what to spare":              {args{"connection": ld, "exclude": []string{id}}, "selection_required", ""},
		"everything: false":               {args{"connection": at, "everything": false}, "selection_required", ""},
		"all_of_service_account: false":   {args{"connection": at, "all_of_service_account": "false"}, "selection_required", ""},
		"ids and a filter":                {args{"connection": ld, "token_ids": []string{id}, "query": "x"}, "selection_conflict", ""},
		"ids and everything":              {args{"connection": at, "token_ids": []string{"asp_x"}, "everything": true}, "selection_conflict", ""},
		"a filter and everything":         {args{"connection": at, "kind": "user", "everything": true}, "selection_conflict", ""},
		"accounts and everything":         {args{"connection": at, "service_accounts": []string{"x"}, "everything": true}, "selection_conflict", ""},
		"both of all":                     {args{"connection": at, "service_accounts": []string{"x"}, "all_of_service_account": true, "everything": true}, "selection_conflict", ""},
		"all of no account":               {args{"connection": at, "all_of_service_account": true}, "selection_conflict", "exactly one"},
		"all of two accounts":             {args{"connection": at, "service_accounts": []string{"x", "y"}, "all_of_service_account": true}, "selection_conflict", "exactly one"},
		"all of an account with a filter": {args{"connection": at, "service_accounts": []string{"x"}, "query": "x", "all_of_service_account": true}, "selection_conflict", "exactly one"},
		"all of an account but one":       {args{"connection": at, "service_accounts": []string{"x"}, "exclude": []string{"asp_x"}, "all_of_service_account": true}, "selection_conflict", "exclude"},
		"everything but one":              {args{"connection": at, "everything": true, "exclude": []string{"asp_x"}}, "selection_conflict", "exclude"},
		"everything is off":               {args{"connection": at, "everything": true}, "policy_refused", "org_wide_revoke"},
		"everything at LaunchDarkly":      {args{"connection": ld, "everything": true}, "not_offered", ""},
		"everything at Mailtrap":          {args{"connection": mt, "everything": true}, "not_offered", ""},
		"all of an account elsewhere":     {args{"connection": ld, "service_accounts": []string{id}, "all_of_service_account": true}, "not_offered", ""},
		"a path for an account":           {args{"connection": at, "service_accounts": []string{".."}, "all_of_service_account": true}, "invalid_argument", "service_accounts"},
		"a path among the ids":            {args{"connection": ld, "token_ids": []string{id, "../members"}}, "invalid_argument", "token_id"},
		"a path among the spared":         {args{"connection": ld, "token_ids": []string{id}, "exclude": []string{"."}}, "invalid_argument", "token_id"},
		"no ids":                          {args{"connection": ld, "token_ids": []string{}}, "invalid_argument", "token_ids"},
		"too many ids":                    {args{"connection": ld, "token_ids": many}, "invalid_argument", "at most 100"},
		"all ids spared":                  {args{"connection": ld, "token_ids": []string{id, other}, "exclude": []string{id, other}}, "", "nothing_to_revoke"},
		"nothing matches":                 {args{"connection": ld, "query": "no token has this name"}, "", "nothing_to_revoke"},
		"all gone":                        {args{"connection": ld, "token_ids": []string{id, other}}, "", "nothing_to_revoke"},
		"no reason":                       {args{"connection": ld, "token_ids": []string{id}, "reason": nil}, "missing_argument", "reason"},
		"empty reason":                    {args{"connection": ld, "token_ids": []string{id}, "reason": ""}, "invalid_argument", "reason"},
		"owner at Mailtrap":               {args{"connection": mt, "owner": "dana@acme.example"}, "unsupported_filter", "owner"},
		"age at Mailtrap":                 {args{"connection": mt, "created_before": "90d"}, "unsupported_filter", "created_before"},
		"use at Mailtrap":                 {args{"connection": mt, "unused_for": "never"}, "unsupported_filter", "unused_for"},
		"kind at Mailtrap":                {args{"connection": mt, "kind": "user"}, "unsupported_filter", "kind"},
		"no such date":                    {args{"connection": ld, "created_before": "yesterday"}, "invalid_date", "created_before"},
		"dates that cannot be":            {args{"connection": ld, "created_before": "90d", "created_after": "30d"}, "invalid_date", ""},
		"sorted":                          {args{"connection": ld, "query": "x", "sort": "created"}, "unknown_argument", "sort"},
		"all connections":                 {args{"query": "x"}, "missing_argument", "connection"},
	}, func(t *testing.T, c struct {
		args args
		code string
		says string
	},
	) {
		h := start(t, setup{})
		h.untouched(func() {
			r := h.call(bulkTool, with(args{"reason": "cleaning up"}, c.args)).says(c.says)
			if c.code != "" {
				r.fails(c.code)
			}
			if r.str("confirm") != "" {
				t.Errorf("a code: %s", r.text)
			}
		})
	})
}

func TestBulkTooManyTargets(t *testing.T) {
	t.Parallel()
	h := start(t, setup{connections: ruledBy(bigBulks())})
	ids := h.manyLaunchDarkly(101, "bulky")
	a := args{"connection": launchDarklyName, "query": "bulky", "reason": "x"}
	owner := h.box.LaunchDarklyMembers()[3].ID
	h.untouched(func() {
		out := as[bulkOut](h.call(bulkTool, a).is("too_many_targets"))
		year := fmt.Sprint(h.clock.Now().Year())
		if out.Counts["matching"] != 101 || out.Counts["at_most"] != 100 || out.ByOwner[owner] != 101 || out.ByAge[year] != 101 {
			t.Errorf("counts %v, by owner %v, by age %v", out.Counts, out.ByOwner, out.ByAge)
		}
		if out.Targets != nil || !strings.Contains(out.Next, "split") {
			t.Errorf("targets %v, next %q", out.Targets, out.Next)
		}
		if r := h.call(bulkTool, with(a, args{"confirm": "ABCDEFGHIJKLMNOPQRSTUVWXYZ"})); r.str("confirm") != "" {
			t.Errorf("a code for too many targets: %s", r.text)
		}
		// One less is a preview of all of them.
		out = as[bulkOut](h.call(bulkTool, with(a, args{"exclude": ids[:1]})))
		if out.Targets == nil || out.Targets.Count != 100 || len(out.Targets.Rows) != 100 {
			t.Errorf("targets %+v, want 100", out.Targets)
		}
		h.allow(policy.Policy{MaxTargets: 3})
		few := h.call(bulkTool, args{"connection": launchDarklyName, "token_ids": ids[:4], "reason": "x"}).is("too_many_targets")
		if out := as[bulkOut](few.says("connections.acme-launchdarkly.limits.targets_per_preview")); out.Counts["at_most"] != 3 {
			t.Errorf("counts %v, want at most 3", out.Counts)
		}
		h.call(bulkTool, args{"connection": launchDarklyName, "token_ids": ids[:3], "reason": "x"}).code()
		h.allow(policy.Policy{MaxTargets: 5000}) // policy only lowers
		h.call(bulkTool, a).is("too_many_targets")
	})
}

func TestBulkOfAnIncompleteListing(t *testing.T) {
	t.Parallel()
	at := args{"connection": atlassianName, "query": "doomed", "reason": "x"}
	ld := args{"connection": launchDarklyName, "query": "doomed", "reason": "x"}
	access := start(t, setup{}).access.LaunchDarkly
	as := func(credential string) setup {
		return setup{connections: []connect{{name: launchDarklyName, vendor: sandbox.LaunchDarkly, credential: credential}}}
	}
	each(t, map[string]struct {
		setup setup
		fault *sandbox.Fault
		args  args
	}{
		"a reader's view":                  {as(access.ReaderCredential), nil, ld},
		"a writer's view":                  {as(access.WriterCredential), nil, ld},
		"a custom role's view":             {as(access.CustomCredential), nil, ld},
		"an older Atlassian":               {setup{box: sandbox.Options{Atlassian: sandbox.AtlassianOptions{NoServiceTokenListing: true}}}, nil, at},
		"service accounts fail":            {setup{}, &sandbox.Fault{PathContains: "service-accounts/api-tokens", Kind: sandbox.Fault500}, at},
		"a page fails":                     {setup{}, &sandbox.Fault{PathPrefix: "/api/v2/tokens", Method: "GET", Kind: sandbox.FaultStatus, Status: 403, Times: 1}, ld},
		"a page breaks":                    {setup{}, &sandbox.Fault{PathContains: "/orgs/", Kind: sandbox.FaultTruncate}, at},
		"the vendor goes in a circle":      {setup{box: sandbox.Options{AtlassianTokens: new(150), Atlassian: sandbox.AtlassianOptions{NextLink: "stuck"}}, connections: []connect{{name: atlassianName, vendor: sandbox.Atlassian, pageSize: 50}}}, nil, with(at, args{"query": nil, "kind": "user"})},
		"the vendor's total does not hold": {setup{}, &sandbox.Fault{PathPrefix: "/api/v2/tokens", Method: "GET", Kind: sandbox.FaultStatus, Status: 200, ContentType: "application/json", Body: `{"items":[],"totalCount":7,"_links":{}}`}, ld},
	}, func(t *testing.T, c struct {
		setup setup
		fault *sandbox.Fault
		args  args
	},
	) {
		h := start(t, c.setup)
		h.addAtlassian("doomed")
		h.addLaunchDarkly("doomed", func(t *sandbox.LaunchDarklyToken) { t.ServiceToken = true })
		if c.fault != nil {
			h.fault(*c.fault)
		}
		h.untouched(func() {
			if r := h.call(bulkTool, c.args).fails("incomplete_listing"); r.str("confirm") != "" {
				t.Errorf("a code: %s", r.text)
			}
		})
	})
}

func TestListingThatIsIncompleteAtTheConfirmation(t *testing.T) {
	t.Parallel()
	h := start(t, setup{})
	token := h.addAtlassian("doomed")
	a := args{"connection": atlassianName, "query": "doomed", "reason": "x"}
	code := h.preview(bulkTool, a)
	h.fault(sandbox.Fault{PathContains: "service-accounts/api-tokens", Kind: sandbox.Fault500})
	h.untouched(func() { h.call(bulkTool, with(a, args{"confirm": code})).fails("incomplete_listing") })
	h.wantAlive(token.ID)
	h.box.ClearFaults()
	// A filter that needs no service accounts, and ids, work without them.
	h.fault(sandbox.Fault{PathContains: "service-accounts/api-tokens", Kind: sandbox.Fault500})
	h.preview(bulkTool, with(a, args{"kind": "user"}))
	h.preview(bulkTool, args{"connection": atlassianName, "token_ids": token.ID, "reason": "x"})
}

// TestBulkSparesAndRefuses: what nobody may change is left out by filters, and
// stops a call that names it.
func TestBulkSparesAndRefuses(t *testing.T) {
	t.Parallel()
	h := start(t, setup{connections: []connect{
		{name: launchDarklyName, vendor: sandbox.LaunchDarkly, policy: policy.Policy{Protect: policy.Protect{Names: []string{"*tokenreeve-keep*"}}}},
		{name: mailtrapName, vendor: sandbox.Mailtrap, policy: policy.Policy{Protect: policy.Protect{IDs: []string{"999000001"}}}},
		{name: atlassianName, vendor: sandbox.Atlassian, policy: policy.Policy{Protect: policy.Protect{Owners: []string{"Boss@Acme.Example"}}}},
	}})
	own, kept, doomed := h.access.LaunchDarkly.TokenID, h.addLaunchDarkly("tokenreeve-keep").ID, h.addLaunchDarkly("tokenreeve 2").ID
	shown := as[bulkOut](h.call(bulkTool, args{"connection": launchDarklyName, "query": "tokenreeve", "reason": "x"}))
	if diff := gocmp.Diff([]string{doomed}, shown.ids()); diff != "" {
		t.Errorf("targets (-want +got):\n%s", diff)
	}
	if text := strings.Join(shown.Warnings, "; "); !strings.Contains(text, "2 matching tokens are spared") || !strings.Contains(text, own) || !strings.Contains(text, kept) {
		t.Errorf("warnings %q do not name what is spared", text)
	}
	h.addMailtrap("keep", func(t *sandbox.MailtrapToken) { t.ID = 999000001 })
	boss := h.addAtlassian("laptop", func(t *sandbox.AtlassianToken) { t.OwnerEmail = "boss@acme.example" })
	other := h.addAtlassian("laptop")
	account, ids := h.serviceAccount("a", "b")
	if err := h.box.UpdateAtlassianAccount(account, func(a *sandbox.AtlassianAccount) { a.Email = "boss@acme.example" }); err != nil {
		t.Fatal(err)
	}
	h.untouched(func() {
		for code, selections := range map[string][]args{
			"own_credential": {
				{"connection": launchDarklyName, "token_ids": []string{doomed, own}},
				{"connection": mailtrapName, "token_ids": h.access.Mailtrap.TokenID},
			},
			"protected": {
				{"connection": launchDarklyName, "token_ids": []string{kept, doomed}},
				{"connection": mailtrapName, "token_ids": []string{"999000001"}},
				{"connection": atlassianName, "token_ids": []string{other.ID, boss.ID}},
				{"connection": atlassianName, "service_accounts": []string{account}, "all_of_service_account": true},
			},
		} {
			for _, a := range selections {
				h.call(bulkTool, with(a, args{"reason": "x"})).fails(code)
			}
		}
		if out := as[bulkOut](h.call(bulkTool, args{"connection": atlassianName, "query": "laptop", "kind": "user", "reason": "x"})); slices.Contains(out.ids(), boss.ID) {
			t.Error("a filter selected a protected owner's token")
		}
	})
	h.wantAlive(ids...)
	// Excluded, they stop nothing.
	a := args{"connection": launchDarklyName, "token_ids": []string{doomed, own, kept}, "exclude": []string{own, kept}, "reason": "x"}
	h.confirm(bulkTool, a).is("revoked")
	h.wantGone(doomed)
	h.wantAlive(own, kept)
}

// TestBulkGoesOnAfterAFailedTarget tells for each target how it ended.
func TestBulkGoesOnAfterAFailedTarget(t *testing.T) {
	t.Parallel()
	h := start(t, setup{})
	ids := h.manyLaunchDarkly(5, "x")
	a := args{"connection": launchDarklyName, "token_ids": ids, "reason": "x"}
	code := h.preview(bulkTool, a)
	h.remove(ids[0])
	h.fault(sandbox.Fault{Method: "DELETE", PathContains: ids[1], Kind: sandbox.FaultStatus, Status: 403})
	h.fault(sandbox.Fault{Method: "DELETE", PathContains: ids[2], Kind: sandbox.FaultStatus, Status: 404, ContentType: "application/json", Body: `{"code":"not_found","message":"gone"}`})
	h.fault(sandbox.Fault{Method: "DELETE", PathContains: ids[3], Kind: sandbox.FaultStatus, Status: 422})
	out := as[bulkOut](h.call(bulkTool, with(a, args{"confirm": code})).is("partial"))
	if diff := gocmp.Diff(map[string]int{"revoked": 1, "already_gone": 2, "failed": 2}, out.Counts); diff != "" {
		t.Errorf("counts (-want +got):\n%s", diff)
	}
	got := map[string]string{}
	for _, r := range out.Results {
		got[r.ID] = r.Result
		if (r.Why != "") != (r.Result == "failed") {
			t.Errorf("%s %s, why %q", r.ID, r.Result, r.Why)
		}
	}
	want := map[string]string{ids[0]: "already_gone", ids[1]: "failed", ids[2]: "already_gone", ids[3]: "failed"}
	if diff := gocmp.Diff(want, got); diff != "" || !slices.Equal(out.Revoked, ids[4:]) {
		t.Errorf("revoked %v; results (-want +got):\n%s", out.Revoked, diff)
	}
	if *out.Left != 3 || !slices.Equal(out.LeftIDs, ids[1:4]) {
		t.Errorf("%d left: %v", *out.Left, out.LeftIDs)
	}
	h.wantGone(ids[0], ids[4])
	h.wantAlive(ids[1], ids[2], ids[3])
	if replay := h.call(bulkTool, with(a, args{"confirm": code})).is("partial"); replay.get("replayed") != true {
		t.Errorf("no replay: %s", replay.text)
	}
	if len(h.sent()) != 4 {
		t.Errorf("sent %v", h.sent())
	}
}

// TestBulkStops: the target under way is finished, the others are not attempted.
func TestBulkStops(t *testing.T) {
	t.Parallel()
	each(t, map[string]struct {
		stop    func(*harness, context.CancelFunc) // during the second target
		reached int                                // targets that are ended
		says    string
	}{
		"the client cancels": {func(_ *harness, cancel context.CancelFunc) { cancel() }, 2, "cancelled"},
		"the server stops":   {func(h *harness, _ context.CancelFunc) { h.env.Work.Stop() }, 2, "shutting down"},
		"the server aborts": {func(h *harness, _ context.CancelFunc) {
			h.env.Work.Stop()
			h.env.Work.Abort()
		}, 2, "shutting down"},
		"the session ends": {func(h *harness, _ context.CancelFunc) { _ = h.client.Close() }, 2, "session"},
		"45 seconds pass":  {func(h *harness, _ context.CancelFunc) { h.clock.advance(45 * time.Second) }, 2, "45s"},
		"44 seconds pass":  {func(h *harness, _ context.CancelFunc) { h.clock.advance(44 * time.Second) }, 5, ""},
		"the key is refused": {func(h *harness, _ context.CancelFunc) {
			h.fault(sandbox.Fault{Method: "DELETE", Kind: sandbox.FaultStatus, Status: 401})
		}, 1, "credential"},
	}, func(t *testing.T, c struct {
		stop    func(*harness, context.CancelFunc)
		reached int
		says    string
	},
	) {
		box := start(t, setup{})
		ids := box.manyLaunchDarkly(5, "x")
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var h *harness
		var deletes atomic.Int32
		h = box.behind(setup{}, func(r *http.Request) {
			if r.Method == http.MethodDelete && deletes.Add(1) == 2 {
				c.stop(h, cancel)
			}
		})
		a := args{"connection": launchDarklyName, "token_ids": ids, "reason": "x"}
		code := h.preview(bulkTool, a)
		out := as[bulkOut](h.callWith(ctx, bulkTool, with(a, args{"confirm": code})))
		if out.Counts["revoked"] != c.reached || out.Counts["not_attempted"] != len(ids)-max(c.reached, min(2, len(ids))) {
			t.Errorf("counts %v, want %d revoked", out.Counts, c.reached)
		}
		want := cmp.Or(map[bool]string{true: "revoked"}[c.reached == len(ids)], "partial")
		if out.Status != want || !strings.Contains(out.Next, c.says) {
			t.Errorf("status %q, next %q; want %q and %q", out.Status, out.Next, want, c.says)
		}
		if want == "partial" && !strings.Contains(out.Next, "new preview") && !strings.Contains(out.Next, "for a preview of what is left") {
			t.Errorf("next %q does not say how to go on", out.Next)
		}
		h.wantGone(ids[:c.reached]...)
		h.wantAlive(ids[c.reached:]...)
		if n := int(deletes.Load()); n != max(c.reached, 2) {
			t.Errorf("%d DELETEs", n)
		}
	})
}

// TestBulkBeforeItsFirstTarget: whoever cancels during the last look has changed nothing.
func TestBulkBeforeItsFirstTarget(t *testing.T) {
	t.Parallel()
	each(t, map[string]func(*harness, context.CancelFunc){
		"client": func(_ *harness, cancel context.CancelFunc) { cancel() },
		"server": func(h *harness, _ context.CancelFunc) { h.env.Work.Stop() },
	}, func(t *testing.T, stop func(*harness, context.CancelFunc)) {
		box := start(t, setup{})
		ids := box.manyLaunchDarkly(3, "x")
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var h *harness
		armed := false
		h = box.behind(setup{}, func(r *http.Request) {
			if armed && strings.HasSuffix(r.URL.Path, ids[2]) {
				stop(h, cancel)
			}
		})
		a := args{"connection": launchDarklyName, "token_ids": ids, "reason": "x"}
		code := h.preview(bulkTool, a)
		armed = true
		h.forget()
		_ = h.callWith(ctx, bulkTool, with(a, args{"confirm": code}))
		h.wantSent()
		h.wantAlive(ids...)
	})
}

// TestBulkTellsWhatStillMatches: a DELETE that the vendor answered but did not
// carry out shows, and so does a token that was made meanwhile.
func TestBulkTellsWhatStillMatches(t *testing.T) {
	t.Parallel()
	box := start(t, setup{})
	ids := box.manyLaunchDarkly(2, "doomed")
	var fresh string
	h := box.behind(setup{}, func(r *http.Request) {
		if r.Method == http.MethodDelete && strings.HasSuffix(r.URL.Path, ids[1]) {
			fresh = box.addLaunchDarkly("doomed later").ID
		}
	})
	a := args{"connection": launchDarklyName, "query": "doomed", "reason": "x"}
	code := h.preview(bulkTool, a)
	h.fault(sandbox.Fault{Method: "DELETE", PathContains: ids[0], Kind: sandbox.FaultStatus, Status: 204, NoBody: true})
	out := as[bulkOut](h.call(bulkTool, with(a, args{"confirm": code})).is("revoked"))
	if *out.Left != 2 || !slices.Equal(out.LeftIDs, []string{ids[0], fresh}) {
		t.Errorf("%d left: %v, want %s and %s", *out.Left, out.LeftIDs, ids[0], fresh)
	}
	h.wantAlive(fresh) // a preview never grows
}

func TestBulkWhoseLastListingFails(t *testing.T) {
	t.Parallel()
	h := start(t, setup{})
	ids := h.manyLaunchDarkly(2, "doomed")
	a := args{"connection": launchDarklyName, "token_ids": ids, "reason": "x"}
	code := h.preview(bulkTool, a)
	h.fault(sandbox.Fault{Method: "GET", PathPrefix: "/api/v2/tokens", Kind: sandbox.FaultStatus, Status: 403, After: 2}) // both are read first
	out := as[bulkOut](h.call(bulkTool, with(a, args{"confirm": code})).is("revoked"))
	if out.Left != nil || !strings.Contains(strings.Join(out.Warnings, ";"), "listing again failed") {
		t.Errorf("left %v, warnings %q", out.Left, out.Warnings)
	}
	h.wantGone(ids...)
}

func TestBulkOfAServiceAccount(t *testing.T) {
	t.Parallel()
	h := start(t, setup{})
	account, ids := h.serviceAccount("a", "b", "c")
	other, others := h.serviceAccount("d")
	_ = other
	a := args{"connection": atlassianName, "service_accounts": account, "all_of_service_account": true, "reason": "x"}
	shown := h.call(bulkTool, a).says("with one call", "tokens that are made meanwhile end too")
	if got := as[bulkOut](shown).ids(); !slices.Equal(got, slices.Sorted(slices.Values(ids))) {
		t.Errorf("targets %v, want %v", got, ids)
	}
	h.forget()
	out := as[bulkOut](h.call(bulkTool, with(a, args{"confirm": shown.code()})).is("revoked"))
	if out.Counts["targets"] != 3 || *out.Left != 0 {
		t.Errorf("result %+v", out)
	}
	if sent := h.sent(); len(sent) != 1 || !strings.HasSuffix(sent[0], "/service-accounts/"+account+"/api-tokens") {
		t.Errorf("sent %v", sent)
	}
	h.wantGone(ids...)
	h.wantAlive(others...)
}

// TestServiceAccountWhoseAnswerIsLost: the call would also end tokens made since,
// so it is never repeated; what is left is told instead.
func TestServiceAccountWhoseAnswerIsLost(t *testing.T) {
	t.Parallel()
	for kind, left := range map[sandbox.FaultKind][]string{sandbox.FaultLostAnswer: nil, sandbox.Fault500: {"a", "b"}, sandbox.FaultCut: {"a", "b"}} {
		h := start(t, setup{})
		account, _ := h.serviceAccount("a", "b")
		a := args{"connection": atlassianName, "service_accounts": account, "all_of_service_account": true, "reason": "x"}
		code := h.preview(bulkTool, a)
		h.fault(sandbox.Fault{Method: "DELETE", Kind: kind})
		r := h.call(bulkTool, with(a, args{"confirm": code})).is("unknown").says("answer was lost", "not sent again")
		want := []string(nil)
		for _, name := range left {
			want = append(want, h.named(name))
		}
		if out := as[bulkOut](r); out.Left == nil || *out.Left != len(want) || !slices.Equal(slices.Sorted(slices.Values(out.LeftIDs)), slices.Sorted(slices.Values(want))) {
			t.Errorf("%s: the listing afterwards: %s, want %v", kind, r.text, want)
		}
		if h.call(bulkTool, with(a, args{"confirm": code})).is("unknown").get("replayed") != true {
			t.Errorf("%s: no replay", kind)
		}
		if len(h.sent()) != 1 {
			t.Errorf("%s: sent %v, want one DELETE", kind, h.sent())
		}
	}
}

func TestServiceAccountWithTooManyTokens(t *testing.T) {
	t.Parallel()
	h := start(t, setup{connections: ruledBy(bigBulks())})
	account, ids := h.serviceAccount(words(101, "t")...)
	a := args{"connection": atlassianName, "service_accounts": account, "all_of_service_account": true, "reason": "x"}
	h.untouched(func() { h.call(bulkTool, a).is("too_many_targets").says("a person must do it") })
	h.remove(ids[0])
	code := h.preview(bulkTool, a)
	h.addAtlassian("one more", func(t *sandbox.AtlassianToken) { t.AccountID = account })
	h.untouched(func() { h.call(bulkTool, with(a, args{"confirm": code})).fails("targets_changed") })
}

// TestBulkPreviewStaysSmall shows a hundred targets whose names and owners cost as
// much as text can.
func TestBulkPreviewStaysSmall(t *testing.T) {
	t.Parallel()
	h := start(t, setup{box: sandbox.Options{Tokens: 9}, connections: ruledBy(bigBulks())})
	h.withHostileNames(100)
	r := rand.New(rand.NewPCG(3, 4))
	for _, name := range []string{atlassianName, launchDarklyName, mailtrapName} {
		var ids []string
		switch name {
		case atlassianName:
			for _, t := range h.box.AtlassianTokens() {
				if !t.ServiceAccount && !t.Unmanaged {
					ids = append(ids, t.ID)
				}
			}
		case launchDarklyName:
			for _, t := range h.box.LaunchDarklyTokens() {
				ids = append(ids, t.ID)
			}
		default:
			for _, t := range h.box.MailtrapTokens() {
				ids = append(ids, number(t.ID))
			}
		}
		ids = ids[len(ids)-100:]
		r.Shuffle(len(ids), func(i, j int) { ids[i], ids[j] = ids[j], ids[i] })
		shown := h.call(bulkTool, args{"connection": name, "token_ids": ids, "reason": "x"}).ok()
		out := as[bulkOut](shown)
		if out.Targets.Count != 100 || len(out.Targets.Rows) != 100 {
			t.Fatalf("%s: %d targets", name, out.Targets.Count)
		}
		if n := llmTokens(t, shown.text); n >= maxResult {
			t.Errorf("%s: a preview of 100 targets is %d tokens, at most %d are allowed", name, n, maxResult)
		}
		for i, row := range out.Targets.Rows {
			if n := llmTokens(t, compactJSON(t, row)); n > 60 {
				t.Errorf("%s: a row is %d tokens, at most 60 are allowed: %q", name, n, row)
			}
			if row[0] != ids[i] {
				t.Errorf("%s: row %d is %s, want %s", name, i, row[0], ids[i])
			}
		}
	}
}

// TestBulkResultsStaySmall: the results of a hundred targets, in the worst cases.
func TestBulkResultsStaySmall(t *testing.T) {
	t.Parallel()
	long := strings.Repeat(`~^|%$#@!*&{}[]<>?;\\ `, 30)
	each(t, map[string]struct {
		spoil func(*harness, []string)
		want  string
	}{
		"all fail": {func(h *harness, _ []string) {
			h.fault(sandbox.Fault{Method: "DELETE", Kind: sandbox.FaultStatus, Status: 403, ContentType: "application/json", Body: `{"code":"forbidden","message":` + compactJSON(h.t, long) + `}`})
		}, "failed"},
		"all fail in their own way": {func(h *harness, ids []string) {
			for i, id := range ids {
				body := compactJSON(h.t, args{"code": "forbidden", "message": fmt.Sprint(i, long)})
				h.fault(sandbox.Fault{Method: "DELETE", PathContains: id, Kind: sandbox.FaultStatus, Status: 403, ContentType: "application/json", Body: body})
			}
		}, "failed"},
		"all are gone": {func(h *harness, ids []string) {
			for _, id := range ids {
				h.remove(id)
			}
		}, "already_gone"},
		"none is attempted": {func(h *harness, _ []string) {
			h.fault(sandbox.Fault{Method: "DELETE", Kind: sandbox.FaultStatus, Status: 401})
		}, "not_attempted"},
		"all are revoked": {func(*harness, []string) {}, "revoked"},
	}, func(t *testing.T, c struct {
		spoil func(*harness, []string)
		want  string
	},
	) {
		h := start(t, setup{connections: ruledBy(bigBulks())})
		ids := h.manyLaunchDarkly(100, "x")
		a := args{"connection": launchDarklyName, "token_ids": ids, "reason": "x"}
		code := h.preview(bulkTool, a)
		c.spoil(h, ids)
		r := h.call(bulkTool, with(a, args{"confirm": code})).ok()
		if out := as[bulkOut](r); out.Counts[c.want] < 99 {
			t.Errorf("counts %v, want %s", out.Counts, c.want)
		}
		if n := llmTokens(t, r.text); n >= maxResult {
			t.Errorf("the result is %d tokens, at most %d are allowed", n, maxResult)
		}
		for _, id := range ids {
			if !strings.Contains(r.text, id) {
				t.Errorf("the result does not tell how %s ended", id)
			}
		}
	})
}
