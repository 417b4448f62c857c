package sandbox

import (
	"cmp"
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// accessToken is a record of API Access (facts: Atlassian API Access, list API tokens).
type accessToken struct {
	ID           string     `json:"id"`
	Label        string     `json:"label"`
	Status       string     `json:"status"`
	CreatedAt    string     `json:"createdAt"`
	ExpiresAt    any        `json:"expiresAt,omitempty"`
	LastActiveAt any        `json:"lastActiveAt,omitempty"`
	User         accessUser `json:"user"`
	Scopes       []string   `json:"scopes"`
	TokenKind    string     `json:"tokenKind"` // undocumented: clients must ignore it
	Canary       string     `json:"sandboxCanary,omitempty"`
}

type accessUser struct {
	ID    string `json:"id"`
	OrgID string `json:"orgId,omitempty"`
	Name  string `json:"name"`
	Email string `json:"email"`
}

type accessKey struct {
	ID              string     `json:"id"`
	Label           string     `json:"label"`
	CreatedAt       string     `json:"createdAt"`
	ExpiresAt       any        `json:"expiresAt,omitempty"`
	LastActiveAt    any        `json:"lastActiveAt,omitempty"`
	SystemAccountID string     `json:"systemAccountId"`
	Resource        string     `json:"resource"`
	OrgID           string     `json:"orgId"`
	CreatedBy       accessUser `json:"createdBy"`
	Scopes          []string   `json:"scopes"`
	TargetResources []string   `json:"targetResources"`
	Canary          string     `json:"sandboxCanary,omitempty"`
}

type accessPage[T any] struct {
	Data  []T            `json:"data"`
	Links map[string]any `json:"links"`
}

const accessPrefix = "/admin/api-access/v1/orgs/*"

func (a *atlassian) accessRoutes() []route {
	routes := []route{
		newRoute("GET", accessPrefix+"/api-tokens", scopeReadTokens, a.listTokens),
		newRoute("GET", accessPrefix+"/api-tokens/count", scopeReadTokens, a.countTokens),
		newRoute("DELETE", accessPrefix+"/api-tokens", scopeDeleteTokens, a.revokeAll),
		newRoute("POST", accessPrefix+"/service-accounts/count", scopeReadService, a.countServiceTokens),
		newRoute("GET", accessPrefix+"/service-accounts/*/api-tokens", scopeReadService, a.listServiceTokens),
		newRoute("DELETE", accessPrefix+"/service-accounts/*/api-tokens", scopeDeleteService, a.revokeServiceTokens),
		newRoute("GET", accessPrefix+"/api-keys", scopeReadKeys, a.listKeys),
		newRoute("GET", accessPrefix+"/api-keys/count", scopeReadKeys, a.countKeys),
		newRoute("PATCH", accessPrefix+"/api-keys/revoke/*", scopeDeleteKeys, a.revokeKey),
	}
	if !a.opts.NoServiceTokenListing {
		routes = append(routes, newRoute("GET", accessPrefix+"/service-accounts/api-tokens", scopeReadService, a.listAllServiceTokens))
	}
	if !a.opts.NoServiceAccountListing {
		routes = append(routes, newRoute("GET", accessPrefix+"/service-accounts", scopeReadAccounts, a.listServiceAccounts))
	}
	return routes
}

func (a *atlassian) serveAccess(c *call) answer {
	now := a.env.now()
	key := a.authenticate(c, now)
	if key == nil {
		return a.gatewayError(http.StatusUnauthorized, "Unauthorized")
	}
	allowed := a.accessLimit.take("org", now)
	var result answer
	if allowed.ok {
		result = a.dispatchAccess(c, key)
	} else {
		result = a.gatewayError(http.StatusTooManyRequests, "Too Many Requests")
		a.addRetryAfter(result, allowed, now)
	}
	setAtlassianLimit(result.header, allowed)
	return result
}

func (a *atlassian) addRetryAfter(refused answer, allowed allowance, now int64) {
	if a.opts.RetryAfter {
		refused.header.Set("Retry-After", strconv.FormatInt(retryAfter(allowed.reset, now), 10))
	}
}

func (a *atlassian) dispatchAccess(c *call, key *atlassianKey) answer {
	found, args, allow := find(a.routes, c.method, c.path)
	switch {
	case found == nil && allow == nil:
		return a.gatewayError(http.StatusNotFound, "Not Found")
	case found == nil:
		refused := a.frameworkError(c, http.StatusMethodNotAllowed, "Request method '"+c.method+"' is not supported")
		refused.header.Set("Allow", strings.Join(allow, ", "))
		return refused
	case args[0] != atlassianOrg && a.opts.UnknownOrgStatus == http.StatusForbidden:
		return a.frameworkError(c, http.StatusForbidden, "User has no permission to access resource.")
	case args[0] != atlassianOrg:
		return a.appError(http.StatusNotFound, "Not Found", "Organization not found.")
	case key.scopes != nil && !slices.Contains(key.scopes, found.scope):
		return a.frameworkError(c, http.StatusForbidden, "User has no permission to access resource.")
	}
	return found.handle(c, args[1:])
}

// date is how API Access tells a date, or that there is none.
func (a *atlassian) date(ms int64) any {
	switch {
	case ms != 0:
		return isoMillis(ms)
	case a.opts.NoDate == "null":
		return json.RawMessage("null")
	case a.opts.NoDate == "empty":
		return ""
	default:
		return nil
	}
}

func (a *atlassian) tokenRecord(t *atlassianToken) accessToken {
	record := accessToken{
		ID: t.id, Label: t.label, Status: t.status, CreatedAt: isoMillis(t.created),
		ExpiresAt: a.date(t.expires), LastActiveAt: a.date(t.lastActive), Scopes: t.scopes, TokenKind: "CLASSIC",
		User:   accessUser{ID: t.account.id, OrgID: atlassianOrg, Name: t.account.name, Email: t.account.email},
		Canary: a.env.marker(),
	}
	if len(t.scopes) > 0 {
		record.TokenKind = "SCOPED"
	}
	return record
}

func (a *atlassian) tokenRecords(tokens []*atlassianToken) []accessToken {
	records := make([]accessToken, 0, len(tokens))
	for _, t := range tokens {
		records = append(records, a.tokenRecord(t))
	}
	return records
}

// links tells the next page in the selected form.
func (a *atlassian) links(c *call, next *pageCursor) map[string]any {
	links := map[string]any{"self": "", "prev": ""}
	if next == nil {
		switch a.opts.LastLink {
		case "null":
			links["next"] = nil
		case "empty":
			links["next"] = ""
		}
		return links
	}
	cursor, sent := next.String(), c.query.Get("cursor")
	query := maps.Clone(c.query)
	query.Set("cursor", cursor)
	relative := "/" + strings.Join(c.path, "/") + "?" + query.Encode()
	switch a.opts.NextLink {
	case "relative":
		links["next"] = relative
	case "absolute":
		links["next"] = c.base + relative
	case "foreign":
		links["next"] = "https://elsewhere.example" + relative
	case "stuck":
		links["next"] = cmp.Or(sent, cursor)
	default:
		links["next"] = cursor
	}
	return links
}

func (a *atlassian) badQuery(err error) answer {
	return a.appError(http.StatusBadRequest, "Bad Request", err.Error())
}

func (a *atlassian) listTokens(c *call, _ []string) answer {
	q, err := a.parse(tokenListing(true), c.query, a.env.now())
	if err != nil {
		return a.badQuery(err)
	}
	page, next := pageOf(a.users.ordered(q), q)
	return reply(http.StatusOK, accessPage[accessToken]{Data: a.tokenRecords(page), Links: a.links(c, next)})
}

// ordered is the list in the query's order; orders other than the plain one are
// sorted once and kept until the list changes.
func (l *tokenList) ordered(q *listQuery) []*atlassianToken {
	if q.sort == "" {
		return l.rows
	}
	name := q.sort
	if q.desc {
		name = "-" + name
	}
	rows, ok := l.sorted[name]
	if !ok {
		rows = ordered(l.rows, q)
		if l.sorted == nil {
			l.sorted = map[string][]*atlassianToken{}
		}
		l.sorted[name] = rows
	}
	return rows
}

func (a *atlassian) countTokens(c *call, _ []string) answer {
	now := a.env.now()
	q, err := a.parse(tokenListing(false), c.query, now)
	if err != nil {
		return a.badQuery(err)
	}
	if now < a.lagUntil && !q.filtered() {
		return reply(http.StatusOK, a.lagCount)
	}
	return reply(http.StatusOK, countOf(a.users.rows, q))
}

// revoked is the success of a bulk or key revocation.
func (a *atlassian) revoked() answer {
	if a.opts.RevokeStatus == http.StatusOK {
		return reply(http.StatusOK, map[string]any{})
	}
	return reply(a.opts.RevokeStatus, nil)
}

// revokeAll ends every user token, whatever body or query came along.
func (a *atlassian) revokeAll(c *call, _ []string) answer {
	a.lagUntil, a.lagCount = a.env.now()+a.opts.CountLag.Milliseconds(), len(a.users.rows)
	a.removeAll(&a.users, c.seq)
	return a.revoked()
}

func (a *atlassian) serviceAccount(id string) *atlassianAccount {
	if account := a.accounts[id]; account != nil && account.service {
		return account
	}
	return nil
}

func (a *atlassian) countServiceTokens(c *call, _ []string) answer {
	var ids []string
	if err := decode(c.body, &ids); err != nil {
		return a.appError(http.StatusBadRequest, "Bad Request", "The body must be an array of service account ids.")
	}
	if len(ids) < 1 || len(ids) > 100 {
		return a.appError(http.StatusBadRequest, "Bad Request", "The number of ids must be 1 to 100.")
	}
	type valid struct {
		ID    string `json:"serviceAccountId"`
		Count int    `json:"credentialsCount"`
	}
	body := struct {
		Valid   []valid  `json:"validServiceAccountIds"`
		Invalid []string `json:"invalidServiceAccountIds"`
		Canary  string   `json:"sandboxCanary,omitempty"`
	}{[]valid{}, []string{}, a.env.marker()}
	for _, id := range ids {
		if account := a.serviceAccount(id); account != nil {
			body.Valid = append(body.Valid, valid{id, len(account.tokens)})
		} else {
			body.Invalid = append(body.Invalid, id)
		}
	}
	return reply(http.StatusOK, body)
}

func (a *atlassian) listServiceTokens(c *call, args []string) answer {
	account := a.serviceAccount(args[0])
	if account == nil {
		return a.appError(http.StatusNotFound, "Not Found", "Service account not found.")
	}
	return reply(http.StatusOK, a.tokenRecords(a.labelled(account.tokens, c.query.Get("tokenLabel"))))
}

func (a *atlassian) listAllServiceTokens(c *call, _ []string) answer {
	return reply(http.StatusOK, a.tokenRecords(a.labelled(a.services.rows, c.query.Get("tokenLabel"))))
}

func (a *atlassian) labelled(tokens []*atlassianToken, label string) []*atlassianToken {
	if label == "" {
		return tokens
	}
	var found []*atlassianToken
	for _, t := range tokens {
		if t.label == label || (a.opts.PartialTokenLabel && strings.Contains(t.label, label)) {
			found = append(found, t)
		}
	}
	return found
}

func (a *atlassian) revokeServiceTokens(c *call, args []string) answer {
	account := a.serviceAccount(args[0])
	if account == nil {
		return a.appError(http.StatusNotFound, "Not Found", "Service account not found.")
	}
	for _, t := range slices.Clone(account.tokens) {
		a.note(TokenDeleted, t, c.seq)
		a.remove(t)
	}
	return a.revoked()
}

// serviceAccountRecord is a row of the experimental listing; its updatedAt is a
// number, unlike every other date here.
type serviceAccountRecord struct {
	AtlassianID string `json:"atlassianId"`
	ID          string `json:"id"`
	Email       string `json:"email"`
	DisplayName string `json:"displayName"`
	Picture     string `json:"picture"`
	Container   string `json:"container"`
	UpdatedAt   int64  `json:"updatedAt"`
	Status      string `json:"status"`
	CreatedByID string `json:"createdById"`
	Description string `json:"description"`
	Canary      string `json:"sandboxCanary,omitempty"`
}

// listServiceAccounts pages by a cursor that is the number of rows before.
func (a *atlassian) listServiceAccounts(c *call, _ []string) answer {
	start, size := 0, a.opts.DefaultPageSize
	var err error
	if text := c.query.Get("cursor"); text != "" {
		if start, err = strconv.Atoi(text); err != nil || start < 0 {
			return a.appError(http.StatusBadRequest, "Bad Request", "Unknown cursor.")
		}
	}
	if text := c.query.Get("pageSize"); text != "" {
		if size, err = strconv.Atoi(text); err != nil || size < 1 || size > a.opts.MaxPageSize {
			return a.appError(http.StatusBadRequest, "Bad Request", "Bad pageSize.")
		}
	}
	rows := []serviceAccountRecord{}
	for _, account := range a.order {
		if account.service {
			rows = append(rows, serviceAccountRecord{
				AtlassianID: account.id, ID: account.internalID, Email: account.email,
				DisplayName: account.name, Picture: "https://avatars.example/default.png", Container: atlassianOrg,
				UpdatedAt: account.updated, Status: "ACTIVE", CreatedByID: a.order[0].id, Description: account.description,
				Canary: a.env.marker(),
			})
		}
	}
	total := len(rows)
	start = min(start, total)
	end := min(start+size, total)
	links := map[string]any{"next": "", "prev": ""}
	if end < total {
		links["next"] = strconv.Itoa(end)
	}
	return reply(http.StatusOK, map[string]any{"links": links, "items": rows[start:end], "total": total})
}

func (a *atlassian) listKeys(c *call, _ []string) answer {
	q, err := a.parse(keyListing(true), c.query, a.env.now())
	if err != nil {
		return a.badQuery(err)
	}
	page, next := pageOf(ordered(a.keys, q), q)
	records := make([]accessKey, 0, len(page))
	for _, k := range page {
		record := accessKey{
			ID: k.id, Label: k.label, CreatedAt: isoMillis(k.created), ExpiresAt: a.date(k.expires),
			LastActiveAt: a.date(k.lastActive), SystemAccountID: k.systemAccount, Resource: "ari:cloud:platform::org/" + atlassianOrg,
			OrgID: atlassianOrg, CreatedBy: accessUser{ID: k.createdBy.id, Name: k.createdBy.name, Email: k.createdBy.email},
			Scopes: k.scopes, TargetResources: []string{}, Canary: a.env.marker(),
		}
		if record.Scopes == nil {
			record.Scopes = []string{}
		}
		records = append(records, record)
	}
	return reply(http.StatusOK, accessPage[accessKey]{Data: records, Links: a.links(c, next)})
}

func (a *atlassian) countKeys(c *call, _ []string) answer {
	q, err := a.parse(keyListing(false), c.query, a.env.now())
	if err != nil {
		return a.badQuery(err)
	}
	return reply(http.StatusOK, countOf(a.keys, q))
}

func (a *atlassian) revokeKey(_ *call, args []string) answer {
	i := slices.IndexFunc(a.keys, func(k *atlassianKey) bool { return k.id == args[0] })
	if i < 0 {
		return a.appError(http.StatusNotFound, "Not Found", "API key not found.")
	}
	a.keys[i].revoked = true
	a.keys = slices.Delete(a.keys, i, i+1)
	return a.revoked()
}
