package tools_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tokenreeve/tokenreeve/internal/sandbox"
)

// refusedUnsent calls a tool with arguments that must be refused with the code
// before anything is sent.
func (h *harness) refusedUnsent(tool string, arguments any, code string) result {
	h.t.Helper()
	r := h.call(tool, arguments)
	if !r.isError || code != "" && r.problem.Code != code {
		h.t.Errorf("%s %v is answered by %s, want the error %s", tool, arguments, r.text, code)
	}
	if sent := h.box.Requests(); len(sent) > 0 {
		h.t.Errorf("%s %v sent %s %s", tool, arguments, sent[0].Method, sent[0].Path)
		h.forget()
	}
	return r
}

func TestWrongArguments(t *testing.T) {
	t.Parallel()
	h := start(t, setup{})
	long := strings.Repeat("x", 300<<10)
	tests := []struct {
		name, tool, raw, code string
		says                  string // in message or next
	}{
		{"a misspelt argument", "list_tokens", `{"conection":"acme-mailtrap"}`, "unknown_argument", "did you mean connection?"},
		{"a misspelt confirm", "revoke_token", `{"connection":"acme-mailtrap","token_id":"1","confrim":"yes"}`, "unknown_argument", "did you mean confirm?"},
		{"a misspelt everything", "bulk_revoke_tokens", `{"everthing":true}`, "unknown_argument", "did you mean everything?"},
		{"another case", "list_tokens", `{"Status":"active"}`, "unknown_argument", "did you mean status?"},
		{"camel case", "get_token", `{"tokenId":"1"}`, "unknown_argument", "did you mean token_id?"},
		{"an argument of another tool", "count_tokens", `{"limit":5}`, "unknown_argument", "limit"},
		{"an argument of no tool", "list_tokens", `{"__proto__":{}}`, "unknown_argument", "__proto__"},
		{"an empty name", "list_tokens", `{"":1}`, "unknown_argument", `""`},
		{"a tool without arguments", "list_connections", `{"verbose":true}`, "unknown_argument", "without arguments"},
		{"hidden letters in a name", "list_tokens", `{"sta\u202etus":"active"}`, "unknown_argument", "did you mean status?"},
		{"an argument twice", "list_tokens", `{"status":"active","status":"expired"}`, "invalid_argument", "twice"},
		{"an argument twice, the same", "revoke_token", `{"token_id":"1","token_id":"1"}`, "invalid_argument", "twice"},
		{"a list for a word", "list_tokens", `{"status":["active"]}`, "invalid_argument", "status must be a string"},
		{"an object for a word", "list_tokens", `{"query":{"like":"x"}}`, "invalid_argument", "query must be a string"},
		{"an object in a list", "list_tokens", `{"service_accounts":[{"id":"x"}]}`, "invalid_argument", "service_accounts must be a list of strings"},
		{"a list in a list", "list_tokens", `{"service_accounts":[["x"]]}`, "invalid_argument", "service_accounts"},
		{"an empty list", "list_tokens", `{"service_accounts":[]}`, "invalid_argument", "service_accounts is empty"},
		{"an empty string in a list", "bulk_revoke_tokens", `{"token_ids":["a",""]}`, "invalid_argument", "token_ids is empty"},
		{"null in a list", "bulk_revoke_tokens", `{"token_ids":["a",null]}`, "invalid_argument", "token_ids"},
		{"an empty list in quotes", "bulk_revoke_tokens", `{"token_ids":"[]"}`, "invalid_argument", "token_ids is empty"},
		{"a wrong word", "list_tokens", `{"status":"alive"}`, "invalid_argument", `cannot be "alive"`},
		{"a word in another case", "list_tokens", `{"status":"Active"}`, "invalid_argument", `cannot be "Active"`},
		{"a wrong sort", "list_tokens", `{"sort":"created desc"}`, "invalid_argument", "sort"},
		{"limit 0", "list_tokens", `{"limit":0}`, "invalid_argument", "between 1 and 200"},
		{"limit 201", "list_tokens", `{"limit":201}`, "invalid_argument", "between 1 and 200"},
		{"a negative limit", "list_tokens", `{"limit":-5}`, "invalid_argument", "between 1 and 200"},
		{"half a limit", "list_tokens", `{"limit":1.5}`, "invalid_argument", "whole number"},
		{"a limit beyond all numbers", "list_tokens", `{"limit":1e300}`, "invalid_argument", "limit"},
		{"a limit in words", "list_tokens", `{"limit":"many"}`, "invalid_argument", "whole number"},
		{"a limit that is true", "list_tokens", `{"limit":true}`, "invalid_argument", "whole number"},
		{"yes for true", "bulk_revoke_tokens", `{"everything":"yes"}`, "invalid_argument", "true or false"},
		{"1 for true", "rotate_token", `{"compromised":1}`, "invalid_argument", "true or false"},
		{"a missing argument", "get_token", `{"connection":"acme-mailtrap"}`, "missing_argument", "token_id"},
		{"null for a needed argument", "get_token", `{"connection":"acme-mailtrap","token_id":null}`, "missing_argument", "token_id"},
		{"no arguments where some are needed", "get_token", `{}`, "missing_argument", "connection"},
		{"an unknown connection", "list_tokens", `{"connection":"acme"}`, "unknown_connection", `"acme"`},
		{"a connection in another case", "list_tokens", `{"connection":"ACME-MAILTRAP"}`, "unknown_connection", "ACME"},
		{"a connection of another vendor", "update_launchdarkly_token", `{"connection":"acme-mailtrap","token_id":"1"}`, "not_offered", "mailtrap"},
		{"a wrong member of a permission", "create_mailtrap_token", `{"connection":"acme-mailtrap","name":"x","permissions":[{"resource_type":"account","resource_id":1,"level":"viewer"}]}`, "unknown_argument", "level"},
		{"a wrong word in a permission", "create_mailtrap_token", `{"connection":"acme-mailtrap","name":"x","permissions":[{"resource_type":"account","resource_id":1,"access_level":"owner"}]}`, "invalid_argument", "access_level"},
		{"a permission that is a word", "create_mailtrap_token", `{"connection":"acme-mailtrap","name":"x","permissions":["admin"]}`, "invalid_argument", "permissions"},
		{"an incomplete permission", "create_mailtrap_token", `{"connection":"acme-mailtrap","name":"x","permissions":[{"resource_type":"account"}]}`, "missing_argument", "resource_id"},
		{"broken policy", "create_launchdarkly_token", `{"connection":"acme-launchdarkly","name":"x","inline_role":"[{"}`, "invalid_argument", "inline_role"},
		{"arguments that are a list", "list_tokens", `["status","active"]`, "invalid_argument", "not a JSON object"},
		{"arguments that are a word", "list_tokens", `"status"`, "invalid_argument", "not a JSON object"},
		{"arguments that are a number", "list_connections", `5`, "invalid_argument", "not a JSON object"},
		{"arguments that are false", "list_tokens", `false`, "invalid_argument", "not a JSON object"},
		{"300 KB of a word", "list_tokens", `{"query":"` + long + `"}`, "invalid_argument", "longer than"},
		{"300 KB of a name", "list_tokens", `{"` + long + `":1}`, "invalid_argument", "longer than"},
		{"300 KB of a list", "bulk_revoke_tokens", `{"token_ids":["` + long + `"]}`, "invalid_argument", "longer than"},
		{"250 KB of a word", "list_tokens", `{"query":"` + long[:250<<10] + `"}`, "invalid_argument", "longer than"},
		{"a list without end", "create_launchdarkly_token", `{"custom_roles":[` + strings.Repeat("1,", 20000) + `1]}`, "invalid_argument", "at most 100"},
		{"a deep pit", "list_tokens", `{"query":` + strings.Repeat("[", 5000) + strings.Repeat("]", 5000) + `}`, "invalid_argument", "query"},
		{"created after it was created before", "list_tokens", `{"created_after":"30d","created_before":"60d"}`, "invalid_date", "created_after"},
		{"a date that is none", "list_tokens", `{"created_after":"2026-02-30"}`, "invalid_date", "created_after"},
		{"an age that is none", "count_tokens", `{"unused_for":"three months"}`, "invalid_date", "unused_for"},
		{"an age of months or minutes", "count_tokens", `{"unused_for":"3m"}`, "invalid_date", "unused_for"},
		{"a date for an age", "list_tokens", `{"expires_within":"2026-12-01"}`, "invalid_date", "expires_within"},
		{"an age beyond all time", "list_tokens", `{"unused_for":"999999y"}`, "invalid_date", "292 years"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			r := h.on(t).refusedUnsent(test.tool, json.RawMessage(test.raw), test.code)
			if said := r.problem.Message + " " + r.problem.Next; !strings.Contains(said, test.says) {
				t.Errorf("%s does not say %q", r.text, test.says)
			}
			if n := len(r.text); n > 2000 {
				t.Errorf("the error has %d bytes", n)
			}
		})
	}
}

