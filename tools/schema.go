package tools

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/mark3labs/mcp-go/mcp"
)

//go:generate go run ./schemagen -out schemas.json

// schemasJSON holds both schemas of every tool, generated from the types. They
// are read, not reflected, at start: a start is paid for in every session.
//
//go:embed schemas.json
var schemasJSON []byte

// Schemas are the schemas of one tool.
type Schemas struct {
	Input  json.RawMessage `json:"input"`
	Output json.RawMessage `json:"output"`
}

// connectionsPlaceholder stands in the generated schemas where the names of the
// connections go that the tool can serve.
const connectionsPlaceholder = `"` + connectionsEnum + `"`

// connectionsEnum is the placeholder as the arguments' tags write it.
const connectionsEnum = "@connections"

func loadSchemas() (map[string]Schemas, error) {
	var schemas map[string]Schemas
	if err := json.Unmarshal(schemasJSON, &schemas); err != nil {
		return nil, fmt.Errorf("embedded schemas: %w", err)
	}
	return schemas, nil
}

// definition is the tool as clients see it.
func (t Tool) definition(schemas map[string]Schemas, env *Env) (mcp.Tool, error) {
	own, ok := schemas[t.Name]
	if !ok {
		return mcp.Tool{}, fmt.Errorf("tool %s has no generated schema: run go generate", t.Name)
	}
	input := string(own.Input)
	if t.Serves != nil {
		var names []string
		for _, c := range env.serving(t) {
			names = append(names, c.Name)
		}
		enum, err := json.Marshal(names)
		if err != nil {
			return mcp.Tool{}, fmt.Errorf("connection names: %w", err)
		}
		input = strings.ReplaceAll(input, connectionsPlaceholder, strings.Trim(string(enum), "[]"))
	}
	return mcp.Tool{
		Name:            t.Name,
		Title:           t.Title,
		Description:     t.Description,
		RawInputSchema:  json.RawMessage(input),
		RawOutputSchema: own.Output,
		Annotations:     t.Annotations(),
	}, nil
}
