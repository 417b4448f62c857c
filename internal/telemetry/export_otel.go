//go:build otel

package telemetry

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetrichttp"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/instrumentation"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// scope names what measures.
const scope = "github.com/tokenreeve/tokenreeve"

// flushTime bounds what the end of the process waits for a collector.
const flushTime = 3 * time.Second

// Export sends traces and metrics as OpenTelemetry's standard variables say, until the function is
// called, which sends what is left, for at most three seconds. It sends nothing unless an endpoint is
// set. A setting that cannot be followed is told to the log: the server serves all the same. It is
// called once, before the first call.
func (t *Telemetry) Export(ctx context.Context) (end func()) {
	w := wantedByEnvironment()
	for _, problem := range w.problems {
		t.log.Warn("not exported", "setting", problem)
	}
	if !w.any() {
		return func() {}
	}
	otel.SetErrorHandler(&exportErrors{log: t.log})
	otel.SetLogger(logr.FromSlogHandler(sdkLog{t.log.Handler()}))
	about, err := resource.New(ctx,
		resource.WithTelemetrySDK(),
		resource.WithAttributes(attribute.String("service.name", "tokenreeve"), attribute.String("service.version", t.version)),
		resource.WithFromEnv(), // OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES count more
	)
	if err != nil {
		t.log.Warn("a part of OTEL_RESOURCE_ATTRIBUTES cannot be read")
	}
	var ends []func(context.Context) error
	if w.traces {
		ends = append(ends, t.exportTraces(ctx, about))
	}
	if w.metrics {
		ends = append(ends, t.exportMetrics(ctx, about))
	}
	return func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushTime)
		defer cancel()
		var all sync.WaitGroup
		for _, end := range ends {
			all.Go(func() {
				if err := end(ctx); err != nil {
					otel.Handle(err)
				}
			})
		}
		all.Wait()
	}
}

func (t *Telemetry) exportTraces(ctx context.Context, about *resource.Resource) (end func(context.Context) error) {
	exporter, err := otlptracehttp.New(ctx)
	if err != nil {
		otel.Handle(err)
		return func(context.Context) error { return nil }
	}
	provider := sdktrace.NewTracerProvider(sdktrace.WithBatcher(exporter), sdktrace.WithResource(about))
	t.tracer = tracer{provider.Tracer(scope, trace.WithInstrumentationVersion(t.version))}
	return provider.Shutdown
}

func (t *Telemetry) exportMetrics(ctx context.Context, about *resource.Resource) (end func(context.Context) error) {
	exporter, err := otlpmetrichttp.New(ctx)
	if err != nil {
		otel.Handle(err)
		return func(context.Context) error { return nil }
	}
	reader := sdkmetric.NewPeriodicReader(exporter, sdkmetric.WithProducer(producer{t}))
	return sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader), sdkmetric.WithResource(about)).Shutdown
}

// exportErrors logs what the exporters cannot do, the first time and then once in a while: a collector
// that is down fails every few seconds. What it says is not logged, since it may quote the endpoint,
// with a password in it, or what the collector answered.
type exportErrors struct {
	log *slog.Logger

	mu   sync.Mutex
	next time.Time
}

const exportErrorPause = 5 * time.Minute

// Handle implements otel.ErrorHandler.
func (e *exportErrors) Handle(err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := time.Now()
	if now.Before(e.next) {
		return
	}
	e.next = now.Add(exportErrorPause)
	e.log.Warn("traces or metrics are not exported", "reason", reasonOf(err), "next", "look at the collector and at OTEL_EXPORTER_OTLP_ENDPOINT; this is told again in five minutes at the earliest")
}

func reasonOf(err error) string {
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return "no answer in time"
	case strings.Contains(err.Error(), "connection refused"):
		return "connection refused"
	default:
		return "the exporter failed"
	}
}

// sdkLog passes on what the SDK logs on its own, without the values: they may be those of variables that
// hold a password.
type sdkLog struct{ slog.Handler }

// Handle implements slog.Handler.
func (l sdkLog) Handle(ctx context.Context, r slog.Record) error {
	plain := slog.NewRecord(r.Time, r.Level, "OpenTelemetry's SDK says", 0)
	plain.AddAttrs(slog.String("message", r.Message))
	return l.Handler.Handle(ctx, plain)
}

// WithAttrs implements slog.Handler.
func (l sdkLog) WithAttrs([]slog.Attr) slog.Handler { return l }

// WithGroup implements slog.Handler.
func (l sdkLog) WithGroup(string) slog.Handler { return l }

// tracer makes spans with OpenTelemetry.
type tracer struct{ trace.Tracer }

