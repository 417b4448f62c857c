package providers

import "context"

type madeKey struct{}

// WithMade returns a context in which a provider that looks for the token of a lost answer can ask
// whether somebody has the secret of a token, and so made it by another call. Servers that share
// accounts know of each other's tokens only so.
func WithMade(ctx context.Context, isMade func(ctx context.Context, token string) (bool, error)) context.Context {
	return context.WithValue(ctx, madeKey{}, isMade)
}

// IsMade reports whether somebody is known to have the secret of the token; false where there is nobody
// to ask. With an error that is not known: the token must not be taken for one that nobody has the
// secret of.
func IsMade(ctx context.Context, token string) (bool, error) {
	isMade, ok := ctx.Value(madeKey{}).(func(context.Context, string) (bool, error))
	if !ok {
		return false, nil
	}
	return isMade(ctx, token)
}
