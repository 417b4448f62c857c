package confirm_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/tokenreeve/tokenreeve/internal/confirm"
	"github.com/tokenreeve/tokenreeve/internal/postgres"
	"github.com/tokenreeve/tokenreeve/internal/postgres/postgrestest"
	"github.com/tokenreeve/tokenreeve/internal/secret"
)

const passphrase = "correct horse battery"

// stateDir is a state directory with the passphrase, or one that is still to be made.
func stateDir(t *testing.T, set bool) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "state")
	if set {
		setPassphrase(t, dir, passphrase)
	}
	return dir
}

func setPassphrase(t *testing.T, dir, text string) {
	t.Helper()
	if err := confirm.PassphraseIn(dir).Set(t.Context(), secret.New(text)); err != nil {
		t.Fatal(err)
	}
}

func isRight(t *testing.T, dir, text string) bool {
	t.Helper()
	right, err := confirm.PassphraseIn(dir).Check(t.Context(), secret.New(text))
	if err != nil {
		t.Fatal(err)
	}
	return right
}

func TestPassphrase(t *testing.T) {
	t.Parallel()
	dir := stateDir(t, true)
	if !isRight(t, dir, passphrase) {
		t.Error("the passphrase is not taken")
	}
	for _, other := range []string{"", passphrase + " ", strings.ToUpper(passphrase)} {
		if isRight(t, dir, other) {
			t.Errorf("%q is taken", other)
		}
	}
	if has, err := confirm.PassphraseIn(dir).IsSet(t.Context()); !has || err != nil {
		t.Errorf("IsSet = %v, %v", has, err)
	}
	first := file(t, dir)
	if strings.Contains(string(first), passphrase) {
		t.Error("the file holds the passphrase")
	}
	setPassphrase(t, dir, "a second passphrase")
	if isRight(t, dir, passphrase) || !isRight(t, dir, "a second passphrase") {
		t.Error("a new passphrase does not replace the old one")
	}
	setPassphrase(t, dir, passphrase)
	if bytes.Equal(first, file(t, dir)) {
		t.Error("the same passphrase has the same hash twice: there is no salt")
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("left behind: %v (%v)", left, err)
	}
}

func file(t *testing.T, dir string) []byte {
	t.Helper()
	path := filepath.Join(dir, "approval.json")
	info, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	if mode := info.Mode().Perm(); mode != 0o600 && runtime.GOOS != "windows" {
		t.Errorf("the file has mode %04o", mode)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestNoPassphrase(t *testing.T) {
	t.Parallel()
	for name, dir := range map[string]string{"no directory": stateDir(t, false), "no file": t.TempDir()} {
		if has, err := confirm.PassphraseIn(dir).IsSet(t.Context()); has || err != nil {
			t.Errorf("%s: IsSet = %v, %v", name, has, err)
		}
		if right, err := confirm.PassphraseIn(dir).Check(t.Context(), secret.New(passphrase)); right || !errors.Is(err, confirm.ErrNoPassphrase) {
			t.Errorf("%s: Check = %v, %v", name, right, err)
		}
	}
}

func TestShortPassphrase(t *testing.T) {
	t.Parallel()
	for text, long := range map[string]bool{"": false, "elevenchars": false, "ééééééééééé": false, "twelve chars": true, "éééééééééééé": true} {
		dir := stateDir(t, false)
		err := confirm.PassphraseIn(dir).Set(t.Context(), secret.New(text))
		if (err == nil) != long {
			t.Errorf("%q: %v", text, err)
		}
		if err != nil && text != "" && strings.Contains(err.Error(), text) {
			t.Errorf("the error shows the passphrase: %v", err)
		}
		if has, _ := confirm.PassphraseIn(dir).IsSet(t.Context()); has != long {
			t.Errorf("%q: IsSet = %v", text, has)
		}
	}
}

// A file that somebody else made or altered is an error, and costs neither memory nor time.
func TestHostilePassphraseFile(t *testing.T) {
	t.Parallel()
	sound := map[string]any{}
	if err := json.Unmarshal(file(t, stateDir(t, true)), &sound); err != nil {
		t.Fatal(err)
	}
	with := func(name string, value any) string {
		altered := map[string]any{}
		for k, v := range sound {
			altered[k] = v
		}
		altered[name] = value
		data, err := json.Marshal(altered)
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	for name, test := range map[string]struct {
		content string
		sound   bool
	}{
		"as it was":            {with("kdf", "scrypt"), true},
		"raised":               {with("n", 1<<16), true}, // read, though the hash is another one then
		"empty":                {"", false},
		"no JSON":              {"{", false},
		"another function":     {with("kdf", "md5"), false},
		"terabytes by n":       {with("n", 1<<40), false},
		"gigabytes by n":       {with("n", 1<<20), false},
		"gigabytes by r":       {with("r", 1<<20), false},
		"hours by p":           {with("p", 1<<20), false},
		"n is no power of two": {with("n", 3<<10), false},
		"n is one":             {with("n", 1), false},
		"n is negative":        {with("n", -(1 << 15)), false},
		"r is zero":            {with("r", 0), false},
		"r is negative":        {with("r", -8), false},
		"p is zero":            {with("p", 0), false},
		"no hash":              {with("hash", ""), false},
		"half a hash":          {with("hash", sound["hash"].(string)[:24]), false},
		"no salt":              {with("salt", ""), false},
		"too large":            {with("kdf", strings.Repeat("x", 5000)), false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, "approval.json"), []byte(test.content), 0o600); err != nil {
				t.Fatal(err)
			}
			has, err := confirm.PassphraseIn(dir).IsSet(t.Context())
			if has != test.sound || (err == nil) != test.sound {
				t.Errorf("IsSet = %v, %v", has, err)
			}
			right, err := confirm.PassphraseIn(dir).Check(t.Context(), secret.New(passphrase))
			if right != (name == "as it was") || (err == nil) != test.sound || errors.Is(err, confirm.ErrNoPassphrase) {
				t.Errorf("Check = %v, %v", right, err)
			}
		})
	}
}

