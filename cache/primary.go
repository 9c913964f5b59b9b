package cache

import (
	"context"
	"errors"
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

// alone returns nil if all daemons look for tombstones where this one puts them up, else why
// that is not known.
func (r *Redis) alone() error {
	switch {
	case r.sentinels != nil && r.sentinels.silent():
		return r.sentinels.silence()
	case time.Since(*r.switched.Load()) < agreeWithin:
		return errDiffer
	}
	return nil
}

var errDiffer = errors.New("which server is the primary is known for some seconds only, and other daemons may look at another one")
