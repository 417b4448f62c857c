package tools_test

import (
	"cmp"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tokenreeve/tokenreeve/internal/ledger"
	"github.com/tokenreeve/tokenreeve/internal/policy"
	"github.com/tokenreeve/tokenreeve/internal/sandbox"
)

// ruled is a change that one rule of policy forbids.
type ruled struct {
	tool string
	args func(*harness) args
	// before is the policy under which it is previewed, and rule the one that forbids it.
	before policy.Policy
	rule   func(*harness, args) policy.Policy
	// at the preview and at the confirmation, codes or statuses
	first, later string
	says         []string
	laterSays    []string // at the confirmation, besides says
}

// always is a rule that needs nothing of the change.
func always(p policy.Policy) func(*harness, args) policy.Policy {
	return func(*harness, args) policy.Policy { return p }
}

// wantRefused fails the test unless the answer is the refusal.
func (r result) wantRefused(what string, says []string) {
	r.t.Helper()
	if got := r.problem.Code + r.str("status"); got != what || r.str("confirm") != "" {
		r.t.Fatalf("%s answered %s, want %s", r.tool, r.text, what)
	}
	r.says(says...)
}

// wantRules previews each change under its rule, and confirms under it what was previewed
// without it. Both are refused and say which rule it was; without the rule it is done.
func wantRules(t *testing.T, rules map[string]ruled) {
	t.Helper()
	each(t, rules, func(t *testing.T, r ruled) {
		h := start(t, setup{connections: ruledBy(r.before)})
		a := r.args(h)
		strict := h.restart(setup{connections: ruledBy(r.rule(h, a))})
		confirmed := with(a, args{"confirm": h.preview(r.tool, a)})
		h.untouched(func() {
			strict.call(r.tool, a).wantRefused(r.first, r.says)
			strict.call(r.tool, confirmed).wantRefused(r.later, slices.Concat(r.says, r.laterSays))
			if again := h.call(r.tool, confirmed).fails(r.later); !again.problem.Replayed {
				t.Errorf("the code of a refused change is good once more: %s", again.text)
			}
		})
		strict.wantRecord(ledger.Query{}, fmt.Sprintf("%s refused %s", r.tool, r.later))
		h.confirm(r.tool, a).ok()
	})
}

// wantRecord fails the test unless these operations are on record, newest first, as TOOL
// OUTCOME CODE.
func (h *harness) wantRecord(q ledger.Query, want ...string) []ledger.Operation {
	h.t.Helper()
	page, err := h.env.Ledger.List(h.t.Context(), q)
	if err != nil {
		h.t.Fatal(err)
	}
	var got []string
	for i := range page.Operations {
		op := &page.Operations[i]
		got = append(got, strings.TrimSpace(fmt.Sprintf("%s %s %s", op.Tool, op.Outcome, op.ErrorCode)))
	}
	if !slices.Equal(want, got) {
		h.t.Fatalf("on record: %q, want %q", got, want)
	}
	return page.Operations
}

// changesOfTokens are the changes of tokens that exist.
func changesOfTokens() map[string]change {
	all := changes()
	maps.DeleteFunc(all, func(_ string, c change) bool { return strings.HasPrefix(c.tool, "create_") })
	return all
}

// aTarget is one of the tokens that the arguments name or select.
func (h *harness) aTarget(a args) (connection, id string) {
	connection = a["connection"].(string)
	switch {
	case a["token_id"] != nil:
		return connection, a["token_id"].(string)
	case a["token_ids"] != nil:
		return connection, a["token_ids"].([]string)[1]
	case a["query"] != nil:
		return connection, h.named("filtered 1")
	default:
		return connection, h.named("y")
	}
}

