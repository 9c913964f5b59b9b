package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"tokend/tokend/store"
	"tokend/tokend/store/server"
	"tokend/tokend/token"
)

const (
	// Those who are disabled have an index of their own, which is small: to join all
	// users took a look-up a fifth of its time. Every owner is a user (a foreign key).
	selectRecords = `SELECT t.id, t.digest, t.owner, t.hint, t.label, t.created, t.expires, t.revoked, t.scheme, t.api,
		EXISTS (SELECT FROM users AS u WHERE u.name = t.owner AND u.disabled IS NOT NULL) FROM tokens AS t `
	// selectList is with when they were used, which a look-up leaves out.
	selectList = `SELECT t.id, t.digest, t.owner, t.hint, t.label, t.created, t.expires, t.revoked, t.scheme, t.api,
		EXISTS (SELECT FROM users AS u WHERE u.name = t.owner AND u.disabled IS NOT NULL), l.at, coalesce(l.api, false)
		FROM tokens AS t LEFT JOIN uses AS l ON l.token = t.id `
	newestFirst = ` ORDER BY t.created DESC, t.id DESC `

	// lookupByDigest fails on a standby, which may not know yet that a token is revoked: a
	// pooler may have been turned to one.
	lookupByDigest = selectRecords + `WHERE t.digest = $1 AND (SELECT pg_current_wal_lsn()) IS NOT NULL`
)

// isActive is a condition whose two parameters, from number n on, are the time and what
// youngest says.
func isActive(n int) string {
	return fmt.Sprintf(`revoked IS NULL AND (expires IS NULL OR expires >= $%d) AND created >= $%d`, n, n+1)
}

// Lookup returns the record under the digest, or token.ErrNotFound.
func (s *Store) Lookup(ctx context.Context, digest token.Digest) (token.Record, error) {
	return do(ctx, s, store.Lookup, func(ctx context.Context) (token.Record, error) {
		return s.read(ctx, digest)
	})
}

func (s *Store) read(ctx context.Context, digest token.Digest) (token.Record, error) {
	return server.Either(ctx, s.logins, s.spare, func(ctx context.Context, pool *pgxpool.Pool) (token.Record, error) {
		proving := &waiting{provedWithin} // the rest of its second is for the answer
		return server.Again(ctx, pool, func() (token.Record, error) { return s.readOnce(ctx, pool, proving, digest) })
	}, token.ErrNotFound, errElsewhere)
}

// read is do for what changes nothing, which is asked again where its connection broke. Where there is no answer,
// those who come next make new connections.
func read[T any](ctx context.Context, s *Store, op store.Operation, f func(context.Context) (T, error)) (T, error) {
	return do(ctx, s, op, func(ctx context.Context) (T, error) {
		value, err := server.Again(ctx, s.pool, func() (T, error) { return f(ctx) })
		if errors.Is(err, context.DeadlineExceeded) {
			s.pool.Reset()
		}
		return value, err
	})
}

func (s *Store) readOnce(ctx context.Context, pool *pgxpool.Pool, proving *waiting, digest token.Digest) (token.Record, error) {
	if s.pooled {
		return s.readThrough(ctx, pool, proving, digest)
	}
	rows, err := pool.Query(ctx, lookupByDigest, digest[:])
	if err != nil {
		return token.Record{}, err
	}
	record, err := pgx.CollectExactlyOneRow(rows, scanRecord)
	if errors.Is(err, pgx.ErrNoRows) {
		err = token.ErrNotFound
	}
	return record, err
}

// Records returns a page of records, newest first. If page.After is no token, or none of
// page.Owner, it is token.ErrNotFound.
func (s *Store) Records(ctx context.Context, page token.Page) ([]token.Record, error) {
	return read(ctx, s, store.Records, func(ctx context.Context) ([]token.Record, error) {
		if err := store.CheckLimit(page.Limit); err != nil {
			return nil, err
		}
		where, args := `WHERE true`, []any{page.Limit}
		add := func(condition string, values ...any) {
			numbers := make([]any, len(values))
			for i := range values {
				numbers[i] = len(args) + 1 + i
			}
			where, args = where+fmt.Sprintf(condition, numbers...), append(args, values...)
		}
		if page.Owner != "" {
			add(` AND t.owner = $%d`, page.Owner)
		}
		if !page.ActiveAt.IsZero() {
			add(` AND t.revoked IS NULL AND (t.expires IS NULL OR t.expires >= $%d) AND t.created >= $%d`, page.ActiveAt, youngest(page.ActiveAt, page.MaxLife))
		}
		if page.After != "" {
			var created time.Time
			err := s.pool.QueryRow(ctx, `SELECT created FROM tokens WHERE id = $1 AND ($2 = '' OR owner = $2)`, page.After, page.Owner).Scan(&created)
			if errors.Is(err, pgx.ErrNoRows) {
				return nil, fmt.Errorf("token %q: %w", page.After, token.ErrNotFound)
			}
			if err != nil {
				return nil, err
			}
			add(` AND (t.created, t.id) < ($%d, $%d)`, created, page.After)
		}
		return query(ctx, s.pool, scanListed, selectList+where+newestFirst+`LIMIT $1`, args...)
	})
}

