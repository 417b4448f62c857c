package cli

import (
	"context"
	"slices"
	"strings"

	"github.com/tokenreeve/tokenreeve/internal/config"
	"github.com/tokenreeve/tokenreeve/internal/policy"
	"github.com/tokenreeve/tokenreeve/providers"
)

// connection reads the connection's credentials from their sources, and asks the vendor about them.
func (d *doctor) connection(ctx context.Context, name string) []row {
	settings := d.Config.Connections[name]
	place := "connections." + name
	provider, err := vendors()[settings.Provider](d.client, settings, d.vendor)
	if err != nil {
		return []row{problem(place, err.Error(), "correct the connection's settings")}
	}
	examiner, ok := provider.(providers.Examiner)
	if !ok {
		return []row{fine(place, "%s does not tell of its credentials", settings.Provider)}
	}
	sources := map[string]string{
		providers.SettingCredential:  settings.Credential.String(),
		"user_management_credential": settings.UserManagementCredential.String(),
	}
	var rows []row
	for _, f := range examiner.Examine(ctx, d.changes(name)) {
		if source, ok := sources[f.Setting]; ok { // once
			delete(sources, f.Setting)
			if !strings.Contains(f.Found, source) {
				f.Found = source + ": " + f.Found
			}
		}
		rows = append(rows, row{place + "." + f.Setting, f.Verdict, f.Found, f.Next})
	}
	return rows
}

// allows reports whether policy lets anybody do what is of the class on the connection.
func (d *doctor) allows(name string, class policy.Class) bool {
	return policyOf(name, d.Config.Connections[name]).Allows(class) && (class == policy.Read || !d.Config.ReadOnly)
}

// changes reports whether policy lets tokens of the connection be changed.
func (d *doctor) changes(name string) bool {
	return slices.ContainsFunc(policy.Classes(), func(class policy.Class) bool { return class != policy.Read && d.allows(name, class) })
}

// mints reports whether policy lets new secrets come from the connection.
func (d *doctor) mints(name string) bool {
	hasSecrets := d.Config.Connections[name].Provider != config.Atlassian
	return hasSecrets && (d.allows(name, policy.Mint) || d.allows(name, policy.Rotate))
}
