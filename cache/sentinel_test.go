package cache_test

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"tokend/cache"
	"tokend/tokend/e2e/servers"
)

func TestASentinelSaysWhereThePrimaryIs(t *testing.T) {
	for name, start := range map[string]func(...string) (*servers.RedisSentinel, error){
		"plain": servers.StartRedisSentinel, "TLS": servers.StartRedisSentinelWithTLS, "users of their own": startWithUsers,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			set, err := start("requirepass secret", "masterauth secret")
			must(t, err)
			t.Cleanup(func() { must(t, set.Stop()) })
			address := cache.Address{Servers: set.Addrs(), Sentinel: set.Name(), Password: password("secret"), TLS: name == "TLS", CAFile: set.Certificate()}
			blamed := lines{with: []byte("dial tcp"), not: []byte("say?: dial tcp")} // for a connection to the one before
			one := runRedis(t, cache.RedisConfig{Address: address, Keys: keys, Logger: slog.New(slog.NewTextHandler(&blamed, nil))})
			two := runRedis(t, cache.RedisConfig{Address: address, Keys: keys})
			put(t, one, "k", "v", time.Hour)
			expect(t, two, "k", "v")
			primary, err := set.Primary(t.Context())
			must(t, err)
			must(t, primary.Kill())
			for one.Used() {
				_ = found(one, "k")
			}
			if err := one.Bury(t.Context(), time.Hour, "revoked"); !errors.Is(err, cache.ErrPending) {
				t.Errorf("Bury: %v", err)
			}
			eventually(t, "the replica has taken over", one.Used)
			eventually(t, "the other one finds it", func() bool { return found(two, "revoked") == "(buried)" })
			if n := blamed.n.Load(); n > 0 {
				t.Errorf("the log blames the new primary %d times for what the one before does not do", n)
			}
		})
	}
}

// startWithUsers starts servers at which replicas and Sentinels have the rights that
// docs/operate.md tells admins to give them.
func startWithUsers(settings ...string) (*servers.RedisSentinel, error) {
	const secret = "of-users"
	text, err := os.ReadFile("../docs/operate.md")
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "    user replica ") || strings.HasPrefix(line, "    user sentinel ") {
			settings = append(settings, strings.Replace(strings.TrimSpace(line), "PASSWORD", secret, 1))
		}
	}
	settings = append(settings, "masteruser replica", "masterauth "+secret) // the last counts
	return servers.StartRedisSentinelAs("sentinel", secret, settings...)
}

// TestANewPrimaryIsUsedThoughTheOldOneLives, and connections to that are there.
func TestANewPrimaryIsUsedThoughTheOldOneLives(t *testing.T) {
	set, err := servers.StartRedisSentinel()
	must(t, err)
	t.Cleanup(func() { must(t, set.Stop()) })
	r := runRedis(t, cache.RedisConfig{Address: cache.Address{Servers: set.Addrs(), Sentinel: set.Name()}, Keys: keys})
	now, err := set.Failover(t.Context())
	must(t, err)
	eventually(t, "it is used", func() bool {
		n := len(entries(t, now))
		_ = found(r, newKey()) // which leaves a claim
		return r.Used() && len(entries(t, now)) > n
	})
	before := len(entries(t, now))
	for range 20 {
		key := newKey()
		put(t, r, key, "v", time.Hour)
		expect(t, r, key, "v")
	}
	if n := len(entries(t, now)); n < before+10 { // claims have ended
		t.Errorf("the new one had %d entries, and has %d", before, n)
	}
}

// TestNoLoginWaitsForASentinel, which hang: the primary is known, and that they don't answer is
// logged.
func TestNoLoginWaitsForASentinel(t *testing.T) {
	set, err := servers.StartRedisSentinel()
	must(t, err)
	t.Cleanup(func() { must(t, set.Stop()) })
	away, back := lines{with: []byte("a Sentinel is of no use")}, lines{with: []byte("a Sentinel answers again")}
	r := runRedis(t, cache.RedisConfig{
		Address: cache.Address{Servers: set.Addrs(), Sentinel: set.Name()}, Keys: keys,
		Logger: slog.New(slog.NewTextHandler(io.MultiWriter(&away, &back), nil)),
	})
	put(t, r, "k", "v", time.Hour)
	primary, err := set.Primary(t.Context())
	must(t, err)
	for _, one := range set.Sentinels() {
		must(t, one.Pause())
	}
	for range 5 {
		_, err = primary.Exec(t.Context(), "CLIENT", "KILL", "TYPE", "normal")
		must(t, err)
		time.Sleep(300 * time.Millisecond)
		expect(t, r, "k", "v")
	}
	eventually(t, "that is logged", func() bool { return away.n.Load() == 3 })
	time.Sleep(2500 * time.Millisecond) // they are asked again
	for _, one := range set.Sentinels() {
		must(t, one.Resume())
	}
	eventually(t, "and its end", func() bool { return back.n.Load() == 3 })
	time.Sleep(time.Second)
	if a, b := away.n.Load(), back.n.Load(); a < 3 || a > 6 || b < 3 || b > 6 {
		t.Errorf("the log says %d times that one of three is of no use, and %d times that it answers", a, b)
	}
}

