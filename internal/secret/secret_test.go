package secret_test

import (
	"bytes"
	"encoding"
	"encoding/gob"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"testing"
	"text/template"

	"github.com/tokenreeve/tokenreeve/internal/secret"
)

const canary = "canary-9f8e7d6c5b4a-CANARY"

var (
	_ fmt.Formatter          = secret.Secret{}
	_ fmt.Stringer           = secret.Secret{}
	_ fmt.GoStringer         = secret.Secret{}
	_ slog.LogValuer         = secret.Secret{}
	_ json.Marshaler         = secret.Secret{}
	_ json.Unmarshaler       = (*secret.Secret)(nil)
	_ encoding.TextMarshaler = secret.Secret{}
)

type hidden struct{ s secret.Secret }

type shown struct {
	S secret.Secret
	P *secret.Secret
}

// leaks reports whether out holds the canary or a good part of it, in plain, hex or quoted form.
func leaks(out string) bool {
	out = strings.ToLower(out)
	part := canary[7:19]
	for _, form := range []string{part, fmt.Sprintf("%x", part), fmt.Sprintf("% x", part), fmt.Sprintf("%d", []byte(part))} {
		if strings.Contains(out, strings.ToLower(strings.Trim(form, "[]"))) {
			return true
		}
	}
	return false
}

// holders gives a secret in every kind of container; direct says that its own methods are reached.
func holders() map[string]struct {
	value  any
	direct bool
} {
	s := secret.New(canary)
	type h = struct {
		value  any
		direct bool
	}
	return map[string]h{
		"value":                  {s, true},
		"pointer":                {&s, true},
		"slice":                  {[]secret.Secret{s}, true},
		"array":                  {[1]secret.Secret{s}, true},
		"map":                    {map[string]secret.Secret{"k": s}, true},
		"any slice":              {[]any{s, &s}, true},
		"exported field":         {shown{S: s}, true},
		"exported pointer field": {shown{P: &s}, false},
		"unexported field":       {hidden{s}, false},
		"pointer to unexported":  {&hidden{s}, false},
		"slice of unexported":    {[]hidden{{s}}, false},
		"map of unexported":      {map[string]hidden{"k": {s}}, false},
		"anonymous struct":       {struct{ s secret.Secret }{s}, false},
		"nested unexported":      {struct{ h struct{ p *hidden } }{struct{ p *hidden }{&hidden{s}}}, false},
		"opener":                 {s.Expose, false},
	}
}

func TestFormatNeverShowsTheValue(t *testing.T) {
	t.Parallel()
	verbs := []string{
		"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "% x", "%#x", "%d", "%t", "%c", "%U", "%e", "%g", "%b", "%o",
		"%p", "%T", "%w", "%z", "%20v", "%-20s|", "%.3s", "%+q", "%#q", "%08d", "%!",
	}
	for name, h := range holders() {
		for _, verb := range verbs {
			t.Run(name+" "+verb, func(t *testing.T) {
				t.Parallel()
				for _, out := range []string{fmt.Sprintf(verb, h.value), fmt.Errorf(verb, h.value).Error()} {
					if leaks(out) {
						t.Errorf("the value shows: %s", out)
					}
				}
			})
		}
	}
}

func TestFormatRedacts(t *testing.T) {
	t.Parallel()
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%20v", "%-5s", "%.2s", "%t"} {
		for name, s := range map[string]secret.Secret{"set": secret.New(canary), "zero": {}} {
			if got := fmt.Sprintf(verb, s); got != "[redacted]" {
				t.Errorf("%s of a %s secret: got %q", verb, name, got)
			}
		}
	}
	s := secret.New(canary)
	for name, got := range map[string]string{"String": s.String(), "GoString": s.GoString(), "Print": fmt.Sprint(s), "pointer": fmt.Sprint(&s)} {
		if got != "[redacted]" {
			t.Errorf("%s: got %q", name, got)
		}
	}
}

func TestErrorsNeverShowTheValue(t *testing.T) {
	t.Parallel()
	s := secret.New(canary)
	inner := fmt.Errorf("cannot use %v", s)
	for _, err := range []error{
		inner,
		fmt.Errorf("outer: %w", inner),
		errors.Join(inner, fmt.Errorf("%s %+v", s, hidden{s})),
	} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%q"} {
			if out := fmt.Sprintf(verb, err); leaks(out) {
				t.Errorf("%s: the value shows: %s", verb, out)
			}
		}
	}
}

