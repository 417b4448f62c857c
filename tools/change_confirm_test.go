package tools_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tokenreeve/tokenreeve/internal/ledger"
	"github.com/tokenreeve/tokenreeve/internal/sandbox"
)

// change is a change that takes a preview and its code.
type change struct {
	tool string
	// args makes what is to be changed.
	args func(*harness) args
	// others are other valid arguments: each must be a mismatch.
	others func(*harness) []other
	// sent tells how many requests of which kind the change takes.
	sent int
	kind string // METHOD PATH, as far as it is the same for all
	// done tells from the vendor's state whether it happened.
	done func(*harness, args) bool
}

// other is other arguments and the names that differ.
type other struct {
	names string
	set   args
}

func ended(id string) func(*harness, args) bool {
	return func(h *harness, a args) bool {
		switch target := a[id].(type) {
		case string:
			return !h.lives(target)
		case []string:
			return !slices.ContainsFunc(target, h.lives)
		}
		panic("no ids in " + id)
	}
}

// changes are all kinds of change.
func changes() map[string]change {
	const ld, at, mt = launchDarklyName, atlassianName, mailtrapName
	all := map[string]change{
		"revoke at LaunchDarkly": {
			tool: "revoke_token", sent: 1, kind: "DELETE /api/v2/tokens/", done: ended("token_id"),
			args: func(h *harness) args {
				return args{"connection": ld, "token_id": h.addLaunchDarkly("old").ID, "reason": "unused"}
			},
			others: func(h *harness) []other {
				return []other{
					{"connection", args{"connection": "beta-launchdarkly"}},
					{"token_id", args{"token_id": h.addLaunchDarkly("new").ID}},
					{"owner", args{"owner": h.box.LaunchDarklyMembers()[3].ID}},
					{"reason", args{"reason": nil}},
					{"reason", args{"reason": "Unused"}},
					{"allow_in_use", args{"allow_in_use": true}},
				}
			},
		},
		"revoke at Mailtrap": {
			tool: "revoke_token", sent: 1, kind: "DELETE /api/accounts/3229/api_tokens/", done: ended("token_id"),
			args: func(h *harness) args { return args{"connection": mt, "token_id": number(h.addMailtrap("old").ID)} },
			others: func(h *harness) []other {
				return []other{
					{"connection", args{"connection": "beta-mailtrap"}},
					{"token_id", args{"token_id": number(h.addMailtrap("new").ID)}},
					{"reason", args{"reason": "unused"}},
				}
			},
		},
		"revoke at Atlassian": {
			tool: "revoke_token", sent: 1, kind: "DELETE /users/", done: ended("token_id"),
			args: func(h *harness) args {
				t := h.addAtlassian("old")
				return args{"connection": at, "token_id": t.ID, "owner": t.AccountID}
			},
			others: func(h *harness) []other {
				t := h.addAtlassian("new")
				return []other{
					{"connection", args{"connection": "beta-atlassian"}},
					{"token_id", args{"token_id": t.ID}},
					{"owner", args{"owner": t.AccountID}},
					{"owner", args{"owner": nil}},
					{"owner and token_id", args{"owner": t.AccountID, "token_id": t.ID}},
				}
			},
		},
		"bulk by ids": {
			tool: "bulk_revoke_tokens", sent: 2, kind: "DELETE /api/v2/tokens/", done: ended("token_ids"),
			args: func(h *harness) args {
				return args{"connection": ld, "reason": "unused", "token_ids": []string{h.addLaunchDarkly("a").ID, h.addLaunchDarkly("b").ID}}
			},
			others: func(h *harness) []other {
				c := h.addLaunchDarkly("c").ID
				return []other{
					{"connection", args{"connection": "beta-launchdarkly"}},
					{"token_ids", args{"token_ids": []string{c}}},
					{"exclude", args{"exclude": []string{c}}},
					{"reason", args{"reason": "other"}},
					{"query and token_ids", args{"token_ids": nil, "query": "c"}},
					{"allow_in_use", args{"allow_in_use": true}},
				}
			},
		},
		"bulk by filters": {
			tool: "bulk_revoke_tokens", sent: 2, kind: "DELETE /api/v2/tokens/",
			done: func(h *harness, _ args) bool {
				return !slices.ContainsFunc(h.box.LaunchDarklyTokens(), func(t sandbox.LaunchDarklyToken) bool { return strings.HasPrefix(t.Name, "filtered") })
			},
			args: func(h *harness) args {
				for i := range 2 {
					h.addLaunchDarkly(fmt.Sprint("filtered ", i), func(t *sandbox.LaunchDarklyToken) { t.CreatedAt = h.clock.Now().AddDate(-1, 0, 0) })
				}
				return args{
					"connection": ld, "reason": "unused", "query": "filtered", "kind": "user", "status": "active", "access": "read",
					"created_after": "2y", "created_before": "30d", "unused_for": "90d", "expires_within": "never", "owner": h.box.LaunchDarklyMembers()[3].ID,
				}
			},
			others: func(h *harness) []other {
				return []other{
					{"owner", args{"owner": nil}},
					{"service_accounts", args{"service_accounts": []string{h.box.LaunchDarklyMembers()[3].ID}}},
					{"query", args{"query": "filtere"}},
					{"kind", args{"kind": "service"}},
					{"status", args{"status": "expired"}},
					{"access", args{"access": "write"}},
					{"created_after", args{"created_after": "3y"}},
					{"created_before", args{"created_before": "29d"}},
					{"unused_for", args{"unused_for": "never"}},
					{"expires_within", args{"expires_within": nil}},
					{"exclude", args{"exclude": []string{h.addLaunchDarkly("c").ID}}},
				}
			},
		},
		"bulk of a service account": {
			tool: "bulk_revoke_tokens", sent: 1, kind: "DELETE /admin/api-access/v1/orgs/",
			done: func(h *harness, a args) bool {
				account := a["service_accounts"].([]string)[0]
				return !slices.ContainsFunc(h.box.AtlassianTokens(), func(t sandbox.AtlassianToken) bool { return t.AccountID == account })
			},
			args: func(h *harness) args {
				account, _ := h.serviceAccount("x", "y")
				return args{"connection": at, "reason": "unused", "service_accounts": []string{account}, "all_of_service_account": true}
			},
			others: func(h *harness) []other {
				account, _ := h.serviceAccount("z")
				return []other{
					{"connection", args{"connection": "beta-atlassian"}},
					{"service_accounts", args{"service_accounts": []string{account}}},
					{"all_of_service_account", args{"all_of_service_account": nil}},
					{"reason", args{"reason": "other"}},
					{"allow_in_use", args{"allow_in_use": true}},
				}
			},
		},
		"rotate at LaunchDarkly": {
			tool: "rotate_token", sent: 1, kind: "POST /api/v2/tokens/",
			done: func(h *harness, _ args) bool { return len(h.delivered()) > 0 },
			args: func(h *harness) args {
				return args{"connection": ld, "token_id": h.addLaunchDarkly("old").ID, "overlap": "2h", "deliver_to": "files/a"}
			},
			others: func(h *harness) []other {
				return []other{
					{"connection", args{"connection": "beta-launchdarkly"}},
					{"token_id", args{"token_id": h.addLaunchDarkly("new").ID}},
					{"overlap", args{"overlap": "120min"}},
					{"overlap", args{"overlap": nil}},
					{"compromised", args{"compromised": true}},
					{"deliver_to", args{"deliver_to": "files/b"}},
				}
			},
		},
		"reset of a leaked token": {
			tool: "rotate_token", sent: 1, kind: "POST /api/v2/tokens/",
			done: func(h *harness, _ args) bool { return len(h.delivered()) > 0 },
			args: func(h *harness) args {
				return args{"connection": ld, "token_id": h.addLaunchDarkly("old").ID, "compromised": true}
			},
			others: func(h *harness) []other {
				return []other{
					{"token_id", args{"token_id": h.addLaunchDarkly("new").ID}},
					{"compromised", args{"compromised": nil}},
					{"allow_in_use", args{"allow_in_use": true}},
					{"deliver_to", args{"deliver_to": "files/b"}},
				}
			},
		},
		"twin of a leaked token": {
			tool: "rotate_token", sent: 2,
			done: func(h *harness, a args) bool { return len(h.delivered()) > 0 && ended("token_id")(h, a) },
			args: func(h *harness) args {
				return args{"connection": mt, "token_id": number(h.addMailtrap("old").ID), "compromised": true}
			},
			others: func(h *harness) []other {
				return []other{
					{"token_id", args{"token_id": number(h.addMailtrap("new").ID)}},
					{"compromised", args{"compromised": false}},
					{"allow_in_use", args{"allow_in_use": true}},
				}
			},
		},
		"rotate at Mailtrap": {
			tool: "rotate_token", sent: 1, kind: "POST /api/accounts/3229/api_tokens/",
			done: func(h *harness, _ args) bool { return len(h.delivered()) > 0 },
			args: func(h *harness) args { return args{"connection": mt, "token_id": number(h.addMailtrap("old").ID)} },
			others: func(h *harness) []other {
				return []other{
					{"compromised", args{"compromised": true}},
					{"token_id", args{"token_id": number(h.addMailtrap("new").ID)}},
					{"overlap", args{"overlap": "1h"}},
					{"deliver_to", args{"deliver_to": "files/b"}},
				}
			},
		},
	}
	maps.Copy(all, updates())
	maps.Copy(all, elevatedCreations())
	return all
}

