package chaos_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/tokenreeve/tokenreeve/internal/ledger"
	"github.com/tokenreeve/tokenreeve/internal/sandbox"
)

// at is a moment of the made-up run, in seconds.
func at(second int) time.Time {
	return time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC).Add(time.Duration(second) * time.Second)
}

// story makes evidence, one operation after the other, each a second long.
type story struct {
	*evidence
	now int
}

// operation adds one with its preview, of the same name, where it has one.
func (s *story) operation(id, class string, outcome ledger.Outcome, vendor string, targets ...string) *ledger.Operation {
	s.now += 10
	op := ledger.Operation{ID: id, Outcome: outcome, Started: at(s.now), Ended: at(s.now + 9)}
	op.Class, op.Tool, op.Principal, op.Provider = ledger.Class(class), class+"_tool", "local", vendor
	for _, target := range targets {
		op.Targets = append(op.Targets, ledger.Target{ID: target, Name: target + " name"})
	}
	if class != "mint" {
		op.Preview = id
		s.previews[id] = &preview{principal: "local", tool: op.Tool, targets: targets, confirmed: true}
	}
	s.operations = append(s.operations, op)
	return &s.operations[len(s.operations)-1]
}

// change adds what the vendor did during the last operation.
func (s *story) change(vendor string, kind sandbox.ChangeKind, token, secret string) *sandbox.Change {
	s.changes = append(s.changes, sandbox.Change{
		Vendor: vendor, Kind: kind, Token: token, Secret: secret, Name: token + " name", Request: uint64(100 + len(s.changes)), Time: at(s.now + 5),
	})
	return &s.changes[len(s.changes)-1]
}

// made adds a new token, or a new secret of one.
func (s *story) made(vendor string, kind sandbox.ChangeKind, id, secret string) *sandbox.Change {
	s.alive[ref{vendor, id}] = token{secret: secret}
	return s.change(vendor, kind, id, secret)
}

func (s *story) ends(vendor, id string) *sandbox.Change {
	delete(s.alive, ref{vendor, id})
	return s.change(vendor, sandbox.TokenDeleted, id, "")
}

