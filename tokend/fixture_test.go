package main

import (
	"context"
	"log/slog"
	"sync"
	"testing"

	"tokend/config"
	"tokend/tokend/e2e/servers"
)

// shares is a daemon over a PostgreSQL and a Redis, of which it asks neither by itself.
func shares(t *testing.T) (n *node, redis *servers.Redis) {
	t.Helper()
	postgres, err := servers.StartPostgreSQL("fsync=off")
	if err != nil {
		t.Fatal(err)
	}
	atEnd(t, postgres.Stop)
	if redis, err = servers.StartRedis(); err != nil {
		t.Fatal(err)
	}
	atEnd(t, redis.Stop)
	n = over(t, "[store]\nurl = '"+postgres.URL("postgres")+"'\n[cache]\nurl = 'redis://"+redis.Addr()+"'\n")
	t.Cleanup(n.redis.Close)
	return n, redis
}

// over is a daemon by that configuration, which asks nothing by itself.
func over(t *testing.T, keys string) *node {
	t.Helper()
	cfg, err := config.Parse("tokend.toml", []byte(keys))
	if err != nil {
		t.Fatal(err)
	}
	n := &node{cfg: cfg, log: slog.New(slog.DiscardHandler)}
	n.registry, n.reloaded = newRegistry()
	if n.store, err = openStore(t.Context(), cfg.Store, n.log, n.registry); err != nil {
		t.Fatal(err)
	}
	atEnd(t, n.store.Close)
	if n.knox, err = openKnox(t.Context(), cfg.Knox, n.log, n.registry); err != nil {
		t.Fatal(err)
	}
	if n.knox != nil {
		atEnd(t, n.knox.Close)
	}
	if err := n.assemble(t.Context()); err != nil {
		t.Fatal(err)
	}
	n.listening(t)
	return n
}

func atEnd(t *testing.T, stop func() error) {
	t.Helper()
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
}

// inBackground runs f until the function is called that it returns, or the test ends.
func inBackground(t *testing.T, f func(context.Context)) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { f(ctx) })
	stop = func() {
		cancel()
		running.Wait()
	}
	t.Cleanup(stop)
	return stop
}

// gauge is whether the one of that dependency is not 0.
func (n *node) dependency(t *testing.T, dependency string) bool {
	t.Helper()
	families, err := n.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		for _, metric := range family.GetMetric() {
			if family.GetName() == "tokend_up_dependency" && metric.GetLabel()[0].GetValue() == dependency {
				return metric.GetGauge().GetValue() != 0
			}
		}
	}
	t.Fatalf("there is none of %s", dependency)
	return false
}
