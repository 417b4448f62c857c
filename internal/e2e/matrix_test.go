package e2e_test

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	gocmp "github.com/google/go-cmp/cmp"

	"github.com/tokenreeve/tokenreeve/auth"
	"github.com/tokenreeve/tokenreeve/internal/oidctest"
	"github.com/tokenreeve/tokenreeve/internal/policy"
	"github.com/tokenreeve/tokenreeve/internal/rawmcp"
	"github.com/tokenreeve/tokenreeve/internal/server"
	"github.com/tokenreeve/tokenreeve/tools"
)

// The matrix asks the built binary for every route and every tool as every caller, with every kind of
// token, by every way. What is right stands in the four tables below, and nowhere else; a route, a
// tool, a class, a role or a way to authenticate without a place in them fails the test.

// classes says which roles may use the tools of a class.
func classes() map[policy.Class][]auth.Role {
	changers := []auth.Role{auth.RoleOperator, auth.RoleAdmin}
	return map[policy.Class][]auth.Role{
		policy.Read:   {auth.RoleViewer, auth.RoleOperator, auth.RoleAdmin},
		policy.Mint:   changers,
		policy.Update: changers,
		policy.Rotate: changers,
		policy.Revoke: changers,
		policy.Bulk:   {auth.RoleAdmin},
	}
}

// place is a route's place in the matrix.
type place struct {
	open    bool        // to everybody, with any token or none
	roles   []auth.Role // that are let through
	on      string      // the connection where they count; empty: it is not about one
	basic   bool        // the token counts as the password of HTTP Basic, too
	body    string      // that is sent, as JSON
	want    int         // the status for whom is let through
	refused int         // the status for other roles; 0: 403
}

// places says who may use a route.
func places() map[string]place {
	all := auth.Roles()
	const message = `{"jsonrpc":"2.0","id":1,"method":"ping"}`
	approvers := []auth.Role{auth.RoleApprover}
	return map[string]place{
		"GET /healthz":  {open: true, want: http.StatusOK},
		"GET /readyz":   {open: true, want: http.StatusOK},
		"GET /metrics":  {roles: []auth.Role{auth.RoleViewer, auth.RoleOperator, auth.RoleAdmin}, want: http.StatusOK},
		"GET /sse":      {roles: all, want: http.StatusOK},
		"POST /message": {roles: all, body: message, want: http.StatusBadRequest}, // it names no session
		"POST /mcp":     {roles: all, body: message, want: http.StatusBadRequest},
		"GET /mcp":      {roles: all, want: http.StatusBadRequest},
		"DELETE /mcp":   {roles: all, want: http.StatusBadRequest},
		"GET /.well-known/oauth-protected-resource": {open: true, want: http.StatusOK},
		// A preview of somebody else's on the connection mt; who may not approve it does not learn of it.
		"GET /approve/{id}":  {roles: approvers, on: "mt", basic: true, want: http.StatusOK, refused: http.StatusNotFound},
		"POST /approve/{id}": {roles: approvers, on: "mt", basic: true, body: `{"decision":"approve","phrase":"wrong"}`, want: http.StatusUnprocessableEntity, refused: http.StatusNotFound},
	}
}

// usage is a tool's place in the matrix.
type usage struct {
	class     policy.Class
	orClass   policy.Class // another that is enough
	vendor    string       // whose connections it is asked to work on; empty: it names none
	anybody   bool         // who reads nothing anywhere may use it all the same
	arguments map[string]any
	want      string // the error's code for whom may use it; empty: it succeeds
}

