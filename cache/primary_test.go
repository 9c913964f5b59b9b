package cache_test

import (
	"errors"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tokend/cache"
	"tokend/tokend/e2e/servers"
)

// TestTheReplicaThatTakesOverIsThePrimary: beside the new epoch a Sentinel tells the old address,
// until all other replicas follow.
func TestTheReplicaThatTakesOverIsThePrimary(t *testing.T) {
	old, now := startServer(t), startServer(t)
	leader, other := told(now.Addr(), 2), told(old.Addr(), 1)
	host, port, err := net.SplitHostPort(old.Addr())
	must(t, err)
	leader[master] = "*6\r\n" + text("ip") + text(host) + text("port") + text(port) + text("config-epoch") + text("2")
	r := runRedis(t, cache.RedisConfig{
		Address: cache.Address{Servers: []string{liar(t, leader, false), liar(t, other, false)}, Sentinel: "name"}, Keys: keys,
	})
	put(t, r, newKey(), "v", time.Hour)
	if len(entries(t, now)) == 0 || len(entries(t, old)) > 0 {
		t.Error("the old one is asked")
	}
}

// TestTheAddressIsAskedForAfterTheEpoch, or a new epoch stood beside the old address, where a
// Sentinel has another server take over between the two questions.
func TestTheAddressIsAskedForAfterTheEpoch(t *testing.T) {
	t.Parallel()
	one, two := startServer(t), startServer(t)
	before, after := min(one.Addr(), two.Addr()), max(one.Addr(), two.Addr()) // of equal epochs the first would stay
	var asked atomic.Int64
	sentinel := turncoat(t, func(request string) map[string]string {
		if strings.Contains(request, "sentinel") && asked.Add(1) == 1 {
			return told(before, 1)
		}
		return told(after, 2)
	}, false)
	r := runRedis(t, cache.RedisConfig{Address: cache.Address{Servers: []string{sentinel}, Sentinel: "name"}, Keys: keys})
	eventually(t, "it was asked again", func() bool { return asked.Load() >= 6 })
	eventually(t, "it is used", r.Used)
	put(t, r, newKey(), "v", time.Hour)
	now := two
	if one.Addr() == after {
		now = one
	}
	if len(entries(t, now)) == 0 {
		t.Error("the old one is asked")
	}
}

// TestANewPrimaryIsBelievedWhenAllHadTimeForIt: another daemon may put up there a moment later what this one must not
// overlook.
func TestANewPrimaryIsBelievedWhenAllHadTimeForIt(t *testing.T) {
	t.Parallel()
	one, two := startServer(t), startServer(t)
	var tookOver atomic.Bool
	sentinel := turncoat(t, func(string) map[string]string {
		if tookOver.Load() {
			return told(two.Addr(), 2)
		}
		return told(one.Addr(), 1)
	}, false)
	r := runRedis(t, cache.RedisConfig{Address: cache.Address{Servers: []string{sentinel}, Sentinel: "name"}, Keys: keys})
	eventually(t, "it is used", r.Used)
	changed := time.Now()
	tookOver.Store(true)
	eventually(t, "it is off", func() bool { return !r.Used() })
	eventually(t, "it is used again", r.Used)
	if after := time.Since(changed); after < time.Second {
		t.Errorf("it is believed after %s", after)
	}
}

// TestOfOneEpochAllTakeTheSameServer, in whatever order they ask.
func TestOfOneEpochAllTakeTheSameServer(t *testing.T) {
	t.Parallel()
	sentinels := []string{liar(t, told(startServer(t).Addr(), 1), false), liar(t, told(startServer(t).Addr(), 1), false)}
	one := runRedis(t, cache.RedisConfig{Address: cache.Address{Servers: sentinels, Sentinel: "name"}, Keys: keys})
	two := runRedis(t, cache.RedisConfig{Address: cache.Address{Servers: []string{sentinels[1], sentinels[0]}, Sentinel: "name"}, Keys: keys})
	agreed := 0 // times in a row: each is asked for the primary meanwhile
	eventually(t, "what the one keeps the other finds, ten times", func() bool {
		key := newKey()
		put(t, one, key, "v", time.Hour)
		if agreed++; found(two, key) != "v" {
			agreed = 0
		}
		time.Sleep(50 * time.Millisecond)
		return agreed == 10
	})
}

