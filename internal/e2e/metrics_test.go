package e2e_test

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/tokenreeve/tokenreeve/internal/ledger"
	"github.com/tokenreeve/tokenreeve/internal/telemetry"
)

// metrics are scraped ones, by name.
type metrics map[string]*dto.MetricFamily

// parseMetrics reads the text as Prometheus does.
func parseMetrics(t *testing.T, text string) metrics {
	t.Helper()
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(text))
	if err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	return families
}

// scrape reads the metrics as the caller.
func (s *listening) scrape(t *testing.T) metrics {
	t.Helper()
	status, text := s.get(t, "/metrics", true)
	if status != http.StatusOK {
		t.Fatalf("status %d: %s", status, text)
	}
	return parseMetrics(t, text)
}

// of returns the value of the only series with these labels, of a histogram its count; 0 where there is
// none.
func (m metrics) of(t *testing.T, name string, labels ...string) float64 {
	t.Helper()
	var found []float64
	for _, series := range m[name].GetMetric() {
		got := map[string]string{}
		for _, pair := range series.GetLabel() {
			got[pair.GetName()] = pair.GetValue()
		}
		matches := true
		for i := 0; i+1 < len(labels); i += 2 {
			matches = matches && got[labels[i]] == labels[i+1]
		}
		if matches {
			found = append(found, series.GetCounter().GetValue()+series.GetGauge().GetValue()+float64(series.GetHistogram().GetSampleCount()))
		}
	}
	if len(found) > 1 {
		t.Errorf("%d series of %s with %v", len(found), name, labels)
	}
	if len(found) == 0 {
		return 0
	}
	return found[0]
}

// What was done shows in the metrics, each under what it came to.
func TestMetrics(t *testing.T) {
	t.Parallel()
	v := newVendors(t)
	s := listen(t, v, v.bareEnv())
	streamed, events := s.streamable(t, legacy), s.sse(t, legacy)
	succeed(t, streamed, "list_tokens", map[string]any{"connection": "ld"})
	succeed(t, events, "list_tokens", map[string]any{"connection": "ld"})
	succeed(t, events, "list_connections", map[string]any{})
	succeed(t, streamed, "create_mailtrap_token", map[string]any{
		"connection": "mt", "name": "e2e", "deliver_to": "files/ci/mt",
		"permissions": []map[string]any{{"resource_type": "account", "resource_id": fmt.Sprint(v.access.Mailtrap.AccountID), "access_level": "viewer"}},
	})
	callTool(t, streamed, "get_token", map[string]any{"connection": "mt", "token_id": "1"})
	callTool(t, streamed, "no_such_tool", map[string]any{})
	if status, _ := s.get(t, "/metrics", false); status != http.StatusUnauthorized {
		t.Errorf("without a token: status %d", status)
	}
	m := s.scrape(t)
	for want, got := range map[float64][]float64{
		2: {m.of(t, "tokenreeve_calls_total", "tool", "list_tokens", "class", "read", "outcome", "ok"), m.of(t, "tokenreeve_call_duration_seconds", "tool", "list_tokens")},
		1: {
			m.of(t, "tokenreeve_calls_total", "tool", "create_mailtrap_token", "class", "mint", "outcome", "created"),
			m.of(t, "tokenreeve_calls_total", "tool", "get_token", "outcome", "error", "code", "not_found"),
			m.of(t, "tokenreeve_calls_total", "tool", "unknown_tool", "outcome", "error", "code", "unknown_tool"),
			m.of(t, "tokenreeve_vendor_request_duration_seconds", "provider", "mailtrap", "connection", "mt", "status", "4xx"),
			m.of(t, "tokenreeve_authentications_refused_total", "reason", "no_token"),
			m.of(t, "tokenreeve_sessions_open", "transport", "sse"), m.of(t, "tokenreeve_sessions_open", "transport", "http"),
			m.of(t, "tokenreeve_build_info", "version", "v1.2.3-test"),
			m.of(t, "tokenreeve_http_requests_total", "method", "GET", "route", "/metrics", "status", "4xx"),
		},
		0: {m.of(t, "tokenreeve_calls_in_flight")},
	} {
		for i, value := range got {
			if value != want {
				t.Errorf("metric %d of those that are to be %v is %v", i, want, value)
			}
		}
	}
	if m.of(t, "tokenreeve_vendor_request_duration_seconds", "connection", "ld", "status", "2xx") < 2 {
		t.Error("no requests to ld")
	}
	if m.of(t, "process_resident_memory_bytes") < 1<<20 || m.of(t, "process_cpu_seconds_total") <= 0 {
		t.Error("the process uses nothing")
	}
	if known := m["tokenreeve_vendor_budget_remaining"]; len(known.GetMetric()) == 0 {
		t.Error("no budget is known")
	}
	for name := range m {
		if !slices.ContainsFunc(telemetry.Families(), func(f telemetry.Family) bool { return f.Name == name }) {
			t.Errorf("%s is not among the families", name)
		}
	}
	v.noSecretIn(t, "the metrics", fmt.Sprint(m))
	read := v.hold("GET", "/api/v2/tokens")
	answers := background(t.Context(), streamed, "list_tokens", map[string]any{"connection": "ld"})
	read.await(t, 1)
	if n := s.scrape(t).of(t, "tokenreeve_calls_in_flight"); n != 1 {
		t.Errorf("%v calls are under way, and one waits for its vendor", n)
	}
	read.release()
	receive(t, answers, "the answer")
}

