package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"tokend/tokend/store"
	"tokend/tokend/store/server"
	"tokend/tokend/token"
)

// Mint keeps a new token and the event that tells of it, whose User and Token it fills
// in. The owner becomes a user with the first token. It refuses with
// token.ErrUserDisabled, with store.ErrExists if the ID or digest is taken, and with
// token.ErrTooMany if the owner has as many tokens that are active when this one is
// created as the quota allows.
func (s *Store) Mint(ctx context.Context, record token.Record, quota token.Quota, event token.Event) error {
	event.User, event.Token = record.Owner, record.ID
	_, err := write(ctx, s, store.Mint, func(ctx context.Context, tx pgx.Tx) (none, error) {
		if err := store.CheckRecord(record); err != nil {
			return none{}, err
		}
		if err := admit(ctx, tx, record, quota); err != nil {
			return none{}, fmt.Errorf("user %q: %w", record.Owner, err)
		}
		return none{}, insertRecord(ctx, tx, record, event)
	})
	return err
}

func insertRecord(ctx context.Context, tx pgx.Tx, record token.Record, event token.Event) error {
	_, err := tx.Exec(ctx, `INSERT INTO tokens (digest, id, owner, hint, label, created, expires, revoked, scheme, api)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)`, record.Digest[:], record.ID, record.Owner, record.Hint, record.Label,
		record.Created, orNull(record.Expires), orNull(record.Revoked), string(record.Scheme), record.API)
	if exists(err) {
		return store.ErrExists
	}
	if err != nil {
		return err
	}
	return insertEvent(ctx, tx, event)
}

// admit makes the record's owner a user, or says why they get no further token.
func admit(ctx context.Context, tx pgx.Tx, record token.Record, quota token.Quota) error {
	if _, err := tx.Exec(ctx, `INSERT INTO users (name) VALUES ($1) ON CONFLICT DO NOTHING`, record.Owner); err != nil {
		return err
	}
	disabled, err := disabledSince(ctx, tx, record.Owner)
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
	err = tx.QueryRow(ctx, `SELECT count(*) FROM tokens WHERE owner = $1 AND `+isActive(2),
		record.Owner, record.Created, youngest(record.Created, quota.MaxLife)).Scan(&active)
	if err != nil {
		return err
	}
	if active >= quota.Tokens {
		return fmt.Errorf("%w: %d are active, %d are allowed", token.ErrTooMany, active, quota.Tokens)
	}
	return nil
}

// Revoke revokes the selected tokens that are not revoked yet, and writes an event for
// each of them, whose User and Token it fills in. It returns all selected records as they
// are afterwards, newest first, also with an error that leaves open whether it was done.
// An unknown ID, digest or owner is token.ErrNotFound.
func (s *Store) Revoke(ctx context.Context, selection token.Selection, at time.Time, event token.Event) ([]token.Record, error) {
	return write(ctx, s, store.Revoke, func(ctx context.Context, tx pgx.Tx) ([]token.Record, error) {
		if err := store.CheckTime(at); err != nil {
			return nil, err
		}
		where, value, err := selected(ctx, tx, selection)
		if err != nil {
			return nil, err
		}
		// The rows are locked before the events are written, in the order of all who do so.
		if _, err := tx.Exec(ctx, `SELECT FROM tokens AS t `+where+newestFirst+`FOR NO KEY UPDATE`, value); err != nil {
			return nil, err
		}
		if err := lockTrail(ctx, tx); err != nil {
			return nil, err
		}
		if _, err := tx.Exec(ctx, `INSERT INTO events (at, actor, action, "user", token, detail)
			SELECT $2, $3, $4, t.owner, t.id, $5 FROM tokens AS t `+where+` AND t.revoked IS NULL`+newestFirst,
			value, event.At, event.Actor, event.Action, event.Detail); err != nil {
			return nil, err
		}
		if _, err := tx.Exec(ctx, `UPDATE tokens AS t SET revoked = $2 `+where+` AND t.revoked IS NULL`, value, at); err != nil {
			return nil, err
		}
		if err := notify(ctx, tx); err != nil {
			return nil, err
		}
		records, err := query(ctx, tx, scanRecord, selectRecords+where+newestFirst, value)
		if err == nil && len(records) == 0 && selection.Owner == "" && selection.Before.IsZero() {
			err = token.ErrNotFound
		}
		return records, err
	})
}

