package policy_test

import (
	"strings"
	"testing"
	"time"

	"github.com/tokenreeve/tokenreeve/internal/policy"
	"github.com/tokenreeve/tokenreeve/providers"
)

func TestAllows(t *testing.T) {
	t.Parallel()
	for _, class := range policy.Classes() {
		if !(policy.Policy{}).Allows(class) {
			t.Errorf("the zero policy refuses %s", class)
		}
		if (policy.Policy{Allow: []policy.Class{}}).Allows(class) {
			t.Errorf("an empty list allows %s", class)
		}
		if got := (policy.Policy{Allow: []policy.Class{policy.Read, policy.Revoke}}).Allows(class); got != (class == policy.Read || class == policy.Revoke) {
			t.Errorf("read and revoke: %s is %v", class, got)
		}
	}
	if (policy.Policy{Allow: []policy.Class{policy.Read}}).Allows("") {
		t.Error("a missing class is allowed")
	}
}

func TestTargets(t *testing.T) {
	t.Parallel()
	for most, want := range map[int]int{0: 100, -1: 100, 1: 1, 99: 99, 100: 100, 101: 100, 1 << 30: 100} {
		if got := (policy.Policy{MaxTargets: most}).Targets(); got != want {
			t.Errorf("MaxTargets %d: %d targets, want %d", most, got, want)
		}
	}
}

func TestRevocations(t *testing.T) {
	t.Parallel()
	for most, want := range map[int]int{0: 50, -1: 50, 1: 1, 49: 49, 500: 500, 10_000: 10_000, 10_001: 10_000} {
		if got := (policy.Policy{RevocationsPerHour: most}).Revocations(); got != want {
			t.Errorf("RevocationsPerHour %d: %d revocations, want %d", most, got, want)
		}
	}
}

func TestProtects(t *testing.T) {
	t.Parallel()
	token := providers.Token{
		ID: "asp_1", Name: "Terraform PROD (do not delete)",
		Owner: providers.Owner{ID: "712020:7", Name: "Dana Example", Email: "Dana@Acme.example"},
		Kind:  providers.KindService,
	}
	tests := map[string]struct {
		protect policy.Protect
		says    string // part of the rule, "" for none
	}{
		"nothing":                  {policy.Protect{}, ""},
		"id":                       {policy.Protect{IDs: []string{"asp_2", "asp_1"}}, `protect.ids has "asp_1"`},
		"another id":               {policy.Protect{IDs: []string{"asp_", "asp_11", "ASP_1"}}, ""},
		"owner's id":               {policy.Protect{Owners: []string{"712020:7"}}, `protect.owners has "712020:7"`},
		"owner's address":          {policy.Protect{Owners: []string{"dana@acme.EXAMPLE"}}, `protect.owners has "dana@acme.EXAMPLE"`},
		"owner's name":             {policy.Protect{Owners: []string{"Dana Example"}}, ""},
		"part of an address":       {policy.Protect{Owners: []string{"@acme.example", "dana"}}, ""},
		"whole name":               {policy.Protect{Names: []string{"terraform prod (do not delete)"}}, "protect.names"},
		"part of the name":         {policy.Protect{Names: []string{"terraform", "prod", "delete)"}}, ""},
		"start":                    {policy.Protect{Names: []string{"terraform*"}}, "protect.names"},
		"end":                      {policy.Protect{Names: []string{"*delete)"}}, "protect.names"},
		"middle":                   {policy.Protect{Names: []string{"*PROD*"}}, "protect.names"},
		"two parts":                {policy.Protect{Names: []string{"terra*(do*)"}}, "protect.names"},
		"parts in the wrong order": {policy.Protect{Names: []string{"*delete*prod*"}}, ""},
		"overlapping parts":        {policy.Protect{Names: []string{"terraform prod (do not delete)*)"}}, ""},
		"all":                      {policy.Protect{Names: []string{"*"}}, `protect.names has "*"`},
		"stars":                    {policy.Protect{Names: []string{"**"}}, "protect.names"},
		"no pattern characters":    {policy.Protect{Names: []string{"terraform.*", "terraform ?*", "[Tt]*"}}, ""},
		"kind":                     {policy.Protect{Kinds: []string{"user", "service"}}, `protect.kinds has "service"`},
		"other kinds":              {policy.Protect{Kinds: []string{"user", "unknown", "Service", ""}}, ""},
		"a name before a kind":     {policy.Protect{Names: []string{"*"}, Kinds: []string{"service"}}, "protect.names"},
		"the first rule that fits": {policy.Protect{IDs: []string{"x"}, Owners: []string{"y"}, Names: []string{"z", "*form*"}}, `"*form*"`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := policy.Policy{Connection: "acme", Protect: tt.protect}
			got := p.Protects(&token)
			if (got == "") != (tt.says == "") || !strings.Contains(got, tt.says) {
				t.Errorf("Protects = %q, want %q", got, tt.says)
			}
			if got != "" && !strings.HasPrefix(got, "connections.acme.protect.") {
				t.Errorf("%q does not say where the rule is set", got)
			}
		})
	}
}

