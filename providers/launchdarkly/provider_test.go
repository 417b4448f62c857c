package launchdarkly_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/tokenreeve/tokenreeve/internal/vendortest"
	"github.com/tokenreeve/tokenreeve/providers"
	"github.com/tokenreeve/tokenreeve/providers/launchdarkly"
	"github.com/tokenreeve/tokenreeve/providers/transport"
)

func TestNew(t *testing.T) {
	t.Parallel()
	source := vendortest.Credential(credential)
	tests := map[string]struct {
		hc     *http.Client
		config launchdarkly.Config
		want   string // part of the error; empty: none
	}{
		"defaults":         {http.DefaultClient, launchdarkly.Config{Credential: source}, ""},
		"the EU host":      {http.DefaultClient, launchdarkly.Config{Credential: source, BaseURL: "https://app.eu.launchdarkly.com/", PageSize: 50}, ""},
		"no client":        {nil, launchdarkly.Config{Credential: source}, "HTTP client"},
		"no credential":    {http.DefaultClient, launchdarkly.Config{}, "credential"},
		"no URL":           {http.DefaultClient, launchdarkly.Config{Credential: source, BaseURL: "app.launchdarkly.com"}, "base_url"},
		"a page below 1":   {http.DefaultClient, launchdarkly.Config{Credential: source, PageSize: -1}, "1 to 1000"},
		"a page too large": {http.DefaultClient, launchdarkly.Config{Credential: source, PageSize: 1001}, "1 to 1000"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, err := launchdarkly.New(tt.hc, tt.config, transport.Options{})
			if tt.want != "" {
				if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.HasPrefix(err.Error(), "launchdarkly: ") {
					t.Errorf("error is %v, want one with %q", err, tt.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if p.Name() != "launchdarkly" || p.Unknown() != nil {
				t.Errorf("%s, %v", p.Name(), p.Unknown())
			}
		})
	}
}

func TestCheckID(t *testing.T) {
	t.Parallel()
	p := provider(t, "http://127.0.0.1:1")
	tests := []struct {
		part providers.Part
		id   string
		ok   bool
	}{
		{providers.PartToken, tokenID, true},
		{providers.PartToken, strings.ToUpper(tokenID), false},
		{providers.PartToken, "", false},
		{providers.PartToken, "..", false},
		{providers.PartToken, tokenID + "/", false},
		{providers.PartToken, tokenID[:23], false},
		{providers.PartToken, tokenID + "0", false},
		{providers.PartToken, "6650f0c2a1b2c3d4e5f6000g", false},
		{providers.PartToken, newSecret, false},
		{providers.PartServiceAccount, memberID, true},
		{providers.PartServiceAccount, "dana@example.com", false},
		{providers.PartOwner, memberID, true},
		{providers.PartOwner, "dana@example.com", true},
		{providers.PartOwner, "@example.com", false},
		{providers.PartOwner, "dana@", false},
		{providers.PartOwner, "dana @example.com", false},
		{providers.PartOwner, "dana@exa\u200bmple.com", false},
		{providers.PartOwner, strings.Repeat("d", 300) + "@example.com", false},
		{providers.PartOwner, "dana", false},
		{providers.Part("colour"), tokenID, false},
	}
	for _, tt := range tests {
		err := p.CheckID(tt.part, tt.id)
		if tt.ok {
			if err != nil {
				t.Errorf("%s %q: %v", tt.part, tt.id, err)
			}
			continue
		}
		if e := wantCode(t, err, providers.CodeInvalidArgument); len(e.Message) > 250 {
			t.Errorf("%s: a long message: %s", tt.part, e.Message)
		}
	}
}

// badIDs can never be in a path.
var badIDs = []string{"", ".", "..", "../members/5f0000000000000000000002", tokenID + "?x=1", "%2e%2e", "6650F0C2A1B2C3D4E5F60001"}

func TestBadIDsSendNothing(t *testing.T) {
	t.Parallel()
	p := serve(t) // any request fails the test
	name := "x"
	for _, bad := range badIDs {
		token := providers.Token{ID: bad}
		_, err := p.Get(t.Context(), providers.Ref{ID: bad})
		wantCode(t, err, providers.CodeInvalidArgument)
		_, err = p.Revoke(t.Context(), token)
		wantCode(t, err, providers.CodeInvalidArgument)
		_, err = p.PlanRotation(t.Context(), token, providers.RotationAsk{Now: start})
		wantCode(t, err, providers.CodeInvalidArgument)
		_, err = p.Rotate(t.Context(), token, providers.RotationPlan{Method: providers.MethodReset})
		wantCode(t, err, providers.CodeInvalidArgument)
		_, err = p.Update(t.Context(), token, launchdarkly.Change{Name: &name})
		wantCode(t, err, providers.CodeInvalidArgument)
		_, err = p.PlanUpdate(t.Context(), token, launchdarkly.Change{Name: &name})
		wantCode(t, err, providers.CodeInvalidArgument)
	}
}

// Every error status is mapped, and an error body is read as the vendor writes it.
func TestStatuses(t *testing.T) {
	t.Parallel()
	tests := []struct {
		status int
		answer string
		header map[string]string
		code   providers.Code
		vendor string
	}{
		{status: 400, answer: `{"code":"invalid_request","message":"Invalid request body"}`, code: providers.CodeRejected, vendor: "invalid_request"},
		{status: 401, answer: `{"code":"unauthorized","message":"Invalid access token"}`, code: providers.CodeCredentialRejected, vendor: "unauthorized"},
		{status: 403, answer: `{"code":"forbidden","message":"Forbidden. Access to the requested resource was denied."}`, code: providers.CodeForbidden, vendor: "forbidden"},
		{status: 404, answer: `{"code":"not_found","message":"Invalid resource identifier"}`, code: providers.CodeNotFound, vendor: "not_found"},
		{status: 405, answer: `{"code":"method_not_allowed","message":""}`, code: providers.CodeRejected, vendor: "method_not_allowed"},
		{status: 409, answer: `{"code":"optimistic_locking_error","message":"Conflict. Optimistic lock error. Try again later."}`, code: providers.CodeConflict, vendor: "optimistic_locking_error"},
		{status: 422, answer: `{"code":"patch_failed","message":"Unprocessable entity. Could not apply patch.","errors":[]}`, code: providers.CodeRejected, vendor: "patch_failed"},
		{status: 429, answer: `{"code":"rate_limited","message":"slow down"}`, header: map[string]string{"Retry-After": "3600"}, code: providers.CodeRateLimited, vendor: "rate_limited"},
		{status: 404, answer: `<html>no such page</html>`, header: map[string]string{"Content-Type": "text/html"}, code: providers.CodeBadAnswer},
		{status: 404, code: providers.CodeBadAnswer},
		{status: 302, header: map[string]string{"Location": "https://example.com/"}, code: providers.CodeBadAnswer},
	}
	for _, tt := range tests {
		t.Run(http.StatusText(tt.status)+" "+string(tt.code), func(t *testing.T) {
			t.Parallel()
			e := reading(tt.answer)
			e.Status, e.AnswerHeader = tt.status, tt.header
			_, err := serve(t, e).Get(t.Context(), providers.Ref{ID: tokenID})
			got := wantCode(t, err, tt.code)
			if got.VendorCode != tt.vendor || got.Status != tt.status {
				t.Errorf("error is %+v", got)
			}
		})
	}
}

func TestGet(t *testing.T) {
	t.Parallel()
	token, err := serve(t, reading(record(nil))).Get(t.Context(), providers.Ref{ID: tokenID, Owner: "ignored"})
	if err != nil || token.ID != tokenID || token.Name != "deploy bot" {
		t.Errorf("%+v, %v", token, err)
	}
}

func TestGetRepeats(t *testing.T) {
	t.Parallel()
	refused := reading(`{"code":"rate_limited","message":"later"}`)
	refused.Status = http.StatusTooManyRequests
	failed := reading("")
	failed.Status = http.StatusBadGateway
	if _, err := serve(t, refused, failed, reading(record(nil))).Get(t.Context(), providers.Ref{ID: tokenID}); err != nil {
		t.Error(err)
	}
}

func TestGetBadAnswers(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		answer string
		code   providers.Code
	}{
		"another token": {record(map[string]any{"_id": otherID}), providers.CodeVendorProtocol},
		"no id":         {`{}`, providers.CodeVendorProtocol},
		"null":          {`null`, providers.CodeVendorProtocol},
		"empty":         {``, providers.CodeBadAnswer},
		"HTML":          {`<html>`, providers.CodeBadAnswer},
		"cut off":       {record(nil)[:200], providers.CodeBadAnswer},
		"wrong type":    {record(map[string]any{"name": 7}), providers.CodeBadAnswer},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := serve(t, reading(tt.answer)).Get(t.Context(), providers.Ref{ID: tokenID})
			wantCode(t, err, tt.code)
		})
	}
}

func TestHandOff(t *testing.T) {
	t.Parallel()
	p := provider(t, "http://127.0.0.1:1")
	if steps := p.HandOff(providers.DeedRotateOwnCredential); len(steps) == 0 {
		t.Error("no steps")
	}
	for _, deed := range []providers.Deed{providers.DeedMint, providers.DeedRevokeServiceToken, ""} {
		if steps := p.HandOff(deed); steps != nil {
			t.Errorf("%s: %v", deed, steps)
		}
	}
}
