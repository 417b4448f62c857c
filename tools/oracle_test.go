package tools_test

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/tokenreeve/tokenreeve/internal/sandbox"
)

// fact is what is true of one token, in the words of the tools. It is worked out
// from the sandbox's state and from what each vendor tells, never from our code.
type fact struct {
	connection, id             string
	name                       string // as the vendor has it
	ownerID, owner, email      string
	kind, status, access       string
	created, lastUsed, expires date
	own                        bool
	lastFour                   string
}

// date is a moment; or there is none; or, with neither, nobody tells.
type date struct {
	at    time.Time
	never bool
}

func moment(at time.Time) date { return date{at: at} }

func (d date) known() bool { return !d.at.IsZero() }

// orNever is the date at a vendor that tells when there is none.
func orNever(at time.Time) date { return date{at: at, never: at.IsZero()} }

// full is the date as a full row writes it.
func (d date) full() string {
	switch {
	case d.never:
		return "never"
	case !d.known():
		return "unknown"
	default:
		return d.at.UTC().Format(time.RFC3339)
	}
}

// concise is the date as a concise row writes it.
func (d date) concise() string {
	switch {
	case d.never:
		return "never"
	case !d.known():
		return ""
	default:
		return d.at.UTC().Format(time.DateOnly)
	}
}

// hasHiddenText tells a name that no result may show as it is.
func (f fact) hasHiddenText() bool {
	return strings.ContainsFunc(f.name, isHidden) || utf8.RuneCountInString(f.name) > 120
}

// facts returns every token that the main credentials can see, under the names
// of oneOfEach.
func (h *harness) facts() []fact {
	return slices.Concat(h.atlassianFacts(), h.launchDarklyFacts(), h.mailtrapFacts())
}

// factsAt returns the facts of one of oneOfEach.
func (h *harness) factsAt(connection string) []fact {
	return slices.DeleteFunc(h.facts(), func(f fact) bool { return f.connection != connection })
}

// atlassianFacts are those of API Access, which leaves out dates that it does
// not know as well as those that there are none of.
func (h *harness) atlassianFacts() []fact {
	var facts []fact
	for _, t := range h.box.AtlassianTokens() {
		if t.Unmanaged {
			continue
		}
		f := fact{
			connection: atlassianName, id: t.ID, name: t.Label, ownerID: t.AccountID, owner: t.OwnerName, email: t.OwnerEmail,
			kind: "user", status: "active", access: "unknown",
			created: moment(t.CreatedAt), lastUsed: moment(t.LastActiveAt), expires: moment(t.ExpiresAt),
		}
		if t.ServiceAccount {
			f.kind = "service"
		}
		if len(t.Scopes) > 0 {
			f.access = "custom"
		}
		if t.Status == "BLOCKED" {
			f.status = "blocked"
		}
		if h.isPast(f.expires) {
			f.status = "expired"
		}
		facts = append(facts, f)
	}
	return facts
}

func (h *harness) isPast(d date) bool { return d.known() && !d.at.After(h.clock.Now()) }

func (h *harness) launchDarklyFacts() []fact {
	var facts []fact
	for _, t := range h.box.LaunchDarklyTokens() {
		f := fact{
			connection: launchDarklyName, id: t.ID, name: t.Name, ownerID: t.MemberID, owner: t.MemberName, email: t.MemberEmail,
			kind: "user", status: "active", access: "custom", lastFour: t.LastFour,
			created: moment(t.CreatedAt), lastUsed: orNever(t.LastUsed), expires: date{never: true},
			own: t.ID == h.access.LaunchDarkly.TokenID,
		}
		if t.ServiceToken {
			f.kind = "service"
		}
		switch t.Role {
		case "admin":
			f.access = "admin"
		case "writer":
			f.access = "write"
		case "reader":
			f.access = "read"
		}
		facts = append(facts, f)
	}
	return facts
}

func (h *harness) mailtrapFacts() []fact {
	var facts []fact
	credential := h.access.Mailtrap.Credential
	for _, t := range h.box.MailtrapTokens() {
		f := fact{
			connection: mailtrapName, id: strconv.FormatInt(t.ID, 10), name: t.Name, kind: "unknown", status: "active", access: "read",
			expires: orNever(t.ExpiresAt), own: strings.HasSuffix(credential, t.LastFour), lastFour: t.LastFour,
		}
		if h.isPast(f.expires) {
			f.status = "expired"
		}
		for _, r := range t.Resources {
			switch {
			case r.ResourceType == "account" && r.AccessLevel >= 100:
				f.access = "admin"
			case r.AccessLevel != 10 && f.access != "admin":
				f.access = "custom"
			}
		}
		facts = append(facts, f)
	}
	return facts
}

