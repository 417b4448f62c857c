package e2e_test

import (
	"bytes"
	"cmp"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	mathrand "math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/tokenreeve/tokenreeve/internal/ledger"
	"github.com/tokenreeve/tokenreeve/internal/sandbox"
)

// buildFaulty makes the binary that dies at a fault point, once. The race detector
// stays out: what is tried here is what a dead process leaves behind.
var buildFaulty = sync.OnceValues(func() (string, error) { return compile("tokenreeve-faulty", "-tags", "faultpoints") })

func faultyBinary(t *testing.T) string {
	t.Helper()
	path, err := buildFaulty()
	if err != nil {
		t.Fatalf("build: %v", err)
	}
	return path
}

// boundary is a place between two steps of a change, with what must be so where the
// process died there.
type boundary struct {
	point string
	// sent says that the vendor has carried the change out.
	sent bool
	// outcome is the operation's once the next process has looked; empty: there is no
	// operation, since nothing was begun.
	outcome ledger.Outcome
	// over says that the outcome was on record before the process died.
	over bool
	// ended is how many targets of a bulk revocation are gone, and parts are the outcomes
	// of those that were begun.
	ended int
	parts []ledger.Outcome
}

// mintingBoundaries are those of a change that makes a secret.
func mintingBoundaries(more ...boundary) []boundary {
	return slices.Concat([]boundary{
		{point: "taken"},
		{point: "judged"},
		{point: "intent", outcome: ledger.Unknown},
		{point: "answered", sent: true, outcome: ledger.Unknown},
		{point: "minted", sent: true, outcome: ledger.Unknown},
		{point: "escrowing", sent: true, outcome: ledger.Escrowed},
		{point: "escrowed", sent: true, outcome: ledger.Escrowed},
		{point: "delivering", sent: true, outcome: ledger.Escrowed},
		{point: "delivered", sent: true, outcome: ledger.Escrowed},
		{point: "verifying", sent: true, outcome: ledger.Escrowed},
		{point: "verified", sent: true, outcome: ledger.Escrowed},
	}, more, []boundary{
		{point: "finished", sent: true, outcome: ledger.Done, over: true},
		{point: "cleared", sent: true, outcome: ledger.Done, over: true},
		{point: "recorded", sent: true, outcome: ledger.Done, over: true},
	})
}

// singleBoundaries are those of a change that is one call of the vendor.
func singleBoundaries() []boundary {
	return []boundary{
		{point: "taken"},
		{point: "judged"},
		{point: "intent", outcome: ledger.Unknown},
		{point: "answered", sent: true, outcome: ledger.Unknown},
		{point: "finished", sent: true, outcome: ledger.Done, over: true},
		{point: "recorded", sent: true, outcome: ledger.Done, over: true},
	}
}

// deliveryBoundaries are those of a delivery from escrow.
func deliveryBoundaries() []boundary {
	return []boundary{
		{point: "judged"},
		{point: "intent", outcome: ledger.Unknown},
		{point: "delivering", outcome: ledger.Unknown},
		{point: "delivered", outcome: ledger.Done},
		{point: "verifying", outcome: ledger.Done},
		{point: "verified", outcome: ledger.Done},
		{point: "resolved", outcome: ledger.Done},
		{point: "finished", outcome: ledger.Done, over: true},
		{point: "cleared", outcome: ledger.Done, over: true},
	}
}

// bulkTargets is how many targets a bulk revocation has.
const bulkTargets = 4

// bulkBoundaries are those of a bulk revocation, before and between its targets: the
// whole is an operation, and each target is one. All pass the same points.
func bulkBoundaries() []boundary {
	all := []boundary{
		{point: "taken"},
		{point: "judged"},
		{point: "intent", outcome: ledger.Unknown},
	}
	var done []ledger.Outcome
	for n := range bulkTargets {
		begun := append(slices.Clone(done), ledger.Unknown)
		next := append(slices.Clone(done), ledger.Done)
		all = append(all,
			boundary{point: fmt.Sprint("judged#", n+2), sent: n > 0, outcome: ledger.Unknown, ended: n, parts: done},
			boundary{point: fmt.Sprint("intent#", n+2), sent: n > 0, outcome: ledger.Unknown, ended: n, parts: begun},
			boundary{point: fmt.Sprint("answered#", n+1), sent: true, outcome: ledger.Unknown, ended: n + 1, parts: begun},
			boundary{point: fmt.Sprint("finished#", n+1), sent: true, outcome: ledger.Unknown, ended: n + 1, parts: next},
		)
		done = next
	}
	return append(all,
		boundary{point: fmt.Sprint("finished#", bulkTargets+1), sent: true, outcome: ledger.Done, over: true, ended: bulkTargets, parts: done},
		boundary{point: "recorded", sent: true, outcome: ledger.Done, over: true, ended: bulkTargets, parts: done},
	)
}

// unseen leaves out what only a change with a preview passes.
func unseen(all []boundary) []boundary {
	return slices.DeleteFunc(all, func(b boundary) bool { return b.point == "taken" || b.point == "recorded" })
}

// change is a change that is cut off.
type change struct {
	tool      string
	arguments map[string]any
	unseen    bool   // it takes no preview
	approve   bool   // a person must agree
	meanwhile func() // happens between preview and confirmation; nil: nothing does
	// targets are the tokens of the preview, as VENDOR/ID. Nothing else may end or alter.
	targets []string
	makes   string // VENDOR, where it makes a secret
	name    string // of the token to be made
	replace string // the id of the token whose secret is replaced
	ends    bool   // the replaced token is deleted once the new secret is delivered
	deliver string // the operation whose secret is delivered
	// wayOn is what a caller does who was told how the change ended.
	wayOn func(*cut)
}

type crash struct {
	prepare    func(t *testing.T, v *vendors) change
	boundaries []boundary
}

func crashes() map[string]crash {
	return map[string]crash{
		"create at LaunchDarkly":              {createLaunchDarkly, unseen(mintingBoundaries())},
		"create at Mailtrap":                  {createMailtrap, mintingBoundaries()},
		"reset at LaunchDarkly":               {resetLaunchDarkly(false), mintingBoundaries()},
		"reset at LaunchDarkly, compromised":  {resetLaunchDarkly(true), mintingBoundaries()},
		"reset at Mailtrap":                   {rotateMailtrap(false, false), mintingBoundaries()},
		"twin at Mailtrap":                    {rotateMailtrap(true, false), mintingBoundaries()},
		"twin at Mailtrap, compromised":       {rotateMailtrap(true, true), mintingBoundaries(boundary{point: "old_ended", sent: true, outcome: ledger.Escrowed})},
		"deliver":                             {deliverEscrowed(createLaunchDarkly), deliveryBoundaries()},
		"deliver a compromised token's twin":  {deliverEscrowed(rotateMailtrap(true, true)), deliveryBoundaries()},
		"update":                              {updateLaunchDarkly, singleBoundaries()},
		"revoke at LaunchDarkly":              {revokeLaunchDarkly, singleBoundaries()},
		"revoke at Atlassian":                 {revokeAtlassian, singleBoundaries()},
		"revoke what is gone":                 {revokeGone, []boundary{{point: "gone", outcome: ledger.AlreadyGone, over: true}}},
		"bulk":                                {revokeMany, bulkBoundaries()},
		"bulk, one is gone":                   {revokeManyOneGone, []boundary{{point: "gone", outcome: ledger.Unknown, parts: []ledger.Outcome{ledger.AlreadyGone}}}},
		"bulk, all of a service account":      {revokeServiceAccount, singleBoundaries()},
		"bulk, everything in an organization": {revokeEverything, singleBoundaries()},
	}
}