// property is what an input schema says of an argument.
type property struct {
	Type        any                 `json:"type"`
	Description string              `json:"description"`
	Enum        []string            `json:"enum"`
	Items       *property           `json:"items"`
	Properties  map[string]property `json:"properties"`
	Required    []string            `json:"required"`
}

// Every argument of every tool refuses what it cannot be, and names itself.
func TestEveryArgumentIsJudged(t *testing.T) {
	t.Parallel()
	h := start(t, setup{})
	for _, d := range h.definitions() {
		var schema property
		if err := json.Unmarshal(d.InputSchema, &schema); err != nil {
			t.Fatal(err)
		}
		for name, p := range schema.Properties {
			if name == "confirm" {
				continue // any value is taken; what is no code gets the preview
			}
			said := func(r result) {
				t.Helper()
				if !strings.Contains(r.problem.Message, name) || r.problem.Next == "" && len(r.problem.Valid) == 0 {
					t.Errorf("%s: %s does not name %s and what to do", d.Name, r.text, name)
				}
			}
			said(h.refusedUnsent(d.Name, args{name: ""}, "invalid_argument"))
			if p.Description != "" && !strings.Contains(p.Description, "JSON") {
				said(h.refusedUnsent(d.Name, args{name: args{"a": args{"b": 1}}}, ""))
			}
			if len(p.Enum) > 0 && name != "connection" {
				r := h.refusedUnsent(d.Name, args{name: "no such word"}, "invalid_argument")
				said(r)
				if diff := cmp.Diff(p.Enum, r.problem.Valid); diff != "" {
					t.Errorf("%s: valid words of %s (-want +got):\n%s", d.Name, name, diff)
				}
			}
			r := h.refusedUnsent(d.Name, args{name + "x": "y"}, "unknown_argument")
			if !strings.Contains(r.problem.Next, "did you mean "+name+"?") && !strings.Contains(r.problem.Next, "did you mean ") {
				t.Errorf("%s: %s does not name %s", d.Name, r.text, name)
			}
		}
		for _, name := range schema.Required {
			if r := h.refusedUnsent(d.Name, args{}, "missing_argument"); name == schema.Required[0] && !strings.Contains(r.problem.Message, name) {
				t.Errorf("%s: %s does not name %s", d.Name, r.text, name)
			}
		}
	}
}

