package postgres

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// The configuration alone says where the database is. A client of PostgreSQL would else take
// from the environment (PGHOST, PGPASSWORD and others) what a URL leaves out.
func init() {
	for _, setting := range os.Environ() {
		if name, _, _ := strings.Cut(setting, "="); strings.HasPrefix(name, "PG") {
			_ = os.Unsetenv(name) // which fails for no name that is there
		}
	}
}

// connectTimeout is for each server of the URL: one that is silent must leave time to try
// the others.
const connectTimeout = 2 * time.Second

// parse returns how to connect to what the URL under a key of [store] names.
func parse(key, text string, password func() (string, error)) (*pgxpool.Config, error) {
	if err := checkRegular(text, "sslrootcert", "sslcert", "sslkey"); err != nil {
		return nil, fmt.Errorf("[store] %s: %w", key, err)
	}
	settings, err := pgxpool.ParseConfig(text) // whose errors hide the password
	if file, ok := errors.AsType[*fs.PathError](err); ok {
		return nil, fmt.Errorf("[store] %s names a file that cannot be read: %w", key, file)
	}
	if err != nil {
		return nil, fmt.Errorf("[store] %s: %w", key, err)
	}
	settings.BeforeConnect = func(_ context.Context, c *pgx.ConnConfig) (err error) {
		if err := checkRegular(text, "sslcert", "sslkey"); err != nil { // which are read again
			return fmt.Errorf("[store] %s: %w", key, err)
		}
		c.Password = "" // such as of ~/.pgpass
		if password != nil {
			c.Password, err = password()
		}
		return err
	}
	settings.ConnConfig.ConnectTimeout = connectTimeout
	// Poolers know these, and keep them apart for their clients.
	settings.ConnConfig.RuntimeParams["application_name"] = "tokend"
	settings.ConnConfig.RuntimeParams["client_encoding"] = "UTF8"
	settings.ConnConfig.RuntimeParams["timezone"] = "UTC"
	return settings, nil
}

// longestPEM is far beyond all certificates that a machine believes.
const longestPEM = 16 << 20

// checkRegular returns an error if one of these parameters of the URL names a file from which reading
// could wait for ever, or have no end.
func checkRegular(text string, parameters ...string) error {
	u, err := url.Parse(text)
	if err != nil {
		return nil //nolint:nilerr // it is told by whoever reads the whole
	}
	u.RawQuery = strings.ReplaceAll(u.RawQuery, "+", "%2B") // for the driver it is no space
	for _, parameter := range parameters {
		name := u.Query().Get(parameter)
		if parameter == "sslrootcert" && name == "system" { // the authorities that the machine believes
			continue
		}
		switch info, err := os.Stat(name); {
		case err != nil: // as reading it will tell
		case !info.Mode().IsRegular():
			return fmt.Errorf("%s: %s is no regular file: write the PEM into one, and name that", parameter, name)
		case info.Size() > longestPEM:
			return fmt.Errorf("%s: %s has more than %d MiB, as no certificates have: name the file with the PEM", parameter, name, longestPEM>>20)
		}
	}
	return nil
}

// CheckFiles returns what is wrong with the files that the URLs name.
func CheckFiles(cfg Config) error {
	_, err := parse("url", cfg.URL, nil)
	if err == nil && cfg.Direct != "" {
		_, err = parse("direct_url", cfg.Direct, nil)
	}
	return err
}

// lastingSession is for connections to the server itself.
func lastingSession(settings *pgxpool.Config) {
	// The server ends what nobody waits for any more, also after a daemon's death.
	settings.ConnConfig.RuntimeParams["statement_timeout"] = milliseconds(otherTimeout)
	settings.ConnConfig.RuntimeParams["idle_in_transaction_session_timeout"] = milliseconds(2 * otherTimeout)
	// A standby lags behind, and tells nobody of changes.
	if settings.ConnConfig.ValidateConnect == nil {
		settings.ConnConfig.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsPrimary
	}
}

// anySession is for connections through a pooler, which may give each transaction to
// another session of the server: in none is there anything to come back to.
func anySession(settings *pgxpool.Config) {
	settings.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeCacheDescribe // and no named statement
}