// updates are the ways to change a token of LaunchDarkly.
func updates() map[string]change {
	update := func(base args, done func(sandbox.LaunchDarklyToken) bool, others func(*harness) []other) change {
		return change{
			tool: "update_launchdarkly_token", sent: 1, kind: "PATCH /api/v2/tokens/", others: others,
			args: func(h *harness) args {
				return with(base, args{"connection": launchDarklyName, "token_id": h.addLaunchDarkly("before").ID})
			},
			done: func(h *harness, a args) bool {
				t, _ := h.launchDarkly(a["token_id"].(string))
				return done(t)
			},
		}
	}
	const inline = `[{"effect":"allow","resources":["proj/*"],"actions":["viewProject"]}]`
	return map[string]change{
		"update": update(args{"name": "after", "description": "why", "role": "writer"},
			func(t sandbox.LaunchDarklyToken) bool { return t.Name == "after" && t.Role == "writer" },
			func(h *harness) []other {
				return []other{
					{"connection", args{"connection": "beta-launchdarkly"}},
					{"token_id", args{"token_id": h.addLaunchDarkly("new").ID}},
					{"name", args{"name": "After"}},
					{"description", args{"description": nil}},
					{"role", args{"role": "admin"}},
					{"custom_roles and role", args{"role": nil, "custom_roles": []string{h.box.LaunchDarklyRoles()[0].ID}}},
					{"inline_role and role", args{"role": nil, "inline_role": inline}},
				}
			}),
		"update by patch": update(args{"patch": `[{"op":"replace","path":"/role","value":"writer"}]`},
			func(t sandbox.LaunchDarklyToken) bool { return t.Role == "writer" },
			func(*harness) []other {
				return []other{
					{"patch", args{"patch": `[{"op":"replace","path":"/role","value":"admin"}]`}},
					{"patch and role", args{"patch": nil, "role": "writer"}},
				}
			}),
	}
}

