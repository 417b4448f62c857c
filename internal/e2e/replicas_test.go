package e2e_test

import (
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/mark3labs/mcp-go/client"
	"github.com/mark3labs/mcp-go/client/transport"
	"github.com/mark3labs/mcp-go/mcp"

	"github.com/tokenreeve/tokenreeve/internal/ledger"
	"github.com/tokenreeve/tokenreeve/internal/postgres"
	"github.com/tokenreeve/tokenreeve/internal/postgres/postgrestest"
	"github.com/tokenreeve/tokenreeve/internal/sandbox"
	"github.com/tokenreeve/tokenreeve/internal/secret"
)

// team is servers of one configuration that share a PostgreSQL database.
type team struct {
	*vendors
	dsn    string
	config string
	env    []string
	n      int // servers that were started
}

// newTeam configures servers that share a new database. A caller of each role has the token that
// callerToken gives.
func newTeam(t *testing.T, more map[string]any) *team {
	t.Helper()
	dsn := postgrestest.New(t)
	v := newVendors(t)
	var tokens []map[string]any
	for _, role := range []string{"viewer", "operator", "admin", "approver"} {
		tokens = append(tokens, configuredCaller(role, role))
	}
	settings := map[string]any{
		"auth":  map[string]any{"tokens": tokens},
		"state": map[string]any{"postgres": map[string]any{"env": "DATABASE_URL"}, "keys": map[string]any{"file": v.write(t, "keys", v.newKeys(t))}},
	}
	maps.Copy(settings, more)
	return &team{vendors: v, dsn: dsn, config: v.config(t, settings), env: v.bareEnv()}
}

// server starts one more server, which reaches the database at dsn and has no home of its own.
func (m *team) server(t *testing.T, path, dsn string, env ...string) *listening {
	t.Helper()
	m.n++
	env = slices.Concat(m.env, []string{"DATABASE_URL=" + dsn, "TOKENREEVE_BEARER_TOKEN=" + strings.Repeat("x", 40)}, env)
	dir := filepath.Join(m.home, fmt.Sprint("state-", m.n))
	s := listensBinary(t, path, env, "serve", "--listen", "127.0.0.1:0", "--config", m.config, "--state-dir", dir)
	t.Cleanup(func() { // what is shared must not stay on one machine
		if _, err := os.Lstat(dir); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("server %s made a state directory: %v", s.url, err)
		}
	})
	return s
}

// servers starts two.
func (m *team) servers(t *testing.T) (one, other *listening) {
	t.Helper()
	return m.server(t, binary(t), m.dsn), m.server(t, binary(t), m.dsn)
}

// as connects a caller by its role.
func (s *listening) as(t *testing.T, role string) *client.Client {
	t.Helper()
	own := *s
	own.token = callerToken(role)
	return own.streamable(t, modern)
}

// record opens the shared ledger.
func (m *team) record(t *testing.T) *ledger.Ledger {
	t.Helper()
	db := postgres.New(postgres.Fixed(secret.New(m.dsn)), postgres.Options{})
	l := ledger.NewPostgres(db, ledger.Options{})
	t.Cleanup(func() {
		if err := errors.Join(l.Close(), db.Close()); err != nil {
			t.Error(err)
		}
	})
	return l
}

// command runs a command of the operator's on the team's configuration.
func (m *team) command(t *testing.T, code int, args ...string) (stdout, stderr string) {
	t.Helper()
	args = append(args, "--config", m.config, "--state-dir", filepath.Join(m.home, "operator"))
	return run(t, append(m.env, "DATABASE_URL="+m.dsn), code, "", args...)
}

// preview calls a tool for its preview, and returns the arguments with the code.
func preview(t *testing.T, c *client.Client, tool string, arguments map[string]any) (confirmed map[string]any, id string) {
	t.Helper()
	shown, text := callTool(t, c, tool, arguments)
	if shown["confirm"] == nil {
		t.Fatalf("%s: no preview: %s", tool, text)
	}
	confirmed = maps.Clone(arguments)
	confirmed["confirm"] = shown["confirm"]
	return confirmed, shown["preview_id"].(string)
}

