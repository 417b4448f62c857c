package tools_test

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/mark3labs/mcp-go/mcp"

	"github.com/tokenreeve/tokenreeve/internal/sandbox"
	"github.com/tokenreeve/tokenreeve/internal/sink"
)

// canary has the shape of a credential: what quotes a vendor's words must mask it.
const canary = "api-5ec2e75a-ab12-4d3a-9e52-c0ffee5ec2e7"

// marks are parts of the canary that nothing else holds.
func marks() []string { return []string{"5ec2e75a", "c0ffee5ec2e7"} }

// watch looks for the canary and for every secret in texts and notifications.
func (h *harness) watch(where string, texts ...string) {
	h.t.Helper()
	for range len(h.notes.got) {
		texts = append(texts, fmt.Sprintf("%+v", <-h.notes.got))
	}
	all := strings.Join(texts, "\n")
	for _, s := range slices.Concat(marks(), h.box.Secrets()) {
		if i := strings.Index(all, s); i >= 0 {
			h.t.Errorf("%s: %s… shows in %q", where, s[:8], all[max(0, i-120):min(len(all), i+60)])
		}
	}
}

// ask calls a tool with a progress token and watches.
func (h *harness) ask(where, tool string, a args) result {
	h.t.Helper()
	request := callRequest(tool, a)
	request.Params.Meta = &mcp.Meta{ProgressToken: "p"}
	r := h.send(h.t.Context(), request)
	h.watch(where+" "+tool, r.text)
	return r
}

// watched starts a server whose log is looked through when the test is over.
func watched(t *testing.T, o sandbox.Options) *harness {
	t.Helper()
	o.Canary = canary
	h := start(t, setup{box: o})
	t.Cleanup(func() { h.watch("log", h.log.String()) })
	return h
}

// target is a token of each vendor, with secrets pasted wherever people write.
type target struct {
	connection, vendor, id string
	owner                  any
	create                 string
	creation               args
}

func (h *harness) targets() []target {
	pasted := "pasted " + canary + " and " + h.access.Mailtrap.Credential + " " + h.access.Atlassian.Credential
	ld := h.addLaunchDarkly(pasted, func(t *sandbox.LaunchDarklyToken) {
		t.Description, t.CustomRoleIDs, t.Role = pasted, []string{canary}, ""
		t.MemberID, t.MemberName, t.MemberEmail = "0123456789abcdef01234567", pasted, canary+"@acme.example"
	})
	mt := h.addMailtrap(pasted, func(t *sandbox.MailtrapToken) { t.CreatedBy = pasted })
	at := h.addAtlassian(pasted, func(t *sandbox.AtlassianToken) {
		t.OwnerName, t.OwnerEmail, t.Scopes = pasted, "pasted@acme.example", []string{canary}
	})
	return []target{
		{launchDarklyName, sandbox.LaunchDarkly, ld.ID, nil, createLD, reader()},
		{mailtrapName, sandbox.Mailtrap, number(mt.ID), nil, createMT, viewer()},
		{atlassianName, sandbox.Atlassian, at.ID, at.AccountID, "", nil},
	}
}

// reads are the calls that change nothing.
func (x target) reads() []struct {
	tool string
	args args
} {
	c := args{"connection": x.connection}
	return []struct {
		tool string
		args args
	}{
		{"list_tokens", with(c, args{"detail": "full", "query": "pasted"})},
		{"list_tokens", with(c, args{"sort": "name", "limit": 3})},
		{"count_tokens", with(c, args{"group_by": "access"})},
		{"get_token", with(c, args{"token_id": x.id, "owner": x.owner})},
		{"list_connections", args{}},
	}
}

// changes are the calls that change the token, all of which take a preview.
func (x target) changes() map[string]args {
	a := args{"connection": x.connection, "token_id": x.id}
	all := map[string]args{
		revoke: with(a, args{"owner": x.owner, "reason": "leaked " + canary}), rotate: a,
		bulkTool: {"connection": x.connection, "token_ids": []string{x.id}, "reason": "leaked " + canary},
	}
	if x.vendor == sandbox.LaunchDarkly {
		all[update] = with(a, args{"role": "writer"})
	}
	return all
}