// A process that is killed between any two steps of a change leaves a record that is
// true, a secret that is safe, and a way on; and nothing is done twice.
func TestCrash(t *testing.T) {
	t.Parallel()
	for name, test := range crashes() {
		for _, b := range test.boundaries {
			t.Run(name+", "+b.point, func(t *testing.T) {
				t.Parallel()
				v := newVendors(t)
				c := &cut{t: t, vendors: v, change: test.prepare(t, v), at: b}
				c.die()
				c.survive()
			})
		}
	}
}

// What holds between two steps holds while the vendor has the request.
func TestCrashInFlight(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		method, path string
		prepare      func(*testing.T, *vendors) change
	}{
		"create": {"POST", "/api/v2/tokens", createLaunchDarkly},
		"reset":  {"POST", "/reset", rotateMailtrap(false, false)},
		"update": {"PATCH", "/api/v2/tokens", updateLaunchDarkly},
		"revoke": {"DELETE", "/api/v2/tokens", revokeLaunchDarkly},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := newVendors(t)
			c := &cut{t: t, vendors: v, change: test.prepare(t, v), at: boundary{point: "answered", sent: true, outcome: ledger.Unknown}}
			c.held = v.hold(test.method, test.path)
			c.die()
			c.survive()
		})
	}
}

// A process that is killed while it ends on record what another one left loses nothing
// of it either.
func TestCrashWhileSettling(t *testing.T) {
	t.Parallel()
	for _, b := range unseen(mintingBoundaries()) {
		if b.outcome == "" || b.over {
			continue
		}
		t.Run(b.point, func(t *testing.T) {
			t.Parallel()
			v := newVendors(t)
			c := &cut{t: t, vendors: v, change: createLaunchDarkly(t, v), at: b}
			c.die()
			settling := v.startFaulty(t, "claimed")
			settling.request(t, "init", "initialize", initialization())
			settling.killed(t, "") // perhaps before its answer
			c.survive()
		})
	}
}

// A sink that loses what it took before the next process looks does not count as one that
// has it.
func TestCrashAndTheSinkIsEmpty(t *testing.T) {
	t.Parallel()
	v := newVendors(t)
	c := &cut{t: t, vendors: v, change: createLaunchDarkly(t, v), at: boundary{point: "verified", sent: true, outcome: ledger.Escrowed}}
	c.die()
	if err := os.RemoveAll(v.secretsDir()); err != nil {
		t.Fatal(err)
	}
	c.survive()
}

// A server that starts while the dead one's operations still seem alive names them too,
// once that has shown to be wrong.
func TestCrashBeforeAQuickRestart(t *testing.T) {
	t.Parallel()
	v := newVendors(t)
	v.lease = 3 * time.Second
	c := &cut{t: t, vendors: v, change: createLaunchDarkly(t, v), at: boundary{point: "escrowed", sent: true, outcome: ledger.Escrowed}}
	c.die()
	c.survive()
}

// Every point that the product has is one at which a process dies here.
func TestCrashCoversEveryPoint(t *testing.T) {
	t.Parallel()
	tried := map[string]bool{"claimed": true}
	for _, test := range crashes() {
		for _, b := range test.boundaries {
			name, _, _ := strings.Cut(b.point, "#")
			tried[name] = true
		}
	}
	files, err := filepath.Glob("../../tools/*.go")
	if err != nil {
		t.Fatal(err)
	}
	points := regexp.MustCompile(`fault\.Point\("(\w+)"\)|step\w+ += "(\w+)"`)
	found := 0
	for _, path := range files {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, match := range points.FindAllStringSubmatch(string(data), -1) {
			found++
			if name := match[1] + match[2]; !tried[name] {
				t.Errorf("%s: nothing dies at %q", path, name)
			}
		}
	}
	if found < len(tried) {
		t.Errorf("%d points were found, and %d are tried", found, len(tried))
	}
}

// What is built without the tag knows nothing of fault points.
func TestPlainBuildHasNoFaultPoints(t *testing.T) {
	t.Parallel()
	v := newVendors(t)
	p := serve(t, v.env("TOKENREEVE_FAULT_POINT=intent", "TOKENREEVE_FAULT_LEASE=1ns"))
	p.call(t, "create", "create_launchdarkly_token", createArguments())
	if got := p.answer(t, "create").Result.StructuredContent["status"]; got != "created" {
		t.Errorf("status %v", got)
	}
	data, err := os.ReadFile(binary(t))
	if err != nil || bytes.Contains(data, []byte("TOKENREEVE_FAULT_")) {
		t.Errorf("the plain binary knows of fault points (%v)", err)
	}
	if data, err = os.ReadFile(faultyBinary(t)); err != nil || !bytes.Contains(data, []byte("TOKENREEVE_FAULT_")) {
		t.Errorf("the search finds nothing anywhere (%v)", err)
	}
}

// A bulk revocation that is killed at random moments, again and again, comes to its end:
// each token is ended once, and the record of each is true.
func TestCrashAtRandomMoments(t *testing.T) {
	t.Parallel()
	const seed, tokens, mostRounds = 3, 30, 60
	random := mathrand.New(mathrand.NewPCG(seed, 0))
	v := newVendors(t)
	ids, targets := v.sweepable(t, tokens)
	before := v.tokens()
	var all []*process
	for {
		p := v.serveFaulty(t, "")
		all = append(all, p)
		left := v.alive(ids)
		if len(left) == 0 {
			break
		}
		if len(all) > mostRounds {
			t.Fatalf("%d tokens are left after %d rounds", len(left), mostRounds)
		}
		arguments := map[string]any{"connection": "mt", "token_ids": left, "reason": "crash"}
		code, ok := p.ask(t, "bulk_revoke_tokens", arguments).content(t)["confirm"]
		if !ok { // the vendor has acted on the last request meanwhile
			continue
		}
		arguments["confirm"] = code
		deletion := v.hold("DELETE", "/api_tokens/")
		deletion.release() // it only tells of each request
		p.call(t, "change", "bulk_revoke_tokens", arguments)
		deletion.await(t, 1)
		p.killWithin(t, random, 3*time.Millisecond)
	}
	t.Logf("%d rounds", len(all)-1)
	if open := v.operations(t, ledger.Query{Outcome: ledger.OpenOutcome}); len(open) > 0 {
		t.Errorf("open: %+v", open)
	}
	c := &cut{t: t, vendors: v, change: change{targets: targets}}
	c.spares(before, v.tokens())
	for _, id := range ids {
		v.checkEnded(t, id)
	}
	last := all[len(all)-1]
	_ = last.stdin.Close()
	last.exit(t, 0)
	v.checkRemains(t, all...)
}

