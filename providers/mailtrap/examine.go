package mailtrap

import (
	"context"
	"slices"
	"strings"

	"github.com/tokenreeve/tokenreeve/internal/sanitize"
	"github.com/tokenreeve/tokenreeve/providers"
)

// Examine tells whether the credential opens the account, and which token it is, as
// far as its last four characters say.
func (p *Provider) Examine(ctx context.Context, changes bool) []providers.Finding {
	ids, err := p.client.accounts(ctx)
	if err != nil {
		return []providers.Finding{providers.Unanswered(providers.SettingCredential, err)}
	}
	if !slices.Contains(ids, p.account) {
		return []providers.Finding{{
			Setting: "account_id", Verdict: providers.Trouble, Found: "the credential does not open account " + p.account + "; it opens " + some(ids),
			Next: "correct account_id, or use a token of that account",
		}}
	}
	identity, err := p.Identity(ctx)
	if err != nil {
		return []providers.Finding{providers.Unanswered(providers.SettingCredential, err)}
	}
	var own []*record
	seen := 0
	for r, err := range p.client.list(ctx) {
		if err != nil {
			return []providers.Finding{providers.Unanswered(providers.SettingCredential, err)}
		}
		seen++
		if r != nil && lastFour(string(r.LastFour)) == identity.OwnLastFour {
			own = append(own, r)
		}
	}
	findings := []providers.Finding{providers.AllRight(providers.SettingCredential, "it sees %d tokens of account %s; Mailtrap shows what the calling token may see (%s in coverage)", seen, p.account, providers.VisibleToCredential)}
	switch len(own) {
	case 0:
		return append(findings, providers.Finding{
			Setting: providers.SettingCredential, Verdict: providers.Warning, Found: "its own record is not among them, so that its rights and its end cannot be told",
			Next: "use a token with admin access to the account",
		})
	case 1:
		return append(findings, p.examine(own[0], changes)...)
	}
	return append(findings, providers.AllRight(providers.SettingCredential, "which of %d tokens with the same last four characters it is cannot be told; none of them is ever changed", len(own)))
}

// examine tells about the credential's own record.
func (p *Provider) examine(r *record, changes bool) []providers.Finding {
	t := p.token(r, p.now())
	kind := providers.AllRight(providers.SettingCredential, "API token %s %s with %s access", t.ID, sanitize.Quote(t.Name), t.Access)
	if t.Access != providers.AccessAdmin {
		kind.Verdict, kind.Next = providers.Warning, "use a token with admin access to the account: others may be refused, and see a part of the tokens"
		if changes {
			kind.Next += `; or set "allow": ["read"]`
		}
	}
	return []providers.Finding{kind, providers.Ending(providers.SettingCredential, t.Expires, p.now())}
}

// some names ids, cleaned and bounded.
func some(ids []string) string {
	if len(ids) == 0 {
		return "none"
	}
	return sanitize.Message(strings.Join(ids[:min(len(ids), maxNamed)], ", "))
}
