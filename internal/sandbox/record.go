package sandbox

import (
	"cmp"
	"slices"
	"sync"
	"time"
)

// Request is one recorded request to a vendor. It holds no secret.
type Request struct {
	Seq    uint64 `json:"seq"` // in the order of arrival
	Vendor string `json:"vendor"`
	Method string `json:"method"`
	// Path is as sent, escaped, below the vendor's prefix; Query is as sent.
	Path  string `json:"path"`
	Query string `json:"query,omitempty"`
	// Header holds the headers that matter, but never Authorization or Api-Token.
	Header map[string]string `json:"header"`
	// Auth is "none", "bearer", "raw", "basic" or "api-token".
	Auth string `json:"auth"`
	// Credential is the name of the credential in Access ("credential", "reader_credential", …),
	// "token:ID" for another token, "unknown" for a wrong one, "" when a fault kept it from being looked at.
	Credential string `json:"credential,omitempty"`
	Body       string `json:"body,omitempty"`
	// Status is what was answered, 0 when the connection was cut.
	Status int `json:"status"`
	// Fault is the kind of fault that applied, if any.
	Fault    string        `json:"fault,omitempty"`
	Time     time.Time     `json:"time"`
	Duration time.Duration `json:"duration_ns"`
}

// requestLog is a ring of the latest requests. Its clock is the real one.
type requestLog struct {
	mu   sync.Mutex
	seq  uint64
	ring []Request
	next int
	full bool
}

func newRequestLog(size int) *requestLog { return &requestLog{ring: make([]Request, size)} }

func (l *requestLog) begin() (uint64, time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.seq++
	return l.seq, time.Now()
}

// recordedHeaders are the headers worth keeping; credentials are not among them.
func recordedHeaders() []string {
	return []string{
		"Accept", "Accept-Encoding", "Content-Type", "Content-Length", "User-Agent", "Ld-Api-Version",
		"If-None-Match", "Idempotency-Key", "Traceparent", "X-Request-Id",
	}
}

func (l *requestLog) end(c *call, status int, fault string) {
	header := make(map[string]string, 4)
	for _, name := range recordedHeaders() {
		if value := c.header.Get(name); value != "" {
			header[name] = value
		}
	}
	r := Request{
		Seq: c.seq, Vendor: c.vendor, Method: c.method, Path: c.rawPath, Query: c.rawQuery, Header: header,
		Auth: c.authKind, Credential: c.credential, Body: string(c.body), Status: status, Fault: fault,
		Time: c.start, Duration: time.Since(c.start),
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ring[l.next] = r
	l.next = (l.next + 1) % len(l.ring)
	l.full = l.full || l.next == 0
}

// Requests lists the recorded requests to all vendors in the order of arrival:
// the latest Options.RequestLog of them. Control requests are not recorded.
func (s *Sandbox) Requests() []Request {
	l := s.log
	l.mu.Lock()
	defer l.mu.Unlock()
	size := l.next
	if l.full {
		size = len(l.ring)
	}
	requests := slices.Clone(l.ring[:size])
	slices.SortFunc(requests, func(a, b Request) int { return cmp.Compare(a.Seq, b.Seq) })
	return requests
}

// ClearRequests forgets the recorded requests.
func (s *Sandbox) ClearRequests() {
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	clear(s.log.ring)
	s.log.next, s.log.full = 0, false
}
