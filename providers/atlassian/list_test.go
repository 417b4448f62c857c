package atlassian_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tokenreeve/tokenreeve/internal/sandbox"
	"github.com/tokenreeve/tokenreeve/internal/vendortest"
	"github.com/tokenreeve/tokenreeve/providers"
	"github.com/tokenreeve/tokenreeve/providers/atlassian"
)

var (
	managed  = []providers.Limit{providers.ManagedAccountsOnly}
	searched = []providers.Limit{providers.ManagedAccountsOnly, providers.VendorSearch}
	partial  = []providers.Limit{providers.ManagedAccountsOnly, providers.ServiceAccountsMissing}
)

func row(id string) string { return fmt.Sprintf(`{"id":%q}`, id) }

// numbered returns rows t0, t1, … of service tokens.
func numbered(from, to int) string {
	all := make([]string, 0, to-from)
	for i := from; i < to; i++ {
		all = append(all, row(fmt.Sprint("t", i)))
	}
	return array(all...)
}

func TestListEverything(t *testing.T) {
	t.Parallel()
	p := serve(t,
		page("", `{"data":[`+robotRow+`,null],"links":{"self":"","next":"eyJvIjoxMDB9","prev":""}}`),
		page("cursor=eyJvIjoxMDB9", `{"data":[{"id":"b","unknown":{}}],"links":{"next":null}}`),
		get(services+"/api-tokens", array(botRow, "null")),
	)
	pages, err := list(t, p, providers.Filter{}, "")
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "ids", ids(pages), []string{robot, "b", "asp_Bot"})
	for i, at := range []string{"u:", "u:eyJvIjoxMDB9", "s:"} {
		equal(t, "at", pages[i].At, at)
		equal(t, "limits", pages[i].Limits, managed)
	}
	equal(t, "kinds", []providers.Kind{pages[0].Tokens[0].Kind, pages[2].Tokens[0].Kind}, []providers.Kind{providers.KindUser, providers.KindService})
}

func TestListResumes(t *testing.T) {
	t.Parallel()
	p := serve(t, page("cursor=a%2Bb%3A%3D", rows(row("b"))), get(services+"/api-tokens", `[]`))
	pages, err := list(t, p, providers.Filter{}, "u:a+b:=")
	if err != nil || len(pages) != 2 {
		t.Fatal(pages, err)
	}
	equal(t, "at", pages[0].At, "u:a+b:=")

	p = serve(t, get(services+"/api-tokens", numbered(0, 1)))
	pages, err = list(t, p, providers.Filter{}, "s:")
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "ids", ids(pages), []string{"t0"})
}

func TestListRefusesAForeignPosition(t *testing.T) {
	t.Parallel()
	p := serve(t)
	for _, from := range []string{"x", ":", "z:", "a0:", "o:", "s:1", "s:-1:a", "s:x:a", "s:1:"} {
		_, err := list(t, p, providers.Filter{}, from)
		wantCode(t, err, providers.CodeInvalidArgument)
	}
	_, err := list(t, p, providers.Filter{ServiceAccounts: []string{bot}}, "a1:")
	wantCode(t, err, providers.CodeInvalidArgument)
	_, err = list(t, p, providers.Filter{Kind: providers.KindUser}, "s:")
	wantCode(t, err, providers.CodeInvalidArgument)
}

func TestListFetchesNoPageAhead(t *testing.T) {
	t.Parallel()
	p := serve(t, page("", `{"data":[],"links":{"next":"c"}}`)) // and no second request
	for range p.List(t.Context(), providers.Filter{}, "") {
		break
	}
}

func TestNextCursor(t *testing.T) {
	t.Parallel()
	for next, want := range map[string]string{
		"":                    "",
		"eyJvIjoxMDB9":        "eyJvIjoxMDB9",
		"/wEA+b==":            "/wEA+b==",
		"100%":                "100%",
		"?cursor=a%2Bb":       "a+b",
		"/x/y?cursor=c&q=1":   "c",
		"https://h/x?cursor=": "",
		"https://other.example/api-tokens?pageSize=9&cursor=c": "c",
	} {
		if got, err := atlassian.NextCursor(next); got != want || err != nil {
			t.Errorf("%q: %q, %v", next, got, err)
		}
	}
	_, err := atlassian.NextCursor("https://api.atlassian.com/next")
	wantCode(t, err, providers.CodeVendorProtocol)
}

