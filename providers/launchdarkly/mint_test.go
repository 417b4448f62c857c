package launchdarkly_test

import (
	"fmt"
	"io"
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
	"github.com/tokenreeve/tokenreeve/providers/launchdarkly"
)

var viewer = launchdarkly.Statement{Effect: "allow", Resources: []string{"proj/*"}, Actions: []string{"viewProject"}}

func TestCreate(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		spec launchdarkly.TokenSpec
		body string
	}{
		"a role": {
			launchdarkly.TokenSpec{Name: "ci", Role: "reader"},
			`{"name":"ci","role":"reader","serviceToken":false}`,
		},
		"everything": {
			launchdarkly.TokenSpec{Name: "ci", Description: "d", Role: "admin", ServiceToken: true, DefaultAPIVersion: 20191212},
			`{"name":"ci","description":"d","role":"admin","serviceToken":true,"defaultApiVersion":20191212}`,
		},
		"custom roles": {
			launchdarkly.TokenSpec{Name: "ci", CustomRoles: []string{roleID, "release-managers"}},
			`{"name":"ci","customRoleIds":["` + roleID + `","release-managers"],"serviceToken":false}`,
		},
		"an inline role": {
			launchdarkly.TokenSpec{Name: "ci", InlineRole: []launchdarkly.Statement{viewer}},
			`{"name":"ci","inlineRole":[{"effect":"allow","resources":["proj/*"],"actions":["viewProject"]}],"serviceToken":false}`,
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := serve(t, vendortest.Exchange{
				Method: "POST", Path: "/api/v2/tokens", Header: common("Content-Type", "application/json"), Body: tt.body,
				Status: http.StatusCreated, Answer: record(map[string]any{"token": newSecret, "lastUsed": 0}),
			})
			minted, err := p.Create(t.Context(), tt.spec)
			if err != nil {
				t.Fatal(err)
			}
			if minted.Secret.Expose() != newSecret || minted.Token.ID != tokenID || minted.Token.LastFour != "99ab" || !minted.OldEnds.IsUnknown() {
				t.Errorf("minted %+v", minted)
			}
			if text := fmt.Sprintf("%+v %#v", minted, minted); strings.Contains(text, newSecret) {
				t.Error("the secret shows")
			}
		})
	}
}

func TestSpecs(t *testing.T) {
	t.Parallel()
	type spec = launchdarkly.TokenSpec
	tests := map[string]struct {
		spec spec
		want string // part of the message
	}{
		"no name":            {spec{Role: "reader"}, "name"},
		"a blank name":       {spec{Name: " ", Role: "reader"}, "name"},
		"a hidden name":      {spec{Name: "a\u200bb", Role: "reader"}, "not shown"},
		"a long name":        {spec{Name: strings.Repeat("n", 1001), Role: "reader"}, "1000"},
		"a long text":        {spec{Name: "n", Description: strings.Repeat("n", 1001), Role: "reader"}, "1000"},
		"no permission":      {spec{Name: "n"}, "0 of role, custom_roles and inline_role"},
		"two permissions":    {spec{Name: "n", Role: "reader", CustomRoles: []string{roleID}}, "2 of role"},
		"three permissions":  {spec{Name: "n", Role: "reader", CustomRoles: []string{roleID}, InlineRole: []launchdarkly.Statement{viewer}}, "3 of role"},
		"the owner role":     {spec{Name: "n", Role: "owner"}, "reader, writer and admin"},
		"a role in capitals": {spec{Name: "n", Role: "Reader"}, "reader, writer and admin"},
		"an ended version":   {spec{Name: "n", Role: "reader", DefaultAPIVersion: 20220603}, "20240415"},
		"no custom role":     {spec{Name: "n", CustomRoles: []string{""}}, "key"},
		"a path for a role":  {spec{Name: "n", CustomRoles: []string{"../x"}}, "key"},
		"a bad statement":    {spec{Name: "n", InlineRole: []launchdarkly.Statement{{Effect: "permit"}}}, "allow and deny"},
	}
	p := serve(t)
	for name, tt := range tests {
		e := wantCode(t, tt.spec.Check(), providers.CodeInvalidArgument)
		if !strings.Contains(e.Message, tt.want) {
			t.Errorf("%s: message is %q, want %q in it", name, e.Message, tt.want)
		}
		_, err := p.Create(t.Context(), tt.spec)
		wantCode(t, err, providers.CodeInvalidArgument)
	}
}

