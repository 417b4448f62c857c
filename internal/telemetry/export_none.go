//go:build !otel

package telemetry

import "context"

// Export sends nothing: this build has no exporter. Where the environment wants one, the log says how to
// get it.
func (t *Telemetry) Export(context.Context) (end func()) {
	if w := wantedByEnvironment(); w.any() || len(w.problems) > 0 {
		t.log.Warn("traces and metrics are not exported: this build has no OTLP exporter; OTEL_EXPORTER_OTLP_ENDPOINT asks for one",
			"next", "use the container image, or build with make build-otel (go build -tags otel); OTEL_SDK_DISABLED=true silences this")
	}
	return func() {}
}
