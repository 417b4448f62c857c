// Package telemetry is what tokenreeve shows to those who run it: metrics, traces and a line in the log
// for each call of a tool. Calls and vendor requests are measured here once; the page at /metrics, the
// log and, in a binary with an exporter, OTLP show the same.
//
// The metrics are kept by a few lines of our own, since every start of stdio pays for what is linked. In
// turns with the bare server, spawn to tools/list took 8.9 ms without any library, 9.4 with
// VictoriaMetrics/metrics, 9.6 with OpenTelemetry's SDK, 10.0 with client_golang (and 2 MiB more) and
// 10.6 with the OTLP exporters (and 5.5 MiB more). So the exporters stand behind the build tag otel.
//
// Nothing that is seen here holds an argument, a token's name, a secret, a credential or a URL.
package telemetry

import (
	"cmp"
	"context"
	"log/slog"
	"math"
	"slices"
	"sync"
	"time"
)

// Telemetry measures. It is safe for concurrent use.
type Telemetry struct {
	version string
	log     *slog.Logger
	tracer  Tracer // nil: nothing is traced
	metrics *metrics
	sources sources
}

// New returns what measures, and writes a line to log for each call.
func New(version string, log *slog.Logger) *Telemetry {
	return &Telemetry{version: version, log: log, metrics: newMetrics()}
}

// Tracer begins spans.
type Tracer interface {
	// Start begins a span and returns a context that carries it. Its parent is the span in ctx; without
	// one, the first of Start.Parents that is a valid traceparent. It is linked to the other ones.
	Start(ctx context.Context, s Start) (context.Context, Span)
}

// Start is what is known of a span as it begins.
type Start struct {
	Name       string
	Client     bool // it asks another service; else it answers
	Parents    []string
	Attributes []slog.Attr
}

// Span is one piece of work.
type Span interface {
	// End ends the span. What failed is a code, empty where nothing did.
	End(failed string, attributes ...slog.Attr)
	// TraceID names the trace, in hexadecimal.
	TraceID() string
}

// Call is one call of a tool as it is seen from outside. The methods that tell of it may be called at any
// time until End, from any goroutine, and on nil.
type Call struct {
	telemetry *Telemetry
	began     time.Time
	span      Span
	tool      string
	class     string

	mu         sync.Mutex
	principal  string
	connection string
	provider   string
	operation  string
	preview    string
	outcome    string
	code       string
}

// The outcomes of calls that change nothing. A change has the status of its result.
const (
	OutcomeOK    = "ok"
	OutcomeError = "error"
	// OutcomeAsked is the outcome of a call that answers with a question to the user.
	OutcomeAsked = "input_required"
)

type callKey struct{}

// BeginCall counts a call that begins, and returns a context that carries it. tool and class are one of
// ours, whatever the caller asked for. Of parents, the first valid traceparent is the parent.
func (t *Telemetry) BeginCall(ctx context.Context, tool, class, principal string, parents ...string) (context.Context, *Call) {
	c := &Call{telemetry: t, began: time.Now(), tool: tool, class: class, principal: principal}
	t.metrics.calling.add(1)
	if t.tracer != nil {
		ctx, c.span = t.tracer.Start(ctx, Start{
			Name: "tools/call " + tool, Parents: parents,
			Attributes: []slog.Attr{
				slog.String("mcp.method.name", "tools/call"), slog.String("gen_ai.operation.name", "execute_tool"), slog.String("gen_ai.tool.name", tool),
				slog.String("tokenreeve.class", class), slog.String("tokenreeve.principal", principal),
			},
		})
	}
	return context.WithValue(ctx, callKey{}, c), c
}

// CallFrom returns the call that ctx carries, nil where there is none.
func CallFrom(ctx context.Context) *Call {
	c, _ := ctx.Value(callKey{}).(*Call)
	return c
}

// On tells on which connection the call works.
func (c *Call) On(connection, provider string) {
	c.note(func() { c.connection, c.provider = connection, provider })
}

// Operation tells which operation the call put on record. Of several, the first counts: the others are
// part of it.
func (c *Call) Operation(id string) { c.note(func() { c.operation = cmp.Or(c.operation, id) }) }

// Preview tells which preview the call made or confirms.
func (c *Call) Preview(id string) { c.note(func() { c.preview = id }) }

// Ended tells the outcome: one of the constants, or the status of a change's result.
func (c *Call) Ended(outcome string) { c.note(func() { c.outcome = outcome }) }