// elevatedCreations make tokens whose access takes a preview.
func elevatedCreations() map[string]change {
	named := func(name string) func(*harness, args) bool {
		return func(h *harness, _ args) bool {
			return slices.ContainsFunc(h.box.LaunchDarklyTokens(), func(t sandbox.LaunchDarklyToken) bool { return t.Name == name }) ||
				slices.ContainsFunc(h.box.MailtrapTokens(), func(t sandbox.MailtrapToken) bool { return t.Name == name })
		}
	}
	account := func(level string) []args {
		return []args{{"resource_type": "account", "resource_id": "3229", "access_level": level}}
	}
	return map[string]change{
		"create an admin at LaunchDarkly": {
			tool: "create_launchdarkly_token", sent: 1, kind: "POST /api/v2/tokens", done: named("created"),
			args: func(*harness) args {
				return args{"connection": launchDarklyName, "name": "created", "description": "why", "role": "admin"}
			},
			others: func(h *harness) []other {
				return []other{
					{"connection", args{"connection": "beta-launchdarkly"}},
					{"name", args{"name": "Created"}},
					{"description", args{"description": "why?"}},
					{"role", args{"role": "reader"}}, // needs no preview by itself
					{"custom_roles and role", args{"role": nil, "custom_roles": []string{h.box.LaunchDarklyRoles()[0].ID}}},
					{"inline_role and role", args{"role": nil, "inline_role": `[{"effect":"allow","resources":["*"],"actions":["*"]}]`}},
					{"service_token", args{"service_token": true}},
					{"default_api_version", args{"default_api_version": 20191212}},
					{"deliver_to", args{"deliver_to": "files/b"}},
				}
			},
		},
		"create an account admin at Mailtrap": {
			tool: "create_mailtrap_token", sent: 1, kind: "POST /api/accounts/3229/api_tokens", done: named("created"),
			args: func(*harness) args {
				return args{"connection": mailtrapName, "name": "created", "permissions": account("admin"), "expires": "90d"}
			},
			others: func(*harness) []other {
				return []other{
					{"connection", args{"connection": "beta-mailtrap"}},
					{"name", args{"name": "Created"}},
					{"permissions", args{"permissions": account("viewer")}}, // needs no preview by itself
					{"expires", args{"expires": "never"}},
					{"expires", args{"expires": nil}},
					{"deliver_to", args{"deliver_to": "files/b"}},
				}
			},
		},
	}
}