func TestPassphraseFileOfOthers(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("there are no modes")
	}
	own, open, link := stateDir(t, true), t.TempDir(), t.TempDir()
	if err := os.WriteFile(filepath.Join(open, "approval.json"), file(t, own), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(open, "approval.json"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(own, "approval.json"), filepath.Join(link, "approval.json")); err != nil {
		t.Fatal(err)
	}
	for name, dir := range map[string]string{"readable by all": open, "a link": link} {
		if right, err := confirm.PassphraseIn(dir).Check(t.Context(), secret.New(passphrase)); right || err == nil {
			t.Errorf("%s: Check = %v, %v", name, right, err)
		}
	}
	loose := t.TempDir()
	if err := os.Chmod(loose, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := confirm.PassphraseIn(loose).Set(t.Context(), secret.New(passphrase)); err == nil {
		t.Error("a passphrase was set in a directory that others can read")
	}
}

// Servers of one database share the passphrase.
func TestSharedPassphrase(t *testing.T) {
	t.Parallel()
	dsn := postgrestest.New(t)
	open := func() confirm.Passphrase {
		db := postgres.New(postgres.Fixed(secret.New(dsn)), postgres.Options{})
		t.Cleanup(func() { _ = db.Close() })
		return confirm.SharedPassphrase(db)
	}
	one, other := open(), open()
	if set, err := one.IsSet(t.Context()); set || err != nil {
		t.Errorf("IsSet = %v, %v", set, err)
	}
	if _, err := one.Check(t.Context(), secret.New(passphrase)); !errors.Is(err, confirm.ErrNoPassphrase) {
		t.Errorf("got %v", err)
	}
	for _, text := range []string{passphrase, "a second passphrase"} {
		if err := one.Set(t.Context(), secret.New(text)); err != nil {
			t.Fatal(err)
		}
		if right, err := other.Check(t.Context(), secret.New(text)); !right || err != nil {
			t.Errorf("Check = %v, %v", right, err)
		}
	}
	if right, err := other.Check(t.Context(), secret.New(passphrase)); right || err != nil {
		t.Errorf("the earlier passphrase: Check = %v, %v", right, err)
	}
	postgrestest.Exec(t, dsn, `UPDATE approval_passphrase SET hash = '{"kdf":"md5"}'`)
	if right, err := other.Check(t.Context(), secret.New(passphrase)); right || err == nil || !strings.Contains(err.Error(), "approval_passphrase") {
		t.Errorf("Check = %v, %v", right, err)
	}
}
