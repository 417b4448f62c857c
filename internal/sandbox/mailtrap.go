package sandbox

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// mailtrapAccount is the one account that the sandbox knows.
const mailtrapAccount = 3229

// Access levels of Mailtrap (facts: Mailtrap API reference).
const (
	levelViewer = 10
	levelAdmin  = 100
)

// mailtrap is one account.
type mailtrap struct {
	mu     sync.Mutex
	env    *environment
	opts   MailtrapOptions
	access MailtrapAccess
	routes []route

	tokens   []*mtToken // by id
	byID     map[int64]*mtToken
	bySecret map[secretBytes]*mtToken
	issued   []secretBytes // all that ever were
	ending   []*mtToken    // reset tokens, until they vanish
	lastID   int64
	ids      *rand.Rand
	version  uint64 // grows with every change, for the Etag
	projects []mtProject
	domains  []mtNode
	parent   map[int64]int64 // sandbox to project

	limit limiter
}

type mtNode struct {
	id   int64
	name string
}

type mtProject struct {
	mtNode
	sandboxes []mtNode
}

type mtToken struct {
	id              int64
	name, createdBy string
	credential      string // its name in Access, or ""
	expires         int64  // 0: never
	replaced        bool   // reset: now in its grace period
	resources       []MailtrapResource
	secret          secretBytes
}

// text is the id as it stands in paths.
func (t *mtToken) text() string { return strconv.FormatInt(t.id, 10) }

// MailtrapResource is one permission of a token. ResourceType is one of the
// current words: account, project, sandbox, domain.
type MailtrapResource struct {
	ResourceType string `json:"resource_type"`
	ResourceID   int64  `json:"resource_id"`
	AccessLevel  int    `json:"access_level"`
}

func (m *mailtrap) serve(c *call) answer {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.env.now()
	m.sweep(now)
	caller := m.authenticate(c, now)
	if caller == nil {
		refused := m.unauthorized()
		m.setHeaders(c, refused, allowance{limit: m.limit.nominal, remaining: m.limit.nominal - 1})
		return refused
	}
	allowed := m.limit.take(c.caller, now)
	var result answer
	if allowed.ok {
		result = m.dispatch(c, caller)
	} else {
		result = m.refused(http.StatusTooManyRequests, "Rate limit exceeded")
		if m.opts.RetryAfter {
			result.header.Set("Retry-After", strconv.FormatInt(retryAfter(allowed.reset, now), 10))
		}
	}
	m.setHeaders(c, result, allowed)
	return result
}

// dispatch serves both path families: the account form is the short form after
// its account was checked.
func (m *mailtrap) dispatch(c *call, caller *mtToken) answer {
	path := c.path
	if len(path) > 3 && path[0] == "api" && path[1] == "accounts" {
		if path[2] != strconv.Itoa(mailtrapAccount) {
			return m.refused(http.StatusForbidden, "Account access forbidden")
		}
		path = append([]string{"api"}, path[3:]...)
	}
	found, args, allow := find(m.routes, c.method, path)
	switch {
	case found == nil && allow == nil:
		return m.notFound()
	case found == nil:
		refused := reply(http.StatusMethodNotAllowed, mark(m.env, map[string]any{}, "error", "Method Not Allowed"))
		refused.header.Set("Allow", strings.Join(allow, ", "))
		return refused
	case found.scope == "admin" && !m.administers(caller) && (!m.opts.ViewerLists || c.method != http.MethodGet):
		return m.refused(http.StatusForbidden, "Access forbidden")
	}
	return found.handle(c, args)
}

// authenticate reads either header; with both, Authorization counts.
func (m *mailtrap) authenticate(c *call, now int64) *mtToken {
	text := c.bearer()
	if c.authKind == "api-token" {
		text = c.header.Get("Api-Token")
	}
	secret, ok := parseSecret(text)
	if !ok {
		return nil
	}
	t := m.bySecret[secret]
	if t == nil {
		return nil
	}
	c.caller = t.text()
	c.credential = cmp.Or(t.credential, "token:"+c.caller)
	if t.expires != 0 && now >= t.expires {
		return nil
	}
	return t
}

// sweep removes reset tokens whose grace ended long enough ago.
func (m *mailtrap) sweep(now int64) {
	m.ending = slices.DeleteFunc(m.ending, func(t *mtToken) bool {
		over := now >= t.expires+m.opts.Cleanup.Milliseconds()
		if over && m.byID[t.id] == t {
			m.note(TokenExpired, t, 0, "")
			m.remove(t)
		}
		return over
	})
}

func (m *mailtrap) insert(t *mtToken) {
	t.secret = newSecret(m.env.seed, Mailtrap, uint64(len(m.issued)))
	m.issued = append(m.issued, t.secret)
	m.bySecret[t.secret] = t
	m.byID[t.id] = t
	m.tokens = append(m.tokens, t)
	m.version++
}

