package cache_test

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tokend/cache"
)

// crowd is how many ask at once.
const crowd = 200

// TestOfManyAtOnceEachGetsItsOwnAnswer, though some are no values, and some are asked for
// by those who give up.
func TestOfManyAtOnceEachGetsItsOwnAnswer(t *testing.T) {
	server := startServer(t)
	off := lines{with: []byte("the cache is not used")}
	one, two := newRedis(t, server), runRedis(t, cache.RedisConfig{
		Address: cache.Address{Servers: []string{server.Addr()}}, Keys: keys, Logger: slog.New(slog.NewTextHandler(&off, nil)),
	})
	exec := func(args ...any) {
		t.Helper()
		_, err := server.Exec(t.Context(), args...)
		must(t, err)
	}
	want := map[string]string{}
	put(t, one, "list", "v", time.Hour)
	for name := range entries(t, server) {
		if name != "tokend:probe" && found(one, "list") == "v" {
			exec("RENAME", name, "moved")
			if found(one, "list") == "v" {
				exec("RENAME", "moved", name)
				continue
			}
			exec("DEL", name)
			exec("LPUSH", name, "a list")
			want["list"] = "(tampered)"
		}
	}
	for n := range crowd {
		key := fmt.Sprint("key", n)
		switch n % 4 {
		case 0:
			want[key] = "(miss)"
			continue
		case 1:
			inter(t, one, time.Hour, key)
			want[key] = "(buried)"
			continue
		}
		put(t, one, key, "value of "+key, time.Hour)
		want[key] = "value of " + key
	}
	turned := int64(1)
	for i := 0; i < 5 && turned > 0; i++ { // which a busy machine may do
		eventually(t, "it is used", two.Used)
		turned = -off.n.Load()
		gone, giveUp := context.WithCancel(t.Context())
		var all sync.WaitGroup
		for key := range want {
			all.Go(func() { expect(t, two, key, want[key]) })
			all.Go(func() { _, _ = two.Get(gone, key) })
		}
		giveUp() // some have begun, some not
		all.Wait()
		turned += off.n.Load()
		delete(want, "list") // where a claim is now
	}
	if turned > 0 {
		t.Errorf("it was turned off %d times", turned)
	}
}

// slowest has a crowd ask for what is not there, and returns how long the slowest waited. What
// they find is to be this; empty: anything.
func slowest(t *testing.T, r *cache.Redis, want string) time.Duration {
	t.Helper()
	var most atomic.Int64
	var all sync.WaitGroup
	for range crowd {
		all.Go(func() {
			begun := time.Now()
			if got := found(r, newKey()); want != "" && got != want {
				t.Errorf("got %s, want %s", got, want)
			}
			for took := int64(time.Since(begun)); ; {
				if old := most.Load(); took <= old || most.CompareAndSwap(old, took) {
					return
				}
			}
		})
	}
	all.Wait()
	return time.Duration(most.Load())
}

// enough is how long the slowest of a crowd may wait, in the best of a few tries. It is 100 ms
// on a machine that has time, and 1 s where the client's own time is all that ends it.
const enough = 500 * time.Millisecond

// TestOfManyAtOnceNoneWaitsForASlowRedis for longer than one alone would.
func TestOfManyAtOnceNoneWaitsForASlowRedis(t *testing.T) {
	server := startServer(t)
	r := newRedis(t, server)
	took := time.Hour
	for range 5 {
		must(t, server.Pause())
		took = min(took, slowest(t, r, "(error)"))
		if r.Used() {
			t.Error("it is used all the same")
		}
		must(t, server.Resume())
		eventually(t, "it is used again", r.Used)
		if took < enough {
			break
		}
	}
	if took >= enough {
		t.Errorf("the slowest took %s", took)
	}
	var all sync.WaitGroup
	put(t, r, "key", "v", time.Hour)
	eventually(t, "all find it at once", func() bool {
		var wrong atomic.Int64
		for range crowd {
			all.Go(func() {
				if found(r, "key") != "v" {
					wrong.Add(1)
				}
			})
		}
		all.Wait()
		return wrong.Load() == 0
	})
}