func TestSpecAccess(t *testing.T) {
	t.Parallel()
	tests := []struct {
		spec     launchdarkly.TokenSpec
		access   providers.Access
		elevated bool
		grant    string
	}{
		{launchdarkly.TokenSpec{Role: "reader"}, providers.AccessRead, false, "read"},
		{launchdarkly.TokenSpec{Role: "writer"}, providers.AccessWrite, false, "write"},
		{launchdarkly.TokenSpec{Role: "admin"}, providers.AccessAdmin, true, "admin"},
		{launchdarkly.TokenSpec{Role: "owner"}, providers.AccessAdmin, true, "admin"},
		{launchdarkly.TokenSpec{Role: "pilot"}, providers.AccessUnknown, true, "admin"},
		{launchdarkly.TokenSpec{CustomRoles: []string{roleID}}, providers.AccessCustom, true, "custom"},
		{launchdarkly.TokenSpec{InlineRole: []launchdarkly.Statement{viewer}}, providers.AccessCustom, true, "inline"},
		{launchdarkly.TokenSpec{}, providers.AccessUnknown, true, "admin"},
		{launchdarkly.TokenSpec{Role: "reader", CustomRoles: []string{roleID}}, providers.AccessCustom, true, "admin"},
		{launchdarkly.TokenSpec{Role: "reader", InlineRole: []launchdarkly.Statement{viewer}}, providers.AccessCustom, true, "admin"},
		{launchdarkly.TokenSpec{CustomRoles: []string{roleID}, InlineRole: []launchdarkly.Statement{viewer}}, providers.AccessCustom, true, "admin"},
	}
	for _, tt := range tests {
		if tt.spec.Access() != tt.access || tt.spec.IsElevated() != tt.elevated || tt.spec.Grant() != tt.grant {
			t.Errorf("%+v: %s, %v, %s", tt.spec, tt.spec.Access(), tt.spec.IsElevated(), tt.spec.Grant())
		}
	}
}

func TestStatements(t *testing.T) {
	t.Parallel()
	good, err := launchdarkly.ParseStatements(`[{"effect":"allow","resources":["proj/*"],"actions":["viewProject"]},
		{"effect":"deny","notResources":["proj/a"],"notActions":["*"]}]`)
	want := []launchdarkly.Statement{viewer, {Effect: "deny", NotResources: []string{"proj/a"}, NotActions: []string{"*"}}}
	if diff := cmp.Diff(want, good); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	tests := map[string]string{ // text → part of the message
		``:       "JSON list",
		`null`:   "JSON list",
		`{}`:     "JSON list",
		`[] []`:  "JSON list",
		`[]`:     "0 statements",
		`[null]`: "not an object",
		`["x"]`:  "not an object",
		`[{"effect":"allow","resources":["a"],"actions":["b"]},{"effekt":"allow"}]`:                          "statement 2: unknown field",
		`[{"effect":"permit","resources":["a"],"actions":["b"]}]`:                                            "allow and deny",
		`[{"effect":"allow","actions":["b"]}]`:                                                               "resources and notResources",
		`[{"effect":"allow","resources":[],"actions":["b"]}]`:                                                "resources and notResources",
		`[{"effect":"allow","resources":["a"],"notResources":["a"],"actions":["b"]}]`:                        "resources and notResources",
		`[{"effect":"allow","resources":["a"]}]`:                                                             "actions and notActions",
		`[{"effect":"allow","resources":["a"],"actions":["b"],"notActions":["c"]}]`:                          "actions and notActions",
		`[{"effect":"allow","resources":[""],"actions":["b"]}]`:                                              "empty",
		`[{"effect":"allow","resources":["a\u202e"],"actions":["b"]}]`:                                       "not shown",
		`[{"effect":"allow","resources":"a","actions":["b"]}]`:                                               "wrong type",
		`[{"effect":"allow","resources":["a"],"actions":[` + strings.Repeat(`"b",`, 200) + `"b"]}]`:          "200",
		`[` + strings.Repeat(`{"effect":"allow","resources":["a"],"actions":["b"]},`, 100) + `{"effect":1}]`: "wrong type",
	}
	for text, want := range tests {
		_, err := launchdarkly.ParseStatements(text)
		if e := wantCode(t, err, providers.CodeInvalidArgument); !strings.Contains(e.Message, want) {
			t.Errorf("%.80s: message is %q, want %q in it", text, e.Message, want)
		}
	}
}

