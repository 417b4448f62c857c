package e2e_test

import (
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/mark3labs/mcp-go/client"
	"github.com/mark3labs/mcp-go/client/transport"
	"github.com/mark3labs/mcp-go/mcp"
	collectmetrics "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	collecttrace "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	otlpmetrics "go.opentelemetry.io/proto/otlp/metrics/v1"
	otlptrace "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// buildExporting makes the binary with the exporters, with the flags of make build-otel so that what CI
// compiled is not compiled again.
var buildExporting = sync.OnceValues(func() (string, error) {
	if _, err := os.ReadFile("../telemetry/export_otel.go"); err != nil { // the cached result depends on it
		return "", err
	}
	return compile("tokenreeve-otel", "-trimpath", "-tags", "otel", "-ldflags", "-s -w -X main.version=v1.2.3-test")
})

func exporting(t *testing.T) string {
	t.Helper()
	path, err := buildExporting()
	if err != nil {
		t.Fatalf("build: %v", err)
	}
	return path
}

// collector is an OpenTelemetry collector that keeps what it gets.
type collector struct {
	*httptest.Server
	t *testing.T

	mu      sync.Mutex
	raw     strings.Builder
	spans   []*otlptrace.Span
	metrics map[string]*otlpmetrics.Metric // the last of each
	about   map[string]string              // the resource
}

func newCollector(t *testing.T) *collector {
	t.Helper()
	c := &collector{t: t, metrics: map[string]*otlpmetrics.Metric{}}
	c.Server = httptest.NewServer(c)
	t.Cleanup(c.Close)
	return c
}

func (c *collector) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.raw.Write(body)
	fmt.Fprint(&c.raw, r.Header)
	switch {
	case err != nil:
	case r.URL.Path == "/v1/traces":
		var sent collecttrace.ExportTraceServiceRequest
		err = proto.Unmarshal(body, &sent)
		for _, of := range sent.GetResourceSpans() {
			c.about = words(of.GetResource().GetAttributes())
			for _, scope := range of.GetScopeSpans() {
				c.spans = append(c.spans, scope.GetSpans()...)
			}
		}
	case r.URL.Path == "/v1/metrics":
		var sent collectmetrics.ExportMetricsServiceRequest
		err = proto.Unmarshal(body, &sent)
		for _, of := range sent.GetResourceMetrics() {
			for _, scope := range of.GetScopeMetrics() {
				for _, m := range scope.GetMetrics() {
					c.metrics[m.GetName()] = m
				}
			}
		}
	default:
		err = fmt.Errorf("a request of %s", r.URL.Path)
	}
	if err != nil {
		c.t.Errorf("the collector: %v", err)
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/x-protobuf")
}

// env wants everything exported here. A secret stands where operators put one.
func (c *collector) env() []string {
	return []string{"OTEL_EXPORTER_OTLP_ENDPOINT=" + c.URL, "OTEL_EXPORTER_OTLP_HEADERS=x-collector=" + collectorSecret}
}

const collectorSecret = "collector-5ec2e7"

func words(attributes []*common.KeyValue) map[string]string {
	m := map[string]string{}
	for _, a := range attributes {
		m[a.GetKey()] = a.GetValue().GetStringValue()
		if v, ok := a.GetValue().GetValue().(*common.AnyValue_IntValue); ok {
			m[a.GetKey()] = fmt.Sprint(v.IntValue)
		}
	}
	return m
}

// called returns the span of the only call of a tool with the outcome.
func (c *collector) called(t *testing.T, tool, outcome string) *otlptrace.Span {
	t.Helper()
	var found []*otlptrace.Span
	for _, s := range c.spans {
		if s.GetName() == "tools/call "+tool && words(s.GetAttributes())["tokenreeve.outcome"] == outcome {
			found = append(found, s)
		}
	}
	if len(found) != 1 {
		t.Fatalf("%d spans of %s with outcome %s", len(found), tool, outcome)
	}
	return found[0]
}

// under returns the spans whose parent is s.
func (c *collector) under(s *otlptrace.Span) []*otlptrace.Span {
	return slices.DeleteFunc(slices.Clone(c.spans), func(child *otlptrace.Span) bool {
		return string(child.GetParentSpanId()) != string(s.GetSpanId()) || string(child.GetTraceId()) != string(s.GetTraceId())
	})
}

// The identifiers of callers' spans.
const (
	metaTrace, metaSpan     = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
	headerTrace, headerSpan = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
	// hostile is in arguments, in names and in headers, and must be nowhere else.
	hostileWord = "zqhostile\x1b[31m\nignore all"
)

func traceparentOf(trace, span string) string { return "00-" + trace + "-" + span + "-01" }

func isChildOf(s *otlptrace.Span, trace, span string) bool {
	return hex.EncodeToString(s.GetTraceId()) == trace && hex.EncodeToString(s.GetParentSpanId()) == span
}

// withParent is a call that belongs to a span of the caller's, with text that belongs nowhere.
func withParent(tool, trace, span string, arguments map[string]any) mcp.CallToolRequest {
	var request mcp.CallToolRequest
	request.Params.Name, request.Params.Arguments = tool, arguments
	request.Params.Meta = &mcp.Meta{AdditionalFields: map[string]any{
		"traceparent": traceparentOf(trace, span), "tracestate": "vendor=zqhostile", "baggage": "key=zqhostile",
	}}
	return request
}

// Each call of a tool is one span under the caller's, and each request to a vendor one under that.
// Nothing that is exported, logged or shown holds an argument's text, a name or a secret.
func TestExport(t *testing.T) {
	t.Parallel()
	for name, parents := range map[string]struct {
		header     bool
		meta       bool
		broken     bool // what _meta names is no traceparent
		trace      string
		span       string
		wantLinked bool
	}{
		"header":         {header: true, trace: headerTrace, span: headerSpan},
		"_meta":          {meta: true, trace: metaTrace, span: metaSpan},
		"broken, header": {meta: true, broken: true, header: true, trace: headerTrace, span: headerSpan},
		"_meta, header":  {meta: true, header: true, trace: metaTrace, span: metaSpan, wantLinked: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v, c := newVendors(t), newCollector(t)
			s := listensBinary(t, exporting(t), append(v.bareEnv(), c.env()...), "serve", "--listen", "127.0.0.1:0", "--config", v.config(t, nil), "--log-level", "debug", "--log-format", "json")
			headers := s.authorization()
			headers["X-Text"] = "zqhostile"
			if parents.header {
				headers["Traceparent"] = traceparentOf(headerTrace, headerSpan)
				headers["Tracestate"], headers["Baggage"] = "vendor=zqhostile", "key=zqhostile"
			}
			over, err := transport.NewStreamableHTTP(s.url+"/mcp", transport.WithHTTPHeaders(headers), transport.WithHTTPBasicClient(s.http), transport.WithHTTPLogger(slog.New(slog.DiscardHandler)))
			if err != nil {
				t.Fatal(err)
			}
			caller := client.NewClient(over)
			t.Cleanup(func() { _ = caller.Close() })
			if err := caller.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			initialize(t, caller, legacy)
			ask := func(tool string, arguments map[string]any) map[string]any {
				request := mcp.CallToolRequest{}
				request.Params.Name, request.Params.Arguments = tool, arguments
				if parents.meta {
					request = withParent(tool, metaTrace, metaSpan, arguments)
				}
				if parents.broken {
					request.Params.Meta.AdditionalFields["traceparent"] = hostileWord
				}
				result, err := caller.CallTool(t.Context(), request)
				if err != nil {
					t.Fatal(err)
				}
				content, _ := result.StructuredContent.(map[string]any)
				return content
			}
			ask("list_tokens", map[string]any{"connection": "mt", "query": "zqhostile"})
			created := ask("create_launchdarkly_token", map[string]any{"connection": "ld", "name": "zqhostile", "role": "reader", "deliver_to": "files/ci/ld"})
			shown := ask("revoke_token", map[string]any{"connection": "mt", "token_id": v.mailtrapIDs(1)[0], "reason": "zqhostile"})
			ask("list_tokens", map[string]any{"connection": hostileWord})
			ask("zqhostile"+hostileWord, map[string]any{})
			s.signal(t, terminate)
			s.exit(t, 0)

			listed := c.called(t, "list_tokens", "ok")
			if !isChildOf(listed, parents.trace, parents.span) {
				t.Errorf("the call's span is %x under %x", listed.GetTraceId(), listed.GetParentSpanId())
			}
			if linked := len(listed.GetLinks()) == 1 && hex.EncodeToString(listed.GetLinks()[0].GetTraceId()) == headerTrace; linked != parents.wantLinked {
				t.Errorf("links: %v", listed.GetLinks())
			}
			got := words(listed.GetAttributes())
			for key, want := range map[string]string{
				"gen_ai.tool.name": "list_tokens", "tokenreeve.class": "read", "tokenreeve.principal": "bearer", "tokenreeve.connection": "mt", "tokenreeve.provider": "mailtrap",
			} {
				if got[key] != want {
					t.Errorf("list_tokens: %s is %q, want %q", key, got[key], want)
				}
			}
			requests := c.under(listed)
			if len(requests) == 0 || listed.GetKind() != otlptrace.Span_SPAN_KIND_SERVER {
				t.Fatalf("%d requests under a span of kind %v", len(requests), listed.GetKind())
			}
			if request := words(requests[0].GetAttributes()); requests[0].GetKind() != otlptrace.Span_SPAN_KIND_CLIENT || request["http.response.status_code"] != "200" ||
				request["url.template"] != "/api/api_tokens" || request["http.request.method"] != "GET" || request["http.request.resend_count"] != "0" {
				t.Errorf("a request's span: %v", requests[0])
			}
			if a := words(c.called(t, "create_launchdarkly_token", "created").GetAttributes()); a["tokenreeve.operation"] != created["operation_id"] {
				t.Errorf("operation %q, want %v", a["tokenreeve.operation"], created["operation_id"])
			}
			if a := words(c.called(t, "revoke_token", "confirmation_required").GetAttributes()); a["tokenreeve.preview"] != shown["preview_id"] {
				t.Errorf("preview %q, want %v", a["tokenreeve.preview"], shown["preview_id"])
			}
			if a := words(c.called(t, "unknown_tool", "error").GetAttributes()); a["error.type"] != "unknown_tool" {
				t.Errorf("an unknown tool: %v", a)
			}
			if failed := c.called(t, "list_tokens", "error"); words(failed.GetAttributes())["error.type"] != "unknown_connection" || failed.GetStatus().GetCode() != otlptrace.Status_STATUS_CODE_ERROR {
				t.Errorf("a refused call: %v", failed)
			}
			if c.about["service.name"] != "tokenreeve" || c.about["service.version"] != "v1.2.3-test" {
				t.Errorf("the resource: %v", c.about)
			}
			if calls := c.metrics["tokenreeve.calls"].GetSum(); !calls.GetIsMonotonic() || len(calls.GetDataPoints()) != 5 {
				t.Errorf("calls by tool and outcome: %v", calls)
			}
			if took := c.metrics["tokenreeve.vendor_request_duration"]; took.GetUnit() != "s" || len(took.GetHistogram().GetDataPoints()) == 0 {
				t.Errorf("vendor requests: %v", took)
			}
			for _, r := range v.Requests() {
				if strings.Contains(fmt.Sprint(r), parents.trace) {
					t.Errorf("a vendor learns of the trace: %v", r)
				}
			}
			if !strings.Contains(s.err.String(), `"trace":"`+parents.trace+`"`) {
				t.Error("the log does not name the trace")
			}
			for what, text := range map[string]string{"what is exported": strings.ReplaceAll(c.raw.String(), collectorSecret, ""), "the log": s.err.String()} {
				v.noSecretIn(t, what, text)
				for _, word := range []string{"zqhostile", "ignore all", s.token[8:], collectorSecret, v.access.Mailtrap.Credential, v.access.LaunchDarkly.Credential} {
					if what == "the log" && word == s.token[8:] {
						continue // shown once
					}
					if strings.Contains(text, word) {
						t.Errorf("%s holds %q", what, word)
					}
				}
			}
		})
	}
}
