package policy_test

import (
	"strings"
	"testing"

	"github.com/tokenreeve/tokenreeve/internal/policy"
	"github.com/tokenreeve/tokenreeve/internal/sanitize"
	"github.com/tokenreeve/tokenreeve/providers"
)

// A token is no less protected by what is hidden in its name, or in the setting, or where only a part of
// its name is shown.
func TestProtectsWhatWasCleaned(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("very ", 40) + "prod"
	for name, test := range map[string]struct {
		pattern, tokenName string
		protects           bool
	}{
		"hidden in the name":                {"*prod*", "pro\u200bd deploy", true},
		"hidden in the setting":             {"*pro\u200bd*", "prod deploy", true},
		"spaces in the setting":             {"nightly\u00a0 prod", "nightly prod", true},
		"joined emoji":                      {"👩\u200d💻 *", "👩\u200d💻 laptop", true},
		"Persian":                           {"می\u200cخواهم*", "می\u200cخواهم ۱", true},
		"beyond what is shown":              {"*prod", long, true},
		"perhaps in what is masked":         {"*prod*", "old api-0e9a1ad4-1111-4222-8333-444455556666", true},
		"another name":                      {"*prod*", "staging", false},
		"another name, cleaned":             {"*prod*", "stag\u200bing", false},
		"a name that only looks as if cut":  {"*prod", "staging…", false},
		"a name that only looks as if mask": {"*prod", "staging [redacted]", false},
	} {
		shown, altered := sanitize.Name(test.tokenName)
		token := providers.Token{ID: "1", Name: shown, NameAltered: altered}
		rule := policy.Policy{Connection: "x", Protect: policy.Protect{Names: []string{test.pattern}}}.Protects(&token)
		if (rule != "") != test.protects {
			t.Errorf("%s: %q protects %q: %q", name, test.pattern, shown, rule)
		}
	}
	email := "0123456789abcdef0123456789abcdef@acme.example"
	shown, _ := sanitize.Name(email)
	token := providers.Token{ID: "1", Owner: providers.Owner{ID: "7", Email: shown}}
	if rule := (policy.Policy{Protect: policy.Protect{Owners: []string{email}}}).Protects(&token); rule == "" {
		t.Errorf("an owner whose address shows as %q is not protected by it", shown)
	}
}