// uses says how a tool is called so that it changes nothing, whoever calls.
func uses(v *vendors) map[string]usage {
	const nobodys, nobodysLD = "999999999", "999999999999999999999999" // ids of no token
	operation := map[string]any{"operation_id": "op_000000000000"}
	return map[string]usage{
		"list_connections":          {class: policy.Read, anybody: true},
		"list_tokens":               {class: policy.Read, vendor: "mt", arguments: map[string]any{"limit": 1}},
		"count_tokens":              {class: policy.Read, vendor: "mt"},
		"get_token":                 {class: policy.Read, vendor: "mt", arguments: map[string]any{"token_id": v.mailtrapIDs(1)[0]}},
		"create_launchdarkly_token": {class: policy.Mint, vendor: "ld", arguments: map[string]any{"name": "x", "role": "reader", "deliver_to": "nowhere/x"}, want: "unknown_sink"},
		"create_mailtrap_token":     {class: policy.Mint, vendor: "mt", arguments: map[string]any{"name": "x"}},
		"update_launchdarkly_token": {class: policy.Update, vendor: "ld", arguments: map[string]any{"token_id": nobodysLD, "name": "x"}, want: "not_found"},
		"rotate_token":              {class: policy.Rotate, vendor: "mt", arguments: map[string]any{"token_id": nobodys}, want: "not_found"},
		"revoke_token":              {class: policy.Revoke, vendor: "mt", arguments: map[string]any{"token_id": nobodys}, want: "not_found"},
		"bulk_revoke_tokens":        {class: policy.Bulk, vendor: "mt", arguments: map[string]any{"token_ids": []string{nobodys}, "reason": "x"}},
		"deliver_secret":            {class: policy.Mint, orClass: policy.Rotate, arguments: operation, want: "unknown_operation"},
		"list_operations":           {class: policy.Read},
		"get_operation":             {class: policy.Read, arguments: operation, want: "unknown_operation"},
	}
}

// kind is a kind of token. A nil function: this way to authenticate does not know it.
type kind struct {
	name         string
	static, oidc func(*testing.T, *caller) string
	// present puts it into a request; nil: as a bearer token.
	present func(r *http.Request, token string)
	right   bool // it lets in
	basic   bool // it lets in where HTTP Basic counts
}

// kinds says which tokens let in.
func kinds() []kind {
	static := func(_ *testing.T, c *caller) string { return c.static }
	oidc := func(_ *testing.T, c *caller) string { return c.oidc }
	forged := func(change func(t *testing.T, c *caller, claims map[string]any) string) func(*testing.T, *caller) string {
		return func(t *testing.T, c *caller) string {
			t.Helper()
			return change(t, c, oidctest.Claims(t, c.oidc))
		}
	}
	past, future := time.Now().Add(-time.Hour).Unix(), time.Now().Add(time.Hour).Unix()
	with := func(name string, value any) func(*testing.T, *caller) string {
		return forged(func(t *testing.T, c *caller, claims map[string]any) string {
			t.Helper()
			claims[name] = value
			return c.key.Sign(t, "JWT", claims)
		})
	}
	none := func(*http.Request, string) {}
	return []kind{
		{name: "no token", static: static, oidc: oidc, present: none},
		{
			name:   "wrong",
			static: func(*testing.T, *caller) string { return callerToken("nobody") },
			oidc: forged(func(t *testing.T, c *caller, claims map[string]any) string {
				t.Helper()
				return oidctest.Key{ID: c.key.ID, Algorithm: jose.ES256, Private: c.foreign.Private}.Sign(t, "JWT", claims)
			}),
		},
		{name: "expired", oidc: with("exp", past)},
		{name: "not yet valid", oidc: with("nbf", future)},
		{name: "wrong audience", oidc: func(t *testing.T, c *caller) string { t.Helper(); return c.forOthers }},
		{name: "wrong issuer", oidc: with("iss", "https://idp.example")},
		{name: "wrong algorithm, HS256 with the public key", oidc: forged(func(t *testing.T, c *caller, claims map[string]any) string {
			t.Helper()
			return c.key.SignSymmetric(t, claims)
		})},
		{name: "wrong algorithm, RS512 with the issuer's key", oidc: forged(func(t *testing.T, c *caller, claims map[string]any) string {
			t.Helper()
			return oidctest.Key{ID: c.key.ID, Algorithm: jose.RS512, Private: c.key.Private}.Sign(t, "JWT", claims)
		})},
		{name: "algorithm none", oidc: forged(func(t *testing.T, _ *caller, claims map[string]any) string {
			t.Helper()
			return oidctest.Unsigned(t, claims)
		})},
		{name: "in the URL", static: static, oidc: oidc, present: func(r *http.Request, token string) {
			r.URL.RawQuery = strings.TrimPrefix(r.URL.RawQuery+"&access_token="+url.QueryEscape(token), "&")
		}},
		{name: "twice", static: static, oidc: oidc, present: func(r *http.Request, token string) {
			r.Header["Authorization"] = []string{"Bearer " + token, "Bearer " + token}
		}},
		{name: "as a password", static: static, oidc: oidc, basic: true, present: func(r *http.Request, token string) { r.SetBasicAuth("x", token) }},
		{name: "right", static: static, oidc: oidc, right: true},
	}
}

