package mailtrap_test

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/tokenreeve/tokenreeve/internal/sanitize"
	"github.com/tokenreeve/tokenreeve/internal/vendortest"
	"github.com/tokenreeve/tokenreeve/providers"
	"github.com/tokenreeve/tokenreeve/providers/mailtrap"
	"github.com/tokenreeve/tokenreeve/providers/transport"
)

// mapped returns the token that a record with the members becomes.
func mapped(t *testing.T, members string) providers.Token {
	t.Helper()
	p := serve(t, vendortest.Exchange{Method: "GET", Path: tokensPath + "/7", Answer: `{"id":7,` + members + `}`})
	token, err := p.Get(t.Context(), providers.Ref{ID: "7"})
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func resource(kind string, id any, level any) string {
	return fmt.Sprintf(`{"resource_type":%q,"resource_id":%v,"access_level":%v}`, kind, id, level)
}

func TestAccess(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		resources []string
		access    providers.Access
		scopes    []string
	}{
		"none":               {nil, providers.AccessUnknown, nil},
		"account admin":      {[]string{resource("account", 3229, 100)}, providers.AccessAdmin, []string{"account/3229 admin"}},
		"account owner":      {[]string{resource("account", 3229, 1000)}, providers.AccessAdmin, []string{"account/3229 owner"}},
		"admin among others": {[]string{resource("project", 1, 10), resource("account", 3229, 100)}, providers.AccessAdmin, []string{"project/1 viewer", "account/3229 admin"}},
		"viewer":             {[]string{resource("account", 3229, 10), resource("sandbox", 4, 50)}, providers.AccessRead, []string{"account/3229 viewer", "sandbox/4 viewer plus"}},
		"partial admin":      {[]string{resource("project", 12, 100)}, providers.AccessCustom, []string{"project/12 admin"}},
		"mixed":              {[]string{resource("inbox", 12, 10), resource("sending_domain", 5, 100)}, providers.AccessCustom, []string{"inbox/12 viewer", "sending_domain/5 admin"}},
		"indeterminate":      {[]string{resource("account", 3229, 1)}, providers.AccessCustom, []string{"account/3229 indeterminate"}},
		"unknown words":      {[]string{resource("billing", `"ab"`, 77)}, providers.AccessCustom, []string{"billing/ab 77"}},
		"no level":           {[]string{resource("account", 1, "null")}, providers.AccessCustom, []string{"account/1 unknown"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			token := mapped(t, `"resources":[`+strings.Join(tt.resources, ",")+`]`)
			if token.Access != tt.access {
				t.Errorf("access is %s, want %s", token.Access, tt.access)
			}
			if diff := cmp.Diff(tt.scopes, token.Detail.Scopes); diff != "" {
				t.Errorf("scopes (-want +got):\n%s", diff)
			}
		})
	}
}

func TestManyScopes(t *testing.T) {
	t.Parallel()
	for n, want := range map[int]int{20: 20, 21: 21, 500: 21} {
		var all []string
		for i := range n {
			all = append(all, resource("project", i+1, 10))
		}
		token := mapped(t, `"resources":[`+strings.Join(all, ",")+`]`)
		scopes := token.Detail.Scopes
		if len(scopes) != want {
			t.Errorf("%d resources give %d scopes", n, len(scopes))
		}
		if last := scopes[len(scopes)-1]; n > 20 && last != fmt.Sprintf("… and %d more", n-20) {
			t.Errorf("last scope is %q", last)
		}
		if len(token.AccessKey) != 64 {
			t.Errorf("access key is %q", token.AccessKey)
		}
	}
}

// The access key changes with every part of every permission, and not with their order.
func TestAccessKey(t *testing.T) {
	t.Parallel()
	key := func(resources string) string { return mapped(t, `"resources":`+resources).AccessKey }
	a, b := resource("project", 1, 10), resource("sandbox", 2, 100)
	if key("["+a+","+b+"]") != key("["+b+","+a+"]") {
		t.Error("the order changes the key")
	}
	seen := map[string]string{}
	for _, resources := range []string{
		"null", "[" + a + "]", "[" + a + "," + a + "]", "[" + b + "]", "[" + a + "," + b + "]",
		"[" + resource("inbox", 2, 100) + "]", "[" + resource("project", 1, 50) + "]", "[" + resource("project", 2, 10) + "]",
		"[" + resource("project/1 10, sandbox", 2, 100) + "]", "[null]", `{"a":1}`, `{"a":2}`, `"x"`,
		"[" + resource("project", `"1"`, `"admin"`) + "]", "[" + resource("project", `{"x":1}`, 10) + "]",
	} {
		k := key(resources)
		if before, ok := seen[k]; ok {
			t.Errorf("%s and %s have the same key %q", before, resources, k)
		}
		seen[k] = resources
	}
}

