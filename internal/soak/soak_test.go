// Package soak_test holds many sessions of all kinds of clients at one server, while its vendors
// throttle and fail: no answer is lost, nothing is leaked, and memory comes back.
package soak_test

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/tokenreeve/tokenreeve/internal/cli"
	"github.com/tokenreeve/tokenreeve/internal/rawmcp"
	"github.com/tokenreeve/tokenreeve/internal/sandbox"
)

// fromEnvironment returns a variable's value, read as its default is.
func fromEnvironment[T any](t *testing.T, name string, otherwise T, parse func(string) (T, error)) T {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	value, err := parse(text)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return value
}

// settings are SOAK_SESSIONS (32), for how long (SOAK_TIME, 2s) they are held, and SOAK_SEED (1). How
// long the server then rests before its memory is measured is SOAK_REST (0s).
func settings(t *testing.T) (sessions int, held time.Duration, seed uint64) {
	t.Helper()
	sessions = fromEnvironment(t, "SOAK_SESSIONS", 32, strconv.Atoi)
	held = fromEnvironment(t, "SOAK_TIME", 2*time.Second, time.ParseDuration)
	seed = fromEnvironment(t, "SOAK_SEED", 1, func(s string) (uint64, error) { return strconv.ParseUint(s, 10, 64) })
	return sessions, held, seed
}

const (
	principals = 25
	// comeBack is when what has not come back never will. Go collects garbage every two minutes where
	// nothing else makes it.
	comeBack = 3 * time.Minute
	// mostMemory is what may be left of the load, as a part of what was before.
	mostMemory = 1.2
)

// TestSoakInProcess holds the sessions at a server in this process: once its clients are gone, so are
// its goroutines, while it serves on and after it has ended.
func TestSoakInProcess(t *testing.T) {
	before := goleak.IgnoreCurrent()
	sessions, held, seed := settings(t)
	w := newWorld(t, seed)
	ctx, stop := context.WithCancel(t.Context())
	stderr, says := io.Pipe()
	ended := make(chan int, 1)
	go func() {
		ended <- cli.Run(ctx, "soak", w.arguments(), cli.Streams{In: strings.NewReader(""), Out: io.Discard, Err: says})
		_ = says.Close()
	}()
	url := address(t, stderr)
	w.hold(t, url, 1, 100*time.Millisecond, seed) // everything that is made once is there
	idle := runtime.NumGoroutine()
	t.Log(w.hold(t, url, sessions, held, seed))
	w.quiet()
	await(t, "the goroutines of clients that are gone", func() (bool, string) {
		left := runtime.NumGoroutine()
		return left <= idle, fmt.Sprintf("%d goroutines, %d before", left, idle)
	})
	stop()
	if code := <-ended; code != 0 {
		t.Errorf("the server ended with %d", code)
	}
	w.close()
	goleak.VerifyNone(t, before)
}

// TestSoakBinary holds the sessions at the built binary: once they are gone, its memory is back where
// it was after a first wave of them.
func TestSoakBinary(t *testing.T) {
	sessions, held, seed := settings(t)
	w := newWorld(t, seed)
	defer w.close()
	binary := filepath.Join(t.TempDir(), "tokenreeve")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", binary, "github.com/tokenreeve/tokenreeve").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	cmd := exec.CommandContext(t.Context(), binary, w.arguments()...)
	cmd.Env = []string{"HOME=" + w.home, "PATH=" + os.Getenv("PATH")}
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	url := address(t, stderr)
	fresh := resident(t, cmd.Process.Pid)
	rest := fromEnvironment(t, "SOAK_REST", 0, time.ParseDuration)
	w.hold(t, url, sessions, held, seed)
	w.quiet()
	warm := resident(t, cmd.Process.Pid)
	time.Sleep(rest)
	start := resident(t, cmd.Process.Pid)
	told := w.hold(t, url, sessions, held, seed+1)
	w.quiet()
	busy := resident(t, cmd.Process.Pid)
	began := time.Now()
	time.Sleep(rest)
	await(t, "the memory of clients that are gone", func() (bool, string) {
		left := resident(t, cmd.Process.Pid)
		return left <= mostMemory*start, fmt.Sprintf("%.1f MiB, %.1f before", left, start)
	})
	t.Logf("%s\n%.1f MiB when it began to serve, %.1f after a first wave, %.1f after a rest; %.1f at the end of the load, %.1f %v later",
		told, fresh, warm, start, busy, resident(t, cmd.Process.Pid), time.Since(began).Round(time.Second))
	_ = cmd.Process.Signal(syscall.SIGTERM)
	if err := cmd.Wait(); err != nil {
		t.Errorf("the server: %v", err)
	}
}

