package tools

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/tokenreeve/tokenreeve/internal/sanitize"
)

// maxArguments bounds the arguments of one call, in bytes.
const maxArguments = 256 << 10

// maxList bounds a list that sets no maxItems of its own.
const maxList = 100

// jsonText is an argument that is itself JSON: sent as text, or as it is.
type jsonText string

// confirmCode is a confirm code. Any JSON value is taken: what is not a code
// gets the preview again.
type confirmCode string

// decode reads a call's arguments into a struct whose tags also make the input
// schema. It is strict (an unknown name is refused and the right one named, a
// dropped "confrim" would be a deletion) and forgives only what cannot be
// misread: a number or boolean in quotes, a number for an id, one value where a
// list is due. arguments are those of In.
func decode[In any](raw json.RawMessage, arguments []argument) (In, error) {
	var in In
	members, err := membersOf(raw)
	if err != nil {
		return in, err
	}
	target := reflect.ValueOf(&in).Elem()
	for _, m := range members {
		i := slices.IndexFunc(arguments, func(a argument) bool { return a.name == m.name })
		if i < 0 {
			return in, unknownArgument(m.name, arguments)
		}
		if err := arguments[i].set(target.Field(arguments[i].field), m.value); err != nil {
			return in, err
		}
	}
	for _, a := range arguments {
		if a.required && !slices.ContainsFunc(members, func(m member) bool { return m.name == a.name }) {
			return in, &Problem{Code: "missing_argument", Message: "argument " + a.name + " is missing", Next: "add " + a.name + ": " + a.description}
		}
	}
	return in, nil
}

type member struct {
	name  string
	value json.RawMessage
}

// membersOf reads a JSON object's members in their order. null values count as
// left out.
func membersOf(raw json.RawMessage) ([]member, error) {
	if len(bytes.TrimSpace(raw)) == 0 || string(bytes.TrimSpace(raw)) == "null" {
		return nil, nil
	}
	if len(raw) > maxArguments {
		return nil, &Problem{Code: "invalid_argument", Message: fmt.Sprintf("the arguments are longer than %d bytes", maxArguments), Next: "give fewer or shorter ones"}
	}
	decoder := json.NewDecoder(bytes.NewReader(raw))
	malformed := &Problem{Code: "invalid_argument", Message: "the arguments are not a JSON object", Next: "give one object with the arguments by name"}
	if token, err := decoder.Token(); err != nil || token != json.Delim('{') {
		return nil, malformed
	}
	var members []member
	names := map[string]bool{}
	for decoder.More() {
		token, err := decoder.Token()
		name, ok := token.(string)
		if err != nil || !ok {
			return nil, malformed
		}
		var value json.RawMessage
		if err := decoder.Decode(&value); err != nil {
			return nil, malformed
		}
		if names[name] {
			return nil, &Problem{Code: "invalid_argument", Message: fmt.Sprintf("argument %q stands twice", sanitize.Message(name)), Next: "give it once"}
		}
		names[name] = true
		if string(value) != "null" {
			members = append(members, member{name, value})
		}
	}
	return members, nil
}

// argument is one field of an arguments struct.
type argument struct {
	name        string
	field       int
	required    bool
	description string
	enum        []string
	minimum     int
	maximum     int
	maxItems    int
}

// argumentsOf reads the fields' tags.
func argumentsOf(t reflect.Type) []argument {
	arguments := make([]argument, 0, t.NumField())
	for i := range t.NumField() {
		field := t.Field(i)
		name, options, _ := strings.Cut(field.Tag.Get("json"), ",")
		a := argument{
			name: name, field: i, maxItems: maxList,
			required:    !strings.Contains(options, "omitempty"),
			description: field.Tag.Get("jsonschema_description"),
		}
		if words := field.Tag.Get("enum"); words != "" { // a list that another tool's schema spells out
			a.enum = strings.Split(words, ",")
		}
		for _, rule := range strings.Split(field.Tag.Get("jsonschema"), ",") {
			key, value, _ := strings.Cut(rule, "=")
			number, _ := strconv.Atoi(value)
			switch key {
			case "enum":
				if value != connectionsEnum { // Call.connection judges connection names
					a.enum = append(a.enum, value)
				}
			case "minimum":
				a.minimum = number
			case "maximum":
				a.maximum = number
			case "maxItems":
				a.maxItems = number
			}
		}
		arguments = append(arguments, a)
	}
	return arguments
}

func (a argument) wrong(want string) error {
	return &Problem{Code: "invalid_argument", Message: fmt.Sprintf("argument %s must be %s", a.name, want), Next: a.description}
}

// set stores a JSON value in the argument's field.
func (a argument) set(field reflect.Value, raw json.RawMessage) error {
	switch target := field.Addr().Interface().(type) {
	case *confirmCode:
		text, ok := scalarText(raw)
		if !ok {
			text = string(raw)
		}
		*target = confirmCode(text)
		return nil
	case *jsonText:
		var text string
		if json.Unmarshal(raw, &text) != nil {
			text = string(raw)
		}
		if strings.TrimSpace(text) == "" {
			return a.empty()
		}
		*target = jsonText(text)
		return nil
	case *[]string:
		return a.setList(target, raw)
	case *[]permissionArgument:
		return a.setPermissions(target, raw)
	}
	return a.setScalar(field, raw)
}

