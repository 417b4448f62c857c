// Package e2e_test drives the built binary as its users do: an MCP client over
// stdio or HTTP, or a shell. The vendors are a sandbox in the test's process, so
// that a test sees every request and holds any of them as long as it likes.
package e2e_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/mark3labs/mcp-go/client"
	"github.com/mark3labs/mcp-go/client/transport"
	"github.com/mark3labs/mcp-go/mcp"

	// The result of these tests is cached: it must depend on the binary's code.
	_ "github.com/tokenreeve/tokenreeve/internal/cli"
	"github.com/tokenreeve/tokenreeve/internal/sandbox"
)

// hang is when a test that still waits has failed. It is less than what the
// server grants calls under way at its end (35 s), so that waiting for that in
// vain is a failure too.
const hang = 30 * time.Second

// The protocol versions of both eras.
const (
	legacy = mcp.LATEST_LEGACY_PROTOCOL_VERSION
	modern = mcp.ProtocolVersion20260728
)

// buildDir holds the binary.
var buildDir string

func TestMain(m *testing.M) {
	var err error
	if buildDir, err = os.MkdirTemp("", "tokenreeve-e2e-"); err != nil {
		panic(err)
	}
	code := m.Run()
	_ = os.RemoveAll(buildDir)
	os.Exit(code)
}

// build makes the binary once, with the race detector where there is a C compiler
// for it. The build cache makes this cheap.
var build = sync.OnceValues(func() (string, error) {
	args := []string{"-ldflags", "-X main.version=v1.2.3-test"}
	if cgo, err := exec.Command("go", "env", "CGO_ENABLED").Output(); err == nil && strings.TrimSpace(string(cgo)) == "1" {
		args = append(args, "-race")
	}
	return compile("tokenreeve", args...)
})

func compile(name string, flags ...string) (string, error) {
	if _, err := os.ReadFile("../../main.go"); err != nil { // the cached result of the tests depends on it, too
		return "", err
	}
	path := filepath.Join(buildDir, name)
	args := slices.Concat([]string{"build", "-buildvcs=false", "-o", path}, flags, []string{"github.com/tokenreeve/tokenreeve"})
	if out, err := exec.Command("go", args...).CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w\n%s", err, out)
	}
	return path, nil
}

func binary(t *testing.T) string {
	t.Helper()
	path, err := build()
	if err != nil {
		t.Fatalf("build: %v", err)
	}
	return path
}

// vendors are the simulated vendors behind one binary, and its home.
type vendors struct {
	*sandbox.Sandbox
	access sandbox.Access
	home   string
	lease  time.Duration // of operations, where the binary has fault points; 0: a short one

	mu    sync.Mutex
	gates []*gate
	heard map[string]bool // the values of all headers that came
}

func newVendors(t *testing.T) *vendors {
	t.Helper()
	box, err := sandbox.New(sandbox.Options{Seed: 5, Tokens: 90})
	if err != nil {
		t.Fatal(err)
	}
	v := &vendors{Sandbox: box, home: t.TempDir(), heard: map[string]bool{}}
	next := box.Handler()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		passed := v.pass(r)
		next.ServeHTTP(w, r)
		for _, g := range passed {
			g.acted <- struct{}{}
		}
	}))
	t.Cleanup(srv.Close)
	t.Cleanup(v.openAll) // before that: a held request keeps the server open
	v.access = box.Access(srv.URL)
	return v
}

// gate holds requests before the vendor acts on them.
type gate struct {
	method, path string
	arrived      chan struct{} // one element for each request that came
	acted        chan struct{} // and one once the vendor has acted on it
	open         chan struct{}
	once         sync.Once
}

// hold makes matching requests wait until the gate is released.
func (v *vendors) hold(method, path string) *gate {
	g := &gate{method: method, path: path, arrived: make(chan struct{}, 1000), acted: make(chan struct{}, 1000), open: make(chan struct{})}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.gates = append(v.gates, g)
	return g
}

func (g *gate) release() { g.once.Do(func() { close(g.open) }) }

