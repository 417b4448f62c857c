package sandbox

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
)

// ldRecord is an access token as LaunchDarkly writes it (facts: LaunchDarkly
// OpenAPI, schema Token).
type ldRecord struct {
	ID                string         `json:"_id"`
	OwnerID           string         `json:"ownerId"`
	MemberID          string         `json:"memberId"`
	Member            ldMemberRecord `json:"_member"`
	Name              string         `json:"name,omitempty"`
	Description       string         `json:"description,omitempty"`
	CreationDate      int64          `json:"creationDate"`
	LastModified      int64          `json:"lastModified"`
	LastUsed          *int64         `json:"lastUsed,omitempty"`
	Role              string         `json:"role,omitempty"`
	CustomRoleIDs     []string       `json:"customRoleIds"`
	InlineRole        []Statement    `json:"inlineRole"`
	Token             string         `json:"token"`
	ServiceToken      bool           `json:"serviceToken"`
	DefaultAPIVersion int            `json:"defaultApiVersion"`
	Links             ldOwnLinks     `json:"_links"`
	Canary            string         `json:"sandboxCanary,omitempty"`
}

type ldMemberRecord struct {
	Links     ldOwnLinks `json:"_links"`
	ID        string     `json:"_id"`
	FirstName string     `json:"firstName,omitempty"`
	LastName  string     `json:"lastName,omitempty"`
	Role      string     `json:"role"`
	Email     string     `json:"email"`
}

// ldOwnLinks are the links of one record.
type ldOwnLinks struct {
	Parent *ldLink `json:"parent,omitempty"`
	Self   ldLink  `json:"self"`
}

type ldLink struct {
	Href string `json:"href"`
	Type string `json:"type"`
}

func linkTo(href string) ldLink { return ldLink{Href: href, Type: "application/json"} }

const tokensPath = "/api/v2/tokens"

// tokenRoutes lists the endpoints; a route's scope is the token action that it needs.
func (l *launchDarkly) tokenRoutes() []route {
	return []route{
		newRoute("GET", tokensPath, "", l.list),
		newRoute("POST", tokensPath, actionCreate, l.create),
		newRoute("GET", tokensPath+"/*", "", l.get),
		newRoute("PATCH", tokensPath+"/*", actionUpdate, l.patch),
		newRoute("POST", tokensPath+"/*/reset", actionReset, l.reset),
		newRoute("DELETE", tokensPath+"/*", actionDelete, l.delete),
		newRoute("GET", "/api/v2/caller-identity", "", l.callerIdentity),
	}
}

func (l *launchDarkly) record(t *ldToken) ldRecord {
	m := t.member
	record := ldRecord{
		ID: t.id, OwnerID: l.accountID, MemberID: m.id, Name: t.name, Description: t.description,
		Member: ldMemberRecord{
			ID: m.id, FirstName: m.firstName, LastName: m.lastName, Role: m.role, Email: m.email,
			Links: ldOwnLinks{Self: linkTo("/api/v2/members/" + m.id)},
		},
		CreationDate: t.created, LastModified: t.modified, Role: t.role, CustomRoleIDs: t.customRoles, InlineRole: t.inlineRole,
		Token: t.secret.lastFour(), ServiceToken: t.service, DefaultAPIVersion: t.version,
		Links:  ldOwnLinks{Parent: &l.tokensLink, Self: linkTo(tokensPath + "/" + t.id)},
		Canary: l.env.marker(),
	}
	if used := t.used; used != 0 || !l.opts.OmitNeverUsed {
		record.LastUsed = &used
	}
	if record.CustomRoleIDs == nil {
		record.CustomRoleIDs = []string{}
	}
	if record.InlineRole == nil {
		record.InlineRole = []Statement{}
	}
	return record
}

// whole is the record with the whole secret, as create and reset answer it.
func (l *launchDarkly) whole(t *ldToken) ldRecord {
	record := l.record(t)
	record.Token = "api-" + t.secret.uuid()
	return record
}

func (l *launchDarkly) list(c *call, _ []string) answer {
	caller := l.byID[c.caller]
	limit, err := queryNumber(c.query, "limit", 25)
	offset, offsetErr := queryNumber(c.query, "offset", 0)
	if err != nil || offsetErr != nil {
		return l.invalid("limit and offset must be numbers that are not negative")
	}
	if limit == 0 {
		limit = 25
	}
	limit = min(limit, l.opts.MaxLimit)
	visible := l.visible(caller, c.query.Get("showAll") == "true")
	total := len(visible)
	paged := l.version(c, caller) >= newestVersion
	if paged {
		start := min(offset, total)
		visible = visible[start:min(start+limit, total)]
	}
	records := make([]ldRecord, 0, len(visible))
	for _, t := range visible {
		records = append(records, l.record(t))
	}
	body := map[string]any{"items": records}
	if !paged {
		body["_links"] = map[string]ldLink{"self": linkTo(tokensPath)}
		return reply(http.StatusOK, body)
	}
	body["totalCount"] = total
	if l.opts.TotalCountIsPage {
		body["totalCount"] = len(records)
	}
	body["_links"] = pageLinks(c.query.Get("showAll"), limit, offset, total)
	return reply(http.StatusOK, body)
}

