package postgres

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"tokend/tokend/store"
	"tokend/tokend/token"
)

// Rotate keeps a new token in the place of another of the same owner, which is good until then, but no longer than it would have been; at
// the time that the new one was created, or before, it is revoked. It writes both events, whose User and Token it fills in.
// token.ErrChanged: the other one is not as it was when it was read. Else its errors are Mint's.
func (s *Store) Rotate(ctx context.Context, old, record token.Record, until time.Time, quota token.Quota, ended, made token.Event) error {
	ended.User, ended.Token, made.User, made.Token = old.Owner, old.ID, record.Owner, record.ID
	_, err := write(ctx, s, store.Rotate, func(ctx context.Context, tx pgx.Tx) (none, error) {
		if err := store.CheckRotation(old, record); err != nil {
			return none{}, err
		}
		if _, err := disabledSince(ctx, tx, old.Owner); err != nil { // locked before the token, as by all who change those of one user
			return none{}, err
		}
		column, value := "expires", until
		if !until.After(record.Created) {
			column, value = "revoked", record.Created
		}
		n, err := affected(tx.Exec(ctx, `UPDATE tokens SET `+column+` = $4 WHERE id = $1 AND owner = $2 AND revoked IS NULL AND expires IS NOT DISTINCT FROM $3`,
			old.ID, old.Owner, orNull(old.Expires), value))
		switch {
		case err != nil:
			return none{}, err
		case n == 0:
			return none{}, token.ErrChanged
		}
		if err := admit(ctx, tx, record, quota); err != nil {
			return none{}, fmt.Errorf("user %q: %w", record.Owner, err)
		}
		if err := insertEvent(ctx, tx, ended); err != nil {
			return none{}, err
		}
		if err := insertRecord(ctx, tx, record, made); err != nil {
			return none{}, err
		}
		return none{}, notify(ctx, tx)
	})
	return err
}

// NoteUses keeps when tokens were used last, if it was later than what is kept. Tokens that are not there are left out.
func (s *Store) NoteUses(ctx context.Context, uses []token.Use) error {
	uses = slices.Clone(uses) // in one order, or two who do so at once may wait for each other
	slices.SortFunc(uses, func(a, b token.Use) int { return strings.Compare(a.Token, b.Token) })
	var ids []string
	var times []time.Time
	var api []bool
	for _, u := range uses {
		ids, times, api = append(ids, u.Token), append(times, u.At), append(api, u.API)
	}
	_, err := write(ctx, s, store.Uses, func(ctx context.Context, tx pgx.Tx) (none, error) {
		_, err := tx.Exec(ctx, `INSERT INTO uses (token, at, api)
			SELECT t.id, n.at, n.api FROM unnest($1::text[], $2::timestamptz[], $3::boolean[]) AS n (token, at, api) JOIN tokens AS t ON t.id = n.token ORDER BY t.id
			ON CONFLICT (token) DO UPDATE SET at = excluded.at, api = excluded.api WHERE excluded.at > uses.at`, ids, times, api)
		return none{}, err
	})
	return err
}
