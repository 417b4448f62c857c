package sink

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"filippo.io/age"

	"github.com/tokenreeve/tokenreeve/internal/postgres"
	"github.com/tokenreeve/tokenreeve/internal/secret"
	"github.com/tokenreeve/tokenreeve/internal/statekeys"
)

const (
	// maxEscrowed caps an encrypted file, in bytes. It holds the largest secret with its record.
	maxEscrowed = 1 << 20
	// maxOperationID caps an operation's id, in bytes.
	maxOperationID = 64
)

// Recipient is an age public key that can decrypt what is put in escrow, besides the server's own.
type Recipient struct {
	key *age.X25519Recipient
}

// String returns the public key.
func (r Recipient) String() string { return r.key.String() }

// ParseRecipients reads age public keys (age1...). It reports all problems at once and never shows
// what it could not read, which may be a private key.
func ParseRecipients(keys []string) ([]Recipient, error) {
	recipients := make([]Recipient, 0, len(keys))
	var problems []error
	for i, key := range keys {
		parsed, err := age.ParseX25519Recipient(strings.TrimSpace(key))
		if err != nil {
			problems = append(problems, fmt.Errorf("recovery recipient %d %s", i+1, recipientProblem(key)))
			continue
		}
		recipients = append(recipients, Recipient{parsed})
	}
	if err := errors.Join(problems...); err != nil {
		return nil, err
	}
	return recipients, nil
}

// recipientProblem says what is wrong with a key. The age library's own message would quote it.
func recipientProblem(key string) string {
	switch lower := strings.ToLower(strings.TrimSpace(key)); {
	case strings.HasPrefix(lower, "age-secret-key-"):
		return "is a private key, which must not stand here: remove it, and give the public key that age-keygen -y prints"
	case strings.HasPrefix(lower, "age1pq1"):
		// age refuses to encrypt to both kinds, since the weaker one would decide.
		return "is a post-quantum key, which cannot stand beside the server's own X25519 key; make one with age-keygen without options"
	case strings.HasPrefix(lower, "ssh-"):
		return "is an SSH key; only age public keys (age1...) are supported: make one with age-keygen"
	}
	return "is not an age public key; it begins with age1 and is what age-keygen -y prints"
}

// Meta is what the escrow keeps of a secret beside its value, encrypted as well.
type Meta struct {
	TokenID    string `json:"token_id,omitempty"`
	Connection string `json:"connection,omitempty"`
	// Destination is where the secret was meant to go, as SINK/KEY.
	Destination string    `json:"destination,omitempty"`
	Created     time.Time `json:"created,omitzero"`
}

// Entry describes one secret in escrow.
type Entry struct {
	OperationID string
	// Written is when the secret was put in escrow.
	Written time.Time
	// Size is the size of the encrypted file, in bytes.
	Size int64
	// Meta is empty where Problem is not nil.
	Meta Meta
	// Problem says why the secret cannot be read with the server's own key.
	Problem error
}

// sealed is what is encrypted. An operator who has a recovery key reads it with age -d.
type sealed struct {
	OperationID string `json:"operation_id"`
	Meta
	Secret string `json:"secret,omitempty"`
	// Bytes holds a secret that is not UTF-8, which a JSON string would change.
	Bytes []byte `json:"secret_base64,omitempty"`
}

// Escrow keeps minted secrets, encrypted, from the vendor's answer until a sink holds them: each under
// its operation's id, encrypted with age to the server's present key and to the recovery recipients.
// Nothing but that id and the time is in clear. An Escrow is safe for concurrent use, also by several
// processes.
type Escrow struct {
	store      escrowStore
	keys       escrowKeys
	recipients []age.Recipient
}

// escrowStore keeps what is encrypted, by operation id.
type escrowStore interface {
	// probe finds out whether something can be written for good. It returns the fingerprint of the key
	// that others who share the store encrypt to, or "" where nobody does or has.
	probe(ctx context.Context) (key string, err error)
	// announce makes key the one that probe returns, where it is to follow the one before, and returns
	// that. A store that nobody shares does nothing.
	announce(ctx context.Context, key string, follows func(before string) bool) (before string, err error)
	// writeNew writes for good what is encrypted to key; the error is fs.ErrExist where there is something
	// already. It does not stop when ctx ends.
	writeNew(ctx context.Context, operationID string, data []byte, key string) error
	// read returns what was written; nothing is fs.ErrNotExist.
	read(ctx context.Context, operationID string) ([]byte, error)
	// remove removes for good. Nothing to remove is no error.
	remove(ctx context.Context, operationID string) error
	// list describes all, by operation id, without their Meta. It makes nothing.
	list(ctx context.Context) ([]Entry, error)
	// file says how to get at the encrypted file of an operation: the words that end the command
	// age -d -i KEYFILE.
	file(operationID string) string
}