// What one server showed can be confirmed at another, once; where it is asked again, either tells what
// was done. Lists go on at the other, and limits count what both did.
func TestReplicas(t *testing.T) {
	t.Parallel()
	m := newTeam(t, nil)
	one, other := m.servers(t)
	first, second := one.as(t, "admin"), other.as(t, "admin")

	arguments := map[string]any{"connection": "mt", "token_id": m.mailtrapIDs(1)[0]}
	confirmed, _ := preview(t, first, "revoke_token", arguments)
	if got, text := callTool(t, other.as(t, "operator"), "revoke_token", confirmed); got["status"] != "confirmation_required" {
		t.Errorf("the code of another caller: %s", text)
	}
	done, text := callTool(t, second, "revoke_token", confirmed)
	if done["status"] != "revoked" {
		t.Fatalf("answered %s", text)
	}
	for _, c := range []*client.Client{first, second} {
		again, text := callTool(t, c, "revoke_token", confirmed)
		if again["replayed"] != true || again["operation_id"] != done["operation_id"] {
			t.Errorf("the same call again: %s", text)
		}
		if op := succeed(t, c, "get_operation", map[string]any{"operation_id": done["operation_id"]}); op["outcome"] != "done" {
			t.Errorf("on record: %v", op)
		}
	}
	if n := m.sent(http.MethodDelete); n != 1 {
		t.Errorf("%d deletions were sent", n)
	}

	page := succeed(t, first, "list_tokens", map[string]any{"limit": 3})
	rest := succeed(t, second, "list_tokens", map[string]any{"limit": 3, "cursor": page["next_cursor"]})
	again := succeed(t, first, "list_tokens", map[string]any{"limit": 3, "cursor": page["next_cursor"]})
	if diff := cmp.Diff(again["tokens"], rest["tokens"]); diff != "" || cmp.Equal(page["tokens"], rest["tokens"]) {
		t.Errorf("the second page at one and the other: %s", diff)
	}

	created := succeed(t, first, "create_launchdarkly_token", map[string]any{"connection": "ld", "name": "e2e", "role": "reader"})
	if created["status"] != "created" {
		t.Errorf("creation: %v", created)
	}
	var listed struct {
		Operations []struct{ ID, Principal string }
	}
	stdout, _ := m.command(t, 0, "ledger", "list", "--json")
	if err := json.Unmarshal([]byte(stdout), &listed); err != nil || len(listed.Operations) != 2 || listed.Operations[0].Principal != "token:admin" {
		t.Errorf("ledger list: %s (%v)", stdout, err)
	}
	if stdout, _ := m.command(t, 0, "ledger", "verify"); !strings.Contains(stdout, "result: as it was written") {
		t.Errorf("ledger verify: %s", stdout)
	}
}

