package sandbox_test

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tokenreeve/tokenreeve/internal/sandbox"
)

type ldToken struct {
	ID                string `json:"_id"`
	OwnerID           string
	MemberID          string
	Member            struct{ Email, Role string } `json:"_member"`
	Name              string
	Description       string
	CreationDate      int64
	LastModified      int64
	LastUsed          *int64
	Role              string
	CustomRoleIDs     []string
	InlineRole        []sandbox.Statement
	Token             string
	ServiceToken      bool
	DefaultAPIVersion int
}

type ldPage struct {
	Items      []ldToken
	TotalCount *int
	Links      map[string]struct{ Href, Type string } `json:"_links"`
}

// ld calls LaunchDarkly as the admin service token, with the usual headers.
func (b *box) ld(method, path, body string) result {
	b.t.Helper()
	return b.ldAs(b.access.LaunchDarkly.Credential, method, path, body)
}

func (b *box) ldAs(secret, method, path, body string) result {
	b.t.Helper()
	return b.send(method, b.access.LaunchDarkly.BaseURL+"/api/v2"+path, body,
		"Authorization: "+secret, "LD-API-Version: 20240415", "Content-Type: application/json")
}

func (b *box) ldToken(ok func(sandbox.LaunchDarklyToken) bool) sandbox.LaunchDarklyToken {
	b.t.Helper()
	tokens := b.LaunchDarklyTokens()
	i := slices.IndexFunc(tokens, func(t sandbox.LaunchDarklyToken) bool { return t.Credential == "" && ok(t) })
	if i < 0 {
		b.t.Fatal("no such token")
	}
	return tokens[i]
}

func TestLaunchDarklyAuth(t *testing.T) {
	b := open(t, sandbox.Options{})
	l := b.access.LaunchDarkly
	for _, bad := range []string{
		"", "Bearer " + l.Credential, "api-x", strings.ToUpper(l.Credential), l.Credential + " ", "api-" + strings.Repeat("0", 36),
		"sdk-" + l.Credential[4:], "api-00000000-0000-0000-0000-000000000000",
	} {
		r := b.ldAs(bad, "GET", "/tokens", "")
		if bad == l.Credential+" " { // net/http trims it
			r.want(t, 200)
			continue
		}
		r.want(t, 401, `"code":"unauthorized"`, `"message":"Invalid access token"`)
	}
	for _, good := range []string{l.Credential, l.ReaderCredential, l.WriterCredential, l.PersonalAdminCredential, l.CustomCredential, l.OldVersionCredential} {
		b.ldAs(good, "GET", "/tokens", "").want(t, 200)
	}
	b.send("GET", l.BaseURL+"/api/v2/tokens", "", "Authorization: "+l.Credential, "LD-API-Version: 1").want(t, 400, "invalid_request")
}

func TestLaunchDarklyListing(t *testing.T) {
	b := open(t, sandbox.Options{Tokens: 900})
	ids := []string{}
	path := "/tokens?showAll=true"
	for pages := 0; path != ""; pages++ {
		page := parse[ldPage](t, b.ld("GET", path, "").want(t, 200))
		if *page.TotalCount != 300 || (pages < 12 && len(page.Items) != 25) {
			t.Fatalf("total %d, %d items", *page.TotalCount, len(page.Items))
		}
		for _, token := range page.Items {
			ids = append(ids, token.ID)
			if len(token.Token) != 4 || token.LastUsed == nil || token.OwnerID == token.MemberID || token.Member.Email == "" {
				t.Fatalf("token %+v", token)
			}
		}
		path = strings.TrimPrefix(page.Links["next"].Href, "/api/v2")
		if pages > 0 && (page.Links["prev"].Href == "" || page.Links["first"].Href == "") {
			t.Fatalf("links %v", page.Links)
		}
	}
	slices.Sort(ids)
	if len(slices.Compact(ids)) != 300 {
		t.Fatalf("%d tokens; want 300", len(ids))
	}
	for query, want := range map[string]int{"limit=10": 10, "limit=1000": 100, "limit=0": 25, "offset=299": 1, "offset=300": 0, "offset=9223372036854775807": 0} {
		if got := len(parse[ldPage](t, b.ld("GET", "/tokens?"+query, "").want(t, 200)).Items); got != want {
			t.Errorf("%s: %d items; want %d", query, got, want)
		}
	}
	for _, query := range []string{"limit=x", "limit=-1", "offset=-1", "offset=1.5"} {
		b.ld("GET", "/tokens?"+query, "").want(t, 400, "invalid_request")
	}
}

