package mailtrap_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tokenreeve/tokenreeve/internal/sandbox"
	"github.com/tokenreeve/tokenreeve/internal/vendortest"
	"github.com/tokenreeve/tokenreeve/providers"
	"github.com/tokenreeve/tokenreeve/providers/mailtrap"
	"github.com/tokenreeve/tokenreeve/providers/transport"
)

const (
	credential = "0123456789abcdef0123456789ab9daa"
	tokensPath = "/api/accounts/3229/api_tokens"
)

var now = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// config returns a valid configuration for a vendor at base.
func config(base string) mailtrap.Config {
	return mailtrap.Config{
		BaseURL: base, AccountID: 3229, Credential: vendortest.Credential(credential),
		Now: func() time.Time { return now },
	}
}

func build(t *testing.T, c mailtrap.Config) *mailtrap.Provider {
	t.Helper()
	hc, err := transport.New(transport.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(hc.CloseIdleConnections)
	p, err := mailtrap.New(hc, c, transport.Options{UserAgent: "test", Timeout: 5 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// serve returns a provider whose vendor answers as recorded.
func serve(t *testing.T, exchanges ...vendortest.Exchange) *mailtrap.Provider {
	t.Helper()
	return build(t, config(vendortest.Serve(t, exchanges...)))
}

// handle returns a provider whose vendor is handler, and its count of requests.
func handle(t *testing.T, handler http.HandlerFunc) (*mailtrap.Provider, *atomic.Int32) {
	t.Helper()
	count := &atomic.Int32{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		count.Add(1)
		handler(w, r)
	}))
	t.Cleanup(server.Close)
	return build(t, config(server.URL)), count
}

// simulated returns the sandbox and a provider of its account, as an admin.
func simulated(t *testing.T) (*sandbox.Sandbox, *mailtrap.Provider) {
	t.Helper()
	s, err := sandbox.New(sandbox.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return s, between(t, s, func() {})
}

// between returns a provider of the sandbox's account; event happens just before
// a change comes in.
func between(t *testing.T, s *sandbox.Sandbox, event func()) *mailtrap.Provider {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet {
			event()
		}
		s.Handler().ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	access := s.Access(server.URL).Mailtrap
	return build(t, mailtrap.Config{
		BaseURL: access.BaseURL, AccountID: access.AccountID, Credential: vendortest.Credential(access.Credential),
	})
}

// wantCode fails unless err is an Error of Mailtrap's with the code, and returns it.
func wantCode(t *testing.T, err error, code providers.Code) *providers.Error {
	t.Helper()
	var e *providers.Error
	if !errors.As(err, &e) {
		t.Fatalf("error is %v, want one with code %s", err, code)
	}
	if e.Code != code || e.Provider != "mailtrap" || e.Message == "" {
		t.Fatalf("error is %+v, want code %s", e, code)
	}
	for _, s := range []string{credential, newSecret} {
		if text := vendortest.Texts(err); strings.Contains(text, s) {
			t.Fatalf("the error shows a secret: %s", text)
		}
	}
	return e
}

func wantText(t *testing.T, got string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(got, part) {
			t.Errorf("%q lacks %q", got, part)
		}
	}
}

func TestNewNamesWhatIsWrong(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		change func(*mailtrap.Config)
		want   []string
	}{
		"account":    {func(c *mailtrap.Config) { c.AccountID = 0 }, []string{"account_id is 0", "at least 1"}},
		"negative":   {func(c *mailtrap.Config) { c.AccountID = -5 }, []string{"account_id is -5"}},
		"family":     {func(c *mailtrap.Config) { c.PathFamily = "org" }, []string{"path_family", `"org"`, `"account"`, `"flat"`}},
		"words":      {func(c *mailtrap.Config) { c.ResourceWords = "new" }, []string{"resource_words", `"current"`, `"old"`}},
		"base":       {func(c *mailtrap.Config) { c.BaseURL = "mailtrap.io" }, []string{"base_url"}},
		"query":      {func(c *mailtrap.Config) { c.BaseURL = "https://mailtrap.io/?a=b" }, []string{"base_url"}},
		"credential": {func(c *mailtrap.Config) { c.Credential = nil }, []string{"no credential"}},
		"all at once": {
			func(c *mailtrap.Config) { *c = mailtrap.Config{BaseURL: "x", PathFamily: "x"} },
			[]string{"account_id", "path_family", "base_url", "no credential"},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := config("https://mailtrap.io")
			tt.change(&c)
			_, err := mailtrap.New(http.DefaultClient, c, transport.Options{})
			if err == nil {
				t.Fatal("no error")
			}
			wantText(t, err.Error(), append(tt.want, "mailtrap: ")...)
		})
	}
}

