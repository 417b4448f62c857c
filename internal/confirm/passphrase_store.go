package confirm

import (
	"context"
	"database/sql"
	"errors"
	"io/fs"
	"path/filepath"

	"github.com/tokenreeve/tokenreeve/internal/postgres"
	"github.com/tokenreeve/tokenreeve/internal/privatefile"
)

const passphraseFile = "approval.json"

// passphraseDirectory is the state directory of one machine's servers.
type passphraseDirectory string

func (dir passphraseDirectory) String() string { return filepath.Join(string(dir), passphraseFile) }

func (dir passphraseDirectory) read(context.Context) ([]byte, error) {
	return privatefile.Read(dir.String(), maxHash)
}

func (dir passphraseDirectory) replace(_ context.Context, data []byte) error {
	if err := privatefile.EnsureDir(string(dir)); err != nil {
		return err
	}
	d, err := privatefile.OpenDir(string(dir))
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Replace(passphraseFile, data)
}

// passphraseTable is a table of one row, at most.
type passphraseTable struct{ db *postgres.DB }

// passphraseComponent is the part of the database that the table is.
const passphraseComponent = "approval passphrase"

func passphraseMigrations() []string {
	return []string{`
CREATE TABLE approval_passphrase (
	id   SMALLINT PRIMARY KEY CHECK (id = 1),
	hash TEXT NOT NULL
);
`}
}

// MigratePassphrase makes the tables of [SharedPassphrase], or brings them to this version. Its use does
// so as well, where it may.
func MigratePassphrase(ctx context.Context, db *postgres.DB) error {
	return db.Migrate(ctx, passphraseComponent, passphraseMigrations())
}

func (passphraseTable) String() string { return "the table approval_passphrase of the database" }

func (t passphraseTable) read(ctx context.Context) (data []byte, err error) {
	exists, err := t.db.IsMigrated(ctx, passphraseComponent, passphraseMigrations())
	if err != nil {
		return nil, err
	}
	if !exists {
		return nil, fs.ErrNotExist
	}
	err = t.db.Read(ctx, func(tx *sql.Tx) error {
		var hash string
		err := tx.QueryRowContext(ctx, `SELECT left(hash, $1) FROM approval_passphrase`, maxHash).Scan(&hash)
		if errors.Is(err, sql.ErrNoRows) {
			return fs.ErrNotExist
		}
		data = []byte(hash)
		return err
	})
	return data, err
}

func (t passphraseTable) replace(ctx context.Context, data []byte) error {
	if err := MigratePassphrase(ctx, t.db); err != nil {
		return err
	}
	return t.db.Writer(passphraseComponent).Write(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO approval_passphrase VALUES (1, $1) ON CONFLICT (id) DO UPDATE SET hash = excluded.hash`, string(data))
		return err
	})
}
