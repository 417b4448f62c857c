package tools_test

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/mark3labs/mcp-go/client"
	"github.com/mark3labs/mcp-go/mcp"
	mcpserver "github.com/mark3labs/mcp-go/server"

	"github.com/tokenreeve/tokenreeve/auth"
	"github.com/tokenreeve/tokenreeve/internal/ledger"
	"github.com/tokenreeve/tokenreeve/internal/policy"
	"github.com/tokenreeve/tokenreeve/internal/sandbox"
	"github.com/tokenreeve/tokenreeve/internal/server"
	"github.com/tokenreeve/tokenreeve/internal/vendortest"
	"github.com/tokenreeve/tokenreeve/tools"
)

// hostile is a vendor's records whose every text is hostile, before a server whose results, questions,
// log and record are looked through.
type hostile struct {
	*harness
	credential string
	plain      string // a member that is as the sandbox has it, besides those that must be

	mu        sync.Mutex
	questions []string
	words     map[string]bool // the places whose words were seen in results
}

// startHostile starts a server on vendors whose answers are hostile. Where plain names a member, that
// one is not.
func startHostile(t *testing.T, credential, protocol string) *hostile {
	t.Helper()
	h := &hostile{credential: credential, words: map[string]bool{}}
	box := start(t, setup{box: sandbox.Options{Seed: 3, Tokens: 30}})
	vendors := box.box.Handler()
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer := httptest.NewRecorder()
		vendors.ServeHTTP(answer, r)
		h.spoil(w, answer)
	}))
	t.Cleanup(web.Close)
	s := setup{
		elicit: h.elicit, protocol: protocol, connections: oneOfEach(),
		approval: policy.HumanApproval{Single: policy.ApprovalWhenPossible, Bulk: policy.ApprovalWhenPossible},
	}
	for i := range s.connections {
		c := &s.connections[i]
		c.baseURL = web.URL + "/" + c.vendor
		c.orgWideRevoke = true
		c.policy.Mint.Access = policy.Grants()
	}
	h.harness = box.restart(s)
	return h
}

// structural are the members without which an answer is none: ids, secrets, links, what a change is
// made of. TestHostileStructure spoils each of them as well.
func structural() []string {
	return []string{
		"_id", "memberId", "tokenId", "id", "token", "last_4_digits", "href", "next", "serviceAccountId", "validServiceAccountIds", "invalidServiceAccountIds",
		"resource_type", "resource_id", "type", "expires_at", "createdAt", "expiresAt", "lastActiveAt", "lastAccess", "expiry", "status", "role", "customRoleIds",
		"key", "accountId",
	}
}

// spoil writes an answer with every text planted but the structural ones, and with texts that the
// vendor never wrote.
func (h *hostile) spoil(w http.ResponseWriter, answer *httptest.ResponseRecorder) {
	maps.Copy(w.Header(), answer.Header())
	w.Header().Del("Content-Length")
	w.Header().Set("X-Request-Id", headerText(h.text("request id")))
	w.Header().Set("X-Hostile", headerText(h.text("header")))
	w.WriteHeader(answer.Code)
	var value any
	decoder := json.NewDecoder(answer.Body)
	decoder.UseNumber()
	if decoder.Decode(&value) != nil {
		return
	}
	_ = json.NewEncoder(w).Encode(h.planted("", value, slices.DeleteFunc(structural(), func(name string) bool { return name == h.plain })))
}

// headerText is a text as a header can hold it.
func headerText(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, text)
}

func (h *hostile) text(place string) string {
	return vendortest.HostileText(vendortest.Word(place), h.credential)
}

func (h *hostile) planted(name string, value any, kept []string) any {
	switch v := value.(type) {
	case string:
		if slices.Contains(kept, name) {
			return v
		}
		return h.text(name)
	case []any:
		for i := range v {
			v[i] = h.planted(name, v[i], kept)
		}
	case map[string]any:
		for member := range v {
			v[member] = h.planted(member, v[member], kept)
		}
		if name != "links" && name != "_links" {
			v["hostile"] = map[string]any{h.text("key"): h.text("unknown")}
		}
	}
	return value
}

