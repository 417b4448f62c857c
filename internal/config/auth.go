package config

import (
	"cmp"
	"encoding/hex"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/tokenreeve/tokenreeve/auth"
	"github.com/tokenreeve/tokenreeve/internal/loopback"
)

// Auth says who may call over HTTP.
type Auth struct {
	Tokens []CallerToken `json:"tokens,omitempty" jsonschema_description:"Callers with a token of this server's, as tokenreeve auth new-token prints them."`
	OIDC   OIDC          `json:"oidc,omitzero" jsonschema_description:"Callers with an access token of an OpenID provider."`
}

// CallerToken is a static token, and what who presents it may do.
type CallerToken struct {
	Name        string               `json:"name" jsonschema:"pattern=^[a-z0-9][a-z0-9_-]{0\\,62}$" jsonschema_description:"Whose it is; the caller is token:NAME. Several tokens may have one name, so that one can replace another, or that a person approves with another token than their agent has."`
	Role        auth.Role            `json:"role" jsonschema:"enum=viewer,enum=operator,enum=admin,enum=approver" jsonschema_description:"viewer: read. operator: create, change, rotate and revoke tokens as well. admin: everything. approver: approve what others previewed, and nothing else."`
	SHA256      string               `json:"sha256" jsonschema:"pattern=^[0-9a-f]{64}$" jsonschema_description:"The token's SHA-256, in 64 hex digits. The token itself never stands in this file."`
	Connections map[string]auth.Role `json:"connections,omitempty" jsonschema_description:"Narrows the role on single connections, by their names; * stands for all others, and none takes a connection away."`
}

// OIDC says whose access tokens let in whom.
type OIDC struct {
	Issuer     string                `json:"issuer" jsonschema_description:"The provider's URL, exactly as its discovery document and its tokens name it."`
	Audience   string                `json:"audience" jsonschema_description:"What a token must be issued for: the canonical URI of this server, for example https://tokenreeve.example.com, or its id at the provider."`
	Resource   string                `json:"resource,omitempty" jsonschema_description:"The canonical URI of this server, where audience is another."`
	Algorithms []string              `json:"algorithms,omitempty" jsonschema:"minItems=1,enum=RS256,enum=RS384,enum=RS512,enum=PS256,enum=PS384,enum=PS512,enum=ES256,enum=ES384,enum=ES512,enum=EdDSA" jsonschema_description:"The algorithms by which tokens may be signed, RS256 and ES256 by default."`
	NameClaim  string                `json:"name_claim,omitempty" jsonschema:"default=sub" jsonschema_description:"The claim that names the caller. It must be one that people cannot change, and that is never given to another. email counts where it is verified."`
	RoleClaim  []string              `json:"role_claim,omitempty" jsonschema:"minItems=1,maxItems=8" jsonschema_description:"The path to the claim that roles maps, [\"groups\"] by default; for example [\"realm_access\", \"roles\"]. Words of scope and scp are separate values."`
	Roles      map[string]MappedRole `json:"roles" jsonschema:"minProperties=1" jsonschema_description:"What a value of that claim, such as a group, gives. A caller has all that match, and who has none is refused."`
	Scopes     []string              `json:"scopes,omitempty" jsonschema_description:"The scopes that clients are told to ask for."`
	ClockSkew  time.Duration         `json:"clock_skew,omitempty" jsonschema:"default=60s" jsonschema_description:"How far the provider's clock may be from this machine's, at most 5m."`
}

// MappedRole is what a value of the role claim gives. It converts to auth.Grant.
type MappedRole struct {
	Role        auth.Role            `json:"role" jsonschema:"enum=viewer,enum=operator,enum=admin,enum=approver" jsonschema_description:"The role, as of a token."`
	Connections map[string]auth.Role `json:"connections,omitempty" jsonschema_description:"Narrows it on single connections, as at a token."`
}

const (
	maxClaimPath = 8
	maxSkew      = 5 * time.Minute
)

// IsZero reports whether nobody is named.
func (a *Auth) IsZero() bool { return len(a.Tokens) == 0 && a.OIDC.Issuer == "" }

// HasApprovers reports whether some caller may approve what others previewed.
func (a *Auth) HasApprovers() bool {
	for _, t := range a.Tokens {
		if t.Role == auth.RoleApprover {
			return true
		}
	}
	for _, mapped := range a.OIDC.Roles {
		if mapped.Role == auth.RoleApprover {
			return true
		}
	}
	return false
}

