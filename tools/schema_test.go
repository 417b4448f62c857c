package tools_test

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/mark3labs/mcp-go/mcp"

	"github.com/tokenreeve/tokenreeve/internal/policy"
)

// classes are the classes of the tools as the design has them.
func classes() map[string]policy.Class {
	return map[string]policy.Class{
		"list_connections": policy.Read, "list_tokens": policy.Read, "count_tokens": policy.Read, "get_token": policy.Read,
		"create_launchdarkly_token": policy.Mint, "create_mailtrap_token": policy.Mint, "update_launchdarkly_token": policy.Update,
		"rotate_token": policy.Rotate, "revoke_token": policy.Revoke, "bulk_revoke_tokens": policy.Bulk,
		"deliver_secret": policy.Mint, "list_operations": policy.Read, "get_operation": policy.Read,
	}
}

// hints are the annotations of a class: read-only, destructive, idempotent.
func hints() map[policy.Class][3]bool {
	return map[policy.Class][3]bool{
		policy.Read: {true, false, true}, policy.Mint: {false, false, false}, policy.Update: {false, true, true},
		policy.Rotate: {false, true, false}, policy.Revoke: {false, true, true}, policy.Bulk: {false, true, true},
	}
}

func TestAnnotations(t *testing.T) {
	t.Parallel()
	for _, d := range start(t, setup{}).definitions() {
		class, known := classes()[d.Name]
		if !known || d.Annotations == nil {
			t.Errorf("tool %s has no class in the design, or no annotations", d.Name)
			continue
		}
		is := hints()[class]
		want := &mcp.ToolAnnotation{
			ReadOnlyHint: new(is[0]), DestructiveHint: new(is[1]), IdempotentHint: new(is[2]), OpenWorldHint: new(!slices.Contains([]string{"list_connections", "list_operations", "get_operation"}, d.Name)),
		}
		if diff := cmp.Diff(want, d.Annotations); diff != "" {
			t.Errorf("%s: annotations (-want +got):\n%s", d.Name, diff)
		}
		if d.Title == "" || d.Description == "" {
			t.Errorf("%s has no title or no description", d.Name)
		}
	}
}

// One schema that a model's API rejects costs its user every tool.
func TestSchemasAreFlatAndPlain(t *testing.T) {
	t.Parallel()
	setups := map[string]setup{
		"three vendors": {}, "none": {connections: []connect{}}, "one": {connections: oneOfEach()[1:2]}, "read-only": {readOnly: true},
	}
	for name, s := range setups {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, d := range start(t, s).definitions() {
				if !isSnakeCase(d.Name) || len(d.Name) > 64 {
					t.Errorf("tool %q is not snake_case", d.Name)
				}
				checkSchema(t, d.Name+" input", d.InputSchema, true)
				checkSchema(t, d.Name+" output", d.OutputSchema, false)
			}
		})
	}
}

func isSnakeCase(name string) bool {
	return regexp.MustCompile(`^[a-z][a-z0-9]*(_[a-z0-9]+)*$`).MatchString(name)
}

func checkSchema(t *testing.T, place string, raw json.RawMessage, isInput bool) {
	t.Helper()
	var schema map[string]any
	if err := json.Unmarshal(raw, &schema); err != nil {
		t.Fatalf("%s: %v", place, err)
	}
	if schema["type"] != "object" {
		t.Errorf("%s is not an object", place)
	}
	checkPart(t, place, schema, isInput)
}