// await waits until n requests came.
func (g *gate) await(t *testing.T, n int) {
	t.Helper()
	for i := range n {
		receive(t, g.arrived, fmt.Sprintf("request %d of %d: %s %s", i+1, n, g.method, g.path))
	}
}

// pass waits at the gates that hold the request, and returns them.
func (v *vendors) pass(r *http.Request) []*gate {
	v.mu.Lock()
	gates := slices.Clone(v.gates)
	for _, values := range r.Header {
		for _, value := range values {
			v.heard[value] = true
		}
	}
	v.mu.Unlock()
	gates = slices.DeleteFunc(gates, func(g *gate) bool { return r.Method != g.method || !strings.Contains(r.URL.Path, g.path) })
	for _, g := range gates {
		g.arrived <- struct{}{}
		<-g.open
	}
	return gates
}

func (v *vendors) openAll() {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, g := range v.gates {
		g.release()
	}
}

// notForwarded fails where a vendor was sent a caller's token.
func (v *vendors) notForwarded(t *testing.T, tokens ...string) {
	t.Helper()
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.heard) == 0 {
		t.Error("no vendor was sent anything")
	}
	for value := range v.heard {
		for _, token := range tokens {
			if strings.Contains(value, token) {
				t.Error("a vendor was sent a caller's token")
			}
		}
	}
}

// sent counts the requests of a method that were answered.
func (v *vendors) sent(method string) int {
	n := 0
	for _, r := range v.Requests() {
		if r.Method == method {
			n++
		}
	}
	return n
}

// env is the whole environment of a process: the variables of the three vendors,
// and a home of its own.
func (v *vendors) env(more ...string) []string {
	return append(v.bareEnv(),
		append([]string{
			"ATLASSIAN_ADMIN_TOKEN=" + v.access.Atlassian.Credential,
			"ATLASSIAN_ORG_ID=" + v.access.Atlassian.OrgID,
			"ATLASSIAN_BASE_URL=" + v.access.Atlassian.BaseURL,
			"LAUNCHDARKLY_ACCESS_TOKEN=" + v.access.LaunchDarkly.Credential,
			"LAUNCHDARKLY_BASE_URL=" + v.access.LaunchDarkly.BaseURL,
			"MAILTRAP_API_TOKEN=" + v.access.Mailtrap.Credential,
			fmt.Sprintf("MAILTRAP_ACCOUNT_ID=%d", v.access.Mailtrap.AccountID),
			"MAILTRAP_BASE_URL=" + v.access.Mailtrap.BaseURL,
		}, more...)...)
}

// bareEnv knows no vendor.
func (v *vendors) bareEnv() []string {
	return []string{
		"HOME=" + v.home, "TMPDIR=" + v.home, "PATH=" + os.Getenv("PATH"),
		"GORACE=atexit_sleep_ms=0", // the race detector would keep every process for a second
	}
}

// secretsDir is where the default sink keeps secrets.
func (v *vendors) secretsDir() string {
	return filepath.Join(v.home, ".local", "state", "tokenreeve", "secrets")
}

// delivered reads every secret below dir.
func delivered(t *testing.T, dir string) []string {
	t.Helper()
	var secrets []string
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		secrets = append(secrets, string(data))
		return err
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return secrets
}

// noSecretIn fails where a text holds a secret of any vendor.
func (v *vendors) noSecretIn(t *testing.T, what, text string) {
	t.Helper()
	for _, secret := range v.Secrets() {
		if strings.Contains(text, secret) {
			t.Errorf("%s holds a secret", what)
		}
	}
}

// receive returns what the channel gives, or the zero value once it is closed.
func receive[T any](t *testing.T, from <-chan T, what string) T {
	t.Helper()
	select {
	case value := <-from:
		return value
	case <-time.After(hang):
		t.Fatalf("%s: never came", what)
		panic("unreachable")
	}
}

// transcript collects what a process writes and lets a test wait for it.
type transcript struct {
	mu      sync.Mutex
	all     strings.Builder
	changed chan struct{}
}

func newTranscript() *transcript { return &transcript{changed: make(chan struct{})} }

