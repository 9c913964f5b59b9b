package server

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"tokend/tokend/token"
)

// TestTheFirstAnswerHolds, and nobody waits for who comes later.
func TestTheFirstAnswerHolds(t *testing.T) {
	t.Parallel()
	pool, spare := new(pgxpool.Pool), new(pgxpool.Pool)
	errFull := errors.New("too many connections")
	for what, c := range map[string]struct {
		pool, spare time.Duration
		poolErr     error
		spareErr    error
		asked       int
		bySpare     bool
		err         error
	}{
		"at once":                       {asked: 1},
		"at once, and there is none":    {poolErr: token.ErrNotFound, asked: 1, err: token.ErrNotFound},
		"at once, and it is an error":   {poolErr: errFull, asked: 1, err: errFull},
		"late, and the spare is sooner": {pool: 1500 * time.Millisecond, asked: 2, bySpare: true},
		"late, and the spare is later":  {pool: 400 * time.Millisecond, spare: 300 * time.Millisecond, asked: 2},
		"late, and the spare fails":     {pool: 500 * time.Millisecond, spareErr: errFull, asked: 2},
		"late, and there is none":       {pool: 400 * time.Millisecond, poolErr: token.ErrNotFound, spare: 300 * time.Millisecond, asked: 2, err: token.ErrNotFound},
		"late, and the error is later":  {pool: 400 * time.Millisecond, poolErr: errFull, spare: 300 * time.Millisecond, asked: 2, bySpare: true},
		"both fail":                     {pool: 400 * time.Millisecond, poolErr: errFull, spareErr: errFull, asked: 2, err: errFull},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			defer cancel()
			asked, begun := make(chan bool, 2), time.Now()
			bySpare, err := Either(ctx, pool, spare, func(ctx context.Context, by *pgxpool.Pool) (bool, error) {
				asked <- true
				after, err := c.pool, c.poolErr
				if by == spare {
					after, err = c.spare, c.spareErr
				}
				select {
				case <-ctx.Done():
					return by == spare, ctx.Err()
				case <-time.After(after):
				}
				return by == spare, err
			}, token.ErrNotFound)
			took := time.Since(begun)
			if late := c.bySpare && c.poolErr == nil; late && took > c.pool {
				t.Errorf("the pool is waited for, for %s", took)
			}
			if bySpare != c.bySpare && err == nil || !errors.Is(err, c.err) || len(asked) != c.asked {
				t.Errorf("by the spare one %t, %v; %d were asked", bySpare, err, len(asked))
			}
		})
	}
}
