// Command docgen writes the generated parts of the README: the table of tools.
package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"

	"github.com/tokenreeve/tokenreeve/internal/policy"
	"github.com/tokenreeve/tokenreeve/tools"
)

const (
	begin = "<!-- generated: tools -->\n"
	end   = "<!-- /generated -->\n"
)

func main() {
	readme := flag.String("readme", "README.md", "the file to bring up to date")
	flag.Parse()
	if err := update(*readme); err != nil {
		fmt.Fprintln(os.Stderr, "docgen:", err)
		os.Exit(1)
	}
}

// update replaces what stands between the markers.
func update(path string) error {
	old, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("read: %w", err)
	}
	before, rest, ok := bytes.Cut(old, []byte(begin))
	_, after, closed := bytes.Cut(rest, []byte(end))
	if !ok || !closed {
		return errors.New("the README lacks the markers of the generated table")
	}
	text := string(before) + begin + table() + end + string(after)
	return os.WriteFile(path, []byte(text), 0o644) //nolint:gosec // a document, readable by all
}

func table() string {
	var b strings.Builder
	b.WriteString("| tool | class | confirm code | what it does | what the vendor's credential needs |\n| --- | --- | --- | --- | --- |\n")
	for _, t := range tools.All() {
		fmt.Fprintf(&b, "| `%s` | `%s` | %s | %s | %s |\n", t.Name, t.Class, confirmation(t), t.Description, t.Needs)
	}
	return b.String()
}

// confirmation says when a tool of the class takes a code.
func confirmation(t tools.Tool) string {
	switch t.Class {
	case policy.Read:
		return "-"
	case policy.Mint:
		if t.Name == "deliver_secret" {
			return "-"
		}
		return "for far-reaching access"
	default:
		return "always"
	}
}
