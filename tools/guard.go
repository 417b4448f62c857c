package tools

import (
	"cmp"
	"context"

	"github.com/tokenreeve/tokenreeve/providers"
)

// protectedFromCancel runs a change to its end, whatever becomes of the client:
// what was sent must be known and delivered. Once the server stops, what is on its
// way has the time of one vendor call, and nothing is repeated after that.
func (c *Call) protectedFromCancel(ctx context.Context, do func(context.Context)) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if c.Work.IsStopping() {
		return stopping()
	}
	defer c.Work.Begin()()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), changeTime)
	defer cancel()
	defer c.Work.AfterStop(cmp.Or(c.VendorTime, changeTime), cancel)()
	do(ctx)
	return nil
}

const codeStopping = "server_stopping"

func stopping() error {
	return &Problem{Code: codeStopping, Message: "the server is shutting down; nothing was changed", Next: "try again when it is back"}
}

// guard refuses a target that nobody may change: a configured connection's own
// credential, or a protected token. It judges anew at the confirmation.
func (c *Call) guard(own providers.Own, connection *Connection, t *providers.Token) error {
	if own.Has(t) {
		p := &Problem{
			Code:    "own_credential",
			Message: "token " + t.ID + " is, or may be, a credential of this server's own connections and is never changed here",
		}
		if hand, ok := connection.Provider.(providers.HandOff); ok {
			p.Next = "by hand: " + joinSteps(hand.HandOff(providers.DeedRotateOwnCredential))
		}
		return p
	}
	if t.Owner.Email == "" && connection.Policy.ProtectsByEmail() {
		return &Problem{
			Code:    "protected",
			Message: "the e-mail address of the owner of token " + t.ID + " is not told, so connections." + connection.Name + ".protect.owners cannot be judged",
			Next:    "ask the operator to protect by account id instead",
		}
	}
	if rule := connection.Policy.Protects(t); rule != "" {
		return &Problem{Code: "protected", Message: "token " + t.ID + " is protected: " + rule, Next: "ask the operator"}
	}
	return nil
}

// nameOwner adds what a listing tells of the owner to a record that has only the
// owner's id.
func nameOwner(t *providers.Token, listed providers.Token) {
	if t.Owner.Email == "" && t.Owner.Name == "" && listed.Owner.ID == t.Owner.ID {
		t.Owner = listed.Owner
	}
}

// nameOwners completes records that lack the owner's e-mail address where policy
// protects by address: else the rule could not be judged.
func (c *Call) nameOwners(ctx context.Context, connection *Connection, tokens []providers.Token) error {
	locator, ok := connection.Provider.(providers.Locator)
	if !ok || !connection.Policy.ProtectsByEmail() {
		return nil
	}
	var nameless []string
	for i := range tokens {
		if tokens[i].Owner.Email == "" {
			nameless = append(nameless, tokens[i].ID)
		}
	}
	if len(nameless) == 0 {
		return nil
	}
	listed, err := locator.Locate(ctx, nameless)
	connection.Note(err, c.Now())
	if err != nil {
		return err
	}
	for i := range tokens {
		nameOwner(&tokens[i], listed[tokens[i].ID])
	}
	return nil
}

// ownOf tells the own credentials, or refuses all changes where they cannot be told.
// It is asked after the targets were read: a 401 renews the credential.
func (c *Call) ownOf(ctx context.Context, connection *Connection) (providers.Own, error) {
	own, err := c.Registry.Own(ctx, connection.Connection)
	if err != nil {
		if p := problemOf(err); p != nil {
			return own, &Problem{
				Code:    "own_credential_unknown",
				Message: "changes are refused: " + p.Message,
				Next:    "reads still work; ask the operator to check that connection's credential",
			}
		}
	}
	return own, err
}
