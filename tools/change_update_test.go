package tools_test

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/tokenreeve/tokenreeve/internal/sandbox"
)

const update = "update_launchdarkly_token"

// TestUpdate changes a token and compares it with what the vendor then holds.
func TestUpdate(t *testing.T) {
	t.Parallel()
	allow := sandbox.Statement{Effect: "allow", Resources: []string{"proj/*"}, Actions: []string{"viewProject"}}
	const policy = `[{"effect":"allow","resources":["proj/*"],"actions":["viewProject"]}]`
	// ROLE0 to ROLE2 stand for the ids of the custom roles.
	custom := func(t *sandbox.LaunchDarklyToken) { t.Role, t.CustomRoleIDs = "", []string{"ROLE0"} }
	inline := func(t *sandbox.LaunchDarklyToken) { t.Role, t.InlineRole = "", []sandbox.Statement{allow} }
	each(t, map[string]struct {
		before  func(*sandbox.LaunchDarklyToken)
		args    args
		after   func(*sandbox.LaunchDarklyToken)
		effects []any
		warns   string // part of a warning, "" for none
	}{
		"name": {
			nil,
			args{"name": "new"},
			func(t *sandbox.LaunchDarklyToken) { t.Name = "new" },
			[]any{`name: "old" → "new"`},
			"",
		},
		"description": {
			func(t *sandbox.LaunchDarklyToken) { t.Description = "a" },
			args{"description": "b <&>"},
			func(t *sandbox.LaunchDarklyToken) { t.Description = "b <&>" },
			[]any{`description: "a" → "b <&>"`},
			"",
		},
		"wider role": {
			nil,
			args{"role": "admin"},
			func(t *sandbox.LaunchDarklyToken) { t.Role = "admin" },
			[]any{"access: role:reader → role:admin"},
			"more access",
		},
		"weaker role": {
			func(t *sandbox.LaunchDarklyToken) { t.Role = "admin" },
			args{"role": "writer"},
			func(t *sandbox.LaunchDarklyToken) { t.Role = "writer" },
			[]any{"access: role:admin → role:writer"},
			"",
		},
		"role to custom roles": {
			nil,
			args{"custom_roles": []string{"ROLE1"}},
			func(t *sandbox.LaunchDarklyToken) { t.Role, t.CustomRoleIDs = "", []string{"ROLE1"} },
			[]any{"access: role:reader → custom_role:ROLE1"},
			"more access",
		},
		"custom roles to role": {
			custom,
			args{"role": "reader"},
			func(t *sandbox.LaunchDarklyToken) { t.Role, t.CustomRoleIDs = "reader", nil },
			[]any{"access: custom_role:ROLE0 → role:reader"},
			"more access",
		},
		"role to inline role": {
			nil,
			args{"inline_role": policy},
			func(t *sandbox.LaunchDarklyToken) { t.Role, t.InlineRole = "", []sandbox.Statement{allow} },
			[]any{"access: role:reader → allow viewProject on proj/*"},
			"more access",
		},
		"inline role to custom roles": {
			inline,
			args{"custom_roles": []string{"ROLE0", "ROLE2"}},
			func(t *sandbox.LaunchDarklyToken) {
				t.InlineRole, t.CustomRoleIDs = nil, []string{"ROLE0", "ROLE2"}
			},
			[]any{"access: allow viewProject on proj/* → custom_role:ROLE0; custom_role:ROLE2"},
			"more access",
		},
		"everything at once": {
			nil,
			args{"name": "new", "description": "d", "role": "writer"},
			func(t *sandbox.LaunchDarklyToken) { t.Name, t.Description, t.Role = "new", "d", "writer" },
			[]any{`name: "old" → "new"`, `description: "" → "d"`, "access: role:reader → role:writer"},
			"more access",
		},
		"patch of a list": {
			custom,
			args{"patch": `[{"op":"add","path":"/customRoleIds/-","value":"ROLE2"},{"op":"remove","path":"/customRoleIds/0"}]`},
			func(t *sandbox.LaunchDarklyToken) { t.CustomRoleIDs = []string{"ROLE2"} },
			[]any{"access: custom_role:ROLE0 → custom_role:ROLE2"},
			"more access",
		},
		"patch with a test": {
			nil,
			args{"patch": []any{
				map[string]any{"op": "test", "path": "/name", "value": "old"},
				map[string]any{"op": "replace", "path": "/name", "value": "new"},
			}},
			func(t *sandbox.LaunchDarklyToken) { t.Name = "new" },
			[]any{`name: "old" → "new"`},
			"",
		},
		"patch to another kind of access": {
			nil,
			args{"patch": `[{"op":"remove","path":"/role"},{"op":"add","path":"/inlineRole","value":` + policy + `}]`},
			func(t *sandbox.LaunchDarklyToken) { t.Role, t.InlineRole = "", []sandbox.Statement{allow} },
			[]any{"access: role:reader → allow viewProject on proj/*"},
			"more access",
		},
	}, func(t *testing.T, c struct {
		before  func(*sandbox.LaunchDarklyToken)
		args    args
		after   func(*sandbox.LaunchDarklyToken)
		effects []any
		warns   string
	},
	) {
		h := start(t, setup{connections: ruledBy(anyAccess())})
		roles := h.box.LaunchDarklyRoles()
		ids := strings.NewReplacer("ROLE0", roles[0].ID, "ROLE1", roles[1].ID, "ROLE2", roles[2].ID)
		set := func(t *sandbox.LaunchDarklyToken, change func(*sandbox.LaunchDarklyToken)) {
			if change != nil {
				change(t)
			}
			for i, id := range t.CustomRoleIDs {
				t.CustomRoleIDs[i] = ids.Replace(id)
			}
		}
		token := h.addLaunchDarkly("old", func(t *sandbox.LaunchDarklyToken) { set(t, c.before) })
		want := token
		set(&want, c.after)
		a := with(decoded(t, ids.Replace(compactJSON(t, c.args))), args{"connection": launchDarklyName, "token_id": token.ID})
		shown := h.call(update, a)
		effects := decoded(t, ids.Replace(compactJSON(t, args{"effects": c.effects})))["effects"]
		if diff := cmp.Diff(effects, shown.get("effects")); diff != "" {
			t.Errorf("effects (-want +got):\n%s", diff)
		}
		if c.warns != "" {
			shown.says(c.warns)
		} else if shown.get("warnings") != nil {
			t.Errorf("the preview warns: %s", shown.text)
		}
		h.forget()
		h.call(update, with(a, args{"confirm": shown.code()})).is("updated")
		h.wantSent("PATCH " + ldPath(token.ID))
		got, _ := h.launchDarkly(token.ID)
		want.LastModified = got.LastModified
		if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("the token at the vendor (-want +got):\n%s", diff)
		}
	})
}