func (m *mailtrap) remove(t *mtToken) {
	delete(m.byID, t.id)
	delete(m.bySecret, t.secret)
	if i, ok := slices.BinarySearchFunc(m.tokens, t.id, func(t *mtToken, id int64) int { return cmp.Compare(t.id, id) }); ok {
		m.tokens = slices.Delete(m.tokens, i, i+1)
	}
	m.version++
}

func (m *mailtrap) nextID() int64 {
	m.lastID += 1 + m.ids.Int64N(40)
	return m.lastID
}

// level is the caller's access to a resource: its own, its project's or the
// account's, the highest; 0 for none or for a resource that does not exist.
func (m *mailtrap) level(t *mtToken, kind string, id int64) int {
	level := 0
	for _, r := range t.resources {
		parent := kind == "sandbox" && r.ResourceType == "project" && m.parent[id] == r.ResourceID
		if r.ResourceType == "account" || parent || (r.ResourceType == kind && r.ResourceID == id) {
			level = max(level, r.AccessLevel)
		}
	}
	return level
}

func (m *mailtrap) exists(kind string, id int64) bool {
	switch kind {
	case "account":
		return id == mailtrapAccount
	case "project":
		return slices.ContainsFunc(m.projects, func(p mtProject) bool { return p.id == id })
	case "sandbox":
		_, ok := m.parent[id]
		return ok
	case "domain":
		return slices.ContainsFunc(m.domains, func(d mtNode) bool { return d.id == id })
	default:
		return false
	}
}

// administers tells whether a token has admin access to anything.
func (m *mailtrap) administers(t *mtToken) bool {
	return slices.ContainsFunc(t.resources, func(r MailtrapResource) bool { return r.AccessLevel >= levelAdmin })
}

// sees tells whether a token is visible to the caller: itself, and those whose
// every resource the caller administers.
func (m *mailtrap) sees(caller, t *mtToken) bool {
	return caller == t || m.commands(caller, t.resources)
}

func (m *mailtrap) commands(caller *mtToken, resources []MailtrapResource) bool {
	return !slices.ContainsFunc(resources, func(r MailtrapResource) bool {
		return m.level(caller, r.ResourceType, r.ResourceID) < levelAdmin
	})
}

// Errors have two member names: error (401, 404) and errors (the others).

func (m *mailtrap) unauthorized() answer {
	refused := reply(http.StatusUnauthorized, mark(m.env, map[string]any{}, "error", "Incorrect API token"))
	refused.header.Set("WWW-Authenticate", `Token realm="Application"`)
	return refused
}

func (m *mailtrap) notFound() answer {
	return reply(http.StatusNotFound, mark(m.env, map[string]any{}, "error", "Not Found"))
}

func (m *mailtrap) refused(status int, message string) answer {
	return reply(status, mark(m.env, map[string]any{}, "errors", message))
}

// unprocessable is a 422 whose errors are an object of lists.
func (m *mailtrap) unprocessable(field, message string) answer {
	list := []string{message}
	body := map[string]any{"errors": map[string]any{field: list}}
	if marker := m.env.marker(); marker != "" {
		list[0] += " " + marker
		body["sandboxCanary"] = marker
	}
	return reply(http.StatusUnprocessableEntity, body)
}

// refusal implements vendor.
func (m *mailtrap) refusal(c *call, status int, _ int64) answer {
	allowed := allowance{limit: m.limit.nominal, remaining: m.limit.nominal - 1}
	var refused answer
	switch status {
	case http.StatusUnauthorized:
		refused = m.unauthorized()
	case http.StatusForbidden:
		refused = m.refused(status, "Access forbidden")
	case http.StatusNotFound:
		refused = m.notFound()
	case http.StatusUnprocessableEntity:
		refused = m.unprocessable("base", "Unprocessable")
	case http.StatusTooManyRequests:
		refused = m.refused(status, "Rate limit exceeded")
		allowed.remaining = 0
	default:
		refused = m.refused(status, "Unexpected error")
	}
	m.setHeaders(c, refused, allowed)
	return refused
}

func (m *mailtrap) setHeaders(c *call, a answer, allowed allowance) {
	a.header.Set("X-Ratelimit-Limit", strconv.Itoa(allowed.limit))
	a.header.Set("X-Ratelimit-Remaining", strconv.Itoa(allowed.remaining))
	a.header.Set("X-Mailtrap-Version", "v2")
	if m.opts.RequestID {
		a.header.Set("X-Request-Id", fmt.Sprintf("sandbox-%d", c.seq))
	}
	a.header.Set("X-Runtime", fmt.Sprintf("%.6f", time.Since(c.start).Seconds()))
	if a.status != http.StatusNoContent {
		a.header.Set("Content-Type", "application/json; charset=utf-8")
	}
}

