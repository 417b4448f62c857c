package mailtrap

import (
	"context"
	"fmt"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/tokenreeve/tokenreeve/internal/secret"
	"github.com/tokenreeve/tokenreeve/providers"
	"github.com/tokenreeve/tokenreeve/providers/transport"
)

// client is Mailtrap on the wire: one method per endpoint.
type client struct {
	http      *transport.Client
	tokens    string // path of the tokens
	resources string // path of the resource tree
}

// The paths as others see them, in either family: without the account.
const (
	tokensRoute    = "/api/api_tokens"
	resourcesRoute = "/api/permissions/resources"
)

func newClient(hc *http.Client, c Config, o transport.Options) (*client, error) {
	wire, err := transport.NewClient(hc, c.BaseURL, c.Credential, transport.Dialect{
		Provider: providerName,
		Authorize: func(h http.Header, credential string) {
			h.Set("Authorization", "Bearer "+credential)
		},
		Budgets:   budgets,
		Problem:   problem,
		RequestID: "X-Request-Id", // assumed
	}, o)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", providerName, err)
	}
	prefix := "/api"
	if c.PathFamily == PathFamilyAccount {
		prefix = "/api/accounts/" + url.PathEscape(strconv.FormatInt(c.AccountID, 10))
	}
	return &client{http: wire, tokens: prefix + "/api_tokens", resources: prefix + "/permissions/resources"}, nil
}

// with returns a client with another credential.
func (c *client) with(s secret.Secret) *client {
	return &client{http: c.http.With(s), tokens: c.tokens, resources: c.resources}
}

// accounts is GET /api/accounts: 200 with an array of the accounts that the
// credential opens; also 401, 429. It returns their ids.
func (c *client) accounts(ctx context.Context) ([]string, error) {
	var accounts []struct {
		ID text `json:"id"`
	}
	_, err := c.do(ctx, transport.Request{Method: http.MethodGet, Path: "/api/accounts", Route: "GET /api/accounts", Retry: transport.Read}, &accounts)
	if err != nil {
		return nil, err
	}
	if accounts == nil {
		return nil, &providers.Error{Provider: providerName, Code: providers.CodeBadAnswer, Status: 200, Message: "the answer is no list of accounts"}
	}
	ids := make([]string, len(accounts))
	for i := range accounts {
		ids[i] = string(accounts[i].ID)
	}
	return ids, nil
}

// list streams GET …/api_tokens: 200 with a bare array, without paging or
// filter; also 401, 429, and in the account form 403 (assumed). A nil record
// stands for a null in the array.
func (c *client) list(ctx context.Context) iter.Seq2[*record, error] {
	request := transport.Request{Method: http.MethodGet, Path: c.tokens, Route: "GET " + tokensRoute, Retry: transport.Read}
	return func(yield func(*record, error) bool) {
		for r, err := range transport.Stream[*record](ctx, c.http, request) {
			if !yield(r, explain(err, request, transport.Response{})) {
				return
			}
		}
	}
}

// get is GET …/api_tokens/{id}: 200 with one record; also 401, 404, 429.
func (c *client) get(ctx context.Context, id string) (*record, error) {
	if err := checkTokenID(id); err != nil {
		return nil, err
	}
	var r record
	response, err := c.do(ctx, transport.Request{Method: http.MethodGet, Path: c.token(id), Route: "GET " + tokensRoute + "/{id}", Retry: transport.Read}, &r)
	if err != nil {
		return nil, err
	}
	if string(r.ID) != id {
		return nil, &providers.Error{
			Provider: providerName, Code: providers.CodeVendorProtocol, Status: response.Status, RequestID: response.RequestID,
			Message: "asked for token " + id + ", Mailtrap answered with the record of " + quote(string(r.ID)),
			Next:    "try again; if it stays so, check the connection's base_url and any proxy in between",
		}
	}
	return &r, nil
}

