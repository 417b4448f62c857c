package auth

import (
	"context"
	"crypto"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/go-jose/go-jose/v4"

	"github.com/tokenreeve/tokenreeve/internal/loopback"
	"github.com/tokenreeve/tokenreeve/internal/sanitize"
)

// How the issuer's keys are kept.
const (
	keysFresh   = 10 * time.Minute // after that they are read again: the issuer may have withdrawn one
	keysStale   = time.Hour        // after that they count no more, though the issuer cannot be reached
	askTime     = 5 * time.Second  // for discovery and keys together
	askInterval = 10 * time.Second // between two readings, in the long run
	askBurst    = 3                // readings in a row
	maxBackoff  = time.Minute      // after failures
	maxDocument = 1 << 20          // bytes
	maxKeys     = 100
	minRSA      = 2048 // bits
)

// issuerKeys are the public keys of the issuer. They are read when a token needs them, never at the
// start: an issuer that is down must not keep the server down.
type issuerKeys struct {
	issuer string
	client *http.Client
	now    func() time.Time
	log    *slog.Logger

	mu       sync.Mutex
	keys     []jose.JSONWebKey
	read     time.Time     // when keys were read
	due      time.Time     // when the budget of readings is full again
	failures int           // since the last success
	retry    time.Time     // no reading before, after failures
	asking   chan struct{} // closed at the end of the reading under way; nil: there is none
}

func newIssuerKeys(o OIDCOptions) *issuerKeys {
	client := http.Client{Transport: http.DefaultTransport}
	if o.Client != nil {
		client = *o.Client
	}
	if client.Transport == nil {
		client.Transport = http.DefaultTransport
	}
	client.Transport = careful{client.Transport}
	return &issuerKeys{issuer: o.Issuer, client: &client, now: o.Now, log: o.Log}
}

// find returns the keys that may have signed a token with this key id, which may be empty, and
// algorithm. A key id that nobody knows makes it read the keys again, within bounds.
func (k *issuerKeys) find(ctx context.Context, id, algorithm string) ([]crypto.PublicKey, error) {
	found, age := k.known(id, algorithm)
	if len(found) > 0 && age < keysFresh {
		return found, nil
	}
	asked := k.ask()
	if len(found) > 0 && age < keysStale {
		return found, nil // those asked for are the next caller's
	}
	if asked != nil {
		select {
		case <-asked:
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: the caller left", ErrUnavailable)
		}
	}
	found, age = k.known(id, algorithm)
	switch {
	case age >= keysStale:
		return nil, fmt.Errorf("%w: the issuer's keys cannot be had", ErrUnavailable)
	case len(found) == 0:
		return nil, fmt.Errorf("%w: the issuer has no such key", ErrRefused)
	}
	return found, nil
}

// newer reads the keys again, within bounds, after those that are known did not verify a signature: an
// issuer may give a new key the id of the one before, or no id at all. It returns none where it is too
// soon for that.
func (k *issuerKeys) newer(ctx context.Context, id, algorithm string) []crypto.PublicKey {
	asked := k.ask()
	if asked == nil {
		return nil
	}
	select {
	case <-asked:
	case <-ctx.Done():
		return nil
	}
	found, age := k.known(id, algorithm)
	if age >= keysFresh {
		return nil
	}
	return found
}

// known returns the matching keys and the age of all keys.
func (k *issuerKeys) known(id, algorithm string) ([]crypto.PublicKey, time.Duration) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.read.IsZero() {
		return nil, keysStale
	}
	var found []crypto.PublicKey
	for _, key := range k.keys {
		if (id == "" || key.KeyID == id) && (key.Algorithm == "" || key.Algorithm == algorithm) {
			found = append(found, key.Key)
		}
	}
	return found, k.now().Sub(k.read)
}

// ask begins to read the keys, unless that is under way or too soon. The channel it returns is closed
// at the end; nil: nothing is read.
func (k *issuerKeys) ask() <-chan struct{} {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := k.now()
	switch {
	case k.asking != nil:
		return k.asking
	case now.Before(k.retry) || k.due.Sub(now) > (askBurst-1)*askInterval:
		return nil
	}
	if k.due.Before(now) {
		k.due = now
	}
	k.due = k.due.Add(askInterval)
	asking := make(chan struct{})
	k.asking = asking
	go func() {
		defer close(asking)
		// No caller may end it: others wait for it too.
		ctx, cancel := context.WithTimeout(context.Background(), askTime)
		defer cancel()
		keys, err := k.fetch(ctx)
		k.keep(keys, err)
	}()
	return asking
}

