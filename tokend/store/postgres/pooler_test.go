package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tokend/tokend/e2e/servers"
	"tokend/tokend/store/postgres"
	"tokend/tokend/store/storetest"
	"tokend/tokend/token"
)

// newPooler is one in transaction mode before the server, with fewer connections to it than
// the stores have to the pooler, and with a reset that takes a session's state away.
func newPooler(t *testing.T, server *servers.PostgreSQL) *servers.PgBouncer {
	t.Helper()
	pooler, err := servers.StartPgBouncer(server, "default_pool_size = 3", "max_client_conn = 1000",
		"server_reset_query = DISCARD ALL", "server_reset_query_always = 1", "server_login_retry = 1", "query_wait_timeout = 5")
	check(err)
	t.Cleanup(func() { check(pooler.Stop()) })
	return pooler
}

// openPooled opens the database through the pooler.
func openPooled(t *testing.T, pooler *servers.PgBouncer, server *servers.PostgreSQL, database string) *postgres.Store {
	t.Helper()
	s, err := postgres.Open(t.Context(), postgres.Config{URL: pooler.URL(database), Direct: server.URL(database), Connections: 20})
	check(err)
	t.Cleanup(func() { check(s.Close()) })
	return s
}

func TestPromisesOfEveryStoreAreKeptThroughAPooler(t *testing.T) {
	pooler := newPooler(t, server)
	storetest.Run(t, func(t *testing.T) storetest.Store {
		return openPooled(t, pooler, server, newName(t, "current"))
	})
}

func TestTablesAreMadePastThePooler(t *testing.T) {
	s := openPooled(t, newPooler(t, server), server, newName(t, "template0"))
	mint(t, s)
}

func TestEveryDaemonHearsOfEveryChangeThroughAPooler(t *testing.T) {
	pooler, database := newPooler(t, server), newName(t, "current")
	one, other := openPooled(t, pooler, server, database), openPooled(t, pooler, server, database)
	past := open(t, server.URL(database))
	first, second := mint(t, one), mint(t, past)
	heard, heardPast := told(t, other), told(t, past)
	await(t, "the first answer", func() bool { return other.Hears() && past.Hears() })
	for _, c := range []struct {
		what   string
		change func()
		want   []token.Digest
	}{
		{"revoked through the pooler", func() { revoke(t, one, token.Selection{ID: first.ID}) }, []token.Digest{first.Digest}},
		{"disabled through it", func() { change(t, one, true) }, []token.Digest{second.Digest}},
		{"enabled past it", func() { change(t, past, false) }, []token.Digest{second.Digest}},
	} {
		c.change()
		wantTold(t, c.what, heard, c.want...)
		wantTold(t, c.what, heardPast, c.want...)
	}
	begun := time.Now()
	for range 10 {
		r := mint(t, one)
		revoke(t, one, token.Selection{ID: r.ID})
		wantTold(t, "one after the other", heard, r.Digest)
	}
	if took := time.Since(begun); took > 5*time.Second { // a second each without having been told
		t.Errorf("10 changes were heard of in %s", took)
	}
}

func TestPoolerThatIsKilledAndComesBackIsUsedAgain(t *testing.T) {
	pooler, database := newPooler(t, server), newName(t, "current")
	s := openPooled(t, pooler, server, database)
	heard := told(t, s)
	r := mint(t, s)
	for range 3 {
		check(s.Ping(t.Context()))
		var changes sync.WaitGroup // so that there is more than one connection for them
		for range 5 {
			changes.Go(func() { mint(t, s) })
		}
		changes.Wait()
		check(pooler.Kill())
		if _, err := s.Lookup(t.Context(), r.Digest); err == nil {
			t.Error("a token is found without the pooler")
		}
		check(pooler.Serve())
		if _, err := s.Lookup(t.Context(), r.Digest); err != nil { // at once
			t.Error(err)
		}
		mint(t, s)
	}
	revoke(t, s, token.Selection{ID: r.ID})
	wantTold(t, "afterwards", heard, r.Digest)
}

