package sqlite

import (
	"context"
	"database/sql"
	"errors"

	"tokend/tokend/store"
	"tokend/tokend/token"
)

const isKept = `SELECT EXISTS (SELECT 1 FROM tokens WHERE digest = ?)`

// Known returns how many of the digests, of which each is there once, are kept.
func (s *Store) Known(ctx context.Context, digests []token.Digest) (int, error) {
	return do(ctx, s, store.Known, func(ctx context.Context) (n int, err error) {
		known, err := s.readers.PrepareContext(ctx, isKept)
		if err != nil {
			return 0, err
		}
		defer func() { err = errors.Join(err, known.Close()) }()
		for _, digest := range digests {
			is := false
			if err := known.QueryRowContext(ctx, digest.String()).Scan(&is); err != nil {
				return 0, err
			}
			if is {
				n++
			}
		}
		return n, nil
	})
}

// Adopt keeps those of the tokens, which another program has made, whose digest is not kept yet, and for
// each of them the event, whose User and Token it fills in. It returns their IDs. The owners become users;
// no quota holds for these.
func (s *Store) Adopt(ctx context.Context, records []token.Record, event token.Event) ([]string, error) {
	return write(ctx, s, store.Adopt, func(ctx context.Context, tx *sql.Tx) (kept []string, err error) {
		a := adopting{tx: tx, event: event}
		defer func() { err = errors.Join(err, a.close()) }()
		if err := a.prepare(ctx); err != nil {
			return nil, err
		}
		for _, r := range records {
			is, err := a.one(ctx, r)
			if err != nil {
				return nil, err
			}
			if is {
				kept = append(kept, r.ID)
			}
		}
		return kept, nil
	})
}

// adopting has what is done for each token prepared: there may be hundreds.
type adopting struct {
	tx                         *sql.Tx
	event                      token.Event
	known, user, record, trail *sql.Stmt
}

func (a *adopting) prepare(ctx context.Context) (err error) {
	prepare := func(text string) *sql.Stmt {
		if err != nil {
			return nil
		}
		var s *sql.Stmt
		s, err = a.tx.PrepareContext(ctx, text)
		return s
	}
	a.known = prepare(isKept)
	a.user = prepare(`INSERT INTO users (name) VALUES (?) ON CONFLICT DO NOTHING`)
	a.record = prepare(`INSERT INTO tokens (id, digest, owner, hint, label, created, expires, revoked, scheme, api)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`)
	a.trail = prepare(insertEventText)
	return err
}

func (a *adopting) close() (err error) {
	for _, statement := range []*sql.Stmt{a.known, a.user, a.record, a.trail} {
		if statement != nil {
			err = errors.Join(err, statement.Close())
		}
	}
	return err
}

// one reports whether the token is kept now, and was not before.
func (a *adopting) one(ctx context.Context, r token.Record) (is bool, err error) {
	if err := store.CheckRecord(r); err != nil {
		return false, err
	}
	known := false
	if err := a.known.QueryRowContext(ctx, r.Digest.String()).Scan(&known); err != nil || known {
		return false, err
	}
	if _, err := a.user.ExecContext(ctx, r.Owner); err != nil {
		return false, err
	}
	_, err = a.record.ExecContext(ctx, r.ID, r.Digest.String(), r.Owner, r.Hint, r.Label,
		micros(r.Created), orNull(r.Expires), orNull(r.Revoked), string(r.Scheme), r.API)
	if exists(err) {
		return false, store.ErrExists
	}
	if err == nil {
		a.event.User, a.event.Token = r.Owner, r.ID
		_, err = a.trail.ExecContext(ctx, eventColumns(a.event)...)
	}
	return err == nil, err
}
