package telemetry

import (
	"cmp"
	"net/url"
	"os"
	"strings"
)

// wanted says which signals OpenTelemetry's standard variables want exported.
type wanted struct {
	traces, metrics bool
	// problems are settings that cannot be followed; what they are of is not exported.
	problems []string
}

func (w wanted) any() bool { return w.traces || w.metrics }

// wantedByEnvironment reads OTEL_SDK_DISABLED, OTEL_EXPORTER_OTLP_[SIGNAL_]ENDPOINT and _PROTOCOL, and
// OTEL_TRACES_EXPORTER and OTEL_METRICS_EXPORTER. Empty means unset.
func wantedByEnvironment() wanted {
	var w wanted
	if strings.EqualFold(os.Getenv("OTEL_SDK_DISABLED"), "true") {
		return w
	}
	w.traces = w.wants("TRACES")
	w.metrics = w.wants("METRICS")
	return w
}

func (w *wanted) wants(signal string) bool {
	common, own := "OTEL_EXPORTER_OTLP_", "OTEL_EXPORTER_OTLP_"+signal+"_"
	name := own + "ENDPOINT"
	if os.Getenv(name) == "" {
		name = common + "ENDPOINT"
	}
	if os.Getenv(name) == "" {
		return false
	}
	switch exporter := os.Getenv("OTEL_" + signal + "_EXPORTER"); exporter {
	case "", "otlp":
	case "none":
		return false
	default:
		w.problems = append(w.problems, "OTEL_"+signal+"_EXPORTER: valid: otlp, none")
		return false
	}
	if protocol := cmp.Or(os.Getenv(own+"PROTOCOL"), os.Getenv(common+"PROTOCOL")); protocol != "" && protocol != "http/protobuf" {
		w.problems = append(w.problems, own+"PROTOCOL: valid: http/protobuf, whose port is 4318 as a rule")
		return false
	}
	if !isEndpoint(os.Getenv(name)) { // the SDK would take the default in its place
		w.problems = append(w.problems, name+": valid: an http or https URL, for example http://127.0.0.1:4318")
		return false
	}
	return true
}

func isEndpoint(s string) bool {
	u, err := url.Parse(s)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Hostname() != ""
}
