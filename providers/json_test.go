package providers_test

import (
	"encoding/json"
	"reflect"
	"strings"
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

// TestKeptAccess: what is kept of a token holds none of the vendor's raw text, and
// still tells whether the access is the same.
func TestKeptAccess(t *testing.T) {
	t.Parallel()
	const raw = `["admin","api-5ec2e75a-ab12-4d3a-9e52-c0ffee5ec2e7"]`
	kept := func(token providers.Token) (read providers.Token) {
		text, err := json.Marshal([]providers.Token{token})
		if err != nil || strings.Contains(string(text), "5ec2e75a") {
			t.Errorf("%s, %v", text, err)
		}
		var all []providers.Token
		if err := json.Unmarshal(text, &all); err != nil {
			t.Fatal(err)
		}
		return all[0]
	}
	fresh, other := providers.Token{ID: "1", AccessKey: raw}, providers.Token{ID: "1", AccessKey: raw + " "}
	like := providers.Token{AccessKey: "sha256:5ec2e75a" + strings.Repeat("/", 56)}
	once := kept(fresh)
	twice := kept(once)
	for name, same := range map[string]struct {
		a, b providers.Token
		want bool
	}{
		"both fresh":           {fresh, fresh, true},
		"kept and fresh":       {once, fresh, true},
		"fresh and kept":       {fresh, once, true},
		"kept twice":           {twice, fresh, true},
		"both kept":            {once, twice, true},
		"another":              {fresh, other, false},
		"kept and another":     {once, other, false},
		"kept, and kept other": {once, kept(other), false},
		"nothing told":         {providers.Token{}, kept(providers.Token{}), true},
		"nothing told there":   {fresh, kept(providers.Token{}), false},
		"of a digest's length": {like, kept(like), true},
	} {
		if same.a.SameAccess(&same.b) != same.want {
			t.Errorf("%s: same is %v", name, !same.want)
		}
	}
	if key := kept(providers.Token{}).AccessKey; key != "" {
		t.Errorf("the key of nothing is kept as %q", key)
	}
	fresh.AccessKey = once.AccessKey
	if !reflect.DeepEqual(fresh, once) {
		t.Errorf("%+v is kept as %+v", fresh, once)
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
			if path == "Token" && field.Name == "AccessKey" || strings.HasSuffix(path, "Orphans") && field.Name == "AccessKey" {
				v.Field(i).SetString("sha256:" + strings.Repeat("0a", 32)) // JSON keeps no other
				continue
			}
			f.fill(path+"."+field.Name, v.Field(i))
		}
	default:
		f.t.Errorf("%s: how to fill a %s is not known", path, v.Kind())
	}
}

func (f *filler) moment() time.Time { return time.Date(2026, 11, 22, 12, 0, f.n%60, 100+f.n, time.UTC) }