// wantActed fails the test unless the change happened, by its requests and by the state.
func (c change) wantActed(h *harness, a args) {
	h.t.Helper()
	sent := h.sent()
	if len(sent) != c.sent || slices.ContainsFunc(sent, func(r string) bool { return !strings.HasPrefix(r, c.kind) }) {
		h.t.Errorf("sent %q, want %d times %s", sent, c.sent, c.kind)
	}
	if !c.done(h, a) {
		h.t.Error("the vendor is as before")
	}
}

func TestPreviewThenConfirmThenReplay(t *testing.T) {
	t.Parallel()
	each(t, changes(), func(t *testing.T, c change) {
		h := start(t, setup{connections: pairs()})
		a := c.args(h)
		code := h.preview(c.tool, a)
		confirmed := with(a, args{"confirm": code})
		acted := h.call(c.tool, confirmed).ok()
		c.wantActed(h, a)
		if acted.get("replayed") != nil || acted.str("confirm") != "" {
			t.Errorf("the result of the change says %s", acted.text)
		}
		h.clock.advance(30 * time.Minute) // a spent code is remembered for longer than an open one
		h.untouched(func() {
			again := h.call(c.tool, confirmed).ok()
			if again.get("replayed") != true {
				t.Errorf("the replay is not marked: %s", again.text)
			}
			delete(again.data, "replayed")
			if diff := cmp.Diff(acted.data, again.data); diff != "" {
				t.Errorf("the replay is not the recorded result (-first +again):\n%s", diff)
			}
		})
	})
}

func TestWhatIsNotACodeGetsAPreview(t *testing.T) {
	t.Parallel()
	each(t, changes(), func(t *testing.T, c change) {
		h := start(t, setup{connections: pairs()})
		a := c.args(h)
		code := h.preview(c.tool, a)
		id := func(r result) string { r.code(); return r.str("preview_id") }
		seen := map[string]bool{}
		h.untouched(func() {
			for _, no := range []any{
				true, false, "yes", "true", "", 1,
				[]string{code},
				args{"code": code},
				strings.ToLower(code), code[:25], code[1:], code + "A", "A" + code, code + code,
				" " + code, code + " ", code + "\n", code[:13] + " " + code[13:], `"` + code + `"`,
				altered(code, 0), altered(code, 12), altered(code, 25),
				"pv_0123456789", strings.Repeat("A", 26),
			} {
				seen[id(h.call(c.tool, with(a, args{"confirm": no})))] = true
			}
			seen[id(h.call(c.tool, json.RawMessage(strings.TrimSuffix(mustJSON(t, a), "}")+`,"confirm":null}`)))] = true
			seen[id(h.callAs("mallory", c.tool, with(a, args{"confirm": code})))] = true
			h.clock.advance(10 * time.Minute)
			seen[id(h.call(c.tool, with(a, args{"confirm": code})))] = true
		})
		if len(seen) != 27 {
			t.Errorf("%d previews, want 27 new ones", len(seen))
		}
	})
}

// altered is a code with another letter at one place.
func altered(code string, at int) string {
	other := "A"
	if code[at] == 'A' {
		other = "B"
	}
	return code[:at] + other + code[at+1:]
}

func mustJSON(t *testing.T, v any) string {
	t.Helper()
	text, err := json.Marshal(v)
	return string(must(t, text, err))
}

func TestCodeWorksUntilItsLastMoment(t *testing.T) {
	t.Parallel()
	h := start(t, setup{})
	token := h.addLaunchDarkly("old")
	a := args{"connection": launchDarklyName, "token_id": token.ID}
	code := h.preview("revoke_token", a)
	h.clock.advance(10*time.Minute - time.Nanosecond)
	h.call("revoke_token", with(a, args{"confirm": code})).is("revoked")
	h.wantGone(token.ID)
}

