// Package sink delivers secrets to the places that the operator configured.
package sink

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"

	"github.com/tokenreeve/tokenreeve/internal/secret"
)

// MaxSecret caps a secret, in bytes. It is far above what any vendor mints.
const MaxSecret = 64 << 10

// maxKey caps a key, in bytes.
const maxKey = 200

// ErrKeyExists says that a sink holds something under a key already.
var ErrKeyExists = errors.New("the key exists already")

// Options say what a delivery is about.
type Options struct {
	// Connection is the connection whose token the secret belongs to.
	Connection string
	// Principal is who asked for the delivery.
	Principal string
	// Successor says that this token's last secret was delivered to this very key. Only then may the
	// key exist: the sink adds a version or, where it keeps one secret only, replaces it.
	Successor bool
	// Known says that a secret was delivered to this key before, for a sink that cannot look itself.
	Known bool
}

// Sink receives secrets.
type Sink interface {
	// Check finds out, before the vendor is called, whether a secret can be delivered under key. A key
	// that exists is [ErrKeyExists] unless o says Successor; what the operator keeps out of the sink is
	// [ErrNotAccepted].
	Check(ctx context.Context, key Key, o Options) error
	// Deliver stores s under key, with the errors of Check. It can be repeated: where the key holds this
	// very secret as its newest, Deliver succeeds, if the sink can be read.
	Deliver(ctx context.Context, key Key, s secret.Secret, o Options) (Delivery, error)
}

// Holder is a sink that can be read back.
type Holder interface {
	// Holds reports whether the sink holds, at delivery, a secret with this SHA-256. That nothing is
	// there is false and no error.
	Holds(ctx context.Context, delivery Delivery, digest [sha256.Size]byte) (bool, error)
}

// Delivery says where a secret went. It never holds the secret.
type Delivery struct {
	// Sink is the name of the sink.
	Sink string `json:"sink"`
	// Key is the key as it was asked for.
	Key string `json:"key"`
	// Version counts the secrets delivered under Key, from 1; the newest has the highest. It is 0 where
	// the sink keeps one secret only.
	Version int `json:"version"`
	// Path is the file that holds the secret, for a sink that has files.
	Path string `json:"path,omitempty"`
}

// checkSecret refuses what no sink takes.
func checkSecret(s secret.Secret) error {
	size := len(s.Expose())
	if size == 0 {
		return errors.New("the secret is empty; there is nothing to deliver")
	}
	if size > MaxSecret {
		return fmt.Errorf("the secret has %d bytes; at most %d can be delivered", size, MaxSecret)
	}
	return nil
}

func keyExists(key Key) error {
	return fmt.Errorf("%w: %s; choose another key", ErrKeyExists, key)
}

// Key names a secret within a sink: segments parted by slashes. The zero Key is not valid.
type Key struct {
	value string
}

// String returns the key as it was parsed.
func (k Key) String() string { return k.value }

// Segments returns the parts between the slashes, none for the zero Key.
func (k Key) Segments() []string {
	if k.value == "" {
		return nil
	}
	return strings.Split(k.value, "/")
}

// ParseKey reads a key: segments of ASCII letters, digits, ".", "_" and "-" parted by "/", each
// beginning with a letter, a digit or "_", without "..", at most 200 bytes in all. Case is kept.
func ParseKey(s string) (Key, error) {
	if s == "" {
		return Key{}, keyError("it is empty")
	}
	if len(s) > maxKey {
		return Key{}, keyError(fmt.Sprintf("it has %d bytes", len(s)))
	}
	if strings.Contains(s, "..") {
		return Key{}, keyError(`it holds ".."`)
	}
	for i, segment := range strings.Split(s, "/") {
		if problem := segmentProblem(segment); problem != "" {
			return Key{}, keyError(fmt.Sprintf("segment %d %s", i+1, problem))
		}
	}
	return Key{value: s}, nil
}

// ParseDestination reads SINK/KEY, for example files/ci/launchdarkly. Whether the sink exists is for
// the caller to say.
func ParseDestination(s string) (sinkName string, key Key, err error) {
	sinkName, rest, found := strings.Cut(s, "/")
	if !found {
		return "", Key{}, errors.New("the destination has no key; valid is SINK/KEY, for example files/ci/launchdarkly")
	}
	if err := checkSinkName(sinkName); err != nil {
		return "", Key{}, err
	}
	key, err = ParseKey(rest)
	if err != nil {
		return "", Key{}, err
	}
	return sinkName, key, nil
}

func checkSinkName(name string) error {
	problem := segmentProblem(name)
	if problem == "" && len(name) > maxKey {
		problem = fmt.Sprintf("has %d bytes", len(name))
	}
	if problem == "" {
		return nil
	}
	return fmt.Errorf(`the sink's name %s; valid are letters, digits, ".", "_" and "-", with a letter, digit or "_" first, for example files`, problem)
}

func keyError(problem string) error {
	return fmt.Errorf(`the key is not valid: %s; valid are segments of letters, digits, ".", "_" and "-" parted by "/", each with a letter, digit or "_" first, without "..", at most %d bytes in all, for example ci/launchdarkly`, problem, maxKey)
}

// segmentProblem says what is wrong with a segment, "" when nothing is.
func segmentProblem(segment string) string {
	if segment == "" {
		return "is empty"
	}
	for i, r := range segment {
		if !isWord(r) && r != '.' && r != '-' {
			return fmt.Sprintf("holds %+q", r)
		}
		if i == 0 && !isWord(r) {
			return fmt.Sprintf("begins with %+q", r)
		}
	}
	return ""
}

func isWord(r rune) bool {
	return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '_'
}
