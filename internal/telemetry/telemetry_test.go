package telemetry_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/tokenreeve/tokenreeve/internal/telemetry"
)

func newTelemetry() *telemetry.Telemetry {
	return telemetry.New("v1", slog.New(slog.DiscardHandler))
}

func family(t *testing.T, x *telemetry.Telemetry, name string) telemetry.Reading {
	t.Helper()
	for _, r := range x.Read(t.Context()) {
		if r.Name == name {
			return r
		}
	}
	t.Fatalf("no family %s", name)
	return telemetry.Reading{}
}

// However often somebody looks, the ledger is asked once in five seconds, and given up after two.
func TestStandingIsKept(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		x, asked, slow := newTelemetry(), 0, false
		x.Standing(func(ctx context.Context) (telemetry.Standing, error) {
			asked++
			if slow {
				<-ctx.Done()
				return telemetry.Standing{}, ctx.Err()
			}
			return telemetry.Standing{Escrowed: asked}, nil
		})
		look := func() int { return len(family(t, x, "tokenreeve_operations").Samples) }
		for range 100 {
			if look() != 4 {
				t.Error("states are missing")
			}
		}
		time.Sleep(5 * time.Second)
		look()
		if asked != 2 {
			t.Errorf("asked %d times", asked)
		}
		time.Sleep(5 * time.Second)
		slow = true
		began := time.Now()
		if look() != 0 || time.Since(began) != 2*time.Second {
			t.Errorf("a ledger that does not answer took %v", time.Since(began))
		}
		if look() != 0 || asked != 3 {
			t.Errorf("asked %d times", asked)
		}
	})
}

// A budget is told until its window ends.
func TestBudgetEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		x := newTelemetry()
		x.Vendor("v", "c").Budget("all", "", 10, 3, time.Now().Add(time.Minute))
		if got := family(t, x, "tokenreeve_vendor_budget_remaining").Samples; len(got) != 1 || got[0].Value != 3 {
			t.Errorf("remaining %v", got)
		}
		time.Sleep(time.Minute)
		if got := family(t, x, "tokenreeve_vendor_budget_remaining").Samples; len(got) != 0 {
			t.Errorf("after the window %v", got)
		}
	})
}

// Where a label takes any value after all, memory stays bounded, and the text is what Prometheus reads.
func TestSeriesAreCapped(t *testing.T) {
	t.Parallel()
	x := newTelemetry()
	for i := range 10_000 {
		x.Refused(fmt.Sprintf("\"\\\n\xff%d", i))
	}
	samples := family(t, x, "tokenreeve_authentications_refused_total").Samples
	total := 0.0
	for _, s := range samples {
		total += s.Value
	}
	if len(samples) != 2001 || total != 10_000 {
		t.Errorf("%d series that sum up to %v", len(samples), total)
	}
	var text strings.Builder
	if err := telemetry.WriteText(&text, x.Read(t.Context()), func(string) bool { return true }); err != nil {
		t.Fatal(err)
	}
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(text.String()))
	if err != nil || len(families["tokenreeve_authentications_refused_total"].GetMetric()) != 2001 {
		t.Errorf("%d series (%v)", len(families["tokenreeve_authentications_refused_total"].GetMetric()), err)
	}
}

// A histogram's buckets hold what is at most their bound.
func TestHistogram(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		x := newTelemetry()
		for _, took := range []time.Duration{time.Millisecond, 5 * time.Millisecond, time.Second, time.Hour} {
			_, call := x.BeginCall(t.Context(), "tool", "read", "local")
			time.Sleep(took)
			call.Ended(telemetry.OutcomeOK)
			call.End()
		}
		s := family(t, x, "tokenreeve_call_duration_seconds").Samples[0]
		if want := []uint64{2, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 1}; fmt.Sprint(s.Counts) != fmt.Sprint(want) {
			t.Errorf("counts %v, want %v", s.Counts, want)
		}
	})
}

// A caller that is not measured may be told of all the same.
func TestNoCall(t *testing.T) {
	t.Parallel()
	call := telemetry.CallFrom(t.Context())
	call.On("c", "p")
	call.Operation("o")
	call.Preview("p")
	call.Ended("ok")
	call.Failed("x")
	x := newTelemetry()
	x.Standing(func(context.Context) (telemetry.Standing, error) { return telemetry.Standing{}, errors.New("broken") })
	if got := family(t, x, "tokenreeve_operations").Samples; len(got) != 0 {
		t.Errorf("of a ledger that cannot be read: %v", got)
	}
}
