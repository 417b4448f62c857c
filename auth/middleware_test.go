package auth_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/tokenreeve/tokenreeve/auth"
	"github.com/tokenreeve/tokenreeve/internal/oidctest"
	"github.com/tokenreeve/tokenreeve/internal/policy"
)

// use is a handler that does what is of the class in its path on the connection acme.
func use(w http.ResponseWriter, r *http.Request) {
	p, ok := auth.PrincipalFrom(r.Context())
	if r.Header.Get("Authorization") != "" {
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	if !ok || !p.Allows(policy.Class(strings.TrimPrefix(r.URL.Path, "/")), "acme") {
		w.WriteHeader(http.StatusNotAcceptable)
		return
	}
	fmt.Fprint(w, p.Name, " ", p.Method, " ", p.Address)
}

// ask sends a request to the handler from the address.
func ask(t testing.TB, h http.Handler, from, path string, header http.Header) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, path, nil)
	r.RemoteAddr = from
	for name, values := range header {
		r.Header[name] = values
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func bearer(token string) http.Header { return http.Header{"Authorization": {"Bearer " + token}} }

// TestEveryRoleClassAndToken is the whole matrix: every role, every class, every way a token can be.
func TestEveryRoleClassAndToken(t *testing.T) {
	t.Parallel()
	key, foreign := oidctest.NewKey(t, "one", jose.ES256), oidctest.NewKey(t, "two", jose.ES256)
	i, c := newIssuer(t, key), newClock()
	now := c.Now()
	options := oidcOptions(i, c)
	roles := slices.Concat(auth.Roles(), []auth.Role{""}) // "": no role is mapped
	var static []auth.Token
	tokens := map[auth.Role]string{}
	for _, role := range roles {
		options.Roles["group-"+string(role)] = auth.Grant{Role: role}
		if role != "" {
			token, digest := auth.NewToken()
			tokens[role] = token
			static = append(static, auth.Token{Name: string(role), Digest: digest, Grant: auth.Grant{Role: role}})
		}
	}
	delete(options.Roles, "group-")
	resource := auth.Resource{URL: audience, Issuer: i.name()}
	door := auth.Middleware(auth.First(auth.NewTokens(static), mustOIDC(t, options)), auth.Options{Resource: resource})(http.HandlerFunc(use))
	wrong, _ := auth.NewToken()

	for _, role := range roles {
		mine := func(changes ...any) map[string]any {
			return i.claims(now, append([]any{"groups", []string{"group-" + string(role)}}, changes...)...)
		}
		requests := map[string]struct {
			header http.Header
			status int // 0: as the role says
		}{
			"no token":       {nil, http.StatusUnauthorized},
			"wrong":          {bearer(wrong), http.StatusUnauthorized},
			"expired":        {bearer(key.Sign(t, "JWT", mine("exp", now.Add(-time.Hour).Unix()))), http.StatusUnauthorized},
			"not yet valid":  {bearer(key.Sign(t, "JWT", mine("nbf", now.Add(time.Hour).Unix()))), http.StatusUnauthorized},
			"wrong audience": {bearer(key.Sign(t, "JWT", mine("aud", "https://other.example/mcp"))), http.StatusUnauthorized},
			"other issuer":   {bearer(key.Sign(t, "JWT", mine("iss", "https://evil.example"))), http.StatusUnauthorized},
			"other key":      {bearer(foreign.Sign(t, "JWT", mine())), http.StatusUnauthorized},
			"wrong algorithm": {
				bearer(oidctest.Compact(t, jose.SigningKey{Algorithm: jose.HS256, Key: bytes.Repeat([]byte("x"), 32)}, &jose.SignerOptions{}, mustJSON(t, mine()))),
				http.StatusUnauthorized,
			},
			"none":       {bearer(oidctest.Unsigned(t, mine())), http.StatusUnauthorized},
			"two tokens": {http.Header{"Authorization": {"Bearer " + tokens[role], "Bearer " + tokens[role]}}, http.StatusUnauthorized},
			"right":      {bearer(key.Sign(t, "at+jwt", mine())), 0},
		}
		if role != "" {
			requests["right, static"] = struct {
				header http.Header
				status int
			}{bearer(tokens[role]), 0}
		}
		for name, request := range requests {
			for _, class := range policy.Classes() {
				t.Run(fmt.Sprintf("%s/%s/%s", role, class, name), func(t *testing.T) {
					t.Parallel()
					want := request.status
					switch {
					case want != 0:
					case role == "":
						want = http.StatusForbidden
					case slices.Contains(allowed()[role], class):
						want = http.StatusOK
					default:
						want = http.StatusNotAcceptable // through the door, and refused behind it
					}
					w := ask(t, door, "127.0.0.1:1234", "/"+string(class), request.header)
					if w.Code != want {
						t.Errorf("status %d, want %d: %s", w.Code, want, w.Body)
					}
					checkChallenge(t, w, name == "no token")
				})
			}
		}
	}
}

// checkChallenge checks that a refusal says what RFC 6750 and RFC 9728 want.
func checkChallenge(t *testing.T, w *httptest.ResponseRecorder, isEmpty bool) {
	t.Helper()
	const metadata = `, resource_metadata="https://reeve.example/.well-known/oauth-protected-resource/mcp"`
	want := map[int]string{
		http.StatusUnauthorized: `Bearer realm="tokenreeve", error="invalid_token"` + metadata,
		http.StatusForbidden:    `Bearer realm="tokenreeve", error="insufficient_scope"` + metadata,
	}[w.Code]
	if isEmpty {
		want = `Bearer realm="tokenreeve"` + metadata
	}
	if got := w.Header().Get("WWW-Authenticate"); got != want {
		t.Errorf("WWW-Authenticate: %s\nwant %s", got, want)
	}
}

func TestMiddlewareTellsWhoCalls(t *testing.T) {
	t.Parallel()
	token, digest := auth.NewToken()
	tokens := auth.NewTokens([]auth.Token{{Name: "ci", Digest: digest, Grant: auth.Grant{Role: auth.RoleViewer}}})
	door := auth.Middleware(tokens, auth.Options{})(http.HandlerFunc(use))
	if w := ask(t, door, "203.0.113.9:1234", "/read", bearer(token)); w.Body.String() != "token:ci static 203.0.113.9" {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	own, err := auth.NewBearer(strings.Repeat("0123456789abcdef", 2))
	if err != nil {
		t.Fatal(err)
	}
	door = auth.Middleware(own, auth.Options{})(http.HandlerFunc(use))
	if w := ask(t, door, "[::ffff:203.0.113.9]:1234", "/bulk", bearer(strings.Repeat("0123456789abcdef", 2))); w.Body.String() != "bearer bearer 203.0.113.9" {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

// An approver's browser can present the token as a password, where that is wanted.
func TestBasic(t *testing.T) {
	t.Parallel()
	token, digest := auth.NewToken()
	tokens := auth.NewTokens([]auth.Token{{Name: "ci", Digest: digest, Grant: auth.Grant{Role: auth.RoleViewer}}})
	basic := func(user, password string) http.Header {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
		r.SetBasicAuth(user, password)
		return r.Header
	}
	door := auth.Middleware(tokens, auth.Options{Basic: func(*http.Request) bool { return true }})(http.HandlerFunc(use))
	for name, tt := range map[string]struct {
		header http.Header
		status int
	}{
		"right":         {basic("anybody", token), http.StatusOK},
		"without user":  {basic("", token), http.StatusOK},
		"bearer":        {bearer(token), http.StatusOK},
		"as the user":   {basic(token, ""), http.StatusUnauthorized},
		"wrong":         {basic("ci", token+"0"), http.StatusUnauthorized},
		"with a space":  {basic("ci", token+" x"), http.StatusUnauthorized},
		"two":           {http.Header{"Authorization": {basic("", token).Get("Authorization"), "Bearer " + token}}, http.StatusUnauthorized},
		"nothing":       {nil, http.StatusUnauthorized},
		"no base64":     {http.Header{"Authorization": {"Basic " + token}}, http.StatusUnauthorized},
		"header inside": {basic("", "x\r\nX: y"), http.StatusUnauthorized},
	} {
		w := ask(t, door, "203.0.113.9:1", "/read", tt.header)
		if w.Code != tt.status || tt.status == http.StatusUnauthorized && !strings.HasPrefix(w.Header().Get("WWW-Authenticate"), "Basic ") {
			t.Errorf("%s: %d %v", name, w.Code, w.Header())
		}
	}
	plain := auth.Middleware(tokens, auth.Options{})(http.HandlerFunc(use))
	if w := ask(t, plain, "203.0.113.9:1", "/read", basic("", token)); w.Code != http.StatusUnauthorized || strings.Contains(fmt.Sprint(w.Header()), "Basic") {
		t.Errorf("a password where none is wanted: %d %v", w.Code, w.Header())
	}
}

// A refusal leaves word of itself, and nothing of what was presented.
func TestRefusalsAreLogged(t *testing.T) {
	t.Parallel()
	key := oidctest.NewKey(t, "one", jose.ES256)
	i, c := newIssuer(t, key), newClock()
	var log lines
	door := auth.Middleware(auth.First(auth.NewTokens(nil), mustOIDC(t, oidcOptions(i, c))),
		auth.Options{Log: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))})(http.HandlerFunc(use))
	expired := key.Sign(t, "JWT", i.claims(c.Now(), "exp", 1, "sub", "canary"))
	stranger := key.Sign(t, "JWT", i.claims(c.Now(), "groups", nil))
	for _, header := range []http.Header{nil, bearer("canary-canary"), bearer("canary canary"), {"Authorization": {"canary"}}, bearer(expired), bearer(stranger)} {
		ask(t, door, "203.0.113.9:1", "/read", header)
	}
	text := log.String()
	for _, want := range []string{"no token is presented", "it is no JWT", "it holds a space", "holds no bearer token", "it has expired", "address=203.0.113.9", "no role is mapped", ":alice"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in the log:\n%s", want, text)
		}
	}
	if strings.Contains(text, "canary") || strings.Contains(text, expired) || strings.Contains(text, stranger) {
		t.Errorf("the log holds what was presented:\n%s", text)
	}
}

// throttled is a door whose only token nobody presents, on a clock of its own.
func throttled(t *testing.T, o auth.Options) (http.Handler, string) {
	t.Helper()
	token, digest := auth.NewToken()
	tokens := auth.NewTokens([]auth.Token{{Name: "ci", Digest: digest, Grant: auth.Grant{Role: auth.RoleViewer}}})
	return auth.Middleware(tokens, o)(http.HandlerFunc(use)), token
}

func TestThrottle(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		door, token := throttled(t, auth.Options{})
		const from = "203.0.113.9:1234"
		want := func(status int, from string, header http.Header) *httptest.ResponseRecorder {
			t.Helper()
			w := ask(t, door, from, "/read", header)
			if w.Code != status {
				t.Fatalf("status %d, want %d", w.Code, status)
			}
			return w
		}
		for range 20 {
			want(http.StatusUnauthorized, from, nil) // no token, no failure
		}
		for range 10 {
			want(http.StatusOK, from, bearer(token))
			want(http.StatusUnauthorized, from, bearer("wrong"))
			time.Sleep(time.Second)
		}
		w := want(http.StatusTooManyRequests, from, bearer("wrong"))
		if got := w.Header().Get("Retry-After"); got != "50" {
			t.Errorf("Retry-After %s", got)
		}
		want(http.StatusTooManyRequests, "203.0.113.9:99", bearer(token)) // another port, and a right token
		want(http.StatusOK, "203.0.113.10:1234", bearer(token))

		// What was refused unread does not prolong it.
		time.Sleep(49*time.Second + time.Millisecond)
		if w := want(http.StatusTooManyRequests, from, bearer("wrong")); w.Header().Get("Retry-After") != "1" {
			t.Errorf("Retry-After %s", w.Header().Get("Retry-After"))
		}
		time.Sleep(time.Second)
		want(http.StatusOK, from, bearer(token))
		want(http.StatusUnauthorized, from, bearer("wrong"))
		want(http.StatusTooManyRequests, from, bearer(token))
		time.Sleep(time.Minute)
		want(http.StatusOK, from, bearer(token))
	})
}

