package providers_test

import (
	"encoding/json"
	"reflect"
	"testing"
	"time"

	"github.com/tokenreeve/tokenreeve/providers"
)

func TestDateJSON(t *testing.T) {
	t.Parallel()
	at := func(text string) providers.Date {
		moment, err := time.Parse(time.RFC3339Nano, text)
		if err != nil {
			t.Fatal(err)
		}
		return providers.At(moment)
	}
	for text, date := range map[string]providers.Date{
		`"unknown"`:                        {},
		`"never"`:                          providers.Never(),
		`"2026-11-22T12:00:00Z"`:           at("2026-11-22T12:00:00Z"),
		`"2026-11-22T12:00:00.123456789Z"`: at("2026-11-22T13:00:00.123456789+01:00"),
		`"2026-11-22T12:00:00.1Z"`:         at("2026-11-22T12:00:00.1Z"),
		`"9999-12-31T23:59:59.999999999Z"`: at("9999-12-31T23:59:59.999999999Z"),
		`"0000-01-01T00:00:00Z"`:           at("0000-01-01T00:00:00Z"),
	} {
		written, err := json.Marshal(date)
		if err != nil || string(written) != text {
			t.Errorf("%v is written %s, %v; want %s", date, written, err, text)
		}
		var read providers.Date
		if err := json.Unmarshal(written, &read); err != nil || read != date {
			t.Errorf("%s is read %v, %v", written, read, err)
		}
	}
	// Also a moment of now, with what a clock adds to it.
	now := providers.At(time.Now())
	written, err := json.Marshal(now)
	var read providers.Date
	if err != nil || json.Unmarshal(written, &read) != nil || read != now {
		t.Errorf("%v is read %v, %v", now, read, err)
	}
	for _, text := range []string{`""`, `"soon"`, `"2026-11-22"`, `"2026-11-22T12:00:00"`, `"NEVER"`, `0`, `null`, `{}`, `[]`, `true`} {
		read := providers.Never()
		if err := json.Unmarshal([]byte(text), &read); err == nil || !read.IsNever() {
			t.Errorf("%s is read %v, %v", text, read, err)
		}
	}
}

// What RFC 3339 cannot write is no date.
func TestDatesOutOfRange(t *testing.T) {
	t.Parallel()
	for _, at := range []time.Time{
		time.Date(-1, 12, 31, 0, 0, 0, 0, time.UTC), time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC),
		time.Date(9999, 12, 31, 23, 59, 59, 0, time.FixedZone("", -3600)),
	} {
		if d := providers.At(at); !d.IsUnknown() {
			t.Errorf("%v is %v", at, d)
		}
	}
}

// TestJSONRoundTrip fills every field of what previews keep and reads it back. A
// new field that JSON does not carry fails here.
func TestJSONRoundTrip(t *testing.T) {
	t.Parallel()
	for _, value := range []any{
		&providers.Token{}, &providers.RotationPlan{}, &providers.RotationAsk{}, &providers.Filter{}, &providers.Ref{}, &providers.Lost{}, &providers.Count{},
	} {
		kind := reflect.TypeOf(value).Elem()
		t.Run(kind.Name(), func(t *testing.T) {
			t.Parallel()
			for _, fill := range []bool{false, true} {
				value := reflect.New(kind)
				if fill {
					filler := filler{t: t}
					filler.fill(kind.Name(), value.Elem())
				}
				text, err := json.Marshal(value.Interface())
				if err != nil {
					t.Fatal(err)
				}
				read := reflect.New(kind)
				if err := json.Unmarshal(text, read.Interface()); err != nil {
					t.Fatal(err)
				}
				if !reflect.DeepEqual(value.Interface(), read.Interface()) {
					t.Errorf("%+v\nis read %+v\nfrom %s", value.Elem(), read.Elem(), text)
				}
			}
		})
	}
}

// filler gives each value another one.
type filler struct {
	t *testing.T
	n int
}

func (f *filler) fill(path string, v reflect.Value) {
	f.n++
	switch v.Interface().(type) {
	case providers.Date:
		v.Set(reflect.ValueOf(providers.At(f.moment())))
		return
	case time.Time:
		v.Set(reflect.ValueOf(f.moment()))
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString("a <text> & its “number” \u2028" + string(rune('a'+f.n%26)))
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		v.SetInt(1<<60 + int64(f.n))
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		for i := range v.Len() {
			f.fill(path, v.Index(i))
		}
	case reflect.Map:
		key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		f.fill(path, key)
		f.fill(path, value)
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(key, value)
	case reflect.Struct:
		for i := range v.NumField() {
			field := v.Type().Field(i)
			if !field.IsExported() {
				f.t.Errorf("%s.%s is not exported: JSON does not carry it", path, field.Name)
				continue
			}
			f.fill(path+"."+field.Name, v.Field(i))
		}
	default:
		f.t.Errorf("%s: how to fill a %s is not known", path, v.Kind())
	}
}

func (f *filler) moment() time.Time { return time.Date(2026, 11, 22, 12, 0, f.n%60, 100+f.n, time.UTC) }
