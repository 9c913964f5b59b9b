package sqlite

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"tokend/tokend/store"
	"tokend/tokend/token"
)

// Mint keeps a new token and the event that tells of it, whose User and Token
// it fills in. The owner becomes a user with the first token. It refuses with
// token.ErrUserDisabled, with store.ErrExists if the ID or digest is taken, and
// with token.ErrTooMany if the owner has as many tokens that are active when this
// one is created as the quota allows.
func (s *Store) Mint(ctx context.Context, record token.Record, quota token.Quota, event token.Event) error {
	event.User, event.Token = record.Owner, record.ID
	_, err := write(ctx, s, store.Mint, func(ctx context.Context, tx *sql.Tx) (any, error) {
		if err := store.CheckRecord(record); err != nil {
			return nil, err
		}
		if err := admit(ctx, tx, record, quota); err != nil {
			return nil, fmt.Errorf("user %q: %w", record.Owner, err)
		}
		return nil, insertRecord(ctx, tx, record, event)
	})
	return err
}

func insertRecord(ctx context.Context, tx *sql.Tx, record token.Record, event token.Event) error {
	_, err := tx.ExecContext(ctx, `INSERT INTO tokens (id, digest, owner, hint, label, created, expires, revoked, scheme, api)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`, record.ID, record.Digest.String(), record.Owner, record.Hint, record.Label,
		micros(record.Created), orNull(record.Expires), orNull(record.Revoked), string(record.Scheme), record.API)
	if exists(err) {
		return store.ErrExists
	}
	if err != nil {
		return err
	}
	return insertEvent(ctx, tx, event)
}

// admit makes the record's owner a user, or says why they get no further token.
func admit(ctx context.Context, tx *sql.Tx, record token.Record, quota token.Quota) error {
	disabled, err := disabledSince(ctx, tx, record.Owner)
	if errors.Is(err, token.ErrNotFound) {
		_, err := tx.ExecContext(ctx, `INSERT INTO users (name) VALUES (?)`, record.Owner)
		return err
	}
	if err != nil {
		return err
	}
	if !disabled.IsZero() {
		return token.ErrUserDisabled
	}
	if quota.Tokens == 0 {
		return nil
	}
	var active int
	err = tx.QueryRowContext(ctx, `SELECT count(*) FROM tokens WHERE owner = ? AND `+isActive,
		record.Owner, micros(record.Created), youngest(record.Created, quota.MaxLife)).Scan(&active)
	if err != nil {
		return err
	}
	if active >= quota.Tokens {
		return fmt.Errorf("%w: %d are active, %d are allowed", token.ErrTooMany, active, quota.Tokens)
	}
	return nil
}

// Revoke revokes the selected tokens that are not revoked yet, and writes an
// event for each of them, whose User and Token it fills in. It returns all
// selected records as they are afterwards, newest first, also with an error that
// leaves open whether it was done. An unknown ID, digest or owner is
// token.ErrNotFound.
func (s *Store) Revoke(ctx context.Context, selection token.Selection, at time.Time, event token.Event) ([]token.Record, error) {
	return write(ctx, s, store.Revoke, func(ctx context.Context, tx *sql.Tx) ([]token.Record, error) {
		if err := store.CheckTime(at); err != nil {
			return nil, err
		}
		where, value, err := selected(ctx, tx, selection)
		if err != nil {
			return nil, err
		}
		valid := where + ` AND t.revoked IS NULL`
		if _, err := tx.ExecContext(ctx, `INSERT INTO events (at, actor, action, user, token, detail)
			SELECT ?, ?, ?, t.owner, t.id, ? FROM tokens AS t `+valid+newestFirst,
			micros(event.At), event.Actor, string(event.Action), event.Detail, value); err != nil {
			return nil, err
		}
		if _, err := tx.ExecContext(ctx, `UPDATE tokens AS t SET revoked = ? `+valid, micros(at), value); err != nil {
			return nil, err
		}
		records, err := query(ctx, tx, scanRecord, selectRecords+where+newestFirst, value)
		if err == nil && len(records) == 0 && selection.Owner == "" && selection.Before.IsZero() {
			err = token.ErrNotFound
		}
		return records, err
	})
}

// ofOlder is what was created before and is not revoked, as IDs in JSON.
func ofOlder(ctx context.Context, tx *sql.Tx, s token.Selection) (ids string, err error) {
	err = tx.QueryRowContext(ctx, `SELECT json_group_array(id) FROM (SELECT id FROM tokens
		WHERE created < ? AND revoked IS NULL AND (? = '' OR owner = ?) ORDER BY created, id LIMIT ?)`,
		micros(s.Before), s.Owner, s.Owner, store.RevokedAtOnce).Scan(&ids)
	return ids, err
}