// elicit notes a question and answers it as it asks.
func (h *hostile) elicit(_ context.Context, r mcp.ElicitationRequest) (*mcp.ElicitationResult, error) {
	text, err := json.Marshal(r.Params)
	if err != nil {
		return nil, err
	}
	h.mu.Lock()
	h.questions = append(h.questions, r.Params.Message, string(text))
	h.mu.Unlock()
	asked := regexp.MustCompile(` Type ([A-Z]+( ALL)? [0-9]+) to agree\.$`).FindStringSubmatch(r.Params.Message)
	if asked == nil {
		return nil, fmt.Errorf("the question does not end with what to type: %q", r.Params.Message)
	}
	answer, err := typed(asked[1])
	return &answer, err
}

// sentences are the members of results that hold sentences of ours.
func sentences() []string {
	return []string{"message", "next", "warnings", "effects", "steps", "note", "why", "valid", "limits"}
}

// quotes are the parts of a sentence that stand in double quotes.
var quotes = regexp.MustCompile(`"(\\.|[^"\\])*"`)

// look fails the test where a result holds what it should not, or a sentence holds outside text without quotes.
func (h *hostile) look(where string, r result) result {
	h.t.Helper()
	h.clean(where, r.text)
	for _, word := range vendortest.Words(r.text) {
		h.words[word] = true
	}
	h.sentences(where, "", r.data)
	h.flags(where, r.data)
	return r
}

// clean fails the test where a text holds what it should not.
func (h *hostile) clean(where, text string, allowed ...rune) {
	h.t.Helper()
	if danger := vendortest.Danger(text, allowed...); danger != "" {
		h.t.Errorf("%s holds %s: %+q", where, danger, text)
	}
}

func (h *hostile) sentences(where, name string, value any) {
	h.t.Helper()
	switch v := value.(type) {
	case string:
		if slices.Contains(sentences(), name) {
			h.quoted(where+", "+name, v)
		}
	case []any:
		for _, element := range v {
			h.sentences(where, name, element)
		}
	case map[string]any:
		for member, element := range v {
			h.sentences(where, member, element)
		}
	}
}

// quoted fails the test where outside text stands in a sentence without quotes.
func (h *hostile) quoted(where, sentence string) {
	h.t.Helper()
	if words := vendortest.Words(quotes.ReplaceAllString(sentence, "")); len(words) > 0 {
		h.t.Errorf("%s: %s stands outside of quotes: %s", where, words, sentence)
	}
}

// flags fails the test where a name was altered and nothing says so: the row itself, or a warning.
func (h *hostile) flags(where string, data map[string]any) {
	h.t.Helper()
	text := fmt.Sprint(data["warnings"])
	if strings.Contains(text, "were cleaned") {
		return
	}
	var visit func(value any)
	visit = func(value any) {
		switch v := value.(type) {
		case []any:
			for _, element := range v {
				visit(element)
			}
		case map[string]any:
			name, isText := v["name"].(string)
			if isText && len(vendortest.Words(name)) > 0 && v["name_altered"] != true {
				h.t.Errorf("%s: that %q was cleaned is not flagged", where, name)
			}
			for _, element := range v {
				visit(element)
			}
		}
	}
	visit(data)
	if targets := fmt.Sprint(data["targets"]); len(vendortest.Words(targets)) > 0 {
		h.t.Errorf("%s: that names of targets were cleaned is not told: %s", where, targets)
	}
}

// finish looks through everything that was written: the log, the questions, the record with every row of
// its file, its exports, and what a person is shown of the previews.
func (h *hostile) finish() {
	h.t.Helper()
	h.clean("the log", h.log.String(), '\n')
	for line := range strings.Lines(h.log.String()) {
		var entry map[string]any
		if err := json.Unmarshal([]byte(line), &entry); err != nil {
			h.t.Errorf("log line %q: %v", line, err)
		}
		eachText(entry, func(text string) { h.clean("the log", text, '\n', '\t') })
	}
	for _, question := range h.questions {
		h.clean("a question", question)
		if !strings.HasPrefix(question, "{") {
			h.quoted("a question", question)
		}
	}
	for range len(h.notes.got) {
		h.clean("a notification", fmt.Sprintf("%+v", <-h.notes.got))
	}
	rows := h.rowsOnDisk()
	for _, row := range rows {
		h.clean("a row on disk", row)
	}
	for _, format := range []ledger.Format{ledger.JSONLines, ledger.CSV} {
		var b bytes.Buffer
		if err := h.env.Ledger.Export(h.t.Context(), &b, format); err != nil {
			h.t.Fatal(err)
		}
		h.clean("the export as "+string(format), b.String(), '\n')
	}
}

