//go:build unix

package sink_test

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tokenreeve/tokenreeve/internal/secret"
	"github.com/tokenreeve/tokenreeve/internal/sink"
)

var anyCI = sink.Accept{Prefixes: []string{"ci/"}}

func newExec(t *testing.T, o sink.ExecOptions) *sink.Exec {
	t.Helper()
	e, err := sink.NewExec("cmd", o)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// surround makes the commands those in PATH, and home the place of their records.
func surround(t *testing.T) (home string) {
	t.Helper()
	home = t.TempDir()
	t.Setenv("PATH", install(t))
	t.Setenv("HOME", home)
	t.Setenv("TOKENREEVE_TEST_HIDDEN", "hidden")
	return home
}

func TestExecDeliver(t *testing.T) {
	home := surround(t)
	key := parse(t, "ci/a.b-c")
	argv := []string{"tool", "put", "x {key} y", "--name={key}/{key}", "{}", "$HOME `id`; *"}
	base := sink.ExecOptions{Argv: argv, Env: []string{"HOME", "TOKENREEVE_TEST_UNSET"}, Accept: anyCI}
	rotating := base
	rotating.Rotate = []string{"tool", "rotate", "{key}"}
	templated := base
	templated.Stdin = `{"name":"{key}","value":{secret_json}}` + "\n"
	line := base
	line.Stdin = "{key}={secret}\n"
	put := []string{"tool", "put", "x ci/a.b-c y", "--name=ci/a.b-c/ci/a.b-c", "{}", "$HOME `id`; *"}
	tests := []struct {
		name    string
		options sink.ExecOptions
		deliver sink.Options
		secret  string
		argv    []string
		stdin   string
	}{
		{"raw", base, sink.Options{}, canary + "\n{key}\x00\xff", put, canary + "\n{key}\x00\xff"},
		{"successor without a command of its own", base, successor, canary, put, canary},
		{"new, with a command to rotate", rotating, sink.Options{}, canary, put, canary},
		{"successor", rotating, sink.Options{Successor: true, Known: true}, canary, []string{"tool", "rotate", "ci/a.b-c"}, canary},
		{"JSON", templated, sink.Options{}, canary + "\"}{key}\n", put, `{"name":"ci/a.b-c","value":"` + canary + `\"}{key}\n"}` + "\n"},
		{"line", line, sink.Options{}, canary, put, "ci/a.b-c=" + canary + "\n"},
		{"large", base, sink.Options{}, strings.Repeat("x", sink.MaxSecret), put, strings.Repeat("x", sink.MaxSecret)},
	}
	for _, tt := range tests {
		e := newExec(t, tt.options)
		if err := e.Check(t.Context(), key, tt.deliver); err != nil {
			t.Fatal(err)
		}
		got, err := e.Deliver(t.Context(), key, secret.New(tt.secret), tt.deliver)
		if want := (sink.Delivery{Sink: "cmd", Key: "ci/a.b-c"}); err != nil || got != want {
			t.Fatalf("%s: got %+v, %v", tt.name, got, err)
		}
		saw := seen(t, home)
		want := call{Argv: tt.argv, Env: []string{"HOME=" + home}, Stdin: strings.ToValidUTF8(tt.stdin, "\ufffd"), Dir: "/"}
		saw.Env = slices.DeleteFunc(saw.Env, func(v string) bool { return strings.HasPrefix(v, "PWD=") })
		if diff := cmp.Diff(want, saw); diff != "" {
			t.Errorf("%s: %s", tt.name, diff)
		}
		if held, readable := sink.Sink(e).(sink.Holder); readable {
			t.Errorf("an exec sink cannot be read back: %v", held)
		}
	}
}

func TestExecGetsNoEnvironmentByDefault(t *testing.T) {
	home := surround(t)
	tool := filepath.Join(os.Getenv("PATH"), "tool")
	e := newExec(t, sink.ExecOptions{Argv: []string{tool, "fail", "{key}"}, Accept: anyCI})
	_, err := e.Deliver(t.Context(), parse(t, "ci/k"), secret.New(canary), sink.Options{})
	wantError(t, err, "sink cmd: command "+tool+" failed with exit code 3")
	// Without HOME the record has no place to go.
	e = newExec(t, sink.ExecOptions{Argv: []string{tool, "{key}"}, Accept: anyCI})
	_, _ = e.Deliver(t.Context(), parse(t, "ci/k"), secret.New(canary), sink.Options{})
	if got := tree(t, home); len(got) != 0 {
		t.Errorf("the command knew HOME: %v", got)
	}
}

func TestExecFails(t *testing.T) {
	surround(t)
	t.Chdir(os.Getenv("PATH")) // a command here is found by a relative PATH only
	key, o := parse(t, "ci/k"), sink.Options{}
	tests := []struct {
		name    string
		argv    []string
		stdin   string
		path    string
		secret  string
		options sink.Options
		wants   string
	}{
		{"exit code", []string{"tool", "fail", "{key}"}, "", "", canary, o, "sink cmd: command tool failed with exit code 3"},
		{"missing", []string{"nowhere", "{key}"}, "", "", canary, o, "sink cmd: command nowhere could not be started: executable file not found"},
		{"missing path", []string{"/nowhere/x", "{key}"}, "", "", canary, o, "command /nowhere/x could not be started: no such file"},
		{"relative PATH", []string{"tool", "{key}"}, "", ".", canary, o, "command tool could not be started: cannot run executable found relative to current directory"},
		{"known", []string{"tool", "{key}"}, "", "", canary, sink.Options{Known: true}, "the key exists already: ci/k"},
		{"empty", []string{"tool", "{key}"}, "", "", "", o, "the secret is empty"},
		{"ends early", []string{"tool", "{key}"}, "K={secret}\n", "", canary + "\nX=1", o, "could end it early"},
		{"quote", []string{"tool", "{key}"}, "K={secret}\n", "", canary + "'", o, "could end it early"},
		{"not text", []string{"tool", "{key}"}, `{"v":{secret_json}}`, "", canary + "\xff", o, "not text"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.path != "" {
				t.Setenv("PATH", tt.path)
			}
			e := newExec(t, sink.ExecOptions{Argv: tt.argv, Stdin: tt.stdin, Env: []string{"HOME"}, Accept: anyCI})
			_, err := e.Deliver(t.Context(), key, secret.New(tt.secret), tt.options)
			wantError(t, err, tt.wants)
			if tt.options.Known && !errors.Is(err, sink.ErrKeyExists) {
				t.Errorf("%v is not ErrKeyExists", err)
			}
			if strings.Contains(tt.wants, "started") || tt.options.Known {
				wantError(t, e.Check(t.Context(), key, tt.options), tt.wants)
			}
		})
	}
	if _, err := os.Stat(filepath.Join(os.Getenv("HOME"), "record.json")); err == nil {
		t.Error("a command ran")
	}
}

