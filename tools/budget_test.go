package tools_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"github.com/tiktoken-go/tokenizer"

	"github.com/tokenreeve/tokenreeve/internal/sandbox"
)

// The budgets in tokens of a language model (o200k).
const (
	maxResult         = 8000
	maxConciseRow     = 80
	maxRead           = 3000 // names, descriptions and input schemas
	maxReadOneVendor  = 2200
	maxDefinitionsAll = 6500 // with output schemas
)

var o200k = sync.OnceValues(func() (tokenizer.Codec, error) { return tokenizer.Get(tokenizer.O200kBase) })

// llmTokens counts the tokens that a language model reads of a text.
func llmTokens(t testing.TB, text string) int {
	t.Helper()
	codec, err := o200k()
	if err != nil {
		t.Fatal(err)
	}
	n, err := codec.Count(text)
	return must(t, n, err)
}

func compactJSON(t testing.TB, v any) string {
	t.Helper()
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(v); err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(b.String())
}

func TestDefinitionsFitTheirBudget(t *testing.T) {
	t.Parallel()
	all := oneOfEach()
	tests := map[string]struct {
		connections []connect
		most        int
	}{
		"three vendors":  {all, maxRead},
		atlassianName:    {all[:1], maxReadOneVendor},
		launchDarklyName: {all[1:2], maxReadOneVendor},
		mailtrapName:     {all[2:], maxReadOneVendor},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := start(t, setup{connections: test.connections})
			read, whole := 0, 0
			for _, d := range h.definitions() {
				n := llmTokens(t, d.Name) + llmTokens(t, d.Description) + llmTokens(t, compactJSON(t, d.InputSchema))
				all := llmTokens(t, compactJSON(t, d))
				t.Logf("%s: %d, with all %d", d.Name, n, all)
				read, whole = read+n, whole+all
			}
			t.Logf("together: %d, with all %d", read, whole)
			if read > test.most {
				t.Errorf("a model reads %d tokens, at most %d are allowed", read, test.most)
			}
			if whole > maxDefinitionsAll {
				t.Errorf("the whole definitions are %d tokens, at most %d are allowed", whole, maxDefinitionsAll)
			}
		})
	}
}

func TestConciseRowsAreSmall(t *testing.T) {
	t.Parallel()
	h := start(t, setup{box: sandbox.Options{Seed: 21, Tokens: 300}})
	total := 0
	rows := 0
	for _, connection := range []string{atlassianName, launchDarklyName, mailtrapName} {
		tokens, n := 0, 0
		arguments := args{"limit": 200, "query": " "}
		for arguments["cursor"] == nil || arguments["cursor"] != "" {
			if arguments["cursor"] == nil {
				arguments = args{"connection": connection, "limit": 200}
			}
			r := h.call("list_tokens", arguments)
			for _, element := range r.ok().data["tokens"].([]any) {
				tokens += llmTokens(t, compactJSON(t, element)) + 1
				n++
			}
			arguments = args{"cursor": r.str("next_cursor")}
		}
		t.Logf("%s: %d rows of %d tokens", connection, n, tokens/n)
		total, rows = total+tokens, rows+n
	}
	if total/rows > maxConciseRow {
		t.Errorf("a concise row is %d tokens on average, at most %d are allowed", total/rows, maxConciseRow)
	}
}

// The bound on a result is not felt with ordinary names: a page of the default
// size is whole.
func TestOrdinaryPagesAreWhole(t *testing.T) {
	t.Parallel()
	h := start(t, setup{box: sandbox.Options{Seed: 21, Tokens: 300}})
	for _, arguments := range []args{{}, {"connection": atlassianName}, {"connection": launchDarklyName}, {"connection": mailtrapName}, {"sort": "-created"}} {
		if page := as[listed](h.call("list_tokens", arguments)); len(page.Tokens) != 50 {
			t.Errorf("%v: %d rows, want 50", arguments, len(page.Tokens))
		}
	}
}

// hostileName is text that costs a model much and shows little.
func hostileName(r *rand.Rand, number int) string {
	alphabets := []string{
		"日本語漢字鬱麤龘齉靐齾爩鱻",          // rare letters of a common script
		"𓀀𓀁𓂀𓃰𓄿𓅓𓆣𓇋",               // four bytes each
		"ᚠᚢᚦᚨᚱᚲꙮ⳹꧁ᜀᝀᠠ",           // scripts that no tokenizer knows
		"👩🏽🧑🏿🦄🪐🫠🧬",               // emoji
		"~^|%$#@!*&{}[]<>?;\\\"", // every letter a token, many escaped
		"qzxjkvwQZXJKVW0719",     // no words
	}
	letters := []rune(alphabets[number%len(alphabets)])
	var b strings.Builder
	for range 120 {
		b.WriteRune(letters[r.IntN(len(letters))])
	}
	return b.String()
}

