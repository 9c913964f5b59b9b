package cache_test

import (
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"tokend/cache"
	"tokend/tokend/e2e/servers"
)

func password(text string) func() (string, error) {
	return func() (string, error) { return text, nil }
}

// TestConnectionsThatRedisHasEndedAreNotAsked: it ends those that are idle, or all of them,
// or is started again. None fails then, with TLS or without.
func TestConnectionsThatRedisHasEndedAreNotAsked(t *testing.T) {
	for name, start := range map[string]func(...string) (*servers.Redis, error){"plain": servers.StartRedis, "TLS": servers.StartRedisWithTLS} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server, err := start()
			must(t, err)
			t.Cleanup(func() { must(t, server.Stop()) })
			address := cache.Address{Servers: []string{server.Addr()}, TLS: name == "TLS", CAFile: server.Certificate()}
			off := lines{with: []byte("the cache is not used")}
			r := runRedis(t, cache.RedisConfig{Address: address, Keys: keys, Logger: slog.New(slog.NewTextHandler(&off, nil))})
			put(t, r, "k", "v", time.Hour)
			before := madeConnections(t, server)
			for range 20 {
				expect(t, r, "k", "v")
			}
			if made := madeConnections(t, server) - before; made > 1+5 { // one to ask for that, and some that are kept ready
				t.Errorf("%d connections were made for 20 questions", made)
			}
			failed, turned := 10, int64(0)
			for turn := 0; turn < 5 && (failed > 2 || turned > 0); turn++ { // a busy machine may be late with a new connection
				eventually(t, "it is used", r.Used)
				failed, turned = 0, -off.n.Load()
				for range 10 {
					if found(r, "k") != "v" {
						failed++
					}
					_, err := server.Exec(t.Context(), "CLIENT", "KILL", "TYPE", "normal")
					must(t, err)
					time.Sleep(10 * time.Millisecond) // they are told
				}
				turned += off.n.Load()
			}
			if turned > 0 || failed > 2 {
				t.Errorf("%d of 10 failed, and it was turned off %d times", failed, turned)
			}
		})
	}
}

// madeConnections is how many were made to the server since it began.
func madeConnections(t *testing.T, server *servers.Redis) (n int) {
	t.Helper()
	said, err := server.Exec(t.Context(), "INFO", "stats")
	must(t, err)
	_, count, _ := strings.Cut(said.(string), "total_connections_received:")
	_, err = fmt.Sscan(count, &n)
	must(t, err)
	return n
}

