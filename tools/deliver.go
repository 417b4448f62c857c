package tools

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/tokenreeve/tokenreeve/internal/ledger"
	"github.com/tokenreeve/tokenreeve/internal/sanitize"
	"github.com/tokenreeve/tokenreeve/internal/sink"
)

// destination is where a new secret goes.
type destination struct {
	name    string
	sink    sink.Sink
	key     sink.Key
	options sink.Options
}

// String returns SINK/KEY.
func (d destination) String() string { return d.name + "/" + d.key.String() }

// effect tells in a preview where the secret goes and what becomes of what is there.
func (d destination) effect() string {
	_, keepsAll := d.sink.(*sink.File)
	switch {
	case !d.options.Successor:
		return "The new secret goes to " + d.String() + "."
	case keepsAll:
		return "The new secret goes to " + d.String() + "; this token's secret there is kept as an earlier version."
	}
	return "The new secret goes to " + d.String() + " and replaces this token's secret there."
}

// secretRow is what a result tells of a new secret: never the secret.
type secretRow struct {
	DeliveredTo string `json:"delivered_to,omitempty" jsonschema_description:"SINK/KEY"`
	Version     int    `json:"version,omitempty" jsonschema_description:"of the key"`
	File        string `json:"file,omitempty"`
	LastFour    string `json:"last_four,omitempty"`
	Fingerprint string `json:"fingerprint,omitempty"`
	Verified    string `json:"verified,omitempty" jsonschema_description:"true, false or skipped"`
}

// fingerprintKeySize is the size of the key of fingerprints, in bytes.
const fingerprintKeySize = 32

// newOperationID returns a sortable id for one change.
func newOperationID() (string, error) {
	id, err := ledger.NewID()
	if err != nil {
		return "", fmt.Errorf("operation id: %w", err)
	}
	return id, nil
}

// destinationOf finds the sink and checks that it takes a secret under the key. This
// happens before the vendor is called. token is the one whose secret is replaced, empty
// for a new one.
func (c *Call) destinationOf(ctx context.Context, connection *Connection, deliverTo, keyEnd, token string) (destination, error) {
	if deliverTo == "" {
		if connection.Sink == "" {
			return destination{}, &Problem{
				Code: "no_sink", Valid: c.sinkNames(),
				Message: "connection " + connection.Name + " has no default sink for new secrets",
				Next:    "give deliver_to as SINK/KEY, or ask the operator to set connections." + connection.Name + ".sink",
			}
		}
		deliverTo = connection.Sink + "/" + connection.Name + "/" + keyEnd
	}
	to, err := c.place(deliverTo)
	if err != nil {
		return destination{}, err
	}
	if to.options, err = c.deliveryOptions(ctx, connection, to, token, ""); err != nil {
		return destination{}, err
	}
	return to, to.check(ctx, "nothing was minted: ")
}

// check finds out whether the sink takes a secret under the key. what stands in front of the
// problem's message.
func (d destination) check(ctx context.Context, what string) error {
	err := d.sink.Check(ctx, d.key, d.options)
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil: // the caller gave up: nothing is wrong with the sink
		return ctx.Err()
	}
	return sinkProblem(what, err)
}

// place reads SINK/KEY.
func (c *Call) place(deliverTo string) (destination, error) {
	name, key, err := sink.ParseDestination(deliverTo)
	if err != nil {
		return destination{}, &Problem{Code: "invalid_argument", Message: "argument deliver_to: " + err.Error(), Valid: c.sinkNames(), Next: "give SINK/KEY, for example files/ci/deploy"}
	}
	if sanitize.ID(key.String()) != key.String() { // shown back and kept on record, as no credential may be
		return destination{}, &Problem{Code: "invalid_argument", Message: "argument deliver_to: the key looks like a credential", Next: "name the place otherwise, for example files/ci/deploy; a secret never belongs into an argument"}
	}
	s, ok := c.Sinks[name]
	if !ok {
		return destination{}, &Problem{Code: "unknown_sink", Message: fmt.Sprintf("there is no sink %q", clean(name)), Valid: c.sinkNames(), Next: "give deliver_to as SINK/KEY with a valid sink"}
	}
	return destination{name: name, sink: s, key: key}, nil
}

