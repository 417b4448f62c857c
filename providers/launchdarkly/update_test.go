package launchdarkly_test

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tokenreeve/tokenreeve/internal/vendortest"
	"github.com/tokenreeve/tokenreeve/providers"
	"github.com/tokenreeve/tokenreeve/providers/launchdarkly"
)

func text(s string) *string { return &s }

func patching(body string, status int, answer string) vendortest.Exchange {
	return vendortest.Exchange{
		Method: "PATCH", Path: tokenPath, Header: common("Content-Type", "application/json"), Body: body, Status: status, Answer: answer,
	}
}

const otherRole = "5e0000000000000000000004"

var (
	inlineRecord = map[string]any{"role": absent, "inlineRole": []any{map[string]any{"effect": "allow", "resources": []string{"proj/*"}, "actions": []string{"viewProject"}}}}
	customRecord = map[string]any{"role": absent, "inlineRole": absent, "customRoleIds": []string{roleID}}
)

func TestUpdate(t *testing.T) {
	t.Parallel()
	type change = launchdarkly.Change
	deny := []launchdarkly.Statement{{Effect: "deny", NotResources: []string{"proj/a"}, Actions: []string{"*"}}}
	denyJSON := `[{"effect":"deny","notResources":["proj/a"],"actions":["*"]}]`
	tests := map[string]struct {
		now    map[string]any
		change change
		patch  string // empty: none is sent
		widens bool
		differ []string
	}{
		"name": {
			nil,
			change{Name: text("new")},
			`[{"op":"replace","path":"/name","value":"new"}]`, false,
			[]string{`name: "deploy bot" → "new"`},
		},
		"name that was absent": {
			map[string]any{"name": absent},
			change{Name: text("new")},
			`[{"op":"add","path":"/name","value":"new"}]`, false,
			[]string{`name: "" → "new"`},
		},
		"name that was null": {
			map[string]any{"name": nil},
			change{Name: text("new")},
			`[{"op":"add","path":"/name","value":"new"}]`, false,
			[]string{`name: "" → "new"`},
		},
		"description, emptied": {
			nil,
			change{Description: text("")},
			`[{"op":"replace","path":"/description","value":""}]`, false,
			[]string{`description: "release job" → ""`},
		},
		"a weaker role": {
			nil,
			change{Role: text("reader")},
			`[{"op":"replace","path":"/role","value":"reader"}]`, false,
			[]string{"access: role:writer → role:reader"},
		},
		"a stronger role": {
			nil,
			change{Role: text("admin")},
			`[{"op":"replace","path":"/role","value":"admin"}]`, true,
			[]string{"access: role:writer → role:admin"},
		},
		"down from owner": {
			map[string]any{"role": "owner"},
			change{Role: text("admin")},
			`[{"op":"replace","path":"/role","value":"admin"}]`, false,
			[]string{"access: role:owner → role:admin"},
		},
		"from a role that is not known": {
			map[string]any{"role": "pilot"},
			change{Role: text("reader")},
			`[{"op":"replace","path":"/role","value":"reader"}]`, true,
			[]string{"access: role:pilot → role:reader"},
		},
		"role to custom roles": {
			nil,
			change{CustomRoles: []string{roleID}},
			`[{"op":"remove","path":"/role"},{"op":"add","path":"/customRoleIds","value":["` + roleID + `"]}]`, true,
			[]string{"access: role:writer → custom_role:" + roleID},
		},
		"role to an inline role, with a name": {
			nil,
			change{Name: text("new"), InlineRole: deny},
			`[{"op":"replace","path":"/name","value":"new"},{"op":"remove","path":"/role"},{"op":"add","path":"/inlineRole","value":` + denyJSON + `}]`, true,
			[]string{`name: "deploy bot" → "new"`, "access: role:writer → deny * on every resource but proj/a"},
		},
		"custom roles to a role": {
			customRecord,
			change{Role: text("reader")},
			`[{"op":"remove","path":"/customRoleIds"},{"op":"add","path":"/role","value":"reader"}]`, true,
			[]string{"access: custom_role:" + roleID + " → role:reader"},
		},
		"custom roles to others": {
			customRecord,
			change{CustomRoles: []string{roleID, otherRole}},
			`[{"op":"replace","path":"/customRoleIds","value":["` + roleID + `","` + otherRole + `"]}]`, true,
			[]string{"access: custom_role:" + roleID + " → custom_role:" + roleID + "; custom_role:" + otherRole},
		},
		"inline role to a role": {
			inlineRecord,
			change{Role: text("reader")},
			`[{"op":"remove","path":"/inlineRole"},{"op":"add","path":"/role","value":"reader"}]`, true,
			[]string{"access: allow viewProject on proj/* → role:reader"},
		},
		"already so": {
			nil, change{Name: text("deploy bot"), Description: text("release job"), Role: text("writer")}, "", false, nil,
		},
		"already so, inline":         {inlineRecord, change{InlineRole: []launchdarkly.Statement{viewer}}, "", false, nil},
		"already so, no description": {map[string]any{"description": absent}, change{Description: text("")}, "", false, nil},
		"a name that looks the same": {
			map[string]any{"name": "deploy\u200b bot"},
			change{Name: text("deploy bot")},
			`[{"op":"replace","path":"/name","value":"deploy bot"}]`, false,
			[]string{`name: "deploy bot" → a text that looks the same but is not`},
		},
		"a raw patch": {
			customRecord,
			change{Patch: []launchdarkly.Operation{
				{Op: "test", Path: "/customRoleIds/0", Value: json.RawMessage(`"` + roleID + `"`)},
				{Op: "add", Path: "/customRoleIds/-", Value: json.RawMessage(`"` + otherRole + `"`)},
				{Op: "remove", Path: "/description"},
			}},
			`[{"op":"test","path":"/customRoleIds/0","value":"` + roleID + `"},{"op":"add","path":"/customRoleIds/-","value":"` + otherRole + `"},{"op":"remove","path":"/description"}]`,
			true,
			[]string{`description: "release job" → ""`, "access: custom_role:" + roleID + " → custom_role:" + roleID + "; custom_role:" + otherRole},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			now := reading(record(tt.now))
			exchanges := []vendortest.Exchange{now, now}
			if tt.patch != "" {
				exchanges = append(exchanges, patching(tt.patch, 0, record(map[string]any{"name": "answered", "token": "9f3c"})))
			}
			p := serve(t, exchanges...)
			plan, err := p.PlanUpdate(t.Context(), providers.Token{ID: tokenID}, tt.change)
			if err != nil {
				t.Fatal(err)
			}
			if plan.Widens != tt.widens || (len(plan.Operations) == 0) != (tt.patch == "") || plan.Before.ID != tokenID || plan.After.ID != tokenID {
				t.Errorf("plan %+v", plan)
			}
			if diff := cmp.Diff(tt.differ, plan.Differences); diff != "" {
				t.Errorf("differences (-want +got):\n%s", diff)
			}
			token, err := p.Update(t.Context(), plan.Before, tt.change)
			if err != nil || token.ID != tokenID || tt.patch != "" && token.Name != "answered" {
				t.Errorf("updated %+v, %v", token, err)
			}
		})
	}
}

