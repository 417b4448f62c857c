package tools_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tokenreeve/tokenreeve/internal/sandbox"
)

func TestCountGroups(t *testing.T) {
	t.Parallel()
	h := start(t, setup{box: sandbox.Options{Seed: 6, Tokens: 120}})
	facts := h.facts()
	by := map[string]func(fact) string{
		"connection": func(f fact) string { return f.connection },
		"owner": func(f fact) string {
			if f.ownerID == "" {
				return "unknown"
			}
			return f.ownerID
		},
		"kind": kindOf, "status": statusOf, "access": accessOf,
	}
	for name, of := range by {
		for _, filter := range []args{{}, {"status": "active"}} {
			t.Run(fmt.Sprint(name, filter), func(t *testing.T) {
				t.Parallel()
				want, total := map[string]int{}, 0
				for _, f := range facts {
					if filter["status"] == nil || f.status == filter["status"] {
						want[of(f)]++
						total++
					}
				}
				count := as[counted](h.on(t).call("count_tokens", args{"group_by": name, "status": filter["status"]}))
				if count.Total != total {
					t.Errorf("total is %d, want %d", count.Total, total)
				}
				if diff := cmp.Diff(want, count.groups()); diff != "" {
					t.Errorf("groups (-want +got):\n%s", diff)
				}
				checkLargestFirst(t, count)
			})
		}
	}
}

func checkLargestFirst(t *testing.T, count counted) {
	t.Helper()
	for i := 1; i < len(count.Groups); i++ {
		if count.Groups[i].Count > count.Groups[i-1].Count {
			t.Errorf("group %d is larger than the one before: %+v", i, count.Groups)
		}
	}
}

// Of many groups the largest are shown and the rest counted.
func TestCountManyGroups(t *testing.T) {
	t.Parallel()
	h := start(t, setup{box: sandbox.Options{Seed: 6, AtlassianTokens: new(900)}, connections: oneOfEach()[:1]})
	want := map[string]int{}
	for _, f := range h.atlassianFacts() {
		want[f.ownerID]++
	}
	count := as[counted](h.call("count_tokens", args{"group_by": "owner", "status": "active"}))
	if len(count.Groups) == 0 || len(count.Groups) > 100 || count.GroupsLeftOut == 0 {
		t.Errorf("%d groups and %d left out, want at most 100 and the rest told", len(count.Groups), count.GroupsLeftOut)
	}
	checkLargestFirst(t, count)
	whole := as[counted](h.call("count_tokens", args{"group_by": "owner"}))
	if len(whole.Groups)+whole.GroupsLeftOut != len(want) {
		t.Errorf("%d groups and %d left out, want %d together", len(whole.Groups), whole.GroupsLeftOut, len(want))
	}
	for _, g := range whole.Groups {
		if want[g.Key] != g.Count {
			t.Errorf("group %+v, want %d", g, want[g.Key])
		}
	}
}

