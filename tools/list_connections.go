package tools

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/tokenreeve/tokenreeve/internal/ledger"
	"github.com/tokenreeve/tokenreeve/internal/policy"
)

type listConnectionsIn struct{}

// listConnectionsOut is the result of list_connections.
type listConnectionsOut struct {
	Connections []connectionRow `json:"connections"`
	Sinks       []string        `json:"sinks,omitempty"`
	Caller      callerRow       `json:"caller"`
	Setup       []string        `json:"setup,omitempty" jsonschema_description:"what the operator must set"`
}

type connectionRow struct {
	Name         string   `json:"name"`
	Provider     string   `json:"provider"`
	Capabilities []string `json:"capabilities"`
	Sink         string   `json:"sink,omitempty" jsonschema_description:"default sink of new secrets"`
	Protects     bool     `json:"protects,omitempty" jsonschema_description:"some tokens may not be changed"`
	Health       string   `json:"health" jsonschema_description:"unchecked, ok or an error code"`
	Seen         string   `json:"seen,omitempty"`
	Unsettled    []string `json:"unsettled,omitempty" jsonschema_description:"operations to look into"`
}

type callerRow struct {
	Name     string   `json:"name"`
	Role     string   `json:"role"`
	Allowed  []string `json:"allowed" jsonschema_description:"tool classes"`
	ReadOnly bool     `json:"read_only,omitempty"`
}

func listConnections() Tool {
	return define(Tool{
		Name:        "list_connections",
		Title:       "List connections",
		Description: "Lists the configured vendor accounts, what can be done on each, where new secrets go, and what the caller may do.",
		Class:       policy.Read,
		Needs:       "nothing",
		ClosedWorld: true,
	}, handleListConnections)
}

func handleListConnections(ctx context.Context, c *Call, _ listConnectionsIn) (listConnectionsOut, error) {
	out := listConnectionsOut{
		Connections: []connectionRow{},
		Sinks:       slices.Sorted(maps.Keys(c.Sinks)),
		Caller:      callerRow{Name: c.Principal.Name, Role: string(c.Principal.Role), Allowed: c.allowed(), ReadOnly: c.ReadOnly},
		Setup:       c.Setup,
	}
	unsettled := c.unsettledRows(ctx)
	for _, connection := range c.visible() {
		row := connectionRow{
			Name: connection.Name, Provider: connection.Provider.Name(), Capabilities: c.capabilities(connection),
			Sink: connection.Sink, Protects: connection.Policy.ProtectsAny(), Health: "unchecked", Unsettled: unsettled[connection.Name],
		}
		if health := connection.Health(); !health.Seen.IsZero() {
			row.Seen = health.Seen.UTC().Format(time.RFC3339)
			row.Health = "ok"
			if health.Code != "" {
				row.Health = string(health.Code)
			}
		}
		out.Connections = append(out.Connections, row)
	}
	return out, nil
}

// maxUnsettled is how many operations of a connection are named.
const maxUnsettled = 5

// unsettledRows names, by connection, the operations that the caller should see to: a
// secret in escrow, an outcome that nobody knows, a change that was cut off.
func (c *Call) unsettledRows(ctx context.Context) map[string][]string {
	if !c.HasLedger() {
		return nil
	}
	c.Settle(ctx)
	q := ledger.Query{}
	if !c.Principal.IsAdmin {
		q.Principal = c.Principal.Name
	}
	operations, err := c.unsettled(ctx, q)
	if err != nil {
		c.Log.Error("the ledger cannot be read", "error", err)
		return nil
	}
	rows := map[string][]string{}
	for i := range operations {
		op := &operations[i]
		row := fmt.Sprintf("%s %s: %s", op.ID, op.Outcome, op.Tool)
		switch n := len(rows[op.Connection]); {
		case n < maxUnsettled:
			rows[op.Connection] = append(rows[op.Connection], row)
		case n == maxUnsettled:
			rows[op.Connection] = append(rows[op.Connection], "more: see list_operations with outcome escrowed or unknown")
		}
	}
	return rows
}

// allowed returns the classes that the caller may use on some connection.
func (c *Call) allowed() []string {
	var classes []string
	for _, class := range policy.Classes() {
		somewhere := slices.ContainsFunc(c.visible(), func(x *Connection) bool {
			return x.Policy.Allows(class) && c.Principal.Allows(class, x.Name)
		})
		if (somewhere || len(c.Connections) == 0) && (class == policy.Read || !c.ReadOnly) {
			classes = append(classes, string(class))
		}
	}
	return classes
}
