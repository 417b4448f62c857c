package sink

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"filippo.io/age"

	"github.com/tokenreeve/tokenreeve/internal/privatefile"
	"github.com/tokenreeve/tokenreeve/internal/secret"
)

const (
	escrowDirectory = "escrow"
	escrowIdentity  = "escrow.key"

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

// Escrow keeps minted secrets on disk, encrypted, from the vendor's answer until a sink holds them.
//
// Each is a file of its own in the directory "escrow" of the state directory, named after its
// operation and encrypted with age to the server's key and to the recovery recipients. Nothing but
// the operation's id is in clear. The server's key is the file "escrow.key" beside that directory,
// made at the first use. An Escrow is safe for concurrent use, also by several processes.
type Escrow struct {
	state      string
	recipients []age.Recipient

	mu       sync.Mutex
	identity *age.X25519Identity
}

// NewEscrow returns the escrow in the state directory. Nothing is read or made yet; [Escrow.Check]
// does that.
func NewEscrow(stateDirectory string, recovery []Recipient) *Escrow {
	recipients := make([]age.Recipient, 0, len(recovery))
	for _, r := range recovery {
		recipients = append(recipients, r.key)
	}
	return &Escrow{state: filepath.Clean(stateDirectory), recipients: recipients}
}

// Check finds out, before a vendor is called, whether a secret can be put in escrow and read back:
// it reads the server's key or makes it, encrypts and decrypts, and writes and removes a file.
func (e *Escrow) Check(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return escrowError(err)
	}
	identity, err := e.load()
	if err != nil {
		return escrowError(err)
	}
	probe, err := e.encrypt(identity, []byte("{}"))
	if err == nil {
		_, err = decrypt(identity, probe)
	}
	if err != nil {
		return escrowError(err)
	}
	dir, err := e.ensure()
	if err != nil {
		return escrowError(err)
	}
	defer dir.Close()
	return escrowError(dir.Probe())
}

// Put encrypts s and puts it on disk, for good when Put returns. What is in escrow already is never
// overwritten: fs.ErrExist. Put does not stop when ctx ends, since what was minted must be kept.
func (e *Escrow) Put(_ context.Context, operationID string, s secret.Secret, meta Meta) error {
	if err := checkOperationID(operationID); err != nil {
		return escrowError(err)
	}
	if s.IsZero() {
		return escrowError(errors.New("the secret is empty; there is nothing to keep"))
	}
	identity, err := e.known()
	if err != nil {
		return escrowError(err)
	}
	plain, err := json.Marshal(seal(operationID, s, meta)) //nolint:gosec // what is encrypted next
	if err != nil {
		return escrowError(errors.New("the secret's record cannot be encoded")) // not wrapped: the cause could quote it
	}
	data, err := e.encrypt(identity, plain)
	if err != nil {
		return escrowError(err)
	}
	if len(data) > maxEscrowed {
		return escrowError(fmt.Errorf("the secret has more than %d KiB when encrypted", maxEscrowed>>10))
	}
	dir, err := e.ensure()
	if err != nil {
		return escrowError(err)
	}
	defer dir.Close()
	return escrowError(dir.WriteNew(operationID, data))
}

// Get returns the secret of an operation. A missing one is fs.ErrNotExist.
func (e *Escrow) Get(ctx context.Context, operationID string) (secret.Secret, Meta, error) {
	if err := errors.Join(ctx.Err(), checkOperationID(operationID)); err != nil {
		return secret.Secret{}, Meta{}, escrowError(err)
	}
	dir, err := privatefile.OpenDir(e.directory())
	if err != nil {
		return secret.Secret{}, Meta{}, escrowError(err)
	}
	defer dir.Close()
	s, meta, err := e.open(dir, operationID)
	return s, meta, escrowError(err)
}

// Delete removes the secret of an operation, for good when Delete returns. A missing one is no error.
func (e *Escrow) Delete(ctx context.Context, operationID string) error {
	if err := errors.Join(ctx.Err(), checkOperationID(operationID)); err != nil {
		return escrowError(err)
	}
	dir, err := privatefile.OpenDir(e.directory())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return escrowError(err)
	}
	defer dir.Close()
	if err := dir.Remove(operationID); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return escrowError(err)
	}
	return nil
}

// List describes what is in escrow, by operation id. What cannot be read is listed as well, with its
// Problem. List makes nothing.
func (e *Escrow) List(ctx context.Context) ([]Entry, error) {
	dir, err := privatefile.OpenDir(e.directory())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, escrowError(err)
	}
	defer dir.Close()
	names, err := dir.Names()
	if err != nil {
		return nil, escrowError(err)
	}
	slices.Sort(names)
	var entries []Entry
	for _, name := range names {
		if err := ctx.Err(); err != nil {
			return nil, escrowError(err)
		}
		if strings.HasPrefix(name, ".") { // being written, or left behind by a crash: encrypted as well
			continue
		}
		info, err := dir.Lstat(name)
		if errors.Is(err, fs.ErrNotExist) { // delivered meanwhile
			continue
		}
		entry := Entry{OperationID: name, Problem: err}
		if err == nil {
			entry.Written, entry.Size = info.ModTime(), info.Size()
			_, entry.Meta, entry.Problem = e.open(dir, name)
		}
		entries = append(entries, entry)
	}
	return entries, nil
}

