package tools_test

import (
	"strings"
	"testing"
	"time"

	"github.com/tokenreeve/tokenreeve/internal/ledger"
	"github.com/tokenreeve/tokenreeve/internal/sandbox"
)

const revoke = "revoke_token"

// TestRevokeAtAtlassian finds a user's token on every way, and ends just that one.
func TestRevokeAtAtlassian(t *testing.T) {
	t.Parallel()
	owners := map[string]func(sandbox.AtlassianToken) args{
		"without owner":        func(sandbox.AtlassianToken) args { return nil },
		"by account id":        func(t sandbox.AtlassianToken) args { return args{"owner": t.AccountID} },
		"by address":           func(t sandbox.AtlassianToken) args { return args{"owner": t.OwnerEmail} },
		"by ADDRESS":           func(t sandbox.AtlassianToken) args { return args{"owner": strings.ToUpper(t.OwnerEmail)} },
		"by its id over there": func(t sandbox.AtlassianToken) args { return args{"owner": t.AccountID, "token_id": t.UserManagementID} },
	}
	options := map[string]sandbox.AtlassianOptions{
		"":                      {},
		" and two ids":          {DifferentTokenIDs: true},
		" and null dates":       {DifferentTokenIDs: true, NullLastAccess: true, NoDate: "null"},
		" and an older edition": {DifferentTokenIDs: true, OmitExpiry: true},
		" and links":            {NextLink: "absolute"},
		" and other links":      {LastLink: "absent", NextLink: "relative"},
	}
	for way, owner := range owners {
		for kind, o := range options {
			t.Run(way+kind, func(t *testing.T) {
				t.Parallel()
				h := start(t, setup{
					box:         sandbox.Options{AtlassianTokens: new(12), Atlassian: o},
					connections: []connect{{name: atlassianName, vendor: sandbox.Atlassian, pageSize: 4}},
				})
				token := h.addAtlassian("doomed", func(t *sandbox.AtlassianToken) {
					t.CreatedAt, t.ExpiresAt = h.clock.Now().AddDate(0, -3, 0).Add(123*time.Millisecond), h.clock.Now().AddDate(0, 3, 0)
				})
				sibling := h.addAtlassian("doomed too", func(t *sandbox.AtlassianToken) { t.AccountID = token.AccountID })
				a := with(args{"connection": atlassianName, "token_id": token.ID}, owner(token))
				code := h.preview(revoke, a)
				h.call(revoke, with(a, args{"confirm": code})).is("revoked")
				h.wantSent("DELETE " + userPath(token))
				h.wantGone(token.ID)
				h.wantAlive(sibling.ID)
			})
		}
	}
}

// TestTwinsOfAnotherAPI: where the two APIs name tokens differently and two records
// fit, nothing is ended.
func TestTwinsOfAnotherAPI(t *testing.T) {
	t.Parallel()
	each(t, map[string]struct {
		second func(first sandbox.AtlassianToken, t *sandbox.AtlassianToken)
		code   string
	}{
		"same name and moment": {func(first sandbox.AtlassianToken, t *sandbox.AtlassianToken) { t.CreatedAt = first.CreatedAt }, "refused"},
		"same name only": {func(first sandbox.AtlassianToken, t *sandbox.AtlassianToken) {
			t.CreatedAt = first.CreatedAt.AddDate(0, 0, 1)
		}, ""},
		"same moment, else name": {func(first sandbox.AtlassianToken, t *sandbox.AtlassianToken) {
			t.CreatedAt, t.Label = first.CreatedAt, "b"
		}, ""},
	}, func(t *testing.T, c struct {
		second func(first sandbox.AtlassianToken, t *sandbox.AtlassianToken)
		code   string
	},
	) {
		h := start(t, setup{box: sandbox.Options{Atlassian: sandbox.AtlassianOptions{DifferentTokenIDs: true}}})
		first := h.addAtlassian("a")
		second := h.addAtlassian("a", func(t *sandbox.AtlassianToken) {
			t.AccountID = first.AccountID
			c.second(first, t)
		})
		a := args{"connection": atlassianName, "token_id": first.ID}
		code := h.preview(revoke, a)
		r := h.call(revoke, with(a, args{"confirm": code}))
		if c.code != "" {
			r.fails(c.code)
			h.wantSent()
			h.wantAlive(first.ID, second.ID)
			return
		}
		r.is("revoked")
		h.wantGone(first.ID)
		h.wantAlive(second.ID)
	})
}