// Start implements Tracer.
func (t tracer) Start(ctx context.Context, s Start) (context.Context, Span) {
	kind := trace.SpanKindServer
	if s.Client {
		kind = trace.SpanKindClient
	}
	options := []trace.SpanStartOption{trace.WithSpanKind(kind), trace.WithAttributes(attributes(s.Attributes)...)}
	hasParent := trace.SpanContextFromContext(ctx).IsValid()
	for _, parent := range s.Parents {
		// Neither tracestate nor baggage is taken: they hold whatever the caller likes.
		named := propagation.TraceContext{}.Extract(ctx, propagation.MapCarrier{"traceparent": parent})
		at := trace.SpanContextFromContext(named)
		switch {
		case !at.IsRemote() || !at.IsValid():
		case hasParent:
			options = append(options, trace.WithLinks(trace.Link{SpanContext: at}))
		default:
			ctx, hasParent = named, true
		}
	}
	ctx, span := t.Tracer.Start(ctx, s.Name, options...)
	return ctx, otelSpan{span}
}

type otelSpan struct{ trace.Span }

// End implements Span.
func (s otelSpan) End(failed string, more ...slog.Attr) {
	s.SetAttributes(attributes(more)...)
	if failed != "" {
		s.SetAttributes(attribute.String("error.type", failed))
		s.SetStatus(codes.Error, "")
	}
	s.Span.End()
}

// TraceID implements Span.
func (s otelSpan) TraceID() string { return s.SpanContext().TraceID().String() }

func attributes(of []slog.Attr) []attribute.KeyValue {
	out := make([]attribute.KeyValue, 0, len(of))
	for _, a := range of {
		if a.Value.Kind() == slog.KindInt64 {
			out = append(out, attribute.Int64(a.Key, a.Value.Int64()))
			continue
		}
		out = append(out, attribute.String(a.Key, a.Value.String()))
	}
	return out
}

// producer gives OpenTelemetry's SDK what /metrics shows, so that both are one measurement.
type producer struct{ *Telemetry }

// Produce implements sdkmetric.Producer.
func (p producer) Produce(ctx context.Context) ([]metricdata.ScopeMetrics, error) {
	now := time.Now()
	out := metricdata.ScopeMetrics{Scope: instrumentation.Scope{Name: scope, Version: p.version}}
	for _, r := range p.Read(ctx) {
		if len(r.Samples) == 0 {
			continue
		}
		name, unit := otlpName(r.Name)
		out.Metrics = append(out.Metrics, metricdata.Metrics{Name: name, Unit: unit, Description: r.Help, Data: data(r, p.metrics.began, now)})
	}
	return []metricdata.ScopeMetrics{out}, nil
}

func data(r Reading, began, now time.Time) metricdata.Aggregation {
	if r.Kind == Histogram {
		h := metricdata.Histogram[float64]{Temporality: metricdata.CumulativeTemporality}
		for _, s := range r.Samples {
			total := uint64(0)
			for _, count := range s.Counts {
				total += count
			}
			h.DataPoints = append(h.DataPoints, metricdata.HistogramDataPoint[float64]{
				Attributes: r.set(s), StartTime: began, Time: now, Count: total, Sum: s.Value, Bounds: bounds(), BucketCounts: s.Counts,
			})
		}
		return h
	}
	var points []metricdata.DataPoint[float64]
	for _, s := range r.Samples {
		points = append(points, metricdata.DataPoint[float64]{Attributes: r.set(s), StartTime: began, Time: now, Value: s.Value})
	}
	if r.Kind == Counter {
		return metricdata.Sum[float64]{Temporality: metricdata.CumulativeTemporality, IsMonotonic: true, DataPoints: points}
	}
	return metricdata.Gauge[float64]{DataPoints: points}
}

func (r Reading) set(s Sample) attribute.Set {
	pairs := make([]attribute.KeyValue, len(r.Labels))
	for i, label := range r.Labels {
		pairs[i] = attribute.String(label, s.Labels[i])
	}
	return attribute.NewSet(pairs...)
}

// otlpName returns the name and the unit from which Prometheus makes ours: tokenreeve_calls_total is
// tokenreeve.calls, and tokenreeve_call_duration_seconds is tokenreeve.call_duration in s.
func otlpName(prometheus string) (name, unit string) {
	name = strings.TrimSuffix(prometheus, "_total")
	for suffix, word := range map[string]string{"_seconds": "s", "_bytes": "By"} {
		if short, ok := strings.CutSuffix(name, suffix); ok {
			name, unit = short, word
		}
	}
	return strings.Replace(name, "_", ".", 1), unit
}
