package auth

import (
	"context"

	"github.com/tokenreeve/tokenreeve/internal/policy"
	"github.com/tokenreeve/tokenreeve/internal/sanitize"
)

// The ways by which a principal is known, as Principal.Method names them.
const (
	MethodStdio  = "stdio"  // the local user's own process
	MethodBearer = "bearer" // the one token of a server without configured callers
	MethodStatic = "static" // a token of the configuration
	MethodOIDC   = "oidc"   // an access token of the OpenID provider
)

// Principal is who calls.
type Principal struct {
	// Name tells callers apart: operations, confirm codes, cursors and sessions belong to it. It is
	// "local", "bearer", "token:NAME" or "oidc:ISSUER:SUBJECT".
	Name string
	// IsLocal says that it is the user who runs the server, who may see its files.
	IsLocal bool
	// IsAdmin says that it sees and finishes the operations of all principals: the local user, and an
	// admin who is narrowed on no connection.
	IsAdmin bool
	// Role is the most far-reaching role, for people. What it allows is judged by Allows and MayApprove.
	Role Role
	// Method says how the caller is known.
	Method string
	// Address is the caller's IP address; empty over stdio and where it is not known.
	Address string

	grants []Grant
}

// Local returns the principal of stdio: the user who started the server.
func Local() Principal {
	return Principal{Name: "local", IsLocal: true, IsAdmin: true, Role: RoleAdmin, Method: MethodStdio}
}

// NewPrincipal returns a caller who may do what any of the grants allows.
func NewPrincipal(name, method string, grants ...Grant) Principal {
	p := Principal{Name: name, Method: method, grants: grants}
	for _, g := range grants {
		if g.Role.rank() > p.Role.rank() {
			p.Role = g.Role
		}
		p.IsAdmin = p.IsAdmin || g.Role == RoleAdmin && len(g.Connections) == 0
	}
	return p
}

// Allows reports whether the role lets the caller do what is of the class on the connection. Where
// no connection is meant, that is "", only reading is ever allowed.
func (p Principal) Allows(class policy.Class, connection string) bool {
	if p.IsLocal {
		return true
	}
	for _, g := range p.grants {
		if g.allows(class, connection) {
			return true
		}
	}
	return false
}

// RoleOn returns the most far-reaching role on the connection, for people; RoleNone: there is none.
func (p Principal) RoleOn(connection string) Role {
	if p.IsLocal {
		return p.Role
	}
	role := RoleNone
	for _, g := range p.grants {
		there := g.on(connection)
		if there.rank() > g.Role.rank() { // it never widens
			there = g.Role
		}
		if there.rank() > role.rank() {
			role = there
		}
	}
	return role
}

// MayApprove reports whether the caller may approve a preview of the principal named owner on the
// connection. Apart from the local user, nobody approves their own.
func (p Principal) MayApprove(owner, connection string) bool {
	if p.IsLocal {
		return true
	}
	if owner == p.Name {
		return false
	}
	for _, g := range p.grants {
		if g.Role == RoleApprover && g.on(connection) == RoleApprover {
			return true
		}
	}
	return false
}

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