// Of two confirmations at the same time, and of two rotations of one token, one acts and the other is
// refused, whichever server they reach.
func TestReplicasAtTheSameTime(t *testing.T) {
	t.Parallel()
	m := newTeam(t, nil)
	one, other := m.servers(t)
	for name, test := range map[string]struct {
		tool         string
		method, path string
		arguments    func(token int) map[string]any
		second       string // who confirms at the other server: the same caller with the same code, or another with a preview of its own
		refusals     []string
	}{
		"one code": {
			"revoke_token", http.MethodDelete, "/api_tokens/",
			func(token int) map[string]any {
				return map[string]any{"connection": "mt", "token_id": m.mailtrapIDs(9)[token]}
			},
			"admin",
			[]string{"in_progress"},
		},
		"two rotations": {
			"rotate_token", http.MethodPost, "/reset",
			func(token int) map[string]any {
				return map[string]any{"connection": "mt", "token_id": m.mailtrapIDs(9)[token], "deliver_to": fmt.Sprint("files/both/", token)}
			},
			"operator",
			[]string{"change_in_progress"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			arguments := test.arguments(len(name) % 9)
			held := m.hold(test.method, test.path)
			defer held.release()
			callers := []*client.Client{one.as(t, "admin"), other.as(t, test.second)}
			confirmed, _ := preview(t, callers[0], test.tool, arguments)
			codes := []map[string]any{confirmed, confirmed}
			if test.second != "admin" {
				codes[1], _ = preview(t, callers[1], test.tool, arguments)
			}
			answers := make(chan answered, 2)
			for i, c := range callers {
				from := background(t.Context(), c, test.tool, codes[i])
				go func() { answers <- <-from }()
			}
			held.await(t, 1)
			refused := receive(t, answers, "the refusal")
			if refused.err != nil || refused.content["status"] != nil || !slices.ContainsFunc(test.refusals, func(code string) bool { return strings.Contains(refused.text, `"`+code+`"`) }) {
				t.Errorf("while the other is at work: %v %s", refused.err, refused.text)
			}
			held.release()
			if acted := receive(t, answers, "the result"); acted.err != nil || acted.content["operation_id"] == nil {
				t.Errorf("the one that acts: %v %s", acted.err, acted.text)
			}
			if len(held.arrived) > 0 {
				t.Error("the vendor was asked twice")
			}
		})
	}
}

// A token that one server made is no orphan of a creation under the same name whose answer was lost at
// the other at the same time.
func TestReplicasKnowEachOthersTokens(t *testing.T) {
	t.Parallel()
	m := newTeam(t, nil)
	one, other := m.servers(t)
	creations := m.hold(http.MethodPost, "/api_tokens")
	answers := make(chan answered, 2)
	for i, s := range []*listening{one, other} {
		from := background(t.Context(), s.as(t, "admin"), "create_mailtrap_token", map[string]any{
			"connection": "mt", "name": "e2e", "deliver_to": fmt.Sprint("files/both/", i),
			"permissions": []map[string]any{{"resource_type": "account", "resource_id": fmt.Sprint(m.access.Mailtrap.AccountID), "access_level": "viewer"}},
		})
		go func() { answers <- <-from }()
	}
	creations.await(t, 2)
	if _, err := m.AddFault(sandbox.Fault{Vendor: sandbox.Mailtrap, Method: http.MethodPost, Kind: sandbox.FaultLostAnswer, Times: 1}); err != nil {
		t.Fatal(err)
	}
	search := m.hold(http.MethodGet, "/api_tokens") // by which the one looks for its token
	creations.release()
	search.await(t, 1)
	good := receive(t, answers, "the creation that goes well")
	search.release()
	lost := receive(t, answers, "the other")
	if good.content["status"] != "created" || lost.content["status"] != "unknown" {
		t.Fatalf("answered %s and %s", good.text, lost.text)
	}
	made := good.content["token"].(map[string]any)["id"].(string)
	if strings.Contains(lost.text, made) || !strings.Contains(lost.text, "nobody has its secret") {
		t.Errorf("the other server made %s, and this one says %s", made, lost.text)
	}
}

