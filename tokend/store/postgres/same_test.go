package postgres_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tokend/tokend/e2e/servers"
	"tokend/tokend/store/postgres"
	"tokend/tokend/token"
)

// TestURLsMustLeadToTheSameDatabase: on another nobody would be told of changes.
func TestURLsMustLeadToTheSameDatabase(t *testing.T) {
	t.Parallel()
	primary, err := servers.StartPostgreSQL("fsync=off")
	check(err)
	t.Cleanup(func() { check(primary.Stop()) })
	check(open(t, primary.URL("postgres")).Close())
	copied, err := primary.Standby() // with the same numbers of everything
	check(err)
	t.Cleanup(func() { check(copied.Stop()) })
	check(copied.Promote())
	pooler := newPooler(t, primary)
	run(t.Context(), primary.URL("postgres"), `CREATE DATABASE other`)
	for _, direct := range []string{primary.URL("other"), copied.URL("postgres")} {
		_, err := postgres.Open(t.Context(), postgres.Config{URL: pooler.URL("postgres"), Direct: direct})
		if err == nil || !strings.Contains(err.Error(), "let both name the same database on the same server") {
			t.Errorf("%s: %v", direct, err)
		}
	}
	conn := connect(t.Context(), primary.URL("other"))
	var tables int
	check(conn.QueryRow(t.Context(), `SELECT count(*) FROM pg_tables WHERE schemaname = 'public'`).Scan(&tables))
	check(conn.Close(t.Context()))
	if tables > 0 {
		t.Errorf("%d tables were made in the wrong database", tables)
	}
	_, err = postgres.Open(t.Context(), postgres.Config{URL: pooler.URL("postgres"), Direct: "postgres://tokend@127.0.0.1:1/postgres"})
	if err == nil || !strings.Contains(err.Error(), `past the pooler, by [store] direct_url, to database "postgres" on 127.0.0.1:1:`) {
		t.Errorf("nobody is there: %v", err)
	}
	check(openPooled(t, pooler, primary, "postgres").Ping(t.Context()))
}

// TestNothingIsAskedOfAnotherDatabase that a pooler has come to lead to, from the first look-up on;
// nor is anything changed there.
func TestNothingIsAskedOfAnotherDatabase(t *testing.T) {
	t.Parallel()
	database, other := newName(t, "current"), newName(t, "current")
	pooler := newPooler(t, server)
	s := openPooled(t, pooler, server, database)
	told(t, s)
	r := mint(t, s)
	await(t, "the first answer", s.Hears)
	const words = "[store] url and direct_url lead to different databases"
	another := connect(t.Context(), server.URL(other)) // a look-up by another daemon that is under way there
	defer func() { check(another.Close(context.Background())) }()
	_, err := another.Exec(t.Context(), `SELECT pg_advisory_lock_shared($1)`, s.Mark())
	check(err)
	begun, stop := time.Now(), make(chan struct{})
	var logins sync.WaitGroup
	for range 3 {
		logins.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if _, err := s.Lookup(t.Context(), r.Digest); errors.Is(err, token.ErrNotFound) {
					t.Error("it is asked elsewhere")
					return
				}
			}
		})
	}
	check(pooler.Lead(database, server, other))
	await(t, "that to be known", func() bool {
		err := s.Ping(t.Context())
		return err != nil && strings.Contains(err.Error(), words)
	})
	close(stop)
	logins.Wait()
	if !s.Proved(begun) {
		t.Error("something was believed that may be of another database")
	}
	refused := func(when string) {
		t.Helper()
		_, err := s.Lookup(t.Context(), r.Digest)
		wantSentence(t, when+", a look-up", err, words)
		wantSentence(t, when+", a change", s.Mint(t.Context(), newRecord(), token.Quota{}, token.Event{At: created}), words)
	}
	refused("once it is known")
	check(pooler.Kill())
	time.Sleep(time.Second) // nobody can find out now
	check(pooler.Serve())
	refused("after it was away")
	for range 5 { // whoever is finding out is disturbed
		run(t.Context(), server.URL(database), `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
			WHERE datname = '`+database+`' AND pid <> pg_backend_pid()`)
		refused("while connections end")
		time.Sleep(100 * time.Millisecond)
	}
	check(pooler.Lead(database, server, database))
	await(t, "the right one", func() bool { _, err := s.Lookup(t.Context(), r.Digest); return err == nil })
}