// TestProtectedTokens: every list of protect, for every change of a token.
func TestProtectedTokens(t *testing.T) {
	t.Parallel()
	rules := map[string]ruled{}
	for name, c := range changesOfTokens() {
		for list, protect := range protections() {
			atMailtrap := strings.Contains(name, "Mailtrap") || strings.Contains(name, "twin")
			if atMailtrap && strings.HasPrefix(list, "owners") || name == "bulk of a service account" && list == "owners, by address" {
				continue // they have no owner, or no address
			}
			key, _, _ := strings.Cut(list, ",")
			r := ruled{tool: c.tool, args: c.args, rule: protect, first: "protected", later: "protected", says: []string{"connections.", ".protect." + key + " has "}}
			if name == "bulk by filters" { // which spares what is protected
				r.first, r.later, r.laterSays = "nothing_to_revoke", "targets_changed", []string{"is protected"}
			}
			rules[name+"/"+list] = r
		}
	}
	wantRules(t, rules)
}

// protections are the ways to protect the targets of a change.
func protections() map[string]func(*harness, args) policy.Policy {
	row := func(h *harness, a args, member string) string {
		connection, id := h.aTarget(a)
		text := h.call("get_token", args{"connection": connection, "token_id": id, "owner": a["owner"]}).ok().str("token", member)
		if text == "" {
			h.t.Fatalf("token %s has no %s", id, member)
		}
		return text
	}
	protect := func(p policy.Protect) policy.Policy { return policy.Policy{Protect: p} }
	return map[string]func(*harness, args) policy.Policy{
		"ids": func(h *harness, a args) policy.Policy {
			_, id := h.aTarget(a)
			if a["query"] != nil {
				return protect(policy.Protect{IDs: []string{"other", h.named("filtered 0"), id}})
			}
			return protect(policy.Protect{IDs: []string{"other", id}})
		},
		"names": func(h *harness, a args) policy.Policy {
			name := row(h, a, "name")
			return protect(policy.Protect{Names: []string{"prod*", strings.ToUpper(name[:1]) + "*"}})
		},
		"kinds": func(h *harness, a args) policy.Policy {
			return protect(policy.Protect{Kinds: []string{row(h, a, "kind")}})
		},
		"owners, by id": func(h *harness, a args) policy.Policy {
			return protect(policy.Protect{Owners: []string{"other", row(h, a, "owner_id")}})
		},
		"owners, by address": func(h *harness, a args) policy.Policy {
			_, id := h.aTarget(a)
			user, _ := h.atlassian(id)
			member, _ := h.launchDarkly(id)
			return protect(policy.Protect{Owners: []string{strings.ToUpper(cmp.Or(user.OwnerEmail, member.MemberEmail))}})
		},
	}
}

// TestLimitsOfABulk: how many targets one preview may hold, and how many tokens may end
// within an hour.
func TestLimitsOfABulk(t *testing.T) {
	t.Parallel()
	rules := map[string]ruled{}
	for name, c := range changes() {
		if c.tool != bulkTool {
			continue
		}
		rules[name+"/targets_per_preview"] = ruled{
			tool: c.tool, args: c.args, rule: always(policy.Policy{MaxTargets: 1}), first: "too_many_targets", later: "policy_refused",
			says: []string{".limits.targets_per_preview", "at most 1 targets"}, laterSays: []string{"2 would end"},
		}
		rules[name+"/revocations_per_hour"] = ruled{
			tool: c.tool, args: c.args, rule: always(policy.Policy{RevocationsPerHour: 1}), first: "limit_reached", later: "limit_reached",
			says: []string{".limits.revocations_per_hour allows 1 within an hour, of which 1 are left", "2 tokens would end"},
		}
	}
	wantRules(t, rules)
}

// TestTokensInUse: whoever ends a token that was used lately must say that this is meant.
func TestTokensInUse(t *testing.T) {
	t.Parallel()
	rule := policy.Policy{InUse: 24 * time.Hour}
	rules := map[string]ruled{}
	for name, c := range usedChanges() {
		says := []string{"connections.", ".in_use is 24h, and ", "was last used "}
		if strings.Contains(name, "Mailtrap") {
			says[2] = "nobody tells when the token was last used"
		}
		rules[name] = ruled{tool: c.tool, args: c.args, rule: always(rule), first: "in_use", later: "in_use", says: append(says, "allow_in_use")}
	}
	wantRules(t, rules)
	each(t, usedChanges(), func(t *testing.T, c change) { // and then may
		h := start(t, setup{connections: ruledBy(rule)})
		h.confirm(c.tool, with(c.args(h), args{"allow_in_use": true})).ok()
	})
}

