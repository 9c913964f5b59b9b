package cache_test

import (
	"errors"
	"os"
	"strings"
	"testing"
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
			one := runRedis(t, cache.RedisConfig{Address: address, Keys: keys})
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
