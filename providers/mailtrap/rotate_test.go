package mailtrap_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/tokenreeve/tokenreeve/internal/vendortest"
	"github.com/tokenreeve/tokenreeve/providers"
	"github.com/tokenreeve/tokenreeve/providers/mailtrap"
)

const oldPath = tokensPath + "/2496915"

// old is the record of token 2496915.
func old(expires string, resources ...string) string {
	if len(resources) == 0 {
		resources = []string{resource("account", 3229, 100)}
	}
	return fmt.Sprintf(`{"resources":[%s],"id":2496915,"name":"CI sender","last_4_digits":"9daa","created_by":"Dana Example","expires_at":%s}`,
		strings.Join(resources, ","), expires)
}

func readOld(record string) vendortest.Exchange {
	return vendortest.Exchange{Method: "GET", Path: oldPath, Answer: record}
}

// successor is the recorded answer to a reset.
const successor = `{"resources":[{"resource_type":"account","resource_id":3229,"access_level":100}],"id":2498715,
	"name":"CI sender 2498715","last_4_digits":"856f","created_by":"Ops token","expires_at":null,"token":"` + newSecret + `"}`

func reset(status int, answer string) vendortest.Exchange {
	return vendortest.Exchange{
		Method: "POST", Path: oldPath + "/reset", Status: status, Answer: answer,
		Header: map[string]string{"Content-Type": "", "Authorization": "Bearer " + credential},
	}
}

func get(t *testing.T, p *mailtrap.Provider) providers.Token {
	t.Helper()
	token, err := p.Get(t.Context(), providers.Ref{ID: "2496915"})
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func plan(t *testing.T, p *mailtrap.Provider, token providers.Token, compromised bool) providers.RotationPlan {
	t.Helper()
	plan, err := p.PlanRotation(t.Context(), token, providers.RotationAsk{Compromised: compromised, Now: now})
	if err != nil {
		t.Fatal(err)
	}
	return plan
}

func TestPlans(t *testing.T) {
	t.Parallel()
	days := func(n int) providers.Date { return providers.At(now.AddDate(0, 0, n)) }
	tests := map[string]struct {
		expires     string
		compromised bool
		method      providers.Method
		oldEnds     providers.Date
		newExpires  providers.Date
		deletes     bool
		effect      string
	}{
		"reset":                  {`null`, false, providers.MethodReset, providers.Date{}, providers.Date{}, false, "about 12 hours"},
		"leaked":                 {`null`, true, providers.MethodTwin, providers.Date{}, providers.Never(), true, "Token 2496915 is deleted once the new secret was delivered"},
		"with an end":            {`"2027-11-22T12:00:00Z"`, false, providers.MethodTwin, days(365), days(365), false, "works until 2027-11-22"},
		"leaked, with an end":    {`"2027-11-22T12:00:00Z"`, true, providers.MethodTwin, providers.Date{}, days(365), true, "is deleted"},
		"ends soon":              {`"2026-11-23T12:00:00Z"`, false, providers.MethodTwin, days(1), days(30), false, "end of life: 2026-12-22"},
		"parts of a second":      {`"2027-11-22T12:00:00.999Z"`, false, providers.MethodTwin, providers.At(now.AddDate(1, 0, 0).Add(999 * time.Millisecond)), days(365), false, ""},
		"further than allowed":   {`"2040-01-01T00:00:00Z"`, false, providers.MethodTwin, providers.At(time.Date(2040, 1, 1, 0, 0, 0, 0, time.UTC)), providers.At(now.AddDate(5, 0, 0)), false, ""},
		"end unreadable: reset":  {`"soon"`, false, providers.MethodReset, providers.Date{}, providers.Date{}, false, ""},
		"end not told, no value": {`7`, false, providers.MethodReset, providers.Date{}, providers.Date{}, false, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := plan(t, serve(t, readOld(old(tt.expires))), providers.Token{ID: "2496915"}, tt.compromised)
			if got.Method != tt.method || got.DeletesOld != tt.deletes || !got.OldEnds.Equal(tt.oldEnds) || !got.NewExpires.Equal(tt.newExpires) {
				t.Errorf("plan is %+v", got)
			}
			wantText(t, strings.Join(got.Effects, " "), tt.effect)
		})
	}
}

