package sandbox_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tokenreeve/tokenreeve/internal/sandbox"
)

// box is a sandbox behind a real server.
type box struct {
	*sandbox.Sandbox
	t      *testing.T
	url    string
	access sandbox.Access
}

func open(t *testing.T, o sandbox.Options) *box {
	t.Helper()
	s, err := sandbox.New(o)
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(s.Handler())
	t.Cleanup(srv.Close)
	return &box{s, t, srv.URL, s.Access(srv.URL)}
}

type result struct {
	status int
	header http.Header
	body   []byte
	err    error
}

// send makes one request; headers are "Name: value".
func (b *box) send(method, url, body string, headers ...string) result {
	b.t.Helper()
	var reader io.Reader
	if body != "" {
		reader = strings.NewReader(body)
	}
	req, err := http.NewRequestWithContext(b.t.Context(), method, url, reader)
	if err != nil {
		b.t.Fatal(err)
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		req.Header.Set(name, value)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return result{err: err}
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	return result{resp.StatusCode, resp.Header, raw, err}
}

func (r result) want(t *testing.T, status int, parts ...string) result {
	t.Helper()
	if r.err != nil || r.status != status {
		t.Fatalf("status %d, error %v, body %s; want %d", r.status, r.err, r.body, status)
	}
	for _, part := range parts {
		if !strings.Contains(string(r.body), part) {
			t.Fatalf("body %s; want %s in it", r.body, part)
		}
	}
	return r
}

func parse[T any](t *testing.T, r result) T {
	t.Helper()
	var v T
	if err := json.Unmarshal(r.body, &v); err != nil {
		t.Fatalf("body %.300s: %v", r.body, err)
	}
	return v
}

// clock is a time that a test moves.
type clock struct{ at time.Time }

func newClock() *clock { return &clock{time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)} }

func (c *clock) now() time.Time { return c.at }

func TestSameSeedSameData(t *testing.T) {
	options := sandbox.Options{Seed: 7, Tokens: 600, Now: newClock().now}
	one, two := open(t, options), open(t, options)
	if !reflect.DeepEqual(one.State(), two.State()) || !reflect.DeepEqual(one.Secrets(), two.Secrets()) {
		t.Fatal("the same seed gave different data")
	}
	mint := func(b *box) []byte {
		return b.send("POST", b.access.LaunchDarkly.BaseURL+"/api/v2/tokens", `{"role":"reader"}`,
			"Authorization: "+b.access.LaunchDarkly.Credential, "Content-Type: application/json").want(t, 201).body
	}
	if !bytes.Equal(mint(one), mint(two)) {
		t.Fatal("the same seed minted different tokens")
	}
	options.Seed = 8
	other := open(t, options)
	if reflect.DeepEqual(one.AtlassianTokens(), other.AtlassianTokens()) || one.access.Mailtrap.Credential == other.access.Mailtrap.Credential {
		t.Fatal("another seed gave the same data")
	}
}

// The header Date is told by the sandbox's clock, as the dates of the records are.
func TestDateHeader(t *testing.T) {
	b := open(t, sandbox.Options{Now: newClock().now})
	want := newClock().now().Format(http.TimeFormat)
	order := func() {
		if _, err := b.AddFault(sandbox.Fault{Kind: sandbox.Fault500}); err != nil {
			t.Fatal(err)
		}
	}
	for _, prepare := range []func(){func() {}, order} {
		prepare()
		for _, base := range []string{b.access.Atlassian.BaseURL, b.access.LaunchDarkly.BaseURL, b.access.Mailtrap.BaseURL} {
			if r := b.send("GET", base+"/api/x", ""); r.header.Get("Date") != want {
				t.Errorf("%s: date is %q, want %q", base, r.header.Get("Date"), want)
			}
		}
	}
}

