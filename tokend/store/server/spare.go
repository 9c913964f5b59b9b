package server

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"tokend/tokend/token"
)

const (
	// spareAfter is how long an answer is waited for on one connection alone.
	spareAfter = 300 * time.Millisecond
	// SpareConnections is how many there may be at once in place of those that have become silent.
	SpareConnections = 2
)

// Spare are the settings of a pool whose connections are always new: each is used once.
func Spare(settings *pgxpool.Config) *pgxpool.Config {
	spare := settings.Copy()
	spare.MaxConns, spare.MinConns = SpareConnections, 0
	spare.AfterRelease = func(*pgx.Conn) bool { return false }
	return spare
}

// Either asks by the pool, and if there is no answer soon by the spare one as well: what is sent on the
// connections that there are may get lost without a word, as where a firewall has forgotten them. Who comes
// later is not ended, as that would end its connection, which may only be slow.
func Either[T any](ctx context.Context, pool, spare *pgxpool.Pool, ask func(context.Context, *pgxpool.Pool) (T, error)) (value T, err error) {
	type answer struct {
		value T
		err   error
	}
	answers, asked := make(chan answer, 2), 0
	by := func(pool *pgxpool.Pool) {
		asked++
		go func() {
			within, cancel := ctx, context.CancelFunc(func() {})
			if deadline, ok := ctx.Deadline(); ok {
				within, cancel = context.WithDeadline(context.WithoutCancel(ctx), deadline)
			}
			defer cancel()
			value, err := ask(within, pool)
			answers <- answer{value, err}
		}()
	}
	by(pool)
	late := time.NewTimer(spareAfter)
	defer late.Stop()
	for {
		select {
		case a := <-answers:
			asked--
			if a.err == nil || errors.Is(a.err, token.ErrNotFound) || asked == 0 {
				return a.value, a.err
			}
		case <-late.C:
			by(spare)
		case <-ctx.Done():
			return value, ctx.Err()
		}
	}
}
