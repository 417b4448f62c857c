package sandbox_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tokenreeve/tokenreeve/internal/sandbox"
)

type accessToken struct {
	ID           string
	Label        string
	Status       string
	CreatedAt    string
	ExpiresAt    *string
	LastActiveAt *string
	User         struct{ ID, OrgID, Name, Email string }
	Scopes       []string
}

type accessPage struct {
	Data  []accessToken
	Links struct{ Self, Next, Prev string }
}

// org calls API Access with the unscoped key.
func (b *box) org(method, path, body string) result {
	b.t.Helper()
	return b.orgAs(b.access.Atlassian.Credential, method, path, body)
}

func (b *box) orgAs(key, method, path, body string) result {
	b.t.Helper()
	a := b.access.Atlassian
	return b.send(method, a.BaseURL+"/admin/api-access/v1/orgs/"+a.OrgID+path, body, "Authorization: Bearer "+key, "Content-Type: application/json")
}

func (b *box) page(t *testing.T, query string) accessPage {
	t.Helper()
	return parse[accessPage](t, b.org("GET", "/api-tokens?"+query, "").want(t, 200))
}

func (b *box) users(method, path string) result {
	b.t.Helper()
	return b.send(method, b.access.Atlassian.BaseURL+"/users/"+path, "", "Authorization: Bearer "+b.access.Atlassian.Credential)
}

// owner finds an account for which ok holds.
func (b *box) owner(ok func(sandbox.AtlassianAccount) bool) sandbox.AtlassianAccount {
	b.t.Helper()
	accounts := b.AtlassianAccounts()
	i := slices.IndexFunc(accounts, ok)
	if i < 0 {
		b.t.Fatal("no such account")
	}
	return accounts[i]
}

func isUser(a sandbox.AtlassianAccount) bool {
	return !a.ServiceAccount && !a.Unmanaged && a.Tokens > 0
}
func isService(a sandbox.AtlassianAccount) bool { return a.ServiceAccount && a.Tokens > 0 }

func TestAtlassianAuth(t *testing.T) {
	b := open(t, sandbox.Options{})
	a := b.access.Atlassian
	user := b.owner(isUser).ID
	access, users := a.BaseURL+"/admin/api-access/v1/orgs/"+a.OrgID+"/api-tokens", a.BaseURL+"/users/"+user+"/manage/api-tokens"
	tests := []struct {
		name, method, url, auth string
		status                  int
		body                    string
	}{
		{"none", "GET", access, "", 401, `"code":401`},
		{"basic", "GET", access, "Basic ZGFuYTp4", 401, `"code":401`},
		{"raw", "GET", access, a.Credential, 401, `"code":401`},
		{"wrong", "GET", access, "Bearer x", 401, `"message":"Unauthorized"`},
		{"expired", "GET", access, "Bearer " + a.ExpiredCredential, 401, `"code":401`},
		{"unscoped", "GET", access, "Bearer " + a.Credential, 200, `"data"`},
		{"scoped", "GET", access, "Bearer " + a.ScopedCredential, 200, `"data"`},
		{"read only", "GET", access, "Bearer " + a.ReadOnlyCredential, 200, `"data"`},
		{"read only delete", "DELETE", access, "Bearer " + a.ReadOnlyCredential, 403, `"error":"Forbidden"`},
		{"users none", "GET", users, "", 401, `{"key":"unauthorized"}`},
		{"users expired", "GET", users, "Bearer " + a.ExpiredCredential, 401, `{"key":"unauthorized"}`},
		{"users scoped", "GET", users, "Bearer " + a.ScopedCredential, 403, `manage:org`},
		{"users unscoped", "GET", users, "Bearer " + a.Credential, 200, `[`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			b := *b
			b.t = t
			b.send(test.method, test.url, "", "Authorization: "+test.auth).want(t, test.status, test.body)
		})
	}
}