// caller is a principal with a role, and what tokens for it are made of.
type caller struct {
	name   string
	role   auth.Role // "": none is mapped
	narrow auth.Role // what it is narrowed to
	widely bool      // on all connections, else on those that end in -narrow

	static, oidc, forOthers string // tokens; empty: there is none
	key, foreign            oidctest.Key
}

// callers are all roles, none, and each role narrowed to each lesser one on some connections, and on all.
func callers() []*caller {
	list := []*caller{{name: "unmapped"}}
	for _, role := range auth.Roles() {
		list = append(list, &caller{name: string(role), role: role, narrow: role})
		for _, narrower := range role.Narrower() {
			if narrower != role {
				list = append(list,
					&caller{name: fmt.Sprintf("%s-partly-%s", role, narrower), role: role, narrow: narrower},
					&caller{name: fmt.Sprintf("%s-wholly-%s", role, narrower), role: role, narrow: narrower, widely: true})
			}
		}
	}
	return list
}

func (c *caller) connections() map[string]auth.Role {
	switch {
	case c.narrow == c.role:
		return nil
	case c.widely:
		return map[string]auth.Role{auth.AllOthers: c.narrow}
	default:
		return map[string]auth.Role{"ld-narrow": c.narrow, "mt-narrow": c.narrow}
	}
}

// on returns the role that counts on a connection.
func (c *caller) on(connection string) auth.Role {
	if c.widely || strings.HasSuffix(connection, "-narrow") {
		return c.narrow
	}
	return c.role
}

// may says whether the caller may use a tool on the connection; "" is any.
func (c *caller) may(u usage, connection string) bool {
	allows := func(role auth.Role) bool {
		return slices.Contains(classes()[u.class], role) || u.orClass != "" && slices.Contains(classes()[u.orClass], role)
	}
	switch {
	case !allows(c.role):
		return false
	case u.anybody:
		return true
	case connection == "":
		return allows(c.on("wide")) || allows(c.on("x-narrow"))
	default:
		return allows(c.on(connection))
	}
}

// wantCode is the error's code of a call; "" is success.
func (c *caller) wantCode(u usage, connection string) string {
	reads := usage{class: policy.Read}
	switch {
	case c.may(u, connection):
		return u.want
	case c.may(u, "") && !c.may(reads, connection):
		return "unknown_connection" // it may not even know of it
	default:
		return "role_refused"
	}
}

// matrix is a running server with its callers.
type matrix struct {
	*listening
	vendors *vendors
	callers []*caller
	places  map[string]place
	asker   *caller // has made the preview
	preview string
	sent    int // requests to vendors that this took
}

const matrixAudience = "https://reeve.example"

