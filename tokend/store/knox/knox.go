// Package knox reads the tokens that django-rest-knox keeps in a PostgreSQL database: SODAR's, or those
// of any other Django site. It never writes, and needs no right but to read a few columns.
package knox

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"

	"tokend/tokend/store/server"
	"tokend/tokend/token"
)

// Config says where the tables are.
type Config struct {
	// URL of the database: postgres://user@host/database, with libpq's parameters, such as sslmode.
	URL string
	// Password returns that of the user, for each new connection. Nil: the user has none.
	Password func() (string, error)
	// Connections is how many may be open at once. Below 1: 1.
	Connections int
	// Tables, as far as they are set by hand.
	Tables Tables
	// Names are what errors call these. The zero Names: those of [knox].
	Names server.Names
	// Logger hears when the tables are found, or are not what they should be. Nil: nobody does.
	Logger *slog.Logger
	// Registerer exports the metrics. Nil: nobody does.
	Registerer prometheus.Registerer
}

// Tables are where Knox keeps what. What is empty is found.
type Tables struct {
	Tokens   string // a table, with or without its schema
	Users    string
	Username string // a column of Users
	Active   string // a column of Users
	Scheme   Scheme
}

// Scheme is which Knox fills the tables.
type Scheme string

// Every Scheme there is.
const (
	Found Scheme = "" // by the length of token_key
	Knox4 Scheme = "4.2"
	Knox5 Scheme = "5"
)

// Store is an open database. Its methods may be called concurrently.
type Store struct {
	pool    *pgxpool.Pool
	spare   *pgxpool.Pool // for those whose connections have become silent
	wanted  Tables
	names   server.Names
	log     *slog.Logger
	clock   server.Clock
	metrics *metrics
	found   atomic.Pointer[found]
}

// found is what the last look at the database has found: tables, or why none can be read.
type found struct {
	*tables
	err error
}

const (
	lookupTimeout = time.Second
	findTimeout   = 5 * time.Second
)

// errNotYet is before the first look.
var errNotYet = errors.New("the tables have not been looked for yet")

// Open looks at the database. That it is away, or that the tables are not what they should be, is no
// error: Scheme and every look-up say so, until Run finds them. Salted tables are one.
func Open(ctx context.Context, cfg Config) (*Store, error) {
	if cfg.Names == (server.Names{}) {
		cfg.Names = server.Names{URL: "[knox] url", Password: "[knox] password_file", Connections: "[knox] connections"}
	}
	settings, err := server.Parse(cfg.Names.URL, cfg.URL, cfg.Password)
	if err != nil {
		return nil, err
	}
	settings.MaxConns = int32(max(cfg.Connections, 1)) //nolint:gosec // the configuration's limit is far below
	// No named statement: a pooler gives each to another session of the server.
	settings.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeCacheDescribe
	settings.ShouldPing = func(context.Context, pgxpool.ShouldPingParams) bool { return false }
	s := &Store{wanted: cfg.Tables, names: cfg.Names, log: cfg.Logger, metrics: newMetrics(cfg.Registerer)}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	for pool, settings := range map[**pgxpool.Pool]*pgxpool.Config{&s.pool: settings, &s.spare: server.Spare(settings)} {
		if *pool, err = pgxpool.NewWithConfig(ctx, settings); err != nil {
			return nil, errors.Join(fmt.Errorf("open the database of Knox: %w", err), s.Close())
		}
	}
	server.RegisterPools(cfg.Registerer, map[string]*pgxpool.Pool{"knox": s.pool, "knox_spare": s.spare})
	s.found.Store(&found{err: errNotYet})
	if err := s.find(ctx); errors.Is(err, errSalted) {
		return nil, errors.Join(fmt.Errorf("open %s: %w", s, err), s.Close())
	}
	return s, nil
}

// String names the database, without its password.
func (s *Store) String() string { return server.Describe(s.pool.Config().ConnConfig) }

// Site is what decides which tables are read: the database, the role, whose schemas may be its own, and what is set by hand.
func (s *Store) Site() string {
	return fmt.Sprintf("%s %q %q", s, s.pool.Config().ConnConfig.User, s.wanted)
}