// rowsOnDisk returns every text of every row in the ledger's file.
func (h *hostile) rowsOnDisk() []string {
	h.t.Helper()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(h.setup.stateDir, "ledger.db")+"?_pragma=busy_timeout(5000)")
	if err != nil {
		h.t.Fatal(err)
	}
	defer db.Close()
	tables := h.texts(db, `SELECT name FROM sqlite_master WHERE type = 'table'`)
	var all []string
	for _, table := range tables {
		all = append(all, h.texts(db, "SELECT * FROM "+table)...)
	}
	if len(all) == 0 {
		h.t.Error("the ledger's file is empty: the test proves nothing")
	}
	return all
}

func (h *hostile) texts(db *sql.DB, query string) []string {
	h.t.Helper()
	rows, err := db.QueryContext(h.t.Context(), query)
	if err != nil {
		h.t.Fatal(err)
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		h.t.Fatal(err)
	}
	var all []string
	for rows.Next() {
		row := make([]any, len(columns))
		for i := range row {
			row[i] = new(string)
		}
		if err := rows.Scan(row...); err != nil {
			h.t.Fatal(err)
		}
		for _, text := range row {
			all = append(all, *text.(*string))
		}
	}
	return all
}

// shown looks at what a person is shown of a preview.
func (h *hostile) shown(where, id string) {
	h.t.Helper()
	p, err := h.env.Ledger.FindPreview(h.t.Context(), id)
	if err != nil {
		h.t.Fatal(err)
	}
	s, err := tools.ShownOf(p)
	if err != nil {
		h.t.Fatal(err)
	}
	vendortest.Strings(s, func(path, text string) { h.clean(where+", shown "+path, text) })
	for _, sentence := range slices.Concat(s.Effects, s.Warnings, s.Owners) {
		h.quoted(where+", shown", sentence)
	}
}

// change previews a change, looks at all that it shows, and makes it.
func (h *hostile) change(tool string, a args) result {
	h.t.Helper()
	r := h.look(tool, h.call(tool, a))
	if r.str("status") != "confirmation_required" {
		return r
	}
	h.shown(tool, r.str("preview_id"))
	code := args{"confirm": r.str("confirm")}
	done := h.look(tool, h.call(tool, with(a, code)))
	h.look(tool, h.call(tool, with(a, code))) // replayed
	return done
}

// reads calls every tool that changes nothing, and one operation after the other.
func (h *hostile) reads(connection, id string) {
	h.t.Helper()
	c := args{"connection": connection}
	for tool, all := range map[string][]args{
		"list_connections": {{}},
		"list_tokens":      {c, with(c, args{"detail": "full"}), with(c, args{"sort": "name"}), {"query": "zq", "detail": "full"}},
		"count_tokens":     {c, with(c, args{"group_by": "owner"}), with(c, args{"group_by": "access"})},
		"get_token":        {with(c, args{"token_id": id})},
		"list_operations":  {{}, c},
	} {
		for _, a := range all {
			h.look(tool, h.call(tool, a))
		}
	}
	operations, _ := h.call("list_operations", args{}).data["operations"].([]any)
	for _, operation := range operations {
		h.look("get_operation", h.call("get_operation", args{"operation_id": operation.(map[string]any)["operation_id"]}))
	}
}

