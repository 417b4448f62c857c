package auth_test

import (
	"reflect"
	"testing"

	"github.com/tokenreeve/tokenreeve/auth"
	"github.com/tokenreeve/tokenreeve/internal/vendortest"
)

// The name of a caller is clean wherever it goes, and different callers stay different.
func TestPrincipalNamesAreClean(t *testing.T) {
	t.Parallel()
	seen := map[string]string{}
	for _, name := range []string{
		"local", "ci-agent", "dana@acme.example", "Zoë", "a\u200bb", "ab", "a\u200cb", "x\x1b[31m", vendortest.HostileText("x", "api-5ec2e75a-ab12-4d3a-9e52-c0ffee5ec2e7"),
	} {
		p, ok := auth.PrincipalFrom(auth.WithPrincipal(t.Context(), auth.Principal{Name: name, IsAdmin: true}))
		if !ok || !p.IsAdmin || vendortest.Danger(p.Name) != "" || p.Name == "" {
			t.Errorf("%q became %+v", name, p)
		}
		if other, taken := seen[p.Name]; taken {
			t.Errorf("%q and %q are both %q", name, other, p.Name)
		}
		seen[p.Name] = name
		if again, _ := auth.PrincipalFrom(auth.WithPrincipal(t.Context(), p)); !reflect.DeepEqual(again, p) {
			t.Errorf("%q does not stay: %+v", name, again)
		}
	}
	if seen["local"] != "local" || seen["Zoë"] != "Zoë" {
		t.Errorf("ordinary names changed: %v", seen)
	}
}
