package cli

import (
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// plain returns a writer to w for text that people read. What could do more to a terminal than show
// letters is left out: control characters but for newline and tab, bidirectional and zero-width
// characters, tags, private use, and marks that would cover other lines. Each byte that is not UTF-8
// becomes U+FFFD.
func plain(w io.Writer) io.Writer {
	return &cleaner{out: w, hide: func(to []byte, _ rune) []byte { return to }}
}

// plainJSON returns a writer to w for JSON. What [plain] leaves out becomes an escape such as \u001b,
// so that programs read the same text.
func plainJSON(w io.Writer) io.Writer { return &cleaner{out: w, hide: appendEscape} }

// cleaner hides what is not shown. A character may come in two writes.
type cleaner struct {
	out   io.Writer
	hide  func(to []byte, r rune) []byte // appends what stands in place of r
	rest  []byte                         // the beginning of a character
	marks int                            // in a row
}

// maxMarks is how many combining marks a letter of any language has at most.
const maxMarks = 4

// Write implements io.Writer.
func (c *cleaner) Write(p []byte) (int, error) {
	data := append(c.rest, p...)
	clean := make([]byte, 0, len(data))
	for len(data) > 0 && utf8.FullRune(data) {
		r, size := utf8.DecodeRune(data)
		data = data[size:]
		if c.marks++; !unicode.Is(unicode.M, r) {
			c.marks = 0
		}
		if r == '\n' || r == '\t' || isShown(r) && c.marks <= maxMarks {
			clean = utf8.AppendRune(clean, r)
		} else {
			clean = c.hide(clean, r)
		}
	}
	c.rest = append([]byte(nil), data...)
	if _, err := c.out.Write(clean); err != nil {
		return 0, err
	}
	return len(p), nil
}

func appendEscape(to []byte, r rune) []byte {
	if high, low := utf16.EncodeRune(r); high != unicode.ReplacementChar {
		return fmt.Appendf(to, `\u%04x\u%04x`, high, low)
	}
	return fmt.Appendf(to, `\u%04x`, r)
}

// oneLine keeps a text in its line and column: white space of every kind becomes a space, and what
// plain leaves out is left out.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r):
			return ' '
		case isShown(r):
			return r
		}
		return -1
	}, s)
}

// isShown reports whether r shows something and does nothing else. The letters that Unicode calls
// ignorable show nothing, and of the variation selectors only those of emoji do.
func isShown(r rune) bool {
	switch {
	case r == 0xFE0E || r == 0xFE0F:
		return true
	case r == '\u2800' || unicode.In(r, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector):
		return false
	}
	return unicode.IsGraphic(r)
}
