// Package mailtrap administers the API tokens of one Mailtrap account.
//
// The vendor tells neither when a token was made nor when it was last used, and
// not whom it belongs to. Facts that are marked as assumed were not seen in a
// recording of the vendor's answers; the code is tolerant there.
package mailtrap

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/tokenreeve/tokenreeve/internal/sanitize"
	"github.com/tokenreeve/tokenreeve/providers"
	"github.com/tokenreeve/tokenreeve/providers/transport"
)

const (
	providerName   = "mailtrap"
	defaultBaseURL = "https://mailtrap.io"
)

// The families of paths. Both are believed live (assumed); the account form is
// the one that was recorded.
const (
	PathFamilyAccount = "account" // /api/accounts/{account_id}/api_tokens
	PathFamilyFlat    = "flat"    // /api/api_tokens: the account follows from the credential
)

// The words for types of resources that are sent when writing. The vendor
// renamed two in May 2026; both are read.
const (
	ResourceWordsCurrent = "current" // account, project, sandbox, domain
	ResourceWordsOld     = "old"     // account, project, inbox, sending_domain
)

// The claims: what Mailtrap can do.
var (
	_ providers.Provider           = (*Provider)(nil)
	_ providers.Lister             = (*Provider)(nil)
	_ providers.Getter             = (*Provider)(nil)
	_ providers.Creator[TokenSpec] = (*Provider)(nil)
	_ providers.Rotator            = (*Provider)(nil)
	_ providers.Verifier           = (*Provider)(nil)
	_ providers.Revoker            = (*Provider)(nil)
	_ providers.HandOff            = (*Provider)(nil)
)

// Config is one account at Mailtrap.
type Config struct {
	BaseURL    string // https://mailtrap.io where empty
	AccountID  int64  // at least 1
	Credential transport.Source
	// PathFamily is PathFamilyAccount (where empty) or PathFamilyFlat.
	PathFamily string
	// ResourceWords is ResourceWordsCurrent (where empty) or ResourceWordsOld.
	ResourceWords string
	Now           func() time.Time // time.Now where nil
}

// Provider is one account at Mailtrap. It is safe for concurrent use.
type Provider struct {
	client  *client
	host    string
	account string
	words   string
	now     func() time.Time

	mu    sync.Mutex
	reset map[string]bool // ids of tokens that this process reset: in grace until their end
	made  map[string]bool // ids of tokens whose secret this process got: none is an orphan
}

// New returns the provider for c. It sends nothing. Its error names everything
// that is wrong in c.
func New(hc *http.Client, c Config, o transport.Options) (*Provider, error) {
	c = c.withDefaults()
	wire, err := newClient(hc, c, o)
	if err := errors.Join(c.check(), err); err != nil {
		return nil, err
	}
	return &Provider{
		client:  wire,
		host:    transport.Host(c.BaseURL),
		account: strconv.FormatInt(c.AccountID, 10),
		words:   c.ResourceWords,
		now:     c.Now,
		reset:   map[string]bool{},
		made:    map[string]bool{},
	}, nil
}

