package sink_test

import (
	"regexp"
	"strings"
	"testing"

	"github.com/tokenreeve/tokenreeve/internal/sink"
)

func TestParseKey(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("a", 200)
	tests := []struct {
		in    string
		wants string // in the error; "" when the key is valid
	}{
		{"a", ""},
		{"ci/launchdarkly", ""},
		{"A/b_C/1.x-y", ""},
		{"_x", ""},
		{"acme-mailtrap/12345", ""},
		{"a.", ""},
		{long, ""},
		{"", "it is empty"},
		{long + "a", "201 bytes"},
		{"/a", "segment 1 is empty"},
		{"a/", "segment 2 is empty"},
		{"a//b", "segment 2 is empty"},
		{"/", "segment 1 is empty"},
		{".", `begins with '.'`},
		{"..", `".."`},
		{"a/../b", `".."`},
		{"a/..", `".."`},
		{"a..b", `".."`},
		{"a/./b", `segment 2 begins with '.'`},
		{".hidden", "begins with '.'"},
		{"a/-b", "segment 2 begins with '-'"},
		{"a:b", "holds ':'"},
		{"a|b", "holds '|'"},
		{`a\b`, `holds '\\'`},
		{"a b", "holds ' '"},
		{"a\nb", `holds '\n'`},
		{"a\x00b", `holds '\x00'`},
		{"é", `holds '\u00e9'`},
		{"a/\u202e", `holds '\u202e'`},
		{"\xff", "holds '\\ufffd'"},
		{"~/x", "holds '~'"},
		{"$HOME", "holds '$'"},
	}
	for _, tt := range tests {
		key, err := sink.ParseKey(tt.in)
		if tt.wants == "" {
			if err != nil || key.String() != tt.in {
				t.Errorf("%q: got %q, %v", tt.in, key, err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), tt.wants) || !strings.Contains(err.Error(), "valid are segments") {
			t.Errorf("%q: got %v, want %s", tt.in, err, tt.wants)
		}
	}
}

func TestParseDestination(t *testing.T) {
	t.Parallel()
	tests := []struct{ in, sink, key, wants string }{
		{"files/ci/launchdarkly", "files", "ci/launchdarkly", ""},
		{"vault/x", "vault", "x", ""},
		{"", "", "", "no key"},
		{"files", "", "", "no key"},
		{"files/", "", "", "it is empty"},
		{"/ci", "", "", "sink's name is empty"},
		{"a b/ci", "", "", "sink's name holds ' '"},
		{"../ci", "", "", "sink's name begins with '.'"},
		{"files/../x", "", "", `".."`},
		{strings.Repeat("a", 201) + "/x", "", "", "sink's name has 201 bytes"},
	}
	for _, tt := range tests {
		name, key, err := sink.ParseDestination(tt.in)
		if name != tt.sink || key.String() != tt.key {
			t.Errorf("%q: got %q, %q", tt.in, name, key)
		}
		if (err != nil) != (tt.wants != "") || (err != nil && !strings.Contains(err.Error(), tt.wants)) {
			t.Errorf("%q: got %v, want %q", tt.in, err, tt.wants)
		}
	}
}

func FuzzParseKey(f *testing.F) {
	for _, s := range []string{"", "a", "ci/launchdarkly", "a/../b", "a//b", ".a", "a:b", "é", strings.Repeat("a/", 100), "a.v2"} {
		f.Add(s)
	}
	segment := regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]*$`)
	valid := func(s string) bool {
		if len(s) > 200 || strings.Contains(s, "..") {
			return false
		}
		for _, part := range strings.Split(s, "/") {
			if !segment.MatchString(part) {
				return false
			}
		}
		return true
	}
	f.Fuzz(func(t *testing.T, s string) {
		key, err := sink.ParseKey(s)
		if (err == nil) != valid(s) {
			t.Fatalf("%q: %v", s, err)
		}
		if err == nil && (key.String() != s || strings.Join(key.Segments(), "/") != s) {
			t.Fatalf("%q became %q", s, key)
		}
		if err != nil && (key.String() != "" || len(err.Error()) > 400) {
			t.Fatalf("%q: key %q, error %v", s, key, err)
		}
		name, key, err := sink.ParseDestination(s)
		if err == nil && name+"/"+key.String() != s {
			t.Fatalf("%q became %q and %q", s, name, key)
		}
	})
}
