package auth

import (
	"context"

	"github.com/tokenreeve/tokenreeve/internal/sanitize"
)

// Principal is who calls.
type Principal struct {
	// Name tells callers apart: confirm codes, cursors and sessions belong to it.
	Name string
	// IsLocal says that it is the user who runs the server, who may see its files.
	IsLocal bool
	// IsAdmin says that it sees and finishes the operations of all principals.
	IsAdmin bool
}

// Local returns the principal of stdio: the user who started the server.
func Local() Principal { return Principal{Name: "local", IsLocal: true, IsAdmin: true} }

type principalKey struct{}

// WithPrincipal returns a context that carries p, its name cleaned: whoever vouches for a caller may
// have taken the name from anywhere.
func WithPrincipal(ctx context.Context, p Principal) context.Context {
	p.Name = sanitize.ID(p.Name)
	return context.WithValue(ctx, principalKey{}, p)
}

// PrincipalFrom returns the principal that ctx carries, and false where there is none.
func PrincipalFrom(ctx context.Context) (Principal, bool) {
	p, ok := ctx.Value(principalKey{}).(Principal)
	return p, ok
}
