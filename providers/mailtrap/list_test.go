package mailtrap_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tokenreeve/tokenreeve/internal/vendortest"
	"github.com/tokenreeve/tokenreeve/providers"
	"github.com/tokenreeve/tokenreeve/providers/mailtrap"
)

func contextFor(t *testing.T, d time.Duration) (context.Context, context.CancelFunc) {
	t.Helper()
	return context.WithTimeout(t.Context(), d)
}

// recorded is the vendor's listing as it was recorded.
const recorded = `[{"resources":[{"resource_type":"account","resource_id":3229,"access_level":100}],
  "id":2496915,"name":"CI sender","last_4_digits":"9daa","created_by":"Dana Example","expires_at":null}]`

func list(t *testing.T, p *mailtrap.Provider, from string) ([]providers.Page, error) {
	t.Helper()
	var pages []providers.Page
	for page, err := range p.List(t.Context(), providers.Filter{}, from) {
		if err != nil {
			return pages, err
		}
		pages = append(pages, page)
	}
	return pages, nil
}

func rows(n int) string {
	parts := make([]string, n)
	for i := range parts {
		parts[i] = fmt.Sprintf(`{"id":%d,"name":"t%d","expires_at":null,"resources":[]}`, i+1, i+1)
	}
	return "[" + strings.Join(parts, ",") + "]"
}

