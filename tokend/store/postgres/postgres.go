// Package postgres keeps tokens in a PostgreSQL database, for any number of daemons. A
// change that it has acknowledged is in the server's log on disk. What all stores
// promise is in storetest; the judging of tokens is verify's.
package postgres

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"

	"tokend/tokend/store"
)

// Config says which database to open.
type Config struct {
	// URL of the database: postgres://user@host/database, with libpq's parameters, such
	// as sslmode.
	URL string
	// Password returns that of the user, for each new connection. Nil: the user has none.
	Password func() (string, error)
	// Connections is how many may be open at once, half of them for logins alone; Watch has
	// one more. Below 2: 2.
	Connections int
	// Logger hears of a new or upgraded schema. Nil: nobody does.
	Logger *slog.Logger
	// Registerer exports the metrics. Nil: nobody does.
	Registerer prometheus.Registerer
}

// Store is an open database. Its methods may be called concurrently. A change that
// ends with an error was not made; only where the context or the method's own time has
// ended, or the connection broke, may it have been.
type Store struct {
	pool    *pgxpool.Pool
	logins  *pgxpool.Pool // that nothing else waits for
	log     *slog.Logger
	clock   clock
	metrics *store.Metrics
	watched *watchMetrics
	began   time.Time                 // the server's time
	heard   place                     // the last entry of the audit trail that Watch knows of
	asked   atomic.Pointer[time.Time] // when Watch last asked for it
}

const (
	lookupTimeout = time.Second
	otherTimeout  = 5 * time.Second
)

// Open connects to the database and upgrades its schema; of many daemons that do so at
// once, one upgrades it. A schema that is newer than this program's is refused with a
// *store.NewerSchemaError, and a standby with store.ErrUnwritable.
func Open(ctx context.Context, cfg Config) (*Store, error) {
	log := cfg.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	settings, err := pgxpool.ParseConfig(cfg.URL) // whose errors hide the password
	if err != nil {
		return nil, fmt.Errorf("open the database: %w", err)
	}
	if cfg.Password != nil {
		settings.BeforeConnect = func(_ context.Context, c *pgx.ConnConfig) (err error) {
			c.Password, err = cfg.Password()
			return err
		}
	}
	settings.ConnConfig.RuntimeParams["application_name"] = "tokend"
	settings.ConnConfig.RuntimeParams["timezone"] = "UTC"
	// The server ends what nobody waits for any more, also after a daemon's death.
	settings.ConnConfig.RuntimeParams["statement_timeout"] = milliseconds(otherTimeout)
	settings.ConnConfig.RuntimeParams["idle_in_transaction_session_timeout"] = milliseconds(2 * otherTimeout)
	settings.ConnConfig.ConnectTimeout = otherTimeout
	settings.AfterConnect = insistOnDisk
	s := &Store{log: log}
	connections := max(cfg.Connections, 2)
	for pool, most := range map[**pgxpool.Pool]int{&s.logins: connections / 2, &s.pool: connections - connections/2} {
		settings := settings.Copy()
		settings.MaxConns = int32(most) //nolint:gosec // the configuration's limit is far below
		if *pool, err = pgxpool.NewWithConfig(ctx, settings); err != nil {
			return nil, errors.Join(fmt.Errorf("open the database: %w", err), s.Close())
		}
	}
	if err = s.upgrade(ctx); err == nil {
		err = s.begin(ctx)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open %s: %w", describe(settings.ConnConfig), err), s.Close())
	}
	s.metrics, s.watched = store.NewMetrics(cfg.Registerer), newWatchMetrics(cfg.Registerer, &s.clock)
	registerPools(cfg.Registerer, map[string]*pgxpool.Pool{"logins": s.logins, "changes": s.pool})
	return s, nil
}

// begin notes the server's time, and from which change on Watch is to tell: of those, too,
// that a shared cache may not have been told of before this daemon started.
func (s *Store) begin(ctx context.Context) error {
	return within(ctx, otherTimeout, func(ctx context.Context) error {
		var now time.Time
		var err error
		if s.heard, now, err = s.latest(ctx, s.pool); err != nil {
			return explain(err)
		}
		s.began = now
		if err = s.pool.QueryRow(ctx, `SELECT coalesce((SELECT number - 1 FROM events WHERE at > $1 ORDER BY at LIMIT 1), $2)`, now.Add(-longestMemory), s.heard.number).Scan(&s.heard.number); err != nil {
			return explain(err)
		}
		if s.heard.timeline == "" {
			return fmt.Errorf("%w: the server is a standby, which tells nobody of changes; name the primary, or all of them and target_session_attrs=read-write", store.ErrUnwritable)
		}
		return nil
	})
}

// insistOnDisk undoes a synchronous_commit=off of the server's, the database's or the
// user's, by which what was acknowledged may be lost; stronger settings stay.
func insistOnDisk(ctx context.Context, conn *pgx.Conn) error {
	_, err := conn.Exec(ctx, `SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'`)
	return err
}

// Now is the server's time, by which all daemons judge alike.
func (s *Store) Now() time.Time { return s.clock.now() }

func milliseconds(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }

// describe names the database without its password.
func describe(c *pgx.ConnConfig) string {
	return fmt.Sprintf("database %q on %s", c.Database, c.Host)
}

// Close waits for what is under way and closes the connections.
func (s *Store) Close() error {
	for _, pool := range []*pgxpool.Pool{s.logins, s.pool} {
		if pool != nil {
			pool.Close()
		}
	}
	return nil
}

// do runs f within the operation's timeout, measures it, and explains its error.
func do[T any](ctx context.Context, s *Store, op store.Operation, f func(context.Context) (T, error)) (T, error) {
	began := time.Now()
	timeout := otherTimeout
	if op == store.Lookup {
		timeout = lookupTimeout
	}
	within, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	value, err := f(within)
	if err != nil && within.Err() != nil {
		if err = ctx.Err(); err == nil {
			err = fmt.Errorf("no answer within %s: %w", timeout, within.Err())
		}
	}
	s.metrics.Observe(op, time.Since(began), err)
	if err != nil {
		return value, fmt.Errorf("%s: %w", op, explain(err))
	}
	return value, nil
}

// none is a result that says nothing.
type none struct{}

var errNoTime = errors.New("a change is made at some time, not at the zero time")