// address reads where the server serves; what it says after that is read and forgotten.
func address(t *testing.T, stderr io.Reader) string {
	t.Helper()
	serves := regexp.MustCompile(`tokenreeve serves (http://\S+:\d+)/mcp`)
	lines := bufio.NewReader(stderr)
	for {
		line, err := lines.ReadString('\n')
		if found := serves.FindStringSubmatch(line); found != nil {
			go func() { _, _ = io.Copy(io.Discard, lines) }()
			return found[1]
		}
		if err != nil {
			t.Fatalf("the server does not serve: %q, %v", line, err)
		}
	}
}

// await waits until something is as it should be.
func await(t *testing.T, what string, is func() (bool, string)) {
	t.Helper()
	for end := time.Now().Add(comeBack); ; time.Sleep(50 * time.Millisecond) {
		ok, text := is()
		if ok {
			return
		}
		if time.Now().After(end) {
			stacks := make([]byte, 1<<20)
			t.Errorf("%s have not come back: %s\n%s", what, text, stacks[:runtime.Stack(stacks, true)])
			return
		}
	}
}

// resident is the process's resident memory, in MiB.
func resident(t *testing.T, pid int) float64 {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Skipf("how much memory a process has is not known here: %v", err)
	}
	found := regexp.MustCompile(`VmRSS:\s+(\d+) kB`).FindSubmatch(status)
	if found == nil {
		t.Fatal("the process's status has no VmRSS")
	}
	kibibytes, err := strconv.ParseFloat(string(found[1]), 64)
	if err != nil {
		t.Fatal(err)
	}
	return kibibytes / 1024
}

// world is the vendors, and a configuration with callers.
type world struct {
	box  *sandbox.Sandbox
	http *httptest.Server
	home string
	file string
	ids  []string
}