func TestEncodersNeverShowTheValue(t *testing.T) {
	t.Parallel()
	encoders := map[string]func(v any) string{
		"json": func(v any) string { b, err := json.Marshal(v); return fmt.Sprint(string(b), err) },
		"xml":  func(v any) string { b, err := xml.Marshal(v); return fmt.Sprint(string(b), err) },
		"gob": func(v any) string {
			var b bytes.Buffer
			err := gob.NewEncoder(&b).Encode(v)
			return fmt.Sprint(b.String(), err)
		},
		"template": func(v any) string {
			var b strings.Builder
			err := template.Must(template.New("").Parse(`{{.}} {{printf "%#v" .}} {{html .}} {{js .}}`)).Execute(&b, v)
			return fmt.Sprint(b.String(), err)
		},
		"slog text": func(v any) string {
			var b strings.Builder
			slog.New(slog.NewTextHandler(&b, nil)).Info("m", "v", v)
			return b.String()
		},
		"slog json": func(v any) string {
			var b strings.Builder
			slog.New(slog.NewJSONHandler(&b, nil)).Info("m", "v", v, slog.Group("g", "v", v))
			return b.String()
		},
		"reflection": func(v any) string { return dump(reflect.ValueOf(v), 0) },
	}
	for encoder, encode := range encoders {
		for name, h := range holders() {
			t.Run(encoder+" "+name, func(t *testing.T) {
				t.Parallel()
				out := encode(h.value)
				if leaks(out) {
					t.Errorf("the value shows: %s", out)
				}
				wants := h.direct && (encoder == "json" || encoder == "slog json" && name != "pointer")
				if wants && !strings.Contains(out, `"[redacted]"`) {
					t.Errorf("not marked as redacted: %s", out)
				}
			})
		}
	}
}

// dump prints v by reflection alone and follows pointers, as debugging dumpers do.
func dump(v reflect.Value, depth int) string {
	if depth > 10 || !v.IsValid() {
		return ""
	}
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		return "&" + dump(v.Elem(), depth+1)
	case reflect.Struct:
		var b strings.Builder
		for i := range v.NumField() {
			b.WriteString(v.Type().Field(i).Name + ":" + dump(v.Field(i), depth+1) + " ")
		}
		return b.String()
	case reflect.Slice, reflect.Array:
		var b strings.Builder
		for i := range v.Len() {
			b.WriteString(dump(v.Index(i), depth+1))
		}
		return b.String()
	case reflect.Map:
		var b strings.Builder
		for _, k := range v.MapKeys() {
			b.WriteString(dump(k, depth+1) + dump(v.MapIndex(k), depth+1))
		}
		return b.String()
	default:
		return v.String() + fmt.Sprintf("%v", v)
	}
}

func TestExpose(t *testing.T) {
	t.Parallel()
	for _, value := range []string{"", canary, " spaces \n", "日本語", "[redacted]"} {
		s := secret.New(value)
		if s.Expose() != value {
			t.Errorf("Expose of %q gives %q", value, s.Expose())
		}
		if s.IsZero() != (value == "") {
			t.Errorf("IsZero of %q: %v", value, s.IsZero())
		}
	}
	var zero secret.Secret
	if zero.Expose() != "" || !zero.IsZero() {
		t.Error("the zero Secret must hold nothing")
	}
}

func TestOmitzero(t *testing.T) {
	t.Parallel()
	out, err := json.Marshal(struct {
		S secret.Secret `json:"s,omitzero"`
	}{})
	if err != nil || string(out) != "{}" {
		t.Errorf("got %s, %v", out, err)
	}
}

func TestEqual(t *testing.T) {
	t.Parallel()
	tests := []struct {
		a, b secret.Secret
		want bool
	}{
		{secret.New(canary), secret.New(canary), true},
		{secret.New(canary), secret.New(canary + "x"), false},
		{secret.New(canary), secret.New(strings.ToUpper(canary)), false},
		{secret.New(canary), secret.Secret{}, false},
		{secret.New(""), secret.Secret{}, true},
	}
	for i, tt := range tests {
		if tt.a.Equal(tt.b) != tt.want || tt.b.Equal(tt.a) != tt.want {
			t.Errorf("case %d: want %v", i, tt.want)
		}
	}
}