func TestThrottleIsShared(t *testing.T) {
	t.Parallel()
	tokens := auth.NewTokens(nil)
	middleware := auth.Middleware(tokens, auth.Options{})
	one, other := middleware(http.HandlerFunc(use)), middleware(http.HandlerFunc(use))
	for range 5 {
		ask(t, one, "203.0.113.9:1", "/read", bearer("wrong"))
		ask(t, other, "203.0.113.9:1", "/read", bearer("wrong"))
	}
	if w := ask(t, one, "203.0.113.9:1", "/read", bearer("wrong")); w.Code != http.StatusTooManyRequests {
		t.Errorf("status %d", w.Code)
	}
}

// An attack from ever new addresses neither fills the memory nor opens the door.
func TestThrottleForgets(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		door, token := throttled(t, auth.Options{})
		fail := func(from string, times int) {
			for range times {
				ask(t, door, from, "/read", bearer("wrong"))
			}
		}
		early := func(n int) string { return fmt.Sprintf("203.0.113.%d:1", n) }
		for n := range 50 {
			fail(early(n), 10)
		}
		for n := range 40_000 {
			fail(fmt.Sprintf("10.0.%d.%d:1", n>>8, n&255), 1)
		}
		refused := 0
		for n := range 50 {
			if ask(t, door, early(n), "/read", bearer(token)).Code == http.StatusTooManyRequests {
				refused++
			}
		}
		if refused == 50 { // each of them had 30,000 chances of 1 in 10,000 to be forgotten
			t.Error("nothing was forgotten: the memory is not bounded")
		}
		time.Sleep(time.Minute) // now all of it is over, and there is room
		fail("203.0.113.200:1", 10)
		if w := ask(t, door, "203.0.113.200:1", "/read", bearer(token)); w.Code != http.StatusTooManyRequests {
			t.Errorf("status %d", w.Code)
		}
	})
}

