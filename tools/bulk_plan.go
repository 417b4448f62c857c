package tools

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/tokenreeve/tokenreeve/internal/policy"
	"github.com/tokenreeve/tokenreeve/providers"
)

// bulk is one call of bulk_revoke_tokens.
type bulk struct {
	call       *Call
	connection *Connection
	in         bulkRevokeTokensIn
	progress   *progress
	lost       int // targets whose answer was lost
}

// bulkPlan is what a bulk revocation would do.
type bulkPlan struct {
	Now      time.Time // from when ages count; the filter follows from it and the arguments
	Tokens   []providers.Token
	Gone     []string // targets that ended since the preview, or before it
	Warnings []string
	// Count is that of an org-wide revocation, as the vendor counts, and Seen what its
	// tokens were like, by id: too many to be kept whole.
	Count int
	Seen  map[string]string

	filter   providers.Filter
	everyone []providers.Token // of an org-wide revocation, as just read
}

// tooMany is the answer to a selection that one preview cannot hold, or of nothing.
type tooMany struct{ out bulkRevokeTokensOut }

func (*tooMany) Error() string { return "more targets than one preview may hold" }

// The limits of a bulk revocation.
const (
	bulkTime     = 45 * time.Second // then the call answers with what was done
	recheckTime  = 20 * time.Second
	readsAtOnce  = 8
	maxStillIDs  = 20
	maxNamedGone = 20
)

const (
	statusRevoked     = "revoked"
	statusPartial     = "partial"
	statusNothing     = "nothing_to_revoke"
	statusTooMany     = "too_many_targets"
	resultFailed      = "failed"
	resultNotAttempt  = "not_attempted"
	resultAlreadyGone = "already_gone"
)

// plan resolves the selection to exact targets. At the confirmation it selects
// again with the times of the preview.
func (b *bulk) plan(ctx context.Context, shown *bulkPlan) (bulkPlan, error) {
	own, err := b.call.ownOf(ctx, b.connection)
	if err != nil {
		return bulkPlan{}, err
	}
	plan := bulkPlan{Now: b.call.Now()}
	if shown != nil {
		plan.Now = shown.Now
	}
	if plan.filter, err = b.in.filters().filter(plan.Now); err != nil {
		return bulkPlan{}, err
	}
	switch {
	case b.in.Everything:
		plan, err = b.planEverything(ctx, own, plan, shown)
	case len(b.in.TokenIDs) > 0:
		plan, err = b.planIDs(ctx, own, plan, shown)
	default:
		plan, err = b.planFilter(ctx, own, plan, shown)
	}
	if err != nil {
		return plan, err
	}
	if err := b.sparesOwn(ctx, slices.Concat(plan.Tokens, plan.everyone)); err != nil {
		return plan, err
	}
	if b.in.Everything { // a person's yes stands above the number that bounds an agent
		return plan, b.call.sparesInUse(b.connection, plan.everyone, b.in.AllowInUse)
	}
	return plan, b.call.mayEnd(ctx, b.connection, plan.Tokens, b.in.AllowInUse)
}

// sparesOwn judges once more by the credential as it is after all was read: a 401
// may have renewed it meanwhile.
func (b *bulk) sparesOwn(ctx context.Context, targets []providers.Token) error {
	own, err := b.call.ownOf(ctx, b.connection)
	if err != nil {
		return err
	}
	for i := range targets {
		if own.Has(&targets[i]) {
			return b.call.guard(own, b.connection, &targets[i])
		}
	}
	return nil
}

// planIDs reads every token by its id. One that nobody may change refuses the
// whole call: it was named on purpose.
func (b *bulk) planIDs(ctx context.Context, own providers.Own, plan bulkPlan, shown *bulkPlan) (bulkPlan, error) {
	ids := slices.DeleteFunc(slices.Clone(b.in.TokenIDs), func(id string) bool { return slices.Contains(b.in.Exclude, id) })
	if shown != nil { // what was gone at the preview is no target, even if it is back
		ids = slices.DeleteFunc(ids, func(id string) bool { return slices.Contains(shown.Gone, id) })
		plan.Gone = shown.Gone
	}
	located, err := b.locate(ctx, ids, shown)
	if err != nil {
		return plan, err
	}
	refs := make([]providers.Ref, len(ids))
	for i, id := range ids {
		refs[i] = providers.Ref{ID: id, Owner: located[id].Owner.ID}
	}
	tokens, gone, err := b.readAll(ctx, refs)
	if shown != nil && providers.CodeOf(err) == providers.CodeInvalidArgument { // it was valid: another owner has it now
		return plan, drifted([]string{err.Error()})
	}
	if err != nil {
		return plan, err
	}
	for i := range tokens {
		nameOwner(&tokens[i], located[tokens[i].ID])
	}
	if err := b.call.nameOwners(ctx, b.connection, tokens); err != nil {
		return plan, err
	}
	for i := range tokens {
		if err := b.judge(own, &tokens[i]); err != nil {
			return plan, err
		}
	}
	plan.Tokens, plan.Gone = tokens, slices.Concat(plan.Gone, gone)
	if len(gone) > 0 {
		plan.Warnings = append(plan.Warnings, "already gone: "+joinWords(cleanAll(gone[:min(len(gone), maxNamedGone)])))
	}
	return plan, b.bounded(plan, shown)
}

