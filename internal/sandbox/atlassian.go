package sandbox

import (
	"cmp"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// atlassianOrg is the one organization that the sandbox knows.
const atlassianOrg = "8d2f6f1c-5a1e-4b7c-9c39-1f6a2f1d7e55"

// Scopes of API Access.
const (
	scopeReadTokens    = "read:tokens:admin"
	scopeDeleteTokens  = "delete:tokens:admin"
	scopeReadService   = "read:service-accounts-tokens:admin"
	scopeDeleteService = "delete:service-accounts-tokens:admin"
	scopeReadAccounts  = "read:service-accounts:admin"
	scopeReadKeys      = "read:keys:admin"
	scopeDeleteKeys    = "delete:keys:admin"
)

// atlassian is both APIs of one organization over the same tokens.
type atlassian struct {
	mu         sync.Mutex
	env        *environment
	opts       AtlassianOptions
	access     AtlassianAccess
	routes     []route
	userRoutes []route
	accountID  *regexp.Regexp

	lastSeq  uint64
	accounts map[string]*atlassianAccount
	order    []*atlassianAccount
	byID     map[string]*atlassianToken
	users    tokenList // of managed users, by seq
	services tokenList // of service accounts, by seq
	keys     []*atlassianKey
	bySecret map[string]*atlassianKey

	accessLimit, userLimit limiter
	lagUntil               int64 // until then the unfiltered count answers lagCount
	lagCount               int
}

type atlassianAccount struct {
	id, name, email string
	search          string // name and email in lower case, for q
	internalID      string // of a service account
	description     string
	service         bool
	managed         bool
	refusal         string // reason key that forbids the deletion of tokens
	updated         int64
	tokens          []*atlassianToken
}

type atlassianToken struct {
	seq                          uint64
	id, userID                   string // userID is the id in user management
	label, status                string
	created, expires, lastActive int64
	scopes                       []string
	account                      *atlassianAccount
}

type atlassianKey struct {
	seq                          uint64
	id, label, secret            string
	credential                   string // its name in Access, or ""
	created, expires, lastActive int64
	scopes                       []string // nil: without scopes
	systemAccount                string
	createdBy                    *atlassianAccount
	revoked                      bool // then only its secret is remembered
}

// tokenList is tokens in order of seq, with the other orders kept until the next change.
type tokenList struct {
	rows   []*atlassianToken
	sorted map[string][]*atlassianToken
}

func (l *tokenList) add(t *atlassianToken) {
	l.rows = append(l.rows, t)
	l.sorted = nil
}

func (l *tokenList) remove(t *atlassianToken) {
	i, ok := slices.BinarySearchFunc(l.rows, t.seq, func(t *atlassianToken, seq uint64) int { return cmp.Compare(t.seq, seq) })
	if ok {
		l.rows = slices.Delete(l.rows, i, i+1)
	}
	l.sorted = nil
}

// list is the list that a token belongs to; nil for an unmanaged user's.
func (a *atlassian) list(account *atlassianAccount) *tokenList {
	switch {
	case account.service:
		return &a.services
	case account.managed:
		return &a.users
	default:
		return nil
	}
}

func (a *atlassian) insert(t *atlassianToken) {
	a.lastSeq++
	t.seq = a.lastSeq
	if t.userID == "" {
		t.userID = t.id
		if a.opts.DifferentTokenIDs {
			t.userID = "usr_" + strings.TrimPrefix(t.id, "asp_")
		}
	}
	a.byID[t.id] = t
	t.account.tokens = append(t.account.tokens, t)
	if list := a.list(t.account); list != nil {
		list.add(t)
	}
}

func (a *atlassian) remove(t *atlassianToken) {
	delete(a.byID, t.id)
	t.account.tokens = slices.DeleteFunc(t.account.tokens, func(other *atlassianToken) bool { return other == t })
	if list := a.list(t.account); list != nil {
		list.remove(t)
	}
}

// removeAll ends all tokens of a list, which is what the bulk calls do.
func (a *atlassian) removeAll(l *tokenList, request uint64) {
	for _, t := range l.rows {
		a.note(TokenDeleted, t, request)
		delete(a.byID, t.id)
		t.account.tokens = nil
	}
	l.rows, l.sorted = nil, nil
}

// rename sets what people see of an account.
func (account *atlassianAccount) rename(name, email string) {
	account.name, account.email = name, email
	account.search = strings.ToLower(name + "\n" + email)
}

func (account *atlassianAccount) contains(word string) bool {
	return strings.Contains(account.search, word)
}

func (a *atlassian) addAccount(account *atlassianAccount) *atlassianAccount {
	account.rename(account.name, account.email)
	a.accounts[account.id] = account
	a.order = append(a.order, account)
	return account
}

func (a *atlassian) serve(c *call) answer {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(c.path) > 0 && c.path[0] == "users" {
		return a.serveUsers(c)
	}
	if len(c.path) >= 3 && slices.Equal(c.path[:3], []string{"admin", "api-access", "v1"}) {
		return a.serveAccess(c)
	}
	return a.gatewayError(http.StatusNotFound, "Not Found")
}

// authenticate finds the API key behind the Bearer word. Every other way, such as
// a user's own token with Basic, is no key.
func (a *atlassian) authenticate(c *call, now int64) *atlassianKey {
	key := a.bySecret[c.bearer()]
	if key == nil {
		return nil
	}
	c.credential = key.credential
	if c.credential == "" {
		c.credential = "token:" + key.id
	}
	if key.revoked || (key.expires != 0 && now >= key.expires) {
		return nil
	}
	key.lastActive = now
	return key
}

// Errors come in four forms: one of user management, three of API Access.

func (a *atlassian) keyError(status int, key string, context any) answer {
	body := map[string]any{"key": key}
	if context != nil {
		body["context"] = context
	}
	if marker := a.env.marker(); marker != "" {
		body["message"], body["sandboxCanary"] = marker, marker
	}
	return reply(status, body)
}

func (a *atlassian) gatewayError(status int, message string) answer {
	return reply(status, a.marked(map[string]any{"code": status}, "message", message))
}

func (a *atlassian) appError(status int, title, detail string) answer {
	item := a.marked(map[string]any{
		"id": "5f1a0d5e-2b7c-4a3b-9a60-3d1f8c9b7e21", "status": strconv.Itoa(status),
		"code": fmt.Sprintf("ADMIN-%d-1", status), "title": title,
	}, "detail", detail)
	return reply(status, map[string]any{"errors": []any{item}})
}

func (a *atlassian) frameworkError(c *call, status int, message string) answer {
	return reply(status, a.marked(map[string]any{
		"timestamp": isoMillis(a.env.now()), "path": "/" + strings.Join(c.path, "/"),
		"status": status, "error": http.StatusText(status), "requestId": fmt.Sprintf("%08x", c.seq),
	}, "message", message))
}

func (a *atlassian) marked(body map[string]any, messageKey, message string) map[string]any {
	return mark(a.env, body, messageKey, message)
}

// mark sets an error's message, with the canary where there is one.
func mark(env *environment, body map[string]any, messageKey, message string) map[string]any {
	if marker := env.marker(); marker != "" {
		message += " " + marker
		body["sandboxCanary"] = marker
	}
	body[messageKey] = message
	return body
}

// refusal implements vendor.
func (a *atlassian) refusal(c *call, status int, reset int64) answer {
	users := len(c.path) > 0 && c.path[0] == "users"
	keys := map[int]string{400: "bodyParseFailure", 401: "unauthorized", 403: "forbidden", 404: "notFound"}
	if key, ok := keys[status]; ok && users {
		return a.keyError(status, key, nil)
	}
	var refused answer
	switch status {
	case http.StatusForbidden, http.StatusInternalServerError:
		refused = a.frameworkError(c, status, http.StatusText(status))
	case http.StatusBadRequest, http.StatusNotFound, http.StatusConflict:
		refused = a.appError(status, http.StatusText(status), "Ordered by a test.")
	default:
		refused = a.gatewayError(status, http.StatusText(status))
	}
	if !users {
		allowed := allowance{limit: a.accessLimit.nominal, remaining: a.accessLimit.nominal - 1, reset: a.env.now() + minute}
		if status == http.StatusTooManyRequests {
			allowed.remaining, allowed.reset = 0, reset
		}
		setAtlassianLimit(refused.header, allowed)
	}
	return refused
}

func setAtlassianLimit(h http.Header, a allowance) {
	h.Set("X-RateLimit-Limit", strconv.Itoa(a.limit))
	h.Set("X-RateLimit-Remaining", strconv.Itoa(a.remaining))
	h.Set("X-RateLimit-Reset", time.UnixMilli(a.reset).UTC().Format("2006-01-02T15:04:05.000Z"))
}

func (a *atlassian) secrets() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	secrets := make([]string, 0, len(a.bySecret))
	for secret := range a.bySecret {
		secrets = append(secrets, secret)
	}
	slices.Sort(secrets)
	return secrets
}