func TestPlansRefused(t *testing.T) {
	t.Parallel()
	const ends = `"2027-11-22T12:00:00Z"`
	tests := map[string]struct {
		record      string
		compromised bool
		want        string
	}{
		"expired":               {old(`"2026-11-22T12:00:00Z"`), false, "expired"},
		"expired and leaked":    {old(`"2020-01-01T00:00:00Z"`), true, "expired"},
		"level 1":               {old(ends, resource("account", 3229, 1)), false, "access_level"},
		"level 50":              {old(ends, resource("account", 3229, 50)), false, "access_level"},
		"level 1000":            {old(`null`, resource("account", 3229, 1000)), true, "access_level"},
		"unknown words":         {old(ends, resource("project", 1, 10), resource("billing", 3229, 100)), false, "unknown resource words"},
		"no permissions":        {`{"id":2496915,"name":"x","expires_at":` + ends + `,"resources":[]}`, false, "permissions are empty"},
		"unreadable":            {`{"id":2496915,"name":"x","expires_at":` + ends + `,"resources":{"a":1}}`, false, "unknown form"},
		"odd resource id":       {old(ends, resource("project", `"a b"`, 10)), false, "resource_id"},
		"no name":               {`{"id":2496915,"name":null,"expires_at":` + ends + `,"resources":[` + resource("project", 1, 10) + `]}`, false, "name is empty"},
		"leaked, end not told":  {old(`"soon"`), true, "does not tell when"},
		"leaked, end is absent": {`{"id":2496915,"name":"x","resources":[` + resource("project", 1, 10) + `]}`, true, "does not tell when"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := serve(t, readOld(tt.record)).PlanRotation(t.Context(), providers.Token{ID: "2496915"}, providers.RotationAsk{Compromised: tt.compromised, Now: now})
			e := wantCode(t, err, providers.CodeRefused)
			wantText(t, e.Message, tt.want)
			wantText(t, e.Next, "create a new token", "revoke this one")
		})
	}
}

// A token that others are known to have rotated gets no twin beside its successor, if it ends as soon as one that
// is in the grace of a reset.
func TestPlanOfATokenRotatedElsewhere(t *testing.T) {
	t.Parallel()
	isReplaced := providers.WithReplaced(t.Context(), func(context.Context, string) (bool, error) { return true, nil })
	_, err := serve(t, readOld(old(`"2026-11-23T00:00:00Z"`))).PlanRotation(isReplaced, providers.Token{ID: "2496915"}, providers.RotationAsk{Now: now})
	e := wantCode(t, err, providers.CodeRefused)
	wantText(t, e.Message, "already rotated", "2026-11-23")
	wantText(t, e.Next, "successor", "revoke")

	broken := errors.New("the record cannot be read")
	tests := map[string]struct {
		expires    string
		isReplaced bool
		err        error
		want       error // nil: a plan
	}{
		"ends by itself":  {`"2026-11-23T00:00:00Z"`, false, nil, nil},
		"not known":       {`"2026-11-23T00:00:00Z"`, false, broken, broken},
		"ends much later": {`"2027-11-23T00:00:00Z"`, true, nil, nil},
		"never ends":      {`null`, true, nil, nil},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := serve(t, readOld(old(tt.expires)), readOld(old(tt.expires)))
			token := get(t, p)
			ctx := providers.WithReplaced(t.Context(), func(_ context.Context, id string) (bool, error) {
				if id != token.ID {
					t.Errorf("asked for token %s", id)
				}
				return tt.isReplaced, tt.err
			})
			_, err := p.PlanRotation(ctx, token, providers.RotationAsk{Now: now})
			if !errors.Is(err, tt.want) {
				t.Errorf("error %v, want %v", err, tt.want)
			}
		})
	}
}

// What cannot be written does not stand in the way of a reset: the vendor copies it.
func TestResetNeedsNoWritableAccess(t *testing.T) {
	t.Parallel()
	p := serve(t, readOld(old(`null`, resource("billing", 3229, 1000))))
	if got := plan(t, p, providers.Token{ID: "2496915"}, false); got.Method != providers.MethodReset {
		t.Errorf("plan is %+v", got)
	}
}

func TestPlanNeedsNoOverlap(t *testing.T) {
	t.Parallel()
	p := serve(t)
	_, err := p.PlanRotation(t.Context(), providers.Token{ID: "2496915"}, providers.RotationAsk{Overlap: time.Hour})
	wantText(t, wantCode(t, err, providers.CodeInvalidArgument).Message, "leave overlap out")
}

func TestPlanOfAMissingToken(t *testing.T) {
	t.Parallel()
	p := serve(t, vendortest.Exchange{Method: "GET", Path: oldPath, Status: 404, Answer: `{"error":"Not Found"}`})
	_, err := p.PlanRotation(t.Context(), providers.Token{ID: "2496915"}, providers.RotationAsk{})
	wantCode(t, err, providers.CodeNotFound)
}

func TestLongNamesAreWarnedOf(t *testing.T) {
	t.Parallel()
	record := strings.Replace(old(`null`), "CI sender", strings.Repeat("x", 240), 1)
	got := plan(t, serve(t, readOld(record)), providers.Token{ID: "2496915"}, false)
	wantText(t, strings.Join(got.Effects, " "), "near the limit")
}

