package cache

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
)

// A login waits for Redis no longer than 100 ms in all: for an answer, and where the
// store had to be asked, until its record is kept.
const (
	getTimeout  = 50 * time.Millisecond
	fillTimeout = 40 * time.Millisecond
	// buryTimeout is for changes, which may take longer.
	buryTimeout = 500 * time.Millisecond
	// probeTimeout is for a server that did not answer before.
	probeTimeout = time.Second
	// lookEvery is how often a server is tried that was full.
	lookEvery = time.Second
)

// The client's own log repeats the errors that it returns.
func init() { redis.SetLogger(silence{}) }

type silence struct{}

// Printf implements the client's Logging.
func (silence) Printf(context.Context, string, ...any) {}

// tombstone is a value that nothing sealed is like.
const tombstone = "buried"

// fill keeps a value unless a tombstone is there. What is no text is overwritten.
var fill = redis.NewScript(`
if redis.pcall('GET', KEYS[1]) == ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return 1`)

// ErrPending says that tombstones are not in the shared cache yet. They are kept in
// mind, and written before anything is believed that the cache says.
var ErrPending = errors.New("the shared cache could not be told yet")

var (
	errNotTried = errors.New("it was not tried yet")
	errFull     = errors.New("it has no memory left: raise Redis' maxmemory, or let it evict (maxmemory-policy allkeys-lru)")
)

// isFull tells whether a server has no memory for more.
func isFull(err error) bool { return redis.HasErrorPrefix(err, "OOM") }

// Redis is a cache that several daemons share: one server, or those that a Sentinel or a
// Cluster has. What it cannot say it says with an error, soon.
//
// Tombstones are kept in this process, too. They are there whatever becomes of the
// server, and written to it again when it was away.
type Redis struct {
	client  redis.UniversalClient
	asked   questions
	keys    atomic.Pointer[Keys]
	graves  *graves
	breaker *breaker
	full    atomic.Bool // the server refuses to keep more
	log     *slog.Logger
	now     func() time.Time
}

// RedisConfig says where Redis is, and how to use it.
type RedisConfig struct {
	Address
	Keys       Keys
	Logger     *slog.Logger          // nil: nobody is told when it is used and when not
	Registerer prometheus.Registerer // nil: no metrics
	Now        func() time.Time      // by which keys end; nil: time.Now
}

// NewRedis returns a cache that is used as soon as Run has reached the server.
func NewRedis(cfg RedisConfig) (*Redis, error) {
	options, err := cfg.options()
	if err != nil {
		return nil, err
	}
	client := redis.NewUniversalClient(options)
	r := &Redis{client: client, asked: questions{client: client}, graves: newGraves(), log: cfg.Logger, now: cfg.Now}
	if r.log == nil {
		r.log = slog.New(slog.DiscardHandler)
	}
	if r.now == nil {
		r.now = time.Now
	}
	r.breaker = newBreaker(r.log, errNotTried)
	r.keys.Store(&cfg.Keys)
	registerMetrics(cfg.Registerer, r)
	return r, nil
}

// SetKeys takes over other keys, and reports whether another one seals now.
func (r *Redis) SetKeys(k Keys) (changed bool) {
	before := r.keys.Swap(&k)
	return len(before.Seals) == 0 || len(k.Seals) == 0 || before.Seals[0].Number != k.Seals[0].Number
}

// Err is nil while the cache is used and takes what it is given, else why not.
func (r *Redis) Err() error {
	if err := r.breaker.err(); err != nil {
		return err
	}
	if r.full.Load() {
		return errFull
	}
	return nil
}

// Used reports whether what the cache says is believed.
func (r *Redis) Used() bool { return r.breaker.err() == nil }

// Get returns what is kept under the key. Its errors are ErrTampered, or say that the
// server did not answer.
func (r *Redis) Get(ctx context.Context, key string) (Entry, error) {
	keys := r.keys.Load()
	name := keys.name(key)
	if r.graves.has(name) {
		return Entry{Buried: true}, nil
	}
	if err := r.breaker.err(); err != nil {
		return Entry{}, err
	}
	sealed, err := r.get(ctx, name)
	switch {
	case errors.Is(err, redis.Nil):
		return Entry{}, nil
	case err != nil:
		return Entry{}, fmt.Errorf("ask Redis: %w", err)
	case string(sealed) == tombstone:
		return Entry{Buried: true}, nil
	}
	value, err := keys.open(name, sealed, r.now())
	if errors.Is(err, errOtherKey) { // it is about to be changed everywhere
		return Entry{}, nil
	}
	return Entry{Value: value}, err
}

func (r *Redis) get(ctx context.Context, name string) ([]byte, error) {
	within, cancel := context.WithTimeout(ctx, getTimeout)
	defer cancel()
	value, err := r.asked.get(within, name)
	switch {
	case err == nil, errors.Is(err, redis.Nil):
		r.breaker.worked()
	case redis.HasErrorPrefix(err, "WRONGTYPE"):
		r.breaker.worked()
		return nil, ErrTampered
	case ctx.Err() == nil: // else the caller gave up
		r.breaker.failed(ctx, err)
	}
	return value, err
}

