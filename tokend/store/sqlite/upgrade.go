package sqlite

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"

	"github.com/pressly/goose/v3"

	"tokend/tokend/store"
)

//go:embed migrations/*.sql
var migrations embed.FS

// applicationID marks the file as tokend's: "tokd" in ASCII. The first
// migration writes it.
const applicationID = 0x746f6b64

// upgrade brings the schema up to date. It looks with a reader's connection
// first, so that a file which it refuses stays as it is.
func (s *Store) upgrade(ctx context.Context, mode access, log *slog.Logger) error {
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	writer, err := goose.NewProvider(goose.DialectSQLite3, s.writer, files,
		goose.WithSlog(log), goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return err
	}
	known, err := newestSchema()
	if err != nil {
		return err
	}
	version, err := version(ctx, s.readers)
	if err != nil {
		return err
	}
	switch {
	case version == known && mode != readWrite:
		log.Warn("the database is open for look-ups only, until tokend is started again", "path", s.path)
		return nil
	case version > known:
		return &store.NewerSchemaError{Database: version, Known: known}
	case version < known && mode != readWrite:
		return fmt.Errorf("its schema is of version %d and has to become %d, but it cannot be written: make it and its file system writable", version, known)
	}
	done, err := writer.Up(ctx)
	if err != nil {
		return fmt.Errorf("upgrade the schema from version %d to %d: %w", version, known, err)
	}
	switch {
	case len(done) == 0:
	case version == 0: // where tokens are expected, the database is elsewhere
		log.Warn("a new, empty database was made: no token is known", "path", s.path)
	default:
		log.Info("schema upgraded", "path", s.path, "from", version, "to", known)
	}
	return nil
}

// newestSchema is the version that this program makes.
func newestSchema() (newest int64, err error) {
	files, err := fs.Glob(migrations, "migrations/*.sql")
	if err != nil {
		return 0, err
	}
	return goose.NumericComponent(files[len(files)-1])
}

// version reads which version the schema has: 0 if there is none yet, also when
// the daemon that was making one was killed. A database of another program is
// an error.
func version(ctx context.Context, q rowQuerier) (version int64, err error) {
	var id, versions, others int64
	err = q.QueryRowContext(ctx, `SELECT (SELECT application_id FROM pragma_application_id),
		count(*) FILTER (WHERE name = 'goose_db_version'),
		count(*) FILTER (WHERE name <> 'goose_db_version' AND name NOT LIKE 'sqlite\_%' ESCAPE '\')
		FROM sqlite_schema WHERE type = 'table'`).Scan(&id, &versions, &others)
	switch {
	case err != nil:
		return 0, err
	case others > 0 && (id != applicationID || versions == 0):
		return 0, errors.New("it is an SQLite database, but not one of tokend's: name another file")
	case versions == 0:
		return 0, nil
	}
	err = q.QueryRowContext(ctx, `SELECT coalesce(max(version_id), 0) FROM goose_db_version WHERE is_applied`).Scan(&version)
	return version, err
}