// usedChanges end tokens that were used an hour ago.
func usedChanges() map[string]change {
	ld := func(h *harness, name string) string {
		return h.addLaunchDarkly(name, func(t *sandbox.LaunchDarklyToken) { t.LastUsed = h.clock.Now().Add(-time.Hour) }).ID
	}
	at := func(h *harness, name string, change ...func(*sandbox.AtlassianToken)) sandbox.AtlassianToken {
		return h.addAtlassian(name, append(change, func(t *sandbox.AtlassianToken) { t.LastActiveAt = h.clock.Now().Add(-time.Hour) })...)
	}
	mt := func(h *harness) string { return number(h.addMailtrap("used").ID) }
	return map[string]change{
		"revoke at LaunchDarkly": {tool: revoke, args: func(h *harness) args { return args{"connection": launchDarklyName, "token_id": ld(h, "used")} }},
		"revoke at Atlassian":    {tool: revoke, args: func(h *harness) args { return args{"connection": atlassianName, "token_id": at(h, "used").ID} }},
		"revoke by owner": {tool: revoke, args: func(h *harness) args {
			t := at(h, "used")
			return args{"connection": atlassianName, "token_id": t.ID, "owner": t.AccountID}
		}},
		"revoke at Mailtrap": {tool: revoke, args: func(h *harness) args { return args{"connection": mailtrapName, "token_id": mt(h)} }},
		"bulk by ids": {tool: bulkTool, args: func(h *harness) args {
			return args{"connection": launchDarklyName, "token_ids": []string{h.addLaunchDarkly("idle").ID, ld(h, "used")}, "reason": "x"}
		}},
		"bulk by filters": {tool: bulkTool, args: func(h *harness) args {
			h.addLaunchDarkly("some idle")
			ld(h, "some used")
			return args{"connection": launchDarklyName, "query": "some ", "reason": "x"}
		}},
		"bulk of a service account": {tool: bulkTool, args: func(h *harness) args {
			account, _ := h.serviceAccount("x")
			at(h, "y", func(t *sandbox.AtlassianToken) { t.AccountID, t.ServiceAccount = account, true })
			return args{"connection": atlassianName, "service_accounts": account, "all_of_service_account": true, "reason": "x"}
		}},
		"reset of a leaked token": {tool: rotate, args: func(h *harness) args {
			return args{"connection": launchDarklyName, "token_id": ld(h, "used"), "compromised": true}
		}},
		"twin of a leaked token at Mailtrap": {tool: rotate, args: func(h *harness) args {
			return args{"connection": mailtrapName, "token_id": mt(h), "compromised": true}
		}},
	}
}

// TestInUseIsOfWhatEnds: a rotation with an overlap, an update, and what was used longer ago
// need no leave.
func TestInUseIsOfWhatEnds(t *testing.T) {
	t.Parallel()
	h := start(t, setup{connections: ruledBy(policy.Policy{InUse: 24 * time.Hour})})
	used := func(ago time.Duration) args {
		token := h.addLaunchDarkly("used", func(t *sandbox.LaunchDarklyToken) { t.LastUsed = h.clock.Now().Add(-ago) })
		return args{"connection": launchDarklyName, "token_id": token.ID}
	}
	h.confirm(rotate, used(time.Hour)).is("rotated")
	h.confirm(update, with(used(time.Hour), args{"name": "new"})).is("updated")
	h.confirm(revoke, used(24*time.Hour+time.Second)).is("revoked")
	h.call(revoke, used(24*time.Hour)).fails("in_use")
	h.confirm(revoke, args{"connection": launchDarklyName, "token_id": h.addLaunchDarkly("never used").ID}).is("revoked")
	// Used since the preview.
	a := used(48 * time.Hour)
	code := h.preview(revoke, a)
	if err := h.box.UpdateLaunchDarklyToken(a["token_id"].(string), func(t *sandbox.LaunchDarklyToken) { t.LastUsed = h.clock.Now() }); err != nil {
		t.Fatal(err)
	}
	h.untouched(func() { h.call(revoke, with(a, args{"confirm": code})).fails("in_use") })
}

