package privatefile_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/tokenreeve/tokenreeve/internal/privatefile"
)

func TestReplace(t *testing.T) {
	t.Parallel()
	dir := private(t)
	d := open(t, dir)
	for _, content := range []string{"first", "second"} {
		if err := d.Replace("f", []byte(content)); err != nil {
			t.Fatal(err)
		}
		data, err := privatefile.Read(filepath.Join(dir, "f"), 100) // judges the mode as well
		if err != nil || string(data) != content {
			t.Errorf("got %q, %v, want %q", data, err, content)
		}
	}
	if got := names(t, dir); len(got) != 1 {
		t.Errorf("left behind: %v", got)
	}
	for _, name := range []string{"", ".f", "a/b", ".."} {
		if err := d.Replace(name, nil); err == nil {
			t.Errorf("%q must be refused", name)
		}
	}
}

func TestReplaceNeverFollowsALink(t *testing.T) {
	t.Parallel()
	dir := private(t)
	put(t, filepath.Join(dir, "real"), "as it was", 0o600)
	link(t, "real", filepath.Join(dir, "f"))
	if err := open(t, dir).Replace("f", []byte("new")); err != nil {
		t.Fatal(err)
	}
	if data, _ := os.ReadFile(filepath.Join(dir, "real")); string(data) != "as it was" {
		t.Errorf("the link was followed: %q", data)
	}
}

func TestReplaceFailsWhole(t *testing.T) {
	t.Parallel()
	dir := private(t)
	if err := os.Mkdir(filepath.Join(dir, "f"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := open(t, dir).Replace("f", []byte("content-canary")); err == nil || strings.Contains(err.Error(), "canary") {
		t.Errorf("got %v", err)
	}
	if got := names(t, dir); len(got) != 1 {
		t.Errorf("left behind: %v", got)
	}
}

func TestRemove(t *testing.T) {
	t.Parallel()
	dir := private(t)
	d := open(t, dir)
	put(t, filepath.Join(dir, "f"), "x", 0o600)
	if err := d.Remove("f"); err != nil {
		t.Fatal(err)
	}
	if err := d.Remove("f"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, want fs.ErrNotExist", err)
	}
	if err := d.Remove("../" + filepath.Base(dir)); err == nil {
		t.Error("a path must be refused")
	}
}

func TestLock(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("no locks on directories here")
	}
	dir := private(t)
	var (
		wg           sync.WaitGroup
		inside, done atomic.Int32
	)
	for range 8 {
		wg.Go(func() {
			d, err := privatefile.OpenDir(dir)
			if err != nil {
				t.Error(err)
				return
			}
			defer d.Close()
			unlock, err := d.Lock(context.Background())
			if err != nil {
				t.Error(err)
				return
			}
			defer unlock()
			if !inside.CompareAndSwap(0, 1) {
				t.Error("two holders at once")
			}
			done.Add(1)
			runtime.Gosched()
			inside.Store(0)
		})
	}
	wg.Wait()
	if done.Load() != 8 {
		t.Errorf("%d had their turn", done.Load())
	}
	if got := names(t, dir); len(got) != 0 {
		t.Errorf("left behind: %v", got)
	}
}

func TestLockGivesUp(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("no locks on directories here")
	}
	dir := private(t)
	unlock, err := open(t, dir).Lock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := open(t, dir).Lock(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
	unlock()
	free, err := open(t, dir).Lock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	free()
}
