package postgres

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"tokend/tokend/store"
	"tokend/tokend/token"
)

const selectTickets = `SELECT k.digest, k.kind, k.owner, k.ref, k.data, k.created, k.expires, k.version,
	EXISTS (SELECT FROM users AS u WHERE u.name = k.owner AND u.disabled IS NOT NULL) FROM tickets AS k `

// PutTicket keeps a new ticket, and the events that tell of it. It refuses with store.ErrExists if the digest
// is taken, and with token.ErrTooMany if as many of its kind are good when it is created as there may be; 0 is no limit.
func (s *Store) PutTicket(ctx context.Context, t token.Ticket, most int, events ...token.Event) error {
	_, err := write(ctx, s, store.Tickets, func(ctx context.Context, tx pgx.Tx) (none, error) {
		if err := store.CheckTicket(t); err != nil {
			return none{}, err
		}
		if most > 0 { // of some at once, each may be the last that there may be: no more than that is promised
			var there int
			if err := tx.QueryRow(ctx, `SELECT count(*) FROM tickets WHERE kind = $1 AND expires >= $2`, t.Kind, t.Created).Scan(&there); err != nil {
				return none{}, err
			}
			if there >= most {
				return none{}, token.ErrTooMany
			}
		}
		_, err := tx.Exec(ctx, `INSERT INTO tickets (digest, kind, owner, ref, data, created, expires, version) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`,
			t.Digest[:], t.Kind, t.Owner, t.Ref, string(t.Data), t.Created, t.Expires, t.Version)
		if exists(err) {
			return none{}, store.ErrExists
		}
		for _, event := range events {
			if err == nil {
				err = insertEvent(ctx, tx, event)
			}
		}
		return none{}, err
	})
	return err
}

// Ticket returns the ticket of that kind, also one that has ended, or token.ErrNotFound.
func (s *Store) Ticket(ctx context.Context, kind token.TicketKind, digest token.Digest) (token.Ticket, error) {
	return s.ticket(ctx, `WHERE k.kind = $1 AND k.digest = $2`, kind, digest[:])
}

// TicketByRef returns the newest ticket of that kind that is found by that, or token.ErrNotFound.
func (s *Store) TicketByRef(ctx context.Context, kind token.TicketKind, ref string) (token.Ticket, error) {
	return s.ticket(ctx, `WHERE k.kind = $1 AND k.ref = $2 AND k.ref <> '' ORDER BY k.created DESC, k.digest LIMIT 1`, kind, ref)
}

func (s *Store) ticket(ctx context.Context, where string, args ...any) (token.Ticket, error) {
	return read(ctx, s, store.Tickets, func(ctx context.Context) (token.Ticket, error) {
		return one(ctx, s.pool, scanTicket, selectTickets+where, args...)
	})
}

// one returns the only row of the answer, or token.ErrNotFound.
func one[T any](ctx context.Context, q querier, scan pgx.RowToFunc[T], text string, args ...any) (T, error) {
	rows, err := q.Query(ctx, text, args...)
	if err != nil {
		var nothing T
		return nothing, err
	}
	found, err := pgx.CollectExactlyOneRow(rows, scan)
	if errors.Is(err, pgx.ErrNoRows) {
		err = token.ErrNotFound
	}
	return found, err
}

// ChangeTicket keeps what was changed of a ticket: owner, ref, data and expiry. If it is not there as it was when it
// was read, it is token.ErrChanged.
func (s *Store) ChangeTicket(ctx context.Context, t token.Ticket) error {
	_, err := write(ctx, s, store.Tickets, func(ctx context.Context, tx pgx.Tx) (none, error) {
		if err := store.CheckTicket(t); err != nil {
			return none{}, err
		}
		n, err := affected(tx.Exec(ctx, `UPDATE tickets SET owner = $4, ref = $5, data = $6, expires = $7, version = version + 1 WHERE kind = $1 AND digest = $2 AND version = $3`,
			t.Kind, t.Digest[:], t.Version, t.Owner, t.Ref, string(t.Data), t.Expires))
		if err == nil && n == 0 {
			err = token.ErrChanged
		}
		return none{}, err
	})
	return err
}

// TakeTicket removes a ticket and returns it, once: for all others it is token.ErrNotFound.
func (s *Store) TakeTicket(ctx context.Context, kind token.TicketKind, digest token.Digest) (token.Ticket, error) {
	return write(ctx, s, store.Tickets, func(ctx context.Context, tx pgx.Tx) (token.Ticket, error) {
		t, err := one(ctx, tx, scanTicket, selectTickets+`WHERE k.kind = $1 AND k.digest = $2 FOR UPDATE OF k`, kind, digest[:])
		if err == nil {
			_, err = tx.Exec(ctx, `DELETE FROM tickets WHERE digest = $1`, digest[:])
		}
		return t, err
	})
}

// EndTickets removes the selected tickets, and returns how many there were.
func (s *Store) EndTickets(ctx context.Context, selection token.TicketSelection) (int64, error) {
	return write(ctx, s, store.Tickets, func(ctx context.Context, tx pgx.Tx) (int64, error) {
		if err := store.CheckTicketSelection(selection); err != nil {
			return 0, err
		}
		return affected(tx.Exec(ctx, `DELETE FROM tickets WHERE kind = $1 AND ($2 = '' OR owner = $2) AND ($3 = '' OR ref = $3)`, selection.Kind, selection.Owner, selection.Ref))
	})
}

// PruneTickets removes those that ended before, and returns how many there were.
func (s *Store) PruneTickets(ctx context.Context, before time.Time) (int64, error) {
	return write(ctx, s, store.Tickets, func(ctx context.Context, tx pgx.Tx) (int64, error) {
		return affected(tx.Exec(ctx, `DELETE FROM tickets WHERE expires < $1`, before))
	})
}

func affected(tag pgconn.CommandTag, err error) (int64, error) { return tag.RowsAffected(), err }

// WebKey returns the key that seals what is in cookies. The first who asks makes it.
func (s *Store) WebKey(ctx context.Context) (key [32]byte, err error) {
	const text = `SELECT secret FROM web_key`
	secret, err := read(ctx, s, store.Tickets, func(ctx context.Context) ([]byte, error) {
		return one(ctx, s.pool, pgx.RowTo[[]byte], text)
	})
	if errors.Is(err, token.ErrNotFound) {
		secret, err = write(ctx, s, store.Tickets, func(ctx context.Context, tx pgx.Tx) ([]byte, error) {
			if _, err := tx.Exec(ctx, `INSERT INTO web_key (number, secret) VALUES (1, $1) ON CONFLICT DO NOTHING`, newSecret()); err != nil {
				return nil, err
			}
			return one(ctx, tx, pgx.RowTo[[]byte], text) // of two who make it, the second has waited for the first
		})
	}
	copy(key[:], secret)
	return key, err
}

func scanTicket(r pgx.CollectableRow) (t token.Ticket, err error) {
	var digest []byte
	var data string
	if err := r.Scan(&digest, &t.Kind, &t.Owner, &t.Ref, &data, (*instant)(&t.Created), (*instant)(&t.Expires), &t.Version, &t.OwnerDisabled); err != nil {
		return token.Ticket{}, err
	}
	t.Data = []byte(data)
	t.Digest, err = asDigest(digest)
	return t, err
}