// StaticTokens returns the tokens as the door checks them.
func (a *Auth) StaticTokens() []auth.Token {
	tokens := make([]auth.Token, len(a.Tokens))
	for i, t := range a.Tokens {
		tokens[i] = auth.Token{Name: t.Name, Grant: auth.Grant{Role: t.Role, Connections: t.Connections}}
		_, _ = hex.Decode(tokens[i].Digest[:], []byte(t.SHA256)) // has been checked
	}
	return tokens
}

// Options returns the settings of the check for access tokens, without the HTTP client and the log.
func (o *OIDC) Options() auth.OIDCOptions {
	roles := make(map[string]auth.Grant, len(o.Roles))
	for value, role := range o.Roles {
		roles[value] = auth.Grant(role)
	}
	return auth.OIDCOptions{
		Issuer: o.Issuer, Audience: o.Audience, Algorithms: o.Algorithms, NameClaim: o.NameClaim,
		RoleClaim: o.RoleClaim, Roles: roles, Skew: o.ClockSkew,
	}
}

// AsResource returns this server as OAuth clients know it: the zero Resource where no provider is
// configured.
func (o *OIDC) AsResource() auth.Resource {
	return auth.Resource{URL: o.Resource, Issuer: o.Issuer, Scopes: o.Scopes}
}

// fillIn completes a valid provider.
func (o *OIDC) fillIn() {
	if o.Issuer == "" {
		return
	}
	o.Resource = cmp.Or(o.Resource, o.Audience)
	o.NameClaim = cmp.Or(o.NameClaim, "sub")
	o.ClockSkew = cmp.Or(o.ClockSkew, auth.DefaultSkew)
	if o.Algorithms == nil {
		o.Algorithms = auth.DefaultAlgorithms()
	}
	if o.RoleClaim == nil {
		o.RoleClaim = []string{"groups"}
	}
}

func (l *loader) checkAuth() {
	places := map[string]string{} // of digests
	for i, token := range l.config.Auth.Tokens {
		place := element("auth.tokens", i)
		if l.problems.at[place] {
			continue // not even an object
		}
		l.checkCallerToken(place, token)
		if other, ok := places[token.SHA256]; ok {
			l.problems.add(place+".sha256", "is the same as that of %s; each entry needs a token of its own", other)
		}
		places[token.SHA256] = place
	}
	if l.present["auth.oidc"] && !l.problems.at["auth.oidc"] {
		l.checkOIDC("auth.oidc", &l.config.Auth.OIDC)
	}
}

func (l *loader) checkCallerToken(place string, t CallerToken) {
	ps := &l.problems
	if !IsCallerName(t.Name) {
		ps.add(place+".name", "is not a caller's name; valid: %s", ValidCallerName)
	}
	switch {
	case t.SHA256 == "":
		ps.add(place+".sha256", "is missing; valid: the token's SHA-256 in 64 hex digits, as tokenreeve auth new-token prints it")
	case len(t.SHA256) != 64 || strings.Trim(t.SHA256, "0123456789abcdef") != "":
		// Not quoted: it may be the token itself.
		ps.add(place+".sha256", "is no SHA-256; valid: 64 hex digits in lower case, never the token itself")
	}
	l.checkRole(place, t.Role, t.Connections)
}

// ValidCallerName says what IsCallerName takes.
const ValidCallerName = "lower-case letters, digits, - and _, a letter or digit first, at most 63, for example ci-bot"

// IsCallerName reports whether a static token can have the name.
func IsCallerName(name string) bool { return isName(name) }

// checkRole judges a role, and what it is narrowed to.
func (l *loader) checkRole(place string, role auth.Role, narrowed map[string]auth.Role) {
	ps := &l.problems
	roles := wordsOf(auth.Roles())
	switch {
	case role == "":
		ps.add(place+".role", "is missing; valid: %s", strings.Join(roles, ", "))
		return
	case !checkOneOf(ps, place+".role", string(role), roles):
		return
	}
	connections := slices.Sorted(maps.Keys(l.config.Connections))
	for _, name := range slices.Sorted(maps.Keys(narrowed)) {
		at := below(place+".connections", name)
		if name != auth.AllOthers && !slices.Contains(connections, name) {
			ps.add(at, "is not a configured connection%s; valid: %s", suggestion(name, connections), strings.Join(append(connections, auth.AllOthers), ", "))
			continue
		}
		if narrower := role.Narrower(); !slices.Contains(narrower, narrowed[name]) {
			ps.add(at, "is %s, which does not narrow %s; valid: %s", quote(string(narrowed[name])), role, strings.Join(wordsOf(narrower), ", "))
		}
	}
}