// What waits for somebody is counted from the record, whoever wrote it.
func TestMetricsOfOperations(t *testing.T) {
	t.Parallel()
	v := newVendors(t)
	s := listen(t, v, v.bareEnv())
	l, _ := v.history(t)
	for n := range 3 {
		ended(t, l, revocation(fmt.Sprint("t-escrowed-", n)), ledger.Result{Outcome: ledger.Escrowed})
	}
	m := s.scrape(t)
	got := map[string]float64{}
	for _, state := range []string{"open", "unfinished", "escrowed", "unknown"} {
		got[state] = m.of(t, "tokenreeve_operations", "state", state)
	}
	if diff := cmp.Diff(map[string]float64{"open": 2, "unfinished": 1, "escrowed": 3, "unknown": 2}, got); diff != "" {
		t.Errorf("operations by state (-want +got):\n%s", diff)
	}
}

// Of connections that a caller may not know of, the metrics tell nothing.
func TestMetricsAreNarrowed(t *testing.T) {
	t.Parallel()
	v := newVendors(t)
	narrow := configuredCaller("narrow", "viewer")
	narrow["connections"] = map[string]any{"ld": "none"}
	config := v.config(t, map[string]any{"auth": map[string]any{"tokens": []map[string]any{configuredCaller("all", "viewer"), narrow}}})
	s := listens(t, append(v.bareEnv(), "TOKENREEVE_BEARER_TOKEN="+strings.Repeat("x", 40)), "serve", "--listen", "127.0.0.1:0", "--config", config)
	s.token = callerToken("all")
	succeed(t, s.streamable(t, legacy), "list_tokens", map[string]any{})
	for caller, want := range map[string]bool{"all": true, "narrow": false} {
		s.token = callerToken(caller)
		m := s.scrape(t)
		if got := m.of(t, "tokenreeve_vendor_request_duration_seconds", "connection", "ld", "status", "2xx") > 0; got != want {
			t.Errorf("%s sees ld: %v, want %v", caller, got, want)
		}
		if m.of(t, "tokenreeve_vendor_request_duration_seconds", "connection", "mt", "status", "2xx") == 0 {
			t.Errorf("%s does not see mt", caller)
		}
	}
}

// However many tools, methods, routes and sessions callers make up, the series stay the same few, and
// neither they nor the log hold what was made up.
func TestMetricsAreBounded(t *testing.T) {
	t.Parallel()
	v := newVendors(t)
	s := listen(t, v, v.bareEnv(), "--log-format", "json")
	c := s.streamable(t, modern)
	succeed(t, c, "list_connections", map[string]any{})
	count := func() int {
		n := 0
		for _, family := range s.scrape(t) {
			n += len(family.GetMetric())
		}
		return n
	}
	callTool(t, c, "zqhostile", map[string]any{})
	made := func(i int) {
		request, err := http.NewRequestWithContext(t.Context(), fmt.Sprintf("ZQHOSTILE%d", i), fmt.Sprintf("%s/zqhostile%%0a%%1b[31m%d?sessionId=zqhostile", s.url, i), nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Mcp-Session-Id", "zqhostile\t"+fmt.Sprint(i))
		request.Header.Set("Traceparent", "zqhostile")
		response, err := s.http.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, response.Body)
		_ = response.Body.Close()
	}
	made(0)
	count() // itself a request
	before := count()
	for i := range 1000 {
		made(i)
		callTool(t, c, fmt.Sprintf("zqhostile\n\x1b[31m%d", i), map[string]any{"zqhostile": i})
	}
	if after := count(); after != before {
		t.Errorf("%d series, before that %d", after, before)
	}
	_, text := s.get(t, "/metrics", true)
	if strings.Contains(strings.ToLower(text), "zqhostile") {
		t.Errorf("the metrics hold what a caller made up:\n%s", text)
	}
	s.signal(t, terminate)
	s.exit(t, 0)
	if log := strings.ToLower(s.err.String()); strings.Contains(log, "zqhostile") {
		t.Errorf("the log holds what a caller made up: %.2000s", log[strings.Index(log, "zqhostile"):])
	}
}

