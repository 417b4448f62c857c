package providers

import (
	"context"
	"iter"
	"time"

	"github.com/tokenreeve/tokenreeve/internal/secret"
)

// Provider is one configured account at a vendor. What it can do, it says by
// implementing the capability interfaces below.
type Provider interface {
	// Name returns the vendor's word in configuration and results, e.g. "launchdarkly".
	Name() string
	// CheckID returns an Error with CodeInvalidArgument where id cannot be such an
	// id at this vendor. Every id is checked before it enters a path.
	CheckID(part Part, id string) error
	// Unknown returns the filter fields that this vendor can never decide.
	Unknown() []Field
	// Identity tells what account the connection's credential opens and which token
	// it is. It may call the vendor; the answer is kept as long as the credential
	// stays the same.
	Identity(ctx context.Context) (Identity, error)
}

// Part says where an id stands.
type Part string

// The parts, by the names of the arguments.
const (
	PartToken          Part = "token_id"
	PartOwner          Part = "owner"
	PartServiceAccount Part = "service_accounts"
)

// Identity is a connection's own credential, seen from the vendor.
type Identity struct {
	Host    string // the vendor's host name
	Account string // the account at that host; with it, names one account
	// OwnID is the id of the token that is the credential, empty where the vendor's
	// listings never hold it.
	OwnID string
	// OwnLastFour is the end of the credential where the vendor names tokens by it
	// only: then every token with that end counts as the credential.
	OwnLastFour string
}

// Ref names one token. Owner is needed where the vendor keeps tokens below
// their owner; elsewhere it is ignored.
type Ref struct {
	ID    string
	Owner string
}

// Page is a part of a listing, in the vendor's order.
type Page struct {
	Tokens []Token
	// At names this page: a listing from there yields it first.
	At string
	// Limits that showed while reading up to this page.
	Limits []Limit
	// Last says that nothing follows, where the vendor told so with this page.
	Last bool
}

// Limit says why a listing shows less than there may be.
type Limit string

// The limits.
const (
	// ManagedAccountsOnly: Atlassian lists tokens of accounts on verified domains only.
	ManagedAccountsOnly Limit = "managed_accounts_only"
	// VisibleToCredential: Mailtrap lists what the calling token may see, and does not tell what that is.
	VisibleToCredential Limit = "visible_to_credential"
	// ServiceAccountsMissing: the call for service accounts' tokens failed.
	ServiceAccountsMissing Limit = "service_accounts_missing"
	// MovedWhileReading: tokens were made or deleted while pages were read, twice.
	MovedWhileReading Limit = "moved_while_reading"
	// CredentialNotAdmin: the credential may not see all members' tokens.
	CredentialNotAdmin Limit = "credential_not_admin"
	// VendorSearch: the vendor's own search chose what was read, as the filter allowed.
	// How it matches is not documented, and it may not know what the vendor hides, such
	// as an e-mail address: a token may be missing.
	VendorSearch Limit = "vendor_search"
	// OwnCredentialUnknown: which token is the connection's own credential could not be told.
	OwnCredentialUnknown Limit = "own_credential_unknown"
)

// Incomplete reports whether tokens may be missing that the vendor could have
// shown. The others are the known edge of what a vendor's API covers.
func (l Limit) Incomplete() bool {
	switch l {
	case ServiceAccountsMissing, MovedWhileReading, CredentialNotAdmin, VendorSearch:
		return true
	default:
		return false
	}
}

// Lister lists the account's tokens.
type Lister interface {
	// List yields pages until the end, an error (then last), or the caller's break.
	// It fetches no page ahead before the first was taken. It yields a superset of
	// what filter selects: what the vendor surely filters is pushed down, and what it
	// may get wrong where the filter allows VendorSearch, with the limit of that name.
	// from is empty or the At of a page of a listing with the same filter.
	List(ctx context.Context, filter Filter, from string) iter.Seq2[Page, error]
}

// Counter counts without listing.
type Counter interface {
	// Count returns ok false where the vendor cannot count this filter; the caller
	// lists instead.
	Count(ctx context.Context, filter Filter) (count Count, ok bool, err error)
}

// Count is a vendor's count.
type Count struct {
	Total   int
	ByOwner map[string]int // by account id, where the vendor counts so; else nil
	Unknown []string       // service account ids that the vendor does not know
	Limits  []Limit
}

