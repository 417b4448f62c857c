package sandbox

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// FaultKind is what goes wrong.
type FaultKind string

// The kinds of fault. Those that replace the vendor's answer leave the request
// without effect, unless Fault.Applied is set; those that spoil the vendor's own
// answer come after the request had its effect.
const (
	// FaultLatency delays by LatencyMS and then lets the request go on; with
	// Applied the request takes effect first and only its answer is late.
	FaultLatency FaultKind = "latency"

	// FaultStatus answers with Status: the vendor's documented body for it, or Body.
	FaultStatus FaultKind = "status"
	Fault429    FaultKind = "429" // FaultStatus with that status, likewise the next four
	Fault500    FaultKind = "500"
	Fault502    FaultKind = "502"
	Fault503    FaultKind = "503"
	Fault504    FaultKind = "504"
	// FaultHTML answers with an HTML page, status 200 or Status.
	FaultHTML FaultKind = "html"
	// FaultNotJSON answers with text that is not JSON but says that it is, status 200 or Status.
	FaultNotJSON FaultKind = "not_json"
	// FaultHuge answers with a JSON array of about 64 MiB, or Size bytes, status 200 or Status.
	FaultHuge FaultKind = "huge"
	// FaultCut cuts the connection without an answer and without effect. A Go client
	// repeats a GET by itself when a kept-alive connection is cut: order it more
	// often than once.
	FaultCut FaultKind = "cut"

	// FaultLostAnswer applies the request, then cuts the connection without an answer.
	FaultLostAnswer FaultKind = "lost_answer"
	// FaultTruncate applies the request and sends half of its answer.
	FaultTruncate FaultKind = "truncate"
	// FaultEmpty applies the request and sends its status with an empty body.
	FaultEmpty FaultKind = "empty"
	// FaultWrongStatus applies the request and sends its answer with Status (500 when 0).
	FaultWrongStatus FaultKind = "wrong_status"
	// FaultSlow applies the request and sends its answer in eight parts over LatencyMS.
	FaultSlow FaultKind = "slow"

	// FaultLate is what a gateway does that gives up too early: it answers 504 at once,
	// or Status, and the request takes effect LatencyMS later. See Settle.
	FaultLate FaultKind = "late"
)

// Fault orders a fault for matching requests. An empty matcher matches all.
type Fault struct {
	ID     int    `json:"id"` // set by AddFault
	Vendor string `json:"vendor,omitempty"`
	Method string `json:"method,omitempty"`
	// PathPrefix and PathContains match the escaped path below the vendor's prefix,
	// such as /api/v2/tokens.
	PathPrefix   string    `json:"path_prefix,omitempty"`
	PathContains string    `json:"path_contains,omitempty"`
	Kind         FaultKind `json:"kind"`
	// Times is how often it applies; 0 means until cleared.
	Times int `json:"times,omitempty"`
	// After is how many matching requests go through first.
	After int `json:"after,omitempty"`
	// Chance is how likely it applies to a request that it could apply to, above 0 and
	// at most 1; 0 means always. The seed and the number of the matching request decide.
	Chance float64 `json:"chance,omitempty"`
	// Applied lets a fault that replaces the answer come after the effect.
	Applied bool `json:"applied,omitempty"`

	Status int `json:"status,omitempty"`
	// Body replaces the body; ContentType goes with it.
	Body        string `json:"body,omitempty"`
	ContentType string `json:"content_type,omitempty"`
	// NoBody sends a replaced answer without any body.
	NoBody bool `json:"no_body,omitempty"`
	// Header is added; a Location goes with a 3xx Status.
	Header map[string]string `json:"header,omitempty"`
	// RetryAfter is the Retry-After header: seconds or an HTTP date.
	RetryAfter string `json:"retry_after,omitempty"`
	// ResetMS is when the rate limit of a 429 ends, in ms from now; 1000 when 0.
	// It may be negative: a reset time in the past has been observed.
	ResetMS   int `json:"reset_ms,omitempty"`
	LatencyMS int `json:"latency_ms,omitempty"`
	Size      int `json:"size,omitempty"`

	// Seen and Fired count matching requests and applications.
	Seen  int `json:"seen"`
	Fired int `json:"fired"`
}

// acts tells whether the vendor handles the request before the fault applies.
func (f *Fault) acts() bool {
	switch f.Kind {
	case FaultLostAnswer, FaultTruncate, FaultEmpty, FaultWrongStatus, FaultSlow:
		return true
	default:
		return f.Applied
	}
}

