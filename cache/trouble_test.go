package cache_test

import (
	"bytes"
	"context"
	"errors"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"tokend/cache"
)

// TestADeadRedisIsAskedNoMore after the first few logins, until it is back; then it is told
// first of what was buried meanwhile.
func TestADeadRedisIsAskedNoMore(t *testing.T) {
	server := startServer(t)
	one, two := newRedis(t, server), newRedis(t, server)
	for _, key := range []string{"good", "revoked"} {
		put(t, one, key, "v", time.Hour)
	}
	good := seen(one, "good")
	must(t, server.Kill())
	for range 3 {
		expect(t, one, "good", "(error)")
	}
	if one.Used() || one.Err() == nil {
		t.Error("it is used all the same")
	}
	if err := one.Bury(t.Context(), time.Hour, "revoked"); !errors.Is(err, cache.ErrPending) {
		t.Errorf("Bury: %v", err)
	}
	expect(t, one, "revoked", "(buried)")
	if err := one.Fill(t.Context(), "good", good, []byte("v"), time.Hour); err == nil {
		t.Error("it was filled")
	}
	must(t, server.Serve())
	eventually(t, "it is used again", one.Used)
	if err := one.Err(); err != nil {
		t.Error(err)
	}
	eventually(t, "the other one uses it", func() bool { return found(two, "revoked") == "(buried)" })
	put(t, two, "revoked", "stale", time.Hour)
	expect(t, two, "revoked", "(buried)")
	put(t, one, "good", "v2", time.Hour)
	expect(t, two, "good", "v2")
}

// TestWhatWasBuriedIsBuriedAgain in a server that has forgotten it, though it was told, before
// anything is believed that it says.
func TestWhatWasBuriedIsBuriedAgain(t *testing.T) {
	server := startServer(t)
	one, two := newRedis(t, server), newRedis(t, server)
	inter(t, one, time.Hour, "a", "b")
	must(t, server.Kill())
	for one.Used() || two.Used() {
		_, _ = found(one, "x"), found(two, "x")
	}
	must(t, server.Serve()) // empty
	eventually(t, "it is used again", one.Used)
	there := 0
	for _, value := range entries(t, server) {
		if value == "buried" {
			there++
		}
	}
	if there != 2 {
		t.Errorf("%d tombstones are there when it is used again", there)
	}
	eventually(t, "the other one uses it", two.Used)
	for _, key := range []string{"a", "b"} {
		expect(t, two, key, "(buried)")
	}
}

// TestACallerWhoGivesUpIsNoFailure of the server's.
func TestACallerWhoGivesUpIsNoFailure(t *testing.T) {
	r := newRedis(t, redis)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for range 10 {
		if _, err := r.Get(ctx, "k"); err == nil {
			t.Error("it did not give up")
		}
	}
	if !r.Used() {
		t.Error("it is not used any more")
	}
}

func TestAFullRedisIsReadButNotFilled(t *testing.T) {
	t.Parallel()
	server := startServer(t)
	registry := prometheus.NewRegistry()
	r := runRedis(t, cache.RedisConfig{Address: cache.Address{Servers: []string{server.Addr()}}, Keys: keys, Registerer: registry})
	put(t, r, "k", "v", time.Hour)
	limit := func(bytes string) {
		t.Helper()
		_, err := server.Exec(t.Context(), "CONFIG", "SET", "maxmemory", bytes)
		must(t, err)
	}
	limit("1")
	for range 5 {
		put(t, r, "k2", "v", time.Hour)
		expect(t, r, "k2", "(miss)")
		expect(t, r, "k", "v")
	}
	if err := r.Err(); err == nil || !r.Used() || !strings.Contains(err.Error(), "maxmemory") {
		t.Errorf("used: %v, err: %v", r.Used(), err)
	}
	if err := r.Bury(t.Context(), time.Hour, "k"); !errors.Is(err, cache.ErrPending) {
		t.Errorf("Bury: %v", err)
	}
	if r.Used() {
		t.Error("it is used though a tombstone is missing in it")
	}
	if got := pending(t, registry); got != 1 {
		t.Errorf("%v are pending", got)
	}
	limit("0")
	eventually(t, "it is used again", r.Used)
	if got := pending(t, registry); got != 0 {
		t.Errorf("%v are pending", got)
	}
	put(t, r, "k2", "v", time.Hour)
	expect(t, r, "k2", "v")
	eventually(t, "it has room again", func() bool { return r.Err() == nil })
	limit("1") // and again, while nobody fills any more
	put(t, r, "k3", "v", time.Hour)
	if r.Err() == nil {
		t.Error("a full server took it")
	}
	limit("0")
	eventually(t, "that is found out", func() bool { return r.Err() == nil })
	expect(t, newRedis(t, server), "k", "(buried)")
}