func TestChangedArgumentIsAMismatch(t *testing.T) {
	t.Parallel()
	each(t, changes(), func(t *testing.T, c change) {
		h := start(t, setup{connections: pairs()})
		a, others := c.args(h), c.others(h)
		code := h.preview(c.tool, a)
		for _, o := range others {
			h.untouched(func() {
				r := h.call(c.tool, with(with(a, o.set), args{"confirm": code}))
				if !r.fails("preview_mismatch").isError || !strings.HasSuffix(r.problem.Message, " "+o.names) {
					t.Errorf("%v: the mismatch does not name %q: %s", o.set, o.names, r.text)
				}
			})
		}
		h.call(c.tool, with(a, args{"confirm": code})).ok() // the code was not spent
		c.wantActed(h, a)
	})
}

// TestEveryArgumentIsBound checks the table itself: an argument that no case
// changes may be one that no code is bound to.
func TestEveryArgumentIsBound(t *testing.T) {
	t.Parallel()
	h := start(t, setup{connections: pairs()})
	bound := map[string]bool{"everything": true} // stands in TestEverything
	for _, c := range changes() {
		for _, o := range c.others(h) {
			for name := range o.set {
				bound[c.tool+" "+name] = true
			}
		}
	}
	for _, d := range h.definitions() {
		var schema struct {
			Properties map[string]any `json:"properties"`
		}
		if err := json.Unmarshal(d.InputSchema, &schema); err != nil {
			t.Fatal(err)
		}
		_, takesCode := schema.Properties["confirm"]
		for name := range schema.Properties {
			if takesCode && name != "confirm" && !bound[d.Name+" "+name] && !bound[name] {
				t.Errorf("no case changes %s of %s", name, d.Name)
			}
		}
	}
}

// TestCodeOfAnotherProcess: an editor starts a server per window, and all share what
// they know of previews and results.
func TestCodeOfAnotherProcess(t *testing.T) {
	t.Parallel()
	each(t, changes(), func(t *testing.T, c change) {
		h := start(t, setup{connections: pairs()})
		a := c.args(h)
		confirmed := with(a, args{"confirm": h.preview(c.tool, a)})
		second := h.restart(setup{connections: pairs()})
		acted := second.call(c.tool, confirmed).ok()
		c.wantActed(second, a)
		h.untouched(func() {
			again := h.call(c.tool, confirmed).ok()
			if again.get("replayed") != true || again.str("operation_id") != acted.str("operation_id") {
				t.Errorf("the first server does not replay what the second did: %s", again.text)
			}
		})
	})
}

// TestCodeOfAnotherStateDirectory: what another user's server previewed is no code here.
func TestCodeOfAnotherStateDirectory(t *testing.T) {
	t.Parallel()
	h := start(t, setup{})
	a := args{"connection": launchDarklyName, "token_id": h.addLaunchDarkly("old").ID}
	code := h.preview(revoke, a)
	other := h.restart(setup{stateDir: filepath.Join(t.TempDir(), "state")})
	h.untouched(func() { other.call(revoke, with(a, args{"confirm": code})).says("not a valid code").code() })
}

// TestSpentCode: only the same caller gets the result again, and only for an hour.
func TestSpentCode(t *testing.T) {
	t.Parallel()
	each(t, changes(), func(t *testing.T, c change) {
		h := start(t, setup{connections: pairs()})
		a := c.args(h)
		confirmed := with(a, args{"confirm": h.preview(c.tool, a)})
		h.call(c.tool, confirmed).ok()
		others := c.others(h)
		h.untouched(func() {
			if r := h.callAs("mallory", c.tool, confirmed); r.get("replayed") != nil || r.problem.Replayed || r.str("operation_id") != "" {
				t.Errorf("another caller reads the result: %s", r.text)
			}
			for _, o := range others {
				h.call(c.tool, with(with(a, o.set), args{"confirm": confirmed["confirm"]})).fails("preview_mismatch")
			}
			h.clock.advance(time.Hour)
			if r := h.call(c.tool, confirmed); r.get("replayed") != nil || r.problem.Replayed {
				t.Errorf("the result is told after an hour: %s", r.text)
			}
		})
	})
}