func TestListNeverFollowsALink(t *testing.T) {
	t.Parallel()
	p := serve(t,
		page("", `{"data":[],"links":{"next":"https://evil.example/?cursor=c2"}}`),
		page("cursor=c2", `{"data":[],"links":{}}`),
	)
	if _, err := list(t, p, providers.Filter{Kind: providers.KindUser}, ""); err != nil {
		t.Error(err)
	}
}

func TestListRefusesACircle(t *testing.T) {
	t.Parallel()
	p := serve(t,
		page("", `{"data":[],"links":{"next":"a"}}`),
		page("cursor=a", `{"data":[],"links":{"next":"b"}}`),
		page("cursor=b", `{"data":[],"links":{"next":"a"}}`),
	)
	pages, err := list(t, p, providers.Filter{}, "")
	equal(t, "pages", len(pages), 3)
	wantCode(t, err, providers.CodeVendorProtocol)
}

func TestListBadAnswers(t *testing.T) {
	t.Parallel()
	for answer, code := range map[string]providers.Code{
		``:                               providers.CodeBadAnswer,
		`<html>`:                         providers.CodeBadAnswer,
		`{"data":[`:                      providers.CodeBadAnswer,
		`[]`:                             providers.CodeBadAnswer,
		`null`:                           providers.CodeVendorProtocol,
		`{}`:                             providers.CodeVendorProtocol,
		`{"data":null,"links":{}}`:       "",
		`{"data":[],"links":null}`:       "",
		`{"data":[]}`:                    "",
		`{"data":[null],"links":{}}`:     "",
		`{"data":[{"user":null}],"x":1}`: "",
	} {
		_, err := list(t, serve(t, page("", answer)), providers.Filter{Kind: providers.KindUser}, "")
		if providers.CodeOf(err) != code {
			t.Errorf("%s: %v", answer, err)
		}
	}
	for answer, code := range map[string]providers.Code{
		``: providers.CodeBadAnswer, `<html>`: providers.CodeBadAnswer, `null`: providers.CodeBadAnswer, `{}`: providers.CodeBadAnswer,
		`[{"id":"a"}`: providers.CodeBadAnswer, `[{"id":7}]`: providers.CodeBadAnswer, `[]`: "", `[null]`: "",
	} {
		_, err := list(t, serve(t, get(services+"/api-tokens", answer)), providers.Filter{Kind: providers.KindService}, "")
		if providers.CodeOf(err) != code {
			t.Errorf("%s: %v", answer, err)
		}
	}
}

func TestListPushesDown(t *testing.T) {
	t.Parallel()
	after := time.Date(2026, 1, 1, 0, 0, 0, 0, time.FixedZone("", 3600))
	before := time.Date(2026, 2, 1, 0, 0, 0, 0, time.UTC)
	for name, test := range map[string]struct {
		filter        providers.Filter
		query         string
		vendorFilters string
	}{
		"query":              {providers.Filter{Query: "ro bot"}, "q=ro+bot", "q=ro+bot"},
		"e-mail":             {providers.Filter{Owner: "dana@example.com"}, "q=dana%40example.com", "q=dana%40example.com"},
		"e-mail and query":   {providers.Filter{Owner: "dana@example.com", Query: "x"}, "q=x", "q=x"},
		"active":             {providers.Filter{Status: providers.StatusActive}, "", "status=ALLOWED"},
		"blocked":            {providers.Filter{Status: providers.StatusBlocked}, "", "status=BLOCKED"},
		"expired":            {providers.Filter{Status: providers.StatusExpired}, "", ""},
		"unused":             {providers.Filter{Unused: providers.Bound{At: before}}, "", ""},
		"expires":            {providers.Filter{Expires: providers.Bound{At: before}}, "", ""},
		"access":             {providers.Filter{Access: providers.AccessCustom}, "", ""},
		"created":            {providers.Filter{CreatedAfter: after, CreatedBefore: before}, "", "createdAtSearchType=range&createdAtFrom=2025-12-31T22:59:59.000Z&createdAtTo=2026-02-01T00:00:01.000Z"},
		"created after":      {providers.Filter{CreatedAfter: after}, "", "createdAtSearchType=range&createdAtFrom=2025-12-31T22:59:59.000Z"},
		"owner and a status": {providers.Filter{Owner: dana, Status: providers.StatusExpired}, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			second := get(services+"/api-tokens", `[]`)
			if test.filter.Owner == dana {
				second = refuse(services+"/"+dana+"/api-tokens", 404, "")
			}
			for _, ask := range []struct {
				search, vendorFilters bool
				query                 string
			}{
				{false, false, ""},
				{false, true, ""},
				{true, false, test.query},
				{true, true, test.vendorFilters},
			} {
				f, want := test.filter, managed
				f.VendorSearch = ask.search
				if ask.query != "" {
					want = searched
				}
				p := open(t, vendortest.Serve(t, page(ask.query, rows()), second), func(c *atlassian.Config) { c.VendorFilters = ask.vendorFilters })
				pages, err := list(t, p, f, "")
				if err != nil {
					t.Fatal(err)
				}
				for _, page := range pages {
					equal(t, "limits", page.Limits, want)
				}
			}
		})
	}
}

