package tools_test

import (
	"encoding/base64"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tokenreeve/tokenreeve/internal/sandbox"
)

// smallPages makes vendors page often: the places where a listing can go wrong.
func smallPages() []connect {
	connections := oneOfEach()
	connections[0].pageSize, connections[1].pageSize = 9, 8
	return connections
}

func TestPages(t *testing.T) {
	t.Parallel()
	h := start(t, setup{box: sandbox.Options{Seed: 11, Tokens: 90}, connections: smallPages()})
	h.call("list_tokens", args{}).ok()
	facts := h.facts()
	inOrder := make([]string, len(facts))
	for i, f := range facts {
		inOrder[i] = f.key()
	}
	byCreation := func(reverse bool) []string {
		var keys []string
		for _, f := range slices.SortedFunc(slices.Values(facts), byDate(func(f fact) date { return f.created }, reverse)) {
			keys = append(keys, f.key())
		}
		return keys
	}
	orders := map[string][]string{"": inOrder, "created": byCreation(false), "-created": byCreation(true)}
	for sort, want := range orders {
		for _, limit := range []int{4, 8, 9, 30, 200} {
			t.Run(fmt.Sprintf("sort %q limit %d", sort, limit), func(t *testing.T) {
				t.Parallel()
				arguments := args{"limit": limit}
				if sort != "" {
					arguments["sort"] = sort
				}
				pages := h.on(t).pages(arguments)
				var got []string
				for i, page := range pages {
					got = append(got, keysOf(page.Tokens)...)
					if len(page.Tokens) > limit || limit < 30 && i < len(pages)-1 && len(page.Tokens) < limit {
						t.Errorf("page %d of %d has %d rows", i, len(pages), len(page.Tokens))
					}
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("rows (-want +got):\n%s", diff)
				}
			})
		}
	}
}

// The answers of Mailtrap and of Atlassian for service accounts are one array,
// which is cut into pages here.
func TestPagesOfOneArray(t *testing.T) {
	t.Parallel()
	h := start(t, setup{box: sandbox.Options{Seed: 11, AtlassianTokens: new(5200), MailtrapTokens: new(1100), LaunchDarklyTokens: new(8)}})
	for _, arguments := range []args{
		{"connection": mailtrapName, "limit": 200},
		{"connection": atlassianName, "kind": "service", "limit": 200},
	} {
		name := arguments["connection"].(string)
		want := slices.DeleteFunc(h.factsAt(name), func(f fact) bool { return f.kind == "user" })
		var keys []string
		for _, f := range want {
			keys = append(keys, f.key())
		}
		if diff := cmp.Diff(keys, keysOf(h.rows(arguments))); diff != "" {
			t.Errorf("%s: rows (-want +got):\n%s", name, diff)
		}
	}
}

// An age counts from the first page on, however long the caller takes.
func TestAgesStayTheSameOverPages(t *testing.T) {
	t.Parallel()
	for _, sort := range []string{"", "-last_used"} {
		t.Run("sort "+sort, func(t *testing.T) {
			t.Parallel()
			h := start(t, setup{box: sandbox.Options{Seed: 2, Tokens: 150}})
			want, _ := matching(h.facts(), unusedSince(h.clock.Now().AddDate(0, 0, -90)))
			arguments := args{"unused_for": "90d", "limit": 5}
			if sort != "" {
				arguments["sort"] = sort
			}
			var rows []string
			for {
				page := as[listed](h.call("list_tokens", arguments))
				rows = append(rows, keysOf(page.Tokens)...)
				if page.NextCursor == "" {
					break
				}
				h.clock.advance(20 * 24 * time.Hour)
				arguments = args{"cursor": page.NextCursor}
			}
			slices.Sort(rows)
			if diff := cmp.Diff(want, rows); diff != "" {
				t.Errorf("rows (-want +got):\n%s", diff)
			}
		})
	}
}

func TestCursorSurvivesRestart(t *testing.T) {
	t.Parallel()
	for _, sort := range []string{"", "name"} {
		h := start(t, setup{})
		arguments := args{"limit": 30}
		if sort != "" {
			arguments["sort"] = sort
		}
		want := keysOf(h.rows(arguments))
		first := as[listed](h.call("list_tokens", arguments))
		again := h.restart(setup{})
		got := append(keysOf(first.Tokens), keysOf(again.rows(args{"cursor": first.NextCursor}))...)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("sort %q (-want +got):\n%s", sort, diff)
		}
		stranger := h.restart(setup{stateDir: filepath.Join(t.TempDir(), "another")})
		stranger.call("list_tokens", args{"cursor": first.NextCursor}).fails("invalid_cursor")
	}
}