// The recorded course of a reset, and what listings say of the old token after it.
func TestRotateByReset(t *testing.T) {
	t.Parallel()
	const grace = `"2026-11-23T00:00:00.000Z"`
	p := serve(t,
		readOld(old(`null`)), readOld(old(`null`)), readOld(old(`null`)), reset(200, successor), readOld(old(grace)),
		vendortest.Exchange{Method: "GET", Path: tokensPath, Answer: "[" + old(grace) + "," + strings.Replace(successor, `"token":`, `"x":`, 1) + "]"},
		readOld(old(grace)), readOld(old(grace)),
	)
	token := get(t, p)
	got, err := p.Rotate(t.Context(), token, plan(t, p, token, false))
	if err != nil {
		t.Fatal(err)
	}
	if got.Token.ID != "2498715" || got.Token.Name != "CI sender 2498715" || got.Token.LastFour != "856f" ||
		!got.Token.Expires.IsNever() || got.Token.Detail.CreatedBy != "Ops token" || got.Secret.Expose() != newSecret {
		t.Errorf("minted %+v", got)
	}
	if !got.OldEnds.Equal(providers.At(now.Add(12 * time.Hour))) {
		t.Errorf("the old one ends %v", got.OldEnds)
	}
	pages, err := list(t, p, "")
	if err != nil || pages[0].Tokens[0].Status != providers.StatusInGrace || pages[0].Tokens[1].Status != providers.StatusActive {
		t.Errorf("pages are %+v, %v", pages, err)
	}
	// A second reset is refused before anything is sent, also for a leak.
	for _, compromised := range []bool{false, true} {
		_, err = p.PlanRotation(t.Context(), token, providers.RotationAsk{Now: now, Compromised: compromised})
		e := wantCode(t, err, providers.CodeRefused)
		wantText(t, e.Message, "already reset", "2026-11-23")
		wantText(t, e.Next, "successor", "revoke")
	}
}

func TestResetWithoutTheOldEnd(t *testing.T) {
	t.Parallel()
	tests := map[string]vendortest.Exchange{
		"cannot be read": {Method: "GET", Path: oldPath, Status: 404, Answer: `{"error":"Not Found"}`},
		"another record": {Method: "GET", Path: oldPath, Answer: `{"id":1}`},
		"not shown yet":  readOld(old(`null`)),
	}
	for name, last := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := serve(t, readOld(old(`null`)), readOld(old(`null`)), reset(200, successor), last)
			got, err := p.Rotate(t.Context(), get(t, p), providers.RotationPlan{Method: providers.MethodReset})
			if err != nil || got.Secret.Expose() != newSecret || !got.OldEnds.IsUnknown() {
				t.Errorf("minted %+v, %v", got, err)
			}
		})
	}
}

// The same id is against what was recorded, and no reason to lose the secret.
func TestResetInPlace(t *testing.T) {
	t.Parallel()
	answer := strings.Replace(successor, `"id":2498715`, `"id":2496915`, 1)
	p := serve(t, readOld(old(`null`)), readOld(old(`null`)), reset(200, answer), readOld(old(`"2027-01-01T00:00:00Z"`)))
	got, err := p.Rotate(t.Context(), get(t, p), providers.RotationPlan{Method: providers.MethodReset})
	if err != nil || got.Token.ID != "2496915" || got.Secret.Expose() != newSecret || !got.OldEnds.IsUnknown() {
		t.Errorf("minted %+v, %v", got, err)
	}
	if token := get(t, p); token.Status != providers.StatusActive {
		t.Errorf("status is %s", token.Status)
	}
}

func TestResetFails(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		status int
		answer string
		code   providers.Code
		next   string
	}{
		"422": {422, `{"errors":{"base":["Only tokens without expiration can be reset"]}}`, providers.CodeRejected, "only once"},
		"404": {404, `{"error":"Not Found"}`, providers.CodeNotFound, "list tokens"},
		"403": {403, `{"errors":"Access forbidden"}`, providers.CodeForbidden, "admin access"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := serve(t, readOld(old(`null`)), readOld(old(`null`)), reset(tt.status, tt.answer))
			_, err := p.Rotate(t.Context(), get(t, p), providers.RotationPlan{Method: providers.MethodReset})
			wantText(t, wantCode(t, err, tt.code).Next, tt.next)
		})
	}
}

func TestResetIsRepeatedOn429(t *testing.T) {
	t.Parallel()
	p := serve(t, readOld(old(`null`)), readOld(old(`null`)),
		reset(429, `{"errors":"Rate limit exceeded"}`), reset(200, successor), readOld(old(`"2026-11-23T00:00:00Z"`)))
	got, err := p.Rotate(t.Context(), get(t, p), providers.RotationPlan{Method: providers.MethodReset})
	if err != nil || got.Token.ID != "2498715" {
		t.Errorf("minted %+v, %v", got, err)
	}
}