func TestAddresses(t *testing.T) {
	t.Parallel()
	proxies, err := auth.ParseProxies([]string{"127.0.0.1", "10.0.0.0/8", "2001:db8::/32"})
	if err != nil {
		t.Fatal(err)
	}
	behind := auth.Options{BehindProxy: true}
	trusting := auth.Options{BehindProxy: true, TrustedProxies: proxies}
	forwarded := func(values ...string) http.Header { return http.Header{"X-Forwarded-For": values} }
	tests := map[string]struct {
		options   auth.Options
		from      string
		header    http.Header
		address   string
		throttles bool
	}{
		"direct":                        {auth.Options{}, "203.0.113.9:1", nil, "203.0.113.9", true},
		"direct, claims another":        {auth.Options{}, "203.0.113.9:1", forwarded("198.51.100.7"), "203.0.113.9", true},
		"loopback":                      {auth.Options{}, "127.0.0.1:1", nil, "127.0.0.1", false},
		"IPv6 loopback":                 {auth.Options{}, "[::1]:1", nil, "::1", false},
		"loopback, claims another":      {auth.Options{}, "127.0.0.1:1", forwarded("198.51.100.7"), "127.0.0.1", false},
		"mapped":                        {auth.Options{}, "[::ffff:203.0.113.9]:1", nil, "203.0.113.9", true},
		"zone":                          {auth.Options{}, "[fe80::1%eth0]:1", nil, "fe80::1", true},
		"no address":                    {auth.Options{}, "@", nil, "", false},
		"some proxy":                    {behind, "192.0.2.1:1", forwarded("198.51.100.7"), "192.0.2.1", false},
		"trusted":                       {trusting, "10.1.2.3:1", forwarded("198.51.100.7"), "198.51.100.7", true},
		"trusted, by loopback":          {trusting, "127.0.0.1:1", forwarded("198.51.100.7"), "198.51.100.7", true},
		"trusted, mapped":               {trusting, "[::ffff:10.1.2.3]:1", forwarded("198.51.100.7"), "198.51.100.7", true},
		"not trusted":                   {trusting, "203.0.113.9:1", forwarded("198.51.100.7"), "203.0.113.9", true},
		"two proxies":                   {trusting, "10.1.2.3:1", forwarded("198.51.100.7, 10.9.9.9"), "198.51.100.7", true},
		"two headers":                   {trusting, "10.1.2.3:1", forwarded("198.51.100.7", "10.9.9.9"), "198.51.100.7", true},
		"invented beginning":            {trusting, "10.1.2.3:1", forwarded("127.0.0.1, 192.0.2.9, 198.51.100.7"), "198.51.100.7", true},
		"invented, then two":            {trusting, "10.1.2.3:1", forwarded("10.0.0.1,198.51.100.7,10.9.9.9"), "198.51.100.7", true},
		"with a port":                   {trusting, "10.1.2.3:1", forwarded("198.51.100.7:5555"), "198.51.100.7", true},
		"IPv6":                          {trusting, "10.1.2.3:1", forwarded("2001:db9::7"), "2001:db9::7", true},
		"IPv6 with a port":              {trusting, "[2001:db8::1]:1", forwarded("[2001:db9::7]:5555"), "2001:db9::7", true},
		"trusted, says nothing":         {trusting, "10.1.2.3:1", nil, "10.1.2.3", false},
		"trusted, says nonsense":        {trusting, "10.1.2.3:1", forwarded("198.51.100.7, unknown"), "10.1.2.3", false},
		"trusted, says another trusted": {trusting, "10.1.2.3:1", forwarded("10.9.9.9"), "10.9.9.9", false},
		"trusted, on the same machine":  {trusting, "10.1.2.3:1", forwarded("::1"), "::1", false},
		"far too many":                  {trusting, "10.1.2.3:1", forwarded("198.51.100.7" + strings.Repeat(",10.9.9.9", 40)), "10.9.9.9", false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			door, token := throttled(t, tt.options)
			header := bearer(token)
			wrong := bearer("wrong")
			for _, h := range []http.Header{header, wrong} {
				h["X-Forwarded-For"] = tt.header["X-Forwarded-For"]
			}
			if w := ask(t, door, tt.from, "/read", header); w.Body.String() != "token:ci static "+tt.address {
				t.Errorf("%d %s, want %s", w.Code, w.Body, tt.address)
			}
			for range 10 {
				ask(t, door, tt.from, "/read", wrong)
			}
			if w := ask(t, door, tt.from, "/read", wrong); (w.Code == http.StatusTooManyRequests) != tt.throttles {
				t.Errorf("the 11th failure is answered with %d", w.Code)
			}
		})
	}
}

