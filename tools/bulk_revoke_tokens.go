package tools

import (
	"context"
	"errors"
	"slices"

	"github.com/tokenreeve/tokenreeve/internal/policy"
	"github.com/tokenreeve/tokenreeve/providers"
)

// bulkRevokeTokensIn are the arguments of bulk_revoke_tokens.
type bulkRevokeTokensIn struct {
	Connection          string      `json:"connection" jsonschema:"enum=@connections" jsonschema_description:"connection name"`
	TokenIDs            []string    `json:"token_ids,omitempty" jsonschema:"maxItems=100" jsonschema_description:"ids; no filters beside"`
	Owner               string      `json:"owner,omitempty" jsonschema_description:"filter as in list_tokens"`
	ServiceAccounts     []string    `json:"service_accounts,omitempty" jsonschema:"maxItems=100" jsonschema_description:"filter"`
	Query               string      `json:"query,omitempty" jsonschema_description:"filter"`
	Kind                string      `json:"kind,omitempty" enum:"user,service,unknown" jsonschema_description:"filter"`
	Status              string      `json:"status,omitempty" enum:"active,blocked,expired,in_grace" jsonschema_description:"filter"`
	Access              string      `json:"access,omitempty" enum:"admin,write,read,custom,unknown" jsonschema_description:"filter"`
	CreatedAfter        string      `json:"created_after,omitempty" jsonschema_description:"filter"`
	CreatedBefore       string      `json:"created_before,omitempty" jsonschema_description:"filter"`
	UnusedFor           string      `json:"unused_for,omitempty" jsonschema_description:"filter"`
	ExpiresWithin       string      `json:"expires_within,omitempty" jsonschema_description:"filter"`
	AllOfServiceAccount bool        `json:"all_of_service_account,omitempty" when:"at_once" jsonschema_description:"with one id in service_accounts: ends all its tokens at once"`
	Everything          bool        `json:"everything,omitempty" when:"at_once" jsonschema_description:"Atlassian: the whole organization; a human must agree"`
	Exclude             []string    `json:"exclude,omitempty" jsonschema:"maxItems=100" jsonschema_description:"ids to spare"`
	Reason              string      `json:"reason" jsonschema_description:"why, for the record"`
	AllowInUse          bool        `json:"allow_in_use,omitempty" when:"in_use" jsonschema_description:"end those in use too"`
	Confirm             confirmCode `json:"confirm,omitempty" jsonschema_description:"code from the preview"`
}

func (in bulkRevokeTokensIn) filters() filterArguments {
	return filterArguments{
		Owner: in.Owner, ServiceAccounts: in.ServiceAccounts, Query: in.Query, Kind: in.Kind, Status: in.Status,
		Access: in.Access, CreatedAfter: in.CreatedAfter, CreatedBefore: in.CreatedBefore,
		UnusedFor: in.UnusedFor, ExpiresWithin: in.ExpiresWithin,
	}
}

// bulkRevokeTokensOut is the result of bulk_revoke_tokens.
type bulkRevokeTokensOut struct {
	preview
	Targets *targets       `json:"targets,omitempty"`
	Counts  map[string]int `json:"counts,omitempty" jsonschema_description:"targets by result"`
	Results []bulkResult   `json:"results,omitempty" jsonschema_description:"all but plain revoked ones"`
	Revoked []string       `json:"revoked,omitempty" jsonschema_description:"ids"`
	Left    *int           `json:"still_matching,omitempty" jsonschema_description:"in a listing afterwards"`
	LeftIDs []string       `json:"still_matching_ids,omitempty"`
	ByOwner map[string]int `json:"by_owner,omitempty"`
	ByAge   map[string]int `json:"by_age,omitempty" jsonschema_description:"by year of creation"`
}

// bulkResult is how one target ended.
type bulkResult struct {
	ID     string `json:"id"`
	Result string `json:"result" jsonschema:"enum=already_gone,enum=failed,enum=unknown,enum=not_attempted"`
	Why    string `json:"why,omitempty"`
}

func bulkRevokeTokens() Tool {
	return defineAny[bulkRevokeTokensIn, bulkRevokeTokensOut](Tool{
		Name:  "bulk_revoke_tokens",
		Title: "Revoke many API tokens",
		Description: "Ends up to 100 API tokens of one connection for good, chosen by token_ids or by filters. It previews " +
			"the exact targets first, and acts on the confirm code of that preview.",
		Class:      policy.Bulk,
		Needs:      "as revoke_token; Atlassian, a whole service account: `delete:service-accounts-tokens:admin`, everything: `delete:tokens:admin`",
		Capability: "bulk_revoke",
		Serves:     servesAs[providers.Revoker],
	}, handleBulkRevokeTokens)
}

