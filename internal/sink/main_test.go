package sink_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/tokenreeve/tokenreeve/internal/postgres/postgrestest"
)

// commands are the names under which this test program is a command of an exec sink. A program of our
// own needs no shell, and no file that is written and run at once.
var commands = []string{"op", "gh", "kubectl", "aws", "gcloud", "doppler", "infisical", "tool"}

func TestMain(m *testing.M) {
	for _, name := range commands {
		if filepath.Base(os.Args[0]) == name {
			leave(command())
		}
	}
	code := m.Run()
	if err := databases.Close(); err != nil {
		fmt.Fprintln(os.Stderr, "the databases were not dropped:", err)
		code = 1
	}
	os.Exit(code)
}

// databases are those of the tests, used again and again: to make one takes long.
var databases postgrestest.Pool

// leave ends the program. Under the race detector os.Exit takes a second, which another program that
// takes our place does not.
func leave(code int) {
	_ = syscall.Exec("/bin/sh", []string{"sh", "-c", fmt.Sprintf("exit %d", code)}, nil)
	os.Exit(code)
}

// call is what a command saw.
type call struct {
	Argv, Env []string
	Stdin     string
	Dir       string
}

// command does what its first argument says; by default it writes what it sees to record.json in HOME.
func command() int {
	first := ""
	if len(os.Args) > 1 {
		first = os.Args[1]
	}
	switch first {
	case "fail":
		_, _ = io.Copy(io.MultiWriter(os.Stdout, os.Stderr), os.Stdin)
		return 3
	case "deaf": // ends without having read anything
		return 0
	case "hang":
		select {}
	case "family": // has a child that shows on a connection how long it lives
		child := exec.Command("/proc/self/exe", "hold", os.Args[2])
		child.Args[0] = os.Args[0]
		_ = child.Run()
	case "hold":
		connection, err := net.Dial("tcp", os.Args[2])
		if err != nil {
			return 1
		}
		_, _ = io.Copy(io.Discard, connection)
	default:
		return record()
	}
	return 0
}

func record() int {
	stdin, err := io.ReadAll(os.Stdin)
	if err != nil {
		return 1
	}
	dir, _ := os.Getwd()
	data, err := json.Marshal(call{Argv: os.Args, Env: os.Environ(), Stdin: string(stdin), Dir: dir})
	if err != nil || os.WriteFile(filepath.Join(os.Getenv("HOME"), "record.json"), data, 0o600) != nil {
		return 1
	}
	return 0
}

// install makes this test program a command of each name, in a directory that it returns.
func install(t *testing.T) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, name := range commands {
		link(t, self, filepath.Join(dir, name))
	}
	return dir
}

// seen returns what the command recorded in home.
func seen(t *testing.T, home string) call {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(home, "record.json"))
	if err != nil {
		t.Fatal(err)
	}
	var c call
	if err := json.Unmarshal(data, &c); err != nil {
		t.Fatal(err)
	}
	return c
}

// wantError fails unless err holds text, the secret-free way.
func wantError(t *testing.T, err error, text string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), text) {
		t.Errorf("got %v, want %q", err, text)
	}
	if err != nil && strings.Contains(err.Error(), canary) {
		t.Errorf("the error shows the secret: %v", err)
	}
}