// newAtlassian generates the organization: people, service accounts, keys, tokens.
func newAtlassian(env *environment, opts AtlassianOptions, company *company, tokens int, now int64) *atlassian {
	a := &atlassian{
		env: env, opts: opts,
		accountID:   regexp.MustCompile(`^[a-zA-Z0-9_|:-]{1,128}$`),
		accounts:    map[string]*atlassianAccount{},
		byID:        make(map[string]*atlassianToken, tokens),
		bySecret:    map[string]*atlassianKey{},
		accessLimit: newLimiter(opts.AccessBudget, 5000, time.Minute),
		userLimit:   newLimiter(opts.UserBudget, 5000, time.Minute),
	}
	a.routes, a.userRoutes = a.accessRoutes(), a.managementRoutes()
	service := tokens / 10
	if tokens >= 4 {
		service = max(service, 2)
	}
	a.seedAccounts(company, tokens-service, service, now)
	a.seedTokens(tokens-service, service, now)
	a.seedKeys(now)
	return a
}

func (a *atlassian) seedAccounts(company *company, users, service int, now int64) {
	r := newRand(a.env.seed, "atlassian accounts")
	for i, p := range company.people {
		if i >= max(4, users) {
			break
		}
		account := &atlassianAccount{id: p.atlassianID, name: p.name(), email: p.email, managed: true}
		if a.opts.HideEmails {
			account.email = ""
		}
		a.addAccount(account)
	}
	uses := []string{"ci", "reporting", "provisioning", "backup", "chatops", "billing sync", "asset import", "status page"}
	for i := range max(4, service/4) {
		name := uses[i%len(uses)]
		if i >= len(uses) {
			name = fmt.Sprintf("%s %d", name, i/len(uses)+1)
		}
		a.addAccount(&atlassianAccount{
			id: "712020:" + randomUUID(r), internalID: randomUUID(r), name: name, service: true,
			email:       fmt.Sprintf("%s-%s@serviceaccount.atlassian.com", strings.ReplaceAll(name, " ", "-"), randomText(r, 10)),
			description: "Runs the " + name + " jobs", updated: now - between(r, day, 600*day),
		})
	}
	for i, name := range []string{"Casey Contractor", "Robin Agency"} {
		a.addAccount(&atlassianAccount{id: "712020:" + randomUUID(r), name: name, email: fmt.Sprintf("contact%d@partner.example", i)})
	}
}

