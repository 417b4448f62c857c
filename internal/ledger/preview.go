package ledger

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"
)

// The lives of codes and of recorded results.
const (
	PreviewLife = 10 * time.Minute
	resultLife  = time.Hour
	// strayLife is how long a change that never recorded its result counts as running.
	strayLife = 24 * time.Hour
)

// Preview is what a change would do, bound to who asked and to what was asked.
type Preview struct {
	ID        string // names the preview and authorises nothing
	Principal string
	Tool      string
	// Arguments is the JSON object of every argument after defaults, all but confirm. The ledger
	// keeps a digest of each only: they may hold anything that the caller typed.
	Arguments json.RawMessage
	// Plan is what the tool needs again at the confirmation. It is kept until the result is recorded.
	Plan       json.RawMessage
	Created    time.Time
	Expires    time.Time
	State      PreviewState
	ApprovedBy string // empty: nobody has
	// ApprovedFrom says how the approver was known, and from where; empty at the operator's terminal.
	ApprovedFrom string
	Approved     time.Time
	DeclinedBy   string
	Taken        time.Time // when its code was taken; zero: it was not
}

// PreviewState says how far a preview is.
type PreviewState string

// The states.
const (
	PreviewOpen     PreviewState = "open"
	PreviewDeclined PreviewState = "declined"
	PreviewRunning  PreviewState = "running" // its code was taken
	PreviewDone     PreviewState = "done"    // its result is recorded
)

// Verdict says what a presented code is.
type Verdict int

// The verdicts.
const (
	// NotACode: unknown, expired, or another caller's. The caller gets a preview.
	NotACode Verdict = iota
	// Mismatch: the code is valid for other arguments or another tool.
	Mismatch
	// Accepted: the change may be carried out; after TakePreview the code is spent.
	Accepted
	// Running: the same call is being carried out.
	Running
	// PreviewEnded: the change was carried out; its result is recorded.
	PreviewEnded
	// Declined: a human said no.
	Declined
)

// Check is the answer to a presented code.
type Check struct {
	Verdict Verdict
	Preview Preview
	Changed []string        // Mismatch: the arguments that differ, or "tool"
	Result  json.RawMessage // PreviewEnded: what was recorded
}

// OpenPreview records the preview, gives it an id and an end, and returns both with the confirm
// code: 130 random bits, of which the ledger keeps a digest only.
func (l *Ledger) OpenPreview(ctx context.Context, p Preview) (Preview, string, error) {
	digests, err := argumentDigests(p.Arguments)
	if err != nil {
		return Preview{}, "", err
	}
	if !json.Valid(p.Plan) {
		return Preview{}, "", invalid("a preview's plan must be JSON")
	}
	now := whole(l.now())
	p.ID = "pv_" + rand.Text()[:10]
	p.State, p.Created, p.Expires = PreviewOpen, now, now.Add(PreviewLife)
	code := rand.Text()
	err = l.write(ctx, func(tx *sql.Tx) error {
		if err := l.forgetPreviews(ctx, tx, identity(p.Principal), now); err != nil {
			return err
		}
		_, err := l.append(ctx, tx, "", kindPreviewOpened, previewBody{
			Preview: p.ID, Principal: identity(p.Principal), Tool: name(p.Tool), Code: digest(code),
			Arguments: digest(string(digests)), Plan: digest(string(p.Plan)), Expires: stamp(p.Expires),
		})
		if err != nil {
			return err
		}
		return insert(ctx, tx, "previews", digest(code), p.ID, identity(p.Principal), p.Tool, string(digests), string(p.Plan),
			stamp(p.Created), stamp(p.Expires), stamp(p.Expires), string(PreviewOpen), "", "", "", "", "", "", "")
	})
	if err != nil {
		return Preview{}, "", err
	}
	return p, code, nil
}

