package tools_test

import (
	"math"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/tokenreeve/tokenreeve/internal/sandbox"
)

// dateArguments are the arguments that take dates or ages, and what they mean.
func dateArguments(now time.Time) map[string]func(string) predicate {
	at := func(text string) (time.Time, bool) {
		for _, layout := range []string{time.RFC3339, time.DateOnly} {
			if moment, err := time.Parse(layout, text); err == nil {
				return moment, true
			}
		}
		age, ok := ageOf(text)
		return now.Add(-age), ok
	}
	return map[string]func(string) predicate{
		"created_after": func(text string) predicate {
			moment, ok := at(text)
			return when(ok, createdWithin(moment, time.Time{}))
		},
		"created_before": func(text string) predicate {
			moment, ok := at(text)
			return when(ok, func(f fact) verdict { return decided(f.created.at.Before(moment)) })
		},
		"unused_for": func(text string) predicate {
			age, ok := ageOf(text)
			if text == "never" {
				return neverUsed
			}
			return when(ok, unusedSince(now.Add(-age)))
		},
		"expires_within": func(text string) predicate {
			_, ok := ageOf(text)
			if text == "never" {
				return neverEnds
			}
			return when(ok, func(fact) verdict { return no }) // nothing ends at LaunchDarkly
		},
	}
}

func when(ok bool, p predicate) predicate {
	if !ok {
		return nil
	}
	return p
}

// ageOf reads an age such as 90d.
func ageOf(text string) (time.Duration, bool) {
	parts := regexp.MustCompile(`^(\d{1,6})(min|h|d|w|y)$`).FindStringSubmatch(text)
	if parts == nil {
		return 0, false
	}
	hours := map[string]float64{"min": 1.0 / 60, "h": 1, "d": 24, "w": 7 * 24, "y": 365 * 24}[parts[2]]
	n, _ := strconv.ParseFloat(parts[1], 64)
	age := n * hours * float64(time.Hour)
	return time.Duration(age), age < math.MaxInt64
}

// FuzzDates gives anything for a date: it is refused and nothing sent, or it
// selects the tokens that it names.
func FuzzDates(f *testing.F) {
	for _, seed := range []string{
		"", "never", "Never", "90d", "0d", "1min", "12h", "2w", "1y", "292y", "293y", "999999y", "999999min", "1000000d", "-5d", "+5d", "5 d", "5D", "5m", "3mo",
		"2026-01-31", "2026-02-30", "2026-1-1", "2026-01-31T09:00:00Z", "2026-01-31T09:00:00+02:00", "2026-01-31T09:00:00.123456789Z", "2026-01-31T24:00:00Z",
		"2026-01-31t09:00:00z", "2026-01-31 09:00:00", "2026-01-31T09:00", "0001-01-01", "0001-01-01T00:00:00Z", "0000-01-01", "9999-12-31", "1969-12-31T23:59:59-23:59",
		"1790000000", "yesterday", "now", "１２h", "９0d", "90d\n", " 90d", "90\u200bd", "P90D", "1e3d", "NaN", "90dd", "٩d",
	} {
		f.Add(seed)
	}
	h := start(f, setup{box: sandbox.Options{LaunchDarklyTokens: new(40)}, connections: oneOfEach()[1:2]})
	h.call("list_tokens", nil).ok()
	facts := h.launchDarklyFacts()
	arguments := dateArguments(h.clock.Now())
	f.Fuzz(func(t *testing.T, text string) {
		h := h.on(t)
		for argument, meaning := range arguments {
			h.forget()
			r := h.call("count_tokens", args{argument: text})
			means := meaning(text)
			if means == nil {
				if !r.isError || r.problem.Code != "invalid_date" && text != "" || len(h.box.Requests()) > 0 {
					t.Errorf("%s %q is answered by %s", argument, text, r.text)
				}
				continue
			}
			want, _ := matching(facts, means)
			if got := as[counted](r); got.Total != len(want) {
				t.Errorf("%s %q counts %d, want %d", argument, text, got.Total, len(want))
			}
		}
	})
}