func TestLaunchDarklyListingOptions(t *testing.T) {
	b := open(t, sandbox.Options{Tokens: 900, LaunchDarkly: sandbox.LaunchDarklyOptions{MaxLimit: 50, TotalCountIsPage: true, OmitNeverUsed: true}})
	page := parse[ldPage](t, b.ld("GET", "/tokens?limit=1000", "").want(t, 200))
	if len(page.Items) != 50 || *page.TotalCount != 50 {
		t.Fatalf("%d items, total %d", len(page.Items), *page.TotalCount)
	}
	if !slices.ContainsFunc(page.Items, func(t ldToken) bool { return t.LastUsed == nil }) {
		t.Fatal("no token without lastUsed")
	}
}

func TestLaunchDarklyVersions(t *testing.T) {
	b := open(t, sandbox.Options{Tokens: 900})
	l := b.access.LaunchDarkly
	for name, test := range map[string]struct {
		secret, version string
		want            int
	}{
		"own version of a new token": {l.Credential, "", 25},
		"own version of an old one":  {l.OldVersionCredential, "", 300},
		"header wins":                {l.OldVersionCredential, "20240415", 25},
		"old header":                 {l.Credential, "20191212", 300},
		"beta":                       {l.Credential, "beta", 25},
	} {
		headers := []string{"Authorization: " + test.secret}
		if test.version != "" {
			headers = append(headers, "LD-API-Version: "+test.version)
		}
		page := parse[ldPage](t, b.send("GET", l.BaseURL+"/api/v2/tokens", "", headers...).want(t, 200))
		if len(page.Items) != test.want || (page.TotalCount == nil) != (test.want == 300) {
			t.Errorf("%s: %d items, total %v", name, len(page.Items), page.TotalCount)
		}
	}
}

func TestLaunchDarklyVisibility(t *testing.T) {
	b := open(t, sandbox.Options{Tokens: 900, LaunchDarkly: sandbox.LaunchDarklyOptions{MaxLimit: 1000}})
	l, tokens := b.access.LaunchDarkly, b.LaunchDarklyTokens()
	owner := func(credential string) string {
		return tokens[slices.IndexFunc(tokens, func(t sandbox.LaunchDarklyToken) bool { return t.Credential == credential })].MemberID
	}
	count := func(ok func(sandbox.LaunchDarklyToken) bool) int {
		n := 0
		for _, token := range tokens {
			if ok(token) {
				n++
			}
		}
		return n
	}
	services := count(func(t sandbox.LaunchDarklyToken) bool { return t.ServiceToken })
	and := func(member string) int {
		return services + count(func(t sandbox.LaunchDarklyToken) bool { return !t.ServiceToken && t.MemberID == member })
	}
	for name, test := range map[string]struct {
		secret, query string
		want          int
	}{
		"admin service":          {l.Credential, "", 300},
		"writer service":         {l.WriterCredential, "&showAll=true", services},
		"reader":                 {l.ReaderCredential, "", and(owner("reader_credential"))},
		"reader asks all":        {l.ReaderCredential, "&showAll=true", and(owner("reader_credential"))},
		"personal admin":         {l.PersonalAdminCredential, "", and(owner("personal_admin_credential"))},
		"personal admin all":     {l.PersonalAdminCredential, "&showAll=true", 300},
		"custom role is no admn": {l.CustomCredential, "&showAll=true", services},
	} {
		page := parse[ldPage](t, b.ldAs(test.secret, "GET", "/tokens?limit=1000"+test.query, "").want(t, 200))
		if len(page.Items) != test.want {
			t.Errorf("%s: %d tokens; want %d", name, len(page.Items), test.want)
		}
	}
	isHidden := func(t sandbox.LaunchDarklyToken) bool {
		return !t.ServiceToken && t.MemberID != owner("reader_credential")
	}
	hidden := b.ldToken(isHidden)
	b.ldAs(l.ReaderCredential, "GET", "/tokens/"+hidden.ID, "").want(t, 404, "not_found")
	b.ldAs(l.PersonalAdminCredential, "GET", "/tokens/"+hidden.ID, "").want(t, 200, hidden.ID)
	forbids := open(t, sandbox.Options{Tokens: 900, LaunchDarkly: sandbox.LaunchDarklyOptions{HiddenStatus: 403}})
	forbids.ldAs(forbids.access.LaunchDarkly.ReaderCredential, "GET", "/tokens/"+forbids.ldToken(isHidden).ID, "").want(t, 403, `"forbidden"`)
}

