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
// connections that there are may get lost without a word, as where a firewall has forgotten them. The first
// answer holds. Those errors are answers, too; with any other one, the other's is waited for.
func Either[T any](ctx context.Context, pool, spare *pgxpool.Pool, ask func(context.Context, *pgxpool.Pool) (T, error), answersToo ...error) (T, error) {
	return either(ctx, pool, spare, pool.Stat().IdleConns() > 0, ask, answersToo)
}

// either asks by this goroutine where the pool has an idle connection, which is ended if it is late: to hand a look-up to
// another one costs a quarter of its time. Who waits for a connection, and has one late, is not ended with it.
func either[T any](ctx context.Context, pool, spare *pgxpool.Pool, idle bool, ask func(context.Context, *pgxpool.Pool) (T, error), answersToo []error) (value T, err error) {
	type answer struct {
		value T
		err   error
	}
	answers := make(chan answer, 2)
	enough := func(err error) bool {
		return err == nil || slices.ContainsFunc(answersToo, func(e error) bool { return errors.Is(err, e) })
	}
	by := func(pool *pgxpool.Pool, then func(error)) {
		within, cancel := onItsOwn(ctx)
		defer cancel()
		value, err := ask(within, pool)
		answers <- answer{value, err}
		then(err)
	}
	first, end := context.WithCancel(ctx)
	defer end()
	late := time.AfterFunc(spareAfter, func() {
		by(spare, func(err error) {
			if enough(err) {
				end()
			}
		})
	})
	defer late.Stop()
	if idle {
		if value, err = ask(first, pool); late.Stop() || enough(err) {
			return value, err
		}
		answers <- answer{value, err}
	} else {
		go by(pool, func(error) {})
	}
	for have := 0; have < 2; {
		select {
		case a := <-answers:
			have++
			if enough(a.err) || late.Stop() {
				return a.value, a.err
			}
			if err == nil || !passed(a.err) {
				value, err = a.value, a.err
			}
		case <-ctx.Done():
			if len(answers) == 0 {
				return value, cmp.Or(err, ctx.Err())
			}
		}
	}
	return value, err
}

// onItsOwn is a context which nobody ends before its time.
func onItsOwn(ctx context.Context) (context.Context, context.CancelFunc) {
	if deadline, ok := ctx.Deadline(); ok {
		return context.WithDeadline(context.WithoutCancel(ctx), deadline)
	}
	return context.WithCancel(ctx)
}

// passed reports whether the error says only that the time is up.
func passed(err error) bool {
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled)
}
