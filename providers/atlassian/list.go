package atlassian

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tokenreeve/tokenreeve/providers"
)

const (
	// arrayPage is how many tokens of a bare array make a page.
	arrayPage = 500
	// fewAccounts is how many service accounts are worth a request each; for more,
	// the list of all is read.
	fewAccounts = 5
)

// The parts of a listing, in their order. A service account that was asked for is
// a part of its own: "a" and its number.
const (
	partOwner    = "o" // one user's tokens, from user management
	partUsers    = "u" // the organization's user tokens, by cursor
	partServices = "s" // service accounts' tokens
	partAccount  = "a"
)

// List yields the organization's user tokens, then the service accounts'. It
// narrows what it reads to the filter's kind, owner and service accounts. All else
// is the caller's to filter, unless the filter allows the vendor's search: then the
// query, or the owner's e-mail address, goes to the vendor, and what VendorFilters
// adds. Its search is fuzzy by its own words, and where the vendor hides addresses
// it may not find them: pages then carry vendor_search.
//
// Every page carries managed_accounts_only: tokens of accounts outside the
// organization's verified domains are in no listing. Where the service accounts'
// tokens cannot be read, the last page says service_accounts_missing; that is an
// error where the filter asks for nothing else, or where the credential is
// rejected from the start.
func (p *Provider) List(ctx context.Context, filter providers.Filter, from string) iter.Seq2[providers.Page, error] {
	return func(yield func(providers.Page, error) bool) {
		start, err := parsePosition(from)
		if err == nil {
			err = p.checkFilter(filter)
		}
		if err != nil {
			yield(providers.Page{}, err)
			return
		}
		l := &listing{
			Provider: p, filter: filter, from: start, yield: yield,
			limits: []providers.Limit{providers.ManagedAccountsOnly},
		}
		l.run(ctx)
	}
}

// listing is one run of List.
type listing struct {
	*Provider
	filter   providers.Filter
	from     position
	yield    func(providers.Page, error) bool
	limits   []providers.Limit // of every page from here on
	accounts []string          // whose own lists are read
	answered bool              // API Access has answered: the credential works
}

func (l *listing) run(ctx context.Context) {
	parts := l.parts()
	first := 0
	if l.from.part != "" {
		first = slices.Index(parts, l.from.part)
	}
	if first < 0 {
		l.fail(invalidPosition())
		return
	}
	for i, part := range parts {
		if l.isSearched(part) && !slices.Contains(l.limits, providers.VendorSearch) {
			l.limits = append(l.limits, providers.VendorSearch)
		}
		if i >= first && !l.read(ctx, part) {
			return
		}
	}
}

// isSearched reports whether the vendor's own search chooses what the part holds.
func (l *listing) isSearched(part string) bool {
	switch part {
	case partOwner, partServices:
		return false
	case partUsers:
		return len(l.query().filters()) > 0
	default:
		return l.label() != ""
	}
}

// parts returns what must be read for the filter.
func (l *listing) parts() []string {
	f := l.filter
	isAccount := f.Owner != "" && !isEmail(f.Owner)
	l.accounts = unique(f.ServiceAccounts)
	switch {
	case len(l.accounts) > fewAccounts:
		return []string{partServices}
	case len(l.accounts) > 0:
	case f.Kind == providers.KindService && isAccount:
		l.accounts = []string{f.Owner}
	case f.Kind == providers.KindService:
		return []string{partServices}
	case isAccount && f.Only(providers.FieldOwner, providers.FieldCreatedAfter, providers.FieldCreatedBefore, providers.FieldUnusedFor):
		// User management tells these facts, in one request. The others follow
		// where it does not answer.
		return []string{partOwner, partUsers, partServices}
	case f.Kind == providers.KindUser:
		return []string{partUsers}
	default:
		return []string{partUsers, partServices}
	}
	parts := make([]string, len(l.accounts))
	for i := range parts {
		parts[i] = partAccount + strconv.Itoa(i)
	}
	return parts
}

// read yields the pages of a part and reports whether the next part follows.
func (l *listing) read(ctx context.Context, part string) bool {
	switch part {
	case partOwner:
		return l.readOwner(ctx)
	case partUsers:
		return l.readUsers(ctx)
	case partServices:
		return l.readServices(ctx)
	default:
		return l.readAccount(ctx, part)
	}
}

