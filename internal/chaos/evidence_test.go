package chaos_test

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/tokenreeve/tokenreeve/internal/ledger"
	"github.com/tokenreeve/tokenreeve/internal/sandbox"
	"github.com/tokenreeve/tokenreeve/internal/sanitize"
)

// evidence is what is known at the end of a run, each part from another source.
type evidence struct {
	// before are the tokens that were there at the start, and changes what the vendors
	// did to tokens since, in order.
	before  map[ref]bool
	changes []sandbox.Change
	// alive are the tokens at the end, and services Atlassian's service accounts.
	alive    map[ref]token
	services map[string]bool
	// operations are those of the ledger, oldest first.
	operations []ledger.Operation
	// previews are those that callers saw, by their ids, and answers what they were told.
	previews map[string]*preview
	answers  []told
	// sinks are the contents of the sinks, and escrow those of the escrow by operation.
	sinks  map[place]string
	escrow map[string]string
	// excused are the operations of which the log says that a step is not on record: the
	// ledger was locked for too long.
	excused map[string]bool
}

// ref names a token.
type ref struct{ vendor, id string }

func (r ref) String() string { return r.vendor + " token " + r.id }

func refOf(c *sandbox.Change) ref { return ref{c.Vendor, c.Token} }

// token is what counts of one at its vendor.
type token struct {
	secret            string
	oldSecrets        int // that still work beside it
	role, description string
}

// place is where a sink keeps a secret.
type place struct {
	sink, key string
	version   int
}

// preview is what a caller saw and did with it.
type preview struct {
	principal, tool string
	targets         []string
	named           []string // by its caller, gone ones included
	account         string   // a whole service account's
	everything      bool
	role            string // an update asks for it; empty: it leaves the role
	description     string // an update asks for it, and no other does
	confirmed       bool   // its code was sent by its principal with its arguments
}

// told is what a caller was told of an operation.
type told struct {
	operation, status string
	results           map[string]string // of a bulk revocation, by token
}

// verdict collects where the sources contradict each other.
type verdict struct {
	*evidence
	operation map[string]*ledger.Operation
	problems  []string
}

func (v *verdict) say(format string, args ...any) {
	v.problems = append(v.problems, fmt.Sprintf(format, args...))
}

// disagreements compares everything with everything.
func (e *evidence) disagreements() []string {
	v := &verdict{evidence: e, operation: map[string]*ledger.Operation{}}
	for i := range e.operations {
		v.operation[e.operations[i].ID] = &e.operations[i]
	}
	v.ended()
	v.revocations()
	v.mints()
	v.deliveries()
	v.updates()
	v.confirmations()
	v.told()
	return v.problems
}

// isRevocation reports whether an operation itself ends tokens.
func isRevocation(op *ledger.Operation) bool {
	return (op.Class == "revoke" || op.Class == "bulk") && !op.Group
}

// isMinting reports whether an operation makes a secret.
func isMinting(op *ledger.Operation) bool {
	return (op.Class == "mint" || op.Class == "rotate") && op.Of == ""
}

// isAtOnce reports whether a revocation is one of the calls that end all or nothing.
func (v *verdict) isAtOnce(op *ledger.Operation) bool {
	p := v.previews[op.Preview]
	return isRevocation(op) && p != nil && (p.account != "" || p.everything)
}

func names(op *ledger.Operation, r ref) bool {
	return op.Provider == r.vendor && slices.ContainsFunc(op.Targets, func(t ledger.Target) bool { return t.ID == r.id })
}

// covers reports whether an operation names the token, or ends all in its account.
func (v *verdict) covers(op *ledger.Operation, c *sandbox.Change) bool {
	if names(op, refOf(c)) {
		return true
	}
	if !v.isAtOnce(op) || c.Vendor != sandbox.Atlassian {
		return false
	}
	p := v.previews[op.Preview]
	return p.account == c.Owner || p.everything && !v.services[c.Owner]
}

