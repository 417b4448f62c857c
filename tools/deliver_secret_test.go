package tools_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"filippo.io/age"
	gocmp "github.com/google/go-cmp/cmp"

	"github.com/tokenreeve/tokenreeve/internal/policy"
	"github.com/tokenreeve/tokenreeve/internal/sandbox"
	"github.com/tokenreeve/tokenreeve/internal/secret"
	"github.com/tokenreeve/tokenreeve/internal/sink"
)

const deliver = "deliver_secret"

// spare is the name of a second sink, in which tests let things go wrong.
const spare = "spare"

// recorded returns what get_operation tells.
func (h *harness) recorded(id string) result {
	h.t.Helper()
	return h.call("get_operation", args{"operation_id": id}).ok()
}

// newest returns what get_operation tells of the newest operation.
func (h *harness) newest() result {
	h.t.Helper()
	ids := h.operations(args{"limit": 1})
	if len(ids) == 0 {
		h.t.Fatal("nothing is on record")
	}
	return h.recorded(ids[0])
}

// operations returns the ids that list_operations tells.
func (h *harness) operations(a args) []string {
	h.t.Helper()
	listed, _ := h.call("list_operations", a).ok().get("operations").([]any)
	ids := []string{}
	for _, row := range listed {
		id, _ := row.(map[string]any)["operation_id"].(string)
		ids = append(ids, id)
	}
	return ids
}

// unsettled returns what list_connections names of a connection's operations.
func (h *harness) unsettled(connection string) (rows []string) {
	h.t.Helper()
	listed, _ := h.call("list_connections", args{}).ok().get("connections").([]any)
	for _, row := range listed {
		if row := row.(map[string]any); row["name"] == connection {
			named, _ := row["unsettled"].([]any)
			for _, text := range named {
				rows = append(rows, text.(string))
			}
		}
	}
	return rows
}

// wantEnd fails the test unless the operation ended so; code may be empty.
func (r result) wantEnd(outcome, code string) result {
	r.t.Helper()
	if r.str("outcome") != outcome || r.str("error_code") != code {
		r.t.Errorf("on record is %s, want the outcome %s and the code %q", r.text, outcome, code)
	}
	return r
}

// inEscrow returns the operations whose secrets are in escrow.
func (h *harness) inEscrow() []string {
	h.t.Helper()
	entries, err := h.env.Escrow.List(h.t.Context())
	if err != nil {
		h.t.Fatal(err)
	}
	ids := []string{}
	for _, e := range entries {
		ids = append(ids, e.OperationID)
	}
	return ids
}

// wantInEscrow fails the test unless just the secrets of these operations are there.
func (h *harness) wantInEscrow(ids ...string) {
	h.t.Helper()
	if got := h.inEscrow(); !slices.Equal(got, slices.Sorted(slices.Values(ids))) {
		h.t.Errorf("in escrow is %v, want %v", got, ids)
	}
}

func (h *harness) escrowDir() string { return filepath.Join(h.setup.stateDir, "escrow") }

// breakEscrow puts a file in the place of the escrow's directory, and mendEscrow puts
// that back.
func (h *harness) breakEscrow() {
	dir := h.escrowDir()
	if err := errors.Join(os.Rename(dir, dir+".away"), os.WriteFile(dir, nil, 0o600)); err != nil {
		h.t.Error(err)
	}
}

func (h *harness) mendEscrow() {
	h.t.Helper()
	dir := h.escrowDir()
	if _, err := os.Lstat(dir + ".away"); errors.Is(err, os.ErrNotExist) {
		return
	}
	if err := errors.Join(os.Remove(dir), os.Rename(dir+".away", dir)); err != nil {
		h.t.Fatal(err)
	}
}

// spoiling is a hook that does something before each request with the method.
func spoiling(method string, do func()) func(*http.Request) {
	return func(r *http.Request) {
		if r.Method == method {
			do()
		}
	}
}

// sendsNothing fails the test where do sends a change. Unlike untouched, it lets a
// vendor be asked with a new secret, which is a use of it.
func (h *harness) sendsNothing(do func()) {
	h.t.Helper()
	h.forget()
	do()
	if sent := h.sent(); len(sent) > 0 {
		h.t.Errorf("sent %v, want nothing", sent)
	}
}

// spareDir is where the file sink called spare keeps its files.
func (h *harness) spareDir() string { return filepath.Join(filepath.Dir(h.sinkDir), spare) }

// spareFiles is a file sink that works, under the spare name.
func (h *harness) spareFiles() sink.Sink {
	h.t.Helper()
	files, err := sink.NewFile(spare, h.spareDir(), sink.Accept{})
	return must(h.t, files, err)
}

// command is an exec sink, under the spare name, that runs a shell script with the
// secret on its standard input.
func (h *harness) command(script string) sink.Sink {
	h.t.Helper()
	command, err := sink.NewExec(spare, sink.ExecOptions{
		Argv: []string{"/bin/sh", "-c", script, "sh", "{key}"}, Env: []string{"PATH"}, Accept: sink.Accept{Prefixes: []string{"ci/"}},
	})
	return must(h.t, command, err)
}

// keeping is a script that keeps the secret in a file of the directory.
func (h *harness) keeping() sink.Sink {
	h.t.Helper()
	if err := os.MkdirAll(h.spareDir(), 0o700); err != nil {
		h.t.Fatal(err)
	}
	return h.command(`umask 077; cat > '` + h.spareDir() + `/kept'`)
}

// forgetful is a sink that takes a secret and does not hold it afterwards.
type forgetful struct{ sink.Sink }

// Deliver keeps nothing.
func (forgetful) Deliver(_ context.Context, key sink.Key, _ secret.Secret, _ sink.Options) (sink.Delivery, error) {
	return sink.Delivery{Sink: spare, Key: key.String(), Version: 1, Path: "/nowhere"}, nil
}

// Holds reports that nothing is there.
func (forgetful) Holds(context.Context, sink.Delivery, [sha256.Size]byte) (bool, error) {
	return false, nil
}

// opaque is a sink that takes a secret and fails to be read back.
type opaque struct{ sink.Sink }

// Holds fails.
func (opaque) Holds(context.Context, sink.Delivery, [sha256.Size]byte) (bool, error) {
	return false, errors.New("permission denied")
}

// waiting is a sink whose first delivery says that it began and waits.
type waiting struct {
	sink.Sink
	once           *sync.Once
	began, release chan struct{}
}

func newWaiting(s sink.Sink) waiting {
	return waiting{s, &sync.Once{}, make(chan struct{}), make(chan struct{})}
}

// Deliver waits for release.
func (w waiting) Deliver(ctx context.Context, key sink.Key, s secret.Secret, o sink.Options) (sink.Delivery, error) {
	w.once.Do(func() {
		close(w.began)
		<-w.release
	})
	return w.Sink.Deliver(ctx, key, s, o)
}

// Holds asks the sink itself.
func (w waiting) Holds(ctx context.Context, d sink.Delivery, digest [sha256.Size]byte) (bool, error) {
	return w.Sink.(sink.Holder).Holds(ctx, d, digest)
}

// hesitant is a sink whose first check says that it began and waits.
type hesitant struct{ waiting }

