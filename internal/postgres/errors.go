package postgres

import (
	"context"
	"crypto/tls"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/tokenreeve/tokenreeve/internal/sanitize"
)

// The errors that callers tell apart. What is returned wraps one of them and says what to do.
var (
	// ErrUnavailable: the database cannot be read or written.
	ErrUnavailable = errors.New("the database cannot be used")
	// ErrOutcomeUnknown: the connection was lost during a commit, and for as long as the options'
	// patience it could not be found out whether that took place.
	ErrOutcomeUnknown = errors.New("whether it was recorded is not known")
)

// Error is a failure of the database or of the way to it. It wraps [ErrUnavailable].
type Error struct {
	what  string
	cause error // of the server's own errors and of a context only: others may quote the connection string
	// passing: it may be over in a moment, as where a server takes over from another.
	passing bool
}

func (e *Error) Error() string { return ErrUnavailable.Error() + ": " + e.what }

// Unwrap returns [ErrUnavailable], and the cause where it can be told apart without danger.
func (e *Error) Unwrap() []error {
	if e.cause == nil {
		return []error{ErrUnavailable}
	}
	return []error{ErrUnavailable, e.cause}
}

// unavailable keeps of a cause what callers may tell apart.
func unavailable(cause error, format string, args ...any) *Error {
	e := &Error{what: fmt.Sprintf(format, args...)}
	var server *pgconn.PgError
	switch {
	case errors.As(cause, &server):
		e.cause = server
	case errors.Is(cause, context.Canceled):
		e.cause = context.Canceled
	case errors.Is(cause, context.DeadlineExceeded):
		e.cause = context.DeadlineExceeded
	}
	return e
}

// codeOf returns the SQLSTATE of the server's error, or "".
func codeOf(err error) string {
	var server *pgconn.PgError
	if errors.As(err, &server) {
		return server.Code
	}
	return ""
}

// explainParse says what is wrong with a connection string. The parser's own words quote it.
func explainParse(err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		return unavailable(nil, "a file that the connection string names cannot be read; look at sslrootcert, sslcert, sslkey, passfile and servicefile")
	}
	return unavailable(nil, "the connection string is malformed; expected postgres://USER:PASSWORD@HOST:PORT/DATABASE?sslmode=verify-full, "+
		"with the special characters of the password percent-encoded, for example %%40 for @")
}

// explainConnect says why no connection was made. The driver's own words quote host and user, which
// hold a part of the password where the connection string is malformed.
func explainConnect(ctx context.Context, err error) error {
	var already *Error
	if errors.As(err, &already) {
		return already
	}
	code := codeOf(err)
	if code == "" {
		return lost(ctx, err)
	}
	e := unavailable(err, "%s (SQLSTATE %s)", refusal(code), code)
	e.passing = code == "53300" || strings.HasPrefix(code, "57P")
	return e
}

// refusal is why a server refuses a connection, without its own words, which quote user and database.
func refusal(code string) string {
	switch code {
	case "28P01", "28000":
		return "the server does not let the user of the connection string in; look at its name and password, and at pg_hba.conf"
	case "3D000":
		return "the server has no database of the connection string's name; create it"
	case "42501":
		return "the role of the connection string may not connect to its database; grant it CONNECT"
	}
	if what := known(code); what != "" {
		return what
	}
	return "the server refuses the connection; its log says why"
}

// known is what a code means wherever it comes up; "": nothing in particular.
func known(code string) string {
	switch {
	case code == "53300":
		return "the server has no connection left; raise its max_connections, or run fewer replicas"
	case code == "53100":
		return "the server's disk is full; free some space"
	case strings.HasPrefix(code, "57P"):
		return "the server is stopping, starting or in recovery; try again"
	case code == "55P03":
		return "another process has kept it locked for too long; look for a transaction that does not end in pg_stat_activity"
	case code == "57014":
		return "a statement took longer than statement_timeout; look at the server's load, or give the connection string a longer statement_timeout"
	case code == "25P03":
		return "a transaction was idle for too long and was ended"
	case code == "25006":
		return "the server takes no writes: it is a standby, or its transactions are read only; connect to the primary, for example with target_session_attrs=read-write"
	case code == "26000", code == "42P05":
		return "a pooler hands one connection to several clients at once; connect directly, or let it pool sessions"
	case code == "XX001", code == "XX002":
		return "the database is damaged; keep a copy, and restore it from a backup"
	}
	return ""
}

// lost says what became of a connection.
func lost(ctx context.Context, err error) *Error {
	if ctx.Err() != nil {
		err = errors.Join(ctx.Err(), err)
	}
	var name *net.DNSError
	var certificate *tls.CertificateVerificationError
	var timeout interface{ Timeout() bool }
	switch {
	case errors.As(err, &certificate):
		return unavailable(err, "the server's TLS certificate is not valid for its name, or not issued by an authority that is trusted; give sslrootcert")
	case err != nil && strings.Contains(err.Error(), "server refused TLS connection"): // the driver has no error of its own for it
		return unavailable(err, "the server does not speak TLS; switch it on there")
	case errors.As(err, &name):
		return unavailable(err, "the host of the connection string has no address; look at its name")
	case errors.Is(err, syscall.ECONNREFUSED):
		e := unavailable(err, "nothing listens at the host and port of the connection string; is PostgreSQL running there?")
		e.passing = true
		return e
	case errors.Is(err, context.Canceled):
		return unavailable(err, "the call was cancelled")
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return unavailable(err, "the server did not answer in time; look at the network and the server's load")
	}
	e := unavailable(err, "the connection was lost; look at the network and at the server's log, and try again")
	e.passing = true
	return e
}

// isLost reports whether err says that there is no connection any more.
func isLost(err error) bool {
	var network net.Error
	var driven interface{ SafeToRetry() bool } // what the driver says of its own errors
	var server *pgconn.PgError
	if errors.As(err, &server) {
		return server.SeverityUnlocalized == "FATAL" || server.SeverityUnlocalized == "PANIC"
	}
	return errors.As(err, &network) || errors.As(err, &driven) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, net.ErrClosed) || errors.Is(err, driver.ErrBadConn) || errors.Is(err, sql.ErrConnDone) || errors.Is(err, sql.ErrTxDone)
}

// explain says what is wrong and what to do, where the database failed. Other errors stay as they are.
func explain(ctx context.Context, err error) error {
	var already *Error
	code := codeOf(err)
	switch {
	case err == nil, errors.As(err, &already):
		return err
	case code == "42501":
		return unavailable(err, "its role lacks a right: %s (SQLSTATE %s); docs/replicas.md names those that it needs", serverSays(err), code)
	case known(code) != "":
		return unavailable(err, "%s (SQLSTATE %s)", known(code), code)
	case code != "":
		return unavailable(err, "PostgreSQL says: %s (SQLSTATE %s)", serverSays(err), code)
	case isLost(err):
		return lost(ctx, err)
	}
	return err
}

// serverSays is the server's own message on a statement.
func serverSays(err error) string {
	var server *pgconn.PgError
	errors.As(err, &server)
	return sanitize.Message(server.Message)
}