// On an address of its own /metrics is for whoever reaches it, and for no web page.
func TestMetricsListen(t *testing.T) {
	t.Parallel()
	v := newVendors(t)
	s := listen(t, v, v.bareEnv(), "--metrics-listen", "127.0.0.1:0")
	at := regexp.MustCompile(`tokenreeve serves (http://\S+)/metrics\n`)
	s.err.await(t, "where the metrics are", at.MatchString)
	own := *s
	own.url = at.FindStringSubmatch(s.err.String())[1]
	if status, text := own.get(t, "/metrics", false); status != http.StatusOK || parseMetrics(t, text).of(t, "tokenreeve_build_info") != 1 {
		t.Errorf("status %d: %s", status, text)
	}
	if status, _ := s.get(t, "/metrics", true); status != http.StatusNotFound {
		t.Errorf("on the main listener: status %d", status)
	}
	for _, path := range []string{"/mcp", "/sse", "/healthz"} {
		if status, _ := own.get(t, path, true); status != http.StatusNotFound {
			t.Errorf("%s beside the metrics: status %d", path, status)
		}
	}
	_, port, err := net.SplitHostPort(strings.TrimPrefix(own.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]int{"evil.example:" + port: 403, "localhost:" + port: 200, "10.1.2.3:" + port: 200} {
		if got, _ := own.send(t, http.MethodGet, "/metrics", "", func(r *http.Request) { r.Host = name }); got.StatusCode != want {
			t.Errorf("as %s: status %d, want %d", name, got.StatusCode, want)
		}
	}
	fromPage := func(r *http.Request) { r.Header.Set("Origin", "http://localhost:"+port) }
	if got, _ := own.send(t, http.MethodGet, "/metrics", "", fromPage); got.StatusCode != http.StatusForbidden {
		t.Errorf("for a web page: status %d", got.StatusCode)
	}
}

// An address that other machines reach is opened for the metrics only where the operator says so.
func TestMetricsListenBeyondThisMachine(t *testing.T) {
	t.Parallel()
	v := newVendors(t)
	for _, address := range []string{"0.0.0.0:0", ":0", "192.0.2.1:0"} {
		_, stderr := run(t, v.bareEnv(), 1, "", "serve", "--listen", "127.0.0.1:0", "--config", v.config(t, nil), "--metrics-listen", address)
		if !strings.Contains(stderr, "--metrics-open") {
			t.Errorf("%s: %s", address, stderr)
		}
	}
	s := listen(t, v, v.bareEnv(), "--metrics-listen", "0.0.0.0:0", "--metrics-open")
	s.err.awaitText(t, "/metrics\n")
}

// The log has one line for each request and one for each call. It names sessions without opening them,
// and holds nothing that a caller wrote.
func TestAccessLog(t *testing.T) {
	t.Parallel()
	v := newVendors(t)
	s := listen(t, v, v.bareEnv(), "--log-format", "json")
	c := s.streamable(t, legacy)
	created := succeed(t, c, "create_launchdarkly_token", map[string]any{"connection": "ld", "name": "zqhostile", "description": "zqhostile", "role": "reader", "deliver_to": "files/ci/ld"})
	shown, _ := callTool(t, c, "revoke_token", map[string]any{"connection": "mt", "token_id": v.mailtrapIDs(1)[0], "reason": "zqhostile"})
	callTool(t, c, "get_token", map[string]any{"connection": "zqhostile", "token_id": "zqhostile"})
	s.get(t, "/healthz", false)
	s.get(t, "/zqhostile", false)
	session := c.GetSessionId()
	s.signal(t, terminate)
	s.exit(t, 0)

	log := s.err.String()
	if session == "" || strings.Contains(log, session) || strings.Contains(log, "zqhostile") {
		t.Errorf("the log holds the session's id, or what a caller wrote:\n%s", log)
	}
	v.noSecretIn(t, "the log", log)
	var lines []map[string]any
	for line := range strings.Lines(log) {
		var fields map[string]any
		if strings.HasPrefix(line, "{") {
			if err := json.Unmarshal([]byte(line), &fields); err != nil {
				t.Fatalf("%v in %q", err, line)
			}
			lines = append(lines, fields)
		}
	}
	for _, want := range []map[string]any{
		{"msg": "call", "level": "INFO", "tool": "create_launchdarkly_token", "connection": "ld", "principal": "bearer", "outcome": "created", "operation": created["operation_id"]},
		{"msg": "call", "level": "INFO", "tool": "revoke_token", "connection": "mt", "outcome": "confirmation_required", "preview": shown["preview_id"]},
		{"msg": "call", "level": "INFO", "tool": "get_token", "outcome": "error", "code": "unknown_connection"},
		{"msg": "request", "level": "DEBUG", "method": "GET", "route": "/healthz", "status": 200.0},
		{"msg": "request", "level": "INFO", "method": "GET", "route": "other", "status": 404.0},
	} {
		if n := countLines(lines, want); n != 1 {
			t.Errorf("%d lines with %v in:\n%s", n, want, log)
		}
	}
	posts := map[string]any{"msg": "request", "level": "INFO", "method": "POST", "route": "/mcp", "status": 200.0, "principal": "bearer", "auth": "bearer", "address": "127.0.0.1"}
	if n := countLines(lines, posts); n < 4 { // initialize and three calls
		t.Errorf("%d lines of requests in:\n%s", n, log)
	}
	for _, line := range lines {
		if _, hasTime := line["took_ms"].(float64); (line["msg"] == "call" || line["msg"] == "request") && !hasTime {
			t.Errorf("no time in %v", line)
		}
	}
}

// countLines counts the lines that have all the fields.
func countLines(lines []map[string]any, fields map[string]any) int {
	n := 0
	for _, line := range lines {
		matches := true
		for key, value := range maps.All(fields) {
			matches = matches && line[key] == value
		}
		if matches {
			n++
		}
	}
	return n
}

// Over stdio the log is the same, and standard output stays the protocol's. A build without exporters
// says where to get one.
func TestStdioTelemetry(t *testing.T) {
	t.Parallel()
	v := newVendors(t)
	p := serve(t, v.env("OTEL_EXPORTER_OTLP_ENDPOINT=http://user:zqpassword@127.0.0.1:1"), "--log-format", "json")
	p.call(t, 1, "list_tokens", map[string]any{"limit": 1, "query": "zqhostile"})
	p.answer(t, 1)
	_ = p.stdin.Close()
	p.exit(t, 0)
	messages(t, p.out.String())
	log := p.err.String()
	for _, want := range []string{`"msg":"call","tool":"list_tokens","principal":"local","outcome":"ok"`, "make build-otel"} {
		if !strings.Contains(log, want) {
			t.Errorf("the log lacks %s:\n%s", want, log)
		}
	}
	if strings.Contains(log, "zqhostile") || strings.Contains(log, "zqpassword") {
		t.Errorf("the log: %s", log)
	}
}

// A collector that is not there, or settings that cannot be followed, are told to the log, without what
// stands in them, and nothing else fails.
func TestCollectorIsGone(t *testing.T) {
	t.Parallel()
	v := newVendors(t)
	for name, env := range map[string][]string{
		"gone":     {"OTEL_EXPORTER_OTLP_ENDPOINT=http://user:zqpassword@127.0.0.1:1"},
		"no URL":   {"OTEL_EXPORTER_OTLP_ENDPOINT=zqpassword://\x01"},
		"protocol": {"OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:1/zqpassword", "OTEL_EXPORTER_OTLP_PROTOCOL=grpc"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := startBinary(t, exporting(t), v.env(env...))
			p.initialize(t)
			p.call(t, 1, "list_connections", map[string]any{})
			if got := p.answer(t, 1).Result; got.IsError {
				t.Errorf("%+v", got)
			}
			_ = p.stdin.Close()
			p.exit(t, 0)
			if log := p.err.String(); !strings.Contains(log, "not exported") || strings.Contains(log, "zqpassword") {
				t.Errorf("the log: %s", log)
			}
		})
	}
	t.Run("hangs", func(t *testing.T) {
		t.Parallel()
		gone := make(chan struct{})
		silent := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-gone }))
		t.Cleanup(silent.Close)
		t.Cleanup(func() { close(gone) })
		p := startBinary(t, exporting(t), v.env("OTEL_EXPORTER_OTLP_ENDPOINT="+silent.URL))
		p.initialize(t)
		p.call(t, 1, "list_connections", map[string]any{})
		p.answer(t, 1)
		_ = p.stdin.Close()
		p.exit(t, 0) // which is given up after three seconds
		if log := p.err.String(); !strings.Contains(log, "not exported") {
			t.Errorf("the log: %s", log)
		}
	})
	t.Run("off", func(t *testing.T) {
		t.Parallel()
		c := newCollector(t)
		p := startBinary(t, exporting(t), v.env(append(c.env(), "OTEL_SDK_DISABLED=true")...))
		p.initialize(t)
		p.call(t, 1, "list_connections", map[string]any{})
		p.answer(t, 1)
		_ = p.stdin.Close()
		p.exit(t, 0)
		if c.raw.Len() > 0 {
			t.Errorf("exported although disabled: %s", c.raw.String())
		}
	})
}