// Who has an IPv6 network has all its addresses.
func TestThrottleOfIPv6(t *testing.T) {
	t.Parallel()
	door, _ := throttled(t, auth.Options{})
	for n := range 10 {
		ask(t, door, fmt.Sprintf("[2001:db8:1:2::%d]:1", n), "/read", bearer("wrong"))
	}
	if w := ask(t, door, "[2001:db8:1:2:ffff::1]:1", "/read", bearer("wrong")); w.Code != http.StatusTooManyRequests {
		t.Errorf("the same network: %d", w.Code)
	}
	if w := ask(t, door, "[2001:db8:1:3::1]:1", "/read", bearer("wrong")); w.Code != http.StatusUnauthorized {
		t.Errorf("another network: %d", w.Code)
	}
}

func TestParseProxies(t *testing.T) {
	t.Parallel()
	got, err := auth.ParseProxies([]string{"192.0.2.1", "10.1.2.3/8", "::1", "2001:db8::/32", "::ffff:192.0.2.2"})
	want := []netip.Prefix{
		netip.MustParsePrefix("192.0.2.1/32"), netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("::1/128"),
		netip.MustParsePrefix("2001:db8::/32"), netip.MustParsePrefix("192.0.2.2/32"),
	}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%v, %v", got, err)
	}
	for _, word := range []string{"", "proxy.example", "10.0.0.0/33", "0.0.0.0/0", "::/0", "10.0.0.1:80", "::ffff:10.0.0.0/104"} {
		if got, err := auth.ParseProxies([]string{"192.0.2.1", word}); err == nil {
			t.Errorf("%q is %v", word, got)
		}
	}
}

