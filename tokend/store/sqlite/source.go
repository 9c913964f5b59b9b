package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"syscall"

	driver "modernc.org/sqlite"

	"tokend/tokend/store"
	"tokend/tokend/token"
)

// Source is a database from which everything is read, while no daemon has it open. It
// is one of store.Rows.
type Source struct {
	db   *Store
	conn *sql.Conn
}

var _ store.Rows = (*Source)(nil)

// OpenSource opens a database for reading, with what a killed daemon has left in its
// -wal, and keeps daemons and other programs out until Close. It changes none of the
// files and makes none. Where a daemon has the database open, it is store.ErrLocked; a
// schema that is not this program's is refused, a newer one with a
// *store.NewerSchemaError.
func OpenSource(ctx context.Context, path string) (*Source, error) {
	named, err := filepath.Abs(path)
	if err != nil || path == "" {
		return nil, errors.Join(errors.New("open the database: it has no path"), err)
	}
	s := &Source{db: &Store{named: named, path: resolved(named)}}
	if err := s.open(ctx); err != nil {
		if errors.Is(err, fs.ErrPermission) {
			err = notOurs(err)
		}
		return nil, fmt.Errorf("open %s: %w", named, errors.Join(err, s.Close())) //nolint:contextcheck // ctx may have ended
	}
	return s, nil
}

func (s *Source) open(ctx context.Context) error {
	if err := s.db.checkLeft(); err != nil {
		return err
	}
	if err := s.claim(); err != nil {
		return err
	}
	if err := errors.Join(s.db.checkMount(), s.db.checkOwners(), s.db.checkLeft()); err != nil {
		return err
	}
	if info, err := os.Stat(s.db.path + "-journal"); err == nil && info.Size() > 0 {
		return fmt.Errorf("%s-journal has a change that was broken off: start the daemon over this database, which clears it up, and stop it again", s.db.path)
	}
	mode := readOnlyAll
	if holdsChanges(s.db.path + "-wal") {
		mode = readOnlyAlone // which makes no -shm, and reads none that a killed daemon left
	}
	if err := s.db.checkWhole(); err != nil {
		return err
	}
	if err := s.db.remember(mode); err != nil {
		return err
	}
	s.db.readers = sql.OpenDB(connector{s.db, readerName(s.db.path, mode)})
	s.db.readers.SetMaxOpenConns(1)
	return explain(s.db.path, s.begin(ctx))
}

// claim keeps daemons out, also one that shares only the -wal, and other programs.
func (s *Source) claim() error {
	file, err := os.OpenFile(s.db.path, os.O_RDWR, 0) // as lockOut needs it
	readOnly := errors.Is(err, syscall.EROFS)         // where nobody can change it anyway
	if readOnly {
		file, err = os.Open(s.db.path)
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return errors.New("it is not there: name the database that the daemon had, with --from")
	case errors.Is(err, syscall.EISDIR):
		return errors.New("it is a directory: name the file in it")
	case err != nil:
		return err
	}
	s.db.file = file
	if info, err := file.Stat(); err != nil || !info.Mode().IsRegular() {
		return errors.Join(errors.New("it is no regular file: name another"), err)
	}
	err = lock(file)
	if err == nil {
		if err = s.db.lockWAL(); errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
	}
	switch {
	case errors.Is(err, store.ErrLocked):
		return fmt.Errorf("%w%s: stop it first, because what it changed from now on would be lost", store.ErrLocked, holder(file))
	case err != nil || readOnly:
		return err
	}
	if err := lockOut(file); err != nil {
		return fmt.Errorf("another program, a backup say, has it open; wait for it or end it: %w", err)
	}
	return nil
}

