package e2e_test

import (
	"bufio"
	"fmt"
	"os/exec"
	"testing"
)

// A client that pipes standard error and never reads it is served all the same,
// also once the pipe is full.
func TestUnreadStandardError(t *testing.T) {
	t.Parallel()
	v := newVendors(t)
	cmd := exec.CommandContext(t.Context(), binary(t), "--log-level", "debug")
	cmd.Env = v.env()
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer stderr.Close()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	answers := bufio.NewReader(stdout)
	for id := range 2000 { // some 200 KB of log, three times what a pipe holds
		call := `{"jsonrpc":"2.0","id":%d,"method":"tools/call","params":{"name":"list_connections","arguments":{}}}` + "\n"
		if _, err := fmt.Fprintf(stdin, call, id); err != nil {
			t.Fatal(err)
		}
		if _, err := answers.ReadString('\n'); err != nil {
			t.Fatalf("call %d is not answered: %v", id, err)
		}
	}
	if err := stdin.Close(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("exit: %v", err)
	}
}
