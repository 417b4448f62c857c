package privatefile

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// lockRetry is the time between two attempts to get a lock that another process holds.
const lockRetry = 5 * time.Millisecond

// Replace writes data to the file name, in place of what name was before: readers see all of the one
// or all of the other. The data is on disk when Replace returns. The new file has the mode 0600; a
// link is replaced, not followed.
func (d *Dir) Replace(name string, data []byte) error {
	if err := checkName(name); err != nil {
		return err
	}
	temp, err := d.stage(data)
	if err != nil {
		return err
	}
	if err := d.root.Rename(temp, name); err != nil {
		return errors.Join(fmt.Errorf("cannot replace a file in %s: %w", d.path, err), d.root.Remove(temp))
	}
	return d.sync()
}

// Remove removes the file name, for good when Remove returns. A missing one is fs.ErrNotExist.
func (d *Dir) Remove(name string) error {
	if err := checkName(name); err != nil {
		return err
	}
	if err := d.root.Remove(name); err != nil {
		return err
	}
	return d.sync()
}

// Sync puts the entries of d on disk. It is for what another process made: its writer may not have
// come to that yet.
func (d *Dir) Sync() error { return d.sync() }

// Lock keeps all other holders of a lock on d out, in this process and in others, until the returned
// function is called or the process ends. It leaves nothing behind. Where the system has no such
// locks, Windows above all, Lock does nothing.
func (d *Dir) Lock(ctx context.Context) (unlock func(), err error) {
	f, err := d.root.Open(".")
	if err != nil {
		return nil, err
	}
	for {
		held, err := tryLock(f)
		if held && err == nil {
			return func() { _ = f.Close() }, nil
		}
		if err == nil {
			err = pause(ctx, lockRetry)
		}
		if err != nil {
			return nil, errors.Join(fmt.Errorf("cannot lock the directory %s: %w", d.path, err), f.Close())
		}
	}
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