// TestTwoServersTakeOneCode: of two processes that confirm at the same moment, one acts.
func TestTwoServersTakeOneCode(t *testing.T) {
	t.Parallel()
	each(t, changes(), func(t *testing.T, c change) {
		h := start(t, setup{connections: pairs()})
		a := c.args(h)
		confirmed := with(a, args{"confirm": h.preview(c.tool, a)})
		servers := []*harness{h, h.restart(setup{connections: pairs()})}
		results := make([]result, 2*len(servers))
		begin := make(chan struct{})
		var wg sync.WaitGroup
		for i := range results {
			wg.Go(func() {
				<-begin
				results[i] = servers[i%len(servers)].call(c.tool, confirmed)
			})
		}
		close(begin)
		wg.Wait()
		c.wantActed(h, a)
		wantOneActed(t, results)
	})
}

// wantOneActed fails the test unless one of several confirmations acted, and the others
// say that it is under way or repeat its result.
func wantOneActed(t *testing.T, results []result) {
	t.Helper()
	acted := 0
	for _, r := range results {
		switch {
		case r.isError && r.problem.Code == "in_progress":
		case !r.isError && r.get("replayed") == true:
		case !r.isError:
			acted++
		default:
			t.Errorf("a confirmation answered %s", r.text)
		}
	}
	if acted != 1 {
		t.Errorf("%d confirmations acted, want 1", acted)
	}
}

// TestProcessThatDied: the process that took the code is gone. What happened is told, and
// nothing is sent again.
func TestProcessThatDied(t *testing.T) {
	t.Parallel()
	box := start(t, setup{})
	token := box.addLaunchDarkly("old")
	arrived, release, open := gates()
	defer open()
	dying := box.behind(setup{}, holdFirst("DELETE", arrived, release))
	a := args{"connection": launchDarklyName, "token_id": token.ID, "reason": "leaked"}
	confirmed := with(a, args{"confirm": dying.preview(revoke, a)})
	var wg sync.WaitGroup
	wg.Go(func() { dying.call(revoke, confirmed).says("could not be put on record") })
	<-arrived
	must(t, 0, dying.env.Ledger.Close()) // as its death would
	h := box.restart(setup{})
	next := h.addLaunchDarkly("next").ID
	h.untouched(func() {
		h.call(revoke, confirmed).fails("in_progress") // nobody knows yet
		h.clock.advance(time.Minute)
		cut := h.call(revoke, confirmed).fails("interrupted").says("ended as unknown", "get_operation")
		id := cut.problem.Next[strings.LastIndex(cut.problem.Next, " ")+1:]
		told := h.call("get_operation", args{"operation_id": id}).ok()
		told.says(`"outcome":"unknown"`, `"error_code":"interrupted"`, token.ID, "read the token", "leaked")
		h.call(revoke, confirmed).fails("interrupted") // and does not change
	})
	h.wantAlive(token.ID)
	open()
	wg.Wait()
	h.wantGone(token.ID)
	h.confirm(revoke, args{"connection": launchDarklyName, "token_id": next}).is("revoked")
}

// TestProcessThatDiedBeforeItSent: the code was taken and nothing came of it.
func TestProcessThatDiedBeforeItSent(t *testing.T) {
	t.Parallel()
	box := start(t, setup{})
	token := box.addLaunchDarkly("old")
	arrived, release, open := gates()
	defer open()
	var armed atomic.Bool
	hold := holdFirst(http.MethodGet, arrived, release)
	dying := box.behind(setup{}, func(r *http.Request) {
		if armed.Load() {
			hold(r)
		}
	})
	a := args{"connection": launchDarklyName, "token_id": token.ID}
	confirmed := with(a, args{"confirm": dying.preview(revoke, a)})
	armed.Store(true)
	var wg sync.WaitGroup
	wg.Go(func() { dying.call(revoke, confirmed).fails("ledger_unavailable") })
	<-arrived
	must(t, 0, dying.env.Ledger.Close())
	h := box.restart(setup{})
	h.untouched(func() {
		h.clock.advance(10*time.Minute - time.Second) // for so long it may still be sent
		h.call(revoke, confirmed).fails("in_progress")
		h.clock.advance(time.Second)
		h.call(revoke, confirmed).fails("interrupted").says("before anything was sent", "new preview")
		open()
		wg.Wait()
	})
	h.confirm(revoke, a).is("revoked")
}