// What misses in the answer of a mint is named; what is there is never shown.
func TestMintWithoutSecret(t *testing.T) {
	t.Parallel()
	now := time.Now().UnixMilli()
	tests := map[string]struct {
		answer string
		want   string
		hasID  bool
	}{
		"no secret":       {record(map[string]any{"creationDate": now, "token": absent}), "the whole secret", true},
		"a short secret":  {record(map[string]any{"creationDate": now, "token": "9f3c"}), "the whole secret", true},
		"no id":           {record(map[string]any{"creationDate": now, "token": newSecret, "_id": absent}), "the token's id", false},
		"a senseless id":  {record(map[string]any{"creationDate": now, "token": newSecret, "_id": ".."}), "the token's id", false},
		"nothing":         {`{}`, "nor the whole secret", false},
		"null":            {`null`, "nor the whole secret", false},
		"empty":           {``, "accepted", false},
		"HTML":            {`<html>`, "accepted", false},
		"cut off":         {record(map[string]any{"creationDate": now, "token": newSecret})[:400], "accepted", false},
		"no object":       {`["` + newSecret + `"]`, "nor the whole secret", false},
		"another type":    {record(map[string]any{"creationDate": now, "token": 7}), "the whole secret", true},
		"a secret object": {record(map[string]any{"creationDate": now, "token": map[string]string{"v": newSecret}}), "the whole secret", true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a, base := newAccount(t, 0)
			a.post = func(w http.ResponseWriter) {
				w.WriteHeader(http.StatusCreated)
				_, _ = io.WriteString(w, tt.answer)
			}
			_, err := provider(t, base).Create(t.Context(), launchdarkly.TokenSpec{Name: "n", Role: "reader"})
			e := wantCode(t, err, providers.CodeOutcomeUnknown)
			if !strings.Contains(e.Message, tt.want) || strings.Contains(e.Message, tokenID) != tt.hasID || e.Next == "" {
				t.Errorf("error is %+v", e)
			}
			if happened := e.Lost.Happened == providers.HappenedYes; happened != tt.hasID || len(a.requests()) > 0 == tt.hasID {
				t.Errorf("lost is %+v after %d listings", e.Lost, len(a.requests()))
			}
			reset := vendortest.Exchange{Method: "POST", Path: tokenPath + "/reset", Answer: tt.answer}
			_, err = serve(t, reset).Rotate(t.Context(), providers.Token{ID: tokenID}, providers.RotationPlan{Method: providers.MethodReset})
			e = wantCode(t, err, providers.CodeOutcomeUnknown)
			if happened := e.Lost.Happened == providers.HappenedYes; happened != tt.hasID || !e.Lost.OldEnds.IsUnknown() != tt.hasID {
				t.Errorf("lost is %+v", e.Lost)
			}
		})
	}
}

// A surprise elsewhere in the record does not lose the secret.
func TestMintWithAStrangeRecord(t *testing.T) {
	t.Parallel()
	p := serve(t, vendortest.Exchange{
		Method: "POST", Path: "/api/v2/tokens", Body: `{"name":"n","role":"reader","serviceToken":false}`, Status: 201,
		Answer: record(map[string]any{"token": newSecret, "creationDate": "yesterday", "name": 7}),
	})
	minted, err := p.Create(t.Context(), launchdarkly.TokenSpec{Name: "n", Role: "reader"})
	if err != nil || minted.Secret.Expose() != newSecret || minted.Token.ID != tokenID || minted.Token.Access != providers.AccessWrite {
		t.Errorf("minted %+v, %v", minted, err)
	}
}