// A minting that is killed at random moments after it was sent, within steps as well as
// between them, never loses a secret unnoticed.
func TestCrashWhileMintingAtRandomMoments(t *testing.T) {
	t.Parallel()
	const seed, rounds = 4, 12
	random := mathrand.New(mathrand.NewPCG(seed, 0))
	v := newVendors(t)
	creation := v.hold("POST", "/api/v2/tokens")
	creation.release() // it only tells of each request
	before := v.tokens()
	var all []*process
	for range rounds {
		p := v.serveFaulty(t, "")
		all = append(all, p)
		p.call(t, "change", "create_launchdarkly_token", createLaunchDarkly(t, v).arguments)
		creation.await(t, 1)
		p.killWithin(t, random, 40*time.Millisecond)
	}
	last := v.serveFaulty(t, "")
	ends := map[ledger.Outcome]int{}
	for _, op := range v.operations(t, ledger.Query{}) {
		ends[op.Outcome]++
		if op.Outcome == ledger.Escrowed {
			last.do(t, "deliver_secret", map[string]any{"operation_id": op.ID})
		}
	}
	t.Logf("outcomes: %v", ends)
	made := newIn(before, v.tokens())
	if unsure := ends[ledger.Unknown]; len(made) > rounds || len(made) < rounds-unsure || ends[ledger.Done]+ends[ledger.Escrowed]+unsure != rounds {
		t.Errorf("%d tokens were made in %d rounds, and on record are %v", len(made), rounds, ends)
	}
	safe := delivered(t, v.secretsDir())
	for _, op := range v.operations(t, ledger.Query{Tool: "create_launchdarkly_token", Outcome: ledger.Done}) {
		if secret := v.secretAt(sandbox.LaunchDarkly, op.NewTokenID); !slices.Contains(safe, secret) || !v.opens(t, sandbox.LaunchDarkly, secret) {
			t.Errorf("the secret of token %s is in no sink or does not work", op.NewTokenID)
		}
	}
	_ = last.stdin.Close()
	last.exit(t, 0)
	v.checkRemains(t, append(all, last)...)
}

// killWithin kills the process at a random moment within the time.
func (p *process) killWithin(t *testing.T, random *mathrand.Rand, most time.Duration) {
	t.Helper()
	moment := time.NewTimer(time.Duration(random.Int64N(int64(most))))
	<-moment.C
	p.signal(t, os.Kill)
	receive(t, p.ended, "the death of the process")
}

// alive returns those of the Mailtrap tokens that exist.
func (v *vendors) alive(ids []string) []string {
	known := v.tokens()
	return slices.DeleteFunc(slices.Clone(ids), func(id string) bool {
		_, ok := known[sandbox.Mailtrap+"/"+id]
		return !ok
	})
}

// checkEnded checks that a token which is gone was ended once, that its end is on
// record, and that each request had its intent on record before.
func (v *vendors) checkEnded(t *testing.T, id string) {
	t.Helper()
	var begun []time.Time
	count := map[ledger.Outcome]int{}
	for _, op := range v.operations(t, ledger.Query{}) {
		if !op.Group && len(op.Targets) == 1 && op.Targets[0].ID == id {
			count[op.Outcome]++
			begun = append(begun, op.Started)
		}
	}
	unsure := count[ledger.Unknown] > 0
	if count[ledger.Done] > 1 || count[ledger.Done] == 0 && !unsure || len(begun) != count[ledger.Done]+count[ledger.Unknown]+count[ledger.AlreadyGone] {
		t.Errorf("token %s is gone, and on record are %v", id, count)
	}
	sent, ended := 0, 0
	for _, r := range v.Requests() {
		if r.Method != http.MethodDelete || !strings.HasSuffix(r.Path, "/"+id) {
			continue
		}
		sent++
		if r.Status < 300 {
			ended++
		}
		if earlier := slices.DeleteFunc(slices.Clone(begun), func(at time.Time) bool { return at.After(r.Time) }); len(earlier) < sent {
			t.Errorf("token %s: deletion %d was sent, and %d intents were on record", id, sent, len(earlier))
		}
	}
	if ended != 1 {
		t.Errorf("token %s was ended %d times", id, ended)
	}
}

// cut is a change that was cut off, and what follows.
type cut struct {
	*vendors
	t      *testing.T
	change change
	at     boundary

	begun         time.Time
	confirm       string            // the code of the preview
	before, after map[string]string // the vendors' tokens
	changes       int               // requests that change something, as of the death
	held          *gate             // where it dies while the vendor has the request; nil: at a point
	dead, next    *process
	op            ledger.Operation // empty: there is none
}

func createLaunchDarkly(*testing.T, *vendors) change {
	return change{
		tool: "create_launchdarkly_token", arguments: map[string]any{"connection": "ld", "name": "crash", "role": "reader"},
		unseen: true, makes: sandbox.LaunchDarkly, name: "crash", wayOn: (*cut).minted,
	}
}

func createMailtrap(_ *testing.T, v *vendors) change {
	admin := map[string]any{"resource_type": "account", "resource_id": fmt.Sprint(v.access.Mailtrap.AccountID), "access_level": "admin"}
	return change{
		tool: "create_mailtrap_token", arguments: map[string]any{"connection": "mt", "name": "crash", "permissions": []any{admin}},
		makes: sandbox.Mailtrap, name: "crash", wayOn: (*cut).minted,
	}
}

func (v *vendors) addLaunchDarkly(t *testing.T) string {
	t.Helper()
	token, err := v.AddLaunchDarklyToken(sandbox.LaunchDarklyToken{Name: "crash", ServiceToken: true})
	if err != nil {
		t.Fatal(err)
	}
	return token.ID
}

func (v *vendors) addMailtrap(t *testing.T, expires time.Time) string {
	t.Helper()
	token, err := v.AddMailtrapToken(sandbox.MailtrapToken{Name: "crash", ExpiresAt: expires})
	if err != nil {
		t.Fatal(err)
	}
	return strconv.FormatInt(token.ID, 10)
}

