package mailtrap

import (
	"context"
	"errors"
	"time"

	"github.com/tokenreeve/tokenreeve/providers"
)

// maxLook bounds the listing after a lost answer.
const maxLook = 10 * time.Second

// namesakes returns the ids of the tokens that bear the very name.
func (p *Provider) namesakes(ctx context.Context, name string) (map[string]bool, error) {
	ids := map[string]bool{}
	err := p.each(ctx, func(r *record) {
		if string(r.Name) == name {
			ids[string(r.ID)] = true
		}
	})
	return ids, err
}

// each calls visit with every record of the list.
func (p *Provider) each(ctx context.Context, visit func(*record)) error {
	for r, err := range p.client.list(ctx) {
		if err == nil && r != nil {
			err = r.checkListed()
		}
		if err != nil {
			return err
		}
		if r != nil {
			visit(r)
		}
	}
	return nil
}

// nothingSent says of the error of a listing what was to come after it.
func nothingSent(err error) error {
	var e *providers.Error
	if errors.As(err, &e) {
		e.Message = "nothing was made, since the tokens that bear the name already could not be listed: " + e.Message
	}
	return err
}

// lostCreation adds to the error of a creation whose answer was lost what the list
// shows that it did not show before. It changes nothing.
func (p *Provider) lostCreation(ctx context.Context, name string, before map[string]bool, m *minted, again string, err error) error {
	if providers.CodeOf(err) != providers.CodeOutcomeUnknown {
		return err
	}
	// An answer that names a token from before was not made by this call, whatever the vendor says.
	if checkTokenID(string(m.ID)) == nil && !before[string(m.ID)] {
		return providers.WithLost(err, orphaned(p.token(&m.record, p.now()), "was made", again))
	}
	ctx, cancel := context.WithTimeout(ctx, maxLook)
	defer cancel()
	var found []providers.Token
	var unknown error
	listErr := p.each(ctx, func(r *record) {
		id := string(r.ID)
		if string(r.Name) != name || before[id] {
			return
		}
		isMade, err := p.wasMade(ctx, id)
		unknown = errors.Join(unknown, err)
		if !isMade {
			found = append(found, p.token(r, p.now()))
		}
	})
	return providers.WithLost(err, foundNew(found, again, errors.Join(listErr, unknown)))
}

// foundNew judges what is new in the list. That nothing is new proves nothing: the
// request may still be under way, and which tokens a credential may see is not told.
func foundNew(found []providers.Token, again string, err error) providers.Lost {
	search := "call list_tokens in a minute with the name as query and end with revoke_token what is new there and nobody has the secret of, then " + again
	switch {
	case len(found) == 1 && err == nil:
		return orphaned(found[0], "is new under this name, so it is this call's unless somebody else made it just then,", again)
	case len(found) > 0:
		return providers.Lost{Happened: providers.HappenedUnknown, Orphans: found, Next: "this call may have made one of the tokens " + providers.NameOrphans(found) +
			", and which one cannot be told: end with revoke_token the one that nobody has the secret of, then " + again}
	case err != nil:
		return providers.Lost{Happened: providers.HappenedUnknown, Next: search}
	default:
		return providers.Lost{Happened: providers.HappenedUnknown, Next: "no new token shows yet; " + search}
	}
}

func orphaned(t providers.Token, how, again string) providers.Lost {
	return providers.Lost{
		Happened: providers.HappenedYes, Orphans: []providers.Token{t},
		Next: "token " + t.ID + " " + how + " and nobody has its secret: end it with revoke_token, then " + again,
	}
}

