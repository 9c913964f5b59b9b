package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"tokend/tokend/store"
)

// Setting is what holds for a change.
func (s *Store) Setting(ctx context.Context, name string) (string, error) {
	return write(ctx, s, store.Mint, func(ctx context.Context, tx pgx.Tx) (value string, err error) {
		return value, tx.QueryRow(ctx, `SELECT current_setting($1)`, name).Scan(&value)
	})
}

// Clock is one that was told by a server.
type Clock struct{ clock }

// Set tells it the server's time now.
func (c *Clock) Set(server time.Time) { c.set(server, time.Now()) }

// Now is the server's time.
func (c *Clock) Now() time.Time { return c.now() }

// Skew is how far this machine's clock is ahead.
func (c *Clock) Skew() time.Duration { return c.skew() }

// Deaf is how long Watch may not be told what is new.