// mayHaveDone reports whether the operation's record allows that it did c. What
// ended as unknown may take effect later.
func mayHaveDone(op *ledger.Operation, c *sandbox.Change) bool {
	switch {
	case c.Time.Before(op.Started):
		return false
	case op.Outcome == ledger.Unknown, op.Outcome == ledger.Escrowed, !op.Resolved.IsZero():
		return true
	default:
		return op.Outcome == ledger.Done && !c.Time.After(op.Ended)
	}
}

// ended: every token that a request ended was shown in a preview, and an operation
// that may have done it names or covers it.
func (v *verdict) ended() {
	for i := range v.changes {
		c := &v.changes[i]
		if c.Kind != sandbox.TokenDeleted || c.Request == 0 {
			continue
		}
		shown, explained := false, false
		var others []string
		for j := range v.operations {
			op := &v.operations[j]
			if !v.covers(op, c) || !isRevocation(op) && op.Class != "rotate" {
				continue
			}
			p := v.previews[op.Preview]
			shown = shown || p != nil && (v.isAtOnce(op) || slices.Contains(p.targets, c.Token))
			explained = explained || mayHaveDone(op, c) && (isRevocation(op) || mayHaveEndedOld(op))
			others = append(others, brief(op))
		}
		switch {
		case !explained:
			v.say("%v was ended by request %d, and no operation can have done that; those that name it: %s", refOf(c), c.Request, list(others))
		case !shown:
			v.say("%v was ended by request %d, and no preview showed it", refOf(c), c.Request)
		}
	}
}

// revocations: what is on record as ended is gone, and was ended once.
func (v *verdict) revocations() {
	ends := map[ref][]*sandbox.Change{}
	for i := range v.changes {
		if c := &v.changes[i]; c.Kind == sandbox.TokenDeleted || c.Kind == sandbox.TokenExpired {
			ends[refOf(c)] = append(ends[refOf(c)], c)
		}
	}
	for r, all := range ends {
		if len(all) > 1 {
			v.say("%v ended %d times", r, len(all))
		}
		if _, lives := v.alive[r]; lives {
			v.say("%v ended and lives", r)
		}
	}
	for i := range v.operations {
		op := &v.operations[i]
		isEnd := isRevocation(op) && (op.Outcome == ledger.Done || op.Outcome == ledger.AlreadyGone)
		if !isEnd && (!mayHaveEndedOld(op) || op.ErrorCode != "") {
			continue
		}
		for _, t := range op.Targets {
			r := ref{op.Provider, t.ID}
			_, lives := v.alive[r]
			switch end := ends[r]; {
			case lives:
				v.say("%v lives, against %s", r, brief(op))
			case len(end) == 0 && op.Outcome == ledger.Done:
				v.say("%v never was, against %s", r, brief(op))
			case len(end) > 0 && end[0].Time.After(op.Ended):
				v.say("%v ended at %v only, against %s", r, end[0].Time, brief(op))
			}
		}
	}
}

// mayHaveEndedOld reports whether a rotation says on record that it ended the old token,
// or that this is not known.
func mayHaveEndedOld(op *ledger.Operation) bool {
	return op.Class == "rotate" && op.Compromised && op.Provider == sandbox.Mailtrap &&
		op.Outcome == ledger.Done && op.Resolved.IsZero() && op.Verified != "false" && (op.ErrorCode != "old_token_not_ended" || strings.Contains(op.Note, "not known"))
}

// mints: every secret that a vendor made is where the record says, or an operation
// that ended as unknown names its token.
func (v *verdict) mints() {
	made := map[string]*sandbox.Change{}
	last := map[ref]*sandbox.Change{}
	for i := range v.changes {
		if c := &v.changes[i]; c.Secret != "" && c.Request != 0 {
			made[c.Secret] = c
			last[refOf(c)] = c
		}
	}
	owner := map[string]*ledger.Operation{} // of a secret
	for i := range v.operations {
		if op := &v.operations[i]; isMinting(op) {
			v.kept(op, made, owner)
		}
	}
	v.lost(owner)
	for r, c := range last {
		t, lives := v.alive[r]
		op := owner[c.Secret]
		switch {
		case !lives:
		case t.secret != c.Secret:
			v.say("%v has another secret than the one that was minted last, by request %d", r, c.Request)
		case op != nil && op.Outcome == ledger.Done && op.Compromised && t.oldSecrets > 0:
			v.say("%v has %d old secrets that work, against %s", r, t.oldSecrets, brief(op))
		}
	}
}

