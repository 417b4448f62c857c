// Command docgen writes the generated parts of documents: the tables of tools and that of metrics.
package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"

	"github.com/tokenreeve/tokenreeve/internal/policy"
	"github.com/tokenreeve/tokenreeve/internal/telemetry"
	"github.com/tokenreeve/tokenreeve/tools"
)

func main() {
	readme := flag.String("readme", "README.md", "the file with the short table of tools")
	toolsFile := flag.String("tools", "docs/tools.md", "the file with the whole table of tools")
	metrics := flag.String("metrics", "docs/telemetry.md", "the file with the table of metrics")
	flag.Parse()
	err := errors.Join(
		update(*readme, "tools", shortToolTable()),
		update(*toolsFile, "tools", toolTable()),
		update(*metrics, "metrics", metricTable()),
	)
	if err != nil {
		fmt.Fprintln(os.Stderr, "docgen:", err)
		os.Exit(1)
	}
}

// update replaces what stands between the markers of that name.
func update(path, name, table string) error {
	begin, end := "<!-- generated: "+name+" -->\n", "<!-- /generated -->\n"
	old, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("read: %w", err)
	}
	before, rest, ok := bytes.Cut(old, []byte(begin))
	_, after, closed := bytes.Cut(rest, []byte(end))
	if !ok || !closed {
		return fmt.Errorf("%s lacks the markers of the generated table of %s", path, name)
	}
	text := string(before) + begin + table + end + string(after)
	return os.WriteFile(path, []byte(text), 0o644) //nolint:gosec // a document, readable by all
}

func metricTable() string {
	var b strings.Builder
	b.WriteString("| metric | kind | labels | what it shows |\n| --- | --- | --- | --- |\n")
	for _, f := range telemetry.Families() {
		labels := "-"
		if len(f.Labels) > 0 {
			labels = "`" + strings.Join(f.Labels, "`, `") + "`"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", f.Name, f.Kind, labels, f.Help)
	}
	return b.String()
}

// shortToolTable says what each tool is for: the first sentence of what clients read.
func shortToolTable() string {
	var b strings.Builder
	b.WriteString("| tool | what it does | confirm code |\n| --- | --- | --- |\n")
	for _, t := range tools.All() {
		first, _, _ := strings.Cut(t.Description, ". ")
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", t.Name, strings.TrimSuffix(first, "."), confirmation(t))
	}
	return b.String()
}

func toolTable() string {
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