// TestCanaryWhenAllIsWell: not even what went well shows a secret.
func TestCanaryWhenAllIsWell(t *testing.T) {
	t.Parallel()
	h := watched(t, sandbox.Options{})
	for _, x := range h.targets() {
		for _, read := range x.reads() {
			if r := h.ask("well", read.tool, read.args).ok(); read.tool == "get_token" {
				r.says("pasted [redacted] and [redacted]") // it was there to be shown
			}
		}
		if x.create != "" {
			h.ask("well", x.create, x.creation).is("created")
			h.ask("well", x.create, with(x.creation, args{"name": "my " + canary})) // made, or refused: in no case quoted
		}
		for _, tool := range []string{update, rotate, bulkTool, revoke} { // the last two end it
			a, ok := x.changes()[tool]
			if !ok {
				continue
			}
			if code := h.ask("well", tool, a).str("confirm"); code != "" && tool != bulkTool {
				h.ask("well", tool, with(a, args{"confirm": code})).ok()
				h.ask("replay", tool, with(a, args{"confirm": code})).ok()
			}
		}
	}
	h.ask("well", createMT, with(viewer(), args{"permissions": nil})).is("permissions_required")
	h.onlyInTheSink()
}

// onlyInTheSink looks for secrets in every file that the server wrote.
func (h *harness) onlyInTheSink() {
	h.t.Helper()
	delivered := h.delivered()
	if len(delivered) == 0 {
		h.t.Error("nothing was delivered: the test proves nothing")
	}
	for _, secret := range delivered {
		if !slices.Contains(h.box.Secrets(), secret) {
			h.t.Errorf("a file of %d bytes in the sink is not exactly a secret", len(secret))
		}
	}
	h.onlyEncrypted()
}

// onlyEncrypted looks for secrets in every file below the state directory: what is in
// escrow is there as well, and cannot be read.
func (h *harness) onlyEncrypted() {
	h.t.Helper()
	seen := map[string]bool{}
	err := filepath.WalkDir(h.setup.stateDir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		h.watch(path, path, string(content))
		seen[entry.Name()] = true
		return err
	})
	if err != nil {
		h.t.Fatal(err)
	}
	for _, file := range []string{"ledger.db", "ledger.db-wal", "escrow.key"} {
		if !seen[file] {
			h.t.Errorf("there is no %s: the test proves nothing of it", file)
		}
	}
}

// poisoned is an error body in every shape that a vendor knows, full of secrets.
func (h *harness) poisoned() string {
	said := "denied for " + canary + " (Authorization: Bearer " + h.access.Atlassian.Credential + "), see token=" + h.access.Mailtrap.Credential + "; " + h.access.LaunchDarkly.Credential
	body, err := json.Marshal(map[string]any{
		"code": canary, "message": said, "error": said, "key": canary, "errorMessage": said,
		"errors":  []any{map[string]any{"code": canary, "title": said, "detail": said, canary: said}, said},
		"context": map[string]any{"reason": map[string]any{"key": canary}, "fieldViolations": []any{map[string]any{"field": canary, "violations": []any{map[string]any{"key": canary}}}}},
		"items":   said, "data": said, "totalCount": said, "_id": canary, "id": canary, "token": said, canary: canary,
	})
	return string(must(h.t, body, err))
}

