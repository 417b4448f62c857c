// Package launchdarkly administers the access tokens of a LaunchDarkly account.
package launchdarkly

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/tokenreeve/tokenreeve/internal/sanitize"
	"github.com/tokenreeve/tokenreeve/providers"
	"github.com/tokenreeve/tokenreeve/providers/transport"
)

// What this vendor can do; the compiler checks each claim.
var (
	_ providers.Provider           = (*Provider)(nil)
	_ providers.Lister             = (*Provider)(nil)
	_ providers.Counter            = (*Provider)(nil)
	_ providers.Getter             = (*Provider)(nil)
	_ providers.Creator[TokenSpec] = (*Provider)(nil)
	_ providers.Updater[Change]    = (*Provider)(nil)
	_ providers.Rotator            = (*Provider)(nil)
	_ providers.Verifier           = (*Provider)(nil)
	_ providers.Revoker            = (*Provider)(nil)
	_ providers.HandOff            = (*Provider)(nil)
)

// DefaultBaseURL is the host of accounts outside the federal and EU instances.
const DefaultBaseURL = "https://app.launchdarkly.com"

const (
	name            = "launchdarkly"
	defaultPageSize = 100
	maxPageSize     = 1000
)

// Config is one LaunchDarkly account.
type Config struct {
	// BaseURL is where the account lives; empty means DefaultBaseURL. A token works
	// only on the host of its account.
	BaseURL    string
	Credential transport.Source
	// PageSize is how many tokens are asked for at a time, 1 to 1000; 0 means 100.
	// The vendor's own maximum is not published; a smaller page than asked for is fine.
	PageSize int
	Now      func() time.Time // nil means time.Now
}

// Provider is one LaunchDarkly account. It is safe for concurrent use.
type Provider struct {
	wire     wire
	host     string
	pageSize int
	now      func() time.Time

	identity memo[providers.Identity]
	admin    memo[bool]
	made     made
}

// New returns the account's provider. It sends nothing.
func New(hc *http.Client, c Config, o transport.Options) (*Provider, error) {
	if c.BaseURL == "" {
		c.BaseURL = DefaultBaseURL
	}
	if c.PageSize == 0 {
		c.PageSize = defaultPageSize
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	switch {
	case hc == nil:
		return nil, errors.New(name + ": no HTTP client was given; transport.New makes one")
	case c.Credential == nil:
		return nil, errors.New(name + ": no credential was given; it needs the source of an API access token")
	case c.PageSize < 1 || c.PageSize > maxPageSize:
		return nil, fmt.Errorf("%s: page_size %d is not valid; it is 1 to %d", name, c.PageSize, maxPageSize)
	}
	client, err := transport.NewClient(hc, c.BaseURL, c.Credential, dialect(), o)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return &Provider{wire: wire{client}, host: transport.Host(c.BaseURL), pageSize: c.PageSize, now: c.Now}, nil
}

// Name returns "launchdarkly".
func (p *Provider) Name() string { return name }

// Unknown returns nil: every filter can be decided.
func (p *Provider) Unknown() []providers.Field { return nil }

// CheckID reports an id that cannot be one here. Ids of tokens and members have
// 24 hex digits in lower case; an owner may be an e-mail address as well.
func (p *Provider) CheckID(part providers.Part, id string) error {
	switch part {
	case providers.PartToken:
		return checkTokenID(id)
	case providers.PartServiceAccount:
		return checkID(string(part), "a member's id, 24 hex digits (0-9, a-f)", id)
	case providers.PartOwner:
		if isEmail(id) {
			return nil
		}
		return checkID(string(part), "a member's id, 24 hex digits (0-9, a-f), or an exact e-mail address", id)
	default:
		return invalid("%s has no ids of the kind %q", name, quotable(string(part)))
	}
}

func checkID(argument, valid, id string) error {
	if isID(id) {
		return nil
	}
	return invalid("%s is %q; valid is %s", argument, quotable(id), valid)
}

func checkTokenID(id string) error {
	return checkID(string(providers.PartToken), "the token's id, 24 hex digits (0-9, a-f), never its secret", id)
}

// isID reports whether s is 24 hex digits in lower case.
func isID(s string) bool {
	if len(s) != idLength {
		return false
	}
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

const (
	idLength = 24
	maxEmail = 254 // bytes: RFC 5321's path less its brackets
)

func isEmail(s string) bool {
	local, domain, found := strings.Cut(s, "@")
	if !found || local == "" || domain == "" || strings.Contains(domain, "@") || len(s) > maxEmail {
		return false
	}
	clean, altered := sanitize.Text(s, maxEmail)
	return !altered && !strings.Contains(clean, " ")
}

// quotable bounds what a caller sent, for an error.
func quotable(s string) string {
	short, _ := sanitize.Text(sanitize.Message(s), 60)
	return short
}

// invalid is the error of arguments that were refused before anything was sent.
func invalid(format string, args ...any) *providers.Error {
	return failure(providers.CodeInvalidArgument, format, args...)
}

func failure(code providers.Code, format string, args ...any) *providers.Error {
	return &providers.Error{Provider: name, Code: code, Message: fmt.Sprintf(format, args...)}
}

// Get reads one token; ref.Owner is ignored.
func (p *Provider) Get(ctx context.Context, ref providers.Ref) (providers.Token, error) {
	r, err := p.wire.read(ctx, ref.ID)
	if err != nil {
		return providers.Token{}, err
	}
	return r.toToken(), nil
}

// HandOff returns how to replace the credential of this connection; all other
// deeds can be done here.
func (p *Provider) HandOff(deed providers.Deed) []string {
	if deed != providers.DeedRotateOwnCredential {
		return nil
	}
	return []string{
		"In LaunchDarkly, open Account settings, Authorization, as a member with the Admin or Owner role.",
		"Create a service token with the same role as the connection's present token.",
		"Put it where the connection's credential is read from.",
		"Call list_tokens on this connection: the new credential is read as soon as the old one is refused, or at the next start.",
		"Delete the old token in LaunchDarkly once nothing uses it any more.",
	}
}
