package mailtrap

import (
	"context"
	"slices"
	"time"

	"github.com/tokenreeve/tokenreeve/internal/secret"
	"github.com/tokenreeve/tokenreeve/providers"
)

// maxVerify bounds a question with a new secret, repetitions included.
const maxVerify = 10 * time.Second

// VerifySecret asks with the secret which accounts it opens; Mailtrap does not
// tell which token is calling. The connection's own credential and what is known
// of its budget stay as they are.
func (p *Provider) VerifySecret(ctx context.Context, token providers.Token, s secret.Secret) (bool, error) {
	if err := checkTokenID(token.ID); err != nil {
		return false, err
	}
	if s.IsZero() {
		return false, invalid("there is no secret to ask with")
	}
	ctx, cancel := context.WithTimeout(ctx, maxVerify)
	defer cancel()
	ids, err := p.client.with(s).accounts(ctx)
	switch {
	case providers.CodeOf(err) == providers.CodeCredentialRejected:
		return false, nil
	case err != nil:
		return false, withNext(err, providers.CodeForbidden, "try the new secret where it is to be used")
	}
	return slices.Contains(ids, p.account), nil
}
