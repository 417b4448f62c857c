package config

import (
	"fmt"
	"strings"
)

// maxProblems caps what an error shows: the rest is most likely the same mistake again.
const maxProblems = 50

// Problem is one thing that is wrong with the configuration.
type Problem struct {
	// Place is a path in config.json such as connections.acme.org_id, a position in it, an
	// environment variable, or a flag.
	Place string
	// Text says what is wrong and what is valid. It never quotes a credential.
	Text string
}

// String returns the place and the text.
func (p Problem) String() string { return p.Place + ": " + p.Text }

// Problems is the error of Load: everything that is wrong with the configuration.
type Problems struct {
	// File is the configuration file that was read, empty where there was none.
	File string
	// List holds one problem or more, one for a place.
	List []Problem
}

// Error returns one line for each problem, at most 50.
func (p *Problems) Error() string {
	var b strings.Builder
	b.WriteString("the configuration has ")
	if len(p.List) == 1 {
		b.WriteString("a problem")
	} else {
		fmt.Fprintf(&b, "%d problems", len(p.List))
	}
	if p.File != "" {
		fmt.Fprintf(&b, " (file %s)", p.File)
	}
	b.WriteString(":")
	for _, problem := range p.List[:min(len(p.List), maxProblems)] {
		b.WriteString("\n  " + problem.String())
	}
	if len(p.List) > maxProblems {
		fmt.Fprintf(&b, "\n  and %d more", len(p.List)-maxProblems)
	}
	return b.String()
}

// report gathers problems, the first of each place: what follows from it would only confuse.
type report struct {
	list []Problem
	at   places
}

func (r *report) add(place, format string, args ...any) {
	if r.at[place] {
		return
	}
	r.at[place] = true
	r.list = append(r.list, Problem{Place: place, Text: fmt.Sprintf(format, args...)})
}