// grants are the changes that give a token an access, by the word of mint.access that
// allows it, and what the refusal calls it where nothing is set.
func grants() map[string]struct {
	change change
	grant  policy.Grant
	words  string
} {
	type granted = struct {
		change change
		grant  policy.Grant
		words  string
	}
	const inline = `[{"effect":"allow","resources":["proj/*"],"actions":["viewProject"]}]`
	create := func(over args) change {
		return change{tool: "create_launchdarkly_token", args: func(*harness) args {
			return with(args{"connection": launchDarklyName, "name": "created"}, over)
		}}
	}
	alter := func(over args) change {
		return change{tool: update, args: func(h *harness) args {
			return with(args{"connection": launchDarklyName, "token_id": h.addLaunchDarkly("old").ID}, over)
		}}
	}
	roles := func(c change) change {
		plain := c.args
		c.args = func(h *harness) args {
			return with(plain(h), args{"custom_roles": []string{h.box.LaunchDarklyRoles()[0].ID}})
		}
		return c
	}
	return map[string]granted{
		"create admin":           {create(args{"role": "admin"}), policy.GrantAdmin, "admin access"},
		"create by custom roles": {roles(create(nil)), policy.GrantCustom, "access by custom roles"},
		"create by inline role":  {create(args{"inline_role": inline}), policy.GrantInline, "access by an inline role"},
		"create account admin":   {elevatedCreations()["create an account admin at Mailtrap"], policy.GrantAccountAdmin, "account admin access"},
		"update to admin":        {alter(args{"role": "admin"}), policy.GrantAdmin, "admin access"},
		"update to custom roles": {roles(alter(nil)), policy.GrantCustom, "access by custom roles"},
		"update to inline role":  {alter(args{"inline_role": inline}), policy.GrantInline, "access by an inline role"},
		"patch to admin":         {alter(args{"patch": `[{"op":"replace","path":"/role","value":"admin"}]`}), policy.GrantAdmin, "admin access"},
		"patch to inline role": {
			alter(args{"patch": `[{"op":"remove","path":"/role"},{"op":"add","path":"/inlineRole","value":` + inline + `}]`}), policy.GrantInline, "access by an inline role",
		},
	}
}

// TestAccessOfNewAndChangedTokens: mint.access judges what a token can do in the end.
func TestAccessOfNewAndChangedTokens(t *testing.T) {
	t.Parallel()
	rules := map[string]ruled{}
	for name, g := range grants() {
		only := policy.Policy{Mint: policy.MintRules{Access: []policy.Grant{g.grant}}}
		others := slices.DeleteFunc(policy.Grants(), func(other policy.Grant) bool { return other == g.grant || other == policy.GrantAdmin })
		rules[name+"/by default"] = ruled{
			tool: g.change.tool, args: g.change.args, before: only, rule: always(policy.Policy{}), first: "policy_refused", later: "policy_refused",
			says: []string{".mint.access is not set, and " + g.words + " is not allowed by default"},
		}
		rules[name+"/by a list"] = ruled{
			tool: g.change.tool, args: g.change.args, before: only, first: "policy_refused", later: "policy_refused",
			rule: always(policy.Policy{Mint: policy.MintRules{Access: others}}), says: []string{fmt.Sprintf(`.mint.access lacks \"%s\"`, g.grant)},
		}
	}
	wantRules(t, rules)
}

