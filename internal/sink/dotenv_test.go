package sink_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/tokenreeve/tokenreeve/internal/secret"
	"github.com/tokenreeve/tokenreeve/internal/sink"
)

func newDotenv(t *testing.T, dir string) *sink.Dotenv {
	t.Helper()
	d, err := sink.NewDotenv("env", dir, sink.Accept{})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func content(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestDotenvDeliver(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, before, want string }{
		{"no file", "", "K=new\n"},
		{"added", "A=1\n", "A=1\nK=new\n"},
		{"added after a line without end", "A=1", "A=1\nK=new\n"},
		{"added with the file's line ends", "A=1\r\nB=2\r\n", "A=1\r\nB=2\r\nK=new\r\n"},
		{"replaced", "A=1\nK=old\nB=2\n", "A=1\nK=new\nB=2\n"},
		{"last line without end", "A=1\nK=old", "A=1\nK=new"},
		{"line ends stay", "A=1\r\nK=old\r\nB=2\r\n", "A=1\r\nK=new\r\nB=2\r\n"},
		{"export and blanks stay", "  export K =old\n", "  export K =new\n"},
		{"empty value", "K=\nB=2\n", "K=new\nB=2\n"},
		{"comment goes with the value", "K=old # mine\n", "K=new\n"},
		{"single quotes", "K='o l d'\nB=2\n", "K=new\nB=2\n"},
		{"double quotes with escapes", `K="o\"l\"d"` + "\nB=2\n", "K=new\nB=2\n"},
		{"quoted over lines", "K=\"o\nl\nd\"\nB=2\n", "K=new\nB=2\n"},
		{"inside another's value", "A=\"\nK=inner\n\"\nK=old\n", "A=\"\nK=inner\n\"\nK=new\n"},
		{"an open quote ends at its line", "A='open\nK=old\nB='x'\n", "A='open\nK=new\nB='x'\n"},
		{"comment", "# K=commented\n#K=commented\n", "# K=commented\n#K=commented\nK=new\n"},
		{"other names", "KK=1\nMY_K=2\nK_=3\nexportK=4\n", "KK=1\nMY_K=2\nK_=3\nexportK=4\nK=new\n"},
		{"strange lines stay", "\t\n\x00\xff bad\n=x\nexport A\nno assignment\n", "\t\n\x00\xff bad\n=x\nexport A\nno assignment\nK=new\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir := private(t)
			path := filepath.Join(dir, "prod.env")
			if tt.before != "" {
				put(t, path, tt.before)
			}
			d, key := newDotenv(t, dir), parse(t, "prod.env/K")
			if err := d.Check(t.Context(), key, successor); err != nil {
				t.Fatal(err)
			}
			delivery, err := d.Deliver(t.Context(), key, secret.New("new"), successor)
			if err != nil {
				t.Fatal(err)
			}
			if want := (sink.Delivery{Sink: "env", Key: "prod.env/K", Path: path}); delivery != want {
				t.Errorf("got %+v, want %+v", delivery, want)
			}
			if got := content(t, path); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
			if held, err := d.Holds(t.Context(), delivery, secret.New("new").Digest()); !held || err != nil {
				t.Errorf("Holds gives %v, %v", held, err)
			}
			if held, err := d.Holds(t.Context(), delivery, secret.New("old").Digest()); held || err != nil {
				t.Errorf("Holds gives %v, %v for another secret", held, err)
			}
			if info, err := os.Lstat(path); err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("got %v, %v", info.Mode(), err)
			}
			if got := tree(t, dir); len(got) != 1 {
				t.Errorf("left behind: %v", got)
			}
		})
	}
}

