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
	seal func() (cipher.AEAD, error)
}

// cursorKeySize is the size of an AES-256 key, in bytes.
const cursorKeySize = 32

// NewCursors returns cursors sealed with the key that readKey gives, 32 bytes.
// readKey is called at the first need.
func NewCursors(readKey func(size int) ([]byte, error)) *Cursors {
	return &Cursors{seal: sync.OnceValues(func() (cipher.AEAD, error) {
		key, err := readKey(cursorKeySize)
		if err != nil {
			return nil, fmt.Errorf("cursor key: %w", err)
		}
		block, err := aes.NewCipher(key)
		if err != nil {
			return nil, fmt.Errorf("cursor key: %w", err)
		}
		return cipher.NewGCM(block)
	})}
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
	aead, err := c.seal()
	if err != nil {
		return "", unsealed(err)
	}
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
	aead, err := c.seal()
	if err != nil {
		return place{}, unsealed(err)
	}
	p, err := open(aead, cursor)
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
		Next: "ask the operator to mend the state directory; a smaller limit that holds everything needs no cursor",
	}
}

func open(aead cipher.AEAD, cursor string) (place, error) {
	var p place
	sealed, err := base64.RawURLEncoding.DecodeString(strings.TrimSpace(cursor))
	if err != nil {
		return p, err
	}
	if len(sealed) < aead.NonceSize() {
		return p, errors.New("too short")
	}
	plain, err := aead.Open(nil, sealed[:aead.NonceSize()], sealed[aead.NonceSize():], nil)
	if err != nil {
		return p, err
	}
	return p, json.Unmarshal(plain, &p)
}
