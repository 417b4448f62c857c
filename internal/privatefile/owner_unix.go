//go:build unix

package privatefile

import (
	"errors"
	"io/fs"
	"os"
	"syscall"
)

func ownedBySelf(info fs.FileInfo) bool { return ownedBy(info, os.Geteuid()) }

func ownedByRoot(info fs.FileInfo) bool { return ownedBy(info, 0) }

func ownedBy(info fs.FileInfo, uid int) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(stat.Uid) == uid
}

// loose reports whether group or others have any access.
func loose(info fs.FileInfo) bool { return info.Mode().Perm()&0o077 != 0 }

// syncDir puts the entries of a directory on disk. Some file systems cannot, and say so.
func syncDir(dir *os.File) error {
	err := dir.Sync()
	if errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.ENOTSUP) {
		return nil
	}
	return err
}
