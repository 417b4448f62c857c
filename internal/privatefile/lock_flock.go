//go:build darwin || dragonfly || freebsd || illumos || linux || netbsd || openbsd

package privatefile

import (
	"errors"
	"os"
	"syscall"
)

// tryLock reports whether f is locked now. The lock ends when f is closed.
func tryLock(f *os.File) (bool, error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return false, err
	}
	var fault error
	err = raw.Control(func(fd uintptr) {
		fault = syscall.Flock(int(fd), syscall.LOCK_EX|syscall.LOCK_NB)
	})
	if errors.Is(fault, syscall.EWOULDBLOCK) || errors.Is(fault, syscall.EINTR) {
		return false, err
	}
	return fault == nil, errors.Join(err, fault)
}