func TestRotation(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		ask  providers.RotationAsk
		ends time.Time // zero: at once
	}{
		"the default":  {providers.RotationAsk{Now: start}, start.Add(24 * time.Hour)},
		"no now":       {providers.RotationAsk{}, start.Add(24 * time.Hour)},
		"the shortest": {providers.RotationAsk{Now: start, Overlap: 15 * time.Minute}, start.Add(15 * time.Minute)},
		"the longest":  {providers.RotationAsk{Now: start, Overlap: 90 * 24 * time.Hour}, start.Add(90 * 24 * time.Hour)},
		"compromised":  {providers.RotationAsk{Now: start, Compromised: true}, time.Time{}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var query url.Values
			planned, ended := providers.Date{}, providers.At(start)
			if !tt.ends.IsZero() {
				query = url.Values{"expiry": {fmt.Sprint(tt.ends.UnixMilli())}}
				planned, ended = providers.At(tt.ends), providers.At(tt.ends)
			}
			p := serve(t, vendortest.Exchange{
				Method: "POST", Path: tokenPath + "/reset", Query: query, Header: common("Content-Type", "application/json"),
				Answer: record(map[string]any{"token": newSecret}),
			})
			token := providers.Token{ID: tokenID}
			plan, err := p.PlanRotation(t.Context(), token, tt.ask)
			if err != nil {
				t.Fatal(err)
			}
			if plan.Method != providers.MethodReset || !plan.OldEnds.Equal(planned) || !plan.NewExpires.IsNever() || plan.DeletesOld || len(plan.Effects) < 2 {
				t.Errorf("plan %+v", plan)
			}
			minted, err := p.Rotate(t.Context(), token, plan)
			if err != nil || minted.Secret.Expose() != newSecret || minted.Token.ID != tokenID || !minted.OldEnds.Equal(ended) {
				t.Errorf("minted %+v, %v", minted, err)
			}
		})
	}
}

func TestRotationRefused(t *testing.T) {
	t.Parallel()
	p, token := serve(t), providers.Token{ID: tokenID}
	for _, ask := range []providers.RotationAsk{
		{Overlap: time.Minute}, {Overlap: -time.Hour}, {Overlap: 90*24*time.Hour + 1}, {Overlap: time.Hour, Compromised: true},
	} {
		_, err := p.PlanRotation(t.Context(), token, ask)
		wantCode(t, err, providers.CodeInvalidArgument)
	}
	reset := providers.MethodReset
	for name, tt := range map[string]struct {
		plan providers.RotationPlan
		code providers.Code
	}{
		"time has passed":    {providers.RotationPlan{Method: reset, OldEnds: providers.At(start.Add(59 * time.Second))}, providers.CodeRefused},
		"in the past":        {providers.RotationPlan{Method: reset, OldEnds: providers.At(start.Add(-time.Hour))}, providers.CodeRefused},
		"too far":            {providers.RotationPlan{Method: reset, OldEnds: providers.At(start.AddDate(1, 0, 0))}, providers.CodeInvalidArgument},
		"never":              {providers.RotationPlan{Method: reset, OldEnds: providers.Never()}, providers.CodeInvalidArgument},
		"no plan":            {providers.RotationPlan{}, providers.CodeInvalidArgument},
		"the plan of a twin": {providers.RotationPlan{Method: providers.MethodTwin}, providers.CodeInvalidArgument},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := p.Rotate(t.Context(), token, tt.plan)
			wantCode(t, err, tt.code)
		})
	}
}

func TestRotateAnswersAnotherToken(t *testing.T) {
	t.Parallel()
	p := serve(t, vendortest.Exchange{
		Method: "POST", Path: tokenPath + "/reset", Answer: record(map[string]any{"_id": otherID, "token": newSecret}),
	})
	_, err := p.Rotate(t.Context(), providers.Token{ID: tokenID}, providers.RotationPlan{Method: providers.MethodReset})
	wantCode(t, err, providers.CodeVendorProtocol)
}