// What cannot be misread is taken as it was meant.
func TestForgivenSlips(t *testing.T) {
	t.Parallel()
	h := start(t, setup{box: sandbox.Options{Seed: 3}})
	h.call("list_tokens", nil).ok()
	account := find(t, h.atlassianFacts(), func(f fact) bool { return f.kind == "service" }).ownerID
	token := h.mailtrapFacts()[3].id
	tests := []struct{ name, tool, plain, slip string }{
		{"a number in quotes", "list_tokens", `{"limit":7,"connection":"acme-mailtrap"}`, `{"limit":"7","connection":"acme-mailtrap"}`},
		{"a number for an id", "get_token", `{"connection":"acme-mailtrap","token_id":"` + token + `"}`, `{"connection":"acme-mailtrap","token_id":` + token + `}`},
		{"one value for a list", "count_tokens", `{"service_accounts":["` + account + `"]}`, `{"service_accounts":"` + account + `"}`},
		{"a list in quotes", "count_tokens", `{"service_accounts":["` + account + `","x"]}`, `{"service_accounts":"[\"` + account + `\",\"x\"]"}`},
		{"a value twice in a list", "count_tokens", `{"service_accounts":["` + account + `"]}`, `{"service_accounts":["` + account + `","` + account + `"]}`},
		{"null", "count_tokens", `{}`, `{"owner":null,"status":null,"service_accounts":null}`},
		{"no arguments at all", "count_tokens", `{}`, `null`},
		{"a number as a query", "count_tokens", `{"query":"2"}`, `{"query":2}`},
		{"white space", "count_tokens", `{"status":"active"}`, "{ \"status\" :\n\t\"active\" }"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			h := h.on(t)
			want := h.call(test.tool, json.RawMessage(test.plain)).ok()
			got := h.call(test.tool, json.RawMessage(test.slip)).ok()
			ignore := cmp.FilterPath(func(p cmp.Path) bool { return p.Last().String() == `["next_cursor"]` }, cmp.Ignore())
			if diff := cmp.Diff(want.data, got.data, ignore); diff != "" {
				t.Errorf("results differ (-plain +slip):\n%s", diff)
			}
		})
	}
}

