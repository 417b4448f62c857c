package sink

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/tokenreeve/tokenreeve/internal/privatefile"
	"github.com/tokenreeve/tokenreeve/internal/secret"
)

const (
	versionMark = ".v"
	// maxVersion keeps a file's name within what every file system takes.
	maxVersion = 999_999_999
)

var (
	_ Sink   = (*File)(nil)
	_ Holder = (*File)(nil)
)

// File is a sink that keeps each secret in a file of its own below one directory.
//
// The key ci/launchdarkly is the file launchdarkly in the directory ci. A token's next secret under the
// same key does not touch the first: it makes launchdarkly.v2, a third launchdarkly.v3. The number is one
// above the highest that exists, so that the newest secret always has the highest number, even after
// old files were removed; a name that is taken is passed over. For the same reason no
// segment of a key may end in ".v" and a number.
//
// Directories have mode 0700 and files 0600. A file holds exactly the secret, no line break. It is
// written to a temporary file, put on disk and then given its name by a hard link, which never
// overwrites. No symbolic link is followed, from the configured directory itself down. A File is
// safe for concurrent use, also by several processes.
type File struct {
	door
	directory string
}

// NewFile returns the file sink called name that keeps its files below directory, an absolute path.
// Nothing is read or made yet; [File.Check] does that.
func NewFile(name, directory string, accept Accept) (*File, error) {
	d, err := newDoor(name, accept)
	if err != nil {
		return nil, err
	}
	directory, err = absolute(directory)
	if err != nil {
		return nil, d.wrap(err)
	}
	return &File{d, directory}, nil
}

func absolute(directory string) (string, error) {
	if !filepath.IsAbs(directory) {
		return "", errors.New("the directory must be an absolute path, for example /var/lib/tokenreeve/secrets")
	}
	return filepath.Clean(directory), nil
}

// Check finds out whether Deliver can write key, by really writing and removing a file where the
// secret would be. It makes the directories that are missing.
func (f *File) Check(ctx context.Context, key Key, o Options) error {
	dir, base, err := f.ensure(ctx, key, o)
	if err != nil {
		return f.wrap(err)
	}
	defer dir.Close()
	version, err := next(dir, base)
	if err != nil {
		return f.wrap(err)
	}
	if version > 1 && !o.Successor {
		return f.wrap(keyExists(key))
	}
	return f.wrap(dir.Probe())
}

// Deliver writes s to a new file, on disk when Deliver returns. On an error no file stays behind.
func (f *File) Deliver(ctx context.Context, key Key, s secret.Secret, o Options) (Delivery, error) {
	if err := checkSecret(s); err != nil {
		return Delivery{}, f.wrap(err)
	}
	dir, base, err := f.ensure(ctx, key, o)
	if err != nil {
		return Delivery{}, f.wrap(err)
	}
	defer dir.Close()
	version, err := write(dir, key, base, s, o)
	if err != nil {
		return Delivery{}, f.wrap(err)
	}
	path := filepath.Join(dir.Path(), fileName(base, version))
	return Delivery{Sink: f.name, Key: key.String(), Version: version, Path: path}, nil
}

// write gives s a version of its own, and returns its number.
func write(dir *privatefile.Dir, key Key, base string, s secret.Secret, o Options) (int, error) {
	first, err := next(dir, base)
	if err != nil {
		return 0, err
	}
	if first > 1 {
		version, err := holding(dir, key, base, first-1, s)
		if err == nil || !o.Successor {
			return version, err
		}
	}
	last := maxVersion
	if !o.Successor {
		last = 1
	}
	naming := func(version int) string { return fileName(base, version) }
	version, err := dir.WriteVersion(first, naming, last, []byte(s.Expose()))
	if errors.Is(err, fs.ErrExist) && !o.Successor {
		return holding(dir, key, base, first, s)
	}
	return version, err
}

// holding returns version where its file holds s already: a delivery that was repeated.
func holding(dir *privatefile.Dir, key Key, base string, version int, s secret.Secret) (int, error) {
	content, err := dir.Read(fileName(base, version), MaxSecret)
	if err == nil && secret.New(string(content)).Equal(s) {
		return version, nil
	}
	return 0, keyExists(key)
}