func TestLaunchDarklyCreate(t *testing.T) {
	b := open(t, sandbox.Options{})
	r := b.ld("POST", "/tokens", `{"name":"ci","description":"d","role":"writer","serviceToken":true,"unknown":1}`).want(t, 201)
	token := parse[ldToken](t, r)
	if !regexp.MustCompile(`^api-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`).MatchString(token.Token) || !token.ServiceToken ||
		token.DefaultAPIVersion != 20240415 || *token.LastUsed != 0 {
		t.Fatalf("token %+v", token)
	}
	read := parse[ldToken](t, b.ld("GET", "/tokens/"+token.ID, "").want(t, 200))
	if read.Token != token.Token[len(token.Token)-4:] || read.Name != "ci" || read.Role != "writer" {
		t.Fatalf("token %+v", read)
	}
	b.ldAs(token.Token, "GET", "/caller-identity", "").want(t, 200, `"tokenId":"`+token.ID+`"`, `"serviceToken":true`, `"tokenName":"ci"`)
	if used := parse[ldToken](t, b.ld("GET", "/tokens/"+token.ID, "")).LastUsed; *used == 0 {
		t.Fatal("lastUsed did not follow")
	}
	b.ld("DELETE", "/tokens/"+token.ID, "").want(t, 204)
	b.ld("DELETE", "/tokens/"+token.ID, "").want(t, 404, "Invalid resource identifier")
	b.ldAs(token.Token, "GET", "/caller-identity", "").want(t, 401)
}

func TestLaunchDarklyCreateRules(t *testing.T) {
	b := open(t, sandbox.Options{})
	l, role := b.access.LaunchDarkly, b.LaunchDarklyRoles()[0]
	statement := `{"effect":"allow","resources":["proj/*"],"actions":["viewProject"]}`
	tests := []struct {
		secret, body string
		status       int
	}{
		{l.Credential, `{"role":"admin"}`, 201},
		{l.Credential, `{"customRoleIds":["` + role.ID + `"]}`, 201},
		{l.Credential, `{"customRoleIds":["` + role.Key + `"],"inlineRole":[]}`, 201},
		{l.Credential, `{"inlineRole":[` + statement + `],"defaultApiVersion":20160426}`, 201},
		{l.Credential, `{}`, 400},
		{l.Credential, `{"role":"reader","customRoleIds":["` + role.ID + `"]}`, 400},
		{l.Credential, `{"role":"owner"}`, 400},
		{l.Credential, `{"role":7}`, 400},
		{l.Credential, `{"role":"reader"} x`, 400},
		{l.Credential, `not json`, 400},
		{l.Credential, `{"customRoleIds":["nothing"]}`, 400},
		{l.Credential, `{"role":"reader","defaultApiVersion":3}`, 400},
		{l.Credential, `{"inlineRole":[{"effect":"maybe","resources":["*"],"actions":["*"]}]}`, 400},
		{l.Credential, `{"inlineRole":[{"effect":"allow","resources":["*"],"notResources":["x"],"actions":["*"]}]}`, 400},
		{l.Credential, `{"inlineRole":[{"effect":"allow","resources":["*"]}]}`, 400},
		{l.ReaderCredential, `{"role":"reader"}`, 403},
		{l.WriterCredential, `{"role":"reader"}`, 403},
		{l.CustomCredential, `{"role":"reader"}`, 201},
		{l.CustomCredential, `{"role":"admin"}`, 403},
		{l.CustomCredential, `{"customRoleIds":["` + role.ID + `"]}`, 403},
		{l.CustomCredential, `{"customRoleIds":["token-admin"]}`, 201},
		{l.CustomCredential, `{"inlineRole":[` + statement + `]}`, 403},
	}
	for _, test := range tests {
		if r := b.ldAs(test.secret, "POST", "/tokens", test.body); r.status != test.status {
			t.Errorf("%s: status %d, %s; want %d", test.body, r.status, r.body, test.status)
		}
	}
	b.send("POST", l.BaseURL+"/api/v2/tokens", `{"role":"reader"}`, "Authorization: "+l.Credential).want(t, 400, "Content-Type")
}

