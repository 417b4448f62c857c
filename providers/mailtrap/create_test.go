package mailtrap_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tokenreeve/tokenreeve/internal/vendortest"
	"github.com/tokenreeve/tokenreeve/providers"
	"github.com/tokenreeve/tokenreeve/providers/mailtrap"
)

const (
	newSecret = "0f1e2d3c4b5a69788796a5b4c3d2856f"
	created   = `{"resources":[{"resource_type":"account","resource_id":3229,"access_level":100}],"id":2498715,
		"name":"CI sender","last_4_digits":"856f","created_by":"Ops token","expires_at":null,"token":"` + newSecret + `"}`
)

func spec() mailtrap.TokenSpec {
	return mailtrap.TokenSpec{
		Name:        "CI sender",
		Permissions: []mailtrap.Permission{{ResourceType: "account", ResourceID: "3229", AccessLevel: "admin"}},
	}
}

// noNamesake is the list that is read before each creation.
var noNamesake = vendortest.Exchange{Method: "GET", Path: tokensPath, Answer: `[]`}

func TestCreate(t *testing.T) {
	t.Parallel()
	p := serve(t, noNamesake, vendortest.Exchange{
		Method: "POST", Path: tokensPath, Answer: created,
		Header: map[string]string{"Authorization": "Bearer " + credential, "Content-Type": "application/json"},
		Body:   `{"name":"CI sender","resources":[{"resource_type":"account","resource_id":3229,"access_level":100}]}`,
	})
	got, err := p.Create(t.Context(), spec())
	if err != nil {
		t.Fatal(err)
	}
	want := providers.Token{
		ID: "2498715", Name: "CI sender", Kind: providers.KindUnknown, Status: providers.StatusActive, Access: providers.AccessAdmin,
		Expires: providers.Never(), AccessKey: "account/3229 100", LastFour: "856f",
		Detail: providers.Detail{CreatedBy: "Ops token", Scopes: []string{"account/3229 admin"}},
	}
	if diff := cmp.Diff(want, got.Token); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got.Secret.Expose() != newSecret || !got.OldEnds.IsUnknown() {
		t.Error("secret or old end is wrong")
	}
	if strings.Contains(fmt.Sprintf("%+v", got), newSecret) {
		t.Error("the secret shows")
	}
}

func TestCreateBodies(t *testing.T) {
	t.Parallel()
	const current = `"resources":[{"resource_type":"project","resource_id":1,"access_level":10},{"resource_type":"sandbox","resource_id":2,"access_level":100},
		{"resource_type":"domain","resource_id":"a-b","access_level":10}]`
	old := strings.NewReplacer(`"sandbox"`, `"inbox"`, `"domain"`, `"sending_domain"`).Replace(current)
	tests := map[string]struct {
		words, sandbox, domain string
		expires                providers.Date
		body                   string
	}{
		"current words":   {"current", "sandbox", "domain", providers.Date{}, `{"name":"x",` + current + `}`},
		"synonyms":        {"", "inbox", "sending_domain", providers.Date{}, `{"name":"x",` + current + `}`},
		"old words":       {"old", "sandbox", "domain", providers.Date{}, `{"name":"x",` + old + `}`},
		"old, spelt old":  {"old", "inbox", "sending_domain", providers.Date{}, `{"name":"x",` + old + `}`},
		"never":           {"", "inbox", "domain", providers.Never(), `{"name":"x",` + current + `,"expires_at":null}`},
		"a date":          {"", "inbox", "domain", providers.At(now.Add(time.Hour)), `{"name":"x",` + current + `,"expires_at":"2026-11-22T13:00:00Z"}`},
		"five years":      {"", "inbox", "domain", providers.At(now.AddDate(5, 0, 0)), `{"name":"x",` + current + `,"expires_at":"2031-11-22T12:00:00Z"}`},
		"another zone":    {"", "inbox", "domain", providers.At(now.Add(time.Hour).In(time.FixedZone("", 7200))), `{"name":"x",` + current + `,"expires_at":"2026-11-22T13:00:00Z"}`},
		"parts of second": {"", "inbox", "domain", providers.At(now.Add(3*time.Hour + time.Millisecond)), `{"name":"x",` + current + `,"expires_at":"2026-11-22T15:00:00Z"}`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := config(vendortest.Serve(t, noNamesake, vendortest.Exchange{Method: "POST", Path: tokensPath, Answer: created, Body: tt.body}))
			c.ResourceWords = tt.words
			_, err := build(t, c).Create(t.Context(), mailtrap.TokenSpec{Name: "x", Expires: tt.expires, Permissions: []mailtrap.Permission{
				{ResourceType: "project", ResourceID: "1", AccessLevel: "10"},
				{ResourceType: tt.sandbox, ResourceID: "2", AccessLevel: "100"},
				{ResourceType: tt.domain, ResourceID: "a-b", AccessLevel: "viewer"},
			}})
			if err != nil {
				t.Error(err)
			}
		})
	}
}

