package postgres

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v5/pgconn"

	"tokend/tokend/store"
)

// SQLSTATEs, as PostgreSQL's documentation lists them in appendix A.
const (
	uniqueViolation  = "23505"
	readOnly         = "25006"
	diskFull         = "53100"
	noTable          = "42P01"
	noRights         = "42501"
	tooManyConnected = "53300"
	wrongPassword    = "28P01"
	notAdmitted      = "28000"
	noDatabase       = "3D000"
	notEncodable     = "22P05"
	inRecovery       = "55000"
	ofPooler         = "08P01"
	adminShutdown    = "57P01"
	crashShutdown    = "57P02"
	startingOrEnding = "57P03"
)

// mendPassword is what can be done where the server, or a pooler, takes none.
const mendPassword = "the server, or the pooler before it, takes no such password; name or mend [store] password_file, the user's password (ALTER ROLE), or the pooler's list of users; of a systemd credential the copy is as old as the unit's start: restart tokend"

// explain puts before an error of the server what an operator can do about it. An error
// of another kind it returns as it is.
func explain(err error) error {
	var e *pgconn.PgError
	if errors.Is(err, errUnproved) || errors.Is(err, errElsewhere) {
		return err // which says all
	}
	if err != nil && strings.Contains(err.Error(), "\n") {
		err = lineError{err}
	}
	if errors.Is(err, pgconn.ErrStandbyConnection) || errors.Is(err, pgconn.ErrReadOnlyConnection) {
		return fmt.Errorf("%w: no server of [store] url is the primary now, and a standby lags behind; promote one, or name the primary, or all of them and target_session_attrs=read-write: %w", store.ErrUnwritable, err)
	}
	answered := errors.As(err, &e)
	if broken(err) && (!answered || e.Code == adminShutdown || e.Code == crashShutdown) {
		return fmt.Errorf("the connection to PostgreSQL, or to the pooler before it, was ended meanwhile; is it being restarted? Try again: %w", err)
	}
	if !answered {
		if ofTLS(err) {
			return fmt.Errorf("TLS with PostgreSQL fails; does sslrootcert in [store] url name who signed the server's certificate, is that still valid, does it name the host of the url, does the server have TLS (ssl=on), and does it believe sslcert?: %w", err)
		}
		if ofKeyPair(err) {
			return fmt.Errorf("sslcert and sslkey of [store] url cannot be used; do they belong together, and may the daemon read them?: %w", err)
		}
		if errors.Is(err, context.DeadlineExceeded) {
			return fmt.Errorf("no answer from PostgreSQL, or from the pooler before it; does it hang, is it overloaded, or has the way to it broken?: %w", err)
		}
		if _, unreachable := errors.AsType[*pgconn.ConnectError](err); unreachable {
			return fmt.Errorf("no connection to PostgreSQL, or to the pooler before it; is it running where [store] url (or direct_url) says, does this machine know each name there (DNS, /etc/hosts), does it listen there (listen_addresses, port), and does a firewall let this machine through?: %w", err)
		}
		return err
	}
	switch e.Code {
	case inRecovery:
		if _, unmade := errors.AsType[*pgconn.ConnectError](err); unmade {
			return fmt.Errorf("the server lets nobody connect to this database now; is that meant (ALLOW_CONNECTIONS)?: %w", err)
		}
		return fmt.Errorf("the server is a standby, which lags behind; let [store] url, or the pooler that it names, lead to the primary: %w", err)
	case startingOrEnding:
		return fmt.Errorf("PostgreSQL is starting, recovering from a crash, or shutting down; wait, and see its own log if that goes on: %w", err)
	case wrongPassword:
		return fmt.Errorf("%s: %w", mendPassword, err)
	case notAdmitted:
		return fmt.Errorf("the server doesn't admit this user from here; mend the user in [store] url (and sslcert, sslkey, if a certificate is asked for), or the server's pg_hba.conf: %w", err)
	case noDatabase:
		return fmt.Errorf("the server has no such database; make it (createdb), or mend its name in [store] url: %w", err)
	case notEncodable:
		return fmt.Errorf("the database's encoding has no such character; leave it out, or move to a database with the encoding UTF8: %w", err)
	case ofPooler: // its code for all
		switch said := e.Message; {
		case strings.Contains(said, "startup parameter"): // which the server itself would know
			return fmt.Errorf("%w: %w", errPooler, err)
		case strings.Contains(said, "authentication failed"):
			return fmt.Errorf("%s: %w", mendPassword, err)
		}
		return fmt.Errorf("the pooler that [store] url leads to refuses, or has lost the server: does it have this database, the password of now in its list of users, and room for more clients (max_client_conn), and is PostgreSQL running behind it?: %w", err)
	case readOnly:
		return fmt.Errorf("%w: the server takes no changes, because it is a standby or read-only; name the primary in [store] url (target_session_attrs=read-write finds it among several): %w", store.ErrUnwritable, err)
	case diskFull:
		return fmt.Errorf("%w: the server's disk is full; free some space: %w", store.ErrUnwritable, err)
	case noTable:
		return fmt.Errorf("a table is missing; does [store] url, or the pooler that it names, lead to tokend's database? Put a backup back, before any tokend is started; only where there were no tokens, start it again to make the tables: %w", err)
	case noRights:
		return fmt.Errorf("the database's user lacks rights; make it the owner of the database, or of tokend's tables in it: %w", err)
	case tooManyConnected:
		return fmt.Errorf("the server has no connection left; lower [store] connections, or raise its max_connections, or the user's own limit (ALTER ROLE): %w", err)
	}
	return err
}

