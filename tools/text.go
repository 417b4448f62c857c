package tools

import (
	"slices"
	"strconv"
	"strings"

	"github.com/tokenreeve/tokenreeve/internal/sanitize"
)

// clean makes a caller's text fit to be shown back.
func clean(s string) string { return sanitize.Message(s) }

// joinWords writes a list: "a", "a and b", "a, b and c".
func joinWords(words []string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	return strings.Join(words[:len(words)-1], ", ") + " and " + words[len(words)-1]
}

// unique returns the words once each, in the order of their first use.
func unique(words []string) []string {
	var once []string
	for _, w := range words {
		if !slices.Contains(once, w) {
			once = append(once, w)
		}
	}
	return once
}

// tokensOf estimates how many tokens a language model reads of JSON text. It
// errs upwards: ids and dates come to some 2.2 bytes a token, a letter outside
// ASCII to at most 1.5 tokens.
func tokensOf(text []byte) int {
	ascii, other := 0, 0
	for _, r := range string(text) {
		if r < 0x80 {
			ascii++
		} else {
			other++
		}
	}
	return ascii*10/22 + other*3/2
}

// joinSteps writes numbered steps in one line.
func joinSteps(steps []string) string {
	var b strings.Builder
	for i, step := range steps {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(strconv.Itoa(i+1) + ". " + step)
	}
	return b.String()
}

// quoted writes outside text so that its end is plain to see.
func quoted(s string) string {
	name, _ := sanitize.Name(s)
	return strconv.Quote(name)
}

// plural writes a number with the noun that fits it.
func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return strconv.Itoa(n) + " " + many
}
