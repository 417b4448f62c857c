// Package secret holds the value of a token so that it cannot be shown by accident.
//
// A [Secret] writes itself as "[redacted]" wherever a value is formatted, logged, encoded or put
// in an error. [Secret.Expose] is the only way to open it; a linter restricts who may call it.
package secret

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"unicode/utf8"
)

// Redacted is what a Secret shows of itself.
const Redacted = "[redacted]"

// lastFourMin is the length in bytes from which four characters give away too little to matter.
const lastFourMin = 16

// Secret is the value of a token. The zero Secret holds nothing.
//
// The value is held behind a function: code that prints by reflection, and so never asks a type how
// it wants to be shown (fmt on an unexported field, a dumper), sees an address only. For the same
// reason two Secrets cannot be compared with == or reflect.DeepEqual; use [Secret.Equal].
type Secret struct {
	open func() string
}

// New returns a Secret that holds value exactly as given; nothing is trimmed. New("") is the zero
// Secret.
func New(value string) Secret {
	if value == "" {
		return Secret{}
	}
	return Secret{open: func() string { return value }}
}

// Expose returns the value, "" for the zero Secret. It is for what hands the value to a vendor, to
// the escrow or to a sink, and for nothing else.
func (s Secret) Expose() string {
	if s.open == nil {
		return ""
	}
	return s.open()
}

// IsZero reports whether s holds nothing. It serves the JSON option omitzero as well.
func (s Secret) IsZero() bool { return s.Expose() == "" }

// Equal reports whether both hold the same value, in a time that does not depend on where they
// differ. Two zero Secrets are equal.
func (s Secret) Equal(o Secret) bool {
	a, b := s.Digest(), o.Digest()
	return subtle.ConstantTimeCompare(a[:], b[:]) == 1
}

// LastFour returns the last four characters, which vendors show as well. It returns "" when the
// value is shorter than 16 bytes or when they are not printable ASCII.
func (s Secret) LastFour() string {
	value := s.Expose()
	if len(value) < lastFourMin {
		return ""
	}
	last := value[len(value)-4:]
	for _, b := range []byte(last) {
		if b <= ' ' || b > '~' {
			return ""
		}
	}
	return last
}

// Fingerprint returns "hmac-sha256:" and the first 16 hex digits of the HMAC-SHA256 of the value
// under key. It recognises a secret without showing it. It returns "" for the zero Secret, and for
// an empty key, since anyone could then test a guess against it.
func (s Secret) Fingerprint(key []byte) string {
	if s.IsZero() || len(key) == 0 {
		return ""
	}
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(s.Expose()))
	return "hmac-sha256:" + hex.EncodeToString(mac.Sum(nil)[:8])
}

// Digest returns the SHA-256 of the value. It is for comparing in memory; what is shown or kept is
// a [Secret.Fingerprint].
func (s Secret) Digest() [sha256.Size]byte { return sha256.Sum256([]byte(s.Expose())) }

// Format redacts s for every verb, flag, width and precision.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, Redacted) }

// String returns "[redacted]".
func (s Secret) String() string { return Redacted }

// GoString returns "[redacted]".
func (s Secret) GoString() string { return Redacted }

// LogValue returns "[redacted]".
func (s Secret) LogValue() slog.Value { return slog.StringValue(Redacted) }

// MarshalText returns "[redacted]".
func (s Secret) MarshalText() ([]byte, error) { return []byte(Redacted), nil }

// MarshalJSON returns the JSON string "[redacted]".
func (s Secret) MarshalJSON() ([]byte, error) { return []byte(`"` + Redacted + `"`), nil }

// UnmarshalJSON takes the value from a JSON string of a vendor's answer; null gives the zero
// Secret. Its errors never hold the content. The string "[redacted]" is an error, since a Secret
// that was written out cannot be read back.
func (s *Secret) UnmarshalJSON(data []byte) error {
	if string(data) == "null" {
		*s = Secret{}
		return nil
	}
	// encoding/json would put U+FFFD in place of bytes that are not UTF-8: another secret.
	if !utf8.Valid(data) {
		return errors.New("secret: the JSON value is not valid UTF-8; expected a JSON string: check the vendor's answer")
	}
	value, ok := unescaped(data)
	if !ok && json.Unmarshal(data, &value) != nil {
		// The cause is not wrapped: it may quote what it could not decode.
		return errors.New("secret: the JSON value is not a string; expected a JSON string or null: check the vendor's answer")
	}
	if value == Redacted {
		return errors.New("secret: the JSON value was redacted when it was written; read it from where it was minted")
	}
	*s = New(value)
	return nil
}

// unescaped returns the content of a JSON string that holds no escapes, as all do in a long listing.
func unescaped(data []byte) (string, bool) {
	last := len(data) - 1
	if last < 1 || data[0] != '"' || data[last] != '"' {
		return "", false
	}
	for _, b := range data[1:last] {
		if b < ' ' || b == '"' || b == '\\' {
			return "", false
		}
	}
	return string(data[1:last]), true
}