// pending is how many tombstones are, by the metric.
func pending(t *testing.T, registry *prometheus.Registry) float64 {
	t.Helper()
	return gauge(t, registry, "tokend_invalidations_pending")
}

// gauge is a metric's value, the first by its labels.
func gauge(t *testing.T, registry *prometheus.Registry, name string) float64 {
	t.Helper()
	families, err := registry.Gather()
	must(t, err)
	for _, f := range families {
		if f.GetName() == name {
			return f.GetMetric()[0].GetGauge().GetValue()
		}
	}
	t.Fatal("there is no such metric")
	return 0
}

// TestARedisThatTakesNothingIsNotUsed: a replica, which may lag behind.
func TestARedisThatTakesNothingIsNotUsed(t *testing.T) {
	primary := startServer(t)
	replica := startServer(t, "replicaof 127.0.0.1 "+primary.Addr()[len("127.0.0.1:"):])
	r := startRedis(t, cache.RedisConfig{Address: cache.Address{Servers: []string{replica.Addr()}}, Keys: keys})
	eventually(t, "it says why", func() bool { return strings.Contains(r.Err().Error(), "READONLY") })
	_, err := replica.Exec(t.Context(), "REPLICAOF", "NO", "ONE")
	must(t, err)
	eventually(t, "it is used", r.Used)
}