func TestLaunchDarklyInlineRoleManagesTokens(t *testing.T) {
	b := open(t, sandbox.Options{})
	mint := func(policy string) string {
		return parse[ldToken](t, b.ld("POST", "/tokens", `{"serviceToken":true,"inlineRole":`+policy+`}`).want(t, 201)).Token
	}
	for policy, want := range map[string]int{
		`[{"effect":"allow","resources":["service-token/*"],"actions":["createAccessToken"]}]`:                                                      201,
		`[{"effect":"allow","resources":["service-token/*"],"actions":["create*"]}]`:                                                                201,
		`[{"effect":"allow","resources":["service-token/*"],"actions":["deleteAccessToken"]}]`:                                                      403,
		`[{"effect":"allow","notResources":["proj/*"],"notActions":["deleteAccessToken"]}]`:                                                         201,
		`[{"effect":"allow","resources":["*"],"actions":["*"]},{"effect":"deny","resources":["member/*:token/*"],"actions":["createAccessToken"]}]`: 403,
		`[{"effect":"allow","resources":["proj/*"],"actions":["*"]}]`:                                                                               403,
	} {
		if r := b.ldAs(mint(policy), "POST", "/tokens", `{"role":"reader"}`); r.status != want {
			t.Errorf("%s: status %d; want %d", policy, r.status, want)
		}
	}
}

func TestLaunchDarklyPatch(t *testing.T) {
	b := open(t, sandbox.Options{})
	role := b.LaunchDarklyRoles()[0]
	statement := `{"effect":"allow","resources":["proj/*"],"actions":["viewProject"]}`
	tests := []struct {
		name, patch string
		status      int
		want        string
	}{
		{"name", `[{"op":"replace","path":"/name","value":"new name"}]`, 200, `"name":"new name"`},
		{"commented", `{"comment":"why","patch":[{"op":"add","path":"/description","value":"d2"}]}`, 200, `"description":"d2"`},
		{"role", `[{"op":"replace","path":"/role","value":"writer"}]`, 200, `"role":"writer"`},
		{"to custom", `[{"op":"remove","path":"/role"},{"op":"replace","path":"/customRoleIds","value":["` + role.ID + `"]}]`, 200, `"customRoleIds":["` + role.ID + `"]`},
		{"to inline", `[{"op":"remove","path":"/role"},{"op":"add","path":"/inlineRole","value":[` + statement + `]}]`, 200, `"inlineRole":[{"effect":"allow"`},
		{"test holds", `[{"op":"test","path":"/role","value":"reader"},{"op":"replace","path":"/role","value":"admin"}]`, 200, `"role":"admin"`},
		{"empty equals absent", `[{"op":"test","path":"/customRoleIds","value":[]},{"op":"replace","path":"/name","value":"x"}]`, 200, ``},
		{"deep", `[{"op":"remove","path":"/role"},{"op":"add","path":"/inlineRole","value":[]},{"op":"add","path":"/inlineRole/-","value":` + statement +
			`},{"op":"replace","path":"/inlineRole/0/effect","value":"deny"},{"op":"test","path":"/inlineRole/0/actions/0","value":"viewProject"}]`, 200, `"effect":"deny"`},
		{"remove name", `[{"op":"remove","path":"/name"}]`, 200, ``},
		{"none", `[]`, 200, ``},
		{"both kinds", `[{"op":"replace","path":"/customRoleIds","value":["` + role.ID + `"]}]`, 400, `invalid_request`},
		{"no kind", `[{"op":"remove","path":"/role"}]`, 400, `invalid_request`},
		{"key, not id", `[{"op":"remove","path":"/role"},{"op":"add","path":"/customRoleIds","value":["` + role.Key + `"]}]`, 400, `invalid_request`},
		{"wrong type", `[{"op":"replace","path":"/name","value":7}]`, 400, `invalid_request`},
		{"not json", `nope`, 400, `invalid_request`},
		{"an object", `{"name":"x"}`, 400, `invalid_request`},
		{"unknown op", `[{"op":"rename","path":"/name","value":"x"}]`, 400, `invalid_request`},
		{"no value", `[{"op":"replace","path":"/name"}]`, 400, `invalid_request`},
		{"no slash", `[{"op":"replace","path":"name","value":"x"}]`, 400, `invalid_request`},
		{"unset remove", `[{"op":"remove","path":"/inlineRole"}]`, 422, `patch_failed`},
		{"service", `[{"op":"replace","path":"/serviceToken","value":true}]`, 422, `patch_failed`},
		{"version", `[{"op":"replace","path":"/defaultApiVersion","value":20240415}]`, 422, `patch_failed`},
		{"id", `[{"op":"test","path":"/_id","value":"x"}]`, 422, `patch_failed`},
		{"index", `[{"op":"remove","path":"/customRoleIds/3"}]`, 422, `patch_failed`},
		{"into text", `[{"op":"add","path":"/name/0","value":"x"}]`, 422, `patch_failed`},
		{"test fails", `[{"op":"test","path":"/role","value":"admin"}]`, 409, `optimistic_locking_error`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			token, err := b.AddLaunchDarklyToken(sandbox.LaunchDarklyToken{Name: "before", Role: "reader"})
			if err != nil {
				t.Fatal(err)
			}
			b.ld("PATCH", "/tokens/"+token.ID, test.patch).want(t, test.status, test.want)
			if after := b.ldToken(func(t sandbox.LaunchDarklyToken) bool { return t.ID == token.ID }); test.status != 200 && (after.Name != "before" || after.Role != "reader") {
				t.Fatalf("a refused patch changed %+v", after)
			}
		})
	}
	b.ld("PATCH", "/tokens/none", `[]`).want(t, 404)
	b.ldAs(b.access.LaunchDarkly.ReaderCredential, "PATCH", "/tokens/none", `[]`).want(t, 403)
	own := b.access.LaunchDarkly.TokenID
	b.ldAs(b.access.LaunchDarkly.CustomCredential, "PATCH", "/tokens/"+own, `[{"op":"replace","path":"/name","value":"x"}]`).want(t, 403)
}