func TestSpecIsChecked(t *testing.T) {
	t.Parallel()
	p, count := handle(t, func(http.ResponseWriter, *http.Request) {})
	permission := func(kind, id, level string) func(*mailtrap.TokenSpec) {
		return func(s *mailtrap.TokenSpec) {
			s.Permissions = []mailtrap.Permission{{ResourceType: kind, ResourceID: id, AccessLevel: level}}
		}
	}
	expires := func(at time.Time) func(*mailtrap.TokenSpec) {
		return func(s *mailtrap.TokenSpec) { s.Expires = providers.At(at) }
	}
	tests := map[string]struct {
		change func(*mailtrap.TokenSpec)
		want   string
	}{
		"no name":        {func(s *mailtrap.TokenSpec) { s.Name = "" }, "name is empty"},
		"blank name":     {func(s *mailtrap.TokenSpec) { s.Name = " \t" }, "name is empty"},
		"long name":      {func(s *mailtrap.TokenSpec) { s.Name = strings.Repeat("ü", 256) }, "256 characters"},
		"broken name":    {func(s *mailtrap.TokenSpec) { s.Name = "a\xff" }, "UTF-8"},
		"no permissions": {func(s *mailtrap.TokenSpec) { s.Permissions = nil }, "permissions are empty"},
		"twice": {func(s *mailtrap.TokenSpec) {
			s.Permissions = []mailtrap.Permission{{"inbox", "1", "viewer"}, {"sandbox", "1", "admin"}}
		}, "twice"},
		"billing":        {permission("billing", "1", "admin"), "unknown resource words"},
		"no type":        {permission("", "1", "admin"), "account, project, sandbox and domain"},
		"no id":          {permission("project", "", "admin"), "resource_id"},
		"odd id":         {permission("project", "1 2", "admin"), "resource_id"},
		"owner":          {permission("project", "1", "1000"), "viewer (10) and admin (100)"},
		"viewer plus":    {permission("project", "1", "50"), "access_level"},
		"no level":       {permission("project", "1", ""), "access_level"},
		"now":            {expires(now), "not in the future"},
		"past":           {expires(now.Add(-time.Hour)), "not in the future"},
		"too short":      {expires(now.Add(time.Millisecond)), "not in the future"},
		"beyond 5 years": {expires(now.AddDate(5, 0, 0).Add(time.Second)), "5 years"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := spec()
			tt.change(&s)
			wantText(t, wantCode(t, p.CheckSpec(s), providers.CodeInvalidArgument).Message, tt.want)
			_, err := p.Create(t.Context(), s)
			wantCode(t, err, providers.CodeInvalidArgument)
		})
	}
	t.Cleanup(func() {
		if count.Load() != 0 {
			t.Errorf("%d requests were sent", count.Load())
		}
	})
	for _, name := range []string{"x", strings.Repeat("ü", 255)} {
		s := spec()
		s.Name = name
		if err := s.Check(); err != nil {
			t.Error(err)
		}
	}
}

func TestIsElevated(t *testing.T) {
	t.Parallel()
	tests := []struct {
		kind, level string
		want        bool
	}{
		{"account", "admin", true}, {"account", "100", true}, {"account", "viewer", false}, {"project", "admin", false}, {"domain", "100", false},
	}
	for _, tt := range tests {
		s := mailtrap.TokenSpec{Permissions: []mailtrap.Permission{{"project", "1", "viewer"}, {tt.kind, "3229", tt.level}}}
		if s.IsElevated() != tt.want {
			t.Errorf("%s %s: elevated is %v", tt.kind, tt.level, !tt.want)
		}
	}
}

