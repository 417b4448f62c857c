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

type replacedKey struct{}

// WithReplaced returns a context in which a provider that plans a rotation can ask whether a rotation of the
// last day gave the token a successor: where the vendor's record does not tell, servers that share accounts
// know of each other's rotations, and of their own before a restart, only so.
func WithReplaced(ctx context.Context, isReplaced func(ctx context.Context, token string) (bool, error)) context.Context {
	return context.WithValue(ctx, replacedKey{}, isReplaced)
}

// IsReplaced reports whether a rotation of the last day is known to have given the token a successor; false
// where there is nobody to ask.
func IsReplaced(ctx context.Context, token string) (bool, error) {
	isReplaced, ok := ctx.Value(replacedKey{}).(func(context.Context, string) (bool, error))
	if !ok {
		return false, nil
	}
	return isReplaced(ctx, token)
}
