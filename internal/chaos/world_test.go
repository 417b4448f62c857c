package chaos_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mark3labs/mcp-go/client"
	"github.com/mark3labs/mcp-go/mcp"
	mcpserver "github.com/mark3labs/mcp-go/server"

	"github.com/tokenreeve/tokenreeve/auth"
	"github.com/tokenreeve/tokenreeve/internal/ledger"
	"github.com/tokenreeve/tokenreeve/internal/policy"
	"github.com/tokenreeve/tokenreeve/internal/postgres"
	"github.com/tokenreeve/tokenreeve/internal/postgres/postgrestest"
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

// The connections. Two open the same account.
const (
	atlassianName = "acme-atlassian"
	ldName        = "acme-launchdarkly"
	ldAgainName   = "beta-launchdarkly"
	mtName        = "acme-mailtrap"
)

// The sinks. The blind one cannot be read back.
const (
	filesSink = "files"
	blindSink = "blind"
)

const (
	servers = 3
	workers = 24
	// vendorTime is short, so that an answer that never comes costs little.
	vendorTime = 2 * time.Second
)

// world is the vendors, the servers that share one ledger, and what their callers saw.
type world struct {
	t      *testing.T
	seed   uint64
	box    *sandbox.Sandbox
	access sandbox.Access
	dir    string
	// database is the URL of what the servers share, and keys are those of its escrow; empty: files.
	database string
	keys     secret.Secret
	servers  []*process
	before   map[ref]bool

	logged, answered text
	calls, sinkFails atomic.Int64

	mu       sync.Mutex
	dice     *rand.Rand // for what happens beside the operations
	previews map[string]*preview
	answers  []told
	said     map[string]int // how often each status and error code was answered
	making   map[string]int // names of tokens that calls are making
	escrowed []held
	gone     []target
}

// held is a secret that waits in escrow, of a token.
type held struct {
	operation, principal string
	target
}

// newWorld returns a world whose servers share files or, where database is its URL, a database, to which
// connections are cut at any moment.
func newWorld(t *testing.T, seed uint64, database string) *world {
	t.Helper()
	coin := rand.New(rand.NewPCG(seed, 1))
	box, err := sandbox.New(sandbox.Options{
		Seed: seed, AtlassianTokens: new(60), LaunchDarklyTokens: new(50), MailtrapTokens: new(50), RequestLog: 1,
		Atlassian: sandbox.AtlassianOptions{HideEmails: coin.IntN(4) == 0, NullLastAccess: coin.IntN(2) == 0, OmitExpiry: coin.IntN(2) == 0, RevokeStatus: []int{200, 202, 204}[coin.IntN(3)]},
		// The real limiters strike as well, with short windows.
		LaunchDarkly: sandbox.LaunchDarklyOptions{KeepOverlaps: coin.IntN(2) == 0, RouteBudget: sandbox.Budget{Requests: 150, Window: 500 * time.Millisecond}},
		Mailtrap:     sandbox.MailtrapOptions{Grace: 6 * time.Second, Cleanup: 3 * time.Second, RequestID: coin.IntN(2) == 0, ResetExpiring: coin.IntN(2) == 0},
	})
	if err != nil {
		t.Fatal(err)
	}
	web := httptest.NewServer(box.Handler())
	t.Cleanup(web.Close)
	w := &world{
		t: t, seed: seed, box: box, access: box.Access(web.URL), database: database, keys: newKeys(t), dir: t.ArtifactDir(), before: map[ref]bool{},
		dice: rand.New(rand.NewPCG(seed, 2)), previews: map[string]*preview{}, said: map[string]int{}, making: map[string]int{},
	}
	for r := range w.tokens() {
		w.before[r] = true
	}
	for _, f := range faults() {
		if _, err := box.AddFault(f); err != nil {
			t.Fatal(err)
		}
	}
	for range servers {
		p := &process{world: w}
		if database != "" {
			p.proxy = postgrestest.NewProxy(t, database)
		}
		p.start()
		w.servers = append(w.servers, p)
	}
	return w
}