// resetLaunchDarkly resets a token. A compromised one was rotated before, so that its
// key holds an earlier secret.
func resetLaunchDarkly(compromised bool) func(*testing.T, *vendors) change {
	return func(t *testing.T, v *vendors) change {
		t.Helper()
		id := v.addLaunchDarkly(t)
		arguments := map[string]any{"connection": "ld", "token_id": id}
		if compromised {
			p := v.serveFaulty(t, "")
			p.do(t, "rotate_token", arguments)
			_ = p.stdin.Close()
			p.exit(t, 0)
			arguments["compromised"] = true
		}
		return change{
			tool: "rotate_token", arguments: arguments, targets: []string{sandbox.LaunchDarkly + "/" + id},
			makes: sandbox.LaunchDarkly, replace: id, name: "crash", wayOn: (*cut).minted,
		}
	}
}

// rotateMailtrap replaces a token by a reset or, where it expires, by a twin.
func rotateMailtrap(twin, compromised bool) func(*testing.T, *vendors) change {
	return func(t *testing.T, v *vendors) change {
		t.Helper()
		var expires time.Time
		if twin {
			expires = time.Now().AddDate(0, 2, 0)
		}
		id := v.addMailtrap(t, expires)
		c := change{
			tool: "rotate_token", arguments: map[string]any{"connection": "mt", "token_id": id},
			makes: sandbox.Mailtrap, replace: id, name: "crash", ends: compromised, wayOn: (*cut).minted,
		}
		if compromised {
			c.arguments["compromised"] = true
		}
		if compromised || !twin {
			c.targets = []string{sandbox.Mailtrap + "/" + id}
		}
		return c
	}
}

// deliverEscrowed delivers what a change left in escrow whose process was killed.
func deliverEscrowed(prepare func(*testing.T, *vendors) change) func(*testing.T, *vendors) change {
	return func(t *testing.T, v *vendors) change {
		t.Helper()
		before := &cut{t: t, vendors: v, change: prepare(t, v), at: boundary{point: "escrowed"}}
		before.die()
		id := v.operations(t, ledger.Query{Outcome: ledger.OpenOutcome})[0].ID
		return change{
			tool: "deliver_secret", arguments: map[string]any{"operation_id": id}, unseen: true, deliver: id,
			ends: before.change.ends, replace: before.change.replace, wayOn: (*cut).delivered,
		}
	}
}

func updateLaunchDarkly(t *testing.T, v *vendors) change {
	t.Helper()
	id := v.addLaunchDarkly(t)
	return change{
		tool: "update_launchdarkly_token", arguments: map[string]any{"connection": "ld", "token_id": id, "role": "writer"},
		targets: []string{sandbox.LaunchDarkly + "/" + id}, wayOn: (*cut).again,
	}
}

func revokeLaunchDarkly(t *testing.T, v *vendors) change {
	t.Helper()
	id := v.addLaunchDarkly(t)
	return change{
		tool: "revoke_token", arguments: map[string]any{"connection": "ld", "token_id": id},
		targets: []string{sandbox.LaunchDarkly + "/" + id}, wayOn: (*cut).again,
	}
}

// userTokens are those that the organization can end, and serviceTokens those of
// service accounts, by account.
func (v *vendors) userTokens() (users []string, services map[string][]string) {
	services = map[string][]string{}
	for _, token := range v.AtlassianTokens() {
		name := sandbox.Atlassian + "/" + token.ID
		switch {
		case token.ServiceAccount:
			services[token.AccountID] = append(services[token.AccountID], name)
		case !token.Unmanaged:
			users = append(users, name)
		}
	}
	return users, services
}

func revokeAtlassian(t *testing.T, v *vendors) change {
	t.Helper()
	for _, account := range v.AtlassianAccounts() {
		if account.ServiceAccount || account.Unmanaged || account.DeleteRefusal != "" {
			continue
		}
		token, err := v.AddAtlassianToken(sandbox.AtlassianToken{Label: "crash", AccountID: account.ID})
		if err != nil {
			t.Fatal(err)
		}
		return change{
			tool: "revoke_token", arguments: map[string]any{"connection": "org", "token_id": token.ID, "owner": account.ID},
			targets: []string{sandbox.Atlassian + "/" + token.ID}, wayOn: (*cut).again,
		}
	}
	t.Fatal("no managed user")
	panic("unreachable")
}

// revokeGone revokes a token that ends after the preview.
func revokeGone(t *testing.T, v *vendors) change {
	t.Helper()
	c := revokeLaunchDarkly(t, v)
	c.meanwhile = func() { v.DeleteLaunchDarklyToken(c.arguments["token_id"].(string)) }
	c.wayOn = func(*cut) {}
	return c
}

// sweepable adds tokens at Mailtrap that a bulk revocation may end.
func (v *vendors) sweepable(t *testing.T, n int) (ids, targets []string) {
	t.Helper()
	for range n {
		id := v.addMailtrap(t, time.Time{})
		ids, targets = append(ids, id), append(targets, sandbox.Mailtrap+"/"+id)
	}
	return ids, targets
}

func revokeMany(t *testing.T, v *vendors) change {
	t.Helper()
	ids, targets := v.sweepable(t, bulkTargets)
	return change{
		tool: "bulk_revoke_tokens", arguments: map[string]any{"connection": "mt", "token_ids": ids, "reason": "crash"},
		targets: targets, wayOn: (*cut).revokeRest,
	}
}