func newWorld(t *testing.T, seed uint64) *world {
	t.Helper()
	second := func(requests int) sandbox.Budget { return sandbox.Budget{Requests: requests, Window: time.Second} }
	box, err := sandbox.New(sandbox.Options{
		Seed: seed, Tokens: 300, Latency: 5 * time.Millisecond,
		LaunchDarkly: sandbox.LaunchDarklyOptions{RouteBudget: second(500), RetryAfter: true},
		Mailtrap:     sandbox.MailtrapOptions{Budget: sandbox.Budget{Requests: 2000, Window: 10 * time.Second}},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, fault := range []sandbox.Fault{
		{Kind: sandbox.Fault429, Vendor: sandbox.LaunchDarkly, Chance: 0.002, ResetMS: 300},
		{Kind: sandbox.Fault503, Chance: 0.01},
		{Kind: sandbox.FaultCut, Method: "GET", Chance: 0.01},
		{Kind: sandbox.FaultLatency, Chance: 0.05, LatencyMS: 200},
	} {
		if _, err := box.AddFault(fault); err != nil {
			t.Fatal(err)
		}
	}
	w := &world{box: box, http: httptest.NewServer(box.Handler()), home: t.TempDir()}
	t.Cleanup(w.close)
	for _, token := range box.LaunchDarklyTokens() {
		w.ids = append(w.ids, token.ID)
	}
	w.configure(t)
	return w
}

func (w *world) close() { w.http.Close() }

func (w *world) configure(t *testing.T) {
	t.Helper()
	access := w.box.Access(w.http.URL)
	credential := func(name, value string) map[string]any {
		return map[string]any{"file": w.write(t, name, value)}
	}
	var tokens []map[string]any
	for n := range principals {
		tokens = append(tokens, map[string]any{"name": fmt.Sprintf("caller-%d", n), "role": "operator", "sha256": fmt.Sprintf("%x", sha256.Sum256([]byte(tokenOf(n))))})
	}
	data, err := json.Marshal(map[string]any{
		"connections": map[string]any{
			"ld": map[string]any{"provider": "launchdarkly", "base_url": access.LaunchDarkly.BaseURL, "credential": credential("ld", access.LaunchDarkly.Credential)},
			"mt": map[string]any{"provider": "mailtrap", "base_url": access.Mailtrap.BaseURL, "account_id": access.Mailtrap.AccountID, "credential": credential("mt", access.Mailtrap.Credential)},
		},
		"sinks": map[string]any{"files": map[string]any{"type": "file", "directory": filepath.Join(w.home, "secrets")}},
		"auth":  map[string]any{"tokens": tokens},
	})
	if err != nil {
		t.Fatal(err)
	}
	w.file = w.write(t, "config.json", string(data))
}

func (w *world) write(t *testing.T, name, content string) string {
	t.Helper()
	path := filepath.Join(w.home, name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func (w *world) arguments() []string {
	return []string{"serve", "--listen", "127.0.0.1:0", "--config", w.file, "--state-dir", filepath.Join(w.home, "state")}
}

// quiet closes the connections that the vendors keep for the server's next requests.
func (w *world) quiet() { w.http.CloseClientConnections() }

func tokenOf(n int) string {
	return "trv_" + fmt.Sprintf("%x", sha256.Sum256(fmt.Appendf(nil, "caller-%d", n)))
}

// hold has so many clients hold a session each, for that time, and tells what they were answered.
func (w *world) hold(t *testing.T, url string, sessions int, held time.Duration, seed uint64) string {
	t.Helper()
	l := &load{url: url, counts: map[string]int{}}
	ctx, cancel := context.WithTimeout(t.Context(), held)
	defer cancel()
	var wg sync.WaitGroup
	ways := rawmcp.Ways()
	for i := range sessions {
		c := &client{
			load: l, name: fmt.Sprintf("client %d", i), token: tokenOf(i % principals), ids: w.ids,
			way: ways[i%len(ways)], habit: habits()[i/len(ways)%len(habits())], hears: i/len(ways)%2 == 0,
		}
		dice := rand.New(rand.NewPCG(seed, uint64(i)))
		wg.Go(func() { c.run(ctx, dice) })
	}
	wg.Go(func() { l.watch(ctx, url) })
	wg.Wait()
	for _, err := range l.errs {
		t.Error(err)
	}
	if l.counts["answers"] == 0 {
		t.Error("nothing was answered")
	}
	return l.String()
}

// watch looks after the server's health: whatever others do, it answers at once.
func (l *load) watch(ctx context.Context, url string) {
	n := newNetwork(false)
	defer n.close()
	n.http.Timeout = answerTime
	for ctx.Err() == nil {
		r, err := http.NewRequestWithContext(context.WithoutCancel(ctx), http.MethodGet, url+"/readyz", nil)
		if err != nil {
			l.lost(err)
			return
		}
		response, err := n.http.Do(r)
		if err != nil {
			l.lost(fmt.Errorf("/readyz: %w", err))
			return
		}
		_ = response.Body.Close()
		if response.StatusCode != http.StatusOK {
			l.lost(fmt.Errorf("/readyz: status %d", response.StatusCode))
		}
		sleep(ctx, 100*time.Millisecond)
	}
}
