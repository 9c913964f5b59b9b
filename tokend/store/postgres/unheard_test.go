package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"tokend/tokend/e2e/servers"
	"tokend/tokend/store/postgres"
	"tokend/tokend/token"
)

// openHearing opens a database through a pooler, hears of its changes, and has a token there, and
// another database that the pooler can be turned to.
func openHearing(t *testing.T) (s *postgres.Store, r token.Record, pooler *servers.PgBouncer, database, other string) {
	t.Helper()
	database, other = newName(t, "current"), newName(t, "current")
	pooler = newPooler(t, server)
	s = openPooled(t, pooler, server, database)
	told(t, s)
	await(t, "the first answer", s.Hears)
	return s, mint(t, s), pooler, database, other
}

// TestNothingIsAskedElsewhereWhereNobodyListens: whoever did has been ended, as the pooler was
// turned, and may not come back, as there is no connection left for it.
func TestNothingIsAskedElsewhereWhereNobodyListens(t *testing.T) {
	t.Parallel()
	for what, end := range map[string]string{
		"and comes back": `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '%[1]s'`,
		"and is kept out": `ALTER DATABASE %[1]s ALLOW_CONNECTIONS false; SELECT pg_terminate_backend(l.pid, 1000) FROM pg_locks AS l
			JOIN pg_stat_activity AS a ON a.pid = l.pid WHERE a.datname = '%[1]s' AND a.state = 'idle' AND l.locktype = 'advisory'`,
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			for range 3 {
				s, r, pooler, database, other := openHearing(t)
				check(lookUp(s, r))
				await(t, "connections past the pooler", func() bool { return s.PastIdle() == 3 })
				run(t.Context(), server.URL("postgres"), fmt.Sprintf(end, database))
				check(pooler.Lead(database, server, other))
				for begun := time.Now(); time.Since(begun) < 2*time.Second; time.Sleep(time.Millisecond) {
					if err := lookUp(s, r); errors.Is(err, token.ErrNotFound) {
						t.Fatalf("it is asked elsewhere, %s after it was turned", time.Since(begun))
					}
				}
			}
		})
	}
}

// TestWhatIsSilentPastThePoolerCostsNoLogin, though the session that held the mark has ended.
func TestWhatIsSilentPastThePoolerCostsNoLogin(t *testing.T) {
	t.Parallel()
	long(t)
	database, proxy := newName(t, "current"), newProxy(t)
	s, err := postgres.Open(t.Context(), postgres.Config{URL: newPooler(t, server).URL(database), Direct: urlBy(database, proxy)})
	check(err)
	t.Cleanup(func() { check(s.Close()) })
	told(t, s)
	await(t, "the first answer", s.Hears)
	r := mint(t, s)
	proxy.Hang()
	run(t.Context(), server.URL("postgres"), `SELECT pg_terminate_backend(l.pid, 1000)
		FROM pg_locks AS l JOIN pg_database AS d ON d.oid = l.database WHERE d.datname = '`+database+`' AND l.locktype = 'advisory'`)
	waited := 0
	for begun := time.Now(); time.Since(begun) < 8*time.Second; time.Sleep(10 * time.Millisecond) {
		asked := time.Now()
		check(lookUp(s, r))
		if time.Since(asked) > 100*time.Millisecond {
			waited++
		}
		if s.Proved(asked) {
			t.Fatal("nobody can know where it was asked")
		}
	}
	if waited > 10 { // one each second and a half, for 6 seconds
		t.Errorf("%d look-ups waited", waited)
	}
	proxy.Heal()
	await(t, "the way past it", func() bool {
		asked := time.Now()
		return lookUp(s, r) == nil && s.Proved(asked)
	})
}

// TestWhoListensMayEndAtAnyTime: those who look something up in that moment find out that it is no
// other database.
func TestWhoListensMayEndAtAnyTime(t *testing.T) {
	t.Parallel()
	database := newName(t, "current")
	var log lines
	s, err := postgres.Open(t.Context(), postgres.Config{
		URL: newPooler(t, server).URL(database), Direct: server.URL(database), Logger: slog.New(slog.NewTextHandler(&log, nil)),
	})
	check(err)
	t.Cleanup(func() { check(s.Close()) })
	told(t, s)
	r := mint(t, s)
	var logins sync.WaitGroup
	for begun := time.Now(); time.Since(begun) < 3*time.Second; {
		for range 4 {
			logins.Go(func() { check(lookUp(s, r)) })
		}
		run(t.Context(), server.URL("postgres"), `SELECT pg_terminate_backend(l.pid, 1000)
			FROM pg_locks AS l JOIN pg_database AS d ON d.oid = l.database WHERE d.datname = '`+database+`' AND l.locktype = 'advisory'`)
		logins.Wait()
	}
	if log.count("nothing is asked or changed through the pooler") > 0 {
		t.Error("it is taken for another database")
	}
	await(t, "an answer that is for sure", func() bool {
		asked := time.Now()
		return lookUp(s, r) == nil && s.Proved(asked)
	})
}

