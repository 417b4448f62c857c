package tools_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/mark3labs/mcp-go/mcp"

	"github.com/tokenreeve/tokenreeve/internal/policy"
	"github.com/tokenreeve/tokenreeve/internal/sandbox"
	"github.com/tokenreeve/tokenreeve/internal/secret"
	"github.com/tokenreeve/tokenreeve/internal/sink"
)

// ruledBy is one connection to each vendor, each with the policy.
func ruledBy(p policy.Policy) []connect {
	all := oneOfEach()
	for i := range all {
		all[i].policy = p
	}
	return all
}

// anyAccess is a policy that lets tokens have every access.
func anyAccess() policy.Policy {
	return policy.Policy{Mint: policy.MintRules{Access: []policy.Grant{policy.GrantAdmin}}}
}

// bigBulks is a policy under which bulks are bounded by their previews only.
func bigBulks() policy.Policy { return policy.Policy{RevocationsPerHour: 1000} }

// pairs is two connections to each vendor, both with the main credential, for tokens
// with any access.
func pairs() []connect {
	var all []connect
	for _, c := range ruledBy(anyAccess()) {
		second := c
		second.name = strings.Replace(c.name, "acme", "beta", 1)
		all = append(all, c, second)
	}
	return all
}

// behind starts the server once more, with the hook before every request to the
// vendors. The hook may block.
func (h *harness) behind(s setup, hook func(*http.Request)) *harness {
	h.t.Helper()
	vendors := h.box.Handler()
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		hook(r)
		vendors.ServeHTTP(w, r)
	}))
	h.t.Cleanup(web.Close)
	if s.connections == nil {
		s.connections = oneOfEach()
	}
	s.connections = slices.Clone(s.connections)
	for i := range s.connections {
		s.connections[i].baseURL = web.URL + "/" + s.connections[i].vendor
	}
	return h.restart(s)
}

// with returns the arguments with others over them; nil removes one.
func with(base, over args) args {
	all := args{}
	maps.Copy(all, base)
	for name, value := range over {
		if all[name] = value; value == nil {
			delete(all, name)
		}
	}
	return all
}

// preview calls a tool that must answer with a preview, change nothing and send
// nothing that would, and returns the confirm code.
func (h *harness) preview(tool string, a args) (code string) {
	h.t.Helper()
	h.untouched(func() { code = h.call(tool, a).code() })
	if strings.Contains(h.log.String(), code) {
		h.t.Errorf("%s: the code stands in the log", tool)
	}
	return code
}

// code returns the confirm code of a result that must be a preview.
func (r result) code() string {
	r.t.Helper()
	if r.ok().str("status") != "confirmation_required" || len(r.str("confirm")) < 26 || r.str("preview_id") == "" {
		r.t.Fatalf("%s answered %s, want a preview with a code", r.tool, r.text)
	}
	return r.str("confirm")
}

// confirm previews and acts.
func (h *harness) confirm(tool string, a args) result {
	h.t.Helper()
	return h.call(tool, with(a, args{"confirm": h.preview(tool, a)}))
}

// is fails the test unless the call succeeded with the status.
func (r result) is(status string) result {
	r.t.Helper()
	if r.isError || r.str("status") != status {
		r.t.Fatalf("%s answered %s, want the status %s", r.tool, r.text, status)
	}
	return r
}

// says fails the test unless each text stands in the answer.
func (r result) says(texts ...string) result {
	r.t.Helper()
	for _, text := range texts {
		if !strings.Contains(r.text, text) {
			r.t.Errorf("%s does not say %q: %s", r.tool, text, r.text)
		}
	}
	return r
}

// untouched fails the test where do makes a vendor see a change, or be another.
func (h *harness) untouched(do func()) {
	h.t.Helper()
	before := h.state()
	h.forget()
	do()
	for _, r := range h.changes() {
		h.t.Errorf("%s %s was sent, want nothing", r.Method, r.Path)
	}
	if after := h.state(); !reflect.DeepEqual(before, after) { // much faster than a diff
		h.t.Errorf("the vendors are not as before (-before +after):\n%s", cmp.Diff(before, after))
	}
}

// state is all that the vendors hold, but for when a token was used last: reading
// is a use of the connection's own.
func (h *harness) state() sandbox.State {
	state := h.box.State()
	for i := range state.LaunchDarkly.Tokens {
		if t := &state.LaunchDarkly.Tokens[i]; t.Credential != "" {
			t.LastUsed = t.CreatedAt
		}
	}
	return state
}

// sent returns the requests that would change something, as METHOD PATH.
func (h *harness) sent() []string {
	var all []string
	for _, r := range h.changes() {
		all = append(all, r.Method+" "+r.Path)
	}
	return all
}