func TestPlanShowsTheResult(t *testing.T) {
	t.Parallel()
	plan, err := serve(t, reading(record(nil))).PlanUpdate(t.Context(), providers.Token{ID: tokenID},
		launchdarkly.Change{Name: text("x"), CustomRoles: []string{roleID}})
	if err != nil {
		t.Fatal(err)
	}
	want := plan.Before
	want.Name, want.Access, want.AccessKey = "x", providers.AccessCustom, plan.After.AccessKey
	want.Detail.Scopes = []string{"custom_role:" + roleID}
	if diff := cmp.Diff(want, plan.After); diff != "" || plan.After.AccessKey == plan.Before.AccessKey {
		t.Errorf("after (-want +got):\n%s", diff)
	}
}

func TestUpdateConflicts(t *testing.T) {
	t.Parallel()
	conflict := `{"code":"optimistic_locking_error","message":"Conflict. Optimistic lock error. Try again later."}`
	body := `[{"op":"replace","path":"/name","value":"new"}]`
	change := launchdarkly.Change{Name: text("new")}
	token := providers.Token{ID: tokenID, AccessKey: "role:writer"}
	now := reading(record(nil))

	t.Run("once", func(t *testing.T) {
		t.Parallel()
		gone := reading(record(map[string]any{"name": absent}))
		updated, err := serve(t, now, patching(body, 409, conflict), gone,
			patching(`[{"op":"add","path":"/name","value":"new"}]`, 0, record(map[string]any{"name": "new"})),
		).Update(t.Context(), token, change)
		if err != nil || updated.Name != "new" {
			t.Errorf("%+v, %v", updated, err)
		}
	})
	t.Run("twice", func(t *testing.T) {
		t.Parallel()
		_, err := serve(t, now, patching(body, 409, conflict), now, patching(body, 409, conflict)).Update(t.Context(), token, change)
		wantCode(t, err, providers.CodeConflict)
	})
	t.Run("the access changed meanwhile", func(t *testing.T) {
		t.Parallel()
		_, err := serve(t, now, patching(body, 409, conflict), reading(record(map[string]any{"role": "admin"}))).Update(t.Context(), token, change)
		wantCode(t, err, providers.CodeConflict)
	})
	t.Run("the access changed before", func(t *testing.T) {
		t.Parallel()
		_, err := serve(t, reading(record(map[string]any{"role": "admin"}))).Update(t.Context(), token, change)
		wantCode(t, err, providers.CodeConflict)
	})
	t.Run("refused", func(t *testing.T) {
		t.Parallel()
		_, err := serve(t, now, patching(body, 422, `{"code":"patch_failed","message":"Unprocessable entity."}`)).Update(t.Context(), token, change)
		wantCode(t, err, providers.CodeRejected)
	})
	t.Run("gone", func(t *testing.T) {
		t.Parallel()
		_, err := serve(t, now, patching(body, 404, `{"code":"not_found"}`)).Update(t.Context(), token, change)
		wantCode(t, err, providers.CodeNotFound)
	})
	t.Run("rate limited", func(t *testing.T) {
		t.Parallel()
		_, err := serve(t, now, patching(body, 429, `{"code":"rate_limited"}`), patching(body, 0, record(nil))).Update(t.Context(), token, change)
		if err != nil {
			t.Error(err)
		}
	})
	t.Run("another token answers", func(t *testing.T) {
		t.Parallel()
		_, err := serve(t, now, patching(body, 0, record(map[string]any{"_id": otherID}))).Update(t.Context(), token, change)
		wantCode(t, err, providers.CodeVendorProtocol)
	})
	t.Run("an empty answer", func(t *testing.T) {
		t.Parallel()
		_, err := serve(t, now, patching(body, 0, "")).Update(t.Context(), token, change)
		wantCode(t, err, providers.CodeOutcomeUnknown)
	})
}