// readOwner asks user management for the owner's tokens. Where it refuses, the
// organization's listings follow. An account that it does not know may be a
// service account.
func (l *listing) readOwner(ctx context.Context) bool {
	last, ok, err := l.array(partOwner, l.userTokens(l.client.userTokens(ctx, l.filter.Owner), l.filter.Owner))
	switch {
	case !ok:
		return false
	case err == nil:
		l.yield(last, nil)
		return false
	case isAccountUnknown(err):
		l.readServices(ctx)
		return false
	case isRefused(err):
		return true
	default:
		return l.fail(err)
	}
}

// readUsers pages through the organization's user tokens.
func (l *listing) readUsers(ctx context.Context) bool {
	query := l.query()
	if l.from.part == partUsers {
		query.Cursor = l.from.cursor
	}
	seen := map[string]bool{}
	for {
		seen[query.Cursor] = true
		records, next, err := l.client.orgTokens(ctx, query)
		if err != nil {
			return l.fail(err)
		}
		l.answered = true
		page := l.page(position{part: partUsers, cursor: query.Cursor})
		page.Tokens = make([]providers.Token, len(records))
		for i, record := range records {
			page.Tokens[i] = l.fromAccess(providers.KindUser, record)
		}
		switch {
		case !l.yield(page, nil):
			return false
		case next == "":
			return true
		case seen[next]:
			return l.fail(contradiction("the listing of tokens goes in a circle: a cursor came twice"))
		}
		query.Cursor = next
	}
}

// readServices yields the tokens of all service accounts, or of the one that is
// the owner asked for.
func (l *listing) readServices(ctx context.Context) bool {
	tokens := l.serviceTokens(l.client.serviceTokens(ctx))
	if owner := l.filter.Owner; owner != "" && !isEmail(owner) {
		tokens = emptyWhereUnknown(l.serviceTokens(l.client.accountTokens(ctx, owner, "")))
	}
	last, ok, err := l.array(partServices, tokens)
	switch {
	case !ok:
		return false
	case err != nil && l.needsServices(ctx, err):
		return l.fail(err)
	case err != nil:
		last.Limits = append(last.Limits, providers.ServiceAccountsMissing)
	}
	return l.yield(last, nil)
}

// needsServices reports whether a failed call for the service accounts' tokens
// fails the whole listing.
func (l *listing) needsServices(ctx context.Context, err error) bool {
	code := providers.CodeOf(err)
	isCredential := code == providers.CodeCredentialRejected || code == providers.CodeCredential
	return ctx.Err() != nil || len(l.accounts) > 0 || l.filter.Kind == providers.KindService || isCredential && !l.answered
}

// readAccount yields the tokens of one service account that was asked for.
func (l *listing) readAccount(ctx context.Context, part string) bool {
	i, err := strconv.Atoi(strings.TrimPrefix(part, partAccount))
	if err != nil {
		return l.fail(invalidPosition())
	}
	records := l.client.accountTokens(ctx, l.accounts[i], l.label())
	last, ok, err := l.array(part, emptyWhereUnknown(l.serviceTokens(records)))
	if err != nil {
		return l.fail(err)
	}
	return ok && l.yield(last, nil)
}

// label returns what of the filter goes to a service account's list.
func (l *listing) label() string {
	if !l.filter.VendorSearch || !l.vendorFilters {
		return ""
	}
	return l.filter.Query
}

// query returns what of the filter goes to the organization's list, where the
// filter allows it. Last use is never sent: a limit on it would lose the tokens
// that were never used. Neither is the status "expired", which is derived from a
// date.
func (l *listing) query() tokenQuery {
	f := l.filter
	q := tokenQuery{PageSize: l.pageSize}
	if !f.VendorSearch {
		return q
	}
	q.Q = f.Query
	if q.Q == "" && isEmail(f.Owner) {
		q.Q = f.Owner
	}
	if !l.vendorFilters {
		return q
	}
	switch f.Status {
	case providers.StatusActive:
		q.Status = statusAllowed
	case providers.StatusBlocked:
		q.Status = statusBlocked
	}
	if !f.CreatedAfter.IsZero() || !f.CreatedBefore.IsZero() {
		// A second wider: which ends belong to the range is not documented.
		q.CreatedAt = dateQuery{
			SearchType: "range",
			From:       isoTime(f.CreatedAfter, -time.Second),
			To:         isoTime(f.CreatedBefore, time.Second),
		}
	}
	return q
}