// Check waits for release.
func (w hesitant) Check(ctx context.Context, key sink.Key, o sink.Options) error {
	w.once.Do(func() {
		close(w.began)
		<-w.release
	})
	return w.Sink.Check(ctx, key, o)
}

// minted is one call that mints, with its confirm code where it needs one.
type minted struct {
	tool       string
	args       args
	connection string
	old        string // id of the token whose secret is replaced, empty where none is
	oldSecret  string
	status     string // where all goes well
	ends       bool   // the old token is deleted then
}

// mintings are all ways to a new secret, to be delivered to where the caller says.
func mintings() map[string]func(h *harness, to string) minted {
	ld := func(over args) func(*harness, string) minted {
		return func(h *harness, to string) minted {
			token := h.addLaunchDarkly("old")
			a := with(args{"connection": launchDarklyName, "token_id": token.ID, "deliver_to": to}, over)
			return minted{rotate, with(a, args{"confirm": h.preview(rotate, a)}), launchDarklyName, token.ID, token.Secret, "rotated", false}
		}
	}
	mt := func(over args, change ...func(*sandbox.MailtrapToken)) func(*harness, string) minted {
		return func(h *harness, to string) minted {
			token := h.addMailtrap("old", change...)
			a := with(args{"connection": mailtrapName, "token_id": number(token.ID), "deliver_to": to}, over)
			return minted{rotate, with(a, args{"confirm": h.preview(rotate, a)}), mailtrapName, number(token.ID), token.Secret, "rotated", over != nil}
		}
	}
	ending := func(t *sandbox.MailtrapToken) { t.ExpiresAt = time.Now().AddDate(1, 0, 0).UTC().Truncate(time.Second) }
	return map[string]func(h *harness, to string) minted{
		"create at LaunchDarkly": func(_ *harness, to string) minted {
			return minted{tool: createLD, args: with(reader(), args{"deliver_to": to}), connection: launchDarklyName, status: "created"}
		},
		"create at Mailtrap": func(_ *harness, to string) minted {
			return minted{tool: createMT, args: with(viewer(), args{"deliver_to": to}), connection: mailtrapName, status: "created"}
		},
		"reset at LaunchDarkly": ld(nil),
		"leaked, LaunchDarkly":  ld(args{"compromised": true}),
		"reset at Mailtrap":     mt(nil),
		"twin":                  mt(nil, ending),
		"leaked, Mailtrap":      mt(args{"compromised": true}),
	}
}

// fewMintings are one of each kind, for what is the same in all.
func fewMintings() map[string]func(h *harness, to string) minted {
	few := mintings()
	maps.DeleteFunc(few, func(name string, _ func(*harness, string) minted) bool {
		return !slices.Contains([]string{"create at Mailtrap", "reset at LaunchDarkly", "leaked, Mailtrap"}, name)
	})
	return few
}

// secretOf returns the secret of a LaunchDarkly or Mailtrap token as the vendor has it.
func (h *harness) secretOf(id string) string {
	h.t.Helper()
	if t, ok := h.launchDarkly(id); ok {
		return t.Secret
	}
	t, ok := h.mailtrap(id)
	if !ok {
		h.t.Fatalf("no vendor has token %s", id)
	}
	return t.Secret
}

// wantFile fails the test unless the file holds the secret.
func (h *harness) wantFile(path, secret string) {
	h.t.Helper()
	content, err := os.ReadFile(path)
	if err != nil || string(content) != secret {
		h.t.Errorf("%s holds %d bytes that are not the secret, %v", path, len(content), err)
	}
}

// TestDeliveredWhenAllIsWell: what the result and the record say of it.
func TestDeliveredWhenAllIsWell(t *testing.T) {
	t.Parallel()
	each(t, mintings(), func(t *testing.T, mint func(*harness, string) minted) {
		h := start(t, setup{})
		m := mint(h, "files/ci/deploy")
		r := h.call(m.tool, m.args).is(m.status)
		if r.str("secret", "verified") != "true" || r.get("warnings") != nil {
			t.Errorf("the result is %s", r.text)
		}
		id := r.str("token", "id")
		h.wantFile(filepath.Join(h.sinkDir, "ci/deploy"), h.secretOf(id))
		h.wantInEscrow()
		op := h.recorded(r.str("operation_id")).wantEnd("done", "")
		want := map[string]string{
			"new_token_id": id, "deliver_to": "files/ci/deploy", "verified": "true", "step": "verified",
			"fingerprint": r.str("secret", "fingerprint"), "tool": m.tool, "connection": m.connection,
		}
		if m.old != id {
			want["old_token_id"] = m.old
		}
		for member, text := range want {
			if op.str(member) != text {
				t.Errorf("%s is %q on record, want %q", member, op.str(member), text)
			}
		}
		if m.old != "" && !m.ends && h.works(m.oldSecret) != (m.args["compromised"] == nil) {
			t.Errorf("the old secret works: %v", h.works(m.oldSecret))
		}
		if m.ends && h.lives(m.old) {
			t.Error("the leaked token lives")
		}
		if r.str("old_secret_ends") != "" && m.status == "rotated" && m.old != id && !strings.HasPrefix(r.str("old_secret_ends"), "when") && op.str("old_secret_ends") != r.str("old_secret_ends") {
			t.Errorf("the old secret ends %s on record, and %s in the result", op.str("old_secret_ends"), r.str("old_secret_ends"))
		}
		h.call(deliver, args{"operation_id": r.str("operation_id")}).fails("already_delivered")
		if rows := h.unsettled(m.connection); len(rows) > 0 {
			t.Errorf("unsettled are %v", rows)
		}
	})
}

// TestSinkRefusesBeforeTheMint: nothing is minted, and the refusal is on record.
func TestSinkRefusesBeforeTheMint(t *testing.T) {
	t.Parallel()
	for how, c := range map[string]struct {
		spoil func(*harness) sink.Sink
		code  string
	}{
		"unusable": {func(h *harness) sink.Sink {
			if err := os.WriteFile(h.spareDir(), nil, 0o600); err != nil {
				h.t.Fatal(err)
			}
			return h.spareFiles()
		}, "sink_unusable"},
		"another prefix": {func(h *harness) sink.Sink {
			s, err := sink.NewFile(spare, h.spareDir(), sink.Accept{Prefixes: []string{"prod/"}})
			return must[sink.Sink](h.t, s, err)
		}, "sink_not_accepted"},
		"another caller": {func(h *harness) sink.Sink {
			s, err := sink.NewFile(spare, h.spareDir(), sink.Accept{Principals: []string{"ops"}})
			return must[sink.Sink](h.t, s, err)
		}, "sink_not_accepted"},
		"another connection": {func(h *harness) sink.Sink {
			s, err := sink.NewFile(spare, h.spareDir(), sink.Accept{Connections: []string{atlassianName}})
			return must[sink.Sink](h.t, s, err)
		}, "sink_not_accepted"},
		"no command": {func(h *harness) sink.Sink {
			s, err := sink.NewExec(spare, sink.ExecOptions{Argv: []string{"/nonexistent/op", "{key}"}, Accept: sink.Accept{Prefixes: []string{"ci/"}}})
			return must[sink.Sink](h.t, s, err)
		}, "sink_unusable"},
		"gone from the configuration": {nil, "unknown_sink"},
	} {
		for name, mint := range fewMintings() {
			t.Run(how+"/"+name, func(t *testing.T) {
				t.Parallel()
				h := start(t, setup{})
				h.env.Sinks[spare] = h.command("exit 0")
				m := mint(h, spare+"/ci/deploy")
				if delete(h.env.Sinks, spare); c.spoil != nil {
					h.env.Sinks[spare] = c.spoil(h)
				}
				h.untouched(func() { h.call(m.tool, m.args).fails(c.code) })
				op := h.newest().wantEnd("refused", c.code)
				h.wantInEscrow()
				h.untouched(func() { h.call(deliver, args{"operation_id": op.str("operation_id")}).fails("nothing_in_escrow") })
			})
		}
	}
}

