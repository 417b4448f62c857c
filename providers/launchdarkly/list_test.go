package launchdarkly_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tokenreeve/tokenreeve/internal/vendortest"
	"github.com/tokenreeve/tokenreeve/providers"
	"github.com/tokenreeve/tokenreeve/providers/launchdarkly"
)

// listed is what a listing gave.
type listed struct {
	IDs    []string
	At     []string
	Limits []providers.Limit // of the last page
	Code   providers.Code
}

func list(t *testing.T, p *launchdarkly.Provider, from string) listed {
	t.Helper()
	var l listed
	for page, err := range p.List(t.Context(), providers.Filter{}, from) {
		if err != nil {
			l.Code = providers.CodeOf(err)
			continue
		}
		if l.Code != "" {
			t.Error("a page follows an error")
		}
		l.At = append(l.At, page.At)
		l.Limits = page.Limits
		for _, token := range page.Tokens {
			l.IDs = append(l.IDs, token.ID)
		}
	}
	return l
}

func ids(from, to int) []string {
	var all []string
	for i := from; i < to; i++ {
		all = append(all, id(i))
	}
	return all
}

func TestListing(t *testing.T) {
	t.Parallel()
	drop := func(index int) func(*account) {
		return func(a *account) { a.ids = slices.Delete(a.ids, index, index+1) }
	}
	insert := func(index, token int) func(*account) {
		return func(a *account) { a.ids = slices.Insert(a.ids, index, id(token)) }
	}
	at := func(request int, deeds ...func(*account)) func(*account, int) {
		return func(a *account, n int) {
			if n == request {
				for _, deed := range deeds {
					deed(a)
				}
			}
		}
	}
	moved := []providers.Limit{providers.MovedWhileReading}
	tests := []struct {
		name     string
		tokens   int
		pageSize int
		setup    func(*account)
		from     string
		want     listed
		requests int
	}{
		{name: "one page", tokens: 3, pageSize: 10, want: listed{IDs: ids(0, 3), At: []string{"0"}}, requests: 1},
		{name: "none", tokens: 0, pageSize: 10, want: listed{At: []string{"0"}}, requests: 1},
		{name: "exactly one page", tokens: 10, pageSize: 10, want: listed{IDs: ids(0, 10), At: []string{"0"}}, requests: 1},
		{name: "three pages", tokens: 25, pageSize: 10, want: listed{IDs: ids(0, 25), At: []string{"0", "10", "20"}}, requests: 3},
		{
			name: "the vendor cuts the limit", tokens: 12, pageSize: 10, setup: func(a *account) { a.maxLimit = 5 },
			want: listed{IDs: ids(0, 12), At: []string{"0", "5", "10"}}, requests: 3,
		},
		{
			name: "the total is the page's", tokens: 25, pageSize: 10, setup: func(a *account) { a.totalIsPage = true },
			want: listed{IDs: ids(0, 25), At: []string{"0", "10", "20"}}, requests: 3,
		},
		{
			name: "from an offset", tokens: 25, pageSize: 10, from: "10",
			want: listed{IDs: ids(10, 25), At: []string{"10", "20"}}, requests: 2,
		},
		{
			name: "from an offset, the total is the page's", tokens: 25, pageSize: 10, from: "20", setup: func(a *account) { a.totalIsPage = true },
			want: listed{IDs: ids(20, 25), At: []string{"20"}}, requests: 1,
		},
		{
			name: "from beyond the end", tokens: 5, pageSize: 10, from: "10",
			want: listed{At: []string{"10", "10"}, Limits: moved}, requests: 2,
		},
		{
			name: "made at the end meanwhile", tokens: 20, pageSize: 10, setup: func(a *account) { a.hook = at(2, insert(20, 20)) },
			want: listed{IDs: ids(0, 21), At: []string{"0", "10", "20"}}, requests: 3,
		},
		{
			name: "made at the start meanwhile", tokens: 15, pageSize: 10, setup: func(a *account) { a.hook = at(2, insert(0, 99)) },
			want: listed{IDs: append(ids(0, 15), id(99)), At: []string{"0", "10", "0"}}, requests: 4,
		},
		{
			name: "deleted meanwhile: one slipped to a page already read", tokens: 15, pageSize: 10,
			setup: func(a *account) { a.hook = at(2, drop(0)) },
			want:  listed{IDs: append(append(ids(0, 10), ids(11, 15)...), id(10)), At: []string{"0", "10", "0"}}, requests: 4,
		},
		{
			name: "moved in both passes", tokens: 15, pageSize: 10,
			setup: func(a *account) {
				a.hook = func(a *account, n int) {
					if n == 2 || n == 4 {
						a.ids = a.ids[1:]
					}
				}
			},
			want: listed{IDs: append(append(ids(0, 10), ids(11, 15)...), id(10)), At: []string{"0", "10", "0", "10"}, Limits: moved}, requests: 4,
		},
		{
			name: "not an admin", tokens: 3, pageSize: 10, setup: func(a *account) { a.role = "writer" },
			want: listed{IDs: ids(0, 3), At: []string{"0"}, Limits: []providers.Limit{providers.CredentialNotAdmin}}, requests: 1,
		},
		{
			name: "an owner", tokens: 3, pageSize: 10, setup: func(a *account) { a.role = "owner" },
			want: listed{IDs: ids(0, 3), At: []string{"0"}}, requests: 1,
		},
		{
			name: "role unknown", tokens: 3, pageSize: 10, setup: func(a *account) { a.identityFail = true },
			want: listed{IDs: ids(0, 3), At: []string{"0"}, Limits: []providers.Limit{providers.CredentialNotAdmin}}, requests: 1,
		},
		{name: "from no offset", from: "x", want: listed{Code: providers.CodeInvalidArgument}},
		{name: "from below 0", from: "-1", want: listed{Code: providers.CodeInvalidArgument}},
		{name: "from a padded number", from: "007", want: listed{Code: providers.CodeInvalidArgument}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			a, base := newAccount(t, tt.tokens)
			if tt.setup != nil {
				tt.setup(a)
			}
			got := list(t, sized(t, base, tt.pageSize), tt.from)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("listing (-want +got):\n%s", diff)
			}
			if n := len(a.requests()); n != tt.requests {
				t.Errorf("%d requests for pages, want %d: %v", n, tt.requests, a.requests())
			}
		})
	}
}