// A shell is one reader of what was written; Holds is the other.
func TestDotenvQuoting(t *testing.T) {
	t.Parallel()
	sh, err := exec.LookPath("sh")
	if err != nil {
		t.Skip("no shell here")
	}
	for value, written := range map[string]string{
		"api-1234_ab.C/d:e@f%g+h=i,j": "K=api-1234_ab.C/d:e@f%g+h=i,j",
		"two words":                   "K='two words'",
		`$HOME "x" #y`:                `K='$HOME "x" #y'`,
		"`id`;&|<>(){}[]*?!~^":        "K='`id`;&|<>(){}[]*?!~^'",
		"it's":                        `K="it's"`,
	} {
		dir := private(t)
		d, key, s := newDotenv(t, dir), parse(t, "a/f/K"), secret.New(value)
		delivery, err := d.Deliver(t.Context(), key, s, sink.Options{})
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, "a", "f")
		if got := content(t, path); got != written+"\n" {
			t.Errorf("got %q, want %q", got, written)
		}
		out, err := exec.Command(sh, "-c", `. "$1" && printf %s "$K"`, "sh", path).CombinedOutput()
		if err != nil || string(out) != value {
			t.Errorf("%q: the shell reads %q, %v", value, out, err)
		}
		if held, err := d.Holds(t.Context(), delivery, s.Digest()); !held || err != nil {
			t.Errorf("%q: Holds gives %v, %v", value, held, err)
		}
	}
}

func TestDotenvRefuses(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, before, key, value, wants string }{
		{"line break", "", "f/K", canary + "\nX=1", "understand differently"},
		{"backslash", "", "f/K", canary + `\n`, "understand differently"},
		{"both quotes", "", "f/K", canary + `'"`, "understand differently"},
		{"quote and dollar", "", "f/K", canary + `'$`, "understand differently"},
		{"not ASCII", "", "f/K", canary + "é", "understand differently"},
		{"empty", "", "f/K", "", "the secret is empty"},
		{"too large", "", "f/K", strings.Repeat("x", sink.MaxSecret+1), "at most"},
		{"no file", "", "K", canary, "FILE/VARIABLE"},
		{"no variable", "", "f/a-b", canary, "FILE/VARIABLE"},
		{"dotted variable", "", "f/a.b", canary, "FILE/VARIABLE"},
		{"digit first", "", "f/1A", canary, "FILE/VARIABLE"},
		{"twice", "K=1\nexport K=2\n", "f/K", canary, "K stands in the file twice"},
		{"file too large", strings.Repeat("#\n", 1<<19), "f/K", canary, "more than 1024 KiB"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir := private(t)
			path := filepath.Join(dir, "f")
			put(t, path, tt.before)
			_, err := newDotenv(t, dir).Deliver(t.Context(), parse(t, tt.key), secret.New(tt.value), successor)
			wantError(t, err, tt.wants)
			if got := content(t, path); got != tt.before {
				t.Errorf("the file was changed to %q", got)
			}
		})
	}
}

func TestDotenvKeepsToPrivateFiles(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, wants string
		make        func(t *testing.T, dir string)
	}{
		{"open to others", "chmod 600", func(t *testing.T, dir string) {
			put(t, filepath.Join(dir, "f"), "A=1\n")
			if err := os.Chmod(filepath.Join(dir, "f"), 0o644); err != nil {
				t.Fatal(err)
			}
		}},
		{"link", "symbolic link", func(t *testing.T, dir string) {
			put(t, filepath.Join(dir, "real"), "A=1\n")
			link(t, "real", filepath.Join(dir, "f"))
		}},
		{"directory", "not a regular file", func(t *testing.T, dir string) { mkdir(t, filepath.Join(dir, "f")) }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir := private(t)
			tt.make(t, dir)
			before := fmt.Sprint(tree(t, dir))
			d, key := newDotenv(t, dir), parse(t, "f/K")
			_, deliverErr := d.Deliver(t.Context(), key, secret.New(canary), successor)
			_, holdsErr := d.Holds(t.Context(), sink.Delivery{Sink: "env", Key: "f/K"}, [32]byte{})
			for _, err := range []error{d.Check(t.Context(), key, successor), deliverErr, holdsErr} {
				wantError(t, err, tt.wants)
			}
			if after := fmt.Sprint(tree(t, dir)); after != before {
				t.Errorf("got %s, want %s", after, before)
			}
		})
	}
}

