package cache_test

import (
	"errors"
	"log/slog"
	"testing"
	"time"

	"tokend/cache"
	"tokend/tokend/e2e/servers"
)

func startClusterWithReplica(t *testing.T) (set *servers.RedisCluster, replica *servers.Redis) {
	t.Helper()
	set, err := servers.StartRedisCluster()
	must(t, err)
	t.Cleanup(func() { must(t, set.Stop()) })
	replica, err = set.AddReplica()
	must(t, err)
	return set, replica
}

// TestAClusterHasAnotherPrimary: it may lack what was revoked, and gets that again.
func TestAClusterHasAnotherPrimary(t *testing.T) {
	t.Parallel()
	long(t)
	set, replica := startClusterWithReplica(t)
	r := runRedis(t, cache.RedisConfig{Address: cache.Address{Servers: set.Addrs(), Cluster: true}, Keys: keys})
	names := make([]string, 30) // some of which are the replica's
	for i := range names {
		names[i] = newKey()
	}
	inter(t, r, time.Hour, names...)
	size := func() int {
		n, err := replica.Exec(t.Context(), "DBSIZE")
		must(t, err)
		return int(n.(int64))
	}
	eventually(t, "the replica has its share", func() bool { return size() > 1 })
	began := time.Now()
	eventually(t, "it takes over", func() bool {
		_, err := replica.Exec(t.Context(), "CLUSTER", "FAILOVER", "TAKEOVER")
		return err == nil
	})
	_, err := replica.Exec(t.Context(), "FLUSHALL") // as if it had not heard of them yet
	must(t, err)
	eventually(t, "it has them again", func() bool { return size() > 1 })
	eventually(t, "it is used", r.Used)
	if err := r.Bury(t.Context(), time.Hour, newKey()); time.Since(began) < 3*time.Second && !errors.Is(err, cache.ErrPending) {
		t.Errorf("where others may still look for a tombstone it is said to be there: %v", err)
	}
	key := newKey()
	put(t, r, key, "v", time.Hour)
	e, err := r.Get(t.Context(), key)
	must(t, err)
	if e.Since.Before(began.Add(3 * time.Second)) {
		t.Error("what it lacks of others' is not in doubt")
	}
}

// TestAReplicaThatHangsIsNoMatter: the primaries of the Cluster have all keys.
func TestAReplicaThatHangsIsNoMatter(t *testing.T) {
	t.Parallel()
	long(t)
	set, replica := startClusterWithReplica(t)
	off := lines{with: []byte("the cache is not used")}
	r := runRedis(t, cache.RedisConfig{
		Address: cache.Address{Servers: set.Addrs(), Cluster: true}, Keys: keys, Logger: slog.New(slog.NewTextHandler(&off, nil)),
	})
	time.Sleep(1500 * time.Millisecond) // until the replica is known
	before := off.n.Load()
	must(t, replica.Pause())
	time.Sleep(12 * time.Second)           // it is asked which server has which keys, one of four times
	if n := off.n.Load() - before; n > 1 { // a busy machine may do it once
		t.Errorf("the cache was turned off %d times", n)
	}
	must(t, replica.Resume())
	eventually(t, "it is used", r.Used)
}