// wantSent fails the test unless exactly these requests would change something.
func (h *harness) wantSent(want ...string) {
	h.t.Helper()
	if diff := cmp.Diff(want, h.sent()); diff != "" {
		h.t.Errorf("requests that change something (-want +got):\n%s", diff)
	}
}

// The paths of single tokens.
func ldPath(id string) string { return "/api/v2/tokens/" + id }

func mtPath(id string) string { return "/api/accounts/3229/api_tokens/" + id }

func userPath(t sandbox.AtlassianToken) string {
	return "/users/" + t.AccountID + "/manage/api-tokens/" + t.UserManagementID
}

// addLaunchDarkly adds a reader's token, changed as asked.
func (h *harness) addLaunchDarkly(name string, change ...func(*sandbox.LaunchDarklyToken)) sandbox.LaunchDarklyToken {
	h.t.Helper()
	t := sandbox.LaunchDarklyToken{Name: name, Role: "reader", MemberID: h.box.LaunchDarklyMembers()[3].ID}
	for _, c := range change {
		c(&t)
	}
	t, err := h.box.AddLaunchDarklyToken(t)
	return must(h.t, t, err)
}

// addMailtrap adds a token with viewer access to the account, changed as asked.
func (h *harness) addMailtrap(name string, change ...func(*sandbox.MailtrapToken)) sandbox.MailtrapToken {
	h.t.Helper()
	t := sandbox.MailtrapToken{Name: name}
	for _, c := range change {
		c(&t)
	}
	t, err := h.box.AddMailtrapToken(t)
	return must(h.t, t, err)
}

// addAtlassian adds a token of a user of its own, changed as asked.
func (h *harness) addAtlassian(label string, change ...func(*sandbox.AtlassianToken)) sandbox.AtlassianToken {
	h.t.Helper()
	t := sandbox.AtlassianToken{Label: label, OwnerName: "Owner of " + label, OwnerEmail: strings.ReplaceAll(label, " ", ".") + "@acme.example"}
	for _, c := range change {
		c(&t)
	}
	t, err := h.box.AddAtlassianToken(t)
	return must(h.t, t, err)
}

// serviceAccount makes a new service account with tokens of these names.
func (h *harness) serviceAccount(labels ...string) (account string, ids []string) {
	h.t.Helper()
	for _, label := range labels {
		t := h.addAtlassian(label, func(t *sandbox.AtlassianToken) {
			t.AccountID, t.ServiceAccount, t.OwnerName, t.OwnerEmail = account, true, "robot", ""
		})
		account, ids = t.AccountID, append(ids, t.ID)
	}
	return account, ids
}

func number(id int64) string { return strconv.FormatInt(id, 10) }

// launchDarkly returns the token with this id as the vendor has it.
func (h *harness) launchDarkly(id string) (sandbox.LaunchDarklyToken, bool) {
	return lookup(h.box.LaunchDarklyTokens(), func(t sandbox.LaunchDarklyToken) bool { return t.ID == id })
}

// mailtrap returns the token with this id as the vendor has it.
func (h *harness) mailtrap(id string) (sandbox.MailtrapToken, bool) {
	return lookup(h.box.MailtrapTokens(), func(t sandbox.MailtrapToken) bool { return number(t.ID) == id })
}

// atlassian returns the token with this id as the vendor has it.
func (h *harness) atlassian(id string) (sandbox.AtlassianToken, bool) {
	return lookup(h.box.AtlassianTokens(), func(t sandbox.AtlassianToken) bool { return t.ID == id })
}

func lookup[T any](all []T, is func(T) bool) (T, bool) {
	if i := slices.IndexFunc(all, is); i >= 0 {
		return all[i], true
	}
	var none T
	return none, false
}

// lives tells whether a vendor still has a token with this id.
func (h *harness) lives(id string) bool {
	_, a := h.atlassian(id)
	_, l := h.launchDarkly(id)
	_, m := h.mailtrap(id)
	return a || l || m
}

// wantGone fails the test unless of these tokens none is left.
func (h *harness) wantGone(ids ...string) {
	h.t.Helper()
	for _, id := range ids {
		if h.lives(id) {
			h.t.Errorf("token %s still lives", id)
		}
	}
}

// wantAlive fails the test unless all these tokens are left.
func (h *harness) wantAlive(ids ...string) {
	h.t.Helper()
	for _, id := range ids {
		if !h.lives(id) {
			h.t.Errorf("token %s is gone", id)
		}
	}
}

