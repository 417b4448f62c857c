package tools

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
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
	// replaces is the token that ends once the new secret is delivered and the vendor
	// does not contradict; nil: none.
	replaces *providers.Token
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

// codeSecretLost is on record where neither the escrow nor the sink took a new secret.
const codeSecretLost = "secret_lost"

// The words of a verification.
const (
	verifiedTrue    = "true"
	verifiedFalse   = "false"
	verifiedSkipped = "skipped"
)

// The bounds of what happens to a secret after it was minted. The client does not shorten
// them; the server's end shortens a delivery, once the escrow has the secret.
const (
	sinkTime   = 75 * time.Second // a command of the operator's may take a minute
	verifyTime = 10 * time.Second
)

// mintSecret carries a minting out. Once the vendor was called, nothing that the
// client does stops it.
func (c *Call) mintSecret(ctx context.Context, m minting) (out mintingOut, failure error) {
	out.operation = m.id
	if err := c.Escrow.Check(ctx); err != nil {
		if ctx.Err() != nil {
			return out, ctx.Err()
		}
		c.Log.Error("escrow not usable", "error", err)
		err = &Problem{Code: "escrow_unusable", Message: "nothing was minted: " + clean(err.Error()), Next: "ask the operator to mend the state directory or database"}
		c.refused(ctx, m.intent, err)
		return out, err
	}
	err := c.protectedFromCancel(ctx, func(ctx context.Context) { failure = c.carryOut(ctx, m, &out) })
	return out, errors.Join(err, failure)
}

func (c *Call) carryOut(ctx context.Context, m minting, out *mintingOut) error {
	o, err := c.begin(ctx, m.id, m.intent, m.limits...)
	if err != nil {
		return err
	}
	if err := o.mayMint(ctx, m); err != nil {
		o.finish(ctx, ledger.Result{Outcome: ledger.Refused, ErrorCode: string(problemCode(err))})
		return err
	}
	ctx, trace := providers.WithTrace(ctx)
	minted, err := m.send(providers.WithMade(ctx, o.isMade))
	fault.Point("answered")
	m.connection.Note(err, c.Now())
	if err != nil {
		return o.notMinted(ctx, err, trace, out)
	}
	// What follows must not end with the vendor's time.
	ctx = context.WithoutCancel(ctx)
	out.minted = &minted
	out.secret = &secretRow{LastFour: minted.Token.LastFour, Fingerprint: c.fingerprint(minted)}
	out.warn(o.step(ctx, stepMinted, m.details(minted, out.secret, trace)))
	escrowed := o.escrow(ctx, m, minted, out)
	delivery, err := o.deliver(ctx, m.to, minted, escrowed, out)
	if err != nil {
		out.warn("the secret could not be delivered to " + m.to.String() + ": " + clean(err.Error()))
		o.undelivered(ctx, escrowed, "sink_failed", out)
		return nil
	}
	o.conclude(ctx, m, minted, delivery, escrowed, out)
	return nil
}

// mayMint judges once more now that the operation is on record, with its token and the sink's key: a sink that
// cannot see what it holds would overwrite the secret of a call that was faster.
func (o *operation) mayMint(ctx context.Context, m minting) error {
	if err := o.isFirstAt(ctx, m.to, "nothing was minted: "); err != nil {
		return err
	}
	token := ""
	if len(m.intent.Targets) == 1 { // a rotation
		token = m.intent.Targets[0].ID
		if err := o.call.notRenewed(ctx, m.connection, m.intent.Targets); err != nil {
			return err
		}
	}
	options, err := o.call.deliveryOptions(ctx, m.connection, m.to, token, "")
	if err == nil && options != m.to.options {
		err = keyInUse("nothing was minted: " + m.to.String() + " came into use just now")
	}
	return err
}

// isMade reports whether the secret of a token of the operation's account came to another operation, of
// any server. With an error that is not known.
func (o *operation) isMade(ctx context.Context, token string) (bool, error) {
	of := o.lease.Operation()
	made, err := o.call.Ledger.IsMade(ctx, &of, token)
	if err != nil && !errors.Is(err, ledger.ErrMayBeMade) {
		o.call.Log.Error("the ledger cannot be read", "error", err)
	}
	return made, err
}