// faults are what goes wrong at the vendors, each with its chance.
func faults() []sandbox.Fault {
	var all []sandbox.Fault
	some := func(chance float64, f sandbox.Fault, methods ...string) {
		for _, method := range methods {
			f.Method, f.Chance = method, chance
			all = append(all, f)
		}
	}
	read, change := []string{"GET"}, []string{"POST", "PATCH", "DELETE"}
	budget := map[string]string{"X-Ratelimit-Remaining": "100"} // else the pacer waits for the end of Mailtrap's real window
	busy := sandbox.Fault{Kind: sandbox.Fault429, ResetMS: 60, Header: budget}
	patient := sandbox.Fault{Kind: sandbox.Fault429, ResetMS: 60, Header: budget, RetryAfter: "0"}
	slow := sandbox.Fault{Kind: sandbox.Fault429, ResetMS: -20, Header: budget, RetryAfter: "1"}
	for _, methods := range [][]string{read, change} {
		often := 1.4
		if methods[0] == "GET" {
			often = 0.6
		}
		some(0.05*often, sandbox.Fault{Kind: sandbox.FaultLatency, LatencyMS: 20}, methods...)
		some(0.002*often, sandbox.Fault{Kind: sandbox.FaultLatency, LatencyMS: 2500}, methods...)
		some(0.012*often, busy, methods...)
		some(0.006*often, patient, methods...)
		some(0.002*often, slow, methods...)
		some(0.012*often, sandbox.Fault{Kind: sandbox.Fault500}, methods...)
		some(0.006*often, sandbox.Fault{Kind: sandbox.Fault502, Body: "<html>Bad Gateway</html>", ContentType: "text/html"}, methods...)
		some(0.012*often, sandbox.Fault{Kind: sandbox.Fault503, RetryAfter: "0"}, methods...)
		some(0.015*often, sandbox.Fault{Kind: sandbox.FaultCut}, methods...)
		some(0.012*often, sandbox.Fault{Kind: sandbox.FaultTruncate}, methods...)
		some(0.010*often, sandbox.Fault{Kind: sandbox.FaultHTML}, methods...)
		some(0.006*often, sandbox.Fault{Kind: sandbox.FaultNotJSON}, methods...)
		some(0.006*often, sandbox.Fault{Kind: sandbox.FaultEmpty}, methods...)
		some(0.006*often, sandbox.Fault{Kind: sandbox.FaultSlow, LatencyMS: 40}, methods...)
		some(0.002*often, sandbox.Fault{Kind: sandbox.FaultStatus, Status: 401}, methods...)
		some(0.002*often, sandbox.Fault{Kind: sandbox.FaultStatus, Status: 403}, methods...)
		some(0.003*often, sandbox.Fault{Kind: sandbox.FaultHTML, Status: 404}, methods...)
		some(0.002*often, sandbox.Fault{Kind: sandbox.FaultStatus, Status: 302}, methods...)
	}
	// The change was made, and its answer does not tell.
	some(0.020, sandbox.Fault{Kind: sandbox.FaultLostAnswer}, change...)
	some(0.015, sandbox.Fault{Kind: sandbox.FaultWrongStatus}, change...)
	some(0.010, sandbox.Fault{Kind: sandbox.Fault504, Applied: true}, change...)
	some(0.006, sandbox.Fault{Kind: sandbox.FaultHTML, Applied: true}, change...)
	some(0.003, sandbox.Fault{Kind: sandbox.FaultLatency, LatencyMS: 2500, Applied: true}, change...)
	some(0.015, sandbox.Fault{Kind: sandbox.FaultLate, LatencyMS: 250}, change...)
	some(0.010, sandbox.Fault{Kind: sandbox.FaultStatus, Status: 409}, "PATCH")
	return all
}

// process is one server; its restarts have nothing in common but the disk.
type process struct {
	*world
	proxy      *postgrestest.Proxy // to the database; nil: files
	running    sync.RWMutex        // held by each call, and whole by a restart
	restarting sync.Mutex
	env        *tools.Env
	mcp        *mcpserver.MCPServer
	client     *client.Client
	asking     *client.Client // one that can ask its user
	release    func()
}