// revokeManyOneGone revokes tokens of which the last ends after the preview.
func revokeManyOneGone(t *testing.T, v *vendors) change {
	t.Helper()
	c := revokeMany(t, v)
	_, last, _ := strings.Cut(c.targets[bulkTargets-1], "/")
	id, err := strconv.ParseInt(last, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	c.meanwhile = func() { v.DeleteMailtrapToken(id) }
	c.targets = c.targets[:bulkTargets-1] // it is gone before anything is begun
	return c
}

func revokeServiceAccount(t *testing.T, v *vendors) change {
	t.Helper()
	account := v.AtlassianAccounts()[slices.IndexFunc(v.AtlassianAccounts(), func(a sandbox.AtlassianAccount) bool { return a.ServiceAccount })]
	for range 2 {
		if _, err := v.AddAtlassianToken(sandbox.AtlassianToken{Label: "crash", AccountID: account.ID}); err != nil {
			t.Fatal(err)
		}
	}
	_, services := v.userTokens()
	return change{
		tool: "bulk_revoke_tokens", targets: services[account.ID], wayOn: (*cut).again,
		arguments: map[string]any{"connection": "org", "service_accounts": []string{account.ID}, "all_of_service_account": true, "reason": "crash"},
	}
}

func revokeEverything(_ *testing.T, v *vendors) change {
	users, _ := v.userTokens()
	return change{
		tool: "bulk_revoke_tokens", arguments: map[string]any{"connection": "org", "everything": true, "reason": "crash"},
		approve: true, targets: users, wayOn: (*cut).again,
	}
}

// die begins the change in a process that is killed on the way.
func (c *cut) die() {
	c.t.Helper()
	c.dead, c.begun = c.serveFaulty(c.t, c.at.point), time.Now()
	arguments := maps.Clone(c.change.arguments)
	if !c.change.unseen {
		preview := c.dead.ask(c.t, c.change.tool, arguments).content(c.t)
		c.confirm, _ = preview["confirm"].(string)
		arguments["confirm"] = c.confirm
		if c.change.approve {
			if _, err := c.record(c.t).ApprovePreview(c.t.Context(), preview["preview_id"].(string), "ops"); err != nil {
				c.t.Fatal(err)
			}
		}
	}
	if c.change.meanwhile != nil {
		c.change.meanwhile()
	}
	c.before = c.tokens()
	c.dead.call(c.t, "change", c.change.tool, arguments)
	if c.held == nil {
		c.dead.killed(c.t, "change")
	} else {
		c.killInFlight()
	}
	c.after = c.tokens()
	c.changes = c.changesSent()
}

// survive starts the next process, and checks that nothing was lost and nothing is done
// twice.
func (c *cut) survive() {
	c.t.Helper()
	c.checkVendor()
	c.restart()
	c.checkRecord()
	c.checkNamed()
	c.confirmAgain()
	c.change.wayOn(c)
	c.end()
}

// killInFlight kills the process while the vendor has its request, on which the vendor
// acts after that.
func (c *cut) killInFlight() {
	c.t.Helper()
	c.held.await(c.t, 1)
	c.dead.signal(c.t, os.Kill)
	receive(c.t, c.dead.ended, "the death of the process")
	c.held.release()
	receive(c.t, c.held.acted, "the vendor's change")
}

// checkVendor checks that the vendor has changed what was asked for, and only where
// it was sent.
func (c *cut) checkVendor() {
	c.t.Helper()
	if changed := !maps.Equal(c.before, c.after); changed != c.at.sent {
		c.t.Errorf("the vendor changed: %v, want %v", changed, c.at.sent)
	}
	c.spares(c.before, c.after)
	if c.change.ends && c.change.deliver == "" {
		_, alive := c.after[c.change.targets[0]]
		late := c.at.over || c.at.point == "old_ended"
		if alive == late {
			c.t.Errorf("the compromised token lives: %v", alive)
		}
	}
}

// spares checks that nothing but the targets has ended or altered, and that at most
// one token is new.
func (c *cut) spares(before, after map[string]string) {
	c.t.Helper()
	for name, was := range before {
		if after[name] != was && !slices.Contains(c.change.targets, name) {
			c.t.Errorf("%s is no target, and is %q now", name, after[name])
		}
	}
	if made := newIn(before, after); len(made) > 1 || len(made) == 1 && c.change.makes == "" {
		c.t.Errorf("new tokens: %v", made)
	}
}

func newIn(before, after map[string]string) []string {
	var made []string
	for name := range after {
		if _, ok := before[name]; !ok {
			made = append(made, name)
		}
	}
	slices.Sort(made)
	return made
}

// restart starts the next process and waits until it has ended on record what the
// dead one began.
func (c *cut) restart() {
	c.t.Helper()
	open := c.operations(c.t, ledger.Query{Outcome: ledger.OpenOutcome})
	if want := c.at.outcome != "" && !c.at.over; want != (len(open) > 0) {
		c.t.Errorf("%d operations were open at the death", len(open))
	}
	c.next = c.serveFaulty(c.t, "")
}

// checkRecord checks that the record is true.
func (c *cut) checkRecord() {
	c.t.Helper()
	found := c.operations(c.t, ledger.Query{Tool: c.change.tool, Since: c.begun, TopLevel: true})
	if c.at.outcome == "" {
		if len(found) > 0 {
			c.t.Errorf("operations of what never began: %+v", found)
		}
		return
	}
	if len(found) != 1 {
		c.t.Fatalf("%d operations of the tool", len(found))
	}
	c.op = found[0]
	if c.op.Outcome != c.at.outcome {
		c.t.Errorf("the outcome is %q (%s), want %q", c.op.Outcome, c.op.Note, c.at.outcome)
	}
	for _, target := range c.change.targets {
		_, id, _ := strings.Cut(target, "/")
		if !slices.ContainsFunc(c.op.Targets, func(t ledger.Target) bool { return t.ID == id }) {
			c.t.Errorf("target %s is not on record", id)
		}
	}
	if c.change.makes != "" {
		c.checkMinted()
	}
}

// checkMinted checks what is on record of the new secret.
func (c *cut) checkMinted() {
	c.t.Helper()
	onRecord := c.at.sent && c.at.point != "answered"
	if (c.op.NewTokenID != "") != onRecord {
		c.t.Errorf("the new token on record is %q", c.op.NewTokenID)
	}
	if onRecord && c.secretAt(c.change.makes, c.op.NewTokenID) == "" {
		c.t.Errorf("token %s on record does not exist", c.op.NewTokenID)
	}
	if c.op.Outcome == ledger.Done {
		c.inSink(c.op.NewTokenID)
	}
	if c.op.Outcome == ledger.Escrowed && len(c.inEscrow(c.t)) != 1 {
		c.t.Error("nothing is in escrow")
	}
}

// checkNamed checks that what somebody must see to is named at the start and in
// list_connections, and get_operation tells the way on.
func (c *cut) checkNamed() {
	c.t.Helper()
	if c.op.ID == "" {
		return
	}
	unsettled := c.op.Outcome == ledger.Unknown || c.op.Outcome == ledger.Escrowed
	named := cmp.Or(c.change.deliver, c.op.ID) // of a delivery, what waits for it is named
	if c.change.deliver != "" && c.change.ends {
		unsettled = true // for what is left to do after it
	}
	if strings.Contains(c.unsettled(), named) != unsettled {
		c.t.Errorf("list_connections names operation %s: %v, want %v", named, !unsettled, unsettled)
	}
	shown := c.next.ask(c.t, "get_operation", map[string]any{"operation_id": c.op.ID}).content(c.t)
	if shown["outcome"] != string(c.op.Outcome) {
		c.t.Errorf("get_operation: outcome %v", shown["outcome"])
	}
	way := fmt.Sprint(shown["note"], " ", shown["next"])
	switch {
	case c.op.Outcome == ledger.Escrowed:
		c.says(way, "deliver_secret")
	case c.op.Outcome != ledger.Unknown:
	case c.change.deliver != "":
		c.says(way, c.change.deliver, "escrow")
	case c.op.NewTokenID != "":
		c.says(way, c.op.NewTokenID, "rotate")
		if c.change.ends {
			c.says(way, c.change.replace, "still works", "revoke_token")
		}
	case c.change.replace != "":
		c.says(way, c.change.replace, "rotate")
	case c.change.name != "":
		c.says(fmt.Sprint(shown["new_token_name"]), c.change.name)
		c.says(way, "list tokens")
	case c.op.Group:
		c.says(way, "preview of what is left")
	case len(c.change.targets) == 1:
		c.says(way, "read the token")
	default:
		c.says(way, "list the tokens")
	}
}

func (c *cut) says(text string, parts ...string) {
	c.t.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			c.t.Errorf("it does not say %q: %s", part, text)
		}
	}
}