func TestBadCursors(t *testing.T) {
	t.Parallel()
	h := start(t, setup{})
	cursor := as[listed](h.call("list_tokens", args{"connection": launchDarklyName, "limit": 3, "status": "active"})).NextCursor
	refused := func(t *testing.T, code string, answer func(*harness) result) {
		t.Helper()
		own := h.on(t)
		if r := answer(own).fails(code); r.problem.Next == "" {
			t.Errorf("%s says not what to do next", r.text)
		}
	}
	bad := map[string]string{
		"cut short": cursor[:len(cursor)-1], "half": cursor[:len(cursor)/2], "longer": cursor + "A", "doubled": cursor + cursor,
		"words": "next page please", "not base64": "%%%", "one letter": "A", "empty JSON": base64.RawURLEncoding.EncodeToString([]byte("{}")),
		"its own JSON": base64.RawURLEncoding.EncodeToString([]byte(`{"p":"local","a":{},"c":"acme-atlassian","i":"x"}`)),
	}
	for at := 0; at < len(cursor); at += max(1, len(cursor)/16) {
		flipped := []byte(cursor)
		flipped[at] = map[bool]byte{true: 'B', false: 'A'}[flipped[at] == 'A']
		bad[fmt.Sprintf("letter %d changed", at)] = string(flipped)
	}
	h.forget()
	t.Cleanup(func() {
		if sent := h.box.Requests(); len(sent) != 0 {
			t.Errorf("%d requests were sent, the first %+v", len(sent), sent[0])
		}
	})
	for name, text := range bad {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			refused(t, "invalid_cursor", func(h *harness) result { return h.call("list_tokens", args{"cursor": text}) })
		})
	}
	t.Run("of another caller", func(t *testing.T) {
		t.Parallel()
		refused(t, "invalid_cursor", func(h *harness) result { return h.callAs("mallory", "list_tokens", args{"cursor": cursor}) })
	})
	t.Run("empty", func(t *testing.T) {
		t.Parallel()
		refused(t, "invalid_argument", func(h *harness) result { return h.call("list_tokens", args{"cursor": ""}) })
	})
	for argument, value := range map[string]any{
		"connection": mailtrapName, "owner": "a@b.example", "service_accounts": []string{"x"}, "query": "robot", "kind": "user",
		"status": "expired", "access": "admin", "created_after": "90d", "created_before": "90d", "unused_for": "90d",
		"expires_within": "never", "sort": "name", "limit": 4, "detail": "full",
	} {
		t.Run("beside another "+argument, func(t *testing.T) {
			t.Parallel()
			refused(t, "cursor_mismatch", func(h *harness) result {
				r := h.call("list_tokens", args{"cursor": cursor, argument: value})
				if !strings.Contains(r.problem.Message, argument) {
					t.Errorf("%s does not name %s", r.text, argument)
				}
				return r
			})
		})
	}
}

func TestCursorBesideItsArguments(t *testing.T) {
	t.Parallel()
	h := start(t, setup{})
	cursor := as[listed](h.call("list_tokens", args{"status": "active", "query": "o"})).NextCursor
	want := as[listed](h.call("list_tokens", args{"cursor": cursor}))
	for name, arguments := range map[string]args{
		"the same":       {"cursor": cursor, "status": "active", "query": "o"},
		"one of them":    {"cursor": cursor, "query": "o"},
		"the defaults":   {"cursor": cursor, "limit": 50, "detail": "concise"},
		"space around":   {"cursor": " " + cursor + "\n"},
		"null beside it": {"cursor": cursor, "sort": nil},
	} {
		got := as[listed](h.call("list_tokens", arguments))
		if diff := cmp.Diff(want.Tokens, got.Tokens); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// Tokens that were shown are deleted before the next page is asked for.
func TestDeletedBehindTheCursor(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, sort string
		deleted    []int // of the first ten rows
		stale      bool
	}{
		{name: "an earlier row", deleted: []int{2}},
		{name: "most earlier rows", deleted: []int{0, 1, 2, 3, 4, 5, 6, 7, 8}},
		{name: "the row itself", deleted: []int{9}, stale: true},
		{name: "the row itself, sorted", sort: "-created", deleted: []int{9}},
		{name: "all rows, sorted", sort: "name", deleted: []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}},
	}
	for _, test := range tests {
		for _, connection := range []string{atlassianName, launchDarklyName, mailtrapName} {
			t.Run(test.name+" at "+connection, func(t *testing.T) {
				t.Parallel()
				h := start(t, setup{connections: smallPages()})
				arguments := args{"connection": connection, "limit": 10}
				if test.sort != "" {
					arguments["sort"] = test.sort
				}
				rows := h.rows(arguments)
				first := as[listed](h.call("list_tokens", arguments))
				var ids []string
				for _, i := range test.deleted {
					ids = append(ids, rows[i].ID)
				}
				if slices.Contains(ids, ownID(h, connection)) {
					t.Skip("the credential itself is among them")
				}
				for _, id := range ids {
					h.delete(connection, id)
				}
				if test.stale {
					h.call("list_tokens", args{"cursor": first.NextCursor}).fails("cursor_stale")
					return
				}
				rest := h.rows(args{"cursor": first.NextCursor, "connection": connection})
				if diff := cmp.Diff(keysOf(rows[10:]), keysOf(rest)); diff != "" {
					t.Errorf("the rows after the cursor (-want +got):\n%s", diff)
				}
			})
		}
	}
}

// ownID returns the id of the connection's own credential.
func ownID(h *harness, connection string) string {
	return map[string]string{
		launchDarklyName: h.access.LaunchDarkly.TokenID, mailtrapName: fmt.Sprint(h.access.Mailtrap.TokenID),
	}[connection]
}

// FuzzCursor sends anything in place of a cursor: it is refused, or it is the one
// that the server made, and nothing crashes.
func FuzzCursor(f *testing.F) {
	h := start(f, setup{})
	cursor := as[listed](h.call("list_tokens", args{"limit": 3})).NextCursor
	for _, seed := range []string{"", "A", cursor, cursor[1:], cursor[:40], strings.ToUpper(cursor), "\x00", "日本語", strings.Repeat("A", 5000)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		h := h.on(t)
		r := h.call("list_tokens", args{"cursor": text})
		if !r.isError && !slices.Equal(sealed(text), sealed(cursor)) {
			t.Errorf("cursor %q is answered by %s", text, r.text)
		}
	})
}

// sealed returns what a cursor holds; the spelling of base64 has some freedom.
func sealed(cursor string) []byte {
	data, err := base64.RawURLEncoding.DecodeString(strings.TrimSpace(cursor))
	if err != nil {
		return nil
	}
	return data
}
