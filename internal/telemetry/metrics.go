package telemetry

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"
)

// metrics are what is counted as it happens.
type metrics struct {
	calls, callTime, calling *table
	vendorTime, resends      *table
	budget, budgetLimit      *table
	requests, refused        *table
	began                    time.Time
}

func newMetrics() *metrics {
	labels := func(more ...string) []string { return append([]string{"provider", "connection"}, more...) }
	m := &metrics{
		began: time.Now(),
		calls: newTable(Family{
			"tokenreeve_calls_total", Counter,
			[]string{"tool", "class", "outcome", "code"},
			"Calls of tools. The outcome is ok, error, input_required or the status of a change's result; the code is that of an error.",
		}),
		callTime: newTable(Family{"tokenreeve_call_duration_seconds", Histogram, []string{"tool"}, "How long calls of tools took."}),
		calling:  newTable(Family{"tokenreeve_calls_in_flight", Gauge, nil, "Calls of tools under way."}),
		vendorTime: newTable(Family{
			"tokenreeve_vendor_request_duration_seconds", Histogram, labels("status"),
			"How long requests to vendors took, each attempt by itself, from sending to the end of the answer. The status is 2xx, 3xx, 4xx, 429, 5xx, or none where no whole answer came.",
		}),
		resends: newTable(Family{"tokenreeve_vendor_resends_total", Counter, labels(), "Requests to vendors that were sent again."}),
		budget: newTable(Family{
			"tokenreeve_vendor_budget_remaining", Gauge, labels("budget", "route"),
			"Requests that the vendor's rate limit leaves until its window ends, as the last answer told. Absent once the window has ended.",
		}),
		budgetLimit: newTable(Family{
			"tokenreeve_vendor_budget_limit", Gauge, labels("budget", "route"), "Requests that the vendor allows in that window, where it tells.",
		}),
		requests: newTable(Family{"tokenreeve_http_requests_total", Counter, []string{"method", "route", "status"}, "HTTP requests that were answered."}),
		refused: newTable(Family{
			"tokenreeve_authentications_refused_total", Counter,
			[]string{"reason"},
			"Callers who were not let in: no_token, refused, no_role, unavailable or throttled.",
		}),
	}
	m.calling.add(0)
	return m
}

func (m *metrics) tables() []*table {
	return []*table{m.calls, m.callTime, m.calling, m.vendorTime, m.resends, m.budget, m.budgetLimit, m.requests, m.refused}
}

// Standing is what waits for somebody, as the ledger has it.
type Standing struct {
	Open       int // begun and not ended
	Unfinished int // those of them whose process is gone
	Escrowed   int // whose secret waits in escrow
	Unknown    int // of which nobody knows whether the vendor did it
}

// sources are where the metrics come from that nobody counts as it happens: they are asked at each reading.
type sources struct {
	mu       sync.Mutex
	sessions func() map[string]int
	standing func(context.Context) (Standing, error)

	asking  sync.Mutex // held while the ledger is asked
	asked   time.Time
	last    Standing
	lastErr error
}

// Sessions makes the open sessions part of the metrics, by transport.
func (t *Telemetry) Sessions(count func() map[string]int) {
	t.sources.mu.Lock()
	defer t.sources.mu.Unlock()
	t.sources.sessions = count
}

// Standing makes what the ledger has part of the metrics.
func (t *Telemetry) Standing(read func(context.Context) (Standing, error)) {
	t.sources.mu.Lock()
	defer t.sources.mu.Unlock()
	t.sources.standing = read
}

// However often somebody looks, the ledger is asked once in standingAge, for at most standingTime.
const (
	standingAge  = 5 * time.Second
	standingTime = 2 * time.Second
)

var errNoStanding = errors.New("there is no ledger")

// current returns what the ledger had at most standingAge ago.
func (s *sources) current(ctx context.Context) (Standing, error) {
	s.mu.Lock()
	read := s.standing
	s.mu.Unlock()
	if read == nil {
		return Standing{}, errNoStanding
	}
	s.asking.Lock()
	defer s.asking.Unlock()
	if time.Since(s.asked) < standingAge {
		return s.last, s.lastErr
	}
	// Whoever asked first may go away: the answer is for all.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), standingTime)
	defer cancel()
	s.last, s.lastErr = read(ctx)
	s.asked = time.Now()
	return s.last, s.lastErr
}

// Read returns what all metrics show now. It asks the ledger at most every five seconds, for at most two.
func (t *Telemetry) Read(ctx context.Context) []Reading {
	now := time.Now()
	var all []Reading
	for _, table := range t.metrics.tables() {
		all = append(all, table.read(now))
	}
	all = append(all, t.sources.open(), t.standingNow(ctx))
	return append(all, t.process()...)
}

// Families lists all metrics, for documents.
func Families() []Family {
	var families []Family
	for _, r := range New("", slog.New(slog.DiscardHandler)).Read(context.Background()) {
		families = append(families, r.Family)
	}
	return families
}

// gauge returns a reading with one sample for each value.
func gauge(name, help string, label string, values map[string]float64) Reading {
	r := Reading{Family: Family{Name: name, Kind: Gauge, Labels: []string{label}, Help: help}}
	for _, key := range slices.Sorted(maps.Keys(values)) {
		r.Samples = append(r.Samples, Sample{Labels: []string{key}, Value: values[key]})
	}
	return r
}

func (s *sources) open() Reading {
	s.mu.Lock()
	count := s.sessions
	s.mu.Unlock()
	values := map[string]float64{}
	if count != nil {
		for transport, n := range count() {
			values[transport] = float64(n)
		}
	}
	return gauge("tokenreeve_sessions_open", "Sessions over HTTP that are open: sse, http.", "transport", values)
}

func (t *Telemetry) standingNow(ctx context.Context) Reading {
	values := map[string]float64{}
	switch standing, err := t.sources.current(ctx); {
	case err == nil:
		values = map[string]float64{
			"open": float64(standing.Open), "unfinished": float64(standing.Unfinished), "escrowed": float64(standing.Escrowed), "unknown": float64(standing.Unknown),
		}
	case !errors.Is(err, errNoStanding):
		t.log.Error("the ledger cannot be read", "error", err)
	}
	return gauge("tokenreeve_operations", "Operations on record that need somebody: open (under way), unfinished (of them, whose process is gone), escrowed "+
		"(whose secret waits in escrow), unknown (of which nobody knows whether the vendor did it). At most five seconds old; absent where the ledger cannot be read.", "state", values)
}
