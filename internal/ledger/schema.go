package ledger

import "strings"

// migration is one step of the schema: tables in SQLite's dialect, which [postgresMigrations] translates,
// and then what has to be written for each database by itself.
type migration struct{ tables, sqlite, postgres string }

// migrations make the schema, in order; never change one that was released.
func migrations() []migration {
	return []migration{{schema1, sqliteChain, postgresChain}, {tables: schema2}}
}

func sqliteMigrations() []string {
	var scripts []string
	for _, m := range migrations() {
		scripts = append(scripts, m.tables+m.sqlite)
	}
	return scripts
}

// postgresMigrations compare and order all text by its bytes, as SQLite does, whatever the locale of the
// database: times, ids and digests.
func postgresMigrations() []string {
	words := strings.NewReplacer(" STRICT, WITHOUT ROWID", "", " STRICT", "", " INTEGER", " BIGINT", " TEXT", ` TEXT COLLATE "C"`)
	var scripts []string
	for _, m := range migrations() {
		scripts = append(scripts, words.Replace(m.tables)+m.postgres)
	}
	return scripts
}

// schema2 keeps from where an approval came, and the values of the forms by which people decide over
// HTTP.
const schema2 = `
ALTER TABLE previews ADD COLUMN approved_from TEXT NOT NULL DEFAULT '';

CREATE TABLE preview_forms (
	digest    TEXT PRIMARY KEY,
	preview   TEXT NOT NULL,
	principal TEXT NOT NULL,
	opened    TEXT NOT NULL,
	until     TEXT NOT NULL
);
CREATE INDEX preview_forms_of_principal ON preview_forms (preview, principal, opened);
CREATE INDEX preview_forms_by_end ON preview_forms (until);
`

const schema1 = `
CREATE TABLE entries (
	seq          INTEGER PRIMARY KEY,
	prev_hash    TEXT NOT NULL,
	hash         TEXT NOT NULL,
	operation_id TEXT NOT NULL,
	kind         TEXT NOT NULL,
	time         TEXT NOT NULL,
	body         TEXT NOT NULL
) STRICT;
CREATE INDEX entries_of_operation ON entries (operation_id, seq);

CREATE TABLE operations (
	id          TEXT PRIMARY KEY,
	seq         INTEGER NOT NULL UNIQUE,
	parent      TEXT NOT NULL,
	principal   TEXT NOT NULL,
	tool        TEXT NOT NULL,
	class       TEXT NOT NULL,
	connection  TEXT NOT NULL,
	provider    TEXT NOT NULL,
	account     TEXT NOT NULL,
	preview     TEXT NOT NULL,
	sink        TEXT NOT NULL,
	sink_key    TEXT NOT NULL,
	token       TEXT NOT NULL,
	outcome     TEXT NOT NULL,
	started     TEXT NOT NULL,
	weight      INTEGER NOT NULL,
	compromised INTEGER NOT NULL,
	delivered   INTEGER NOT NULL,
	state       TEXT NOT NULL
) STRICT;
CREATE INDEX operations_of_principal ON operations (principal, seq);
CREATE INDEX operations_counted ON operations (principal, class, started) WHERE weight > 0;
CREATE INDEX operations_delivered ON operations (provider, account, token, delivered) WHERE delivered > 0;
CREATE INDEX operations_delivered_to ON operations (sink, sink_key, delivered) WHERE delivered > 0;
CREATE INDEX operations_of_parent ON operations (parent, seq) WHERE parent <> '';
CREATE INDEX operations_of_preview ON operations (preview, seq) WHERE preview <> '';
CREATE INDEX operations_of_key ON operations (sink, sink_key, seq) WHERE sink <> '';
CREATE INDEX operations_open ON operations (seq) WHERE outcome = '';
CREATE INDEX operations_waiting ON operations (outcome) WHERE outcome IN ('escrowed', 'unknown');

CREATE TABLE leases (
	operation_id TEXT PRIMARY KEY,
	holder       TEXT NOT NULL,
	expires      TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE open_changes (
	provider     TEXT NOT NULL,
	account      TEXT NOT NULL,
	token        TEXT NOT NULL,
	operation_id TEXT NOT NULL
) STRICT;
CREATE UNIQUE INDEX one_open_change ON open_changes (provider, account, token);
CREATE INDEX open_changes_of_operation ON open_changes (operation_id);

CREATE TABLE previews (
	code_digest TEXT PRIMARY KEY,
	id          TEXT NOT NULL UNIQUE,
	principal   TEXT NOT NULL,
	tool        TEXT NOT NULL,
	arguments   TEXT NOT NULL,
	plan        TEXT NOT NULL,
	created     TEXT NOT NULL,
	expires     TEXT NOT NULL,
	until       TEXT NOT NULL,
	state       TEXT NOT NULL,
	result      TEXT NOT NULL,
	approved_by TEXT NOT NULL,
	approved    TEXT NOT NULL,
	declined_by TEXT NOT NULL,
	taken       TEXT NOT NULL,
	question    TEXT NOT NULL
) STRICT;
CREATE INDEX previews_of_principal ON previews (principal, state, until, id);
CREATE INDEX previews_by_end ON previews (until, state);
`

// sqliteChain lets the database itself refuse what would break the chain.
const sqliteChain = `
CREATE TRIGGER entries_only_follow BEFORE INSERT ON entries
WHEN NEW.seq IS NOT (SELECT COALESCE(MAX(seq), 0) + 1 FROM entries)
	OR NEW.prev_hash IS NOT COALESCE((SELECT hash FROM entries ORDER BY seq DESC LIMIT 1),
		'0000000000000000000000000000000000000000000000000000000000000000')
BEGIN SELECT RAISE(ABORT, 'an entry must follow the last one'); END;
CREATE TRIGGER entries_never_change BEFORE UPDATE ON entries
BEGIN SELECT RAISE(ABORT, 'entries are never changed'); END;
CREATE TRIGGER entries_never_go BEFORE DELETE ON entries
BEGIN SELECT RAISE(ABORT, 'entries are never removed'); END;
`

// postgresChain is sqliteChain for PostgreSQL, which can empty a table at once as well.
const postgresChain = `
CREATE FUNCTION entries_only_follow() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
	last RECORD;
BEGIN
	SELECT seq, hash INTO last FROM entries ORDER BY seq DESC LIMIT 1;
	IF NEW.seq IS DISTINCT FROM COALESCE(last.seq, 0) + 1 OR NEW.prev_hash IS DISTINCT FROM COALESCE(last.hash,
		'0000000000000000000000000000000000000000000000000000000000000000') THEN
		RAISE EXCEPTION 'an entry must follow the last one';
	END IF;
	RETURN NEW;
END $$;
CREATE FUNCTION entries_stay() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	RAISE EXCEPTION 'entries are never changed or removed';
END $$;
CREATE TRIGGER entries_only_follow BEFORE INSERT ON entries FOR EACH ROW EXECUTE FUNCTION entries_only_follow();
CREATE TRIGGER entries_never_change BEFORE UPDATE ON entries FOR EACH ROW EXECUTE FUNCTION entries_stay();
CREATE TRIGGER entries_never_go BEFORE DELETE OR TRUNCATE ON entries FOR EACH STATEMENT EXECUTE FUNCTION entries_stay();
`
