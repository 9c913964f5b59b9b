package postgres

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"regexp"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"tokend/tokend/store/server"
	"tokend/tokend/token"
)

const (
	// channel is what PostgreSQL's LISTEN and NOTIFY call by name.
	channel = "tokend"
	// heartbeat is how often a watcher asks without having been told: a connection that
	// was cut says nothing.
	heartbeat = time.Second
	// Deaf is how long Watch may not have been told what is new before it may have missed
	// something.
	Deaf = 2500 * time.Millisecond
	// reconnectAfter, and at random up to twice that, is waited after a connection broke.
	reconnectAfter = 200 * time.Millisecond
	// mostSaid is more causes than there are for that, while it lasts.
	mostSaid = 50
)

// longestMemory is more than how long a record is believed in any configuration.
const longestMemory = 26 * time.Hour

// place is one in the audit trail. Where a standby takes over, which may lack the last
// changes, or a backup is put back, numbers are given a second time: then the timeline is
// another, or the entry's time.
type place struct {
	number   int64
	at       int64 // the entry's time in microseconds; 0: there is none
	timeline string
}

// latest is the newest entry's place, whether the one that was that is still what it was,
// and the server's time.
func (s *Store) latest(ctx context.Context, conn *pgx.Conn) (p place, same bool, now time.Time, err error) {
	asked := time.Now()
	ctx, cancel := context.WithTimeout(ctx, otherTimeout)
	defer cancel()
	err = conn.QueryRow(ctx, `
		WITH entry AS NOT MATERIALIZED (SELECT number, (extract(epoch FROM at) * 1000000)::bigint AS at FROM events)
		SELECT coalesce(newest.number, 0), coalesce(newest.at, 0), $2::bigint = 0 OR $2 = coalesce((SELECT at FROM entry WHERE number = $1), 0),
			clock_timestamp(), CASE WHEN pg_is_in_recovery() THEN '' ELSE left(pg_walfile_name(pg_current_wal_lsn()), 8) END
		FROM (SELECT) AS always LEFT JOIN (SELECT * FROM entry ORDER BY number DESC LIMIT 1) AS newest ON true`,
		s.seen.number, s.seen.at).Scan(&p.number, &p.at, &same, &now, &p.timeline)
	if err == nil {
		s.clock.Set(now, asked)
	}
	return p, same, now, err
}

// passing is what an error says that is another each time: this side of a connection, whose
// port is its own, times, and numbers that stand by themselves.
var passing = regexp.MustCompile(`\S+->|\d+-\d+-\d+T\S+| \d\d:\d\d:\d\d\b| \d+(?:[ ,;)]|$)`)

// Forget makes every check that begins after it has returned see the change that was
// made to these tokens.
type Forget func(context.Context, ...token.Digest) error

// TakeKeys is told the secrets of the cache that the daemons share.
type TakeKeys func(context.Context, []CacheKey)

// Watch hears of every change that takes rights away, by whatever daemon, and has it
// forgotten what was known of the tokens; and, where keys is not nil, tells the secrets of the
// shared cache, which may have been changed too. What happened while the connection was away is
// made up for when it is back. It waits for no pooler, and returns when ctx ends.
func (s *Store) Watch(ctx context.Context, forget Forget, keys TakeKeys) {
	var beside sync.WaitGroup
	defer beside.Wait()
	beside.Go(func() { s.watchPooler(ctx) })
	missed := map[string]bool{} // why, as far as it was said
	for ctx.Err() == nil {
		err := s.watch(ctx, forget, keys, func() {
			if len(missed) > 0 {
				s.log.InfoContext(ctx, "changes by other daemons are heard of again")
			}
			clear(missed)
			s.lost.Store(nil)
		})
		if ctx.Err() != nil {
			return
		}
		err = explain(err)
		s.lost.Store(&err)
		if why := passing.ReplaceAllString(err.Error(), ""); !missed[why] {
			if len(missed) >= mostSaid {
				clear(missed)
			}
			missed[why] = true
			s.log.WarnContext(ctx, "changes by other daemons are not heard of: every login asks the database first", "err", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(reconnectAfter + rand.N(reconnectAfter)): //nolint:gosec // so that not all come at once
		}
	}
}

// Heard is until when Watch knows what the other daemons have changed, by this machine's
// clock. Zero: it has not been told lately, and what was read before may be wrong by now.
func (s *Store) Heard() time.Time {
	asked := s.asked.Load()
	if asked == nil || time.Since(*asked) >= Deaf {
		return time.Time{}
	}
	return *asked
}

// Hears reports whether Watch knows that, but for the last moments.
func (s *Store) Hears() bool { return !s.Heard().IsZero() }

// WatchErr is nil while Hears, else it says why not.
func (s *Store) WatchErr() error {
	lost, asked := s.lost.Load(), s.asked.Load()
	switch {
	case s.Hears():
		return nil
	case lost != nil:
		return fmt.Errorf("%w: %w", errUnheard, *lost)
	case asked != nil:
		return fmt.Errorf("%w, since %s", errUnheard, asked.UTC().Format(time.RFC3339))
	}
	return errUnheard
}

var errUnheard = errors.New("changes by other daemons are not heard of")

// Since is when, by the server's time, Watch began, or heard again of changes after it had been
// deaf, or found that another server has taken over or a backup was put back. What was read
// before may be of a state that is no more: a token that was made in it is unknown now, and
// nothing in the trail tells of it.
func (s *Store) Since() time.Time { return *s.since.Load() }

// watch does so with one connection, and calls heard whenever it has asked what is new.
func (s *Store) watch(ctx context.Context, forget Forget, keys TakeKeys, heard func()) (err error) {
	conn, err := s.connect(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, hangUp(ctx, conn)) }()
	if err := server.Within(ctx, otherTimeout, func(ctx context.Context) error {
		_, err := conn.Exec(ctx, `LISTEN `+channel)
		return err
	}); err != nil {
		return err
	}
	defer s.mark.Store(nil)
	if err := s.holdMark(ctx, conn); err != nil {
		return err
	}
	for {
		if err := s.catchUp(ctx, conn, forget, keys); err != nil {
			return err
		}
		heard()
		if err := server.Within(ctx, heartbeat, func(ctx context.Context) error {
			_, err := conn.WaitForNotification(ctx)
			return err
		}); err != nil && (ctx.Err() != nil || conn.IsClosed()) {
			return err
		}
	}
}

