package sandbox

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// maxBody is the most that a request body may hold, in bytes.
const maxBody = 1 << 20

// call is one request to a vendor, read whole.
type call struct {
	vendor   string
	method   string
	rawPath  string   // as sent, below the vendor's prefix
	path     []string // unescaped, "." and ".." and empty segments resolved
	rawQuery string
	query    url.Values
	header   http.Header
	body     []byte
	base     string // scheme, host and prefix of the vendor
	seq      uint64
	start    time.Time

	// Set by the vendor while it authenticates, for the record.
	authKind   string // "none", "bearer", "raw", "basic", "api-token"
	credential string // which credential it was; "unknown" for a wrong one
	caller     string // the id of the token behind it, where a handler needs it
}

func newCall(r *http.Request, name, rawPath string, body []byte) *call {
	query, _ := url.ParseQuery(r.URL.RawQuery) // what does parse counts, as at the vendors
	c := &call{
		vendor: name, method: r.Method, rawPath: rawPath, path: resolve(rawPath),
		rawQuery: r.URL.RawQuery, query: query, header: r.Header, body: body,
		base: "http://" + r.Host + "/" + name,
	}
	c.authKind = authKind(r.Header)
	return c
}

// resolve splits an escaped path into segments the way common gateways do:
// empty and "." segments vanish, ".." takes the one before with it.
func resolve(rawPath string) []string {
	segments := make([]string, 0, 8)
	for part := range strings.SplitSeq(rawPath, "/") {
		if text, err := url.PathUnescape(part); err == nil {
			part = text
		}
		switch part {
		case "", ".":
		case "..":
			segments = segments[:max(len(segments)-1, 0)]
		default:
			segments = append(segments, part)
		}
	}
	return segments
}

func authKind(h http.Header) string {
	value := h.Get("Authorization")
	scheme, _, hasScheme := strings.Cut(value, " ")
	switch {
	case value == "" && h.Get("Api-Token") != "":
		return "api-token"
	case value == "":
		return "none"
	case hasScheme && strings.EqualFold(scheme, "Bearer"):
		return "bearer"
	case hasScheme && strings.EqualFold(scheme, "Basic"):
		return "basic"
	default:
		return "raw"
	}
}

// bearer is the credential behind the word Bearer, or "".
func (c *call) bearer() string {
	if c.authKind != "bearer" {
		return ""
	}
	_, secret, _ := strings.Cut(c.header.Get("Authorization"), " ")
	return strings.TrimSpace(secret)
}

// isJSON tells whether the request says that its body is JSON.
func (c *call) isJSON() bool {
	kind, _, err := mime.ParseMediaType(c.header.Get("Content-Type"))
	return err == nil && kind == "application/json"
}

// answer is a vendor's answer before it is sent. The zero value of value and raw
// is an empty body.
type answer struct {
	status int
	header http.Header
	value  any    // the body, encoded as JSON
	raw    []byte // the body as it is; wins over value
}

// reply is an answer with a JSON body; value nil means none.
func reply(status int, value any) answer {
	return answer{status: status, header: http.Header{}, value: value}
}

// encode turns value into raw, outside of any lock. What cannot be encoded is a
// mistake of the sandbox and becomes a plain 500.
func (a *answer) encode() {
	if a.header == nil {
		a.header = http.Header{}
	}
	if a.raw == nil && a.value != nil {
		var body bytes.Buffer
		encoder := json.NewEncoder(&body)
		encoder.SetEscapeHTML(false)
		if err := encoder.Encode(a.value); err != nil {
			a.status = http.StatusInternalServerError
			body.Reset()
			body.WriteString(`"sandbox: answer cannot be encoded"`)
		}
		a.raw = bytes.TrimSuffix(body.Bytes(), []byte("\n"))
	}
	if len(a.raw) > 0 && a.header.Get("Content-Type") == "" {
		a.header.Set("Content-Type", "application/json")
	}
}

