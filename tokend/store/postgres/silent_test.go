package postgres_test

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tokend/tokend/e2e/servers"
	"tokend/tokend/store/postgres"
	"tokend/tokend/token"
)

// ways are those to the database, and what stands on them.
var ways = map[string]func(t *testing.T, database string) (postgres.Config, []*servers.Proxy){
	"to the server": func(t *testing.T, database string) (postgres.Config, []*servers.Proxy) {
		proxy := newProxy(t)
		return postgres.Config{URL: urlBy(database, proxy)}, []*servers.Proxy{proxy}
	},
	"to the pooler, and past it": func(t *testing.T, database string) (postgres.Config, []*servers.Proxy) {
		past := newProxy(t)
		toPooler, err := servers.StartProxy("unix", newPooler(t, server).Socket())
		check(err)
		t.Cleanup(func() { check(toPooler.Close()) })
		return postgres.Config{URL: urlBy(database, toPooler), Direct: urlBy(database, past)}, []*servers.Proxy{toPooler, past}
	},
}

// openBy opens a store on that way, which hears of changes.
func openBy(t *testing.T, way func(*testing.T, string) (postgres.Config, []*servers.Proxy), connections int) (*postgres.Store, []*servers.Proxy) {
	t.Helper()
	cfg, proxies := way(t, newName(t, "current"))
	cfg.Connections = connections
	s, err := postgres.Open(t.Context(), cfg)
	check(err)
	t.Cleanup(func() { check(s.Close()) })
	told(t, s)
	await(t, "the first answer", s.Hears)
	return s, proxies
}

// TestSilentConnectionsKeepNobodyFromNewOnes: what is sent by those that there are gets lost, as where a
// firewall has forgotten them, and new ones pass.
func TestSilentConnectionsKeepNobodyFromNewOnes(t *testing.T) {
	t.Parallel()
	for what, ask := range map[string]func(*postgres.Store, token.Record) error{
		"look-ups": lookUp,
		"changes": func(s *postgres.Store, _ token.Record) error {
			return s.Mint(context.Background(), newRecord(), token.Quota{}, token.Event{At: created})
		},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			database, proxy := newName(t, "current"), newProxy(t)
			s, err := postgres.Open(t.Context(), postgres.Config{URL: urlBy(database, proxy), Connections: 8})
			check(err)
			t.Cleanup(func() { check(s.Close()) })
			r := mint(t, s)
			atOnce := func() (failed int64) {
				var all sync.WaitGroup
				var errs atomic.Int64
				for range 20 {
					all.Go(func() {
						if ask(s, r) != nil {
							errs.Add(1)
						}
					})
				}
				all.Wait()
				return errs.Load()
			}
			delay(proxy, 20*time.Millisecond)
			if n := atOnce(); n > 0 { // makes all connections that there may be
				t.Fatalf("%d failed", n)
			}
			proxy.Delay(nil)
			proxy.Lose()
			begun := time.Now()
			await(t, "new connections", func() bool { return atOnce() == 0 })
			if took := time.Since(begun); took > 12*time.Second { // and the driver would wait for 15 more
				t.Errorf("they are answered after %s", took)
			}
		})
	}
}

// TestSilentConnectionsCostNoChange: one that finds out that nothing is answered by those that there are is made by
// a new one, and so are the next.
func TestSilentConnectionsCostNoChange(t *testing.T) {
	t.Parallel()
	for what, way := range ways {
		for _, connections := range []int{2, 10} {
			t.Run(fmt.Sprintf("%d %s", connections, what), func(t *testing.T) {
				t.Parallel()
				s, proxies := openBy(t, way, connections)
				delay(proxies[0], 20*time.Millisecond)
				var all sync.WaitGroup
				for range 12 { // makes all connections that there may be
					all.Go(func() { mint(t, s) })
				}
				all.Wait()
				proxies[0].Delay(nil)
				proxies[0].Lose() // the other way is another network's
				for i := range 6 {
					begun := time.Now()
					if err := s.Mint(t.Context(), newRecord(), token.Quota{}, token.Event{At: created}); err != nil {
						t.Errorf("change %d: %v", i, err)
					}
					if took := time.Since(begun); i > 0 && took > time.Second {
						t.Errorf("change %d took %s", i, took)
					}
				}
			})
		}
	}
}