func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	must(t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

// rules are what docs/operate.md tells admins to let tokend do.
const rules = "user tokend on >%s ~tokend:* resetchannels -@all +ping +hello +auth +client|setname +get +set +evalsha +eval"

func TestTheUserNeedsNoMoreRightsThanTheDocsSay(t *testing.T) {
	secret := rand.Text()
	text, err := os.ReadFile("../docs/operate.md")
	must(t, err)
	if !strings.Contains(string(text), strings.Split(fmt.Sprintf(rules, "PASSWORD"), " ~")[1]) {
		t.Error("docs/operate.md says other rules than these")
	}
	server := startServer(t, fmt.Sprintf(rules, secret))
	_, err = server.Exec(t.Context(), "ACL", "SETUSER", "default", "off")
	must(t, err)
	const wrong = "wrong"
	var now atomic.Value
	now.Store(wrong)
	address := cache.Address{Servers: []string{server.Addr()}, User: "tokend", Password: func() (string, error) { return now.Load().(string), nil }}
	r := startRedis(t, cache.RedisConfig{Address: address, Keys: keys})
	eventually(t, "it says why", func() bool {
		return strings.Contains(r.Err().Error(), "Redis admits no such user with that password") && strings.Contains(r.Err().Error(), "WRONGPASS")
	})
	if strings.Contains(r.Err().Error(), wrong) {
		t.Error("the error has the password in it")
	}
	now.Store(secret) // which is read again
	eventually(t, "it is used", r.Used)
	put(t, r, "k", "v", time.Hour)
	expect(t, r, "k", "v")
	inter(t, r, time.Hour, "k")
	address.Password = func() (string, error) { return "", errors.New("the file is gone") }
	other := startRedis(t, cache.RedisConfig{Address: address, Keys: keys})
	eventually(t, "it says why", func() bool { return strings.Contains(other.Err().Error(), "the file is gone") })
}

func TestAClusterIsOneCache(t *testing.T) {
	for name, start := range map[string]func(...string) (*servers.RedisCluster, error){"plain": servers.StartRedisCluster, "TLS": servers.StartRedisClusterWithTLS} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cluster, err := start()
			must(t, err)
			t.Cleanup(func() { must(t, cluster.Stop()) })
			address := cache.Address{Servers: cluster.Addrs()[:1], Cluster: true, TLS: name == "TLS", CAFile: cluster.Certificate()} // it tells of the others
			one := runRedis(t, cache.RedisConfig{Address: address, Keys: keys})
			two := runRedis(t, cache.RedisConfig{Address: address, Keys: keys})
			var all []string
			for i := range 50 {
				key := fmt.Sprint("key ", i)
				all = append(all, key)
				put(t, one, key, key, time.Hour)
				expect(t, two, key, key)
			}
			inter(t, one, time.Hour, all[:25]...)
			for i, key := range all {
				want := key
				if i < 25 {
					want = "(buried)"
				}
				expect(t, two, key, want)
			}
			for _, node := range cluster.Nodes() {
				said, err := node.Exec(t.Context(), "INFO", "commandstats")
				must(t, err)
				if strings.Contains(said.(string), "cmdstat_command:") { // for which there is no right, and no time
					t.Error("the servers are asked what they know of commands")
				}
			}
			took := time.Hour
			for range 5 {
				must(t, cluster.Nodes()[0].Pause())
				took = min(took, slowest(t, one, ""))
				must(t, cluster.Nodes()[0].Resume())
				eventually(t, "it is used again", one.Used)
				if took < enough {
					break
				}
			}
			if took >= enough {
				t.Errorf("with one server stopped, the slowest of a crowd took %s", took)
			}
			slots := func(command string) {
				_, err := cluster.Nodes()[0].Exec(t.Context(), "CLUSTER", command, 0, 5460)
				must(t, err)
			}
			slots("DELSLOTSRANGE")
			eventually(t, "it says why", func() bool {
				_ = found(one, newKey())
				return one.Err() != nil && strings.Contains(one.Err().Error(), "a server of the Cluster is away, or has lost its part")
			})
			slots("ADDSLOTSRANGE")
			both := []*cache.Redis{one, two}
			for _, r := range both {
				eventually(t, "it is used again", r.Used)
			}
			dead := cluster.Nodes()[2]
			must(t, dead.Kill())
			for _, r := range both { // no part of it is used without the others
				eventually(t, "it is used no more, and says why", func() bool {
					for _, key := range all[25:] {
						_ = found(r, key)
					}
					return !r.Used() && strings.Contains(fmt.Sprint(r.Err()), dead.Addr()) // else a busy machine may have turned it off before
				})
			}
			for until := time.Now().Add(2 * time.Second); time.Now().Before(until); time.Sleep(time.Millisecond) {
				if one.Used() || two.Used() {
					t.Fatal("it is used without a part of it")
				}
			}
		})
	}
}

// TestARecordWhoseSlotIsMovingIsFound, with no more rights than docs/operate.md says.
func TestARecordWhoseSlotIsMovingIsFound(t *testing.T) {
	text, err := os.ReadFile("../docs/operate.md")
	must(t, err)
	const more = "+cluster|slots +asking"
	if !strings.Contains(string(text), "in a Cluster also `"+more+"`") {
		t.Error("docs/operate.md says other rights than these")
	}
	cluster, err := servers.StartRedisCluster(fmt.Sprintf(rules, "secret") + " " + more)
	must(t, err)
	t.Cleanup(func() { must(t, cluster.Stop()) })
	r := runRedis(t, cache.RedisConfig{
		Address: cache.Address{Servers: cluster.Addrs(), Cluster: true, User: "tokend", Password: password("secret")}, Keys: keys,
	})
	put(t, r, "k", "v", time.Hour)
	ask := func(node *servers.Redis, args ...any) any {
		t.Helper()
		said, err := node.Exec(t.Context(), args...)
		must(t, err)
		return said
	}
	moved := 0
	for i, from := range cluster.Nodes() {
		if moved > 0 {
			break
		}
		to := cluster.Nodes()[(i+1)%3]
		for name := range entries(t, from) {
			moved++
			slot := ask(from, "CLUSTER", "KEYSLOT", name)
			ask(to, "CLUSTER", "SETSLOT", slot, "IMPORTING", ask(from, "CLUSTER", "MYID"))
			ask(from, "CLUSTER", "SETSLOT", slot, "MIGRATING", ask(to, "CLUSTER", "MYID"))
			host, port, _ := strings.Cut(to.Addr(), ":")
			ask(from, "MIGRATE", host, port, name, 0, 5000)
		}
	}
	if moved != 1 {
		t.Errorf("%d records were moved, want 1", moved)
	}
	for range 10 {
		expect(t, r, "k", "v")
	}
	must(t, r.Bury(t.Context(), time.Hour, "k"))
	expect(t, newRedisOf(t, cluster), "k", "(buried)")
	if !r.Used() {
		t.Error("it is used no more")
	}
}