// Close closes the connections. Those to a server that says nothing end with the process.
func (s *Store) Close() error {
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		for _, pool := range []*pgxpool.Pool{s.pool, s.spare} {
			if pool != nil {
				pool.Close()
			}
		}
	}()
	select {
	case <-closed:
	case <-time.After(2 * time.Second):
	}
	return nil
}

// Now is the server's time, by which it is judged whether a token has expired.
func (s *Store) Now() time.Time { return s.clock.Now() }

// Err is nil if the tables can be read, as far as is known; else why not.
func (s *Store) Err() error { return s.found.Load().err }

// Scheme is how the digests are made of the tokens, or why nobody can say.
func (s *Store) Scheme() (token.Scheme, error) {
	f := s.found.Load()
	switch {
	case f.err == nil:
		return f.scheme, nil
	case s.wanted.Scheme == Knox4 && !errors.Is(f.err, token.ErrDrift): // the database is away, and what is cached is known
		return token.Knox4, nil
	case s.wanted.Scheme == Knox5 && !errors.Is(f.err, token.ErrDrift):
		return token.Knox5, nil
	}
	return "", f.err
}

// Lookup returns the record under the digest, or token.ErrNotFound. Where the tables are not what they
// should be, it is token.ErrDrift.
func (s *Store) Lookup(ctx context.Context, digest token.Digest) (token.Record, error) {
	records, twice, err := s.lookUp(ctx, digest)
	if err != nil {
		return token.Record{}, err
	}
	record, ok := records[digest]
	switch {
	case twice != nil:
		return token.Record{}, fmt.Errorf("look up in %s: %w", s, errTwice)
	case !ok:
		return token.Record{}, token.ErrNotFound
	}
	return record, nil
}

// Ping returns nil if a token can be looked up.
func (s *Store) Ping(ctx context.Context) error {
	_, err := s.LookupAll(ctx, token.Digest{}) // it is nobody's
	return err
}

// LookupAll returns the records under the digests, by one statement. What is not there, or has two owners, has none.
func (s *Store) LookupAll(ctx context.Context, digests ...token.Digest) (map[token.Digest]token.Record, error) {
	records, _, err := s.lookUp(ctx, digests...)
	return records, err
}

