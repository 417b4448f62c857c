package telemetry

import (
	"bufio"
	"io"
	"strconv"
	"strings"
)

// ContentType is that of the text format of Prometheus.
const ContentType = "text/plain; version=0.0.4; charset=utf-8"

// WriteText writes the readings in the text format of Prometheus. Of series that tell of a connection,
// only those are written that shows lets pass.
func WriteText(w io.Writer, readings []Reading, shows func(connection string) bool) error {
	out := bufio.NewWriter(w)
	for _, r := range readings {
		header := false
		for _, s := range r.Samples {
			if !r.isShown(s, shows) {
				continue
			}
			if !header {
				header = true
				writeLine(out, "# HELP ", r.Name, " ", helpEscapes().Replace(r.Help))
				writeLine(out, "# TYPE ", r.Name, " ", string(r.Kind))
			}
			r.write(out, s)
		}
	}
	return out.Flush()
}

func (r Reading) isShown(s Sample, shows func(connection string) bool) bool {
	for i, label := range r.Labels {
		if label == "connection" && !shows(s.Labels[i]) {
			return false
		}
	}
	return true
}

func (r Reading) write(out *bufio.Writer, s Sample) {
	labels := r.pairs(s)
	if r.Kind != Histogram {
		writeLine(out, r.Name, braces(labels), " ", number(s.Value))
		return
	}
	total := uint64(0)
	for i, count := range s.Counts {
		total += count
		bound := "+Inf"
		if i < len(bounds()) {
			bound = number(bounds()[i])
		}
		writeLine(out, r.Name, "_bucket", braces(append(labels[:len(labels):len(labels)], `le="`+bound+`"`)), " ", strconv.FormatUint(total, 10))
	}
	writeLine(out, r.Name, "_sum", braces(labels), " ", number(s.Value))
	writeLine(out, r.Name, "_count", braces(labels), " ", strconv.FormatUint(total, 10))
}

func (r Reading) pairs(s Sample) []string {
	pairs := make([]string, len(r.Labels))
	for i, label := range r.Labels {
		pairs[i] = label + `="` + valueEscapes().Replace(strings.ToValidUTF8(s.Labels[i], "?")) + `"`
	}
	return pairs
}

func braces(pairs []string) string {
	if len(pairs) == 0 {
		return ""
	}
	return "{" + strings.Join(pairs, ",") + "}"
}

func number(f float64) string { return strconv.FormatFloat(f, 'g', -1, 64) }

func helpEscapes() *strings.Replacer  { return strings.NewReplacer(`\`, `\\`, "\n", `\n`) }
func valueEscapes() *strings.Replacer { return strings.NewReplacer(`\`, `\\`, "\n", `\n`, `"`, `\"`) }

func writeLine(out *bufio.Writer, parts ...string) {
	for _, part := range parts {
		_, _ = out.WriteString(part) // Flush returns the error
	}
	_ = out.WriteByte('\n')
}