func TestAtlassianScopes(t *testing.T) {
	b := open(t, sandbox.Options{})
	service := b.owner(isService).ID
	// The scoped key has the four token scopes, and none for accounts and keys.
	for path, want := range map[string]int{
		"GET /api-tokens": 200, "GET /api-tokens/count": 200, "GET /service-accounts/" + service + "/api-tokens": 200,
		"GET /service-accounts/api-tokens": 200, "GET /service-accounts": 403, "GET /api-keys": 403, "GET /api-keys/count": 403,
		"PATCH /api-keys/revoke/x": 403, "DELETE /service-accounts/nobody/api-tokens": 404,
	} {
		method, path, _ := strings.Cut(path, " ")
		b.orgAs(b.access.Atlassian.ScopedCredential, method, path, "").want(t, want)
	}
}

func TestAtlassianOtherOrganization(t *testing.T) {
	for status, body := range map[int]string{404: `"errors"`, 403: `"requestId"`} {
		b := open(t, sandbox.Options{Atlassian: sandbox.AtlassianOptions{UnknownOrgStatus: status}})
		b.send("DELETE", b.access.Atlassian.BaseURL+"/admin/api-access/v1/orgs/other/api-tokens", "",
			"Authorization: Bearer "+b.access.Atlassian.Credential).want(t, status, body)
	}
}

func TestUserManagementTokens(t *testing.T) {
	b := open(t, sandbox.Options{})
	account := b.owner(isUser)
	type record struct {
		ID, Label, CreatedAt string
		LastAccess, Expiry   *string
	}
	records := parse[[]record](t, b.users("GET", account.ID+"/manage/api-tokens").want(t, 200))
	want := map[string]sandbox.AtlassianToken{}
	for _, token := range b.AtlassianTokens() {
		if token.AccountID == account.ID {
			want[token.ID] = token
		}
	}
	if len(records) != len(want) || len(records) == 0 {
		t.Fatalf("%d records; want %d", len(records), len(want))
	}
	for _, r := range records {
		token := want[r.ID]
		if r.Label != token.Label || r.CreatedAt != token.CreatedAt.Format("2006-01-02T15:04:05.000Z") ||
			(r.LastAccess == nil) != token.LastActiveAt.IsZero() || (r.Expiry == nil) != token.ExpiresAt.IsZero() {
			t.Errorf("record %+v; want %+v", r, token)
		}
	}
	// A delete shows in both APIs at once; a second one finds nothing.
	id := records[0].ID
	r := b.users("DELETE", account.ID+"/manage/api-tokens/"+id).want(t, 204)
	if len(r.body) != 0 {
		t.Fatalf("body %s", r.body)
	}
	b.users("DELETE", account.ID+"/manage/api-tokens/"+id).want(t, 404, `{"key":"notFound"}`)
	for _, token := range b.page(t, "pageSize=1000").Data {
		if token.ID == id {
			t.Fatal("the deleted token is still listed")
		}
	}
}

func TestUserManagementErrors(t *testing.T) {
	b := open(t, sandbox.Options{})
	user := b.owner(isUser).ID
	service := b.owner(isService)
	unmanaged := b.owner(func(a sandbox.AtlassianAccount) bool { return a.Unmanaged })
	var serviceToken string
	for _, token := range b.AtlassianTokens() {
		if token.AccountID == service.ID {
			serviceToken = token.ID
		}
	}
	tests := []struct {
		method, path string
		status       int
		body         string
	}{
		{"GET", "nobody/manage/api-tokens", 404, `{"key":"accountNotFound"}`},
		{"GET", "bad%20id/manage/api-tokens", 400, `"field":"account_id"`},
		{"GET", "a%2Fb/manage/api-tokens", 400, `fieldConstraintsViolated`},
		{"GET", service.ID + "/manage/api-tokens", 404, `accountNotFound`},
		{"DELETE", service.ID + "/manage/api-tokens/" + serviceToken, 404, `accountNotFound`},
		{"GET", unmanaged.ID + "/manage/api-tokens", 403, `"managedAccount"`},
		{"DELETE", user + "/manage/api-tokens/asp_none", 404, `{"key":"notFound"}`},
		{"GET", "nobody/manage", 404, `accountNotFound`},
	}
	for _, test := range tests {
		b.users(test.method, test.path).want(t, test.status, test.body)
	}
}