// notMinted ends an operation whose vendor refused, or whose answer was lost. Of a lost
// answer the provider has found out what can be found without guessing.
func (o *operation) notMinted(ctx context.Context, cause error, trace *providers.Trace, out *mintingOut) error {
	r := ended(cause, trace)
	lost := cmp.Or(providers.LostOf(cause), &providers.Lost{Next: "read the token, or list tokens, to see whether it happened before you try again"})
	if lost.Happened == providers.HappenedNo {
		r.Outcome, r.ErrorCode = ledger.Failed, string(providers.CodeUnavailable)
		cause = &Problem{Code: r.ErrorCode, Message: "nothing was changed: " + sentence(cause), Next: lost.Next}
	}
	if r.Outcome != ledger.Unknown {
		if warning := o.finish(ctx, r); warning != "" {
			return fmt.Errorf("%s: %w", warning, cause)
		}
		return fmt.Errorf("operation %s: %w", o.id, cause)
	}
	orphan, isKnown := lost.Orphan()
	r.NewTokenID = orphan.ID
	if ends, ok := lost.OldEnds.Time(); ok {
		r.OldEnds = ends
	}
	r.Note = lost.Next
	out.status, out.next = statusUnknown, lost.Next
	out.warn(sentence(cause))
	for i := range lost.Orphans {
		warning := "token " + lost.Orphans[i].ID + " may be the one that was made"
		if isKnown {
			warning += "; nobody has its secret"
		}
		out.warn(warning)
	}
	out.warn(o.finish(ctx, r))
	return nil
}

// undelivered ends an operation whose secret is in no sink.
func (o *operation) undelivered(ctx context.Context, escrowed bool, code string, out *mintingOut) {
	if escrowed {
		out.status = statusEscrowed
		out.next = "have the sink mended, then call deliver_secret with operation_id " + o.id + "; another sink can be given there"
		out.warn(o.finish(ctx, ledger.Result{Outcome: ledger.Escrowed, ErrorCode: code}))
		return
	}
	out.status = statusUndelivered
	note := "neither the escrow nor the sink took the secret of token " + out.minted.Token.ID + ": nobody has it; rotate or revoke that token"
	out.warn(o.finish(ctx, ledger.Result{Outcome: ledger.Unknown, ErrorCode: codeSecretLost, Details: ledger.Details{Note: note}}))
}

func (m minting) details(minted providers.Minted, row *secretRow, trace *providers.Trace) ledger.Details {
	d := ledger.Details{NewTokenID: minted.Token.ID, Fingerprint: row.Fingerprint, VendorRequestID: trace.RequestID}
	if ends, ok := minted.OldEnds.Time(); ok {
		d.OldEnds = ends
	}
	d.OldTokenID = replacedBy(m.intent.Targets, minted.Token.ID)
	return d
}

