package launchdarkly_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tokenreeve/tokenreeve/providers"
)

// mapped reads a record through the provider.
func mapped(t *testing.T, changes map[string]any) providers.Token {
	t.Helper()
	token, err := serve(t, reading(record(changes))).Get(t.Context(), providers.Ref{ID: tokenID})
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func milli(ms int64) providers.Date { return providers.At(time.UnixMilli(ms)) }

func TestMapping(t *testing.T) {
	t.Parallel()
	want := providers.Token{
		ID: tokenID, Name: "deploy bot",
		Owner: providers.Owner{ID: memberID, Name: "Dana Example", Email: "dana@example.com"},
		Kind:  providers.KindService, Status: providers.StatusActive, Access: providers.AccessWrite,
		Created: milli(1716580000000), LastUsed: milli(1750000000000), Expires: providers.Never(),
		AccessKey: "role:writer", LastFour: "9f3c",
		Detail: providers.Detail{
			Description: "release job", Scopes: []string{"role:writer"}, APIVersion: 20240415, Modified: milli(1716580000000),
		},
	}
	if diff := cmp.Diff(want, mapped(t, nil)); diff != "" {
		t.Errorf("token (-want +got):\n%s", diff)
	}
}

func TestMappingCases(t *testing.T) {
	t.Parallel()
	allow := []map[string]any{{"effect": "allow", "resources": []string{"proj/*"}, "actions": []string{"viewProject"}}}
	tests := map[string]struct {
		changes map[string]any
		check   func(providers.Token) bool
	}{
		"personal":           {map[string]any{"serviceToken": false}, func(t providers.Token) bool { return t.Kind == providers.KindUser }},
		"no service member":  {map[string]any{"serviceToken": absent}, func(t providers.Token) bool { return t.Kind == providers.KindUser }},
		"never used, 0":      {map[string]any{"lastUsed": 0}, func(t providers.Token) bool { return t.LastUsed.IsNever() }},
		"never used, absent": {map[string]any{"lastUsed": absent}, func(t providers.Token) bool { return t.LastUsed.IsNever() }},
		"never used, null":   {map[string]any{"lastUsed": nil}, func(t providers.Token) bool { return t.LastUsed.IsNever() }},
		"a senseless use":    {map[string]any{"lastUsed": -5}, func(t providers.Token) bool { return t.LastUsed.IsUnknown() }},
		"no creation date":   {map[string]any{"creationDate": absent}, func(t providers.Token) bool { return t.Created.IsUnknown() }},
		"a far creation":     {map[string]any{"creationDate": int64(1) << 60}, func(t providers.Token) bool { return t.Created.IsUnknown() }},
		"never expires":      {nil, func(t providers.Token) bool { return t.Expires.IsNever() }},
		"null everywhere": {
			map[string]any{
				"memberId": nil, "_member": nil, "name": nil, "description": nil, "creationDate": nil, "role": nil,
				"customRoleIds": nil, "inlineRole": nil, "token": nil, "serviceToken": nil, "defaultApiVersion": nil, "_links": nil,
			},
			func(t providers.Token) bool {
				return t.Access == providers.AccessUnknown && t.Owner == providers.Owner{} && t.Name == "" && t.LastFour == "" && t.Detail.Scopes == nil
			},
		},
		"the member's own id": {map[string]any{"memberId": absent}, func(t providers.Token) bool { return t.Owner.ID == memberID }},
		"a member that lies":  {map[string]any{"memberId": memberID + "\u200b", "_member": nil}, func(t providers.Token) bool { return t.Owner.ID == "" }},
		"first name only":     {map[string]any{"_member": map[string]any{"firstName": "Dana"}}, func(t providers.Token) bool { return t.Owner.Name == "Dana" }},
		"admin":               {map[string]any{"role": "admin"}, func(t providers.Token) bool { return t.Access == providers.AccessAdmin }},
		"owner":               {map[string]any{"role": "owner"}, func(t providers.Token) bool { return t.Access == providers.AccessAdmin }},
		"reader":              {map[string]any{"role": "reader"}, func(t providers.Token) bool { return t.Access == providers.AccessRead }},
		"an unknown role": {map[string]any{"role": "pilot"}, func(t providers.Token) bool {
			return t.Access == providers.AccessUnknown && t.Detail.Scopes[0] == "role:pilot"
		}},
		"a role that is spite": {map[string]any{"role": "a\u202e\nb"}, func(t providers.Token) bool { return t.Detail.Scopes[0] == `role:"a b"` }},
		"custom roles": {
			map[string]any{"role": absent, "customRoleIds": []string{roleID}},
			func(t providers.Token) bool {
				return t.Access == providers.AccessCustom && slices.Equal(t.Detail.Scopes, []string{"custom_role:" + roleID})
			},
		},
		"a base role beside custom roles": {map[string]any{"role": "reader", "customRoleIds": []string{roleID}}, func(t providers.Token) bool { return t.Access == providers.AccessCustom }},
		"admin beside custom roles":       {map[string]any{"role": "admin", "customRoleIds": []string{roleID}}, func(t providers.Token) bool { return t.Access == providers.AccessAdmin }},
		"inline": {map[string]any{"role": absent, "inlineRole": allow}, func(t providers.Token) bool {
			return t.Access == providers.AccessCustom && t.Detail.Scopes[0] == "allow viewProject on proj/*"
		}},
		"inline with not": {map[string]any{"inlineRole": []any{map[string]any{"effect": "deny", "notResources": []string{"proj/a", "proj/b"}, "notActions": []string{"*"}}}}, func(t providers.Token) bool {
			return t.Detail.Scopes[1] == "deny every action but * on every resource but proj/a, proj/b"
		}},
		"inline of another shape": {map[string]any{"role": absent, "inlineRole": map[string]any{"policy": 1}}, func(t providers.Token) bool { return t.Access == providers.AccessCustom && len(t.Detail.Scopes) == 1 }},
		"a name with a pasted secret": {map[string]any{"name": "old " + newSecret}, func(t providers.Token) bool {
			return t.Name == "old [redacted]" && t.NameAltered && len(t.NameKey) == 64
		}},
		"a name with hidden characters":      {map[string]any{"name": "dep\u200bloy"}, func(t providers.Token) bool { return t.Name == "deploy" && t.NameAltered && t.NameKey != "" }},
		"a description with a credential":    {map[string]any{"description": "x " + newSecret}, func(t providers.Token) bool { return t.Detail.Description == "x [redacted]" }},
		"an end that is not printable":       {map[string]any{"token": "a\nbc"}, func(t providers.Token) bool { return t.LastFour == "" }},
		"a whole secret where an end is due": {map[string]any{"token": newSecret}, func(t providers.Token) bool { return t.LastFour == "99ab" }},
		"five characters":                    {map[string]any{"token": "abcde"}, func(t providers.Token) bool { return t.LastFour == "" }},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if token := mapped(t, tt.changes); !tt.check(token) {
				t.Errorf("token is %+v", token)
			}
		})
	}
}