func TestGrant(t *testing.T) {
	t.Parallel()
	type permissions []mailtrap.Permission
	for want, tests := range map[string][]permissions{
		"read": {
			{{"account", "3229", "viewer"}}, {{"project", "1", "10"}, {"inbox", "2", "viewer"}},
		},
		"write": {
			{{"project", "1", "admin"}}, {{"account", "3229", "viewer"}, {"sending_domain", "2", "100"}}, {{"sandbox", "1", "100"}},
		},
		"account_admin": {
			{{"account", "3229", "admin"}},
			{{"project", "1", "viewer"}, {"account", "3229", "100"}},
			// What cannot be told.
			nil,
			{{"account", "3229", "1000"}},
			{{"project", "1", "50"}},
			{{"billing", "1", "viewer"}},
			{{"project", "1", ""}},
			{{"Account", "3229", "admin"}},
		},
	} {
		for _, p := range tests {
			if got := (mailtrap.TokenSpec{Permissions: p}).Grant(); got != want {
				t.Errorf("%+v: %s, want %s", p, got, want)
			}
		}
	}
}

// The request id that stays is the creation's, not that of the list before it.
func TestTraceOfACreation(t *testing.T) {
	t.Parallel()
	list, creation := noNamesake, vendortest.Exchange{
		Method: "POST", Path: tokensPath, Answer: created, AnswerHeader: map[string]string{"X-Request-Id": "the-creation"},
		Body: `{"name":"CI sender","resources":[{"resource_type":"account","resource_id":3229,"access_level":100}]}`,
	}
	list.AnswerHeader = map[string]string{"X-Request-Id": "the-list"}
	ctx, trace := providers.WithTrace(t.Context())
	if _, err := serve(t, list, creation).Create(ctx, spec()); err != nil || trace.RequestID != "the-creation" {
		t.Errorf("request id is %q, %v", trace.RequestID, err)
	}
}

