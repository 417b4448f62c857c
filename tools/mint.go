package tools

import (
	"context"
	"time"

	"github.com/tokenreeve/tokenreeve/internal/confirm"
	"github.com/tokenreeve/tokenreeve/internal/ledger"
	"github.com/tokenreeve/tokenreeve/internal/policy"
	"github.com/tokenreeve/tokenreeve/providers"
)

// mint is the making of a new token, the same at every vendor but for the call.
type mint struct {
	connection *Connection
	name       string // of the token to be made
	deliverTo  string
	grant      policy.Grant
	elevated   bool // the access needs a preview and its code
	arguments  any
	code       confirmCode
	effects    []string
	warnings   []string
	// expires is the end of life that is asked for; ages count from now.
	expires func(now time.Time) (providers.Date, error)
	// create makes the token; ages in its arguments count from now.
	create func(ctx context.Context, now time.Time) (providers.Minted, error)
	// differs says where the token is not as asked; nil: never.
	differs func(now time.Time, token providers.Token) []string
}

// mintPlan is the moment of the preview. What is to be made stands in the
// arguments.
type mintPlan struct{ Now time.Time }

const statusCreated = "created"

// mint makes the token, after a preview where its access or the operator needs one.
func (c *Call) mint(ctx context.Context, m mint) (any, error) {
	if !m.elevated && c.Approval.For(policy.RiskSingle) == policy.ApprovalOff {
		if err := c.refuseOtherCode(ctx, m); err != nil {
			return nil, err
		}
		return c.createUnseen(ctx, m)
	}
	return flow[mintPlan, createTokenOut]{
		connection: m.connection,
		arguments:  m.arguments,
		code:       m.code,
		plan: func(ctx context.Context, shown *mintPlan) (mintPlan, error) {
			plan := mintPlan{c.Now()}
			if shown != nil {
				plan = *shown
			}
			if err := m.allowed(plan.Now); err != nil || shown != nil {
				return plan, err
			}
			_, err := c.destinationOf(ctx, m.connection, m.deliverTo, "preview", "")
			return plan, err
		},
		propose: func(mintPlan) proposal {
			return proposal{effects: m.effects, warnings: m.warnings, risk: policy.RiskSingle, phrase: "CREATE 1"}
		},
		wrap: func(p preview, _ *targets) createTokenOut { return createTokenOut{preview: p} },
		act: func(ctx context.Context, i ledger.Intent, p mintPlan) (createTokenOut, error) {
			return c.create(ctx, m, i, p.Now)
		},
	}.run(ctx, c)
}

// allowed judges what the token would be able to do, and for how long.
func (m mint) allowed(now time.Time) error {
	if err := refusedByPolicy(m.connection.Policy.RefusesGrant(m.grant)); err != nil {
		return err
	}
	if m.expires == nil {
		return nil
	}
	expires, err := m.expires(now)
	if err != nil {
		return err
	}
	return refusedByPolicy(m.connection.Policy.RefusesLife(expires, now))
}

// refusedByPolicy is the refusal by a rule, or nil where there is none.
func refusedByPolicy(rule string) error {
	if rule == "" {
		return nil
	}
	return &Problem{Code: "policy_refused", Message: "nothing was changed: " + rule, Next: "ask for less, or ask the operator"}
}

// refuseOtherCode refuses a call that needs no code but carries that of a preview:
// what was shown then was another token.
func (c *Call) refuseOtherCode(ctx context.Context, m mint) error {
	arguments, err := confirm.Canonical(m.arguments)
	if err != nil {
		return err
	}
	check, err := c.peek(ctx, m.code, arguments)
	if err != nil {
		return err
	}
	if check.Verdict == ledger.Mismatch {
		return mismatch(check.Changed)
	}
	return nil
}

// createUnseen makes a token whose access needs no preview.
func (c *Call) createUnseen(ctx context.Context, m mint) (createTokenOut, error) {
	i, err := c.intent(ctx, m.connection)
	if err != nil {
		return createTokenOut{}, err
	}
	now := c.Now()
	if err := m.allowed(now); err != nil {
		i.NewTokenName = m.name
		c.refused(ctx, i, err)
		return createTokenOut{}, err
	}
	return c.create(ctx, m, i, now)
}

// create checks the sink, makes the token and delivers its secret.
func (c *Call) create(ctx context.Context, m mint, i ledger.Intent, now time.Time) (createTokenOut, error) {
	id, err := newOperationID()
	if err != nil {
		return createTokenOut{}, err
	}
	i.NewTokenName = m.name
	to, err := c.destinationOf(ctx, m.connection, m.deliverTo, id, "")
	if err != nil {
		if !isDropped(err) {
			c.refused(ctx, i, err)
		}
		return createTokenOut{}, err
	}
	i.Sink, i.Key = to.name, to.key.String()
	result, err := c.mintSecret(ctx, minting{
		connection: m.connection, id: id, intent: i, to: to,
		send: func(ctx context.Context) (providers.Minted, error) { return m.create(ctx, now) },
	})
	if err != nil {
		return createTokenOut{}, err
	}
	return m.out(result, now), nil
}

// out is the tool's result of a minting.
func (m mint) out(r mintingOut, now time.Time) createTokenOut {
	out := createTokenOut{Secret: r.secret}
	out.Status, out.OperationID, out.Warnings, out.Next = r.status, r.operation, r.warnings, r.next
	if r.minted == nil {
		return out
	}
	out.Token = mintedRowOf(&r.minted.Token)
	out.warn(alteredWarning(r.minted.Token))
	if m.differs != nil {
		out.Warnings = append(out.Warnings, m.differs(now, r.minted.Token)...)
	}
	switch r.status {
	case "":
		out.Status = statusCreated
	case statusUndelivered:
		out.Next = "the token exists, but its secret is lost: revoke token " + out.Token.ID + " with revoke_token, have sink and escrow mended, and create it again"
	}
	return out
}
