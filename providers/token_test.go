package providers_test

import (
	"testing"
	"time"

	"github.com/tokenreeve/tokenreeve/providers"
)

// The moments of these tests.
var (
	now       = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	yesterday = now.AddDate(0, 0, -1)
	lastYear  = now.AddDate(-1, 0, 0)
	tomorrow  = now.AddDate(0, 0, 1)
	nextYear  = now.AddDate(1, 0, 0)
)

func TestDate(t *testing.T) {
	t.Parallel()
	east := time.FixedZone("east", 5*3600)
	for name, test := range map[string]struct {
		date                    providers.Date
		text                    string
		isTime, isNever, isNone bool
	}{
		"zero":             {providers.Date{}, "unknown", false, false, true},
		"of the zero time": {providers.At(time.Time{}), "unknown", false, false, true},
		"never":            {providers.Never(), "never", false, true, false},
		"moment":           {providers.At(now), "2026-11-22T12:00:00Z", true, false, false},
		"other zone":       {providers.At(now.In(east)), "2026-11-22T12:00:00Z", true, false, false},
		"within a second":  {providers.At(now.Add(999 * time.Millisecond)), "2026-11-22T12:00:00Z", true, false, false},
		"epoch":            {providers.At(time.Unix(0, 0)), "1970-01-01T00:00:00Z", true, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			at, isTime := test.date.Time()
			if isTime != test.isTime || test.date.IsNever() != test.isNever || test.date.IsUnknown() != test.isNone {
				t.Errorf("time %v, never %v, unknown %v, want %v, %v, %v", isTime, test.date.IsNever(), test.date.IsUnknown(), test.isTime, test.isNever, test.isNone)
			}
			if isTime && at.Location() != time.UTC {
				t.Errorf("the moment is in %v, want UTC", at.Location())
			}
			if got := test.date.String(); got != test.text {
				t.Errorf("text %q, want %q", got, test.text)
			}
		})
	}
}

func TestDateEqual(t *testing.T) {
	t.Parallel()
	dates := []providers.Date{{}, providers.Never(), providers.At(now), providers.At(now.Add(time.Nanosecond)), providers.At(yesterday)}
	for i, a := range dates {
		for j, b := range dates {
			if got, want := a.Equal(b), i == j; got != want {
				t.Errorf("%v equal to %v: %v, want %v", a, b, got, want)
			}
		}
	}
	if !providers.At(now).Equal(providers.At(now.In(time.FixedZone("west", -3600)))) {
		t.Error("the same moment in two zones is not equal")
	}
}
