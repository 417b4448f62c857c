package tools_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tokenreeve/tokenreeve/internal/policy"
	"github.com/tokenreeve/tokenreeve/internal/sandbox"
)

// connectionsResult is a result of list_connections.
type connectionsResult struct {
	Connections []struct {
		Name         string   `json:"name"`
		Provider     string   `json:"provider"`
		Capabilities []string `json:"capabilities"`
		Sink         string   `json:"sink"`
		Protects     bool     `json:"protects"`
		Health       string   `json:"health"`
		Seen         string   `json:"seen"`
	} `json:"connections"`
	Sinks  []string `json:"sinks"`
	Caller struct {
		Name     string   `json:"name"`
		Allowed  []string `json:"allowed"`
		ReadOnly bool     `json:"read_only"`
	} `json:"caller"`
	Setup []string `json:"setup"`
}

func (h *harness) toolNames() []string {
	var names []string
	for _, d := range h.definitions() {
		names = append(names, d.Name)
	}
	slices.Sort(names)
	return names
}

// allTools are the tools of three connections, one at each vendor.
func allTools() []string {
	return []string{
		"bulk_revoke_tokens", "count_tokens", "create_launchdarkly_token", "create_mailtrap_token", "deliver_secret", "get_operation", "get_token",
		"list_connections", "list_operations", "list_tokens", "revoke_token", "rotate_token", "update_launchdarkly_token",
	}
}

func TestListConnections(t *testing.T) {
	t.Parallel()
	h := start(t, setup{})
	got := as[connectionsResult](h.call("list_connections", args{}))
	want := map[string][]string{
		atlassianName:    {"list", "count", "get", "revoke", "bulk_revoke"},
		launchDarklyName: {"list", "count", "get", "create", "update", "rotate", "revoke", "bulk_revoke"},
		mailtrapName:     {"list", "count", "get", "create", "rotate", "revoke", "bulk_revoke"},
	}
	for _, c := range got.Connections {
		if diff := cmp.Diff(want[c.Name], c.Capabilities); diff != "" {
			t.Errorf("%s: capabilities (-want +got):\n%s", c.Name, diff)
		}
		if c.Provider != vendorOf(c.Name) || c.Sink != sinkName || c.Health != "unchecked" || c.Seen != "" || c.Protects {
			t.Errorf("connection %+v", c)
		}
	}
	if len(got.Connections) != 3 || !slices.Equal(got.Sinks, []string{sinkName}) || got.Caller.Name != "local" || got.Caller.ReadOnly || len(got.Setup) != 0 {
		t.Errorf("result %+v", got)
	}
	if diff := cmp.Diff([]string{"read", "mint", "update", "rotate", "revoke", "bulk"}, got.Caller.Allowed); diff != "" {
		t.Errorf("allowed (-want +got):\n%s", diff)
	}
	if sent := h.box.Requests(); len(sent) != 0 {
		t.Errorf("%d requests were sent", len(sent))
	}
	if other := as[connectionsResult](h.callAs("alice", "list_connections", nil)); other.Caller.Name != "alice" {
		t.Errorf("caller %+v, want alice", other.Caller)
	}
}

func TestHealth(t *testing.T) {
	t.Parallel()
	h := start(t, setup{})
	health := func(connection string) string {
		for _, c := range as[connectionsResult](h.call("list_connections", nil)).Connections {
			if c.Name == connection {
				return c.Health + " " + c.Seen
			}
		}
		return ""
	}
	expect := func(connection, want string) {
		t.Helper()
		if got := health(connection); got != want+" "+h.clock.Now().Format(time.RFC3339) {
			t.Errorf("health of %s is %q, want %q now", connection, got, want)
		}
	}
	h.call("list_tokens", args{"connection": mailtrapName}).ok()
	expect(mailtrapName, "ok")
	if got := health(launchDarklyName); got != "unchecked " {
		t.Errorf("health is %q without a call", got)
	}
	h.clock.advance(time.Minute)
	h.call("get_token", args{"connection": launchDarklyName, "token_id": "0123456789abcdef01234567"}).fails("not_found")
	expect(launchDarklyName, "ok") // the vendor answered
	h.secrets[mailtrapName].set("not a credential of the sandbox")
	h.clock.advance(time.Minute)
	h.fault(sandbox.Fault{Vendor: sandbox.Mailtrap, Kind: sandbox.FaultStatus, Status: 401})
	h.call("count_tokens", args{"connection": mailtrapName}).fails("credential_rejected")
	expect(mailtrapName, "credential_rejected")
	// A refusal before anything was sent says nothing of the vendor.
	h.call("get_token", args{"connection": launchDarklyName, "token_id": ".."}).fails("invalid_argument")
	if got := health(launchDarklyName); !strings.HasPrefix(got, "ok ") {
		t.Errorf("health is %q after a wrong argument", got)
	}
}