func TestExpiryDiffers(t *testing.T) {
	t.Parallel()
	at := providers.At(now)
	tests := map[string]struct {
		asked, told providers.Date
		want        bool
	}{
		"not asked":       {providers.Date{}, at, false},
		"same":            {at, at, false},
		"milliseconds":    {at, providers.At(now.Add(3 * time.Millisecond)), false},
		"another second":  {at, providers.At(now.Add(time.Second)), true},
		"ignored":         {at, providers.Never(), true},
		"never":           {providers.Never(), providers.Never(), false},
		"a default given": {providers.Never(), at, true},
		"not told":        {at, providers.Date{}, true},
	}
	for name, tt := range tests {
		if got := mailtrap.ExpiryDiffers(tt.asked, tt.told); got != tt.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// What the answer tells counts, not what was asked.
func TestCreateTellsTheVendorsExpiry(t *testing.T) {
	t.Parallel()
	p := serve(t, noNamesake, vendortest.Exchange{
		Method: "POST", Path: tokensPath, Answer: created,
		Body: `{"name":"CI sender","resources":[{"resource_type":"account","resource_id":3229,"access_level":100}],"expires_at":"2027-11-22T12:00:00Z"}`,
	})
	s := spec()
	s.Expires = providers.At(now.AddDate(1, 0, 0))
	got, err := p.Create(t.Context(), s)
	if err != nil || !got.Token.Expires.IsNever() || !mailtrap.ExpiryDiffers(s.Expires, got.Token.Expires) {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestCreateFails(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		status int
		answer string
		code   providers.Code
		want   string
	}{
		"401":            {401, `{"error":"Incorrect API token"}`, providers.CodeCredentialRejected, "Incorrect API token"},
		"403":            {403, `{"errors":"Access forbidden"}`, providers.CodeForbidden, "Access forbidden"},
		"422":            {422, `{"errors":{"base":["No permissions selected. Please choose at least one."]}}`, providers.CodeRejected, "No permissions selected"},
		"422 expiry":     {422, `{"errors":{"base":["Expiration date must be in the future"]}}`, providers.CodeRejected, "must be in the future"},
		"500":            {500, `{"errors":"Unexpected error"}`, providers.CodeOutcomeUnknown, "Unexpected error"},
		"HTML":           {200, `<html>`, providers.CodeOutcomeUnknown, "accepted"},
		"empty":          {200, ``, providers.CodeOutcomeUnknown, "accepted"},
		"cut":            {200, created[:150], providers.CodeOutcomeUnknown, "accepted"},
		"no secret":      {200, `{"id":2498715}`, providers.CodeOutcomeUnknown, "token 2498715 made"},
		"null secret":    {200, `{"id":2498715,"token":null}`, providers.CodeOutcomeUnknown, "no secret"},
		"secret no text": {200, `{"id":2498715,"token":12}`, providers.CodeOutcomeUnknown, "accepted"},
		"no id":          {200, `{"token":"` + newSecret + `"}`, providers.CodeOutcomeUnknown, "no valid id"},
		"nothing":        {200, `{}`, providers.CodeOutcomeUnknown, "no secret"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var posts atomic.Int32
			p, _ := handle(t, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", "application/json; charset=utf-8")
				if r.Method == http.MethodGet {
					_, _ = w.Write([]byte(`[]`))
					return
				}
				posts.Add(1)
				w.WriteHeader(tt.status)
				_, _ = w.Write([]byte(tt.answer))
			})
			got, err := p.Create(t.Context(), spec())
			e := wantCode(t, err, tt.code)
			wantText(t, e.Message, tt.want)
			if strings.Contains(fmt.Sprintf("%v %+v", err, e), newSecret) || !got.Secret.IsZero() {
				t.Error("the secret shows")
			}
			if e.Code == providers.CodeOutcomeUnknown {
				wantText(t, e.Next, "revoke_token", "create_mailtrap_token again")
			}
			if posts.Load() != 1 {
				t.Errorf("%d creations were sent", posts.Load())
			}
		})
	}
}

func TestCreateIsRepeatedOn429(t *testing.T) {
	t.Parallel()
	p := serve(t,
		noNamesake,
		vendortest.Exchange{
			Method: "POST", Path: tokensPath, Status: 429, Answer: `{"errors":"Rate limit exceeded"}`,
			Body: `{"name":"CI sender","resources":[{"resource_type":"account","resource_id":3229,"access_level":100}]}`,
		},
		vendortest.Exchange{
			Method: "POST", Path: tokensPath, Answer: created,
			Body: `{"name":"CI sender","resources":[{"resource_type":"account","resource_id":3229,"access_level":100}]}`,
		},
	)
	if got, err := p.Create(t.Context(), spec()); err != nil || got.Token.ID != "2498715" {
		t.Errorf("got %+v, %v", got, err)
	}
}

// A member of an unexpected kind must not cost the secret.
func TestCreateKeepsTheSecretOfAnOddAnswer(t *testing.T) {
	t.Parallel()
	p := serve(t, noNamesake, vendortest.Exchange{
		Method: "POST", Path: tokensPath,
		Answer: `{"id":"2498715","token":"` + newSecret + `","name":[1],"resources":"all","expires_at":{},"last_4_digits":8,"created_by":false}`,
		Body:   `{"name":"CI sender","resources":[{"resource_type":"account","resource_id":3229,"access_level":100}]}`,
	})
	got, err := p.Create(t.Context(), spec())
	if err != nil || got.Token.ID != "2498715" || got.Secret.Expose() != newSecret || !got.Token.Expires.IsUnknown() {
		t.Errorf("got %+v, %v", got, err)
	}
}

const (
	treePath = "/api/accounts/3229/permissions/resources"
	tree     = `[{"id":3229,"name":"Acme","type":"account","access_level":100,"resources":[
		{"id":12,"name":"Shop\u202e","type":"project","access_level":100,"resources":[
			{"id":"77","name":"Staging","type":"inbox","access_level":50,"resources":null},
			{"id":78,"name":null,"type":"sandbox","access_level":10}]},
		{"id":5,"name":"example.com","type":"sending_domain","access_level":1000,"resources":[]},
		null,
		{"id":9,"name":"Bills","type":"billing","access_level":7}]}]`
)

func TestResources(t *testing.T) {
	t.Parallel()
	want := []mailtrap.Resource{
		{Type: "account", ID: "3229", Name: "Acme", AccessLevel: "admin"},
		{Type: "project", ID: "12", Name: "Shop", AccessLevel: "admin", Altered: true},
		{Type: "sandbox", ID: "77", Name: "Staging", AccessLevel: "viewer plus"},
		{Type: "sandbox", ID: "78", AccessLevel: "viewer"},
		{Type: "domain", ID: "5", Name: "example.com", AccessLevel: "owner"},
	} // billing is nothing that a permission can name
	for family, path := range map[string]string{"account": treePath, "flat": "/api/permissions/resources"} {
		c := config(vendortest.Serve(t, vendortest.Exchange{Method: "GET", Path: path, Answer: tree}))
		c.PathFamily = family
		got, total, err := build(t, c).Resources(t.Context())
		if diff := cmp.Diff(want, got); err != nil || total != 5 || diff != "" {
			t.Errorf("total %d, %v (-want +got):\n%s", total, err, diff)
		}
	}
}

func TestManyResources(t *testing.T) {
	t.Parallel()
	var nodes []string
	for i := range 120 {
		nodes = append(nodes, fmt.Sprintf(`{"id":%d,"type":"project"}`, i+1))
	}
	p := serve(t, vendortest.Exchange{Method: "GET", Path: treePath, Answer: "[" + strings.Join(nodes, ",") + "]"})
	first, total, err := p.Resources(t.Context())
	if err != nil || len(first) != 50 || total != 120 {
		t.Errorf("%d of %d, %v", len(first), total, err)
	}
}

func TestResourcesForbidden(t *testing.T) {
	t.Parallel()
	forbidden := vendortest.Exchange{Method: "GET", Path: treePath, Status: 403, Answer: `{"errors":"Access forbidden"}`}
	p := serve(t, forbidden, forbidden)
	_, _, err := p.Resources(t.Context())
	e := wantCode(t, err, providers.CodeForbidden)
	wantText(t, e.Message, "may not read which resources", "Access forbidden")
	wantText(t, e.Next, "admin access")
	wantCode(t, p.CheckPermissions(t.Context(), []mailtrap.Permission{{"project", "12", "viewer"}}), providers.CodeForbidden)
}

func TestCheckPermissions(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		permissions []mailtrap.Permission
		asks        bool
		want        string // part of the message; empty: no error
	}{
		"own account":     {[]mailtrap.Permission{{"account", "3229", "admin"}}, false, ""},
		"all known":       {[]mailtrap.Permission{{"account", "3229", "admin"}, {"project", "12", "viewer"}, {"sandbox", "77", "admin"}, {"inbox", "78", "10"}, {"domain", "5", "100"}}, true, ""},
		"unknown project": {[]mailtrap.Permission{{"project", "12", "viewer"}, {"project", "13", "viewer"}}, true, "valid are 12"},
		"wrong type":      {[]mailtrap.Permission{{"project", "77", "viewer"}}, true, `no project "77"`},
		"another account": {[]mailtrap.Permission{{"account", "4", "viewer"}}, true, "connection's account is 3229"},
		"unknown words":   {[]mailtrap.Permission{{"billing", "9", "viewer"}}, false, "unknown resource words"},
		"level":           {[]mailtrap.Permission{{"project", "12", "owner"}}, false, "access_level"},
		"none":            {nil, false, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var exchanges []vendortest.Exchange
			if tt.asks {
				exchanges = append(exchanges, vendortest.Exchange{Method: "GET", Path: treePath, Answer: tree})
			}
			err := serve(t, exchanges...).CheckPermissions(t.Context(), tt.permissions)
			if tt.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			wantText(t, wantCode(t, err, providers.CodeInvalidArgument).Message, tt.want)
		})
	}
	p := serve(t, vendortest.Exchange{Method: "GET", Path: treePath, Answer: `[]`})
	err := p.CheckPermissions(t.Context(), []mailtrap.Permission{{"domain", "1", "viewer"}})
	wantText(t, wantCode(t, err, providers.CodeInvalidArgument).Message, "sees no domain at all")
}
