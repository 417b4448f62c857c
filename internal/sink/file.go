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
// The key ci/launchdarkly is the file launchdarkly in the directory ci. A second delivery to the same
// key does not touch the first: it makes launchdarkly.v2, a third launchdarkly.v3. The number is one
// above the highest that exists, so that the newest secret always has the highest number, even after
// old files were removed; a name that is taken is passed over. For the same reason no
// segment of a key may end in ".v" and a number.
//
// Directories have mode 0700 and files 0600. A file holds exactly the secret, no line break. It is
// written to a temporary file, put on disk and then given its name by a hard link, which never
// overwrites. No symbolic link is followed, from the configured directory itself down. A File is
// safe for concurrent use, also by several processes.
type File struct {
	name      string
	directory string
}

// NewFile returns the file sink called name that keeps its files below directory, an absolute path.
// Nothing is read or made yet; [File.Check] does that.
func NewFile(name, directory string) (*File, error) {
	if err := checkSinkName(name); err != nil {
		return nil, err
	}
	if !filepath.IsAbs(directory) {
		return nil, fmt.Errorf("sink %s: the directory must be an absolute path, for example /var/lib/tokenreeve/secrets", name)
	}
	return &File{name: name, directory: filepath.Clean(directory)}, nil
}

// Check finds out whether Deliver can write key, by really writing and removing a file where the
// secret would be. It makes the directories that are missing.
func (f *File) Check(ctx context.Context, key Key) error {
	dir, base, err := f.ensure(ctx, key)
	if err != nil {
		return f.wrap(err)
	}
	defer dir.Close()
	if _, err := next(dir, base); err != nil {
		return f.wrap(err)
	}
	return f.wrap(dir.Probe())
}

// Deliver writes s to a new file, on disk when Deliver returns. On an error no file stays behind.
func (f *File) Deliver(ctx context.Context, key Key, s secret.Secret) (Delivery, error) {
	content := []byte(s.Expose())
	if len(content) == 0 {
		return Delivery{}, f.wrap(errors.New("the secret is empty; there is nothing to deliver"))
	}
	if len(content) > MaxSecret {
		return Delivery{}, f.wrap(fmt.Errorf("the secret has %d bytes; at most %d can be delivered", len(content), MaxSecret))
	}
	dir, base, err := f.ensure(ctx, key)
	if err != nil {
		return Delivery{}, f.wrap(err)
	}
	defer dir.Close()
	first, err := next(dir, base)
	if err != nil {
		return Delivery{}, f.wrap(err)
	}
	naming := func(version int) string { return fileName(base, version) }
	version, err := dir.WriteVersion(first, naming, maxVersion, content)
	if err != nil {
		return Delivery{}, f.wrap(err)
	}
	path := filepath.Join(dir.Path(), naming(version))
	return Delivery{Sink: f.name, Key: key.String(), Version: version, Path: path}, nil
}

// Holds reports whether the file of delivery has the SHA-256 digest. The file is found by key and
// version; the delivery's path is not trusted. A missing file is false; one that is a link, or that
// others can open, is an error.
func (f *File) Holds(ctx context.Context, delivery Delivery, digest [sha256.Size]byte) (bool, error) {
	if err := ctx.Err(); err != nil {
		return false, f.wrap(err)
	}
	if delivery.Sink != f.name || delivery.Version < 1 || delivery.Version > maxVersion {
		return false, f.wrap(errors.New("the delivery is not one of this sink; look it up under the sink that made it"))
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

func (f *File) wrap(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("sink %s: %w", f.name, err)
}

// ensure opens the directory for key, makes it where it is missing, and returns the file's base name.
func (f *File) ensure(ctx context.Context, key Key) (*privatefile.Dir, string, error) {
	if err := ctx.Err(); err != nil {
		return nil, "", err
	}
	if err := checkFileKey(key); err != nil {
		return nil, "", err
	}
	if err := privatefile.EnsureDir(f.directory); err != nil {
		return nil, "", err
	}
	return f.walk(key, (*privatefile.Dir).EnsureSub)
}

func (f *File) read(key Key, version int) ([]byte, error) {
	dir, base, err := f.walk(key, (*privatefile.Dir).Sub)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	return dir.Read(fileName(base, version), MaxSecret)
}

// walk opens the directory for key one segment at a time: each is checked before it is entered.
func (f *File) walk(key Key, enter func(*privatefile.Dir, string) (*privatefile.Dir, error)) (*privatefile.Dir, string, error) {
	dir, err := privatefile.OpenDir(f.directory)
	if err != nil {
		return nil, "", err
	}
	segments := key.Segments()
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
	segments := key.Segments()
	if len(segments) == 0 {
		return keyError("it is empty")
	}
	for _, segment := range segments {
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
