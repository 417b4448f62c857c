package auth

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/go-jose/go-jose/v4"

	"github.com/tokenreeve/tokenreeve/internal/sanitize"
)

// DefaultSkew is how far the issuer's clock may be from ours.
const DefaultSkew = time.Minute

// Algorithms returns the algorithms by which access tokens can be signed. Those with a shared secret,
// and none, are no choice.
func Algorithms() []string {
	return []string{
		oidc.RS256, oidc.RS384, oidc.RS512, oidc.PS256, oidc.PS384, oidc.PS512, oidc.ES256, oidc.ES384, oidc.ES512, oidc.EdDSA,
	}
}

// DefaultAlgorithms returns the algorithms that are accepted where none are configured.
func DefaultAlgorithms() []string { return []string{oidc.RS256, oidc.ES256} }

// OIDCOptions say whose access tokens let in whom.
type OIDCOptions struct {
	// Issuer is the OpenID provider's URL, exactly as its tokens name it.
	Issuer string
	// Audience is what a token must be issued for: this server's canonical URI, or its id at the issuer.
	Audience string
	// Algorithms are those accepted; empty: DefaultAlgorithms.
	Algorithms []string
	// NameClaim is the claim that names the caller; empty: sub.
	NameClaim string
	// RoleClaim is the path to the claim whose values Roles maps, for example realm_access, roles.
	RoleClaim []string
	// Roles maps values of the role claim, such as groups. A caller has all that match.
	Roles map[string]Grant
	// Skew is how far the clocks may differ; 0: DefaultSkew.
	Skew time.Duration
	// Client asks the issuer; nil: http.DefaultClient. Redirects are not followed.
	Client *http.Client
	// Now is the clock; nil: time.Now.
	Now func() time.Time
	// Log takes what goes wrong with the issuer; nil: nothing is logged.
	Log *slog.Logger
}

// OIDC lets in who presents an access token of the issuer: a JWT for this server (RFC 9068).
type OIDC struct {
	OIDCOptions
	prefix     string // of principals' names
	algorithms []jose.SignatureAlgorithm
	keys       *issuerKeys
}