func queryNumber(query url.Values, name string, def int) (int, error) {
	if !query.Has(name) {
		return def, nil
	}
	number, err := strconv.ParseInt(query.Get(name), 10, 64)
	if err != nil || number < 0 {
		return 0, fmt.Errorf("%s is not a number of at least 0", name)
	}
	return int(min(number, 1<<40)), nil
}

// visible is what the caller sees, without a copy where that is everything.
func (l *launchDarkly) visible(caller *ldToken, all bool) []*ldToken {
	if caller.role == "admin" && (all || caller.service) {
		return l.tokens
	}
	tokens := make([]*ldToken, 0, len(l.tokens)/2)
	for _, t := range l.tokens {
		if l.sees(caller, t, all) {
			tokens = append(tokens, t)
		}
	}
	return tokens
}

// version is the API version of the request: the header's, else the token's own.
func (l *launchDarkly) version(c *call, caller *ldToken) int {
	switch header := c.header.Get("LD-API-Version"); header {
	case "":
		return caller.version
	case "beta":
		return newestVersion
	default:
		number, _ := strconv.Atoi(header) // checked in handle
		return number
	}
}

func pageLinks(showAll string, limit, offset, total int) map[string]ldLink {
	at := func(offset int) ldLink {
		href := tokensPath + "?limit=" + strconv.Itoa(limit)
		if offset > 0 {
			href += "&offset=" + strconv.Itoa(offset)
		}
		if showAll != "" {
			href += "&showAll=" + url.QueryEscape(showAll)
		}
		return linkTo(href)
	}
	links := map[string]ldLink{"self": at(offset), "last": at(max(total-1, 0) / limit * limit)}
	if offset > 0 {
		links["first"] = at(0)
		links["prev"] = at(max(offset-limit, 0))
	}
	if offset+limit < total {
		links["next"] = at(offset + limit)
	}
	return links
}

// one finds a token that the caller may see; an admin sees all by id.
func (l *launchDarkly) one(c *call, id string) (*ldToken, *answer) {
	caller, t := l.byID[c.caller], l.byID[id]
	if t != nil && l.sees(caller, t, true) {
		return t, nil
	}
	refused := l.notFound()
	if t != nil && l.opts.HiddenStatus == http.StatusForbidden {
		refused = l.forbidden()
	}
	return nil, &refused
}

func (l *launchDarkly) get(c *call, args []string) answer {
	t, refused := l.one(c, args[0])
	if refused != nil {
		return *refused
	}
	return reply(http.StatusOK, l.record(t))
}

// ldInput is the body of a create.
type ldInput struct {
	Name              string      `json:"name"`
	Description       string      `json:"description"`
	Role              string      `json:"role"`
	CustomRoleIDs     []string    `json:"customRoleIds"`
	InlineRole        []Statement `json:"inlineRole"`
	ServiceToken      bool        `json:"serviceToken"`
	DefaultAPIVersion *int        `json:"defaultApiVersion"`
}

func (l *launchDarkly) create(c *call, _ []string) answer {
	var in ldInput
	if err := decode(c.body, &in); err != nil {
		return l.invalid("Invalid request body")
	}
	caller, now := l.byID[c.caller], l.env.now()
	t := &ldToken{
		id: objectID(l.ids, now), name: in.Name, description: in.Description, member: caller.member, created: now, modified: now,
		role: in.Role, inlineRole: in.InlineRole, service: in.ServiceToken, version: newestVersion,
	}
	if in.DefaultAPIVersion != nil {
		if t.version = *in.DefaultAPIVersion; !slices.Contains(knownVersions(), t.version) {
			return l.invalid("Unknown defaultApiVersion")
		}
	}
	for _, idOrKey := range in.CustomRoleIDs {
		role := l.role(idOrKey)
		if role == nil {
			return l.invalid("Unknown custom role " + idOrKey)
		}
		t.customRoles = append(t.customRoles, role.ID)
	}
	if problem := checkAccess(t); problem != "" {
		return l.invalid(problem)
	}
	if !l.mayGive(caller, t) {
		return l.forbidden()
	}
	l.insert(t)
	l.note(TokenMade, t, c.seq)
	return reply(http.StatusCreated, l.whole(t))
}

