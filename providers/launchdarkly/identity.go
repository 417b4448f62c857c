package launchdarkly

import (
	"context"
	"crypto/sha256"

	"github.com/tokenreeve/tokenreeve/internal/sanitize"
	"github.com/tokenreeve/tokenreeve/providers"
)

// Identity tells the account and the id of the credential's own token. It asks
// the vendor once per credential; a failure is not kept.
func (p *Provider) Identity(ctx context.Context) (providers.Identity, error) {
	return p.identity.get(ctx, p.credentialKey, func(ctx context.Context) (providers.Identity, error) {
		c, err := p.wire.identity(ctx)
		if err != nil {
			return providers.Identity{}, err
		}
		if !isID(c.TokenID) {
			e := failure(providers.CodeVendorProtocol, "the vendor does not tell which token the credential is")
			e.Next = "check that the credential is an API access token, not an SDK key or another kind"
			return providers.Identity{}, e
		}
		account, _ := sanitize.Name(c.AccountID)
		return providers.Identity{Host: p.host, Account: account, OwnID: c.TokenID}, nil
	})
}

// isAdmin reports whether the credential's own token has the Admin role: only
// then does a listing hold all members' personal tokens (documented). The role
// Owner counts as well (assumed).
func (p *Provider) isAdmin(ctx context.Context) (bool, error) {
	return p.admin.get(ctx, p.credentialKey, func(ctx context.Context) (bool, error) {
		identity, err := p.Identity(ctx)
		if err != nil {
			return false, err
		}
		own, err := p.wire.read(ctx, identity.OwnID)
		if err != nil {
			return false, err
		}
		return own.access() == providers.AccessAdmin, nil
	})
}

// viewLimits says what the credential may not see. A role that cannot be told is
// no proof of a full view.
func (p *Provider) viewLimits(ctx context.Context) []providers.Limit {
	admin, err := p.isAdmin(ctx)
	return limitsOf(err == nil && admin)
}

func limitsOf(admin bool) []providers.Limit {
	if admin {
		return nil
	}
	return []providers.Limit{providers.CredentialNotAdmin}
}

func (p *Provider) credentialKey(ctx context.Context) (key, error) {
	s, err := p.wire.client.Credential(ctx)
	if err != nil {
		return key{}, err
	}
	return s.Digest(), nil
}

type key = [sha256.Size]byte