// TestAccessThatIsNotJudged: what leaves the access as it is, and a rotation, which keeps it.
func TestAccessThatIsNotJudged(t *testing.T) {
	t.Parallel()
	h := start(t, setup{connections: ruledBy(policy.Policy{Mint: policy.MintRules{Access: []policy.Grant{policy.GrantRead}, ExpiryRequired: true}})})
	admin := h.addLaunchDarkly("admin", func(t *sandbox.LaunchDarklyToken) { t.Role = "admin" })
	a := args{"connection": launchDarklyName, "token_id": admin.ID}
	h.confirm(update, with(a, args{"name": "renamed"})).is("updated")
	h.confirm(update, with(a, args{"patch": `[{"op":"add","path":"/description","value":"x"}]`})).is("updated")
	h.confirm(rotate, a).is("rotated")
	h.confirm(rotate, with(a, args{"compromised": true})).is("rotated")
	h.call(update, with(a, args{"role": "writer"})).fails("policy_refused").says("mint.access lacks") // the resulting access counts
	h.confirm(update, with(a, args{"role": "reader"})).is("updated")
	mails := h.addMailtrap("admin", func(t *sandbox.MailtrapToken) {
		t.Resources = []sandbox.MailtrapResource{{ResourceType: "account", ResourceID: 3229, AccessLevel: 100}}
	})
	h.confirm(rotate, args{"connection": mailtrapName, "token_id": number(mails.ID), "compromised": true}).is("rotated")
}

// TestWideningTakesTheClassMint: to give a token more is to mint what it could not do.
func TestWideningTakesTheClassMint(t *testing.T) {
	t.Parallel()
	noMint := anyAccess()
	noMint.Allow = []policy.Class{policy.Read, policy.Update}
	rules := map[string]ruled{}
	for name, g := range grants() {
		if g.change.tool == update {
			rules[name] = ruled{
				tool: update, args: g.change.args, before: anyAccess(), rule: always(noMint), first: "policy_refused", later: "policy_refused",
				says: []string{`which needs the class \"mint\" too: connections.acme-launchdarkly.allow lacks it`},
			}
		}
	}
	wantRules(t, rules)
	h := start(t, setup{connections: ruledBy(noMint)})
	token := h.addLaunchDarkly("admin", func(t *sandbox.LaunchDarklyToken) { t.Role = "admin" })
	a := args{"connection": launchDarklyName, "token_id": token.ID}
	h.confirm(update, with(a, args{"name": "renamed"})).is("updated")
	h.confirm(update, with(a, args{"role": "writer"})).is("updated") // less than before
	h.call(update, with(a, args{"role": "admin"})).fails("policy_refused")
}

// TestLifeOfNewTokens: the longest life, and that there must be an end.
func TestLifeOfNewTokens(t *testing.T) {
	t.Parallel()
	const day = 24 * time.Hour
	admin := elevatedCreations()["create an account admin at Mailtrap"]
	life := func(expires any) func(*harness) args {
		return func(h *harness) args { return with(admin.args(h), args{"expires": expires}) }
	}
	twin := func(left time.Duration) func(*harness) args {
		return func(h *harness) args {
			token := h.addMailtrap("old", func(t *sandbox.MailtrapToken) { t.ExpiresAt = h.clock.Now().Add(left) })
			return args{"connection": mailtrapName, "token_id": number(token.ID)}
		}
	}
	leaked := func(left time.Duration) func(*harness) args {
		return func(h *harness) args { return with(twin(left)(h), args{"compromised": true}) }
	}
	longest, end := anyAccess(), anyAccess()
	longest.Mint.LongestLife, end.Mint.ExpiryRequired = 20*day, true
	cases := map[string]ruled{
		"too long":         {tool: admin.tool, args: life("21d"), rule: always(longest), says: []string{"connections.acme-mailtrap.mint.longest_life is 20d, and the token would expire 20", "the latest valid moment is"}},
		"never":            {tool: admin.tool, args: life("never"), rule: always(longest), says: []string{"mint.longest_life is 20d, and the token would never expire"}},
		"not said":         {tool: admin.tool, args: life(nil), rule: always(longest), says: []string{"mint.longest_life is 20d, and nobody tells"}},
		"never, required":  {tool: admin.tool, args: life("never"), rule: always(end), says: []string{"connections.acme-mailtrap.mint.expiry_required is true, and the token would never expire"}},
		"no end, required": {tool: admin.tool, args: life(nil), rule: always(end), says: []string{"mint.expiry_required is true, and nobody tells"}},
		// The vendor's least is 30 days.
		"a longer twin":           {tool: rotate, args: twin(10 * day), rule: always(longest), says: []string{"mint.longest_life is 20d, and the token would expire"}},
		"a longer twin, for good": {tool: rotate, args: leaked(10 * day), rule: always(longest), says: []string{"mint.longest_life is 20d, and the token would expire"}},
	}
	for name, r := range cases {
		r.before, r.first, r.later = anyAccess(), "policy_refused", "policy_refused"
		cases[name] = r
	}
	wantRules(t, cases)
	// What fits is made: to the last moment, and a twin that lives no longer than the old one.
	h := start(t, setup{connections: ruledBy(longest)})
	h.confirm(admin.tool, life("20d")(h)).is("created")
	h.confirm(rotate, twin(40*day)(h)).is("rotated")
	h = start(t, setup{connections: ruledBy(end)})
	h.confirm(admin.tool, life("90d")(h)).is("created")
	h.confirm(rotate, twin(10*day)(h)).is("rotated")
	h.confirm(rotate, args{"connection": mailtrapName, "token_id": number(h.addMailtrap("endless").ID), "compromised": true}).is("rotated")
}

