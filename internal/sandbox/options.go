package sandbox

import (
	"fmt"
	"net/http"
	"slices"
	"time"
)

// Limits and defaults of Options.
const (
	// MaxTokens is the most tokens that one sandbox generates at one vendor, and over all.
	MaxTokens = 100_000
	// DefaultTokens is the number of tokens over all vendors when Options.Tokens is 0.
	DefaultTokens = 120

	defaultRequestLog = 10_000
)

// Options selects size, seed and clock, and the answers to what the vendors do
// not document. The zero value is usable.
type Options struct {
	// Seed decides all data. The same seed, sizes and clock give the same sandbox.
	Seed uint64
	// Tokens is the number of tokens over all vendors, in equal thirds. 0 means
	// DefaultTokens; at most MaxTokens.
	Tokens int
	// AtlassianTokens, LaunchDarklyTokens and MailtrapTokens override the vendor's
	// share, each at most MaxTokens. LaunchDarkly and Mailtrap always hold at least
	// the tokens that Access names as credentials.
	AtlassianTokens, LaunchDarklyTokens, MailtrapTokens *int

	// Now is the clock, time.Now by default. Data is generated relative to the
	// moment of New.
	Now func() time.Time
	// Latency delays every vendor's answer, before the request has any effect.
	Latency time.Duration
	// Canary, when set, stands in every error body and every record in unknown
	// fields, in every error message, and in the header X-Sandbox-Canary.
	Canary string
	// RequestLog is how many requests are remembered; 0 means 10,000.
	RequestLog int

	Atlassian    AtlassianOptions
	LaunchDarkly LaunchDarklyOptions
	Mailtrap     MailtrapOptions
}

// Budget is a rate limit: so many requests in a fixed window. Requests 0 never
// refuses; the headers then show the vendor's nominal limit, hardly used.
type Budget struct {
	Requests int
	Window   time.Duration // when 0: 10s, at Atlassian one minute
}

// AtlassianOptions selects what Atlassian does not document.
type AtlassianOptions struct {
	// RevokeStatus answers bulk revocations and key revocations: 204 (default), 200 or 202.
	RevokeStatus int
	// UnknownOrgStatus answers another organization's id: 404 (default) or 403.
	UnknownOrgStatus int
	// DifferentTokenIDs gives a token another id in user management than in API Access.
	DifferentTokenIDs bool
	// NextLink is the form of links.next: "cursor" (default), "relative" or
	// "absolute" URL, "foreign" (a URL on another host), "stuck" (the cursor repeats).
	NextLink string
	// LastLink is links.next on the last page: "empty" (default), "null", "absent".
	LastLink string
	// NoDate is how API Access tells that there is no date: "absent" (default), "null", "empty".
	NoDate string
	// NullLastAccess makes user management send null, not nothing, for a missing date.
	NullLastAccess bool
	// OmitExpiry is an older user management, which tells no expiry.
	OmitExpiry bool
	// NoServiceTokenListing is an older API without GET service-accounts/api-tokens.
	NoServiceTokenListing bool
	// NoServiceAccountListing is an API without the experimental GET service-accounts.
	NoServiceAccountListing bool
	// PartialTokenLabel makes tokenLabel match a part of the label, not only all of it.
	PartialTokenLabel bool
	// LenientQuery ignores unknown query parameters; by default they are refused with 400.
	LenientQuery bool
	// DefaultPageSize and MaxPageSize bound pages; 100 and 1000 when 0.
	DefaultPageSize, MaxPageSize int
	// CountLag is how long the unfiltered count keeps its old value after a bulk revocation.
	CountLag time.Duration
	// HideEmails leaves every user's e-mail empty.
	HideEmails bool
	// RetryAfter adds Retry-After (seconds) to a 429.
	RetryAfter bool
	// AccessBudget limits API Access, UserBudget user management; both for the whole organization.
	AccessBudget, UserBudget Budget
}

// LaunchDarklyOptions selects what LaunchDarkly does not document.
type LaunchDarklyOptions struct {
	// MaxLimit cuts a larger limit; 100 when 0.
	MaxLimit int
	// TotalCountIsPage makes totalCount the number of rows in the answer, not of all rows.
	TotalCountIsPage bool
	// OmitNeverUsed leaves lastUsed out of a token that was never used, instead of 0.
	OmitNeverUsed bool
	// TestFailStatus answers a failed JSON Patch test: 409 (default) or 422.
	TestFailStatus int
	// ImmutableStatus answers a patch of an immutable or unknown path: 422 (default) or 400.
	ImmutableStatus int
	// HiddenStatus answers a GET of a token that the caller may not see: 404 (default) or 403.
	HiddenStatus int
	// KeepOverlaps lets a repeated reset keep the overlap of earlier secrets; by
	// default only the secret before the new one may live on.
	KeepOverlaps bool
	// ResetWithoutContentType accepts a reset that has no Content-Type.
	ResetWithoutContentType bool
	// RetryAfter adds Retry-After (seconds) to a 429.
	RetryAfter bool
	// GlobalBudget limits the account, RouteBudget each route, TokenBudget each token.
	GlobalBudget, RouteBudget, TokenBudget Budget
}

