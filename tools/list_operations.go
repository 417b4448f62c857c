package tools

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/tokenreeve/tokenreeve/internal/ledger"
	"github.com/tokenreeve/tokenreeve/internal/policy"
)

// listOperationsIn are the arguments of list_operations.
type listOperationsIn struct {
	Connection string `json:"connection,omitempty" jsonschema:"enum=@connections" jsonschema_description:"default: all"`
	Tool       string `json:"tool,omitempty" jsonschema_description:"tool name"`
	Outcome    string `json:"outcome,omitempty" jsonschema:"enum=done,enum=already_gone,enum=failed,enum=escrowed,enum=unknown,enum=refused,enum=open" jsonschema_description:"how it ended"`
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

// Bounds that keep a result below 8,000 tokens of a language model.
const (
	defaultOperations = 20
	maxOperations     = 6500 // for all rows
	// maxRowTargets is how many targets a row names; get_operation names more.
	maxRowTargets = 3
	rowTargets    = 400
	tokensPerText = 2 // its quotes and comma
)

func listOperations() Tool {
	return define(Tool{
		Name:        "list_operations",
		Title:       "List operations",
		Description: "Lists changes on record, newest first. A bulk revocation is one row.",
		Class:       policy.Read,
		Needs:       "nothing",
		ClosedWorld: true,
		Serves:      func(*Connection) bool { return true },
	}, handleListOperations)
}

func handleListOperations(ctx context.Context, c *Call, in listOperationsIn) (listOperationsOut, error) {
	out := listOperationsOut{Operations: []operationRow{}}
	in, from, err := c.continuedOperations(in)
	if err != nil {
		return out, err
	}
	in.Limit = cmp.Or(in.Limit, defaultOperations)
	q, err := c.operationQuery(ctx, in, from)
	if err != nil || !c.HasLedger() {
		return out, err
	}
	c.Settle(ctx)
	page, err := c.Ledger.List(ctx, q)
	if err != nil {
		return out, c.unreadable(err)
	}
	page.Operations = slices.DeleteFunc(page.Operations, func(op ledger.Operation) bool { return !c.maySee(&op) })
	next := page.Next
	out.Operations, next, err = c.operationRows(page.Operations, next)
	if err != nil || next == 0 {
		return out, err
	}
	if from.Arguments, err = json.Marshal(in); err != nil {
		return out, err
	}
	from.ID = strconv.FormatInt(next, 10)
	out.NextCursor, err = c.Cursors.encode(from)
	return out, err
}

// operationRows makes rows of the operations, as many as one result may hold, and returns
// the entry after which the listing goes on: next, where all fit.
func (c *Call) operationRows(operations []ledger.Operation, next int64) ([]operationRow, int64, error) {
	rows := make([]operationRow, 0, len(operations))
	left := maxOperations
	for i := range operations {
		row := c.operationRow(&operations[i])
		row.Targets = targetIDs(&operations[i], maxRowTargets, rowTargets)
		text, err := compact(row)
		if err != nil {
			return rows, next, err
		}
		if left -= tokensOf(text) + 1; left < 0 && i > 0 {
			return rows, operations[i-1].Seq, nil
		}
		rows = append(rows, row)
	}
	return rows, next, nil
}

// continuedOperations opens the cursor, if there is one, and returns its arguments
// and the place where the listing goes on.
func (c *Call) continuedOperations(in listOperationsIn) (listOperationsIn, place, error) {
	if in.Cursor == "" {
		return in, place{Principal: c.Principal.Name, Tool: c.Tool.Name, Now: c.Now()}, nil
	}
	p, err := c.Cursors.decode(in.Cursor, c.Principal.Name, c.Tool.Name)
	if err != nil {
		return in, p, err
	}
	in.Cursor = ""
	if err := sameArguments(in, p.Arguments); err != nil {
		return in, p, err
	}
	var before listOperationsIn
	err = json.Unmarshal(p.Arguments, &before)
	return before, p, err
}

func (c *Call) operationQuery(ctx context.Context, in listOperationsIn, from place) (ledger.Query, error) {
	q := ledger.Query{Tool: in.Tool, Outcome: ledger.Outcome(in.Outcome), TopLevel: true, Limit: in.Limit}
	if names := changingTools(); in.Tool != "" && !slices.Contains(names, in.Tool) {
		return q, &Problem{Code: "invalid_argument", Message: "argument tool: " + quoted(in.Tool) + " is no tool that changes something", Valid: names, Next: "choose one of valid"}
	}
	if !c.Principal.IsAdmin {
		q.Principal = c.Principal.Name
	}
	if in.Connection != "" {
		connection, err := c.connection(ctx, in.Connection)
		if err != nil {
			return q, err
		}
		q.Connection = connection.Name
	}
	var err error
	if in.Since != "" {
		q.Since, err = parseMoment("since", in.Since, from.Now)
	}
	if from.ID != "" && err == nil {
		q.After, err = strconv.ParseInt(from.ID, 10, 64)
	}
	return q, err
}

// changingTools names the tools whose calls are on record.
func changingTools() []string {
	var names []string
	for _, t := range All() {
		if t.Class != policy.Read {
			names = append(names, t.Name)
		}
	}
	return names
}

// operationRow is the row of an operation, without its targets.
func (c *Call) operationRow(op *ledger.Operation) operationRow {
	row := operationRow{
		ID: op.ID, Tool: op.Tool, Connection: op.Connection, Outcome: string(cmp.Or(op.Outcome, ledger.OpenOutcome)), ErrorCode: op.ErrorCode,
		Started: op.Started.UTC().Format(time.RFC3339), NewTokenID: op.NewTokenID,
	}
	if !op.IsOf(c.Principal.Name) {
		row.Principal = op.Principal
	}
	return row
}

// targetIDs names so many targets, as far as they fit into room tokens of a language
// model, and counts the rest.
func targetIDs(op *ledger.Operation, most, room int) []string {
	var ids []string
	for _, t := range op.Targets[:min(most, len(op.Targets))] {
		if room -= tokensOf(t.ID) + tokensPerText; room < 0 {
			break
		}
		ids = append(ids, t.ID)
	}
	if more := len(op.Targets) + op.MoreTargets - len(ids); more > 0 {
		ids = append(ids, fmt.Sprintf("… and %d more", more))
	}
	return ids
}

// unreadable is the problem of a record that cannot be read. Where the caller gave up,
// nothing is wrong with it.
func (c *Call) unreadable(err error) error {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	c.Log.Error("the ledger cannot be read", "error", err)
	return &Problem{Code: codeLedger, Message: "the record of operations cannot be read: " + clean(err.Error()), Next: "ask the operator"}
}