func (m *mailtrap) secrets() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	secrets := make([]string, 0, len(m.issued))
	for _, secret := range m.issued {
		secrets = append(secrets, secret.hex())
	}
	return secrets
}

// newMailtrap generates the account: projects with sandboxes, domains, tokens.
func newMailtrap(env *environment, opts MailtrapOptions, company *company, tokens int, now int64) *mailtrap {
	r := newRand(env.seed, "mailtrap")
	m := &mailtrap{
		env: env, opts: opts, ids: newRand(env.seed, "mailtrap ids"), lastID: 2_400_000, parent: map[int64]int64{},
		byID: make(map[int64]*mtToken, tokens), bySecret: make(map[secretBytes]*mtToken, tokens),
		limit: newLimiter(opts.Budget, 150, 10*time.Second),
	}
	m.routes = m.tokenRoutes()
	m.seedResources(r)
	credentials := []*mtToken{
		{name: "tokenreeve", credential: "credential", resources: []MailtrapResource{{"account", mailtrapAccount, levelAdmin}}},
		{name: "project bot", credential: "project_credential", resources: []MailtrapResource{{"project", m.projects[0].id, levelAdmin}}},
		{name: "dashboards", credential: "viewer_credential", resources: []MailtrapResource{{"account", mailtrapAccount, levelViewer}}},
	}
	for _, t := range credentials {
		t.id, t.createdBy = m.nextID(), company.people[0].name()
		m.insert(t)
	}
	for i := range max(0, tokens-len(credentials)) {
		m.seedToken(r, company, i, now)
	}
	m.access = MailtrapAccess{
		AccountID: mailtrapAccount, TokenID: credentials[0].id, Credential: credentials[0].secret.hex(),
		ProjectCredential: credentials[1].secret.hex(), ViewerCredential: credentials[2].secret.hex(),
	}
	return m
}

func (m *mailtrap) seedResources(r *rand.Rand) {
	id := 40_000 + r.Int64N(1000)
	next := func(name string) mtNode {
		id += 1 + r.Int64N(90)
		return mtNode{id: id, name: name}
	}
	for _, name := range []string{"Shop", "Billing", "Internal tools 社内"} {
		p := mtProject{mtNode: next(name)}
		for _, sandbox := range []string{"staging", "tests", "review apps"}[:1+r.IntN(3)] {
			node := next(name + " " + sandbox)
			p.sandboxes = append(p.sandboxes, node)
			m.parent[node.id] = p.id
		}
		m.projects = append(m.projects, p)
	}
	for _, name := range []string{"mail.acme.example", "news.acme.example", "acme.example"} {
		m.domains = append(m.domains, next(name))
	}
}

// seedToken invents one token. The first of a sending domain is made by the
// vendor; number 7 was reset, and number 8 took its place.
func (m *mailtrap) seedToken(r *rand.Rand, company *company, number int, now int64) {
	t := &mtToken{id: m.nextID(), name: tokenName(r, number), createdBy: pick(r, company.people).name()}
	kind := kindOf(r, number)
	dates := newLife(r, kind, now)
	switch {
	case number == int(lifeBlocked):
		t.name, t.replaced, t.expires = "order mails", true, now+between(r, hour, 11*hour)
		m.ending = append(m.ending, t)
	case kind == lifeExpired:
		t.expires = now - between(r, hour, 60*day)
	case kind == lifeWeek || kind == lifeMonth || (kind == lifeFresh && r.IntN(2) == 0):
		t.expires = dates.expires
	}
	domain := m.domains[r.IntN(len(m.domains))]
	project := m.projects[r.IntN(len(m.projects))]
	level := levelAdmin
	if r.IntN(3) == 0 {
		level = levelViewer
	}
	switch n := r.IntN(10); {
	case number >= 11 && number-11 < len(m.domains):
		domain = m.domains[number-11]
		t.name = fmt.Sprintf("%s token %d", domain.name, t.id)
		t.expires = 0
		t.resources = []MailtrapResource{{"domain", domain.id, levelAdmin}}
	case n < 4:
		t.resources = []MailtrapResource{{"account", mailtrapAccount, level}}
	case n < 6:
		t.resources = []MailtrapResource{{"project", project.id, level}}
	case n < 8:
		t.resources = []MailtrapResource{{"sandbox", project.sandboxes[0].id, level}}
	case n < 9:
		t.resources = []MailtrapResource{{"domain", domain.id, level}}
	default:
		t.resources = []MailtrapResource{{"project", project.id, levelAdmin}, {"domain", domain.id, levelViewer}}
	}
	if number == int(lifeBlocked)+1 {
		old := m.tokens[len(m.tokens)-1]
		t.name, t.createdBy, t.expires = fmt.Sprintf("%s %d", old.name, t.id), "tokenreeve", 0
		t.resources = slices.Clone(old.resources)
	}
	m.insert(t)
}
