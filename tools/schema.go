package tools

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/mark3labs/mcp-go/mcp"

	"github.com/tokenreeve/tokenreeve/providers"
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
	for _, name := range t.needless(env) {
		var err error
		if input, err = withoutProperty(input, name); err != nil {
			return mcp.Tool{}, fmt.Errorf("schema of tool %s: %w", t.Name, err)
		}
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

// needless names the arguments that mean nothing on any connection of the tool's: a
// model reads only what it can use. They are understood all the same.
func (t Tool) needless(env *Env) []string {
	var names []string
	for i := range t.In.NumField() {
		field := t.In.Field(i)
		condition := field.Tag.Get("when")
		if condition == "" || slices.ContainsFunc(env.serving(t), func(c *Connection) bool { return meets(c, condition) }) {
			continue
		}
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		names = append(names, name)
	}
	return names
}

// meets judges what an argument's tag when can name.
func meets(c *Connection, condition string) bool {
	switch condition {
	case "in_use":
		return c.Policy.InUse > 0
	case "located":
		return servesAs[providers.Locator](c)
	case "at_once":
		return servesAs[providers.BulkRevoker](c)
	}
	return true
}

// withoutProperty cuts a property out of an object's schema: one that is not the first
// and holds no object itself. It is text work, since a start pays for it every time.
func withoutProperty(schema, name string) (string, error) {
	at := strings.Index(schema, `"`+name+`":{`)
	if at < 0 {
		return "", fmt.Errorf("it has no property %s", name)
	}
	comma := strings.LastIndexByte(schema[:at], ',')
	end := strings.IndexByte(schema[at:], '}')
	if comma < 0 || end < 0 {
		return "", fmt.Errorf("property %s cannot be cut out", name)
	}
	return schema[:comma] + schema[at+end+1:], nil
}
