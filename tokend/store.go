package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sys/unix"

	"tokend/config"
	"tokend/tokend/manage"
	"tokend/tokend/store/knox"
	"tokend/tokend/store/postgres"
	"tokend/tokend/store/sqlite"
	"tokend/tokend/token"
	"tokend/tokend/verify"
)

// tokenStore is what the daemon asks of its store.
type tokenStore interface {
	verify.Source
	manage.Store
	manage.UseStore
	Ping(ctx context.Context) error
	Close() error
}

// shared is a store of several daemons: it tells of what the others change, whether it
// hears of that now and why not, why nothing can be changed, whether its pooler leads elsewhere, since when it is the one that it is, and whether what was
// looked up is of it, the time that all go by, and the keys of a cache that they share.
type shared interface {
	Watch(ctx context.Context, forget postgres.Forget, keys postgres.TakeKeys)
	Hears() bool
	Heard() time.Time
	WatchErr() error
	ChangesErr() error
	Elsewhere() bool
	Since() time.Time
	Proved(since time.Time) bool
	Now() time.Time
	CacheKeys(ctx context.Context) ([]postgres.CacheKey, error)
	RotateCacheKey(ctx context.Context, event token.Event) (newest uint32, err error)
}

var _ shared = (*postgres.Store)(nil)

// openStore opens the configured one.
func openStore(ctx context.Context, cfg config.Store, log *slog.Logger, reg prometheus.Registerer) (tokenStore, error) {
	if cfg.URL == "" {
		return noStore{}, nil
	}
	if !config.IsPostgreSQL(cfg.URL) {
		return sqlite.Open(ctx, sqlite.Config{Path: strings.TrimPrefix(cfg.URL, sqliteScheme), Logger: log, Registerer: reg})
	}
	return postgres.Open(ctx, postgreSQL(cfg, log, reg))
}

// openKnox opens the configured tables of Knox; nil where there are none.
func openKnox(ctx context.Context, cfg config.Knox, log *slog.Logger, reg prometheus.Registerer) (*knox.Store, error) {
	if cfg.URL == "" {
		return nil, nil //nolint:nilnil // nil is none
	}
	return knox.Open(ctx, knox.Config{
		URL: cfg.URL, Password: passwordIn(log, "[knox] password_file", cfg.PasswordFile), Connections: cfg.Connections,
		Tables: knox.Tables{
			Tokens: cfg.TokenTable, Users: cfg.UserTable, Username: cfg.UsernameColumn, Active: cfg.ActiveColumn, Scheme: knox.Scheme(cfg.Scheme),
		},
		Logger: log, Registerer: reg,
	})
}

const sqliteScheme = "sqlite:"

// postgreSQL is how the configured database is opened.
func postgreSQL(cfg config.Store, log *slog.Logger, reg prometheus.Registerer) postgres.Config {
	return postgres.Config{
		URL: cfg.URL, Direct: cfg.DirectURL, Password: passwordIn(log, "[store] password_file", cfg.PasswordFile),
		Connections: cfg.Connections, Logger: log, Registerer: reg,
	}
}

// passwordIn returns what reads the password in the file that the key of the configuration
// names; nil where there is none.
func passwordIn(log *slog.Logger, key, file string) func() (string, error) {
	if file == "" {
		return nil
	}
	warnOfOpen(log, key, file)
	return func() (string, error) {
		password, err := readSecretFile(file)
		if err != nil {
			err = fmt.Errorf("%s: %w", key, err)
		}
		return password, err
	}
}

func warnOfOpen(log *slog.Logger, key, file string) {
	path, err := secretPath(file)
	if err != nil {
		return // as reading it will tell
	}
	if info, err := os.Stat(path); err == nil && info.Mode().Perm()&0o007 != 0 {
		log.Warn("the file with a password is open to all users; chmod 600 would close it", "key", key, "path", path, "mode", info.Mode().Perm().String())
	}
}

// longestSecret is far beyond any password.
const longestSecret = 4096

// errNoCredentials is that this was not started by systemd, or by a unit without them.
var errNoCredentials = errors.New("systemd has handed over none")

// secretPath is where a secret's file is: at its path, or, if the name is a credential's,
// where systemd has put that.
func secretPath(name string) (string, error) {
	if filepath.IsAbs(name) {
		return name, nil
	}
	dir := os.Getenv("CREDENTIALS_DIRECTORY")
	if dir == "" {
		return "", fmt.Errorf("%s is the name of a credential, and %w: write LoadCredential=%[1]s:PATH into the unit, or an absolute path into the configuration; where a command is run by hand, CREDENTIALS_DIRECTORY names the folder", name, errNoCredentials)
	}
	return filepath.Join(dir, name), nil
}

// readSecretFile reads the one line of a secret's file. Of what is none, such as a pipe that
// nobody writes to, it does not wait for anything.
func readSecretFile(name string) (string, error) {
	name, err := secretPath(name)
	if err != nil {
		return "", err
	}
	file, err := os.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return "", err
	}
	defer file.Close() //nolint:errcheck // it was only read
	info, err := file.Stat()
	switch {
	case err != nil:
		return "", err
	case !info.Mode().IsRegular():
		return "", fmt.Errorf("%s is no regular file, from which alone a password is read: write it into one, and name that", name)
	}
	text, err := io.ReadAll(io.LimitReader(file, longestSecret+1))
	if err != nil {
		return "", err
	}
	text = bytes.TrimSuffix(bytes.TrimSuffix(text, []byte("\n")), []byte("\r"))
	switch {
	case len(text) == 0:
		return "", fmt.Errorf("%s is empty: write the password into it", name)
	case len(text) > longestSecret, bytes.ContainsAny(text, "\n\x00"):
		return "", errors.New(name + " holds more than a line, or a NUL: write only the password into it")
	}
	return string(text), nil
}