// TestEscrowedThenDelivered: whatever the sink does, the secret is not lost, and
// deliver_secret brings it to the same or to another sink, once.
func TestEscrowedThenDelivered(t *testing.T) {
	t.Parallel()
	for how, c := range map[string]struct {
		sink func(*harness) sink.Sink
		code string
		says string
	}{
		"command fails": {func(h *harness) sink.Sink { return h.command("cat; cat >&2; exit 3") }, "sink_failed", "exit code 3"},
		"disk is full":  {func(h *harness) sink.Sink { return failing{h.spareFiles()} }, "sink_failed", "no space left"},
		"does not hold": {func(h *harness) sink.Sink { return forgetful{h.spareFiles()} }, "sink_does_not_hold", "does not hold what was delivered"},
	} {
		for name, mint := range mintings() {
			for _, to := range []string{"", "files/elsewhere"} {
				t.Run(strings.Join([]string{how, name, to}, "/"), func(t *testing.T) {
					t.Parallel()
					h := start(t, setup{})
					h.env.Sinks[spare] = c.sink(h)
					m := mint(h, spare+"/ci/deploy")
					r := h.isEscrowed(m, c.code, c.says)
					h.env.Sinks[spare] = h.spareFiles()
					h.isDelivered(m, r, to)
				})
			}
		}
	}
}

// isEscrowed makes the call, whose secret must end in escrow, and judges everything
// that can be seen of it.
func (h *harness) isEscrowed(m minted, code, says string) result {
	h.t.Helper()
	h.forget()
	r := h.call(m.tool, m.args).is("escrowed").says("call deliver_secret with operation_id", says)
	id, token := r.str("operation_id"), r.str("token", "id")
	if sent := h.sent(); len(sent) != 1 || !strings.HasPrefix(sent[0], "POST ") {
		h.t.Errorf("sent %v, want one POST and no DELETE", sent)
	}
	if r.str("secret", "delivered_to") != "" || r.str("secret", "file") != "" || r.get("secret", "version") != nil || r.str("secret", "fingerprint") == "" {
		h.t.Errorf("the result tells a delivery, or no fingerprint: %s", r.text)
	}
	if m.ends {
		r.says("once it is delivered, end the old token with revoke_token, token_id " + m.old)
		h.wantAlive(m.old)
	}
	h.wantInEscrow(id)
	op := h.recorded(id).wantEnd("escrowed", code).says("call deliver_secret")
	if op.str("new_token_id") != token || op.str("deliver_to") != spare+"/ci/deploy" || op.str("fingerprint") != r.str("secret", "fingerprint") {
		h.t.Errorf("on record is %s, after %s", op.text, r.text)
	}
	if ids := h.operations(args{"outcome": "escrowed"}); !slices.Equal(ids, []string{id}) {
		h.t.Errorf("list_operations shows %v in escrow, want %s", ids, id)
	}
	if rows := h.unsettled(m.connection); len(rows) != 1 || !strings.HasPrefix(rows[0], id+" escrowed") {
		h.t.Errorf("list_connections names %v, want %s", rows, id)
	}
	if m.old != "" {
		h.untouched(func() {
			if again := h.call(m.tool, m.args).is("escrowed"); again.get("replayed") != true || again.str("operation_id") != id {
				h.t.Errorf("the repetition answers %s", again.text)
			}
		})
	}
	return r
}

// isDelivered delivers what isEscrowed left, and judges everything that can be seen of it.
func (h *harness) isDelivered(m minted, escrowed result, to string) {
	h.t.Helper()
	id, token := escrowed.str("operation_id"), escrowed.str("token", "id")
	a := args{"operation_id": id}
	where, path := spare+"/ci/deploy", filepath.Join(h.spareDir(), "ci/deploy")
	if to != "" {
		a["deliver_to"], where, path = to, to, filepath.Join(h.sinkDir, strings.TrimPrefix(to, "files/"))
	}
	h.sendsNothing(func() {
		r := h.call(deliver, a).is("delivered")
		if r.str("token_id") != token || r.str("secret", "delivered_to") != where || r.str("secret", "verified") != "true" || r.str("secret", "fingerprint") != escrowed.str("secret", "fingerprint") {
			h.t.Errorf("the result is %s, after %s", r.text, escrowed.text)
		}
		h.wantFile(path, h.secretOf(token))
		h.wantInEscrow()
		code := ""
		if m.ends {
			code = "old_token_not_ended"
			r.says("the compromised token still works", "revoke_token, token_id "+m.old)
		} else if r.get("next") != nil {
			h.t.Errorf("the result asks for more: %s", r.text)
		}
		by := h.recorded(r.str("operation_id")).wantEnd("done", "")
		of := h.recorded(id).wantEnd("done", code)
		if by.str("tool") != deliver || by.str("deliver_to") != where || by.str("verified") != "true" || by.str("new_token_id") != token {
			h.t.Errorf("on record of the delivery is %s", by.text)
		}
		if of.str("resolved_by") != by.str("operation_id") || of.str("deliver_to") != where || of.str("verified") != "true" {
			h.t.Errorf("on record of the minting is %s", of.text)
		}
		if rows := h.unsettled(m.connection); m.ends != slices.Equal(rows, []string{id + " done: " + rotate}) || !m.ends && len(rows) > 0 {
			h.t.Errorf("list_connections names %v", rows)
		}
		for _, again := range []any{nil, spare + "/ci/again", "files/again"} {
			h.call(deliver, with(a, args{"deliver_to": again})).fails("already_delivered")
		}
		h.wantFile(path, h.secretOf(token))
	})
	if _, err := os.Stat(filepath.Join(h.spareDir(), "ci/again")); err == nil || h.delivered()["again"] != "" {
		h.t.Error("the secret was delivered twice")
	}
	if m.ends {
		h.wantAlive(m.old)
		h.confirm(revoke, args{"connection": m.connection, "token_id": m.old}).is("revoked")
		if rows := h.unsettled(m.connection); len(rows) > 0 {
			h.t.Errorf("list_connections names %v after the end of the compromised token", rows)
		}
	}
	if rows := h.unsettled(m.connection); len(rows) > 0 {
		h.t.Errorf("list_connections names %v", rows)
	}
}

// verifying tells a request that asks the vendor with a new secret.
func (h *harness) verifying(r *http.Request) bool {
	isQuestion := strings.HasSuffix(r.URL.Path, "/caller-identity") || strings.HasSuffix(r.URL.Path, "/api/accounts")
	said := r.Header.Get("Authorization")
	return isQuestion && !strings.HasSuffix(said, h.access.LaunchDarkly.Credential) && !strings.HasSuffix(said, h.access.Mailtrap.Credential)
}

