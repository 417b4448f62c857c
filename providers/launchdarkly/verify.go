package launchdarkly

import (
	"context"
	"time"

	"github.com/tokenreeve/tokenreeve/internal/secret"
	"github.com/tokenreeve/tokenreeve/providers"
)

// maxVerify bounds a question with a new secret, repetitions included.
const maxVerify = 10 * time.Second

// VerifySecret asks with the secret who is calling. The connection's own
// credential and what is known of its budgets stay as they are.
func (p *Provider) VerifySecret(ctx context.Context, token providers.Token, s secret.Secret) (bool, error) {
	if err := checkTokenID(token.ID); err != nil {
		return false, err
	}
	if s.IsZero() {
		return false, invalid("there is no secret to ask with")
	}
	ctx, cancel := context.WithTimeout(ctx, maxVerify)
	defer cancel()
	c, err := wire{p.wire.client.With(s)}.identity(ctx)
	switch {
	case providers.CodeOf(err) == providers.CodeCredentialRejected:
		return false, nil
	case err != nil:
		return false, err
	case c.TokenID == "" && c.AccountID == "":
		return false, failure(providers.CodeBadAnswer, "the answer does not tell who is calling")
	default:
		// Which members the answer has varies (documented).
		return c.TokenID == "" || c.TokenID == token.ID, nil
	}
}
