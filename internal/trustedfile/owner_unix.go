//go:build unix

package trustedfile

import (
	"os"
	"syscall"
)

// noWait keeps the opening of a named pipe from waiting for its writer.
const noWait = syscall.O_NONBLOCK

func ownedBySelfOrRoot(info os.FileInfo) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && (stat.Uid == 0 || int(stat.Uid) == os.Geteuid())
}

func writableByOthers(info os.FileInfo) bool { return info.Mode().Perm()&0o022 != 0 }
