package sandbox

import (
	"cmp"
	"math/rand/v2"
	"net/http"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// LaunchDarkly's API versions: listings are paged from the newest on only.
const (
	newestVersion = 20240415
	oldestVersion = 20160426
)

func knownVersions() []int { return []int{newestVersion, 20220603, 20210729, 20191212, oldestVersion} }

// launchDarkly is one account.
type launchDarkly struct {
	mu     sync.Mutex
	env    *environment
	opts   LaunchDarklyOptions
	access LaunchDarklyAccess
	routes []route

	accountID string
	lastSeq   uint64
	members   []*ldMember
	memberOf  map[string]*ldMember
	roles     []LaunchDarklyRole
	tokens    []*ldToken // in order of making
	byID      map[string]*ldToken
	bySecret  map[secretBytes]ldSecret
	issued    []secretBytes // all that ever were
	ids       *rand.Rand

	tokensLink                 ldLink
	global, perRoute, perToken limiter
}

type ldMember struct {
	id, firstName, lastName, email, role string
	removed                              bool // then the personal tokens do not work
}

type ldToken struct {
	seq                     uint64
	id, name, description   string
	credential              string // its name in Access, or ""
	member                  *ldMember
	created, modified, used int64
	role                    string
	customRoles             []string
	inlineRole              []Statement
	service                 bool
	version                 int
	secret                  secretBytes
	overlaps                []secretBytes // earlier secrets that may still work
}

// ldSecret is what a secret opens, until when; 0 means as long as the token lives.
type ldSecret struct {
	token *ldToken
	until int64
}

// Statement is one statement of a role's policy.
type Statement struct {
	Effect       string   `json:"effect"`
	Resources    []string `json:"resources,omitempty"`
	NotResources []string `json:"notResources,omitempty"`
	Actions      []string `json:"actions,omitempty"`
	NotActions   []string `json:"notActions,omitempty"`
}

func (l *launchDarkly) serve(c *call) answer {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.env.now()
	caller := l.authenticate(c, now)
	if caller == nil {
		return l.fail(http.StatusUnauthorized, "unauthorized", "Invalid access token")
	}
	found, args, allow := find(l.routes, c.method, c.path)
	routeName := c.method + " unknown"
	if found != nil {
		routeName = c.method + " " + strings.Join(found.pattern, "/")
	}
	limits := [3]allowance{l.global.take("", now), l.perRoute.take(routeName, now), l.perToken.take(caller.id, now)}
	var result answer
	switch {
	case !limits[0].ok || !limits[1].ok || !limits[2].ok:
		result = l.fail(http.StatusTooManyRequests, "rate_limited", "You've exceeded the API rate limit. Try again later.")
		if l.opts.RetryAfter {
			reset := max(limits[0].reset, limits[1].reset, limits[2].reset)
			result.header.Set("Retry-After", strconv.FormatInt(retryAfter(reset, now), 10))
		}
	case found == nil && allow == nil:
		result = l.notFound()
	case found == nil:
		result = l.fail(http.StatusMethodNotAllowed, "method_not_allowed", "Method not allowed")
		result.header.Set("Allow", strings.Join(allow, ", "))
	default:
		result = l.handle(c, caller, found, args)
	}
	setLaunchDarklyLimits(result.header, limits)
	return result
}

// handle checks what every endpoint checks, and then runs it. A route's scope is
// the token action that it needs; "" needs none.
func (l *launchDarkly) handle(c *call, caller *ldToken, found *route, args []string) answer {
	if version := c.header.Get("LD-API-Version"); version != "" && version != "beta" {
		number, err := strconv.Atoi(version)
		if err != nil || !slices.Contains(knownVersions(), number) {
			return l.invalid("Unknown API version " + version)
		}
	}
	needsType := c.method == http.MethodPost || c.method == http.MethodPatch
	if found.scope == actionReset && l.opts.ResetWithoutContentType {
		needsType = false
	}
	if needsType && !c.isJSON() {
		return l.invalid("Content-Type must be application/json")
	}
	if found.scope != "" && !l.mayManage(caller, found.scope) {
		return l.forbidden()
	}
	c.caller = caller.id
	return found.handle(c, args)
}

// authenticate reads the raw secret; any scheme in front of it makes it invalid.
func (l *launchDarkly) authenticate(c *call, now int64) *ldToken {
	text, ok := strings.CutPrefix(c.header.Get("Authorization"), "api-")
	if !ok || len(text) != 36 {
		return nil
	}
	secret, ok := parseSecret(strings.ReplaceAll(text, "-", ""))
	if !ok || secret.uuid() != text {
		return nil
	}
	found, ok := l.bySecret[secret]
	if !ok {
		return nil
	}
	t := found.token
	c.credential = cmp.Or(t.credential, "token:"+t.id)
	if found.until != 0 && now >= found.until {
		delete(l.bySecret, secret)
		return nil
	}
	if t.member.removed && !t.service {
		return nil
	}
	t.used = now
	return t
}

// Token actions of roles.
const (
	actionCreate = "createAccessToken"
	actionDelete = "deleteAccessToken"
	actionReset  = "resetAccessToken"
	actionUpdate = "updateAccessToken"
)

// mayManage tells whether the caller's role allows a token action: admin does,
// and so does a custom or inline role with a fitting statement.
func (l *launchDarkly) mayManage(caller *ldToken, action string) bool {
	if caller.role != "" {
		return caller.role == "admin"
	}
	allowed := false
	for _, s := range l.policy(caller) {
		if !s.covers(action) {
			continue
		}
		if s.Effect == "deny" {
			return false
		}
		allowed = true
	}
	return allowed
}

func (l *launchDarkly) policy(t *ldToken) []Statement {
	policy := slices.Clone(t.inlineRole)
	for _, id := range t.customRoles {
		if role := l.role(id); role != nil {
			policy = append(policy, role.Policy...)
		}
	}
	return policy
}

func (s *Statement) covers(action string) bool {
	isToken := func(pattern string) bool {
		return pattern == "*" || strings.HasPrefix(pattern, "member/") || strings.HasPrefix(pattern, "service-token/")
	}
	isAction := func(pattern string) bool {
		ok, err := path.Match(pattern, action)
		return err == nil && ok
	}
	resource := slices.ContainsFunc(s.Resources, isToken)
	if len(s.NotResources) > 0 {
		resource = !slices.ContainsFunc(s.NotResources, isToken)
	}
	if len(s.NotActions) > 0 {
		return resource && !slices.ContainsFunc(s.NotActions, isAction)
	}
	return resource && slices.ContainsFunc(s.Actions, isAction)
}

// role finds a custom role by id or key.
func (l *launchDarkly) role(idOrKey string) *LaunchDarklyRole {
	for i := range l.roles {
		if l.roles[i].ID == idOrKey || l.roles[i].Key == idOrKey {
			return &l.roles[i]
		}
	}
	return nil
}

// sees are the visibility rules (facts: LaunchDarkly API guide). all is showAll.
func (l *launchDarkly) sees(caller, t *ldToken, all bool) bool {
	switch {
	case t.service:
		return true
	case caller.role == "admin" && (all || caller.service):
		return true
	default:
		return !caller.service && caller.member == t.member
	}
}

func (l *launchDarkly) insert(t *ldToken) {
	l.lastSeq++
	t.seq = l.lastSeq
	l.tokens = append(l.tokens, t)
	l.byID[t.id] = t
	l.give(t)
}

// give mints the token's next secret and makes it work.
func (l *launchDarkly) give(t *ldToken) {
	t.secret = newSecret(l.env.seed, LaunchDarkly, uint64(len(l.issued)))
	l.issued = append(l.issued, t.secret)
	l.bySecret[t.secret] = ldSecret{token: t}
}

func (l *launchDarkly) remove(t *ldToken) {
	delete(l.byID, t.id)
	delete(l.bySecret, t.secret)
	for _, secret := range t.overlaps {
		delete(l.bySecret, secret)
	}
	if i, ok := slices.BinarySearchFunc(l.tokens, t.seq, func(t *ldToken, seq uint64) int { return cmp.Compare(t.seq, seq) }); ok {
		l.tokens = slices.Delete(l.tokens, i, i+1)
	}
}

func (l *launchDarkly) fail(status int, code, message string) answer {
	return reply(status, mark(l.env, map[string]any{"code": code}, "message", message))
}

func (l *launchDarkly) invalid(message string) answer {
	return l.fail(http.StatusBadRequest, "invalid_request", message)
}

func (l *launchDarkly) notFound() answer {
	return l.fail(http.StatusNotFound, "not_found", "Invalid resource identifier")
}

func (l *launchDarkly) forbidden() answer {
	return l.fail(http.StatusForbidden, "forbidden", "Forbidden. Access to the requested resource was denied.")
}

// refusal implements vendor.
func (l *launchDarkly) refusal(_ *call, status int, reset int64) answer {
	texts := map[int][2]string{
		400: {"invalid_request", "Invalid request body"},
		401: {"unauthorized", "Invalid access token"},
		403: {"forbidden", "Forbidden. Access to the requested resource was denied."},
		404: {"not_found", "Invalid resource identifier"},
		405: {"method_not_allowed", "Method not allowed"},
		409: {"optimistic_locking_error", "Conflict. Optimistic lock error. Try again later."},
		422: {"patch_failed", "Unprocessable entity. Could not apply patch."},
		429: {"rate_limited", "You've exceeded the API rate limit. Try again later."},
	}
	text, ok := texts[status]
	if !ok {
		text = [2]string{"internal_service_error", http.StatusText(status)}
	}
	refused := l.fail(status, text[0], text[1])
	limits := [3]allowance{
		{limit: l.global.nominal, remaining: l.global.nominal - 1},
		{limit: l.perRoute.nominal, remaining: l.perRoute.nominal - 1},
		{limit: l.perToken.nominal, remaining: l.perToken.nominal - 1},
	}
	for i := range limits {
		limits[i].reset = l.env.now() + 10_000
		if status == http.StatusTooManyRequests {
			limits[i].reset = reset
		}
	}
	if status == http.StatusTooManyRequests {
		limits[1].remaining = 0
	}
	setLaunchDarklyLimits(refused.header, limits)
	return refused
}

// setLaunchDarklyLimits sets the headers of account, route and token; the reset
// times are epoch milliseconds.
func setLaunchDarklyLimits(h http.Header, limits [3]allowance) {
	for i, name := range []string{"Global", "Route", "Auth-Token"} {
		h.Set("X-Ratelimit-"+name+"-Limit", strconv.Itoa(limits[i].limit))
		h.Set("X-Ratelimit-"+name+"-Remaining", strconv.Itoa(limits[i].remaining))
	}
	reset := limits[0].reset
	if limits[1].remaining == 0 {
		reset = limits[1].reset
	}
	h.Set("X-Ratelimit-Reset", strconv.FormatInt(reset, 10))
	h.Set("X-Ratelimit-Auth-Token-Reset", strconv.FormatInt(limits[2].reset, 10))
}

func (l *launchDarkly) secrets() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	secrets := make([]string, 0, len(l.issued))
	for _, secret := range l.issued {
		secrets = append(secrets, "api-"+secret.uuid())
	}
	return secrets
}