func (k *issuerKeys) keep(keys []jose.JSONWebKey, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.asking = nil
	if err == nil {
		k.keys, k.read, k.failures = keys, k.now(), 0
		k.log.Debug("issuer's keys read", "issuer", k.issuer, "keys", len(keys))
		return
	}
	pause := min(time.Second<<min(k.failures, 10), maxBackoff)
	k.failures++
	k.retry = k.now().Add(pause)
	k.log.Warn("issuer's keys cannot be read", "issuer", k.issuer, "error", err, "again_in", pause)
}

// fetch discovers the issuer anew each time: its keys may move.
func (k *issuerKeys) fetch(ctx context.Context) ([]jose.JSONWebKey, error) {
	provider, err := oidc.NewProvider(oidc.ClientContext(ctx, k.client), k.issuer)
	if err != nil {
		return nil, fmt.Errorf("discovery: %w", issuerFault(err))
	}
	var document struct {
		Keys string `json:"jwks_uri"`
	}
	if err := provider.Claims(&document); err != nil || !isSafeURL(document.Keys) {
		return nil, errors.New("discovery: jwks_uri is missing, or not https")
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, document.Keys, nil)
	if err != nil {
		return nil, errors.New("discovery: jwks_uri is no URL")
	}
	response, err := k.client.Do(r)
	if err != nil {
		return nil, fmt.Errorf("keys: %w", issuerFault(err))
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, fmt.Errorf("keys: %w", issuerFault(err))
	}
	return parseKeys(body)
}

// parseKeys returns the public keys that can verify a signature. It passes over all others: a set may
// hold keys of a kind that is not known here.
func parseKeys(body []byte) ([]jose.JSONWebKey, error) {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if json.Unmarshal(body, &set) != nil {
		return nil, errors.New("keys: the answer is no JSON object with keys")
	}
	var keys []jose.JSONWebKey
	for _, raw := range set.Keys[:min(len(set.Keys), maxKeys)] {
		var key jose.JSONWebKey
		if key.UnmarshalJSON(raw) == nil && isUsable(key) {
			keys = append(keys, key)
		}
	}
	if len(keys) == 0 {
		return nil, errors.New("keys: none can verify a signature")
	}
	return keys, nil
}

func isUsable(key jose.JSONWebKey) bool {
	if !key.IsPublic() || !key.Valid() || (key.Use != "" && key.Use != "sig") {
		return false
	}
	public, isRSA := key.Key.(*rsa.PublicKey)
	return !isRSA || public.N.BitLen() >= minRSA
}

// isSafeURL reports whether nobody on the way can change what is read there.
func isSafeURL(address string) bool {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.User != nil {
		return false
	}
	return u.Scheme == "https" || u.Scheme == "http" && loopback.IsHost(u.Hostname())
}

// issuerFault says what went wrong without anything of what the issuer answered.
func issuerFault(err error) error {
	var mismatch *oidc.IssuerMismatchError
	var failed *url.Error
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &mismatch):
		return errors.New("the issuer calls itself otherwise than configured; valid: its exact name, with or without a slash at the end")
	case errors.As(err, &failed):
		return errors.New(sanitize.Message(failed.Err.Error()))
	case errors.As(err, &tooLarge):
		return fmt.Errorf("the answer has more than %d bytes", tooLarge.Limit)
	default:
		return errors.New("the answer cannot be read")
	}
}

// careful bounds answers, and takes no other than a 200 for one: not a redirect, which could lead to
// an address that is not https.
type careful struct{ next http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (c careful) RoundTrip(r *http.Request) (*http.Response, error) {
	response, err := c.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	if response.StatusCode != http.StatusOK {
		_ = response.Body.Close()
		return nil, fmt.Errorf("status %d", response.StatusCode)
	}
	response.Body = http.MaxBytesReader(nil, response.Body, maxDocument)
	return response, nil
}