// kept finds the secret of an operation that ended well.
func (v *verdict) kept(op *ledger.Operation, made map[string]*sandbox.Change, owner map[string]*ledger.Operation) {
	var secret string
	var found bool
	switch {
	case op.Outcome == ledger.Escrowed:
		secret, found = v.escrow[op.ID]
	case op.Outcome != ledger.Done:
		return
	default:
		at := op
		if by := v.operation[op.ResolvedBy]; by != nil {
			at = by
		}
		secret, found = v.sinks[place{at.Sink, at.Key, at.Version}]
	}
	c := made[secret]
	switch {
	case !found:
		v.say("no secret where it should be, against %s", brief(op))
	case c == nil:
		v.say("no vendor made the secret of %s", brief(op))
	case owner[secret] != nil:
		v.say("%s and %s have the same secret", brief(op), brief(owner[secret]))
	case c.Vendor != op.Provider || c.Token != op.NewTokenID:
		v.say("the secret is that of %v, against %s", refOf(c), brief(op))
	case strings.HasPrefix(op.VendorRequestID, "sandbox-") && op.VendorRequestID != fmt.Sprintf("sandbox-%d", c.Request):
		v.say("request %d made the secret, and %s is on record, against %s", c.Request, op.VendorRequestID, brief(op))
	case op.Outcome == ledger.Done && op.ResolvedBy == "" && op.Step != "verified" && !v.excused[op.ID]:
		v.say("a step is not on record, against %s", brief(op))
	case !canHaveMade(op, c):
		v.say("request %d made %v, which cannot be what %s did", c.Request, refOf(c), brief(op))
	default:
		owner[secret] = op
	}
}

// canHaveMade reports whether the secret is one of which the operation's intent spoke.
func canHaveMade(op *ledger.Operation, c *sandbox.Change) bool {
	if op.Provider != c.Vendor || c.Time.Before(op.Started) {
		return false
	}
	if op.Class == "mint" {
		return c.Kind == sandbox.TokenMade && c.Replaces == "" && nameOnRecord(c) == op.NewTokenName
	}
	if len(op.Targets) != 1 {
		return false
	}
	old := op.Targets[0]
	isReset := old.ID == c.Token && c.Kind == sandbox.TokenReset || old.ID == c.Replaces
	isTwin := c.Vendor == sandbox.Mailtrap && c.Kind == sandbox.TokenMade && c.Replaces == "" && nameOnRecord(c) == old.Name
	return isReset || isTwin
}

// nameOnRecord is the name as the ledger keeps it.
func nameOnRecord(c *sandbox.Change) string {
	name, _ := sanitize.Name(c.Name)
	return name
}

// lost explains each secret that is nowhere by one operation that ended as unknown.
func (v *verdict) lost(owner map[string]*ledger.Operation) {
	used := map[string]bool{}
	for _, named := range []bool{true, false} { // those that name the very token first
		for i := range v.changes {
			c := &v.changes[i]
			if c.Secret == "" || c.Request == 0 || owner[c.Secret] != nil {
				continue
			}
			at := slices.IndexFunc(v.operations, func(op ledger.Operation) bool {
				return isMinting(&op) && op.Outcome == ledger.Unknown && !used[op.ID] && canHaveMade(&op, c) && (!named || op.NewTokenID == c.Token)
			})
			if at >= 0 {
				owner[c.Secret], used[v.operations[at].ID] = &v.operations[at], true
				continue
			}
			if !named {
				v.say("request %d %s %v (%q), and nobody has the secret; those that could: %s", c.Request, c.Kind, refOf(c), c.Name, list(v.makers(c)))
			}
		}
	}
}

// makers are all operations that speak of what was made.
func (v *verdict) makers(c *sandbox.Change) (all []string) {
	for i := range v.operations {
		if op := &v.operations[i]; isMinting(op) && canHaveMade(op, c) {
			all = append(all, brief(op))
		}
	}
	return all
}

