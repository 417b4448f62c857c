package auth_test

import (
	"slices"
	"testing"

	"github.com/tokenreeve/tokenreeve/auth"
	"github.com/tokenreeve/tokenreeve/internal/policy"
)

// allowed says, by role, the classes that a role allows.
func allowed() map[auth.Role][]policy.Class {
	return map[auth.Role][]policy.Class{
		auth.RoleViewer:   {policy.Read},
		auth.RoleOperator: {policy.Read, policy.Mint, policy.Update, policy.Rotate, policy.Revoke},
		auth.RoleAdmin:    {policy.Read, policy.Mint, policy.Update, policy.Rotate, policy.Revoke, policy.Bulk},
		auth.RoleApprover: nil,
		auth.RoleNone:     nil,
		"owner":           nil,
		"":                nil,
	}
}

// askable are all classes and what is none.
func askable() []policy.Class { return append(policy.Classes(), "", "everything") }

func TestAllows(t *testing.T) {
	t.Parallel()
	for role, classes := range allowed() {
		p := auth.NewPrincipal("token:x", auth.MethodStatic, auth.Grant{Role: role})
		for _, class := range askable() {
			if got, want := p.Allows(class, "acme"), slices.Contains(classes, class); got != want {
				t.Errorf("%s allows %q: %v", role, class, got)
			}
			// Where no connection is meant, nothing but reading can be.
			if got, want := p.Allows(class, ""), class == policy.Read && slices.Contains(classes, class); got != want {
				t.Errorf("%s allows %q without a connection: %v", role, class, got)
			}
		}
		if p.IsAdmin != (role == auth.RoleAdmin) || p.IsLocal {
			t.Errorf("%s: IsAdmin %v, IsLocal %v", role, p.IsAdmin, p.IsLocal)
		}
	}
	for _, class := range policy.Classes() {
		if !auth.Local().Allows(class, "acme") || (auth.Principal{Role: auth.RoleAdmin, IsAdmin: true}).Allows(class, "acme") {
			t.Errorf("%s: the local user may do everything, and who has no grant nothing", class)
		}
	}
}

func TestNarrowed(t *testing.T) {
	t.Parallel()
	grant := func(role auth.Role, narrowed ...string) auth.Grant {
		g := auth.Grant{Role: role, Connections: map[string]auth.Role{}}
		for i := 0; i < len(narrowed); i += 2 {
			g.Connections[narrowed[i]] = auth.Role(narrowed[i+1])
		}
		return g
	}
	tests := []struct {
		name        string
		grants      []auth.Grant
		acme, other auth.Role // whose classes count there
		approves    bool      // on acme
		isAdmin     bool
		role        auth.Role
	}{
		{"not narrowed", []auth.Grant{grant("admin")}, "admin", "admin", false, true, "admin"},
		{"one", []auth.Grant{grant("admin", "acme", "viewer")}, "viewer", "admin", false, false, "admin"},
		{"taken away", []auth.Grant{grant("operator", "acme", "none")}, "", "operator", false, false, "operator"},
		{"all others", []auth.Grant{grant("operator", "acme", "operator", "*", "none")}, "operator", "", false, false, "operator"},
		{"never wider", []auth.Grant{grant("viewer", "acme", "admin", "*", "operator")}, "viewer", "viewer", false, false, "viewer"},
		{"no role", []auth.Grant{grant("operator", "acme", "owner", "*", "")}, "", "", false, false, "operator"},
		{"either", []auth.Grant{grant("operator", "acme", "operator", "*", "none"), grant("viewer")}, "operator", "viewer", false, false, "operator"},
		{"one of two is not narrowed", []auth.Grant{grant("admin", "acme", "none"), grant("admin")}, "admin", "admin", false, true, "admin"},
		{"approver", []auth.Grant{grant("approver")}, "", "", true, false, "approver"},
		{"approver elsewhere", []auth.Grant{grant("approver", "acme", "none")}, "", "", false, false, "approver"},
		{"approver and viewer", []auth.Grant{grant("approver"), grant("viewer")}, "viewer", "viewer", true, false, "viewer"},
		{"an admin approves nothing", []auth.Grant{grant("admin", "acme", "approver")}, "", "admin", false, false, "admin"},
		{"an operator is no approver", []auth.Grant{grant("operator", "acme", "approver")}, "", "operator", false, false, "operator"},
		{"none", nil, "", "", false, false, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := auth.NewPrincipal("token:x", auth.MethodStatic, tt.grants...)
			for connection, role := range map[string]auth.Role{"acme": tt.acme, "other": tt.other} {
				for _, class := range askable() {
					if got, want := p.Allows(class, connection), slices.Contains(allowed()[role], class); got != want {
						t.Errorf("%q on %s: %v", class, connection, got)
					}
				}
			}
			if p.MayApprove("token:y", "acme") != tt.approves || p.IsAdmin != tt.isAdmin || p.Role != tt.role {
				t.Errorf("approves %v, admin %v, role %q", p.MayApprove("token:y", "acme"), p.IsAdmin, p.Role)
			}
			for connection, role := range map[string]auth.Role{"acme": tt.acme, "other": tt.other} {
				if got := p.RoleOn(connection); role != "" && got != role || role == "" && slices.Contains([]auth.Role{auth.RoleViewer, auth.RoleOperator, auth.RoleAdmin}, got) {
					t.Errorf("role %q on %s", got, connection)
				}
			}
			if p.MayApprove("token:x", "acme") || p.MayApprove("token:x", "other") {
				t.Error("the caller may approve their own preview")
			}
		})
	}
	if !auth.Local().MayApprove("token:x", "acme") {
		t.Error("the local user may not approve")
	}
}

// What a role can be narrowed to allows nothing that the role does not.
func TestNarrower(t *testing.T) {
	t.Parallel()
	for _, role := range auth.Roles() {
		for _, narrower := range role.Narrower() {
			p := auth.NewPrincipal("token:x", auth.MethodStatic, auth.Grant{Role: role, Connections: map[string]auth.Role{"acme": narrower}})
			for _, class := range policy.Classes() {
				if p.Allows(class, "acme") != slices.Contains(allowed()[narrower], class) {
					t.Errorf("%s narrowed to %s: %s is %v", role, narrower, class, p.Allows(class, "acme"))
				}
			}
		}
		if !slices.Contains(role.Narrower(), auth.RoleNone) || !slices.Contains(role.Narrower(), role) {
			t.Errorf("%s can be narrowed to %v", role, role.Narrower())
		}
	}
}