func TestCheckID(t *testing.T) {
	t.Parallel()
	p := build(t, config(""))
	for _, id := range []string{"1", "2496915", "9223372036854775807"} {
		if err := p.CheckID(providers.PartToken, id); err != nil {
			t.Errorf("%s: %v", id, err)
		}
	}
	for _, id := range badIDs {
		e := wantCode(t, p.CheckID(providers.PartToken, id), providers.CodeInvalidArgument)
		wantText(t, e.Message, "token_id", "2496915")
		if len(e.Message) > 300 || strings.ContainsAny(e.Message, "\n\x1b") {
			t.Errorf("message is not clean: %q", e.Message)
		}
	}
	for _, part := range []providers.Part{providers.PartOwner, providers.PartServiceAccount} {
		e := wantCode(t, p.CheckID(part, "12"), providers.CodeInvalidArgument)
		wantText(t, e.Message, "no owner ids", string(part))
	}
}

var badIDs = []string{
	"", "0", "-1", "+1", "007", " 1", "1 ", "1.0", "1e3", "0x10", "..", ".", "1/reset", "%2e%2e", "1?x=y", "９",
	"9223372036854775808", "abc", "1\n2", strings.Repeat("9", 5000), "\x1b[31m",
}

// A bad id sends nothing, whichever way it comes.
func TestBadIDsSendNothing(t *testing.T) {
	t.Parallel()
	p, count := handle(t, func(http.ResponseWriter, *http.Request) {})
	for _, id := range badIDs {
		token := providers.Token{ID: id}
		_, err := p.Get(t.Context(), providers.Ref{ID: id, Owner: "x"})
		wantCode(t, err, providers.CodeInvalidArgument)
		_, err = p.Revoke(t.Context(), token)
		wantCode(t, err, providers.CodeInvalidArgument)
		_, err = p.PlanRotation(t.Context(), token, providers.RotationAsk{})
		wantCode(t, err, providers.CodeInvalidArgument)
		for _, method := range []providers.Method{providers.MethodReset, providers.MethodTwin} {
			_, err = p.Rotate(t.Context(), token, providers.RotationPlan{Method: method, NewExpires: providers.Never()})
			wantCode(t, err, providers.CodeInvalidArgument)
		}
	}
	if count.Load() != 0 {
		t.Errorf("%d requests were sent", count.Load())
	}
}

func TestIdentity(t *testing.T) {
	t.Parallel()
	tests := map[string]struct{ base, host string }{
		"default":      {"", "mailtrap.io"},
		"spelling":     {"https://MailTrap.io.:443/", "mailtrap.io"},
		"another port": {"http://127.0.0.1:8080/sandbox", "127.0.0.1:8080"},
		"IPv6":         {"http://[::1]:8080", "[::1]:8080"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := build(t, config(tt.base)).Identity(t.Context())
			want := providers.Identity{Host: tt.host, Account: "3229", OwnLastFour: "9daa"}
			if diff := cmp.Diff(want, got); err != nil || diff != "" {
				t.Errorf("%v (-want +got):\n%s", err, diff)
			}
		})
	}
}

func TestHandOff(t *testing.T) {
	t.Parallel()
	p := build(t, config(""))
	steps := p.HandOff(providers.DeedRotateOwnCredential)
	if len(steps) < 3 {
		t.Errorf("steps are %q", steps)
	}
	wantText(t, strings.Join(steps, " "), "API Tokens", "3229", "Delete the old token")
	for _, deed := range []providers.Deed{providers.DeedMint, providers.DeedRevokeServiceToken} {
		if steps := p.HandOff(deed); steps != nil {
			t.Errorf("%s: steps are %q", deed, steps)
		}
	}
}