func (x *transcript) Write(p []byte) (int, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.all.Write(p)
	close(x.changed)
	x.changed = make(chan struct{})
	return len(p), nil
}

func (x *transcript) String() string {
	all, _ := x.state()
	return all
}

// state returns everything so far, and a channel that is closed once there is more.
func (x *transcript) state() (all string, changed <-chan struct{}) {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.all.String(), x.changed
}

// await blocks until find, given everything so far, says that it has what it wants.
func (x *transcript) await(t *testing.T, what string, find func(all string) bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), hang)
	defer cancel()
	for {
		all, changed := x.state()
		if find(all) {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			t.Fatalf("%s never came; this did:\n%s", what, all)
		}
	}
}

func (x *transcript) awaitText(t *testing.T, part string) {
	t.Helper()
	x.await(t, part, func(all string) bool { return strings.Contains(all, part) })
}

// process is a running tokenreeve.
type process struct {
	cmd      *exec.Cmd
	stdin    io.WriteCloser
	stdout   io.ReadCloser // what was read of them stands in out and err
	stderr   io.ReadCloser
	out, err *transcript
	ended    chan struct{}
}

// start runs the binary with a pipe as its input. At the test's end it must have
// ended without a data race.
func start(t *testing.T, env []string, args ...string) *process {
	t.Helper()
	return startBinary(t, binary(t), env, args...)
}

func startBinary(t *testing.T, path string, env []string, args ...string) *process {
	t.Helper()
	stdin, input, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	p := runIn(t, t.TempDir(), stdin, path, env, args...)
	p.stdin = input
	t.Cleanup(func() { _ = input.Close() })
	return p
}

// startProcess runs the binary in a directory. It closes stdin, which is the process's.
func startProcess(t *testing.T, dir string, stdin *os.File, env []string, args ...string) *process {
	t.Helper()
	return runIn(t, dir, stdin, binary(t), env, args...)
}

func runIn(t *testing.T, dir string, stdin *os.File, path string, env []string, args ...string) *process {
	t.Helper()
	cmd := exec.Command(path, args...)
	cmd.Env, cmd.Dir, cmd.Stdin = env, dir, stdin
	p := launch(t, cmd)
	_ = stdin.Close()
	return p
}

// launch runs a command of the binary.
func launch(t *testing.T, cmd *exec.Cmd) *process {
	t.Helper()
	p := &process{cmd: cmd, out: newTranscript(), err: newTranscript(), ended: make(chan struct{})}
	var errs [3]error
	p.stdout, errs[0] = p.cmd.StdoutPipe()
	p.stderr, errs[1] = p.cmd.StderrPipe()
	errs[2] = p.cmd.Start()
	if err := errors.Join(errs[:]...); err != nil {
		t.Fatal(err)
	}
	var reading sync.WaitGroup
	reading.Go(func() { _, _ = io.Copy(p.out, p.stdout) })
	reading.Go(func() { _, _ = io.Copy(p.err, p.stderr) })
	go func() {
		defer close(p.ended)
		reading.Wait()
		_ = p.cmd.Wait() // the exit code is in cmd.ProcessState
	}()
	t.Cleanup(func() {
		select {
		case <-p.ended:
		case <-time.After(hang):
			_ = p.cmd.Process.Kill()
			t.Errorf("the process did not end; it said:\n%s", p.err)
		}
		noRace(t, p.err)
	})
	return p
}

func noRace(t *testing.T, stderr *transcript) {
	t.Helper()
	if strings.Contains(stderr.String(), "DATA RACE") {
		t.Errorf("data race:\n%s", stderr)
	}
}

func (p *process) signal(t *testing.T, s os.Signal) {
	t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
}

// exit waits for the end and checks the exit code; -1 is an end by a signal.
func (p *process) exit(t *testing.T, want int) {
	t.Helper()
	receive(t, p.ended, "the end of the process")
	if got := p.cmd.ProcessState.ExitCode(); got != want {
		t.Errorf("exit code %d, want %d (%s); it said:\n%s", got, want, p.cmd.ProcessState, p.err)
	}
}