// everyChange makes every change that a vendor offers.
func (h *hostile) everyChange(vendor string) {
	h.t.Helper()
	reason := args{"reason": h.text("reason")}
	switch vendor {
	case sandbox.LaunchDarkly:
		ids := []string{h.addLaunchDarkly("a").ID, h.addLaunchDarkly("b").ID, h.addLaunchDarkly("c").ID, h.addLaunchDarkly("d").ID}
		c := args{"connection": launchDarklyName}
		one := with(c, args{"token_id": ids[0]})
		h.change("update_launchdarkly_token", with(one, args{"name": "renamed"})).is("updated")
		h.change("update_launchdarkly_token", with(one, args{"role": "writer", "description": h.text("description")})).is("updated")
		h.change("rotate_token", one).is("rotated")
		h.change("create_launchdarkly_token", with(reader(), args{"description": h.text("description")})).is("created")
		h.change("create_launchdarkly_token", with(reader(), args{"role": "admin"})).is("created")
		h.escrowed("create_launchdarkly_token", reader())
		h.change("revoke_token", with(with(c, args{"token_id": ids[1]}), reason)).is("revoked")
		h.change("bulk_revoke_tokens", with(with(c, args{"token_ids": ids[2:]}), reason)).is("revoked")
	case sandbox.Mailtrap:
		ids := []string{number(h.addMailtrap("a").ID), number(h.addMailtrap("b").ID), number(h.addMailtrap("c").ID), number(h.addMailtrap("d").ID)}
		c := args{"connection": mailtrapName}
		h.change("rotate_token", with(c, args{"token_id": ids[0]})).is("rotated")
		h.change("rotate_token", with(c, args{"token_id": ids[3], "compromised": true}))
		h.change("create_mailtrap_token", with(viewer(), args{"name": h.text("created name")}))
		h.change("create_mailtrap_token", viewer()).is("created")
		h.change("create_mailtrap_token", with(viewer(), args{"permissions": nil})).is("permissions_required")
		h.escrowed("create_mailtrap_token", viewer())
		h.change("revoke_token", with(with(c, args{"token_id": ids[1]}), reason)).is("revoked")
		h.change("bulk_revoke_tokens", with(with(c, args{"token_ids": ids[2:3]}), reason)).is("revoked")
	default:
		one, two := h.addAtlassian("a"), h.addAtlassian("b")
		account, robots := h.serviceAccount("robot", "other")
		c := args{"connection": atlassianName}
		h.change("rotate_token", with(c, args{"token_id": one.ID})).is("hand_off")
		h.change("revoke_token", with(with(c, args{"token_id": robots[0]}), reason)).is("hand_off")
		h.change("revoke_token", with(with(c, args{"token_id": one.ID, "owner": one.AccountID}), reason)).is("revoked")
		h.change("bulk_revoke_tokens", with(with(c, args{"token_ids": []string{two.ID}}), reason)).is("revoked")
		h.change("bulk_revoke_tokens", with(with(c, args{"service_accounts": []string{account}, "all_of_service_account": true}), reason)).is("revoked")
		h.change("bulk_revoke_tokens", with(with(c, args{"kind": "user", "query": "zq"}), reason))
		h.change("bulk_revoke_tokens", with(with(c, args{"everything": true}), reason))
	}
}

// escrowed lets a delivery fail, and delivers the secret afterwards.
func (h *hostile) escrowed(tool string, a args) {
	h.t.Helper()
	files := h.env.Sinks[sinkName]
	h.env.Sinks[sinkName] = failing{files}
	made := h.change(tool, a).is("escrowed")
	h.env.Sinks[sinkName] = files
	h.look("deliver_secret", h.call("deliver_secret", args{"operation_id": made.str("operation_id"), "deliver_to": h.text("place")}))
	h.look("deliver_secret", h.call("deliver_secret", args{"operation_id": made.str("operation_id")})).is("delivered")
}

// aToken returns the id of some token of a vendor.
func (h *hostile) aToken(vendor string) (connection, id string) {
	for _, c := range oneOfEach() {
		if c.vendor == vendor {
			connection = c.name
		}
	}
	return connection, find(h.t, h.factsAt(connection), func(f fact) bool { return !f.own }).id
}

// TestHostileVendors calls every tool on vendors whose every text is hostile.
func TestHostileVendors(t *testing.T) {
	t.Parallel()
	kinds := slices.Sorted(maps.Keys(vendortest.Credentials()))
	for n, vendor := range []string{sandbox.Atlassian, sandbox.LaunchDarkly, sandbox.Mailtrap} {
		for m, protocol := range slices.Sorted(maps.Values(protocols())) {
			t.Run(vendor+" "+protocol, func(t *testing.T) {
				t.Parallel()
				for k := range kinds {
					if k%6 != n*2+m { // each kind at one of them
						continue
					}
					h := startHostile(t, vendortest.Credentials()[kinds[k]], protocol)
					connection, id := h.aToken(vendor)
					h.reads(connection, id)
					h.everyChange(vendor)
					h.reads(connection, id)
					h.finish()
					h.wantReached(vendor)
				}
			})
		}
	}
}

