package atlassian

import (
	"context"
	"iter"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/tokenreeve/tokenreeve/providers"
	"github.com/tokenreeve/tokenreeve/providers/transport"
)

// The scopes that a scoped key needs at API Access (documented).
const (
	scopeReadTokens    = "read:tokens:admin"
	scopeDeleteTokens  = "delete:tokens:admin"
	scopeReadService   = "read:service-accounts-tokens:admin"
	scopeDeleteService = "delete:service-accounts-tokens:admin"
	scopeReadKeys      = "read:keys:admin"
)

// maxCounted is how many service accounts one call counts (documented).
const maxCounted = 100

// client is the wire client of both APIs: a method per endpoint. Each checks the
// ids that enter its path.
type client struct {
	org    string
	access *transport.Client // API Access
	users  *transport.Client // user management, which may need another key
}

// userTokens calls GET /users/{account_id}/manage/api-tokens. 200: a bare array of
// all the user's tokens (documented). 404 accountNotFound: no such account.
func (c *client) userTokens(ctx context.Context, account string) iter.Seq2[*userToken, error] {
	return func(yield func(*userToken, error) bool) {
		if err := checkAccount(providers.PartOwner, account); err != nil {
			yield(nil, err)
			return
		}
		req := transport.Request{Method: http.MethodGet, Path: userPath(account), Route: "GET " + userRoute, Retry: transport.Read}
		for record, err := range records[userToken](ctx, c.users, req) {
			if !yield(record, explainUsers(err, keyAccountNotFound)) {
				return
			}
		}
	}
}

// deleteUserToken calls DELETE /users/{account_id}/manage/api-tokens/{tokenId}
// without a body. 204: gone for good (documented). 404 notFound: no such token
// (assumed); 404 accountNotFound: no such account.
func (c *client) deleteUserToken(ctx context.Context, account, token string) (transport.Response, error) {
	if err := checkAccount(providers.PartOwner, account); err != nil {
		return transport.Response{}, err
	}
	if err := checkToken(token); err != nil {
		return transport.Response{}, err
	}
	path := userPath(account) + "/" + url.PathEscape(token)
	response, err := c.users.Do(ctx, transport.Request{Method: http.MethodDelete, Path: path, Route: "DELETE " + userRoute + "/{token}", Retry: transport.Repeatable}, nil)
	return response, explainUsers(err, keyAccountNotFound, keyTokenNotFound)
}

// orgTokens calls GET /orgs/{orgId}/api-tokens and returns the page and the cursor
// of the next one, empty at the end. 200: {data, links} (documented); that
// links.next is a cursor was seen in clients.
func (c *client) orgTokens(ctx context.Context, query tokenQuery) ([]*accessToken, string, error) {
	var page tokenPage
	req := transport.Request{Method: http.MethodGet, Path: c.orgPath("/api-tokens"), Route: "GET " + orgRoute + "/api-tokens", Query: query.values(), Retry: transport.Read}
	if _, err := c.access.Do(ctx, req, &page); err != nil {
		return nil, "", explainAccess(err, scopeReadTokens)
	}
	if page.Data == nil && page.Links == nil {
		// null and {} must not pass for an empty list: absence from it is a proof.
		return nil, "", contradiction("the answer is not a page of tokens")
	}
	var tokens []*accessToken
	if page.Data != nil {
		tokens = slices.DeleteFunc(*page.Data, func(t *accessToken) bool { return t == nil })
	}
	if page.Links == nil {
		return tokens, "", nil
	}
	next, err := nextCursor(page.Links.Next)
	return tokens, next, err
}

// nextCursor returns the cursor in links.next: the value itself, or the cursor
// parameter of a full or relative URL, which is never followed.
func nextCursor(next string) (string, error) {
	u, err := url.Parse(next)
	if err == nil && u.Query().Has("cursor") {
		return u.Query().Get("cursor"), nil
	}
	if strings.HasPrefix(next, "https://") || strings.HasPrefix(next, "http://") {
		return "", contradiction("the link to the next page has no cursor")
	}
	return next, nil
}

// countOrgTokens calls GET /orgs/{orgId}/api-tokens/count, which takes the filters
// of the listing. 200: a bare integer (documented).
func (c *client) countOrgTokens(ctx context.Context, query tokenQuery) (int, error) {
	var count *int // tells null, which is no count, from 0
	req := transport.Request{Method: http.MethodGet, Path: c.orgPath("/api-tokens/count"), Route: "GET " + orgRoute + "/api-tokens/count", Query: query.filters(), Retry: transport.Read}
	if _, err := c.access.Do(ctx, req, &count); err != nil {
		return 0, explainAccess(err, scopeReadTokens)
	}
	if count == nil || *count < 0 {
		return 0, contradiction("the answer is not a count")
	}
	return *count, nil
}

// deleteOrgTokens calls DELETE /orgs/{orgId}/api-tokens, which ends every API token
// of every managed user. It has no body and no filter (documented); its success
// code is not published, so any 2xx counts. A repeat would end tokens made
// meanwhile: it is never repeated once it may have reached the vendor.
func (c *client) deleteOrgTokens(ctx context.Context) error {
	_, err := c.access.Do(ctx, transport.Request{Method: http.MethodDelete, Path: c.orgPath("/api-tokens"), Route: "DELETE " + orgRoute + "/api-tokens", Retry: transport.Unexecuted}, nil)
	return explainAccess(err, scopeDeleteTokens)
}

