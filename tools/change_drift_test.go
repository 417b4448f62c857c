package tools_test

import (
	"maps"
	"net/http"
	"testing"
	"time"

	"github.com/tokenreeve/tokenreeve/internal/policy"
	"github.com/tokenreeve/tokenreeve/internal/sandbox"
)

// drift is a fact that changes between preview and confirmation.
type drift struct {
	change func(*harness, string) // of the token with the id
	says   string                 // in the refusal
}

func driftsAtLaunchDarkly() map[string]drift {
	set := func(says string, change func(*sandbox.LaunchDarklyToken)) drift {
		return drift{says: says, change: func(h *harness, id string) {
			if err := h.box.UpdateLaunchDarklyToken(id, change); err != nil {
				h.t.Fatal(err)
			}
		}}
	}
	statement := sandbox.Statement{Effect: "allow", Resources: []string{"proj/*"}, Actions: []string{"viewProject"}}
	return map[string]drift{
		"owner":                 set("another owner", func(t *sandbox.LaunchDarklyToken) { t.MemberID = "0123456789abcdef01234567" }),
		"name":                  set("another name", func(t *sandbox.LaunchDarklyToken) { t.Name = "drift token" }),
		"name that looks alike": set("another name", func(t *sandbox.LaunchDarklyToken) { t.Name = "drifting\u200b token" }),
		"role":                  set("another access", func(t *sandbox.LaunchDarklyToken) { t.Role = "admin" }),
		"inline role beside":    set("another access", func(t *sandbox.LaunchDarklyToken) { t.InlineRole = []sandbox.Statement{statement} }),
		"owner, name and access": set("another owner, name and access", func(t *sandbox.LaunchDarklyToken) {
			t.MemberID, t.Name, t.Role = "0123456789abcdef01234567", "drift", "writer"
		}),
	}
}

func driftsAtMailtrap() map[string]drift {
	set := func(says string, change func(*sandbox.MailtrapToken)) drift {
		return drift{says: says, change: func(h *harness, id string) {
			t, _ := h.mailtrap(id)
			if err := h.box.UpdateMailtrapToken(t.ID, change); err != nil {
				h.t.Fatal(err)
			}
		}}
	}
	end := time.Now().AddDate(0, 6, 0).Truncate(time.Second)
	return map[string]drift{
		"name":                  set("another name", func(t *sandbox.MailtrapToken) { t.Name = "drift token" }),
		"name that looks alike": set("another name", func(t *sandbox.MailtrapToken) { t.Name = "drifting\u202e token" }),
		"access":                set("another access", func(t *sandbox.MailtrapToken) { t.Resources[0].AccessLevel = 100 }),
		"access, same word": set("another access", func(t *sandbox.MailtrapToken) {
			t.Resources = append(t.Resources, sandbox.MailtrapResource{ResourceType: "domain", ResourceID: 1, AccessLevel: 10})
		}),
		"expiry":  set("another expiry", func(t *sandbox.MailtrapToken) { t.ExpiresAt = end }),
		"expired": set("another status and expiry", func(t *sandbox.MailtrapToken) { t.ExpiresAt = time.Now().AddDate(0, 0, -1) }),
	}
}

// driftsAtAtlassian are what the organization's listings tell. User management
// tells neither status nor scopes.
func driftsAtAtlassian(userManagement bool) map[string]drift {
	set := func(says string, change func(*sandbox.AtlassianToken)) drift {
		return drift{says: says, change: func(h *harness, id string) {
			if err := h.box.UpdateAtlassianToken(id, change); err != nil {
				h.t.Fatal(err)
			}
		}}
	}
	end := time.Now().AddDate(0, 6, 0).Truncate(time.Second)
	all := map[string]drift{
		"name":                  set("another name", func(t *sandbox.AtlassianToken) { t.Label = "drift token" }),
		"name that looks alike": set("another name", func(t *sandbox.AtlassianToken) { t.Label = "drifting\u2066 token" }),
		"expiry":                set("another expiry", func(t *sandbox.AtlassianToken) { t.ExpiresAt = end }),
	}
	if userManagement {
		return all
	}
	all["scopes"] = set("another access", func(t *sandbox.AtlassianToken) { t.Scopes = []string{"write:jira-work"} })
	all["status"] = set("another status", func(t *sandbox.AtlassianToken) { t.Status = "BLOCKED" })
	all["owner's address"] = set("another owner", func(t *sandbox.AtlassianToken) { t.OwnerEmail = "renamed@acme.example" })
	all["owner"] = set("another owner", func(t *sandbox.AtlassianToken) { t.AccountID = "712020:0123" })
	return all
}

