// Package sanitize cleans text that came from outside: names of tokens and people, labels, the error
// messages of vendors, and what callers type. Such text can carry instructions to a model, control
// sequences to a terminal, and pasted credentials.
//
// What is removed shows nothing, or does more than show a letter: see [Text]. [Name] and [Message]
// also take what would fake the end of a quotation or a turn of a conversation (see unfence), and
// mask credentials. Words are never judged: "ignore previous instructions" stays, as the text that
// it is. It stands in a field of its own, or in a sentence within quotes that it cannot end: [Quote].
//
// Letters of every script stay, with their marks. The joiners between letters (ZWJ, ZWNJ), which
// Persian and the scripts of India use, go all the same: they are not seen where they change nothing,
// so two names that look alike could differ by them, and a text could hide in them. So a name in
// Hindi or Persian keeps each letter, may show another form of one, and is flagged. Joined emoji
// show side by side, a flag made of tags as its black flag. An altered name is a name to look at:
// tokens are chosen by id.
package sanitize

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"strconv"
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

// Name cleans the name of a token, a person or a label: [Text] with [MaxName], without fences, and
// credentials that were pasted into it are replaced by "[redacted]". altered reports whether the
// result differs from s.
func Name(s string) (clean string, altered bool) {
	clean = masked(s, MaxName)
	return clean, clean != s
}

// Message cleans a vendor's error message, or any other longer text: [Text] with [MaxMessage],
// without fences, and what has the shape of a credential is replaced by "[redacted]".
func Message(s string) string { return masked(s, MaxMessage) }

// ID returns an id, or another word that programs compare, as it is where it is clean. One that
// [Message] would alter becomes a digest: different ids must stay different, which cleaned text does
// not.
func ID(s string) string {
	if Message(s) == s {
		return s
	}
	sum := sha256.Sum256([]byte(s))
	return "sha256:" + hex.EncodeToString(sum[:8])
}

// JSON returns a JSON value as text without the escapes that it does not need: else they would hide
// from cleaning what they stand for. It does not clean. What is not JSON is returned as it is.
func JSON(data []byte) string {
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.UseNumber()
	var value any
	if decoder.Decode(&value) != nil {
		return string(data)
	}
	var b strings.Builder
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	if encoder.Encode(value) != nil {
		return string(data)
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// Quote puts a clean text into double quotes that nothing in it can end: a double quote within is
// written \", and what looks like one becomes '. It is for text from outside in a sentence of ours.
func Quote(clean string) string {
	return strconv.Quote(strings.Map(func(r rune) rune {
		if looksLikeQuote(r) {
			return '\''
		}
		return r
	}, clean))
}

// looksLikeQuote reports whether r is a quotation mark beyond ASCII, or looks like a double one.
func looksLikeQuote(r rune) bool {
	switch r {
	case 'ʺ', '˝', 'ˮ', '״', '″', '‴', '‶', '‷', '❝', '❞':
		return true
	}
	return r > unicode.MaxASCII && unicode.Is(unicode.Quotation_Mark, r)
}

func masked(s string, limit int) string {
	clean, seen := s, survey(s)
	if !seen.plain || len(s) > limit {
		var altered bool
		if clean, altered = Text(s, limit+lookahead); altered {
			seen = survey(clean)
		}
	}
	if seen.credential {
		clean = redact(clean)
	}
	if seen.fence {
		clean = unfence(clean)
	}
	if len(clean) > limit {
		clean, _ = Text(clean, limit)
	}
	return clean
}

// traits is what one look at a text tells of it.
type traits struct {
	plain      bool // printable ASCII, with single spaces inside only: most names are
	fence      bool // there may be one
	credential bool // there may be one
}

func survey(s string) traits {
	t := traits{plain: true}
	space, run := true, 0 // a space, or a run of what credentials are made of, ends here
	for i := range len(s) {
		b := s[i]
		if isRun(b) {
			run++
			t.credential = t.credential || run == minCredential
			t.fence = t.fence || b == '~'
			space = false
			continue
		}
		if run == len("basic") || run == len("bearer") {
			t.credential = t.credential || s[i-run]|0x20 == 'b'
		}
		run = 0
		switch b {
		case ' ':
			t.plain = t.plain && !space
		case '`', '<', '>':
			t.fence = true
		}
		t.plain = t.plain && b >= ' ' && b <= '~'
		space = b == ' '
	}
	t.plain = t.plain && (s == "" || !space)
	return t
}

// unfence takes from a clean text what could pass for the end of the place where it stands, or for
// the turn of another speaker: of three backticks or tildes one is left, of "</", "<|", "<!", "|>"
// and "]]>" what makes them so goes.
func unfence(s string) string {
	out := make([]byte, 0, len(s))
	for i := range len(s) {
		b, last := s[i], byte(0)
		if len(out) > 0 {
			last = out[len(out)-1]
		}
		switch {
		case (b == '`' || b == '~') && last == b && len(out) > 1 && out[len(out)-2] == b:
			out = out[:len(out)-1] // three are one
			continue
		case (b == '/' || b == '|' || b == '!') && last == '<':
			continue
		case b == '>':
			out = bytes.TrimRight(out, "|")
			for bytes.HasSuffix(out, []byte("]]")) {
				out = out[:len(out)-1]
			}
		}
		out = append(out, b)
	}
	return string(out)
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
	letter := r > unicode.MaxASCII && unicode.IsLetter(r)
	mark := r > unicode.MaxASCII && !letter && unicode.Is(unicode.M, r)
	if c.drops(r, letter, mark) {
		return true
	}
	if c.space && !c.put(' ', false) {
		return false
	}
	c.space = false
	return c.put(r, mark)
}

func (c *cleaner) drops(r rune, letter, mark bool) bool {
	switch {
	case r > ' ' && r <= '~':
		return false
	case letter:
		return isBlank(r)
	case !mark:
		return !unicode.IsGraphic(r) || isBlank(r)
	case unicode.Is(unicode.Variation_Selector, r): // each is a mark
		return !c.takesSelector(r)
	default:
		return c.runes == 0 || (c.marks >= maxMarks && !c.space) || isBlank(r)
	}
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
		if end := keyEnd(s, i); end > i {
			out.WriteString(s[kept:i])
			out.WriteString(mask)
			kept, before, i = end, "", end
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
