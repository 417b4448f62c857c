package sink

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"sync/atomic"
	"time"

	"filippo.io/age"

	"github.com/tokenreeve/tokenreeve/internal/postgres"
	"github.com/tokenreeve/tokenreeve/internal/statekeys"
)

const (
	// putTime is how long a minted secret waits for a database that is gone: a restart, or another
	// server that takes over.
	putTime = 20 * time.Second
	// putPause is between two tries.
	putPause = 250 * time.Millisecond
)

// escrowTable keeps what is encrypted in a database that several servers share.
type escrowTable struct {
	db     *postgres.DB
	writer *postgres.Writer
	exists atomic.Bool // the table does, as this process has seen
}

func newEscrowTable(db *postgres.DB) *escrowTable {
	return &escrowTable{db: db, writer: db.Writer(escrowComponent)}
}

// escrowComponent is the part of the database that is the escrow's.
const escrowComponent = "escrow"

func escrowMigrations() []string {
	return []string{`
CREATE TABLE escrow (
	operation  TEXT PRIMARY KEY,
	written    TIMESTAMPTZ NOT NULL DEFAULT now(),
	ciphertext BYTEA NOT NULL
);
`, `
CREATE TABLE escrow_key (
	one         BOOLEAN PRIMARY KEY DEFAULT true CHECK (one),
	fingerprint TEXT NOT NULL,
	since       TIMESTAMPTZ NOT NULL DEFAULT now()
);
`}
}

// MigrateEscrow makes the tables of [NewSharedEscrow], or brings them to this version. Its use does so as
// well, where it may.
func MigrateEscrow(ctx context.Context, db *postgres.DB) error {
	return db.Migrate(ctx, escrowComponent, escrowMigrations())
}

// write makes the table where it is missing.
func (t *escrowTable) write(ctx context.Context, f func(*sql.Tx) error) error {
	if !t.exists.Load() {
		if err := MigrateEscrow(ctx, t.db); err != nil {
			return err
		}
		t.exists.Store(true)
	}
	return t.writer.Write(ctx, f)
}

// query makes nothing: without a table, f does not run.
func (t *escrowTable) query(ctx context.Context, f func(*sql.Tx) error) error {
	if !t.exists.Load() {
		exists, err := t.db.IsMigrated(ctx, escrowComponent, escrowMigrations())
		if err != nil || !exists {
			return err
		}
		t.exists.Store(true)
	}
	return t.db.Read(ctx, f)
}

// probe writes and removes a row. The commit needs the disk, as that of a secret does.
func (t *escrowTable) probe(ctx context.Context) (key string, err error) {
	err = t.write(ctx, func(tx *sql.Tx) error {
		const id = ".probe" // no operation's
		if _, err := tx.ExecContext(ctx, `INSERT INTO escrow (operation, ciphertext) VALUES ($1, $2)`, id, make([]byte, probeSize)); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, `DELETE FROM escrow WHERE operation = $1`, id); err != nil {
			return err
		}
		key, err = keyInUse(ctx, tx)
		return err
	})
	return key, err
}

// keyInUse returns the fingerprint of the key that was announced last; "": none was.
func keyInUse(ctx context.Context, tx *sql.Tx) (key string, err error) {
	err = tx.QueryRowContext(ctx, `SELECT fingerprint FROM escrow_key`).Scan(&key)
	if errors.Is(err, sql.ErrNoRows) {
		err = nil
	}
	return key, err
}

func (t *escrowTable) announce(ctx context.Context, key string, follows func(before string) bool) (before string, err error) {
	err = t.write(ctx, func(tx *sql.Tx) error {
		if before, err = keyInUse(ctx, tx); err != nil || before == key || !follows(before) {
			return err
		}
		_, err = tx.ExecContext(ctx, `INSERT INTO escrow_key (fingerprint) VALUES ($1)
			ON CONFLICT (one) DO UPDATE SET fingerprint = excluded.fingerprint, since = excluded.since`, key)
		return err
	})
	return before, err
}

// probeSize is about what a secret takes, in bytes.
const probeSize = 1024