// TestAPoolerThatHangsKeepsNothingFromBeingHeard, not even where the connection past it has to
// be made anew; nor does one that is gone.
func TestAPoolerThatHangsKeepsNothingFromBeingHeard(t *testing.T) {
	t.Parallel()
	for what, fail := range map[string]func(*servers.PgBouncer) error{"hangs": (*servers.PgBouncer).Pause, "is gone": (*servers.PgBouncer).Kill} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			database := newName(t, "current")
			pooler, err := servers.StartPgBouncer(server)
			check(err)
			t.Cleanup(func() { check(errors.Join(pooler.Kill(), pooler.Stop())) })
			s, past := openPooled(t, pooler, server, database), open(t, server.URL(database))
			_, err = past.CacheKeys(t.Context()) // makes them
			check(err)
			var heard, newest atomic.Int64
			inBackground(t, func(ctx context.Context) {
				s.Watch(ctx, func(_ context.Context, all ...token.Digest) error { heard.Add(int64(len(all))); return nil },
					func(_ context.Context, keys []postgres.CacheKey) { newest.Store(int64(keys[0].Number)) })
			})
			await(t, "the first answer", s.Hears)
			check(fail(pooler))
			for i := range int64(3) {
				revoke(t, past, token.Selection{ID: mint(t, past).ID})
				rotate(t, past)
				await(t, "what was changed", func() bool { return heard.Load() == i+1 && newest.Load() == i+2 })
				run(t.Context(), server.URL(database), `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
					WHERE datname = '`+database+`' AND pid <> pg_backend_pid()`)
				for until := time.Now().Add(postgres.Deaf + time.Second); time.Now().Before(until); time.Sleep(10 * time.Millisecond) {
					if !s.Hears() {
						t.Fatal("it hears of nothing")
					}
				}
			}
		})
	}
}

// TestServerBehindThePoolerEndsConnections, which costs no login.
func TestServerBehindThePoolerEndsConnections(t *testing.T) {
	pooler, database := newPooler(t, server), newName(t, "current")
	endConnections(t, openPooled(t, pooler, server, database), server.URL(database))
}

// TestNothingIsLeftInThePoolersSessions, which others get.
func TestNothingIsLeftInThePoolersSessions(t *testing.T) {
	database := newName(t, "current")
	pooler, err := servers.StartPgBouncer(server, "default_pool_size = 1")
	check(err)
	t.Cleanup(func() { check(pooler.Stop()) })
	s := openPooled(t, pooler, server, database)
	r := mint(t, s)
	for range 10 { // and often enough for a statement to get a name
		_, err := s.Lookup(t.Context(), r.Digest)
		check(err)
	}
	revoke(t, s, token.Selection{Owner: "alice"})
	conn := connect(t.Context(), pooler.URL(database)+"&default_query_exec_mode=simple_protocol")
	defer func() { check(conn.Close(context.Background())) }()
	for what, sql := range map[string]string{
		"settings": `SELECT coalesce(string_agg(name || '=' || setting, ' '), '') FROM pg_settings WHERE source = 'session'
			AND name NOT IN ('application_name', 'client_encoding', 'DateStyle', 'TimeZone', 'standard_conforming_strings')`, // which the pooler sets itself
		"statements": `SELECT coalesce(string_agg(name, ' '), '') FROM pg_prepared_statements`,
		"locks":      `SELECT coalesce(string_agg(objid::text, ' '), '') FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()`,
		"channels":   `SELECT coalesce(string_agg(c, ' '), '') FROM pg_listening_channels() AS c`,
	} {
		var left string
		check(conn.QueryRow(t.Context(), sql).Scan(&left))
		if left != "" {
			t.Errorf("%s are left: %s", what, left)
		}
	}
}

// TestChangeThroughAPoolerIsOnDiskAndEnds, though its session knows nothing of that.
func TestChangeThroughAPoolerIsOnDiskAndEnds(t *testing.T) {
	database := newName(t, "current")
	run(t.Context(), server.URL("postgres"), `ALTER DATABASE `+database+` SET synchronous_commit = off`)
	s := openPooled(t, newPooler(t, server), server, database)
	for name, want := range map[string]string{
		"synchronous_commit": "on", "statement_timeout": "5s", "idle_in_transaction_session_timeout": "1s",
	} {
		if got, err := s.Setting(t.Context(), name); err != nil || got != want {
			t.Errorf("%s: got %q, %v, want %s", name, got, err, want)
		}
	}
}

// TestChangeThatNobodyWaitsForIsCanceledThroughThePooler, and holds no lock then.
func TestChangeThatNobodyWaitsForIsCanceledThroughThePooler(t *testing.T) {
	pooler, database := newPooler(t, server), newName(t, "current")
	s := openPooled(t, pooler, server, database)
	holder := connect(t.Context(), server.URL(database))
	defer func() { check(holder.Close(context.Background())) }()
	_, err := holder.Exec(t.Context(), `SELECT pg_advisory_lock(`+trailLock+`)`)
	check(err)
	waiting := func() (n int) {
		check(holder.QueryRow(t.Context(), `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'advisory'`).Scan(&n))
		return n
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- s.Mint(ctx, newRecord(), token.Quota{}, token.Event{At: created}) }()
	await(t, "the change to wait", func() bool { return waiting() > 0 })
	cancel()
	if err := <-ended; err == nil {
		t.Error("a change is made that was canceled")
	}
	for begun := time.Now(); waiting() > 0; time.Sleep(10 * time.Millisecond) {
		if time.Since(begun) > 3*time.Second { // its statement_timeout would end it after 5
			t.Fatal("it still waits")
		}
	}
}