func TestRevoke(t *testing.T) {
	t.Parallel()
	deleting := func(status int, answer string) vendortest.Exchange {
		return vendortest.Exchange{Method: "DELETE", Path: tokenPath, Status: status, Answer: answer}
	}
	notFound := `{"code":"not_found","message":"Invalid resource identifier"}`
	tests := map[string]struct {
		exchanges []vendortest.Exchange
		want      providers.Revocation
		code      providers.Code
	}{
		"revoked":                {[]vendortest.Exchange{deleting(204, "")}, providers.Revoked, ""},
		"gone before":            {[]vendortest.Exchange{deleting(404, notFound)}, providers.AlreadyGone, ""},
		"gone at the second try": {[]vendortest.Exchange{deleting(503, ""), deleting(404, notFound)}, providers.Revoked, ""},
		"gone after a 429":       {[]vendortest.Exchange{deleting(429, `{}`), deleting(404, notFound)}, providers.AlreadyGone, ""},
		"gone after both":        {[]vendortest.Exchange{deleting(429, `{}`), deleting(503, ""), deleting(404, notFound)}, providers.Revoked, ""},
		"a proxy's, put off":     {[]vendortest.Exchange{deleting(429, `{}`), deleting(404, "")}, "", providers.CodeBadAnswer},
		"rate limited once":      {[]vendortest.Exchange{deleting(429, `{}`), deleting(204, "")}, providers.Revoked, ""},
		"forbidden":              {[]vendortest.Exchange{deleting(403, `{"code":"forbidden"}`)}, "", providers.CodeForbidden},
		"a proxy's 404":          {[]vendortest.Exchange{deleting(404, "")}, "", providers.CodeBadAnswer},
		"a proxy's 404 later":    {[]vendortest.Exchange{deleting(502, ""), deleting(404, "")}, "", providers.CodeOutcomeUnknown},
		"a proxy's page":         {[]vendortest.Exchange{deleting(200, "<html>")}, "", providers.CodeOutcomeUnknown},
		"a proxy's 200":          {[]vendortest.Exchange{deleting(200, "")}, "", providers.CodeOutcomeUnknown},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := serve(t, tt.exchanges...).Revoke(t.Context(), providers.Token{ID: tokenID})
			if got != tt.want || providers.CodeOf(err) != tt.code {
				t.Errorf("%q, %v", got, err)
			}
		})
	}
}

// A change whose answer is lost was sent once, and its outcome is unknown.
func TestLostAnswers(t *testing.T) {
	t.Parallel()
	changes := map[string]func(*testing.T, *launchdarkly.Provider) error{
		"create": func(t *testing.T, p *launchdarkly.Provider) error {
			_, err := p.Create(t.Context(), launchdarkly.TokenSpec{Name: "n", Role: "reader"})
			return err
		},
		"rotate": func(t *testing.T, p *launchdarkly.Provider) error {
			_, err := p.Rotate(t.Context(), providers.Token{ID: tokenID}, providers.RotationPlan{Method: providers.MethodReset})
			return err
		},
		"update": func(t *testing.T, p *launchdarkly.Provider) error {
			name := "x"
			_, err := p.Update(t.Context(), providers.Token{ID: tokenID}, launchdarkly.Change{Name: &name})
			return err
		},
	}
	losses := map[string]http.HandlerFunc{
		"the line is cut": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"a 500":           func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) },
		"a 503":           func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) },
	}
	for change, do := range changes {
		for loss, lose := range losses {
			t.Run(change+", "+loss, func(t *testing.T) {
				t.Parallel()
				var sent atomic.Int32
				server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if r.Method == http.MethodGet {
						w.Header().Set("Content-Type", "application/json")
						_, _ = w.Write([]byte(record(nil)))
						return
					}
					sent.Add(1)
					lose(w, r)
				}))
				t.Cleanup(server.Close)
				wantCode(t, do(t, provider(t, server.URL)), providers.CodeOutcomeUnknown)
				if sent.Load() != 1 {
					t.Errorf("%d requests", sent.Load())
				}
			})
		}
	}
}

func TestMintsRepeatWhatWasNotExecuted(t *testing.T) {
	t.Parallel()
	body := `{"name":"n","role":"reader","serviceToken":false}`
	minted, err := serve(t,
		vendortest.Exchange{Method: "POST", Path: "/api/v2/tokens", Body: body, Status: 429, Answer: `{"code":"rate_limited"}`},
		vendortest.Exchange{Method: "POST", Path: "/api/v2/tokens", Body: body, Status: 201, Answer: record(map[string]any{"token": newSecret})},
	).Create(t.Context(), launchdarkly.TokenSpec{Name: "n", Role: "reader"})
	if err != nil || minted.Secret.IsZero() {
		t.Errorf("create: %v", err)
	}
	minted, err = serve(t,
		vendortest.Exchange{Method: "POST", Path: tokenPath + "/reset", Status: 429, Answer: `{"code":"rate_limited"}`},
		vendortest.Exchange{Method: "POST", Path: tokenPath + "/reset", Answer: record(map[string]any{"token": newSecret})},
	).Rotate(t.Context(), providers.Token{ID: tokenID}, providers.RotationPlan{Method: providers.MethodReset})
	if err != nil || minted.Secret.IsZero() {
		t.Errorf("rotate: %v", err)
	}
}