// TestRulesOfUnseenCreations: a creation that takes no preview is judged and on record all
// the same.
func TestRulesOfUnseenCreations(t *testing.T) {
	t.Parallel()
	ld := args{"connection": launchDarklyName, "name": "created", "role": "writer"}
	mt := args{
		"connection": mailtrapName, "name": "created", "expires": "90d",
		"permissions": []args{{"resource_type": "account", "resource_id": "3229", "access_level": "viewer"}},
	}
	mint := func(m policy.MintRules) policy.Policy { return policy.Policy{Mint: m} }
	each(t, map[string]struct {
		tool string
		args args
		rule policy.Policy
		says string
	}{
		"writer":         {"create_launchdarkly_token", ld, mint(policy.MintRules{Access: []policy.Grant{policy.GrantRead}}), `mint.access lacks \"write\"`},
		"reader":         {"create_launchdarkly_token", with(ld, args{"role": "reader"}), mint(policy.MintRules{Access: []policy.Grant{}}), `mint.access lacks \"read\"`},
		"viewer":         {"create_mailtrap_token", mt, mint(policy.MintRules{Access: []policy.Grant{policy.GrantWrite}}), `mint.access lacks \"read\"`},
		"too long":       {"create_mailtrap_token", mt, mint(policy.MintRules{LongestLife: 89 * 24 * time.Hour}), "mint.longest_life is 89d"},
		"never":          {"create_mailtrap_token", with(mt, args{"expires": "never"}), mint(policy.MintRules{ExpiryRequired: true}), "mint.expiry_required is true"},
		"no end is said": {"create_mailtrap_token", with(mt, args{"expires": nil}), mint(policy.MintRules{ExpiryRequired: true}), "mint.expiry_required is true"},
	}, func(t *testing.T, c struct {
		tool string
		args args
		rule policy.Policy
		says string
	},
	) {
		h := start(t, setup{connections: ruledBy(c.rule)})
		h.untouched(func() { h.call(c.tool, c.args).fails("policy_refused").says(c.says) })
		if op := h.wantRecord(ledger.Query{}, c.tool+" refused policy_refused")[0]; op.NewTokenName != "created" {
			t.Errorf("the record does not say what was asked for: %+v", op)
		}
		if len(h.delivered()) > 0 {
			t.Error("something was delivered")
		}
		h.restart(setup{}).call(c.tool, c.args).is("created")
	})
}

