package cli

import (
	"context"
	"encoding/json"

	"github.com/mark3labs/mcp-go/client"
	"github.com/mark3labs/mcp-go/mcp"
	"github.com/spf13/cobra"

	"github.com/tokenreeve/tokenreeve/tools"
)

func (a *app) toolsCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "tools",
		Short: "List the tools that are offered, with class and schema",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withClient(cmd, func(ctx context.Context, env *tools.Env, c *client.Client) error {
				listed, err := c.ListTools(ctx, mcp.ListToolsRequest{})
				if err != nil {
					return err
				}
				offered := withClass(tools.Offered(env), listed.Tools)
				if asJSON {
					return printJSON(a.streams.Out, offered)
				}
				return a.printTools(offered)
			})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the definitions as clients see them, with schemas")
	return cmd
}

// classified is a tool as clients see it, with its class.
type classified struct {
	Class      string   `json:"class"`
	Definition mcp.Tool `json:"definition"`
}

func withClass(offered []tools.Tool, definitions []mcp.Tool) []classified {
	var all []classified
	for _, t := range offered {
		for _, d := range definitions {
			if d.Name == t.Name {
				all = append(all, classified{string(t.Class), d})
			}
		}
	}
	return all
}

func (a *app) printTools(offered []classified) error {
	rows := make([][]string, len(offered))
	for i, t := range offered {
		rows[i] = []string{t.Definition.Name, t.Class, argumentNames(t.Definition)}
	}
	return printColumns(plain(a.streams.Out), "", []string{"tool", "class", "arguments"}, rows)
}

// argumentNames lists a tool's arguments; * marks the required ones.
func argumentNames(d mcp.Tool) string {
	data, err := json.Marshal(d)
	if err != nil {
		return ""
	}
	var definition struct {
		InputSchema struct {
			Properties orderedNames `json:"properties"`
			Required   []string     `json:"required"`
		} `json:"inputSchema"`
	}
	if json.Unmarshal(data, &definition) != nil {
		return ""
	}
	return definition.InputSchema.Properties.marked(definition.InputSchema.Required)
}
