package atlassian_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/tokenreeve/tokenreeve/internal/vendortest"
	"github.com/tokenreeve/tokenreeve/providers"
	"github.com/tokenreeve/tokenreeve/providers/atlassian"
	"github.com/tokenreeve/tokenreeve/providers/transport"
)

func TestNewNamesAllProblems(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		config atlassian.Config
		want   []string
	}{
		"nothing":  {atlassian.Config{}, []string{"org_id", "credential is missing"}},
		"all":      {atlassian.Config{OrgID: "../x", BaseURL: "api.atlassian.com", PageSize: 1001}, []string{"org_id", "credential", "page_size 1001", "base_url"}},
		"no dash":  {atlassian.Config{OrgID: strings.Repeat("a", 36), Credential: vendortest.Credential("k")}, []string{"org_id"}},
		"not hex":  {atlassian.Config{OrgID: "8d2f6f1g-5a1e-4b7c-9c39-1f6a2f1d7e55", Credential: vendortest.Credential("k")}, []string{"org_id"}},
		"negative": {atlassian.Config{OrgID: org, Credential: vendortest.Credential("k"), PageSize: -1}, []string{"page_size -1"}},
	} {
		_, err := atlassian.New(http.DefaultClient, test.config, transport.Options{})
		for _, word := range test.want {
			if err == nil || !strings.Contains(err.Error(), word) {
				t.Errorf("%s: the error does not name %q: %v", name, word, err)
			}
		}
	}
}

func TestIdentitySendsNothing(t *testing.T) {
	t.Parallel()
	c := atlassian.Config{OrgID: strings.ToUpper(org), Credential: vendortest.Credential("k")}
	p, err := atlassian.New(http.DefaultClient, c, transport.Options{})
	if err != nil {
		t.Fatal(err)
	}
	got, err := p.Identity(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "identity", got, providers.Identity{Host: "api.atlassian.com", Account: org})
	equal(t, "name", p.Name(), "atlassian")
	equal(t, "unknown fields", len(p.Unknown()), 0)
}

func TestCheckID(t *testing.T) {
	t.Parallel()
	p := serve(t)
	long := strings.Repeat("a", 129)
	for _, test := range []struct {
		part  providers.Part
		id    string
		valid bool
	}{
		{providers.PartOwner, dana, true},
		{providers.PartOwner, "5b10a2844c20165700ede21g", true},
		{providers.PartOwner, "a|b_c", true},
		{providers.PartOwner, "dana@example.com", true},
		{providers.PartOwner, "dana@exa mple.com", false},
		{providers.PartOwner, "@example.com", false},
		{providers.PartOwner, "dana@", false},
		{providers.PartOwner, "a@b@c", false},
		{providers.PartOwner, "dana\u200b@example.com", false},
		{providers.PartOwner, long + long + "@example.com", false},
		{providers.PartOwner, "..", false},
		{providers.PartOwner, "", false},
		{providers.PartOwner, long, false},
		{providers.PartServiceAccount, bot, true},
		{providers.PartServiceAccount, "bot@example.com", false},
		{providers.PartServiceAccount, "a/b", false},
		{providers.PartToken, robot, true},
		{providers.PartToken, "abc=", true},
		{providers.PartToken, "..", false},
		{providers.PartToken, "a?b", false},
		{providers.PartToken, "a%2fb", false},
		{providers.PartToken, "ä", false},
		{providers.PartToken, "", false},
		{providers.Part("other"), "a", false},
	} {
		err := p.CheckID(test.part, test.id)
		if test.valid && err != nil {
			t.Errorf("%s %q is refused: %v", test.part, test.id, err)
		}
		if !test.valid {
			wantCode(t, err, providers.CodeInvalidArgument)
		}
	}
	if err := p.CheckID(providers.PartToken, "x\u202e/"+long+long+long); err == nil || strings.ContainsRune(err.Error(), '\u202e') || len(err.Error()) > 500 {
		t.Errorf("the id is not quoted safely: %v", err)
	}
}

