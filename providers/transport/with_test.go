package transport_test

import (
	"net/http"
	"strconv"
	"testing"
	"time"

	"github.com/tokenreeve/tokenreeve/internal/secret"
	"github.com/tokenreeve/tokenreeve/providers"
	"github.com/tokenreeve/tokenreeve/providers/transport"
)

// other is the credential of a client made by With.
const other = "other-credential-of-the-test"

// TestWith asks with another credential: it is what the vendor gets, through the
// same connections, and what the vendor makes of it stays with that client.
func TestWith(t *testing.T) {
	type test struct {
		answer   http.HandlerFunc // to the other credential
		code     providers.Code
		requests int // with it
	}
	budget := func(remaining string) []string {
		return []string{"X-Remaining", remaining, "X-Reset", strconv.FormatInt(time.Now().Add(time.Hour).Unix(), 10)}
	}
	each(t, map[string]test{
		"accepted":               {ok(), "", 1},
		"refused":                {status(401, `{"code":"unauthorized"}`), providers.CodeCredentialRejected, 1},
		"forbidden":              {status(403, `{}`), providers.CodeForbidden, 1},
		"limited for long":       {status(429, `{}`, "Retry-After", "3600"), providers.CodeRateLimited, 1},
		"limited for a moment":   {status(429, `{}`), providers.CodeRateLimited, 4},
		"a budget that is spent": {status(200, `{"id":"a"}`, budget("0")...), "", 1},
		"repeated to be quoted":  {status(400, `{"code":"`+other+`","message":"no such token: `+other+`"}`, "X-Request-Id", other), providers.CodeRejected, 1},
		"repeated in a redirect": {status(302, ``, "Location", "%zz"+other), providers.CodeUnavailable, 4},
	}, func(t *testing.T, test test) {
		var requests int
		v := serve(t, func(w http.ResponseWriter, r *http.Request) {
			switch r.Header.Get("Authorization") {
			case "Bearer " + other:
				requests++
				test.answer(w, r)
			case "Bearer " + credential:
				ok()(w, r)
			default:
				status(401, `{}`)(w, r)
			}
		})
		d := dialect()
		d.Budgets = func(h http.Header, _ time.Time) []transport.Budget {
			remaining, err := strconv.Atoi(h.Get("X-Remaining"))
			reset, _ := strconv.ParseInt(h.Get("X-Reset"), 10, 64)
			if err != nil {
				return nil
			}
			return []transport.Budget{{Name: "token", Limit: 100, Remaining: remaining, Reset: time.Unix(reset, 0)}}
		}
		s := &source{values: []string{credential, "a renewed one"}}
		hc, err := transport.New(transport.Options{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(hc.CloseIdleConnections)
		c := wire(t, hc, v.URL, s, d, transport.Options{})
		_, err = do(t.Context(), c, read())
		wantCode(t, err, "")
		_, err = do(t.Context(), c.With(secret.New(other)), read())
		wantCode(t, err, test.code) // and that no error shows the credential
		_, err = do(t.Context(), c, read())
		wantCode(t, err, "")
		want(t, "requests with the other credential", requests, test.requests)
		want(t, "readings of the source", s.reads, 1)
		want(t, "connections", v.connections.Load(), 1)
	})
}
