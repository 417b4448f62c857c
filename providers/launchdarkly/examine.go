package launchdarkly

import (
	"context"
	"fmt"

	"github.com/tokenreeve/tokenreeve/internal/sanitize"
	"github.com/tokenreeve/tokenreeve/providers"
)

// Examine tells which token the credential is, its role, and what that leaves unseen.
func (p *Provider) Examine(ctx context.Context, changes bool) []providers.Finding {
	identity, err := p.Identity(ctx)
	if err != nil {
		return []providers.Finding{providers.Unanswered(providers.SettingCredential, err)}
	}
	own, err := p.wire.read(ctx, identity.OwnID)
	if err != nil {
		f := providers.Unanswered(providers.SettingCredential, err)
		f.Verdict, f.Found = providers.Warning, "it is token "+identity.OwnID+", whose role it may not read: "+f.Found
		return []providers.Finding{f}
	}
	findings := []providers.Finding{own.kind(), own.view()}
	if changes {
		findings = append(findings, own.power())
	}
	page, err := p.wire.list(ctx, 0, 1)
	if err != nil {
		return append(findings, providers.Unanswered(providers.SettingCredential, err))
	}
	if page.TotalCount != nil && *page.TotalCount > len(page.Items) {
		findings = append(findings, providers.AllRight(providers.SettingCredential, "it sees %d tokens", *page.TotalCount))
	}
	return findings
}

func (r *record) kind() providers.Finding {
	name, _ := sanitize.Name(r.Name)
	if r.ServiceToken {
		return providers.AllRight(providers.SettingCredential, "service token %s %s, which does not expire", r.ID, sanitize.Quote(name))
	}
	owner, _ := r.owner()
	return providers.AllRight(providers.SettingCredential, "personal token %s %s of member %s: it does not expire, and stops working when the member is removed", r.ID, sanitize.Quote(name), owner.ID)
}

func (r *record) view() providers.Finding {
	if r.access() == providers.AccessAdmin {
		return providers.AllRight(providers.SettingCredential, "%s: it sees all members' tokens", r.roles())
	}
	f := providers.AllRight(providers.SettingCredential, "%s: it does not see all members' tokens (%s in coverage)", r.roles(), providers.CredentialNotAdmin)
	f.Verdict, f.Next = providers.Warning, "use a service token with the Admin role, if lists are to be complete"
	return f
}

// roles names what decides over the token's rights.
func (r *record) roles() string {
	switch {
	case r.access() != providers.AccessCustom:
		role, _ := sanitize.Name(r.Role)
		return "role " + word(role)
	case len(r.CustomRoleIDs) == 0:
		return "an inline role"
	case len(r.CustomRoleIDs) == 1:
		return "a custom role"
	}
	return fmt.Sprintf("%d custom roles", len(r.CustomRoleIDs))
}

func (r *record) power() providers.Finding {
	switch r.access() {
	case providers.AccessAdmin:
		return providers.AllRight(providers.SettingCredential, "it may make and change tokens")
	case providers.AccessCustom:
		return providers.AllRight(providers.SettingCredential, "whether its roles allow to make and change tokens is not told")
	default:
		return providers.Finding{
			Setting: providers.SettingCredential, Verdict: providers.Warning, Found: "its role may not make or change tokens",
			Next: `use a token with the Admin role, or a custom role with the token actions; or set "allow": ["read"]`,
		}
	}
}