// beginChange begins a transaction with what it needs of its session, in one round trip.
// It undoes a synchronous_commit=off of the server's, the database's or the user's, by
// which what was acknowledged may be lost; stronger settings stay.
var beginChange = pgx.TxOptions{BeginQuery: `BEGIN;
	SELECT set_config('synchronous_commit', 'on', true) WHERE current_setting('synchronous_commit') = 'off';
	SET LOCAL statement_timeout = ` + milliseconds(otherTimeout) + `;
	SET LOCAL idle_in_transaction_session_timeout = ` + milliseconds(2*otherTimeout)}

func milliseconds(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }

// Unproven returns those hosts of the URL, for a socket its folder, that don't have to prove
// who they are: others on the way to them could answer in their place. With verify-ca, or
// require and sslrootcert, that is whoever has a certificate of the same authority.
func Unproven(text string) (hosts []string) {
	if checkRegular(text, "sslrootcert", "sslcert", "sslkey") != nil {
		return nil // as connecting will tell
	}
	settings, err := pgconn.ParseConfig(text)
	if err != nil {
		return nil
	}
	for _, s := range append(settings.Fallbacks, &pgconn.FallbackConfig{Host: settings.Host, TLSConfig: settings.TLSConfig}) {
		if s.TLSConfig == nil || s.TLSConfig.InsecureSkipVerify {
			hosts = append(hosts, s.Host)
		}
	}
	return hosts
}

// describe names the database without its password.
func describe(c *pgx.ConnConfig) string {
	var servers []string
	for _, f := range append([]*pgconn.FallbackConfig{{Host: c.Host, Port: c.Port}}, c.Fallbacks...) {
		server := net.JoinHostPort(f.Host, strconv.Itoa(int(f.Port)))
		if strings.HasPrefix(f.Host, "/") { // the folder of a socket
			server = filepath.Join(f.Host, fmt.Sprint(".s.PGSQL.", f.Port))
		}
		if !slices.Contains(servers, server) { // each may be tried with TLS and without
			servers = append(servers, server)
		}
	}
	return fmt.Sprintf("database %q on %s", c.Database, strings.Join(servers, ", "))
}

// connect makes a connection to the server itself, beside the pools'.
func (s *Store) connect(ctx context.Context) (conn *pgx.Conn, err error) {
	settings := s.direct.Copy()
	err = within(ctx, otherTimeout+connectTimeout*time.Duration(len(settings.ConnConfig.Fallbacks)), func(ctx context.Context) error {
		if err := settings.BeforeConnect(ctx, settings.ConnConfig); err != nil {
			return err
		}
		conn, err = pgx.ConnectConfig(ctx, settings.ConnConfig)
		return err
	})
	switch {
	case err != nil && s.pooled:
		return nil, fmt.Errorf("past the pooler, by [store] direct_url, to %s: %w", describe(settings.ConnConfig), err)
	case err != nil:
		return nil, err
	}
	if err = refusePooler(ctx, conn); err != nil {
		return nil, errors.Join(err, hangUp(ctx, conn))
	}
	return conn, nil
}

// errPooler says what cannot be listened through: changes would not be heard of, and what
// one statement prepares the next may not find.
var errPooler = errors.New("it is a pooler that answers, where the database itself has to; let [store] url lead to the pooler, and direct_url past it, to the database")

// refusePooler makes sure that nothing stands between this end of the connection and its
// session: a pooler, whose sessions come and go, gives its clients numbers of its own.
func refusePooler(ctx context.Context, conn *pgx.Conn) error {
	return within(ctx, otherTimeout, func(ctx context.Context) error {
		var process uint32
		err := conn.QueryRow(ctx, `SELECT pg_backend_pid()`, pgx.QueryExecModeExec).Scan(&process)
		if err == nil && process != conn.PgConn().PID() {
			err = errPooler
		}
		return err
	})
}

func hangUp(ctx context.Context, conn *pgx.Conn) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), otherTimeout)
	defer cancel()
	return conn.Close(ctx)
}

func within(ctx context.Context, timeout time.Duration, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	return f(ctx)
}