// judge refuses a target that may not, or cannot, be revoked.
func (b *bulk) judge(own providers.Own, t *providers.Token) error {
	if err := b.call.guard(own, b.connection, t); err != nil {
		return err
	}
	if single, ok := b.connection.Provider.(providers.SingleRevoker); ok && !b.in.AllOfServiceAccount {
		return single.CanRevoke(*t)
	}
	return nil
}

// locate finds the owners of tokens, at a vendor that keeps tokens below them. At
// the confirmation they are looked for where the preview found them.
func (b *bulk) locate(ctx context.Context, ids []string, shown *bulkPlan) (map[string]providers.Token, error) {
	found := map[string]providers.Token{}
	if shown != nil {
		for _, t := range shown.Tokens {
			found[t.ID] = t
		}
		return found, nil
	}
	locator, ok := b.connection.Provider.(providers.Locator)
	if !ok {
		return found, nil
	}
	found, err := locator.Locate(ctx, ids)
	b.connection.Note(err, b.call.Now())
	return found, err
}

// readAll reads tokens by their ids, some at a time, in the given order. The ids
// that the vendor proves to be gone come back on their own.
func (b *bulk) readAll(ctx context.Context, refs []providers.Ref) (tokens []providers.Token, gone []string, _ error) {
	getter, ok := b.connection.Provider.(providers.Getter)
	if !ok {
		return nil, nil, fmt.Errorf("%s cannot read a token", b.connection.Provider.Name())
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	read := make([]providers.Token, len(refs))
	errs := make([]error, len(refs))
	next := make(chan int)
	var wg sync.WaitGroup
	for range min(readsAtOnce, len(refs)) {
		wg.Go(func() {
			for i := range next {
				read[i], errs[i] = getter.Get(ctx, refs[i])
				b.progress.add(1)
				if errs[i] != nil && providers.CodeOf(errs[i]) != providers.CodeNotFound {
					cancel()
				}
			}
		})
	}
	for i := range refs {
		next <- i
	}
	close(next)
	wg.Wait()
	for i, err := range errs {
		switch {
		case err == nil:
			tokens = append(tokens, read[i])
		case providers.CodeOf(err) == providers.CodeNotFound:
			gone = append(gone, refs[i].ID)
		case providers.CodeOf(err) != providers.CodeCancelled:
			b.connection.Note(err, b.call.Now())
			return nil, nil, err
		}
	}
	b.connection.Note(nil, b.call.Now())
	return tokens, gone, firstError(errs, providers.CodeNotFound)
}

// firstError returns the first error that does not have the code.
func firstError(errs []error, code providers.Code) error {
	for _, err := range errs {
		if err != nil && providers.CodeOf(err) != code {
			return err
		}
	}
	return nil
}

// planFilter lists, and leaves out what nobody may change. An incomplete listing
// selects nothing.
func (b *bulk) planFilter(ctx context.Context, own providers.Own, plan bulkPlan, shown *bulkPlan) (bulkPlan, error) {
	if _, err := answerable(plan.filter, []*Connection{b.connection}); err != nil {
		return plan, err
	}
	selected, covered := b.list(ctx, plan.filter)
	if err := incomplete(ctx, covered); err != nil {
		return plan, err
	}
	if err := b.call.nameOwners(ctx, b.connection, selected); err != nil {
		return plan, err
	}
	var spared []string
	why := map[string]string{} // by id
	for i := range selected {
		t := &selected[i]
		if slices.Contains(b.in.Exclude, t.ID) {
			continue
		}
		if err := b.judge(own, t); err != nil {
			if b.in.AllOfServiceAccount {
				return plan, allOrNothing(err)
			}
			why[t.ID] = problemOf(err).Message
			spared = append(spared, why[t.ID])
			continue
		}
		plan.Tokens = append(plan.Tokens, *t)
	}
	if covered.Undecided > 0 {
		plan.Warnings = append(plan.Warnings, plural(covered.Undecided, "token was", "tokens were")+" left out, since a fact that the filter needs is unknown")
	}
	if len(spared) > 0 {
		plan.Warnings = append(plan.Warnings, plural(len(spared), "matching token is", "matching tokens are")+" spared: "+strings.Join(unique(spared)[:min(3, len(unique(spared)))], "; "))
	}
	if shown != nil {
		return b.reread(ctx, plan, shown, why)
	}
	return plan, b.bounded(plan, shown)
}

// reread reads each target of the preview by its id before it is touched. One
// that is gone ends as already_gone; one that no longer matches, or is spared for the
// reason given, stops the call.
func (b *bulk) reread(ctx context.Context, plan bulkPlan, shown *bulkPlan, spared map[string]string) (bulkPlan, error) {
	if changes := drift(shown.Tokens, plan.Tokens); len(changes) > 0 {
		return plan, drifted(changes)
	}
	if b.in.AllOfServiceAccount {
		return plan, b.bounded(plan, shown)
	}
	refs := make([]providers.Ref, len(shown.Tokens))
	for i := range shown.Tokens {
		refs[i] = providers.Ref{ID: shown.Tokens[i].ID, Owner: shown.Tokens[i].Owner.ID}
	}
	alive, gone, err := b.readAll(ctx, refs)
	if err != nil {
		return plan, err
	}
	var changes []string
	for i := range alive {
		at := slices.IndexFunc(plan.Tokens, func(t providers.Token) bool { return t.ID == alive[i].ID })
		switch {
		case at < 0:
			changes = append(changes, cmp.Or(spared[alive[i].ID], "token "+alive[i].ID+" no longer matches"))
		case alive[i].AccessKey != "": // else the vendor tells less here than in its listing
			plan.Tokens[at] = alive[i]
		}
	}
	if len(changes) > 0 {
		return plan, drifted(changes)
	}
	plan.Gone = gone
	plan.Tokens = slices.DeleteFunc(plan.Tokens, func(t providers.Token) bool { return slices.Contains(gone, t.ID) })
	return plan, b.bounded(plan, shown)
}

// list reads all tokens that the filter selects, with their coverage.
func (b *bulk) list(ctx context.Context, filter providers.Filter) ([]providers.Token, coverage) {
	var selected []providers.Token
	covered := b.call.newReading([]*Connection{b.connection}, filter, b.progress).all(ctx, func(m match) bool {
		selected = append(selected, *m.token)
		return true
	})
	return selected, covered[0]
}

func incomplete(ctx context.Context, covered coverage) error {
	if covered.Complete {
		return nil
	}
	if err := ctx.Err(); err != nil { // nobody waits for the answer, and the code stays good
		return err
	}
	p := &Problem{
		Code:    "incomplete_listing",
		Message: "nothing was selected: the listing of " + covered.Connection + " is not complete (" + strings.Join(covered.Limits, ", ") + ")",
		Next:    "select by token_ids, or ask the operator for a credential that sees all tokens",
	}
	if covered.Error != nil {
		p.Message = "nothing was selected: the listing of " + covered.Connection + " failed: " + covered.Error.Message
		p.Next = cmp.Or(covered.Error.Next, "try again later")
	}
	return p
}

func allOrNothing(err error) error {
	p := *problemOf(err)
	p.Message = "the call ends all tokens or none, and " + p.Message
	return &p
}

// bounded refuses an empty selection and one that a preview cannot hold.
func (b *bulk) bounded(plan bulkPlan, shown *bulkPlan) error {
	tokens, most := plan.Tokens, b.connection.Policy.Targets()
	limit := fmt.Sprintf("a preview holds at most %d targets", most)
	if most < policy.MaxTargets {
		limit += " (connections." + b.connection.Name + ".limits.targets_per_preview)"
	}
	var out bulkRevokeTokensOut
	out.Warnings = plan.Warnings
	switch {
	case shown != nil && len(tokens) > most:
		return refusedByPolicy(fmt.Sprintf("%s, and %d would end", limit, len(tokens)))
	case shown != nil:
		return nil
	case len(tokens) == 0:
		return nothingToRevoke(plan.Warnings)
	case len(tokens) > most:
		out.Status = statusTooMany
		out.Counts = map[string]int{"matching": len(tokens), "at_most": most}
		out.ByOwner, out.ByAge = splits(tokens)
		out.Next = "nothing was changed: " + limit + "; split by owner, created_after and created_before, or give token_ids"
		if b.in.AllOfServiceAccount {
			out.Next = "nothing was changed: " + limit + ", and a whole service account is ended at once; a person must do it in the vendor's administration"
		}
	default:
		return nil
	}
	return &tooMany{out}
}

func nothingToRevoke(warnings []string) error {
	var out bulkRevokeTokensOut
	out.Status, out.Warnings = statusNothing, warnings
	out.Next = "nothing was changed: no token matches that may be revoked"
	return &tooMany{out}
}

// splits counts tokens by owner and by year of creation, the largest groups.
func splits(tokens []providers.Token) (byOwner, byAge map[string]int) {
	owners, years := map[string]int{}, map[string]int{}
	for i := range tokens {
		t := &tokens[i]
		owners[cmp.Or(t.Owner.ID, "unknown")]++
		year := "unknown"
		if created, ok := t.Created.Time(); ok {
			year = created.Format("2006")
		}
		years[year]++
	}
	return largest(owners), largest(years)
}

const maxSplits = 30

func largest(counts map[string]int) map[string]int {
	groups, _ := largestGroups(counts, maxSplits)
	kept := map[string]int{}
	for _, g := range groups {
		kept[g.Key] = g.Count
	}
	return kept
}

// planEverything counts, and refuses where any token is protected.
func (b *bulk) planEverything(ctx context.Context, own providers.Own, plan bulkPlan, shown *bulkPlan) (bulkPlan, error) {
	plan.filter = providers.Filter{Kind: providers.KindUser, Now: b.call.Now()}
	counter, ok := b.connection.Provider.(providers.AccountCounter)
	if !ok {
		return plan, &Problem{Code: string(providers.CodeNotOffered), Message: b.connection.Provider.Name() + " has no account-wide revocation"}
	}
	all, covered := b.list(ctx, plan.filter)
	if err := incomplete(ctx, covered); err != nil {
		return plan, err
	}
	if err := b.call.nameOwners(ctx, b.connection, all); err != nil {
		return plan, err
	}
	for i := range all {
		if err := b.call.guard(own, b.connection, &all[i]); err != nil {
			return plan, allOrNothing(err)
		}
	}
	var err error
	plan.Count, err = counter.CountEverything(ctx)
	b.connection.Note(err, b.call.Now())
	if err == nil && plan.Count != len(all) {
		err = &Problem{
			Code:    "incomplete_listing",
			Message: fmt.Sprintf("the vendor counts %d tokens and lists %d, so not all could be judged", plan.Count, len(all)),
			Next:    "try again in a minute",
		}
	}
	if err == nil && shown != nil && plan.Count != shown.Count {
		err = drifted([]string{fmt.Sprintf("the organization has %d tokens now, and had %d", plan.Count, shown.Count)})
	}
	if err != nil {
		return plan, err
	}
	if shown == nil && plan.Count == 0 {
		return plan, nothingToRevoke(plan.Warnings)
	}
	plan.everyone, plan.Seen = all, likenesses(all)
	if shown != nil {
		err = sameAsSeen(all, plan.Seen, shown.Seen)
	}
	return plan, err
}

// likenesses tells for each token what it was like, in a few bytes.
func likenesses(tokens []providers.Token) map[string]string {
	seen := make(map[string]string, len(tokens))
	for i := range tokens {
		t := &tokens[i]
		text := fmt.Sprintf("%q", []string{
			t.Owner.ID, t.Owner.Email, t.Name, t.NameKey, string(t.Access), t.AccessKey, string(t.Status), t.Expires.String(),
		})
		sum := sha256.Sum256([]byte(text))
		seen[t.ID] = base64.RawStdEncoding.EncodeToString(sum[:12])
	}
	return seen
}

// sameAsSeen refuses tokens that are not as a preview saw them.
func sameAsSeen(tokens []providers.Token, now, before map[string]string) error {
	var changes []string
	for i := range tokens {
		id := tokens[i].ID
		was, ok := before[id]
		switch {
		case !ok:
			changes = append(changes, "token "+id+" matches now and was not shown")
		case was != now[id]:
			changes = append(changes, "token "+id+" has another owner, name, access, status or expiry")
		}
	}
	if len(changes) == 0 {
		return nil
	}
	return drifted(changes)
}

// propose shows the plan.
func (b *bulk) propose(p bulkPlan) proposal {
	out := proposal{
		targets: p.Tokens, warnings: slices.Concat(p.Warnings, b.call.inUse(p.Tokens)),
		risk: policy.RiskBulk, ends: true, phrase: fmt.Sprintf("REVOKE %d", len(p.Tokens)),
	}
	switch {
	case b.in.Everything:
		out.targets, out.shown = p.everyone, []providers.Token{}
		out.judged = true // by planEverything
		out.risk, out.phrase = policy.RiskOrgWide, fmt.Sprintf("REVOKE ALL %d", p.Count)
		out.effects = []string{
			fmt.Sprintf("ends all %d API tokens of all managed users of the organization, at once and for good", p.Count),
			"tokens that are made meanwhile end too",
			"a person must type the current count",
		}
	case b.in.AllOfServiceAccount:
		out.phrase = fmt.Sprintf("REVOKE ALL %d", len(p.Tokens))
		out.effects = []string{
			"ends all tokens of service account " + b.in.ServiceAccounts[0] + " with one call, at once and for good",
			"tokens that are made meanwhile end too",
		}
	default:
		out.effects = []string{"ends these tokens one by one, at once and for good; whatever uses them stops working"}
	}
	return out
}
