package tools

import (
	"fmt"
	"math"
	"regexp"
	"strconv"
	"time"

	"github.com/tokenreeve/tokenreeve/providers"
)

// agePattern is a whole number and a unit. "m" is left out: minutes or months?
const agePattern = `^([0-9]{1,6})(min|h|d|w|y)$`

// parseAge reads an age such as 90d, 12h, 2w or 1y.
func parseAge(argument, text string) (time.Duration, error) {
	match := regexp.MustCompile(agePattern).FindStringSubmatch(text)
	if match == nil {
		return 0, &Problem{
			Code:    "invalid_date",
			Message: fmt.Sprintf("argument %s: %q is not an age", argument, clean(text)),
			Valid:   []string{"30min", "12h", "90d", "2w", "1y"},
		}
	}
	units := map[string]time.Duration{
		"min": time.Minute, "h": time.Hour, "d": 24 * time.Hour, "w": 7 * 24 * time.Hour, "y": 365 * 24 * time.Hour,
	}
	number, err := strconv.Atoi(match[1])
	unit := units[match[2]]
	if err != nil || number > int(math.MaxInt64/unit) {
		return 0, &Problem{Code: "invalid_date", Message: fmt.Sprintf("argument %s: %q is longer than 292 years", argument, clean(text))}
	}
	return time.Duration(number) * unit, nil
}

// parseDate reads an RFC 3339 date or time. The zero time, which elsewhere says
// that none was given, comes out a nanosecond later.
func parseDate(text string) (time.Time, bool) {
	for _, layout := range []string{time.RFC3339, time.DateOnly} {
		if t, err := time.Parse(layout, text); err == nil {
			if t.IsZero() {
				t = t.Add(1)
			}
			return t.UTC(), true
		}
	}
	return time.Time{}, false
}

// parseMoment reads an RFC 3339 date or time, or an age before now. A date is
// its first moment in UTC.
func parseMoment(argument, text string, now time.Time) (time.Time, error) {
	if t, ok := parseDate(text); ok {
		return t, nil
	}
	age, err := parseAge(argument, text)
	if err != nil {
		return time.Time{}, &Problem{
			Code:    "invalid_date",
			Message: fmt.Sprintf("argument %s: %q is no date, time or age", argument, clean(text)),
			Valid:   []string{"2026-01-31", "2026-01-31T09:00:00Z", "90d"},
		}
	}
	return now.Add(-age), nil
}

// parseBound reads an age or "never". ahead says that the age reaches into the
// future.
func parseBound(argument, text string, now time.Time, ahead bool) (providers.Bound, error) {
	switch {
	case text == "":
		return providers.Bound{}, nil
	case text == "never":
		return providers.Bound{Never: true}, nil
	}
	age, err := parseAge(argument, text)
	if err != nil {
		return providers.Bound{}, err
	}
	if ahead {
		return providers.Bound{At: now.Add(age)}, nil
	}
	return providers.Bound{At: now.Add(-age)}, nil
}

// parseEnd reads an RFC 3339 date or time, or an age from now on.
func parseEnd(argument, text string, now time.Time) (time.Time, error) {
	if t, ok := parseDate(text); ok {
		return t, nil
	}
	age, err := parseAge(argument, text)
	if err != nil {
		return time.Time{}, &Problem{
			Code:    "invalid_date",
			Message: fmt.Sprintf("argument %s: %q is no date, time or age", argument, clean(text)),
			Valid:   []string{"2027-01-31", "90d", "never"},
		}
	}
	return now.Add(age).Truncate(time.Second), nil
}