// TestASentinelThatHangsKeepsNoOtherWaiting: a daemon that hears late of another primary would
// use the old one on.
func TestASentinelThatHangsKeepsNoOtherWaiting(t *testing.T) {
	t.Parallel()
	server := startServer(t)
	var good, bad atomic.Int64
	count := func(n *atomic.Int64) string {
		return turncoat(t, func(asked string) map[string]string {
			if strings.Contains(asked, "sentinel") {
				n.Add(1)
			}
			return told(server.Addr(), 1)
		}, false)
	}
	hangs := startProxy(t, count(&bad))
	away := lines{with: []byte("a Sentinel is of no use")}
	runRedis(t, cache.RedisConfig{
		Address: cache.Address{Servers: []string{hangs.Addr(), count(&good)}, Sentinel: "name"}, Keys: keys, Logger: slog.New(slog.NewTextHandler(&away, nil)),
	})
	hangs.Hang()
	eventually(t, "it is found out", func() bool { return away.n.Load() > 0 })
	before := good.Load()
	hung := bad.Load()
	eventually(t, "the other one is asked again and again", func() bool { return good.Load() > before+20 })
	if n := bad.Load() - hung; n > 0 {
		t.Errorf("the one that hangs was asked %d times: nothing was shown", n)
	}
}

// TestAServerThatWasAwayIsInDoubt, as it may lack what others have revoked, until they agree.
func TestAServerThatWasAwayIsInDoubt(t *testing.T) {
	t.Parallel()
	way := startProxy(t, startServer(t).Addr())
	r := runRedis(t, cache.RedisConfig{Address: cache.Address{Servers: []string{way.Addr()}}, Keys: keys})
	since := func() (since time.Time) {
		eventually(t, "an answer", func() bool {
			e, err := r.Get(t.Context(), "k")
			since = e.Since
			return err == nil
		})
		return since
	}
	if since().After(time.Now()) {
		t.Error("it is in doubt before it was away")
	}
	cut := time.Now()
	way.Cut()
	eventually(t, "it is off", func() bool { _ = found(r, "k"); return !r.Used() })
	way.Heal()
	eventually(t, "it is used", r.Used)
	if since().Before(cut.Add(3 * time.Second)) {
		t.Error("it is not in doubt after it was away")
	}
	inter(t, r, time.Hour, newKey()) // where all look
}

// follow is a cache that follows two Sentinels, which say what the caller lets them.
func follow(t *testing.T, primary string) (r *cache.Redis, say func(primary string, epoch int)) {
	t.Helper()
	var now atomic.Pointer[map[string]string]
	say = func(primary string, epoch int) {
		said := told(primary, epoch)
		now.Store(&said)
	}
	say(primary, 1)
	says := func(string) map[string]string { return *now.Load() }
	address := cache.Address{Servers: []string{turncoat(t, says, false), turncoat(t, says, false)}, Sentinel: "name"}
	return runRedis(t, cache.RedisConfig{Address: address, Keys: keys}), say
}

// TestOfAnotherPrimaryItIsSaidSinceWhen: it may lack what others have revoked, who learn a
// moment later that it is the primary. What is asked while it becomes that is no exception.
func TestOfAnotherPrimaryItIsSaidSinceWhen(t *testing.T) {
	t.Parallel()
	both := []*servers.Redis{startServer(t), startServer(t)}
	var others []*cache.Redis
	for _, server := range both {
		others = append(others, runRedis(t, cache.RedisConfig{Address: cache.Address{Servers: []string{server.Addr()}}, Keys: keys}))
	}
	r, say := follow(t, both[0].Addr())
	for round := range 6 {
		now, next := round%2, (round+1)%2
		eventually(t, "it is used", r.Used)
		names := make([]string, 50)
		for i := range names {
			names[i] = newKey()
			put(t, others[next], names[i], "v", time.Hour)
		}
		inter(t, others[now], time.Hour, names...)
		var over atomic.Bool
		var asking sync.WaitGroup
		var doubted, believed atomic.Int64
		said := time.Now()
		for from := range 8 {
			asking.Go(func() {
				for i := from; !over.Load(); i++ {
					e, err := r.Get(t.Context(), names[i%len(names)])
					switch {
					case err != nil || e.Value == nil:
					case e.Since.Before(said.Add(2 * time.Second)):
						believed.Add(1)
					default:
						doubted.Add(1)
					}
				}
			})
		}
		time.Sleep(20 * time.Millisecond)
		say(both[next].Addr(), round+2)
		eventually(t, "the other one is asked", func() bool { return doubted.Load() > 0 })
		over.Store(true)
		asking.Wait()
		if n := believed.Load(); n > 0 {
			t.Errorf("round %d: %d answers of the other one are said to lack nothing", round, n)
		}
	}
}