// lostReset adds to the error of a reset whose answer was lost what the list shows:
// the old record then has an end of life, and its successor a name that is the old
// one, a space and its own id. It changes nothing.
func (p *Provider) lostReset(ctx context.Context, old *record, m *minted, err error) error {
	if providers.CodeOf(err) != providers.CodeOutcomeUnknown {
		return err
	}
	id := string(old.ID)
	p.rememberReset(id) // if it now has an end of life, then by this reset
	if checkTokenID(string(m.ID)) == nil && m.ID != old.ID {
		return providers.WithLost(err, wasReset(id, p.graceEnd(ctx, id), []providers.Token{p.token(&m.record, p.now())}, true))
	}
	ctx, cancel := context.WithTimeout(ctx, maxLook)
	defer cancel()
	seen := afterReset{areOrphans: true}
	seen.err = p.each(ctx, func(r *record) {
		if r.ID == old.ID {
			seen.now = r
			return
		}
		if r.Name != old.Name+" "+r.ID || r.Resources.key() != old.Resources.key() {
			return
		}
		isMade, unknown := p.wasMade(ctx, string(r.ID))
		seen.areOrphans = seen.areOrphans && unknown == nil
		if !isMade {
			seen.successors = append(seen.successors, p.token(r, p.now()))
		}
	})
	return providers.WithLost(err, judgeReset(id, seen, providers.VendorFailed(err)))
}

// afterReset is what the list shows after a reset whose answer was lost.
type afterReset struct {
	now        *record           // of the old token; nil: the list did not hold it
	successors []providers.Token // that may have come of it
	areOrphans bool              // it is known that nobody has the successors' secrets
	err        error             // why the list is not whole
}

// judgeReset says whether the old token was reset by its record as it is now.
func judgeReset(id string, seen afterReset, isOver bool) providers.Lost {
	const successor = "the one whose name is its name, a space and its own id"
	now, err := seen.now, seen.err
	if now != nil {
		if _, ends := now.Expires.date.Time(); ends {
			return wasReset(id, now.Expires.date, seen.successors, seen.areOrphans)
		}
	}
	switch {
	case err == nil && now != nil && now.Expires.date.IsNever() && isOver:
		return providers.Lost{Happened: providers.HappenedNo, Next: "Mailtrap failed and token " + id +
			" has no end of life, so it was not reset: call rotate_token on it again later"}
	case err == nil && now != nil && now.Expires.date.IsNever():
		// The request may still be under way.
		return providers.Lost{Happened: providers.HappenedUnknown, Next: "token " + id +
			" has no end of life yet, so it does not seem to be reset: look again with get_token in a minute. If it has one then, call rotate_token on its successor, " +
			successor + "; else call rotate_token on " + id + " again"}
	default:
		return providers.Lost{Happened: providers.HappenedUnknown, Next: "call list_tokens: if token " + id +
			" now has an end of life, it was reset and the secret of its successor is lost, " + successor +
			": call rotate_token on that one and end it with revoke_token afterwards"}
	}
}

// wasReset tells of a reset that happened; successors are the tokens that may have
// come of it, and areOrphans says that nobody has their secrets.
func wasReset(id string, end providers.Date, successors []providers.Token, areOrphans bool) providers.Lost {
	lost := providers.Lost{Happened: providers.HappenedYes, OldEnds: end, Orphans: successors, MayBeOthers: !areOrphans}
	old := "token " + id + " was reset and works until " + end.String()
	if end.IsUnknown() {
		old = "token " + id + " was reset and works for Mailtrap's own grace only"
	}
	switch {
	case len(successors) == 0:
		lost.Next = old + "; its successor does not show: call list_tokens in a minute for a token whose name is the old name, a space and its own id, and call rotate_token on that one"
	case len(successors) == 1 && areOrphans:
		lost.Next = old + "; nobody has the secret of its successor " + successors[0].ID + ": call rotate_token on " + successors[0].ID +
			" to get a new one, then end " + successors[0].ID + " with revoke_token"
	default:
		lost.Next = old + "; its successor is one of the tokens " + providers.NameOrphans(successors) +
			", and which one cannot be told: find the one that nobody has the secret of, call rotate_token on it, then end it with revoke_token"
	}
	return lost
}
