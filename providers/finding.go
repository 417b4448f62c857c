package providers

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Severity judges a finding.
type Severity string

// The severities.
const (
	Fine    Severity = "ok"
	Warning Severity = "warning" // it works, but not in all respects, or not for long
	Trouble Severity = "problem" // it does not work
)

// ExpiresSoon is how long before its end a credential or certificate is worth a warning.
const ExpiresSoon = 14 * 24 * time.Hour

// Finding is something that was found out about a connection, in a sentence for who operates the
// server. What it quotes of the vendor is cleaned; it holds nothing of a credential.
type Finding struct {
	Setting string // the connection's, such as "credential"
	Verdict Severity
	Found   string
	Next    string // what to do, empty where nothing is
}

// Examiner finds out what a connection's credentials are.
type Examiner interface {
	// Examine asks the vendor, by the cheapest reads, what kind of credentials the connection has and
	// what they may do. changes says that tokens are to be changed: then it is worth a warning that a
	// credential may only read. What could not be found out is a finding too.
	Examine(ctx context.Context, changes bool) []Finding
}

// SettingCredential is the setting of a connection's credential, as findings name it.
const SettingCredential = "credential"

// AllRight is the finding that nothing is wrong with the setting.
func AllRight(setting, format string, args ...any) Finding {
	return Finding{Setting: setting, Verdict: Fine, Found: fmt.Sprintf(format, args...)}
}

// Unanswered is the finding that a question about the setting failed.
func Unanswered(setting string, err error) Finding {
	f := Finding{Setting: setting, Verdict: Trouble, Found: err.Error()}
	if e := (*Error)(nil); errors.As(err, &e) {
		f.Next = forOperator(e.Next)
		if e.Code == CodeRateLimited {
			f.Verdict = Warning
		}
	}
	return f
}

// forOperator turns a step that was written for a caller to the operator, who reads it here.
func forOperator(next string) string {
	if step, ok := strings.CutPrefix(next, "ask the operator to "); ok {
		return step
	}
	if thing, ok := strings.CutPrefix(next, "ask the operator for "); ok {
		return "use " + thing
	}
	return next
}

// Ending is the finding of when a credential expires.
func Ending(setting string, end Date, now time.Time) Finding {
	f := Finding{Setting: setting, Verdict: Fine}
	at, ok := end.Time()
	switch {
	case end.IsNever():
		f.Found = "it does not expire"
	case !ok:
		f.Found = "the vendor does not tell when it expires"
	case !at.After(now):
		f.Verdict, f.Found, f.Next = Trouble, fmt.Sprintf("it expired on %s", at.Format(time.DateOnly)), nextRenew
	case at.Before(now.Add(ExpiresSoon)):
		f.Verdict, f.Found, f.Next = Warning, "it expires "+InDays(at, now), nextRenew
	default:
		f.Found = "it expires " + InDays(at, now)
	}
	return f
}

// InDays says when something ends: "on 2026-12-31, in 20 days".
func InDays(end, now time.Time) string {
	return fmt.Sprintf("on %s, in %d days", end.UTC().Format(time.DateOnly), int(end.Sub(now)/(24*time.Hour)))
}

const nextRenew = "make a new one and put it where the connection's credential is read from"
