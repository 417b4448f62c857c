package auth

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/tokenreeve/tokenreeve/internal/refusal"
)

// maxToken caps what a caller presents, in bytes.
const maxToken = 16 << 10

// Authenticator finds out who sends a request.
type Authenticator interface {
	// Authenticate returns the caller. Its error wraps ErrNoToken, ErrRefused, ErrNoRole, then with
	// the caller, or ErrUnavailable, and never quotes what was presented.
	Authenticate(r *http.Request) (Principal, error)
}

// Why a request has no caller.
var (
	ErrNoToken     = errors.New("no token is presented")
	ErrRefused     = errors.New("the token is refused")
	ErrNoRole      = errors.New("no role is mapped to the caller")
	ErrUnavailable = errors.New("the token cannot be judged now")
)

// First returns an authenticator that asks each of the others until one knows the caller, also where
// it gives that caller no role.
func First(authenticators ...Authenticator) Authenticator { return first(authenticators) }

type first []Authenticator

// Authenticate implements Authenticator. The last refusal counts: the others refuse what is theirs to
// judge as well.
func (f first) Authenticate(r *http.Request) (Principal, error) {
	err := ErrNoToken
	for _, authenticator := range f {
		var principal Principal
		principal, err = authenticator.Authenticate(r)
		if !errors.Is(err, ErrRefused) {
			return principal, err
		}
	}
	return Principal{}, err
}

// presented returns the one bearer token in the headers.
func presented(h http.Header) (string, error) {
	values := h.Values("Authorization")
	switch len(values) {
	case 0:
		return "", ErrNoToken
	case 1:
	default:
		return "", fmt.Errorf("%w: more than one Authorization header", ErrRefused)
	}
	scheme, token, _ := strings.Cut(values[0], " ")
	token = strings.TrimLeft(token, " ")
	switch {
	case !strings.EqualFold(scheme, "Bearer") || token == "":
		return "", fmt.Errorf("%w: the Authorization header holds no bearer token", ErrRefused)
	case len(token) > maxToken:
		return "", fmt.Errorf("%w: it is longer than %d bytes", ErrRefused, maxToken)
	case !isHeaderToken(token):
		return "", fmt.Errorf("%w: it holds a space or a character beyond ASCII", ErrRefused)
	}
	return token, nil
}

// isHeaderToken reports whether s is printable ASCII without spaces.
func isHeaderToken(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return s != ""
}

// Options of [Middleware].
type Options struct {
	// Resource is what refused callers are told of where tokens come from; its zero value tells nothing.
	Resource Resource
	// TrustedProxies are the addresses whose X-Forwarded-For counts.
	TrustedProxies []netip.Prefix
	// BehindProxy says that requests come through a proxy. Unless its address is trusted, nobody knows
	// who is behind it, and it is not throttled as one caller.
	BehindProxy bool
	// Basic reports whether the request may present the token as the password of HTTP Basic as well,
	// which is for browsers; nil: none may.
	Basic func(*http.Request) bool
	// Log takes what is refused; nil: nothing is logged.
	Log *slog.Logger
	// Refused is told of each caller who is refused, and why: no_token, refused, no_role, unavailable or
	// throttled. Nil: nobody is told.
	Refused func(reason string)
}

// Middleware lets requests of known callers with a role pass, with the Principal in their context and
// without the token, and answers 401, 403, 429 or 503 to all others. Handlers that share one returned
// function share its count of failures.
func Middleware(a Authenticator, o Options) func(http.Handler) http.Handler {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Refused == nil {
		o.Refused = func(string) {}
	}
	d := &door{Options: o, authenticator: a, failures: newThrottle()}
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			principal, ok := d.admit(w, r)
			if !ok {
				return
			}
			r = r.WithContext(WithPrincipal(r.Context(), principal))
			r.Header = maps.Clone(r.Header) // nobody changes the values
			r.Header.Del("Authorization")   // it is for this server alone
			next.ServeHTTP(w, r)
		})
	}
}

