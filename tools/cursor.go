package tools

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"
)

// Cursors seals the place where a listing goes on. A cursor tells its holder
// nothing, cannot be altered, and survives a restart as long as its key does.
type Cursors struct {
	seals func() ([]cipher.AEAD, error)
}

// cursorKeySize is the size of an AES-256 key, in bytes.
const cursorKeySize = 32

// NewCursors returns cursors sealed with the first of the keys that readKeys gives, 32 bytes each.
// Those that were sealed with another are opened as well. readKeys is called until it succeeds.
func NewCursors(readKeys func(size int) ([][]byte, error)) *Cursors {
	var mu sync.Mutex
	var seals []cipher.AEAD
	return &Cursors{seals: func() ([]cipher.AEAD, error) {
		mu.Lock()
		defer mu.Unlock()
		if seals != nil {
			return seals, nil
		}
		read, err := sealsOf(readKeys)
		if err != nil {
			return nil, fmt.Errorf("cursor key: %w", err)
		}
		seals = read
		return seals, nil
	}}
}

func sealsOf(readKeys func(size int) ([][]byte, error)) ([]cipher.AEAD, error) {
	keys, err := readKeys(cursorKeySize)
	if err != nil {
		return nil, err
	}
	var seals []cipher.AEAD
	for _, key := range keys {
		block, err := aes.NewCipher(key)
		if err != nil {
			return nil, err
		}
		seal, err := cipher.NewGCM(block)
		if err != nil {
			return nil, err
		}
		seals = append(seals, seal)
	}
	return seals, nil
}

// place is where a listing goes on.
type place struct {
	Principal string          `json:"p"`
	Tool      string          `json:"o,omitempty"` // empty: list_tokens
	Arguments json.RawMessage `json:"a"`           // without cursor
	Now       time.Time       `json:"n"`           // the moment that ages count from
	// The last row that was returned.
	Connection string `json:"c"`
	ID         string `json:"i"`
	At         string `json:"t,omitempty"` // its page, without sort
	Key        string `json:"k,omitempty"` // its value, with sort
}

func (c *Cursors) encode(p place) (string, error) {
	seals, err := c.seals()
	if err != nil {
		return "", unsealed(err)
	}
	aead := seals[0]
	plain, err := json.Marshal(p)
	if err != nil {
		return "", fmt.Errorf("cursor: %w", err)
	}
	nonce := make([]byte, aead.NonceSize())
	if _, err := rand.Read(nonce); err != nil {
		return "", fmt.Errorf("cursor: %w", err)
	}
	return base64.RawURLEncoding.EncodeToString(aead.Seal(nonce, nonce, plain, nil)), nil
}

// decode opens a cursor of the same caller and tool.
func (c *Cursors) decode(cursor, principal, tool string) (place, error) {
	seals, err := c.seals()
	if err != nil {
		return place{}, unsealed(err)
	}
	p, err := open(seals, cursor)
	if err != nil || p.Principal != principal || p.Tool != tool {
		return place{}, &Problem{
			Code:    "invalid_cursor",
			Message: "the cursor was altered, is cut short, or belongs to another caller, tool or server",
			Next:    "copy next_cursor exactly as it was returned, or list again without cursor",
		}
	}
	return p, nil
}

// unsealed is the problem of a key that cannot be read or made.
func unsealed(err error) error {
	return &Problem{
		Code: "state_unusable", Message: "no further page can be offered: " + clean(err.Error()),
		Next: "ask the operator to mend the state directory or database; a smaller limit that holds everything needs no cursor",
	}
}

func open(seals []cipher.AEAD, cursor string) (place, error) {
	var p place
	sealed, err := base64.RawURLEncoding.DecodeString(strings.TrimSpace(cursor))
	if err != nil {
		return p, err
	}
	for _, aead := range seals {
		if len(sealed) < aead.NonceSize() {
			break
		}
		plain, err := aead.Open(nil, sealed[:aead.NonceSize()], sealed[aead.NonceSize():], nil)
		if err == nil {
			return p, json.Unmarshal(plain, &p)
		}
	}
	return p, errors.New("sealed with none of the keys")
}
