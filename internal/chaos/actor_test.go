package chaos_test

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/tokenreeve/tokenreeve/auth"
	"github.com/tokenreeve/tokenreeve/internal/sandbox"
)

// args are the arguments of a call.
type args = map[string]any

// actor carries out one operation, as one caller at one server.
type actor struct {
	*world
	*rand.Rand
	number int
	who    auth.Principal
	at     *process
}

// act carries out operation number n. The seed and the number decide what it does,
// and what the others have done so far on what.
func (w *world) act(n int) {
	dice := rand.New(rand.NewPCG(w.seed, uint64(n)<<8))
	a := &actor{world: w, Rand: dice, number: n}
	a.who = principals()[a.IntN(3)]
	a.at = w.servers[a.IntN(len(w.servers))]
	deeds := []struct {
		weight int
		do     func()
	}{
		{150, a.createLaunchDarkly},
		{150, a.createMailtrap},
		{120, a.update},
		{130, a.rotate},
		{130, a.revoke},
		{40, a.bulkByIDs},
		{30, a.bulkByFilter},
		{25, a.serviceAccount},
		{2, a.everything},
		{70, a.deliver},
		{110, a.read},
		{40, a.outsider},
		{3, func() { a.at.restart() }},
	}
	total := 0
	for _, d := range deeds {
		total += d.weight
	}
	roll := a.IntN(total)
	for _, d := range deeds {
		if roll -= d.weight; roll < 0 {
			d.do()
			return
		}
	}
}

// oneIn is true once in n times.
func (a *actor) oneIn(n int) bool { return a.IntN(n) == 0 }

func pick[T any](a *actor, from ...T) T { return from[a.IntN(len(from))] }

// call calls a tool as the actor.
func (a *actor) call(tool string, arguments args) answer {
	return a.callIn(context.Background(), tool, arguments)
}

func (a *actor) callIn(ctx context.Context, tool string, arguments args) answer {
	a.at.running.RLock()
	defer a.at.running.RUnlock()
	c := a.at.client
	if a.number%4 == 0 {
		c = a.at.asking
	}
	got := a.at.call(auth.WithPrincipal(ctx, a.who), c, tool, arguments)
	a.note(tool, arguments, got)
	return got
}

// hangUp calls a tool through a client of its own, and closes that meanwhile.
func (a *actor) hangUp(tool string, arguments args) answer {
	a.at.running.RLock()
	defer a.at.running.RUnlock()
	c := a.at.connect()
	closing := time.AfterFunc(time.Duration(a.IntN(40))*time.Millisecond, func() { _ = c.Close() })
	defer closing.Stop()
	got := a.at.call(auth.WithPrincipal(context.Background(), a.who), c, tool, arguments)
	a.note(tool, arguments, got)
	return got
}

// cancelled calls a tool and gives up soon.
func (a *actor) cancelled(tool string, arguments args) answer {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	defer time.AfterFunc(time.Duration(a.IntN(60))*time.Millisecond, cancel).Stop()
	return a.callIn(ctx, tool, arguments)
}

// note remembers what an answer showed and told.
func (a *actor) note(tool string, arguments args, got answer) {
	a.mu.Lock()
	defer a.mu.Unlock()
	d := &got.data
	a.said[cmp.Or(d.Code, d.Status, "read")]++
	switch {
	case got.isError:
		return
	case d.Status == "confirmation_required":
		p := &preview{principal: a.who.Name, tool: tool, everything: arguments["everything"] == true}
		var shown struct{ Rows [][]string }
		if len(d.Targets) > 0 && json.Unmarshal(d.Targets, &shown) != nil {
			a.t.Errorf("%s shows %s", tool, d.Targets)
		}
		for _, row := range shown.Rows {
			p.targets = append(p.targets, row[0])
		}
		p.named, _ = arguments["token_ids"].([]string)
		if arguments["all_of_service_account"] == true {
			p.account = arguments["service_accounts"].(string)
		}
		if tool == updateTool {
			p.role, _ = arguments["role"].(string)
			p.description = descriptionOf(arguments)
		}
		a.previews[d.PreviewID] = p
	case d.OperationID != "" && tool != "get_operation":
		t := told{operation: d.OperationID, status: d.Status, results: map[string]string{}}
		for _, id := range d.Revoked {
			t.results[id] = "revoked"
		}
		for _, r := range d.Results {
			t.results[r.ID] = r.Result
		}
		a.answers = append(a.answers, t)
		if d.Status == "escrowed" {
			var made struct{ ID string }
			if err := json.Unmarshal(d.Token, &made); err != nil {
				a.t.Errorf("%s made %s", tool, d.Token)
			}
			a.escrowed = append(a.escrowed, held{d.OperationID, a.who.Name, target{arguments["connection"].(string), made.ID, ""}})
		}
	}
}