// TestATombstoneThatArrivesLateIsThere: the network keeps it until the caller has given up.
func TestATombstoneThatArrivesLateIsThere(t *testing.T) {
	server := startServer(t)
	proxy := startProxy(t, server.Addr())
	one := runRedis(t, cache.RedisConfig{Address: cache.Address{Servers: []string{proxy.Addr()}}, Keys: keys})
	two := newRedis(t, server)
	put(t, two, "k", "v", time.Hour)
	proxy.Hang()
	if err := one.Bury(t.Context(), time.Hour, "k"); !errors.Is(err, cache.ErrPending) {
		t.Errorf("Bury: %v", err)
	}
	expect(t, one, "k", "(buried)")
	expect(t, two, "k", "v")
	proxy.Heal()
	eventually(t, "it is there", func() bool { return found(two, "k") == "(buried)" })
	eventually(t, "it is used again", one.Used)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestARestartIsNoticed, though nobody was told of it: a server may have come back with what
// it had before, and without the tombstones.
func TestARestartIsNoticed(t *testing.T) {
	server := startServer(t)
	one, two := newRedis(t, server), newRedis(t, server)
	inter(t, one, time.Hour, "revoked")
	must(t, server.Kill())
	must(t, server.Serve())
	put(t, two, "x", "v", time.Hour)
	eventually(t, "the tombstone is there again", func() bool { return found(two, "revoked") == "(buried)" })
}

// TestATombstoneIsNeverShortened by another one, and none is pending that is over.
func TestATombstoneIsNeverShortened(t *testing.T) {
	server := startServer(t)
	registry := prometheus.NewRegistry()
	one := runRedis(t, cache.RedisConfig{Address: cache.Address{Servers: []string{server.Addr()}}, Keys: keys, Registerer: registry})
	two := newRedis(t, server)
	inter(t, one, time.Hour, "long")
	inter(t, one, 100*time.Millisecond, "long", "short")
	eventually(t, "the short one is over", func() bool { return found(one, "short") == "(miss)" })
	for _, r := range []*cache.Redis{one, two} {
		expect(t, r, "long", "(buried)")
	}
	must(t, server.Kill())
	if err := one.Bury(t.Context(), 100*time.Millisecond, "short"); !errors.Is(err, cache.ErrPending) {
		t.Errorf("Bury: %v", err)
	}
	eventually(t, "the long one alone is pending", func() bool { return pending(t, registry) == 1 })
	must(t, server.Serve())
	eventually(t, "none is pending", func() bool { return pending(t, registry) == 0 })
	eventually(t, "the other one finds it", func() bool { return found(two, "long") == "(buried)" })
}

// TestVeryManyAreBuriedAtOnce, as when a user with very many tokens is disabled: it takes
// longer than the few of any other change, and is no reason to take Redis for dead.
func TestVeryManyAreBuriedAtOnce(t *testing.T) {
	server := startServer(t)
	one, other := newRedis(t, server), newRedis(t, server)
	keys := make([]string, 250_000)
	for i := range keys {
		keys[i] = strconv.Itoa(i)
	}
	err := one.Bury(t.Context(), time.Minute, keys...)
	for i := 0; i < 2 && err != nil; i++ { // on a machine that has other things to do
		eventually(t, "it is used again", one.Used)
		err = one.Bury(t.Context(), time.Minute, keys...)
	}
	must(t, err)
	if !one.Used() {
		t.Error(one.Err())
	}
	for _, key := range []string{keys[0], keys[len(keys)-1]} {
		if e, err := other.Get(t.Context(), key); !e.Buried || err != nil {
			t.Errorf("%s: got %v, %v", key, e, err)
		}
	}
}

// TestWhatIsBuriedDuringTheRecoveryIsWritten before the cache is used again: it comes when
// the tombstones are on their way of which was known until then.
func TestWhatIsBuriedDuringTheRecoveryIsWritten(t *testing.T) {
	server := startServer(t)
	proxy := startProxy(t, server.Addr())
	one := runRedis(t, cache.RedisConfig{Address: cache.Address{Servers: []string{proxy.Addr()}}, Keys: keys})
	two := newRedis(t, server)
	for _, key := range []string{"before", "meanwhile"} {
		put(t, two, key, "v", time.Hour)
	}
	proxy.Cut()
	if err := one.Bury(t.Context(), time.Hour, "before"); !errors.Is(err, cache.ErrPending) {
		t.Errorf("Bury: %v", err)
	}
	var once sync.Once
	buried := make(chan error, 1)
	proxy.Delay(func(fromClient bool, chunk []byte) time.Duration {
		if fromClient && bytes.Contains(chunk, []byte("buried")) && !bytes.Contains(chunk, []byte("tokend:probe")) {
			once.Do(func() { buried <- one.Bury(context.Background(), time.Hour, "meanwhile") })
		}
		return 0
	})
	proxy.Heal()
	eventually(t, "it is used again", one.Used)
	for _, key := range []string{"before", "meanwhile"} {
		expect(t, two, key, "(buried)")
	}
	select {
	case err := <-buried:
		if !errors.Is(err, cache.ErrPending) {
			t.Errorf("Bury meanwhile: %v", err)
		}
	default:
		t.Error("no tombstone was on its way, so that this shows nothing")
	}
}

// TestAnInterruptedCallersTombstoneIsWritten all the same, and is no failure of the server's.
func TestAnInterruptedCallersTombstoneIsWritten(t *testing.T) {
	one, two, key := newRedis(t, redis), newRedis(t, redis), newKey()
	put(t, two, key, "v", time.Hour)
	expect(t, two, key, "v")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := one.Bury(ctx, time.Hour, key); err != nil {
		t.Errorf("Bury: %v", err)
	}
	if !one.Used() {
		t.Error("it is not used any more")
	}
	expect(t, two, key, "(buried)")
}

// TestFillsThatFailTurnItOff though the server answers: it lets nobody write any more.
func TestFillsThatFailTurnItOff(t *testing.T) {
	server := startServer(t)
	r, err := cache.NewRedis(cache.RedisConfig{Address: cache.Address{Servers: []string{server.Addr()}}, Keys: keys})
	must(t, err)
	defer r.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var running sync.WaitGroup
	running.Go(func() { r.Run(ctx) })
	eventually(t, "it is used", r.Used)
	cancel() // so that nothing but the fills may find out
	running.Wait()
	put(t, r, "k", "v", time.Hour)
	_, err = server.Exec(t.Context(), "ACL", "SETUSER", "default", "resetkeys", "%R~*")
	must(t, err)
	expect(t, r, "k", "v")
	for range 3 {
		if !r.Used() {
			t.Error("it is not used any more, after fewer than three")
		}
		put(t, r, "k", "v2", time.Hour)
	}
	if r.Used() || !strings.Contains(r.Err().Error(), "NOPERM") {
		t.Errorf("used: %v, err: %v", r.Used(), r.Err())
	}
	expect(t, r, "k", "(error)")
}

func TestANameThatLeadsNowhereIsTold(t *testing.T) {
	err := &net.OpError{Op: "dial", Net: "tcp", Err: &net.DNSError{Err: "no such host", Name: "cache.example", IsNotFound: true}}
	if got := cache.Explain(err).Error(); !strings.HasPrefix(got, "no machine is known by the name in [cache] url") || !strings.HasSuffix(got, "cache.example: no such host") {
		t.Errorf("got %q", got)
	}
}
