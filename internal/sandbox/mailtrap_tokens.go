package sandbox

import (
	"bytes"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// mtRecord is a token as Mailtrap writes it (facts: Mailtrap API reference, API tokens).
type mtRecord struct {
	Resources []MailtrapResource `json:"resources"`
	ID        int64              `json:"id"`
	Name      string             `json:"name"`
	LastFour  string             `json:"last_4_digits"`
	CreatedBy string             `json:"created_by"`
	ExpiresAt *string            `json:"expires_at"`
	Token     string             `json:"token,omitempty"`
	Kind      string             `json:"kind"` // undocumented: clients must ignore it
	Canary    string             `json:"sandboxCanary,omitempty"`
}

// tokenRoutes lists the endpoints in their short form. Scope "admin" needs admin
// access to something.
func (m *mailtrap) tokenRoutes() []route {
	return []route{
		newRoute("GET", "/api/api_tokens", "admin", m.list),
		newRoute("POST", "/api/api_tokens", "admin", m.create),
		newRoute("GET", "/api/api_tokens/*", "admin", m.get),
		newRoute("DELETE", "/api/api_tokens/*", "admin", m.delete),
		newRoute("POST", "/api/api_tokens/*/reset", "admin", m.reset),
		newRoute("GET", "/api/permissions/resources", "", m.resourceTree),
		newRoute("GET", "/api/accounts", "", m.accounts),
	}
}

func (m *mailtrap) caller(c *call) *mtToken {
	id, _ := strconv.ParseInt(c.caller, 10, 64)
	return m.byID[id]
}

func (m *mailtrap) record(t *mtToken) mtRecord {
	record := mtRecord{
		Resources: t.resources, ID: t.id, Name: t.name, LastFour: t.secret.lastFour(), CreatedBy: t.createdBy,
		Kind: "api", Canary: m.env.marker(),
	}
	if m.opts.OldResourceWords {
		record.Resources = slices.Clone(t.resources)
		for i := range record.Resources {
			record.Resources[i].ResourceType = oldWord(record.Resources[i].ResourceType)
		}
	}
	if t.expires != 0 {
		text := isoMillis(t.expires)
		record.ExpiresAt = &text
	}
	return record
}

// whole is the record with the secret, as create and reset answer it.
func (m *mailtrap) whole(t *mtToken) mtRecord {
	record := m.record(t)
	record.Token = t.secret.hex()
	return record
}

// oldWord and newWord translate between the words before and since May 2026.
func oldWord(kind string) string {
	switch kind {
	case "sandbox":
		return "inbox"
	case "domain":
		return "sending_domain"
	default:
		return kind
	}
}

func newWord(kind string) string {
	switch kind {
	case "inbox":
		return "sandbox"
	case "sending_domain":
		return "domain"
	default:
		return kind
	}
}

func (m *mailtrap) list(c *call, _ []string) answer {
	caller := m.caller(c)
	records := make([]mtRecord, 0, len(m.tokens))
	all := m.level(caller, "account", mailtrapAccount) >= levelAdmin
	for _, t := range m.tokens {
		if all || m.sees(caller, t) {
			records = append(records, m.record(t))
		}
	}
	return m.tagged(c, records)
}

// tagged is a successful GET with its weak Etag.
func (m *mailtrap) tagged(c *call, value any) answer {
	h := fnv.New64a()
	_, _ = fmt.Fprintf(h, "%s %s %d", c.caller, strings.Join(c.path, "/"), m.version)
	a := reply(http.StatusOK, value)
	a.header.Set("Etag", fmt.Sprintf(`W/"%016x"`, h.Sum64()))
	return a
}

// one finds a token that the caller may see.
func (m *mailtrap) one(c *call, text string) *mtToken {
	id, err := strconv.ParseInt(text, 10, 64)
	if t := m.byID[id]; err == nil && t != nil && m.sees(m.caller(c), t) {
		return t
	}
	return nil
}

func (m *mailtrap) get(c *call, args []string) answer {
	t := m.one(c, args[0])
	if t == nil {
		return m.notFound()
	}
	return m.tagged(c, m.record(t))
}

// mtInput is the body of a create or reset. Members of the wrong type count as absent.
type mtInput struct {
	Name      json.RawMessage `json:"name"`
	Resources json.RawMessage `json:"resources"`
	ExpiresAt json.RawMessage `json:"expires_at"`
}

// input reads the body. Without the JSON content type the vendor's framework sees
// no parameters at all.
func (m *mailtrap) input(c *call) (mtInput, *answer) {
	var in mtInput
	if len(c.body) == 0 || !c.isJSON() {
		return in, nil
	}
	if err := decode(c.body, &in); err != nil {
		refused := m.refused(http.StatusBadRequest, "Bad Request")
		return in, &refused
	}
	return in, nil
}

func (m *mailtrap) create(c *call, _ []string) answer {
	in, refused := m.input(c)
	if refused != nil {
		return *refused
	}
	resources, refused := m.readResources(in.Resources)
	if refused != nil {
		return *refused
	}
	if !m.commands(m.caller(c), resources) {
		return m.refused(http.StatusForbidden, "Access forbidden")
	}
	var name string
	if err := json.Unmarshal(in.Name, &name); err != nil || strings.TrimSpace(name) == "" {
		return m.unprocessable("name", "can't be blank")
	}
	if utf8.RuneCountInString(name) > maxName {
		return m.tooLong()
	}
	expires, refused := m.readExpiry(in.ExpiresAt)
	if refused != nil {
		return *refused
	}
	if (in.ExpiresAt == nil || m.opts.IgnoreExpiresAt) && m.opts.DefaultLife > 0 {
		expires = m.env.now() + m.opts.DefaultLife.Milliseconds()
	}
	t := &mtToken{id: m.nextID(), name: name, createdBy: m.caller(c).name, expires: expires, resources: resources}
	m.insert(t)
	m.note(TokenMade, t, c.seq, "")
	return reply(http.StatusOK, m.whole(t))
}

// maxName is the longest name, in characters: not published, but checked by an
// official SDK.
const maxName = 255

func (m *mailtrap) tooLong() answer {
	return m.unprocessable("name", fmt.Sprintf("is too long (maximum is %d characters)", maxName))
}

// readResources checks the permissions, which the vendor does before anything else.
func (m *mailtrap) readResources(raw json.RawMessage) ([]MailtrapResource, *answer) {
	refuse := func(message string) ([]MailtrapResource, *answer) {
		refused := m.unprocessable("base", message)
		return nil, &refused
	}
	var inputs []struct {
		Type  *string         `json:"resource_type"`
		ID    json.RawMessage `json:"resource_id"`
		Level *int            `json:"access_level"`
	}
	if err := json.Unmarshal(raw, &inputs); err != nil || len(inputs) == 0 {
		return refuse("No permissions selected. Please choose at least one.")
	}
	resources := make([]MailtrapResource, 0, len(inputs))
	for _, in := range inputs {
		if in.Type == nil || in.ID == nil || in.Level == nil {
			return refuse("resource_type, resource_id and access_level are required")
		}
		// An older server knows the old words only; today both are in circulation.
		kind, known := newWord(*in.Type), true
		if m.opts.OldResourceWords {
			known = oldWord(kind) == *in.Type
		}
		id, err := strconv.ParseInt(string(bytes.Trim(in.ID, `"`)), 10, 64)
		if err != nil || !known || !m.exists(kind, id) {
			return refuse("Resource not found")
		}
		if *in.Level != levelViewer && *in.Level != levelAdmin {
			return refuse("Access level is not included in the list")
		}
		resources = append(resources, MailtrapResource{ResourceType: kind, ResourceID: id, AccessLevel: *in.Level})
	}
	return resources, nil
}

// readExpiry reads expires_at: 0 for absent or null.
func (m *mailtrap) readExpiry(raw json.RawMessage) (int64, *answer) {
	if raw == nil || string(raw) == "null" || m.opts.IgnoreExpiresAt {
		return 0, nil
	}
	refuse := func(field, message string) (int64, *answer) {
		refused := m.unprocessable(field, message)
		return 0, &refused
	}
	var text string
	if err := json.Unmarshal(raw, &text); err != nil {
		return refuse("expires_at", "is invalid")
	}
	at, err := parseDate(text)
	now := m.env.now()
	switch {
	case err != nil:
		return refuse("expires_at", "is invalid")
	case at <= now:
		return refuse("base", "Expiration date must be in the future")
	case at > time.UnixMilli(now).AddDate(5, 0, 0).UnixMilli():
		return refuse("base", "Expiration date must be at most 5 years ahead")
	}
	return at, nil
}

// delete ends a token, also one in its grace period. The last token of a sending
// domain cannot be deleted.
func (m *mailtrap) delete(c *call, args []string) answer {
	t := m.one(c, args[0])
	if t == nil {
		return m.notFound()
	}
	for _, r := range t.resources {
		if r.ResourceType == "domain" && !m.opts.DeleteLastDomainToken && m.domainTokens(r.ResourceID) == 1 {
			return m.unprocessable("base", "The last token of a sending domain cannot be deleted")
		}
	}
	m.note(TokenDeleted, t, c.seq, "")
	m.remove(t)
	return reply(http.StatusNoContent, nil)
}

func (m *mailtrap) domainTokens(domain int64) int {
	count := 0
	for _, t := range m.tokens {
		if slices.ContainsFunc(t.resources, func(r MailtrapResource) bool { return r.ResourceType == "domain" && r.ResourceID == domain }) {
			count++
		}
	}
	return count
}

// reset makes a second record with a new id and secret; the old one lives on
// until its grace period ends.
func (m *mailtrap) reset(c *call, args []string) answer {
	old := m.one(c, args[0])
	if old == nil {
		return m.notFound()
	}
	in, refused := m.input(c)
	if refused != nil {
		return *refused
	}
	now := m.env.now()
	expiring := old.expires != 0 && (!m.opts.ResetExpiring || now >= old.expires)
	if expiring || old.replaced {
		return m.unprocessable("base", "Only tokens without expiration can be reset")
	}
	expires, refused := m.readExpiry(in.ExpiresAt)
	if refused != nil {
		return *refused
	}
	id := m.nextID()
	t := &mtToken{
		id: id, name: fmt.Sprintf("%s %d", old.name, id), createdBy: m.caller(c).name, expires: expires,
		resources: slices.Clone(old.resources),
	}
	if utf8.RuneCountInString(t.name) > maxName {
		return m.tooLong()
	}
	old.replaced, old.expires = true, now+m.opts.Grace.Milliseconds()
	m.ending = append(m.ending, old)
	m.insert(t)
	m.note(TokenMade, t, c.seq, old.text())
	return reply(http.StatusOK, m.whole(t))
}

// mtResource is a node of the resource tree.
type mtResource struct {
	ID          int64        `json:"id"`
	Name        string       `json:"name"`
	Type        string       `json:"type"`
	AccessLevel int          `json:"access_level"`
	Resources   []mtResource `json:"resources"`
}

// resourceTree shows what the caller administers: below the account when it
// administers that, else as a list of trees.
func (m *mailtrap) resourceTree(c *call, _ []string) answer {
	caller := m.caller(c)
	node := func(n mtNode, kind string) (mtResource, bool) {
		level := m.level(caller, kind, n.id)
		if m.opts.OldResourceWords {
			return mtResource{n.id, n.name, oldWord(kind), level, []mtResource{}}, level >= levelAdmin
		}
		return mtResource{n.id, n.name, kind, level, []mtResource{}}, level >= levelAdmin
	}
	nodes := []mtResource{}
	for _, p := range m.projects {
		project, visible := node(p.mtNode, "project")
		for _, n := range p.sandboxes {
			if sandbox, ok := node(n, "sandbox"); ok {
				project.Resources, visible = append(project.Resources, sandbox), true
			}
		}
		if visible {
			nodes = append(nodes, project)
		}
	}
	for _, n := range m.domains {
		if domain, ok := node(n, "domain"); ok {
			nodes = append(nodes, domain)
		}
	}
	if account, ok := node(mtNode{mailtrapAccount, "Acme"}, "account"); ok {
		account.Resources = nodes
		nodes = []mtResource{account}
	}
	return m.tagged(c, nodes)
}

func (m *mailtrap) accounts(c *call, _ []string) answer {
	level := max(m.level(m.caller(c), "account", mailtrapAccount), 1)
	return m.tagged(c, []any{map[string]any{"id": mailtrapAccount, "name": "Acme", "access_levels": []int{level}}})
}