// Only what an exec sink accepts runs anything.
func TestExecAccepts(t *testing.T) {
	home := surround(t)
	e := newExec(t, sink.ExecOptions{Argv: []string{"tool", "{key}"}, Env: []string{"HOME"}, Accept: anyCI})
	_, err := e.Deliver(t.Context(), parse(t, "prod/k"), secret.New(canary), sink.Options{})
	wantError(t, err, "the key prod/k is not accepted here")
	if got := tree(t, home); len(got) != 0 {
		t.Errorf("the command ran: %v", got)
	}
}

func TestExecTimeout(t *testing.T) {
	surround(t)
	e := newExec(t, sink.ExecOptions{Argv: []string{"tool", "hang", "{key}"}, Timeout: 50 * time.Millisecond, Accept: anyCI})
	_, err := e.Deliver(t.Context(), parse(t, "ci/k"), secret.New(canary), sink.Options{})
	wantError(t, err, "sink cmd: command tool was stopped: it ran longer than 50ms")
}

// What a command started is killed with it.
func TestExecKillsTheWholeGroup(t *testing.T) {
	surround(t)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	e := newExec(t, sink.ExecOptions{Argv: []string{"tool", "family", listener.Addr().String(), "{key}"}, Accept: anyCI})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	delivered := make(chan error, 1)
	go func() {
		_, err := e.Deliver(ctx, parse(t, "ci/k"), secret.New(canary), sink.Options{})
		delivered <- err
	}()
	grandchild, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer grandchild.Close()
	cancel()
	wantError(t, <-delivered, "was stopped: context canceled")
	if err := grandchild.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if n, err := grandchild.Read(make([]byte, 1)); n != 0 || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the command's child lives on: %d, %v", n, err)
	}
}

