package ledger

import (
	"context"
	"database/sql"
	"encoding/csv"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Format is the form of an export.
type Format string

// The formats. JSONLines has one line per entry, each as it was recorded: [VerifyExport] judges it
// without the ledger. CSV has one row per operation with its present state, for spreadsheets.
const (
	JSONLines Format = "jsonl"
	CSV       Format = "csv"
)

// Export writes the whole ledger to w, oldest first, as of one moment. A failure may come after a
// part was written.
func (l *Ledger) Export(ctx context.Context, w io.Writer, format Format) error {
	db, err := l.database(ctx)
	if err != nil {
		return err
	}
	switch format {
	case JSONLines:
		return db.read(ctx, func(tx *sql.Tx) error { return exportEntries(ctx, tx, w) })
	case CSV:
		return db.read(ctx, func(tx *sql.Tx) error { return exportOperations(ctx, tx, w) })
	}
	return invalid("%q is no format of an export; choose %s or %s", string(format), JSONLines, CSV)
}

func exportEntries(ctx context.Context, tx *sql.Tx, w io.Writer) error {
	return eachEntry(ctx, tx, selectEntries+`ORDER BY seq`, func(e stored) error {
		if e.err != nil {
			return fmt.Errorf("%w: entry %d: %w; run verify", ErrUnavailable, e.Seq, e.err)
		}
		data, err := compact(e.Entry)
		if err != nil {
			return fmt.Errorf("%w: entry %d: %w; run verify", ErrUnavailable, e.Seq, err)
		}
		_, err = w.Write(append(data, '\n'))
		return err
	})
}

func exportOperations(ctx context.Context, tx *sql.Tx, w io.Writer) error {
	out := csv.NewWriter(w)
	header := []string{
		"operation", "parent", "started", "ended", "outcome", "error_code", "principal", "client", "tool", "class", "connection",
		"provider", "account", "targets", "target_ids", "new_token_name", "new_token_id", "old_token_id", "old_ends", "sink", "sink_key", "sink_version", "fingerprint",
		"verified", "preview_id", "approved_by", "approved_from", "vendor_request_id", "step", "reason", "note",
	}
	if err := out.Write(header); err != nil {
		return err
	}
	rows, err := tx.QueryContext(ctx, selectOperations+`ORDER BY o.seq`)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		op, err := scanOperation(rows)
		if err != nil {
			return err
		}
		if err := out.Write(op.cells()); err != nil {
			return err
		}
	}
	out.Flush()
	if err := rows.Err(); err != nil {
		return err
	}
	return out.Error()
}

// cells returns the operation as a row of a spreadsheet.
func (o *Operation) cells() []string {
	ids := make([]string, len(o.Targets))
	for i, t := range o.Targets {
		ids[i] = t.ID
	}
	version := ""
	if o.Version != 0 {
		version = strconv.Itoa(o.Version)
	}
	cells := []string{
		o.ID, o.Parent, date(o.Started), date(o.Ended), string(o.Outcome), o.ErrorCode, o.Principal,
		strings.TrimSpace(o.Client.Name + " " + o.Client.Version), o.Tool, string(o.Class), o.Connection, o.Provider, o.Account,
		strconv.Itoa(len(o.Targets) + o.MoreTargets), strings.Join(ids, " "), o.NewTokenName, o.NewTokenID, o.OldTokenID, date(o.OldEnds), o.Sink, o.Key,
		version, o.Fingerprint, o.Verified, o.Preview, o.ApprovedBy, o.ApprovedFrom, o.VendorRequestID, o.Step, o.Reason, o.Note,
	}
	for i, cell := range cells {
		// Spreadsheets take what begins so for a formula, some in full width too, and token names
		// come from anyone.
		if first, _ := utf8.DecodeRuneInString(cell); strings.ContainsRune("=+-@＝＋－＠", first) {
			cells[i] = "'" + cell
		}
	}
	return cells
}

func date(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}
