package cache_test

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"tokend/cache"
)

// TestRecoveryIsTriedLessAndLessOften, at random so that not all daemons come at once, and
// from the beginning again when all was well for a while.
func TestRecoveryIsTriedLessAndLessOften(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first, second := map[time.Duration]bool{}, map[time.Duration]bool{}
		for range 20 {
			b := cache.NewBreaker()
			wait := b.Next()
			if wait >= 50*time.Millisecond {
				t.Errorf("the first try comes after %s", wait)
			}
			first[wait] = true
			mean := 100 * time.Millisecond
			for try := range 10 {
				wait := b.Next()
				if wait < mean/2 || wait >= mean*3/2 {
					t.Errorf("try %d: after %s, not about %s", try, wait, mean)
				}
				if try == 0 {
					second[wait] = true
				}
				mean = min(2*mean, time.Second)
			}
			b.TurnOn()
			time.Sleep(5 * time.Second)
			b.TurnOff(errors.New("again"))
			if wait := b.Next(); wait < 500*time.Millisecond {
				t.Errorf("it failed again soon, and is tried after %s", wait)
			}
			b.TurnOn()
			time.Sleep(11 * time.Second)
			b.TurnOff(errors.New("again"))
			if wait := b.Next(); wait >= 50*time.Millisecond {
				t.Errorf("it was well for long, and is tried after %s", wait)
			}
		}
		if len(first) < 10 || len(second) < 10 {
			t.Errorf("of 20 daemons, %d and then %d come at different times", len(first), len(second))
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

// TestARedisThatFailsAgainAndAgainIsTriedSeldom, though it is well whenever it is looked at.
func TestARedisThatFailsAgainAndAgainIsTriedSeldom(t *testing.T) {
	server := startServer(t)
	turnedOn := lines{with: []byte("the cache is used")}
	r := runRedis(t, cache.RedisConfig{Address: cache.Address{Servers: []string{server.Addr()}}, Keys: keys, Logger: slog.New(slog.NewTextHandler(&turnedOn, nil))})
	_, err := server.Exec(t.Context(), "ACL", "SETUSER", "default", "resetkeys", "%R~*", "~tokend:probe")
	must(t, err)
	for until := time.Now().Add(2 * time.Second); time.Now().Before(until); time.Sleep(time.Millisecond) {
		_ = r.Fill(t.Context(), "k", []byte("seen"), []byte("v"), time.Hour)
	}
	if n := turnedOn.n.Load(); n < 2 || n > 10 {
		t.Errorf("it was turned on %d times", n)
	}
}

// TestAnotherServerIsTriedAtOnce, however long the one before was away.
func TestAnotherServerIsTriedAtOnce(t *testing.T) {
	b := cache.NewBreaker()
	for range 20 {
		b.Next()
	}
	b.TurnOff(errors.New("another one"))
	if wait := b.Next(); wait > 50*time.Millisecond {
		t.Errorf("it is tried after %s", wait)
	}
	if err := b.Err(); err == nil || err.Error() != "another one" {
		t.Errorf("it is off because of %v", err)
	}
}

// TestEachCauseIsLoggedOnce, as long as the cache is off: servers may fail in turn, and each
// connection has a port of its own.
func TestEachCauseIsLoggedOnce(t *testing.T) {
	said := lines{with: []byte("the cache cannot be used yet")}
	b := cache.NewBreakerThatLogs(slog.NewTextHandler(&said, nil))
	outage := func() {
		for port := range 10 {
			for _, server := range []string{"redis-1:6379", "redis-2:6379", "10.0.0.1:6379", "10.0.0.2:6379", "[2001:100:1::1]:6379", "[2001:100:2::1]:6379"} {
				b.Still(fmt.Errorf("write tcp 127.0.0.1:%d->%s: broken pipe, after %d tries, at 12:00:%02d (2026-11-29T12:00:%02dZ)", 40000+port, server, port, port, port))
			}
		}
	}
	outage()
	if n := said.n.Load(); n != 6 {
		t.Errorf("%d lines, want one for each server", n)
	}
	b.TurnOn()
	b.TurnOff(errors.New("again"))
	b.Still(errors.New("again")) // which was said
	outage()
	if n := said.n.Load(); n != 12 {
		t.Errorf("%d lines with those of the next outage, want 12", n)
	}
}

// lines counts those that are written with the words.
type lines struct {
	with []byte
	not  []byte // and none of these; nil: with all
	n    atomic.Int64
	last atomic.Int64 // when, in Unix nanoseconds
}

func (l *lines) Write(line []byte) (int, error) {
	if bytes.Contains(line, l.with) && (l.not == nil || !bytes.Contains(line, l.not)) {
		l.n.Add(1)
		l.last.Store(time.Now().UnixNano())
	}
	return len(line), nil
}