// The ways in which a vendor answers a question with a new secret.
const (
	accepts = "accepts"
	rejects = "rejects"
	silent  = "cannot be asked"
)

// asked starts a server whose vendors answer so.
func asked(t *testing.T, how string) *harness {
	t.Helper()
	var h *harness
	h = start(t, setup{}).behind(setup{}, func(r *http.Request) {
		status := map[string]int{rejects: http.StatusUnauthorized, silent: http.StatusForbidden}[how]
		if status == 0 || !h.verifying(r) {
			return
		}
		vendor := sandbox.Mailtrap
		if strings.HasSuffix(r.URL.Path, "/caller-identity") {
			vendor = sandbox.LaunchDarkly
		}
		if _, err := h.box.AddFault(sandbox.Fault{Vendor: vendor, Method: "GET", Kind: sandbox.FaultStatus, Status: status, Times: 1}); err != nil {
			h.t.Error(err)
		}
	})
	return h
}

// TestVerified: what vendor and sink say of a new secret, at once and from escrow, and
// whether a copy stays in escrow.
func TestVerified(t *testing.T) {
	t.Parallel()
	const stays = "an encrypted copy of the secret stays in escrow for 24h0m0s"
	sinks := map[string]func(*harness) sink.Sink{
		"file":    (*harness).spareFiles,
		"command": (*harness).keeping,
		"opaque":  func(h *harness) sink.Sink { return opaque{h.spareFiles()} },
	}
	for _, c := range []struct {
		vendor, sink, verified string
		warns                  []string
	}{
		{accepts, "file", "true", nil},
		{rejects, "file", "false", []string{"the vendor does not accept the new secret"}},
		{silent, "file", "skipped", []string{"whether the vendor accepts the new secret could not be found out"}},
		{accepts, "command", "skipped", []string{"sink spare cannot be read back", stays}},
		{rejects, "command", "false", []string{"cannot be read back", "does not accept", stays}},
		{silent, "command", "skipped", []string{"cannot be read back", "could not be found out", stays}},
		{accepts, "opaque", "skipped", []string{"could not be read back: permission denied", stays}},
		{rejects, "opaque", "false", []string{"permission denied", "does not accept", stays}},
	} {
		for name, mint := range mintings() {
			t.Run(strings.Join([]string{c.vendor, c.sink, name}, "/"), func(t *testing.T) {
				t.Parallel()
				h := asked(t, c.vendor)
				h.env.Sinks[spare] = sinks[c.sink](h)
				m := mint(h, spare+"/ci/deploy")
				h.forget()
				r := h.call(m.tool, m.args).is(m.status).says(c.warns...)
				id := r.str("operation_id")
				if r.str("secret", "verified") != c.verified || r.str("secret", "delivered_to") != spare+"/ci/deploy" || c.warns == nil && r.get("warnings") != nil {
					t.Errorf("the result is %s, want verified %s", r.text, c.verified)
				}
				code := ""
				if m.ends && c.vendor == rejects {
					code = "old_token_not_ended"
				}
				op := h.recorded(id).wantEnd("done", code)
				if op.str("verified") != c.verified {
					t.Errorf("on record is %s, want verified %s", op.text, c.verified)
				}
				if c.sink == "file" {
					h.wantInEscrow()
				} else {
					h.wantInEscrow(id)
				}
				h.isReplaced(m, r, c.vendor != rejects)
			})
		}
	}
}

// isReplaced judges what became of a leaked token: it ends only where the vendor did
// not contradict the delivery.
func (h *harness) isReplaced(m minted, r result, ended bool) {
	h.t.Helper()
	deletes := slices.ContainsFunc(h.sent(), func(s string) bool { return strings.HasPrefix(s, "DELETE ") })
	if deletes != (m.ends && ended) {
		h.t.Errorf("sent %v, after %s", h.sent(), r.text)
	}
	switch {
	case !m.ends:
	case ended:
		h.wantGone(m.old)
	default:
		h.wantAlive(m.old)
		r.says("the compromised token still works", "once it is clear why the vendor does not accept the new secret")
	}
}

// TestVerifiedFromEscrow: the same questions are asked of a later delivery.
func TestVerifiedFromEscrow(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		vendor, verified string
		sink             func(*harness) sink.Sink
		copies           bool
	}{
		{accepts, "true", (*harness).spareFiles, false},
		{rejects, "false", (*harness).spareFiles, false},
		{silent, "skipped", (*harness).spareFiles, false},
		{accepts, "skipped", (*harness).keeping, true},
		{rejects, "false", (*harness).keeping, true},
	} {
		for name, mint := range fewMintings() {
			t.Run(strings.Join([]string{c.vendor, c.verified, name}, "/"), func(t *testing.T) {
				t.Parallel()
				h := asked(t, c.vendor)
				h.env.Sinks[spare] = h.command("exit 1")
				m := mint(h, spare+"/ci/deploy")
				minting := h.call(m.tool, m.args).is("escrowed").str("operation_id")
				h.env.Sinks[spare] = c.sink(h)
				h.sendsNothing(func() {
					r := h.call(deliver, args{"operation_id": minting}).is("delivered")
					if r.str("secret", "verified") != c.verified {
						t.Errorf("the result is %s, want verified %s", r.text, c.verified)
					}
					if m.ends {
						r.says("the compromised token still works")
					}
					for _, id := range []string{minting, r.str("operation_id")} {
						if op := h.recorded(id); op.str("verified") != c.verified || op.str("outcome") != "done" {
							t.Errorf("on record is %s, want verified %s", op.text, c.verified)
						}
					}
				})
				if c.copies {
					h.wantInEscrow(minting)
				} else {
					h.wantInEscrow()
				}
			})
		}
	}
}

// TestEscrowRetention: the copy of a secret that a sink cannot show stays for its time
// after the delivery, and what no sink has stays for ever.
func TestEscrowRetention(t *testing.T) {
	t.Parallel()
	h := start(t, setup{})
	h.env.Sinks[spare] = h.keeping()
	at := func(key string) args { return with(reader(), args{"deliver_to": spare + "/ci/" + key}) }
	first := h.call(createLD, at("first")).is("created").str("operation_id")
	h.env.Sinks[spare] = h.command("exit 1")
	late := h.call(createLD, at("late")).is("escrowed").str("operation_id")
	never := h.call(createLD, at("never")).is("escrowed").str("operation_id")
	stranger := "0196f0c0-0000-7000-8000-000000000000" // of a ledger that was lost
	if err := h.env.Escrow.Put(t.Context(), stranger, secret.New("whatever it is"), sink.Meta{}); err != nil {
		t.Fatal(err)
	}
	look := func(after time.Duration, want ...string) {
		t.Helper()
		h.clock.advance(after)
		again := h.restart(setup{})
		again.env.LookBack(t.Context())
		h.wantInEscrow(want...)
		if !strings.Contains(again.log.String(), stranger) {
			t.Error("the log does not name the secret of which nothing is on record")
		}
	}
	look(0, first, late, never, stranger)
	look(24*time.Hour-time.Second, first, late, never, stranger)
	look(time.Second, late, never, stranger)
	h.env.Sinks[spare] = h.keeping()
	h.call(deliver, args{"operation_id": late}).is("delivered")
	look(0, late, never, stranger) // its time begins with its delivery
	look(24*time.Hour-time.Second, late, never, stranger)
	look(time.Second, never, stranger)
	look(1000*time.Hour, never, stranger)
	h.call(deliver, args{"operation_id": never, "deliver_to": "files/never"}).is("delivered")
	h.wantInEscrow(stranger)
}

