package atlassian

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tokenreeve/tokenreeve/providers"
)

// settingUserCredential is the setting of a second credential.
const settingUserCredential = "user_management_credential"

// Examine tells what the organization API key, or both of them, may do. The vendor
// does not tell which key is calling: what is known of it follows from what it may.
func (p *Provider) Examine(ctx context.Context, changes bool) []providers.Finding {
	tokens, _, err := p.client.orgTokens(ctx, tokenQuery{PageSize: 1})
	if err != nil {
		return []providers.Finding{p.unread(err)}
	}
	findings := []providers.Finding{providers.AllRight(providers.SettingCredential, "organization API key that reads the tokens of the organization's managed users"), p.examineService(ctx)}
	users, kind := p.examineUsers(ctx, tokens, changes)
	return append(findings, users, p.examineEnd(ctx, kind))
}

// unread explains why the organization's tokens cannot be read.
func (p *Provider) unread(err error) providers.Finding {
	f := providers.Unanswered(providers.SettingCredential, err)
	if providers.CodeOf(err) == providers.CodeNotFound {
		f.Setting, f.Found = "org_id", "Atlassian knows no organization "+p.client.org+", or none of this key's"
		f.Next = "correct org_id: Atlassian Administration shows it in its address"
	}
	return f
}

// examineService reads no more than the beginning of the service accounts' tokens.
func (p *Provider) examineService(ctx context.Context) providers.Finding {
	for _, err := range p.client.serviceTokens(ctx) {
		if err == nil {
			break
		}
		f := providers.Unanswered(providers.SettingCredential, err)
		if code := providers.CodeOf(err); code == providers.CodeForbidden || code == providers.CodeNotFound {
			f.Verdict = providers.Warning
			f.Found = fmt.Sprintf("it may not read the tokens of service accounts: lists leave them out (%s in coverage)", providers.ServiceAccountsMissing)
		}
		return f
	}
	return providers.AllRight(providers.SettingCredential, "it reads the tokens of service accounts")
}

// keyKind is what is known of the key of API Access.
type keyKind int

const (
	kindUnknown keyKind = iota
	kindScoped
	kindUnscoped
)

// examineUsers asks user management for the tokens of some user who has one. It refuses
// keys with scopes, and nothing else tells one kind from the other.
func (p *Provider) examineUsers(ctx context.Context, tokens []*accessToken, changes bool) (providers.Finding, keyKind) {
	setting, isShared := providers.SettingCredential, p.client.users == p.client.access
	if !isShared {
		setting = settingUserCredential
	}
	if len(tokens) == 0 {
		return providers.AllRight(setting, "whether user management accepts it was not asked: there is no user with a token"), kindUnknown
	}
	var err error
	for _, err = range p.client.userTokens(ctx, tokens[0].User.ID) {
		break
	}
	switch {
	case err == nil, isAccountUnknown(err), strings.HasPrefix(vendorCode(err), "forbidden."): // what it says of this user is not about the key
		kind := kindUnknown
		if isShared {
			kind = kindUnscoped
		}
		return providers.AllRight(setting, "it has no scopes: user management accepts it, so that single tokens can be revoked"), kind
	case providers.CodeOf(err) == providers.CodeForbidden && isShared:
		f := providers.AllRight(setting, "it has scopes: user management refuses it, so that no single token can be revoked")
		if changes {
			f.Verdict, f.Next = providers.Warning, `set an organization API key without scopes as user_management_credential; or set "allow" to what the key can do`
		}
		return f, kindScoped
	default:
		f := providers.Unanswered(setting, err)
		if providers.CodeOf(err) == providers.CodeForbidden {
			f.Next = "set an organization API key without scopes there"
		}
		return f, kindUnknown
	}
}

// examineEnd tells when the key ends, as far as that follows from the list of keys: it
// is one of those of its kind that still live.
func (p *Provider) examineEnd(ctx context.Context, kind keyKind) providers.Finding {
	keys, isWhole, err := p.client.keys(ctx)
	now := p.now()
	keys = slices.DeleteFunc(keys, func(k *apiKey) bool {
		isScoped := len(k.Scopes) > 0
		return !k.end().After(now) || kind == kindScoped && !isScoped || kind == kindUnscoped && isScoped
	})
	if err != nil || !isWhole || len(keys) == 0 {
		return providers.AllRight(providers.SettingCredential, "when it expires is not told, at most a year after it was made")
	}
	ends := make([]time.Time, len(keys))
	for i, k := range keys {
		ends[i] = k.end()
	}
	slices.SortFunc(ends, time.Time.Compare)
	first, last := ends[0], ends[len(ends)-1]
	f := providers.Ending(providers.SettingCredential, providers.At(last), now)
	if len(ends) > 1 {
		f.Found = fmt.Sprintf("it is one of %d organization API keys, which expire from %s to %s", len(ends), first.Format(time.DateOnly), last.Format(time.DateOnly))
	}
	return f
}