// TestWhatKindOfRedisItIsIsSaid, where [cache] url says another, and whom it admits.
func TestWhatKindOfRedisItIsIsSaid(t *testing.T) {
	cluster, err := servers.StartRedisCluster()
	must(t, err)
	t.Cleanup(func() { must(t, cluster.Stop()) })
	set, err := servers.StartRedisSentinelWithPassword("secret")
	must(t, err)
	t.Cleanup(func() { must(t, set.Stop()) })
	open, err := servers.StartRedisSentinel()
	must(t, err)
	t.Cleanup(func() { must(t, open.Stop()) })
	strict := startServer(t)
	_, err = strict.Exec(t.Context(), "ACL", "SETUSER", "default", "off")
	must(t, err)
	_, err = redis.Exec(t.Context(), "ACL", "SETUSER", "less", "on", ">secret", "~*", "+ping", "+hello", "+auth", "+client|setname", "+get")
	must(t, err)
	for want, address := range map[string]cache.Address{
		"in no Cluster; write redis://":                                                               {Servers: []string{redis.Addr()}, Cluster: true},
		"or, where this Redis is in no Cluster, write redis://":                                       {Servers: []string{redis.Addr()}, Cluster: true, User: "less", Password: password("secret")},
		"are Sentinels; write redis+sentinel://":                                                      {Servers: open.Addrs()[:1]},
		" are Sentinels; write redis+sentinel://":                                                     {Servers: open.Addrs()[:1], Cluster: true},
		"where Sentinels would want redis+sentinel://":                                                {Servers: set.Addrs()[:1], Password: password("wrong")},
		"is the Sentinel running where":                                                               {Servers: []string{"127.0.0.1:1"}, Sentinel: "name"},
		"one of a Cluster; write redis+cluster://":                                                    {Servers: cluster.Addrs()[:1]},
		"are no Sentinels; write redis://":                                                            {Servers: []string{redis.Addr()}, Sentinel: "name"},
		"the Sentinels want a password, or another one, or these are none; mend [cache] url, or sent": {Servers: set.Addrs(), Sentinel: set.Name()},
		"the Sentinels know no set of servers by the name":                                            {Servers: set.Addrs(), Sentinel: "other", SentinelPassword: password("secret")},
		"the Sentinels want a password, or another one":                                               {Servers: set.Addrs(), Sentinel: set.Name(), SentinelPassword: password("wrong")},
		"knows the password's user by a name; write it into [cache] url":                              {Servers: []string{strict.Addr()}, Password: password("secret")},
	} {
		r := startRedis(t, cache.RedisConfig{Address: address, Keys: keys})
		eventually(t, want, func() bool {
			_ = found(r, newKey())
			return r.Err() != nil && strings.Contains(r.Err().Error(), want)
		})
	}
}

