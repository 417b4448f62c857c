package tools_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tokenreeve/tokenreeve/internal/policy"
	"github.com/tokenreeve/tokenreeve/internal/sandbox"
)

func TestGetToken(t *testing.T) {
	t.Parallel()
	connections := oneOfEach()
	for i := range connections {
		connections[i].policy = policy.Policy{Protect: policy.Protect{Names: []string{"*do not delete*"}}}
	}
	h := start(t, setup{box: sandbox.Options{Seed: 13, Tokens: 60}, connections: connections})
	h.call("list_tokens", args{}).ok()
	protected := 0
	for _, f := range h.facts() {
		got := as[struct {
			Token     row    `json:"token"`
			Protected string `json:"protected"`
		}](h.call("get_token", args{"connection": f.connection, "token_id": f.id}))
		h.checkName(got.Token, f)
		want := fullRowOf(f)
		want.Connection = ""
		want.Name, want.NameAltered = got.Token.Name, got.Token.NameAltered
		want.Description, want.CreatedBy, want.Scopes = got.Token.Description, got.Token.CreatedBy, got.Token.Scopes
		want.APIVersion, want.Modified = got.Token.APIVersion, got.Token.Modified
		if diff := cmp.Diff(want, got.Token); diff != "" {
			t.Errorf("%s (-want +got):\n%s", f.key(), diff)
		}
		isCut := strings.HasSuffix(got.Token.Name, "…") // what is not shown may match
		if (strings.Contains(f.name, "do not delete") || isCut) != (got.Protected != "") {
			t.Errorf("%s %q: protected is %q", f.key(), f.name, got.Protected)
		}
		if got.Protected != "" {
			protected++
		}
	}
	if protected == 0 {
		t.Error("the sandbox has no token that the policy protects")
	}
}

// The vendor's own facts stand in a full row, in its own words.
func TestGetTokenDetails(t *testing.T) {
	t.Parallel()
	h := start(t, setup{})
	atlassian, err := h.box.AddAtlassianToken(sandbox.AtlassianToken{Label: "a", OwnerName: "Ada", OwnerEmail: "ada@acme.example", Scopes: []string{"read:jira-work", "write:jira-work"}})
	must(t, 0, err)
	launchDarkly, err := h.box.AddLaunchDarklyToken(sandbox.LaunchDarklyToken{
		Name: "l", Description: "for the\nnightly\u202e job", CustomRoleIDs: []string{h.box.LaunchDarklyRoles()[0].ID}, LastModified: h.clock.Now(),
		CreatedAt: h.clock.Now(), DefaultAPIVersion: 20191212,
	})
	must(t, 0, err)
	mailtrap, err := h.box.AddMailtrapToken(sandbox.MailtrapToken{
		Name: "m", CreatedBy: "Mia", Resources: []sandbox.MailtrapResource{{ResourceType: "account", ResourceID: h.access.Mailtrap.AccountID, AccessLevel: 10}},
	})
	must(t, 0, err)
	tests := map[string]struct {
		arguments args
		check     func(row) bool
	}{
		"atlassian": {args{"connection": atlassianName, "token_id": atlassian.ID}, func(r row) bool {
			return cmp.Equal(r.Scopes, []string{"read:jira-work", "write:jira-work"}) && r.OwnerName == "Ada" && r.LastUsed == "unknown"
		}},
		"launchdarkly": {args{"connection": launchDarklyName, "token_id": launchDarkly.ID}, func(r row) bool {
			return r.Description == "for the nightly job" && r.APIVersion == 20191212 && r.LastUsed == "never" && r.Expires == "never" &&
				len(r.Scopes) == 1 && strings.HasSuffix(r.Scopes[0], h.box.LaunchDarklyRoles()[0].ID) && r.Modified != ""
		}},
		"mailtrap": {args{"connection": mailtrapName, "token_id": mailtrap.ID}, func(r row) bool {
			return r.CreatedBy == "Mia" && cmp.Equal(r.Scopes, []string{"account/3229 viewer"}) && r.Kind == "unknown" && r.Created == "unknown" && r.Owner == ""
		}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := as[struct{ Token row }](h.on(t).call("get_token", test.arguments))
			if !test.check(got.Token) {
				t.Errorf("the row is %+v", got.Token)
			}
		})
	}
}

