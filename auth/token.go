package auth

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"fmt"
	"net/http"
)

// tokenPrefix makes a token recognizable, for people and for programs that search for leaked ones.
const tokenPrefix = "trv_"

// Token is a static token of the configuration: its digest, and who presents it.
type Token struct {
	// Name is the caller's; the principal is "token:NAME". Several tokens may have one name.
	Name   string
	Digest [sha256.Size]byte
	Grant  Grant
}

// NewToken returns a new token of 256 random bits, to be shown once, and its digest.
func NewToken() (string, [sha256.Size]byte) {
	random := make([]byte, randomBearer)
	_, _ = rand.Read(random) // never fails: crypto/rand ends the program instead
	// Hex digits, so that sanitize knows it for a credential wherever it turns up.
	token := tokenPrefix + hex.EncodeToString(random)
	return token, sha256.Sum256([]byte(token))
}

// Tokens lets in who presents one of the static tokens.
type Tokens struct {
	list       []Token
	principals []Principal // of each token
}

// NewTokens returns the check for the tokens.
func NewTokens(list []Token) *Tokens {
	t := &Tokens{list: list}
	for _, token := range list {
		t.principals = append(t.principals, NewPrincipal("token:"+token.Name, MethodStatic, token.Grant))
	}
	return t
}

// Authenticate implements Authenticator. It takes the same time whichever token matches, if any.
func (t *Tokens) Authenticate(r *http.Request) (Principal, error) {
	token, err := presented(r.Header)
	if err != nil {
		return Principal{}, err
	}
	digest := sha256.Sum256([]byte(token))
	found := -1
	for i := range t.list {
		isEqual := subtle.ConstantTimeCompare(digest[:], t.list[i].Digest[:])
		found = subtle.ConstantTimeSelect(isEqual, i, found)
	}
	if found < 0 {
		return Principal{}, fmt.Errorf("%w: nobody has this token", ErrRefused)
	}
	return t.principals[found], nil
}