// aimed is a change of a token, with all that may drift under it.
type aimed struct {
	tool   string
	args   func(*harness) (a args, id string)
	drifts map[string]drift
}

func aims() map[string]aimed {
	const name, ld, at, mt = "drifting token", launchDarklyName, atlassianName, mailtrapName
	atLaunchDarkly := func(over args, target string) func(*harness) (args, string) {
		return func(h *harness) (args, string) {
			id := h.addLaunchDarkly(name).ID
			return with(args{"connection": ld}, with(over, targeting(target, id))), id
		}
	}
	atMailtrap := func(over args, target string) func(*harness) (args, string) {
		return func(h *harness) (args, string) {
			id := number(h.addMailtrap(name).ID)
			return with(args{"connection": mt}, with(over, targeting(target, id))), id
		}
	}
	atAtlassian := func(over args, target string, owner func(sandbox.AtlassianToken) args) func(*harness) (args, string) {
		return func(h *harness) (args, string) {
			t := h.addAtlassian(name, func(t *sandbox.AtlassianToken) { t.ExpiresAt = h.clock.Now().AddDate(0, 1, 0) })
			return with(with(args{"connection": at}, owner(t)), with(over, targeting(target, t.ID))), t.ID
		}
	}
	byID := func(t sandbox.AtlassianToken) args { return args{"owner": t.AccountID} }
	noOwner := func(sandbox.AtlassianToken) args { return nil }
	return map[string]aimed{
		"revoke at LaunchDarkly": {"revoke_token", atLaunchDarkly(nil, "token_id"), driftsAtLaunchDarkly()},
		"update":                 {"update_launchdarkly_token", atLaunchDarkly(args{"description": "x"}, "token_id"), driftsAtLaunchDarkly()},
		"rotate at LaunchDarkly": {"rotate_token", atLaunchDarkly(nil, "token_id"), driftsAtLaunchDarkly()},
		"bulk by ids":            {"bulk_revoke_tokens", atLaunchDarkly(args{"reason": "x"}, "token_ids"), driftsAtLaunchDarkly()},
		"bulk by filter":         {"bulk_revoke_tokens", atLaunchDarkly(args{"reason": "x", "query": "drift"}, ""), driftsAtLaunchDarkly()},
		"revoke at Mailtrap":     {"revoke_token", atMailtrap(nil, "token_id"), driftsAtMailtrap()},
		"rotate at Mailtrap":     {"rotate_token", atMailtrap(nil, "token_id"), driftsAtMailtrap()},
		"twin at Mailtrap":       {"rotate_token", atMailtrap(args{"compromised": true}, "token_id"), driftsAtMailtrap()},
		"bulk ids at Mailtrap":   {"bulk_revoke_tokens", atMailtrap(args{"reason": "x"}, "token_ids"), driftsAtMailtrap()},
		"bulk query at Mailtrap": {"bulk_revoke_tokens", atMailtrap(args{"reason": "x", "query": "drift"}, ""), driftsAtMailtrap()},
		"revoke at Atlassian":    {"revoke_token", atAtlassian(nil, "token_id", noOwner), driftsAtAtlassian(false)},
		"revoke by owner":        {"revoke_token", atAtlassian(nil, "token_id", byID), driftsAtAtlassian(true)},
		"bulk ids at Atlassian":  {"bulk_revoke_tokens", atAtlassian(args{"reason": "x"}, "token_ids", noOwner), driftsAtAtlassian(true)},
		"bulk query at Atlassian": {
			"bulk_revoke_tokens", atAtlassian(args{"reason": "x", "query": "drift"}, "", noOwner), driftsAtAtlassian(false),
		},
	}
}