func TestExpiresAndStatus(t *testing.T) {
	t.Parallel()
	at := func(s string) providers.Date {
		parsed, err := time.Parse(time.RFC3339, s)
		if err != nil {
			t.Fatal(err)
		}
		return providers.At(parsed)
	}
	tests := map[string]struct {
		members string
		date    providers.Date
		status  providers.Status
	}{
		"null":        {`"expires_at":null`, providers.Never(), providers.StatusActive},
		"absent":      {`"name":"x"`, providers.Date{}, providers.StatusUnknown},
		"unreadable":  {`"expires_at":"next week"`, providers.Date{}, providers.StatusUnknown},
		"empty":       {`"expires_at":""`, providers.Date{}, providers.StatusUnknown},
		"number":      {`"expires_at":1795000000`, providers.Date{}, providers.StatusUnknown},
		"future":      {`"expires_at":"2027-01-01T00:00:00Z"`, at("2027-01-01T00:00:00Z"), providers.StatusActive},
		"fractions":   {`"expires_at":"2027-01-01T00:00:00.123Z"`, at("2027-01-01T00:00:00.123Z"), providers.StatusActive},
		"offset":      {`"expires_at":"2027-01-01T02:00:00+02:00"`, at("2027-01-01T00:00:00Z"), providers.StatusActive},
		"bare offset": {`"expires_at":"2027-01-01T02:00:00.5+0200"`, at("2027-01-01T00:00:00.5Z"), providers.StatusActive},
		"no zone":     {`"expires_at":"2027-01-01T00:00:00"`, at("2027-01-01T00:00:00Z"), providers.StatusActive},
		"day":         {`"expires_at":"2027-01-01"`, at("2027-01-01T00:00:00Z"), providers.StatusActive},
		"now":         {`"expires_at":"2026-11-22T12:00:00Z"`, at("2026-11-22T12:00:00Z"), providers.StatusExpired},
		"a second on": {`"expires_at":"2026-11-22T12:00:01Z"`, at("2026-11-22T12:00:01Z"), providers.StatusActive},
		"past":        {`"expires_at":"2020-01-01T00:00:00Z"`, at("2020-01-01T00:00:00Z"), providers.StatusExpired},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			token := mapped(t, tt.members)
			if !token.Expires.Equal(tt.date) || token.Status != tt.status {
				t.Errorf("got %v, %s, want %v, %s", token.Expires, token.Status, tt.date, tt.status)
			}
			if !token.Created.IsUnknown() || !token.LastUsed.IsUnknown() || token.Kind != providers.KindUnknown || token.Owner != (providers.Owner{}) {
				t.Errorf("something is told that Mailtrap does not tell: %+v", token)
			}
		})
	}
}

func TestNames(t *testing.T) {
	t.Parallel()
	clean := mapped(t, `"name":"CI sender","created_by":"Ops\u202e token\u0000"`)
	if clean.NameAltered || clean.NameKey != "" || clean.Detail.CreatedBy != "Ops token" {
		t.Errorf("token is %+v", clean)
	}
	raw := "CI\u202e sender\n\x00ignore"
	altered := mapped(t, `"name":"CI\u202e sender\n\u0000ignore"`)
	sum := sha256.Sum256([]byte(raw))
	if !altered.NameAltered || altered.Name != "CI sender ignore" || altered.NameKey != hex.EncodeToString(sum[:]) {
		t.Errorf("token is %+v", altered)
	}
	hostile := mapped(t, `"resources":[`+resource(`a\u202e\u0007b`, `"0123456789abcdef0123456789abcdef"`, `"\n!"`)+`]`)
	checkClean(t, hostile)
	wantText(t, hostile.Detail.Scopes[0], "[redacted]")
}