func (a argument) setScalar(field reflect.Value, raw json.RawMessage) error {
	text, ok := scalarText(raw)
	switch field.Kind() {
	case reflect.String:
		if !ok {
			return a.wrong("a string")
		}
		text, err := a.checkText(text)
		if err != nil {
			return err
		}
		field.SetString(text)
	case reflect.Int:
		number, err := strconv.Atoi(text)
		if !ok || err != nil {
			return a.wrong("a whole number")
		}
		if a.maximum != 0 && (number < a.minimum || number > a.maximum) {
			return a.wrong(fmt.Sprintf("between %d and %d", a.minimum, a.maximum))
		}
		field.SetInt(int64(number))
	case reflect.Bool:
		if text != "true" && text != "false" {
			return a.wrong("true or false")
		}
		field.SetBool(text == "true")
	default:
		return fmt.Errorf("argument %s has a type that decode does not know", a.name)
	}
	return nil
}

func (a argument) empty() error {
	next := "leave " + a.name + " out, or give "
	if a.required {
		next = "give "
	}
	return &Problem{Code: "invalid_argument", Message: "argument " + a.name + " is empty", Next: next + a.description}
}

func (a argument) checkText(text string) (string, error) {
	if text == "" {
		return "", a.empty()
	}
	if len(a.enum) > 0 && !slices.Contains(a.enum, text) {
		return "", &Problem{
			Code: "invalid_argument", Valid: a.enum,
			Message: fmt.Sprintf("argument %s cannot be %q", a.name, sanitize.Message(text)),
		}
	}
	return text, nil
}

func (a argument) setList(target *[]string, raw json.RawMessage) error {
	var elements []json.RawMessage
	if json.Unmarshal(raw, &elements) != nil {
		elements = listFromText(raw)
	}
	if len(elements) == 0 {
		return a.empty()
	}
	if len(elements) > a.maxItems {
		return a.wrong(fmt.Sprintf("a list of at most %d", a.maxItems))
	}
	for _, element := range elements {
		text, ok := scalarText(element)
		if !ok {
			return a.wrong("a list of strings")
		}
		text, err := a.checkText(text)
		if err != nil {
			return err
		}
		if !slices.Contains(*target, text) {
			*target = append(*target, text)
		}
	}
	return nil
}

// listFromText takes one value for a list of one, and a list that a model put
// into quotes for the list.
func listFromText(raw json.RawMessage) []json.RawMessage {
	var text string
	if json.Unmarshal(raw, &text) == nil && strings.HasPrefix(strings.TrimSpace(text), "[") {
		var elements []json.RawMessage
		if json.Unmarshal([]byte(text), &elements) == nil {
			return elements
		}
	}
	return []json.RawMessage{raw}
}

func (a argument) setPermissions(target *[]permissionArgument, raw json.RawMessage) error {
	var elements []json.RawMessage
	if json.Unmarshal(raw, &elements) != nil {
		elements = listFromText(raw)
	}
	if len(elements) == 0 {
		return a.empty()
	}
	if len(elements) > a.maxItems {
		return a.wrong(fmt.Sprintf("a list of at most %d", a.maxItems))
	}
	arguments := argumentsOf(reflect.TypeFor[permissionArgument]())
	for _, element := range elements {
		permission, err := decode[permissionArgument](element, arguments)
		if err != nil {
			return fmt.Errorf("argument %s: %w", a.name, err)
		}
		*target = append(*target, permission)
	}
	return nil
}

// scalarText returns a string, number or boolean as text.
func scalarText(raw json.RawMessage) (string, bool) {
	var text string
	if json.Unmarshal(raw, &text) == nil {
		return text, true
	}
	var number json.Number
	if json.Unmarshal(raw, &number) == nil {
		return number.String(), true
	}
	if s := string(raw); s == "true" || s == "false" {
		return s, true
	}
	return "", false
}

func unknownArgument(name string, arguments []argument) error {
	names := make([]string, len(arguments))
	for i, a := range arguments {
		names[i] = a.name
	}
	p := &Problem{Code: "unknown_argument", Valid: names, Message: fmt.Sprintf("there is no argument %q", sanitize.Message(name))}
	if len(names) == 0 {
		p.Next = "call it without arguments"
	} else if close := nearest(name, names); close != "" {
		p.Next = "did you mean " + close + "?"
	}
	return p
}

// nearest returns the name that differs least, or "" where none is near.
func nearest(name string, names []string) string {
	best, distance := "", 1+max(2, len(name)/3)
	for _, candidate := range names {
		if d := editDistance(strings.ToLower(name), candidate); d < distance {
			best, distance = candidate, d
		}
	}
	return best
}

// editDistance counts the letters to insert, remove or change.
func editDistance(a, b string) int {
	if len(a) > 64 {
		return len(a)
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}