// targeting names a token by the argument, or not at all.
func targeting(argument, id string) args {
	switch argument {
	case "":
		return nil
	case "token_ids":
		return args{argument: []string{id}}
	default:
		return args{argument: id}
	}
}

func TestDriftIsRefused(t *testing.T) {
	t.Parallel()
	for name, aim := range aims() {
		for fact, d := range aim.drifts {
			t.Run(name+"/"+fact, func(t *testing.T) {
				t.Parallel()
				h := start(t, setup{})
				a, id := aim.args(h)
				code := h.preview(aim.tool, a)
				d.change(h, id)
				h.untouched(func() {
					h.call(aim.tool, with(a, args{"confirm": code})).fails("targets_changed").says(id, d.says)
				})
				if files := h.delivered(); len(files) > 0 {
					t.Errorf("delivered %d files", len(files))
				}
			})
		}
	}
}

func TestSelectionThatChanged(t *testing.T) {
	t.Parallel()
	ld := args{"connection": launchDarklyName, "reason": "x", "query": "drifting"}
	service := func(h *harness) args {
		account, _ := h.serviceAccount("drifting 1", "drifting 2")
		return args{"connection": atlassianName, "reason": "x", "service_accounts": []string{account}, "all_of_service_account": true}
	}
	each(t, map[string]struct {
		args   func(*harness) args
		change func(*harness, args)
		says   string
	}{
		"a new match": {
			func(h *harness) args { h.addLaunchDarkly("drifting 1"); return ld },
			func(h *harness, _ args) { h.addLaunchDarkly("drifting 2") }, "matches now and was not shown",
		},
		"a token that matches now": {
			func(h *harness) args { h.addLaunchDarkly("drifting 1"); return with(ld, args{"access": "read"}) },
			func(h *harness, _ args) {
				h.addLaunchDarkly("drifting 2", func(t *sandbox.LaunchDarklyToken) { t.Role = "reader" })
			}, "matches now and was not shown",
		},
		"a token that no longer matches": {
			func(h *harness) args { h.addLaunchDarkly("drifting 1"); h.addLaunchDarkly("drifting 2"); return ld },
			func(h *harness, _ args) {
				_ = h.box.UpdateLaunchDarklyToken(h.named("drifting 1"), func(t *sandbox.LaunchDarklyToken) { t.Name = "other" })
			}, "no longer matches",
		},
		"used since": {
			func(h *harness) args { h.addLaunchDarkly("drifting 1"); return with(ld, args{"unused_for": "never"}) },
			func(h *harness, _ args) {
				_ = h.box.UpdateLaunchDarklyToken(h.named("drifting 1"), func(t *sandbox.LaunchDarklyToken) { t.LastUsed = h.clock.now })
			}, "no longer matches",
		},
		"another token of the service account": {
			service,
			func(h *harness, a args) {
				h.addAtlassian("drifting 3", func(t *sandbox.AtlassianToken) { t.AccountID = a["service_accounts"].([]string)[0] })
			}, "matches now and was not shown",
		},
		"another name in the service account": {
			service,
			func(h *harness, _ args) {
				_ = h.box.UpdateAtlassianToken(h.named("drifting 2"), func(t *sandbox.AtlassianToken) { t.Label = "production" })
			}, "another name",
		},
	}, func(t *testing.T, c struct {
		args   func(*harness) args
		change func(*harness, args)
		says   string
	},
	) {
		h := start(t, setup{})
		a := c.args(h)
		code := h.preview("bulk_revoke_tokens", a)
		c.change(h, a)
		h.untouched(func() {
			h.call("bulk_revoke_tokens", with(a, args{"confirm": code})).fails("targets_changed").says(c.says)
		})
	})
}