func TestUserPrivileges(t *testing.T) {
	b := open(t, sandbox.Options{})
	account := b.owner(isUser)
	path := account.ID + "/manage?privileges=apiToken.read&privileges=apiToken.delete"
	b.users("GET", path).want(t, 200, `"apiToken.read":{"allowed":true}`, `"apiToken.delete":{"allowed":true}`)
	b.users("GET", account.ID+"/manage?privileges=apiToken.read,apiToken.delete").want(t, 200, `"apiToken.delete"`)
	b.users("GET", account.ID+"/manage").want(t, 200, `"apiToken.delete"`)
	if err := b.UpdateAtlassianAccount(account.ID, func(a *sandbox.AtlassianAccount) { a.DeleteRefusal = "externalDirectory.scim" }); err != nil {
		t.Fatal(err)
	}
	b.users("GET", path).want(t, 200, `"allowed":false`, `externalDirectory.scim`)
	b.users("DELETE", account.ID+"/manage/api-tokens/x").want(t, 403, `forbidden.action`, `externalDirectory.scim`)
	if b.UpdateAtlassianAccount("nobody", func(*sandbox.AtlassianAccount) {}) == nil {
		t.Fatal("updated an unknown account")
	}
}

func TestUserManagementOptions(t *testing.T) {
	b := open(t, sandbox.Options{Atlassian: sandbox.AtlassianOptions{DifferentTokenIDs: true, NullLastAccess: true, OmitExpiry: true}})
	token, err := b.AddAtlassianToken(sandbox.AtlassianToken{AccountID: "new-user", OwnerName: "New", Label: "mine"})
	if err != nil {
		t.Fatal(err)
	}
	r := b.users("GET", "new-user/manage/api-tokens").want(t, 200, `"lastAccess":null`, token.UserManagementID)
	if strings.Contains(string(r.body), "expiry") || token.UserManagementID == token.ID {
		t.Fatalf("body %s", r.body)
	}
	b.users("DELETE", "new-user/manage/api-tokens/"+token.ID).want(t, 404)
	b.users("DELETE", "new-user/manage/api-tokens/"+token.UserManagementID).want(t, 204)
}

func TestAccessPaging(t *testing.T) {
	for _, order := range []string{"", "&sort=%2BcreatedAt", "&sort=-lastActiveAt", "&sort=-label", "&sort=%2BexpiresAt"} {
		b := open(t, sandbox.Options{Tokens: 900})
		var ids []string
		cursor := ""
		for pages := 0; ; pages++ {
			page := b.page(t, "pageSize=37"+order+"&cursor="+url.QueryEscape(cursor))
			for _, token := range page.Data {
				ids = append(ids, token.ID)
			}
			if pages == 2 { // a deletion between pages neither skips nor repeats
				b.DeleteAtlassianToken(ids[3])
			}
			if cursor = page.Links.Next; cursor == "" {
				break
			}
		}
		slices.Sort(ids)
		if len(slices.Compact(ids)) != 270 {
			t.Fatalf("%s: %d tokens; want 270", order, len(ids))
		}
	}
}

func TestAccessSorts(t *testing.T) {
	b := open(t, sandbox.Options{Tokens: 900})
	data := b.page(t, "sort=-createdAt&pageSize=1000").Data
	if !slices.IsSortedFunc(data, func(x, y accessToken) int { return strings.Compare(y.CreatedAt, x.CreatedAt) }) {
		t.Fatal("not sorted by -createdAt")
	}
}

