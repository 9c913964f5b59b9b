package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	driver "modernc.org/sqlite"
	code "modernc.org/sqlite/lib"

	"tokend/tokend/store"
)

// explain puts before an error of SQLite what an operator can do about it. An
// error of another kind it returns as it is.
func explain(path string, err error) error {
	var e *driver.Error
	if !errors.As(err, &e) {
		return err
	}
	switch e.Code() {
	case code.SQLITE_IOERR_SHORT_READ:
		return fmt.Errorf("%s, or %[1]s-wal, is shorter than it was: was it cut? If nobody did, the kernel's log says more: %w", path, err)
	case code.SQLITE_IOERR_READ, code.SQLITE_IOERR_DATA, code.SQLITE_IOERR_CORRUPTFS:
		return fmt.Errorf("%s cannot be read from its disk; the kernel's log says more: %w", path, err)
	}
	switch e.Code() & 0xff {
	case code.SQLITE_FULL:
		return fmt.Errorf("%w: the disk is full; free some space for %s: %w", store.ErrUnwritable, path, err)
	case code.SQLITE_READONLY:
		return fmt.Errorf("%w: %s was opened for look-ups only, or is read-only; make it, its folder and its file system writable and start tokend again: %w", store.ErrUnwritable, path, err)
	case code.SQLITE_IOERR:
		return fmt.Errorf("%w: the disk of %s is full or failing; free some space, or see the kernel's log: %w", store.ErrUnwritable, path, err)
	case code.SQLITE_BUSY, code.SQLITE_LOCKED:
		return fmt.Errorf("another program, a backup say, keeps %s locked; wait for it or end it: %w", path, err)
	case code.SQLITE_CANTOPEN:
		return fmt.Errorf("%w: %s, or %[2]s-wal or %[2]s-shm, cannot be opened; see that there is room for another file (df, df -i, a quota) "+
			"and that tokend may write them and their folder: %w", store.ErrUnwritable, path, err)
	case code.SQLITE_NOTADB:
		return fmt.Errorf("%s is not an SQLite database; name another file, or restore a backup: %w", path, err)
	case code.SQLITE_CORRUPT:
		return fmt.Errorf("%s is damaged, or its disk fails: see the kernel's log first; if the disk is well, stop tokend and restore a backup: %w", path, err)
	}
	return err
}

// ended tells whether the error says only that the time for it was over.
func ended(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, sql.ErrTxDone)
}

// exists tells whether the error says that the ID or digest is taken.
func exists(err error) bool {
	var e *driver.Error
	return errors.As(err, &e) && (e.Code() == code.SQLITE_CONSTRAINT_UNIQUE || e.Code() == code.SQLITE_CONSTRAINT_PRIMARYKEY)
}
