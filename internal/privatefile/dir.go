package privatefile

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

const (
	// Names that begin with a dot cannot collide with what callers write; see checkName.
	tempPrefix = ".tokenreeve-"
	tempSuffix = ".tmp"

	// staleAfter is the age from which a temporary file is what a crash left behind.
	staleAfter = time.Hour

	// probeSize is what Probe writes, in bytes: enough to need a block on disk.
	probeSize = 4096
)

// ErrTooLarge says that a file is larger than its reader allows.
var ErrTooLarge = errors.New("the file is too large")

// Dir is an open private directory. It stays the one that was checked, even if something else takes
// its place. Names are single components that do not begin with a dot. It is safe for concurrent use.
type Dir struct {
	root *os.Root
	path string
}

// OpenDir opens the existing directory at path, under the demands of [EnsureDir]. A missing one is
// fs.ErrNotExist.
func OpenDir(path string) (*Dir, error) {
	path = filepath.Clean(path)
	info, err := os.Lstat(path)
	if err != nil {
		return nil, err
	}
	if err := checkDir(info, path); err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, err
	}
	return pin(root, info, path)
}

// Close releases the directory.
func (d *Dir) Close() error { return d.root.Close() }

// Path returns the path of the directory as it was opened.
func (d *Dir) Path() string { return d.path }

// Sub opens the directory name in d, under the demands of [EnsureDir]. A missing one is
// fs.ErrNotExist.
func (d *Dir) Sub(name string) (*Dir, error) {
	info, err := d.Lstat(name)
	if err != nil {
		return nil, err
	}
	path := filepath.Join(d.path, name)
	if err := checkDir(info, path); err != nil {
		return nil, err
	}
	root, err := d.root.OpenRoot(name)
	if err != nil {
		return nil, err
	}
	return pin(root, info, path)
}

// EnsureSub opens the directory name in d, and makes it with mode 0700 when it is missing.
func (d *Dir) EnsureSub(name string) (*Dir, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	err := d.root.Mkdir(name, dirMode)
	if err == nil {
		err = d.sync()
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("cannot make a directory in %s: %w", d.path, err)
	}
	return d.Sub(name)
}

// Lstat describes the entry name without following a link.
func (d *Dir) Lstat(name string) (fs.FileInfo, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	return d.root.Lstat(name)
}

// Names returns the names in d in no particular order.
func (d *Dir) Names() ([]string, error) {
	f, err := d.root.Open(".")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return f.Readdirnames(-1)
}

// Read returns the content of the file name as [Read] does.
func (d *Dir) Read(name string, limit int64) ([]byte, error) {
	info, err := d.Lstat(name)
	if err != nil {
		return nil, err
	}
	path := filepath.Join(d.path, name)
	if err := checkFile(info, path); err != nil {
		return nil, err
	}
	f, err := d.root.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	opened, err := f.Stat()
	if err != nil {
		return nil, err
	}
	// A root follows links inside itself: what was opened must be what was checked.
	if !os.SameFile(info, opened) {
		return nil, fmt.Errorf("%s changed while it was opened; try again", path)
	}
	return readAll(f, path, limit)
}

// WriteNew writes data to the new file name as [WriteNew] does.
func (d *Dir) WriteNew(name string, data []byte) error {
	_, err := d.WriteVersion(1, func(int) string { return name }, 1, data)
	return err
}

// WriteVersion writes data as [WriteNew] does, under the first free of the names that naming gives
// for first, first+1 and so on to last, and returns its number. When none is free the error is
// fs.ErrExist. Writers at the same time get different numbers.
func (d *Dir) WriteVersion(first int, naming func(version int) string, last int, data []byte) (int, error) {
	if err := checkName(naming(first)); err != nil {
		return 0, err
	}
	temp, err := d.stage(data)
	if err != nil {
		return 0, err
	}
	return d.publish(temp, first, naming, last)
}

