package postgres

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"tokend/tokend/store/server"
	"tokend/tokend/token"
)

// lookupThrough looks a token up, and tries a lock, in one statement: nobody can turn the pooler
// in between. Shared, as others who look something up where nobody holds it may try it too.
const lookupThrough = `SELECT r.*, p.free FROM (SELECT pg_try_advisory_xact_lock_shared($2) AS free) AS p
	LEFT JOIN (` + lookupByDigest + `) AS r ON true`

// lookThrough looks the token up through the pooler. There, the lock was free: true unless
// somebody holds it.
func (s *Store) lookThrough(ctx context.Context, pool *pgxpool.Pool, digest token.Digest, lock int64) (record token.Record, free bool, err error) {
	rows, err := pool.Query(ctx, lookupThrough, digest[:], lock)
	if err != nil {
		return token.Record{}, false, err
	}
	record, err = pgx.CollectExactlyOneRow(rows, func(r pgx.CollectableRow) (token.Record, error) {
		values := r.RawValues()
		if values[0] != nil {
			return scanRecordAnd(r, &free)
		}
		if err := r.Scan(append(make([]any, len(values)-1), &free)...); err != nil {
			return token.Record{}, err
		}
		return token.Record{}, token.ErrNotFound
	})
	return record, free, err
}

// readThrough is readOnce through the pooler. What is not proved is noted as that.
func (s *Store) readThrough(ctx context.Context, pool *pgxpool.Pool, proving *waiting, digest token.Digest) (record token.Record, err error) {
	var found error
	proved, err := s.prove(ctx, proving, func(ctx context.Context, lock int64) (free bool, err error) {
		record, free, found = s.lookThrough(ctx, pool, digest, lock)
		if !errors.Is(found, token.ErrNotFound) {
			err = found
		}
		return free, err
	})
	if err != nil {
		return token.Record{}, err
	}
	if !proved {
		s.noteUnproved()
	}
	return record, found
}

// startChange begins a change. Through a pooler it is refused unless it is proved where that leads:
// nobody would hear of a change that is made elsewhere, and it would be lost. While that is being
// found out, no connection of the pooler's is kept from the logins.
func (s *Store) startChange(ctx context.Context) (tx pgx.Tx, err error) {
	if !s.pooled {
		return s.beginChange(ctx)
	}
	_, err = s.prove(ctx, thorough, func(ctx context.Context, lock int64) (free bool, err error) {
		if tx, err = s.beginChange(ctx); err != nil {
			return false, err
		}
		if err = tx.QueryRow(ctx, tryLock, lock).Scan(&free); err != nil || free {
			rollback(ctx, tx)
		}
		return free, err
	})
	return tx, err
}

// tryLock takes the lock, if it can, as others may at the same time.
const tryLock = `SELECT pg_try_advisory_xact_lock_shared($1)`

// tries is how many proofs are asked for: one may end, with its connection.
const tries = 2

// waiting is how much longer who asks waits for proofs, in all: a login, which takes it
// that what has just been silent still is, and takes what is not proved, for itself. Nil is a change's: it
// waits as long as it has time, and takes nothing that is not proved.
type waiting struct{ left time.Duration }

var thorough *waiting

// during runs f for no longer than that.
func (p *waiting) during(ctx context.Context, f func(context.Context)) {
	if p == thorough {
		f(ctx)
		return
	}
	begun := time.Now()
	ctx, cancel := context.WithTimeout(ctx, p.left)
	defer cancel()
	f(ctx)
	p.left -= time.Since(begun)
}

// prove has a lock tried through the pooler that is held past it: the mark, if there is one, else a
// proof. Where it is free though it is held, that is errElsewhere. Where neither can be had in time,
// what was tried holds for a login, and is not proved; a change fails.
func (s *Store) prove(ctx context.Context, proving *waiting, try func(ctx context.Context, lock int64) (free bool, err error)) (proved bool, err error) {
	mark := s.mark.Load()
	tried := mark != nil
	if tried {
		if free, err := try(ctx, mark.lock); err != nil || !free {
			return true, err
		}
	}
	found, doubt, silent := time.Now(), errLost, false
proofs:
	for range tries {
		var p *proof
		var own, held, known bool
		proving.during(ctx, func(ctx context.Context) { p, own, err = s.join(ctx, proving != thorough) })
		if err != nil {
			doubt, silent = err, errors.Is(err, context.DeadlineExceeded)
			if proving == thorough && silent && !own && ctx.Err() == nil {
				continue // its time was up when this one had hardly asked
			}
			break
		}
		free, err := try(ctx, p.lock)
		if err == nil && free {
			proving.during(ctx, func(ctx context.Context) { held, known = s.stillHeld(ctx, p) })
		}
		s.leave(ctx, p)
		switch {
		case held:
			return false, errElsewhere
		case err != nil || !free:
			return true, err
		case !known: // others may have the time to find out
			doubt, silent, tried = context.DeadlineExceeded, true, true
			break proofs
		}
		s.drop(p)
		p.end(ctx) // others who have it will find that out
		tried = true
	}
	if proving == thorough {
		return false, unproved(doubt)
	}
	if !tried {
		if _, err := try(ctx, rand.Int64()); err != nil { //nolint:gosec // nobody holds it
			return false, err
		}
	}
	// It may be the right one again by then: nobody but this one is told so.
	lives := mark != nil && !silent && s.outlived(ctx, mark, found)
	if lives || s.elsewhere.Load() { // somebody else may have found out meanwhile
		return false, errElsewhere
	}
	return false, ctx.Err() // if the time is up, that there was no answer says nothing
}

var (
	errLost           = errors.New("the connections that could have told were ended meanwhile")
	errUnproved error = token.NotNowError("past the pooler, by [store] direct_url, nothing can tell where it leads, so that nothing is changed there")
)

