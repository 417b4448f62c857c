package sandbox_test

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tokenreeve/tokenreeve/internal/sandbox"
)

type mtToken struct {
	ID        int64
	Name      string
	LastFour  string  `json:"last_4_digits"`
	CreatedBy string  `json:"created_by"`
	Expires   *string `json:"expires_at"`
	Resources []sandbox.MailtrapResource
	Token     string
}

// mt calls Mailtrap below the account as the admin token.
func (b *box) mt(method, path, body string) result {
	b.t.Helper()
	return b.mtAs(b.access.Mailtrap.Credential, method, path, body)
}

func (b *box) mtAs(secret, method, path, body string) result {
	b.t.Helper()
	m := b.access.Mailtrap
	return b.send(method, fmt.Sprintf("%s/api/accounts/%d%s", m.BaseURL, m.AccountID, path), body,
		"Authorization: Bearer "+secret, "Content-Type: application/json")
}

const accountAdmin = `{"resource_type":"account","resource_id":3229,"access_level":100}`

func (b *box) mint(body string) mtToken {
	b.t.Helper()
	return parse[mtToken](b.t, b.mt("POST", "/api_tokens", body).want(b.t, 200))
}

func (b *box) node(kind string) sandbox.MailtrapNode {
	nodes := b.MailtrapResources()
	return nodes[slices.IndexFunc(nodes, func(n sandbox.MailtrapNode) bool { return n.ResourceType == kind })]
}

func TestMailtrapAuthAndFamilies(t *testing.T) {
	b := open(t, sandbox.Options{})
	m := b.access.Mailtrap
	long, short := fmt.Sprintf("%s/api/accounts/%d/api_tokens", m.BaseURL, m.AccountID), m.BaseURL+"/api/api_tokens"
	for _, header := range []string{"Authorization: Bearer " + m.Credential, "Api-Token: " + m.Credential} {
		one, two := b.send("GET", long, "", header).want(t, 200), b.send("GET", short, "", header).want(t, 200)
		if string(one.body) != string(two.body) {
			t.Fatal("the families differ")
		}
		h := one.header
		if h.Get("X-Ratelimit-Limit") != "150" || h.Get("X-Ratelimit-Remaining") == "" || h.Get("X-Mailtrap-Version") != "v2" ||
			!strings.HasPrefix(h.Get("Etag"), `W/"`) || h.Get("X-Runtime") == "" || h.Get("Content-Type") != "application/json; charset=utf-8" {
			t.Fatalf("headers %v", h)
		}
	}
	for _, header := range []string{
		"X-None: 1", "Authorization: " + m.Credential, "Api-Token: x", "Authorization: Bearer " + strings.ToUpper(m.Credential),
		"Authorization: Basic x", "Authorization: Bearer " + strings.Repeat("0", 32),
	} {
		r := b.send("GET", long, "", header).want(t, 401, `{"error":"Incorrect API token"}`)
		if r.header.Get("Www-Authenticate") != `Token realm="Application"` || r.header.Get("X-Ratelimit-Limit") != "150" {
			t.Fatalf("headers %v", r.header)
		}
	}
	b.send("GET", m.BaseURL+"/api/accounts/1/api_tokens", "", "Api-Token: "+m.Credential).want(t, 403, `{"errors":"Account access forbidden"}`)
	b.send("GET", m.BaseURL+"/api/accounts", "", "Api-Token: "+m.Credential).want(t, 200, `"id":3229`, `"access_levels":[100]`)
	b.send("GET", m.BaseURL+"/api/accounts", "", "Api-Token: "+m.ViewerCredential).want(t, 200, `"access_levels":[10]`)
}