// TestClassesAreJudgedAgain: a class that one connection does not allow, for every change.
// The code stays good: nothing was judged but whether the tool may be used there at all.
func TestClassesAreJudgedAgain(t *testing.T) {
	t.Parallel()
	each(t, changes(), func(t *testing.T, c change) {
		h := start(t, setup{connections: pairs()})
		a := c.args(h)
		class := classes()[c.tool]
		connections := pairs()
		for i := range connections {
			if connections[i].name == a["connection"] {
				connections[i].policy.Allow = slices.DeleteFunc(policy.Classes(), func(other policy.Class) bool { return other == class })
			}
		}
		strict := h.restart(setup{connections: connections})
		says := []string{fmt.Sprintf(`policy does not allow %s on connection %s: connections.%s.allow lacks \"%s\"`, c.tool, a["connection"], a["connection"], class)}
		confirmed := with(a, args{"confirm": h.preview(c.tool, a)})
		h.untouched(func() {
			strict.call(c.tool, a).wantRefused("policy_refused", says)
			strict.call(c.tool, confirmed).wantRefused("policy_refused", says)
			strict.call(c.tool, with(a, args{"connection": strings.Replace(a["connection"].(string), "acme", "beta", 1)})).code()
		})
		for what, s := range map[string]setup{
			"read-only":      {connections: pairs(), readOnly: true},
			"not registered": {connections: ruledBy(policy.Policy{Allow: []policy.Class{policy.Read}})},
		} {
			other := h.restart(s)
			h.untouched(func() {
				other.call(c.tool, a).fails("unknown_tool").says("is not offered")
				other.call(c.tool, confirmed).fails("unknown_tool")
			})
			if slices.Contains(other.toolNames(), c.tool) {
				t.Errorf("%s: %s is registered", what, c.tool)
			}
		}
		h.call(c.tool, confirmed).ok()
		c.wantActed(h, a)
	})
}

// TestRevocationsPerHour counts in the record what a principal ended on a connection.
func TestRevocationsPerHour(t *testing.T) {
	t.Parallel()
	connections := append(ruledBy(policy.Policy{RevocationsPerHour: 5}), pairs()[3]) // beta-launchdarkly has no such rule
	h := start(t, setup{connections: connections})
	one := func() args { return args{"connection": launchDarklyName, "token_id": h.addLaunchDarkly("old").ID} }
	many := func(n int) args {
		return args{"connection": launchDarklyName, "token_ids": h.manyLaunchDarkly(n, "old"), "reason": "x"}
	}
	left := func(n int) {
		t.Helper()
		more, all := many(n+1), many(max(n, 1))
		h.untouched(func() {
			h.call(bulkTool, more).fails("limit_reached").says(fmt.Sprintf("connections.acme-launchdarkly.limits.revocations_per_hour allows 5 within an hour, of which %d are left", n))
			if n > 0 {
				h.call(bulkTool, all).code()
			}
		})
	}
	left(5)
	h.confirm(revoke, one()).is("revoked")
	left(4)
	h.confirm(rotate, one()).is("rotated") // ends nothing at once
	h.confirm(update, with(one(), args{"name": "new"})).is("updated")
	left(4)
	h.confirm(rotate, with(one(), args{"compromised": true})).is("rotated")
	left(3)
	h.clock.advance(30 * time.Minute)
	h.confirm(bulkTool, many(2)).is("revoked")
	left(1)
	// What failed, was refused or was gone does not count.
	h.fault(sandbox.Fault{Method: "DELETE", Kind: sandbox.FaultStatus, Status: 403})
	h.confirm(revoke, one()).fails("forbidden")
	h.box.ClearFaults()
	gone := one()
	code := h.preview(revoke, gone)
	h.remove(gone["token_id"].(string))
	h.call(revoke, with(gone, args{"confirm": code})).is("already_gone")
	left(1)
	// What may have happened does.
	h.fault(sandbox.Fault{Method: "DELETE", Kind: sandbox.FaultCut})
	h.confirm(revoke, one()).fails("outcome_unknown")
	h.box.ClearFaults()
	left(0)
	for tool, a := range map[string]args{revoke: one(), bulkTool: many(1), rotate: with(one(), args{"compromised": true})} {
		h.untouched(func() { h.call(tool, a).fails("limit_reached").says("of which 0 are left") })
	}
	h.confirm(rotate, one()).is("rotated")
	// A restart forgets nothing; others have their own.
	h = h.restart(setup{connections: connections})
	left(0)
	h.callAs("bob", revoke, one()).code()
	h.confirm(revoke, args{"connection": "beta-launchdarkly", "token_id": h.addLaunchDarkly("old").ID}).is("revoked")
	h.confirm(revoke, args{"connection": mailtrapName, "token_id": number(h.addMailtrap("old").ID)}).is("revoked")
	h.clock.advance(30*time.Minute + time.Second) // the first two are an hour old
	left(2)
	h.clock.advance(30 * time.Minute)
	left(5)
}