// TestAPoolerIsNotTakenForTheServer, not even one that lets pass for nothing what tokend asks
// of its session, and has room for one client alone: whoever listens there hears nothing.
func TestAPoolerIsNotTakenForTheServer(t *testing.T) {
	lenient := func(mode string) *servers.PgBouncer {
		pooler, err := servers.StartPgBouncer(server, "pool_mode = "+mode,
			"ignore_startup_parameters = statement_timeout,lock_timeout,idle_in_transaction_session_timeout,tcp_keepalives_idle,tcp_keepalives_interval,tcp_keepalives_count,tcp_user_timeout")
		check(err)
		t.Cleanup(func() { check(pooler.Stop()) })
		return pooler
	}
	for what, pooler := range map[string]*servers.PgBouncer{
		"as it comes": newPooler(t, server), "lenient": lenient("transaction"), "in session mode": lenient("session"),
	} {
		url := pooler.URL(newName(t, "template0"))
		for where, direct := range map[string]string{"without direct_url": "", "that direct_url names too": url} {
			_, err := postgres.Open(t.Context(), postgres.Config{URL: url, Direct: direct})
			wantSentence(t, what+" "+where, err, "it is a pooler that answers, where the database itself has to; let [store] url lead to the pooler, and direct_url past it, to the database")
		}
		conn := connect(t.Context(), url+"&default_query_exec_mode=simple_protocol")
		var tables int
		check(conn.QueryRow(t.Context(), `SELECT count(*) FROM pg_tables WHERE schemaname = 'public'`).Scan(&tables))
		check(conn.Close(t.Context()))
		if tables > 0 {
			t.Errorf("%s: %d tables were made", what, tables)
		}
	}
}

// TestAPoolerInTheServersPlaceIsNotListenedTo: here it is the second address of the URL.
func TestAPoolerInTheServersPlaceIsNotListenedTo(t *testing.T) {
	pooler, err := servers.StartPgBouncer(server, "ignore_startup_parameters = statement_timeout,lock_timeout,idle_in_transaction_session_timeout,tcp_keepalives_idle,tcp_keepalives_interval,tcp_keepalives_count,tcp_user_timeout")
	check(err)
	t.Cleanup(func() { check(pooler.Stop()) })
	database, proxy := newName(t, "current"), newProxy(t)
	second, err := url.Parse(pooler.URL(database))
	check(err)
	var log lines
	s, err := postgres.Open(t.Context(), postgres.Config{
		URL: fmt.Sprintf("postgres:///%s?user=tokend&host=%s,%s&port=%s,%s", database, "127.0.0.1", second.Query().Get("host"),
			strings.TrimPrefix(proxy.Addr(), "127.0.0.1:"), second.Query().Get("port")),
		Logger: slog.New(slog.NewTextHandler(&log, nil)),
	})
	check(err)
	t.Cleanup(func() { check(s.Close()) })
	told(t, s)
	await(t, "the first answer", s.Hears)
	proxy.Cut()
	await(t, "its name", func() bool { return log.count("it is a pooler that answers") > 0 })
	await(t, "what was heard to be too old", func() bool { return !s.Hears() })
}

// TestAPasswordThatAPoolerRefuses is told as that: it has one code for all.
func TestAPasswordThatAPoolerRefuses(t *testing.T) {
	dir := t.TempDir()
	users, rules := filepath.Join(dir, "users"), filepath.Join(dir, "rules")
	check(os.Chmod(filepath.Dir(dir), 0o711)) //nolint:gosec // the pooler is another user
	check(os.Chmod(dir, 0o711))               //nolint:gosec // so it is
	for file, text := range map[string]string{users: `"tokend" "another"`, rules: "local secret all scram-sha-256\nlocal all all trust"} {
		check(os.WriteFile(file, []byte(text+"\n"), 0o644)) //nolint:gosec // so it is
	}
	pooler, err := servers.StartPgBouncer(server, "auth_type = hba", "auth_hba_file = "+rules, "auth_file = "+users)
	check(err)
	t.Cleanup(func() { check(pooler.Stop()) })
	_, err = postgres.Open(t.Context(), postgres.Config{
		URL: pooler.URL("secret"), Direct: server.URL("postgres"), Password: func() (string, error) { return "hunter2", nil },
	})
	wantSentence(t, "a pooler that refuses", err, "takes no such password; name or mend [store] password_file, the user's password (ALTER ROLE), or the pooler's list of users")
}
