package sink

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"filippo.io/age"

	"github.com/tokenreeve/tokenreeve/internal/privatefile"
)

const (
	escrowFolder   = "escrow"
	escrowIdentity = "escrow.key"

	// keyFileLimit caps the key file, in bytes.
	keyFileLimit = 4 << 10
)

// escrowDirectory keeps a file for each operation in the directory "escrow" of the state directory.
type escrowDirectory struct{ state string }

func (d *escrowDirectory) path() string { return filepath.Join(d.state, escrowFolder) }

func (d *escrowDirectory) ensure() (*privatefile.Dir, error) {
	if err := privatefile.EnsureDir(d.path()); err != nil {
		return nil, err
	}
	return privatefile.OpenDir(d.path())
}

func (d *escrowDirectory) probe(context.Context) (key string, err error) {
	dir, err := d.ensure()
	if err != nil {
		return "", err
	}
	defer dir.Close()
	return "", dir.Probe()
}

func (d *escrowDirectory) announce(context.Context, string, func(string) bool) (before string, err error) {
	return "", nil
}

func (d *escrowDirectory) writeNew(_ context.Context, operationID string, data []byte, _ string) error {
	dir, err := d.ensure()
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.WriteNew(operationID, data)
}

func (d *escrowDirectory) read(_ context.Context, operationID string) ([]byte, error) {
	dir, err := privatefile.OpenDir(d.path())
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	return dir.Read(operationID, maxEscrowed)
}

func (d *escrowDirectory) remove(_ context.Context, operationID string) error {
	dir, err := privatefile.OpenDir(d.path())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer dir.Close()
	if err := dir.Remove(operationID); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func (d *escrowDirectory) list(context.Context) ([]Entry, error) {
	dir, err := privatefile.OpenDir(d.path())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	names, err := dir.Names()
	if err != nil {
		return nil, err
	}
	slices.Sort(names)
	var entries []Entry
	for _, name := range names {
		if strings.HasPrefix(name, ".") { // being written, or left behind by a crash: encrypted as well
			continue
		}
		info, err := dir.Lstat(name)
		if errors.Is(err, fs.ErrNotExist) { // delivered meanwhile
			continue
		}
		entry := Entry{OperationID: name}
		if err == nil { // else reading it fails as well, and says why
			entry.Written, entry.Size = info.ModTime(), info.Size()
		}
		entries = append(entries, entry)
	}
	return entries, nil
}

func (d *escrowDirectory) file(operationID string) string {
	return strconv.Quote(filepath.Join(d.path(), operationID))
}

// escrowKeyFile is the key of one machine's servers: the file "escrow.key" in the state directory, made
// at the first use.
type escrowKeyFile struct {
	state string

	mu       sync.Mutex
	identity *age.X25519Identity
}

func (k *escrowKeyFile) known(ctx context.Context) ([]*age.X25519Identity, error) {
	k.mu.Lock()
	identity := k.identity
	k.mu.Unlock()
	if identity != nil {
		return []*age.X25519Identity{identity}, nil
	}
	return k.check(ctx)
}

// check reads the key from disk, and makes it when it is missing.
func (k *escrowKeyFile) check(context.Context) ([]*age.X25519Identity, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := privatefile.EnsureDir(k.state); err != nil {
		return nil, err
	}
	dir, err := privatefile.OpenDir(k.state)
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
	k.identity = identity
	return []*age.X25519Identity{identity}, nil
}

// current is what stands on disk, so that a restored key file counts at once.
func (k *escrowKeyFile) current(context.Context) ([]*age.X25519Identity, error) {
	dir, err := privatefile.OpenDir(k.state)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	identity, err := readIdentity(dir)
	if err != nil {
		return nil, err
	}
	return []*age.X25519Identity{identity}, nil
}

func (k *escrowKeyFile) renewed(ctx context.Context) ([]*age.X25519Identity, error) {
	return k.current(ctx)
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
