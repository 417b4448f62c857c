package auth_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/zalando/go-keyring"

	"github.com/tokenreeve/tokenreeve/auth"
)

const canary = "api-c0ffee00-dead-4bee-8f00-facade012345"

// helper makes this test binary the command of an exec source.
const helper = "credential-helper"

func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == helper {
		os.Exit(help(os.Args[2]))
	}
	keyring.MockInit()
	os.Exit(m.Run())
}

func help(what string) int {
	fmt.Fprintln(os.Stderr, "stderr "+canary)
	switch what {
	case "print":
		fmt.Println(canary)
	case "environment":
		fmt.Println(os.Getenv("PATH") != "")
	case "stdin":
		n, _ := os.Stdin.Read(make([]byte, 1))
		fmt.Println("read", n)
	case "fail":
		fmt.Println(canary)
		return 3
	case "flood":
		fmt.Print(strings.Repeat(canary, 10_000))
	case "hang":
		time.Sleep(time.Hour) // select{} would be a deadlock, which ends a program without cgo
	}
	return 0
}

func command(t *testing.T, what string) auth.Reference {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return auth.Reference{Exec: []string{self, helper, what, canary}}
}

func read(ctx context.Context, t *testing.T, ref auth.Reference) (string, error) {
	t.Helper()
	source, err := auth.New(ref)
	if err != nil {
		t.Fatalf("New: %v", err)
	}
	s, err := source.Read(ctx)
	return s.Expose(), err
}

func wantRead(t *testing.T, ref auth.Reference, want string) {
	t.Helper()
	got, err := read(t.Context(), t, ref)
	if err != nil || got != want {
		t.Errorf("Read = %q, %v; want %q", got, err, want)
	}
}

func wantRefused(t *testing.T, ref auth.Reference, want string) {
	t.Helper()
	got, err := read(t.Context(), t, ref)
	if err == nil {
		t.Fatalf("Read = %q; want an error with %q", got, want)
	}
	if got != "" {
		t.Errorf("Read gives a value beside the error %v", err)
	}
	if !strings.Contains(err.Error(), want) {
		t.Errorf("error %q; want %q in it", err, want)
	}
	if strings.Contains(err.Error(), canary) || strings.Contains(err.Error(), "facade012345") {
		t.Errorf("error shows the value: %q", err)
	}
}

func write(t *testing.T, content string, mode os.FileMode) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "credential")
	if err := os.WriteFile(path, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil { // whatever the umask is
		t.Fatal(err)
	}
	return path
}

func TestValidate(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		ref  auth.Reference
		want string // "" for valid
	}{
		{"env", auth.Reference{Env: "MAILTRAP_API_TOKEN"}, ""},
		{"file", auth.Reference{File: "/run/secrets/token"}, ""},
		{"file in the home directory", auth.Reference{File: "~/token"}, ""},
		{"command in PATH", auth.Reference{Exec: []string{"op", "read", "op://x"}}, ""},
		{"command by path", auth.Reference{Exec: []string{"/usr/bin/op"}}, ""},
		{"keyring", auth.Reference{Keyring: "acme"}, ""},
		{"nothing", auth.Reference{}, "names 0 sources"},
		{"two", auth.Reference{Env: "A", Keyring: "b"}, "names 2 sources"},
		{"all", auth.Reference{Env: "A", File: "/b", Exec: []string{"c"}, Keyring: "d"}, "names 4 sources"},
		{"a credential for env", auth.Reference{Env: canary}, "not the name of an environment variable"},
		{"digit first", auth.Reference{Env: "1A"}, "not the name of an environment variable"},
		{"relative file", auth.Reference{File: "token"}, "not an absolute path"},
		{"another's home", auth.Reference{File: "~root/token"}, "not an absolute path"},
		{"relative command", auth.Reference{Exec: []string{"./helper"}}, "relative path"},
		{"relative command below", auth.Reference{Exec: []string{"bin/helper"}}, "relative path"},
		{"empty command", auth.Reference{Exec: []string{"", "x"}}, "empty command"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			err := tt.ref.Validate()
			if tt.want == "" {
				if err != nil {
					t.Fatalf("Validate: %v", err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("Validate: %v; want %q in it", err, tt.want)
			}
			if strings.Contains(err.Error(), canary) {
				t.Errorf("error quotes the reference: %v", err)
			}
			if source, err := auth.New(tt.ref); err == nil || source != nil {
				t.Errorf("New takes it: %v, %v", source, err)
			}
		})
	}
}

func TestEnv(t *testing.T) {
	const name = "TOKENREEVE_TEST_CREDENTIAL"
	ref := auth.Reference{Env: name}
	wantRefused(t, ref, name+" is not set")
	t.Setenv(name, "")
	wantRefused(t, ref, name+" is not set")
	t.Setenv(name, canary)
	wantRead(t, ref, canary)
	t.Setenv(name, canary+"\nX-Other: 1")
	wantRefused(t, ref, name+" holds more than a credential")
}

func TestFileInHomeDirectory(t *testing.T) {
	home := t.TempDir()
	t.Setenv("HOME", home)
	t.Setenv("USERPROFILE", home)
	if err := os.WriteFile(filepath.Join(home, "token"), []byte(canary), 0o600); err != nil {
		t.Fatal(err)
	}
	wantRead(t, auth.Reference{File: "~/token"}, canary)
}