// The limit stays where the search was read on earlier pages, and is not there
// where nothing was searched.
func TestListTellsOfTheSearch(t *testing.T) {
	t.Parallel()
	f := providers.Filter{Query: "x", VendorSearch: true}
	pages, err := list(t, serve(t, get(services+"/api-tokens", array(botRow))), f, "s:")
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "limits after the search", pages[0].Limits, searched)

	f.Kind = providers.KindService
	pages, err = list(t, serve(t, get(services+"/api-tokens", array(botRow))), f, "")
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "limits without a search", pages[0].Limits, managed)

	if !providers.VendorSearch.Incomplete() {
		t.Error("a search counts as complete")
	}
}

// Where the vendor hides addresses, or names look alike only once they are
// cleaned, its search misses what a whole listing has.
func TestSearchMisses(t *testing.T) {
	t.Parallel()
	s, err := sandbox.New(sandbox.Options{Atlassian: sandbox.AtlassianOptions{HideEmails: true}})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(s.Handler())
	t.Cleanup(server.Close)
	access := s.Access(server.URL).Atlassian
	p := open(t, access.BaseURL, func(c *atlassian.Config) {
		c.OrgID, c.Credential, c.Now = access.OrgID, vendortest.Credential(access.Credential), nil
	})
	var owner sandbox.AtlassianAccount
	for _, account := range s.AtlassianAccounts() {
		if !account.ServiceAccount && !account.Unmanaged {
			owner = account
		}
	}
	token, err := s.AddAtlassianToken(sandbox.AtlassianToken{AccountID: owner.ID, Label: "night\u200bly"})
	if err != nil {
		t.Fatal(err)
	}
	verdict := func(f providers.Filter) (of providers.Verdict, complete bool) {
		pages, err := list(t, p, f, "")
		if err != nil {
			t.Fatal(err)
		}
		complete = true
		for _, page := range pages {
			complete = complete && !slices.ContainsFunc(page.Limits, providers.Limit.Incomplete)
			for i := range page.Tokens {
				if page.Tokens[i].ID == token.ID {
					of = f.Match(&page.Tokens[i])
				}
			}
		}
		return of, complete
	}
	for _, test := range []struct {
		filter   providers.Filter
		exact    providers.Verdict
		searched providers.Verdict
	}{
		{providers.Filter{Owner: "somebody@example.com"}, providers.Undecided, providers.NoMatch},
		{providers.Filter{Query: "nightly"}, providers.Match, providers.NoMatch},
	} {
		if got, complete := verdict(test.filter); got != test.exact || !complete {
			t.Errorf("%+v: verdict %v, complete %v", test.filter, got, complete)
		}
		test.filter.VendorSearch = true
		if got, complete := verdict(test.filter); got != test.searched || complete {
			t.Errorf("%+v: verdict %v, complete %v", test.filter, got, complete)
		}
	}
	// A single token is found all the same, and absent only from a whole listing.
	got, err := p.Get(t.Context(), providers.Ref{ID: token.ID, Owner: "somebody@example.com"})
	if err != nil || got.ID != token.ID {
		t.Errorf("got %+v, %v", got, err)
	}
	_, err = p.Get(t.Context(), providers.Ref{ID: "asp_none", Owner: "somebody@example.com"})
	wantCode(t, err, providers.CodeNotFound)
}

