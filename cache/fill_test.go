package cache_test

import (
	"bytes"
	"strings"
	"sync"
	"testing"
	"time"

	"tokend/cache"
	"tokend/tokend/e2e/servers"
)

func TestWhatOneDaemonFillsTheOthersFindUntilItExpires(t *testing.T) {
	one, two, key := newRedis(t, redis), newRedis(t, redis), newKey()
	expect(t, one, key, "(miss)")
	put(t, one, key, "short", time.Nanosecond)
	put(t, one, key, "old", time.Hour)
	put(t, one, key, "v", 300*time.Millisecond)
	expect(t, two, key, "v")
	begun := time.Now()
	eventually(t, "it expires, though it is read", func() bool { return found(two, key) == "(miss)" })
	if took := time.Since(begun); took < 200*time.Millisecond {
		t.Errorf("it was gone after %s", took)
	}
}

// TestNoFillOverwritesATombstone of another daemon, nor one's own.
func TestNoFillOverwritesATombstone(t *testing.T) {
	one, two, key := newRedis(t, redis), newRedis(t, redis), newKey()
	before := seen(two, key)
	put(t, one, key, "old", time.Hour)
	old := seen(two, key)
	inter(t, one, 500*time.Millisecond, key)
	for _, r := range []*cache.Redis{one, two} {
		for _, seen := range [][]byte{before, old, seen(r, key), []byte("buried")} {
			fillSeen(t, r, seen, key, "stale", time.Hour)
			r.Wait()
			expect(t, r, key, "(buried)")
		}
	}
	eventually(t, "it expires", func() bool { return found(two, key) == "(miss)" })
	put(t, two, key, "new", time.Hour)
	eventually(t, "one's own expires", func() bool { return found(one, key) == "new" })
}

func TestNoFillOfAnotherDaemonWinsARaceAgainstBury(t *testing.T) {
	one, two := newRedis(t, redis), newRedis(t, redis)
	for range 300 {
		key := newKey()
		before := seen(two, key)
		var all sync.WaitGroup
		for range 3 {
			all.Go(func() { fillSeen(t, two, before, key, "v", time.Hour) })
		}
		all.Go(func() { inter(t, one, time.Hour, key) })
		all.Wait()
		two.Wait()
		expect(t, two, key, "(buried)")
	}
}

// TestNoFillIsLaterThanALostTombstone: whoever looked something up before it came may not keep
// that, also if the server has evicted it since, or somebody has emptied the server.
func TestNoFillIsLaterThanALostTombstone(t *testing.T) {
	one, two := newRedis(t, redis), newRedis(t, redis)
	for what, before := range map[string]func(key string){
		"nothing was there":    func(string) {},
		"a record was there":   func(key string) { put(t, one, key, "old", time.Hour) },
		"another looks it up":  func(key string) { _ = seen(one, key) },
		"a record had expired": func(key string) { put(t, one, key, "old", time.Millisecond); time.Sleep(10 * time.Millisecond) },
	} {
		key := newKey()
		before(key)
		saw := seen(two, key)
		inter(t, one, time.Hour, key)
		lose(t, redis)
		fillSeen(t, two, saw, key, "stale", time.Hour)
		two.Wait()
		expect(t, two, key, "(miss)")
		if again := seen(two, key); bytes.Equal(again, saw) {
			t.Errorf("%s: the same is seen after the tombstone: %q", what, saw)
		}
		fillSeen(t, two, saw, key, "stale", time.Hour) // now that the next look-up is under way
		two.Wait()
		expect(t, two, key, "(miss)")
		put(t, two, key, "new", time.Hour)
		expect(t, two, key, "new")
	}
}

// TestAClaimOutlivesALookUp, which may take a second.
func TestAClaimOutlivesALookUp(t *testing.T) {
	t.Parallel()
	r, key := newRedis(t, redis), newKey()
	saw := seen(r, key)
	time.Sleep(1100 * time.Millisecond)
	fillSeen(t, r, saw, key, "v", time.Hour)
	r.Wait()
	expect(t, r, key, "v")
}

// lose has the server forget all entries.
func lose(t *testing.T, server *servers.Redis) {
	t.Helper()
	for name := range entries(t, server) {
		_, err := server.Exec(t.Context(), "DEL", name)
		must(t, err)
	}
}

// TestDaemonsThatLookUpTheSameAtOnce may each fill the cache; the first does.
func TestDaemonsThatLookUpTheSameAtOnce(t *testing.T) {
	one, two, key := newRedis(t, redis), newRedis(t, redis), newKey()
	saw := seen(one, key)
	if also := seen(two, key); len(saw) == 0 || !bytes.Equal(saw, also) {
		t.Errorf("one sees %q, the other %q", saw, also)
	}
	fillSeen(t, two, saw, key, "v", time.Hour)
	two.Wait()
	fillSeen(t, one, saw, key, "w", time.Hour)
	one.Wait()
	expect(t, one, key, "v")
	lost := newKey() // by a daemon that has ended meanwhile
	_ = seen(one, lost)
	eventually(t, "nobody looks it up any more", func() bool {
		for name, value := range entries(t, redis) {
			if strings.HasPrefix(value, "looked up ") && name != "tokend:probe" {
				return false
			}
		}
		return true
	})
}

// TestNothingIsFilledWhereATombstoneIsRemembered, though Redis has lost it, and somebody has put
// back what was seen before.
func TestNothingIsFilledWhereATombstoneIsRemembered(t *testing.T) {
	server := startServer(t)
	r := newRedis(t, server)
	before := seen(r, "k")
	inter(t, r, time.Hour, "k")
	for name := range entries(t, server) {
		_, err := server.Exec(t.Context(), "SET", name, before)
		must(t, err)
	}
	fillSeen(t, r, before, "k", "v", time.Hour)
	r.Wait()
	if got := found(newRedis(t, server), "k"); got != "(miss)" {
		t.Errorf("another daemon finds %s", got)
	}
}