// verdict is what a filter says of a fact.
type verdict int

const (
	no verdict = iota
	undecided
	yes
)

func decided(matches bool) verdict {
	if matches {
		return yes
	}
	return no
}

// predicate is a filter in plain words.
type predicate func(fact) verdict

// both holds where all predicates hold; one that does not hold is enough for no,
// whatever is unknown.
func both(ps ...predicate) predicate {
	return func(f fact) verdict {
		v := yes
		for _, p := range ps {
			v = min(v, p(f))
		}
		return v
	}
}

func anyToken(fact) verdict { return yes }

func word(of func(fact) string, asked string) predicate {
	return func(f fact) verdict {
		is := of(f)
		if is == "unknown" && asked != "unknown" {
			return undecided
		}
		return decided(is == asked)
	}
}

func kindOf(f fact) string   { return f.kind }
func statusOf(f fact) string { return f.status }
func accessOf(f fact) string { return f.access }

func ownedBy(owner string) predicate {
	return func(f fact) verdict {
		if f.ownerID == "" && f.email == "" {
			return undecided // Mailtrap tells no owner
		}
		return decided(f.ownerID == owner || strings.EqualFold(f.email, owner))
	}
}

func ofServiceAccounts(ids ...string) predicate {
	return func(f fact) verdict {
		if f.kind == "unknown" {
			return undecided
		}
		return decided(f.kind == "service" && slices.Contains(ids, f.ownerID))
	}
}

func containing(text string) predicate {
	return func(f fact) verdict {
		all := strings.ToLower(f.name + "\n" + f.owner + "\n" + f.email)
		return decided(strings.Contains(all, strings.ToLower(text)))
	}
}

func createdWithin(from, before time.Time) predicate {
	return func(f fact) verdict {
		if !f.created.known() {
			return undecided
		}
		return decided(!f.created.at.Before(from) && (before.IsZero() || f.created.at.Before(before)))
	}
}

func unusedSince(at time.Time) predicate {
	return func(f fact) verdict {
		switch {
		case f.lastUsed.known():
			return decided(!f.lastUsed.at.After(at))
		case f.lastUsed.never:
			return decided(!f.created.at.After(at))
		default:
			return undecided
		}
	}
}

func neverUsed(f fact) verdict {
	if !f.lastUsed.known() && !f.lastUsed.never {
		return undecided
	}
	return decided(f.lastUsed.never)
}

func endsBetween(now, at time.Time) predicate {
	return func(f fact) verdict {
		if !f.expires.known() && !f.expires.never {
			return undecided
		}
		return decided(f.expires.known() && f.expires.at.After(now) && !f.expires.at.After(at))
	}
}

func neverEnds(f fact) verdict {
	if !f.expires.known() && !f.expires.never {
		return undecided
	}
	return decided(f.expires.never)
}

// matching returns "connection id" of the facts that match, sorted, and how many
// are undecided, by connection.
func matching(facts []fact, p predicate) (keys []string, blind map[string]int) {
	keys, blind = []string{}, map[string]int{}
	for _, f := range facts {
		switch p(f) {
		case yes:
			keys = append(keys, f.key())
		case undecided:
			blind[f.connection]++
		}
	}
	slices.Sort(keys)
	return keys, blind
}

func (f fact) key() string { return f.connection + " " + f.id }

// find returns the first fact that holds.
func find(t testing.TB, facts []fact, holds func(fact) bool) fact {
	t.Helper()
	i := slices.IndexFunc(facts, holds)
	if i < 0 {
		t.Fatal("the sandbox has no such token")
	}
	return facts[i]
}

// row is a token in a result.
type row struct {
	Connection    string   `json:"connection"`
	ID            string   `json:"id"`
	Name          string   `json:"name"`
	NameAltered   bool     `json:"name_altered"`
	Owner         string   `json:"owner"`
	OwnerID       string   `json:"owner_id"`
	OwnerName     string   `json:"owner_name"`
	Kind          string   `json:"kind"`
	Status        string   `json:"status"`
	Access        string   `json:"access"`
	Created       string   `json:"created"`
	LastUsed      string   `json:"last_used"`
	Expires       string   `json:"expires"`
	OwnCredential bool     `json:"own_credential"`
	LastFour      string   `json:"last_four"`
	Description   string   `json:"description"`
	CreatedBy     string   `json:"created_by"`
	Scopes        []string `json:"scopes"`
	APIVersion    int      `json:"default_api_version"`
	Modified      string   `json:"modified"`
}

