package launchdarkly_test

import (
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/tokenreeve/tokenreeve/internal/vendortest"
	"github.com/tokenreeve/tokenreeve/providers"
	"github.com/tokenreeve/tokenreeve/providers/launchdarkly"
	"github.com/tokenreeve/tokenreeve/providers/transport"
)

// canned answers every request with the same body, without a network: a fuzz
// target that dials runs out of ports.
type canned struct{ body atomic.Value }

func (c *canned) RoundTrip(r *http.Request) (*http.Response, error) {
	return &http.Response{
		StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"application/json"}}, Request: r,
		Body: io.NopCloser(strings.NewReader(c.body.Load().(string))),
	}, nil
}

// FuzzTokens decodes whatever a vendor may send as a list and as a record.
func FuzzTokens(f *testing.F) {
	for _, seed := range []string{
		record(nil), record(inlineRecord), record(customRecord),
		record(map[string]any{"name": "a\u202eb\u200b\n", "description": newSecret, "role": "x\x00", "lastUsed": -1}),
		record(map[string]any{"_member": map[string]any{"firstName": "\u202e", "lastName": "[redacted]", "email": "a\tb@c"}}),
		record(map[string]any{"inlineRole": []any{nil, 7, map[string]any{"effect": "\n"}}}),
		record(map[string]any{"inlineRole": "x", "customRoleIds": []string{"\u0301", strings.Repeat("9", 500)}}),
		`null`, `{}`, `[]`, `{"_id":null}`,
	} {
		f.Add(seed)
	}
	vendor := &canned{}
	p, err := launchdarkly.New(&http.Client{Transport: vendor}, launchdarkly.Config{Credential: vendortest.Credential(credential)}, transport.Options{})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, text string) {
		vendor.body.Store(text)
		if token, err := p.Get(t.Context(), providers.Ref{ID: tokenID}); err == nil {
			checkClean(t, token)
		}
		name := "x"
		if plan, err := p.PlanUpdate(t.Context(), providers.Token{ID: tokenID}, launchdarkly.Change{Name: &name, Role: &[]string{"reader"}[0]}); err == nil {
			checkClean(t, plan.Before)
			checkClean(t, plan.After)
			for _, d := range plan.Differences {
				checkText(t, d, 2000)
			}
		}
		vendor.body.Store(`{"items":[` + text + `],"totalCount":1,"_links":{}}`)
		for page, err := range p.List(t.Context(), providers.Filter{}, "") {
			if err != nil && len(page.Tokens) > 0 {
				t.Fatal("tokens beside an error")
			}
			for _, token := range page.Tokens {
				checkClean(t, token)
			}
		}
	})
}

func checkClean(t *testing.T, token providers.Token) {
	t.Helper()
	if len(token.ID) != 24 || token.AccessKey == "" || len(token.AccessKey) > 150 {
		t.Fatalf("id %q, access key %q", token.ID, token.AccessKey)
	}
	if token.NameAltered != (token.NameKey != "") {
		t.Fatalf("name key %q", token.NameKey)
	}
	if len(token.Detail.Scopes) > 21 {
		t.Fatalf("%d scopes", len(token.Detail.Scopes))
	}
	texts := append([]string{token.Name, token.Owner.ID, token.Owner.Name, token.Owner.Email, token.LastFour, token.Detail.Description}, token.Detail.Scopes...)
	for _, text := range texts {
		checkText(t, text, 300)
	}
}

func checkText(t *testing.T, text string, limit int) {
	t.Helper()
	if !utf8.ValidString(text) || utf8.RuneCountInString(text) > limit {
		t.Fatalf("not valid or too long: %q", text)
	}
	for _, r := range text {
		if !unicode.IsGraphic(r) {
			t.Fatalf("%U in %q", r, text)
		}
	}
}