// A credential that was renewed where it is read from works from the next call on.
func TestRenewedCredential(t *testing.T) {
	t.Parallel()
	h := start(t, setup{connections: []connect{{name: "one", vendor: sandbox.LaunchDarkly, credential: "api-00000000-0000-0000-0000-000000000000"}}})
	h.call("list_tokens", nil).fails("credential_rejected")
	h.secrets["one"].set(h.access.LaunchDarkly.Credential)
	h.call("list_tokens", nil).ok()
}

func TestNoConnections(t *testing.T) {
	t.Parallel()
	h := start(t, setup{connections: []connect{}, hints: []string{"set MAILTRAP_API_TOKEN"}})
	if diff := cmp.Diff([]string{"list_connections"}, h.toolNames()); diff != "" {
		t.Errorf("tools (-want +got):\n%s", diff)
	}
	got := as[connectionsResult](h.call("list_connections", nil))
	if len(got.Connections) != 0 || !slices.Equal(got.Setup, []string{"set MAILTRAP_API_TOKEN"}) {
		t.Errorf("result %+v, want the hints", got)
	}
	if !strings.Contains(h.call("list_connections", nil).text, `"connections":[]`) {
		t.Error("no connections are not an empty list")
	}
}

func TestToolsOffered(t *testing.T) {
	t.Parallel()
	without := func(names ...string) []string {
		return slices.DeleteFunc(allTools(), func(name string) bool { return slices.Contains(names, name) })
	}
	allowing := func(classes ...policy.Class) []connect {
		connections := oneOfEach()
		for i := range connections {
			connections[i].policy.Allow = classes
		}
		return connections
	}
	reads := []string{"count_tokens", "get_operation", "get_token", "list_connections", "list_operations", "list_tokens"}
	tests := map[string]struct {
		setup setup
		want  []string
	}{
		"all":               {setup{}, allTools()},
		"atlassian only":    {setup{connections: oneOfEach()[:1]}, without("create_launchdarkly_token", "create_mailtrap_token", "deliver_secret", "update_launchdarkly_token")},
		"launchdarkly only": {setup{connections: oneOfEach()[1:2]}, without("create_mailtrap_token")},
		"mailtrap only":     {setup{connections: oneOfEach()[2:]}, without("create_launchdarkly_token", "update_launchdarkly_token")},
		"read-only":         {setup{readOnly: true}, reads},
		"policy: read":      {setup{connections: allowing(policy.Read)}, reads},
		"policy: revoke":    {setup{connections: allowing(policy.Read, policy.Revoke)}, append(slices.Clone(reads), "revoke_token")},
		"policy: nothing":   {setup{connections: allowing([]policy.Class{}...)}, []string{"list_connections"}},
		"policy: mint":      {setup{connections: allowing(policy.Mint)}, []string{"create_launchdarkly_token", "create_mailtrap_token", "deliver_secret", "list_connections"}},
		"policy: rotate":    {setup{connections: allowing(policy.Rotate)}, []string{"deliver_secret", "list_connections", "rotate_token"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := start(t, test.setup)
			slices.Sort(test.want)
			if diff := cmp.Diff(test.want, h.toolNames()); diff != "" {
				t.Errorf("tools (-want +got):\n%s", diff)
			}
			for _, tool := range allTools() {
				if !slices.Contains(test.want, tool) {
					h.checkNotOffered(tool)
				}
			}
			if sent := h.box.Requests(); len(sent) != 0 {
				t.Errorf("%d requests were sent", len(sent))
			}
		})
	}
}

