package postgres

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"

	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"

	"tokend/tokend/store"
)

//go:embed migrations/*.sql
var migrations embed.FS

// upgrade brings the schema up to date. The lock is the server's, and ends with the
// connection.
func (s *Store) upgrade(ctx context.Context) (err error) {
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	locker, err := lock.NewPostgresSessionLocker(lock.WithLockTimeout(1, 30), lock.WithUnlockTimeout(1, 5))
	if err != nil {
		return err
	}
	db := stdlib.OpenDBFromPool(s.pool)
	defer func() { err = errors.Join(err, db.Close()) }()
	writer, err := goose.NewProvider(goose.DialectPostgres, db, files,
		goose.WithSlog(s.log), goose.WithDisableGlobalRegistry(true), goose.WithSessionLocker(locker))
	if err != nil {
		return err
	}
	sources := writer.ListSources()
	known := sources[len(sources)-1].Version
	version, err := s.version(ctx)
	switch {
	case err != nil:
		return explain(err)
	case version > known:
		return &store.NewerSchemaError{Database: version, Known: known}
	case version == known:
		return nil
	}
	done, err := writer.Up(ctx)
	if err != nil {
		return fmt.Errorf("upgrade the schema from version %d to %d: %w", version, known, explain(err))
	}
	switch {
	case len(done) == 0: // another daemon was first
	case version == 0: // where tokens are expected, the database is elsewhere
		s.log.Warn("the database was empty, and its tables were made: no token is known")
	default:
		s.log.Info("schema upgraded", "from", version, "to", known)
	}
	return nil
}

// version reads which version the schema has: 0 if there is none yet.
func (s *Store) version(ctx context.Context) (version int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, otherTimeout)
	defer cancel()
	var there bool
	if err := s.pool.QueryRow(ctx, `SELECT to_regclass('goose_db_version') IS NOT NULL`).Scan(&there); err != nil || !there {
		return 0, err
	}
	err = s.pool.QueryRow(ctx, `SELECT coalesce(max(version_id), 0) FROM goose_db_version WHERE is_applied`).Scan(&version)
	return version, err
}
