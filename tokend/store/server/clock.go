package server

import (
	"sync/atomic"
	"time"
)

// Clock tells the server's time, by which all daemons judge alike. It goes on by itself
// between two looks at the server, whatever is done to this machine's clock.
type Clock struct{ last atomic.Pointer[reading] }

type reading struct {
	server time.Time
	local  time.Time // when that was, with its monotonic part
	skew   time.Duration
}

// slowAnswer makes a reading too inexact to replace another.
const slowAnswer = 250 * time.Millisecond

// exact is what two clocks may differ by before one follows the other.
const exact = time.Millisecond

// Set takes over what the server said to a question asked at that time.
func (c *Clock) Set(server, asked time.Time) {
	took := time.Since(asked)
	local := asked.Add(took / 2)
	if r := c.last.Load(); r != nil {
		drift := server.Sub(r.server.Add(local.Sub(r.local))).Abs()
		if took > slowAnswer || drift <= took/2+exact { // it may be none: no step back for nothing
			return
		}
	}
	c.last.Store(&reading{server, local, local.Round(0).Sub(server)})
}

// Now is the server's time: this machine's time before the server was asked.
func (c *Clock) Now() time.Time {
	if r := c.last.Load(); r != nil {
		return r.server.Add(time.Since(r.local))
	}
	return time.Now()
}

// Skew is how far this machine's clock is ahead of the server's.
func (c *Clock) Skew() time.Duration {
	if r := c.last.Load(); r != nil {
		return r.skew
	}
	return 0
}
