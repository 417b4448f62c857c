package tools

import (
	"context"
	"fmt"
	"time"

	"github.com/tokenreeve/tokenreeve/internal/confirm"
	"github.com/tokenreeve/tokenreeve/providers"
)

// mint is the making of a new token, the same at every vendor but for the call.
type mint struct {
	connection *Connection
	deliverTo  string
	elevated   bool // the access needs a preview and its code
	arguments  any
	code       confirmCode
	effects    []string
	warnings   []string
	// create makes the token; ages in its arguments count from now.
	create func(ctx context.Context, now time.Time) (providers.Minted, error)
	// differs says where the token is not as asked; nil: never.
	differs func(now time.Time, token providers.Token) []string
}

// mintPlan is the moment of the preview. What is to be made stands in the
// arguments.
type mintPlan struct{ now time.Time }

const statusCreated = "created"

// mint makes the token, after a preview where its access needs one.
func (c *Call) mint(ctx context.Context, m mint) (any, error) {
	if !m.elevated {
		if err := c.refuseOtherCode(m); err != nil {
			return nil, err
		}
		return c.create(ctx, m, c.Now())
	}
	return flow[mintPlan, createTokenOut]{
		arguments: m.arguments,
		code:      m.code,
		plan: func(ctx context.Context, shown *mintPlan) (mintPlan, error) {
			if shown != nil {
				return *shown, nil
			}
			_, err := c.destinationOf(ctx, m.connection, m.deliverTo, "preview")
			return mintPlan{c.Now()}, err
		},
		propose: func(mintPlan) proposal { return proposal{effects: m.effects, warnings: m.warnings} },
		wrap:    func(p preview) createTokenOut { return createTokenOut{preview: p} },
		act:     func(ctx context.Context, p mintPlan) (createTokenOut, error) { return c.create(ctx, m, p.now) },
	}.run(ctx, c)
}

// refuseOtherCode refuses a call that needs no code but carries that of a preview:
// what was shown then was another token.
func (c *Call) refuseOtherCode(m mint) error {
	arguments, err := confirm.Canonical(m.arguments)
	if err != nil {
		return err
	}
	check := c.Confirm.Peek(string(m.code), c.Principal.Name, c.Tool.Name, arguments)
	if check.Verdict == confirm.Mismatch {
		return mismatch(check.Changed)
	}
	return nil
}

// create checks the sink, makes the token and delivers its secret. Once the
// vendor was called, nothing that the client does stops it.
func (c *Call) create(ctx context.Context, m mint, now time.Time) (createTokenOut, error) {
	operation, err := newOperationID()
	if err != nil {
		return createTokenOut{}, err
	}
	to, err := c.destinationOf(ctx, m.connection, m.deliverTo, operation)
	if err != nil {
		return createTokenOut{}, err
	}
	out := createTokenOut{OperationID: operation}
	var failure error
	err = c.protectedFromCancel(ctx, func(ctx context.Context) {
		c.Log.Info("creating a token", "operation", operation, "connection", m.connection.Name, "principal", c.Principal.Name)
		minted, err := m.create(ctx, now)
		m.connection.Note(err, c.Now())
		if err != nil {
			failure = fmt.Errorf("operation %s: %w", operation, err)
			return
		}
		out.Status, out.Token = statusCreated, mintedRowOf(&minted.Token)
		if m.differs != nil {
			out.Warnings = m.differs(now, minted.Token)
		}
		secret, err := c.deliver(context.WithoutCancel(ctx), to, minted)
		out.Secret = &secret
		if err != nil {
			out.undelivered(c, m.connection, err)
			return
		}
		c.Log.Info("token created", "operation", operation, "connection", m.connection.Name, "token", minted.Token.ID, "delivered_to", secret.DeliveredTo)
	})
	if err != nil {
		return out, err
	}
	return out, failure
}

const statusUndelivered = "undelivered"

// undelivered tells that the token exists and its secret is lost.
func (o *createTokenOut) undelivered(c *Call, connection *Connection, err error) {
	c.Log.Error("secret not delivered", "operation", o.OperationID, "connection", connection.Name, "token", o.Token.ID, "error", err)
	o.Status = statusUndelivered
	o.Warnings = append(o.Warnings, "the token exists, but its secret could not be delivered and is lost: "+clean(err.Error()))
	o.Next = "revoke token " + o.Token.ID + " with revoke_token, have the sink mended, and create it again"
}