// TestLookBackLogs: what somebody should see to is in the log of the next start.
func TestLookBackLogs(t *testing.T) {
	t.Parallel()
	h := start(t, setup{})
	h.env.Sinks[spare] = h.command("exit 1")
	escrowed := h.call(createLD, with(reader(), args{"deliver_to": spare + "/ci/x"})).is("escrowed").str("operation_id")
	h.fault(sandbox.Fault{Method: "POST", Kind: sandbox.FaultLostAnswer, Times: 1})
	unknown := h.call(createLD, reader()).is("unknown").str("operation_id")
	done := h.call(createLD, reader()).is("created").str("operation_id")
	again := h.restart(setup{})
	again.env.LookBack(t.Context())
	log := again.log.String()
	for id, want := range map[string]bool{escrowed: true, unknown: true, done: false} {
		if strings.Contains(log, id) != want {
			t.Errorf("the log names %s: %v, want %v\n%s", id, !want, want, log)
		}
	}
}

// TestEscrowUnusable: without a safe place for the secret nothing is minted.
func TestEscrowUnusable(t *testing.T) {
	t.Parallel()
	for how, spoil := range map[string]func(h *harness) error{
		"a file in the directory's place": func(h *harness) error {
			return errors.Join(os.RemoveAll(h.escrowDir()), os.WriteFile(h.escrowDir(), nil, 0o600))
		},
		"others can open the directory": func(h *harness) error {
			return errors.Join(os.RemoveAll(h.escrowDir()), os.Mkdir(h.escrowDir(), 0o755))
		},
		"the directory is a link": func(h *harness) error {
			return errors.Join(os.RemoveAll(h.escrowDir()), os.Symlink(t.TempDir(), h.escrowDir()))
		},
		"the key is garbage": func(h *harness) error {
			return os.WriteFile(filepath.Join(h.setup.stateDir, "escrow.key"), []byte("AGE-SECRET-KEY-1GARBAGE\n"), 0o600)
		},
		"others can read the key": func(h *harness) error {
			path := filepath.Join(h.setup.stateDir, "escrow.key")
			return errors.Join(os.WriteFile(path, nil, 0o600), os.Chmod(path, 0o644))
		},
	} {
		for name, mint := range fewMintings() {
			t.Run(how+"/"+name, func(t *testing.T) {
				t.Parallel()
				h := start(t, setup{})
				m := mint(h, "files/ci/deploy")
				h.call("list_operations", args{}).ok() // nothing of it makes the escrow
				if err := errors.Join(os.MkdirAll(h.setup.stateDir, 0o700), spoil(h)); err != nil {
					t.Fatal(err)
				}
				h.untouched(func() {
					r := h.call(m.tool, m.args).fails("escrow_unusable").says("nothing was minted")
					if strings.Contains(r.text, "GARBAGE") {
						t.Errorf("the key is quoted: %s", r.text)
					}
				})
				h.newest().wantEnd("refused", "escrow_unusable")
				if files := h.delivered(); len(files) > 0 {
					t.Errorf("%d files in the sink", len(files))
				}
			})
		}
	}
}

// TestLedgerUnusable: what cannot be put on record is not sent; reading goes on.
func TestLedgerUnusable(t *testing.T) {
	t.Parallel()
	t.Run("from the start", func(t *testing.T) {
		t.Parallel()
		h := start(t, setup{})
		err := errors.Join(os.MkdirAll(h.setup.stateDir, 0o700), os.WriteFile(filepath.Join(h.setup.stateDir, "ledger.db"), bytes.Repeat([]byte("no database "), 1000), 0o600))
		if err != nil {
			t.Fatal(err)
		}
		token := h.addLaunchDarkly("old")
		h.untouched(func() {
			h.call(createLD, reader()).fails("ledger_unavailable").says("could not be put on record")
			h.call(createMT, viewer()).fails("ledger_unavailable")
			h.call(rotate, args{"connection": launchDarklyName, "token_id": token.ID}).fails("ledger_unavailable")
			h.call(deliver, args{"operation_id": "0196f0c0-0000-7000-8000-000000000000"}).fails("ledger_unavailable")
			h.call("get_operation", args{"operation_id": "0196f0c0-0000-7000-8000-000000000000"}).fails("ledger_unavailable")
			h.call("get_token", args{"connection": launchDarklyName, "token_id": token.ID}).ok()
			h.call("list_connections", args{}).ok()
			h.env.LookBack(t.Context())
		})
	})
	for name, mint := range fewMintings() {
		t.Run("before the mint/"+name, func(t *testing.T) {
			t.Parallel()
			h := start(t, setup{})
			m := mint(h, "files/ci/deploy")
			if err := h.env.Ledger.Close(); err != nil {
				t.Fatal(err)
			}
			h.untouched(func() { h.call(m.tool, m.args).fails("ledger_unavailable") })
			if files := h.delivered(); len(files) > 0 {
				t.Errorf("%d files in the sink", len(files))
			}
		})
	}
}

// TestStepThatCannotBeRecorded: what was sent is delivered all the same, the caller is
// warned, and the next server finds the secret.
func TestStepThatCannotBeRecorded(t *testing.T) {
	t.Parallel()
	each(t, mintings(), func(t *testing.T, mint func(*harness, string) minted) {
		var h *harness
		h = start(t, setup{}).behind(setup{}, spoiling(http.MethodPost, func() { _ = h.env.Ledger.Close() }))
		m := mint(h, "files/ci/deploy")
		r := h.call(m.tool, m.args).is(m.status).says("not every step of operation", "the outcome (done) could not be put on record")
		id, token := r.str("operation_id"), r.str("token", "id")
		h.wantFile(filepath.Join(h.sinkDir, "ci/deploy"), h.secretOf(token))
		h.wantInEscrow(id) // since nothing on record says that it may go
		again := h.restart(setup{})
		if op := again.recorded(id); op.str("outcome") != "open" {
			t.Errorf("on record is %s, while its lease lasts", op.text)
		}
		h.clock.advance(time.Minute)
		again.recorded(id).wantEnd("escrowed", "interrupted").says(token)
		again.sendsNothing(func() { again.call(deliver, args{"operation_id": id}).is("delivered") })
		again.recorded(id).wantEnd("done", "") // the compromised token has ended
		if files := h.delivered(); len(files) != 1 {
			t.Errorf("%d files in the sink, want the one that was there", len(files))
		}
		h.wantInEscrow()
	})
}