// Record returns the record with that public ID, or token.ErrNotFound.
func (s *Store) Record(ctx context.Context, id string) (token.Record, error) {
	return read(ctx, s, store.Records, func(ctx context.Context) (token.Record, error) {
		return one(ctx, s.pool, scanListed, selectList+`WHERE t.id = $1`, id)
	})
}

// Users returns a page of users, sorted by the bytes of their names, with the number of tokens
// that are active at the time now where no token may live longer than limit.
func (s *Store) Users(ctx context.Context, page token.UserPage, now time.Time, limit token.Life) ([]token.User, error) {
	return read(ctx, s, store.Users, func(ctx context.Context) ([]token.User, error) {
		if err := store.CheckLimit(page.Limit); err != nil {
			return nil, err
		}
		return query(ctx, s.pool, scanUser, `SELECT name, disabled, (SELECT count(*) FROM tokens WHERE owner = name AND `+isActive(1)+`)
			FROM users WHERE name > $3 AND position(lower($4) IN lower(name)) > 0 ORDER BY name LIMIT $5`, now, youngest(now, limit), page.After, page.Find, page.Limit)
	})
}

// Events returns a page of the audit trail, newest first. Entries that are written
// meanwhile do not shift the pages.
func (s *Store) Events(ctx context.Context, page token.EventPage) ([]token.Event, error) {
	return read(ctx, s, store.Events, func(ctx context.Context) ([]token.Event, error) {
		if err := store.CheckEventPage(page); err != nil {
			return nil, err
		}
		return query(ctx, s.pool, scanEvent, `SELECT number, at, actor, action, "user", token, detail FROM events
			WHERE ($1 = '' OR "user" = $1) AND ($2::bigint = 0 OR number < $2) AND ($4 = '' OR token = $4) AND ($5 = '' OR action = $5)
			AND ($6::timestamptz IS NULL OR at >= $6) AND ($7::timestamptz IS NULL OR at < $7) ORDER BY number DESC LIMIT $3`,
			page.User, page.Before, page.Limit, page.Token, page.Action, orNull(page.Since), orNull(page.Until))
	})
}

// Count returns how many tokens are in each state at the time now where no token may
// live longer than limit. Every state is in the map.
func (s *Store) Count(ctx context.Context, now time.Time, limit token.Life) (map[token.State]int, error) {
	return read(ctx, s, store.Count, func(ctx context.Context) (map[token.State]int, error) {
		states := map[token.State]int{token.Active: 0, token.Expired: 0, token.Revoked: 0}
		rows, err := s.pool.Query(ctx, `SELECT CASE WHEN `+isActive(1)+` THEN 'active' WHEN revoked IS NULL THEN 'expired' ELSE 'revoked' END, count(*)
			FROM tokens GROUP BY 1`, now, youngest(now, limit))
		if err != nil {
			return nil, err
		}
		var state token.State
		var count int
		_, err = pgx.ForEachRow(rows, []any{&state, &count}, func() error {
			states[state] = count
			return nil
		})
		return states, err
	})
}

// youngest is the earliest creation of a token that is not expired by the limit at the
// time now.
func youngest(now time.Time, limit token.Life) any {
	if limit == token.Forever {
		return negativeInfinity
	}
	const farthest = 1 << 32 // seconds: 136 years; nothing is that old
	return now.Add(-time.Duration(min(max(int64(limit), -farthest), farthest)) * time.Second)
}

// Ping returns nil if a token can be looked up.
func (s *Store) Ping(ctx context.Context) error {
	_, err := do(ctx, s, store.Ping, func(ctx context.Context) (none, error) {
		_, err := s.read(ctx, token.Digest{}) // it is nobody's
		if errors.Is(err, token.ErrNotFound) {
			err = nil
		}
		return none{}, err
	})
	return err
}