// PeekPreview judges a code and spends nothing. What has not the shape of a code is judged without
// the ledger.
func (l *Ledger) PeekPreview(ctx context.Context, code, principal, tool string, arguments json.RawMessage) (check Check, err error) {
	if !isCode(code) {
		return Check{}, nil
	}
	err = l.read(ctx, func(tx *sql.Tx) error {
		check, err = l.judge(ctx, tx, code, principal, tool, arguments)
		return err
	})
	return check, err
}

// TakePreview judges a code as [Ledger.PeekPreview] does. Accepted marks it as spent, in one process
// only: the caller must call RecordPreview.
func (l *Ledger) TakePreview(ctx context.Context, code, principal, tool string, arguments json.RawMessage) (check Check, err error) {
	if !isCode(code) {
		return Check{}, nil
	}
	var taking Head
	err = l.write(ctx, func(tx *sql.Tx) error {
		check, err = l.judge(ctx, tx, code, principal, tool, arguments)
		if err != nil || check.Verdict != Accepted {
			return err
		}
		e, err := l.append(ctx, tx, "", kindPreviewTaken, previewBody{Preview: check.Preview.ID, By: identity(principal)})
		if err != nil {
			return err
		}
		taking = Head{e.Seq, e.Hash}
		check.Preview.State, check.Preview.Taken = PreviewRunning, e.Time
		return setPreview(ctx, tx, &check.Preview, l.now().Add(resultLife))
	})
	if err != nil {
		taken := check.Preview
		l.undo(err, func(ctx context.Context) error { return l.giveBack(ctx, taken, taking) })
		return Check{}, err
	}
	return check, nil
}

// ReleasePreview gives a preview back as open, with its code, as TakePreview returned it accepted, since
// nothing was sent and nothing will be. Where the code has expired meanwhile, the preview is over. One that
// was given back, and that another call has taken since, stays that call's.
func (l *Ledger) ReleasePreview(ctx context.Context, taken Preview) error {
	return l.write(ctx, func(tx *sql.Tx) error { return l.releasePreview(ctx, tx, taken) })
}

func (l *Ledger) releasePreview(ctx context.Context, tx *sql.Tx, taken Preview) error {
	p, _, err := findPreview(ctx, tx, `id = $1`, taken.ID)
	if err != nil {
		return err
	}
	if p.State != PreviewRunning {
		return fmt.Errorf("%w: preview %s is %s; only what was taken can be given back", ErrPreviewOver, p.ID, p.State)
	}
	if !p.Taken.Equal(taken.Taken) {
		return fmt.Errorf("%w: preview %s was taken by another call since; only that one can give it back", ErrPreviewOver, p.ID)
	}
	if _, err := l.append(ctx, tx, "", kindPreviewReleased, previewBody{Preview: p.ID}); err != nil {
		return err
	}
	p.State, p.Taken = PreviewOpen, time.Time{}
	return setPreview(ctx, tx, &p, p.Expires)
}

// AskPreview opens a question on an open preview, and returns what its answer must bring back: 130
// random bits, of which the ledger keeps a digest only. The question before, if any, is void.
func (l *Ledger) AskPreview(ctx context.Context, id string) (state string, err error) {
	state = rand.Text()
	err = l.write(ctx, func(tx *sql.Tx) error {
		p, _, err := l.undecided(ctx, tx, id)
		if err != nil {
			return err
		}
		return setQuestion(ctx, tx, p.ID, digest(state))
	})
	if err != nil {
		return "", err
	}
	return state, nil
}

// AnswerPreview reports whether state is that of the preview's open question. The question is spent
// then, whatever the answer.
func (l *Ledger) AnswerPreview(ctx context.Context, id, state string) (bool, error) {
	right := false
	err := l.write(ctx, func(tx *sql.Tx) error {
		p, k, err := l.undecided(ctx, tx, id)
		if err != nil {
			return err
		}
		right = subtle.ConstantTimeCompare([]byte(k.question), []byte(digest(state))) == 1
		return setQuestion(ctx, tx, p.ID, "")
	})
	return right && err == nil, err
}

