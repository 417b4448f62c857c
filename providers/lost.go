package providers

import "errors"

// Lost is what could be found out of a change whose answer was lost.
type Lost struct {
	Happened Happened
	// Orphans are tokens that the change made, with a secret that nobody has. More
	// than one: it could not be told which of them.
	Orphans []Token
	OldEnds Date   // of the replaced secret, where it shows
	Next    string // one or two sentences: what to do
}

// Happened says whether a change took place whose answer was lost.
type Happened string

// The answers. HappenedNo is proved; where in doubt it is HappenedUnknown.
const (
	HappenedYes     Happened = "yes"
	HappenedNo      Happened = "no"
	HappenedUnknown Happened = "unknown"
)

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