func (l *loader) checkOIDC(place string, o *OIDC) {
	ps := &l.problems
	l.checkURL(place+".issuer", o.Issuer, "the provider's URL, for example https://login.example.com/realms/acme")
	const validResource = "the canonical URI of this server, for example https://tokenreeve.example.com"
	switch {
	case o.Audience == "":
		ps.add(place+".audience", "is missing; valid: %s, or its id at the provider", validResource)
	case o.Resource == "" && !isResource(o.Audience):
		ps.add(place+".audience", "is no URL that clients can use; valid: %s, or any other audience beside resource", validResource)
	case o.Resource != "" && !isResource(o.Resource):
		ps.add(place+".resource", "is no URL that clients can use; valid: %s", validResource)
	}
	if o.Algorithms != nil && len(o.Algorithms) == 0 {
		ps.add(place+".algorithms", "is empty; leave it out to have %s", strings.Join(auth.DefaultAlgorithms(), " and "))
	}
	for i, algorithm := range o.Algorithms {
		checkOneOf(ps, element(place+".algorithms", i), algorithm, auth.Algorithms())
	}
	if o.RoleClaim != nil && len(o.RoleClaim) == 0 || len(o.RoleClaim) > maxClaimPath {
		ps.add(place+".role_claim", `is no path; valid: 1 to %d names, for example ["groups"]`, maxClaimPath)
	}
	if slices.Contains(o.RoleClaim, "") {
		ps.add(place+".role_claim", "holds an empty name")
	}
	for i, scope := range o.Scopes {
		if !isScope(scope) {
			ps.add(element(place+".scopes", i), "is no scope; valid: printable characters without spaces, quotes and backslashes")
		}
	}
	if o.ClockSkew > maxSkew {
		ps.add(place+".clock_skew", "is out of range; valid: up to 5m")
	}
	l.checkMapping(place+".roles", o.Roles)
}

func (l *loader) checkMapping(place string, roles map[string]MappedRole) {
	if len(roles) == 0 {
		l.problems.add(place, `is missing or empty, so that nobody would have a role; valid: an object such as {"token-admins": {"role": "admin"}}`)
	}
	for _, value := range slices.Sorted(maps.Keys(roles)) {
		at := below(place, value)
		if value == "" {
			l.problems.add(at, "is an empty name")
		}
		if !l.problems.at[at] {
			l.checkRole(at, roles[value].Role, roles[value].Connections)
		}
	}
}

// checkURL judges an address that is asked, and trusted.
func (l *loader) checkURL(place, address, valid string) {
	u, err := url.Parse(address)
	switch {
	case address == "":
		l.problems.add(place, "is missing; valid: %s", valid)
	case err != nil || u.Hostname() == "" || u.User != nil || u.ForceQuery || strings.ContainsAny(address, "?#"):
		l.problems.add(place, "is not a plain URL; valid: %s", valid)
	case u.Scheme != "https" && (u.Scheme != "http" || !loopback.IsHost(u.Hostname())):
		l.problems.add(place, "is not https, so that anybody on the way could answer; valid: %s, or http:// on this machine", valid)
	}
}

// isResource reports whether clients can find this server's metadata by the URL, which stands in
// headers as it is.
func isResource(address string) bool {
	u, err := url.Parse(address)
	if err != nil || u.Hostname() == "" || u.User != nil || u.ForceQuery || strings.ContainsAny(address, "?#{}\"\\") {
		return false
	}
	isPlain := !strings.ContainsFunc(address, func(r rune) bool { return r <= ' ' || r > '~' }) && u.Path == u.EscapedPath()
	return isPlain && (u.Scheme == "https" || u.Scheme == "http" && loopback.IsHost(u.Hostname()))
}

// isScope reports whether s is a scope token (RFC 6749, section 3.3).
func isScope(s string) bool {
	return s != "" && len(s) <= 128 && !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' || r == '"' || r == '\\' })
}
