package postgres

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"
)

// errElsewhere says what LISTEN on another database never would: it hears nothing.
var errElsewhere = errors.New("[store] url and direct_url lead to different databases, or to different servers, so that neither is believed; let both name the same database on the same server, one through the pooler and one past it")

// checkSame makes sure that the pools lead to the same database on the same server as
// direct connections do, where there is a pooler.
func (s *Store) checkSame(ctx context.Context) error {
	conn, err := s.connect(ctx)
	if err != nil {
		return err
	}
	if s.pooled {
		err = s.compare(ctx, conn)
		s.elsewhere.Store(errors.Is(err, errElsewhere))
	}
	return errors.Join(err, hangUp(ctx, conn))
}

// findElsewhere returns errElsewhere if that is so, and nil as soon as it is not, or ctx ends.
// A pooler that does not answer keeps it busy, and nobody else.
func (s *Store) findElsewhere(ctx context.Context) error {
	for s.pooled && ctx.Err() == nil {
		err := s.checkSame(ctx)
		if err == nil || errors.Is(err, errElsewhere) {
			return err
		}
		select {
		case <-ctx.Done():
		case <-time.After(reconnectAfter + rand.N(reconnectAfter)): //nolint:gosec // so that not all come at once
		}
	}
	return nil
}

// compare makes sure that the pools lead to the same database on the same server as the
// connection: what is locked here is locked there, and on no copy. Anybody may do so.
func (s *Store) compare(ctx context.Context, conn *pgx.Conn) error {
	return within(ctx, otherTimeout, func(ctx context.Context) error {
		return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
			lock := rand.Int64() //nolint:gosec // so that no other daemon has the same
			if _, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock($1)`, lock); err != nil {
				return err
			}
			var free bool
			if err := s.pool.QueryRow(ctx, `SELECT pg_try_advisory_xact_lock($1)`, lock).Scan(&free); err != nil {
				return err
			}
			if free {
				return errElsewhere
			}
			return nil
		})
	})
}