// seedTokens spreads the tokens over the accounts; the last service account has
// none, and each unmanaged user has one that no API shows.
func (a *atlassian) seedTokens(users, service int, now int64) {
	var people, services, outside []*atlassianAccount
	for _, account := range a.order {
		switch {
		case account.service:
			services = append(services, account)
		case account.managed:
			people = append(people, account)
		default:
			outside = append(outside, account)
		}
	}
	r := newRand(a.env.seed, "atlassian tokens")
	tokens := make([]*atlassianToken, 0, users+service+len(outside))
	for i := range users {
		t := newAtlassianToken(r, i, now)
		t.account = people[r.IntN(len(people))]
		if i < len(people) {
			t.account = people[i] // everybody has one before somebody has two
		}
		if r.IntN(6) == 0 {
			t.scopes = [][]string{{"read:jira-work"}, {"read:jira-work", "write:jira-work"}, {"read:confluence-content.all"}}[r.IntN(3)]
		}
		tokens = append(tokens, t)
	}
	for i := range service {
		t := newAtlassianToken(r, i+int(lifeKinds)+3, now)
		t.account = services[i%(len(services)-1)]
		t.scopes = [][]string{{"read:jira-work"}, {"read:jira-work", "write:jira-work"}, {"manage:jira-configuration"}}[r.IntN(3)]
		tokens = append(tokens, t)
	}
	for _, account := range outside {
		t := newAtlassianToken(r, int(lifeKinds)+3, now)
		t.account = account
		tokens = append(tokens, t)
	}
	slices.SortStableFunc(tokens, func(x, y *atlassianToken) int { return cmp.Compare(x.created, y.created) })
	for _, t := range tokens {
		a.insert(t)
	}
}