// TestAConnectionThatEndsIsNoOtherDatabase: with it, what is locked to find that out is locked
// no more.
func TestAConnectionThatEndsIsNoOtherDatabase(t *testing.T) {
	t.Parallel()
	database, pooler := newName(t, "current"), newPooler(t, server)
	proxy, err := servers.StartProxy("unix", pooler.Socket())
	check(err)
	t.Cleanup(func() { check(proxy.Close()) })
	proxy.Hang()
	opened := make(chan error, 1)
	go func() {
		s, err := postgres.Open(t.Context(), postgres.Config{URL: urlBy(database, proxy), Direct: server.URL(database)})
		if err == nil {
			err = s.Close()
		}
		opened <- err
	}()
	admin := connect(t.Context(), server.URL("postgres"))
	defer func() { check(admin.Close(context.Background())) }()
	await(t, "the lock that is looked for", func() bool {
		tag, err := admin.Exec(t.Context(), `SELECT pg_terminate_backend(a.pid, 1000) FROM pg_stat_activity AS a JOIN pg_locks AS l ON l.pid = a.pid
			WHERE a.datname = '`+database+`' AND a.state = 'idle in transaction' AND l.locktype = 'advisory'`)
		check(err)
		return tag.RowsAffected() == 1
	})
	proxy.Heal()
	if err := <-opened; errors.Is(err, postgres.ErrElsewhere) {
		t.Errorf("it is taken for that: %v", err)
	}
}

// openProxied opens a database through a pooler, and a proxy before that.
func openProxied(t *testing.T) (s *postgres.Store, toPooler *servers.Proxy, database string) {
	t.Helper()
	database = newName(t, "current")
	toPooler, err := servers.StartProxy("unix", newPooler(t, server).Socket())
	check(err)
	t.Cleanup(func() { check(toPooler.Close()) })
	s, err = postgres.Open(t.Context(), postgres.Config{URL: urlBy(database, toPooler), Direct: server.URL(database)})
	check(err)
	t.Cleanup(func() { check(s.Close()) })
	return s, toPooler, database
}

// TestAPoolerThatIsSlowIsWaitedFor, as the server itself is.
func TestAPoolerThatIsSlowIsWaitedFor(t *testing.T) {
	t.Parallel()
	s, proxy, _ := openProxied(t)
	mint(t, s) // makes a connection
	for late := range int64(6) {
		var answers atomic.Int64
		proxy.Delay(func(fromClient bool, _ []byte) time.Duration {
			if !fromClient && answers.Add(1) == late+1 {
				return 700 * time.Millisecond
			}
			return 0
		})
		mint(t, s)
	}
}

// TestWhatHangsPastThePoolerKeepsNoChangeWaiting: there may be one connection for changes.
func TestWhatHangsPastThePoolerKeepsNoChangeWaiting(t *testing.T) {
	t.Parallel()
	database, proxy := newName(t, "current"), newProxy(t)
	s, err := postgres.Open(t.Context(), postgres.Config{URL: newPooler(t, server).URL(database), Direct: urlBy(database, proxy), Connections: 2})
	check(err)
	t.Cleanup(func() { check(s.Close()) })
	told(t, s)
	await(t, "the first answer", s.Hears)
	proxy.Hang()
	used := 0
	for begun := time.Now(); time.Since(begun) < 3*time.Second; { // whoever listens holds the lock for some more
		used += int(s.ChangesInUse())
		time.Sleep(10 * time.Millisecond)
	}
	if used > 40 {
		t.Errorf("it is in use at %d looks, though nobody changes anything", used)
	}
	mint(t, s)
}

// TestNoChangeIsMadeInAnotherDatabase, though nobody has found out yet that the pooler leads there.
func TestNoChangeIsMadeInAnotherDatabase(t *testing.T) {
	t.Parallel()
	database, other := newName(t, "current"), newName(t, "current")
	pooler := newPooler(t, server)
	s := openPooled(t, pooler, server, database)
	r := mint(t, s)
	check(pooler.Lead(database, server, other))
	err := s.Mint(t.Context(), newRecord(), token.Quota{}, token.Event{At: created})
	const words = "[store] url and direct_url lead to different databases"
	wantSentence(t, "a new token", err, words)
	if n := s.ChangesInUse(); n > 0 {
		t.Errorf("%d connections are kept", n)
	}
	_, err = s.Lookup(t.Context(), r.Digest)
	wantSentence(t, "a look-up after that", err, words)
	check(pooler.Lead(database, server, database))
	told(t, s)
	await(t, "the right one", func() bool { return revokeNow(t, s, r) == nil })
}