// wantReached fails the test where it proves nothing: what should show does not.
func (h *hostile) wantReached(vendor string) {
	h.t.Helper()
	places := map[string][]string{
		sandbox.Atlassian:    {"label", "name", "email"},
		sandbox.LaunchDarkly: {"name", "firstName", "email", "description", "reason"},
		sandbox.Mailtrap:     {"name", "created_by", "reason", "request id"},
	}
	for _, place := range places[vendor] {
		if !h.words[vendortest.Word(place)] {
			h.t.Errorf("no result holds what stood in %s: the test proves nothing", place)
		}
	}
	if len(h.questions) == 0 || len(vendortest.Words(strings.Join(h.questions, ""))) == 0 {
		h.t.Error("no question holds outside text: the test proves nothing")
	}
	if len(vendortest.Words(strings.Join(h.rowsOnDisk(), ""))) == 0 {
		h.t.Error("nothing on disk holds outside text: the test proves nothing")
	}
}

// TestHostileStructure spoils what an answer cannot do without, one member after the other, and every
// kind of error.
func TestHostileStructure(t *testing.T) {
	t.Parallel()
	for n, vendor := range []string{sandbox.Atlassian, sandbox.LaunchDarkly, sandbox.Mailtrap} {
		t.Run(vendor, func(t *testing.T) {
			t.Parallel()
			credential := slices.Sorted(maps.Values(vendortest.Credentials()))[n]
			h := startHostile(t, credential, slices.Sorted(maps.Values(protocols()))[0])
			connection, id := h.aToken(vendor)
			for _, name := range structural() {
				h.plain = name
				h.everyCall(connection, id)
			}
			h.plain = ""
			for _, status := range []int{400, 401, 403, 404, 409, 422} {
				h.fault(sandbox.Fault{Kind: sandbox.FaultStatus, Status: status, Vendor: vendor})
				h.everyCall(connection, id)
				h.box.ClearFaults()
			}
			for _, method := range []string{"POST", "DELETE", "PATCH"} {
				h.fault(sandbox.Fault{Kind: sandbox.Fault500, Method: method, Vendor: vendor})
				h.everyCall(connection, id)
				h.box.ClearFaults()
			}
			h.finish()
		})
	}
}

// everyCall calls every tool once, whatever comes of it.
func (h *hostile) everyCall(connection, id string) {
	h.t.Helper()
	c := args{"connection": connection}
	one := with(c, args{"token_id": id})
	h.look("list_tokens", h.call("list_tokens", with(c, args{"detail": "full", "limit": 3})))
	h.look("count_tokens", h.call("count_tokens", c))
	h.look("get_token", h.call("get_token", one))
	h.look("list_connections", h.call("list_connections", args{}))
	h.change("rotate_token", one)
	h.change("bulk_revoke_tokens", with(c, args{"token_ids": []string{id}, "exclude": []string{id}, "reason": "none"}))
	h.change("bulk_revoke_tokens", with(c, args{"query": "no such name", "reason": "none"}))
	switch vendorOf(connection) {
	case sandbox.LaunchDarkly:
		h.change("update_launchdarkly_token", with(one, args{"name": "renamed"}))
		h.change("create_launchdarkly_token", reader())
	case sandbox.Mailtrap:
		h.change("create_mailtrap_token", viewer())
		h.change("create_mailtrap_token", with(viewer(), args{"permissions": nil}))
	}
	h.change("revoke_token", with(one, args{"reason": "gone"}))
}

// TestHostileCallers: what callers type, and what they call themselves, is cleaned as well.
func TestHostileCallers(t *testing.T) {
	t.Parallel()
	kinds := vendortest.Credentials()
	for n, kind := range slices.Sorted(maps.Keys(kinds)) {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			h := startHostile(t, kinds[kind], "2025-06-18")
			h.introduce()
			principal := h.text("principal")
			for _, d := range h.definitions() {
				h.everyArgument(d, principal, n)
			}
			h.look("unknown tool", h.send(h.t.Context(), toolRequest(h.text("tool"), args{"a": 1})))
			// A caller with such a name sees its own operations, and its codes are its own.
			a := with(args{"connection": launchDarklyName, "token_id": h.addLaunchDarkly("mine").ID}, args{"reason": h.text("reason")})
			as := func(tool string, a args) result { return h.look(tool, h.callAs(principal, tool, a)) }
			r := as("revoke_token", a)
			r = as("revoke_token", with(a, args{"confirm": r.code()})).is("revoked")
			if got := as("get_operation", args{"operation_id": r.str("operation_id")}).ok(); !strings.Contains(got.str("reason"), vendortest.Word("reason")) {
				t.Errorf("the reason is not on record: %s", got.text)
			}
			if rows, _ := as("list_operations", args{}).data["operations"].([]any); len(rows) == 0 {
				t.Error("the caller does not see its own operations")
			}
			h.finish()
			if written := strings.Join(h.rowsOnDisk(), "\n"); !strings.Contains(written, vendortest.Word("client")) || !strings.Contains(written, vendortest.Word("reason")) {
				t.Error("neither client nor reason are on record: the test proves nothing")
			}
		})
	}
}