// newLaunchDarkly generates the account: members, custom roles and tokens.
func newLaunchDarkly(env *environment, opts LaunchDarklyOptions, company *company, tokens int, now int64) *launchDarkly {
	r := newRand(env.seed, "launchdarkly")
	l := &launchDarkly{
		env: env, opts: opts, tokensLink: linkTo(tokensPath), accountID: objectID(r, 1_500_000_000_000), ids: newRand(env.seed, "launchdarkly ids"),
		memberOf: map[string]*ldMember{}, byID: make(map[string]*ldToken, tokens), bySecret: make(map[secretBytes]ldSecret, tokens),
		global:   newLimiter(opts.GlobalBudget, 10_000, 10*time.Second),
		perRoute: newLimiter(opts.RouteBudget, 1000, 10*time.Second),
		perToken: newLimiter(opts.TokenBudget, 1000, 10*time.Second),
	}
	l.routes = l.tokenRoutes()
	for _, p := range company.people {
		m := &ldMember{id: p.memberID, firstName: p.first, lastName: p.last, email: p.email, role: p.role}
		l.members = append(l.members, m)
		l.memberOf[m.id] = m
	}
	l.roles = []LaunchDarklyRole{
		{ID: objectID(r, idEpoch-700*day), Key: "release-manager", Name: "Release manager", Policy: []Statement{
			{Effect: "allow", Resources: []string{"proj/*:env/production:flag/*"}, Actions: []string{"updateOn", "updateTargets"}},
		}},
		{ID: objectID(r, idEpoch-500*day), Key: "token-admin", Name: "Token admin", Policy: []Statement{
			{Effect: "allow", Resources: []string{"member/*:token/*", "service-token/*"}, Actions: []string{"*"}},
		}},
		{ID: objectID(r, idEpoch-90*day), Key: "auditor", Name: "Auditor", Policy: []Statement{
			{Effect: "allow", Resources: []string{"proj/*"}, Actions: []string{"viewProject"}},
		}},
	}
	seeded := []*ldToken{}
	credentials := l.seedCredentials(now)
	for i := range max(0, tokens-len(credentials)) {
		seeded = append(seeded, l.seedToken(r, i, now))
	}
	seeded = append(seeded, credentials...)
	slices.SortStableFunc(seeded, func(x, y *ldToken) int { return cmp.Compare(x.created, y.created) })
	for _, t := range seeded {
		t.id = objectID(r, idEpoch-(now-t.created))
		l.insert(t)
	}
	l.setAccess(credentials)
	return l
}