func TestGetTokenOfAnOwner(t *testing.T) {
	t.Parallel()
	h := start(t, setup{})
	facts := h.facts()
	person := find(t, facts, func(f fact) bool { return f.connection == atlassianName && f.kind == "user" })
	stranger := find(t, facts, func(f fact) bool {
		return f.connection == atlassianName && f.kind == "user" && f.ownerID != person.ownerID
	})
	service := find(t, facts, func(f fact) bool { return f.connection == atlassianName && f.kind == "service" })
	member := find(t, facts, func(f fact) bool { return f.connection == launchDarklyName })
	other := find(t, facts, func(f fact) bool { return f.connection == launchDarklyName && f.ownerID != member.ownerID })
	tests := map[string]struct {
		token fact
		owner string
		code  string // empty: found
	}{
		"by account id":                {person, person.ownerID, ""},
		"by e-mail":                    {person, person.email, ""},
		"by e-mail in capitals":        {person, strings.ToUpper(person.email), ""},
		"of a service account":         {service, service.ownerID, ""},
		"of another account":           {person, stranger.ownerID, "invalid_argument"},
		"of another account by e-mail": {person, stranger.email, "not_found"},
		"of an unknown account":        {person, "712020:nobody", "owner_unknown"},
		"of a member":                  {member, member.ownerID, ""},
		"of another member":            {member, other.ownerID, "owner_mismatch"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := h.on(t).call("get_token", args{"connection": test.token.connection, "token_id": test.token.id, "owner": test.owner})
			if test.code != "" {
				if r.fails(test.code); r.problem.Next == "" {
					t.Errorf("%s says not what to do next", r.text)
				}
				return
			}
			if got := r.ok().str("token", "id"); got != test.token.id {
				t.Errorf("token %s, want %s", got, test.token.id)
			}
		})
	}
}

func TestGetTokenThatIsNotThere(t *testing.T) {
	t.Parallel()
	h := start(t, setup{})
	gone := map[string]any{atlassianName: "asp_nobodyhasthis", launchDarklyName: "0123456789abcdef01234567", mailtrapName: 987654321}
	for connection, id := range gone {
		if r := h.call("get_token", args{"connection": connection, "token_id": id}).fails("not_found"); r.problem.Next == "" {
			t.Errorf("%s says not what to do next", r.text)
		}
	}
	// A token that was there and is deleted is gone as well.
	f := find(t, h.launchDarklyFacts(), func(f fact) bool { return !f.own && f.kind == "user" })
	h.delete(f.connection, f.id)
	h.call("get_token", args{"connection": f.connection, "token_id": f.id}).fails("not_found")
	// Where not all could be read, absence proves nothing.
	h.fault(sandbox.Fault{Vendor: sandbox.Atlassian, PathContains: "/service-accounts/", Kind: sandbox.FaultStatus, Status: 403})
	h.call("get_token", args{"connection": atlassianName, "token_id": "asp_nobodyhasthis"}).fails("vendor_unavailable")
}

func TestGetTokenNamesTheWrongConnection(t *testing.T) {
	t.Parallel()
	h := start(t, setup{})
	r := h.call("get_token", args{"connection": "acme-mailtrip", "token_id": "1"}).fails("unknown_connection")
	want := []string{atlassianName, launchDarklyName, mailtrapName}
	if diff := cmp.Diff(want, r.problem.Valid); diff != "" {
		t.Errorf("valid (-want +got):\n%s", diff)
	}
}
