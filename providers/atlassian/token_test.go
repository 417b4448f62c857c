package atlassian_test

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/tokenreeve/tokenreeve/internal/sanitize"
	"github.com/tokenreeve/tokenreeve/providers"
	"github.com/tokenreeve/tokenreeve/providers/atlassian"
)

func digest(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}

// fromOrg maps one record of the organization's listing.
func fromOrg(t *testing.T, record string) providers.Token {
	t.Helper()
	tokens := atlassian.DecodeTokens([]byte(`{"data":[`+record+`]}`), now)
	if len(tokens) != 1 {
		t.Fatalf("%s: %d tokens", record, len(tokens))
	}
	return tokens[0]
}

func TestTokenOfTheOrganization(t *testing.T) {
	t.Parallel()
	equal(t, "user's token", fromOrg(t, robotRow), providers.Token{
		ID: robot, Name: "build robot", Kind: providers.KindUser, Status: providers.StatusActive, Access: providers.AccessUnknown,
		Owner:    providers.Owner{ID: dana, Name: "Dana Example", Email: "dana@example.com"},
		Created:  at(t, "2026-01-14T09:12:33.412Z"),
		LastUsed: at(t, "2026-06-02T17:40:05.118Z"),
		Expires:  at(t, "2027-01-14T09:12:33.412Z"), AccessKey: "no scopes",
	})
	pages, err := list(t, serve(t, get(services+"/api-tokens", array(botRow))), providers.Filter{Kind: providers.KindService}, "")
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "service account's token", pages[0].Tokens, []providers.Token{{
		ID: "asp_Bot", Name: "ci", Kind: providers.KindService, Status: providers.StatusActive, Access: providers.AccessCustom,
		Owner:   providers.Owner{ID: bot, Name: "CI bot", Email: "ci@serviceaccount.atlassian.com"},
		Created: at(t, "2026-02-01T00:00:00.000Z"), AccessKey: `["read:jira-work","write:jira-work"]`,
		Detail: providers.Detail{Scopes: []string{"write:jira-work", "read:jira-work"}},
	}})
}

func TestTokenOfUserManagement(t *testing.T) {
	t.Parallel()
	answer := `[{"id":"a","label":"l","createdAt":"2026-01-14T09:12:33.412Z","disabledStatus":"x"},
		{"id":"b","label":null,"createdAt":null,"lastAccess":null,"expiry":null},
		{"id":"c","lastAccess":"","expiry":"2026-11-22T00:00:00.000Z"},
		{"id":"d","lastAccess":"2026-06-02T17:40:05Z","expiry":"2026-11-22T00:00:00.001Z"},
		{"id":"e","lastAccess":"yesterday","expiry":"never"}]`
	pages, err := list(t, serve(t, get(danaList, answer)), providers.Filter{Owner: dana}, "")
	if err != nil {
		t.Fatal(err)
	}
	token := providers.Token{
		Owner: providers.Owner{ID: dana}, Kind: providers.KindUser,
		Status: providers.StatusUnknown, Access: providers.AccessUnknown,
	}
	a, b, c, d, e := token, token, token, token, token
	a.ID, a.Name, a.Created, a.LastUsed = "a", "l", at(t, "2026-01-14T09:12:33.412Z"), providers.Never()
	b.ID, b.LastUsed = "b", providers.Never()
	c.ID, c.Status, c.Expires = "c", providers.StatusExpired, providers.At(now)
	d.ID, d.LastUsed, d.Expires = "d", at(t, "2026-06-02T17:40:05Z"), at(t, "2026-11-22T00:00:00.001Z")
	e.ID = "e"
	equal(t, "tokens", pages[0].Tokens, []providers.Token{a, b, c, d, e})
}

func TestStatusAndDates(t *testing.T) {
	t.Parallel()
	for record, want := range map[string]providers.Status{
		`{"status":"ALLOWED"}`: providers.StatusActive,
		`{"status":"BLOCKED"}`: providers.StatusBlocked,
		`{"status":"PAUSED"}`:  providers.StatusUnknown,
		`{"status":null}`:      providers.StatusUnknown,
		`{}`:                   providers.StatusUnknown,
		`{"status":"ALLOWED","expiresAt":"2026-11-22T00:00:00Z"}`: providers.StatusExpired,
		`{"status":"BLOCKED","expiresAt":"2026-11-21T00:00Z"}`:    providers.StatusExpired,
		`{"status":"ALLOWED","expiresAt":"2026-11-22T00:00:01Z"}`: providers.StatusActive,
	} {
		if got := fromOrg(t, record).Status; got != want {
			t.Errorf("%s: %s, want %s", record, got, want)
		}
	}
	for _, value := range []string{`""`, `null`, `"soon"`, `"0001-01-01T00:00:00Z"`} {
		token := fromOrg(t, `{"createdAt":`+value+`,"expiresAt":`+value+`,"lastActiveAt":`+value+`}`)
		if !token.Created.IsUnknown() || !token.Expires.IsUnknown() || !token.LastUsed.IsUnknown() {
			t.Errorf("%s: %v, %v, %v", value, token.Created, token.Expires, token.LastUsed)
		}
	}
}

