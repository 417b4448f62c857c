package sandbox_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tokenreeve/tokenreeve/internal/sandbox"
)

func (b *box) fault(f sandbox.Fault) {
	b.t.Helper()
	if _, err := b.AddFault(f); err != nil {
		b.t.Fatal(err)
	}
}

// Each fault is tried on a create: made tells whether the token exists afterwards.
func TestFaultKinds(t *testing.T) {
	tests := []struct {
		name   string
		fault  sandbox.Fault
		status int // 0: no whole answer
		body   string
		made   bool
	}{
		{"latency", sandbox.Fault{Kind: sandbox.FaultLatency, LatencyMS: 30}, 201, `"_id"`, true},
		{"late answer", sandbox.Fault{Kind: sandbox.FaultLatency, LatencyMS: 30, Applied: true}, 201, `"_id"`, true},
		{"429", sandbox.Fault{Kind: sandbox.Fault429, RetryAfter: "7"}, 429, `"code":"rate_limited"`, false},
		{"500", sandbox.Fault{Kind: sandbox.Fault500}, 500, `"message"`, false},
		{"500 after", sandbox.Fault{Kind: sandbox.Fault500, Applied: true}, 500, `"message"`, true},
		{"503", sandbox.Fault{Kind: sandbox.Fault503, Body: "down", ContentType: "text/plain"}, 503, `down`, false},
		{"status", sandbox.Fault{Kind: sandbox.FaultStatus, Status: 403}, 403, `"code":"forbidden"`, false},
		{"no body", sandbox.Fault{Kind: sandbox.Fault503, NoBody: true}, 503, ``, false},
		{"redirect", sandbox.Fault{Kind: sandbox.FaultStatus, Status: 304, Header: map[string]string{"Location": "http://127.0.0.1:1/"}}, 304, ``, false},
		{"html", sandbox.Fault{Kind: sandbox.FaultHTML}, 200, `<html>`, false},
		{"html 502", sandbox.Fault{Kind: sandbox.FaultHTML, Status: 502, Applied: true}, 502, `<html>`, true},
		{"not json", sandbox.Fault{Kind: sandbox.FaultNotJSON}, 200, `upstream`, false},
		{"huge", sandbox.Fault{Kind: sandbox.FaultHuge, Size: 1 << 20}, 200, `filler`, false},
		{"cut", sandbox.Fault{Kind: sandbox.FaultCut}, 0, ``, false},
		{"lost answer", sandbox.Fault{Kind: sandbox.FaultLostAnswer}, 0, ``, true},
		{"truncate", sandbox.Fault{Kind: sandbox.FaultTruncate}, 0, ``, true},
		{"empty", sandbox.Fault{Kind: sandbox.FaultEmpty}, 201, ``, true},
		{"wrong status", sandbox.Fault{Kind: sandbox.FaultWrongStatus}, 500, `"_id"`, true},
		{"wrong 202", sandbox.Fault{Kind: sandbox.FaultWrongStatus, Status: 202}, 202, `"_id"`, true},
		{"slow", sandbox.Fault{Kind: sandbox.FaultSlow, LatencyMS: 40}, 201, `"_id"`, true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			b := open(t, sandbox.Options{LaunchDarklyTokens: new(0)})
			test.fault.Vendor, test.fault.Method, test.fault.PathPrefix = "launchdarkly", "POST", "/api/v2/tokens"
			b.fault(test.fault)
			start := time.Now()
			r := b.ld("POST", "/tokens", `{"role":"reader"}`)
			switch {
			case test.status == 0 && r.err == nil:
				t.Fatalf("a whole answer: %d %s", r.status, r.body)
			case test.status != 0:
				r.want(t, test.status, test.body)
			}
			if wait := time.Duration(test.fault.LatencyMS) * time.Millisecond; time.Since(start) < wait*7/8 {
				t.Fatalf("answered after %v; want %v", time.Since(start), wait)
			}
			if made := len(b.LaunchDarklyTokens()) == 7; made != test.made {
				t.Fatalf("made is %v; want %v", made, test.made)
			}
			requests := b.Requests()
			if len(requests) != 1 || requests[0].Fault != string(test.fault.Kind) {
				t.Fatalf("requests %+v", requests)
			}
			if test.fault.RetryAfter != "" && r.header.Get("Retry-After") != test.fault.RetryAfter {
				t.Fatalf("headers %v", r.header)
			}
		})
	}
}

