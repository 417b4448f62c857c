package auth

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"net"
	"net/http"
	"strconv"
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

// LoopbackHosts returns the names, with port, by which a client on this machine reaches a listener.
func LoopbackHosts(port int) []string {
	p := strconv.Itoa(port)
	return []string{net.JoinHostPort("localhost", p), net.JoinHostPort("127.0.0.1", p), net.JoinHostPort("::1", p)}
}