func TestUnknownFields(t *testing.T) {
	t.Parallel()
	p := build(t, config(""))
	want := []providers.Field{"owner", "service_accounts", "kind", "created_after", "created_before", "unused_for"}
	if diff := cmp.Diff(want, p.Unknown()); diff != "" || p.Name() != "mailtrap" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestRevoke(t *testing.T) {
	t.Parallel()
	p := serve(t,
		vendortest.Exchange{
			Method: "DELETE", Path: tokensPath + "/2496915", Status: 204,
			Header: map[string]string{"Authorization": "Bearer " + credential, "Api-Token": "", "Content-Type": ""},
		},
		vendortest.Exchange{Method: "DELETE", Path: tokensPath + "/2496915", Status: 404, Answer: `{"error":"Not Found"}`},
	)
	for _, want := range []providers.Revocation{providers.Revoked, providers.AlreadyGone} {
		if got, err := p.Revoke(t.Context(), providers.Token{ID: "2496915"}); err != nil || got != want {
			t.Errorf("got %q, %v, want %q", got, err, want)
		}
	}
}

// A 404 after a repetition means that an earlier attempt did it, unless none of
// them can have been carried out.
func TestRevokeRepeated(t *testing.T) {
	t.Parallel()
	limited := vendortest.Exchange{Status: 429, Answer: `{"errors":"Rate limit exceeded"}`}
	broken := vendortest.Exchange{Status: 502, Answer: "<html>", AnswerHeader: html}
	gone := vendortest.Exchange{Status: 404, Answer: `{"error":"Not Found"}`}
	for name, tt := range map[string]struct {
		answers []vendortest.Exchange
		want    providers.Revocation
	}{
		"502":         {[]vendortest.Exchange{broken, gone}, providers.Revoked},
		"429":         {[]vendortest.Exchange{limited, gone}, providers.AlreadyGone},
		"429 and 502": {[]vendortest.Exchange{limited, broken, gone}, providers.Revoked},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for i := range tt.answers {
				tt.answers[i].Method, tt.answers[i].Path = "DELETE", tokensPath+"/7"
			}
			if got, err := serve(t, tt.answers...).Revoke(t.Context(), providers.Token{ID: "7"}); err != nil || got != tt.want {
				t.Errorf("got %q, %v", got, err)
			}
		})
	}
}

var html = map[string]string{"Content-Type": "text/html"}

// A 404 that a proxy may have made proves nothing.
func TestStrange404(t *testing.T) {
	t.Parallel()
	strange := vendortest.Exchange{Method: "DELETE", Path: tokensPath + "/7", Status: 404, Answer: "<html>no such page", AnswerHeader: html}
	_, err := serve(t, strange).Revoke(t.Context(), providers.Token{ID: "7"})
	wantCode(t, err, providers.CodeBadAnswer)

	failed := vendortest.Exchange{Method: "DELETE", Path: tokensPath + "/7", Status: 500, Answer: `{"errors":"Unexpected error"}`}
	_, err = serve(t, failed, strange).Revoke(t.Context(), providers.Token{ID: "7"})
	wantCode(t, err, providers.CodeOutcomeUnknown)

	limited := vendortest.Exchange{Method: "DELETE", Path: tokensPath + "/7", Status: 429, Answer: `{"errors":"Rate limit exceeded"}`}
	_, err = serve(t, limited, strange).Revoke(t.Context(), providers.Token{ID: "7"})
	wantCode(t, err, providers.CodeBadAnswer)

	_, err = serve(t, vendortest.Exchange{Method: "GET", Path: tokensPath + "/7", Status: 404}).Get(t.Context(), providers.Ref{ID: "7"})
	wantCode(t, err, providers.CodeBadAnswer)
}

// Nor does a success that is not the vendor's.
func TestStrangeSuccess(t *testing.T) {
	t.Parallel()
	for _, answer := range []vendortest.Exchange{{Status: 200, Answer: "<html>please stand by", AnswerHeader: html}, {Status: 202}} {
		answer.Method, answer.Path = "DELETE", tokensPath+"/7"
		revocation, err := serve(t, answer).Revoke(t.Context(), providers.Token{ID: "7"})
		wantCode(t, err, providers.CodeOutcomeUnknown)
		if revocation != "" {
			t.Errorf("%d: %q", answer.Status, revocation)
		}
	}
}

func TestRevokeRefused(t *testing.T) {
	t.Parallel()
	p := serve(t, vendortest.Exchange{
		Method: "DELETE", Path: tokensPath + "/7", Status: 422, Answer: `{"errors":{"base":["Cannot delete the last token"]}}`,
	})
	_, err := p.Revoke(t.Context(), providers.Token{ID: "7"})
	e := wantCode(t, err, providers.CodeRejected)
	wantText(t, e.Message, "base: Cannot delete the last token")
	wantText(t, e.Next, "sending domain")
}