// Failed tells the code of the error with which the call is answered.
func (c *Call) Failed(code string) { c.note(func() { c.outcome, c.code = OutcomeError, code }) }

func (c *Call) note(f func()) {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	f()
}

// End counts the call, ends its span and logs it.
func (c *Call) End() {
	c.mu.Lock()
	defer c.mu.Unlock()
	took, outcome := time.Since(c.began), cmp.Or(c.outcome, OutcomeError)
	m := c.telemetry.metrics
	m.calling.add(-1)
	m.calls.add(1, c.tool, c.class, outcome, c.code)
	m.callTime.observe(took.Seconds(), c.tool)
	trace := ""
	if c.span != nil {
		trace = c.span.TraceID()
		c.span.End(c.code, nonEmpty(
			slog.String("tokenreeve.connection", c.connection), slog.String("tokenreeve.provider", c.provider), slog.String("tokenreeve.outcome", outcome),
			slog.String("tokenreeve.operation", c.operation), slog.String("tokenreeve.preview", c.preview),
		)...)
	}
	attributes := nonEmpty(
		slog.String("tool", c.tool), slog.String("principal", c.principal), slog.String("connection", c.connection), slog.String("outcome", outcome),
		slog.String("code", c.code), slog.String("operation", c.operation), slog.String("preview", c.preview), slog.String("trace", trace),
	)
	c.telemetry.log.LogAttrs(context.Background(), slog.LevelInfo, "call", append(attributes, Took(took))...)
}

// nonEmpty returns the attributes whose text is not empty.
func nonEmpty(attributes ...slog.Attr) []slog.Attr {
	return slices.DeleteFunc(attributes, func(a slog.Attr) bool { return a.Value.String() == "" })
}

// Took is how long something took as the log tells it, in milliseconds: a number, so that programs need
// not know units.
func Took(d time.Duration) slog.Attr {
	return slog.Float64("took_ms", math.Round(d.Seconds()*1e4)/10)
}

// Vendor measures the requests of one connection.
type Vendor struct {
	telemetry            *Telemetry
	provider, connection string
}

// Vendor returns what measures the requests of a connection.
func (t *Telemetry) Vendor(provider, connection string) Vendor {
	return Vendor{t, provider, connection}
}

// Request is one request to a vendor.
type Request struct {
	Method string
	Route  string // without ids
	Host   string // the vendor's
	Resend int    // how often it was sent before
}

// BeginRequest measures a request from before it is sent. The caller calls end once, with the status of
// the answer, 0 where there is none, and the reason why there is no whole answer.
func (v Vendor) BeginRequest(ctx context.Context, r Request) (end func(status int, failed string)) {
	began := time.Now()
	var span Span
	if v.telemetry.tracer != nil {
		_, span = v.telemetry.tracer.Start(ctx, Start{Name: cmp.Or(r.Route, r.Method), Client: true, Attributes: []slog.Attr{
			slog.String("http.request.method", r.Method), slog.String("url.template", templateOf(r.Route)), slog.String("server.address", r.Host),
			slog.Int("http.request.resend_count", r.Resend), slog.String("tokenreeve.provider", v.provider), slog.String("tokenreeve.connection", v.connection),
		}})
	}
	m := v.telemetry.metrics
	if r.Resend > 0 {
		m.resends.add(1, v.provider, v.connection)
	}
	return func(status int, failed string) {
		class := classOf(status, failed)
		m.vendorTime.observe(time.Since(began).Seconds(), v.provider, v.connection, class)
		if span == nil {
			return
		}
		var attributes []slog.Attr
		if status > 0 {
			attributes = append(attributes, slog.Int("http.response.status_code", status))
		}
		if failed == "" && status >= 400 {
			failed = class
		}
		span.End(failed, attributes...)
	}
}

// Budget tells how much a vendor leaves until the window ends.
func (v Vendor) Budget(name, route string, limit, remaining int, reset time.Time) {
	m := v.telemetry.metrics
	m.budget.setUntil(float64(remaining), reset, v.provider, v.connection, name, route)
	if limit > 0 {
		m.budgetLimit.setUntil(float64(limit), reset, v.provider, v.connection, name, route)
	}
}

// RequestEnded counts an HTTP request that was answered. Method and route are one of ours, or "other".
func (t *Telemetry) RequestEnded(method, route string, status int) {
	t.metrics.requests.add(1, method, route, classOf(status, ""))
}

// Refused counts a caller who was not let in.
func (t *Telemetry) Refused(reason string) { t.metrics.refused.add(1, reason) }
