// Package postgres keeps tokens in a PostgreSQL database, for any number of daemons. A
// change that it has acknowledged is in the server's log on disk. What all stores
// promise is in storetest; the judging of tokens is verify's.
package postgres

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"

	"tokend/tokend/store"
	"tokend/tokend/store/server"
	"tokend/tokend/token"
)

// Config says which database to open.
type Config struct {
	// URL of the database: postgres://user@host/database, with libpq's parameters, such
	// as sslmode.
	URL string
	// Direct is the URL of the same database past the pooler, such as PgBouncer, that URL
	// then leads to. Empty: URL leads to the server itself.
	Direct string
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
	pool     *pgxpool.Pool
	logins   *pgxpool.Pool // that nothing else waits for
	spare    *pgxpool.Pool // for those whose connections have become silent
	past     *pgxpool.Pool // the pooler, to prove where that leads; nil: there is none
	direct   *pgxpool.Config
	pooled   bool // whether the pools don't lead to the server itself
	log      *slog.Logger
	clock    server.Clock
	metrics  *store.Metrics
	watched  *watchMetrics
	began    time.Time                 // the server's time
	seen     place                     // the newest entry of the audit trail when Watch last looked
	told     int64                     // up to which number Watch has told of the entries
	again    bool                      // all that was changed lately has to be told, and is not yet
	asked    atomic.Pointer[time.Time] // when Watch last asked for it
	lost     atomic.Pointer[error]     // why it could not, the last time
	since    atomic.Pointer[time.Time] // see Since
	mark     atomic.Pointer[mark]      // what the session that Watches holds; nil: there is none
	unproved atomic.Pointer[time.Time] // see Proved
	proving  proving
	doubt    atomic.Pointer[error] // see ChangesErr; nil: none
	// elsewhere is whether the pools were found to lead to another database than direct
	// does: nothing is asked or changed there.
	elsewhere atomic.Bool
}

const (
	lookupTimeout = time.Second
	otherTimeout  = 5 * time.Second
)

// Open connects to the database and upgrades its schema; of many daemons that do so at
// once, one upgrades it. A schema that is newer than this program's is refused with a
// *store.NewerSchemaError, and a standby with store.ErrUnwritable.
func Open(ctx context.Context, cfg Config) (*Store, error) {
	s, err := dial(ctx, cfg)
	if err != nil {
		return nil, err
	}
	if err = s.checkURLs(ctx); err == nil { // before tables are made in the wrong database
		err = s.upgrade(ctx)
	}
	if err == nil {
		err = s.begin(ctx)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open %s: %w", s, explain(err)), s.Close())
	}
	s.metrics, s.watched = store.NewMetrics(cfg.Registerer), newWatchMetrics(cfg.Registerer, &s.clock)
	pools := map[string]*pgxpool.Pool{"logins": s.logins, "spare": s.spare, "changes": s.pool}
	if s.pooled {
		pools["past"] = s.past
	}
	server.RegisterPools(cfg.Registerer, pools)
	return s, nil
}