func TestLaunchDarklyPatchOptions(t *testing.T) {
	b := open(t, sandbox.Options{LaunchDarkly: sandbox.LaunchDarklyOptions{TestFailStatus: 422, ImmutableStatus: 400}})
	path := "/tokens/" + b.ldToken(func(t sandbox.LaunchDarklyToken) bool { return t.Role == "reader" }).ID
	b.ld("PATCH", path, `[{"op":"test","path":"/role","value":"admin"}]`).want(t, 422)
	b.ld("PATCH", path, `[{"op":"replace","path":"/serviceToken","value":true}]`).want(t, 400)
}

func TestLaunchDarklyReset(t *testing.T) {
	c := newClock()
	b := open(t, sandbox.Options{Now: c.now})
	l := b.access.LaunchDarkly
	works := func(secret string) bool { return b.ldAs(secret, "GET", "/caller-identity", "").status == 200 }
	in := func(d time.Duration) string { return strconv.FormatInt(c.at.Add(d).UnixMilli(), 10) }
	reset := func(id, query string) string {
		token := parse[ldToken](t, b.ld("POST", "/tokens/"+id+"/reset"+query, "").want(t, 200, id))
		return token.Token
	}
	token := parse[ldToken](t, b.ld("POST", "/tokens", `{"role":"reader","serviceToken":true}`).want(t, 201))

	second := reset(token.ID, "?expiry="+in(time.Hour))
	if !works(token.Token) || !works(second) || second == token.Token {
		t.Fatal("the old or the new secret does not work")
	}
	c.at = c.at.Add(time.Hour)
	if works(token.Token) || !works(second) {
		t.Fatal("the old secret outlived its expiry, or the new one did not")
	}
	third := reset(token.ID, "")
	if works(second) || !works(third) {
		t.Fatal("without expiry the old secret must die at once")
	}
	fourth := reset(token.ID, "?expiry="+in(-time.Second))
	if works(third) || !works(fourth) {
		t.Fatal("a past expiry counts as none")
	}
	fifth := reset(token.ID, "?expiry="+in(time.Hour))
	sixth := reset(token.ID, "?expiry="+in(time.Hour))
	if works(fourth) || !works(fifth) || !works(sixth) {
		t.Fatal("a repeated reset keeps only the secret before")
	}
	b.ld("DELETE", "/tokens/"+token.ID, "").want(t, 204)
	if works(fifth) || works(sixth) {
		t.Fatal("a secret survived its token")
	}
	for _, secret := range []string{token.Token, second, third, fourth, fifth, sixth} {
		if !slices.Contains(b.Secrets(), secret) {
			t.Fatal("Secrets forgot one")
		}
	}

	own := l.TokenID
	b.ld("POST", "/tokens/"+own+"/reset?expiry=tomorrow", "").want(t, 400, "invalid_request")
	b.ld("POST", "/tokens/none/reset", "").want(t, 404)
	b.ldAs(l.WriterCredential, "POST", "/tokens/"+own+"/reset", "").want(t, 403)
	b.send("POST", l.BaseURL+"/api/v2/tokens/"+own+"/reset", "", "Authorization: "+l.Credential).want(t, 400)
}

