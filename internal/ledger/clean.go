package ledger

import (
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/tokenreeve/tokenreeve/internal/sanitize"
)

// NewID returns an id for an operation: a UUID of version 7, which sorts by its time.
func NewID() (string, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return "", err
	}
	return id.String(), nil
}

func checkID(id string) error {
	parsed, err := uuid.Parse(id)
	if err != nil || parsed.Version() != 7 || parsed.String() != id {
		return invalid("an operation's id must be a UUID of version 7 in lower case")
	}
	return nil
}

// identity returns an id as the ledger keeps it.
func identity(s string) string { return sanitize.ID(s) }

// isText reports whether s can be in a database: PostgreSQL refuses to look for anything else.
func isText(s string) bool { return utf8.ValidString(s) && !strings.Contains(s, "\x00") }

func name(s string) string {
	clean, _ := sanitize.Name(s)
	return clean
}

// isWord reports whether s is what programs, not people, choose as a name.
func isWord(s string) bool {
	const letters = "abcdefghijklmnopqrstuvwxyz"
	return s != "" && len(s) <= 64 && strings.Contains(letters, s[:1]) && strings.Trim(s, letters+"0123456789_") == ""
}

func whole(t time.Time) time.Time {
	if t.IsZero() {
		return time.Time{}
	}
	return t.UTC().Truncate(time.Microsecond)
}

// cleaned returns the intent as it is recorded.
func (i Intent) cleaned() (Intent, error) {
	for _, required := range []struct{ what, value string }{
		{"principal", i.Principal}, {"connection", i.Connection}, {"provider", i.Provider},
	} {
		if required.value == "" {
			return i, invalid("an operation needs a %s", required.what)
		}
	}
	if !isWord(i.Tool) || !isWord(string(i.Class)) {
		return i, invalid("an operation needs a tool and a class, in lower-case letters, digits and _")
	}
	for _, other := range []string{i.Parent, i.Of} {
		if err := checkID(other); other != "" && err != nil {
			return i, err
		}
	}
	for _, id := range []*string{&i.Principal, &i.Auth, &i.Address, &i.Connection, &i.Provider, &i.Account, &i.Preview, &i.ApprovedBy, &i.ApprovedFrom, &i.Sink, &i.Key} {
		*id = identity(*id)
	}
	i.Client = Client{name(i.Client.Name), name(i.Client.Version)}
	i.Reason = sanitize.Message(i.Reason)
	i.NewTokenName = name(i.NewTokenName)
	if i.MoreTargets < 0 {
		return i, invalid("an operation cannot have %d more targets", i.MoreTargets)
	}
	if more := len(i.Targets) - MaxTargets; more > 0 {
		i.MoreTargets += more
	}
	i.Targets = slices.Clone(i.Targets[:min(len(i.Targets), MaxTargets)])
	for n, t := range i.Targets {
		if t.ID == "" {
			return i, invalid("each target needs an id")
		}
		i.Targets[n] = Target{identity(t.ID), identity(t.Owner), name(t.Name)}
	}
	return i, nil
}

func (d Details) cleaned() Details {
	return Details{
		VendorRequestID: name(d.VendorRequestID),
		NewTokenID:      identity(d.NewTokenID),
		OldTokenID:      identity(d.OldTokenID),
		Fingerprint:     name(d.Fingerprint),
		OldEnds:         whole(d.OldEnds),
		Verified:        name(d.Verified),
		Note:            sanitize.Message(d.Note),
		Version:         d.Version,
	}
}

func (r Result) cleaned() (Result, error) {
	switch r.Outcome {
	case Done, AlreadyGone, Failed, Escrowed, Unknown, Refused:
	default:
		return r, invalid("%q is no outcome", string(r.Outcome))
	}
	return Result{Outcome: r.Outcome, ErrorCode: name(r.ErrorCode), Details: r.Details.cleaned()}, nil
}

// isCode reports whether s can be a confirm code: what rand.Text gives.
func isCode(s string) bool {
	return len(s) == 26 && strings.Trim(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567") == ""
}
