package auth

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

const (
	// minBearer is the least length of a configured bearer token, in characters.
	minBearer = 32
	// randomBearer is the size of a token made here, in bytes.
	randomBearer = 32
)

// Bearer lets in who presents the one token of a server without configured callers. It keeps the
// token's SHA-256 only.
type Bearer struct {
	digest [sha256.Size]byte
}

// NewBearer returns the check for a configured token of at least 32 printable ASCII characters
// without spaces. Its error does not quote the token.
func NewBearer(token string) (*Bearer, error) {
	if len(token) < minBearer {
		return nil, fmt.Errorf("the bearer token has %d characters; valid: at least %d, for example from openssl rand -hex 32", len(token), minBearer)
	}
	for i := range len(token) {
		if token[i] <= ' ' || token[i] > '~' {
			return nil, fmt.Errorf("character %d of the bearer token cannot stand in a header; valid: printable ASCII without spaces", i+1)
		}
	}
	return &Bearer{digest: sha256.Sum256([]byte(token))}, nil
}

// RandomBearer returns the check for a new token of 256 random bits, and that token, to be shown
// once to who started the server.
func RandomBearer() (*Bearer, string) {
	random := make([]byte, randomBearer)
	_, _ = rand.Read(random) // never fails: crypto/rand ends the program instead
	token := base64.RawURLEncoding.EncodeToString(random)
	return &Bearer{digest: sha256.Sum256([]byte(token))}, token
}

// Authenticate implements Authenticator: the caller is "bearer", an admin.
func (b *Bearer) Authenticate(r *http.Request) (Principal, error) {
	token, err := presented(r.Header)
	if err != nil {
		return Principal{}, err
	}
	digest := sha256.Sum256([]byte(token))
	if subtle.ConstantTimeCompare(digest[:], b.digest[:]) != 1 {
		return Principal{}, fmt.Errorf("%w: it is not the server's", ErrRefused)
	}
	return NewPrincipal("bearer", MethodBearer, Grant{Role: RoleAdmin}), nil
}

// Middleware is [Middleware] with nothing but the token.
func (b *Bearer) Middleware(next http.Handler) http.Handler { return Middleware(b, Options{})(next) }

// LoopbackHosts returns the names, with port, by which a client on this machine reaches a listener.
func LoopbackHosts(port int) []string {
	p := strconv.Itoa(port)
	return []string{net.JoinHostPort("localhost", p), net.JoinHostPort("127.0.0.1", p), net.JoinHostPort("::1", p)}
}

// CheckHostOrigin returns a middleware that answers 403 to a request for another host than
// the allowed ones (HOST:PORT), and to one from a web page of another origin. Without it, any web
// page could reach the server through its reader's browser, under a name that it points here.
func CheckHostOrigin(allowedHosts ...string) func(http.Handler) http.Handler {
	allowed := make([]string, len(allowedHosts))
	for i, host := range allowedHosts {
		allowed[i] = strings.ToLower(host)
	}
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			switch {
			case !slices.Contains(allowed, withPort(r.Host, "80")):
				refuse(w, http.StatusForbidden, "forbidden_host", "the Host header names another server than this one")
			case !isAllowedOrigin(r.Header.Values("Origin"), allowed):
				refuse(w, http.StatusForbidden, "forbidden_origin", "the Origin header names a page that may not call this server")
			default:
				next.ServeHTTP(w, r)
			}
		})
	}
}

func isAllowedOrigin(origins, allowed []string) bool {
	if len(origins) == 0 {
		return true
	}
	u, err := url.Parse(origins[0])
	if err != nil || len(origins) > 1 {
		return false
	}
	port, known := map[string]string{"http": "80", "https": "443"}[u.Scheme]
	isBare := u.User == nil && u.Path == "" && u.RawQuery == "" && u.Fragment == ""
	return known && isBare && slices.Contains(allowed, withPort(u.Host, port))
}

// withPort returns host in lower case, with the scheme's port where it names none.
func withPort(host, port string) string {
	host = strings.ToLower(host)
	if _, _, err := net.SplitHostPort(host); err == nil {
		return host
	}
	return net.JoinHostPort(strings.Trim(host, "[]"), port)
}

// refuse answers with a body that holds nothing of the request.
func refuse(w http.ResponseWriter, status int, code, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, `{"code":"`+code+`","message":"`+message+`"}`+"\n")
}