// dial makes the pools, which connect when they are asked.
func dial(ctx context.Context, cfg Config) (*Store, error) {
	log := cfg.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	settings, err := server.Parse("[store] url", cfg.URL, cfg.Password)
	direct := settings
	if err == nil && cfg.Direct != "" {
		direct, err = server.Parse("[store] direct_url", cfg.Direct, cfg.Password)
	}
	if err != nil {
		return nil, fmt.Errorf("open the database: %w", err)
	}
	lastingSession(direct)
	s := &Store{log: log, direct: direct, pooled: cfg.Direct != ""}
	if s.pooled {
		anySession(settings)
		past := direct.Copy()
		past.MaxConns, past.MinConns, past.AfterConnect = provingConnections, provingConnections, refusePooler
		past.HealthCheckPeriod = time.Second // or those that are lost come back a minute later
		if s.past, err = pgxpool.NewWithConfig(ctx, past); err != nil {
			return nil, fmt.Errorf("open the database: %w", err)
		}
	}
	connections := max(cfg.Connections, 2)
	for pool, most := range map[**pgxpool.Pool]int{&s.logins: connections / 2, &s.pool: connections - connections/2} {
		settings := settings.Copy()
		settings.MaxConns = int32(most) //nolint:gosec // the configuration's limit is far below
		// A login takes one round trip; who meets a broken connection, or a silent one, asks another one.
		settings.ShouldPing = func(context.Context, pgxpool.ShouldPingParams) bool { return false }
		if pool == &s.logins {
			if s.spare, err = pgxpool.NewWithConfig(ctx, server.Spare(settings)); err != nil {
				return nil, errors.Join(fmt.Errorf("open the database: %w", err), s.Close())
			}
		}
		if *pool, err = pgxpool.NewWithConfig(ctx, settings); err != nil {
			return nil, errors.Join(fmt.Errorf("open the database: %w", err), s.Close())
		}
	}
	return s, nil
}

// checkURLs makes sure that tokend can connect to the server itself, and that both URLs
// lead to the same database, where there are two.
func (s *Store) checkURLs(ctx context.Context) error {
	conn, err := s.connect(ctx)
	if err == nil {
		err = hangUp(ctx, conn)
	}
	if err == nil {
		err = s.checkSame(ctx)
	}
	return err
}

// begin notes the server's time, and from which change on Watch is to tell: of those, too,
// that a shared cache may not have been told of before this daemon started.
func (s *Store) begin(ctx context.Context) error {
	conn, err := s.connect(ctx)
	if err != nil {
		return err
	}
	latest, _, now, err := s.latest(ctx, conn)
	s.began = now
	s.since.Store(&now)
	s.seen, s.again = latest, true // so that the keys of the cache are told at once
	switch {
	case err != nil:
	case latest.timeline == "":
		err = pgconn.ErrStandbyConnection
	default:
		s.told, err = before(ctx, conn, now.Add(-longestMemory), latest.number)
	}
	return errors.Join(err, hangUp(ctx, conn))
}

// Now is the server's time, by which all daemons judge alike.
func (s *Store) Now() time.Time { return s.clock.Now() }

// String names the database, without its password.
func (s *Store) String() string { return server.Describe(s.pool.Config().ConnConfig) }

// closeTimeout is how long a server may take to say goodbye.
const closeTimeout = 2 * time.Second

// Close waits for what is under way and closes the connections. Those to a server that says
// nothing are closed later, or end with the process.
func (s *Store) Close() error {
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		for _, pool := range []*pgxpool.Pool{s.logins, s.spare, s.pool, s.past} {
			if pool != nil {
				pool.Close()
			}
		}
	}()
	select {
	case <-closed:
	case <-time.After(closeTimeout):
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
	var value T
	err := errElsewhere
	if !s.elsewhere.Load() {
		value, err = f(within)
	}
	refused := errors.Is(err, errUnproved) || errors.Is(err, errElsewhere) || server.Refused(err)
	_, unmade := errors.AsType[unmadeError](err)
	switch {
	case err == nil || within.Err() == nil:
	case ctx.Err() != nil:
		err = ctx.Err()
	case !refused:
		what := "no answer"
		if errors.Is(err, token.ErrUnsure) {
			what = "no answer to the commit, for which PostgreSQL may wait for a standby that is away (synchronous_standby_names),"
		}
		err = fmt.Errorf("%s within %s: %w", what, timeout, within.Err())
	}
	s.metrics.Observe(op, time.Since(began), err)
	if err == nil {
		return value, nil
	}
	if err = fmt.Errorf("%s: %w", op, explain(err)); unmade && ctx.Err() == nil {
		err = unmadeError{err}
	}
	return value, err
}

// none is a result that says nothing.
type none struct{}