func (f *Fault) check() error {
	kinds := []FaultKind{
		FaultLatency, FaultStatus, Fault429, Fault500, Fault502, Fault503, Fault504, FaultHTML,
		FaultNotJSON, FaultHuge, FaultCut, FaultLostAnswer, FaultTruncate, FaultEmpty, FaultWrongStatus, FaultSlow, FaultLate,
	}
	switch {
	case !slices.Contains(kinds, f.Kind):
		return fmt.Errorf("sandbox: fault kind %q: want one of %v", f.Kind, kinds)
	case f.Vendor != "" && !slices.Contains([]string{Atlassian, LaunchDarkly, Mailtrap}, f.Vendor):
		return fmt.Errorf("sandbox: fault: no vendor %q", f.Vendor)
	case f.Status != 0 && (f.Status < 200 || f.Status > 599):
		return fmt.Errorf("sandbox: fault: status %d: want 200 to 599", f.Status)
	case f.Kind == FaultStatus && f.Status == 0:
		return fmt.Errorf("sandbox: fault kind %q needs a status", f.Kind)
	case f.Times < 0 || f.After < 0 || f.LatencyMS < 0 || f.Size < 0:
		return fmt.Errorf("sandbox: fault: times, after, latency_ms and size must not be negative")
	case f.Chance < 0 || f.Chance > 1:
		return fmt.Errorf("sandbox: fault: chance %v: want 0 to 1", f.Chance)
	}
	return nil
}

func (f *Fault) matches(c *call) bool {
	return (f.Vendor == "" || f.Vendor == c.vendor) &&
		(f.Method == "" || strings.EqualFold(f.Method, c.method)) &&
		strings.HasPrefix(c.rawPath, f.PathPrefix) &&
		strings.Contains(c.rawPath, f.PathContains)
}

type faultList struct {
	seed   uint64
	mu     sync.Mutex
	lastID int
	faults []*Fault
}

// faultPlan is what the ordered faults do to one request: all latencies that
// match, and the first other fault.
type faultPlan struct {
	before, after time.Duration
	late          bool
	fault         *Fault
}

func (p *faultPlan) kind() string {
	switch {
	case p == nil:
		return ""
	case p.fault != nil:
		return string(p.fault.Kind)
	case p.late:
		return string(FaultLatency)
	default:
		return ""
	}
}

// delay is how long to wait before, or after, the request has its effect.
func (p *faultPlan) delay(after bool) time.Duration {
	if after {
		return p.after
	}
	return p.before
}

func (l *faultList) plan(c *call) *faultPlan {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := &faultPlan{}
	for _, f := range l.faults {
		if !f.matches(c) || (f.Kind != FaultLatency && p.fault != nil) {
			continue
		}
		f.Seen++
		if f.Seen <= f.After || (f.Times > 0 && f.Fired >= f.Times) || !f.strikes(l.seed) {
			continue
		}
		f.Fired++
		latency := time.Duration(f.LatencyMS) * time.Millisecond
		switch {
		case f.Kind != FaultLatency:
			own := *f
			p.fault = &own
			if f.Kind != FaultSlow && f.Kind != FaultLate {
				p.before += latency
			}
		case f.Applied:
			p.late, p.after = true, p.after+latency
		default:
			p.late, p.before = true, p.before+latency
		}
	}
	return p
}

// strikes decides by chance about the request that was seen last.
func (f *Fault) strikes(seed uint64) bool {
	dice := rand.New(rand.NewPCG(seed, uint64(f.ID)<<32|uint64(f.Seen))) //nolint:gosec // made-up data must be repeatable
	return f.Chance == 0 || dice.Float64() < f.Chance
}

// AddFault orders a fault and returns its id.
func (s *Sandbox) AddFault(f Fault) (int, error) {
	if err := f.check(); err != nil {
		return 0, err
	}
	l := &s.faults
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lastID++
	f.ID, f.Seen, f.Fired = l.lastID, 0, 0
	l.faults = append(l.faults, &f)
	return f.ID, nil
}

// Faults lists the ordered faults with their counts, spent ones included.
func (s *Sandbox) Faults() []Fault {
	s.faults.mu.Lock()
	defer s.faults.mu.Unlock()
	faults := make([]Fault, 0, len(s.faults.faults))
	for _, f := range s.faults.faults {
		faults = append(faults, *f)
	}
	return faults
}

// ClearFaults removes all faults.
func (s *Sandbox) ClearFaults() {
	s.faults.mu.Lock()
	defer s.faults.mu.Unlock()
	s.faults.faults = nil
}

