package config_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"maps"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/invopop/jsonschema"
	validator "github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/tokenreeve/tokenreeve/auth"
	"github.com/tokenreeve/tokenreeve/internal/config"
)

//go:generate go test -run ^TestSchema$ . -update

const schemaFile = "config.schema.json"

var update = flag.Bool("update", false, "write the generated files")

// schema is made here and not in the package: the program needs no reflection over schemas.
func schema() *jsonschema.Schema {
	r := jsonschema.Reflector{
		Anonymous: true, ExpandedStruct: true,
		Mapper: func(t reflect.Type) *jsonschema.Schema {
			switch t {
			case reflect.TypeFor[time.Duration]():
				return &jsonschema.Schema{Type: "string", Pattern: `^([0-9]+[dwy]|([0-9]+(\.[0-9]+)?(ms|s|m|h))+)$`}
			case reflect.TypeFor[map[string]auth.Role]():
				role := &jsonschema.Schema{Type: "string", Enum: []any{auth.RoleNone}}
				for _, r := range auth.Roles() {
					role.Enum = append(role.Enum, r)
				}
				return &jsonschema.Schema{Type: "object", AdditionalProperties: role}
			}
			return nil
		},
	}
	s := r.Reflect(&config.Config{})
	s.Title = "tokenreeve's config.json"
	for _, name := range []string{"connections", "sinks"} {
		named, _ := s.Properties.Get(name)
		named.PropertyNames = &jsonschema.Schema{Pattern: `^[a-z0-9][a-z0-9_-]{0,62}$`}
	}
	return s
}

func TestSchema(t *testing.T) {
	t.Parallel()
	want, err := json.MarshalIndent(schema(), "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	want = append(want, '\n')
	if *update {
		if err := os.WriteFile(schemaFile, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(schemaFile)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s is not what the types say; run go generate ./internal/config", schemaFile)
	}
}

// TestExampleFitsSchema checks that an editor finds nothing wrong with what the program accepts.
func TestExampleFitsSchema(t *testing.T) {
	t.Parallel()
	compiled, err := validator.NewCompiler().Compile(schemaFile)
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile("../../config.json.example")
	if err != nil {
		t.Fatal(err)
	}
	for _, life := range []string{"90d", "2w", "1y", "36h30m", "1.5h"} {
		example, err := validator.UnmarshalJSON(bytes.NewReader(bytes.ReplaceAll(data, []byte(`"90d"`), []byte(`"`+life+`"`))))
		if err != nil {
			t.Fatal(err)
		}
		if err := compiled.Validate(example); err != nil {
			t.Errorf("%s: %v", life, err)
		}
	}
}

// TestExampleIsComplete checks that every member of the schema stands in config.json.example: in one
// of the places, where a type has several.
func TestExampleIsComplete(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile("../../config.json.example")
	if err != nil {
		t.Fatal(err)
	}
	var example any
	if err := json.Unmarshal(data, &example); err != nil {
		t.Fatal(err)
	}
	root := schema()
	seen := map[string]bool{}
	note(root, "Config", root, example, seen)
	types := map[string]*jsonschema.Schema{"Config": root}
	maps.Copy(types, root.Definitions)
	for name, s := range types {
		for property := s.Properties.Oldest(); property != nil; property = property.Next() {
			if !seen[name+"."+property.Key] {
				t.Errorf("config.json.example has no %s.%s", name, property.Key)
			}
		}
	}
}

// note adds TYPE.MEMBER for every member in value, which is described by s.
func note(root *jsonschema.Schema, name string, s *jsonschema.Schema, value any, seen map[string]bool) {
	if s == nil {
		return
	}
	if definition, isRef := strings.CutPrefix(s.Ref, "#/$defs/"); isRef {
		note(root, definition, root.Definitions[definition], value, seen)
		return
	}
	list, _ := value.([]any)
	for _, v := range list {
		note(root, name, s.Items, v, seen)
	}
	object, _ := value.(map[string]any)
	for member, v := range object {
		property := s.AdditionalProperties
		if s.Properties != nil {
			property, _ = s.Properties.Get(member)
			seen[name+"."+member] = true
		}
		note(root, name, property, v, seen)
	}
}
