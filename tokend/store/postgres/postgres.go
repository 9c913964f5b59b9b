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
	// Connections is how many may be open at once. 0: as many as pgx opens by itself.
	Connections int
	// Logger hears of a new or upgraded schema. Nil: nobody does.
	Logger *slog.Logger
	// Registerer exports the metrics. Nil: nobody does.
	Registerer prometheus.Registerer
}

// Store is a pool of connections. Its methods may be called concurrently. A change that
// ends with an error was not made; only where the context or the method's own time has
// ended, or the connection broke, may it have been.
type Store struct {
	pool    *pgxpool.Pool
	log     *slog.Logger
	clock   clock
	metrics *store.Metrics
	watched *watchMetrics
	heard   int64 // the last entry of the audit trail that Watch knows of
}

const (
	lookupTimeout = time.Second
	otherTimeout  = 5 * time.Second
)

// Open connects to the database and upgrades its schema; of many daemons that do so at
// once, one upgrades it. A schema that is newer than this program's is refused with a
// *store.NewerSchemaError.
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
	if cfg.Connections > 0 {
		settings.MaxConns = int32(cfg.Connections) //nolint:gosec // the configuration's limit is far below
	}
	settings.ConnConfig.RuntimeParams["application_name"] = "tokend"
	settings.ConnConfig.RuntimeParams["timezone"] = "UTC"
	// The server ends what nobody waits for any more, also after a daemon's death.
	settings.ConnConfig.RuntimeParams["statement_timeout"] = milliseconds(otherTimeout)
	settings.ConnConfig.RuntimeParams["idle_in_transaction_session_timeout"] = milliseconds(2 * otherTimeout)
	settings.ConnConfig.ConnectTimeout = otherTimeout
	pool, err := pgxpool.NewWithConfig(ctx, settings)
	if err != nil {
		return nil, fmt.Errorf("open the database: %w", err)
	}
	s := &Store{pool: pool, log: log}
	if err = s.upgrade(ctx); err == nil {
		err = s.begin(ctx)
	}
	if err != nil {
		pool.Close()
		return nil, fmt.Errorf("open %s: %w", place(settings.ConnConfig), err)
	}
	s.metrics, s.watched = store.NewMetrics(cfg.Registerer), newWatchMetrics(cfg.Registerer, &s.clock)
	return s, nil
}

// begin notes the server's time, and from which change on Watch is to tell.
func (s *Store) begin(ctx context.Context) error {
	return within(ctx, otherTimeout, func(ctx context.Context) error {
		asked, now := time.Now(), time.Time{}
		if err := s.pool.QueryRow(ctx, `SELECT coalesce(max(number), 0), clock_timestamp() FROM events`).Scan(&s.heard, &now); err != nil {
			return explain(err)
		}
		s.clock.set(now, asked)
		return nil
	})
}

// Now is the server's time, by which all daemons judge alike.
func (s *Store) Now() time.Time { return s.clock.now() }

func milliseconds(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }

// place names the database without its password.
func place(c *pgx.ConnConfig) string {
	return fmt.Sprintf("database %q on %s", c.Database, c.Host)
}

// Close waits for what is under way and closes the connections.
func (s *Store) Close() error {
	s.pool.Close()
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