// TestWhatWasBuriedAtTheOldPrimaryAloneIsPending.
func TestWhatWasBuriedAtTheOldPrimaryAloneIsPending(t *testing.T) {
	t.Parallel()
	old, now := startServer(t), startServer(t)
	proxy := startProxy(t, old.Addr())
	r, say := follow(t, proxy.Addr())
	proxy.Delay(func(fromClient bool, chunk []byte) time.Duration {
		if fromClient && strings.Contains(string(chunk), "buried") { // the next one takes over
			say(now.Addr(), 2)
			return 300 * time.Millisecond
		}
		return 0
	})
	if err := r.Bury(t.Context(), time.Hour, "k"); !errors.Is(err, cache.ErrPending) {
		t.Errorf("it says %v", err)
	}
	eventually(t, "the old one has it", func() bool { return len(entries(t, old)) > 0 })
	eventually(t, "the next one is used", r.Used)
	if len(entries(t, now)) == 0 {
		t.Error("the next one has not")
	}
}

// TestWhatIsBuriedWhileDaemonsMayDifferIsPending: another one may look at the old primary still.
func TestWhatIsBuriedWhileDaemonsMayDifferIsPending(t *testing.T) {
	t.Parallel()
	old, now := startServer(t), startServer(t)
	r, say := follow(t, old.Addr())
	agree := func() bool { return r.Bury(t.Context(), time.Hour, newKey()) == nil }
	if agree() {
		t.Error("at the start they agree")
	}
	eventually(t, "they agree", agree)
	say(now.Addr(), 2)
	eventually(t, "the new one is asked", func() bool { return !r.Used() })
	changed := time.Now()
	eventually(t, "it is used", r.Used)
	if time.Since(changed) < 900*time.Millisecond {
		t.Error("the others had no time to put up there what was revoked")
	}
	if agree() {
		t.Error("they agree at once")
	}
	eventually(t, "they agree again", agree)
	say(now.Addr(), 4) // the old one was it meanwhile
	eventually(t, "that is noticed", func() bool { return !r.Used() && !agree() })
}

// TestWhoHearsOfTooFewSentinelsIsAlone: another server may be the primary. Its tombstones are
// pending, of the others' it is in doubt, and says so.
func TestWhoHearsOfTooFewSentinelsIsAlone(t *testing.T) {
	t.Parallel()
	server := startServer(t)
	var sentinels []string
	var ways []*servers.Proxy
	for range 3 {
		way := startProxy(t, liar(t, told(server.Addr(), 1), false))
		ways, sentinels = append(ways, way), append(sentinels, way.Addr())
	}
	r := runRedis(t, cache.RedisConfig{Address: cache.Address{Servers: sentinels, Sentinel: "name"}, Keys: keys})
	put(t, r, "k", "v", time.Hour)
	agree := func() bool { return r.Bury(t.Context(), time.Hour, newKey()) == nil }
	doubted := func() bool {
		e, err := r.Get(t.Context(), "k")
		return err != nil || e.Since.After(time.Now())
	}
	well := func() bool { return agree() && !doubted() && r.Err() == nil }
	half := runRedis(t, cache.RedisConfig{Address: cache.Address{Servers: sentinels[1:], Sentinel: "name"}, Keys: keys})
	eventually(t, "all is well", well)
	ways[0].Cut()
	time.Sleep(1500 * time.Millisecond)
	if !well() {
		t.Error("two of three do not do")
	}
	ways[1].Hang()
	eventually(t, "it is in doubt", func() bool { return !agree() && doubted() })
	eventually(t, "it says so", func() bool {
		return r.Used() && r.Err() != nil && strings.Contains(r.Err().Error(), "too few Sentinels") && strings.Contains(r.Err().Error(), ways[1].Addr())
	})
	if err := half.Err(); err != nil {
		t.Errorf("one of two does not do: %v", err)
	}
	ways[1].Heal()
	eventually(t, "all is well again", well)
}