func TestChangesThatSendNothing(t *testing.T) {
	t.Parallel()
	type change = launchdarkly.Change
	p := serve(t)
	tests := map[string]struct {
		change change
		want   string
	}{
		"nothing":            {change{}, "nothing to change"},
		"two permissions":    {change{Role: text("reader"), CustomRoles: []string{roleID}}, "2 of role"},
		"an empty name":      {change{Name: text("")}, "name is empty"},
		"the owner role":     {change{Role: text("owner")}, "reader, writer and admin"},
		"a role's key":       {change{CustomRoles: []string{"release-managers"}}, "24 hex digits"},
		"no custom role":     {change{CustomRoles: []string{}}, "0 roles"},
		"no statement":       {change{InlineRole: []launchdarkly.Statement{}}, "0 statements"},
		"a bad statement":    {change{InlineRole: []launchdarkly.Statement{{Effect: "allow"}}}, "resources"},
		"a long description": {change{Description: text(strings.Repeat("d", 1001))}, "1000"},
		"patch and name":     {change{Name: text("x"), Patch: []launchdarkly.Operation{{Op: "remove", Path: "/description"}}}, "alone"},
		"an empty patch":     {change{Patch: []launchdarkly.Operation{}}, "0 operations"},
		"a bad patch":        {change{Patch: []launchdarkly.Operation{{Op: "remove", Path: "/_id"}}}, "/name"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := wantCode(t, tt.change.Check(), providers.CodeInvalidArgument)
			if !strings.Contains(e.Message, tt.want) {
				t.Errorf("message is %q, want %q in it", e.Message, tt.want)
			}
			_, err := p.Update(t.Context(), providers.Token{ID: tokenID}, tt.change)
			wantCode(t, err, providers.CodeInvalidArgument)
		})
	}
}