func TestMailtrapVisibility(t *testing.T) {
	b := open(t, sandbox.Options{Tokens: 300})
	m := b.access.Mailtrap
	all := parse[[]mtToken](t, b.mt("GET", "/api_tokens", "").want(t, 200))
	if len(all) != len(b.MailtrapTokens()) {
		t.Fatalf("admin sees %d; want %d", len(all), len(b.MailtrapTokens()))
	}
	some := parse[[]mtToken](t, b.mtAs(m.ProjectCredential, "GET", "/api_tokens", "").want(t, 200))
	if len(some) == 0 || len(some) >= len(all) {
		t.Fatalf("the project's token sees %d of %d", len(some), len(all))
	}
	b.mtAs(m.ProjectCredential, "GET", fmt.Sprint("/api_tokens/", m.TokenID), "").want(t, 404)
	b.mtAs(m.ProjectCredential, "DELETE", fmt.Sprint("/api_tokens/", m.TokenID), "").want(t, 404)
	b.mtAs(m.ProjectCredential, "POST", "/api_tokens", `{"name":"x","resources":[`+accountAdmin+`]}`).want(t, 403, `{"errors":"Access forbidden"}`)
	project := b.node("project")
	own := fmt.Sprintf(`{"name":"x","resources":[{"resource_type":"project","resource_id":"%d","access_level":10}]}`, project.ResourceID)
	b.mtAs(m.ProjectCredential, "POST", "/api_tokens", own).want(t, 200)
	for _, call := range []string{"GET /api_tokens", "POST /api_tokens", "GET /api_tokens/1", "DELETE /api_tokens/1", "POST /api_tokens/1/reset"} {
		method, path, _ := strings.Cut(call, " ")
		b.mtAs(m.ViewerCredential, method, path, "").want(t, 403, `{"errors":"Access forbidden"}`)
	}
	lists := open(t, sandbox.Options{Mailtrap: sandbox.MailtrapOptions{ViewerLists: true}})
	if seen := parse[[]mtToken](t, lists.mtAs(lists.access.Mailtrap.ViewerCredential, "GET", "/api_tokens", "").want(t, 200)); len(seen) != 1 {
		t.Fatalf("the viewer sees %d", len(seen))
	}
}

func TestMailtrapCreate(t *testing.T) {
	b := open(t, sandbox.Options{})
	token := b.mint(`{"name":"CI sender","resources":[` + accountAdmin + `]}`)
	if !regexp.MustCompile(`^[0-9a-f]{32}$`).MatchString(token.Token) || token.LastFour != token.Token[28:] || token.Expires != nil || token.CreatedBy != "tokenreeve" {
		t.Fatalf("token %+v", token)
	}
	r := b.mtAs(token.Token, "GET", fmt.Sprint("/api_tokens/", token.ID), "").want(t, 200, `"expires_at":null`, `"last_4_digits"`)
	if strings.Contains(string(r.body), token.Token) {
		t.Fatal("a read shows the secret")
	}
	r = b.mtAs(token.Token, "DELETE", fmt.Sprint("/api_tokens/", token.ID), "").want(t, 204) // itself
	if len(r.body) != 0 || r.header.Get("X-Ratelimit-Limit") == "" {
		t.Fatalf("answer %+v", r)
	}
	b.mtAs(token.Token, "GET", "/api_tokens", "").want(t, 401)
	b.mt("DELETE", fmt.Sprint("/api_tokens/", token.ID), "").want(t, 404, `{"error":"Not Found"}`)
	for _, id := range []string{"-1", "0", "x", "99999999999999999999"} {
		b.mt("GET", "/api_tokens/"+id, "").want(t, 404, `{"error":"Not Found"}`)
	}
}

