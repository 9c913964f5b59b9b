package cache

import (
	"context"
	"slices"
	"sync"
	"time"
)

// A replica that takes the primary's place may lack the last tombstones, and for a moment some
// daemons use the one and some the other.
const (
	// agreeWithin is how long that may last.
	agreeWithin = 3 * time.Second
	// handOver is how long all daemons are given to put up there what they know of, before
	// anything is believed that the new one says.
	handOver = time.Second
)

// change notes that another server is the primary, by which this process has to go from now on.
func (r *Redis) change(ctx context.Context, why error) {
	now := time.Now()
	r.switched.Store(&now)
	r.breaker.turnOff(ctx, why) // until it has all tombstones
}

// agreed is when all daemons will go by the same server again, if that last changed then.
func (r *Redis) agreed(changed time.Time) time.Time {
	if r.sentinels != nil && r.sentinels.silent() { // it may be another one already
		changed = time.Now()
	}
	return changed.Add(agreeWithin)
}

// servers are those that were asked, in order.
type servers struct {
	mu    sync.Mutex
	names []string
}

func (s *servers) add(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i, _ := slices.BinarySearch(s.names, name)
	s.names = slices.Insert(s.names, i, name)
}