// keys calls GET /orgs/{orgId}/api-keys, and returns the first page and whether it is
// all. 200: {data, links} (documented). A scoped key needs read:keys:admin.
func (c *client) keys(ctx context.Context) (keys []*apiKey, isWhole bool, err error) {
	var page keyPage
	req := transport.Request{Method: http.MethodGet, Path: c.orgPath("/api-keys"), Route: "GET " + orgRoute + "/api-keys", Retry: transport.Read}
	if _, err := c.access.Do(ctx, req, &page); err != nil {
		return nil, false, explainAccess(err, scopeReadKeys)
	}
	keys = slices.DeleteFunc(page.Data, func(k *apiKey) bool { return k == nil })
	return keys, page.Links == nil || page.Links.Next == "", nil
}

// countServiceTokens calls POST /orgs/{orgId}/service-accounts/count, a read, with
// a bare array of 1 to 100 ids. 200: the counts, and the ids that are unknown,
// which do not fail the call (documented).
func (c *client) countServiceTokens(ctx context.Context, accounts []string) (serviceCounts, error) {
	for _, account := range accounts {
		if err := checkAccount(providers.PartServiceAccount, account); err != nil {
			return serviceCounts{}, err
		}
	}
	var counts serviceCounts
	req := transport.Request{Method: http.MethodPost, Path: c.orgPath("/service-accounts/count"), Route: "POST " + orgRoute + "/service-accounts/count", Body: accounts, Retry: transport.Read}
	_, err := c.access.Do(ctx, req, &counts)
	return counts, explainAccess(err, scopeReadService)
}

// serviceTokens calls GET /orgs/{orgId}/service-accounts/api-tokens. 200: a bare
// array of all service accounts' tokens (documented, newer than the others).
func (c *client) serviceTokens(ctx context.Context) iter.Seq2[*accessToken, error] {
	req := transport.Request{Method: http.MethodGet, Path: c.orgPath("/service-accounts/api-tokens"), Route: "GET " + orgRoute + "/service-accounts/api-tokens", Retry: transport.Read}
	return explained(records[accessToken](ctx, c.access, req), scopeReadService)
}

// accountTokens calls GET /orgs/{orgId}/service-accounts/{accountId}/api-tokens.
// label may be empty; whether it must match all of a label is not stated. 200: a
// bare array (documented) whose owner is that account (assumed).
func (c *client) accountTokens(ctx context.Context, account, label string) iter.Seq2[*accessToken, error] {
	return func(yield func(*accessToken, error) bool) {
		if err := checkAccount(providers.PartServiceAccount, account); err != nil {
			yield(nil, err)
			return
		}
		query := url.Values{}
		set(query, "tokenLabel", label)
		req := transport.Request{Method: http.MethodGet, Path: c.accountPath(account), Route: "GET " + accountRoute, Query: query, Retry: transport.Read}
		for record, err := range explained(records[accessToken](ctx, c.access, req), scopeReadService) {
			switch {
			case err != nil:
			case record.User.ID == "":
				record.User.ID = account
			case record.User.ID != account:
				record, err = nil, contradiction("the list of one service account holds another account's token")
			}
			if !yield(record, err) || err != nil {
				return
			}
		}
	}
}

// deleteAccountTokens calls DELETE /orgs/{orgId}/service-accounts/{accountId}/api-tokens
// without a body, which ends all tokens of that account (documented). The success
// code is not published, so any 2xx counts. It repeats like deleteOrgTokens.
func (c *client) deleteAccountTokens(ctx context.Context, account string) error {
	if err := checkAccount(providers.PartServiceAccount, account); err != nil {
		return err
	}
	_, err := c.access.Do(ctx, transport.Request{Method: http.MethodDelete, Path: c.accountPath(account), Route: "DELETE " + accountRoute, Retry: transport.Unexecuted}, nil)
	return explainAccess(err, scopeDeleteService)
}

// The paths without their ids.
const (
	userRoute    = "/users/{account}/manage/api-tokens"
	orgRoute     = "/admin/api-access/v1/orgs/{org}"
	accountRoute = orgRoute + "/service-accounts/{account}/api-tokens"
)

func userPath(account string) string {
	return "/users/" + url.PathEscape(account) + "/manage/api-tokens"
}

func (c *client) orgPath(rest string) string {
	return "/admin/api-access/v1/orgs/" + url.PathEscape(c.org) + rest
}

func (c *client) accountPath(account string) string {
	return c.orgPath("/service-accounts/" + url.PathEscape(account) + "/api-tokens")
}

// records streams a bare array, which is as long as it is, and drops nulls.
func records[R any](ctx context.Context, c *transport.Client, req transport.Request) iter.Seq2[*R, error] {
	return func(yield func(*R, error) bool) {
		for record, err := range transport.Stream[*R](ctx, c, req) {
			if (record != nil || err != nil) && !yield(record, err) {
				return
			}
		}
	}
}

// explained adds the scope to a stream's error.
func explained(tokens iter.Seq2[*accessToken, error], scope string) iter.Seq2[*accessToken, error] {
	return func(yield func(*accessToken, error) bool) {
		for token, err := range tokens {
			if !yield(token, explainAccess(err, scope)) {
				return
			}
		}
	}
}
