package main

import (
	"encoding/json"
	"fmt"
	goreflect "reflect"

	"github.com/invopop/jsonschema"
)

// reflect makes one flat schema: no $ref, no $schema, nothing but what every
// model's API accepts.
func reflect(t goreflect.Type) (json.RawMessage, error) {
	reflector := jsonschema.Reflector{Anonymous: true, DoNotReference: true, ExpandedStruct: true}
	schema := reflector.ReflectFromType(t)
	schema.Version = ""
	if schema.Type != "object" {
		return nil, fmt.Errorf("%v is not an object", t)
	}
	data, err := json.Marshal(schema)
	if err != nil {
		return nil, fmt.Errorf("schema of %v: %w", t, err)
	}
	return data, nil
}