// An id that is a number keeps all its digits.
func TestLargeNumbersAreExact(t *testing.T) {
	t.Parallel()
	h := start(t, setup{})
	for _, id := range []string{"9007199254740993", "9223372036854775807"} {
		h.forget()
		h.call("get_token", json.RawMessage(`{"connection":"acme-mailtrap","token_id":`+id+`}`)).fails("not_found")
		if sent := h.requests(); len(sent) != 1 || !strings.HasSuffix(sent[0].Path, "/"+id) {
			t.Errorf("sent %+v, want a request for %s", sent, id)
		}
	}
}

// strangeIDs are no ids anywhere; in a path some of them would name another endpoint.
func strangeIDs() []string {
	return []string{
		"", ".", "..", "/", "%2e%2e", "?", "#", "%", " ", "../..", "..;", "a/b", "a/../..", "asp_x/../", "%2e", "%2E%2E%2F", "..%2f", "%00",
		"\x00", "\\", "..\\", "a\nb", "a\r\nX: y", "\u202e", "\u200b", "a\u200bb", "．．", "⁄", "١٢", "１２３", "*", "&a=b", "a?b=c", "a#b", "@", "a@",
		"@b", "a@b@c", "a b", "api-tokens/..", "x,y", `"x"`, "{}", "~", "$HOME", strings.Repeat("a", 129), strings.Repeat("../", 40),
	}
}

// strangeIDsOf are no ids at one vendor, though they might be at another.
func strangeIDsOf(connection string) []string {
	switch connection {
	case launchDarklyName:
		return []string{"x", "0123456789ABCDEF01234567", "0123456789abcdef0123456", "0123456789abcdef012345678", "0123456789abcdef0123456g", "api-0123"}
	case mailtrapName:
		return []string{"x", "0", "-1", "+1", "01", "1.0", "1e3", "0x10", "9223372036854775808", "99999999999999999999", "1 ", "1_000"}
	default:
		return []string{"ä", "a=b=c!"}
	}
}

// idArguments are all arguments that take ids, with what else the call needs.
func idArguments() []struct {
	tool, argument string
	list           bool
	with           args
	at             []string
} {
	everywhere := []string{atlassianName, launchDarklyName, mailtrapName}
	type use = struct {
		tool, argument string
		list           bool
		with           args
		at             []string
	}
	return []use{
		{tool: "get_token", argument: "token_id", at: everywhere},
		{tool: "get_token", argument: "owner", with: args{"token_id": nil}, at: everywhere},
		{tool: "revoke_token", argument: "token_id", at: everywhere},
		{tool: "revoke_token", argument: "owner", with: args{"token_id": nil}, at: everywhere},
		{tool: "rotate_token", argument: "token_id", at: everywhere},
		{tool: "update_launchdarkly_token", argument: "token_id", with: args{"name": "n"}, at: everywhere[1:2]},
		{tool: "bulk_revoke_tokens", argument: "token_ids", list: true, with: args{"reason": "r"}, at: everywhere},
		{tool: "bulk_revoke_tokens", argument: "exclude", list: true, with: args{"reason": "r", "status": "expired"}, at: everywhere},
		{tool: "bulk_revoke_tokens", argument: "owner", with: args{"reason": "r"}, at: everywhere},
		{tool: "bulk_revoke_tokens", argument: "service_accounts", list: true, with: args{"reason": "r"}, at: everywhere},
		{tool: "bulk_revoke_tokens", argument: "service_accounts", list: true, with: args{"reason": "r", "all_of_service_account": true}, at: everywhere},
		{tool: "list_tokens", argument: "owner", at: everywhere},
		{tool: "list_tokens", argument: "service_accounts", list: true, at: everywhere},
		{tool: "list_tokens", argument: "owner", at: []string{""}},
		{tool: "list_tokens", argument: "service_accounts", list: true, at: []string{""}},
		{tool: "count_tokens", argument: "owner", at: everywhere},
		{tool: "count_tokens", argument: "service_accounts", list: true, at: everywhere},
		{tool: "count_tokens", argument: "service_accounts", list: true, with: args{"group_by": "owner"}, at: everywhere},
	}
}