// with returns the arguments with one more.
func with(base args, name string, value any) args {
	all := maps.Clone(base)
	all[name] = value
	return all
}

// change previews a change and confirms it, in one of many ways.
func (a *actor) change(tool string, arguments args) answer {
	shown := a.call(tool, arguments)
	if shown.isError || shown.data.Confirm == "" {
		return shown
	}
	code := shown.data.Confirm
	if a.oneIn(3) { // others come between
		time.Sleep(time.Duration(a.IntN(50)) * time.Millisecond)
	}
	switch a.IntN(30) {
	case 0, 1:
		return shown // never mind
	case 2:
		guess := pick[any](a, strings.Repeat("A", 26), "yes", true, code[:25], strings.ToLower(code), code+"A", 1)
		a.mustNotAct(tool, with(arguments, "confirm", guess), "confirmation_required", "")
	case 3:
		other := pick(a, principals()...)
		if other.Name == a.who.Name {
			break
		}
		thief := *a
		thief.who = other
		thief.mustNotAct(tool, with(arguments, "confirm", code), "confirmation_required", "")
	case 4:
		a.mustNotAct(tool, a.altered(tool, with(arguments, "confirm", code)), "", "preview_mismatch")
	case 5:
		if a.who.Name == auth.Local().Name && a.oneIn(2) { // another window of the same user
			a.at = a.servers[a.IntN(len(a.servers))]
		}
	}
	a.mu.Lock()
	a.previews[shown.data.PreviewID].confirmed = true
	a.mu.Unlock()
	return a.confirm(tool, with(arguments, "confirm", code))
}

// confirm sends the call with its code, in one of several ways.
func (a *actor) confirm(tool string, arguments args) answer {
	switch a.IntN(12) {
	case 0:
		first := a.cancelled(tool, arguments)
		if a.oneIn(2) {
			return first
		}
		return a.call(tool, arguments)
	case 1:
		return a.hangUp(tool, arguments)
	case 2: // twice at once
		var both [2]answer
		var wg sync.WaitGroup
		for i := range both {
			twin := *a
			twin.Rand = rand.New(rand.NewPCG(a.Uint64(), 0))
			wg.Go(func() { both[i] = twin.call(tool, arguments) })
		}
		wg.Wait()
		return both[a.IntN(2)]
	case 3:
		first := a.call(tool, arguments)
		a.mustRepeat(tool, arguments, first)
		return first
	}
	return a.call(tool, arguments)
}

// mustNotAct sends what must not change anything. That it did not, the evidence
// tells; here counts what it is answered, where the vendors let it be answered.
func (a *actor) mustNotAct(tool string, arguments args, status, code string) {
	got := a.call(tool, arguments)
	isFine := got.data.Status == status || got.data.Status == "nothing_to_revoke"
	if !got.isError && !isFine || got.isError && code != "" && got.data.Code != code && !unrelated(got.data.Code) {
		a.t.Errorf("%s with a wrong code: %s", tool, got.text)
	}
}