func TestFileContent(t *testing.T) {
	t.Parallel()
	for name, content := range map[string]string{
		"bare": canary, "line": canary + "\n", "line of Windows": canary + "\r\n",
		"longest": strings.Repeat("x", 64<<10-len(canary)-1) + canary + "\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			wantRead(t, auth.Reference{File: write(t, content, 0o600)}, strings.TrimRight(content, "\r\n"))
		})
	}
	for name, tt := range map[string]struct{ content, want string }{
		"empty":             {"", "is empty"},
		"an empty line":     {"\n", "is empty"},
		"two lines":         {canary + "\n" + canary, "holds more than a credential"},
		"two line ends":     {canary + "\n\n", "holds more than a credential"},
		"carriage return":   {canary + "\rX: 1", "holds more than a credential"},
		"NUL":               {canary + "\x00", "holds more than a credential"},
		"scheme":            {"Bearer " + canary, "holds more than a credential"},
		"beyond ASCII":      {canary + "é", "holds more than a credential"},
		"too long":          {strings.Repeat(canary, 2_000), "64 KiB"},
		"a byte order mark": {"\ufeff" + canary, "holds more than a credential"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			wantRefused(t, auth.Reference{File: write(t, tt.content, 0o600)}, tt.want)
		})
	}
}

func TestFileThatCannotBeTrusted(t *testing.T) {
	t.Parallel()
	wantRefused(t, auth.Reference{File: t.TempDir()}, "not a regular file")
	wantRefused(t, auth.Reference{File: filepath.Join(t.TempDir(), "missing")}, "missing")
	if runtime.GOOS == "windows" {
		return
	}
	for _, mode := range []os.FileMode{0o620, 0o602, 0o666} {
		wantRefused(t, auth.Reference{File: write(t, canary, mode)}, "others can change it")
	}
	wantRead(t, auth.Reference{File: write(t, canary, 0o444)}, canary)
	wantRefused(t, auth.Reference{File: os.DevNull}, "not a regular file")
}

func TestFileThroughLinks(t *testing.T) {
	t.Parallel()
	// As Kubernetes mounts a secret: token -> ..data/token, ..data -> ..2026.
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "..2026"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "..2026", "token"), []byte(canary), 0o400); err != nil {
		t.Fatal(err)
	}
	for link, target := range map[string]string{"..data": "..2026", "token": "..data/token", "device": os.DevNull, "dangling": "nowhere"} {
		if err := os.Symlink(target, filepath.Join(dir, link)); err != nil {
			t.Skip(err)
		}
	}
	wantRead(t, auth.Reference{File: filepath.Join(dir, "token")}, canary)
	wantRefused(t, auth.Reference{File: filepath.Join(dir, "device")}, "not a regular file")
	wantRefused(t, auth.Reference{File: filepath.Join(dir, "dangling")}, "dangling")
}

func TestFileIsReadAnew(t *testing.T) {
	t.Parallel()
	path := write(t, canary, 0o600)
	source, err := auth.New(auth.Reference{File: path})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{canary, "renewed-" + canary} {
		if err := os.WriteFile(path, []byte(want), 0o600); err != nil {
			t.Fatal(err)
		}
		if s, err := source.Read(t.Context()); err != nil || s.Expose() != want {
			t.Errorf("Read = %q, %v; want %q", s.Expose(), err, want)
		}
	}
}

func TestExec(t *testing.T) {
	t.Parallel()
	for what, want := range map[string]string{"print": canary, "environment": "true"} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			wantRead(t, command(t, what), want)
		})
	}
	for what, want := range map[string]string{
		"fail":    "failed with exit code 3",
		"flood":   "printed more than 64 KiB",
		"nothing": "is empty",
		"stdin":   "holds more than a credential", // "read 0": there is no standard input
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			wantRefused(t, command(t, what), want)
		})
	}
	wantRefused(t, auth.Reference{Exec: []string{"tokenreeve-no-such-command", canary}}, "command tokenreeve-no-such-command could not be started")
	wantRefused(t, auth.Reference{Exec: []string{t.TempDir(), canary}}, "could not be started")
}

func TestExecIsCancelled(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := read(ctx, t, command(t, "hang")); !errors.Is(err, context.Canceled) {
		t.Errorf("Read: %v; want context.Canceled", err)
	}
}

func TestExecThatHangsIsKilled(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err := read(ctx, t, command(t, "hang"))
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "was stopped") {
		t.Errorf("Read: %v; want it to have been stopped", err)
	}
}

func TestKeyring(t *testing.T) {
	t.Parallel()
	if err := keyring.Set("tokenreeve", "acme", canary); err != nil {
		t.Fatal(err)
	}
	wantRead(t, auth.Reference{Keyring: "acme"}, canary)
	wantRefused(t, auth.Reference{Keyring: "other"}, "keyring entry other of the service tokenreeve does not exist")
}

func TestNothingIsReadBeforeRead(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "later")
	source, err := auth.New(auth.Reference{File: path})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(canary), 0o600); err != nil {
		t.Fatal(err)
	}
	if s, err := source.Read(t.Context()); err != nil || s.Expose() != canary {
		t.Errorf("Read = %q, %v", s.Expose(), err)
	}
}