func (c Config) withDefaults() Config {
	if c.BaseURL == "" {
		c.BaseURL = defaultBaseURL
	}
	if c.PathFamily == "" {
		c.PathFamily = PathFamilyAccount
	}
	if c.ResourceWords == "" {
		c.ResourceWords = ResourceWordsCurrent
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return c
}

func (c Config) check() error {
	var problems []error
	add := func(format string, args ...any) {
		problems = append(problems, fmt.Errorf(providerName+": "+format, args...))
	}
	if c.AccountID < 1 {
		add("account_id is %d; it must be the account's number, at least 1", c.AccountID)
	}
	if c.PathFamily != PathFamilyAccount && c.PathFamily != PathFamilyFlat {
		add("path_family is %s; valid are %q and %q", quote(c.PathFamily), PathFamilyAccount, PathFamilyFlat)
	}
	if c.ResourceWords != ResourceWordsCurrent && c.ResourceWords != ResourceWordsOld {
		add("resource_words is %s; valid are %q and %q", quote(c.ResourceWords), ResourceWordsCurrent, ResourceWordsOld)
	}
	if c.Credential == nil {
		add("no credential; an API token with admin access to the account is needed")
	}
	return errors.Join(problems...)
}

// Name returns "mailtrap".
func (p *Provider) Name() string { return providerName }

// CheckID accepts token ids: 64-bit integers of at least 1 in plain decimal. It
// rejects every other part, since Mailtrap tells no owner of a token.
func (p *Provider) CheckID(part providers.Part, id string) error {
	if part != providers.PartToken {
		return invalid("Mailtrap has no owner ids and no service accounts, so %s %s names nothing there; leave %s out", part, quote(id), part)
	}
	return checkTokenID(id)
}

func checkTokenID(id string) error {
	n, err := strconv.ParseInt(id, 10, 64)
	if err != nil || n < 1 || strconv.FormatInt(n, 10) != id {
		return invalid("token_id %s is not an id of Mailtrap; valid is a whole number from 1 in plain digits, such as 2496915", quote(id))
	}
	return nil
}

// Unknown returns the fields that nothing in a token's record decides.
func (p *Provider) Unknown() []providers.Field {
	return []providers.Field{
		providers.FieldOwner, providers.FieldServiceAccounts, providers.FieldKind,
		providers.FieldCreatedAfter, providers.FieldCreatedBefore, providers.FieldUnusedFor,
	}
}

// Identity returns the configured account and the last four characters of the
// credential. It sends nothing: Mailtrap does not tell which token is calling.
func (p *Provider) Identity(ctx context.Context) (providers.Identity, error) {
	credential, err := p.client.http.Credential(ctx)
	if err != nil {
		return providers.Identity{}, err
	}
	end := credential.LastFour()
	if end == "" {
		return providers.Identity{}, &providers.Error{
			Provider: providerName, Code: providers.CodeCredential,
			Message: "the credential is too short to be a Mailtrap token, so its own record cannot be told",
			Next:    "ask the operator to check the connection's credential",
		}
	}
	return providers.Identity{Host: p.host, Account: p.account, OwnLastFour: end}, nil
}

// Get reads one token by its id.
func (p *Provider) Get(ctx context.Context, ref providers.Ref) (providers.Token, error) {
	current, err := p.client.get(ctx, ref.ID)
	if err != nil {
		return providers.Token{}, err
	}
	return p.token(current, p.now()), nil
}

// Revoke deletes the token, at once and for good.
func (p *Provider) Revoke(ctx context.Context, token providers.Token) (providers.Revocation, error) {
	response, err := p.client.delete(ctx, token.ID)
	switch {
	case err == nil:
		return providers.Revoked, nil
	case providers.CodeOf(err) == providers.CodeNotFound && response.MayHaveActed:
		return providers.Revoked, nil // an earlier attempt did it, its answer was lost
	case providers.CodeOf(err) == providers.CodeNotFound:
		return providers.AlreadyGone, nil
	default:
		return "", err
	}
}

// HandOff returns how to replace the connection's own credential: a reset by
// that credential itself would end it hours later.
func (p *Provider) HandOff(deed providers.Deed) []string {
	if deed != providers.DeedRotateOwnCredential {
		return nil
	}
	return []string{
		"Sign in to Mailtrap as an admin of account " + p.account + " and open Settings, API Tokens.",
		"Make a new token with admin access to the account. Do not reset the old one: a reset ends it after a few hours, whether or not this server has the new one.",
		"Put the new token where this connection's credential is read from (the environment variable, file, command or keyring entry in the configuration).",
		"Call list_tokens on this connection to see that it works: the server reads the credential again once the vendor rejects the old one, else at its next start.",
		"Delete the old token in Mailtrap.",
	}
}

// quote returns outside text in quotes, cleaned and short.
func quote(s string) string {
	short, _ := sanitize.Text(sanitize.Message(s), 40)
	return strconv.Quote(short)
}