func TestStatusesOfGet(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		status int
		answer string
		code   providers.Code
		want   string
	}{
		"401":              {401, `{"error":"Incorrect API token"}`, providers.CodeCredentialRejected, "lacks a permission"},
		"403":              {403, `{"errors":"Account access forbidden"}`, providers.CodeForbidden, "Account access forbidden"},
		"404":              {404, `{"error":"Not Found"}`, providers.CodeNotFound, "Not Found"},
		"422 base":         {422, `{"errors":{"base":["No permissions selected."]}}`, providers.CodeRejected, `"base: No permissions selected."`},
		"422 fields":       {422, `{"errors":{"name":["can't be blank","is odd"],"base":"x"}}`, providers.CodeRejected, `"base: x; name: can't be blank, is odd"`},
		"422 nested":       {422, `{"errors":{"resources":[{"id":["bad"]},{"id":null}]}}`, providers.CodeRejected, `"resources: id: bad"`},
		"422 odd":          {422, `{"errors":[true,7,null],"error":5}`, providers.CodeRejected, `"true, 7"`},
		"422 deep":         {422, `{"errors":` + strings.Repeat("[", 2000) + strings.Repeat("]", 2000) + `}`, providers.CodeRejected, "…"},
		"422 no JSON":      {422, `{"errors":`, providers.CodeRejected, "refused"},
		"422 array":        {422, `["x"]`, providers.CodeRejected, "refused"},
		"302":              {302, ``, providers.CodeBadAnswer, "redirect"},
		"200 HTML":         {200, `<html>`, providers.CodeBadAnswer, "not the JSON"},
		"200 cut":          {200, `{"id":7,"name":"a`, providers.CodeBadAnswer, "not the JSON"},
		"200 empty":        {200, ``, providers.CodeBadAnswer, "not the JSON"},
		"200 null":         {200, `null`, providers.CodeVendorProtocol, "asked for token 7"},
		"200 another id":   {200, `{"id":8,"name":"a"}`, providers.CodeVendorProtocol, `"8"`},
		"200 no id":        {200, `{"name":"a"}`, providers.CodeVendorProtocol, "asked for token 7"},
		"200 hostile id":   {200, `{"id":"7\u202e\n7"}`, providers.CodeVendorProtocol, "asked for token 7"},
		"200 an array":     {200, `[{"id":7}]`, providers.CodeBadAnswer, "not the JSON"},
		"hostile messages": {422, `{"errors":"a\u202e\u0007b 0123456789abcdef0123456789abcdef"}`, providers.CodeRejected, `"ab [redacted]"`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := serve(t, vendortest.Exchange{Method: "GET", Path: tokensPath + "/7", Status: tt.status, Answer: tt.answer})
			_, err := p.Get(t.Context(), providers.Ref{ID: "7"})
			e := wantCode(t, err, tt.code)
			wantText(t, e.Message, tt.want)
			if e.VendorCode != "" || e.Next == "" || e.Status != tt.status {
				t.Errorf("error is %+v", e)
			}
		})
	}
}

func TestReadsAreRepeated(t *testing.T) {
	t.Parallel()
	for name, first := range map[string]vendortest.Exchange{
		"429": {Status: 429, Answer: `{"errors":"Rate limit exceeded"}`},
		"500": {Status: 500, Answer: `{"errors":"Unexpected error"}`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			first.Method, first.Path = "GET", tokensPath+"/7"
			p := serve(t, first, vendortest.Exchange{Method: "GET", Path: tokensPath + "/7", Answer: `{"id":7}`})
			if got, err := p.Get(t.Context(), providers.Ref{ID: "7"}); err != nil || got.ID != "7" {
				t.Errorf("got %+v, %v", got, err)
			}
		})
	}
}

// An answer with little left must not slow down what follows while some is left,
// and odd headers must not harm.
func TestBudgetHeaders(t *testing.T) {
	t.Parallel()
	var exchanges []vendortest.Exchange
	for _, left := range []string{"149", "2", "-1", "many", ""} {
		exchanges = append(exchanges, vendortest.Exchange{
			Method: "GET", Path: tokensPath + "/7", Answer: `{"id":7}`,
			AnswerHeader: map[string]string{"X-Ratelimit-Limit": "150", "X-Ratelimit-Remaining": left},
		})
	}
	exchanges[2].AnswerHeader["X-Ratelimit-Limit"] = "odd"
	p := serve(t, exchanges...)
	for range exchanges {
		if _, err := p.Get(t.Context(), providers.Ref{ID: "7"}); err != nil {
			t.Error(err)
		}
	}
}

// Where the window is used up, the next request waits for its end: a call with
// less time is told so and sends nothing.
func TestBudgetUsedUp(t *testing.T) {
	t.Parallel()
	p, count := handle(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Ratelimit-Limit", "150")
		w.Header().Set("X-Ratelimit-Remaining", "0")
		_, _ = w.Write([]byte(`{"id":7}`))
	})
	// At the very end of a window the second request goes out with the next one.
	for range 2 {
		if _, err := p.Get(t.Context(), providers.Ref{ID: "7"}); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := contextFor(t, time.Millisecond)
		_, err := p.Get(ctx, providers.Ref{ID: "7"})
		cancel()
		if providers.CodeOf(err) == providers.CodeRateLimited {
			return
		}
	}
	t.Errorf("%d requests were sent although nothing was left", count.Load())
}