// TestProtectsWhatIsNotTold: an unknown fact must not be taken for a match.
func TestProtectsWhatIsNotTold(t *testing.T) {
	t.Parallel()
	p := policy.Policy{Protect: policy.Protect{IDs: []string{"a"}, Owners: []string{"dana@acme.example", "712020:7"}, Names: []string{"x*"}}}
	p.Protect.Kinds = []string{"user", "service"}
	if rule := p.Protects(&providers.Token{ID: "b"}); rule != "" {
		t.Errorf("a token without name, owner and kind is protected by %s", rule)
	}
	p.Protect.Kinds = []string{"unknown"}
	for _, kind := range []providers.Kind{providers.KindUnknown, ""} {
		if rule := p.Protects(&providers.Token{ID: "b", Kind: kind}); !strings.Contains(rule, `protect.kinds has "unknown"`) {
			t.Errorf("a token of the kind %q is protected by %q", kind, rule)
		}
	}
}

func TestProtectsAny(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		protect policy.Protect
		want    bool
	}{
		"nothing": {policy.Protect{IDs: []string{}, Kinds: []string{}}, false},
		"ids":     {policy.Protect{IDs: []string{"a"}}, true},
		"owners":  {policy.Protect{Owners: []string{"a"}}, true},
		"names":   {policy.Protect{Names: []string{"a"}}, true},
		"kinds":   {policy.Protect{Kinds: []string{"user"}}, true},
	} {
		if got := (policy.Policy{Protect: tt.protect}).ProtectsAny(); got != tt.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestNeedsInUse(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	ago := func(d time.Duration) providers.Date { return providers.At(now.Add(-d)) }
	tests := map[string]struct {
		inUse time.Duration
		used  providers.Date
		want  string
	}{
		"off":                {0, ago(time.Second), ""},
		"off, nobody tells":  {0, providers.Date{}, ""},
		"never used":         {24 * time.Hour, providers.Never(), ""},
		"used long ago":      {24 * time.Hour, ago(24*time.Hour + 1), ""},
		"used at that limit": {24 * time.Hour, ago(24 * time.Hour), "connections.acme.in_use is 24h, and the token was last used 2026-02-28T12:00:00Z"},
		"used lately":        {7 * 24 * time.Hour, ago(time.Hour), "connections.acme.in_use is 7d, and the token was last used 2026-03-01T11:00:00Z"},
		"the vendor's clock": {time.Hour, ago(-time.Minute), "connections.acme.in_use is 1h, and the token was last used 2026-03-01T12:01:00Z"},
		"nobody tells":       {90 * time.Minute, providers.Date{}, "connections.acme.in_use is 1h30m0s, and nobody tells when the token was last used"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := policy.Policy{Connection: "acme", InUse: tt.inUse}
			if got := p.NeedsInUse(&providers.Token{LastUsed: tt.used}, now); got != tt.want {
				t.Errorf("NeedsInUse = %q, want %q", got, tt.want)
			}
		})
	}
}

func TestProtectsByEmail(t *testing.T) {
	t.Parallel()
	for owner, want := range map[string]bool{"712020:7": false, "dana@acme.example": true} {
		if got := (policy.Policy{Protect: policy.Protect{Owners: []string{"x", owner}}}).ProtectsByEmail(); got != want {
			t.Errorf("%s: %v", owner, got)
		}
	}
}

// FuzzProtectsName: a star stands for any text, and every other letter for itself.
func FuzzProtectsName(f *testing.F) {
	f.Add("tokenreeve", "token", "reeve")
	f.Add("", "", "")
	f.Add("aaa", "a", "aa")
	f.Fuzz(func(t *testing.T, middle, start, end string) {
		if strings.Contains(start+end, "*") {
			t.Skip()
		}
		p := policy.Policy{Protect: policy.Protect{Names: []string{start + "*" + end}}}
		// Letters are compared in lower case, which does not keep every length.
		name := strings.ToLower(start) + middle + strings.ToLower(end)
		if p.Protects(&providers.Token{Name: name}) == "" {
			t.Errorf("%q does not match %q", start+"*"+end, name)
		}
	})
}
