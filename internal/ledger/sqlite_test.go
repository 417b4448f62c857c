package ledger_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/tokenreeve/tokenreeve/internal/ledger"
)

func TestSQLite(t *testing.T) {
	t.Parallel()
	testLedger(t, func(t *testing.T) place { return at(file(t)) })
}

func TestOpenedAtNeed(t *testing.T) {
	t.Parallel()
	path := file(t)
	l := ledger.New(path, ledger.Options{})
	t.Cleanup(func() { must(t, l.Close()) })
	if ledger.Exists(path) || ledger.Exists(filepath.Dir(path)) {
		t.Fatal("New has made something")
	}
	wantEqual(t, peek(t, l, "yes").Verdict, ledger.NotACode)
	if ledger.Exists(filepath.Dir(path)) {
		t.Fatal("what is no code has made something")
	}
	ended(t, l, "t", ledger.Done)
	if !ledger.Exists(path) {
		t.Fatal("nothing was made")
	}
	if runtime.GOOS == "windows" {
		return
	}
	modes := map[string]fs.FileMode{filepath.Dir(path): 0o700, path: 0o600, path + "-wal": 0o600, path + "-shm": 0o600}
	for name, want := range modes {
		info, err := os.Lstat(name)
		must(t, err)
		if info.Mode().Perm() != want {
			t.Errorf("%s has mode %04o, want %04o", name, info.Mode().Perm(), want)
		}
	}
}

func TestDurable(t *testing.T) {
	t.Parallel()
	path := file(t)
	at(path)(t, ledger.Options{})
	var journal string
	must(t, raw(t, path).QueryRowContext(t.Context(), "PRAGMA journal_mode").Scan(&journal))
	wantEqual(t, journal, "wal")
}

func TestRefusedPlaces(t *testing.T) {
	t.Parallel()
	write := func(name, content string, mode fs.FileMode) func(t *testing.T, path string) {
		return func(t *testing.T, path string) {
			must(t, os.WriteFile(path+name, []byte(content), mode))
			must(t, os.Chmod(path+name, mode))
		}
	}
	link := func(name string) func(t *testing.T, path string) {
		return func(t *testing.T, path string) {
			must(t, os.WriteFile(path+".real", nil, 0o600))
			must(t, os.Symlink(path+".real", path+name))
		}
	}
	for name, test := range map[string]struct {
		make func(t *testing.T, path string)
		says []string
	}{
		"a link":                {link(""), []string{"link"}},
		"a link for a log":      {link("-wal"), []string{"link", "-wal"}},
		"a directory":           {func(t *testing.T, path string) { must(t, os.Mkdir(path, 0o700)) }, []string{"no regular file"}},
		"open to others":        {write("", "", 0o644), []string{"0644", "chmod 600"}},
		"log open to others":    {write("-wal", "", 0o640), []string{"0640", "-wal"}},
		"directory of others":   {func(t *testing.T, path string) { must(t, os.Chmod(filepath.Dir(path), 0o755)) }, []string{"0755", "chmod 700"}},
		"text":                  {write("", strings.Repeat("this is no database\n", 300), 0o600), []string{"no database", "backup"}},
		"another's database":    {func(t *testing.T, path string) { other(t, path, "CREATE TABLE x (y)") }, []string{"another program"}},
		"another's application": {func(t *testing.T, path string) { other(t, path, "PRAGMA application_id=7") }, []string{"another program"}},
		"a newer version": {
			func(t *testing.T, path string) {
				l, err := ledger.Open(t.Context(), path, ledger.Options{})
				must(t, err)
				must(t, l.Close())
				other(t, path, "PRAGMA user_version=99")
			}, []string{"newer version", "upgrade"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := file(t)
			must(t, os.Mkdir(filepath.Dir(path), 0o700))
			test.make(t, path)
			l := ledger.New(path, ledger.Options{})
			defer l.Close()
			_, err := l.Begin(t.Context(), "", intent("t"))
			wantErr(t, err, ledger.ErrUnavailable, test.says...)
			_, err = ledger.Open(t.Context(), path, ledger.Options{})
			wantErr(t, err, ledger.ErrUnavailable, test.says...)
			_, err = ledger.IsCurrent(t.Context(), path, ledger.Options{})
			wantErr(t, err, ledger.ErrUnavailable, test.says...)
		})
	}
}

