package launchdarkly_test

import (
	"context"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/tokenreeve/tokenreeve/internal/vendortest"
	"github.com/tokenreeve/tokenreeve/providers"
	"github.com/tokenreeve/tokenreeve/providers/launchdarkly"
)

func resetting(ahead time.Duration) string { return fmt.Sprint(time.Now().Add(ahead).UnixMilli()) }

// spent makes one call whose answer has the headers, then another of the same
// route and one of another route. It reports which of these were let through.
func spent(t *testing.T, header map[string]string, same, other bool) {
	t.Helper()
	first := reading(record(nil))
	first.AnswerHeader = header
	exchanges := []vendortest.Exchange{first}
	if same {
		exchanges = append(exchanges, reading(record(nil)))
	}
	if other {
		exchanges = append(exchanges, vendortest.Exchange{Method: "DELETE", Path: tokenPath, Status: http.StatusNoContent})
	}
	p := serve(t, exchanges...)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	get := func() error {
		_, err := p.Get(ctx, providers.Ref{ID: tokenID})
		return err
	}
	if err := get(); err != nil {
		t.Fatal(err)
	}
	judge(t, "the same route", get(), same)
	_, err := p.Revoke(ctx, providers.Token{ID: tokenID})
	judge(t, "another route", err, other)
}

func judge(t *testing.T, what string, err error, passes bool) {
	t.Helper()
	if passes && err != nil {
		t.Errorf("%s: %v", what, err)
	}
	if !passes {
		wantCode(t, err, providers.CodeRateLimited)
	}
}

func TestBudgets(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		header      map[string]string
		same, other bool
	}{
		"none told": {nil, true, true},
		"account": {
			map[string]string{"X-Ratelimit-Global-Limit": "10", "X-Ratelimit-Global-Remaining": "0", "X-Ratelimit-Reset": resetting(time.Minute)}, false, false,
		},
		"account, without a limit": {
			map[string]string{"X-Ratelimit-Global-Remaining": "0", "X-Ratelimit-Reset": resetting(time.Minute)}, false, false,
		},
		"route": {
			map[string]string{"X-Ratelimit-Route-Limit": "5", "X-Ratelimit-Route-Remaining": "0", "X-Ratelimit-Reset": resetting(time.Minute)}, false, true,
		},
		"token": {
			map[string]string{"X-Ratelimit-Auth-Token-Limit": "1000", "X-Ratelimit-Auth-Token-Remaining": "0", "X-Ratelimit-Auth-Token-Reset": resetting(time.Minute)}, false, false,
		},
		"the reset is in the past": {
			map[string]string{"X-Ratelimit-Global-Remaining": "0", "X-Ratelimit-Reset": resetting(-time.Second)}, true, true,
		},
		"the reset is in seconds": {
			map[string]string{"X-Ratelimit-Global-Remaining": "0", "X-Ratelimit-Reset": fmt.Sprint(time.Now().Unix() + 60)}, true, true,
		},
		"no reset":      {map[string]string{"X-Ratelimit-Global-Remaining": "0"}, true, true},
		"no numbers":    {map[string]string{"X-Ratelimit-Global-Remaining": "few", "X-Ratelimit-Reset": "soon"}, true, true},
		"a lot is left": {map[string]string{"X-Ratelimit-Global-Limit": "10", "X-Ratelimit-Global-Remaining": "9", "X-Ratelimit-Reset": resetting(time.Minute)}, true, true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			spent(t, tt.header, tt.same, tt.other)
		})
	}
}

// One route's budget does not stop a listing, nor a listing's requests another route.
func TestRouteBudgetsAreApart(t *testing.T) {
	t.Parallel()
	header := map[string]string{"X-Ratelimit-Route-Limit": "5", "X-Ratelimit-Route-Remaining": "0", "X-Ratelimit-Reset": resetting(time.Minute)}
	body := `{"name":"n","role":"reader","serviceToken":false}`
	p := serve(t,
		vendortest.Exchange{Method: "POST", Path: "/api/v2/tokens", Body: body, Status: 201, Answer: record(map[string]any{"token": newSecret}), AnswerHeader: header},
		vendortest.Exchange{Method: "GET", Path: "/api/v2/caller-identity", Answer: identityAnswer},
		reading(record(nil)),
	)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	spec := launchdarkly.TokenSpec{Name: "n", Role: "reader"}
	if _, err := p.Create(ctx, spec); err != nil {
		t.Fatal(err)
	}
	_, err := p.Create(ctx, spec)
	wantCode(t, err, providers.CodeRateLimited)
	if _, err := p.Identity(ctx); err != nil {
		t.Error(err)
	}
	if _, err := p.Get(ctx, providers.Ref{ID: tokenID}); err != nil {
		t.Error(err)
	}
}