// A question to the user that one server asked is answered at any, once.
func TestReplicasShareQuestions(t *testing.T) {
	t.Parallel()
	m := newTeam(t, map[string]any{"human_approval": map[string]any{"single": "when_possible"}})
	one, other := m.servers(t)
	first, second := one.as(t, "admin"), other.as(t, "admin")
	confirmed, _ := preview(t, first, "revoke_token", map[string]any{"connection": "mt", "token_id": m.mailtrapIDs(1)[0]})
	type answer struct {
		ResultType, RequestState string
		StructuredContent        map[string]any
		Content                  []struct{ Text string }
	}
	call := func(c *client.Client, more map[string]any) (got answer) {
		t.Helper()
		params := map[string]any{"name": "revoke_token", "arguments": confirmed, "_meta": map[string]any{
			mcp.MetaKeyProtocolVersion: modern, mcp.MetaKeyClientCapabilities: map[string]any{"elicitation": map[string]any{}},
		}}
		maps.Copy(params, more)
		response, err := c.GetTransport().SendRequest(t.Context(), transport.JSONRPCRequest{
			JSONRPC: mcp.JSONRPC_VERSION, ID: mcp.NewRequestId(time.Now().UnixNano()), Method: string(mcp.MethodToolsCall), Params: params,
			Header: http.Header{mcp.HeaderMethod: {string(mcp.MethodToolsCall)}, mcp.HeaderName: {"revoke_token"}},
		})
		if err != nil || response.Error != nil {
			t.Fatalf("%v %+v", err, response.Error)
		}
		if err := json.Unmarshal(response.Result, &got); err != nil {
			t.Fatal(err)
		}
		return got
	}
	asked := call(first, nil)
	if asked.ResultType != "input_required" {
		t.Fatalf("no question: %+v", asked)
	}
	answered := map[string]any{"requestState": asked.RequestState, "inputResponses": map[string]any{
		"approval": map[string]any{"action": "accept", "content": map[string]any{"phrase": "REVOKE 1"}},
	}}
	done := call(second, answered)
	if done.StructuredContent["status"] != "revoked" {
		t.Fatalf("answered at the other: %+v", done)
	}
	if again := call(first, answered); again.StructuredContent["replayed"] != true {
		t.Errorf("answered again: %+v", again)
	}
	if n := m.sent(http.MethodDelete); n != 1 {
		t.Errorf("%d deletions were sent", n)
	}
}

// What one caller may revoke within an hour counts over all servers.
func TestReplicasShareLimits(t *testing.T) {
	t.Parallel()
	m := newTeam(t, nil)
	m.config = m.write(t, "limited.json", strings.Replace(readFile(t, m.config), `"provider":"mailtrap"`, `"provider":"mailtrap","limits":{"revocations_per_hour":2}`, 1))
	one, other := m.servers(t)
	ids := m.mailtrapIDs(3)
	for i, s := range []*listening{one, other} {
		got := succeed(t, s.as(t, "admin"), "revoke_token", map[string]any{"connection": "mt", "token_id": ids[i]})
		if got["status"] != "revoked" {
			t.Fatalf("got %v", got)
		}
	}
	for _, s := range []*listening{one, other} {
		if code := fail(t, s.as(t, "admin"), "revoke_token", map[string]any{"connection": "mt", "token_id": ids[2]}); code != "limit_reached" {
			t.Errorf("the third within the hour: %s", code)
		}
	}
}

// A server that is killed in the middle of a bulk revocation leaves what was done on record for the
// other, which carries on with the rest.
func TestReplicaDiesInABulkRevocation(t *testing.T) {
	t.Parallel()
	m := newTeam(t, nil)
	other := m.server(t, faultyBinary(t), m.dsn)
	dying := m.server(t, faultyBinary(t), m.dsn, "TOKENREEVE_FAULT_POINT=answered#2", "TOKENREEVE_FAULT_LEASE=100ms")
	ids, _ := m.sweepable(t, 3)
	arguments := map[string]any{"connection": "mt", "token_ids": ids, "reason": "test"}
	confirmed, previewID := preview(t, dying.as(t, "admin"), "bulk_revoke_tokens", arguments)
	lost := background(t.Context(), dying.as(t, "admin"), "bulk_revoke_tokens", confirmed)
	dying.dies(t)
	if a := receive(t, lost, "the end of the call"); a.err == nil {
		t.Fatalf("the dead server answered %s", a.text)
	}

	c := other.as(t, "admin")
	page, err := m.record(t).List(t.Context(), ledger.Query{Preview: previewID})
	if err != nil || len(page.Operations) == 0 {
		t.Fatalf("on record: %+v, %v", page, err)
	}
	group := page.Operations[slices.IndexFunc(page.Operations, func(o ledger.Operation) bool { return o.Group })]
	if seen := untilEnded(t, c, group.ID); seen["outcome"] != "unknown" {
		t.Errorf("the whole: %v", seen)
	}
	children, err := m.record(t).List(t.Context(), ledger.Query{Parent: group.ID})
	if err != nil {
		t.Fatal(err)
	}
	outcomes := map[string]any{}
	for _, op := range children.Operations {
		outcomes[op.Targets[0].ID] = untilEnded(t, c, op.ID)["outcome"]
	}
	if diff := cmp.Diff(map[string]any{ids[0]: "done", ids[1]: "unknown"}, outcomes); diff != "" {
		t.Errorf("of each target (-want +got):\n%s", diff)
	}
	got := succeed(t, c, "bulk_revoke_tokens", arguments)
	if got["operation_id"] == nil {
		t.Errorf("the rest: %v", got)
	}
	m.checkGone(t, ids, ids)
}