// startMatrix starts a server whose configuration names the callers.
func startMatrix(t *testing.T) *matrix {
	t.Helper()
	m := &matrix{vendors: newVendors(t), callers: callers(), places: places()}
	key, foreign := oidctest.NewKey(t, "one", jose.RS256), oidctest.NewKey(t, "two", jose.ES256)
	provider := oidctest.StartProvider(t, key)
	var static []map[string]any
	mapped := map[string]any{}
	for _, c := range m.callers {
		c.key, c.foreign = key, foreign
		c.oidc = provider.Token(t, c.name, matrixAudience, c.name)
		c.forOthers = provider.Token(t, c.name, "https://other.example", c.name)
		if c.role == "" {
			continue // a token of the configuration always has a role
		}
		c.static = callerToken(c.name)
		entry := map[string]any{"role": c.role}
		if narrowed := c.connections(); narrowed != nil {
			entry["connections"] = narrowed
		}
		mapped[c.name] = maps.Clone(entry)
		entry["name"], entry["sha256"] = c.name, digestOf(c.static)
		static = append(static, entry)
	}
	m.serve(t, callerToken("ignored"), map[string]any{"auth": map[string]any{"tokens": static, "oidc": map[string]any{
		"issuer": provider.Issuer, "audience": matrixAudience, "role_claim": []string{"realm_access", "roles"}, "roles": mapped,
	}}})
	return m
}

// startOneToken starts a server without configured callers: who has its one token is an admin.
func startOneToken(t *testing.T) *matrix {
	t.Helper()
	c := &caller{name: "bearer", role: auth.RoleAdmin, narrow: auth.RoleAdmin, static: callerToken("bearer")}
	m := &matrix{vendors: newVendors(t), callers: []*caller{c}, places: places()}
	maps.DeleteFunc(m.places, func(name string, _ place) bool { return strings.Contains(name, "/.well-known/") })
	m.serve(t, c.static, map[string]any{})
	return m
}

// serve starts the binary with two connections to each vendor.
func (m *matrix) serve(t *testing.T, token string, settings map[string]any) {
	t.Helper()
	v := m.vendors
	connections := map[string]any{}
	for _, suffix := range []string{"", "-narrow"} {
		connections["ld"+suffix] = map[string]any{
			"provider": "launchdarkly", "base_url": v.access.LaunchDarkly.BaseURL, "credential": v.credentialFile(t, "ld", v.access.LaunchDarkly.Credential),
		}
		connections["mt"+suffix] = map[string]any{
			"provider": "mailtrap", "base_url": v.access.Mailtrap.BaseURL, "account_id": v.access.Mailtrap.AccountID,
			"credential": v.credentialFile(t, "mt", v.access.Mailtrap.Credential),
		}
	}
	settings["connections"] = connections
	m.listening = listens(t, append(v.bareEnv(), "TOKENREEVE_BEARER_TOKEN="+token),
		"serve", "--listen", "127.0.0.1:0", "--config", v.config(t, settings), "--max-sessions", "10000")
	m.http = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 100}}
	t.Cleanup(m.http.CloseIdleConnections)
	m.asker = m.callers[slices.IndexFunc(m.callers, func(c *caller) bool { return c.role == auth.RoleAdmin && c.narrow == c.role })]
	line, err := rawmcp.Caller{URL: m.url, HTTP: m.http, Present: bearerOf(m.asker.static)}.Open(t.Context(), rawmcp.Sessionless)
	if err != nil {
		t.Fatal(err)
	}
	result, err := line.Call(t.Context(), "revoke_token", map[string]any{"connection": "mt", "token_id": v.mailtrapIDs(1)[0]})
	if err != nil {
		t.Fatal(err)
	}
	var shown struct {
		ID string `json:"preview_id"`
	}
	if err := json.Unmarshal(result.Structured, &shown); err != nil || shown.ID == "" {
		t.Fatalf("no preview: %v, %v", result.Content, err)
	}
	m.preview, m.sent = shown.ID, len(v.Requests())
}