func TestSizes(t *testing.T) {
	tests := map[string]struct {
		options   sandbox.Options
		a, ld, mt int
	}{
		"default":   {sandbox.Options{}, 40, 40, 40},
		"thirds":    {sandbox.Options{Tokens: 100}, 34, 33, 33},
		"overrides": {sandbox.Options{AtlassianTokens: new(0), LaunchDarklyTokens: new(7), MailtrapTokens: new(0)}, 0, 7, 3},
		"tiny":      {sandbox.Options{Tokens: 1}, 1, 6, 3},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			b := open(t, test.options)
			managed := 0
			for _, token := range b.AtlassianTokens() {
				if !token.Unmanaged {
					managed++
				}
			}
			if ld, mt := len(b.LaunchDarklyTokens()), len(b.MailtrapTokens()); managed != test.a || ld != test.ld || mt != test.mt {
				t.Fatalf("sizes %d %d %d; want %d %d %d", managed, ld, mt, test.a, test.ld, test.mt)
			}
		})
	}
}

func TestBadOptions(t *testing.T) {
	for name, o := range map[string]sandbox.Options{
		"too many":   {Tokens: 100_001},
		"negative":   {Tokens: -1},
		"override":   {MailtrapTokens: new(-1)},
		"status":     {Atlassian: sandbox.AtlassianOptions{RevokeStatus: 500}},
		"org status": {Atlassian: sandbox.AtlassianOptions{UnknownOrgStatus: 500}},
		"next link":  {Atlassian: sandbox.AtlassianOptions{NextLink: "x"}},
		"last link":  {Atlassian: sandbox.AtlassianOptions{LastLink: "x"}},
		"no date":    {Atlassian: sandbox.AtlassianOptions{NoDate: "x"}},
		"test":       {LaunchDarkly: sandbox.LaunchDarklyOptions{TestFailStatus: 1}},
		"immutable":  {LaunchDarkly: sandbox.LaunchDarklyOptions{ImmutableStatus: 1}},
		"hidden":     {LaunchDarkly: sandbox.LaunchDarklyOptions{HiddenStatus: 1}},
		"latency":    {Latency: -1},
	} {
		if _, err := sandbox.New(o); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestHundredThousandTokens(t *testing.T) {
	t.Parallel()
	n := 100_000
	start := time.Now()
	b := open(t, sandbox.Options{Seed: 3, AtlassianTokens: &n, LaunchDarklyTokens: new(0), MailtrapTokens: new(0)})
	t.Logf("New: %v", time.Since(start))
	start = time.Now()
	// The filter walks all rows and encodes one in twenty: enough under the race detector.
	blocked, cursor := map[string]bool{}, ""
	for {
		page := b.page(t, "status=BLOCKED&pageSize=1000&cursor="+cursor)
		for _, token := range page.Data {
			blocked[token.ID] = true
		}
		if cursor = page.Links.Next; cursor == "" {
			break
		}
	}
	t.Logf("a filtered walk: %v", time.Since(start))
	if count := parse[int](t, b.org("GET", "/api-tokens/count?status=BLOCKED", "")); len(blocked) != count || count < 3000 {
		t.Fatalf("%d blocked tokens; want %d", len(blocked), count)
	}
	b.org("GET", "/api-tokens/count", "").want(t, 200, "90000")
	if page := b.page(t, "pageSize=1000"); len(page.Data) != 1000 || page.Links.Next == "" {
		t.Fatalf("a page of %d", len(page.Data))
	}
	services := parse[[]accessToken](t, b.org("GET", "/service-accounts/api-tokens", ""))
	if len(services) != 10_000 {
		t.Fatalf("%d service tokens; want 10000", len(services))
	}
}

func TestThirdsOfHundredThousand(t *testing.T) {
	t.Parallel()
	start := time.Now()
	b := open(t, sandbox.Options{Seed: 3, Tokens: 100_000})
	t.Logf("New: %v", time.Since(start))
	ids := map[string]bool{}
	for _, token := range b.LaunchDarklyTokens() {
		ids[token.ID] = true
	}
	if len(ids) != 33_333 {
		t.Fatalf("%d ids; want 33333", len(ids))
	}
	secrets := b.Secrets()
	slices.Sort(secrets)
	if all := len(secrets); len(slices.Compact(secrets)) != all {
		t.Fatal("two secrets are equal")
	}
}

// The demo promises these; each must exist in the default sandbox.
func TestBelievableData(t *testing.T) {
	c := newClock()
	b := open(t, sandbox.Options{Now: c.now})
	found := map[string]bool{}
	names := map[string]string{}
	for _, token := range b.AtlassianTokens() {
		found["never used"] = found["never used"] || token.LastActiveAt.IsZero()
		found["stale"] = found["stale"] || (!token.LastActiveAt.IsZero() && c.at.Sub(token.LastActiveAt) > 90*24*time.Hour)
		found["no end"] = found["no end"] || token.ExpiresAt.IsZero()
		left := token.ExpiresAt.Sub(c.at)
		found["expired"] = found["expired"] || (!token.ExpiresAt.IsZero() && left < 0)
		found["week"] = found["week"] || (left > 0 && left < 7*24*time.Hour)
		found["month"] = found["month"] || (left > 7*24*time.Hour && left < 31*24*time.Hour)
		found["blocked"] = found["blocked"] || token.Status == "BLOCKED"
		found["service"] = found["service"] || token.ServiceAccount
		found["hostile"] = found["hostile"] || strings.Contains(token.Label, "Ignore previous")
		found["bidi"] = found["bidi"] || strings.ContainsRune(token.Label, '\u202e')
		if token.LastActiveAt.After(c.at) || (!token.LastActiveAt.IsZero() && token.LastActiveAt.Before(token.CreatedAt)) {
			t.Errorf("token %s: used %v, made %v", token.ID, token.LastActiveAt, token.CreatedAt)
		}
	}
	for _, account := range b.AtlassianAccounts() {
		if other, ok := names[account.Name]; ok && other != account.ID {
			found["two of one name"] = true
		}
		names[account.Name] = account.ID
	}
	for _, token := range b.LaunchDarklyTokens() {
		found["role "+token.Role] = true
		found["custom"] = found["custom"] || len(token.CustomRoleIDs) > 0
		found["inline"] = found["inline"] || len(token.InlineRole) > 0
	}
	for _, token := range b.MailtrapTokens() {
		found["grace"] = found["grace"] || token.Replaced
		found["mailtrap no end"] = found["mailtrap no end"] || token.ExpiresAt.IsZero()
		found["mailtrap expired"] = found["mailtrap expired"] || (!token.ExpiresAt.IsZero() && token.ExpiresAt.Before(c.at))
	}
	for _, want := range []string{
		"never used", "stale", "no end", "expired", "week", "month", "blocked", "service", "hostile", "bidi",
		"two of one name", "role admin", "role writer", "role reader", "custom", "inline", "grace", "mailtrap no end", "mailtrap expired",
	} {
		if !found[want] {
			t.Errorf("no %s", want)
		}
	}
}

func TestStart(t *testing.T) {
	s, err := sandbox.New(sandbox.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, addr := range []string{"0.0.0.0:0", ":0", "192.0.2.1:0", "example.com:80", "no port"} {
		if srv, err := s.Start(t.Context(), addr); err == nil {
			_ = srv.Close()
			t.Errorf("%s: accepted", addr)
		}
	}
	srv, err := s.Start(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.Get(srv.Access().Control + "access")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var access sandbox.Access
	if err := json.NewDecoder(resp.Body).Decode(&access); err != nil || access != srv.Access() {
		t.Fatalf("access %+v, error %v; want %+v", access, err, srv.Access())
	}
	if err := srv.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := http.Get(srv.URL()); err == nil {
		t.Fatal("still serving after Close")
	}
}

func TestStartEndsWithItsContext(t *testing.T) {
	s, err := sandbox.New(sandbox.Options{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	srv, err := s.Start(ctx, "localhost:0")
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	select {
	case <-srv.Done():
	case <-time.After(5 * time.Second):
		t.Fatal("still serving after its context ended")
	}
	if err := srv.Close(); err != nil {
		t.Fatal(err)
	}
}

// Every endpoint must answer each of these in its vendor's shape.
func TestUnknownPathsAndMethods(t *testing.T) {
	b := open(t, sandbox.Options{})
	a, ld, mt := b.access.Atlassian, b.access.LaunchDarkly, b.access.Mailtrap
	tests := []struct {
		method, url, auth string
		status            int
		body              string
	}{
		{"GET", a.BaseURL + "/nothing", "Bearer " + a.Credential, 404, `"code":404`},
		{"GET", a.BaseURL + "/users/x/nothing", "Bearer " + a.Credential, 404, `"key":"notFound"`},
		{"PUT", a.BaseURL + "/users/x/manage/api-tokens", "Bearer " + a.Credential, 405, `"key"`},
		{"GET", a.BaseURL + "/admin/api-access/v1/orgs/" + a.OrgID + "/nothing", "Bearer " + a.Credential, 404, `"code":404`},
		{"PUT", a.BaseURL + "/admin/api-access/v1/orgs/" + a.OrgID + "/api-tokens", "Bearer " + a.Credential, 405, `"status":405`},
		{"GET", ld.BaseURL + "/api/v2/nothing", ld.Credential, 404, `"code":"not_found"`},
		{"PUT", ld.BaseURL + "/api/v2/tokens", ld.Credential, 405, `"code":"method_not_allowed"`},
		{"GET", mt.BaseURL + "/api/nothing", "Bearer " + mt.Credential, 404, `"error":"Not Found"`},
		{"PATCH", mt.BaseURL + "/api/api_tokens", "Bearer " + mt.Credential, 405, `"error"`},
		{"GET", b.url + "/elsewhere", "", 404, "no such vendor"},
	}
	for _, test := range tests {
		r := b.send(test.method, test.url, "", "Authorization: "+test.auth).want(t, test.status, test.body)
		if test.status == 405 && r.header.Get("Allow") == "" {
			t.Errorf("%s %s: no Allow", test.method, test.url)
		}
	}
}

func TestTooLargeBody(t *testing.T) {
	t.Parallel()
	b := open(t, sandbox.Options{})
	b.send("POST", b.access.Mailtrap.BaseURL+"/api/api_tokens", strings.Repeat("x", 1<<20+1)).want(t, 413)
}

func BenchmarkPages(b *testing.B) {
	s, err := sandbox.New(sandbox.Options{AtlassianTokens: new(100_000), LaunchDarklyTokens: new(100_000), MailtrapTokens: new(0)})
	if err != nil {
		b.Fatal(err)
	}
	access := s.Access("http://127.0.0.1")
	bench := func(name, url, auth string) {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				r := httptest.NewRequest("GET", url, nil)
				r.Header.Set("Authorization", auth)
				w := httptest.NewRecorder()
				if s.Handler().ServeHTTP(w, r); w.Code != 200 {
					b.Fatal(w.Code)
				}
			}
		})
	}
	org := access.Atlassian.BaseURL + "/admin/api-access/v1/orgs/" + access.Atlassian.OrgID
	for _, size := range []int{100, 1000} {
		bench(fmt.Sprint("atlassian/", size), org+fmt.Sprint("/api-tokens?pageSize=", size), "Bearer "+access.Atlassian.Credential)
	}
	bench("atlassian/q", org+"/api-tokens/count?q=terraform", "Bearer "+access.Atlassian.Credential)
	bench("launchdarkly/100", access.LaunchDarkly.BaseURL+"/api/v2/tokens?limit=100&offset=50000", access.LaunchDarkly.Credential)
}

func BenchmarkNew(b *testing.B) {
	for b.Loop() {
		if _, err := sandbox.New(sandbox.Options{Tokens: 100_000}); err != nil {
			b.Fatal(err)
		}
	}
}