// TestCanaryInFaults spoils every answer of a vendor in every way while each tool
// is called, preview and confirmation included.
func TestCanaryInFaults(t *testing.T) {
	t.Parallel()
	status := func(status int) sandbox.Fault {
		return sandbox.Fault{Kind: sandbox.FaultStatus, Status: status, ContentType: "application/json"}
	}
	faults := map[string]sandbox.Fault{
		"200": status(200), "302": status(302), "400": status(400), "401": status(401), "403": status(403), "404": status(404), "409": status(409), "422": status(422),
		"429":                {Kind: sandbox.Fault429, RetryAfter: "86400"},
		"HTML":               {Kind: sandbox.FaultHTML},
		"no JSON":            {Kind: sandbox.FaultNotJSON},
		"half":               {Kind: sandbox.FaultTruncate, Method: "POST"},
		"half of a read":     {Kind: sandbox.FaultTruncate},
		"empty":              {Kind: sandbox.FaultEmpty},
		"another 418":        {Kind: sandbox.FaultStatus, Status: 418, ContentType: "text/plain"},
		"500 after a change": {Kind: sandbox.FaultWrongStatus, Method: "POST"},
		"lost":               {Kind: sandbox.FaultLostAnswer, Method: "POST"},
		"patch fails":        {Kind: sandbox.Fault503, Method: "PATCH"},
	}
	for _, vendor := range []int{0, 1, 2} {
		for how, fault := range faults {
			t.Run(fmt.Sprint([]string{"LaunchDarkly", "Mailtrap", "Atlassian"}[vendor], "/", how), func(t *testing.T) {
				t.Parallel()
				h := watched(t, sandbox.Options{Tokens: 30})
				x := h.targets()[vendor]
				if how == "half of a read" { // is asked for four times
					h.fault(fault)
					h.ask(how, x.reads()[0].tool, x.reads()[0].args)
					return
				}
				codes := map[string]string{}
				for tool, a := range x.changes() {
					codes[tool] = h.ask("preview", tool, a).str("confirm")
				}
				if slices.Contains([]int{200, 302, 400, 401, 403, 404, 409, 422, 418}, fault.Status) {
					fault.Body = h.poisoned()
				}
				fault.Header = map[string]string{"Location": "https://evil.example/?token=" + canary, "X-Request-Id": canary, "X-Ratelimit-Remaining": "100"}
				h.fault(fault)
				for _, read := range x.reads() {
					h.ask(how, read.tool, read.args)
				}
				for tool, a := range x.changes() {
					h.ask(how, tool, a)
					h.ask(how, tool, with(a, args{"confirm": codes[tool]}))
				}
				if x.create != "" {
					h.ask(how, x.create, x.creation)
					h.ask(how, createMT, with(viewer(), args{"permissions": nil}))
				}
			})
		}
	}
}

// TestCanaryInEveryAnswer spoils one kind of request after the other, so that each
// step of a change meets it.
func TestCanaryInEveryAnswer(t *testing.T) {
	t.Parallel()
	for vendor, name := range []string{"LaunchDarkly", "Mailtrap", "Atlassian"} {
		for after := range 4 {
			t.Run(fmt.Sprint(name, " after ", after), func(t *testing.T) {
				t.Parallel()
				h := watched(t, sandbox.Options{Tokens: 30})
				x := h.targets()[vendor]
				for _, tool := range slices.Sorted(maps.Keys(x.changes())) {
					a := x.changes()[tool]
					code := h.ask("preview", tool, a).str("confirm")
					h.fault(sandbox.Fault{Kind: sandbox.FaultStatus, Status: 403, ContentType: "application/json", Body: h.poisoned(), After: after})
					h.ask("fault", tool, with(a, args{"confirm": code}))
					h.box.ClearFaults()
				}
			})
		}
	}
}

// TestCanaryWithoutASink: a secret that cannot be delivered goes into escrow, or is
// lost; in no case it is shown.
func TestCanaryWithoutASink(t *testing.T) {
	t.Parallel()
	h := watched(t, sandbox.Options{})
	files := h.env.Sinks[sinkName]
	for _, x := range h.targets()[:2] {
		code := h.ask("preview", rotate, x.changes()[rotate]).str("confirm")
		h.env.Sinks[sinkName] = failing{files}
		h.ask("escrowed", rotate, with(x.changes()[rotate], args{"confirm": code})).is("escrowed")
		h.ask("escrowed", x.create, x.creation).is("escrowed")
		h.env.Sinks[sinkName] = panicking{files}
		h.ask("panic", x.create, x.creation).fails("internal_error")
		h.env.Sinks[sinkName] = files
	}
	if files := h.delivered(); len(files) > 0 {
		t.Errorf("%d files in the sink", len(files))
	}
	if waiting := h.inEscrow(); len(waiting) != 6 {
		t.Errorf("in escrow are %d secrets, want 6: %v", len(waiting), waiting)
	}
}