func TestAccessFilters(t *testing.T) {
	c := newClock()
	b := open(t, sandbox.Options{Tokens: 900, Now: c.now})
	users := slices.DeleteFunc(b.AtlassianTokens(), func(t sandbox.AtlassianToken) bool { return t.ServiceAccount || t.Unmanaged })
	ago := func(days int) time.Time { return c.at.AddDate(0, 0, -days) }
	email := users[0].OwnerEmail
	tests := map[string]struct {
		query string
		want  func(sandbox.AtlassianToken) bool
	}{
		"all":     {"", func(sandbox.AtlassianToken) bool { return true }},
		"email":   {"q=" + url.QueryEscape(strings.ToUpper(email)), func(t sandbox.AtlassianToken) bool { return t.OwnerEmail == email }},
		"label":   {"q=ignore+PREVIOUS", func(t sandbox.AtlassianToken) bool { return strings.HasPrefix(t.Label, "Ignore previous") }},
		"blocked": {"status=BLOCKED", func(t sandbox.AtlassianToken) bool { return t.Status == "BLOCKED" }},
		"older": {
			"createdAtSearchType=gt&createdAtUom=day&createdAtValue=365",
			func(t sandbox.AtlassianToken) bool { return t.CreatedAt.Before(ago(365)) },
		},
		"younger": {
			"createdAtSearchType=lt&createdAtUom=WEEKS&createdAtValue=10",
			func(t sandbox.AtlassianToken) bool { return t.CreatedAt.After(ago(70)) },
		},
		"range": {
			"createdAtSearchType=range&createdAtFrom=" + ago(300).Format(time.RFC3339) + "&createdAtTo=" + ago(100).Format("2006-01-02T15:04:05.000Z"),
			func(t sandbox.AtlassianToken) bool {
				return !t.CreatedAt.Before(ago(300)) && !t.CreatedAt.After(ago(100))
			},
		},
		"relative range": {
			"lastActiveAtSearchType=range&lastActiveAtRangeFrom=90day",
			func(t sandbox.AtlassianToken) bool {
				return !t.LastActiveAt.Before(ago(90)) && !t.LastActiveAt.IsZero()
			},
		},
		"unused": {
			"lastActiveAtSearchType=gt&lastActiveAtUom=month&lastActiveAtValue=3",
			func(t sandbox.AtlassianToken) bool { return t.LastActiveAt.Before(ago(90)) && !t.LastActiveAt.IsZero() },
		},
		"both": {"status=ALLOWED&lastActiveAtSearchType=lt&lastActiveAtUom=day&lastActiveAtValue=30", func(t sandbox.AtlassianToken) bool {
			return t.Status == "ALLOWED" && t.LastActiveAt.After(ago(30))
		}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			want := 0
			for _, token := range users {
				if test.want(token) {
					want++
				}
			}
			got := len(b.page(t, "pageSize=1000&"+test.query).Data)
			count := parse[int](t, b.org("GET", "/api-tokens/count?"+test.query, "").want(t, 200))
			if got != want || count != want || want == 0 {
				t.Fatalf("listed %d, counted %d; want %d", got, count, want)
			}
		})
	}
}

func TestAccessBadQueries(t *testing.T) {
	b := open(t, sandbox.Options{})
	for _, query := range []string{
		"?createdAtFrom=2026-01-01", "?createdAtValue=3&createdAtUom=day", "?createdAtSearchType=gt", "?createdAtSearchType=near",
		"?createdAtSearchType=gt&createdAtUom=fortnight&createdAtValue=3", "?createdAtSearchType=gt&createdAtUom=day&createdAtValue=x",
		"?createdAtSearchType=range", "?createdAtSearchType=range&createdAtFrom=yesterday", "?createdAtSearchType=range&createdAtRangeTo=x",
		"?status=GONE", "?expiresAtSearchType=gt", "?pageSize=0", "?pageSize=1001", "?pageSize=x", "?cursor=x", "?sort=createdAt",
		"?sort=%2Bsecret", "?sort=+createdAt", "?unknown=1", "/count?pageSize=3", "/count?sort=-label", "/count?status=x",
	} {
		b.org("GET", "/api-tokens"+query, "").want(t, 400, `"errors"`, `"status":"400"`)
	}
	next := b.page(t, "pageSize=2").Links.Next
	b.org("GET", "/api-tokens?q=other&cursor="+next, "").want(t, 400, "cursor")
	lenient := open(t, sandbox.Options{Atlassian: sandbox.AtlassianOptions{LenientQuery: true}})
	lenient.org("GET", "/api-tokens?expiresAtSearchType=gt", "").want(t, 200)
}