// named returns the id of the token with this name.
func (h *harness) named(name string) string {
	h.t.Helper()
	if t, ok := lookup(h.box.LaunchDarklyTokens(), func(t sandbox.LaunchDarklyToken) bool { return t.Name == name }); ok {
		return t.ID
	}
	if t, ok := lookup(h.box.AtlassianTokens(), func(t sandbox.AtlassianToken) bool { return t.Label == name }); ok {
		return t.ID
	}
	h.t.Fatalf("no token %q", name)
	return ""
}

// TestRightsAreJudgedAgain changes the policy between preview and confirmation.
func TestRightsAreJudgedAgain(t *testing.T) {
	t.Parallel()
	protect := policy.Policy{Protect: policy.Protect{Names: []string{"old", "a", "before", "filtered *", "y"}}}
	readOnly := policy.Policy{Allow: []policy.Class{policy.Read}}
	each(t, changes(), func(t *testing.T, c change) {
		h := start(t, setup{connections: ruledBy(anyAccess())})
		a := c.args(h)
		code := h.preview(c.tool, a)
		confirmed := with(a, args{"confirm": code})
		h.allow(readOnly)
		h.untouched(func() { h.call(c.tool, confirmed).fails("policy_refused") })
		if a["name"] == "created" {
			return // protection is of tokens that exist
		}
		h.allow(protect)
		h.untouched(func() {
			if r := h.call(c.tool, confirmed); a["query"] != nil {
				r.fails("targets_changed").says("protect.names") // a filter spares what is protected
			} else {
				r.fails("protected").says("protect.names")
			}
		})
	})
}

// allow sets the policy of all connections.
func (h *harness) allow(p policy.Policy) {
	for _, c := range h.env.Connections {
		p.Connection = c.Name
		c.Policy = p
	}
}

func TestFewerTargetsAllowedThanShown(t *testing.T) {
	t.Parallel()
	h := start(t, setup{})
	ids := []string{h.addLaunchDarkly("a").ID, h.addLaunchDarkly("b").ID}
	a := args{"connection": launchDarklyName, "token_ids": ids, "reason": "x"}
	code := h.preview("bulk_revoke_tokens", a)
	h.allow(policy.Policy{MaxTargets: 1})
	h.untouched(func() {
		h.call("bulk_revoke_tokens", with(a, args{"confirm": code})).fails("policy_refused").says("connections.acme-launchdarkly.limits.targets_per_preview", "at most 1 targets", "2 would end")
	})
}

// TestRenamedBetweenListingAndReading renames a target after the selection was
// listed again and before the target is read by its id: the reading counts.
func TestRenamedBetweenListingAndReading(t *testing.T) {
	t.Parallel()
	box := start(t, setup{})
	token := box.addLaunchDarkly("drifting")
	armed := false
	h := box.behind(setup{}, func(r *http.Request) {
		if armed && r.URL.Path == "/launchdarkly"+ldPath(token.ID) {
			_ = box.box.UpdateLaunchDarklyToken(token.ID, func(t *sandbox.LaunchDarklyToken) { t.Name = "production" })
		}
	})
	a := args{"connection": launchDarklyName, "query": "drifting", "reason": "x"}
	code := h.preview("bulk_revoke_tokens", a)
	armed = true
	h.forget()
	h.call("bulk_revoke_tokens", with(a, args{"confirm": code})).fails("targets_changed").says("another name")
	h.wantSent()
	h.wantAlive(token.ID)
}

func TestAlreadyGone(t *testing.T) {
	t.Parallel()
	each(t, aims(), func(t *testing.T, aim aimed) {
		if aim.tool == "update_launchdarkly_token" || aim.tool == "rotate_token" {
			h := start(t, setup{})
			a, id := aim.args(h)
			code := h.preview(aim.tool, a)
			h.remove(id)
			h.untouched(func() { h.call(aim.tool, with(a, args{"confirm": code})).fails("not_found") })
			return
		}
		h := start(t, setup{})
		a, id := aim.args(h)
		code := h.preview(aim.tool, a)
		h.remove(id)
		h.untouched(func() {
			r := h.call(aim.tool, with(a, args{"confirm": code})).ok()
			if aim.tool == "revoke_token" {
				r.is("already_gone")
				return
			}
			if r.get("counts", "already_gone") != 1.0 || r.get("counts", "revoked") != nil {
				t.Errorf("the result counts otherwise: %s", r.text)
			}
		})
	})
}