func TestQueryKnowsEveryParameter(t *testing.T) {
	t.Parallel()
	date := atlassian.DateQuery{SearchType: "st", Uom: "uom", Value: 7, From: "f", To: "t", RangeFrom: "rf", RangeTo: "rt"}
	q := atlassian.TokenQuery{Q: "q", Status: "ALLOWED", CreatedAt: date, LastActiveAt: date, Sort: "+createdAt", PageSize: 5, Cursor: "c"}
	want := url.Values{"q": {"q"}, "status": {"ALLOWED"}}
	for _, field := range []string{"createdAt", "lastActiveAt"} {
		for part, value := range map[string]string{"SearchType": "st", "Uom": "uom", "Value": "7", "From": "f", "To": "t", "RangeFrom": "rf", "RangeTo": "rt"} {
			want.Set(field+part, value)
		}
	}
	equal(t, "count", q.CountValues(), want)
	want["sort"], want["pageSize"], want["cursor"] = []string{"+createdAt"}, []string{"5"}, []string{"c"}
	equal(t, "list", q.ListValues(), want)
	if encoded := q.ListValues().Encode(); !strings.Contains(encoded, "sort=%2BcreatedAt") {
		t.Errorf("the plus is not escaped: %s", encoded)
	}
	equal(t, "zero", len(atlassian.TokenQuery{}.ListValues()), 0)
}

func TestListByKind(t *testing.T) {
	t.Parallel()
	pages, err := list(t, serve(t, page("", rows(robotRow))), providers.Filter{Kind: providers.KindUser}, "")
	if err != nil || len(pages) != 1 {
		t.Fatal(pages, err)
	}
	pages, err = list(t, serve(t, get(services+"/api-tokens", array(botRow))), providers.Filter{Kind: providers.KindService}, "")
	if err != nil || len(pages) != 1 {
		t.Fatal(pages, err)
	}
	equal(t, "limits", pages[0].Limits, managed)
	pages, err = list(t, serve(t, get(botList, array(botRow))), providers.Filter{Kind: providers.KindService, Owner: bot}, "")
	if err != nil || len(pages) != 1 {
		t.Fatal(pages, err)
	}
}

func TestListServiceAccountsMissing(t *testing.T) {
	t.Parallel()
	p := serve(t, page("", rows(robotRow)), refuse(services+"/api-tokens", 403, `{"message":"no"}`))
	pages, err := list(t, p, providers.Filter{}, "")
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "ids", ids(pages), []string{robot})
	equal(t, "first page", pages[0].Limits, managed)
	equal(t, "last page", pages[1].Limits, partial)

	t.Run("broken off", func(t *testing.T) {
		t.Parallel()
		p := serve(t, page("", rows()), get(services+"/api-tokens", `[{"id":"a"},`))
		pages, err := list(t, p, providers.Filter{}, "")
		if err != nil {
			t.Fatal(err)
		}
		equal(t, "ids", ids(pages), []string{"a"})
		equal(t, "last page", pages[1].Limits, partial)
	})
	t.Run("nothing else was asked for", func(t *testing.T) {
		t.Parallel()
		_, err := list(t, serve(t, refuse(services+"/api-tokens", 403, "")), providers.Filter{Kind: providers.KindService}, "")
		wantCode(t, err, providers.CodeForbidden)
	})
	t.Run("the credential is rejected", func(t *testing.T) {
		t.Parallel()
		_, err := list(t, serve(t, page401("")), providers.Filter{}, "")
		wantCode(t, err, providers.CodeCredentialRejected)
		_, err = list(t, serve(t, refuse(services+"/api-tokens", 401, "")), providers.Filter{}, "s:")
		wantCode(t, err, providers.CodeCredentialRejected)
	})
}