// run runs a command to its end with this input.
func run(t *testing.T, env []string, code int, stdin string, args ...string) (stdout, stderr string) {
	t.Helper()
	p := start(t, env, args...)
	_, _ = io.WriteString(p.stdin, stdin) // a command may end without reading
	_ = p.stdin.Close()
	p.exit(t, code)
	return p.out.String(), p.err.String()
}

func (p *process) send(t *testing.T, line string) {
	t.Helper()
	if _, err := io.WriteString(p.stdin, line+"\n"); err != nil {
		t.Errorf("send: %v", err)
	}
}

// request sends a request without waiting for its answer.
func (p *process) request(t *testing.T, id any, method string, params any) {
	t.Helper()
	line, err := json.Marshal(map[string]any{"jsonrpc": "2.0", "id": id, "method": method, "params": params})
	if err != nil {
		t.Fatal(err)
	}
	p.send(t, string(line))
}

func (p *process) call(t *testing.T, id any, tool string, arguments map[string]any) {
	t.Helper()
	p.request(t, id, "tools/call", map[string]any{"name": tool, "arguments": arguments})
}

// message is one JSON-RPC message of the server.
type message struct {
	JSONRPC string
	ID      any
	Method  string
	Params  map[string]any
	Error   *struct {
		Code    int
		Message string
	}
	Result struct {
		IsError           bool
		StructuredContent map[string]any
		Content           []struct{ Text string }
		Tools             []struct{ Name string }
	}
}

// messages reads the whole lines of an output. A line that is no JSON-RPC fails
// the test: stdout carries nothing else.
func messages(t *testing.T, all string) []message {
	t.Helper()
	var list []message
	for line := range strings.Lines(all) {
		if !strings.HasSuffix(line, "\n") {
			break
		}
		var m message
		if err := json.Unmarshal([]byte(line), &m); err != nil || m.JSONRPC != mcp.JSONRPC_VERSION {
			t.Errorf("stdout carries something else than JSON-RPC: %q (%v)", line, err)
		}
		list = append(list, m)
	}
	return list
}

// answer waits for the answer to a request.
func (p *process) answer(t *testing.T, id any) message {
	t.Helper()
	var found message
	p.out.await(t, fmt.Sprintf("the answer to %v", id), func(all string) bool {
		for _, m := range messages(t, all) {
			if fmt.Sprint(m.ID) == fmt.Sprint(id) && m.Method == "" {
				found = m
				return true
			}
		}
		return false
	})
	return found
}

// serve starts the binary over stdio and initializes it.
func serve(t *testing.T, env []string, args ...string) *process {
	t.Helper()
	p := start(t, env, append(args, "--log-level", "debug")...)
	p.initialize(t)
	return p
}

func (p *process) initialize(t *testing.T) {
	t.Helper()
	p.request(t, "init", "initialize", initialization())
	p.answer(t, "init")
	p.send(t, `{"jsonrpc":"2.0","method":"notifications/initialized"}`)
}

func initialization() map[string]any {
	return map[string]any{
		"protocolVersion": legacy, "capabilities": map[string]any{}, "clientInfo": map[string]any{"name": "test", "version": "0"},
	}
}

// confirmed previews a change and sends it again with the code, without waiting
// for the answer.
func (p *process) confirmed(t *testing.T, id, tool string, arguments map[string]any) {
	t.Helper()
	p.call(t, id+" preview", tool, arguments)
	preview := p.answer(t, id+" preview").Result
	code, ok := preview.StructuredContent["confirm"].(string)
	if !ok {
		t.Fatalf("%s: no preview: %+v", tool, preview)
	}
	arguments["confirm"] = code
	p.call(t, id, tool, arguments)
}

// stdioClient is the library's client of the binary over stdio.
func stdioClient(t *testing.T, version string, env []string, args ...string) (*client.Client, *transcript) {
	t.Helper()
	stderr := newTranscript()
	c, err := client.NewStdioMCPClientWithOptions(binary(t), env, args, transport.WithCommandFunc(commandFor(t, stderr)))
	if err != nil {
		t.Fatal(err)
	}
	use(t, c, version, stderr)
	return c, stderr
}

