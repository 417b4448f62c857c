package launchdarkly

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/tokenreeve/tokenreeve/providers"
	"github.com/tokenreeve/tokenreeve/providers/transport"
)

const (
	tokensPath   = "/api/v2/tokens"
	identityPath = "/api/v2/caller-identity"
	// The routes, for the vendor's budgets per route.
	oneRoute = tokensPath + "/{id}"
)

// wire calls LaunchDarkly's endpoints, each with one method. Where an endpoint
// names a token, the id is checked before anything is sent.
type wire struct{ client *transport.Client }

// list sends GET /api/v2/tokens with showAll, limit and offset: 200 and a page.
// showAll has no effect unless the caller is an admin. The largest limit is not
// published (documented otherwise).
func (w wire) list(ctx context.Context, offset, limit int) (collection, error) {
	var page collection
	response, err := w.client.Do(ctx, transport.Request{
		Method: http.MethodGet, Path: tokensPath, Route: "GET " + tokensPath, Retry: transport.Read,
		Query: url.Values{
			"showAll": {"true"}, "limit": {strconv.Itoa(limit)}, "offset": {strconv.Itoa(offset)},
		},
	}, &page)
	if err != nil {
		return collection{}, err
	}
	if page.Items == nil && page.TotalCount == nil && page.Links == nil {
		return collection{}, failure(providers.CodeBadAnswer, "the answer is no list of tokens")
	}
	page.date = response.Date()
	return page, nil
}

// read sends GET /api/v2/tokens/{id}: 200 and the record (documented).
func (w wire) read(ctx context.Context, id string) (record, error) {
	var r record
	err := w.readInto(ctx, id, &r)
	if err == nil {
		err = sameID(id, r.ID)
	}
	if err != nil {
		return record{}, err
	}
	return r, nil
}

// readMembers is read that keeps what a patch can change as it stands.
func (w wire) readMembers(ctx context.Context, id string) (current, error) {
	var c current
	err := w.readInto(ctx, id, &c)
	if err == nil {
		err = sameID(id, c.record.ID)
	}
	if err != nil {
		return current{}, err
	}
	return c, nil
}

func (w wire) readInto(ctx context.Context, id string, out any) error {
	if err := checkTokenID(id); err != nil {
		return err
	}
	_, err := w.client.Do(ctx, transport.Request{
		Method: http.MethodGet, Path: tokensPath + "/" + url.PathEscape(id), Route: "GET " + oneRoute, Retry: transport.Read,
	}, out)
	return provenAbsence(err, providers.CodeBadAnswer)
}

// create sends POST /api/v2/tokens: 201 and the record with its whole secret
// (documented). There is no idempotency key: it is repeated only where the vendor
// cannot have made a token.
func (w wire) create(ctx context.Context, body creation) (minted, error) {
	var m minted
	_, err := w.client.Do(ctx, transport.Request{
		Method: http.MethodPost, Path: tokensPath, Route: "POST " + tokensPath, Body: body, Retry: transport.Unexecuted,
	}, &m)
	return m, err
}

// patch sends PATCH /api/v2/tokens/{id} with a JSON Patch: 200 and the changed
// record, 409 where another change came between, 422 where the patch does not
// apply (documented).
func (w wire) patch(ctx context.Context, id string, operations []Operation) (record, error) {
	if err := checkTokenID(id); err != nil {
		return record{}, err
	}
	var r record
	_, err := w.client.Do(ctx, transport.Request{
		Method: http.MethodPatch, Path: tokensPath + "/" + url.PathEscape(id), Route: "PATCH " + oneRoute,
		Body: operations, Retry: transport.Unexecuted,
	}, &r)
	if err != nil {
		return record{}, provenAbsence(err, providers.CodeBadAnswer)
	}
	return r, sameID(id, r.ID)
}

// reset sends POST /api/v2/tokens/{id}/reset: 200 and the same record with a new
// whole secret. The old secret stops at oldEnds, at once where that is zero
// (documented). The call has no body and fails without a Content-Type (from the
// vendor's own client code). It is repeated only where the vendor cannot have
// carried it out: a repeat makes a third secret.
func (w wire) reset(ctx context.Context, id string, oldEnds time.Time) (minted, error) {
	if err := checkTokenID(id); err != nil {
		return minted{}, err
	}
	query := url.Values{}
	if !oldEnds.IsZero() {
		query.Set("expiry", strconv.FormatInt(oldEnds.UnixMilli(), 10)) // milliseconds: seconds would be in 1970
	}
	var m minted
	_, err := w.client.Do(ctx, transport.Request{
		Method: http.MethodPost, Path: tokensPath + "/" + url.PathEscape(id) + "/reset", Route: "POST " + oneRoute + "/reset",
		Query: query, JSON: true, Retry: transport.Unexecuted,
	}, &m)
	return m, provenAbsence(err, providers.CodeBadAnswer)
}

// delete sends DELETE /api/v2/tokens/{id}: 204 and no body, at once and for ever
// (documented). mayHaveActed says that an attempt before the last may have done it.
func (w wire) delete(ctx context.Context, id string) (mayHaveActed bool, err error) {
	if err := checkTokenID(id); err != nil {
		return false, err
	}
	response, err := w.client.Do(ctx, transport.Request{
		Method: http.MethodDelete, Path: tokensPath + "/" + url.PathEscape(id), Route: "DELETE " + oneRoute, Retry: transport.Repeatable,
	}, nil)
	if err == nil && response.Status != http.StatusNoContent { // a proxy may answer any other 2xx
		e := failure(providers.CodeOutcomeUnknown, "the answer to the revocation is not the 204 that was due")
		e.Status, e.Next = response.Status, "read the token again to see whether it is gone"
		return response.MayHaveActed, e
	}
	code := providers.CodeBadAnswer
	if response.MayHaveActed {
		code = providers.CodeOutcomeUnknown
	}
	return response.MayHaveActed, provenAbsence(err, code)
}

// identity sends GET /api/v2/caller-identity: 200 and who the credential is
// (documented; which members are there varies).
func (w wire) identity(ctx context.Context) (caller, error) {
	var c caller
	_, err := w.client.Do(ctx, transport.Request{
		Method: http.MethodGet, Path: identityPath, Route: "GET " + identityPath, Retry: transport.Read,
	}, &c)
	return c, err
}

// sameID reports an answer that is about another token than was asked for.
func sameID(asked, got string) error {
	if asked == got {
		return nil
	}
	e := failure(providers.CodeVendorProtocol, "the answer is about token %q, not about %q", quotable(got), asked)
	e.Next = "check the connection's base_url and any proxy in between"
	return e
}

// provenAbsence lets a 404 stand only where its body is LaunchDarkly's: a wrong
// base URL or a proxy answers 404 as well, which proves nothing about a token.
func provenAbsence(err error, otherwise providers.Code) error {
	var e *providers.Error
	if errors.As(err, &e) && e.Code == providers.CodeNotFound && e.VendorCode == "" {
		e.Code, e.Message = otherwise, "the answer is a 404, but not one of LaunchDarkly's"
		e.Next = "check the connection's base_url and any proxy in between, then try again"
	}
	return err
}
