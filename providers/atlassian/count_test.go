package atlassian_test

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/tokenreeve/tokenreeve/internal/vendortest"
	"github.com/tokenreeve/tokenreeve/providers"
)

func TestCount(t *testing.T) {
	t.Parallel()
	byAccount := providers.Filter{ServiceAccounts: []string{bot, "gone", bot}}
	post := vendortest.Exchange{
		Method: http.MethodPost, Path: services + "/count", Body: `["` + bot + `","gone"]`,
		Header: map[string]string{"Content-Type": "application/json", "Authorization": "Bearer org-key"},
		Answer: `{"validServiceAccountIds":[{"serviceAccountId":"` + bot + `","credentialsCount":3}],"invalidServiceAccountIds":["gone"]}`,
	}
	for name, test := range map[string]struct {
		filter    providers.Filter
		exchanges []vendortest.Exchange
		want      providers.Count
	}{
		"everything": {
			providers.Filter{},
			[]vendortest.Exchange{get(orgTokens+"/count", "214"), get(services+"/api-tokens", array(botRow, botRow))},
			providers.Count{Total: 216, Limits: managed},
		},
		"without service accounts": {
			providers.Filter{},
			[]vendortest.Exchange{get(orgTokens+"/count", "214"), refuse(services+"/api-tokens", 404, "")},
			providers.Count{Total: 214, Limits: partial},
		},
		"users": {providers.Filter{Kind: providers.KindUser}, []vendortest.Exchange{get(orgTokens+"/count", "0")}, providers.Count{Limits: managed}},
		"accounts": {
			byAccount,
			[]vendortest.Exchange{post},
			providers.Count{Total: 3, ByOwner: map[string]int{bot: 3}, Unknown: []string{"gone"}, Limits: managed},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			count, ok, err := serve(t, test.exchanges...).Count(t.Context(), test.filter)
			if !ok || err != nil {
				t.Fatal(ok, err)
			}
			equal(t, "count", count, test.want)
		})
	}
}

func TestCountNotOffered(t *testing.T) {
	t.Parallel()
	p := serve(t)
	many := make([]string, 101)
	for i := range many {
		many[i] = fmt.Sprint("a", i)
	}
	for _, f := range []providers.Filter{
		{Kind: providers.KindService},
		{Query: "x"},
		{Owner: dana},
		{Kind: providers.KindUser, Query: "x"},
		{ServiceAccounts: many},
		{ServiceAccounts: []string{bot}, Query: "x"},
	} {
		if _, ok, err := p.Count(t.Context(), f); ok || err != nil {
			t.Errorf("%+v: %v, %v", f, ok, err)
		}
	}
	for _, ids := range [][]string{nil, many} {
		_, err := p.CountServiceAccounts(t.Context(), ids)
		wantCode(t, err, providers.CodeInvalidArgument)
	}
}

func TestCountBadAnswers(t *testing.T) {
	t.Parallel()
	for answer, code := range map[string]providers.Code{
		`null`: providers.CodeVendorProtocol, `-1`: providers.CodeVendorProtocol,
		`{"count":7}`: providers.CodeBadAnswer, `<html>`: providers.CodeBadAnswer, ``: providers.CodeBadAnswer, `"7"`: providers.CodeBadAnswer,
	} {
		_, err := serve(t, get(orgTokens+"/count", answer)).CountEverything(t.Context())
		wantCode(t, err, code)
	}
	for answer, code := range map[string]providers.Code{
		`null`: providers.CodeVendorProtocol, `{}`: providers.CodeVendorProtocol, `[]`: providers.CodeBadAnswer,
		`{"validServiceAccountIds":[{"serviceAccountId":"other","credentialsCount":3}]}`:                             providers.CodeVendorProtocol,
		`{"validServiceAccountIds":[{"serviceAccountId":"` + bot + `","credentialsCount":-3}]}`:                      providers.CodeVendorProtocol,
		`{"validServiceAccountIds":[{"serviceAccountId":"` + bot + `"}],"invalidServiceAccountIds":["` + bot + `"]}`: providers.CodeVendorProtocol,
		`{"invalidServiceAccountIds":["x\u202e"]}`:                                                                   providers.CodeVendorProtocol,
	} {
		p := serve(t, vendortest.Exchange{Method: http.MethodPost, Path: services + "/count", Body: `["` + bot + `"]`, Answer: answer})
		_, err := p.CountServiceAccounts(t.Context(), []string{bot})
		wantCode(t, err, code)
	}
}