// askingClient is a client over stdio that can ask its user; answer stands for
// that user.
func askingClient(t *testing.T, version string, answer func(question string) string, env []string, args ...string) *client.Client {
	t.Helper()
	stderr := newTranscript()
	over := transport.NewStdioWithOptions(binary(t), env, args, transport.WithCommandFunc(commandFor(t, stderr)))
	if err := over.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	c := client.NewClient(over, client.WithElicitationHandler(user(answer)))
	if err := c.Start(t.Context()); err != nil { // this time for the questions
		t.Fatal(err)
	}
	use(t, c, version, stderr)
	return c
}

// user fills in the form of a question.
type user func(question string) string

// Elicit implements client.ElicitationHandler.
func (u user) Elicit(_ context.Context, request mcp.ElicitationRequest) (*mcp.ElicitationResult, error) {
	return &mcp.ElicitationResult{ElicitationResponse: mcp.ElicitationResponse{
		Action: mcp.ElicitationResponseActionAccept, Content: map[string]any{"phrase": u(request.Params.Message)},
	}}, nil
}

func commandFor(t *testing.T, stderr io.Writer) transport.CommandFunc {
	t.Helper()
	dir := t.TempDir()
	return func(_ context.Context, name string, env, args []string) (*exec.Cmd, error) {
		cmd := exec.Command(name, args...)
		cmd.Env, cmd.Stderr, cmd.Dir = env, stderr, dir
		return cmd, nil
	}
}

// use initializes a client and closes it at the test's end.
func use(t *testing.T, c *client.Client, version string, stderr *transcript) {
	t.Helper()
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Errorf("the server did not end well: %v\n%s", err, stderr)
		}
		noRace(t, stderr)
	})
	initialize(t, c, version)
}

func initialize(t *testing.T, c *client.Client, version string) *mcp.InitializeResult {
	t.Helper()
	request := mcp.InitializeRequest{}
	request.Params.ProtocolVersion = version
	request.Params.ClientInfo = mcp.Implementation{Name: "test", Version: "0"}
	result, err := c.Initialize(t.Context(), request)
	if err != nil {
		t.Fatalf("initialize: %v", err)
	}
	if result.ProtocolVersion != version {
		t.Fatalf("the server speaks %s, want %s", result.ProtocolVersion, version)
	}
	return result
}

// callTool calls a tool and returns its structured content; nil and the text for
// an error of the tool.
func callTool(t *testing.T, c *client.Client, tool string, arguments map[string]any) (map[string]any, string) {
	t.Helper()
	request := mcp.CallToolRequest{}
	request.Params.Name, request.Params.Arguments = tool, arguments
	result, err := c.CallTool(t.Context(), request)
	if err != nil {
		t.Fatalf("%s: %v", tool, err)
	}
	text := result.Content[0].(mcp.TextContent).Text
	content, _ := result.StructuredContent.(map[string]any)
	if result.IsError {
		return nil, text
	}
	return content, text
}

// succeed calls a tool, confirms its preview if it shows one, and returns the
// result.
func succeed(t *testing.T, c *client.Client, tool string, arguments map[string]any) map[string]any {
	t.Helper()
	content, text := callTool(t, c, tool, arguments)
	if code, ok := content["confirm"]; ok {
		arguments["confirm"] = code
		content, text = callTool(t, c, tool, arguments)
	}
	if content == nil {
		t.Fatalf("%s: %s", tool, text)
	}
	return content
}

// fail calls a tool that must fail and returns its error's code.
func fail(t *testing.T, c *client.Client, tool string, arguments map[string]any) string {
	t.Helper()
	content, text := callTool(t, c, tool, arguments)
	var problem struct {
		Code string `json:"code"`
	}
	if err := json.Unmarshal([]byte(text), &problem); content != nil || err != nil {
		t.Fatalf("%s: %s (%v), want an error", tool, text, err)
	}
	return problem.Code
}

// terminate is how a supervisor ends a process.
const terminate = syscall.SIGTERM
