package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"time"

	"tokend/tokend/store"
	"tokend/tokend/token"
)

const (
	selectRecords = `SELECT t.id, t.digest, t.owner, t.hint, t.label, t.created, t.expires, t.revoked, t.scheme, t.api, u.disabled IS NOT NULL
		FROM tokens AS t JOIN users AS u ON u.name = t.owner `
	// selectList is with when they were used, which a look-up leaves out.
	selectList = `SELECT t.id, t.digest, t.owner, t.hint, t.label, t.created, t.expires, t.revoked, t.scheme, t.api, u.disabled IS NOT NULL, l.at, coalesce(l.api, 0)
		FROM tokens AS t JOIN users AS u ON u.name = t.owner LEFT JOIN uses AS l ON l.token = t.id `
	newestFirst = ` ORDER BY t.created DESC, t.id DESC `

	// Its parameters are the time, and what youngest says.
	isActive = `revoked IS NULL AND (expires IS NULL OR expires >= ?) AND created >= ?`

	lookupByID = selectList + `WHERE t.id = ?`

	lookupByDigest = selectRecords + `WHERE t.digest = ?`
)

// Lookup returns the record under the digest, or token.ErrNotFound.
func (s *Store) Lookup(ctx context.Context, digest token.Digest) (token.Record, error) {
	return do(ctx, s, store.Lookup, func(ctx context.Context) (token.Record, error) {
		return s.read(ctx, digest)
	})
}

func (s *Store) read(ctx context.Context, digest token.Digest) (token.Record, error) {
	record, err := scanRecord(s.lookup.QueryRowContext(ctx, digest.String()))
	if errors.Is(err, sql.ErrNoRows) {
		err = token.ErrNotFound
	}
	return record, err
}

// Records returns a page of records, newest first. If page.After is no token,
// or none of page.Owner, it is token.ErrNotFound.
func (s *Store) Records(ctx context.Context, page token.Page) ([]token.Record, error) {
	return do(ctx, s, store.Records, func(ctx context.Context) ([]token.Record, error) {
		if err := store.CheckLimit(page.Limit); err != nil {
			return nil, err
		}
		where, args := `WHERE true`, []any{}
		if page.Owner != "" {
			where, args = where+` AND t.owner = ?`, append(args, page.Owner)
		}
		if !page.ActiveAt.IsZero() {
			where, args = where+` AND t.revoked IS NULL AND (t.expires IS NULL OR t.expires >= ?) AND t.created >= ?`,
				append(args, micros(page.ActiveAt), youngest(page.ActiveAt, page.MaxLife))
		}
		if page.After != "" {
			var created int64
			err := s.readers.QueryRowContext(ctx, `SELECT created FROM tokens WHERE id = ? AND (? = '' OR owner = ?)`,
				page.After, page.Owner, page.Owner).Scan(&created)
			if errors.Is(err, sql.ErrNoRows) {
				return nil, fmt.Errorf("token %q: %w", page.After, token.ErrNotFound)
			}
			if err != nil {
				return nil, err
			}
			where, args = where+` AND (t.created, t.id) < (?, ?)`, append(args, created, page.After)
		}
		return query(ctx, s.readers, scanListed, selectList+where+newestFirst+`LIMIT ?`, append(args, page.Limit)...)
	})
}

// Record returns the record with that public ID, or token.ErrNotFound.
func (s *Store) Record(ctx context.Context, id string) (token.Record, error) {
	return do(ctx, s, store.Records, func(ctx context.Context) (token.Record, error) {
		return orNotFound(scanListed(s.readers.QueryRowContext(ctx, lookupByID, id)))
	})
}

// Users returns a page of users, sorted by the bytes of their names, with the number
// of tokens that are active at the time now where no token may live longer than
// limit.
func (s *Store) Users(ctx context.Context, page token.UserPage, now time.Time, limit token.Life) ([]token.User, error) {
	return do(ctx, s, store.Users, func(ctx context.Context) ([]token.User, error) {
		if err := store.CheckLimit(page.Limit); err != nil {
			return nil, err
		}
		return query(ctx, s.readers, scanUser, `SELECT name, disabled, (SELECT count(*) FROM tokens WHERE owner = name AND `+isActive+`)
			FROM users WHERE name > ? AND instr(lower(name), lower(?)) > 0 ORDER BY name LIMIT ?`,
			micros(now), youngest(now, limit), page.After, page.Find, page.Limit)
	})
}

// Events returns a page of the audit trail, newest first. Entries that are
// written meanwhile do not shift the pages.
func (s *Store) Events(ctx context.Context, page token.EventPage) ([]token.Event, error) {
	return do(ctx, s, store.Events, func(ctx context.Context) ([]token.Event, error) {
		if err := store.CheckEventPage(page); err != nil {
			return nil, err
		}
		where, args := `WHERE true`, []any{}
		if page.User != "" {
			where, args = where+` AND user = ?`, append(args, page.User)
		}
		if page.Token != "" {
			where, args = where+` AND token = ?`, append(args, page.Token)
		}
		if page.Action != "" {
			where, args = where+` AND action = ?`, append(args, string(page.Action))
		}
		if !page.Since.IsZero() {
			where, args = where+` AND at >= ?`, append(args, micros(page.Since))
		}
		if !page.Until.IsZero() {
			where, args = where+` AND at < ?`, append(args, micros(page.Until))
		}
		if page.Before != 0 {
			where, args = where+` AND number < ?`, append(args, page.Before)
		}
		return query(ctx, s.readers, scanEvent, `SELECT number, at, actor, action, user, token, detail FROM events `+
			where+` ORDER BY number DESC LIMIT ?`, append(args, page.Limit)...)
	})
}

// Count returns how many tokens are in each state at the time now where no
// token may live longer than limit. Every state is in the map.
func (s *Store) Count(ctx context.Context, now time.Time, limit token.Life) (map[token.State]int, error) {
	return do(ctx, s, store.Count, func(ctx context.Context) (map[token.State]int, error) {
		type count struct {
			state  token.State
			tokens int
		}
		counts, err := query(ctx, s.readers, func(r row) (c count, err error) {
			return c, r.Scan(&c.state, &c.tokens)
		}, `SELECT CASE WHEN `+isActive+` THEN 'active' WHEN revoked IS NULL THEN 'expired' ELSE 'revoked' END, count(*)
			FROM tokens GROUP BY 1`, micros(now), youngest(now, limit))
		if err != nil {
			return nil, err
		}
		states := map[token.State]int{token.Active: 0, token.Expired: 0, token.Revoked: 0}
		for _, c := range counts {
			states[c.state] = c.tokens
		}
		return states, nil
	})
}

// youngest is the earliest creation of a token that is not expired by the limit
// at the time now.
func youngest(now time.Time, limit token.Life) int64 {
	if limit == token.Forever {
		return math.MinInt64
	}
	const farthest = 1 << 40 // seconds: 34,000 years, whose microseconds still fit
	return micros(now) - 1e6*int64(min(max(limit, -farthest), farthest))
}

// Ping returns nil if a token can be looked up and the database is still in its
// place. If it is not, it gets what is only in the -wal yet.
func (s *Store) Ping(ctx context.Context) error {
	_, err := do(ctx, s, store.Ping, func(ctx context.Context) (any, error) {
		if _, err := s.read(ctx, token.Digest{}); !errors.Is(err, token.ErrNotFound) { // it is nobody's
			return nil, err
		}
		err := s.inPlace()
		if err != nil {
			s.letGo() //nolint:contextcheck // it goes on when the caller gives up
		}
		return nil, err
	})
	return err
}
