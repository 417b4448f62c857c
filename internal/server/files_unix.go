//go:build unix

package server

import (
	"math"
	"syscall"
)

// openFiles returns how many files this process may have open; 0: nobody knows.
func openFiles() int {
	var limit syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit) != nil {
		return 0
	}
	return int(min(uint64(limit.Cur), math.MaxInt32)) //nolint:unconvert // it has another type elsewhere
}
