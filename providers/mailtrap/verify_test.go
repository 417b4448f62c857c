package mailtrap_test

import (
	"context"
	"net/http"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tokenreeve/tokenreeve/internal/secret"
	"github.com/tokenreeve/tokenreeve/internal/vendortest"
	"github.com/tokenreeve/tokenreeve/providers"
)

func TestVerifySecret(t *testing.T) {
	t.Parallel()
	echo := `{"errors":"` + newSecret + ` is odd"}`
	tests := map[string]struct {
		status int
		answer string
		want   bool
		code   providers.Code
	}{
		"opens the account":    {200, `[{"id":1,"name":"Other"},null,{"id":3229,"name":"Acme","access_levels":[1000]}]`, true, ""},
		"an id in a string":    {200, `[{"id":"3229"}]`, true, ""},
		"opens another":        {200, `[{"id":32290},{"id":null},{"id":{}}]`, false, ""},
		"opens none":           {200, `[]`, false, ""},
		"refused":              {401, `{"error":"Incorrect API token"}`, false, ""},
		"refused, repeated":    {401, echo, false, ""},
		"forbidden":            {403, echo, false, providers.CodeForbidden},
		"not a path of theirs": {404, echo, false, providers.CodeNotFound},
		"a proxy's 404":        {404, `{}`, false, providers.CodeBadAnswer},
		"null":                 {200, `null`, false, providers.CodeBadAnswer},
		"no list":              {200, `{"id":3229}`, false, providers.CodeBadAnswer},
		"HTML":                 {200, `<html>` + newSecret, false, providers.CodeBadAnswer},
	}
	for name, tt := range tests {
		for _, family := range []string{"account", "flat"} {
			t.Run(name+", "+family, func(t *testing.T) {
				t.Parallel()
				c := config(vendortest.Serve(t, vendortest.Exchange{
					Method: "GET", Path: "/api/accounts", Status: tt.status, Answer: tt.answer,
					Header: map[string]string{"Authorization": "Bearer " + newSecret, "Api-Token": ""},
				}))
				c.PathFamily = family
				got, err := build(t, c).VerifySecret(t.Context(), providers.Token{ID: "7"}, secret.New(newSecret))
				if got != tt.want {
					t.Errorf("verified is %v", got)
				}
				if tt.code != "" || err != nil {
					wantCode(t, err, tt.code)
				}
			})
		}
	}
}

func TestVerifySecretRefused(t *testing.T) {
	t.Parallel()
	p := serve(t)
	_, err := p.VerifySecret(t.Context(), providers.Token{ID: "x"}, secret.New(newSecret))
	wantCode(t, err, providers.CodeInvalidArgument)
	_, err = p.VerifySecret(t.Context(), providers.Token{ID: "7"}, secret.Secret{})
	wantCode(t, err, providers.CodeInvalidArgument)
}

func TestVerifySecretPatience(t *testing.T) {
	t.Parallel()
	asking := func(status int, answer string) vendortest.Exchange {
		return vendortest.Exchange{Method: "GET", Path: "/api/accounts", Status: status, Answer: answer}
	}
	got, err := serve(t, asking(500, ""), asking(429, "{}"), asking(200, `[{"id":3229}]`)).
		VerifySecret(t.Context(), providers.Token{ID: "7"}, secret.New(newSecret))
	if !got || err != nil {
		t.Errorf("verified is %v, %v", got, err)
	}

	p, _ := handle(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err = p.VerifySecret(ctx, providers.Token{ID: "7"}, secret.New(newSecret))
	wantCode(t, err, providers.CodeTimeout)
}

// What the vendor makes of the new secret changes nothing for the connection.
func TestVerifySecretDisturbsNothing(t *testing.T) {
	t.Parallel()
	var foreign atomic.Int32
	p, _ := handle(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") == "Bearer "+credential {
			_, _ = w.Write([]byte(`{"id":7}`))
			return
		}
		foreign.Add(1)
		w.Header().Set("X-Ratelimit-Limit", "150")
		w.Header().Set("X-Ratelimit-Remaining", "0")
		w.WriteHeader(http.StatusUnauthorized)
	})
	for range 3 {
		ctx, cancel := contextFor(t, time.Second)
		_, err := p.Get(ctx, providers.Ref{ID: "7"})
		cancel()
		if err != nil {
			t.Fatal(err)
		}
		if ok, err := p.VerifySecret(t.Context(), providers.Token{ID: "7"}, secret.New(newSecret)); ok || err != nil {
			t.Fatalf("verified is %v, %v", ok, err)
		}
	}
	if foreign.Load() != 3 {
		t.Errorf("%d requests came with the new secret", foreign.Load())
	}
}

// The whole way through the simulated vendor: what was just made, and what is gone.
func TestVerifySecretInTheSandbox(t *testing.T) {
	t.Parallel()
	s, p := simulated(t)
	made, err := p.Create(t.Context(), spec())
	if err != nil {
		t.Fatal(err)
	}
	if ok, err := p.VerifySecret(t.Context(), made.Token, made.Secret); !ok || err != nil {
		t.Errorf("verified is %v, %v", ok, err)
	}
	id, _ := strconv.ParseInt(made.Token.ID, 10, 64)
	s.DeleteMailtrapToken(id)
	if ok, err := p.VerifySecret(t.Context(), made.Token, made.Secret); ok || err != nil {
		t.Errorf("verified is %v, %v", ok, err)
	}
}