// TestOutcomeBeforeTheResult: the vendor has answered and the outcome is on record, while
// the first call still looks what is left. It is no call that was cut off, until too much
// time has passed.
func TestOutcomeBeforeTheResult(t *testing.T) {
	t.Parallel()
	box := start(t, setup{})
	ids := box.manyLaunchDarkly(2, "old")
	arrived, release, open := gates()
	defer open()
	var deletes atomic.Int32
	hold := holdFirst(http.MethodGet, arrived, release)
	slow := box.behind(setup{}, func(r *http.Request) {
		if r.Method == http.MethodDelete {
			deletes.Add(1)
		}
		if deletes.Load() == 2 {
			hold(r)
		}
	})
	a := args{"connection": launchDarklyName, "token_ids": ids, "reason": "x"}
	confirmed := with(a, args{"confirm": slow.preview(bulkTool, a)})
	var first result
	var wg sync.WaitGroup
	wg.Go(func() { first = slow.call(bulkTool, confirmed) })
	<-arrived
	h := box.restart(setup{})
	during := h.call(bulkTool, confirmed).fails("in_progress").says("get_operation")
	id := during.problem.Next[strings.LastIndex(during.problem.Next, " ")+1:]
	h.call("get_operation", args{"operation_id": id}).ok().says(`"outcome":"done"`, "2 revoked")
	h.clock.advance(2 * time.Minute)
	h.call(bulkTool, confirmed).fails("interrupted").says("ended as done", id)
	open()
	wg.Wait()
	first.is("revoked")
	if again := h.call(bulkTool, confirmed).is("revoked"); again.get("replayed") != true || again.str("operation_id") != id {
		t.Errorf("no replay of operation %s: %s", id, again.text)
	}
}

// TestDroppedCallGivesItsCodeBack: whoever goes away before anything was sent has changed
// nothing, and the code works afterwards, in another process too.
func TestDroppedCallGivesItsCodeBack(t *testing.T) {
	t.Parallel()
	stops := map[string]func(*harness, context.CancelFunc){
		"cancelled": func(_ *harness, cancel context.CancelFunc) { cancel() },
		"stopped":   func(h *harness, _ context.CancelFunc) { h.env.Work.Stop() },
	}
	for how, stop := range stops {
		for name, c := range changes() {
			if strings.HasPrefix(c.tool, "create_") {
				continue // reads nothing during which a client could go away
			}
			t.Run(name+"/"+how, func(t *testing.T) {
				t.Parallel()
				box := start(t, setup{connections: pairs()})
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				var h *harness
				var armed atomic.Bool
				h = box.behind(setup{connections: pairs()}, func(*http.Request) {
					if armed.CompareAndSwap(true, false) {
						stop(h, cancel)
					}
				})
				a := c.args(h)
				confirmed := with(a, args{"confirm": h.preview(c.tool, a)})
				armed.Store(true)
				h.untouched(func() {
					if r := h.callWith(ctx, c.tool, confirmed); !r.isError || r.problem.Code != "cancelled" && r.problem.Code != "server_stopping" {
						t.Errorf("the dropped call answered %s", r.text)
					}
				})
				if armed.Load() {
					t.Fatal("nothing was asked of the vendor: the test's hook is in the wrong place")
				}
				second := box.restart(setup{connections: pairs()})
				second.forget()
				if r := second.call(c.tool, confirmed).ok(); r.get("replayed") != nil {
					t.Errorf("a replay of nothing: %s", r.text)
				}
				c.wantActed(second, a)
			})
		}
	}
}

// TestGuesses makes ten thousand guesses of the right form while many codes for just this
// change are open. Each asks the record as a call does; some are whole calls.
func TestGuesses(t *testing.T) {
	t.Parallel()
	h := start(t, setup{connections: ruledBy(anyAccess())})
	const tool = "create_launchdarkly_token"
	a := args{"connection": launchDarklyName, "name": "guessed", "role": "admin"}
	open := make([]string, 20)
	for i := range open {
		open[i] = h.call(tool, a).code()
	}
	random := rand.New(rand.NewPCG(5, 6))
	guess := func() string {
		letters := []byte(open[random.IntN(len(open))])
		for i := range letters {
			if random.IntN(3) > 0 { // near a right one
				letters[i] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"[random.IntN(32)]
			}
		}
		return string(letters)
	}
	peek := func(code string) ledger.Verdict {
		check, err := h.env.Ledger.PeekPreview(t.Context(), code, "local", tool, json.RawMessage(mustJSON(t, a)))
		return must(t, check.Verdict, err)
	}
	h.untouched(func() {
		for range 10_000 {
			if code := guess(); peek(code) != ledger.NotACode {
				t.Fatalf("guess %s is right", code)
			}
		}
		for range 20 {
			h.call(tool, with(a, args{"confirm": guess()})).code()
		}
	})
	if page, err := h.env.Ledger.List(t.Context(), ledger.Query{}); err != nil || len(page.Operations) > 0 {
		t.Errorf("%d operations, %v", len(page.Operations), err)
	}
	if peek(open[0]) != ledger.Accepted {
		t.Error("a right code is no code: the guesses asked for something else")
	}
	h.call(tool, with(a, args{"confirm": open[0]})).is("created")
}