// withHostileNames gives every token a name, and every owner one, that costs as
// much as can be.
func (h *harness) withHostileNames(tokens int) {
	h.t.Helper()
	r := rand.New(rand.NewPCG(1, 2))
	for i := range tokens {
		name := hostileName(r, i)
		_, err := h.box.AddAtlassianToken(sandbox.AtlassianToken{
			Label: name, OwnerName: name, OwnerEmail: name[:len(name)/4] + "@example.com", Scopes: manyScopes(r, i), CreatedAt: h.clock.Now(),
		})
		must(h.t, 0, err)
		_, err = h.box.AddLaunchDarklyToken(sandbox.LaunchDarklyToken{
			Name: name, Description: strings.Repeat(name, 3), MemberID: fmt.Sprintf("%024x", i), MemberName: name,
			MemberEmail: name + "@example.com", CustomRoleIDs: manyScopes(r, i), CreatedAt: h.clock.Now(),
		})
		must(h.t, 0, err)
		_, err = h.box.AddMailtrapToken(sandbox.MailtrapToken{Name: name, CreatedBy: name})
		must(h.t, 0, err)
	}
}

func manyScopes(r *rand.Rand, number int) []string {
	scopes := make([]string, 30)
	for i := range scopes {
		scopes[i] = hostileName(r, number+i)
	}
	return scopes
}

// withServiceAccount adds a service account with tokens at Atlassian and returns its id.
func (h *harness) withServiceAccount(tokens int) string {
	h.t.Helper()
	account := ""
	for range tokens {
		added, err := h.box.AddAtlassianToken(sandbox.AtlassianToken{
			Label: "nightly import", AccountID: account, OwnerName: "importer", OwnerEmail: "importer@acme.example",
			ServiceAccount: true, Scopes: []string{"read:jira-work"},
		})
		account = must(h.t, added, err).AccountID
	}
	return account
}

func TestResultsStaySmall(t *testing.T) {
	t.Parallel()
	h := start(t, setup{box: sandbox.Options{Tokens: 9}})
	h.withHostileNames(48)
	ids := []string{h.withServiceAccount(30)}
	for i := range 99 {
		ids = append(ids, fmt.Sprintf("712020:%08x-%04x-4b7c-9c39-%012x", i*104729, i*7, i*15485863))
	}
	accounts := make([]string, 100)
	for i := range accounts {
		accounts[i] = fmt.Sprintf("%08x-%s", i*104729, strings.Repeat("xQ7", 40))[:128]
	}
	calls := []struct {
		tool      string
		arguments args
	}{
		{"list_tokens", args{"limit": 200, "detail": "full"}},
		{"list_tokens", args{"limit": 200}},
		{"list_tokens", args{"limit": 200, "detail": "full", "sort": "-name"}},
		{"list_tokens", args{"limit": 200, "detail": "full", "connection": atlassianName}},
		{"list_tokens", args{"limit": 200, "detail": "full", "connection": launchDarklyName}},
		{"list_tokens", args{"limit": 200, "detail": "full", "connection": mailtrapName}},
		{"list_tokens", args{"limit": 200, "sort": "name", "connection": mailtrapName}},
		{"list_tokens", args{"limit": 200, "query": "@example.com"}},
		{"list_tokens", args{"connection": atlassianName, "service_accounts": ids, "limit": 10}},
		{"count_tokens", args{"group_by": "owner"}},
		{"count_tokens", args{"connection": atlassianName, "service_accounts": accounts}},
		{"count_tokens", args{"connection": atlassianName, "service_accounts": accounts, "group_by": "owner"}},
		{"list_connections", args{}},
	}
	for i, c := range calls {
		t.Run(fmt.Sprintf("%d %s", i, c.tool), func(t *testing.T) {
			t.Parallel()
			h := h.on(t)
			arguments := c.arguments
			for pages := 0; ; pages++ {
				r := h.call(c.tool, arguments)
				rows, _ := r.ok().data["tokens"].([]any)
				if n := llmTokens(t, r.text); n >= maxResult {
					t.Errorf("page %d of %v has %d rows and %d tokens, the limit is %d", pages, c.arguments, len(rows), n, maxResult)
				}
				cursor := r.str("next_cursor")
				if cursor == "" || pages == 1 {
					break
				}
				arguments = args{"cursor": cursor}
			}
		})
	}
}