// A caller whose token cannot be judged is told to come again, and that is no failure of theirs.
func TestUnavailable(t *testing.T) {
	t.Parallel()
	key := oidctest.NewKey(t, "one", jose.ES256)
	i, c := newIssuer(t, key), newClock()
	i.be(func() { i.status = http.StatusServiceUnavailable })
	token, digest := auth.NewToken()
	static := auth.NewTokens([]auth.Token{{Name: "ci", Digest: digest, Grant: auth.Grant{Role: auth.RoleViewer}}})
	door := auth.Middleware(auth.First(static, mustOIDC(t, oidcOptions(i, c))), auth.Options{})(http.HandlerFunc(use))
	for range 12 {
		w := ask(t, door, "203.0.113.9:1", "/read", bearer(key.Sign(t, "JWT", i.claims(c.Now()))))
		if w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") != "5" {
			t.Fatalf("status %d", w.Code)
		}
	}
	if w := ask(t, door, "203.0.113.9:1", "/read", bearer(token)); w.Code != http.StatusOK {
		t.Errorf("a static token: %d", w.Code)
	}
}

func TestResource(t *testing.T) {
	t.Parallel()
	tests := []struct {
		url, metadata string
		paths         []string
	}{
		{"https://reeve.example/mcp", "https://reeve.example/.well-known/oauth-protected-resource/mcp", []string{"/.well-known/oauth-protected-resource", "/.well-known/oauth-protected-resource/mcp"}},
		{"https://reeve.example", "https://reeve.example/.well-known/oauth-protected-resource", []string{"/.well-known/oauth-protected-resource"}},
		{"https://reeve.example:8443/", "https://reeve.example:8443/.well-known/oauth-protected-resource", []string{"/.well-known/oauth-protected-resource"}},
		{"https://acme.example/a/b", "https://acme.example/.well-known/oauth-protected-resource/a/b", []string{"/.well-known/oauth-protected-resource", "/.well-known/oauth-protected-resource/a/b"}},
	}
	for _, tt := range tests {
		resource := auth.Resource{URL: tt.url, Issuer: "https://idp.example", Scopes: []string{"openid", "tokens"}}
		if resource.MetadataURL() != tt.metadata || !slices.Equal(resource.MetadataPaths(), tt.paths) {
			t.Errorf("%s: %s %v", tt.url, resource.MetadataURL(), resource.MetadataPaths())
		}
		w := httptest.NewRecorder()
		resource.Metadata().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, tt.paths[0], nil))
		want := `{"resource":"` + tt.url + `","authorization_servers":["https://idp.example"],"scopes_supported":["openid","tokens"],` +
			`"bearer_methods_supported":["header"],"resource_name":"tokenreeve"}` + "\n"
		if w.Code != http.StatusOK || w.Body.String() != want || w.Header().Get("Content-Type") != "application/json" {
			t.Errorf("%d %s", w.Code, w.Body)
		}
	}
	w := httptest.NewRecorder()
	auth.Resource{URL: audience}.Metadata().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", nil))
	if w.Code != http.StatusMethodNotAllowed || w.Header().Get("Allow") != "GET, HEAD" {
		t.Errorf("POST: %d", w.Code)
	}
	door := auth.Middleware(auth.NewTokens(nil), auth.Options{Resource: auth.Resource{URL: audience, Scopes: []string{"openid", "tokens"}}})
	if got := ask(t, door(http.HandlerFunc(use)), "203.0.113.9:1", "/", nil).Header().Get("WWW-Authenticate"); !strings.Contains(got, `scope="openid tokens"`) {
		t.Errorf("WWW-Authenticate: %s", got)
	}
}