func TestLastFour(t *testing.T) {
	t.Parallel()
	tests := map[string]string{
		"":                     "",
		"123456789012345":      "",
		"1234567890123456":     "3456",
		"12345678901234 6":     "",
		"abcdefghijklmnop日":    "",
		"abcdefghijklmnop\n":   "",
		"api-aaaaaaaaaaaaXYZ9": "XYZ9",
	}
	for value, want := range tests {
		if got := secret.New(value).LastFour(); got != want {
			t.Errorf("LastFour of %q: got %q, want %q", value, got, want)
		}
	}
}

func TestFingerprint(t *testing.T) {
	t.Parallel()
	tests := []struct{ value, key, want string }{
		// RFC 4231, test case 2.
		{"what do ya want for nothing?", "Jefe", "hmac-sha256:5bdcc146bf60754e"},
		{"", "Jefe", ""},
		{"value", "", ""},
	}
	for _, tt := range tests {
		if got := secret.New(tt.value).Fingerprint([]byte(tt.key)); got != tt.want {
			t.Errorf("Fingerprint(%q): got %q, want %q", tt.key, got, tt.want)
		}
	}
	if secret.New("a").Fingerprint([]byte("k1")) == secret.New("a").Fingerprint([]byte("k2")) {
		t.Error("the key must change the fingerprint")
	}
}

func TestDigest(t *testing.T) {
	t.Parallel()
	const abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
	if got := fmt.Sprintf("%x", secret.New("abc").Digest()); got != abc {
		t.Errorf("got %s", got)
	}
}

func TestUnmarshalJSON(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, in, want string
		fails          bool
	}{
		{"string", `{"token":"` + canary + `"}`, canary, false},
		{"escapes", `{"token":"a\u0062\n"}`, "ab\n", false},
		{"null", `{"token":null}`, "", false},
		{"absent", `{}`, "", false},
		{"number", `{"token":12345678}`, "", true},
		{"object", `{"token":{"v":"` + canary + `"}}`, "", true},
		{"array", `{"token":["` + canary + `"]}`, "", true},
		{"not UTF-8", `{"token":"` + canary + "\xff" + `"}`, "", true},
		{"redacted before", `{"token":"[redacted]"}`, "", true},
		{"cut off", `{"token":"` + canary, "", true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var v struct {
				Token secret.Secret `json:"token"`
			}
			err := json.Unmarshal([]byte(tt.in), &v)
			if (err != nil) != tt.fails {
				t.Fatalf("error: %v", err)
			}
			if err != nil && (leaks(err.Error()) || strings.Contains(err.Error(), "12345678")) {
				t.Errorf("the error shows the content: %v", err)
			}
			if got := v.Token.Expose(); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestUnmarshalJSONNullClears(t *testing.T) {
	t.Parallel()
	s := secret.New(canary)
	if err := json.Unmarshal([]byte("null"), &s); err != nil || !s.IsZero() {
		t.Errorf("null must clear the secret: %v", err)
	}
}

func FuzzUnmarshalJSON(f *testing.F) {
	for _, seed := range []string{`"abc"`, `null`, `{"a":"` + canary + `"}`, `12`, `"\ud800"`, "\"\xff\"", `"unclosed`} {
		f.Add([]byte(seed))
	}
	plain := map[string]bool{}
	for _, in := range []string{`1`, `"\xff"`, `"[redacted]"`} {
		var s secret.Secret
		if err := s.UnmarshalJSON([]byte(strings.ReplaceAll(in, `\xff`, "\xff"))); err != nil {
			plain[err.Error()] = true
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var s secret.Secret
		err := s.UnmarshalJSON(data)
		if err != nil {
			// Only the three fixed messages exist, so none can hold content.
			if !plain[err.Error()] || !s.IsZero() {
				t.Fatalf("error %q, secret set: %v", err, !s.IsZero())
			}
			return
		}
		var want string
		if err := json.Unmarshal(data, &want); err != nil || s.Expose() != want {
			t.Fatalf("got another value than encoding/json, or it fails: %v", err)
		}
		if got := fmt.Sprintf("%v %+v", s, s); got != "[redacted] [redacted]" {
			t.Fatalf("not redacted: %q", got)
		}
	})
}