// unproved is the error of a change that is not made for that. It is never one that leaves open
// whether it was: what ended past the pooler is not the change.
func unproved(why error) error {
	if errors.Is(why, errLost) {
		return fmt.Errorf("%w: %w; try again", errUnproved, why)
	}
	return fmt.Errorf("%w; try again when this is mended: %s", errUnproved, explain(pastError{why}).Error())
}

// outlived reports whether the session that held the mark answers after that: then it held it all
// the time. It waits until that is known, ctx ends, or the session has said nothing for long.
func (s *Store) outlived(ctx context.Context, mark *mark, then time.Time) bool {
	for ; ctx.Err() == nil; time.Sleep(10 * time.Millisecond) {
		asked := s.asked.Load()
		if s.mark.Load() != mark { // now, or the answer could be another session's
			return false
		}
		if asked != nil && asked.After(then) {
			return true
		}
		last := mark.held
		if asked != nil && asked.After(last) {
			last = *asked
		}
		if time.Since(last) > 2*heartbeat { // it should have answered twice by now
			return false
		}
	}
	return false
}

// proof is a lock that is held past the pooler, by a transaction of its own, for all that
// is in doubt at the same time.
type proof struct {
	lock  int64
	begun chan struct{} // closed when the following is known
	err   error         // why it is not held
	tx    pgx.Tx
	asked sync.Mutex // the transaction takes one question at a time
	ended sync.Once
	users int // of Store.proving's
}

// held reports whether it is, without waiting for that.
func (p *proof) held() bool {
	if p == nil {
		return false
	}
	select {
	case <-p.begun:
		return p.err == nil
	default:
		return false
	}
}

// proving is the one that is joined.
type proving struct {
	mu     sync.Mutex
	now    *proof    // nil: there is none
	silent time.Time // when there was no answer
}

// join returns the proof that is held now, or begins its own. Where that was not answered in time,
// who is in haste does not try it for a moment.
func (s *Store) join(ctx context.Context, hurried bool) (p *proof, own bool, err error) {
	if ctx.Err() != nil {
		return nil, false, ctx.Err()
	}
	s.proving.mu.Lock()
	p = s.proving.now
	if hurried && time.Since(s.proving.silent) < heartbeat && !p.held() {
		s.proving.mu.Unlock()
		return nil, false, context.DeadlineExceeded
	}
	if own = p == nil; own {
		p = &proof{lock: rand.Int64(), begun: make(chan struct{})} //nolint:gosec // so that no other one is the same
		s.proving.now = p
		go s.hold(context.WithoutCancel(ctx), p)
	}
	p.users++
	s.proving.mu.Unlock()
	select {
	case <-p.begun:
		err = p.err
	case <-ctx.Done():
		err = ctx.Err()
	}
	if err != nil {
		s.leave(ctx, p)
		return nil, own, err
	}
	return p, own, nil
}

// hold begins it.
func (s *Store) hold(ctx context.Context, p *proof) {
	p.err = server.Within(ctx, provedWithin-provedWithin/10, func(ctx context.Context) (err error) { // before who joins it gives up
		p.tx, err = server.Again(ctx, s.past, func() (pgx.Tx, error) {
			return s.past.BeginTx(ctx, pgx.TxOptions{BeginQuery: `BEGIN; SELECT pg_advisory_xact_lock(` + strconv.FormatInt(p.lock, 10) + `)`})
		})
		return err
	})
	if p.err != nil {
		s.drop(p)
	}
	if errors.Is(p.err, context.DeadlineExceeded) {
		s.proving.mu.Lock()
		s.proving.silent = time.Now()
		s.proving.mu.Unlock()
	}
	close(p.begun)
}

// stillHeld reports whether it is, now that somebody has found the lock free: then the pooler leads
// elsewhere. Known is whether that was found out before ctx ended. Nobody's time ends the transaction that
// others need; and the first who finds out does so for all.
func (s *Store) stillHeld(ctx context.Context, p *proof) (held, known bool) {
	s.proving.mu.Lock()
	p.users++ // who asks, on behalf of all who wait
	s.proving.mu.Unlock()
	answer := make(chan bool, 1)
	go func() {
		defer s.leave(ctx, p)
		p.asked.Lock()
		defer p.asked.Unlock()
		if s.elsewhere.Load() {
			answer <- true
			return
		}
		held := server.Within(context.WithoutCancel(ctx), provedWithin, func(ctx context.Context) error {
			_, err := p.tx.Exec(ctx, `SELECT`)
			return err
		}) == nil
		if held {
			s.lead(true)
		}
		answer <- held
	}()
	select {
	case held = <-answer:
		return held, true
	case <-ctx.Done():
	}
	select {
	case held = <-answer: // in the same moment
		return held, true
	default:
		return false, false
	}
}

// end gives its connection back, for which nobody waits.
func (p *proof) end(ctx context.Context) {
	p.ended.Do(func() {
		go func() {
			<-p.begun
			p.asked.Lock()
			defer p.asked.Unlock()
			if p.tx != nil {
				rollback(ctx, p.tx)
			}
		}()
	})
}

// drop has nobody join it any more.
func (s *Store) drop(p *proof) {
	s.proving.mu.Lock()
	defer s.proving.mu.Unlock()
	if s.proving.now == p {
		s.proving.now = nil
	}
}

// leave ends it when nobody needs it any more.
func (s *Store) leave(ctx context.Context, p *proof) {
	s.proving.mu.Lock()
	defer s.proving.mu.Unlock()
	if p.users--; p.users > 0 {
		return
	}
	if s.proving.now == p {
		s.proving.now = nil
	}
	p.end(ctx)
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