func TestMailtrapCreateRules(t *testing.T) {
	c := newClock()
	b := open(t, sandbox.Options{Now: c.now})
	resources := `"resources":[` + accountAdmin + `]`
	one := func(kind, id, level string) string {
		return fmt.Sprintf(`{"name":"x","resources":[{"resource_type":%q,"resource_id":%s,"access_level":%s}]}`, kind, id, level)
	}
	sandboxID := fmt.Sprint(b.node("sandbox").ResourceID)
	tests := []struct {
		body   string
		status int
		want   string
	}{
		{`{"name":"x",` + resources + `,"expires_at":null}`, 200, `"expires_at":null`},
		{`{"name":"x",` + resources + `,"expires_at":"2027-01-01T00:00:00+02:00"}`, 200, `"expires_at":"2026-12-31T22:00:00.000Z"`},
		{`{"name":"x",` + resources + `,"expires_at":"2031-06-01T12:00:00Z"}`, 200, `"expires_at"`},
		{`{"name":"` + strings.Repeat("é", 255) + `",` + resources + `}`, 200, ``},
		{one("sandbox", sandboxID, "10"), 200, `"resource_type":"sandbox"`},
		{one("inbox", sandboxID, "10"), 200, `"resource_type":"sandbox"`},
		{one("account", `"3229"`, "100"), 200, `"resource_id":3229`},
		{`{}`, 422, `{"errors":{"base":["No permissions selected. Please choose at least one."]}}`},
		{`{"name":"","resources":[]}`, 422, `No permissions selected`},
		{``, 422, `No permissions selected`},
		{`{"name":"x","resources":"all"}`, 422, `No permissions selected`},
		{`{` + resources + `}`, 422, `{"errors":{"name":["can't be blank"]}}`},
		{`{"name":" ",` + resources + `}`, 422, `can't be blank`},
		{`{"name":7,` + resources + `}`, 422, `can't be blank`},
		{`{"name":"` + strings.Repeat("x", 256) + `",` + resources + `}`, 422, `too long`},
		{`{"name":"x",` + resources + `,"expires_at":"2026-06-01T11:59:59Z"}`, 422, `{"errors":{"base":["Expiration date must be in the future"]}}`},
		{`{"name":"x",` + resources + `,"expires_at":"2031-06-01T12:00:01Z"}`, 422, `5 years`},
		{`{"name":"x",` + resources + `,"expires_at":"soon"}`, 422, `"expires_at":["is invalid"]`},
		{`{"name":"x",` + resources + `,"expires_at":7}`, 422, `"expires_at":["is invalid"]`},
		{one("account", "1", "100"), 422, `"base":["Resource not found"]`},
		{one("galaxy", "1", "100"), 422, `Resource not found`},
		{one("account", `"x"`, "100"), 422, `Resource not found`},
		{one("account", "3229", "50"), 422, `Access level`},
		{`{"name":"x","resources":[{"resource_type":"account"}]}`, 422, `required`},
		{`{"name":`, 400, `errors`},
	}
	for _, test := range tests {
		if r := b.mt("POST", "/api_tokens", test.body); r.status != test.status || !strings.Contains(string(r.body), test.want) {
			t.Errorf("%s: status %d, %s; want %d, %s", test.body, r.status, r.body, test.status, test.want)
		}
	}
	b.send("POST", b.access.Mailtrap.BaseURL+"/api/api_tokens", `{"name":"x",`+resources+`}`, "Api-Token: "+b.access.Mailtrap.Credential).
		want(t, 422, "No permissions selected")
}

func TestMailtrapExpiredToken(t *testing.T) {
	c := newClock()
	b := open(t, sandbox.Options{Now: c.now})
	token := b.mint(`{"name":"x","resources":[` + accountAdmin + `],"expires_at":"2026-06-01T13:00:00Z"}`)
	b.mtAs(token.Token, "GET", "/api_tokens", "").want(t, 200)
	c.at = c.at.Add(time.Hour)
	b.mtAs(token.Token, "GET", "/api_tokens", "").want(t, 401)
	b.mt("GET", fmt.Sprint("/api_tokens/", token.ID), "").want(t, 200)
}

func TestMailtrapOptions(t *testing.T) {
	c := newClock()
	old := open(t, sandbox.Options{Now: c.now, Mailtrap: sandbox.MailtrapOptions{IgnoreExpiresAt: true, OldResourceWords: true}})
	old.mt("POST", "/api_tokens", `{"name":"x","resources":[`+accountAdmin+`],"expires_at":"2020-01-01"}`).want(t, 200, `"expires_at":null`)
	for word, status := range map[string]int{"inbox": 200, "sandbox": 422} {
		old.mt("POST", "/api_tokens", fmt.Sprintf(`{"name":"x","resources":[{"resource_type":%q,"resource_id":%d,"access_level":10}]}`,
			word, old.node("sandbox").ResourceID)).want(t, status)
	}
	old.mt("GET", "/permissions/resources", "").want(t, 200, `"type":"inbox"`, `"type":"sending_domain"`)
	old.mt("GET", "/api_tokens", "").want(t, 200, `"resource_type":"inbox"`)
	year := open(t, sandbox.Options{Now: c.now, Mailtrap: sandbox.MailtrapOptions{DefaultLife: 365 * 24 * time.Hour}})
	year.mt("POST", "/api_tokens", `{"name":"x","resources":[`+accountAdmin+`]}`).want(t, 200, `"expires_at":"2027-06-01T12:00:00.000Z"`)
	year.mt("POST", "/api_tokens", `{"name":"x","resources":[`+accountAdmin+`],"expires_at":null}`).want(t, 200, `"expires_at":null`)
}

