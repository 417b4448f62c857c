package tools

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/tokenreeve/tokenreeve/internal/sanitize"
)

// clean makes a caller's text fit to be shown back.
func clean(s string) string { return sanitize.Message(s) }

// cleanAll makes a caller's texts fit to be shown back.
func cleanAll(texts []string) []string {
	cleaned := make([]string, len(texts))
	for i, text := range texts {
		cleaned[i] = clean(text)
	}
	return cleaned
}

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

// tokensOf estimates how many tokens a language model reads of JSON text.
func tokensOf(text string) int {
	g := newGauge()
	return g.tokensOf([]byte(text))
}

// gauge estimates how many tokens a language model (o200k) reads of JSON text. It
// errs upwards, also where text was made to cost much: common words cost half of
// what this says, random ids and rare letters nearly all of it. It is made once
// for many texts.
type gauge [utf8.RuneSelf]uint8 // percent of a token, by ASCII character

func newGauge() (g gauge) {
	for b := range g {
		g[b] = percentOfASCII(byte(b))
	}
	return g
}

func (g *gauge) tokensOf(text []byte) int {
	percent := 0
	for i := 0; i < len(text); {
		if b := text[i]; b < utf8.RuneSelf {
			percent += int(g[b])
			i++
			continue
		}
		r, size := utf8.DecodeRune(text[i:])
		percent += percentOfRune(r, size)
		i += size
	}
	return percent / 100
}

func percentOfASCII(b byte) uint8 {
	switch b {
	case 'j', 'k', 'q', 'v', 'w', 'x', 'z', 'J', 'K', 'Q', 'V', 'W', 'X', 'Z':
		return 80
	case '"', ' ', ',', ':':
		return 30
	case '-', '_', '.', '@', '/':
		return 50
	}
	switch {
	case 'a' <= b && b <= 'z':
		return 45
	case 'A' <= b && b <= 'Z':
		return 70
	case '0' <= b && b <= '9':
		return 65
	default:
		return 100
	}
}

// percentOfRune knows the common letters of some scripts. No letter is more
// tokens than it has bytes.
func percentOfRune(r rune, size int) int {
	switch {
	case 'À' <= r && r <= 'ÿ', 'А' <= r && r <= 'я', 'א' <= r && r <= 'ת':
		return 110
	case 'Α' <= r && r <= 'ω', 'ء' <= r && r <= 'ي', 'ぁ' <= r && r <= 'ヾ':
		return 150
	default:
		return 100 * size
	}
}

// fitting returns as many of the words as fit into so many tokens of a language
// model, and says how many it left out.
func fitting(words []string, most int) []string {
	g := newGauge()
	for i, w := range words {
		if most -= g.tokensOf([]byte(w)) + 1; most < 0 {
			return append(slices.Clone(words[:i]), fmt.Sprintf("… and %d more", len(words)-i))
		}
	}
	return words
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
	return sanitize.Quote(name)
}

// plural writes a number with the noun that fits it.
func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return strconv.Itoa(n) + " " + many
}
