package cache_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"tokend/cache"
	"tokend/tokend/e2e/servers"
)

var keys = newKeys()

func newKeys() (k cache.Keys) {
	random := func() (key cache.Key) {
		_, _ = rand.Read(key[:])
		return key
	}
	return cache.Keys{Name: random(), Seals: []cache.Seal{{Number: 1, Key: random()}}}
}

// redis is one server for most tests.
var redis *servers.Redis

func TestMain(m *testing.M) {
	var err error
	if redis, err = servers.StartRedis(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	if err := redis.Stop(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// newRedis returns a cache as a daemon has it, that runs.
func newRedis(t *testing.T, server *servers.Redis) *cache.Redis {
	t.Helper()
	return runRedis(t, cache.RedisConfig{Address: cache.Address{Servers: []string{server.Addr()}}, Keys: keys})
}

func runRedis(t *testing.T, cfg cache.RedisConfig) *cache.Redis {
	t.Helper()
	r := startRedis(t, cfg)
	defer func() {
		if !r.Used() {
			t.Log(r.Err())
		}
	}()
	eventually(t, "it is used", r.Used)
	return r
}

// startRedis does not wait until it is used.
func startRedis(t *testing.T, cfg cache.RedisConfig) *cache.Redis {
	t.Helper()
	r, err := cache.NewRedis(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { r.Run(ctx) })
	t.Cleanup(func() {
		cancel()
		running.Wait()
		r.Close()
	})
	return r
}

// eventually waits for what happens soon.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for begun := time.Now(); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Since(begun) > 20*time.Second {
			t.Fatalf("not within 20 s: %s", what)
		}
	}
}

// found is what the cache has under the key, for people.
func found(r *cache.Redis, key string) string {
	e, err := r.Get(context.Background(), key)
	switch {
	case errors.Is(err, cache.ErrTampered):
		return "(tampered)"
	case err != nil:
		return "(error)"
	case e.Buried:
		return "(buried)"
	case e.Value == nil:
		return "(miss)"
	}
	return string(e.Value)
}

// expect asks again where a busy machine gave the question up.
func expect(t *testing.T, r *cache.Redis, key, want string) {
	t.Helper()
	got := found(r, key)
	for i := 0; i < 3 && got == "(error)" && want != got; i++ {
		eventually(t, "it is used", r.Used)
		got = found(r, key)
	}
	if got != want {
		t.Errorf("%s: got %s, want %s", key, got, want)
	}
}

// put fills the cache after a look at it, again where a busy machine gave one of them up.
func put(t *testing.T, r *cache.Redis, key, value string, life time.Duration) {
	t.Helper()
	for range 3 {
		fillSeen(t, r, seen(r, key), key, value, life)
		r.Wait()
		if got := found(r, key); got != "(miss)" && got != "(error)" {
			return
		}
	}
}

// seen is what a fill may take the place of.
func seen(r *cache.Redis, key string) []byte {
	e, _ := r.Get(context.Background(), key)
	return e.Seen
}

func fillSeen(t *testing.T, r *cache.Redis, seen []byte, key, value string, life time.Duration) {
	t.Helper()
	if err := r.Fill(t.Context(), key, seen, []byte(value), life); err != nil {
		t.Error(err)
	}
}

func inter(t *testing.T, r *cache.Redis, life time.Duration, keys ...string) {
	t.Helper()
	if err := r.Bury(t.Context(), life, keys...); err != nil {
		t.Error(err)
	}
}

// newKey is one that no other test uses.
func newKey() string { return rand.Text() }

// entries returns what the server has, by name.
func entries(t *testing.T, server *servers.Redis) map[string]string {
	t.Helper()
	names, err := server.Exec(t.Context(), "KEYS", "*")
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for _, name := range names.([]any) {
		if name == "tokend:probe" { // what the server was tried with, which ends soon
			continue
		}
		value, err := server.Exec(t.Context(), "GET", name)
		if errors.Is(err, goredis.Nil) { // it has ended meanwhile
			continue
		}
		must(t, err)
		all[name.(string)] = value.(string)
	}
	return all
}

func TestWhoReadsRedisLearnsNothing(t *testing.T) {
	server := startServer(t)
	r := newRedis(t, server)
	put(t, r, "the key", "the value", time.Hour)
	put(t, r, "the key 2", "the value", time.Hour)
	seen := map[string]bool{}
	for name, value := range entries(t, server) {
		if !strings.HasPrefix(name, "tokend:") || strings.Contains(name+value, "the") || seen[value] {
			t.Errorf("%q: %q", name, value)
		}
		seen[value] = true
	}
	if len(seen) != 2 {
		t.Errorf("%d entries", len(seen))
	}
}

func TestKeysAreNotPrinted(t *testing.T) {
	text, err := json.Marshal(keys)
	if err != nil {
		t.Fatal(err)
	}
	all := string(text)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d"} {
		all += fmt.Sprintf(verb, any(keys)) + fmt.Sprintf(verb, any(keys.Name))
	}
	for _, verb := range []string{"%x", "%d", "%v"} {
		if secret := strings.Trim(fmt.Sprintf(verb, keys.Name[:4]), "[]"); strings.Contains(all, secret) {
			t.Errorf("%s is in %s", secret, all)
		}
	}
}

