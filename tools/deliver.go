package tools

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/google/uuid"

	"github.com/tokenreeve/tokenreeve/auth"
	"github.com/tokenreeve/tokenreeve/internal/policy"
	"github.com/tokenreeve/tokenreeve/internal/sink"
	"github.com/tokenreeve/tokenreeve/providers"
)

// destination is where a new secret goes.
type destination struct {
	name    string
	sink    sink.Sink
	key     sink.Key
	options sink.Options
}

func (d destination) String() string { return d.name + "/" + d.key.String() }

// effect tells in a preview where the secret goes and what becomes of what is there.
func (d destination) effect() string {
	if _, keepsAll := d.sink.(*sink.File); keepsAll {
		return "The new secret goes to " + d.String() + "; what is there already is kept as an earlier version."
	}
	return "The new secret goes to " + d.String() + " and replaces what is there now, if anything."
}

// secretRow is what a result tells of a new secret: never the secret.
type secretRow struct {
	DeliveredTo string `json:"delivered_to,omitempty" jsonschema_description:"SINK/KEY"`
	Version     int    `json:"version,omitempty" jsonschema_description:"of the key; earlier ones are kept"`
	File        string `json:"file,omitempty"`
	LastFour    string `json:"last_four,omitempty"`
	Fingerprint string `json:"fingerprint,omitempty"`
}

// fingerprintKeySize is the size of the key of fingerprints, in bytes.
const fingerprintKeySize = 32

// newOperationID returns a sortable id for one change.
func newOperationID() (string, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return "", fmt.Errorf("operation id: %w", err)
	}
	return id.String(), nil
}

// destinationOf finds the sink and checks that it takes a secret under the key.
// This happens before the vendor is called.
func (c *Call) destinationOf(ctx context.Context, connection *Connection, deliverTo, keyEnd string) (destination, error) {
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
	name, key, err := sink.ParseDestination(deliverTo)
	if err != nil {
		return destination{}, &Problem{Code: "invalid_argument", Message: "argument deliver_to: " + err.Error(), Valid: c.sinkNames(), Next: "give SINK/KEY, for example files/ci/deploy"}
	}
	s, ok := c.Sinks[name]
	if !ok {
		return destination{}, &Problem{Code: "unknown_sink", Message: fmt.Sprintf("there is no sink %q", clean(name)), Valid: c.sinkNames(), Next: "give deliver_to as SINK/KEY with a valid sink"}
	}
	// Until deliveries are on record, a rotation is taken to replace the token's last secret under the
	// key. A new token has no last one, but a file sink keeps every version anyway.
	_, keepsAll := s.(*sink.File)
	options := sink.Options{Connection: connection.Name, Principal: c.Principal.Name, Successor: keepsAll || c.Tool.Class == policy.Rotate}
	if err := s.Check(ctx, key, options); err != nil {
		return destination{}, sinkProblem(err)
	}
	return destination{name, s, key, options}, nil
}

// sinkProblem says why a sink takes no secret under a key.
func sinkProblem(err error) *Problem {
	p := &Problem{Code: "sink_unusable", Message: "nothing was minted: " + err.Error(), Next: "choose another deliver_to, or ask the operator to mend the sink"}
	switch {
	case errors.Is(err, sink.ErrKeyExists):
		p.Code, p.Next = "sink_key_exists", "give deliver_to with a key that is not in use"
	case errors.Is(err, sink.ErrNotAccepted):
		p.Code, p.Next = "sink_not_accepted", "choose another deliver_to, or ask the operator to widen what the sink accepts"
	}
	return p
}

func (c *Call) sinkNames() []string { return slices.Sorted(maps.Keys(c.Sinks)) }

// deliver puts a new secret into its sink.
func (c *Call) deliver(ctx context.Context, to destination, minted providers.Minted) (secretRow, error) {
	row := secretRow{LastFour: minted.Token.LastFour}
	key, err := c.FingerprintKey(fingerprintKeySize)
	if err != nil {
		c.Log.Warn("no fingerprint", "error", err)
	} else {
		row.Fingerprint = minted.Secret.Fingerprint(key)
	}
	delivery, err := to.sink.Deliver(ctx, to.key, minted.Secret, to.options)
	if err != nil {
		return row, fmt.Errorf("deliver to %s: %w", to, err)
	}
	row.DeliveredTo, row.Version = delivery.Sink+"/"+delivery.Key, delivery.Version
	if c.Principal == auth.Local() {
		row.File = delivery.Path
	}
	return row, nil
}