// deliveries: a secret leaves the escrow once, and both operations say so.
func (v *verdict) deliveries() {
	for i := range v.operations {
		by := &v.operations[i]
		if by.Of == "" || by.Outcome != ledger.Done {
			continue
		}
		switch of := v.operation[by.Of]; {
		case of == nil:
			v.say("%s delivered the secret of no operation on record, %s", brief(by), by.Of)
		case of.ResolvedBy != by.ID:
			v.say("%s delivered the secret of %s, which does not say so", brief(by), brief(of))
		}
	}
	v.newest()
}

// newest: where a key of a sink has versions, the highest holds the newest secret.
func (v *verdict) newest() {
	order := map[string]int{}
	for i := range v.changes {
		if c := &v.changes[i]; c.Secret != "" {
			order[c.Secret] = i
		}
	}
	top := map[place]int{} // the highest version of each key
	for p := range v.sinks {
		key := place{sink: p.sink, key: p.key}
		top[key] = max(top[key], p.version)
	}
	for p, secret := range v.sinks {
		highest := place{p.sink, p.key, top[place{sink: p.sink, key: p.key}]}
		if order[secret] > order[v.sinks[highest]] {
			v.say("key %s/%s: version %d is newer than version %d, the highest", p.sink, p.key, p.version, highest.version)
		}
	}
}

// updates: every change at the vendor is the one that an operation asked for, each of
// these came at most once, and what is on record as done came.
func (v *verdict) updates() {
	asked := map[string]*ledger.Operation{} // by the description that nobody else asks for
	for i := range v.operations {
		op := &v.operations[i]
		if p := v.previews[op.Preview]; op.Class == "update" && p != nil {
			asked[p.description] = op
		}
	}
	came := map[string]int{} // by operation
	last := map[ref]*sandbox.Change{}
	for i := range v.changes {
		c := &v.changes[i]
		if c.Kind != sandbox.TokenUpdated || c.Vendor != sandbox.LaunchDarkly || c.Request == 0 {
			continue
		}
		last[refOf(c)] = c
		op := asked[c.Description]
		if op == nil {
			v.say("request %d updated %v, and no operation asked for that", c.Request, refOf(c))
			continue
		}
		came[op.ID]++
		p := v.previews[op.Preview]
		switch {
		case !names(op, refOf(c)) || p.role != "" && p.role != c.Role && !v.cameBetween(op, i):
			v.say("request %d updated %v to %s, which %s did not ask for", c.Request, refOf(c), c.Role, brief(op))
		case !mayHaveDone(op, c):
			v.say("request %d updated %v, against %s", c.Request, refOf(c), brief(op))
		case came[op.ID] > 1:
			v.say("%v was updated %d times by %s", refOf(c), came[op.ID], brief(op))
		}
	}
	for i := range v.operations {
		if op := &v.operations[i]; op.Class == "update" && op.Outcome == ledger.Done && came[op.ID] == 0 {
			v.say("no update came, against %s", brief(op))
		}
	}
	for r, c := range last {
		if t, lives := v.alive[r]; lives && (t.role != c.Role || t.description != c.Description) {
			v.say("%v has role %s, and its last update, by request %d, gave it %s", r, t.role, c.Request, c.Role)
		}
	}
}

// cameBetween reports whether another update of the token came between the intent of
// the operation and what it did, change number i: a patch leaves out what the token
// already was as asked.
func (v *verdict) cameBetween(op *ledger.Operation, i int) bool {
	return slices.ContainsFunc(v.changes[:i], func(c sandbox.Change) bool {
		return c.Kind == sandbox.TokenUpdated && refOf(&c) == refOf(&v.changes[i]) && !c.Time.Before(op.Started)
	})
}

