package atlassian

import (
	"context"
	"errors"
	"slices"

	"github.com/tokenreeve/tokenreeve/providers"
)

// Get reads one token; the vendor has no call for that. With an owner's account
// id it reads the owner's complete list in user management, or, where the owner
// is a service account, that account's own. Without one, or with an e-mail
// address, it reads the organization's listings until it finds the token; by an
// address it searches first, and what the search does not find it reads for.
//
// Whether a token has the same id in both APIs is assumed. So an id that is not
// in a user's own list is looked for in the organization's before it counts as
// absent.
func (p *Provider) Get(ctx context.Context, ref providers.Ref) (providers.Token, error) {
	if err := checkToken(ref.ID); err != nil {
		return providers.Token{}, err
	}
	if ref.Owner == "" {
		return p.find(ctx, ref.ID, providers.Filter{})
	}
	if err := p.CheckID(providers.PartOwner, ref.Owner); err != nil {
		return providers.Token{}, err
	}
	if isEmail(ref.Owner) {
		return p.findByEmail(ctx, ref)
	}
	token, err := p.getOwned(ctx, ref)
	return token, ownerUnknown(err)
}

// ownerUnknown marks the vendor's answer that there is no such account: it is no
// proof that a token is gone.
func ownerUnknown(err error) error {
	var e *providers.Error
	if !isAccountUnknown(err) || !errors.As(err, &e) {
		return err
	}
	marked := *e
	marked.Code = providers.CodeOwnerUnknown
	marked.Message = "the vendor knows no account with the owner's id"
	marked.Next = "list tokens to find the right owner, or leave owner out"
	return &marked
}

// Locate reads the organization's listings until all the tokens showed, or to
// their end.
func (p *Provider) Locate(ctx context.Context, ids []string) (map[string]providers.Token, error) {
	found := map[string]providers.Token{}
	for page, err := range p.List(ctx, providers.Filter{}, "") {
		if err != nil {
			return nil, err
		}
		for _, t := range page.Tokens {
			if slices.Contains(ids, t.ID) {
				found[t.ID] = t
			}
		}
		if len(found) == len(ids) {
			break
		}
	}
	return found, nil
}

func (p *Provider) getOwned(ctx context.Context, ref providers.Ref) (providers.Token, error) {
	for token, err := range p.userTokens(p.client.userTokens(ctx, ref.Owner), ref.Owner) {
		if err != nil && (isAccountUnknown(err) || isRefused(err)) {
			return p.getOfService(ctx, ref, err)
		}
		if err != nil || token.ID == ref.ID {
			return token, err
		}
	}
	token, err := p.find(ctx, ref.ID, providers.Filter{Kind: providers.KindUser})
	if err == nil && token.Owner.ID != "" && token.Owner.ID != ref.Owner {
		return providers.Token{}, &providers.Error{
			Provider: vendor, Code: providers.CodeInvalidArgument,
			Message: "the token belongs to another account than the owner given",
			Next:    "give owner " + token.Owner.ID + ", or leave owner out",
		}
	}
	return token, err
}

// getOfService looks in the service account's own list. refusal is why user
// management gave no list; it is the answer where the token is not here either,
// for it then leaves open whether the token exists.
func (p *Provider) getOfService(ctx context.Context, ref providers.Ref, refusal error) (providers.Token, error) {
	for token, err := range p.serviceTokens(p.client.accountTokens(ctx, ref.Owner, "")) {
		if err == nil && token.ID == ref.ID {
			return token, nil
		}
		if err == nil {
			continue
		}
		if isAccountUnknown(refusal) && providers.CodeOf(err) != providers.CodeNotFound {
			return providers.Token{}, err
		}
		return providers.Token{}, refusal
	}
	if isRefused(refusal) {
		return providers.Token{}, refusal
	}
	return providers.Token{}, absent("the service account has no token with this id")
}

// findByEmail asks the vendor's search first, which is quick and proves nothing. A
// token whose owner's address is hidden is taken by its id alone.
func (p *Provider) findByEmail(ctx context.Context, ref providers.Ref) (providers.Token, error) {
	token, err := p.find(ctx, ref.ID, providers.Filter{Owner: ref.Owner, Kind: providers.KindUser, VendorSearch: true})
	if providers.CodeOf(err) != providers.CodeNotFound {
		return token, err
	}
	token, err = p.find(ctx, ref.ID, providers.Filter{})
	if err == nil && (providers.Filter{Owner: ref.Owner}).Match(&token) == providers.NoMatch {
		return providers.Token{}, absent("no owner with this address has a token with this id")
	}
	return token, err
}

// find reads the organization's listings until the token shows. It is absent only
// where all that the filter selects was read, which a search does not do.
func (p *Provider) find(ctx context.Context, id string, filter providers.Filter) (providers.Token, error) {
	for page, err := range p.List(ctx, filter, "") {
		if err != nil {
			return providers.Token{}, err
		}
		if i := slices.IndexFunc(page.Tokens, func(t providers.Token) bool { return t.ID == id }); i >= 0 {
			return page.Tokens[i], nil
		}
		if slices.Contains(page.Limits, providers.ServiceAccountsMissing) {
			return providers.Token{}, &providers.Error{
				Provider: vendor, Code: providers.CodeUnavailable,
				Message: "no user has this token, and the service accounts' tokens could not be read",
				Next:    "give the token's owner, or ask the operator for a key with the scope " + scopeReadService,
			}
		}
	}
	return providers.Token{}, absent("the organization's listings hold no token with this id")
}

func absent(message string) error {
	return &providers.Error{Provider: vendor, Code: providers.CodeNotFound, Message: message, Next: "list tokens to find the right id and its owner"}
}