func page401(query string) vendortest.Exchange {
	e := page(query, `{"code":401,"message":"Unauthorized"}`)
	e.Status = 401
	return e
}

func TestListOfServiceAccounts(t *testing.T) {
	t.Parallel()
	t.Run("few", func(t *testing.T) {
		t.Parallel()
		p := serve(t, get(botList, array(botRow)), refuse(services+"/gone/api-tokens", 404, ""), get(services+"/a%7Cb/api-tokens", array(row("x"))))
		pages, err := list(t, p, providers.Filter{ServiceAccounts: []string{bot, "gone", bot, "a|b"}}, "")
		if err != nil {
			t.Fatal(err)
		}
		equal(t, "ids", ids(pages), []string{"asp_Bot", "x"})
		equal(t, "places", []string{pages[0].At, pages[1].At, pages[2].At}, []string{"a0:", "a1:", "a2:"})
		equal(t, "owner where the record names none", pages[2].Tokens[0].Owner.ID, "a|b")
	})
	t.Run("from the second", func(t *testing.T) {
		t.Parallel()
		pages, err := list(t, serve(t, get(botList, `[]`)), providers.Filter{ServiceAccounts: []string{"one", bot}}, "a1:")
		if err != nil || len(pages) != 1 {
			t.Error(pages, err)
		}
	})
	t.Run("many", func(t *testing.T) {
		t.Parallel()
		p := serve(t, get(services+"/api-tokens", array(botRow)))
		_, err := list(t, p, providers.Filter{ServiceAccounts: []string{"1", "2", "3", "4", "5", "6"}}, "")
		if err != nil {
			t.Error(err)
		}
		_, err = list(t, serve(t, refuse(services+"/api-tokens", 404, "")), providers.Filter{ServiceAccounts: []string{"1", "2", "3", "4", "5", "6"}}, "")
		wantCode(t, err, providers.CodeNotFound)
	})
	t.Run("refused", func(t *testing.T) {
		t.Parallel()
		_, err := list(t, serve(t, refuse(botList, 403, "")), providers.Filter{ServiceAccounts: []string{bot}}, "")
		wantCode(t, err, providers.CodeForbidden)
	})
	t.Run("another account's token", func(t *testing.T) {
		t.Parallel()
		_, err := list(t, serve(t, get(botList, array(robotRow))), providers.Filter{ServiceAccounts: []string{bot}}, "")
		wantCode(t, err, providers.CodeVendorProtocol)
	})
	t.Run("label", func(t *testing.T) {
		t.Parallel()
		f := providers.Filter{ServiceAccounts: []string{bot}, Query: "ci"}
		if _, err := list(t, serve(t, get(botList, `[]`)), f, ""); err != nil {
			t.Error(err)
		}
		e := get(botList, `[]`)
		e.Query = url.Values{"tokenLabel": {"ci"}}
		f.VendorSearch = true
		p := open(t, vendortest.Serve(t, e), func(c *atlassian.Config) { c.VendorFilters = true })
		pages, err := list(t, p, f, "")
		if err != nil {
			t.Fatal(err)
		}
		equal(t, "limits", pages[0].Limits, searched)
	})
}

