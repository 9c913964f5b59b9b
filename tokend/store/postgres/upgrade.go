package postgres

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"

	"tokend/tokend/store"
	"tokend/tokend/store/server"
)

//go:embed migrations/*.sql
var migrations embed.FS

const (
	// upgradeTimeout is for each step of an upgrade, which may have all of a large table to
	// go through, and for the wait until another daemon has made it. The systemd unit waits as
	// long (TimeoutStartSec).
	upgradeTimeout = time.Hour
	// upgradeLockTimeout is how long a step may wait for others, who wait behind it.
	upgradeLockTimeout = 30 * time.Second
)

// upgrade brings the schema up to date. The lock is the server's, and ends with the
// connection.
func (s *Store) upgrade(ctx context.Context) (err error) {
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	locker, err := lock.NewPostgresSessionLocker(lock.WithLockTimeout(1, uint64(upgradeTimeout/time.Second)), lock.WithUnlockTimeout(1, 5))
	if err != nil {
		return err
	}
	db := s.openDirect()
	defer func() { err = errors.Join(err, db.Close()) }()
	writer, err := goose.NewProvider(goose.DialectPostgres, db, files,
		goose.WithSlog(s.log), goose.WithDisableGlobalRegistry(true), goose.WithSessionLocker(locker))
	if err != nil {
		return err
	}
	known, err := newestSchema()
	if err != nil {
		return err
	}
	was, err := version(ctx, db)
	switch {
	case err != nil:
		return err
	case was > known:
		return &store.NewerSchemaError{Database: was, Known: known}
	case was == known:
		return nil
	}
	if was > 0 {
		s.log.Info("the schema is being upgraded: with many tokens that may take minutes", "from", was, "to", known)
	}
	done, err := writer.Up(ctx)
	if err != nil {
		return fmt.Errorf("upgrade the schema from version %d to %d: %w", was, known, err)
	}
	switch {
	case len(done) == 0: // another daemon was first
	case was == 0: // where tokens are expected, the database is elsewhere
		s.log.Warn("the database was empty, and its tables were made: no token is known")
	default:
		s.log.Info("schema upgraded", "from", was, "to", known)
	}
	return nil
}

// openDirect is one connection to the server itself, as database/sql has it.
func (s *Store) openDirect() *sql.DB {
	settings := s.direct.ConnConfig.Copy()
	settings.RuntimeParams["statement_timeout"] = server.Milliseconds(upgradeTimeout)
	settings.RuntimeParams["lock_timeout"] = server.Milliseconds(upgradeLockTimeout)
	db := stdlib.OpenDB(*settings, stdlib.OptionBeforeConnect(s.direct.BeforeConnect))
	db.SetMaxOpenConns(1)
	return db
}

// newestSchema is the version that this program makes.
func newestSchema() (newest int64, err error) {
	files, err := fs.Glob(migrations, "migrations/*.sql")
	if err != nil {
		return 0, err
	}
	return goose.NumericComponent(files[len(files)-1])
}

// version reads which version the schema has: 0 if there is none yet.
func version(ctx context.Context, db *sql.DB) (version int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, otherTimeout)
	defer cancel()
	var there bool
	if err := db.QueryRowContext(ctx, `SELECT to_regclass('goose_db_version') IS NOT NULL`).Scan(&there); err != nil || !there {
		return 0, err
	}
	err = db.QueryRowContext(ctx, `SELECT coalesce(max(version_id), 0) FROM goose_db_version WHERE is_applied`).Scan(&version)
	return version, err
}
