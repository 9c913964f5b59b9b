package postgres_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"tokend/tokend/e2e/servers"
	"tokend/tokend/store/postgres"
	"tokend/tokend/token"
)

// TestSilentServerKeepsNobodyFromTheNext: it takes connections and says nothing.
func TestSilentServerKeepsNobodyFromTheNext(t *testing.T) {
	t.Parallel()
	database, silent, other := newName(t, "current"), newProxy(t), newProxy(t)
	silent.Hang()
	s := open(t, urlBy(database, silent, other))
	heard := told(t, s)
	await(t, "a look-up", func() bool { return s.Ping(t.Context()) == nil })
	await(t, "the first answer", s.Hears)
	r := mint(t, open(t, server.URL(database)))
	revoke(t, open(t, server.URL(database)), token.Selection{ID: r.ID})
	wantTold(t, "past the silent server", heard, r.Digest)
}

// TestASilentServerCostsNoLogin once it is known: new connections to the next are made in a look-up's time.
func TestASilentServerCostsNoLogin(t *testing.T) {
	t.Parallel()
	for what, c := range map[string]struct {
		silent, connections int
		sslmode             string
	}{
		"one":                           {1, 8, "disable"},
		"one that is tried twice":       {1, 8, "prefer"},
		"one, with few connections":     {1, 2, "disable"},
		"two, each of them tried twice": {2, 8, "prefer"},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			database := newName(t, "current")
			var hosts []*servers.Proxy
			for range c.silent {
				hosts = append(hosts, newProxy(t))
				hosts[len(hosts)-1].Hang()
			}
			other := newProxy(t)
			url := strings.Replace(urlBy(database, append(hosts, other)...), "sslmode=disable", "sslmode="+c.sslmode, 1)
			s, err := postgres.Open(t.Context(), postgres.Config{URL: url, Connections: c.connections})
			check(err)
			t.Cleanup(func() { check(s.Close()) })
			r := mint(t, s)
			await(t, "a look-up", func() bool { return lookUp(s, r) == nil })
			for _, after := range []time.Duration{0, 3 * time.Second, 11 * time.Second} {
				time.Sleep(after)
				run(t.Context(), server.URL(database), `SELECT pg_terminate_backend(pid, 1000) FROM pg_stat_activity WHERE datname = '`+database+`' AND pid <> pg_backend_pid()`)
				delay(other, 20*time.Millisecond) // so that each needs a connection
				var all sync.WaitGroup
				for i := range 4 {
					all.Go(func() {
						if err := lookUp(s, r); err != nil {
							t.Errorf("look-up %d after %s: %v", i, after, err)
						}
					})
				}
				all.Wait()
				other.Delay(nil)
			}
		})
	}
}

// TestAServerThatWasSilentIsUsedAtOnce when it answers again, though it is far, and there is no other one.
func TestAServerThatWasSilentIsUsedAtOnce(t *testing.T) {
	t.Parallel()
	database, primary, other := newName(t, "current"), newProxy(t), newProxy(t)
	other.Cut()
	s, err := postgres.Open(t.Context(), postgres.Config{URL: urlBy(database, primary, other), Connections: 8})
	check(err)
	t.Cleanup(func() { check(s.Close()) })
	r := mint(t, s)
	delay(primary, 150*time.Millisecond)
	primary.Hang()
	for begun := time.Now(); time.Since(begun) < 4*time.Second; {
		_ = lookUp(s, r) // which wants new connections
	}
	primary.Lose() // none of these answers ever again
	primary.Heal()
	begun := time.Now()
	await(t, "a look-up", func() bool { return lookUp(s, r) == nil })
	if took := time.Since(begun); took > 5*time.Second {
		t.Errorf("it takes %s", took)
	}
}

// TestAServerThatWasSilentLongAgoIsUsed as soon as it is needed: the other one takes connections, and hangs up.
func TestAServerThatWasSilentLongAgoIsUsed(t *testing.T) {
	t.Parallel()
	database, first, other := newName(t, "current"), newProxy(t), newProxy(t)
	first.Hang()
	s, err := postgres.Open(t.Context(), postgres.Config{URL: urlBy(database, first, other), Connections: 8})
	check(err)
	t.Cleanup(func() { check(s.Close()) })
	r := mint(t, s)
	await(t, "a look-up", func() bool { return lookUp(s, r) == nil })
	first.Heal()
	time.Sleep(time.Second)
	other.Cut()
	for i := range 5 {
		if err := lookUp(s, r); err != nil {
			t.Errorf("look-up %d: %v", i, err)
		}
	}
	check(revokeNow(t, s, r))
}

// TestWhyTheOtherServersTakeNoChangeIsSaid where one is silent: that one alone could say nothing.
func TestWhyTheOtherServersTakeNoChangeIsSaid(t *testing.T) {
	t.Parallel()
	for what, c := range map[string]struct {
		harm func(standby *servers.PostgreSQL)
		want string
		more string
	}{
		"a standby":                       {func(*servers.PostgreSQL) {}, "those that answer are standbys, which lag behind", ""},
		"a standby that is not asked for": {func(*servers.PostgreSQL) {}, "those that answer are standbys, which lag behind", "&target_session_attrs=read-write"},
		"one that lets nobody": {func(standby *servers.PostgreSQL) {
			check(standby.Promote())
			run(t.Context(), standby.URL("template1"), `ALTER DATABASE postgres ALLOW_CONNECTIONS false`)
		}, "the server lets nobody connect to this database now", ""},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			primary, standby := pair(t)
			first := newProxyTo(t, primary)
			s, err := postgres.Open(t.Context(), postgres.Config{URL: urlBy("postgres", first, newProxyTo(t, standby)) + c.more, Connections: 8})
			check(err)
			t.Cleanup(func() { check(s.Close()) })
			r := mint(t, s)
			awaitCopy(t, standby, r)
			c.harm(standby)
			first.Hang()
			for i := range 2 {
				begun := time.Now()
				err := revokeNow(t, s, r)
				if err == nil || !strings.Contains(err.Error(), c.want) || errors.Is(err, token.ErrUnsure) || errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("change %d: %v", i, err)
				}
				if took := time.Since(begun); took > 8*time.Second {
					t.Errorf("change %d takes %s", i, took)
				}
			}
		})
	}
}