// TestRevocationsOfAServiceAccount: one call that ends three tokens counts three.
func TestRevocationsOfAServiceAccount(t *testing.T) {
	t.Parallel()
	h := start(t, setup{connections: ruledBy(policy.Policy{RevocationsPerHour: 4})})
	account, _ := h.serviceAccount("a", "b", "c")
	h.confirm(bulkTool, args{"connection": atlassianName, "service_accounts": account, "all_of_service_account": true, "reason": "x"}).is("revoked")
	h.confirm(revoke, args{"connection": atlassianName, "token_id": h.addAtlassian("d").ID}).is("revoked")
	one := args{"connection": atlassianName, "token_id": h.addAtlassian("e").ID}
	h.untouched(func() {
		h.call(revoke, one).fails("limit_reached").says("connections.acme-atlassian.limits.revocations_per_hour allows 4")
	})
}

// TestLimitReachedMeanwhile: a preview is no claim on what is left.
func TestLimitReachedMeanwhile(t *testing.T) {
	t.Parallel()
	h := start(t, setup{connections: ruledBy(policy.Policy{RevocationsPerHour: 1})})
	one := func() args { return args{"connection": launchDarklyName, "token_id": h.addLaunchDarkly("old").ID} }
	first, second, third := one(), one(), with(one(), args{"compromised": true})
	codes := []string{h.preview(revoke, first), h.preview(revoke, second), h.preview(rotate, third)}
	h.call(revoke, with(first, args{"confirm": codes[0]})).is("revoked")
	h.untouched(func() {
		h.call(revoke, with(second, args{"confirm": codes[1]})).fails("limit_reached").says("revocations_per_hour allows 1")
		h.call(rotate, with(third, args{"confirm": codes[2]})).fails("limit_reached").says("revocations_per_hour allows 1")
	})
	h.wantRecord(ledger.Query{}, "rotate_token refused limit_reached", "revoke_token refused limit_reached", "revoke_token done")
}

// TestLimitReachedDuringABulk: the same principal ends a token through another process
// while a bulk revocation uses up the rest.
func TestLimitReachedDuringABulk(t *testing.T) {
	t.Parallel()
	connections := ruledBy(policy.Policy{RevocationsPerHour: 3})
	box := start(t, setup{connections: connections})
	ids := box.manyLaunchDarkly(4, "old")
	single := args{"connection": launchDarklyName, "token_id": ids[3]}
	confirmed := with(single, args{"confirm": box.preview(revoke, single)})
	var deletes atomic.Int32
	h := box.behind(setup{connections: connections}, func(r *http.Request) {
		if r.Method == http.MethodDelete && deletes.Add(1) == 1 {
			box.call(revoke, confirmed).is("revoked")
		}
	})
	a := args{"connection": launchDarklyName, "token_ids": ids[:3], "reason": "x"}
	out := as[bulkOut](h.confirm(bulkTool, a).is("partial").says("connections.acme-launchdarkly.limits.revocations_per_hour allows 3 within an hour, of which 0 are left"))
	if out.Counts["revoked"] != 2 || out.Counts["failed"] != 1 || !strings.Contains(out.Next, "stopped: nothing was sent: 1 token would end") {
		t.Errorf("result %+v", out)
	}
	h.wantGone(ids[0], ids[1], ids[3])
	h.wantAlive(ids[2])
	h.wantRecord(ledger.Query{}, "bulk_revoke_tokens refused limit_reached", "bulk_revoke_tokens done", "revoke_token done", "bulk_revoke_tokens done", "bulk_revoke_tokens done partial")
}