func isoTime(t time.Time, shift time.Duration) string {
	if t.IsZero() {
		return ""
	}
	return t.Add(shift).UTC().Format("2006-01-02T15:04:05.000Z")
}

// array yields the tokens of a bare array in pages, but for the last page, which
// it returns. ok is false where the caller of List wants no more.
func (l *listing) array(part string, tokens iter.Seq2[providers.Token, error]) (last providers.Page, ok bool, err error) {
	start := position{part: part}
	if l.from.part == part {
		start = l.from
	}
	last, ok, err = l.slice(tokens, start, start.id)
	if err != nil || !ok || start.id == "" || len(last.Tokens) > 0 {
		return last, ok, err
	}
	// The token to go on at is gone, and how many before it are gone as well
	// nobody tells: its index is the best guess.
	l.limits = append(l.limits, providers.MovedWhileReading)
	return l.slice(tokens, start, "")
}

// slice does the work of array from the token with the id on, or, where id is
// empty, from the start's index on.
func (l *listing) slice(tokens iter.Seq2[providers.Token, error], start position, id string) (page providers.Page, ok bool, err error) {
	page = l.page(start)
	index, reached := 0, false
	for token, err := range tokens {
		if err != nil {
			return page, true, err
		}
		reached = reached || id != "" && token.ID == id || id == "" && index == start.index
		if reached {
			if len(page.Tokens) == arrayPage {
				if !l.yield(page, nil) {
					return page, false, nil
				}
				page = l.page(position{part: start.part, index: index, id: token.ID})
			}
			page.Tokens = append(page.Tokens, token)
		}
		index++
	}
	return page, true, nil
}

func (l *listing) page(at position) providers.Page {
	return providers.Page{At: at.String(), Limits: slices.Clone(l.limits)}
}

// fail ends the listing.
func (l *listing) fail(err error) bool {
	l.yield(providers.Page{}, err)
	return false
}

// emptyWhereUnknown makes a service account that the vendor does not know one
// without tokens.
func emptyWhereUnknown(tokens iter.Seq2[providers.Token, error]) iter.Seq2[providers.Token, error] {
	return func(yield func(providers.Token, error) bool) {
		for token, err := range tokens {
			if providers.CodeOf(err) == providers.CodeNotFound || !yield(token, err) {
				return
			}
		}
	}
}

func unique(ids []string) []string {
	var all []string
	for _, id := range ids {
		if !slices.Contains(all, id) {
			all = append(all, id)
		}
	}
	return all
}

// position names a page. A page of a bare array, which knows no cursor, is named
// by the id of its first token and, where that token is gone, by its index.
type position struct {
	part   string
	cursor string
	index  int
	id     string // empty at the start of the array
}

// String returns the position as Page.At holds it.
func (p position) String() string {
	switch {
	case p.part == partUsers:
		return p.part + ":" + p.cursor
	case p.id == "":
		return p.part + ":"
	default:
		return fmt.Sprintf("%s:%d:%s", p.part, p.index, p.id)
	}
}

func parsePosition(at string) (position, error) {
	if at == "" {
		return position{}, nil
	}
	part, rest, found := strings.Cut(at, ":")
	p := position{part: part}
	switch {
	case !found || part == "":
		return p, invalidPosition()
	case part == partUsers:
		p.cursor = rest
		return p, nil
	case rest == "":
		return p, nil
	}
	number, id, _ := strings.Cut(rest, ":")
	index, err := strconv.Atoi(number)
	if err != nil || index < 0 || id == "" {
		return p, invalidPosition()
	}
	p.index, p.id = index, id
	return p, nil
}

func invalidPosition() error {
	return &providers.Error{
		Provider: vendor, Code: providers.CodeInvalidArgument,
		Message: "the place to go on at is none of this listing; valid is the At of a page of a listing with the same filter",
		Next:    "list again from the start",
	}
}
