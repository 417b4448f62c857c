// Package statekeys reads the keys that a server seals and signs with: those that several servers share,
// or those of one machine.
//
// Shared keys are one secret text of age identities, of which the first is the present one. What is
// put in escrow is encrypted to it; the other keys are derived from it.
package statekeys

import (
	"context"
	"crypto/hkdf"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"filippo.io/age"

	"github.com/tokenreeve/tokenreeve/internal/secret"
)

// Purpose is what a derived key is for. It is the label of the derivation, so a key for one purpose
// tells nothing about that for another.
type Purpose string

// The purposes. Another label is another key: running clients' cursors would be refused, and fingerprints
// on record match nothing any more.
const (
	Cursors      Purpose = "cursor"
	Fingerprints Purpose = "fingerprint"
)

// howToMake ends an error that a key is missing or no key.
const howToMake = "tokenreeve state new-keys makes one"

// Keys are one or more identities. The zero value has none and serves nothing.
type Keys struct {
	identities []*age.X25519Identity
}

// Parse reads identities, one a line, as age-keygen writes them; empty lines and lines that begin with
// # say nothing. Its error names each line that is wrong, and never quotes one.
func Parse(text secret.Secret) (Keys, error) {
	var k Keys
	var problems []error
	lines := map[string]int{}
	n := 0
	for line := range strings.Lines(text.Expose()) {
		n++
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		identity, err := age.ParseX25519Identity(line)
		if err != nil { // not wrapped: the cause may quote the line
			problems = append(problems, fmt.Errorf("line %d %s", n, fault(line)))
			continue
		}
		if first, twice := lines[identity.String()]; twice {
			problems = append(problems, fmt.Errorf("line %d holds the identity of line %d again; remove one", n, first))
			continue
		}
		lines[identity.String()] = n
		k.identities = append(k.identities, identity)
	}
	if len(problems) == 0 && len(k.identities) == 0 {
		problems = append(problems, errors.New("there is no age identity; "+howToMake))
	}
	if err := errors.Join(problems...); err != nil {
		return Keys{}, err
	}
	return k, nil
}

// fault says what is wrong with a line, without quoting it.
func fault(line string) string {
	switch lower := strings.ToLower(line); {
	case strings.HasPrefix(lower, "age-secret-key-pq-"):
		return "is a post-quantum identity, which cannot stand beside X25519 recovery recipients; " + howToMake
	case strings.HasPrefix(lower, "age-secret-key-1"):
		return "is a damaged age identity: a character is wrong or missing; copy it again"
	case strings.HasPrefix(lower, "age-plugin-"):
		return "is an identity of an age plugin, which a server cannot use alone; " + howToMake
	case strings.HasPrefix(lower, "age1"):
		return "is a public key; the private one is needed, which begins with AGE-SECRET-KEY-1"
	case strings.HasPrefix(lower, "-----begin age encrypted file"):
		return "begins an encrypted file; decrypt it first, for example with exec: [\"age\", \"-d\", …]"
	case strings.Contains(lower, "private key-----"), strings.HasPrefix(lower, "ssh-"):
		return "is of an SSH or PEM key; only age identities (AGE-SECRET-KEY-1...) are supported: " + howToMake
	}
	return "is not an age identity (AGE-SECRET-KEY-1...); " + howToMake
}

// Identities returns the identities, the present one first.
func (k Keys) Identities() []*age.X25519Identity { return k.identities }

// Derive returns the keys of a purpose, size bytes each, derived with HKDF-SHA256: that of the present
// identity first, then those of the others, with which something may have been sealed before.
func (k Keys) Derive(p Purpose, size int) ([][]byte, error) {
	keys := make([][]byte, 0, len(k.identities))
	for _, identity := range k.identities {
		// The text has the 256 bits of the scalar, which the library does not give.
		key, err := hkdf.Key(sha256.New, []byte(identity.String()), nil, "tokenreeve "+string(p)+" key v1", size)
		if err != nil {
			return nil, err
		}
		keys = append(keys, key)
	}
	return keys, nil
}

// New makes an identity, and returns it as age-keygen writes it, with its public key.
func New(now time.Time) (text, public string, err error) {
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		return "", "", errors.New("cannot make a key")
	}
	public = identity.Recipient().String()
	return fmt.Sprintf("# created: %s\n# public key: %s\n%s\n", now.UTC().Format(time.RFC3339), public, identity), public, nil
}

// Source reads keys when they are needed first, and keeps them. It is safe for concurrent use.
type Source struct {
	read func(context.Context) (secret.Secret, error)

	mu   sync.Mutex
	keys *Keys
}

// NewSource returns the keys in what read gives.
func NewSource(read func(context.Context) (secret.Secret, error)) *Source { return &Source{read: read} }

// Keys returns the keys, read at the first call that succeeds.
func (s *Source) Keys(ctx context.Context) (Keys, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.keys != nil {
		return *s.keys, nil
	}
	return s.readAnew(ctx)
}

// Refresh reads the keys anew: they may have been added to while the server runs. Where that fails,
// those that were read before stay.
func (s *Source) Refresh(ctx context.Context) (Keys, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.readAnew(ctx)
}

func (s *Source) readAnew(ctx context.Context) (Keys, error) {
	text, err := s.read(ctx)
	if err != nil {
		return Keys{}, fmt.Errorf("state.keys: %w", err)
	}
	keys, err := Parse(text)
	if err != nil {
		return Keys{}, fmt.Errorf("state.keys: %w", err)
	}
	s.keys = &keys
	return keys, nil
}