// remove deletes a token behind the server's back.
func (h *harness) remove(id string) {
	h.t.Helper()
	m, ok := h.mailtrap(id)
	if !h.box.DeleteAtlassianToken(id) && !h.box.DeleteLaunchDarklyToken(id) && (!ok || !h.box.DeleteMailtrapToken(m.ID)) {
		h.t.Fatalf("no token %s", id)
	}
}

// TestAbsenceProvesNothing lets the place where a token was found answer without
// it, though the token lives: that is no already_gone.
func TestAbsenceProvesNothing(t *testing.T) {
	t.Parallel()
	notFound := func(vendor, method, path, contentType, body string) sandbox.Fault {
		return sandbox.Fault{Vendor: vendor, Method: method, PathContains: path, Kind: sandbox.FaultStatus, Status: 404, ContentType: contentType, Body: body}
	}
	const html, plain = "text/html", "<html>Not Found</html>"
	noOwner, owner := args{"owner": nil}, args{}
	each(t, map[string]struct {
		vendor string
		over   args
		fault  sandbox.Fault
		code   string
	}{
		"a proxy's 404 at LaunchDarkly":          {"ld", nil, notFound(sandbox.LaunchDarkly, "", "/tokens/", html, plain), "bad_vendor_answer"},
		"an empty 404 at LaunchDarkly":           {"ld", nil, notFound(sandbox.LaunchDarkly, "", "/tokens/", "application/json", "{}"), "bad_vendor_answer"},
		"a proxy's 404 to LaunchDarkly's DELETE": {"ld", nil, notFound(sandbox.LaunchDarkly, "DELETE", "/tokens/", html, plain), "bad_vendor_answer"},
		"a proxy's 404 at Mailtrap":              {"mt", nil, notFound(sandbox.Mailtrap, "", "/api_tokens/", html, plain), "bad_vendor_answer"},
		"a proxy's 404 to Mailtrap's DELETE":     {"mt", nil, notFound(sandbox.Mailtrap, "DELETE", "/api_tokens/", html, plain), "bad_vendor_answer"},
		"a proxy's 404 at user management":       {"at", owner, notFound(sandbox.Atlassian, "", "/manage/", html, plain), "bad_vendor_answer"},
		"an unknown owner":                       {"at", owner, notFound(sandbox.Atlassian, "", "/manage/", "application/json", `{"key":"accountNotFound"}`), "owner_unknown"},
		"an empty page of the organization": {"at", noOwner, sandbox.Fault{
			Vendor: sandbox.Atlassian, PathContains: "/api-tokens", PathPrefix: "/admin", Kind: sandbox.FaultStatus, Status: 200,
			ContentType: "application/json", Body: `{"data":[],"links":{"next":""}}`,
		}, ""},
		"no service accounts' tokens": {"at", noOwner, sandbox.Fault{
			Vendor: sandbox.Atlassian, PathContains: "/service-accounts/", Kind: sandbox.Fault500,
		}, ""},
	}, func(t *testing.T, c struct {
		vendor string
		over   args
		fault  sandbox.Fault
		code   string
	},
	) {
		h := start(t, setup{})
		var a args
		switch c.vendor {
		case "ld":
			a = args{"connection": launchDarklyName, "token_id": h.addLaunchDarkly("live").ID}
		case "mt":
			a = args{"connection": mailtrapName, "token_id": number(h.addMailtrap("live").ID)}
		default:
			token := h.addAtlassian("live")
			a = with(args{"connection": atlassianName, "token_id": token.ID, "owner": token.AccountID}, c.over)
		}
		code := h.preview("revoke_token", a)
		h.fault(c.fault)
		r := h.call("revoke_token", with(a, args{"confirm": code}))
		if !r.isError && r.str("status") != "revoked" || c.code != "" && r.problem.Code != c.code {
			t.Errorf("the revocation answered %s, want %s", r.text, c.code)
		}
		if id := a["token_id"].(string); r.isError != h.lives(id) {
			t.Errorf("token %s lives: %v, but the answer is %s", id, h.lives(id), r.text)
		}
	})
}