// TestALookUpThatOutlivesItsLockIsNotElsewhere: nobody listens, and what held the lock for it is
// ended before the pooler has passed it on.
func TestALookUpThatOutlivesItsLockIsNotElsewhere(t *testing.T) {
	t.Parallel()
	s, proxy, database := openProxied(t)
	r := mint(t, s)
	check(lookUp(s, r))
	proxy.Delay(func(fromClient bool, _ []byte) time.Duration {
		if fromClient {
			run(context.Background(), server.URL("postgres"), `SELECT pg_terminate_backend(pid, 1000) FROM pg_stat_activity
				WHERE datname = '`+database+`' AND state = 'idle in transaction' AND query LIKE '%pg_advisory_xact_lock%'`)
		}
		return 50 * time.Millisecond
	})
	asked := time.Now()
	if err := lookUp(s, r); err != nil || s.Proved(asked) {
		t.Errorf("%v, for sure %t", err, s.Proved(asked))
	}
}

// delay has each answer by the proxy take so long.
func delay(proxy *servers.Proxy, by time.Duration) {
	proxy.Delay(func(fromClient bool, _ []byte) time.Duration {
		if fromClient {
			return 0
		}
		return by
	})
}

// TestAFloodIsNotAskedElsewhere, nor is a change in the midst of it made there: that many wait for
// an answer past the pooler is no silence there. Each answer takes its time, as over a network.
func TestAFloodIsNotAskedElsewhere(t *testing.T) {
	t.Parallel()
	long(t)
	database, other := newName(t, "current"), newName(t, "current")
	pooler, past := newPooler(t, server), newProxy(t)
	way, err := servers.StartProxy("unix", pooler.Socket())
	check(err)
	t.Cleanup(func() { check(way.Close()) })
	delay(way, 10*time.Millisecond)
	delay(past, 10*time.Millisecond)
	s, err := postgres.Open(t.Context(), postgres.Config{URL: urlBy(database, way), Direct: urlBy(database, past), Connections: 10})
	check(err)
	t.Cleanup(func() { check(s.Close()) })
	told(t, s)
	await(t, "the first answer", s.Hears)
	r := mint(t, s)
	for range 3 {
		check(pooler.Lead(database, server, other))
		var asked sync.WaitGroup
		for range 200 {
			asked.Go(func() {
				if err := lookUp(s, r); !errors.Is(err, token.ErrNotFound) {
					return
				}
				t.Error("it is asked elsewhere")
			})
		}
		time.Sleep(100 * time.Millisecond)
		for range 5 {
			asked.Go(func() {
				if s.Mint(t.Context(), newRecord(), token.Quota{}, token.Event{At: created}) == nil {
					t.Error("a token is made elsewhere")
				}
			})
		}
		asked.Wait()
		check(pooler.Lead(database, server, database))
		await(t, "the right one", func() bool { return lookUp(s, r) == nil && list(s, r) == nil })
	}
}

// TestASlowPoolerAnswersInTimeWhereNothingDoesPastIt: what it has said by then is enough.
func TestASlowPoolerAnswersInTimeWhereNothingDoesPastIt(t *testing.T) {
	t.Parallel()
	database, pooler, past := newName(t, "current"), newPooler(t, server), newProxy(t)
	way, err := servers.StartProxy("unix", pooler.Socket())
	check(err)
	t.Cleanup(func() { check(way.Close()) })
	s, err := postgres.Open(t.Context(), postgres.Config{URL: urlBy(database, way), Direct: urlBy(database, past)})
	check(err)
	t.Cleanup(func() { check(s.Close()) })
	told(t, s)
	await(t, "the first answer", s.Hears)
	r := mint(t, s)
	for range 10 { // and it is known what the statement is like
		check(lookUp(s, r))
	}
	delay(way, 300*time.Millisecond)
	past.Hang()
	run(t.Context(), server.URL("postgres"), `SELECT pg_terminate_backend(l.pid, 1000)
		FROM pg_locks AS l JOIN pg_database AS d ON d.oid = l.database WHERE d.datname = '`+database+`' AND l.locktype = 'advisory'`)
	for begun := time.Now(); time.Since(begun) < 4*time.Second; { // as long as the mark is there
		check(lookUp(s, r))
	}
}

// TestWhereTheServerIsFullNothingIsDoneElsewhere: there is no connection to find out by, but
// whoever listens still hears.
func TestWhereTheServerIsFullNothingIsDoneElsewhere(t *testing.T) {
	t.Parallel()
	for what, do := range map[string]func(*testing.T, *postgres.Store, token.Record) error{
		"a change": func(t *testing.T, s *postgres.Store, _ token.Record) error {
			return s.Mint(t.Context(), newRecord(), token.Quota{}, token.Event{At: created})
		},
		"a look-up": func(_ *testing.T, s *postgres.Store, r token.Record) error { return lookUp(s, r) },
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			s, r, pooler, database, other := openHearing(t)
			run(t.Context(), server.URL("postgres"), `ALTER DATABASE `+database+` ALLOW_CONNECTIONS false`)
			run(t.Context(), server.URL("postgres"), fmt.Sprintf(`SELECT pg_terminate_backend(pid, 1000) FROM pg_stat_activity
				WHERE datname = '%s' AND pid NOT IN (SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND objid = %d)`, database, uint32(s.Mark())))
			check(pooler.Lead(database, server, other))
			if err := do(t, s, r); !errors.Is(err, postgres.ErrElsewhere) && !errors.Is(err, postgres.ErrUnproved) && !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("it is done elsewhere: %v", err)
			}
			if s.Elsewhere() { // for others it may be the right one again by now
				t.Error("nobody else may ask there any more")
			}
			run(t.Context(), server.URL("postgres"), `ALTER DATABASE `+database+` ALLOW_CONNECTIONS true`)
			check(pooler.Lead(database, server, database))
			await(t, "the right one", func() bool { return lookUp(s, r) == nil })
		})
	}
}