// confirmAgain sends the confirmed call once more: it never acts.
func (c *cut) confirmAgain() {
	c.t.Helper()
	if c.change.unseen {
		return
	}
	arguments := maps.Clone(c.change.arguments)
	arguments["confirm"] = c.confirm
	answer := c.next.ask(c.t, c.change.tool, arguments).Result
	switch {
	case c.at.point == "recorded":
		if answer.IsError || answer.StructuredContent["replayed"] != true {
			c.t.Errorf("the second confirmation is not replayed: %+v", answer)
		}
	case c.at.outcome == "": // its process might live
		c.says(answer.Content[0].Text, `"code":"in_progress"`)
	case c.at.over: // and here come to its answer
		c.says(answer.Content[0].Text, `"code":"in_progress"`, "get_operation "+c.op.ID)
	default:
		c.says(answer.Content[0].Text, `"code":"interrupted"`, string(c.at.outcome), c.op.ID)
	}
	c.unchanged()
}

func (c *cut) unchanged() {
	c.t.Helper()
	if n := c.changesSent(); n != c.changes {
		c.t.Errorf("%d changes were sent after the restart", n-c.changes)
	}
	if diff := gocmp.Diff(c.after, c.tokens()); diff != "" {
		c.t.Errorf("the vendors are not as at the death (-then +now):\n%s", diff)
	}
}

// minted is the way on after a minting: in the end a secret is in its sink and works.
func (c *cut) minted() {
	c.t.Helper()
	switch {
	case c.op.Outcome == ledger.Escrowed:
		delivered := c.next.do(c.t, "deliver_secret", map[string]any{"operation_id": c.op.ID})
		if delivered["status"] != "delivered" {
			c.t.Errorf("deliver_secret: %v", delivered)
		}
		if got := c.operation(c.t, c.op.ID); got.Outcome != ledger.Done {
			c.t.Errorf("after the delivery the operation is %q", got.Outcome)
		}
		c.inSink(c.op.NewTokenID)
		if left := c.inEscrow(c.t); len(left) != 0 {
			c.t.Errorf("still in escrow: %v", left)
		}
		c.endOld(c.op.ID)
	case c.op.Outcome == ledger.Done:
		answer := c.next.ask(c.t, "deliver_secret", map[string]any{"operation_id": c.op.ID}).Result
		c.says(answer.Content[0].Text, "already_delivered")
		c.endOld(c.op.ID)
	case c.op.NewTokenID != "":
		c.rotate(c.op.NewTokenID)
	default:
		c.endOrphans()
		if c.change.replace != "" {
			c.rotate(c.change.replace)
			return
		}
		c.inSink(tokenID(c.next.do(c.t, c.change.tool, c.change.arguments)))
	}
	// One secret for each delivery on record, none twice.
	if secrets := delivered(c.t, c.secretsDir()); len(slices.Compact(slices.Sorted(slices.Values(secrets)))) != len(secrets) {
		c.t.Error("a secret was delivered twice")
	}
}

// endOrphans ends the tokens that a caller finds by name and did not expect.
func (c *cut) endOrphans() {
	c.t.Helper()
	listed := c.next.do(c.t, "list_tokens", map[string]any{"connection": c.change.arguments["connection"], "query": c.change.name})
	found := 0
	for _, row := range listed["tokens"].([]any) {
		id := row.(map[string]any)["id"].(string)
		if _, expected := c.before[c.change.makes+"/"+id]; expected {
			continue
		}
		found++
		c.next.do(c.t, "revoke_token", map[string]any{"connection": c.change.arguments["connection"], "token_id": id})
	}
	if made := newIn(c.before, c.after); found != len(made) {
		c.t.Errorf("%d tokens were found, want those of %v", found, made)
	}
}

func (c *cut) rotate(id string) {
	c.t.Helper()
	rotated := c.next.do(c.t, "rotate_token", map[string]any{"connection": c.change.arguments["connection"], "token_id": id})
	if rotated["status"] != "rotated" {
		c.t.Errorf("rotate_token: %v", rotated)
	}
	c.inSink(tokenID(rotated))
}

// endOld ends the compromised token, if it lives. Until then the operation that left it
// behind is named.
func (c *cut) endOld(operation string) {
	c.t.Helper()
	if !c.change.ends {
		return
	}
	if _, alive := c.after[sandbox.Mailtrap+"/"+c.change.replace]; alive {
		c.says(c.unsettled(), operation)
		shown := c.next.ask(c.t, "get_operation", map[string]any{"operation_id": operation}).content(c.t)
		c.says(fmt.Sprint(shown["note"]), c.change.replace, "revoke_token")
		c.next.do(c.t, "revoke_token", map[string]any{"connection": "mt", "token_id": c.change.replace})
	}
	if c.secretAt(sandbox.Mailtrap, c.change.replace) != "" {
		c.t.Error("the compromised token still exists")
	}
	if left := c.unsettled(); left != "" {
		c.t.Errorf("list_connections still names what was seen to: %s", left)
	}
}

// unsettled returns the operations that list_connections names.
func (c *cut) unsettled() string {
	c.t.Helper()
	var named []string
	for _, row := range c.next.ask(c.t, "list_connections", nil).content(c.t)["connections"].([]any) {
		operations, _ := row.(map[string]any)["unsettled"].([]any)
		for _, operation := range operations {
			named = append(named, operation.(string))
		}
	}
	return strings.Join(named, "\n")
}

// delivered is the way on after a delivery from escrow: the secret is delivered once.
func (c *cut) delivered() {
	c.t.Helper()
	answer := c.next.ask(c.t, "deliver_secret", c.change.arguments).Result
	if c.op.Outcome == ledger.Done {
		c.says(answer.Content[0].Text, "already_delivered")
	} else if answer.StructuredContent["status"] != "delivered" {
		c.t.Errorf("deliver_secret: %+v", answer)
	}
	of := c.operation(c.t, c.change.deliver)
	if of.Outcome != ledger.Done {
		c.t.Errorf("the operation whose secret was delivered is %q", of.Outcome)
	}
	c.change.makes = of.Provider
	c.inSink(of.NewTokenID)
	if secrets := delivered(c.t, c.secretsDir()); len(secrets) != 1 {
		c.t.Errorf("%d secrets were delivered", len(secrets))
	}
	c.endOld(of.ID)
	// The record knows what the key holds: a rotation may replace it there.
	rotated := c.next.do(c.t, "rotate_token", map[string]any{"connection": of.Connection, "token_id": of.NewTokenID, "deliver_to": of.Sink + "/" + of.Key})
	c.inSink(tokenID(rotated))
}

