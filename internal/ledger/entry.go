package ledger

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
	"time"
)

// The kinds of entries.
const (
	kindIntent  = "intent"
	kindStep    = "step"
	kindOutcome = "outcome"
	kindClaim   = "claim"
	kindLate    = "late"
	kindResolve = "resolve"

	kindPreviewOpened   = "preview_opened"
	kindPreviewApproved = "preview_approved"
	kindPreviewDeclined = "preview_declined"
	kindPreviewTaken    = "preview_taken"
	kindPreviewReleased = "preview_released"
)

// timeLayout is of one width, so that times as text sort as times. Always UTC.
const timeLayout = "2006-01-02T15:04:05.000000Z"

// genesis is the hash before the first entry.
const genesis = "0000000000000000000000000000000000000000000000000000000000000000"

// Entry is one link of the chain. Entries are never changed or removed.
type Entry struct {
	Seq       int64           // from 1, without gaps
	Prev      string          // the hash of the entry before; 64 zeros before the first
	Hash      string          // see [Entry.Digest]
	Operation string          // empty: the entry is about a preview
	Kind      string          // what happened
	Time      time.Time       // UTC, in microseconds
	Body      json.RawMessage // compact, members sorted
}

// Head is the last entry of a chain.
type Head struct {
	Seq  int64  `json:"seq"`
	Hash string `json:"hash"` // 64 zeros: the chain is empty
}

// The bodies of entries.
type (
	intentBody struct {
		Intent
		Process string `json:"process"`
	}
	stepBody struct {
		Step string `json:"step"`
		Details
	}
	claimBody struct {
		Process string `json:"process"`
		From    string `json:"from"` // the process that had it
	}
	lateBody struct {
		Process string `json:"process"`
		Step    string `json:"step,omitempty"`
		Result
	}
	resolveBody struct {
		By string `json:"by,omitempty"`
		Result
	}
	previewBody struct {
		Preview   string `json:"preview"`
		Principal string `json:"principal,omitempty"`
		Tool      string `json:"tool,omitempty"`
		Code      string `json:"code_sha256,omitempty"`
		Arguments string `json:"arguments_sha256,omitempty"` // of their salted digests
		Plan      string `json:"plan_sha256,omitempty"`
		Expires   string `json:"expires,omitempty"`
		By        string `json:"by,omitempty"`
		From      string `json:"from,omitempty"`
	}
)

// Digest returns the hash that the entry must have: the SHA-256, in hex, of six lines, each ended by
// a line feed: the hash of the entry before, the number, the operation, the kind, the time and the
// body. `printf '%s\n' … | sha256sum` gives the same. No field that the ledger writes holds a line feed:
// six lines can be read in one way only.
func (e *Entry) Digest() string {
	h := sha256.New()
	for _, line := range []string{e.Prev, strconv.FormatInt(e.Seq, 10), e.Operation, e.Kind, stamp(e.Time), string(e.Body)} {
		h.Write([]byte(line))
		h.Write([]byte{'\n'})
	}
	return hex.EncodeToString(h.Sum(nil))
}

// line is an entry in an export.
type line struct {
	Seq       int64           `json:"seq"`
	Time      string          `json:"time"`
	Kind      string          `json:"kind"`
	Operation string          `json:"operation"`
	Body      json.RawMessage `json:"body"`
	Prev      string          `json:"prev_hash"`
	Hash      string          `json:"hash"`
}

// MarshalJSON returns the entry as it stands in an export.
func (e Entry) MarshalJSON() ([]byte, error) {
	return compact(line{e.Seq, stamp(e.Time), e.Kind, e.Operation, e.Body, e.Prev, e.Hash})
}

// UnmarshalJSON reads what [Entry.MarshalJSON] wrote.
func (e *Entry) UnmarshalJSON(data []byte) error {
	var l line
	if err := json.Unmarshal(data, &l); err != nil {
		return err
	}
	at, err := parseTime(l.Time)
	*e = Entry{l.Seq, l.Prev, l.Hash, l.Operation, l.Kind, at, l.Body}
	return err
}

func stamp(t time.Time) string { return t.UTC().Format(timeLayout) }

// parseTime reads exactly what stamp writes.
func parseTime(s string) (time.Time, error) {
	t, err := time.Parse(timeLayout, s)
	if err == nil && stamp(t) != s {
		err = fmt.Errorf("not a time of the ledger: %q", s)
	}
	return t, err
}

// canonical returns v as compact JSON with sorted members.
func canonical(v any) (json.RawMessage, error) {
	data, err := compact(v)
	if err != nil {
		return nil, err
	}
	var tree any
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.UseNumber()
	if err := decoder.Decode(&tree); err != nil {
		return nil, err
	}
	return compact(tree)
}

// compact returns v as JSON in one line without HTML escapes.
func compact(v any) ([]byte, error) {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(v); err != nil {
		return nil, fmt.Errorf("as JSON: %w", err)
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}
