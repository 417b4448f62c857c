//go:build unix

package ledger_test

import (
	"context"
	"errors"
	"fmt"
	"os/signal"
	"strings"
	"syscall"
	"testing"

	"github.com/tokenreeve/tokenreeve/internal/ledger"
)

// fillUp appends under a limit on the size of files until it fails, and then tries again with the
// limit lifted.
func fillUp(ctx context.Context, l *ledger.Ledger) error {
	signal.Ignore(syscall.SIGXFSZ)
	var before syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &before); err != nil {
		return err
	}
	small := before
	small.Cur = 256 << 10
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &small); err != nil {
		return err
	}
	var begun []*ledger.Lease
	for n := range 100 {
		o, err := l.Begin(ctx, "", intent(fmt.Sprint("first", n)))
		if err != nil {
			return err
		}
		begun = append(begun, o)
	}
	known := ""
	for n := range 10_000 {
		s, err := l.Begin(ctx, "", intent(fmt.Sprint("t", n)))
		if err == nil {
			known = s.ID()
			continue
		}
		if !errors.Is(err, ledger.ErrUnavailable) {
			return fmt.Errorf("not said to be unavailable: %w", err)
		}
		full := err
		if _, err := l.Get(ctx, known); err != nil {
			return fmt.Errorf("cannot be read: %w", err)
		}
		// An outcome is smaller than an intent: a few may still have room.
		err = nil
		for err == nil && len(begun) > 0 {
			if err = begun[0].Finish(ctx, ledger.Result{Outcome: ledger.Done}); err == nil {
				begun = begun[1:]
			}
		}
		if !errors.Is(err, ledger.ErrUnavailable) {
			return fmt.Errorf("an outcome that has no room: %w", err)
		}
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &before); err != nil {
			return err
		}
		if _, err := l.Begin(ctx, "", intent(fmt.Sprint("t", n))); err != nil {
			return fmt.Errorf("does not go on: %w", err)
		}
		if err := begun[0].Finish(ctx, ledger.Result{Outcome: ledger.Done}); err != nil {
			return fmt.Errorf("does not end what it had begun: %w", err)
		}
		return full
	}
	return nil
}

func TestNoRoom(t *testing.T) {
	t.Parallel()
	path := file(t)
	h := start(t, order{Do: "fill", Path: path})
	h.release()
	line := h.line()
	if !strings.Contains(line, "the ledger cannot be used: "+path+": the disk") {
		t.Errorf("a change that could not be recorded: %s", line)
	}
	wantIntact(t, at(path)(t, ledger.Options{}))
}