// Getter reads one token.
type Getter interface {
	// Get returns an Error with CodeNotFound only where the vendor said 404 or a
	// complete list does not hold the token.
	Get(ctx context.Context, ref Ref) (Token, error)
}

// Creator makes a token. Spec is the vendor's own type.
type Creator[Spec any] interface {
	Create(ctx context.Context, spec Spec) (Minted, error)
}

// Updater changes a token. Change is the vendor's own type.
type Updater[Change any] interface {
	Update(ctx context.Context, token Token, change Change) (Token, error)
}

// Minted is a new secret with its token.
type Minted struct {
	Token  Token
	Secret secret.Secret
	// OldEnds is when the replaced secret stops working; never where it stays valid
	// until its token is revoked; unknown on create.
	OldEnds Date
}

// Rotator replaces a token's secret.
type Rotator interface {
	// PlanRotation decides how, without changing anything. It returns an Error with
	// CodeRefused where this token cannot be rotated.
	PlanRotation(ctx context.Context, token Token, ask RotationAsk) (RotationPlan, error)
	// Rotate carries the plan out. It is sent once.
	Rotate(ctx context.Context, token Token, plan RotationPlan) (Minted, error)
}

// RotationAsk is what the caller wants.
type RotationAsk struct {
	Overlap     time.Duration // how long the old secret still works; 0: the vendor's default
	Compromised bool          // the old secret must die now
	Now         time.Time
}

// RotationPlan is what a rotation will do. Moments in it are absolute, so that
// the confirmation does what the preview said.
type RotationPlan struct {
	Method     Method
	OldEnds    Date     // when the old secret stops; zero where only the vendor decides
	NewExpires Date     // the new token's end of life; unknown where the vendor decides
	DeletesOld bool     // the old token is revoked once the new secret was delivered
	Effects    []string // sentences for the preview
}

// Method is how a secret is replaced.
type Method string

// The methods. A reset keeps the token (or lets the vendor make its successor);
// a twin is a new token with the same access.
const (
	MethodReset Method = "reset"
	MethodTwin  Method = "twin"
)

// Verifier asks the vendor with a new secret.
type Verifier interface {
	// VerifySecret reports whether the vendor accepts the secret as the token's. An
	// error means that this could not be found out.
	VerifySecret(ctx context.Context, token Token, s secret.Secret) (bool, error)
}

// Revoker ends one token.
type Revoker interface {
	Revoke(ctx context.Context, token Token) (Revocation, error)
}

// SingleRevoker tells before a preview that a token cannot be ended by itself.
type SingleRevoker interface {
	// CanRevoke returns an Error with CodeNotOffered where no API ends this token alone.
	CanRevoke(token Token) error
}

// Locator finds where tokens stand, at vendors that keep them below their owners.
type Locator interface {
	// Locate returns those of the tokens that the account's listing holds, by id. Its
	// records may hold facts, such as the owner's e-mail address, that Get does not tell.
	Locate(ctx context.Context, ids []string) (map[string]Token, error)
}

// AccountCounter counts what the vendor's account-wide revocation would end.
type AccountCounter interface {
	// CountEverything counts the tokens that RevokeEverything would end.
	CountEverything(ctx context.Context) (int, error)
}

// Revocation is how a revocation ended.
type Revocation string

// The revocations. AlreadyGone needs a 404 or a complete list without the token.
const (
	Revoked     Revocation = "revoked"
	AlreadyGone Revocation = "already_gone"
)

// BulkRevoker ends many tokens with one call of the vendor's, which cannot be
// narrowed or undone.
type BulkRevoker interface {
	RevokeServiceAccount(ctx context.Context, account string) error
	RevokeEverything(ctx context.Context) error
}

// HandOff tells people how to do by hand what no API can.
type HandOff interface {
	// HandOff returns the steps for the deed, or nil where there are none.
	HandOff(deed Deed) []string
}

// Deed is something a person must do.
type Deed string

// The deeds.
const (
	DeedMint                Deed = "mint"                  // make or replace a token's secret
	DeedRevokeServiceToken  Deed = "revoke_service_token"  // end one token of a service account
	DeedRotateOwnCredential Deed = "rotate_own_credential" // replace this server's own credential
)
