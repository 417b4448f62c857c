package cli

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/mark3labs/mcp-go/client"
	"github.com/spf13/cobra"

	"github.com/tokenreeve/tokenreeve/tools"
)

func (a *app) callCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "call TOOL [JSON | key=value...]",
		Short: "Call one tool from a shell",
		Long: "Calls one tool and prints a table, or with --json its JSON. A value that is JSON is taken as\n" +
			"such, any other as text. A tool that changes tokens shows its preview, reads the confirm code\n" +
			"from the terminal, and acts; without a terminal, repeat the call with confirm=CODE.\n" +
			"The exit code is 1 where the tool failed, or left something to do (escrowed, unknown, partial).",
		Example: "  tokenreeve call list_tokens unused_for=90d limit=10\n" +
			"  tokenreeve call revoke_token connection=acme token_id=123",
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			arguments, err := parseArguments(args[1:])
			if err != nil {
				return err
			}
			return a.callOnce(cmd, args[0], arguments, asJSON)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the result as JSON")
	return cmd
}

// callOnce calls one tool of a server in this process.
func (a *app) callOnce(cmd *cobra.Command, tool string, arguments map[string]any, asJSON bool) error {
	a.quiet()
	return a.withClient(cmd, func(ctx context.Context, _ *tools.Env, c *client.Client) error {
		return a.call(ctx, c, tool, arguments, asJSON)
	})
}

// parseArguments reads one JSON object, or key=value pairs.
func parseArguments(args []string) (map[string]any, error) {
	if len(args) == 1 && strings.HasPrefix(strings.TrimSpace(args[0]), "{") {
		parsed, _ := parseJSON(args[0])
		object, ok := parsed.(map[string]any)
		if !ok {
			return nil, errors.New("the arguments are not a JSON object")
		}
		return object, nil
	}
	arguments := map[string]any{}
	for _, arg := range args {
		name, value, ok := strings.Cut(arg, "=")
		if !ok || name == "" {
			return nil, fmt.Errorf("%q is neither a JSON object nor key=value", arg)
		}
		if _, twice := arguments[name]; twice {
			return nil, fmt.Errorf("%s stands twice; give a list as %s='[\"a\",\"b\"]'", name, name)
		}
		arguments[name] = parseValue(value)
	}
	return arguments, nil
}

// parseValue takes lists, objects, numbers and booleans as JSON.
func parseValue(value string) any {
	if parsed, ok := parseJSON(value); ok {
		return parsed
	}
	return value
}

// parseJSON reads a text that is one JSON value and nothing else. Numbers keep
// their digits.
func parseJSON(text string) (value any, ok bool) {
	if !json.Valid([]byte(text)) {
		return nil, false
	}
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.UseNumber()
	err := decoder.Decode(&value)
	return value, err == nil
}

// call calls the tool. A preview is confirmed from the terminal.
func (a *app) call(ctx context.Context, c *client.Client, tool string, arguments map[string]any, asJSON bool) error {
	result, err := callTool(ctx, c, tool, arguments)
	if err != nil {
		return err
	}
	if err := a.print(result, asJSON); err != nil {
		return err
	}
	code := confirmCodeOf(result)
	if code == "" {
		return nil
	}
	if !isTerminal(a.streams.In) {
		hint := "type the confirm code at a terminal, or repeat the call with confirm=CODE"
		if a.flags.demo {
			hint = "type the confirm code at a terminal; what a demo knows ends with its command"
		}
		fmt.Fprintln(a.streams.Err, "tokenreeve: nothing was changed:", hint)
		return errToldAlready
	}
	typed, err := a.readCode(ctx)
	if err != nil {
		return err
	}
	if typed != code {
		fmt.Fprintln(a.streams.Err, "tokenreeve: nothing was changed: that is not the confirm code")
		return errToldAlready
	}
	arguments["confirm"] = code
	if result, err = callTool(ctx, c, tool, arguments); err != nil {
		return err
	}
	return a.print(result, asJSON)
}

func confirmCodeOf(result answer) string {
	var preview struct {
		Confirm string `json:"confirm"`
	}
	if result.isErr || json.Unmarshal(result.data, &preview) != nil {
		return ""
	}
	return preview.Confirm
}

func (a *app) readCode(ctx context.Context) (string, error) {
	fmt.Fprint(a.streams.Err, "Type the confirm code to do this: ")
	type reading struct {
		line string
		err  error
	}
	read := make(chan reading, 1)
	go func() { // a terminal's read cannot be interrupted; it ends with the process
		line, err := bufio.NewReader(a.streams.In).ReadString('\n')
		read <- reading{line, err}
	}()
	select {
	case r := <-read:
		if r.err != nil && r.line == "" {
			return "", errors.New("nothing was typed; nothing was changed")
		}
		return strings.TrimSpace(r.line), nil
	case <-ctx.Done():
		return "", errors.New("interrupted; nothing was changed")
	}
}