func TestAccessLinks(t *testing.T) {
	for link, want := range map[string]string{
		"cursor": "", "relative": "/admin/api-access/v1/orgs/", "absolute": "http://127.0.0.1", "foreign": "https://elsewhere.example/admin",
	} {
		b := open(t, sandbox.Options{Atlassian: sandbox.AtlassianOptions{NextLink: link}})
		next := b.page(t, "pageSize=2&q=a").Links.Next
		if !strings.HasPrefix(next, want) || next == "" || (link != "cursor") != strings.Contains(next, "?") {
			t.Errorf("%s: next %q", link, next)
		}
		if link == "absolute" {
			b.send("GET", next, "", "Authorization: Bearer "+b.access.Atlassian.Credential).want(t, 200)
		}
	}
	b := open(t, sandbox.Options{Atlassian: sandbox.AtlassianOptions{NextLink: "stuck"}})
	first := b.page(t, "pageSize=2").Links.Next
	if again := b.page(t, "pageSize=2&cursor="+first).Links.Next; again != first {
		t.Errorf("stuck: %q then %q", first, again)
	}
	for last, want := range map[string]string{"empty": `"next":""`, "null": `"next":null`, "absent": `"links":{"prev":"","self":""}`} {
		b := open(t, sandbox.Options{Atlassian: sandbox.AtlassianOptions{LastLink: last}})
		b.org("GET", "/api-tokens?pageSize=1000", "").want(t, 200, want)
	}
}

func TestAccessNoDate(t *testing.T) {
	for form, want := range map[string]string{"absent": `"createdAt":"2026-06-01T12:00:00.000Z","user"`, "null": `"expiresAt":null`, "empty": `"expiresAt":""`} {
		b := open(t, sandbox.Options{AtlassianTokens: new(0), Now: newClock().now, Atlassian: sandbox.AtlassianOptions{NoDate: form}})
		if _, err := b.AddAtlassianToken(sandbox.AtlassianToken{Label: "x"}); err != nil {
			t.Fatal(err)
		}
		b.org("GET", "/api-tokens", "").want(t, 200, want)
	}
}

func TestRevokeAll(t *testing.T) {
	for _, status := range []int{204, 200, 202} {
		c := newClock()
		b := open(t, sandbox.Options{Now: c.now, Atlassian: sandbox.AtlassianOptions{RevokeStatus: status, CountLag: time.Minute}})
		before := b.org("GET", "/api-tokens/count", "").want(t, 200).body
		// Neither a body nor a query narrows it.
		b.org("DELETE", "/api-tokens?q=nothing", `{"tokenIds":["x"]}`).want(t, status)
		if lag := b.org("GET", "/api-tokens/count", "").want(t, 200).body; string(lag) != string(before) {
			t.Fatalf("count %s; want %s while it lags", lag, before)
		}
		c.at = c.at.Add(time.Hour)
		b.org("GET", "/api-tokens/count", "").want(t, 200, "0")
		b.org("GET", "/api-tokens", "").want(t, 200, `"data":[]`)
		if len(parse[[]accessToken](t, b.org("GET", "/service-accounts/api-tokens", ""))) == 0 {
			t.Fatal("service accounts' tokens are gone too")
		}
	}
}