// warn adds a warning, if there is one, once.
func (out *mintingOut) warn(warning string) {
	if warning != "" && !slices.Contains(out.warnings, warning) {
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
func (o *operation) escrow(ctx context.Context, m minting, minted providers.Minted, out *mintingOut) bool {
	err := o.call.Escrow.Put(ctx, o.id, minted.Secret, sink.Meta{
		TokenID: minted.Token.ID, Connection: m.connection.Name, Destination: m.to.String(), Created: o.call.Now().UTC(),
	})
	fault.Point("escrowing")
	if err != nil {
		o.call.Log.Error("secret not in escrow", "operation", o.id, "token", minted.Token.ID, "error", err)
		out.warn("the secret could not be put in escrow: " + clean(err.Error()))
		return false
	}
	out.warn(o.step(ctx, stepEscrowed, ledger.Details{}))
	return true
}

// deliver puts the secret into its sink. The end of the server is waited for no longer
// than for a vendor, unless the sink is the only place that the secret can go to.
func (o *operation) deliver(ctx context.Context, to destination, minted providers.Minted, escrowed bool, out *mintingOut) (sink.Delivery, error) {
	ctx, cancel := context.WithTimeout(ctx, sinkTime)
	defer cancel()
	if escrowed {
		defer o.call.Work.AfterStop(cmp.Or(o.call.VendorTime, changeTime), cancel)()
	}
	delivery, err := to.sink.Deliver(ctx, to.key, minted.Secret, to.options)
	fault.Point("delivering")
	if err != nil {
		o.call.Log.Error("secret not delivered", "operation", o.id, "token", minted.Token.ID, "to", to.String(), "error", err)
		return delivery, err
	}
	out.warn(o.step(ctx, stepDelivered, ledger.Details{Version: delivery.Version}))
	out.secret.deliveredTo(o.call, delivery)
	return delivery, nil
}

// conclude verifies a delivery, puts the outcome on record and clears the escrow.
func (o *operation) conclude(ctx context.Context, m minting, minted providers.Minted, delivery sink.Delivery, escrowed bool, out *mintingOut) {
	seen := o.call.verify(ctx, m.connection, minted, m.to.sink, delivery)
	fault.Point("verifying")
	out.secret.Verified = seen.word()
	for _, warning := range seen.warnings {
		out.warn(warning)
	}
	out.warn(o.step(ctx, stepVerified, ledger.Details{Verified: out.secret.Verified}))
	if seen.sink == verifiedFalse {
		out.secret.DeliveredTo, out.secret.Version, out.secret.File = "", 0, ""
		o.undelivered(ctx, escrowed, "sink_does_not_hold", out)
		return
	}
	if seen.sink == verifiedSkipped && escrowed {
		out.warn(fmt.Sprintf("an encrypted copy of the secret stays in escrow for %v", o.call.EscrowRetention))
	}
	r := ledger.Result{Outcome: ledger.Done}
	if m.replaces != nil {
		r = o.call.endOld(ctx, m, seen, out)
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
	fault.Point("cleared")
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

// verify reads the sink back and asks the vendor with the new secret.
func (c *Call) verify(ctx context.Context, connection *Connection, minted providers.Minted, s sink.Sink, delivery sink.Delivery) verification {
	v := verification{vendor: verifiedSkipped, sink: verifiedSkipped}
	c.readBack(ctx, &v, minted, s, delivery)
	c.askVendor(ctx, &v, connection, minted)
	return v
}

func (c *Call) readBack(ctx context.Context, v *verification, minted providers.Minted, s sink.Sink, delivery sink.Delivery) {
	holder, ok := s.(sink.Holder)
	if !ok {
		v.warnings = append(v.warnings, "sink "+delivery.Sink+" cannot be read back")
		return
	}
	ctx, cancel := context.WithTimeout(ctx, verifyTime)
	defer cancel()
	holds, err := holder.Holds(ctx, delivery, minted.Secret.Digest())
	switch {
	case err != nil:
		c.Log.Warn("sink not read back", "sink", delivery.Sink, "error", err)
		v.warnings = append(v.warnings, "the sink could not be read back: "+clean(err.Error()))
	case holds:
		v.sink = verifiedTrue
	default:
		c.Log.Error("the sink does not hold what was delivered", "sink", delivery.Sink, "token", minted.Token.ID)
		v.sink = verifiedFalse
		v.warnings = append(v.warnings, "the sink does not hold what was delivered")
	}
}

func (c *Call) askVendor(ctx context.Context, v *verification, connection *Connection, minted providers.Minted) {
	verifier, ok := connection.Provider.(providers.Verifier)
	if !ok {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, verifyTime)
	defer cancel()
	accepted, err := verifier.VerifySecret(ctx, minted.Token, minted.Secret)
	switch {
	case err != nil:
		c.Log.Warn("secret not verified", "connection", connection.Name, "token", minted.Token.ID, "error", err)
		v.warnings = append(v.warnings, "whether the vendor accepts the new secret could not be found out")
	case accepted:
		v.vendor = verifiedTrue
	default:
		c.Log.Error("the vendor does not accept the new secret", "connection", connection.Name, "token", minted.Token.ID)
		v.vendor = verifiedFalse
		v.warnings = append(v.warnings, "the vendor does not accept the new secret (yet): look into it before anything depends on it")
	}
}