func TestListAsksForAllTokens(t *testing.T) {
	t.Parallel()
	var query atomic.Value
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		for name, value := range common() {
			if r.Header.Get(name) != value {
				t.Errorf("%s: header %s is %q", r.URL.Path, name, r.Header.Get(name))
			}
		}
		if r.URL.Path == "/api/v2/tokens" {
			query.Store(r.URL.Query().Encode())
			_, _ = w.Write([]byte(`{"items":[` + record(nil) + `],"totalCount":1,"_links":{}}`))
			return
		}
		w.WriteHeader(http.StatusForbidden)
	}))
	t.Cleanup(server.Close)
	list(t, provider(t, server.URL), "")
	if got := query.Load(); got != "limit=100&offset=0&showAll=true" {
		t.Errorf("query is %v", got)
	}
}

func TestListIsInOrderAndBounded(t *testing.T) {
	t.Parallel()
	a, base := newAccount(t, 400)
	a.delay = time.Millisecond
	got := list(t, sized(t, base, 10), "")
	if diff := cmp.Diff(ids(0, 400), got.IDs); diff != "" || got.Limits != nil {
		t.Errorf("limits %v, ids (-want +got):\n%s", got.Limits, diff)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.peak > 8 || a.peak < 2 {
		t.Errorf("%d pages were in flight, want up to 8", a.peak)
	}
	if len(a.offsets) != 40 || a.identities != 1 || a.reads != 1 {
		t.Errorf("%d pages, %d identities, %d reads", len(a.offsets), a.identities, a.reads)
	}
}

func TestListSendsNothingAheadOfTheFirstPage(t *testing.T) {
	t.Parallel()
	a, base := newAccount(t, 100)
	p := sized(t, base, 10)
	for range p.List(t.Context(), providers.Filter{}, "") {
		if n := len(a.requests()); n != 1 {
			t.Errorf("%d requests while the first page was looked at", n)
		}
		break
	}
	if n := len(a.requests()); n != 1 {
		t.Errorf("%d requests after the caller had enough", n)
	}
}

// A break leaves no request and no goroutine behind.
func TestListBreak(t *testing.T) { // not parallel: it counts goroutines
	a, base := newAccount(t, 1000)
	a.delay = time.Millisecond
	p := sized(t, base, 10)
	list(t, p, "") // connections are open
	before := runtime.NumGoroutine()
	pages := 0
	for range p.List(t.Context(), providers.Filter{}, "") {
		if pages++; pages == 3 {
			break
		}
	}
	asked := len(a.requests())
	if asked > 100+3+16 {
		t.Errorf("%d pages were asked for", asked-100)
	}
	for range 200 { // the HTTP client and server end what was cancelled in their own time
		if runtime.NumGoroutine() <= before+2 {
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	if after := runtime.NumGoroutine(); after > before+4 {
		t.Errorf("%d goroutines, %d before", after, before)
	}
	if n := len(a.requests()); n > asked+8 {
		t.Errorf("%d requests came after the break", n-asked)
	}
}

func TestListCancelled(t *testing.T) {
	t.Parallel()
	_, base := newAccount(t, 100)
	p := sized(t, base, 10)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var last error
	pages := 0
	for _, err := range p.List(ctx, providers.Filter{}, "") {
		if last = err; err == nil {
			pages++
			cancel()
		}
	}
	if pages == 10 {
		t.Error("all pages came")
	}
	wantCode(t, last, providers.CodeCancelled)
}

func TestListRanges(t *testing.T) {
	t.Parallel()
	_, base := newAccount(t, 12)
	p := sized(t, base, 5)
	sequence := p.List(t.Context(), providers.Filter{}, "")
	for range 2 {
		n := 0
		for page, err := range sequence {
			if err != nil {
				t.Fatal(err)
			}
			n += len(page.Tokens)
		}
		if n != 12 {
			t.Errorf("%d tokens", n)
		}
	}
}

// A vendor that ignores the offset and always names a next page must not keep us for ever.
func TestListOfAVendorThatTurnsInCircles(t *testing.T) {
	t.Parallel()
	for name, total := range map[string]string{"with a total": "1000000000", "without": "1", "no total": "null"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			page := `{"items":[` + record(nil) + `],"totalCount":` + total + `,"_links":{"next":{"href":"/api/v2/tokens?offset=1"}}}`
			got := list(t, provider(t, answering(t, page)), "")
			want := listed{IDs: []string{tokenID}, Limits: []providers.Limit{providers.CredentialNotAdmin, providers.MovedWhileReading}}
			if diff := cmp.Diff(want.IDs, got.IDs); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff(want.Limits, got.Limits); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// answering is a vendor whose lists are always the same page.
func answering(t *testing.T, page string) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if r.URL.Path != "/api/v2/tokens" {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		_, _ = w.Write([]byte(page))
	}))
	t.Cleanup(server.Close)
	return server.URL
}

func TestListAnswers(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		page string
		code providers.Code
		rows int
	}{
		"null everywhere":      {`{"items":null,"totalCount":0,"_links":null}`, "", 0},
		"no total, no links":   {`{"items":[` + record(nil) + `]}`, "", 1},
		"unknown members":      {`{"items":[` + record(map[string]any{"scope": 1}) + `],"totalCount":1,"more":{}}`, "", 1},
		"next without address": {`{"items":[],"totalCount":0,"_links":{"next":{}}}`, "", 0},
		"no list":              {`{"code":"x"}`, providers.CodeBadAnswer, 0},
		"HTML":                 {`<html>sign in</html>`, providers.CodeBadAnswer, 0},
		"cut off":              {`{"items":[` + record(nil), providers.CodeBadAnswer, 0},
		"empty":                {``, providers.CodeBadAnswer, 0},
		"another type":         {`{"items":{}}`, providers.CodeBadAnswer, 0},
		"no id":                {`{"items":[` + record(map[string]any{"_id": absent}) + `]}`, providers.CodeVendorProtocol, 0},
		"an id that lies":      {`{"items":[` + record(map[string]any{"_id": tokenID + "\u200b"}) + `]}`, providers.CodeVendorProtocol, 0},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := list(t, provider(t, answering(t, tt.page)), "")
			if got.Code != tt.code || len(got.IDs) != tt.rows {
				t.Errorf("code %q, %d rows; want %q, %d", got.Code, len(got.IDs), tt.code, tt.rows)
			}
		})
	}
}

