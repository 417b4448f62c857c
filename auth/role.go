package auth

import (
	"slices"

	"github.com/tokenreeve/tokenreeve/internal/policy"
)

// Role is what a caller may do.
type Role string

// The roles. RoleNone is no caller's: it takes a connection away from a role.
const (
	RoleViewer   Role = "viewer"   // read
	RoleOperator Role = "operator" // and mint, update, rotate, revoke
	RoleAdmin    Role = "admin"    // and bulk, and the operations of all principals
	RoleApprover Role = "approver" // approve what others previewed, and nothing else
	RoleNone     Role = "none"
)

// AllOthers stands in Grant.Connections for every connection that is not named there.
const AllOthers = "*"

// Roles returns the roles that a caller can have.
func Roles() []Role { return []Role{RoleViewer, RoleOperator, RoleAdmin, RoleApprover} }

// Narrower returns what the role can be narrowed to on a connection, itself included.
func (r Role) Narrower() []Role {
	switch r {
	case RoleAdmin:
		return []Role{RoleAdmin, RoleOperator, RoleViewer, RoleNone}
	case RoleOperator:
		return []Role{RoleOperator, RoleViewer, RoleNone}
	case RoleViewer, RoleApprover:
		return []Role{r, RoleNone}
	default:
		return []Role{RoleNone}
	}
}

func (r Role) allows(class policy.Class) bool {
	switch r {
	case RoleViewer:
		return class == policy.Read
	case RoleOperator:
		return class != policy.Bulk && slices.Contains(policy.Classes(), class)
	case RoleAdmin:
		return slices.Contains(policy.Classes(), class)
	default:
		return false
	}
}

// rank orders roles by how far they reach.
func (r Role) rank() int {
	return slices.Index([]Role{RoleApprover, RoleViewer, RoleOperator, RoleAdmin}, r) + 1
}

// Grant is a role with what it is narrowed to on single connections.
type Grant struct {
	Role Role
	// Connections holds the lesser role by the connection's name, or by AllOthers. Where it says
	// nothing of a connection, Role counts there; it never widens.
	Connections map[string]Role
}

// on returns what the role is narrowed to on the connection.
func (g Grant) on(connection string) Role {
	if role, ok := g.Connections[connection]; ok {
		return role
	}
	if role, ok := g.Connections[AllOthers]; ok {
		return role
	}
	return g.Role
}

func (g Grant) allows(class policy.Class, connection string) bool {
	if connection == "" {
		return class == policy.Read && g.Role.allows(class)
	}
	return g.Role.allows(class) && g.on(connection).allows(class)
}