// escrowKeys are the server's own keys, the present one first.
type escrowKeys interface {
	// check reads the keys before something is minted, and makes one where that is allowed.
	check(ctx context.Context) ([]*age.X25519Identity, error)
	// known returns what check returned last, so that keys which cannot be read any more do not lose
	// the secret that was minted meanwhile.
	known(ctx context.Context) ([]*age.X25519Identity, error)
	// current returns the keys to read with, and makes none.
	current(ctx context.Context) ([]*age.X25519Identity, error)
	// renewed returns them as they stand where they are kept now.
	renewed(ctx context.Context) ([]*age.X25519Identity, error)
}

// NewEscrow returns the escrow in the state directory, with the key that lies there or, where keys is
// not nil, with those. Nothing is read or made yet; [Escrow.Check] does that.
func NewEscrow(stateDirectory string, keys *statekeys.Source, recovery []Recipient) *Escrow {
	state := filepath.Clean(stateDirectory)
	e := &Escrow{store: &escrowDirectory{state}, keys: &escrowKeyFile{state: state}, recipients: recipientsOf(recovery)}
	if keys != nil {
		e.keys = sharedKeys{keys}
	}
	return e
}

// NewSharedEscrow returns the escrow in a database, with the keys that all who use it share. Nothing is
// read or made yet; [Escrow.Check] does that.
func NewSharedEscrow(db *postgres.DB, keys *statekeys.Source, recovery []Recipient) *Escrow {
	return &Escrow{store: newEscrowTable(db), keys: sharedKeys{keys}, recipients: recipientsOf(recovery)}
}

func recipientsOf(recovery []Recipient) []age.Recipient {
	recipients := make([]age.Recipient, 0, len(recovery))
	for _, r := range recovery {
		recipients = append(recipients, r.key)
	}
	return recipients
}

// Check finds out, before a vendor is called, whether a secret can be put in escrow and read back:
// it reads the server's keys or makes one, encrypts and decrypts, and writes and removes something. Where
// others who share the escrow encrypt to a key that this server lacks, the error is [ErrForeignKey].
func (e *Escrow) Check(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return escrowError(err)
	}
	identities, err := e.keys.check(ctx)
	if err != nil {
		return escrowError(err)
	}
	probe, err := e.encrypt(identities[0], []byte("{}"))
	if err == nil {
		_, err = decrypt(identities[:1], probe)
	}
	if err != nil {
		return escrowError(err)
	}
	inUse, err := e.store.probe(ctx)
	if err != nil {
		return escrowError(err)
	}
	return escrowError(e.hasKey(ctx, identities, inUse))
}

// ErrForeignKey says that servers of one database have no key in common.
var ErrForeignKey = errors.New("state.keys lacks the key that other servers of this database encrypt to, so neither could read what the other puts in escrow; " +
	"give all of them the same; if that key is lost, tokenreeve state adopt-keys makes those of this configuration count")

// Join tells all who share the escrow that this server encrypts to its present key from now on. It
// refuses, with [ErrForeignKey], where it lacks the one that they encrypt to. isNew says that they
// encrypt to another, which this server has as well.
func (e *Escrow) Join(ctx context.Context) (isNew bool, err error) {
	identities, err := e.keys.check(ctx)
	if err != nil {
		return false, escrowError(err)
	}
	var refused error
	before, err := e.store.announce(ctx, fingerprint(identities[0]), func(before string) bool {
		refused = e.hasKey(ctx, identities, before)
		return refused == nil
	})
	if err = errors.Join(err, refused); err != nil {
		return false, escrowError(err)
	}
	return before != "" && before != fingerprint(identities[0]), nil
}

// Adopt is Join where the key that others encrypt to is lost: they are refused then.
func (e *Escrow) Adopt(ctx context.Context) error {
	identities, err := e.keys.check(ctx)
	if err == nil {
		_, err = e.store.announce(ctx, fingerprint(identities[0]), func(string) bool { return true })
	}
	return escrowError(err)
}

