package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/tokenreeve/tokenreeve/auth"
)

// maxDepth is more than the depth of the deepest member.
const maxDepth = 8

// places are the members that stand in the file, by their paths.
type places map[string]bool

// object is a JSON object in the order of the file.
type object []member

type member struct {
	name  string
	value any // object, []any, string, json.Number, bool or nil
}

// decode reads config.json into c and notes which members are present, and everything that does not
// fit. It reports whether the file is JSON at all.
func decode(data []byte, c *Config, present places, problems *report) bool {
	data = bytes.TrimPrefix(data, []byte("\ufeff")) // some editors begin a file so
	if !utf8.Valid(data) {
		problems.add("config.json", "is not UTF-8")
		return false
	}
	// Syntax is judged first and as a whole, trailing text included.
	var raw json.RawMessage
	if err := json.Unmarshal(data, &raw); err != nil {
		problems.add(position(data, err), "is not JSON: %v", err)
		return false
	}
	d := decoder{json: json.NewDecoder(bytes.NewReader(data)), present: present, problems: problems}
	d.json.UseNumber()
	d.fill("", d.value(""), reflect.ValueOf(c).Elem())
	return true
}

// position returns line and column of a syntax error, both from 1.
func position(data []byte, err error) string {
	offset := len(data)
	if syntax := (*json.SyntaxError)(nil); errors.As(err, &syntax) {
		offset = min(max(int(syntax.Offset)-1, 0), len(data))
	}
	before := data[:offset]
	line := 1 + bytes.Count(before, []byte("\n"))
	column := 1 + utf8.RuneCount(before[bytes.LastIndexByte(before, '\n')+1:])
	return fmt.Sprintf("line %d, column %d", line, column)
}

type decoder struct {
	json     *json.Decoder
	present  places
	problems *report
	depth    int
}

// value reads the next value. The syntax is known to be good, so that Token cannot fail. What lies
// deeper than any member lies below something that does not fit, and is passed over.
func (d *decoder) value(place string) any {
	if d.depth == maxDepth {
		var skipped json.RawMessage
		_ = d.json.Decode(&skipped)
		return object{}
	}
	d.depth++
	defer func() { d.depth-- }()
	token, _ := d.json.Token()
	switch token {
	case json.Delim('{'):
		return d.object(place)
	case json.Delim('['):
		var list []any
		for d.json.More() {
			list = append(list, d.value(element(place, len(list))))
		}
		_, _ = d.json.Token()
		return list
	default:
		return token
	}
}

// object reads the rest of an object. A name that stands there twice would silently win or lose.
func (d *decoder) object(place string) object {
	o := object{}
	for d.json.More() {
		token, _ := d.json.Token()
		name, _ := token.(string)
		at := below(place, name)
		if d.present[at] {
			d.problems.add(at, "stands in the file twice; remove one")
		}
		d.present[at] = true
		o = append(o, member{name, d.value(at)})
	}
	_, _ = d.json.Token()
	return o
}

// fill puts the value into target, which holds its default.
func (d *decoder) fill(place string, value any, target reflect.Value) {
	if value == nil {
		d.problems.add(rooted(place), "is null; leave the member out to have its default")
		return
	}
	if target.Type() == reflect.TypeFor[time.Duration]() {
		d.fillDuration(place, value, target)
		return
	}
	switch v := value.(type) {
	case object:
		if target.Kind() == reflect.Struct {
			d.fillStruct(place, v, target)
			return
		}
		if target.Kind() == reflect.Map {
			d.fillMap(place, v, target)
			return
		}
	case []any:
		if target.Kind() == reflect.Slice {
			d.fillSlice(place, v, target)
			return
		}
	case string:
		if target.Kind() == reflect.String {
			if v != "" { // empty means unset
				target.SetString(v)
			}
			return
		}
	case bool:
		if target.Kind() == reflect.Bool {
			target.SetBool(v)
			return
		}
	case json.Number:
		if target.CanInt() || target.CanFloat() {
			d.fillNumber(place, v, target)
			return
		}
	}
	d.problems.add(rooted(place), "is %s; valid: %s", describe(value), wanted(target.Type()))
}

func (d *decoder) fillStruct(place string, o object, target reflect.Value) {
	fields := fieldsOf(target.Type())
	for _, m := range o {
		i, known := fields.index[m.name]
		if !known {
			d.problems.add(below(place, m.name), "is not known here%s; valid: %s", suggestion(m.name, fields.names), strings.Join(fields.names, ", "))
			continue
		}
		d.fill(below(place, m.name), m.value, target.Field(i))
	}
}

func (d *decoder) fillMap(place string, o object, target reflect.Value) {
	filled := reflect.MakeMapWithSize(target.Type(), len(o))
	for _, m := range o {
		value := reflect.New(target.Type().Elem())
		if v, ok := value.Interface().(interface{ setDefaults() }); ok {
			v.setDefaults()
		}
		d.fill(below(place, m.name), m.value, value.Elem())
		filled.SetMapIndex(reflect.ValueOf(m.name), value.Elem())
	}
	target.Set(filled)
}

