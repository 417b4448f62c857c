// Command schemagen writes the schemas of all tools from their Go types. The
// server reads the file instead of reflecting at every start.
package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"

	"github.com/tokenreeve/tokenreeve/tools"
)

func main() {
	out := flag.String("out", "schemas.json", "the file to write")
	flag.Parse()
	if err := write(*out); err != nil {
		fmt.Fprintln(os.Stderr, "schemagen:", err)
		os.Exit(1)
	}
}

func write(path string) error {
	schemas := map[string]tools.Schemas{}
	for _, t := range tools.All() {
		input, err := reflect(t.In)
		if err != nil {
			return fmt.Errorf("%s: %w", t.Name, err)
		}
		output, err := reflect(t.Out)
		if err != nil {
			return fmt.Errorf("%s: %w", t.Name, err)
		}
		schemas[t.Name] = tools.Schemas{Input: input, Output: output}
	}
	// A line a tool: people read the golden files, and a start pays for every space.
	var data bytes.Buffer
	for i, name := range slices.Sorted(maps.Keys(schemas)) {
		line, err := json.Marshal(schemas[name])
		if err != nil {
			return fmt.Errorf("write as JSON: %w", err)
		}
		fmt.Fprintf(&data, "%s%q:%s", map[bool]string{true: "{", false: ",\n"}[i == 0], name, line)
	}
	data.WriteString("}\n")
	return os.WriteFile(path, data.Bytes(), 0o644) //nolint:gosec // a source file, readable by all
}