// revokeRest checks what is on record of each target, asks for a preview of what is left
// and acts on that.
func (c *cut) revokeRest() {
	c.t.Helper()
	left := 0
	for n, target := range c.change.targets {
		_, alive := c.after[target]
		if alive != (n >= c.at.ended) {
			c.t.Errorf("target %d lives: %v", n+1, alive)
		}
		if alive {
			left++
		}
	}
	if c.op.ID != "" {
		c.checkParts()
	}
	preview := c.next.ask(c.t, c.change.tool, c.change.arguments).content(c.t)
	if left == 0 {
		if preview["status"] != "nothing_to_revoke" {
			c.t.Errorf("nothing is left, and the preview says %v", preview)
		}
		return
	}
	arguments := maps.Clone(c.change.arguments)
	arguments["confirm"] = preview["confirm"]
	done := c.next.ask(c.t, c.change.tool, arguments).content(c.t)
	if revoked, _ := done["revoked"].([]any); len(revoked) != left || done["status"] != "revoked" {
		c.t.Errorf("of %d tokens that were left: %v", left, done)
	}
	now := c.tokens()
	c.spares(c.before, now)
	for _, target := range c.change.targets {
		if _, alive := now[target]; alive {
			c.t.Errorf("%s still lives", target)
		}
	}
}

// checkParts checks what is on record of each target that was begun.
func (c *cut) checkParts() {
	c.t.Helper()
	var parts []ledger.Outcome
	for _, op := range slices.Backward(c.operations(c.t, ledger.Query{Parent: c.op.ID})) {
		parts = append(parts, op.Outcome)
	}
	if diff := gocmp.Diff(c.at.parts, parts); diff != "" {
		c.t.Errorf("outcomes of the targets (-want +got):\n%s", diff)
	}
	shown := c.next.ask(c.t, "get_operation", map[string]any{"operation_id": c.op.ID}).content(c.t)
	for _, outcome := range parts {
		c.says(fmt.Sprint(shown["parts"]), string(outcome))
	}
}

// again asks for a new preview, which shows what is left, and acts.
func (c *cut) again() {
	c.t.Helper()
	answer := c.next.ask(c.t, c.change.tool, c.change.arguments).Result
	preview := answer.StructuredContent
	if c.at.sent {
		if preview["confirm"] != nil {
			c.t.Errorf("there is something left to do: %v", preview)
		}
		return
	}
	if c.change.approve {
		if _, err := c.record(c.t).ApprovePreview(c.t.Context(), preview["preview_id"].(string), "ops"); err != nil {
			c.t.Fatal(err)
		}
	}
	arguments := maps.Clone(c.change.arguments)
	arguments["confirm"] = preview["confirm"]
	c.next.ask(c.t, c.change.tool, arguments).content(c.t)
	now := c.tokens()
	if maps.Equal(c.before, now) {
		c.t.Error("nothing was done the second time")
	}
	c.spares(c.before, now)
}

// end ends the last process, and looks at what all of them left behind.
func (c *cut) end() {
	c.t.Helper()
	_ = c.next.stdin.Close()
	c.next.exit(c.t, 0)
	c.checkRemains(c.t, c.dead, c.next)
}

// inSink checks that the secret of the token is in the sink, and works.
func (c *cut) inSink(id string) {
	c.t.Helper()
	secret := c.secretAt(c.change.makes, id)
	if !slices.Contains(delivered(c.t, c.secretsDir()), secret) {
		c.t.Errorf("the secret of token %s is in no sink", id)
	}
	if !c.opens(c.t, c.change.makes, secret) {
		c.t.Errorf("the secret of token %s does not work", id)
	}
}

func tokenID(content map[string]any) string {
	row, _ := content["token"].(map[string]any)
	id, _ := row["id"].(string)
	return id
}

// crashConfig configures the three vendors and their only sink.
func (v *vendors) crashConfig(t *testing.T) string {
	t.Helper()
	limits := map[string]any{"revocations_per_hour": 1000}
	return v.config(t, map[string]any{"connections": map[string]any{
		"ld": map[string]any{
			"provider": "launchdarkly", "base_url": v.access.LaunchDarkly.BaseURL,
			"credential": v.credentialFile(t, "ld", v.access.LaunchDarkly.Credential), "limits": limits,
		},
		"mt": map[string]any{
			"provider": "mailtrap", "base_url": v.access.Mailtrap.BaseURL, "account_id": v.access.Mailtrap.AccountID,
			"credential": v.credentialFile(t, "mt", v.access.Mailtrap.Credential), "limits": limits,
			"mint": map[string]any{"access": []string{"read", "account_admin"}},
		},
		"org": map[string]any{
			"provider": "atlassian", "base_url": v.access.Atlassian.BaseURL, "org_id": v.access.Atlassian.OrgID,
			"credential": v.credentialFile(t, "org", v.access.Atlassian.Credential), "org_wide_revoke": true, "limits": limits,
		},
	}})
}

// serveFaulty starts a server over stdio that dies at the point; empty: nowhere. It
// waits until that has ended on record what earlier ones had begun.
func (v *vendors) serveFaulty(t *testing.T, point string) *process {
	t.Helper()
	var open []ledger.Operation
	if ledger.Exists(filepath.Join(v.stateDir(), "ledger.db")) {
		open = v.operations(t, ledger.Query{Outcome: ledger.OpenOutcome})
	}
	p := v.startFaulty(t, point)
	p.initialize(t)
	for i := range open {
		p.err.await(t, "the end on record of operation "+open[i].ID, func(all string) bool {
			return slices.ContainsFunc(logLines(t, all), func(l logLine) bool {
				return l.Msg == "operation was cut off" && l.Operation == open[i].ID && l.Outcome != ""
			})
		})
	}
	return p
}

func (v *vendors) startFaulty(t *testing.T, point string) *process {
	t.Helper()
	lease := cmp.Or(v.lease, 100*time.Millisecond)
	env := append(v.bareEnv(), "TOKENREEVE_FAULT_POINT="+point, "TOKENREEVE_FAULT_LEASE="+lease.String())
	return startBinary(t, faultyBinary(t), env, "--config", v.crashConfig(t), "--log-format", "json")
}

// logLine is a line of the log, as far as these tests read it.
type logLine struct{ Msg, Operation, Outcome, Head string }

func logLines(t *testing.T, all string) []logLine {
	t.Helper()
	var lines []logLine
	for text := range strings.Lines(all) {
		var line logLine
		if strings.HasSuffix(text, "\n") { // the last one may be cut
			if err := json.Unmarshal([]byte(text), &line); err != nil {
				t.Errorf("log: %q: %v", text, err)
			}
		}
		lines = append(lines, line)
	}
	return lines
}