// create is POST …/api_tokens with name, resources and, since mid-2026,
// expires_at (an older server ignores it): 200, not 201, with the record and its
// secret; also 401, 403, 422, 429. That a 429 was not carried out is assumed. What
// the answer told is returned beside the error that it does not tell all.
func (c *client) create(ctx context.Context, body newToken) (*minted, error) {
	var m minted
	_, err := c.do(ctx, transport.Request{Method: http.MethodPost, Path: c.tokens, Route: "POST " + tokensRoute, Body: body, Retry: transport.Unexecuted}, &m)
	if err == nil {
		err = m.check()
	}
	return &m, err
}

// reset is POST …/api_tokens/{id}/reset without a body: 200 with a new record
// under a new id and its secret, while the old record stays until its grace
// ends; also 401, 403, 404, 422, 429. Only a token without an end of life can be
// reset, and only once; 422 is the answer to both (its wording is assumed). What the
// answer told is returned beside the error that it does not tell all.
func (c *client) reset(ctx context.Context, id string) (*minted, error) {
	if err := checkTokenID(id); err != nil {
		return &minted{}, err
	}
	var m minted
	_, err := c.do(ctx, transport.Request{Method: http.MethodPost, Path: c.token(id) + "/reset", Route: "POST " + tokensRoute + "/{id}/reset", Retry: transport.Unexecuted}, &m)
	if err == nil {
		err = m.check()
	}
	return &m, withNext(err, providers.CodeRejected,
		"read the token again: Mailtrap resets only a token without an end of life, and only once; a token with an end of life is rotated by a new token")
}

// delete is DELETE …/api_tokens/{id}: 204, at once and permanent; also 401, 403,
// 404, 429, and 422 (assumed) for the last token of a sending domain.
func (c *client) delete(ctx context.Context, id string) (transport.Response, error) {
	if err := checkTokenID(id); err != nil {
		return transport.Response{}, err
	}
	response, err := c.do(ctx, transport.Request{Method: http.MethodDelete, Path: c.token(id), Route: "DELETE " + tokensRoute + "/{id}", Retry: transport.Repeatable}, nil)
	if err == nil && response.Status != http.StatusNoContent { // a proxy may answer any other 2xx
		return response, &providers.Error{
			Provider: providerName, Code: providers.CodeOutcomeUnknown, Status: response.Status, RequestID: response.RequestID,
			Message: "the answer to the revocation is not the 204 that was due",
			Next:    "read the token again to see whether it is gone",
		}
	}
	return response, withNext(err, providers.CodeRejected,
		"if it is the last token of a sending domain, Mailtrap keeps it: make another one for that domain first")
}

// tree is GET …/permissions/resources: 200 with the tree of what permissions can
// be given on; also 401, 403, 429.
func (c *client) tree(ctx context.Context) ([]*node, error) {
	var nodes []*node
	_, err := c.do(ctx, transport.Request{Method: http.MethodGet, Path: c.resources, Route: "GET " + resourcesRoute, Retry: transport.Read}, &nodes)
	if err != nil {
		return nil, withMessage(err, providers.CodeForbidden,
			"the credential may not read which resources the account has, so permissions on them cannot be checked")
	}
	return nodes, nil
}

// token returns the path of one token; id was checked.
func (c *client) token(id string) string { return c.tokens + "/" + url.PathEscape(id) }

func (c *client) do(ctx context.Context, request transport.Request, out any) (transport.Response, error) {
	response, err := c.http.Do(ctx, request, out)
	return response, explain(err, request, response)
}

// window is the length of the vendor's rate-limit window: 150 requests in it.
const window = 10 * time.Second

// budgets reads X-Ratelimit-Limit and X-Ratelimit-Remaining. The vendor tells no
// reset. The end must be the same for all answers of one window, else each answer
// would put it off; so windows are taken as steps of the clock, as counters over
// fixed windows commonly are (assumed). Where the vendor's windows begin
// elsewhere, the first answer of a step corrects what was thought to be left.
func budgets(h http.Header, now time.Time) []transport.Budget {
	remaining, err := strconv.Atoi(h.Get("X-Ratelimit-Remaining"))
	if err != nil || remaining < 0 {
		return nil
	}
	limit, err := strconv.Atoi(h.Get("X-Ratelimit-Limit"))
	if err != nil || limit < 0 {
		limit = 0
	}
	return []transport.Budget{{Name: "token", Limit: limit, Remaining: remaining, Reset: now.Truncate(window).Add(window)}}
}