// door is what a Middleware keeps: who has failed before, and how often.
type door struct {
	Options
	authenticator Authenticator
	failures      *throttle
}

// admit returns the caller, or answers why there is none.
func (d *door) admit(w http.ResponseWriter, r *http.Request) (Principal, bool) {
	from := d.address(r)
	if wait := d.failures.wait(from, time.Now()); wait > 0 {
		d.Refused("throttled")
		d.refuseFor(w, http.StatusTooManyRequests, wait, "too_many_failures", "too many tokens from this address were refused; try again later")
		return Principal{}, false
	}
	if d.takesBasic(r) {
		r = basicAsBearer(r)
	}
	principal, err := d.authenticator.Authenticate(r)
	principal.Address = from.String()
	switch {
	case err == nil:
		return principal, true
	case errors.Is(err, ErrNoToken):
		d.Refused("no_token")
		d.Log.Debug("caller refused", "address", from.String(), "reason", err)
		d.challenge(w, r, "", d.wanted(r))
	case errors.Is(err, ErrNoRole):
		d.Refused("no_role")
		d.Log.Warn("caller refused", "address", from.String(), "principal", principal.Name, "reason", err)
		d.Resource.Forbid(w, "insufficient_scope", "no role is mapped to this caller; ask whoever runs this server for one")
	case errors.Is(err, ErrUnavailable):
		d.Refused("unavailable")
		d.Log.Warn("caller refused", "address", from.String(), "reason", err)
		d.refuseFor(w, http.StatusServiceUnavailable, retryUnavailable, "cannot_judge", "the token cannot be judged now; try again later")
	default:
		d.Refused("refused")
		d.Log.Warn("caller refused", "address", from.String(), "reason", err)
		if d.failures.add(from, time.Now()) {
			d.Log.Warn("address throttled", "address", from.String())
		}
		d.challenge(w, r, "invalid_token", "the bearer token is not accepted; it may be wrong, expired or meant for another server")
	}
	return Principal{}, false
}

// retryUnavailable is how long a caller waits whose token could not be judged.
const retryUnavailable = 5 * time.Second

func (d *door) takesBasic(r *http.Request) bool { return d.Basic != nil && d.Basic(r) }

// wanted tells a caller without a token how to present one.
func (d *door) wanted(r *http.Request) string {
	if d.takesBasic(r) {
		return "send a bearer token in the Authorization header, or as the password of HTTP Basic"
	}
	return "send a bearer token in the Authorization header"
}

// basicAsBearer returns r with the password of HTTP Basic as its bearer token. The user's name says
// nothing: the token does.
func basicAsBearer(r *http.Request) *http.Request {
	_, password, ok := r.BasicAuth()
	if !ok || len(r.Header.Values("Authorization")) != 1 {
		return r
	}
	r = r.WithContext(r.Context())
	r.Header = r.Header.Clone()
	r.Header.Set("Authorization", "Bearer "+password)
	return r
}

// challenge answers 401 as RFC 6750 and RFC 9728 say. A caller without a token is told no error code.
func (d *door) challenge(w http.ResponseWriter, r *http.Request, code, message string) {
	if d.takesBasic(r) {
		w.Header().Add("WWW-Authenticate", `Basic realm="tokenreeve", charset="UTF-8"`)
	}
	w.Header().Add("WWW-Authenticate", d.Resource.challenge(code))
	refusal.Write(w, http.StatusUnauthorized, "unauthorized", message)
}

// refuseFor answers with the seconds to wait, rounded up.
func (d *door) refuseFor(w http.ResponseWriter, status int, wait time.Duration, code, message string) {
	seconds := int((wait + time.Second - 1) / time.Second)
	w.Header().Set("Retry-After", strconv.Itoa(max(1, seconds)))
	refusal.Write(w, status, code, message)
}
