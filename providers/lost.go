package providers

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
)

// Lost is what could be found out of a change whose answer was lost.
type Lost struct {
	Happened Happened
	// Orphans are tokens that the change made, with a secret that nobody has. More
	// than one: it could not be told which of them.
	Orphans []Token
	// MayBeOthers: the change happened, and it is not known whether somebody has the orphans' secrets.
	MayBeOthers bool
	OldEnds     Date   // of the replaced secret, where it shows
	Next        string // one or two sentences: what to do
}

// Happened says whether a change took place whose answer was lost.
type Happened string

// The answers. HappenedNo is proved; where in doubt it is HappenedUnknown.
const (
	HappenedYes     Happened = "yes"
	HappenedNo      Happened = "no"
	HappenedUnknown Happened = "unknown"
)

// Orphan returns the one token that the change is known to have made, and that nobody has the secret of;
// false where that cannot be told.
func (l *Lost) Orphan() (Token, bool) {
	if l.Happened != HappenedYes || len(l.Orphans) != 1 || l.MayBeOthers {
		return Token{}, false
	}
	return l.Orphans[0], true
}

// LostOf returns what the first Error in err's chain tells of a lost answer, or
// nil where it tells nothing.
func LostOf(err error) *Lost {
	var e *Error
	if errors.As(err, &e) {
		return e.Lost
	}
	return nil
}

// WithLost puts what was found out into the first Error in err's chain, and its
// next step into Next. It returns err.
func WithLost(err error, lost Lost) error {
	var e *Error
	if errors.As(err, &e) {
		e.Lost, e.Next = &lost, lost.Next
	}
	return err
}

// VendorFailed reports whether the vendor itself answered that it failed, with a 500:
// then the request is not under way any more. A gateway's answer (502 to 504) says
// nothing of that.
func VendorFailed(err error) bool {
	var e *Error
	return errors.As(err, &e) && e.Status == http.StatusInternalServerError
}

// maxNamed is how many ids a next step names.
const maxNamed = 10

// NameOrphans writes the ids of tokens for a next step: ten, and how many more.
func NameOrphans(tokens []Token) string {
	ids := make([]string, 0, maxNamed)
	for _, t := range tokens[:min(len(tokens), maxNamed)] {
		ids = append(ids, t.ID)
	}
	list := strings.Join(ids, ", ")
	if more := len(tokens) - maxNamed; more > 0 {
		list += fmt.Sprintf(" and %d more", more)
	}
	return list
}
