package atlassian_test

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tokenreeve/tokenreeve/internal/vendortest"
	"github.com/tokenreeve/tokenreeve/providers"
	"github.com/tokenreeve/tokenreeve/providers/atlassian"
	"github.com/tokenreeve/tokenreeve/providers/transport"
)

const (
	org       = "8d2f6f1c-5a1e-4b7c-9c39-1f6a2f1d7e55"
	dana      = "712020:3f0c1f3e-77aa-4a4e-9a0b-0d5a1f0c9c11"
	bot       = "712020:5b0d6a2e-1f61-4a7d-8b9e-6a4a0e0b2d10"
	robot     = "asp_Zq3LmT81xWbKc0Rd"
	orgTokens = "/admin/api-access/v1/orgs/" + org + "/api-tokens"
	services  = "/admin/api-access/v1/orgs/" + org + "/service-accounts"
	danaList  = "/users/" + dana + "/manage/api-tokens"
	botList   = services + "/" + bot + "/api-tokens"

	// The records of the vendor's reference.
	robotRow = `{"id":"asp_Zq3LmT81xWbKc0Rd","label":"build robot","status":"ALLOWED",
		"createdAt":"2026-01-14T09:12:33.412Z","expiresAt":"2027-01-14T09:12:33.412Z","lastActiveAt":"2026-06-02T17:40:05.118Z",
		"user":{"id":"712020:3f0c1f3e-77aa-4a4e-9a0b-0d5a1f0c9c11","orgId":"8d2f6f1c-5a1e-4b7c-9c39-1f6a2f1d7e55","name":"Dana Example","email":"dana@example.com"},
		"scopes":[]}`
	botRow = `{"id":"asp_Bot","label":"ci","status":"ALLOWED","createdAt":"2026-02-01T00:00:00.000Z",
		"user":{"id":"712020:5b0d6a2e-1f61-4a7d-8b9e-6a4a0e0b2d10","name":"CI bot","email":"ci@serviceaccount.atlassian.com"},"scopes":["write:jira-work","read:jira-work"]}`
	danaRows = `[{"id":"asp_Zq3LmT81xWbKc0Rd","label":"build robot","createdAt":"2026-01-14T09:12:33.412Z","lastAccess":"2026-06-02T17:40:05.118Z","expiry":"2027-01-14T09:12:33.412Z"},
		{"id":"asp_1Yc7uHnP4dVt9s2A","label":"old script","createdAt":"2024-03-02T11:00:00.000Z"}]`

	accountNotFound = `{"key":"accountNotFound"}`
)

var now = time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC)

// open returns a provider of the vendor at base.
func open(t *testing.T, base string, change ...func(*atlassian.Config)) *atlassian.Provider {
	t.Helper()
	c := atlassian.Config{BaseURL: base, OrgID: org, Credential: vendortest.Credential("org-key"), Now: func() time.Time { return now }}
	for _, f := range change {
		f(&c)
	}
	hc, err := transport.New(transport.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(hc.CloseIdleConnections)
	p, err := atlassian.New(hc, c, transport.Options{UserAgent: "tokenreeve-test", Timeout: 5 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// serve returns a provider of a vendor that expects the exchanges.
func serve(t *testing.T, exchanges ...vendortest.Exchange) *atlassian.Provider {
	t.Helper()
	return open(t, vendortest.Serve(t, exchanges...))
}

// get is a GET with the connection's key.
func get(path, answer string) vendortest.Exchange {
	return vendortest.Exchange{
		Method: http.MethodGet, Path: path, Answer: answer,
		Header: map[string]string{"Authorization": "Bearer org-key", "Accept": "application/json", "Content-Type": ""},
	}
}

// refuse is a GET that fails.
func refuse(path string, status int, answer string) vendortest.Exchange {
	return vendortest.Exchange{Method: http.MethodGet, Path: path, Status: status, Answer: answer}
}

// page is a GET of the organization's listing with the parameters in query.
func page(query, answer string) vendortest.Exchange {
	e := get(orgTokens, answer)
	e.Query, _ = url.ParseQuery("pageSize=1000&" + query)
	return e
}

func rows(rows ...string) string {
	return `{"data":[` + strings.Join(rows, ",") + `],"links":{"next":""}}`
}

func array(rows ...string) string { return "[" + strings.Join(rows, ",") + "]" }

// hangUp is a vendor that reads each request and closes the connection instead
// of answering.
func hangUp(t *testing.T) (string, *atomic.Int32) {
	t.Helper()
	var requests atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		requests.Add(1)
		panic(http.ErrAbortHandler)
	}))
	t.Cleanup(server.Close)
	return server.URL, &requests
}

// list reads all pages.
func list(t *testing.T, p *atlassian.Provider, f providers.Filter, from string) ([]providers.Page, error) {
	t.Helper()
	var pages []providers.Page
	for page, err := range p.List(t.Context(), f, from) {
		if err != nil {
			return pages, err
		}
		pages = append(pages, page)
	}
	return pages, nil
}

func ids(pages []providers.Page) []string {
	all := []string{}
	for _, page := range pages {
		for _, token := range page.Tokens {
			all = append(all, token.ID)
		}
	}
	return all
}

func equal(t *testing.T, what string, got, want any, options ...cmp.Option) {
	t.Helper()
	if diff := cmp.Diff(want, got, options...); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

func wantCode(t *testing.T, err error, want providers.Code) {
	t.Helper()
	if got := providers.CodeOf(err); got != want {
		t.Errorf("code is %q, want %q: %v", got, want, err)
	}
}

func at(t *testing.T, moment string) providers.Date {
	t.Helper()
	parsed, err := time.Parse(time.RFC3339, moment)
	if err != nil {
		t.Fatal(err)
	}
	return providers.At(parsed)
}