// A catch-up goes by pages of so many entries of the trail, and so many tokens are
// forgotten at once: what is done is not done again where the next one fails.
const (
	entriesAtOnce = 10_000
	tokensAtOnce  = 10_000
)

// catchUp has forgotten what was changed since the last time. The audit trail tells: its
// numbers are in the order of the commits.
func (s *Store) catchUp(ctx context.Context, conn *pgx.Conn, forget Forget, keys TakeKeys) error {
	asked := time.Now()
	since := s.since.Load()
	latest, same, now, err := s.latest(ctx, conn)
	if err != nil {
		return err
	}
	if latest.timeline != s.seen.timeline || latest.number < s.seen.number || !same {
		if latest.timeline != s.seen.timeline {
			s.log.WarnContext(ctx, "another server has taken over: all that was changed lately is looked at again")
		} else {
			s.log.WarnContext(ctx, "the database was put back to an earlier state: all that was changed lately is looked at again")
		}
		s.resetPools() // no login may ask the one that was
		if s.pooled {
			s.past.Reset()
		}
		s.since.Store(&now)
		number, err := before(ctx, conn, now.Add(-longestMemory), latest.number)
		if err != nil {
			return err
		}
		s.told, s.again = number, true
	} else if !s.Hears() || now.Before(*since) {
		// Meanwhile a backup may have been put back that has all that was heard of before, and not
		// what was read then. Or it is by a clock that was ahead, and nothing would be believed for so long.
		s.since.CompareAndSwap(since, &now)
	}
	// Also where the rest fails: it may be put back before that is tried again.
	s.seen = latest
	for s.again || s.told != latest.number { // once at least, as the keys of the cache may be others
		digests, last, err := s.changed(ctx, conn, s.told, latest.number, now)
		if err != nil {
			return err
		}
		for len(digests) > 0 {
			some := digests[:min(len(digests), tokensAtOnce)]
			digests = digests[len(some):]
			if err := server.Within(ctx, otherTimeout, func(ctx context.Context) error { return forget(ctx, some...) }); err != nil {
				return fmt.Errorf("forget what was changed: %w", err)
			}
		}
		if keys != nil {
			if err := tellKeys(ctx, conn, keys); err != nil {
				return err
			}
		}
		s.told = last
		s.again = s.again && last != latest.number
	}
	s.asked.Store(&asked)
	return nil
}

// before is a number of the trail after which all entries are that are younger than the time,
// where newest is the last of all. It goes back until a whole page is older: where the
// server's clock was wrong for a while, entries are not in the order of their times.
func before(ctx context.Context, conn *pgx.Conn, at time.Time, newest int64) (number int64, err error) {
	for number = newest; number > 0; {
		var first int64
		var younger bool
		if err := server.Within(ctx, otherTimeout, func(ctx context.Context) error {
			return conn.QueryRow(ctx, `SELECT coalesce(min(number), 0), coalesce(bool_or(at > $1), false)
				FROM (SELECT number, at FROM events WHERE number <= $2 ORDER BY number DESC LIMIT $3) AS page`,
				at, number, entriesAtOnce).Scan(&first, &younger)
		}); err != nil {
			return 0, err
		}
		if !younger {
			break
		}
		number = first - 1
	}
	return number, nil
}

// changed returns the tokens that the next entries of the trail concern, up to which one
// these are, each token once where a user's were disabled and enabled many times.
func (s *Store) changed(ctx context.Context, conn *pgx.Conn, from, to int64, now time.Time) (digests []token.Digest, last int64, err error) {
	err = server.Within(ctx, otherTimeout, func(ctx context.Context) error {
		if err := conn.QueryRow(ctx, `SELECT coalesce(max(number), $2) FROM (SELECT number FROM events WHERE number > $1 AND number <= $2 ORDER BY number LIMIT $3) AS page`,
			from, to, entriesAtOnce).Scan(&last); err != nil {
			return err
		}
		rows, err := conn.Query(ctx, `
			SELECT e.at, t.digest FROM events AS e JOIN tokens AS t ON t.id = e.token
				WHERE e.number > $1 AND e.number <= $2 AND e.action IN ($3, $6)
			UNION ALL
			SELECT u.at, t.digest FROM (
					SELECT "user", max(at) AS at FROM events WHERE number > $1 AND number <= $2 AND action IN ($4, $5) GROUP BY "user"
				) AS u JOIN tokens AS t ON t.owner = u."user" AND t.revoked IS NULL`,
			from, last, token.TokenRevoked, token.UserDisabled, token.UserEnabled, token.TokenRotated)
		if err != nil {
			return err
		}
		var at time.Time
		var digest []byte
		_, err = pgx.ForEachRow(rows, []any{&at, &digest}, func() error {
			d, err := asDigest(digest)
			digests = append(digests, d)
			if at.After(s.began) && !s.again { // else nobody was there to hear of it, or it was heard of before
				s.watched.heard(now.Sub(at))
			}
			return err
		})
		return err
	})
	return digests, last, err
}