// TestTheServerThatAdmitsNobodyIsNamed: of those of a Cluster, or of a Sentinel's, each has
// users of its own.
func TestTheServerThatAdmitsNobodyIsNamed(t *testing.T) {
	user := fmt.Sprintf(rules, "secret") + " +cluster|slots"
	cluster, err := servers.StartRedisCluster(user)
	must(t, err)
	t.Cleanup(func() { must(t, cluster.Stop()) })
	set, err := servers.StartRedisSentinel(user)
	must(t, err)
	t.Cleanup(func() { must(t, set.Stop()) })
	primary, err := set.Primary(t.Context())
	must(t, err)
	for _, c := range []struct {
		address cache.Address
		strict  *servers.Redis
	}{
		{cache.Address{Servers: cluster.Addrs(), Cluster: true}, cluster.Nodes()[1]},
		{cache.Address{Servers: set.Addrs(), Sentinel: set.Name()}, primary},
	} {
		_, err := c.strict.Exec(t.Context(), "ACL", "DELUSER", "tokend")
		must(t, err)
		c.address.User, c.address.Password = "tokend", password("secret")
		var said lines
		r := startRedis(t, cache.RedisConfig{Address: c.address, Keys: keys, Logger: slog.New(slog.NewTextHandler(&said, nil))})
		eventually(t, "it is named", func() bool {
			return strings.Contains(r.Err().Error(), "Redis admits no such user") && strings.Contains(r.Err().Error(), c.strict.Addr()+": ")
		})
		time.Sleep(time.Second) // it is tried again
		if n := said.n.Load(); n != 1 {
			t.Errorf("the log says so %d times", n)
		}
	}
}

// newRedisOf is another daemon's cache in the Cluster, once that is used.
func newRedisOf(t *testing.T, cluster *servers.RedisCluster) *cache.Redis {
	t.Helper()
	return runRedis(t, cache.RedisConfig{Address: cache.Address{Servers: cluster.Addrs(), Cluster: true}, Keys: keys})
}

// TestAClusterIsFullWhereOneServerIs, and the log says so once.
func TestAClusterIsFullWhereOneServerIs(t *testing.T) {
	t.Parallel()
	long(t)
	cluster, err := servers.StartRedisCluster()
	must(t, err)
	t.Cleanup(func() { must(t, cluster.Stop()) })
	full := lines{with: []byte("the cache takes nothing more")}
	r := runRedis(t, cache.RedisConfig{
		Address: cache.Address{Servers: cluster.Addrs(), Cluster: true}, Keys: keys, Logger: slog.New(slog.NewTextHandler(&full, nil)),
	})
	for _, one := range cluster.Nodes() {
		_, err := one.Exec(t.Context(), "CONFIG", "SET", "maxmemory", "1")
		must(t, err)
		eventually(t, "that is found out", func() bool { _ = found(r, newKey()); return r.Err() != nil })
		for until := time.Now().Add(1500 * time.Millisecond); time.Now().Before(until); {
			put(t, r, newKey(), "v", time.Hour)
			if r.Err() == nil {
				t.Fatal("it is forgotten")
			}
		}
		_, err = one.Exec(t.Context(), "CONFIG", "SET", "maxmemory", "0")
		must(t, err)
		eventually(t, "it has room again", func() bool { return r.Err() == nil })
	}
	if n := full.n.Load(); n != 3 {
		t.Errorf("the log says it %d times", n)
	}
}

// TestConnectionsAreMadeBeforeTheCacheIsUsed, to each server: the first logins don't wait
// for that.
func TestConnectionsAreMadeBeforeTheCacheIsUsed(t *testing.T) {
	t.Parallel()
	cluster, err := servers.StartRedisCluster()
	must(t, err)
	t.Cleanup(func() { must(t, cluster.Stop()) })
	single := startServer(t)
	for _, all := range [][]*servers.Redis{{single}, cluster.Nodes()} {
		address := cache.Address{Servers: []string{all[0].Addr()}, Cluster: len(all) > 1}
		runRedis(t, cache.RedisConfig{Address: address, Keys: keys})
		for i, server := range all {
			clients, err := server.Exec(t.Context(), "CLIENT", "LIST", "TYPE", "normal")
			must(t, err)
			if n := strings.Count(clients.(string), " name=tokend "); n < 4 { // it has said who it is
				t.Errorf("of %d servers, the one with number %d has %d connections that can be used at once", len(all), i, n)
			}
		}
	}
}

// TestAUserWithoutARightIsToldOf, and the cache is not used.
func TestAUserWithoutARightIsToldOf(t *testing.T) {
	secret := rand.Text()
	for _, right := range []string{"get", "set", "evalsha"} {
		server := startServer(t, fmt.Sprintf(rules, secret)+" -"+right)
		address := cache.Address{Servers: []string{server.Addr()}, User: "tokend", Password: password(secret)}
		r := startRedis(t, cache.RedisConfig{Address: address, Keys: keys})
		eventually(t, "it says why", func() bool { return strings.Contains(r.Err().Error(), "the user lacks rights at Redis") })
		if r.Used() {
			t.Errorf("without %s: it is used", right)
		}
	}
}
