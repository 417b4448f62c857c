package launchdarkly_test

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/tokenreeve/tokenreeve/internal/secret"
	"github.com/tokenreeve/tokenreeve/internal/vendortest"
	"github.com/tokenreeve/tokenreeve/providers"
	"github.com/tokenreeve/tokenreeve/providers/launchdarkly"
)

// No text of LaunchDarkly's passes the provider as it is.
func TestHostileAnswers(t *testing.T) {
	t.Parallel()
	vendortest.HostileVendor{
		Received: launchdarkly.Received(),
		Sent:     []string{"creation", "Statement", "Operation"},
		Route: func(method, path string) (string, int) {
			switch {
			case strings.HasSuffix(path, "/caller-identity"):
				return "caller", http.StatusOK
			case method == http.MethodDelete:
				return "", http.StatusNoContent
			case method == http.MethodGet && strings.HasSuffix(path, "/tokens"):
				return "page", http.StatusOK
			case method == http.MethodPost && strings.HasSuffix(path, "/tokens"):
				return "record", http.StatusCreated
			default:
				return "record", http.StatusOK
			}
		},
		Keep: map[string]any{
			"page.items[]._id": tokenID, "page.items[].memberId": memberID, "page._links.next": nil, "page.items[].token": "9f3c",
			"record._id": tokenID, "record.memberId": memberID, "record.token": newSecret,
			"caller.tokenId": ownID,
		},
		Calls: hostileCalls,
		Closed: map[string]string{
			"ID": "24 hex digits, or the answer is refused", "Owner.ID": "24 hex digits, or it is left out",
			"Kind": "our own word", "Status": "our own word", "Access": "our own word",
			"NameKey": "a digest", "LastFour": "four letters that cleaning leaves as they are",
			"Detail.CreatedBy": "LaunchDarkly tells the owner",
		},
		Raw: map[string]string{
			"AccessKey":    "compared, never shown or kept",
			"Operations[]": "what the caller asked for",
		},
	}.Run(t)
}

func hostileCalls(t *testing.T, base string) map[string]func(context.Context) (any, error) {
	t.Helper()
	p := provider(t, base)
	token := providers.Token{ID: tokenID}
	name := "renamed"
	spec := launchdarkly.TokenSpec{Name: vendortest.Word("page.items[].name"), Role: "reader"}
	plan := providers.RotationPlan{Method: providers.MethodReset, OldEnds: providers.At(start.Add(time.Hour))}
	return map[string]func(context.Context) (any, error){
		"list": func(ctx context.Context) (any, error) { return vendortest.Pages(p.List(ctx, providers.Filter{}, "")) },
		"count": func(ctx context.Context) (any, error) {
			count, _, err := p.Count(ctx, providers.Filter{})
			return count, err
		},
		"get":      func(ctx context.Context) (any, error) { return p.Get(ctx, providers.Ref{ID: tokenID}) },
		"identity": func(ctx context.Context) (any, error) { return p.Identity(ctx) },
		"examine":  func(ctx context.Context) (any, error) { return p.Examine(ctx, true), nil },
		"create":   func(ctx context.Context) (any, error) { return p.Create(ctx, spec) },
		"plan of an update": func(ctx context.Context) (any, error) {
			return p.PlanUpdate(ctx, token, launchdarkly.Change{Name: &name, CustomRoles: []string{roleID}})
		},
		"update": func(ctx context.Context) (any, error) {
			return p.Update(ctx, token, launchdarkly.Change{Description: &name})
		},
		"plan of a rotation": func(ctx context.Context) (any, error) {
			return p.PlanRotation(ctx, token, providers.RotationAsk{Now: start})
		},
		"rotate": func(ctx context.Context) (any, error) { return p.Rotate(ctx, token, plan) },
		"revoke": func(ctx context.Context) (any, error) { return p.Revoke(ctx, token) },
		"verify": func(ctx context.Context) (any, error) { return p.VerifySecret(ctx, token, secret.New(newSecret)) },
	}
}