func TestServiceAccounts(t *testing.T) {
	b := open(t, sandbox.Options{Tokens: 900})
	account := b.owner(isService)
	path := "/service-accounts/" + account.ID + "/api-tokens"
	tokens := parse[[]accessToken](t, b.org("GET", path, "").want(t, 200))
	if len(tokens) != account.Tokens || tokens[0].User.ID != account.ID || len(tokens[0].Scopes) == 0 {
		t.Fatalf("tokens %+v; want %d", tokens, account.Tokens)
	}
	label := tokens[0].Label
	for _, token := range parse[[]accessToken](t, b.org("GET", path+"?tokenLabel="+url.QueryEscape(label), "").want(t, 200)) {
		if token.Label != label {
			t.Fatalf("label %q; want %q", token.Label, label)
		}
	}
	b.org("GET", path+"?tokenLabel=no+such", "").want(t, 200, "[]")
	b.org("GET", "/service-accounts/nobody/api-tokens", "").want(t, 404, `"errors"`)

	b.org("POST", "/service-accounts/count", fmt.Sprintf(`[%q,"nobody"]`, account.ID)).want(t, 200,
		fmt.Sprintf(`"validServiceAccountIds":[{"serviceAccountId":%q,"credentialsCount":%d}]`, account.ID, account.Tokens),
		`"invalidServiceAccountIds":["nobody"]`)
	for _, body := range []string{"", "{}", "[]", `[1]`, `["` + strings.Repeat(`x","`, 100) + `x"]`} {
		b.org("POST", "/service-accounts/count", body).want(t, 400, `"errors"`)
	}

	b.org("DELETE", path, "").want(t, 204)
	b.org("GET", path, "").want(t, 200, "[]")
	type page struct {
		Items []struct {
			AtlassianID string
			UpdatedAt   int64
		}
		Total int
		Links struct{ Next string }
	}
	first := parse[page](t, b.org("GET", "/service-accounts?pageSize=3", "").want(t, 200))
	second := parse[page](t, b.org("GET", "/service-accounts?pageSize=100&cursor="+first.Links.Next, "").want(t, 200))
	if len(first.Items) != 3 || len(first.Items)+len(second.Items) != first.Total || second.Links.Next != "" || first.Items[0].UpdatedAt == 0 {
		t.Fatalf("pages %+v %+v", first, second)
	}
	b.org("GET", "/service-accounts?pageSize=x", "").want(t, 400)
	b.org("GET", "/service-accounts?cursor=x", "").want(t, 400)
}

func TestOlderServiceAccountAPIs(t *testing.T) {
	b := open(t, sandbox.Options{Atlassian: sandbox.AtlassianOptions{NoServiceTokenListing: true, NoServiceAccountListing: true, PartialTokenLabel: true}})
	b.org("GET", "/service-accounts/api-tokens", "").want(t, 404)
	b.org("GET", "/service-accounts", "").want(t, 404)
	account := b.owner(isService)
	b.org("GET", "/service-accounts/"+account.ID+"/api-tokens?tokenLabel="+url.QueryEscape(b.AtlassianTokens()[0].Label[:1]), "").want(t, 200)
}

// A client that lets an id change the path ends everybody's tokens: the sandbox
// must show that, not hide it.
func TestPathTricks(t *testing.T) {
	b := open(t, sandbox.Options{})
	for _, id := range []string{"..", "%2e%2e", "x/../.."} {
		b.org("DELETE", "/service-accounts/"+id+"/api-tokens", "").want(t, 204)
	}
	b.org("GET", "/api-tokens/count", "").want(t, 200, "0")
	b.org("GET", "/service-accounts//api-tokens", "").want(t, 200)
	b.org("GET", "/service-accounts/a%2F..%2Fb/api-tokens", "").want(t, 404)
}

