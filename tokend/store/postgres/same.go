package postgres

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"tokend/tokend/token"
)

// errElsewhere says what LISTEN on another database never would: it hears nothing.
var errElsewhere = fmt.Errorf("%w: [store] url and direct_url lead to different databases, or to different servers, so that neither is believed; let both name the same database on the same server, one through the pooler and one past it", token.ErrMisled)

const (
	// provedWithin is how long a change waits for that to be known.
	provedWithin = 500 * time.Millisecond
	// provingConnections is how many there are past the pooler for it.
	provingConnections = 2
)

// prove makes sure that both lead to the same database on the same server: what the transaction
// locks is locked for the other, and in no copy. Anybody may do so. The other one has its own time.
func prove(ctx context.Context, tx pgx.Tx, other *pgxpool.Pool, patience time.Duration) error {
	lock := rand.Int64() //nolint:gosec // so that no other daemon has the same
	if _, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock($1)`, lock); err != nil {
		return err
	}
	var free bool
	if err := within(ctx, patience, func(ctx context.Context) error {
		return other.QueryRow(ctx, `SELECT pg_try_advisory_xact_lock($1)`, lock).Scan(&free)
	}); err != nil {
		return &unprovedError{err}
	}
	if !free {
		return nil
	}
	if _, err := tx.Exec(ctx, `SELECT`); err != nil { // it has ended, and with it the lock
		return err
	}
	return errElsewhere
}

// unprovedError is that the other one did not answer.
type unprovedError struct{ error }

func (e *unprovedError) Unwrap() error { return e.error }

// checkSame makes sure of it. As long as that cannot be done, what was found the last time holds.
func (s *Store) checkSame(ctx context.Context) error {
	if !s.pooled {
		return nil
	}
	err := within(ctx, otherTimeout, func(ctx context.Context) error {
		// Whoever does not answer keeps no connection for changes.
		return pgx.BeginFunc(ctx, s.past, func(tx pgx.Tx) (unproved error) {
			for _, pool := range []*pgxpool.Pool{s.logins, s.pool} { // one may lead elsewhere where the other says nothing
				if err := prove(ctx, tx, pool, otherTimeout/2); errors.Is(err, errElsewhere) {
					return err
				} else if err != nil {
					unproved = err
				}
			}
			return unproved
		})
	})
	if err == nil || errors.Is(err, errElsewhere) {
		s.lead(err != nil)
	}
	return err
}

// lead notes whether the pooler leads elsewhere. As long as it does, connections that lead there
// are of no use any more.
func (s *Store) lead(elsewhere bool) {
	if elsewhere {
		s.logins.Reset()
		s.pool.Reset()
	}
	if elsewhere && !s.elsewhere.Load() {
		read := s.Now() // what was read lately may be of the other one
		s.since.Store(&read)
	}
	s.elsewhere.Store(elsewhere)
}

// checkChange refuses a change that would be made elsewhere: nobody would hear of it, and it
// would be lost. Where nothing answers past the pooler, nothing is heard of either, and all
// daemons ask what it leads to.
func (s *Store) checkChange(ctx context.Context, tx pgx.Tx) error {
	if !s.pooled {
		return nil
	}
	err := prove(ctx, tx, s.past, provedWithin)
	if errors.Is(err, errElsewhere) {
		s.lead(true)
	}
	if _, unproved := errors.AsType[*unprovedError](err); unproved {
		return nil
	}
	return err
}

// watchPooler looks each second at where the pooler leads, until ctx ends. One that does not
// answer keeps nobody else waiting.
func (s *Store) watchPooler(ctx context.Context) {
	for said := false; s.pooled && ctx.Err() == nil; {
		err := s.checkSame(ctx)
		switch elsewhere := s.elsewhere.Load(); {
		case elsewhere && !said:
			s.log.WarnContext(ctx, "nothing is asked or changed through the pooler any more", "err", cmp.Or(err, errElsewhere))
			said = true
		case said && !elsewhere:
			s.log.InfoContext(ctx, "the pooler leads to the right database again")
			said = false
		}
		select {
		case <-ctx.Done():
		case <-time.After(heartbeat):
		}
	}
}