func TestFaultsOnEveryVendor(t *testing.T) {
	b := open(t, sandbox.Options{Now: newClock().now})
	user := b.owner(isUser).ID
	for _, kind := range []sandbox.FaultKind{sandbox.Fault429, sandbox.Fault500, sandbox.Fault502, sandbox.Fault503, sandbox.Fault504} {
		b.ClearFaults()
		b.fault(sandbox.Fault{Kind: kind, ResetMS: 5000})
		status, _ := strconv.Atoi(string(kind))
		org, ld, mt := b.org("GET", "/api-tokens", "").want(t, status), b.ld("GET", "/tokens", "").want(t, status), b.mt("GET", "/api_tokens", "").want(t, status)
		b.users("GET", user+"/manage/api-tokens").want(t, status)
		for _, r := range []result{org, ld, mt} {
			if !json.Valid(r.body) || len(r.body) == 0 {
				t.Errorf("%s: body %s", kind, r.body)
			}
		}
		if kind != sandbox.Fault429 {
			continue
		}
		if org.header.Get("X-Ratelimit-Reset") != "2026-06-01T12:00:05.000Z" || org.header.Get("X-Ratelimit-Remaining") != "0" {
			t.Errorf("atlassian headers %v", org.header)
		}
		if ld.header.Get("X-Ratelimit-Reset") != fmt.Sprint(newClock().at.UnixMilli()+5000) || ld.header.Get("X-Ratelimit-Route-Remaining") != "0" {
			t.Errorf("launchdarkly headers %v", ld.header)
		}
		if mt.header.Get("X-Ratelimit-Remaining") != "0" || mt.header.Get("Retry-After") != "" {
			t.Errorf("mailtrap headers %v", mt.header)
		}
	}
	for status, want := range map[int][3]string{
		400: {`"errors"`, "invalid_request", "Unexpected"}, 401: {`"code":401`, "unauthorized", "Incorrect API token"},
		403: {`"requestId"`, "forbidden", "Access forbidden"}, 404: {`"errors"`, "not_found", "Not Found"},
		409: {`"errors"`, "optimistic_locking_error", "Unexpected"}, 422: {`"code":422`, "patch_failed", `"base"`},
	} {
		b.ClearFaults()
		b.fault(sandbox.Fault{Kind: sandbox.FaultStatus, Status: status, Header: map[string]string{"X-Extra": "1"}})
		b.org("GET", "/api-tokens", "").want(t, status, want[0])
		b.ld("GET", "/tokens", "").want(t, status, want[1])
		if r := b.mt("GET", "/api_tokens", "").want(t, status, want[2]); r.header.Get("X-Extra") != "1" {
			t.Errorf("headers %v", r.header)
		}
	}
}

func TestFaultCounts(t *testing.T) {
	b := open(t, sandbox.Options{})
	b.fault(sandbox.Fault{Vendor: "mailtrap", PathContains: "api_tokens", Kind: sandbox.Fault500, After: 1, Times: 2})
	b.fault(sandbox.Fault{Vendor: "mailtrap", Kind: sandbox.FaultLatency, LatencyMS: 1})
	for i, want := range []int{200, 500, 500, 200} {
		if r := b.mt("GET", "/api_tokens", ""); r.status != want {
			t.Fatalf("request %d: %d; want %d", i, r.status, want)
		}
	}
	b.ld("GET", "/tokens", "").want(t, 200)
	faults := b.Faults()
	if faults[0].Seen != 4 || faults[0].Fired != 2 || faults[1].Fired != 4 || faults[0].ID == faults[1].ID {
		t.Fatalf("faults %+v", faults)
	}
	b.ClearFaults()
	if len(b.Faults()) != 0 {
		t.Fatal("faults are left")
	}
}

func TestBadFaults(t *testing.T) {
	b := open(t, sandbox.Options{})
	for _, f := range []sandbox.Fault{
		{},
		{Kind: "x"},
		{Kind: sandbox.FaultStatus},
		{Kind: sandbox.Fault500, Vendor: "x"},
		{Kind: sandbox.Fault500, Status: 700},
		{Kind: sandbox.Fault500, Times: -1},
		{Kind: sandbox.Fault500, Chance: 1.5},
	} {
		if _, err := b.AddFault(f); err == nil {
			t.Errorf("accepted %+v", f)
		}
	}
}

// The request of which a gateway says 504 takes effect all the same, and later.
func TestLateFault(t *testing.T) {
	b := open(t, sandbox.Options{})
	b.fault(sandbox.Fault{Kind: sandbox.FaultLate, LatencyMS: 30, Times: 1})
	start := time.Now()
	b.ld("POST", "/tokens", `{"role":"reader"}`).want(t, 504)
	b.Settle()
	if changes := b.Changes(); len(changes) != 1 || changes[0].Kind != sandbox.TokenMade || changes[0].Time.Sub(start) < 30*time.Millisecond {
		t.Fatalf("changes %+v", changes)
	}
}