func TestAPIKeys(t *testing.T) {
	b := open(t, sandbox.Options{Now: newClock().now})
	type page struct {
		Data []struct {
			ID, Label string
			Scopes    []string
			CreatedBy struct{ Email string }
		}
	}
	keys := parse[page](t, b.org("GET", "/api-keys", "").want(t, 200)).Data
	if len(keys) != len(b.AtlassianKeys()) || keys[0].CreatedBy.Email == "" {
		t.Fatalf("keys %+v", keys)
	}
	b.org("GET", "/api-keys/count", "").want(t, 200, fmt.Sprint(len(keys)))
	b.org("GET", "/api-keys/count?keyType=UNSCOPED", "").want(t, 200, "3")
	b.org("GET", "/api-keys/count?expiresAtSearchType=range&expiresAtFrom=2026-06-01&expiresAtTo=2026-06-30", "").want(t, 200, "3")
	b.org("GET", "/api-keys/count?createdAtSearchType=gt", "").want(t, 400)
	b.org("GET", "/api-keys?sort=-label&pageSize=2", "").want(t, 200, `"next":"ey`)
	b.org("PATCH", "/api-keys/revoke/nothing", "").want(t, 404)
	i := slices.IndexFunc(keys, func(k struct {
		ID, Label string
		Scopes    []string
		CreatedBy struct{ Email string }
	},
	) bool {
		return k.Label == "tokenreeve audit"
	})
	b.org("PATCH", "/api-keys/revoke/"+keys[i].ID, "{}").want(t, 204)
	b.orgAs(b.access.Atlassian.ReadOnlyCredential, "GET", "/api-tokens", "").want(t, 401)
	if !slices.Contains(b.Secrets(), b.access.Atlassian.ReadOnlyCredential) {
		t.Fatal("a revoked key's secret is no longer known")
	}
}

func TestAtlassianRateLimit(t *testing.T) {
	c := newClock()
	b := open(t, sandbox.Options{Now: c.now, Atlassian: sandbox.AtlassianOptions{
		RetryAfter:   true,
		AccessBudget: sandbox.Budget{Requests: 2, Window: 20 * time.Second}, UserBudget: sandbox.Budget{Requests: 1},
	}})
	for i := range 2 {
		r := b.org("GET", "/api-tokens/count", "").want(t, 200)
		if got := r.header.Get("X-Ratelimit-Remaining"); got != fmt.Sprint(1-i) {
			t.Fatalf("remaining %s", got)
		}
	}
	r := b.org("DELETE", "/api-tokens", "").want(t, 429, `"code":429`)
	reset, err := time.Parse(time.RFC3339, r.header.Get("X-Ratelimit-Reset"))
	if err != nil || !reset.Equal(c.at.Add(20*time.Second)) || r.header.Get("Retry-After") != "20" || r.header.Get("X-Ratelimit-Limit") != "2" {
		t.Fatalf("headers %v, error %v", r.header, err)
	}
	c.at = c.at.Add(21 * time.Second)
	b.org("GET", "/api-tokens/count", "").want(t, 200)
	user := b.owner(isUser).ID
	b.users("GET", user+"/manage/api-tokens").want(t, 200)
	r = b.users("GET", user+"/manage/api-tokens").want(t, 429)
	if r.header.Get("X-Ratelimit-Limit") != "" {
		t.Fatal("user management documents no rate-limit headers")
	}
}

func TestAtlassianHiddenOwners(t *testing.T) {
	b := open(t, sandbox.Options{Atlassian: sandbox.AtlassianOptions{HideEmails: true}})
	for _, token := range b.page(t, "pageSize=1000").Data {
		if token.User.Email != "" || strings.Contains(token.User.Name, "Contractor") {
			t.Fatalf("token %+v", token)
		}
	}
	if r := b.org("GET", "/api-tokens", ""); r.header.Get("Content-Type") != "application/json" || !json.Valid(r.body) || r.status != http.StatusOK {
		t.Fatalf("answer %+v", r)
	}
}
