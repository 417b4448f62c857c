package mailtrap_test

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"github.com/tokenreeve/tokenreeve/internal/secret"
	"github.com/tokenreeve/tokenreeve/internal/vendortest"
	"github.com/tokenreeve/tokenreeve/providers"
	"github.com/tokenreeve/tokenreeve/providers/mailtrap"
)

// No text of Mailtrap's passes the provider as it is.
func TestHostileAnswers(t *testing.T) {
	t.Parallel()
	const id, newID, minted = "2496915", "2498715", "fedcba9876543210fedcba987654856f"
	vendortest.HostileVendor{
		Received: mailtrap.Received(),
		Likes:    mailtrap.Likes(),
		Sent:     []string{"newToken", "grant"},
		Route: func(method, path string) (string, int) {
			switch {
			case strings.HasSuffix(path, "/api/accounts"):
				return "accounts", http.StatusOK
			case strings.HasSuffix(path, "/permissions/resources"):
				return "tree", http.StatusOK
			case method == http.MethodDelete:
				return "", http.StatusNoContent
			case method == http.MethodPost:
				return "minted", http.StatusOK
			case strings.HasSuffix(path, "/api_tokens"):
				return "list", http.StatusOK
			default:
				return "record", http.StatusOK
			}
		},
		Keep: map[string]any{
			"list[].id": id, "record.id": id, "minted.id": newID, "minted.token": minted, "tree[].type": "project",
			"list[].last_4_digits": "9daa", "list[].expires_at": nil, "record.expires_at": "2027-01-01T00:00:00Z",
			"record.resources[].resource_type": "account", "record.resources[].resource_id": 3229, "record.resources[].access_level": 10,
			"list[].resources[].resource_id": 12, "list[].resources[].access_level": 100,
		},
		Calls: func(t *testing.T, base string) map[string]func(context.Context) (any, error) {
			t.Helper()
			p := build(t, config(base))
			token := providers.Token{ID: id, Name: vendortest.Word("record.name")}
			twin := providers.RotationPlan{Method: providers.MethodTwin, NewExpires: providers.At(now.AddDate(1, 0, 0))}
			return map[string]func(context.Context) (any, error){
				"list": func(ctx context.Context) (any, error) { return vendortest.Pages(p.List(ctx, providers.Filter{}, "")) },
				"get":  func(ctx context.Context) (any, error) { return p.Get(ctx, providers.Ref{ID: id}) },
				"resources": func(ctx context.Context) (any, error) {
					first, _, err := p.Resources(ctx)
					return first, err
				},
				"check of permissions": func(ctx context.Context) (any, error) {
					return nil, p.CheckPermissions(ctx, []mailtrap.Permission{{ResourceType: "project", ResourceID: "7", AccessLevel: "viewer"}})
				},
				"examine": func(ctx context.Context) (any, error) { return p.Examine(ctx, true), nil },
				"create":  func(ctx context.Context) (any, error) { return p.Create(ctx, spec()) },
				"plan of a rotation": func(ctx context.Context) (any, error) {
					return p.PlanRotation(ctx, token, providers.RotationAsk{Now: now})
				},
				"plan of a compromised one": func(ctx context.Context) (any, error) {
					return p.PlanRotation(ctx, token, providers.RotationAsk{Now: now, Compromised: true})
				},
				"reset": func(ctx context.Context) (any, error) {
					read, err := p.Get(ctx, providers.Ref{ID: id})
					if err != nil {
						return nil, err
					}
					return p.Rotate(ctx, read, providers.RotationPlan{Method: providers.MethodReset})
				},
				"twin": func(ctx context.Context) (any, error) {
					read, err := p.Get(ctx, providers.Ref{ID: id})
					if err != nil {
						return nil, err
					}
					return p.Rotate(ctx, read, twin)
				},
				"rotate what changed": func(ctx context.Context) (any, error) {
					return p.Rotate(ctx, token, providers.RotationPlan{Method: providers.MethodReset})
				},
				"revoke": func(ctx context.Context) (any, error) { return p.Revoke(ctx, token) },
				"verify": func(ctx context.Context) (any, error) { return p.VerifySecret(ctx, token, secret.New(minted)) },
			}
		},
		Closed: map[string]string{
			"ID":       "a whole number, or the answer is refused",
			"Owner.ID": "Mailtrap tells no owner", "Owner.Name": "Mailtrap tells no owner", "Owner.Email": "Mailtrap tells no owner",
			"Kind": "our own word", "Status": "our own word", "Access": "our own word",
			"NameKey": "a digest", "LastFour": "four letters that cleaning leaves as they are",
			"Detail.Description": "Mailtrap has none",
		},
		Raw: map[string]string{"AccessKey": "compared, never shown; kept as a digest"},
	}.Run(t)
}