func other(t *testing.T, path string, statements ...string) {
	t.Helper()
	execRaw(t, path, statements...)
	must(t, os.Chmod(path, 0o600))
}

func TestOpensAgainOnceMended(t *testing.T) {
	t.Parallel()
	path := file(t)
	must(t, os.MkdirAll(filepath.Dir(path), 0o700))
	must(t, os.Mkdir(path, 0o700))
	l := ledger.New(path, ledger.Options{})
	defer l.Close()
	wantErr(t, l.Open(t.Context()), ledger.ErrUnavailable)
	must(t, os.Remove(path))
	ended(t, l, "t", ledger.Done)
}

func TestReadOnlyFile(t *testing.T) {
	t.Parallel()
	if os.Geteuid() == 0 || runtime.GOOS == "windows" {
		t.Skip("this user may write everything")
	}
	path := file(t)
	l, err := ledger.Open(t.Context(), path, ledger.Options{})
	must(t, err)
	must(t, l.Close())
	must(t, os.Chmod(path, 0o400))
	l = ledger.New(path, ledger.Options{})
	defer l.Close()
	_, err = l.Begin(t.Context(), "", intent("t"))
	wantErr(t, err, ledger.ErrUnavailable, "may not be written", path)
}

func TestLocked(t *testing.T) {
	t.Parallel()
	path := file(t)
	hasty := at(path)(t, ledger.Options{Patience: time.Millisecond})
	patient := at(path)(t, ledger.Options{Patience: time.Minute})
	db := raw(t, path)
	_, err := db.ExecContext(t.Context(), "BEGIN IMMEDIATE")
	must(t, err)

	_, err = hasty.Begin(t.Context(), "", intent("t"))
	wantErr(t, err, ledger.ErrUnavailable, "locked", path)
	_, err = hasty.List(t.Context(), ledger.Query{}) // reading waits for nobody
	must(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	results := make(chan error)
	begin := func(ctx context.Context) {
		_, err := patient.Begin(ctx, "", intent("t"))
		results <- err
	}
	go begin(ctx)
	cancel()
	wantErr(t, <-results, context.Canceled)
	go begin(t.Context())
	_, err = db.ExecContext(t.Context(), "ROLLBACK")
	must(t, err)
	must(t, <-results)
}

// A byte that changes anywhere in the file, outside what the database does not use, is found.
func TestDamagedFile(t *testing.T) {
	t.Parallel()
	path := file(t)
	l, err := ledger.Open(t.Context(), path, ledger.Options{})
	must(t, err)
	for n := range 20 {
		ended(t, l, fmt.Sprint("t", n), ledger.Done)
	}
	must(t, l.Close())
	data, err := os.ReadFile(path)
	must(t, err)
	for _, page := range []int{1, 2, 3, 5, 8} {
		damaged := append([]byte(nil), data...)
		for i := range 200 {
			damaged[page*4096+i] ^= 0xff
		}
		must(t, os.WriteFile(path, damaged, 0o600))
		l, err := ledger.Open(t.Context(), path, ledger.Options{})
		if err != nil {
			wantErr(t, err, ledger.ErrUnavailable, "damaged")
			continue
		}
		report, err := l.Verify(t.Context(), "")
		if err == nil && report.OK() {
			t.Errorf("damage in page %d was not found", page)
		}
		if err != nil && !errors.Is(err, ledger.ErrUnavailable) {
			t.Error(err)
		}
		must(t, l.Close())
	}
}