func TestScopesAreBounded(t *testing.T) {
	t.Parallel()
	var roles []string
	for i := range 40 {
		roles = append(roles, fmt.Sprintf("5e%022d", i))
	}
	scopes := mapped(t, map[string]any{"role": absent, "customRoleIds": roles}).Detail.Scopes
	if len(scopes) != 21 || scopes[20] != "… and 20 more" {
		t.Errorf("scopes %v", scopes)
	}
}

func TestAccessKey(t *testing.T) {
	t.Parallel()
	statement := func(effect string) map[string]any {
		return map[string]any{"role": absent, "inlineRole": []any{map[string]any{"effect": effect, "resources": []string{"proj/*"}, "actions": []string{"*"}}}}
	}
	second := strings.Replace(roleID, "3", "4", 1)
	different := []map[string]any{
		{"role": "reader"},
		{"role": "writer"},
		{"role": "admin"},
		{"role": "owner"},
		{"role": absent},
		{"role": strings.Repeat("x", 200)},
		{"role": strings.Repeat("x", 201)},
		{"role": absent, "customRoleIds": []string{roleID}},
		{"role": "reader", "customRoleIds": []string{roleID}},
		{"role": absent, "customRoleIds": []string{roleID, second}},
		statement("allow"), statement("deny"),
		{"role": absent, "inlineRole": map[string]any{"x": 1}},
	}
	keys := map[string]int{}
	for i, changes := range different {
		key := mapped(t, changes).AccessKey
		if other, is := keys[key]; is {
			t.Errorf("%v and %v have the key %q", different[other], changes, key)
		}
		if key == "" || len(key) > 120 {
			t.Errorf("%v: key %q", changes, key)
		}
		keys[key] = i
	}
	if _, is := keys[mapped(t, map[string]any{"role": absent, "customRoleIds": []string{second, roleID}}).AccessKey]; !is {
		t.Error("the order of custom roles changes the key")
	}
	if mapped(t, map[string]any{"name": "x", "lastUsed": 5, "description": "y"}).AccessKey != mapped(t, nil).AccessKey {
		t.Error("what is no access changes the key")
	}
}
