package postgres_test

import (
	"context"
	"errors"
	"log/slog"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tokend/tokend/e2e/servers"
	"tokend/tokend/store/postgres"
	"tokend/tokend/token"
)

// TestServerThatTakesOverIsListenedTo: it lacks the last changes, so that the numbers of
// later ones were given before.
func TestServerThatTakesOverIsListenedTo(t *testing.T) {
	t.Parallel()
	long(t)
	primary, err := servers.StartPostgreSQL()
	check(err)
	t.Cleanup(func() { check(primary.Stop()) })
	both := func(standby *servers.PostgreSQL) string {
		return "postgres:///postgres?" + url.Values{
			"host": {primary.Dir() + "," + standby.Dir()}, "port": {"5432,5432"}, "user": {"tokend"}, "target_session_attrs": {"read-write"},
		}.Encode()
	}
	first := open(t, primary.URL("postgres"))
	r := mint(t, first)
	check(first.Close())
	standby, err := primary.Standby()
	check(err)
	t.Cleanup(func() { check(standby.Stop()) })
	check(standby.Kill())

	one, other := open(t, both(standby)), open(t, both(standby))
	heard := told(t, other)
	for range 40 { // more than a sequence gives out ahead of its log
		mint(t, one)
	}
	last := mint(t, one)
	revoke(t, one, token.Selection{ID: last.ID})
	wantTold(t, "before", heard, last.Digest)

	check(primary.Kill())
	check(standby.Serve())
	check(standby.Promote())
	await(t, "the other server", func() bool { return one.Ping(t.Context()) == nil })
	await(t, "the revocation", func() bool { return revokeNow(t, one, r) == nil })
	wantTold(t, "afterwards", heard, r.Digest)
}

// revokeNow is a change that is looked at again when another server takes over.
func revokeNow(t *testing.T, s *postgres.Store, r token.Record) error {
	t.Helper()
	now := token.Time(s.Now())
	_, err := s.Revoke(t.Context(), token.Selection{ID: r.ID}, now, token.Event{At: now, Action: token.TokenRevoked})
	return err
}

// pair is a primary with a standby that follows it.
func pair(t *testing.T) (primary, standby *servers.PostgreSQL) {
	t.Helper()
	primary, err := servers.StartPostgreSQL("fsync=off")
	check(err)
	t.Cleanup(func() { check(primary.Stop()) })
	standby, err = primary.Standby("fsync=off")
	check(err)
	t.Cleanup(func() { check(standby.Stop()) })
	return primary, standby
}

// anyOf leads to one of the servers, in this order.
func anyOf(parameters string, all ...*servers.PostgreSQL) string {
	var dirs, ports []string
	for _, p := range all {
		dirs, ports = append(dirs, p.Dir()), append(ports, "5432")
	}
	return "postgres:///postgres?user=tokend&host=" + strings.Join(dirs, ",") + "&port=" + strings.Join(ports, ",") + parameters
}

// awaitCopy waits until the standby knows the token.
func awaitCopy(t *testing.T, standby *servers.PostgreSQL, r token.Record) {
	t.Helper()
	conn := connect(t.Context(), standby.URL("postgres"))
	defer func() { check(conn.Close(context.Background())) }()
	await(t, "the standby", func() bool {
		var n int
		return conn.QueryRow(t.Context(), `SELECT count(*) FROM tokens WHERE id = $1`, r.ID).Scan(&n) == nil && n == 1
	})
}

// TestDemotedPrimaryIsLeft: it is the first that the URL names, it answers, and it doesn't
// know yet that the token is revoked.
func TestDemotedPrimaryIsLeft(t *testing.T) {
	t.Parallel()
	long(t)
	primary, standby := pair(t)
	s := open(t, anyOf("", primary, standby))
	heard := told(t, s)
	r := mint(t, s)
	check(s.Ping(t.Context()))
	awaitCopy(t, standby, r)

	check(primary.Kill())
	check(standby.Promote())
	check(primary.Demote())
	check(revokeNow(t, open(t, standby.URL("postgres")), r))
	for range 100 {
		if got, err := s.Lookup(t.Context(), r.Digest); err == nil && got.Revoked.IsZero() {
			t.Fatal("a revoked token is good")
		}
	}
	wantTold(t, "by the new primary", heard, r.Digest)
	await(t, "the new primary", func() bool {
		got, err := s.Lookup(t.Context(), r.Digest)
		return err == nil && !got.Revoked.IsZero()
	})
	mint(t, s)
}