func TestDotenvKeyExists(t *testing.T) {
	t.Parallel()
	dir := private(t)
	d, key := newDotenv(t, dir), parse(t, "f/K")
	if _, err := d.Deliver(t.Context(), key, secret.New("first"), sink.Options{}); err != nil {
		t.Fatal(err)
	}
	_, deliverErr := d.Deliver(t.Context(), key, secret.New(canary), sink.Options{})
	for _, err := range []error{d.Check(t.Context(), key, sink.Options{}), deliverErr} {
		wantError(t, err, "sink env: the key exists already: f/K")
		if !errors.Is(err, sink.ErrKeyExists) {
			t.Errorf("%v is not ErrKeyExists", err)
		}
	}
	if _, err := d.Deliver(t.Context(), key, secret.New("first"), sink.Options{}); err != nil {
		t.Errorf("a repeated delivery: %v", err)
	}
	if err := d.Check(t.Context(), parse(t, "f/OTHER"), sink.Options{}); err != nil {
		t.Errorf("another variable: %v", err)
	}
	if got := content(t, filepath.Join(dir, "f")); got != "K=first\n" {
		t.Errorf("got %q", got)
	}
}

func TestDotenvHoldsNothing(t *testing.T) {
	t.Parallel()
	dir := private(t)
	put(t, filepath.Join(dir, "f"), "A=1\n")
	d := newDotenv(t, dir)
	for _, key := range []string{"f/K", "g/K", "a/f/K"} {
		if held, err := d.Holds(t.Context(), sink.Delivery{Sink: "env", Key: key}, [32]byte{}); held || err != nil {
			t.Errorf("%s: got %v, %v", key, held, err)
		}
	}
	_, err := d.Holds(t.Context(), sink.Delivery{Sink: "files", Key: "f/K"}, [32]byte{})
	wantError(t, err, "not one of this sink")
	if got := tree(t, dir); len(got) != 1 {
		t.Errorf("Holds made %v", got)
	}
}

// Each writer has a sink of its own, as if each were a process of its own.
func TestDotenvConcurrentDeliveries(t *testing.T) {
	t.Parallel()
	dir := private(t)
	put(t, filepath.Join(dir, "f"), "# kept\n")
	const writers = 24
	var wg sync.WaitGroup
	begin := make(chan struct{})
	for i := range writers {
		d, key := newDotenv(t, dir), parse(t, fmt.Sprintf("f/K%d", i))
		wg.Go(func() {
			<-begin
			if _, err := d.Deliver(context.Background(), key, secret.New(fmt.Sprintf("v%d", i)), sink.Options{}); err != nil {
				t.Error(err)
			}
		})
	}
	close(begin)
	wg.Wait()
	got := content(t, filepath.Join(dir, "f"))
	for i := range writers {
		if strings.Count(got, fmt.Sprintf("\nK%d=v%d\n", i, i)) != 1 {
			t.Errorf("delivery %d is lost: %q", i, got)
		}
	}
	if !strings.HasPrefix(got, "# kept\n") {
		t.Errorf("got %q", got)
	}
}

// Whatever the file: the new value is read back, and all other lines stay.
func FuzzDotenv(f *testing.F) {
	for _, s := range []string{"", "K=1", "K='a\nb'\nB=1\n", "export K=\"x\\\"\n", "A=`\nK=1\n`", "\r\nK=1\r\n", "K=1\nK=2"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, before string) {
		dir := private(t)
		path := filepath.Join(dir, "f")
		put(t, path, before)
		d := newDotenv(t, dir)
		delivery, err := d.Deliver(t.Context(), parse(t, "f/K"), secret.New(canary), successor)
		after := content(t, path)
		if err != nil {
			if after != before {
				t.Fatalf("%q was changed to %q: %v", before, after, err)
			}
			return
		}
		if held, err := d.Holds(t.Context(), delivery, secret.New(canary).Digest()); !held || err != nil {
			t.Fatalf("%q became %q, which does not hold the secret: %v", before, after, err)
		}
		head, tail, found := strings.Cut(after, canary)
		head = strings.TrimRight(strings.TrimSuffix(head, "K="), "\r\n") // a new line begins with its own end
		if !found || !strings.HasPrefix(before, head) {
			t.Fatalf("%q became %q: what stood before is not the same", before, after)
		}
		if !strings.HasSuffix(before, tail) && strings.Trim(tail, "\r\n") != "" {
			t.Fatalf("%q became %q: what stood after is not the same", before, after)
		}
	})
}