// TestRecordThatOnlyComesNear: a record without the id, made in the same second, is
// too near to say that the token is gone, and too far to be ended.
func TestRecordThatOnlyComesNear(t *testing.T) {
	t.Parallel()
	h := start(t, setup{})
	token := h.addAtlassian("a")
	a := args{"connection": atlassianName, "token_id": token.ID}
	code := h.preview(revoke, a)
	h.fault(sandbox.Fault{
		Vendor: sandbox.Atlassian, PathContains: "/manage/", Kind: sandbox.FaultStatus, Status: 200, ContentType: "application/json",
		Body: `[{"id":"other","label":"b","createdAt":"` + token.CreatedAt.UTC().Format("2006-01-02T15:04:05Z") + `"}]`,
	})
	h.call(revoke, with(a, args{"confirm": code})).fails("refused")
	h.wantSent()
	h.wantAlive(token.ID)
}

// TestServiceAccountTokenIsHandedOff: no API ends one such token, and the call for
// all of them is never a way out.
func TestServiceAccountTokenIsHandedOff(t *testing.T) {
	t.Parallel()
	h := start(t, setup{})
	account, ids := h.serviceAccount("automaton 1", "automaton 2")
	user := h.addAtlassian("user")
	for _, over := range []args{{}, {"owner": account}, {"confirm": "yes"}, {"reason": "leaked"}} {
		h.untouched(func() {
			r := h.call(revoke, with(args{"connection": atlassianName, "token_id": ids[0]}, over)).is("hand_off")
			r.says("nothing was changed", "Service accounts")
			if steps, _ := r.get("steps").([]any); len(steps) == 0 || r.str("confirm") != "" || r.str("token_id") != ids[0] {
				t.Errorf("no hand-off: %s", r.text)
			}
		})
	}
	h.untouched(func() {
		h.call(bulkTool, args{"connection": atlassianName, "reason": "x", "token_ids": []string{user.ID, ids[0]}}).fails("not_offered").says("Service accounts")
		r := h.call(bulkTool, args{"connection": atlassianName, "reason": "x", "query": "automaton"}).is("nothing_to_revoke")
		if r.str("confirm") != "" {
			t.Errorf("a code for nothing: %s", r.text)
		}
	})
}

// TestCredentialsOfAtlassian: API Access takes a key with scopes, user management
// only one without.
func TestCredentialsOfAtlassian(t *testing.T) {
	t.Parallel()
	keys := start(t, setup{}).access.Atlassian
	connections := func(credential, userManagement string) setup {
		return setup{connections: []connect{{name: atlassianName, vendor: sandbox.Atlassian, credential: credential, userManagement: userManagement}}}
	}
	t.Run("both", func(t *testing.T) {
		t.Parallel()
		h := start(t, connections(keys.ScopedCredential, keys.Credential))
		token := h.addAtlassian("old")
		h.confirm(revoke, args{"connection": atlassianName, "token_id": token.ID, "owner": token.AccountID}).is("revoked")
		h.wantGone(token.ID)
		for _, r := range h.requests() {
			want := "scoped_credential"
			if strings.HasPrefix(r.Path, "/users/") {
				want = "credential"
			}
			if r.Credential != want {
				t.Errorf("%s %s went out with %s, want %s", r.Method, r.Path, r.Credential, want)
			}
		}
	})
	for name, credential := range map[string]string{"scoped": keys.ScopedCredential, "read only": keys.ReadOnlyCredential} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := start(t, connections(credential, ""))
			token := h.addAtlassian("old")
			a := args{"connection": atlassianName, "token_id": token.ID}
			h.untouched(func() {
				h.call(revoke, with(a, args{"owner": token.AccountID})).fails("forbidden").says("user_management_credential", "without scopes")
				code := h.preview(revoke, a)
				h.call(revoke, with(a, args{"confirm": code})).fails("forbidden").says("user_management_credential", "without scopes")
			})
		})
	}
	t.Run("expired", func(t *testing.T) {
		t.Parallel()
		h := start(t, connections(keys.ExpiredCredential, ""))
		token := h.addAtlassian("old")
		h.untouched(func() {
			h.call(revoke, args{"connection": atlassianName, "token_id": token.ID, "owner": token.AccountID}).fails("credential_rejected").says("user_management_credential")
		})
	})
	t.Run("expired in between", func(t *testing.T) {
		t.Parallel()
		h := start(t, connections("", ""))
		token := h.addAtlassian("old")
		a := args{"connection": atlassianName, "token_id": token.ID, "owner": token.AccountID}
		code := h.preview(revoke, a)
		h.fault(sandbox.Fault{Vendor: sandbox.Atlassian, Method: "DELETE", Kind: sandbox.FaultStatus, Status: 401})
		h.call(revoke, with(a, args{"confirm": code})).fails("credential_rejected")
		h.wantAlive(token.ID)
	})
}

