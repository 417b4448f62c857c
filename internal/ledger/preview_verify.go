package ledger

import (
	"context"
	"database/sql"
	"encoding/json"
	"slices"
)

// previewRow is what a preview's row and its entries must agree on, as text.
type previewRow struct {
	principal, tool, code, arguments, plan, expires, until, state, approvedBy, approvedFrom, approved, declinedBy, taken string
}

// settle makes rows alike that differ in what no entry tells: whether a result is recorded, and how
// long it is kept.
func (r previewRow) settle() previewRow {
	r.tool = name(r.tool)
	switch PreviewState(r.state) {
	case PreviewDone:
		r.plan, r.until, r.state = "", "", string(PreviewRunning)
	case PreviewRunning:
		r.until = ""
	}
	return r
}

// comparedPreview is a preview as it is kept and as its entries tell it.
type comparedPreview struct{ kept, told previewRow }

type comparedPreviews map[string]*comparedPreview

func keptPreviews(ctx context.Context, tx *sql.Tx) (comparedPreviews, error) {
	rows, err := tx.QueryContext(ctx, `SELECT id, principal, tool, code_digest, arguments, plan, expires, until, state, approved_by, approved_from,
		approved, declined_by, taken FROM previews`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	previews := comparedPreviews{}
	for rows.Next() {
		var id string
		var r previewRow
		if err := rows.Scan(&id, &r.principal, &r.tool, &r.code, &r.arguments, &r.plan, &r.expires, &r.until, &r.state, &r.approvedBy,
			&r.approvedFrom, &r.approved, &r.declinedBy, &r.taken); err != nil {
			return nil, err
		}
		r.arguments, r.plan = digest(r.arguments), digest(r.plan)
		previews[id] = &comparedPreview{kept: r}
	}
	return previews, rows.Err()
}

// apply moves what is told of a preview on by one entry.
func (c comparedPreviews) apply(e *Entry) {
	var b previewBody
	if json.Unmarshal(e.Body, &b) != nil || c[b.Preview] == nil {
		return
	}
	told := &c[b.Preview].told
	switch e.Kind {
	case kindPreviewOpened:
		*told = previewRow{
			principal: b.Principal, tool: b.Tool, code: b.Code, arguments: b.Arguments, plan: b.Plan,
			expires: b.Expires, until: b.Expires, state: string(PreviewOpen),
		}
	case kindPreviewApproved:
		told.approvedBy, told.approvedFrom, told.approved = b.By, b.From, stamp(e.Time)
	case kindPreviewDeclined:
		told.declinedBy, told.state = b.By, string(PreviewDeclined)
	case kindPreviewTaken:
		told.state, told.taken = string(PreviewRunning), stamp(e.Time)
	case kindPreviewReleased:
		told.state, told.taken = string(PreviewOpen), ""
	}
}

// wrong returns the ids of the previews that are not what their entries say.
func (c comparedPreviews) wrong() []string {
	var ids []string
	for id, p := range c {
		if PreviewState(p.kept.state) == PreviewDone {
			p.told.plan = "" // it is dropped with the result
		}
		if p.kept.settle() != p.told.settle() {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}
