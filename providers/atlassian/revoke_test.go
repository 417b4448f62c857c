package atlassian_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/tokenreeve/tokenreeve/internal/vendortest"
	"github.com/tokenreeve/tokenreeve/providers"
)

// remove is the revocation of one token of dana's.
func remove(id string, status int, answer string) vendortest.Exchange {
	return vendortest.Exchange{
		Method: http.MethodDelete, Path: danaList + "/" + id, Status: status, Answer: answer,
		Header: map[string]string{"Authorization": "Bearer org-key", "Content-Type": ""},
	}
}

func TestRevoke(t *testing.T) {
	t.Parallel()
	label := func(id, label, created string) string {
		return `{"id":"` + id + `","label":"` + label + `","createdAt":"` + created + `"}`
	}
	const created = "2026-01-14T09:12:33.412Z"
	for name, test := range map[string]struct {
		change    func(*providers.Token)
		exchanges []vendortest.Exchange
		want      providers.Revocation
		code      providers.Code
	}{
		"by id":       {exchanges: []vendortest.Exchange{get(danaList, danaRows), remove(robot, 204, "")}, want: providers.Revoked},
		"after a 503": {exchanges: []vendortest.Exchange{get(danaList, danaRows), remove(robot, 503, ""), remove(robot, 204, "")}, want: providers.Revoked},
		"gone on a later attempt": {
			exchanges: []vendortest.Exchange{get(danaList, danaRows), remove(robot, 503, ""), remove(robot, 404, `{"key":"notFound"}`)},
			want:      providers.Revoked,
		},
		"gone after a 429": {
			exchanges: []vendortest.Exchange{get(danaList, danaRows), remove(robot, 429, ""), remove(robot, 404, `{"key":"notFound"}`)},
			want:      providers.AlreadyGone,
		},
		"gone after both": {
			exchanges: []vendortest.Exchange{
				get(danaList, danaRows), remove(robot, 503, ""), remove(robot, 429, ""), remove(robot, 404, `{"key":"notFound"}`),
			},
			want: providers.Revoked,
		},
		"gone on the first attempt":  {exchanges: []vendortest.Exchange{get(danaList, danaRows), remove(robot, 404, `{"key":"notFound"}`)}, want: providers.AlreadyGone},
		"account gone at the delete": {exchanges: []vendortest.Exchange{get(danaList, danaRows), remove(robot, 404, accountNotFound)}, code: providers.CodeOwnerUnknown},
		"account gone later": {
			exchanges: []vendortest.Exchange{get(danaList, danaRows), remove(robot, 503, ""), remove(robot, 404, accountNotFound)},
			code:      providers.CodeOwnerUnknown,
		},
		"account unknown":         {exchanges: []vendortest.Exchange{refuse(danaList, 404, accountNotFound)}, code: providers.CodeOwnerUnknown},
		"404 of a proxy":          {exchanges: []vendortest.Exchange{get(danaList, danaRows), remove(robot, 404, "")}, code: providers.CodeBadAnswer},
		"another 2xx":             {exchanges: []vendortest.Exchange{get(danaList, danaRows), remove(robot, 200, "<html>")}, code: providers.CodeOutcomeUnknown},
		"refused":                 {exchanges: []vendortest.Exchange{get(danaList, danaRows), remove(robot, 403, `{"key":"forbidden"}`)}, code: providers.CodeForbidden},
		"not in an empty list":    {exchanges: []vendortest.Exchange{get(danaList, `[]`)}, want: providers.AlreadyGone},
		"list broken off":         {exchanges: []vendortest.Exchange{get(danaList, `[{"id":"a"},`)}, code: providers.CodeBadAnswer},
		"namesake of another day": {exchanges: []vendortest.Exchange{get(danaList, array(label("x", "build robot", "2026-01-15T09:12:33.412Z")))}, want: providers.AlreadyGone},
		"another id": {
			exchanges: []vendortest.Exchange{get(danaList, array(label("y", "old", "2024-03-02T11:00:00Z"), label("x", "build robot", created))), remove("x", 204, "")},
			want:      providers.Revoked,
		},
		"another id twice": {
			exchanges: []vendortest.Exchange{get(danaList, array(label("x", "build robot", created), label("y", "build robot", created)))},
			code:      providers.CodeRefused,
		},
		"another label at the moment": {exchanges: []vendortest.Exchange{get(danaList, array(label("x", "robot", created)))}, code: providers.CodeRefused},
		"coarser moment":              {exchanges: []vendortest.Exchange{get(danaList, array(label("x", "build robot", "2026-01-14T09:12:33Z")))}, code: providers.CodeRefused},
		"namesake, creation unknown": {
			change:    func(t *providers.Token) { t.Created = providers.Date{} },
			exchanges: []vendortest.Exchange{get(danaList, array(label("x", "build robot", created)))}, code: providers.CodeRefused,
		},
		"other name, creation unknown": {
			change:    func(t *providers.Token) { t.Created = providers.Date{} },
			exchanges: []vendortest.Exchange{get(danaList, array(label("x", "other", created)))}, want: providers.AlreadyGone,
		},
		// Cleaned, both look alike; they are not the same label.
		"looks alike": {exchanges: []vendortest.Exchange{get(danaList, array(label("x", `build\u200b robot`, created)))}, code: providers.CodeRefused},
		"odd id":      {exchanges: []vendortest.Exchange{get(danaList, array(label("..", "build robot", created)))}, code: providers.CodeInvalidArgument},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			token := fromOrg(t, robotRow)
			if test.change != nil {
				test.change(&token)
			}
			got, err := serve(t, test.exchanges...).Revoke(t.Context(), token)
			wantCode(t, err, test.code)
			equal(t, "revocation", got, test.want)
		})
	}
}