func (l *launchDarkly) seedCredentials(now int64) []*ldToken {
	admin, reader := l.members[0], l.members[1]
	token := func(name, credential string, m *ldMember, age int64, change func(*ldToken)) *ldToken {
		t := &ldToken{name: name, credential: credential, member: m, created: now - age, modified: now - age, service: true, version: newestVersion}
		change(t)
		return t
	}
	return []*ldToken{
		token("tokenreeve", "credential", admin, 40*day, func(t *ldToken) { t.role = "admin" }),
		token("dashboard reader", "reader_credential", reader, 90*day, func(t *ldToken) { t.role, t.service = "reader", false }),
		token("flag sync", "writer_credential", admin, 200*day, func(t *ldToken) { t.role = "writer" }),
		token("my admin token", "personal_admin_credential", admin, 10*day, func(t *ldToken) { t.role, t.service = "admin", false }),
		token("token janitor", "custom_credential", admin, 60*day, func(t *ldToken) { t.customRoles = []string{l.role("token-admin").ID} }),
		token("since 2018", "old_version_credential", admin, 3*365*day, func(t *ldToken) { t.role, t.version = "admin", oldestVersion }),
	}
}

func (l *launchDarkly) setAccess(credentials []*ldToken) {
	secret := func(i int) string { return "api-" + credentials[i].secret.uuid() }
	l.access = LaunchDarklyAccess{
		TokenID: credentials[0].id, Credential: secret(0), ReaderCredential: secret(1), WriterCredential: secret(2),
		PersonalAdminCredential: secret(3), CustomCredential: secret(4), OldVersionCredential: secret(5),
	}
}

