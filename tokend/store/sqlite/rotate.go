package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"tokend/tokend/store"
	"tokend/tokend/token"
)

// Rotate keeps a new token in the place of another of the same owner, which is good until then, but no longer than it would have been; at
// the time that the new one was created, or before, it is revoked. It writes both events, whose User and Token it fills in.
// token.ErrChanged: the other one is not as it was when it was read. Else its errors are Mint's.
func (s *Store) Rotate(ctx context.Context, old, record token.Record, until time.Time, quota token.Quota, ended, made token.Event) error {
	ended.User, ended.Token, made.User, made.Token = old.Owner, old.ID, record.Owner, record.ID
	_, err := write(ctx, s, store.Rotate, func(ctx context.Context, tx *sql.Tx) (any, error) {
		if err := store.CheckRotation(old, record); err != nil {
			return nil, err
		}
		column, value := "expires", until
		if !until.After(record.Created) {
			column, value = "revoked", record.Created
		}
		n, err := affected(tx.ExecContext(ctx, `UPDATE tokens SET `+column+` = ? WHERE id = ? AND owner = ? AND revoked IS NULL AND expires IS ?`,
			micros(value), old.ID, old.Owner, orNull(old.Expires)))
		switch {
		case err != nil:
			return nil, err
		case n == 0:
			return nil, token.ErrChanged
		}
		if err := insertEvent(ctx, tx, ended); err != nil {
			return nil, err
		}
		if err := admit(ctx, tx, record, quota); err != nil {
			return nil, fmt.Errorf("user %q: %w", record.Owner, err)
		}
		return nil, insertRecord(ctx, tx, record, made)
	})
	return err
}

// NoteUses keeps when tokens were used last, if it was later than what is kept. Tokens that are not there are left out.
func (s *Store) NoteUses(ctx context.Context, uses []token.Use) error {
	_, err := write(ctx, s, store.Uses, func(ctx context.Context, tx *sql.Tx) (none any, err error) {
		note, err := tx.PrepareContext(ctx, `INSERT INTO uses (token, at, api) SELECT id, ?, ? FROM tokens WHERE id = ?
			ON CONFLICT (token) DO UPDATE SET at = excluded.at, api = excluded.api WHERE excluded.at > uses.at`)
		if err != nil {
			return nil, err
		}
		defer note.Close() //nolint:errcheck // it ends with the transaction
		for _, u := range uses {
			if _, err := note.ExecContext(ctx, micros(u.At), u.API, u.Token); err != nil {
				return nil, err
			}
		}
		return nil, nil
	})
	return err
}
