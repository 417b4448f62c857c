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

	"github.com/tokenreeve/tokenreeve/internal/server"
	"github.com/tokenreeve/tokenreeve/tools"
)

// connection is an MCP client of a server in this process.
type connection struct {
	client *client.Client
}

// connect starts a server on the environment and a client of it.
func (a *app) connect(ctx context.Context, env *tools.Env) (connection, error) {
	s, err := server.New(a.version, env)
	if err != nil {
		return connection{}, err
	}
	c, err := client.NewInProcessClient(s)
	if err != nil {
		return connection{}, fmt.Errorf("MCP client: %w", err)
	}
	return connection{c}, initialize(ctx, c, a.version)
}

func (c connection) close() { _ = c.client.Close() }

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
