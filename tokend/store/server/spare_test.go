package server

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"tokend/tokend/token"
)

// TestTheFirstAnswerHolds, and nobody waits for who comes later, whom only that ends that had a connection at once.
func TestTheFirstAnswerHolds(t *testing.T) {
	t.Parallel()
	pool, spare := new(pgxpool.Pool), new(pgxpool.Pool)
	errFull, errOther := errors.New("too many connections"), errors.New("another")
	const ms = time.Millisecond
	for what, c := range map[string]struct {
		pool, spare time.Duration
		poolErr     error
		spareErr    error
		asked       int32
		bySpare     bool
		err         error
	}{
		"at once":                               {asked: 1},
		"at once, and there is none":            {poolErr: token.ErrNotFound, asked: 1, err: token.ErrNotFound},
		"at once, and it is an error":           {poolErr: errFull, asked: 1, err: errFull},
		"late, and the spare is sooner":         {pool: 1500 * ms, asked: 2, bySpare: true},
		"late, and the spare is later":          {pool: 400 * ms, spare: 300 * ms, asked: 2},
		"late, and the spare fails":             {pool: 500 * ms, spareErr: errFull, asked: 2},
		"late, and there is none":               {pool: 400 * ms, poolErr: token.ErrNotFound, spare: 300 * ms, asked: 2, err: token.ErrNotFound},
		"late, and the error is later":          {pool: 400 * ms, poolErr: errFull, spare: 300 * ms, asked: 2, bySpare: true},
		"both fail":                             {pool: 400 * ms, poolErr: errFull, spareErr: errFull, asked: 2, err: errFull},
		"no answer, and the spare fails":        {pool: time.Hour, spareErr: errFull, asked: 2, err: errFull},
		"the spare has no answer, and it fails": {pool: 400 * ms, poolErr: errFull, spare: time.Hour, asked: 2, err: errFull},
		"none has an answer":                    {pool: time.Hour, spare: time.Hour, asked: 2, err: context.DeadlineExceeded},
		"both fail, and the spare is the later": {pool: 400 * ms, poolErr: errFull, spare: 300 * ms, spareErr: errOther, asked: 2, err: errOther},
		"the spare says that there is no such":  {pool: time.Hour, spareErr: token.ErrNotFound, asked: 2, err: token.ErrNotFound},
	} {
		for _, idle := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, idle %t", what, idle), func(t *testing.T) {
				t.Parallel()
				ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
				defer cancel()
				var asked atomic.Int32
				ended := make(chan time.Duration, 1)
				begun := time.Now()
				bySpare, err := either(ctx, pool, spare, idle, func(ctx context.Context, by *pgxpool.Pool) (bool, error) {
					asked.Add(1)
					after, err := c.pool, c.poolErr
					if by == spare {
						after, err = c.spare, c.spareErr
					}
					select {
					case <-ctx.Done():
						err = ctx.Err()
					case <-time.After(after):
					}
					if by == pool {
						ended <- time.Since(begun)
					}
					return by == spare, err
				}, []error{token.ErrNotFound})
				took := time.Since(begun)
				cancel() // as who asked does
				if bySpare != c.bySpare && err == nil || !errors.Is(err, c.err) || asked.Load() != c.asked {
					t.Errorf("by the spare one %t, %v; %d were asked", bySpare, err, asked.Load())
				}
				if most := max(min(c.pool, spareAfter+c.spare), 0) + 700*ms; (c.bySpare || errors.Is(c.err, token.ErrNotFound)) && !errors.Is(c.poolErr, errFull) && took > most {
					t.Errorf("it takes %s", took)
				}
				if c.pool < time.Second && c.spare < time.Second && took > 1500*ms {
					t.Errorf("both have answered, and it takes %s", took)
				}
				if at := <-ended; c.bySpare && c.pool == 1500*ms && (at < time.Second) != idle { // which has its connection late, perhaps
					t.Errorf("who is late has ended after %s", at)
				}
			})
		}
	}
}

// TestWhoWaitsForAConnectionIsNotEndedWithIt: it may come in time.
func TestWhoWaitsForAConnectionIsNotEndedWithIt(t *testing.T) {
	t.Parallel()
	settings, err := pgxpool.ParseConfig("postgres://127.0.0.1:1/nobody")
	if err != nil {
		t.Fatal(err)
	}
	pool, err := pgxpool.NewWithConfig(t.Context(), settings) // which has none, and makes none yet
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	spare, waited := new(pgxpool.Pool), make(chan error, 1)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	_, err = Either(ctx, pool, spare, func(ctx context.Context, by *pgxpool.Pool) (none struct{}, err error) {
		if by == pool {
			select {
			case <-ctx.Done():
			case <-time.After(time.Second):
			}
			waited <- ctx.Err()
		}
		return none, nil
	})
	if ended := <-waited; err != nil || ended != nil {
		t.Errorf("it was ended: %v; the answer: %v", ended, err)
	}
}
