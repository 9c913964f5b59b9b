package postgres

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
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
	// upgradeLockTimeout is how long a step waits for others, such as a backup that reads a table: logins
	// that come meanwhile wait behind it. It is tried again after pauses, for so long.
	upgradeLockTimeout = 300 * time.Millisecond
	upgradePause       = time.Second
)

var upgradePatience = 30 * time.Second

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
	done, err := s.up(ctx, db, writer)
	if err != nil {
		return fmt.Errorf("upgrade the schema from version %d to %d: %w", was, known, err)
	}
	switch {
	case done == 0: // another daemon was first
	case was == 0: // where tokens are expected, the database is elsewhere
		s.log.Warn("the database was empty, and its tables were made: no token is known")
	default:
		s.log.Info("schema upgraded", "from", was, "to", known)
	}
	return nil
}

// up makes the steps that are missing, and returns how many it has made. One whose lock others hold for
// long is tried again.
func (s *Store) up(ctx context.Context, db *sql.DB, writer *goose.Provider) (done int, err error) {
	var said sync.Once
	var locked time.Duration // how long this step has found a table so
	for {
		begun := time.Now()
		made, err := writer.Up(ctx)
		if partly, ok := errors.AsType[*goose.PartialError](err); ok {
			made = partly.Applied
		}
		done += len(made)
		ended := time.Now()
		if len(made) > 0 {
			locked = 0
		}
		switch {
		case !isLocked(err) || ctx.Err() != nil:
			return done, err
		case locked > upgradePatience:
			return done, fmt.Errorf("somebody has had a table locked for %s: see pg_stat_activity, wait until that is over (it may be a backup), and start tokend again: %w", upgradePatience, err)
		}
		said.Do(func() {
			s.log.WarnContext(ctx, "the upgrade waits for somebody who has a table locked, such as a backup", "most", upgradePatience)
		})
		select {
		case <-ctx.Done():
			return done, ctx.Err()
		case <-time.After(upgradePause):
		}
		endVacuum(ctx, db)
		locked += min(ended.Sub(begun), 10*upgradeLockTimeout) + time.Since(ended) // for the rest it waited for another daemon
	}
}

// endVacuum waits until the server has given up to vacuum or analyse a table by itself, which it does for whoever
// has waited for deadlock_timeout. Neither logins nor changes wait for this lock. That it cannot be had is told
// by the step.
func endVacuum(ctx context.Context, db *sql.DB) {
	_ = server.Within(ctx, otherTimeout, func(ctx context.Context) error { // an open transaction ends with the connection
		_, err := db.ExecContext(ctx, `BEGIN; SET LOCAL lock_timeout = `+server.Milliseconds(otherTimeout-time.Second)+`;
			LOCK TABLE users, tokens, events IN SHARE UPDATE EXCLUSIVE MODE; COMMIT`)
		return err
	})
}

// isLocked tells whether a lock could not be had in time.
func isLocked(err error) bool {
	const notAvailable = "55P03"
	e, ok := errors.AsType[*pgconn.PgError](err)
	return ok && e.Code == notAvailable
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