func TestRevocationRefusals(t *testing.T) {
	t.Parallel()
	user := func(h *harness) args {
		t := h.addAtlassian("old")
		return args{"connection": atlassianName, "token_id": t.ID, "owner": t.AccountID}
	}
	ld := func(h *harness) args {
		return args{"connection": launchDarklyName, "token_id": h.addLaunchDarkly("old").ID}
	}
	mt := func(h *harness) args {
		return args{"connection": mailtrapName, "token_id": number(h.addMailtrap("old").ID)}
	}
	over := func(args_ func(*harness) args, o args) func(*harness) args {
		return func(h *harness) args { return with(args_(h), o) }
	}
	each(t, map[string]struct {
		args func(*harness) args
		code string
		says string
	}{
		"another owner":            {over(user, args{"owner": "712020:0f0e0d0c-0b0a-4908-8706-050403020100"}), "owner_unknown", ""},
		"another owner's address":  {over(user, args{"owner": "nobody@acme.example"}), "not_found", ""},
		"another member":           {func(h *harness) args { return with(ld(h), args{"owner": h.box.LaunchDarklyMembers()[5].ID}) }, "owner_mismatch", "another owner"},
		"another member's address": {over(ld, args{"owner": "nobody@acme.example"}), "owner_mismatch", "another owner"},
		"unknown at Atlassian":     {over(user, args{"token_id": "asp_unknown", "owner": nil}), "not_found", ""},
		"unknown at LaunchDarkly":  {over(ld, args{"token_id": "0123456789abcdef01234567"}), "not_found", ""},
		"unknown at Mailtrap":      {over(mt, args{"token_id": "1"}), "not_found", ""},
		"unmanaged owner": {func(h *harness) args {
			t := h.addAtlassian("private", func(t *sandbox.AtlassianToken) { t.Unmanaged = true })
			return args{"connection": atlassianName, "token_id": t.ID, "owner": t.AccountID}
		}, "forbidden", ""},
		"no connection":        {over(ld, args{"connection": "prod"}), "unknown_connection", launchDarklyName},
		"a path":               {over(user, args{"token_id": ".."}), "invalid_argument", "token_id"},
		"a path for an owner":  {over(user, args{"owner": "../../orgs"}), "invalid_argument", "owner"},
		"a secret for an id":   {over(ld, args{"token_id": "api-0d5ad0f4-ab12-4d3a-9e52-0f0e0d0c0b0a"}), "invalid_argument", "never its secret"},
		"an empty id":          {over(mt, args{"token_id": ""}), "invalid_argument", "token_id"},
		"an escaped path":      {over(mt, args{"token_id": "1%2f..%2f.."}), "invalid_argument", "token_id"},
		"a leading zero":       {over(mt, args{"token_id": "0001"}), "invalid_argument", "token_id"},
		"a number in exponent": {over(mt, args{"token_id": 1e21}), "invalid_argument", "token_id"},
	}, func(t *testing.T, c struct {
		args func(*harness) args
		code string
		says string
	},
	) {
		h := start(t, setup{})
		a := c.args(h)
		h.untouched(func() {
			r := h.call(revoke, a).fails(c.code).says(c.says)
			if strings.Contains(r.text, "0d5ad0f4-ab12") {
				t.Errorf("the answer quotes a secret: %s", r.text)
			}
		})
	})
}