// deliveryOptions tells from the record whether the key is known, and whether what it
// holds is this token's last secret, older than that of the minting: only then may it be
// replaced. No minting: a new secret is to come.
func (c *Call) deliveryOptions(ctx context.Context, connection *Connection, to destination, token, minting string) (sink.Options, error) {
	o := sink.Options{Connection: connection.Name, Principal: c.Principal.Name}
	last, known, err := c.Ledger.LastDeliveryTo(ctx, to.name, to.key.String())
	if err != nil {
		return o, c.noLedger(err)
	}
	o.Known = known
	if !known || token == "" {
		return o, nil
	}
	newest, found, err := c.lastDelivery(ctx, connection, token)
	o.Successor = found && newest.ID == last.ID && (minting == "" || mintingOf(&newest) < minting)
	return o, err
}

// lastDelivery returns the operation that delivered the token's last secret.
func (c *Call) lastDelivery(ctx context.Context, connection *Connection, token string) (ledger.Operation, bool, error) {
	identity, err := connection.Provider.Identity(ctx)
	if err != nil {
		return ledger.Operation{}, false, err
	}
	op, found, err := c.Ledger.LastDelivery(ctx, connection.Provider.Name(), accountOf(identity), token)
	if err != nil {
		return op, false, c.noLedger(err)
	}
	return op, found, nil
}

// mintingOf returns the operation that minted what op delivered. Its id sorts by time.
func mintingOf(op *ledger.Operation) string { return cmp.Or(op.Of, op.ID) }

// codeKeyExists says that a sink holds something under the key.
const codeKeyExists = "sink_key_exists"

// sinkProblem says why a sink takes no secret under a key.
func sinkProblem(what string, err error) *Problem {
	p := &Problem{Code: "sink_unusable", Message: what + clean(err.Error()), Next: "choose another deliver_to, or ask the operator to mend the sink"}
	switch {
	case errors.Is(err, sink.ErrKeyExists):
		p.Code, p.Next = codeKeyExists, "give deliver_to with a key that is not in use"
	case errors.Is(err, sink.ErrNotAccepted):
		p.Code, p.Next = "sink_not_accepted", "choose another deliver_to, or ask the operator to widen what the sink accepts"
	}
	return p
}

// isFirstAt refuses a place that another operation which is under way delivers to, and has begun to before
// this one. Both are on record with the place before they look, so of several one goes on.
func (o *operation) isFirstAt(ctx context.Context, to destination, what string) error {
	page, err := o.call.Ledger.List(ctx, ledger.Query{Sink: to.name, Key: to.key.String(), Outcome: ledger.OpenOutcome, Limit: ledger.MaxPage})
	if err != nil {
		return o.call.noLedger(err)
	}
	own := o.lease.Operation()
	for i := range page.Operations {
		other := &page.Operations[i]
		if other.Seq >= own.Seq {
			continue
		}
		if !other.Lease.After(o.call.Now()) { // it was cut off
			o.call.Settle(ctx)
		}
		return keyInUse(what + "operation " + other.ID + " delivers to " + to.String())
	}
	return nil
}

// keyInUse refuses a key that somebody was faster to use.
func keyInUse(message string) error {
	return &Problem{Code: codeKeyExists, Message: message, Next: "give deliver_to with a key that is not in use, or call again without confirm once that operation has ended"}
}

func (c *Call) sinkNames() []string { return slices.Sorted(maps.Keys(c.Sinks)) }

// deliveredTo notes where the secret is. Paths are for the local user only.
func (r *secretRow) deliveredTo(c *Call, delivery sink.Delivery) {
	r.DeliveredTo, r.Version = delivery.Sink+"/"+delivery.Key, delivery.Version
	if c.Principal.IsLocal {
		r.File = delivery.Path
	}
}
