package postgres

import (
	"context"
	"time"
)

// Setting is what a connection for changes has been set to.
func (s *Store) Setting(ctx context.Context, name string) (value string, err error) {
	return value, s.pool.QueryRow(ctx, `SELECT current_setting($1)`, name).Scan(&value)
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
