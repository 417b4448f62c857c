package launchdarkly

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strconv"
	"strings"
	"unicode"

	"github.com/tokenreeve/tokenreeve/internal/sanitize"
)

// Statement is one statement of an inline role: it allows or denies actions on
// resources. Exactly one of Resources and NotResources is set, and exactly one
// of Actions and NotActions.
type Statement struct {
	Effect       string   `json:"effect"`                 // "allow" or "deny"
	Resources    []string `json:"resources,omitempty"`    // such as "proj/*:env/*:flag/*"
	NotResources []string `json:"notResources,omitempty"` // all resources but these
	Actions      []string `json:"actions,omitempty"`      // such as "viewProject" or "*"
	NotActions   []string `json:"notActions,omitempty"`   // all actions but these
}

// The bounds of a policy; the vendor publishes none.
const (
	maxStatements = 100
	maxEntries    = 200 // in one list of a statement
	maxEntry      = 500 // bytes of one resource or action
)

// ParseStatements reads an inline role from the JSON text of a list of
// statements, strictly: an unknown member is an error. Its errors have
// CodeInvalidArgument.
func ParseStatements(text string) ([]Statement, error) {
	return parseStatements("inline_role", []byte(text))
}

func parseStatements(where string, text []byte) ([]Statement, error) {
	var raw []json.RawMessage
	if err := strict(text, &raw); err != nil || raw == nil {
		return nil, invalid(`%s is not a JSON list of statements; valid is for example [{"effect":"allow","resources":["proj/*"],"actions":["viewProject"]}]`, where)
	}
	statements := make([]Statement, len(raw))
	for i, r := range raw {
		if !isObject(r) {
			return nil, invalid("%s: statement %d is not an object", where, i+1)
		}
		if err := strict(r, &statements[i]); err != nil {
			return nil, invalid("%s: statement %d: %s; the members are effect, resources or notResources, actions or notActions (lists of strings)",
				where, i+1, jsonFault(err))
		}
	}
	if err := checkStatements(where, statements); err != nil {
		return nil, err
	}
	return statements, nil
}

func checkStatements(where string, statements []Statement) error {
	if len(statements) == 0 || len(statements) > maxStatements {
		return invalid("%s has %d statements; valid is 1 to %d", where, len(statements), maxStatements)
	}
	for i, s := range statements {
		if problem := s.problem(); problem != "" {
			return invalid("%s: statement %d: %s", where, i+1, problem)
		}
	}
	return nil
}

// problem says what is wrong with the statement, or "".
func (s Statement) problem() string {
	switch {
	case s.Effect != "allow" && s.Effect != "deny":
		return `effect is "` + quotable(s.Effect) + `"; valid are allow and deny`
	case (len(s.Resources) > 0) == (len(s.NotResources) > 0):
		return "exactly one of resources and notResources must be set and hold at least one entry"
	case (len(s.Actions) > 0) == (len(s.NotActions) > 0):
		return "exactly one of actions and notActions must be set and hold at least one entry"
	}
	for _, list := range [...][]string{s.Resources, s.NotResources, s.Actions, s.NotActions} {
		if len(list) > maxEntries {
			return "a list has more than 200 entries"
		}
		for _, entry := range list {
			if _, altered := sanitize.Text(entry, maxEntry); altered || entry == "" {
				return `"` + quotable(entry) + `" is no resource or action: it is empty, longer than 500 characters, or holds spaces at its ends or characters that are not shown`
			}
		}
	}
	return ""
}

// String renders the statement for people, as in "allow viewProject on proj/*".
// It does not clean what came from outside.
func (s Statement) String() string {
	return word(s.Effect) + " " + renderList(s.Actions, s.NotActions, "every action") + " on " + renderList(s.Resources, s.NotResources, "every resource")
}

func renderList(these, but []string, every string) string {
	if len(but) > 0 {
		return every + " but " + joinWords(but)
	}
	if len(these) == 0 {
		return "nothing"
	}
	return joinWords(these)
}

func joinWords(entries []string) string {
	words := make([]string, len(entries))
	for i, entry := range entries {
		words[i] = word(entry)
	}
	return strings.Join(words, ", ")
}

// word returns what is one word in a sentence: an entry of a policy can hold a whole
// sentence, which then stands in quotes. It does not clean.
func word(entry string) string {
	if !strings.ContainsFunc(entry, unicode.IsSpace) {
		return entry
	}
	return `"` + strings.ReplaceAll(entry, `"`, "'") + `"`
}

// strict decodes one JSON value and nothing after it, without unknown members.
func strict(text []byte, out any) error {
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(out); err != nil {
		return err
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return errors.New("something follows after its end")
	}
	return nil
}

// jsonFault says what is wrong with a caller's JSON.
func jsonFault(err error) string {
	var typeError *json.UnmarshalTypeError
	if errors.As(err, &typeError) {
		return quotable(typeError.Field) + " has the wrong type"
	}
	if quoted, ok := strings.CutPrefix(err.Error(), "json: unknown field "); ok {
		if field, err := strconv.Unquote(quoted); err == nil {
			return "unknown field " + sanitize.Quote(quotable(field))
		}
	}
	return quotable(strings.TrimPrefix(err.Error(), "json: "))
}

func isObject(raw json.RawMessage) bool {
	trimmed := bytes.TrimLeft(raw, " \t\r\n")
	return len(trimmed) > 0 && trimmed[0] == '{'
}