// killed waits until the process is killed by its fault point. It must not come to
// answer the call.
func (p *process) killed(t *testing.T, call string) {
	t.Helper()
	timeout := time.After(hang)
	for {
		all, changed := p.out.state()
		for _, m := range messages(t, all) {
			if fmt.Sprint(m.ID) == call {
				t.Fatalf("the point was never reached: %+v", m.Result)
			}
		}
		select {
		case <-changed:
		case <-timeout:
			t.Fatalf("the point was never reached; the process said:\n%s", p.err)
		case <-p.ended:
			status, ok := p.cmd.ProcessState.Sys().(syscall.WaitStatus)
			if !ok || !status.Signaled() || status.Signal() != syscall.SIGKILL {
				t.Fatalf("the process was not killed: %s; it said:\n%s", p.cmd.ProcessState, p.err)
			}
			return
		}
	}
}

// ask calls a tool and waits for the answer.
func (p *process) ask(t *testing.T, tool string, arguments map[string]any) message {
	t.Helper()
	id := rand.Text()
	p.call(t, id, tool, arguments)
	return p.answer(t, id)
}

// content is the structured content of a call that must have succeeded.
func (m message) content(t *testing.T) map[string]any {
	t.Helper()
	if m.Error != nil || m.Result.IsError {
		t.Fatalf("the call failed: %+v %+v", m.Error, m.Result)
	}
	return m.Result.StructuredContent
}

// do calls a tool, confirms its preview if it shows one, and returns the result.
func (p *process) do(t *testing.T, tool string, arguments map[string]any) map[string]any {
	t.Helper()
	content := p.ask(t, tool, arguments).content(t)
	if content["status"] != "confirmation_required" {
		return content
	}
	confirmed := maps.Clone(arguments)
	confirmed["confirm"] = content["confirm"]
	return p.ask(t, tool, confirmed).content(t)
}

// record opens the ledger for as long as the function runs that asks for it.
func (v *vendors) record(t *testing.T) *ledger.Ledger {
	t.Helper()
	return v.ledger(t, nil)
}

// operations reads operations from the record, newest first.
func (v *vendors) operations(t *testing.T, q ledger.Query) []ledger.Operation {
	t.Helper()
	q.Limit = ledger.MaxPage
	page, err := v.record(t).List(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	return page.Operations
}

func (v *vendors) operation(t *testing.T, id string) ledger.Operation {
	t.Helper()
	op, err := v.record(t).Get(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return op
}

// tokens is what the vendors know of each token that a change could alter, by VENDOR/ID.
func (v *vendors) tokens() map[string]string {
	known := map[string]string{}
	for _, t := range v.LaunchDarklyTokens() {
		known[sandbox.LaunchDarkly+"/"+t.ID] = fmt.Sprint(t.Name, t.Role, t.Secret, t.OldSecrets)
	}
	for _, t := range v.MailtrapTokens() {
		known[sandbox.Mailtrap+"/"+strconv.FormatInt(t.ID, 10)] = fmt.Sprint(t.Name, t.Resources, t.Secret, t.ExpiresAt)
	}
	for _, t := range v.AtlassianTokens() {
		known[sandbox.Atlassian+"/"+t.ID] = fmt.Sprint(t.Label, t.Status, t.AccountID, t.ExpiresAt)
	}
	return known
}

// secretAt returns the present secret of a token; empty: there is no such token.
func (v *vendors) secretAt(vendor, id string) string {
	for _, t := range v.LaunchDarklyTokens() {
		if vendor == sandbox.LaunchDarkly && t.ID == id {
			return t.Secret
		}
	}
	for _, t := range v.MailtrapTokens() {
		if vendor == sandbox.Mailtrap && strconv.FormatInt(t.ID, 10) == id {
			return t.Secret
		}
	}
	return ""
}

// opens reports whether the vendor accepts the secret.
func (v *vendors) opens(t *testing.T, vendor, secret string) bool {
	t.Helper()
	url, header := v.access.LaunchDarkly.BaseURL+"/api/v2/caller-identity", secret
	if vendor == sandbox.Mailtrap {
		url, header = v.access.Mailtrap.BaseURL+"/api/accounts", "Bearer "+secret
	}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", header)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	return response.StatusCode == http.StatusOK
}

// changesSent counts the requests that would change something.
func (v *vendors) changesSent() int {
	n := 0
	for _, r := range v.Requests() {
		if r.Method != http.MethodGet {
			n++
		}
	}
	return n
}

// inEscrow names what is in escrow. Nothing but encrypted files may be there.
func (v *vendors) inEscrow(t *testing.T) []string {
	t.Helper()
	var held []string
	dir := filepath.Join(v.stateDir(), "escrow")
	found, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	for _, entry := range found {
		data, err := os.ReadFile(filepath.Join(dir, entry.Name()))
		if err != nil {
			t.Fatal(err)
		}
		// A file that was being written when the process was killed can be empty or cut off.
		whole, header := !strings.HasPrefix(entry.Name(), "."), []byte("age-encryption.org/v1\n")
		if !bytes.HasPrefix(data, header) && (whole || !bytes.HasPrefix(header, data)) {
			t.Errorf("the escrow holds %s, which is not encrypted", entry.Name())
		}
		if whole {
			held = append(held, entry.Name())
		}
	}
	return held
}

// checkRemains checks what processes left behind: a record that verifies, also by the
// last head that each of them logged, and no secret but in sink and escrow.
func (v *vendors) checkRemains(t *testing.T, processes ...*process) {
	t.Helper()
	v.verify(t)
	for _, p := range processes {
		if heads := regexp.MustCompile(`"head":"([0-9a-f]{64})"`).FindAllStringSubmatch(p.err.String(), -1); heads != nil {
			v.verify(t, "--head", heads[len(heads)-1][1])
		}
		v.noSecretIn(t, "stdout", p.out.String())
		v.noSecretIn(t, "stderr", p.err.String())
	}
	v.inEscrow(t)
	err := filepath.WalkDir(v.stateDir(), func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case path == v.secretsDir():
			return fs.SkipDir
		case entry.IsDir():
			return nil
		}
		data, err := os.ReadFile(path)
		v.noSecretIn(t, path, string(data))
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// verify runs the command that verifies the record.
func (v *vendors) verify(t *testing.T, flags ...string) {
	t.Helper()
	p := startBinary(t, faultyBinary(t), v.bareEnv(), append([]string{"ledger", "verify"}, flags...)...)
	p.exit(t, 0)
	if !strings.Contains(p.out.String(), "result: as it was written\n") {
		t.Errorf("ledger verify %v: %s", flags, p.out)
	}
}