// agreeing is evidence without a contradiction.
func agreeing() *evidence {
	const ld, mt, atlassian = sandbox.LaunchDarkly, sandbox.Mailtrap, sandbox.Atlassian
	s := &story{evidence: &evidence{
		alive: map[ref]token{}, services: map[string]bool{"robot": true}, previews: map[string]*preview{}, sinks: map[place]string{}, escrow: map[string]string{},
	}}
	for _, id := range []string{"updated", "spared"} {
		s.alive[ref{ld, id}] = token{role: "reader"}
	}
	s.operation("revoke", "revoke", ledger.Done, ld, "revoked")
	s.ends(ld, "revoked")
	s.answers = append(s.answers, told{operation: "revoke", status: "revoked"})
	s.operation("again", "revoke", ledger.AlreadyGone, ld, "revoked")
	s.operation("lost revoke", "revoke", ledger.Unknown, ld, "lost")
	s.ends(ld, "lost").Time = at(1000) // later

	group := s.operation("bulk", "bulk", ledger.Done, ld, "one", "spared")
	group.Group = true
	s.answers = append(s.answers, told{operation: "bulk", status: "partial", results: map[string]string{"one": "revoked", "spared": "failed"}})
	for id, outcome := range map[string]ledger.Outcome{"one": ledger.Done, "spared": ledger.Failed} {
		child := s.operation("bulk "+id, "bulk", outcome, ld, id)
		delete(s.previews, child.Preview)
		child.Parent, child.Preview, child.Tool = "bulk", "bulk", "bulk_tool"
		if outcome == ledger.Done {
			s.ends(ld, id)
		}
	}
	s.operation("robot", "bulk", ledger.Done, atlassian, "r1")
	s.previews["robot"].account = "robot"
	for _, id := range []string{"r1", "r2, made meanwhile"} {
		s.ends(atlassian, id).Owner = "robot"
	}

	create := s.operation("create", "mint", ledger.Done, ld)
	create.Step, create.NewTokenName, create.NewTokenID, create.Sink, create.Key, create.Version = "verified", "created name", "created", "files", "ci/a", 1
	s.made(ld, sandbox.TokenMade, "created", "secret 1")
	s.sinks[place{"files", "ci/a", 1}] = "secret 1"
	rotate := s.operation("rotate", "rotate", ledger.Done, ld, "created")
	rotate.Step, rotate.NewTokenID, rotate.Compromised, rotate.Sink, rotate.Key, rotate.Version = "verified", "created", true, "files", "ci/a", 2
	s.made(ld, sandbox.TokenReset, "created", "secret 2")
	s.sinks[place{"files", "ci/a", 2}] = "secret 2"
	s.answers = append(s.answers, told{operation: "rotate", status: "rotated"})

	waits := s.operation("waits", "mint", ledger.Escrowed, mt)
	waits.NewTokenName, waits.NewTokenID = "waiting name", "waiting"
	s.made(mt, sandbox.TokenMade, "waiting", "secret 3")
	s.escrow["waits"] = "secret 3"
	lost := s.operation("lost", "mint", ledger.Unknown, mt)
	lost.NewTokenName = "orphan name"
	s.made(mt, sandbox.TokenMade, "orphan", "secret 4")
	s.operation("failed", "mint", ledger.Failed, mt).NewTokenName = "nothing"

	twin := s.operation("twin", "rotate", ledger.Done, mt, "leaked")
	twin.Step, twin.VendorRequestID, twin.Compromised, twin.NewTokenID, twin.Sink, twin.Key, twin.Version = "verified", fmt.Sprintf("sandbox-%d", 100+len(s.changes)), true, "twin", "files", "ci/b", 1
	s.made(mt, sandbox.TokenMade, "twin", "secret 5").Name = "leaked name"
	s.sinks[place{"files", "ci/b", 1}] = "secret 5"
	s.ends(mt, "leaked")

	rescued := s.operation("rescued", "rotate", ledger.Done, mt, "old")
	rescued.NewTokenID, rescued.ResolvedBy, rescued.Resolved = "new", "deliver", at(2000)
	s.made(mt, sandbox.TokenMade, "new", "secret 6").Replaces = "old"
	deliver := s.operation("deliver", "mint", ledger.Done, mt, "new")
	deliver.Of, deliver.NewTokenID, deliver.Sink, deliver.Key, deliver.Version = "rescued", "new", "files", "ci/c", 1
	s.sinks[place{"files", "ci/c", 1}] = "secret 6"

	s.operation("update", "update", ledger.Done, ld, "updated")
	s.previews["update"].role, s.previews["update"].description = "writer", "first"
	c := s.change(ld, sandbox.TokenUpdated, "updated", "")
	c.Role, c.Description = "writer", "first"
	s.operation("lost update", "update", ledger.Unknown, ld, "updated")
	s.previews["lost update"].role, s.previews["lost update"].description = "reader", "second"
	s.change(ld, sandbox.TokenUpdated, "updated", "").Request = 0 // somebody gave it another role meanwhile
	c = s.change(ld, sandbox.TokenUpdated, "updated", "")
	c.Role, c.Description = "writer", "second"
	s.alive[ref{ld, "updated"}] = token{role: "writer", description: "second"}
	return s.evidence
}

func (e *evidence) op(id string) *ledger.Operation {
	for i := range e.operations {
		if e.operations[i].ID == id {
			return &e.operations[i]
		}
	}
	panic("no operation " + id)
}

// of is the change that concerns a token, the last one of its kind.
func (e *evidence) of(kind sandbox.ChangeKind, token string) *sandbox.Change {
	for i := len(e.changes) - 1; i >= 0; i-- {
		if e.changes[i].Kind == kind && e.changes[i].Token == token {
			return &e.changes[i]
		}
	}
	panic("no such change of " + token)
}

func TestAgreement(t *testing.T) {
	t.Parallel()
	for _, problem := range agreeing().disagreements() {
		t.Error(problem)
	}
}