func TestRotateByTwin(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		words, expires string
		compromised    bool
		body           string
		oldEnds        providers.Date
	}{
		"leaked": {
			"", `null`, true,
			`{"name":"CI sender","expires_at":null,"resources":[` + resource("sandbox", 4, 100) + "," + resource("project", 1, 10) + `]}`, providers.Never(),
		},
		"with an end": {
			"", `"2027-11-22T12:00:00Z"`, false,
			`{"name":"CI sender","expires_at":"2027-11-22T12:00:00Z","resources":[` + resource("sandbox", 4, 100) + "," + resource("project", 1, 10) + `]}`,
			providers.At(now.AddDate(1, 0, 0)),
		},
		"ends soon, old words": {
			"old", `"2026-11-23T12:00:00Z"`, true,
			`{"name":"CI sender","expires_at":"2026-12-22T12:00:00Z","resources":[` + resource("inbox", 4, 100) + "," + resource("project", 1, 10) + `]}`,
			providers.At(now.AddDate(0, 0, 1)),
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			record := old(tt.expires, resource("inbox", 4, 100), resource("project", `"1"`, 10))
			c := config(vendortest.Serve(t, readOld(record), readOld(record), readOld(record), noNamesake,
				vendortest.Exchange{Method: "POST", Path: tokensPath, Body: tt.body, Answer: created}))
			c.ResourceWords = tt.words
			p := build(t, c)
			token := get(t, p)
			got, err := p.Rotate(t.Context(), token, plan(t, p, token, tt.compromised))
			if err != nil || got.Token.ID != "2498715" || got.Secret.Expose() != newSecret || !got.OldEnds.Equal(tt.oldEnds) {
				t.Errorf("minted %+v, %v", got, err)
			}
		})
	}
}

// A twin bears the vendor's name, not the cleaned one.
func TestTwinKeepsTheRawName(t *testing.T) {
	t.Parallel()
	record := strings.Replace(old(`null`), "CI sender", `CI\u00a0 sender`, 1)
	p := serve(t, readOld(record), readOld(record), noNamesake, vendortest.Exchange{
		Method: "POST", Path: tokensPath, Answer: created,
		Body: `{"name":"CI\u00a0 sender","expires_at":null,"resources":[` + resource("account", 3229, 100) + `]}`,
	})
	token := get(t, p)
	if !token.NameAltered {
		t.Error("the name was not altered")
	}
	if _, err := p.Rotate(t.Context(), token, providers.RotationPlan{Method: providers.MethodTwin, NewExpires: providers.Never()}); err != nil {
		t.Error(err)
	}
}

// What changed since the preview sends no change.
func TestRotateConflicts(t *testing.T) {
	t.Parallel()
	before := old(`null`, resource("account", 3229, 10))
	tests := map[string]struct{ now, want string }{
		"name":      {strings.Replace(before, "CI sender", "CI receiver", 1), "the name of token 2496915"},
		"name, raw": {strings.Replace(before, "CI sender", `CI\u200b sender`, 1), "the name of token 2496915"},
		"access":    {old(`null`, resource("account", 3229, 100)), "from \"read\" to \"admin\""},
		"expiry":    {old(`"2027-01-01T00:00:00Z"`, resource("account", 3229, 10)), `from "never" to "2027-01-01T00:00:00Z"`},
	}
	for name, tt := range tests {
		for _, method := range []providers.Method{providers.MethodReset, providers.MethodTwin} {
			t.Run(name+" "+string(method), func(t *testing.T) {
				t.Parallel()
				p := serve(t, readOld(before), readOld(tt.now))
				_, err := p.Rotate(t.Context(), get(t, p), providers.RotationPlan{Method: method, NewExpires: providers.Never()})
				wantText(t, wantCode(t, err, providers.CodeConflict).Message, tt.want, "nothing was sent")
			})
		}
	}
}

func TestRotateRefusesOddPlans(t *testing.T) {
	t.Parallel()
	_, err := serve(t).Rotate(t.Context(), providers.Token{ID: "2496915"}, providers.RotationPlan{})
	wantCode(t, err, providers.CodeInvalidArgument)

	p := serve(t, readOld(old(`null`)), readOld(old(`null`)))
	_, err = p.Rotate(t.Context(), get(t, p), providers.RotationPlan{Method: providers.MethodTwin})
	wantCode(t, err, providers.CodeInvalidArgument)

	expired := old(`"2026-11-22T11:00:00Z"`)
	p = serve(t, readOld(expired), readOld(expired))
	_, err = p.Rotate(t.Context(), get(t, p), providers.RotationPlan{Method: providers.MethodReset})
	wantCode(t, err, providers.CodeRefused)
}