// untilEnded asks for an operation until it has an outcome: once the dead server's lease is over.
func untilEnded(t *testing.T, c *client.Client, id string) map[string]any {
	t.Helper()
	for deadline := time.Now().Add(hang); ; {
		op := succeed(t, c, "get_operation", map[string]any{"operation_id": id})
		if op["outcome"] != "open" {
			return op
		}
		if time.Now().After(deadline) {
			t.Fatalf("it never ends: %v", op)
		}
	}
}

// dies waits until the server has killed itself.
func (s *listening) dies(t *testing.T) {
	t.Helper()
	receive(t, s.ended, "the server's death")
	if status, ok := s.cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || status.Signal() != syscall.SIGKILL {
		t.Fatalf("it was not killed: %s; it said:\n%s", s.cmd.ProcessState, s.err)
	}
}

// A secret that a server had put in escrow before it was killed is delivered by the other, once.
func TestReplicaDiesWithASecretInEscrow(t *testing.T) {
	t.Parallel()
	for _, point := range []string{"escrowing", "delivering"} {
		t.Run(point, func(t *testing.T) {
			t.Parallel()
			m := newTeam(t, nil)
			other := m.server(t, faultyBinary(t), m.dsn)
			dying := m.server(t, faultyBinary(t), m.dsn, "TOKENREEVE_FAULT_POINT="+point, "TOKENREEVE_FAULT_LEASE=100ms")
			lost := background(t.Context(), dying.as(t, "admin"), "create_launchdarkly_token", map[string]any{"connection": "ld", "name": "e2e", "role": "reader", "deliver_to": "files/ci/ld"})
			dying.dies(t)
			receive(t, lost, "the end of the call")

			stdout, _ := m.command(t, 0, "escrow", "list", "--json")
			var kept struct {
				Escrow []struct{ Operation, Destination, Problem string }
			}
			if err := json.Unmarshal([]byte(stdout), &kept); err != nil || len(kept.Escrow) != 1 || kept.Escrow[0].Destination != "files/ci/ld" || kept.Escrow[0].Problem != "" {
				t.Fatalf("escrow list: %s (%v)", stdout, err)
			}
			m.noSecretIn(t, "escrow list", stdout)
			operation := kept.Escrow[0].Operation
			sealed := filepath.Join(m.home, "sealed.age")
			m.command(t, 0, "escrow", "export", operation, "--output", sealed)
			if text := readFile(t, sealed); !strings.HasPrefix(text, "age-encryption.org/v1\n") {
				t.Errorf("what is exported is no age file: %.20q", text)
			}
			m.noSecretIn(t, "the exported file", readFile(t, sealed))

			c := other.as(t, "admin")
			if got := untilEnded(t, c, operation); got["outcome"] != "escrowed" {
				t.Errorf("on record: %v", got)
			}
			arguments := map[string]any{"operation_id": operation}
			if got := succeed(t, c, "deliver_secret", arguments); got["status"] != "delivered" {
				t.Errorf("delivery: %v", got)
			}
			if diff := cmp.Diff([]string{m.secretOf(t, "e2e")}, delivered(t, m.secretsDir())); diff != "" {
				t.Errorf("delivered secrets (-want +got):\n%s", diff)
			}
			if code := fail(t, c, "deliver_secret", arguments); code != "already_delivered" {
				t.Errorf("a second delivery failed with %s", code)
			}
			if stdout, _ := m.command(t, 0, "escrow", "list"); strings.Contains(stdout, operation) {
				t.Errorf("left in escrow: %s", stdout)
			}
		})
	}
}