// NewOIDC returns the check for access tokens. It asks the issuer at the first token only.
func NewOIDC(o OIDCOptions) (*OIDC, error) {
	if len(o.Algorithms) == 0 {
		o.Algorithms = DefaultAlgorithms()
	}
	if o.NameClaim == "" {
		o.NameClaim = "sub"
	}
	if o.Skew == 0 {
		o.Skew = DefaultSkew
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	issuer, err := url.Parse(o.Issuer)
	switch {
	case err != nil || issuer.Host == "":
		return nil, errors.New("the issuer is not a URL")
	case o.Audience == "":
		return nil, errors.New("the audience is missing")
	case len(o.RoleClaim) == 0:
		return nil, errors.New("the role claim is missing")
	}
	p := &OIDC{OIDCOptions: o, prefix: namePrefix(issuer), keys: newIssuerKeys(o)}
	for _, algorithm := range o.Algorithms {
		if !slices.Contains(Algorithms(), algorithm) {
			return nil, fmt.Errorf("%q is no algorithm for access tokens; valid: %s", algorithm, strings.Join(Algorithms(), ", "))
		}
		p.algorithms = append(p.algorithms, jose.SignatureAlgorithm(algorithm))
	}
	return p, nil
}

// Probe asks the issuer as the first token makes this server ask, and returns how many of its keys can
// have signed a token by an accepted algorithm.
func (p *OIDC) Probe(ctx context.Context) (int, error) {
	keys, err := p.keys.fetch(ctx)
	if err != nil {
		return 0, err
	}
	usable := 0
	for _, key := range keys {
		if slices.ContainsFunc(p.Algorithms, func(algorithm string) bool { return canSign(key, algorithm) }) {
			usable++
		}
	}
	return usable, nil
}

// canSign reports whether a token can be signed with the key by the algorithm.
func canSign(key jose.JSONWebKey, algorithm string) bool {
	if key.Algorithm != "" {
		return key.Algorithm == algorithm
	}
	switch key.Key.(type) {
	case *rsa.PublicKey:
		return strings.HasPrefix(algorithm, "RS") || strings.HasPrefix(algorithm, "PS")
	case *ecdsa.PublicKey:
		return strings.HasPrefix(algorithm, "ES")
	case ed25519.PublicKey:
		return algorithm == oidc.EdDSA
	default:
		return false
	}
}

// claims are a token's, by their exact names: encoding/json would take "SUB" for "sub".
type claims map[string]json.RawMessage

// Authenticate implements Authenticator.
func (p *OIDC) Authenticate(r *http.Request) (Principal, error) {
	token, err := presented(r.Header)
	if err != nil {
		return Principal{}, err
	}
	c, err := p.verified(r.Context(), token)
	if err != nil {
		return Principal{}, err
	}
	name, err := p.nameOf(c)
	if err != nil {
		return Principal{}, err
	}
	principal := NewPrincipal(name, MethodOIDC, p.grants(c)...)
	if principal.Role == "" {
		return principal, ErrNoRole
	}
	return principal, nil
}

// verified returns the claims of a token that is good. What can be judged without the issuer's keys is
// judged first: nobody else's token makes this server ask for them.
func (p *OIDC) verified(ctx context.Context, token string) (claims, error) {
	jws, err := jose.ParseSignedCompact(token, p.algorithms)
	if err != nil {
		return nil, fmt.Errorf("%w: it is no JWT that is signed as configured", ErrRefused)
	}
	header := jws.Signatures[0].Protected
	if !isAccessToken(header) {
		return nil, fmt.Errorf("%w: its type is not that of an access token", ErrRefused)
	}
	audience, err := p.check(jws.UnsafePayloadWithoutVerification())
	if err != nil {
		return nil, err
	}
	keys, err := p.keys.find(ctx, header.KeyID, header.Algorithm)
	if err != nil {
		return nil, err
	}
	c, err := p.verify(ctx, token, audience, keys)
	if err == nil {
		return c, nil
	}
	if keys = p.keys.newer(ctx, header.KeyID, header.Algorithm); len(keys) == 0 {
		return nil, err
	}
	return p.verify(ctx, token, audience, keys)
}

func (p *OIDC) verify(ctx context.Context, token, audience string, keys []crypto.PublicKey) (claims, error) {
	verifier := oidc.NewVerifier(p.Issuer, &oidc.StaticKeySet{PublicKeys: keys}, &oidc.Config{
		ClientID: audience, SupportedSigningAlgs: p.Algorithms,
		SkipExpiryCheck: true, // it allows other differences between clocks; check has done it
	})
	verified, err := verifier.Verify(ctx, token)
	if err != nil {
		return nil, fmt.Errorf("%w: it cannot be verified", ErrRefused)
	}
	var c claims
	if err := verified.Claims(&c); err != nil {
		return nil, fmt.Errorf("%w: its claims are no JSON object", ErrRefused)
	}
	return c, nil
}

// isAccessToken refuses JWTs of the issuer that are made for something else, such as logout tokens.
// Many issuers give access tokens the type JWT, or none.
func isAccessToken(header jose.Header) bool {
	value, ok := header.ExtraHeaders[jose.HeaderType]
	if !ok {
		return true
	}
	text, _ := value.(string)
	text = strings.TrimPrefix(strings.ToLower(text), "application/")
	return text == "jwt" || text == "at+jwt"
}

// check judges the claims but for the caller's, and returns the audience as the token spells it. The
// signature is still to be verified.
func (p *OIDC) check(payload []byte) (audience string, _ error) {
	refused := func(reason string) (string, error) { return "", fmt.Errorf("%w: %s", ErrRefused, reason) }
	var c claims
	if !utf8.Valid(payload) || json.Unmarshal(payload, &c) != nil {
		return refused("its claims are no JSON object")
	}
	if issuer, ok := c.text("iss"); !ok || issuer != p.Issuer {
		return refused("another issuer made it")
	}
	audiences := c.texts("aud")
	i := slices.IndexFunc(audiences, p.isAudience)
	if i < 0 {
		return refused("it was issued for another server")
	}
	if _, ok := c["cnf"]; ok {
		return refused("it is bound to a key, which this server cannot ask for")
	}
	if c.isForClient() {
		return refused("it is an ID token or another one for the client alone, not an access token")
	}
	if reason := c.untimely(p.Now(), p.Skew); reason != "" {
		return refused(reason)
	}
	return audiences[i], nil
}

// isForClient recognizes tokens that the issuer makes for clients and itself, by what only those have:
// where the audience is an id at the issuer, an ID token may have the same one. at_hash and c_hash are
// an ID token's (OpenID Connect Core, section 3); Keycloak's tokens name their kind.
func (c claims) isForClient() bool {
	_, hasAccessHash := c["at_hash"]
	_, hasCodeHash := c["c_hash"]
	kind, _ := c.text("typ")
	return hasAccessHash || hasCodeHash || slices.Contains([]string{"ID", "Refresh", "Offline", "Logout"}, kind)
}

// isAudience reports whether the audience is this server. Clients add a slash to a URL without a path.
func (p *OIDC) isAudience(audience string) bool {
	if audience == p.Audience {
		return true
	}
	u, err := url.Parse(p.Audience)
	return err == nil && u.Host != "" && (u.Path == "" || u.Path == "/") && strings.TrimSuffix(audience, "/") == strings.TrimSuffix(p.Audience, "/")
}

// untimely returns why a token is not good at this time, or "".
func (c claims) untimely(now time.Time, skew time.Duration) string {
	seconds := func(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }
	expires, ok := c.number("exp")
	switch {
	case !ok:
		return "it does not say when it expires"
	case seconds(now.Add(-skew)) >= expires:
		return "it has expired"
	}
	for _, name := range []string{"nbf", "iat"} {
		if _, present := c[name]; !present {
			continue
		}
		if begins, ok := c.number(name); !ok || seconds(now.Add(skew)) < begins {
			return "it is not valid yet"
		}
	}
	return ""
}

func (c claims) text(name string) (string, bool) {
	var text *string
	err := json.Unmarshal(c[name], &text)
	if err != nil || text == nil {
		return "", false
	}
	return *text, true
}

// texts returns the texts of a claim that holds one or a list of them.
func (c claims) texts(name string) []string {
	if text, ok := c.text(name); ok {
		return []string{text}
	}
	var list []string
	if json.Unmarshal(c[name], &list) != nil {
		return nil
	}
	return list
}

func (c claims) number(name string) (float64, bool) {
	var number *float64
	err := json.Unmarshal(c[name], &number)
	if err != nil || number == nil {
		return 0, false
	}
	return *number, true
}

// isTrue takes the text as well, which some issuers give.
func (c claims) isTrue(name string) bool {
	text, _ := c.text(name)
	return text == "true" || string(c[name]) == "true"
}

// grants returns what the values of the role claim are mapped to.
func (p *OIDC) grants(c claims) []Grant {
	last := len(p.RoleClaim) - 1
	for _, name := range p.RoleClaim[:last] {
		var inner claims
		if json.Unmarshal(c[name], &inner) != nil {
			return nil
		}
		c = inner
	}
	values := c.texts(p.RoleClaim[last])
	if name := p.RoleClaim[last]; len(values) == 1 && (name == "scope" || name == "scp") {
		values = strings.Fields(values[0]) // RFC 8693, section 4.2
	}
	slices.Sort(values)
	var grants []Grant
	for _, value := range slices.Compact(values) {
		if grant, ok := p.Roles[value]; ok {
			grants = append(grants, grant)
		}
	}
	return grants
}

// nameOf returns the caller's name. Different subjects have different names, whatever they hold.
func (p *OIDC) nameOf(c claims) (string, error) {
	value, ok := c.text(p.NameClaim)
	if !ok || value == "" {
		return "", fmt.Errorf("%w: it does not say whose it is", ErrRefused)
	}
	if strings.ContainsRune(value, utf8.RuneError) {
		// encoding/json puts it in place of broken escapes, which would make two subjects one.
		return "", fmt.Errorf("%w: the caller's name is no text", ErrRefused)
	}
	if p.NameClaim == "email" && !c.isTrue("email_verified") {
		return "", fmt.Errorf("%w: the caller's e-mail address is not verified", ErrRefused)
	}
	if _, altered := sanitize.Name(value); altered || strings.HasPrefix(value, digestPrefix) {
		value = digest(value)
	}
	return p.prefix + value, nil
}

const digestPrefix = "sha256:"

// digest stands for a text that cannot be shown as it is: too long, with characters that show nothing,
// or like a credential. It has the form of a UUID, which sanitize lets stand everywhere.
func digest(text string) string {
	sum := sha256.Sum256([]byte(text))
	h := hex.EncodeToString(sum[:16])
	return digestPrefix + strings.Join([]string{h[:8], h[8:12], h[12:16], h[16:20], h[20:]}, "-")
}

// namePrefix begins the names of the issuer's callers. The path tells apart the realms of one host.
func namePrefix(issuer *url.URL) string {
	place := issuer.Host + strings.TrimSuffix(issuer.EscapedPath(), "/")
	if prefix := "oidc:" + place + ":"; len(prefix) <= sanitize.MaxName && sanitize.Message(prefix) == prefix {
		return prefix
	}
	return "oidc:" + digest(place) + ":"
}