func TestParsePatch(t *testing.T) {
	t.Parallel()
	operations, err := launchdarkly.ParsePatch(`[{"op":"add","path":"/inlineRole/-","value":{"actions":["b"], "resources":["a"],"effect":"allow"}},
		{"op":"remove","path":"/customRoleIds/12"},{"op":"test","path":"/role","value":null},{"op":"replace","path":"/customRoleIds/0","value":"` + roleID + `"}]`)
	if err != nil {
		t.Fatal(err)
	}
	want := []launchdarkly.Operation{
		{Op: "add", Path: "/inlineRole/-", Value: json.RawMessage(`{"effect":"allow","resources":["a"],"actions":["b"]}`)},
		{Op: "remove", Path: "/customRoleIds/12"},
		{Op: "test", Path: "/role", Value: json.RawMessage(`null`)},
		{Op: "replace", Path: "/customRoleIds/0", Value: json.RawMessage(`"` + roleID + `"`)},
	}
	if diff := cmp.Diff(want, operations); diff != "" {
		t.Errorf("operations (-want +got):\n%s", diff)
	}
	tests := map[string]string{ // text → part of the message
		``:                                  "JSON list",
		`null`:                              "JSON list",
		`{"op":"remove","path":"/name"}`:    "JSON list",
		`[{"op":"remove","path":"/name"}]x`: "JSON list",
		`[]`:                                "0 operations",
		`[1]`:                               "not an object",
		`[{"op":"remove","path":"/name","why":1}]`:                                                      "unknown field",
		`[{"op":"move","from":"/role","path":"/name"}]`:                                                 "unknown field",
		`[{"op":"copy","path":"/name"}]`:                                                                "valid are add, replace, remove and test",
		`[{"op":"move","path":"/name"}]`:                                                                "valid are add, replace, remove and test",
		`[{"op":"remove","path":"/name"},{"op":"remove","path":"/_id"}]`:                                "operation 2: path",
		`[{"op":"replace","path":"/serviceToken","value":true}]`:                                        "/inlineRole",
		`[{"op":"replace","path":"","value":{}}]`:                                                       "/inlineRole",
		`[{"op":"replace","path":"/name/x","value":"y"}]`:                                               "/inlineRole",
		`[{"op":"replace","path":"/inlineRole/0/effect","value":"allow"}]`:                              "/inlineRole",
		`[{"op":"replace","path":"/inlineRole/01","value":"allow"}]`:                                    "/inlineRole",
		`[{"op":"replace","path":"/inlineRole/-1","value":"allow"}]`:                                    "/inlineRole",
		`[{"op":"replace","path":"/customRoleIds/","value":"` + roleID + `"}]`:                          "/inlineRole",
		`[{"op":"replace","path":"/customRoleIds/-","value":"` + roleID + `"}]`:                         "/inlineRole",
		`[{"op":"replace","path":"/customRoleIds/1000","value":"` + roleID + `"}]`:                      "/inlineRole",
		`[{"op":"replace","path":"/role"}]`:                                                             "a value is needed",
		`[{"op":"remove","path":"/role","value":"x"}]`:                                                  "not taken by remove",
		`[{"op":"replace","path":"/role","value":null}]`:                                                "not a string",
		`[{"op":"replace","path":"/role","value":"owner"}]`:                                             "reader, writer and admin",
		`[{"op":"replace","path":"/name","value":7}]`:                                                   "not a string",
		`[{"op":"replace","path":"/name","value":""}]`:                                                  "name is empty",
		`[{"op":"add","path":"/customRoleIds","value":["a-key"]}]`:                                      "24 hex digits",
		`[{"op":"add","path":"/customRoleIds","value":[]}]`:                                             "0 roles",
		`[{"op":"add","path":"/customRoleIds/-","value":["` + roleID + `"]}]`:                           "not a list of ids",
		`[{"op":"add","path":"/customRoleIds/-","value":"a-key"}]`:                                      "24 hex digits",
		`[{"op":"add","path":"/inlineRole","value":[{"effect":"allow"}]}]`:                              "resources",
		`[{"op":"add","path":"/inlineRole","value":[{"effect":"allow","x":1}]}]`:                        "unknown field",
		`[{"op":"add","path":"/inlineRole/0","value":[]}]`:                                              "not an object",
		`[` + strings.Repeat(`{"op":"remove","path":"/name"},`, 50) + `{"op":"remove","path":"/name"}]`: "51 operations",
	}
	for text, want := range tests {
		_, err := launchdarkly.ParsePatch(text)
		if e := wantCode(t, err, providers.CodeInvalidArgument); !strings.Contains(e.Message, want) {
			t.Errorf("%.90s: message is %q, want %q in it", text, e.Message, want)
		}
	}
}

