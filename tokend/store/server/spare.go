package server

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	// spareAfter is how long an answer is waited for on one connection alone.
	spareAfter = 300 * time.Millisecond
	// SpareConnections is how many there may be at once in place of those that have become silent.
	SpareConnections = 2
)

// Spare are the settings of a pool whose connections are always new: each is used once, and one that nobody
// waited for any more when it was there is given up.
func Spare(settings *pgxpool.Config) *pgxpool.Config {
	spare := settings.Copy()
	spare.MaxConns, spare.MinConns = SpareConnections, 0
	spare.AfterRelease = func(*pgx.Conn) bool { return false }
	spare.MaxConnLifetime, spare.MaxConnLifetimeJitter, spare.HealthCheckPeriod = time.Second, 0, time.Second
	return spare
}

// Either asks by the pool, and if there is no answer soon by the spare one as well: what is sent on the
// connections that there are may get lost without a word, as where a firewall has forgotten them. Who comes
// later is not ended, as that would end its connection, which may only be slow. Those errors are answers, too;
// with any other one, the other's is waited for.
func Either[T any](ctx context.Context, pool, spare *pgxpool.Pool, ask func(context.Context, *pgxpool.Pool) (T, error), answersToo ...error) (value T, err error) {
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
			if a.err == nil || asked == 0 || slices.ContainsFunc(answersToo, func(e error) bool { return errors.Is(a.err, e) }) {
				return a.value, a.err
			}
			err = a.err
		case <-late.C:
			by(spare)
		case <-ctx.Done():
			return value, cmp.Or(err, ctx.Err())
		}
	}
}