// unrelated tells the errors that any call can meet.
func unrelated(code string) bool {
	return slices.Contains([]string{"server_stopping", "ledger_unavailable", "cancelled", "rate_limited", "vendor_unavailable", "vendor_timeout", "bad_vendor_answer", "vendor_contradiction", "credential_rejected", "forbidden", "own_credential_unknown", "unknown_resource"}, code)
}

// mustRepeat sends a spent code again: nothing happens, and the answer is the same.
func (a *actor) mustRepeat(tool string, arguments args, first answer) {
	again := a.call(tool, arguments)
	switch {
	case again.data.Replayed && again.data.Status == first.data.Status && again.data.OperationID == first.data.OperationID && again.data.Code == first.data.Code:
	case first.isError && unrelated(first.data.Code), unrelated(again.data.Code): // the code was not spent, or nothing could be read
	case slices.Contains([]string{"not_approved", "declined", "human_required", "in_progress"}, first.data.Code):
	case first.data.Status == "confirmation_required": // the code was one no more
	case arguments["everything"] == true && again.data.Code == first.data.Code: // refused before a person was asked
	default:
		a.t.Errorf("%s repeated: first %s\nthen %s", tool, first.text, again.text)
	}
}

// altered changes one argument.
func (a *actor) altered(tool string, arguments args) args {
	switch tool {
	case updateTool:
		if arguments["patch"] == nil {
			return with(arguments, "name", "another")
		}
		return with(arguments, "patch", `[{"op":"add","path":"/description","value":"another"}]`)
	case createLD, createMT:
		return with(arguments, "name", "another")
	case rotateTool:
		return with(arguments, "deliver_to", "files/another/"+strconv.Itoa(a.number))
	default:
		return with(arguments, "reason", "another")
	}
}

// The tools that change something.
const (
	createLD   = "create_launchdarkly_token"
	createMT   = "create_mailtrap_token"
	updateTool = "update_launchdarkly_token"
	rotateTool = "rotate_token"
	revokeTool = "revoke_token"
	bulkTool   = "bulk_revoke_tokens"
)

// name is that of a token to be made: its own, or one that others use as well.
func (a *actor) name() string {
	if a.oneIn(10) {
		return "same-" + strconv.Itoa(a.IntN(5))
	}
	return "token-" + strconv.Itoa(a.number)
}

// deliverTo sometimes names where the secret goes.
func (a *actor) deliverTo(arguments args) args {
	switch n := strconv.Itoa(a.number); a.IntN(20) {
	case 0, 1, 2:
		return with(arguments, "deliver_to", "files/ci/"+n)
	case 3, 4:
		return with(arguments, "deliver_to", "blind/ci/"+n)
	case 5:
		return with(arguments, "deliver_to", "files/ci/shared-"+strconv.Itoa(a.IntN(4)))
	case 6:
		return with(arguments, "deliver_to", pick(a, "nowhere/x", "files/../x", "files"))
	}
	return arguments
}

// make creates a token. Its name is known meanwhile: who ended a token of which the
// call still wonders whether it was made would deceive it.
func (a *actor) make(tool string, arguments args) answer {
	name := arguments["name"].(string)
	a.mu.Lock()
	a.making[name]++
	a.mu.Unlock()
	defer func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.making[name]--
	}()
	if a.oneIn(20) {
		return a.cancelled(tool, arguments)
	}
	return a.change(tool, arguments) // of most tokens there is no preview
}

func (a *actor) createLaunchDarkly() {
	if len(a.box.LaunchDarklyTokens()) > 150 {
		a.revoke()
		return
	}
	a.makeLaunchDarkly(a.name())
}

func (a *actor) makeLaunchDarkly(name string) answer {
	role := pick(a, "reader", "reader", "reader", "writer", "writer", "admin")
	arguments := args{"connection": a.launchDarkly(), "name": name, "role": role, "service_token": a.oneIn(2)}
	return a.make(createLD, a.deliverTo(arguments))
}

func (a *actor) launchDarkly() string { return pick(a, ldName, ldName, ldAgainName) }

