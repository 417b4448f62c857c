package ledger

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Outcome says how an operation ended.
type Outcome string

// The outcomes. An open operation has none.
const (
	Done        Outcome = "done"
	AlreadyGone Outcome = "already_gone"
	Failed      Outcome = "failed"   // nothing was changed
	Escrowed    Outcome = "escrowed" // the secret waits in escrow
	Unknown     Outcome = "unknown"  // the vendor's answer was lost
	Refused     Outcome = "refused"  // nothing was sent

	// OpenOutcome stands in a [Query] for operations without an outcome.
	OpenOutcome Outcome = "open"
)

// Class is the class of the tool that made the change.
type Class string

// MaxTargets is how many targets an operation keeps. Of more, only the number is kept, and they are
// not locked.
const MaxTargets = 1000

// Client is the program that called.
type Client struct {
	Name    string `json:"name,omitempty"`
	Version string `json:"version,omitempty"`
}

// Target is a token that an operation touches.
type Target struct {
	ID    string `json:"id"`
	Owner string `json:"owner,omitempty"` // its owner's id
	Name  string `json:"name,omitempty"`
}

// Intent is what is known of a change before the vendor is called. Text is cleaned and bounded when
// it is recorded. Ids that have the shape of a credential, or that cleaning would alter, are kept as
// a digest: "sha256:" and 16 hex digits.
type Intent struct {
	Parent    string `json:"parent,omitempty"` // the group that this operation is part of
	Of        string `json:"of,omitempty"`     // the operation whose secret this one delivers
	Principal string `json:"principal"`        // required
	// Auth is how the principal authenticated, and Address where it called from.
	Auth       string   `json:"auth,omitempty"`
	Address    string   `json:"address,omitempty"`
	Client     Client   `json:"client,omitzero"`
	Tool       string   `json:"tool"`       // required
	Class      Class    `json:"class"`      // required
	Connection string   `json:"connection"` // required
	Provider   string   `json:"provider"`   // required
	Account    string   `json:"account,omitempty"`
	Targets    []Target `json:"targets,omitempty"`
	// MoreTargets is the number of those beyond [MaxTargets].
	MoreTargets int `json:"more_targets,omitempty"`
	// Group: the operation changes nothing by itself, its children do. It locks no token and no
	// limit counts it.
	Group bool `json:"group,omitempty"`
	// Compromised: a rotation whose old secret dies at once.
	Compromised bool   `json:"compromised,omitempty"`
	Reason      string `json:"reason,omitempty"`
	Preview     string `json:"preview_id,omitempty"`
	ApprovedBy  string `json:"approved_by,omitempty"`
	// ApprovedFrom is how the approver was known over HTTP, and where from.
	ApprovedFrom string `json:"approved_from,omitempty"`
	Sink         string `json:"sink,omitempty"`
	Key          string `json:"sink_key,omitempty"`
	// NewTokenName is the name of a token that is to be made: its id is not known yet.
	NewTokenName string `json:"new_token_name,omitempty"`
}

// Details are what becomes known on the way. Each is safe to show. Later ones replace earlier ones;
// an empty one replaces nothing.
type Details struct {
	VendorRequestID string `json:"vendor_request_id,omitempty"`
	// NewTokenID is the token that the change made. It is locked as the targets are.
	NewTokenID  string    `json:"new_token_id,omitempty"`
	OldTokenID  string    `json:"old_token_id,omitempty"`
	Fingerprint string    `json:"fingerprint,omitempty"` // keyed, of the new secret
	OldEnds     time.Time `json:"old_ends,omitzero"`     // when the old secret stops working
	Verified    string    `json:"verified,omitempty"`
	Note        string    `json:"note,omitempty"`
	// Version is the version of the sink's key that holds the secret.
	Version int `json:"sink_version,omitempty"`
}

// Result is how an operation ended.
type Result struct {
	Outcome   Outcome `json:"outcome"` // required
	ErrorCode string  `json:"error_code,omitempty"`
	Details
}

// Operation is the present state of one change.
type Operation struct {
	ID string `json:"id"` // a UUID of version 7
	Intent
	Process   string    `json:"process"` // the process that began or claimed it
	Started   time.Time `json:"started"`
	Ended     time.Time `json:"ended,omitzero"`
	Step      string    `json:"step,omitempty"`    // the last one on record
	Outcome   Outcome   `json:"outcome,omitempty"` // empty: open
	ErrorCode string    `json:"error_code,omitempty"`
	Details
	// Claims is how often another process took the operation over.
	Claims int `json:"claims,omitempty"`
	// Late is what a process reported after it had lost the operation. It is not the outcome.
	Late *Result `json:"late,omitempty"`
	// Resolved tells when an unknown or escrowed outcome became the present one, and ResolvedBy
	// through which operation.
	Resolved   time.Time `json:"resolved,omitzero"`
	ResolvedBy string    `json:"resolved_by,omitempty"`
	// OutcomeSeq is the number of the entry that gave the present outcome.
	OutcomeSeq int64 `json:"outcome_seq,omitempty"`

	// Seq is the number of the intent's entry. Lease is until when the process has the operation to
	// itself; zero: nobody has. Both are as of the reading.
	Seq   int64     `json:"-"`
	Lease time.Time `json:"-"`
}

// IsOf reports whether the operation is the principal's, whose name it may keep as a digest.
func (o *Operation) IsOf(principal string) bool { return o.Principal == identity(principal) }

// madeName is the name that the token which the operation makes is called by: a rotation calls it as the old one.
func (o *Operation) madeName() string {
	if len(o.Targets) == 1 {
		return o.Targets[0].Name
	}
	return o.NewTokenName
}