func TestLastFour(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]string{
		`"9daa"`: "9daa", `1234`: "1234", `null`: "", `""`: "", `"9da"`: "", `"9daa1"`: "", `"9d\u202eaa"`: "",
		`"0123456789abcdef0123456789abcdef"`: "",
	} {
		if got := mapped(t, `"last_4_digits":`+value).LastFour; got != want {
			t.Errorf("%s gives %q, want %q", value, got, want)
		}
	}
}

// checkClean fails where a text of the token was not cleaned and bounded.
func checkClean(t *testing.T, token providers.Token) {
	t.Helper()
	texts := append([]string{token.Name, token.Detail.CreatedBy, token.LastFour, token.ID}, token.Detail.Scopes...)
	for _, text := range texts {
		if !utf8.ValidString(text) || utf8.RuneCountInString(text) > sanitize.MaxName {
			t.Errorf("text is not bounded: %q", text)
		}
		if strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsGraphic(r) }) {
			t.Errorf("text is not clean: %+q", text)
		}
	}
	if len(token.Detail.Scopes) > 21 || utf8.RuneCountInString(token.LastFour) > 4 {
		t.Errorf("token is not bounded: %+v", token)
	}
	if token.NameAltered != (token.NameKey != "") {
		t.Errorf("name key does not fit: %+v", token)
	}
}

// answers is a vendor without a network.
type answers string

func (a answers) RoundTrip(r *http.Request) (*http.Response, error) {
	return &http.Response{
		StatusCode: 200, Header: http.Header{"Content-Type": {"application/json"}},
		Body: io.NopCloser(strings.NewReader(string(a))), Request: r,
	}, nil
}

// creations answers so to a creation and lists nothing.
type creations string

func (c creations) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Method == http.MethodGet {
		return answers(`[]`).RoundTrip(r)
	}
	return answers(c).RoundTrip(r)
}

func FuzzList(f *testing.F) {
	for _, seed := range []string{
		recorded, `[]`, `[null]`, `[{"id":1,"name":"a\u202e\n","resources":[null,{"resource_id":{}}]}]`,
		`[{"id":"5","expires_at":"2027-01-01T00:00:00+0200","last_4_digits":7,"created_by":[]}]`,
		`[{"id":1,"resources":"x","expires_at":{}},{"id":-1}]`, `{"errors":"x"}`, `[{"id":1}`, `<html>`, ``,
		`[{"id":1,"name":"0123456789abcdef0123456789abcdef","token":"0123456789abcdef0123456789abcdef"}]`,
		"[{\"id\":1,\"name\":\"\xff\xfe\"}]", `[{"ID":1,"id":2}]`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, answer string) {
		p, err := mailtrap.New(&http.Client{Transport: answers(answer)}, config("https://mailtrap.test"), transport.Options{})
		if err != nil {
			t.Fatal(err)
		}
		ended := false
		for page, err := range p.List(t.Context(), providers.Filter{}, "") {
			if ended {
				t.Fatal("something came after the error")
			}
			if err != nil {
				ended = true
				wantCode(t, err, providers.CodeBadAnswer)
				continue
			}
			for _, token := range page.Tokens {
				if err := p.CheckID(providers.PartToken, token.ID); err != nil {
					t.Error(err)
				}
				checkClean(t, token)
			}
		}
	})
}

func FuzzCreateAnswer(f *testing.F) {
	for _, seed := range []string{
		created, `null`, `{}`, `{"id":1}`, `{"token":"x"}`, `{"id":"1","token":"x","resources":7,"expires_at":[]}`, `{"id":1,"token":5}`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, answer string) {
		p, err := mailtrap.New(&http.Client{Transport: creations(answer)}, config("https://mailtrap.test"), transport.Options{})
		if err != nil {
			t.Fatal(err)
		}
		minted, err := p.Create(t.Context(), spec())
		if err != nil {
			wantCode(t, err, providers.CodeOutcomeUnknown)
			return
		}
		if minted.Secret.IsZero() || p.CheckID(providers.PartToken, minted.Token.ID) != nil {
			t.Errorf("minted %+v", minted)
		}
		checkClean(t, minted.Token)
	})
}
