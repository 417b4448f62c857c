package telemetry

import (
	"slices"
	"strings"
	"sync"
	"time"
)

// Kind is how a metric behaves.
type Kind string

// The kinds, as Prometheus calls them.
const (
	Counter   Kind = "counter"
	Gauge     Kind = "gauge"
	Histogram Kind = "histogram"
)

// Family is a metric with all its series.
type Family struct {
	Name   string // as Prometheus names it
	Kind   Kind
	Labels []string
	Help   string
}

// Reading is what the series of a family show.
type Reading struct {
	Family
	Samples []Sample
}

// Sample is what one series shows.
type Sample struct {
	Labels []string // values, in the order of the family's
	Value  float64  // of a histogram the sum
	Counts []uint64 // of a histogram: in each bucket, and last beyond all of them
}

// bounds are the upper bounds of the buckets of all histograms, in seconds: from a call that asks nobody
// to one that waits for a person.
func bounds() []float64 { return []float64{0.005, 0.025, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 120} }

// maxSeries caps the series of a family. Every label's value comes from a short list, so that the cap is
// never met; if one ever did not, what is beyond would count as "other" and take no memory.
const maxSeries = 2000

const other = "other"

// table holds the series of a family.
type table struct {
	family Family
	bounds []float64 // of a histogram

	mu   sync.Mutex
	rows map[string]*row
}

type row struct {
	Sample
	until time.Time // from when on it says nothing any more; zero: never
}

func newTable(f Family) *table {
	t := &table{family: f, rows: map[string]*row{}}
	if f.Kind == Histogram {
		t.bounds = bounds()
	}
	return t
}

// row returns the row of the labels' values. The caller holds the lock.
func (t *table) row(values []string) *row {
	key := strings.Join(values, "\xff")
	if r, ok := t.rows[key]; ok {
		return r
	}
	if len(t.rows) >= maxSeries {
		values = slices.Repeat([]string{other}, len(values))
		key = strings.Join(values, "\xff")
	}
	r, ok := t.rows[key]
	if !ok {
		r = &row{Sample: Sample{Labels: slices.Clone(values)}}
		if t.bounds != nil {
			r.Counts = make([]uint64, len(t.bounds)+1)
		}
		t.rows[key] = r
	}
	return r
}

func (t *table) add(by float64, values ...string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.row(values).Value += by
}

func (t *table) setUntil(value float64, until time.Time, values ...string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	r := t.row(values)
	r.Value, r.until = value, until
}

func (t *table) observe(value float64, values ...string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	r := t.row(values)
	r.Value += value
	i, _ := slices.BinarySearch(t.bounds, value)
	r.Counts[i]++
}

// read returns what the series show now, sorted by the values of their labels.
func (t *table) read(now time.Time) Reading {
	t.mu.Lock()
	defer t.mu.Unlock()
	reading := Reading{Family: t.family}
	for _, r := range t.rows {
		if !r.until.IsZero() && !now.Before(r.until) {
			continue
		}
		s := r.Sample
		s.Counts = slices.Clone(s.Counts)
		reading.Samples = append(reading.Samples, s)
	}
	slices.SortFunc(reading.Samples, func(a, b Sample) int { return slices.Compare(a.Labels, b.Labels) })
	return reading
}