func TestUpdateRefusals(t *testing.T) {
	t.Parallel()
	const policy = `[{"effect":"allow","resources":["proj/*"],"actions":["viewProject"]}]`
	each(t, map[string]struct {
		args args
		code string
		says string
	}{
		"nothing":                 {args{}, "invalid_argument", "nothing to change"},
		"already so":              {args{"name": "old", "role": "reader"}, "nothing_to_change", ""},
		"already so, by patch":    {args{"patch": `[{"op":"replace","path":"/role","value":"reader"}]`}, "nothing_to_change", ""},
		"tests only":              {args{"patch": `[{"op":"test","path":"/role","value":"reader"}]`}, "nothing_to_change", ""},
		"two accesses":            {args{"role": "admin", "inline_role": policy}, "invalid_argument", "exactly one"},
		"patch beside a name":     {args{"name": "x", "patch": `[{"op":"remove","path":"/description"}]`}, "invalid_argument", "patch stands alone"},
		"key of a custom role":    {args{"custom_roles": []string{"auditor"}}, "invalid_argument", "24 hex digits"},
		"role of the owner":       {args{"role": "owner"}, "invalid_argument", "role"},
		"patch of the owner":      {args{"patch": `[{"op":"replace","path":"/memberId","value":"0123456789abcdef01234567"}]`}, "invalid_argument", "/memberId"},
		"patch of the secret":     {args{"patch": `[{"op":"replace","path":"/token","value":"x"}]`}, "invalid_argument", "/token"},
		"patch of the kind":       {args{"patch": `[{"op":"replace","path":"/serviceToken","value":true}]`}, "invalid_argument", "/serviceToken"},
		"patch of all":            {args{"patch": `[{"op":"replace","path":"","value":{}}]`}, "invalid_argument", "path"},
		"patch by pointer tricks": {args{"patch": `[{"op":"replace","path":"/role/../token","value":"x"}]`}, "invalid_argument", "path"},
		"move":                    {args{"patch": `[{"op":"move","from":"/name","path":"/description"}]`}, "invalid_argument", "from"},
		"copy":                    {args{"patch": `[{"op":"copy","path":"/description"}]`}, "invalid_argument", "copy"},
		"unknown role by patch":   {args{"patch": `[{"op":"replace","path":"/role","value":"owner"}]`}, "invalid_argument", "owner"},
		"two accesses by patch":   {args{"patch": `[{"op":"add","path":"/inlineRole","value":` + policy + `}]`}, "invalid_argument", "exactly one"},
		"no access by patch":      {args{"patch": `[{"op":"remove","path":"/role"}]`}, "invalid_argument", "exactly one"},
		"two in turn by patch": {
			args{"patch": `[{"op":"replace","path":"/role","value":"admin"},{"op":"replace","path":"/role","value":"reader"}]`}, "nothing_to_change", "",
		},
		"test that fails":   {args{"patch": `[{"op":"test","path":"/role","value":"admin"},{"op":"replace","path":"/name","value":"x"}]`}, "conflict", "/role"},
		"nothing to remove": {args{"patch": `[{"op":"remove","path":"/inlineRole"}]`}, "nothing_to_change", ""},
		"no such entry":     {args{"patch": `[{"op":"remove","path":"/customRoleIds/3"}]`}, "invalid_argument", "/customRoleIds/3"},
		"no list":           {args{"patch": `{"op":"remove","path":"/role"}`}, "invalid_argument", "list of operations"},
		"two values":        {args{"patch": `[] []`}, "invalid_argument", "list of operations"},
		"empty":             {args{"patch": ""}, "invalid_argument", "patch"},
		"hidden letters":    {args{"name": "pro\u200bd"}, "invalid_argument", "name"},
		"unknown token":     {args{"token_id": "0123456789abcdef01234567", "name": "x"}, "not_found", ""},
		"no id":             {args{"token_id": "../members", "name": "x"}, "invalid_argument", "token_id"},
	}, func(t *testing.T, c struct {
		args args
		code string
		says string
	},
	) {
		h := start(t, setup{})
		a := with(args{"connection": launchDarklyName, "token_id": h.addLaunchDarkly("old").ID}, c.args)
		h.untouched(func() { h.call(update, a).fails(c.code).says(c.says) })
	})
}