func (a *actor) createMailtrap() {
	if len(a.box.MailtrapTokens()) > 150 {
		a.revoke()
		return
	}
	a.makeMailtrap(a.name())
}

func (a *actor) makeMailtrap(name string) answer {
	node := pick(a, a.box.MailtrapResources()...)
	arguments := args{"connection": mtName, "name": name, "permissions": []args{{
		"resource_type": node.ResourceType, "resource_id": strconv.FormatInt(node.ResourceID, 10), "access_level": pick(a, "viewer", "admin"),
	}}}
	if a.oneIn(3) {
		arguments["expires"] = pick(a, "90d", "2h", "never")
	}
	return a.make(createMT, a.deliverTo(arguments))
}

// target is a token at a connection.
type target struct{ connection, id, owner string }

// target picks a token: one of few, any, or one that is gone.
func (a *actor) target(connection string) target {
	a.mu.Lock()
	gone := slices.DeleteFunc(slices.Clone(a.gone), func(t target) bool { return t.connection != connection })
	a.mu.Unlock()
	if len(gone) > 0 && a.oneIn(25) {
		return pick(a, gone...)
	}
	all := a.choice(connection)
	if len(all) == 0 {
		return target{connection, "1", ""}
	}
	if a.oneIn(2) {
		all = all[:min(len(all), 6)]
	}
	return pick(a, all...)
}

// choice lists the tokens of a connection that a caller may pick: not the ones that a
// call is still making, and of the credentials no more than happens by mistake.
func (a *actor) choice(connection string) (all []target) {
	a.mu.Lock()
	making := maps.Clone(a.making)
	a.mu.Unlock()
	add := func(id, owner, name, credential string) {
		if making[name] == 0 && (credential == "" || a.oneIn(40)) {
			all = append(all, target{connection, id, owner})
		}
	}
	switch connection {
	case atlassianName:
		for _, t := range a.box.AtlassianTokens() {
			if !t.Unmanaged {
				add(t.ID, t.AccountID, t.Label, "")
			}
		}
	case mtName:
		for _, t := range a.box.MailtrapTokens() {
			add(strconv.FormatInt(t.ID, 10), "", t.Name, t.Credential)
		}
	default:
		for _, t := range a.box.LaunchDarklyTokens() {
			add(t.ID, "", t.Name, t.Credential)
		}
	}
	return all
}

// descriptionOf is what an update asks for.
func descriptionOf(arguments args) string {
	if d, ok := arguments["description"].(string); ok {
		return d
	}
	patch, _ := arguments["patch"].(string)
	_, d, _ := strings.Cut(patch, `"value":"`)
	d, _, _ = strings.Cut(d, `"`)
	return d
}

func (a *actor) update() {
	t := a.target(a.launchDarkly())
	arguments := args{"connection": t.connection, "token_id": t.id}
	description := "as operation " + strconv.Itoa(a.number) + " asked"
	if a.oneIn(6) {
		arguments["patch"] = `[{"op":"add","path":"/description","value":"` + description + `"}]`
	} else {
		arguments["description"] = description
		if !a.oneIn(3) {
			arguments["role"] = pick(a, "reader", "writer")
		}
	}
	a.change(updateTool, arguments)
}

func (a *actor) rotate() {
	t := a.target(pick(a, a.launchDarkly(), mtName))
	arguments := args{"connection": t.connection, "token_id": t.id}
	switch {
	case a.oneIn(3):
		arguments["compromised"] = true
	case t.connection != mtName && a.oneIn(2):
		arguments["overlap"] = "1h"
	}
	a.change(rotateTool, a.deliverTo(arguments))
}

func (a *actor) revoke() {
	t := a.target(pick(a, a.launchDarkly(), mtName, atlassianName))
	arguments := args{"connection": t.connection, "token_id": t.id, "reason": "operation " + strconv.Itoa(a.number)}
	if t.owner != "" && !a.oneIn(3) {
		arguments["owner"] = t.owner
	}
	a.ended(a.change(revokeTool, arguments), t)
}