// TestRevocationOutcomes: what the vendor does with the DELETE.
func TestRevocationOutcomes(t *testing.T) {
	t.Parallel()
	user := func(h *harness) (args, string) {
		t := h.addAtlassian("old")
		return args{"connection": atlassianName, "token_id": t.ID}, t.ID
	}
	ld := func(h *harness) (args, string) {
		id := h.addLaunchDarkly("old").ID
		return args{"connection": launchDarklyName, "token_id": id}, id
	}
	mt := func(h *harness) (args, string) {
		id := number(h.addMailtrap("old").ID)
		return args{"connection": mailtrapName, "token_id": id}, id
	}
	lost := sandbox.Fault{Kind: sandbox.FaultLostAnswer, Times: 1}
	each(t, map[string]struct {
		args    func(*harness) (args, string)
		fault   sandbox.Fault
		outcome string // status or code
		lives   bool
	}{
		"lost answer, LaunchDarkly":     {ld, lost, "revoked", false},
		"lost answer, Mailtrap":         {mt, lost, "revoked", false},
		"lost answer, Atlassian":        {user, lost, "revoked", false},
		"every answer lost, then gone":  {ld, sandbox.Fault{Kind: sandbox.FaultLostAnswer}, "revoked", false},
		"likewise at Mailtrap":          {mt, sandbox.Fault{Kind: sandbox.FaultLostAnswer}, "revoked", false},
		"likewise at Atlassian":         {user, sandbox.Fault{Kind: sandbox.FaultLostAnswer}, "revoked", false},
		"all answers lost":              {ld, sandbox.Fault{Kind: sandbox.FaultCut}, "outcome_unknown", true},
		"one 500":                       {mt, sandbox.Fault{Kind: sandbox.Fault500, Times: 1}, "revoked", false},
		"one 500 that acted":            {ld, sandbox.Fault{Kind: sandbox.Fault500, Applied: true, Times: 1}, "revoked", false},
		"nothing but 500":               {user, sandbox.Fault{Kind: sandbox.Fault500}, "outcome_unknown", true},
		"403":                           {mt, sandbox.Fault{Kind: sandbox.FaultStatus, Status: 403}, "forbidden", true},
		"200 from a proxy at Atlassian": {user, sandbox.Fault{Kind: sandbox.FaultHTML}, "outcome_unknown", true},
		"a redirect":                    {ld, sandbox.Fault{Kind: sandbox.FaultStatus, Status: 307, Header: map[string]string{"Location": "/elsewhere"}}, "bad_vendor_answer", true},
	}, func(t *testing.T, c struct {
		args    func(*harness) (args, string)
		fault   sandbox.Fault
		outcome string
		lives   bool
	},
	) {
		h := start(t, setup{})
		a, id := c.args(h)
		code := h.preview(revoke, a)
		c.fault.Method = "DELETE"
		h.fault(c.fault)
		r := h.call(revoke, with(a, args{"confirm": code}))
		if got := r.str("status") + r.problem.Code; got != c.outcome {
			t.Errorf("the revocation answered %s, want %s", r.text, c.outcome)
		}
		if h.lives(id) != c.lives {
			t.Errorf("the token lives: %v, want %v", h.lives(id), c.lives)
		}
		outcome := map[string]ledger.Outcome{"revoked": ledger.Done, "outcome_unknown": ledger.Unknown, "bad_vendor_answer": ledger.Unknown, "forbidden": ledger.Failed}[c.outcome]
		if op := h.onRecord(ledger.Query{})[0]; op.Outcome != outcome || (op.Note != "") != (outcome == ledger.Done && c.fault.Kind == sandbox.FaultLostAnswer && c.fault.Times == 0) {
			t.Errorf("on record: %+v", op)
		}
	})
}

func TestRevocationThatTheVendorForbids(t *testing.T) {
	t.Parallel()
	h := start(t, setup{})
	token := h.addAtlassian("synced")
	if err := h.box.UpdateAtlassianAccount(token.AccountID, func(a *sandbox.AtlassianAccount) { a.DeleteRefusal = "externalDirectory.scim" }); err != nil {
		t.Fatal(err)
	}
	h.confirm(revoke, args{"connection": atlassianName, "token_id": token.ID}).fails("forbidden").says("externalDirectory.scim")
	h.wantAlive(token.ID)
	var last sandbox.MailtrapToken
	for _, m := range h.box.MailtrapTokens() {
		for _, r := range m.Resources {
			if r.ResourceType == "domain" && last.ID == 0 {
				last = m
			}
		}
	}
	for _, m := range h.box.MailtrapTokens() { // make it the last one of its domain
		for _, r := range m.Resources {
			if m.ID != last.ID && r.ResourceType == "domain" && r.ResourceID == last.Resources[len(last.Resources)-1].ResourceID {
				h.box.DeleteMailtrapToken(m.ID)
			}
		}
	}
	h.confirm(revoke, args{"connection": mailtrapName, "token_id": number(last.ID)}).fails("vendor_rejected").says("last token of a sending domain")
	h.wantAlive(number(last.ID))
}