// TestCancelledAfterTheMint lets the client hang up, and the server stop, while the
// sink works: the change runs to its end, and the record tells how.
func TestCancelledAfterTheMint(t *testing.T) {
	t.Parallel()
	each(t, fewMintings(), func(t *testing.T, mint func(*harness, string) minted) {
		h := start(t, setup{})
		slow := newWaiting(h.spareFiles())
		h.env.Sinks[spare] = slow
		m := mint(h, spare+"/ci/deploy")
		h.endsWhile(m, slow.began, func() { close(slow.release) })
		again := h.restart(setup{})
		op := again.newest().wantEnd("done", "")
		if op.str("verified") != "true" || op.str("deliver_to") != spare+"/ci/deploy" {
			t.Errorf("on record is %s", op.text)
		}
		h.wantFile(filepath.Join(h.spareDir(), "ci/deploy"), h.secretOf(op.str("new_token_id")))
		h.wantInEscrow()
		if m.ends {
			h.wantGone(m.old)
		}
		if m.old != "" {
			if r := again.call(m.tool, m.args).is(m.status); r.get("replayed") != true || r.str("operation_id") != op.str("operation_id") {
				t.Errorf("the repetition answers %s", r.text)
			}
		}
	})
}

// endsWhile makes the call. Once it has begun what the test waits for, its client hangs
// up and the server is told to stop; then the call goes on.
func (h *harness) endsWhile(m minted, began chan struct{}, goOn func()) {
	h.t.Helper()
	ctx, cancel := context.WithCancel(h.t.Context())
	defer cancel()
	var wg sync.WaitGroup
	wg.Go(func() { _, _ = h.client.CallTool(ctx, callRequest(m.tool, m.args)) })
	<-began
	cancel()
	h.env.Work.Stop()
	h.env.Work.Abort()
	goOn()
	if err := h.env.Work.Wait(h.t.Context()); err != nil {
		h.t.Fatal(err)
	}
	wg.Wait()
}

// stuck is a sink whose delivery says that it began and lasts as long as it may.
type stuck struct{ waiting }

// Deliver waits for the end of its time.
func (w stuck) Deliver(ctx context.Context, _ sink.Key, _ secret.Secret, _ sink.Options) (sink.Delivery, error) {
	w.once.Do(func() { close(w.began) })
	<-ctx.Done()
	return sink.Delivery{}, ctx.Err()
}

// TestServerStopsWhileTheSinkIsStuck: the wait is bounded, since the secret is in escrow.
func TestServerStopsWhileTheSinkIsStuck(t *testing.T) {
	t.Parallel()
	each(t, fewMintings(), func(t *testing.T, mint func(*harness, string) minted) {
		h := start(t, setup{})
		h.env.VendorTime = time.Nanosecond
		slow := stuck{newWaiting(h.spareFiles())}
		h.env.Sinks[spare] = slow
		m := mint(h, spare+"/ci/deploy")
		h.endsWhile(m, slow.began, func() {})
		again := h.restart(setup{})
		op := again.newest().wantEnd("escrowed", "sink_failed")
		if m.ends {
			h.wantAlive(m.old)
		}
		again.env.Sinks[spare] = again.spareFiles()
		again.call(deliver, args{"operation_id": op.str("operation_id")}).is("delivered")
	})
}

// TestServerStopsWithoutTheEscrow: where the sink is the only place for the secret, it
// is waited for.
func TestServerStopsWithoutTheEscrow(t *testing.T) {
	t.Parallel()
	each(t, fewMintings(), func(t *testing.T, mint func(*harness, string) minted) {
		var h *harness
		h = start(t, setup{}).behind(setup{}, spoiling(http.MethodPost, func() { h.breakEscrow() }))
		h.env.VendorTime = time.Nanosecond
		slow := newWaiting(h.spareFiles())
		h.env.Sinks[spare] = slow
		m := mint(h, spare+"/ci/deploy")
		h.endsWhile(m, slow.began, func() {
			late := make(chan struct{})
			h.env.Work.AfterStop(20*time.Millisecond, func() { close(late) })
			<-late
			close(slow.release)
		})
		h.mendEscrow()
		op := h.restart(setup{}).newest().wantEnd("done", "")
		h.wantFile(filepath.Join(h.spareDir(), "ci/deploy"), h.secretOf(op.str("new_token_id")))
	})
}

// TestPanicAfterTheMint: not even a fault in the program loses the secret.
func TestPanicAfterTheMint(t *testing.T) {
	t.Parallel()
	each(t, fewMintings(), func(t *testing.T, mint func(*harness, string) minted) {
		h := start(t, setup{})
		m := mint(h, "files/ci/deploy")
		files := h.env.Sinks[sinkName]
		h.env.Sinks[sinkName] = panicking{files}
		h.call(m.tool, m.args).fails("internal_error")
		h.env.Sinks[sinkName] = files
		op := h.newest().wantEnd("escrowed", "interrupted")
		h.wantInEscrow(op.str("operation_id"))
		h.call(deliver, args{"operation_id": op.str("operation_id")}).is("delivered")
		h.wantFile(filepath.Join(h.sinkDir, "ci/deploy"), h.secretOf(op.str("new_token_id")))
		if m.ends {
			h.wantAlive(m.old)
		}
	})
}

// TestDeliverAsAnother: a secret in escrow is for who asked for it, and for an admin.
func TestDeliverAsAnother(t *testing.T) {
	t.Parallel()
	h := start(t, setup{})
	h.env.Sinks[spare] = h.command("exit 1")
	escrowed := h.callAs("alice", createLD, with(reader(), args{"deliver_to": spare + "/ci/x"})).is("escrowed")
	a := args{"operation_id": escrowed.str("operation_id")}
	h.env.Sinks[spare] = h.spareFiles()
	h.sendsNothing(func() {
		for _, tool := range []string{deliver, "get_operation"} {
			strange := h.callAs("eve", tool, a).fails("unknown_operation")
			none := h.callAs("eve", tool, args{"operation_id": "0196f0c0-0000-7000-8000-000000000000"}).fails("unknown_operation")
			if strings.ReplaceAll(strange.text, a["operation_id"].(string), "X") != strings.ReplaceAll(none.text, "0196f0c0-0000-7000-8000-000000000000", "X") {
				t.Errorf("another's operation can be told from none: %s, %s", strange.text, none.text)
			}
		}
		if rows, _ := h.callAs("eve", "list_operations", args{}).ok().get("operations").([]any); len(rows) > 0 {
			t.Errorf("eve sees %v", rows)
		}
		if strings.Contains(h.callAs("eve", "list_connections", args{}).ok().text, a["operation_id"].(string)) {
			t.Error("list_connections tells eve of another's operation")
		}
	})
	h.wantInEscrow(a["operation_id"].(string))
	if r := h.callAs("alice", deliver, with(a, args{"deliver_to": "files/../x"})).fails("invalid_argument"); strings.Contains(r.text, h.sinkDir) {
		t.Errorf("the path shows: %s", r.text)
	}
	// The local user is an admin.
	r := h.call(deliver, a).is("delivered")
	if r.str("secret", "file") != filepath.Join(h.spareDir(), "ci/x") {
		t.Errorf("the local user is not told where the file is: %s", r.text)
	}
	h.recorded(r.str("operation_id")).wantEnd("done", "")
	seen := h.callAs("alice", "get_operation", a).ok().wantEnd("done", "")
	if seen.str("resolved_by") != r.str("operation_id") || seen.str("deliver_to") != spare+"/ci/x" {
		t.Errorf("alice sees %s", seen.text)
	}
	h.callAs("alice", deliver, a).fails("already_delivered")
	if h.recorded(a["operation_id"].(string)).str("principal") != "alice" {
		t.Error("the admin is not told whose operation it is")
	}
}

