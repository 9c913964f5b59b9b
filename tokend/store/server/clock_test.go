package server_test

import (
	"testing"
	"testing/synctest"
	"time"

	"tokend/tokend/store/server"
)

// TestTheServersClockIsFollowed, however wrong this machine's is; but not back and forth
// for what may be the answer's way.
func TestTheServersClockIsFollowed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c server.Clock
		c.Set(time.Now().Add(time.Hour), time.Now())
		time.Sleep(time.Minute)
		if got, want := c.Now(), time.Now().Add(time.Hour); !got.Equal(want) {
			t.Errorf("got %v, want %v", got, want)
		}
		if c.Skew() != -time.Hour {
			t.Errorf("this machine's clock is %v ahead, want an hour behind", c.Skew())
		}
		c.Set(time.Now().Add(time.Hour-time.Millisecond), time.Now())
		if got, want := c.Now(), time.Now().Add(time.Hour); !got.Equal(want) {
			t.Errorf("after a millisecond: got %v, want %v", got, want)
		}
		c.Set(time.Now().Add(-time.Hour), time.Now())
		if got, want := c.Now(), time.Now().Add(-time.Hour); !got.Equal(want) {
			t.Errorf("set back: got %v, want %v", got, want)
		}
		c.Set(time.Now().Add(-time.Hour-10*time.Millisecond), time.Now().Add(-100*time.Millisecond)) // which may have been then
		if got, want := c.Now(), time.Now().Add(-time.Hour); !got.Equal(want) {
			t.Errorf("after an inexact answer: got %v, want %v", got, want)
		}
		var other server.Clock
		other.Set(time.Now().Add(time.Hour), time.Now().Add(-300*time.Millisecond)) // it is all there is
		if got, want := other.Now(), time.Now().Add(time.Hour+150*time.Millisecond); !got.Equal(want) {
			t.Errorf("after a slow first answer: got %v, want %v", got, want)
		}
		c.Set(time.Now().Add(time.Hour), time.Now().Add(-300*time.Millisecond))
		if got, want := c.Now(), time.Now().Add(-time.Hour); !got.Equal(want) {
			t.Errorf("after a slow answer: got %v, want %v", got, want)
		}
	})
}
