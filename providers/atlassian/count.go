package atlassian

import (
	"context"
	"slices"

	"github.com/tokenreeve/tokenreeve/internal/sanitize"
	"github.com/tokenreeve/tokenreeve/providers"
)

// Count counts everything, all users' tokens, or the tokens of up to 100 service
// accounts. For any other filter ok is false.
func (p *Provider) Count(ctx context.Context, filter providers.Filter) (count providers.Count, ok bool, err error) {
	if err := p.checkFilter(filter); err != nil {
		return providers.Count{}, true, err
	}
	switch {
	case filter.IsZero():
		count, err = p.countAll(ctx)
	case filter.Only(providers.FieldKind) && filter.Kind == providers.KindUser:
		count, err = p.countUsers(ctx)
	case filter.Only(providers.FieldServiceAccounts) && len(unique(filter.ServiceAccounts)) <= maxCounted:
		count, err = p.CountServiceAccounts(ctx, filter.ServiceAccounts)
	default:
		return providers.Count{}, false, nil
	}
	return count, true, err
}

// CountEverything counts what RevokeEverything would end: the API tokens of all
// managed users. After that call the vendor's count may lag.
func (p *Provider) CountEverything(ctx context.Context) (int, error) {
	return p.client.countOrgTokens(ctx, tokenQuery{})
}

func (p *Provider) countUsers(ctx context.Context) (providers.Count, error) {
	total, err := p.CountEverything(ctx)
	if err != nil {
		return providers.Count{}, err
	}
	return providers.Count{Total: total, Limits: []providers.Limit{providers.ManagedAccountsOnly}}, nil
}

// countAll adds the service accounts' tokens by listing them: the vendor counts
// them only for accounts that are named.
func (p *Provider) countAll(ctx context.Context) (providers.Count, error) {
	count, err := p.countUsers(ctx)
	if err != nil {
		return count, err
	}
	for _, err := range p.client.serviceTokens(ctx) {
		if err != nil && ctx.Err() != nil {
			return providers.Count{}, err
		}
		if err != nil {
			count.Limits = append(count.Limits, providers.ServiceAccountsMissing)
			break
		}
		count.Total++
	}
	return count, nil
}

// CountServiceAccounts counts the tokens of 1 to 100 service accounts, by account.
// Accounts that the vendor does not know are in Unknown.
func (p *Provider) CountServiceAccounts(ctx context.Context, ids []string) (providers.Count, error) {
	ids = unique(ids)
	if len(ids) < 1 || len(ids) > maxCounted {
		return providers.Count{}, invalid("%d service accounts cannot be counted at once; valid are 1 to %d", len(ids), maxCounted)
	}
	answer, err := p.client.countServiceTokens(ctx, ids)
	if err != nil {
		return providers.Count{}, err
	}
	count := providers.Count{
		ByOwner: make(map[string]int, len(answer.Valid)),
		Unknown: answer.Invalid,
		Limits:  []providers.Limit{providers.ManagedAccountsOnly},
	}
	left := slices.Clone(ids)
	told := func(id string) bool {
		i := slices.Index(left, id)
		if i >= 0 {
			left = slices.Delete(left, i, i+1)
		}
		return i >= 0
	}
	for _, account := range answer.Valid {
		if !told(account.ID) || account.Count < 0 {
			return providers.Count{}, contradiction("the count of service accounts' tokens does not fit account " + sanitize.Message(account.ID))
		}
		count.ByOwner[account.ID] = account.Count
		count.Total += account.Count
	}
	for _, id := range answer.Invalid {
		if !told(id) {
			return providers.Count{}, contradiction("the count of service accounts' tokens does not fit account " + sanitize.Message(id))
		}
	}
	if len(left) > 0 {
		return providers.Count{}, contradiction("the count of service accounts' tokens leaves out account " + left[0])
	}
	return count, nil
}