// seedToken invents a token without id and secret. LaunchDarkly tokens do not
// expire: only the dates of making and use are taken from the kinds of life.
func (l *launchDarkly) seedToken(r *rand.Rand, number int, now int64) *ldToken {
	dates := newLife(r, kindOf(r, number), now)
	t := &ldToken{
		name: tokenName(r, number), member: pick(r, l.members), created: dates.created, used: dates.lastUsed,
		modified: between(r, dates.created, dates.created+day), service: r.IntN(5) < 2, version: newestVersion,
	}
	t.modified = min(t.modified, now)
	if r.IntN(4) == 0 {
		t.description = pick(r, []string{"release job", "made by the wiki page", "ask #platform before you delete this", "temporary", "Zugriff für Berichte"})
	}
	if r.IntN(10) == 0 {
		t.version = pick(r, []int{20220603, 20191212, oldestVersion})
	}
	switch n := r.IntN(20); {
	case n < 2:
		t.customRoles = []string{l.roles[0].ID}
		if n == 0 {
			t.customRoles = append(t.customRoles, l.roles[2].ID)
		}
	case n < 4:
		t.inlineRole = []Statement{{Effect: "allow", Resources: []string{"proj/*:env/*:flag/*"}, Actions: []string{"*"}}}
	case n < 7:
		t.role = "admin"
	case n < 13:
		t.role = "writer"
	default:
		t.role = "reader"
	}
	return t
}
