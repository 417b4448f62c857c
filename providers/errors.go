package providers

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/tokenreeve/tokenreeve/internal/sanitize"
)

// Code is a stable word for what went wrong at or before a vendor.
type Code string

// The codes of vendor calls.
const (
	CodeInvalidArgument    Code = "invalid_argument"     // refused here, nothing was sent
	CodeCredential         Code = "credential_missing"   // the credential's source gave none
	CodeCredentialRejected Code = "credential_rejected"  // 401
	CodeForbidden          Code = "forbidden"            // 403
	CodeNotFound           Code = "not_found"            // 404, or absent from a complete list
	CodeOwnerUnknown       Code = "owner_unknown"        // the vendor knows no such owner, which proves nothing of a token
	CodeConflict           Code = "conflict"             // 409
	CodeRejected           Code = "vendor_rejected"      // 400, 405, 422 and other refusals
	CodeRateLimited        Code = "rate_limited"         // 429, or the budget is used up
	CodeUnavailable        Code = "vendor_unavailable"   // 5xx, or no connection
	CodeTimeout            Code = "vendor_timeout"       // no answer in time
	CodeBadAnswer          Code = "bad_vendor_answer"    // not the JSON that was due
	CodeOutcomeUnknown     Code = "outcome_unknown"      // a change was sent, its answer was lost
	CodeRefused            Code = "refused"              // cannot be done to this token
	CodeNotOffered         Code = "not_offered"          // the vendor has no such operation
	CodeCancelled          Code = "cancelled"            // the caller gave up
	CodeVendorProtocol     Code = "vendor_contradiction" // a record whose id is not the one asked for, a repeated cursor
)

// Error is a failed call. Its text never holds a response body: Message is at
// most the vendor's own error message, cleaned and bounded.
type Error struct {
	Provider   string // "atlassian", …
	Code       Code
	Status     int           // HTTP status, 0 where there was no answer
	VendorCode string        // the vendor's word, cleaned
	Message    string        // one sentence
	Next       string        // what to do, empty where the code says it
	RequestID  string        // the vendor's, for its support
	RetryAfter time.Duration // 0 where unknown
	Lost       *Lost         // of a change whose answer was lost, where something was looked for
	Err        error         // cause, may be nil
}

// Error returns the provider's name, the message, and the vendor's code and status.
func (e *Error) Error() string {
	s := e.Provider + ": " + e.Message
	switch {
	case e.Status != 0 && isWord(e.VendorCode):
		s += fmt.Sprintf(" (HTTP %d, %s)", e.Status, e.VendorCode)
	case e.Status != 0 && e.VendorCode != "": // a sentence, in the place of a code
		s += fmt.Sprintf(" (HTTP %d, %s)", e.Status, sanitize.Quote(e.VendorCode))
	case e.Status != 0:
		s += fmt.Sprintf(" (HTTP %d)", e.Status)
	}
	return s
}

// isWord reports whether a vendor's code is a word, as codes are.
func isWord(code string) bool { return code != "" && len(code) <= 64 && !strings.Contains(code, " ") }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// CodeOf returns the code of the first Error in err's chain, or "" where there is none.
func CodeOf(err error) Code {
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}
