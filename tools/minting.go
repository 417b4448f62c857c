package tools

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tokenreeve/tokenreeve/internal/fault"
	"github.com/tokenreeve/tokenreeve/internal/ledger"
	"github.com/tokenreeve/tokenreeve/internal/sink"
	"github.com/tokenreeve/tokenreeve/providers"
)

// minting is the way of a new secret, the same for a new token and for a rotation:
// intent on record, minted, in escrow, delivered, verified, outcome on record. Each
// step is on record before the next.
type minting struct {
	connection *Connection
	id         string // the operation's
	intent     ledger.Intent
	limits     []ledger.Limit
	to         destination
	// send makes the one call of the vendor.
	send func(ctx context.Context) (providers.Minted, error)
	// delivered follows a delivery that the vendor did not contradict; nil: nothing
	// does. It returns what is to be on record of it.
	delivered func(ctx context.Context, out *mintingOut) ledger.Result
}

// mintingOut is how a minting ended.
type mintingOut struct {
	operation string
	status    string // escrowed, unknown, undelivered; empty: delivered
	minted    *providers.Minted
	secret    *secretRow
	warnings  []string
	next      string
	oldEnded  time.Time // when the old token was revoked
}

const (
	statusEscrowed    = "escrowed"
	statusUndelivered = "undelivered" // neither a sink nor the escrow took the secret
)

// The words of a verification.
const (
	verifiedTrue    = "true"
	verifiedFalse   = "false"
	verifiedSkipped = "skipped"
)

// The bounds of what happens to a secret after it was minted. The client and the
// server's end do not shorten them.
const (
	sinkTime   = 75 * time.Second // a command of the operator's may take a minute
	verifyTime = 10 * time.Second
)

// mintSecret carries a minting out. Once the vendor was called, nothing that the
// client does stops it.
func (c *Call) mintSecret(ctx context.Context, m minting) (out mintingOut, failure error) {
	out.operation = m.id
	err := c.Escrow.Check(ctx)
	if ctx.Err() != nil { // the caller gave up: nothing is wrong with the escrow
		return out, ctx.Err()
	}
	if err != nil {
		c.Log.Error("escrow not usable", "error", err)
		err = &Problem{Code: "escrow_unusable", Message: "nothing was minted: " + clean(err.Error()), Next: "ask the operator to mend the state directory"}
		c.refused(ctx, m.intent, err)
		return out, err
	}
	err = c.protectedFromCancel(ctx, func(ctx context.Context) { failure = c.carryOut(ctx, m, &out) })
	return out, errors.Join(err, failure)
}

func (c *Call) carryOut(ctx context.Context, m minting, out *mintingOut) error {
	o, err := c.begin(ctx, m.id, m.intent, m.limits...)
	if err != nil {
		return err
	}
	ctx, trace := providers.WithTrace(ctx)
	minted, err := m.send(ctx)
	fault.Point("answered")
	m.connection.Note(err, c.Now())
	if err != nil {
		return o.notMinted(ctx, err, trace, out)
	}
	// What follows must not end with the vendor's time.
	ctx = context.WithoutCancel(ctx)
	out.minted = &minted
	out.secret = &secretRow{LastFour: minted.Token.LastFour, Fingerprint: c.fingerprint(minted)}
	o.step(ctx, stepMinted, m.details(minted, out.secret, trace))
	escrowed := o.escrow(ctx, m, minted)
	delivery, delivered := o.deliver(ctx, m.to, minted, out)
	switch {
	case delivered:
		o.conclude(ctx, m, minted, delivery, out)
	case escrowed:
		out.status = statusEscrowed
		out.next = "have the sink mended, then call deliver_secret with operation_id " + o.id + "; another sink can be given there"
		out.warn(o.finish(ctx, ledger.Result{Outcome: ledger.Escrowed, ErrorCode: "sink_failed"}))
	default:
		out.status = statusUndelivered
		out.warn(o.finish(ctx, ledger.Result{Outcome: ledger.Unknown, ErrorCode: "secret_lost", Details: ledger.Details{Note: "neither the escrow nor the sink took the secret"}}))
	}
	return nil
}

// notMinted ends an operation whose vendor refused, or whose answer was lost. Of a lost
// answer the provider has found out what can be found without guessing.
func (o *operation) notMinted(ctx context.Context, cause error, trace *providers.Trace, out *mintingOut) error {
	r := ended(cause, trace)
	lost := providers.LostOf(cause)
	if lost == nil {
		out.warn(o.finish(ctx, r))
		return fmt.Errorf("operation %s: %w", o.id, cause)
	}
	if lost.Happened == providers.HappenedNo {
		r.Outcome = ledger.Failed
	}
	if len(lost.Orphans) == 1 {
		r.NewTokenID = lost.Orphans[0].ID
	}
	if ends, ok := lost.OldEnds.Time(); ok {
		r.OldEnds = ends
	}
	r.Note = lost.Next
	out.status, out.next = statusUnknown, lost.Next
	out.warn(sentence(cause))
	for i := range lost.Orphans {
		t := &lost.Orphans[i]
		out.warnings = append(out.warnings, "token "+t.ID+" may be the one that was made; nobody has its secret")
	}
	out.warn(o.finish(ctx, r))
	return nil
}

func (m minting) details(minted providers.Minted, row *secretRow, trace *providers.Trace) ledger.Details {
	d := ledger.Details{NewTokenID: minted.Token.ID, Fingerprint: row.Fingerprint, VendorRequestID: trace.RequestID}
	if ends, ok := minted.OldEnds.Time(); ok {
		d.OldEnds = ends
	}
	if len(m.intent.Targets) == 1 && m.intent.Targets[0].ID != minted.Token.ID {
		d.OldTokenID = m.intent.Targets[0].ID
	}
	return d
}

