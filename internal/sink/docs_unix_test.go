//go:build unix

package sink_test

import (
	"bytes"
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tokenreeve/tokenreeve/internal/secret"
	"github.com/tokenreeve/tokenreeve/internal/sink"
)

// execExample is an exec sink as it stands in the document.
type execExample struct {
	Type         string
	Argv, Rotate []string
	Stdin        string
	Env          []string
	Timeout      string
	Accept       struct{ Prefixes []string }
}

// examples are the exec sinks in docs/sinks.md, by name.
func examples(t *testing.T) map[string]execExample {
	t.Helper()
	document, err := os.ReadFile("../../docs/sinks.md")
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]execExample{}
	for _, block := range regexp.MustCompile("(?s)```json\n(.*?)\n```").FindAllSubmatch(document, -1) {
		var config struct{ Sinks map[string]json.RawMessage }
		if err := json.Unmarshal(block[1], &config); err != nil {
			t.Errorf("%v:\n%s", err, block[1])
		}
		for name, raw := range config.Sinks {
			if !strings.Contains(string(raw), `"type": "exec"`) {
				continue
			}
			var example execExample
			decoder := json.NewDecoder(bytes.NewReader(raw))
			decoder.DisallowUnknownFields()
			if err := decoder.Decode(&example); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			found[name] = example
		}
	}
	return found
}

// Each example hands the secret to a stand-in for its command: on standard input, and nowhere else.
func TestDocumentedCommands(t *testing.T) {
	home := surround(t)
	opItem := `{"title":"LAUNCHDARKLY_TOKEN","category":"API_CREDENTIAL","fields":[{"id":"credential","type":"CONCEALED","label":"credential","value":"` + canary + `"}]}`
	manifest := `{"apiVersion":"v1","kind":"Secret","metadata":{"name":"launchdarkly-token"},"stringData":{"token":"` + canary + `"}}`
	kubectl := "kubectl --context prod --namespace ci "
	tests := []struct{ sink, key, create, rotate, stdin string }{
		{"onepassword", "LAUNCHDARKLY_TOKEN", "op item create --vault CI -", "op item edit LAUNCHDARKLY_TOKEN --vault CI", opItem},
		{"github", "LAUNCHDARKLY_TOKEN", "gh secret set LAUNCHDARKLY_TOKEN --repo acme/shop", "gh secret set LAUNCHDARKLY_TOKEN --repo acme/shop", canary},
		{"cluster", "launchdarkly-token", kubectl + "create -f -", kubectl + "patch secret launchdarkly-token --type=merge --patch-file=/dev/stdin", manifest},
		{"aws", "ci/launchdarkly", "aws secretsmanager create-secret --name ci/launchdarkly --secret-string file:///dev/stdin", "aws secretsmanager put-secret-value --secret-id ci/launchdarkly --secret-string file:///dev/stdin", canary},
		{"gcp", "launchdarkly-token", "gcloud secrets create launchdarkly-token --project=acme-prod --replication-policy=automatic --data-file=- --quiet", "gcloud secrets versions add launchdarkly-token --project=acme-prod --data-file=- --quiet", canary},
		{"doppler", "LAUNCHDARKLY_TOKEN", "doppler secrets set LAUNCHDARKLY_TOKEN --project shop --config prd --no-interactive --silent", "doppler secrets set LAUNCHDARKLY_TOKEN --project shop --config prd --no-interactive --silent", canary},
		{"infisical", "LAUNCHDARKLY_TOKEN", "infisical secrets set --file=/dev/stdin --projectId=3f1c7a52-0d3e-4b7e-9a35-1d2b6f0c8e11 --env=prod --path=/ --silent", "infisical secrets set --file=/dev/stdin --projectId=3f1c7a52-0d3e-4b7e-9a35-1d2b6f0c8e11 --env=prod --path=/ --silent", "LAUNCHDARKLY_TOKEN=" + canary},
	}
	documented := examples(t)
	if len(documented) != len(tests) {
		t.Errorf("the document has %d examples, want %d", len(documented), len(tests))
	}
	for _, tt := range tests {
		example, ok := documented[tt.sink]
		if !ok {
			t.Errorf("the document has no example %s", tt.sink)
			continue
		}
		var timeout time.Duration
		if example.Timeout != "" {
			var err error
			if timeout, err = time.ParseDuration(example.Timeout); err != nil {
				t.Error(err)
			}
		}
		e := newExec(t, sink.ExecOptions{
			Argv: example.Argv, Rotate: example.Rotate, Stdin: example.Stdin, Env: example.Env, Timeout: timeout,
			Accept: sink.Accept{Prefixes: example.Accept.Prefixes},
		})
		for argv, o := range map[string]sink.Options{tt.create: {}, tt.rotate: successor} {
			if err := e.Check(t.Context(), parse(t, tt.key), o); err != nil {
				t.Errorf("%s: %v", tt.sink, err)
			}
			if _, err := e.Deliver(t.Context(), parse(t, tt.key), secret.New(canary), o); err != nil {
				t.Errorf("%s: %v", tt.sink, err)
			}
			saw := seen(t, home)
			if diff := cmp.Diff(strings.Fields(argv), saw.Argv); diff != "" {
				t.Errorf("%s: %s", tt.sink, diff)
			}
			if saw.Stdin != tt.stdin || strings.Count(saw.Stdin, canary) != 1 {
				t.Errorf("%s: standard input was %q, want %q", tt.sink, saw.Stdin, tt.stdin)
			}
			if strings.Contains(strings.Join(append(saw.Argv, saw.Env...), "\x00"), canary) {
				t.Errorf("%s: the secret is in the arguments or the environment: %q", tt.sink, saw)
			}
			if strings.HasPrefix(tt.stdin, "{") && !json.Valid([]byte(saw.Stdin)) {
				t.Errorf("%s: not JSON: %s", tt.sink, saw.Stdin)
			}
		}
	}
}