func TestLaunchDarklyResetOptions(t *testing.T) {
	b := open(t, sandbox.Options{LaunchDarkly: sandbox.LaunchDarklyOptions{KeepOverlaps: true, ResetWithoutContentType: true}})
	token := b.ldToken(func(t sandbox.LaunchDarklyToken) bool { return t.ServiceToken })
	url := b.access.LaunchDarkly.BaseURL + "/api/v2/tokens/" + token.ID + "/reset?expiry=" + strconv.FormatInt(time.Now().Add(time.Hour).UnixMilli(), 10)
	for range 2 {
		b.send("POST", url, "", "Authorization: "+b.access.LaunchDarkly.Credential).want(t, 200)
	}
	b.ldAs(token.Secret, "GET", "/caller-identity", "").want(t, 200)
	if after := b.ldToken(func(t sandbox.LaunchDarklyToken) bool { return t.ID == token.ID }); len(after.OldSecrets) != 2 || after.OldSecrets[0] != token.Secret {
		t.Fatalf("old secrets %v", after.OldSecrets)
	}
}

func TestLaunchDarklyRemovedMember(t *testing.T) {
	b := open(t, sandbox.Options{})
	personal := b.ldToken(func(t sandbox.LaunchDarklyToken) bool { return !t.ServiceToken })
	service, err := b.AddLaunchDarklyToken(sandbox.LaunchDarklyToken{MemberID: personal.MemberID, ServiceToken: true})
	if err != nil {
		t.Fatal(err)
	}
	b.ldAs(personal.Secret, "GET", "/caller-identity", "").want(t, 200)
	if err := b.UpdateLaunchDarklyMember(personal.MemberID, func(m *sandbox.LaunchDarklyMember) { m.Removed = true }); err != nil {
		t.Fatal(err)
	}
	b.ldAs(personal.Secret, "GET", "/caller-identity", "").want(t, 401)
	b.ldAs(service.Secret, "GET", "/caller-identity", "").want(t, 200)
}

func TestLaunchDarklyRateLimits(t *testing.T) {
	c := newClock()
	b := open(t, sandbox.Options{Now: c.now, LaunchDarkly: sandbox.LaunchDarklyOptions{
		RetryAfter:   true,
		GlobalBudget: sandbox.Budget{Requests: 6}, RouteBudget: sandbox.Budget{Requests: 2}, TokenBudget: sandbox.Budget{Requests: 4},
	}})
	r := b.ld("GET", "/tokens", "").want(t, 200)
	for header, want := range map[string]string{
		"Global-Limit": "6", "Global-Remaining": "5", "Route-Limit": "2", "Route-Remaining": "1",
		"Auth-Token-Limit": "4", "Auth-Token-Remaining": "3", "Reset": fmt.Sprint(c.at.UnixMilli() + 10_000), "Auth-Token-Reset": fmt.Sprint(c.at.UnixMilli() + 10_000),
	} {
		if got := r.header.Get("X-Ratelimit-" + header); got != want {
			t.Errorf("%s is %q; want %q", header, got, want)
		}
	}
	b.ld("GET", "/tokens", "").want(t, 200)
	r = b.ld("GET", "/tokens", "").want(t, 429, "rate_limited")
	if r.header.Get("Retry-After") != "10" || r.header.Get("X-Ratelimit-Route-Remaining") != "0" {
		t.Fatalf("headers %v", r.header)
	}
	b.ld("GET", "/caller-identity", "").want(t, 200)
	b.ld("GET", "/caller-identity", "").want(t, 429) // the token's budget
	c.at = c.at.Add(10 * time.Second)
	b.ld("GET", "/tokens", "").want(t, 200)
}