func TestMailtrapReset(t *testing.T) {
	c := newClock()
	b := open(t, sandbox.Options{Now: c.now})
	works := func(secret string) bool { return b.mtAs(secret, "GET", "/api_tokens", "").status == 200 }
	old := b.mint(`{"name":"CI sender","resources":[` + accountAdmin + `]}`)
	path := fmt.Sprint("/api_tokens/", old.ID)
	fresh := parse[mtToken](t, b.mt("POST", path+"/reset", "").want(t, 200))
	if fresh.ID == old.ID || fresh.Name != fmt.Sprint("CI sender ", fresh.ID) || fresh.CreatedBy != "tokenreeve" || fresh.Expires != nil ||
		!slices.Equal(fresh.Resources, old.Resources) {
		t.Fatalf("new record %+v", fresh)
	}
	b.mt("GET", path, "").want(t, 200, `"name":"CI sender"`, `"expires_at":"2026-06-02T00:00:00.000Z"`)
	if !works(old.Token) || !works(fresh.Token) {
		t.Fatal("both secrets work in the grace period")
	}
	b.mt("POST", path+"/reset", "").want(t, 422, `{"errors":{"base":["Only tokens without expiration can be reset"]}}`)
	c.at = c.at.Add(12 * time.Hour)
	if works(old.Token) || !works(fresh.Token) {
		t.Fatal("after the grace period only the new secret works")
	}
	b.mt("GET", path, "").want(t, 200)
	c.at = c.at.Add(24 * time.Hour)
	b.mt("GET", path, "").want(t, 404)
	if slices.ContainsFunc(b.MailtrapTokens(), func(t sandbox.MailtrapToken) bool { return t.ID == old.ID }) {
		t.Fatal("the old record is still there")
	}
	next := parse[mtToken](t, b.mt("POST", fmt.Sprint("/api_tokens/", fresh.ID, "/reset"), `{"expires_at":"2026-12-01T00:00:00Z"}`).want(t, 200))
	if next.Name != fmt.Sprint("CI sender ", fresh.ID, " ", next.ID) || next.Expires == nil {
		t.Fatalf("record %+v", next)
	}
	b.mt("POST", fmt.Sprint("/api_tokens/", next.ID, "/reset"), "").want(t, 422)
	b.mt("DELETE", fmt.Sprint("/api_tokens/", fresh.ID), "").want(t, 204) // in its grace period
	if works(fresh.Token) {
		t.Fatal("a deleted token works")
	}
	b.mt("POST", "/api_tokens/1/reset", "").want(t, 404)
}

func TestMailtrapResetRules(t *testing.T) {
	b := open(t, sandbox.Options{Mailtrap: sandbox.MailtrapOptions{ResetExpiring: true, Grace: time.Minute}})
	add := func(in sandbox.MailtrapToken) string {
		token, err := b.AddMailtrapToken(in)
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprint("/api_tokens/", token.ID, "/reset")
	}
	b.mt("POST", add(sandbox.MailtrapToken{Name: "x", ExpiresAt: time.Now().Add(time.Hour)}), "").want(t, 200)
	b.mt("POST", add(sandbox.MailtrapToken{Name: "x", ExpiresAt: time.Now().Add(-time.Hour)}), "").want(t, 422)
	b.mt("POST", add(sandbox.MailtrapToken{Name: strings.Repeat("x", 250)}), "").want(t, 422, "too long")
	b.mt("POST", add(sandbox.MailtrapToken{Name: "x"}), `{"expires_at":"2001-01-01"}`).want(t, 422, "future")
	b.mt("POST", add(sandbox.MailtrapToken{Name: "x"}), `{`).want(t, 400)
}