// TestCanaryInDeliveries: a command that prints the secret wherever it can, whether it
// fails or not, shows it to nobody; nor do the record, the escrow and the next start.
func TestCanaryInDeliveries(t *testing.T) {
	t.Parallel()
	const prints = `secret=$(cat); echo "$secret"; echo "not stored: $secret" >&2; `
	for how, hostile := range map[string]func(*harness) sink.Sink{
		"exits 1":       func(h *harness) sink.Sink { return h.command(prints + "exit 1") },
		"exits 255":     func(h *harness) sink.Sink { return h.command(prints + "exit 255") },
		"kills itself":  func(h *harness) sink.Sink { return h.command(prints + "kill -9 $$") },
		"does not read": func(h *harness) sink.Sink { return h.command("exec 0<&-; exit 1") },
		"cannot start": func(h *harness) sink.Sink {
			s, err := sink.NewExec(spare, sink.ExecOptions{Argv: []string{"/bin/sh/nothing", "{key}"}, Accept: sink.Accept{Prefixes: []string{"ci/"}}})
			return must[sink.Sink](h.t, s, err)
		},
		"disk is full":  func(h *harness) sink.Sink { return failing{h.spareFiles()} },
		"does not hold": func(h *harness) sink.Sink { return forgetful{h.spareFiles()} },
	} {
		for name, mint := range fewMintings() {
			t.Run(how+"/"+name, func(t *testing.T) {
				t.Parallel()
				h := watched(t, sandbox.Options{})
				h.env.Sinks[spare] = h.command("exit 0")
				m := mint(h, spare+"/ci/deploy")
				bad := hostile(h)
				h.env.Sinks[spare] = bad
				r := h.ask("minted", m.tool, m.args)
				if how == "cannot start" {
					r.fails("sink_unusable")
					h.env.Sinks[spare] = h.command(prints + "exit 1")
					m = mint(h, spare+"/ci/again")
					r = h.ask("minted", m.tool, m.args)
				}
				id := r.is("escrowed").str("operation_id")
				h.env.Sinks[spare] = bad
				h.ask("again", deliver, args{"operation_id": id}).fails("sink_unusable")
				h.looked(id)
				h.env.Sinks[spare] = h.command(prints + "exit 0")
				h.ask("well", deliver, args{"operation_id": id}).is("delivered")
				h.wantInEscrow(id) // the copy that stays
				h.ask("well", m.tool, with(m.args, args{"deliver_to": "files/ci/deploy"}))
				h.looked(id)
			})
		}
	}
}

// looked asks for everything that tells of operations, here and after a start, and looks
// through the files.
func (h *harness) looked(id string) {
	h.t.Helper()
	again := h.restart(setup{})
	again.env.LookBack(h.t.Context())
	for _, server := range []*harness{h, again} {
		server.ask("looked", "get_operation", args{"operation_id": id}).ok()
		server.ask("looked", "list_operations", args{}).ok()
		server.ask("looked", "list_connections", args{}).ok()
		server.watch("log", server.log.String())
	}
	h.onlyEncrypted()
}

// TestCanaryWithoutTheEscrow: where neither escrow nor sink take the secret, it is lost.
func TestCanaryWithoutTheEscrow(t *testing.T) {
	t.Parallel()
	each(t, fewMintings(), func(t *testing.T, mint func(*harness, string) minted) {
		var h *harness
		h = start(t, setup{box: sandbox.Options{Canary: canary}}).behind(setup{}, spoiling("POST", func() { h.breakEscrow() }))
		m := mint(h, "files/ci/deploy")
		h.env.Sinks[sinkName] = failing{h.env.Sinks[sinkName]}
		id := h.ask("lost", m.tool, m.args).is("undelivered").str("operation_id")
		h.looked(id)
		h.mendEscrow()
		h.ask("lost", deliver, args{"operation_id": id}).fails("nothing_in_escrow")
	})
}

// TestCanaryInArguments: what the caller sends is not echoed either.
func TestCanaryInArguments(t *testing.T) {
	t.Parallel()
	h := watched(t, sandbox.Options{Tokens: 9})
	targets := h.targets()
	for _, d := range h.definitions() {
		var schema struct {
			Properties map[string]struct{ Type string } `json:"properties"`
		}
		if err := json.Unmarshal(d.InputSchema, &schema); err != nil {
			t.Fatal(err)
		}
		for i, x := range targets {
			base := args{"connection": x.connection, "token_id": x.id, "reason": "x", "name": "x", "role": "reader", "permissions": viewer()["permissions"]}
			maps.DeleteFunc(base, func(name string, _ any) bool { _, ok := schema.Properties[name]; return !ok })
			for name := range schema.Properties {
				if name == "service_accounts" {
					continue // an id that the vendor does not know is named in the answer
				}
				value := []any{canary, []string{canary}, args{canary: canary}}[i]
				h.ask("argument "+name, d.Name, with(base, args{name: value}))
				h.ask("argument "+name, d.Name, with(base, args{name: canary}))
			}
		}
		h.ask("argument", d.Name, args{canary: canary})
	}
	if _, err := h.client.CallTool(t.Context(), callRequest(canary, nil)); err != nil {
		h.watch("unknown tool", err.Error())
	}
}