// IsOpen reports whether the operation has no outcome yet.
func (o *Operation) IsOpen() bool { return o.Outcome == "" }

// weight is what the operation counts against limits: its targets, where it changed them or may have.
func (o *Operation) weight() int {
	switch o.Outcome {
	case Failed, AlreadyGone, Refused:
		return 0
	}
	if o.Group {
		return 0
	}
	return max(1, len(o.Targets)+o.MoreTargets)
}

// delivered orders the deliveries of secrets into sinks by when they ended. Zero: it is none. What
// another operation resolved is that one's delivery.
func (o *Operation) delivered() int64 {
	if o.Outcome != Done || o.Sink == "" || o.Key == "" || o.NewTokenID == "" || o.ResolvedBy != "" {
		return 0
	}
	return o.OutcomeSeq
}

// With returns the details with later ones over them.
func (d Details) With(later Details) Details {
	d.merge(later)
	return d
}

func (d *Details) merge(o Details) {
	set := func(to *string, from string) {
		if from != "" {
			*to = from
		}
	}
	set(&d.VendorRequestID, o.VendorRequestID)
	set(&d.NewTokenID, o.NewTokenID)
	set(&d.OldTokenID, o.OldTokenID)
	set(&d.Fingerprint, o.Fingerprint)
	set(&d.Verified, o.Verified)
	set(&d.Note, o.Note)
	if !o.OldEnds.IsZero() {
		d.OldEnds = o.OldEnds
	}
	if o.Version != 0 {
		d.Version = o.Version
	}
}

// locks are the tokens that nobody else may change while the operation is open.
func (o *Operation) locks() []string {
	tokens := o.targetLocks()
	if o.IsOpen() && !o.Group && o.NewTokenID != "" {
		tokens = append(tokens, o.NewTokenID)
	}
	slices.Sort(tokens)
	return slices.Compact(tokens)
}

// targetLocks are those of the locks that an open operation is sure to have: a token that it made can
// be another's.
func (o *Operation) targetLocks() []string {
	if o.Group || !o.IsOpen() {
		return nil
	}
	tokens := make([]string, len(o.Targets))
	for i, t := range o.Targets {
		tokens[i] = t.ID
	}
	return tokens
}

// apply moves the operation on by one entry. Operations hold nothing that their entries do not.
func (o *Operation) apply(e Entry) error {
	if (o.ID == "") != (e.Kind == kindIntent) {
		return errors.New("an operation must begin with its intent, and have one only")
	}
	switch e.Kind {
	case kindIntent:
		return o.begin(e)
	case kindStep:
		return o.step(e)
	case kindOutcome:
		return o.finish(e)
	case kindClaim:
		return o.claim(e)
	case kindLate:
		return o.late(e)
	case kindResolve:
		return o.resolve(e)
	}
	return fmt.Errorf("unknown kind %q", e.Kind)
}

func (o *Operation) begin(e Entry) error {
	var b intentBody
	if err := json.Unmarshal(e.Body, &b); err != nil {
		return fmt.Errorf("unreadable intent: %w", err)
	}
	*o = Operation{ID: e.Operation, Intent: b.Intent, Process: b.Process, Started: e.Time, Seq: e.Seq}
	return nil
}

func (o *Operation) step(e Entry) error {
	var b stepBody
	if err := o.read(e, &b); err != nil {
		return err
	}
	o.Step = b.Step
	o.merge(b.Details)
	return nil
}

func (o *Operation) finish(e Entry) error {
	var b Result
	if err := o.read(e, &b); err != nil {
		return err
	}
	o.Outcome, o.ErrorCode, o.Ended, o.OutcomeSeq = b.Outcome, b.ErrorCode, e.Time, e.Seq
	o.merge(b.Details)
	return nil
}

func (o *Operation) claim(e Entry) error {
	var b claimBody
	if err := o.read(e, &b); err != nil {
		return err
	}
	o.Process = b.Process
	o.Claims++
	return nil
}

func (o *Operation) late(e Entry) error {
	var b lateBody
	if err := json.Unmarshal(e.Body, &b); err != nil {
		return fmt.Errorf("unreadable late report: %w", err)
	}
	// What the other process found out fills gaps, and never replaces.
	known := o.Details
	o.Details = b.Details
	o.merge(known)
	late := Result{}
	if o.Late != nil {
		late = *o.Late
	}
	if b.Outcome != "" {
		late.Outcome, late.ErrorCode = b.Outcome, b.ErrorCode
	}
	late.merge(b.Details)
	o.Late = &late
	return nil
}

func (o *Operation) resolve(e Entry) error {
	if !o.resolvable() {
		return fmt.Errorf("an operation that is %q was resolved", o.Outcome)
	}
	var b resolveBody
	if err := json.Unmarshal(e.Body, &b); err != nil {
		return fmt.Errorf("unreadable resolution: %w", err)
	}
	o.Outcome, o.ErrorCode, o.Resolved, o.ResolvedBy, o.OutcomeSeq = b.Outcome, b.ErrorCode, e.Time, b.By, e.Seq
	o.merge(b.Details)
	return nil
}

func (o *Operation) resolvable() bool { return o.Outcome == Unknown || o.Outcome == Escrowed }

// read reads the body of an entry that only an open operation can have.
func (o *Operation) read(e Entry, body any) error {
	if !o.IsOpen() {
		return fmt.Errorf("a %s after the outcome", e.Kind)
	}
	if err := json.Unmarshal(e.Body, body); err != nil {
		return fmt.Errorf("unreadable %s: %w", e.Kind, err)
	}
	return nil
}
