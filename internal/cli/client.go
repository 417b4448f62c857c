package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/mark3labs/mcp-go/client"
	"github.com/mark3labs/mcp-go/mcp"
	"github.com/spf13/cobra"

	"github.com/tokenreeve/tokenreeve/internal/server"
	"github.com/tokenreeve/tokenreeve/tools"
)

// withClient hands an MCP client of a server in this process to use, with what the server works on.
func (a *app) withClient(cmd *cobra.Command, use func(ctx context.Context, env *tools.Env, c *client.Client) error) error {
	s, err := a.setUp(cmd)
	if err != nil {
		return err
	}
	defer s.close()
	mcpServer, err := server.New(a.version, s.env)
	if err != nil {
		return err
	}
	c, err := client.NewInProcessClient(mcpServer)
	if err != nil {
		return fmt.Errorf("MCP client: %w", err)
	}
	defer func() { _ = c.Close() }()
	if err := initialize(cmd.Context(), c, a.version); err != nil {
		return err
	}
	return use(cmd.Context(), s.env, c)
}

func initialize(ctx context.Context, c *client.Client, version string) error {
	if err := c.Start(ctx); err != nil {
		return fmt.Errorf("MCP client: %w", err)
	}
	request := mcp.InitializeRequest{}
	request.Params.ProtocolVersion = mcp.LATEST_PROTOCOL_VERSION
	request.Params.ClientInfo = mcp.Implementation{Name: "tokenreeve", Version: version}
	if _, err := c.Initialize(ctx, request); err != nil {
		return fmt.Errorf("MCP client: %w", err)
	}
	return nil
}

// answer is a tool's result: JSON, and whether it is an error.
type answer struct {
	data  json.RawMessage
	isErr bool
}

func callTool(ctx context.Context, c *client.Client, name string, arguments map[string]any) (answer, error) {
	request := mcp.CallToolRequest{}
	request.Params.Name = name
	request.Params.Arguments = arguments
	result, err := c.CallTool(ctx, request)
	if err != nil {
		return answer{}, err
	}
	for _, content := range result.Content {
		if text, ok := content.(mcp.TextContent); ok {
			return answer{json.RawMessage(text.Text), result.IsError}, nil
		}
	}
	return answer{}, fmt.Errorf("tool %s answered without text", name)
}

func printJSON(w io.Writer, v any) error {
	encoder := json.NewEncoder(plainJSON(w))
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	return encoder.Encode(v)
}

// orderedNames are the names of a JSON object's members, in their order.
type orderedNames []string

// UnmarshalJSON keeps the names and skips the values.
func (n *orderedNames) UnmarshalJSON(data []byte) error {
	decoder := json.NewDecoder(bytes.NewReader(data))
	if _, err := decoder.Token(); err != nil {
		return err
	}
	for decoder.More() {
		name, err := decoder.Token()
		if err != nil {
			return err
		}
		var value json.RawMessage
		if err := decoder.Decode(&value); err != nil {
			return err
		}
		*n = append(*n, fmt.Sprint(name))
	}
	return nil
}

// marked joins the names; * follows the required ones.
func (n orderedNames) marked(required []string) string {
	var names []string
	for _, name := range n {
		if slices.Contains(required, name) {
			name += "*"
		}
		names = append(names, name)
	}
	return strings.Join(names, " ")
}
