package cache

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"regexp"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// tolerated is how many failures in a row, or within failureMemory, turn a cache off.
	tolerated     = 3
	failureMemory = time.Second
	// The first and the longest wait before a cache that is off is tried again, and how
	// long it must have been on for the first to hold again.
	firstWait   = 100 * time.Millisecond
	longestWait = time.Second
	steady      = 10 * time.Second
	// mostSaid is more causes than a cache has for being off.
	mostSaid = 50
)

// breaker turns a cache off that fails, so that nobody waits for it, and on again when it
// is well.
type breaker struct {
	log     *slog.Logger
	clear   atomic.Bool               // on, and no failure is remembered
	offAt   atomic.Pointer[time.Time] // when it was turned off last, which is another pointer each time
	tripped chan struct{}             // gets one when the cache was turned off, or is to be tried at once

	mu       sync.Mutex
	off      bool
	why      error
	said     causes // in the log, since it was turned off
	failures int
	last     time.Time // when it failed
	since    time.Time // when it was turned on
	wait     time.Duration
	fresh    bool // nothing was tried since it was turned off
}

// newBreaker returns one that is off.
func newBreaker(log *slog.Logger, why error) *breaker {
	b := &breaker{log: log, tripped: make(chan struct{}, 1), off: true, why: why, said: causes{}, fresh: true}
	b.offAt.Store(&time.Time{}) // a server that was not used yet lacks nothing
	b.said.isNew(why)
	return b
}

func (b *breaker) stamp() {
	now := time.Now()
	b.offAt.Store(&now)
}

// err is nil while the cache is on, else why it is off.
func (b *breaker) err() error {
	if b.clear.Load() {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.off {
		return b.why
	}
	return nil
}

// worked notes that the cache has answered.
func (b *breaker) worked() {
	if b.clear.Load() {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.off && time.Since(b.last) > failureMemory {
		b.failures = 0
		b.clear.Store(true)
	}
}

// failed notes that it has not, or not rightly.
func (b *breaker) failed(ctx context.Context, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.clear.Store(false)
	b.failures++
	b.last = time.Now()
	if b.failures >= tolerated {
		b.trip(ctx, err)
	}
}

// turnOff turns the cache off at once. If it is off, what was done to have it on counts no more,
// and it is tried again at once.
func (b *breaker) turnOff(ctx context.Context, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.off {
		b.stamp()
		b.wait, b.fresh = 0, true
		b.remain(ctx, explain(err))
		b.signal()
		return
	}
	b.clear.Store(false)
	b.trip(ctx, err)
}

func (b *breaker) trip(ctx context.Context, err error) {
	if b.off {
		return
	}
	b.stamp()
	b.off, b.why = true, explain(err)
	if time.Since(b.since) > steady {
		b.wait, b.fresh = 0, true
	}
	clear(b.said)
	b.said.isNew(b.why)
	b.log.WarnContext(ctx, "the cache is not used until it works again: every login asks the store", "err", b.why)
	b.signal()
}

func (b *breaker) signal() {
	select {
	case b.tripped <- struct{}{}:
	default:
	}
}

// turnOn has the cache used again, if that may be.
func (b *breaker) turnOn(ctx context.Context, may func() bool) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !may() {
		return false
	}
	b.off, b.why, b.failures, b.since = false, nil, 0, time.Now()
	b.clear.Store(true)
	b.log.InfoContext(ctx, "the cache is used")
	return true
}

// still notes why the cache does not work yet. Each cause is logged once: servers of a Cluster
// may fail in turn, all night.
func (b *breaker) still(ctx context.Context, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.remain(ctx, err)
}

func (b *breaker) remain(ctx context.Context, err error) {
	b.why = err
	if b.said.isNew(err) {
		b.log.WarnContext(ctx, "the cache cannot be used yet: every login asks the store", "err", err)
	}
}

// passing is what an error says that is another each time: this side of a connection, whose
// port is its own, times, and numbers that stand by themselves.
var passing = regexp.MustCompile(`\S+->|\d+-\d+-\d+T\S+| \d\d:\d\d:\d\d\b| \d+(?:[ ,;)]|$)`)

// causes are those that were logged.
type causes map[string]bool

// isNew reports whether the cause was not among them. It is from then on.
func (c causes) isNew(err error) bool {
	cause := passing.ReplaceAllString(err.Error(), "")
	if c[cause] {
		return false
	}
	if len(c) >= mostSaid {
		clear(c)
	}
	c[cause] = true
	return true
}

// next is how long to wait before the next try: hardly before the first one, unless the cache
// was on for a moment only; at random so that not all daemons come at once.
func (b *breaker) next() time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.fresh {
		b.fresh = false
		return rand.N(firstWait / 2) //nolint:gosec // it is no secret
	}
	b.wait = min(max(2*b.wait, firstWait), longestWait)
	return b.wait/2 + rand.N(b.wait) //nolint:gosec // it is no secret
}