func TestRevokeNeverWidens(t *testing.T) {
	t.Parallel()
	_, err := serve(t).Revoke(t.Context(), providers.Token{ID: "asp_Bot", Kind: providers.KindService, Owner: providers.Owner{ID: bot}})
	wantCode(t, err, providers.CodeNotOffered)
	if e := new(providers.Error); !errors.As(err, &e) || !strings.Contains(e.Next, "Service accounts") {
		t.Errorf("the hand-off is missing: %#v", err)
	}
}

// The answer to the first DELETE is lost; the second shows that it was carried out.
func TestRevokeAfterALostAnswer(t *testing.T) {
	t.Parallel()
	var deletes atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		switch {
		case r.Method == http.MethodGet:
			_, _ = w.Write([]byte(danaRows))
		case deletes.Add(1) == 1:
			panic(http.ErrAbortHandler)
		default:
			w.WriteHeader(http.StatusNotFound)
			_, _ = w.Write([]byte(`{"key":"notFound"}`))
		}
	}))
	t.Cleanup(server.Close)
	got, err := open(t, server.URL).Revoke(t.Context(), fromOrg(t, robotRow))
	if got != providers.Revoked || err != nil || deletes.Load() != 2 {
		t.Errorf("%q, %v after %d requests", got, err, deletes.Load())
	}
}

func TestBulk(t *testing.T) {
	t.Parallel()
	for _, status := range []int{200, 202, 204} {
		bare := map[string]string{"Authorization": "Bearer org-key", "Content-Type": ""}
		p := serve(t,
			vendortest.Exchange{Method: http.MethodDelete, Path: orgTokens, Status: status, Header: bare},
			vendortest.Exchange{Method: http.MethodDelete, Path: botList, Status: status, Header: bare},
		)
		if err := p.RevokeEverything(t.Context()); err != nil {
			t.Error(status, err)
		}
		if err := p.RevokeServiceAccount(t.Context(), bot); err != nil {
			t.Error(status, err)
		}
	}
	for status, code := range map[int]providers.Code{
		400: providers.CodeRejected, 401: providers.CodeCredentialRejected, 403: providers.CodeForbidden,
		404: providers.CodeNotFound, 500: providers.CodeOutcomeUnknown, 503: providers.CodeOutcomeUnknown,
	} {
		p := serve(t,
			vendortest.Exchange{Method: http.MethodDelete, Path: orgTokens, Status: status},
			vendortest.Exchange{Method: http.MethodDelete, Path: botList, Status: status},
		)
		wantCode(t, p.RevokeEverything(t.Context()), code)
		wantCode(t, p.RevokeServiceAccount(t.Context(), bot), code)
	}
	t.Run("refused for now", func(t *testing.T) {
		t.Parallel()
		p := serve(t,
			vendortest.Exchange{Method: http.MethodDelete, Path: orgTokens, Status: 429},
			vendortest.Exchange{Method: http.MethodDelete, Path: orgTokens, Status: 204},
		)
		if err := p.RevokeEverything(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestBulkIsNeverRepeated(t *testing.T) {
	t.Parallel()
	base, requests := hangUp(t)
	p := open(t, base)
	err := p.RevokeEverything(t.Context())
	wantCode(t, err, providers.CodeOutcomeUnknown)
	if e := new(providers.Error); !errors.As(err, &e) || !strings.Contains(e.Next, "count") {
		t.Errorf("the error does not say to count: %#v", err)
	}
	equal(t, "requests", requests.Load(), int32(1))
	wantCode(t, p.RevokeServiceAccount(t.Context(), bot), providers.CodeOutcomeUnknown)
	equal(t, "requests", requests.Load(), int32(2))
}
