package atlassian_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/tokenreeve/tokenreeve/internal/vendortest"
	"github.com/tokenreeve/tokenreeve/providers"
)

func TestGet(t *testing.T) {
	t.Parallel()
	danaService := services + "/" + dana + "/api-tokens"
	unknownAccount := refuse(danaList, 404, accountNotFound)
	scoped := refuse(danaList, 403, `{"code":403,"message":"The request requires the scope manage:org"}`)
	noToken := `[{"id":"other"}]`
	for name, test := range map[string]struct {
		ref       providers.Ref
		exchanges []vendortest.Exchange
		kind      providers.Kind // of the token found
		code      providers.Code
		message   string
	}{
		"owner's list": {ref: providers.Ref{ID: robot, Owner: dana}, exchanges: []vendortest.Exchange{get(danaList, danaRows)}, kind: providers.KindUser},
		"absent": {
			ref: providers.Ref{ID: robot, Owner: dana}, exchanges: []vendortest.Exchange{get(danaList, noToken), page("", rows(row("x")))},
			code: providers.CodeNotFound, message: "hold no token",
		},
		"another id in user management": {
			ref:       providers.Ref{ID: robot, Owner: dana},
			exchanges: []vendortest.Exchange{get(danaList, noToken), page("", rows(robotRow))}, kind: providers.KindUser,
		},
		"another owner's": {
			ref:       providers.Ref{ID: robot, Owner: "other"},
			exchanges: []vendortest.Exchange{get("/users/other/manage/api-tokens", noToken), page("", rows(robotRow))}, code: providers.CodeInvalidArgument, message: "another account",
		},
		"absent, listing failed": {ref: providers.Ref{ID: robot, Owner: dana}, exchanges: []vendortest.Exchange{get(danaList, `[]`), page403()}, code: providers.CodeForbidden},
		"list broken off":        {ref: providers.Ref{ID: robot, Owner: dana}, exchanges: []vendortest.Exchange{get(danaList, `[{"id":"a"},`)}, code: providers.CodeBadAnswer},
		"account unknown": {
			ref: providers.Ref{ID: robot, Owner: dana}, exchanges: []vendortest.Exchange{unknownAccount, refuse(danaService, 404, "")},
			code: providers.CodeOwnerUnknown, message: "no account",
		},
		"account unknown, services refused": {ref: providers.Ref{ID: robot, Owner: dana}, exchanges: []vendortest.Exchange{unknownAccount, refuse(danaService, 403, "")}, code: providers.CodeForbidden},
		"service account": {
			ref: providers.Ref{ID: "asp_Bot", Owner: dana}, kind: providers.KindService,
			exchanges: []vendortest.Exchange{unknownAccount, get(danaService, array(row("asp_A"), row("asp_Bot")))},
		},
		"absent from a service account": {
			ref: providers.Ref{ID: robot, Owner: dana}, exchanges: []vendortest.Exchange{unknownAccount, get(danaService, noToken)},
			code: providers.CodeNotFound, message: "service account",
		},
		"scoped key": {
			ref: providers.Ref{ID: robot, Owner: dana}, exchanges: []vendortest.Exchange{scoped, refuse(danaService, 404, "")},
			code: providers.CodeForbidden, message: "with scopes",
		},
		"scoped key, no proof":        {ref: providers.Ref{ID: robot, Owner: dana}, exchanges: []vendortest.Exchange{scoped, get(danaService, `[]`)}, code: providers.CodeForbidden},
		"scoped key, service account": {ref: providers.Ref{ID: "x", Owner: dana}, exchanges: []vendortest.Exchange{scoped, get(danaService, array(row("x")))}, kind: providers.KindService},
		"404 of a proxy":              {ref: providers.Ref{ID: robot, Owner: dana}, exchanges: []vendortest.Exchange{refuse(danaList, 404, `{"code":404}`)}, code: providers.CodeBadAnswer},

		"no owner":                 {ref: providers.Ref{ID: robot}, exchanges: []vendortest.Exchange{page("", rows(robotRow))}, kind: providers.KindUser},
		"no owner, on page two":    {ref: providers.Ref{ID: robot}, exchanges: []vendortest.Exchange{page("", `{"data":[],"links":{"next":"c"}}`), page("cursor=c", rows(robotRow))}, kind: providers.KindUser},
		"no owner, service":        {ref: providers.Ref{ID: "asp_Bot"}, exchanges: []vendortest.Exchange{page("", rows()), get(services+"/api-tokens", array(botRow))}, kind: providers.KindService},
		"no owner, absent":         {ref: providers.Ref{ID: robot}, exchanges: []vendortest.Exchange{page("", rows()), get(services+"/api-tokens", `[]`)}, code: providers.CodeNotFound},
		"no owner, incomplete":     {ref: providers.Ref{ID: robot}, exchanges: []vendortest.Exchange{page("", rows()), refuse(services+"/api-tokens", 403, "")}, code: providers.CodeUnavailable},
		"no owner, listing failed": {ref: providers.Ref{ID: robot}, exchanges: []vendortest.Exchange{page403()}, code: providers.CodeForbidden},
		"e-mail address":           {ref: providers.Ref{ID: robot, Owner: "dana@example.com"}, exchanges: []vendortest.Exchange{page("q=dana%40example.com", rows(robotRow))}, kind: providers.KindUser},
		"an address that the search does not know": {
			ref: providers.Ref{ID: robot, Owner: "dana@example.com"}, kind: providers.KindUser,
			exchanges: []vendortest.Exchange{page("q=dana%40example.com", rows()), page("", rows(robotRow))},
		},
		"a hidden address": {
			ref: providers.Ref{ID: "x", Owner: "dana@example.com"}, kind: providers.KindUser,
			exchanges: []vendortest.Exchange{page("q=dana%40example.com", rows()), page("", rows(row("x")))},
		},
		"another owner's address": {
			ref: providers.Ref{ID: robot, Owner: "eve@example.com"}, code: providers.CodeNotFound, message: "address",
			exchanges: []vendortest.Exchange{page("q=eve%40example.com", rows()), page("", rows(robotRow))},
		},
		"an address of a service account": {
			ref: providers.Ref{ID: "asp_Bot", Owner: "ci@serviceaccount.atlassian.com"}, kind: providers.KindService,
			exchanges: []vendortest.Exchange{page("q=ci%40serviceaccount.atlassian.com", rows()), page("", rows()), get(services+"/api-tokens", array(botRow))},
		},
		"e-mail address, absent": {
			ref: providers.Ref{ID: "x", Owner: "dana@example.com"}, code: providers.CodeNotFound,
			exchanges: []vendortest.Exchange{page("q=dana%40example.com", rows()), page("", rows()), get(services+"/api-tokens", `[]`)},
		},
		"e-mail address, incomplete": {
			ref: providers.Ref{ID: "x", Owner: "dana@example.com"}, code: providers.CodeUnavailable,
			exchanges: []vendortest.Exchange{page("q=dana%40example.com", rows()), page("", rows()), refuse(services+"/api-tokens", 403, "")},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			token, err := serve(t, test.exchanges...).Get(t.Context(), test.ref)
			wantCode(t, err, test.code)
			if err != nil {
				equal(t, "token", token, providers.Token{})
				if !strings.Contains(err.Error(), test.message) {
					t.Errorf("the error lacks %q: %v", test.message, err)
				}
				return
			}
			equal(t, "id", token.ID, test.ref.ID)
			equal(t, "kind", token.Kind, test.kind)
		})
	}
}

func page403() vendortest.Exchange {
	e := page("", `{"status":403,"error":"Forbidden","message":"no"}`)
	e.Status = 403
	return e
}

func TestUserManagementRefusals(t *testing.T) {
	t.Parallel()
	for answer, want := range map[string]string{
		`{"code":403,"message":"missing scope"}`: "user_management_credential",
		`{"key":"forbidden"}`:                    "user_management_credential",
		`{"key":"forbidden.action","context":{"reason":{"key":"externalDirectory.scim"}}}`: "see its reason",
	} {
		_, err := serve(t, refuse(danaList, 403, answer)).Revoke(t.Context(), providers.Token{ID: robot, Owner: providers.Owner{ID: dana}})
		if e := new(providers.Error); !errors.As(err, &e) || !strings.Contains(e.Next, want) {
			t.Errorf("%s: %#v", answer, err)
		}
	}
	_, err := serve(t, refuse(danaList, 401, `{"key":"unauthorized"}`)).Revoke(t.Context(), providers.Token{ID: robot, Owner: providers.Owner{ID: dana}})
	wantCode(t, err, providers.CodeCredentialRejected)
}
