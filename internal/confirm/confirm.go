// Package confirm keeps previews and their confirm codes. A code is opaque,
// unguessable and short-lived, works once, and is bound to the caller, to the
// tool and its arguments, and to the exact targets that the preview showed.
package confirm

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"
)

// The lives of codes and of recorded results, and how many of each are kept.
const (
	Life        = 10 * time.Minute
	recordLife  = time.Hour
	maxPreviews = 512 // open ones; the oldest goes first
	maxRecords  = 256
)

// Preview is what a change would do, bound to who asked and to what was asked.
type Preview struct {
	ID        string
	Principal string
	Tool      string
	// Arguments is the JSON object of every argument after defaults, all but
	// confirm.
	Arguments json.RawMessage
	// Plan is what the tool needs again at the confirmation: resolved targets,
	// absolute times.
	Plan    any
	Expires time.Time
}

// Verdict says what a presented code is.
type Verdict int

// The verdicts.
const (
	// NotACode: unknown, expired, or another caller's. The caller gets a preview.
	NotACode Verdict = iota
	// Mismatch: the code is valid for other arguments or another tool.
	Mismatch
	// Accepted: the change may be carried out; the code is spent now.
	Accepted
	// Running: the same call is being carried out.
	Running
	// Done: the change was carried out; its result is recorded.
	Done
)

// Check is the answer to a presented code.
type Check struct {
	Verdict Verdict
	Preview Preview
	Changed []string // Mismatch: the arguments that differ, or "tool"
	Result  any      // Done: what was recorded
}

type state int

const (
	open state = iota
	running
	done
)

type entry struct {
	preview Preview
	state   state
	result  any
	until   time.Time // when the entry is forgotten
}

// Store keeps previews in memory. It is safe for concurrent use.
type Store struct {
	now func() time.Time

	mu      sync.Mutex
	entries map[[sha256.Size]byte]*entry // by the code's digest
}

// NewStore returns an empty store. now is the clock.
func NewStore(now func() time.Time) *Store {
	return &Store{now: now, entries: map[[sha256.Size]byte]*entry{}}
}

// Open stores the preview, gives it an id and an end, and returns both with the
// confirm code: 128 random bits.
func (s *Store) Open(p Preview) (Preview, string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	s.forget(now)
	p.ID = "pv_" + rand.Text()[:10]
	p.Expires = now.Add(Life)
	code := rand.Text() // 26 letters of base32, 130 bits
	s.entries[sha256.Sum256([]byte(code))] = &entry{preview: p, until: p.Expires}
	return p, code
}

// Take judges a code. Accepted marks it as spent: the caller must call Record.
// A store lookup by digest leaks nothing about a code through its timing.
func (s *Store) Take(code, principal, tool string, arguments json.RawMessage) Check {
	check, e := s.judge(code, principal, tool, arguments)
	if check.Verdict == Accepted {
		e.state = running
		e.until = s.now().Add(recordLife)
	}
	s.mu.Unlock()
	return check
}

// Peek judges a code like Take and spends nothing.
func (s *Store) Peek(code, principal, tool string, arguments json.RawMessage) Check {
	check, _ := s.judge(code, principal, tool, arguments)
	s.mu.Unlock()
	return check
}

// judge returns with the store locked.
func (s *Store) judge(code, principal, tool string, arguments json.RawMessage) (Check, *entry) {
	s.mu.Lock()
	e, ok := s.entries[sha256.Sum256([]byte(code))]
	if !ok || e.preview.Principal != principal || !s.now().Before(e.until) {
		return Check{Verdict: NotACode}, nil
	}
	if e.preview.Tool != tool {
		return Check{Verdict: Mismatch, Preview: e.preview, Changed: []string{"tool"}}, e
	}
	if changed := differences(e.preview.Arguments, arguments); len(changed) > 0 {
		return Check{Verdict: Mismatch, Preview: e.preview, Changed: changed}, e
	}
	switch e.state {
	case running:
		return Check{Verdict: Running, Preview: e.preview}, e
	case done:
		return Check{Verdict: Done, Preview: e.preview, Result: e.result}, e
	default:
		return Check{Verdict: Accepted, Preview: e.preview}, e
	}
}

// Record keeps the result of a change that Take accepted, so that the same call
// can be answered again.
func (s *Store) Record(previewID string, result any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.entries {
		if e.preview.ID == previewID {
			e.state, e.result = done, result
			e.preview.Plan = nil
		}
	}
}

// forget drops what is over, then the oldest beyond the bounds.
func (s *Store) forget(now time.Time) {
	maps.DeleteFunc(s.entries, func(_ [sha256.Size]byte, e *entry) bool {
		return e.state != running && !now.Before(e.until)
	})
	s.bound(open, maxPreviews)
	s.bound(done, maxRecords)
}

func (s *Store) bound(kind state, most int) {
	var digests [][sha256.Size]byte
	for digest, e := range s.entries {
		if e.state == kind {
			digests = append(digests, digest)
		}
	}
	if len(digests) < most {
		return
	}
	slices.SortFunc(digests, func(a, b [sha256.Size]byte) int {
		return s.entries[a].until.Compare(s.entries[b].until)
	})
	for _, digest := range digests[:len(digests)-most+1] {
		delete(s.entries, digest)
	}
}

// differences names the members in which two JSON objects differ.
func differences(a, b json.RawMessage) []string {
	if bytes.Equal(a, b) {
		return nil
	}
	var first, second map[string]json.RawMessage
	if json.Unmarshal(a, &first) != nil || json.Unmarshal(b, &second) != nil {
		return []string{"arguments"}
	}
	var changed []string
	for name, value := range first {
		if !bytes.Equal(value, second[name]) {
			changed = append(changed, name)
		}
	}
	for name := range second {
		if _, ok := first[name]; !ok {
			changed = append(changed, name)
		}
	}
	slices.Sort(changed)
	return changed
}

// Canonical returns the arguments as compact JSON without confirm.
func Canonical(arguments any) (json.RawMessage, error) {
	data, err := json.Marshal(arguments)
	if err != nil {
		return nil, fmt.Errorf("arguments as JSON: %w", err)
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(data, &members); err != nil {
		return nil, fmt.Errorf("arguments as JSON: %w", err)
	}
	delete(members, "confirm")
	return json.Marshal(members)
}