// TestMatrixIsWhole checks that everything there is has its place in the matrix, and nothing else.
func TestMatrixIsWhole(t *testing.T) {
	t.Parallel()
	sorted := func(list []string) []string { slices.Sort(list); return list }
	var routes, names, all []string
	for _, route := range server.Routes() {
		routes = append(routes, route.Method+" "+route.Path)
		if places()[route.Method+" "+route.Path].open != route.IsOpen {
			t.Errorf("%s %s: open is %v", route.Method, route.Path, route.IsOpen)
		}
	}
	for _, path := range (auth.Resource{URL: matrixAudience}).MetadataPaths() {
		routes = append(routes, "GET "+path)
	}
	for _, tool := range tools.All() {
		names = append(names, tool.Name)
		if u := uses(newVendors(t))[tool.Name]; u.class != tool.Class || u.orClass != tool.OrClass {
			t.Errorf("%s: class %q or %q", tool.Name, tool.Class, tool.OrClass)
		}
	}
	for _, class := range policy.Classes() {
		all = append(all, string(class))
	}
	var placed []string
	for class := range classes() {
		placed = append(placed, string(class))
	}
	for what, diff := range map[string]string{
		"routes":  gocmp.Diff(sorted(routes), slices.Sorted(maps.Keys(places()))),
		"tools":   gocmp.Diff(sorted(names), slices.Sorted(maps.Keys(uses(newVendors(t))))),
		"classes": gocmp.Diff(sorted(all), sorted(placed)),
	} {
		if diff != "" {
			t.Errorf("%s (-there are +have a place in the matrix):\n%s", what, diff)
		}
	}
	placedRoles := slices.Concat(slices.Collect(maps.Values(classes()))...)
	for _, p := range places() {
		if len(p.roles) < len(auth.Roles()) { // that every role may pass says nothing of any
			placedRoles = append(placedRoles, p.roles...)
		}
	}
	for _, role := range auth.Roles() {
		if !slices.Contains(placedRoles, role) {
			t.Errorf("the role %q has no place in the matrix", role)
		}
	}
	for _, role := range placedRoles {
		if !slices.Contains(auth.Roles(), role) {
			t.Errorf("%q is no role", role)
		}
	}
	right := 0
	for _, k := range kinds() {
		if k.right && k.static != nil && k.oidc != nil {
			right++
		}
	}
	if right != 1 {
		t.Errorf("%d kinds of tokens are right", right)
	}
}

func TestMatrix(t *testing.T) {
	t.Parallel()
	for name, start := range map[string]func(*testing.T) *matrix{"configured callers": startMatrix, "one token": startOneToken} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := start(t)
			t.Run("routes", func(t *testing.T) { m.eachCaller(t, m.routes) })
			m.nothingSent(t)
			t.Run("tools with a wrong token", m.wrongTools)
			m.nothingSent(t)
			t.Run("tools with a right token", func(t *testing.T) { m.eachCaller(t, m.rightCalls) })
			for _, method := range []string{"POST", "PUT", "PATCH", "DELETE"} {
				if n := m.vendors.sent(method); n != 0 {
					t.Errorf("%d requests %s were sent to vendors", n, method)
				}
			}
		})
	}
}

// wrongTools calls with wrong tokens in the session of somebody who may do everything, who must not
// hear of it.
func (m *matrix) wrongTools(t *testing.T) {
	owner := m.open(t, m.asker.static, rawmcp.Ways())
	t.Run("by", func(t *testing.T) {
		m.eachCaller(t, func(t *testing.T, c *caller) { m.wrongCalls(t, c, owner) })
	})
	for way, line := range owner {
		if n := line.Strays(); n != 0 {
			t.Errorf("%s: %d answers to nobody's calls", way, n)
		}
	}
}

// nothingSent checks that no vendor has heard of the calls so far.
func (m *matrix) nothingSent(t *testing.T) {
	t.Helper()
	if n := len(m.vendors.Requests()) - m.sent; n != 0 {
		t.Errorf("%d requests were sent to vendors", n)
	}
}

func (m *matrix) eachCaller(t *testing.T, check func(*testing.T, *caller)) {
	for _, c := range m.callers {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			check(t, c)
		})
	}
}

// presentation is one way in which a caller presents itself.
type presentation struct {
	kind
	method  string // of authentication
	name    string
	present func(*http.Request)
}

// presentations are all kinds of tokens, for each way to authenticate that knows them.
func (c *caller) presentations(t *testing.T) []presentation {
	t.Helper()
	var all []presentation
	for _, k := range kinds() {
		for method, token := range map[string]func(*testing.T, *caller) string{auth.MethodStatic: k.static, auth.MethodOIDC: k.oidc} {
			if token == nil || method == auth.MethodStatic && c.static == "" || method == auth.MethodOIDC && c.oidc == "" {
				continue
			}
			all = append(all, presentation{k, method, method + ", " + k.name, k.presenting(token(t, c))})
		}
	}
	return all
}