// A vendor that expects no request fails the test on any.
func TestBadIDsSendNothing(t *testing.T) {
	t.Parallel()
	p := serve(t)
	for _, id := range []string{"..", "a/b", "", "a?b=c"} {
		_, err := p.Get(t.Context(), providers.Ref{ID: id, Owner: dana})
		wantCode(t, err, providers.CodeInvalidArgument)
		_, err = p.Revoke(t.Context(), providers.Token{ID: id, Owner: providers.Owner{ID: dana}})
		wantCode(t, err, providers.CodeInvalidArgument)
		_, err = p.Revoke(t.Context(), providers.Token{ID: robot, Owner: providers.Owner{ID: id}})
		wantCode(t, err, providers.CodeInvalidArgument)
		wantCode(t, p.RevokeServiceAccount(t.Context(), id), providers.CodeInvalidArgument)
		_, err = p.CountServiceAccounts(t.Context(), []string{bot, id})
		wantCode(t, err, providers.CodeInvalidArgument)
		_, err = list(t, p, providers.Filter{ServiceAccounts: []string{id}}, "")
		wantCode(t, err, providers.CodeInvalidArgument)
		_, _, err = p.Count(t.Context(), providers.Filter{ServiceAccounts: []string{id}})
		wantCode(t, err, providers.CodeInvalidArgument)
		if id == "" {
			continue // no owner
		}
		_, err = p.Get(t.Context(), providers.Ref{ID: robot, Owner: id})
		wantCode(t, err, providers.CodeInvalidArgument)
		_, err = list(t, p, providers.Filter{Owner: id}, "")
		wantCode(t, err, providers.CodeInvalidArgument)
	}
	_, err := p.Revoke(t.Context(), providers.Token{ID: robot, Owner: providers.Owner{ID: "dana@example.com"}})
	wantCode(t, err, providers.CodeInvalidArgument)
}

func TestHandOff(t *testing.T) {
	t.Parallel()
	p := serve(t)
	for _, deed := range []providers.Deed{providers.DeedMint, providers.DeedRevokeServiceToken, providers.DeedRotateOwnCredential} {
		if steps := p.HandOff(deed); len(steps) == 0 || !strings.Contains(strings.Join(steps, " "), "admin.atlassian.com") {
			t.Errorf("%s: %q", deed, steps)
		}
	}
	equal(t, "other deed", len(p.HandOff("other")), 0)
}

func TestErrorShapes(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		status  int
		answer  string
		header  map[string]string
		code    providers.Code
		vendor  string
		message string
	}{
		"gateway 401":        {status: 401, answer: `{"code":401,"message":"Unauthorized"}`, code: providers.CodeCredentialRejected, message: "Unauthorized"},
		"gateway other code": {status: 401, answer: `{"code":40101,"message":"m"}`, code: providers.CodeCredentialRejected, vendor: "40101"},
		"gateway word":       {status: 400, answer: `{"code":"bad","message":"m"}`, code: providers.CodeRejected, vendor: "bad"},
		"application 400": {
			status: 400, answer: `{"errors":[{"id":"1","status":"400","code":"ADMIN-400-1","title":"Bad","detail":"unknown filter"}]}`,
			code: providers.CodeRejected, vendor: "ADMIN-400-1", message: "Bad: unknown filter",
		},
		"framework 403": {
			status: 403, answer: `{"timestamp":"t","path":"p","status":403,"error":"Forbidden","message":"User has no permission to access resource.","requestId":"r"}`,
			code: providers.CodeForbidden, vendor: "Forbidden", message: "User has no permission",
		},
		"key and reason": {
			status: 403, answer: `{"key":"forbidden.action","context":{"allowed":false,"reason":{"key":"managedAccount"}}}`,
			code: providers.CodeForbidden, vendor: "forbidden.action", message: "managedAccount",
		},
		"violations": {
			status: 400, answer: `{"key":"fieldConstraintsViolated","context":{"fieldViolations":[{"field":"id","violations":[{"key":"pattern"}]}]}}`,
			code: providers.CodeRejected, vendor: "fieldConstraintsViolated", message: "id pattern",
		},
		"wrong types": {status: 404, answer: `{"key":7,"message":"m","errors":{"a":1}}`, code: providers.CodeNotFound, message: `"m"`},
		"null":        {status: 404, answer: `null`, code: providers.CodeNotFound},
		"empty":       {status: 404, code: providers.CodeNotFound},
		"html":        {status: 403, answer: `<html>no`, header: map[string]string{"Content-Type": "text/html"}, code: providers.CodeForbidden},
		"redirect":    {status: 302, header: map[string]string{"Location": "https://evil.example/"}, code: providers.CodeBadAnswer},
		"conflict":    {status: 409, code: providers.CodeConflict},
		"hostile":     {status: 400, answer: "{\"code\":\"x\\u202e\",\"message\":\"a\\u200bb\"}", code: providers.CodeRejected, vendor: "x", message: `"ab"`},
		"slow down":   {status: 429, answer: `{"code":429,"message":"later"}`, header: map[string]string{"Retry-After": "3600"}, code: providers.CodeRateLimited, message: "later"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := refuse(orgTokens+"/count", test.status, test.answer)
			e.AnswerHeader = test.header
			_, err := serve(t, e).CountEverything(t.Context())
			wantCode(t, err, test.code)
			e2 := new(providers.Error)
			ok := errors.As(err, &e2)
			if !ok {
				t.Fatalf("not a providers.Error: %v", err)
			}
			equal(t, "vendor code", e2.VendorCode, test.vendor)
			equal(t, "provider", e2.Provider, "atlassian")
			if !strings.Contains(e2.Message, test.message) {
				t.Errorf("message %q lacks %q", e2.Message, test.message)
			}
		})
	}
}

