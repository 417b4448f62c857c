package tools

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/tokenreeve/tokenreeve/internal/ledger"
	"github.com/tokenreeve/tokenreeve/internal/policy"
)

// getOperationIn are the arguments of get_operation.
type getOperationIn struct {
	OperationID string `json:"operation_id" jsonschema_description:"id from a result or list_operations"`
}

// getOperationOut is the result of get_operation.
type getOperationOut struct {
	operationRow
	NewTokenName string     `json:"new_token_name,omitempty"`
	OldTokenID   string     `json:"old_token_id,omitempty"`
	OldEnds      string     `json:"old_secret_ends,omitempty"`
	Step         string     `json:"step,omitempty"`
	Ended        string     `json:"ended,omitempty"`
	DeliverTo    string     `json:"deliver_to,omitempty"`
	Verified     string     `json:"verified,omitempty"`
	Fingerprint  string     `json:"fingerprint,omitempty"`
	Reason       string     `json:"reason,omitempty"`
	PreviewID    string     `json:"preview_id,omitempty"`
	ApprovedBy   string     `json:"approved_by,omitempty"`
	ResolvedBy   string     `json:"resolved_by,omitempty"`
	RequestID    string     `json:"vendor_request_id,omitempty"`
	Note         string     `json:"note,omitempty"`
	Parts        [][]string `json:"parts,omitempty" jsonschema_description:"of a bulk: token id, outcome, error code; all but plain done ones"`
	Next         string     `json:"next,omitempty"`
}

// Bounds that keep a result below 8,000 tokens of a language model.
const (
	maxShownTargets = 100
	shownParts      = 3000
	shownOperation  = 7000 // with its parts and targets
)

func getOperation() Tool {
	return define(Tool{
		Name:        "get_operation",
		Title:       "Get one operation",
		Description: "Tells how one change ended, where its secret went, and what to do next.",
		Class:       policy.Read,
		Needs:       "nothing",
		ClosedWorld: true,
		Serves:      func(*Connection) bool { return true },
	}, handleGetOperation)
}

func handleGetOperation(ctx context.Context, c *Call, in getOperationIn) (getOperationOut, error) {
	op, err := c.operation(ctx, in.OperationID)
	if err != nil {
		return getOperationOut{}, err
	}
	out := getOperationOut{
		operationRow: c.operationRow(&op), NewTokenName: op.NewTokenName, OldTokenID: op.OldTokenID, Step: op.Step,
		OldEnds: moment(op.OldEnds), Ended: moment(op.Ended), Verified: op.Verified, Fingerprint: op.Fingerprint, Reason: op.Reason,
		PreviewID: op.Preview, ApprovedBy: op.ApprovedBy, ResolvedBy: op.ResolvedBy, RequestID: op.VendorRequestID, Note: op.Note,
		Next: nextOf(&op),
	}
	if op.Sink != "" {
		out.DeliverTo = c.whereTo(ctx, &op)
	}
	room, err := roomBeside(out)
	if err == nil && op.Group {
		if out.Parts, err = c.parts(ctx, op.ID, min(room, shownParts)); err == nil {
			room, err = roomBeside(out)
		}
	}
	out.Targets = targetIDs(&op, maxShownTargets, room)
	return out, err
}

// roomBeside returns how many tokens of a language model the result still may take.
func roomBeside(out getOperationOut) (int, error) {
	text, err := compact(out)
	return shownOperation - tokensOf(text), err
}

// whereTo returns where the secret went or is to go, as SINK/KEY: a delivery from escrow
// may have chosen another place.
func (c *Call) whereTo(ctx context.Context, op *ledger.Operation) string {
	if op.ResolvedBy != "" {
		if by, err := c.Ledger.Get(ctx, op.ResolvedBy); err == nil && by.Of == op.ID {
			op = &by
		}
	}
	return op.Sink + "/" + op.Key
}

// operation returns an operation that the caller may see.
func (c *Call) operation(ctx context.Context, id string) (ledger.Operation, error) {
	none := &Problem{Code: "unknown_operation", Message: "there is no operation " + quoted(id) + " that you may see", Next: "find the id with list_operations"}
	if !c.HasLedger() {
		return ledger.Operation{}, none
	}
	c.Settle(ctx)
	op, err := c.Ledger.Get(ctx, id)
	switch {
	case errors.Is(err, ledger.ErrNotFound):
		return op, none
	case err != nil:
		return op, c.unreadable(err)
	case !c.maySee(&op):
		return ledger.Operation{}, none
	}
	return op, nil
}

// maySee reports whether the caller may know of the operation: of its own ones, on
// connections that its role reads; an admin of all.
func (c *Call) maySee(op *ledger.Operation) bool {
	return c.Principal.IsAdmin || op.IsOf(c.Principal.Name) && c.Principal.Allows(policy.Read, op.Connection)
}

// parts tells how the targets of a bulk revocation ended, without the plain done ones, in
// at most room tokens of a language model.
func (c *Call) parts(ctx context.Context, id string, room int) ([][]string, error) {
	page, err := c.Ledger.List(ctx, ledger.Query{Parent: id, Limit: ledger.MaxPage})
	if err != nil {
		return nil, c.unreadable(err)
	}
	var parts [][]string
	more := map[string]int{} // by outcome
	for i := range page.Operations {
		op := &page.Operations[i]
		outcome := string(cmp.Or(op.Outcome, ledger.OpenOutcome))
		if op.Outcome == ledger.Done || len(op.Targets) == 0 {
			more[outcome]++
			continue
		}
		part := []string{op.Targets[0].ID, outcome, op.ErrorCode}
		if room -= tokensOf(strings.Join(part, " ")) + len(part)*tokensPerText; room < 0 {
			more[outcome]++
			continue
		}
		parts = append(parts, part)
	}
	for _, outcome := range slices.Sorted(maps.Keys(more)) {
		parts = append(parts, []string{fmt.Sprintf("%d more", more[outcome]), outcome, ""})
	}
	return parts, nil
}

// nextOf says what to do about an operation that did not end well.
func nextOf(op *ledger.Operation) string {
	switch {
	case op.IsOpen():
		return "it is being carried out: ask again in a few seconds"
	case op.Outcome == ledger.Escrowed:
		return "call deliver_secret with this operation_id, once the sink is mended or with another deliver_to"
	case op.Outcome == ledger.Unknown && op.Note == "":
		return "read the token, or list tokens, to see whether it happened"
	}
	return ""
}

func moment(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}
