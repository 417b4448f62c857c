// Package privatefile reads and writes files that hold secrets and keys: in directories that only
// their owner can open, never through a symbolic link, whole or not at all, and never over an
// existing file.
//
// On systems without Unix modes and owners, Windows above all, those two are not checked.
package privatefile

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

const (
	dirMode  fs.FileMode = 0o700
	fileMode fs.FileMode = 0o600

	// keyMin is the least size of a key in bytes.
	keyMin = 16
)

// EnsureDir makes sure that path is a private directory: made with mode 0700 when it is missing,
// with its parents; else a directory and no symbolic link, owned by the current user and closed to
// group and others. What exists is never changed; the error says what is wrong and what to run.
// Links above the last component are followed.
func EnsureDir(path string) error {
	if path == "" {
		return errors.New("the path of a private directory is empty; name a directory")
	}
	path = filepath.Clean(path)
	if err := makeDir(path); err != nil {
		return fmt.Errorf("cannot make the private directory %s: %w", path, err)
	}
	info, err := os.Lstat(path)
	if err != nil {
		return fmt.Errorf("cannot check the private directory %s: %w", path, err)
	}
	return checkDir(info, path)
}

// Read returns the content of the private file at path, of at most limit bytes. The file must be
// regular and no symbolic link, owned by the current user or root, and closed to group and others.
// A missing file is fs.ErrNotExist. Links above the last component are followed.
func Read(path string, limit int64) ([]byte, error) {
	d, err := openParent(path)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	return d.Read(filepath.Base(path), limit)
}

// WriteNew writes data to a new file at path with mode 0600. The file appears whole and on disk, or
// not at all; an existing one, whatever it is, is left as it was and the error is fs.ErrExist. The
// directory must exist; [EnsureDir] makes it.
func WriteNew(path string, data []byte) error {
	d, err := openParent(path)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.WriteNew(filepath.Base(path), data)
}

// WriteNewFrom writes what write gives to a new file at path, as [WriteNew] does. The content need not
// fit into memory. Where write fails, nothing stays behind.
func WriteNewFrom(path string, write func(io.Writer) error) error {
	d, err := openParent(path)
	if err != nil {
		return err
	}
	defer d.Close()
	name := filepath.Base(path)
	if _, err := d.Lstat(name); err == nil {
		return d.linkError(fs.ErrExist) // not only after all of it was written
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	temp, err := d.stageFrom(write)
	if err != nil {
		return err
	}
	_, err = d.publish(temp, 1, func(int) string { return name }, 1)
	return err
}

// ReadOrCreateKey returns the key of size bytes in the file at path, and makes it of random bytes
// when it is missing. Processes that start at once all get the same key. A file of another size is
// an error and is left as it was. The directory must exist; [EnsureDir] makes it.
func ReadOrCreateKey(path string, size int) ([]byte, error) {
	if size < keyMin {
		return nil, fmt.Errorf("a key of %d bytes is too short; use at least %d", size, keyMin)
	}
	key, err := readKey(path, size)
	if !errors.Is(err, fs.ErrNotExist) {
		return key, err
	}
	key = make([]byte, size)
	_, _ = rand.Read(key) // never fails: crypto/rand ends the program instead
	err = WriteNew(path, key)
	if errors.Is(err, fs.ErrExist) {
		return readKey(path, size)
	}
	if err != nil {
		return nil, err
	}
	return key, nil
}

func readKey(path string, size int) ([]byte, error) {
	key, err := Read(path, int64(size))
	if err == nil && len(key) == size {
		return key, nil
	}
	if err == nil || errors.Is(err, ErrTooLarge) {
		return nil, fmt.Errorf("the key file %s does not hold exactly %d bytes; restore it from a backup, or remove it to have a new key made", path, size)
	}
	return nil, err
}

// openParent opens the directory of path without demands on its mode: what protects the file is the
// file's own mode.
func openParent(path string) (*Dir, error) {
	dir := filepath.Dir(path)
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("cannot open the directory %s: %w", dir, err)
	}
	return &Dir{root: root, path: dir}, nil
}

// makeDir makes path and its missing parents. That path exists, as whatever, is no error.
func makeDir(path string) error {
	parent := filepath.Dir(path)
	err := os.Mkdir(path, dirMode)
	if errors.Is(err, fs.ErrNotExist) && parent != path {
		if err := makeDir(parent); err != nil {
			return err
		}
		err = os.Mkdir(path, dirMode)
	}
	if err == nil {
		return syncParent(parent)
	}
	if _, statErr := os.Lstat(path); statErr == nil {
		return nil
	}
	return err
}

// syncParent puts the new entry in parent on disk. A parent that we may write but not read cannot be
// synced, and need not stop us.
func syncParent(parent string) error {
	f, err := os.Open(parent)
	if errors.Is(err, fs.ErrPermission) {
		return nil
	}
	if err != nil {
		return err
	}
	return errors.Join(syncDir(f), f.Close())
}

func checkDir(info fs.FileInfo, path string) error {
	if info.Mode()&fs.ModeSymlink != 0 {
		return fmt.Errorf("%s is a symbolic link; name the directory itself", path)
	}
	if !info.IsDir() {
		return fmt.Errorf("%s is not a directory; remove it or choose another path", path)
	}
	if !ownedBySelf(info) {
		return fmt.Errorf("the directory %s belongs to another user; choose one that the user running this owns", path)
	}
	if loose(info) {
		return fmt.Errorf("the directory %s has mode %04o and must have 0700: run chmod 700 %q", path, info.Mode().Perm(), path)
	}
	return nil
}

func checkFile(info fs.FileInfo, path string) error {
	if info.Mode()&fs.ModeSymlink != 0 {
		return fmt.Errorf("%s is a symbolic link; name the file itself", path)
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is not a regular file; choose another path", path)
	}
	if !ownedBySelf(info) && !ownedByRoot(info) {
		return fmt.Errorf("the file %s belongs to another user; it must be owned by the user running this, or by root", path)
	}
	if loose(info) {
		return fmt.Errorf("the file %s has mode %04o and must have 0600: run chmod 600 %q", path, info.Mode().Perm(), path)
	}
	return nil
}
