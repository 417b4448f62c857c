package launchdarkly

import (
	"context"
	"fmt"

	"github.com/tokenreeve/tokenreeve/internal/sanitize"
	"github.com/tokenreeve/tokenreeve/providers"
)

// settingCredential is the connection's setting.
const settingCredential = "credential"

// Examine tells which token the credential is, its role, and what that leaves unseen.
func (p *Provider) Examine(ctx context.Context, changes bool) []providers.Finding {
	identity, err := p.Identity(ctx)
	if err != nil {
		return []providers.Finding{providers.Unanswered(settingCredential, err)}
	}
	own, err := p.wire.read(ctx, identity.OwnID)
	if err != nil {
		f := providers.Unanswered(settingCredential, err)
		f.Verdict, f.Found = providers.Warning, "it is token "+identity.OwnID+", whose role it may not read: "+f.Found
		return []providers.Finding{f}
	}
	findings := []providers.Finding{own.kind(), own.view()}
	if changes {
		findings = append(findings, own.power())
	}
	page, err := p.wire.list(ctx, 0, 1)
	if err != nil {
		return append(findings, providers.Unanswered(settingCredential, err))
	}
	if page.TotalCount != nil && *page.TotalCount > len(page.Items) {
		findings = append(findings, fine("it sees %d tokens", *page.TotalCount))
	}
	return findings
}

func fine(format string, args ...any) providers.Finding {
	return providers.Finding{Setting: settingCredential, Verdict: providers.Fine, Found: fmt.Sprintf(format, args...)}
}

func (r *record) kind() providers.Finding {
	name, _ := sanitize.Name(r.Name)
	if r.ServiceToken {
		return fine("service token %s %s, which does not expire", r.ID, sanitize.Quote(name))
	}
	owner, _ := r.owner()
	return fine("personal token %s %s of member %s: it does not expire, and stops working when the member is removed", r.ID, sanitize.Quote(name), owner.ID)
}

func (r *record) view() providers.Finding {
	if r.access() == providers.AccessAdmin {
		return fine("%s: it sees all members' tokens", r.roles())
	}
	f := fine("%s: it does not see all members' tokens (%s in coverage)", r.roles(), providers.CredentialNotAdmin)
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
		return fine("it may make and change tokens")
	case providers.AccessCustom:
		return fine("whether its roles allow to make and change tokens is not told")
	default:
		return providers.Finding{
			Setting: settingCredential, Verdict: providers.Warning, Found: "its role may not make or change tokens",
			Next: `use a token with the Admin role, or a custom role with the token actions; or set "allow": ["read"]`,
		}
	}
}