// start builds the server as the command line does.
func (p *process) start() {
	p.t.Helper()
	options := transport.Options{UserAgent: "tokenreeve/test", Timeout: vendorTime}
	web, err := transport.New(options)
	if err != nil {
		p.t.Fatal(err)
	}
	var plain []*providers.Connection
	var connections []*tools.Connection
	add := func(name string, provider providers.Provider, err error) {
		if err != nil {
			p.t.Fatal(err)
		}
		c := &providers.Connection{Name: name, Provider: provider}
		plain = append(plain, c)
		rules := policy.Policy{
			Connection: name, RevocationsPerHour: policy.MaxRevocations, Mint: policy.MintRules{Access: policy.Grants()},
			Protect: policy.Protect{Names: []string{"protected*"}},
		}
		connections = append(connections, &tools.Connection{Connection: c, Policy: rules, Sink: filesSink, OrgWideRevoke: true})
	}
	a, l, m := p.access.Atlassian, p.access.LaunchDarkly, p.access.Mailtrap
	at, err := atlassian.New(web, atlassian.Config{BaseURL: a.BaseURL, OrgID: a.OrgID, Credential: source(a.Credential), PageSize: 40}, options)
	add(atlassianName, at, err)
	for _, name := range []string{ldName, ldAgainName} {
		ld, err := launchdarkly.New(web, launchdarkly.Config{BaseURL: l.BaseURL, Credential: source(l.Credential), PageSize: 25}, options)
		add(name, ld, err)
	}
	mt, err := mailtrap.New(web, mailtrap.Config{BaseURL: m.BaseURL, AccountID: m.AccountID, Credential: source(m.Credential)}, options)
	add(mtName, mt, err)
	kept := p.open(p.dsn())
	p.env = &tools.Env{
		Registry: providers.NewRegistry(plain...), Connections: connections,
		Cursors: tools.NewCursors(kept.keys.All(statekeys.Cursors)), FingerprintKey: kept.keys.Present(statekeys.Fingerprints),
		Sinks:  map[string]sink.Sink{filesSink: flaky{p.file(filesSink), p.world}, blindSink: blind{flaky{p.file(blindSink), p.world}}},
		Ledger: kept.record, HasLedger: func() bool { return p.database != "" || ledger.Exists(p.ledgerPath()) },
		Escrow: kept.escrow, EscrowRetention: 24 * time.Hour,
		Approval: policy.HumanApproval{TrustClient: true}, Stdio: true,
		Log: slog.New(slog.NewJSONHandler(&p.logged, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Now: time.Now, VendorTime: vendorTime, Work: tools.NewTracker(),
	}
	p.env.OnFirstClient = p.env.LookBack
	if p.mcp, err = server.New("test", p.env); err != nil {
		p.t.Fatal(err)
	}
	p.client, p.asking = p.connect(), p.connect(client.WithElicitationHandler(user{p.world}))
	p.release = func() {
		web.CloseIdleConnections()
		if err := errors.Join(p.client.Close(), p.asking.Close(), kept.close()); err != nil {
			p.t.Error(err)
		}
	}
}

func (w *world) ledgerPath() string { return filepath.Join(w.dir, "state", "ledger.db") }

func (w *world) file(name string) *sink.File {
	f, err := sink.NewFile(name, filepath.Join(w.dir, name), sink.Accept{})
	if err != nil {
		w.t.Fatal(err)
	}
	return f
}

// connect returns a new client of the server.
func (p *process) connect(options ...client.ClientOption) *client.Client {
	p.t.Helper()
	c, err := client.NewInProcessClientWithOptions(p.mcp, options...)
	if err != nil {
		p.t.Fatal(err)
	}
	if err := c.Start(context.Background()); err != nil {
		p.t.Fatal(err)
	}
	request := mcp.InitializeRequest{}
	request.Params.ClientInfo = mcp.Implementation{Name: "chaos", Version: "1"}
	if _, err := c.Initialize(context.Background(), request); err != nil {
		p.t.Fatal(err)
	}
	return c
}

// stop ends the server as a signal does: what was sent is finished.
func (p *process) stop() {
	p.env.Work.Stop()
	if p.proxy != nil {
		p.proxy.Up() // else nothing that it knows would ever be on record
	}
	p.running.Lock()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := p.env.Work.Wait(ctx); err != nil {
		p.t.Error("work goes on after all calls ended")
	}
	p.release()
}

func (p *process) restart() {
	p.restarting.Lock()
	defer p.restarting.Unlock()
	p.stop()
	p.start()
	p.running.Unlock()
}

// kept is what the servers share.
type kept struct {
	record *ledger.Ledger
	escrow *sink.Escrow
	keys   statekeys.Reader
	close  func() error
}

// dsn is the URL of the process's own way to the database.
func (p *process) dsn() string {
	if p.proxy == nil {
		return ""
	}
	return p.proxy.DSN
}

// open opens what the servers share, as one of them does.
func (w *world) open(dsn string) kept {
	if dsn == "" {
		state := filepath.Join(w.dir, "state")
		record := ledger.New(w.ledgerPath(), ledger.Options{})
		return kept{record, sink.NewEscrow(state, nil, nil), statekeys.Files(state), record.Close}
	}
	keys := statekeys.NewSource(func(context.Context) (secret.Secret, error) { return w.keys, nil })
	db := postgres.New(postgres.Fixed(secret.New(dsn)), postgres.Options{})
	record := ledger.NewPostgres(db, ledger.Options{})
	return kept{record, sink.NewSharedEscrow(db, keys, nil), keys.Reader(), func() error { return errors.Join(record.Close(), db.Close()) }}
}

// cut cuts a connection of some server to the database, now and then: at its next commit, at once, or until
// some operations later.
func (w *world) cut() {
	if w.database == "" {
		return
	}
	p := w.servers[w.roll(len(w.servers))]
	proxy := p.proxy
	proxy.Up()
	switch w.roll(24) {
	case 0, 1:
		proxy.CutNext(postgrestest.BeforeCommit)
	case 2, 3, 4:
		proxy.CutNext(postgrestest.AfterCommit)
	case 5:
		proxy.Drop()
	case 6:
		if p.restarting.TryLock() { // one that ends writes what is left
			proxy.Down()
			p.restarting.Unlock()
		}
	}
}

func newKeys(t *testing.T) secret.Secret {
	t.Helper()
	text, _, err := statekeys.New(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return secret.New(text)
}

// roll returns a number below n.
func (w *world) roll(n int) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.dice.IntN(n)
}

// source is a credential.
type source string

// Read returns it.
func (s source) Read(context.Context) (secret.Secret, error) { return secret.New(string(s)), nil }

// flaky is a sink that fails now and then, also after it took the secret.
type flaky struct {
	*sink.File
	world *world
}

var errSink = errors.New("no space left on device")

// fails decides by chance, of a thousand.
func (f flaky) fails(chance int) bool {
	if f.world.roll(1000) >= chance {
		return false
	}
	f.world.sinkFails.Add(1)
	return true
}

// Check fails now and then.
func (f flaky) Check(ctx context.Context, key sink.Key, o sink.Options) error {
	if f.fails(20) {
		return errSink
	}
	return f.File.Check(ctx, key, o)
}

// Deliver fails now and then, before or after it stored the secret.
func (f flaky) Deliver(ctx context.Context, key sink.Key, s secret.Secret, o sink.Options) (sink.Delivery, error) {
	if f.fails(80) {
		return sink.Delivery{}, errSink
	}
	delivery, err := f.File.Deliver(ctx, key, s, o)
	if err == nil && f.fails(40) {
		return sink.Delivery{}, errSink
	}
	return delivery, err
}

// Holds fails now and then, or denies what the sink holds.
func (f flaky) Holds(ctx context.Context, d sink.Delivery, digest [sha256.Size]byte) (bool, error) {
	switch {
	case f.fails(30):
		return false, errSink
	case f.fails(15):
		return false, nil
	}
	return f.File.Holds(ctx, d, digest)
}

// blind is a sink that cannot be read back.
type blind struct{ sink.Sink }

// user answers questions: mostly with what they ask for.
type user struct{ world *world }

// Elicit implements client.ElicitationHandler.
func (u user) Elicit(_ context.Context, request mcp.ElicitationRequest) (*mcp.ElicitationResult, error) {
	u.world.answered.line(request.Params.Message)
	_, phrase, _ := strings.Cut(request.Params.Message, " Type ")
	phrase = strings.TrimSuffix(phrase, " to agree.")
	answer := mcp.ElicitationResponse{Action: mcp.ElicitationResponseActionAccept, Content: map[string]any{"phrase": phrase}}
	switch u.world.roll(12) {
	case 0:
		answer.Content = map[string]any{"phrase": "yes"}
	case 1:
		answer = mcp.ElicitationResponse{Action: mcp.ElicitationResponseActionDecline}
	case 2:
		answer = mcp.ElicitationResponse{Action: mcp.ElicitationResponseActionCancel}
	}
	return &mcp.ElicitationResult{ElicitationResponse: answer}, nil
}

// text is what several write.
type text struct {
	mu sync.Mutex
	b  bytes.Buffer
}

// Write appends p.
func (x *text) Write(p []byte) (int, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.b.Write(p)
}

func (x *text) line(s string) { fmt.Fprintln(x, s) }

// String returns everything.
func (x *text) String() string {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.b.String()
}

// tokens are those that exist at the vendors.
func (w *world) tokens() map[ref]token {
	all := map[ref]token{}
	for _, t := range w.box.AtlassianTokens() {
		all[ref{sandbox.Atlassian, t.ID}] = token{}
	}
	for _, t := range w.box.LaunchDarklyTokens() {
		all[ref{sandbox.LaunchDarkly, t.ID}] = token{secret: t.Secret, oldSecrets: len(t.OldSecrets), role: t.Role, description: t.Description}
	}
	for _, t := range w.box.MailtrapTokens() {
		all[ref{sandbox.Mailtrap, strconv.FormatInt(t.ID, 10)}] = token{secret: t.Secret}
	}
	return all
}

// evidence gathers, after all servers ended, what each source says.
func (w *world) evidence(record *ledger.Ledger) *evidence {
	w.t.Helper()
	e := &evidence{
		before: w.before, changes: w.box.Changes(), alive: w.tokens(), services: map[string]bool{},
		previews: w.previews, answers: w.answers, sinks: map[place]string{}, escrow: map[string]string{}, excused: w.missedSteps(),
	}
	for _, a := range w.box.AtlassianAccounts() {
		e.services[a.ID] = a.ServiceAccount
	}
	query := ledger.Query{Limit: ledger.MaxPage}
	for {
		page, err := record.List(context.Background(), query)
		if err != nil {
			w.t.Fatal(err)
		}
		e.operations = append(e.operations, page.Operations...)
		if query.After = page.Next; page.Next == 0 {
			break
		}
	}
	for i, j := 0, len(e.operations)-1; i < j; i, j = i+1, j-1 {
		e.operations[i], e.operations[j] = e.operations[j], e.operations[i]
	}
	for _, name := range []string{filesSink, blindSink} {
		w.readSink(name, e.sinks)
	}
	w.readEscrow(e.escrow)
	return e
}

// missedSteps are the operations of which the log says that a step is not on record.
func (w *world) missedSteps() map[string]bool {
	missed := map[string]bool{}
	for line := range strings.Lines(w.logged.String()) {
		var entry struct{ Msg, Operation string }
		if strings.Contains(line, "step not on record") && json.Unmarshal([]byte(line), &entry) == nil {
			missed[entry.Operation] = true
		}
	}
	return missed
}

// readSink reads every file of a sink: a key's later versions end in .v2, .v3 and so on.
func (w *world) readSink(name string, into map[place]string) {
	w.t.Helper()
	root := filepath.Join(w.dir, name)
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		key, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		at := place{name, filepath.ToSlash(key), 1}
		if base, number, found := strings.Cut(at.key, ".v"); found {
			at.key = base
			if at.version, err = strconv.Atoi(number); err != nil {
				return err
			}
		}
		content, err := os.ReadFile(path)
		into[at] = string(content)
		return err
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		w.t.Error(err)
	}
}

func (w *world) readEscrow(into map[string]string) {
	w.t.Helper()
	kept := w.open(w.database)
	defer kept.close()
	entries, err := kept.escrow.List(context.Background())
	if err != nil {
		w.t.Error(err)
	}
	for _, entry := range entries {
		s, _, err := kept.escrow.Get(context.Background(), entry.OperationID)
		if err != nil {
			w.t.Error(err)
		}
		into[entry.OperationID] = s.Expose()
	}
}

// leaks returns where a secret stands that should not.
func (w *world) leaks(record *ledger.Ledger) []string {
	w.t.Helper()
	var rows bytes.Buffer
	if err := record.Export(context.Background(), &rows, ledger.JSONLines); err != nil {
		w.t.Error(err)
	}
	places := map[string]string{"an answer": w.answered.String(), "the log": w.logged.String(), "the ledger": rows.String()}
	if w.database != "" {
		w.readTables(places)
	}
	err := filepath.WalkDir(filepath.Join(w.dir, "state"), func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		places[path] = string(content)
		return err
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		w.t.Error(err)
	}
	secrets := map[string]bool{}
	for _, s := range w.box.Secrets() {
		secrets[s] = true
		secrets[strings.TrimPrefix(s, "api-")] = true
	}
	var found []string
	for where, text := range places {
		if s := leaked(text, secrets); s != "" {
			found = append(found, fmt.Sprintf("%s shows a secret: %s…", where, s[:8]))
		}
	}
	return found
}

// readTables reads everything that is in the database.
func (w *world) readTables(into map[string]string) {
	w.t.Helper()
	db := postgrestest.Raw(w.t, w.database)
	defer db.Close()
	column := func(query string) (all []string) {
		rows, err := db.QueryContext(w.t.Context(), query)
		if err != nil {
			w.t.Fatal(err)
		}
		defer rows.Close()
		for rows.Next() {
			var text string
			if err := rows.Scan(&text); err != nil {
				w.t.Fatal(err)
			}
			all = append(all, text)
		}
		return all
	}
	for _, table := range column(`SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'`) {
		into["the table "+table] = strings.Join(column(`SELECT t::text FROM `+table+` t`), "\n")
	}
	if len(into["the table entries"]) == 0 {
		w.t.Error("no entries were read")
	}
}

// leaked returns a secret that stands in the text, or "". It looks at what has the
// shape of one: there are thousands, and the texts are long.
func leaked(text string, secrets map[string]bool) string {
	run := 0 // letters so far that a secret may have
	isPart := func(c byte) bool {
		return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '-' || c == '='
	}
	lengths := map[int]bool{}
	for s := range secrets {
		lengths[len(s)] = true
	}
	for i := range len(text) {
		if !isPart(text[i]) {
			run = 0
			continue
		}
		run++
		for n := range lengths {
			if run >= n && secrets[text[i+1-n:i+1]] {
				return text[i+1-n : i+1]
			}
		}
	}
	return ""
}

// principals are who calls.
func principals() []auth.Principal {
	return []auth.Principal{
		auth.Local(),
		auth.NewPrincipal("token:admin", auth.MethodStatic, auth.Grant{Role: auth.RoleAdmin}),
		auth.NewPrincipal("token:operator", auth.MethodStatic, auth.Grant{Role: auth.RoleOperator}),
	}
}

// answer is what a tool said.
type answer struct {
	text    string
	isError bool
	data    struct {
		Status      string                        `json:"status"`
		Code        string                        `json:"code"`
		Replayed    bool                          `json:"replayed"`
		OperationID string                        `json:"operation_id"`
		PreviewID   string                        `json:"preview_id"`
		Confirm     string                        `json:"confirm"`
		Targets     json.RawMessage               `json:"targets"`
		Token       json.RawMessage               `json:"token"`
		Revoked     []string                      `json:"revoked"`
		Results     []struct{ ID, Result string } `json:"results"`
	}
}

// call calls a tool and notes what it says.
func (p *process) call(ctx context.Context, c *client.Client, tool string, arguments args) answer {
	p.calls.Add(1)
	request := mcp.CallToolRequest{}
	request.Params.Name, request.Params.Arguments = tool, arguments
	result, err := c.CallTool(ctx, request)
	if err != nil {
		if ctx.Err() == nil {
			p.t.Errorf("%s: a protocol error: %v", tool, err)
		}
		return answer{isError: true}
	}
	a := answer{isError: result.IsError}
	if content, ok := result.Content[0].(mcp.TextContent); ok {
		a.text = content.Text
	}
	if err := json.Unmarshal([]byte(a.text), &a.data); err != nil {
		p.t.Errorf("%s answered %q: %v", tool, a.text, err)
	}
	p.answered.line(a.text)
	return a
}