// publish gives a temporary file its name, as WriteVersion does.
func (d *Dir) publish(temp string, first int, naming func(version int) string, last int) (int, error) {
	version := first
	err := d.root.Link(temp, naming(version))
	for errors.Is(err, fs.ErrExist) && version < last {
		version++
		err = d.root.Link(temp, naming(version))
	}
	if err != nil {
		return 0, errors.Join(d.linkError(err), d.root.Remove(temp))
	}
	if err := errors.Join(d.root.Remove(temp), d.sync()); err != nil {
		// Not surely on disk, so it must not seem to be there.
		return 0, errors.Join(fmt.Errorf("cannot finish a file in %s: %w", d.path, err), d.root.Remove(naming(version)))
	}
	return version, nil
}

// Probe finds out whether a file can be written in d, by writing one and removing it again. It also
// removes the temporary files that a crash left behind more than an hour ago.
func (d *Dir) Probe() error {
	if err := d.sweep(); err != nil {
		return err
	}
	temp, err := d.stage(make([]byte, probeSize))
	if err != nil {
		return err
	}
	linked := tempName()
	if err := d.root.Link(temp, linked); err != nil {
		return errors.Join(d.linkError(err), d.root.Remove(temp))
	}
	return errors.Join(d.root.Remove(linked), d.root.Remove(temp), d.sync())
}

// stage writes data to a temporary file, puts it on disk and returns its name. On failure nothing
// stays behind.
func (d *Dir) stage(data []byte) (string, error) {
	return d.stageFrom(func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	})
}

func (d *Dir) stageFrom(write func(io.Writer) error) (string, error) {
	name := tempName()
	f, err := d.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, fileMode)
	if err != nil {
		return "", fmt.Errorf("cannot make a file in %s: %w", d.path, err)
	}
	if err := errors.Join(fill(f, write), f.Close()); err != nil {
		return "", errors.Join(fmt.Errorf("cannot write a file in %s: %w", d.path, err), d.root.Remove(name))
	}
	return name, nil
}

func fill(f *os.File, write func(io.Writer) error) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if loose(info) {
		return fmt.Errorf("its file system gives new files the mode %04o; choose one that keeps the mode 0600", info.Mode().Perm())
	}
	if err := write(f); err != nil {
		return err
	}
	return f.Sync()
}

// linkError explains why a file could not get its name. A hard link is what never overwrites: a
// rename would.
func (d *Dir) linkError(err error) error {
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("cannot write a file in %s: the name is taken: %w", d.path, err)
	}
	return fmt.Errorf("cannot name a file in %s (its file system must have hard links): %w", d.path, err)
}

func (d *Dir) sweep() error {
	names, err := d.Names()
	if err != nil {
		return err
	}
	for _, name := range names {
		if !strings.HasPrefix(name, tempPrefix) || !strings.HasSuffix(name, tempSuffix) {
			continue
		}
		info, err := d.root.Lstat(name)
		if err != nil || !info.Mode().IsRegular() || time.Since(info.ModTime()) < staleAfter {
			continue
		}
		if err := d.root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("cannot remove what a crash left in %s: %w", d.path, err)
		}
	}
	return nil
}

func (d *Dir) sync() error {
	f, err := d.root.Open(".")
	if err != nil {
		return err
	}
	return errors.Join(syncDir(f), f.Close())
}

// pin makes sure that root is the directory that info describes: opening follows links.
func pin(root *os.Root, info fs.FileInfo, path string) (*Dir, error) {
	opened, err := root.Stat(".")
	if err != nil {
		return nil, errors.Join(err, root.Close())
	}
	if !os.SameFile(info, opened) {
		return nil, errors.Join(fmt.Errorf("%s changed while it was opened; try again", path), root.Close())
	}
	return &Dir{root: root, path: path}, nil
}

func readAll(f *os.File, path string, limit int64) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("%w: %s holds more than %d bytes", ErrTooLarge, path, limit)
	}
	return data, nil
}

func tempName() string { return tempPrefix + rand.Text() + tempSuffix }

func checkName(name string) error {
	if name == "" || name[0] == '.' || !filepath.IsLocal(name) || strings.ContainsAny(name, `/\`) {
		return errors.New("not a name for a private file: it must be one path component that does not begin with a dot")
	}
	return nil
}
