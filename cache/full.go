package cache

import (
	"context"
	"sync/atomic"
	"time"
)

// fullMemory is how long a server that had no room counts as full. In a Cluster, the one
// that takes the probe may have room while another has none.
const fullMemory = 3 * time.Second

// fullness is whether a server refuses to keep more.
type fullness struct {
	is   atomic.Bool
	last atomic.Pointer[time.Time] // when one did
}

// noteFull notes that a server had no room.
func (r *Redis) noteFull(ctx context.Context) {
	now := time.Now()
	r.full.last.Store(&now)
	if !r.full.is.Swap(true) {
		r.log.WarnContext(ctx, "the cache takes nothing more", "err", errFull)
	}
}

// noteRoom notes that one had.
func (r *Redis) noteRoom(ctx context.Context) {
	if last := r.full.last.Load(); last != nil && time.Since(*last) > fullMemory && r.full.is.Swap(false) {
		r.log.InfoContext(ctx, "the cache takes what it is given again")
	}
}