func TestListErrorMidway(t *testing.T) {
	t.Parallel()
	a, base := newAccount(t, 100)
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("offset") == "30" {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		a.ServeHTTP(w, r)
	}))
	t.Cleanup(proxy.Close)
	_ = base
	got := list(t, sized(t, proxy.URL, 10), "")
	if diff := cmp.Diff(listed{IDs: ids(0, 30), At: []string{"0", "10", "20"}, Code: providers.CodeForbidden}, got); diff != "" {
		t.Errorf("listing (-want +got):\n%s", diff)
	}
}

func TestCount(t *testing.T) {
	t.Parallel()
	page := func(rows int, total string, next bool) string {
		items := make([]string, rows)
		for i := range items {
			items[i] = record(map[string]any{"_id": id(i)})
		}
		links := `{}`
		if next {
			links = `{"next":{"href":"/api/v2/tokens?limit=1&offset=1"}}`
		}
		return `{"items":[` + strings.Join(items, ",") + `],"totalCount":` + total + `,"_links":` + links + `}`
	}
	tests := map[string]struct {
		page  string
		total int
		ok    bool
	}{
		"a grand total":        {page(1, "31", true), 31, true},
		"one token":            {page(1, "1", false), 1, true},
		"none":                 {page(0, "0", false), 0, true},
		"the limit is ignored": {page(3, "3", false), 3, true},
		"the page's total":     {page(1, "1", true), 0, false},
		"no total":             {page(1, "null", false), 0, false},
		"a contradiction":      {page(1, "31", false), 0, false},
		"less than the rows":   {page(1, "0", false), 0, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			exchanges := []vendortest.Exchange{{
				Method: "GET", Path: "/api/v2/tokens", Answer: tt.page,
				Query: map[string][]string{"showAll": {"true"}, "limit": {"1"}, "offset": {"0"}},
			}}
			if tt.ok {
				exchanges = append(exchanges,
					vendortest.Exchange{Method: "GET", Path: "/api/v2/caller-identity", Answer: identityAnswer},
					vendortest.Exchange{Method: "GET", Path: "/api/v2/tokens/" + ownID, Answer: record(map[string]any{"_id": ownID})})
			}
			count, ok, err := serve(t, exchanges...).Count(t.Context(), providers.Filter{Now: start})
			if err != nil || ok != tt.ok || count.Total != tt.total {
				t.Errorf("count %+v, %v, %v", count, ok, err)
			}
			if ok && !slices.Equal(count.Limits, []providers.Limit{providers.CredentialNotAdmin}) {
				t.Errorf("limits %v", count.Limits)
			}
		})
	}
	t.Run("a filter", func(t *testing.T) {
		t.Parallel()
		if _, ok, err := serve(t).Count(t.Context(), providers.Filter{Kind: providers.KindUser}); ok || err != nil {
			t.Errorf("%v, %v", ok, err)
		}
	})
}

func TestConcurrentListingsAskForTheIdentityOnce(t *testing.T) {
	t.Parallel()
	a, base := newAccount(t, 5)
	p := provider(t, base)
	var callers sync.WaitGroup
	for range 20 {
		callers.Go(func() {
			for _, err := range p.List(t.Context(), providers.Filter{}, "") {
				if err != nil {
					t.Error(err)
				}
			}
			if _, err := p.Identity(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	callers.Wait()
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.identities != 1 || a.reads != 1 {
		t.Errorf("%d identities, %d reads", a.identities, a.reads)
	}
}
