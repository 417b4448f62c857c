package tools_test

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode"

	"github.com/google/go-cmp/cmp"
	"github.com/mark3labs/mcp-go/client"
	mcptransport "github.com/mark3labs/mcp-go/client/transport"
	"github.com/mark3labs/mcp-go/mcp"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/tokenreeve/tokenreeve/auth"
	"github.com/tokenreeve/tokenreeve/internal/ledger"
	"github.com/tokenreeve/tokenreeve/internal/policy"
	"github.com/tokenreeve/tokenreeve/internal/sandbox"
	"github.com/tokenreeve/tokenreeve/internal/secret"
	"github.com/tokenreeve/tokenreeve/internal/server"
	"github.com/tokenreeve/tokenreeve/internal/sink"
	"github.com/tokenreeve/tokenreeve/internal/statekeys"
	"github.com/tokenreeve/tokenreeve/providers"
	"github.com/tokenreeve/tokenreeve/providers/atlassian"
	"github.com/tokenreeve/tokenreeve/providers/launchdarkly"
	"github.com/tokenreeve/tokenreeve/providers/mailtrap"
	"github.com/tokenreeve/tokenreeve/providers/transport"
	"github.com/tokenreeve/tokenreeve/tools"
)

// The connections of a harness that names none.
const (
	atlassianName    = "acme-atlassian"
	launchDarklyName = "acme-launchdarkly"
	mailtrapName     = "acme-mailtrap"
)

// sinkName is the file sink of every harness and the default of its connections.
const sinkName = "files"

// connect is one connection of a harness. The zero fields are the sandbox's main
// credential, a policy that allows everything, and the default sink.
type connect struct {
	name, vendor   string
	credential     string
	userManagement string // Atlassian's second credential
	baseURL        string // another vendor than the sandbox
	policy         policy.Policy
	noSink         bool
	orgWideRevoke  bool
	vendorFilters  bool
	pageSize       int
}

// oneOfEach is the connections of a harness that names none.
func oneOfEach() []connect {
	return []connect{
		{name: atlassianName, vendor: sandbox.Atlassian},
		{name: launchDarklyName, vendor: sandbox.LaunchDarkly},
		{name: mailtrapName, vendor: sandbox.Mailtrap},
	}
}

// setup says what start starts.
type setup struct {
	box         sandbox.Options // its clock is the harness's
	connections []connect       // nil: oneOfEach; empty: none
	readOnly    bool
	hints       []string // of a server without connections
	stateDir    string   // of the keys; empty: a new one
	elicit      elicitation
	client      []client.ClientOption // besides those of elicit and protocol
	protocol    string                // of MCP; empty: the newest
	timeout     time.Duration         // of one vendor call; 0: ten seconds
	approval    policy.HumanApproval
	overHTTP    bool // the callers are not on standard input and output
}

// elicitation answers the server's questions to the user; nil: the client cannot.
type elicitation func(context.Context, mcp.ElicitationRequest) (*mcp.ElicitationResult, error)

// Elicit makes the function a client.ElicitationHandler.
func (e elicitation) Elicit(ctx context.Context, r mcp.ElicitationRequest) (*mcp.ElicitationResult, error) {
	return e(ctx, r)
}

// harness is an MCP client of a server on a sandbox.
type harness struct {
	t       testing.TB
	setup   setup
	box     *sandbox.Sandbox
	url     string // of the sandbox
	access  sandbox.Access
	clock   *clock
	env     *tools.Env
	log     *lockedBuffer
	sinkDir string
	client  *client.Client
	notes   *notes
	schemas map[string]*jsonschema.Schema // of the results, by tool
	secrets map[string]*credential        // by connection
}

// start starts a sandbox, a server on it and a client.
func start(t testing.TB, s setup) *harness {
	t.Helper()
	now := &clock{now: time.Now().UTC().Truncate(time.Second)}
	s.box.Now = now.Now
	box, err := sandbox.New(s.box)
	if err != nil {
		t.Fatal(err)
	}
	web := httptest.NewServer(box.Handler())
	t.Cleanup(web.Close)
	if s.stateDir == "" {
		s.stateDir = filepath.Join(t.TempDir(), "state")
	}
	h := &harness{t: t, box: box, url: web.URL, access: box.Access(web.URL), clock: now, sinkDir: filepath.Join(t.TempDir(), "secrets")}
	return h.restart(s)
}