// selected returns the selection in SQL, with its parameter, which is the first.
func selected(ctx context.Context, tx pgx.Tx, selection token.Selection) (where string, value any, err error) {
	if err := store.CheckSelection(selection); err != nil {
		return "", nil, err
	}
	switch {
	case !selection.Before.IsZero():
		ids, err := query(ctx, tx, pgx.RowTo[string], `SELECT id FROM tokens WHERE created < $1 AND revoked IS NULL AND ($2 = '' OR owner = $2) ORDER BY created, id LIMIT $3`,
			selection.Before, selection.Owner, store.RevokedAtOnce)
		return `WHERE t.id = ANY($1)`, ids, err
	case selection.ID != "":
		return `WHERE t.id = $1`, selection.ID, nil
	case selection.Owner == "":
		return `WHERE t.digest = $1`, selection.Digest[:], nil
	}
	if _, err := disabledSince(ctx, tx, selection.Owner); err != nil {
		return "", nil, fmt.Errorf("user %q: %w", selection.Owner, err)
	}
	return `WHERE t.owner = $1`, selection.Owner, nil
}

// SetDisabled disables or enables a user, and writes an event, whose User it fills in, if
// that changes anything, and reports whether it did. It returns the digests of all tokens
// of the user that are not revoked, for caches to forget, also with an error that leaves
// open whether it was done. An unknown user is token.ErrNotFound.
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
	r, err := write(ctx, s, operation, func(ctx context.Context, tx pgx.Tx) (r result, err error) {
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
			if _, err := tx.Exec(ctx, `UPDATE users SET disabled = $2 WHERE name = $1`, user, orNull(to)); err != nil {
				return r, err
			}
			if err := errors.Join(insertEvent(ctx, tx, event), notify(ctx, tx)); err != nil {
				return r, err
			}
		}
		r.digests, err = query(ctx, tx, scanDigest, `SELECT digest FROM tokens WHERE owner = $1 AND revoked IS NULL`, user)
		return r, err
	})
	return r.digests, r.changed, err
}

// write runs f in a transaction of the operation. What f returned is returned with the
// error, too, if it is the commit that was not answered, or not waited for.
func write[T any](ctx context.Context, s *Store, op store.Operation, f func(context.Context, pgx.Tx) (T, error)) (T, error) {
	return do(ctx, s, op, func(ctx context.Context) (nothing T, err error) {
		tx, err := s.startChange(ctx)
		if err != nil {
			return nothing, unmadeError{err}
		}
		value, err := f(ctx, tx)
		if err != nil {
			rollback(ctx, tx)
			return nothing, err
		}
		if err = unsure(tx.Commit(ctx)); err != nil && !errors.Is(err, token.ErrUnsure) {
			return nothing, err
		}
		return value, err
	})
}

// unmadeError is of a change that was not begun: that its time is up leaves nothing open.
type unmadeError struct{ error }

// Is hides that the time is up.
func (e unmadeError) Is(target error) bool {
	return target != context.DeadlineExceeded && errors.Is(e.error, target)
}

// As is errors.As.
func (e unmadeError) As(target any) bool { return errors.As(e.error, target) }

// beginChange begins one.
func (s *Store) beginChange(ctx context.Context) (pgx.Tx, error) {
	tx, conn, err := renewed(ctx, s.pool, func(ctx context.Context, conn *pgxpool.Conn) (pgx.Tx, error) { return conn.BeginTx(ctx, changing) })
	if err != nil {
		return nil, err
	}
	return &change{tx, conn}, nil
}

