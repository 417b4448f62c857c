package launchdarkly

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/tokenreeve/tokenreeve/providers"
)

// How long an old secret may work beside the new one. The vendor publishes no
// bounds; what it makes of a moment in the past is undefined.
const (
	defaultOverlap = 24 * time.Hour
	minOverlap     = 15 * time.Minute
	maxOverlap     = 90 * 24 * time.Hour
	// minAhead is how far ahead the old secret's end must be when the reset is sent.
	minAhead = time.Minute
)

// PlanRotation plans a reset: the token keeps its id and gets a new secret. It
// sends nothing. Overlap is 15 minutes to 90 days, 24 hours where it is 0. A
// compromised secret stops at once: then OldEnds is unknown in the plan, and an
// overlap is refused.
func (p *Provider) PlanRotation(_ context.Context, token providers.Token, ask providers.RotationAsk) (providers.RotationPlan, error) {
	if err := checkTokenID(token.ID); err != nil {
		return providers.RotationPlan{}, err
	}
	plan := providers.RotationPlan{
		Method: providers.MethodReset, NewExpires: providers.Never(),
		Effects: []string{"The token keeps its id, name and access and gets a new secret."},
	}
	if ask.Compromised {
		if ask.Overlap != 0 {
			return providers.RotationPlan{}, invalid("overlap cannot be combined with compromised: a compromised secret stops at once")
		}
		plan.Effects = append(plan.Effects,
			"The old secret stops at once: whatever still uses it fails until it has the new one.",
			"Where an earlier reset of this token still overlaps, the still older secret may go on working until that overlap ends (the vendor does not tell); revoke the token to end all of them.")
		return plan, nil
	}
	overlap := ask.Overlap
	if overlap == 0 {
		overlap = defaultOverlap
	}
	if overlap < minOverlap || overlap > maxOverlap {
		return providers.RotationPlan{}, invalid("overlap is %v; valid is 15 minutes to 90 days", overlap)
	}
	now := ask.Now
	if now.IsZero() {
		now = p.now()
	}
	plan.OldEnds = providers.At(now.Add(overlap).Truncate(time.Second))
	plan.Effects = append(plan.Effects,
		"The old secret works until "+plan.OldEnds.String()+", beside the new one.",
		"Where an earlier reset of this token still overlaps, the still older secret may stop at once (the vendor does not tell).")
	return plan, nil
}

// Rotate resets the secret as planned. It is sent once: only where the vendor
// cannot have carried it out does it repeat. A plan whose end of the old secret
// is less than a minute ahead has CodeRefused and sends nothing, since a moment
// in the past could end the old secret at once. After a lost answer the error has
// CodeOutcomeUnknown and says in Lost what to do.
func (p *Provider) Rotate(ctx context.Context, token providers.Token, plan providers.RotationPlan) (providers.Minted, error) {
	if err := checkTokenID(token.ID); err != nil {
		return providers.Minted{}, err
	}
	end, err := p.plannedEnd(plan)
	if err != nil {
		return providers.Minted{}, err
	}
	oldEnds := plan.OldEnds
	if end.IsZero() {
		oldEnds = providers.At(p.now())
	}
	m, err := p.wire.reset(ctx, token.ID, end)
	if err == nil && isID(m.id) {
		err = sameID(token.ID, m.id)
	}
	if err == nil {
		err = m.check("the token's secret was replaced")
	}
	if err != nil {
		return providers.Minted{}, lostReset(token.ID, oldEnds, &m, err)
	}
	return providers.Minted{Token: m.record.toToken(), Secret: m.secret, OldEnds: oldEnds}, nil
}

// plannedEnd returns when the old secret ends, or zero where it ends at once.
func (p *Provider) plannedEnd(plan providers.RotationPlan) (time.Time, error) {
	if plan.Method != providers.MethodReset || plan.OldEnds.IsNever() {
		return time.Time{}, invalid("the plan is no reset with an end of the old secret; valid is what PlanRotation returns")
	}
	end, ok := plan.OldEnds.Time()
	if !ok {
		return time.Time{}, nil
	}
	switch ahead := end.Sub(p.now()); {
	case ahead < minAhead:
		e := failure(providers.CodeRefused, "the planned end of the old secret, %v, has passed or is less than a minute ahead; nothing was sent", plan.OldEnds)
		e.Next = "ask for a new preview"
		return time.Time{}, e
	case ahead > maxOverlap+time.Hour:
		return time.Time{}, invalid("the planned end of the old secret is more than 90 days ahead")
	}
	return end, nil
}

// Revoke deletes the token, at once and for ever.
func (p *Provider) Revoke(ctx context.Context, token providers.Token) (providers.Revocation, error) {
	mayHaveActed, err := p.wire.delete(ctx, token.ID)
	var e *providers.Error
	switch {
	case err == nil:
		return providers.Revoked, nil
	case errors.As(err, &e) && e.Code == providers.CodeNotFound && e.Status == http.StatusNotFound:
		if mayHaveActed {
			return providers.Revoked, nil // by an attempt whose answer was lost
		}
		return providers.AlreadyGone, nil
	default:
		return "", err
	}
}
