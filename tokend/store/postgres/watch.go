package postgres

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/time/rate"

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
)

// longestMemory is more than how long a record is believed in any configuration.
const longestMemory = 26 * time.Hour

// place is one in the audit trail. Where a standby takes over, which may lack the last
// changes, numbers are given a second time, and the timeline is another.
type place struct {
	number   int64
	timeline string
}

// latest is the newest entry's place, and the server's time.
func (s *Store) latest(ctx context.Context, q interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
},
) (p place, now time.Time, err error) {
	asked := time.Now()
	err = q.QueryRow(ctx, `SELECT coalesce(max(number), 0), clock_timestamp(),
		CASE WHEN pg_is_in_recovery() THEN '' ELSE left(pg_walfile_name(pg_current_wal_lsn()), 8) END FROM events`).Scan(&p.number, &now, &p.timeline)
	if err == nil {
		s.clock.set(now, asked)
	}
	return p, now, err
}

// Forget makes every check that begins after it has returned see the change that was
// made to these tokens.
type Forget func(context.Context, ...token.Digest) error

// Watch hears of every change that takes rights away, by whatever daemon, and has it
// forgotten what was known of the tokens. What happened while the connection was away is
// made up for when it is back. It returns when ctx ends.
func (s *Store) Watch(ctx context.Context, forget Forget) {
	seldom := rate.Sometimes{First: 3, Interval: 10 * time.Second}
	missed := false
	for ctx.Err() == nil {
		err := s.watch(ctx, forget, func() {
			if missed {
				s.log.InfoContext(ctx, "changes by other daemons are heard of again")
			}
			missed = false
		})
		if ctx.Err() != nil {
			return
		}
		missed = true
		seldom.Do(func() {
			s.log.WarnContext(ctx, "changes by other daemons are not heard of: every login asks the database", "err", explain(err))
		})
		select {
		case <-ctx.Done():
		case <-time.After(reconnectAfter + rand.N(reconnectAfter)): //nolint:gosec // so that not all come at once
		}
	}
}

// Hears reports whether Watch knows what the other daemons have changed, but for the last
// moments. If not, what was read before may be wrong by now.
func (s *Store) Hears() bool {
	asked := s.asked.Load()
	return asked != nil && time.Since(*asked) < Deaf
}

// watch does so with one connection, and calls heard whenever it has asked what is new.
func (s *Store) watch(ctx context.Context, forget Forget, heard func()) (err error) {
	conn, err := s.connect(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, hangUp(ctx, conn)) }()
	if err := within(ctx, otherTimeout, func(ctx context.Context) error {
		_, err := conn.Exec(ctx, `LISTEN `+channel)
		return err
	}); err != nil {
		return err
	}
	for {
		if err := s.catchUp(ctx, conn, forget); err != nil {
			return err
		}
		heard()
		if err := within(ctx, heartbeat, func(ctx context.Context) error {
			_, err := conn.WaitForNotification(ctx)
			return err
		}); err != nil && (ctx.Err() != nil || conn.IsClosed()) {
			return err
		}
	}
}

// catchUp has forgotten what was changed since the last time. The audit trail tells: its
// numbers are in the order of the commits.
func (s *Store) catchUp(ctx context.Context, conn *pgx.Conn, forget Forget) error {
	return within(ctx, otherTimeout, func(ctx context.Context) error {
		asked := time.Now()
		latest, now, err := s.latest(ctx, conn)
		if err != nil {
			return err
		}
		if latest == s.heard {
			s.asked.Store(&asked)
			return nil
		}
		from, since := s.heard.number, time.Time{}
		if latest.timeline != s.heard.timeline {
			s.log.WarnContext(ctx, "another server has taken over: all that was changed lately is looked at again")
			from, since = 0, now.Add(-longestMemory)
			s.logins.Reset() // no login may ask the one that was
			s.pool.Reset()
		}
		rows, err := conn.Query(ctx, `
			SELECT e.at, t.digest FROM events AS e JOIN tokens AS t ON t.id = e.token
				WHERE e.number > $1 AND e.number <= $2 AND e.at > $6 AND e.action = $3
			UNION ALL
			SELECT e.at, t.digest FROM events AS e JOIN tokens AS t ON t.owner = e."user" AND t.revoked IS NULL
				WHERE e.number > $1 AND e.number <= $2 AND e.at > $6 AND e.action IN ($4, $5)`,
			from, latest.number, token.TokenRevoked, token.UserDisabled, token.UserEnabled, since)
		if err != nil {
			return err
		}
		var digests []token.Digest
		var at time.Time
		var digest []byte
		if _, err := pgx.ForEachRow(rows, []any{&at, &digest}, func() error {
			d, err := asDigest(digest)
			digests = append(digests, d)
			if at.After(s.began) { // else nobody was there to hear of it
				s.watched.heard(now.Sub(at))
			}
			return err
		}); err != nil {
			return err
		}
		if err := forget(ctx, digests...); err != nil {
			return fmt.Errorf("forget what was changed: %w", err)
		}
		s.heard = latest
		s.asked.Store(&asked)
		return nil
	})
}