// Without its database a server refuses changes and goes on reading; once the database is back, all works.
func TestReplicaLosesItsDatabase(t *testing.T) {
	t.Parallel()
	m := newTeam(t, nil)
	proxy := postgrestest.NewProxy(t, m.dsn)
	s := m.server(t, binary(t), proxy.DSN)
	c := s.as(t, "admin")
	ids := m.mailtrapIDs(2)
	arguments := map[string]any{"connection": "mt", "token_id": ids[0]}
	confirmed, _ := preview(t, c, "revoke_token", arguments)
	proxy.Down()
	for what, arguments := range map[string]map[string]any{
		"a preview": {"connection": "mt", "token_id": ids[1]}, "a confirmation": confirmed,
	} {
		if code := fail(t, c, "revoke_token", arguments); code != "ledger_unavailable" {
			t.Errorf("%s: %s", what, code)
		}
	}
	switch code := fail(t, c, "create_launchdarkly_token", map[string]any{"connection": "ld", "name": "e2e", "role": "reader"}); code {
	case "ledger_unavailable", "escrow_unusable":
	default:
		t.Errorf("a creation: %s", code)
	}
	if page := succeed(t, c, "list_tokens", map[string]any{"limit": 3}); len(page["tokens"].([]any)) != 3 {
		t.Errorf("a list: %v", page)
	}
	if status, _ := s.get(t, "/readyz", false); status != http.StatusOK {
		t.Errorf("/readyz answers %d, though reads go on", status)
	}
	if n := m.sent(http.MethodDelete) + m.sent(http.MethodPost); n != 0 {
		t.Errorf("%d changes were sent", n)
	}
	proxy.Up()
	if got, text := callTool(t, c, "revoke_token", confirmed); got["status"] != "revoked" {
		t.Errorf("once it is back: %s", text)
	}
	if text := s.err.String(); strings.Contains(text, proxy.DSN) || strings.Contains(text, ":tokenreeve@") {
		t.Error("the log quotes the connection string")
	}
}

// What is missing or wrong ends a server's start, with the reason.
func TestReplicaRefusesToStart(t *testing.T) {
	t.Parallel()
	m := newTeam(t, nil)
	for name, test := range map[string]struct {
		dsn, keys string
		want      string
	}{
		"no database":  {"", "", "state.postgres: "},
		"no such host": {"postgres://u:hunter2@127.0.0.1:1/x", "", "nothing listens"},
		"spoilt keys":  {m.dsn, "hunter2", "state.keys: line 1 is not an age identity"},
		"no keys":      {m.dsn, "\n", "state.keys: "},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			config := m.config
			if test.keys != "" {
				path := m.write(t, name+".keys", test.keys)
				config = m.write(t, name+".json", strings.Replace(readFile(t, m.config), filepath.Join(m.home, "keys"), path, 1))
			}
			stdout, stderr := run(t, append(m.env, "DATABASE_URL="+test.dsn), 1, "", "serve", "--listen", "127.0.0.1:0", "--config", config)
			if stdout != "" || !strings.Contains(stderr, test.want) || strings.Contains(stderr, "hunter2") || strings.Contains(stderr, "serves http") {
				t.Errorf("said %s", stderr)
			}
		})
	}
}

