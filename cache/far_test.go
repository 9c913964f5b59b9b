package cache_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tokend/cache"
)

// TestAFarRedisIsUsed: its answers take most of the time that they may, and making a
// connection takes several.
func TestAFarRedisIsUsed(t *testing.T) {
	proxy := newProxy(t, redis)
	key := newKey()
	put(t, newRedis(t, redis), key, "v", time.Hour)
	proxy.Delay(func(fromClient bool, _ []byte) time.Duration {
		if fromClient {
			return 0
		}
		return 25 * time.Millisecond
	})
	far := runRedis(t, cache.RedisConfig{Address: cache.Address{Servers: []string{proxy.Addr()}}, Keys: keys})
	best := 0
	eventually(t, "all of many logins at once find it", func() bool {
		var found atomic.Int64
		var all sync.WaitGroup
		for range 16 {
			all.Go(func() {
				if e, err := far.Get(context.Background(), key); err == nil && string(e.Value) == "v" {
					found.Add(1)
				}
			})
		}
		all.Wait()
		best = max(best, int(found.Load()))
		return best == 16
	})
}

// TestMissesDoNotTurnAFarRedisOff, however many come at once: what is there is found.
func TestMissesDoNotTurnAFarRedisOff(t *testing.T) {
	proxy := newProxy(t, redis)
	key := newKey()
	put(t, newRedis(t, redis), key, "v", time.Hour)
	far := runRedis(t, cache.RedisConfig{Address: cache.Address{Servers: []string{proxy.Addr()}}, Keys: keys})
	proxy.Delay(func(fromClient bool, _ []byte) time.Duration {
		if fromClient {
			return 0
		}
		return 20 * time.Millisecond
	})
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() {
			for range 40 {
				_ = found(far, newKey())
				time.Sleep(20 * time.Millisecond)
			}
		})
	}
	good := 0
	for range 100 {
		if found(far, key) == "v" {
			good++
		}
	}
	all.Wait()
	if good < 80 { // on a machine that has other things to do
		t.Errorf("what is there was found %d times of 100", good)
	}
}