// print shows a result to a person or a script.
func (a *app) print(result answer, asJSON bool) error {
	if asJSON {
		if err := printJSON(a.streams.Out, result.data); err != nil {
			return err
		}
	} else if err := printTable(a.streams.Out, result.data); err != nil {
		return err
	}
	if result.isErr || isOpenEnded(result) {
		return errToldAlready
	}
	return nil
}

// isOpenEnded reports a result that leaves something to do: a script must not take it for
// the end.
func isOpenEnded(result answer) bool {
	var r struct {
		Status string `json:"status"`
	}
	if json.Unmarshal(result.data, &r) != nil {
		return false
	}
	return slices.Contains([]string{"escrowed", "unknown", "undelivered", "partial"}, r.Status)
}

// printTable prints an object: lists of objects as tables, the rest line by line.
func printTable(w io.Writer, data json.RawMessage) error {
	w = plain(w)
	var members map[string]json.RawMessage
	if err := json.Unmarshal(data, &members); err != nil {
		return fmt.Errorf("the result is not a JSON object: %w", err)
	}
	var names orderedNames
	if err := json.Unmarshal(data, &names); err != nil {
		return err
	}
	for _, name := range names {
		if err := printMember(w, name, members[name]); err != nil {
			return err
		}
	}
	return nil
}

func printMember(w io.Writer, name string, value json.RawMessage) error {
	var rows []map[string]any
	if json.Unmarshal(value, &rows) == nil && len(rows) > 0 {
		return printRows(w, name, columnsOf(value), rows)
	}
	var lines []string
	if json.Unmarshal(value, &lines) == nil {
		if !slices.ContainsFunc(lines, func(line string) bool { return strings.Contains(line, " ") }) {
			_, err := fmt.Fprintf(w, "%s: %s\n", name, oneLine(strings.Join(lines, ", ")))
			return err
		}
		for _, line := range lines {
			fmt.Fprintf(w, "%s: %s\n", name, oneLine(line))
		}
		return nil
	}
	var table struct {
		Columns []string          `json:"columns"`
		Rows    [][]string        `json:"rows"`
		Shared  map[string]string `json:"shared"`
	}
	if json.Unmarshal(value, &table) == nil && len(table.Columns) > 0 {
		return printGrid(w, name, table.Columns, table.Rows, table.Shared)
	}
	_, err := fmt.Fprintf(w, "%s: %s\n", name, oneLine(scalar(value)))
	return err
}

func printGrid(w io.Writer, name string, columns []string, rows [][]string, shared map[string]string) error {
	fmt.Fprintf(w, "%s:\n", name)
	for _, key := range slices.Sorted(maps.Keys(shared)) {
		fmt.Fprintf(w, "  all: %s %s\n", oneLine(key), oneLine(shared[key]))
	}
	return printColumns(w, "  ", columns, rows)
}

// printColumns prints a table. What stands in a cell stays there.
func printColumns(w io.Writer, indent string, columns []string, rows [][]string) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, indent+strings.ToUpper(tabbed(columns)))
	for _, row := range rows {
		fmt.Fprintln(t, indent+tabbed(row))
	}
	return t.Flush()
}

func tabbed(cells []string) string {
	lines := make([]string, len(cells))
	for i, cell := range cells {
		lines[i] = oneLine(cell)
	}
	return strings.Join(lines, "\t")
}

func printRows(w io.Writer, name string, columns []string, rows []map[string]any) error {
	cells := make([][]string, len(rows))
	for i, row := range rows {
		for _, column := range columns {
			cells[i] = append(cells[i], text(row[column]))
		}
	}
	return printGrid(w, name, columns, cells, nil)
}

// columnsOf lists the members of all objects in a list, in the order of their
// first use.
func columnsOf(list json.RawMessage) []string {
	var rows []orderedNames
	if json.Unmarshal(list, &rows) != nil {
		return nil
	}
	var columns []string
	for _, row := range rows {
		for _, name := range row {
			if !slices.Contains(columns, name) {
				columns = append(columns, name)
			}
		}
	}
	return columns
}

func text(value any) string {
	if value == nil {
		return ""
	}
	if s, ok := value.(string); ok {
		return s
	}
	data, err := json.Marshal(value)
	if err != nil {
		return ""
	}
	return string(data)
}

func scalar(value json.RawMessage) string {
	var s string
	if json.Unmarshal(value, &s) == nil {
		return s
	}
	var b bytes.Buffer
	if json.Compact(&b, value) != nil {
		return ""
	}
	return b.String()
}
