package launchdarkly

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/tokenreeve/tokenreeve/providers"
)

const (
	// maxLook bounds the listing after a lost answer.
	maxLook = 10 * time.Second
	// nearby is how far from the sending a token may have been made to count as made
	// by it, on the vendor's clock; apart is the same on ours, which may be wrong.
	nearby = 2 * time.Minute
	apart  = 5 * time.Minute
)

// sending is when a creation was sent.
type sending struct {
	wall time.Time // on the provider's clock
	real time.Time // for what passed since
}

func (p *Provider) sending() sending { return sending{wall: p.now(), real: time.Now()} }

// lostCreation adds to the error of a creation whose answer was lost what shows of
// it in the list. It changes nothing.
func (p *Provider) lostCreation(ctx context.Context, spec TokenSpec, sent sending, m *minted, err error) error {
	if providers.CodeOf(err) != providers.CodeOutcomeUnknown {
		return err
	}
	if isID(m.id) {
		token := m.record.toToken()
		// An answer that names a token from before was not made by this call, whatever the vendor says.
		if made, isTold := token.Created.Time(); !isTold || !made.Before(sent.wall.Add(-apart)) {
			return providers.WithLost(err, orphaned(token, "was made"))
		}
	}
	return providers.WithLost(err, p.search(ctx, spec, sent, providers.VendorFailed(err)))
}

// search lists the tokens and looks for the one that was to be made.
func (p *Provider) search(ctx context.Context, spec TokenSpec, sent sending, isOver bool) providers.Lost {
	ctx, cancel := context.WithTimeout(ctx, maxLook)
	defer cancel()
	var like []providers.Token
	isComplete := true
	l := listing{p: p, seen: map[tokenKey]uint8{}, yield: func(page providers.Page, _ error) bool {
		like = append(like, spec.matching(page.Tokens)...)
		isComplete = !slices.ContainsFunc(page.Limits, providers.Limit.Incomplete)
		return true
	}}
	err := l.run(ctx)
	from, to := p.around(sent, l.began)
	found := slices.DeleteFunc(like, func(t providers.Token) bool {
		made, ok := t.Created.Time()
		if !ok || made.Before(from) || made.After(to) || p.made.has(t.ID) {
			return true
		}
		isMade, unknown := providers.IsMade(ctx, t.ID)
		err = errors.Join(err, unknown)
		return isMade
	})
	const again = "call list_tokens in a minute with the name as query: a token made at the time of this call that nobody has the secret of " +
		"gets a new one from rotate_token; where there is none, call create_launchdarkly_token again"
	switch {
	case len(found) == 1 && err == nil:
		return orphaned(found[0], "was made under this name at the time of this call, so it is this call's unless somebody else made it just then,")
	case len(found) > 0:
		return providers.Lost{Happened: providers.HappenedUnknown, Orphans: found, Next: "this call may have made one of the tokens " + providers.NameOrphans(found) +
			", and which one cannot be told: find the one that nobody has the secret of with get_token, and end it with revoke_token before you call create_launchdarkly_token again"}
	case err != nil:
		return providers.Lost{Happened: providers.HappenedUnknown, Next: again}
	case isComplete && isOver:
		return providers.Lost{Happened: providers.HappenedNo, Next: "LaunchDarkly failed and no such token shows in its whole list: call create_launchdarkly_token again later"}
	default:
		// The list may lag behind, and the request may still be under way.
		return providers.Lost{Happened: providers.HappenedUnknown, Next: "no such token shows yet; " + again}
	}
}

// matching returns the tokens that may be the one that was to be made: of the very
// name, kind and access, and never used, since nobody has its secret.
func (s TokenSpec) matching(tokens []providers.Token) []providers.Token {
	want := (&record{Name: s.Name, ServiceToken: s.ServiceToken}).toToken()
	var matching []providers.Token
	for _, t := range tokens {
		_, isUsed := t.LastUsed.Time()
		if t.Name == want.Name && t.NameKey == want.NameKey && t.Kind == want.Kind && t.Access == s.Access() && !isUsed {
			matching = append(matching, t)
		}
	}
	return matching
}

// around returns when a token was made that belongs to the sending, on the
// vendor's clock where it told it with the list.
func (p *Provider) around(sent sending, listed clocks) (from, to time.Time) {
	if listed.vendor.IsZero() {
		return sent.wall.Add(-apart), p.now().Add(apart)
	}
	return listed.vendor.Add(-listed.ours.Sub(sent.real) - nearby), listed.vendor.Add(nearby)
}

func orphaned(t providers.Token, how string) providers.Lost {
	return providers.Lost{Happened: providers.HappenedYes, Orphans: []providers.Token{t}, Next: "token " + t.ID + " " + how +
		" and nobody has its secret: call rotate_token on it to give it a new one, which keeps its id, or revoke_token to end it"}
}

// lostReset adds to the error of a reset whose answer was lost what to do. Nothing
// in the token's record tells of a reset.
func lostReset(id string, oldEnds providers.Date, m *minted, err error) error {
	if providers.CodeOf(err) != providers.CodeOutcomeUnknown {
		return err
	}
	lost := providers.Lost{Happened: providers.HappenedUnknown, Next: "nothing at LaunchDarkly shows whether token " + id +
		" has a new secret: call rotate_token on it again, which keeps its id and gives a secret that is known. The overlap of the old secret may be cut short by that"}
	if m.id == id {
		lost.Happened, lost.OldEnds = providers.HappenedYes, oldEnds
		lost.Next = "token " + id + " has a new secret that nobody has: call rotate_token on it again, which keeps its id. The overlap of the old secret may be cut short by that"
	}
	return providers.WithLost(err, lost)
}

// made remembers the tokens whose secret came: none of them is an orphan.
type made struct {
	mu  sync.Mutex
	ids map[string]bool
}

func (m *made) add(id string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.ids == nil {
		m.ids = map[string]bool{}
	}
	m.ids[id] = true
}

func (m *made) has(id string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.ids[id]
}
