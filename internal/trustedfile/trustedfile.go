// Package trustedfile reads files that decide what this program does: its configuration and the
// credentials that an operator mounted. Nobody but their owner may be able to change them.
//
// On systems without Unix modes and owners, Windows above all, owner and mode are not checked.
package trustedfile

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// Read returns the content of the file at path, of at most limit bytes. It must be a regular file
// of the user's or root's that neither group nor others can write. A missing file is fs.ErrNotExist.
//
// Links are followed, since mounted secrets and managed home directories are made of them. What is
// judged is the file that was opened, so that it cannot be exchanged in between. No error holds
// anything of the content.
func Read(path string, limit int64) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|noWait, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if err := check(info, path); err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("%s holds more than %d KiB", path, limit>>10)
	}
	return data, nil
}

func check(info os.FileInfo, path string) error {
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is not a regular file", path)
	}
	if !ownedBySelfOrRoot(info) {
		return fmt.Errorf("%s belongs to another user; it must be owned by the user running this, or by root", path)
	}
	if writableByOthers(info) {
		return fmt.Errorf("%s has mode %04o, so others can change it: run chmod go-w %q", path, info.Mode().Perm(), path)
	}
	return nil
}

// Absolute returns path with a leading ~ replaced by home. It is an error where the result is not
// absolute: what this program reads and writes must not depend on the directory it was started in.
func Absolute(path, home string) (string, error) {
	rest, tilde := strings.CutPrefix(path, "~")
	if tilde && (rest == "" || os.IsPathSeparator(rest[0])) {
		if home == "" {
			return "", errors.New("begins with ~, and no home directory is known; give an absolute path")
		}
		path = filepath.Join(home, rest)
	}
	if !filepath.IsAbs(path) {
		return "", errors.New("is not an absolute path; valid: a path from the root, or one that begins with ~/")
	}
	return path, nil
}