// MailtrapOptions selects what Mailtrap does not document.
type MailtrapOptions struct {
	// Grace is how long the old secret works after a reset; 12h when 0.
	Grace time.Duration
	// Cleanup is how long a token stays listed after its grace ended; 24h when 0.
	Cleanup time.Duration
	// DefaultLife is the life of a token made without expires_at; 0 means no end.
	DefaultLife time.Duration
	// IgnoreExpiresAt is an older server that does not know expires_at in requests.
	IgnoreExpiresAt bool
	// OldResourceWords is an older server: inbox and sending_domain, not sandbox and domain.
	OldResourceWords bool
	// ViewerLists lets a token without any admin access list itself, instead of a 403.
	ViewerLists bool
	// DeleteLastDomainToken allows the deletion of the last token of a sending domain.
	DeleteLastDomainToken bool
	// RequestID adds X-Request-Id to every answer of the vendor's own.
	RequestID bool
	// ResetExpiring allows the reset of a token that has an expiration but no reset behind it.
	ResetExpiring bool
	// RetryAfter adds Retry-After (seconds) to a 429.
	RetryAfter bool
	// Budget limits each token.
	Budget Budget
}

// normalize checks the options and fills in the defaults.
func (o *Options) normalize() error {
	if o.Tokens == 0 {
		o.Tokens = DefaultTokens
	}
	if o.Tokens < 0 || o.Tokens > MaxTokens {
		return fmt.Errorf("sandbox: Tokens is %d: want 0 to %d", o.Tokens, MaxTokens)
	}
	for _, n := range []*int{o.AtlassianTokens, o.LaunchDarklyTokens, o.MailtrapTokens} {
		if n != nil && (*n < 0 || *n > MaxTokens) {
			return fmt.Errorf("sandbox: a vendor's number of tokens is %d: want 0 to %d", *n, MaxTokens)
		}
	}
	if o.Latency < 0 {
		return fmt.Errorf("sandbox: Latency is negative")
	}
	if o.RequestLog <= 0 {
		o.RequestLog = defaultRequestLog
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if err := o.Atlassian.normalize(); err != nil {
		return err
	}
	if err := o.LaunchDarkly.normalize(); err != nil {
		return err
	}
	o.Mailtrap.normalize()
	return nil
}

// shares are the numbers of tokens at Atlassian, LaunchDarkly and Mailtrap.
func (o *Options) shares() (atlassian, launchDarkly, mailtrap int) {
	third := o.Tokens / 3
	shares := [3]int{o.Tokens - 2*third, third, third}
	for i, n := range []*int{o.AtlassianTokens, o.LaunchDarklyTokens, o.MailtrapTokens} {
		if n != nil {
			shares[i] = *n
		}
	}
	return shares[0], shares[1], shares[2]
}

func (o *AtlassianOptions) normalize() error {
	setDefault(&o.RevokeStatus, http.StatusNoContent)
	setDefault(&o.UnknownOrgStatus, http.StatusNotFound)
	setDefault(&o.NextLink, "cursor")
	setDefault(&o.LastLink, "empty")
	setDefault(&o.NoDate, "absent")
	setDefault(&o.DefaultPageSize, 100)
	setDefault(&o.MaxPageSize, 1000)
	if err := oneOf("Atlassian.RevokeStatus", o.RevokeStatus, 204, 200, 202); err != nil {
		return err
	}
	if err := oneOf("Atlassian.UnknownOrgStatus", o.UnknownOrgStatus, 404, 403); err != nil {
		return err
	}
	if err := oneOf("Atlassian.NextLink", o.NextLink, "cursor", "relative", "absolute", "foreign", "stuck"); err != nil {
		return err
	}
	if err := oneOf("Atlassian.LastLink", o.LastLink, "empty", "null", "absent"); err != nil {
		return err
	}
	return oneOf("Atlassian.NoDate", o.NoDate, "absent", "null", "empty")
}

func (o *LaunchDarklyOptions) normalize() error {
	setDefault(&o.MaxLimit, 100)
	setDefault(&o.TestFailStatus, http.StatusConflict)
	setDefault(&o.ImmutableStatus, http.StatusUnprocessableEntity)
	setDefault(&o.HiddenStatus, http.StatusNotFound)
	if err := oneOf("LaunchDarkly.TestFailStatus", o.TestFailStatus, 409, 422); err != nil {
		return err
	}
	if err := oneOf("LaunchDarkly.ImmutableStatus", o.ImmutableStatus, 422, 400); err != nil {
		return err
	}
	return oneOf("LaunchDarkly.HiddenStatus", o.HiddenStatus, 404, 403)
}

func (o *MailtrapOptions) normalize() {
	setDefault(&o.Grace, 12*time.Hour)
	setDefault(&o.Cleanup, 24*time.Hour)
}

func setDefault[T comparable](v *T, def T) {
	var zero T
	if *v == zero {
		*v = def
	}
}

func oneOf[T comparable](name string, got T, valid ...T) error {
	if !slices.Contains(valid, got) {
		return fmt.Errorf("sandbox: %s is %v: want one of %v", name, got, valid)
	}
	return nil
}
