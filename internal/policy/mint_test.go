package policy_test

import (
	"slices"
	"testing"
	"time"

	"github.com/tokenreeve/tokenreeve/internal/policy"
	"github.com/tokenreeve/tokenreeve/providers"
)

func TestRefusesGrant(t *testing.T) {
	t.Parallel()
	const future policy.Grant = "owner" // of a vendor's next version
	all := append(policy.Grants(), future, "")
	tests := map[string]struct {
		access  []policy.Grant
		allowed []policy.Grant
	}{
		"default":       {nil, []policy.Grant{policy.GrantRead, policy.GrantWrite}},
		"none":          {[]policy.Grant{}, nil},
		"read":          {[]policy.Grant{policy.GrantRead}, []policy.Grant{policy.GrantRead}},
		"custom":        {[]policy.Grant{policy.GrantRead, policy.GrantCustom}, []policy.Grant{policy.GrantRead, policy.GrantCustom}},
		"inline":        {[]policy.Grant{policy.GrantInline}, []policy.Grant{policy.GrantInline}},
		"account admin": {[]policy.Grant{policy.GrantAccountAdmin}, []policy.Grant{policy.GrantAccountAdmin}},
		"admin":         {[]policy.Grant{policy.GrantAdmin}, all},
		"unknown words": {[]policy.Grant{future, ""}, nil},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := policy.Policy{Connection: "acme", Mint: policy.MintRules{Access: tt.access}}
			for _, grant := range all {
				if got := p.RefusesGrant(grant); (got == "") != slices.Contains(tt.allowed, grant) {
					t.Errorf("%q: %q", grant, got)
				}
			}
		})
	}
}

func TestRefusesGrantSaysWhere(t *testing.T) {
	t.Parallel()
	for grant, want := range map[policy.Grant][2]string{
		policy.GrantAdmin:        {"admin access is not allowed by default", `lacks "admin"`},
		policy.GrantAccountAdmin: {"account admin access is not allowed by default", `lacks "account_admin"`},
		policy.GrantCustom:       {"access by custom roles is not allowed by default", `lacks "custom"`},
		policy.GrantInline:       {"access by an inline role is not allowed by default", `lacks "inline"`},
		"owner":                  {"admin access is not allowed by default", `lacks "admin"`},
	} {
		if got := (policy.Policy{Connection: "acme"}).RefusesGrant(grant); got != "connections.acme.mint.access is not set, and "+want[0] {
			t.Errorf("%s, not set: %q", grant, got)
		}
		p := policy.Policy{Connection: "acme", Mint: policy.MintRules{Access: []policy.Grant{policy.GrantRead}}}
		if got := p.RefusesGrant(grant); got != "connections.acme.mint.access "+want[1] {
			t.Errorf("%s, read only: %q", grant, got)
		}
	}
}

func TestRefusesLife(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 1, 12, 0, 0, 500, time.UTC)
	in := func(d time.Duration) providers.Date { return providers.At(now.Add(d)) }
	const day = 24 * time.Hour
	const until = "; the latest valid moment is 2026-05-30T12:00:00Z"
	longest := policy.MintRules{LongestLife: 90 * day}
	required := policy.MintRules{ExpiryRequired: true}
	both := policy.MintRules{LongestLife: 90 * day, ExpiryRequired: true}
	tests := map[string]struct {
		mint    policy.MintRules
		expires providers.Date
		want    string
	}{
		"no rule, never":       {policy.MintRules{}, providers.Never(), ""},
		"no rule, unknown":     {policy.MintRules{}, providers.Date{}, ""},
		"no rule, far":         {policy.MintRules{}, in(9999 * day), ""},
		"within":               {longest, in(day), ""},
		"at the latest":        {longest, in(90 * day), ""},
		"the moment it says":   {longest, providers.At(time.Date(2026, 5, 30, 12, 0, 0, 0, time.UTC)), ""},
		"too far":              {longest, in(90*day + time.Second), "connections.acme.mint.longest_life is 90d, and the token would expire 2026-05-30T12:00:01Z" + until},
		"never":                {longest, providers.Never(), "connections.acme.mint.longest_life is 90d, and the token would never expire" + until},
		"unknown":              {longest, providers.Date{}, "connections.acme.mint.longest_life is 90d, and nobody tells when the token would expire" + until},
		"required":             {required, in(9999 * day), ""},
		"required, never":      {required, providers.Never(), "connections.acme.mint.expiry_required is true, and the token would never expire"},
		"required, unknown":    {required, providers.Date{}, "connections.acme.mint.expiry_required is true, and nobody tells when the token would expire"},
		"both, within":         {both, in(day), ""},
		"both, never":          {both, providers.Never(), "connections.acme.mint.longest_life is 90d, and the token would never expire" + until},
		"a life of some hours": {policy.MintRules{LongestLife: 12 * time.Hour}, providers.Never(), "connections.acme.mint.longest_life is 12h, and the token would never expire; the latest valid moment is 2026-03-02T00:00:00Z"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := policy.Policy{Connection: "acme", Mint: tt.mint}
			if got := p.RefusesLife(tt.expires, now); got != tt.want {
				t.Errorf("RefusesLife = %q, want %q", got, tt.want)
			}
		})
	}
}