// works tells whether a secret authenticates at LaunchDarkly or Mailtrap, which
// its form says.
func (h *harness) works(secret string) bool {
	h.t.Helper()
	url, authorization := h.access.Mailtrap.BaseURL+"/api/accounts", "Bearer "+secret
	if strings.HasPrefix(secret, "api-") {
		url, authorization = h.access.LaunchDarkly.BaseURL+"/api/v2/caller-identity", secret
	}
	request, err := http.NewRequestWithContext(h.t.Context(), http.MethodGet, url, nil)
	if err != nil {
		h.t.Fatal(err)
	}
	request.Header.Set("Authorization", authorization)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		h.t.Fatal(err)
	}
	defer response.Body.Close()
	_, _ = io.Copy(io.Discard, response.Body)
	return response.StatusCode == http.StatusOK
}

// delivered returns the files in the sink, by their paths below it, and checks
// that nobody else can open them.
func (h *harness) delivered() map[string]string {
	h.t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(h.sinkDir, func(path string, entry os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		want := os.FileMode(0o600)
		if entry.IsDir() {
			want = 0o700
		}
		if info.Mode().Perm() != want {
			h.t.Errorf("%s has mode %v, want %v", path, info.Mode().Perm(), want)
		}
		if entry.IsDir() {
			return nil
		}
		content, err := os.ReadFile(path)
		files[strings.TrimPrefix(path, h.sinkDir+"/")] = string(content)
		return err
	})
	if err != nil && !os.IsNotExist(err) {
		h.t.Fatal(err)
	}
	return files
}

// wantDelivered fails the test unless the sink holds files with just these names,
// whose contents authenticate, and returns the contents.
func (h *harness) wantDelivered(names ...string) []string {
	h.t.Helper()
	files := h.delivered()
	if diff := cmp.Diff(slices.Sorted(slices.Values(names)), slices.Sorted(maps.Keys(files))); diff != "" {
		h.t.Fatalf("files in the sink (-want +got):\n%s", diff)
	}
	var contents []string
	for _, name := range names {
		if !h.works(files[name]) {
			h.t.Errorf("the content of %s, %d bytes, does not authenticate", name, len(files[name]))
		}
		contents = append(contents, files[name])
	}
	return contents
}

// body decodes the body of the one request that would change something.
func (h *harness) body() (body map[string]any) {
	h.t.Helper()
	changes := h.changes()
	if len(changes) != 1 {
		h.t.Fatalf("%d requests would change something, want 1: %v", len(changes), h.sent())
	}
	if err := json.Unmarshal([]byte(changes[0].Body), &body); err != nil {
		h.t.Fatalf("body %q: %v", changes[0].Body, err)
	}
	return body
}

// each runs the test in parallel for each case.
func each[C any](t *testing.T, cases map[string]C, test func(*testing.T, C)) {
	t.Helper()
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, c)
		})
	}
}

func words(n int, word string) []string {
	all := make([]string, n)
	for i := range all {
		all[i] = fmt.Sprintf("%s %d", word, i)
	}
	return all
}

// gates are the channels of holdFirst. open releases the request, once; a test defers it,
// so that its failure is no request that waits for ever.
func gates() (arrived, release chan struct{}, open func()) {
	release = make(chan struct{})
	return make(chan struct{}), release, sync.OnceFunc(func() { close(release) })
}

// holdFirst is a hook that stops the first request with the method: it closes
// arrived and waits for release.
func holdFirst(method string, arrived, release chan struct{}) func(*http.Request) {
	var once sync.Once
	return func(r *http.Request) {
		if r.Method == method {
			once.Do(func() {
				close(arrived)
				<-release
			})
		}
	}
}

// holdFirstChange is holdFirst for whatever would change something.
func holdFirstChange(arrived, release chan struct{}) func(*http.Request) {
	hold := holdFirst("", arrived, release)
	return func(r *http.Request) {
		if r.Method != http.MethodGet && !strings.HasSuffix(r.URL.Path, "/count") {
			hold(&http.Request{})
		}
	}
}

// panicking is a sink whose delivery crashes.
type panicking struct{ sink.Sink }

// Deliver panics.
func (panicking) Deliver(context.Context, sink.Key, secret.Secret, sink.Options) (sink.Delivery, error) {
	panic("delivery")
}

// failing is a sink that looks well until a secret comes.
type failing struct{ sink.Sink }

// Deliver fails.
func (failing) Deliver(context.Context, sink.Key, secret.Secret, sink.Options) (sink.Delivery, error) {
	return sink.Delivery{}, errors.New("no space left on device")
}

// callRequest is the call of a tool, for a client whose answer does not matter.
func callRequest(tool string, a args) mcp.CallToolRequest {
	request := mcp.CallToolRequest{}
	request.Params.Name, request.Params.Arguments = tool, a
	return request
}

// decoded reads a JSON object.
func decoded(t *testing.T, text string) (object map[string]any) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), &object); err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	return object
}
