package confirm

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"unicode/utf8"

	"golang.org/x/crypto/scrypt"

	"github.com/tokenreeve/tokenreeve/internal/postgres"
	"github.com/tokenreeve/tokenreeve/internal/secret"
)

// MinPassphrase is how many characters the operator's passphrase has at least.
const MinPassphrase = 12

const (
	maxHash  = 4096 // bytes of what is kept
	saltSize = 16   // bytes
	hashSize = 32   // bytes

	// What a file may ask for: scrypt needs 128·N·r bytes, and the time for p times that.
	maxMemory   = 256 << 20
	maxParallel = 4
)

// ErrNoPassphrase says that the operator has set no passphrase yet.
var ErrNoPassphrase = errors.New("no passphrase is set")

// passphraseHash is what is kept of the passphrase. Its parameters stand beside it, so that a later
// version can raise them.
type passphraseHash struct {
	KDF  string `json:"kdf"` // scrypt
	N    int    `json:"n"`
	R    int    `json:"r"`
	P    int    `json:"p"`
	Salt []byte `json:"salt"`
	Hash []byte `json:"hash"`
}

// Passphrase is the operator's, of which a hash is kept.
type Passphrase struct{ store passphraseStore }

// passphraseStore keeps the hash.
type passphraseStore interface {
	// read returns it; none is fs.ErrNotExist.
	read(ctx context.Context) ([]byte, error)
	replace(ctx context.Context, data []byte) error
	// String says where it is, for an error.
	String() string
}

// PassphraseIn keeps the hash in the file approval.json in the state directory dir, where there is none
// made yet as well.
func PassphraseIn(dir string) Passphrase { return Passphrase{passphraseDirectory(dir)} }

// SharedPassphrase keeps the hash in a database, for all servers of it.
func SharedPassphrase(db *postgres.DB) Passphrase { return Passphrase{passphraseTable{db}} }

// Set keeps a hash of the passphrase in place of an earlier one. The passphrase has at least
// [MinPassphrase] characters.
func (p Passphrase) Set(ctx context.Context, passphrase secret.Secret) error {
	if n := utf8.RuneCountInString(passphrase.Expose()); n < MinPassphrase {
		return fmt.Errorf("the passphrase has %d characters and needs at least %d; nothing was changed", n, MinPassphrase)
	}
	h := passphraseHash{KDF: "scrypt", N: 1 << 15, R: 8, P: 1, Salt: make([]byte, saltSize)}
	_, _ = rand.Read(h.Salt) // never fails: crypto/rand ends the program instead
	var err error
	if h.Hash, err = h.of(passphrase); err != nil {
		return err
	}
	data, err := json.Marshal(h)
	if err != nil {
		return err
	}
	return p.store.replace(ctx, append(data, '\n'))
}

// Check reports whether the passphrase is the one that was set. [ErrNoPassphrase]: none was.
func (p Passphrase) Check(ctx context.Context, passphrase secret.Secret) (bool, error) {
	h, err := p.hash(ctx)
	if err != nil {
		return false, err
	}
	hash, err := h.of(passphrase)
	return err == nil && subtle.ConstantTimeCompare(hash, h.Hash) == 1, err
}

// IsSet reports whether a passphrase was set.
func (p Passphrase) IsSet(ctx context.Context) (bool, error) {
	_, err := p.hash(ctx)
	if errors.Is(err, ErrNoPassphrase) {
		return false, nil
	}
	return err == nil, err
}

func (p Passphrase) hash(ctx context.Context) (passphraseHash, error) {
	var h passphraseHash
	data, err := p.store.read(ctx)
	if errors.Is(err, fs.ErrNotExist) {
		return h, ErrNoPassphrase
	}
	if err != nil {
		return h, err
	}
	if json.Unmarshal(data, &h) != nil || !h.isSound() {
		return h, fmt.Errorf("%s does not hold the hash of a passphrase; restore it from a backup, or remove it and set a new one", p.store)
	}
	return h, nil
}

// isSound reports whether the hash can be judged without undue memory or time.
func (h *passphraseHash) isSound() bool {
	return h.KDF == "scrypt" && len(h.Salt) >= saltSize && len(h.Hash) == hashSize &&
		h.N > 1 && h.N&(h.N-1) == 0 && h.R > 0 && h.N <= maxMemory/128/h.R && h.P > 0 && h.P <= maxParallel
}

func (h *passphraseHash) of(passphrase secret.Secret) ([]byte, error) {
	hash, err := scrypt.Key([]byte(passphrase.Expose()), h.Salt, h.N, h.R, h.P, hashSize)
	if err != nil {
		return nil, fmt.Errorf("hash the passphrase: %w", err)
	}
	return hash, nil
}
