package ledger

import (
	"errors"
	"fmt"
	"time"
)

// The errors that callers tell apart. What is returned wraps one of them and says what to do.
var (
	// ErrUnavailable: the ledger cannot be read or written. A change must not be sent then.
	ErrUnavailable = errors.New("the ledger cannot be used")
	// ErrInvalid: the caller gave what the ledger does not take. It is a mistake in the program, or
	// in what the user typed.
	ErrInvalid = errors.New("not for the ledger")
	// ErrNotFound: there is no such operation or preview.
	ErrNotFound = errors.New("not found")
	// ErrChangeInProgress: another operation has the token; see [ChangeInProgressError].
	ErrChangeInProgress = errors.New("change in progress")
	// ErrLimit: a limit is reached; see [LimitError].
	ErrLimit = errors.New("limit reached")
	// ErrLeaseLost: another process has claimed the operation. What was to be recorded is on record
	// as late; the holder must stop.
	ErrLeaseLost = errors.New("operation claimed by another process")
	// ErrFinished: the operation has its outcome already.
	ErrFinished = errors.New("operation finished")
	// ErrHeld: the operation belongs to a process that is alive.
	ErrHeld = errors.New("operation in progress")
	// ErrPreviewOver: the preview cannot be approved or declined any more.
	ErrPreviewOver = errors.New("preview over")
	// ErrMayBeMade: another operation may have got the secret of the token; that is not on record yet.
	ErrMayBeMade = errors.New("another operation may have made the token")
	// ErrFormSpent: the form was used, has expired, or is of another preview or another person.
	ErrFormSpent = errors.New("form spent")
)

// ChangeInProgressError says which operation has the token. It wraps [ErrChangeInProgress].
type ChangeInProgressError struct {
	Operation string // the other operation's id
	Token     string
	// Abandoned: the process that began it is gone; the operation waits for a claim.
	Abandoned bool
}

func (e *ChangeInProgressError) Error() string {
	if e.Abandoned {
		return fmt.Sprintf("token %s has an unfinished change: operation %s was cut off; find out how it ended before the next change", e.Token, e.Operation)
	}
	return fmt.Sprintf("token %s is being changed by operation %s; wait until that has ended", e.Token, e.Operation)
}

// Unwrap returns [ErrChangeInProgress].
func (e *ChangeInProgressError) Unwrap() error { return ErrChangeInProgress }

// LimitError says which limit is reached. It wraps [ErrLimit].
type LimitError struct {
	Limit  Limit
	Found  int // what counts already
	Wanted int // what the refused operation would count
}

func (e *LimitError) Error() string {
	left, next := max(0, e.Limit.Most-e.Found), "wait, or have the limit raised"
	if left > 0 {
		next = "change fewer at once, " + next
	}
	return fmt.Sprintf("%d tokens were changed like this since %s, and at most %d are allowed: %d left, and this would change %d; %s",
		e.Found, e.Limit.Since.UTC().Format(time.RFC3339), e.Limit.Most, left, e.Wanted, next)
}

// Unwrap returns [ErrLimit].
func (e *LimitError) Unwrap() error { return ErrLimit }

func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrInvalid, fmt.Sprintf(format, args...))
}

func notFound(what, id string) error {
	return fmt.Errorf("%w: no %s %q; check the id", ErrNotFound, what, identity(id))
}