func (out *mintingOut) warn(warning string) {
	if warning != "" {
		out.warnings = append(out.warnings, warning)
	}
}

// fingerprint returns the keyed fingerprint of a new secret, or "" where the key cannot
// be read.
func (c *Call) fingerprint(minted providers.Minted) string {
	key, err := c.FingerprintKey(fingerprintKeySize)
	if err != nil {
		c.Log.Warn("no fingerprint", "error", err)
		return ""
	}
	return minted.Secret.Fingerprint(key)
}

// escrow puts the secret on disk, encrypted, before anything else happens to it.
func (o *operation) escrow(ctx context.Context, m minting, minted providers.Minted) bool {
	err := o.call.Escrow.Put(ctx, o.id, minted.Secret, sink.Meta{
		TokenID: minted.Token.ID, Connection: m.connection.Name, Destination: m.to.String(), Created: o.call.Now().UTC(),
	})
	if err != nil {
		o.call.Log.Error("secret not in escrow", "operation", o.id, "token", minted.Token.ID, "error", err)
		return false
	}
	o.step(ctx, stepEscrowed, ledger.Details{})
	return true
}

// deliver puts the secret into its sink.
func (o *operation) deliver(ctx context.Context, to destination, minted providers.Minted, out *mintingOut) (sink.Delivery, bool) {
	ctx, cancel := context.WithTimeout(ctx, sinkTime)
	defer cancel()
	delivery, err := to.sink.Deliver(ctx, to.key, minted.Secret, to.options)
	fault.Point("delivering")
	if err != nil {
		o.call.Log.Error("secret not delivered", "operation", o.id, "token", minted.Token.ID, "to", to.String(), "error", err)
		out.warnings = append(out.warnings, "the secret could not be delivered to "+to.String()+": "+clean(err.Error()))
		return delivery, false
	}
	o.step(ctx, stepDelivered, ledger.Details{Version: delivery.Version})
	out.secret.deliveredTo(o.call, delivery)
	return delivery, true
}

// conclude verifies a delivery, puts the outcome on record and clears the escrow.
func (o *operation) conclude(ctx context.Context, m minting, minted providers.Minted, delivery sink.Delivery, out *mintingOut) {
	seen := o.call.verify(ctx, m.connection, minted, m.to.sink, delivery)
	out.secret.Verified = seen.word()
	out.warnings = append(out.warnings, seen.warnings...)
	o.step(ctx, stepVerified, ledger.Details{Verified: out.secret.Verified})
	if seen.sink == verifiedFalse {
		out.secret.DeliveredTo = ""
		out.status = statusEscrowed
		out.next = "have the sink looked at, then call deliver_secret with operation_id " + o.id
		out.warn(o.finish(ctx, ledger.Result{Outcome: ledger.Escrowed, ErrorCode: "sink_does_not_hold"}))
		return
	}
	r := ledger.Result{Outcome: ledger.Done}
	if m.delivered != nil && seen.vendor != verifiedFalse {
		r = m.delivered(ctx, out)
	}
	warning := o.finish(ctx, r)
	out.warn(warning)
	if warning == "" && seen.sink == verifiedTrue {
		o.call.clearEscrow(ctx, o.id)
	}
}

// clearEscrow removes a secret that its sink holds.
func (c *Call) clearEscrow(ctx context.Context, operation string) {
	if err := c.Escrow.Delete(ctx, operation); err != nil {
		c.Log.Error("escrow copy not removed", "operation", operation, "error", err)
	}
}

// verification is what vendor and sink said of a new secret.
type verification struct {
	vendor, sink string // true, false or skipped
	warnings     []string
}

func (v verification) word() string {
	switch {
	case v.vendor == verifiedFalse || v.sink == verifiedFalse:
		return verifiedFalse
	case v.vendor == verifiedTrue && v.sink == verifiedTrue:
		return verifiedTrue
	}
	return verifiedSkipped
}

// verify asks the vendor with the new secret and reads the sink back.
func (c *Call) verify(ctx context.Context, connection *Connection, minted providers.Minted, s sink.Sink, delivery sink.Delivery) verification {
	ctx, cancel := context.WithTimeout(ctx, verifyTime)
	defer cancel()
	v := verification{vendor: verifiedSkipped, sink: verifiedSkipped}
	if verifier, ok := connection.Provider.(providers.Verifier); ok {
		accepted, err := verifier.VerifySecret(ctx, minted.Token, minted.Secret)
		switch {
		case err != nil:
			c.Log.Warn("secret not verified", "connection", connection.Name, "token", minted.Token.ID, "error", err)
			v.warnings = append(v.warnings, "whether the vendor accepts the new secret could not be found out")
		case accepted:
			v.vendor = verifiedTrue
		default:
			v.vendor = verifiedFalse
			v.warnings = append(v.warnings, "the vendor does not accept the new secret (yet): look into it before anything depends on it")
		}
	}
	holder, ok := s.(sink.Holder)
	if !ok {
		v.warnings = append(v.warnings, fmt.Sprintf("sink %s cannot be read back; an encrypted copy stays in escrow for %v", delivery.Sink, c.EscrowRetention))
		return v
	}
	holds, err := holder.Holds(ctx, delivery, minted.Secret.Digest())
	switch {
	case err != nil:
		c.Log.Warn("sink not read back", "sink", delivery.Sink, "error", err)
		v.warnings = append(v.warnings, "the sink could not be read back: "+clean(err.Error()))
	case holds:
		v.sink = verifiedTrue
	default:
		v.sink = verifiedFalse
		v.warnings = append(v.warnings, "the sink does not hold what was delivered")
	}
	return v
}
