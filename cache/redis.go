package cache

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
)

const (
	// getTimeout is how long an answer may take. A login waits for two at most.
	getTimeout = 50 * time.Millisecond
	// fillTimeout is for what no login waits for.
	fillTimeout = 500 * time.Millisecond
	// claimLife is longer than a look-up and a fill take.
	claimLife = 2 * time.Second
	// buryTimeout is for changes, which may take longer, and for each 10,000 tokens as long.
	buryTimeout = 500 * time.Millisecond
	// probeTimeout is for a server that did not answer before.
	probeTimeout = time.Second
	// lookEvery is how often the server is looked at, whether it is still there.
	lookEvery = time.Second
	// mostFills is how many may be under way at once.
	mostFills = 64
	// warm is how many connections are made before the cache is used. Making one takes
	// longer than a login waits, where the server is far away.
	warm = 2 * atOnce
)

// The client's own log repeats the errors that it returns.
func init() { redis.SetLogger(silence{}) }

type silence struct{}

// Printf implements the client's Logging.
func (silence) Printf(context.Context, string, ...any) {}

// tombstone is a value that nothing sealed is like.
const tombstone = "buried"

// claim begins a value that says that something is looked up, with what no other claim has.
const claim = "looked up "

// makeClaim puts a claim where nothing is, or no text, and returns what is there. It is sent
// as it stands: among several questions, one that the server doesn't know by its hash would
// have to be asked again.
const makeClaim = `
local there = redis.pcall('GET', KEYS[1])
if type(there) == 'string' then return there end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return ARGV[1]`

// fill puts a value in the place of what was seen, and of nothing else. A tombstone may
// have come since, and may have been evicted again.
var fill = redis.NewScript(`
if redis.pcall('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return 1`)

// ErrPending says that tombstones are not in the shared cache yet, or not where all daemons
// look. They are kept in mind, and written before anything is believed that the cache says.
var ErrPending = errors.New("not all daemons may see it in the shared cache yet")

var (
	errNotTried = errors.New("it was not tried yet")
	// errMeanwhile is no trouble of its own: what that was has been said.
	errMeanwhile = errors.New("it was not used for a moment meanwhile")
	errLate      = fmt.Errorf("it answers, but not within %s, and no login waits longer: is Redis far away, or overloaded?", getTimeout)
	errBusy      = errors.New("much is to be kept in Redis already")
	errFull      = errors.New("it has no memory left: raise Redis' maxmemory, or let it evict (maxmemory-policy allkeys-lru)")
)

// wrongType begins the error for what is no text: somebody else has put it there.
const wrongType = "WRONGTYPE"

// isFull tells whether a server has no memory for more.
func isFull(err error) bool { return redis.HasErrorPrefix(err, "OOM") }

// Redis is a cache that several daemons share: one server, or those that a Sentinel or a
// Cluster has. What it cannot say it says with an error, soon.
//
// Tombstones are kept in this process, too. They are there whatever becomes of the
// server, and written to it again when it was away.
type Redis struct {
	client    redis.UniversalClient
	sentinels *sentinels // nil: there are none
	values    questions
	claims    questions
	keys      atomic.Pointer[Keys]
	graves    *graves
	breaker   *breaker
	full      fullness
	switched  atomic.Pointer[time.Time] // when another server became the primary
	primaries []string                  // of a Cluster, as Run knows them
	fills     chan struct{}             // has one for each fill that is under way
	newConn   chan struct{}             // gets one when a connection was made
	log       *slog.Logger
	now       func() time.Time
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
	r := &Redis{
		graves: newGraves(), log: cfg.Logger, now: cfg.Now,
		fills: make(chan struct{}, mostFills), newConn: make(chan struct{}, 1),
	}
	options.OnConnect = func(context.Context, *redis.Conn) error {
		select {
		case r.newConn <- struct{}{}:
		default:
		}
		return nil
	}
	if cfg.Sentinel != "" {
		r.sentinels = newSentinels(cfg.Address, options)
		r.sentinels.changed = r.change
		options.Addrs, options.Dialer = []string{cfg.Sentinel}, r.sentinels.connect
	}
	r.client = newClient(options)
	r.values.client, r.values.ask = r.client, askValue
	r.claims.client, r.claims.ask = r.client, askClaim
	if r.log == nil {
		r.log = slog.New(slog.DiscardHandler)
	}
	if r.now == nil {
		r.now = time.Now
	}
	r.breaker = newBreaker(r.log, errNotTried)
	r.switched.Store(&time.Time{})
	r.keys.Store(&cfg.Keys)
	registerMetrics(cfg.Registerer, r)
	return r, nil
}

// SetKeys takes over other keys, and reports whether another one seals now.
func (r *Redis) SetKeys(k Keys) (changed bool) {
	before := r.keys.Swap(&k)
	return len(before.Seals) == 0 || len(k.Seals) == 0 || before.Seals[0].Number != k.Seals[0].Number
}

// Err is nil while the cache is used, whatever it says is believed, and it takes what it is
// given, else why not.
func (r *Redis) Err() error {
	if err := r.breaker.err(); err != nil {
		return err
	}
	if r.sentinels != nil && r.sentinels.silent() {
		return explain(r.sentinels.silence())
	}
	if r.full.is.Load() {
		return errFull
	}
	return nil
}

// Used reports whether what the cache says is believed.
func (r *Redis) Used() bool { return r.breaker.err() == nil }

