package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"tokend/tokend/store"
	"tokend/tokend/token"
)

// Known returns how many of the digests, of which each is there once, are kept.
func (s *Store) Known(ctx context.Context, digests []token.Digest) (int, error) {
	return read(ctx, s, store.Known, func(ctx context.Context) (n int, err error) {
		some := make([][]byte, len(digests))
		for i := range digests {
			some[i] = digests[i][:]
		}
		err = s.pool.QueryRow(ctx, `SELECT count(*) FROM unnest($1::bytea[]) AS n (digest) JOIN tokens AS t ON t.digest = n.digest`, some).Scan(&n)
		return n, err
	})
}

// Adopt keeps those of the tokens, which another program has made, whose digest is not kept yet, and for
// each of them the event, whose User and Token it fills in. It returns their IDs. The owners become users;
// no quota holds for these.
func (s *Store) Adopt(ctx context.Context, records []token.Record, event token.Event) ([]string, error) {
	return write(ctx, s, store.Adopt, func(ctx context.Context, tx pgx.Tx) ([]string, error) {
		var digests [][]byte
		var ids, owners, hints, labels, schemes []string
		var created []time.Time
		var expires, revoked []*time.Time
		var api []bool
		for i := range records {
			r := &records[i]
			if err := store.CheckRecord(*r); err != nil {
				return nil, err
			}
			digests, ids, owners = append(digests, r.Digest[:]), append(ids, r.ID), append(owners, r.Owner)
			hints, labels, schemes = append(hints, r.Hint), append(labels, r.Label), append(schemes, string(r.Scheme))
			created, expires, revoked = append(created, r.Created), append(expires, orNull(r.Expires)), append(revoked, orNull(r.Revoked))
			api = append(api, r.API)
		}
		// In one order, or two who do so at once may wait for each other.
		if _, err := tx.Exec(ctx, `INSERT INTO users (name) SELECT DISTINCT owner FROM unnest($1::text[], $2::bytea[]) AS n (owner, digest)
			WHERE NOT EXISTS (SELECT FROM tokens AS t WHERE t.digest = n.digest) ORDER BY owner ON CONFLICT DO NOTHING`, owners, digests); err != nil {
			return nil, err
		}
		// Before the trail, as whoever changes a user does.
		if _, err := tx.Exec(ctx, `SELECT FROM users WHERE name = ANY($1) ORDER BY name FOR KEY SHARE`, owners); err != nil {
			return nil, err
		}
		if err := lockTrail(ctx, tx); err != nil {
			return nil, err
		}
		kept, err := query(ctx, tx, pgx.RowTo[string], `
			WITH kept AS (
				INSERT INTO tokens (digest, id, owner, hint, label, created, expires, revoked, scheme, api)
				SELECT * FROM unnest($1::bytea[], $2::text[], $3::text[], $4::text[], $5::text[], $6::timestamptz[], $7::timestamptz[], $8::timestamptz[], $9::text[], $10::boolean[])
				ON CONFLICT (digest) DO NOTHING RETURNING id, owner
			), told AS (
				INSERT INTO events (at, actor, action, "user", token, detail) SELECT $11, $12, $13, owner, id, $14 FROM kept
			)
			SELECT id FROM kept`, digests, ids, owners, hints, labels, created, expires, revoked, schemes, api,
			event.At, event.Actor, event.Action, event.Detail)
		if exists(err) {
			err = store.ErrExists
		}
		return kept, err
	})
}