// selected returns the selection in SQL, with its parameter.
func selected(ctx context.Context, tx *sql.Tx, selection token.Selection) (where, value string, err error) {
	if err := store.CheckSelection(selection); err != nil {
		return "", "", err
	}
	switch {
	case !selection.Before.IsZero():
		value, err = ofOlder(ctx, tx, selection)
		return `WHERE t.id IN (SELECT value FROM json_each(?))`, value, err
	case selection.ID != "":
		return `WHERE t.id = ?`, selection.ID, nil
	case selection.Owner == "":
		return `WHERE t.digest = ?`, selection.Digest.String(), nil
	}
	if _, err := disabledSince(ctx, tx, selection.Owner); err != nil {
		return "", "", fmt.Errorf("user %q: %w", selection.Owner, err)
	}
	return `WHERE t.owner = ?`, selection.Owner, nil
}

// SetDisabled disables or enables a user, and writes an event, whose User it
// fills in, if that changes anything, and reports whether it did. It returns the
// digests of all tokens of the user that are not revoked, for caches to forget,
// also with an error that leaves open whether it was done. An unknown user is
// token.ErrNotFound.
func (s *Store) SetDisabled(ctx context.Context, user string, disabled bool, at time.Time, event token.Event) ([]token.Digest, bool, error) {
	event.User, event.Token = user, ""
	operation := store.Enable
	if disabled {
		operation = store.Disable
	}
	type result struct {
		digests []token.Digest
		changed bool
	}
	r, err := write(ctx, s, operation, func(ctx context.Context, tx *sql.Tx) (r result, err error) {
		if err := store.CheckTime(at); err != nil {
			return r, err
		}
		since, err := disabledSince(ctx, tx, user)
		if err != nil {
			return r, fmt.Errorf("user %q: %w", user, err)
		}
		if r.changed = disabled == since.IsZero(); r.changed {
			var to time.Time
			if disabled {
				to = at
			}
			if _, err := tx.ExecContext(ctx, `UPDATE users SET disabled = ? WHERE name = ?`, orNull(to), user); err != nil {
				return r, err
			}
			if err := insertEvent(ctx, tx, event); err != nil {
				return r, err
			}
		}
		r.digests, err = query(ctx, tx, scanDigest, `SELECT digest FROM tokens WHERE owner = ? AND revoked IS NULL`, user)
		return r, err
	})
	return r.digests, r.changed, err
}

// write runs f in a transaction of the operation. What f returned is returned
// with the error, too, if it is the commit that failed or was not waited for.
func write[T any](ctx context.Context, s *Store, op store.Operation, f func(context.Context, *sql.Tx) (T, error)) (T, error) {
	var tried atomic.Pointer[T]
	value, err := do(ctx, s, op, func(ctx context.Context) (none T, err error) {
		tx, err := s.writer.BeginTx(ctx, nil)
		if err != nil {
			return none, err
		}
		moved := s.inPlace() // before anything is written: a large change is in the -wal before its end
		var value T
		if moved == nil {
			if value, err = f(ctx, tx); err == nil {
				s.awaitThaw()
				moved = s.inPlace()
			}
		}
		if err := cmp.Or(moved, err); err != nil {
			_ = tx.Rollback() // says only that SQLite has rolled back already
			if moved != nil {
				s.letGo() //nolint:contextcheck // it goes on when the caller gives up
			}
			return none, err
		}
		tried.Store(&value)
		if err := tx.Commit(); err != nil {
			return value, err
		}
		if err := s.inPlace(); err != nil { // the change may be behind a gap
			return value, err
		}
		s.noteRead(ctx)
		return value, nil
	})
	if v := tried.Load(); err != nil && v != nil {
		value = *v
	}
	if errors.Is(err, store.ErrUnwritable) && !s.cut() {
		if _, cannot := s.Lookup(ctx, token.Digest{}); errors.Is(cannot, token.ErrNotFound) { // it is nobody's
			err = fmt.Errorf("%w; look-ups go on", err)
		}
	}
	return value, err
}

// awaitThaw waits while the file system is frozen for a snapshot, in a system call.
// SQLite may write to the -shm first, which is mapped into memory: that would wait
// in a page fault, which Go's scheduler does not know of, and all others would
// wait with it.
func (s *Store) awaitThaw() {
	_ = unix.Futimes(int(s.file.Fd()), nil) // with an error, too, it is not frozen
}

// noteRead makes the first read that follows a change. It notes in the -shm, which
// is mapped into memory, how far the readers are; what comes after it finds that
// there. A login that had to write it would wait as awaitThaw says.
func (s *Store) noteRead(ctx context.Context) {
	_, _ = s.read(ctx, token.Digest{}) // the change is made, whatever this says
}

func disabledSince(ctx context.Context, tx *sql.Tx, user string) (since time.Time, err error) {
	err = tx.QueryRowContext(ctx, `SELECT disabled FROM users WHERE name = ?`, user).Scan(instant{&since})
	if errors.Is(err, sql.ErrNoRows) {
		err = token.ErrNotFound
	}
	return since, err
}

const insertEventText = `INSERT INTO events (at, actor, action, user, token, detail) VALUES (?, ?, ?, ?, ?, ?)`

func eventColumns(e token.Event) []any {
	return []any{micros(e.At), e.Actor, string(e.Action), e.User, e.Token, e.Detail}
}

func insertEvent(ctx context.Context, tx *sql.Tx, e token.Event) error {
	_, err := tx.ExecContext(ctx, insertEventText, eventColumns(e)...)
	return err
}