// Get returns what is kept under the key. Where nothing is, it says there that it is looked
// up. Its errors are ErrTampered, or say that the server did not answer.
func (r *Redis) Get(ctx context.Context, key string) (Entry, error) {
	keys := r.keys.Load()
	name := keys.name(key)
	if r.graves.has(name) {
		return Entry{Buried: true}, nil
	}
	off := r.breaker.offAt.Load()
	if err := r.breaker.err(); err != nil {
		return Entry{}, err
	}
	begun := time.Now()
	seen, err := r.get(ctx, name)
	ofOthers := errors.Is(err, ErrTampered)
	if ofOthers || errors.Is(err, redis.Nil) {
		seen, err = r.claim(ctx, name, begun)
	}
	if err == nil && r.breaker.offAt.Load() != off { // who has answered may lack tombstones of this process
		err = errMeanwhile
	}
	switch {
	case err != nil:
		return Entry{}, fmt.Errorf("ask Redis: %w", err)
	case string(seen) == tombstone:
		return Entry{Buried: true}, nil
	}
	there := Entry{Seen: seen, Since: r.agreed(*off)}
	switch {
	case ofOthers:
		return there, ErrTampered
	case bytes.HasPrefix(seen, []byte(claim)):
		return there, nil
	}
	there.Value, err = keys.open(name, seen, r.now())
	if errors.Is(err, errOtherKey) { // it is about to be changed everywhere
		err = nil
	}
	return there, err
}

// claim makes one, and returns what is there. With the question before, which began then, it
// takes twice the getTimeout at most; so none is made if that has taken too long, because
// of others. One that is late is no failure.
func (r *Redis) claim(ctx context.Context, name string, begun time.Time) ([]byte, error) {
	if time.Since(begun) > getTimeout {
		return newClaim(), nil
	}
	within, cancel := context.WithDeadline(ctx, begun.Add(2*getTimeout))
	defer cancel()
	there, err := r.claims.get(within, name)
	switch {
	case err == nil:
	case isFull(err):
		r.noteFull(ctx)
		return newClaim(), nil
	case errors.Is(err, context.Canceled), isTimeout(err):
	default:
		r.breaker.failed(ctx, err)
	}
	return there, err
}

// newClaim is one that nobody has seen, and that no fill finds unless it was put there.
func newClaim() []byte { return []byte(claim + rand.Text()) }

func askClaim(ctx context.Context, c redis.Cmdable, name string) func() ([]byte, error) {
	answer := c.Eval(ctx, makeClaim, []string{name}, newClaim(), claimLife.Milliseconds())
	return func() ([]byte, error) {
		there, err := answer.Text()
		return []byte(there), err
	}
}

func askValue(ctx context.Context, c redis.Cmdable, name string) func() ([]byte, error) {
	return c.Get(ctx, name).Bytes
}

func (r *Redis) get(ctx context.Context, name string) ([]byte, error) {
	value, err := r.values.get(ctx, name)
	switch {
	case err == nil, errors.Is(err, redis.Nil):
		r.breaker.worked()
	case redis.HasErrorPrefix(err, wrongType):
		r.breaker.worked()
		return nil, ErrTampered
	case ctx.Err() == nil: // else the caller gave up
		r.breaker.failed(ctx, err)
	}
	return value, err
}

// Fill has the value kept for the given life in the place of what was seen by Get, before
// the value was looked up. It does not wait for that; where much is to be kept already,
// this is not.
func (r *Redis) Fill(ctx context.Context, key string, seen, value []byte, life time.Duration) error {
	keys := r.keys.Load()
	name := keys.name(key)
	if len(seen) == 0 || string(seen) == tombstone || r.graves.has(name) {
		return nil
	}
	if err := r.breaker.err(); err != nil {
		return err
	}
	sealed, err := keys.seal(name, value)
	if err != nil {
		return err
	}
	select {
	case r.fills <- struct{}{}:
	default:
		return errBusy
	}
	go func() {
		defer func() { <-r.fills }()
		r.keep(context.WithoutCancel(ctx), name, seen, sealed, life)
	}()
	return nil
}

func (r *Redis) keep(ctx context.Context, name string, seen, sealed []byte, life time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, fillTimeout)
	defer cancel()
	err := fill.Run(ctx, r.client, []string{name}, seen, sealed, max(life.Milliseconds(), 1)).Err()
	switch {
	case err == nil:
	case isFull(err):
		r.noteFull(ctx)
	default:
		r.breaker.failed(ctx, err)
	}
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
	within, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience(buryTimeout, len(names)))
	defer cancel()
	if err := r.write(within, names); err != nil {
		r.breaker.turnOff(ctx, err)
		return fmt.Errorf("%w: %w", ErrPending, err)
	}
	if err := r.alone(); err != nil {
		return fmt.Errorf("%w: %w", ErrPending, err)
	}
	return nil
}

// patience is for so many tombstones, where a few of them may take that long.
func patience(few time.Duration, names int) time.Duration {
	return few * time.Duration(1+names/10_000)
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

// Close waits for what is being kept, and closes the connections.
func (r *Redis) Close() {
	for range cap(r.fills) {
		r.fills <- struct{}{}
	}
	_ = r.client.Close() // those that broke are closed already
	if r.sentinels != nil {
		r.sentinels.close()
	}
}