func (k kind) presenting(token string) func(*http.Request) {
	if k.present != nil {
		return func(r *http.Request) { k.present(r, token) }
	}
	return bearerOf(token)
}

// door returns the status of the refusal at the door; 0: who presents this is let in.
func (p *presentation) door(c *caller, basic bool) int {
	switch {
	case !p.right && !(p.basic && basic):
		return http.StatusUnauthorized
	case c.role == "":
		return http.StatusForbidden
	default:
		return 0
	}
}

// routes asks for every route with every token, and with every method that is none of the route's.
func (m *matrix) routes(t *testing.T, c *caller) {
	for _, p := range c.presentations(t) {
		for name, place := range m.places {
			method, path, _ := strings.Cut(name, " ")
			want := p.door(c, place.basic)
			switch {
			case place.open:
				want = place.want
			case want != 0:
			case slices.Contains(place.roles, c.role) && (place.on == "" || slices.Contains(place.roles, c.on(place.on))):
				want = place.want
			case c == m.asker && place.on != "" && p.method != auth.MethodOIDC:
				want = http.StatusForbidden // nobody approves their own
			default:
				want = cmp.Or(place.refused, http.StatusForbidden)
			}
			got, header := m.ask(t, method, path, place, p.present)
			if got != want {
				t.Errorf("%s, %s: status %d, want %d", p.name, name, got, want)
			}
			isOwn := got == http.StatusForbidden && c == m.asker && place.on != "" // no other role would help
			hint := strings.Join(header.Values("WWW-Authenticate"), ", ")
			challenged := got == http.StatusUnauthorized || got == http.StatusForbidden && !isOwn
			if strings.Contains(hint, "Bearer ") != challenged || strings.Contains(hint, `error="insufficient_scope"`) != (challenged && got == http.StatusForbidden) {
				t.Errorf("%s, %s: status %d, WWW-Authenticate %q", p.name, name, got, hint)
			}
			if knows := strings.Contains(hint, "resource_metadata="); knows != (challenged && m.hasProvider()) {
				t.Errorf("%s, %s: status %d, that the metadata is named is %v", p.name, name, got, knows)
			}
		}
	}
	m.otherMethods(t, c)
}

// hasProvider says whether some callers have access tokens.
func (m *matrix) hasProvider() bool {
	return slices.ContainsFunc(m.callers, func(c *caller) bool { return c.oidc != "" })
}

// otherMethods checks that nothing is behind a path but its routes.
func (m *matrix) otherMethods(t *testing.T, c *caller) {
	t.Helper()
	present := bearerOf(cmp.Or(c.static, c.oidc))
	for name := range m.places {
		_, path, _ := strings.Cut(name, " ")
		for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "QUERY"} {
			_, isRoute := m.places[method+" "+path]
			if isRoute || method == "HEAD" && m.places["GET "+path].open {
				continue
			}
			if got, _ := m.ask(t, method, path, m.places[name], present); got < 400 || got >= 500 {
				t.Errorf("%s %s: status %d", method, path, got)
			}
		}
	}
}

// ask sends a request and returns the status; of what is streamed it reads nothing.
func (m *matrix) ask(t *testing.T, method, path string, p place, present func(*http.Request)) (int, http.Header) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	path = strings.Replace(path, "{id}", m.preview, 1)
	var body io.Reader
	if p.body != "" {
		body = strings.NewReader(p.body)
	}
	r, err := http.NewRequestWithContext(ctx, method, m.url+path, body)
	if err != nil {
		t.Fatal(err)
	}
	if p.body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	present(r)
	response, err := m.http.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	if response.ContentLength >= 0 {
		_, _ = io.Copy(io.Discard, response.Body) // the connection serves on
	}
	_ = response.Body.Close()
	return response.StatusCode, response.Header
}