// lookUp also returns those that are there twice: whose they are, nobody can say.
func (s *Store) lookUp(ctx context.Context, digests ...token.Digest) (records map[token.Digest]token.Record, twice []token.Digest, err error) {
	var found []token.Record
	err = s.ask(ctx, func(ctx context.Context, t *tables) error {
		found, err = s.read(ctx, t, digests)
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	records = make(map[token.Digest]token.Record, len(found))
	for _, r := range found {
		if _, is := records[r.Digest]; is {
			twice = append(twice, r.Digest)
		}
		records[r.Digest] = r
	}
	for _, digest := range twice {
		delete(records, digest)
	}
	return records, twice, nil
}

// MayLogIn reports whether the site has a user of that name who is active. Its errors are those of Lookup.
func (s *Store) MayLogIn(ctx context.Context, name string) (may bool, err error) {
	err = s.ask(ctx, func(ctx context.Context, t *tables) error {
		may, err = server.Either(ctx, s.pool, s.spare, func(ctx context.Context, pool *pgxpool.Pool) (may bool, err error) {
			return server.Again(ctx, pool, func() (may bool, err error) {
				same := false
				if err = pool.QueryRow(ctx, t.active, name).Scan(&same, &may); err == nil && !same {
					err = errChanged
				}
				return may, err
			})
		})
		return err
	})
	return may && err == nil, err
}

// ask asks the tables that were found, within a login's time, and explains the error.
func (s *Store) ask(ctx context.Context, what func(context.Context, *tables) error) error {
	begun := time.Now()
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	f := s.found.Load()
	err := f.err
	if err == nil {
		err = what(ctx, f.tables)
		if isDrift(err) || errors.Is(err, errChanged) {
			err = s.lost(f, err)
		} else if err != nil {
			err = server.Explain(s.names, err)
		}
	}
	s.metrics.observe(begun, err)
	if err != nil {
		return fmt.Errorf("look up in %s: %w", s, err)
	}
	return nil
}

// explain is why the tables cannot be read.
func (s *Store) explain(err error) error {
	if isDrift(err) {
		return drift("%w", err)
	}
	return server.Explain(s.names, err)
}

func (s *Store) read(ctx context.Context, t *tables, digests []token.Digest) ([]token.Record, error) {
	texts := make([]string, len(digests))
	for i, d := range digests {
		texts[i] = d.String()
	}
	return server.Either(ctx, s.pool, s.spare, func(ctx context.Context, pool *pgxpool.Pool) ([]token.Record, error) {
		return server.Again(ctx, pool, func() ([]token.Record, error) {
			rows, err := pool.Query(ctx, t.lookup, texts)
			if err != nil {
				return nil, err
			}
			var records []token.Record
			r, same := row{tables: t}, false
			_, err = pgx.ForEachRow(rows, append([]any{&same}, r.columns()...), func() error {
				if !same {
					return errChanged
				}
				if r.digest == "" {
					return nil // there is none
				}
				record, err := r.record()
				records = append(records, record)
				return err
			})
			return records, err
		})
	})
}

// errTwice is that a token has two owners, as where a view joins a table that has several rows for each. Of all others
// it is known whose they are.
var errTwice = drift("a token is there twice, so that nobody can say whose it is: each has to have one owner in the tables, or views, that are set")

// row is one of the answer's.
type row struct {
	*tables
	digest, key, owner string
	expiry             pgtype.Timestamptz
	active             bool
}

func (r *row) columns() []any { return []any{&r.digest, &r.key, &r.expiry, &r.owner, &r.active} }

// record is what the row says of a token, whose label and creation may not be readable.
func (r *row) record() (token.Record, error) {
	record := token.Record{Owner: r.owner, OwnerDisabled: !r.active, Scheme: r.scheme, Hint: hint(r.key)}
	if len(r.key) == knox4Key { // in a table that was Knox 4.2's, too
		record.Scheme = token.Knox4
	}
	record.ID = token.KnoxID + record.Hint
	var err error
	if record.Digest, err = token.ParseDigest(r.digest); err != nil {
		return token.Record{}, fmt.Errorf("a row of %s: %w", r.name, err)
	}
	if r.digest != record.Digest.String() { // which a look-up does not find
		return token.Record{}, fmt.Errorf("a row of %s: its digest is not written as Knox does", r.name)
	}
	switch {
	case !r.expiry.Valid || r.expiry.InfinityModifier == pgtype.Infinity || r.expiry.Time.UTC().Year() > 9999: // never
	case r.expiry.InfinityModifier == pgtype.NegativeInfinity || token.Time(r.expiry.Time).IsZero(): // which would be never
		record.Expires = longAgo
	default:
		record.Expires = token.Time(r.expiry.Time)
	}
	return record, nil
}

// longAgo is before every token was made.
var longAgo = time.Unix(0, 0).UTC()

// knox4Key is how long a token_key of Knox 4.2 is.
const knox4Key = 8

// hint is what stands first of the digits in a token_key, without a site's prefix.
func hint(key string) string {
	from := len(key)
	for from > 0 && isHexDigit(key[from-1]) {
		from--
	}
	key = key[from:]
	return key[:min(len(key), token.HintLength)]
}

func isHexDigit(c byte) bool { return c >= '0' && c <= '9' || c >= 'a' && c <= 'f' }

// lost notes that the tables are not what they were.
func (s *Store) lost(was *found, why error) error {
	err := fmt.Errorf("%w: %w", token.ErrDrift, why)
	s.found.CompareAndSwap(was, &found{err: err})
	return err
}

// Run looks for the tables again and again until ctx ends: each second while they cannot be read, else
// now and then, as they may have become others.
func (s *Store) Run(ctx context.Context) {
	const soon, seldom = time.Second, 15 * time.Second
	for {
		after := seldom
		if s.Err() != nil {
			after = soon
		}
		// What is lost meanwhile is looked for as soon.
		for waited := time.Duration(0); waited < after && (s.Err() != nil) == (after == soon); waited += soon {
			select {
			case <-ctx.Done():
				return
			case <-time.After(soon):
			}
		}
		_ = s.find(ctx) // Err says it
	}
}