func TestMailtrapLastDomainToken(t *testing.T) {
	for _, allowed := range []bool{false, true} {
		b := open(t, sandbox.Options{MailtrapTokens: new(0), Mailtrap: sandbox.MailtrapOptions{DeleteLastDomainToken: allowed}})
		resources := []sandbox.MailtrapResource{{ResourceType: "domain", ResourceID: b.node("domain").ResourceID, AccessLevel: 100}}
		first, err := b.AddMailtrapToken(sandbox.MailtrapToken{Name: "one", Resources: resources})
		if err != nil {
			t.Fatal(err)
		}
		second, err := b.AddMailtrapToken(sandbox.MailtrapToken{Name: "two", Resources: resources})
		if err != nil {
			t.Fatal(err)
		}
		b.mt("DELETE", fmt.Sprint("/api_tokens/", first.ID), "").want(t, 204)
		want := 422
		if allowed {
			want = 204
		}
		b.mt("DELETE", fmt.Sprint("/api_tokens/", second.ID), "").want(t, want)
	}
}

func TestMailtrapResourceTree(t *testing.T) {
	b := open(t, sandbox.Options{})
	type node struct {
		ID          int64
		Type        string
		AccessLevel int `json:"access_level"`
		Resources   []node
	}
	long := b.mt("GET", "/permissions/resources", "").want(t, 200)
	short := b.send("GET", b.access.Mailtrap.BaseURL+"/api/permissions/resources", "", "Api-Token: "+b.access.Mailtrap.Credential).want(t, 200)
	tree := parse[[]node](t, long)
	if string(long.body) != string(short.body) || len(tree) != 1 || tree[0].Type != "account" || len(tree[0].Resources) != 6 ||
		tree[0].Resources[0].Resources[0].Type != "sandbox" || tree[0].AccessLevel != 100 {
		t.Fatalf("tree %+v", tree)
	}
	project := parse[[]node](t, b.mtAs(b.access.Mailtrap.ProjectCredential, "GET", "/permissions/resources", "").want(t, 200))
	if len(project) != 1 || project[0].Type != "project" {
		t.Fatalf("tree %+v", project)
	}
	b.mtAs(b.access.Mailtrap.ViewerCredential, "GET", "/permissions/resources", "").want(t, 200, "[]")
}

func TestMailtrapRateLimit(t *testing.T) {
	c := newClock()
	b := open(t, sandbox.Options{Now: c.now, Mailtrap: sandbox.MailtrapOptions{RetryAfter: true, Budget: sandbox.Budget{Requests: 1}}})
	b.mt("GET", "/api_tokens", "").want(t, 200)
	r := b.mt("GET", "/api_tokens", "").want(t, 429, `{"errors":"Rate limit exceeded"}`)
	if r.header.Get("X-Ratelimit-Remaining") != "0" || r.header.Get("Retry-After") != "10" {
		t.Fatalf("headers %v", r.header)
	}
	b.mtAs(b.access.Mailtrap.ProjectCredential, "GET", "/api_tokens", "").want(t, 200) // each token has its own
	c.at = c.at.Add(10 * time.Second)
	b.mt("GET", "/api_tokens", "").want(t, 200)
}

func TestMailtrapRequestID(t *testing.T) {
	plain := open(t, sandbox.Options{})
	if r := plain.mt("GET", "/api_tokens", "").want(t, 200); r.header.Get("X-Request-Id") != "" {
		t.Errorf("request id is %q", r.header.Get("X-Request-Id"))
	}
	b := open(t, sandbox.Options{Mailtrap: sandbox.MailtrapOptions{RequestID: true}})
	first, second := b.mt("GET", "/api_tokens", "").want(t, 200), b.mt("GET", "/api_tokens/1", "").want(t, 404)
	if first.header.Get("X-Request-Id") == "" || first.header.Get("X-Request-Id") == second.header.Get("X-Request-Id") {
		t.Errorf("request ids are %q and %q", first.header.Get("X-Request-Id"), second.header.Get("X-Request-Id"))
	}
}