func TestScopeIsNamed(t *testing.T) {
	t.Parallel()
	_, err := serve(t, refuse(orgTokens+"/count", 403, `{"status":403,"error":"Forbidden","message":"no"}`)).CountEverything(t.Context())
	if e := new(providers.Error); !errors.As(err, &e) || !strings.Contains(e.Next, "read:tokens:admin") {
		t.Errorf("the scope is not named: %#v", err)
	}
}

func TestRetries(t *testing.T) {
	t.Parallel()
	t.Run("429 then ok", func(t *testing.T) {
		t.Parallel()
		p := serve(t, refuse(orgTokens+"/count", 429, ""), get(orgTokens+"/count", "214"))
		got, err := p.CountEverything(t.Context())
		if got != 214 || err != nil {
			t.Errorf("%d, %v", got, err)
		}
	})
	t.Run("the count of service accounts is a read", func(t *testing.T) {
		t.Parallel()
		post := vendortest.Exchange{Method: http.MethodPost, Path: services + "/count", Body: `["` + bot + `"]`, Status: 503}
		again := post
		again.Status, again.Answer = 200, `{"validServiceAccountIds":[{"serviceAccountId":"`+bot+`","credentialsCount":3}],"invalidServiceAccountIds":[]}`
		count, err := serve(t, post, again).CountServiceAccounts(t.Context(), []string{bot})
		if count.Total != 3 || err != nil {
			t.Errorf("%+v, %v", count, err)
		}
	})
}

// A used-up budget is known before the next request: it is not sent.
func TestBudgetHeaders(t *testing.T) {
	t.Parallel()
	reset := time.Now().Add(time.Hour).UTC()
	for _, layout := range []string{"2006-01-02T15:04:05.000Z", "2006-01-02T15:04Z", "2006-01-02T15:04:05.000+0000"} {
		e := get(orgTokens+"/count", "1")
		e.AnswerHeader = map[string]string{"X-RateLimit-Limit": "100", "X-RateLimit-Remaining": "0", "X-RateLimit-Reset": reset.Format(layout)}
		p := serve(t, e)
		if _, err := p.CountEverything(t.Context()); err != nil {
			t.Fatal(err)
		}
		_, err := p.CountEverything(t.Context())
		wantCode(t, err, providers.CodeRateLimited)
	}
	for _, header := range []map[string]string{
		{"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "soon"},
		{"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "2999-01-01T00:00:00Z"},
		{"X-RateLimit-Remaining": "-1", "X-RateLimit-Reset": reset.Format(time.RFC3339)},
	} {
		e := get(orgTokens+"/count", "1")
		e.AnswerHeader = header
		p := serve(t, e, get(orgTokens+"/count", "1"))
		for range 2 {
			if _, err := p.CountEverything(t.Context()); err != nil {
				t.Error(header, err)
			}
		}
	}
}
