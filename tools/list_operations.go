package tools

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/tokenreeve/tokenreeve/internal/ledger"
	"github.com/tokenreeve/tokenreeve/internal/policy"
)

// listOperationsIn are the arguments of list_operations.
type listOperationsIn struct {
	Connection string `json:"connection,omitempty" jsonschema:"enum=@connections" jsonschema_description:"default: all"`
	Tool       string `json:"tool,omitempty" jsonschema_description:"tool name"`
	Outcome    string `json:"outcome,omitempty" jsonschema:"enum=done,enum=already_gone,enum=failed,enum=escrowed,enum=unknown,enum=refused,enum=open" jsonschema_description:"open: still running"`
	Since      string `json:"since,omitempty" jsonschema_description:"date, time or age"`
	Limit      int    `json:"limit,omitempty" jsonschema:"minimum=1,maximum=100,default=20" jsonschema_description:"rows"`
	Cursor     string `json:"cursor,omitempty" jsonschema_description:"next_cursor"`
}

// listOperationsOut is the result of list_operations.
type listOperationsOut struct {
	Operations []operationRow `json:"operations"`
	NextCursor string         `json:"next_cursor,omitempty"`
}

// operationRow is one operation in a result.
type operationRow struct {
	ID         string   `json:"operation_id"`
	Tool       string   `json:"tool"`
	Connection string   `json:"connection"`
	Principal  string   `json:"principal,omitempty" jsonschema_description:"where another's"`
	Outcome    string   `json:"outcome"`
	ErrorCode  string   `json:"error_code,omitempty"`
	Started    string   `json:"started"`
	Targets    []string `json:"targets,omitempty" jsonschema_description:"token ids"`
	NewTokenID string   `json:"new_token_id,omitempty"`
}

const (
	defaultOperations = 20
	// maxRowTargets is how many targets a row names; get_operation names more.
	maxRowTargets = 3
)

func listOperations() Tool {
	return define(Tool{
		Name:        "list_operations",
		Title:       "List operations",
		Description: "Lists the changes on record, newest first: your own ones; an admin sees all. A bulk revocation is one row.",
		Class:       policy.Read,
		Needs:       "nothing",
		ClosedWorld: true,
		Serves:      func(*Connection) bool { return true },
	}, handleListOperations)
}

func handleListOperations(ctx context.Context, c *Call, in listOperationsIn) (listOperationsOut, error) {
	out := listOperationsOut{Operations: []operationRow{}}
	in, after, err := c.continuedOperations(in)
	if err != nil {
		return out, err
	}
	in.Limit = cmp.Or(in.Limit, defaultOperations)
	q, err := c.operationQuery(in, after)
	if err != nil || !c.HasLedger() {
		return out, err
	}
	c.Settle(ctx)
	page, err := c.Ledger.List(ctx, q)
	if err != nil {
		return out, c.unreadable(err)
	}
	for i := range page.Operations {
		out.Operations = append(out.Operations, c.operationRow(&page.Operations[i], maxRowTargets))
	}
	if page.Next == 0 {
		return out, nil
	}
	arguments, err := json.Marshal(in)
	if err != nil {
		return out, err
	}
	out.NextCursor, err = c.Cursors.encode(place{
		Principal: c.Principal.Name, Tool: c.Tool.Name, Arguments: arguments, Now: c.Now(), ID: strconv.FormatInt(page.Next, 10),
	})
	return out, err
}

// continuedOperations opens the cursor, if there is one, and returns its arguments
// and the entry after which the listing goes on.
func (c *Call) continuedOperations(in listOperationsIn) (listOperationsIn, int64, error) {
	if in.Cursor == "" {
		return in, 0, nil
	}
	p, err := c.Cursors.decode(in.Cursor, c.Principal.Name, c.Tool.Name)
	if err != nil {
		return in, 0, err
	}
	in.Cursor = ""
	if err := sameArguments(in, p.Arguments); err != nil {
		return in, 0, err
	}
	var before listOperationsIn
	if err := json.Unmarshal(p.Arguments, &before); err != nil {
		return in, 0, err
	}
	after, err := strconv.ParseInt(p.ID, 10, 64)
	return before, after, err
}

func (c *Call) operationQuery(in listOperationsIn, after int64) (ledger.Query, error) {
	q := ledger.Query{Tool: in.Tool, Outcome: ledger.Outcome(in.Outcome), TopLevel: true, Limit: in.Limit, After: after}
	if !c.Principal.IsAdmin {
		q.Principal = c.Principal.Name
	}
	if in.Connection != "" {
		connection, err := c.connection(in.Connection)
		if err != nil {
			return q, err
		}
		q.Connection = connection.Name
	}
	if in.Since == "" {
		return q, nil
	}
	since, err := parseMoment("since", in.Since, c.Now())
	q.Since = since
	return q, err
}

func (c *Call) operationRow(op *ledger.Operation, most int) operationRow {
	row := operationRow{
		ID: op.ID, Tool: op.Tool, Connection: op.Connection, Outcome: string(cmp.Or(op.Outcome, ledger.OpenOutcome)), ErrorCode: op.ErrorCode,
		Started: op.Started.UTC().Format(time.RFC3339), NewTokenID: op.NewTokenID,
	}
	if op.Principal != c.Principal.Name {
		row.Principal = op.Principal
	}
	for _, t := range op.Targets[:min(most, len(op.Targets))] {
		row.Targets = append(row.Targets, t.ID)
	}
	if more := len(op.Targets) + op.MoreTargets - len(row.Targets); more > 0 {
		row.Targets = append(row.Targets, fmt.Sprintf("… and %d more", more))
	}
	return row
}

// unreadable is the problem of a record that cannot be read.
func (c *Call) unreadable(err error) error {
	c.Log.Error("the ledger cannot be read", "error", err)
	return &Problem{Code: codeLedger, Message: "the record of operations cannot be read: " + clean(err.Error()), Next: "ask the operator"}
}