// write sends the answer. A client that hung up is no error of ours.
func (a *answer) write(w http.ResponseWriter) {
	for name, values := range a.header {
		w.Header()[name] = values
	}
	if a.status != http.StatusNoContent {
		w.Header().Set("Content-Length", strconv.Itoa(len(a.raw)))
	}
	w.WriteHeader(a.status)
	_, _ = w.Write(a.raw)
}

// serveVendor runs one call through recording, latency, faults and the vendor.
func (s *Sandbox) serveVendor(w http.ResponseWriter, r *http.Request, name, rawPath string, v vendor) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	c := newCall(r, name, rawPath, body)
	c.seq, c.start = s.log.begin()
	if err != nil {
		status := http.StatusBadRequest
		if tooLarge := new(http.MaxBytesError); errors.As(err, &tooLarge) {
			status = http.StatusRequestEntityTooLarge
		}
		a := v.refusal(c, status, 0)
		s.finish(w, c, &a, nil)
		return
	}
	plan := s.faults.plan(c)
	if !sleep(r.Context(), s.options.Latency+plan.delay(false)) {
		s.log.end(c, 0, plan.kind())
		return
	}
	if plan.fault != nil && !plan.fault.acts() {
		s.inject(w, c, v, plan, nil)
		return
	}
	if c.authKind != "none" {
		c.credential = "unknown" // until the vendor knows it
	}
	a := v.serve(c)
	if !sleep(r.Context(), plan.delay(true)) {
		s.log.end(c, 0, plan.kind())
		return
	}
	if plan.fault != nil {
		s.inject(w, c, v, plan, &a)
		return
	}
	s.finish(w, c, &a, plan)
}

// finish records the call and then sends the answer, so that whoever has the
// answer can read the record.
func (s *Sandbox) finish(w http.ResponseWriter, c *call, a *answer, plan *faultPlan) {
	a.encode()
	if marker := s.env.marker(); marker != "" {
		a.header.Set("X-Sandbox-Canary", headerSafe(marker))
	}
	if a.header.Get("Date") == "" {
		// By the clock that the dates of the records come from.
		a.header.Set("Date", time.UnixMilli(s.env.now()).UTC().Format(http.TimeFormat))
	}
	s.log.end(c, a.status, plan.kind())
	a.write(w)
}

func headerSafe(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, text)
}

// route is one endpoint: a method and a path in which "*" is any one segment.
type route struct {
	method  string
	pattern []string
	scope   string // what the endpoint needs; each vendor reads it its own way
	handle  func(c *call, args []string) answer
}

func newRoute(method, pattern, scope string, handle func(*call, []string) answer) route {
	return route{method: method, pattern: resolve(pattern), scope: scope, handle: handle}
}

// find is the route of a method and path with the segments behind its "*". With
// no route, allow holds the methods that the path does have.
func find(routes []route, method string, path []string) (found *route, args, allow []string) {
	for i := range routes {
		matched, ok := match(routes[i].pattern, path)
		switch {
		case !ok:
		case routes[i].method == method:
			return &routes[i], matched, nil
		case !slices.Contains(allow, routes[i].method):
			allow = append(allow, routes[i].method)
		}
	}
	return nil, nil, allow
}

func match(pattern, path []string) ([]string, bool) {
	if len(pattern) != len(path) {
		return nil, false
	}
	var args []string
	for i, want := range pattern {
		if want == "*" {
			args = append(args, path[i])
		} else if want != path[i] {
			return nil, false
		}
	}
	return args, true
}

// decode reads a JSON body whole: one value and nothing behind it.
func decode(body []byte, into any) error {
	decoder := json.NewDecoder(bytes.NewReader(body))
	if err := decoder.Decode(into); err != nil {
		return err
	}
	if decoder.More() {
		return errors.New("more than one JSON value")
	}
	return nil
}

// isoMillis is a date the way Atlassian and Mailtrap write it.
func isoMillis(ms int64) string {
	return time.UnixMilli(ms).UTC().Format("2006-01-02T15:04:05.000Z")
}

// toTime and toMillis convert between dates of the exported types and Unix
// milliseconds; 0 and the zero time both mean that there is no date.
func toTime(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}

func toMillis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}