func (d *decoder) fillSlice(place string, list []any, target reflect.Value) {
	filled := reflect.MakeSlice(target.Type(), len(list), len(list))
	for i, value := range list {
		d.fill(element(place, i), value, filled.Index(i))
	}
	target.Set(filled)
}

func (d *decoder) fillNumber(place string, number json.Number, target reflect.Value) {
	if target.CanFloat() {
		f, err := number.Float64()
		if err != nil {
			d.problems.add(place, "is out of range")
		}
		target.SetFloat(f)
		return
	}
	i, err := strconv.ParseInt(number.String(), 10, 64)
	if err != nil || target.OverflowInt(i) {
		d.problems.add(place, "is not a whole number in range; valid: a whole number")
		return
	}
	target.SetInt(i)
}

func (d *decoder) fillDuration(place string, value any, target reflect.Value) {
	text, ok := value.(string)
	if text == "" && ok {
		return
	}
	duration, err := parseDuration(text)
	switch {
	case err != nil:
		d.problems.add(place, `is not a duration; valid: %s`, wanted(target.Type()))
	case duration <= 0:
		d.problems.add(place, "is not longer than zero; leave the member out to have its default")
	default:
		target.SetInt(int64(duration))
	}
}

// parseDuration reads a duration as Go does, and whole days, weeks and years, as the tools' ages
// have them.
func parseDuration(text string) (time.Duration, error) {
	for suffix, unit := range map[string]time.Duration{"d": day, "w": 7 * day, "y": 365 * day} {
		number, ok := strings.CutSuffix(text, suffix)
		if !ok {
			continue
		}
		n, err := strconv.ParseUint(number, 10, 63)
		if err != nil || time.Duration(n) > math.MaxInt64/unit {
			return 0, errors.New("not a duration, or too long")
		}
		return time.Duration(n) * unit, nil
	}
	return time.ParseDuration(text)
}

// fields are a struct's members of config.json, in its order.
type fields struct {
	names []string
	index map[string]int
}

func fieldsOf(t reflect.Type) fields {
	f := fields{index: map[string]int{}}
	for i := range t.NumField() {
		name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		if name == "-" || name == "" {
			continue
		}
		f.names = append(f.names, name)
		f.index[name] = i
	}
	return f
}

// describe says what kind of value stands there, without quoting it.
func describe(value any) string {
	switch value.(type) {
	case object:
		return "an object"
	case []any:
		return "a list"
	case string:
		return "a text"
	case bool:
		return "true or false"
	default:
		return "a number"
	}
}

// wanted says what a member of type t takes.
func wanted(t reflect.Type) string {
	switch t {
	case reflect.TypeFor[time.Duration]():
		return `a text with a unit, such as "30s", "24h" or "90d"`
	case reflect.TypeFor[auth.Reference]():
		return `no secret stands in this file, but an object that says where it is kept: {"env": NAME}, {"file": PATH}, {"exec": [ARGV]} or {"keyring": NAME}`
	}
	switch t.Kind() {
	case reflect.Struct:
		return "an object with " + strings.Join(fieldsOf(t).names, ", ")
	case reflect.Map:
		if t.Elem().Kind() == reflect.String {
			return "an object of named texts"
		}
		return "an object of named objects"
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Struct {
			return "a list of objects"
		}
		return "a list of texts, such as [\"a\", \"b\"]"
	case reflect.String:
		return "a text in quotes"
	case reflect.Bool:
		return "true or false, without quotes"
	case reflect.Float64:
		return "a number, without quotes"
	default:
		return "a whole number, without quotes"
	}
}

// below returns the place of a member. A name that is not a plain word is quoted.
func below(place, name string) string {
	if !isPlainName(name) {
		return place + "[" + quote(name) + "]"
	}
	if place == "" {
		return name
	}
	return place + "." + name
}

func element(place string, i int) string { return place + "[" + strconv.Itoa(i) + "]" }

// rooted names the whole file where place is empty.
func rooted(place string) string {
	if place == "" {
		return "config.json"
	}
	return place
}

func isPlainName(name string) bool {
	if name == "" || len(name) > 64 {
		return false
	}
	return !strings.ContainsFunc(name, func(r rune) bool {
		return r != '_' && r != '-' && r != '$' && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
	})
}

// suggestion returns `; did you mean "…"?` with the nearest of the valid words, or "" where none is near.
func suggestion(word string, valid []string) string {
	best, least := "", max(1, min(len(word), 64)/3)+1
	for _, candidate := range valid {
		if n := distance(word, candidate); n < least {
			best, least = candidate, n
		}
	}
	if best == "" {
		return ""
	}
	return `; did you mean "` + best + `"?`
}

// distance counts the letters to change, add, drop or swap to turn a into b. Long words are far away.
func distance(a, b string) int {
	a = strings.ToLower(a)
	if len(a) > 64 {
		return len(a)
	}
	var before []int
	last := make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := range len(a) {
		row := make([]int, len(b)+1)
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			row[j+1] = min(last[j+1]+1, row[j]+1, last[j]+cost)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
		before, last = last, row
	}
	return last[len(b)]
}