func setQuestion(ctx context.Context, tx *sql.Tx, id, question string) error {
	_, err := tx.ExecContext(ctx, `UPDATE previews SET question = $1 WHERE id = $2`, question, id)
	return err
}

// RecordPreview keeps the result of a change that TakePreview accepted, as JSON, so that the same
// call can be answered again for an hour.
func (l *Ledger) RecordPreview(ctx context.Context, id string, result json.RawMessage) error {
	if !json.Valid(result) {
		return invalid("a preview's result must be JSON")
	}
	return l.write(ctx, func(tx *sql.Tx) error {
		p, _, err := findPreview(ctx, tx, `id = $1`, id)
		if err != nil {
			return err
		}
		if p.State != PreviewRunning {
			return fmt.Errorf("%w: preview %s is %s; only what was taken has a result", ErrPreviewOver, p.ID, p.State)
		}
		_, err = tx.ExecContext(ctx, `UPDATE previews SET result = $1, plan = 'null' WHERE id = $2`, string(result), p.ID)
		if err != nil {
			return err
		}
		p.State = PreviewDone
		return setPreview(ctx, tx, &p, l.now().Add(resultLife))
	})
}

// FindPreview returns a preview for who is to approve it, or [ErrNotFound]. The plan of one that is
// done is null.
func (l *Ledger) FindPreview(ctx context.Context, id string) (p Preview, err error) {
	err = l.read(ctx, func(tx *sql.Tx) error {
		p, _, err = l.alive(ctx, tx, id)
		return err
	})
	return p, err
}

// kept is what is kept of a preview beside itself.
type kept struct {
	arguments map[string]string // digests
	result    json.RawMessage
	until     time.Time // when it is forgotten
	question  string    // the digest of its open question's state
}

func (l *Ledger) judge(ctx context.Context, tx *sql.Tx, code, principal, tool string, arguments json.RawMessage) (Check, error) {
	p, k, err := findPreview(ctx, tx, `code_digest = $1`, digest(code))
	if errors.Is(err, ErrNotFound) {
		return Check{}, nil
	}
	if err != nil {
		return Check{}, err
	}
	if p.Principal != identity(principal) || !l.now().Before(k.until) {
		return Check{}, nil
	}
	if p.Tool != tool {
		return Check{Verdict: Mismatch, Preview: p, Changed: []string{"tool"}}, nil
	}
	changed, err := k.differences(arguments)
	if err != nil {
		return Check{}, err
	}
	if len(changed) > 0 {
		return Check{Verdict: Mismatch, Preview: p, Changed: changed}, nil
	}
	verdict := map[PreviewState]Verdict{
		PreviewOpen: Accepted, PreviewDeclined: Declined, PreviewRunning: Running, PreviewDone: PreviewEnded,
	}[p.State]
	return Check{Verdict: verdict, Preview: p, Result: k.result}, nil
}

// alive returns a preview that is not forgotten.
func (l *Ledger) alive(ctx context.Context, tx *sql.Tx, id string) (Preview, kept, error) {
	p, k, err := findPreview(ctx, tx, `id = $1`, id)
	if err == nil && !l.now().Before(k.until) {
		err = notFound("preview", id)
	}
	return p, k, err
}

// undecided returns a preview that is open.
func (l *Ledger) undecided(ctx context.Context, tx *sql.Tx, id string) (Preview, kept, error) {
	p, k, err := l.alive(ctx, tx, id)
	if err == nil && p.State != PreviewOpen {
		err = fmt.Errorf("%w: preview %s is %s already", ErrPreviewOver, p.ID, p.State)
	}
	return p, k, err
}