func TestPatchesThatDoNotFitTheToken(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		now   map[string]any
		patch string
		code  providers.Code
		want  string
	}{
		"remove what is not there":   {map[string]any{"description": absent}, `[{"op":"remove","path":"/description"}]`, providers.CodeInvalidArgument, "operation 1, remove /description"},
		"replace what is not there":  {customRecord, `[{"op":"replace","path":"/role","value":"reader"}]`, providers.CodeInvalidArgument, "operation 1, replace /role"},
		"an entry that is not there": {customRecord, `[{"op":"remove","path":"/name"},{"op":"remove","path":"/customRoleIds/7"}]`, providers.CodeInvalidArgument, "operation 2"},
		"a test that fails":          {nil, `[{"op":"test","path":"/role","value":"reader"},{"op":"replace","path":"/name","value":"x"}]`, providers.CodeConflict, "operation 1"},
		"no permission is left":      {nil, `[{"op":"remove","path":"/role"}]`, providers.CodeInvalidArgument, "exactly one"},
		"two permissions are left":   {customRecord, `[{"op":"add","path":"/role","value":"reader"}]`, providers.CodeInvalidArgument, "exactly one"},
		"no custom role is left":     {customRecord, `[{"op":"remove","path":"/customRoleIds/0"}]`, providers.CodeInvalidArgument, "exactly one"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			operations, err := launchdarkly.ParsePatch(tt.patch)
			if err != nil {
				t.Fatal(err)
			}
			_, err = serve(t, reading(record(tt.now))).PlanUpdate(t.Context(), providers.Token{ID: tokenID}, launchdarkly.Change{Patch: operations})
			if e := wantCode(t, err, tt.code); !strings.Contains(e.Message, tt.want) {
				t.Errorf("message is %q, want %q in it", e.Message, tt.want)
			}
		})
	}
}

// A record that breaks the rule already can still get another name.
func TestUpdateOfAnOddRecord(t *testing.T) {
	t.Parallel()
	odd := map[string]any{"customRoleIds": []string{roleID}}
	plan, err := serve(t, reading(record(odd))).PlanUpdate(t.Context(), providers.Token{ID: tokenID}, launchdarkly.Change{Name: text("x")})
	if err != nil || plan.Widens {
		t.Errorf("%+v, %v", plan, err)
	}
}

func TestPlanOfAGoneToken(t *testing.T) {
	t.Parallel()
	gone := reading(`{"code":"not_found","message":"Invalid resource identifier"}`)
	gone.Status = http.StatusNotFound
	_, err := serve(t, gone).PlanUpdate(t.Context(), providers.Token{ID: tokenID}, launchdarkly.Change{Name: text("x")})
	wantCode(t, err, providers.CodeNotFound)
}

func FuzzParsePatch(f *testing.F) {
	for _, seed := range []string{
		`[{"op":"replace","path":"/role","value":"reader"}]`, `[{"op":"remove","path":"/customRoleIds/0"}]`,
		`[{"op":"add","path":"/inlineRole/-","value":{"effect":"allow","resources":["a"],"actions":["b"]}}]`,
		`[{"op":"test","path":"/inlineRole","value":{"a":[null,1e9]}}]`, `[]`, `null`, `[{"op":"add","path":"/customRoleIds/-","value":"a","b"}]`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		operations, err := launchdarkly.ParsePatch(text)
		if err != nil {
			return
		}
		written, err := json.Marshal(operations)
		if err != nil {
			t.Fatal(err)
		}
		again, err := launchdarkly.ParsePatch(string(written))
		if err != nil || !slices.EqualFunc(operations, again, func(a, b launchdarkly.Operation) bool {
			return a.Op == b.Op && a.Path == b.Path && string(a.Value) == string(b.Value)
		}) {
			t.Fatalf("%s is not stable: %v", written, err)
		}
	})
}