func TestListAsRecorded(t *testing.T) {
	t.Parallel()
	for family, path := range map[string]string{"": tokensPath, "account": tokensPath, "flat": "/api/api_tokens"} {
		t.Run(family, func(t *testing.T) {
			t.Parallel()
			c := config(vendortest.Serve(t, vendortest.Exchange{
				Method: "GET", Path: path, Answer: recorded,
				Header: map[string]string{"Authorization": "Bearer " + credential, "Api-Token": "", "Accept": "application/json", "User-Agent": "test"},
			}))
			c.PathFamily = family
			pages, err := list(t, build(t, c), "")
			if err != nil {
				t.Fatal(err)
			}
			want := []providers.Page{{
				At: "0", Limits: []providers.Limit{providers.VisibleToCredential},
				Tokens: []providers.Token{{
					ID: "2496915", Name: "CI sender", Kind: providers.KindUnknown, Status: providers.StatusActive,
					Access: providers.AccessAdmin, Expires: providers.Never(), AccessKey: "account/3229 100", LastFour: "9daa",
					Detail: providers.Detail{CreatedBy: "Dana Example", Scopes: []string{"account/3229 admin"}},
				}},
			}}
			if diff := cmp.Diff(want, pages); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestListPages(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		rows   int
		from   string
		at     []string
		counts []int
		first  string
		limits int
	}{
		"none":             {0, "", []string{"0"}, []int{0}, "", 1},
		"one page":         {500, "", []string{"0"}, []int{500}, "1", 1},
		"two pages":        {501, "", []string{"0", "500"}, []int{500, 1}, "1", 1},
		"three pages":      {1200, "", []string{"0", "500", "1000"}, []int{500, 500, 200}, "1", 1},
		"from the second":  {1200, "500", []string{"500", "1000"}, []int{500, 200}, "501", 1},
		"from between":     {10, "4", []string{"4"}, []int{6}, "5", 1},
		"from the start":   {3, "0", []string{"0"}, []int{3}, "1", 1},
		"behind the end":   {3, "500", []string{"500"}, []int{0}, "", 2},
		"right at the end": {500, "500", []string{"500"}, []int{0}, "", 2},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := serve(t, vendortest.Exchange{Method: "GET", Path: tokensPath, Answer: rows(tt.rows)})
			pages, err := list(t, p, tt.from)
			if err != nil || len(pages) != len(tt.at) {
				t.Fatalf("%d pages, %v", len(pages), err)
			}
			for i, page := range pages {
				if page.At != tt.at[i] || len(page.Tokens) != tt.counts[i] {
					t.Errorf("page %d is at %s with %d tokens", i, page.At, len(page.Tokens))
				}
			}
			if tt.first != "" && pages[0].Tokens[0].ID != tt.first {
				t.Errorf("first is %s", pages[0].Tokens[0].ID)
			}
			if len(pages[0].Limits) != tt.limits || pages[0].Limits[0] != providers.VisibleToCredential {
				t.Errorf("limits are %v", pages[0].Limits)
			}
		})
	}
}

func TestListFromNonsense(t *testing.T) {
	t.Parallel()
	p, count := handle(t, func(http.ResponseWriter, *http.Request) {})
	for _, from := range []string{"-1", "x", "+1", "01", "1.5", "99999999999"} {
		_, err := list(t, p, from)
		wantCode(t, err, providers.CodeInvalidArgument)
	}
	if count.Load() != 0 {
		t.Error("a request was sent")
	}
}

func TestListStopsEarly(t *testing.T) {
	t.Parallel()
	p := serve(t, vendortest.Exchange{Method: "GET", Path: tokensPath, Answer: rows(2000)})
	for page, err := range p.List(t.Context(), providers.Filter{}, "") {
		if err != nil || len(page.Tokens) != 500 {
			t.Errorf("%d tokens, %v", len(page.Tokens), err)
		}
		break
	}
}

func TestListSendsNothingBeforeItIsTaken(t *testing.T) {
	t.Parallel()
	p, count := handle(t, func(http.ResponseWriter, *http.Request) {})
	_ = p.List(t.Context(), providers.Filter{}, "")
	if count.Load() != 0 {
		t.Error("a request was sent")
	}
}

func TestListFails(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		status int
		answer string
		tokens int
		code   providers.Code
	}{
		"401":            {401, `{"error":"Incorrect API token"}`, 0, providers.CodeCredentialRejected},
		"403":            {403, `{"errors":"Access forbidden"}`, 0, providers.CodeForbidden},
		"HTML":           {200, `<html>`, 0, providers.CodeBadAnswer},
		"empty":          {200, ``, 0, providers.CodeBadAnswer},
		"null":           {200, `null`, 0, providers.CodeBadAnswer},
		"object":         {200, `{"id":1}`, 0, providers.CodeBadAnswer},
		"cut after some": {200, `[{"id":1},{"id":2},{"id":`, 2, providers.CodeBadAnswer},
		"no end":         {200, `[{"id":1}`, 1, providers.CodeBadAnswer},
		"no object":      {200, `[{"id":1},7]`, 1, providers.CodeBadAnswer},
		"no id":          {200, `[{"id":1},{"name":"x"}]`, 1, providers.CodeBadAnswer},
		"id zero":        {200, `[{"id":0}]`, 0, providers.CodeBadAnswer},
		"id is a path":   {200, `[{"id":"../1"}]`, 0, providers.CodeBadAnswer},
		"id too large":   {200, `[{"id":92233720368547758080}]`, 0, providers.CodeBadAnswer},
		"id is a list":   {200, `[{"id":[1]}]`, 0, providers.CodeBadAnswer},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pages, err := list(t, serve(t, vendortest.Exchange{Method: "GET", Path: tokensPath, Status: tt.status, Answer: tt.answer}), "")
			wantCode(t, err, tt.code)
			got := 0
			for _, page := range pages {
				got += len(page.Tokens)
			}
			if got != tt.tokens {
				t.Errorf("%d tokens came before the error, want %d", got, tt.tokens)
			}
		})
	}
}

func TestListTakesOddMembers(t *testing.T) {
	t.Parallel()
	p := serve(t, vendortest.Exchange{Method: "GET", Path: tokensPath, Answer: `[null,
		{"id":"12","name":null,"last_4_digits":null,"created_by":null,"expires_at":7,"resources":null,"new_member":{}},
		{"id":13,"name":["x"],"last_4_digits":9,"created_by":{},"resources":{"a":1}},
		{"id":14,"name":5,"expires_at":"soon","resources":[null,{"resource_type":7,"resource_id":"ab","access_level":"x"}]}]`})
	pages, err := list(t, p, "")
	if err != nil || len(pages) != 1 || len(pages[0].Tokens) != 3 {
		t.Fatalf("%+v, %v", pages, err)
	}
	for i, token := range pages[0].Tokens {
		if !token.Expires.IsUnknown() || token.Status != providers.StatusUnknown {
			t.Errorf("%d: expires %v, status %v", i, token.Expires, token.Status)
		}
	}
	if a := pages[0].Tokens[2].Access; a != providers.AccessCustom {
		t.Errorf("access is %s", a)
	}
}