func findPreview(ctx context.Context, tx *sql.Tx, where, value string) (Preview, kept, error) {
	var p Preview
	var k kept
	if !isText(value) {
		return p, k, notFound("preview", value)
	}
	var digests, plan, created, expires, until, result, approved, taken string
	err := tx.QueryRowContext(ctx, `SELECT id, principal, tool, arguments, plan, created, expires, until, state, result, approved_by, approved_from,
		approved, declined_by, taken, question FROM previews WHERE `+where, value).Scan(&p.ID, &p.Principal, &p.Tool, &digests, &plan, &created,
		&expires, &until, &p.State, &result, &p.ApprovedBy, &p.ApprovedFrom, &approved, &p.DeclinedBy, &taken, &k.question)
	if errors.Is(err, sql.ErrNoRows) {
		return p, k, notFound("preview", value)
	}
	if err != nil {
		return p, k, err
	}
	p.Plan = json.RawMessage(plan)
	if result != "" {
		k.result = json.RawMessage(result)
	}
	err = json.Unmarshal([]byte(digests), &k.arguments)
	for to, text := range map[*time.Time]string{
		&p.Created: created, &p.Expires: expires, &k.until: until, &p.Approved: approved, &p.Taken: taken,
	} {
		if text == "" {
			continue
		}
		at, wrong := parseTime(text)
		*to = at
		err = errors.Join(err, wrong)
	}
	if err != nil {
		return p, k, fmt.Errorf("%w: preview %s is unreadable: %w", ErrUnavailable, p.ID, err)
	}
	return p, k, nil
}

// setPreview puts how far a preview is. No question outlives that.
func setPreview(ctx context.Context, tx *sql.Tx, p *Preview, until time.Time) error {
	_, err := tx.ExecContext(ctx, `UPDATE previews SET state = $1, until = $2, taken = $3, question = '' WHERE id = $4`,
		string(p.State), stamp(until), stampOrEmpty(p.Taken), p.ID)
	return err
}

// forgetPreviews drops what is over, and the principal's oldest beyond the bounds.
func (l *Ledger) forgetPreviews(ctx context.Context, tx *sql.Tx, principal string, now time.Time) error {
	_, err := tx.ExecContext(ctx, `DELETE FROM previews WHERE until <= $1 AND (state <> 'running' OR until <= $2)`,
		stamp(now), stamp(now.Add(-strayLife)))
	if err == nil {
		_, err = tx.ExecContext(ctx, `DELETE FROM preview_forms WHERE until <= $1`, stamp(now))
	}
	if err != nil {
		return err
	}
	for _, bound := range []struct {
		state PreviewState
		most  int
	}{{PreviewOpen, l.previews - 1}, {PreviewDone, l.previews / 2}} {
		_, err := tx.ExecContext(ctx, `DELETE FROM previews WHERE id IN (SELECT id FROM previews
			WHERE principal = $1 AND state = $2 ORDER BY until DESC, id DESC LIMIT 1000000 OFFSET $3)`, principal, string(bound.state), bound.most)
		if err != nil {
			return err
		}
	}
	return nil
}

func digest(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

// argumentDigests returns a JSON object of the digests of a JSON object's members, salted so that
// equal values of two previews do not show.
func argumentDigests(arguments json.RawMessage) (json.RawMessage, error) {
	salt := rand.Text()
	digests, err := digestsOf(arguments, salt)
	if err != nil {
		return nil, err
	}
	digests[""] = salt
	return canonical(digests)
}

func digestsOf(arguments json.RawMessage, salt string) (map[string]string, error) {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(arguments, &members); err != nil {
		return nil, invalid("a preview's arguments must be a JSON object")
	}
	digests := make(map[string]string, len(members)+1)
	for member, value := range members {
		if member == "" {
			return nil, invalid("an argument has no name")
		}
		digests[member] = digest(salt + string(value))
	}
	return digests, nil
}

// differences names the arguments in which a call differs from the preview.
func (k *kept) differences(arguments json.RawMessage) ([]string, error) {
	given, err := digestsOf(arguments, k.arguments[""])
	if err != nil {
		return nil, err
	}
	given[""] = k.arguments[""]
	var changed []string
	for member, value := range k.arguments {
		if given[member] != value {
			changed = append(changed, member)
		}
	}
	for member := range given {
		if _, ok := k.arguments[member]; !ok {
			changed = append(changed, member)
		}
	}
	slices.Sort(changed)
	return changed, nil
}