func TestCodeOfAnotherTool(t *testing.T) {
	t.Parallel()
	h := start(t, setup{})
	token := h.addLaunchDarkly("old")
	a := args{"connection": launchDarklyName, "token_id": token.ID}
	code := h.preview("rotate_token", a)
	h.untouched(func() {
		r := h.call("revoke_token", with(a, args{"confirm": code})).fails("preview_mismatch")
		if !strings.HasSuffix(r.problem.Message, " tool") {
			t.Errorf("the mismatch does not name the tool: %s", r.text)
		}
	})
	h.wantAlive(token.ID)
}

// TestConcurrentConfirmations holds the change at the vendor until all other
// confirmations were answered.
func TestConcurrentConfirmations(t *testing.T) {
	t.Parallel()
	each(t, changes(), func(t *testing.T, c change) {
		h := start(t, setup{connections: pairs()})
		a := c.args(h)
		confirmed := with(a, args{"confirm": h.preview(c.tool, a)})
		const callers = 6
		results := make([]result, callers)
		var wg sync.WaitGroup
		for i := range callers {
			wg.Go(func() { results[i] = h.call(c.tool, confirmed) })
		}
		wg.Wait()
		c.wantActed(h, a)
		wantOneActed(t, results)
	})
}

func TestSecondConfirmationDuringTheChange(t *testing.T) {
	t.Parallel()
	box := start(t, setup{})
	token := box.addLaunchDarkly("old")
	arrived, release, open := gates()
	defer open()
	h := box.behind(setup{}, holdFirst("DELETE", arrived, release))
	a := args{"connection": launchDarklyName, "token_id": token.ID}
	confirmed := with(a, args{"confirm": h.preview("revoke_token", a)})
	var first result
	var wg sync.WaitGroup
	wg.Go(func() { first = h.call("revoke_token", confirmed) })
	<-arrived
	h.call("revoke_token", confirmed).fails("in_progress")
	h.clock.advance(20 * time.Minute) // it is being carried out, however long that takes
	h.call("revoke_token", confirmed).fails("in_progress")
	open()
	wg.Wait()
	first.is("revoked")
	if h.call("revoke_token", confirmed).is("revoked").get("replayed") != true {
		t.Error("the third confirmation is no replay")
	}
	h.wantSent("DELETE " + ldPath(token.ID))
}

func TestFailureIsRecordedToo(t *testing.T) {
	t.Parallel()
	h := start(t, setup{})
	token := h.addLaunchDarkly("old")
	a := args{"connection": launchDarklyName, "token_id": token.ID}
	confirmed := with(a, args{"confirm": h.preview("revoke_token", a)})
	h.fault(sandbox.Fault{Vendor: sandbox.LaunchDarkly, Method: "DELETE", Kind: sandbox.FaultStatus, Status: 403})
	first := h.call("revoke_token", confirmed).fails("forbidden")
	h.box.ClearFaults()
	h.untouched(func() {
		if again := h.call("revoke_token", confirmed).fails("forbidden"); again.problem.Message != first.problem.Message || !again.problem.Replayed || first.problem.Replayed {
			t.Errorf("the recorded failure is %s, was %s", again.text, first.text)
		}
	})
}

// TestPanicSpendsTheCode lets a vendor's answer crash the server's own code: the
// code must not be open again afterwards.
func TestPanicSpendsTheCode(t *testing.T) {
	t.Parallel()
	h := start(t, setup{})
	token := h.addLaunchDarkly("old")
	a := args{"connection": launchDarklyName, "token_id": token.ID}
	confirmed := with(a, args{"confirm": h.preview("rotate_token", a)})
	h.env.Sinks[sinkName] = panicking{h.env.Sinks[sinkName]}
	h.call("rotate_token", confirmed).fails("internal_error")
	h.wantSent("POST " + ldPath(token.ID) + "/reset")
	h.untouched(func() { h.call("rotate_token", confirmed).fails("internal_error") })
	if err := h.env.Work.Wait(t.Context()); err != nil {
		t.Error("work is still counted as under way")
	}
}