// startProxy is a way to the server that can be cut off.
func startProxy(t *testing.T, target string) *servers.Proxy {
	t.Helper()
	proxy, err := servers.StartProxy("tcp", target)
	must(t, err)
	t.Cleanup(func() { must(t, proxy.Close()) })
	return proxy
}

func startServer(t *testing.T, settings ...string) *servers.Redis {
	t.Helper()
	server, err := servers.StartRedis(settings...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Stop(); err != nil {
			t.Error(err)
		}
	})
	return server
}

// TestWhoWritesToRedisIsNotBelieved: nothing but what was sealed for a name opens under it.
func TestWhoWritesToRedisIsNotBelieved(t *testing.T) {
	server := startServer(t)
	r := newRedis(t, server)
	values := map[string]string{"a": "value of a", "b": "value of b"}
	named := map[string]string{}
	sealed := map[string]string{}
	for key, value := range values {
		put(t, r, key, value, time.Hour)
		for name, text := range entries(t, server) {
			if named[name] == "" {
				named[name], sealed[key] = key, text
			}
		}
	}
	name := map[string]string{}
	for n, key := range named {
		name[key] = n
	}
	foreign := runRedis(t, cache.RedisConfig{Address: cache.Address{Servers: []string{server.Addr()}}, Keys: cache.Keys{Name: keys.Name, Seals: newKeys().Seals}})
	put(t, foreign, "c", "v", time.Hour)
	expect(t, r, "c", "(tampered)")

	set := func(args ...any) {
		t.Helper()
		if _, err := server.Exec(t.Context(), args...); err != nil {
			t.Fatal(err)
		}
	}
	right := sealed["a"]
	for i := range len(right) {
		flipped := []byte(right)
		flipped[i] ^= 1
		set("SET", name["a"], flipped)
		want := "(tampered)"
		if i > 0 && i < 5 { // a key that it doesn't know
			want = "(miss)"
		}
		expect(t, r, "a", want)
	}
	for _, text := range []string{"", "x", right[:4], right[:5], right[:16], right[:len(right)-1], right + "x", sealed["b"], "buried ", strings.Repeat("\x01", 100_000)} {
		set("SET", name["a"], text)
		if got := found(r, "a"); got != "(tampered)" && got != "(miss)" {
			t.Errorf("%.20q: %s", text, got)
		}
	}
	set("SET", name["a"], sealed["b"]) // swapped
	set("SET", name["b"], sealed["a"])
	expect(t, r, "a", "(tampered)")
	expect(t, r, "b", "(tampered)")
	for _, name := range []string{name["a"], "tokend:probe"} {
		set("DEL", name)
		set("RPUSH", name, "a list")
	}
	time.Sleep(1100 * time.Millisecond) // the server is looked at meanwhile
	expect(t, r, "a", "(tampered)")
	for key, value := range values { // what is wrong is replaced
		put(t, r, key, value, time.Hour)
		expect(t, r, key, value)
	}
	if !r.Used() {
		t.Error("it is not used any more")
	}
}

func TestKeysAreRotated(t *testing.T) {
	now := time.Now()
	clock := func() time.Time { return now }
	address := cache.Address{Servers: []string{redis.Addr()}}
	next := newKeys().Seals[0]
	next.Number = 2
	old := keys.Seals[0]
	ahead := runRedis(t, cache.RedisConfig{Address: address, Keys: keys, Now: clock})
	behind := runRedis(t, cache.RedisConfig{Address: address, Keys: keys, Now: clock})
	before, after := newKey(), newKey()
	put(t, ahead, before, "v", time.Hour)
	old.Until = now.Add(time.Minute)
	ahead.SetKeys(cache.Keys{Name: keys.Name, Seals: []cache.Seal{next, old}})
	expect(t, ahead, before, "v")
	put(t, ahead, after, "w", time.Hour)
	expect(t, ahead, after, "w")
	expect(t, behind, after, "(miss)") // it has not heard of it yet
	inter(t, behind, time.Hour, after)
	expect(t, ahead, after, "(buried)") // but its tombstones are found
	now = now.Add(2 * time.Minute)
	expect(t, ahead, before, "(miss)")
	put(t, ahead, before, "v2", time.Hour)
	ahead.SetKeys(cache.Keys{Name: keys.Name, Seals: []cache.Seal{next}})
	expect(t, ahead, before, "v2")
}

func TestWhatIsSealedTwiceDiffers(t *testing.T) {
	server := startServer(t)
	r := newRedis(t, server)
	var last map[string]string
	for range 2 {
		put(t, r, "k", "v", time.Hour)
		now := entries(t, server)
		for name, value := range now {
			if bytes.Equal([]byte(last[name]), []byte(value)) {
				t.Errorf("%s: the same bytes again", name)
			}
		}
		last = now
	}
}

// long leaves out, where tests are to be quick, what waits for ten seconds and more: make test has all.
func long(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("it takes long")
	}
}