// TestAnyPoolThatLeadsElsewhereIsNoticed, and led back: it went to another pooler while the
// first was away, and the other pool did not.
func TestAnyPoolThatLeadsElsewhereIsNoticed(t *testing.T) {
	t.Parallel()
	elsewhere := func(err error) bool {
		return err != nil && strings.Contains(err.Error(), "lead to different databases")
	}
	for what, c := range map[string]struct {
		ask     func(*postgres.Store, token.Record) error
		noticed func(error) bool // before anybody looks where the pooler leads
	}{
		"of logins":   {lookUp, elsewhere},
		"of all else": {list, func(err error) bool { return errors.Is(err, token.ErrNotFound) }},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			s, r, ways := openTwoWays(t)
			ways[0].Cut()
			await(t, "an answer from elsewhere", func() bool { return c.noticed(c.ask(s, r)) })
			ways[0].Heal()
			told(t, s)
			await(t, "the right one", func() bool { return c.ask(s, r) == nil })
			asked := time.Now()
			if err := lookUp(s, r); err != nil || !s.Proved(asked) {
				t.Errorf("the right one: %v, for sure %t", err, s.Proved(asked))
			}
		})
	}
}

// TestConnectionsThatLeadElsewhereAreGivenUp, those of whoever finds that out, too: there is another way.
func TestConnectionsThatLeadElsewhereAreGivenUp(t *testing.T) {
	t.Parallel()
	s, r, ways := openTwoWays(t)
	told(t, s)
	await(t, "the first answer", s.Hears)
	ways[0].Cut()
	await(t, "that to be known", s.Elsewhere)
	time.Sleep(2500 * time.Millisecond) // it is found out again and again
	ways[0].Heal()
	await(t, "the right one", func() bool { return lookUp(s, r) == nil && list(s, r) == nil })
}

// TestAPoolThatSaysNothingHidesNoOther that leads elsewhere.
func TestAPoolThatSaysNothingHidesNoOther(t *testing.T) {
	t.Parallel()
	s, r, ways := openTwoWays(t)
	ways[0].Cut()
	await(t, "an answer from elsewhere", func() bool { return errors.Is(list(s, r), token.ErrNotFound) })
	ways[0].Heal()
	await(t, "a login", func() bool { return lookUp(s, r) == nil })
	ways[0].Hang()
	told(t, s)
	await(t, "that to be known", func() bool {
		_, err := s.Records(t.Context(), token.Page{Limit: 1})
		return err != nil && strings.Contains(err.Error(), "[store] url and direct_url lead to different databases")
	})
	ways[0].Heal()
	await(t, "the right one", func() bool { return list(s, r) == nil })
}

// openTwoWays opens a database, with one token, through two poolers, of which the second leads
// elsewhere.
func openTwoWays(t *testing.T) (s *postgres.Store, r token.Record, ways []*servers.Proxy) {
	t.Helper()
	database, other := newName(t, "current"), newName(t, "current")
	for range 2 {
		pooler := newPooler(t, server)
		if len(ways) == 1 {
			check(pooler.Lead(database, server, other))
		}
		proxy, err := servers.StartProxy("unix", pooler.Socket())
		check(err)
		t.Cleanup(func() { check(proxy.Close()) })
		ways = append(ways, proxy)
	}
	s, err := postgres.Open(t.Context(), postgres.Config{URL: urlBy(database, ways...), Direct: server.URL(database)})
	check(err)
	t.Cleanup(func() { check(s.Close()) })
	return s, mint(t, s), ways
}

// lookUp returns nil if it is found, and token.ErrNotFound if the answer is that it isn't.
func lookUp(s *postgres.Store, r token.Record) error {
	_, err := s.Lookup(context.Background(), r.Digest)
	return err
}

// list is lookUp by the connections for all else.
func list(s *postgres.Store, _ token.Record) error {
	records, err := s.Records(context.Background(), token.Page{Limit: 1})
	if err == nil && len(records) == 0 {
		err = token.ErrNotFound
	}
	return err
}

// TestElsewhereIsOverOnceThatCanBeTold: established connections past the pooler have become silent, and
// new ones are answered.
func TestElsewhereIsOverOnceThatCanBeTold(t *testing.T) {
	t.Parallel()
	long(t)
	database, other := newName(t, "current"), newName(t, "current")
	pooler, past := newPooler(t, server), newProxy(t)
	s, err := postgres.Open(t.Context(), postgres.Config{URL: pooler.URL(database), Direct: urlBy(database, past)})
	check(err)
	t.Cleanup(func() { check(s.Close()) })
	told(t, s)
	await(t, "the first answer", s.Hears)
	r := mint(t, s)
	for range 2 {
		check(pooler.Lead(database, server, other))
		await(t, "that to be known", s.Elsewhere)
		await(t, "connections past the pooler", func() bool { return s.PastIdle() >= 2 })
		past.Lose()
		check(pooler.Lead(database, server, database))
		begun := time.Now()
		await(t, "the right one", func() bool { return lookUp(s, r) == nil })
		if took := time.Since(begun); took > 5*time.Second { // which is how long a silent connection may take to be given up
			t.Errorf("it is believed only after %s", took)
		}
		await(t, "changes", s.Hears)
	}
}
