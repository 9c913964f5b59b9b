package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"regexp"
	"slices"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"tokend/tokend/store"
	"tokend/tokend/token"
)

// SQLSTATEs, as PostgreSQL's documentation lists them in appendix A.
const (
	readOnly         = "25006"
	saidNothing      = "25P03"
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

// mendPassword is what can be done where the server, or a pooler, takes none; %s is what names its file.
const mendPassword = "the server, or the pooler before it, takes no such password; name or mend %s, the user's password (ALTER ROLE), or the pooler's list of users; of a systemd credential the copy is as old as the unit's start: restart tokend"

// Names are what an operator calls that which can be mended.
type Names struct {
	URL         string // that leads to the server, such as "[store] url"
	Direct      string // and past a pooler; empty: there is no such
	Password    string // that names the file with it
	Connections string // how many there may be
}

// Explain puts before an error of the server what an operator can do about it. An error of another kind
// it returns as it is.
func Explain(names Names, err error) error {
	var e *pgconn.PgError
	where := names.URL
	either := where
	if names.Direct != "" {
		either += " (or " + names.Direct + ")"
	}
	if err != nil && strings.Contains(err.Error(), "\n") {
		err = lineError{err}
	}
	answered := errors.As(err, &e)
	if !answered && (errors.Is(err, pgconn.ErrStandbyConnection) || errors.Is(err, pgconn.ErrReadOnlyConnection)) {
		return fmt.Errorf("no server of %s takes changes now: those that answer are standbys, which lag behind; see first whether that names the primary, and why it does not answer; promote a standby only when it surely has ended: %w", where, unwritable{err})
	}
	if Broken(err) && (!answered || e.Code == adminShutdown || e.Code == crashShutdown) {
		return fmt.Errorf("the connection to PostgreSQL, or to the pooler before it, was ended meanwhile; is it being restarted? Try again: %w", err)
	}
	if !answered {
		if ofTLS(err) {
			return fmt.Errorf("TLS with PostgreSQL fails; does sslrootcert in %s name who signed the server's certificate, is that still valid, does it name the host of the url, does the server have TLS (ssl=on), and does it believe sslcert?: %w", where, err)
		}
		if ofKeyPair(err) {
			return fmt.Errorf("sslcert and sslkey of %s cannot be used; do they belong together, and may the daemon read them?: %w", where, err)
		}
		if errors.Is(err, context.DeadlineExceeded) {
			return fmt.Errorf("no answer from PostgreSQL, or from the pooler before it; does it hang, is it overloaded, or has the way to it broken?: %w", err)
		}
		if _, unreachable := errors.AsType[*pgconn.ConnectError](err); unreachable {
			return fmt.Errorf("no connection to PostgreSQL, or to the pooler before it; is it running where %s says, does this machine know each name there (DNS, /etc/hosts), does it listen there (listen_addresses, port), and does a firewall let this machine through?: %w", either, err)
		}
		return err
	}
	switch e.Code {
	case inRecovery:
		if _, unmade := errors.AsType[*pgconn.ConnectError](err); unmade {
			return fmt.Errorf("the server lets nobody connect to this database now; is that meant (ALLOW_CONNECTIONS)?: %w", err)
		}
		return fmt.Errorf("the server is a standby, which lags behind; let %s, or the pooler that it names, lead to the primary: %w", where, err)
	case startingOrEnding:
		return fmt.Errorf("PostgreSQL is starting, recovering from a crash, or shutting down; wait, and see its own log if that goes on: %w", err)
	case wrongPassword:
		return fmt.Errorf(mendPassword+": %w", names.Password, err)
	case notAdmitted:
		return fmt.Errorf("the server doesn't admit this user from here; mend the user in %s (and sslcert, sslkey, if a certificate is asked for), or the server's pg_hba.conf: %w", where, err)
	case noDatabase:
		return fmt.Errorf("the server has no such database; make it (createdb), or mend its name in %s: %w", where, err)
	case notEncodable:
		return fmt.Errorf("the database's encoding has no such character; leave it out, or move to a database with the encoding UTF8: %w", err)
	case ofPooler: // its code for all
		switch said := e.Message; {
		case strings.Contains(said, "startup parameter"): // which the server itself would know
			return fmt.Errorf("%w: %w", ErrPooler, err)
		case strings.Contains(said, "authentication failed"):
			return fmt.Errorf(mendPassword+": %w", names.Password, err)
		}
		return fmt.Errorf("the pooler that %s leads to refuses, or has lost the server: does it have this database, the password of now in its list of users, and room for more clients (max_client_conn), and is PostgreSQL running behind it?: %w", where, err)
	case readOnly:
		return fmt.Errorf("the server takes no changes, because it is a standby or read-only; name the primary in %s (target_session_attrs=read-write finds it among several): %w", where, unwritable{err})
	case saidNothing:
		return fmt.Errorf("%w: %w", errSaidNothing, err)
	case diskFull:
		return fmt.Errorf("%w: the server's disk is full; free some space: %w", store.ErrUnwritable, err)
	case noTable:
		return fmt.Errorf("a table is missing; does %s, or the pooler that it names, lead to tokend's database? Put a backup back, before any tokend is started; only where there were no tokens, start it again to make the tables: %w", where, err)
	case noRights:
		if unmade, ok := errors.AsType[*pgconn.ConnectError](err); ok {
			return fmt.Errorf("the user of %s may not connect to this database; have the database's owner say: GRANT CONNECT ON DATABASE %s TO %s: %w", where,
				spelled(unmade.Config.Database), spelled(unmade.Config.User), err)
		}
		return fmt.Errorf("the database's user lacks rights; make it the owner of the database, or of tokend's tables in it: %w", err)
	case tooManyConnected:
		return fmt.Errorf("the server has no connection left; lower %s, or raise its max_connections, or the user's own limit (ALTER ROLE): %w", names.Connections, err)
	}
	return err
}

// spelled is a name as SQL writes it, with no more quotes than it needs.
func spelled(name string) string {
	if plainName.MatchString(name) {
		return name
	}
	return pgx.Identifier{name}.Sanitize()
}

var plainName = regexp.MustCompile(`^[a-z_][a-z0-9_]*$`)

var errSaidNothing error = token.NotNowError("the server has ended this change, as it heard nothing of it for too long, and nothing was done; was tokend stopped, or is its machine overloaded? Try again")

// Ended reports whether the server has ended a transaction for which nothing was said to it any more: its commit, too,
// was not done.
func Ended(err error) bool {
	e, answered := errors.AsType[*pgconn.PgError](err)
	return answered && e.Code == saidNothing
}

// Refused reports whether there is no connection though a server answers: it gives none, or is not the one that is wanted.
func Refused(err error) bool {
	_, unmade := errors.AsType[*pgconn.ConnectError](err)
	_, answered := errors.AsType[*pgconn.PgError](err)
	return unmade && (answered || errors.Is(err, pgconn.ErrStandbyConnection) || errors.Is(err, pgconn.ErrReadOnlyConnection))
}

// unwritable is an error that is store.ErrUnwritable, too, and says why itself: who only reads is told the same.
type unwritable struct{ error }

func (e unwritable) Unwrap() []error { return []error{e.error, store.ErrUnwritable} }

// ErrPooler says what cannot be listened through: changes would not be heard of, and what
// one statement prepares the next may not find.
var ErrPooler = errors.New("it is a pooler that answers, where the database itself has to; let [store] url lead to the pooler, and direct_url past it, to the database")

// ofTLS tells whether the error is of a connection that was there, but not secure.
func ofTLS(err error) bool {
	_, certificate := errors.AsType[*tls.CertificateVerificationError](err)
	alert, network := errors.AsType[*net.OpError](err)
	if unmade, ok := errors.AsType[*pgconn.ConnectError](err); ok && withCertificate(unmade.Config) && (errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)) {
		return true // a server that does not believe it hangs up, before what it says of that is read
	}
	return certificate || network && alert.Op == "remote error" || err != nil && strings.Contains(err.Error(), "server refused TLS connection") // which has no type
}

// withCertificate tells whether the daemon shows one of its own.
func withCertificate(c *pgconn.Config) bool {
	return c.TLSConfig != nil && (len(c.TLSConfig.Certificates) > 0 || c.TLSConfig.GetClientCertificate != nil)
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

// Broken tells whether the error is of a connection that the server has ended, so that
// another may do. One that could not be made is not, unless the server is just ending.
func Broken(err error) bool {
	_, unmade := errors.AsType[*pgconn.ConnectError](err)
	if e, answered := errors.AsType[*pgconn.PgError](err); answered {
		ended := e.Code == adminShutdown || e.Code == crashShutdown
		return ended || !unmade && (e.Severity == fatal || e.SeverityUnlocalized == fatal || e.Code == ofPooler)
	}
	return err != nil && !unmade &&
		(errors.Is(err, pgconn.ErrConnClosed) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) ||
			errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET))
}