// hasKey reads the server's keys anew where the one in use is not among them.
func (e *Escrow) hasKey(ctx context.Context, identities []*age.X25519Identity, inUse string) error {
	isInUse := func(identity *age.X25519Identity) bool { return fingerprint(identity) == inUse }
	if inUse == "" || slices.ContainsFunc(identities, isInUse) {
		return nil
	}
	identities, err := e.keys.renewed(ctx)
	if err != nil || !slices.ContainsFunc(identities, isInUse) {
		return ErrForeignKey
	}
	return nil
}

// fingerprint tells keys apart. It is not the public key, with which whoever can write to the database
// could put a secret of their own in escrow.
func fingerprint(identity *age.X25519Identity) string {
	sum := sha256.Sum256([]byte("tokenreeve state key v1 " + identity.Recipient().String()))
	return hex.EncodeToString(sum[:16])
}

// Put encrypts s and keeps it, for good when Put returns. What is in escrow already is never
// overwritten: fs.ErrExist. Put does not stop when ctx ends, since what was minted must be kept.
func (e *Escrow) Put(ctx context.Context, operationID string, s secret.Secret, meta Meta) error {
	ctx = context.WithoutCancel(ctx)
	if err := checkOperationID(operationID); err != nil {
		return escrowError(err)
	}
	if s.IsZero() {
		return escrowError(errors.New("the secret is empty; there is nothing to keep"))
	}
	identities, err := e.keys.known(ctx)
	if err != nil {
		return escrowError(err)
	}
	plain, err := json.Marshal(seal(operationID, s, meta)) //nolint:gosec // what is encrypted next
	if err != nil {
		return escrowError(errors.New("the secret's record cannot be encoded")) // not wrapped: the cause could quote it
	}
	data, err := e.encrypt(identities[0], plain)
	if err != nil {
		return escrowError(err)
	}
	if len(data) > maxEscrowed {
		return escrowError(fmt.Errorf("the secret has more than %d KiB when encrypted", maxEscrowed>>10))
	}
	return escrowError(e.store.writeNew(ctx, operationID, data, fingerprint(identities[0])))
}

// Get returns the secret of an operation. A missing one is fs.ErrNotExist.
func (e *Escrow) Get(ctx context.Context, operationID string) (secret.Secret, Meta, error) {
	data, err := e.read(ctx, operationID)
	if err != nil {
		return secret.Secret{}, Meta{}, escrowError(err)
	}
	s, meta, err := (&opener{escrow: e}).open(ctx, operationID, data)
	return s, meta, escrowError(err)
}

// Export returns the encrypted file of an operation, as age reads it. A missing one is fs.ErrNotExist.
func (e *Escrow) Export(ctx context.Context, operationID string) ([]byte, error) {
	data, err := e.read(ctx, operationID)
	return data, escrowError(err)
}

// read reads what was put in escrow under an operation's id, and under no other name.
func (e *Escrow) read(ctx context.Context, operationID string) ([]byte, error) {
	if err := errors.Join(ctx.Err(), checkOperationID(operationID)); err != nil {
		return nil, err
	}
	return e.store.read(ctx, operationID)
}

// Delete removes the secret of an operation, for good when Delete returns. A missing one is no error.
func (e *Escrow) Delete(ctx context.Context, operationID string) error {
	if err := errors.Join(ctx.Err(), checkOperationID(operationID)); err != nil {
		return escrowError(err)
	}
	return escrowError(e.store.remove(ctx, operationID))
}

// List describes what is in escrow, by operation id. What cannot be read is listed as well, with its
// Problem. List makes nothing.
func (e *Escrow) List(ctx context.Context) ([]Entry, error) {
	listed, err := e.store.list(ctx)
	if err != nil {
		return nil, escrowError(err)
	}
	opener := opener{escrow: e}
	entries := make([]Entry, 0, len(listed))
	for _, entry := range listed {
		if err := ctx.Err(); err != nil {
			return nil, escrowError(err)
		}
		data, err := e.read(ctx, entry.OperationID) // the store lists whatever is there, by any name
		if errors.Is(err, fs.ErrNotExist) {         // delivered meanwhile
			continue
		}
		entry.Problem = err
		if err == nil {
			_, entry.Meta, entry.Problem = opener.open(ctx, entry.OperationID, data)
		}
		entries = append(entries, entry)
	}
	return entries, nil
}

