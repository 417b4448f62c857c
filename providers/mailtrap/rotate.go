package mailtrap

import (
	"context"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/tokenreeve/tokenreeve/providers"
)

const (
	// minTwin is the least life of a twin that has an end.
	minTwin = 30 * 24 * time.Hour
	// maxGlance bounds the look at the old record after a reset: the new secret waits
	// for it and must not be held back for long.
	maxGlance = 3 * time.Second
	// longestGrace is more than the vendor's grace after a reset, which is about 12 hours.
	longestGrace = 24 * time.Hour
	// maxSuffix is what a reset adds to a name at most: a space and an id.
	maxSuffix = 20
)

// PlanRotation reads the token again and decides between two ways. A reset keeps
// the old secret alive for the vendor's grace and needs a token without an end of
// life; else, and for a leaked secret, a twin is made: a new token with the same
// name and permissions.
func (p *Provider) PlanRotation(ctx context.Context, token providers.Token, ask providers.RotationAsk) (providers.RotationPlan, error) {
	if ask.Overlap != 0 {
		return providers.RotationPlan{}, invalid("overlap cannot be chosen at Mailtrap: its own grace applies; leave overlap out")
	}
	current, err := p.client.get(ctx, token.ID)
	if err != nil {
		return providers.RotationPlan{}, err
	}
	now := ask.Now
	if now.IsZero() {
		now = p.now()
	}
	if err := p.checkAlive(current, now); err != nil {
		return providers.RotationPlan{}, err
	}
	if err := checkNotReplaced(ctx, current, now); err != nil {
		return providers.RotationPlan{}, err
	}
	_, ends := current.Expires.date.Time()
	if !ask.Compromised && !ends {
		return planReset(current), nil
	}
	return planTwin(current, ask.Compromised, now)
}

// checkAlive refuses a token whose secret is dead or already replaced.
func (p *Provider) checkAlive(r *record, now time.Time) error {
	id := string(r.ID)
	switch p.status(r, now) {
	case providers.StatusExpired:
		return refused("token "+id+" expired at "+r.Expires.date.String()+" and cannot be rotated",
			"create a new token with the same permissions and revoke this one")
	case providers.StatusInGrace:
		return refused("token "+id+" was already reset and works only until "+r.Expires.date.String(),
			"rotate its successor, the token whose name is this one's plus its own id; revoke this one to end it now")
	default:
		return nil
	}
}

// checkNotReplaced refuses a token that seems to be in the grace of a reset, and of which others know that it
// has a successor. One that ends by itself soon, and has a twin, is no different.
func checkNotReplaced(ctx context.Context, r *record, now time.Time) error {
	end, ends := r.Expires.date.Time()
	if !ends || end.After(now.Add(longestGrace)) {
		return nil
	}
	id := string(r.ID)
	isReplaced, err := providers.IsReplaced(ctx, id)
	if err != nil || !isReplaced {
		return err
	}
	return refused("token "+id+" was already rotated and works only until "+r.Expires.date.String(),
		"rotate its successor, which list_operations names with tool rotate_token, or make a new token where that is gone; revoke this one to end it now")
}

func planReset(r *record) providers.RotationPlan {
	id := string(r.ID)
	effects := []string{
		"Mailtrap makes a new token with a new id and a new secret; its name is the old name plus the new id.",
		"Token " + id + " stays and works on for Mailtrap's own grace, about 12 hours; the result says until when. Then it stops.",
		"Whether the new token gets an end of life is Mailtrap's choice; the result says which.",
	}
	if utf8.RuneCountInString(string(r.Name))+maxSuffix > maxName {
		effects = append(effects, "The name grows with each reset and is near the limit: Mailtrap may refuse.")
	}
	return providers.RotationPlan{Method: providers.MethodReset, Effects: effects}
}

func planTwin(r *record, compromised bool, now time.Time) (providers.RotationPlan, error) {
	id := string(r.ID)
	if r.Expires.date.IsUnknown() {
		return providers.RotationPlan{}, refused("Mailtrap does not tell when token "+id+" ends, so a new token with the same life cannot be made",
			"create a new token with the end of life you choose and revoke this one")
	}
	if _, err := twinSpec(r); err != nil {
		return providers.RotationPlan{}, err
	}
	plan := providers.RotationPlan{
		Method:     providers.MethodTwin,
		OldEnds:    r.Expires.date,
		NewExpires: twinExpires(r.Expires.date, now),
		DeletesOld: compromised,
	}
	why := "Mailtrap cannot reset a token that has an end of life."
	fate := "Token " + id + " stays and works until " + r.Expires.date.String() + "; revoke it once nothing uses it."
	if compromised {
		plan.OldEnds = providers.Date{}
		why = "A reset would leave the leaked secret working for hours."
		fate = "Token " + id + " is deleted once the new secret was delivered, and not before; whatever still uses it stops at once."
	}
	plan.Effects = []string{
		why,
		"A new token with the same name and permissions, a new id and a new secret is made; its end of life: " + plan.NewExpires.String() + ".",
		fate,
	}
	return plan, nil
}