// introduce connects again, as a client with a hostile name and version.
func (h *hostile) introduce() {
	h.t.Helper()
	s, err := server.New("test", h.env)
	if err != nil {
		h.t.Fatal(err)
	}
	h.client = hostileClient(h.t, s, h.elicit, mcp.Implementation{Name: h.text("client"), Version: h.text("version")})
}

// everyArgument gives each argument of a tool hostile values: one in three forms, from form n on.
func (h *hostile) everyArgument(d definition, principal string, n int) {
	h.t.Helper()
	var schema struct {
		Properties map[string]any `json:"properties"`
	}
	if err := json.Unmarshal(d.InputSchema, &schema); err != nil {
		h.t.Fatal(err)
	}
	ctx := auth.WithPrincipal(h.t.Context(), otherCaller(principal))
	base := args{
		"connection": launchDarklyName, "token_id": "6650f0c2a1b2c3d4e5f60001", "reason": "x", "name": "x", "role": "reader", "permissions": viewer()["permissions"],
		"operation_id": "019a52b4-7c1e-7d5f-9b8a-0f6f2d7b1c3e", "patch": nil,
	}
	if _, ok := schema.Properties["permissions"]; ok {
		base["connection"] = mailtrapName
	}
	maps.DeleteFunc(base, func(name string, value any) bool { _, ok := schema.Properties[name]; return !ok || value == nil })
	for name := range schema.Properties {
		text := h.text(name)
		for i, value := range []any{
			text,
			[]string{text},
			args{text: text},
			[]args{{text: text}},
			[]args{{"resource_type": text, "resource_id": text, "access_level": text}},
			`[{"op":"replace","path":` + strconv.Quote(vendortest.Word(name)) + `,"value":1}]`, `[{"effect":"allow","resources":["` + vendortest.Word(name) + ` "],"actions":["*"]}]`,
		} {
			if (i+n)%3 != 0 {
				continue
			}
			h.look(d.Name+", "+name, h.callWith(ctx, d.Name, with(base, args{name: value})))
		}
	}
	h.look(d.Name, h.callWith(ctx, d.Name, args{h.text("argument"): 1}))
	h.look(d.Name, h.callWith(ctx, d.Name, json.RawMessage(`{"a":1,"a":2}`)))
}

// The members whose text must be quoted are members of results.
func TestSentencesAreMembersOfResults(t *testing.T) {
	t.Parallel()
	known := map[string]bool{}
	var note func(reflect.Type)
	note = func(r reflect.Type) {
		switch r.Kind() {
		case reflect.Pointer, reflect.Slice, reflect.Map:
			note(r.Elem())
		case reflect.Struct:
			for field := range r.Fields() {
				name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
				known[name] = true
				note(field.Type)
			}
		}
	}
	for _, tool := range tools.All() {
		note(tool.Out)
	}
	note(reflect.TypeFor[tools.Problem]())
	for _, name := range sentences() {
		if !known[name] {
			t.Errorf("no result has a member %s", name)
		}
	}
}

// hostileClient connects a client that calls itself so.
func hostileClient(t testing.TB, s *mcpserver.MCPServer, answer elicitation, info mcp.Implementation) *client.Client {
	t.Helper()
	c, err := client.NewInProcessClientWithOptions(s, client.WithElicitationHandler(answer))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	request := mcp.InitializeRequest{}
	request.Params.ProtocolVersion, request.Params.ClientInfo = "2025-06-18", info
	if _, err := c.Initialize(t.Context(), request); err != nil {
		t.Fatal(err)
	}
	return c
}