// TestUpdateThatWouldDoSomethingElse: the description is no fact
// of a target, but the change would do something else than was shown.
func TestUpdateThatWouldDoSomethingElse(t *testing.T) {
	t.Parallel()
	h := start(t, setup{})
	token := h.addLaunchDarkly("old", func(t *sandbox.LaunchDarklyToken) { t.Description = "a" })
	a := args{"connection": launchDarklyName, "token_id": token.ID, "description": "c"}
	code := h.preview(update, a)
	if err := h.box.UpdateLaunchDarklyToken(token.ID, func(t *sandbox.LaunchDarklyToken) { t.Description = "b" }); err != nil {
		t.Fatal(err)
	}
	h.untouched(func() { h.call(update, with(a, args{"confirm": code})).fails("targets_changed") })
}

// TestUpdateWhileAnotherChangesAccess changes the access after the token was judged
// and before the change is planned for the last time.
func TestUpdateWhileAnotherChangesAccess(t *testing.T) {
	t.Parallel()
	box := start(t, setup{})
	token := box.addLaunchDarkly("old")
	armed, reads := false, 0
	h := box.behind(setup{}, func(r *http.Request) {
		if !armed || r.Method != http.MethodGet || r.URL.Path != "/launchdarkly"+ldPath(token.ID) {
			return
		}
		if reads++; reads == 3 {
			_ = box.box.UpdateLaunchDarklyToken(token.ID, func(t *sandbox.LaunchDarklyToken) { t.Role = "admin" })
		}
	})
	a := args{"connection": launchDarklyName, "token_id": token.ID, "name": "new"}
	code := h.preview(update, a)
	armed = true
	h.forget()
	h.call(update, with(a, args{"confirm": code})).fails("conflict")
	h.wantSent()
}