// TestDisagreements plants one contradiction after the other, each of which must show.
func TestDisagreements(t *testing.T) {
	t.Parallel()
	const ld, mt, atlassian = sandbox.LaunchDarkly, sandbox.Mailtrap, sandbox.Atlassian
	for name, test := range map[string]struct {
		plant func(*evidence)
		want  string
	}{
		"a revoked token lives":          {func(e *evidence) { e.alive[ref{ld, "revoked"}] = token{} }, "launchdarkly token revoked lives, against revoke_tool revoke done"},
		"an already gone one lives":      {func(e *evidence) { e.alive[ref{ld, "revoked"}] = token{} }, "launchdarkly token revoked lives, against revoke_tool again already_gone"},
		"a revoked token never was":      {func(e *evidence) { e.of(sandbox.TokenDeleted, "revoked").Token = "other" }, "launchdarkly token revoked never was"},
		"revoked later than recorded":    {func(e *evidence) { e.of(sandbox.TokenDeleted, "revoked").Time = at(999) }, "launchdarkly token revoked ended at"},
		"revoked before the operation":   {func(e *evidence) { e.of(sandbox.TokenDeleted, "revoked").Time = at(0) }, "launchdarkly token revoked was ended by request 100, and no operation can have done that"},
		"ended by a failed revocation":   {func(e *evidence) { e.op("revoke").Outcome = ledger.Failed }, "no operation can have done that; those that name it: revoke_tool revoke failed"},
		"ended by a refused revocation":  {func(e *evidence) { e.op("lost revoke").Outcome = ledger.Refused }, "launchdarkly token lost was ended"},
		"ended by a part that failed":    {func(e *evidence) { e.op("bulk one").Outcome = ledger.Failed }, "launchdarkly token one was ended"},
		"ended by nobody":                {func(e *evidence) { e.op("revoke").Targets = nil }, "no operation can have done that"},
		"ended and not shown":            {func(e *evidence) { e.previews["revoke"].targets, e.previews["again"].targets = nil, nil }, "and no preview showed it"},
		"ended twice":                    {func(e *evidence) { e.changes = append(e.changes, *e.of(sandbox.TokenDeleted, "one")) }, "launchdarkly token one ended 2 times"},
		"another account's token":        {func(e *evidence) { e.of(sandbox.TokenDeleted, "r2, made meanwhile").Owner = "other" }, "atlassian token r2, made meanwhile was ended"},
		"a leaked token ended after all": {func(e *evidence) { e.op("twin").ErrorCode = "old_token_not_ended" }, "mailtrap token leaked was ended"},
		"another request made it":        {func(e *evidence) { e.op("twin").VendorRequestID = "sandbox-1" }, "and sandbox-1 is on record, against rotate_tool twin"},
		"a step is missing":              {func(e *evidence) { e.op("create").Step = "delivered" }, "a step is not on record, against mint_tool create"},
		"taken by another process":       {func(e *evidence) { e.op("create").Claims = 1 }, "taken from the process that carried it out: mint_tool create"},
		"a leaked token lives":           {func(e *evidence) { e.alive[ref{mt, "leaked"}] = token{} }, "mailtrap token leaked lives, against rotate_tool twin"},
		"a token that nobody made":       {func(e *evidence) { e.of(sandbox.TokenMade, "orphan").Name = "other" }, `made mailtrap token orphan ("other"), and nobody has the secret; those that could: none`},
		"made by a failed creation":      {func(e *evidence) { e.op("lost").Outcome = ledger.Failed }, "nobody has the secret; those that could: mint_tool lost failed"},
		"two tokens of one lost creation": {func(e *evidence) {
			c := *e.of(sandbox.TokenMade, "orphan")
			c.Token, c.Secret = "second", "x"
			e.changes = append(e.changes, c)
		}, "made mailtrap token second"},
		"a secret that nobody asked for": {func(e *evidence) {
			c := *e.of(sandbox.TokenReset, "created")
			c.Secret = "x"
			e.changes = append(e.changes, c)
		}, "reset launchdarkly token created"},
		"made before the operation":      {func(e *evidence) { e.of(sandbox.TokenMade, "orphan").Time = at(0) }, "made mailtrap token orphan"},
		"nothing in the sink":            {func(e *evidence) { delete(e.sinks, place{"files", "ci/a", 2}) }, "no secret where it should be, against rotate_tool rotate"},
		"nothing where it was delivered": {func(e *evidence) { delete(e.sinks, place{"files", "ci/c", 1}) }, "no secret where it should be, against rotate_tool rescued"},
		"nothing in escrow":              {func(e *evidence) { delete(e.escrow, "waits") }, "no secret where it should be, against mint_tool waits"},
		"no secret in the sink":          {func(e *evidence) { e.sinks[place{"files", "ci/a", 2}] = "x" }, "no vendor made the secret of rotate_tool rotate"},
		"the same secret twice":          {func(e *evidence) { e.sinks[place{"files", "ci/a", 2}] = "secret 1" }, "made created step verified and mint_tool create"},
		"another token's secret": {func(e *evidence) {
			e.sinks[place{"files", "ci/a", 2}] = "secret 5"
			e.sinks[place{"files", "ci/b", 1}] = "secret 2"
		}, "the secret is that of mailtrap token twin"},
		"another name than asked":       {func(e *evidence) { e.op("create").NewTokenName = "x" }, "which cannot be what mint_tool create"},
		"the vendor has another secret": {func(e *evidence) { e.alive[ref{ld, "created"}] = token{secret: "secret 1"} }, "launchdarkly token created has another secret"},
		"a compromised secret works":    {func(e *evidence) { e.alive[ref{ld, "created"}] = token{secret: "secret 2", oldSecrets: 1} }, "launchdarkly token created has 1 old secrets that work"},
		"delivered twice": {func(e *evidence) {
			again := *e.op("deliver")
			again.ID = "deliver 2"
			e.operations = append(e.operations, again)
		}, "mint_tool deliver 2 done [new] made new delivered the secret of rotate_tool rescued"},
		"delivered of nothing":            {func(e *evidence) { e.op("deliver").Of = "x" }, "delivered the secret of no operation on record"},
		"an old secret on top":            {func(e *evidence) { e.sinks[place{"files", "ci/a", 3}] = "secret 1" }, "key files/ci/a: version 2 is newer than version 3, the highest"},
		"an update that nobody asked for": {func(e *evidence) { e.of(sandbox.TokenUpdated, "updated").Description = "x" }, "and no operation asked for that"},
		"an update of another token":      {func(e *evidence) { e.of(sandbox.TokenUpdated, "updated").Token = "spared" }, "which update_tool lost update unknown [updated] did not ask for"},
		"an update to another role":       {func(e *evidence) { e.previews["update"].role = "reader" }, "which update_tool update done [updated] did not ask for"},
		"a failed update came":            {func(e *evidence) { e.op("lost update").Outcome = ledger.Failed }, "against update_tool lost update failed"},
		"an update came twice": {func(e *evidence) {
			c := e.of(sandbox.TokenUpdated, "updated")
			c.Description, c.Time = "first", e.op("update").Ended
		}, "updated 2 times"},
		"an update never came":             {func(e *evidence) { e.op("lost update").Outcome = ledger.Done; e.changes = e.changes[:len(e.changes)-1] }, "no update came, against update_tool lost update"},
		"another access than the last":     {func(e *evidence) { e.alive[ref{ld, "updated"}] = token{role: "reader", description: "second"} }, "launchdarkly token updated has role reader"},
		"left open":                        {func(e *evidence) { e.op("again").Outcome = "" }, "left open: revoke_tool again open"},
		"a code that was never sent":       {func(e *evidence) { e.previews["revoke"].confirmed = false }, "the code of preview revoke was never sent"},
		"another caller's code":            {func(e *evidence) { e.previews["revoke"].principal = "agent-a" }, "preview revoke is one of revoke_tool for agent-a"},
		"another tool's code":              {func(e *evidence) { e.previews["revoke"].tool = "x" }, "preview revoke is one of x"},
		"a preview that nobody saw":        {func(e *evidence) { delete(e.previews, "update") }, "nobody saw the preview of update_tool update"},
		"no preview at all":                {func(e *evidence) { e.op("update").Preview = "" }, "nobody saw the preview of update_tool update"},
		"a code that worked twice":         {func(e *evidence) { e.op("again").Preview = "revoke" }, "preview revoke acted twice"},
		"a target that was not shown":      {func(e *evidence) { e.previews["bulk"].targets = []string{"one"} }, "preview bulk did not show token spared"},
		"a caller was told otherwise":      {func(e *evidence) { e.answers[0].status = "rotated"; e.op("revoke").Outcome = ledger.Unknown }, "a caller was told rotated, against revoke_tool revoke unknown"},
		"told of what is not on record":    {func(e *evidence) { e.answers[0].operation = "x" }, "a caller was told of operation x (revoked), which is not on record"},
		"told otherwise of a part":         {func(e *evidence) { e.answers[1].results["spared"] = "revoked" }, "a caller was told that token spared is revoked, and it is on record as failed"},
		"told of a part that is not there": {func(e *evidence) { e.answers[1].results["x"] = "revoked" }, "a caller was told that token x is revoked, and nothing is on record"},
		"two parts for one token":          {func(e *evidence) { e.op("bulk spared").Targets = e.op("bulk one").Targets }, "token one has 2 operations below"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := agreeing()
			test.plant(e)
			problems := strings.Join(e.disagreements(), "\n")
			if !strings.Contains(problems, test.want) {
				t.Errorf("found:\n%s\nwant %q", problems, test.want)
			}
		})
	}
}

func TestLeaked(t *testing.T) {
	t.Parallel()
	const hex = "0123456789abcdef0123456789abcdef"
	secrets := map[string]bool{hex: true, "api-" + hex: true}
	for text, want := range map[string]string{
		"": "", "nothing": "", hex[1:]: "", hex: hex, `{"x":"` + hex + `"}`: hex, "ff" + hex + "ff": hex, "=api-" + hex: "api-" + hex, hex[:16] + " " + hex[16:]: "",
	} {
		if got := leaked(text, secrets); (got == "") != (want == "") || got != "" && !strings.HasSuffix(want, got) {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}
