package ledger

import (
	"context"
	"crypto/rand"
	"database/sql"
	"fmt"
	"strings"
	"time"
)

// maxForms is how many forms on one preview a person may have open; the oldest gives way.
const maxForms = 16

// Decider is who says yes or no to a preview.
type Decider struct {
	// Principal is their name. At the operator's terminal it is "local:" and the user's.
	Principal string
	// From says how they were known, and from where, for the record; empty at the terminal.
	From string
}

// Approval names who approved the preview, for the record, or is empty.
func (p *Preview) Approval() string {
	if p.ApprovedFrom == "" {
		return p.ApprovedBy
	}
	return p.ApprovedBy + " (" + p.ApprovedFrom + ")"
}

// IsApprovedByOther reports whether who approved the preview is another than who asked for it.
func (p *Preview) IsApprovedByOther() bool { return p.ApprovedBy != "" && p.isOther(p.ApprovedBy) }

// isOther reports whether the decider is another than who asked. The local user's own process and
// their terminal are one.
func (p *Preview) isOther(decider string) bool {
	return decider != p.Principal && (p.Principal != "local" || !strings.HasPrefix(decider, "local:"))
}

// ApprovePreview records that a human said yes to an open preview, at the operator's terminal. A
// second yes changes nothing, unless the first was that of who asked and this one is not.
func (l *Ledger) ApprovePreview(ctx context.Context, id, who string) (Preview, error) {
	return l.decide(ctx, id, decision{kind: kindPreviewApproved, by: Decider{Principal: who}})
}

// DeclinePreview records that a human said no. The preview's code is dead then.
func (l *Ledger) DeclinePreview(ctx context.Context, id, who string) (Preview, error) {
	return l.decide(ctx, id, decision{kind: kindPreviewDeclined, by: Decider{Principal: who}})
}

// OpenForm returns a value that one decision of this person on an open preview must bring back: 130
// random bits, of which the ledger keeps a digest only. It is no question of [Ledger.AskPreview], and
// voids none.
func (l *Ledger) OpenForm(ctx context.Context, id, principal string) (form string, err error) {
	form, principal = rand.Text(), identity(principal)
	err = l.write(ctx, func(tx *sql.Tx) error {
		p, k, err := l.undecided(ctx, tx, id)
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `DELETE FROM preview_forms WHERE digest IN (SELECT digest FROM preview_forms
			WHERE preview = $1 AND principal = $2 ORDER BY opened DESC, digest LIMIT 1000000 OFFSET $3)`, p.ID, principal, maxForms-1)
		if err != nil {
			return err
		}
		return insert(ctx, tx, "preview_forms", digest(form), p.ID, principal, stamp(l.now()), stamp(k.until))
	})
	if err != nil {
		return "", err
	}
	return form, nil
}

// ApproveByForm is [Ledger.ApprovePreview] for a person who brings a form of their own, which is
// spent with the decision. What was approved already is [ErrPreviewOver].
func (l *Ledger) ApproveByForm(ctx context.Context, id, form string, by Decider) (Preview, error) {
	return l.decide(ctx, id, decision{kind: kindPreviewApproved, by: by, byForm: true, form: form})
}

// DeclineByForm is [Ledger.DeclinePreview] for a person who brings a form of their own.
func (l *Ledger) DeclineByForm(ctx context.Context, id, form string, by Decider) (Preview, error) {
	return l.decide(ctx, id, decision{kind: kindPreviewDeclined, by: by, byForm: true, form: form})
}

type decision struct {
	kind   string
	by     Decider
	byForm bool
	form   string
}

func (l *Ledger) decide(ctx context.Context, id string, d decision) (p Preview, err error) {
	if d.by.Principal == "" {
		return p, invalid("a decision needs who made it")
	}
	d.by = Decider{identity(d.by.Principal), identity(d.by.From)}
	err = l.write(ctx, func(tx *sql.Tx) error {
		if p, _, err = l.undecided(ctx, tx, id); err != nil {
			return err
		}
		if d.byForm {
			if err := l.spendForm(ctx, tx, p.ID, d.by.Principal, d.form); err != nil {
				return err
			}
		}
		isApproval := d.kind == kindPreviewApproved
		if isApproval && p.ApprovedBy != "" && (p.IsApprovedByOther() || !p.isOther(d.by.Principal)) {
			if d.byForm {
				return fmt.Errorf("%w: preview %s was approved by %s already", ErrPreviewOver, p.ID, p.ApprovedBy)
			}
			return nil
		}
		e, err := l.append(ctx, tx, "", d.kind, previewBody{Preview: p.ID, By: d.by.Principal, From: d.by.From})
		if err != nil {
			return err
		}
		if isApproval {
			p.ApprovedBy, p.ApprovedFrom, p.Approved = d.by.Principal, d.by.From, e.Time
		} else {
			p.DeclinedBy, p.State = d.by.Principal, PreviewDeclined
		}
		return setDecision(ctx, tx, &p)
	})
	return p, err
}

// spendForm takes a form that is this person's for this preview.
func (l *Ledger) spendForm(ctx context.Context, tx *sql.Tx, preview, principal, form string) error {
	done, err := tx.ExecContext(ctx, `DELETE FROM preview_forms WHERE digest = $1 AND preview = $2 AND principal = $3 AND until > $4`,
		digest(form), preview, principal, stamp(l.now()))
	if err != nil {
		return err
	}
	if n, err := done.RowsAffected(); err != nil || n == 1 {
		return err
	}
	return fmt.Errorf("%w: it was used, is too old, or is of another preview or person; open the page anew", ErrFormSpent)
}

func setDecision(ctx context.Context, tx *sql.Tx, p *Preview) error {
	_, err := tx.ExecContext(ctx, `UPDATE previews SET state = $1, approved_by = $2, approved_from = $3, approved = $4, declined_by = $5 WHERE id = $6`,
		string(p.State), p.ApprovedBy, p.ApprovedFrom, stampOrEmpty(p.Approved), p.DeclinedBy, p.ID)
	return err
}

func stampOrEmpty(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return stamp(t)
}