// checkPart judges a schema and all that is in it.
func checkPart(t *testing.T, place string, schema map[string]any, isInput bool) {
	t.Helper()
	for _, word := range []string{"$ref", "$schema", "$id", "$defs", "definitions", "oneOf", "anyOf", "allOf", "not", "if", "patternProperties"} {
		if _, has := schema[word]; has {
			t.Errorf("%s has %s", place, word)
		}
	}
	kind, isWord := schema["type"].(string)
	if !isWord || !slices.Contains([]string{"object", "array", "string", "integer", "boolean"}, kind) {
		t.Errorf("%s has the type %v", place, schema["type"])
	}
	if words, has := schema["enum"]; has {
		list, _ := words.([]any)
		if kind != "string" || len(list) == 0 || slices.ContainsFunc(list, func(w any) bool { text, ok := w.(string); return !ok || text == "" || text[0] == '@' }) {
			t.Errorf("%s has the enum %v", place, words)
		}
	}
	switch kind {
	case "object":
		checkObject(t, place, schema, isInput)
	case "array":
		items, ok := schema["items"].(map[string]any)
		if !ok {
			t.Fatalf("%s has no items", place)
		}
		checkPart(t, place+"[]", items, isInput)
	}
}

func checkObject(t *testing.T, place string, schema map[string]any, isInput bool) {
	t.Helper()
	properties, ok := schema["properties"].(map[string]any)
	if !ok {
		// A map from words to text or numbers, in results only.
		values, _ := schema["additionalProperties"].(map[string]any)
		if isInput || values["type"] != "string" && values["type"] != "integer" {
			t.Errorf("%s is an object of anything", place)
		}
		return
	}
	if schema["additionalProperties"] != false {
		t.Errorf("%s allows additional properties", place)
	}
	for name, p := range properties {
		part := p.(map[string]any)
		if !isSnakeCase(name) {
			t.Errorf("%s.%s is not snake_case", place, name)
		}
		if text, _ := part["description"].(string); isInput && text == "" {
			t.Errorf("%s.%s has no description", place, name)
		}
		checkPart(t, place+"."+name, part, isInput)
	}
	required, _ := schema["required"].([]any)
	for _, name := range required {
		if properties[name.(string)] == nil {
			t.Errorf("%s requires %v and has none", place, name)
		}
	}
}

// The names of connections are those on which the tool works and policy allows it.
func TestConnectionsAreAnEnum(t *testing.T) {
	t.Parallel()
	connections := append(oneOfEach(), connect{name: "quote\"d", vendor: "mailtrap"})
	connections[1].policy.Allow = []policy.Class{policy.Read, policy.Update}
	want := map[string][]string{
		"list_tokens": {atlassianName, launchDarklyName, mailtrapName, `quote"d`}, "count_tokens": {atlassianName, launchDarklyName, mailtrapName, `quote"d`},
		"get_token": {atlassianName, launchDarklyName, mailtrapName, `quote"d`}, "list_operations": {atlassianName, launchDarklyName, mailtrapName, `quote"d`},
		"create_mailtrap_token":     {mailtrapName, `quote"d`},
		"update_launchdarkly_token": {launchDarklyName}, "rotate_token": {atlassianName, mailtrapName, `quote"d`},
		"revoke_token": {atlassianName, mailtrapName, `quote"d`}, "bulk_revoke_tokens": {atlassianName, mailtrapName, `quote"d`},
	}
	got := map[string][]string{}
	for _, d := range start(t, setup{connections: connections}).definitions() {
		var schema property
		if err := json.Unmarshal(d.InputSchema, &schema); err != nil {
			t.Fatal(err)
		}
		if p, has := schema.Properties["connection"]; has {
			got[d.Name] = p.Enum
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("connections (-want +got):\n%s", diff)
	}
}

// The embedded schemas are what the types say.
func TestSchemasAreGenerated(t *testing.T) {
	t.Parallel()
	out := filepath.Join(t.TempDir(), "schemas.json")
	if text, err := exec.CommandContext(t.Context(), "go", "run", "./schemagen", "-out", out).CombinedOutput(); err != nil {
		t.Fatalf("schemagen: %v\n%s", err, text)
	}
	want, err := os.ReadFile(out)
	must(t, 0, err)
	got, err := os.ReadFile("schemas.json")
	must(t, 0, err)
	if !bytes.Equal(want, got) {
		t.Errorf("schemas.json is not what the types say: run go generate ./tools\n%s", cmp.Diff(strings.Split(string(got), "\n"), strings.Split(string(want), "\n")))
	}
}
