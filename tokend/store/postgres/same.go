package postgres

import (
	"cmp"
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"tokend/tokend/token"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"tokend/tokend/store/server"
)

// errElsewhere says what LISTEN on another database never would: it hears nothing.
var errElsewhere error = token.NotNowError("[store] url and direct_url lead to different databases, or to different servers, so that nothing is asked or changed there; let both name the same database on the same server, one through the pooler and one past it")

const (
	// provedWithin is how long a look-up waits for proofs of that, and a change for each of two to begin.
	provedWithin = 500 * time.Millisecond
	// provingConnections is how many there are past the pooler for it, also where the server has
	// none left for others.
	provingConnections = 3
)

// leadsHere makes sure that both lead to the same database on the same server: what the transaction
// locks is locked for the other, and in no copy. Anybody may do so. The other one has its own time.
func leadsHere(ctx context.Context, tx pgx.Tx, other *pgxpool.Pool, patience time.Duration) error {
	lock := rand.Int64() //nolint:gosec // so that no other daemon has the same
	if _, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock($1)`, lock); err != nil {
		return err
	}
	var free bool
	if err := server.Within(ctx, patience, func(ctx context.Context) error {
		return other.QueryRow(ctx, `SELECT pg_try_advisory_xact_lock($1)`, lock).Scan(&free)
	}); err != nil || !free {
		return err
	}
	if _, err := tx.Exec(ctx, `SELECT`); err != nil { // it has ended, and with it the lock
		return err
	}
	return errElsewhere
}

// checkSame makes sure of it before anything is asked. Whoever does not answer keeps no connection for
// changes.
func (s *Store) checkSame(ctx context.Context) error {
	if !s.pooled {
		return nil
	}
	return server.Within(ctx, otherTimeout, func(ctx context.Context) error {
		tx, err := server.Again(ctx, s.past, func() (pgx.Tx, error) { return s.past.Begin(ctx) })
		if err != nil {
			return err
		}
		defer rollback(ctx, tx)
		return cmp.Or(leadsHere(ctx, tx, s.logins, otherTimeout/2), leadsHere(ctx, tx, s.pool, otherTimeout/2))
	})
}

// lead notes whether the pooler leads elsewhere. Connections that lead there are of no use any more.
func (s *Store) lead(elsewhere bool) {
	if elsewhere {
		s.resetPools()
	}
	switch before := s.elsewhere.Swap(elsewhere); {
	case elsewhere && !before:
		s.log.Warn("nothing is asked or changed through the pooler any more", "err", errElsewhere)
	case before && !elsewhere:
		s.log.Info("the pooler leads to the right database again")
	}
}

// resetPools has those who come next make new connections.
func (s *Store) resetPools() {
	for _, pool := range []*pgxpool.Pool{s.logins, s.spare, s.pool} {
		pool.Reset()
	}
}

// mark is a lock that the session holds which hears of changes, and since when, by time.Now.
type mark struct {
	lock int64
	held time.Time
}

// holdMark has the session that hears of changes hold a lock, by which what is read through the
// pooler shows where it comes from: in another database, and in any copy, nobody holds it.
func (s *Store) holdMark(ctx context.Context, conn *pgx.Conn) error {
	if !s.pooled {
		return nil
	}
	m := &mark{lock: rand.Int64()} //nolint:gosec // so that no other session has the same
	err := server.Within(ctx, otherTimeout, func(ctx context.Context) error {
		_, err := conn.Exec(ctx, `SELECT pg_advisory_lock($1)`, m.lock)
		return err
	})
	if err == nil {
		m.held = time.Now()
		s.mark.Store(m)
	}
	return err
}

// watchPooler looks each second at where each pool leads, until ctx ends: at each by itself, as one of
// them may hang.
func (s *Store) watchPooler(ctx context.Context) {
	if !s.pooled {
		return
	}
	var beside sync.WaitGroup
	defer beside.Wait()
	eachSecond := func(look func()) {
		beside.Go(func() {
			for ctx.Err() == nil {
				look()
				select {
				case <-ctx.Done():
				case <-time.After(heartbeat):
				}
			}
		})
	}
	eachSecond(func() { s.noteChanges(ctx, s.leads(ctx, s.pool, otherTimeout)) })
	eachSecond(func() {
		if s.leads(ctx, s.logins, lookupTimeout) == nil && s.elsewhere.Load() && s.leads(ctx, s.pool, otherTimeout) == nil {
			s.lead(false)
		}
	})
}

// leads makes sure that the pool leads to the database whose changes are heard of, as a change does. It
// keeps one of its connections no longer than whoever else has them.
func (s *Store) leads(ctx context.Context, pool *pgxpool.Pool, timeout time.Duration) error {
	err := server.Within(ctx, timeout, func(ctx context.Context) error {
		_, err := s.prove(ctx, thorough, func(ctx context.Context, lock int64) (free bool, err error) {
			free, conn, err := renewed(ctx, pool, func(ctx context.Context, conn *pgxpool.Conn) (free bool, err error) {
				err = conn.QueryRow(ctx, tryLock, lock).Scan(&free)
				return free, err
			})
			if err == nil {
				conn.Release()
			}
			return free, err
		})
		return err
	})
	if errors.Is(err, errElsewhere) {
		s.lead(true) // again: the connections that it had meanwhile lead there
	}
	return err
}

// noteChanges notes whether a change would be refused because nothing can tell where the pooler leads.
// The log says once that it is so, and that it is over.
func (s *Store) noteChanges(ctx context.Context, err error) {
	if ctx.Err() != nil {
		return
	}
	switch before := s.doubt.Load(); {
	case errors.Is(err, errUnproved):
		s.doubt.Store(&err)
		if before == nil {
			s.log.WarnContext(ctx, "nothing is changed through the pooler meanwhile", "err", err)
		}
	case err == nil || errors.Is(err, errElsewhere): // of what else went wrong, others tell
		s.doubt.Store(nil)
		if before != nil {
			s.log.InfoContext(ctx, "it can be told again where the pooler leads")
		}
	}
}

// ChangesErr says why a change was refused when it was last tried, each second, though tokens may be
// looked up: nothing can tell where the pooler leads. Nil: something can, or there is no pooler.
func (s *Store) ChangesErr() error {
	if doubt := s.doubt.Load(); doubt != nil {
		return *doubt
	}
	return nil
}

// Elsewhere reports whether the pooler was found to lead to another database, where nothing is asked.
func (s *Store) Elsewhere() bool { return s.elsewhere.Load() }
