package launchdarkly_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tokenreeve/tokenreeve/internal/sandbox"
	"github.com/tokenreeve/tokenreeve/internal/vendortest"
	"github.com/tokenreeve/tokenreeve/providers"
	"github.com/tokenreeve/tokenreeve/providers/launchdarkly"
	"github.com/tokenreeve/tokenreeve/providers/transport"
)

const (
	credential = "api-00000000-0000-4000-8000-00000000c0de"
	newSecret  = "api-11111111-2222-4333-8444-5555555599ab"
	tokenID    = "6650f0c2a1b2c3d4e5f60001"
	otherID    = "6650f0c2a1b2c3d4e5f60002"
	ownID      = "6650f0c2a1b2c3d4e5f6ffff"
	memberID   = "5f0000000000000000000002"
	roleID     = "5e0000000000000000000003"
	tokenPath  = "/api/v2/tokens/" + tokenID

	identityAnswer = `{"accountId":"5d0000000000000000000001","authKind":"token","tokenKind":"auth","tokenName":"tokenreeve",
		"tokenId":"` + ownID + `","memberId":"` + memberID + `","serviceToken":true,"scopes":[]}`
)

// start is the moment of every test.
var start = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// common are the headers of every request.
func common(more ...string) map[string]string {
	h := map[string]string{
		"Authorization": credential, "Ld-Api-Version": "20240415", "Accept": "application/json", "User-Agent": "tokenreeve-test",
	}
	for i := 0; i < len(more); i += 2 {
		h[more[i]] = more[i+1]
	}
	return h
}

// record is the record of the vendor's reference, with members changed or added.
func record(changes map[string]any) string {
	r := map[string]any{
		"_id": tokenID, "ownerId": "5f0000000000000000000001", "memberId": memberID,
		"_member": map[string]any{
			"_links": map[string]any{"self": map[string]any{"href": "/api/v2/members/" + memberID, "type": "application/json"}},
			"_id":    memberID, "firstName": "Dana", "lastName": "Example", "role": "admin", "email": "dana@example.com",
		},
		"name": "deploy bot", "description": "release job",
		"creationDate": 1716580000000, "lastModified": 1716580000000, "lastUsed": 1750000000000,
		"role": "writer", "customRoleIds": []string{}, "inlineRole": []any{}, "token": "9f3c", "serviceToken": true,
		"defaultApiVersion": 20240415,
		"_links": map[string]any{
			"parent": map[string]any{"href": "/api/v2/tokens", "type": "application/json"},
			"self":   map[string]any{"href": "/api/v2/tokens/" + tokenID, "type": "application/json"},
		},
	}
	maps.Copy(r, changes)
	for name, value := range r {
		if value == absent {
			delete(r, name)
		}
	}
	text, err := json.Marshal(r)
	if err != nil {
		panic(err)
	}
	return string(text)
}

// absent removes a member from a record.
const absent = "\x00absent"

func provider(t testing.TB, base string) *launchdarkly.Provider {
	t.Helper()
	return sized(t, base, 0)
}

