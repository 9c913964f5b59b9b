package sqlite

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"time"

	"tokend/tokend/store"
	"tokend/tokend/token"
)

const selectTickets = `SELECT k.digest, k.kind, k.owner, k.ref, k.data, k.created, k.expires, k.version,
	EXISTS (SELECT 1 FROM users AS u WHERE u.name = k.owner AND u.disabled IS NOT NULL) FROM tickets AS k `

// PutTicket keeps a new ticket, and the events that tell of it. It refuses with store.ErrExists if the digest
// is taken, and with token.ErrTooMany if as many of its kind are good when it is created as there may be; 0 is no limit.
func (s *Store) PutTicket(ctx context.Context, t token.Ticket, most int, events ...token.Event) error {
	_, err := write(ctx, s, store.Tickets, func(ctx context.Context, tx *sql.Tx) (any, error) {
		if err := store.CheckTicket(t); err != nil {
			return nil, err
		}
		if most > 0 {
			var there int
			if err := tx.QueryRowContext(ctx, `SELECT count(*) FROM tickets WHERE kind = ? AND expires >= ?`, string(t.Kind), micros(t.Created)).Scan(&there); err != nil {
				return nil, err
			}
			if there >= most {
				return nil, token.ErrTooMany
			}
		}
		_, err := tx.ExecContext(ctx, `INSERT INTO tickets (digest, kind, owner, ref, data, created, expires, version) VALUES (?, ?, ?, ?, ?, ?, ?, ?)`,
			t.Digest.String(), string(t.Kind), t.Owner, t.Ref, string(t.Data), micros(t.Created), micros(t.Expires), t.Version)
		if exists(err) {
			return nil, store.ErrExists
		}
		for _, event := range events {
			if err == nil {
				err = insertEvent(ctx, tx, event)
			}
		}
		return nil, err
	})
	return err
}

// Ticket returns the ticket of that kind, also one that has ended, or token.ErrNotFound.
func (s *Store) Ticket(ctx context.Context, kind token.TicketKind, digest token.Digest) (token.Ticket, error) {
	return s.ticket(ctx, `WHERE k.kind = ? AND k.digest = ?`, string(kind), digest.String())
}

// TicketByRef returns the newest ticket of that kind that is found by that, or token.ErrNotFound.
func (s *Store) TicketByRef(ctx context.Context, kind token.TicketKind, ref string) (token.Ticket, error) {
	return s.ticket(ctx, `WHERE k.kind = ? AND k.ref = ? AND k.ref <> '' ORDER BY k.created DESC, k.digest LIMIT 1`, string(kind), ref)
}

func (s *Store) ticket(ctx context.Context, where string, args ...any) (token.Ticket, error) {
	return do(ctx, s, store.Tickets, func(ctx context.Context) (token.Ticket, error) {
		return orNotFound(scanTicket(s.readers.QueryRowContext(ctx, selectTickets+where, args...)))
	})
}

func orNotFound[T any](one T, err error) (T, error) {
	if errors.Is(err, sql.ErrNoRows) {
		err = token.ErrNotFound
	}
	return one, err
}

// ChangeTicket keeps what was changed of a ticket: owner, ref, data and expiry. If it is not there as it was when it
// was read, it is token.ErrChanged.
func (s *Store) ChangeTicket(ctx context.Context, t token.Ticket) error {
	_, err := write(ctx, s, store.Tickets, func(ctx context.Context, tx *sql.Tx) (any, error) {
		if err := store.CheckTicket(t); err != nil {
			return nil, err
		}
		result, err := tx.ExecContext(ctx, `UPDATE tickets SET owner = ?, ref = ?, data = ?, expires = ?, version = version + 1 WHERE kind = ? AND digest = ? AND version = ?`,
			t.Owner, t.Ref, string(t.Data), micros(t.Expires), string(t.Kind), t.Digest.String(), t.Version)
		if err != nil {
			return nil, err
		}
		n, err := result.RowsAffected()
		if err == nil && n == 0 {
			err = token.ErrChanged
		}
		return nil, err
	})
	return err
}

// TakeTicket removes a ticket and returns it, once: for all others it is token.ErrNotFound.
func (s *Store) TakeTicket(ctx context.Context, kind token.TicketKind, digest token.Digest) (token.Ticket, error) {
	return write(ctx, s, store.Tickets, func(ctx context.Context, tx *sql.Tx) (token.Ticket, error) {
		t, err := orNotFound(scanTicket(tx.QueryRowContext(ctx, selectTickets+`WHERE k.kind = ? AND k.digest = ?`, string(kind), digest.String())))
		if err == nil {
			_, err = tx.ExecContext(ctx, `DELETE FROM tickets WHERE digest = ?`, digest.String())
		}
		return t, err
	})
}

// EndTickets removes the selected tickets, and returns how many there were.
func (s *Store) EndTickets(ctx context.Context, selection token.TicketSelection) (int64, error) {
	return write(ctx, s, store.Tickets, func(ctx context.Context, tx *sql.Tx) (int64, error) {
		if err := store.CheckTicketSelection(selection); err != nil {
			return 0, err
		}
		return affected(tx.ExecContext(ctx, `DELETE FROM tickets WHERE kind = ? AND (? = '' OR owner = ?) AND (? = '' OR ref = ?)`,
			string(selection.Kind), selection.Owner, selection.Owner, selection.Ref, selection.Ref))
	})
}

// PruneTickets removes those that ended before, and returns how many there were.
func (s *Store) PruneTickets(ctx context.Context, before time.Time) (int64, error) {
	return write(ctx, s, store.Tickets, func(ctx context.Context, tx *sql.Tx) (int64, error) {
		return affected(tx.ExecContext(ctx, `DELETE FROM tickets WHERE expires < ?`, micros(before)))
	})
}

func affected(result sql.Result, err error) (int64, error) {
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}

// WebKey returns the key that seals what is in cookies. The first who asks makes it.
func (s *Store) WebKey(ctx context.Context) (key [32]byte, err error) {
	secret, err := do(ctx, s, store.Tickets, func(ctx context.Context) ([]byte, error) { return readWebKey(ctx, s.readers) })
	if errors.Is(err, token.ErrNotFound) {
		secret, err = write(ctx, s, store.Tickets, func(ctx context.Context, tx *sql.Tx) ([]byte, error) {
			fresh := make([]byte, len(key))
			_, _ = rand.Read(fresh) // never fails
			if _, err := tx.ExecContext(ctx, `INSERT INTO web_key (number, secret) VALUES (1, ?) ON CONFLICT DO NOTHING`, fresh); err != nil {
				return nil, err
			}
			return readWebKey(ctx, tx)
		})
	}
	copy(key[:], secret)
	return key, err
}

func readWebKey(ctx context.Context, q rowQuerier) ([]byte, error) {
	var secret []byte
	err := q.QueryRowContext(ctx, `SELECT secret FROM web_key`).Scan(&secret)
	return orNotFound(secret, err)
}

func scanTicket(r row) (t token.Ticket, err error) {
	var digest string
	if err := r.Scan(&digest, &t.Kind, &t.Owner, &t.Ref, &t.Data, instant{&t.Created}, instant{&t.Expires}, &t.Version, &t.OwnerDisabled); err != nil {
		return token.Ticket{}, err
	}
	t.Digest, err = token.ParseDigest(digest)
	return t, err
}
