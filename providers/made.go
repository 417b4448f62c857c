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
	return ask(ctx, madeKey{}, token)
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
	return ask(ctx, replacedKey{}, token)
}

// ask puts the context's question of that key about the token; false where there is nobody to ask.
func ask(ctx context.Context, key any, token string) (bool, error) {
	answer, ok := ctx.Value(key).(func(context.Context, string) (bool, error))
	if !ok {
		return false, nil
	}
	return answer(ctx, token)
}