// Expire removes what is expendable, and returns the operations. A secret that no sink holds is
// not expendable at any age: only the ledger knows.
func (e *Escrow) Expire(ctx context.Context, expendable func(operationID string) bool) ([]string, error) {
	entries, err := e.store.list(ctx)
	if err != nil {
		return nil, escrowError(err)
	}
	var removed []string
	for _, entry := range entries {
		if !expendable(entry.OperationID) {
			continue
		}
		if err := e.Delete(ctx, entry.OperationID); err != nil {
			return removed, err
		}
		removed = append(removed, entry.OperationID)
	}
	return removed, nil
}

func (e *Escrow) encrypt(identity *age.X25519Identity, plain []byte) ([]byte, error) {
	var out bytes.Buffer
	w, err := age.Encrypt(&out, slices.Concat([]age.Recipient{identity.Recipient()}, e.recipients)...)
	if err != nil {
		return nil, fmt.Errorf("cannot encrypt: %w", err)
	}
	if _, err := w.Write(plain); err != nil {
		return nil, fmt.Errorf("cannot encrypt: %w", err)
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("cannot encrypt: %w", err)
	}
	return out.Bytes(), nil
}

// opener reads what is in escrow. It reads the keys once, and once anew where they do not fit.
type opener struct {
	escrow     *Escrow
	identities []*age.X25519Identity
	renewed    bool
}

func (o *opener) open(ctx context.Context, operationID string, data []byte) (secret.Secret, Meta, error) {
	plain, err := o.decrypt(ctx, data)
	if err != nil {
		return secret.Secret{}, Meta{}, fmt.Errorf("%w; a holder of a recovery key reads it with age -d -i KEYFILE %s", err, o.escrow.store.file(operationID))
	}
	var content sealed
	if err := json.Unmarshal(plain, &content); err != nil || content.OperationID != operationID {
		return secret.Secret{}, Meta{}, fmt.Errorf("the file of operation %s holds another operation's secret, or none", operationID)
	}
	if len(content.Bytes) > 0 {
		return secret.New(string(content.Bytes)), content.Meta, nil
	}
	return secret.New(content.Secret), content.Meta, nil
}

func (o *opener) decrypt(ctx context.Context, data []byte) ([]byte, error) {
	if o.identities == nil {
		identities, err := o.escrow.keys.current(ctx)
		if err != nil {
			return nil, err
		}
		o.identities = identities
	}
	plain, err := decrypt(o.identities, data)
	if !errors.Is(err, errOtherKey) || o.renewed {
		return plain, err
	}
	o.renewed = true
	identities, unread := o.escrow.keys.renewed(ctx)
	if unread != nil {
		return nil, err
	}
	o.identities = identities
	return decrypt(identities, data)
}

// errOtherKey says that what is encrypted is not for the server's keys.
var errOtherKey = errors.New("encrypted to another key than the server has")

func decrypt(identities []*age.X25519Identity, data []byte) ([]byte, error) {
	all := make([]age.Identity, 0, len(identities))
	for _, identity := range identities {
		all = append(all, identity)
	}
	r, err := age.Decrypt(bytes.NewReader(data), all...)
	if mismatch := (*age.NoIdentityMatchError)(nil); errors.As(err, &mismatch) {
		return nil, errOtherKey
	}
	if err != nil {
		return nil, errors.New("the encrypted file is damaged")
	}
	plain, err := io.ReadAll(r)
	if err != nil {
		return nil, errors.New("the encrypted file is damaged")
	}
	return plain, nil
}

func seal(operationID string, s secret.Secret, meta Meta) sealed {
	content := sealed{OperationID: operationID, Meta: meta}
	if value := s.Expose(); utf8.ValidString(value) {
		content.Secret = value
	} else {
		content.Bytes = []byte(value)
	}
	return content
}

func checkOperationID(id string) error {
	valid := id != "" && len(id) <= maxOperationID && id[0] != '-'
	for _, r := range id {
		valid = valid && isWord(r) || valid && r == '-'
	}
	if !valid {
		return errors.New("not an operation's id: it has letters, digits, - and _ only")
	}
	return nil
}

func escrowError(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("escrow: %w", err)
}