func newAtlassianToken(r *rand.Rand, number int, now int64) *atlassianToken {
	l := newLife(r, kindOf(r, number), now)
	t := &atlassianToken{
		id: "asp_" + randomText(r, 16), label: tokenName(r, number), status: "ALLOWED", scopes: []string{},
		created: l.created, expires: l.expires, lastActive: l.lastUsed,
	}
	if l.blocked {
		t.status = "BLOCKED"
	}
	return t
}

// seedKeys makes the organization's API keys: those of Access and three more.
func (a *atlassian) seedKeys(now int64) {
	r := newRand(a.env.seed, "atlassian keys")
	read := []string{scopeReadTokens, scopeReadService, scopeReadAccounts, scopeReadKeys}
	a.access = AtlassianAccess{
		OrgID:      atlassianOrg,
		Credential: a.seedKey(r, "tokenreeve full", "credential", now-40*day, now+300*day, nil),
		ScopedCredential: a.seedKey(r, "tokenreeve tokens", "scoped_credential", now-40*day, now+300*day,
			[]string{scopeReadTokens, scopeDeleteTokens, scopeReadService, scopeDeleteService}),
		ReadOnlyCredential: a.seedKey(r, "tokenreeve audit", "read_only_credential", now-10*day, now+80*day, read),
		ExpiredCredential:  a.seedKey(r, "last year's key", "expired_credential", now-400*day, now-35*day, nil),
	}
	a.seedKey(r, "user provisioning", "", now-200*day, now+5*day, nil)
	a.seedKey(r, "access review 監査", "", now-100*day, now+20*day, []string{scopeReadTokens})
	a.seedKey(r, "key revoker", "", now-7*day, now+7*day, []string{scopeReadKeys, scopeDeleteKeys})
}

// seedKey adds one API key and returns its secret, which has the form of the vendor's.
func (a *atlassian) seedKey(r *rand.Rand, label, credential string, created, expires int64, scopes []string) string {
	number := uint64(len(a.keys))
	text := "ATCTT3xFfGN0" + randomText(r, 40) + newSecret(a.env.seed, Atlassian, number).hex()
	sum := crc32.ChecksumIEEE([]byte(text))
	key := &atlassianKey{
		seq: number + 1, id: randomText(r, 20), label: label, credential: credential, created: created, expires: expires,
		scopes: scopes, systemAccount: "557057:" + randomUUID(r), createdBy: a.order[0],
		secret: text + "=" + strings.ToUpper(hex.EncodeToString(binary.BigEndian.AppendUint32(nil, sum))),
	}
	a.keys = append(a.keys, key)
	a.bySecret[key.secret] = key
	return key.secret
}
