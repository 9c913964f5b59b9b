package server

import (
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
// connections that there are may get lost without a word, as where a firewall has forgotten them. The first
// answer holds; who asks by the pool is ended then, with the connection. Those errors are answers, too; with any
// other one, the other's is waited for.
func Either[T any](ctx context.Context, pool, spare *pgxpool.Pool, ask func(context.Context, *pgxpool.Pool) (T, error), answersToo ...error) (T, error) {
	type answer struct {
		value T
		err   error
	}
	answers := func(err error) bool {
		return err == nil || slices.ContainsFunc(answersToo, func(e error) bool { return errors.Is(err, e) })
	}
	first, end := context.WithCancel(ctx)
	defer end()
	second := make(chan answer, 1)
	late := time.AfterFunc(spareAfter, func() {
		value, err := ask(ctx, spare)
		second <- answer{value, err}
		if answers(err) {
			end()
		}
	})
	value, err := ask(first, pool) // by this goroutine: to hand it to another one costs a look-up a quarter of its time
	if late.Stop() || answers(err) {
		return value, err
	}
	select {
	case a := <-second:
		if answers(a.err) {
			return a.value, a.err
		}
	case <-ctx.Done():
	}
	return value, err
}