func TestChance(t *testing.T) {
	failed := func(seed uint64) (pattern string) {
		b := open(t, sandbox.Options{Seed: seed})
		b.fault(sandbox.Fault{Kind: sandbox.Fault500, Chance: 0.25})
		for range 400 {
			pattern += strconv.Itoa(b.mt("GET", "/accounts", "").status / 100)
		}
		return pattern
	}
	first := failed(1)
	if n := strings.Count(first, "5"); n < 60 || n > 140 {
		t.Errorf("%d of 400 failed, want about 100", n)
	}
	if first != failed(1) || first == failed(2) {
		t.Error("the seed does not decide")
	}
}

// A client that gives up while a request is delayed must know which of the two it was.
func TestLatencyAndAClientThatGivesUp(t *testing.T) {
	for _, applied := range []bool{false, true} {
		b := open(t, sandbox.Options{MailtrapTokens: new(0)})
		b.fault(sandbox.Fault{Kind: sandbox.FaultLatency, LatencyMS: 60_000, Applied: applied})
		client := http.Client{Timeout: 50 * time.Millisecond}
		req, err := http.NewRequestWithContext(t.Context(), "POST", b.access.Mailtrap.BaseURL+"/api/api_tokens",
			strings.NewReader(`{"name":"x","resources":[`+accountAdmin+`]}`))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Api-Token", b.access.Mailtrap.Credential)
		req.Header.Set("Content-Type", "application/json")
		if resp, err := client.Do(req); err == nil {
			resp.Body.Close()
			t.Fatal("answered")
		}
		for deadline := time.Now().Add(5 * time.Second); len(b.Requests()) == 0; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal("the request was never recorded")
			}
		}
		if made := len(b.MailtrapTokens()) == 4; made != applied || b.Requests()[0].Status != 0 {
			t.Fatalf("made is %v; want %v", made, applied)
		}
	}
}

func TestLatencyOption(t *testing.T) {
	b := open(t, sandbox.Options{Latency: 20 * time.Millisecond})
	start := time.Now()
	b.ld("GET", "/tokens", "").want(t, 200)
	if time.Since(start) < 20*time.Millisecond {
		t.Fatalf("answered after %v", time.Since(start))
	}
}

func TestCanary(t *testing.T) {
	const canary = "canary-4f1c-\u202e"
	b := open(t, sandbox.Options{Canary: canary})
	user := b.owner(isUser).ID
	service := b.owner(isService).ID
	answers := map[string]result{
		"org list": b.org("GET", "/api-tokens", ""), "users list": b.users("GET", user+"/manage/api-tokens"),
		"service accounts": b.org("GET", "/service-accounts", ""), "keys": b.org("GET", "/api-keys", ""),
		"counts": b.org("POST", "/service-accounts/count", `["`+service+`"]`), "ld list": b.ld("GET", "/tokens", ""),
		"identity": b.ld("GET", "/caller-identity", ""), "mt list": b.mt("GET", "/api_tokens", ""),
		"org 400": b.org("GET", "/api-tokens?x=1", ""), "org 401": b.orgAs("x", "GET", "/api-tokens", ""),
		"org 403":   b.orgAs(b.access.Atlassian.ScopedCredential, "GET", "/api-keys", ""),
		"users 404": b.users("GET", "nobody/manage/api-tokens"), "ld 401": b.ldAs("x", "GET", "/tokens", ""), "ld 404": b.ld("GET", "/tokens/x", ""),
		"ld 400": b.ld("POST", "/tokens", "{}"), "mt 401": b.mtAs("x", "GET", "/api_tokens", ""), "mt 404": b.mt("GET", "/api_tokens/1", ""),
		"mt 422": b.mt("POST", "/api_tokens", "{}"), "mt 403": b.mtAs(b.access.Mailtrap.ViewerCredential, "GET", "/api_tokens", ""),
	}
	for name, r := range answers {
		if !strings.Contains(string(r.body), canary) || r.header.Get("X-Sandbox-Canary") != "canary-4f1c-?" {
			t.Errorf("%s: no canary in %d %.200s", name, r.status, r.body)
		}
	}
	b.SetCanary("")
	if r := b.mt("GET", "/api_tokens/1", ""); strings.Contains(string(r.body), "canary") || r.header.Get("X-Sandbox-Canary") != "" {
		t.Errorf("still a canary in %s", r.body)
	}
}