// confirmations: what needs a preview acted once, for who had seen it and sent its
// code, and on nothing else.
func (v *verdict) confirmations() {
	acted := map[string]*ledger.Operation{}
	for i := range v.operations {
		op := &v.operations[i]
		switch {
		case op.IsOpen():
			v.say("left open: %s", brief(op))
		case op.Claims > 0 || op.Late != nil:
			v.say("taken from the process that carried it out: %s", brief(op))
		}
		p := v.previews[op.Preview]
		switch {
		case op.Preview == "" && (op.Class == "mint" || op.Of != ""):
			continue
		case p == nil:
			v.say("nobody saw the preview of %s", brief(op))
			continue
		case !p.confirmed:
			v.say("the code of preview %s was never sent, against %s", op.Preview, brief(op))
		case p.principal != op.Principal || p.tool != op.Tool:
			v.say("preview %s is one of %s for %s, against %s of %s", op.Preview, p.tool, p.principal, brief(op), op.Principal)
		}
		for _, t := range op.Targets {
			wasNamed := op.Outcome == ledger.AlreadyGone && slices.Contains(p.named, t.ID)
			if !p.everything && !wasNamed && !slices.Contains(p.targets, t.ID) {
				v.say("preview %s did not show token %s, against %s", op.Preview, t.ID, brief(op))
			}
		}
		if op.Parent != "" {
			continue
		}
		if first := acted[op.Preview]; first != nil {
			v.say("preview %s acted twice: %s and %s", op.Preview, brief(first), brief(op))
		}
		acted[op.Preview] = op
	}
}

// told: callers were told what stands on record.
func (v *verdict) told() {
	allowed := map[string][]ledger.Outcome{
		"created": {ledger.Done}, "rotated": {ledger.Done}, "updated": {ledger.Done}, "delivered": {ledger.Done},
		"revoked": {ledger.Done}, "partial": {ledger.Done, ledger.Failed, ledger.Unknown}, "already_gone": {ledger.AlreadyGone},
		"escrowed": {ledger.Escrowed, ledger.Done}, "undelivered": {ledger.Unknown},
		"unknown": {ledger.Unknown, ledger.Failed}, // it proved later that nothing was made
	}
	for _, t := range v.answers {
		op := v.operation[t.operation]
		if op == nil {
			v.say("a caller was told of operation %s (%s), which is not on record", t.operation, t.status)
			continue
		}
		if !slices.Contains(allowed[t.status], op.Outcome) {
			v.say("a caller was told %s, against %s", t.status, brief(op))
		}
		for id, result := range t.results {
			v.toldOfTarget(op, id, result)
		}
	}
}

// toldOfTarget compares what was told of one target of a bulk revocation.
func (v *verdict) toldOfTarget(group *ledger.Operation, id, result string) {
	want := map[string][]ledger.Outcome{
		"revoked": {ledger.Done}, "already_gone": {ledger.AlreadyGone}, "unknown": {ledger.Unknown}, "failed": {ledger.Failed, ledger.Refused}, "not_attempted": nil,
	}[result]
	var outcomes []ledger.Outcome
	for i := range v.operations {
		if op := &v.operations[i]; op.Parent == group.ID && names(op, ref{group.Provider, id}) {
			outcomes = append(outcomes, op.Outcome)
		}
	}
	switch {
	case len(outcomes) > 1:
		v.say("token %s has %d operations below %s", id, len(outcomes), brief(group))
	case len(outcomes) == 1 && !slices.Contains(want, outcomes[0]):
		v.say("a caller was told that token %s is %s, and it is on record as %s below %s", id, result, outcomes[0], brief(group))
	case len(outcomes) == 0 && (result == "revoked" || result == "already_gone"):
		v.say("a caller was told that token %s is %s, and nothing is on record below %s", id, result, brief(group))
	}
}

// brief is an operation in one line.
func brief(op *ledger.Operation) string {
	targets := make([]string, len(op.Targets))
	for i, t := range op.Targets {
		targets[i] = t.ID
	}
	text := fmt.Sprintf("%s %s %s [%s]", op.Tool, op.ID, cmp.Or(string(op.Outcome), "open"), strings.Join(targets, " "))
	for _, part := range [][2]string{{"made", op.NewTokenID}, {"code", op.ErrorCode}, {"step", op.Step}, {"resolved by", op.ResolvedBy}} {
		if part[1] != "" {
			text += " " + part[0] + " " + part[1]
		}
	}
	return text
}

func list(texts []string) string { return cmp.Or(strings.Join(texts, "; "), "none") }