// begin opens the connection and looks whether all can be read that is there.
func (s *Source) begin(ctx context.Context) (err error) {
	if s.conn, err = s.db.readers.Conn(ctx); err != nil {
		return err
	}
	// Without this, SQLite removes a -wal at the end that has nothing whole in it.
	if err := s.conn.Raw(func(c any) error {
		_, err := c.(driver.FileControl).FileControlPersistWAL("main", 1)
		return err
	}); err != nil {
		return err
	}
	known, err := newestSchema()
	if err != nil {
		return err
	}
	switch version, err := version(ctx, s.conn); {
	case err != nil:
		return err
	case version > known:
		return &store.NewerSchemaError{Database: version, Known: known}
	case version < known:
		return fmt.Errorf("its schema is of version %d, and this tokend reads %d: start this one's daemon over it, which upgrades it, and stop it again", version, known)
	}
	var id, owner string
	err = s.conn.QueryRowContext(ctx, `SELECT id, owner FROM tokens WHERE owner NOT IN (SELECT name FROM users) LIMIT 1`).Scan(&id, &owner)
	switch {
	case err == nil:
		return fmt.Errorf("token %q is of %q, who is not among the users: another program changed this database; restore a backup, or make that user", id, owner)
	case errors.Is(err, sql.ErrNoRows):
		return nil
	}
	return err
}

// Close lets daemons in again. Closing twice is no error.
func (s *Source) Close() error {
	var err error
	if s.conn != nil {
		if err = s.conn.Close(); errors.Is(err, sql.ErrConnDone) { // a second time
			err = nil
		}
	}
	return errors.Join(err, s.db.Close())
}

// Rows is how many there are to read.
func (s *Source) Rows(ctx context.Context) (count int64, err error) {
	err = s.conn.QueryRowContext(ctx, `SELECT (SELECT count(*) FROM users) + (SELECT count(*) FROM tokens) + (SELECT count(*) FROM accounts) + (SELECT count(*) FROM uses) + (SELECT count(*) FROM events)`).Scan(&count)
	return count, explain(s.db.path, err)
}

// Users implements store.Rows.
func (s *Source) Users(ctx context.Context) iter.Seq2[token.User, error] {
	return each(ctx, s, scanUser, `SELECT name, disabled, 0 FROM users ORDER BY name`)
}

// Records implements store.Rows. Those that are missing from the index of the IDs, by
// which they are read, are an error.
func (s *Source) Records(ctx context.Context) iter.Seq2[token.Record, error] {
	return func(yield func(token.Record, error) bool) {
		var told, kept int64
		for record, err := range each(ctx, s, scanRecord, `SELECT id, digest, owner, hint, label, created, expires, revoked, scheme, api, false FROM tokens ORDER BY id`) {
			told++
			if !yield(record, err) || err != nil {
				return
			}
		}
		err := s.conn.QueryRowContext(ctx, `SELECT count(*) FROM tokens NOT INDEXED`).Scan(&kept)
		if err == nil && told != kept {
			err = fmt.Errorf("%s is damaged: of its %d tokens, %d are found by their IDs; restore a backup", s.db.path, kept, told)
		}
		if err != nil {
			yield(token.Record{}, explain(s.db.path, err))
		}
	}
}

// Accounts implements store.Rows.
func (s *Source) Accounts(ctx context.Context) iter.Seq2[token.Account, error] {
	return each(ctx, s, scanAccount, selectAccounts+`ORDER BY name`)
}

// Uses implements store.Rows.
func (s *Source) Uses(ctx context.Context) iter.Seq2[token.Use, error] {
	return each(ctx, s, scanUse, `SELECT token, at, api FROM uses ORDER BY token`)
}

// Events implements store.Rows.
func (s *Source) Events(ctx context.Context) iter.Seq2[token.Event, error] {
	return each(ctx, s, scanEvent, `SELECT number, at, actor, action, user, token, detail FROM events ORDER BY number`)
}

// each tells one row of the answer after the other.
func each[T any](ctx context.Context, s *Source, scan func(row) (T, error), text string) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var none T
		rows, err := s.conn.QueryContext(ctx, text)
		if err != nil {
			yield(none, explain(s.db.path, err))
			return
		}
		defer rows.Close() //nolint:errcheck // what it says, Err has said
		for rows.Next() {
			one, err := scan(rows)
			if !yield(one, err) || err != nil {
				return
			}
		}
		if err := rows.Err(); err != nil {
			yield(none, explain(s.db.path, err))
		}
	}
}