func TestAccess(t *testing.T) {
	t.Parallel()
	for scopes, want := range map[string]struct {
		access providers.Access
		key    string
		shown  []string
	}{
		`null`:                   {providers.AccessUnknown, "no scopes", nil},
		`[]`:                     {providers.AccessUnknown, "no scopes", nil},
		`["b","a","b"]`:          {providers.AccessCustom, `["a","b"]`, []string{"b", "a", "b"}},
		`["a\u200b"," "]`:        {providers.AccessCustom, "[\" \",\"a\u200b\"]", []string{"a", "(empty)"}},
		`{"jira":["read"]}`:      {providers.AccessCustom, `["{\"jira\":[\"read\"]}"]`, []string{`{"jira":["read"]}`}},
		`"read:jira-work"`:       {providers.AccessCustom, `["\"read:jira-work\""]`, []string{`"read:jira-work"`}},
		`[{"name":"read:jira"}]`: {providers.AccessCustom, `["[{\"name\":\"read:jira\"}]"]`, []string{`[{"name":"read:jira"}]`}},
	} {
		token := fromOrg(t, `{"id":"a","scopes":`+scopes+`}`)
		equal(t, scopes, token.Access, want.access)
		equal(t, scopes, token.AccessKey, want.key)
		equal(t, scopes, token.Detail.Scopes, want.shown)
	}
	many := make([]string, 25)
	for i := range many {
		many[i] = fmt.Sprintf("%q", fmt.Sprint("scope:", i))
	}
	token := fromOrg(t, `{"scopes":[`+strings.Join(many, ",")+`]}`)
	equal(t, "shown", len(token.Detail.Scopes), 21)
	equal(t, "last", token.Detail.Scopes[20], "… and 5 more")
	equal(t, "key", len(token.AccessKey), 64)
}

func TestTextIsCleaned(t *testing.T) {
	t.Parallel()
	token := fromOrg(t, `{"id":"a","label":"build\u202e\nrobot","user":{"id":"b","name":"Da\u200bna","email":"d\u0007@example.com"}}`)
	equal(t, "name", token.Name, "build robot")
	equal(t, "altered", token.NameAltered, true)
	equal(t, "key", token.NameKey, digest("build\u202e\nrobot"))
	equal(t, "owner", token.Owner, providers.Owner{ID: "b", Name: "Dana", Email: "d@example.com"})
	plain := fromOrg(t, `{"label":"build robot"}`)
	equal(t, "no key", plain.NameKey+fmt.Sprint(plain.NameAltered), "false")
}

// A record whose id is none can be seen, and nothing can be done to it.
func TestOddIDs(t *testing.T) {
	t.Parallel()
	p := serve(t)
	for raw, want := range map[string]string{
		`"a.b"`:                              "a.b",
		`".."`:                               "..",
		`"asp_A\u200b"`:                      "invalid id " + digest("asp_A\u200b")[:16],
		`""`:                                 "invalid id " + digest("")[:16],
		`null`:                               "invalid id " + digest("")[:16],
		`" asp_A"`:                           "invalid id " + digest(" asp_A")[:16],
		`"` + strings.Repeat("a", 129) + `"`: "invalid id " + digest(strings.Repeat("a", 129))[:16],
	} {
		token := fromOrg(t, `{"id":`+raw+`,"user":{"id":`+raw+`}}`)
		equal(t, raw, token.ID, want)
		wantCode(t, p.CheckID(providers.PartToken, token.ID), providers.CodeInvalidArgument)
		if token.Owner.ID != "" {
			equal(t, raw, token.Owner.ID, want)
			wantCode(t, p.CheckID(providers.PartOwner, token.Owner.ID), providers.CodeInvalidArgument)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"data":[` + robotRow + `,` + botRow + `],"links":{"next":""}}`))
	f.Add([]byte(danaRows))
	f.Add([]byte(`[` + botRow + `,null]`))
	f.Add([]byte(`[{"id":"..","label":"\u202e\u0000\ud800","lastAccess":null,"createdAt":"2026-13-01T00:00:00Z","scopes":{"a":1},"user":null}]`))
	f.Add([]byte(`[{"id":"a b","label":"Bearer ATATT3xFfGF0secretsecret","user":{"id":"\u200b"},"scopes":[null,"` + strings.Repeat("x", 300) + `"]}]`))
	f.Add([]byte("[{\"label\":\"\xff\xfe\"}]"))
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, token := range atlassian.DecodeTokens(data, now) {
			texts := append([]string{token.ID, token.Name, token.Owner.ID, token.Owner.Name, token.Owner.Email}, token.Detail.Scopes...)
			for _, text := range texts {
				if clean, altered := sanitize.Text(text, 128); altered || !utf8.ValidString(text) {
					t.Errorf("%q is not clean: %q", text, clean)
				}
			}
			if token.NameAltered != (token.NameKey != "") || token.ID == "" || len(token.Detail.Scopes) > 21 {
				t.Errorf("%+v", token)
			}
		}
	})
}