// checkAccess wants exactly one of role, customRoleIds and inlineRole.
func checkAccess(t *ldToken) string {
	given := 0
	for _, set := range []bool{t.role != "", len(t.customRoles) > 0, len(t.inlineRole) > 0} {
		if set {
			given++
		}
	}
	if given != 1 {
		return "Exactly one of role, customRoleIds and inlineRole must be given"
	}
	if t.role != "" && !slices.Contains([]string{"reader", "writer", "admin"}, t.role) {
		return "Unknown role " + t.role
	}
	for _, s := range t.inlineRole {
		if s.Effect != "allow" && s.Effect != "deny" {
			return "The effect of a statement must be allow or deny"
		}
		if (len(s.Resources) > 0) == (len(s.NotResources) > 0) || (len(s.Actions) > 0) == (len(s.NotActions) > 0) {
			return "A statement needs either resources or notResources, and either actions or notActions"
		}
	}
	return ""
}

// mayGive tells whether the caller has the power that the token would have: an
// admin has all; a custom role may give reader, its own custom roles, and what
// does not manage tokens.
func (l *launchDarkly) mayGive(caller, t *ldToken) bool {
	switch {
	case caller.role == "admin" || t.role == "reader":
		return true
	case t.role != "":
		return false
	}
	for _, id := range t.customRoles {
		if !slices.Contains(caller.customRoles, id) {
			return false
		}
	}
	return len(t.inlineRole) == 0
}

func (l *launchDarkly) patch(c *call, args []string) answer {
	t, refused := l.one(c, args[0])
	if refused != nil {
		return *refused
	}
	ops, err := parsePatch(c.body)
	if err != nil {
		return l.invalid(err.Error())
	}
	changed, failure := l.patched(t, ops)
	if failure != nil {
		return l.fail(failure.status, failure.code, failure.message)
	}
	if problem := checkAccess(changed); problem != "" {
		return l.invalid(problem)
	}
	for _, id := range changed.customRoles {
		if role := l.role(id); role == nil || role.ID != id {
			return l.invalid("Unknown custom role id " + id)
		}
	}
	if !l.mayGive(l.byID[c.caller], changed) {
		return l.forbidden()
	}
	t.name, t.description, t.role = changed.name, changed.description, changed.role
	t.customRoles, t.inlineRole = changed.customRoles, changed.inlineRole
	t.modified = l.env.now()
	l.note(TokenUpdated, t, c.seq)
	return reply(http.StatusOK, l.record(t))
}

// reset mints a new secret under the same id. The old one works until expiry, in
// epoch milliseconds; absent or past, it dies at once. A body is ignored.
func (l *launchDarkly) reset(c *call, args []string) answer {
	t, refused := l.one(c, args[0])
	if refused != nil {
		return *refused
	}
	now, expiry := l.env.now(), int64(0)
	if text := c.query.Get("expiry"); text != "" {
		var err error
		if expiry, err = strconv.ParseInt(text, 10, 64); err != nil {
			return l.invalid("expiry must be a Unix epoch in milliseconds")
		}
	}
	if !l.opts.KeepOverlaps || expiry <= now {
		for _, secret := range t.overlaps {
			delete(l.bySecret, secret)
		}
		t.overlaps = nil
	}
	if expiry > now {
		l.bySecret[t.secret] = ldSecret{token: t, until: expiry}
		t.overlaps = append(t.overlaps, t.secret)
	} else {
		delete(l.bySecret, t.secret)
	}
	l.give(t)
	t.modified = now
	l.note(TokenReset, t, c.seq)
	return reply(http.StatusOK, l.whole(t))
}

func (l *launchDarkly) delete(c *call, args []string) answer {
	t, refused := l.one(c, args[0])
	if refused != nil {
		return *refused
	}
	l.note(TokenDeleted, t, c.seq)
	l.remove(t)
	return reply(http.StatusNoContent, nil)
}

func (l *launchDarkly) callerIdentity(c *call, _ []string) answer {
	t := l.byID[c.caller]
	body := map[string]any{
		"accountId": l.accountID, "authKind": "token", "tokenKind": "auth", "tokenName": t.name, "tokenId": t.id,
		"memberId": t.member.id, "serviceToken": t.service, "scopes": []string{},
	}
	if marker := l.env.marker(); marker != "" {
		body["sandboxCanary"] = marker
	}
	return reply(http.StatusOK, body)
}