// validID is an id that could be a token's on the connection.
func validID(connection string) string {
	return map[string]string{atlassianName: "asp_x", launchDarklyName: "0123456789abcdef01234567", mailtrapName: "77"}[connection]
}

// No strange id leaves the server, through any argument of any tool at any vendor.
func TestStrangeIDsAreNeverSent(t *testing.T) {
	t.Parallel()
	for _, use := range idArguments() {
		for _, connection := range use.at {
			t.Run(fmt.Sprintf("%s %s %v at %s", use.tool, use.argument, use.with["all_of_service_account"], connection), func(t *testing.T) {
				t.Parallel()
				h := start(t, setup{})
				for _, id := range slices.Concat(strangeIDs(), strangeIDsOf(connection)) {
					arguments := args{}
					if connection != "" {
						arguments["connection"] = connection
					}
					maps.Copy(arguments, use.with)
					if _, needsToken := use.with["token_id"]; needsToken {
						arguments["token_id"] = validID(connection)
					}
					switch {
					case use.list:
						arguments[use.argument] = []string{id}
						h.refusedUnsent(use.tool, arguments, "")
						arguments[use.argument] = []string{validID(connection), id}
					default:
						arguments[use.argument] = id
					}
					h.refusedUnsent(use.tool, arguments, "")
				}
			})
		}
	}
}

// The id of a resource stands in a body, never in a path. What no resource has is
// answered with those that there are, and nothing is made.
func TestStrangeResourceIDs(t *testing.T) {
	t.Parallel()
	h := start(t, setup{})
	made := len(h.box.MailtrapTokens())
	for _, id := range slices.Concat(strangeIDs(), strangeIDsOf(mailtrapName)) {
		r := h.call("create_mailtrap_token", args{"connection": mailtrapName, "name": "n", "permissions": []args{
			{"resource_type": "project", "resource_id": id, "access_level": "viewer"},
		}})
		if !r.isError && r.str("status") != "unknown_resource" {
			t.Errorf("resource id %q is answered by %s", id, r.text)
		}
	}
	if sent := h.changes(); len(sent) != 0 || len(h.box.MailtrapTokens()) != made {
		t.Errorf("something was changed: %+v", sent)
	}
}

// Names and owners of outside people never bring hidden letters into a result (see
// check); a name that was cleaned says so.
func TestHostileNamesAreCleaned(t *testing.T) {
	t.Parallel()
	h := start(t, setup{})
	names := []string{
		"a\u202eb", "zero\u200bwidth", "\u2066isolate\u2069", "tag\U000e0041\U000e0042", "bell\a and \x1b[31mred", "line\nbreak", "tab\there", "\ufeffbom",
		"soft\u00adhyphen", "line\u2028separator", "nul\x00", "\u3164filler", strings.Repeat("long ", 50), "  spaces  ", "z\u0335\u0336\u0337\u0338\u0339\u033aalgo",
	}
	for _, name := range names {
		_, err := h.box.AddAtlassianToken(sandbox.AtlassianToken{Label: name, OwnerName: name, OwnerEmail: "x@acme.example", Scopes: []string{name}})
		must(t, 0, err)
		_, err = h.box.AddLaunchDarklyToken(sandbox.LaunchDarklyToken{Name: name, Description: name, MemberID: "0123456789abcdef01234567", MemberName: name, MemberEmail: name})
		must(t, 0, err)
		_, err = h.box.AddMailtrapToken(sandbox.MailtrapToken{Name: name, CreatedBy: name})
		must(t, 0, err)
	}
	for _, detail := range []string{"concise", "full"} {
		altered := map[string]int{}
		for _, r := range h.rows(args{"detail": detail, "sort": "-created"}) {
			f := find(t, h.facts(), func(f fact) bool { return f.key() == r.key() })
			if slices.Contains(names, f.name) {
				if !r.NameAltered || r.Name == f.name {
					t.Errorf("%s: the name %+q of %+q is not marked as altered", r.key(), r.Name, f.name)
				}
				altered[r.Connection]++
			}
		}
		for _, connection := range []string{atlassianName, launchDarklyName, mailtrapName} {
			if altered[connection] != len(names) {
				t.Errorf("%s: %d names were altered, want %d", connection, altered[connection], len(names))
			}
		}
	}
}
