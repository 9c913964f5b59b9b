package servers_test

import (
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"tokend/tokend/e2e/servers"
)

func TestSentinelsNameTheReplicaWhenThePrimaryIsGone(t *testing.T) {
	t.Parallel()
	ctx := within(t, 25*time.Second)
	set, err := servers.StartRedisSentinel("requirepass hunter2", "masterauth hunter2")
	set = started(t, set, err)
	client := redis.NewFailoverClient(&redis.FailoverOptions{
		MasterName: set.Name(), SentinelAddrs: set.Addrs(), Password: "hunter2", ContextTimeoutEnabled: true,
	})
	t.Cleanup(func() { client.Close() })
	if err := client.Set(ctx, "key", "value", 0).Err(); err != nil {
		t.Fatal(err)
	}
	if n, err := client.Wait(ctx, 1, 5*time.Second).Result(); n < 1 || err != nil {
		t.Fatalf("%d replicas have it, %v", n, err)
	}
	old, err := set.Primary(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := old.Kill(); err != nil {
		t.Fatal(err)
	}
	for {
		if now, err := set.Primary(ctx); err == nil && now != old {
			if answer, err := now.Exec(ctx, "GET", "key"); err != nil || answer != "value" {
				t.Errorf("the new primary says %v, %v", answer, err)
			}
			break
		}
		select {
		case <-ctx.Done():
			t.Fatal("no other primary is named")
		case <-time.After(50 * time.Millisecond):
		}
	}
	if err := client.Set(ctx, "key", "again", 0).Err(); err != nil {
		t.Error(err)
	}
	if err := old.Serve(); err != nil {
		t.Error(err)
	}
}

func TestClusterSharesTheKeys(t *testing.T) {
	t.Parallel()
	ctx := within(t, 25*time.Second)
	cluster, err := servers.StartRedisCluster("requirepass hunter2")
	cluster = started(t, cluster, err)
	client := redis.NewClusterClient(&redis.ClusterOptions{Addrs: cluster.Addrs()[:1], Password: "hunter2", ContextTimeoutEnabled: true})
	t.Cleanup(func() { client.Close() })
	for _, key := range []string{"a", "b", "c", "d", "e", "f", "g", "h"} {
		if err := client.Set(ctx, key, key, 0).Err(); err != nil {
			t.Fatal(err)
		}
	}
	for i, node := range cluster.Nodes() {
		if n, err := node.Exec(ctx, "DBSIZE"); err != nil || n == int64(0) {
			t.Errorf("node %d has %v keys, %v", i, n, err)
		}
	}
	last := cluster.Nodes()[2]
	if err := last.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := last.Serve(); err != nil {
		t.Fatal(err)
	}
	for client.Set(ctx, "a", "again", 0).Err() != nil { // which the last one has
		select {
		case <-ctx.Done():
			t.Fatal("a node that was started again is no part of the cluster")
		case <-time.After(50 * time.Millisecond):
		}
	}
	if answer, err := last.Exec(ctx, "GET", "a"); err != nil || answer != "again" {
		t.Errorf("the last node says %v, %v", answer, err)
	}
}
