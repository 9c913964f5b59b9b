// Package server is what the stores that ask a PostgreSQL server have in common: how to connect to it,
// and what its errors mean.
package server

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

// ConnectTimeout is for each server of the URL: one that is silent must leave time to try
// the others.
const ConnectTimeout = 2 * time.Second

// Parse returns how to connect to what the URL names; key is what its errors call it, such as "[store] url".
func Parse(key, text string, password func() (string, error)) (*pgxpool.Config, error) {
	if err := checkRegular(text, "sslrootcert", "sslcert", "sslkey"); err != nil {
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	settings, err := pgxpool.ParseConfig(text) // whose errors hide the password
	if file, ok := errors.AsType[*fs.PathError](err); ok {
		return nil, fmt.Errorf("%s names a file that cannot be read: %w", key, file)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	settings.BeforeConnect = func(_ context.Context, c *pgx.ConnConfig) (err error) {
		if err := checkRegular(text, "sslcert", "sslkey"); err != nil { // which are read again
			return fmt.Errorf("%s: %w", key, err)
		}
		if c.ValidateConnect != nil {
			c.ValidateConnect = validated(c.ValidateConnect)
		}
		c.Password = "" // such as of ~/.pgpass
		if password != nil {
			c.Password, err = password()
		}
		return err
	}
	settings.ConnConfig.ConnectTimeout = ConnectTimeout
	settings.ConnConfig.DialFunc, settings.ConnConfig.AfterConnect = newDialer().dial, established
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

// Describe names the database without its password.
func Describe(c *pgx.ConnConfig) string {
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

// Within runs f with a deadline.
func Within(ctx context.Context, timeout time.Duration, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	return f(ctx)
}

// Milliseconds is a setting of the server's.
func Milliseconds(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }

// Again calls f until its connection does not turn out to be broken. Of all of the pool that
// were idle when the server ended them, each is met once.
func Again[T any](ctx context.Context, pool *pgxpool.Pool, f func() (T, error)) (T, error) {
	for tries := int32(0); ; tries++ {
		value, err := f()
		if !Broken(err) || ctx.Err() != nil || tries == pool.Stat().MaxConns() {
			return value, err
		}
	}
}