func sized(t testing.TB, base string, pageSize int) *launchdarkly.Provider {
	t.Helper()
	options := transport.Options{UserAgent: "tokenreeve-test", Timeout: 10 * time.Second}
	hc, err := transport.New(options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(hc.CloseIdleConnections)
	p, err := launchdarkly.New(hc, launchdarkly.Config{
		BaseURL: base, Credential: vendortest.Credential(credential), PageSize: pageSize, Now: func() time.Time { return start },
	}, options)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// serve starts a vendor that expects the exchanges and returns its provider.
func serve(t *testing.T, exchanges ...vendortest.Exchange) *launchdarkly.Provider {
	t.Helper()
	for i := range exchanges {
		if exchanges[i].Header == nil {
			exchanges[i].Header = common()
		}
	}
	return provider(t, vendortest.Serve(t, exchanges...))
}

func itoa(n int64) string { return strconv.FormatInt(n, 10) }

// simulated returns the sandbox and a provider of its account, as an admin.
func simulated(t *testing.T) (*sandbox.Sandbox, *launchdarkly.Provider) {
	t.Helper()
	s, server := simulation(t, sandbox.Options{})
	access := s.Access(server).LaunchDarkly
	return s, caller(t, access.BaseURL, access.Credential)
}

// simulation starts a sandbox and returns its URL.
func simulation(t *testing.T, options sandbox.Options) (*sandbox.Sandbox, string) {
	t.Helper()
	s, err := sandbox.New(options)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(s.Handler())
	t.Cleanup(server.Close)
	return s, server.URL
}

// caller returns a provider that calls with the credential.
func caller(t *testing.T, base, credential string) *launchdarkly.Provider {
	t.Helper()
	hc, err := transport.New(transport.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(hc.CloseIdleConnections)
	p, err := launchdarkly.New(hc, launchdarkly.Config{
		BaseURL: base, Credential: vendortest.Credential(credential),
	}, transport.Options{Timeout: 10 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func reading(answer string) vendortest.Exchange {
	return vendortest.Exchange{Method: "GET", Path: tokenPath, Answer: answer}
}

func wantCode(t *testing.T, err error, code providers.Code) *providers.Error {
	t.Helper()
	var e *providers.Error
	if !errors.As(err, &e) {
		t.Fatalf("error is %v, want one with code %s", err, code)
	}
	if e.Code != code || e.Provider != "launchdarkly" || e.Message == "" {
		t.Fatalf("error is %+v, want code %s", e, code)
	}
	for _, s := range []string{credential, newSecret} {
		if strings.Contains(vendortest.Texts(err), s) {
			t.Fatalf("the error shows a secret: %v", e)
		}
	}
	return e
}

// account is a vendor that lists tokens: one row per id, in their order.
type account struct {
	maxLimit     int  // cuts a larger limit
	totalIsPage  bool // totalCount is the number of rows in the answer
	role         string
	identityFail bool
	hook         func(a *account, request int) // called before each answer to a listing, locked
	delay        time.Duration
	post         func(w http.ResponseWriter) // answers a creation

	mu         sync.Mutex
	ids        []string
	offsets    []int // of the listing requests, in their order of arrival
	running    int
	peak       int
	identities int
	reads      int
}

func newAccount(t testing.TB, tokens int) (*account, string) {
	t.Helper()
	a := &account{maxLimit: 1000, role: "admin"}
	for i := range tokens {
		a.ids = append(a.ids, id(i))
	}
	server := httptest.NewServer(a)
	t.Cleanup(server.Close)
	return a, server.URL
}

func id(i int) string { return fmt.Sprintf("6650f0c2a1b2c3d4%08x", i) }

func (a *account) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	a.mu.Lock()
	defer a.mu.Unlock()
	switch r.URL.Path {
	case "/api/v2/caller-identity":
		a.identities++
		if a.identityFail {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		fmt.Fprint(w, identityAnswer)
	case "/api/v2/tokens/" + ownID:
		a.reads++
		fmt.Fprint(w, record(map[string]any{"_id": ownID, "role": a.role}))
	case "/api/v2/tokens":
		if r.Method == http.MethodPost {
			a.post(w)
			return
		}
		a.list(w, r.URL.Query())
	default:
		w.WriteHeader(http.StatusNotFound)
	}
}

func (a *account) list(w http.ResponseWriter, query url.Values) {
	offset, _ := strconv.Atoi(query.Get("offset"))
	limit, _ := strconv.Atoi(query.Get("limit"))
	a.offsets = append(a.offsets, offset)
	a.running++
	a.peak = max(a.peak, a.running)
	if a.delay > 0 {
		a.mu.Unlock()
		time.Sleep(a.delay)
		a.mu.Lock()
	}
	a.running--
	if a.hook != nil {
		a.hook(a, len(a.offsets))
	}
	from := min(offset, len(a.ids))
	rows := a.ids[from:min(from+min(limit, a.maxLimit), len(a.ids))]
	links, total := map[string]any{}, len(a.ids)
	if from+len(rows) < len(a.ids) {
		links["next"] = map[string]any{"href": "/api/v2/tokens?limit=1&offset=1", "type": "application/json"}
	}
	if a.totalIsPage {
		total = len(rows)
	}
	items := make([]json.RawMessage, len(rows))
	for i, id := range rows {
		items[i] = json.RawMessage(record(map[string]any{"_id": id}))
	}
	_ = json.NewEncoder(w).Encode(map[string]any{"items": items, "totalCount": total, "_links": links})
}

func (a *account) requests() []int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return append([]int(nil), a.offsets...)
}
