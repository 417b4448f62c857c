package tools_test

import (
	"strings"
	"testing"

	"github.com/tokenreeve/tokenreeve/internal/policy"
	"github.com/tokenreeve/tokenreeve/internal/sandbox"
)

// attacks are all ways to change a token of LaunchDarkly or Mailtrap.
func attacks(connection, vendor, id string) map[string]args {
	a := args{"connection": connection, "token_id": id}
	all := map[string]args{
		revoke: a, rotate: with(a, args{"compromised": true}),
		bulkTool: {"connection": connection, "token_ids": []string{id}, "reason": "x"},
	}
	if vendor == sandbox.LaunchDarkly {
		all[update] = with(a, args{"role": "reader"})
	}
	return all
}

// spares fails the test unless no tool changes the token.
func (h *harness) spares(connection, vendor, id string) {
	h.t.Helper()
	h.untouched(func() {
		for tool, a := range attacks(connection, vendor, id) {
			r := h.call(tool, a)
			if refused := r.problem.Code == "own_credential" || tool == rotate && r.str("status") == "hand_off"; !refused || r.str("confirm") != "" {
				h.t.Errorf("%s of token %s through %s answered %s", tool, id, connection, r.text)
			}
		}
	})
}

// TestNoConnectionHarmsAnother: the credential of each connection is out of reach
// through all of them.
func TestNoConnectionHarmsAnother(t *testing.T) {
	t.Parallel()
	access := start(t, setup{}).access
	h := start(t, setup{connections: []connect{
		{name: "a-ld", vendor: sandbox.LaunchDarkly},
		{name: "b-ld", vendor: sandbox.LaunchDarkly, credential: access.LaunchDarkly.PersonalAdminCredential},
		{name: "c-ld", vendor: sandbox.LaunchDarkly, credential: access.LaunchDarkly.ReaderCredential},
		{name: "a-mt", vendor: sandbox.Mailtrap},
		{name: "b-mt", vendor: sandbox.Mailtrap, credential: access.Mailtrap.ProjectCredential},
	}})
	for _, t := range h.box.LaunchDarklyTokens() {
		switch t.Credential {
		case "credential", "personal_admin_credential", "reader_credential":
			h.spares("a-ld", sandbox.LaunchDarkly, t.ID)
			h.spares("b-ld", sandbox.LaunchDarkly, t.ID)
		}
	}
	for _, t := range h.box.MailtrapTokens() {
		switch t.Credential {
		case "credential", "project_credential":
			h.spares("a-mt", sandbox.Mailtrap, number(t.ID))
		}
	}
	// A filter that would select them leaves them out.
	h.untouched(func() {
		for _, a := range []args{{"connection": "a-ld", "query": "admin token"}, {"connection": "b-ld", "query": "dashboard reader"}, {"connection": "a-mt", "query": "project bot"}} {
			h.call(bulkTool, with(a, args{"reason": "x"})).is("nothing_to_revoke")
		}
	})
	// Others are fair game.
	h.confirm(revoke, args{"connection": "b-ld", "token_id": h.addLaunchDarkly("old").ID}).is("revoked")
}

// TestSameLastFour: Mailtrap names tokens by the end of their secrets only, so all
// with that end count as the credential.
func TestSameLastFour(t *testing.T) {
	t.Parallel()
	h := start(t, setup{})
	var twins []string
	end := h.access.Mailtrap.Credential[28:]
	for range 3 { // the vendor's list says so of three more tokens
		twins = append(twins, number(h.addMailtrap("twin").ID))
	}
	h.fault(sandbox.Fault{
		Vendor: sandbox.Mailtrap, Method: "GET", PathContains: "/api_tokens/" + twins[0], Kind: sandbox.FaultStatus, Status: 200, ContentType: "application/json",
		Body: `{"id":` + twins[0] + `,"name":"twin","last_4_digits":"` + end + `","expires_at":null,"resources":[{"resource_type":"account","resource_id":3229,"access_level":10}]}`,
	})
	h.spares(mailtrapName, sandbox.Mailtrap, twins[0])
	rows := make([]string, len(twins))
	for i, id := range twins {
		rows[i] = `{"id":` + id + `,"name":"twin","last_4_digits":"` + end + `","expires_at":null,"resources":[]}`
	}
	h.fault(sandbox.Fault{
		Vendor: sandbox.Mailtrap, Method: "GET", Kind: sandbox.FaultStatus, Status: 200, ContentType: "application/json", Body: "[" + strings.Join(rows, ",") + "]",
	})
	h.untouched(func() {
		h.call(bulkTool, args{"connection": mailtrapName, "query": "twin", "reason": "x"}).is("nothing_to_revoke")
		listed := h.call("list_tokens", args{"connection": mailtrapName, "query": "twin"})
		if n := strings.Count(listed.text, `"own_credential":true`); n != len(twins) {
			t.Errorf("%d of %d tokens are marked: %s", n, len(twins), listed.text)
		}
	})
}