// ofTLS tells whether the error is of a connection that was there, but not secure.
func ofTLS(err error) bool {
	_, certificate := errors.AsType[*tls.CertificateVerificationError](err)
	alert, network := errors.AsType[*net.OpError](err)
	return certificate || network && alert.Op == "remote error" || err != nil && strings.Contains(err.Error(), "server refused TLS connection") // which has no type
}

// ofKeyPair tells whether the error is of the daemon's own certificate. It has no type.
func ofKeyPair(err error) bool {
	return err != nil && (strings.Contains(err.Error(), "unable to load cert") || strings.Contains(err.Error(), "unable to read ssl"))
}

// fatal is how grave an error is that ends the connection, such as a server's or a
// pooler's shutdown.
const fatal = "FATAL"

// lineError is an error in one line, where the driver takes one for each server that it
// tried, and tries the same with TLS and without.
type lineError struct{ error }

func (e lineError) Error() string {
	var text string
	var said []string
	for line := range strings.Lines(e.error.Error()) {
		line = strings.TrimSpace(line)
		switch {
		case line == "" || slices.Contains(said, line):
			continue
		case text == "":
		case strings.HasSuffix(text, ":"):
			text += " "
		default:
			text += "; "
		}
		text, said = text+line, append(said, line)
	}
	return text
}

func (e lineError) Unwrap() error { return e.error }

// broken tells whether the error is of a connection that the server has ended, so that
// another may do. One that could not be made is not, unless the server is just ending.
func broken(err error) bool {
	_, unmade := errors.AsType[*pgconn.ConnectError](err)
	if e, answered := errors.AsType[*pgconn.PgError](err); answered {
		ended := e.Code == adminShutdown || e.Code == crashShutdown
		return ended || !unmade && (e.Severity == fatal || e.SeverityUnlocalized == fatal || e.Code == ofPooler)
	}
	return err != nil && !unmade &&
		(errors.Is(err, pgconn.ErrConnClosed) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) ||
			errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET))
}

// exists tells whether the error says that the ID or digest is taken.
func exists(err error) bool {
	var e *pgconn.PgError
	return errors.As(err, &e) && e.Code == uniqueViolation
}
