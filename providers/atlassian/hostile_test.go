package atlassian_test

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"github.com/tokenreeve/tokenreeve/internal/vendortest"
	"github.com/tokenreeve/tokenreeve/providers"
	"github.com/tokenreeve/tokenreeve/providers/atlassian"
)

// No text of Atlassian's passes the provider as it is.
func TestHostileAnswers(t *testing.T) {
	t.Parallel()
	vendortest.HostileVendor{
		Received: atlassian.Received(),
		Route: func(method, path string) (string, int) {
			switch {
			case method == http.MethodDelete:
				return "", http.StatusNoContent
			case strings.HasSuffix(path, "/service-accounts/count"):
				return "counts", http.StatusOK
			case strings.HasSuffix(path, "/count"):
				return "count", http.StatusOK
			case strings.HasPrefix(path, "/users/"):
				return "user", http.StatusOK
			case strings.HasSuffix(path, "/api-keys"):
				return "keys", http.StatusOK
			case strings.Contains(path, "/service-accounts/"):
				return "list", http.StatusOK
			default:
				return "page", http.StatusOK
			}
		},
		Keep: map[string]any{
			"page.data[].id": robot, "page.data[].user.id": dana, "page.links.next": nil, "keys.links.next": nil,
			"list[].id": "asp_Bot", "list[].user.id": bot, "user[].id": robot,
			"counts.validServiceAccountIds[].serviceAccountId": bot, "counts.invalidServiceAccountIds": []any{},
		},
		Calls: func(t *testing.T, base string) map[string]func(context.Context) (any, error) {
			t.Helper()
			p := open(t, base, func(c *atlassian.Config) { c.VendorFilters = true })
			list := func(f providers.Filter) func(context.Context) (any, error) {
				return func(ctx context.Context) (any, error) { return vendortest.Pages(p.List(ctx, f, "")) }
			}
			count := func(f providers.Filter) func(context.Context) (any, error) {
				return func(ctx context.Context) (any, error) {
					count, _, err := p.Count(ctx, f)
					return count, err
				}
			}
			get := func(ref providers.Ref) func(context.Context) (any, error) {
				return func(ctx context.Context) (any, error) { return p.Get(ctx, ref) }
			}
			return map[string]func(context.Context) (any, error){
				"list":                     list(providers.Filter{}),
				"list an owner's":          list(providers.Filter{Owner: dana}),
				"list a service account's": list(providers.Filter{ServiceAccounts: []string{bot}}),
				"search":                   list(providers.Filter{Query: "x", VendorSearch: true}),
				"count":                    count(providers.Filter{}),
				"count service accounts'":  count(providers.Filter{ServiceAccounts: []string{bot}}),
				"get":                      get(providers.Ref{ID: robot}),
				"get of an owner":          get(providers.Ref{ID: robot, Owner: dana}),
				"get of another owner":     get(providers.Ref{ID: "asp_Bot", Owner: dana}),
				"get by e-mail":            get(providers.Ref{ID: robot, Owner: "dana@example.com"}),
				"locate":                   func(ctx context.Context) (any, error) { return p.Locate(ctx, []string{robot, "asp_Bot"}) },
				"revoke": func(ctx context.Context) (any, error) {
					return p.Revoke(ctx, providers.Token{ID: robot, Owner: providers.Owner{ID: dana}})
				},
				"revoke what is named otherwise": func(ctx context.Context) (any, error) {
					return p.Revoke(ctx, providers.Token{ID: "asp_Other", Owner: providers.Owner{ID: dana}})
				},
				"revoke a service account's": func(ctx context.Context) (any, error) { return nil, p.RevokeServiceAccount(ctx, bot) },
				"revoke everything":          func(ctx context.Context) (any, error) { return nil, p.RevokeEverything(ctx) },
				"examine":                    func(ctx context.Context) (any, error) { return p.Examine(ctx, true), nil },
				"identity":                   func(ctx context.Context) (any, error) { return p.Identity(ctx) },
			}
		},
		Closed: map[string]string{
			"ID": "an id, or the digest of what is none", "Owner.ID": "an id, or the digest of what is none",
			"Kind": "our own word", "Status": "our own word", "Access": "our own word",
			"NameKey": "a digest", "LastFour": "Atlassian does not tell it",
			"Detail.Description": "Atlassian has none", "Detail.CreatedBy": "Atlassian tells the owner",
		},
		Raw: map[string]string{
			"AccessKey": "compared, never shown; kept as a digest",
			"[].At":     "the place of a page, for the vendor itself: a caller gets it sealed",
		},
	}.Run(t)
}