// restart starts another server, with nothing in memory, on the same sandbox,
// clock, sink and, unless s names another, state directory.
func (h *harness) restart(s setup) *harness {
	h.t.Helper()
	again := *h
	if s.stateDir == "" {
		s.stateDir = h.setup.stateDir
	}
	if s.connections == nil {
		s.connections = oneOfEach()
	}
	again.setup, again.log, again.notes, again.secrets = s, &lockedBuffer{}, newNotes(), map[string]*credential{}
	again.env = again.newEnv()
	again.connect()
	return &again
}

// on returns the harness for use in a subtest.
func (h *harness) on(t testing.TB) *harness {
	own := *h
	own.t = t
	return &own
}

func (h *harness) newEnv() *tools.Env {
	h.t.Helper()
	var connections []*tools.Connection
	var plain []*providers.Connection
	for _, c := range h.setup.connections {
		p := &providers.Connection{Name: c.name, Provider: h.provider(c)}
		plain = append(plain, p)
		c.policy.Connection = c.name
		connection := &tools.Connection{Connection: p, Policy: c.policy, Sink: sinkName, OrgWideRevoke: c.orgWideRevoke}
		if c.noSink {
			connection.Sink = ""
		}
		connections = append(connections, connection)
	}
	slices.SortFunc(connections, func(a, b *tools.Connection) int { return strings.Compare(a.Name, b.Name) })
	files, err := sink.NewFile(sinkName, h.sinkDir, sink.Accept{})
	if err != nil {
		h.t.Fatal(err)
	}
	path := filepath.Join(h.setup.stateDir, "ledger.db")
	record := ledger.New(path, ledger.Options{Now: h.clock.Now})
	h.t.Cleanup(func() {
		if err := record.Close(); err != nil {
			h.t.Error(err)
		}
	})
	return &tools.Env{
		Registry: providers.NewRegistry(plain...), Connections: connections,
		Ledger: record, HasLedger: func() bool { return ledger.Exists(path) },
		Escrow: sink.NewEscrow(h.setup.stateDir, nil, nil), EscrowRetention: 24 * time.Hour,
		Approval: h.setup.approval, Stdio: !h.setup.overHTTP,
		Cursors: tools.NewCursors(statekeys.Files(h.setup.stateDir).All(statekeys.Cursors)),
		Sinks:   map[string]sink.Sink{sinkName: files}, FingerprintKey: statekeys.Files(h.setup.stateDir).Present(statekeys.Fingerprints),
		ReadOnly: h.setup.readOnly, Setup: h.setup.hints, Now: h.clock.Now, Work: tools.NewTracker(),
		Log: slog.New(slog.NewJSONHandler(h.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
}

func (h *harness) provider(c connect) providers.Provider {
	h.t.Helper()
	options := transport.Options{UserAgent: "tokenreeve/test", Timeout: h.setup.timeout}
	if options.Timeout == 0 {
		options.Timeout = 10 * time.Second
	}
	hc, err := transport.New(options)
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(hc.CloseIdleConnections)
	p, err := h.vendor(hc, c, options)
	if err != nil {
		h.t.Fatal(err)
	}
	return p
}

func (h *harness) vendor(hc *http.Client, c connect, o transport.Options) (providers.Provider, error) {
	source := &credential{}
	h.secrets[c.name] = source
	base := func(sandboxURL string) string {
		if c.baseURL != "" {
			return c.baseURL
		}
		return sandboxURL
	}
	main := func(secret string) {
		if c.credential != "" {
			secret = c.credential
		}
		source.set(secret)
	}
	switch c.vendor {
	case sandbox.Atlassian:
		a := h.access.Atlassian
		main(a.Credential)
		config := atlassian.Config{
			BaseURL: base(a.BaseURL), OrgID: a.OrgID, Credential: source, VendorFilters: c.vendorFilters, PageSize: c.pageSize, Now: h.clock.Now,
		}
		if c.userManagement != "" {
			second := &credential{}
			second.set(c.userManagement)
			config.UserManagementCredential = second
		}
		return atlassian.New(hc, config, o)
	case sandbox.LaunchDarkly:
		main(h.access.LaunchDarkly.Credential)
		return launchdarkly.New(hc, launchdarkly.Config{
			BaseURL: base(h.access.LaunchDarkly.BaseURL), Credential: source, PageSize: c.pageSize, Now: h.clock.Now,
		}, o)
	default:
		m := h.access.Mailtrap
		main(m.Credential)
		return mailtrap.New(hc, mailtrap.Config{BaseURL: base(m.BaseURL), AccountID: m.AccountID, Credential: source, Now: h.clock.Now}, o)
	}
}

// connect makes an MCP client of a new server on the environment.
func (h *harness) connect() {
	h.t.Helper()
	s, err := server.New("test", h.env)
	if err != nil {
		h.t.Fatal(err)
	}
	options := slices.Clone(h.setup.client)
	if h.setup.elicit != nil {
		options = append(options, client.WithElicitationHandler(h.setup.elicit))
	}
	if h.setup.protocol != "" {
		options = append(options, client.WithProtocolVersion(h.setup.protocol))
	}
	if h.client, err = client.NewInProcessClientWithOptions(s, options...); err != nil {
		h.t.Fatal(err)
	}
	ctx := h.t.Context()
	if err := h.client.Start(ctx); err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { _ = h.client.Close() })
	h.client.OnNotification(h.notes.add)
	request := mcp.InitializeRequest{}
	request.Params.ProtocolVersion = h.setup.protocol
	request.Params.ClientInfo = mcp.Implementation{Name: "test", Version: "1"}
	if _, err := h.client.Initialize(ctx, request); err != nil {
		h.t.Fatal(err)
	}
	h.schemas = map[string]*jsonschema.Schema{}
	for _, definition := range h.definitions() {
		h.schemas[definition.Name] = compileSchema(h.t, definition.Name, definition.OutputSchema)
	}
}

// definition is a tool as it stands in the answer of tools/list.
type definition struct {
	Name         string              `json:"name"`
	Title        string              `json:"title"`
	Description  string              `json:"description"`
	InputSchema  json.RawMessage     `json:"inputSchema"`
	OutputSchema json.RawMessage     `json:"outputSchema"`
	Annotations  *mcp.ToolAnnotation `json:"annotations"`
}

// definitions returns the answer of tools/list, word for word.
func (h *harness) definitions() []definition {
	h.t.Helper()
	response, err := h.client.GetTransport().SendRequest(h.t.Context(), mcptransport.JSONRPCRequest{
		JSONRPC: mcp.JSONRPC_VERSION, ID: mcp.NewRequestId("definitions"), Method: string(mcp.MethodToolsList),
	})
	if err != nil {
		h.t.Fatal(err)
	}
	if response.Error != nil {
		h.t.Fatalf("tools/list: %v", response.Error)
	}
	var listed struct {
		Tools []definition `json:"tools"`
	}
	if err := json.Unmarshal(response.Result, &listed); err != nil {
		h.t.Fatal(err)
	}
	return listed.Tools
}

// compiled keeps the schemas that were compiled, by name and text: it takes longer
// than most tests.
var compiled sync.Map

func compileSchema(t testing.TB, name string, schema json.RawMessage) *jsonschema.Schema {
	t.Helper()
	key := name + string(schema)
	if known, ok := compiled.Load(key); ok {
		return known.(*jsonschema.Schema)
	}
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(schema))
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	compiler := jsonschema.NewCompiler()
	if err := compiler.AddResource(name, document); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	made, err := compiler.Compile(name)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	compiled.Store(key, made)
	return made
}

// args are the arguments of a call.
type args = map[string]any

// result is what a tool answered.
type result struct {
	t       testing.TB
	tool    string
	text    string // the text block
	isError bool
	data    map[string]any // the text's JSON
	problem tools.Problem  // where isError
}

// call calls a tool as the local user and checks what must hold of every answer
// (see check). arguments is an args or, to be sent as it is, a json.RawMessage.
func (h *harness) call(tool string, arguments any) result {
	h.t.Helper()
	return h.callWith(h.t.Context(), tool, arguments)
}

// callAs is call as another caller.
func (h *harness) callAs(principal, tool string, arguments any) result {
	h.t.Helper()
	return h.callWith(auth.WithPrincipal(h.t.Context(), otherCaller(principal)), tool, arguments)
}

// otherCaller is a caller who may do everything and sees only its own operations.
func otherCaller(name string) auth.Principal {
	return auth.NewPrincipal(name, auth.MethodBearer, auth.Grant{Role: auth.RoleAdmin, Connections: map[string]auth.Role{"elsewhere": auth.RoleViewer}})
}

// callWith is call on the context of the caller's choice.
func (h *harness) callWith(ctx context.Context, tool string, arguments any) result {
	h.t.Helper()
	return h.send(ctx, toolRequest(tool, arguments))
}

// send sends a call and checks the answer. It may be used in any goroutine.
func (h *harness) send(ctx context.Context, request mcp.CallToolRequest) result {
	h.t.Helper()
	answer, err := h.client.CallTool(ctx, request)
	if err != nil {
		h.t.Errorf("%s: a protocol error: %v", request.Params.Name, err)
		return result{t: h.t, tool: request.Params.Name, isError: true}
	}
	return h.check(request.Params.Name, answer)
}

// check judges what holds of every answer: one text block of compact JSON; with
// success the same as structured content, which the output schema allows; with
// failure a problem with code and message and no structured content; no hidden
// letters and no secret anywhere.
func (h *harness) check(tool string, answer *mcp.CallToolResult) result {
	h.t.Helper()
	r := result{t: h.t, tool: tool, isError: answer.IsError}
	if len(answer.Content) != 1 {
		h.t.Errorf("%s: %d content blocks, want 1", tool, len(answer.Content))
		return r
	}
	content, ok := answer.Content[0].(mcp.TextContent)
	if !ok {
		h.t.Errorf("%s: the content is a %T, want text", tool, answer.Content[0])
		return r
	}
	r.text = content.Text
	if err := json.Unmarshal([]byte(r.text), &r.data); err != nil {
		h.t.Errorf("%s: the text is not a JSON object: %v\n%s", tool, err, r.text)
	}
	if r.isError {
		h.checkProblem(&r, answer)
	} else {
		h.checkStructured(r, answer)
	}
	h.checkText(r)
	return r
}

func (h *harness) checkProblem(r *result, answer *mcp.CallToolResult) {
	h.t.Helper()
	if answer.StructuredContent != nil {
		h.t.Errorf("%s: an error with structured content: %v", r.tool, answer.StructuredContent)
	}
	if err := json.Unmarshal([]byte(r.text), &r.problem); err != nil || r.problem.Code == "" || r.problem.Message == "" {
		h.t.Errorf("%s: the error is no problem with code and message: %s", r.tool, r.text)
	}
}

func (h *harness) checkStructured(r result, answer *mcp.CallToolResult) {
	h.t.Helper()
	if diff := cmp.Diff(any(r.data), answer.StructuredContent); diff != "" {
		h.t.Errorf("%s: structured content is not the text (-text +structured):\n%s", r.tool, diff)
	}
	if err := h.schemas[r.tool].Validate(any(r.data)); err != nil {
		h.t.Errorf("%s: the result does not match the output schema: %v\n%s", r.tool, err, r.text)
	}
}

// manySecrets is from where looking for each secret in each answer is too slow.
const manySecrets = 2000

func (h *harness) checkText(r result) {
	h.t.Helper()
	eachText(r.data, func(text string) {
		if at := strings.IndexFunc(text, isHidden); at >= 0 {
			h.t.Errorf("%s: hidden letter %+q in %+q", r.tool, []rune(text[at:])[0], text)
		}
	})
	secrets := h.box.Secrets()
	if len(secrets) > manySecrets {
		return
	}
	logged := h.log.unread()
	for _, s := range secrets {
		if strings.Contains(r.text, s) || strings.Contains(logged, s) {
			h.t.Errorf("%s: a secret in the answer or the log", r.tool)
		}
	}
}

// isHidden tells control, bidirectional, zero-width and tag characters.
func isHidden(r rune) bool {
	return unicode.IsControl(r) || unicode.Is(unicode.Cf, r) || r == '\u2028' || r == '\u2029' || r >= 0xe0000 && r <= 0xe0fff
}

// eachText visits every string in a JSON value, keys too.
func eachText(value any, visit func(string)) {
	switch v := value.(type) {
	case string:
		visit(v)
	case []any:
		for _, element := range v {
			eachText(element, visit)
		}
	case map[string]any:
		for key, element := range v {
			visit(key)
			eachText(element, visit)
		}
	}
}

// ok fails the test unless the call succeeded.
func (r result) ok() result {
	r.t.Helper()
	if r.isError {
		r.t.Fatalf("%s failed: %s", r.tool, r.text)
	}
	return r
}

// fails fails the test unless the call failed with the code.
func (r result) fails(code string) result {
	r.t.Helper()
	if !r.isError || r.problem.Code != code {
		r.t.Fatalf("%s answered %s, want the error %s", r.tool, r.text, code)
	}
	return r
}

// into decodes the result.
func (r result) into(v any) {
	r.t.Helper()
	if err := json.Unmarshal([]byte(r.text), v); err != nil {
		r.t.Fatalf("%s: %v", r.tool, err)
	}
}

// as decodes the result of a call that must succeed.
func as[T any](r result) T {
	r.t.Helper()
	var v T
	r.ok().into(&v)
	return v
}

// get returns what stands at a path of members, nil where there is nothing.
func (r result) get(path ...string) any {
	var value any = r.data
	for _, name := range path {
		members, _ := value.(map[string]any)
		value = members[name]
	}
	return value
}

// text returns a member that is text, "" where there is none.
func (r result) str(path ...string) string {
	text, _ := r.get(path...).(string)
	return text
}

// requests returns the requests that the vendors saw since the last forget, but
// none that only ask who the caller is.
func (h *harness) requests() []sandbox.Request {
	return slices.DeleteFunc(h.box.Requests(), func(r sandbox.Request) bool { return strings.HasSuffix(r.Path, "/caller-identity") })
}

// changes returns the requests that would change something.
func (h *harness) changes() []sandbox.Request {
	return slices.DeleteFunc(h.box.Requests(), func(r sandbox.Request) bool { return r.Method == http.MethodGet || strings.HasSuffix(r.Path, "/count") })
}

// forget forgets the requests so far.
func (h *harness) forget() { h.box.ClearRequests() }

// fault orders a fault.
func (h *harness) fault(f sandbox.Fault) {
	h.t.Helper()
	if _, err := h.box.AddFault(f); err != nil {
		h.t.Fatal(err)
	}
}

// must returns v, or fails the test.
func must[T any](t testing.TB, v T, err error) T {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// clock is a clock that a test moves.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

// Now returns the present moment.
func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// credential is a credential that a test can change; it counts how often it was read.
type credential struct {
	mu    sync.Mutex
	value string
	reads int
}

// Read returns the credential.
func (c *credential) Read(context.Context) (secret.Secret, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reads++
	return secret.New(c.value), nil
}

func (c *credential) set(value string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.value = value
}

// lockedBuffer is a buffer for several writers.
type lockedBuffer struct {
	mu   sync.Mutex
	b    bytes.Buffer
	read int
}

// Write appends p.
func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

// String returns what was written.
func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// unread returns what was written since the last time.
func (l *lockedBuffer) unread() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	text := string(l.b.Bytes()[l.read:])
	l.read = l.b.Len()
	return text
}

// notes are the notifications that the client got.
type notes struct{ got chan mcp.JSONRPCNotification }

func newNotes() *notes { return &notes{got: make(chan mcp.JSONRPCNotification, 1000)} }

func (n *notes) add(note mcp.JSONRPCNotification) {
	select {
	case n.got <- note:
	default: // more than any test looks at
	}
}

// next returns the next notification of a method, which must come.
func (n *notes) next(t testing.TB, method string) mcp.JSONRPCNotification {
	t.Helper()
	for {
		select {
		case note := <-n.got:
			if note.Method == method {
				return note
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("no %s came", method)
		}
	}
}

// delete deletes a token behind the server's back.
func (h *harness) delete(connection, id string) {
	h.t.Helper()
	var known bool
	switch vendorOf(connection) {
	case sandbox.Atlassian:
		known = h.box.DeleteAtlassianToken(id)
	case sandbox.LaunchDarkly:
		known = h.box.DeleteLaunchDarklyToken(id)
	default:
		number, err := strconv.ParseInt(id, 10, 64)
		known = err == nil && h.box.DeleteMailtrapToken(number)
	}
	if !known {
		h.t.Fatalf("%s has no token %s", connection, id)
	}
}

func toolRequest(tool string, arguments any) mcp.CallToolRequest {
	request := mcp.CallToolRequest{}
	request.Params.Name, request.Params.Arguments = tool, arguments
	return request
}
