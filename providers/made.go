package providers

import "context"

type madeKey struct{}

// WithMade returns a context in which a provider that looks for the token of a lost answer can ask
// whether somebody has the secret of a token, and so made it by another call. Servers that share
// accounts know of each other's tokens only so.
func WithMade(ctx context.Context, isMade func(ctx context.Context, token string) bool) context.Context {
	return context.WithValue(ctx, madeKey{}, isMade)
}

// IsMade reports whether somebody is known to have the secret of the token; false where nobody can
// be asked.
func IsMade(ctx context.Context, token string) bool {
	isMade, ok := ctx.Value(madeKey{}).(func(context.Context, string) bool)
	return ok && isMade(ctx, token)
}