// TestTheSentinelsPasswordIsReadAgain, after it was changed.
func TestTheSentinelsPasswordIsReadAgain(t *testing.T) {
	set, err := servers.StartRedisSentinelWithPassword("right")
	must(t, err)
	t.Cleanup(func() { must(t, set.Stop()) })
	var now atomic.Value
	now.Store("wrong")
	address := cache.Address{
		Servers: set.Addrs(), Sentinel: set.Name(), SentinelPassword: func() (string, error) { return now.Load().(string), nil },
	}
	r := startRedis(t, cache.RedisConfig{Address: address, Keys: keys})
	eventually(t, "it says why", func() bool { return strings.Contains(r.Err().Error(), "the Sentinels want a password") })
	now.Store("right")
	eventually(t, "it is used", r.Used)
}

// TestASentinelThatIsOfNoUseIsNamed, though the others do.
func TestASentinelThatIsOfNoUseIsNamed(t *testing.T) {
	set, err := servers.StartRedisSentinel()
	must(t, err)
	t.Cleanup(func() { must(t, set.Stop()) })
	wrong := "a Sentinel is of no use\" sentinel=" + redis.Addr() + " err=\"what [cache] url names are no Sentinels; write redis:// (or rediss://) for a Redis alone: " +
		"a Sentinel does not say which server is the primary: " + redis.Addr()
	named := lines{with: []byte(wrong)}
	runRedis(t, cache.RedisConfig{
		Address: cache.Address{Servers: []string{set.Addrs()[0], redis.Addr()}, Sentinel: set.Name()}, Keys: keys,
		Logger: slog.New(slog.NewTextHandler(&named, nil)),
	})
	eventually(t, "that is logged", func() bool { return named.n.Load() > 0 })
}

// TestASentinelsOddAnswersEndNothing: the daemon goes on, without the cache.
func TestASentinelsOddAnswersEndNothing(t *testing.T) {
	right := told(redis.Addr(), 1)[address]
	for name, lie := range map[string]string{
		"nothing":             "*0\r\n",
		"none":                "*-1\r\n",
		"half of a pair":      "*1\r\n" + text("ip"),
		"no epoch":            "*4\r\n" + text("ip") + text("127.0.0.1") + text("port") + text("1"),
		"an epoch before all": epoch(-1),
		"numbers":             "*2\r\n:1\r\n:2\r\n",
		"arrays":              "*2\r\n*0\r\n*0\r\n",
		"errors in it":        "*2\r\n-ERR x\r\n-ERR y\r\n",
		"pairs":               "%1\r\n-ERR x\r\n",
		"more than was asked": "-ERR x\r\n+OK\r\n*0\r\n",
		"news":                ">2\r\n" + text("message") + text("+switch-master"),
		"a value too long":    "*2\r\n$100000000000\r\n",
	} {
		for _, lies := range []map[string]string{{master: lie, address: right}, {master: epoch(1), address: lie}} {
			r := startRedis(t, cache.RedisConfig{Address: cache.Address{Servers: []string{liar(t, lies, false)}, Sentinel: "name"}, Keys: keys})
			eventually(t, name+": it was tried", func() bool { return !strings.Contains(r.Err().Error(), "not tried") })
			if r.Used() {
				t.Errorf("%s: it is used", name)
			}
		}
	}
}

const master, address = "master", "get-master-addr-by-name"

// text is that in Redis' protocol.
func text(s string) string { return fmt.Sprintf("$%d\r\n%s\r\n", len(s), s) }

func epoch(n int) string { return "*2\r\n" + text("config-epoch") + text(fmt.Sprint(n)) }

// told is what a Sentinel says of a primary.
func told(server string, n int) map[string]string {
	host, port, err := net.SplitHostPort(server)
	if err != nil {
		panic(err)
	}
	return map[string]string{master: epoch(n), address: "*2\r\n" + text(host) + text(port)}
}

// TestASentinelIsOfNoUseOnceItHasSaidNothingForASecond: one may be late. Each cause is logged
// once, and its end.
func TestASentinelIsOfNoUseOnceItHasSaidNothingForASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		away, back := lines{with: []byte("a Sentinel is of no use")}, lines{with: []byte("a Sentinel answers again")}
		note := cache.NoteUseless(slog.New(slog.NewTextHandler(io.MultiWriter(&away, &back), nil)))
		silent, refused := os.ErrDeadlineExceeded, errors.New("connection refused")
		for i, c := range []struct {
			after      time.Duration
			err        error
			away, back int64
		}{
			{0, silent, 0, 0},
			{999 * time.Millisecond, silent, 0, 0},
			{0, nil, 0, 0},
			{time.Second, silent, 0, 0}, // since now
			{time.Second, silent, 1, 0},
			{time.Second, silent, 1, 0},
			{time.Second, refused, 2, 0},
			{0, nil, 2, 1},
			{0, nil, 2, 1},
			{0, silent, 2, 1},
			{time.Second, silent, 3, 1},
		} {
			time.Sleep(c.after)
			note(c.err)
			if a, b := away.n.Load(), back.n.Load(); a != c.away || b != c.back {
				t.Errorf("step %d: %d and %d lines, want %d and %d", i, a, b, c.away, c.back)
			}
		}
	})
}
