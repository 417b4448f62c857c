// Package oidctest gives tests an OpenID provider that was not written for them, with keys that
// change, and tokens: good ones from the provider, and forged ones.
package oidctest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"testing"

	"github.com/go-jose/go-jose/v4"
)

// Key is a key pair that signs tokens.
type Key struct {
	ID        string
	Algorithm jose.SignatureAlgorithm
	Private   crypto.Signer
}

// NewKey makes a key pair for the algorithm.
func NewKey(t testing.TB, id string, algorithm jose.SignatureAlgorithm) Key {
	t.Helper()
	var private crypto.Signer
	var err error
	switch algorithm {
	case jose.RS256, jose.RS384, jose.RS512, jose.PS256, jose.PS384, jose.PS512:
		private, err = rsa.GenerateKey(rand.Reader, 2048)
	case jose.ES256:
		private, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case jose.ES384:
		private, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case jose.ES512:
		private, err = ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	case jose.EdDSA:
		_, private, err = ed25519.GenerateKey(rand.Reader)
	default:
		t.Fatalf("no keys for %s", algorithm)
	}
	if err != nil {
		t.Fatal(err)
	}
	return Key{id, algorithm, private}
}

// Public returns the public half as an issuer publishes it.
func (k Key) Public() jose.JSONWebKey {
	return jose.JSONWebKey{Key: k.Private.Public(), KeyID: k.ID, Algorithm: string(k.Algorithm), Use: "sig"}
}

// Sign returns a JWT with the claims, and with the type in its header unless that is "".
func (k Key) Sign(t testing.TB, typ string, claims map[string]any) string {
	t.Helper()
	return k.SignText(t, typ, marshal(t, claims))
}

// SignText is Sign for a payload that need not be JSON.
func (k Key) SignText(t testing.TB, typ string, payload []byte) string {
	t.Helper()
	options := (&jose.SignerOptions{}).WithHeader("kid", k.ID)
	if typ != "" {
		options.WithHeader("typ", typ)
	}
	return Compact(t, jose.SigningKey{Algorithm: k.Algorithm, Key: k.Private}, options, payload)
}

// SignSymmetric returns a JWT of the algorithm HS256 whose secret is the public key as it is
// published: a server that lets the token choose the algorithm takes it.
func (k Key) SignSymmetric(t testing.TB, claims map[string]any) string {
	t.Helper()
	secret, err := k.Public().MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	options := (&jose.SignerOptions{}).WithHeader("kid", k.ID).WithHeader("typ", "JWT")
	return Compact(t, jose.SigningKey{Algorithm: jose.HS256, Key: secret}, options, marshal(t, claims))
}

// Compact signs a payload as asked.
func Compact(t testing.TB, key jose.SigningKey, options *jose.SignerOptions, payload []byte) string {
	t.Helper()
	signer, err := jose.NewSigner(key, options)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := signer.Sign(payload)
	if err != nil {
		t.Fatal(err)
	}
	token, err := signed.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// Unsigned returns a JWT of the algorithm none.
func Unsigned(t testing.TB, claims map[string]any) string {
	t.Helper()
	encode := base64.RawURLEncoding.EncodeToString
	return encode([]byte(`{"alg":"none","typ":"JWT"}`)) + "." + encode(marshal(t, claims)) + "."
}

func marshal(t testing.TB, claims map[string]any) []byte {
	t.Helper()
	payload, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	return payload
}
