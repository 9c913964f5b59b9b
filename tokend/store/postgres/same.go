package postgres

import (
	"cmp"
	"context"
	"errors"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"tokend/tokend/token"
)

// errElsewhere says what LISTEN on another database never would: it hears nothing.
var errElsewhere = errors.New("[store] url and direct_url lead to different databases, or to different servers, so that nothing is asked or changed there; let both name the same database on the same server, one through the pooler and one past it")

const (
	// provedWithin is how long a change, or a look-up in doubt, waits for that to be known.
	provedWithin = 500 * time.Millisecond
	// provingConnections is how many there are past the pooler for it, also where the server has
	// none left for others.
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
	s.elsewhere.Store(elsewhere)
}

// holdMark has the session that hears of changes hold a lock, by which what is read through the
// pooler shows where it comes from: in another database, and in any copy, nobody holds it.
func (s *Store) holdMark(ctx context.Context, conn *pgx.Conn) error {
	if !s.pooled {
		return nil
	}
	mark := rand.Int64() //nolint:gosec // so that no other session has the same
	err := within(ctx, otherTimeout, func(ctx context.Context) error {
		_, err := conn.Exec(ctx, `SELECT pg_advisory_lock($1)`, mark)
		return err
	})
	if err == nil {
		s.mark.Store(&mark)
	}
	return err
}

// lookupThrough looks a token up, and tries a lock, in one statement: nobody can turn the pooler
// in between. Shared, as others who look something up where nobody holds it may try it too.
const lookupThrough = `SELECT r.*, p.free FROM (SELECT pg_try_advisory_xact_lock_shared($2) AS free) AS p
	LEFT JOIN (` + lookupByDigest + `) AS r ON true`

// lookThrough looks the token up through the pooler. There, the lock was free: true unless
// somebody holds it.
func (s *Store) lookThrough(ctx context.Context, digest token.Digest, lock int64) (record token.Record, free bool, err error) {
	rows, err := s.logins.Query(ctx, lookupThrough, digest[:], lock)
	if err != nil {
		return token.Record{}, false, err
	}
	record, err = pgx.CollectExactlyOneRow(rows, func(r pgx.CollectableRow) (token.Record, error) {
		if values := r.RawValues(); values[0] == nil {
			return token.Record{}, errors.Join(r.Scan(append(make([]any, len(values)-1), &free)...), token.ErrNotFound)
		}
		return scanRecordAnd(r, &free)
	})
	return record, free, err
}

// readThrough is readOnce through the pooler: with the mark, if there is one, else with a lock
// that is held past the pooler for this look-up alone. Where nothing answers there, what the
// pooler leads to is believed, and noted as not proved.
func (s *Store) readThrough(ctx context.Context, digest token.Digest) (token.Record, error) {
	if mark := s.mark.Load(); mark != nil {
		record, free, err := s.lookThrough(ctx, digest, *mark)
		if !free || err != nil && !errors.Is(err, token.ErrNotFound) {
			return record, err
		}
	}
	tx, lock, err := s.holdPast(ctx)
	if err != nil {
		record, _, err := s.lookThrough(ctx, digest, lock)
		s.noteUnproved()
		return record, err
	}
	defer func() { go rollback(ctx, tx) }() // the answer does not wait for that
	record, free, err := s.lookThrough(ctx, digest, lock)
	if !free || err != nil && !errors.Is(err, token.ErrNotFound) {
		return record, err
	}
	if within(ctx, provedWithin, func(ctx context.Context) error {
		_, err := tx.Exec(ctx, `SELECT`)
		return err
	}) != nil { // it has ended, and with it the lock
		s.noteUnproved()
		return record, err
	}
	s.lead(true)
	return token.Record{}, errElsewhere
}

// holdPast begins a transaction past the pooler that holds a lock. Where that was not answered
// in time, it is not asked for for a moment.
func (s *Store) holdPast(ctx context.Context) (tx pgx.Tx, lock int64, err error) {
	lock = rand.Int64() //nolint:gosec // so that no other one is the same
	if silent := s.silent.Load(); silent != nil && time.Since(*silent) < heartbeat {
		return nil, lock, context.DeadlineExceeded
	}
	err = within(ctx, provedWithin, func(ctx context.Context) error {
		tx, err = again(ctx, s.past, func() (pgx.Tx, error) {
			return s.past.BeginTx(ctx, pgx.TxOptions{BeginQuery: `BEGIN; SELECT pg_advisory_xact_lock(` + strconv.FormatInt(lock, 10) + `)`})
		})
		return err
	})
	if errors.Is(err, context.DeadlineExceeded) {
		now := time.Now()
		s.silent.Store(&now)
	}
	return tx, lock, err
}

func (s *Store) noteUnproved() {
	for now := time.Now(); ; {
		before := s.unproved.Load()
		if before != nil && before.After(now) || s.unproved.CompareAndSwap(before, &now) {
			return
		}
	}
}

// Proved reports whether every look-up that began after that has shown that what it returned is
// of the database whose changes are heard of. What has not is for now alone, and not to be
// kept: a pooler may lead elsewhere while nothing answers past it.
func (s *Store) Proved(since time.Time) bool {
	unproved := s.unproved.Load()
	return unproved == nil || unproved.Before(since)
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