// TestOwnCredentialThatCannotBeTold: nothing is changed through any connection to
// that vendor, and reads go on and say why.
func TestOwnCredentialThatCannotBeTold(t *testing.T) {
	t.Parallel()
	body := func(text string) sandbox.Fault {
		return sandbox.Fault{Kind: sandbox.FaultStatus, Status: 200, ContentType: "application/json", Body: text}
	}
	each(t, map[string]sandbox.Fault{
		"403":                   {Kind: sandbox.FaultStatus, Status: 403},
		"no JSON":               {Kind: sandbox.FaultNotJSON},
		"an SDK key's identity": body(`{"accountId":"0123456789abcdef01234567","projectName":"x"}`),
		"an id that is none":    body(`{"accountId":"0123456789abcdef01234567","tokenId":"../x"}`),
	}, func(t *testing.T, fault sandbox.Fault) {
		h := start(t, setup{connections: pairs()})
		id := h.addLaunchDarkly("old").ID
		code := h.preview(revoke, args{"connection": launchDarklyName, "token_id": id})
		h = h.restart(setup{connections: pairs()}) // else the identity is known
		fault.PathContains = "caller-identity"
		h.fault(fault)
		h.untouched(func() {
			for _, name := range []string{launchDarklyName, "beta-launchdarkly"} {
				for tool, a := range attacks(name, sandbox.LaunchDarkly, id) {
					h.call(tool, a).fails("own_credential_unknown").says("reads still work")
				}
				h.call(bulkTool, args{"connection": name, "query": "old", "reason": "x"}).fails("own_credential_unknown")
			}
			h.call(revoke, args{"connection": launchDarklyName, "token_id": id, "confirm": code}).fails("own_credential_unknown")
			h.call("list_tokens", args{"connection": launchDarklyName}).ok().says("own_credential_unknown")
			h.call("get_token", args{"connection": launchDarklyName, "token_id": id}).ok()
		})
		h.confirm(revoke, args{"connection": mailtrapName, "token_id": number(h.addMailtrap("old").ID)}).is("revoked") // another vendor
		h.box.ClearFaults()
		h.confirm(revoke, args{"connection": launchDarklyName, "token_id": id}).is("revoked") // a failure is not kept
	})
}

// TestOwnCredentialWhereTheVendorFails: asked again and again, in vain.
func TestOwnCredentialWhereTheVendorFails(t *testing.T) {
	t.Parallel()
	h := start(t, setup{})
	id := h.addLaunchDarkly("old").ID
	h.fault(sandbox.Fault{PathContains: "caller-identity", Kind: sandbox.Fault500})
	h.untouched(func() {
		h.call(revoke, args{"connection": launchDarklyName, "token_id": id}).fails("own_credential_unknown")
	})
}

