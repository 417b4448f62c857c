package sink

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/zalando/go-keyring"

	"github.com/tokenreeve/tokenreeve/internal/secret"
)

const (
	keyringService = "tokenreeve"
	// keyringTimeout leaves a user the time to unlock the keyring.
	keyringTimeout = 30 * time.Second
)

var (
	_ Sink   = (*Keyring)(nil)
	_ Holder = (*Keyring)(nil)
)

// Keyring is a sink that keeps secrets in the desktop's keyring, under the service "tokenreeve" with
// the key as the user name. It keeps one secret for a key.
//
// A keyring has no way to write only where nothing is. Deliveries of one process keep each other out;
// of two processes that deliver to the same new key at the same moment, the later one wins, and the
// earlier one finds out when it reads back.
type Keyring struct {
	door
	mu sync.Mutex
}

// NewKeyring returns the keyring sink called name.
func NewKeyring(name string, accept Accept) (*Keyring, error) {
	d, err := newDoor(name, accept)
	if err != nil {
		return nil, err
	}
	return &Keyring{door: d}, nil
}

// Check finds out whether the keyring can be read, and what it holds under key. That it can be
// written shows only when a secret is delivered.
func (k *Keyring) Check(ctx context.Context, key Key, o Options) error {
	if err := k.admit(key, o); err != nil {
		return k.wrap(err)
	}
	held, err := k.get(ctx, key)
	if err == nil && !held.IsZero() && !o.Successor {
		err = keyExists(key)
	}
	return k.wrap(err)
}

// Deliver stores s and reads it back.
func (k *Keyring) Deliver(ctx context.Context, key Key, s secret.Secret, o Options) (Delivery, error) {
	if err := errors.Join(checkSecret(s), k.admit(key, o)); err != nil {
		return Delivery{}, k.wrap(err)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.set(ctx, key, s, o); err != nil {
		return Delivery{}, k.wrap(err)
	}
	return Delivery{Sink: k.name, Key: key.String()}, nil
}

func (k *Keyring) set(ctx context.Context, key Key, s secret.Secret, o Options) error {
	held, err := k.get(ctx, key)
	if err != nil {
		return err
	}
	if held.Equal(s) {
		return nil
	}
	if !held.IsZero() && !o.Successor {
		return keyExists(key)
	}
	_, err = patiently(ctx, func() (string, error) {
		return "", keyring.Set(keyringService, key.String(), s.Expose())
	})
	if err != nil {
		return keyringError("write", err, s)
	}
	if held, err = k.get(ctx, key); err != nil {
		return err
	}
	if !held.Equal(s) {
		return errors.New("the keyring holds something else than what was just written; something else writes the same key")
	}
	return nil
}

// Holds reports whether the keyring holds a secret with this SHA-256 under the delivery's key.
func (k *Keyring) Holds(ctx context.Context, delivery Delivery, digest [sha256.Size]byte) (bool, error) {
	if err := k.owns(delivery); err != nil {
		return false, k.wrap(err)
	}
	key, err := ParseKey(delivery.Key)
	if err != nil {
		return false, k.wrap(err)
	}
	held, err := k.get(ctx, key)
	if err != nil || held.IsZero() {
		return false, k.wrap(err)
	}
	sum := held.Digest()
	return subtle.ConstantTimeCompare(sum[:], digest[:]) == 1, nil
}

// get returns what the keyring holds under key, the zero Secret when there is nothing.
func (k *Keyring) get(ctx context.Context, key Key) (secret.Secret, error) {
	value, err := patiently(ctx, func() (string, error) {
		return keyring.Get(keyringService, key.String())
	})
	if errors.Is(err, keyring.ErrNotFound) {
		return secret.Secret{}, nil
	}
	if err != nil {
		return secret.Secret{}, keyringError("read", err, secret.Secret{})
	}
	return secret.New(value), nil
}

// patiently waits for the keyring, which may be waiting for its user, but not forever.
func patiently(ctx context.Context, call func() (string, error)) (string, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, keyringTimeout, errors.New("no answer within 30s; is it locked?"))
	defer cancel()
	if ctx.Err() != nil {
		return "", context.Cause(ctx)
	}
	type answer struct {
		value string
		err   error
	}
	answers := make(chan answer, 1)
	go func() {
		value, err := call()
		answers <- answer{value, err}
	}()
	select {
	case <-ctx.Done():
		return "", context.Cause(ctx)
	case a := <-answers:
		return a.value, a.err
	}
}

// keyringError says what the desktop said, unless that holds the secret.
func keyringError(verb string, err error, s secret.Secret) error {
	if value := s.Expose(); value != "" && strings.Contains(err.Error(), value) {
		return fmt.Errorf("cannot %s the keyring", verb)
	}
	return fmt.Errorf("cannot %s the keyring: %w", verb, err)
}
