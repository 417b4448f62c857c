// Package postgres holds what several replicas share in one PostgreSQL database: its connections,
// the migrations of those who keep tables there, and transactions that exclude each other.
package postgres

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"net"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/tokenreeve/tokenreeve/internal/loopback"
	"github.com/tokenreeve/tokenreeve/internal/secret"
)

const (
	// connectTime bounds one attempt to connect, where the connection string does not say 1 to 30 s.
	connectTime = 10 * time.Second
	// transactionTime bounds a transaction from its begin to its commit.
	transactionTime = 5 * time.Minute

	mostConnections = 8
	idleConnections = 4
	// connectionLife makes a process follow when the database moves or its password changes.
	connectionLife = 30 * time.Minute
)

// Source gives the connection string: postgres://USER:PASSWORD@HOST:PORT/DATABASE?sslmode=verify-full,
// or the keywords and values that libpq takes. It is asked at each new connection, so that a password
// can change while the server runs. Its errors must not quote what it gives.
type Source func(context.Context) (secret.Secret, error)

// Fixed is a source that always gives the same connection string.
func Fixed(dsn secret.Secret) Source {
	return func(context.Context) (secret.Secret, error) { return dsn, nil }
}

// Options configure a database. The zero value is for service.
type Options struct {
	// Patience is how long a transaction waits for those of other processes, and for the server to
	// come back where a commit was cut off; default 10 s.
	Patience time.Duration
	// Now is this machine's clock; default time.Now. See [DB.Ahead].
	Now func() time.Time
}

// DB is a database that several processes share. It is safe for concurrent use. No error of it
// quotes the connection string or any part of it; those that come from the database wrap
// [ErrUnavailable].
type DB struct {
	pool     *sql.DB
	patience time.Duration
	process  string // random, of this DB in this process
	clock    *clock
}

// New returns the database that source leads to. It reads nothing and connects to nothing: that
// happens at the first use.
func New(source Source, o Options) *DB {
	if o.Patience <= 0 {
		o.Patience = 10 * time.Second
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	c := &clock{now: o.Now}
	pool := sql.OpenDB(connector{source, o.Patience, c})
	pool.SetMaxOpenConns(mostConnections)
	pool.SetMaxIdleConns(idleConnections)
	pool.SetConnMaxLifetime(connectionLife)
	return &DB{pool: pool, patience: o.Patience, process: uuid.NewString(), clock: c}
}

// Open connects now, so that what is wrong shows at the start.
func (db *DB) Open(ctx context.Context) error {
	return explain(ctx, db.pool.PingContext(ctx))
}

// Close closes all connections. It waits for queries that the server has begun.
func (db *DB) Close() error { return db.pool.Close() }

// connector makes the pool's connections.
type connector struct {
	source   Source
	patience time.Duration
	clock    *clock
}

// Connect implements driver.Connector. Its errors are explained already: those of the driver hold
// the connection string.
func (c connector) Connect(ctx context.Context) (driver.Conn, error) {
	dsn, err := c.source(ctx)
	if err != nil {
		return nil, unavailable(err, "the connection string cannot be read: %v", err)
	}
	config, err := parse(dsn)
	if err != nil {
		return nil, err
	}
	conn, err := stdlib.GetConnector(*config, stdlib.OptionAfterConnect(c.prepare)).Connect(ctx)
	if err != nil {
		return nil, explainConnect(ctx, err)
	}
	return conn, nil
}

// Driver implements driver.Connector.
func (c connector) Driver() driver.Driver { return stdlib.GetDefaultDriver() }

// parse reads a connection string.
func parse(dsn secret.Secret) (*pgx.ConnConfig, error) {
	config, err := pgx.ParseConfig(dsn.Expose())
	if err != nil {
		return nil, explainParse(err)
	}
	if silentlyPlain(config) {
		return nil, unavailable(nil, "the connection string leaves open whether the connection is encrypted; "+
			"add sslmode=verify-full, or sslmode=disable in a network where nobody else can listen")
	}
	if config.ConnectTimeout <= 0 || config.ConnectTimeout > 30*time.Second {
		config.ConnectTimeout = connectTime
	}
	if config.RuntimeParams["application_name"] == "" {
		config.RuntimeParams["application_name"] = "tokenreeve"
	}
	// A server that is gone without a word is noticed after 25 s.
	dialer := &net.Dialer{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 10 * time.Second, Interval: 5 * time.Second, Count: 3}}
	config.DialFunc = dialer.DialContext
	return config, nil
}

// silentlyPlain reports whether a connection to another machine would be tried with TLS and without:
// whoever sits between could have it without, and the password with it.
func silentlyPlain(config *pgx.ConnConfig) bool {
	type place struct {
		host string
		port uint16
	}
	plain, encrypted := map[place]bool{}, map[place]bool{}
	note := func(host string, port uint16, tls bool) {
		if isLocal(host) {
			return
		}
		if tls {
			encrypted[place{host, port}] = true
		} else {
			plain[place{host, port}] = true
		}
	}
	note(config.Host, config.Port, config.TLSConfig != nil)
	for _, f := range config.Fallbacks {
		note(f.Host, f.Port, f.TLSConfig != nil)
	}
	for at := range plain {
		if encrypted[at] {
			return true
		}
	}
	return false
}

// isLocal reports whether host is this machine: its loopback, or the directory of a socket.
func isLocal(host string) bool {
	network, _ := pgconn.NetworkAddress(host, 0)
	return network == "unix" || loopback.IsHost(host)
}

// bounds are given to a connection where neither the connection string nor the server has any, so
// that no process holds up all others. A commit must be on disk when it is answered.
const bounds = `SELECT set_config(name, bound, false) FROM (VALUES
		('statement_timeout', '60s'), ('lock_timeout', $1::text), ('idle_in_transaction_session_timeout', '20s')
	) AS bounds (name, bound) WHERE current_setting(name) = '0'
	UNION ALL SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'`

// prepare makes a new connection ready.
func (c connector) prepare(ctx context.Context, conn *pgx.Conn) error {
	if encoding := conn.PgConn().ParameterStatus("server_encoding"); encoding != "UTF8" {
		return errors.Join(unavailable(nil, "the database has the encoding %q; create one with ENCODING 'UTF8'", encoding), conn.Close(ctx))
	}
	_, err := conn.Exec(ctx, bounds, pgx.QueryExecModeExec, strconv.FormatInt(c.patience.Milliseconds(), 10))
	if err == nil {
		var server time.Time
		sent := c.clock.now()
		err = conn.QueryRow(ctx, `SELECT clock_timestamp()`, pgx.QueryExecModeExec).Scan(&server)
		if err == nil {
			c.clock.note(sent, server)
		}
	}
	if err != nil {
		return errors.Join(err, conn.Close(ctx))
	}
	return nil
}