// Expire removes what is expendable, and returns the operations. A secret that no sink holds is
// not expendable at any age: only the ledger knows.
func (e *Escrow) Expire(ctx context.Context, expendable func(operationID string) bool) ([]string, error) {
	entries, err := e.List(ctx)
	if err != nil {
		return nil, err
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

func (e *Escrow) directory() string { return filepath.Join(e.state, escrowDirectory) }

func (e *Escrow) ensure() (*privatefile.Dir, error) {
	if err := privatefile.EnsureDir(e.directory()); err != nil {
		return nil, err
	}
	return privatefile.OpenDir(e.directory())
}

// known returns the server's key. It is read once, so that a key file that cannot be read any more
// does not lose the secret that was minted meanwhile; Check reads it anew.
func (e *Escrow) known() (*age.X25519Identity, error) {
	e.mu.Lock()
	identity := e.identity
	e.mu.Unlock()
	if identity != nil {
		return identity, nil
	}
	return e.load()
}

// load reads the server's key from disk, and makes it when it is missing.
func (e *Escrow) load() (*age.X25519Identity, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := privatefile.EnsureDir(e.state); err != nil {
		return nil, err
	}
	dir, err := privatefile.OpenDir(e.state)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	identity, err := readIdentity(dir)
	if errors.Is(err, fs.ErrNotExist) {
		identity, err = makeIdentity(dir)
	}
	if err != nil {
		return nil, err
	}
	// The process that made the key may not have come to this yet, and the key must outlast what it
	// encrypts.
	if err := dir.Sync(); err != nil {
		return nil, err
	}
	e.identity = identity
	return identity, nil
}

func readIdentity(dir *privatefile.Dir) (*age.X25519Identity, error) {
	data, err := dir.Read(escrowIdentity, keyFileLimit)
	if err != nil {
		return nil, err
	}
	identity, err := age.ParseX25519Identity(strings.TrimSpace(string(data)))
	if err != nil { // not wrapped: the cause quotes the key
		return nil, fmt.Errorf("%s does not hold an age private key; restore it from a backup, or move it away to have a new one made", filepath.Join(dir.Path(), escrowIdentity))
	}
	return identity, nil
}

// keyFileLimit caps the key file, in bytes.
const keyFileLimit = 4 << 10

// makeIdentity makes the server's key. Of several processes at once, all get that of the first.
func makeIdentity(dir *privatefile.Dir) (*age.X25519Identity, error) {
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		return nil, errors.New("cannot make the escrow's key")
	}
	err = dir.WriteNew(escrowIdentity, []byte(identity.String()+"\n"))
	if errors.Is(err, fs.ErrExist) {
		return readIdentity(dir)
	}
	return identity, err
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

// open reads and decrypts the file of an operation. It never makes a key.
func (e *Escrow) open(dir *privatefile.Dir, operationID string) (secret.Secret, Meta, error) {
	if err := checkOperationID(operationID); err != nil {
		return secret.Secret{}, Meta{}, err
	}
	data, err := dir.Read(operationID, maxEscrowed)
	if err != nil {
		return secret.Secret{}, Meta{}, err
	}
	identity, err := e.current()
	if err != nil {
		return secret.Secret{}, Meta{}, fmt.Errorf("%w; %s", err, recoveryHint(dir, operationID))
	}
	plain, err := decrypt(identity, data)
	if err != nil {
		return secret.Secret{}, Meta{}, fmt.Errorf("%w; %s", err, recoveryHint(dir, operationID))
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

// current returns the server's key for reading: what stands on disk, so that a restored key file
// counts at once.
func (e *Escrow) current() (*age.X25519Identity, error) {
	dir, err := privatefile.OpenDir(e.state)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	return readIdentity(dir)
}

func decrypt(identity age.Identity, data []byte) ([]byte, error) {
	r, err := age.Decrypt(bytes.NewReader(data), identity)
	if mismatch := (*age.NoIdentityMatchError)(nil); errors.As(err, &mismatch) {
		return nil, errors.New("encrypted to another key than the server's present one")
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

func recoveryHint(dir *privatefile.Dir, operationID string) string {
	return fmt.Sprintf("a holder of a recovery key reads it with age -d -i KEYFILE %q", filepath.Join(dir.Path(), operationID))
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