// TestPrimaryThatWasCutOffIsLeft: it still runs, and the connections to it are whole.
func TestPrimaryThatWasCutOffIsLeft(t *testing.T) {
	t.Parallel()
	long(t)
	primary, standby := pair(t)
	s := open(t, anyOf("&target_session_attrs=read-write", primary, standby))
	heard := told(t, s)
	await(t, "the first answer", s.Hears)
	r := mint(t, s)
	check(s.Ping(t.Context()))
	awaitCopy(t, standby, r)

	check(standby.Promote())
	check(revokeNow(t, open(t, standby.URL("postgres")), r))
	check(primary.Exec(t.Context(), `ALTER SYSTEM SET default_transaction_read_only = on`))
	check(primary.Exec(t.Context(), `SELECT pg_reload_conf()`))
	check(primary.Exec(t.Context(), `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND `+listens))
	wantTold(t, "by the new primary", heard, r.Digest)
	for range 20 {
		if got, err := s.Lookup(t.Context(), r.Digest); err != nil || got.Revoked.IsZero() {
			t.Fatalf("revoked %v, %v", got.Revoked, err)
		}
	}
	mint(t, s)
}

// TestPoolerThatLeadsToAStandbySaysNoYes: connections to the pooler don't break when what
// is behind it does.
func TestPoolerThatLeadsToAStandbySaysNoYes(t *testing.T) {
	t.Parallel()
	long(t)
	primary, standby := pair(t)
	pooler := newPooler(t, primary)
	var log lines
	s, err := postgres.Open(t.Context(), postgres.Config{
		URL: pooler.URL("postgres"), Direct: anyOf("", primary, standby), Logger: slog.New(slog.NewTextHandler(&log, nil)),
	})
	check(err)
	t.Cleanup(func() { check(s.Close()) })
	heard := told(t, s)
	await(t, "the first answer", s.Hears)
	r := mint(t, s)
	awaitCopy(t, standby, r)
	check(primary.Kill())
	check(standby.Promote())
	check(primary.Demote())
	check(revokeNow(t, open(t, standby.URL("postgres")), r))
	await(t, "the refusal of the standby", func() bool {
		got, err := s.Lookup(t.Context(), r.Digest)
		if err == nil && got.Revoked.IsZero() {
			t.Fatal("a revoked token is good")
		}
		return err != nil && (strings.Contains(err.Error(), "the server is a standby, which lags behind") ||
			strings.Contains(err.Error(), "lead to different databases")) // whichever is found out first
	})
	if _, err := s.Lookup(t.Context(), token.Mint().Digest()); errors.Is(err, token.ErrNotFound) {
		t.Error("a token is unknown that the primary may know")
	}
	await(t, "the two servers to be told apart", func() bool { return log.count("let both name the same database") > 0 })
	wantTold(t, "past the pooler", heard, r.Digest)
	time.Sleep(2 * time.Second) // it is looked at again
	if n := log.count("let both name the same database"); n != 1 {
		t.Errorf("the log says it %d times", n)
	}
	if err := s.WatchErr(); err != nil {
		t.Errorf("changes are heard of: %v", err)
	}
}

// TestAfterATakeoverNothingIsProvedByTheServerThatWas, which goes on, with the connections past the pooler
// that it had, and the pooler before it.
func TestAfterATakeoverNothingIsProvedByTheServerThatWas(t *testing.T) {
	t.Parallel()
	long(t)
	primary, standby := pair(t)
	past := newProxyTo(t, primary)
	s, err := postgres.Open(t.Context(), postgres.Config{URL: newPooler(t, primary).URL("postgres"), Direct: urlBy("postgres", past)})
	check(err)
	t.Cleanup(func() { check(s.Close()) })
	heard := told(t, s)
	await(t, "the first answer", s.Hears)
	r := mint(t, s)
	awaitCopy(t, standby, r)
	await(t, "connections past the pooler", func() bool { return s.PastIdle() == 3 })
	past.Lead(filepath.Join(standby.Dir(), ".s.PGSQL."+standby.Port()))
	check(standby.Promote())
	check(revokeNow(t, open(t, standby.URL("postgres")), r))
	run(t.Context(), primary.URL("postgres"), `SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND mode = 'ExclusiveLock'`)
	wantTold(t, "by the one that took over", heard, r.Digest)
	await(t, "the refusal of the one that was", func() bool { return errors.Is(lookUp(s, r), postgres.ErrElsewhere) })
}

// TestALookUpOnAStandbyIsNone: the pooler was turned to one, which doesn't know yet what was
// revoked, and nobody has found out.
func TestALookUpOnAStandbyIsNone(t *testing.T) {
	t.Parallel()
	primary, standby := pair(t)
	pooler := newPooler(t, primary)
	s := openPooled(t, pooler, primary, "postgres")
	r := mint(t, s)
	awaitCopy(t, standby, r)
	check(standby.Exec(t.Context(), `SELECT pg_wal_replay_pause()`))
	check(revokeNow(t, s, r))
	if got, err := s.Lookup(t.Context(), r.Digest); err != nil || got.Revoked.IsZero() {
		t.Fatalf("on the primary: revoked %v, %v", got.Revoked, err)
	}
	check(pooler.Lead("postgres", standby, "postgres"))
	for _, digest := range []token.Digest{r.Digest, token.Mint().Digest()} { // one that it knows as good, and none
		for range 10 {
			_, err := s.Lookup(t.Context(), digest)
			wantSentence(t, "on the standby", err, "the server is a standby, which lags behind")
		}
	}
}
