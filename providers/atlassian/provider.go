// Package atlassian administers the API tokens of an Atlassian organization.
//
// Two APIs on one host do this. API Access lists and counts the whole
// organization's tokens and revokes in bulk; user management lists one user's
// tokens and is the only way to revoke one of them. They differ in auth rules,
// body shapes and field names. Neither can make, rename or rotate a token.
//
// A token read by user management carries fewer facts than one read by API
// Access: neither status nor scopes. Which of the two answers a Get depends only
// on its Ref and on what exists, so the same Ref gives the same set of facts
// each time and two readings can be compared.
package atlassian

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

var (
	_ providers.Provider       = (*Provider)(nil)
	_ providers.Lister         = (*Provider)(nil)
	_ providers.Counter        = (*Provider)(nil)
	_ providers.Getter         = (*Provider)(nil)
	_ providers.Revoker        = (*Provider)(nil)
	_ providers.BulkRevoker    = (*Provider)(nil)
	_ providers.SingleRevoker  = (*Provider)(nil)
	_ providers.Locator        = (*Provider)(nil)
	_ providers.AccountCounter = (*Provider)(nil)
	_ providers.HandOff        = (*Provider)(nil)
)

const (
	vendor         = "atlassian"
	defaultBaseURL = "https://api.atlassian.com"
	// maxPageSize is the largest page known to work; neither default nor maximum is documented.
	maxPageSize = 1000
	maxEmail    = 254 // bytes, the longest address that can be delivered to
)

// Config is one organization.
type Config struct {
	// BaseURL is the host of both APIs, https://api.atlassian.com where empty.
	BaseURL string
	// OrgID is the organization's UUID.
	OrgID string
	// Credential gives an organization API key. With scopes it reaches API Access
	// only; without, both APIs.
	Credential transport.Source
	// UserManagementCredential gives the organization API key without scopes that
	// user management needs; nil where Credential serves both.
	UserManagementCredential transport.Source
	// VendorFilters sends, where a filter allows the vendor's search, the filters whose
	// words the vendor does not document as well: status, creation dates and
	// tokenLabel. Whether a tokenLabel matches a part of the label or all of it is not
	// stated: whoever sets this accepts the vendor's matching.
	VendorFilters bool
	// PageSize of the organization's listing, 1 to 1000; 1000 where 0.
	PageSize int
	// Now is the clock, time.Now where nil.
	Now func() time.Time
}

// Provider is one organization. It is safe for concurrent use.
type Provider struct {
	client        *client
	host          string
	vendorFilters bool
	pageSize      int
	now           func() time.Time
}

// New returns the provider of one organization, or an error that names all that
// is wrong with the configuration. It sends nothing.
func New(hc *http.Client, c Config, o transport.Options) (*Provider, error) {
	c.setDefaults()
	problems := c.problems()
	access, err := transport.NewClient(hc, c.BaseURL, c.Credential, dialect(), o)
	problems = append(problems, err)
	users := access
	if c.UserManagementCredential != nil && err == nil {
		users, err = transport.NewClient(hc, c.BaseURL, c.UserManagementCredential, dialect(), o)
		problems = append(problems, err)
	}
	if err := errors.Join(problems...); err != nil {
		return nil, fmt.Errorf("%s: %w", vendor, err)
	}
	return &Provider{
		client:        &client{org: strings.ToLower(c.OrgID), access: access, users: users},
		host:          transport.Host(c.BaseURL),
		vendorFilters: c.VendorFilters,
		pageSize:      c.PageSize,
		now:           c.Now,
	}, nil
}

func (c *Config) setDefaults() {
	if c.BaseURL == "" {
		c.BaseURL = defaultBaseURL
	}
	if c.PageSize == 0 {
		c.PageSize = maxPageSize
	}
	if c.Now == nil {
		c.Now = time.Now
	}
}