// ended remembers tokens that are gone, for who names one all the same.
func (a *actor) ended(got answer, targets ...target) {
	if got.isError || got.data.Status != "revoked" {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.gone = append(a.gone, targets...)
}

func (a *actor) bulkByIDs() {
	connection := pick(a, a.launchDarkly(), mtName, atlassianName)
	var targets []target
	var ids []string
	for range 2 + a.IntN(5) {
		if t := a.target(connection); !slices.Contains(ids, t.id) {
			targets, ids = append(targets, t), append(ids, t.id)
		}
	}
	arguments := args{"connection": connection, "token_ids": ids, "reason": "operation " + strconv.Itoa(a.number)}
	if a.oneIn(5) {
		arguments["exclude"] = ids[:1]
	}
	a.ended(a.change(bulkTool, arguments), targets...)
}

// bulkByFilter makes some tokens of one name and ends them by it.
func (a *actor) bulkByFilter() {
	name := fmt.Sprintf("crate-%d-", a.number)
	arguments := args{"query": name, "reason": "operation " + strconv.Itoa(a.number)}
	count := 2 + a.IntN(3)
	switch arguments["connection"] = pick(a, a.launchDarkly(), mtName, atlassianName); arguments["connection"] {
	case mtName:
		for i := range count {
			a.makeMailtrap(name + strconv.Itoa(i))
		}
	case atlassianName:
		owner := ""
		for i := range count {
			owner = a.addAtlassian(sandbox.AtlassianToken{Label: name + strconv.Itoa(i), AccountID: owner, OwnerName: name, OwnerEmail: name + "@acme.example"})
		}
		if a.oneIn(2) {
			delete(arguments, "query")
			arguments["owner"] = owner
		}
	default:
		for i := range count {
			a.makeLaunchDarkly(name + strconv.Itoa(i))
		}
	}
	a.change(bulkTool, arguments)
}

// addAtlassian adds a token, as people do in their account settings, and returns its owner.
func (a *actor) addAtlassian(t sandbox.AtlassianToken) string {
	made, err := a.box.AddAtlassianToken(t)
	if err != nil {
		a.t.Error(err)
	}
	return made.AccountID
}

// serviceAccount ends all tokens of one account, to which somebody may add one meanwhile.
func (a *actor) serviceAccount() {
	var accounts []sandbox.AtlassianAccount
	for _, account := range a.box.AtlassianAccounts() {
		if account.ServiceAccount {
			accounts = append(accounts, account)
		}
	}
	account := pick(a, accounts...)
	add := func() {
		a.addAtlassian(sandbox.AtlassianToken{Label: fmt.Sprintf("robot-%d", a.number), AccountID: account.ID, ServiceAccount: true})
	}
	for range max(0, 2-account.Tokens) {
		add()
	}
	if a.oneIn(5) {
		late := time.AfterFunc(time.Duration(a.IntN(60))*time.Millisecond, add)
		defer late.Stop()
	}
	a.change(bulkTool, args{
		"connection": atlassianName, "service_accounts": account.ID, "all_of_service_account": true, "reason": "operation " + strconv.Itoa(a.number),
	})
}

// everything ends all users' tokens, which only a person can allow; then people make
// new ones.
func (a *actor) everything() {
	a.number &^= 3 // with a client that can ask
	a.change(bulkTool, args{"connection": atlassianName, "everything": true, "reason": "operation " + strconv.Itoa(a.number)})
	if len(a.choice(atlassianName)) > 40 {
		return
	}
	for i := range 40 {
		name := fmt.Sprintf("person-%d-%d", a.number, i/2)
		a.addAtlassian(sandbox.AtlassianToken{Label: fmt.Sprint("again ", i), OwnerName: name, OwnerEmail: name + "@acme.example"})
	}
}

// deliver delivers from escrow, sometimes what is another's, or was delivered already.
func (a *actor) deliver() {
	a.mu.Lock()
	all := slices.Clone(a.escrowed)
	a.mu.Unlock()
	if len(all) == 0 {
		a.rotate()
		return
	}
	h := all[len(all)-1-a.IntN(min(len(all), 12))]
	if !a.oneIn(8) {
		i := slices.IndexFunc(principals(), func(p auth.Principal) bool { return p.Name == h.principal })
		a.who = principals()[i]
	}
	var rotating sync.WaitGroup
	defer rotating.Wait()
	if a.oneIn(5) { // then the secret is not the newest any more
		twin := *a
		twin.Rand = rand.New(rand.NewPCG(a.Uint64(), 0))
		rotating.Go(func() { twin.change(rotateTool, args{"connection": h.connection, "token_id": h.id}) })
		if a.oneIn(2) {
			rotating.Wait()
		}
	}
	arguments := args{"operation_id": h.operation}
	if a.oneIn(2) {
		arguments["deliver_to"] = pick(a, "files", "blind") + "/rescued/" + strconv.Itoa(a.number)
	}
	if a.oneIn(6) {
		a.cancelled("deliver_secret", arguments)
		return
	}
	if !a.oneIn(4) {
		a.call("deliver_secret", arguments)
		return
	}
	var wg sync.WaitGroup
	for i := range 2 { // two at once, to two places
		twin := *a
		twin.at = a.servers[a.IntN(len(a.servers))]
		wg.Go(func() {
			twin.call("deliver_secret", with(arguments, "deliver_to", fmt.Sprintf("files/twice/%d-%d", a.number, i)))
		})
	}
	wg.Wait()
}

// read calls a tool that changes nothing.
func (a *actor) read() {
	connection := pick(a, a.launchDarkly(), mtName, atlassianName)
	t := a.target(connection)
	one := args{"connection": connection, "token_id": t.id}
	if t.owner != "" {
		one["owner"] = t.owner
	}
	operation := ""
	a.mu.Lock()
	if len(a.answers) > 0 {
		operation = a.answers[a.IntN(len(a.answers))].operation
	}
	a.mu.Unlock()
	reads := []struct {
		tool      string
		arguments args
	}{
		{"get_token", one},
		{"get_token", one},
		{"list_tokens", args{"limit": 20, "detail": "full", "connection": connection}},
		{"list_tokens", args{"limit": 5, "sort": "-created", "query": "token"}},
		{"count_tokens", args{"group_by": "status"}},
		{"list_operations", args{"outcome": pick(a, "unknown", "escrowed", "failed", "done", "open")}},
		{"get_operation", args{"operation_id": operation}},
		{"get_operation", args{"operation_id": operation}},
		{"list_connections", args{}},
	}
	read := pick(a, reads...)
	if a.oneIn(5) {
		a.cancelled(read.tool, read.arguments)
		return
	}
	a.call(read.tool, read.arguments)
}

// outsider is somebody at the vendor's own pages.
func (a *actor) outsider() {
	t := a.target(pick(a, ldName, mtName, atlassianName))
	number, _ := strconv.ParseInt(t.id, 10, 64)
	name := "renamed-" + strconv.Itoa(a.number)
	ends := a.oneIn(3)
	switch t.connection {
	case atlassianName:
		if ends {
			a.box.DeleteAtlassianToken(t.id)
			return
		}
		a.addAtlassian(sandbox.AtlassianToken{Label: "own-" + strconv.Itoa(a.number), AccountID: t.owner, OwnerName: "New Person", OwnerEmail: name + "@acme.example"})
	case mtName:
		if ends && number != a.access.Mailtrap.TokenID {
			a.box.DeleteMailtrapToken(number)
			return
		}
		_ = a.box.UpdateMailtrapToken(number, func(t *sandbox.MailtrapToken) { t.Name = name }) // it may be gone
	default:
		if ends && t.id != a.access.LaunchDarkly.TokenID {
			a.box.DeleteLaunchDarklyToken(t.id)
			return
		}
		_ = a.box.UpdateLaunchDarklyToken(t.id, func(t *sandbox.LaunchDarklyToken) { t.Name = name })
	}
}