// TestDeliverWrongOperations: only a minting whose secret waits can be delivered.
func TestDeliverWrongOperations(t *testing.T) {
	t.Parallel()
	h := start(t, setup{})
	h.env.Sinks[spare] = h.command("exit 1")
	fail := func(id any, code string, says ...string) {
		t.Helper()
		h.sendsNothing(func() {
			h.call(deliver, args{"operation_id": id, "deliver_to": "files/wrong"}).fails(code).says(says...)
		})
	}
	fail(nil, "missing_argument", "operation_id")
	fail("", "invalid_argument", "operation_id")
	for _, id := range []string{"x", "../escrow.key", "0196f0c0-0000-7000-8000-000000000000", strings.Repeat("0", 5000)} {
		fail(id, "unknown_operation", "list_operations")
	}
	escrowed := h.call(createLD, with(reader(), args{"deliver_to": spare + "/ci/x"})).is("escrowed").str("operation_id")
	h.call(deliver, args{"operation_id": escrowed}).fails("sink_unusable").says("still in escrow", "exit code 1")
	failed := h.newest().wantEnd("failed", "sink_unusable").str("operation_id")
	fail(failed, "nothing_in_escrow", "is itself a delivery", "give operation_id "+escrowed)
	delivery := h.call(deliver, args{"operation_id": escrowed, "deliver_to": "files/right"}).is("delivered").str("operation_id")
	fail(delivery, "nothing_in_escrow", "is itself a delivery")
	fail(escrowed, "already_delivered", "get_operation")
	revoked := h.confirm(revoke, args{"connection": launchDarklyName, "token_id": h.addLaunchDarkly("gone").ID}).is("revoked")
	fail(revoked.str("operation_id"), "nothing_in_escrow", "ended as done")
	h.fault(sandbox.Fault{Method: "POST", Kind: sandbox.FaultStatus, Status: 403, Times: 1})
	h.call(createLD, reader()).fails("forbidden")
	fail(h.newest().str("operation_id"), "nothing_in_escrow", "ended as failed")
	h.fault(sandbox.Fault{Method: "POST", Kind: sandbox.FaultLostAnswer, Times: 1})
	fail(h.call(createLD, reader()).is("unknown").str("operation_id"), "nothing_in_escrow", "ended as unknown")
	h.call(createLD, with(reader(), args{"deliver_to": "files/right"})).fails("sink_key_exists")
	fail(h.newest().str("operation_id"), "nothing_in_escrow", "ended as refused")
	if files := slices.Collect(maps.Keys(h.delivered())); !slices.Equal(files, []string{"right"}) {
		t.Errorf("in the sink are %v", files)
	}
}

// TestDeliverToWrongPlaces: where the secret cannot go, it stays.
func TestDeliverToWrongPlaces(t *testing.T) {
	t.Parallel()
	h := start(t, setup{})
	h.env.Sinks[spare] = h.command("exit 1")
	narrow, err := sink.NewFile("narrow", h.spareDir(), sink.Accept{Prefixes: []string{"prod/"}})
	h.env.Sinks["narrow"] = must(t, narrow, err)
	id := h.call(createLD, with(reader(), args{"deliver_to": spare + "/ci/x"})).is("escrowed").str("operation_id")
	other := h.call(createLD, with(reader(), args{"deliver_to": "files/taken"})).is("created")
	h.plant("mine")
	before := h.delivered()
	h.sendsNothing(func() {
		for to, code := range map[string]string{
			"files/taken": "sink_key_exists", "files/mine": "sink_key_exists", "narrow/ci/x": "sink_not_accepted", "nowhere/x": "unknown_sink",
			"files": "invalid_argument", "files/../x": "invalid_argument", "files/a.v2": "sink_unusable", spare + "/ci/x": "sink_unusable",
		} {
			h.call(deliver, args{"operation_id": id, "deliver_to": to}).fails(code)
			h.wantInEscrow(id)
			h.recorded(id).wantEnd("escrowed", "sink_failed")
		}
	})
	if diff := gocmp.Diff(before, h.delivered()); diff != "" {
		t.Errorf("the sink is not as before (-before +after):\n%s", diff)
	}
	h.wantFile(filepath.Join(h.sinkDir, "taken"), h.secretOf(other.str("token", "id")))
	h.call(deliver, args{"operation_id": id, "deliver_to": "narrow/prod/x"}).is("delivered")
}

// TestDeliverWithoutTheCopy: somebody removed what the record says is there.
func TestDeliverWithoutTheCopy(t *testing.T) {
	t.Parallel()
	h := start(t, setup{})
	h.env.Sinks[spare] = h.command("exit 1")
	r := h.call(createLD, with(reader(), args{"deliver_to": spare + "/ci/x"})).is("escrowed")
	a := args{"operation_id": r.str("operation_id"), "deliver_to": "files/x"}
	path := filepath.Join(h.escrowDir(), r.str("operation_id"))
	content, err := os.ReadFile(path)
	must(t, 0, err)
	if err := os.WriteFile(path, []byte("no age file"), 0o600); err != nil {
		t.Fatal(err)
	}
	h.call(deliver, a).fails("escrow_unusable")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	h.call(deliver, a).fails("nothing_in_escrow").says("rotate or revoke token " + r.str("token", "id"))
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	h.call(deliver, a).is("delivered")
}

// TestDeliverTwiceAtOnce: of several calls, of one server or two, one delivers.
func TestDeliverTwiceAtOnce(t *testing.T) {
	t.Parallel()
	h := start(t, setup{})
	h.env.Sinks[spare] = h.command("exit 1")
	id := h.call(createMT, with(viewer(), args{"deliver_to": spare + "/ci/x"})).is("escrowed").str("operation_id")
	slow := newWaiting(h.spareFiles())
	h.env.Sinks[spare] = slow
	other := h.restart(setup{})
	var first result
	var wg sync.WaitGroup
	wg.Go(func() { first = h.send(t.Context(), toolRequest(deliver, args{"operation_id": id})) })
	<-slow.began
	for _, server := range []*harness{h, other} {
		server.call(deliver, args{"operation_id": id, "deliver_to": "files/second"}).fails("change_in_progress")
	}
	close(slow.release)
	wg.Wait()
	first.is("delivered")
	for _, server := range []*harness{h, other} {
		server.call(deliver, args{"operation_id": id, "deliver_to": "files/second"}).fails("already_delivered")
	}
	if files := h.delivered(); len(files) > 0 {
		t.Errorf("%d files elsewhere", len(files))
	}
	h.wantInEscrow()
}

// TestDeliverWhatWasJustDelivered: between a call's look at the record and its delivery,
// another one delivers.
func TestDeliverWhatWasJustDelivered(t *testing.T) {
	t.Parallel()
	h := start(t, setup{})
	h.env.Sinks[spare] = h.command("exit 1")
	id := h.call(createMT, with(viewer(), args{"deliver_to": spare + "/ci/x"})).is("escrowed").str("operation_id")
	slow := hesitant{newWaiting(h.spareFiles())}
	h.env.Sinks[spare] = slow
	var second result
	var wg sync.WaitGroup
	wg.Go(func() { second = h.send(t.Context(), toolRequest(deliver, args{"operation_id": id})) })
	<-slow.began
	h.call(deliver, args{"operation_id": id, "deliver_to": "files/first"}).is("delivered")
	close(slow.release)
	wg.Wait()
	second.fails("already_delivered")
	if _, err := os.Stat(filepath.Join(h.spareDir(), "ci/x")); err == nil {
		t.Error("the secret was delivered twice")
	}
}