// twinExpires is the end of life of a twin: never, or what remains, but at least
// 30 days and at most what Mailtrap accepts; to the second, as it is sent.
func twinExpires(old providers.Date, now time.Time) providers.Date {
	end, ok := old.Time()
	if !ok {
		return providers.Never()
	}
	end = end.Truncate(time.Second)
	least := now.Add(minTwin + time.Second - time.Nanosecond).Truncate(time.Second)
	if end.Before(least) {
		end = least
	}
	if latest := now.AddDate(maxYears, 0, 0).Truncate(time.Second); end.After(latest) {
		end = latest
	}
	return providers.At(end)
}

// twinSpec copies name and permissions, or refuses what cannot be written.
func twinSpec(r *record) (TokenSpec, error) {
	const next = "create a new token with the permissions it needs, then revoke this one"
	spec := TokenSpec{Name: string(r.Name)}
	if r.Resources.unreadable != "" {
		return TokenSpec{}, refused("the token's permissions are in an unknown form and cannot be given to a new token", next)
	}
	for _, p := range r.Resources.list {
		spec.Permissions = append(spec.Permissions, Permission{
			ResourceType: string(p.Type), ResourceID: string(p.ID), AccessLevel: string(p.Level),
		})
	}
	if err := spec.Check(); err != nil {
		e := refused("the token cannot be made again as it is", next)
		var cause *providers.Error
		if errors.As(err, &cause) {
			e.Message += ": " + cause.Message
		}
		return TokenSpec{}, e
	}
	return spec, nil
}

// Rotate reads the token again, refuses with CodeConflict where it is no longer
// what was planned for, and sends one change. It never deletes the old token:
// that waits until the caller delivered the new secret. After a lost answer the
// error has CodeOutcomeUnknown and says in Lost what the list shows.
func (p *Provider) Rotate(ctx context.Context, token providers.Token, plan providers.RotationPlan) (providers.Minted, error) {
	if plan.Method != providers.MethodReset && plan.Method != providers.MethodTwin {
		return providers.Minted{}, invalid("unknown rotation method %s", quote(string(plan.Method)))
	}
	current, err := p.client.get(ctx, token.ID)
	if err != nil {
		return providers.Minted{}, err
	}
	now := p.now()
	if err := checkSame(token, p.token(current, now)); err != nil {
		return providers.Minted{}, err
	}
	if err := p.checkAlive(current, now); err != nil {
		return providers.Minted{}, err
	}
	if plan.Method == providers.MethodReset {
		return p.rotateByReset(ctx, current)
	}
	return p.rotateByTwin(ctx, current, plan.NewExpires)
}

// checkSame compares what a rotation copies or ends.
func checkSame(planned, current providers.Token) error {
	var what, from, to string
	switch {
	case planned.Name != current.Name || planned.NameKey != current.NameKey:
		what, from, to = "name", planned.Name, current.Name
	case !planned.SameAccess(&current):
		what, from, to = "access", string(planned.Access), string(current.Access)
	case !planned.Expires.Equal(current.Expires):
		what, from, to = "end of life", planned.Expires.String(), current.Expires.String()
	default:
		return nil
	}
	return &providers.Error{
		Provider: providerName, Code: providers.CodeConflict,
		Message: fmt.Sprintf("the %s of token %s changed since the preview, from %s to %s; nothing was sent", what, current.ID, quote(from), quote(to)),
		Next:    "preview the rotation again",
	}
}

// rotateByReset resets. Should the answer keep the old id, against what was
// recorded, then the token was renewed in place and nothing is told of the old
// secret's end.
func (p *Provider) rotateByReset(ctx context.Context, current *record) (providers.Minted, error) {
	id := string(current.ID)
	m, err := p.client.reset(ctx, id)
	if err != nil {
		return providers.Minted{}, p.lostReset(ctx, current, m, err)
	}
	if string(m.ID) == id {
		return p.minted(m), nil
	}
	p.rememberReset(id)
	result := p.minted(m)
	result.OldEnds = p.graceEnd(ctx, id)
	return result, nil
}

// graceEnd reads when the reset token stops; unknown where that cannot be read
// soon, or where the record does not show the reset.
func (p *Provider) graceEnd(ctx context.Context, id string) providers.Date {
	ctx, cancel := context.WithTimeout(ctx, maxGlance)
	defer cancel()
	old, err := p.client.get(ctx, id)
	if err != nil || old.Expires.date.IsNever() {
		return providers.Date{}
	}
	return old.Expires.date
}

func (p *Provider) rotateByTwin(ctx context.Context, current *record, expires providers.Date) (providers.Minted, error) {
	spec, err := twinSpec(current)
	if err != nil {
		return providers.Minted{}, err
	}
	if expires.IsUnknown() {
		return providers.Minted{}, invalid("a twin needs an end of life, or never")
	}
	spec.Expires = expires
	result, err := p.create(ctx, spec, "call rotate_token on token "+string(current.ID)+" again")
	if err != nil {
		return providers.Minted{}, err
	}
	result.OldEnds = current.Expires.date
	return result, nil
}
