// Package sanitize cleans text that came from outside: names of tokens and people, labels, and the
// error messages of vendors. Such text can carry instructions to a model, control sequences to a
// terminal, and pasted credentials.
package sanitize

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	// MaxName caps a name, in runes.
	MaxName = 120
	// MaxMessage caps a vendor's error message, in runes.
	MaxMessage = 300

	// maxMarks caps the combining marks in a row: more are never a letter of any language.
	maxMarks = 4
	// lookahead is how many runes past the cap are searched for credentials, so that one which
	// the cap would cut in two is still recognised by its shape.
	lookahead = 1024

	ellipsis = "…"
)

// Text cleans s for a model and a terminal and caps it at limit runes.
//
// White space of every kind, line breaks included, becomes a single space and is trimmed at both
// ends. Removed are: control and format characters (bidirectional marks, zero-width characters, tag
// characters), private use, unassigned code points and noncharacters, blank letters and other
// characters that show nothing, variation selectors (but for one emoji or text selector after a
// symbol), combining marks at the start and beyond four in a row. Each byte that is not UTF-8
// becomes U+FFFD. What is longer than limit ends in "…", which counts. A limit below 1 gives "".
//
// altered reports whether clean differs from s. Text(clean, limit) gives clean again.
func Text(s string, limit int) (clean string, altered bool) {
	if isPlain(s, limit) {
		return s, false
	}
	c := cleaner{src: s, limit: limit}
	for _, r := range s {
		if !c.add(r) {
			clean = c.truncated()
			return clean, clean != s
		}
	}
	clean = c.text()
	return clean, clean != s
}

// Name cleans the name of a token, a person or a label: [Text] with [MaxName], and credentials that
// were pasted into it are replaced by "[redacted]". altered reports whether the result differs from s.
func Name(s string) (clean string, altered bool) {
	clean = redacted(s, MaxName)
	return clean, clean != s
}

// Message cleans a vendor's error message: [Text] with [MaxMessage], and what has the shape of a
// credential is replaced by "[redacted]".
func Message(s string) string { return redacted(s, MaxMessage) }

func redacted(s string, limit int) string {
	clean, _ := Text(s, limit+lookahead)
	if clean = redact(clean); len(clean) <= limit {
		return clean
	}
	clean, _ = Text(clean, limit)
	return clean
}

// isPlain reports whether s is printable ASCII, within limit, with single spaces inside only: most
// names are, and they need no work.
func isPlain(s string, limit int) bool {
	if len(s) > limit {
		return false
	}
	space := true
	for i := range len(s) {
		b := s[i]
		if b < ' ' || b > '~' || (b == ' ' && space) {
			return false
		}
		space = b == ' '
	}
	return s == "" || !space
}

// cleaner builds the clean text. What it decides depends on the text so far and never on what it
// removed: that makes cleaning idempotent.
type cleaner struct {
	src   string
	same  int    // bytes at the start of src that the text so far equals, while out is nil
	out   []byte // the text so far, once it differs from src
	limit int
	runes int  // in the text so far
	marks int  // combining marks at its end
	last  rune // at its end
	space bool // a space is due before the next rune
}

func (c *cleaner) text() string {
	if c.out == nil {
		return c.src[:c.same]
	}
	return string(c.out)
}

// add takes the next rune; it reports false when the limit leaves no room for it.
func (c *cleaner) add(r rune) bool {
	if unicode.IsSpace(r) {
		c.space = c.runes > 0
		return true
	}
	mark := r > unicode.MaxASCII && unicode.Is(unicode.M, r)
	if c.drops(r, mark) {
		return true
	}
	if c.space && !c.put(' ', false) {
		return false
	}
	c.space = false
	return c.put(r, mark)
}

func (c *cleaner) drops(r rune, mark bool) bool {
	if r > ' ' && r <= '~' {
		return false
	}
	if unicode.Is(unicode.Variation_Selector, r) {
		return !c.takesSelector(r)
	}
	if mark {
		return c.runes == 0 || (c.marks >= maxMarks && !c.space) || isBlank(r)
	}
	return !unicode.IsGraphic(r) || isBlank(r)
}

// takesSelector reports whether r chooses how the symbol just before it is drawn. A second selector,
// or one after a letter, shows nothing and can carry hidden text.
func (c *cleaner) takesSelector(r rune) bool {
	if c.space || (r != 0xFE0E && r != 0xFE0F) {
		return false
	}
	return c.last > unicode.MaxLatin1 && unicode.In(c.last, unicode.So, unicode.Sm) || c.last == '©' || c.last == '®'
}

func (c *cleaner) put(r rune, mark bool) bool {
	if c.runes >= c.limit {
		return false
	}
	c.append(r)
	c.runes++
	c.last = r
	if mark {
		c.marks++
	} else {
		c.marks = 0
	}
	return true
}

// append copies only from the first difference on, so that clean text costs no allocation.
func (c *cleaner) append(r rune) {
	if c.out == nil {
		next, size := utf8.DecodeRuneInString(c.src[c.same:])
		valid := next != utf8.RuneError || size > 1
		if next == r && valid {
			c.same += size
			return
		}
		c.out = append(make([]byte, 0, c.same+64), c.src[:c.same]...)
	}
	c.out = utf8.AppendRune(c.out, r)
}

// truncated returns the text with the ellipsis, and with room made for it.
func (c *cleaner) truncated() string {
	if c.limit < 1 {
		return ""
	}
	text := c.text()
	if c.runes == c.limit {
		_, size := utf8.DecodeLastRuneInString(text)
		text = text[:len(text)-size]
	}
	return strings.TrimSuffix(text, " ") + ellipsis
}

// isBlank reports whether r counts as graphic for Unicode but shows nothing: the Hangul fillers,
// the combining grapheme joiner, the empty braille pattern, the null notehead.
func isBlank(r rune) bool {
	return r == 0x2800 || r == 0x1D159 || unicode.Is(unicode.Other_Default_Ignorable_Code_Point, r)
}

// redact replaces what has the shape of a credential. s must be clean: a zero-width character would
// hide the shape.
func redact(s string) string {
	var out strings.Builder
	kept, before := 0, ""
	for i := 0; i < len(s); {
		if !isRun(s[i]) {
			if !isGlue(s[i]) {
				before = ""
			}
			i++
			continue
		}
		end := runEnd(s, i)
		run := strings.TrimRight(s[i:end], ".")
		stop := i + len(run)
		if isCredential(run) || follows(before, run, strings.HasPrefix(s[stop:], "=")) {
			out.WriteString(s[kept:i])
			out.WriteString(mask)
			kept = tailEnd(s, stop)
			end = kept
		}
		before, i = run, end
	}
	if kept == 0 {
		return s
	}
	out.WriteString(s[kept:])
	return out.String()
}