func TestDeliverManyAtOnce(t *testing.T) {
	t.Parallel()
	h := start(t, setup{})
	h.env.Sinks[spare] = h.command("exit 1")
	id := h.call(createMT, with(viewer(), args{"deliver_to": spare + "/ci/x"})).is("escrowed").str("operation_id")
	results := make([]result, 8)
	var wg sync.WaitGroup
	for i := range results {
		wg.Go(func() {
			results[i] = h.send(t.Context(), toolRequest(deliver, args{"operation_id": id, "deliver_to": "files/x" + number(int64(i))}))
		})
	}
	wg.Wait()
	delivered := 0
	for _, r := range results {
		switch {
		case !r.isError:
			delivered++
		case r.problem.Code != "change_in_progress" && r.problem.Code != "already_delivered":
			t.Errorf("one answers %s", r.text)
		}
	}
	if files := h.delivered(); delivered != 1 || len(files) != 1 {
		t.Errorf("%d calls delivered %d files, want one", delivered, len(files))
	}
	h.recorded(id).wantEnd("done", "")
}

// TestDeliverNextVersion: the key of the token's last secret takes the next one from
// escrow as well.
func TestDeliverNextVersion(t *testing.T) {
	t.Parallel()
	h := start(t, setup{})
	h.env.Sinks[spare] = h.spareFiles()
	made := h.call(createMT, with(viewer(), args{"deliver_to": spare + "/ci/x"})).is("created")
	a := args{"connection": mailtrapName, "token_id": made.str("token", "id"), "deliver_to": spare + "/ci/x"}
	code := h.preview(rotate, a)
	h.env.Sinks[spare] = failing{h.spareFiles()}
	id := h.call(rotate, with(a, args{"confirm": code})).is("escrowed").str("operation_id")
	h.env.Sinks[spare] = h.spareFiles()
	r := h.call(deliver, args{"operation_id": id}).is("delivered")
	if r.get("secret", "version") != 2.0 || r.get("warnings") != nil {
		t.Errorf("the result is %s", r.text)
	}
	h.wantFile(filepath.Join(h.spareDir(), "ci/x.v2"), h.secretOf(r.str("token_id")))
}

// TestDeliverOutdatedSecret: a secret that was replaced meanwhile takes no newer one's
// place.
func TestDeliverOutdatedSecret(t *testing.T) {
	t.Parallel()
	h := start(t, setup{})
	token := h.addLaunchDarkly("turned twice")
	turn := func(to string) result {
		h.env.Sinks[spare] = h.command("exit 1")
		return h.confirm(rotate, args{"connection": launchDarklyName, "token_id": token.ID, "deliver_to": to})
	}
	first := turn(spare + "/ci/x").is("escrowed").str("operation_id")
	second := turn("files/x").is("rotated").str("operation_id")
	third := turn(spare + "/ci/x").is("escrowed").str("operation_id")
	newest := h.secretOf(token.ID)
	h.sendsNothing(func() {
		h.call(deliver, args{"operation_id": first, "deliver_to": "files/x"}).fails("sink_key_exists")
		h.call(deliver, args{"operation_id": first, "deliver_to": "files/old"}).is("delivered").says("has a newer secret, of operation " + second)
		// The third is newer than what files/x holds, but the token's last delivery is elsewhere.
		h.call(deliver, args{"operation_id": third, "deliver_to": "files/x"}).fails("sink_key_exists")
		r := h.call(deliver, args{"operation_id": third, "deliver_to": "files/old"}).is("delivered")
		if r.get("secret", "version") != 2.0 || r.get("warnings") != nil {
			t.Errorf("the result is %s", r.text)
		}
	})
	h.wantFile(filepath.Join(h.sinkDir, "old.v2"), newest)
}

// TestDeliverWherePolicyForbids: the connection must still allow to mint or rotate.
func TestDeliverWherePolicyForbids(t *testing.T) {
	t.Parallel()
	h := start(t, setup{})
	h.env.Sinks[spare] = h.command("exit 1")
	id := h.call(createLD, with(reader(), args{"deliver_to": spare + "/ci/x"})).is("escrowed").str("operation_id")
	allowing := func(classes ...policy.Class) *harness {
		connections := oneOfEach()
		connections[1].policy.Allow = classes
		return h.restart(setup{connections: connections})
	}
	a := args{"operation_id": id, "deliver_to": "files/x"}
	allowing(policy.Read, policy.Revoke).call(deliver, a).fails("policy_refused")
	h.restart(setup{connections: oneOfEach()[2:]}).call(deliver, a).fails("unknown_connection")
	h.wantInEscrow(id)
	allowing(policy.Read, policy.Rotate).call(deliver, a).is("delivered")
}

// TestRecoveryRecipient: who holds the recovery key needs nothing else of this server.
func TestRecoveryRecipient(t *testing.T) {
	t.Parallel()
	each(t, fewMintings(), func(t *testing.T, mint func(*harness, string) minted) {
		h := start(t, setup{})
		key, err := age.GenerateX25519Identity()
		must(t, 0, err)
		recipients, err := sink.ParseRecipients([]string{key.Recipient().String()})
		must(t, 0, err)
		h.env.Escrow = sink.NewEscrow(h.setup.stateDir, nil, recipients)
		h.env.Sinks[spare] = h.command("exit 1")
		m := mint(h, spare+"/ci/deploy")
		r := h.call(m.tool, m.args).is("escrowed")
		content, err := os.ReadFile(filepath.Join(h.escrowDir(), r.str("operation_id")))
		must(t, 0, err)
		value := h.secretOf(r.str("token", "id"))
		if bytes.Contains(content, []byte(value)) || bytes.Contains(content, []byte(r.str("token", "id"))) {
			t.Error("the file is not encrypted")
		}
		if err := os.Remove(filepath.Join(h.setup.stateDir, "escrow.key")); err != nil {
			t.Fatal(err)
		}
		plain, err := age.Decrypt(bytes.NewReader(content), key)
		must(t, 0, err)
		text, err := io.ReadAll(plain)
		must(t, 0, err)
		var opened map[string]any
		if err := json.Unmarshal(text, &opened); err != nil {
			t.Fatal(err)
		}
		want := map[string]any{
			"operation_id": r.str("operation_id"), "token_id": r.str("token", "id"), "connection": m.connection,
			"destination": spare + "/ci/deploy", "created": h.clock.Now().Format(time.RFC3339), "secret": value,
		}
		if diff := gocmp.Diff(want, opened); diff != "" {
			t.Errorf("decrypted (-want +got):\n%s", diff)
		}
		stranger, err := age.GenerateX25519Identity()
		must(t, 0, err)
		if _, err := age.Decrypt(bytes.NewReader(content), stranger); err == nil {
			t.Error("another key opens it")
		}
	})
}