// TestUpdateRacesWithAnotherChange: the vendor's 409 is answered by one more try
// on the token as it is then.
func TestUpdateRacesWithAnotherChange(t *testing.T) {
	t.Parallel()
	for times, want := range map[int]string{1: "", 2: "conflict"} {
		h := start(t, setup{})
		token := h.addLaunchDarkly("old")
		a := args{"connection": launchDarklyName, "token_id": token.ID, "name": "new"}
		code := h.preview(update, a)
		h.fault(sandbox.Fault{Method: "PATCH", Kind: sandbox.FaultStatus, Status: 409, Times: times})
		r := h.call(update, with(a, args{"confirm": code}))
		if r.problem.Code != want || len(h.sent()) != 2 {
			t.Errorf("after %d conflicts: %s, %d requests", times, r.text, len(h.sent()))
		}
	}
}

// TestUpdatePreviewStaysSmall changes all that can be changed, each from and to
// what costs a model most.
func TestUpdatePreviewStaysSmall(t *testing.T) {
	t.Parallel()
	h := start(t, setup{connections: ruledBy(anyAccess())})
	r := rand.New(rand.NewPCG(1, 2))
	statements := func(n int) (all []sandbox.Statement) {
		for range 30 {
			all = append(all, sandbox.Statement{Effect: "allow", Resources: []string{hostileName(r, n), hostileName(r, n)}, Actions: []string{hostileName(r, n)}})
		}
		return all
	}
	for i := range 6 {
		token := h.addLaunchDarkly(hostileName(r, i), func(t *sandbox.LaunchDarklyToken) {
			t.Role, t.InlineRole, t.Description = "", statements(i), strings.Repeat(hostileName(r, i), 8)
			t.MemberID, t.MemberName, t.MemberEmail = fmt.Sprintf("%024x", i), hostileName(r, i), hostileName(r, i)+"@example.com"
		})
		a := args{
			"connection": launchDarklyName, "token_id": token.ID, "name": hostileName(r, i),
			"description": strings.Repeat(hostileName(r, i), 8), "inline_role": statements(i),
		}
		shown := h.call(update, a)
		acted := h.call(update, with(a, args{"confirm": shown.code()})).is("updated")
		for _, r := range []result{shown, acted} {
			if n := llmTokens(t, r.text); n >= maxResult {
				t.Errorf("alphabet %d: %s is %d tokens, at most %d are allowed", i, r.str("status"), n, maxResult)
			}
		}
	}
}

func TestUpdateWhoseAnswerIsLost(t *testing.T) {
	t.Parallel()
	h := start(t, setup{})
	token := h.addLaunchDarkly("old")
	a := args{"connection": launchDarklyName, "token_id": token.ID, "name": "new"}
	code := h.preview(update, a)
	h.fault(sandbox.Fault{Method: "PATCH", Kind: sandbox.FaultLostAnswer})
	h.call(update, with(a, args{"confirm": code})).fails("outcome_unknown")
	h.wantSent("PATCH " + ldPath(token.ID))
}