func handleBulkRevokeTokens(ctx context.Context, c *Call, in bulkRevokeTokensIn) (any, error) {
	connection, err := c.connection(ctx, in.Connection)
	if err != nil {
		return nil, err
	}
	if err := in.check(connection); err != nil {
		return nil, err
	}
	p := c.startProgress(ctx, "tokens")
	defer p.stop()
	b := &bulk{call: c, connection: connection, in: in, progress: p}
	out, err := flow[bulkPlan, bulkRevokeTokensOut]{
		connection:   connection,
		arguments:    in,
		code:         in.Confirm,
		reason:       in.Reason,
		plan:         b.plan,
		propose:      b.propose,
		wrap:         func(p preview, t *targets) bulkRevokeTokensOut { return bulkRevokeTokensOut{preview: p, Targets: t} },
		beforeAsking: b.beforeAsking(),
		act:          b.act,
	}.run(ctx, c)
	var many *tooMany
	if errors.As(err, &many) {
		return many.out, nil
	}
	return out, err
}

// beforeAsking counts again before a person is asked to end everything: a count that has
// changed would be refused afterwards.
func (b *bulk) beforeAsking() func(context.Context, *bulkPlan) error {
	if !b.in.Everything {
		return nil
	}
	return func(ctx context.Context, shown *bulkPlan) error {
		_, err := b.plan(ctx, shown)
		return err
	}
}

// check refuses selections that say nothing, or two things at once.
func (in bulkRevokeTokensIn) check(connection *Connection) error {
	filtered := !in.filterIsEmpty()
	ways := 0
	for _, chosen := range []bool{len(in.TokenIDs) > 0, filtered && !in.AllOfServiceAccount, in.AllOfServiceAccount, in.Everything} {
		if chosen {
			ways++
		}
	}
	switch {
	case ways == 0:
		return &Problem{
			Code: "selection_required", Message: "nothing is selected",
			Next: "give token_ids, or filters of list_tokens, or one id in service_accounts with all_of_service_account: true",
		}
	case ways > 1:
		return &Problem{
			Code: "selection_conflict", Message: "the selection says two things at once",
			Next: "give either token_ids, or filters, or all_of_service_account with one id in service_accounts, or everything alone",
		}
	case in.AllOfServiceAccount && !in.onlyOneServiceAccount():
		return &Problem{
			Code: "selection_conflict", Message: "all_of_service_account needs exactly one id in service_accounts and no other filter",
			Next: "give one id in service_accounts and nothing else, or leave all_of_service_account out",
		}
	case len(in.Exclude) > 0 && (in.AllOfServiceAccount || in.Everything):
		return &Problem{
			Code: "selection_conflict", Message: "the vendor's call ends all tokens or none: exclude cannot be kept",
			Next: "leave exclude out, or select by filters or token_ids",
		}
	}
	return in.checkIDs(connection)
}

func (in bulkRevokeTokensIn) filterIsEmpty() bool {
	f := in.filters()
	return len(f.ServiceAccounts) == 0 && f.Owner+f.Query+f.Kind+f.Status+f.Access+f.CreatedAfter+f.CreatedBefore+f.UnusedFor+f.ExpiresWithin == ""
}

func (in bulkRevokeTokensIn) onlyOneServiceAccount() bool {
	f := in.filters()
	return len(f.ServiceAccounts) == 1 && f.Owner+f.Query+f.Kind+f.Status+f.Access+f.CreatedAfter+f.CreatedBefore+f.UnusedFor+f.ExpiresWithin == ""
}

// checkIDs checks every id before anything is sent.
func (in bulkRevokeTokensIn) checkIDs(connection *Connection) error {
	for _, id := range slices.Concat(in.TokenIDs, in.Exclude) {
		if err := connection.Provider.CheckID(providers.PartToken, id); err != nil {
			return err
		}
	}
	f := in.filters()
	if err := checkIDs(providers.Filter{Owner: f.Owner, ServiceAccounts: f.ServiceAccounts}, connection); err != nil {
		return err
	}
	_, bulkable := connection.Provider.(providers.BulkRevoker)
	if (in.AllOfServiceAccount || in.Everything) && !bulkable {
		return &Problem{
			Code:    string(providers.CodeNotOffered),
			Message: connection.Provider.Name() + " has no call that ends many tokens at once",
			Next:    "select by token_ids or filters: the tokens are then ended one by one",
		}
	}
	if in.Everything && !connection.OrgWideRevoke {
		return &Problem{
			Code:    "policy_refused",
			Message: "everything is off: connections." + connection.Name + ".org_wide_revoke is not true",
			Next:    "ask the operator, or select by filters",
		}
	}
	return nil
}
