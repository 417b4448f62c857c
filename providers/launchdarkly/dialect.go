package launchdarkly

import (
	"encoding/json"
	"net/http"
	"strconv"
	"time"

	"github.com/tokenreeve/tokenreeve/providers/transport"
)

// apiVersion is sent with every request: without it the credential's own default
// version decides the shape of the answers, and old versions do not page.
const apiVersion = "20240415"

func dialect() transport.Dialect {
	return transport.Dialect{
		Provider: name,
		// The raw token: with the word Bearer in front of it the vendor answers 401.
		Authorize: func(h http.Header, credential string) { h.Set("Authorization", credential) },
		Header:    http.Header{http.CanonicalHeaderKey("LD-API-Version"): {apiVersion}},
		Budgets:   budgets,
		Problem:   problem,
	}
}

// budgets reads the limits of the account, the route and the token. Each header
// can be absent; a limit without its remainder or its reset tells nothing. The
// limit per IP address has Retry-After only, which the transport reads.
func budgets(h http.Header, _ time.Time) []transport.Budget {
	known := make([]transport.Budget, 0, 3)
	for _, limit := range [...]struct {
		name, prefix, reset string
		perRoute            bool
	}{
		{"account", "X-Ratelimit-Global-", "X-Ratelimit-Reset", false},
		{"route", "X-Ratelimit-Route-", "X-Ratelimit-Reset", true},
		{"token", "X-Ratelimit-Auth-Token-", "X-Ratelimit-Auth-Token-Reset", false},
	} {
		remaining, err := strconv.Atoi(h.Get(limit.prefix + "Remaining"))
		if err != nil || remaining < 0 {
			continue
		}
		reset, err := strconv.ParseInt(h.Get(limit.reset), 10, 64) // epoch milliseconds
		if err != nil || reset <= 0 {
			continue
		}
		most, err := strconv.Atoi(h.Get(limit.prefix + "Limit"))
		if err != nil || most < 0 {
			most = 0 // older servers do not tell
		}
		known = append(known, transport.Budget{
			Name: limit.name, Limit: most, Remaining: remaining, Reset: time.UnixMilli(reset), PerRoute: limit.perRoute,
		})
	}
	return known
}

// problem reads {"code":"…","message":"…"}.
func problem(_ int, body []byte) (code, message string) {
	var p struct {
		Code    string `json:"code"`
		Message string `json:"message"`
	}
	if json.Unmarshal(body, &p) != nil {
		return "", ""
	}
	return p.Code, p.Message
}
