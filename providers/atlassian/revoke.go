package atlassian

import (
	"context"
	"errors"
	"iter"
	"net/http"
	"strings"
	"time"

	"github.com/tokenreeve/tokenreeve/providers"
)

// Revoke ends one token of a user, through user management. Before that it reads
// the owner's list and matches the id. Where no id matches, the two APIs may name
// tokens differently: then a single record with the same name and the same moment
// of creation is the token. AlreadyGone needs a list without the id and without
// any record that comes near.
//
// It returns an Error with CodeNotOffered for a token of a service account, with
// CodeRefused where it cannot tell which record is the token, and with
// CodeOwnerUnknown where the vendor does not know the owner, which proves nothing
// of the token.
func (p *Provider) Revoke(ctx context.Context, token providers.Token) (providers.Revocation, error) {
	if err := p.CanRevoke(token); err != nil {
		return "", err
	}
	if token.Owner.ID == "" {
		return "", invalid("user management revokes a token below its owner, whose account id is missing; give owner")
	}
	if err := checkAccount(providers.PartOwner, token.Owner.ID); err != nil {
		return "", err
	}
	if err := checkToken(token.ID); err != nil {
		return "", err
	}
	id, err := recordOf(token, p.client.userTokens(ctx, token.Owner.ID))
	switch {
	case err != nil:
		return "", ownerUnknown(err)
	case id == "":
		return providers.AlreadyGone, nil
	}
	revocation, err := p.delete(ctx, token.Owner.ID, id)
	return revocation, ownerUnknown(err)
}

// CanRevoke refuses a token of a service account: the vendor ends these only all
// at once, or by hand.
func (p *Provider) CanRevoke(token providers.Token) error {
	if token.Kind != providers.KindService {
		return nil
	}
	return &providers.Error{
		Provider: vendor, Code: providers.CodeNotOffered,
		Message: "no API can revoke a single token of a service account",
		Next:    strings.Join(p.HandOff(providers.DeedRevokeServiceToken), " "),
	}
}

// delete sends the revocation. A 204 alone is taken for success: it is what the
// vendor documents, and a proxy in between may answer any other 2xx.
func (p *Provider) delete(ctx context.Context, owner, id string) (providers.Revocation, error) {
	response, err := p.client.deleteUserToken(ctx, owner, id)
	switch {
	case err == nil && response.Status == http.StatusNoContent:
		return providers.Revoked, nil
	case err == nil:
		return "", &providers.Error{
			Provider: vendor, Code: providers.CodeOutcomeUnknown, Status: response.Status, RequestID: response.RequestID,
			Message: "the answer to the revocation is not the 204 that was due",
			Next:    "read the token again to see whether it is gone",
		}
	case vendorCode(err) != keyTokenNotFound:
		return "", err
	case response.MayHaveActed:
		return providers.Revoked, nil // an earlier attempt did it
	default:
		return providers.AlreadyGone, nil
	}
}

// recordOf returns the id under which user management knows the token, or "" where
// the owner's complete list does not hold it.
func recordOf(token providers.Token, records iter.Seq2[*userToken, error]) (string, error) {
	var same []string
	isNear := false
	for record, err := range records {
		if err != nil {
			return "", err
		}
		if record.ID == token.ID {
			return record.ID, nil
		}
		switch compare(token, record) {
		case likeSame:
			same = append(same, record.ID)
		case likeNear:
			isNear = true
		}
	}
	switch {
	case len(same) == 1:
		return same[0], nil
	case len(same) == 0 && !isNear:
		return "", nil
	default:
		return "", &providers.Error{
			Provider: vendor, Code: providers.CodeRefused,
			Message: "the owner's list in user management does not hold this id, and which of its records is the token cannot be told by name and moment of creation",
			Next:    "list the owner's tokens and name one of them; or ask an organization admin to revoke it in Atlassian Administration",
		}
	}
}

type likeness int

const (
	likeOther likeness = iota
	likeNear           // too near to say that the token is gone
	likeSame           // name and moment of creation agree
)

// compare judges whether a record without the token's id may still be the token.
// The APIs may write the moment with different precision, so records of the same
// second are near.
func compare(token providers.Token, record *userToken) likeness {
	name, _, key := cleanName(record.Label)
	isNamesake := name == token.Name && key == token.NameKey
	want, known := token.Created.Time()
	is, told := parseTime(record.CreatedAt)
	switch {
	case !known || !told:
		if isNamesake {
			return likeNear
		}
		return likeOther
	case isNamesake && want.Equal(is):
		return likeSame
	case want.Sub(is).Abs() < time.Second:
		return likeNear
	default:
		return likeOther
	}
}

// RevokeServiceAccount ends all tokens of one service account, which cannot be
// narrowed or undone. The vendor accepted it where the error is nil; confirm with
// CountServiceAccounts, which may lag.
func (p *Provider) RevokeServiceAccount(ctx context.Context, account string) error {
	return countFirst(p.client.deleteAccountTokens(ctx, account))
}

// RevokeEverything ends the API tokens of all managed users, which cannot be
// narrowed or undone; tokens made meanwhile die too, those of service accounts
// stay. The vendor accepted it where the error is nil; confirm with
// CountEverything, which may lag.
func (p *Provider) RevokeEverything(ctx context.Context) error {
	return countFirst(p.client.deleteOrgTokens(ctx))
}

// countFirst says what to do when the answer was lost: a repeat would also end the
// tokens that were made since.
func countFirst(err error) error {
	var e *providers.Error
	if errors.As(err, &e) && e.Code == providers.CodeOutcomeUnknown {
		e.Next = "count the tokens to see whether it happened; do not simply repeat it, which would end tokens made since as well"
	}
	return err
}