func (r row) key() string { return r.Connection + " " + r.ID }

func keysOf(rows []row) []string {
	keys := make([]string, len(rows))
	for i, r := range rows {
		keys[i] = r.key()
	}
	return keys
}

// covered is one connection's part of coverage.
type covered struct {
	Connection    string   `json:"connection"`
	Complete      bool     `json:"complete"`
	Read          int      `json:"read"`
	Undecided     int      `json:"undecided"`
	Limits        []string `json:"limits"`
	SameAccountAs string   `json:"same_account_as"`
	Error         *struct {
		Code    string `json:"code"`
		Message string `json:"message"`
		Next    string `json:"next"`
	} `json:"error"`
}

// coverageOf returns the coverage of a connection.
func coverageOf(t testing.TB, all []covered, connection string) covered {
	t.Helper()
	i := slices.IndexFunc(all, func(c covered) bool { return c.Connection == connection })
	if i < 0 {
		t.Fatalf("coverage %+v says nothing of %s", all, connection)
	}
	return all[i]
}

// listed is a result of list_tokens.
type listed struct {
	Tokens     []row     `json:"tokens"`
	Coverage   []covered `json:"coverage"`
	NextCursor string    `json:"next_cursor"`
	Next       string    `json:"next"`
}

// counted is a result of count_tokens.
type counted struct {
	Total  int `json:"total"`
	Groups []struct {
		Key   string `json:"key"`
		Count int    `json:"count"`
	} `json:"groups"`
	GroupsLeftOut  int       `json:"groups_left_out"`
	UnknownService []string  `json:"unknown_service_accounts"`
	Coverage       []covered `json:"coverage"`
}

func (c counted) groups() map[string]int {
	groups := map[string]int{}
	for _, g := range c.Groups {
		groups[g.Key] = g.Count
	}
	return groups
}

// pages lists everything, each further page by its cursor alone.
func (h *harness) pages(arguments args) []listed {
	h.t.Helper()
	var pages []listed
	for {
		page := as[listed](h.call("list_tokens", arguments))
		pages = append(pages, page)
		if page.NextCursor == "" {
			return pages
		}
		if len(page.Tokens) == 0 || len(pages) > 1000 {
			h.t.Fatalf("a listing that does not end: page %d has %d rows", len(pages), len(page.Tokens))
		}
		arguments = args{"cursor": page.NextCursor}
	}
}

// rows lists everything and returns the rows with their connection.
func (h *harness) rows(arguments args) []row {
	h.t.Helper()
	var rows []row
	for _, page := range h.pages(arguments) {
		for _, r := range page.Tokens {
			if name, ok := arguments["connection"].(string); ok {
				r.Connection = name
			}
			rows = append(rows, r)
		}
	}
	return rows
}

// vendorOf returns the vendor behind one of oneOfEach.
func vendorOf(connection string) string {
	return map[string]string{
		atlassianName: sandbox.Atlassian, launchDarklyName: sandbox.LaunchDarkly, mailtrapName: sandbox.Mailtrap,
	}[connection]
}

// byName orders rows by name in any case, ties by connection and id.
func byName(reverse bool) func(a, b row) int {
	return func(a, b row) int {
		order := strings.Compare(strings.ToLower(a.Name), strings.ToLower(b.Name))
		if reverse {
			order = -order
		}
		return cmp.Or(order, strings.Compare(a.Connection, b.Connection), strings.Compare(a.ID, b.ID))
	}
}

// byDate orders facts by a date, ties by connection and id.
func byDate(of func(fact) date, reverse bool) func(a, b fact) int {
	return func(a, b fact) int {
		x, y := of(a), of(b)
		order := cmp.Compare(x.at.UnixNano(), y.at.UnixNano())
		if reverse {
			order = -order
		}
		if x.known() != y.known() {
			order = 1 // no date comes last
			if x.known() {
				order = -1
			}
		} else if !x.known() {
			order = 0
		}
		return cmp.Or(order, strings.Compare(a.connection, b.connection), strings.Compare(a.id, b.id))
	}
}
