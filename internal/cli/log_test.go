package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"regexp"
	"strings"
	"testing"

	"github.com/tokenreeve/tokenreeve/internal/config"
	"github.com/tokenreeve/tokenreeve/internal/vendortest"
)

// shout is a value that is logged as its text.
type shout string

// String returns the text.
func (s shout) String() string { return string(s) }

// colors are the escape sequences of the log's own.
var colors = regexp.MustCompile(`\x1b\[(0|2|22|91|92|93|2;9[0-7])m`)

// Whatever is logged, and however, a line shows letters only, also where the log has colors of its own.
func TestLogLinesArePlain(t *testing.T) {
	t.Parallel()
	hostile := vendortest.HostileText(vendortest.Word("log"), "")
	texts := map[string]string{
		"hostile": hostile, "quoted": fmt.Sprintf("%q", hostile), "ASCII": fmt.Sprintf("%+q", hostile),
		"literal": `a\x1b[31mb\\x1b[31mc`, "not UTF-8": "a\x9b31m\xff", "lines": "one\ntwo\tthree", "selectors": "a\ufe0fb\U000E0101",
	}
	for _, format := range []string{"text", "json"} {
		for _, inColors := range []bool{false, true} {
			for name, text := range texts {
				var b bytes.Buffer
				logger := slog.New(logHandler(&b, config.Log{Level: "debug", Format: format}, inColors))
				logger.Info(text, "text", text, "error", errors.New(text), "shout", shout(text), "wrapped", fmt.Errorf("x: %w", errors.New(text)), "number", 7)
				logger.With("kept", text).WithGroup("group").Error("again", "bytes", []byte(text), "list", []string{text})
				line := colors.ReplaceAllString(b.String(), "")
				for _, r := range line {
					if r != '\n' && isHidden(r) {
						t.Errorf("%s, %s, colors %v: %U in %q", format, name, inColors, r, line)
						break
					}
				}
				if strings.Count(line, "\n") != 2 {
					t.Errorf("%s, %s, colors %v: not two lines: %q", format, name, inColors, line)
				}
				if name == "hostile" && strings.Count(line, vendortest.Word("log")) < 5 {
					t.Errorf("%s: the text itself is not logged: %q", format, line)
				}
				for line := range strings.Lines(b.String()) {
					if format == "json" && !json.Valid([]byte(line)) {
						t.Errorf("%s is not JSON: %q", name, line)
					}
				}
			}
		}
	}
}

// What libraries log on their own may quote a vendor: the quotation is left out.
func TestLibraryLog(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	library := log.New(libraryLog{slog.New(logHandler(&b, config.Log{Format: "json"}, false))}, "", 0)
	library.Printf("Unsolicited response received on idle HTTP channel starting with %q; err=%v", vendortest.HostileText("zq", "api-5ec2e75a-ab12-4d3a-9e52-c0ffee5ec2e7"), nil)
	library.Print(vendortest.HostileText(vendortest.Word("library"), "api-5ec2e75a-ab12-4d3a-9e52-c0ffee5ec2e7"))
	if danger := vendortest.Danger(b.String(), '\n'); danger != "" || strings.Contains(b.String(), "5ec2e75a") {
		t.Errorf("%s in %s", danger, b.String())
	}
	if !strings.Contains(b.String(), `"message":"Unsolicited response received on idle HTTP channel starting with"`) {
		t.Errorf("logged %s", b.String())
	}
}

// slowWriter notes each write, and lets it go on once it may.
type slowWriter struct {
	writes chan string
	next   chan struct{}
}

func (s slowWriter) Write(lines []byte) (int, error) {
	s.writes <- string(lines)
	<-s.next
	return len(lines), nil
}

// Lines that come while one is written are written together, in order and whole, and what does not fit
// is left out.
func TestLogWriterBatches(t *testing.T) {
	t.Parallel()
	out := slowWriter{writes: make(chan string, 100), next: make(chan struct{})}
	w := newLogWriter(out)
	say := func(line string) {
		if n, err := w.Write([]byte(line)); n != len(line) || err != nil {
			t.Fatalf("%d bytes, %v", n, err)
		}
	}
	say("alone\n")
	if got := <-out.writes; got != "alone\n" {
		t.Fatalf("wrote %q", got)
	}
	var want strings.Builder
	for i := range 1000 {
		line := fmt.Sprintf("line %d\n", i)
		want.WriteString(line)
		say(line)
	}
	say(strings.Repeat("x", logBytes) + "\n")
	say("last\n")
	close(out.next)
	w.close()
	close(out.writes)
	var got []string
	for lines := range out.writes {
		if lines != "" {
			got = append(got, lines)
		}
	}
	if len(got) != 1 || got[0] != want.String()+"last\n" {
		t.Errorf("%d writes: %.100q", len(got), got)
	}
}