// Holds reports whether the file of delivery has the SHA-256 digest. The file is found by key and
// version; the delivery's path is not trusted. A missing file is false; one that is a link, or that
// others can open, is an error.
func (f *File) Holds(ctx context.Context, delivery Delivery, digest [sha256.Size]byte) (bool, error) {
	if err := ctx.Err(); err != nil {
		return false, f.wrap(err)
	}
	if err := f.owns(delivery); err != nil {
		return false, f.wrap(err)
	}
	if delivery.Version < 1 || delivery.Version > maxVersion {
		return false, f.wrap(errors.New("the delivery is not one of this sink: it has no version"))
	}
	key, err := ParseKey(delivery.Key)
	if err != nil {
		return false, f.wrap(err)
	}
	content, err := f.read(key, delivery.Version)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, privatefile.ErrTooLarge) {
		return false, nil
	}
	if err != nil {
		return false, f.wrap(err)
	}
	held := sha256.Sum256(content)
	return subtle.ConstantTimeCompare(held[:], digest[:]) == 1, nil
}

// ensure opens the directory for key, makes it where it is missing, and returns the file's base name.
func (f *File) ensure(ctx context.Context, key Key, o Options) (*privatefile.Dir, string, error) {
	if err := errors.Join(ctx.Err(), f.admit(key, o)); err != nil {
		return nil, "", err
	}
	if err := checkFileKey(key); err != nil {
		return nil, "", err
	}
	return ensure(f.directory, key.Segments())
}

func (f *File) read(key Key, version int) ([]byte, error) {
	dir, base, err := walk(f.directory, key.Segments(), (*privatefile.Dir).Sub)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	return dir.Read(fileName(base, version), MaxSecret)
}

// ensure opens the directory that the last of segments lies in, makes it where it is missing, and
// returns that last segment.
func ensure(directory string, segments []string) (*privatefile.Dir, string, error) {
	if err := privatefile.EnsureDir(directory); err != nil {
		return nil, "", err
	}
	return walk(directory, segments, (*privatefile.Dir).EnsureSub)
}

// walk opens the directory that the last of segments lies in, one segment at a time: each is checked
// before it is entered.
func walk(directory string, segments []string, enter func(*privatefile.Dir, string) (*privatefile.Dir, error)) (*privatefile.Dir, string, error) {
	dir, err := privatefile.OpenDir(directory)
	if err != nil {
		return nil, "", err
	}
	last := len(segments) - 1
	for _, segment := range segments[:last] {
		sub, err := enter(dir, segment)
		if err := errors.Join(err, dir.Close()); err != nil {
			return nil, "", err
		}
		dir = sub
	}
	return dir, segments[last], nil
}

// checkFileKey refuses a key whose file or directory would look like the version of another key.
func checkFileKey(key Key) error {
	for _, segment := range key.Segments() {
		i := strings.LastIndex(segment, versionMark)
		if i >= 0 && isNumber(segment[i+len(versionMark):]) {
			return fmt.Errorf("a segment of the key ends in %q, which is how the versions of a key are named here; choose another ending, for example -v2 instead of .v2", segment[i:])
		}
	}
	return nil
}

// next returns the version that a delivery to base would be. It is an error when base is something
// else than a file.
func next(dir *privatefile.Dir, base string) (int, error) {
	info, err := dir.Lstat(base)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, err
	}
	if err == nil && !info.Mode().IsRegular() {
		return 0, fmt.Errorf("%s is there already and is not a regular file (%s); choose another key", filepath.Join(dir.Path(), base), kind(info.Mode()))
	}
	highest := 0
	if err == nil {
		highest = 1
	}
	names, err := dir.Names()
	if err != nil {
		return 0, err
	}
	for _, name := range names {
		highest = max(highest, versionOf(name, base))
	}
	if highest >= maxVersion {
		return 0, fmt.Errorf("the key has version %d already, the last; choose another key", highest)
	}
	return highest + 1, nil
}

func kind(mode fs.FileMode) string {
	switch {
	case mode.IsDir():
		return "a directory"
	case mode&fs.ModeSymlink != 0:
		return "a symbolic link"
	}
	return "a special file"
}

// versionOf returns which version of base the file name is, from 2, and 0 when it is none.
func versionOf(name, base string) int {
	number, found := strings.CutPrefix(name, base+versionMark)
	if !found || !isNumber(number) || number[0] == '0' {
		return 0
	}
	version, err := strconv.Atoi(number)
	if err != nil || version < 2 || version > maxVersion {
		return 0
	}
	return version
}

func fileName(base string, version int) string {
	if version == 1 {
		return base
	}
	return base + versionMark + strconv.Itoa(version)
}

func isNumber(s string) bool {
	return s != "" && strings.Trim(s, "0123456789") == ""
}