// checkNotOffered calls a tool that is not there: the answer says why.
func (h *harness) checkNotOffered(tool string) {
	h.t.Helper()
	r := h.call(tool, args{}).fails("unknown_tool")
	rule := ".allow lacks "
	switch {
	case h.setup.readOnly:
		rule = "--read-only"
	case len(h.env.Connections) < 3:
		rule = "no connection can serve it"
	}
	if !strings.Contains(r.problem.Message, rule) || !slices.Equal(slices.Sorted(slices.Values(r.problem.Valid)), h.toolNames()) {
		h.t.Errorf("%s says not why and what there is", r.text)
	}
}

func TestUnknownTool(t *testing.T) {
	t.Parallel()
	h := start(t, setup{})
	for tool, next := range map[string]string{
		"list_token": "did you mean list_tokens?", "revoke_tokens": "did you mean revoke_token?", "LIST_TOKENS": "did you mean list_tokens?",
		"make_coffee": "", "": "", "\u202elist_tokens": "did you mean list_tokens?",
	} {
		if r := h.call(tool, args{}).fails("unknown_tool"); r.problem.Next != next || len(r.problem.Valid) != len(allTools()) {
			t.Errorf("%q is answered by %s, want %q", tool, r.text, next)
		}
	}
}

// A class that policy does not allow on one connection is refused there and
// offered for the others.
func TestPolicyOfOneConnection(t *testing.T) {
	t.Parallel()
	connections := oneOfEach()
	connections[1].policy = policy.Policy{Allow: []policy.Class{policy.Read}, Protect: policy.Protect{IDs: []string{"x"}}}
	h := start(t, setup{connections: connections})
	if names := h.toolNames(); slices.Contains(names, "create_launchdarkly_token") || !slices.Contains(names, "revoke_token") {
		t.Errorf("tools %v", names)
	}
	for _, d := range h.definitions() {
		offers := strings.Contains(string(d.InputSchema), launchDarklyName)
		isRead := strings.HasPrefix(d.Name, "list_") || strings.HasPrefix(d.Name, "count_") || strings.HasPrefix(d.Name, "get_")
		if offers != isRead && d.Name != "list_connections" && d.Name != "get_operation" { // these two take no connection
			t.Errorf("%s offers %s: %v", d.Name, launchDarklyName, offers)
		}
	}
	token := find(t, h.launchDarklyFacts(), func(f fact) bool { return !f.own })
	r := h.call("revoke_token", args{"connection": launchDarklyName, "token_id": token.id})
	if !r.isError || r.problem.Code != "policy_refused" && r.problem.Code != "invalid_argument" {
		t.Errorf("answered %s, want a refusal", r.text)
	}
	for _, c := range as[connectionsResult](h.call("list_connections", nil)).Connections {
		if c.Name == launchDarklyName && (!slices.Equal(c.Capabilities, []string{"list", "count", "get"}) || !c.Protects) {
			t.Errorf("connection %+v, want reads only and protection", c)
		}
	}
	if sent := h.box.Requests(); len(sent) != 0 {
		t.Errorf("%d requests were sent", len(sent))
	}
}

// The credential of every configured connection is marked, whichever connection shows it.
func TestOwnCredentialMarks(t *testing.T) {
	t.Parallel()
	h := start(t, setup{})
	access := h.access
	h = h.restart(setup{connections: []connect{
		{name: "l1", vendor: sandbox.LaunchDarkly},
		{name: "l2", vendor: sandbox.LaunchDarkly, credential: access.LaunchDarkly.WriterCredential},
		{name: "m1", vendor: sandbox.Mailtrap},
		{name: "m2", vendor: sandbox.Mailtrap, credential: access.Mailtrap.ViewerCredential},
	}})
	owned := map[string]bool{}
	for _, s := range []string{access.LaunchDarkly.Credential, access.LaunchDarkly.WriterCredential} {
		for _, token := range h.box.LaunchDarklyTokens() {
			if token.Secret == s {
				owned[token.ID] = true
			}
		}
	}
	for _, f := range h.mailtrapFacts() {
		if strings.HasSuffix(access.Mailtrap.Credential, f.lastFour) || strings.HasSuffix(access.Mailtrap.ViewerCredential, f.lastFour) {
			owned[f.id] = true
		}
	}
	if len(owned) < 4 {
		t.Fatalf("the sandbox shows %d credentials, want four", len(owned))
	}
	for _, r := range h.rows(args{"limit": 200}) {
		if r.OwnCredential != owned[r.ID] {
			t.Errorf("token %s %q: own credential %v, want %v", r.ID, r.Name, r.OwnCredential, owned[r.ID])
		}
	}
}