// change is a transaction that gives its connection back when it ends.
type change struct {
	pgx.Tx
	conn *pgxpool.Conn
}

func (c *change) Commit(ctx context.Context) error {
	defer c.conn.Release()
	return c.Tx.Commit(ctx)
}

func (c *change) Rollback(ctx context.Context) error {
	defer c.conn.Release()
	return c.Tx.Rollback(ctx)
}

// renewAfter is how long those who change nothing yet wait for an answer on a connection that was there.
const renewAfter = time.Second

// connectPause is between two tries to connect, which may fail at once.
const connectPause = 50 * time.Millisecond

// renewed asks on one of the pool's connections, which it returns with the answer. If there is none, it asks once
// more, with new connections in the place of all: what is sent on those that there are may get lost without a
// word.
func renewed[T any](ctx context.Context, pool *pgxpool.Pool, ask func(context.Context, *pgxpool.Conn) (T, error)) (value T, conn *pgxpool.Conn, err error) {
	silent := false
	once := func(patience time.Duration) (T, error) {
		conn, err = pool.Acquire(ctx)
		for server.TimedOut(err) && ctx.Err() == nil { // the server may answer within this one's time
			time.Sleep(connectPause)
			why := err
			if conn, err = pool.Acquire(ctx); err != nil && ctx.Err() != nil {
				err = why // that the time is up says less
			}
		}
		if err != nil {
			return value, err
		}
		err = server.Within(ctx, patience, func(ctx context.Context) error {
			value, err = ask(ctx, conn)
			silent = errors.Is(err, context.DeadlineExceeded)
			return err
		})
		if err != nil {
			conn.Release()
		}
		return value, err
	}
	for _, patience := range []time.Duration{renewAfter, otherTimeout} {
		if value, err = server.Again(ctx, pool, func() (T, error) { return once(patience) }); !silent || ctx.Err() != nil {
			break
		}
		pool.Reset()
	}
	return value, conn, err
}

// unsure marks the error of a commit that the server did not answer.
func unsure(err error) error {
	var answered *pgconn.PgError
	if err == nil || server.Ended(err) || errors.As(err, &answered) && !server.Broken(err) {
		return err
	}
	return fmt.Errorf("%w: %w", token.ErrUnsure, err)
}

// rollback gives the connection back also where the time is up. What a server doesn't
// answer ends the connection, and that the transaction.
func rollback(ctx context.Context, tx pgx.Tx) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lookupTimeout)
	defer cancel()
	_ = tx.Rollback(ctx) // why is told by the error that led here
}

// disabledSince locks the user until the end of the transaction: of two changes to a
// user's tokens, the second sees what the first did.
func disabledSince(ctx context.Context, tx pgx.Tx, user string) (since time.Time, err error) {
	err = tx.QueryRow(ctx, `SELECT disabled FROM users WHERE name = $1 FOR UPDATE`, user).Scan((*instant)(&since))
	if errors.Is(err, pgx.ErrNoRows) {
		err = token.ErrNotFound
	}
	return since, err
}

// trailLock is the number of the lock for those who write to the audit trail: "tokd".
const trailLock = 0x746f6b64

// lockTrail makes the order of the events' numbers that of their commits.
func lockTrail(ctx context.Context, tx pgx.Tx) error {
	_, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock($1)`, trailLock)
	return err
}

// notify wakes those who Watch, once the transaction is committed.
func notify(ctx context.Context, tx pgx.Tx) error {
	_, err := tx.Exec(ctx, `SELECT pg_notify($1, '')`, channel)
	return err
}

func insertEvent(ctx context.Context, tx pgx.Tx, e token.Event) error {
	if err := lockTrail(ctx, tx); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, `INSERT INTO events (at, actor, action, "user", token, detail) VALUES ($1, $2, $3, $4, $5, $6)`,
		e.At, e.Actor, e.Action, e.User, e.Token, e.Detail)
	return err
}
