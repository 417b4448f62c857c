package cli

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"
)

// Whatever is written, in however many pieces, a terminal gets letters only, and a JSON parser the
// same text.
func TestPlain(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ in, want string }{
		"letters":             {"Zoë\t☕️\ncafe\u0301 日本", "Zoë\t☕️\ncafe\u0301 日本"},
		"escape sequences":    {"\x1b[31mred\x1b]0;t\x07", "[31mred]0;t"},
		"C1":                  {"a\u009b31mb\u0085c", "a31mbc"},
		"carriage return":     {"safe\rspoof\b\v\f\x7f\x00", "safespoof"},
		"bidirectional":       {"a\u202eb\u2066c\u200fd", "abcd"},
		"zero width":          {"a\u200bb\u200dc\ufeffd", "abcd"},
		"separators":          {"a\u2028b\u2029c", "abc"},
		"tags":                {"a\U000e0041b", "ab"},
		"private use":         {"a\ue000b\U00100000c", "abc"},
		"blank letters":       {"a\u3164b\u034fc\u2800d", "abcd"},
		"marks":               {"a" + strings.Repeat("\u0301", 9) + "b\u0301", "a\u0301\u0301\u0301\u0301b\u0301"},
		"selectors":           {"a\U000E0101b\ufe01c\u180bd", "abcd"},
		"not UTF-8":           {"a\x9b31m\xffb", "a�31m�b"},
		"a character cut off": {"a\xe2\x80", "a"},
		"nothing":             {"", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, size := range []int{1, 2, 3, len(test.in) + 1} {
				if got := written(t, test.in, size, false); got != test.want {
					t.Errorf("in pieces of %d: %q, want %q", size, got, test.want)
				}
			}
			if !utf8.ValidString(test.in) {
				return
			}
			value := `"` + strings.NewReplacer("\n", `\n`, "\t", `\t`).Replace(test.in) + `"`
			got := written(t, value, 1, true)
			var text string
			if err := json.Unmarshal([]byte(got), &text); err != nil {
				t.Fatal(err)
			}
			if text != test.in {
				t.Errorf("as JSON: %q, want %q", text, test.in)
			}
			if written(t, got, 1, false) != got {
				t.Errorf("as JSON: %q is not plain", got)
			}
		})
	}
}

func written(t *testing.T, text string, size int, asJSON bool) string {
	t.Helper()
	var b bytes.Buffer
	w := plain(&b)
	if asJSON {
		w = plainJSON(&b)
	}
	for rest := []byte(text); len(rest) > 0; {
		piece := rest[:min(size, len(rest))]
		rest = rest[len(piece):]
		n, err := w.Write(piece)
		if err != nil || n != len(piece) {
			t.Fatalf("wrote %d of %d: %v", n, len(piece), err)
		}
		clear(piece) // the caller's again
	}
	return b.String()
}

func TestOneLine(t *testing.T) {
	t.Parallel()
	const hostile = "a\nb\tc\x1bd\u2028e\x85f\u202eg\r"
	if got, want := oneLine(hostile), "a b cd e�fg "; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