// Fill keeps the value for the given life, unless a tombstone is there.
func (r *Redis) Fill(ctx context.Context, key string, value []byte, life time.Duration) error {
	keys := r.keys.Load()
	name := keys.name(key)
	if r.graves.has(name) {
		return nil
	}
	if err := r.breaker.err(); err != nil {
		return err
	}
	sealed, err := keys.seal(name, value)
	if err != nil {
		return err
	}
	within, cancel := context.WithTimeout(ctx, fillTimeout)
	defer cancel()
	err = fill.Run(within, r.client, []string{name}, tombstone, sealed, life.Milliseconds()).Err()
	switch {
	case err == nil:
		r.noteFull(ctx, false)
		return nil
	case isFull(err):
		r.noteFull(ctx, true)
	case ctx.Err() == nil:
		r.breaker.failed(ctx, err)
	}
	return fmt.Errorf("keep it in Redis: %w", err)
}

// Bury puts tombstones in the keys' places. From then on this process finds them there,
// whatever happens; with ErrPending, others may not yet.
func (r *Redis) Bury(ctx context.Context, life time.Duration, keys ...string) error {
	k := r.keys.Load()
	names := make([]string, len(keys))
	for i, key := range keys {
		names[i] = k.name(key)
	}
	r.graves.dig(names, life)
	if err := r.breaker.err(); err != nil {
		return fmt.Errorf("%w: %w", ErrPending, err)
	}
	within, cancel := context.WithTimeout(context.WithoutCancel(ctx), buryTimeout)
	defer cancel()
	if err := r.write(within, names); err != nil {
		r.breaker.turnOff(ctx, err)
		return fmt.Errorf("%w: %w", ErrPending, err)
	}
	return nil
}

// write writes the tombstones of these names.
func (r *Redis) write(ctx context.Context, names []string) error {
	const batch = 1000
	for len(names) > 0 {
		n := min(len(names), batch)
		_, err := r.client.Pipelined(ctx, func(p redis.Pipeliner) error {
			for _, name := range names[:n] {
				if left := r.graves.left(name); left > 0 {
					p.Set(ctx, name, tombstone, left)
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		r.graves.written(names[:n])
		names = names[n:]
	}
	return nil
}

// Run turns the cache on when the server answers, and again whenever it was away. It
// returns when ctx ends.
func (r *Redis) Run(ctx context.Context) {
	sweep, look := time.NewTicker(time.Minute), time.NewTicker(lookEvery)
	defer sweep.Stop()
	defer look.Stop()
	for ctx.Err() == nil {
		if r.breaker.err() == nil {
			select {
			case <-ctx.Done():
			case <-r.breaker.tripped:
			case <-sweep.C:
				r.graves.sweep()
			case <-look.C:
				if r.full.Load() {
					_ = r.probe(ctx) // notes whether it still is
				}
			}
			continue
		}
		if err := r.recover(ctx); err == nil {
			continue
		} else if ctx.Err() == nil {
			r.breaker.still(ctx, explain(err))
		}
		select {
		case <-ctx.Done():
		case <-time.After(r.breaker.next()):
		}
	}
}

// recover asks all servers, and writes every tombstone there is before the cache is used
// again: what they had of them may be gone.
func (r *Redis) recover(ctx context.Context) error {
	if err := r.probe(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 10*probeTimeout)
	defer cancel()
	names := r.graves.all()
	for {
		if err := r.write(ctx, names); err != nil {
			return err
		}
		if r.breaker.turnOn(ctx, func() bool { return r.graves.pending() == 0 }) {
			return nil
		}
		names = r.graves.unwritten()
	}
}

// probe returns nil if all servers answer, and take something to keep.
func (r *Redis) probe(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	if cluster, ok := r.client.(*redis.ClusterClient); ok {
		if err := cluster.ForEachMaster(ctx, func(ctx context.Context, c *redis.Client) error { return c.Ping(ctx).Err() }); err != nil {
			return err
		}
	}
	const name = prefix + "probe"
	if err := r.client.Get(ctx, name).Err(); err != nil && !errors.Is(err, redis.Nil) {
		return err
	}
	err := fill.Run(ctx, r.client, []string{name}, tombstone, "", time.Second.Milliseconds()).Err()
	if isFull(err) { // what is in it can be had
		r.noteFull(ctx, true)
		return nil
	}
	if err == nil {
		r.noteFull(ctx, false)
	}
	return err
}

func (r *Redis) noteFull(ctx context.Context, full bool) {
	switch {
	case r.full.Swap(full) == full:
	case full:
		r.log.WarnContext(ctx, "the cache takes nothing more", "err", errFull)
	default:
		r.log.InfoContext(ctx, "the cache takes what it is given again")
	}
}

// Close closes the connections.
func (r *Redis) Close() error { return r.client.Close() }