// sleep waits; it reports false when ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return true
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// inject answers with the plan's fault. done is the vendor's own answer when the
// request already had its effect, else nil.
func (s *Sandbox) inject(w http.ResponseWriter, c *call, v vendor, plan *faultPlan, done *answer) {
	f := plan.fault
	switch f.Kind {
	case FaultCut, FaultLostAnswer:
		s.log.end(c, 0, plan.kind())
		cut(w)
		return
	case FaultTruncate:
		done.encode()
		s.log.end(c, done.status, plan.kind())
		done.truncate(w)
		return
	case FaultSlow:
		done.encode()
		s.log.end(c, done.status, plan.kind())
		done.drip(w, time.Duration(f.LatencyMS)*time.Millisecond)
		return
	}
	a := s.faultAnswer(c, v, f, done)
	for name, value := range f.Header {
		a.header.Set(name, value)
	}
	if f.RetryAfter != "" {
		a.header.Set("Retry-After", f.RetryAfter)
	}
	s.finish(w, c, &a, plan)
	if f.Kind == FaultLate {
		s.late.Go(func() {
			time.Sleep(time.Duration(f.LatencyMS) * time.Millisecond)
			v.serve(c)
		})
	}
}

// Settle waits, once no request comes any more, until those that FaultLate put off
// took effect.
func (s *Sandbox) Settle() { s.late.Wait() }

// faultAnswer is the whole answer of a fault that sends one.
func (s *Sandbox) faultAnswer(c *call, v vendor, f *Fault, done *answer) answer {
	var a answer
	switch f.Kind {
	case FaultEmpty:
		a = answer{status: done.status, header: done.header}
	case FaultWrongStatus:
		a = *done
		a.status = http.StatusInternalServerError
	case FaultHTML:
		a = reply(http.StatusOK, nil)
		a.raw = []byte("<!DOCTYPE html>\n<html><head><title>Please stand by</title></head><body>" +
			"<h1>We are checking your browser</h1>" + s.env.marker() + "</body></html>\n")
		a.header.Set("Content-Type", "text/html; charset=utf-8")
	case FaultNotJSON:
		a = reply(http.StatusOK, nil)
		a.raw = []byte("upstream said: {not json " + s.env.marker())
	case FaultHuge:
		a = reply(http.StatusOK, nil)
		a.raw = hugeBody(f.Size)
	case FaultStatus:
		a = s.faultRefusal(c, v, f, f.Status)
	case FaultLate:
		a = s.faultRefusal(c, v, f, http.StatusGatewayTimeout)
	default:
		status, _ := strconv.Atoi(string(f.Kind))
		a = s.faultRefusal(c, v, f, status)
	}
	if f.Status != 0 {
		a.status = f.Status
	}
	if f.Body != "" {
		a.raw = []byte(f.Body)
	}
	if f.NoBody {
		a.raw, a.value = nil, nil
	}
	if f.ContentType != "" {
		a.header.Set("Content-Type", f.ContentType)
	}
	return a
}

func (s *Sandbox) faultRefusal(c *call, v vendor, f *Fault, status int) answer {
	reset := f.ResetMS
	setDefault(&reset, 1000)
	return v.refusal(c, status, s.env.now()+int64(reset))
}

func hugeBody(size int) []byte {
	setDefault(&size, 64<<20)
	const row = `{"id":"filler","name":"filler"},`
	return []byte("[" + strings.Repeat(row, size/len(row)) + "{}]")
}

// cut closes the connection without a word.
func cut(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		// A wrapped or HTTP/2 writer: net/http's own way to abort a response.
		panic(http.ErrAbortHandler)
	}
	_ = conn.Close()
}

// truncate announces the whole body, sends half of it and closes the connection.
func (a *answer) truncate(w http.ResponseWriter) {
	whole := a.raw
	a.header.Set("Content-Length", strconv.Itoa(max(len(whole), 2)))
	for name, values := range a.header {
		w.Header()[name] = values
	}
	if a.status == http.StatusNoContent {
		a.status = http.StatusOK // a 204 has no body that could be cut
	}
	w.WriteHeader(a.status)
	_, _ = w.Write(whole[:len(whole)/2])
	_ = http.NewResponseController(w).Flush()
	cut(w)
}

// drip sends the body in eight parts spread over d.
func (a *answer) drip(w http.ResponseWriter, d time.Duration) {
	for name, values := range a.header {
		w.Header()[name] = values
	}
	w.WriteHeader(a.status)
	control := http.NewResponseController(w)
	size := len(a.raw)/8 + 1
	for part := range slices.Chunk(a.raw, size) {
		time.Sleep(d / 8)
		if _, err := w.Write(part); err != nil {
			return
		}
		_ = control.Flush()
	}
}