// TestWhatWasWrittenToTheOldPrimaryIsWrittenAgain, where the next one took over while the cache
// was about to be used again.
func TestWhatWasWrittenToTheOldPrimaryIsWrittenAgain(t *testing.T) {
	t.Parallel()
	old, now := startServer(t), startServer(t)
	proxy := startProxy(t, old.Addr())
	r, say := follow(t, proxy.Addr())
	_ = r.Bury(t.Context(), time.Hour, "k") // which is pending
	proxy.Cut()
	eventually(t, "it is off", func() bool { _ = found(r, "x"); return !r.Used() })
	var again atomic.Bool
	proxy.Delay(func(fromClient bool, chunk []byte) time.Duration {
		if fromClient && strings.Contains(string(chunk), "buried") && again.CompareAndSwap(false, true) {
			say(now.Addr(), 2)
			return 300 * time.Millisecond
		}
		return 0
	})
	proxy.Heal()
	eventually(t, "it is used", r.Used)
	if !again.Load() {
		t.Fatal("nothing was written to the old one: nothing was shown")
	}
	if len(entries(t, now)) == 0 {
		t.Error("the next one has nothing of what was revoked")
	}
}

// TestTheSentinelThatKnowsBestIsBelieved: the others hear of a new primary later. What they
// say counts if that one says nothing for long.
func TestTheSentinelThatKnowsBestIsBelieved(t *testing.T) {
	t.Parallel()
	long(t)
	primary, before := startServer(t), startServer(t)
	best := startProxy(t, liar(t, told(primary.Addr(), 2), false))
	other := liar(t, told(before.Addr(), 1), false)
	r := runRedis(t, cache.RedisConfig{Address: cache.Address{Servers: []string{other, best.Addr()}, Sentinel: "name"}, Keys: keys})
	asked := func(server *servers.Redis) int { return len(entries(t, server)) }
	for range 20 {
		put(t, r, newKey(), "v", time.Hour)
		time.Sleep(20 * time.Millisecond)
	}
	best.Cut()
	time.Sleep(500 * time.Millisecond)
	put(t, r, newKey(), "v", time.Hour)
	if asked(primary) < 21 || asked(before) > 0 {
		t.Errorf("the primary has %d entries, the other %d", asked(primary), asked(before))
	}
	eventually(t, "they are believed", func() bool {
		_ = found(r, newKey()) // which leaves a claim
		return asked(before) > 0
	})

	off := lines{with: []byte("another server is the primary now")}
	r = runRedis(t, cache.RedisConfig{
		Address: cache.Address{Servers: []string{other, best.Addr()}, Sentinel: "name"}, Keys: keys, Logger: slog.New(slog.NewTextHandler(&off, nil)),
	})
	n := asked(before)
	put(t, r, newKey(), "v", time.Hour)
	if asked(before) == n {
		t.Error("who knows nothing better does not believe it")
	}
	n = asked(before)
	best.Heal()
	eventually(t, "the cache is turned off until the other one has what was revoked", func() bool { return off.n.Load() > 0 })
	eventually(t, "it is used again", r.Used)
	put(t, r, newKey(), "v", time.Hour)
	if asked(before) > n {
		t.Error("the server before is used on")
	}
}

// TestWhatChangesWhileItIsWrittenIsWrittenAgain: the tombstones went to a server that is the primary no more.
func TestWhatChangesWhileItIsWrittenIsWrittenAgain(t *testing.T) {
	t.Parallel()
	r, err := cache.NewRedis(cache.RedisConfig{Address: cache.Address{Servers: []string{redis.Addr()}}, Keys: keys})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := r.RecoverWhile(t.Context(), errors.New("another server is the primary")); err == nil || r.Used() {
		t.Errorf("it is believed: %t, %v", r.Used(), err)
	}
}