// Where the vendor counts, no token is listed for it.
func TestCountByTheVendor(t *testing.T) {
	t.Parallel()
	box := sandbox.Options{AtlassianTokens: new(2500), LaunchDarklyTokens: new(900), MailtrapTokens: new(60)}
	first := start(t, setup{box: box})
	service := find(t, first.atlassianFacts(), func(f fact) bool { return f.kind == "service" }).ownerID
	total := func(connection string) int { return len(first.factsAt(connection)) }
	ofService, _ := matching(first.atlassianFacts(), ofServiceAccounts(service))
	users, _ := matching(first.atlassianFacts(), word(kindOf, "user"))
	tests := map[string]struct {
		connection string
		arguments  args
		total      int
		sent       []string // but for questions about the credential
	}{
		"launchdarkly":               {launchDarklyName, args{}, total(launchDarklyName), []string{"GET /api/v2/tokens"}},
		"launchdarkly by connection": {launchDarklyName, args{"group_by": "connection"}, total(launchDarklyName), []string{"GET /api/v2/tokens"}},
		"atlassian":                  {atlassianName, args{}, total(atlassianName), []string{"GET api-tokens/count", "GET service-accounts/api-tokens"}},
		"atlassian users":            {atlassianName, args{"kind": "user"}, len(users), []string{"GET api-tokens/count"}},
		"atlassian service account":  {atlassianName, args{"service_accounts": service}, len(ofService), []string{"POST service-accounts/count"}},
		"atlassian service account by owner": {
			atlassianName, args{"service_accounts": service, "group_by": "owner"}, len(ofService), []string{"POST service-accounts/count"},
		},
		"mailtrap": {mailtrapName, args{}, total(mailtrapName), []string{"GET /api/accounts/3229/api_tokens"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := start(t, setup{box: box})
			test.arguments["connection"] = test.connection
			count := as[counted](h.call("count_tokens", test.arguments))
			if count.Total != test.total || !count.Coverage[0].Complete {
				t.Errorf("count %+v, want %d and complete", count, test.total)
			}
			var sent []string
			for _, r := range h.requests() {
				if strings.HasSuffix(r.Path, "/tokens/"+h.access.LaunchDarkly.TokenID) {
					continue
				}
				sent = append(sent, r.Method+" "+strings.TrimPrefix(r.Path, "/admin/api-access/v1/orgs/"+h.access.Atlassian.OrgID+"/"))
			}
			slices.Sort(sent)
			if diff := cmp.Diff(test.sent, sent); diff != "" {
				t.Errorf("requests (-want +got):\n%s", diff)
			}
		})
	}
}

func TestCountOfServiceAccounts(t *testing.T) {
	t.Parallel()
	h := start(t, setup{box: sandbox.Options{AtlassianTokens: new(200)}})
	want := map[string]int{}
	for _, f := range h.atlassianFacts() {
		if f.kind == "service" {
			want[f.ownerID]++
		}
	}
	ids := slices.Sorted(maps.Keys(want))
	total := 0
	for _, n := range want {
		total += n
	}
	unknown := []string{"712020:nobody", "712020:noone"}
	for _, groupBy := range []string{"", "owner"} {
		arguments := args{"connection": atlassianName, "service_accounts": append(slices.Clone(unknown), ids...)}
		if groupBy != "" {
			arguments["group_by"] = groupBy
		}
		count := as[counted](h.call("count_tokens", arguments))
		slices.Sort(count.UnknownService)
		if diff := cmp.Diff(unknown, count.UnknownService); diff != "" || count.Total != total {
			t.Errorf("count %+v, want %d; unknown (-want +got):\n%s", count, total, diff)
		}
		if groupBy == "owner" {
			if diff := cmp.Diff(want, count.groups()); diff != "" {
				t.Errorf("groups (-want +got):\n%s", diff)
			}
		}
	}
	many := make([]string, 101)
	for i := range many {
		many[i] = fmt.Sprintf("712020:%d", i)
	}
	h.forget()
	h.call("count_tokens", args{"connection": atlassianName, "service_accounts": many}).fails("invalid_argument")
	h.call("list_tokens", args{"connection": atlassianName, "service_accounts": many}).fails("invalid_argument")
	if sent := h.box.Requests(); len(sent) != 0 {
		t.Errorf("%d requests were sent", len(sent))
	}
}

// Over several connections a filter by service accounts counts where it can.
func TestCountOfServiceAccountsEverywhere(t *testing.T) {
	t.Parallel()
	h := start(t, setup{})
	service := find(t, h.launchDarklyFacts(), func(f fact) bool { return f.kind == "service" }).ownerID
	want, blind := matching(h.facts(), ofServiceAccounts(service))
	count := as[counted](h.call("count_tokens", args{"service_accounts": []string{service}}))
	if count.Total != len(want) {
		t.Errorf("count is %d, want %d", count.Total, len(want))
	}
	if got := coverageOf(t, count.Coverage, mailtrapName); got.Undecided != blind[mailtrapName] {
		t.Errorf("coverage %+v, want %d undecided", got, blind[mailtrapName])
	}
}
