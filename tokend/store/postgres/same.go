package postgres

import (
	"cmp"
	"context"
	"errors"
	"math/rand/v2"
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

// checkSame makes sure of it. As long as that cannot be done, what was found the last time holds.
func (s *Store) checkSame(ctx context.Context) error {
	if !s.pooled {
		return nil
	}
	err := server.Within(ctx, otherTimeout, func(ctx context.Context) error {
		// Whoever does not answer keeps no connection for changes.
		tx, err := server.Again(ctx, s.past, func() (pgx.Tx, error) { return s.past.Begin(ctx) })
		if err != nil {
			return err
		}
		defer rollback(ctx, tx)
		for _, pool := range []*pgxpool.Pool{s.logins, s.pool} { // one may lead elsewhere where the other says nothing
			if e := leadsHere(ctx, tx, pool, otherTimeout/2); errors.Is(e, errElsewhere) {
				return e
			} else if e != nil {
				err = e
			}
		}
		return err
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
	s.elsewhere.Store(elsewhere)
}

// holdMark has the session that hears of changes hold a lock, by which what is read through the
// pooler shows where it comes from: in another database, and in any copy, nobody holds it.
func (s *Store) holdMark(ctx context.Context, conn *pgx.Conn) error {
	if !s.pooled {
		return nil
	}
	mark := rand.Int64() //nolint:gosec // so that no other session has the same
	err := server.Within(ctx, otherTimeout, func(ctx context.Context) error {
		_, err := conn.Exec(ctx, `SELECT pg_advisory_lock($1)`, mark)
		return err
	})
	if err == nil {
		s.mark.Store(&mark)
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

// watchChanges looks each second whether a change would be refused because nothing can tell where the
// pooler leads, until ctx ends. The log says once that it is so, and that it is over.
func (s *Store) watchChanges(ctx context.Context) {
	for s.pooled && ctx.Err() == nil {
		s.noteChanges(ctx)
		select {
		case <-ctx.Done():
		case <-time.After(heartbeat):
		}
	}
}

func (s *Store) noteChanges(ctx context.Context) {
	err := server.Within(ctx, otherTimeout, func(ctx context.Context) error {
		_, err := s.prove(ctx, thorough, func(ctx context.Context, lock int64) (free bool, err error) {
			err = s.pool.QueryRow(ctx, tryLock, lock).Scan(&free)
			return free, err
		})
		return err
	})
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