// A server whose keys the others lack does not start, and one that is left with keys that count no more
// mints nothing: what one puts in escrow, all can read.
func TestReplicaWithOtherKeys(t *testing.T) {
	t.Parallel()
	m := newTeam(t, nil)
	s := m.server(t, binary(t), m.dsn)
	other := *m
	other.config = m.write(t, "other.json", strings.Replace(readFile(t, m.config), filepath.Join(m.home, "keys"), m.write(t, "other.keys", m.newKeys(t)), 1))
	env := append(m.env, "DATABASE_URL="+m.dsn)
	const told = "state.keys lacks the key that other servers of this database encrypt to"
	_, stderr := run(t, env, 1, "", "serve", "--listen", "127.0.0.1:0", "--config", other.config)
	if !strings.Contains(stderr, told) || strings.Contains(stderr, "AGE-SECRET") || strings.Contains(stderr, "serves http") {
		t.Errorf("said %s", stderr)
	}
	if stdout, _ := other.command(t, 1, "doctor", "--json"); !strings.Contains(stdout, told) {
		t.Errorf("doctor: %s", stdout)
	}
	if stdout, _ := other.command(t, 0, "state", "adopt-keys"); stdout != "the keys of this configuration count now; secrets in escrow: 0, of which they cannot read: 0\n" {
		t.Errorf("adopt-keys: %s", stdout)
	}
	other.server(t, binary(t), m.dsn)
	minting := map[string]any{"connection": "ld", "name": "new", "role": "reader", "deliver_to": "files/new"}
	if _, text := callTool(t, s.as(t, "operator"), "create_launchdarkly_token", minting); !strings.Contains(text, "escrow_unusable") || !strings.Contains(text, told) {
		t.Errorf("with the earlier keys: %s", text)
	}
}

// Commands that only look make no tables; migrate makes them, also for a role that could not.
func TestReplicaStateIsMigrated(t *testing.T) {
	t.Parallel()
	m := newTeam(t, nil)
	doctor := func() map[string]string {
		t.Helper()
		stdout, stderr := m.command(t, 0, "doctor", "--json")
		var told struct {
			Checks []struct{ Where, Verdict, Found string }
		}
		if err := json.Unmarshal([]byte(stdout), &told); err != nil {
			t.Fatalf("%v: %s%s", err, stdout, stderr)
		}
		found := map[string]string{}
		for _, f := range told.Checks {
			found[f.Where] = f.Found
		}
		return found
	}
	if _, stderr := m.command(t, 0, "ledger", "list"); !strings.Contains(stderr, "nothing was recorded yet") {
		t.Errorf("ledger list: %s", stderr)
	}
	m.command(t, 0, "escrow", "list")
	m.command(t, 1, "approve", "pv_ABCDEFGHIJ")
	if got := doctor(); !strings.Contains(got["state.postgres"], "has no tables") || !strings.Contains(got["escrow"], "not made yet") {
		t.Errorf("doctor: %v", got)
	}
	if n := m.tables(t); n != 0 {
		t.Errorf("looking made %d tables", n)
	}
	for range 2 {
		if stdout, _ := m.command(t, 0, "state", "migrate"); stdout != "the database is ready for this version\n" {
			t.Errorf("state migrate: %s", stdout)
		}
	}
	if n := m.tables(t); n == 0 {
		t.Error("there are no tables")
	}
	got := doctor()
	for where, want := range map[string]string{"state.postgres": "has its tables", "state.keys": "keys: 1", "ledger": "is as it was written", "escrow": "can be kept and read back"} {
		if !strings.Contains(got[where], want) {
			t.Errorf("doctor of %s: %q, want %q", where, got[where], want)
		}
	}
	if got["state"] != "" {
		t.Errorf("doctor looks at a directory that nothing is kept in: %s", got["state"])
	}
}

// tables counts those of the database.
func (m *team) tables(t *testing.T) (n int) {
	t.Helper()
	db := postgres.New(postgres.Fixed(secret.New(m.dsn)), postgres.Options{})
	defer db.Close()
	err := db.Read(t.Context(), func(tx *sql.Tx) error {
		return tx.QueryRowContext(t.Context(), `SELECT count(*) FROM pg_tables WHERE schemaname = 'public'`).Scan(&n)
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}