// A command that reads nothing is the operator's business; the server does not fall over it.
func TestExecThatDoesNotRead(t *testing.T) {
	surround(t)
	e := newExec(t, sink.ExecOptions{Argv: []string{"tool", "deaf", "{key}"}, Accept: anyCI})
	if _, err := e.Deliver(t.Context(), parse(t, "ci/k"), secret.New(strings.Repeat("x", sink.MaxSecret)), sink.Options{}); err != nil {
		t.Error(err)
	}
}

func TestNewExec(t *testing.T) {
	t.Parallel()
	argv := []string{"tool", "{key}"}
	tests := []struct {
		name    string
		options sink.ExecOptions
		wants   string
	}{
		{"fine", sink.ExecOptions{Argv: argv, Accept: anyCI}, ""},
		{"absolute", sink.ExecOptions{Argv: []string{"/bin/tool", "{key}"}, Accept: anyCI}, ""},
		{"key on stdin only", sink.ExecOptions{Argv: argv[:1], Stdin: "{key}={secret}", Accept: anyCI}, ""},
		{"no prefixes", sink.ExecOptions{Argv: argv, Accept: sink.Accept{Connections: []string{"a"}}}, "must say which key prefixes it accepts"},
		{"no command", sink.ExecOptions{Accept: anyCI}, "there is no command"},
		{"empty command", sink.ExecOptions{Argv: []string{"", "{key}"}, Accept: anyCI}, "there is no command"},
		{"relative", sink.ExecOptions{Argv: []string{"./tool", "{key}"}, Accept: anyCI}, "relative path"},
		{"relative to rotate", sink.ExecOptions{Argv: argv, Rotate: []string{"bin/tool", "{key}"}, Accept: anyCI}, "relative path"},
		{"key as command", sink.ExecOptions{Argv: []string{"{key}"}, Accept: anyCI}, "the command itself must not hold {key}"},
		{"no key", sink.ExecOptions{Argv: argv[:1], Accept: anyCI}, "no argument holds {key}"},
		{"no key to rotate", sink.ExecOptions{Argv: argv, Rotate: argv[:1], Accept: anyCI}, "no argument holds {key}"},
		{"secret as argument", sink.ExecOptions{Argv: append(argv, "--v={secret}"), Accept: anyCI}, "arguments are visible to all users"},
		{"JSON as argument", sink.ExecOptions{Argv: append(argv, "{secret_json}"), Accept: anyCI}, "arguments are visible to all users"},
		{"no secret", sink.ExecOptions{Argv: argv, Stdin: "{key}", Accept: anyCI}, "exactly once"},
		{"two secrets", sink.ExecOptions{Argv: argv, Stdin: "{secret}{secret_json}", Accept: anyCI}, "exactly once"},
		{"value in env", sink.ExecOptions{Argv: argv, Env: []string{"A=" + canary}, Accept: anyCI}, "names of environment variables"},
		{"negative timeout", sink.ExecOptions{Argv: argv, Timeout: -1, Accept: anyCI}, "timeout is negative"},
	}
	for _, tt := range tests {
		_, err := sink.NewExec("cmd", tt.options)
		if tt.wants != "" {
			wantError(t, err, "sink cmd: ")
			wantError(t, err, tt.wants)
		} else if err != nil {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}