// open opens a line of each of the ways with a right token.
func (m *matrix) open(t *testing.T, token string, ways []rawmcp.Way) map[rawmcp.Way]*rawmcp.Line {
	t.Helper()
	lines := map[rawmcp.Way]*rawmcp.Line{}
	for _, way := range ways {
		line, err := rawmcp.Caller{URL: m.url, HTTP: m.http, Present: bearerOf(token)}.Open(t.Context(), way)
		if err != nil {
			t.Fatalf("%s: %v", way, err)
		}
		t.Cleanup(line.Close)
		lines[way] = line
	}
	return lines
}

// wrongCalls lists and calls every tool by every way with every token that does not let in, in the
// session of somebody who may do everything.
func (m *matrix) wrongCalls(t *testing.T, c *caller, owner map[rawmcp.Way]*rawmcp.Line) {
	if c.narrow != c.role && (c.widely || c.narrow != auth.RoleViewer) {
		return // to the door it is all the same what a caller is narrowed to
	}
	for _, p := range c.presentations(t) {
		want := p.door(c, false)
		if want == 0 {
			continue
		}
		for way, line := range owner {
			wrong := line.As(p.present)
			refused := func(what string, err error) {
				t.Helper()
				var refusal *rawmcp.StatusError
				if !errors.As(err, &refusal) || refusal.Status != want {
					t.Errorf("%s, %s, %s: %v, want status %d", p.name, way, what, err, want)
				}
			}
			_, err := wrong.Tools(t.Context())
			refused("tools/list", err)
			for name, u := range uses(m.vendors) {
				_, err := wrong.Call(t.Context(), name, u.with(u.vendor))
				refused(name, err)
			}
		}
	}
}

// rightCalls lists and calls every tool by every way, on connections where the caller is narrowed and
// where not.
func (m *matrix) rightCalls(t *testing.T, c *caller) {
	if c.role == "" {
		return // refused at the door
	}
	tokens, ways := map[string]string{auth.MethodStatic: c.static, auth.MethodOIDC: c.oidc}, rawmcp.Ways()
	if c.narrow != c.role { // which is judged behind the door: one way of each transport tells
		delete(tokens, auth.MethodStatic)
		ways = []rawmcp.Way{rawmcp.Sessionless, rawmcp.Events}
	}
	for method, token := range tokens {
		if token == "" {
			continue
		}
		for way, line := range m.open(t, token, ways) {
			cell := func(what string) string { return fmt.Sprintf("%s, %s, %s", method, way, what) }
			m.list(t, c, line, cell("tools/list"))
			for name, u := range uses(m.vendors) {
				for _, connection := range u.connections() {
					result, err := line.Call(t.Context(), name, u.with(connection))
					if err != nil {
						t.Errorf("%s: %v", cell(name), err)
						continue
					}
					if got, want := result.Code(), c.wantCode(u, connection); got != want {
						t.Errorf("%s on %q: %q, want %q: %v", cell(name), connection, got, want, result.Content)
					}
				}
			}
			if n := line.Strays(); n != 0 {
				t.Errorf("%s", cell(fmt.Sprintf("%d answers to nobody's calls", n)))
			}
			line.Close()
		}
	}
}

// list checks that the list shows just what the caller may call.
func (m *matrix) list(t *testing.T, c *caller, line *rawmcp.Line, cell string) {
	t.Helper()
	want := []string{}
	for name, u := range uses(m.vendors) {
		if c.may(u, "") {
			want = append(want, name)
		}
	}
	got, err := line.Tools(t.Context())
	slices.Sort(got)
	slices.Sort(want)
	if diff := gocmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%s (-want +got, %v):\n%s", cell, err, diff)
	}
}

func (u usage) connections() []string {
	if u.vendor == "" {
		return []string{""}
	}
	return []string{u.vendor, u.vendor + "-narrow"}
}

// with returns the arguments for a connection.
func (u usage) with(connection string) map[string]any {
	arguments := map[string]any{}
	maps.Copy(arguments, u.arguments)
	if connection != "" {
		arguments["connection"] = connection
	}
	return arguments
}
