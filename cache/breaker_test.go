package cache_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"tokend/cache"
)

// TestRecoveryIsTriedLessAndLessOften, at random so that not all daemons come at once, and
// from the beginning again when all was well for a while.
func TestRecoveryIsTriedLessAndLessOften(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first := map[time.Duration]bool{}
		for range 20 {
			b := cache.NewBreaker()
			mean := 100 * time.Millisecond
			for try := range 10 {
				wait := b.Next()
				if wait < mean/2 || wait >= mean*3/2 {
					t.Errorf("try %d: after %s, not about %s", try, wait, mean)
				}
				if try == 0 {
					first[wait] = true
				}
				mean = min(2*mean, 5*time.Second)
			}
			b.TurnOn()
			time.Sleep(5 * time.Second)
			b.TurnOff(errors.New("again"))
			if wait := b.Next(); wait < 2*time.Second {
				t.Errorf("it failed again soon, and is tried after %s", wait)
			}
			b.TurnOn()
			time.Sleep(11 * time.Second)
			b.TurnOff(errors.New("again"))
			if wait := b.Next(); wait > 150*time.Millisecond {
				t.Errorf("it was well for long, and is tried after %s", wait)
			}
		}
		if len(first) < 10 {
			t.Errorf("of 20 daemons, %d come at different times", len(first))
		}
	})
}

// TestFailuresFarApartTurnNothingOff: each was followed by an answer, and is forgotten. Those
// that are near each other do, whatever is answered between them.
func TestFailuresFarApartTurnNothingOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := cache.NewBreaker()
		b.TurnOn()
		fail := func(times int, after time.Duration) {
			for range times {
				b.Failed(errors.New("no answer"))
				time.Sleep(after)
				b.Worked()
			}
		}
		const far = time.Second + 1
		for n := range 5 {
			fail(1, time.Millisecond)
			fail(1, far)
			if !b.On() {
				t.Fatalf("it is off after %d failures, of which no three were within a second", 2*n+2)
			}
		}
		fail(3, 100*time.Millisecond)
		if b.On() {
			t.Error("it is on after three within a second")
		}
		time.Sleep(far)
		b.Worked() // the answer to what was asked before
		if b.On() {
			t.Error("an answer has turned it on")
		}
	})
}
