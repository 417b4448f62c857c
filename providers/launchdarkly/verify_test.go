package launchdarkly_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tokenreeve/tokenreeve/internal/secret"
	"github.com/tokenreeve/tokenreeve/internal/vendortest"
	"github.com/tokenreeve/tokenreeve/providers"
	"github.com/tokenreeve/tokenreeve/providers/launchdarkly"
)

func TestVerifySecret(t *testing.T) {
	t.Parallel()
	identity := func(id string) string { return `{"accountId":"5d0000000000000000000001","tokenId":"` + id + `"}` }
	echo := `{"code":"x","message":"` + newSecret + ` is odd"}`
	tests := map[string]struct {
		status int
		answer string
		want   bool
		code   providers.Code
	}{
		"its own":            {200, identity(tokenID), true, ""},
		"another token's":    {200, identity(otherID), false, ""},
		"told without an id": {200, `{"accountId":"5d0000000000000000000001"}`, true, ""},
		"refused":            {401, `{"code":"unauthorized","message":"Invalid access token"}`, false, ""},
		"refused, repeated":  {401, echo, false, ""},
		"forbidden":          {403, echo, false, providers.CodeForbidden},
		"a bad request":      {400, echo, false, providers.CodeRejected},
		"not found":          {404, echo, false, providers.CodeNotFound},
		"nothing told":       {200, `{}`, false, providers.CodeBadAnswer},
		"null":               {200, `null`, false, providers.CodeBadAnswer},
		"HTML":               {200, `<html>` + newSecret, false, providers.CodeBadAnswer},
		"a wrong type":       {200, `{"tokenId":["` + newSecret + `"]}`, false, providers.CodeBadAnswer},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			header := common()
			header["Authorization"] = newSecret
			p := serve(t, vendortest.Exchange{
				Method: "GET", Path: "/api/v2/caller-identity", Header: header, Status: tt.status, Answer: tt.answer,
			})
			got, err := p.VerifySecret(t.Context(), providers.Token{ID: tokenID}, secret.New(newSecret))
			if got != tt.want {
				t.Errorf("verified is %v", got)
			}
			if tt.code != "" || err != nil {
				wantCode(t, err, tt.code)
			}
		})
	}
}

func TestVerifySecretRefused(t *testing.T) {
	t.Parallel()
	p := serve(t)
	_, err := p.VerifySecret(t.Context(), providers.Token{ID: ".."}, secret.New(newSecret))
	wantCode(t, err, providers.CodeInvalidArgument)
	_, err = p.VerifySecret(t.Context(), providers.Token{ID: tokenID}, secret.Secret{})
	wantCode(t, err, providers.CodeInvalidArgument)
}

// A vendor that fails for a moment is asked again; one that stays silent is not
// waited for without end, and the caller's own end counts.
func TestVerifySecretPatience(t *testing.T) {
	t.Parallel()
	header := common()
	header["Authorization"] = newSecret
	asking := func(status int, answer string) vendortest.Exchange {
		return vendortest.Exchange{Method: "GET", Path: "/api/v2/caller-identity", Header: header, Status: status, Answer: answer}
	}
	got, err := serve(t, asking(503, ""), asking(429, "{}"), asking(200, `{"tokenId":"`+tokenID+`"}`)).
		VerifySecret(t.Context(), providers.Token{ID: tokenID}, secret.New(newSecret))
	if !got || err != nil {
		t.Errorf("verified is %v, %v", got, err)
	}

	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	t.Cleanup(server.Close)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err = provider(t, server.URL).VerifySecret(ctx, providers.Token{ID: tokenID}, secret.New(newSecret))
	wantCode(t, err, providers.CodeTimeout)
}

// What the vendor makes of the new secret changes nothing for the connection: it
// keeps its credential and sends on, though the other one has used up its budget.
func TestVerifySecretDisturbsNothing(t *testing.T) {
	t.Parallel()
	var foreign atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		switch r.Header.Get("Authorization") {
		case credential:
			_, _ = w.Write([]byte(record(nil)))
		case newSecret:
			foreign.Add(1)
			for _, name := range []string{"Global", "Route", "Auth-Token"} {
				w.Header().Set("X-Ratelimit-"+name+"-Limit", "100")
				w.Header().Set("X-Ratelimit-"+name+"-Remaining", "0")
			}
			reset := time.Now().Add(time.Hour).UnixMilli()
			w.Header().Set("X-Ratelimit-Reset", itoa(reset))
			w.Header().Set("X-Ratelimit-Auth-Token-Reset", itoa(reset))
			w.WriteHeader(http.StatusUnauthorized)
		}
	}))
	t.Cleanup(server.Close)
	p := provider(t, server.URL)
	for range 3 {
		if _, err := p.Get(t.Context(), providers.Ref{ID: tokenID}); err != nil {
			t.Fatal(err)
		}
		if ok, err := p.VerifySecret(t.Context(), providers.Token{ID: tokenID}, secret.New(newSecret)); ok || err != nil {
			t.Fatalf("verified is %v, %v", ok, err)
		}
	}
	if foreign.Load() != 3 {
		t.Errorf("%d requests came with the new secret", foreign.Load())
	}
}

// The whole way through the simulated vendor: what was just made, what was
// replaced, what belongs to another token, and what is gone.
func TestVerifySecretInTheSandbox(t *testing.T) {
	t.Parallel()
	s, p := simulated(t)
	verified := func(token providers.Token, secret secret.Secret) bool {
		ok, err := p.VerifySecret(t.Context(), token, secret)
		if err != nil {
			t.Fatal(err)
		}
		return ok
	}
	first, err := p.Create(t.Context(), launchdarkly.TokenSpec{Name: "first", Role: "reader"})
	if err != nil {
		t.Fatal(err)
	}
	second, err := p.Create(t.Context(), launchdarkly.TokenSpec{Name: "second", Role: "reader", ServiceToken: true})
	if err != nil {
		t.Fatal(err)
	}
	if !verified(first.Token, first.Secret) || !verified(second.Token, second.Secret) || verified(first.Token, second.Secret) {
		t.Error("the wrong secrets were accepted")
	}
	rotated, err := p.Rotate(t.Context(), first.Token, providers.RotationPlan{Method: providers.MethodReset})
	if err != nil {
		t.Fatal(err)
	}
	if verified(first.Token, first.Secret) || !verified(first.Token, rotated.Secret) {
		t.Error("the replaced secret was accepted, or the new one was not")
	}
	s.DeleteLaunchDarklyToken(first.Token.ID)
	if verified(first.Token, rotated.Secret) {
		t.Error("a secret without a token was accepted")
	}
}