// TestChangesThatWaitForEachOtherTakeNoConnectionForSilent, however long they wait.
func TestChangesThatWaitForEachOtherTakeNoConnectionForSilent(t *testing.T) {
	t.Parallel()
	proxy := newProxy(t)
	s, err := postgres.Open(t.Context(), postgres.Config{URL: urlBy(newName(t, "current"), proxy), Connections: 2}) // one for changes
	check(err)
	t.Cleanup(func() { check(s.Close()) })
	mint(t, s)
	delay(proxy, 50*time.Millisecond)
	made := s.ChangesMade()
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 2 {
				if err := s.Mint(t.Context(), newRecord(), token.Quota{}, token.Event{At: created}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	if more := s.ChangesMade() - made; more > 0 {
		t.Errorf("%d connections were given up for new ones", more)
	}
}

// TestSilentConnectionsCostNoLogin: a look-up that gets no answer by the one that it has is answered by a new one.
func TestSilentConnectionsCostNoLogin(t *testing.T) {
	t.Parallel()
	for what, way := range ways {
		for _, connections := range []int{2, 8} {
			t.Run(fmt.Sprintf("%d %s", connections, what), func(t *testing.T) {
				t.Parallel()
				s, proxies := openBy(t, way, connections)
				r := mint(t, s)
				for range 3 {
					var all sync.WaitGroup
					for i := range 30 {
						all.Go(func() {
							for range 3 {
								if err := lookUp(s, r); err != nil {
									t.Errorf("look-up %d: %v", i, err)
								}
							}
						})
						if i == 9 { // of some, the answers get lost
							all.Wait()
							for _, proxy := range proxies {
								proxy.Lose()
							}
						}
					}
					all.Wait()
					time.Sleep(3 * time.Second) // those are given up
				}
			})
		}
	}
}

// TestASpareConnectionIsANewOne, also where one was needed just before: an answer was late.
func TestASpareConnectionIsANewOne(t *testing.T) {
	t.Parallel()
	proxy := newProxy(t)
	s, err := postgres.Open(t.Context(), postgres.Config{URL: urlBy(newName(t, "current"), proxy), Connections: 8})
	check(err)
	t.Cleanup(func() { check(s.Close()) })
	r := mint(t, s)
	check(lookUp(s, r))
	proxy.Delay(func(fromClient bool, chunk []byte) time.Duration {
		if !fromClient && bytes.Contains(chunk, []byte(r.ID)) {
			return 400 * time.Millisecond
		}
		return 0
	})
	check(lookUp(s, r))
	proxy.Delay(nil)
	time.Sleep(500 * time.Millisecond)
	proxy.Lose()
	for range 3 {
		check(lookUp(s, r))
	}
}

// TestASpareConnectionThatComesTooLateIsGivenUp: it would not be new when it is needed.
func TestASpareConnectionThatComesTooLateIsGivenUp(t *testing.T) {
	t.Parallel()
	proxy := newProxy(t)
	s, err := postgres.Open(t.Context(), postgres.Config{URL: urlBy(newName(t, "current"), proxy), Connections: 8})
	check(err)
	t.Cleanup(func() { check(s.Close()) })
	r := mint(t, s)
	check(lookUp(s, r))
	proxy.Delay(func(fromClient bool, chunk []byte) time.Duration {
		switch {
		case fromClient && bytes.Contains(chunk, []byte("application_name")): // a new one
			return 900 * time.Millisecond
		case !fromClient && bytes.Contains(chunk, []byte(r.ID)):
			return 400 * time.Millisecond
		}
		return 0
	})
	check(lookUp(s, r))
	await(t, "a spare connection", func() bool { return s.SpareIdle() == 1 })
	await(t, "its end", func() bool { return s.SpareIdle() == 0 })
}