// TestOwnerFoundByAddressThatChanged names the owner by an address that is
// another one at the confirmation: the token is no longer found under it, and lives.
func TestOwnerFoundByAddressThatChanged(t *testing.T) {
	t.Parallel()
	h := start(t, setup{})
	token := h.addAtlassian("old")
	a := args{"connection": atlassianName, "token_id": token.ID, "owner": token.OwnerEmail}
	code := h.preview("revoke_token", a)
	if err := h.box.UpdateAtlassianToken(token.ID, func(t *sandbox.AtlassianToken) { t.OwnerEmail = "renamed@acme.example" }); err != nil {
		t.Fatal(err)
	}
	h.untouched(func() { h.call("revoke_token", with(a, args{"confirm": code})).fails("targets_changed") })
}

// TestAgesStayAbsolute has tokens on both sides of each age's boundary: nine
// minutes later an age counted anew would select others.
func TestAgesStayAbsolute(t *testing.T) {
	t.Parallel()
	const day, near = 24 * time.Hour, 5 * time.Minute
	each(t, map[string]struct {
		filter args
		in     [2]time.Duration // made and used so long ago, or made and used so far ahead: selected
		out    [2]time.Duration // selected only by an age that is counted nine minutes later
	}{
		"unused_for":     {args{"unused_for": "90d"}, [2]time.Duration{200 * day, 90 * day}, [2]time.Duration{200 * day, 90*day - near}},
		"never used":     {args{"unused_for": "30d"}, [2]time.Duration{30 * day, 0}, [2]time.Duration{30*day - near, 0}},
		"created_before": {args{"created_before": "30d"}, [2]time.Duration{31 * day, day}, [2]time.Duration{30*day - near, day}},
		"created_after":  {args{"created_after": "30d"}, [2]time.Duration{30*day - near, 0}, [2]time.Duration{31 * day, 0}},
	}, func(t *testing.T, c struct {
		filter  args
		in, out [2]time.Duration
	},
	) {
		h := start(t, setup{})
		make := func(ages [2]time.Duration) string {
			return h.addLaunchDarkly("boundary", func(t *sandbox.LaunchDarklyToken) {
				if t.CreatedAt = h.clock.Now().Add(-ages[0]); ages[1] != 0 {
					t.LastUsed = h.clock.Now().Add(-ages[1])
				}
			}).ID
		}
		in, out := make(c.in), make(c.out)
		a := with(c.filter, args{"connection": launchDarklyName, "query": "boundary", "reason": "x"})
		code := h.preview("bulk_revoke_tokens", a)
		h.clock.advance(9 * time.Minute)
		h.call("bulk_revoke_tokens", with(a, args{"confirm": code})).is("revoked")
		h.wantGone(in)
		h.wantAlive(out)
	})
}

func TestAgesAheadStayAbsolute(t *testing.T) {
	t.Parallel()
	h := start(t, setup{})
	ends := func(in time.Duration) string {
		return number(h.addMailtrap("boundary", func(t *sandbox.MailtrapToken) { t.ExpiresAt = h.clock.Now().Add(in) }).ID)
	}
	in, out := ends(7*24*time.Hour), ends(7*24*time.Hour+5*time.Minute)
	a := args{"connection": mailtrapName, "query": "boundary", "expires_within": "7d", "reason": "x"}
	code := h.preview("bulk_revoke_tokens", a)
	h.clock.advance(9 * time.Minute)
	h.call("bulk_revoke_tokens", with(a, args{"confirm": code})).is("revoked")
	h.wantGone(in)
	h.wantAlive(out)
}

// TestExpiredSinceThePreview: the status is another then.
func TestExpiredSinceThePreview(t *testing.T) {
	t.Parallel()
	h := start(t, setup{})
	token := h.addMailtrap("ending", func(t *sandbox.MailtrapToken) { t.ExpiresAt = h.clock.Now().Add(5 * time.Minute) })
	a := args{"connection": mailtrapName, "token_id": number(token.ID)}
	code := h.preview("revoke_token", a)
	h.clock.advance(9 * time.Minute)
	h.untouched(func() {
		h.call("revoke_token", with(a, args{"confirm": code})).fails("targets_changed").says("another status")
	})
}