// TestCredentialThatIsRenewedInBetween: the operator puts the very token that was
// previewed where the credential is read from, and ends the old one. The server
// finds out with a 401 in the middle of the confirmation.
func TestCredentialThatIsRenewedInBetween(t *testing.T) {
	t.Parallel()
	const byQuery = "bulk by query"
	for _, tool := range []string{revoke, rotate, update, bulkTool, byQuery} {
		for what, faults := range map[string][]sandbox.Fault{
			"own_credential":         nil,
			"own_credential_unknown": {{PathContains: "caller-identity", Kind: sandbox.FaultStatus, Status: 403}},
		} {
			t.Run(tool+"/"+what, func(t *testing.T) {
				t.Parallel()
				h := start(t, setup{})
				fresh := h.addLaunchDarkly("fresh", func(t *sandbox.LaunchDarklyToken) { t.Role, t.ServiceToken = "admin", true })
				a := attacks(launchDarklyName, sandbox.LaunchDarkly, fresh.ID)[tool]
				name := tool
				if tool == byQuery {
					name, a = bulkTool, args{"connection": launchDarklyName, "query": "fresh", "reason": "x"}
				}
				code := h.preview(name, a)
				h.secrets[launchDarklyName].set(fresh.Secret)
				h.box.DeleteLaunchDarklyToken(h.access.LaunchDarkly.TokenID)
				for _, f := range faults {
					h.fault(f)
				}
				h.forget()
				r := h.call(name, with(a, args{"confirm": code}))
				if r.problem.Code != what && r.str("status") != "hand_off" && r.problem.Code != "targets_changed" {
					t.Errorf("%s answered %s, want %s", tool, r.text, what)
				}
				h.wantSent()
				h.box.ClearFaults()
				if !h.works(fresh.Secret) {
					t.Error("the server ended its own credential")
				}
			})
		}
	}
}

// TestProtectedOwner: an owner is protected by address also where the vendor's
// record of the token has none.
func TestProtectedOwner(t *testing.T) {
	t.Parallel()
	for _, hidden := range []bool{false, true} {
		h := start(t, setup{box: sandbox.Options{Atlassian: sandbox.AtlassianOptions{HideEmails: hidden}}})
		address := func(t *sandbox.AtlassianToken) {
			if hidden {
				t.OwnerEmail = ""
			}
		}
		token, other := h.addAtlassian("laptop", address), h.addAtlassian("other", address)
		member, _ := h.launchDarkly(h.addLaunchDarkly("laptop").ID)
		h.allow(policy.Policy{Protect: policy.Protect{Owners: []string{"LAPTOP@acme.example", member.MemberEmail}}})
		h.untouched(func() {
			for _, owner := range []any{nil, token.AccountID} {
				h.call(revoke, args{"connection": atlassianName, "token_id": token.ID, "owner": owner}).fails("protected")
			}
			h.call(bulkTool, args{"connection": atlassianName, "token_ids": []string{other.ID, token.ID}, "reason": "x"}).fails("protected")
			for tool, a := range attacks(launchDarklyName, sandbox.LaunchDarkly, member.ID) {
				h.call(tool, a).fails("protected")
			}
			if hidden { // then it cannot be told for anybody
				h.call(revoke, args{"connection": atlassianName, "token_id": other.ID}).fails("protected").says("by account id")
			}
		})
		if !hidden {
			h.confirm(revoke, args{"connection": atlassianName, "token_id": other.ID, "owner": other.AccountID}).is("revoked")
		}
	}
}

// TestRenewedCredentialIsItsOwn: once the source gives another credential, that one
// is protected.
func TestRenewedCredentialIsItsOwn(t *testing.T) {
	t.Parallel()
	h := start(t, setup{})
	renewed := h.addLaunchDarkly("tokenreeve, renewed", func(t *sandbox.LaunchDarklyToken) { t.Role, t.ServiceToken = "admin", true })
	h.secrets[launchDarklyName].set(renewed.Secret)
	h.box.DeleteLaunchDarklyToken(h.access.LaunchDarkly.TokenID)
	h.call("list_tokens", args{"connection": launchDarklyName}).ok()
	h.spares(launchDarklyName, sandbox.LaunchDarkly, renewed.ID)
	mt := h.addMailtrap("tokenreeve, renewed", func(t *sandbox.MailtrapToken) {
		t.Resources = []sandbox.MailtrapResource{{ResourceType: "account", ResourceID: 3229, AccessLevel: 100}}
	})
	h.secrets[mailtrapName].set(mt.Secret)
	h.box.DeleteMailtrapToken(h.access.Mailtrap.TokenID)
	h.call("list_tokens", args{"connection": mailtrapName}).ok()
	h.spares(mailtrapName, sandbox.Mailtrap, number(mt.ID))
}