func TestListArrayInPages(t *testing.T) {
	t.Parallel()
	f := providers.Filter{Kind: providers.KindService}
	pages, err := list(t, serve(t, get(services+"/api-tokens", numbered(0, 1200))), f, "")
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "places", []string{pages[0].At, pages[1].At, pages[2].At}, []string{"s:", "s:500:t500", "s:1000:t1000"})
	equal(t, "sizes", []int{len(pages[0].Tokens), len(pages[1].Tokens), len(pages[2].Tokens)}, []int{500, 500, 200})

	t.Run("from a place", func(t *testing.T) {
		t.Parallel()
		for name, answer := range map[string]string{"unchanged": numbered(0, 600), "some before are gone": numbered(100, 600)} {
			pages, err := list(t, serve(t, get(services+"/api-tokens", answer)), f, "s:500:t500")
			if err != nil || len(pages) != 1 {
				t.Fatal(name, err)
			}
			equal(t, name, pages[0].Tokens[0].ID, "t500")
			equal(t, name, len(pages[0].Tokens), 100)
			equal(t, name, pages[0].Limits, managed)
		}
	})
	t.Run("the token at the place is gone", func(t *testing.T) {
		t.Parallel()
		answer := get(services+"/api-tokens", array(row("t0"), row("t2"), row("t3")))
		pages, err := list(t, serve(t, answer, answer), f, "s:1:t1")
		if err != nil {
			t.Fatal(err)
		}
		equal(t, "ids", ids(pages), []string{"t2", "t3"})
		equal(t, "limits", pages[0].Limits, []providers.Limit{providers.ManagedAccountsOnly, providers.MovedWhileReading})
	})
	t.Run("break", func(t *testing.T) {
		t.Parallel()
		p := serve(t, get(services+"/api-tokens", numbered(0, 1200)))
		for range p.List(t.Context(), f, "") {
			break
		}
	})
}

func TestListOfOneOwner(t *testing.T) {
	t.Parallel()
	owner := providers.Filter{Owner: dana, CreatedAfter: time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)}
	danaService := services + "/" + dana + "/api-tokens"
	for name, test := range map[string]struct {
		exchanges []vendortest.Exchange
		ids       []string
		limits    []providers.Limit
		code      providers.Code
	}{
		"user management": {[]vendortest.Exchange{get(danaList, danaRows)}, []string{robot, "asp_1Yc7uHnP4dVt9s2A"}, managed, ""},
		"none":            {[]vendortest.Exchange{get(danaList, `[]`)}, []string{}, managed, ""},
		"unknown account": {[]vendortest.Exchange{refuse(danaList, 404, accountNotFound), refuse(danaService, 404, "")}, []string{}, managed, ""},
		"unknown account, services refused": {
			[]vendortest.Exchange{refuse(danaList, 404, accountNotFound), refuse(danaService, 403, "")},
			[]string{},
			partial, "",
		},
		"a service account": {[]vendortest.Exchange{refuse(danaList, 404, accountNotFound), get(danaService, array(row("x")))}, []string{"x"}, managed, ""},
		"scoped key": {
			[]vendortest.Exchange{refuse(danaList, 403, `{"code":403,"message":"needs manage:org"}`), page("", rows(robotRow)), refuse(danaService, 404, "")},
			[]string{robot},
			managed, "",
		},
		"other 404": {[]vendortest.Exchange{refuse(danaList, 404, "")}, []string{}, nil, providers.CodeBadAnswer},
		"broken":    {[]vendortest.Exchange{get(danaList, `[{"id":"a"}`)}, []string{}, nil, providers.CodeBadAnswer},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pages, err := list(t, serve(t, test.exchanges...), owner, "")
			wantCode(t, err, test.code)
			equal(t, "ids", ids(pages), test.ids)
			if len(pages) > 0 {
				equal(t, "limits", pages[len(pages)-1].Limits, test.limits)
			}
		})
	}
}

func TestTwoCredentials(t *testing.T) {
	t.Parallel()
	users := get(danaList, danaRows)
	users.Header = map[string]string{"Authorization": "Bearer unscoped"}
	base := vendortest.Serve(t, users, page("", rows()))
	p := open(t, base, func(c *atlassian.Config) { c.UserManagementCredential = vendortest.Credential("unscoped") })
	for _, f := range []providers.Filter{{Owner: dana}, {Kind: providers.KindUser}} {
		if _, err := list(t, p, f, ""); err != nil {
			t.Error(err)
		}
	}
}

func TestPageSize(t *testing.T) {
	t.Parallel()
	e := vendortest.Exchange{Method: http.MethodGet, Path: orgTokens, Query: url.Values{"pageSize": {"50"}}, Answer: rows()}
	p := open(t, vendortest.Serve(t, e), func(c *atlassian.Config) { c.PageSize = 50 })
	if _, err := list(t, p, providers.Filter{Kind: providers.KindUser}, ""); err != nil {
		t.Error(err)
	}
}