func (c *Config) problems() []error {
	var problems []error
	if !isUUID(c.OrgID) {
		problems = append(problems, fmt.Errorf("org_id %q is not a UUID such as 8d2f6f1c-5a1e-4b7c-9c39-1f6a2f1d7e55; Atlassian Administration shows it in its address", sanitize.Message(c.OrgID)))
	}
	if c.Credential == nil {
		problems = append(problems, errors.New("credential is missing; it must give an organization API key"))
	}
	if c.PageSize < 1 || c.PageSize > maxPageSize {
		problems = append(problems, fmt.Errorf("page_size %d is not between 1 and %d", c.PageSize, maxPageSize))
	}
	return problems
}

// Name returns "atlassian".
func (p *Provider) Name() string { return vendor }

// Unknown returns nothing: each filter field can be decided for some token.
func (p *Provider) Unknown() []providers.Field { return nil }

// Identity names the host and the organization without asking the vendor. The
// credential is an organization API key, which no listing of tokens holds.
func (p *Provider) Identity(context.Context) (providers.Identity, error) {
	return providers.Identity{Host: p.host, Account: p.client.org}, nil
}

// CheckID returns an Error with CodeInvalidArgument where id cannot be such an
// id. An owner may be an e-mail address; it never enters a path.
func (p *Provider) CheckID(part providers.Part, id string) error {
	switch part {
	case providers.PartToken:
		return checkToken(id)
	case providers.PartOwner:
		if strings.Contains(id, "@") {
			return checkEmail(id)
		}
		return checkAccount(part, id)
	case providers.PartServiceAccount:
		return checkAccount(part, id)
	default:
		return invalid("%q is no kind of id", sanitize.Message(string(part)))
	}
}

// checkFilter checks every id in a filter.
func (p *Provider) checkFilter(f providers.Filter) error {
	if f.Owner != "" {
		if err := p.CheckID(providers.PartOwner, f.Owner); err != nil {
			return err
		}
	}
	for _, account := range f.ServiceAccounts {
		if err := checkAccount(providers.PartServiceAccount, account); err != nil {
			return err
		}
	}
	return nil
}

// checkAccount checks an account id: its pattern is documented.
func checkAccount(part providers.Part, id string) error {
	if isID(id, "_|:-") {
		return nil
	}
	hint := ""
	if part == providers.PartOwner {
		hint = ", or an e-mail address"
	}
	return invalid("%s %q is not an Atlassian account id: valid are 1 to 128 letters, digits and _ | : -%s", part, sanitize.Message(id), hint)
}

// checkToken checks a token id. The vendor calls it opaque; the pattern is that
// of account ids and "=", assumed.
func checkToken(id string) error {
	if isID(id, "_|:=-") {
		return nil
	}
	return invalid("%s %q is not an Atlassian token id: valid are 1 to 128 letters, digits and _ | : = -", providers.PartToken, sanitize.Message(id))
}

func checkEmail(address string) error {
	local, domain, _ := strings.Cut(address, "@")
	_, altered := sanitize.Text(address, maxEmail)
	if altered || len(address) > maxEmail || local == "" || domain == "" || strings.ContainsAny(domain, "@ ") {
		return invalid("%s %q is not an e-mail address: valid is name@domain, at most %d bytes", providers.PartOwner, sanitize.Message(address), maxEmail)
	}
	return nil
}

func isEmail(owner string) bool { return strings.Contains(owner, "@") }

// isID reports whether id is 1 to 128 letters, digits and characters of extra.
func isID(id, extra string) bool {
	if id == "" || len(id) > 128 {
		return false
	}
	for i := range len(id) {
		if !isAlnum(id[i]) && strings.IndexByte(extra, id[i]) < 0 {
			return false
		}
	}
	return true
}

func isAlnum(b byte) bool {
	return b >= '0' && b <= '9' || b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z'
}

func isUUID(s string) bool {
	if len(s) != 36 {
		return false
	}
	for i := range len(s) {
		isDash := i == 8 || i == 13 || i == 18 || i == 23
		if isDash != (s[i] == '-') || !isDash && !strings.ContainsRune("0123456789abcdefABCDEF", rune(s[i])) {
			return false
		}
	}
	return true
}