// writeNew tries again while the database is gone. What it has written itself before, without knowing
// so, is not in its way. The first secret of all announces its key.
func (t *escrowTable) writeNew(ctx context.Context, operationID string, data []byte, key string) error {
	ctx, cancel := context.WithTimeout(ctx, putTime)
	defer cancel()
	for {
		err := t.write(ctx, func(tx *sql.Tx) error {
			if err := insertEscrowed(ctx, tx, operationID, data); err != nil {
				return err
			}
			_, err := tx.ExecContext(ctx, `INSERT INTO escrow_key (fingerprint) VALUES ($1) ON CONFLICT DO NOTHING`, key)
			return err
		})
		if err == nil || !errors.Is(err, postgres.ErrUnavailable) && !errors.Is(err, postgres.ErrOutcomeUnknown) {
			return err
		}
		pause := time.NewTimer(putPause)
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return err
		}
	}
}

func insertEscrowed(ctx context.Context, tx *sql.Tx, operationID string, data []byte) error {
	result, err := tx.ExecContext(ctx, `INSERT INTO escrow (operation, ciphertext) VALUES ($1, $2) ON CONFLICT DO NOTHING`, operationID, data)
	if err != nil {
		return err
	}
	if n, err := result.RowsAffected(); err != nil || n == 1 {
		return err
	}
	kept, err := readEscrowed(ctx, tx, operationID)
	if err == nil && !bytes.Equal(kept, data) {
		err = fmt.Errorf("operation %s has a secret in escrow: %w", operationID, fs.ErrExist)
	}
	return err
}

func (t *escrowTable) read(ctx context.Context, operationID string) (data []byte, err error) {
	err = t.query(ctx, func(tx *sql.Tx) error {
		data, err = readEscrowed(ctx, tx, operationID)
		return err
	})
	if err == nil && data == nil { // there is no table yet
		err = notEscrowed(operationID)
	}
	return data, err
}

func readEscrowed(ctx context.Context, tx *sql.Tx, operationID string) ([]byte, error) {
	var size int64
	var data []byte
	err := tx.QueryRowContext(ctx, `SELECT length(ciphertext), substring(ciphertext FROM 1 FOR $2) FROM escrow WHERE operation = $1`,
		operationID, maxEscrowed).Scan(&size, &data)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, notEscrowed(operationID)
	}
	if err == nil && size > maxEscrowed {
		err = fmt.Errorf("what is in escrow of operation %s has %d bytes, which no secret has", operationID, size)
	}
	if err != nil {
		return nil, err
	}
	if data == nil {
		data = []byte{}
	}
	return data, nil
}

func notEscrowed(operationID string) error {
	return fmt.Errorf("operation %s has no secret in escrow: %w", operationID, fs.ErrNotExist)
}

func (t *escrowTable) remove(ctx context.Context, operationID string) error {
	return t.write(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `DELETE FROM escrow WHERE operation = $1`, operationID)
		return err
	})
}

func (t *escrowTable) list(ctx context.Context) (entries []Entry, err error) {
	err = t.query(ctx, func(tx *sql.Tx) error {
		rows, err := tx.QueryContext(ctx, `SELECT operation, written, length(ciphertext) FROM escrow ORDER BY operation COLLATE "C"`)
		if err != nil {
			return err
		}
		defer rows.Close()
		entries = nil
		for rows.Next() {
			var e Entry
			if err := rows.Scan(&e.OperationID, &e.Written, &e.Size); err != nil {
				return err
			}
			entries = append(entries, e)
		}
		return rows.Err()
	})
	return entries, err
}

func (t *escrowTable) file(operationID string) string {
	return "FILE, which tokenreeve escrow export " + operationID + " --output FILE writes"
}

// sharedKeys are those that all servers of the database have.
type sharedKeys struct{ source *statekeys.Source }

func (k sharedKeys) check(ctx context.Context) ([]*age.X25519Identity, error) {
	keys, err := k.source.Keys(ctx)
	return keys.Identities(), err
}

func (k sharedKeys) known(ctx context.Context) ([]*age.X25519Identity, error) { return k.check(ctx) }

func (k sharedKeys) current(ctx context.Context) ([]*age.X25519Identity, error) { return k.check(ctx) }

func (k sharedKeys) renewed(ctx context.Context) ([]*age.X25519Identity, error) {
	keys, err := k.source.Refresh(ctx)
	return keys.Identities(), err
}