// TestRenewedInEscrowSinceThePreview: so it is where the new secret waits in escrow.
func TestRenewedInEscrowSinceThePreview(t *testing.T) {
	t.Parallel()
	h := start(t, setup{})
	h.env.Sinks[spare] = failing{h.env.Sinks[sinkName]}
	a := args{"connection": launchDarklyName, "token_id": h.addLaunchDarkly("shared").ID}
	shown := with(a, args{"confirm": h.preview("revoke_token", a)})
	h.clock.advance(time.Second)
	r := h.confirm(rotate, with(a, args{"deliver_to": spare + "/ci/x"})).is("escrowed")
	h.untouched(func() { h.call("revoke_token", shown).fails("targets_changed").says(r.str("operation_id")) })
}

// TestRenewedDuringABulkRevocation: what got a new secret while the targets before it were ended is spared.
func TestRenewedDuringABulkRevocation(t *testing.T) {
	t.Parallel()
	arrived, release, open := gates()
	defer open()
	h := start(t, setup{}).behind(setup{}, holdFirst(http.MethodDelete, arrived, release))
	other := h.restart(h.setup) // at the same address: else it were another account
	first, second := h.addLaunchDarkly("first").ID, h.addLaunchDarkly("second").ID
	a := args{"connection": launchDarklyName, "token_ids": []string{first, second}, "reason": "unused"}
	a["confirm"] = h.preview("bulk_revoke_tokens", a)
	h.clock.advance(time.Second)
	answer := make(chan result, 1)
	go func() { answer <- h.call("bulk_revoke_tokens", a) }()
	<-arrived
	other.confirm(rotate, args{"connection": launchDarklyName, "token_id": second}).is("rotated")
	secret := h.wantDelivered(launchDarklyName + "/" + second)[0]
	open()
	(<-answer).is("partial").says("targets_changed", "token "+second+" has a new secret")
	h.wantGone(first)
	if !h.works(secret) {
		t.Error("the new secret does not work")
	}
}

// TestRenewedSinceThePreview: a token that got a new secret between a preview and its confirmation is neither ended
// nor rotated once more by it, though the vendor's record is as it was.
func TestRenewedSinceThePreview(t *testing.T) {
	t.Parallel()
	each(t, map[string]struct {
		tool string
		over args
	}{
		"revocation":           {"revoke_token", nil},
		"bulk revocation":      {"bulk_revoke_tokens", args{"token_id": nil, "token_ids": []string{"", ""}, "reason": "leaked"}},
		"rotation":             {rotate, args{"deliver_to": sinkName + "/ci/other"}},
		"compromised rotation": {rotate, args{"deliver_to": sinkName + "/ci/other", "compromised": true}},
	}, func(t *testing.T, c struct {
		tool string
		over args
	},
	) {
		h := start(t, setup{})
		token := h.addLaunchDarkly("shared")
		a := args{"connection": launchDarklyName, "token_id": token.ID}
		over := maps.Clone(c.over)
		if over["token_ids"] != nil {
			over["token_ids"] = []string{token.ID, h.addLaunchDarkly("beside").ID}
		}
		shown := with(a, over)
		shown["confirm"] = h.preview(c.tool, shown)
		h.clock.advance(time.Second)
		other := h.restart(setup{})
		r := other.confirm(rotate, a).is("rotated")
		secret := h.wantDelivered(launchDarklyName + "/" + token.ID)[0]
		h.untouched(func() {
			h.call(c.tool, shown).fails("targets_changed").says("token "+token.ID+" has a new secret, of operation "+r.str("operation_id"), "new preview")
		})
		if !h.works(secret) {
			t.Error("the new secret does not work")
		}
		h.clock.advance(time.Second)
		delete(shown, "confirm")
		h.confirm(c.tool, shown).ok()
	})
}
